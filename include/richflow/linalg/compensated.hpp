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

}  // namespace richflow::detail
