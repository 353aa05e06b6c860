#pragma once

#include <concepts>

#include "richflow/core/has_member.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// A separable convex regularizer `Q(beta)` on R^d.
template <class R>
concept Regularizer = requires(const R& regularizer, ConstVectorRef<typename R::Scalar> beta,
                               VectorRef<typename R::Scalar> out) {
  { regularizer.dimension() } -> std::convertible_to<Index>;
  { regularizer.value(beta) } -> std::convertible_to<typename R::Scalar>;
  regularizer.gradient(beta, out);
};

/// A regularizer whose gradient inverts in closed form: the extension point of the solve road. From
/// these members richflow derives the minimizer of `Q` subject to `X beta = y` for any scale, its
/// certificate and the dual flow.
///
/// With `z = grad Q(beta)`, the d mirror variables (on the interpolating path `z = X^T nu`):
/// - `mirror(z, beta, curvature)`: `beta = (grad Q)^{-1}(z)` and `curvature = d beta / d z > 0`
/// - `conjugate(z)`: `Q*(z) = sup_beta <z, beta> - Q(beta)`
/// - `max_step(z, dz)`: the largest t such that `z + s dz` is in the domain for all s in [0, t)
/// - `scale()`, `with_scale(scale)`: the initialization scale, and the same regularizer at another one
/// - `homogeneity()`: the p with `beta = alpha^p * (a function of z alone)`; 2 for the squared net, D at depth D
/// - `dual_rate()`: the constant c in the dual flow `nu' = -c (X beta(X^T nu) - y)` for the plain-sum loss
template <class R>
concept MirrorMap = Regularizer<R> && requires(const R& regularizer, ConstVectorRef<typename R::Scalar> z,
                                               VectorRef<typename R::Scalar> out, Scale<typename R::Scalar> scale) {
  regularizer.mirror(z, out, out);
  { regularizer.conjugate(z) } -> std::convertible_to<typename R::Scalar>;
  { regularizer.max_step(z, z) } -> std::convertible_to<typename R::Scalar>;
  { regularizer.scale() } -> std::convertible_to<Scale<typename R::Scalar>>;
  { regularizer.with_scale(scale) } -> std::convertible_to<R>;
  { regularizer.homogeneity() } -> std::convertible_to<typename R::Scalar>;
  { regularizer.dual_rate() } -> std::convertible_to<typename R::Scalar>;
};

/// A mirror map whose z lives between bounds at which beta becomes infinite, so that near them only the distance
/// from the bound has the digits that determine beta. With `below` = z - lower bound, `above` = upper bound - z:
/// - `bounds(z, below, above)`: the distances of z
/// - `mirror(z, below, above, beta, curvature)` and `gradient(beta, z, below, above)`: the members of a MirrorMap,
///   working from and giving the distances, each accurate relative to itself
///
/// A type whose z is bounded only for some of its values says so by `bool is_bounded() const`; where it is false the
/// members above are not called.
template <class R>
concept BoundedMirrorMap = MirrorMap<R> &&
    requires(const R& regularizer, ConstVectorRef<typename R::Scalar> in, VectorRef<typename R::Scalar> out) {
  regularizer.bounds(in, out, out);
  regularizer.mirror(in, in, in, out, out);
  regularizer.gradient(in, out, out, out);
};

namespace detail {

RICHFLOW_DEFINE_HAS_MEMBER(bounds)

}  // namespace detail

/// True for a MirrorMap; otherwise does not compile, with one sentence per missing member.
template <class R>
consteval bool explain_mirror_map() {
  static_assert(
      requires { typename R::Scalar; }, "richflow: the mirror map must name its number type: `using Scalar = double;`");
  if constexpr (requires { typename R::Scalar; }) {
    using S = typename R::Scalar;
    static_assert(
        requires(const R& q) {
          { q.dimension() } -> std::convertible_to<Index>;
        },
        "richflow: the mirror map must have a const member `Index dimension() const`, the length of beta");
    static_assert(
        requires(const R& q, ConstVectorRef<S> beta) {
          { q.value(beta) } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar value(ConstVectorRef<Scalar> beta) const`, Q(beta)");
    static_assert(
        requires(const R& q, ConstVectorRef<S> beta, VectorRef<S> out) { q.gradient(beta, out); },
        "richflow: the mirror map must have a const member `void gradient(ConstVectorRef<Scalar> beta, "
        "VectorRef<Scalar> out) const`, writing grad Q(beta)");
    static_assert(
        requires(const R& q, ConstVectorRef<S> z, VectorRef<S> out) { q.mirror(z, out, out); },
        "richflow: the mirror map must have a const member `void mirror(ConstVectorRef<Scalar> z, VectorRef<Scalar> "
        "beta, VectorRef<Scalar> curvature) const`, writing beta = (grad Q)^{-1}(z) and d beta / d z");
    static_assert(
        requires(const R& q, ConstVectorRef<S> z) {
          { q.conjugate(z) } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar conjugate(ConstVectorRef<Scalar> z) const`, Q*(z)");
    static_assert(
        requires(const R& q, ConstVectorRef<S> z) {
          { q.max_step(z, z) } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar max_step(ConstVectorRef<Scalar> z, "
        "ConstVectorRef<Scalar> dz) const`, how far z may go along dz");
    static_assert(
        requires(const R& q) {
          { q.scale() } -> std::convertible_to<Scale<S>>;
        },
        "richflow: the mirror map must have a const member `Scale<Scalar> scale() const`");
    static_assert(
        requires(const R& q, Scale<S> scale) {
          { q.with_scale(scale) } -> std::convertible_to<R>;
        },
        "richflow: the mirror map must have a const member `with_scale(Scale<Scalar>) const`, itself at another "
        "scale");
    static_assert(
        requires(const R& q) {
          { q.homogeneity() } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar homogeneity() const`, the p with beta ~ alpha^p at "
        "constant z");
    static_assert(
        requires(const R& q) {
          { q.dual_rate() } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar dual_rate() const`, the rate c of its dual flow");
  }
  if constexpr (MirrorMap<R>)
    static_assert(BoundedMirrorMap<R> || !detail::Has_bounds<R>,
                  "richflow: the bounds of the mirror map do not fit: `void bounds(z, below, above) const`, "
                  "mirror(z, below, above, beta, curvature) and gradient(beta, z, below, above) (BoundedMirrorMap)");
  return true;
}

}  // namespace richflow
