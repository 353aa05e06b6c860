#pragma once

#include <Eigen/Householder>
#include <Eigen/QR>

#include "richflow/core/types.hpp"

namespace richflow::detail {

/// The first `columns` columns of the Q of a pivoted QR of an m x n matrix, columns <= min(m, n). Reflection by
/// reflection, as the pivoted factorization itself works: what Eigen has for it, in blocks, is no faster up to some
/// hundred columns and takes a compiler several seconds in each source. Cost 2 m columns^2.
template <class S>
[[nodiscard]] Matrix<S> leading_columns_of_q(const Eigen::ColPivHouseholderQR<Matrix<S>>& qr, Index columns) {
  const Index m = qr.rows();
  // A copy that is not const: for a compiler then the reflections are those of the factorization, compiled anyway.
  Matrix<S> reflections = qr.matrixQR();
  Matrix<S> Q = Matrix<S>::Identity(m, columns);
  Vector<S> workspace(columns);
  // The reflections after the first `columns` leave these columns of the identity alone.
  for (Index k = columns - 1; k >= 0; --k)
    Q.bottomRightCorner(m - k, columns - k)
        .applyHouseholderOnTheLeft(reflections.col(k).tail(m - k - 1), qr.hCoeffs()[k], workspace.data());
  return Q;
}

}  // namespace richflow::detail
