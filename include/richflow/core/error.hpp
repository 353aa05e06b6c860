#pragma once

#include <cmath>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

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

/// A solver or integrator did not reach what was asked of it, and the caller chose to be told by an
/// exception (`require_ok()`).
class ConvergenceError : public Error {
 public:
  using Error::Error;
};

namespace detail {

template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // numbers are the same whatever locale the program has chosen
  text.precision(17);
  (text << ... << parts);
  return text.str();
}

}  // namespace detail

/// Throws `Exception` with the concatenated `parts` unless `condition` holds.
template <class Exception = ArgumentError, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw Exception(detail::concat(parts...));
}

/// Throws DimensionError unless `actual == expected`.
inline void require_size(const char* name, Index actual, Index expected) {
  if (actual != expected)
    throw DimensionError(detail::concat(name, " has ", actual, " entries where ", expected, " are needed"));
}

/// Throws NonFiniteError naming the first NaN or infinite entry of a vector or matrix. Cost: one
/// vectorized pass.
template <class Derived>
void require_finite(const char* name, const Eigen::DenseBase<Derived>& values) {
  using std::isfinite;
  using Value = typename Derived::Scalar;
  if ((values.derived().array() * Value(0)).sum() == Value(0)) return;
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
