#pragma once

#include <vector>

/// @file
/// Medians and quartiles over seeds.

namespace richflow::examples {

/// Three quartiles.
struct Quartiles {
  double q25 = 0.0;
  double median = 0.0;
  double q75 = 0.0;
};

/// The `p`-quantile of `values`, interpolated linearly between order statistics. An infinite neighbour is
/// not interpolated with: the value at or below the rank is taken. Throws ArgumentError when there are none.
[[nodiscard]] double quantile(std::vector<double> values, double p);

/// Quartiles of `values`.
[[nodiscard]] Quartiles quartiles(const std::vector<double>& values);

}  // namespace richflow::examples
