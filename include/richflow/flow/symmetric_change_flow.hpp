#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/spectral.hpp"

namespace richflow {

/// How a symmetric factorization starts from the zero predictor.
enum class ZeroStart {
  subtracted,  ///< `<U U^T - alpha^2 W_0, A>`, the initial predictor subtracted (Unbiased)
  doubled,     ///< `<U U^T - V V^T, A>` from U = V (Doubled)
};

/// The lifted flow of a symmetric factorization from a large start, `U U^T` from `U(0) = alpha U_0`, as the change from
/// that start: with `W_0 = U_0 U_0^T` and `M = U U^T - alpha^2 W_0`, in the time `tau = alpha^2 t`,
///
///     M' = -2 (G (W_0 + M / alpha^2) + (W_0 + M / alpha^2) G),   G = sum_n 2 r_n A_n,   r_n = <M, A_n> - y_n
///
/// (measurements that are not symmetric count as `(A + A^T) / 2`), whose numbers have one size for every alpha; at
/// alpha = infinity it is the linear flow of the tangent kernel, and ends at the predictor of least norm in its space,
/// which does not depend on alpha: `kernel_limit`. (Woodworth et al. 2020, appendix E; docs/theory.md, section 5.4.)
/// The flow's own limit nears it like alpha^-2 with the start subtracted, and like alpha^-4 with the doubled one, in
/// which the first-order changes of the two kernels cancel.
///
/// A vector field with a loss, on the d x d matrix M, column after column; of a doubled start on `U U^T` and `V V^T`
/// less their starts, one behind the other. Not stiff beyond the condition of the kernel: DormandPrince runs it. Refers
/// to the dataset, which must outlive it. Calls share buffers, so give each thread its own copy. Cost: O(d^3) and the
/// measurements.
template <class S = double>
class SymmetricChangeFlow {
 public:
  using Scalar = S;

  /// From `U(0) U(0)^T = alpha^2 W0`, on measurements of d x d matrices. Throws ArgumentError unless the data are
  /// measurements, `alpha^-2` is in the range of S, and W0 is symmetric and positive semidefinite up to rounding;
  /// DimensionError where shapes do not fit, NonFiniteError where W0 is not finite.
  SymmetricChangeFlow(const Dataset<S>& dataset, const Matrix<S>& W0, Scale<S> scale, ZeroStart start);
  /// The flow at alpha = infinity.
  SymmetricChangeFlow(const Dataset<S>& dataset, const Matrix<S>& W0, ZeroStart start = ZeroStart::subtracted)
      : SymmetricChangeFlow(dataset, W0, S(0), start) {}
  SymmetricChangeFlow(const Dataset<S>&&, const Matrix<S>&, Scale<S>, ZeroStart) = delete;
  SymmetricChangeFlow(const Dataset<S>&&, const Matrix<S>&, ZeroStart = ZeroStart::subtracted) = delete;

  /// d^2, twice that for a doubled start.
  [[nodiscard]] Index dimension() const { return (is_doubled_ ? 2 : 1) * size_ * size_; }
  /// The start: nothing has changed.
  [[nodiscard]] Vector<S> initial_state() const { return Vector<S>::Zero(dimension()); }

  /// The predictor's matrix at a state, d x d, which is zero at the start.
  [[nodiscard]] Matrix<S> matrix(ConstVectorRef<S> state) const;

  /// The right-hand side, in the time tau.
  void operator()(S tau, ConstVectorRef<S> state, VectorRef<S> out) const;

  /// `L = sum_n r_n^2`.
  [[nodiscard]] S loss(ConstVectorRef<S> state) const;

  /// Where the flow ends at alpha = infinity, from either start: `M = sum_n c_n (B_n W_0 + W_0 B_n)`, `B_n = A_n +
  /// A_n^T`, with the interpolating c. Throws InfeasibleError where the tangent kernel is singular to working precision
  /// (too few columns of U_0, or measurements that depend on each other), with its eigenvalue range. Cost O(N^3 + N
  /// d^3).
  [[nodiscard]] Matrix<S> kernel_limit() const;

 private:
  SymmetricChangeFlow(const Dataset<S>& dataset, const Matrix<S>& W0, S inverse_square, ZeroStart start);

  static S inverse_square_of(Scale<S> scale);

  [[nodiscard]] Eigen::Map<const Matrix<S>> part(const ConstVectorRef<S>& state, Index which) const {
    return {state.data() + which * size_ * size_, size_, size_};
  }
  void measure(const ConstVectorRef<S>& state) const;

  const Dataset<S>* dataset_;
  Index size_;
  Matrix<S> W0_;
  S inverse_square_;  // alpha^-2
  bool is_doubled_;
  mutable Vector<S> residual_;
  mutable Matrix<S> difference_;
  mutable Matrix<S> B_;
  mutable Matrix<S> W_;
  mutable Matrix<S> product_;
};

template <class S>
S SymmetricChangeFlow<S>::inverse_square_of(Scale<S> scale) {
  using std::exp;
  using std::isfinite;
  const S inverse_square = exp(S(-2) * scale.log());
  require(isfinite(inverse_square), "log alpha = ", scale.log(), " puts alpha^-2 outside the range of the scalar type");
  return inverse_square;
}

template <class S>
SymmetricChangeFlow<S>::SymmetricChangeFlow(const Dataset<S>& dataset, const Matrix<S>& W0, Scale<S> scale,
                                            ZeroStart start)
    : SymmetricChangeFlow(dataset, W0, inverse_square_of(scale), start) {}

template <class S>
SymmetricChangeFlow<S>::SymmetricChangeFlow(const Dataset<S>& dataset, const Matrix<S>& W0, S inverse_square,
                                            ZeroStart start)
    : dataset_(&dataset),
      size_(W0.rows()),
      W0_(W0),
      inverse_square_(inverse_square),
      is_doubled_(start == ZeroStart::doubled),
      residual_(dataset.num_samples()),
      difference_(size_, size_),
      B_(size_, size_),
      W_(size_, size_),
      product_(size_, size_) {
  require<DimensionError>(W0.rows() == W0.cols(), "W0 is ", W0.rows(), " x ", W0.cols(), ", and must be square");
  dataset.measurements().require_shape(FactorShape::symmetric(size_));
  require_finite("W0", W0);
  const S rounding = S(64) * static_cast<S>(size_) * std::numeric_limits<S>::epsilon() * W0.norm();
  const S off = (W0 - W0.transpose()).norm();
  require(off <= rounding, "W0 must be symmetric, and differs from its transpose by ", off);
  const S lowest = detail::lowest_eigenvalue(W0_);
  require(lowest >= -rounding, "W0 = U_0 U_0^T must be positive semidefinite, and has the eigenvalue ", lowest);
}

template <class S>
Matrix<S> SymmetricChangeFlow<S>::matrix(ConstVectorRef<S> state) const {
  require_size("state", state.size(), dimension());
  if (!is_doubled_) return part(state, 0);
  return part(state, 0) - part(state, 1);
}

template <class S>
void SymmetricChangeFlow<S>::measure(const ConstVectorRef<S>& state) const {
  require_size("state", state.size(), dimension());
  difference_ = part(state, 0);
  if (is_doubled_) difference_ -= part(state, 1);
  residual_ = -dataset_->y();
  dataset_->measurements().operations().add_values(difference_, residual_);
}

template <class S>
void SymmetricChangeFlow<S>::operator()(S /*tau*/, ConstVectorRef<S> state, VectorRef<S> out) const {
  measure(state);
  residual_ *= S(2);
  B_.setZero();
  dataset_->measurements().operations().add_matrix(FactorShape::symmetric(size_), residual_, B_);
  for (Index which = 0; which < (is_doubled_ ? 2 : 1); ++which) {
    W_ = W0_ + inverse_square_ * part(state, which);
    detail::matrix_product<S>(B_, W_, product_);
    Eigen::Map<Matrix<S>> change(out.data() + which * size_ * size_, size_, size_);
    const S sign = which == 0 ? S(-1) : S(1);
    for (Index j = 0; j < size_; ++j)
      for (Index i = 0; i < size_; ++i) change(i, j) = sign * (product_(i, j) + product_(j, i));
  }
}

template <class S>
S SymmetricChangeFlow<S>::loss(ConstVectorRef<S> state) const {
  measure(state);
  return residual_.squaredNorm();
}

template <class S>
Matrix<S> SymmetricChangeFlow<S>::kernel_limit() const {
  const Index n = dataset_->num_samples();
  const FactorShape shape = FactorShape::symmetric(size_);
  const AnyMeasurements<S>& measured = dataset_->measurements().operations();
  Matrix<S> K = Matrix<S>::Zero(n, n);
  Matrix<S> scratch = Matrix<S>::Zero(size_, 3 * size_);
  measured.kernel(shape, Matrix<S>::Identity(size_, size_), W0_, K, scratch);
  K.template triangularView<Eigen::StrictlyUpper>() = K.transpose();
  detail::SymmetricEigen<S> eigen;
  detail::compute_eigen(K, eigen);
  const S lowest = eigen.eigenvalues()[0];
  const S largest = eigen.eigenvalues()[n - 1];
  require<InfeasibleError>(eigen.info() == Eigen::Success &&
                               lowest > S(64) * static_cast<S>(n) * std::numeric_limits<S>::epsilon() * largest,
                           "the tangent kernel of the start is singular: its eigenvalues lie between ", lowest, " and ",
                           largest);
  const Vector<S> c =
      eigen.eigenvectors() * (eigen.eigenvectors().transpose() * dataset_->y()).cwiseQuotient(eigen.eigenvalues());
  Matrix<S> B = Matrix<S>::Zero(size_, size_);
  measured.add_matrix(shape, c, B);
  const Matrix<S> BW = B * W0_;
  return BW + BW.transpose();
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SYMMETRIC_CHANGE_FLOW(prefix, S) prefix template class SymmetricChangeFlow<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SYMMETRIC_CHANGE_FLOW)
