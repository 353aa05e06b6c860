#pragma once

#include <cmath>
#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/has_member.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// Rules: what a step of an algorithm does with a gradient. `integrate` takes a rule where it takes a stepper,
///
///     integrate(GradientFlow(net, data), w0, Steps{1000}, HeavyBall{.momentum = 0.9}, ConstantStep{1e-3})
///     integrate(StochasticGradient(net, data, {.batch_size = 1}), w0, Epochs{50}, Descent{}, ConstantStep{1e-3})
///
/// on a problem with a source of gradients (HasSource) or on any vector field `w' = -grad L(w)`, of which each step
/// sees all. A rule of your own is a class with a call operator,
///
///     struct SignDescent {
///       [[nodiscard]] Index memory_size(Index num_parameters) const { return num_parameters; }
///       void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w,
///                       VectorRef<double> memory) const {
///         gradient.write(memory);
///         w.array() -= step * memory.array().sign();
///       }
///     };

namespace richflow {

/// A rule for weights of type S: `rule(gradient, step, w, memory)` makes the next weights of w, which holds the present
/// ones. `gradient` (a StepGradient) is at those, whatever becomes of w meanwhile. `memory` is the rule's own, zero at
/// first and kept from step to step, also by checkpoints; it has `memory_size(P)` entries, or none where there is no
/// such member. `step` is the length that the controller chose. Must not throw and must not allocate.
///
/// A rule that is linear in the gradients may have `double long_run_gain() const`: in all, a gradient g moves w by this
/// times `-step * g`. EffectiveStart takes it from there.
template <class R, class S>
concept DescentRule = requires(const R& rule, const StepGradient<S>& gradient, S step, VectorRef<S> w,
                               VectorRef<S> memory) {
  rule(gradient, step, w, memory);
};

namespace detail {

template <class S>
void require_momentum(const char* rule, S momentum) {
  require(momentum >= S(0) && momentum < S(1), rule, ": momentum must be in [0, 1), got ", momentum);
}

}  // namespace detail

/// Gradient descent, `w <- w - h g`: on a flow the same iterates as `Euler`. With one sample or a batch in each step
/// stochastic gradient descent.
struct Descent {
  /// 1.
  [[nodiscard]] static double long_run_gain() { return 1.0; }
  /// The step.
  template <class S>
  void operator()(const StepGradient<S>& gradient, std::type_identity_t<S> step, std::type_identity_t<VectorRef<S>> w,
                  std::type_identity_t<VectorRef<S>> /*memory*/) const {
    gradient.add_to(w, -step);
  }
};

/// Heavy-ball momentum (Polyak 1964): `v <- m v - h g`, `w <- w + v`, v = 0 at first.
struct HeavyBall {
  double momentum = 0.9;  ///< m, in [0, 1)

  /// Throws ArgumentError unless `0 <= momentum < 1`.
  void check() const { detail::require_momentum("HeavyBall", momentum); }
  /// 1 / (1 - m).
  [[nodiscard]] double long_run_gain() const { return 1.0 / (1.0 - momentum); }
  /// v.
  [[nodiscard]] static Index memory_size(Index num_parameters) { return num_parameters; }
  /// The step.
  template <class S>
  void operator()(const StepGradient<S>& gradient, std::type_identity_t<S> step, std::type_identity_t<VectorRef<S>> w,
                  std::type_identity_t<VectorRef<S>> v) const {
    v *= static_cast<S>(momentum);
    gradient.add_to(v, -step);
    w += v;
  }
};

/// Nesterov's momentum (1983) in the variable at which gradients are taken: `v <- m v - h g`,
/// `w <- w + m v - h g`, v = 0 at first. The weights are those that look ahead, `u + m v` of the sequence
/// `v <- m v - h grad L(u + m v)`, `u <- u + v`; both have the same limit.
struct Nesterov {
  double momentum = 0.9;  ///< m, in [0, 1)

  /// Throws ArgumentError unless `0 <= momentum < 1`.
  void check() const { detail::require_momentum("Nesterov", momentum); }
  /// 1 / (1 - m).
  [[nodiscard]] double long_run_gain() const { return 1.0 / (1.0 - momentum); }
  /// v.
  [[nodiscard]] static Index memory_size(Index num_parameters) { return num_parameters; }
  /// The step.
  template <class S>
  void operator()(const StepGradient<S>& gradient, std::type_identity_t<S> step, std::type_identity_t<VectorRef<S>> w,
                  std::type_identity_t<VectorRef<S>> v) const {
    const S m = static_cast<S>(momentum);
    w -= m * v;  // u
    v *= m;
    gradient.add_to(v, -step);
    w += (S(1) + m) * v;
  }
};

namespace detail {

/// The gradient of a vector field `w' = -grad L(w)`.
template <class S>
class FieldSource final : public AnySource<S> {
 public:
  explicit FieldSource(const AnyField<S>& field) : field_(field) { derivative_.setZero(field.dimension()); }

  void begin_step(Index /*k*/, S t, const Vector<S>& w) override { field_(t, w, derivative_); }
  void add_gradient(S scale, VectorRef<S> target) override {
    add_multiple(S(-scale), derivative_.data(), target.data(), target.size());
  }

 private:
  const AnyField<S>& field_;
  Vector<S> derivative_ = {};
};

/// A rule of any type.
template <class S>
class AnyRule {
 public:
  virtual ~AnyRule() = default;
  [[nodiscard]] virtual Index memory_size(Index num_parameters) const = 0;
  virtual void apply(const StepGradient<S>& gradient, S step, VectorRef<S> w, VectorRef<S> memory) const = 0;
  /// 0 where it has none.
  [[nodiscard]] virtual double long_run_gain() const = 0;
  /// Whether it is Descent, for which a source has a member of its own.
  [[nodiscard]] virtual bool is_descent() const = 0;
};

RICHFLOW_DEFINE_HAS_MEMBER(memory_size)
RICHFLOW_DEFINE_HAS_MEMBER(long_run_gain)

template <class R>
concept HasRuleMemory = requires(const R& rule, Index num_parameters) {
  { rule.memory_size(num_parameters) } -> std::convertible_to<Index>;
};
template <class R>
concept HasLongRunGain = requires(const R& rule) {
  { rule.long_run_gain() } -> std::convertible_to<double>;
};

/// A copy of a rule.
template <class S, DescentRule<S> R>
class RuleOf final : public AnyRule<S> {
 public:
  explicit RuleOf(const R& rule) : rule_(rule) {
    static_assert(HasRuleMemory<R> || !Has_memory_size<R>,
                  "richflow: the rule's memory_size does not fit: `Index memory_size(Index num_parameters) const`");
    static_assert(HasLongRunGain<R> || !Has_long_run_gain<R>,
                  "richflow: the rule's long_run_gain does not fit: `double long_run_gain() const`");
    if constexpr (requires { rule_.check(); }) rule_.check();
  }
  [[nodiscard]] Index memory_size([[maybe_unused]] Index num_parameters) const override {
    if constexpr (HasRuleMemory<R>)
      return rule_.memory_size(num_parameters);
    else
      return 0;
  }
  void apply(const StepGradient<S>& gradient, S step, VectorRef<S> w, VectorRef<S> memory) const override {
    rule_(gradient, step, w, memory);
  }
  [[nodiscard]] double long_run_gain() const override {
    if constexpr (HasLongRunGain<R>)
      return rule_.long_run_gain();
    else
      return 0.0;
  }
  [[nodiscard]] bool is_descent() const override { return std::is_same_v<R, Descent>; }

 private:
  const R rule_;
};

/// A rule as the stepper of the loop. Between two steps the weights are on the line between them. Steps in the memory
/// of the weights (`step_in_place`) are for Descent, and for rules that take all of the gradient before they change a
/// weight (HeavyBall).
template <class S>
class RuleStepper final : public AnyStepper<S> {
 public:
  /// `in_place`: for steps in the memory of the weights, and for no others.
  RuleStepper(const AnyRule<S>& rule, std::unique_ptr<AnySource<S>> source, Index num_parameters,
              bool in_place = false);

  void restore(Index step, const Vector<S>& memory) override;
  [[nodiscard]] const Vector<S>& memory() const override { return memory_; }
  void begin(S /*t*/, const Vector<S>& /*y*/) override {}
  void step(S t, S h, const Vector<S>& y, Vector<S>& y_new) override;
  void accept() override;
  bool step_forward(S t, S h, Vector<S>& y, Vector<S>& y_new) override;
  [[nodiscard]] S square_norm() const override { return square_norm_; }
  bool step_in_place(S t, S h, Vector<S>& w) override;
  [[nodiscard]] const StepCounters& counters() const override { return counters_; }

  [[nodiscard]] int error_order() const override { throw_absent("error_order"); }
  const Vector<S>& error() override { throw_absent("error"); }
  [[nodiscard]] bool shares_derivatives() const override { return false; }
  const Vector<S>& start_derivative(S /*t*/, const Vector<S>& /*y*/) override { throw_absent("start_derivative"); }
  const Vector<S>& end_derivative(S /*t*/, const Vector<S>& /*y*/) override { throw_absent("end_derivative"); }
  [[nodiscard]] bool is_dense() const override { return true; }
  void interpolate(S theta, S h, const Vector<S>& y, const Vector<S>& y_new, Vector<S>& out) const override;
  [[nodiscard]] bool has_long_steps() const override { return false; }
  [[nodiscard]] S step_floor() const override { return S(0); }
  [[nodiscard]] bool is_discrete() const override { return true; }
  [[nodiscard]] const StepResiduals<S>* residuals() const override { return &residuals_; }

 private:
  void look_back(S h);

  const AnyRule<S>& rule_;
  std::unique_ptr<AnySource<S>> source_;
  Vector<S> memory_ = {};
  Vector<S> memory_new_ = {};  // so that a step that fails leaves the memory of the last good one
  Index next_step_ = 0;
  S square_norm_ = S(-1);
  StepResiduals<S> residuals_ = {};
  StepCounters counters_ = {};
};

template <class S>
RuleStepper<S>::RuleStepper(const AnyRule<S>& rule, std::unique_ptr<AnySource<S>> source, Index num_parameters,
                            bool in_place)
    : rule_(rule), source_(std::move(source)) {
  const Index size = rule.memory_size(num_parameters);
  require(size >= 0, "the rule has memory_size = ", size);
  memory_.setZero(size);
  if (!in_place) memory_new_.setZero(size);
}

template <class S>
void RuleStepper<S>::restore(Index step, const Vector<S>& memory) {
  next_step_ = step;
  square_norm_ = S(-1);
  memory_.setZero();
  if (step == 0 && memory.size() == 0) return;
  require(memory.size() == memory_.size(), "the state to resume from has ", memory.size(),
          " numbers of memory where the rule has ", memory_.size(), ": it is of another rule");
  memory_ = memory;
}

template <class S>
void RuleStepper<S>::step(S t, S h, const Vector<S>& y, Vector<S>& y_new) {
  source_->begin_step(next_step_, t, y);
  if (rule_.is_descent()) {
    square_norm_ = source_->descend(-h, y, y_new);
  } else {
    y_new = y;
    memory_new_ = memory_;
    rule_.apply(StepGradient<S>(*source_), h, y_new, memory_new_);
  }
  look_back(h);
}

template <class S>
bool RuleStepper<S>::step_forward(S t, S h, Vector<S>& y, Vector<S>& y_new) {
  // |y|^2 was made by the step before; a first step has none.
  if (!rule_.is_descent() || !(square_norm_ >= S(0))) {
    step(t, h, y, y_new);
    return false;
  }
  source_->begin_step(next_step_, t, y);
  const S square_norm = source_->descend_safely(-h, y, square_norm_);
  const bool is_made = square_norm >= S(0);
  square_norm_ = is_made ? square_norm : source_->descend(-h, y, y_new);
  look_back(h);
  return is_made;
}

template <class S>
bool RuleStepper<S>::step_in_place(S t, S h, Vector<S>& w) {
  source_->begin_step(next_step_, t, w);
  if (!source_->is_sound()) return false;
  if (rule_.is_descent())
    source_->descend(-h, w, w);
  else
    rule_.apply(StepGradient<S>(*source_), h, w, memory_);
  look_back(h);
  ++next_step_;
  return true;
}

template <class S>
void RuleStepper<S>::look_back(S h) {
  residuals_ = source_->residuals();
  residuals_.h = h;
  residuals_.long_run_gain = rule_.long_run_gain();
  ++counters_.evaluations;
}

template <class S>
void RuleStepper<S>::accept() {
  memory_.swap(memory_new_);
  ++next_step_;
}

template <class S>
void RuleStepper<S>::interpolate(S theta, S /*h*/, const Vector<S>& y, const Vector<S>& y_new, Vector<S>& out) const {
  multiple(S(S(1) - theta), y, out);
  add_multiple(theta, y_new, out);
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_RULE(prefix, S)    \
  prefix template class detail::FieldSource<S>; \
  prefix template class detail::RuleStepper<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_RULE)
