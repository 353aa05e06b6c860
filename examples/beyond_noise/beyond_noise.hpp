#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Beyond the paper: label noise drives the effective scale down, so that descent with noisy labels goes from the
/// kernel to the rich regime; predicted without the run.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_noise_panels = {"beyond_noise_a", "beyond_noise_b", "beyond_noise_c"};

/// Size of the experiment: sparse regression without noise of its own, descent on the squared diagonal net with fresh
/// normal noise on the labels of every step.
struct BeyondNoiseOptions {
  std::uint64_t seed = 1;
  int num_runs = 3;  ///< with other noise
  Index num_samples = 20;
  Index dimension = 50;
  Index num_nonzero = 3;
  double alpha = 0.1;
  double step = 1e-3;
  std::vector<double> levels = {0.5, 1.0, 2.0};  ///< standard deviations of the noise, rising
  std::vector<Index> steps = {300, 1000, 2000, 3000, 5000, 10000, 20000, 30000, 50000, 100000};  ///< rising
};

/// One level after so many steps.
struct BeyondNoisePoint {
  double level = 0.0;
  Index steps = 0;
  double log_scale = 0.0;            ///< log of the effective alpha, mean over coordinates and runs
  double log_scale_predicted = 0.0;  ///< without a run
  double error = 0.0;                ///< |beta - beta*|^2 at the flow's limit after the noise ends, mean over runs
  double error_low = 0.0;            ///< smallest of the runs
  double error_high = 0.0;           ///< largest
  double error_predicted = 0.0;      ///< that of the predicted start
  double exact = 0.0;                ///< largest |beta - prediction| / |beta| at that step, from the exact start
  double plain = 0.0;                ///< the same from the start that the run had, smallest of the runs
};

/// One scale of the sweep without an algorithm.
struct BeyondNoiseSweep {
  double log_alpha = 0.0;
  double error = 0.0;
};

/// The figure.
struct BeyondNoise {
  std::vector<BeyondNoisePoint> points = {};  ///< by level and steps
  std::vector<BeyondNoiseSweep> sweep = {};
  double without_noise = 0.0;  ///< the error after as many steps as the longest run makes, without noise
  double flow = 0.0;           ///< of the flow's limit
  std::vector<Claim> claims = {};
};

/// Computes it: seconds. Throws ArgumentError for invalid sizes, ConvergenceError where a run or a solve fails.
[[nodiscard]] BeyondNoise beyond_noise(const BeyondNoiseOptions& options = {});

/// Names of the tables.
inline const std::vector<std::string> beyond_noise_tables = {"beyond_noise.csv", "beyond_noise_sweep.csv"};

/// Writes the tables into `folder`.
void write_beyond_noise_tables(const BeyondNoise& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_noise_picture(const BeyondNoise& figure, const BeyondNoiseOptions& options);

}  // namespace richflow::examples
