#pragma once

#include <algorithm>

#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/regularizers/hypentropy.hpp"

/// @file
/// Regularizers of a matrix through its singular values: what wide factorizations minimize, and its two ends.

namespace richflow {

namespace detail {

/// Singular values. Eigen leaves them unset, and says nothing, for a matrix that is not finite.
template <class Derived>
[[nodiscard]] Vector<typename Derived::Scalar> singular_values(const Eigen::MatrixBase<Derived>& M) {
  const Matrix<typename Derived::Scalar> A = M;
  require<DimensionError>(A.size() > 0, "M is ", A.rows(), " x ", A.cols());
  require_finite("M", A);
  return svd_values(A);
}

}  // namespace detail

/// The sum of the singular values, the rich end. Throws NonFiniteError, DimensionError for an empty M. Cost: one SVD.
template <class Derived>
[[nodiscard]] typename Derived::Scalar nuclear_norm(const Eigen::MatrixBase<Derived>& M) {
  return detail::singular_values(M).sum();
}

/// The largest singular value. Throws NonFiniteError, DimensionError for an empty M. Cost: one SVD.
template <class Derived>
[[nodiscard]] typename Derived::Scalar spectral_norm(const Eigen::MatrixBase<Derived>& M) {
  return detail::singular_values(M).maxCoeff();
}

/// `sqrt(sum_ij M_ij^2)`, the kernel end, without intermediate overflow or underflow.
template <class Derived>
[[nodiscard]] typename Derived::Scalar frobenius_norm(const Eigen::MatrixBase<Derived>& M) {
  return M.stableNorm();
}

/// Schatten-Q_mu, the hypentropy of the singular values (Woodworth et al. 2020, Section 6; docs/theory.md, section
/// 5.3):
///
///     M = P diag(s) Q^T,     Q_mu(M) = sum_i mu^2 q(s_i / mu^2),     grad Q_mu(M) = P diag(arcsinh(s_i / (2 mu^2)))
///     Q^T
///
/// For commuting measurements, width k -> infinity and entries N(0, alpha^2) with `alpha^2 k -> 2 mu^2`, a limit of the
/// flow on `U V^T` that fits the data minimizes it. Convex; `mu -> 0` gives the nuclear norm, `mu -> infinity` the
/// squared Frobenius norm, each up to a factor.
template <class S = double>
class SchattenHypentropy {
 public:
  using Scalar = S;

  /// For rows x cols matrices. Throws DimensionError unless both are positive, ArgumentError where mu^2 overflows.
  SchattenHypentropy(Index rows, Index cols, Scale<S> mu)
      : rows_(rows), cols_(cols), spectral_(Hypentropy<S>::uniform(std::max<Index>(std::min(rows, cols), 0), mu)) {}

  /// mu.
  [[nodiscard]] Scale<S> scale() const { return spectral_.scale(); }

  /// `Q_mu(M)`; nonnegative, 0 at M = 0. Throws DimensionError for another shape, NonFiniteError. Cost: one SVD.
  [[nodiscard]] S value(const Matrix<S>& M) const {
    check(M);
    return spectral_.value(detail::svd_values(M));
  }

  /// `grad Q_mu(M)`, rows x cols. Throws likewise. Cost: one SVD.
  [[nodiscard]] Matrix<S> gradient(const Matrix<S>& M) const {
    check(M);
    detail::Svd<S> svd;
    detail::compute_svd(M, Eigen::ComputeThinU | Eigen::ComputeThinV, svd);
    Vector<S> z(svd.singularValues().size());
    spectral_.gradient(svd.singularValues(), z);
    return svd.matrixU() * z.asDiagonal() * svd.matrixV().transpose();
  }

 private:
  void check(const Matrix<S>& M) const {
    require<DimensionError>(M.rows() == rows_ && M.cols() == cols_, "M is ", M.rows(), " x ", M.cols(), " where ",
                            rows_, " x ", cols_, " is needed");
    require_finite("M", M);
  }

  Index rows_;
  Index cols_;
  Hypentropy<S> spectral_;
};

}  // namespace richflow
