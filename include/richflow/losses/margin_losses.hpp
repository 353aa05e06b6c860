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

/// The losses below by their names, plain sums over the margins `m_n = y_n f_n`.
enum class MarginLoss {
  exponential,  ///< `sum exp(-m_n)`
  logistic,     ///< `sum log(1 + exp(-m_n))`
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(MarginLoss loss) {
  return loss == MarginLoss::exponential ? "exponential" : "logistic";
}

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

/// The logarithms of the loss of one margin, and of minus its derivative, to full accuracy at any margin.
template <class S>
void log_losses_of_margin(MarginLoss loss, S margin, S& log_slope, S& log_loss) {
  using std::exp;
  using std::log;
  using std::log1p;
  if (loss == MarginLoss::exponential) {
    log_slope = log_loss = -margin;
    return;
  }
  // log(1 + e^m) without overflow.
  const S tail = exp(margin < S(0) ? margin : -margin);
  const S rest = log1p(tail);
  log_slope = margin < S(0) ? -rest : -margin - rest;
  const S plain = margin < S(0) ? rest - margin : rest;  // the loss itself
  // Where e^-m is below rounding the loss is e^-m.
  const bool is_tiny = margin > -log(std::numeric_limits<S>::epsilon());
  log_loss = is_tiny ? -margin : log(plain);
}

/// `log sum exp(x_i)`.
template <class S>
[[nodiscard]] S log_of_sum(const Vector<S>& logs) {
  using std::exp;
  using std::log;
  const S largest = logs.maxCoeff();
  S sum(0);
  for (Index n = 0; n < logs.size(); ++n) sum += exp(logs[n] - largest);
  return largest + log(sum);
}

}  // namespace detail

/// `sum_n log(1 + exp(-y_n f_n))`, a plain sum, to full relative accuracy at any margin. Labels other than +1 and -1
/// are refused.
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
      const S tail = exp(margin < S(0) ? margin : -margin);
      out[n] = detail::normal_or_zero(-y[n] * (margin < S(0) ? S(1) : tail) / (S(1) + tail));
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

/// The logarithm of one of these losses, `log sum_n l(y_n f_n)`: to full accuracy however small the loss is, where the
/// loss itself is no longer a number. Its gradient flow follows the path of the loss's own flow, in the time `tau` with
/// `dtau = L dt`, in which margins do not slow down: the flow of a homogeneous model down to losses of 1e-1000 and
/// beyond.
///
///     const GradientFlow flow(net, data, LogMarginLoss<>{MarginLoss::logistic});
///     const auto is_accurate = [&](double, const Vector<double>& w) { return flow.loss(w) <= -2303; };
///     const TimeSpan<> forever{0, std::numeric_limits<double>::infinity()};
///     const auto end = integrate(flow, w0, forever, Ros2{}, controller, {.events = {condition("L", is_accurate)}});
///
/// Its second derivative, `diag(p) - p p^T` of the margins (that of the logistic loss where margins are large), is what
/// Ros2 and Ros34Pw2 work with; explicit steppers run it, too, in more steps. Labels other than +1 and -1 are refused.
template <class S = double>
struct LogMarginLoss {
  /// See ConvexLoss.
  static constexpr bool has_centered_curvature = true;
  MarginLoss loss = MarginLoss::exponential;  ///< Whose logarithm it is.

  /// Throws ArgumentError unless every label is +1 or -1.
  void check_labels(ConstVectorRef<S> y) const { detail::require_two_classes<S>(y); }
  /// `log L`; NaN where an output is.
  [[nodiscard]] S value(ConstVectorRef<S> f, ConstVectorRef<S> y) const {
    using std::exp;
    using std::log;
    S largest = -std::numeric_limits<S>::infinity();
    S sum(0);
    for (Index n = 0; n < f.size(); ++n) {
      S log_slope, log_loss;
      detail::log_losses_of_margin(loss, S(y[n] * f[n]), log_slope, log_loss);
      if (log_loss > largest) {
        sum = sum * exp(largest - log_loss) + S(1);
        largest = log_loss;
      } else {
        sum += exp(log_loss - largest);
      }
    }
    return largest + log(sum);
  }
  /// `out_n = -y_n p_n |dL/df| / L`: p_n, the share of the sample, times the slope of the logarithm, near 1.
  void gradient(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const {
    using std::exp;
    const S whole = value(f, y);
    for (Index n = 0; n < f.size(); ++n) {
      S log_slope, log_loss;
      detail::log_losses_of_margin(loss, S(y[n] * f[n]), log_slope, log_loss);
      out[n] = detail::normal_or_zero(S(-y[n] * exp(log_slope - whole)));
    }
  }
  /// `out_n = y_n p_n^(1/2)`, p in the simplex.
  void curvature_root(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const {
    using std::sqrt;
    gradient(f, y, out);
    S sum(0);
    for (Index n = 0; n < f.size(); ++n) sum += out[n] = -y[n] * out[n];
    for (Index n = 0; n < f.size(); ++n) out[n] = y[n] * sqrt(out[n] / sum);
  }
};

}  // namespace richflow
