#pragma once

#include <Eigen/Cholesky>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Cholesky factorizations, behind functions of the number type alone: each is compiled once, wherever it is used.

namespace richflow::detail {

/// Factors A, of which the lower triangle is read.
template <class S>
void compute_cholesky(const Matrix<S>& A, Eigen::LLT<Matrix<S>>& factor);

/// `v = A^{-1} v`.
template <class S>
void solve_in_place(const Eigen::LLT<Matrix<S>>& factor, Vector<S>& v);

template <class S>
void compute_cholesky(const Matrix<S>& A, Eigen::LLT<Matrix<S>>& factor) {
  factor.compute(A);
}

template <class S>
void solve_in_place(const Eigen::LLT<Matrix<S>>& factor, Vector<S>& v) {
  factor.solveInPlace(v);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_CHOLESKY(prefix, S)                                              \
  prefix template void detail::compute_cholesky<S>(const Matrix<S>&, Eigen::LLT<Matrix<S>>&); \
  prefix template void detail::solve_in_place<S>(const Eigen::LLT<Matrix<S>>&, Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CHOLESKY)
