#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
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
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/run.hpp"
#include "richflow/integrate/run_file.hpp"
#include "richflow/integrate/save_at.hpp"
#include "richflow/integrate/solution.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/span.hpp"
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
  std::vector<Event<Scalar>> events = {};           ///< what ends the run before the end of the span
  std::vector<ObserverRef<Scalar>> observers = {};  ///< called after every accepted step, in this order
  Index max_steps = 1'000'000;                      ///< attempts allowed in this call, rejected ones included, > 0
  /// Whether a run without progress towards its first loss_below or stationary event ends as `stalled`, and one of
  /// constant steps on a problem with a loss that goes round in a cycle of 2, 4, ... steps (event or not): the step is
  /// at the edge of stability then. Switch off for problems that rest for a while because they depend on time.
  bool detect_stall = true;
  CheckpointOptions<Scalar> checkpoint = {};  ///< a file from which a killed run resumes
};

namespace detail {

/// Whether what is given for a stepper is a rule.
template <class St, class Problem>
concept IsRule = DescentRule<St, typename Problem::Scalar>;

/// The controller in the problem's number type: settings that can be cast may be written in any.
template <class Scalar, class Controller>
[[nodiscard]] auto in_number_type(const Controller& controller) {
  if constexpr (!StepController<Controller, Scalar> && requires { controller.template cast<Scalar>(); })
    return controller.template cast<Scalar>();
  else
    return controller;
}
template <class Scalar, class Controller>
using InNumberType = decltype(in_number_type<Scalar>(std::declval<const Controller&>()));

/// Whether the problem takes what is given for a stepper.
template <class St, class Problem>
inline constexpr bool is_taken = !TakesDescentOnly<Problem> || std::is_same_v<St, Descent>;

/// One sentence per mismatch, at compile time.
template <class Problem, class St, class GivenController>
constexpr void explain_integrate() {
  explain_vector_field<Problem>();
  if constexpr (VectorField<Problem>) {
    using Controller = InNumberType<typename Problem::Scalar, GivenController>;
    constexpr bool is_stepper_or_rule = IsRule<St, Problem> || requires { St::order; }
    || requires(const St& stepper, const Problem& problem) { stepper.make_workspace(problem); };
    static_assert(is_stepper_or_rule,
                  "richflow: this is no stepper, with `order`, `make_workspace`, `begin`, `step` and `accept`, and no "
                  "rule, with `void operator()(const StepGradient<Scalar>& gradient, Scalar step, VectorRef<Scalar> w, "
                  "VectorRef<Scalar> memory) const`");
    if constexpr (is_stepper_or_rule && !IsRule<St, Problem>) explain_stepper<St, Problem>();
    static_assert(is_taken<St, Problem>,
                  "richflow: a stochastic gradient flow makes the steps of Euler and Maruyama, the rule Descent: with "
                  "any other rule or stepper its noise has another size");
    constexpr bool is_controller = StepController<Controller, typename Problem::Scalar>;
    static_assert(is_controller,
                  "richflow: the controller must have `is_adaptive`, `check()`, `plan(t, "
                  "end, memory)` and `judge(ratio, "
                  "h, error_order, memory)` for the number type of the problem");
    if constexpr ((Stepper<St, Problem> || IsRule<St, Problem>)&&StepController<Controller, typename Problem::Scalar>)
      static_assert(!Controller::is_adaptive || EmbeddedStepper<St, Problem>,
                    "richflow: adaptive steps need a stepper with an error estimate (DormandPrince, Rosenbrock); this "
                    "one needs ConstantStep");
  }
}

/// True when `explain_integrate` has nothing to say.
template <class Problem, class St, class GivenController>
constexpr bool fits_together = [] {
  if constexpr (VectorField<Problem>) {
    using Controller = InNumberType<typename Problem::Scalar, GivenController>;
    if constexpr ((Stepper<St, Problem> || IsRule<St, Problem>)&&StepController<Controller, typename Problem::Scalar>)
      return is_taken<St, Problem> && (!Controller::is_adaptive || EmbeddedStepper<St, Problem>);
  }
  return false;
}();

/// Keeps values of one type in a solution.
template <class Scalar, class Value>
class ValuesOf final : public AnyValues<Scalar> {
 public:
  ValuesOf(const SaveAt<Scalar, Value>& save_at, std::vector<Value>& values)
      : value_(save_at.value), keeps_(value_ || save_at.quantities.empty()), values_(values) {}

  void reserve(std::size_t count) override {
    if (keeps_) values_.reserve(count);
  }
  void save(Scalar t, const Vector<Scalar>& y) override {
    if (!keeps_) return;
    if constexpr (std::is_same_v<Value, Vector<Scalar>>)
      values_.push_back(value_ ? value_(t, y) : y);
    else
      values_.push_back(value_(t, y));
  }

  [[nodiscard]] bool is_storable() const override { return holds_numbers || !keeps_; }
  void write(CheckpointWriter& writer) const override {
    writer.field("kept", static_cast<Index>(values_.size()));
    if constexpr (holds_numbers)
      for (const Value& value : values_) writer.field("value", value);
  }
  void read(CheckpointReader& reader, Index saves) override {
    Index count = 0;
    reader.field("kept", count);
    require<CheckpointError>(count == (keeps_ ? saves : 0), "checkpoint: it keeps ", count, " values of ", saves,
                             " times");
    values_.clear();
    if constexpr (holds_numbers)
      for (Index i = 0; i < count; ++i) {
        Value value = {};
        reader.field("value", value);
        values_.push_back(std::move(value));
      }
  }

 private:
  static constexpr bool holds_numbers = std::is_arithmetic_v<Value> || std::is_same_v<Value, Vector<Scalar>>;

  const SavedValue<Scalar, Value>& value_;
  const bool keeps_;
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

/// RunOptions::start_of_run of a run from y0, to which it refers.
template <class Problem, class St, class Y0>
[[nodiscard]] std::function<Vector<typename Problem::Scalar>()> start_for_advice([[maybe_unused]] const Y0& y0) {
  constexpr bool descends_loss = HasLoss<Problem> && !HasSource<Problem> && !DescendsMoreThanLoss<Problem>;
  if constexpr (descends_loss && std::is_same_v<St, Descent>)
    return [&y0] { return Vector<typename Problem::Scalar>(y0); };
  else
    return {};
}

/// Checks, then runs the loop from `state`. `is_fresh`: not resumed.
template <class Problem, class St, class GivenController, class Scalar, class Value>
Solution<Scalar, Value> run(const Problem& problem, IntegrationState<Scalar> state, Scalar end, const St& stepper,
                            const GivenController& given, const IntegrateOptions<Scalar, Value>& options, bool is_fresh,
                            Index last_step = std::numeric_limits<Index>::max(),
                            std::function<Vector<Scalar>()> start_of_run = {}) {
  const typename FieldFor<St, Problem>::type field(problem);
  const auto controller = in_number_type<Scalar>(given);
  const ControllerOf<Scalar, std::remove_cv_t<decltype(controller)>> control(controller);
  const auto& save_at = options.save_at;
  const RunOptions<Scalar> run_options{
      {save_at.times, save_at.steps, save_at.every, save_at.start, save_at.end, save_at.dense, save_at.quantities},
      options.events,
      options.observers,
      options.max_steps,
      options.detect_stall,
      last_step,
      false,
      std::move(start_of_run)};
  check_run(field, state.y, state.t, end, control, run_options);
  // Times that a resumed run has passed are not an error.
  const Scalar first = is_fresh || save_at.times.empty() ? state.t : std::min<Scalar>(save_at.times.front(), state.t);
  check(save_at, first, end);
  Solution<Scalar, Value> solution;
  ValuesOf<Scalar, Value> values(save_at, solution.values);
  const auto run_with = [&](AnyStepper<Scalar>&& any_stepper) {
    return run_or_go_on<Scalar>({field, any_stepper, control, values}, run_options, std::move(state), end, is_fresh,
                                options.checkpoint);
  };
  RunOutcome<Scalar>& outcome = solution;
  if constexpr (IsRule<St, Problem>) {
    const RuleOf<Scalar, St> rule(stepper);
    std::unique_ptr<AnySource<Scalar>> source;
    if constexpr (HasSource<Problem>)
      source = problem.make_source();
    else
      source = std::make_unique<FieldSource<Scalar>>(field);
    outcome = run_with(RuleStepper<Scalar>(rule, std::move(source), field.dimension()));
  } else if constexpr (WorksOnAnyStiffField<St, Problem>)
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
///                                     PiController<>{.tolerance = {.relative = 1e-8, .absolute = 1e-12}},
///                                     {.events = {loss_below(1e-10)}});
///     solution.require_ok();
///
/// `controller` chooses the steps: `ConstantStep<>{.step = h}` or `PiController{.tolerance = ...}`. The end
/// of the span may be infinity when an event or an observer ends the run. `options` says what to keep, what
/// ends the run early, and who watches; time span and controller may be written in any number type; a value other than
/// y needs the type of what is kept, `IntegrateOptions<double, V>{...}`.
///
/// Subnormal numbers are zero within the loop (SubnormalMode), also for the problem's own functions; observers, events
/// and what is saved have the caller's mode.
///
/// Bad arguments throw a child of `Error` before any work. Trouble during the run is a status in the
/// result, which holds the last good state and can be resumed. Cost: what the stepper needs, one pass over
/// y per step for the error norm, and, with loss_below, one loss per step. No allocation per step, but
/// for what is saved.
template <class Problem, class Y0, class T = detail::ScalarOfT<Problem>, class St, class Controller,
          class Value = Vector<detail::ScalarOfT<Problem>>>
Solution<detail::ScalarOfT<Problem>, Value> integrate(
    const Problem& problem, const Eigen::DenseBase<Y0>& y0, const TimeSpan<T>& span, const St& stepper,
    const Controller& controller, const IntegrateOptions<detail::ScalarOfT<Problem>, Value>& options = {}) {
  using Scalar = detail::ScalarOfT<Problem>;
  constexpr bool is_of_one_type = std::is_same_v<typename Y0::Scalar, Scalar>;
  static_assert(is_of_one_type,
                "richflow: y0 must be of the problem's number type: Vector<float> where it computes in float");
  if constexpr (is_of_one_type) detail::explain_integrate<Problem, St, Controller>();
  if constexpr (is_of_one_type && detail::fits_together<Problem, St, Controller>) {
    IntegrationState<Scalar> state;
    state.t = static_cast<Scalar>(span.start);
    state.y = y0.derived();
    state.stage_time = state.t;
    state.control.origin = state.t;
    return detail::run(problem, std::move(state), static_cast<Scalar>(span.end), stepper, controller, options, true,
                       std::numeric_limits<Index>::max(), detail::start_for_advice<Problem, St>(y0.derived()));
  } else {
    return {};
  }
}

/// The same for a given number of steps, from t = 0: the steps of an algorithm are counted, and its time is the sum of
/// their lengths. Throws as above, and ArgumentError unless steps.count > 0. `max_steps` is not needed.
template <class Problem, class Y0, class St, class Controller, class Value = Vector<detail::ScalarOfT<Problem>>>
Solution<detail::ScalarOfT<Problem>, Value> integrate(
    const Problem& problem, const Eigen::DenseBase<Y0>& y0, const Steps& steps, const St& stepper,
    const Controller& controller, IntegrateOptions<detail::ScalarOfT<Problem>, Value> options = {}) {
  using Scalar = detail::ScalarOfT<Problem>;
  constexpr bool is_of_one_type = std::is_same_v<typename Y0::Scalar, Scalar>;
  static_assert(is_of_one_type,
                "richflow: y0 must be of the problem's number type: Vector<float> where it computes in float");
  detail::explain_integrate<Problem, St, Controller>();
  if constexpr (is_of_one_type && detail::fits_together<Problem, St, Controller>) {
    require(steps.count > 0, "the number of steps must be positive, got ", steps.count);
    options.max_steps = std::numeric_limits<Index>::max();
    IntegrationState<Scalar> state;
    state.y = y0.derived();
    return detail::run(problem, std::move(state), std::numeric_limits<Scalar>::infinity(), stepper, controller, options,
                       true, steps.count, detail::start_for_advice<Problem, St>(y0.derived()));
  } else {
    return {};
  }
}

/// The same for a given number of passes through the data of a problem with a source:
/// `epochs.count * problem.steps_per_epoch()` steps. Throws as above, and ArgumentError unless epochs.count > 0.
template <HasSource Problem, class Y0, class St, class Controller, class Value = Vector<detail::ScalarOfT<Problem>>>
Solution<detail::ScalarOfT<Problem>, Value> integrate(
    const Problem& problem, const Eigen::DenseBase<Y0>& y0, const Epochs& epochs, const St& stepper,
    const Controller& controller, const IntegrateOptions<detail::ScalarOfT<Problem>, Value>& options = {}) {
  const Index most = std::numeric_limits<Index>::max() / problem.steps_per_epoch();
  require(epochs.count > 0 && epochs.count <= most, "the number of epochs must be in 1 .. ", most, ", got ",
          epochs.count);
  return integrate(problem, y0, Steps{epochs.count * problem.steps_per_epoch()}, stepper, controller, options);
}

/// Resumes from `state` (of a Solution, or loaded from a checkpoint) to time `end`. With the same stepper
/// and settings the steps are those of a run that was never stopped, bit for bit; with others the run
/// continues from the same point. Save times up to `state.t` count as saved; `save_at.start` has no effect;
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

/// Continues until `steps.count` steps have been made since the very start. Throws as above, and ArgumentError where
/// there are more already.
template <class Problem, class St, class Controller, class Value = Vector<detail::ScalarOfT<Problem>>>
Solution<detail::ScalarOfT<Problem>, Value> resume(const Problem& problem,
                                                   const IntegrationState<detail::ScalarOfT<Problem>>& state,
                                                   const Steps& steps, const St& stepper, const Controller& controller,
                                                   IntegrateOptions<detail::ScalarOfT<Problem>, Value> options = {}) {
  using Scalar = detail::ScalarOfT<Problem>;
  detail::explain_integrate<Problem, St, Controller>();
  if constexpr (detail::fits_together<Problem, St, Controller>) {
    require(steps.count >= state.step, "the number of steps must be at least the ", state.step, " that were made, got ",
            steps.count);
    options.max_steps = std::numeric_limits<Index>::max();
    return detail::run(problem, state, std::numeric_limits<Scalar>::infinity(), stepper, controller, options, false,
                       steps.count);
  } else {
    return {};
  }
}

}  // namespace richflow
