#include "beyond_decay.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/bias/regularizer.hpp"
#include "richflow/core/error.hpp"
#include "richflow/flow/decaying_dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// What is looked at along a run.
struct Seen {
  double error = 0.0;
  double loss = 0.0;
};

struct Experiment {
  SparseRegression<> problem;
  SquaredDiagonalNet<double> net;

  [[nodiscard]] const Dataset<>& data() const { return problem.dataset; }

  struct Run {
    std::vector<double> t = {};
    std::vector<Seen> values = {};
    Index steps = 0;
  };

  /// The flow with decay at these times. (`simulate` is of flows without.)
  [[nodiscard]] Run follow(double alpha, double lambda, const std::vector<double>& times) const {
    const DecayingDualFlow<double> flow(net, data(), Start<>::uniform(Scale<>::from_value(alpha)), lambda);
    const double size = data().y().squaredNorm();
    IntegrateOptions<double, Seen> options;
    options.save_at.times = times;
    options.save_at.value = [&](double, const Vector<double>& state) {
      return Seen{problem.population_error(flow.beta(state)), flow.loss(state) / size};
    };
    auto run = integrate(flow, flow.initial_state(), TimeSpan{0.0, times.back()}, Rodas4{},
                         PiController<>{.tolerance = {1e-7, 0.0}, .first_step = flow.first_step()}, options);
    run.require_ok();
    return {std::move(run.times), std::move(run.values), run.step};
  }
};

/// Where a falling curve last passes a level, interpolated; NaN where it never does.
double last_passing(const Experiment::Run& run, double level) {
  for (std::size_t k = run.t.size(); k-- > 1;) {
    const double before = run.values[k - 1].error, after = run.values[k].error;
    if (before >= level && after < level)
      return run.t[k - 1] + (run.t[k] - run.t[k - 1]) * (before - level) / (before - after);
  }
  return nan;
}

/// A run at times that are dense around its transition.
BeyondDecayCrossing crossing_of(const Experiment& experiment, const Transition& found, double alpha, double lambda) {
  const Scale scale = Scale<>::from_value(alpha);
  BeyondDecayCrossing out{.alpha = alpha, .lambda = lambda, .predicted = found.time(scale, lambda)};
  const double around = found.duration(lambda);
  std::vector<double> times = {0.1 * out.predicted};
  const double first = std::max(out.predicted - 2.0 * around, 0.2 * out.predicted);
  for (const double t : spaced(first, out.predicted + 3.0 * around, 400, Spacing::linear)) times.push_back(t);
  const Experiment::Run run = experiment.follow(alpha, lambda, times);
  const double height = found.high_value - found.low_value;
  out.measured = last_passing(run, found.low_value + 0.5 * height);
  out.duration = last_passing(run, found.low_value + 0.1 * height) - last_passing(run, found.low_value + 0.9 * height);
  out.loss = run.values.front().loss;
  out.steps = run.steps;
  return out;
}

double largest_deviation(const BeyondDecay& figure, double lambda) {
  Worst largest(Worst::Is::largest);
  for (const BeyondDecayCollapse& point : figure.collapse)
    if (point.lambda == lambda) largest.add(std::abs(point.error - point.sweep));
  return largest.value();
}

std::vector<Claim> check(const BeyondDecay& figure, const BeyondDecayOptions& options) {
  std::vector<Claim> claims;
  const auto farthest = [](const std::vector<BeyondDecayCrossing>& crossings, const auto& ratio) {
    Worst found(Worst::Is::farthest_from_one);
    for (const BeyondDecayCrossing& crossing : crossings) found.add(ratio(crossing));
    return found.value();
  };
  claims.push_back(
      claim_between("beyond_decay_a",
                    "the test error is half way down when the sweep says: measured over predicted time, worst alpha",
                    farthest(figure.crossings, [](const auto& c) { return c.measured / c.predicted; }), 0.99, 1.01));
  claims.push_back(claim_between(
      "beyond_decay_a", "the fall takes the width of the sweep over 2 lambda: measured over predicted, worst alpha",
      farthest(figure.crossings, [&](const auto& c) { return c.duration / figure.transition.duration(c.lambda); }),
      0.93, 1.07));
  claims.push_back(claim_at_least("beyond_decay_a",
                                  "the later, the larger alpha: time at the largest over that at the smallest",
                                  figure.crossings.back().measured / figure.crossings.front().measured, 5.0));
  Worst loss(Worst::Is::largest);
  for (const BeyondDecayCrossing& crossing : figure.crossings) loss.add(crossing.loss);
  claims.push_back(claim_at_most(
      "beyond_decay_b", "the data are fitted long before: train loss over |y|^2 at a tenth of that time, largest",
      loss.value(), options.lambda * options.lambda));
  const double last = options.lambdas.back(), before = options.lambdas[options.lambdas.size() - 2];
  claims.push_back(claim_at_most("beyond_decay_c",
                                 "all runs collapse onto the sweep: largest deviation over lambda, smallest lambda",
                                 largest_deviation(figure, last) / last, 1.0));
  claims.push_back(claim_between(
      "beyond_decay_c", "the deviation is of first order in lambda: slope between the two smallest",
      std::log(largest_deviation(figure, before) / largest_deviation(figure, last)) / std::log(before / last), 0.9,
      1.1));
  const BeyondDecayCrossing& finest = figure.collapse_crossings.back();
  claims.push_back(claim_between("beyond_decay_c", "measured over predicted time at the smallest lambda",
                                 finest.measured / finest.predicted, 0.9995, 1.0005));
  return claims;
}

}  // namespace

BeyondDecay beyond_decay(const BeyondDecayOptions& options) {
  require(options.scales.size() >= 2, "at least two scales are needed, got ", options.scales.size());
  require(options.lambdas.size() >= 2, "at least two lambdas are needed, got ", options.lambdas.size());
  require(options.num_times >= 10, "num_times must be at least 10, got ", options.num_times);
  require(options.num_scales >= 10, "num_scales must be at least 10, got ", options.num_scales);
  const Experiment experiment{sparse_regression({.num_samples = options.num_samples,
                                                 .num_inputs = options.dimension,
                                                 .num_nonzero = options.num_nonzero,
                                                 .noise_variance = 0.0,
                                                 .seed = options.seed}),
                              SquaredDiagonalNet<double>(options.dimension)};
  BeyondDecay figure;
  MirrorPath path(experiment.data(), regularizer(experiment.net, Start<>::uniform(Scale<>::from_log(0.0))));
  const auto error_at = [&](Scale<> scale) {
    return experiment.problem.population_error(path.solve(scale).require_ok().beta);
  };
  figure.transition = transition(error_at);

  for (const double alpha : options.scales) {
    figure.crossings.push_back(crossing_of(experiment, figure.transition, alpha, options.lambda));
    const double end = 1.4 * figure.transition.time(Scale<>::from_value(options.scales.back()), options.lambda);
    const auto run =
        experiment.follow(alpha, options.lambda, spaced(1e-6 * end, end, options.num_times, Spacing::linear));
    for (std::size_t k = 0; k < run.t.size(); ++k)
      figure.times.push_back({alpha, run.t[k], run.values[k].error, run.values[k].loss});
  }

  const Scale from = Scale<>::from_value(options.collapse_scale);
  const double highest = figure.transition.ninety.log() + 4.0, lowest = figure.transition.tenth.log() - 3.0;
  const std::vector<double> log_scales = spaced(highest, lowest, options.num_scales, Spacing::linear);
  std::vector<double> sweep;
  for (const double log_scale : log_scales) sweep.push_back(error_at(Scale<>::from_log(log_scale)));
  for (const double lambda : options.lambdas) {
    std::vector<double> times;
    for (const double log_scale : log_scales)
      times.push_back(grokking_time(from, Scale<>::from_log(log_scale), lambda));
    const auto run = experiment.follow(options.collapse_scale, lambda, times);
    for (std::size_t k = 0; k < times.size(); ++k)
      figure.collapse.push_back({lambda, std::exp(log_scales[k]), run.values[k].error, sweep[k]});
    figure.collapse_crossings.push_back(crossing_of(experiment, figure.transition, options.collapse_scale, lambda));
  }
  figure.claims = check(figure, options);
  return figure;
}

void write_beyond_decay_tables(const BeyondDecay& figure, const std::filesystem::path& folder) {
  CsvWriter times({"alpha", "t", "error", "loss"});
  for (const BeyondDecayTime& point : figure.times) times.row({point.alpha, point.t, point.error, point.loss});
  times.write(folder / "beyond_decay.csv");
  CsvWriter crossings({"alpha", "lambda", "predicted", "measured", "duration", "duration_predicted", "error", "steps"});
  const double half = 0.5 * (figure.transition.low_value + figure.transition.high_value);
  for (const auto* list : {&figure.crossings, &figure.collapse_crossings})
    for (const BeyondDecayCrossing& c : *list)
      crossings.row({c.alpha, c.lambda, c.predicted, CsvCell::or_empty(c.measured), CsvCell::or_empty(c.duration),
                     figure.transition.duration(c.lambda), half, c.steps});
  crossings.write(folder / "beyond_decay_crossings.csv");
  CsvWriter collapse({"lambda", "scale", "error", "sweep"});
  for (const BeyondDecayCollapse& point : figure.collapse)
    collapse.row({point.lambda, point.scale, point.error, point.sweep});
  collapse.write(folder / "beyond_decay_collapse.csv");
}

Picture beyond_decay_picture(const BeyondDecay& figure, const BeyondDecayOptions& options) {
  Picture picture;
  picture.name = "beyond_decay";
  picture.alt =
      "Three panels. (a) Test error against time for scales over ten decades: each curve stays on a plateau and falls "
      "at "
      "the time that is marked as predicted, the later the larger the scale. (b) Train loss against time: it falls at "
      "once and stays. (c) Test error against the decayed scale: all decays lie on the curve of the sweep in alpha.";
  picture.width = 1560;
  picture.height = 470;
  picture.setup = gnuplot_array("scales", options.scales) + gnuplot_array("lambdas", options.lambdas) +
                  "lambda = " + exact_number(options.lambda) + "\ncollapse = " + exact_number(options.collapse_scale) +
                  "; high = " + exact_number(figure.transition.high_value) + "\n";
  picture.panels = panels_in_grid(3, {"beyond_decay_a", "beyond_decay_b", "beyond_decay_c"}, {0.325, 0.665});
  picture.commands = R"gp(set multiplot
set palette defined (0 "#0072B2", 0.5 "#009E73", 1 "#D55E00")
unset colorbox
shade(k, n) = n > 1 ? (k - 1.0) / (n - 1.0) : 0
set cbrange [0:1]
set tmargin at screen 0.9
set bmargin at screen 0.15
set lmargin at screen 0.048
set rmargin at screen 0.305
set title sprintf("(a) Test error, weight decay λ = %g", lambda)
set xlabel "time {/:Italic t}"
set ylabel "‖{/:Italic β} − {/:Italic β}*‖^2"
set xrange [0:*]
set yrange [0:1.35*high]
set xtics 400
set ytics format "%g"
set key top left Left reverse maxrows 3 width -2
plot for [k=1:|scales|] "beyond_decay.csv" using (column("alpha") == scales[k] ? column("t") : NaN):"error" \
       with lines lw 2.6 lc palette cb shade(k, |scales|) title gprintf("α = 10^{%T}", scales[k]), \
     "beyond_decay_crossings.csv" using (column(0) < |scales| ? column("predicted") : NaN):"error" \
       with points pt 2 ps 1.2 lw 2 lc rgb ink title "predicted"
set lmargin at screen 0.38
set rmargin at screen 0.637
set title "(b) Train loss"
set ylabel "‖{/:Italic Xβ} − {/:Italic y}‖^2 / ‖{/:Italic y}‖^2"
set logscale y
set yrange [1e-11:3]
set ytics 1e-10,100,1 format "10^{%T}"
unset key
plot for [k=1:|scales|] "beyond_decay.csv" using (column("alpha") == scales[k] ? column("t") : NaN):"loss" \
       with lines lw 2.6 lc palette cb shade(k, |scales|)
unset logscale y
set logscale x
set lmargin at screen 0.727
set rmargin at screen 0.985
set title sprintf("(c) Collapse: the decayed scale, from α = %g", collapse)
set xlabel "α e^{−2λ{/:Italic t}}"
set ylabel "‖{/:Italic β} − {/:Italic β}*‖^2"
set xrange [*:3e4]
set yrange [0:1.15*high]
set xtics 1e-3,10 format "10^{%T}"
set ytics autofreq format "%g"
set key default
set key inside bottom right Left reverse noautotitle samplen 2.5 spacing 1.25 tc rgb ink
plot for [k=1:|lambdas|] "beyond_decay_collapse.csv" using (column("lambda") == lambdas[k] ? column("scale") : NaN):"error" \
       with lines lw 2.6 lc palette cb shade(k, |lambdas|) title sprintf("λ = %g", lambdas[k]), \
     "" every 5 using (column("lambda") == lambdas[1] ? column("scale") : NaN):"sweep" \
       with points pt 6 ps 1.0 lw 1.6 lc rgb ink title "sweep in α, no decay"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
