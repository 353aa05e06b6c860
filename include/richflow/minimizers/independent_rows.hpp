#pragma once

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

namespace richflow {

/// A largest set of linearly independent rows of X, found by column-pivoted QR of X^T, in increasing order.
/// A pivot counts as zero below `max(N, d) * 16 * epsilon` of the largest. Cost O(N^2 d).
template <class Scalar>
[[nodiscard]] std::vector<Index> independent_rows(const Matrix<Scalar>& X) {
  Eigen::ColPivHouseholderQR<Matrix<Scalar>> qr(X.transpose());
  const auto n = static_cast<Scalar>(std::max(X.rows(), X.cols()));
  qr.setThreshold(n * Scalar(16) * Eigen::NumTraits<Scalar>::epsilon());
  std::vector<Index> rows(static_cast<std::size_t>(qr.rank()));
  for (Index k = 0; k < qr.rank(); ++k) rows[static_cast<std::size_t>(k)] = qr.colsPermutation().indices()[k];
  std::sort(rows.begin(), rows.end());
  return rows;
}

/// Throws InfeasibleError, with the size of the misfit, unless some beta satisfies `X beta = y` up to a
/// relative residual of `sqrt(epsilon)`. Cost O(N^2 d).
template <class Scalar>
void require_feasible(const BasicDataset<Scalar>& data) {
  using std::sqrt;
  const Vector<Scalar> beta = data.X().completeOrthogonalDecomposition().solve(data.y());
  const Scalar misfit = (data.X() * beta - data.y()).norm();
  require<InfeasibleError>(misfit <= sqrt(Eigen::NumTraits<Scalar>::epsilon()) * data.y().norm(),
                           "no beta satisfies X beta = y (X is ", data.num_samples(), " x ", data.dimension(),
                           "): the best fit leaves a residual of norm ", misfit, " where |y| = ", data.y().norm());
}

/// All rows when X visibly has full row rank (a Cholesky factorization of X X^T shows it, at a tenth of the
/// cost), else `independent_rows`. Cost O(N^2 d).
template <class Scalar>
[[nodiscard]] std::vector<Index> independent_rows_if_needed(const BasicDataset<Scalar>& data) {
  const Index n = data.num_samples();
  if (n <= data.dimension()) {
    const Matrix<Scalar> gram = data.X() * data.X().transpose();
    const Eigen::LLT<Matrix<Scalar>> cholesky(gram);
    const auto pivots = cholesky.matrixLLT().diagonal().array().square();
    if (cholesky.info() == Eigen::Success && pivots.minCoeff() > Scalar(1e-10) * pivots.maxCoeff()) {
      std::vector<Index> all(static_cast<std::size_t>(n));
      std::iota(all.begin(), all.end(), Index(0));
      return all;
    }
  }
  require_feasible(data);
  return independent_rows(data.X());
}

}  // namespace richflow
