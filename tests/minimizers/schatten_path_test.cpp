#include "richflow/minimizers/schatten_path.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <tuple>

#include "richflow/core/random.hpp"
#include "richflow/minimizers/commuting.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// `grad Q_mu(M) = sum nu_n X_n` and M fits: the optimality conditions of a convex problem.
void check_optimality(const Dataset<>& data, Scale<> mu, const SpectralResult<>& result) {
  INFO(result.status << " after " << result.iterations);
  REQUIRE(result.ok());
  const auto [fit, Z] = measured(data.measurements(), result.matrix, result.nu);
  CHECK((fit - data.y()).norm() <= 1.1e-11 * data.y().norm());
  const SchattenHypentropy<> schatten(result.matrix.rows(), result.matrix.cols(), mu);
  // A singular value known to eps of the largest gives its gradient to eps of the largest over 2 mu^2.
  const double known = 1e-14 * spectral_norm(result.matrix) / (2.0 * std::exp(2.0 * mu.log()));
  CHECK((schatten.gradient(result.matrix) - Z).norm() <= 1e-9 * Z.norm() + 10.0 * known);
  CHECK(std::abs(result.duality_gap) <= 1e-10);
  CHECK_THAT(result.objective, near(schatten.value(result.matrix), 1e-9, 0.0));
}

}  // namespace

TEST_CASE("minimizers of Schatten-Q satisfy the optimality conditions, for completion and dense measurements") {
  RandomStream random(11);
  for (const auto& [rows, cols, samples] : {std::tuple<Index, Index, Index>{5, 5, 12}, {3, 6, 9}, {6, 4, 15}}) {
    const FactorShape shape = FactorShape::general(rows, cols);
    const Dataset<> entries = random_measured_data(random, Kind::entries, shape, samples);
    const Dataset<> dense = random_measured_data(random, Kind::dense, shape, samples);
    SchattenPath<> entries_path(entries);
    SchattenPath<> dense_path(dense);
    // Down, up again (from the kernel end) and down.
    for (const double log_mu : {3.0, 0.5, -0.3, -2.0, -6.0, 1.0, -4.0}) {
      CAPTURE(rows, cols, samples, log_mu);
      const auto mu = Scale<>::from_log(log_mu);
      check_optimality(entries, mu, entries_path.solve(mu));
      check_optimality(dense, mu, dense_path.solve(mu));
    }
  }
}

TEST_CASE("no matrix that fits has a smaller Schatten-Q") {
  const MatrixCompletion<> problem = matrix_completion({.rows = 5, .cols = 5, .num_observed = 12, .seed = 3});
  const Dataset<>& data = problem.observations.dataset;
  RandomStream random(12);
  SchattenPath<> path(data);
  for (const double log_mu : {1.0, -1.0, -5.0}) {
    const auto result = path.solve(Scale<>::from_log(log_mu)).require_ok();
    const SchattenHypentropy<> schatten(5, 5, Scale<>::from_log(log_mu));
    for (int trial = 0; trial < 50; ++trial) {
      Matrix<double> change = random_matrix(random, 5, 5) * std::pow(10.0, -random.uniform(0.0, 4.0));
      for (const auto [i, j] : data.measurements().places()) change(i, j) = 0.0;
      CHECK(schatten.value(result.matrix + change) > result.objective * (1.0 - 1e-12));
    }
  }
}

TEST_CASE("the path ends at the smallest Frobenius norm, and at the smallest nuclear norm") {
  const MatrixCompletion<> problem = matrix_completion({.seed = 1});
  const Dataset<>& data = problem.observations.dataset;
  SchattenPath<> path(data);
  const Matrix<double> frobenius = min_frobenius_interpolator(data);
  const double nuclear = min_nuclear_norm_interpolator(data).require_ok().objective;
  // q(z) = z^2 / 4 (1 - z^2 / 48): at mu^2 = e^12 singular values up to 6 are linear to 1e-9.
  CHECK((path.solve(Scale<>::from_log(6.0)).require_ok().matrix - frobenius).norm() <= 1e-8 * frobenius.norm());
  double previous = 1.0;
  for (const double log_mu : {0.0, -1.0, -3.0, -10.0, -30.0, -100.0}) {
    const double excess = nuclear_norm(path.solve(Scale<>::from_log(log_mu)).require_ok().matrix) / nuclear - 1.0;
    CAPTURE(log_mu, excess);
    CHECK(excess < previous);
    CHECK(excess > -1e-7);
    previous = excess;
  }
  CHECK(previous < 1e-3);  // logarithmic: about 1 / log(1 / mu^2) of what a trade among small values is worth
}

TEST_CASE("diagonal measurements: Schatten-Q is minimized by the hypentropy minimizer on the diagonal") {
  RandomStream random(13);
  const FactorShape shape = FactorShape::general(6, 6);
  const Dataset<> data = random_measured_data(random, Kind::diagonal, shape, 3);
  SchattenPath<> path(data);
  Matrix<double> X(3, 6);
  for (Index n = 0; n < 3; ++n) X.row(n) = measurement_matrix(data.measurements(), n).diagonal().transpose();
  for (const double log_mu : {2.0, 0.0, -3.0, -8.0}) {
    const auto result = path.solve(Scale<>::from_log(log_mu)).require_ok();
    const auto expected = minimize_hypentropy(Dataset(X, data.y()), Scale<>::from_log(log_mu)).require_ok();
    CHECK((result.matrix - Matrix<double>(expected.beta.asDiagonal())).norm() <= 1e-9 * expected.beta.norm());
  }
}

TEST_CASE("zero labels and bad options") {
  const Dataset<> zero = observed_entries<double>(2, 2, {{0, 0, 0.0}}).dataset;
  SchattenPath<> path(zero);
  const auto result = path.solve(Scale<>::from_value(1.0));
  CHECK(result.ok());
  CHECK(result.matrix.norm() == 0.0);
  const Dataset<> twice(MatrixMeasurements<>::dense(2, 2, Matrix<double>::Ones(3, 4)), Vector<double>::Zero(3));
  CHECK(SchattenPath<>(twice).solve(Scale<>::from_value(1.0)).require_ok().nu == Vector<double>::Zero(3));
  CHECK_THROWS_AS(SchattenPath<>(zero, {.primal_tolerance = -1.0}), ArgumentError);
  CHECK_THROWS_AS(SchattenPath<>(zero, {.max_iterations = 0}), ArgumentError);
  CHECK_THROWS_AS(SchattenPath<>(Dataset(Matrix<double>::Ones(1, 4), Vector<double>::Ones(1))), ArgumentError);
  const Dataset<> one = observed_entries<double>(2, 2, {{0, 0, 1.0}, {0, 1, 3.0}}).dataset;
  SchattenPath<> short_path(one, {.max_iterations = 2});
  const auto early = short_path.solve(Scale<>::from_log(-20.0));
  CHECK(early.status == Status::max_steps);
  CHECK_THROWS_AS(early.require_ok(), ConvergenceError);
}

namespace {

/// Random symmetric measurements with a common basis Q.
Dataset<> commuting_data(RandomStream& random, const Matrix<double>& Q, const Matrix<double>& spectra) {
  const Index size = Q.rows();
  Matrix<double> X(spectra.rows(), size * size);
  for (Index n = 0; n < spectra.rows(); ++n) {
    const Matrix<double> X_n = Q * spectra.row(n).transpose().asDiagonal() * Q.transpose();
    X.row(n) = Eigen::Map<const Vector<double>>(X_n.data(), size * size).transpose();
  }
  return dense_data(FactorShape::symmetric(size), X, random_vector(random, spectra.rows()));
}

}  // namespace

TEST_CASE("commuting measurements: two roads to the same minimizer") {
  RandomStream random(14);
  const Index size = 5;
  const Matrix<double> Q = random_matrix(random, size, size).householderQr().householderQ();
  const Dataset<> data = commuting_data(random, Q, random_matrix(random, 3, size));
  SchattenPath<> path(data);
  for (const double log_mu : {2.0, 0.0, -4.0}) {
    const auto mu = Scale<>::from_log(log_mu);
    const auto through_spectrum = minimize_schatten_commuting(data, mu);
    CHECK(through_spectrum.spectrum.ok());
    CHECK((through_spectrum.matrix - path.solve(mu).require_ok().matrix).norm() <=
          1e-9 * through_spectrum.matrix.norm());
  }
  CHECK(minimize_schatten_commuting(data, Scale<>::from_log(-500.0)).spectrum.ok());
}

TEST_CASE("a common basis is found for shared, repeated and trivial eigenspaces alike") {
  RandomStream random(15);
  const Index size = 6;
  const Matrix<double> Q = random_matrix(random, size, size).householderQr().householderQ();
  Matrix<double> spectra(4, size);
  spectra << 1, 1, 1, 0, 0, 0,  // projector
      0, 0, 1, 1, 0, 0,         // overlaps it
      2, 2, 2, 2, 2, 2,         // identity
      0, 0, 0, 0, 0, 0;         // nothing
  const Dataset<> data = commuting_data(random, Q, spectra);
  const CommutingMeasurements<> commuting = commuting_measurements(data);
  CHECK((commuting.basis.transpose() * commuting.basis - Matrix<double>::Identity(size, size)).norm() <= 1e-13);
  for (Index n = 0; n < 4; ++n) {
    const Matrix<double> X_n = measurement_matrix(data.measurements(), n);
    CHECK((commuting.basis * commuting.spectra.X().row(n).transpose().asDiagonal() * commuting.basis.transpose() - X_n)
              .norm() <= 1e-12 * (1.0 + X_n.norm()));
    Vector<double> found = commuting.spectra.X().row(n).transpose();
    Vector<double> wanted = spectra.row(n).transpose();
    std::sort(found.begin(), found.end());
    std::sort(wanted.begin(), wanted.end());
    CHECK((found - wanted).norm() <= 1e-12);
  }
}

TEST_CASE("measurements that do not commute are detected, and named") {
  RandomStream random(16);
  const Index size = 4;
  const Matrix<double> Q = random_matrix(random, size, size).householderQr().householderQ();
  const Dataset<> good = commuting_data(random, Q, random_matrix(random, 3, size));
  const FactorShape shape = FactorShape::symmetric(size);
  Matrix<double> X = measurement_rows(good);
  X(2, 0) += 1e-3;  // a diagonal entry: still symmetric
  CHECK_THROWS_MATCHES(commuting_measurements(dense_data(shape, X, good.y())), ArgumentError,
                       message_contains("and 2 do not commute"));
  CHECK_THROWS_AS(minimize_schatten_commuting(dense_data(shape, X, good.y()), Scale<>::from_value(1.0)), ArgumentError);
  X = measurement_rows(good);
  X(1, 1) += 1e-3;  // (1, 0) without (0, 1)
  CHECK_THROWS_MATCHES(commuting_measurements(dense_data(shape, X, good.y())), ArgumentError,
                       message_contains("measurement 1 is not symmetric"));
  Vector<double> y = Vector<double>::Ones(2);
  CHECK_THROWS_MATCHES(commuting_measurements(dense_data(FactorShape::general(2, 3), Matrix<double>::Ones(2, 6), y)),
                       DimensionError, message_contains("not of a 2 x 3 one"));
}
