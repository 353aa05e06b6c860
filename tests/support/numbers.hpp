#pragma once

#include <limits>

/// @file
/// Numbers for tolerances and time spans.

namespace test_support {

inline constexpr double eps = std::numeric_limits<double>::epsilon();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace test_support
