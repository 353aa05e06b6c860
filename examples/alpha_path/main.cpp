#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>

#include "alpha_path.hpp"
#include "classes.hpp"
#include "list.hpp"
#include "options.hpp"
#include "program.hpp"
#include "report.hpp"
#include "richflow/bias/regularizer.hpp"
#include "richflow/models/diagonal.hpp"
#include "text.hpp"

namespace {

using namespace richflow::examples;

constexpr const char* program_name = "alpha_path";

struct Arguments {
  std::filesystem::path x = {};
  std::filesystem::path y = {};
  std::filesystem::path shape = {};
  std::string header = {};
  std::string index = {};
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  std::vector<int> classes = {7, 9};
  richflow::Index per_class = 100;
  richflow::Index depth = 2;
  std::optional<std::string> alpha = {};
  std::optional<std::string> log_alpha = {};
  bool simulate = false;
  bool saddles = false;
  std::string algorithm = {};
  std::optional<std::string> step = {};
  richflow::Index steps = 10'000;
  richflow::Index batch = 0;
  std::optional<std::string> noise = {};
  std::optional<std::string> momentum = {};
  std::optional<std::string> decay = {};
  std::string loss = {};
  std::string accuracy = "1e-2,1e-10,1e-100";
};

void add_options(CLI::App& app, Arguments& arguments) {
  auto* x = app.add_option("--x", arguments.x,
                           "Samples: CSV file, N rows, d columns, their names in line 1; or an NPY file, N x d");
  auto* y =
      app.add_option("--y", arguments.y, "Labels: CSV file, one column, its name in line 1, N rows; or an NPY file, N");
  x->needs(y);
  y->needs(x);
  app.add_option("--header", arguments.header,
                 "Whether line 1 of the CSV files holds names (yes, no); not given: names, and numbers are refused")
      ->check(CLI::IsMember({"yes", "no"}))
      ->needs(x);
  app.add_option(
         "--index", arguments.index,
         "Whether to drop or keep the first column of the CSV files, an index of the rows; not given: what looks "
         "like one is refused")
      ->check(CLI::IsMember({"drop", "keep"}))
      ->needs(x);
  app.add_option("--shape", arguments.shape,
                 "Shape w0 of the initialization: CSV file, one column, d rows; or an NPY file, d")
      ->needs(x);
  add_integer_option(app, "--depth", arguments.depth, 2, 1'000'000, "Depth D of the net, beta = w_+^D - w_-^D");
  auto* alpha = app.add_option("--alpha", arguments.alpha, "Initialization scales: a,b,c or from:to:count, log-spaced");
  app.add_option("--log-alpha", arguments.log_alpha, "Their natural logarithms: a,b,c or from:to:count, evenly spaced")
      ->excludes(alpha);
  auto* simulate = app.add_flag("--simulate", arguments.simulate, "Integrate the flow at every scale, too");
  auto* saddles =
      app.add_flag("--saddles", arguments.saddles,
                   "Follow the path from saddle to saddle that the flow takes as alpha tends to 0, too (saddles.csv)");
  auto* algorithm =
      app.add_option(
             "--algorithm", arguments.algorithm,
             "Run an algorithm at every scale, too (descent, sgd, label-noise, momentum, decay), and compare its "
             "end with the prediction from its effective start")
          ->check(CLI::IsMember(algorithm_names));
  app.add_option(
         "--step", arguments.step,
         "Step of the algorithm; not given: at each scale half of what is stable at the flow's limit (times 1 - "
         "momentum)")
      ->needs(algorithm);
  add_integer_option(app, "--steps", arguments.steps, 1, 1'000'000'000, "Steps of the algorithm, at most")
      ->needs(algorithm);
  add_integer_option(app, "--batch", arguments.batch, 0, 1'000'000'000,
                     "Samples of a step, each once per epoch; 0: 1 for sgd, all for the others")
      ->needs(algorithm);
  app.add_option("--noise", arguments.noise,
                 "label-noise: its standard deviation; not given: a tenth of the root mean square of y")
      ->needs(algorithm);
  app.add_option("--momentum", arguments.momentum, "momentum: m of the heavy ball, in [0, 1); not given: 0.9")
      ->needs(algorithm);
  app.add_option(
         "--decay", arguments.decay,
         "decay: lambda of L + lambda |w|^2; not given: a thousandth of 2 max |X^T y|, from which on nothing is "
         "fitted")
      ->needs(algorithm);
  auto* loss = app.add_option("--loss", arguments.loss,
                              "Classify, labels -1 and +1, under this loss (exponential, logistic): where the flow is "
                              "at each scale and accuracy, beside the margin problem; writes margins.csv (log_alpha, "
                              "log_accuracy, i, beta, margin_problem) and classes.csv in place of the other tables")
                   ->check(CLI::IsMember(loss_names))
                   ->excludes(simulate)
                   ->excludes(saddles)
                   ->excludes(algorithm);
  app.add_option("--accuracy", arguments.accuracy,
                 "Losses, a plain sum over the samples, at which to record: a,b,c; 1e-1000 is an ordinary one")
      ->needs(loss)
      ->capture_default_str();
  app.add_option("--data", arguments.data, "Without --x: folder of images in MNIST's format")
      ->excludes(x)
      ->capture_default_str();
  add_integers_option(app, "--classes", arguments.classes, 0, 1000,
                      "Without --x: the two classes of images to tell apart")
      ->excludes(x);
  add_integer_option(app, "--per-class", arguments.per_class, 1, 1'000'000'000,
                     "Without --x: training images of each class")
      ->excludes(x);
}

CsvFormat format_of(const Arguments& arguments) {
  CsvFormat format;
  if (arguments.header == "yes") format.header = CsvFormat::Header::names;
  if (arguments.header == "no") format.header = CsvFormat::Header::none;
  if (arguments.index == "drop") format.index = CsvFormat::Index::drop;
  if (arguments.index == "keep") format.index = CsvFormat::Index::keep;
  return format;
}

std::vector<richflow::Scale<>> scales_of(const Arguments& arguments) {
  std::vector<richflow::Scale<>> scales;
  if (arguments.alpha)
    for (const double alpha : parse_list("--alpha", *arguments.alpha, Spacing::logarithmic)) {
      richflow::require(alpha > 0.0, "--alpha must be positive, got ", alpha);
      scales.push_back(richflow::Scale<>::from_value(alpha));
    }
  if (arguments.log_alpha)
    for (const double log_alpha : parse_list("--log-alpha", *arguments.log_alpha, Spacing::linear))
      scales.push_back(richflow::Scale<>::from_log(log_alpha));
  return scales;
}

/// Too large a scale overflows with the shape and at the depth; the largest one does so first.
void check_scales(const Arguments& arguments, const AlphaPathProblem& problem,
                  const std::vector<richflow::Scale<>>& scales) {
  const auto largest = std::max_element(scales.begin(), scales.end(), [](auto a, auto b) { return a.log() < b.log(); });
  if (largest == scales.end()) return;
  naming_option(arguments.alpha ? "--alpha" : "--log-alpha", [&] {
    const richflow::DiagonalNet net(arguments.depth, problem.train.num_inputs());
    (void)regularizer(net, start_of(problem.shape, *largest));
  });
}

std::optional<AlgorithmOptions> algorithm_of(const Arguments& arguments, std::uint64_t seed) {
  if (arguments.algorithm.empty()) return std::nullopt;
  AlgorithmOptions options;
  const auto name = std::find(algorithm_names.begin(), algorithm_names.end(), arguments.algorithm);
  options.kind = static_cast<AlgorithmKind>(name - algorithm_names.begin());
  const auto number = [&](const char* option, const std::optional<std::string>& text, AlgorithmKind kind) {
    richflow::require(!text || options.kind == kind, option, " belongs to --algorithm ",
                      algorithm_names.at(static_cast<std::size_t>(kind)), ", not to ", arguments.algorithm);
    return text ? std::optional<double>(parse_nonnegative(option, *text)) : std::nullopt;
  };
  options.step = number("--step", arguments.step, options.kind);
  options.steps = arguments.steps;
  if (arguments.batch > 0) options.batch = arguments.batch;
  options.noise = number("--noise", arguments.noise, AlgorithmKind::label_noise);
  if (const auto momentum = number("--momentum", arguments.momentum, AlgorithmKind::momentum))
    options.momentum = *momentum;
  options.decay = number("--decay", arguments.decay, AlgorithmKind::decay);
  options.seed = seed;
  return options;
}

void print_algorithm(const AlphaPathProblem& problem, const AlphaPath& path) {
  std::printf("%s, depth %td, and the flow from its effective start\n", path.algorithm.c_str(), path.depth);
  std::printf("%10s %10s %8s %10s %12s %12s %12s %12s\n", "log alpha", "step", "steps", "loss/|y|^2", "|beta|_1",
              "prediction", "without", "sign changes");
  bool any_dead = false;
  for (const AlgorithmRow& row : path.algorithm_rows) {
    std::printf("%10.4g %10.3g %8td", row.scale.log(), row.step, row.steps);
    if (row.ok)
      std::printf(" %10.2g %12.6g %12.2g %12.2g %12td\n", row.loss, row.beta.lpNorm<1>(), row.difference, row.from_flow,
                  row.sign_changes);
    else
      std::printf("  %s\n", row.message.c_str());
    any_dead = any_dead || row.is_dead;
  }
  std::printf(
      "prediction: largest |beta - predicted| over the largest |beta|; without: the same for the flow from the run's "
      "own "
      "start.\n");
  const std::string rest = path.depth > 2
                               ? "At depth D >= 3 that attracts for every lambda, and small alpha always ends there."
                               : "At depth 2 that is the end for lambda >= 2 max |X^T y| = " +
                                     short_number(largest_useful_decay(problem.train)) + ".";
  if (any_dead) std::printf("At some scales weight decay has put the net to rest: beta = 0. %s\n", rest.c_str());
  std::fflush(stdout);
}

void print_saddles(const richflow::SaddlePath<>& saddles) {
  constexpr std::size_t most = 40;
  std::printf("%s\n%5s %14s %12s  %s\n", saddles.message.c_str(), "jump",
              saddles.depth == 2 ? "t/log(1/alpha)" : "t alpha^(D-2)", "loss", "enter (+), leave (-)");
  for (std::size_t k = 0; k < std::min(saddles.jumps.size(), most); ++k) {
    const auto& jump = saddles.jumps[k];
    std::printf("%5zu %14.6g %12.4g ", k + 1, jump.time, jump.loss);
    for (const richflow::Index i : jump.entered) std::printf(" +%td", i);
    for (const richflow::Index i : jump.left) std::printf(" -%td", i);
    std::printf("\n");
  }
  if (saddles.jumps.size() > most) std::printf("  ... (all in saddles.csv)\n");
  std::fflush(stdout);
}

void print_table(const AlphaPathProblem& problem, const AlphaPath& path) {
  std::printf("%s: N = %td, d = %td, depth %td\n", problem.name.c_str(), problem.train.num_samples(),
              problem.train.num_inputs(), path.depth);
  std::printf("%10s  %-9s %12s %12s %10s %10s%s\n", "log alpha", "road", "|beta|_1", "|beta|_2", "residual", "gap",
              problem.test ? "  test accuracy" : "");
  for (const AlphaPathRow& row : path.rows) {
    std::printf("%10.4g  %-9s %12.6g %12.6g %10.2g %10.2g", row.scale.log(), row.simulated ? "simulated" : "solved",
                row.l1, row.l2, row.primal_residual, row.duality_gap);
    if (problem.test) std::printf("  %13.4f", row.test_accuracy);
    std::printf("%s%s\n", row.ok ? "" : "  ", row.message.c_str());
  }
  if (!path.has_unique_rich_end)
    std::printf(
        "The rich end is not proved to be the only interpolator of its norm (equal columns, say): the flow's limit as "
        "alpha falls is one of them, which depends on the shape, and need not be the vertex drawn.\n");
  std::fflush(stdout);
}

/// Of data and path, for the options of either kind.
template <class Options>
std::string size_of(const AlphaPathProblem& problem, const Options& options) {
  const std::size_t num_scales =
      options.scales.empty() ? static_cast<std::size_t>(options.num_scales) : options.scales.size();
  return joined_text("N = ", problem.train.num_samples(), ", d = ", problem.train.num_inputs(), ", ", num_scales,
                     " scales");
}

/// Those of an earlier run with other options are none of this one's.
void forget_earlier_tables(const CommonOptions& common, const std::vector<std::string>& made) {
  std::vector<std::string> all = alpha_path_tables;
  all.insert(all.end(), class_path_tables.begin(), class_path_tables.end());
  remove_earlier_tables(common.out, program_name, all, made);
}

ProgramResult classify(const Arguments& arguments, const AlphaPathProblem& problem, const CommonOptions& common) {
  ClassPathOptions options;
  options.depth = arguments.depth;
  options.loss = arguments.loss == "logistic" ? richflow::MarginLoss::logistic : richflow::MarginLoss::exponential;
  options.scales = scales_of(arguments);
  options.log_losses = parse_log_list("--accuracy", arguments.accuracy);
  options.threads = common.threads;
  if (common.effort == Effort::quick) options.num_scales = 5;
  if (common.effort == Effort::full) options.num_scales = 33;
  const ClassPath path = class_path(problem, options);
  print_class_path(problem, path);
  write_class_path_tables(problem, path, common.out);
  forget_earlier_tables(common, class_path_tables);
  return ProgramResult{path.claims,
                       {class_path_picture(problem, path)},
                       class_path_tables,
                       problem.name + ", depth " + std::to_string(arguments.depth) + ", " + arguments.loss + " loss",
                       size_of(problem, options)};
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  ProgramInfo info;
  info.name = program_name;
  info.description =
      "Where gradient flow on the diagonal net of any depth ends, for your data (X, y) and any initialization scales, "
      "from the kernel to the rich regime, each with a proof of optimality. Without --x: two classes of Fashion-MNIST.";
  info.title = "Coefficient paths of a data set";
  info.paper =
      "Between the kernel and the rich regime the limit of gradient flow moves from the minimum-l2 to the minimum-l1 "
      "interpolator as alpha falls.";
  info.reduction = "73 scales of the path (241 in a full run).";
  info.figures = alpha_path_panels;
  info.add_options = [&](CLI::App& app) { add_options(app, arguments); };
  return run_program(argc, argv, info, [&](const CommonOptions& common) {
    AlphaPathOptions options;
    options.depth = arguments.depth;
    options.scales = scales_of(arguments);
    options.simulate = arguments.simulate;
    options.threads = common.threads;
    options.algorithm = algorithm_of(arguments, common.seed);
    options.saddles = arguments.saddles;
    if (common.effort == Effort::quick) options.num_scales = 25;
    if (common.effort == Effort::full) options.num_scales = 241;
    const AlphaPathProblem problem =
        arguments.x.empty() ? image_problem(arguments.data, {arguments.classes.at(0), arguments.classes.at(1)},
                                            arguments.per_class, common.seed)
                            : problem_of_files(arguments.x, arguments.y, arguments.shape, format_of(arguments));
    check_scales(arguments, problem, options.scales);
    if (!arguments.loss.empty()) return classify(arguments, problem, common);
    const AlphaPath path = naming_option<richflow::InfeasibleError>(arguments.x.empty() ? "--per-class" : "--x, --y",
                                                                    [&] { return alpha_path(problem, options); });
    print_table(problem, path);
    if (options.algorithm) print_algorithm(problem, path);
    if (path.saddles) print_saddles(*path.saddles);
    write_alpha_path_tables(problem, path, common.out);
    forget_earlier_tables(common, alpha_path_tables_of(path));
    return ProgramResult{path.claims,
                         {alpha_path_picture(problem, path)},
                         alpha_path_tables_of(path),
                         problem.name + ", depth " + std::to_string(arguments.depth),
                         size_of(problem, options)};
  });
}
