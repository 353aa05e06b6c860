#pragma once

#include <memory>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/initialization.hpp"

namespace richflow {

/// `f(w, x) = W^T x` with K outputs, w the d x K matrix W column by column: softmax regression with the cross-entropy,
/// least squares with the squared loss. On the hidden features of a network at its initialization, training it is
/// training the last layer alone. A Model with its own evaluation and HasJvp.
template <class S = double>
class LinearClassifier : public detail::ByEvaluation<LinearClassifier<S>, S> {
 public:
  using Scalar = S;

  /// On d features with K outputs. Throws DimensionError unless both are positive.
  LinearClassifier(Index d, Index num_outputs);

  /// d K.
  [[nodiscard]] Index num_parameters() const { return d_ * num_outputs_; }
  /// d.
  [[nodiscard]] Index num_inputs() const { return d_; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return num_outputs_; }

  /// `alpha w0` with w0 drawn with variance 1 / d. Throws ArgumentError where alpha is outside the range of S.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, Scale<S> scale,
                                             HeInitialization law = HeInitialization::uniform) const;

  /// Memory for batches of up to `max_batch` samples; one thread works on them.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const;

 private:
  Index d_;
  Index num_outputs_;
};

namespace detail {

/// The evaluation of a LinearClassifier.
template <class S>
class LinearClassifierEvaluation final : public AnyEvaluation<S> {
 public:
  LinearClassifierEvaluation(const LinearClassifier<S>& model, Index max_batch);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<LinearClassifierEvaluation>(*this);
  }

  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;
  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override;
  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override;
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override;

 private:
  [[nodiscard]] Eigen::Map<const Matrix<S>> matrix(ConstVectorRef<S> w) const {
    return {w.data(), this->shape().num_inputs, this->shape().num_outputs};
  }

  Matrix<S> seed_ = {};  // max_batch x K
};

}  // namespace detail

template <class S>
LinearClassifier<S>::LinearClassifier(Index d, Index num_outputs) : d_(d), num_outputs_(num_outputs) {
  require<DimensionError>(d > 0 && num_outputs > 0, "a linear classifier needs d > 0 and num_outputs > 0, got ", d,
                          " and ", num_outputs);
}

template <class S>
Vector<S> LinearClassifier<S>::initial_parameters(RandomStream& random, Scale<S> scale, HeInitialization law) const {
  Vector<S> w(num_parameters());
  detail::draw_weights<S>(random, detail::representable_alpha(scale), law, 1.0, d_, w);
  return w;
}

template <class S>
Evaluation<S> LinearClassifier<S>::make_evaluation(Index max_batch, ParallelOptions /*parallel*/) const {
  return Evaluation<S>(std::make_unique<detail::LinearClassifierEvaluation<S>>(*this, max_batch));
}

namespace detail {

template <class S>
LinearClassifierEvaluation<S>::LinearClassifierEvaluation(const LinearClassifier<S>& model, Index max_batch)
    : AnyEvaluation<S>({model.num_parameters(), model.num_outputs(), max_batch, model.num_inputs()}) {
  seed_.resize(max_batch, model.num_outputs());
}

template <class S>
void LinearClassifierEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> points, MatrixRef<S> F) {
  const ConstMatrixRef<S> X = points.matrix();
  matrix_product<S>(X, matrix(w), F);
}

template <class S>
void LinearClassifierEvaluation<S>::add_pullback(ConstVectorRef<S> /*w*/, Samples<S> points, ConstMatrixRef<S> G,
                                                 S scale, VectorRef<S> target) {
  const ConstMatrixRef<S> X = points.matrix();
  auto seed = seed_.topRows(X.rows());
  seed = scale * G;
  add_product_of_transposed<S>(X, seed, Eigen::Map<Matrix<S>>(target.data(), X.cols(), G.cols()));
}

template <class S>
void LinearClassifierEvaluation<S>::jvp(ConstVectorRef<S> /*w*/, Samples<S> points, ConstVectorRef<S> v,
                                        MatrixRef<S> dF) {
  const ConstMatrixRef<S> X = points.matrix();
  matrix_product<S>(X, matrix(v), dF);
}

template <class S>
void LinearClassifierEvaluation<S>::kernel(ConstVectorRef<S> /*w*/, Samples<S> points, KernelForm form,
                                           MatrixRef<S> K) {
  const ConstMatrixRef<S> X = points.matrix();
  const Index samples = X.rows();
  const Index outputs = this->shape().num_outputs;
  auto first = K.topLeftCorner(samples, samples);
  product_with_transposed<S>(X, X, first);
  if (form == KernelForm::trace) {
    first *= static_cast<S>(outputs);
    return;
  }
  for (Index k = 1; k < outputs; ++k) {
    K.block(k * samples, 0, samples, k * samples).setZero();
    K.block(k * samples, k * samples, samples, samples) = first;
  }
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LINEAR_CLASSIFIER(prefix, S) \
  prefix template class LinearClassifier<S>;              \
  prefix template class detail::LinearClassifierEvaluation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LINEAR_CLASSIFIER)
