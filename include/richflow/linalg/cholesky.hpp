#pragma once

#include <Eigen/Cholesky>

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
