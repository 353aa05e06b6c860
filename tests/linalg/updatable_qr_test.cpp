#include "richflow/linalg/updatable_qr.hpp"

#include <Eigen/Dense>
#include <cmath>
#include <limits>
#include <vector>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The columns that a factorization should hold.
Matrix<double> matrix_of_columns(const std::vector<Vector<double>>& columns, Index rows) {
  Matrix<double> A(rows, static_cast<Index>(columns.size()));
  for (std::size_t k = 0; k < columns.size(); ++k) A.col(static_cast<Index>(k)) = columns[k];
  return A;
}

}  // namespace

TEST_CASE("a factorization whose columns came and went solves as one of those columns made afresh") {
  RandomStream random(83);
  for (const Index rows : {1, 2, 5, 20}) {
    detail::UpdatableQr<double> qr;
    qr.reset(rows);
    std::vector<Vector<double>> columns;
    for (int change = 0; change < 200; ++change) {
      const auto count = static_cast<Index>(columns.size());
      if (count < rows && (count == 0 || random.uniform_integer(5) < 3)) {
        columns.push_back(random_vector(random, rows));
        REQUIRE(qr.append(columns.back().data()));
      } else {
        const auto k = static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(count)));
        qr.remove(k);
        columns.erase(columns.begin() + k);
      }
      REQUIRE(qr.rows() == rows);
      REQUIRE(qr.cols() == static_cast<Index>(columns.size()));
      if (columns.empty()) continue;
      const Matrix<double> A = matrix_of_columns(columns, rows);
      const Vector<double> y = random_vector(random, rows);
      const Vector<double> v = random_vector(random, A.cols());
      const auto singular = A.jacobiSvd().singularValues().eval();
      const double condition = singular[0] / singular[A.cols() - 1];
      CAPTURE(rows, change, A.cols(), condition);
      // Backward errors of a few roundings for each change so far; forward they grow by the condition number, by its
      // square where there is a residual or a Gram matrix.
      const double rounding = 8 * (change + 8) * std::numeric_limits<double>::epsilon();
      Vector<double> x, nu, gram = v;
      qr.solve(y, x);
      const Vector<double> exact = A.householderQr().solve(y);
      CHECK((x - exact).norm() <= rounding * condition * condition * (exact.norm() + y.norm() / singular[0]));
      qr.solve_gram(gram);
      CHECK((A.transpose() * (A * gram) - v).norm() <= rounding * condition * condition * v.norm());
      qr.solve_transposed(v, nu);
      CHECK((A.transpose() * nu - v).norm() <= rounding * condition * v.norm());
      // The least of them is in the range of A.
      CHECK((nu - A * A.householderQr().solve(nu)).norm() <= rounding * condition * nu.norm());
    }
  }
}

TEST_CASE("columns in the span of the others are refused and leave no trace") {
  RandomStream random(84);
  detail::UpdatableQr<double> qr;
  qr.reset(6);
  const Vector<double> a = random_vector(random, 6), b = random_vector(random, 6);
  const Vector<double> zero = Vector<double>::Zero(6), both = 3 * a - 1e-7 * b;
  CHECK(!qr.append(zero.data()));
  REQUIRE(qr.append(a.data()));
  CHECK(!qr.append(a.data()));
  // What is left of this one has nine digits.
  CHECK(qr.append(both.data()));
  qr.remove(1);
  REQUIRE(qr.append(b.data()));
  CHECK(!qr.append(both.data()));
  CHECK(qr.cols() == 2);
  Vector<double> x;
  qr.solve(Vector<double>(2 * a - 5 * b), x);
  // Roundings times a condition below 100.
  CHECK((x - Vector<double>(Eigen::Vector2d(2, -5))).norm() <= 1e-13);
  for (Index k = 2; k < 6; ++k) REQUIRE(qr.append(random_vector(random, 6).eval().data()));
  CHECK(!qr.append(random_vector(random, 6).eval().data()));
}

TEST_CASE("the residual of a vector follows columns that come and go along the factorization's own directions") {
  RandomStream random(85);
  const Index rows = 12;
  detail::UpdatableQr<double> qr;
  qr.reset(rows);
  const Vector<double> y = random_vector(random, rows);
  std::vector<Vector<double>> columns;
  Vector<double> residual = y, part, x;
  for (int change = 0; change < 60; ++change) {
    const auto count = static_cast<Index>(columns.size());
    if (count < rows - 2 && (count == 0 || random.uniform_integer(5) < 3)) {
      columns.push_back(random_vector(random, rows));
      REQUIRE(qr.append(columns.back().data()));
      const Eigen::Map<const Vector<double>> came(qr.direction(count), rows);
      CHECK_THAT(came.dot(columns.back()), near(qr.pivot(count), 1e-13, 0));
      residual -= came.dot(y) * came;
    } else {
      const auto k = static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(count)));
      qr.remove(k);
      columns.erase(columns.begin() + k);
      const Eigen::Map<const Vector<double>> lost(qr.direction(count - 1), rows);
      residual += lost.dot(y) * lost;
    }
    if (columns.empty()) continue;
    const Matrix<double> A = matrix_of_columns(columns, rows);
    const Vector<double> exact = y - A * A.householderQr().solve(y);
    CAPTURE(change, columns.size());
    // A rounding or two for each change.
    CHECK((residual - exact).norm() <= 1e-13 * y.norm());
    qr.coordinates(y, part);
    CHECK_THAT(part.norm(), near(std::sqrt(y.squaredNorm() - exact.squaredNorm()), 1e-12, 0));
    x = part;
    qr.solve_triangle(x);
    qr.solve(y, part);
    CHECK(x == part);
  }
}
