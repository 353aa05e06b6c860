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
/// Figure 4: the wide parallel network behind the theorem on width, and the theorem, tried.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig4_panels = {"fig4"};

/// Size of the experiment: `<U V^T, X_n>` on d x d matrices, N measurements with normal eigenvalues and normal labels,
/// entries `N(0, 2 mu^2 / k)`.
struct Fig4Options {
  std::uint64_t seed = 1;
  int num_seeds = 24;     ///< repetitions
  Index dimension = 10;   ///< d
  Index num_samples = 4;  ///< N < d
  double mu = 0.3;        ///< between the regimes: entries of the limit are of the order of mu^2
  int per_decade = 2;     ///< widths per factor 10, from 10 to 10^6
};

/// The options that belong to an effort.
[[nodiscard]] Fig4Options fig4_options(Effort effort);

/// One width.
struct Fig4Point {
  Index width = 0;
  Quartiles diagonal = {};   ///< relative distance of the limit from argmin Q_mu, diagonal measurements
  Quartiles commuting = {};  ///< the same for commuting measurements that are not diagonal
};

/// All widths and what the paper says of them.
struct Fig4 {
  std::vector<Fig4Point> points = {};
  std::vector<Claim> claims = {};
};

/// Everything that is computed, over `k` and `seed`.
struct Fig4Sweeps {
  SweepResult diagonal;
  SweepResult commuting;
};

/// Runs the sweeps. Throws ArgumentError for invalid sizes.
[[nodiscard]] Fig4Sweeps run_fig4_sweeps(const Fig4Options& options, const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig4 make_fig4(const Fig4Sweeps& sweeps);

/// Names of the tables.
inline const std::vector<std::string> fig4_tables = {"fig4.csv", "fig4_medians.csv"};

/// Writes the tables into `folder`.
void write_fig4_tables(const Fig4& figure, const Fig4Sweeps& sweeps, const std::filesystem::path& folder);

/// The picture of these tables, with the drawing of the network.
[[nodiscard]] Picture fig4_picture(const Fig4& figure);

}  // namespace richflow::examples
