#include "richflow/minimizers/min_nuclear_norm.hpp"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/random_inputs.hpp"
#include "support/row_sums.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The proof, without the library: M fits, Z = sum nu_n X_n has no singular value beyond 1, and <y, nu> = |M|_*.
void check_certificate(const Dataset<>& data, const SpectralResult<>& result) {
  INFO(result.status << " after " << result.iterations << ", gap " << result.duality_gap << ", residual "
                     << result.primal_residual);
  REQUIRE(result.ok());
  const auto [fit, Z] = measured(data.measurements(), result.matrix, result.nu);
  CHECK((fit - data.y()).norm() <= 1e-12 * data.y().norm());
  CHECK(spectral_norm(Z) <= 1.0 + 1e-13);
  CHECK_THAT(result.objective, near(nuclear_norm(result.matrix), 1e-13, 0.0));
  const double gap = (nuclear_norm(result.matrix) - data.y().dot(result.nu)) / nuclear_norm(result.matrix);
  CHECK(gap >= -1e-12);
  CHECK(gap <= 1.01e-7);
  CHECK_THAT(result.duality_gap, near(gap, 0.0, 1e-12));
}

Dataset<> completion(Index rows, Index cols, const std::vector<ObservedEntry<>>& entries) {
  return observed_entries<double>(rows, cols, entries).dataset;
}

}  // namespace

TEST_CASE("minimum-nuclear-norm completions come with a proof") {
  for (std::uint64_t stream = 0; stream < 8; ++stream) {
    CAPTURE(stream);
    const MatrixCompletion<> problem = matrix_completion({.seed = 1, .stream = stream});
    const Dataset<>& data = problem.observations.dataset;
    const auto result = min_nuclear_norm_interpolator(data);
    check_certificate(data, result);
    CHECK(result.objective <= nuclear_norm(problem.truth) * (1.0 + 1e-7));
  }
}

TEST_CASE("dense measurements, rectangular matrices and few or many measurements come with a proof") {
  RandomStream random(5);
  for (const auto& [rows, cols, samples] :
       {std::tuple<Index, Index, Index>{4, 7, 1}, {4, 7, 12}, {6, 3, 17}, {5, 5, 25}}) {
    CAPTURE(rows, cols, samples);
    const FactorShape shape = FactorShape::general(rows, cols);
    const Dataset<> data = random_measured_data(random, Kind::dense, shape, samples);
    check_certificate(data, min_nuclear_norm_interpolator(data));
  }
}

TEST_CASE("diagonal measurements: the smallest nuclear norm is the smallest l1 norm") {
  RandomStream random(6);
  const FactorShape shape = FactorShape::general(9, 9);
  const Dataset<> data = random_measured_data(random, Kind::diagonal, shape, 4);
  Matrix<double> X(4, 9);
  for (Index n = 0; n < 4; ++n) X.row(n) = measurement_matrix(data.measurements(), n).diagonal().transpose();
  const Dataset diagonals(X, data.y());
  const auto result = min_nuclear_norm_interpolator(data);
  check_certificate(data, result);
  const auto l1 = min_l1_interpolator(diagonals).require_ok();
  CHECK_THAT(result.objective, near(l1.objective, 2e-7, 0.0));
  CHECK((result.matrix.diagonal() - l1.beta).norm() <= 1e-4 * l1.beta.norm());
}

TEST_CASE("a user's own measurements are minimized over as the same dense ones") {
  RandomStream random(9);
  const Vector<double> y = random_vector(random, 2);
  const Dataset sums(MatrixMeasurements<double>(std::make_unique<RowSums>(3, 4, std::vector<Index>{0, 2}, 2.0)), y);
  const Dataset<> dense = dense_data(FactorShape::general(3, 4), measurement_rows(sums), y);
  CHECK((min_frobenius_interpolator(sums) - min_frobenius_interpolator(dense)).norm() <= 1e-14 * y.norm());
  const auto result = min_nuclear_norm_interpolator(sums);
  check_certificate(sums, result);
  CHECK_THAT(result.objective, near(min_nuclear_norm_interpolator(dense).objective, 2e-7, 0.0));
}

TEST_CASE("2 x 2 completions in closed form") {
  // |M|_*^2 = |M|_F^2 + 2 |det M|: for (a, b; c, x) the minimum is at x = bc / a, but not beyond |a|.
  for (const auto& [a, b, c, x] : {std::tuple<double, double, double, double>{2.0, 1.0, 1.0, 0.5},
                                   {2.0, -1.0, 3.0, -1.5},
                                   {1.0, 2.0, 3.0, 1.0},
                                   {-1.0, 2.0, 3.0, -1.0}}) {
    CAPTURE(a, b, c, x);
    const Dataset<> data = completion(2, 2, {{0, 0, a}, {0, 1, b}, {1, 0, c}});
    const auto result = min_nuclear_norm_interpolator(data);
    check_certificate(data, result);
    CHECK_THAT(result.matrix(1, 1), near(x, 3e-3, 0.0));  // the norm is flat there: to some roots of the gap
  }
}

TEST_CASE("the unit of the data does not matter, an empty row and zero labels are no trouble") {
  std::vector<ObservedEntry<>> entries = {{0, 0, 1.0}, {0, 1, -2.0}, {2, 1, 1.5}, {2, 3, 0.3}};
  const auto one = min_nuclear_norm_interpolator(completion(3, 4, entries));
  check_certificate(completion(3, 4, entries), one);
  CHECK(one.matrix.row(1).norm() <= 1e-5 * one.matrix.norm());  // nothing is known of it: zero is least
  CHECK(one.matrix.col(2).norm() <= 1e-5 * one.matrix.norm());
  for (const double unit : {1e-8, 1e8}) {
    auto scaled = entries;
    for (ObservedEntry<>& entry : scaled) entry.value *= unit;
    const auto other = min_nuclear_norm_interpolator(completion(3, 4, scaled));
    check_certificate(completion(3, 4, scaled), other);
    CHECK((other.matrix / unit - one.matrix).norm() <= 1e-6 * one.matrix.norm());
  }
  for (ObservedEntry<>& entry : entries) entry.value = 0.0;
  const auto zero = min_nuclear_norm_interpolator(completion(3, 4, entries));
  CHECK(zero.ok());
  CHECK(zero.objective == 0.0);
  CHECK(zero.matrix.norm() == 0.0);
}

TEST_CASE("the minimum-Frobenius interpolator is zero where nothing is observed, and the least-squares solution") {
  const Matrix<double> M = min_frobenius_interpolator(completion(3, 3, {{0, 1, 2.0}, {2, 2, -1.0}}));
  Matrix<double> expected = Matrix<double>::Zero(3, 3);
  expected(0, 1) = 2.0;
  expected(2, 2) = -1.0;
  CHECK((M - expected).norm() <= 1e-15);

  RandomStream random(7);
  const FactorShape wide = FactorShape::general(3, 5);
  const Dataset<> data = random_measured_data(random, Kind::dense, wide, 7);
  const Vector<double> beta = min_l2_interpolator(Dataset(measurement_rows(data), data.y()));
  const Matrix<double> dense = min_frobenius_interpolator(data);
  CHECK((Eigen::Map<const Vector<double>>(dense.data(), 15) - beta).norm() <= 1e-13 * beta.norm());
}

TEST_CASE("dependent measurements are fine when they agree, and refused when not") {
  RandomStream random(8);
  const FactorShape shape = FactorShape::general(3, 3);
  Matrix<double> X = random_matrix(random, 4, 9);
  X.row(3) = 2.0 * X.row(0) - X.row(1);
  Vector<double> y = random_vector(random, 4);
  y(3) = 2.0 * y(0) - y(1);
  const Dataset<> agreeing = dense_data(shape, X, y);
  CHECK((X * Eigen::Map<const Vector<double>>(min_frobenius_interpolator(agreeing).eval().data(), 9) - y).norm() <=
        1e-12 * y.norm());
  check_certificate(agreeing, min_nuclear_norm_interpolator(agreeing));
  y(3) += 0.5;
  const Dataset<> contradicting = dense_data(shape, X, y);
  CHECK_THROWS_MATCHES(min_frobenius_interpolator(contradicting), InfeasibleError, message_contains("no matrix fits"));
  CHECK_THROWS_AS(min_nuclear_norm_interpolator(contradicting), InfeasibleError);
}

TEST_CASE("the interpolators refuse bad input, and tell when they stop early") {
  const Dataset<> data = completion(3, 3, {{0, 1, 2.0}, {1, 1, 1.0}, {1, 0, 1.0}, {2, 2, -1.0}});
  const Dataset rows(Matrix<double>::Ones(2, 9), Vector<double>::Ones(2));
  CHECK_THROWS_MATCHES(min_frobenius_interpolator(rows), ArgumentError, message_contains("measurements of a matrix"));
  CHECK_THROWS_AS(min_nuclear_norm_interpolator(rows), ArgumentError);
  CHECK_THROWS_MATCHES(min_nuclear_norm_interpolator(data, {.gap_tolerance = 0.0}), ArgumentError,
                       message_contains("gap_tolerance"));
  CHECK_THROWS_AS(min_nuclear_norm_interpolator(data, {.max_iterations = 0}), ArgumentError);
  const auto early = min_nuclear_norm_interpolator(data, {.max_iterations = 2});
  CHECK(early.status == Status::max_steps);
  CHECK(early.iterations == 2);
  CHECK(early.matrix.allFinite());
  CHECK_THROWS_MATCHES(early.require_ok(), ConvergenceError, message_contains("after 2 Newton steps"));
  // Below rounding the gap is met or not as the last digits fall; either way the result is there.
  const auto too_much = min_nuclear_norm_interpolator(data, {.gap_tolerance = 1e-30});
  CHECK(std::abs(too_much.duality_gap) <= 1e-7);
}
