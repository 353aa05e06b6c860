#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/pivoted_qr.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/triangular.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/lasso_path.hpp"

namespace richflow {

/// How fast the limit of the squared net nears the interpolator of minimum l1 norm as alpha -> 0.
template <class S = double>
struct [[nodiscard]] L1Rate : Result<L1Rate<S>> {
  Vector<S> beta = {};  ///< The interpolator of minimum l1 norm, d.
  Vector<S> nu = {};    ///< The multipliers, N, that keep `|x_i^T nu|` off the support lowest: at most rho.
  /// `min_nu max_{i: beta_i = 0} |x_i^T nu|` subject to `x_i^T nu = sign(beta_i)` on the support: below 1 where beta is
  /// the only interpolator of its norm.
  S rho = std::numeric_limits<S>::infinity();
  /// `2 (1 - rho)`: at depth 2 the distance falls as alpha to this power. (At depth D >= 3, as alpha^D.)
  S exponent = S(0);
  Index slowest = -1;  ///< A coordinate off the support with `|x_i^T nu| = rho`; -1 where there is none.
  S second = S(0);     ///< The largest `|x_i^T nu|` off the support that is below rho.
  /// Below this log alpha the slowest coordinates lead: `2 (rho - second) log(1/alpha) >= 3`.
  S log_alpha = S(0);
  Status status = Status::stalled;  ///< tolerance_reached, or stalled where a linear program was not solved.
  std::string message = {};         ///< How it ended, with these numbers.

  /// Whether rho is proved.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// The rate at which the limit of gradient flow on the depth-2 diagonal net nears the minimum-l1 interpolator, from any
/// shape: `|beta_alpha - beta| ~ alpha^(2 (1 - rho))` (docs/theory.md, section 8.3). rho is computed from the data by
/// two linear programs, both by the lasso's homotopy and each with its certificate: minimum l1, and over the null space
/// of X `1 / rho = min |h off the support|_1` subject to `X h = 0` and `sum sign(beta_i) h_i = -1` on it.
///
/// Throws InfeasibleError where nothing fits y. Where rho >= 1 (minimum l1 has several solutions, or a degenerate one)
/// there is no power law, and the message says so. X is N x d. Cost: that of two lasso paths.
template <class S>
[[nodiscard]] L1Rate<S> l1_rate(const Dataset<S>& data);

template <class S>
L1Rate<S> l1_rate(const Dataset<S>& data) {
  using std::abs;
  using std::sqrt;
  const Index N = data.num_samples();
  const Index d = data.num_inputs();
  L1Rate<S> rate;
  LassoPath<S> least = lasso_path(data);
  require<InfeasibleError>(!least.ok() || least.fits, "no beta satisfies X beta = y: what fits best leaves ",
                           least.certificate.primal_residual, " of |y|");
  rate.beta = std::move(least.beta);
  rate.nu = std::move(least.nu);
  rate.message = std::move(least.message);
  if (!is_success(least.status)) return rate;

  std::vector<Index> support, others;
  for (Index i = 0; i < d; ++i) (rate.beta[i] != S(0) ? support : others).push_back(i);
  const auto k = static_cast<Index>(support.size());
  const auto columns_of = [&](const std::vector<Index>& which) {
    Matrix<S> columns(N, static_cast<Index>(which.size()));
    for (Index j = 0; j < columns.cols(); ++j)
      std::copy_n(&data.X()(0, which[static_cast<std::size_t>(j)]), N, &columns(0, j));
    return columns;
  };
  // X = [X_A, X_c]. Of X h = 0 what is orthogonal to the columns of the support says nothing of h_A; the rest gives
  // h_A, so that sum sign(beta_i) h_i = -nu_0^T X_c h_c with the least nu_0 that has the signs.
  detail::PivotedQr<S> qr;
  qr.compute(columns_of(support));
  const Matrix<S> Q = qr.leading_columns_of_q(N);
  Vector<S> part(k), least_nu = Vector<S>::Zero(N);
  for (Index j = 0; j < k; ++j)
    part[j] = rate.beta[support[static_cast<std::size_t>(qr.column(j))]] > S(0) ? S(1) : S(-1);
  detail::solve_upper_transposed(qr.upper(), part);
  if (k > 0) detail::add_product<S>(Q.leftCols(k), part, least_nu);
  if (others.empty()) {
    rate.rho = S(0);
    rate.nu = least_nu;
  } else {
    const Matrix<S> off_support = columns_of(others);
    Matrix<S> rows(N - k + 1, off_support.cols());
    // Roundings must not pass for columns.
    const auto product = [&](const S* v, S size, Index j) {
      const S* const x = &off_support(0, j);
      const S value = detail::inner_product(v, x, N);
      const S rounding = S(32) * std::numeric_limits<S>::epsilon() * size * sqrt(detail::inner_product(x, x, N));
      return abs(value) > rounding ? value : S(0);
    };
    const S size = detail::norm(least_nu);
    for (Index j = 0; j < rows.cols(); ++j) {
      for (Index n = k; n < N; ++n) rows(n - k, j) = product(&Q(0, n), S(1), j);
      rows(N - k, j) = product(least_nu.data(), size, j);
    }
    const LassoPath<S> program = lasso_path(Dataset<S>(rows, Vector<S>::Unit(N - k + 1, N - k)));
    rate.message = program.message;
    if (!is_success(program.status)) return rate;
    // The dual of the program, |rows^T p|_inf <= 1 with p_last = 1 / rho, is nu over rho. Where there is no such h,
    // what the program leaves is orthogonal to all columns, and nu vanishes off the support.
    Vector<S> p = program.nu;
    if (!program.fits) {
      p.setZero(N - k + 1);
      p[N - k] = S(1);
      detail::subtract_product(rows, program.beta, p);
    }
    rate.rho = program.fits ? S(1) / program.certificate.objective : S(0);
    rate.nu = least_nu;
    for (Index n = k; n < N; ++n) detail::add_multiple(S(p[n - k] / p[N - k]), &Q(0, n), rate.nu.data(), N);
  }
  rate.exponent = S(2) * (S(1) - rate.rho);
  Vector<S> prices;
  detail::multiply_transposed(data.X(), rate.nu, prices);
  constexpr S tolerance = S(1e3) * detail::interpolation_tolerance<S>;
  for (const Index i : others) {
    if (abs(prices[i]) >= rate.rho - tolerance) {
      if (rate.slowest < 0) rate.slowest = i;
    } else {
      rate.second = std::max(rate.second, S(abs(prices[i])));
    }
  }
  rate.log_alpha = S(-3) / (S(2) * std::max(rate.rho - rate.second, tolerance));
  rate.status = Status::tolerance_reached;
  rate.message = detail::concat("rho = ", rate.rho,
                                rate.rho < S(1) - tolerance
                                    ? ": the distance from minimum l1 falls as alpha to the power "
                                    : ": minimum l1 has several solutions or a degenerate one, and there is no power "
                                      "law; 2 (1 - rho) = ",
                                rate.exponent);
  return rate;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_L1_RATE(prefix, S) prefix template L1Rate<S> l1_rate<S>(const Dataset<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_L1_RATE)
