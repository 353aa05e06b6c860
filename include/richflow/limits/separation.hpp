#pragma once

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/growing_basis.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/losses/margin_losses.hpp"

namespace richflow::detail {

/// The signed samples `y_n x_n`, one per column, d x N. Throws ArgumentError naming the first label that is neither +1
/// nor -1.
template <class S>
[[nodiscard]] Matrix<S> signed_samples(const Dataset<S>& data);

/// Whether the sign of `<x, b>` separates the labels, with the proof of either answer.
template <class S>
struct Separation {
  bool is_separable = false;
  /// Nonnegative, N. Not separable: sums to 1, and `sum_n p_n y_n x_n = 0`. Separable: `sum_n p_n y_n x_n` is a
  /// positive multiple of the b of least norm with `y_n <x_n, b> >= 1`.
  Vector<S> p = {};
  std::vector<Index> support = {};  ///< where p > 0
};

/// Decides by non-negative least squares (Lawson and Hanson 1974, chapter 23): with the columns `(y_n x_n, 1)` the
/// distance of `(0, 1)` from their cone is zero exactly where the data are not separable. Margins below some 1e-13 of
/// the longest sample (in double) count as zero. Cost: O(N d) and O(d k^2) per support vector.
template <class S>
[[nodiscard]] Separation<S> separate(const Matrix<S>& signed_columns);

template <class S>
Matrix<S> signed_samples(const Dataset<S>& data) {
  require_two_classes<S>(data.y());
  const Matrix<S>& X = data.X();
  Matrix<S> columns(X.cols(), X.rows());
  for (Index i = 0; i < X.cols(); ++i)
    for (Index n = 0; n < X.rows(); ++n) columns(i, n) = data.y()[n] * X(n, i);
  return columns;
}

template <class S>
Separation<S> separate(const Matrix<S>& signed_columns) {
  const Index d = signed_columns.rows();
  const Index N = signed_columns.cols();
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  // Whether a sample is on the right side does not depend on its length.
  Vector<S> length(N), sizes(N);
  for (Index n = 0; n < N; ++n) {
    sizes[n] = Vector<S>(signed_columns.col(n)).stableNorm();
    if (!(sizes[n] > S(0))) sizes[n] = S(1);
  }
  Matrix<S> columns(d + 1, N);
  for (Index n = 0; n < N; ++n) {
    for (Index i = 0; i < d; ++i) columns(i, n) = signed_columns(i, n) / sizes[n];
    columns(d, n) = S(1);
    length[n] = Vector<S>(columns.col(n)).norm();
  }
  Vector<S> target = Vector<S>::Zero(d + 1);
  target[d] = S(1);

  Separation<S> result;
  result.p = Vector<S>::Zero(N);
  GrowingBasis<S> basis(columns);
  std::vector<bool> is_blocked(static_cast<std::size_t>(N), false);
  Vector<S> coefficients, slopes, rest = target;
  const Index most = 20 * N + 100;
  for (Index step = 0; step < most; ++step) {
    // Orthogonal to the chosen columns to its own rounding, so that slopes mean something however short it is.
    multiply_transposed(columns, rest, slopes);
    Index best = -1;
    S steepest = S(64) * epsilon * norm(rest);
    for (Index n = 0; n < N; ++n)
      if (result.p[n] == S(0) && !is_blocked[static_cast<std::size_t>(n)] && slopes[n] > steepest * length[n]) {
        steepest = slopes[n] / length[n];
        best = n;
      }
    if (best < 0) break;
    is_blocked[static_cast<std::size_t>(best)] = true;  // until it is seen to help
    if (!basis.append(best, S(64) * epsilon)) continue;
    basis.project(target, coefficients, rest);
    const bool helps = coefficients[basis.size() - 1] > S(0);
    if (helps) std::fill(is_blocked.begin(), is_blocked.end(), false);
    if (!helps) basis.erase(basis.size() - 1);
    for (;;) {
      if (basis.size() == 0) break;
      basis.project(target, coefficients, rest);
      S reach(1);
      Index leaving = -1;
      for (Index k = 0; k < basis.size(); ++k) {
        if (coefficients[k] > S(0)) continue;
        const S now = result.p[basis.chosen()[static_cast<std::size_t>(k)]];
        const S fits = now / (now - coefficients[k]);
        if (leaving < 0 || fits < reach) {
          reach = fits;
          leaving = k;
        }
      }
      for (Index k = 0; k < basis.size(); ++k) {
        S& value = result.p[basis.chosen()[static_cast<std::size_t>(k)]];
        value = std::max(S(0), value + reach * (coefficients[k] - value));
      }
      if (leaving < 0) break;
      result.p[basis.chosen()[static_cast<std::size_t>(leaving)]] = S(0);
      basis.erase(leaving);
    }
  }
  result.support = basis.chosen();
  result.is_separable = norm(rest) > S(1000) * epsilon;
  result.p.array() *= sizes.minCoeff() / sizes.array();
  const S sum = result.p.sum();
  if (sum > S(0)) result.p /= sum;
  return result;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_SEPARATION(prefix, S)                        \
  prefix template Matrix<S> detail::signed_samples<S>(const Dataset<S>&); \
  prefix template detail::Separation<S> detail::separate<S>(const Matrix<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SEPARATION)
