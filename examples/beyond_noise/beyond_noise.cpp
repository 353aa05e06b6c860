#include "beyond_noise.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/bias/effective_start.hpp"
#include "richflow/bias/predicted_start.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/error.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

struct Experiment {
  SparseRegression<> problem;
  SquaredDiagonalNet<double> net;
  Start<> start;
  double step;

  [[nodiscard]] const Dataset<>& data() const { return problem.dataset; }
  /// Of the flow's limit from a start.
  [[nodiscard]] double error_from(const Start<>& from) const {
    return problem.population_error(solve(net, data(), from).require_ok().beta);
  }
};

/// What one run has come to after one of the numbers of steps.
struct Snapshot {
  double log_scale = 0.0;
  double error = 0.0;
  double exact = 0.0;
  double plain = 0.0;
};

std::vector<Snapshot> run_descent(const Experiment& experiment, double level, std::uint64_t seed,
                                  const std::vector<Index>& steps) {
  const Dataset<>& data = experiment.data();
  const Vector<double> w0 = experiment.net.initial_parameters(experiment.start);
  EffectiveStart effective(experiment.net, data, w0);
  std::vector<Snapshot> snapshots;
  const auto look = [&](const StepView<double>& view) {
    if (snapshots.size() == steps.size() || view.step != steps[snapshots.size()]) return Action::proceed;
    const Dataset reached = effective.reached();
    const Vector<double> beta = effective.beta();
    const auto distance = [&](const Start<>& from) {
      return (solve(experiment.net, reached, from).require_ok().beta - beta).norm() / beta.norm();
    };
    const Start from = effective.start();
    snapshots.push_back(
        {effective.log_scale().mean(), experiment.error_from(from), distance(from), distance(experiment.start)});
    return Action::proceed;
  };
  IntegrateOptions<> options;
  options.observers = {effective, look};
  options.detect_stall = false;
  const StochasticGradient problem(experiment.net, data, Sampling<double>{.label_noise = level, .seed = seed});
  (void)integrate(problem, w0, Steps{steps.back()}, Descent{}, ConstantStep{experiment.step}, options).require_ok();
  return snapshots;
}

BeyondNoisePoint point_of(const Experiment& experiment, double level, Index steps, const std::vector<Snapshot>& runs) {
  const PredictedStart<> predicted =
      predicted_start(
          experiment.net, experiment.data(), experiment.start,
          {.step = experiment.step, .sampling = {.label_noise = level}, .steps = steps, .then_until_it_fits = false})
          .require_ok();
  BeyondNoisePoint point{.level = level, .steps = steps};
  point.log_scale_predicted = predicted.log_scale.mean();
  point.error_predicted = experiment.error_from(predicted.start());
  point.error_low = std::numeric_limits<double>::infinity();
  Worst exact(Worst::Is::largest), plain(Worst::Is::smallest);
  for (const Snapshot& run : runs) {
    point.log_scale += run.log_scale / static_cast<double>(runs.size());
    point.error += run.error / static_cast<double>(runs.size());
    point.error_low = std::min(point.error_low, run.error);
    point.error_high = std::max(point.error_high, run.error);
    exact.add(run.exact);
    plain.add(run.plain);
  }
  point.exact = exact.value();
  point.plain = plain.value();
  return point;
}

std::vector<Claim> check(const BeyondNoise& figure, const BeyondNoiseOptions& options) {
  std::vector<Claim> claims;
  const double log_alpha = std::log(options.alpha);
  Worst farthest(Worst::Is::farthest_from_one);
  Worst difference(Worst::Is::largest), exact(Worst::Is::largest), rise(Worst::Is::largest), spread(Worst::Is::largest);
  for (std::size_t k = 0; k < figure.points.size(); ++k) {
    const BeyondNoisePoint& point = figure.points[k];
    exact.add(point.exact);
    if (k > 0 && figure.points[k - 1].level == point.level)
      rise.add(point.error_predicted - figure.points[k - 1].error_predicted);
    if (point.steps < 1000) continue;
    farthest.add((point.log_scale - log_alpha) / (point.log_scale_predicted - log_alpha));
    difference.add(std::abs(point.error - point.error_predicted));
    // As many of the product of squared level and steps: the same point of one curve.
    for (const BeyondNoisePoint& other : figure.points) {
      const double dose = point.level * point.level * static_cast<double>(point.steps);
      const double other_dose = other.level * other.level * static_cast<double>(other.steps);
      if (other.level != point.level && std::abs(dose / other_dose - 1.0) < 1e-9)
        spread.add(std::abs(point.error_predicted - other.error_predicted));
    }
  }
  const BeyondNoisePoint& last = figure.points.back();
  claims.push_back(claim_at_most("beyond_noise_a",
                                 "the strongest noise recovers the sparse vector: error over the flow's",
                                 last.error / figure.flow, 0.1));
  claims.push_back(claim_between("beyond_noise_a", "it is the noise: error over the flow's after as many steps without",
                                 figure.without_noise / figure.flow, 0.9, 1.1));
  claims.push_back(claim_at_most("beyond_noise_a",
                                 "error predicted without a run against the mean of the runs, over the flow's, largest",
                                 difference.value() / figure.flow, 0.05));
  claims.push_back(claim_at_most("beyond_noise_a", "the more steps the smaller: largest rise of the predicted error",
                                 rise.value() / figure.flow, 1e-3));
  claims.push_back(claim_between("beyond_noise_b",
                                 "log of the effective alpha, how far it moved: measured over predicted, worst point",
                                 farthest.value(), 0.97, 1.03));
  claims.push_back(claim_at_most("beyond_noise_b",
                                 "from the exact effective start every run is predicted: largest relative error",
                                 exact.value(), 1e-8));
  claims.push_back(claim_at_least("beyond_noise_b", "where from the run's own start it is missed by", last.plain, 0.1));
  claims.push_back(claim_at_most(
      "beyond_noise_c", "levels with the same squared level times steps: difference of errors, over the flow's",
      spread.value() / figure.flow, 0.05));
  return claims;
}

}  // namespace

BeyondNoise beyond_noise(const BeyondNoiseOptions& options) {
  require(options.num_runs >= 1, "num_runs must be positive, got ", options.num_runs);
  require(!options.levels.empty(), "levels must not be empty");
  require(
      !options.steps.empty() && std::is_sorted(options.steps.begin(), options.steps.end()) && options.steps.front() > 0,
      "steps must be positive and rising");
  const Experiment experiment{sparse_regression({.num_samples = options.num_samples,
                                                 .num_inputs = options.dimension,
                                                 .num_nonzero = options.num_nonzero,
                                                 .noise_variance = 0.0,
                                                 .seed = options.seed}),
                              SquaredDiagonalNet<double>(options.dimension),
                              Start<>::uniform(Scale<>::from_value(options.alpha)), options.step};
  BeyondNoise figure;
  figure.flow = experiment.error_from(experiment.start);
  figure.without_noise = run_descent(experiment, 0.0, 1, {options.steps.back()}).front().error;
  for (const double level : options.levels) {
    std::vector<std::vector<Snapshot>> runs;
    for (int k = 0; k < options.num_runs; ++k)
      runs.push_back(run_descent(experiment, level, options.seed + static_cast<std::uint64_t>(k), options.steps));
    for (std::size_t k = 0; k < options.steps.size(); ++k) {
      std::vector<Snapshot> there;
      for (const auto& run : runs) there.push_back(run[k]);
      figure.points.push_back(point_of(experiment, level, options.steps[k], there));
    }
  }
  double lowest = std::log(options.alpha);
  for (const BeyondNoisePoint& point : figure.points) lowest = std::min(lowest, point.log_scale_predicted);
  for (const double log_alpha : spaced(std::log(options.alpha), std::max(lowest, -12.0), 60, Spacing::linear))
    figure.sweep.push_back({log_alpha, experiment.error_from(Start<>::uniform(Scale<>::from_log(log_alpha)))});
  figure.claims = check(figure, options);
  return figure;
}

void write_beyond_noise_tables(const BeyondNoise& figure, const std::filesystem::path& folder) {
  CsvWriter points({"level", "steps", "log_scale", "log_scale_predicted", "error", "error_low", "error_high",
                    "error_predicted", "exact", "plain"});
  for (const BeyondNoisePoint& p : figure.points)
    points.row({p.level, p.steps, p.log_scale, p.log_scale_predicted, p.error, p.error_low, p.error_high,
                p.error_predicted, p.exact, p.plain});
  points.write(folder / "beyond_noise.csv");
  CsvWriter sweep({"log_alpha", "error"});
  for (const BeyondNoiseSweep& point : figure.sweep) sweep.row({point.log_alpha, point.error});
  sweep.write(folder / "beyond_noise_sweep.csv");
}

Picture beyond_noise_picture(const BeyondNoise& figure, const BeyondNoiseOptions& options) {
  Picture picture;
  picture.name = "beyond_noise";
  picture.alt =
      "Three panels. (a) Test error against the number of noisy steps for several levels of label noise: it falls from "
      "that of the flow to zero, the earlier the stronger the noise; measured points lie on predicted lines. (b) The "
      "logarithm of the effective alpha against steps, predicted and measured. (c) Test error against the effective "
      "alpha: all levels lie on one curve, beside that of the sweep in alpha.";
  picture.width = 1560;
  picture.height = 470;
  picture.setup = gnuplot_array("levels", options.levels) + "flow = " + exact_number(figure.flow) + "\n";
  picture.panels = panels_in_grid(3, {"beyond_noise_a", "beyond_noise_b", "beyond_noise_c"}, {0.325, 0.665});
  picture.commands = R"gp(set multiplot
colour(k) = int(word("0x0072B2 0x009E73 0xD55E00 0xCC79A7 0x56B4E9", (k - 1) % 5 + 1))
of(k, name) = column("level") == levels[k] ? column(name) : NaN
set tmargin at screen 0.9
set bmargin at screen 0.15
set lmargin at screen 0.053
set rmargin at screen 0.305
set title "(a) Test error when the noise ends"
set xlabel "noisy steps"
set ylabel "‖{/:Italic β} − {/:Italic β}*‖^2"
set logscale x
set xrange [200:*]
set yrange [0:1.75*flow]
set xtics 100,10 format "10^{%T}"
set ytics format "%g"
set arrow 1 from graph 0, first flow to graph 1, first flow nohead lc rgb grey lw 1.4 dt (10,6)
set label 1 "flow" left at graph 0.02, first flow offset 0,0.7 tc rgb grey
set key top right Left reverse
plot for [k=1:|levels|] "beyond_noise.csv" using "steps":(of(k, "error_predicted")) with lines lw 2.6 lc rgb colour(k) title sprintf("δ = %g, predicted", levels[k]), \
     for [k=1:|levels|] "" using "steps":(of(k, "error")):(of(k, "error_low")):(of(k, "error_high")) with yerrorbars pt 6 ps 1 lw 1.6 lc rgb colour(k), \
     NaN with points pt 6 ps 1 lw 1.6 lc rgb ink title "runs"
unset arrow; unset label
set key bottom left
set lmargin at screen 0.38
set rmargin at screen 0.637
set title "(b) Effective scale"
set ylabel "mean of log α_{eff}"
set yrange [*:0]
plot for [k=1:|levels|] "beyond_noise.csv" using "steps":(of(k, "log_scale_predicted")) with lines lw 2.6 lc rgb colour(k) title sprintf("δ = %g, predicted", levels[k]), \
     for [k=1:|levels|] "" using "steps":(of(k, "log_scale")) with points pt 6 ps 1 lw 1.6 lc rgb colour(k), \
     NaN with points pt 6 ps 1 lw 1.6 lc rgb ink title "runs"
unset logscale x
set lmargin at screen 0.727
set rmargin at screen 0.985
set title "(c) Test error against the effective scale"
set xlabel "mean of log α_{eff}"
set ylabel "‖{/:Italic β} − {/:Italic β}*‖^2"
set xrange [-8:-2]
set yrange [0:1.25*flow]
set xtics 1 format "%g"
set key top left Left reverse
plot "beyond_noise_sweep.csv" using "log_alpha":"error" with lines lw 2 lc rgb ink dt (10,6) title "sweep in α", \
     for [k=1:|levels|] "beyond_noise.csv" using (of(k, "log_scale")):"error" with points pt 6 ps 1.1 lw 1.8 lc rgb colour(k) title sprintf("δ = %g", levels[k])
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
