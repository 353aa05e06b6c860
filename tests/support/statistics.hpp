#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

/// @file
/// Goodness-of-fit tests. With a fixed seed each of them is deterministic; the false-alarm probability
/// stated beside a threshold is the chance that a perfect generator would have failed for a seed drawn
/// at random.

namespace test_support {

/// `sqrt(n) sup |F_n - F|` of a sample (Kolmogorov-Smirnov). Exceeds t with probability about
/// 2 exp(-2 t^2): 3e-8 for t = 3.
template <class Cdf>
double kolmogorov_smirnov(std::vector<double> sample, Cdf cdf) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0.0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const double f = cdf(sample[i]);
    distance = std::max({distance, f - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - f});
  }
  return std::sqrt(n) * distance;
}

/// `P(a, x)`, the distribution function at x of a gamma variable of shape a (series below x = a + 1,
/// continued fraction by Lentz's method above).
inline double gamma_cdf(double a, double x) {
  if (x <= 0.0) return 0.0;
  const double front = std::exp(a * std::log(x) - x - std::lgamma(a));
  if (x < a + 1.0) {
    double term = 1.0 / a;
    double sum = term;
    for (int k = 1; k < 100000 && term > 1e-17 * sum; ++k) {
      term *= x / (a + k);
      sum += term;
    }
    return front * sum;
  }
  double b = x + 1.0 - a;
  double c = 1e300;
  double d = 1.0 / b;
  double h = d;
  for (int k = 1; k < 100000; ++k) {
    const double numerator = -k * (k - a);
    b += 2.0;
    d = 1.0 / (numerator * d + b);
    c = b + numerator / c;
    h *= d * c;
    if (std::fabs(d * c - 1.0) < 1e-15) break;
  }
  return 1.0 - front * h;
}

inline double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

/// Probability that a chi-square statistic of equally likely cells would be at least as large as it is.
inline double uniform_cells_p_value(const std::vector<long>& counts) {
  double total = 0.0;
  for (const long count : counts) total += static_cast<double>(count);
  const double expected = total / static_cast<double>(counts.size());
  double statistic = 0.0;
  for (const long count : counts) {
    const double difference = static_cast<double>(count) - expected;
    statistic += difference * difference / expected;
  }
  return 1.0 - gamma_cdf(0.5 * static_cast<double>(counts.size() - 1), 0.5 * statistic);
}

}  // namespace test_support
