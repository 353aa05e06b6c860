#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "image_problem.hpp"
#include "plot.hpp"
#include "program.hpp"
#include "richflow/core/types.hpp"
#include "richflow/sweep/sweep.hpp"
#include "statistics.hpp"
#include "sweep_runner.hpp"
#include "training.hpp"

/// @file
/// Figure 6 (d): a VGG11-like network on images, from the rich to the kernel regime.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig6d_panels = {"fig6d"};

/// Size of the experiment.
struct Fig6dOptions {
  std::uint64_t seed = 1;
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  Index images_per_file = cifar_images_per_file;  ///< where `data` is CIFAR-10
  int num_seeds = 2;                              ///< repetitions, each with its own images, initialization and order
  std::vector<double> alphas = {0.75, 1.0, 1.25, 1.5, 2.0};
  Index num_train = 1000;        ///< 0: all
  Index num_test = 0;            ///< 0: all
  Index width = 4;               ///< channels of the first layer, 64 in the paper; the others in proportion
  Index batch = 32;              ///< 128 in the paper
  double step = 0.0;             ///< 0: searched
  Index max_epochs = 150;        ///< 2000 in the paper
  double loss = 0.05;            ///< training ends here, when all training images are right; 0: never
  Index max_linear_epochs = 20;  ///< of the linearized net and the last layer
  SavedTraining saved = {};      ///< where and how often half-trained nets are saved
};

/// The options that belong to an effort.
[[nodiscard]] Fig6dOptions fig6d_options(Effort effort);

/// One scale, over the seeds.
struct Fig6dPoint {
  double alpha = 0.0;
  double step = 0.0;         ///< median
  double epochs = 0.0;       ///< median
  double train_error = 0.0;  ///< largest
  double loss = 0.0;         ///< median over the last epoch
  Quartiles test_error = {};
  double kernel_train_error = 0.0;       ///< median
  Quartiles kernel_test_error = {};      ///< last layer only
  Quartiles linearized_test_error = {};  ///< the net's tangent at its initialization
  double linearized_train_error = 0.0;   ///< median
  double kernel_distance = 0.0;          ///< of the tangent kernels before and after training, median
};

/// The panel and what the paper says of it.
struct Fig6d {
  std::string data = {};  ///< what it was computed from
  std::vector<Fig6dPoint> points = {};
  std::vector<Claim> claims = {};
};

/// Seconds that the run takes on one thread, from the time of a batch.
[[nodiscard]] double fig6d_estimate(const Fig6dOptions& options);

/// Runs the sweep over alpha and seed. Throws ArgumentError for invalid sizes.
[[nodiscard]] SweepResult run_fig6d_sweep(const Fig6dOptions& options, const SweepRunner& runner);

/// The figure of a complete sweep. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig6d make_fig6d(const Fig6dOptions& options, const SweepResult& sweep);

/// Names of the tables.
inline const std::vector<std::string> fig6d_tables = {"fig6d.csv"};

/// Writes the table into `folder`.
void write_fig6d_table(const Fig6d& figure, const std::filesystem::path& folder);

/// The picture of this table.
[[nodiscard]] Picture fig6d_picture();

}  // namespace richflow::examples
