#pragma once

#include <cmath>
#include <concepts>

#include "richflow/core/error.hpp"

/// @file
/// Activations of networks. One is a small value with
///
/// - `value(z)`
/// - `slope_from_value(a)`: the derivative at z as a function of `a = value(z)`, or, where it is not a function of a,
///   `slope(z)`, which costs a network memory for one more number per neuron and sample
///
/// for any floating-point number, and optionally
///
/// - `static constexpr bool is_homogeneous = true`, if `value(c z) = c value(z)` for c > 0: a network without biases is
///   homogeneous then, and its flow conserves the balance of every neuron
/// - `static constexpr bool is_smooth = true`, if it has no kinks: see HasSmoothUnits
/// - `gain()`: the variance of a layer's weights times its inputs that preserves sizes, 1 by default
/// - `pull_back(a, b)`: `slope_from_value(a) * b`, computed in a better way

namespace richflow {

namespace activation {

/// `max(z, 0)`. Its derivative at 0 is 0. NaN stays NaN.
struct Relu {
  static constexpr bool is_homogeneous = true;
  template <class S>
  [[nodiscard]] static S value(S z) {
    return z < S(0) ? S(0) : z;
  }
  template <class S>
  [[nodiscard]] static S slope_from_value(S a) {
    return a > S(0) ? S(1) : S(0);
  }
  template <class S>
  [[nodiscard]] static S pull_back(S a, S b) {
    return a > S(0) ? b : S(0);
  }
  [[nodiscard]] static double gain() { return 2.0; }
};

/// `z`: deep linear networks.
struct Linear {
  static constexpr bool is_homogeneous = true;
  static constexpr bool is_linear = true;
  static constexpr bool is_smooth = true;
  template <class S>
  [[nodiscard]] static S value(S z) {
    return z;
  }
  template <class S>
  [[nodiscard]] static S slope_from_value(S /*a*/) {
    return S(1);
  }
  template <class S>
  [[nodiscard]] static S pull_back(S /*a*/, S b) {
    return b;
  }
};

/// `z` for z > 0, otherwise a fraction of it, in [0, 1), which is also the derivative at 0.
class LeakyRelu {
 public:
  static constexpr bool is_homogeneous = true;
  /// Throws ArgumentError unless the fraction is in [0, 1).
  explicit LeakyRelu(double fraction = 0.01) : fraction_(fraction) {
    require(fraction >= 0.0 && fraction < 1.0, "the fraction of a leaky ReLU must be in [0, 1), got ", fraction);
  }
  template <class S>
  [[nodiscard]] S value(S z) const {
    return z < S(0) ? static_cast<S>(fraction_) * z : z;
  }
  template <class S>
  [[nodiscard]] S slope_from_value(S a) const {
    return a > S(0) ? S(1) : static_cast<S>(fraction_);
  }
  [[nodiscard]] double gain() const { return 2.0 / (1.0 + fraction_ * fraction_); }

 private:
  double fraction_;
};

/// `tanh z`.
struct Tanh {
  static constexpr bool is_smooth = true;
  template <class S>
  [[nodiscard]] static S value(S z) {
    using std::tanh;
    return tanh(z);
  }
  template <class S>
  [[nodiscard]] static S slope_from_value(S a) {
    return (S(1) - a) * (S(1) + a);
  }
};

/// `log(1 + exp z)`, to full relative accuracy.
struct Softplus {
  static constexpr bool is_smooth = true;
  template <class S>
  [[nodiscard]] static S value(S z) {
    using std::abs;
    using std::exp;
    using std::log1p;
    return log1p(exp(-abs(z))) + (z > S(0) ? z : S(0));
  }
  template <class S>
  [[nodiscard]] static S slope_from_value(S a) {
    using std::expm1;
    return -expm1(-a);
  }
};

}  // namespace activation

namespace detail {

template <class A, class S>
concept HasSlopeFromValue = requires(const A& activation, S a) {
  { activation.slope_from_value(a) } -> std::same_as<S>;
};

template <class A>
inline constexpr bool is_homogeneous = requires {
  requires A::is_homogeneous;
};

template <class A>
inline constexpr bool is_smooth = requires {
  requires A::is_smooth;
};

template <class A>
inline constexpr bool is_linear = requires {
  requires A::is_linear;
};

/// See `gain`.
template <class A>
[[nodiscard]] double gain(const A& activation) {
  if constexpr (requires { activation.gain(); })
    return activation.gain();
  else
    return 1.0;
}

}  // namespace detail

/// An activation as described at the top of this file, for the number type S.
template <class A, class S>
concept Activation = requires(const A& activation, S z) {
  { activation.value(z) } -> std::same_as<S>;
  requires detail::HasSlopeFromValue<A, S> || requires {
    { activation.slope(z) } -> std::same_as<S>;
  };
};

}  // namespace richflow
