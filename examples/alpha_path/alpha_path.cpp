#include "alpha_path.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "csv.hpp"
#include "files.hpp"
#include "idx.hpp"
#include "list.hpp"
#include "npy.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "richflow/bias/regularizer.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/regularizers/norms.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Images `which` as rows, pixels in [0, 1]; labels -1 and +1 for the two classes.
Dataset<> dataset_of(const LabelledImages& images, const std::vector<Index>& which, int first_class) {
  const Index d = images.height * images.width;
  Matrix<double> X(static_cast<Index>(which.size()), d);
  Vector<double> y(X.rows());
  for (Index n = 0; n < X.rows(); ++n) {
    const Index image = which[static_cast<std::size_t>(n)];
    for (Index j = 0; j < d; ++j) X(n, j) = images.pixels[static_cast<std::size_t>(image * d + j)] / 255.0;
    y[n] = images.labels[static_cast<std::size_t>(image)] == first_class ? -1.0 : 1.0;
  }
  return Dataset(std::move(X), std::move(y));
}

std::vector<Index> images_of_class(const LabelledImages& images, int label) {
  std::vector<Index> which;
  for (Index n = 0; n < images.num_images; ++n)
    if (images.labels[static_cast<std::size_t>(n)] == label) which.push_back(n);
  return which;
}

Hypentropy<> hypentropy_of(const AlphaPathProblem& problem, Scale<> scale) {
  return problem.shape ? Hypentropy<>::shaped(*problem.shape, scale)
                       : Hypentropy<>::uniform(problem.train.num_inputs(), scale);
}

DepthHypentropy<> depth_hypentropy_of(const AlphaPathProblem& problem, Index depth, Scale<> scale) {
  return problem.shape ? DepthHypentropy<>::shaped(depth, *problem.shape, scale)
                       : DepthHypentropy<>::uniform(depth, problem.train.num_inputs(), scale);
}

/// w0 to this power, elementwise, up to a common factor: w0^99 need not be representable. Only where there is a shape.
Vector<double> relative_shape_power(const AlphaPathProblem& problem, Index exponent) {
  const Vector<double> logs = static_cast<double>(exponent) * problem.shape->array().log().matrix();
  Vector<double> power = (logs.array() - logs.maxCoeff()).exp();
  require(power.minCoeff() >= std::numeric_limits<double>::min(),
          "--shape: the entries of the shape differ so much that their ", exponent < 0 ? "inverse powers" : "powers",
          " ", exponent, " differ by more than the range of numbers: from ", problem.shape->minCoeff(), " to ",
          problem.shape->maxCoeff());
  return power;
}

double accuracy(const AlphaPathProblem& problem, const Vector<double>& beta) {
  if (!problem.test) return nan;
  const Vector<double> prediction = problem.test->X() * beta;
  Index right = 0;
  for (Index n = 0; n < prediction.size(); ++n)
    if (prediction[n] * problem.test->y()[n] > 0.0) ++right;
  return static_cast<double>(right) / static_cast<double>(prediction.size());
}

/// From well inside the kernel regime, (alpha w0)^D several times the kernel solution, downwards. At depth 2 the
/// minimizer approaches its rich end as 1 / log(1 / alpha) and no scale is too small. Beyond it does so as alpha^(D-2),
/// which is also the room that the dual variables keep from their bounds: e^-12 is rich to five digits, and leaves the
/// integrated flow ten.
std::vector<Scale<>> default_scales(const AlphaPathProblem& problem, Index depth, const Vector<double>& kernel_end,
                                    int count) {
  Vector<double> log_size = kernel_end.cwiseAbs().array().log();
  if (problem.shape) log_size -= static_cast<double>(depth) * problem.shape->array().log().matrix();
  const double largest = log_size.maxCoeff();
  const double folds = std::isfinite(largest) ? std::ceil(0.5 * (std::log(2.0) + largest) + 1.0) : 1.0;
  const double top = 2.0 * folds / static_cast<double>(depth);
  const double span = depth == 2 ? 24.0 : 12.0 / static_cast<double>(depth - 2);
  std::vector<Scale<>> scales;
  for (const double log_alpha : spaced(top, top - span, count, Spacing::linear))
    scales.push_back(Scale<>::from_log(log_alpha));
  return scales;
}

void sort_and_deduplicate(std::vector<Scale<>>& scales) {
  std::sort(scales.begin(), scales.end(), [](Scale<> a, Scale<> b) { return a.log() > b.log(); });
  scales.erase(std::unique(scales.begin(), scales.end()), scales.end());
}

void describe(const AlphaPathProblem& problem, const Certificate<>& certificate, AlphaPathRow& row) {
  row.l1 = l1_norm(row.beta);
  row.l2 = l2_norm(row.beta);
  row.primal_residual = certificate.primal_residual;
  row.kkt_residual = certificate.kkt_residual;
  row.duality_gap = certificate.duality_gap;
  row.test_accuracy = accuracy(problem, row.beta);
}

template <class Mirror>
AlphaPathRow solve(const AlphaPathProblem& problem, MirrorPath<Mirror>& path, Scale<> scale) {
  const Stopwatch watch;
  AlphaPathRow row;
  MinimizerResult<> result = path.solve(scale);
  row.seconds = watch.seconds();
  row.scale = scale;
  row.beta = std::move(result.beta);
  row.newton_steps = result.newton_steps;
  row.ok = result.ok();
  if (!row.ok)
    row.message = "the solver stopped at relative residual " + short_number(result.certificate.primal_residual);
  describe(problem, result.certificate, row);
  return row;
}

/// The flow until the loss is 1e-16 of |y|^2: a residual of 1e-8 of |y|. At this tolerance the time is up to half too
/// late; at 1e-4 it is good to 1e-3, with some four times the steps. The end of the dual flow, where X beta = y and
/// grad Q is in the row space of X, does not depend on it.
AlphaPathRow follow(const AlphaPathProblem& problem, Index depth, Scale<> scale) {
  const Stopwatch watch;
  AlphaPathRow row;
  row.scale = scale;
  row.simulated = true;
  const Dataset<>& data = problem.train;
  const double loss = std::max(1e-16 * data.y().squaredNorm(), std::numeric_limits<double>::min());
  const DiagonalNet<double> net(depth, data.num_inputs());
  const Start start = start_of(problem.shape, scale);
  const Simulation run = simulate(net, data, start, {.loss = loss, .tolerance = 1e-2});
  row.seconds = watch.seconds();
  row.beta = run.beta;
  row.time = run.t;
  row.steps = run.steps;
  row.ok = run.ok();
  if (!row.ok) row.message = run.message;
  const ImplicitRegularizer Q = regularizer(net, start);
  // Where the weights were followed there are no dual variables.
  describe(problem, run.nu.size() > 0 ? certify(Q, data, run.beta, run.nu) : certify(Q, data, run.beta), row);
  return row;
}

/// As `follow`; what one scale throws becomes the message of its row, so that the others are not lost.
AlphaPathRow try_to_follow(const AlphaPathProblem& problem, Index depth, Scale<> scale) {
  try {
    return follow(problem, depth, scale);
  } catch (const Error& error) {
    AlphaPathRow row;
    row.scale = scale;
    row.simulated = true;
    row.ok = false;
    row.message = error.what();
    row.beta = Vector<double>::Constant(problem.train.num_inputs(), std::numeric_limits<double>::quiet_NaN());
    return row;
  }
}

/// Rows of `scales`, from the regularizer at any scale.
template <class Mirror>
std::vector<AlphaPathRow> rows_of(const AlphaPathProblem& problem, const Mirror& mirror,
                                  const std::vector<Scale<>>& scales, const AlphaPathOptions& options) {
  MirrorPath<Mirror> solver(problem.train, mirror);
  const std::size_t stride = options.simulate ? 2 : 1;
  std::vector<AlphaPathRow> rows(stride * scales.size());
  Progress progress("alpha_path", static_cast<double>(rows.size()));
  for (std::size_t k = 0; k < scales.size(); ++k) {
    rows[stride * k] = solve(problem, solver, scales[k]);
    progress.finish();
  }
  if (options.simulate) {
    parallel_for(static_cast<Index>(scales.size()),
                 [&](Index k) {
                   const auto slot = static_cast<std::size_t>(k);
                   rows[2 * slot + 1] = try_to_follow(problem, options.depth, scales[slot]);
                   progress.finish();
                 },
                 {.threads = options.threads});
  }
  return rows;
}

void check(const AlphaPathOptions& options, AlphaPath& path) {
  double residual = 0.0, gap = 0.0, difference = 0.0;
  bool all_solved = true, all_simulated = true;
  const Vector<double>* solved = nullptr;
  for (const AlphaPathRow& row : path.rows) {
    if (row.simulated) {
      all_simulated = all_simulated && row.ok;
      const double size = std::max(solved->norm(), std::numeric_limits<double>::min());
      difference = std::max(difference, (row.beta - *solved).norm() / size);
    } else {
      all_solved = all_solved && row.ok;
      residual = std::max(residual, row.primal_residual);
      gap = std::max(gap, std::abs(row.duality_gap));
      solved = &row.beta;
    }
  }
  const auto add = [&](const char* text, double measured, double bound, bool complete, const char* otherwise) {
    Claim claim =
        claim_at_most("alpha_path", "at depth " + std::to_string(options.depth) + " " + text, measured, bound);
    if (!complete) claim.claim += otherwise;
    claim.holds = claim.holds && complete;
    path.claims.push_back(claim);
  };
  const char* unsolved = " (some scales were not solved)";
  add("every scale fits the data: largest relative residual", residual, 1e-11, all_solved, unsolved);
  add("every scale is proved optimal: largest relative duality gap", gap, 1e-9, all_solved, unsolved);
  if (options.simulate)
    add("the integrated flow ends where theory says: largest relative distance", difference, 1e-5, all_simulated,
        " (some integrations did not reach their loss)");
}

/// The algorithm at every scale of the path.
void add_algorithm(const AlphaPathProblem& problem, const AlphaPathOptions& options, AlphaPath& path) {
  const AlgorithmOptions& algorithm = *options.algorithm;
  path.algorithm = describe(algorithm, problem.train);
  std::vector<const AlphaPathRow*> solved;
  for (const AlphaPathRow& row : path.rows)
    if (!row.simulated && row.beta.size() > 0) solved.push_back(&row);
  path.algorithm_rows.resize(solved.size());
  Progress progress(path.algorithm, static_cast<double>(solved.size()));
  parallel_for(static_cast<Index>(solved.size()),
               [&](Index k) {
                 const auto slot = static_cast<std::size_t>(k);
                 path.algorithm_rows[slot] = run_algorithm(problem.train, problem.shape, options.depth,
                                                           solved[slot]->scale, solved[slot]->beta, algorithm);
                 progress.finish();
               },
               {.threads = options.threads});
  double difference = 0.0;
  std::size_t predicted = 0;
  for (const AlgorithmRow& row : path.algorithm_rows)
    if (row.ok) {
      ++predicted;
      difference = std::max(difference, row.difference);
    }
  const bool is_step_too_large = algorithm.step && path.algorithm_rows.back().message.starts_with("diverged");
  if (predicted == 0)
    throw ArgumentError(
        (is_step_too_large ? "--step: " : "--algorithm: ") + path.algorithm +
        " has no end to compare at any scale: at log alpha = " + short_number(path.algorithm_rows.back().scale.log()) +
        " " + path.algorithm_rows.back().message);
  std::string text = "at depth " + std::to_string(options.depth) +
                     " the prediction from the effective start meets the run (" + path.algorithm +
                     "): largest relative difference";
  if (predicted < path.algorithm_rows.size())
    text += " at the " + std::to_string(predicted) + " of " + std::to_string(path.algorithm_rows.size()) +
            " scales where there is one";
  path.claims.push_back(claim_at_most("alpha_path", text, difference, 1e-8));
}

/// The path from saddle to saddle; its end is the rich end where that is unique.
void add_saddles(const AlphaPathProblem& problem, AlphaPath& path) {
  const Scale any = Scale<>::from_log(-1.0);
  path.saddles = saddle_path(DiagonalNet<double>(path.depth, problem.train.num_inputs()), problem.train,
                             start_of(problem.shape, any));
  const std::string text = "at depth " + std::to_string(path.depth) + " the path from saddle to saddle ends ";
  Claim proved = claim_at_most("alpha_path", text + "at the least norm: relative duality gap",
                               std::abs(path.saddles->certificate.duality_gap), 1e-11);
  proved.holds = proved.holds && path.saddles->ok() && path.saddles->fits;
  if (!path.saddles->ok()) proved.claim += " (" + path.saddles->message + ")";
  path.claims.push_back(proved);
  if (path.has_unique_rich_end)
    path.claims.push_back(claim_at_most("alpha_path", text + "at the rich end: relative distance",
                                        (path.saddles->beta - path.rich_end).norm() /
                                            std::max(path.rich_end.norm(), std::numeric_limits<double>::min()),
                                        1e-8));
}

}  // namespace

double test_accuracy(const AlphaPathProblem& problem, const Vector<double>& beta) { return accuracy(problem, beta); }

AlphaPathProblem image_problem(const std::filesystem::path& folder, std::pair<int, int> classes, Index per_class,
                               std::uint64_t seed) {
  const auto [first, second] = classes;
  require(first != second && std::min(first, second) >= 0 && std::max(first, second) <= 9,
          "--classes: two different classes from 0 to 9 are needed, got ", first, " and ", second);
  const LabelledImages train = read_labelled_images(folder, Part::train);
  const LabelledImages test = read_labelled_images(folder, Part::test);
  require<FileError>(train.height == test.height && train.width == test.width, "training and test images in '",
                     folder.string(), "' differ in size");
  std::vector<Index> train_images, test_images;
  for (const int label : {first, second}) {
    std::vector<Index> candidates = images_of_class(train, label);
    require(static_cast<Index>(candidates.size()) >= per_class && per_class >= 1, "--per-class: class ", label, " has ",
            candidates.size(), " training images, ", per_class, " were asked for");
    RandomStream random(seed, static_cast<std::uint64_t>(label));
    shuffle(random, candidates);
    train_images.insert(train_images.end(), candidates.begin(), candidates.begin() + per_class);
    const std::vector<Index> all = images_of_class(test, label);
    test_images.insert(test_images.end(), all.begin(), all.end());
  }
  AlphaPathProblem problem{
      folder.filename().string() + ", classes " + std::to_string(first) + " and " + std::to_string(second),
      dataset_of(train, train_images, first)};
  if (!test_images.empty()) problem.test = dataset_of(test, test_images, first);
  return problem;
}

namespace {

bool is_array(const char* option, const std::filesystem::path& path) {
  return naming_option(option, [&] { return is_npy(path); });
}

Vector<double> read_column(const char* option, const std::filesystem::path& path, const CsvFormat& format) {
  return naming_option(option, [&] { return is_npy(path) ? read_npy_column(path) : read_csv_column(path, format); });
}

/// A shape that fits these inputs and is one at some scale.
void check_shape(const AlphaPathProblem& problem, const std::filesystem::path& shape, const std::filesystem::path& x) {
  require<FileError>(problem.shape->size() == problem.train.num_inputs(), quoted(shape), ": the shape has ",
                     problem.shape->size(), " entries but ", quoted(x), " has ", problem.train.num_inputs(),
                     " columns");
  (void)hypentropy_of(problem, Scale<>::from_log(0.0));
}

}  // namespace

AlphaPathProblem problem_of_files(const std::filesystem::path& x, const std::filesystem::path& y,
                                  const std::filesystem::path& shape, const CsvFormat& format) {
  const bool has_csv = !is_array("--x", x) || !is_array("--y", y) || (!shape.empty() && !is_array("--shape", shape));
  require(has_csv || format.header == CsvFormat::Header::certain,
          "--header speaks of CSV files, and all files here are arrays of NumPy");
  require(has_csv || format.index == CsvFormat::Index::certain,
          "--index speaks of CSV files, and all files here are arrays of NumPy");
  Matrix<double> X = naming_option("--x", [&] { return is_npy(x) ? read_npy(x) : read_csv(x, format).values; });
  Vector<double> labels = read_column("--y", y, format);
  AlphaPathProblem problem{x.filename().string(),
                           naming_option("--x, --y", [&] { return Dataset(std::move(X), std::move(labels)); })};
  if (!shape.empty()) {
    problem.shape = read_column("--shape", shape, format);
    naming_option("--shape", [&] { check_shape(problem, shape, x); });
  }
  return problem;
}

AlphaPath alpha_path(const AlphaPathProblem& problem, const AlphaPathOptions& options) {
  const Index depth = options.depth;
  require(depth >= 2, "depth must be at least 2, got ", depth);
  if (options.algorithm) check(*options.algorithm, problem.train);
  AlphaPath path;
  path.depth = depth;
  // Before powers of the shape hide what is wrong with it.
  if (problem.shape) (void)hypentropy_of(problem, Scale<>::from_log(0.0));
  path.kernel_end = problem.shape ? min_l2_interpolator(problem.train, relative_shape_power(problem, depth - 1))
                                  : min_l2_interpolator(problem.train);
  MinL1Result<> rich = problem.shape ? min_l1_interpolator(problem.train, relative_shape_power(problem, 2 - depth))
                                     : min_l1_interpolator(problem.train);
  rich.require_ok();
  path.rich_end = std::move(rich.beta);
  path.has_unique_rich_end = rich.is_unique;
  std::vector<Scale<>> scales =
      options.scales.empty() ? default_scales(problem, depth, path.kernel_end, options.num_scales) : options.scales;
  sort_and_deduplicate(scales);
  path.rows = depth == 2 ? rows_of(problem, hypentropy_of(problem, scales.front()), scales, options)
                         : rows_of(problem, depth_hypentropy_of(problem, depth, scales.front()), scales, options);
  path.kernel_accuracy = accuracy(problem, path.kernel_end);
  path.rich_accuracy = accuracy(problem, path.rich_end);
  check(options, path);
  if (options.algorithm) add_algorithm(problem, options, path);
  if (options.saddles) add_saddles(problem, path);
  return path;
}

namespace {

bool has_simulated(const AlphaPath& path) {
  return std::any_of(path.rows.begin(), path.rows.end(), [](const AlphaPathRow& row) { return row.simulated; });
}

/// The coefficients by one road as `<name>.csv` and `<name>.npy`; `log_alpha.npy` has the scales, which both roads
/// share.
void write_coefficients(const AlphaPath& path, bool simulated, const std::string& name,
                        const std::filesystem::path& folder) {
  std::vector<const AlphaPathRow*> rows;
  for (const AlphaPathRow& row : path.rows)
    if (row.simulated == simulated && row.beta.size() > 0) rows.push_back(&row);
  CsvWriter table({"log_alpha", "i", "beta"});
  Matrix<double> betas(static_cast<Index>(rows.size()), path.rich_end.size());
  Vector<double> log_alphas(betas.rows());
  for (Index k = 0; k < betas.rows(); ++k) {
    const AlphaPathRow& row = *rows[static_cast<std::size_t>(k)];
    for (Index i = 0; i < row.beta.size(); ++i) table.row({row.scale.log(), i, row.beta[i]});
    betas.row(k) = row.beta;
    log_alphas[k] = row.scale.log();
  }
  table.write(folder / (name + ".csv"));
  write_npy(folder / (name + ".npy"), betas);
  if (!simulated) write_npy(folder / "log_alpha.npy", log_alphas);
}

void write_algorithm(const AlphaPath& path, const std::filesystem::path& folder) {
  CsvWriter table({"log_alpha", "i", "beta", "predicted", "effective_log_scale", "log_offset_ratio"});
  const auto cell = [](const Vector<double>& values, Index i) {
    return values.size() > 0 ? CsvCell(values[i]) : CsvCell::empty();
  };
  for (const AlgorithmRow& row : path.algorithm_rows)
    for (Index i = 0; i < path.rich_end.size(); ++i)
      table.row({row.scale.log(), i, cell(row.beta, i), cell(row.predicted, i), cell(row.effective_log_scale, i),
                 cell(row.log_offset_ratio, i)});
  table.write(folder / "algorithm.csv");
}

void write_saddles(const SaddlePath<>& saddles, const std::filesystem::path& folder) {
  CsvWriter table({"jump", "time", "i", "beta", "loss"});
  for (std::size_t k = 0; k < saddles.jumps.size(); ++k) {
    const auto& jump = saddles.jumps[k];
    for (std::size_t j = 0; j < jump.support.size(); ++j)
      table.row({static_cast<Index>(k + 1), jump.time, jump.support[j], jump.values[static_cast<Index>(j)], jump.loss});
  }
  table.write(folder / "saddles.csv");
}

void write_path(const AlphaPathProblem& problem, const AlphaPath& path, const std::filesystem::path& folder) {
  const bool both_roads = has_simulated(path);
  std::vector<std::string> columns = {"log_alpha",    "alpha",       "l1",           "l2",     "primal_residual",
                                      "kkt_residual", "duality_gap", "newton_steps", "seconds"};
  if (both_roads) columns.insert(columns.end(), {"road", "time", "steps"});
  if (problem.test) columns.emplace_back("test_accuracy");
  CsvWriter table(columns);
  for (const AlphaPathRow& row : path.rows) {
    std::vector<CsvCell> cells = {row.scale.log(), row.scale.value(),   row.l1,
                                  row.l2,          row.primal_residual, row.kkt_residual,
                                  row.duality_gap, row.newton_steps,    row.seconds};
    if (row.simulated) cells[7] = CsvCell::empty();
    if (both_roads) {
      cells.emplace_back(row.simulated ? "simulated" : "solved");
      cells.push_back(row.simulated ? CsvCell(row.time) : CsvCell::empty());
      cells.push_back(row.simulated ? CsvCell(row.steps) : CsvCell::empty());
    }
    if (problem.test) cells.emplace_back(row.test_accuracy);
    table.row(cells);
  }
  table.write(folder / "path.csv");
}

/// Between grey (0) and blue or vermilion (-1 or 1), as the number gnuplot takes for a colour.
Index blended_colour(double t) {
  constexpr std::array<double, 3> grey = {0xC8, 0xC8, 0xC8};
  constexpr std::array<double, 3> blue = {0x00, 0x72, 0xB2};
  constexpr std::array<double, 3> vermilion = {0xD5, 0x5E, 0x00};
  const std::array<double, 3>& end = t < 0.0 ? vermilion : blue;
  const double share = std::sqrt(std::abs(t));
  Index colour = 0;
  for (std::size_t k = 0; k < 3; ++k)
    colour = 256 * colour + static_cast<Index>(std::lround(grey[k] + share * (end[k] - grey[k])));
  return colour;
}

/// A round distance between the marks of the accuracy axis, for four of them or so.
double accuracy_step(const AlphaPath& path) {
  double low = std::min(path.kernel_accuracy, path.rich_accuracy);
  double high = std::max(path.kernel_accuracy, path.rich_accuracy);
  for (const AlphaPathRow& row : path.rows) {
    low = std::min(low, row.test_accuracy);
    high = std::max(high, row.test_accuracy);
  }
  for (const double step : {0.005, 0.01, 0.02, 0.05, 0.1})
    if (high - low <= 5.0 * step) return step;
  return 0.2;
}

/// A name between the single quotes of a gnuplot string.
std::string without_quotes(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '\'' || c == '\n' || c == '\\'; }, ' ');
  return name;
}

/// The weights 1 / w0^exponent of a norm, for gnuplot.
std::string over_shape(const AlphaPathProblem& problem, Index exponent) {
  if (!problem.shape || exponent == 0) return "";
  return "/{/:Italic w}_0" + (exponent == 1 ? "" : "^{" + std::to_string(exponent) + "}");
}

constexpr Index most_curves = 1500;  // more coefficients than that are not drawn

/// The axis of log alpha: its ends, and the places of the limits beside them.
struct Axis {
  double high, low, span, left, right;
};

Axis axis_of(const AlphaPath& path) {
  const double high = path.rows.front().scale.log();
  const double low = path.rows.back().scale.log();
  const double span = std::max(high - low, 1.0);
  return {high, low, span, high + 0.055 * span, low - 0.055 * span};
}

/// Writes what the picture needs, coefficient by coefficient with blank lines between, those that are large at
/// the rich end last (on top): the ends (kind 1), the path (0) and, for the largest, the integrated path (2) and the
/// ends of the algorithm (3).
void write_curves(const AlphaPath& path, const std::filesystem::path& folder) {
  const Axis axis = axis_of(path);
  Vector<double> largest = path.kernel_end.cwiseAbs().cwiseMax(path.rich_end.cwiseAbs());
  std::vector<const AlphaPathRow*> rows;
  for (const AlphaPathRow& row : path.rows)
    if (!row.simulated) {
      rows.push_back(&row);
      largest = largest.cwiseMax(row.beta.cwiseAbs());
    }
  std::vector<Index> order(static_cast<std::size_t>(largest.size()));
  std::iota(order.begin(), order.end(), Index{0});
  const auto smallness = [&](Index i) { return std::pair(-largest[i], i); };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return smallness(a) < smallness(b); });
  if (static_cast<Index>(order.size()) > most_curves) order.resize(most_curves);
  const auto height = [&](Index i) { return std::tuple(std::abs(path.rich_end[i]), -largest[i], i); };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return height(a) < height(b); });
  const double strongest = std::max(path.rich_end.cwiseAbs().maxCoeff(), std::numeric_limits<double>::min());
  std::string text = "position,beta,colour,kind\n";
  Index drawn = 0;
  const auto point = [&](double position, double beta, Index colour, int kind) {
    text += exact_number(position) + "," + exact_number(beta) + "," + std::to_string(colour) + "," +
            std::to_string(kind) + "\n";
  };
  for (const Index i : order) {
    const Index colour = blended_colour(path.rich_end[i] / strongest);
    point(axis.left, path.kernel_end[i], colour, 1);
    point(axis.right, path.rich_end[i], colour, 1);
    text += "\n";
    for (const AlphaPathRow* row : rows) point(row->scale.log(), row->beta[i], colour, 0);
    text += "\n";
    if (static_cast<Index>(order.size()) - ++drawn >= 12) continue;
    for (const AlphaPathRow& row : path.rows)
      if (row.simulated) point(row.scale.log(), row.beta[i], colour, 2);
    text += "\n";
    for (const AlgorithmRow& row : path.algorithm_rows)
      if (row.beta.size() > 0) point(row.scale.log(), row.beta[i], colour, 3);
    text += "\n";
  }
  write_file(folder / "alpha_path_curves.csv", text);
}

bool has_jumps(const AlphaPath& path) { return path.saddles && !path.saddles->jumps.empty(); }

/// The coefficients that any saddle has, as steps, coloured as in the picture above, the large ones last.
void write_steps(const AlphaPath& path, const std::filesystem::path& folder) {
  const auto& jumps = path.saddles->jumps;
  std::set<Index> used;
  for (const auto& jump : jumps) used.insert(jump.support.begin(), jump.support.end());
  std::vector<Index> order(used.begin(), used.end());
  const auto height = [&](Index i) { return std::pair(std::abs(path.rich_end[i]), i); };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return height(a) < height(b); });
  const double strongest = std::max(path.rich_end.cwiseAbs().maxCoeff(), std::numeric_limits<double>::min());
  std::string text = "time,beta,colour\n";
  for (const Index i : order) {
    const std::string colour = std::to_string(blended_colour(path.rich_end[i] / strongest));
    double beta = 0.0;
    const auto point = [&](double time) {
      text += exact_number(time) + "," + exact_number(beta) + "," + colour + "\n";
    };
    point(jumps.front().time / 2.0);
    for (const auto& jump : jumps) {
      const auto at = std::lower_bound(jump.support.begin(), jump.support.end(), i);
      const bool is_there = at != jump.support.end() && *at == i;
      const double next = is_there ? jump.values[at - jump.support.begin()] : 0.0;
      if (next == beta) continue;
      point(jump.time);
      beta = next;
      point(jump.time);
    }
    point(jumps.back().time * 2.0);
    text += "\n";
  }
  write_file(folder / "alpha_path_saddles.csv", text);
}

}  // namespace

std::vector<std::string> alpha_path_tables_of(const AlphaPath& path) {
  std::vector<std::string> tables = {"beta.csv", "beta.npy", "log_alpha.npy", "path.csv"};
  if (has_simulated(path)) tables.insert(tables.end(), {"beta_simulated.csv", "beta_simulated.npy"});
  if (!path.algorithm_rows.empty()) tables.emplace_back("algorithm.csv");
  if (path.saddles) tables.emplace_back("saddles.csv");
  return tables;
}

void write_alpha_path_tables(const AlphaPathProblem& problem, const AlphaPath& path,
                             const std::filesystem::path& folder) {
  write_coefficients(path, false, "beta", folder);
  if (has_simulated(path)) write_coefficients(path, true, "beta_simulated", folder);
  if (!path.algorithm_rows.empty()) write_algorithm(path, folder);
  if (path.saddles) write_saddles(*path.saddles, folder);
  if (has_jumps(path))
    write_steps(path, folder);
  else
    std::filesystem::remove(folder / "alpha_path_saddles.csv");
  write_path(problem, path, folder);
  write_curves(path, folder);
}

Picture alpha_path_picture(const AlphaPathProblem& problem, const AlphaPath& path) {
  const auto [high, low, span, left, right] = axis_of(path);
  const Index drawn = std::min(problem.train.num_inputs(), most_curves);
  const Index d = problem.train.num_inputs();

  const auto constant = [](const char* name, double value) { return name + (" = " + exact_number(value)) + "\n"; };
  const auto word = [](const char* name, const std::string& value) { return name + (" = '" + value) + "'\n"; };
  Picture picture;
  picture.name = "alpha_path";
  picture.alt = "The coefficients of the flow's limit at depth " + std::to_string(path.depth) +
                " against log alpha, from the kernel end on the left to the rich end on the "
                "right, with the minimum-l2 and minimum-l1 interpolators at the margins";
  if (!path.algorithm_rows.empty()) picture.alt += ", and where " + path.algorithm + " ended";
  if (problem.test) picture.alt += "; below, the test accuracy along the path";
  if (has_jumps(path))
    picture.alt += "; below, the steps that the coefficients take from saddle to saddle as alpha tends to 0";
  picture.alt += ".";
  const int height_above = problem.test ? 760 : 560;
  const int height_of_saddles = has_jumps(path) ? 300 : 0;
  picture.width = 1000;
  picture.height = height_above + height_of_saddles;
  picture.setup =
      constant("left", left) + constant("right", right) + constant("high", high + 0.02 * span) +
      constant("low", low - 0.02 * span) + constant("pad", 0.035 * span) +
      constant("with_accuracy", problem.test ? 1 : 0) + constant("with_saddles", has_jumps(path) ? 1 : 0) +
      constant("below", static_cast<double>(height_of_saddles) / picture.height) +
      word("unit", path.depth == 2   ? "log(1/α)"
                   : path.depth == 3 ? "1/α"
                                     : "α^{" + std::to_string(2 - path.depth) + "}") +
      constant("kernel_accuracy", problem.test ? path.kernel_accuracy : 0.0) +
      constant("rich_accuracy", problem.test ? path.rich_accuracy : 0.0) +
      constant("accuracy_step", problem.test ? accuracy_step(path) : 1.0) + constant("line", d > 100 ? 1.1 : 2.0) +
      constant("dot", d > 100 ? 0.35 : 0.6) + constant("with_simulated", has_simulated(path) ? 1 : 0) +
      word("kernel_label", "min ℓ_2" + over_shape(problem, path.depth - 1)) +
      word("rich_label", "min ℓ_1" + over_shape(problem, path.depth - 2)) +
      word("heading", without_quotes(problem.name) + ": N = " + std::to_string(problem.train.num_samples()) +
                          ", d = " + std::to_string(d) + ", depth " + std::to_string(path.depth) +
                          (drawn < d ? " (the " + std::to_string(drawn) + " largest coefficients)" : "") +
                          (path.algorithm.empty() ? "" : "; crosses: end of " + path.algorithm));
  picture.commands = R"gp(set multiplot
set lmargin at screen 0.105
set rmargin at screen 0.98
place(y) = below + (1 - below) * y
set tmargin at screen place(with_accuracy ? 0.92 : 0.89)
set bmargin at screen place(with_accuracy ? 0.40 : 0.13)
set title heading noenhanced offset 0,0.6
set xrange [left + pad : right - pad]
set xtics nomirror autofreq
set ylabel "coefficients of the flow's limit, {/:Italic β}_i"
set arrow 1 from high, graph 0 to high, graph 1 nohead lc rgb grey lw 1
set arrow 2 from low, graph 0 to low, graph 1 nohead lc rgb grey lw 1
set label 1 kernel_label center at left, graph 1.03 tc rgb ink
set label 2 rich_label center at right, graph 1.03 tc rgb ink
if (with_accuracy) { set format x "" } else { set xlabel "log α   (kernel → rich)" }
set key top left Left reverse at high, graph 0.99
circles = with_simulated ? "flow integrated (twelve largest coefficients)" : ""
plot "alpha_path_curves.csv" using "position":(column("kind") == 0 ? column("beta") : NaN):"colour" with lines lw line lc rgb variable, \
     "" using "position":(column("kind") == 1 ? column("beta") : NaN):"colour" with points pt 7 ps dot lc rgb variable, \
     "" using "position":(column("kind") == 2 ? column("beta") : NaN) with points pt 6 ps 0.7 lw 1.1 lc rgb ink title circles, \
     "" using "position":(column("kind") == 3 ? column("beta") : NaN) with points pt 2 ps 0.6 lw 1.3 lc rgb ink
if (with_accuracy) {
set tmargin at screen place(0.36)
set bmargin at screen place(0.10)
unset title
unset label
unset key
set format x "%g"
set xlabel "log α   (kernel → rich)"
set ylabel "test accuracy"
set ytics accuracy_step
plot "path.csv" using "log_alpha":"test_accuracy" with lines lw 2.8 lc rgb blue, \
     "+" using (left):(kernel_accuracy) every ::0::0 with points pt 7 ps 1.1 lc rgb blue, \
     "+" using (right):(rich_accuracy) every ::0::0 with points pt 7 ps 1.1 lc rgb blue
}
if (with_saddles) {
set tmargin at screen 0.94 * below
set bmargin at screen 0.24 * below
unset title
unset label
unset arrow
unset key
set format x "%g"
set xrange [*:*] noextend
set logscale x
set ytics autofreq
set xlabel sprintf("time / %s   (α → 0, from saddle to saddle)", unit)
set ylabel "{/:Italic β}_i"
plot "alpha_path_saddles.csv" using "time":"beta":"colour" with lines lw line lc rgb variable
}
unset multiplot
)gp";
  return picture;
}

}  // namespace richflow::examples
