#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "program.hpp"
#include "richflow/core/types.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "richflow/sweep/sweep.hpp"
#include "sweep_runner.hpp"

/// @file
/// Figure 5: matrix completion by factorization, from the kernel to the rich regime along scale and width.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig5_panels = {"fig5"};

/// Size of the experiment.
struct Fig5Options {
  std::uint64_t seed = 1;
  int num_seeds = 12;                                             ///< repetitions of the paper's points
  int num_seeds_map = 3;                                          ///< repetitions of the points of the heatmaps
  int resolution = 24;                                            ///< points along each axis of the heatmaps, >= 2
  Index dimension = 10;                                           ///< d: the matrix is d x d
  Index num_observed = 60;                                        ///< N
  std::vector<double> alpha2 = {1e-2, 2.5e-3, 1e-4, 1e-6, 1e-8};  ///< variances of the entries: the paper's
  std::vector<Index> widths = {10, 50, 100, 250, 500, 1000, 5000, 10'000, 50'000, 100'000, 500'000};  ///< the paper's
};

/// The options that belong to an effort.
[[nodiscard]] Fig5Options fig5_options(Effort effort);

/// Widths from numbers: rounded, ascending, each once. Throws ArgumentError for one below 1.
[[nodiscard]] std::vector<Index> fig5_widths(const std::vector<double>& numbers);

/// The value of `--widths`, see `parse_list`: whole numbers and ranges of them, within which the widths are rounded.
/// Throws ArgumentError.
[[nodiscard]] std::vector<Index> parse_fig5_widths(std::string_view text);

/// A problem of which every row and column is seen, which no mask without that could determine: the first such one
/// in the streams that belong to the repetition. `num_refused` counts those before it. Throws ConvergenceError when
/// there is none among a thousand.
struct Fig5Problem {
  MatrixCompletion<> completion;
  int num_refused = 0;
};
[[nodiscard]] Fig5Problem fig5_problem(const Fig5Options& options, Index repetition);

/// Where the flow ends, for one variance and width.
struct Fig5Point {
  double alpha2 = 0.0;
  double width = 0.0;
  double excess = 0.0;          ///< median of (|M|_* - |Y*|_*) / |Y*|_*
  double excess_minimum = 0.0;  ///< median of the same over the completion of minimum nuclear norm
  double motion = 0.0;          ///< median rms change of the unobserved entries over that in the rich regime
};

/// Both sets of points and what the paper says of them.
struct Fig5 {
  std::vector<Fig5Point> points = {};   ///< the paper's
  std::vector<Fig5Point> map = {};      ///< of the heatmaps
  std::vector<double> map_alpha2 = {};  ///< its axes, ascending
  std::vector<double> map_widths = {};
  std::vector<Claim> claims = {};
};

/// Everything that is computed, one number for each repetition.
struct Fig5Sweeps {
  SweepResult problems;  ///< over `seed`: norms of the truth and of the two interpolators
  SweepResult points;    ///< over `alpha2`, `k` and `seed`
  SweepResult map;       ///< the same on the finer grid
};

/// Runs the sweeps. Throws ArgumentError for invalid sizes.
[[nodiscard]] Fig5Sweeps run_fig5_sweeps(const Fig5Options& options, const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig5 make_fig5(const Fig5Options& options, const Fig5Sweeps& sweeps);

/// Names of the tables.
inline const std::vector<std::string> fig5_tables = {"fig5.csv", "fig5_medians.csv", "fig5_map.csv"};

/// Writes the tables into `folder`.
void write_fig5_tables(const Fig5& figure, const Fig5Sweeps& sweeps, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig5_picture(const Fig5& figure);

}  // namespace richflow::examples
