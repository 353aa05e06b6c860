#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

namespace detail {

/// The scalar functions of depth D >= 3. A point of (-1, 1) is given by u and its distances from the two
/// ends, `below = 1 + u` and `above = 1 - u`, because near an end only the distance has digits.
template <class Scalar>
class DepthFunctions {
 public:
  explicit DepthFunctions(Index depth)
      : power_(Scalar(depth) / Scalar(depth - 2)), tail_(Scalar(2) / Scalar(depth - 2)) {
    using std::pow;
    half_ratio_ = pow(Scalar(0.5), -power_) - pow(Scalar(1.5), -power_);
  }

  /// p = D / (D - 2).
  [[nodiscard]] Scalar power() const { return power_; }

  /// `h = above^-p - below^-p` and `slope = above^(-p-1) + below^(-p-1)` (h' = p slope), for u >= 0.
  struct Response {
    Scalar h;
    Scalar slope;
  };
  [[nodiscard]] Response response(Scalar u, Scalar below, Scalar above) const {
    using std::atanh;
    using std::expm1;
    using std::pow;
    const Scalar smaller = pow(below, -power_);
    if (above > Scalar(0.5)) {
      const Scalar ratio_minus_one = expm1(Scalar(2) * power_ * atanh(u));
      return {smaller * ratio_minus_one, smaller * (Scalar(1) + ratio_minus_one) / above + smaller / below};
    }
    const Scalar large = pow(above, -power_);
    return {large - smaller, large / above + smaller / below};
  }

  /// `H(u) = (D-2)/2 (above^-e + below^-e - 2)`, e = 2/(D-2), for u >= 0, times c = exp(log_c): the large
  /// term may be representable only as that product.
  [[nodiscard]] Scalar scaled_integral(Scalar u, Scalar below, Scalar above, Scalar c, Scalar log_c) const {
    using std::atanh;
    using std::exp;
    using std::expm1;
    using std::log;
    using std::log1p;
    using std::pow;
    using std::sinh;
    using std::sqrt;
    if (above > Scalar(0.5)) {
      // (1-u)^-e + (1+u)^-e = 2 (1-u^2)^(-e/2) cosh(e atanh u), minus 2 without cancellation.
      const Scalar half_sinh = sinh(tail_ * atanh(u) / Scalar(2));
      const Scalar cosh_minus_one = Scalar(2) * half_sinh * half_sinh;
      const Scalar growth = expm1(-tail_ / Scalar(2) * log1p(-u * u));
      return Scalar(2) * c * (growth * (Scalar(1) + cosh_minus_one) + cosh_minus_one) / tail_;
    }
    const Scalar large =
        c > std::numeric_limits<Scalar>::min() ? c * expm1(-tail_ * log(above)) : exp(log_c - tail_ * log(above));
    return (large + c * expm1(-tail_ * log(below))) / tail_;
  }

  /// The point of (0, 1) with `h = ratio > 0`.
  struct Point {
    Scalar u;
    Scalar below;
    Scalar above;
  };
  [[nodiscard]] Point inverse(Scalar ratio) const {
    using std::abs;
    using std::log1p;
    using std::pow;
    // h is convex on (0, 1) and this starts to the right of the root or close to it; Newton in u where u has the
    // digits, in 1 - u where that has.
    using std::sqrt;
    // Newton squares the error: after a step this small the next would be rounding.
    const Scalar settled = sqrt(std::numeric_limits<Scalar>::epsilon()) / Scalar(16);
    if (ratio < half_ratio_) {
      Scalar u = std::min(Scalar(0.5), ratio / (Scalar(2) * power_));
      for (int k = 0; k < max_newton_steps; ++k) {
        const Response at = response(u, Scalar(1) + u, Scalar(1) - u);
        const Scalar step = (ratio - at.h) / (power_ * at.slope);
        u = std::min(Scalar(0.5), u + step);
        if (!(abs(step) > settled * u)) break;
      }
      return {u, Scalar(1) + u, Scalar(1) - u};
    }
    Scalar s = pow(ratio + Scalar(1), -Scalar(1) / power_);
    for (int k = 0; k < max_newton_steps; ++k) {
      // s = (ratio + (2 - s)^-p)^(-1/p), a contraction here.
      const Scalar sum = ratio + pow(Scalar(2) - s, -power_);
      const Scalar image = pow(sum, -Scalar(1) / power_);
      const Scalar slope = -(image / sum) * pow(Scalar(2) - s, -power_ - Scalar(1));
      const Scalar step = (image - s) / (Scalar(1) - slope);
      s += step;
      if (!(abs(step) > settled * s)) break;
    }
    return {Scalar(1) - s, Scalar(2) - s, s};
  }

  /// The same for a ratio given by its logarithm, far outside the range of Scalar.
  [[nodiscard]] Point inverse_of_log(Scalar log_ratio) const {
    using std::exp;
    const Scalar s = exp(-log_ratio / power_);
    return {Scalar(1) - s, Scalar(2) - s, s};
  }

 private:
  static constexpr int max_newton_steps = 60;

  Scalar power_;
  Scalar tail_;        // e = 2 / (D - 2)
  Scalar half_ratio_;  // h(1/2)
};

}  // namespace detail

/// `h_D(u) = (1 - u)^(-D/(D-2)) - (1 + u)^(-D/(D-2))` on (-1, 1), D >= 3: the predictor of the depth-D diagonal net,
/// `beta = alpha^D h_D(X^T nu)` (Woodworth et al. 2020, Theorem 3; docs/theory.md, section 3.2); infinite beyond the
/// ends. To a few ulp for every u. Throws ArgumentError for D < 3.
template <class Scalar>
[[nodiscard]] Scalar depth_hypentropy_mirror(Index depth, Scalar u) {
  using std::abs;
  using std::copysign;
  require(depth >= 3, "depth must be at least 3, got ", depth);
  const Scalar a = abs(u);
  if (!(a < Scalar(1))) return a >= Scalar(1) ? copysign(std::numeric_limits<Scalar>::infinity(), u) : u;
  return copysign(detail::DepthFunctions<Scalar>(depth).response(a, Scalar(1) + a, Scalar(1) - a).h, u);
}

/// `q_D'(z) = h_D^{-1}(z)`, in (-1, 1), to a few ulp for every z; its distance from +-1 is below the resolution of
/// Scalar for large z. Throws ArgumentError for D < 3.
template <class Scalar>
[[nodiscard]] Scalar depth_hypentropy_gradient(Index depth, Scalar z) {
  using std::abs;
  using std::copysign;
  require(depth >= 3, "depth must be at least 3, got ", depth);
  return z == Scalar(0) ? z : copysign(detail::DepthFunctions<Scalar>(depth).inverse(abs(z)).u, z);
}

/// `q_D(z)` with `q_D' = h_D^{-1}`, `q_D(0) = 0`: z^2 (D-2)/(4D) near 0, |z| far away (Woodworth et al. 2020, Theorem
/// 3; docs/theory.md, section 3.2). Evaluated in its Legendre form `z u - H_D(u)`,
/// `H_D(u) = (D-2)/2 [(1-u)^(-2/(D-2)) + (1+u)^(-2/(D-2)) - 2]`, without cancellation, to a few ulp for every z. Throws
/// ArgumentError for D < 3.
template <class Scalar>
[[nodiscard]] Scalar depth_hypentropy(Index depth, Scalar z) {
  using std::abs;
  require(depth >= 3, "depth must be at least 3, got ", depth);
  const Scalar a = abs(z);
  if (a == Scalar(0) || a == std::numeric_limits<Scalar>::infinity()) return a;
  const detail::DepthFunctions<Scalar> functions(depth);
  const auto at = functions.inverse(a);
  return a * at.u - functions.scaled_integral(at.u, at.below, at.above, Scalar(1), Scalar(0));
}

/// The regularizer `Q^D_alpha` of the depth-D diagonal net `beta = w_+^D - w_-^D`, D >= 3: gradient flow from
/// `w(0) = alpha (a, b)` that fits the data ends at the minimizer of Q over `X beta = y` (Woodworth et al. 2020,
/// Theorem 3, for a = b = 1; docs/theory.md, section 3.2).
///
/// For `a = b = w0`:
///
///     Q(beta) = sum_i alpha^D w0_i^2 q_D(beta_i / (alpha w0_i)^D)
///     beta_i  = (alpha w0_i)^D h_D(w0_i^(D-2) z_i),    |z_i| < w0_i^(2-D)
///
/// so that for alpha -> 0 Q becomes the weighted norm `sum w0_i^(2-D) |beta_i|`: unlike at depth 2 the shape
/// survives. For a != b, w0 is given by `w0^(2-D) = (a^(2-D) + b^(2-D)) / 2` and Q is the Bregman divergence of
/// the above from `beta(0) = alpha^D (a^D - b^D)`, so that always `grad Q(beta(0)) = 0` and
/// `grad Q(beta(t)) = X^T nu(t)`.
///
/// A BoundedMirrorMap: z lives between bounds, and near them beta is determined by the distance from the
/// bound, about `alpha^(D-2) |beta|^(-(D-2)/D)`, which has no digits in z itself; the members that take `below` and
/// `above` work from it. Accurate for any `log alpha` in which alpha^D does not overflow and alpha^(D-2) does not
/// underflow; alpha^D = e^-500 is an ordinary input. Throws ArgumentError where (alpha w0)^D overflows. Immutable;
/// copies share their shape. Each call costs O(d).
template <class S = double>
class DepthHypentropy {
 public:
  using Scalar = S;
  /// Type of alpha.
  using ScaleType = Scale<S>;

  /// `w_+(0) = w_-(0) = alpha`, d coordinates. Throws DimensionError for d <= 0, ArgumentError for depth < 3.
  [[nodiscard]] static DepthHypentropy uniform(Index depth, Index d, ScaleType scale);

  /// `w_+(0) = w_-(0) = alpha w0`. Throws ArgumentError where an entry is not positive or depth < 3, NonFiniteError
  /// where one is not finite.
  [[nodiscard]] static DepthHypentropy shaped(Index depth, const Vector<S>& w0, ScaleType scale);

  /// `w_+(0) = alpha a`, `w_-(0) = alpha b`. Throws as `shaped`, and DimensionError where the lengths differ.
  [[nodiscard]] static DepthHypentropy biased(Index depth, const Vector<S>& a, const Vector<S>& b, ScaleType scale);

  /// `shaped` and `biased` from the logarithms of the entries; entries and their powers may underflow, but not
  /// `w0^(2-D)`, in which z is measured: what all entries have in common belongs to the scale. Throw NonFiniteError
  /// where a logarithm is not finite, otherwise as above.
  [[nodiscard]] static DepthHypentropy shaped_logs(Index depth, const Vector<S>& log_w0, ScaleType scale);
  [[nodiscard]] static DepthHypentropy biased_logs(Index depth, const Vector<S>& log_a, const Vector<S>& log_b,
                                                   ScaleType scale);

  /// D.
  [[nodiscard]] Index depth() const { return shape_->depth; }
  /// d.
  [[nodiscard]] Index dimension() const { return shape_->half_width.size(); }
  /// alpha.
  [[nodiscard]] ScaleType scale() const { return scale_; }
  /// The same shape at another alpha. O(d).
  [[nodiscard]] DepthHypentropy with_scale(ScaleType scale) const { return DepthHypentropy(shape_, scale); }
  /// The flow of the net under `L = |X beta - y|^2` is `nu' = -c (X beta(X^T nu) - y)`, c = 2 D (D-2) alpha^(D-2).
  [[nodiscard]] S dual_rate() const { return S(2 * depth() * (depth() - 2)) * scale_power(scale_, depth() - 2); }
  /// At constant z, beta is proportional to alpha^D.
  [[nodiscard]] S homogeneity() const { return S(depth()); }

  /// `Q(beta)`; nonnegative, 0 at `beta(0)`.
  [[nodiscard]] S value(ConstVectorRef<S> beta) const;

  /// `out = grad Q(beta)`, d values between the bounds.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const;

  /// `z = grad Q(beta)` with its distances from the bounds, `below` = z - lower bound and `above` = upper bound - z,
  /// all three to a few ulp of themselves.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const;

  /// The distances of z from the bounds; not positive outside.
  void bounds(ConstVectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const;

  /// `beta` with `grad Q(beta) = z`, and `curvature = d beta / d z`. At and beyond a bound both are infinite. Near
  /// a bound beta is as accurate as the distance that z leaves.
  void mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const;

  /// The same from z and its distances from the bounds, to a few ulp however close the bound.
  void mirror(ConstVectorRef<S> z, ConstVectorRef<S> below, ConstVectorRef<S> above, VectorRef<S> beta,
              VectorRef<S> curvature) const;

  /// `Q*(z) = sup_beta <z, beta> - Q(beta)`; infinite beyond the bounds.
  [[nodiscard]] S conjugate(ConstVectorRef<S> z) const;

  /// The largest t for which `z + s dz` stays between the bounds for all s in [0, t).
  [[nodiscard]] S max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const;

 private:
  struct Shape {
    Index depth = 0;
    Vector<S> from_a = {};      // a^(2-D), the upper bound of z
    Vector<S> from_b = {};      // b^(2-D), minus the lower bound
    Vector<S> half_width = {};  // (a^(2-D) + b^(2-D)) / 2 = w0^(2-D)
    Vector<S> center = {};      // (a^(2-D) - b^(2-D)) / 2; 0 when a = b
    Vector<S> log_w0 = {};
    Vector<S> unit_c = {};  // w0^D
  };

  struct Located {
    S z;
    S below;
    S above;
  };

  DepthHypentropy(std::shared_ptr<const Shape> shape, ScaleType scale);

  [[nodiscard]] static std::shared_ptr<const Shape> make_shape(Index depth, const Vector<S>& a, const Vector<S>& b);
  [[nodiscard]] static std::shared_ptr<const Shape> make_shape_of_logs(Index depth, const Vector<S>& log_a,
                                                                       const Vector<S>& log_b);
  static void require_depth(Index depth);
  /// What follows from the two powers; `entry(i)` says what was given.
  template <class Entry>
  [[nodiscard]] static std::shared_ptr<const Shape> make_shape_of_powers(Index depth, Vector<S> from_a,
                                                                         Vector<S> from_b, const Entry& entry);

  /// alpha^n from log alpha: n log alpha is rounded, and in the exponent its rounding error would count in full.
  [[nodiscard]] static S scale_power(ScaleType scale, Index n);

  /// beta and its slope at z.
  void respond(Index i, S z, S below, S above, S& beta, S& curvature) const;

  /// grad Q_i(beta) and its distances from the bounds.
  [[nodiscard]] Located locate(Index i, S beta) const;

  /// The u > 0 of |beta|.
  [[nodiscard]] typename detail::DepthFunctions<S>::Point point(Index i, S beta) const;

  /// Q*_i(z), the integral of beta over [0, z]. For small z by quadrature, because the difference would cancel.
  [[nodiscard]] S conjugate(Index i, S z, S below, S above) const;

  /// Q_i(beta), the integral of t d beta / dt over [0, z].
  [[nodiscard]] S divergence(Index i, S beta) const;

  /// `half_width * c H` at the point `centered` from the center.
  [[nodiscard]] S integral(Index i, S centered, S below, S above) const;

  /// True where z is so near 0 that six Gauss nodes in between reach rounding: the singularities at the bounds are far.
  /// Without bias only H itself is needed, which does not cancel.
  [[nodiscard]] bool is_near_start(Index i, S z, S below, S above) const;

  /// Integral over t in [0, z] of `function(t, beta(t), curvature(t))` by Gauss's rule with six nodes.
  template <class Function>
  [[nodiscard]] S gauss(S z, const Function& function, Index i) const {
    constexpr long double nodes[] = {0.2386191860831969086305017L, 0.6612093864662645136613996L,
                                     0.9324695142031520278123016L};
    constexpr long double weights[] = {0.4679139345726910473898703L, 0.3607615730481386075698335L,
                                       0.1713244923791703450402961L};
    S sum(0);
    for (int k = 0; k < 3; ++k)
      for (const S node : {S(nodes[k]), -S(nodes[k])}) {
        const S t = (S(1) + node) * (z / S(2));
        S beta(0);
        S curvature(0);
        respond(i, t, shape_->from_b[i] + t, shape_->from_a[i] - t, beta, curvature);
        sum += S(weights[k]) * function(t, beta, curvature);
      }
    return z / S(2) * sum;
  }

  std::shared_ptr<const Shape> shape_;
  detail::DepthFunctions<S> functions_;
  ScaleType scale_;
  Vector<S> log_c_;  // log (alpha w0)^D
  Vector<S> c_;      // (alpha w0)^D; loses digits, and underflows, where log_c does not
};

template <class S>
DepthHypentropy<S> DepthHypentropy<S>::uniform(Index depth, Index d, ScaleType scale) {
  require<DimensionError>(d > 0, "depth hypentropy needs d > 0 coordinates, got ", d);
  return DepthHypentropy(make_shape(depth, Vector<S>::Ones(d), Vector<S>::Ones(d)), scale);
}

template <class S>
DepthHypentropy<S> DepthHypentropy<S>::shaped(Index depth, const Vector<S>& w0, ScaleType scale) {
  require<DimensionError>(w0.size() > 0, "w0 is empty");
  require_positive("w0", w0);
  return DepthHypentropy(make_shape(depth, w0, w0), scale);
}

template <class S>
DepthHypentropy<S> DepthHypentropy<S>::biased(Index depth, const Vector<S>& a, const Vector<S>& b, ScaleType scale) {
  require<DimensionError>(a.size() > 0, "a is empty");
  require_size("b", b.size(), a.size());
  require_positive("a", a);
  require_positive("b", b);
  return DepthHypentropy(make_shape(depth, a, b), scale);
}

template <class S>
DepthHypentropy<S> DepthHypentropy<S>::shaped_logs(Index depth, const Vector<S>& log_w0, ScaleType scale) {
  require<DimensionError>(log_w0.size() > 0, "log_w0 is empty");
  require_finite("log_w0", log_w0);
  return DepthHypentropy(make_shape_of_logs(depth, log_w0, log_w0), scale);
}

template <class S>
DepthHypentropy<S> DepthHypentropy<S>::biased_logs(Index depth, const Vector<S>& log_a, const Vector<S>& log_b,
                                                   ScaleType scale) {
  require<DimensionError>(log_a.size() > 0, "log_a is empty");
  require_size("log_b", log_b.size(), log_a.size());
  require_finite("log_a", log_a);
  require_finite("log_b", log_b);
  return DepthHypentropy(make_shape_of_logs(depth, log_a, log_b), scale);
}

template <class S>
S DepthHypentropy<S>::value(ConstVectorRef<S> beta) const {
  require_size("beta", beta.size(), dimension());
  S sum(0);
  for (Index i = 0; i < dimension(); ++i) sum += divergence(i, beta[i]);
  return sum;
}

template <class S>
void DepthHypentropy<S>::gradient(ConstVectorRef<S> beta, VectorRef<S> out) const {
  require_size("beta", beta.size(), dimension());
  require_size("out", out.size(), dimension());
  for (Index i = 0; i < dimension(); ++i) out[i] = locate(i, beta[i]).z;
}

template <class S>
void DepthHypentropy<S>::gradient(ConstVectorRef<S> beta, VectorRef<S> z, VectorRef<S> below,
                                  VectorRef<S> above) const {
  require_size("beta", beta.size(), dimension());
  require_size("z", z.size(), dimension());
  require_size("below", below.size(), dimension());
  require_size("above", above.size(), dimension());
  for (Index i = 0; i < dimension(); ++i) {
    const Located at = locate(i, beta[i]);
    z[i] = at.z;
    below[i] = at.below;
    above[i] = at.above;
  }
}

template <class S>
void DepthHypentropy<S>::bounds(ConstVectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const {
  require_size("z", z.size(), dimension());
  require_size("below", below.size(), dimension());
  require_size("above", above.size(), dimension());
  below = shape_->from_b + z;
  above = shape_->from_a - z;
}

template <class S>
void DepthHypentropy<S>::mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const {
  require_size("z", z.size(), dimension());
  require_size("beta", beta.size(), dimension());
  require_size("curvature", curvature.size(), dimension());
  for (Index i = 0; i < dimension(); ++i)
    respond(i, z[i], shape_->from_b[i] + z[i], shape_->from_a[i] - z[i], beta[i], curvature[i]);
}

template <class S>
void DepthHypentropy<S>::mirror(ConstVectorRef<S> z, ConstVectorRef<S> below, ConstVectorRef<S> above,
                                VectorRef<S> beta, VectorRef<S> curvature) const {
  require_size("z", z.size(), dimension());
  require_size("below", below.size(), dimension());
  require_size("above", above.size(), dimension());
  require_size("beta", beta.size(), dimension());
  require_size("curvature", curvature.size(), dimension());
  for (Index i = 0; i < dimension(); ++i) respond(i, z[i], below[i], above[i], beta[i], curvature[i]);
}

template <class S>
S DepthHypentropy<S>::conjugate(ConstVectorRef<S> z) const {
  using std::abs;
  require_size("z", z.size(), dimension());
  S sum(0);
  for (Index i = 0; i < dimension(); ++i) {
    const S below = shape_->from_b[i] + z[i];
    const S above = shape_->from_a[i] - z[i];
    if (!(below > S(0) && above > S(0))) return z[i] == z[i] ? std::numeric_limits<S>::infinity() : z[i];
    sum += conjugate(i, z[i], below, above);
  }
  return sum;
}

template <class S>
S DepthHypentropy<S>::max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const {
  require_size("z", z.size(), dimension());
  require_size("dz", dz.size(), dimension());
  S largest = std::numeric_limits<S>::infinity();
  for (Index i = 0; i < dimension(); ++i) {
    const S room = dz[i] > S(0) ? shape_->from_a[i] - z[i] : shape_->from_b[i] + z[i];
    using std::abs;
    if (dz[i] != S(0)) largest = std::min(largest, std::max(S(0), room / abs(dz[i])));
  }
  return largest;
}

template <class S>
DepthHypentropy<S>::DepthHypentropy(std::shared_ptr<const Shape> shape, ScaleType scale)
    : shape_(std::move(shape)), functions_(shape_->depth), scale_(scale) {
  using std::isfinite;
  log_c_ = S(depth()) * (shape_->log_w0.array() + scale.log());
  c_ = scale_power(scale, depth()) * shape_->unit_c;
  using std::exp;
  for (Index i = 0; i < c_.size(); ++i)
    if (!(shape_->unit_c[i] >= std::numeric_limits<S>::min() && isfinite(shape_->unit_c[i]))) c_[i] = exp(log_c_[i]);
  require(isfinite(c_.maxCoeff()), "log_alpha = ", scale.log(), " is too large: (alpha w0)^", depth(), " overflows");
}

template <class S>
std::shared_ptr<const typename DepthHypentropy<S>::Shape> DepthHypentropy<S>::make_shape(Index depth,
                                                                                         const Vector<S>& a,
                                                                                         const Vector<S>& b) {
  require_depth(depth);
  const S exponent = S(2 - depth);
  return make_shape_of_powers(depth, a.array().pow(exponent), b.array().pow(exponent), [&](Index i) { return a[i]; });
}

template <class S>
std::shared_ptr<const typename DepthHypentropy<S>::Shape> DepthHypentropy<S>::make_shape_of_logs(
    Index depth, const Vector<S>& log_a, const Vector<S>& log_b) {
  require_depth(depth);
  const S exponent = S(2 - depth);
  return make_shape_of_powers(depth, (exponent * log_a.array()).exp(), (exponent * log_b.array()).exp(),
                              [&](Index i) { return detail::concat("exp(", log_a[i], ")"); });
}

template <class S>
void DepthHypentropy<S>::require_depth(Index depth) {
  require(depth >= 3, "depth must be at least 3, got ", depth, " (at depth 2 the regularizer is the hypentropy)");
}

template <class S>
template <class Entry>
std::shared_ptr<const typename DepthHypentropy<S>::Shape> DepthHypentropy<S>::make_shape_of_powers(Index depth,
                                                                                                   Vector<S> from_a,
                                                                                                   Vector<S> from_b,
                                                                                                   const Entry& entry) {
  using std::isfinite;
  auto shape = std::make_shared<Shape>();
  const S exponent = S(2 - depth);
  shape->depth = depth;
  shape->from_a = std::move(from_a);
  shape->from_b = std::move(from_b);
  shape->half_width = (shape->from_a + shape->from_b) / S(2);
  shape->center = (shape->from_a - shape->from_b) / S(2);
  for (Index i = 0; i < shape->center.size(); ++i)
    require(isfinite(shape->half_width[i]) && shape->from_a[i] > S(0) && shape->from_b[i] > S(0), "w0(", i,
            ") = ", entry(i), " is too extreme for depth ", depth, ": w0^(2-D) leaves the range of the scalar type");
  shape->log_w0 = shape->half_width.array().log() / exponent;
  shape->unit_c = shape->half_width.array().pow(S(depth) / exponent);
  return shape;
}

template <class S>
S DepthHypentropy<S>::scale_power(ScaleType scale, Index n) {
  using std::exp;
  const S exponent = S(n) * scale.log();
  if constexpr (std::is_floating_point_v<S>) {
    return exp(exponent) * (S(1) + std::fma(S(n), scale.log(), -exponent));
  } else {
    return exp(exponent);
  }
}

template <class S>
void DepthHypentropy<S>::respond(Index i, S z, S below, S above, S& beta, S& curvature) const {
  using std::copysign;
  using std::exp;
  using std::isfinite;
  using std::log;
  const S width = shape_->half_width[i];
  const S centered = z - shape_->center[i];
  const S u = (centered < S(0) ? -centered : centered) / width;
  const S nearer = std::min(below, above) / width;
  const S farther = std::max(below, above) / width;
  if (!(nearer > S(0))) {
    beta = copysign(std::numeric_limits<S>::infinity(), centered);
    curvature = nearer <= S(0) ? std::numeric_limits<S>::infinity() : nearer;
    if (!(nearer <= S(0))) beta = nearer;
    return;
  }
  const auto h = functions_.response(u, farther, nearer);
  const S p = functions_.power();
  if (c_[i] >= std::numeric_limits<S>::min() && isfinite(h.slope)) {
    beta = copysign(c_[i] * h.h, centered);
    curvature = c_[i] * h.slope * (p / width);
  } else {
    // Only the large term can lift the product into the range of S.
    const S large = exp(log_c_[i] - p * log(nearer));
    beta = copysign(u < S(0.5) ? c_[i] * h.h : large, centered);
    curvature = exp(log_c_[i] - (p + S(1)) * log(nearer)) * (p / width);
  }
}

template <class S>
typename DepthHypentropy<S>::Located DepthHypentropy<S>::locate(Index i, S beta) const {
  const S width = shape_->half_width[i];
  const S center = shape_->center[i];
  if (beta == S(0)) return {center, width, width};
  const auto at = point(i, beta);
  const S farther = at.below * width;
  const S nearer = at.above * width;
  const bool is_central = at.u < S(0.5);
  if (beta > S(0)) return {is_central ? center + at.u * width : shape_->from_a[i] - nearer, farther, nearer};
  return {is_central ? center - at.u * width : nearer - shape_->from_b[i], nearer, farther};
}

template <class S>
typename detail::DepthFunctions<S>::Point DepthHypentropy<S>::point(Index i, S beta) const {
  using std::abs;
  using std::isfinite;
  using std::log;
  const S ratio = abs(beta) / c_[i];
  if (c_[i] >= std::numeric_limits<S>::min() && isfinite(ratio)) return functions_.inverse(ratio);
  return functions_.inverse_of_log(log(abs(beta)) - log_c_[i]);
}

template <class S>
S DepthHypentropy<S>::conjugate(Index i, S z, S below, S above) const {
  if (is_near_start(i, z, below, above)) {
    return gauss(
        z, [&](S, S beta, S) { return beta; }, i);
  }
  const S start = integral(i, -shape_->center[i], shape_->from_b[i], shape_->from_a[i]);
  return integral(i, z - shape_->center[i], below, above) - start;
}

template <class S>
S DepthHypentropy<S>::divergence(Index i, S beta) const {
  const Located at = locate(i, beta);
  if (is_near_start(i, at.z, at.below, at.above))
    return gauss(
        at.z, [](S t, S, S curvature) { return t * curvature; }, i);
  return beta * at.z - conjugate(i, at.z, at.below, at.above);
}

template <class S>
S DepthHypentropy<S>::integral(Index i, S centered, S below, S above) const {
  using std::abs;
  const S width = shape_->half_width[i];
  const S nearer = std::min(below, above) / width;
  const S farther = std::max(below, above) / width;
  return width * functions_.scaled_integral(abs(centered) / width, farther, nearer, c_[i], log_c_[i]);
}

template <class S>
bool DepthHypentropy<S>::is_near_start(Index i, S z, S below, S above) const {
  using std::abs;
  const S room = std::min(std::min(below, above), std::min(shape_->from_a[i], shape_->from_b[i]));
  return shape_->center[i] != S(0) && S(10) * abs(z) < room;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DEPTH_HYPENTROPY(prefix, S) prefix template class DepthHypentropy<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DEPTH_HYPENTROPY)
