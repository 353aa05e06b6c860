#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/types.hpp"
#include "richflow/integrate/solution.hpp"

/// @file
/// Telling a run that makes no progress from one that rests on a plateau or goes down slowly.
///
/// Below the noise floor of its tolerance an adaptive method never ends: it keeps y where the
/// errors of its steps balance the decrease of the loss. A slow saddle looks the same in the loss alone.
/// The difference is in the flow: at the noise floor the derivative of the loss along the flow promises
/// many e-folds of decrease that do not come, on a plateau it promises as little as is seen. So every 50
/// accepted steps the promised rate `-d log L / dt` is measured. A window of at least 200 steps in which
/// 20 e-folds were promised counts against the run when less than a tenth of them came and, at the pace
/// seen, the threshold is more than 100 000 steps away; two such windows in a row, and it is stalled. (The
/// pace matters because noise in a fast direction may be a small part of a loss that still falls.)
///
/// A run is stalled as well when no entry of y moves beyond rounding for 200 steps, and a run of constant steps on a
/// problem with a loss when it goes round in a cycle: y comes back to where it was 2, 4, 8, 16 or 32 steps before, to
/// rounding, while single steps move it far. That is the edge of stability of the step, not the flow.

namespace richflow::detail {

/// Why a run makes no progress, if it makes none.
enum class Stall { none, noise_floor, unchanged, cycle };

/// The test described above. What it remembers is part of the state of the run, so it has no members.
template <class Scalar>
class StallDetector {
 public:
  /// Accepted steps between two looks.
  static constexpr Index probe_interval = 50;
  /// Looks in the shortest window.
  static constexpr Index probes_needed = 4;

  /// True if the accepted step that just ended calls for a probe.
  static bool is_due(StallMemory<Scalar>& memory) { return ++memory.steps >= probe_interval; }

  /// Starts at `(t, y)`, where the log of loss over threshold is `log_ratio`.
  static void start(StallMemory<Scalar>& memory, Scalar t, const Vector<Scalar>& y, Scalar log_ratio) {
    memory = {};
    memory.last_t = t;
    memory.reference_log = log_ratio;
    memory.last_y = y;
  }

  /// Whether the steps since the last look, a power of two of them, lead back to it: y is as it was, and not as it was
  /// one step ago. (Steps that are about to converge are closer to each other than the root of the rounding unit
  /// before they come back to rounding.)
  static bool is_cycle(const StallMemory<Scalar>& memory, const Vector<Scalar>& previous, const Vector<Scalar>& y) {
    using std::sqrt;
    const Index period = memory.steps;
    if (period < 2 || (period & (period - 1)) != 0) return false;
    return !has_moved(memory.last_y, y) && has_moved(previous, y, sqrt(std::numeric_limits<Scalar>::epsilon()));
  }

  /// Takes y for the point that the next steps are compared with.
  static void look(StallMemory<Scalar>& memory, const Vector<Scalar>& y) {
    memory.steps = 0;
    memory.last_y = y;
  }

  /// Looks at `(t, y)`. `rate()` measures `-d log L / dt` along the flow at y; it is called only where errors are
  /// judged, for constant steps have no noise floor.
  template <class Rate>
  static Stall probe(StallMemory<Scalar>& memory, Scalar t, const Vector<Scalar>& y, Scalar log_ratio, bool is_adaptive,
                     Rate&& rate) {
    using std::isfinite;
    memory.steps = 0;
    memory.unchanged = has_moved(memory.last_y, y) ? 0 : memory.unchanged + 1;
    memory.last_y = y;
    if (memory.unchanged >= probes_needed) return Stall::unchanged;
    if (!is_adaptive) return Stall::none;
    Scalar now = rate();
    if (!(isfinite(now) && now > Scalar(0))) now = Scalar(0);
    // The smaller rate of the two ends: a promise must last to count.
    memory.promised += std::min(now, memory.last_rate) * (t - memory.last_t);
    memory.last_rate = now;
    memory.last_t = t;
    ++memory.probes;
    constexpr int promised_needed = 20;
    if (memory.probes < probes_needed || memory.promised < Scalar(promised_needed)) return Stall::none;
    const Scalar seen = memory.reference_log - log_ratio;
    const Index steps = memory.probes * probe_interval;
    const Index patience = std::max<Index>(100000, 10 * steps);
    const bool is_far = !(seen > Scalar(0)) || log_ratio * Scalar(steps) > seen * Scalar(patience);
    memory.strikes = seen < memory.promised / Scalar(10) && is_far ? memory.strikes + 1 : 0;
    if (memory.strikes == 2) return Stall::noise_floor;
    memory.probes = 0;
    memory.promised = Scalar(0);
    memory.reference_log = log_ratio;
    return Stall::none;
  }

 private:
  static bool has_moved(const Vector<Scalar>& before, const Vector<Scalar>& after,
                        Scalar rounding = Scalar(4) * std::numeric_limits<Scalar>::epsilon()) {
    using std::abs;
    for (Index i = 0; i < after.size(); ++i)
      if (abs(after(i) - before(i)) > rounding * abs(after(i))) return true;
    return false;
  }
};

}  // namespace richflow::detail
