#include "statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

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

double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  require(x.size() == y.size() && x.size() >= 2, "a correlation needs two or more pairs, got ", x.size(), " and ",
          y.size(), " values");
  const auto count = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / count;
  const double mean_y = std::accumulate(y.begin(), y.end(), 0.0) / count;
  double xx = 0.0;
  double yy = 0.0;
  double xy = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  return xy / std::sqrt(xx * yy);
}

}  // namespace richflow::examples
