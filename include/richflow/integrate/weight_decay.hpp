#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/vector_field.hpp"
#include "richflow/linalg/kernels.hpp"

namespace richflow {

namespace detail {

/// NaN, which ends a run, for a decay that is negative or not finite.
template <class S>
[[nodiscard]] S valid_decay(S lambda) {
  using std::isfinite;
  return isfinite(lambda) && lambda >= S(0) ? lambda : std::numeric_limits<S>::quiet_NaN();
}

/// A source whose gradients are those of `L + lambda |w|^2`.
template <class S>
class DecaySource final : public AnySource<S> {
 public:
  DecaySource(std::unique_ptr<AnySource<S>> inner, std::function<S(S)> lambda)
      : inner_(std::move(inner)), lambda_(std::move(lambda)) {}

  void begin_step(Index k, S t, const Vector<S>& w) override {
    inner_->begin_step(k, t, w);
    w_ = &w;
    rate_ = S(2) * valid_decay<S>(lambda_(t));
  }
  void add_gradient(S scale, VectorRef<S> target) override {
    inner_->add_gradient(scale, target);
    add_multiple(S(scale * rate_), w_->data(), target.data(), target.size());
  }
  [[nodiscard]] StepResiduals<S> residuals() override {
    StepResiduals<S> seen = inner_->residuals();
    seen.decay += rate_;
    return seen;
  }

 private:
  std::unique_ptr<AnySource<S>> inner_;
  std::function<S(S)> lambda_;
  const Vector<S>* w_ = nullptr;
  S rate_ = S(0);
};

}  // namespace detail

/// A problem on weights with weight decay: the flow `w' = -grad L(w) - 2 lambda(t) w` of `L + lambda |w|^2`, and for a
/// rule the gradients of that, so that descent is `w <- (1 - 2 h lambda) w - h grad L`. lambda is a number or a
/// function of the time of the run.
///
///     integrate(WithWeightDecay(GradientFlow(net, data), 0.01), w0, TimeSpan{0, 1000}, DormandPrince{}, ...)
///     integrate(WithWeightDecay(StochasticGradient(net, data, {.batch_size = 1}), [](double t) { return ...; }), ...)
///
/// `loss` is L, without the decay: what events look at is the fit. On the diagonal nets the flow's effective scale at
/// time t is `alpha exp(-2 integral of lambda)`.
template <VectorField P>
class WithWeightDecay {
 public:
  /// Number type.
  using Scalar = typename P::Scalar;

  /// Constant decay. Throws ArgumentError unless lambda is finite and not negative.
  WithWeightDecay(P problem, std::type_identity_t<Scalar> lambda)
      : problem_(std::move(problem)), lambda_([lambda](Scalar /*t*/) { return lambda; }) {
    using std::isfinite;
    require(isfinite(lambda) && lambda >= Scalar(0), "lambda must be finite and not negative, got ", lambda);
  }
  /// `lambda(t)`; one that is negative or not finite ends the run as non_finite.
  template <class F,  // not by a constraint, which clang 14 does not look at where it deduces P
            class = std::enable_if_t<std::is_invocable_r_v<typename P::Scalar, const F&, typename P::Scalar>>>
  WithWeightDecay(P problem, F lambda) : problem_(std::move(problem)), lambda_(std::move(lambda)) {}

  /// P.
  [[nodiscard]] Index dimension() const { return problem_.dimension(); }
  /// The problem without decay.
  [[nodiscard]] const P& problem() const { return problem_; }
  /// lambda at time t.
  [[nodiscard]] Scalar lambda(Scalar t) const { return lambda_(t); }

  /// `dw = -grad L(w) - 2 lambda(t) w`.
  void operator()(Scalar t, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const {
    problem_(t, w, dw);
    detail::add_multiple(Scalar(Scalar(-2) * detail::valid_decay<Scalar>(lambda_(t))), w.data(), dw.data(), dw.size());
  }
  /// L(w), without the decay.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const requires HasLoss<P> { return problem_.loss(w); }

  /// See HasSource.
  [[nodiscard]] Index steps_per_epoch() const requires HasSource<P> { return problem_.steps_per_epoch(); }
  /// See HasSource.
  [[nodiscard]] std::unique_ptr<AnySource<Scalar>> make_source() const requires HasSource<P> {
    return std::make_unique<detail::DecaySource<Scalar>>(problem_.make_source(), lambda_);
  }

  /// See TakesDescentOnly.
  static constexpr bool takes_descent_only = TakesDescentOnly<P>;

  /// Which members there are depends on the problem.
  static constexpr bool has_conditional_members = true;

 private:
  P problem_;
  std::function<Scalar(Scalar)> lambda_;
};

template <class P, class Lambda>
WithWeightDecay(P, Lambda) -> WithWeightDecay<P>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_WEIGHT_DECAY(prefix, S) prefix template class detail::DecaySource<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_WEIGHT_DECAY)
