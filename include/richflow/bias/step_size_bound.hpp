#pragma once

#include <cmath>
#include <string>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/two_layer_diagonal.hpp"

/// @file
/// The sharpness of diagonal nets where they fit the data, in closed form, and what it says of the limits of descent: a
/// step is a bound on a weighted norm of beta.

namespace richflow {

namespace detail {

/// Of a diagonal net where it fits: the Hessian's largest eigenvalue is `rate * lambda_max(X diag(c) X^T)`, and given
/// beta, c is at least `least * |beta|^power`.
template <class S>
struct SharpnessForm {
  S rate;
  S power;
  S least;
};

template <class S, int depth>
[[nodiscard]] SharpnessForm<S> sharpness_form(const DiagonalNet<S, depth>& net) {
  using std::pow;
  const S D = S(net.homogeneity());
  const S power = S(2) - S(2) / D;
  // At odd depth a weight below 0 adds to beta: two halves of it have the least sum of powers.
  return {S(2) * D * D, power, net.homogeneity() % 2 == 0 ? S(1) : pow(S(2), S(1) - power)};
}
template <class S>
[[nodiscard]] SharpnessForm<S> sharpness_form(const TwoLayerDiagonalNet<S>& /*net*/) {
  return {S(2), S(1), S(2)};
}

/// c.
template <class S, int depth>
[[nodiscard]] Vector<S> squared_slopes(const DiagonalNet<S, depth>& net, const Vector<S>& w) {
  const Index d = net.num_inputs();
  const S power = S(2 * net.homogeneity() - 2);
  const auto powers = w.array().abs().pow(power);
  return powers.head(d) + powers.tail(d);
}
template <class S>
[[nodiscard]] Vector<S> squared_slopes(const TwoLayerDiagonalNet<S>& net, const Vector<S>& w) {
  const Index d = net.num_inputs();
  return w.reshaped(d, 4).rowwise().squaredNorm();
}

/// `lambda_max(X diag(c) X^T)`, c >= 0, by the smaller one of `X diag(c) X^T` and `sqrt(c) X^T X sqrt(c)`.
template <class S>
[[nodiscard]] S largest_weighted_eigenvalue(ConstMatrixRef<S> X, const Vector<S>& c);

template <class S>
void check_samples(ConstMatrixRef<S> X, Index d) {
  require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  require<DimensionError>(X.cols() == d, "X has ", X.cols(), " columns where the net has d = ", d, " features");
  require_finite("X", X);
}

}  // namespace detail

/// The sharpness of a diagonal net at weights that fit the data, the largest eigenvalue of the Hessian of `L = |X
/// beta(w) - y|^2`: with `c_i = w_+,i^(2D-2) + w_-,i^(2D-2)`
///
///     h(w) = 2 D^2 lambda_max(X diag(c) X^T);    8 lambda_max(X diag(w_+^2 + w_-^2) X^T) at D = 2,
///
/// there with `w_+^2 + w_-^2 = sqrt(beta^2 + 4 k^2)`, k = |w_+ w_-|; of two layers `2 lambda_max(X diag(u_+^2 + v_+^2 +
/// u_-^2 + v_-^2) X^T)`. Elsewhere it is the Gauss-Newton part, from which the Hessian differs by the residuals (see
/// Sharpness, which needs no closed form). Throws DimensionError where the shapes do not fit, NonFiniteError where
/// w or X is not finite, or the powers overflow. Cost: O(min(N, d)^2 max(N, d)) and the eigenvalues of a matrix of
/// min(N, d) rows.
template <class Net>
[[nodiscard]] typename Net::Scalar interpolator_sharpness(const Net& net,
                                                          const std::type_identity_t<Matrix<typename Net::Scalar>>& X,
                                                          const Vector<typename Net::Scalar>& w) {
  using S = typename Net::Scalar;
  detail::check_samples<S>(X, net.num_inputs());
  require_size("w", w.size(), net.num_parameters());
  require_finite("w", w);
  const Vector<S> c = detail::squared_slopes(net, w);
  require_finite("the squared derivative of beta", c);
  return detail::sharpness_form(net).rate * detail::largest_weighted_eigenvalue<S>(X, c);
}

/// The bounds that a step sets on the limits of descent: see `step_size_bound`.
template <class S>
struct StepSizeBound {
  S spectral = S(0);           ///< `lambda_max(X diag(|beta|^q) X^T)`
  S spectral_bound = S(0);     ///< what it is at most where descent ends
  S weighted_l1 = S(0);        ///< `sum_i |X_i|^2 |beta_i|^q`, X_i column i; at q = 1 a weighted l1 norm
  S weighted_l1_bound = S(0);  ///< likewise
  S largest_step = S(0);       ///< with longer steps descent does not end at this beta; infinite for beta = 0

  /// Whether a descent with this step can end at beta.
  [[nodiscard]] bool holds() const { return spectral <= spectral_bound; }
};

/// The bound on beta that a step h implies (docs/theory.md, section 3.4). Gradient descent with steps h on
/// `|X beta(w) - y|^2` converges to weights that fit the data only where `h lambda_max(Hessian) <= 2` there (from all
/// starts but those of a set of measure zero, which run into an unstable point). All weights with this beta have
/// `c >= |beta|^q`, `q = 2 - 2 / D`, whatever the scale of the start (see `interpolator_sharpness`:
/// `w_+^2 + w_-^2 >= |w_+^2 - w_-^2|`); so
///
///     lambda_max(X diag(|beta|^q) X^T) <= 1 / (D^2 h),         1 / (4 h) of X diag(|beta|) X^T at depth 2,
///     sum_i |X_i|^2 |beta_i|^q <= min(N, d) / (D^2 h),
///
/// the second since the trace of a matrix of rank m is at most m times its largest eigenvalue. Of two layers `u v`, q =
/// 1 and 1 / (2 h); at odd depth, where a weight may have become negative, `2^(1 - 2/D)` times the bounds. Descent with
/// long steps ends where this norm is small, or nowhere. For heavy ball with momentum m give h / (1 + m).
///
/// Throws DimensionError where the shapes do not fit, NonFiniteError where X or beta is not finite, ArgumentError
/// unless step > 0. Cost: as `interpolator_sharpness`.
template <class Net>
[[nodiscard]] StepSizeBound<typename Net::Scalar> step_size_bound(
    const Net& net, const std::type_identity_t<Matrix<typename Net::Scalar>>& X,
    const Vector<typename Net::Scalar>& beta, typename Net::Scalar step) {
  using std::isfinite;
  using S = typename Net::Scalar;
  detail::check_samples<S>(X, net.num_inputs());
  require_size("beta", beta.size(), net.num_inputs());
  require_finite("beta", beta);
  require(isfinite(step) && step > S(0), "step_size_bound: the step must be positive and finite, got ", step);
  const detail::SharpnessForm<S> form = detail::sharpness_form(net);
  const Vector<S> sizes = beta.array().abs().pow(form.power);
  StepSizeBound<S> bound;
  bound.spectral = detail::largest_weighted_eigenvalue<S>(X, sizes);
  bound.spectral_bound = S(2) / (form.rate * form.least * step);
  bound.weighted_l1 = X.colwise().squaredNorm().dot(sizes.transpose());
  bound.weighted_l1_bound = S(std::min(X.rows(), X.cols())) * bound.spectral_bound;
  bound.largest_step = S(2) / (form.rate * form.least * bound.spectral);
  return bound;
}

namespace detail {

template <class S>
S largest_weighted_eigenvalue(ConstMatrixRef<S> X, const Vector<S>& c) {
  const Matrix<S> scaled = X * c.cwiseSqrt().asDiagonal();
  const Matrix<S> gram =
      scaled.rows() <= scaled.cols() ? Matrix<S>(scaled * scaled.transpose()) : Matrix<S>(scaled.transpose() * scaled);
  require_finite("X diag(c) X^T", gram);
  return std::max(-lowest_eigenvalue<S>(-gram), S(0));
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_STEP_SIZE_BOUND(prefix, S) \
  prefix template S detail::largest_weighted_eigenvalue<S>(ConstMatrixRef<S>, const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_STEP_SIZE_BOUND)
