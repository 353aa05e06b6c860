#pragma once

#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

namespace richflow {

/// The gradient flow of a model on data, `w' = -grad L(w) = -2 J(w)^T r(w)`, with `r = f(w, X) - y` and
/// the plain-sum loss `L = |r|^2`. The state is the parameter vector w (P entries).
///
/// A TangentFlow: any integrator of richflow runs it. Holds its own copy of the model (a shape, no
/// weights) and refers to the dataset, which must outlive it. Calls allocate nothing; they share one
/// buffer of N values, so give each thread its own copy.
template <class M>
requires(explain_model<M>()) class GradientFlow {
 public:
  using Scalar = typename M::Scalar;

  /// `model` on `dataset`. Cost: O(N).
  GradientFlow(M model, const BasicDataset<Scalar>& dataset)
      : model_(std::move(model)), dataset_(&dataset), residual_(dataset.num_samples()) {
    if constexpr (LinearPredictor<M>)
      require<DimensionError>(model_.input_dimension() == dataset.dimension(), "the model takes ",
                              model_.input_dimension(), " features but X has ", dataset.dimension(), " columns");
  }
  GradientFlow(M, const BasicDataset<Scalar>&&) = delete;

  /// P.
  [[nodiscard]] Index dimension() const { return model_.num_parameters(); }
  /// N.
  [[nodiscard]] Index num_residuals() const { return dataset_->num_samples(); }
  /// The model.
  [[nodiscard]] const M& model() const { return model_; }
  /// The data.
  [[nodiscard]] const BasicDataset<Scalar>& dataset() const { return *dataset_; }

  /// `dw = -2 J(w)^T r(w)`. Cost: one `predict` and one `vjp` of the model.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const {
    residual(w, residual_);
    model_.vjp(w, dataset_->X(), residual_, dw);
    dw *= Scalar(-2);
  }

  /// `r = f(w, X) - y`, N values.
  void residual(ConstVectorRef<Scalar> w, VectorRef<Scalar> r) const {
    model_.predict(w, dataset_->X(), r);
    r -= dataset_->y();
  }

  /// `out = J(w)^T r`, P values.
  void vjp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const {
    model_.vjp(w, dataset_->X(), r, out);
  }

  /// `out = J(w) v`, N values; only for models with Jacobian-vector products.
  void jvp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasJvp<M> {
    model_.jvp(w, dataset_->X(), v, out);
  }

  /// `L(w) = |f(w, X) - y|^2`. Cost: one `predict`.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const {
    residual(w, residual_);
    return residual_.squaredNorm();
  }

 private:
  M model_;
  const BasicDataset<Scalar>* dataset_;
  mutable Vector<Scalar> residual_;
};

}  // namespace richflow
