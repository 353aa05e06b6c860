#pragma once

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>

#include "richflow/core/error.hpp"
#include "richflow/core/reflections.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

namespace richflow {

/// Whether the pivots of a factored `X X^T` span less than six orders of magnitude, so that working with it
/// loses few digits. Cost O(N).
template <class Scalar>
[[nodiscard]] bool is_well_conditioned(const Eigen::LLT<Matrix<Scalar>>& gram) {
  const auto pivots = gram.matrixLLT().diagonal().array().square();
  return gram.info() == Eigen::Success && pivots.minCoeff() > Scalar(1e-6) * pivots.maxCoeff();
}

/// The constraint `X beta = y` written with orthonormal rows, `Q^T beta = R^{-T} P^T y` from the column-pivoted
/// QR `X^T P = Q R`: it has the same solutions, but neither near-dependent rows nor redundant ones.
/// A pivot counts as zero below `max(N, d) * 16 * epsilon` of the largest. Cost O(N^2 d).
template <class Scalar>
class BasicOrthonormalRows {
 public:
  explicit BasicOrthonormalRows(const BasicDataset<Scalar>& data) {
    Eigen::ColPivHouseholderQR<Matrix<Scalar>> qr(data.X().transpose());
    const auto n = static_cast<Scalar>(std::max(data.num_samples(), data.dimension()));
    qr.setThreshold(n * Scalar(16) * Eigen::NumTraits<Scalar>::epsilon());
    const Index rank = qr.rank();
    X_ = detail::leading_columns_of_q<Scalar>(qr, rank).transpose();
    upper_ = qr.matrixR().topLeftCorner(rank, rank);
    permutation_ = qr.colsPermutation();
    y_ = (permutation_.transpose() * data.y()).head(rank);
    upper_.template triangularView<Eigen::Upper>().transpose().solveInPlace(y_);
  }

  /// The solution of least Euclidean norm, `X()^T y()`. Throws InfeasibleError, with the size of the misfit, when it
  /// leaves a relative residual above `sqrt(epsilon)` in `data`, that of construction: then no beta satisfies `X beta =
  /// y`. Cost O(N d).
  [[nodiscard]] Vector<Scalar> least_solution(const BasicDataset<Scalar>& data) const {
    using std::sqrt;
    Vector<Scalar> beta = X_.transpose() * y_;
    const Scalar misfit = data.residual_norm(beta);
    require<InfeasibleError>(misfit <= sqrt(Eigen::NumTraits<Scalar>::epsilon()) * data.y().norm(),
                             "no beta satisfies X beta = y (X is ", data.num_samples(), " x ", data.dimension(),
                             "): what fits ", y_.size(), " independent rows leaves a residual of norm ", misfit,
                             " where |y| = ", data.y().norm());
    return beta;
  }

  /// `rank` x d, with orthonormal rows.
  [[nodiscard]] const Matrix<Scalar>& X() const { return X_; }
  /// The labels that belong to `X()`.
  [[nodiscard]] const Vector<Scalar>& y() const { return y_; }

  /// The N multipliers of the original rows with `X_original^T nu = X()^T multipliers`.
  [[nodiscard]] Vector<Scalar> original_multipliers(const Vector<Scalar>& multipliers) const {
    Vector<Scalar> pivoted = Vector<Scalar>::Zero(permutation_.size());
    pivoted.head(X_.rows()) = upper_.template triangularView<Eigen::Upper>().solve(multipliers);
    return permutation_ * pivoted;
  }

 private:
  Matrix<Scalar> upper_;
  Eigen::PermutationMatrix<Eigen::Dynamic> permutation_;
  Matrix<Scalar> X_;
  Vector<Scalar> y_;
};

/// Whether a Cholesky factorization of X X^T shows full row rank with a condition number small enough for
/// normal equations, at a tenth of a QR's cost. Cost O(N^2 d).
template <class Scalar>
[[nodiscard]] bool has_well_conditioned_rows(const Matrix<Scalar>& X) {
  if (X.rows() > X.cols()) return false;
  const Matrix<Scalar> gram = X * X.transpose();
  return is_well_conditioned(Eigen::LLT<Matrix<Scalar>>(gram));
}

}  // namespace richflow
