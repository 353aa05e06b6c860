#pragma once

#include <limits>

namespace richflow::detail {

/// `|X beta - y| <= interpolation_tolerance |y|`, in the data as given, is what `ok` promises: 1e-12 in double.
template <class S>
inline constexpr S interpolation_tolerance = S(4500) * std::numeric_limits<S>::epsilon();

}  // namespace richflow::detail
