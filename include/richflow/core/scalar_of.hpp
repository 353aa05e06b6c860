#pragma once

namespace richflow::detail {

/// See `ScalarOfT`.
template <class T>
struct ScalarOf {
  using type = double;  ///< for want of a better one
};

/// See `ScalarOfT`.
template <class T>
requires requires { typename T::Scalar; }
struct ScalarOf<T> {
  using type = typename T::Scalar;  ///< what it says
};

/// Number type of a problem or a model; double for one that names none, which `explain_...` then reports.
template <class T>
using ScalarOfT = typename ScalarOf<T>::type;

}  // namespace richflow::detail
