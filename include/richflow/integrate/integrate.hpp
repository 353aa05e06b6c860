#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/scalar_of.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_controller.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/run.hpp"
#include "richflow/integrate/save_at.hpp"
#include "richflow/integrate/solution.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/integrate/vector_field.hpp"

/// @file
/// The one time loop. Everything that moves in time goes through `integrate` or `resume`; gradient
/// descent is this loop with `Euler` and `ConstantStep`.

namespace richflow {

/// What to keep, what ends the run, and who watches.
template <class Scalar = double, class Value = Vector<Scalar>>
struct IntegrateOptions {
  SaveAt<Scalar, Value> save_at = {};               ///< what to keep; default: nothing but the end
  std::vector<BasicEvent<Scalar>> events = {};      ///< what ends the run before the end of the span
  std::vector<ObserverRef<Scalar>> observers = {};  ///< called after every accepted step, in this order
  Index max_steps = 1'000'000;                      ///< attempts allowed in this call, rejected ones included, > 0
  /// Whether a run without progress towards its first loss_below or stationary event ends as `stalled`, and one of
  /// constant steps on a problem with a loss that goes round in a cycle of 2, 4, ... steps (event or not): the step is
  /// at the edge of stability then. Switch off for problems that rest for a while because they depend on time.
  bool detect_stall = true;
};

namespace detail {

/// One sentence per mismatch, at compile time.
template <class Problem, class St, class Controller>
constexpr void explain_integrate() {
  explain_vector_field<Problem>();
  if constexpr (VectorField<Problem>) {
    explain_stepper<St, Problem>();
    constexpr bool is_controller = StepController<Controller, typename Problem::Scalar>;
    static_assert(is_controller,
                  "richflow: the controller must be of the problem's number type (BasicPiController<float>, "
                  "BasicConstantStep<float> where it computes in float) and have `is_adaptive`, `check()`, `plan(t, "
                  "end, memory)` and `judge(ratio, "
                  "h, error_order, memory)` for the number type of the problem");
    if constexpr (Stepper<St, Problem> && StepController<Controller, typename Problem::Scalar>)
      static_assert(!Controller::is_adaptive || EmbeddedStepper<St, Problem>,
                    "richflow: adaptive steps need a stepper with an error estimate (DormandPrince, Rosenbrock); this "
                    "one needs ConstantStep");
  }
}

/// True when `explain_integrate` has nothing to say.
template <class Problem, class St, class Controller>
constexpr bool fits_together = [] {
  if constexpr (VectorField<Problem>) {
    if constexpr (Stepper<St, Problem> && StepController<Controller, typename Problem::Scalar>)
      return !Controller::is_adaptive || EmbeddedStepper<St, Problem>;
  }
  return false;
}();

/// Keeps values of one type in a solution.
template <class Scalar, class Value>
class ValuesOf final : public AnyValues<Scalar> {
 public:
  ValuesOf(const SavedValue<Scalar, Value>& value, std::vector<Value>& values) : value_(value), values_(values) {}

  void reserve(std::size_t count) override { values_.reserve(count); }
  void save(Scalar t, const Vector<Scalar>& y) override {
    if constexpr (std::is_same_v<Value, Vector<Scalar>>)
      values_.push_back(value_ ? value_(t, y) : y);
    else
      values_.push_back(value_(t, y));
  }

 private:
  const SavedValue<Scalar, Value>& value_;
  std::vector<Value>& values_;
};

/// How a run sees its problem: as a stiff field only where the stepper asks for its Jacobian through it.
template <class St, class Problem>
struct FieldFor {
  using type = FieldOf<Problem>;
};
template <class St, class Problem>
requires WorksOnAnyStiffField<St, Problem>
struct FieldFor<St, Problem> {
  using type = StiffFieldOf<Problem>;
};
template <class St, class Problem>
requires WorksOnAnyTangentField<St, Problem>
struct FieldFor<St, Problem> {
  using type = TangentFieldOf<Problem>;
};

/// Checks, then runs the loop from `state`. `is_fresh`: not resumed.
template <class Problem, class St, class Controller, class Scalar, class Value>
Solution<Scalar, Value> run(const Problem& problem, IntegrationState<Scalar> state, Scalar end, const St& stepper,
                            const Controller& controller, const IntegrateOptions<Scalar, Value>& options,
                            bool is_fresh) {
  const typename FieldFor<St, Problem>::type field(problem);
  const ControllerOf<Scalar, Controller> control(controller);
  const auto& save_at = options.save_at;
  const RunOptions<Scalar> run_options{{save_at.times, save_at.every, save_at.start, save_at.end},
                                       options.events,
                                       options.observers,
                                       options.max_steps,
                                       options.detect_stall};
  check_run(field, state.y, state.t, end, control, run_options);
  // The times that a resumed run has passed are no error.
  const Scalar first = is_fresh || save_at.times.empty() ? state.t : std::min<Scalar>(save_at.times.front(), state.t);
  check(save_at, first, end);
  Solution<Scalar, Value> solution;
  ValuesOf<Scalar, Value> values(save_at.value, solution.values);
  const auto run_with = [&](AnyStepper<Scalar>&& any_stepper) {
    return Run<Scalar>({field, any_stepper, control, values}, run_options, std::move(state), end).run(is_fresh);
  };
  RunOutcome<Scalar>& outcome = solution;
  if constexpr (WorksOnAnyStiffField<St, Problem>)
    outcome = run_with(StepperOn<St, AnyStiffField<Scalar>>(stepper, field));
  else if constexpr (WorksOnAnyTangentField<St, Problem>)
    outcome = run_with(StepperOn<St, AnyTangentField<Scalar>>(stepper, field));
  else if constexpr (WorksOnAnyField<St, Problem>)
    outcome = run_with(StepperOn<St, AnyField<Scalar>>(stepper, field));
  else
    outcome = run_with(StepperOn<St, Problem>(stepper, problem));
  return solution;
}

}  // namespace detail

/// Integrates `y' = F(t, y)` from `y0` (problem.dimension() entries) over the time span.
///
///     const auto flow = GradientFlow(model, data);
///     const auto solution = integrate(flow, w, TimeSpan{0, infinity}, DormandPrince{},
///                                     PiController{.tolerance = {.relative = 1e-8, .absolute = 1e-12}},
///                                     {.events = {loss_below(1e-10)}});
///     solution.require_ok();
///
/// `controller` chooses the steps: `ConstantStep{.step = h}` or `PiController{.tolerance = ...}`. The end
/// of the span may be infinity when an event or an observer ends the run. `options` says what to keep, what
/// ends the run early, and who watches; a value other than y needs the type of what is kept,
/// `IntegrateOptions<double, V>{...}`.
///
/// Subnormal numbers are zero within the loop (SubnormalMode), also for the problem's own functions; observers, events
/// and what is saved have the caller's mode.
///
/// Bad arguments throw a child of `Error` before any work. Trouble during the run is a status in the
/// result, which holds the last good state and can be resumed. Cost: what the stepper needs, one pass over
/// y per step for the error norm, and, with loss_below, one loss per step. No allocation per step, but
/// for what is saved.
template <class Problem, class Y0, class Span = BasicTimeSpan<detail::ScalarOfT<Problem>>, class St, class Controller,
          class Value = Vector<detail::ScalarOfT<Problem>>>
Solution<detail::ScalarOfT<Problem>, Value> integrate(
    const Problem& problem, const Eigen::DenseBase<Y0>& y0, const Span& span, const St& stepper,
    const Controller& controller, const IntegrateOptions<detail::ScalarOfT<Problem>, Value>& options = {}) {
  using Scalar = detail::ScalarOfT<Problem>;
  constexpr bool is_of_one_type =
      std::is_same_v<Span, BasicTimeSpan<Scalar>> && std::is_same_v<typename Y0::Scalar, Scalar>;
  static_assert(is_of_one_type,
                "richflow: y0, the time span and the controller must be of the problem's number type: Vector<float>, "
                "BasicTimeSpan<float> and BasicPiController<float> where it computes in float");
  if constexpr (is_of_one_type) detail::explain_integrate<Problem, St, Controller>();
  if constexpr (is_of_one_type && detail::fits_together<Problem, St, Controller>) {
    IntegrationState<Scalar> state;
    state.t = span.start;
    state.y = y0.derived();
    state.stage_time = span.start;
    state.control.origin = span.start;
    return detail::run(problem, std::move(state), span.end, stepper, controller, options, true);
  } else {
    return {};
  }
}

/// Goes on from `state` (of a Solution, or loaded from a checkpoint) to time `end`. With the same stepper
/// and settings the steps are those of a run that was never stopped, bit for bit; with others the run goes
/// on from the same point. Save times up to `state.t` count as saved; `save_at.start` has no effect;
/// `max_steps` counts the attempts of this call. Throws as `integrate` does.
template <class Problem, class St, class Controller, class Value = Vector<detail::ScalarOfT<Problem>>>
Solution<detail::ScalarOfT<Problem>, Value> resume(
    const Problem& problem, const IntegrationState<detail::ScalarOfT<Problem>>& state,
    const std::type_identity_t<detail::ScalarOfT<Problem>>& end, const St& stepper, const Controller& controller,
    const IntegrateOptions<detail::ScalarOfT<Problem>, Value>& options = {}) {
  detail::explain_integrate<Problem, St, Controller>();
  if constexpr (detail::fits_together<Problem, St, Controller>) {
    return detail::run(problem, state, end, stepper, controller, options, false);
  } else {
    return {};
  }
}

}  // namespace richflow
