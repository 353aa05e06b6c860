#pragma once

#include <algorithm>

#include "richflow/core/types.hpp"

namespace richflow::detail {

/// `out = X u` for a u given entry by entry, `entry(i)`, through a buffer on the stack: what `predict` and `jvp` of a
/// linear predictor do without memory for u.
template <class Scalar, class Entry>
void apply_entries(ConstMatrixRef<Scalar> X, VectorRef<Scalar> out, const Entry& entry) {
  constexpr int block_size = 256;
  Eigen::Matrix<Scalar, block_size, 1> buffer;
  out.setZero();
  for (Index j = 0; j < X.cols(); j += block_size) {
    const Index n = std::min<Index>(block_size, X.cols() - j);
    for (Index i = 0; i < n; ++i) buffer[i] = entry(j + i);
    out.noalias() += X.middleCols(j, n) * buffer.head(n);
  }
}

}  // namespace richflow::detail
