#include "richflow/minimizers/orthonormal_rows.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Rows are orthonormal, have the same solutions, and multipliers lead back; products of numbers of order 1.
void check_rows(const Dataset<>& data, Index rank) {
  CAPTURE(data.num_samples(), data.num_inputs());
  const OrthonormalRows<double> rows(data);
  REQUIRE(rows.X().rows() == rank);
  CHECK((rows.X() * rows.X().transpose() - Matrix<double>::Identity(rank, rank)).norm() <= 1e-13);
  const Vector<double> beta = rows.least_solution();
  CHECK((data.X() * beta - data.y()).norm() <= 1e-12 * data.y().norm());
  // Of least norm: in the row space.
  const Vector<double> nu = rows.original_multipliers(rows.X() * beta);
  CHECK((data.X().transpose() * nu - beta).norm() <= 1e-12 * beta.norm());
}

}  // namespace

TEST_CASE("orthonormal rows: full rank, redundant rows, more rows than columns, rows of any scale") {
  RandomStream random(61);
  const Matrix<double> X = random_matrix(random, 5, 12);
  const Vector<double> beta = random_vector(random, 12);
  check_rows(Dataset(X, X * beta), 5);
  Matrix<double> redundant(8, 12);
  redundant << X, X.row(0) + X.row(1), -X.row(3), Matrix<double>::Zero(1, 12);
  check_rows(Dataset(redundant, redundant * beta), 5);
  const Matrix<double> tall = random_matrix(random, 9, 4);
  check_rows(Dataset(tall, tall * beta.head(4)), 4);

  // A row that is small in its own unit counts like any other.
  Matrix<double> graded = X;
  graded.row(1) *= 1e-9;
  graded.row(4) *= 1e6;
  const Dataset data(graded, graded * beta);
  const OrthonormalRows<double> rows(data);
  CHECK(rows.X().rows() == 5);
  const Vector<double> residual = graded * rows.least_solution() - data.y();
  for (Index n = 0; n < 5; ++n) CHECK(std::abs(residual[n]) <= 1e-13 * graded.row(n).norm() * beta.norm());
}

TEST_CASE("orthonormal rows: what has no solution is refused, with the size of the misfit") {
  RandomStream random(62);
  Matrix<double> X(3, 4);
  X << random_matrix(random, 2, 4), Matrix<double>::Zero(1, 4);
  Vector<double> y = random_vector(random, 3);
  y[2] = 0.5;
  const OrthonormalRows<double> rows(Dataset(X, y));
  CHECK(rows.X().rows() == 2);
  CHECK_THROWS_MATCHES(rows.require_solution(), InfeasibleError, message_contains("residual of norm 0.5"));
  CHECK_THROWS_AS(rows.least_solution(), InfeasibleError);
  const OrthonormalRows<double> none(Dataset(Matrix<double>::Zero(2, 3), Vector<double>::Zero(2)));
  CHECK(none.X().rows() == 0);
  CHECK(none.least_solution() == Vector<double>::Zero(3));
}

TEST_CASE("certificates without multipliers: redundant rows, and more rows than columns") {
  RandomStream random(63);
  const Matrix<double> X = random_matrix(random, 4, 10);
  const Vector<double> y = random_vector(random, 4);
  Matrix<double> redundant(6, 10);
  redundant << X, 2.0 * X.row(0), X.row(1) - X.row(2);
  Vector<double> labels(6);
  labels << y, 2.0 * y[0], y[1] - y[2];
  const Scale<> scale = Scale<>::from_value(0.1);
  const Hypentropy<> Q = Hypentropy<>::uniform(10, scale);
  const Certificate<> of_redundant =
      certify(Q, Dataset(redundant, labels), minimize_hypentropy(Dataset(X, y), scale).require_ok().beta);
  // The solver's own tolerance, and roundings of sums of ten terms.
  CHECK(of_redundant.primal_residual <= 1e-11);
  CHECK(of_redundant.kkt_residual <= 1e-11);
  CHECK(std::abs(of_redundant.duality_gap) <= 1e-11);

  // The only interpolator is the minimizer, whatever Q.
  const Matrix<double> tall = random_matrix(random, 9, 4);
  const Vector<double> beta = random_vector(random, 4);
  const Certificate<> of_tall = certify(Hypentropy<>::uniform(4, scale), Dataset(tall, tall * beta), beta);
  CHECK(of_tall.primal_residual <= 1e-14);
  CHECK(of_tall.kkt_residual <= 1e-12);
}
