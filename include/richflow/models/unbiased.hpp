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

/// @file
/// Two ways to start from the zero function without starting from zero parameters: subtract the initial function, or
/// take the difference of two copies that start alike.

namespace richflow {

namespace detail {

/// The evaluation of an Unbiased model.
template <class S>
class UnbiasedEvaluation final : public EvaluationAround<S> {
 public:
  UnbiasedEvaluation(Evaluation<S> inner, const Vector<S>& start);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<UnbiasedEvaluation>(*this);
  }

  void set_samples(Samples<S> X) override { this->inner().forward(*start_, X, initial_.topRows(X.size())); }
  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;

 private:
  std::shared_ptr<const Vector<S>> start_;  // w(0); copies share it, since the inner evaluation may refer to it
  Matrix<S> initial_ = {};                  // f(w(0), X), max_batch x K
};

/// The evaluation of a Doubled model.
template <class S>
class DoubledEvaluation final : public AnyEvaluation<S> {
 public:
  explicit DoubledEvaluation(Evaluation<S> inner);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<DoubledEvaluation>(*this);
  }

  void set_samples(Samples<S> /*X*/) override { are_samples_new_ = true; }
  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;
  void linearize(ConstVectorRef<S> w, Samples<S> X) override;
  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override;
  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override;
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override;
  [[nodiscard]] Index num_units() const override { return 2 * first_.num_units(); }
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const override;

 private:
  Evaluation<S> first_;
  Evaluation<S> second_;
  Index half_;              // P of the model inside
  Matrix<S> outputs_ = {};  // of the second copy, max_batch x K
  Matrix<S> kernel_ = {};   // likewise, made where it is used first
  bool are_samples_new_ = true;
};

}  // namespace detail

/// A model minus its initial function, `g(w, x) = f(w, x) - f(w(0), x)`: unbiased, `g(w(0), .) = 0`, with the same
/// Jacobian, tangent kernel, units and invariant as f. The flow of g on labels y is that of f on labels
/// `y + f(w(0), X)`.
///
/// A Model with its own evaluation, in which `f(w(0), X)` is computed once for samples that stay the same, and HasJvp;
/// HasUnits and HasInvariant where f is.
template <class M>
requires(explain_model<M>()) class Unbiased : public detail::WrappedModel<Unbiased<M>, M> {
 public:
  using Scalar = typename M::Scalar;

  /// `model` minus its function at `start` = w(0). Throws DimensionError unless that has P entries and NonFiniteError
  /// if one is not finite.
  Unbiased(M model, Vector<Scalar> start)
      : detail::WrappedModel<Unbiased, M>(std::move(model)), start_(std::move(start)) {
    require_size("start", start_.size(), num_parameters());
    require_finite("start", start_);
  }

  /// w(0).
  [[nodiscard]] const Vector<Scalar>& start() const { return start_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return this->model().num_parameters(); }

  /// Memory for at most `max_batch` samples; threads share a batch where they do for f.
  [[nodiscard]] Evaluation<Scalar> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const {
    return Evaluation<Scalar>(std::make_unique<detail::UnbiasedEvaluation<Scalar>>(
        richflow::make_evaluation(this->model(), max_batch, parallel), start_));
  }

  /// Units of f.
  [[nodiscard]] Index num_units() const requires HasUnits<M> { return this->model().num_units(); }
  /// Per unit of f, the sum of the squares of its entries of v.
  void unit_square_norms(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasUnits<M> {
    this->model().unit_square_norms(v, out);
  }
  /// What the flow of f conserves.
  [[nodiscard]] Vector<Scalar> invariant(ConstVectorRef<Scalar> w) const requires HasInvariant<M> {
    return this->model().invariant(w);
  }

 private:
  Vector<Scalar> start_;
};

/// The difference of two copies of a model, `g((w, v), x) = f(w, x) - f(v, x)`. Started at w = v it is the zero
/// function with twice the tangent kernel of f, and stays a difference of two nets that move against each other.
///
/// A Model with its own evaluation and HasJvp; HasUnits and HasInvariant where f is.
template <class M>
requires(explain_model<M>()) class Doubled : public detail::WrappedModel<Doubled<M>, M> {
 public:
  using Scalar = typename M::Scalar;

  /// Two copies of `model`.
  explicit Doubled(M model)
      : detail::WrappedModel<Doubled, M>(std::move(model)), half_(this->model().num_parameters()) {}

  /// 2 P.
  [[nodiscard]] Index num_parameters() const { return 2 * half_; }
  /// `(start, start)`, at which the predictor is zero. Throws DimensionError unless `start` has P entries.
  [[nodiscard]] Vector<Scalar> initial_parameters(const Vector<Scalar>& start) const {
    require_size("start", start.size(), half_);
    Vector<Scalar> w(2 * half_);
    w << start, start;
    return w;
  }

  /// Memory for at most `max_batch` samples; threads share a batch where they do for f.
  [[nodiscard]] Evaluation<Scalar> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const {
    return Evaluation<Scalar>(std::make_unique<detail::DoubledEvaluation<Scalar>>(
        richflow::make_evaluation(this->model(), max_batch, parallel)));
  }

  /// Twice the units of f.
  [[nodiscard]] Index num_units() const requires HasUnits<M> { return 2 * this->model().num_units(); }
  /// Per unit, those of w first, the sum of the squares of its entries of v.
  void unit_square_norms(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasUnits<M> {
    require_size("v", v.size(), 2 * half_);
    this->model().unit_square_norms(v.head(half_), out.head(this->model().num_units()));
    this->model().unit_square_norms(v.tail(half_), out.tail(this->model().num_units()));
  }
  /// What the flow of f conserves, for both copies.
  [[nodiscard]] Vector<Scalar> invariant(ConstVectorRef<Scalar> w) const requires HasInvariant<M> {
    require_size("w", w.size(), 2 * half_);
    const Vector<Scalar> first = this->model().invariant(w.head(half_));
    const Vector<Scalar> second = this->model().invariant(w.tail(half_));
    Vector<Scalar> both(first.size() + second.size());
    both << first, second;
    return both;
  }

 private:
  Index half_;
};

namespace detail {

template <class S>
UnbiasedEvaluation<S>::UnbiasedEvaluation(Evaluation<S> inner, const Vector<S>& start)
    : EvaluationAround<S>(std::move(inner)), start_(std::make_shared<const Vector<S>>(start)) {
  initial_.resize(this->shape().max_batch, this->shape().num_outputs);
}

template <class S>
void UnbiasedEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) {
  this->inner().forward(w, F);
  F -= initial_.topRows(X.size());
}

template <class S>
DoubledEvaluation<S>::DoubledEvaluation(Evaluation<S> inner)
    : AnyEvaluation<S>({2 * inner.num_parameters(), inner.num_outputs(), inner.max_batch(), inner.num_inputs(),
                        inner.takes_measurements()}),
      first_(std::move(inner)),
      second_(first_),
      half_(first_.num_parameters()) {
  outputs_.resize(first_.max_batch(), first_.num_outputs());
}

template <class S>
void DoubledEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) {
  auto second = outputs_.topRows(X.size());
  if (are_samples_new_) {
    first_.forward(w.head(half_), X, F);
    second_.forward(w.tail(half_), X, second);
    are_samples_new_ = false;
  } else {
    first_.forward(w.head(half_), F);
    second_.forward(w.tail(half_), second);
  }
  F -= second;
}

template <class S>
void DoubledEvaluation<S>::linearize(ConstVectorRef<S> /*w*/, Samples<S> /*X*/) {
  first_.linearize();
  second_.linearize();
}

template <class S>
void DoubledEvaluation<S>::add_pullback(ConstVectorRef<S> /*w*/, Samples<S> /*X*/, ConstMatrixRef<S> G, S scale,
                                        VectorRef<S> target) {
  first_.add_pullback(G, scale, target.head(half_));
  second_.add_pullback(G, -scale, target.tail(half_));
}

template <class S>
void DoubledEvaluation<S>::jvp(ConstVectorRef<S> /*w*/, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) {
  auto second = outputs_.topRows(X.size());
  first_.jvp(v.head(half_), dF);
  second_.jvp(v.tail(half_), second);
  dF -= second;
}

template <class S>
void DoubledEvaluation<S>::kernel(ConstVectorRef<S> /*w*/, Samples<S> /*X*/, KernelForm form, MatrixRef<S> K) {
  kernel_.resize(K.rows(), K.cols());
  first_.kernel(K, form);
  second_.kernel(kernel_, form);
  K += kernel_;
}

template <class S>
void DoubledEvaluation<S>::unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const {
  first_.unit_square_norms(v.head(half_), out.head(first_.num_units()));
  second_.unit_square_norms(v.tail(half_), out.tail(first_.num_units()));
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_UNBIASED(prefix, S)       \
  prefix template class detail::UnbiasedEvaluation<S>; \
  prefix template class detail::DoubledEvaluation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_UNBIASED)
