#pragma once

#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

namespace detail {

/// The point nearest to (1, 1) with `w_+^2 - w_-^2 = z`, z >= 0: `w_+ = 1 + p`, `w_- = (1 + p)/(1 + 2 p)`,
/// where p >= 0 solves `z = 4 p (1 + p)^3 / (1 + 2 p)^2`.
///
/// In p nothing cancels and the equation is nearly a straight line in logarithms (its slope stays within
/// [0.94, 2]), so Newton's method there needs a handful of steps from anywhere in the range. (With
/// p = s/(1-s) this is the classical form z = 4 s/(1-s^2)^2, which loses 1-s for large z.)
template <class Scalar>
[[nodiscard]] Scalar distance_excess(Scalar z) {
  using std::abs;
  using std::sqrt;
  const Scalar one(1);
  const Scalar epsilon = std::numeric_limits<Scalar>::epsilon();
  const Scalar quarter = z / Scalar(4);
  if (quarter < epsilon) return quarter * (one + quarter);
  const Scalar c = z / (one + Scalar(3) / (one + z));
  Scalar p = c / (one / Scalar(2) + sqrt(one / Scalar(4) + c));
  const Scalar converged = sqrt(epsilon) / Scalar(16);
  for (int k = 0; k < 50; ++k) {
    const Scalar rho = one + one / (one + Scalar(2) * p);
    const Scalar error = ((z / p) / (one + p)) / (rho * rho) - one;
    const Scalar slope = one + Scalar(3) * (p / (one + p)) - Scalar(2) * (Scalar(2) * p / (one + Scalar(2) * p));
    p += p * (error / slope);
    if (abs(error) < converged) break;
  }
  return p;
}

}  // namespace detail

/// `r'(z)`, the derivative of `distance_to_initialization`: the s in (-1, 1) with `z = 4 s / (1 - s^2)^2`;
/// +-1 at +-infinity. To a few ulp for every z.
template <class Scalar>
[[nodiscard]] Scalar distance_to_initialization_gradient(Scalar z) {
  using std::abs;
  using std::isinf;
  if (isinf(z)) return z > Scalar(0) ? Scalar(1) : Scalar(-1);
  if (abs(z) / Scalar(4) < std::numeric_limits<Scalar>::epsilon()) return z / Scalar(4);
  const Scalar p = detail::distance_excess<Scalar>(abs(z));
  Scalar s = p / (Scalar(1) + p);
  // For small s the defining equation, as a fixed-point step, damps the rounding errors that p carries.
  if (s < Scalar(3) / Scalar(10)) s = abs(z) / Scalar(4) * ((Scalar(1) - s * s) * (Scalar(1) - s * s));
  return z < Scalar(0) ? Scalar(-s) : s;
}

/// `r(z) = min (w_+ - 1)^2 + (w_- - 1)^2` subject to `w_+^2 - w_-^2 = z`: the squared distance from initialization that
/// one coordinate of the squared diagonal net needs at alpha = 1. Near 0 it is z^2/8, far away |z| - 2 sqrt|z| + 3/2 +
/// ... (Woodworth et al. 2020, Section 4, where it is a root of a quartic; the quartic has two real roots, and r is the
/// smaller; docs/theory.md, section 4). To a few ulp for every z.
template <class Scalar>
[[nodiscard]] Scalar distance_to_initialization(Scalar z) {
  using std::abs;
  // From z = 4 s / (1-s^2)^2 and r = 2 s^2 (1+s^2) / (1-s^2)^2.
  const Scalar s = distance_to_initialization_gradient<Scalar>(abs(z));
  return (abs(z) * s) * ((Scalar(1) + s * s) / Scalar(2));
}

/// The weights nearest to the initialization `w_+ = w_- = alpha` that represent a given beta.
template <class S>
struct NearestWeights {
  /// w_+, d entries.
  Vector<S> plus = {};
  /// w_-, d entries.
  Vector<S> minus = {};
};

/// The squared distance from initialization,
///
///     R_alpha(beta) = min |w - alpha 1|_2^2  subject to  w_+^2 - w_-^2 = beta   =   sum_i alpha^2 r(beta_i / alpha^2),
///
/// of the squared diagonal net (Woodworth et al. 2020, Section 4; docs/theory.md, section 4). It is *not* what gradient
/// flow minimizes: that is the hypentropy Q. R nears |beta|_1 polynomially as alpha -> 0 where Q nears it
/// logarithmically.
///
/// A Regularizer. Works from `log alpha`: any log alpha from -infinity to about 700 (beyond, R underflows). Each call
/// is O(d).
template <class S = double>
class DistanceToInitialization {
 public:
  using Scalar = S;
  /// Type of alpha.
  using ScaleType = Scale<S>;

  /// d coordinates. Throws DimensionError for d <= 0.
  DistanceToInitialization(Index d, ScaleType scale);

  /// d.
  [[nodiscard]] Index dimension() const { return dimension_; }
  /// alpha.
  [[nodiscard]] ScaleType scale() const { return scale_; }
  /// The same regularizer at another alpha.
  [[nodiscard]] DistanceToInitialization with_scale(ScaleType scale) const { return {dimension_, scale}; }

  /// `R_alpha(beta)`. Throws DimensionError where beta has not d entries, NonFiniteError where one is not finite.
  [[nodiscard]] S value(ConstVectorRef<S> beta) const;

  /// `out_i = r'(beta_i / alpha^2)`, in [-1, 1]. Throws as `value`.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const;

  /// The minimizing `(w_+, w_-)`: `alpha/(1-s)` and `alpha/(1+s)` with s the gradient. Throws as `value`, and
  /// ArgumentError where alpha overflows.
  [[nodiscard]] NearestWeights<S> nearest_weights(ConstVectorRef<S> beta) const;

 private:
  void check(ConstVectorRef<S> beta) const;

  [[nodiscard]] S divided_by_alpha(S x) const;

  Index dimension_;
  ScaleType scale_;
};

template <class S>
DistanceToInitialization<S>::DistanceToInitialization(Index d, ScaleType scale) : dimension_(d), scale_(scale) {
  require<DimensionError>(d > 0, "distance to initialization needs d > 0 coordinates, got ", d);
}

template <class S>
S DistanceToInitialization<S>::value(ConstVectorRef<S> beta) const {
  using std::abs;
  check(beta);
  S sum(0);
  for (Index i = 0; i < dimension_; ++i) {
    const S scaled = divided_by_alpha(abs(beta[i]));
    const S z = divided_by_alpha(scaled);
    if (z / S(4) < std::numeric_limits<S>::epsilon()) {
      sum += (scaled / S(8)) * scaled;  // alpha^2 r(z) = beta^2 / (8 alpha^2), though z may underflow
    } else {
      const S s = distance_to_initialization_gradient<S>(z);
      sum += (abs(beta[i]) * s) * ((S(1) + s * s) / S(2));
    }
  }
  return sum;
}

template <class S>
void DistanceToInitialization<S>::gradient(ConstVectorRef<S> beta, VectorRef<S> out) const {
  check(beta);
  require_size("out", out.size(), dimension_);
  for (Index i = 0; i < dimension_; ++i)
    out[i] = distance_to_initialization_gradient<S>(divided_by_alpha(divided_by_alpha(beta[i])));
}

template <class S>
NearestWeights<S> DistanceToInitialization<S>::nearest_weights(ConstVectorRef<S> beta) const {
  using std::abs;
  using std::isfinite;
  using std::sqrt;
  check(beta);
  const S alpha = scale_.value();
  require(isfinite(alpha), "alpha overflows: log_alpha = ", scale_.log());
  const S farther = S(1) / (std::numeric_limits<S>::epsilon() * std::numeric_limits<S>::epsilon());
  NearestWeights<S> w{Vector<S>(dimension_), Vector<S>(dimension_)};
  for (Index i = 0; i < dimension_; ++i) {
    const S magnitude = abs(beta[i]);
    const S z = divided_by_alpha(divided_by_alpha(magnitude));
    S large = sqrt(magnitude);
    S smaller = alpha / S(2);
    if (!(z / S(4) > farther)) {
      const S p = detail::distance_excess<S>(z);
      large = alpha * (S(1) + p);
      smaller = alpha * ((S(1) + p) / (S(1) + S(2) * p));
    }
    w.plus[i] = beta[i] < S(0) ? smaller : large;
    w.minus[i] = beta[i] < S(0) ? large : smaller;
  }
  return w;
}

template <class S>
void DistanceToInitialization<S>::check(ConstVectorRef<S> beta) const {
  require_size("beta", beta.size(), dimension_);
  require_finite("beta", beta);
}

template <class S>
S DistanceToInitialization<S>::divided_by_alpha(S x) const {
  using std::exp;
  // 0 stays 0 where 1/alpha overflows.
  return x == S(0) ? x : S(x * exp(-scale_.log()));
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DISTANCE_TO_INITIALIZATION(prefix, S) prefix template class DistanceToInitialization<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DISTANCE_TO_INITIALIZATION)
