#include "fig1_sparse_regression.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "plot.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/regularizers/norms.hpp"
#include "richflow/sweep/critical_scale.hpp"
#include "richflow/sweep/grid.hpp"
#include "richflow/sweep/sweep.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double never = -std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double smallest_log_alpha = -200.0;  // the paper's simulations stop near alpha = 1e-7
constexpr int decades_b = 7;                   // panel b: alpha from 1e-6 to 10
constexpr Index cliff_samples = 100;           // up to here panel c has more repetitions
constexpr int decades_a = 4;                   // panel a: from 1e-4 to 1, in the middle of them

SparseRegression<> problem(const Fig1Options& options, Index num_samples, Index repetition) {
  SparseRegressionOptions data;
  data.num_samples = num_samples;
  data.num_inputs = options.dimension;
  data.seed = options.seed;
  data.stream = static_cast<std::uint64_t>(repetition);
  return sparse_regression(data);
}

HypentropyPath<> uniform_path(const SparseRegression<>& regression) {
  return HypentropyPath<>(regression.dataset,
                          Hypentropy<>::uniform(regression.dataset.num_inputs(), Scale<>::from_value(1.0)));
}

NamedNumbers limit_numbers(const Fig1Options& options, const Cell& cell) {
  const SparseRegression regression = problem(options, options.num_samples, cell.integer("seed"));
  const Vector<double> l1 = min_l1_interpolator(regression.dataset).require_ok().beta;
  const Vector<double> l2 = min_l2_interpolator(regression.dataset);
  HypentropyPath<> path = uniform_path(regression);
  const Vector<double> far = path.solve(Scale<>::from_log(smallest_log_alpha)).require_ok().beta;
  return {{"min_l1_error", regression.population_error(l1)},
          {"min_l1_norm", l1_norm(l1)},
          {"min_l2_error", regression.population_error(l2)},
          {"min_l2_norm", l2_norm(l2)},
          {"far_error", regression.population_error(far)}};
}

NamedNumbers solved_numbers(const Fig1Options& options, const Cell& cell) {
  const SparseRegression regression = problem(options, options.num_samples, cell.integer("seed"));
  HypentropyPath<> path = uniform_path(regression);
  const Vector<double> beta = path.solve(Scale<>::from_value(cell["alpha"])).require_ok().beta;
  return {{"error", regression.population_error(beta)}, {"l1_norm", l1_norm(beta)}, {"l2_norm", l2_norm(beta)}};
}

/// Gradient flow on the 2d weights themselves, without any use of the theory, until it fits the data. In explicit steps
/// of its own: `simulate` would follow the dual variables, which are a part of what is checked.
NamedNumbers flow_numbers(const Fig1Options& options, const Cell& cell) {
  constexpr double loss = 1e-12;  // |X beta - y| <= 1e-6: beta is then known to about 1e-7
  const double alpha = cell["alpha"];
  // The loss that explicit steps can reach grows with the weights, like tolerance^2 alpha^4.
  const double tolerance = alpha < 0.3 ? 1e-9 : 1e-10;
  const SparseRegression regression = problem(options, options.num_samples, cell.integer("seed"));
  const SquaredDiagonalNet<double> model(options.dimension);
  const GradientFlow flow(model, regression.dataset);
  IntegrateOptions<> until_fit;
  until_fit.events = {loss_below(loss)};
  const auto solution =
      integrate(flow, model.initial_parameters(Scale<>::from_value(alpha)),
                TimeSpan{0.0, std::numeric_limits<double>::infinity()}, DormandPrince{},
                PiController<>{.tolerance = {.relative = tolerance, .absolute = tolerance * alpha}}, until_fit);
  Vector<double> beta(options.dimension);
  model.beta(solution.w, beta);
  return {{"error", regression.population_error(beta)}, {"arrived", solution.ok() ? 1.0 : 0.0}};
}

/// The error need not be monotone in alpha: the noise can make the limit alpha = 0 worse than a small alpha.
NamedNumbers critical_numbers(const Fig1Options& options, const Cell& cell) {
  const SparseRegression regression = problem(options, cell.integer("N"), cell.integer("seed"));
  HypentropyPath<> path = uniform_path(regression);
  CriticalScaleOptions search;
  search.low = Scale<>::from_log(smallest_log_alpha);
  const CriticalScale critical = largest_scale(
      [&](Scale<> scale) {
        return regression.population_error(path.solve(scale).require_ok().beta) <= options.threshold;
      },
      search);
  return {{"log_alpha", critical.kind == CriticalKind::never ? never : critical.scale.log()}};
}

NamedNumbers l1_numbers(const Fig1Options& options, const Cell& cell) {
  const SparseRegression regression = problem(options, cell.integer("N"), cell.integer("seed"));
  return {{"error", regression.population_error(min_l1_interpolator(regression.dataset).require_ok().beta)}};
}

std::vector<double> differences(std::vector<double> a, const std::vector<double>& b) {
  for (std::size_t k = 0; k < a.size(); ++k) a[k] -= b[k];
  return a;
}

double median(const std::vector<double>& values) { return quantile(values, 0.5); }

/// Limits are solved to a relative residual of 1e-12: smaller changes mean nothing.
constexpr double solved_to = 1e-12;

void check_a(const Fig1Options& options, const Fig1Sweeps& sweeps, Fig1& figure) {
  const std::vector<Fig1aPoint>& points = figure.panel_a;
  double largest_drop = 0.0;
  std::vector<double> slopes;
  for (std::size_t j = 1; j < points.size(); ++j) {
    const double rise = points[j].error.median - points[j - 1].error.median;
    largest_drop = std::max(largest_drop, -rise);
    slopes.push_back(rise / std::log(points[j].alpha / points[j - 1].alpha));
  }
  const double steepest = *std::max_element(slopes.begin(), slopes.end());
  auto& claims = figure.claims;
  claims.push_back(
      claim_at_most("fig1a", "the error grows with alpha: largest drop between neighbours", largest_drop, solved_to));
  claims.push_back(claim_at_most("fig1a", "S-curve: the steeper end's slope in log alpha over the steepest slope",
                                 std::max(slopes.front(), slopes.back()) / steepest, 0.1));
  claims.push_back(claim_between("fig1a", "left end: error at alpha = 1e-4 over the minimum-l1 error",
                                 points.front().error.median / figure.limits.min_l1_error, 0.97, 1.6));
  claims.push_back(claim_between("fig1a", "rich limit: error at log alpha = -200 over the minimum-l1 error",
                                 figure.limits.far_error / figure.limits.min_l1_error, 0.97, 1.03));
  claims.push_back(claim_between("fig1a", "plateau: error at alpha = 1 over the minimum-l2 error",
                                 points.back().error.median / figure.limits.min_l2_error, 0.98, 1.02));
  claims.push_back(claim_between("fig1a", "plateau over 1 - N/d",
                                 points.back().error.median / (1.0 - static_cast<double>(options.num_samples) /
                                                                         static_cast<double>(options.dimension)),
                                 0.95, 1.05));
  double largest_difference = 0.0;
  bool all_arrived = true;
  for (const double alpha : sweeps.flow.sweep().grid.axes()[0].values) {
    for (const double difference :
         differences(sweeps.flow.values("error", "alpha", alpha), sweeps.solved.values("error", "alpha", alpha)))
      largest_difference = std::max(largest_difference, std::abs(difference));
    for (const double arrived : sweeps.flow.values("arrived", "alpha", alpha))
      all_arrived = all_arrived && arrived == 1.0;
  }
  Claim agreement = claim_at_most("fig1a", "integrated and solved errors agree, all seeds: largest difference",
                                  largest_difference, 1e-6);
  agreement.holds = agreement.holds && all_arrived;
  if (!all_arrived) agreement.claim += " (some integrations did not reach their loss)";
  claims.push_back(agreement);
}

/// Between the neighbouring points of panel b, linear in log alpha.
double interpolated_excess_l1(const std::vector<Fig1bPoint>& points, double alpha) {
  for (std::size_t j = 1; j < points.size(); ++j) {
    if (alpha > points[j].alpha * (1.0 + 1e-9)) continue;
    const double share = std::log(alpha / points[j - 1].alpha) / std::log(points[j].alpha / points[j - 1].alpha);
    return points[j - 1].excess_l1 + share * (points[j].excess_l1 - points[j - 1].excess_l1);
  }
  return nan;
}

void check_b(Fig1& figure) {
  const std::vector<Fig1bPoint>& points = figure.panel_b;
  double max_l1 = 0.0, max_l2 = 0.0, wrong_l1 = 0.0, wrong_l2 = 0.0;
  for (std::size_t j = 0; j < points.size(); ++j) {
    max_l1 = std::max(max_l1, points[j].excess_l1);
    max_l2 = std::max(max_l2, points[j].excess_l2);
    if (j == 0) continue;
    wrong_l1 = std::max(wrong_l1, points[j - 1].excess_l1 - points[j].excess_l1);
    wrong_l2 = std::max(wrong_l2, points[j].excess_l2 - points[j - 1].excess_l2);
  }
  int crossings = 0;
  for (std::size_t j = 1; j < points.size(); ++j) {
    const auto sign = [&](const Fig1bPoint& p) { return p.excess_l1 / max_l1 > p.excess_l2 / max_l2; };
    if (sign(points[j]) != sign(points[j - 1])) ++crossings;
  }
  auto& claims = figure.claims;
  claims.push_back(claim_at_most("fig1b", "excess l1 rises: largest fall between neighbours", wrong_l1, solved_to));
  claims.push_back(claim_at_most("fig1b", "excess l2 falls: largest rise between neighbours", wrong_l2, solved_to));
  // Numbers measured before this program existed, on other problems of the same kind.
  constexpr std::pair<double, double> seen[] = {{1e-6, 0.006}, {1e-3, 0.057}, {0.024, 1.28}, {10.0, 5.1}};
  for (const auto& [alpha, value] : seen)
    claims.push_back(claim_between("fig1b", "excess l1 at alpha = " + short_number(alpha),
                                   interpolated_excess_l1(points, alpha), value / 1.5, 1.5 * value));
  claims.push_back(claim_at_most("fig1b", "excess l1 starts near 0: at alpha = 1e-6 over its maximum",
                                 points.front().excess_l1 / max_l1, 0.01));
  claims.push_back(claim_at_most("fig1b", "excess l2 ends near 0: at alpha = 10 over its maximum",
                                 points.back().excess_l2 / max_l2, 0.01));
  claims.push_back({"fig1b", "crossings of the two, each scaled by its maximum", "1", static_cast<double>(crossings),
                    crossings == 1});
}

const Fig1cPoint* find_samples(const Fig1& figure, Index num_samples) {
  for (const Fig1cPoint& point : figure.panel_c)
    if (point.num_samples == num_samples) return &point;
  return nullptr;
}

void check_c(const Fig1Options& options, Fig1& figure) {
  auto& claims = figure.claims;
  const double to_decades = 1.0 / std::log(10.0);

  // Measured between medians that exist: where no scale down to e^-200 learns, there is none.
  const Fig1cPoint* edge = nullptr;
  const Fig1cPoint* beyond = nullptr;
  for (const Fig1cPoint& point : figure.panel_c) {
    if (figure.dashed_line == 0 || point.num_samples < figure.dashed_line || point.log_alpha.median == never) continue;
    if (edge == nullptr) edge = &point;
    if (point.num_samples <= edge->num_samples + 15) beyond = &point;
  }
  const std::string at_edge = edge != nullptr ? std::to_string(edge->num_samples) : "none";
  claims.push_back(claim_at_most("fig1c", "cliff: first N with a median alpha (" + at_edge + ") beyond the dashed line",
                                 edge != nullptr ? static_cast<double>(edge->num_samples - figure.dashed_line) : nan,
                                 15.0));
  claims.push_back(
      claim_at_least("fig1c", "cliff: decades of alpha gained in 15 samples from there",
                     edge != nullptr ? (beyond->log_alpha.median - edge->log_alpha.median) * to_decades : nan, 3.0));

  const Fig1cPoint* at_100 = find_samples(figure, 100);
  const Fig1cPoint* at_500 = find_samples(figure, 500);
  if (at_100 != nullptr && at_500 != nullptr)
    claims.push_back(claim_at_most("fig1c", "growth of the median alpha from N = 100 to 500",
                                   std::exp(at_500->log_alpha.median - at_100->log_alpha.median), 20.0));

  // The quartiles at N = 80 are a factor 12 apart. A median of n repetitions then has a standard error of about
  // 2.3 / sqrt(n) in log alpha, and takes a hundred or so to be known to a factor 2.
  const bool can_tell = options.num_seeds_cliff >= 100;
  constexpr std::pair<Index, double> seen[] = {{80, 0.001}, {100, 0.0045}, {125, 0.009}, {250, 0.028}, {500, 0.055}};
  for (const auto& [num_samples, value] : seen)
    if (const Fig1cPoint* point = find_samples(figure, num_samples); point != nullptr && (num_samples > 80 || can_tell))
      claims.push_back(claim_between("fig1c", "median alpha at N = " + std::to_string(num_samples),
                                     std::exp(point->log_alpha.median), 0.5 * value, 2.0 * value));
}

std::vector<Index> joined(std::vector<Index> a, const std::vector<Index>& b) {
  a.insert(a.end(), b.begin(), b.end());
  std::sort(a.begin(), a.end());
  a.erase(std::unique(a.begin(), a.end()), a.end());
  return a;
}

std::vector<double> alphas_b(const Fig1Options& options) {
  return spaced(1e-6, 10.0, decades_b * options.per_decade + 1, Spacing::logarithmic);
}

/// The values of panel a are some of those of panel b.
std::vector<double> alphas_a(const Fig1Options& options) {
  const std::vector<double> all = alphas_b(options);
  const auto first = all.begin() + 2 * options.per_decade;
  return {first, first + decades_a * options.per_decade + 1};
}

}  // namespace

Fig1Options fig1_options(Effort effort) {
  Fig1Options options;
  switch (effort) {
    case Effort::quick:
      options.num_seeds = 2;
      options.num_seeds_cliff = 10;
      options.per_decade = 4;
      options.samples_c = joined(index_range(44, 72, 4), {80, 100, 125, 250});
      options.samples_l1 = joined(index_range(40, 72, 2), {80, 100, 125});
      break;
    case Effort::standard:
      options.samples_c =
          joined(index_range(40, 80, 2), {85, 90, 95, 100, 110, 125, 150, 175, 200, 250, 300, 350, 400, 450, 500});
      options.samples_l1 = joined(index_range(40, 80, 1), {90, 100, 125, 150, 200, 250, 300, 400, 500});
      break;
    case Effort::full:
      options.num_seeds = 48;
      options.num_seeds_cliff = 400;
      options.per_decade = 12;
      options.samples_c = joined(joined(index_range(40, 80, 1), index_range(85, 200, 5)), index_range(225, 500, 25));
      options.samples_l1 = joined(index_range(40, 80, 1), index_range(100, 500, 50));
      break;
  }
  return options;
}

Fig1Sweeps run_fig1_sweeps(const Fig1Options& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(options.num_seeds_cliff >= 1, "num_seeds_cliff must be at least 1, got ", options.num_seeds_cliff);
  require(options.per_decade >= 1 && options.flow_every >= 1, "per_decade and flow_every must be positive");
  require(options.num_samples < options.dimension, "num_samples = ", options.num_samples,
          " must be below dimension = ", options.dimension);

  const std::map<std::string, std::string> every = {{"seed", std::to_string(options.seed)},
                                                    {"d", std::to_string(options.dimension)}};
  auto at_samples = every;
  at_samples["N"] = std::to_string(options.num_samples);
  auto at_threshold = every;
  at_threshold["threshold"] = exact_number(options.threshold);

  const Axis alphas{"alpha", alphas_b(options)};
  Axis alphas_flow{"alpha", {}};
  const std::vector<double> panel_a = alphas_a(options);
  for (std::size_t j = 0; j < panel_a.size(); j += static_cast<std::size_t>(options.flow_every))
    alphas_flow.values.push_back(panel_a[j]);
  const Axis seeds = seed_axis(options.num_seeds);
  const Axis seeds_c = seed_axis(std::max(options.num_seeds, options.num_seeds_cliff));
  const Grid critical = Grid({index_axis("N", options.samples_c), seeds_c}).where([&](const Cell& cell) {
    return cell.integer("seed") < (cell.integer("N") <= cliff_samples ? options.num_seeds_cliff : options.num_seeds);
  });

  // Costs in seconds, roughly.
  const auto size = [](const Cell& cell) { return cell["N"] / 500.0; };
  const auto with = [&](auto* numbers) {
    return [&options, numbers](const Cell& cell) { return numbers(options, cell); };
  };
  return {
      runner.run({"fig1_limits",
                  Grid({seeds}),
                  {"min_l1_error", "min_l1_norm", "min_l2_error", "min_l2_norm", "far_error"},
                  at_samples},
                 with(limit_numbers)),
      runner.run({"fig1_solved", Grid({alphas, seeds}), {"error", "l1_norm", "l2_norm"}, at_samples},
                 with(solved_numbers)),
      runner.run({"fig1_flow", Grid({alphas_flow, seeds}), {"error", "arrived"}, at_samples}, with(flow_numbers),
                 [](const Cell& cell) { return 0.05 - 0.2 * std::log(cell["alpha"]); }),
      runner.run({"fig1_critical", critical, {"log_alpha"}, at_threshold}, with(critical_numbers),
                 [&](const Cell& cell) { return 0.02 + size(cell) * size(cell); }),
      runner.run(
          {"fig1_l1", Grid({index_axis("N", options.samples_l1), seed_axis(2 * options.num_seeds)}), {"error"}, every},
          with(l1_numbers), [&](const Cell& cell) { return 0.005 + 0.5 * size(cell) * size(cell); }),
  };
}

Fig1 make_fig1(const Fig1Options& options, const Fig1Sweeps& sweeps) {
  for (const SweepResult* result : {&sweeps.limits, &sweeps.solved, &sweeps.flow, &sweeps.critical, &sweeps.l1})
    static_cast<void>(result->require_ok());

  Fig1 figure;
  const std::vector<double> panel_a = alphas_a(options);
  for (std::size_t j = 0; j < panel_a.size(); ++j) {
    Fig1aPoint point;
    point.alpha = panel_a[j];
    point.error = quartiles(sweeps.solved.values("error", "alpha", point.alpha));
    const bool integrated = j % static_cast<std::size_t>(options.flow_every) == 0;
    point.error_flow = integrated ? median(sweeps.flow.values("error", "alpha", point.alpha)) : nan;
    figure.panel_a.push_back(point);
  }
  figure.limits.min_l1_error = median(sweeps.limits.values("min_l1_error"));
  figure.limits.far_error = median(sweeps.limits.values("far_error"));
  figure.limits.min_l2_error = median(sweeps.limits.values("min_l2_error"));
  const std::vector<double> min_l1 = sweeps.limits.values("min_l1_norm");
  const std::vector<double> min_l2 = sweeps.limits.values("min_l2_norm");
  for (const double alpha : alphas_b(options))
    figure.panel_b.push_back({alpha, median(differences(sweeps.solved.values("l1_norm", "alpha", alpha), min_l1)),
                              median(differences(sweeps.solved.values("l2_norm", "alpha", alpha), min_l2))});
  for (const Index n : options.samples_c) {
    const std::vector<double> log_alpha = sweeps.critical.values("log_alpha", "N", static_cast<double>(n));
    const auto count = std::count(log_alpha.begin(), log_alpha.end(), never);
    figure.panel_c.push_back({n, static_cast<Index>(log_alpha.size()), quartiles(log_alpha),
                              static_cast<double>(count) / static_cast<double>(log_alpha.size())});
  }
  for (const Index n : options.samples_l1) {
    figure.l1.push_back({n, median(sweeps.l1.values("error", "N", static_cast<double>(n)))});
    if (figure.dashed_line == 0 && figure.l1.back().l1_error_median <= options.threshold) figure.dashed_line = n;
  }
  check_a(options, sweeps, figure);
  check_b(figure);
  check_c(options, figure);
  return figure;
}

void write_fig1_tables(const Fig1& figure, const std::filesystem::path& folder) {
  CsvWriter a({"alpha", "error_median", "error_q25", "error_q75", "error_flow"});
  for (const Fig1aPoint& point : figure.panel_a)
    a.row({point.alpha, point.error.median, point.error.q25, point.error.q75, CsvCell::or_empty(point.error_flow)});
  a.write(folder / "fig1a.csv");
  CsvWriter limits({"limit", "error_median"});
  limits.row({"min_l1", figure.limits.min_l1_error});
  limits.row({"log_alpha_-200", figure.limits.far_error});
  limits.row({"min_l2", figure.limits.min_l2_error});
  limits.write(folder / "fig1a_limits.csv");
  CsvWriter b({"alpha", "excess_l1", "excess_l2"});
  for (const Fig1bPoint& point : figure.panel_b) b.row({point.alpha, point.excess_l1, point.excess_l2});
  b.write(folder / "fig1b.csv");
  // An empty cell says that this quartile of the seeds never learns.
  const auto alpha_cell = [](double log_alpha) {
    return log_alpha == never ? CsvCell::empty() : CsvCell(std::exp(log_alpha));
  };
  CsvWriter c({"N", "alpha_median", "alpha_q25", "alpha_q75", "never_fraction", "repetitions"});
  for (const Fig1cPoint& point : figure.panel_c)
    c.row({point.num_samples, alpha_cell(point.log_alpha.median), alpha_cell(point.log_alpha.q25),
           alpha_cell(point.log_alpha.q75), point.never_fraction, point.repetitions});
  c.write(folder / "fig1c.csv");
  CsvWriter l1({"N", "l1_error_median"});
  for (const Fig1L1Point& point : figure.l1) l1.row({point.num_samples, point.l1_error_median});
  l1.write(folder / "fig1c_l1.csv");
}

Picture fig1_picture(const Fig1& figure) {
  Picture picture;
  picture.name = "fig1";
  picture.alt =
      "Three panels. (a) Population error of the flow's limit against alpha: an S-curve from the minimum-l1 error at "
      "small alpha to the minimum-l2 error at large alpha, with circles where the flow was integrated. (b) The l1 norm "
      "beyond its minimum rises from 0 with alpha while the l2 norm beyond its minimum falls to 0. (c) The largest "
      "alpha that "
      "learns against the number of samples: a cliff just right of the dashed line where minimum l1 learns, then slow "
      "growth.";
  picture.width = 1560;
  picture.height = 470;
  picture.setup = "min_l1 = " + exact_number(figure.limits.min_l1_error) +
                  "; min_l2 = " + exact_number(figure.limits.min_l2_error) +
                  "; far = " + exact_number(figure.limits.far_error) +
                  "; dashed = " + std::to_string(figure.dashed_line) + "\n";
  picture.panels = panels_in_grid(3, {"fig1a", "fig1b", "fig1c"}, {0.33, 0.675});
  picture.commands = R"gp(set multiplot
set tmargin at screen 0.9
set bmargin at screen 0.15
set lmargin at screen 0.048
set rmargin at screen 0.305
set title "(a) Population error of the flow's limit"
set xlabel "α"
set ylabel "population error"
set logscale x
set xrange [1.5e-5:2.2]
set yrange [0:1]
set xtics ("10^{-4}" 1e-4, "10^{-3}" 1e-3, "10^{-2}" 1e-2, "10^{-1}" 1e-1, "1" 1, "e^{-200}" 2.8e-5)
set ytics 0.2
set arrow 1 from graph 0, first min_l2 to graph 1, first min_l2 nohead lc rgb vermilion lw 1.4 dt (10,6)
set arrow 2 from graph 0, first min_l1 to graph 1, first min_l1 nohead lc rgb green lw 1.4 dt (10,6)
set label 1 "min-ℓ_2 interpolator" at 1.15e-4, min_l2 offset 0,0.75 tc rgb vermilion
set label 2 "min-ℓ_1 interpolator" right at 1.6, min_l1 offset 0,0.75 tc rgb green
set key at graph 0.06, graph 0.72 left top Left reverse
plot "fig1a.csv" using "alpha":"error_q25":"error_q75" with filledcurves lc rgb blue, \
     "" using "alpha":"error_median" with lines lw 2.8 lc rgb blue title "solved (quartiles shaded)", \
     "" using "alpha":"error_flow" with points pt 6 ps 1.1 lw 1.8 lc rgb ink title "flow integrated", \
     "+" using (2.8e-5):(far) every ::0::0 with points pt 7 ps 1.1 lc rgb blue title "solved at α = e^{-200}"
unset arrow; unset label
set lmargin at screen 0.363
set rmargin at screen 0.612
set title "(b) Norms beyond the smallest"
set xrange [1e-6:10]
set yrange [0:*]
set y2range [0:*]
set xtics 1e-6,100,1 format "10^{%T}"
set ytics 1 nomirror tc rgb blue
set y2tics 0.1 nomirror out scale 0.6 tc rgb vermilion
set ylabel "‖{/:Italic β}‖_1 − ‖{/:Italic β}_{ℓ1}‖_1" tc rgb blue
set y2label "‖{/:Italic β}‖_2 − ‖{/:Italic β}_{ℓ2}‖_2" tc rgb vermilion offset -0.5,0
set border 11
unset key
plot "fig1b.csv" using "alpha":"excess_l1" with lines lw 2.8 lc rgb blue, \
     "" using "alpha":"excess_l2" axes x1y2 with lines lw 2.8 lc rgb vermilion dt (14,6)
set border 3
unset y2tics; unset y2label
set lmargin at screen 0.742
set rmargin at screen 0.99
set title "(c) Largest α with error at most 0.025"
set xlabel "number of samples {/:Italic N}"
set ylabel "largest α that learns" tc rgb ink
set logscale xy
set xrange [38:520]
set yrange [1e-16:1]
set xtics format "%g"
set xtics (40, 50, 60, 80, 100, 150, 200, 300, 500)
set ytics 1e-16,1e4,1 format "10^{%T}" tc rgb ink
if (dashed > 0) { set arrow 1 from dashed, graph 0 to dashed, graph 1 nohead lc rgb ink lw 1.4 dt (8,5) }
set key default
set key inside bottom right Left reverse noautotitle samplen 2.5 spacing 1.25 tc rgb ink
bottom(name) = strcol(name) eq "" || real(strcol(name)) < 1e-16 ? 1e-16 : real(strcol(name))
plot "fig1c.csv" using "N":(bottom("alpha_q25")):(bottom("alpha_q75")) with filledcurves lc rgb blue, \
     "" using "N":"alpha_median" with linespoints pt 7 ps 0.5 lw 2.4 lc rgb blue title "median (quartiles shaded)", \
     "" using "N":(strcol("alpha_median") eq "" ? 1e-16 : NaN) with points pt 11 ps 1.1 lc rgb vermilion title "none, down to e^{-200}", \
     NaN with lines lw 1.4 lc rgb ink dt (8,5) title sprintf("min-ℓ_1 learns: {/:Italic N} = %d", dashed)
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
