#include "beyond_linear_networks.hpp"

#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/limits/linear_network.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_layers.hpp"
#include "statistics.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

using Layers = std::vector<Matrix<double>>;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

/// Modes of the aligned networks, and what each starts at: with two layers, and with more.
const Vector<double> targets{{2.0, 1.0, 0.5}};
constexpr double first_size = 1e-3;
constexpr double first_size_over_depth = 2e-2;

Matrix<double> orthonormal(RandomStream& random, Index rows, Index cols) {
  const Eigen::HouseholderQR<Matrix<double>> qr(normal_matrix(random, rows, cols));
  return qr.householderQ() * Matrix<double>::Identity(rows, cols);
}

Vector<double> singular_values(const Matrix<double>& M) { return Eigen::JacobiSVD<Matrix<double>>(M).singularValues(); }

SimulateOptions<> simulate_options(const BeyondLinearNetworksOptions& options, std::vector<double> times) {
  SimulateOptions<> simulated;
  simulated.tolerance = options.tolerance;
  simulated.times = std::move(times);
  return simulated;
}

/// Whitened inputs whose labels are `M x`, M = U diag(targets) V^T, and the singular vectors.
struct Aligned {
  explicit Aligned(RandomStream& random)
      : U(orthonormal(random, 3, 3)),
        V(orthonormal(random, 3, 3)),
        hidden(orthonormal(random, 3, 3)),
        X(orthonormal(random, 5, 3)),
        data(Dataset<>::with_outputs(X, X * (U * targets.asDiagonal() * V.transpose()).transpose())) {}

  /// `U^T M V`, diagonal where the network is aligned.
  [[nodiscard]] Matrix<double> seen(const Matrix<double>& M) const { return U.transpose() * M * V; }

  Matrix<double> U, V, hidden, X;
  Dataset<> data;
};

/// When a mode of two layers that starts at `first_size` is at `share` of its target: the solution, inverted.
double time_to(double share, double target, double lambda) {
  const double p = share * target;
  if (lambda == 0.0) return std::log(p / (target - p) * (target - first_size) / first_size) / (4.0 * target);
  const double rate = std::hypot(2.0 * target, lambda);
  const auto u = [&](double size) { return (2.0 * size + std::hypot(2.0 * size, lambda)) / lambda; };
  const double high = u(target), low = -1.0 / high;
  const auto quotient = [&](double size) { return (u(size) - high) / (u(size) - low); };
  return std::log(quotient(first_size) / quotient(p)) / (2.0 * rate);
}

/// When a simulated mode is half its target, from the times around: `log(p / (target - p))` is nearly linear in t.
double half_time_seen(const std::vector<double>& times, const std::vector<double>& sizes, double target) {
  const auto coordinate = [&](std::size_t k) { return std::log(sizes[k] / (target - sizes[k])); };
  std::size_t first = 1;
  while (first + 3 < sizes.size() && sizes[first + 1] < target / 2.0) ++first;
  if (first + 3 > sizes.size()) return nothing;
  // Through four points, at coordinate 0.
  double time = 0.0;
  for (std::size_t i = first - 1; i < first + 3; ++i) {
    double weight = 1.0;
    for (std::size_t j = first - 1; j < first + 3; ++j)
      if (j != i) weight *= coordinate(j) / (coordinate(j) - coordinate(i));
    time += weight * times[i];
  }
  return time;
}

/// How far the tangent kernel of the aligned network moves on its way: on whitened inputs its eigenvalues are those of
/// `W_1^T W_1` plus those of `W_2 W_2^T`.
double kernel_change(double lambda) {
  const double at_start = std::hypot(lambda, 2.0 * first_size);
  // hypot(lambda, 2 size) - at_start without cancellation.
  const auto beyond = [&](double size) {
    return 4.0 * (size * size - first_size * first_size) / (std::hypot(lambda, 2.0 * size) + at_start);
  };
  double sum = 0.0;
  for (const double s : targets)
    for (const double q : targets) {
      const double change = (beyond(s) + beyond(q)) / 2.0;
      sum += change * change;
    }
  return std::sqrt(sum) / (3.0 * at_start);
}

double half_time_ratio(double lambda) { return time_to(0.5, 0.5, lambda) / time_to(0.5, 2.0, lambda); }

/// Two layers whose modes start alike, over lambda.
void add_modes(const BeyondLinearNetworksOptions& options, BeyondLinearNetworks& figure) {
  RandomStream random(options.seed, 0);
  const Aligned problem(random);
  const DeepLinearNetwork<double> net(3, {3}, false, 3);
  Worst difference(Worst::Is::largest), time_difference(Worst::Is::largest), kernel_difference(Worst::Is::largest);
  const std::string panel = "beyond_linear_networks_modes";
  for (const double lambda : {0.0, 0.05, 0.5, 5.0, 50.0, 500.0}) {
    const double large = std::sqrt((lambda + std::hypot(lambda, 2.0 * first_size)) / 2.0);
    const Layers start = {first_size / large * problem.hidden * problem.V.transpose(),
                          large * problem.U * problem.hidden.transpose()};
    const Vector<double> w0 = pack_layers(start);
    double end = 0.0;
    for (const double target : targets) end = std::max(end, time_to(0.98, target, lambda));
    const auto run =
        simulate(net, problem.data, w0, simulate_options(options, spaced(0.0, end, options.num_times, Spacing::linear)))
            .require_ok();
    std::vector<std::vector<double>> sizes(3);
    const bool is_drawn = lambda != 0.05 && lambda != 500.0;
    for (std::size_t k = 0; k < run.values.size(); ++k) {
      const Matrix<double> seen = problem.seen(layers_product(unpack_layers<double>({3, 3, 3}, run.values[k])));
      LinearModesPoint point{lambda, run.times[k], Vector<double>(3), seen.diagonal()};
      for (Index i = 0; i < 3; ++i) {
        point.exact[i] = two_layer_mode(first_size, targets[i], lambda, run.times[k]);
        sizes[static_cast<std::size_t>(i)].push_back(seen(i, i));
      }
      difference.add((seen - Matrix<double>(point.exact.asDiagonal())).norm());
      if (is_drawn) figure.over_lambda.push_back(std::move(point));
    }
    std::array<double, 3> half_times = {};
    for (std::size_t i = 0; i < 3; ++i) {
      const double target = targets[static_cast<Index>(i)];
      half_times[i] = half_time_seen(run.times, sizes[i], target);
      const double expected = time_to(0.5, target, lambda);
      time_difference.add(std::abs(half_times[i] / expected - 1.0));
    }
    const double ratio = half_times[2] / half_times[0];
    const auto claim_near = [&](const std::string& text, double found, double expected) {
      figure.claims.push_back(claim_between(panel, text, found, expected * (1.0 - 1e-6), expected * (1.0 + 1e-6)));
    };
    if (lambda == 0.0)
      for (std::size_t i = 0; i < 3; ++i) {
        const double target = targets[static_cast<Index>(i)];
        claim_near("rich: half-time of mode " + short_number(target) + " at lambda = 0, simulated", half_times[i],
                   std::log(target / first_size - 1.0) / (4.0 * target));
      }
    if (is_drawn)
      claim_near("half-time of mode 0.5 over that of mode 2 at lambda = " + short_number(lambda), ratio,
                 half_time_ratio(lambda));

    SimulateOptions<> until_fit = simulate_options(options, {});
    until_fit.loss = 1e-22;
    const Vector<double> w = simulate(net, problem.data, w0, until_fit).require_ok().w;
    const Matrix<double> before = tangent_kernel(net, w0, problem.X);
    const double change = (tangent_kernel(net, w, problem.X) - before).norm() / before.norm();
    kernel_difference.add(std::abs(change - kernel_change(lambda)) / kernel_change(lambda));
    figure.lazy.push_back({lambda, half_time_ratio(lambda), kernel_change(lambda), ratio, change});
  }
  figure.claims.push_back(claim_at_most(
      panel, "half-times in closed form and simulated agree for all modes and lambda: largest relative difference",
      time_difference.value(), 1e-6));
  figure.claims.push_back(
      claim_at_most(panel, "all of W_2 W_1, exact and simulated, agrees at all times and lambda: largest difference",
                    difference.value(), 1e-8));
  const std::string kernel_panel = "beyond_linear_networks_kernel";
  figure.claims.push_back(claim_at_most(
      kernel_panel, "relative change of the tangent kernel, in closed form and simulated: largest relative difference",
      kernel_difference.value(), 1e-4));
  Worst growth(Worst::Is::largest);
  for (std::size_t k = 1; k < figure.lazy.size(); ++k)
    growth.add(figure.lazy[k].simulated_kernel_change / figure.lazy[k - 1].simulated_kernel_change);
  figure.claims.push_back(
      claim_at_most(kernel_panel, "it falls with lambda: largest change over that before", growth.value(), 0.5));
  figure.claims.push_back(claim_between(
      kernel_panel, "to 0 as lambda^-2: slope from 50 to 500, simulated",
      std::log10(figure.lazy[5].simulated_kernel_change / figure.lazy[4].simulated_kernel_change), -2.02, -1.98));
  // The curves.
  for (const double lambda : spaced(0.01, 1000.0, 101, Spacing::logarithmic))
    figure.lazy.push_back({lambda, half_time_ratio(lambda), kernel_change(lambda), nothing, nothing});
}

/// Two layers from starts that know nothing of the target.
void add_starts(const BeyondLinearNetworksOptions& options, BeyondLinearNetworks& figure) {
  Worst difference(Worst::Is::largest), defect(Worst::Is::largest);
  const std::array<double, 4> lambdas = {0.0, -2.0, 1.5, 20.0};
  const Index d_in = 5, h = 3, d_out = 4;
  const DeepLinearNetwork<double> net(d_in, {h}, false, d_out);
  for (int trial = 0; trial < options.num_problems; ++trial) {
    RandomStream random(options.seed, 100 + static_cast<std::uint64_t>(trial));
    const double lambda = lambdas[static_cast<std::size_t>(trial) % lambdas.size()];
    const Matrix<double> X = orthonormal(random, 8, d_in);
    const Dataset<> data = Dataset<>::with_outputs(X, normal_matrix(random, 8, d_out));
    const Layers start =
        lambda_balanced_start<double>(random, d_in, h, d_out, lambda, Scale<>::from_value(trial == 0 ? 0.02 : 0.1));
    const TwoLayerExact<> exact(data, start[0], start[1]);
    // The first one is drawn, all the way.
    const double end = trial == 0 ? 4.0 : 2.0 / (1.0 + std::abs(lambda));
    const int count = trial == 0 ? options.num_times : 8;
    const auto run =
        simulate(net, data, pack_layers(start), simulate_options(options, spaced(0.0, end, count, Spacing::linear)))
            .require_ok();
    for (std::size_t k = 0; k < run.values.size(); ++k) {
      const TwoLayerState<> state = exact.at(run.times[k]).require_ok();
      const Matrix<double> M = layers_product(unpack_layers<double>({d_in, h, d_out}, run.values[k]));
      difference.add((M - state.product).norm() / state.product.norm());
      defect.add(state.defect);
      if (trial == 0)
        figure.not_aligned.push_back(
            {lambda, run.times[k], singular_values(state.product).head(h), singular_values(M).head(h)});
    }
  }
  const std::string panel = "beyond_linear_networks_start";
  figure.claims.push_back(
      claim_at_most(panel,
                    "random lambda-balanced starts on whitened data, lambda = -2, 0, 1.5 and 20: largest relative "
                    "difference of W_2 W_1, exact and simulated",
                    difference.value(), 1e-8));
  figure.claims.push_back(
      claim_at_most(panel, "the exact solution keeps its balance: largest defect, relative", defect.value(), 1e-13));
}

/// Balanced layers of depth 2, 3 and 4, aligned.
void add_depths(const BeyondLinearNetworksOptions& options, BeyondLinearNetworks& figure) {
  RandomStream random(options.seed, 1);
  const Aligned problem(random);
  const Vector<double> sizes = Vector<double>::Constant(3, first_size_over_depth);
  // Deep modes rise steeply: errors of the steps before are seen some hundred times as large.
  BeyondLinearNetworksOptions finer = options;
  finer.tolerance = options.tolerance / 20.0;
  const std::vector<double> times = spaced(0.05, 10.0, options.num_times, Spacing::logarithmic);
  const std::string panel = "beyond_linear_networks_depth";
  for (const Index depth : {Index{2}, Index{3}, Index{4}}) {
    const std::vector<Index> hidden(static_cast<std::size_t>(depth - 1), 4);
    std::vector<Index> widths = hidden;
    widths.insert(widths.begin(), 3);
    widths.push_back(3);
    const Layers start =
        balanced_layers<double>(random, first_size_over_depth * problem.U * problem.V.transpose(), hidden);
    const BalancedModes<> modes = balanced_modes(sizes, targets, depth, times).require_ok();
    const DeepLinearNetwork<double> net(3, hidden, false, 3);
    const auto run = simulate(net, problem.data, pack_layers(start), simulate_options(finer, times)).require_ok();
    Worst difference(Worst::Is::largest);
    for (std::size_t k = 0; k < times.size(); ++k) {
      const Matrix<double> seen = problem.seen(layers_product(unpack_layers<double>(widths, run.values[k])));
      const Vector<double> exact = modes.values.col(static_cast<Index>(k));
      difference.add((seen - Matrix<double>(exact.asDiagonal())).norm());
      figure.over_depth.push_back({static_cast<double>(depth), times[k], exact, seen.diagonal()});
    }
    figure.claims.push_back(
        claim_at_most(panel,
                      "balanced layers of depth " + std::to_string(depth) +
                          ": largest difference between what was simulated and the equation of the singular values",
                      difference.value(), 1e-8));
  }
}

/// A single hidden neuron on random data.
void check_neurons(const BeyondLinearNetworksOptions& options, BeyondLinearNetworks& figure) {
  Worst difference(Worst::Is::largest);
  // Of a^2 - |w|^2; below zero a may change its sign on the way.
  const std::array<double, 4> deltas = {0.0, 0.3, -0.99, 2.0};
  const Index d = 5;
  for (int trial = 0; trial < options.num_problems; ++trial) {
    RandomStream random(options.seed, 100'000 + static_cast<std::uint64_t>(trial));
    Matrix<double> X = normal_matrix(random, 3, d);
    const Dataset<> data(std::move(X), normal_vector(random, 3));
    const double delta = deltas[static_cast<std::size_t>(trial) % deltas.size()];
    const Vector<double> w = normal_vector(random, d).normalized();
    const double a = std::sqrt(delta + 1.0);
    const SingleNeuronLimit<> limit = single_neuron_limit(data, a, w).require_ok();
    Vector<double> w0(d + 1);
    w0 << w, a;
    SimulateOptions<> until_fit = simulate_options(options, {});
    until_fit.loss = 1e-22 * data.y().squaredNorm();
    const Vector<double> end = simulate(DeepLinearNetwork<double>(d, {1}), data, w0, until_fit).require_ok().w;
    difference.add((end[d] * end.head(d) - limit.beta).norm() / limit.beta.norm());
  }
  figure.claims.push_back(
      claim_at_most("beyond_linear_networks_neuron",
                    "a single hidden neuron on random data, a^2 - |w|^2 = -.99 to 2, ends where the closed form says: "
                    "largest relative difference from what was simulated",
                    difference.value(), 1e-8));
}

/// Five measurements of a random symmetric 4 x 4 matrix.
Dataset<> measured(RandomStream& random, bool is_completion) {
  const Index d = 4;
  const std::size_t count = 5;
  const auto of_truth = [&](const MatrixMeasurements<double>& measurements) {
    const Matrix<double> M = 2.0 * normal_matrix(random, d, d);
    return Dataset<>(measurements, measurements.apply(M + M.transpose()));
  };
  if (!is_completion)
    return of_truth(MatrixMeasurements<double>::dense(d, d, normal_matrix(random, static_cast<Index>(count), d * d)));
  std::vector<MatrixEntry> entries;
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i <= j; ++i) entries.push_back({i, j});
  for (std::size_t n = 0; n < count; ++n)
    std::swap(entries[n], entries[n + static_cast<std::size_t>(random.uniform_integer(entries.size() - n))]);
  entries.resize(count);
  return of_truth(MatrixMeasurements<double>::entries(d, d, entries));
}

/// The distance of the flow's limit from the kernel predictor, relative. (The change of a matrix is not a model, and
/// `integrate` takes any flow.)
double distance_from_kernel(const Dataset<>& data, const Matrix<double>& W0, double alpha, ZeroStart start) {
  const SymmetricChangeFlow<> flow(data, W0, Scale<>::from_value(alpha), start);
  PiController<> controller;
  controller.tolerance = {1e-12, 1e-13};
  const auto run = integrate(flow, flow.initial_state(), TimeSpan<>{0.0, infinity}, DormandPrince{}, controller,
                             {.events = {loss_below(1e-22 * data.y().squaredNorm())}})
                       .require_ok();
  const Matrix<double> M = flow.kernel_limit();
  return (flow.matrix(run.w) - M).norm() / M.norm();
}

/// Appendix E.
void add_distances(const BeyondLinearNetworksOptions& options, BeyondLinearNetworks& figure) {
  const std::string panel = "beyond_linear_networks_symmetric";
  for (const bool is_completion : {true, false}) {
    std::vector<double> slopes_subtracted, slopes_doubled;
    for (int trial = 0; trial < options.num_problems; ++trial) {
      RandomStream random(options.seed,
                          200'000 + 2 * static_cast<std::uint64_t>(trial) + (is_completion ? std::uint64_t{1} : 0));
      const Dataset<> data = measured(random, is_completion);
      const Matrix<double> U0 = normal_matrix(random, 4, 6);
      const Matrix<double> W0 = U0 * U0.transpose();
      for (const ZeroStart start : {ZeroStart::subtracted, ZeroStart::doubled}) {
        const double slope =
            std::log(distance_from_kernel(data, W0, 30.0, start) / distance_from_kernel(data, W0, 10.0, start)) /
            std::log(3.0);
        (start == ZeroStart::subtracted ? slopes_subtracted : slopes_doubled).push_back(slope);
        if (trial > 0) continue;
        const double last = start == ZeroStart::subtracted ? 500.0 : 50.0;
        for (const double alpha : spaced(5.0, last, options.num_alphas, Spacing::logarithmic))
          figure.distances.push_back({is_completion, start, alpha, distance_from_kernel(data, W0, alpha, start)});
      }
    }
    const std::string kind = is_completion ? "completion" : "sensing";
    figure.claims.push_back(claim_between(
        panel,
        kind + ", start subtracted: slope of the distance from the kernel predictor from alpha = 10 to 30, median",
        quartiles(slopes_subtracted).median, -2.02, -1.98));
    figure.claims.push_back(claim_between(panel, kind + ", doubled start: the same slope, median",
                                          quartiles(slopes_doubled).median, -4.02, -3.98));
  }
}

}  // namespace

BeyondLinearNetworksOptions beyond_linear_networks_options(Effort effort) {
  BeyondLinearNetworksOptions options;
  if (effort == Effort::quick) {
    options.num_times = 120;
    options.num_alphas = 9;
    options.num_problems = 8;
  }
  if (effort == Effort::full) {
    options.num_times = 400;
    options.num_alphas = 41;
    options.num_problems = 500;
  }
  return options;
}

BeyondLinearNetworks beyond_linear_networks(const BeyondLinearNetworksOptions& options) {
  require(options.num_times >= 60, "num_times must be at least 60, got ", options.num_times);
  require(options.num_alphas >= 2, "num_alphas must be at least 2, got ", options.num_alphas);
  require(options.num_problems >= 1, "num_problems must be at least 1, got ", options.num_problems);
  BeyondLinearNetworks figure;
  add_modes(options, figure);
  add_starts(options, figure);
  add_depths(options, figure);
  check_neurons(options, figure);
  add_distances(options, figure);
  return figure;
}

void write_beyond_linear_networks_tables(const BeyondLinearNetworks& figure, const std::filesystem::path& folder) {
  const auto write_modes = [&](const char* key, const std::vector<LinearModesPoint>& points, const char* name) {
    CsvWriter table({key, "time", "exact_0", "exact_1", "exact_2", "simulated_0", "simulated_1", "simulated_2"});
    for (const LinearModesPoint& point : points)
      table.row({point.key, point.time, point.exact[0], point.exact[1], point.exact[2], point.simulated[0],
                 point.simulated[1], point.simulated[2]});
    table.write(folder / name);
  };
  write_modes("lambda", figure.over_lambda, "beyond_linear_networks_lambda.csv");
  write_modes("lambda", figure.not_aligned, "beyond_linear_networks_start.csv");
  write_modes("depth", figure.over_depth, "beyond_linear_networks_depth.csv");

  CsvWriter lazy(
      {"lambda", "half_time_ratio", "kernel_change", "simulated_half_time_ratio", "simulated_kernel_change"});
  for (const LazyPoint& point : figure.lazy)
    lazy.row({point.lambda, point.half_time_ratio, point.kernel_change,
              CsvCell::or_empty(point.simulated_half_time_ratio), CsvCell::or_empty(point.simulated_kernel_change)});
  lazy.write(folder / "beyond_linear_networks_lazy.csv");

  CsvWriter distances({"completion", "doubled", "alpha", "distance"});
  for (const KernelDistancePoint& point : figure.distances)
    distances.row(
        {point.is_completion ? 1 : 0, point.start == ZeroStart::doubled ? 1 : 0, point.alpha, point.distance});
  distances.write(folder / "beyond_linear_networks_symmetric.csv");
}

Picture beyond_linear_networks_picture(const BeyondLinearNetworks& figure) {
  Picture picture;
  // Guides through the completion's points at their middle.
  const auto guide = [&](const char* name, ZeroStart start, double slope) {
    std::vector<const KernelDistancePoint*> points;
    for (const KernelDistancePoint& point : figure.distances)
      if (point.is_completion && point.start == start) points.push_back(&point);
    const KernelDistancePoint& middle = *points[points.size() / 2];
    return std::string(name) + " = " + exact_number(middle.distance * std::pow(middle.alpha, -slope)) + "\n";
  };
  picture.setup = guide("subtracted", ZeroStart::subtracted, -2.0) + guide("doubled", ZeroStart::doubled, -4.0) +
                  "stride = " + std::to_string(std::max<std::size_t>(figure.not_aligned.size() / 20, 1)) + "\n";
  picture.name = "beyond_linear_networks";
  picture.alt =
      "Nine panels. Singular values of two linear layers against time at lambda = 0, 0.5, 5 and 50: one after the "
      "other "
      "at 0, together at 50, simulated points on the exact curves. The ratio of the half-times falls from 3.3 to 1 "
      "with "
      "lambda, and the relative change of the tangent kernel as lambda^-2. Singular values from a random start, and at "
      "depth 2, 3 and 4, where deeper networks wait longer. Distance of a symmetric factorization from its kernel "
      "predictor against alpha: straight lines of slope -2 and, from a doubled start, -4.";
  picture.width = 1320;
  picture.height = 1080;
  picture.panels = panels_in_grid(
      3,
      {"beyond_linear_networks_modes", "", "", "", "beyond_linear_networks_start", "beyond_linear_networks_depth", "",
       "beyond_linear_networks_kernel", "beyond_linear_networks_symmetric"},
      {0.322, 0.657});
  picture.commands = R"gp(set multiplot layout 3,3 margins 0.05,0.985,0.055,0.965 spacing 0.07,0.1
colour(i) = i == 0 ? vermilion : i == 1 ? blue : green
exact(i) = sprintf("exact_%d", i)
simulated(i) = sprintf("simulated_%d", i)
target(i) = i == 0 ? "mode 2" : i == 1 ? "mode 1" : "mode 0.5"
array lambdas[4]
lambdas[1] = 0; lambdas[2] = 0.5; lambdas[3] = 5; lambdas[4] = 50
set yrange [0:2.7]
set ytics 0.5
set xlabel "time"
set ylabel "singular values of {/:Italic W}_2{/:Italic W}_1"
do for [k = 1:4] {
  set title sprintf("Two layers, λ = %g%s", lambdas[k], k == 1 ? " (rich)" : k == 4 ? " (lazy)" : "")
  pick = lambdas[k]
  if (k == 1) { set key top right Left reverse maxrows 2 } else { unset key }
  plot for [i = 0:2] "beyond_linear_networks_lambda.csv" using (column("lambda") == pick ? column("time") : NaN):exact(i) with lines lw 2 lc rgb colour(i) title target(i), \
       for [i = 0:2] "" using (column("lambda") == pick && int(column(0)) % stride == 0 ? column("time") : NaN):simulated(i) with points pt 6 ps 0.7 lc rgb ink title (i == 2 ? "simulated" : "")
}
set title "Not aligned: a random start, λ = 0"
set yrange [0:*]
set ytics autofreq
set key bottom right Left reverse maxrows auto
plot for [i = 0:2] "beyond_linear_networks_start.csv" using "time":exact(i) with lines lw 2 lc rgb colour(i) title (i == 0 ? "exact" : ""), \
     for [i = 0:2] "" using (int(column(0)) % stride == 0 ? column("time") : NaN):simulated(i) with points pt 6 ps 0.7 lc rgb ink title (i == 2 ? "simulated" : "")
set title "Balanced layers of depth {/:Italic N}"
set ylabel "singular values of {/:Italic W_N} ... {/:Italic W}_1"
set logscale x
set xrange [0.05:10]
set xtics 0.1,10,10 format "%g"
set yrange [0:2.7]
set ytics 0.5
set key top left Left reverse
pick(N) = column("depth") == N ? column("time") : NaN
plot for [i = 0:2] "beyond_linear_networks_depth.csv" using (pick(2)):exact(i) with lines lw 1.2 lc rgb colour(i) dt (5,7) title (i == 0 ? "{/:Italic N} = 2" : ""), \
     for [i = 0:2] "" using (pick(3)):exact(i) with lines lw 1.6 lc rgb colour(i) dt (16,8) title (i == 0 ? "{/:Italic N} = 3" : ""), \
     for [i = 0:2] "" using (pick(4)):exact(i) with lines lw 2.4 lc rgb colour(i) title (i == 0 ? "{/:Italic N} = 4" : ""), \
     for [i = 0:2] "" using (int(column(0)) % stride == 0 ? column("time") : NaN):simulated(i) with points pt 6 ps 0.6 lc rgb ink title (i == 2 ? "simulated" : "")
set title "Half-time of mode 0.5 over that of mode 2"
set xlabel "λ"
set ylabel "ratio"
set xrange [0.01:1000]
set xtics 0.01,10,1000 format "10^{%T}"
set yrange [0.8:3.5]
set ytics 0.5
set key top right Left reverse
plot "beyond_linear_networks_lazy.csv" using (column("simulated_half_time_ratio") > 0 ? NaN : column("lambda")):"half_time_ratio" with lines lw 2 lc rgb vermilion title "closed form", \
     "" using "lambda":"simulated_half_time_ratio" with points pt 6 ps 1 lc rgb ink title "simulated"
set title "Relative change of the tangent kernel"
set ylabel "change"
set logscale y
set yrange [1e-6:1e3]
set ytics 1e-6,1e3,1e3 format "10^{%T}"
set key bottom left Left reverse
plot "beyond_linear_networks_lazy.csv" using "lambda":(column("simulated_kernel_change") > 0 ? NaN : column("kernel_change")) with lines lw 2 lc rgb vermilion title "closed form", \
     "" using "lambda":"simulated_kernel_change" with points pt 6 ps 1 lc rgb ink title "simulated", \
     1.5e1*x**-2 with lines lw 1.2 lc rgb grey dt (5,7) title "slope −2"
set title "{/:Italic UU}^T: distance from the kernel limit"
set xlabel "α"
set ylabel "relative distance"
set xrange [5:500]
set xtics 1,10,1000 format "%g"
set yrange [1e-11:1e5]
set ytics 1e-10,1e2,1 format "10^{%T}"
set key top right Left reverse
at(completion, doubled) = column("completion") == completion && column("doubled") == doubled ? column("distance") : NaN
plot "beyond_linear_networks_symmetric.csv" using (column("alpha")):(at(1, 0)) with points pt 7 ps 0.7 lc rgb vermilion title "completion", \
     "" using (column("alpha")):(at(0, 0)) with points pt 5 ps 0.7 lc rgb blue title "sensing", \
     "" using (column("alpha")):(at(1, 1)) with points pt 6 ps 0.8 lc rgb vermilion title "doubled start", \
     "" using (column("alpha")):(at(0, 1)) with points pt 4 ps 0.8 lc rgb blue title "", \
     subtracted*x**-2 with lines lw 1.2 lc rgb ink title "slope −2", \
     doubled*x**-4 with lines lw 1.2 lc rgb ink dt (5,7) title "slope −4"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
