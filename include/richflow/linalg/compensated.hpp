#pragma once

#include <cmath>

#include "richflow/core/types.hpp"

namespace richflow::detail {

/// `sum_n a_n b_n` as if added up in twice the precision and rounded (Ogita, Rump and Oishi 2005): what is left where
/// large terms cancel is right. Cost: some ten plain sums.
template <class S>
[[nodiscard]] S compensated_product(const S* a, const S* b, Index count) {
  S sum(0), lost(0);
  for (Index n = 0; n < count; ++n) {
    const S product = a[n] * b[n];
    const S next = sum + product;
    const S added = next - sum;
    lost += std::fma(a[n], b[n], -product) + ((sum - (next - added)) + (product - added));
    sum = next;
  }
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
    for (Index n = 0; n < out.size(); ++n) {
      const S product = column[n] * factor;
      const S next = out[n] + product;
      const S added = next - out[n];
      lost[n] += std::fma(column[n], factor, -product) + ((out[n] - (next - added)) + (product - added));
      out[n] = next;
    }
  }
  for (Index n = 0; n < out.size(); ++n) out[n] += lost[n];
}

}  // namespace richflow::detail
