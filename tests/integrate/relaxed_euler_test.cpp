#include "richflow/integrate/relaxed_euler.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

PiController<> relaxed_control(double relative, double absolute) {
  return {.tolerance = {.relative = relative, .absolute = absolute}};
}

/// Razin and Cohen (2020): M_01 = M_10 = 1 and M_11 = 0 are seen of `U U^T`, 2 x 2.
Dataset<> runaway_data() {
  return {MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 1}}), Vector<double>{{1, 0}}};
}

}  // namespace

TEST_CASE("relaxed Euler steps leave a saddle when the flow does") {
  // Sixteen e-folds to grow.
  RandomStream random(2641);
  const SymmetricFactorization<double> model(3, 3);
  const Vector<double> u = random_vector(random, 3);
  const Dataset<> data(MatrixMeasurements<double>::entries(3, 3, {{0, 0}, {0, 1}, {1, 2}, {2, 2}}),
                       Vector<double>{{u[0] * u[0], u[0] * u[1], u[1] * u[2], u[2] * u[2]}});
  const Vector<double> w0 = model.pack(std::exp(-16.0) * random_matrix(random, 3, 3));
  const GradientFlow<SymmetricFactorization<double>> flow(model, data);
  const auto follow = [&](const auto& stepper, double relative) {
    return integrate(flow, w0, TimeSpan<>{0.0, std::numeric_limits<double>::infinity()}, stepper,
                     relaxed_control(relative, relative * 1e-9), {.events = {loss_below(1e-10).at_step_end()}})
        .require_ok();
  };
  const auto expected = follow(DormandPrince{}, 1e-9);
  const auto run = follow(RelaxedEuler{}, 1e-4);
  CAPTURE(run.step, run.t, expected.t);
  // The rates of growth are good to the tolerance, the loss at the end to a step.
  CHECK((model.product(run.w) - model.product(expected.w)).norm() <= 1e-3 * u.squaredNorm());
}

TEST_CASE("a power law is followed to a loss of 1e-24, with as many steps for each decade") {
  const Dataset<> data = runaway_data();
  const SymmetricFactorization<double> model(2, 2);
  const GradientFlow<SymmetricFactorization<double>> flow(model, data);
  Matrix<double> turned(2, 2);
  turned << 0.1, 0.05, -0.03, 0.2;
  for (const Matrix<double>& start : {Matrix<double>(0.1 * Matrix<double>::Identity(2, 2)), turned}) {
    std::vector<Index> steps;
    for (const double loss : {1e-8, 1e-16, 1e-24}) {
      const auto run =
          integrate(flow, model.pack(start), TimeSpan<>{0.0, std::numeric_limits<double>::infinity()}, RelaxedEuler{},
                    relaxed_control(1e-3, 1e-6), {.events = {loss_below(loss).at_step_end()}, .max_steps = 1500});
      CAPTURE(loss, run.message);
      REQUIRE(run.status == Status::event);
      const double unseen = model.product(run.w)(0, 0);
      // On M_00 M_11 = M_01^2 = 1 the loss is M_00^-2, and M_00' = 8 M_00^-2; at this tolerance times are good to
      // 1e-3.
      CHECK_THAT(unseen * std::sqrt(flow.loss(run.w)), near(1, 1e-7, 0));
      CHECK_THAT(24 * run.t, near(unseen * unseen * unseen, 2e-3, 0));
      steps.push_back(run.step);
    }
    CHECK(std::abs((steps[2] - steps[1]) - (steps[1] - steps[0])) <= 5);
  }
}

TEST_CASE("a step is refused where it would grow by a pair of weights that have no curvature alone") {
  // At the saddle of (u v - y)^2, `I / h + C` is [1 / h, -2 y; -2 y, 1 / h]; the longer h, the less is on its diagonal.
  const double y = 3;
  const Dataset<> data(MatrixMeasurements<double>::entries(1, 1, {{0, 0}}), Vector<double>{{y}});
  const MatrixFactorization<double> model(1, 1, 1);
  const GradientFlow<MatrixFactorization<double>> flow(model, data);
  detail::CurvedTangent<double> tangent(flow.make_tangent());
  Vector<double> change(2);
  for (const double distance : {0.0, 1e-12}) {
    tangent.move_to(Vector<double>{{distance, -distance}});
    for (const double h : {1.0, 1e8, 1e14, 1e15, 1e300}) CHECK_FALSE(tangent.implicit_step(h, change));
    REQUIRE(tangent.implicit_step(1 / (4 * y), change));
    // (I / h + C) change = -grad, and -grad = 2 y (v, u) at first order.
    CHECK_THAT(change[0], near(-distance * 2 * y / (4 * y + 2 * y), 1e-9, 0));
  }
}

TEST_CASE("relaxed Euler steps refuse weight decay and losses of another second derivative") {
  RandomStream random(2642);
  const SquaredDiagonalNet<double> net(4);
  const Dataset data(random_matrix(random, 3, 4), random_vector(random, 3));
  const GradientFlow flow(net, data);
  const Vector<double> w0 = random_positive_vector(random, 8, 0.5, 1.0);
  const auto run = [&](const auto& problem) {
    return integrate(problem, w0, TimeSpan{0.0, 0.1}, RelaxedEuler{}, relaxed_control(1e-3, 0));
  };
  CHECK_THROWS_MATCHES(run(WithWeightDecay(flow, 0.1)), ArgumentError, message_contains("must not have weight decay"));
  const Dataset signs(data.X(), Vector<double>{{1, -1, 1}});
  CHECK_THROWS_MATCHES(run(GradientFlow(net, signs, LogisticLoss<double>{})), ArgumentError,
                       message_contains("constant second derivative"));
}
