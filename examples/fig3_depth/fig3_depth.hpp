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
/// Figure 3: what the depth of a diagonal net does to its bias.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig3_panels = {"fig3a", "fig3b", "fig3c"};

/// Size of the experiment; the data of panel c are those of figure 1.
struct Fig3Options {
  std::uint64_t seed = 1;
  int num_z = 201;                  ///< points of z in [-5, 5]; odd, so that 0 is one of them
  int num_scales = 91;              ///< points of log alpha^D in [-8, 1]
  Index dimension_b = 100;          ///< d of the two vectors compared in panel b
  Index dimension = 1000;           ///< d of panel c
  int num_seeds = 6;                ///< repetitions of panel c beyond N = 100
  int num_seeds_cliff = 24;         ///< and up to N = 100, where they differ by orders of magnitude
  double threshold = 0.025;         ///< population error that counts as learned
  std::vector<Index> samples = {};  ///< N of panel c, increasing
};

/// The options that belong to an effort.
[[nodiscard]] Fig3Options fig3_options(Effort effort);

/// One point of panel a: q_D over its curvature at 0, times that of q_2.
struct Fig3aPoint {
  Index depth = 2;
  double z = 0.0;
  double q_normalized = 0.0;
};

/// One point of panel b: `Q(e_1) / Q(1/sqrt(d))`, 1 for a squared l2 norm and 1/sqrt(d) for the l1 norm.
struct Fig3bPoint {
  Index depth = 2;
  double log_alpha_D = 0.0;
  double ratio = 0.0;
};

/// The largest alpha^D that learns from N samples. -infinity stands for: none down to e^-200.
struct Fig3cPoint {
  Index depth = 2;
  Index num_samples = 0;
  Index repetitions = 0;
  Quartiles log_alpha_D = {};
  double never_fraction = 0.0;
};

/// All panels and what the paper says of them.
struct Fig3 {
  std::vector<Fig3aPoint> panel_a = {};
  std::vector<Fig3bPoint> panel_b = {};
  std::vector<Fig3cPoint> panel_c = {};
  std::vector<Claim> claims = {};
};

/// Panel c, over `D`, `N` and `seed`: log of the largest alpha^D that learns. Throws ArgumentError for invalid sizes.
[[nodiscard]] SweepResult run_fig3_sweep(const Fig3Options& options, const SweepRunner& runner);

/// The figure of a complete sweep. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig3 make_fig3(const Fig3Options& options, const SweepResult& critical);

/// Names of the tables.
inline const std::vector<std::string> fig3_tables = {"fig3a.csv", "fig3b.csv", "fig3c.csv"};

/// Writes the tables into `folder`.
void write_fig3_tables(const Fig3& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig3_picture();

}  // namespace richflow::examples
