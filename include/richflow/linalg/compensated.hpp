#pragma once

#include <cmath>

#include "richflow/core/types.hpp"

namespace richflow::detail {

/// Adds a b to `sum`, and to `lost` what rounding of the product and of the sum took from it.
template <class S>
void add_compensated(S a, S b, S& sum, S& lost) {
  const S product = a * b;
  const S next = sum + product;
  const S added = next - sum;
  lost += std::fma(a, b, -product) + ((sum - (next - added)) + (product - added));
  sum = next;
}

/// `sum_n a_n b_n` as if added up in twice the precision and rounded (Ogita, Rump and Oishi 2005): what is left where
/// large terms cancel is right. Cost: some ten plain sums.
template <class S>
[[nodiscard]] S compensated_product(const S* a, const S* b, Index count) {
  S sum(0), lost(0);
  for (Index n = 0; n < count; ++n) add_compensated(a[n], b[n], sum, lost);
  return sum + lost;
}

/// `out = y - X beta`, each entry as `compensated_product`: what iterative refinement needs where the terms of a
/// prediction cancel. Not finite where a product overflows. Cost: some ten plain products with X.
template <class S>
void compensated_residual(const Matrix<S>& X, const Vector<S>& beta, const Vector<S>& y, Vector<S>& out) {
  out = y;
  Vector<S> lost = Vector<S>::Zero(y.size());
  for (Index j = 0; j < beta.size(); ++j) {
    const S factor = -beta[j];
    if (factor == S(0)) continue;
    const S* const column = X.data() + j * X.rows();
    for (Index n = 0; n < out.size(); ++n) add_compensated(column[n], factor, out[n], lost[n]);
  }
  for (Index n = 0; n < out.size(); ++n) out[n] += lost[n];
}

}  // namespace richflow::detail
