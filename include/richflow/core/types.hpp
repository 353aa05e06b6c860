#pragma once

#if __cplusplus < 202002L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
#error "richflow needs C++20: compile with -std=c++20"
#include "richflow needs C++20"  // ends the compilation, which would otherwise report every concept
#endif

#if (defined(__GNUC__) && !defined(__EXCEPTIONS)) || (defined(_MSC_VER) && !defined(_CPPUNWIND))
#error "richflow reports bad input by exceptions: compile without -fno-exceptions"
#ifdef __clang__
#include "richflow needs exceptions"  // ends the compilation, which would otherwise report every throw
#endif
#endif

#include <type_traits>

#include <Eigen/Core>

#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "richflow needs Eigen 3.4 or newer"
#endif

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ == 1
#error "richflow detects NaN and infinity at run time: compile without -ffast-math / -ffinite-math-only"
#endif

// As the standard library does before its first header; other headers may define them later.
#undef min
#undef max

/// @file
/// Names for the Eigen types used throughout.
///
/// Conventions: `X` is N x d (row n is the sample x_n), `y` has N entries, the loss is the plain sum
/// of squares `|f(w, X) - y|^2`, and `w0` is the initialization: beside a scale `alpha` its shape, not yet multiplied
/// by `alpha`.

namespace richflow {

using Index = Eigen::Index;

/// Column vector with run-time length.
template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

/// Column-major matrix with run-time shape, also where EIGEN_DEFAULT_TO_ROW_MAJOR is defined.
template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

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

namespace detail {

/// The number type of arguments of these types; double for integers.
template <class... T>
using RealOf = std::conditional_t<std::is_integral_v<std::common_type_t<T...>>, double, std::common_type_t<T...>>;

}  // namespace detail
}  // namespace richflow
