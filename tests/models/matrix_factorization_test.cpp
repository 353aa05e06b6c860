#include "richflow/models/matrix_factorization.hpp"

#include <Eigen/Cholesky>
#include <cmath>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/row_sums.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Completion = MatrixFactorization<double>;

template <class M>
void check_model(const M& model, Kind kind, Index samples, std::size_t num_checks) {
  RandomStream random(21);
  const Dataset<> data = random_measured_data(random, kind, model.shape(), samples);
  const Vector<double> w = random_vector(random, model.num_parameters());
  const auto report = testing::model_battery(model, w, data, random_vector(random, model.num_parameters()),
                                             random_vector(random, samples), 1e-4);
  CAPTURE(model.shape().rows(), model.shape().cols(), model.width(), report);
  CHECK(report.ok());
  // Beside those of every model with jvp one each for a linear predictor and an invariant.
  CHECK(report.checks.size() == num_checks);

  // <M, X_n> as written in the paper.
  const Matrix<double> F = model.stack(w);
  const Matrix<double> product = F.topRows(model.shape().rows()) * F.bottomRows(model.shape().cols()).transpose();
  CHECK((model.product(w) - product).norm() <= 16 * eps * static_cast<double>(model.width()) * F.squaredNorm());
  Vector<double> out(samples);
  model.predict(w, data.measurements(), out);
  for (Index n = 0; n < samples; ++n) {
    const Matrix<double> X_n = measurement_matrix(data.measurements(), n);
    // Sums of at most P products.
    CHECK(std::abs(out[n] - product.cwiseProduct(X_n).sum()) <=
          4 * eps * static_cast<double>(model.num_parameters()) * F.squaredNorm() * X_n.norm());
  }
  CHECK((model.pack(F) - w).norm() == 0.0);
}

}  // namespace

TEST_CASE("factorizations pass the model battery and have the predictor of the definition") {
  // 300 rows cross the blocks in which dense measurements are summed.
  for (const auto& [rows, cols, width] :
       {std::tuple<Index, Index, Index>{1, 1, 1}, {3, 4, 2}, {6, 2, 9}, {300, 2, 2}}) {
    const MatrixFactorization<double> model(rows, cols, width);
    for (const Kind kind : {Kind::dense, Kind::entries})
      check_model(model, kind, rows * cols > 20 ? 20 : rows * cols, 26);
    check_model(model, Kind::diagonal, 3, 26);
  }
  for (const auto& [size, width] : {std::pair<Index, Index>{1, 1}, {5, 3}, {4, 11}}) {
    for (const Kind kind : {Kind::dense, Kind::entries, Kind::diagonal})
      check_model(SymmetricFactorization<double>(size, width), kind, size, 25);
  }
}

TEST_CASE("a user's own kind of measurement passes the battery, and the lifted flow takes it") {
  RandomStream random(26);
  const Dataset data(MatrixMeasurements<double>(std::make_unique<RowSums>(3, 4, std::vector<Index>{2, 0, 2}, 0.5)),
                     random_vector(random, 3));
  const MatrixFactorization<double> model(3, 4, 5);
  CHECK(testing::model_battery(model, data, 27, {.step = 1e-4}).ok());
  const Dataset square(MatrixMeasurements<double>(std::make_unique<RowSums>(4, 4, std::vector<Index>{2, 0, 3}, 0.5)),
                       random_vector(random, 3));
  CHECK(testing::model_battery(SymmetricFactorization<double>(4, 3), square, 28, {.step = 1e-4}).ok());

  const LiftedFlow flow(model, data);
  const Vector<double> w = random_vector(random, model.num_parameters());
  Vector<double> lifted(w.size()), plain(w.size());
  flow(0.0, w, lifted);
  GradientFlow(model, data)(0.0, w, plain);
  CHECK((lifted - plain).norm() <= 100 * eps * plain.norm());
  auto solver = flow.make_linear_solver();
  flow.linearize(0.0, w, solver);
  CHECK(flow.factorize(10.0 * solver.B.norm(), solver));
}

TEST_CASE("the tangent kernel is that of the measurements, tr(B_n B_m F F^T)") {
  RandomStream random(29);
  const auto check = [&](const auto& model, Kind kind) {
    const auto X = random_measurements(random, kind, model.shape(), 5);
    const Vector<double> w = random_vector(random, model.num_parameters());
    const Matrix<double> F = model.stack(w);
    const Matrix<double> K = tangent_kernel(model, w, X);
    const Matrix<double> one = Matrix<double>::Identity(F.rows(), F.rows());
    CHECK((K - X.kernel(model.shape(), one, F * F.transpose())).norm() <= 64 * eps * K.norm());
    CHECK((tangent_kernel(model, w, X, X) - K).norm() <= 64 * eps * K.norm());
    CHECK(kernel_distance(model, w, Vector<double>(2.0 * w), X) <= 8 * eps);
  };
  for (const Kind kind : {Kind::dense, Kind::entries, Kind::diagonal}) {
    check(MatrixFactorization<double>(4, 3, 2), kind);
    check(SymmetricFactorization<double>(4, 3), kind);
  }
}

TEST_CASE("the kernel predictor of a completion fits the observed entries, at the least change of the factors") {
  RandomStream random(30);
  const Completion model(4, 3, 6);
  const Dataset<> data = random_measured_data(random, Kind::entries, model.shape(), 7);
  const Vector<double> w0 = random_vector(random, model.num_parameters());
  const KernelPredictor predictor(model, w0, data);
  predictor.require_interpolation();
  CHECK((predictor.predict(data.measurements()) - data.y()).norm() <= 1e-12 * data.y().norm());
  // dw = J^T nu, written out: the rows of A V and of A^T U.
  const Matrix<double> F = model.stack(w0);
  const Matrix<double> dF = model.stack(predictor.parameters() - w0);
  Matrix<double> J(7, w0.size());
  for (Index n = 0; n < 7; ++n) {
    Matrix<double> row = Matrix<double>::Zero(7, 6);
    const auto [i, j] = data.measurements().places()[static_cast<std::size_t>(n)];
    row.row(i) += F.row(4 + j);
    row.row(4 + j) += F.row(i);
    J.row(n) = model.pack(row).transpose();
  }
  const Vector<double> start = data.measurements().apply(model.product(w0));
  const Vector<double> least = J.transpose() * (J * J.transpose()).ldlt().solve(data.y() - start);
  CHECK((model.pack(dF) - least).norm() <= 1e-11 * least.norm());
}

TEMPLATE_TEST_CASE("factorizations work in other precisions", "", float, long double) {
  using S = TestType;
  RandomStream random(25);
  const MatrixFactorization<S> model(3, 2, 4);
  const Dataset<S> data(MatrixMeasurements<S>::dense(3, 2, random_matrix(random, 3, 6).cast<S>()),
                        random_vector(random, 3).cast<S>());
  // A step near the cube root of the precision balances rounding and truncation.
  const S h = std::is_same_v<S, float> ? S(1e-2) : S(1e-5);
  const auto report = testing::model_battery(model, Vector<S>(random_vector(random, 20).cast<S>()), data,
                                             Vector<S>(random_vector(random, 20).cast<S>()),
                                             Vector<S>(random_vector(random, 3).cast<S>()), h);
  CAPTURE(report);
  CHECK(report.ok());
}

TEST_CASE("U^T U - V^T V drifts under descent by an amount that halves with the step") {
  RandomStream random(22);
  const Completion model(5, 4, 3);
  const Dataset<> data = random_measured_data(random, Kind::entries, model.shape(), 9);
  const Vector<double> w0 = random_vector(random, model.num_parameters());
  const auto drift = [&](Index iterations) {
    InvariantMonitor<Completion> monitor(model, w0);
    GradientDescentOptions<double> options{.step = 0.5 / static_cast<double>(iterations), .iterations = iterations};
    options.observers = {monitor};
    const auto solution = gradient_descent(model, data, w0, options);
    REQUIRE(solution.ok());
    return monitor.largest();
  };
  const double coarse = drift(2000);
  CHECK(coarse > 1e-6);                                  // well above rounding
  CHECK_THAT(coarse / drift(4000), near(2.0, 0.05, 0));  // the next order is of relative size one step
}

TEST_CASE("the width reduction is exact: 3000 steps of descent at width 2000 and at width 20") {
  RandomStream random(23);
  const Completion wide(10, 10, 2000);
  const Dataset<> data = random_measured_data(random, Kind::entries, wide.shape(), 60);
  const Vector<double> w = wide.initial_parameters(random, Scale<>::from_value(0.01));
  const Completion narrow = wide.reduced();
  CHECK(narrow.width() == 20);
  const Vector<double> reduced = wide.reduce(w);
  const Matrix<double> F = wide.stack(w);
  const Matrix<double> L = narrow.stack(reduced);
  CHECK((F * F.transpose() - L * L.transpose()).norm() <= 64 * eps * F.squaredNorm());
  CHECK(L.isLowerTriangular(0.0));
  CHECK((L.diagonal().array() > 0.0).all());

  const GradientDescentOptions<double> options{.step = 1e-3, .iterations = 3000};
  const auto from_wide = gradient_descent(wide, data, w, options);
  const auto from_narrow = gradient_descent(narrow, data, reduced, options);
  const Matrix<double> M = wide.product(from_wide.w);
  CHECK((M - wide.product(w)).norm() > 0.5);  // it has moved
  // Rounding, which descent hardly amplifies.
  CHECK((M - narrow.product(from_narrow.w)).norm() <= 1e-13 * M.norm());
}

TEST_CASE("reduction leaves narrow stacks alone, and takes rank-deficient ones") {
  RandomStream random(24);
  const Matrix<double> narrow = random_matrix(random, 6, 4);
  CHECK(reduce_width<double>(narrow) == narrow);
  const Matrix<double> low_rank = random_matrix(random, 6, 2) * random_matrix(random, 2, 50);
  const Matrix<double> L = reduce_width<double>(low_rank);
  CHECK(L.cols() == 6);
  CHECK((L * L.transpose() - low_rank * low_rank.transpose()).norm() <= 64 * eps * low_rank.squaredNorm());
}

TEST_CASE("random starts: plain ones are normal in the order of w, reduced ones a scaled Wishart factor") {
  const auto scale = Scale<>::from_value(0.1);
  RandomStream a(3), b(3);
  const Completion model(2, 3, 7);
  // The scale comes back from its logarithm with an error of rounding.
  CHECK((model.initial_parameters(a, scale) - 0.1 * normal_vector(b, 35)).norm() <= 1e-16);
  const Matrix<double> F = model.reduced().stack(model.reduced_initial_parameters(a, scale));
  CHECK(F.rows() == 5);
  CHECK(F.cols() == 5);
  CHECK((F - 0.1 * wishart_factor(b, 5, 7)).norm() <= 1e-16);
  const Completion thin(2, 3, 2);
  CHECK(thin.reduced_initial_parameters(a, scale).size() == 10);
  const Completion huge(10, 10, 1'000'000'000);
  CHECK(huge.reduced_initial_parameters(a, scale).size() == 400);
}

TEST_CASE("factorizations refuse bad input by name and value") {
  CHECK_THROWS_MATCHES(MatrixFactorization<double>(3, 3, 0), DimensionError, message_contains("width k > 0, got 0"));
  CHECK_THROWS_AS(MatrixFactorization<double>(0, 3, 1), DimensionError);
  CHECK_THROWS_AS(SymmetricFactorization<double>(0, 1), DimensionError);
  const Completion model(3, 4, 2);
  RandomStream random(1);
  CHECK_THROWS_MATCHES(model.initial_parameters(random, Scale<>::from_log(-800.0)), ArgumentError,
                       message_contains("-800"));
  const Vector<double> w = random_vector(random, 14);
  Vector<double> out(2);
  const auto X = MatrixMeasurements<double>::entries(3, 4, {{0, 1}, {2, 3}});
  CHECK_THROWS_MATCHES(model.predict(w, MatrixMeasurements<double>::entries(4, 3, {{0, 1}, {2, 2}}), out),
                       DimensionError,
                       message_contains("the measurements are of a 4 x 3 matrix where that of the model is 3 x 4"));
  CHECK_THROWS_AS(model.predict(w.head(13), X, out), DimensionError);
  CHECK_THROWS_AS(model.predict(w, X, out.head(1)), DimensionError);
  CHECK_THROWS_AS(model.product(w.head(13)), DimensionError);
  CHECK_THROWS_AS(model.pack(Matrix<double>::Zero(7, 3)), DimensionError);
  CHECK_THROWS_AS(model.vjp(w, X, Vector<double>::Zero(3), out), DimensionError);
}
