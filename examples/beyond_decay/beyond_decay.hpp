#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "richflow/core/types.hpp"
#include "richflow/sweep/transition.hpp"

/// @file
/// Beyond the paper: weight decay moves the effective scale down in time, so that a net that starts in the kernel
/// regime ends in the rich one, long after it has fitted the data (grokking), at the time that a sweep in alpha
/// predicts.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_decay_panels = {"beyond_decay_a", "beyond_decay_b", "beyond_decay_c"};

/// Size of the experiment: sparse regression without noise by the squared diagonal net, under L + lambda |w|^2.
struct BeyondDecayOptions {
  std::uint64_t seed = 1;
  Index num_samples = 20;
  Index dimension = 50;
  Index num_nonzero = 3;
  std::vector<double> scales = {1.0, 1e2, 1e4, 1e6, 1e8, 1e10};  ///< alpha of panels a and b
  double lambda = 0.01;                                          ///< of panels a and b
  double collapse_scale = 1e6;                                   ///< alpha of panel c
  std::vector<double> lambdas = {1.0, 0.1, 0.01, 0.001};         ///< of panel c, falling
  int num_times = 300;                                           ///< of each curve of panels a and b
  int num_scales = 120;                                          ///< points of panel c
};

/// One point of panels a and b.
struct BeyondDecayTime {
  double alpha = 0.0;
  double t = 0.0;
  double error = 0.0;  ///< |beta - beta*|^2
  double loss = 0.0;   ///< |X beta - y|^2 over |y|^2
};

/// When the error of a run is half way down.
struct BeyondDecayCrossing {
  double alpha = 0.0;
  double lambda = 0.0;
  double predicted = 0.0;  ///< from the sweep at lambda = 0
  double measured = 0.0;   ///< NaN where it never is
  double duration = 0.0;   ///< from nine tenths to a tenth
  double loss = 0.0;       ///< over |y|^2, a tenth of the way to `predicted`
  Index steps = 0;         ///< of the integrator, of the whole run
};

/// One point of panel c: the flow when `alpha e^(-2 lambda t)` is `scale`, and the sweep at that scale.
struct BeyondDecayCollapse {
  double lambda = 0.0;
  double scale = 0.0;
  double error = 0.0;
  double sweep = 0.0;
};

/// The figure.
struct BeyondDecay {
  Transition transition = {};
  std::vector<BeyondDecayTime> times = {};
  std::vector<BeyondDecayCrossing> crossings = {};           ///< of panels a and b, by alpha
  std::vector<BeyondDecayCrossing> collapse_crossings = {};  ///< of panel c, by lambda
  std::vector<BeyondDecayCollapse> collapse = {};
  std::vector<Claim> claims = {};
};

/// Computes it: seconds. Throws ArgumentError for invalid sizes, ConvergenceError where a flow or a solve fails.
[[nodiscard]] BeyondDecay beyond_decay(const BeyondDecayOptions& options = {});

/// Names of the tables.
inline const std::vector<std::string> beyond_decay_tables = {"beyond_decay.csv", "beyond_decay_crossings.csv",
                                                             "beyond_decay_collapse.csv"};

/// Writes the tables into `folder`.
void write_beyond_decay_tables(const BeyondDecay& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_decay_picture(const BeyondDecay& figure, const BeyondDecayOptions& options);

}  // namespace richflow::examples
