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
#include "sweep_runner.hpp"
#include "training.hpp"

/// @file
/// Figure 6 (c): a wide ReLU network of depth 2 on images, trained by SGD from initializations of different scales.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig6c_panels = {"fig6c"};

/// Size of the experiment.
struct Fig6cOptions {
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist";  ///< a folder of images
  std::uint64_t seed = 1;
  int num_seeds = 3;        ///< repetitions, each with its own training images, initialization and order
  Index num_train = 1000;   ///< drawn from the training images; 0: all
  Index num_test = 10'000;  ///< the first ones; 0: all
  Index width = 500;
  Index batch_size = 64;
  double momentum = 0.9;
  double loss = 0.01;  ///< training ends at accuracy 1 with a mean loss below
  Index max_epochs = 400;
  Index trial_epochs = 10;     ///< of each step that is tried
  Index hopeless_batches = 0;  ///< of a trial that is given up early, see StepSearchOptions
  bool steps_grow = false;     ///< as the loss falls, see SgdOptions
  Index stall_epochs = 0;      ///< after which a step that makes no progress is given up, see SgdOptions
  double linear_step = 0.0;    ///< where positive, the step of the last layer and, over alpha^2 but at least 1, of the
                               ///< tangent models, which is searched otherwise
  int max_retries = 4;         ///< with smaller steps, where the one that was found does not fit the data
  SavedTraining saved = {};    ///< where and how often half-trained nets are saved
  std::vector<double> alphas = {0.1, 1, 2, 3, 4, 5, 10, 20, 50, 500};
  Index small_step_train = 300;  ///< training images of the networks that are trained with small steps, once
  Index small_step_width = 200;
};

/// The options that belong to an effort.
[[nodiscard]] Fig6cOptions fig6c_options(Effort effort);

/// A mean over the repetitions with its standard error, not below that of the finite number of test images.
struct MeanError {
  double mean = 0.0;
  double standard_error = 0.0;
};

/// One scale, over the seeds.
struct Fig6cPoint {
  double alpha = 0.0;
  double step = 0.0;  ///< median of those found
  double epochs = 0.0;
  double train_error = 0.0;
  MeanError test_error = {};
  double kernel_train_error = 0.0;
  MeanError kernel_test_error = {};
  double kernel_distance = 0.0;  ///< of the tangent kernels before and after training
  double small_step = 0.0;       ///< of the smaller network that takes a tenth of the step found; so the next ones
  double small_step_epochs = 0.0;
  double small_step_train_error = 0.0;
  double small_step_test_error = 0.0;
  double small_step_kernel_distance = 0.0;
};

/// The figure and what the paper says of it.
struct Fig6c {
  std::vector<Fig6cPoint> points = {};
  double last_layer_train_error = 0.0;
  MeanError last_layer_test_error = {};  ///< with the first layer frozen at its initialization
  std::vector<Claim> claims = {};
};

/// Everything that is computed, one number for each repetition.
struct Fig6cSweeps {
  SweepResult networks;      ///< over `alpha`, `tangent` (0: the network, 1: its tangent model) and `seed`
  SweepResult last_layer;    ///< over `seed`
  SweepResult small_steps;   ///< over `alpha`
  bool is_protocol = false;  ///< the paper's experiment: all of MNIST, its width, batches and loss
};

/// Runs the sweeps. Throws ArgumentError for invalid sizes, FileError when the images cannot be read.
[[nodiscard]] Fig6cSweeps run_fig6c_sweeps(const Fig6cOptions& options, const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig6c make_fig6c(const Fig6cOptions& options, const Fig6cSweeps& sweeps);

/// Seconds that an epoch of all networks together takes on one thread, measured on one batch.
[[nodiscard]] double fig6c_seconds_of_epoch(const Fig6cOptions& options);

/// What the numbers are computed from, for the report.
[[nodiscard]] std::string fig6c_data(const Fig6cOptions& options);

/// Names of the tables.
inline const std::vector<std::string> fig6c_tables = {"fig6c.csv"};

/// Writes the table into `folder`.
void write_fig6c_tables(const Fig6c& figure, const std::filesystem::path& folder);

/// The picture of the table.
[[nodiscard]] Picture fig6c_picture();

}  // namespace richflow::examples
