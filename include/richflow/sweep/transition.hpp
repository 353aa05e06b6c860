#pragma once

#include <cmath>

#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/sweep/critical_scale.hpp"

/// @file
/// Where a sweep in the scale goes from one regime to the other, and when weight decay does (grokking).

namespace richflow {

/// The time at which the flow with weight decay from scale `alpha` matches the flow without it from `alpha_c`:
/// `log(alpha / alpha_c) / (2 lambda)`, the time of `alpha e^(-2 lambda t) = alpha_c`, negative where alpha is smaller
/// already. For the squared diagonal nets and L + lambda |w|^2, up to O(lambda) (DecayingDualFlow). Throws
/// ArgumentError unless lambda is positive and finite.
[[nodiscard]] inline double grokking_time(Scale<> alpha, Scale<> alpha_c, double lambda) {
  require(std::isfinite(lambda) && lambda > 0.0, "lambda must be positive and finite, got ", lambda);
  return (alpha.log() - alpha_c.log()) / (2.0 * lambda);
}

/// A step of a curve over log alpha.
struct Transition {
  double low_value = 0.0;                   ///< at the low end
  double high_value = 0.0;                  ///< at the high end
  Scale<> tenth = Scale<>::from_log(0.0);   ///< where a tenth of the way up has been made
  Scale<> half = Scale<>::from_log(0.0);    ///< half of it: alpha_c
  Scale<> ninety = Scale<>::from_log(0.0);  ///< nine tenths

  /// Of log alpha, from a tenth to nine tenths.
  [[nodiscard]] double width() const { return ninety.log() - tenth.log(); }
  /// When the flow with decay lambda from alpha is half way down.
  [[nodiscard]] double time(Scale<> alpha, double lambda) const { return grokking_time(alpha, half, lambda); }
  /// How long it takes from nine tenths to a tenth.
  [[nodiscard]] double duration(double lambda) const { return grokking_time(ninety, tenth, lambda); }
};

/// Ends and accuracy of the search for a transition.
struct TransitionOptions {
  Scale<> low = Scale<>::from_log(-30.0);
  Scale<> high = Scale<>::from_log(5.0);
  double tolerance = 1e-4;  ///< of log alpha; positive
};

/// Where `value(scale)` makes its step, by a sweep at lambda = 0 without time integration:
///
///     MirrorPath path(data, regularizer(net, start));
///     const Transition t = transition([&](Scale<> alpha) {
///       return population_error(path.solve(alpha).require_ok().beta, beta_star);
///     });
///     t.time(alpha, lambda);   // when the test error of a run with weight decay falls
///
/// The first crossing from below counts, as in `smallest_scale`. Throws ArgumentError where value is not finite, or not
/// larger at the high end than at the low one. Cost: some 50 values.
template <class Value>
[[nodiscard]] Transition transition(Value&& value, const TransitionOptions& options = {}) {
  Transition out;
  out.low_value = static_cast<double>(value(options.low));
  out.high_value = static_cast<double>(value(options.high));
  require(std::isfinite(out.low_value) && std::isfinite(out.high_value) && out.high_value > out.low_value,
          "transition: the value must rise with the scale, got ", out.low_value, " at log alpha = ", options.low.log(),
          " and ", out.high_value, " at ", options.high.log());
  const auto reaches = [&](double share) {
    const double level = out.low_value + share * (out.high_value - out.low_value);
    const CriticalScaleOptions search{.low = options.low, .high = options.high, .tolerance = options.tolerance};
    return smallest_scale([&](Scale<> scale) { return static_cast<double>(value(scale)) >= level; }, search).scale;
  };
  out.tenth = reaches(0.1);
  out.half = reaches(0.5);
  out.ninety = reaches(0.9);
  return out;
}

}  // namespace richflow
