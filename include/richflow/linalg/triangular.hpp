#pragma once

#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Triangular systems. Column by column in plain loops: as fast as Eigen's for the few hundred unknowns here, and no
/// work for a compiler.

namespace richflow::detail {

/// `v = R^{-1} v` with the upper triangle R of a matrix.
template <class S>
void solve_upper(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v);

/// `v = R^{-T} v`.
template <class S>
void solve_upper_transposed(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v);

/// `out = R^T v`. `out` is not v.
template <class S>
void multiply_upper_transposed(const std::type_identity_t<ConstMatrixRef<S>>& R, const Vector<S>& v, Vector<S>& out);

template <class S>
void solve_upper(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v) {
  for (Index k = v.size() - 1; k >= 0; --k) {
    v[k] /= R(k, k);
    v.head(k) -= v[k] * R.col(k).head(k);
  }
}

template <class S>
void solve_upper_transposed(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v) {
  for (Index k = 0; k < v.size(); ++k) v[k] = (v[k] - R.col(k).head(k).dot(v.head(k))) / R(k, k);
}

template <class S>
void multiply_upper_transposed(const std::type_identity_t<ConstMatrixRef<S>>& R, const Vector<S>& v, Vector<S>& out) {
  out.resize(v.size());
  for (Index k = 0; k < v.size(); ++k) out[k] = R.col(k).head(k + 1).dot(v.head(k + 1));
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_TRIANGULAR(prefix, S)                                              \
  prefix template void detail::solve_upper<S>(const ConstMatrixRef<S>&, Vector<S>&);            \
  prefix template void detail::solve_upper_transposed<S>(const ConstMatrixRef<S>&, Vector<S>&); \
  prefix template void detail::multiply_upper_transposed<S>(const ConstMatrixRef<S>&, const Vector<S>&, Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TRIANGULAR)
