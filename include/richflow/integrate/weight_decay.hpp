#pragma once

#include <cmath>
#include <concepts>
#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"
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

/// Throws ArgumentError for a pointer or a std::function that is empty.
template <class F>
void require_function([[maybe_unused]] const F& lambda) {
  if constexpr (std::is_pointer_v<F>)
    require(lambda != nullptr, "lambda is a null pointer where a function is needed");
  else if constexpr (requires { lambda.operator bool(); })
    require(static_cast<bool>(lambda), "lambda is an empty function");
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

/// What a decaying problem solves with: where the problem has no solver of its own, nothing.
template <class P>
struct DecaySolver {};
template <HasLinearSolver P>
struct DecaySolver<P> {
  typename P::LinearSolver inner;
  typename P::Scalar rate = typename P::Scalar(0);
};

}  // namespace detail

/// A problem on weights with weight decay: the flow `w' = -grad L(w) - 2 lambda(t) w` of `L + lambda |w|^2`, and for a
/// rule the gradients of that, so that descent is `w <- (1 - 2 h lambda) w - h grad L`. lambda is a number or a
/// function of the time of the run, such as a DecaySchedule, which the predictions take, too.
///
///     integrate(WithWeightDecay(GradientFlow(net, data), 0.01), w0, TimeSpan{0, 1000}, DormandPrince{}, controller)
///     const auto falling = [](double t) { return 0.1 / (1 + t); };
///     const StochasticGradient samples(net, data, {.batch_size = 1});
///     integrate(WithWeightDecay(samples, falling), w0, Steps{1000}, Descent{}, ConstantStep{1e-3})
///
/// The linearly implicit and the exponential steppers work on it where they do on the problem: decay adds `2 lambda I`
/// to `S`, a shift of the systems that they solve anyway. Where lambda depends on t, its derivative is a difference
/// over a small part of the step.
///
/// `loss` is L, without the decay: what events look at is the fit. On the diagonal nets the flow's effective scale at
/// time t is `alpha exp(-2 integral of lambda)` (docs/theory.md, section 7.6). A run whose decay leaves nothing of the
/// net ends like any other: `loss` is then that of f = 0, and EffectiveStart and predicted_start say so.
template <VectorField P>
class WithWeightDecay {
 public:
  /// Number type.
  using Scalar = typename P::Scalar;

  /// Constant decay. Throws ArgumentError unless lambda is finite and not negative.
  WithWeightDecay(P problem, std::type_identity_t<Scalar> lambda)
      : problem_(std::move(problem)), lambda_([lambda](Scalar /*t*/) { return lambda; }), is_constant_(true) {
    using std::isfinite;
    require(isfinite(lambda) && lambda >= Scalar(0), "lambda must be finite and not negative, got ", lambda);
  }
  /// `lambda(t)`; one that is negative or not finite ends the run as non_finite. Throws ArgumentError for a function
  /// that is empty.
  template <class F,  // not by a constraint, which clang 14 does not look at where it deduces P
            class = std::enable_if_t<std::is_invocable_r_v<typename P::Scalar, const F&, typename P::Scalar>>>
  WithWeightDecay(P problem, F lambda) : problem_(std::move(problem)) {
    detail::require_function(lambda);
    if constexpr (requires { bool(lambda.is_constant()); }) is_constant_ = lambda.is_constant();
    lambda_ = std::move(lambda);
  }

  /// P.
  [[nodiscard]] Index dimension() const { return problem_.dimension(); }
  /// The problem without decay.
  [[nodiscard]] const P& problem() const { return problem_; }
  /// lambda at time t.
  [[nodiscard]] Scalar lambda(Scalar t) const { return lambda_(t); }

  /// `dw = -grad L(w) - 2 lambda(t) w`.
  void operator()(Scalar t, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const {
    problem_(t, w, dw);
    detail::add_multiple(Scalar(-rate(t)), w.data(), dw.data(), dw.size());
  }
  /// L(w), without the decay.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const requires HasLoss<P> { return problem_.loss(w); }

  /// See HasErrorRatio.
  [[nodiscard]] Scalar error_ratio(const Vector<Scalar>& w, const Vector<Scalar>& w_new, const Vector<Scalar>& error,
                                   const Tolerance<Scalar>& tolerance) const requires HasErrorRatio<P> {
    return problem_.error_ratio(w, w_new, error, tolerance);
  }

  /// See HasTimeDerivative: whether lambda is one number, and the problem does not depend on t.
  [[nodiscard]] bool is_autonomous() const { return is_constant_ && !detail::depends_on_time(problem_); }
  /// `out = -2 lambda'(t) w`, by a difference of second order over h times the cubic root of the rounding unit, plus
  /// the time derivative of the problem.
  void time_derivative(Scalar t, Scalar h, ConstVectorRef<Scalar> w, VectorRef<Scalar> out) const {
    using std::cbrt;
    out.setZero();
    if constexpr (HasTimeDerivative<P>) problem_.time_derivative(t, h, w, out);
    if (is_constant_) return;
    // In floating point (t + part) - t is not part.
    const Scalar middle = t + h * cbrt(std::numeric_limits<Scalar>::epsilon());
    const Scalar part = middle - t;
    const Scalar end = middle + part;
    const Scalar change = Scalar(4) * rate(middle) - Scalar(3) * rate(t) - rate(end);
    const Scalar slope = part > Scalar(0) ? change / (Scalar(2) * part) : Scalar(0);
    for (Index i = 0; i < out.size(); ++i) out[i] -= slope * w[i];
  }

  /// The tangent space of the flow; see GradientFlow.
  [[nodiscard]] GaussNewtonTangent<Scalar> make_tangent() const requires GaussNewtonFlow<P> {
    GaussNewtonTangent<Scalar> tangent = problem_.make_tangent();
    tangent.add_decay([lambda = lambda_](Scalar t) { return Scalar(2) * detail::valid_decay<Scalar>(lambda(t)); });
    return tangent;
  }
  /// Whether the linearly implicit steppers can work on it through its tangent space.
  static constexpr bool has_curvature = GaussNewtonFlow<P>;

  /// The lower triangle of `S + 2 lambda(t) I`.
  void negative_jacobian(Scalar t, ConstVectorRef<Scalar> w,
                         MatrixRef<Scalar> S) const requires SymmetricStiffField<P> {
    problem_.negative_jacobian(t, w, S);
    S.diagonal().array() += rate(t);
  }
  /// See HasApproximateJacobian.
  void negative_jacobian(Scalar t, ConstVectorRef<Scalar> w, Scalar relative, Scalar absolute,
                         MatrixRef<Scalar> S) const requires HasApproximateJacobian<P> {
    problem_.negative_jacobian(t, w, relative, absolute, S);
    S.diagonal().array() += rate(t);
  }

  /// See HasLinearSolver.
  using LinearSolver = detail::DecaySolver<P>;
  /// See HasLinearSolver.
  [[nodiscard]] LinearSolver make_linear_solver() const requires HasLinearSolver<P> {
    return {problem_.make_linear_solver()};
  }
  /// See HasLinearSolver.
  void linearize(Scalar t, ConstVectorRef<Scalar> w, LinearSolver& solver) const requires HasLinearSolver<P> {
    problem_.linearize(t, w, solver.inner);
    solver.rate = rate(t);
  }
  /// See HasLinearSolver.
  [[nodiscard]] bool factorize(Scalar shift, LinearSolver& solver) const requires HasLinearSolver<P> {
    return problem_.factorize(shift + solver.rate, solver.inner);
  }
  /// See HasLinearSolver.
  void solve(LinearSolver& solver, VectorRef<Scalar> u) const requires HasLinearSolver<P> {
    problem_.solve(solver.inner, u);
  }

  /// See HasSource.
  [[nodiscard]] Index steps_per_epoch() const requires HasSource<P> { return problem_.steps_per_epoch(); }
  /// See HasSource.
  [[nodiscard]] std::unique_ptr<AnySource<Scalar>> make_source() const requires HasSource<P> {
    return std::make_unique<detail::DecaySource<Scalar>>(problem_.make_source(), lambda_);
  }

  /// See TakesDescentOnly.
  static constexpr bool takes_descent_only = TakesDescentOnly<P>;
  /// See DescendsMoreThanLoss.
  static constexpr bool descends_loss_alone = false;

  /// Which members there are depends on the problem.
  static constexpr bool has_conditional_members = true;

 private:
  [[nodiscard]] Scalar rate(Scalar t) const { return Scalar(2) * detail::valid_decay<Scalar>(lambda_(t)); }

  P problem_;
  std::function<Scalar(Scalar)> lambda_;
  bool is_constant_ = false;
};

template <class P, class Lambda>
WithWeightDecay(P, Lambda) -> WithWeightDecay<P>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_WEIGHT_DECAY(prefix, S) prefix template class detail::DecaySource<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_WEIGHT_DECAY)
