#include "fig6d_cifar10.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "csv.hpp"
#include "richflow/models/conv_network.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/sweep/grid.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/step_search.hpp"
#include "text.hpp"
#include "training.hpp"

namespace richflow::examples {

namespace {

constexpr Index kernel_images = 64;  // on which the distance of tangent kernels is measured

using Data = LabelledDataset<float>;
using Net = ConvNetwork<float>;

constexpr Index image_size = 32;

ImageProblem problem_of(const Fig6dOptions& options, const ImageFiles& files, std::uint64_t repetition) {
  return image_problem(files, {.num_train = options.num_train,
                               .num_test = options.num_test,
                               .size = image_size,
                               .seed = options.seed,
                               .stream = repetition});
}

Index used(Index asked, Index present) { return asked > 0 ? std::min(asked, present) : present; }

/// What the dense layer of the net sees of the data.
Data last_features(const Net& net, const Vector<float>& w, const Data& data) {
  return Data(net.last_features(w, data.X()), data.labels(), data.num_classes());
}

struct Outcome {
  double step = 0.0;
  double epochs = 0.0;
  double loss = 0.0;
  double train_error = 0.0;
  double test_error = 0.0;
  Vector<float> w = {};
};

/// Trains with the step of `options`, or the searched one; a step that diverges in the end is halved.
template <class Model>
Outcome train(const Model& model, const Vector<float>& w0, const Data& train_data, const Data& test_data,
              SgdOptions<float> sgd, bool searches, const TrainingFolder& folder) {
  if (searches) {
    const auto found = search_step_resumably(
        model, train_data, w0, sgd, {.largest = 1.0F, .ratio = 0.3162F, .count = 16, .trial_epochs = 6}, folder);
    require<ConvergenceError>(found.ok(), "every step diverges");
    sgd.step = found.step;
  }
  for (;; sgd.step /= 2) {
    const SgdResult<float> result = train_resumably(model, train_data, w0, sgd, folder);
    if (result.status == Status::non_finite || result.status == Status::diverged) continue;
    folder.remove();
    return {static_cast<double>(sgd.step), static_cast<double>(result.epochs),           result.records.back().loss,
            result.final.error(),          evaluate(model, result.w, test_data).error(), result.w};
  }
}

NamedNumbers cell_numbers(const Fig6dOptions& options, const ImageFiles& files, const Cell& cell) {
  const auto repetition = static_cast<std::uint64_t>(cell.integer("seed"));
  const ImageProblem problem = problem_of(options, files, repetition);
  const Net net(problem.shape, vgg11_layers(options.width), problem.train.num_classes());
  // The same shape at every scale; a stream beyond those of the data.
  RandomStream random(options.seed, (std::uint64_t{1} << 32) + repetition);
  const Vector<float> w0 = net.initial_parameters(random, Scale<float>::from_value(static_cast<float>(cell["alpha"])));

  SgdOptions<float> sgd;
  sgd.batch_size = std::min(options.batch, problem.train.num_samples());
  sgd.max_epochs = options.max_epochs;
  sgd.seed = options.seed + repetition;
  sgd.stop_loss = options.loss;
  const bool searches = options.step <= 0.0;
  if (!searches) sgd.step = static_cast<float>(options.step);
  const auto folder = [&](const std::string& model) {
    return options.saved.of(model + "_" + short_number(cell["alpha"]) + "_" + std::to_string(repetition));
  };
  const Outcome full = train(net, w0, problem.train, problem.test, sgd, searches, folder("network"));

  sgd.max_epochs = options.max_linear_epochs;
  sgd.momentum = 0.9F;  // convex problems, where it only saves time
  const Linearized<Net> tangent(net, w0);
  const Outcome linearized = train(tangent, w0, problem.train, problem.test, sgd, true, folder("linearized"));
  sgd.max_epochs = options.max_epochs;
  const Outcome last = train(LinearClassifier<float>(net.num_last_features(), net.num_outputs()),
                             Vector<float>(w0.tail(net.num_dense_weights())), last_features(net, w0, problem.train),
                             last_features(net, w0, problem.test), sgd, true, folder("last_layer"));
  return {{"step", full.step},
          {"epochs", full.epochs},
          {"loss", full.loss},
          {"train_error", full.train_error},
          {"test_error", full.test_error},
          {"kernel_train_error", last.train_error},
          {"kernel_test_error", last.test_error},
          {"linearized_train_error", linearized.train_error},
          {"linearized_test_error", linearized.test_error},
          {"kernel_distance", trained_kernel_distance(net, w0, full.w, problem.train, kernel_images)}};
}

void check(const Fig6dOptions& options, Fig6d& figure) {
  auto& claims = figure.claims;
  const Fig6dPoint& richest = figure.points.front();
  const Fig6dPoint& largest = figure.points.back();
  double worst = 0.0;
  double largest_fall = 0.0;
  double before = richest.test_error.median;
  for (const Fig6dPoint& point : figure.points) {
    worst = std::max(worst, point.train_error);
    largest_fall = std::max(largest_fall, before - point.test_error.median);
    before = point.test_error.median;
  }
  const std::string at_richest = "alpha = " + short_number(richest.alpha);
  const std::string at_largest = "alpha = " + short_number(largest.alpha);
  claims.push_back(claim_at_most("fig6d", "every net fits its training images: largest training error", worst, 0.01));
  claims.push_back(
      claim_at_least("fig6d", "the test error rises with the scale: at " + at_largest + " over that at " + at_richest,
                     largest.test_error.median / richest.test_error.median, 1.2));
  // What the test images alone leave open, between neighbours.
  const double count = static_cast<double>(options.num_test > 0 ? options.num_test : 10000);
  claims.push_back(claim_at_most("fig6d", "its largest fall between neighbours", largest_fall,
                                 std::max(0.03, 3.0 / std::sqrt(count))));
  claims.push_back(claim_at_most("fig6d", "at " + at_richest + ", test error over that of training the last layer only",
                                 richest.test_error.median / richest.kernel_test_error.median, 0.9));
  // At these scales SGD does not reach the kernel regime: what makes large scales worse is another rich solution.
  double closest = 1.0;
  for (const Fig6dPoint& point : figure.points) closest = std::min(closest, point.kernel_distance);
  claims.push_back(claim_at_least(
      "fig6d", "training moves the tangent kernel at all of these scales: smallest kernel distance", closest, 0.3));
}

}  // namespace

Fig6dOptions fig6d_options(Effort effort) {
  Fig6dOptions options;
  if (effort == Effort::quick) {
    options.num_seeds = 1;
    options.alphas = {1.0, 1.5};
    options.num_train = 200;
    options.num_test = 1000;
    options.max_linear_epochs = 5;
  }
  if (effort == Effort::full) {
    options.num_seeds = 1;
    options.num_train = 0;
    options.width = 64;
    options.batch = 128;
    options.step = 1e-4;
    options.max_epochs = 2000;
    options.loss = 0.0;
    options.max_linear_epochs = 2000;
  }
  return options;
}

double fig6d_estimate(const Fig6dOptions& options) {
  const ImageProblem problem = problem_of(options, read_image_files(options.data, options.images_per_file), 0);
  const Net net(problem.shape, vgg11_layers(options.width), problem.train.num_classes());
  RandomStream random(options.seed);
  const Vector<float> w = net.initial_parameters(random, Scale<float>::from_value(1.0F));
  // The linearized net takes a Jacobian-vector product more: twice a forward, two thirds of the whole.
  const double epochs =
      static_cast<double>(options.max_epochs) + 5.0 / 3.0 * static_cast<double>(options.max_linear_epochs);
  return seconds_of_epoch(net, w, problem.train, problem.train.num_samples(), options.batch) * epochs *
         static_cast<double>(options.alphas.size()) * options.num_seeds;
}

SweepResult run_fig6d_sweep(const Fig6dOptions& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(!options.alphas.empty(), "alphas must not be empty");
  require(options.batch >= 1, "batch must be at least 1, got ", options.batch);
  const ImageFiles files = read_image_files(options.data, options.images_per_file);
  const std::map<std::string, std::string> settings = {{"seed", std::to_string(options.seed)},
                                                       {"data", std::to_string(fingerprint(files))},
                                                       {"num_train", std::to_string(options.num_train)},
                                                       {"num_test", std::to_string(options.num_test)},
                                                       {"width", std::to_string(options.width)},
                                                       {"batch", std::to_string(options.batch)},
                                                       {"step", exact_number(options.step)},
                                                       {"max_epochs", std::to_string(options.max_epochs)},
                                                       {"max_linear_epochs", std::to_string(options.max_linear_epochs)},
                                                       {"loss", exact_number(options.loss)}};
  return runner.run({"fig6d",
                     Grid({Axis{"alpha", options.alphas}, seed_axis(options.num_seeds)}),
                     {"step", "epochs", "loss", "train_error", "test_error", "kernel_train_error", "kernel_test_error",
                      "linearized_train_error", "linearized_test_error", "kernel_distance"},
                     settings},
                    [&](const Cell& cell) { return cell_numbers(options, files, cell); });
}

Fig6d make_fig6d(const Fig6dOptions& options, const SweepResult& sweep) {
  static_cast<void>(sweep.require_ok());
  Fig6d figure;
  const ImageFiles files = read_image_files(options.data, options.images_per_file);
  figure.data = files.name + ", " + std::to_string(used(options.num_train, files.train.num_images)) + " training and " +
                std::to_string(used(options.num_test, files.test.num_images)) + " test images, " +
                std::to_string(options.width) + " channels in the first layer";
  for (const double alpha : options.alphas) {
    const auto values = [&](const char* output) {
      std::vector<double> found;
      for (const SweepRow& row : sweep.rows())
        if (sweep.cell(row)["alpha"] == alpha) found.push_back(sweep.value(row, output));
      return found;
    };
    Fig6dPoint point;
    point.alpha = alpha;
    point.step = quantile(values("step"), 0.5);
    point.epochs = quantile(values("epochs"), 0.5);
    point.loss = quantile(values("loss"), 0.5);
    point.train_error = quantile(values("train_error"), 1.0);
    point.test_error = quartiles(values("test_error"));
    point.kernel_train_error = quantile(values("kernel_train_error"), 0.5);
    point.kernel_test_error = quartiles(values("kernel_test_error"));
    point.linearized_test_error = quartiles(values("linearized_test_error"));
    point.linearized_train_error = quantile(values("linearized_train_error"), 0.5);
    point.kernel_distance = quantile(values("kernel_distance"), 0.5);
    figure.points.push_back(point);
  }
  check(options, figure);
  return figure;
}

void write_fig6d_table(const Fig6d& figure, const std::filesystem::path& folder) {
  CsvWriter table({"alpha", "step", "epochs", "loss", "train_error", "test_error", "test_error_q25", "test_error_q75",
                   "kernel_train_error", "kernel_test_error", "linearized_train_error", "linearized_test_error",
                   "kernel_distance"});
  for (const Fig6dPoint& point : figure.points)
    table.row({point.alpha, point.step, point.epochs, point.loss, point.train_error, point.test_error.median,
               point.test_error.q25, point.test_error.q75, point.kernel_train_error, point.kernel_test_error.median,
               point.linearized_train_error, point.linearized_test_error.median, point.kernel_distance});
  table.write(folder / "fig6d.csv");
}

Picture fig6d_picture() {
  Picture picture;
  picture.name = "fig6d";
  picture.width = 1080;
  picture.height = 480;
  picture.alt =
      "Left: test error of a convolutional network against the scale alpha of its initialization, rising with it, "
      "beside that of training its last layer only and that of the network linearized at its initialization. Right: "
      "the distance of the tangent kernels before and after training, which is large at all of them.";
  picture.panels = panels_in_grid(2, {"fig6d", ""});
  picture.commands = R"gp(set multiplot layout 1,2
set title "(d) VGG11-like network: error on test images"
set xlabel "α"
set ylabel "test error"
set yrange [0:*]
set key right bottom Left reverse
plot "fig6d.csv" using "alpha":"test_error_q25":"test_error_q75" with filledcurves fs transparent solid 0.15 lc rgb blue notitle, \
     "fig6d.csv" using "alpha":"test_error" with linespoints lw 2.6 pt 7 lc rgb blue title "network", \
     "fig6d.csv" using "alpha":"kernel_test_error" with lines lw 2.2 lc rgb ink title "last layer only", \
     "fig6d.csv" using "alpha":"linearized_test_error" with lines lw 2.2 dt (6,4) lc rgb vermilion title "linearized network"
set title "Distance of the tangent kernels before and after training"
set ylabel "kernel distance"
set yrange [0:1]
unset key
plot "fig6d.csv" using "alpha":"kernel_distance" with linespoints lw 2.6 pt 7 lc rgb blue
unset multiplot
)gp";
  return picture;
}

}  // namespace richflow::examples
