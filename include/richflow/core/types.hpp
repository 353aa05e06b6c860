#pragma once

#include <Eigen/Core>

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ == 1
#error "richflow detects NaN and infinity at run time: compile without -ffast-math / -ffinite-math-only"
#endif

/// @file
/// Names for the Eigen types used throughout.
///
/// Conventions: `X` is N x d (row n is the sample x_n), `y` has N entries, the loss is the plain sum
/// of squares `|f(w, X) - y|^2`, and `w0` is the shape of the initialization, not yet multiplied by
/// `alpha`.

namespace richflow {

using Index = Eigen::Index;

/// Column vector with run-time length.
template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

/// Column-major matrix with run-time shape.
template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

/// Read-only argument: binds to vectors, contiguous segments and columns without a copy.
template <class Scalar>
using ConstVectorRef = Eigen::Ref<const Vector<Scalar>>;

/// Output argument; the callee never resizes it.
template <class Scalar>
using VectorRef = Eigen::Ref<Vector<Scalar>>;

/// Read-only argument: binds to matrices and column blocks without a copy.
template <class Scalar>
using ConstMatrixRef = Eigen::Ref<const Matrix<Scalar>>;

/// Output argument; the callee never resizes it.
template <class Scalar>
using MatrixRef = Eigen::Ref<Matrix<Scalar>>;

}  // namespace richflow
