#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "program.hpp"
#include "statistics.hpp"
#include "sweep_runner.hpp"

/// @file
/// Beyond the paper: where descent and SGD end, up to the edge of stability, beside the gradient flow from their
/// effective start.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_descent_panels = {"beyond_descent"};

/// The problems: sparse regression with alpha = 0.1.
struct BeyondDescentProblem {
  const char* name;
  Index num_samples;
  Index dimension;
  double noise;  ///< standard deviation of the labels
};

/// Of the picture, and one with noisy labels and fewer samples.
inline const std::vector<BeyondDescentProblem> beyond_descent_problems = {{"sparse", 20, 50, 0.0},
                                                                          {"noisy", 10, 30, 0.1}};

/// Size of the experiment.
struct BeyondDescentOptions {
  std::uint64_t seed = 1;
  int num_seeds = 20;  ///< repetitions: problems drawn, with the order of the samples of SGD
  /// Steps, in units of the longest stable one at the flow's limit: 2 / sharpness of the loss, for SGD with batches of
  /// 1 of that of the sharpest sample. Ascending.
  std::vector<double> fractions = {0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3};
};

/// The options that belong to an effort.
[[nodiscard]] BeyondDescentOptions beyond_descent_options(Effort effort);

/// One algorithm with one step on one problem, over the repetitions that have fitted the data.
struct DescentPoint {
  double fraction = 0.0;
  double ended = 0.0;           ///< share of the repetitions that have fitted; the numbers are NaN where none has
  Quartiles from_flow = {};     ///< relative distance from the flow's limit, in the maximum norm
  double nearest_flow = 0.0;    ///< the smallest one
  double from_predicted = 0.0;  ///< largest distance from the prediction
  Quartiles error = {};         ///< |beta - beta*|^2 over that of the flow's limit
  double log_k_on = 0.0;        ///< median change of log k, mean over the support of beta*
  double log_k_off = 0.0;       ///< off it
  double sharpness = 0.0;       ///< median over that of the flow's limit
  double edge = 0.0;            ///< largest step times sharpness
  double bound = 0.0;           ///< largest lambda_max(X diag|beta| X^T) times 4 step
};

/// An algorithm on a problem.
struct DescentCurve {
  std::string problem = {};
  std::string algorithm = {};  ///< descent, sgd
  std::vector<DescentPoint> points = {};
};

/// What is seen.
struct BeyondDescent {
  std::vector<DescentCurve> curves = {};  ///< problem by problem
  std::vector<Claim> claims = {};
};

/// Everything that is computed, over `fraction` and `seed`, in the order of the curves.
using BeyondDescentSweeps = std::vector<SweepResult>;

/// Runs the sweeps. Throws ArgumentError for invalid sizes.
[[nodiscard]] BeyondDescentSweeps run_beyond_descent_sweeps(const BeyondDescentOptions& options,
                                                            const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] BeyondDescent make_beyond_descent(const BeyondDescentSweeps& sweeps);

/// Names of the tables.
inline const std::vector<std::string> beyond_descent_tables = {
    "beyond_descent_sparse_descent.csv", "beyond_descent_sparse_sgd.csv", "beyond_descent_noisy_descent.csv",
    "beyond_descent_noisy_sgd.csv"};

/// Writes the tables into `folder`.
void write_beyond_descent_tables(const BeyondDescent& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_descent_picture();

}  // namespace richflow::examples
