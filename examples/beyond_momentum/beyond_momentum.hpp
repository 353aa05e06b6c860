#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Beyond the paper: heavy-ball momentum is gradient flow from a smaller scale, by an amount that one number decides,
/// until a weight crosses zero.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_momentum_panels = {"beyond_momentum_a", "beyond_momentum_b",
                                                             "beyond_momentum_c"};

/// Runs of one momentum.
struct BeyondMomentumSeries {
  double momentum = 0.0;
  std::vector<double> lambdas = {};  ///< rising
};

/// Size of the experiment: sparse regression without noise, heavy ball on the squared diagonal net. Steps are given by
/// lambda = step (1 + m) / (2 (1 - m)^2), that of the flow lambda w'' + w' + grad L which heavy ball follows.
struct BeyondMomentumOptions {
  std::uint64_t seed = 1;
  Index num_samples = 20;
  Index dimension = 50;
  Index num_nonzero = 3;
  double alpha = 0.1;
  Index max_steps = 2'000'000;
  std::vector<BeyondMomentumSeries> series = {
      {0.0, {5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3}},
      {0.5, {1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2}},
      {0.9, {5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2}},
      {0.97, {5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.4}},
  };  ///< each with at least two
};

/// One run.
struct BeyondMomentumPoint {
  double momentum = 0.0;
  double lambda = 0.0;
  double step = 0.0;
  Index steps = 0;
  double moved = 0.0;            ///< log of the effective alpha less log alpha, mean over coordinates
  double moved_most = 0.0;       ///< largest of the coordinates: positive where a scale has grown
  double moved_predicted = 0.0;  ///< without the run
  double exact = 0.0;            ///< largest |beta - prediction| over |beta|, from the exact effective start
  double matched = 0.0;          ///< the same from the start predicted by lambda
  double unmatched = 0.0;        ///< from that predicted with step / (1 - m)^2 for lambda
  double plain = 0.0;            ///< from the start of the run
  double error = 0.0;            ///< |beta - beta*|^2 at the end
  Index sign_changes = 0;
};

/// The figure.
struct BeyondMomentum {
  std::vector<BeyondMomentumPoint> points = {};  ///< by series and lambda
  double first_crossing = 0.0;                   ///< smallest lambda of a run with a sign change; infinity for none
  double flow = 0.0;                             ///< |beta - beta*|^2 of the flow's limit
  double slope = 0.0;                            ///< moved_predicted / lambda
  std::vector<Claim> claims = {};
};

/// Computes it: seconds. Throws ArgumentError for invalid sizes, ConvergenceError where a run or a solve fails.
[[nodiscard]] BeyondMomentum beyond_momentum(const BeyondMomentumOptions& options = {});

/// Names of the tables.
inline const std::vector<std::string> beyond_momentum_tables = {"beyond_momentum.csv"};

/// Writes the tables into `folder`.
void write_beyond_momentum_tables(const BeyondMomentum& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_momentum_picture(const BeyondMomentum& figure, const BeyondMomentumOptions& options);

}  // namespace richflow::examples
