#pragma once

#include <cmath>
#include <limits>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/losses/loss.hpp"

/// @file
/// Losses of two classes, labels y = +1 and -1, that fall with the margins `y_n f_n` and vanish at infinity only:
/// on separable data the flow of a homogeneous model goes to infinity in the direction of a maximum margin.

namespace richflow {

namespace detail {

/// A gradient that is subnormal would slow every product it enters and moves nothing.
template <class S>
[[nodiscard]] S normal_or_zero(S x) {
  using std::abs;
  return abs(x) < std::numeric_limits<S>::min() ? S(0) : x;
}

/// Throws ArgumentError naming the first label that is neither +1 nor -1.
template <class S>
void require_two_classes(ConstVectorRef<S> y) {
  for (Index n = 0; n < y.size(); ++n)
    require(y[n] == S(1) || y[n] == S(-1), "y(", n, ") must be +1 or -1 for a loss of margins, got ", y[n],
            "; labels 0 and 1 become -1 and +1 by 2 y - 1");
}

}  // namespace detail

/// `sum_n log(1 + exp(-y_n f_n))`, a plain sum, to full relative accuracy at any margin. Refused where it is given
/// other labels than +1 and -1.
template <class S = double>
struct LogisticLoss {
  /// Throws ArgumentError unless every label is +1 or -1.
  void check_labels(ConstVectorRef<S> y) const { detail::require_two_classes<S>(y); }
  /// The loss; NaN where an output is.
  [[nodiscard]] S value(ConstVectorRef<S> f, ConstVectorRef<S> y) const {
    using std::abs;
    using std::exp;
    using std::log1p;
    S sum(0);
    for (Index n = 0; n < f.size(); ++n) {
      const S margin = y[n] * f[n];
      sum += log1p(exp(-abs(margin))) + (margin < S(0) ? -margin : S(0));
    }
    return sum;
  }
  /// `out_n = -y_n / (1 + exp(y_n f_n))`; zero below the smallest normal number.
  void gradient(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const {
    using std::exp;
    for (Index n = 0; n < f.size(); ++n) {
      const S margin = y[n] * f[n];
      // The exponential of a negative number alone, which cannot overflow.
      const S small = exp(margin < S(0) ? margin : -margin);
      out[n] = detail::normal_or_zero(-y[n] * (margin < S(0) ? S(1) : small) / (S(1) + small));
    }
  }
  /// `out_n = 1 / (2 cosh(f_n / 2))`, the root of the second derivative.
  void curvature_root(ConstVectorRef<S> f, ConstVectorRef<S> /*y*/, VectorRef<S> out) const {
    using std::abs;
    using std::exp;
    for (Index n = 0; n < f.size(); ++n) {
      const S half = exp(-abs(f[n]) / S(2));
      out[n] = detail::normal_or_zero(half / (S(1) + half * half));
    }
  }
};

/// `sum_n exp(-y_n f_n)`, a plain sum. Overflows to infinity, which stops a run, where a margin is below about -700
/// (in double precision).
template <class S = double>
struct ExponentialLoss {
  /// Throws ArgumentError unless every label is +1 or -1.
  void check_labels(ConstVectorRef<S> y) const { detail::require_two_classes<S>(y); }
  /// The loss.
  [[nodiscard]] S value(ConstVectorRef<S> f, ConstVectorRef<S> y) const {
    using std::exp;
    S sum(0);
    for (Index n = 0; n < f.size(); ++n) sum += exp(-y[n] * f[n]);
    return sum;
  }
  /// `out_n = -y_n exp(-y_n f_n)`; zero below the smallest normal number.
  void gradient(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const {
    using std::exp;
    for (Index n = 0; n < f.size(); ++n) out[n] = detail::normal_or_zero(-y[n] * exp(-y[n] * f[n]));
  }
  /// `out_n = exp(-y_n f_n / 2)`, the root of the second derivative.
  void curvature_root(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const {
    using std::exp;
    for (Index n = 0; n < f.size(); ++n) out[n] = detail::normal_or_zero(exp(-y[n] * f[n] / S(2)));
  }
};

}  // namespace richflow
