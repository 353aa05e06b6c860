#pragma once

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// Triangular systems. Column by column in plain loops: as fast as Eigen's for the few hundred unknowns here, and quick
/// to compile.

namespace richflow::detail {

/// `v = R^{-1} v` with the upper triangle R of a matrix.
template <class S>
void solve_upper(const Matrix<S>& R, Vector<S>& v);

/// `v = R^{-T} v`.
template <class S>
void solve_upper_transposed(const Matrix<S>& R, Vector<S>& v);

/// `out = R^T v`. `out` is not v.
template <class S>
void multiply_upper_transposed(const Matrix<S>& R, const Vector<S>& v, Vector<S>& out);

template <class S>
void solve_upper(const Matrix<S>& R, Vector<S>& v) {
  for (Index k = v.size() - 1; k >= 0; --k) {
    v[k] /= R(k, k);
    add_multiple(S(-v[k]), &R(0, k), v.data(), k);
  }
}

template <class S>
void solve_upper_transposed(const Matrix<S>& R, Vector<S>& v) {
  for (Index k = 0; k < v.size(); ++k) v[k] = (v[k] - inner_product(&R(0, k), v.data(), k)) / R(k, k);
}

template <class S>
void multiply_upper_transposed(const Matrix<S>& R, const Vector<S>& v, Vector<S>& out) {
  out.resize(v.size());
  for (Index k = 0; k < v.size(); ++k) out[k] = inner_product(&R(0, k), v.data(), k + 1);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_TRIANGULAR(prefix, S)                                      \
  prefix template void detail::solve_upper<S>(const Matrix<S>&, Vector<S>&);            \
  prefix template void detail::solve_upper_transposed<S>(const Matrix<S>&, Vector<S>&); \
  prefix template void detail::multiply_upper_transposed<S>(const Matrix<S>&, const Vector<S>&, Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TRIANGULAR)
