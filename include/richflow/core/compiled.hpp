#pragma once

#include "richflow/core/types.hpp"

/// @file
/// The library richflow::compiled holds the engines, compiled for double and float. A program that links it has
/// RICHFLOW_COMPILED defined, which declares the engines `extern`, so that they are not compiled again. Without it
/// everything is in the headers.
///
/// A header that has an engine ends with
///
///     #define RICHFLOW_INSTANTIATE_NAME(prefix, S) prefix template class detail::Name<S>;
///     RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_NAME)
///
/// and the build makes the library of all such headers. Members that are not to be compiled again must be defined
/// outside their class: a compiler inlines the others.

#ifdef RICHFLOW_COMPILED
#define RICHFLOW_EXTERN(instantiate)                     \
  namespace richflow {                                   \
  instantiate(extern, double) instantiate(extern, float) \
  } /* namespace richflow */
#else
#define RICHFLOW_EXTERN(instantiate)
#endif

// The plain functions of richflow/sweep/ are inline where a program compiles them, and declared only where the library
// holds them.
#ifndef RICHFLOW_COMPILED
#define RICHFLOW_SWEEP_INLINE inline
#elif defined(RICHFLOW_COMPILING_SWEEPS)
#define RICHFLOW_SWEEP_INLINE
#endif

namespace richflow::detail {

#ifdef EIGEN_USE_BLAS
inline constexpr bool uses_blas = true;
#else
inline constexpr bool uses_blas = false;
#endif
#ifdef EIGEN_HAS_OPENMP
inline constexpr bool uses_openmp = true;
#else
inline constexpr bool uses_openmp = false;
#endif

/// What must be the same in a program and in the library: how Eigen aligns memory, which follows from flags such as
/// -march, and whose products it uses. Where it is not, the linker does not find `CompiledFor<...>::is_the_same()`.
template <int alignment, bool blas, bool openmp>
struct CompiledFor {
  static bool is_the_same();
};

#ifdef RICHFLOW_COMPILED
inline const bool is_compiled_the_same = CompiledFor<EIGEN_MAX_ALIGN_BYTES, uses_blas, uses_openmp>::is_the_same();
#endif

}  // namespace richflow::detail
