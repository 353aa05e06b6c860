#pragma once

#include <memory>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/models/wrapped_model.hpp"

namespace richflow {

namespace detail {

/// The evaluation of a Linearized model: that of f, which stays at w0.
template <class S>
class LinearizedEvaluation final : public EvaluationAround<S> {
 public:
  LinearizedEvaluation(Evaluation<S> inner, const Vector<S>& point);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<LinearizedEvaluation>(*this);
  }

  void set_samples(Samples<S> X) override;
  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;

 private:
  std::shared_ptr<const Vector<S>> point_;  // w0; copies share it, since the inner evaluation refers to it
  Matrix<S> initial_ = {};                  // f(w0, X), max_batch x K
  Vector<S> moved_ = {};                    // w - w0
  bool is_first_ = true;                    // no forward on these samples yet
};

/// The evaluation at w0 of the tangent model there. Throws DimensionError unless w0 has P entries, NonFiniteError if
/// one is not finite.
template <class S>
[[nodiscard]] Evaluation<S> tangent_evaluation(Evaluation<S> inner, const Vector<S>& point) {
  require_size("w0", point.size(), inner.num_parameters());
  require_finite("w0", point);
  return Evaluation<S>(std::make_unique<LinearizedEvaluation<S>>(std::move(inner), point));
}

}  // namespace detail

/// The tangent model of a model at w0, `f_lin(w, x) = f(w0, x) + J(w0, x) (w - w0)`: linear in w, with the constant
/// tangent kernel `J(w0) J(w0)^T`. Its gradient flow is the kernel regime, whose whole trajectory `KernelPredictor`
/// gives in closed form.
///
/// A Model with its own evaluation and HasJvp; HasUnits where f is. On new samples an evaluation costs a `forward` and
/// a `jvp` of f, so that mini-batches train the tangent model without a Jacobian being stored; where the samples stay
/// the same f is linearized on them once.
template <class M>
requires(explain_model<M>()) class Linearized : public detail::WrappedModel<Linearized<M>, M> {
 public:
  using Scalar = typename M::Scalar;
  /// See HasSmoothUnits.
  static constexpr bool is_smooth = true;

  /// The tangent of `model` at `w0`. Throws DimensionError unless w0 has P entries, NonFiniteError if one is not
  /// finite.
  Linearized(M model, Vector<Scalar> w0) : detail::WrappedModel<Linearized, M>(std::move(model)), w0_(std::move(w0)) {
    require_size("w0", w0_.size(), num_parameters());
    require_finite("w0", w0_);
  }

  /// Where the model was linearized.
  [[nodiscard]] const Vector<Scalar>& point() const { return w0_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return this->model().num_parameters(); }

  /// Memory for at most `max_batch` samples; threads share a batch where they do for f.
  [[nodiscard]] Evaluation<Scalar> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const {
    return detail::tangent_evaluation(richflow::make_evaluation(this->model(), max_batch, parallel), w0_);
  }

  /// Units of f.
  [[nodiscard]] Index num_units() const requires HasUnits<M> { return this->model().num_units(); }
  /// Per unit of f, the sum of the squares of its entries of v.
  void unit_square_norms(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasUnits<M> {
    this->model().unit_square_norms(v, out);
  }

 private:
  Vector<Scalar> w0_;
};

namespace detail {

template <class S>
LinearizedEvaluation<S>::LinearizedEvaluation(Evaluation<S> inner, const Vector<S>& point)
    : EvaluationAround<S>(std::move(inner)), point_(std::make_shared<const Vector<S>>(point)), moved_(point) {
  initial_.resize(this->shape().max_batch, this->shape().num_outputs);
}

template <class S>
void LinearizedEvaluation<S>::set_samples(Samples<S> X) {
  this->inner().forward(*point_, X, initial_.topRows(X.size()));
  is_first_ = true;
}

template <class S>
void LinearizedEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) {
  if (!is_first_) this->inner().linearize();
  is_first_ = false;
  moved_ = w - *point_;
  this->inner().jvp(moved_, F);
  F += initial_.topRows(X.size());
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LINEARIZED(prefix, S) prefix template class detail::LinearizedEvaluation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LINEARIZED)
