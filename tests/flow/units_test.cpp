#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/units.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// f(w, x) = <w, x>.
struct LinearNet {
  using Scalar = double;
  Index d;
  [[nodiscard]] Index num_parameters() const { return d; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

/// `event` exactly where the residual of the data as given is below what was asked, anything else not ok.
template <class Solution>
void check_status(const Solution& solution, double loss, double threshold) {
  INFO(solution.message);
  CHECK(std::isfinite(loss));
  // Rounding of residuals of size 1e-4 of the labels between two ways to add up.
  if (solution.ok()) CHECK(loss <= threshold * (1 + 1e-9));
  if (loss > threshold * (1 + 1e-9)) CHECK_FALSE(solution.ok());
  CHECK((solution.status == Status::event || !solution.ok()));
}

}  // namespace

TEST_CASE("flows on data in any units: ok is said of the residual in the data as given") {
  RandomStream random(211);
  for (int exponent = 0; exponent <= 18; exponent += 6)
    for (const bool rows_too : {false, true}) {
      CAPTURE(exponent, rows_too);
      const double ratio = std::pow(10.0, exponent);
      const Vector<double> columns = mixed_units(random, 6, ratio);
      const Vector<double> rows = mixed_units(random, 3, rows_too ? ratio : 1.0);
      const Dataset data(rows.asDiagonal() * random_matrix(random, 3, 6) * columns.asDiagonal(),
                         rows.cwiseProduct(random_vector(random, 3)));
      const double threshold = 1e-8 * data.y().squaredNorm();
      const GradientFlow flow(LinearNet{6}, data);
      IntegrateOptions<double> options;
      options.events = {loss_below(threshold)};
      options.max_steps = 3000;
      const TimeSpan<> forever{0, infinity};
      const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-12}};
      const auto loss = [&](const Vector<double>& w) {
        return std::pow(relative_residual(data.X(), w, data.y()), 2) * data.y().squaredNorm();
      };
      const auto exponential =
          integrate(flow, Vector<double>::Zero(6), forever, ExponentialTangent{}, controller, options);
      check_status(exponential, loss(exponential.w), threshold);
      const auto implicit = integrate(flow, Vector<double>::Zero(6), forever, Ros34Pw2{}, controller, options);
      check_status(implicit, loss(implicit.w), threshold);
      // The tangent model, from an initial function of its own.
      const Vector<double> start = random_vector(random, 6).cwiseQuotient(columns);
      const GradientFlow tangent(Linearized<LinearNet>(LinearNet{6}, start), data);
      const auto linearized = integrate(tangent, start, forever, ExponentialTangent{}, controller, options);
      check_status(linearized, loss(linearized.w), threshold);
      if (exponent == 0) {
        CHECK(exponential.ok());
        CHECK(implicit.ok());
        CHECK(linearized.ok());
      }
    }
}

TEST_CASE("the flow of the two-layer net on features in any units: ok is said of the residual in the data as given") {
  RandomStream random(213);
  for (const int exponent : {0, 2, 4, 9, 18}) {
    CAPTURE(exponent);
    const Index d = 6;
    const Vector<double> columns = mixed_units(random, d, std::pow(10.0, exponent));
    const Dataset data(random_matrix(random, 3, d) * columns.asDiagonal(), random_vector(random, 3));
    const TwoLayerDiagonalNet<double> net(d);
    const Vector<double> u = random_positive_vector(random, d, 0.5, 1);
    const Vector<double> v = random_positive_vector(random, d, 0.5, 1);
    const Scale<> scale = Scale<>::from_value(0.3);
    const double threshold = 1e-14 * data.y().squaredNorm();
    const GradientFlow flow(net, data);
    IntegrateOptions<double> options;
    options.events = {loss_below(threshold)};
    options.max_steps = 3000;
    const auto solution = integrate(flow, net.initial_parameters(scale, u, v), TimeSpan{0, infinity}, Ros34Pw2{},
                                    PiController<>{.tolerance = {.relative = 1e-8, .absolute = 1e-12}}, options);
    Vector<double> beta(d);
    net.beta(solution.w, beta);
    // The loss of the net and this one add up in another order.
    const double loss = std::pow(relative_residual(data.X(), beta, data.y()), 2) * data.y().squaredNorm();
    check_status(solution, loss, 1.01 * threshold);
    if (exponent == 0) CHECK(solution.ok());
    if (solution.ok()) {
      // Where it says so, it is where its regularizer says; each entry by what it contributes to f. The layers' balance
      // is kept to the tolerance of the steps.
      MirrorPath<Hypentropy<>> path(data, Hypentropy<>::two_layer(u, v, scale));
      const Vector<double> minimizer = path.solve(scale).require_ok().beta;
      CHECK((beta - minimizer).cwiseProduct(columns).norm() <= 1e-4 * minimizer.cwiseProduct(columns).norm());
    }
  }
}

TEST_CASE("the lifted flow on dense measurements in any units: ok is said of the residual in the data as given") {
  RandomStream random(212);
  const FactorShape shape = FactorShape::general(2, 3);
  const MatrixFactorization<double> model(2, 3, 5);
  for (int exponent = 0; exponent <= 18; exponent += 6)
    for (const bool rows_too : {false, true}) {
      CAPTURE(exponent, rows_too);
      const double ratio = std::pow(10.0, exponent);
      const Vector<double> columns = mixed_units(random, 6, rows_too ? 1.0 : ratio);
      const Vector<double> rows = mixed_units(random, 3, rows_too ? ratio : 1.0);
      const Matrix<double> X = rows.asDiagonal() * random_matrix(random, 3, 6) * columns.asDiagonal();
      const Dataset data(MatrixMeasurements<double>::dense(2, 3, X), rows.cwiseProduct(random_vector(random, 3)));
      const double threshold = 1e-8 * data.y().squaredNorm();
      const LiftedFlow flow(model, data);
      const Vector<double> w0 = model.initial_parameters(random, Scale<>::from_value(0.5));
      IntegrateOptions<double> options;
      options.events = {loss_below(threshold).at_step_end()};
      options.max_steps = 3000;
      PiController<> controller;
      controller.tolerance = {1e-4, 0};
      controller.first_step = flow.first_step(w0);
      const auto solution = integrate(flow, w0, TimeSpan{0, infinity}, Rodas4{}, controller, options);
      // M = U V^T by hand.
      const Eigen::Map<const Matrix<double>> T(solution.w.data(), 5, 5);
      const Matrix<double> M = T.leftCols(shape.rows()).transpose() * T.rightCols(shape.cols());
      const Vector<double> m = Eigen::Map<const Vector<double>>(M.data(), 6);
      const double loss = std::pow(relative_residual(X, m, data.y()), 2) * data.y().squaredNorm();
      check_status(solution, loss, threshold);
      if (exponent == 0) CHECK(solution.ok());
    }
}
