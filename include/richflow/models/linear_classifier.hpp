#pragma once

#include "richflow/core/compiled.hpp"
#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"

namespace richflow {

/// `f(w, x) = W^T x` with K outputs, w the d x K matrix W column by column: softmax regression. On the hidden features
/// of a network at its initialization it is training of the last layer alone. A BatchModel with HasBatchJvp.
template <class S>
class LinearClassifier {
 public:
  using Scalar = S;
  struct BatchWorkspace {
    Matrix<S> seed = {};  // max_batch x K
  };

  /// On d features with K outputs. Throws DimensionError unless both are positive.
  LinearClassifier(Index d, Index num_outputs);

  /// d K.
  [[nodiscard]] Index num_parameters() const { return d_ * num_outputs_; }
  /// d.
  [[nodiscard]] Index input_features() const { return d_; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return num_outputs_; }

  /// Memory for batches of up to `max_batch` samples.
  [[nodiscard]] BatchWorkspace make_batch_workspace(Index max_batch) const;
  /// `F = X W`, B x K.
  void forward(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> F, BatchWorkspace& /*ws*/) const;
  /// `target += scale X^T G`; `target` may be w itself.
  void add_pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target,
                    BatchWorkspace& ws) const;
  /// `dF = X V`.
  void forward_jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF,
                   BatchWorkspace& /*ws*/) const;

 private:
  [[nodiscard]] Eigen::Map<const Matrix<S>> matrix(ConstVectorRef<S> w) const { return {w.data(), d_, num_outputs_}; }

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> F) const;

  Index d_;
  Index num_outputs_;
};

template <class S>
LinearClassifier<S>::LinearClassifier(Index d, Index num_outputs) : d_(d), num_outputs_(num_outputs) {
  require<DimensionError>(d > 0 && num_outputs > 0, "a linear classifier needs d > 0 and num_outputs > 0, got ", d,
                          " and ", num_outputs);
}

template <class S>
typename LinearClassifier<S>::BatchWorkspace LinearClassifier<S>::make_batch_workspace(Index max_batch) const {
  require<DimensionError>(max_batch > 0, "max_batch must be positive, got ", max_batch);
  return {Matrix<S>::Zero(max_batch, num_outputs_)};
}

template <class S>
void LinearClassifier<S>::forward(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> F,
                                  BatchWorkspace& /*ws*/) const {
  check(w, X, F);
  detail::matrix_product<S>(X, matrix(w), F);
}

template <class S>
void LinearClassifier<S>::add_pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, S scale,
                                       VectorRef<S> target, BatchWorkspace& ws) const {
  check(w, X, G);
  require_size("target", target.size(), num_parameters());
  require<DimensionError>(X.rows() <= ws.seed.rows(), "the batch has ", X.rows(), " samples, the workspace room for ",
                          ws.seed.rows());
  auto seed = ws.seed.topRows(X.rows());
  seed = scale * G;
  Eigen::Map<Matrix<S>>(target.data(), d_, num_outputs_).noalias() += X.transpose() * seed;
}

template <class S>
void LinearClassifier<S>::forward_jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF,
                                      BatchWorkspace& /*ws*/) const {
  check(w, X, dF);
  require_size("v", v.size(), num_parameters());
  detail::matrix_product<S>(X, matrix(v), dF);
}

template <class S>
void LinearClassifier<S>::check(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> F) const {
  require_size("w", w.size(), num_parameters());
  require<DimensionError>(X.cols() == d_, "X has ", X.cols(), " columns where d = ", d_);
  require<DimensionError>(F.rows() == X.rows() && F.cols() == num_outputs_, "the outputs are ", F.rows(), " x ",
                          F.cols(), " where B = ", X.rows(), " and K = ", num_outputs_);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LINEAR_CLASSIFIER(prefix, S) prefix template class LinearClassifier<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LINEAR_CLASSIFIER)
