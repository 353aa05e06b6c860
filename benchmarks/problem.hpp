#pragma once

#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"

/// @file
/// The problem that the diagonal-net benchmarks share: d = 1000, N = 100, five true coefficients, label
/// noise of standard deviation 0.1 (or none).

namespace richflow::benchmarks {

inline SparseRegression<> problem(bool noisy = true, Index num_samples = 100, Index num_inputs = 1000) {
  SparseRegressionOptions options;
  options.num_samples = num_samples;
  options.num_inputs = num_inputs;
  options.noise_variance = noisy ? 0.01 : 0.0;
  options.seed = 1;
  return sparse_regression(options);
}

/// The scales at which others were measured, and the far rich end.
inline constexpr std::array<double, 8> log_alphas = {
    2.302585092994046, 0.0, -4.605170185988091, -9.210340371976182, -50.0, -100.0, -200.0, -500.0};

inline double log_alpha(const benchmark::State& state) { return log_alphas[static_cast<std::size_t>(state.range(0))]; }

/// Names the scale and gives `|beta - limit| / |limit|`, so that no time stands without its error.
inline void report(benchmark::State& state, double log_alpha, const Vector<double>& beta, const Vector<double>& limit) {
  state.counters["log_alpha"] = log_alpha;
  state.counters["error"] = (beta - limit).norm() / limit.norm();
}

inline void report(benchmark::State& state, const Vector<double>& beta, const Vector<double>& limit) {
  report(state, log_alpha(state), beta, limit);
}

/// `body` of the depth-D regularizer of d coordinates whose alpha^D is e^log_size.
template <class Body>
auto at_depth(Index depth, Index d, double log_size, const Body& body) {
  const Scale<> scale = Scale<>::from_log(log_size / static_cast<double>(depth));
  return depth == 2 ? body(Hypentropy<>::uniform(d, scale)) : body(DepthHypentropy<>::uniform(depth, d, scale));
}

/// The certified limit of any regularizer.
template <class Mirror>
Vector<double> certified_limit(const Dataset<>& data, const Mirror& mirror) {
  MirrorPath<Mirror> path(data, mirror);
  return path.solve(mirror.scale()).require_ok().beta;
}

/// The certified limit at a scale, the yardstick of every error.
inline Vector<double> certified_limit(const Dataset<>& data, double log_alpha) {
  return minimize_hypentropy(data, Scale<>::from_log(log_alpha)).require_ok().beta;
}

}  // namespace richflow::benchmarks
