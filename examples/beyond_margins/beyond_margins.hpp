#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "margin_plane.hpp"
#include "plot.hpp"
#include "program.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

/// @file
/// Which margin is maximized over the plane of scale and accuracy.

namespace richflow::examples {

/// Name of this program in claims.json.
inline const std::set<std::string> beyond_margins_panels = {"beyond_margins"};

/// Small integer problems: every sample is a support vector; one sample has slack; the best l1 margin has several
/// maximizers. Labels are +1: the samples are the y_n x_n.
enum class MarginExample { all_support, one_free, two_optima };

/// Its data.
[[nodiscard]] Dataset<> margin_example(MarginExample which);

/// What to compute.
struct BeyondMarginsOptions {
  MarginLoss loss = MarginLoss::exponential;  ///< of the maps
  double log_alpha_from = 4.0;                ///< of the maps
  double log_alpha_to = -12.0;
  int num_scales = 65;
  double digits_to = 5.0;  ///< log L from -10 to -10^this
  int num_losses = 65;
  double tolerance = 1e-3;  ///< of the flow
  int threads = 0;
};

/// Options of an effort.
[[nodiscard]] BeyondMarginsOptions beyond_margins_options(Effort effort);

/// A scale at which the flow leaves its plateau.
struct PlateauEnd {
  double log_alpha = 0.0;
  double log_margin = 0.0;  ///< logarithm of the least margin where |beta|_1 allows 0.80
};

/// A row of the table of theory, measured again.
struct MarginErrors {
  std::string problem = {};
  Index depth = 2;
  double log_alpha = 0.0;
  std::vector<double> log_losses = {};
  std::vector<double> expected = {};
  std::vector<double> measured = {};
};

/// Everything that is drawn.
struct BeyondMargins {
  MarginPlane plane = {};  ///< of one_free at depth 2
  std::vector<PlateauEnd> ends = {};
  double slope = 0.0;  ///< of log margin against log(1 / alpha) over these
  double offset = 0.0;
  std::vector<MarginErrors> errors = {};
  double logistic_difference = 0.0;  ///< largest relative difference of an error under the logistic loss
  double two_optima_bracket = 0.0;   ///< relative width of the bracket of the l1 margin on two_optima
  std::vector<Claim> claims = {};
};

/// Computes it. Throws ArgumentError for empty ranges.
[[nodiscard]] BeyondMargins beyond_margins(const BeyondMarginsOptions& options);

/// Names of the tables.
inline const std::vector<std::string> beyond_margins_tables = {"beyond_margins.csv", "beyond_margins_ends.csv",
                                                               "beyond_margins_errors.csv"};

/// Writes them.
void write_beyond_margins_tables(const BeyondMargins& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_margins_picture(const BeyondMargins& figure, const BeyondMarginsOptions& options);

}  // namespace richflow::examples
