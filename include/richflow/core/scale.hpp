#pragma once

#include <cmath>

#include "richflow/core/error.hpp"

namespace richflow {

/// The initialization scale `alpha > 0`, carried as `log alpha`.
///
///     Scale<>::from_value(0.1)
///     Scale<>::from_log(-500).shifted(1).log()   // -499
///
/// So alpha = e^-500 is an ordinary value, and nothing ever forms an `alpha^2` that underflows (docs/theory.md, section
/// 2.2).
template <class Scalar = double>
class Scale {
 public:
  /// From alpha itself. Throws ArgumentError unless `0 < alpha < infinity`.
  [[nodiscard]] static Scale from_value(Scalar alpha) {
    using std::isfinite;
    using std::log;
    require(isfinite(alpha) && alpha > Scalar(0), "alpha must be positive and finite, got ", alpha);
    return Scale(log(alpha));
  }

  /// From the natural logarithm of alpha. Throws ArgumentError unless it is finite.
  [[nodiscard]] static Scale from_log(Scalar log_alpha) {
    using std::isfinite;
    require(isfinite(log_alpha), "log_alpha must be finite, got ", log_alpha);
    return Scale(log_alpha);
  }

  /// Natural logarithm of alpha.
  [[nodiscard]] Scalar log() const { return log_alpha_; }

  /// alpha; 0 or infinity where it is outside the range of `Scalar`.
  [[nodiscard]] Scalar value() const {
    using std::exp;
    return exp(log_alpha_);
  }

  /// The scale `e_folds` e-folds away: `alpha * e^e_folds`. Throws ArgumentError where its logarithm is not finite.
  [[nodiscard]] Scale shifted(Scalar e_folds) const { return from_log(log_alpha_ + e_folds); }

  friend bool operator==(const Scale&, const Scale&) = default;

 private:
  explicit Scale(Scalar log_alpha) : log_alpha_(log_alpha) {}

  Scalar log_alpha_;
};

}  // namespace richflow
