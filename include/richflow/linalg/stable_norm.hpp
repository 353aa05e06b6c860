#pragma once

#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"

namespace richflow::detail {

/// `|v|_2` also where the squares of the entries overflow or underflow. NaN where an entry is.
template <class S>
[[nodiscard]] S stable_norm(const Vector<S>& v);

/// The same of n values.
template <class S>
[[nodiscard]] S stable_norm(const S* v, Index n);

template <class S>
S stable_norm(const Vector<S>& v) {
  return stable_norm(v.data(), v.size());
}

template <class S>
S stable_norm(const S* v, Index n) {
  using std::isfinite;
  using std::sqrt;
  constexpr S smallest = std::numeric_limits<S>::min() / std::numeric_limits<S>::epsilon();
  const S square = inner_product(v, v, n);
  if (square != square || (isfinite(square) && square > smallest)) return sqrt(square);
  const S largest = largest_size(v, n);
  if (!(largest > S(0)) || !isfinite(largest)) return largest;
  S sum(0);
  for (Index i = 0; i < n; ++i) sum += (v[i] / largest) * (v[i] / largest);
  return largest * sqrt(sum);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_STABLE_NORM(prefix, S)           \
  prefix template S detail::stable_norm<S>(const Vector<S>&); \
  prefix template S detail::stable_norm<S>(const S*, Index);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_STABLE_NORM)
