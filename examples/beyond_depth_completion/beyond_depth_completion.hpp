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
#include "statistics.hpp"

/// @file
/// Beyond the paper: what gradient flow on deep factorizations completes a matrix to (Arora et al. 2019), and two
/// completions that no norm explains (Li, Luo and Lyu 2021; Razin and Cohen 2020).

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_depth_completion_panels = {
    "beyond_depth_completion", "beyond_depth_completion_widths", "beyond_depth_completion_trace",
    "beyond_depth_completion_runaway"};

/// Size of the experiment.
struct BeyondDepthCompletionOptions {
  std::uint64_t seed = 1;
  int threads = 0;                                     ///< 0: all cores; results do not depend on it
  std::vector<Index> depths = {2, 3, 4};               ///< each at least 2, rising
  Index dimension = 10;                                ///< d: the matrix is d x d
  Index rank = 2;                                      ///< of the truth
  Index num_observed = 55;                             ///< N
  int num_seeds = 48;                                  ///< truths, masks and starts
  std::vector<double> scales = {};                     ///< sizes of the product at the start, falling
  std::vector<Index> widths = {5, 8, 20};              ///< of hidden layers, where ends are compared
  int per_decade = 4;                                  ///< scales of the 4 x 4 completion, down to e^-60
  std::vector<double> runaway_losses = {1e-20, 1e-6};  ///< where the runs of depth 2 and 3 end
};

/// The options that belong to an effort.
[[nodiscard]] BeyondDepthCompletionOptions beyond_depth_completion_options(Effort effort);

/// The ends of one depth and scale, over the seeds.
struct DepthCompletionPoint {
  Index depth = 2;
  double scale = 1.0;             ///< alpha^L: the size of the product at the start
  Quartiles effective_rank = {};  ///< relative to that of the truth
  Quartiles error = {};           ///< |M - Y*| / |Y*|
};

/// Layers of one width beside the flow of their product.
struct WidthComparison {
  Index depth = 2;
  Index width = 0;        ///< of the hidden layers
  double distance = 0.0;  ///< between the ends, relative
};

/// The end of the 4 x 4 completion from alpha I.
struct TraceEnd {
  double log_alpha = 0.0;
  double trace = 0.0;
  double effective_rank = 0.0;
  double distance = 0.0;  ///< from the matrix of rank one, relative
};

/// The 2 x 2 completion at one time.
struct RunawayPoint {
  Index depth = 2;
  double time = 0.0;
  double loss = 0.0;
  double unseen = 0.0;       ///< M_00
  double determinant = 0.0;  ///< of M
};

/// What is seen.
struct BeyondDepthCompletion {
  std::vector<DepthCompletionPoint> points = {};
  std::vector<WidthComparison> widths = {};
  std::vector<TraceEnd> traces = {};
  double least_trace = 0.0;
  std::vector<RunawayPoint> runaway = {};
  std::vector<Claim> claims = {};
};

/// Computes it. Masks are drawn until each row and column has an entry. Throws ArgumentError for invalid sizes, for a
/// depth below 2, for a scale that is not positive, and where no mask of this many entries sees every row and column;
/// ConvergenceError where an integration does not reach its end.
[[nodiscard]] BeyondDepthCompletion beyond_depth_completion(const BeyondDepthCompletionOptions& options);

/// Names of the tables.
inline const std::vector<std::string> beyond_depth_completion_tables = {
    "beyond_depth_completion.csv", "beyond_depth_completion_widths.csv", "beyond_depth_completion_trace.csv",
    "beyond_depth_completion_runaway.csv"};

/// Writes the tables into `folder`.
void write_beyond_depth_completion_tables(const BeyondDepthCompletion& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_depth_completion_picture(const BeyondDepthCompletion& figure);

}  // namespace richflow::examples
