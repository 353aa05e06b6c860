#pragma once

#include <ostream>
#include <string>

namespace richflow {

/// How a run or a solve ended. Numerical trouble is one of these, never an exception and never a NaN
/// in the result: whatever the status, the result holds the last good state.
enum class Status {
  reached_end,          ///< the end of the time span
  event,                ///< an event fired
  stopped_by_observer,  ///< an observer asked to stop
  tolerance_reached,    ///< an iteration met its tolerance
  max_steps,            ///< the step budget ran out
  step_too_small,       ///< no step above rounding level meets the error tolerance
  stalled,              ///< no more progress towards what was asked
  non_finite,           ///< NaN or infinity from the problem, or a blow-up
  diverged,             ///< a descent went far above where it started
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(Status status) {
  switch (status) {
    case Status::reached_end:
      return "reached_end";
    case Status::event:
      return "event";
    case Status::stopped_by_observer:
      return "stopped_by_observer";
    case Status::tolerance_reached:
      return "tolerance_reached";
    case Status::max_steps:
      return "max_steps";
    case Status::step_too_small:
      return "step_too_small";
    case Status::stalled:
      return "stalled";
    case Status::non_finite:
      return "non_finite";
    case Status::diverged:
      return "diverged";
  }
  return "unknown";
}

/// True when the run did what was asked: reached_end, event, stopped_by_observer or tolerance_reached.
[[nodiscard]] constexpr bool is_success(Status status) {
  return status == Status::reached_end || status == Status::event || status == Status::stopped_by_observer ||
         status == Status::tolerance_reached;
}

/// One sentence on what the status means and, for a failure, what usually causes it. Results carry a
/// message of their own that adds the values of the case at hand.
[[nodiscard]] inline std::string describe(Status status) {
  switch (status) {
    case Status::reached_end:
      return "the end of the time span was reached";
    case Status::event:
      return "an event ended the run";
    case Status::stopped_by_observer:
      return "an observer asked to stop";
    case Status::tolerance_reached:
      return "the tolerance was reached";
    case Status::max_steps:
      return "the step budget was used up; raise max_steps, or see whether the run is stiff";
    case Status::step_too_small:
      return "the step fell to rounding level before the error tolerance was met; the solution may be singular or the "
             "right-hand side discontinuous there";
    case Status::stalled:
      return "no more progress; what was asked is below what the error tolerance or rounding can reach";
    case Status::non_finite:
      return "NaN or infinity appeared; a constant step may be too large, or the right-hand side undefined there";
    case Status::diverged:
      return "the loss rose far above its start; the step is too large";
  }
  return "unknown status";
}

/// Prints the enumerator's name.
inline std::ostream& operator<<(std::ostream& stream, Status status) { return stream << to_string(status); }

}  // namespace richflow
