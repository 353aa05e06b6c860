#pragma once

#include <algorithm>
#include <cmath>

#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

/// @file
/// The initialization scale at which something starts or ceases to hold.

namespace richflow {

/// How a search for a critical scale ended.
enum class CriticalKind {
  found,   ///< the predicate holds at `scale` and not at `beyond`
  never,   ///< it held at no scale that was tried
  always,  ///< it holds at the end of the range where the search began
};

/// A critical scale.
struct CriticalScale {
  CriticalKind kind = CriticalKind::never;
  Scale<> scale = Scale<>::from_log(0.0);   ///< the critical scale: the predicate holds there (unless `never`)
  Scale<> beyond = Scale<>::from_log(0.0);  ///< found: it does not hold there, within the tolerance of `scale`
  Index evaluations = 0;                    ///< of the predicate
};

/// Where and how finely to search.
struct CriticalScaleOptions {
  Scale<> low = Scale<>::from_log(-200.0);
  Scale<> high = Scale<>::from_log(1.0);
  double tolerance = 0.01;     ///< of log alpha; positive
  double step = 0.5;           ///< of the scan, in log alpha, where it starts; positive
  double step_growth = 0.125;  ///< the step is at least this share of the way already gone; not negative
};

namespace detail {

template <class Predicate>
[[nodiscard]] CriticalScale scan_and_bisect(Predicate&& holds, double from, double to,
                                            const CriticalScaleOptions& options) {
  require(options.low.log() < options.high.log(), "low = e^", options.low.log(), " must be below high = e^",
          options.high.log());
  require(std::isfinite(options.tolerance) && options.tolerance > 0.0, "tolerance must be positive, got ",
          options.tolerance);
  require(std::isfinite(options.step) && options.step > 0.0, "step must be positive, got ", options.step);
  require(std::isfinite(options.step_growth) && options.step_growth >= 0.0, "step_growth must not be negative, got ",
          options.step_growth);

  CriticalScale result;
  const auto evaluate = [&](double log_alpha) {
    ++result.evaluations;
    return static_cast<bool>(holds(Scale<>::from_log(log_alpha)));
  };
  const double length = std::abs(to - from);
  const double direction = to > from ? 1.0 : -1.0;
  const auto at = [&](double way) { return way >= length ? to : from + direction * way; };

  double failing = 0.0;
  if (evaluate(from)) {
    result.kind = CriticalKind::always;
    result.scale = result.beyond = Scale<>::from_log(from);
    return result;
  }
  for (;;) {
    if (failing >= length) {
      result.scale = result.beyond = Scale<>::from_log(to);
      return result;
    }
    const double next = std::min(length, failing + std::max(options.step, options.step_growth * failing));
    if (!evaluate(at(next))) {
      failing = next;
      continue;
    }
    double passing = next;
    while (passing - failing > options.tolerance) {
      const double middle = 0.5 * (passing + failing);
      if (!(middle > failing && middle < passing)) break;
      (evaluate(at(middle)) ? passing : failing) = middle;
    }
    result.kind = CriticalKind::found;
    result.scale = Scale<>::from_log(at(passing));
    result.beyond = Scale<>::from_log(at(failing));
    return result;
  }
}

}  // namespace detail

/// The largest scale of `[low, high]` at which `holds(scale)` is true, to the tolerance in log alpha.
///
/// A scan from `high` downwards in growing steps finds the first scale that passes; bisection between it and its
/// failing neighbour does the rest. The predicate need not be monotone: the result is the boundary of the first
/// stretch that is at least a step wide. `always`: true at `high`; `never`: at no scale tried, `low` included.
/// Throws ArgumentError for an empty range or a tolerance or step that is not positive. Cost: `O(log(range))`
/// evaluations for the scan and `log2(step / tolerance)` for the bisection.
template <class Predicate>
[[nodiscard]] CriticalScale largest_scale(Predicate&& holds, const CriticalScaleOptions& options = {}) {
  return detail::scan_and_bisect(holds, options.high.log(), options.low.log(), options);
}

/// The smallest such scale: as `largest_scale`, with the scan from `low` upwards, and `always`: true at `low`.
template <class Predicate>
[[nodiscard]] CriticalScale smallest_scale(Predicate&& holds, const CriticalScaleOptions& options = {}) {
  return detail::scan_and_bisect(holds, options.low.log(), options.high.log(), options);
}

}  // namespace richflow
