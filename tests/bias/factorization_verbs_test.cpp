#include <cmath>

#include "richflow/bias/factorization.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Symmetric 6 x 6 measurements with a common basis.
Dataset<> commuting_data(RandomStream& random, Index n) {
  const Matrix<double> Q = Eigen::HouseholderQR<Matrix<double>>(random_matrix(random, 6, 6)).householderQ();
  Matrix<double> X(n, 36);
  for (Index k = 0; k < n; ++k) {
    const Matrix<double> measurement = Q * random_vector(random, 6).asDiagonal() * Q.transpose();
    X.row(k) = Eigen::Map<const Vector<double>>(measurement.data(), 36).transpose();
  }
  return {MatrixMeasurements<double>::dense(6, 6, X), random_vector(random, n)};
}

template <class Net>
void check_both_verbs(const Net& net, const Dataset<>& data) {
  for (const double log_alpha : {-12.0, -4.0, 0.0}) {
    CAPTURE(log_alpha);
    const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
    const MatrixLimit<> limit = solve(net, data, start);
    const MatrixSimulation<> run = simulate(net, data, start);
    CAPTURE(limit.message, run.message, run.method);
    REQUIRE((limit.ok() && run.ok()));
    // Steps accurate to 1e-4 give the limit to some 1e-6 (measured); they accumulate.
    CHECK((run.beta - limit.beta).norm() <= 1e-4 * limit.l2());
    CHECK((run.matrix - limit.matrix).norm() <= 1e-4 * limit.matrix.norm());
    CHECK((limit.f(data.measurements()) - data.y()).norm() <= 1e-10 * data.y().norm());
    CHECK((run.f(data.measurements()) - data.y()).norm() <= 1e-7 * data.y().norm());
    CHECK_THAT(regularizer(net, start, data).value(limit.matrix), near(limit.regularizer_value, 1e-9, 0));
  }
}

}  // namespace

TEST_CASE("wide factorizations on commuting measurements: both verbs agree", "[verbs]") {
  RandomStream random(101);
  check_both_verbs(MatrixFactorization<double>(6, 6, 1000), commuting_data(random, 3));
  check_both_verbs(
      MatrixFactorization<double>(5, 7, 400),
      Dataset(MatrixMeasurements<double>::diagonal(5, 7, random_matrix(random, 2, 5)), random_vector(random, 2)));
}

TEST_CASE("a factorization is simulated from its weights, in any width and on any measurements", "[verbs]") {
  RandomStream random(102);
  const MatrixFactorization<double> net(4, 4, 300);
  const Dataset data(MatrixMeasurements<double>::entries(4, 4, {{0, 0}, {1, 1}, {2, 3}, {3, 0}, {0, 2}}),
                     random_vector(random, 5));
  const auto run = simulate(net, data, net.initial_parameters(random, Scale<>::from_value(0.01)), {.loss = 1e-12});
  CAPTURE(run.message);
  REQUIRE(run.ok());
  CHECK(run.model.width() == 8);
  CHECK((run.f(data.measurements()) - data.y()).norm() <= 1.01e-6);
  CHECK_THAT(run.method, text_contains("lifted flow"));
}

TEST_CASE("a factorization reaches a loss far below its tolerance at the right time", "[verbs]") {
  RandomStream random(105);
  const MatrixFactorization<double> net(5, 5, 10);
  Matrix<double> X(8, 25);
  X = random_matrix(random, 8, 25);
  const Matrix<double> truth = random_vector(random, 5) * random_vector(random, 5).transpose();
  const MatrixMeasurements<double> dense = MatrixMeasurements<double>::dense(5, 5, X);
  const Dataset<> data(dense, dense.apply(truth));
  for (const double scale : {0.1, 1.0}) {
    const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(scale));
    for (const double loss : {1e-6, 1e-13}) {
      const auto run = simulate(net, data, w0, {.loss = loss}).require_ok();
      const auto fine = simulate(net, data, w0, {.loss = loss, .tolerance = 1e-8}).require_ok();
      CAPTURE(scale, loss, run.t, fine.t, run.steps);
      // Each e-fold of the residual is good to 1e-4; by errors of the stack alone the times differ by percents.
      CHECK_THAT(run.t, near(fine.t, 5e-4, 0));
    }
  }
}

TEST_CASE("factorizations without a theorem are refused by name", "[verbs]") {
  RandomStream random(103);
  const MatrixFactorization<double> net(3, 3, 10);
  const Start<> start = Start<>::uniform(Scale<>::from_log(-2));
  Matrix<double> X(2, 9);
  X << 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0;
  const Dataset data(MatrixMeasurements<double>::dense(3, 3, X), random_vector(random, 2));
  CHECK_THROWS_MATCHES(regularizer(net, start, data), ArgumentError, message_contains("do not commute"));
  const Dataset observed(MatrixMeasurements<double>::entries(3, 3, {{0, 0}, {1, 2}}), data.y());
  CHECK_THROWS_MATCHES(regularizer(net, start, observed), ArgumentError, message_contains("no theorem"));
  CHECK_THROWS_MATCHES(solve(net, observed, start), ArgumentError, message_contains("(1, 2)"));
  CHECK_THROWS_MATCHES(solve(net, Dataset(X, data.y()), start), ArgumentError, message_contains("measurements"));
  CHECK_THROWS_MATCHES(solve(net, data, start), ArgumentError, message_contains("do not commute"));
  CHECK_THROWS_MATCHES(solve(net, data, Start<>::shaped(Scale<>::from_log(0), Vector<double>::Ones(3))), ArgumentError,
                       message_contains("uniform"));
  const Dataset rectangular(MatrixMeasurements<double>::dense(3, 2, X.leftCols(6)), data.y());
  CHECK_THROWS_MATCHES(solve(MatrixFactorization<double>(3, 2, 10), rectangular, start), DimensionError,
                       message_contains("square"));
  CHECK_THROWS_AS(solve(net, rectangular, start), DimensionError);
  CHECK_THROWS_MATCHES(simulate(net, data, Start<>::uniform(Scale<>::from_log(-800))), ArgumentError,
                       message_contains("-800"));
}

TEST_CASE("measurements that no matrix has are refused where the flow is to fit them", "[verbs]") {
  RandomStream random(104);
  const MatrixFactorization<double> net(3, 3, 10);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(0.1));
  Vector<double> y(2);
  y << 1.0, 2.0;
  const Dataset twice(MatrixMeasurements<double>::entries(3, 3, {{0, 0}, {0, 0}}), y);
  CHECK_THROWS_MATCHES(simulate(net, twice, w0), InfeasibleError, message_contains("(0, 0)"));
  CHECK_NOTHROW(simulate(net, twice, w0, {.max_time = 0.1}));
  const Dataset parallel(MatrixMeasurements<double>::dense(3, 3, Matrix<double>::Ones(2, 9)), y);
  CHECK_THROWS_AS(simulate(net, parallel, w0), InfeasibleError);
  y << 1.0, 1.0;
  CHECK(simulate(net, Dataset(MatrixMeasurements<double>::entries(3, 3, {{0, 0}, {0, 0}}), y), w0).ok());
}
