#include "fig6c_mnist.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <type_traits>
#include <utility>

#include "csv.hpp"
#include "image_data.hpp"
#include "image_problem.hpp"
#include "richflow/kernel/sgd_steps.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/sweep/grid.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/step_search.hpp"
#include "statistics.hpp"
#include "text.hpp"
#include "training.hpp"

namespace richflow::examples {

namespace {

constexpr Index kernel_images = 200;  // on which tangent kernels are measured
constexpr double small_part = 0.1;    // of the step that was found, with which SGD stays near the gradient flow

// The paper's experiment, and its test errors in percent.
constexpr std::uint64_t mnist_fingerprint = 3834741814963141423U;  // of the training images
constexpr Index paper_width = 5000;
constexpr Index paper_batch = 256;
constexpr double paper_loss = 1e-5;
constexpr double paper_small_error = 1.4;  // at alpha <= 2
constexpr double paper_large_error = 2.4;  // at alpha >= 50
constexpr double paper_last_layer_error = 2.7;

using Data = LabelledDataset<float>;
using Network = ReluNetwork<float>;

struct Images {
  Data train;
  Data test;
};

Images read_images(const Fig6cOptions& options) {
  const ImageFiles files = read_image_files(options.data);
  Images images{image_dataset(files.train), image_dataset(files.test)};
  if (options.num_test > 0 && options.num_test < images.test.num_samples()) {
    std::vector<Index> first(static_cast<std::size_t>(options.num_test));
    std::iota(first.begin(), first.end(), Index(0));
    images.test = images.test.subset(first);
  }
  return images;
}

/// The training images of a repetition; each has its own streams.
RandomStream stream_of(const Fig6cOptions& options, Index repetition, std::uint64_t purpose) {
  return RandomStream(options.seed, static_cast<std::uint64_t>(repetition) * 4 + purpose);
}

Data training_images(const Fig6cOptions& options, const Images& images, Index repetition) {
  if (options.num_train == 0 || options.num_train >= images.train.num_samples()) return images.train;
  RandomStream random = stream_of(options, repetition, 0);
  return images.train.random_subset(random, options.num_train);
}

Network network(const Fig6cOptions& options, const Images& images) {
  return Network(images.train.num_inputs(), {options.width}, false, images.train.num_classes());
}

/// The same shape at every scale.
Vector<float> initial_parameters(const Fig6cOptions& options, const Network& net, Index repetition, double alpha) {
  RandomStream random = stream_of(options, repetition, 1);
  return net.initial_parameters(random, Scale<float>::from_value(static_cast<float>(alpha)), HeInitialization::normal);
}

/// The steps that are tried, and the part of the best one with which training goes.
struct StepChoice {
  double largest = 1.0;
  Index count = 12;  // of a ladder from the largest one down
  double part = 1.0;
  double divergence_factor = SgdOptions<float>().divergence_factor;
  Vector<float> growth_at = {};  // weights at which safe_growth_loss is measured; none: the initial ones
};

/// One by which a sample that is wrong moves its outputs far, that of a perceptron: with it a linear model finds a zero
/// of the error sooner than with any at which its loss falls smoothly, which needs hundreds of epochs on all the
/// images. Until then its losses are as large as the step, but bounded.
StepChoice perceptron_steps(double step) {
  return {.largest = step, .count = 1, .divergence_factor = std::numeric_limits<double>::infinity()};
}

/// `name` is that of the folder of checkpoints.
template <class M>
NamedNumbers train(const Fig6cOptions& options, const M& model, const Vector<float>& w0, const Data& data,
                   const Data& test, Index repetition, const StepChoice& steps, const std::string& name) {
  SgdOptions<float> sgd;
  sgd.batch_size = std::min(options.batch_size, data.num_samples());
  sgd.momentum = static_cast<float>(options.momentum);
  sgd.max_epochs = options.max_epochs;
  sgd.stop_loss = options.loss;
  sgd.stall_epochs = options.stall_epochs;
  sgd.divergence_factor = steps.divergence_factor;
  sgd.seed = stream_of(options, repetition, 2)();
  const TrainingFolder folder = options.saved.of(name);
  StepSearchOptions<float> ladder;
  sgd.step = static_cast<float>(steps.largest);
  if (steps.count > 1) {
    ladder.largest = sgd.step;
    ladder.count = steps.count;
    ladder.trial_epochs = options.trial_epochs;
    ladder.hopeless_batches = options.hopeless_batches;
    ladder.by_accuracy = true;
    const auto search = search_step_resumably(model, data, w0, sgd, ladder, folder);
    require<ConvergenceError>(search.ok(), "every step from ", steps.largest, " down diverges");
    sgd.step = search.step;
  }
  sgd.step *= static_cast<float>(steps.part);
  if (options.steps_grow) {
    const Vector<float>& growth_at = steps.growth_at.size() > 0 ? steps.growth_at : w0;
    sgd.growth_loss = safe_growth_loss(model, data, growth_at, static_cast<double>(sgd.step), kernel_images);
  }
  sgd.max_epochs = static_cast<Index>(static_cast<double>(options.max_epochs) / steps.part);
  auto result = train_resumably(model, data, w0, sgd, folder);
  float step = sgd.step;
  // A few epochs do not always tell a step that learns from one that has destroyed the network: what fits best counts.
  // growth_loss stays, so that the steps that have grown become smaller, too.
  for (int retry = 0; retry < options.max_retries && result.final.error() > 0.0; ++retry) {
    sgd.step *= ladder.ratio;
    auto smaller = train_resumably(model, data, w0, sgd, folder);
    if (smaller.final.error() >= result.final.error()) continue;
    result = std::move(smaller);
    step = sgd.step;
  }
  folder.remove();
  // Zero for models that are linear in their parameters.
  double distance = 0.0;
  if constexpr (std::is_same_v<M, Network>)
    distance = trained_kernel_distance(model, w0, result.w, data, kernel_images);
  return {{"step", static_cast<double>(step)},
          {"epochs", static_cast<double>(result.epochs)},
          {"arrived", result.ok() ? 1.0 : 0.0},
          {"train_error", result.final.error()},
          {"test_error", evaluate(model, result.w, test).error()},
          {"kernel_distance", distance}};
}

const std::vector<std::string> outputs = {"step", "epochs", "arrived", "train_error", "test_error", "kernel_distance"};

NamedNumbers network_numbers(const Fig6cOptions& options, const Images& images, const Cell& cell) {
  const Index repetition = cell.integer("seed");
  const double alpha = cell["alpha"];
  const Data data = training_images(options, images, repetition);
  const Network net = network(options, images);
  const Vector<float> w0 = initial_parameters(options, net, repetition, alpha);
  const bool is_tangent = cell.integer("tangent") != 0;
  const std::string name = std::string(is_tangent ? "tangent_" : "network_")
                               .append(short_number(alpha))
                               .append("_")
                               .append(std::to_string(repetition));
  // At large scales the gradients, bounded in the outputs, move the weights by the same part of their size at the same
  // step, and a step that leaves the network intact is the same at all scales. From small ones the tangent kernel grows
  // to that of scale 1 or so.
  if (!is_tangent) {
    StepChoice steps;
    if (alpha < 1.0) steps.growth_at = initial_parameters(options, net, repetition, 1.0);
    return train(options, net, w0, data, images.test, repetition, steps, name);
  }
  // A step moves the outputs by about alpha^2 step: at small scales the tangent model can take, and needs, steps that
  // would destroy the network, whose weights grow.
  StepChoice steps{.largest = std::max(1.0, 0.25 / (alpha * alpha))};
  if (options.linear_step > 0.0) steps = perceptron_steps(std::max(1.0, options.linear_step / (alpha * alpha)));
  return train(options, Linearized<Network>(net, w0), w0, data, images.test, repetition, steps, name);
}

/// The images as the first layer at its initialization sees them.
Data hidden_features(const Network& net, const Vector<float>& w0, const Data& data) {
  Matrix<float> features = (net.weights(w0, 1).transpose() * data.columns()).cwiseMax(0.0F);
  return Data::from_columns(std::move(features), data.labels(), data.num_classes());
}

/// The scale of frozen features is that of the step: once for all alpha, from the zero function.
NamedNumbers last_layer_numbers(const Fig6cOptions& options, const Images& images, const Cell& cell) {
  const Index repetition = cell.integer("seed");
  const Network net = network(options, images);
  const Vector<float> w0 = initial_parameters(options, net, repetition, 1.0);
  const Data train_data = hidden_features(net, w0, training_images(options, images, repetition));
  const Data test = hidden_features(net, w0, images.test);
  const LinearClassifier<float> last(options.width, images.train.num_classes());
  const Vector<float> zero = Vector<float>::Zero(last.num_parameters());
  StepChoice steps;
  if (options.linear_step > 0.0) steps = perceptron_steps(options.linear_step);
  return train(options, last, zero, train_data, test, repetition, steps, "last_layer_" + std::to_string(repetition));
}

/// The network near its gradient flow: with the steps of the others each network leaves its kernel, at any scale. Steps
/// that are so small need ten times the epochs, so that the network and its data are smaller.
NamedNumbers small_step_numbers(const Fig6cOptions& options, const Images& images, const Cell& cell) {
  Fig6cOptions smaller = options;
  const auto least = [](Index a, Index b) { return a == 0 ? b : std::min(a, b); };
  smaller.num_train = least(options.num_train, options.small_step_train);
  smaller.width = std::min(options.width, options.small_step_width);
  smaller.batch_size = std::min<Index>(options.batch_size, 32);
  smaller.momentum = 0.9;
  smaller.steps_grow = false;
  smaller.stall_epochs = 0;
  smaller.loss = std::max(options.loss, 0.01);
  smaller.max_epochs = std::min<Index>(options.max_epochs, 400);
  smaller.trial_epochs = std::max<Index>(options.trial_epochs, 10);
  const double alpha = cell["alpha"];
  const Network net = network(smaller, images);
  return train(smaller, net, initial_parameters(smaller, net, 0, alpha), training_images(smaller, images, 0),
               images.test, 0, {.part = small_part}, "small_steps_" + short_number(alpha));
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

MeanError mean_error(const std::vector<double>& values, Index num_test) {
  MeanError result;
  result.mean = mean(values);
  const auto count = static_cast<double>(values.size());
  double squares = 0.0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  const double of_seeds = values.size() > 1 ? std::sqrt(squares / (count - 1.0) / count) : 0.0;
  const double of_images = std::sqrt(result.mean * (1.0 - result.mean) / static_cast<double>(num_test));
  result.standard_error = std::max(of_seeds, of_images);
  return result;
}

/// The alpha at which the error is half-way between two levels, between neighbours linear in its logarithm.
double crossing(const std::vector<Fig6cPoint>& points, double level) {
  for (std::size_t j = 1; j < points.size(); ++j) {
    const double before = points[j - 1].test_error.mean;
    const double after = points[j].test_error.mean;
    if (before < level && after >= level)
      return points[j - 1].alpha * std::pow(points[j].alpha / points[j - 1].alpha, (level - before) / (after - before));
  }
  return std::numeric_limits<double>::quiet_NaN();
}

/// Per repetition, the mean test error of the networks whose alpha is chosen; those share images and initialization, so
/// that only differences within a repetition are free of their luck.
template <class Chosen>
std::vector<double> error_by_seed(const SweepResult& networks, int num_seeds, const Chosen& chosen) {
  std::vector<std::vector<double>> errors(static_cast<std::size_t>(num_seeds));
  for (const SweepRow& row : networks.rows()) {
    const Cell cell = networks.cell(row);
    if (cell.integer("tangent") == 0 && chosen(cell["alpha"]))
      errors[static_cast<std::size_t>(cell.integer("seed"))].push_back(networks.value(row, "test_error"));
  }
  std::vector<double> means;
  for (const auto& of_seed : errors)
    if (!of_seed.empty()) means.push_back(mean(of_seed));
  return means;
}

/// The test error rises where the kernel distance falls.
void check_small_steps(Fig6c& figure) {
  double largest_train_error = 0.0;
  std::vector<double> errors[2] = {};
  std::vector<double> distances[2] = {};
  for (const Fig6cPoint& point : figure.points) {
    largest_train_error = std::max(largest_train_error, point.small_step_train_error);
    if (point.alpha > 2.0 && point.alpha < 50.0) continue;
    const std::size_t is_large = point.alpha > 2.0 ? 1 : 0;
    errors[is_large].push_back(point.small_step_test_error);
    distances[is_large].push_back(point.small_step_kernel_distance);
  }
  auto& claims = figure.claims;
  claims.push_back(claim_at_most("fig6c", "with small steps, every network fits its images: largest train error",
                                 largest_train_error, 0.0));
  claims.push_back(claim_at_most("fig6c",
                                 "with small steps, kernel distance at alpha >= 50 over that at alpha <= 2 (means): it "
                                 "falls",
                                 mean(distances[1]) / mean(distances[0]), 0.8));
  claims.push_back(claim_at_least("fig6c", "where the test error rises: the same ratio of test errors",
                                  mean(errors[1]) / mean(errors[0]), 1.2));
}

/// Trainings that ended before they arrived.
Index count_early(const SweepResult& sweep) {
  const auto arrived = sweep.values("arrived");
  return std::count(arrived.begin(), arrived.end(), 0.0);
}

/// The paper's test errors, where this is its experiment.
void check_protocol(const SweepResult& last_layer, double small_error, double large_error, Fig6c& figure) {
  // In percent. An error of 1.4 to 2.7 % has a standard error of 0.12 to 0.16 % on 10 000 images, here and in the paper
  // (they are the same ones, which brings the two nearer), beside that of initialization, order and steps.
  constexpr double apart = 0.4;
  const auto add = [&](const std::string& whose, double error, double in_paper) {
    figure.claims.push_back(claim_between(
        "fig6c", "test error on MNIST in percent, " + whose + " (the paper: " + short_number(in_paper) + ")",
        100.0 * error, in_paper - apart, in_paper + apart));
  };
  add("networks at alpha <= 2", small_error, paper_small_error);
  add("networks at alpha >= 50", large_error, paper_large_error);
  add("last layer only", figure.last_layer_test_error.mean, paper_last_layer_error);
  // Of fewer units it does not fit the images at all.
  figure.claims.push_back(claim_at_most("fig6c", "last layers of which the same is true",
                                        static_cast<double>(count_early(last_layer)), 0.0));
}

void check(const Fig6cOptions& options, const Fig6cSweeps& sweeps, Fig6c& figure) {
  const SweepResult& networks = sweeps.networks;
  double largest_train_error = 0.0;
  double above_kernel = std::numeric_limits<double>::infinity();
  for (const Fig6cPoint& point : figure.points) {
    largest_train_error = std::max(largest_train_error, point.train_error);
    if (point.alpha < 50.0) continue;
    for (const MeanError& kernel : {point.kernel_test_error, figure.last_layer_test_error})
      above_kernel = std::min(above_kernel, (point.test_error.mean - kernel.mean) /
                                                std::hypot(point.test_error.standard_error, kernel.standard_error));
  }
  auto& claims = figure.claims;
  claims.push_back(claim_at_most("fig6c", "every network fits the training images: largest mean train error",
                                 largest_train_error, 0.0));
  claims.push_back(claim_at_most(
      "fig6c",
      "networks, with small steps, too, and tangent models whose training ended before every image was right "
      "and the mean loss as small as asked for",
      static_cast<double>(count_early(networks) + count_early(sweeps.small_steps)), 0.0));
  const auto small = error_by_seed(networks, options.num_seeds, [](double alpha) { return alpha <= 2.0; });
  const auto large = error_by_seed(networks, options.num_seeds, [](double alpha) { return alpha >= 50.0; });
  if (small.empty() || large.empty()) return;
  claims.push_back(claim_at_least("fig6c",
                                  "alpha >= 50 is no better than the tangent kernel or the last layer alone: smallest "
                                  "difference of test errors, in standard errors",
                                  above_kernel, -2.0));
  double ratio = std::numeric_limits<double>::infinity();
  for (std::size_t k = 0; k < small.size(); ++k) ratio = std::min(ratio, large[k] / small[k]);
  claims.push_back(claim_at_least(
      "fig6c", "test error at alpha >= 50 over that at alpha <= 2 (means), smallest of the repetitions", ratio, 1.1));
  claims.push_back(claim_between("fig6c", "the alpha at which the test error is half-way between the two",
                                 crossing(figure.points, 0.5 * (mean(small) + mean(large))), 2.0, 50.0));
  if (sweeps.is_protocol) check_protocol(sweeps.last_layer, mean(small), mean(large), figure);
  check_small_steps(figure);
  // The steps that fit the images in some dozens of epochs move the weights by the same part of their size at any
  // scale: the network does better at small ones, but is in the kernel regime at none.
  double closest = 1.0;
  for (const Fig6cPoint& point : figure.points) closest = std::min(closest, point.kernel_distance);
  claims.push_back(claim_at_least(
      "fig6c", "SGD with these steps moves the tangent kernel at every scale: smallest kernel distance", closest, 0.2));
}

}  // namespace

Fig6cOptions fig6c_options(Effort effort) {
  Fig6cOptions options;
  if (effort == Effort::quick) {
    options.num_seeds = 2;
    options.num_train = 300;
    options.num_test = 2000;
    options.width = 100;
    options.batch_size = 32;
    options.alphas = {1, 5, 50};
  }
  if (effort == Effort::full) {
    options.num_seeds = 1;
    options.num_train = 0;
    options.width = paper_width;
    options.batch_size = paper_batch;
    options.momentum = 0.0;
    options.loss = paper_loss;
    // Equal steps would take thousands of epochs to that loss: it falls like 1 / epoch.
    options.steps_grow = true;
    options.stall_epochs = 50;
    options.linear_step = 64.0;
    options.max_epochs = 500;
    options.trial_epochs = 2;
    options.hopeless_batches = 24;
    options.max_retries = 3;
  }
  return options;
}

double fig6c_seconds_of_epoch(const Fig6cOptions& options) {
  const Images images = read_images(options);
  const Network net = network(options, images);
  const Index count = options.num_train > 0 ? options.num_train : images.train.num_samples();
  const double seconds =
      seconds_of_epoch(net, initial_parameters(options, net, 0, 1.0), images.train, count, options.batch_size);
  // The tangent model takes a Jacobian-vector product more.
  return seconds * (1.0 + 5.0 / 3.0) * static_cast<double>(options.alphas.size()) * options.num_seeds;
}

std::string fig6c_data(const Fig6cOptions& options) {
  const std::string count = options.num_train == 0 ? "all" : std::to_string(options.num_train);
  return "Images and labels of " + quoted(options.data) + ": " + count + " for training, " +
         (options.num_test == 0 ? "all" : "the first " + std::to_string(options.num_test)) + " for the test; " +
         std::to_string(options.width) +
         " hidden units, weights alpha N(0, 2/n_in), cross-entropy, SGD with batches of " +
         std::to_string(options.batch_size) + " and momentum " + short_number(options.momentum) +
         ", until every training image is right and the mean loss is below " + short_number(options.loss) + "." +
         (options.steps_grow ? " The steps grow as the mean loss becomes small." : "") +
         (options.linear_step > 0.0
              ? " Tangent models take steps of " + short_number(options.linear_step) +
                    " / alpha^2, at least 1, the last layer of " + short_number(options.linear_step) + "."
              : "") +
         " The paper's test errors, of all of MNIST and " + std::to_string(paper_width) +
         " units: " + short_number(paper_small_error) + " % at alpha <= 2, " + short_number(paper_large_error) +
         " % at alpha >= 50, " + short_number(paper_last_layer_error) +
         " % for the last layer only. With a tenth of the step: " + std::to_string(options.small_step_train) +
         " of these images, " + std::to_string(std::min(options.width, options.small_step_width)) + " units.";
}

Fig6cSweeps run_fig6c_sweeps(const Fig6cOptions& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(options.width >= 1, "width must be at least 1, got ", options.width);
  require(options.num_train >= 0 && options.num_test >= 0, "num_train and num_test must not be negative, got ",
          options.num_train, " and ", options.num_test);
  for (const double alpha : options.alphas) require(alpha > 0.0, "--alphas must be positive, got ", alpha);
  const Images images = read_images(options);
  const std::uint64_t train = detail::fingerprint(images.train);
  const std::map<std::string, std::string> settings = {{"train", std::to_string(train)},
                                                       {"test", std::to_string(detail::fingerprint(images.test))},
                                                       {"seed", std::to_string(options.seed)},
                                                       {"num_train", std::to_string(options.num_train)},
                                                       {"width", std::to_string(options.width)},
                                                       {"batch_size", std::to_string(options.batch_size)},
                                                       {"momentum", exact_number(options.momentum)},
                                                       {"loss", exact_number(options.loss)},
                                                       {"max_epochs", std::to_string(options.max_epochs)},
                                                       {"steps_grow", options.steps_grow ? "1" : "0"},
                                                       {"stall_epochs", std::to_string(options.stall_epochs)},
                                                       {"linear_step", exact_number(options.linear_step)},
                                                       {"hopeless_batches", std::to_string(options.hopeless_batches)},
                                                       {"max_retries", std::to_string(options.max_retries)},
                                                       {"trial_epochs", std::to_string(options.trial_epochs)}};
  SweepResult networks = runner.run(
      {"fig6c_networks",
       Grid({Axis{"alpha", options.alphas}, index_axis("tangent", {0, 1}), seed_axis(options.num_seeds)}), outputs,
       settings},
      [&](const Cell& cell) { return network_numbers(options, images, cell); },
      // The tangent model approaches small losses slowly where alpha is small, unless with the steps of a perceptron.
      [&](const Cell& cell) {
        if (cell["tangent"] == 0.0) return 1.0;
        return options.linear_step > 0.0 ? 0.9 : 1.5 + 2.0 / cell["alpha"];
      });
  SweepResult last_layer = runner.run({"fig6c_last_layer", Grid({seed_axis(options.num_seeds)}), outputs, settings},
                                      [&](const Cell& cell) { return last_layer_numbers(options, images, cell); });
  std::map<std::string, std::string> small_settings = settings;
  small_settings["small_step_train"] = std::to_string(options.small_step_train);
  small_settings["small_step_width"] = std::to_string(options.small_step_width);
  SweepResult small_steps =
      runner.run({"fig6c_small_steps", Grid({Axis{"alpha", options.alphas}}), outputs, small_settings},
                 [&](const Cell& cell) { return small_step_numbers(options, images, cell); });
  const bool is_protocol = train == mnist_fingerprint && images.test.num_samples() == 10'000 &&
                           (options.num_train == 0 || options.num_train >= images.train.num_samples()) &&
                           options.width == paper_width && options.batch_size == paper_batch &&
                           options.momentum == 0.0 && options.loss <= paper_loss;
  return {std::move(networks), std::move(last_layer), std::move(small_steps), is_protocol};
}

Fig6c make_fig6c(const Fig6cOptions& options, const Fig6cSweeps& sweeps) {
  static_cast<void>(sweeps.networks.require_ok());
  static_cast<void>(sweeps.last_layer.require_ok());
  static_cast<void>(sweeps.small_steps.require_ok());
  const Index num_test = options.num_test > 0 ? options.num_test : 10'000;
  Fig6c figure;
  for (const double alpha : options.alphas) {
    const auto values = [&](const char* output, double tangent) {
      return sweeps.networks.values(output, {{"alpha", alpha}, {"tangent", tangent}});
    };
    Fig6cPoint point;
    point.alpha = alpha;
    point.step = quantile(values("step", 0), 0.5);
    point.epochs = mean(values("epochs", 0));
    point.train_error = mean(values("train_error", 0));
    point.test_error = mean_error(values("test_error", 0), num_test);
    point.kernel_train_error = mean(values("train_error", 1));
    point.kernel_test_error = mean_error(values("test_error", 1), num_test);
    point.kernel_distance = mean(values("kernel_distance", 0));
    const auto with_small_steps = [&](const char* output) {
      return sweeps.small_steps.values(output, {{"alpha", alpha}}).front();
    };
    point.small_step = with_small_steps("step");
    point.small_step_epochs = with_small_steps("epochs");
    point.small_step_train_error = with_small_steps("train_error");
    point.small_step_test_error = with_small_steps("test_error");
    point.small_step_kernel_distance = with_small_steps("kernel_distance");
    figure.points.push_back(point);
  }
  figure.last_layer_train_error = mean(sweeps.last_layer.values("train_error"));
  figure.last_layer_test_error = mean_error(sweeps.last_layer.values("test_error"), num_test);
  check(options, sweeps, figure);
  return figure;
}

void write_fig6c_tables(const Fig6c& figure, const std::filesystem::path& folder) {
  CsvWriter table({"alpha", "step", "epochs", "train_error", "test_error", "kernel_test_error", "test_standard_error",
                   "kernel_standard_error", "kernel_train_error", "last_layer_test_error", "last_layer_standard_error",
                   "last_layer_train_error", "kernel_distance", "small_step", "small_step_epochs",
                   "small_step_train_error", "small_step_test_error", "small_step_kernel_distance"});
  for (const Fig6cPoint& point : figure.points)
    table.row({point.alpha, point.step, point.epochs, point.train_error, point.test_error.mean,
               point.kernel_test_error.mean, point.test_error.standard_error, point.kernel_test_error.standard_error,
               point.kernel_train_error, figure.last_layer_test_error.mean, figure.last_layer_test_error.standard_error,
               figure.last_layer_train_error, point.kernel_distance, point.small_step, point.small_step_epochs,
               point.small_step_train_error, point.small_step_test_error, point.small_step_kernel_distance});
  table.write(folder / "fig6c.csv");
}

Picture fig6c_picture() {
  Picture picture;
  picture.name = "fig6c";
  picture.width = 1080;
  picture.height = 500;
  picture.alt =
      "Left: test error against the scale alpha of the initialization. The network's error is low up to alpha = 2 and "
      "rises to the level of its tangent model at large scales; a horizontal line is the error of the last layer "
      "alone. Right: the distance of the tangent kernels before and after training. It is large at all scales; "
      "with a tenth of the steps it falls as the scale grows, and the test error rises.";
  picture.panels = panels_in_grid(2, {"fig6c", ""});
  picture.commands = R"gp(set multiplot layout 1,2
set title "(c) Test error of a wide ReLU network on images"
set xlabel "α"
set ylabel "test error (%)"
set logscale xy
set xrange [0.08:630]
set yrange [*:*] noextend
set offsets 0, 0, graph 0.08, graph 0.08
# An error of zero is drawn at 0.01 %.
percent(error) = error > 0 ? 100 * error : 0.01
set xtics 0.1,10,100 format "%g"
set ytics (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)
set key below Left reverse
set bmargin 8.5
set bars small
plot "fig6c.csv" using "alpha":(percent(column("last_layer_test_error"))) with lines lw 2 lc rgb ink title "last layer only", \
     "fig6c.csv" using "alpha":(percent(column("kernel_test_error"))):(100*column("kernel_standard_error")) with yerrorbars pt 0 lw 1.2 lc rgb vermilion notitle, \
     "fig6c.csv" using "alpha":(percent(column("kernel_test_error"))) with lines lw 1.8 dt (6,4) lc rgb vermilion title "tangent kernel", \
     "fig6c.csv" using "alpha":(percent(column("test_error"))):(100*column("test_standard_error")) with yerrorbars pt 7 ps 0.6 lw 1.4 lc rgb blue notitle, \
     "fig6c.csv" using "alpha":(percent(column("test_error"))) with lines lw 2.6 lc rgb blue title "network", \
     "fig6c.csv" using "alpha":(percent(column("small_step_test_error"))) with linespoints lw 1.6 pt 6 ps 0.6 lc rgb green title "smaller network, a tenth of the step"
set title "Distance of the tangent kernels before and after training"
set ylabel "kernel distance"
unset logscale y
set offsets
set yrange [0:1]
set ytics auto
plot "fig6c.csv" using "alpha":"kernel_distance" with linespoints lw 2.6 pt 7 ps 0.6 lc rgb blue title "network", \
     "fig6c.csv" using "alpha":"small_step_kernel_distance" with linespoints lw 1.6 pt 6 ps 0.6 lc rgb green title "smaller network, a tenth of the step"
unset multiplot
unset logscale
set bmargin -1
)gp";
  return picture;
}

}  // namespace richflow::examples
