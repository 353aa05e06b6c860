#pragma once

#include <type_traits>

#include "richflow/core/types.hpp"

/// @file
/// Triangular systems, behind functions of the number type alone: each is compiled once, wherever it is used.

namespace richflow::detail {

/// `v = R^{-1} v` with the upper triangle R of a matrix.
template <class S>
void solve_upper(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v);

/// `v = R^{-T} v` with the upper triangle R of a matrix.
template <class S>
void solve_upper_transposed(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v);

template <class S>
void solve_upper(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v) {
  R.template triangularView<Eigen::Upper>().solveInPlace(v);
}

template <class S>
void solve_upper_transposed(const std::type_identity_t<ConstMatrixRef<S>>& R, Vector<S>& v) {
  R.template triangularView<Eigen::Upper>().transpose().solveInPlace(v);
}

}  // namespace richflow::detail
