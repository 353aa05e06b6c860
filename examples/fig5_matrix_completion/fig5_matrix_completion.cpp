#include "fig5_matrix_completion.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/regularizers/schatten.hpp"
#include "statistics.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double fitted = 1e-16;   // L over |y|^2 at which the flow counts as fitted
constexpr double accuracy = 1e-4;  // of a step, per direction: the limit is then known to about 1e-6
constexpr int attempts = 1000;     // to draw a mask that sees every row and column

using Completion = MatrixFactorization<double>;

/// 1 where an entry is not observed.
Matrix<double> unobserved(const MatrixCompletion<>& problem) {
  Matrix<double> mask = Matrix<double>::Ones(problem.truth.rows(), problem.truth.cols());
  for (const auto [i, j] : problem.observations.dataset.measurements().places()) mask(i, j) = 0.0;
  return mask;
}

/// Root mean square of the entries that are not observed.
double rms_unobserved(const MatrixCompletion<>& problem, const Matrix<double>& M) {
  const Matrix<double> mask = unobserved(problem);
  return mask.cwiseProduct(M).norm() / std::sqrt(std::max(1.0, mask.sum()));
}

NamedNumbers problem_numbers(const Fig5Options& options, const Cell& cell) {
  const Fig5Problem problem = fig5_problem(options, cell.integer("seed"));
  const Dataset<>& data = problem.completion.observations.dataset;
  return {{"truth_nuclear", nuclear_norm(problem.completion.truth)},
          {"min_nuclear", min_nuclear_norm_interpolator(data).require_ok().objective},
          {"kernel_nuclear", nuclear_norm(min_frobenius_interpolator(data))},
          {"truth_rms_unobserved", rms_unobserved(problem.completion, problem.completion.truth)},
          {"refused_masks", static_cast<double>(problem.num_refused)}};
}

NamedNumbers limit_numbers(const Fig5Options& options, const Cell& cell) {
  const MatrixCompletion problem = fig5_problem(options, cell.integer("seed")).completion;
  const Dataset<>& data = problem.observations.dataset;
  const Completion wide(options.dimension, options.dimension, cell.integer("k"));
  RandomStream random(options.seed, cell.stream());
  const Vector<double> start = wide.reduced_initial_parameters(random, Scale<>::from_value(std::sqrt(cell["alpha2"])));
  const LiftedFlow flow(wide.reduced(), data);
  const auto solution = integrate_to_loss(flow, start, fitted * data.y().squaredNorm(), accuracy);
  static_cast<void>(solution.require_ok());
  const Matrix<double> M = flow.model().product(solution.w);
  return {{"excess_nuclear", nuclear_norm(M) - nuclear_norm(problem.truth)},
          {"rms_unobserved_change", rms_unobserved(problem, M - flow.model().product(start))},
          {"time", solution.t},
          {"steps", static_cast<double>(solution.step)}};
}

Axis width_axis(const std::vector<double>& widths) { return {"k", widths}; }

std::vector<double> as_numbers(const std::vector<Index>& values) { return {values.begin(), values.end()}; }

/// The range of `values` in even steps of the logarithm; one value is its own range.
std::vector<double> refined(const std::vector<double>& values, int resolution) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (*low == *high) return {*low};
  return spaced(*low, *high, resolution, Spacing::logarithmic);
}

std::vector<double> map_widths(const Fig5Options& options) {
  return as_numbers(fig5_widths(refined(as_numbers(options.widths), options.resolution)));
}

std::vector<double> map_alpha2(const Fig5Options& options) { return refined(options.alpha2, options.resolution); }

double median(const std::vector<double>& values) { return quantile(values, 0.5); }

/// What each seed's problem has, by seed.
struct Problems {
  std::vector<double> truth, minimum, kernel, rms_truth;
};

/// Medians over the seeds, for every combination of alpha2 and k.
std::vector<Fig5Point> medians(const SweepResult& result, const Problems& problems) {
  std::map<std::pair<double, double>, std::vector<std::vector<double>>> groups;
  for (const SweepRow& row : result.rows()) {
    const Cell cell = result.cell(row);
    const auto seed = static_cast<std::size_t>(cell.integer("seed"));
    auto& group = groups[{cell["alpha2"], cell["k"]}];
    group.resize(3);
    const double excess = result.value(row, "excess_nuclear");
    group[0].push_back(excess / problems.truth[seed]);
    group[1].push_back((excess + problems.truth[seed] - problems.minimum[seed]) / problems.truth[seed]);
    group[2].push_back(result.value(row, "rms_unobserved_change") / problems.rms_truth[seed]);
  }
  std::vector<Fig5Point> points;
  for (const auto& [at, group] : groups)
    points.push_back({at.first, at.second, median(group[0]), median(group[1]), median(group[2])});
  return points;
}

/// The alpha^2 k, interpolated in its logarithm, at which a curve first reaches `level`, rising or falling; NaN when it
/// does nowhere. Where several points have the same alpha^2 k, up to rounding, their mean counts.
double crossing(std::vector<std::pair<double, double>> points, double level) {
  std::sort(points.begin(), points.end());
  std::vector<std::pair<double, double>> curve;
  for (std::size_t j = 0; j < points.size();) {
    std::size_t end = j;
    double sum = 0.0;
    for (; end < points.size() && points[end].first <= points[j].first * (1.0 + 1e-9); ++end) sum += points[end].second;
    curve.emplace_back(points[j].first, sum / static_cast<double>(end - j));
    j = end;
  }
  for (std::size_t j = 1; j < curve.size(); ++j) {
    const auto [x0, y0] = curve[j - 1];
    const auto [x1, y1] = curve[j];
    if ((y0 < level) != (y1 < level)) return std::exp(std::log(x0) + (level - y0) / (y1 - y0) * std::log(x1 / x0));
  }
  return nan;
}

void check(const Problems& problems, Fig5& figure) {
  double rich_excess = 0.0, kernel_motion = 0.0, below_minimum = 0.0;
  Index num_rich = 0, num_kernel = 0;
  std::vector<std::pair<double, double>> excess, motion;
  for (const Fig5Point& point : figure.points) {
    const double strength = point.alpha2 * point.width;
    excess.emplace_back(strength, point.excess);
    motion.emplace_back(strength, point.motion);
    below_minimum = std::max(below_minimum, -point.excess_minimum);
    if (strength <= 1e-2 * (1.0 + 1e-12)) {
      ++num_rich;
      rich_excess = std::max(rich_excess, std::abs(point.excess));
    }
    if (strength >= 100.0 * (1.0 - 1e-12)) {
      ++num_kernel;
      kernel_motion = std::max(kernel_motion, point.motion);
    }
  }
  std::vector<double> kernel_excess;
  for (std::size_t s = 0; s < problems.truth.size(); ++s)
    kernel_excess.push_back(problems.kernel[s] / problems.truth[s] - 1.0);
  auto& claims = figure.claims;
  claims.push_back(claim_at_most("fig5",
                                 "rich where alpha^2 k <= 0.01: largest median |excess nuclear norm| over |Y*|_*",
                                 num_rich > 0 ? rich_excess : nan, 0.05));
  claims.push_back(claim_at_most(
      "fig5", "kernel where alpha^2 k >= 100: largest median motion of the unobserved entries, over the rich one",
      num_kernel > 0 ? kernel_motion : nan, 0.1));
  claims.push_back(claim_between("fig5", "alpha^2 k where the excess is half that of the kernel limit",
                                 crossing(excess, 0.5 * median(kernel_excess)), 0.1, 10.0));
  claims.push_back(claim_between("fig5",
                                 "alpha^2 k where the unobserved entries move half as far as in the rich regime",
                                 crossing(motion, 0.5), 0.1, 10.0));
  claims.push_back(claim_at_most(
      "fig5", "no limit is below the minimum nuclear norm: largest median shortfall over |Y*|_*", below_minimum, 1e-6));
}

/// Borders half-way, in logarithm, between the values; a decade around a single one.
std::vector<double> borders(const std::vector<double>& values) {
  if (values.size() == 1) return {values[0] / std::sqrt(10.0), values[0] * std::sqrt(10.0)};
  std::vector<double> result(values.size() + 1);
  for (std::size_t k = 1; k < values.size(); ++k) result[k] = std::sqrt(values[k - 1] * values[k]);
  result.front() = values.front() * values.front() / result[1];
  result.back() = values.back() * values.back() / result[values.size() - 1];
  return result;
}

std::size_t place(const std::vector<double>& values, double value) {
  return static_cast<std::size_t>(std::find(values.begin(), values.end(), value) - values.begin());
}

}  // namespace

Fig5Options fig5_options(Effort effort) {
  Fig5Options options;
  switch (effort) {
    case Effort::quick:
      options.num_seeds = 5;
      options.num_seeds_map = 1;
      options.resolution = 12;
      break;
    case Effort::standard:
      break;
    case Effort::full:
      options.num_seeds = 50;
      options.num_seeds_map = 11;
      options.resolution = 60;
      break;
  }
  return options;
}

std::vector<Index> fig5_widths(const std::vector<double>& numbers) {
  std::vector<Index> widths;
  for (const double number : numbers) {
    require(number >= 0.5 && number < 1e15, "--widths must be at least 1, got ", number);
    widths.push_back(static_cast<Index>(std::llround(number)));
  }
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  return widths;
}

std::vector<Index> parse_fig5_widths(std::string_view text) {
  const std::vector<double> numbers = parse_list("--widths", text, Spacing::logarithmic);
  const bool is_range = text.find(':') != std::string_view::npos;
  for (const double number : is_range ? std::vector<double>{numbers.front(), numbers.back()} : numbers)
    require(number == std::floor(number), "--widths '", text, "': ", number, " is not a whole number");
  return fig5_widths(numbers);
}

Fig5Problem fig5_problem(const Fig5Options& options, Index repetition) {
  MatrixCompletionOptions drawn;
  drawn.rows = drawn.cols = options.dimension;
  drawn.num_observed = options.num_observed;
  drawn.seed = options.seed;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    drawn.stream = static_cast<std::uint64_t>(repetition) * attempts + static_cast<std::uint64_t>(attempt);
    MatrixCompletion<> completion = matrix_completion(drawn);
    if (completion.observations.empty_rows.empty() && completion.observations.empty_cols.empty())
      return {std::move(completion), attempt};
  }
  throw ConvergenceError("no mask of " + std::to_string(options.num_observed) +
                         " entries sees every row and column of a " + std::to_string(options.dimension) + " x " +
                         std::to_string(options.dimension) + " matrix");
}

Fig5Sweeps run_fig5_sweeps(const Fig5Options& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(options.num_seeds_map >= 1 && options.num_seeds_map <= options.num_seeds,
          "num_seeds_map must be between 1 and num_seeds = ", options.num_seeds, ", got ", options.num_seeds_map);
  require(options.resolution >= 2, "resolution must be at least 2, got ", options.resolution);
  require(!options.alpha2.empty() && !options.widths.empty(), "alpha2 and widths must have values");
  for (const double value : options.alpha2) require(value > 0.0, "--alpha2 must be positive, got ", value);
  const std::map<std::string, std::string> settings = {{"seed", std::to_string(options.seed)},
                                                       {"d", std::to_string(options.dimension)},
                                                       {"N", std::to_string(options.num_observed)}};
  const std::vector<std::string> outputs = {"excess_nuclear", "rms_unobserved_change", "time", "steps"};
  const auto limits = [&](const Cell& cell) { return limit_numbers(options, cell); };
  return {
      runner.run({"fig5_problems",
                  Grid({seed_axis(options.num_seeds)}),
                  {"truth_nuclear", "min_nuclear", "kernel_nuclear", "truth_rms_unobserved", "refused_masks"},
                  settings},
                 [&](const Cell& cell) { return problem_numbers(options, cell); }),
      runner.run(
          {"fig5_points",
           Grid({Axis{"alpha2", options.alpha2}, width_axis(as_numbers(options.widths)), seed_axis(options.num_seeds)}),
           outputs, settings},
          limits),
      runner.run({"fig5_map",
                  Grid({Axis{"alpha2", map_alpha2(options)}, width_axis(map_widths(options)),
                        seed_axis(options.num_seeds_map)}),
                  outputs, settings},
                 limits)};
}

Fig5 make_fig5(const Fig5Options& options, const Fig5Sweeps& sweeps) {
  for (const SweepResult* result : {&sweeps.problems, &sweeps.points, &sweeps.map})
    static_cast<void>(result->require_ok());
  const Problems problems{sweeps.problems.values("truth_nuclear"), sweeps.problems.values("min_nuclear"),
                          sweeps.problems.values("kernel_nuclear"), sweeps.problems.values("truth_rms_unobserved")};
  Fig5 figure;
  figure.points = medians(sweeps.points, problems);
  figure.map = medians(sweeps.map, problems);
  figure.map_alpha2 = map_alpha2(options);
  figure.map_widths = map_widths(options);
  check(problems, figure);
  return figure;
}

void write_fig5_tables(const Fig5& figure, const Fig5Sweeps& sweeps, const std::filesystem::path& folder) {
  CsvWriter points({"alpha2", "k", "seed", "excess_nuclear", "rms_unobserved_change"});
  for (const SweepRow& row : sweeps.points.rows()) {
    const Cell cell = sweeps.points.cell(row);
    points.row({cell["alpha2"], cell.integer("k"), cell.integer("seed"), sweeps.points.value(row, "excess_nuclear"),
                sweeps.points.value(row, "rms_unobserved_change")});
  }
  points.write(folder / "fig5.csv");
  CsvWriter medians({"strength", "alpha2", "k", "relative_excess", "relative_excess_over_minimum", "relative_motion"});
  for (const Fig5Point& point : figure.points)
    medians.row(
        {point.alpha2 * point.width, point.alpha2, point.width, point.excess, point.excess_minimum, point.motion});
  medians.write(folder / "fig5_medians.csv");
  const std::vector<double> alpha2_borders = borders(figure.map_alpha2);
  const std::vector<double> width_borders = borders(figure.map_widths);
  CsvWriter map({"k", "alpha2", "k_low", "k_high", "alpha2_low", "alpha2_high", "relative_excess", "relative_motion"});
  for (const Fig5Point& point : figure.map) {
    const std::size_t i = place(figure.map_alpha2, point.alpha2);
    const std::size_t j = place(figure.map_widths, point.width);
    map.row({point.width, point.alpha2, width_borders[j], width_borders[j + 1], alpha2_borders[i],
             alpha2_borders[i + 1], point.excess, point.motion});
  }
  map.write(folder / "fig5_map.csv");
}

Picture fig5_picture(const Fig5& figure) {
  const std::vector<double> alpha2 = borders(figure.map_alpha2);
  const std::vector<double> widths = borders(figure.map_widths);
  Picture picture;
  picture.name = "fig5";
  picture.alt =
      "Two heatmaps over width and variance of the initial entries, and a plot. Left: the nuclear norm in excess of "
      "the "
      "truth is near zero below the line alpha^2 k = 1 and grows above it. Middle: the unobserved entries move as far "
      "as "
      "the truth asks below the line and stay where they were above it. Right: both against alpha^2 k; points of all "
      "widths fall on one curve, with the transition near 1.";
  picture.width = 1560;
  picture.height = 470;
  picture.setup = "k_low = " + exact_number(widths.front()) + "; k_high = " + exact_number(widths.back()) +
                  "; a_low = " + exact_number(alpha2.front()) + "; a_high = " + exact_number(alpha2.back()) + "\n";
  picture.panels = panels_in_grid(3, {"", "", "fig5"}, {0.35, 0.675});
  picture.commands = R"gp(set multiplot
set tmargin at screen 0.88
set bmargin at screen 0.16
set palette defined (0 "#fbf7ef", 0.15 "#f7d9a8", 0.4 "#e69f00", 0.7 "#c4461f", 1 "#4b0f38")
set logscale xy
set xrange [k_low:k_high]
set yrange [a_low:a_high]
set xtics 10,10,1e6 format "10^{%T}"
set ytics 1e-8,100,1e-2 format "10^{%T}"
set xlabel "width {/:Italic k}"
set ylabel "variance α^2 of the initial entries"
set style fill solid 1 noborder
set grid noxtics noytics
set colorbox user size 0.009,0.72
set cbtics nomirror out scale 0.5 tc rgb ink
line(x) = 1.0 / x
set lmargin at screen 0.055
set rmargin at screen 0.275
set colorbox user origin 0.281,0.16
set cbrange [0:0.6]
set cbtics 0.2
set title "Nuclear norm beyond that of the truth, relative"
set label 1 "α^2{/:Italic k} = 1" at 1500,1.1e-4 rotate by -38 center tc rgb ink front
plot "fig5_map.csv" using "k":"alpha2":"k_low":"k_high":"alpha2_low":"alpha2_high":"relative_excess" with boxxyerror lc palette, \
     line(x) with lines lw 2 lc rgb ink dt (8,5)
set lmargin at screen 0.385
set rmargin at screen 0.605
set colorbox user origin 0.611,0.16
set cbrange [0:1]
set cbtics 0.25
set title "Motion of the unobserved entries, over the truth's"
plot "fig5_map.csv" using "k":"alpha2":"k_low":"k_high":"alpha2_low":"alpha2_high":"relative_motion" with boxxyerror lc palette, \
     line(x) with lines lw 2 lc rgb ink dt (8,5)
unset label 1
set lmargin at screen 0.725
set rmargin at screen 0.985
set title "All widths on one curve"
set xlabel "α^2{/:Italic k}"
set ylabel "relative, median over the seeds"
set grid xtics ytics
unset logscale y
set xrange [1e-7:1e4]
set yrange [0:1.15]
set xtics 1e-6,100,1e4 format "10^{%T}"
set ytics 0.25 format "%g"
set arrow 1 from 1, graph 0 to 1, graph 1 nohead lc rgb ink lw 1.4 dt (8,5)
set key at graph 0.03, graph 0.62 left top Left reverse
plot "fig5_medians.csv" using "strength":"relative_motion" with points pt 7 ps 0.8 lc rgb blue title "motion", \
     "" using "strength":"relative_excess" with points pt 6 ps 0.9 lw 1.8 lc rgb vermilion title "excess"
unset arrow
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
