#include "beyond_depth_completion.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/bias/factorization.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/end_to_end_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/relaxed_euler.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/models/deep_factorization.hpp"
#include "richflow/models/linear_layers.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

void check(const BeyondDepthCompletionOptions& options) {
  require(!options.depths.empty(), "no depth is given");
  for (const Index depth : options.depths) require(depth >= 2, "a depth must be at least 2, got ", depth);
  require(options.scales.size() >= 2, "two scales at least are needed, got ",
          static_cast<Index>(options.scales.size()));
  for (const double scale : options.scales)
    require(std::isfinite(scale) && scale > 0.0, "the scale of a start must be positive, got ", scale);
  require(options.num_seeds > 0, "num_seeds must be positive, got ", options.num_seeds);
  require(options.per_decade > 0, "per_decade must be positive, got ", options.per_decade);
  require(options.runaway_losses.size() == 2, "runaway_losses must be two, got ",
          static_cast<Index>(options.runaway_losses.size()));
  require(options.num_observed >= options.dimension, "num_observed = ", options.num_observed,
          " entries leave a row of the ", options.dimension, " x ", options.dimension,
          " matrix unseen, which nothing determines");
}

/// A truth whose entries are of size 1, through a mask that sees every row and column.
MatrixCompletion<> completion(Index dimension, Index rank, Index num_observed, std::uint64_t seed, int repetition) {
  constexpr int most_masks = 1000;
  std::string undetermined;
  for (int k = 0; k < most_masks; ++k) {
    MatrixCompletion<> problem = matrix_completion({.rows = dimension,
                                                    .cols = dimension,
                                                    .rank = rank,
                                                    .num_observed = num_observed,
                                                    .seed = seed,
                                                    .stream = static_cast<std::uint64_t>(repetition * most_masks + k)});
    undetermined = problem.observations.undetermined();
    if (!undetermined.empty()) continue;
    const double size = problem.truth.norm() / static_cast<double>(dimension);
    const Dataset<>& data = problem.observations.dataset;
    problem.observations.dataset = Dataset<>(data.measurements(), Vector<double>(data.y() / size));
    problem.truth /= size;
    return problem;
  }
  throw ArgumentError("num_observed = " + std::to_string(num_observed) + ": in each of " + std::to_string(most_masks) +
                      " masks something is not determined; in the last, " + undetermined);
}

Scale<> layer_scale(double product_size, Index depth) {
  return Scale<>::from_log(std::log(product_size) / static_cast<double>(depth));
}

std::vector<Index> widths_of(Index depth, Index dimension, Index hidden) {
  std::vector<Index> widths(static_cast<std::size_t>(depth + 1), hidden);
  widths.front() = widths.back() = dimension;
  return widths;
}

struct DepthEnd {
  double effective_rank = not_measured;
  double error = not_measured;
};

DepthEnd end_of(const BeyondDepthCompletionOptions& options, Index depth, double scale, int repetition) {
  const MatrixCompletion<> problem =
      completion(options.dimension, options.rank, options.num_observed, options.seed, repetition);
  const Dataset<>& data = problem.observations.dataset;
  const std::vector<Index> widths = widths_of(depth, options.dimension, options.dimension);
  const DeepFactorization<double> model(widths);
  // The same directions at every scale.
  RandomStream random(options.seed + 1, static_cast<std::uint64_t>(repetition));
  const auto run = simulate(model, data, pack_layers(balanced_start<double>(random, widths, layer_scale(scale, depth))),
                            {.loss = 1e-8 * data.y().squaredNorm(), .tolerance = 1e-2});
  const Matrix<double> M = model.product(run.require_ok().w);
  return {effective_rank(M) / effective_rank(problem.truth), (M - problem.truth).norm() / problem.truth.norm()};
}

void add_depths(const BeyondDepthCompletionOptions& options, BeyondDepthCompletion& figure) {
  const std::size_t num_scales = options.scales.size();
  const auto num_seeds = static_cast<std::size_t>(options.num_seeds);
  std::vector<DepthEnd> ends(options.depths.size() * num_scales * num_seeds);
  parallel_for(static_cast<Index>(ends.size()),
               [&](Index cell) {
                 const auto k = static_cast<std::size_t>(cell);
                 const Index depth = options.depths[k / num_seeds / num_scales];
                 const double scale = options.scales[k / num_seeds % num_scales];
                 ends[k] = end_of(options, depth, scale, static_cast<int>(k % num_seeds));
               },
               {options.threads});
  for (std::size_t k = 0; k < ends.size(); k += num_seeds) {
    std::vector<double> ranks, errors;
    for (std::size_t seed = 0; seed < num_seeds; ++seed) {
      ranks.push_back(ends[k + seed].effective_rank);
      errors.push_back(ends[k + seed].error);
    }
    figure.points.push_back({options.depths[k / num_seeds / num_scales], options.scales[k / num_seeds % num_scales],
                             quartiles(ranks), quartiles(errors)});
  }

  constexpr const char* panel = "beyond_depth_completion";
  const auto at = [&](std::size_t depth, std::size_t scale) -> const DepthCompletionPoint& {
    return figure.points[depth * num_scales + scale];
  };
  Worst deeper(Worst::Is::largest);
  Worst rise(Worst::Is::largest);
  Worst error_rise(Worst::Is::largest);
  bool has_error = false;
  for (std::size_t d = 0; d < options.depths.size(); ++d)
    for (std::size_t s = 0; s < num_scales; ++s) {
      if (d > 0) deeper.add(at(d, s).effective_rank.median / at(d - 1, s).effective_rank.median - 1.0);
      if (s == 0) continue;
      rise.add(at(d, s).effective_rank.median / at(d, s - 1).effective_rank.median - 1.0);
      // Where the truth is found the medians are the errors of the fit.
      if (at(d, s - 1).error.median <= 0.02) continue;
      has_error = true;
      error_rise.add(at(d, s).error.median / at(d, s - 1).error.median - 1.0);
    }
  if (options.depths.size() > 1)
    figure.claims.push_back(claim_at_most(
        panel,
        "deeper factorizations have the lower effective rank at every scale: largest relative excess of a "
        "median over that of the next shallower depth",
        deeper.value(), 0.01));
  figure.claims.push_back(claim_at_most(panel,
                                        "the effective rank falls with the scale at every depth: largest relative rise "
                                        "of a median from one scale to the next smaller",
                                        rise.value(), 0.01));
  // Where every median is below it, there is nothing to see.
  if (has_error)
    figure.claims.push_back(claim_at_most(
        panel, "so does the distance from the truth: largest relative rise of a median, where not yet below 2 %",
        error_rise.value(), 0.03));
  for (std::size_t d = 0; d < options.depths.size(); ++d) {
    const DepthCompletionPoint& smallest = at(d, num_scales - 1);
    const std::string where = "at depth " + std::to_string(options.depths[d]) + " and the smallest scale the ";
    if (options.depths[d] == 2) {
      figure.claims.push_back(claim_at_least(panel,
                                             where + "effective rank is still above the truth's: median of their ratio",
                                             smallest.effective_rank.median, 1.01));
    } else {
      figure.claims.push_back(claim_between(panel, where + "effective rank is the truth's: median of their ratio",
                                            smallest.effective_rank.median, 0.99, 1.02));
      figure.claims.push_back(
          claim_at_most(panel, where + "truth is found: median distance", smallest.error.median, 0.02));
    }
  }
}

/// A problem small enough for explicit steps with errors of 1e-9: the same ones for the layers and for their product,
/// whose flow is not that of a model.
void add_widths(const BeyondDepthCompletionOptions& options, BeyondDepthCompletion& figure) {
  constexpr Index dimension = 5;
  const MatrixCompletion<> problem = completion(dimension, 1, 14, options.seed, 0);
  const Dataset<>& data = problem.observations.dataset;
  RandomStream random(options.seed + 2);
  const Matrix<double> M0 = 0.1 * normal_matrix<double>(random, dimension, dimension) / std::sqrt(dimension);
  const double loss = 1e-16 * data.y().squaredNorm();
  PiController<> controller;
  controller.tolerance = {1e-9, 1e-12};
  const auto end_of_flow = [&](const auto& flow, const Vector<double>& start) {
    return integrate(flow, start, TimeSpan<>{0.0, infinity}, DormandPrince{}, controller,
                     {.events = {loss_below(loss)}, .max_steps = 1'000'000})
        .require_ok()
        .w;
  };
  Worst largest(Worst::Is::largest);
  for (const Index depth : options.depths) {
    const EndToEndFlow<> product(depth, data);
    const Matrix<double> M = product.matrix(end_of_flow(product, M0.reshaped()));
    for (const Index width : options.widths) {
      const DeepFactorization<double> model(widths_of(depth, dimension, width));
      const std::vector<Index> hidden(static_cast<std::size_t>(depth - 1), width);
      const Vector<double> w0 = pack_layers(balanced_layers<double>(random, M0, hidden));
      const Matrix<double> end = model.product(end_of_flow(GradientFlow<DeepFactorization<double>>(model, data), w0));
      figure.widths.push_back({depth, width, (end - M).norm() / M.norm()});
      largest.add(figure.widths.back().distance);
    }
  }
  figure.claims.push_back(claim_at_most("beyond_depth_completion_widths",
                                        "from a balanced start layers of any width end where the flow of their product "
                                        "does: largest relative distance",
                                        largest.value(), 1e-7));
}

/// (0, 2), (0, 3) and (1, 2) are 1, R and R.
void add_traces(const BeyondDepthCompletionOptions& options, BeyondDepthCompletion& figure) {
  constexpr const char* panel = "beyond_depth_completion_trace";
  constexpr double R = 2.0;
  const Dataset<> data(MatrixMeasurements<double>::entries(4, 4, {{0, 2}, {0, 3}, {1, 2}}), Vector<double>{{1, R, R}});
  const Dataset<> both(MatrixMeasurements<double>::entries(4, 4, {{0, 2}, {2, 0}, {0, 3}, {3, 0}, {1, 2}, {2, 1}}),
                       Vector<double>{{1, 1, R, R, R, R}});
  // Of matrices that are positive semidefinite the trace is the nuclear norm.
  const auto least = min_nuclear_norm_interpolator(both).require_ok();
  Matrix<double> least_positive(4, 4);
  least_positive << R, 1, 1, R, 1, R, R, 1, 1, R, R, 1, R, 1, 1, R;
  figure.least_trace = least_positive.trace();
  figure.claims.push_back(claim_at_most(
      panel,
      "4 R is the least trace: relative excess of this matrix over the certified lower bound of the nuclear norm",
      figure.least_trace / (least.objective * (1.0 - std::abs(least.duality_gap))) - 1.0, 1e-6));
  figure.claims.push_back(claim_at_least(panel, "that matrix is positive semidefinite: smallest eigenvalue",
                                         detail::lowest_eigenvalue(least_positive), -1e-14));

  const SymmetricFactorization<double> model(4, 4);
  const Matrix<double> identity = Matrix<double>::Identity(4, 4);
  const Vector<double> one{{1, R, 1, R}};
  const Matrix<double> rank_one = one * one.transpose();
  const int decades = 26;
  for (const double log_10_alpha : spaced(0.0, -decades, decades * options.per_decade + 1, Spacing::linear)) {
    const double log_alpha = log_10_alpha * std::log(10.0);
    const auto run = simulate(model, data, model.pack(std::exp(log_alpha) * identity), {.loss = 1e-16}).require_ok();
    const Matrix<double> M = model.product(run.w);
    figure.traces.push_back({log_alpha, M.trace(), effective_rank(M), (M - rank_one).norm() / rank_one.norm()});
  }
  double fall = -infinity;
  double lowest = infinity;
  for (std::size_t k = 1; k < figure.traces.size(); ++k) {
    const TraceEnd& end = figure.traces[k];
    // From alpha = 1e-2 on: before, the start itself is a part of the trace.
    if (end.log_alpha > -4.7) continue;
    fall = std::max(fall, figure.traces[k - 1].trace - end.trace);
    lowest = std::min(lowest, end.trace / figure.least_trace);
  }
  figure.claims.push_back(
      claim_at_most(panel, "below alpha = 1e-2 the trace of the end rises as alpha falls: largest fall", fall, 1e-6));
  figure.claims.push_back(claim_at_least(panel, "it is above the least trace: smallest ratio there", lowest, 1.1));
  figure.claims.push_back(claim_between(panel,
                                        "at alpha = 1e-26 it is (2 R^2 + 2) / (4 R) times the least: their ratio",
                                        figure.traces.back().trace / figure.least_trace, 1.2499, 1.2501));
  figure.claims.push_back(claim_at_most(panel,
                                        "the end is then the matrix of rank one, (1, R, 1, R): relative distance",
                                        figure.traces.back().distance, 1e-4));
}

/// What is left of `factor t = M_00^power`, the slow path of the depth.
double distance_from_path(const RunawayPoint& point) {
  const double power = 2.0 + 2.0 / static_cast<double>(point.depth);
  // U U^T sees (0, 1) once, layers see (1, 0) as well: half as fast.
  const double factor = point.depth == 2 ? 24.0 : 4.0 * static_cast<double>(point.depth) + 4.0;
  return std::abs(factor * point.time / std::pow(point.unseen, power) - 1.0);
}

/// In steps of RelaxedEuler from the start on, of which every one is a point of the curve.
template <class M>
void add_runaway(const M& model, Index depth, const Dataset<>& data, const Vector<double>& start, double loss,
                 double tolerance, BeyondDepthCompletion& figure) {
  const GradientFlow<M> flow(model, data);
  PiController<> controller;
  controller.tolerance = {tolerance, 1e-3 * tolerance};
  const auto run =
      integrate(flow, start, TimeSpan<>{0.0, infinity}, RelaxedEuler{}, controller,
                {.save_at = {.every = 1, .end = true}, .events = {loss_below(loss).at_step_end()}, .max_steps = 50'000})
          .require_ok();
  constexpr const char* panel = "beyond_depth_completion_runaway";
  Worst below(Worst::Is::smallest);
  Worst lowest(Worst::Is::smallest);
  Worst apart(Worst::Is::largest);
  for (std::size_t k = 0; k < run.values.size(); ++k) {
    const Matrix<double> P = model.product(run.values[k]);
    // Of `U U^T` the determinant is a square.
    const double determinant = P(0, 0) * P(1, 1) - P(0, 1) * P(1, 0);
    const RunawayPoint point{depth, run.times[k], flow.loss(run.values[k]), P(0, 0), determinant};
    figure.runaway.push_back(point);
    lowest.add(determinant / std::max(1.0, P(0, 1) * P(1, 0)));
    const double root = std::sqrt(point.loss);
    if (root < 0.3) below.add(point.unseen * root / (1.0 - 2.0 * root));
    if (root < 1e-2) apart.add(std::abs(point.unseen * root - 1.0));
  }
  const std::string where = "at depth " + std::to_string(depth) + " ";
  figure.claims.push_back(claim_at_least(
      panel, where + "the unseen entry is at least (1 - 2 sqrt L) / sqrt L: smallest ratio", below.value(), 1.0));
  figure.claims.push_back(
      claim_at_most(panel, where + "it is 1 / sqrt L to first order: largest relative difference below L = 1e-4",
                    apart.value(), 1e-3));
  figure.claims.push_back(claim_at_most(panel,
                                        where + (depth == 2 ? "it is (24 t)^(1/3)" : "it is (16 t)^(3/8)") +
                                            std::string(": relative difference of the time at the end"),
                                        distance_from_path(figure.runaway.back()), 2e-3));
  figure.claims.push_back(claim_at_least(panel, where + "det M > 0 stays, up to rounding: smallest", lowest.value(),
                                         depth == 2 ? -1e-14 : 0.0));
}

void add_runaways(const BeyondDepthCompletionOptions& options, BeyondDepthCompletion& figure) {
  const Matrix<double> identity = Matrix<double>::Identity(2, 2);
  const SymmetricFactorization<double> square(2, 2);
  const Dataset<> seen(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 1}}), Vector<double>{{1, 0}});
  add_runaway(square, 2, seen, square.pack(0.3 * identity), options.runaway_losses[0], 1e-4, figure);
  // Here errors in the small singular value add up, until it changes its sign and all is fitted.
  const DeepFactorization<double> deep({2, 2, 2, 2});
  const Dataset<> both(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 0}, {1, 1}}), Vector<double>{{1, 1, 0}});
  add_runaway(deep, 3, both, pack_layers(std::vector<Matrix<double>>(3, 0.3 * identity)), options.runaway_losses[1],
              1e-5, figure);
}

}  // namespace

BeyondDepthCompletionOptions beyond_depth_completion_options(Effort effort) {
  BeyondDepthCompletionOptions options;
  options.scales = spaced(1.0, 1e-5, effort == Effort::quick ? 6 : 11, Spacing::logarithmic);
  if (effort == Effort::quick) {
    options.num_seeds = 16;
    options.per_decade = 1;
    options.widths = {5, 8};
  } else if (effort == Effort::full) {
    options.num_seeds = 200;
  }
  return options;
}

BeyondDepthCompletion beyond_depth_completion(const BeyondDepthCompletionOptions& options) {
  check(options);
  BeyondDepthCompletion figure;
  add_depths(options, figure);
  add_widths(options, figure);
  add_traces(options, figure);
  add_runaways(options, figure);
  return figure;
}

void write_beyond_depth_completion_tables(const BeyondDepthCompletion& figure, const std::filesystem::path& folder) {
  CsvWriter points({"depth", "scale", "effective_rank_median", "effective_rank_q25", "effective_rank_q75",
                    "error_median", "error_q25", "error_q75"});
  for (const DepthCompletionPoint& point : figure.points)
    points.row({point.depth, point.scale, point.effective_rank.median, point.effective_rank.q25,
                point.effective_rank.q75, point.error.median, point.error.q25, point.error.q75});
  points.write(folder / "beyond_depth_completion.csv");

  CsvWriter widths({"depth", "width", "distance"});
  for (const WidthComparison& row : figure.widths) widths.row({row.depth, row.width, row.distance});
  widths.write(folder / "beyond_depth_completion_widths.csv");

  CsvWriter traces({"alpha", "trace", "least_trace", "effective_rank", "distance"});
  for (const TraceEnd& end : figure.traces)
    traces.row({std::exp(end.log_alpha), end.trace, figure.least_trace, end.effective_rank, end.distance});
  traces.write(folder / "beyond_depth_completion_trace.csv");

  CsvWriter runaway({"depth", "time", "loss", "unseen", "determinant"});
  for (const RunawayPoint& point : figure.runaway)
    runaway.row({point.depth, point.time, point.loss, point.unseen, point.determinant});
  runaway.write(folder / "beyond_depth_completion_runaway.csv");
}

Picture beyond_depth_completion_picture(const BeyondDepthCompletion& figure) {
  Picture picture;
  picture.name = "beyond_depth_completion";
  picture.alt =
      "Four panels. Effective rank of the completion, relative to the truth's, and its distance from the truth, "
      "against the size of the start: both fall with the size, and the deeper factorization is the lower. Trace of the "
      "end of a 4 x 4 completion against alpha: it leaves the least trace and nears 5/4 of it as alpha falls, while "
      "the effective rank falls to 1. The entry that nobody sees of a 2 x 2 completion against the loss: it grows as "
      "one over the root of the loss at depth 2 and 3.";
  picture.width = 1080;
  picture.height = 860;
  std::vector<double> depths;
  for (const DepthCompletionPoint& point : figure.points)
    if (depths.empty() || depths.back() != static_cast<double>(point.depth))
      depths.push_back(static_cast<double>(point.depth));
  picture.setup = gnuplot_array("depths", depths) + "least = " + exact_number(figure.least_trace) + "\n";
  picture.panels = panels_in_grid(
      2, {"beyond_depth_completion", "", "beyond_depth_completion_trace", "beyond_depth_completion_runaway"}, {0.525});
  picture.commands = R"gp(set multiplot layout 2,2 margins 0.075,0.975,0.075,0.95 spacing 0.165,0.13
colour(k) = k == 1 ? vermilion : k == 2 ? blue : k == 3 ? green : purple
set logscale x
set xtics format "10^{%T}"
set xlabel "size of the product at the start, α^{/:Italic L}"
of(k, name) = column("depth") == depths[k] ? column(name) : NaN
set title "Effective rank of the completion"
set ylabel "effective rank / that of the truth"
set yrange [0.9:*]
set key top left Left reverse
plot for [k = 1:|depths|] "beyond_depth_completion.csv" using (column("scale")):(of(k, "effective_rank_q25")):(of(k, "effective_rank_q75")) with filledcurves fc rgb colour(k) fs transparent solid 0.15 notitle, \
     for [k = 1:|depths|] "" using (column("scale")):(of(k, "effective_rank_median")) with linespoints lw 2 pt 7 ps 0.6 lc rgb colour(k) title sprintf("depth %d", depths[k]), \
     1 with lines lw 1.2 dt (8,6) lc rgb grey notitle
set title "Distance from the truth"
set ylabel "|{/:Italic M} − {/:Italic Y}^*| / |{/:Italic Y}^*|"
set key bottom right Left reverse
set logscale y
set yrange [*:*]
set ytics format "10^{%T}"
plot for [k = 1:|depths|] "beyond_depth_completion.csv" using (column("scale")):(of(k, "error_q25")):(of(k, "error_q75")) with filledcurves fc rgb colour(k) fs transparent solid 0.15 notitle, \
     for [k = 1:|depths|] "" using (column("scale")):(of(k, "error_median")) with linespoints lw 2 pt 7 ps 0.6 lc rgb colour(k) title sprintf("depth %d", depths[k])
unset logscale y
set ytics autofreq format "%g" nomirror
set title "4 × 4: not the least nuclear norm"
set xlabel "α, the start being α{/:Italic I}"
set ylabel "trace of the end"
set y2label "effective rank of the end"
set y2tics 1,0.5
set yrange [7.8:10.6]
set y2range [0.95:3.75]
set xtics 1e-25,1e5,1
set key center left Left reverse
plot "beyond_depth_completion_trace.csv" using "alpha":"trace" with lines lw 2.4 lc rgb vermilion title "trace", \
     "" using "alpha":"least_trace" with lines lw 1.4 dt (8,6) lc rgb vermilion title "least trace, 4{/:Italic R}", \
     "" using "alpha":"effective_rank" axes x1y2 with lines lw 2.4 lc rgb blue title "effective rank"
unset y2label
unset y2tics
set yrange [*:*]
set ytics mirror
set title "2 × 2: the unseen entry runs away"
set xlabel "loss"
set ylabel "unseen entry, {/:Italic M}_{00}"
set logscale y
set xrange [1e-20:1]
set yrange [0.1:1e11]
set xtics 1e-20,1e5,1 format "10^{%T}"
set ytics 1e-20,100,1e20 format "10^{%T}"
set key top right Left reverse
plot "beyond_depth_completion_runaway.csv" using (column("loss")):(column("depth") == 2 ? column("unseen") : NaN) with lines lw 2.4 lc rgb vermilion title "depth 2", \
     "" using (column("loss")):(column("depth") == 3 ? column("unseen") : NaN) with lines lw 5 dt (4,4) lc rgb blue title "depth 3", \
     1 / sqrt(x) with lines lw 1.2 lc rgb ink title "1 / √loss"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
