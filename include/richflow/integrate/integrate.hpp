#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <locale>
#include <optional>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/save_at.hpp"
#include "richflow/integrate/solution.hpp"
#include "richflow/integrate/stall.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"

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

/// The parts in one string, numbers with nine digits: enough to tell two steps apart, and easy to read.
template <class... Parts>
[[nodiscard]] std::string sentence(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text.precision(9);
  (text << ... << parts);
  return text.str();
}

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

/// First entry that is NaN or infinite, or -1. One pass of multiplications in the usual case.
template <class Scalar>
[[nodiscard]] Index first_non_finite(const Vector<Scalar>& y) {
  using std::isfinite;
  if (isfinite(y.squaredNorm())) return -1;
  for (Index i = 0; i < y.size(); ++i)
    if (!isfinite(y(i))) return i;
  return -1;  // finite entries whose squares overflow
}

/// One run of the loop: the parts, the workspace and the state it advances.
template <class Problem, class St, class Controller, class Value>
class Run {
  using Scalar = typename Problem::Scalar;
  using Options = IntegrateOptions<Scalar, Value>;
  using Event = BasicEvent<Scalar>;
  using Detector = StallDetector<Scalar>;
  static constexpr bool sees_cycles = !Controller::is_adaptive && HasLoss<Problem>;

 public:
  /// Makes all memory of the run.
  Run(const Problem& problem, IntegrationState<Scalar> state, Scalar end, const St& stepper,
      const Controller& controller, const Options& options)
      : problem_(problem),
        stepper_(stepper),
        controller_(controller),
        options_(options),
        start_(state.t),
        end_(end),
        state_(std::move(state)),
        base_(state_.stats),
        ws_(stepper_.make_workspace(problem_)) {
    const Index n = state_.y.size();
    y_new_.setZero(n);
    event_y_.setZero(n);
    const std::size_t num_events = options_.events.size();
    before_.resize(num_events, Scalar(0));
    after_.resize(num_events, Scalar(0));
    for (std::size_t i = 0; i < num_events; ++i) {
      const auto kind = options_.events[i].kind();
      has_loss_event_ = has_loss_event_ || kind == Event::Kind::loss_below;
      const bool has_goal = kind == Event::Kind::loss_below || kind == Event::Kind::stationary;
      if (has_goal && !goal_) goal_ = i;
    }
    if (num_events > 0 || !options_.save_at.times.empty()) {
      scratch_.setZero(n);
      derivative_.setZero(n);
    }
    if (goal_) {
      probe_y_.setZero(n);
      probe_dy_.setZero(n);
    }
    const auto& times = options_.save_at.times;
    next_time_ = static_cast<std::size_t>(std::upper_bound(times.begin(), times.end(), state_.t) - times.begin());
    solution_.times.reserve(times.size() + 2);
    solution_.steps.reserve(times.size() + 2);
    solution_.values.reserve(times.size() + 2);
  }

  /// To the end. `is_fresh`: not resumed, so that the start is saved and the stall memory begins here.
  [[nodiscard]] Solution<Scalar, Value> run(bool is_fresh) {
    const SubnormalScope flushes(SubnormalMode::flush());
    stepper_.begin(problem_, state_.stage_time, state_.y, ws_);
    const auto& save_at = options_.save_at;
    const bool wants_start = save_at.start || (!save_at.times.empty() && save_at.times.front() == state_.t);
    if (is_fresh && wants_start) save(state_.t, state_.step, state_.y);
    if (auto failed = start_events()) return finish(Status::non_finite, *failed);
    if (fired_) return finish(Status::event, event_text());
    if ((goal_ || sees_cycles) && options_.detect_stall && (is_fresh || state_.stall.last_y.size() != state_.y.size()))
      Detector::start(state_.stall, state_.t, state_.y, goal_ ? before_[*goal_] : Scalar(0));
    if constexpr (Controller::is_adaptive) {
      if (state_.t < end_ && !(state_.control.step > Scalar(0)) && !choose_first_step())
        return finish(Status::non_finite,
                      sentence("F(t, y)(", solution_.bad_index, ") is not finite at the start, t = ", state_.t,
                               ", step ", state_.step));
    }
    for (Index attempts = 0;; ++attempts) {
      if (!(state_.t < end_)) return finish(Status::reached_end, sentence("reached t = ", state_.t));
      if (attempts == options_.max_steps) return finish(Status::max_steps, budget_text());
      const StepPlan<Scalar> plan = controller_.plan(state_.t, end_, state_.control);
      using std::isfinite;
      if (!isfinite(plan.t_new)) return finish(Status::stalled, overflow_text());
      if (plan.too_small) {
        solution_.bad_index = state_.bad_index;
        return state_.bad_index >= 0 ? finish(Status::non_finite, non_finite_text(plan))
                                     : finish(Status::step_too_small, too_small_text(plan));
      }
      stepper_.step(problem_, state_.t, plan.h, state_.y, y_new_, ws_);
      if (!judge(plan)) {
        if constexpr (Controller::is_adaptive) continue;
        solution_.bad_index = state_.bad_index;
        return finish(Status::non_finite, non_finite_text(plan));
      }
      if (auto failed = test_events(plan)) return finish(Status::non_finite, *failed);
      const Stall stall = commit(plan);
      const Action action = show();
      if (fired_) return finish(Status::event, event_text());
      if (action == Action::stop)
        return finish(Status::stopped_by_observer,
                      sentence("an observer stopped the run at t = ", state_.t, ", step ", state_.step));
      if (stall == Stall::cycle) return finish(Status::stalled, cycle_text(plan));
      if (stall != Stall::none) return finish(Status::stalled, stall_text(stall));
    }
  }

 private:
  // --- one attempt ---

  /// Whether the attempt in y_new is taken.
  bool judge(const StepPlan<Scalar>& plan) {
    const Index bad = first_non_finite(y_new_);
    bool accepted = bad < 0;
    if constexpr (Controller::is_adaptive) {
      Scalar ratio = std::numeric_limits<Scalar>::quiet_NaN();
      Index bad_error = -1;
      if (accepted) {
        ratio = error_ratio(problem_, state_.y, y_new_, stepper_.error(ws_), controller_.tolerance);
        using std::isfinite;
        if (!isfinite(ratio)) bad_error = first_non_finite(stepper_.error(ws_));
        if (isfinite(ratio) && plan.h <= floor()) ratio = std::min(ratio, Scalar(1));
      }
      accepted = controller_.judge(ratio, plan.h, St::error_order, state_.control) && accepted;
      if (accepted || bad < 0) state_.control.step = std::max(state_.control.step, std::min(plan.h, floor()));
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

  /// The longest step that is taken whatever its error.
  [[nodiscard]] Scalar floor() const {
    if constexpr (HasStepFloor<St, Problem>)
      return stepper_.step_floor(ws_);
    else
      return Scalar(0);
  }

  /// Makes the attempt the state, at the end of the step or where an event fired, and saves what is due.
  Stall commit(const StepPlan<Scalar>& plan) {
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
    ++accepted_;
    ++state_.step;
    if (is_cut) {
      state_.y.swap(y_new_);
      state_.y.swap(event_y_);
      state_.stage_time = t_new;
      state_.control.origin = t_new;
      state_.control.taken = 0;
      loss_.reset();
    } else {
      state_.stage_time = state_.t + plan.h;
      state_.y.swap(y_new_);
      stepper_.accept(ws_);
      ++state_.control.taken;
    }
    state_.t = t_new;
    before_.swap(after_);
    if (save_at.every > 0 && !is_cut && state_.step % save_at.every == 0) save(state_.t, state_.step, state_.y);
    return fired_ ? Stall::none : look_for_stall(plan);
  }

  /// Calls the observers; stop if one of them says so.
  Action show() {
    Action action = Action::proceed;
    if (options_.observers.empty()) return action;
    const Stats now = stats();
    const Vector<Scalar>& y = state_.y;
    const SubnormalScope scope(callers_mode_);
    const StepView<Scalar> view{state_.step, t_previous_, state_.t, start_, end_, y, loss_, now};
    for (const ObserverRef<Scalar>& observer : options_.observers)
      if (observer(view) == Action::stop) action = Action::stop;
    return action;
  }

  void save(Scalar t, Index step, const Vector<Scalar>& y) {
    if (!solution_.times.empty() && solution_.times.back() == t) return;
    const SubnormalScope scope(callers_mode_);
    solution_.times.push_back(t);
    solution_.steps.push_back(step);
    if constexpr (std::is_same_v<Value, Vector<Scalar>>) {
      solution_.values.push_back(options_.save_at.value ? options_.save_at.value(t, y) : y);
    } else {
      solution_.values.push_back(options_.save_at.value(t, y));
    }
  }

  /// First step, in the problem's error norm and for any unit of time. A trial Euler step, which moves y by
  /// one hundredth or by one tolerance, gives the time T = |F| / |F'| over which F changes; the step is the
  /// part of T over which a term of the order of the error estimate stays below a hundredth of the tolerance.
  /// (The idea of Hairer, Norsett and Wanner, Solving ODEs I, II.4, without its dependence on the unit of
  /// time.) False if F is not finite at the start.
  bool choose_first_step() requires(Controller::is_adaptive) {
    if (controller_.first_step > Scalar(0)) {
      state_.control.step = controller_.first_step;
      return true;
    }
    using std::isfinite;
    using std::pow;
    Vector<Scalar> f0(state_.y.size());
    if constexpr (DerivativeStepper<St, Problem>)
      f0 = stepper_.start_derivative(problem_, state_.t, state_.y, ws_);
    else
      evaluate(state_.t, state_.y, f0);
    if (const Index bad = first_non_finite(f0); bad >= 0) {
      solution_.bad_index = bad;
      return false;
    }
    const auto size = [&](const Vector<Scalar>& v) {
      return error_ratio(problem_, state_.y, state_.y, v, controller_.tolerance);
    };
    const Scalar d0 = size(state_.y);
    const Scalar d1 = size(f0);
    const Scalar largest = isfinite(end_) ? end_ - state_.t : std::numeric_limits<Scalar>::max();
    Scalar step = isfinite(end_) ? largest : Scalar(1);
    if (isfinite(d1) && d1 > Scalar(0)) {
      const Scalar trial = std::min(largest, std::max(Scalar(0.01) * d0, Scalar(1)) / d1);
      const Vector<Scalar> y1 = state_.y + trial * f0;
      Vector<Scalar> f1(state_.y.size());
      evaluate(state_.t + trial, y1, f1);
      f1 -= f0;
      const Scalar d2 = size(f1) / trial;
      step = (d0 > Scalar(1) ? Scalar(100) : Scalar(10000)) * trial;
      if (isfinite(d2) && d2 > Scalar(0)) {
        const Scalar time = d1 / d2;
        const Scalar allowed = Scalar(0.01) / (d1 * time);
        step = std::min(step, time * pow(std::min(allowed, Scalar(1)), Scalar(1) / Scalar(St::error_order + 1)));
      }
    }
    state_.control.step = std::min(step, largest);
    return true;
  }

  // --- events ---

  /// Event functions at the start; fires those that hold. A text if one is NaN.
  std::optional<std::string> start_events() {
    const Vector<Scalar>* dy = nullptr;
    if constexpr (DerivativeStepper<St, Problem>)
      if (needs_derivative()) dy = &stepper_.start_derivative(problem_, state_.t, state_.y, ws_);
    if (auto failed = evaluate_events(state_.t, state_.y, dy, before_)) return failed;
    for (std::size_t i = 0; i < before_.size() && !fired_; ++i)
      if (options_.events[i].is_state() && before_[i] <= Scalar(0)) fired_ = i;
    return std::nullopt;
  }

  /// Event functions at the end of the attempt; locates the first that fires. A text if one is NaN.
  std::optional<std::string> test_events(const StepPlan<Scalar>& plan) {
    if (before_.empty()) return std::nullopt;
    const Vector<Scalar>* dy = nullptr;
    if constexpr (DerivativeStepper<St, Problem>)
      if (needs_derivative()) dy = &stepper_.end_derivative(problem_, plan.t_new, y_new_, ws_);
    if (auto failed = evaluate_events(plan.t_new, y_new_, dy, after_)) return failed;
    theta_ = std::numeric_limits<Scalar>::infinity();
    for (std::size_t i = 0; i < before_.size(); ++i) {
      const Event& event = options_.events[i];
      Scalar theta = std::numeric_limits<Scalar>::infinity();
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

  /// Whether the event is looked for within the step too: not where each look would cost right-hand sides, nor for
  /// losses and stationarity, which the flow does not raise and lower at will.
  static bool looks_inside(const Event& event) {
    const bool is_cheap = DenseStepper<St, Problem> || DerivativeStepper<St, Problem>;
    const bool is_users = event.kind() == Event::Kind::zero_crossing || event.kind() == Event::Kind::condition;
    return is_cheap && is_users && event.is_located();
  }

  /// The event function at t + theta h.
  Scalar value_at(std::size_t i, const StepPlan<Scalar>& plan, Scalar theta) {
    if (theta >= Scalar(1)) return after_[i];
    interpolate(theta, plan, scratch_);
    return event_value(options_.events[i], state_.t + theta * plan.h, scratch_);
  }

  /// Where the event fires first in [low, high], at whose ends it has opposite signs.
  Scalar locate(std::size_t i, const StepPlan<Scalar>& plan, Scalar low, Scalar at_low, Scalar high, Scalar at_high) {
    using std::abs;
    const Scalar eps = std::numeric_limits<Scalar>::epsilon();
    const Scalar width = high - low;
    const Scalar tolerance = eps * std::max(Scalar(1), (abs(state_.t) + high * plan.h) / (width * plan.h));
    return low + width * locate_sign_change([&](Scalar x) { return value_at(i, plan, low + x * width); }, at_low,
                                            at_high, tolerance);
  }

  /// Where the event first fires within the step, or infinity: looks at some points of the interpolant, and for an
  /// extremum that crosses zero and comes back between them. A long exponential step passes through many time scales:
  /// its points double from 2^-20 on.
  Scalar search(std::size_t i, const StepPlan<Scalar>& plan) {
    using std::abs;
    const Event& event = options_.events[i];
    constexpr int doublings = HasLongSteps<St> ? 20 : 0;
    constexpr int intervals = 4;
    constexpr int points = doublings > 0 ? doublings + intervals : intervals;
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
      if (event.kind() == Event::Kind::zero_crossing && is_dip)
        if (const Scalar theta = search_dip(i, plan, point(k - 2), left, point(k), right); theta <= Scalar(1))
          return theta;
      if (event.fires(value, right)) return locate(i, plan, point(k - 1), value, point(k), right);
      left = value;
      value = right;
    }
    return std::numeric_limits<Scalar>::infinity();
  }

  /// Where the event fires in a dip of its size between two points of one sign, or infinity. Golden section.
  Scalar search_dip(std::size_t i, const StepPlan<Scalar>& plan, Scalar low, Scalar at_low, Scalar high,
                    Scalar at_high) {
    using std::abs;
    const Event& event = options_.events[i];
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

  /// All event functions at `(t, y)`, where F is `dy` if that is known. A text if one is NaN.
  std::optional<std::string> evaluate_events(Scalar t, const Vector<Scalar>& y, const Vector<Scalar>* dy,
                                             std::vector<Scalar>& values) {
    using std::isnan;
    loss_.reset();
    if (has_loss_event_) loss_ = loss_at(y, dy);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = event_value(options_.events[i], t, y, dy, loss_);
      if (isnan(values[i]))
        return sentence("the event ", options_.events[i].name(), " is NaN at t = ", t,
                        "; the last good state, at t = ", state_.t, ", step ", state_.step, ", is kept");
    }
    return std::nullopt;
  }

  /// The function whose sign changes. Losses and norms enter by their log, in which exponential decay is a
  /// straight line. `dy` and `loss` spare their evaluation where they are known.
  Scalar event_value(const Event& event, Scalar t, const Vector<Scalar>& y, const Vector<Scalar>* dy = nullptr,
                     std::optional<Scalar> loss = std::nullopt) {
    switch (event.kind()) {
      case Event::Kind::loss_below:
        return log_ratio(loss ? *loss : loss_at(y, dy), event.threshold());
      case Event::Kind::stationary:
        if (dy == nullptr) {
          evaluate(t, y, derivative_);
          dy = &derivative_;
        }
        return log_ratio(dy->norm(), event.threshold());
      case Event::Kind::condition:
      case Event::Kind::zero_crossing:
        break;
    }
    const SubnormalScope scope(callers_mode_);
    return event.function()(t, y);
  }

  static Scalar log_ratio(Scalar value, Scalar threshold) {
    using std::isnan;
    using std::log;
    if (isnan(value)) return value;
    return log(std::max(value, std::numeric_limits<Scalar>::min()) / threshold);
  }

  Scalar loss_at(const Vector<Scalar>& y, const Vector<Scalar>* dy) {
    if constexpr (HasLossFromDerivative<Problem>)
      if (dy != nullptr) return problem_.loss_from_derivative(y, *dy);
    if constexpr (HasLoss<Problem>) {
      ++loss_evaluations_;
      return problem_.loss(y);
    } else {
      return Scalar(0);  // refused on entry
    }
  }

  [[nodiscard]] bool needs_derivative() const {
    for (const Event& event : options_.events) {
      if (event.kind() == Event::Kind::stationary) return true;
      if (HasLossFromDerivative<Problem> && event.kind() == Event::Kind::loss_below) return true;
    }
    return false;
  }

  // --- between steps ---

  /// State at t + theta h, theta in [0, 1], within the attempt in y_new.
  void interpolate(Scalar theta, const StepPlan<Scalar>& plan, Vector<Scalar>& out) {
    if (theta >= Scalar(1)) {
      out = y_new_;
    } else if constexpr (DenseStepper<St, Problem>) {
      stepper_.interpolate(ws_, theta, plan.h, state_.y, y_new_, out);
    } else {
      const Scalar rest = Scalar(1) - theta;
      out = rest * state_.y + theta * y_new_ + (theta * rest * (Scalar(1) - Scalar(2) * theta)) * (state_.y - y_new_);
      add_hermite(theta, plan, out);
    }
  }

  void add_hermite(Scalar theta, const StepPlan<Scalar>& plan, Vector<Scalar>& out) {
    const Scalar rest = Scalar(1) - theta;
    const Scalar weight_start = plan.h * theta * rest * rest;
    const Scalar weight_end = -plan.h * theta * theta * rest;
    if constexpr (DerivativeStepper<St, Problem>) {
      out += weight_start * stepper_.start_derivative(problem_, state_.t, state_.y, ws_);
      out += weight_end * stepper_.end_derivative(problem_, plan.t_new, y_new_, ws_);
    } else {
      evaluate(state_.t, state_.y, derivative_);
      out += weight_start * derivative_;
      evaluate(plan.t_new, y_new_, derivative_);
      out += weight_end * derivative_;
    }
  }

  void evaluate(Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy) {
    problem_(t, y, dy);
    ++evaluations_;
  }

  // --- stalls ---

  Stall look_for_stall(const StepPlan<Scalar>& plan) {
    if (!(goal_ || sees_cycles) || !options_.detect_stall) return Stall::none;
    if (!Detector::is_due(state_.stall)) {
      // y_new holds the state before the step.
      if (sees_cycles && Detector::is_cycle(state_.stall, y_new_, state_.y)) return Stall::cycle;
      return Stall::none;
    }
    if (!goal_) {
      Detector::look(state_.stall, state_.y);
      return Stall::none;
    }
    return Detector::probe(state_.stall, state_.t, state_.y, before_[*goal_], Controller::is_adaptive,
                           [&] { return rate_of_decrease(plan.h); });
  }

  /// -d log(goal) / dt along the flow, by a central difference over a small part of the last step.
  Scalar rate_of_decrease(Scalar h) {
    evaluate(state_.t, state_.y, probe_dy_);
    const Scalar speed = probe_dy_.norm();
    if (!(speed > Scalar(0))) return Scalar(0);
    const auto small = static_cast<Scalar>(1e-3);
    const Scalar delta = std::min(small * h, small * state_.y.norm() / speed);
    const Event& goal = options_.events[*goal_];
    probe_y_ = state_.y + delta * probe_dy_;
    const Scalar ahead = event_value(goal, state_.t + delta, probe_y_);
    probe_y_ = state_.y - delta * probe_dy_;
    const Scalar behind = event_value(goal, state_.t - delta, probe_y_);
    return (behind - ahead) / (Scalar(2) * delta);
  }

  // --- the end ---

  [[nodiscard]] Stats stats() const {
    const StepCounters& counters = ws_.counters;
    Stats sum = base_;
    sum.accepted += accepted_;
    sum.rejected += rejected_;
    sum.evaluations += evaluations_ + counters.evaluations;
    sum.loss_evaluations += loss_evaluations_;
    sum.jacobians += counters.jacobians;
    sum.factorizations += counters.factorizations;
    sum.solves += counters.solves;
    return sum;
  }

  [[nodiscard]] Solution<Scalar, Value> finish(Status status, std::string message) {
    if (options_.save_at.end) save(state_.t, state_.step, state_.y);
    if (status == Status::stalled) state_.stall = {};
    state_.stats = stats();
    solution_.status = status;
    solution_.message = std::move(message);
    solution_.t = state_.t;
    solution_.y = state_.y;
    solution_.step = state_.step;
    solution_.event = fired_;
    if (fired_) solution_.event_name = options_.events[*fired_].name();
    solution_.stats = state_.stats;
    solution_.state = std::move(state_);
    return std::move(solution_);
  }

  [[nodiscard]] std::string event_text() const {
    return sentence("the event ", options_.events[*fired_].name(), " fired at t = ", state_.t, ", step ", state_.step);
  }

  /// Where the goal event stands, for messages.
  [[nodiscard]] std::string goal_text() const {
    using std::exp;
    if (!goal_) return {};
    const Event& goal = options_.events[*goal_];
    return sentence(goal.kind() == Event::Kind::loss_below ? "the loss is " : "|F| is ",
                    goal.threshold() * exp(before_[*goal_]), ", the threshold ", goal.threshold());
  }

  [[nodiscard]] std::string advice_text() const {
    std::string tolerance = "tighten the tolerance";
    if constexpr (Controller::is_adaptive)
      tolerance = sentence("tighten the tolerance (now relative ", controller_.tolerance.relative, ", absolute ",
                           controller_.tolerance.absolute, ")");
    tolerance += ", or use a stepper for stiff problems";
    if constexpr (requires { tolerance += problem_.advice(); }) {
      tolerance += "; ";
      tolerance += problem_.advice();
    }
    return tolerance;
  }

  [[nodiscard]] std::string budget_text() const {
    std::string text = sentence(options_.max_steps, " steps were used up at t = ", state_.t, ", step ", state_.step,
                                ", before the end, ", end_);
    if (goal_) text += "; " + goal_text();
    return text + "; raise max_steps, use a stiff stepper, or see whether the run is stationary";
  }

  [[nodiscard]] std::string too_small_text(const StepPlan<Scalar>& plan) const {
    std::string text =
        sentence("a step of ", plan.h, " is too small to go on from t = ", state_.t, ", step ", state_.step);
    if constexpr (Controller::is_adaptive)
      return text +
             ", and larger ones miss the tolerance; the solution may blow up or the right-hand side jump there, or the "
             "tolerance is below rounding";
    else
      return text + ": the time no longer changes";
  }

  [[nodiscard]] std::string non_finite_text(const StepPlan<Scalar>& plan) const {
    const std::string text =
        sentence("y(", state_.bad_index, ") became NaN or infinite in step ", state_.step + 1, ", from t = ", state_.t,
                 " to ", plan.t_new, "; the last good state, at t = ", state_.t, ", is kept; ");
    if constexpr (Controller::is_adaptive)
      return text + "smaller steps did not help: is the right-hand side defined there?";
    else
      return text +
             sentence("the step ", plan.h, " is probably too large for the flow: decrease it or use adaptive steps");
  }

  [[nodiscard]] std::string overflow_text() const {
    std::string text = sentence("the time left the range of the number type after t = ", state_.t, ", step ",
                                state_.step, ", without an event");
    if (goal_) text += "; " + goal_text();
    return text +
           "; the state no longer changes: what the event waits for may not exist (data without a solution?) or "
           "lie below rounding; raise the threshold, " +
           advice_text();
  }

  [[nodiscard]] std::string stall_text(Stall stall) const {
    std::string text = sentence("no progress at t = ", state_.t, ", step ", state_.step, ": ", goal_text());
    if (stall == Stall::noise_floor)
      text += "; the threshold is below what the error tolerance can reach: ";
    else
      text += "; the state no longer changes beyond rounding: the threshold may be out of reach: raise it, ";
    return text + advice_text();
  }

  /// Steps that go round, and which would not: from the middle of the cycle some shorter steps descend to about where
  /// it would rest, and by power iteration from the direction of the last step there is the largest curvature, for
  /// which gradient descent is stable below two over it.
  [[nodiscard]] std::string cycle_text(const StepPlan<Scalar>& plan) {
    using std::isfinite;
    std::string text = sentence("the steps of ", plan.h, " go round in a cycle of ", state_.stall.steps,
                                ", at t = ", state_.t, ", step ", state_.step);
    if constexpr (HasLoss<Problem>)
      text += sentence(", between losses of ", problem_.loss(y_new_), " and ", problem_.loss(state_.y));
    Vector<Scalar> middle = Scalar(0.5) * (y_new_ + state_.y);
    Vector<Scalar> direction = state_.y - y_new_;
    Vector<Scalar> ahead(middle.size());
    Vector<Scalar> behind(middle.size());
    const Scalar delta = static_cast<Scalar>(1e-3) * direction.norm();
    constexpr int descents = 200;
    for (int i = 0; i < descents; ++i) {
      evaluate(state_.t, middle, ahead);
      middle += (plan.h / Scalar(4)) * ahead;
    }
    Scalar curvature(0);
    constexpr int iterations = 20;
    for (int i = 0; i < iterations && direction.norm() > Scalar(0); ++i) {
      direction *= delta / direction.norm();
      evaluate(state_.t, middle + direction, ahead);
      evaluate(state_.t, middle - direction, behind);
      curvature = direction.dot(behind - ahead) / (Scalar(2) * delta * delta);
      direction = behind - ahead;
    }
    text += "; the step is too large for the flow: decrease it";
    if (isfinite(curvature) && curvature > Scalar(0)) {
      std::ostringstream stable;
      stable.imbue(std::locale::classic());
      stable.precision(3);
      stable << Scalar(2) / curvature;
      text += " below about " + stable.str() + ", which the curvature allows where shorter steps come to rest,";
    }
    return text + " or use adaptive steps";
  }

  const SubnormalMode callers_mode_ = SubnormalMode::of_this_thread();
  const Problem& problem_;
  const St stepper_;
  const Controller controller_;
  const Options& options_;
  const Scalar start_;
  const Scalar end_;
  IntegrationState<Scalar> state_;
  const Stats base_;
  WorkspaceOf<St, Problem> ws_;
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
  Scalar theta_ = Scalar(1);
  Scalar t_previous_ = Scalar(0);
  bool has_loss_event_ = false;
  std::size_t next_time_ = 0;
  Index accepted_ = 0;
  Index rejected_ = 0;
  Index evaluations_ = 0;
  Index loss_evaluations_ = 0;
  Solution<Scalar, Value> solution_ = {};
};

/// The checks of a run, once, on entry.
template <class Problem, class Controller, class Scalar, class Value>
void check_run(const Problem& problem, const Vector<Scalar>& y, Scalar t, Scalar end, const Controller& controller,
               const IntegrateOptions<Scalar, Value>& options) {
  using std::isfinite;
  using std::isnan;
  require<DimensionError>(y.size() > 0, "y must have at least one entry");
  require_size("y", y.size(), problem.dimension());
  require_finite("y", y);
  require(isfinite(t), "the start of the time span must be finite, got ", t);
  require(!isnan(end) && end >= t, "the end of the time span must be at least its start, ", t, ", got ", end);
  require(isfinite(end) || !options.events.empty() || !options.observers.empty(),
          "the end of the time span may be infinity only when an event or an observer can end the run");
  require(options.max_steps > 0, "max_steps must be positive, got ", options.max_steps);
  controller.check();
  if constexpr (!HasLoss<Problem>)
    for (const BasicEvent<Scalar>& event : options.events)
      require(event.kind() != BasicEvent<Scalar>::Kind::loss_below,
              "the event loss_below needs a problem with a member `Scalar loss(y) const`");
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
    detail::check_run(problem, state.y, state.t, span.end, controller, options);
    check(options.save_at, span.start, span.end);
    return detail::Run<Problem, St, Controller, Value>(problem, std::move(state), span.end, stepper, controller,
                                                       options)
        .run(true);
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
    detail::check_run(problem, state.y, state.t, end, controller, options);
    using Scalar = detail::ScalarOfT<Problem>;
    const auto& times = options.save_at.times;
    check(options.save_at, times.empty() ? state.t : std::min<Scalar>(times.front(), state.t), end);
    return detail::Run<Problem, St, Controller, Value>(problem, state, end, stepper, controller, options).run(false);
  } else {
    return {};
  }
}

}  // namespace richflow
