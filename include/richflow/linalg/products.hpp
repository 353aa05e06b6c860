#pragma once

#include <type_traits>

#include "richflow/core/types.hpp"

/// @file
/// Products with the data, behind functions of the number type alone: each is compiled once, wherever it is used.

namespace richflow::detail {

/// `out = X v`. `out` is neither X nor v, here and below.
template <class S>
void multiply(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out += X v`.
template <class S>
void add_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out -= X v`.
template <class S>
void subtract_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out = X^T v`.
template <class S>
void multiply_transposed(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out += X^T v`.
template <class S>
void add_transposed_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `|X| |v|`: what the terms of `X v` add up to in size.
template <class S>
[[nodiscard]] Vector<S> sizes_of_terms(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v);

/// `X X^T`.
template <class S>
[[nodiscard]] Matrix<S> gram_matrix(const Matrix<S>& X);

template <class S>
void multiply(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.setZero(X.rows());
  add_product(X, v, out);
}

template <class S>
void add_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.noalias() += X * v;
}

template <class S>
void subtract_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.noalias() -= X * v;
}

template <class S>
void multiply_transposed(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.setZero(X.cols());
  add_transposed_product(X, v, out);
}

template <class S>
void add_transposed_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.noalias() += X.transpose() * v;
}

template <class S>
Vector<S> sizes_of_terms(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v) {
  return X.cwiseAbs() * v.cwiseAbs();
}

template <class S>
Matrix<S> gram_matrix(const Matrix<S>& X) {
  return X * X.transpose();
}

}  // namespace richflow::detail
