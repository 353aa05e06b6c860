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
#include "richflow/limits/early_alignment.hpp"

/// @file
/// Beyond the paper: the directions in which the neurons of a ReLU network align before they grow, predicted from data
/// and start, beside flows from tiny and from large starts.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_alignment_panels = {"beyond_alignment_tiny", "beyond_alignment_large",
                                                              "beyond_alignment_rate", "beyond_alignment_scales",
                                                              "beyond_alignment_random"};

/// Size of the experiment.
struct BeyondAlignmentOptions {
  std::uint64_t seed = 1;
  Index width = 200;       ///< of the network: pairs of neurons with opposite outgoing weights
  int num_times = 150;     ///< of an angle's curve
  int num_bins = 60;       ///< of a histogram of angles
  int num_rates = 9;       ///< scales at which the error of the prediction is measured
  int num_scales = 13;     ///< scales from tiny to large
  int num_problems = 200;  ///< random ones, on which flow and prediction are compared
};

/// The options that belong to an effort.
[[nodiscard]] BeyondAlignmentOptions beyond_alignment_options(Effort effort);

/// The neurons of a flow at one time.
struct AlignmentFlowPoint {
  double log_alpha = 0.0;
  double time = 0.0;  ///< Over that at which the early phase ends, or, for the large start, over the last.
  double loss = 0.0;
  Vector<double> angles = {};  ///< Of each w_j, in (-pi, pi].
  Vector<double> norms = {};   ///< |a_j| |w_j|.
};

/// The error of the predicted directions at a share tau of the early phase, median over the neurons.
struct AlignmentError {
  double tau = 0.0;
  double log_alpha = 0.0;
  double angle = 0.0;
};

/// How far the neurons have turned when the data are fitted, on average, weighted by their norms then.
struct AlignmentTurn {
  double log_alpha = 0.0;
  double turn = 0.0;  ///< In radians.
};

/// What is seen.
struct BeyondAlignment {
  EarlyAlignment<> early = {};
  std::vector<AlignedGroup<>> groups = {};
  std::vector<AlignmentFlowPoint> tiny = {}, large = {};
  std::vector<AlignmentError> errors = {};
  std::vector<AlignmentTurn> turns = {};
  Index num_bins = 0;
  std::vector<Claim> claims = {};
};

/// Computes it, on five samples of the circle. Throws ArgumentError for invalid sizes, ConvergenceError where an
/// integration does not reach its end.
[[nodiscard]] BeyondAlignment beyond_alignment(const BeyondAlignmentOptions& options);

/// Names of the tables.
inline const std::vector<std::string> beyond_alignment_tables = {
    "beyond_alignment_angles.csv",    "beyond_alignment_tiny.csv",   "beyond_alignment_large.csv",
    "beyond_alignment_predicted.csv", "beyond_alignment_errors.csv", "beyond_alignment_turns.csv"};

/// Writes the tables into `folder`.
void write_beyond_alignment_tables(const BeyondAlignment& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_alignment_picture(const BeyondAlignment& figure);

}  // namespace richflow::examples
