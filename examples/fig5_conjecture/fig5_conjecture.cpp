#include "fig5_conjecture.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/minimizers/schatten_path.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "richflow/regularizers/schatten.hpp"

namespace richflow::examples {

namespace {

constexpr double fitted = 1e-18;   // L over |y|^2 at which the flow counts as fitted
constexpr double accuracy = 1e-6;  // of a step, per direction
constexpr int lowest_decade = -8;
constexpr int highest_decade = 4;

double relative_distance(const Matrix<double>& a, const Matrix<double>& b) { return (a - b).norm() / b.norm(); }

/// Where the flow ends from the start of infinite width.
Matrix<double> limit(Index d, const Dataset<>& data, double strength) {
  const MatrixFactorization model(d, d, 2 * d);
  const Matrix<double> start = std::sqrt(strength) * Matrix<double>::Identity(2 * d, 2 * d);
  const LiftedFlow flow(model, data);
  const auto solution = integrate_to_loss(flow, model.pack(start), fitted * data.y().squaredNorm(), accuracy);
  return model.product(solution.require_ok().w);
}

Scale<> mu_of(const Cell& cell) { return Scale<>::from_value(std::sqrt(0.5 * cell["strength"])); }

NamedNumbers completion_numbers(const Fig5ConjectureOptions& options, const Cell& cell) {
  MatrixCompletionOptions drawn;
  drawn.rows = drawn.cols = options.dimension;
  drawn.num_observed = options.num_observed;
  drawn.seed = options.seed;
  drawn.stream = static_cast<std::uint64_t>(cell.integer("seed"));
  const MatrixCompletion problem = matrix_completion(drawn);
  const Dataset<>& data = problem.observations.dataset;
  const Matrix<double> M = limit(options.dimension, data, cell["strength"]);
  SchattenPath<> path(data);
  const SpectralResult argmin = path.solve(mu_of(cell)).require_ok();
  const Matrix<double> nuclear = min_nuclear_norm_interpolator(data).require_ok().matrix;
  return {{"distance", relative_distance(M, argmin.matrix)},
          {"excess", SchattenHypentropy<>(M.rows(), M.cols(), mu_of(cell)).value(M) / argmin.objective - 1.0},
          {"flow_to_truth", relative_distance(M, problem.truth)},
          {"argmin_to_truth", relative_distance(argmin.matrix, problem.truth)},
          {"flow_to_nuclear", relative_distance(M, nuclear)},
          {"nuclear_to_truth", relative_distance(nuclear, problem.truth)}};
}

NamedNumbers commuting_numbers(const Fig5ConjectureOptions& options, const Cell& cell) {
  RandomStream random(options.seed, static_cast<std::uint64_t>(cell.integer("seed")));
  const Index d = options.dimension;
  Matrix<double> X = normal_matrix(random, options.num_commuting, d);
  Vector<double> y = normal_vector(random, options.num_commuting);
  const Dataset data(std::move(X), std::move(y));
  const Matrix<double> M = limit(d, {MatrixMeasurements<double>::diagonal(d, d, data.X()), data.y()}, cell["strength"]);
  const Vector<double> beta = minimize_hypentropy(data, mu_of(cell)).require_ok().beta;
  return {{"distance", relative_distance(M, beta.asDiagonal())}};
}

void check(const Fig5ConjectureSweeps& sweeps, Fig5Conjecture& figure) {
  double commuting = 0.0, kernel = 0.0, between = 0.0;
  for (const ConjecturePoint& point : figure.points) {
    commuting = std::max(commuting, point.commuting_distance);
    if (point.strength >= 99.0) kernel = std::max(kernel, point.distance.median);
    between = std::max(between, point.distance.median);
  }
  // Where the truth is not the completion of least nuclear norm, which of the two does the rich limit go to?
  const double smallest = figure.points.front().strength;
  const std::vector<double> to_truth = sweeps.completion.values("flow_to_truth", "strength", smallest);
  const std::vector<double> to_nuclear = sweeps.completion.values("flow_to_nuclear", "strength", smallest);
  const std::vector<double> apart = sweeps.completion.values("nuclear_to_truth", "strength", smallest);
  std::vector<double> shares;
  for (std::size_t s = 0; s < apart.size(); ++s)
    if (apart[s] > 1e-2) shares.push_back(to_truth[s] / to_nuclear[s]);
  auto& claims = figure.claims;
  claims.push_back(claim_at_most("fig5_conjecture",
                                 "commuting measurements, the theorem: largest distance of the limit from argmin Q_mu",
                                 commuting, 1e-4));
  claims.push_back(claim_at_most("fig5_conjecture",
                                 "completion, alpha^2 k >= 100: largest median distance of the limit from argmin Q_mu",
                                 kernel, 1e-5));
  claims.push_back(claim_at_least(
      "fig5_conjecture",
      "completion, seen: the limit does not minimize Q_mu in between; largest median distance from its minimizer",
      between, 0.01));
  if (!shares.empty())
    claims.push_back(
        claim_at_most("fig5_conjecture",
                      "seen: the rich limit is nearer to the rank-one truth than to the completion of least "
                      "nuclear norm where these differ; median ratio of the distances",
                      quantile(shares, 0.5), 0.2));
}

}  // namespace

Fig5ConjectureOptions fig5_conjecture_options(Effort effort) {
  Fig5ConjectureOptions options;
  if (effort == Effort::quick) {
    options.num_seeds = 6;
    options.per_decade = 1;
  } else if (effort == Effort::full) {
    options.num_seeds = 100;
    options.per_decade = 4;
  }
  return options;
}

Fig5ConjectureSweeps run_fig5_conjecture_sweeps(const Fig5ConjectureOptions& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(options.per_decade >= 1, "per_decade must be at least 1, got ", options.per_decade);
  require(options.num_commuting >= 1 && options.num_commuting < options.dimension,
          "num_commuting must be between 1 and dimension - 1, got ", options.num_commuting);
  const Axis strengths{"strength",
                       spaced(std::pow(10.0, lowest_decade), std::pow(10.0, highest_decade),
                              (highest_decade - lowest_decade) * options.per_decade + 1, Spacing::logarithmic)};
  std::map<std::string, std::string> settings = {{"seed", std::to_string(options.seed)},
                                                 {"d", std::to_string(options.dimension)}};
  auto commuting = settings;
  settings["N"] = std::to_string(options.num_observed);
  commuting["N"] = std::to_string(options.num_commuting);
  const Grid grid({strengths, seed_axis(options.num_seeds)});
  return {runner.run({"fig5_conjecture_completion",
                      grid,
                      {"distance", "excess", "flow_to_truth", "argmin_to_truth", "flow_to_nuclear", "nuclear_to_truth"},
                      settings},
                     [&](const Cell& cell) { return completion_numbers(options, cell); }),
          runner.run({"fig5_conjecture_commuting", grid, {"distance"}, commuting},
                     [&](const Cell& cell) { return commuting_numbers(options, cell); })};
}

Fig5Conjecture make_fig5_conjecture(const Fig5ConjectureSweeps& sweeps) {
  static_cast<void>(sweeps.completion.require_ok());
  static_cast<void>(sweeps.commuting.require_ok());
  Fig5Conjecture figure;
  for (const double strength : sweeps.completion.sweep().grid.axes()[0].values) {
    const auto median = [&](const char* name) {
      return quantile(sweeps.completion.values(name, "strength", strength), 0.5);
    };
    const std::vector<double> commuting = sweeps.commuting.values("distance", "strength", strength);
    figure.points.push_back({strength, quartiles(sweeps.completion.values("distance", "strength", strength)),
                             median("excess"), *std::max_element(commuting.begin(), commuting.end()),
                             median("flow_to_truth"), median("argmin_to_truth")});
  }
  check(sweeps, figure);
  return figure;
}

void write_fig5_conjecture_tables(const Fig5Conjecture& figure, const std::filesystem::path& folder) {
  CsvWriter table({"strength", "distance_median", "distance_q25", "distance_q75", "excess_q_median",
                   "commuting_distance_max", "flow_to_truth_median", "argmin_to_truth_median"});
  for (const ConjecturePoint& point : figure.points)
    table.row({point.strength, point.distance.median, point.distance.q25, point.distance.q75, point.excess,
               point.commuting_distance, point.flow_to_truth, point.argmin_to_truth});
  table.write(folder / "fig5_conjecture.csv");
}

Picture fig5_conjecture_picture() {
  Picture picture;
  picture.name = "fig5_conjecture";
  picture.alt =
      "Two panels against alpha^2 k. Left: distance of the flow's limit from the minimizer of Schatten-Q; for "
      "commuting "
      "measurements it is rounding everywhere, for completion it falls steeply beyond 1 and is several per cent below. "
      "Right: below 1 the flow's limit is nearer to the rank-one truth than the minimizer is.";
  picture.width = 1120;
  picture.height = 450;
  picture.panels = panels_in_grid(2, {"fig5_conjecture", ""});
  picture.commands = R"gp(set multiplot layout 1,2 margins 0.08,0.985,0.16,0.89 spacing 0.1
set logscale xy
set xrange [1e-8:1e4]
set xtics 1e-8,100,1e4 format "10^{%T}"
set xlabel "α^2{/:Italic k} = 2μ^2"
set arrow 1 from 1, graph 0 to 1, graph 1 nohead back lc rgb ink lw 1.4 dt (8,5)
set title "Is the limit the minimizer of Schatten-{/:Italic Q}_μ?"
set ylabel "relative distance from the minimizer"
set yrange [1e-12:1]
set ytics 1e-12,100,1 format "10^{%T}"
set key at graph 0.03, graph 0.2 left top Left reverse
plot "fig5_conjecture.csv" using "strength":"distance_q25":"distance_q75" with filledcurves lc rgb vermilion, \
     "" using "strength":"distance_median" with linespoints pt 7 ps 0.5 lw 2.6 lc rgb vermilion title "completion (quartiles shaded)", \
     "" using "strength":"commuting_distance_max" with linespoints pt 6 ps 0.6 lw 1.8 lc rgb blue title "commuting, largest"
set title "Distance from the rank-one truth"
set ylabel "relative distance from {/:Italic Y}*"
set yrange [1e-8:1]
set ytics 1e-8,10,1 format "10^{%T}"
set key at graph 0.03, graph 0.25 left top Left reverse
plot "fig5_conjecture.csv" using "strength":"argmin_to_truth_median" with lines lw 2.6 lc rgb green dt (14,6) title "minimizer of {/:Italic Q}_μ", \
     "" using "strength":"flow_to_truth_median" with lines lw 2.6 lc rgb vermilion title "limit of the flow"
unset multiplot
unset arrow
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
