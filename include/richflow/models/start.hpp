#pragma once

#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// The kinds of start: where the two sides of a net begin.
enum class StartFamily {
  uniform,     ///< every weight at alpha
  shaped,      ///< at alpha w0 on both sides, so that beta(0) = 0
  biased,      ///< w_+ at alpha a, w_- at alpha b
  unbalanced,  ///< two layers, both sides at alpha (u, v)
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(StartFamily family) {
  switch (family) {
    case StartFamily::uniform:
      return "uniform";
    case StartFamily::shaped:
      return "shaped";
    case StartFamily::biased:
      return "biased";
    case StartFamily::unbalanced:
      return "unbalanced";
  }
  return "unknown";
}

/// The start of a diagonal net's gradient flow: a scale alpha and a shape. `net.initial_parameters(start)` gives the
/// weights, `regularizer(net, start)` what the flow minimizes, `simulate` and `solve` where it ends.
///
///     Start<>::uniform(Scale<>::from_log(-500))
///     Start<>::shaped(Scale<>::from_value(0.1), w0)
///
/// Scale and shape are kept by their logarithms, so that nothing underflows before it is made a weight: alpha = e^-500
/// is an ordinary value, and so is an entry of e^-395. Numbers that are given as numbers are kept as they are, too, and
/// lose no digit. A value, immutable except by assignment.
template <class S = double>
class Start {
 public:
  using Scalar = S;
  /// Type of alpha.
  using ScaleType = Scale<S>;

  /// Every weight at alpha, for any number of features.
  [[nodiscard]] static Start uniform(ScaleType scale) { return Start(StartFamily::uniform, scale); }

  /// `w_+ = w_- = alpha w0`, d entries; in two layers `u = v = alpha w0` on both sides. Throws DimensionError for an
  /// empty w0, NonFiniteError or ArgumentError naming the first entry that is not positive and finite.
  [[nodiscard]] static Start shaped(ScaleType scale, Vector<S> w0);
  /// The same from the logarithms of the entries. Throws DimensionError for an empty log_w0, NonFiniteError where an
  /// entry is not finite.
  [[nodiscard]] static Start shaped_logs(ScaleType scale, Vector<S> log_w0);

  /// `w_+ = alpha a`, `w_- = alpha b`, d entries each: biased to `beta(0) = alpha^D (a^D - b^D)`; in two layers
  /// `u_+ = v_+ = alpha a`, `u_- = v_- = alpha b`. Throws as `shaped`, and DimensionError where the lengths differ.
  [[nodiscard]] static Start biased(ScaleType scale, Vector<S> a, Vector<S> b);
  /// The same from the logarithms of the entries. Throws as `shaped_logs`, and DimensionError where the lengths differ.
  [[nodiscard]] static Start biased_logs(ScaleType scale, Vector<S> log_a, Vector<S> log_b);

  /// Two layers, `u_+ = u_- = alpha u`, `v_+ = v_- = alpha v`, entries of any sign: beta(0) = 0. Throws DimensionError
  /// for empty vectors or different lengths, NonFiniteError, ArgumentError where u_i = v_i = 0: that pair never moves.
  [[nodiscard]] static Start unbalanced(ScaleType scale, Vector<S> u, Vector<S> v);

  /// The kind of start.
  [[nodiscard]] StartFamily family() const { return family_; }
  /// alpha.
  [[nodiscard]] ScaleType scale() const { return scale_; }
  /// The same shape at another alpha.
  [[nodiscard]] Start with_scale(ScaleType scale) const {
    Start start = *this;
    start.scale_ = scale;
    return start;
  }
  /// d, or 0 for a uniform start, which fits any.
  [[nodiscard]] Index dimension() const { return log_first_.size(); }
  /// Throws DimensionError unless the start fits d features.
  void require_fits(Index d) const {
    if (family_ != StartFamily::uniform)
      require<DimensionError>(dimension() == d, "the ", to_string(family_), " start has ", dimension(),
                              " entries where the net has d = ", d, " features");
  }

  /// Whether the entries were given as numbers, not as logarithms.
  [[nodiscard]] bool has_values() const { return first_.size() > 0; }
  /// w0, a or u as given; empty for a uniform start and for one given by logarithms.
  [[nodiscard]] const Vector<S>& first_values() const { return first_; }
  /// b or v (w0 again for a shaped start) as given; empty likewise.
  [[nodiscard]] const Vector<S>& second_values() const { return is_paired() ? second_ : first_; }
  /// log w0, log a or log |u| (-infinity for u_i = 0); empty for a uniform start.
  [[nodiscard]] const Vector<S>& first_logs() const { return log_first_; }
  /// log b or log |v| (log w0 again for a shaped start); empty for a uniform start.
  [[nodiscard]] const Vector<S>& second_logs() const { return is_paired() ? log_second_ : log_first_; }

  /// `alpha a` (alpha, alpha w0, alpha u), d entries; 0 or infinity where that is outside the range of S. Throws
  /// DimensionError where the start does not fit d.
  [[nodiscard]] Vector<S> first_weights(Index d) const { return weights(d, first_, log_first_); }
  /// `alpha b` (alpha, alpha w0, alpha v), likewise.
  [[nodiscard]] Vector<S> second_weights(Index d) const { return weights(d, second_values(), second_logs()); }

 private:
  Start(StartFamily family, ScaleType scale) : family_(family), scale_(scale) {}

  [[nodiscard]] bool is_paired() const { return family_ == StartFamily::biased || family_ == StartFamily::unbalanced; }

  [[nodiscard]] Vector<S> weights(Index d, const Vector<S>& values, const Vector<S>& logs) const;

  StartFamily family_;
  ScaleType scale_;
  Vector<S> first_ = {};
  Vector<S> second_ = {};
  Vector<S> log_first_ = {};
  Vector<S> log_second_ = {};
};

template <class S>
Start<S> Start<S>::shaped(ScaleType scale, Vector<S> w0) {
  require<DimensionError>(w0.size() > 0, "w0 is empty");
  require_positive("w0", w0);
  Start start(StartFamily::shaped, scale);
  start.log_first_ = w0.array().log();
  start.first_ = std::move(w0);
  return start;
}

template <class S>
Start<S> Start<S>::shaped_logs(ScaleType scale, Vector<S> log_w0) {
  require<DimensionError>(log_w0.size() > 0, "log_w0 is empty");
  require_finite("log_w0", log_w0);
  Start start(StartFamily::shaped, scale);
  start.log_first_ = std::move(log_w0);
  return start;
}

template <class S>
Start<S> Start<S>::biased(ScaleType scale, Vector<S> a, Vector<S> b) {
  require<DimensionError>(a.size() > 0, "a is empty");
  require_size("b", b.size(), a.size());
  require_positive("a", a);
  require_positive("b", b);
  Start start(StartFamily::biased, scale);
  start.log_first_ = a.array().log();
  start.log_second_ = b.array().log();
  start.first_ = std::move(a);
  start.second_ = std::move(b);
  return start;
}

template <class S>
Start<S> Start<S>::biased_logs(ScaleType scale, Vector<S> log_a, Vector<S> log_b) {
  require<DimensionError>(log_a.size() > 0, "log_a is empty");
  require_size("log_b", log_b.size(), log_a.size());
  require_finite("log_a", log_a);
  require_finite("log_b", log_b);
  Start start(StartFamily::biased, scale);
  start.log_first_ = std::move(log_a);
  start.log_second_ = std::move(log_b);
  return start;
}

template <class S>
Start<S> Start<S>::unbalanced(ScaleType scale, Vector<S> u, Vector<S> v) {
  require<DimensionError>(u.size() > 0, "u is empty");
  require_size("v", v.size(), u.size());
  require_finite("u", u);
  require_finite("v", v);
  for (Index i = 0; i < u.size(); ++i)
    require(u[i] != S(0) || v[i] != S(0), "u(", i, ") and v(", i, ") are both 0: the pair never moves");
  Start start(StartFamily::unbalanced, scale);
  start.log_first_ = u.array().abs().log();
  start.log_second_ = v.array().abs().log();
  start.first_ = std::move(u);
  start.second_ = std::move(v);
  return start;
}

template <class S>
Vector<S> Start<S>::weights(Index d, const Vector<S>& values, const Vector<S>& logs) const {
  using std::exp;
  using std::isfinite;
  require_fits(d);
  const S alpha = scale_.value();
  if (family_ == StartFamily::uniform) return Vector<S>::Constant(d, alpha);
  const bool is_representable = alpha >= std::numeric_limits<S>::min() && isfinite(alpha);
  if (is_representable && values.size() > 0) return alpha * values;
  Vector<S> out(d);
  for (Index i = 0; i < d; ++i) {
    const S size = exp(scale_.log() + logs[i]);
    out[i] = values.size() > 0 && values[i] < S(0) ? -size : size;
  }
  return out;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_START(prefix, S) prefix template class Start<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_START)
