#pragma once

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Eigenvalues of symmetric matrices and singular values, behind functions of the number type alone: each is compiled
/// once, wherever it is used.

namespace richflow::detail {

template <class S>
using SymmetricEigen = Eigen::SelfAdjointEigenSolver<Matrix<S>>;
template <class S>
using Svd = Eigen::JacobiSVD<Matrix<S>>;

/// Eigenvalues, increasing, and eigenvectors of a symmetric matrix.
template <class S>
void compute_eigen(const Matrix<S>& A, SymmetricEigen<S>& eigen);

template <class S>
[[nodiscard]] S lowest_eigenvalue(const Matrix<S>& A);

/// `options`: Eigen::ComputeFullU, Eigen::ComputeThinV, ...
template <class S>
void compute_svd(const Matrix<S>& A, unsigned int options, Svd<S>& svd);

/// The singular values of a finite matrix.
template <class S>
[[nodiscard]] Vector<S> svd_values(const Matrix<S>& A);

template <class S>
void compute_eigen(const Matrix<S>& A, SymmetricEigen<S>& eigen) {
  eigen.compute(A);
}

template <class S>
S lowest_eigenvalue(const Matrix<S>& A) {
  SymmetricEigen<S> eigen;
  eigen.compute(A, Eigen::EigenvaluesOnly);
  return eigen.eigenvalues()(0);
}

template <class S>
void compute_svd(const Matrix<S>& A, unsigned int options, Svd<S>& svd) {
  svd.compute(A, options);
}

template <class S>
Vector<S> svd_values(const Matrix<S>& A) {
  Svd<S> svd;
  svd.compute(A, 0);
  return svd.singularValues();
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_SPECTRAL(prefix, S)                                                \
  prefix template void detail::compute_eigen<S>(const Matrix<S>&, detail::SymmetricEigen<S>&);  \
  prefix template S detail::lowest_eigenvalue<S>(const Matrix<S>&);                             \
  prefix template void detail::compute_svd<S>(const Matrix<S>&, unsigned int, detail::Svd<S>&); \
  prefix template Vector<S> detail::svd_values<S>(const Matrix<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SPECTRAL)
