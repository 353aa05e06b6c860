#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "program.hpp"
#include "richflow/core/types.hpp"
#include "richflow/sweep/sweep.hpp"
#include "statistics.hpp"
#include "sweep_runner.hpp"

/// @file
/// Figure 6 (a, b): ReLU networks of depth 2, 3 and 5 on the circle, from the rich to the kernel regime.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig6_panels = {"fig6a", "fig6b"};

/// Size of the experiment.
struct Fig6Options {
  std::uint64_t seed = 1;
  int num_seeds = 24;                     ///< repetitions, each with its own data, teacher and initialization
  int per_decade = 3;                     ///< values of alpha^D per factor 10, from 1e-4 to 100
  std::vector<Index> depths = {2, 3, 5};  ///< D
  Index width = 30;                       ///< of every hidden layer
  double loss = 1e-9;                     ///< the flow ends here
  bool descent = false;                   ///< gradient descent with step 0.01, as in the paper, instead of the flow
  Index max_descent = 1'000'000;          ///< its iterations
};

/// The options that belong to an effort.
[[nodiscard]] Fig6Options fig6_options(Effort effort);

/// One depth and scale, over the seeds.
struct Fig6Point {
  Index depth = 0;
  double scale = 0.0;             ///< alpha^D
  Quartiles rmse = {};            ///< root mean square error on the circle; that of the zero function is 1
  Quartiles distance = {};        ///< kernel distance from the initialization to the end
  double kernel_rmse = 0.0;       ///< median error of the kernel predictor from the same initialization
  double arrived_fraction = 0.0;  ///< of the runs that reached the loss
};

/// Both panels and what the paper says of them.
struct Fig6 {
  std::vector<Fig6Point> points = {};
  std::vector<Claim> claims = {};
};

/// Runs the sweep over depth, scale and seed. Throws ArgumentError for invalid sizes.
[[nodiscard]] SweepResult run_fig6_sweep(const Fig6Options& options, const SweepRunner& runner);

/// The figure of a complete sweep. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig6 make_fig6(const Fig6Options& options, const SweepResult& sweep);

/// Names of the tables.
inline const std::vector<std::string> fig6_tables = {"fig6a.csv", "fig6b.csv"};

/// Writes the tables into `folder`.
void write_fig6_tables(const Fig6& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig6_picture(const Fig6Options& options);

}  // namespace richflow::examples
