#pragma once

#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"

/// @file
/// What richflow throws, and the checks that throw it. Bad input throws before any work starts;
/// numerical trouble during a run is a `Status`, never an exception.

namespace richflow {

/// Base of every exception that richflow throws. The message names the argument and its value.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A value is outside its domain (`alpha <= 0`, an empty list, a negative tolerance).
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// Two shapes do not fit each other, or a shape is empty.
class DimensionError : public Error {
 public:
  using Error::Error;
};

/// An input holds NaN or an infinity.
class NonFiniteError : public Error {
 public:
  using Error::Error;
};

/// `X beta = y` has no solution.
class InfeasibleError : public Error {
 public:
  using Error::Error;
};

/// A solver or integrator did not reach what was asked of it, and the caller asked for an exception (`require_ok()`).
class ConvergenceError : public Error {
 public:
  using Error::Error;
};

namespace detail {

template <class Exception>
RICHFLOW_COLD [[noreturn]] void raise(std::initializer_list<Printable> parts) {
  throw Exception(join(17, parts));
}

}  // namespace detail

/// Throws `Exception` with the concatenated `parts` unless `condition` holds.
template <class Exception = ArgumentError, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) detail::raise<Exception>({parts...});
}

/// Throws DimensionError unless `actual == expected`.
inline void require_size(const char* name, Index actual, Index expected) {
  require<DimensionError>(actual == expected, name, " has ", actual, " entries where ", expected, " are needed");
}

namespace detail {

/// Cost: one pass.
template <class Scalar>
[[nodiscard]] bool are_finite(const Scalar* values, Index size) {
  // Independent sums, so that no addition waits for the one before.
  Scalar sums[4] = {Scalar(0), Scalar(0), Scalar(0), Scalar(0)};
  for (Index i = 0; i < size; ++i) sums[i % 4] += values[i] * Scalar(0);
  return sums[0] + sums[1] + sums[2] + sums[3] == Scalar(0);
}

}  // namespace detail

/// Throws NonFiniteError naming the first NaN or infinite entry of a vector or matrix. Cost: one
/// vectorized pass.
template <class Derived>
void require_finite(const char* name, const Eigen::DenseBase<Derived>& values) {
  using std::isfinite;
  using Value = typename Derived::Scalar;
  if constexpr (std::is_base_of_v<Eigen::PlainObjectBase<Derived>, Derived>) {
    if (detail::are_finite(values.derived().data(), values.size())) return;
  } else {
    if ((values.derived().array() * Value(0)).sum() == Value(0)) return;
  }
  for (Index j = 0; j < values.cols(); ++j)
    for (Index i = 0; i < values.rows(); ++i)
      if (!isfinite(values.derived().coeff(i, j)))
        throw NonFiniteError(values.cols() == 1
                                 ? detail::concat(name, "(", i, ") is ", values.derived().coeff(i, j))
                                 : detail::concat(name, "(", i, ", ", j, ") is ", values.derived().coeff(i, j)));
}

/// Throws as `require_finite`, and ArgumentError naming the first entry of a vector that is not positive.
template <class Derived>
void require_positive(const char* name, const Eigen::DenseBase<Derived>& values) {
  using Value = typename Derived::Scalar;
  require_finite(name, values);
  for (Index i = 0; i < values.size(); ++i)
    require(values.derived().coeff(i) > Value(0), name, "(", i, ") must be positive, got ", values.derived().coeff(i));
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_ERROR(prefix, S)                                           \
  prefix template bool detail::are_finite(const S*, Index);                             \
  prefix template void require_finite(const char*, const Eigen::DenseBase<Vector<S>>&); \
  prefix template void require_finite(const char*, const Eigen::DenseBase<Matrix<S>>&); \
  prefix template void require_positive(const char*, const Eigen::DenseBase<Vector<S>>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_ERROR)
