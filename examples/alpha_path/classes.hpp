#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "alpha_path.hpp"
#include "margin_plane.hpp"
#include "plot.hpp"

/// @file
/// The data set as a classification: where gradient flow under the exponential or the logistic loss is at each scale
/// and accuracy.

namespace richflow::examples {

/// Names of the losses, as options.
inline const std::vector<std::string> loss_names = {"exponential", "logistic"};

/// What to compute.
struct ClassPathOptions {
  Index depth = 2;
  MarginLoss loss = MarginLoss::logistic;
  std::vector<Scale<>> scales = {};  ///< empty: `num_scales`, down to where no accuracy shows more
  int num_scales = 9;
  std::vector<double> log_losses = {};  ///< natural logarithms
  int threads = 0;
};

/// The plane with what the test data say of it.
struct ClassPath {
  ClassPathOptions options = {};
  MarginPlane plane = {};
  std::vector<double> accuracies = {};  ///< of each point on the test data; NaN without
  double l1_accuracy = 0.0;
  double l2_accuracy = 0.0;
  std::vector<Claim> claims = {};
};

/// Computes it. Throws ArgumentError for labels other than -1 and +1 and for data that are not separable.
[[nodiscard]] ClassPath class_path(const AlphaPathProblem& problem, const ClassPathOptions& options);

/// Names of the tables.
inline const std::vector<std::string> class_path_tables = {"margins.csv", "classes.csv"};

/// Writes `margins.csv` (log_alpha, log_accuracy, i, beta, margin_problem: the flow's beta where the loss has fallen to
/// e^log_accuracy, and the minimizer of Q with the same margin) and `classes.csv` (a line per scale and accuracy).
void write_class_path_tables(const AlphaPathProblem& problem, const ClassPath& path,
                             const std::filesystem::path& folder);

/// The picture of `classes.csv`.
[[nodiscard]] Picture class_path_picture(const AlphaPathProblem& problem, const ClassPath& path);

/// Prints a line per scale and accuracy.
void print_class_path(const AlphaPathProblem& problem, const ClassPath& path);

}  // namespace richflow::examples
