#pragma once

#include <string_view>
#include <vector>

#include "richflow/core/types.hpp"

/// @file
/// Lists of numbers on the command line.

namespace richflow::examples {

/// How the numbers of `from:to:count` are spread.
enum class Spacing { linear, logarithmic };

/// Numbers from `a,b,c` or `from:to:count` (both ends included; `count` at least 2, or 1 when from = to).
/// Throws ArgumentError naming `option` and the piece that does not fit: empty, not a number, not finite, and
/// for logarithmic spacing ends that are not positive.
[[nodiscard]] std::vector<double> parse_list(std::string_view option, std::string_view text, Spacing spacing);

/// `count` numbers from `from` to `to`, both exactly included.
[[nodiscard]] std::vector<double> spaced(double from, double to, int count, Spacing spacing);

/// `from`, `from + step`, ... up to `to`; step > 0.
[[nodiscard]] std::vector<Index> index_range(Index from, Index to, Index step);

}  // namespace richflow::examples
