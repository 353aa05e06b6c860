#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/table.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/trajectory.hpp"

namespace richflow {

/// Work done by a run and, if it was resumed, by the runs before it.
struct Stats {
  Index accepted = 0;          ///< steps taken
  Index rejected = 0;          ///< attempts whose error was too large or not finite
  Index evaluations = 0;       ///< right-hand sides, for steps, events and interpolation alike
  Index loss_evaluations = 0;  ///< losses, for events and the detection of stalls
  Index jacobians = 0;         ///< Jacobians of the right-hand side
  Index factorizations = 0;    ///< matrix factorizations
  Index solves = 0;            ///< linear systems solved with them

  /// Equal in every count.
  friend bool operator==(const Stats&, const Stats&) = default;
};

/// Prints all counts on one line.
inline std::ostream& operator<<(std::ostream& stream, const Stats& stats) {
  return stream << stats.accepted << " steps, " << stats.rejected << " rejected, " << stats.evaluations
                << " evaluations, " << stats.loss_evaluations << " losses, " << stats.jacobians << " Jacobians, "
                << stats.factorizations << " factorizations, " << stats.solves << " solves";
}

/// What the detection of stalls remembers; part of the resumable state.
template <class Scalar>
struct StallMemory {
  Index probes = 0;                  ///< probes since the reference
  Index steps = 0;                   ///< accepted steps since the last probe
  Index strikes = 0;                 ///< consecutive windows without the promised decrease
  Index unchanged = 0;               ///< consecutive probes at which y had not moved
  Scalar last_t = Scalar(0);         ///< time of the last probe
  Scalar last_rate = Scalar(0);      ///< rate of decrease that the flow promised there
  Scalar reference_log = Scalar(0);  ///< log of loss over threshold at the reference
  Scalar promised = Scalar(0);       ///< e-folds of decrease that the flow promised since the reference
  Vector<Scalar> last_y = {};        ///< y at the last probe
};

/// All that a run needs in order to continue: pass it to `resume`, or to `save_checkpoint`. A resumed run
/// takes the same steps, bit for bit, as one that was never stopped.
template <class Scalar>
struct IntegrationState {
  Scalar t = Scalar(0);                ///< time
  Vector<Scalar> y = {};               ///< state at t
  Index step = 0;                      ///< accepted steps since the very start
  Scalar stage_time = Scalar(0);       ///< t as the stepper computed it, t_previous + h
  ControlMemory<Scalar> control = {};  ///< of the step controller
  Index bad_index = -1;                ///< entry that was not finite in the last, rejected attempt, or -1
  StallMemory<Scalar> stall = {};      ///< of the detection of stalls
  Vector<Scalar> memory = {};          ///< of the rule (momentum)
  Stats stats = {};                    ///< work up to t
};

/// How a run ended, without the values that it kept. Whatever the status, `t` and `w` are the last good state.
template <class Scalar>
struct RunOutcome {
  Status status = Status::reached_end;  ///< how the run ended
  std::string message = {};             ///< the status in a sentence, with the values of this run
  Scalar t = Scalar(0);                 ///< final time
  Vector<Scalar> w = {};                ///< final state: the weights of a model, nu of a dual flow
  Index step = 0;                       ///< accepted steps up to t

  std::vector<Scalar> times = {};  ///< when values were saved
  std::vector<Index> steps = {};   ///< accepted steps at those times (completed ones, for a time between steps)

  Table<Scalar> table = Table<Scalar>();  ///< `save_at.quantities` at those times
  Trajectory<Scalar> trajectory = {};     ///< with `save_at.dense`: the state at any time

  std::optional<std::size_t> event = {};  ///< position, in the options, of the event that fired
  std::string event_name = {};            ///< and its name
  Index bad_index = -1;                   ///< for non_finite: the first entry of y that was not finite
  Stats stats = {};                       ///< work, that before a resume included
  IntegrationState<Scalar> state = {};    ///< to resume from

  /// True if the run ended as asked: reached_end, event or stopped_by_observer.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// How a run ended and what it kept.
template <class Scalar, class Value = Vector<Scalar>>
struct [[nodiscard]] Solution : RunOutcome<Scalar>, Result<Solution<Scalar, Value>> {
  std::vector<Value> values = {};  ///< what was saved, at `times`
};

/// Prints the status with its message, and the counts.
template <class Scalar, class Value>
std::ostream& operator<<(std::ostream& stream, const Solution<Scalar, Value>& solution) {
  return stream << solution.status << ": " << solution.message << " [" << solution.stats << "]";
}

}  // namespace richflow
