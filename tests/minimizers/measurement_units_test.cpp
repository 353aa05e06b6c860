#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/minimizers/schatten_path.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/random_inputs.hpp"
#include "support/units.hpp"

using namespace richflow;
using namespace test_support;

namespace {

Vector<double> stacked(const Matrix<double>& M) { return Eigen::Map<const Vector<double>>(M.data(), M.size()); }

/// What `ok` promises, from the data as given and without the library.
void check_promise(const Dataset<>& data, const SpectralResult<>& result) {
  CHECK(relative_residual(measurement_rows(data), stacked(result.matrix), data.y()) <= 1e-12);
  const auto [fit, Z] = measured(data.measurements(), result.matrix, result.nu);
  CHECK(spectral_norm(Z) <= 1.0 + 1e-12);
  CHECK((nuclear_norm(result.matrix) - data.y().dot(result.nu)) / nuclear_norm(result.matrix) <= 1.01e-7);
}

}  // namespace

TEST_CASE("least Frobenius norm: entries and measurements in units of their own") {
  RandomStream random(201);
  const FactorShape shape = FactorShape::general(3, 3);
  for (int exponent = 0; exponent <= 18; exponent += 3)
    for (int trial = 0; trial < 6; ++trial) {
      const Vector<double> columns = mixed_units(random, 9, std::pow(10.0, exponent));
      const Vector<double> rows = mixed_units(random, 3, trial % 2 == 0 ? 1.0 : std::pow(10.0, exponent));
      CAPTURE(exponent, trial);
      const Matrix<double> plain = random_matrix(random, 3, 9) * columns.asDiagonal();
      const Vector<double> labels = random_vector(random, 3);
      const Dataset<> data = dense_data(shape, rows.asDiagonal() * plain, rows.cwiseProduct(labels));
      const Vector<double> m = stacked(min_frobenius_interpolator(data));
      CHECK(relative_residual(measurement_rows(data), m, data.y()) <= 1e-14);
      // Each measurement by itself: a few roundings of its terms.
      const LongVector r =
          measurement_rows(data).cast<long double>() * m.cast<long double>() - data.y().cast<long double>();
      const Vector<double> terms = measurement_rows(data).cwiseAbs() * m.cwiseAbs() + data.y().cwiseAbs();
      for (Index n = 0; n < 3; ++n) CHECK(std::abs(static_cast<double>(r(n))) <= 1e-14 * terms(n));
      // Every entry in its own unit; 1e-11 leaves room for minors of random rows near zero.
      const Vector<double> expected = least_norm_by_minors(measurement_rows(data), data.y());
      const Vector<double> error = (m - expected).cwiseProduct(columns);
      CHECK(error.norm() <= 1e-11 * expected.cwiseProduct(columns).norm());
      CHECK(std::abs(m.norm() - expected.norm()) <= 1e-11 * expected.norm());
    }
}

TEST_CASE("dependent measurements in any units: fine where they agree, refused where one does not") {
  RandomStream random(202);
  const FactorShape shape = FactorShape::general(3, 3);
  for (int exponent = 0; exponent <= 18; exponent += 6)
    for (int trial = 0; trial < 4; ++trial) {
      CAPTURE(exponent, trial);
      const double ratio = std::pow(10.0, exponent);
      Matrix<double> plain = random_matrix(random, 4, 9);
      plain.row(3) = 2.0 * plain.row(0) - plain.row(1);
      const Vector<double> columns = mixed_units(random, 9, ratio);
      const Vector<double> rows = mixed_units(random, 4, ratio);
      const Matrix<double> X = rows.asDiagonal() * plain * columns.asDiagonal();
      const Vector<double> truth = random_vector(random, 9).cwiseQuotient(columns);
      Vector<double> y = X * truth;
      const Vector<double> m = stacked(min_frobenius_interpolator(dense_data(shape, X, y)));
      CHECK(relative_residual(X, m, y) <= 1e-12);
      for (const Index n : {0, 1, 3}) {
        Vector<double> wrong = y;
        wrong(n) += 0.01 * (X.row(n).cwiseAbs() * truth.cwiseAbs()).value();
        CHECK_THROWS_MATCHES(min_frobenius_interpolator(dense_data(shape, X, wrong)), InfeasibleError,
                             message_contains("no matrix fits"));
        CHECK_THROWS_AS(min_nuclear_norm_interpolator(dense_data(shape, X, wrong)), InfeasibleError);
      }
    }
}

TEST_CASE("an entry observed twice in small units is refused where the two differ, and met otherwise") {
  const auto X = MatrixMeasurements<double>::entries(2, 2, {{0, 0}, {0, 1}, {1, 0}, {0, 1}});
  Vector<double> y(4);
  y << 1e18, 1e-3, 2.0, 1e-3;
  const Matrix<double> M = min_frobenius_interpolator(Dataset(X, y));
  CHECK(M(0, 0) == 1e18);
  CHECK(M(0, 1) == 1e-3);
  CHECK(M(1, 0) == 2.0);
  CHECK(M(1, 1) == 0.0);
  y(3) = 2e-3;
  CHECK_THROWS_MATCHES(min_frobenius_interpolator(Dataset(X, y)), InfeasibleError, message_contains("measurement"));
}

TEST_CASE("least nuclear norm: ok is said of the data as given, whatever the units of the entries") {
  RandomStream random(203);
  const FactorShape shape = FactorShape::general(3, 4);
  for (int exponent = 0; exponent <= 18; exponent += 3)
    for (int trial = 0; trial < 3; ++trial) {
      CAPTURE(exponent, trial);
      const Vector<double> columns = mixed_units(random, 12, std::pow(10.0, exponent));
      const Dataset<> data =
          dense_data(shape, random_matrix(random, 5, 12) * columns.asDiagonal(), random_vector(random, 5));
      const auto result = min_nuclear_norm_interpolator(data);
      INFO(result.status << " after " << result.iterations << ", gap " << result.duality_gap << ", residual "
                         << result.primal_residual);
      CHECK_THAT(result.primal_residual,
                 near(relative_residual(measurement_rows(data), stacked(result.matrix), data.y()), 1.0, 1e-15));
      if (result.ok()) check_promise(data, result);
      // What rounding of nu leaves of the gap: the ratio times some roundings.
      if (exponent <= 6) CHECK(result.ok());
      // The fit is good in any case.
      CHECK(result.primal_residual <= 1e-12);
      CHECK(result.objective <= nuclear_norm(min_frobenius_interpolator(data)) * (1 + 1e-12));
    }
}

TEST_CASE("least nuclear norm: units of measurements change nothing") {
  RandomStream random(204);
  const FactorShape shape = FactorShape::general(3, 4);
  for (int exponent = 0; exponent <= 18; exponent += 3) {
    CAPTURE(exponent);
    const Dataset<> plain = dense_data(shape, random_matrix(random, 5, 12), random_vector(random, 5));
    const Vector<double> rows = mixed_units(random, 5, std::pow(10.0, exponent));
    const Dataset<> scaled =
        dense_data(shape, rows.asDiagonal() * measurement_rows(plain), rows.cwiseProduct(plain.y()));
    const auto one = min_nuclear_norm_interpolator(plain);
    const auto other = min_nuclear_norm_interpolator(scaled);
    REQUIRE(one.ok());
    REQUIRE(other.ok());
    check_promise(scaled, other);
    CHECK_THAT(other.objective, near(one.objective, 2e-7, 0.0));
    // Gaps of 1e-7 leave the matrix free by some roots of it.
    CHECK((other.matrix - one.matrix).norm() <= 1e-3 * one.matrix.norm());
    // Each measurement by itself.
    const Vector<double> fit = measurement_rows(plain) * stacked(other.matrix);
    CHECK((fit - plain.y()).lpNorm<Eigen::Infinity>() <= 1e-12 * plain.y().norm());
  }
}

TEST_CASE("the Schatten path: the kernel end in any units is the least Frobenius norm, and ok is said of the data") {
  RandomStream random(205);
  const FactorShape shape = FactorShape::general(3, 4);
  for (int exponent = 0; exponent <= 18; exponent += 6) {
    CAPTURE(exponent);
    const double ratio = std::pow(10.0, exponent);
    const Dataset<> columns = dense_data(
        shape, random_matrix(random, 4, 12) * mixed_units(random, 12, ratio).asDiagonal(), random_vector(random, 4));
    SchattenPath<> path(columns);
    const Matrix<double> least = min_frobenius_interpolator(columns);
    for (const double log_mu : {8.0, -2.0, -10.0}) {
      CAPTURE(log_mu);
      const auto result = path.solve(Scale<>::from_log(log_mu + 0.5 * std::log(spectral_norm(least))));
      INFO(result.status << ", residual " << result.primal_residual << ", gap " << result.duality_gap);
      REQUIRE(result.ok());
      CHECK(relative_residual(measurement_rows(columns), stacked(result.matrix), columns.y()) <= 1e-11);
      // arcsinh is the identity to the square of size / mu^2 = exp(-16).
      if (log_mu == 8.0) CHECK((result.matrix - least).norm() <= 1e-10 * least.norm());
      if (log_mu == -2.0 && exponent <= 6) CHECK(std::abs(result.duality_gap) <= 1e-8);
    }

    const Dataset<> plain = dense_data(shape, random_matrix(random, 4, 12), random_vector(random, 4));
    const Vector<double> rows = mixed_units(random, 4, ratio);
    const Dataset<> scaled =
        dense_data(shape, rows.asDiagonal() * measurement_rows(plain), rows.cwiseProduct(plain.y()));
    const auto one = SchattenPath<>(plain).solve(Scale<>::from_value(0.1)).require_ok();
    const auto other = SchattenPath<>(scaled).solve(Scale<>::from_value(0.1)).require_ok();
    CHECK((one.matrix - other.matrix).norm() <= 1e-9 * one.matrix.norm());
    CHECK(std::abs(other.duality_gap) <= 1e-9);
  }
}

TEST_CASE("measurements that are all zero fit zero labels only") {
  const FactorShape shape = FactorShape::general(2, 2);
  const Matrix<double> X = Matrix<double>::Zero(2, 4);
  Vector<double> y = Vector<double>::Zero(2);
  CHECK(min_frobenius_interpolator(dense_data(shape, X, y)).norm() == 0.0);
  CHECK(min_nuclear_norm_interpolator(dense_data(shape, X, y)).ok());
  y(1) = 1e-6;
  CHECK_THROWS_MATCHES(min_frobenius_interpolator(dense_data(shape, X, y)), InfeasibleError,
                       message_contains("no matrix fits"));
}
