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
/// Beyond the paper: does the flow on a completion problem, whose measurements do not commute, minimize Schatten-Q as
/// it does for commuting ones?

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig5_conjecture_panels = {"fig5_conjecture"};

/// Size of the experiment. The start is that of infinite width, `W(0) = alpha^2 k I`: nothing is random but the
/// problem.
struct Fig5ConjectureOptions {
  std::uint64_t seed = 1;
  int num_seeds = 24;       ///< repetitions
  Index dimension = 10;     ///< d: the matrix is d x d
  Index num_observed = 60;  ///< N of the completion problems
  Index num_commuting = 4;  ///< N of the problems with diagonal measurements
  int per_decade = 2;       ///< values of alpha^2 k per factor 10, from 1e-8 to 1e4
};

/// The options that belong to an effort.
[[nodiscard]] Fig5ConjectureOptions fig5_conjecture_options(Effort effort);

/// At one alpha^2 k = 2 mu^2; distances are relative, in the Frobenius norm.
struct ConjecturePoint {
  double strength = 0.0;
  Quartiles distance = {};          ///< completion: of the flow's limit from argmin Q_mu
  double excess = 0.0;              ///< median of Q_mu(limit) / min Q_mu - 1
  double commuting_distance = 0.0;  ///< largest, with commuting measurements
  double flow_to_truth = 0.0;       ///< median, of the flow's limit from Y*
  double argmin_to_truth = 0.0;     ///< median, of argmin Q_mu from Y*
};

/// What is seen.
struct Fig5Conjecture {
  std::vector<ConjecturePoint> points = {};  ///< ascending
  std::vector<Claim> claims = {};
};

/// Everything that is computed.
struct Fig5ConjectureSweeps {
  SweepResult completion;  ///< over `strength` and `seed`
  SweepResult commuting;   ///< the same
};

/// Runs the sweeps. Throws ArgumentError for invalid sizes.
[[nodiscard]] Fig5ConjectureSweeps run_fig5_conjecture_sweeps(const Fig5ConjectureOptions& options,
                                                              const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig5Conjecture make_fig5_conjecture(const Fig5ConjectureSweeps& sweeps);

/// Names of the tables.
inline const std::vector<std::string> fig5_conjecture_tables = {"fig5_conjecture.csv"};

/// Writes the tables into `folder`.
void write_fig5_conjecture_tables(const Fig5Conjecture& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig5_conjecture_picture();

}  // namespace richflow::examples
