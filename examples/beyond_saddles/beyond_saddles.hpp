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
#include "richflow/limits/saddle_path.hpp"
#include "richflow/minimizers/lasso_path.hpp"

/// @file
/// Beyond the paper: the path that the flow takes as alpha tends to 0, from saddle to saddle, and how fast what is seen
/// at finite alpha nears it.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_saddles_panels = {"beyond_saddles_2", "beyond_saddles_3",
                                                            "beyond_saddles_lasso", "beyond_saddles_rate"};

/// Size of the experiment.
struct BeyondSaddlesOptions {
  std::uint64_t seed = 1;
  int num_times = 400;     ///< of a curve
  int num_scales = 25;     ///< of the limits, for each depth
  int num_problems = 400;  ///< random ones, on which path and lasso are compared
};

/// The options that belong to an effort.
[[nodiscard]] BeyondSaddlesOptions beyond_saddles_options(Effort effort);

/// The flow at one depth and scale, at one time.
struct SaddleFlowPoint {
  Index depth = 2;
  double log_alpha = 0.0;
  double time = 0.0;  ///< in units of log(1/alpha) at depth 2, of alpha^(2-D) beyond
  Vector<double> beta = {};
  double loss = 0.0;
};

/// The distance of the limit at one depth and scale from minimum l1, in the largest coefficient off its support.
struct SaddleDistance {
  Index depth = 2;
  double log_alpha = 0.0;
  double distance = 0.0;
};

/// What is seen.
struct BeyondSaddles {
  SaddlePath<> at_depth_2 = {}, at_depth_3 = {};
  LassoPath<> lasso = {};
  std::vector<SaddleFlowPoint> flows = {};
  std::vector<SaddleDistance> distances = {};
  double exponent = 0.0;  ///< 2 (1 - rho), of depth 2
  std::vector<Claim> claims = {};
};

/// Computes it on the problem `leaves`, N = 3 and d = 6, where a coordinate enters and leaves again. Throws
/// ArgumentError for invalid sizes, ConvergenceError where an integration does not reach its end.
[[nodiscard]] BeyondSaddles beyond_saddles(const BeyondSaddlesOptions& options);

/// Names of the tables.
inline const std::vector<std::string> beyond_saddles_tables = {
    "beyond_saddles_path.csv", "beyond_saddles_flow.csv", "beyond_saddles_lasso.csv", "beyond_saddles_distance.csv"};

/// Writes the tables into `folder`.
void write_beyond_saddles_tables(const BeyondSaddles& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_saddles_picture(const BeyondSaddles& figure);

}  // namespace richflow::examples
