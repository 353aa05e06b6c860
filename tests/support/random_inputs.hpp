#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

/// @file
/// Random inputs for property tests: always from an explicit seed, so that a failure can be repeated.

namespace test_support {

/// A number whose logarithm is uniform on [log low, log high), 0 < low < high.
inline double log_uniform(richflow::RandomStream& random, double low, double high) {
  return std::exp(random.uniform(std::log(low), std::log(high)));
}

/// The same with a random sign.
inline double signed_log_uniform(richflow::RandomStream& random, double low, double high) {
  const double magnitude = log_uniform(random, low, high);
  return random.uniform_integer(2) == 0 ? magnitude : -magnitude;
}

/// Independent standard normals.
inline richflow::Vector<double> random_vector(richflow::RandomStream& random, richflow::Index size) {
  return richflow::normal_vector(random, size);
}

/// Independent standard normals.
inline richflow::Matrix<double> random_matrix(richflow::RandomStream& random, richflow::Index rows,
                                              richflow::Index cols) {
  return richflow::normal_matrix(random, rows, cols);
}

/// Entries uniform on [low, high), for shapes and weights.
inline richflow::Vector<double> random_positive_vector(richflow::RandomStream& random, richflow::Index size, double low,
                                                       double high) {
  richflow::Vector<double> out(size);
  for (richflow::Index i = 0; i < size; ++i) out(i) = random.uniform(low, high);
  return out;
}

/// X and y of independent standard normal numbers.
inline richflow::Dataset<> gaussian_data(richflow::RandomStream& random, richflow::Index n, richflow::Index d) {
  richflow::Matrix<double> X = random_matrix(random, n, d);
  return {std::move(X), random_vector(random, n)};
}

}  // namespace test_support
