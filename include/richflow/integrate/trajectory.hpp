#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// The whole of a run as a function of time (`save_at.dense`): the interpolant of the stepper in every step, as a
/// polynomial of degree 4 through five of its points. The interpolants of the Runge-Kutta methods and the cubic of the
/// others have no higher degree, and are reproduced exactly. Memory: four states a step.
template <class S = double>
class Trajectory {
 public:
  /// Whether nothing was kept.
  [[nodiscard]] bool empty() const { return points_.empty(); }
  /// The first time. Throws ArgumentError where nothing was kept.
  [[nodiscard]] S start() const {
    require_something();
    return start_;
  }
  /// The last time. Throws as `start`.
  [[nodiscard]] S end() const {
    require_something();
    return ends_.empty() ? start_ : ends_.back();
  }
  /// The state at time t. Throws ArgumentError for a time outside [start, end], or where nothing was kept.
  [[nodiscard]] Vector<S> operator()(S t) const;

  /// Begins at a time and a state.
  void begin(S t, const Vector<S>& y) {
    start_ = t;
    ends_.clear();
    points_ = {y};
  }
  /// One more step, to time `end`, by its states at a quarter, a half, three quarters and the whole of it.
  void add_step(S end, std::array<Vector<S>, 4> points) {
    ends_.push_back(end);
    for (Vector<S>& point : points) points_.push_back(std::move(point));
  }

 private:
  void require_something() const { require(!empty(), "the trajectory is empty: set save_at.dense"); }

  S start_ = S(0);
  std::vector<S> ends_ = {};
  std::vector<Vector<S>> points_ = {};
};

template <class S>
Vector<S> Trajectory<S>::operator()(S t) const {
  require(t >= start() && t <= end(), "t = ", t, " is outside the times of the run, [", start(), ", ", end(), "]");
  if (ends_.empty()) return points_.front();
  const auto found = std::lower_bound(ends_.begin(), ends_.end(), t);
  const auto step = static_cast<std::size_t>(found - ends_.begin());
  const S begin = step == 0 ? start_ : ends_[step - 1];
  const S x = S(4) * (t - begin) / (*found - begin);  // the points are at 0, 1, 2, 3, 4
  Vector<S> out = Vector<S>::Zero(points_.front().size());
  for (int i = 0; i <= 4; ++i) {
    S weight(1);
    for (int j = 0; j <= 4; ++j)
      if (j != i) weight *= (x - S(j)) / S(i - j);
    out += weight * points_[4 * step + static_cast<std::size_t>(i)];
  }
  return out;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_TRAJECTORY(prefix, S) prefix template class Trajectory<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TRAJECTORY)
