#include "beyond_descent.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "csv.hpp"
#include "richflow/bias/effective_start.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/bias/step_size_bound.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/train/stochastic_gradient.hpp"

namespace richflow::examples {

namespace {

constexpr double alpha = 0.1;
constexpr Index num_nonzero = 3;
constexpr double fitted = 1e-20;  // L over |y|^2 at which a run counts as fitted
constexpr double longest_time = 400.0;
constexpr double most_steps = 6e6;
constexpr Index steps_at_rest = 3000;

const std::vector<std::string> numbers = {"ended",     "from_flow", "from_predicted", "error", "log_k_on",
                                          "log_k_off", "sharpness", "edge",           "bound"};

/// The weights of the squared net with this beta and `w_+ w_- = k`.
Vector<double> weights_at(const Vector<double>& beta, double k) {
  const Index d = beta.size();
  Vector<double> w(2 * d);
  for (Index i = 0; i < d; ++i) {
    const double large = std::sqrt((std::abs(beta[i]) + std::hypot(beta[i], 2.0 * k)) / 2.0);
    w[i] = beta[i] >= 0.0 ? large : k / large;
    w[d + i] = k / w[i];
  }
  return w;
}

double relative_difference(const Vector<double>& beta, const Vector<double>& other) {
  return (beta - other).cwiseAbs().maxCoeff() / beta.cwiseAbs().maxCoeff();
}

/// The longest stable step at w: of descent, or of SGD with batches of one for every sample by itself.
double longest_step(const SquaredDiagonalNet<double>& net, const Matrix<double>& X, const Vector<double>& w,
                    bool is_stochastic) {
  if (!is_stochastic) return 2.0 / interpolator_sharpness(net, X, w);
  double largest = 0.0;
  for (Index n = 0; n < X.rows(); ++n)
    largest = std::max(largest, interpolator_sharpness(net, Matrix<double>(X.row(n)), w));
  return 2.0 / largest;
}

NamedNumbers run_cell(const BeyondDescentProblem& shape, bool is_stochastic, std::uint64_t seed, const Cell& cell) {
  SparseRegressionOptions drawn;
  drawn.num_samples = shape.num_samples;
  drawn.num_inputs = shape.dimension;
  drawn.num_nonzero = num_nonzero;
  drawn.noise_variance = shape.noise * shape.noise;
  drawn.seed = seed;
  drawn.stream = static_cast<std::uint64_t>(cell.integer("seed"));
  const SparseRegression problem = sparse_regression(drawn);
  const Dataset<>& data = problem.dataset;
  const SquaredDiagonalNet<double> net(shape.dimension);
  const Start start = Start<>::uniform(Scale<>::from_value(alpha));
  const Vector<double> flow = solve(net, data, start).require_ok().beta;
  const Vector<double> w_flow = weights_at(flow, alpha * alpha);
  const double step = cell["fraction"] * longest_step(net, data.X(), w_flow, is_stochastic);

  const Vector<double> w0 = net.initial_parameters(start);
  EffectiveStart effective(net, data, w0);
  Sampling<double> sampling;
  sampling.batch_size = is_stochastic ? 1 : 0;
  sampling.seed = seed + 1000 * (drawn.stream + 1);
  const StochasticGradient source(net, data, sampling);
  IntegrateOptions<> options;
  options.observers = {effective};
  options.events = {
      loss_below(fitted * data.y().squaredNorm()).at_step_end(is_stochastic ? 5 * shape.num_samples : 20)};
  options.detect_stall = false;
  const double samples = is_stochastic ? static_cast<double>(shape.num_samples) : 1.0;
  const Steps most{static_cast<Index>(std::min(longest_time * samples / step, most_steps))};
  const auto arrived = integrate(source, w0, most, Descent{}, ConstantStep{step}, options);

  std::map<std::string, double> found;
  for (const std::string& name : numbers) found[name] = 0.0;
  const auto result = [&]() {
    NamedNumbers out;
    for (const std::string& name : numbers) out.emplace_back(name, found[name]);
    return out;
  };
  if (arrived.status != Status::event) return result();
  // A point that is not stable can be passed at a small loss: the run is to stay.
  options.events.clear();
  const auto run =
      resume(source, arrived.state, Steps{arrived.step + steps_at_rest}, Descent{}, ConstantStep{step}, options);
  if (!run.ok() || !(source.loss(run.w) <= 10.0 * fitted * data.y().squaredNorm())) return result();

  const Vector<double> beta = effective.beta();
  const Limit predicted = solve(net, effective.reached(), effective.start()).require_ok();
  const Vector<double> change = 2.0 * (effective.log_scale().array() - std::log(alpha));
  const double sharpness = interpolator_sharpness(net, data.X(), run.w);
  const StepSizeBound<double> bound = step_size_bound(net, data.X(), beta, step);
  found["ended"] = 1.0;
  found["from_flow"] = relative_difference(beta, flow);
  found["from_predicted"] = relative_difference(beta, predicted.beta);
  found["error"] = problem.population_error(beta) / problem.population_error(flow);
  found["log_k_on"] = change.head(num_nonzero).mean();
  found["log_k_off"] = change.tail(change.size() - num_nonzero).mean();
  found["sharpness"] = sharpness / interpolator_sharpness(net, data.X(), w_flow);
  found["edge"] = step * sharpness;
  found["bound"] = bound.spectral / bound.spectral_bound;
  return result();
}

DescentPoint make_point(const SweepResult& sweep, double fraction) {
  const std::vector<double> ended = sweep.values("ended", "fraction", fraction);
  const auto values = [&](const char* name) {
    const std::vector<double> all = sweep.values(name, "fraction", fraction);
    std::vector<double> kept;
    for (std::size_t s = 0; s < all.size(); ++s)
      if (ended[s] > 0.0) kept.push_back(all[s]);
    return kept;
  };
  const auto largest = [](const std::vector<double>& all) { return *std::max_element(all.begin(), all.end()); };
  DescentPoint point;
  point.fraction = fraction;
  const auto count = values("ended").size();
  point.ended = static_cast<double>(count) / static_cast<double>(ended.size());
  if (count == 0) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    point.from_flow = point.error = {nan, nan, nan};
    for (double* number : {&point.nearest_flow, &point.from_predicted, &point.log_k_on, &point.log_k_off,
                           &point.sharpness, &point.edge, &point.bound})
      *number = nan;
    return point;
  }
  const std::vector<double> from_flow = values("from_flow");
  point.from_flow = quartiles(from_flow);
  point.nearest_flow = *std::min_element(from_flow.begin(), from_flow.end());
  point.from_predicted = largest(values("from_predicted"));
  point.error = quartiles(values("error"));
  point.log_k_on = quantile(values("log_k_on"), 0.5);
  point.log_k_off = quantile(values("log_k_off"), 0.5);
  point.sharpness = quantile(values("sharpness"), 0.5);
  point.edge = largest(values("edge"));
  point.bound = largest(values("bound"));
  return point;
}

void check(BeyondDescent& figure) {
  const std::string panel = "beyond_descent";
  auto& claims = figure.claims;
  double predicted = 0.0, edge = 0.0, bound = 0.0, nearest = std::numeric_limits<double>::infinity();
  for (const DescentCurve& curve : figure.curves)
    for (const DescentPoint& point : curve.points) {
      if (point.ended == 0.0) continue;
      predicted = std::max(predicted, point.from_predicted);
      if (point.fraction >= 0.3) nearest = std::min(nearest, point.nearest_flow);
      if (curve.algorithm != "descent") continue;
      edge = std::max(edge, point.edge);
      bound = std::max(bound, point.bound);
    }
  claims.push_back(claim_at_most(panel,
                                 "the flow from the effective start, solved from zero, ends where descent and SGD do: "
                                 "largest relative difference, all runs that fit",
                                 predicted, 1e-10));
  claims.push_back(claim_at_least(
      panel, "while the flow from their own start does not: smallest such difference at 0.3 of the edge and beyond",
      nearest, 1e-3));
  const DescentCurve& descent = figure.curves[0];
  const DescentCurve& sgd = figure.curves[1];
  const DescentPoint& first = descent.points[0];
  const DescentPoint& second = descent.points[1];
  claims.push_back(claim_between(
      panel, "the distance of descent from the flow's limit grows like the step: exponent",
      std::log(second.from_flow.median / first.from_flow.median) / std::log(second.fraction / first.fraction), 0.85,
      1.15));
  // The longest step within the edge of the flow's limit with which all runs fit.
  const auto last = [](const DescentCurve& curve) {
    const DescentPoint* found = nullptr;
    for (const DescentPoint& point : curve.points)
      if (point.fraction <= 1.0 && point.ended == 1.0) found = &point;
    require<ConvergenceError>(found != nullptr, "beyond_descent: there is no step with which all runs of ",
                              curve.algorithm, " fit");
    return *found;
  };
  const DescentPoint long_descent = last(descent);
  const DescentPoint long_sgd = last(sgd);
  const double of_descent = long_descent.log_k_on / long_descent.log_k_off;
  const double of_sgd = long_sgd.log_k_on / long_sgd.log_k_off;
  claims.push_back(claim_at_most(panel, "descent with long steps shrinks k on the support: median change of log k",
                                 long_descent.log_k_on, -0.3));
  claims.push_back(
      claim_at_least(panel, "and little off it: ratio of the changes on and off the support", of_descent, 3.0));
  claims.push_back(claim_at_most(panel, "SGD shrinks k off the support, too: median change of log k there",
                                 long_sgd.log_k_off, -0.1));
  claims.push_back(claim_at_least(panel,
                                  "SGD shrinks k more evenly: ratio on and off the support of descent over that of SGD",
                                  of_descent / of_sgd, 1.5));
  claims.push_back(claim_at_least(panel,
                                  "so long steps of descent cost test error: median at the longest step over the "
                                  "flow's",
                                  long_descent.error.median, 1.01));
  claims.push_back(claim_at_most(panel, "and those of SGD gain: median at the longest step over the flow's",
                                 long_sgd.error.median, 0.95));
  claims.push_back(
      claim_between(panel, "descent ends below its edge of stability and close to it: largest step times sharpness",
                    edge, 1.7, 2.006));
  claims.push_back(claim_at_most(
      panel, "the step bounds a weighted l1 norm: largest lambda_max(X diag|beta| X^T) over 1 / (4 step)", bound, 1.0));
}

}  // namespace

BeyondDescentOptions beyond_descent_options(Effort effort) {
  BeyondDescentOptions options;
  if (effort == Effort::quick) {
    options.num_seeds = 4;
    options.fractions = {0.05, 0.1, 0.3, 0.6, 0.9, 1.1};
  } else if (effort == Effort::full) {
    options.num_seeds = 100;
  }
  return options;
}

BeyondDescentSweeps run_beyond_descent_sweeps(const BeyondDescentOptions& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(options.fractions.size() >= 2, "there must be at least 2 steps, got ", options.fractions.size());
  for (std::size_t i = 0; i < options.fractions.size(); ++i)
    require(options.fractions[i] > (i == 0 ? 0.0 : options.fractions[i - 1]),
            "fractions must be positive and ascending, but [", i, "] = ", options.fractions[i]);
  const Grid grid({{"fraction", options.fractions}, seed_axis(options.num_seeds)});
  BeyondDescentSweeps sweeps;
  for (const BeyondDescentProblem& problem : beyond_descent_problems)
    for (const bool is_stochastic : {false, true}) {
      const std::map<std::string, std::string> settings = {{"seed", std::to_string(options.seed)},
                                                           {"N", std::to_string(problem.num_samples)},
                                                           {"d", std::to_string(problem.dimension)}};
      sweeps.push_back(runner.run(
          {std::string("beyond_descent_") + problem.name + (is_stochastic ? "_sgd" : "_descent"), grid, numbers,
           settings},
          [&](const Cell& cell) { return run_cell(problem, is_stochastic, options.seed, cell); },
          [](const Cell& cell) { return 1.0 / cell["fraction"]; }));
    }
  return sweeps;
}

BeyondDescent make_beyond_descent(const BeyondDescentSweeps& sweeps) {
  BeyondDescent figure;
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    static_cast<void>(sweeps[i].require_ok());
    DescentCurve curve{beyond_descent_problems[i / 2].name, i % 2 == 0 ? "descent" : "sgd", {}};
    for (const double fraction : sweeps[i].sweep().grid.axes()[0].values)
      curve.points.push_back(make_point(sweeps[i], fraction));
    figure.curves.push_back(std::move(curve));
  }
  check(figure);
  return figure;
}

void write_beyond_descent_tables(const BeyondDescent& figure, const std::filesystem::path& folder) {
  for (const DescentCurve& curve : figure.curves) {
    CsvWriter table({"fraction", "ended", "from_flow_median", "from_flow_q25", "from_flow_q75", "from_predicted_max",
                     "error_median", "error_q25", "error_q75", "log_k_on", "log_k_off", "sharpness_median", "edge_max",
                     "bound_max"});
    for (const DescentPoint& point : curve.points) {
      const auto cell = [](double value) { return CsvCell::or_empty(value); };
      table.row({point.fraction, point.ended, cell(point.from_flow.median), cell(point.from_flow.q25),
                 cell(point.from_flow.q75), cell(point.from_predicted), cell(point.error.median), cell(point.error.q25),
                 cell(point.error.q75), cell(point.log_k_on), cell(point.log_k_off), cell(point.sharpness),
                 cell(point.edge), cell(point.bound)});
    }
    table.write(folder / ("beyond_descent_" + curve.problem + "_" + curve.algorithm + ".csv"));
  }
}

Picture beyond_descent_picture() {
  Picture picture;
  picture.name = "beyond_descent";
  picture.alt =
      "Four panels against the step over the longest stable one. Distance from the flow's limit, which rises like the "
      "step for descent and SGD, and from the prediction, which stays at rounding. Test error: that of descent rises, "
      "that of SGD falls. Change of log k: descent shrinks it on the support, SGD off it, too. Sharpness at the end of "
      "descent: below 2 over the step.";
  picture.width = 1120;
  picture.height = 860;
  picture.commands = R"gp(set multiplot layout 2,2 margins 0.085,0.985,0.08,0.95 spacing 0.1,0.13
gd = "beyond_descent_sparse_descent.csv"
sgd = "beyond_descent_sparse_sgd.csv"
set logscale x
set xrange [*:1.5]
set xlabel "step / longest stable step at the flow's limit"
set arrow 1 from 1, graph 0 to 1, graph 1 nohead back lc rgb ink lw 1.4 dt (8,5)
set title "Where does it end?"
set ylabel "relative distance of the end of the run"
set logscale y
set yrange [1e-16:1e2]
set ytics 1e-16,100,1 format "10^{%T}"
set key at graph 0.03, graph 0.62 left top Left reverse
plot gd using "fraction":"from_flow_q25":"from_flow_q75" with filledcurves lc rgb vermilion, \
     sgd using "fraction":"from_flow_q25":"from_flow_q75" with filledcurves lc rgb blue, \
     gd using "fraction":"from_flow_median" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb vermilion title "descent, from the flow's limit (quartiles shaded)", \
     sgd using "fraction":"from_flow_median" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb blue title "SGD, from the flow's limit", \
     gd using "fraction":"from_predicted_max" with linespoints pt 6 ps 0.6 lw 1.8 lc rgb vermilion dt (14,6) title "descent, from the prediction (largest)", \
     sgd using "fraction":"from_predicted_max" with linespoints pt 6 ps 0.6 lw 1.8 lc rgb blue dt (14,6) title "SGD, from the prediction (largest)"
unset logscale y
set title "Test error"
set ylabel "|β - β*|^2 over that of the flow's limit"
set yrange [0:*]
set ytics autofreq format "%g"
set key bottom left Left reverse
plot gd using "fraction":"error_q25":"error_q75" with filledcurves lc rgb vermilion, \
     sgd using "fraction":"error_q25":"error_q75" with filledcurves lc rgb blue, \
     1 with lines lw 1.4 lc rgb ink dt (2,4) title "gradient flow", \
     gd using "fraction":"error_median" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb vermilion title "descent", \
     sgd using "fraction":"error_median" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb blue title "SGD, batches of 1"
set title "Which coordinates shrink?"
set ylabel "median change of log {/:Italic k}"
set yrange [*:0.1]
set key bottom left Left reverse
plot gd using "fraction":"log_k_on" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb vermilion title "descent, on the support of β*", \
     gd using "fraction":"log_k_off" with linespoints pt 6 ps 0.6 lw 1.8 lc rgb vermilion dt (14,6) title "descent, off it", \
     sgd using "fraction":"log_k_on" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb blue title "SGD, on it", \
     sgd using "fraction":"log_k_off" with linespoints pt 6 ps 0.6 lw 1.8 lc rgb blue dt (14,6) title "SGD, off it"
set title "Sharpness where descent ends"
set ylabel "sharpness over that of the flow's limit"
set yrange [0.6:1.4]
set key bottom left Left reverse
plot 1/x with lines lw 1.8 lc rgb ink dt (14,6) title "2 / step", \
     gd using "fraction":"sharpness_median" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb vermilion title "descent, median"
unset multiplot
unset arrow
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
