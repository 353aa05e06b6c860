#pragma once

#include <utility>

#include "richflow/core/types.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow::detail {

/// What the models that wrap another one have in common: `predict`, `vjp` and `jvp` by their evaluation. `Self` derives
/// from it and has `make_evaluation`; M is the model inside.
template <class Self, class M>
class WrappedModel {
 public:
  using Scalar = typename M::Scalar;
  /// Optional members of what is inside are its own.
  static constexpr bool has_conditional_members = true;

  /// The model inside, f.
  [[nodiscard]] const M& model() const { return model_; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return detail::num_outputs(model_); }
  /// d.
  [[nodiscard]] Index input_dimension() const requires HasInputDimension<M> { return model_.input_dimension(); }

  /// The outputs at w, N x K. Allocates an evaluation, here and below.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, MatrixRef<Scalar> F) const {
    InBatches<Scalar>(self(), X.rows()).predict(w, X, F);
  }
  /// `out = J(w)^T G`.
  void vjp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstMatrixRef<Scalar> G, VectorRef<Scalar> out) const {
    InBatches<Scalar>(self(), X.rows()).vjp(w, X, G, out);
  }
  /// `dF = J(w) v`, N x K.
  void jvp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, MatrixRef<Scalar> dF) const {
    InBatches<Scalar>(self(), X.rows()).jvp(w, X, v, dF);
  }

 protected:
  explicit WrappedModel(M model) : model_(std::move(model)) {}

 private:
  [[nodiscard]] const Self& self() const { return static_cast<const Self&>(*this); }

  M model_;
};

}  // namespace richflow::detail
