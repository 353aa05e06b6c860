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
#include "richflow/linalg/stable_norm.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"

namespace richflow {

/// How far a pair (beta, nu) is from the optimum of `min sum_i (upper_i beta_i^+ + lower_i beta_i^-)` subject to
/// `X beta = y`, and where nothing fits y, over the least-squares points. The last three are 0 at the optimum, and the
/// residual where something fits y; none relies on how the pair was found.
template <class Scalar = double>
struct L1Certificate {
  /// `sum_i (upper_i beta_i^+ + lower_i beta_i^-)`: the weighted l1 norm.
  Scalar objective = std::numeric_limits<Scalar>::infinity();
  /// `|X beta - y|_2 / |y|_2`.
  Scalar primal_residual = std::numeric_limits<Scalar>::infinity();
  /// `max_i |x_i^T (X beta - y)| / (|x_i| |y|)`: 0 at interpolators and at all other least-squares points.
  Scalar least_squares_residual = std::numeric_limits<Scalar>::infinity();
  /// By what part `-lower <= X^T nu <= upper` is violated where it is violated most: 0 for a feasible nu. The sums
  /// `x_i^T nu` are those of nu as it is, in twice the precision where they cancel. Where columns differ much in size,
  /// no nu of this precision may have less than `epsilon sum_n |x_ni nu_n|`.
  Scalar dual_excess = std::numeric_limits<Scalar>::infinity();
  /// `(objective - <X beta, nu>) / objective` for the feasible `nu / (1 + dual_excess)`: the objective minus what weak
  /// duality leaves for any beta of the same prediction.
  Scalar duality_gap = std::numeric_limits<Scalar>::infinity();
};

/// Checks a claimed minimizer `beta` (d) of the weighted l1 norm against multipliers `nu` (N). `upper` and `lower` (d
/// each) are the positive weights of positive and negative entries. Throws DimensionError for wrong lengths,
/// ArgumentError for weights that are not positive. Cost O(N d).
template <class S>
[[nodiscard]] L1Certificate<S> certify_l1(const Dataset<S>& data, const Vector<S>& beta, const Vector<S>& nu,
                                          const Vector<S>& upper, const Vector<S>& lower);

template <class S>
L1Certificate<S> certify_l1(const Dataset<S>& data, const Vector<S>& beta, const Vector<S>& nu, const Vector<S>& upper,
                            const Vector<S>& lower) {
  using std::abs;
  using std::isfinite;
  using std::sqrt;
  const Index d = data.num_inputs();
  require_size("beta", beta.size(), d);
  require_size("nu", nu.size(), data.num_samples());
  require_size("upper", upper.size(), d);
  require_size("lower", lower.size(), d);
  require_positive("upper", upper);
  require_positive("lower", lower);

  L1Certificate<S> certificate;
  Vector<S> prediction, slopes, prices;
  detail::multiply(data.X(), beta, prediction);
  const Vector<S> residual = data.y() - prediction;
  detail::multiply_transposed(data.X(), residual, slopes);
  detail::multiply_transposed(data.X(), nu, prices);
  const Vector<S> squares = detail::squared_norms_of_columns(data.X());
  const S size = detail::stable_norm(data.y());
  const S unit = size > S(0) ? size : S(1);
  certificate.primal_residual = detail::stable_norm(residual) / unit;
  certificate.objective = S(0);
  certificate.least_squares_residual = S(0);
  certificate.dual_excess = S(0);
  // One rounding of a price is this times |x_i|; N and more of them add up.
  const S rounding = std::numeric_limits<S>::epsilon() * detail::stable_norm(nu);
  const S all = S(nu.size() + 8) * rounding;
  constexpr S seen(S(0.1) * detail::interpolation_tolerance<S>);
  S slack(0);  // sum_i |beta_i| (bound_i - sign(beta_i) x_i^T nu), without the excess
  for (Index i = 0; i < d; ++i) {
    certificate.objective += beta[i] > S(0) ? upper[i] * beta[i] : -lower[i] * beta[i];
    const S length = sqrt(squares[i]);
    if (length > S(0))
      certificate.least_squares_residual =
          std::max(certificate.least_squares_residual, S(abs(slopes[i]) / length / unit));
    if (beta[i] == S(0) && abs(prices[i]) + all * length <= std::min(upper[i], lower[i])) continue;
    if (rounding * length > seen * std::min(upper[i], lower[i])) {
      const S exact = detail::compensated_product(data.X().data() + i * nu.size(), nu.data(), nu.size());
      if (isfinite(exact)) prices[i] = exact;
    }
    const S bound = prices[i] > S(0) ? upper[i] : lower[i];
    certificate.dual_excess = std::max(certificate.dual_excess, S(abs(prices[i]) / bound - S(1)));
    if (beta[i] == S(0)) continue;
    const S weight = beta[i] > S(0) ? upper[i] : lower[i];
    const S price = beta[i] > S(0) ? prices[i] : -prices[i];
    slack += abs(beta[i]) * (weight - price);
  }
  // The objective minus <X beta, nu> / (1 + excess).
  const S gap = (slack + certificate.dual_excess * certificate.objective) / (S(1) + certificate.dual_excess);
  certificate.duality_gap = certificate.objective > S(0) ? gap / certificate.objective : S(0);
  return certificate;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_L1_CERTIFICATE(prefix, S)                                                  \
  prefix template L1Certificate<S> certify_l1<S>(const Dataset<S>&, const Vector<S>&, const Vector<S>&, \
                                                 const Vector<S>&, const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_L1_CERTIFICATE)
