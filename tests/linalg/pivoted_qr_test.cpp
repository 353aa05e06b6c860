#include "richflow/linalg/pivoted_qr.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();

template <class S>
detail::PivotedQr<S> factored(const Matrix<S>& A) {
  detail::PivotedQr<S> qr;
  qr.compute(A);
  return qr;
}

}  // namespace

TEST_CASE("pivots, R and Q are those of Eigen's pivoted QR") {
  RandomStream random(64);
  for (const auto& [m, n] : {std::pair<Index, Index>{7, 4}, {5, 5}, {3, 6}, {1, 1}, {40, 25}, {25, 40}}) {
    CAPTURE(m, n);
    const Matrix<double> A = random_matrix(random, m, n);
    const auto qr = factored(A);
    const Eigen::ColPivHouseholderQR<Matrix<double>> eigen(A);
    const Matrix<double> Q = eigen.householderQ();
    // Both are stable, and differ by roundings only: some epsilon per column.
    const double rounding = 16 * epsilon * static_cast<double>(n);
    for (Index k = 0; k < n; ++k) CHECK(qr.column(k) == eigen.colsPermutation().indices()[k]);
    for (Index k = 0; k < n; ++k)
      for (Index i = 0; i < std::min(k + 1, m); ++i)
        CHECK(std::abs(qr.upper()(i, k) - eigen.matrixR()(i, k)) <= rounding * A.norm());
    for (Index columns = 0; columns <= m; ++columns)
      CHECK((qr.leading_columns_of_q(columns) - Q.leftCols(columns)).norm() <= rounding * 4);
    CHECK((qr.leading_columns_of_q(m) * qr.unpivoted_r() - A).norm() <= rounding * A.norm());
  }
}

TEST_CASE("the rank is the number of independent columns, in any size") {
  RandomStream random(65);
  for (const auto& [m, n, rank] : {std::array<Index, 3>{20, 12, 5}, {12, 20, 5}, {9, 9, 9}, {6, 3, 1}}) {
    CAPTURE(m, n, rank);
    const Matrix<double> A = random_matrix(random, m, rank) * random_matrix(random, rank, n);
    for (const double size : {1e-100, 1.0, 1e100}) CHECK(factored(Matrix<double>(size * A)).rank(1e-12) == rank);
  }
  CHECK(factored(Matrix<double>(Matrix<double>::Zero(4, 3))).rank(1e-12) == 0);
}

TEST_CASE("with rows by decreasing size, errors are relative to each row") {
  RandomStream random(66);
  Matrix<double> A = random_matrix(random, 30, 8);
  for (Index i = 0; i < 30; ++i) A.row(i) *= std::pow(10.0, -static_cast<double>(i));
  const auto qr = factored(A);
  const Matrix<double> product = qr.leading_columns_of_q(30) * qr.unpivoted_r();
  // Cox and Higham 1998, Theorem 2.5: row errors of some n^2 epsilon times the row's largest entry on the way, which
  // for Gaussian rows is a few times its norm.
  for (Index i = 0; i < 30; ++i) CHECK((product.row(i) - A.row(i)).norm() <= 64 * 10 * epsilon * A.row(i).norm());
}
