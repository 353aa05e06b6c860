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
#include "richflow/linalg/exponentials.hpp"

namespace richflow {

/// `q(z) = integral_0^z arcsinh(u/2) du = 2 - sqrt(4 + z^2) + z arcsinh(z/2)`, the hypentropy of one coordinate: z^2/4
/// near 0, |z| log|z| - |z| + 2 far away (Woodworth et al. 2020, Theorem 1; docs/theory.md, section 2.2). Evaluated
/// without the cancellation of the textbook form, to a few ulp for every z.
template <class Scalar>
[[nodiscard]] Scalar hypentropy(Scalar z) {
  using std::abs;
  using std::asinh;
  using std::sqrt;
  const Scalar a = abs(z);
  if (a > Scalar(1) / std::numeric_limits<Scalar>::epsilon()) return a * (asinh(a / Scalar(2)) - Scalar(1));
  return a * asinh(a / Scalar(2)) - a * (a / (Scalar(2) + sqrt(Scalar(4) + a * a)));
}

/// `q'(z) = arcsinh(z/2)`.
template <class Scalar>
[[nodiscard]] Scalar hypentropy_gradient(Scalar z) {
  using std::asinh;
  return asinh(z / Scalar(2));
}

namespace detail {

/// sinh(z) for |z| <= 1. For float and double the Taylor series (truncated below half an ulp), which a
/// compiler can vectorize, so that the hot loops need no call per entry.
template <class Scalar>
[[nodiscard]] inline Scalar sinh_on_unit_interval(Scalar z) {
  if constexpr (std::is_same_v<Scalar, double> || std::is_same_v<Scalar, float>) {
    const Scalar s = z * z;
    Scalar p = Scalar(1) / Scalar(121645100408832000.0);
    p = p * s + Scalar(1) / Scalar(355687428096000.0);
    p = p * s + Scalar(1) / Scalar(1307674368000.0);
    p = p * s + Scalar(1) / Scalar(6227020800.0);
    p = p * s + Scalar(1) / Scalar(39916800.0);
    p = p * s + Scalar(1) / Scalar(362880.0);
    p = p * s + Scalar(1) / Scalar(5040.0);
    p = p * s + Scalar(1) / Scalar(120.0);
    p = p * s + Scalar(1) / Scalar(6.0);
    return z + z * (s * p);
  } else {
    using std::sinh;
    return sinh(z);
  }
}

/// The coordinate `Q_i(beta) = c q(beta / c)`, `c = alpha^2 w0_i^2`. Both forms of c are needed: `log c` alone
/// loses as many ulp of c as it has units, the root underflows for small alpha.
template <class Scalar>
struct HypentropyCoordinate {
  Scalar log_c;   ///< log c
  Scalar root_c;  ///< sqrt(c)

  /// arcsinh(beta / (2 c)), also where c or 1/c is outside the range of Scalar.
  [[nodiscard]] Scalar gradient(Scalar beta) const {
    using std::abs;
    using std::asinh;
    using std::isfinite;
    using std::log;
    if (beta == Scalar(0)) return beta;
    // Where the root has underflowed, every beta is so far beyond c that arcsinh is the logarithm.
    const Scalar ratio = (abs(beta) / root_c) / root_c;
    const bool in_range = root_c >= std::numeric_limits<Scalar>::min() && isfinite(ratio);
    const Scalar magnitude = in_range ? asinh(ratio / Scalar(2)) : log(abs(beta)) - log_c;
    return beta < Scalar(0) ? -magnitude : magnitude;
  }

  /// sqrt(4 c^2 + beta^2), the curvature d beta / d z at beta.
  [[nodiscard]] Scalar curvature(Scalar beta) const {
    using std::hypot;
    return hypot(Scalar(2) * root_c * root_c, beta);
  }

  /// c q(beta / c), from its gradient: `|beta| (|gradient| - x / (1 + sqrt(1 + x^2)))` with x = `half_ratio(beta)`.
  [[nodiscard]] Scalar value(Scalar beta, Scalar gradient) const {
    using std::abs;
    using std::sqrt;
    const Scalar x = half_ratio(beta);
    const bool is_moderate = x < Scalar(1) / std::numeric_limits<Scalar>::epsilon();
    const Scalar part = is_moderate ? Scalar(x / (Scalar(1) + sqrt(Scalar(Scalar(1) + x * x)))) : Scalar(1);
    return beta == Scalar(0) ? Scalar(0) : Scalar(abs(beta) * (abs(gradient) - part));
  }

  /// x = |beta| / (2 c); out of the range of Scalar it may be anything.
  [[nodiscard]] Scalar half_ratio(Scalar beta) const {
    using std::abs;
    return (abs(beta) / root_c) / root_c / Scalar(2);
  }

  /// The w of `|gradient| = log(1 + w)`, `w = x + x^2 / (1 + sqrt(1 + x^2))` with x = `half_ratio(beta)` and that root;
  /// -1 where x is out of the range of Scalar.
  [[nodiscard]] Scalar growth(Scalar x, Scalar root) const {
    const bool in_range =
        root_c >= std::numeric_limits<Scalar>::min() && x <= std::numeric_limits<Scalar>::max() / Scalar(2);
    const bool is_large = x > Scalar(1) / std::numeric_limits<Scalar>::epsilon();
    const Scalar w = is_large ? Scalar(2) * x : x + x * (x / (Scalar(1) + root));
    return in_range ? w : Scalar(-1);
  }

  /// The gradient from w and the logarithm of 1 + w, or of |beta| where w < 0. The logarithm of the rounded 1 + w is
  /// corrected for small w (Higham 2002, 1.14.1).
  [[nodiscard]] Scalar gradient(Scalar beta, Scalar w, Scalar logarithm) const {
    const Scalar rounded = (Scalar(1) + w) - Scalar(1);
    const Scalar below_one = rounded > Scalar(0) ? logarithm * (w / rounded) : w;
    const Scalar in_range = w < Scalar(1) ? below_one : logarithm;
    const Scalar magnitude = w >= Scalar(0) ? in_range : logarithm - log_c;
    const Scalar result = beta < Scalar(0) ? -magnitude : magnitude;
    return beta == Scalar(0) ? beta : result;
  }
};

}  // namespace detail

/// The regularizer `Q_alpha` of the squared diagonal net `beta = w_+^2 - w_-^2`: gradient flow from
/// `w(0) = alpha (a, b)` that fits the data ends at the minimizer of Q over `X beta = y` (Woodworth et al. 2020,
/// Theorem 1; docs/theory.md, sections 2.2 and 2.4).
///
/// For `a = b = w0`, with c_i = alpha^2 w0_i^2:
///
///     Q(beta) = sum_i c_i q(beta_i / c_i),     grad Q = arcsinh(beta / (2 c)),     beta = 2 c sinh(z)
///
/// For a != b, c_i = alpha^2 a_i b_i and Q is the Bregman divergence of the above from
/// `beta(0) = alpha^2 (a^2 - b^2)`, so that always `grad Q(beta(0)) = 0` and `grad Q(beta(t)) = X^T nu(t)`.
///
/// A MirrorMap. All members work from `log alpha` and are accurate for any `log alpha` in which alpha^2 does not
/// overflow; where alpha^2 w0^2 does, construction throws ArgumentError. Immutable; copies share their data. Each call
/// costs O(d).
template <class S = double>
class Hypentropy {
 public:
  using Scalar = S;
  /// Type of alpha.
  using ScaleType = Scale<S>;

  /// `w_+(0) = w_-(0) = alpha`, d coordinates. Throws DimensionError for d <= 0.
  [[nodiscard]] static Hypentropy uniform(Index d, ScaleType scale);

  /// `w_+(0) = w_-(0) = alpha w0`. Throws ArgumentError where an entry is not positive, NonFiniteError where one is not
  /// finite.
  [[nodiscard]] static Hypentropy shaped(const Vector<S>& w0, ScaleType scale);

  /// `w_+(0) = alpha a`, `w_-(0) = alpha b`. Throws as `shaped`, and DimensionError where the lengths differ.
  [[nodiscard]] static Hypentropy biased(const Vector<S>& a, const Vector<S>& b, ScaleType scale);

  /// `shaped` and `biased` from the logarithms of the entries; the entries and their squares may underflow: e^-395 is
  /// an ordinary entry. Throw NonFiniteError where a logarithm is not finite, DimensionError as above. O(d) per
  /// `with_scale` where a square is near the ends of the range of S.
  [[nodiscard]] static Hypentropy shaped_logs(const Vector<S>& log_w0, ScaleType scale);
  [[nodiscard]] static Hypentropy biased_logs(const Vector<S>& log_a, const Vector<S>& log_b, ScaleType scale);

  /// The same regularizer as that of the two-layer net whose layers are equal, `beta = u_+ v_+ - u_- v_-` with
  /// `u = v = w`: its dual flow runs at half the rate.
  [[nodiscard]] Hypentropy of_two_layers() const;

  /// The two-layer net `beta = u_+ v_+ - u_- v_-` with both pairs started at `alpha (u, v)`: the regularizer of its
  /// limit is the hypentropy with `w0^2 = (u^2 + v^2) / 2` (Azulay et al. 2021; docs/theory.md, section 2.6), its dual
  /// flow runs at half the rate of the squared net's. Throws NonFiniteError where an entry is not finite, ArgumentError
  /// where u_i = v_i = 0, DimensionError where the lengths differ.
  [[nodiscard]] static Hypentropy two_layer(const Vector<S>& u, const Vector<S>& v, ScaleType scale);

  /// The logarithms of the smallest and of the largest weight of the start, `alpha a` and `alpha b`.
  struct LogRange {
    S smallest;
    S largest;
  };
  [[nodiscard]] LogRange log_range() const;
  /// That of the start in which all weights below `floor` are raised to it, at alpha = 1. O(d).
  [[nodiscard]] Hypentropy raised(ScaleType floor) const;

  /// d.
  [[nodiscard]] Index dimension() const { return shape_->dimension; }
  /// alpha.
  [[nodiscard]] ScaleType scale() const { return scale_; }
  /// The same shape at another alpha; O(1).
  [[nodiscard]] Hypentropy with_scale(ScaleType scale) const { return Hypentropy(shape_, scale); }
  /// The c of the dual flow `nu' = -c (X beta(X^T nu) - y)` under `L = |X beta - y|^2`: 8 for the squared net, 4 for
  /// the two-layer net.
  [[nodiscard]] S dual_rate() const { return shape_->dual_rate; }

  /// `Q(beta)`; nonnegative, 0 at `beta(0)`.
  [[nodiscard]] S value(ConstVectorRef<S> beta) const;

  /// `out = grad Q(beta) = arcsinh(beta / (2 c)) - log(a / b)`, d values.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const;

  /// `beta = 2 c sinh(z + log(a / b))`, the inverse of `gradient`, and `curvature = d beta / d z`. What is
  /// smaller than the normal numbers is 0.
  void mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const;

  /// `Q*(z) = sup_beta <z, beta> - Q(beta) = sum_i 2 c_i (cosh(z_i + o_i) - cosh(o_i))`, o = log(a / b).
  [[nodiscard]] S conjugate(ConstVectorRef<S> z) const;

  /// Every z is in the domain: infinity.
  [[nodiscard]] S max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const;

  /// At constant z, beta is proportional to alpha^2.
  [[nodiscard]] S homogeneity() const { return S(2); }

 private:
  struct Shape {
    Index dimension = 0;
    Vector<S> log_c = {};   // log c_i at alpha = 1; empty when uniform
    Vector<S> root_c = {};  // sqrt(c_i) at alpha = 1; empty when uniform
    Vector<S> offset = {};  // log(a_i / b_i); empty when a = b
    Vector<S> start = {};   // a_i^2 - b_i^2; empty when a = b
    S dual_rate = S(8);
    bool is_extreme = false;  // root_c and start might leave the range of S: they are made for each scale
  };

  /// root_c and start from the logarithms, for alpha = exp(log_alpha).
  static void set_numbers(Shape& shape, S log_alpha);
  [[nodiscard]] static Shape shape_of_logs(Vector<S> log_c, Vector<S> offset);

  Hypentropy(Shape shape, ScaleType scale) : Hypentropy(std::make_shared<const Shape>(std::move(shape)), scale) {}

  Hypentropy(std::shared_ptr<const Shape> shape, ScaleType scale);

  static S sinh_on_unit(S z);

  [[nodiscard]] bool is_uniform() const { return shape_->log_c.size() == 0; }
  [[nodiscard]] bool is_biased() const { return shape_->offset.size() != 0; }
  [[nodiscard]] S offset(Index i) const { return is_biased() ? shape_->offset[i] : S(0); }
  [[nodiscard]] S root_c(Index i) const { return is_uniform() ? S(1) : shape_->root_c[i]; }

  [[nodiscard]] detail::HypentropyCoordinate<S> coordinate(Index i) const;

  /// Bregman divergence of coordinate i from beta(0). With D = z - z(0) it is
  /// (c_0) A(D) + beta(0) B(D), A = D sinh D - cosh D + 1, B = D cosh D - sinh D, c_0 the curvature at
  /// beta(0): a form without cancellation for small D, by series there.
  [[nodiscard]] S divergence(Index i, S beta) const;

  std::shared_ptr<const Shape> shape_;
  ScaleType scale_;
  S alpha_;
};

template <class S>
Hypentropy<S> Hypentropy<S>::uniform(Index d, ScaleType scale) {
  require<DimensionError>(d > 0, "hypentropy needs d > 0 coordinates, got ", d);
  Shape shape;
  shape.dimension = d;
  return Hypentropy(std::move(shape), scale);
}

template <class S>
Hypentropy<S> Hypentropy<S>::shaped(const Vector<S>& w0, ScaleType scale) {
  require<DimensionError>(w0.size() > 0, "w0 is empty");
  require_positive("w0", w0);
  Shape shape;
  shape.dimension = w0.size();
  shape.root_c = w0;
  shape.log_c = S(2) * w0.array().log();
  return Hypentropy(std::move(shape), scale);
}

template <class S>
Hypentropy<S> Hypentropy<S>::biased(const Vector<S>& a, const Vector<S>& b, ScaleType scale) {
  require<DimensionError>(a.size() > 0, "a is empty");
  require_size("b", b.size(), a.size());
  require_positive("a", a);
  require_positive("b", b);
  Shape shape;
  shape.dimension = a.size();
  shape.root_c = a.array().sqrt() * b.array().sqrt();
  shape.log_c = a.array().log() + b.array().log();
  shape.offset = (a.array() / b.array()).log();
  shape.start = (a - b).cwiseProduct(a + b);
  return Hypentropy(std::move(shape), scale);
}

template <class S>
Hypentropy<S> Hypentropy<S>::shaped_logs(const Vector<S>& log_w0, ScaleType scale) {
  require<DimensionError>(log_w0.size() > 0, "log_w0 is empty");
  require_finite("log_w0", log_w0);
  return Hypentropy(shape_of_logs(S(2) * log_w0, {}), scale);
}

template <class S>
Hypentropy<S> Hypentropy<S>::biased_logs(const Vector<S>& log_a, const Vector<S>& log_b, ScaleType scale) {
  require<DimensionError>(log_a.size() > 0, "log_a is empty");
  require_size("log_b", log_b.size(), log_a.size());
  require_finite("log_a", log_a);
  require_finite("log_b", log_b);
  return Hypentropy(shape_of_logs(log_a + log_b, log_a - log_b), scale);
}

template <class S>
Hypentropy<S> Hypentropy<S>::of_two_layers() const {
  Shape shape = *shape_;
  shape.dual_rate = S(4);
  return Hypentropy(std::move(shape), scale_);
}

template <class S>
typename Hypentropy<S>::LogRange Hypentropy<S>::log_range() const {
  using std::abs;
  const S log_alpha = scale_.log();
  if (is_uniform()) return {log_alpha, log_alpha};
  LogRange range{std::numeric_limits<S>::infinity(), -std::numeric_limits<S>::infinity()};
  for (Index i = 0; i < dimension(); ++i) {
    range.smallest = std::min(range.smallest, log_alpha + (shape_->log_c[i] - abs(offset(i))) / S(2));
    range.largest = std::max(range.largest, log_alpha + (shape_->log_c[i] + abs(offset(i))) / S(2));
  }
  return range;
}

template <class S>
Hypentropy<S> Hypentropy<S>::raised(ScaleType floor) const {
  const S twice_floor = S(2) * floor.log();
  Vector<S> log_c(dimension());
  Vector<S> difference = Vector<S>::Zero(is_biased() ? dimension() : 0);
  for (Index i = 0; i < dimension(); ++i) {
    const S base = S(2) * scale_.log() + (is_uniform() ? S(0) : shape_->log_c[i]);
    const S twice_log_a = std::max(base + offset(i), twice_floor);
    const S twice_log_b = std::max(base - offset(i), twice_floor);
    log_c[i] = (twice_log_a + twice_log_b) / S(2);
    if (is_biased()) difference[i] = (twice_log_a - twice_log_b) / S(2);
  }
  Shape shape = shape_of_logs(std::move(log_c), std::move(difference));
  shape.dual_rate = shape_->dual_rate;
  return Hypentropy(std::move(shape), ScaleType::from_log(S(0)));
}

template <class S>
typename Hypentropy<S>::Shape Hypentropy<S>::shape_of_logs(Vector<S> log_c, Vector<S> offset) {
  Shape shape;
  shape.dimension = log_c.size();
  // Of a^2 and b^2, and with room for alpha.
  Vector<S> largest = log_c.cwiseAbs();
  if (offset.size() > 0) largest += offset.cwiseAbs();
  shape.is_extreme = largest.maxCoeff() > S(0.85) * std::numeric_limits<S>::max_exponent * S(0.693147180559945309417L);
  shape.log_c = std::move(log_c);
  shape.offset = std::move(offset);
  set_numbers(shape, S(0));
  return shape;
}

template <class S>
void Hypentropy<S>::set_numbers(Shape& shape, S log_alpha) {
  shape.root_c = (shape.log_c.array() / S(2) + log_alpha).exp();
  if (shape.offset.size() == 0) return;
  const Vector<S> base = shape.log_c.array() + S(2) * log_alpha;
  shape.start = (base + shape.offset).array().exp() - (base - shape.offset).array().exp();
}

template <class S>
Hypentropy<S> Hypentropy<S>::two_layer(const Vector<S>& u, const Vector<S>& v, ScaleType scale) {
  using std::hypot;
  using std::sqrt;
  require<DimensionError>(u.size() > 0, "u is empty");
  require_size("v", v.size(), u.size());
  require_finite("u", u);
  require_finite("v", v);
  Shape shape;
  shape.dimension = u.size();
  shape.root_c.resize(u.size());
  const S root_half = sqrt(S(0.5));
  for (Index i = 0; i < u.size(); ++i) {
    require(u[i] != S(0) || v[i] != S(0), "u(", i, ") and v(", i, ") are both 0: the pair never moves");
    shape.root_c[i] = hypot(u[i], v[i]) * root_half;
  }
  shape.log_c = S(2) * shape.root_c.array().log();
  shape.dual_rate = S(4);
  return Hypentropy(std::move(shape), scale);
}

template <class S>
S Hypentropy<S>::value(ConstVectorRef<S> beta) const {
  require_size("beta", beta.size(), dimension());
  S sum(0);
  if (is_biased()) {
    for (Index i = 0; i < dimension(); ++i) sum += divergence(i, beta[i]);
    return sum;
  }
  Vector<S> z(dimension());
  gradient(beta, z);
  for (Index i = 0; i < dimension(); ++i) sum += coordinate(i).value(beta[i], z[i]);
  return sum;
}

template <class S>
void Hypentropy<S>::gradient(ConstVectorRef<S> beta, VectorRef<S> out) const {
  require_size("beta", beta.size(), dimension());
  require_size("out", out.size(), dimension());
  const Shape& shape = *shape_;
  const S base = S(2) * scale_.log();
  constexpr Index block = detail::packed_entries;
  S values[block], log_cs[block], roots[block], ratios[block], logarithms[block];
  Eigen::Array<S, static_cast<int>(block), 1> cosh;
  for (Index begin = 0; begin < dimension(); begin += block) {
    using std::abs;
    const Index count = std::min(block, dimension() - begin);
    for (Index k = 0; k < block; ++k) {
      values[k] = log_cs[k] = S(0);
      roots[k] = S(1);
    }
    std::copy_n(beta.data() + begin, count, values);
    for (Index k = 0; k < count; ++k) {
      log_cs[k] = is_uniform() ? base : base + shape.log_c[begin + k];
      roots[k] = is_uniform() ? alpha_ : alpha_ * shape.root_c[begin + k];
    }
    for (Index k = 0; k < block; ++k) {
      ratios[k] = detail::HypentropyCoordinate<S>{log_cs[k], roots[k]}.half_ratio(values[k]);
      cosh[k] = S(1) + ratios[k] * ratios[k];
    }
    cosh = cosh.sqrt().eval();  // a loop with std::sqrt, which sets errno, is not vectorized
    for (Index k = 0; k < block; ++k) {
      ratios[k] = detail::HypentropyCoordinate<S>{log_cs[k], roots[k]}.growth(ratios[k], cosh[k]);
      logarithms[k] = ratios[k] >= S(0) ? S(1) + ratios[k] : abs(values[k]);
    }
    detail::take_logarithms(logarithms, block);
    for (Index k = 0; k < block; ++k)
      values[k] = detail::HypentropyCoordinate<S>{log_cs[k], roots[k]}.gradient(values[k], ratios[k], logarithms[k]);
    if (is_biased())
      for (Index k = 0; k < count; ++k) values[k] -= shape.offset[begin + k];
    std::copy_n(values, count, out.data() + begin);
  }
}

template <class S>
void Hypentropy<S>::mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const {
  require_size("z", z.size(), dimension());
  require_size("beta", beta.size(), dimension());
  require_size("curvature", curvature.size(), dimension());
  const Shape& shape = *shape_;
  const S base = S(2) * scale_.log();
  constexpr Index block = detail::packed_entries;
  S shifted[block], roots[block], powers[block], sinhs[block];
  Eigen::Array<S, static_cast<int>(block), 1> cosh;
  for (Index begin = 0; begin < dimension(); begin += block) {
    using std::abs;
    const Index count = std::min(block, dimension() - begin);
    for (Index k = 0; k < block; ++k) shifted[k] = roots[k] = powers[k] = S(0);
    std::copy_n(z.data() + begin, count, shifted);
    if (is_biased())
      for (Index k = 0; k < count; ++k) shifted[k] += shape.offset[begin + k];
    for (Index k = 0; k < count; ++k) {
      powers[k] = abs(shifted[k]) + (is_uniform() ? base : shape.log_c[begin + k] + base);
      roots[k] = is_uniform() ? alpha_ : alpha_ * shape.root_c[begin + k];
    }
    detail::exponentiate(powers, block);
    for (Index k = 0; k < block; ++k) {
      sinhs[k] = sinh_on_unit(shifted[k]);
      cosh[k] = S(1) + sinhs[k] * sinhs[k];
    }
    cosh = cosh.sqrt().eval();  // a loop with std::sqrt, which sets errno, is not vectorized
    // From p = c e^|z| and m = c e^-|z| = c^2 / p to p - m and p + m. Where |z| < 1 the difference would cancel, and c
    // through its logarithm lose digits, so the series serves.
    for (Index k = 0; k < block; ++k) {
      const S r = roots[k];
      const S p = powers[k];
      const S c_over_p = r / std::max(p, std::numeric_limits<S>::min()) * r;
      // Where it is invisible in the sum it might be subnormal.
      const S m = c_over_p < std::numeric_limits<S>::epsilon() ? S(0) : c_over_p * r * r;
      const S small_beta = S(2) * (sinhs[k] * r) * r;
      const S small_curvature = S(2) * (cosh[k] * r) * r;
      const S size = p - m;
      const S large_beta = shifted[k] < S(0) ? -size : size;
      const bool is_small = abs(shifted[k]) < S(1);
      powers[k] = is_small ? small_curvature : p + m;
      sinhs[k] = is_small ? small_beta : large_beta;
    }
    std::copy_n(powers, count, curvature.data() + begin);
    std::copy_n(sinhs, count, beta.data() + begin);
  }
}

template <class S>
S Hypentropy<S>::conjugate(ConstVectorRef<S> z) const {
  using std::abs;
  using std::exp;
  using std::sinh;
  require_size("z", z.size(), dimension());
  constexpr Index block = detail::packed_entries;
  S powers[block];
  S sum(0);
  for (Index begin = 0; begin < dimension(); begin += block) {
    const Index count = std::min(block, dimension() - begin);
    for (Index k = 0; k < block; ++k) powers[k] = k < count ? S(abs(z[begin + k]) / S(2)) : S(0);
    detail::exponentiate(powers, block);
    for (Index k = 0; k < count; ++k) {
      const Index i = begin + k;
      const auto q = coordinate(i);
      const S o = offset(i);
      if (abs(z[i]) < S(20)) {
        // Where |z| / 2 < 1 the difference of the exponentials would cancel.
        const S large = (powers[k] - S(1) / powers[k]) / S(2);
        const S size = abs(z[i]) < S(2) ? S(abs(sinh_on_unit(z[i] / S(2)))) : large;
        const S sinh_half = z[i] < S(0) ? S(-size) : size;
        const S sinh_shifted = o == S(0) ? sinh_half : S(sinh(z[i] / S(2) + o));
        sum += S(4) * (sinh_half * q.root_c) * (sinh_shifted * q.root_c);
      } else {
        sum += (exp(z[i] + o + q.log_c) + exp(q.log_c - z[i] - o)) - (exp(o + q.log_c) + exp(q.log_c - o));
      }
    }
  }
  return sum;
}

template <class S>
S Hypentropy<S>::max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const {
  require_size("z", z.size(), dimension());
  require_size("dz", dz.size(), dimension());
  return std::numeric_limits<S>::infinity();
}

template <class S>
Hypentropy<S>::Hypentropy(std::shared_ptr<const Shape> shape, ScaleType scale)
    : shape_(std::move(shape)), scale_(scale), alpha_(scale.value()) {
  using std::exp;
  using std::isfinite;
  const S largest = is_uniform() ? S(0) : shape_->log_c.maxCoeff();
  require(isfinite(exp(S(2) * scale.log() + largest)), "log_alpha = ", scale.log(),
          " is too large: alpha^2 w0^2 overflows");
  if (!shape_->is_extreme) {
    const S offset = is_biased() ? shape_->start.cwiseAbs().maxCoeff() : S(0);
    require(isfinite(S((offset * alpha_) * alpha_)), "log_alpha = ", scale.log(), " is too large: beta(0) overflows");
    return;
  }
  auto scaled = std::make_shared<Shape>(*shape_);
  set_numbers(*scaled, scale.log());
  require(scaled->start.allFinite(), "log_alpha = ", scale.log(), " is too large: beta(0) overflows");
  shape_ = std::move(scaled);
  alpha_ = S(1);
}

template <class S>
S Hypentropy<S>::sinh_on_unit(S z) {
  if constexpr (std::is_same_v<S, double> || std::is_same_v<S, float>) {
    return detail::sinh_on_unit_interval(z);
  } else {
    using std::abs;
    return abs(z) < S(1) ? detail::sinh_on_unit_interval(z) : S(0);
  }
}

template <class S>
detail::HypentropyCoordinate<S> Hypentropy<S>::coordinate(Index i) const {
  return {S(2) * scale_.log() + (is_uniform() ? S(0) : shape_->log_c[i]), alpha_ * root_c(i)};
}

template <class S>
S Hypentropy<S>::divergence(Index i, S beta) const {
  using std::abs;
  const auto q = coordinate(i);
  const S start = (shape_->start[i] * alpha_) * alpha_;
  const S delta = q.gradient(beta) - offset(i);
  if (!(abs(delta) < S(1))) return beta * delta - (q.curvature(beta) - q.curvature(start));
  S even(0);  // A = sum_k D^2k (2k - 1) / (2k)!
  S odd(0);   // B = sum_k D^(2k+1) 2k / (2k + 1)!
  S power(1);
  S factorial(1);
  const S tiny = std::numeric_limits<S>::epsilon() * delta * delta / S(16);
  for (int k = 1; k < 40; ++k) {
    power *= delta;
    factorial *= S(k);
    const S term = power * S(k - 1) / factorial;
    (k % 2 == 0 ? even : odd) += term;
    if (k > 2 && abs(term) <= tiny) break;
  }
  return q.curvature(start) * even + start * odd;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_HYPENTROPY(prefix, S) prefix template class Hypentropy<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_HYPENTROPY)
