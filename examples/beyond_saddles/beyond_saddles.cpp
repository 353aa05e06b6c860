#include "beyond_saddles.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/bias/regularizer.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/limits/jump_times.hpp"
#include "richflow/limits/l1_rate.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

const double log_10 = std::log(10.0);

/// Coordinate 0 enters at the second jump and leaves at the third.
Dataset<> leaves() {
  Matrix<double> X(3, 6);
  X << -1, -3, 0, 1, 0, 1,  //
      -1, -1, 1, 0, 0, 1,   //
      -3, 3, 0, 2, -3, -3;
  return {std::move(X), Vector<double>{{-5, -1, 2}}};
}

DiagonalNet<double> net_of(Index depth, const Dataset<>& data) { return {depth, data.num_inputs()}; }

SaddlePath<> path_of(Index depth, const Dataset<>& data) {
  return saddle_path(net_of(depth, data), data, Start<>::uniform(Scale<>::from_log(-1.0)));
}

JumpTimes<> jumps_at(double log_alpha, const Dataset<>& data, const SaddlePath<>& path) {
  return jump_times(regularizer(net_of(path.depth, data), Start<>::uniform(Scale<>::from_log(log_alpha))), data, path)
      .require_ok();
}

/// The flow at times that are even in the logarithm, from before the first jump to after the last.
void add_flow(double log_alpha, const Dataset<>& data, const SaddlePath<>& path, int num_times, BeyondSaddles& figure) {
  const double unit = std::exp(path.log_time(1.0, Scale<>::from_log(log_alpha)));
  SimulateOptions<> options;
  options.tolerance = 1e-6;
  const std::vector<double> times =
      spaced(path.jumps.front().time / 2.0, path.jumps.back().time * 3.0, num_times, Spacing::logarithmic);
  for (const double time : times) options.times.push_back(unit * time);
  const Simulation<> run =
      simulate(net_of(path.depth, data), data, Start<>::uniform(Scale<>::from_log(log_alpha)), options).require_ok();
  for (std::size_t k = 0; k < run.values.size(); ++k) {
    const double misfit = data.residual_norm(run.values[k]);
    figure.flows.push_back({path.depth, log_alpha, times[k], run.values[k], misfit * misfit});
  }
}

/// `largest |f(a_k, b_k)|` over the jumps.
template <class F>
double largest_over(std::size_t count, const F& of_jump) {
  double largest = 0.0;
  for (std::size_t k = 0; k < count; ++k) largest = std::max(largest, std::abs(of_jump(k)));
  return largest;
}

void check_depth_2(const Dataset<>& data, BeyondSaddles& figure) {
  const SaddlePath<>& path = figure.at_depth_2;
  const std::size_t count = path.jumps.size();
  const auto add = [&](Claim claim) { figure.claims.push_back(std::move(claim)); };
  const std::string panel = "beyond_saddles_2";
  add(claim_at_most(panel, "the path ends at minimum l1, proved: relative duality gap",
                    std::abs(path.certificate.duality_gap), 1e-13));
  const JumpTimes<> once = jumps_at(-200.0, data, path);
  const JumpTimes<> rough = jumps_at(-100.0, data, path), fine = jumps_at(-1000.0, data, path);
  add(claim_at_most(panel,
                    "jump times near t_k = tau_k log(1/alpha) as 1 / log(1/alpha): largest |error ratio / 10 - 1| from "
                    "e^-100 to e^-1000",
                    largest_over(count, [&](std::size_t k) { return rough.offsets[k] / fine.offsets[k] - 1.0; }),
                    1e-3));
  add(claim_at_most(
      panel, "with offsets measured at e^-200 the jumps at e^-1000 are predicted: largest error in t",
      largest_over(
          count, [&](std::size_t k) { return once.predict(path, static_cast<Index>(k), fine.scale) - fine.times[k]; }),
      2e-5));
  // At alpha = e^-1000, half-way between jumps.
  SimulateOptions<> options;
  for (std::size_t k = 0; k + 1 < count; ++k)
    options.times.push_back(500.0 * (path.jumps[k].time + path.jumps[k + 1].time));
  options.times.push_back(2000.0 * path.jumps.back().time);
  const Simulation<> run =
      simulate(net_of(2, data), data, Start<>::uniform(Scale<>::from_log(-1000.0)), options).require_ok();
  add(claim_at_most(
      panel, "half-way between jumps the flow of e^-1000 is at the saddles: largest distance",
      largest_over(count,
                   [&](std::size_t k) { return (run.values[k] - path.jumps[k].beta(data.num_inputs())).norm(); }),
      1e-9));
  add(claim_at_most(panel, "a coordinate that has left stays away: |beta_0| of the flow of e^-1000 after jump 3",
                    std::abs(run.values[2][0]), 1e-9));
}

void check_depth_3(const Dataset<>& data, BeyondSaddles& figure) {
  const SaddlePath<>& path = figure.at_depth_3;
  const std::string panel = "beyond_saddles_3";
  figure.claims.push_back(claim_at_most(panel, "the path ends at minimum l1, proved: relative duality gap",
                                        std::abs(path.certificate.duality_gap), 1e-13));
  const JumpTimes<> rough = jumps_at(-2.0 * log_10, data, path), fine = jumps_at(-3.0 * log_10, data, path);
  const std::size_t count = path.jumps.size();
  figure.claims.push_back(
      claim_at_most(panel,
                    "jump times near t_k = tau_k / alpha as alpha: largest |error ratio / 10 - 1| from 1e-2 "
                    "to 1e-3",
                    largest_over(count, [&](std::size_t k) { return rough.offsets[k] / fine.offsets[k] - 1.0; }), 0.1));
  figure.claims.push_back(claim_at_most(
      panel, "saddles and their order are those of depth 2: largest difference of the coefficients",
      largest_over(
          count,
          [&](std::size_t k) {
            return (path.jumps[k].beta(data.num_inputs()) - figure.at_depth_2.jumps[k].beta(data.num_inputs())).norm();
          }),
      1e-13));
}

void check_lasso(const BeyondSaddlesOptions& options, BeyondSaddles& figure) {
  const std::string panel = "beyond_saddles_lasso";
  const auto& jumps = figure.at_depth_2.jumps;
  const auto& knots = figure.lasso.knots;
  const auto ratio = [&](std::size_t k) { return jumps[k].time / knots[k].time; };
  figure.claims.push_back(
      claim_at_most(panel,
                    "until a coordinate leaves, jumps are at 1 / (4 lambda) of the knots: largest relative "
                    "difference of the first three",
                    largest_over(3, [&](std::size_t k) { return ratio(k) - 1.0; }), 1e-14));
  figure.claims.push_back(claim_between(panel,
                                        "then they part: the last coefficient comes at .7513 where the lasso's comes "
                                        "at .8704: their ratio",
                                        jumps.back().time / knots.back().time, 0.8630, 0.8633));

  int monotone = 0, leaving = 0, parted = 0;
  double difference = 0.0, apart = 0.0;
  RandomStream random(options.seed);
  for (int trial = 0; trial < options.num_problems; ++trial) {
    Matrix<double> X = normal_matrix(random, 4, 9);
    const Dataset data(std::move(X), normal_vector(random, 4));
    const SaddlePath<> path = path_of(2, data).require_ok();
    const LassoPath<> lasso = lasso_path(data).require_ok();
    apart = std::max(apart, (path.beta - lasso.beta).norm() / path.beta.norm());
    const auto has_left = [](const auto& points) {
      return std::any_of(points.begin(), points.end(), [](const auto& point) { return !point.left.empty(); });
    };
    const bool is_leaving = has_left(path.jumps) || has_left(lasso.knots);
    bool is_equal = path.jumps.size() == lasso.knots.size();
    double largest = 0.0;
    for (std::size_t k = 0; is_equal && k < path.jumps.size(); ++k) {
      is_equal = path.jumps[k].entered == lasso.knots[k].entered;
      largest = std::max(largest, std::abs(path.jumps[k].time / lasso.knots[k].time - 1.0));
    }
    if (!is_equal) largest = std::numeric_limits<double>::infinity();
    if (is_leaving) {
      ++leaving;
      parted += largest > 1e-6 ? 1 : 0;
    } else {
      ++monotone;
      difference = std::max(difference, largest);
    }
  }
  figure.claims.push_back(claim_at_most(panel,
                                        "on the " + std::to_string(monotone) + " of " +
                                            std::to_string(options.num_problems) +
                                            " random problems where nothing leaves, jumps and knots agree: largest "
                                            "relative difference",
                                        monotone > 0 ? difference : std::numeric_limits<double>::quiet_NaN(), 1e-11));
  figure.claims.push_back(
      claim_at_least(panel, "on the others they part: share", static_cast<double>(parted) / std::max(leaving, 1), 0.6));
  figure.claims.push_back(
      claim_at_most(panel, "both end at minimum l1 on all of them: largest relative difference", apart, 1e-10));
}

void add_distances(const Dataset<>& data, const BeyondSaddlesOptions& options, BeyondSaddles& figure) {
  const std::string panel = "beyond_saddles_rate";
  const L1Rate<> rate = l1_rate(data).require_ok();
  figure.exponent = rate.exponent;
  const auto distance = [&](Index depth, double log_alpha) {
    const Limit limit = solve(net_of(depth, data), data, Start<>::uniform(Scale<>::from_log(log_alpha))).require_ok();
    double largest = 0.0;
    for (Index i = 0; i < data.num_inputs(); ++i)
      if (rate.beta[i] == 0.0) largest = std::max(largest, std::abs(limit.beta[i]));
    return largest;
  };
  for (const Index depth : {Index{2}, Index{3}, Index{4}})
    for (const double log_size : spaced(0.0, -20.0, options.num_scales, Spacing::linear)) {
      const double log_alpha = log_size * log_10 / static_cast<double>(depth);
      figure.distances.push_back({depth, log_alpha, distance(depth, log_alpha)});
    }
  const auto slope = [&](Index depth, double high, double low) {
    return std::log(distance(depth, high) / distance(depth, low)) / (high - low);
  };
  figure.claims.push_back(claim_at_most(
      panel,
      "at depth 2 the distance from minimum l1 falls as alpha^(2 (1 - rho)), rho from a linear program: measured slope "
      "from e^-20 to e^-40 beside " +
          short_number(rate.exponent),
      std::abs(slope(2, -20.0, -40.0) - rate.exponent), 1e-4));
  for (const Index depth : {Index{3}, Index{4}})
    figure.claims.push_back(claim_between(
        panel, "at depth " + std::to_string(depth) + " it falls as alpha^D: slope over D from 1e-3 to 1e-4",
        slope(depth, -3.0 * log_10, -4.0 * log_10) / static_cast<double>(depth), 0.99, 1.01));
}

}  // namespace

BeyondSaddlesOptions beyond_saddles_options(Effort effort) {
  BeyondSaddlesOptions options;
  if (effort == Effort::quick) {
    options.num_times = 200;
    options.num_scales = 13;
    options.num_problems = 100;
  }
  if (effort == Effort::full) {
    options.num_times = 1000;
    options.num_scales = 61;
    options.num_problems = 10'000;
  }
  return options;
}

BeyondSaddles beyond_saddles(const BeyondSaddlesOptions& options) {
  require(options.num_times >= 2, "num_times must be at least 2, got ", options.num_times);
  require(options.num_scales >= 2, "num_scales must be at least 2, got ", options.num_scales);
  require(options.num_problems >= 1, "num_problems must be at least 1, got ", options.num_problems);
  const Dataset data = leaves();
  BeyondSaddles figure;
  figure.at_depth_2 = path_of(2, data).require_ok();
  figure.at_depth_3 = path_of(3, data).require_ok();
  figure.lasso = lasso_path(data).require_ok();
  for (const double log_alpha : {-10.0, -30.0, -1000.0})
    add_flow(log_alpha, data, figure.at_depth_2, options.num_times, figure);
  for (const double digits : {1.0, 2.0, 4.0})
    add_flow(-digits * log_10, data, figure.at_depth_3, options.num_times, figure);
  check_depth_2(data, figure);
  check_depth_3(data, figure);
  check_lasso(options, figure);
  add_distances(data, options, figure);
  return figure;
}

void write_beyond_saddles_tables(const BeyondSaddles& figure, const std::filesystem::path& folder) {
  const Index d = figure.lasso.beta.size();
  std::vector<std::string> columns = {"depth", "time", "loss"};
  for (Index i = 0; i < d; ++i) columns.push_back("beta_" + std::to_string(i));
  const auto cells_of = [](std::vector<CsvCell> cells, const Vector<double>& beta) {
    for (const double value : beta) cells.emplace_back(value);
    return cells;
  };
  // As steps: each jump with what is before and after.
  CsvWriter steps(columns);
  for (const SaddlePath<>* path : {&figure.at_depth_2, &figure.at_depth_3}) {
    Vector<double> beta = Vector<double>::Zero(d);
    double loss = leaves().y().squaredNorm();
    const auto row = [&](double time) { steps.row(cells_of({path->depth, time, loss}, beta)); };
    row(path->jumps.front().time / 2.0);
    for (const auto& jump : path->jumps) {
      row(jump.time);
      beta = jump.beta(d);
      // Nothing is left but roundings.
      loss = jump.loss > 1e-20 ? jump.loss : 0.0;
      row(jump.time);
    }
    row(path->jumps.back().time * 3.0);
  }
  steps.write(folder / "beyond_saddles_path.csv");

  columns.insert(columns.begin() + 1, "log_alpha");
  CsvWriter flow(columns);
  for (const SaddleFlowPoint& point : figure.flows)
    flow.row(cells_of({point.depth, point.log_alpha, point.time, point.loss}, point.beta));
  flow.write(folder / "beyond_saddles_flow.csv");

  std::vector<std::string> lasso_columns = {"time", "lambda"};
  for (Index i = 0; i < d; ++i) lasso_columns.push_back("beta_" + std::to_string(i));
  CsvWriter lasso(lasso_columns);
  for (const double time :
       spaced(figure.lasso.knots.front().time / 2.0, figure.lasso.knots.back().time * 3.0, 400, Spacing::logarithmic))
    lasso.row(cells_of({time, 1.0 / (4.0 * time)}, figure.lasso.at(1.0 / (4.0 * time))));
  lasso.write(folder / "beyond_saddles_lasso.csv");

  CsvWriter distances({"depth", "log_alpha", "size", "distance"});
  for (const SaddleDistance& point : figure.distances)
    distances.row(
        {point.depth, point.log_alpha, std::exp(static_cast<double>(point.depth) * point.log_alpha), point.distance});
  distances.write(folder / "beyond_saddles_distance.csv");
}

Picture beyond_saddles_picture(const BeyondSaddles& figure) {
  Picture picture;
  picture.name = "beyond_saddles";
  picture.alt =
      "Six panels. Coefficients and loss of the flow against time in its natural unit at depth 2 and depth 3, for "
      "three "
      "scales each: the smaller alpha, the closer they are to steps at the predicted jumps, which vertical lines mark. "
      "Coefficients of the lasso beside the saddles: both change course at the first three jumps, and part where a "
      "coefficient leaves. Distance of the limit from minimum l1 against alpha^D: straight lines of predicted slopes.";
  picture.width = 1080;
  picture.height = 1180;
  const auto arrows = [](const char* name, const SaddlePath<>& path) {
    std::string text = std::string(name) + " = \"";
    for (const auto& jump : path.jumps) text += exact_number(jump.time) + " ";
    return text + "\"\n";
  };
  picture.setup = arrows("jumps_2", figure.at_depth_2) + arrows("jumps_3", figure.at_depth_3) +
                  "exponent = " + exact_number(figure.exponent) + "\n";
  picture.panels = panels_in_grid(
      2, {"beyond_saddles_2", "", "beyond_saddles_3", "", "beyond_saddles_lasso", "beyond_saddles_rate"}, {0.495});
  picture.commands = R"gp(set multiplot layout 3,2 margins 0.075,0.975,0.06,0.965 spacing 0.1,0.09
colour(i) = i == 0 ? vermilion : i == 1 ? blue : i == 2 ? green : purple
beta(i) = sprintf("beta_%d", i)
set logscale x
set xtics format "%g"
do for [depth = 2:3] {
  unset arrow
  jumps = depth == 2 ? jumps_2 : jumps_3
  do for [k = 1:words(jumps)] { set arrow k from real(word(jumps, k)), graph 0 to real(word(jumps, k)), graph 1 nohead lc rgb grey lw 1 back }
  array scales[3]
  if (depth == 2) { scales[1] = -10; scales[2] = -30; scales[3] = -1000 } else { scales[1] = -log(10); scales[2] = -2*log(10); scales[3] = -4*log(10) }
  first = depth == 2 ? "α = {/:Italic e}^{-10}" : "α = 0.1"
  second = depth == 2 ? "{/:Italic e}^{-30}" : "10^{-2}"
  third = depth == 2 ? "{/:Italic e}^{-1000}" : "10^{-4}"
  set xlabel (depth == 2 ? "time / log(1/α)" : "time × α")
  from = real(word(jumps, 1)) / 2
  to = 3 * real(word(jumps, words(jumps)))
  set xrange [from : to]
  pick(k) = column("depth") == depth && abs(column("log_alpha") - scales[k]) < 1e-6
  set title sprintf("Depth %d: coefficients, and predicted jumps", depth)
  set ylabel "{/:Italic β}_i"
  set yrange [-1.15:1.75]
  set ytics 0.5
  set key bottom left Left reverse
  plot for [i = 0:3] "beyond_saddles_flow.csv" using (column("time")):(pick(1) ? column(beta(i)) : NaN) with lines lw 1.2 lc rgb colour(i) dt (5,7) title (i == 0 ? first : ""), \
       for [i = 0:3] "" using (column("time")):(pick(2) ? column(beta(i)) : NaN) with lines lw 1.6 lc rgb colour(i) dt (16,8) title (i == 0 ? second : ""), \
       for [i = 0:3] "" using (column("time")):(pick(3) ? column(beta(i)) : NaN) with lines lw 2.6 lc rgb colour(i) title (i == 0 ? third : "")
  set title sprintf("Depth %d: loss", depth)
  set ylabel "loss, |{/:Italic Xβ} − {/:Italic y}|^2"
  set logscale y
  set yrange [1e-4:100]
  set ytics 1e-4,100,100 format "10^{%T}"
  set key bottom left Left reverse
  plot "beyond_saddles_flow.csv" using (column("time")):(pick(1) ? column("loss") : NaN) with lines lw 1.2 lc rgb ink dt (5,7) title first, \
       "" using (column("time")):(pick(2) ? column("loss") : NaN) with lines lw 1.6 lc rgb ink dt (16,8) title second, \
       "" using (column("time")):(pick(3) ? column("loss") : NaN) with lines lw 2.6 lc rgb ink title third
  unset logscale y
  set ytics autofreq format "%g"
}
unset arrow
do for [k = 1:words(jumps_2)] { set arrow k from real(word(jumps_2, k)), graph 0 to real(word(jumps_2, k)), graph 1 nohead lc rgb grey lw 1 back }
set title "Lasso and saddles part where a coefficient leaves"
set xlabel "1 / (4λ),   time / log(1/α)"
set ylabel "{/:Italic β}_i"
set xrange [real(word(jumps_2, 1)) / 2 : 3 * real(word(jumps_2, words(jumps_2)))]
set yrange [-1.15:1.75]
set ytics 0.5
set key bottom left Left reverse
plot for [i = 0:3] "beyond_saddles_lasso.csv" using "time":beta(i) with lines lw 1.8 lc rgb colour(i) dt (16,8) title (i == 1 ? "lasso" : ""), \
     for [i = 0:3] "beyond_saddles_path.csv" using (column("time")):(column("depth") == 2 ? column(beta(i)) : NaN) with lines lw 2.4 lc rgb colour(i) title (i == 1 ? "saddles (α → 0)" : "")
unset arrow
set title "Distance of the limit from minimum ℓ_1"
set xlabel "α^{/:Italic D}"
set ylabel "largest coefficient off the support"
set logscale xy
set xrange [1e-20:1]
set yrange [1e-21:1]
set xtics 1e-20,1e5,1 format "10^{%T}"
set ytics 1e-20,1e5,1 format "10^{%T}"
set key bottom right Left reverse
at(depth) = column("depth") == depth ? column("distance") : NaN
plot "beyond_saddles_distance.csv" using (column("size")):(at(2)) with points pt 7 ps 0.6 lc rgb vermilion title "{/:Italic D} = 2", \
     "" using (column("size")):(at(3)) with points pt 5 ps 0.6 lc rgb blue title "{/:Italic D} = 3", \
     "" using (column("size")):(at(4)) with points pt 9 ps 0.8 lc rgb green title "{/:Italic D} = 4", \
     x**(exponent / 2) with lines lw 1.4 lc rgb vermilion title sprintf("slope 1 − ρ = %.4f", exponent / 2), \
     x with lines lw 1.4 lc rgb ink title "slope 1"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
