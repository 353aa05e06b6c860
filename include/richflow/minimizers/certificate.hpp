#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"
#include "richflow/regularizers/mirror_map.hpp"

namespace richflow {

/// How far a pair (beta, nu) is from the optimum of `min Q(beta) subject to X beta = y`. All three are 0
/// at the optimum and only there; none of them relies on how the pair was found.
template <class Scalar = double>
struct Certificate {
  /// `|X beta - y|_2 / max(|y|_2, |X beta(0)|_2)`, the absolute norm where that maximum is 0.
  Scalar primal_residual = std::numeric_limits<Scalar>::infinity();
  /// `max_i |grad Q(beta) - X^T nu|_i / max(1, |X^T nu|_inf)`: an upper bound on the relative distance
  /// of `grad Q(beta)` from the row space of X, absolute where |X^T nu| < 1 (large alpha), where the gap is the sharper
  /// judge. Coordinates that underflow on both sides agree, and so do those that differ by no more than the rounding of
  /// `x_i^T nu`: a column in units of 1e-18 of the others has terms that cancel to O(1) from 1e18, and there gap and
  /// residual take `grad Q(beta)` for `x_i^T nu`.
  Scalar kkt_residual = std::numeric_limits<Scalar>::infinity();
  /// `(Q(beta) + Q*(X^T nu) - <y, nu>) / max(Q(beta), Q*(X^T nu))`: the primal value minus the dual
  /// value (weak duality), relative; within rounding, and as far as beta does not fit, it may be negative. It is added
  /// up as `Q(beta) + Q*(z) - <beta, z> + <X beta - y, nu>` for `z = X^T nu`, where nothing large cancels.
  Scalar duality_gap = std::numeric_limits<Scalar>::infinity();
};

namespace detail {

/// The norm against which `|X beta - y|` is judged.
template <class Scalar>
[[nodiscard]] Scalar residual_scale(Scalar norm_y, Scalar norm_start) {
  const Scalar scale = std::max(norm_y, norm_start);
  return scale > Scalar(0) ? scale : Scalar(1);
}

/// `|X beta|`. No cost for a start at 0, which most have.
template <class S>
[[nodiscard]] S prediction_norm(const Matrix<S>& X, const Vector<S>& beta) {
  if (largest_size(beta) == S(0)) return S(0);
  Vector<S> prediction;
  multiply(X, beta, prediction);
  return norm(prediction);
}

/// `y - X beta`, in twice the precision where the rounding of plain sums may be seen in a certificate: as a part of
/// `scale`, or times nu as a part of `value`. Cost: two products, or some ten.
template <class S>
[[nodiscard]] Vector<S> exact_residual(const Dataset<S>& data, const Vector<S>& beta, const Vector<S>& nu, S scale,
                                       S value);

/// Sets `z_i = x_i^T nu` to `gradient_i` where the two differ by more than the final tolerance of a minimizer and yet
/// by no more than the rounding of the sum. Cost: O(d), and one product where something differs.
template <class S>
void settle_roundings(const Matrix<S>& X, const Vector<S>& nu, const Vector<S>& gradient, Vector<S>& z);

/// See `certify`.
template <class S>
[[nodiscard]] Certificate<S> certify_any(const AnyMirrorMap<S>& mirror, const Dataset<S>& data, const Vector<S>& beta,
                                         const Vector<S>& nu);

/// See `certify` without multipliers.
template <class S>
[[nodiscard]] Certificate<S> certify_any(const AnyMirrorMap<S>& mirror, const Dataset<S>& data, const Vector<S>& beta);

}  // namespace detail

/// Checks a claimed minimizer `beta` of `Q` over `X beta = y` against the multipliers `nu` (N values).
/// Throws DimensionError for wrong lengths. Cost O(N d).
template <MirrorMap Mirror>
[[nodiscard]] Certificate<typename Mirror::Scalar> certify(const Mirror& mirror,
                                                           const Dataset<typename Mirror::Scalar>& data,
                                                           const Vector<typename Mirror::Scalar>& beta,
                                                           const Vector<typename Mirror::Scalar>& nu) {
  using S = typename Mirror::Scalar;
  return detail::certify_any<S>(detail::MirrorMapOf<Mirror>::refer_to(mirror), data, beta, nu);
}

/// The same without multipliers: `nu` is a least-squares solution of `X^T nu = grad Q(beta)`. Use it to
/// judge any beta, of whatever origin. Cost O(N^2 d). Needs `grad Q(beta)` to be representable: at extreme
/// scales, where entries of beta underflow, pass `nu`.
template <MirrorMap Mirror>
[[nodiscard]] Certificate<typename Mirror::Scalar> certify(const Mirror& mirror,
                                                           const Dataset<typename Mirror::Scalar>& data,
                                                           const Vector<typename Mirror::Scalar>& beta) {
  using S = typename Mirror::Scalar;
  return detail::certify_any<S>(detail::MirrorMapOf<Mirror>::refer_to(mirror), data, beta);
}

namespace detail {

template <class S>
void settle_roundings(const Matrix<S>& X, const Vector<S>& nu, const Vector<S>& gradient, Vector<S>& z) {
  using std::abs;
  using std::isfinite;
  const S size = largest_size(gradient);
  if (!isfinite(size)) return;
  const S visible = S(450) * std::numeric_limits<S>::epsilon() * size;
  const S rounding = S(8 * (nu.size() + 8)) * std::numeric_limits<S>::epsilon();
  for (Index i = 0; i < z.size(); ++i) {
    const S difference = abs(z[i] - gradient[i]);
    if (!(difference > visible)) continue;
    S terms(0);
    for (Index n = 0; n < nu.size(); ++n) terms += abs(X(n, i) * nu[n]);
    if (difference <= rounding * terms) z[i] = gradient[i];
  }
}

template <class S>
Vector<S> exact_residual(const Dataset<S>& data, const Vector<S>& beta, const Vector<S>& nu, S scale, S value) {
  using std::isfinite;
  constexpr S seen(S(0.1) * interpolation_tolerance<S>);
  Vector<S> residual = data.y();
  subtract_product(data.X(), beta, residual);
  const S rounding = std::numeric_limits<S>::epsilon() * (norm(data.y()) + norm(sizes_of_terms(data.X(), beta)));
  if (!(rounding > seen * scale) && !(rounding * norm(nu) > seen * value)) return residual;
  Vector<S> exact;
  compensated_residual(data.X(), beta, data.y(), exact);
  return isfinite(norm(exact)) ? exact : residual;
}

template <class S>
Certificate<S> certify_any(const AnyMirrorMap<S>& mirror, const Dataset<S>& data, const Vector<S>& beta,
                           const Vector<S>& nu) {
  using std::abs;
  const Index d = data.num_inputs();
  require_size("the regularizer", mirror.dimension(), d);
  require_size("beta", beta.size(), d);
  require_size("nu", nu.size(), data.num_samples());

  const Vector<S> zero = Vector<S>::Zero(d);
  Vector<S> z, gradient(d), dual_beta(d), curvature(d), start(d);
  multiply_transposed(data.X(), nu, z);
  mirror.gradient(beta, gradient);
  mirror.mirror(zero, start, curvature);
  settle_roundings(data.X(), nu, gradient, z);
  mirror.mirror(z, dual_beta, curvature);

  Certificate<S> certificate;
  const S scale = residual_scale<S>(norm(data.y()), prediction_norm(data.X(), start));
  // Below this size beta has lost digits to underflow and determines no gradient.
  const S vanishing = std::numeric_limits<S>::min() / std::numeric_limits<S>::epsilon();
  S worst(0);
  for (Index i = 0; i < d; ++i) {
    const bool both_vanish = abs(beta[i]) < vanishing && abs(dual_beta[i]) < vanishing;
    if (!both_vanish) worst = std::max(worst, S(abs(gradient[i] - z[i])));
  }
  certificate.kkt_residual = worst / std::max(S(1), largest_size(z));

  // Weak duality holds for any multipliers in the domain; rounding may have put these on its edge or past it.
  const S edge = mirror.max_step(zero, z);
  const S inside = std::min(S(1), edge * (S(1) - S(8) * std::numeric_limits<S>::epsilon()));
  const S primal = mirror.value(beta);
  multiple(inside, z, z);
  const S conjugate = mirror.conjugate(z);
  const S size = std::max(abs(primal), abs(conjugate));
  const Vector<S> residual = exact_residual(data, beta, nu, scale, size);
  certificate.primal_residual = norm(residual) / scale;
  certificate.duality_gap = (primal + conjugate - inner_product(beta, z) - inside * inner_product(residual, nu)) /
                            (size > S(0) ? size : S(1));
  return certificate;
}

template <class S>
Certificate<S> certify_any(const AnyMirrorMap<S>& mirror, const Dataset<S>& data, const Vector<S>& beta) {
  require_size("beta", beta.size(), data.num_inputs());
  Vector<S> gradient(data.num_inputs());
  mirror.gradient(beta, gradient);
  const OrthonormalRows<S> rows(data);
  return certify_any(mirror, data, beta, rows.nearest_multipliers(gradient));
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_CERTIFICATE(prefix, S)                                                                   \
  prefix template Vector<S> detail::exact_residual<S>(const Dataset<S>&, const Vector<S>&, const Vector<S>&, S, S);   \
  prefix template void detail::settle_roundings<S>(const Matrix<S>&, const Vector<S>&, const Vector<S>&, Vector<S>&); \
  prefix template Certificate<S> detail::certify_any<S>(const detail::AnyMirrorMap<S>&, const Dataset<S>&,            \
                                                        const Vector<S>&, const Vector<S>&);                          \
  prefix template Certificate<S> detail::certify_any<S>(const detail::AnyMirrorMap<S>&, const Dataset<S>&,            \
                                                        const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CERTIFICATE)
