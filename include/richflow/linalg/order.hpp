#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

namespace richflow::detail {

/// The positions of the entries of `sizes`, the largest first; equal ones in their order. No entry may be NaN.
template <class S>
[[nodiscard]] std::vector<Index> decreasing_order(const Vector<S>& sizes);

template <class S>
std::vector<Index> decreasing_order(const Vector<S>& sizes) {
  std::vector<Index> order(static_cast<std::size_t>(sizes.size()));
  std::iota(order.begin(), order.end(), Index(0));
  std::sort(order.begin(), order.end(),
            [&](Index i, Index j) { return sizes[i] != sizes[j] ? sizes[i] > sizes[j] : i < j; });
  return order;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_ORDER(prefix, S) \
  prefix template std::vector<Index> detail::decreasing_order<S>(const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_ORDER)
