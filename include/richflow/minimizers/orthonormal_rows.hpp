#pragma once

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>

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

/// The constraint `X beta = y` written with orthonormal rows, `Q^T beta = R^{-T} P^T D y` from the column-pivoted
/// QR `X^T D P = Q R`, where D brings the largest entry of each row of X to 1: it has the same solutions, but neither
/// near-dependent rows nor redundant ones. A pivot counts as zero below `16 min(N, d) epsilon` of the largest. Cost
/// O(N^2 d).
template <class Scalar>
class BasicOrthonormalRows {
 public:
  explicit BasicOrthonormalRows(const BasicDataset<Scalar>& data)
      : num_samples_(data.num_samples()),
        size_(data.y().norm()),
        inverse_sizes_(data.X().cwiseAbs().rowwise().maxCoeff()) {
    using std::min;
    const Scalar smallest = std::numeric_limits<Scalar>::min();
    for (Scalar& size : inverse_sizes_) size = size > smallest ? Scalar(1) / size : Scalar(1);
    Eigen::ColPivHouseholderQR<Matrix<Scalar>> qr(data.X().transpose() * inverse_sizes_.asDiagonal());
    const auto n = static_cast<Scalar>(min(num_samples_, data.dimension()));
    qr.setThreshold(Scalar(16) * n * Eigen::NumTraits<Scalar>::epsilon());
    const Index rank = qr.rank();
    X_ = detail::leading_columns_of_q<Scalar>(qr, rank).transpose();
    upper_ = qr.matrixR().topLeftCorner(rank, rank);
    permutation_ = qr.colsPermutation();
    y_ = (permutation_.transpose() * inverse_sizes_.cwiseProduct(data.y())).head(rank);
    upper_.template triangularView<Eigen::Upper>().transpose().solveInPlace(y_);
    misfit_ = data.residual_norm(least_fit());
  }

  /// Throws InfeasibleError, with the size of the misfit, when what fits `rank` independent rows leaves a residual
  /// above `sqrt(epsilon) |y|` in all of them: then no beta satisfies `X beta = y` to that accuracy, or none was found.
  void require_solution() const {
    using std::sqrt;
    require<InfeasibleError>(misfit_ <= sqrt(Eigen::NumTraits<Scalar>::epsilon()) * size_,
                             "no beta satisfies X beta = y (X is ", num_samples_, " x ", X_.cols(), "): what fits ",
                             y_.size(), " independent rows leaves a residual of norm ", misfit_,
                             " where |y| = ", size_);
  }

  /// The solution of least Euclidean norm. Throws as `require_solution`. Cost O(N d).
  [[nodiscard]] Vector<Scalar> least_solution() const {
    require_solution();
    return least_fit();
  }

  /// `rank` x d, with orthonormal rows.
  [[nodiscard]] const Matrix<Scalar>& X() const { return X_; }
  /// The labels that belong to `X()`.
  [[nodiscard]] const Vector<Scalar>& y() const { return y_; }

  /// The N multipliers of the original rows with `X_original^T nu = X()^T multipliers`.
  [[nodiscard]] Vector<Scalar> original_multipliers(const Vector<Scalar>& multipliers) const {
    Vector<Scalar> pivoted = Vector<Scalar>::Zero(permutation_.size());
    pivoted.head(X_.rows()) = upper_.template triangularView<Eigen::Upper>().solve(multipliers);
    return inverse_sizes_.cwiseProduct(permutation_ * pivoted);
  }

 private:
  [[nodiscard]] Vector<Scalar> least_fit() const { return X_.transpose() * y_; }

  Index num_samples_;
  Scalar size_;  // |y|
  Vector<Scalar> inverse_sizes_;
  Matrix<Scalar> upper_ = {};
  Eigen::PermutationMatrix<Eigen::Dynamic> permutation_ = {};
  Matrix<Scalar> X_ = {};
  Vector<Scalar> y_ = {};
  Scalar misfit_ = {};
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
