#pragma once

#include <cmath>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/spectral.hpp"

namespace richflow {

/// The gradient flow of a deep factorization from a balanced start, in its product alone (Arora et al. 2018, 2019;
/// docs/theory.md, section 5.5): with `G = sum_n 2 r_n X_n`, the gradient of the loss by M,
///
///     M' = -sum_{j=1}^{L} (M M^T)^{(L-j)/L} G (M^T M)^{(j-1)/L}
///
/// whatever the widths of the hidden layers, if none is below min(d1, d2) (or the rank at the start): the exact
/// reduction of DeepFactorization, `pack_layers(balanced_layers(...))`. At depth 1 the flow of M itself.
///
/// A vector field with a loss; the state is vec(M), column after column. At depth L >= 2 a singular M stays singular,
/// and the flow is not smooth there: use explicit steppers (DormandPrince) and watch the smallest singular values.
/// Refers to the dataset, which must outlive it. Calls share buffers, so give each thread its own copy.
/// Cost: a singular value decomposition and the measurements.
template <class S = double>
class EndToEndFlow {
 public:
  using Scalar = S;

  /// At this depth, on measurements of d1 x d2 matrices. Throws ArgumentError unless depth > 0 and the data are
  /// measurements.
  EndToEndFlow(Index depth, const Dataset<S>& dataset);
  EndToEndFlow(Index, const Dataset<S>&&) = delete;

  /// d1 d2.
  [[nodiscard]] Index dimension() const { return matrix_.size(); }
  /// M of a state.
  [[nodiscard]] Matrix<S> matrix(ConstVectorRef<S> state) const {
    require_size("state", state.size(), dimension());
    return Eigen::Map<const Matrix<S>>(state.data(), matrix_.rows(), matrix_.cols());
  }

  /// The right-hand side.
  void operator()(S t, ConstVectorRef<S> state, VectorRef<S> out) const;

  /// `L = sum_n r_n^2`.
  [[nodiscard]] S loss(ConstVectorRef<S> state) const;

 private:
  void measure(const ConstVectorRef<S>& state) const;

  Index depth_;
  const Dataset<S>* dataset_;
  mutable Matrix<S> matrix_;
  mutable Matrix<S> gradient_;
  mutable Matrix<S> product_;
  mutable Vector<S> residual_;
  mutable detail::Svd<S> svd_;
};

template <class S>
EndToEndFlow<S>::EndToEndFlow(Index depth, const Dataset<S>& dataset)
    : depth_(depth),
      dataset_(&dataset),
      matrix_(dataset.measurements().rows(), dataset.measurements().cols()),
      gradient_(matrix_.rows(), matrix_.cols()),
      product_(matrix_.rows(), matrix_.cols()),
      residual_(dataset.num_samples()),
      svd_(matrix_.rows(), matrix_.cols(), Eigen::ComputeFullU | Eigen::ComputeFullV) {
  require(depth > 0, "the depth must be positive, got ", depth);
}

template <class S>
void EndToEndFlow<S>::measure(const ConstVectorRef<S>& state) const {
  require_size("state", state.size(), dimension());
  matrix_ = Eigen::Map<const Matrix<S>>(state.data(), matrix_.rows(), matrix_.cols());
  residual_ = -dataset_->y();
  dataset_->measurements().operations().add_values(matrix_, residual_);
}

template <class S>
void EndToEndFlow<S>::operator()(S /*t*/, ConstVectorRef<S> state, VectorRef<S> out) const {
  using std::pow;
  measure(state);
  residual_ *= S(-2);
  gradient_.setZero();
  dataset_->measurements().operations().add_adjoint(residual_, gradient_);
  detail::compute_svd(matrix_, Eigen::ComputeFullU | Eigen::ComputeFullV, svd_);
  const Vector<S>& values = svd_.singularValues();
  detail::product_of_transposed<S>(svd_.matrixU(), gradient_, product_);
  detail::matrix_product<S>(product_, svd_.matrixV(), gradient_);
  // Between directions of sizes a and b the sum is of a^{2 (L-j)/L} b^{2 (j-1)/L}.
  const S exponent = S(2) / static_cast<S>(depth_);
  const auto root = [&](Index i) { return i < values.size() ? S(pow(values[i], exponent)) : S(0); };
  for (Index j = 0; j < gradient_.cols(); ++j)
    for (Index i = 0; i < gradient_.rows(); ++i) {
      const S a = root(i);
      const S b = root(j);
      S sum(1);
      S power(1);
      for (Index l = 1; l < depth_; ++l) {
        power *= a;
        sum = sum * b + power;
      }
      gradient_(i, j) *= sum;
    }
  detail::matrix_product<S>(svd_.matrixU(), gradient_, product_);
  detail::product_with_transposed<S>(product_, svd_.matrixV(),
                                     Eigen::Map<Matrix<S>>(out.data(), matrix_.rows(), matrix_.cols()));
}

template <class S>
S EndToEndFlow<S>::loss(ConstVectorRef<S> state) const {
  measure(state);
  return residual_.squaredNorm();
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_END_TO_END_FLOW(prefix, S) prefix template class EndToEndFlow<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_END_TO_END_FLOW)
