#include "statistics.hpp"

#include <algorithm>
#include <cmath>

#include "richflow/core/error.hpp"

namespace richflow::examples {

double quantile(std::vector<double> values, double p) {
  require(!values.empty(), "a quantile of no values");
  require(p >= 0.0 && p <= 1.0, "quantile p must be in [0, 1], got ", p);
  std::sort(values.begin(), values.end());
  const double rank = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(rank);
  const double t = rank - static_cast<double>(below);
  const double low = values[below];
  if (t == 0.0) return low;
  const double high = values[below + 1];
  if (!std::isfinite(low) || !std::isfinite(high)) return low;
  return low + t * (high - low);
}

Quartiles quartiles(const std::vector<double>& values) {
  return {quantile(values, 0.25), quantile(values, 0.5), quantile(values, 0.75)};
}

}  // namespace richflow::examples
