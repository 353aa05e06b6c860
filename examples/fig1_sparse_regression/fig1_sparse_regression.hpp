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
/// Figure 1: the squared diagonal net on sparse regression, from the kernel to the rich regime.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig1_panels = {"fig1a", "fig1b", "fig1c"};

/// Size of the experiment. The data are those of the paper: `x_n ~ N(0, I_d)`, five nonzero coefficients,
/// noise of variance 0.01.
struct Fig1Options {
  std::uint64_t seed = 1;
  int num_seeds = 12;         ///< repetitions of panels a and b, and of panel c beyond N = 100
  int num_seeds_cliff = 100;  ///< repetitions of panel c up to N = 100, where they differ by orders of magnitude
  Index dimension = 1000;     ///< d
  Index num_samples = 100;    ///< N of panels a and b
  int per_decade = 8;         ///< values of alpha per factor 10 in panels a and b
  int flow_every = 3;         ///< panel a integrates the flow at every so many values of alpha
  std::vector<Index> samples_c = {};   ///< N of panel c, increasing
  std::vector<Index> samples_l1 = {};  ///< N at which the minimum-l1 solution is computed, increasing
  double threshold = 0.025;            ///< population error that counts as learned
};

/// The options that belong to an effort.
[[nodiscard]] Fig1Options fig1_options(Effort effort);

/// Population error of the flow's limit.
struct Fig1aPoint {
  double alpha = 0.0;
  Quartiles error = {};
  double error_flow = 0.0;  ///< median when the flow is integrated; NaN where it is not
};

/// Norms of the flow's limit beyond the smallest possible, medians over the seeds.
struct Fig1bPoint {
  double alpha = 0.0;
  double excess_l1 = 0.0;
  double excess_l2 = 0.0;
};

/// The largest alpha that learns from N samples. -infinity stands for: none down to alpha = e^-200.
struct Fig1cPoint {
  Index num_samples = 0;
  Index repetitions = 0;
  Quartiles log_alpha = {};
  double never_fraction = 0.0;
};

/// Population error of the minimum-l1 interpolator, the limit of alpha to 0.
struct Fig1L1Point {
  Index num_samples = 0;
  double l1_error_median = 0.0;
};

/// What panel a approaches on both sides, medians over the seeds.
struct Fig1Limits {
  double min_l1_error = 0.0;
  double far_error = 0.0;  ///< at log alpha = -200
  double min_l2_error = 0.0;
};

/// All panels and what the paper says of them.
struct Fig1 {
  std::vector<Fig1aPoint> panel_a = {};
  Fig1Limits limits = {};
  std::vector<Fig1bPoint> panel_b = {};
  std::vector<Fig1cPoint> panel_c = {};
  std::vector<Fig1L1Point> l1 = {};
  Index dashed_line = 0;  ///< smallest N whose minimum-l1 solution learns; 0: none
  std::vector<Claim> claims = {};
};

/// Everything that is computed, one number for each repetition.
struct Fig1Sweeps {
  SweepResult limits;    ///< of panels a and b, over `seed`: what alpha to 0 and to infinity approach
  SweepResult solved;    ///< of panels a and b, over `alpha` and `seed`: the solved limit
  SweepResult flow;      ///< of panel a, over `alpha` and `seed`: the integrated limit
  SweepResult critical;  ///< of panel c, over `N` and `seed`: log of the largest alpha that learns
  SweepResult l1;        ///< of panel c, over `N` and `seed`: the minimum-l1 interpolator
};

/// Runs the sweeps. Throws ArgumentError for invalid sizes.
[[nodiscard]] Fig1Sweeps run_fig1_sweeps(const Fig1Options& options, const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig1 make_fig1(const Fig1Options& options, const Fig1Sweeps& sweeps);

/// Names of the tables.
inline const std::vector<std::string> fig1_tables = {"fig1a.csv", "fig1a_limits.csv", "fig1b.csv", "fig1c.csv",
                                                     "fig1c_l1.csv"};

/// Writes the tables into `folder`.
void write_fig1_tables(const Fig1& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig1_picture(const Fig1& figure);

}  // namespace richflow::examples
