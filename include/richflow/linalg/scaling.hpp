#pragma once

#include <algorithm>
#include <cmath>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/stable_norm.hpp"

/// @file
/// Sizes of rows and columns, and changes of their units. In plain loops: whole-matrix expressions would take longer to
/// compile.

namespace richflow::detail {

/// `|column j|^2`.
template <class S>
[[nodiscard]] Vector<S> squared_norms_of_columns(const Matrix<S>& X);

/// `|column j|`, also where its square overflows or underflows.
template <class S>
[[nodiscard]] Vector<S> lengths_of_columns(const Matrix<S>& X);

/// The largest `|X_ij|` of each column.
template <class S>
[[nodiscard]] Vector<S> sizes_of_columns(const Matrix<S>& X);

/// The largest `|X_ij|` of each row.
template <class S>
[[nodiscard]] Vector<S> sizes_of_rows(const Matrix<S>& X);

/// `A = diag(factors) A`.
template <class S>
void scale_rows(const Vector<S>& factors, Matrix<S>& A);

/// `A = A diag(factors)`.
template <class S>
void scale_columns(Matrix<S>& A, const Vector<S>& factors);

/// A^T.
template <class S>
[[nodiscard]] Matrix<S> transposed(const Matrix<S>& A);

template <class S>
Vector<S> squared_norms_of_columns(const Matrix<S>& X) {
  Vector<S> norms(X.cols());
  for (Index j = 0; j < X.cols(); ++j)
    norms[j] = inner_product(X.data() + j * X.rows(), X.data() + j * X.rows(), X.rows());
  return norms;
}

template <class S>
Vector<S> lengths_of_columns(const Matrix<S>& X) {
  Vector<S> lengths(X.cols());
  for (Index j = 0; j < X.cols(); ++j) lengths[j] = stable_norm(X.data() + j * X.rows(), X.rows());
  return lengths;
}

template <class S>
Vector<S> sizes_of_columns(const Matrix<S>& X) {
  using std::abs;
  Vector<S> sizes = Vector<S>::Zero(X.cols());
  for (Index j = 0; j < X.cols(); ++j)
    for (Index i = 0; i < X.rows(); ++i) sizes[j] = std::max(sizes[j], S(abs(X(i, j))));
  return sizes;
}

template <class S>
Vector<S> sizes_of_rows(const Matrix<S>& X) {
  using std::abs;
  Vector<S> sizes = Vector<S>::Zero(X.rows());
  for (Index j = 0; j < X.cols(); ++j)
    for (Index i = 0; i < X.rows(); ++i) sizes[i] = std::max(sizes[i], S(abs(X(i, j))));
  return sizes;
}

template <class S>
void scale_rows(const Vector<S>& factors, Matrix<S>& A) {
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) A(i, j) *= factors[i];
}

template <class S>
void scale_columns(Matrix<S>& A, const Vector<S>& factors) {
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) A(i, j) *= factors[j];
}

template <class S>
Matrix<S> transposed(const Matrix<S>& A) {
  Matrix<S> out(A.cols(), A.rows());
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i < A.rows(); ++i) out(j, i) = A(i, j);
  return out;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_SCALING(prefix, S)                                    \
  prefix template Vector<S> detail::squared_norms_of_columns<S>(const Matrix<S>&); \
  prefix template Vector<S> detail::lengths_of_columns<S>(const Matrix<S>&);       \
  prefix template Vector<S> detail::sizes_of_columns<S>(const Matrix<S>&);         \
  prefix template Vector<S> detail::sizes_of_rows<S>(const Matrix<S>&);            \
  prefix template void detail::scale_rows<S>(const Vector<S>&, Matrix<S>&);        \
  prefix template void detail::scale_columns<S>(Matrix<S>&, const Vector<S>&);     \
  prefix template Matrix<S> detail::transposed<S>(const Matrix<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SCALING)
