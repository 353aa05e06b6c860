#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"

/// @file
/// How the minimizers at many scales are found from each other, whatever the regularizer.

namespace richflow::detail {

/// A path of minimizers in the logarithm of the scale, as Continuation sees it: a point, Newton steps at its scale, and
/// jumps to other scales.
template <class S>
class ContinuedPath {
 public:
  virtual ~ContinuedPath() = default;

  /// Of the present point.
  [[nodiscard]] virtual S log_scale() const = 0;
  /// Of the present point, relative.
  [[nodiscard]] virtual S residual() const = 0;
  /// Newton steps at the present scale until the residual is at most `goal`.
  virtual Status correct(S goal) = 0;
  /// Whether as many factorizations were made as are allowed.
  [[nodiscard]] virtual bool is_budget_spent() const = 0;

  /// Before jumps from the present point.
  virtual void prepare_jumps() = 0;
  /// Goes to where the path is predicted to be at a scale, if the residual there is at most `neighbourhood`; else
  /// stays. That residual; infinite for a prediction outside the domain.
  virtual S try_jump(S log_scale, S neighbourhood) = 0;
  /// Makes the predictions from the present point better. False when they are as good as they get.
  virtual bool improve_predictions() = 0;
  /// Where the last `correct` found that the jump before it was too long: goes back to where it began, and returns its
  /// length. 0 where all is well.
  virtual S retreat() = 0;

 protected:
  ContinuedPath() = default;
  ContinuedPath(const ContinuedPath&) = default;
  ContinuedPath(ContinuedPath&&) noexcept = default;
  ContinuedPath& operator=(const ContinuedPath&) = default;
  ContinuedPath& operator=(ContinuedPath&&) noexcept = default;
};

/// Follows a path: jumps as far as the residual allows, corrects by Newton's method, and so on.
template <class S>
class Continuation {
 public:
  // A jump may end where the relative residual is `neighbourhood`; before the next one Newton brings it to
  // `corrected`. A jump is at most `reach` times the one before. Measured on Gaussian problems with d = 1000 and
  // N = 100; the counts change little within a factor 2 of each.
  static constexpr double neighbourhood = 0.8;
  static constexpr double corrected = 2e-2;
  static constexpr double reach = 6;
  // After a jump that ended at a residual of e^s its part `shorter`, or, for large s, `excess / (excess + s)` is tried:
  // the logarithm of the residual grows linearly far beyond the neighbourhood.
  static constexpr double shorter = 0.6;
  static constexpr double excess = 12;

  /// From the present point of `path` to the scale `target`, where the residual is to be `tolerance`.
  static Status follow(ContinuedPath<S>& path, S target, S tolerance);

 private:
  static bool jump_towards(ContinuedPath<S>& path, S target, S& last_jump);
  static S next_part(S residual);
  static bool try_jumps(ContinuedPath<S>& path, S target, S& last_jump);
};

/// Newton steps that may pass without a smaller residual before the limit of rounding counts as reached.
inline constexpr Index newton_patience = 12;

/// Whether a damped Newton step t on a dual is to be taken, by the relative residuals before and after it and the slope
/// `<step, residual>` of the concave dual at its end: while that is uphill the dual grows, even where the residual of
/// an inexact step does not shrink.
template <class S>
[[nodiscard]] bool is_newton_progress(S t, S before, S after, S slope) {
  return after < (S(1) - S(0.1) * t) * before || (after < S(1) && slope > S(0));
}

template <class S>
Status Continuation<S>::follow(ContinuedPath<S>& path, S target, S tolerance) {
  S last_jump = std::numeric_limits<S>::infinity();
  while (true) {
    const bool is_there = path.log_scale() == target;
    const Status status = path.correct(is_there ? tolerance : S(corrected));
    if (const S jump = path.retreat(); jump > S(0)) {
      last_jump = S(0.3) / S(reach) * jump;
      continue;
    }
    if (!is_success(status) || is_there) return status;
    if (path.is_budget_spent()) return Status::max_steps;
    while (!jump_towards(path, target, last_jump)) {
      // Small entries of the solution may be far from the path although the residual is small: correct them first.
      if (path.residual() <= tolerance) return Status::stalled;
      const Status closer = path.correct(std::max(tolerance, S(S(corrected) * path.residual())));
      if (!is_success(closer)) return closer;
    }
  }
}

template <class S>
bool Continuation<S>::jump_towards(ContinuedPath<S>& path, S target, S& last_jump) {
  return try_jumps(path, target, last_jump) || (path.improve_predictions() && try_jumps(path, target, last_jump));
}

template <class S>
bool Continuation<S>::try_jumps(ContinuedPath<S>& path, S target, S& last_jump) {
  using std::abs;
  const S start = path.log_scale();
  const S distance = target - start;
  path.prepare_jumps();
  S jump = abs(distance) <= S(reach) * last_jump ? distance : (distance > S(0) ? S(reach) : -S(reach)) * last_jump;
  constexpr int tries = 20;
  for (int k = 0; k < tries; ++k) {
    const S end = jump == distance ? target : start + jump;
    if (end == start) return false;
    const S there = path.try_jump(end, S(neighbourhood));
    if (there <= S(neighbourhood)) {
      last_jump = abs(jump);
      return true;
    }
    jump *= next_part(there);
  }
  return false;
}

template <class S>
S Continuation<S>::next_part(S residual) {
  using std::isfinite;
  using std::log;
  if (!isfinite(residual)) return S(shorter);
  return std::min(S(shorter), S(excess) / (S(excess) + std::max(S(0), log(residual))));
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_CONTINUATION(prefix, S) prefix template class detail::Continuation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CONTINUATION)
