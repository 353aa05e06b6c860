#include "beyond_momentum.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "csv.hpp"
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

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Experiment {
  SparseRegression<> problem;
  SquaredDiagonalNet<double> net;
  Scale<> alpha;
  Vector<double> slope = {};  // of log alpha_eff in lambda, to first order

  [[nodiscard]] const Dataset<>& data() const { return problem.dataset; }
  [[nodiscard]] Start<> start() const { return Start<>::uniform(alpha); }
  [[nodiscard]] Start<> predicted(double lambda) const { return Start<>::shaped_logs(alpha, lambda * slope); }
};

double lambda_per_step(double momentum) { return (1.0 + momentum) / (2.0 * (1.0 - momentum) * (1.0 - momentum)); }

BeyondMomentumPoint run_heavy_ball(const Experiment& experiment, double momentum, double lambda, Index max_steps) {
  const Dataset<>& data = experiment.data();
  BeyondMomentumPoint point{.momentum = momentum, .lambda = lambda, .step = lambda / lambda_per_step(momentum)};
  const Vector<double> w0 = experiment.net.initial_parameters(experiment.start());
  EffectiveStart effective(experiment.net, data, w0);
  IntegrateOptions<> options;
  options.observers = {effective};
  options.detect_stall = false;
  options.events = {loss_below(1e-22 * data.y().squaredNorm()).at_step_end(50)};
  const StochasticGradient problem(experiment.net, data, Sampling<double>{});
  const auto run =
      integrate(problem, w0, Steps{max_steps}, HeavyBall{momentum}, ConstantStep{point.step}, options).require_ok();
  point.steps = run.step;
  const Dataset reached = effective.reached();
  const Vector<double> beta = effective.beta();
  const auto distance = [&](const Start<>& from) {
    return (solve(experiment.net, reached, from).require_ok().beta - beta).cwiseAbs().maxCoeff() /
           beta.cwiseAbs().maxCoeff();
  };
  const Vector<double> moved = effective.log_scale().array() - experiment.alpha.log();
  point.moved = moved.mean();
  point.moved_most = moved.maxCoeff();
  point.moved_predicted = lambda * experiment.slope.mean();
  point.exact = distance(effective.start());
  point.matched = distance(experiment.predicted(lambda));
  point.unmatched = distance(experiment.predicted(lambda * 2.0 / (1.0 + momentum)));
  point.plain = distance(experiment.start());
  point.error = experiment.problem.population_error(beta);
  point.sign_changes = effective.sign_changes();
  return point;
}

std::vector<Claim> check(const BeyondMomentum& figure) {
  std::vector<Claim> claims;
  Worst exact(Worst::Is::largest), grown(Worst::Is::largest);
  Index crossed = 0;
  for (const BeyondMomentumPoint& point : figure.points) {
    exact.add(point.exact);
    if (point.sign_changes > 0)
      ++crossed;
    else
      grown.add(point.moved_most);
  }
  claims.push_back(claim_at_most("beyond_momentum_a",
                                 "while no weight has crossed zero no scale grows: largest change of log alpha",
                                 grown.value(), 1e-9));
  // Where a series begins, lambda is smallest. The first two points of one are those of the orders.
  Worst farthest(Worst::Is::farthest_from_one), order(Worst::Is::smallest), plain_order(Worst::Is::largest),
      gain(Worst::Is::smallest), worst(Worst::Is::smallest);
  for (std::size_t k = 0; k + 1 < figure.points.size(); ++k) {
    const BeyondMomentumPoint& first = figure.points[k];
    const BeyondMomentumPoint& second = figure.points[k + 1];
    const bool begins = k == 0 || figure.points[k - 1].momentum != first.momentum;
    if (!begins || second.momentum != first.momentum || second.lambda > 0.1 * figure.first_crossing) continue;
    farthest.add(first.moved / first.moved_predicted);
    const double step = std::log(second.lambda / first.lambda);
    order.add(std::log(second.matched / first.matched) / step);
    plain_order.add(std::log(second.plain / first.plain) / step);
    if (first.momentum > 0.0) gain.add(first.plain / first.matched);
  }
  claims.push_back(
      claim_between("beyond_momentum_a",
                    "at the smallest lambda of each momentum the change of log alpha is the predicted: worst ratio",
                    farthest.value(), 0.9, 1.1));
  claims.push_back(claim_at_most(
      "beyond_momentum_b", "from the exact effective start every run is predicted, through sign changes: largest error",
      exact.value(), 1e-8));
  claims.push_back(
      claim_at_least("beyond_momentum_b", "runs with sign changes among them", static_cast<double>(crossed), 1.0));
  claims.push_back(claim_at_least(
      "beyond_momentum_b", "the error of the prediction without a run is of second order in lambda: smallest slope",
      order.value(), 1.75));
  claims.push_back(claim_at_most("beyond_momentum_b", "that of the run's own start of first: largest slope",
                                 plain_order.value(), 1.2));
  claims.push_back(
      claim_at_least("beyond_momentum_b",
                     "at the smallest lambda with momentum the prediction is better than that start by the factor",
                     gain.value(), 10.0));
  for (const BeyondMomentumPoint& point : figure.points)
    if (point.momentum == 0.5 && point.lambda <= 0.1 * figure.first_crossing)
      worst.add(point.unmatched / point.matched);
  claims.push_back(
      claim_at_least("beyond_momentum_b",
                     "lambda = step (1 + m) / (2 (1 - m)^2) is the right one: at m = 1/2 step / (1 - m)^2 errs more by",
                     worst.value(), 2.0));
  return claims;
}

}  // namespace

BeyondMomentum beyond_momentum(const BeyondMomentumOptions& options) {
  require(!options.series.empty(), "series must not be empty");
  for (const BeyondMomentumSeries& series : options.series) {
    require(series.momentum >= 0.0 && series.momentum < 1.0, "momentum must be in [0, 1), got ", series.momentum);
    require(series.lambdas.size() >= 2 && std::is_sorted(series.lambdas.begin(), series.lambdas.end()) &&
                series.lambdas.front() > 0.0,
            "lambdas must be at least two positive numbers, rising");
  }
  Experiment experiment{sparse_regression({.num_samples = options.num_samples,
                                           .num_inputs = options.dimension,
                                           .num_nonzero = options.num_nonzero,
                                           .noise_variance = 0.0,
                                           .seed = options.seed}),
                        SquaredDiagonalNet<double>(options.dimension), Scale<>::from_value(options.alpha)};
  // Linear in the step: one of them is enough.
  constexpr double step = 1e-6;
  const PredictedStart<> small =
      predicted_start(experiment.net, experiment.data(), experiment.start(), {.step = step}).require_ok();
  experiment.slope = (small.log_scale.array() - experiment.alpha.log()) / (step * lambda_per_step(0.0));

  BeyondMomentum figure;
  figure.slope = experiment.slope.mean();
  figure.flow = experiment.problem.population_error(
      solve(experiment.net, experiment.data(), experiment.start()).require_ok().beta);
  figure.first_crossing = infinity;
  for (const BeyondMomentumSeries& series : options.series)
    for (const double lambda : series.lambdas) {
      figure.points.push_back(run_heavy_ball(experiment, series.momentum, lambda, options.max_steps));
      if (figure.points.back().sign_changes > 0) figure.first_crossing = std::min(figure.first_crossing, lambda);
    }
  figure.claims = check(figure);
  return figure;
}

void write_beyond_momentum_tables(const BeyondMomentum& figure, const std::filesystem::path& folder) {
  CsvWriter points({"momentum", "lambda", "step", "steps", "moved", "moved_most", "moved_predicted", "exact", "matched",
                    "unmatched", "plain", "error", "sign_changes"});
  for (const BeyondMomentumPoint& p : figure.points)
    points.row({p.momentum, p.lambda, p.step, p.steps, p.moved, p.moved_most, p.moved_predicted, p.exact, p.matched,
                p.unmatched, p.plain, p.error, p.sign_changes});
  points.write(folder / "beyond_momentum.csv");
}

Picture beyond_momentum_picture(const BeyondMomentum& figure, const BeyondMomentumOptions& options) {
  Picture picture;
  picture.name = "beyond_momentum";
  picture.alt =
      "Three panels against lambda. (a) How far log alpha has fallen: the runs of all momenta lie on the predicted "
      "line "
      "up to the lambda, marked, from which weights cross zero. (b) Errors of where the run ends: from the run's own "
      "start of first order, from the predicted start of second order, from the exact effective start at rounding. (c) "
      "Test error of the runs beside that of the flow.";
  picture.width = 1560;
  picture.height = 470;
  std::vector<double> momenta;
  for (const BeyondMomentumSeries& series : options.series) momenta.push_back(series.momentum);
  const bool has_crossing = std::isfinite(figure.first_crossing);
  picture.setup = gnuplot_array("momenta", momenta) + "slope = " + exact_number(figure.slope) +
                  "; flow = " + exact_number(figure.flow) +
                  "; crossing = " + (has_crossing ? exact_number(figure.first_crossing) : "0") + "\n";
  picture.panels = panels_in_grid(3, {"beyond_momentum_a", "beyond_momentum_b", "beyond_momentum_c"}, {0.325, 0.665});
  picture.commands = R"gp(set multiplot
colour(k) = int(word("0x0072B2 0x009E73 0xD55E00 0xCC79A7 0x56B4E9", (k - 1) % 5 + 1))
of(k, name) = column("momentum") == momenta[k] ? column(name) : NaN
set tmargin at screen 0.9
set bmargin at screen 0.15
set lmargin at screen 0.053
set rmargin at screen 0.305
set title "(a) How far the scale falls"
set xlabel "λ = {/:Italic h} (1 + {/:Italic m}) / 2 (1 − {/:Italic m})^2"
set ylabel "−mean of log α_{eff}/α"
set logscale xy
set xrange [*:*]
set yrange [*:*]
set xtics 1e-5,10 format "10^{%T}"
set ytics 1e-6,10 format "10^{%T}"
if (crossing > 0) { set arrow 1 from crossing, graph 0 to crossing, graph 1 nohead lc rgb grey lw 1.4 dt (10,6); set label 1 "weights cross 0 →" left at crossing, graph 0.07 offset 0.4,0 tc rgb grey }
set key top left Left reverse
plot "beyond_momentum.csv" using "lambda":(-slope * column("lambda")) with lines lw 2.2 lc rgb ink title "predicted", \
     for [k=1:|momenta|] "" using "lambda":(-of(k, "moved")) with points pt 2*k+2 ps 1.1+0.25*k lw 1.6 lc rgb colour(k) title sprintf("{/:Italic m} = %g", momenta[k])
unset label
set lmargin at screen 0.385
set rmargin at screen 0.637
set title "(b) Error of where the run ends"
set ylabel "largest error / largest |{/:Italic β}|"
set yrange [1e-15:2e4]
set ytics 1e-15,1e3 format "10^{%T}"
set key top left Left reverse maxrows 4 width -4
plot for [k=1:|momenta|] "beyond_momentum.csv" using "lambda":(of(k, "plain")) with linespoints pt 4 ps 0.8 lw 1.2 lc rgb colour(k) title k == 1 ? "run's own start" : "", \
     for [k=1:|momenta|] "" using "lambda":(of(k, "unmatched")) with linespoints pt 2 ps 0.8 lw 0.9 dt (4,4) lc rgb colour(k) title k == 1 ? "λ = {/:Italic h} / (1 − {/:Italic m})^2" : "", \
     for [k=1:|momenta|] "" using "lambda":(of(k, "matched")) with linespoints pt 6 ps 0.9 lw 2.2 lc rgb colour(k) title k == 1 ? "predicted" : "", \
     for [k=1:|momenta|] "" using "lambda":(of(k, "exact")) with points pt 7 ps 0.7 lc rgb colour(k) title k == 1 ? "exact start" : ""
unset logscale y
set lmargin at screen 0.727
set rmargin at screen 0.985
set title "(c) Test error"
set ylabel "‖{/:Italic β} − {/:Italic β}*‖^2"
set yrange [0:*]
set offsets graph 0, 0, 0.35, 0
set ytics autofreq format "%g"
set arrow 2 from graph 0, first flow to graph 1, first flow nohead lc rgb ink lw 1.4 dt (10,6)
set label 2 "flow" left at graph 0.02, first flow offset 0,-0.8 tc rgb ink
set key top left Left reverse maxrows 5 width 0
plot for [k=1:|momenta|] "beyond_momentum.csv" using "lambda":(of(k, "error")) with linespoints pt 2*k+2 ps 0.9+0.25*k lw 1.6 lc rgb colour(k) title sprintf("{/:Italic m} = %g", momenta[k])
unset arrow; unset label
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
