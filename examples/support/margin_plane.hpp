#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "claims.hpp"
#include "richflow/bias/simulate_classification.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/max_margin.hpp"

/// @file
/// Where gradient flow of a classification is over the plane of initialization scale and accuracy, beside the solution
/// of the margin problem.

namespace richflow::examples {

/// What to compute.
struct MarginPlaneOptions {
  Index depth = 2;
  MarginLoss loss = MarginLoss::exponential;
  std::vector<Scale<>> scales = {};
  std::vector<double> log_losses = {};       ///< natural logarithms of the accuracies
  std::optional<Vector<double>> shape = {};  ///< w0; none: all ones
  double tolerance = 1e-3;                   ///< of the flow
  int threads = 0;
};

/// One scale and accuracy.
struct MarginPlanePoint {
  Scale<> scale = Scale<>::from_log(0.0);
  double log_loss = 0.0;               ///< as asked
  ClassificationRecord<> record = {};  ///< the flow
  Vector<double> best = {};            ///< minimizer of Q with the flow's own margin; empty where that is not positive
  double best_value = 0.0;             ///< its Q
  double gap = 0.0;                    ///< its relative duality gap
  Index support = 0;                   ///< its support vectors
  double distance = 0.0;               ///< |beta - best| / |beta|; NaN without best
  bool ok = false;
  std::string message = {};  ///< why not
};

/// The plane.
struct MarginPlane {
  std::vector<MarginPlanePoint> points = {};  ///< by falling scale, then by falling loss
  MarginResult<> l1 = {};                     ///< the two ends
  MarginResult<> l2 = {};
};

/// Simulates and solves. Throws ArgumentError for labels other than -1 and +1, for data that are not separable, for
/// empty lists; what one scale throws is the message of its points.
[[nodiscard]] MarginPlane margin_plane(const Dataset<>& data, const MarginPlaneOptions& options,
                                       const std::string& label);

/// That the margin problems are proved solved, that the flow's own bounds hold at every point, and that every point
/// was reached.
[[nodiscard]] std::vector<Claim> margin_plane_claims(const std::string& figure, const MarginPlane& plane);

/// Natural logarithms, from the largest, of positive numbers `a,b,c` however small: 1e-1000 is an ordinary one. Throws
/// ArgumentError naming `option` and the piece that does not fit.
[[nodiscard]] std::vector<double> parse_log_list(const std::string& option, const std::string& text);

}  // namespace richflow::examples
