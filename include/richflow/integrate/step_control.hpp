#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow {

/// What a step controller remembers from one step to the next. It is part of the resumable state of a
/// run; the controller itself is an immutable value.
template <class Scalar>
struct ControlMemory {
  Scalar step = Scalar(0);            ///< proposal for the next step, 0 before the first
  Scalar previous_ratio = Scalar(1);  ///< error ratio of the last accepted step
  bool rejected = false;              ///< the last attempt was rejected
  Scalar origin = Scalar(0);          ///< time from which `taken` counts
  Index taken = 0;                    ///< accepted steps since `origin`
  Index made = 0;                     ///< accepted steps since the very start
};

/// The next attempt: a step of length `h` that ends at `t_new`.
template <class Scalar>
struct StepPlan {
  Scalar h = Scalar(0);       ///< length
  Scalar t_new = Scalar(0);   ///< time at the end
  bool too_small = false;     ///< the step is below what the controller or rounding allows
  bool is_exhausted = false;  ///< the controller has no more steps
};

/// Chooses step lengths.
///
/// - `is_adaptive`: whether it judges errors; if so the stepper must estimate them, and the controller
///   has `tolerance` and `first_step` (0: chosen automatically)
/// - `check()`: throws ArgumentError unless its settings make sense
/// - `plan(t, end, memory)`: the next attempt
/// - `judge(ratio, h, error_order, memory)`: true to accept. NaN must be rejected. Sets the next step.
template <class C, class Scalar>
concept StepController = requires(const C& controller, Scalar t, ControlMemory<Scalar>& memory) {
  { C::is_adaptive } -> std::convertible_to<bool>;
  controller.check();
  { controller.plan(t, t, memory) } -> std::same_as<StepPlan<Scalar>>;
  { controller.judge(t, t, 1, memory) } -> std::same_as<bool>;
};

/// Steps of one length. The k-th time is `t0 + (t1 - t0) k / n` when `step` divides the span (up to
/// rounding) and `t0 + k step` otherwise, never a running sum; a last, shorter step ends exactly at t1.
///
///     integrate(flow, w, TimeSpan{0, 10}, Euler{}, ConstantStep<>{.step = 0.01});  // gradient descent
template <class Scalar = double>
struct ConstantStep {
  Scalar step = Scalar(0);  ///< length, > 0; must be given

  /// Errors are not judged.
  static constexpr bool is_adaptive = false;

  /// The same step in another number type.
  template <class T>
  [[nodiscard]] ConstantStep<T> cast() const {
    return {T(step)};
  }

  /// Throws ArgumentError unless `step` was given, is positive and finite.
  void check() const {
    using std::isfinite;
    require(isfinite(step) && step > Scalar(0), "ConstantStep: step must be given, positive and finite, got ", step);
  }

  /// The next step.
  [[nodiscard]] StepPlan<Scalar> plan(Scalar t, Scalar end, const ControlMemory<Scalar>& memory) const {
    using std::abs;
    using std::floor;
    using std::isfinite;
    const Scalar k = Scalar(memory.taken + 1);
    StepPlan<Scalar> next{step, memory.origin + k * step, false};
    if (isfinite(end)) {
      const Scalar span = end - memory.origin;
      const Scalar exact_count = span / step;
      const Scalar count = floor(exact_count + Scalar(0.5));
      const Scalar rounding = Scalar(64) * std::numeric_limits<Scalar>::epsilon() * exact_count;
      if (count >= Scalar(1) && abs(exact_count - count) <= rounding)
        next.t_new = k < count ? memory.origin + span * k / count : end;
      else if (!(next.t_new < end))
        next = {end - t, end, false};
    }
    next.too_small = !(next.t_new > t);
    return next;
  }

  /// Every step is taken.
  [[nodiscard]] bool judge(Scalar /*ratio*/, Scalar /*h*/, int /*error_order*/, ControlMemory<Scalar>& memory) const {
    memory.step = step;
    return true;
  }
};

/// `ConstantStep{1}` is a step of type double.
template <class Step>
ConstantStep(Step) -> ConstantStep<detail::RealOf<Step>>;

/// Steps of given lengths, one after the other: a list, or a function of the number of the step, 0, 1, ... Times are
/// sums of the steps. A list that ends before the span does ends the run as `max_steps`, with the
/// last state; the last step is cut where it would pass the end of the span.
///
///     integrate(problem, w0, Steps{1000}, Descent{}, StepSchedule([](Index k) { return 0.1 / std::sqrt(k + 1.0); }));
template <class Scalar = double>
class StepSchedule {
 public:
  /// Errors are not judged.
  static constexpr bool is_adaptive = false;

  /// The steps of a list. Throws ArgumentError where it is empty or a step is not positive and finite.
  StepSchedule(std::vector<Scalar> steps) {  // NOLINT(google-explicit-constructor): a list of steps is a schedule
    require(!steps.empty(), "StepSchedule: the list of steps is empty");
    for (std::size_t k = 0; k < steps.size(); ++k)
      require(is_step(steps[k]), "StepSchedule: steps[", k, "] must be positive and finite, got ", steps[k]);
    count_ = static_cast<Index>(steps.size());
    length_ = [steps = std::move(steps)](Index k) { return steps[static_cast<std::size_t>(k)]; };
  }
  /// `length(k)` for every k = 0, 1, ...; the schedule ends with the first that is not positive and finite.
  template <class F>
  requires std::is_invocable_r_v<Scalar, const F&, Index> StepSchedule(F length)  // NOLINT
      : length_(std::move(length)) {}

  /// Nothing is left to check.
  void check() const {}

  /// The next step.
  [[nodiscard]] StepPlan<Scalar> plan(Scalar t, Scalar end, const ControlMemory<Scalar>& memory) const {
    if (memory.made >= count_) return {Scalar(0), t, false, true};
    const Scalar h = length_(memory.made);
    if (!is_step(h)) return {Scalar(0), t, false, true};
    using std::abs;
    using std::isfinite;
    // Steps that fill the span up to the rounding of their sum do fill it.
    const Scalar rounding = Scalar(64) * std::numeric_limits<Scalar>::epsilon() * abs(end);
    if (!(t + h < end) || (isfinite(end) && end - (t + h) <= rounding)) return {end - t, end, false};
    return {h, t + h, !(t + h > t)};
  }

  /// Every step is taken.
  [[nodiscard]] bool judge(Scalar /*ratio*/, Scalar h, int /*error_order*/, ControlMemory<Scalar>& memory) const {
    memory.step = h;
    return true;
  }

 private:
  static bool is_step(Scalar h) {
    using std::isfinite;
    return isfinite(h) && h > Scalar(0);
  }

  std::function<Scalar(Index)> length_ = {};
  Index count_ = std::numeric_limits<Index>::max();
};

/// Adaptive steps from an error estimate, by a proportional-integral rule.
///
///     const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-9}};
///
/// The rule is that of Gustafsson (1991; Hairer and Wanner, Solving ODEs II, IV.2): with the error ratio r_n (1 = just
/// allowed) and p = error order + 1, `h_{n+1} = h_n safety r_n^(-integral/p) r_{n-1}^(proportional/p)`. A ratio that is
/// not <= 1, NaN included, rejects the step.
template <class Scalar = double>
struct PiController {
  Tolerance<Scalar> tolerance = {};                           ///< allowed local error; must be given
  Scalar first_step = Scalar(0);                              ///< 0: chosen from the problem
  Scalar min_step = Scalar(0);                                ///< below it the run ends, step_too_small
  Scalar max_step = std::numeric_limits<Scalar>::infinity();  ///< never exceeded
  Scalar safety = Scalar(0.9);                                ///< in (0, 1)
  Scalar min_factor = Scalar(0.2);                            ///< smallest change of h in one step, in (0, 1)
  Scalar max_factor = Scalar(10);                             ///< largest change of h in one step, > 1
  Scalar first_max_factor = Scalar(1000);                     ///< the same for the first step, a guess
  Scalar integral = Scalar(0.85);                             ///< in (0, 1]
  Scalar proportional = Scalar(0.2);                          ///< in [0, integral)

  /// Errors are judged: the stepper must estimate them.
  static constexpr bool is_adaptive = true;

  /// The same settings in another number type.
  template <class T>
  [[nodiscard]] PiController<T> cast() const {
    return {{T(tolerance.relative), T(tolerance.absolute)},
            T(first_step),
            T(min_step),
            T(max_step),
            T(safety),
            T(min_factor),
            T(max_factor),
            T(first_max_factor),
            T(integral),
            T(proportional)};
  }

  /// Throws ArgumentError naming the first setting outside its range.
  void check() const {
    using std::isfinite;
    richflow::check(tolerance);
    require(isfinite(first_step) && first_step >= Scalar(0), "PiController: first_step must be >= 0, got ", first_step);
    require(isfinite(min_step) && min_step >= Scalar(0), "PiController: min_step must be >= 0, got ", min_step);
    require(max_step > min_step, "PiController: max_step must be > min_step, got ", max_step);
    require(safety > Scalar(0) && safety < Scalar(1), "PiController: safety must lie in (0, 1), got ", safety);
    require(min_factor > Scalar(0) && min_factor < Scalar(1), "PiController: min_factor must lie in (0, 1), got ",
            min_factor);
    require(isfinite(max_factor) && max_factor > Scalar(1), "PiController: max_factor must be > 1, got ", max_factor);
    require(isfinite(first_max_factor) && first_max_factor > Scalar(1),
            "PiController: first_max_factor must be > 1, got ", first_max_factor);
    require(integral > Scalar(0) && integral <= Scalar(1), "PiController: integral must lie in (0, 1], got ", integral);
    require(proportional >= Scalar(0) && proportional < integral,
            "PiController: proportional must lie in [0, integral), got ", proportional);
  }

  /// The next attempt; it ends at `end` when it comes within 1 % of it.
  [[nodiscard]] StepPlan<Scalar> plan(Scalar t, Scalar end, const ControlMemory<Scalar>& memory) const {
    using std::abs;
    using std::isfinite;
    const Scalar h = std::min(memory.step, max_step);
    if (isfinite(end) && !(h * Scalar(1.01) < end - t)) return {end - t, end, false};
    const Scalar rounding = Scalar(16) * std::numeric_limits<Scalar>::epsilon() * abs(t);
    return {h, t + h, !(h > rounding) || h < min_step};
  }

  /// Accepts when `ratio <= 1`; sets the next step either way.
  [[nodiscard]] bool judge(Scalar ratio, Scalar h, int error_order, ControlMemory<Scalar>& memory) const {
    using std::isfinite;
    using std::pow;
    const Scalar p = Scalar(error_order + 1);
    if (!(ratio <= Scalar(1))) {
      const Scalar factor = isfinite(ratio) ? safety * pow(ratio, Scalar(-1) / p) : min_factor;
      memory.step = h * std::max(factor, min_factor);
      memory.rejected = true;
      return false;
    }
    const Scalar bounded = std::max(ratio, Scalar(1e-10));
    Scalar factor = safety * pow(bounded, -integral / p) * pow(memory.previous_ratio, proportional / p);
    Scalar largest = memory.taken == 0 ? first_max_factor : max_factor;
    if (memory.rejected) largest = Scalar(1);
    factor = std::clamp(factor, min_factor, largest);
    // A step cut short by the end of the span says nothing against the longer one that was planned.
    const Scalar planned = std::min(memory.step, max_step);
    memory.step = h < planned ? std::max(planned, h * factor) : h * factor;
    memory.previous_ratio = std::max(ratio, Scalar(1e-4));
    memory.rejected = false;
    return true;
  }
};

/// The error of a step in units of what is allowed: the problem's own `error_ratio` if it has one, else
/// the root mean square of `error_i / (absolute + relative max(|y_i|, |y_new_i|))`. NaN if any entry is.
template <class Problem, class Scalar = typename Problem::Scalar>
[[nodiscard]] Scalar error_ratio(const Problem& problem, const Vector<Scalar>& y, const Vector<Scalar>& y_new,
                                 const Vector<Scalar>& error, const Tolerance<Scalar>& tolerance) {
  if constexpr (HasErrorRatio<Problem>) {
    return problem.error_ratio(y, y_new, error, tolerance);
  } else {
    using std::sqrt;
    // The smallest normal number keeps 0 / 0 out of coordinates that are exactly zero.
    const Scalar absolute = tolerance.absolute + std::numeric_limits<Scalar>::min();
    const Scalar sum =
        (error.array() / (absolute + tolerance.relative * y.array().abs().max(y_new.array().abs()))).square().sum();
    return sqrt(sum / Scalar(error.size()));
  }
}

}  // namespace richflow
