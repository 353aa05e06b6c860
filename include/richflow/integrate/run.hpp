#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_controller.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/save_at.hpp"
#include "richflow/integrate/solution.hpp"
#include "richflow/integrate/stable_step.hpp"
#include "richflow/integrate/stall.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// The time loop behind `integrate`, compiled once per number type.

namespace richflow::detail {

/// First entry that is NaN or infinite, or -1. One pass of multiplications in the usual case.
template <class Scalar>
[[nodiscard]] Index first_non_finite(const Vector<Scalar>& y) {
  using std::isfinite;
  if (isfinite(inner_product(y, y))) return -1;
  for (Index i = 0; i < y.size(); ++i)
    if (!isfinite(y(i))) return i;
  return -1;  // finite entries whose squares overflow
}

/// Takes what is to be kept.
template <class Scalar>
class AnyValues {
 public:
  virtual ~AnyValues() = default;
  virtual void reserve(std::size_t count) = 0;
  virtual void save(Scalar t, const Vector<Scalar>& y) = 0;
  /// What is kept, to a file and from it, where it is numbers: of so many times, else CheckpointError.
  [[nodiscard]] virtual bool is_storable() const { return true; }
  virtual void write(CheckpointWriter& /*writer*/) const {}
  virtual void read(CheckpointReader& /*reader*/, Index /*saves*/) {}
};

/// Of a run that keeps nothing.
template <class Scalar>
class NoValues final : public AnyValues<Scalar> {
 public:
  void reserve(std::size_t /*count*/) override {}
  void save(Scalar /*t*/, const Vector<Scalar>& /*y*/) override {}
};

/// Keeps a run in a file.
template <class Scalar>
class AnyRunFile {
 public:
  virtual ~AnyRunFile() = default;
  /// Whether a state after so many steps is to be written.
  [[nodiscard]] virtual bool is_due(Index step) = 0;
  virtual void write(const IntegrationState<Scalar>& state, const RunOutcome<Scalar>& kept) = 0;
};

/// What a run works with; all of it must outlive the run.
template <class Scalar>
struct RunParts {
  const AnyField<Scalar>& problem;
  AnyStepper<Scalar>& stepper;
  const AnyController<Scalar>& controller;
  AnyValues<Scalar>& values;
  AnyRunFile<Scalar>* file = nullptr;
};

/// IntegrateOptions without the type of what is kept.
template <class Scalar>
struct RunOptions {
  /// See SaveAt.
  struct Saves {
    const std::vector<Scalar>& times;
    const std::vector<Index>& steps;
    Index every;
    bool start;
    bool end;
    bool dense;
    const std::vector<Quantity<Scalar>>& quantities;
  };

  Saves save_at;
  const std::vector<Event<Scalar>>& events;
  const std::vector<ObserverRef<Scalar>>& observers;
  Index max_steps;
  bool detect_stall;
  Index last_step;  ///< the run has reached its end after so many accepted steps
  /// Steps are made in the memory of the state, one pass over it where the stepper can, and only the stepper sees where
  /// one fails: there is no state before a step to go back to. For runs without events that save nothing but whole
  /// steps.
  bool in_place = false;
  /// Where a fresh run begins, for advice on the length of its steps: of runs of Descent down a loss of all samples and
  /// nothing else. Empty for others, and called only where a message needs it.
  std::function<Vector<Scalar>()> start_of_run = {};
};

/// One run of the loop: the parts, the workspace and the state it advances.
template <class Scalar>
class Run {
  using Detector = StallDetector<Scalar>;

 public:
  /// Makes all memory of the run. `kept` is what an interrupted one has saved before.
  Run(const RunParts<Scalar>& parts, const RunOptions<Scalar>& options, IntegrationState<Scalar> state, Scalar end,
      RunOutcome<Scalar> kept = {});

  /// Where it is.
  [[nodiscard]] IntegrationState<Scalar>& state() { return state_; }

  /// To the end. `is_fresh`: not resumed, so that the start is saved and the stall memory begins here.
  [[nodiscard]] RunOutcome<Scalar> run(bool is_fresh);

 private:
  // --- one attempt ---

  /// A step in the memory of the state; false where it cannot be made.
  bool step_in_place(const StepPlan<Scalar>& plan);

  /// Whether the attempt in y_new is taken.
  bool judge(const StepPlan<Scalar>& plan);

  /// Makes the attempt the state, at the end of the step or where an event fired, and saves what is due.
  Stall commit(const StepPlan<Scalar>& plan);

  /// Calls the observers; stop if one of them says so.
  Action show();

  /// Writes the state to the file of the run.
  void keep();

  void save(Scalar t, Index step, const Vector<Scalar>& y);

  /// First step, in the problem's error norm and for any unit of time. A trial Euler step, which moves y by
  /// one hundredth or by one tolerance, gives the time T = |F| / |F'| over which F changes; the step is the
  /// part of T over which a term of the order of the error estimate stays below a hundredth of the tolerance.
  /// (The idea of Hairer, Norsett and Wanner, Solving ODEs I, II.4, without its dependence on the unit of
  /// time.) False if F is not finite at the start.
  bool choose_first_step();

  // --- events ---

  /// Event functions at the start; fires those that hold. A text if one is NaN.
  std::optional<std::string> start_events();

  /// Event functions at the end of the attempt; locates the first that fires. A text if one is NaN.
  std::optional<std::string> test_events(const StepPlan<Scalar>& plan);

  /// Whether the event is looked for within the step too: not where each look would cost right-hand sides, nor for
  /// losses and stationarity, which the flow does not raise and lower at will.
  [[nodiscard]] bool looks_inside(const Event<Scalar>& event) const;

  /// The event function at t + theta h.
  Scalar value_at(std::size_t i, const StepPlan<Scalar>& plan, Scalar theta);

  /// Where the event fires first in [low, high], at whose ends it has opposite signs.
  Scalar locate(std::size_t i, const StepPlan<Scalar>& plan, Scalar low, Scalar at_low, Scalar high, Scalar at_high);

  /// Where the event first fires within the step, or infinity: looks at some points of the interpolant, and for an
  /// extremum that crosses zero and comes back between them. A long exponential step passes through many time scales:
  /// its points double from 2^-20 on.
  Scalar search(std::size_t i, const StepPlan<Scalar>& plan);

  /// Where the event fires in a dip of its size between two points of one sign, or infinity. Golden section.
  Scalar search_dip(std::size_t i, const StepPlan<Scalar>& plan, Scalar low, Scalar at_low, Scalar high,
                    Scalar at_high);

  /// All event functions at `(t, y)`, where F is `dy` if that is known. A text if one is NaN.
  std::optional<std::string> evaluate_events(Scalar t, const Vector<Scalar>& y, const Vector<Scalar>* dy,
                                             std::vector<Scalar>& values, bool is_start);

  /// Whether the event is tested after the attempt.
  [[nodiscard]] bool is_tested(const Event<Scalar>& event) const {
    return event.every() == 1 || (state_.step + 1) % event.every() == 0;
  }

  /// The function whose sign changes. Losses and norms enter by their log, in which exponential decay is a
  /// straight line. `dy` and `loss` spare their evaluation where they are known.
  Scalar event_value(const Event<Scalar>& event, Scalar t, const Vector<Scalar>& y, const Vector<Scalar>* dy = nullptr,
                     std::optional<Scalar> loss = std::nullopt);

  static Scalar log_ratio(Scalar value, Scalar threshold);

  Scalar loss_at(const Vector<Scalar>& y, const Vector<Scalar>* dy);

  [[nodiscard]] bool needs_derivative() const;

  // --- between steps ---

  /// State at t + theta h, theta in [0, 1], within the attempt in y_new.
  void interpolate(Scalar theta, const StepPlan<Scalar>& plan, Vector<Scalar>& out);

  void add_hermite(Scalar theta, const StepPlan<Scalar>& plan, Vector<Scalar>& out);

  void evaluate(Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy);

  // --- stalls ---

  Stall look_for_stall(const StepPlan<Scalar>& plan);

  /// -d log(goal) / dt along the flow, by a central difference over a small part of the last step.
  Scalar rate_of_decrease(Scalar h);

  // --- the end ---

  [[nodiscard]] Stats stats() const;

  [[nodiscard]] RunOutcome<Scalar> finish(Status status, std::string message);

  [[nodiscard]] std::string event_text() const {
    return sentence("the event ", options_.events[*fired_].name(), " fired at t = ", state_.t, ", step ", state_.step);
  }

  /// Where the goal event stands, for messages.
  [[nodiscard]] std::string goal_text() const;

  [[nodiscard]] std::string advice_text() const;

  [[nodiscard]] std::string budget_text() const;

  [[nodiscard]] std::string too_small_text(const StepPlan<Scalar>& plan) const;

  [[nodiscard]] std::string non_finite_text(const StepPlan<Scalar>& plan) const;

  /// The length of steps that would come to rest, in words, for no more right-hand sides than the run has made, which
  /// do not count in its statistics. Empty where it is not known.
  [[nodiscard]] std::string stable_step_text() const;

  /// The largest curvature at a point, by power iteration from a direction with differences of the size delta.
  [[nodiscard]] Scalar curvature_at(const Vector<Scalar>& point, Vector<Scalar> direction, Scalar delta);

  [[nodiscard]] std::string overflow_text() const;

  [[nodiscard]] std::string stall_text(Stall stall) const;

  /// Says that the steps go round, and which would not: from the middle of the cycle some shorter steps descend to
  /// about where it would rest, and by power iteration from the direction of the last step there is the largest
  /// curvature, for which gradient descent is stable below two over it.
  [[nodiscard]] std::string cycle_text(const StepPlan<Scalar>& plan);

  const SubnormalMode callers_mode_ = SubnormalMode::of_this_thread();
  const AnyField<Scalar>& problem_;
  AnyStepper<Scalar>& stepper_;
  const AnyController<Scalar>& controller_;
  AnyValues<Scalar>& values_;
  AnyRunFile<Scalar>* const file_;
  const RunOptions<Scalar>& options_;
  const bool is_adaptive_;
  const bool sees_cycles_;
  const bool goes_forward_;  // no one asks for what lies before a step or within it
  const Scalar start_;
  const Scalar end_;
  IntegrationState<Scalar> state_;
  const Stats base_;
  const StepCounters counters_before_;
  Vector<Scalar> y_new_ = {};
  Vector<Scalar> event_y_ = {};
  Vector<Scalar> scratch_ = {};
  Vector<Scalar> derivative_ = {};
  Vector<Scalar> probe_y_ = {};
  Vector<Scalar> probe_dy_ = {};
  std::vector<Scalar> before_ = {};  // event functions at the start of the step
  std::vector<Scalar> after_ = {};   // and at its end
  std::optional<std::size_t> goal_ = {};
  std::optional<std::size_t> fired_ = {};
  std::optional<Scalar> loss_ = {};
  bool is_made_in_place_ = false;  // the last step, in state_.y
  Scalar theta_ = Scalar(1);
  Scalar t_previous_ = Scalar(0);
  std::size_t next_time_ = 0;
  std::size_t next_step_ = 0;
  std::vector<Vector<Scalar>> row_ = {};  // of the table
  std::string file_trouble_ = {};
  Index accepted_ = 0;
  Index rejected_ = 0;
  Index evaluations_ = 0;
  Index loss_evaluations_ = 0;
  RunOutcome<Scalar> outcome_ = {};
};

template <class Scalar>
Run<Scalar>::Run(const RunParts<Scalar>& parts, const RunOptions<Scalar>& options, IntegrationState<Scalar> state,
                 Scalar end, RunOutcome<Scalar> kept)
    : problem_(parts.problem),
      stepper_(parts.stepper),
      controller_(parts.controller),
      values_(parts.values),
      file_(parts.file),
      options_(options),
      is_adaptive_(controller_.is_adaptive()),
      sees_cycles_(!is_adaptive_ && problem_.has_loss() && problem_.steps_per_epoch() == 0),
      goes_forward_(!is_adaptive_ && !sees_cycles_ && options.events.empty() && options.save_at.times.empty() &&
                    !options.save_at.dense),
      start_(state.t),
      end_(end),
      state_(std::move(state)),
      base_(state_.stats),
      counters_before_(stepper_.counters()),
      outcome_(std::move(kept)) {
  for (const Event<Scalar>& event : options_.events)
    require(!(stepper_.is_discrete() && event.is_located()), "the event ", event.name(),
            " is looked for within steps, but nothing lies between two steps of a rule: use at_step_end()");
  require(!(options_.save_at.dense && stepper_.has_long_steps()),
          "save_at.dense: a step of this stepper passes through many time scales, and is no polynomial: ask for times");
  require(!(options_.save_at.dense && file_ != nullptr),
          "save_at.dense: a checkpoint has no place for the whole of a run: ask for times");
  require(!options_.in_place || (options_.events.empty() && options_.save_at.times.empty() && !options_.save_at.dense),
          "steps in the memory of the state leave none between them for events and times");
  const Index n = state_.y.size();
  if (!options_.in_place) {
    y_new_.setZero(n);
    event_y_.setZero(n);
  }
  const std::size_t num_events = options_.events.size();
  before_.resize(num_events, Scalar(0));
  after_.resize(num_events, Scalar(0));
  for (std::size_t i = 0; i < num_events; ++i) {
    const auto kind = options_.events[i].kind();
    const bool has_goal = kind == Event<Scalar>::Kind::loss_below || kind == Event<Scalar>::Kind::stationary;
    if (has_goal && !goal_) goal_ = i;
  }
  if (num_events > 0 || !options_.save_at.times.empty() || options_.save_at.dense) {
    scratch_.setZero(n);
    derivative_.setZero(n);
  }
  if (goal_) {
    probe_y_.setZero(n);
    probe_dy_.setZero(n);
  }
  const auto& times = options_.save_at.times;
  next_time_ = static_cast<std::size_t>(std::upper_bound(times.begin(), times.end(), state_.t) - times.begin());
  const auto& steps = options_.save_at.steps;
  next_step_ = static_cast<std::size_t>(std::upper_bound(steps.begin(), steps.end(), state_.step) - steps.begin());
  if (outcome_.table.names().empty())
    for (const Quantity<Scalar>& quantity : options_.save_at.quantities) outcome_.table.add_quantity(quantity.name());
  row_.resize(options_.save_at.quantities.size());
  const std::size_t saves = times.size() + steps.size() + 2;
  outcome_.times.reserve(saves);
  outcome_.steps.reserve(saves);
  values_.reserve(saves);
}

template <class Scalar>
RunOutcome<Scalar> Run<Scalar>::run(bool is_fresh) {
  const SubnormalScope flushes(SubnormalMode::flush());
  stepper_.restore(state_.step, state_.memory);
  state_.memory.resize(0);
  stepper_.begin(state_.stage_time, state_.y);
  const auto& save_at = options_.save_at;
  const bool wants_start = save_at.start || (!save_at.times.empty() && save_at.times.front() == state_.t) ||
                           (!save_at.steps.empty() && save_at.steps.front() == state_.step);
  if (is_fresh && wants_start) save(state_.t, state_.step, state_.y);
  if (save_at.dense) outcome_.trajectory.begin(state_.t, state_.y);
  if (auto failed = start_events()) return finish(Status::non_finite, *failed);
  if (fired_) return finish(Status::event, event_text());
  if ((goal_ || sees_cycles_) && options_.detect_stall && (is_fresh || state_.stall.last_y.size() != state_.y.size()))
    Detector::start(state_.stall, state_.t, state_.y, goal_ ? before_[*goal_] : Scalar(0));
  const bool needs_first_step = is_adaptive_ && state_.t < end_ && !(state_.control.step > Scalar(0));
  if (needs_first_step && !choose_first_step())
    return finish(Status::non_finite, sentence("F(t, y)(", outcome_.bad_index,
                                               ") is not finite at the start, t = ", state_.t, ", step ", state_.step));
  for (Index attempts = 0;; ++attempts) {
    if (!(state_.t < end_)) return finish(Status::reached_end, sentence("reached t = ", state_.t));
    if (state_.step >= options_.last_step)
      return finish(Status::reached_end, sentence("made ", state_.step, " steps, to t = ", state_.t));
    if (attempts == options_.max_steps) return finish(Status::max_steps, budget_text());
    const StepPlan<Scalar> plan = controller_.plan(state_.t, end_, state_.control);
    using std::isfinite;
    if (plan.is_exhausted)
      return finish(Status::max_steps,
                    sentence("the schedule has no positive and finite step after its first ", state_.control.made,
                             ", at t = ", state_.t, ", step ", state_.step, ", before the end of the run"));
    if (!isfinite(plan.t_new)) return finish(Status::stalled, overflow_text());
    if (plan.too_small) {
      outcome_.bad_index = state_.bad_index;
      return state_.bad_index >= 0 ? finish(Status::non_finite, non_finite_text(plan))
                                   : finish(Status::step_too_small, too_small_text(plan));
    }
    if (options_.in_place) {
      if (!step_in_place(plan))
        return finish(Status::non_finite, sentence("the loss is not finite at t = ", state_.t, ", step ", state_.step));
    } else {
      is_made_in_place_ = goes_forward_ && stepper_.step_forward(state_.t, plan.h, state_.y, y_new_);
      if (!goes_forward_) stepper_.step(state_.t, plan.h, state_.y, y_new_);
      if (!judge(plan)) {
        if (is_adaptive_) continue;
        outcome_.bad_index = state_.bad_index;
        return finish(Status::non_finite, non_finite_text(plan));
      }
      if (auto failed = test_events(plan)) return finish(Status::non_finite, *failed);
    }
    const Stall stall = commit(plan);
    const Action action = show();
    if (file_ != nullptr && !fired_ && file_->is_due(state_.step)) keep();
    if (fired_) return finish(Status::event, event_text());
    if (action == Action::stop)
      return finish(Status::stopped_by_observer,
                    sentence("an observer stopped the run at t = ", state_.t, ", step ", state_.step));
    if (stall == Stall::cycle) return finish(Status::stalled, cycle_text(plan));
    if (stall != Stall::none) return finish(Status::stalled, stall_text(stall));
  }
}

template <class Scalar>
bool Run<Scalar>::step_in_place(const StepPlan<Scalar>& plan) {
  return stepper_.step_in_place(state_.t, plan.h, state_.y) && controller_.judge(Scalar(0), plan.h, 0, state_.control);
}

template <class Scalar>
bool Run<Scalar>::judge(const StepPlan<Scalar>& plan) {
  using std::isfinite;
  const Scalar known = stepper_.square_norm();
  const Index bad = known >= Scalar(0) && isfinite(known) ? -1 : first_non_finite(y_new_);
  bool accepted = bad < 0;
  if (is_adaptive_) {
    Scalar ratio = std::numeric_limits<Scalar>::quiet_NaN();
    Index bad_error = -1;
    if (accepted) {
      ratio = problem_.error_ratio(state_.y, y_new_, stepper_.error(), controller_.tolerance());
      if (!isfinite(ratio)) bad_error = first_non_finite(stepper_.error());
      if (isfinite(ratio) && plan.h <= stepper_.step_floor()) ratio = std::min(ratio, Scalar(1));
    }
    accepted = controller_.judge(ratio, plan.h, stepper_.error_order(), state_.control) && accepted;
    if (accepted || bad < 0)
      state_.control.step = std::max(state_.control.step, std::min(plan.h, stepper_.step_floor()));
    if (!accepted) {
      ++rejected_;
      state_.bad_index = bad >= 0 ? bad : bad_error;
      return false;
    }
  } else {
    if (accepted) accepted = controller_.judge(Scalar(0), plan.h, 0, state_.control);
    if (!accepted) {
      state_.bad_index = bad;
      return false;
    }
  }
  state_.bad_index = -1;
  return true;
}

template <class Scalar>
Stall Run<Scalar>::commit(const StepPlan<Scalar>& plan) {
  t_previous_ = state_.t;
  const bool is_cut = fired_ && theta_ < Scalar(1);
  const Scalar t_new = is_cut ? std::min(plan.t_new, state_.t + theta_ * plan.h) : plan.t_new;
  const auto& save_at = options_.save_at;
  for (; next_time_ < save_at.times.size() && save_at.times[next_time_] <= t_new; ++next_time_) {
    const Scalar time = save_at.times[next_time_];
    if (time == t_new) {
      save(time, state_.step + 1, is_cut ? event_y_ : y_new_);
    } else {
      interpolate((time - state_.t) / (plan.t_new - state_.t), plan, scratch_);
      save(time, state_.step, scratch_);
    }
  }
  if (save_at.dense) {
    std::array<Vector<Scalar>, 4> points;
    const Scalar whole = is_cut ? theta_ : Scalar(1);
    for (std::size_t i = 0; i < 4; ++i) {
      points[i].resize(state_.y.size());
      interpolate(whole * static_cast<Scalar>(i + 1) / Scalar(4), plan, points[i]);
    }
    outcome_.trajectory.add_step(t_new, std::move(points));
  }
  ++accepted_;
  ++state_.step;
  ++state_.control.made;
  if (is_cut) {
    state_.y.swap(y_new_);
    state_.y.swap(event_y_);
    state_.stage_time = t_new;
    state_.control.origin = t_new;
    state_.control.taken = 0;
    loss_.reset();
  } else {
    state_.stage_time = state_.t + plan.h;
    ++state_.control.taken;
    if (!options_.in_place) {
      if (!is_made_in_place_) state_.y.swap(y_new_);
      stepper_.accept();
    }
  }
  state_.t = t_new;
  before_.swap(after_);
  const bool is_asked_for = next_step_ < save_at.steps.size() && save_at.steps[next_step_] == state_.step;
  if (is_asked_for) ++next_step_;
  if (!is_cut && (is_asked_for || (save_at.every > 0 && state_.step % save_at.every == 0)))
    save(state_.t, state_.step, state_.y);
  return fired_ ? Stall::none : look_for_stall(plan);
}

template <class Scalar>
Action Run<Scalar>::show() {
  Action action = Action::proceed;
  if (options_.observers.empty()) return action;
  const Stats now = stats();
  const Vector<Scalar>& y = state_.y;
  const SubnormalScope scope(callers_mode_);
  const StepView<Scalar> view{state_.step, t_previous_, state_.t, start_, end_, y, loss_, now, stepper_.residuals()};
  for (const ObserverRef<Scalar>& observer : options_.observers)
    if (observer(view) == Action::stop) action = Action::stop;
  return action;
}

template <class Scalar>
void Run<Scalar>::save(Scalar t, Index step, const Vector<Scalar>& y) {
  if (!outcome_.times.empty() && outcome_.times.back() == t) return;
  const SubnormalScope scope(callers_mode_);
  outcome_.times.push_back(t);
  outcome_.steps.push_back(step);
  values_.save(t, y);
  const auto& quantities = options_.save_at.quantities;
  if (quantities.empty()) return;
  for (std::size_t i = 0; i < quantities.size(); ++i) quantities[i](t, y, row_[i]);
  outcome_.table.add_row(t, row_);
}

template <class Scalar>
void Run<Scalar>::keep() {
  const SubnormalScope scope(callers_mode_);
  state_.stats = stats();
  state_.memory = stepper_.memory();
  try {
    file_->write(state_, outcome_);
    file_trouble_.clear();
  } catch (const Error& error) {
    file_trouble_ = error.what();  // a full disk is no reason to lose the run as well
  }
}

template <class Scalar>
bool Run<Scalar>::choose_first_step() {
  if (controller_.first_step() > Scalar(0)) {
    state_.control.step = controller_.first_step();
    return true;
  }
  using std::isfinite;
  using std::pow;
  Vector<Scalar> f0(state_.y.size());
  if (stepper_.shares_derivatives())
    f0 = stepper_.start_derivative(state_.t, state_.y);
  else
    evaluate(state_.t, state_.y, f0);
  if (const Index bad = first_non_finite(f0); bad >= 0) {
    outcome_.bad_index = bad;
    return false;
  }
  const auto size = [&](const Vector<Scalar>& v) {
    return problem_.error_ratio(state_.y, state_.y, v, controller_.tolerance());
  };
  const Scalar d0 = size(state_.y);
  const Scalar d1 = size(f0);
  const Scalar largest = isfinite(end_) ? end_ - state_.t : std::numeric_limits<Scalar>::max();
  Scalar step = isfinite(end_) ? largest : Scalar(1);
  if (isfinite(d1) && d1 > Scalar(0)) {
    const Scalar trial = std::min(largest, std::max(Scalar(0.01) * d0, Scalar(1)) / d1);
    Vector<Scalar> y1;
    sum_with_multiple(state_.y, trial, f0, y1);
    Vector<Scalar> f1(state_.y.size());
    evaluate(state_.t + trial, y1, f1);
    add_multiple(Scalar(-1), f0, f1);
    const Scalar d2 = size(f1) / trial;
    step = (d0 > Scalar(1) ? Scalar(100) : Scalar(10000)) * trial;
    if (isfinite(d2) && d2 > Scalar(0)) {
      const Scalar time = d1 / d2;
      const Scalar allowed = Scalar(0.01) / (d1 * time);
      step = std::min(step, time * pow(std::min(allowed, Scalar(1)), Scalar(1) / Scalar(stepper_.error_order() + 1)));
    }
  }
  state_.control.step = std::min(step, largest);
  return true;
}

template <class Scalar>
std::optional<std::string> Run<Scalar>::start_events() {
  const Vector<Scalar>* dy = nullptr;
  if (stepper_.shares_derivatives() && needs_derivative()) dy = &stepper_.start_derivative(state_.t, state_.y);
  if (auto failed = evaluate_events(state_.t, state_.y, dy, before_, true)) return failed;
  for (std::size_t i = 0; i < before_.size() && !fired_; ++i)
    if (options_.events[i].is_state() && before_[i] <= Scalar(0)) fired_ = i;
  return std::nullopt;
}

template <class Scalar>
std::optional<std::string> Run<Scalar>::test_events(const StepPlan<Scalar>& plan) {
  if (before_.empty()) return std::nullopt;
  const Vector<Scalar>* dy = nullptr;
  if (stepper_.shares_derivatives() && needs_derivative()) dy = &stepper_.end_derivative(plan.t_new, y_new_);
  if (auto failed = evaluate_events(plan.t_new, y_new_, dy, after_, false)) return failed;
  theta_ = std::numeric_limits<Scalar>::infinity();
  for (std::size_t i = 0; i < before_.size(); ++i) {
    const Event<Scalar>& event = options_.events[i];
    Scalar theta = std::numeric_limits<Scalar>::infinity();
    if (!is_tested(event)) continue;
    if (looks_inside(event))
      theta = search(i, plan);
    else if (event.fires(before_[i], after_[i]))
      theta = event.is_located() ? locate(i, plan, Scalar(0), before_[i], Scalar(1), after_[i]) : Scalar(1);
    if (theta < theta_) {
      theta_ = theta;
      fired_ = i;
    }
  }
  if (fired_ && theta_ < Scalar(1)) interpolate(theta_, plan, event_y_);
  return std::nullopt;
}

template <class Scalar>
bool Run<Scalar>::looks_inside(const Event<Scalar>& event) const {
  const bool is_cheap = stepper_.is_dense() || stepper_.shares_derivatives();
  const bool is_users =
      event.kind() == Event<Scalar>::Kind::zero_crossing || event.kind() == Event<Scalar>::Kind::condition;
  return is_cheap && is_users && event.is_located();
}

template <class Scalar>
Scalar Run<Scalar>::value_at(std::size_t i, const StepPlan<Scalar>& plan, Scalar theta) {
  if (theta >= Scalar(1)) return after_[i];
  interpolate(theta, plan, scratch_);
  return event_value(options_.events[i], state_.t + theta * plan.h, scratch_);
}

template <class Scalar>
Scalar Run<Scalar>::locate(std::size_t i, const StepPlan<Scalar>& plan, Scalar low, Scalar at_low, Scalar high,
                           Scalar at_high) {
  using std::abs;
  const Scalar eps = std::numeric_limits<Scalar>::epsilon();
  const Scalar width = high - low;
  const Scalar tolerance = eps * std::max(Scalar(1), (abs(state_.t) + high * plan.h) / (width * plan.h));
  return low + width * locate_sign_change([&](Scalar x) { return value_at(i, plan, low + x * width); }, at_low, at_high,
                                          tolerance);
}

template <class Scalar>
Scalar Run<Scalar>::search(std::size_t i, const StepPlan<Scalar>& plan) {
  using std::abs;
  const Event<Scalar>& event = options_.events[i];
  const int doublings = stepper_.has_long_steps() ? 20 : 0;
  constexpr int intervals = 4;
  const int points = doublings > 0 ? doublings + intervals : intervals;
  const auto point = [&](int k) {
    using std::ldexp;
    if (k <= 0) return Scalar(0);
    if (doublings == 0) return static_cast<Scalar>(k) / static_cast<Scalar>(intervals);
    if (k <= doublings) return Scalar(ldexp(Scalar(0.5), k - doublings));
    return Scalar(0.5) + Scalar(0.5) * static_cast<Scalar>(k - doublings) / static_cast<Scalar>(intervals);
  };
  Scalar left = before_[i];   // two points ago
  Scalar value = before_[i];  // at the last one
  for (int k = 1; k <= points; ++k) {
    const Scalar right = value_at(i, plan, point(k));
    const bool is_dip = k >= 2 && abs(value) <= abs(left) && abs(value) <= abs(right) && value * right > Scalar(0) &&
                        left * value > Scalar(0);
    if (event.kind() == Event<Scalar>::Kind::zero_crossing && is_dip)
      if (const Scalar theta = search_dip(i, plan, point(k - 2), left, point(k), right); theta <= Scalar(1))
        return theta;
    if (event.fires(value, right)) return locate(i, plan, point(k - 1), value, point(k), right);
    left = value;
    value = right;
  }
  return std::numeric_limits<Scalar>::infinity();
}

template <class Scalar>
Scalar Run<Scalar>::search_dip(std::size_t i, const StepPlan<Scalar>& plan, Scalar low, Scalar at_low, Scalar high,
                               Scalar at_high) {
  using std::abs;
  const Event<Scalar>& event = options_.events[i];
  const auto golden = static_cast<Scalar>(0.6180339887498949);
  Scalar a = low;
  Scalar b = high;
  Scalar x1 = b - golden * (b - a);
  Scalar x2 = a + golden * (b - a);
  Scalar f1 = value_at(i, plan, x1);
  Scalar f2 = value_at(i, plan, x2);
  constexpr int evaluations = 40;
  for (int count = 0; count < evaluations; ++count) {
    const bool first = f1 * at_low <= Scalar(0);
    if (first || f2 * at_low <= Scalar(0)) {
      const Scalar x = first ? x1 : x2;
      const Scalar f = first ? f1 : f2;
      if (event.fires(at_low, f)) return locate(i, plan, low, at_low, x, f);
      if (event.fires(f, at_high)) return locate(i, plan, x, f, high, at_high);
      break;
    }
    if (abs(f1) < abs(f2)) {
      b = x2;
      x2 = x1;
      f2 = f1;
      x1 = b - golden * (b - a);
      f1 = value_at(i, plan, x1);
    } else {
      a = x1;
      x1 = x2;
      f1 = f2;
      x2 = a + golden * (b - a);
      f2 = value_at(i, plan, x2);
    }
  }
  return std::numeric_limits<Scalar>::infinity();
}

template <class Scalar>
std::optional<std::string> Run<Scalar>::evaluate_events(Scalar t, const Vector<Scalar>& y, const Vector<Scalar>* dy,
                                                        std::vector<Scalar>& values, bool is_start) {
  using std::isnan;
  loss_.reset();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Event<Scalar>& event = options_.events[i];
    if (!is_start && !is_tested(event)) {
      values[i] = before_[i];
      continue;
    }
    if (event.kind() == Event<Scalar>::Kind::loss_below && !loss_) loss_ = loss_at(y, dy);
    values[i] = event_value(event, t, y, dy, loss_);
    if (isnan(values[i]))
      return sentence("the event ", event.name(), " is NaN at t = ", t, "; the last good state, at t = ", state_.t,
                      ", step ", state_.step, ", is kept");
  }
  return std::nullopt;
}

template <class Scalar>
Scalar Run<Scalar>::event_value(const Event<Scalar>& event, Scalar t, const Vector<Scalar>& y, const Vector<Scalar>* dy,
                                std::optional<Scalar> loss) {
  switch (event.kind()) {
    case Event<Scalar>::Kind::loss_below:
      return log_ratio(loss ? *loss : loss_at(y, dy), event.threshold());
    case Event<Scalar>::Kind::stationary:
      if (dy == nullptr) {
        evaluate(t, y, derivative_);
        dy = &derivative_;
      }
      return log_ratio(norm(*dy), event.threshold());
    case Event<Scalar>::Kind::condition:
    case Event<Scalar>::Kind::zero_crossing:
      break;
  }
  const SubnormalScope scope(callers_mode_);
  return event.function()(t, y);
}

template <class Scalar>
Scalar Run<Scalar>::log_ratio(Scalar value, Scalar threshold) {
  using std::isnan;
  using std::log;
  if (isnan(value)) return value;
  return log(std::max(value, std::numeric_limits<Scalar>::min()) / threshold);
}

template <class Scalar>
Scalar Run<Scalar>::loss_at(const Vector<Scalar>& y, const Vector<Scalar>* dy) {
  if (dy != nullptr && problem_.has_loss_from_derivative()) return problem_.loss_from_derivative(y, *dy);
  ++loss_evaluations_;
  return problem_.loss(y);
}

template <class Scalar>
bool Run<Scalar>::needs_derivative() const {
  for (const Event<Scalar>& event : options_.events) {
    if (event.kind() == Event<Scalar>::Kind::stationary) return true;
    if (problem_.has_loss_from_derivative() && event.kind() == Event<Scalar>::Kind::loss_below) return true;
  }
  return false;
}

template <class Scalar>
void Run<Scalar>::interpolate(Scalar theta, const StepPlan<Scalar>& plan, Vector<Scalar>& out) {
  if (theta >= Scalar(1)) {
    out = y_new_;
  } else if (stepper_.is_dense()) {
    stepper_.interpolate(theta, plan.h, state_.y, y_new_, out);
  } else {
    const Scalar rest = Scalar(1) - theta;
    const Scalar bend = theta * rest * (Scalar(1) - Scalar(2) * theta);
    multiple(rest + bend, state_.y, out);
    add_multiple(theta - bend, y_new_, out);
    add_hermite(theta, plan, out);
  }
}

template <class Scalar>
void Run<Scalar>::add_hermite(Scalar theta, const StepPlan<Scalar>& plan, Vector<Scalar>& out) {
  const Scalar rest = Scalar(1) - theta;
  const Scalar weight_start = plan.h * theta * rest * rest;
  const Scalar weight_end = -plan.h * theta * theta * rest;
  if (stepper_.shares_derivatives()) {
    add_multiple(weight_start, stepper_.start_derivative(state_.t, state_.y), out);
    add_multiple(weight_end, stepper_.end_derivative(plan.t_new, y_new_), out);
  } else {
    evaluate(state_.t, state_.y, derivative_);
    add_multiple(weight_start, derivative_, out);
    evaluate(plan.t_new, y_new_, derivative_);
    add_multiple(weight_end, derivative_, out);
  }
}

template <class Scalar>
void Run<Scalar>::evaluate(Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy) {
  problem_(t, y, dy);
  ++evaluations_;
}

template <class Scalar>
Stall Run<Scalar>::look_for_stall(const StepPlan<Scalar>& plan) {
  if (!(goal_ || sees_cycles_) || !options_.detect_stall) return Stall::none;
  if (!Detector::is_due(state_.stall)) {
    // y_new holds the state before the step.
    if (sees_cycles_ && Detector::is_cycle(state_.stall, y_new_, state_.y)) return Stall::cycle;
    return Stall::none;
  }
  if (!goal_) {
    Detector::look(state_.stall, state_.y);
    return Stall::none;
  }
  return Detector::probe(state_.stall, state_.t, state_.y, before_[*goal_], is_adaptive_,
                         [&] { return rate_of_decrease(plan.h); });
}

template <class Scalar>
Scalar Run<Scalar>::rate_of_decrease(Scalar h) {
  evaluate(state_.t, state_.y, probe_dy_);
  const Scalar speed = norm(probe_dy_);
  if (!(speed > Scalar(0))) return Scalar(0);
  const auto fraction = static_cast<Scalar>(1e-3);
  const Scalar delta = std::min(fraction * h, fraction * norm(state_.y) / speed);
  const Event<Scalar>& goal = options_.events[*goal_];
  sum_with_multiple(state_.y, delta, probe_dy_, probe_y_);
  const Scalar ahead = event_value(goal, state_.t + delta, probe_y_);
  sum_with_multiple(state_.y, Scalar(-delta), probe_dy_, probe_y_);
  const Scalar behind = event_value(goal, state_.t - delta, probe_y_);
  return (behind - ahead) / (Scalar(2) * delta);
}

template <class Scalar>
Stats Run<Scalar>::stats() const {
  const StepCounters& counters = stepper_.counters();
  Stats sum = base_;
  sum.accepted += accepted_;
  sum.rejected += rejected_;
  sum.evaluations += evaluations_ + counters.evaluations - counters_before_.evaluations;
  sum.loss_evaluations += loss_evaluations_;
  sum.jacobians += counters.jacobians - counters_before_.jacobians;
  sum.factorizations += counters.factorizations - counters_before_.factorizations;
  sum.solves += counters.solves - counters_before_.solves;
  return sum;
}

template <class Scalar>
RunOutcome<Scalar> Run<Scalar>::finish(Status status, std::string message) {
  if (options_.save_at.end) save(state_.t, state_.step, state_.y);
  if (status == Status::stalled) state_.stall = {};
  state_.stats = stats();
  state_.memory = stepper_.memory();
  outcome_.status = status;
  outcome_.message = std::move(message);
  outcome_.t = state_.t;
  outcome_.w = state_.y;
  outcome_.step = state_.step;
  outcome_.event = fired_;
  if (fired_) outcome_.event_name = options_.events[*fired_].name();
  outcome_.stats = state_.stats;
  if (file_ != nullptr) keep();
  if (!file_trouble_.empty()) outcome_.message = sentence(outcome_.message, "; ", file_trouble_);
  outcome_.state = std::move(state_);
  return std::move(outcome_);
}

template <class Scalar>
std::string Run<Scalar>::goal_text() const {
  using std::exp;
  if (!goal_) return {};
  const Event<Scalar>& goal = options_.events[*goal_];
  return sentence(goal.kind() == Event<Scalar>::Kind::loss_below ? "the loss is " : "|F| is ",
                  goal.threshold() * exp(before_[*goal_]), ", the threshold ", goal.threshold());
}

template <class Scalar>
std::string Run<Scalar>::advice_text() const {
  std::string tolerance;
  if (is_adaptive_)
    tolerance = sentence(" (now relative ", controller_.tolerance().relative, ", absolute ",
                         controller_.tolerance().absolute, ")");
  const std::string advice = problem_.advice();
  return sentence("tighten the tolerance", tolerance, ", or use a stepper for stiff problems",
                  advice.empty() ? "" : "; ", advice);
}

template <class Scalar>
std::string Run<Scalar>::budget_text() const {
  return sentence(options_.max_steps, " steps were used up at t = ", state_.t, ", step ", state_.step,
                  ", before the end, ", end_, goal_ ? "; " : "", goal_text(),
                  "; raise max_steps, use a stiff stepper, or see whether the run is stationary");
}

template <class Scalar>
std::string Run<Scalar>::too_small_text(const StepPlan<Scalar>& plan) const {
  return sentence("a step of ", plan.h, " is too small to continue from t = ", state_.t, ", step ", state_.step,
                  is_adaptive_
                      ? ", and larger ones miss the tolerance; the solution may blow up or the right-hand side "
                        "jump there, or the tolerance is below rounding"
                      : ": the time no longer changes");
}

template <class Scalar>
std::string Run<Scalar>::non_finite_text(const StepPlan<Scalar>& plan) const {
  const std::string text =
      sentence("y(", state_.bad_index, ") became NaN or infinite in step ", state_.step + 1, ", from t = ", state_.t,
               " to ", plan.t_new, "; the last good state, at t = ", state_.t, ", is kept; ");
  if (is_adaptive_) return sentence(text, "smaller steps did not help: is the right-hand side defined there?");
  return sentence(text, "the step ", plan.h, " is probably too large for the flow: decrease it", stable_step_text(),
                  " or use adaptive steps");
}

template <class Scalar>
std::string Run<Scalar>::stable_step_text() const {
  // A resumed run has made its first steps elsewhere.
  if (is_adaptive_ || !options_.start_of_run || accepted_ != state_.step) return {};
  constexpr Index least_evaluations = 20;
  StableStepSearch<Scalar> search(problem_, start_, options_.start_of_run(), std::max(least_evaluations, accepted_));
  const std::optional<Scalar> bound = search.find();
  if (!bound) return {};
  return join(3, {" below about ", *bound, ", which the curvature allows where shorter steps lead,"});
}

template <class Scalar>
Scalar Run<Scalar>::curvature_at(const Vector<Scalar>& point, Vector<Scalar> direction, Scalar delta) {
  Vector<Scalar> probe, ahead(point.size()), behind(point.size());
  Scalar curvature(0);
  constexpr int iterations = 20;
  for (int i = 0; i < iterations && norm(direction) > Scalar(0); ++i) {
    multiple(Scalar(delta / norm(direction)), direction, direction);
    sum_with_multiple(point, Scalar(1), direction, probe);
    evaluate(state_.t, probe, ahead);
    sum_with_multiple(point, Scalar(-1), direction, probe);
    evaluate(state_.t, probe, behind);
    sum_with_multiple(behind, Scalar(-1), ahead, behind);
    curvature = inner_product(direction, behind) / (Scalar(2) * delta * delta);
    direction = behind;
  }
  return curvature;
}

template <class Scalar>
std::string Run<Scalar>::overflow_text() const {
  return sentence("the time left the range of the number type after t = ", state_.t, ", step ", state_.step,
                  ", without an event", goal_ ? "; " : "", goal_text(),
                  "; the state no longer changes: what the event waits for may not exist (data without a solution?) or "
                  "lie below rounding; raise the threshold, ",
                  advice_text());
}

template <class Scalar>
std::string Run<Scalar>::stall_text(Stall stall) const {
  return sentence("no progress at t = ", state_.t, ", step ", state_.step, ": ", goal_text(),
                  stall == Stall::noise_floor
                      ? "; the threshold is below what the error tolerance can reach: "
                      : "; the state no longer changes beyond rounding: the threshold may be out of reach: raise it, ",
                  advice_text());
}

template <class Scalar>
std::string Run<Scalar>::cycle_text(const StepPlan<Scalar>& plan) {
  using std::isfinite;
  std::string losses, bound;
  if (problem_.has_loss())
    losses = sentence(", between losses of ", problem_.loss(y_new_), " and ", problem_.loss(state_.y));
  Vector<Scalar> middle, direction;
  multiple(Scalar(0.5), y_new_, middle);
  add_multiple(Scalar(0.5), state_.y, middle);
  sum_with_multiple(state_.y, Scalar(-1), y_new_, direction);
  Vector<Scalar> ahead(middle.size());
  const Scalar delta = static_cast<Scalar>(1e-3) * norm(direction);
  constexpr int descents = 200;
  for (int i = 0; i < descents; ++i) {
    evaluate(state_.t, middle, ahead);
    add_multiple(Scalar(plan.h / Scalar(4)), ahead, middle);
  }
  const Scalar curvature = curvature_at(middle, std::move(direction), delta);
  if (isfinite(curvature) && curvature > Scalar(0))
    bound = join(
        3, {" below about ", Scalar(2) / curvature, ", which the curvature allows where shorter steps come to rest,"});
  return sentence("the steps of ", plan.h, " go round in a cycle of ", state_.stall.steps, ", at t = ", state_.t,
                  ", step ", state_.step, losses, "; the step is too large for the flow: decrease it", bound,
                  " or use adaptive steps");
}

/// The checks of a run, once, on entry.
template <class Scalar>
void check_run(const AnyField<Scalar>& problem, const Vector<Scalar>& y, Scalar t, Scalar end,
               const AnyController<Scalar>& controller, const RunOptions<Scalar>& options) {
  using std::isfinite;
  using std::isnan;
  require<DimensionError>(y.size() > 0, "y must have at least one entry");
  require_size("y", y.size(), problem.dimension());
  require_finite("y", y);
  require(isfinite(t), "the start of the time span must be finite, got ", t);
  require(!isnan(end) && end >= t, "the end of the time span must be at least its start, ", t, ", got ", end);
  const bool has_last_step = options.last_step < std::numeric_limits<Index>::max();
  require(isfinite(end) || has_last_step || !options.events.empty() || !options.observers.empty(),
          "the end of the time span may be infinity only when an event or an observer can end the run");
  require(options.max_steps > 0, "max_steps must be positive, got ", options.max_steps);
  controller.check();
  for (const Event<Scalar>& event : options.events)
    require(problem.has_loss() || event.kind() != Event<Scalar>::Kind::loss_below,
            "the event loss_below needs a problem with a member `Scalar loss(y) const`");
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_RUN(prefix, S)                                                     \
  prefix template class detail::Run<S>;                                                         \
  prefix template Index detail::first_non_finite<S>(const Vector<S>&);                          \
  prefix template void detail::check_run<S>(const detail::AnyField<S>&, const Vector<S>&, S, S, \
                                            const detail::AnyController<S>&, const detail::RunOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_RUN)
