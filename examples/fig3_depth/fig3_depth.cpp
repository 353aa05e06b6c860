#include "fig3_depth.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/sweep/critical_scale.hpp"
#include "richflow/sweep/grid.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double never = -std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double smallest_log_alpha_D = -200.0;
constexpr Index cliff_samples = 100;  // up to here panel c has more repetitions
const std::vector<Index> depths_ab = {2, 3, 5, 10, 100};
const std::vector<Index> depths_c = {2, 3, 5, 8};

/// `f(map)` with the regularizer of a uniform start at alpha^D = `e^log_alpha_D`.
template <class Function>
auto at_depth(Index depth, Index d, double log_alpha_D, const Function& f) {
  const Scale scale = Scale<>::from_log(log_alpha_D / static_cast<double>(depth));
  return depth == 2 ? f(Hypentropy<>::uniform(d, scale)) : f(DepthHypentropy<>::uniform(depth, d, scale));
}

double q(Index depth, double z) { return depth == 2 ? hypentropy(z) : depth_hypentropy(depth, z); }

/// q'' at 0.
double curvature(Index depth) {
  return depth == 2 ? 0.5 : static_cast<double>(depth - 2) / static_cast<double>(2 * depth);
}

double q_normalized(Index depth, double z) { return q(depth, z) * curvature(2) / curvature(depth); }

double sparse_to_dense(Index depth, Index d, double log_alpha_D) {
  const Vector<double> sparse = Vector<double>::Unit(d, 0);
  const Vector<double> dense = Vector<double>::Constant(d, 1.0 / std::sqrt(static_cast<double>(d)));
  return at_depth(depth, d, log_alpha_D, [&](const auto& Q) { return Q.value(sparse) / Q.value(dense); });
}

/// As in figure 1, the error need not be monotone in the scale: the search begins at its large end.
NamedNumbers critical_numbers(const Fig3Options& options, const Cell& cell) {
  SparseRegressionOptions data;
  data.num_samples = cell.integer("N");
  data.num_inputs = options.dimension;
  data.seed = options.seed;
  data.stream = static_cast<std::uint64_t>(cell.integer("seed"));
  const SparseRegression regression = sparse_regression(data);
  const Index depth = cell.integer("D");
  CriticalScaleOptions search;
  search.low = Scale<>::from_log(smallest_log_alpha_D);
  search.tolerance = 0.02;
  const CriticalScale critical = at_depth(depth, options.dimension, 0.0, [&](const auto& Q) {
    MirrorPath path(regression.dataset, Q);
    return largest_scale(
        [&](Scale<> alpha_D) {
          const Scale alpha = Scale<>::from_log(alpha_D.log() / static_cast<double>(depth));
          return regression.population_error(path.solve(alpha).require_ok().beta) <= options.threshold;
        },
        search);
  });
  return {{"log_alpha_D", critical.kind == CriticalKind::never ? never : critical.scale.log()}};
}

std::string depth_name(Index depth) { return "D = " + std::to_string(depth); }

void check_a(Fig3& figure) {
  // Values read off before this program existed, relative to D = 2, at z = 6 and z = 4.
  const std::map<Index, std::pair<double, double>> seen = {
      {3, {0.825, 0.870}}, {5, {0.712, 0.778}}, {10, {0.641, 0.716}}, {100, {0.585, 0.666}}};
  auto& claims = figure.claims;
  double parabola = 0.0;
  for (const auto& [depth, values] : seen) {
    parabola = std::max(parabola, std::abs(q_normalized(depth, 1e-4) / q_normalized(2, 1e-4) - 1.0));
    const auto relative = [depth = depth](double z) { return q_normalized(depth, z) / q_normalized(2, z); };
    claims.push_back(claim_between("fig3a", depth_name(depth) + " relative to D = 2 at z = 6", relative(6.0),
                                   values.first - 0.001, values.first + 0.001));
    claims.push_back(claim_between("fig3a", depth_name(depth) + " relative to D = 2 at z = 4", relative(4.0),
                                   values.second - 0.001, values.second + 0.001));
  }
  claims.push_back(
      claim_at_most("fig3a", "the same parabola at 0: largest relative difference at z = 1e-4", parabola, 1e-7));
  int wrong = 0;
  for (std::size_t k = 1; k < depths_ab.size(); ++k)
    for (double z = 0.5; z <= 5.0; z += 0.5)
      wrong += q_normalized(depths_ab[k], z) < q_normalized(depths_ab[k - 1], z) ? 0 : 1;
  claims.push_back(claim_at_most("fig3a", "growth is slower the deeper: pairs of neighbours and z in wrong order",
                                 static_cast<double>(wrong), 0.0));
}

void check_b(const Fig3Options& options, Fig3& figure) {
  const std::map<double, std::vector<double>> seen = {{-8.0, {0.149, 0.115, 0.106, 0.103, 0.102}},
                                                      {-4.0, {0.295, 0.216, 0.180, 0.162, 0.151}},
                                                      {-2.0, {0.686, 0.557, 0.478, 0.430, 0.394}},
                                                      {0.0, {0.981, 0.960, 0.939, 0.923, 0.907}}};
  for (const auto& [log_alpha_D, values] : seen) {
    double worst = 0.0;
    for (std::size_t k = 0; k < depths_ab.size(); ++k)
      worst = std::max(worst, std::abs(sparse_to_dense(depths_ab[k], options.dimension_b, log_alpha_D) - values[k]));
    figure.claims.push_back(claim_at_most(
        "fig3b",
        "log alpha^D = " + short_number(log_alpha_D) + ": largest difference from the values known to three digits",
        worst, 6e-4));
  }
  int wrong = 0;
  double before = 0.0;
  Index depth = 0;
  for (const Fig3bPoint& point : figure.panel_b) {
    if (point.depth == depth && point.ratio <= before) ++wrong;
    depth = point.depth;
    before = point.ratio;
  }
  figure.claims.push_back(claim_at_most("fig3b", "from l1 (1/sqrt d) to l2 (1) as alpha^D grows: points that fall",
                                        static_cast<double>(wrong), 0.0));
}

const Fig3cPoint& find(const Fig3& figure, Index depth, Index num_samples) {
  return *std::find_if(figure.panel_c.begin(), figure.panel_c.end(), [&](const Fig3cPoint& point) {
    return point.depth == depth && point.num_samples == num_samples;
  });
}

void check_c(const Fig3Options& options, Fig3& figure) {
  int compared = 0, wrong = 0;
  std::vector<double> gaps;  // of D = 2 and D = 8 in log alpha^D, where both exist
  Index first_deep = 0;      // smallest N from which D = 8 learns at least every second time
  for (const Index n : options.samples) {
    std::vector<double> medians;
    for (const Index depth : depths_c) medians.push_back(find(figure, depth, n).log_alpha_D.median);
    if (first_deep == 0 && medians.back() > never) first_deep = n;
    if (std::find(medians.begin(), medians.end(), never) != medians.end()) continue;
    ++compared;
    wrong += std::is_sorted(medians.begin(), medians.end()) ? 0 : 1;
    gaps.push_back(medians.back() - medians.front());
  }
  auto& claims = figure.claims;
  Claim ordered = claim_at_most("fig3c",
                                "medians ordered D = 2 < 3 < 5 < 8: exceptions among " + std::to_string(compared) +
                                    " values of N where all exist",
                                static_cast<double>(wrong), 0.0);
  ordered.holds = ordered.holds && compared > 0;
  claims.push_back(ordered);
  claims.push_back(claim_at_most("fig3c", "the gap between D = 2 and D = 8 closes: its last over its first value",
                                 gaps.size() < 2 ? nan : gaps.back() / gaps.front(), 0.5));
  const double deep = first_deep == 0 ? never : find(figure, 8, first_deep).log_alpha_D.median;
  // Where D = 2 learns at no scale, the end of the search stands for its scale: a lower bound on the decades.
  const double shallow =
      first_deep == 0 ? 0.0 : std::max(smallest_log_alpha_D, find(figure, 2, first_deep).log_alpha_D.median);
  claims.push_back(claim_at_least("fig3c", "a moderate scale is enough where D = 8 just learns: log10 of alpha^D",
                                  deep / std::log(10.0), -16.0));
  claims.push_back(claim_at_least("fig3c",
                                  "where D = 8 just learns (N = " + std::to_string(first_deep) +
                                      "), D = 2 needs a scale smaller by at least so many decades",
                                  (deep - shallow) / std::log(10.0), 5.0));
}

}  // namespace

Fig3Options fig3_options(Effort effort) {
  Fig3Options options;
  switch (effort) {
    case Effort::quick:
      options.num_z = 101;
      options.num_scales = 37;
      options.dimension = 400;
      options.num_seeds = options.num_seeds_cliff = 5;
      options.samples = {40, 50, 60, 80, 100};
      break;
    case Effort::standard:
      options.samples = index_range(44, 80, 4);
      for (const Index n : {90, 100, 125, 150, 200, 250, 350, 500}) options.samples.push_back(n);
      break;
    case Effort::full:
      options.num_seeds = 24;
      options.num_seeds_cliff = 100;
      options.samples = index_range(44, 80, 2);
      for (const Index n : {85, 90, 95, 100, 110, 125, 150, 175, 200, 250, 300, 350, 400, 450, 500})
        options.samples.push_back(n);
      break;
  }
  return options;
}

SweepResult run_fig3_sweep(const Fig3Options& options, const SweepRunner& runner) {
  require(options.num_z >= 3 && options.num_z % 2 == 1, "num_z must be odd and at least 3, got ", options.num_z);
  require(options.num_scales >= 2, "num_scales must be at least 2, got ", options.num_scales);
  require(options.num_seeds >= 1 && options.num_seeds_cliff >= 1, "num_seeds and num_seeds_cliff must be positive");
  require(!options.samples.empty() && options.samples.back() < options.dimension,
          "samples must be given and below dimension = ", options.dimension);
  const Axis seeds = seed_axis(std::max(options.num_seeds, options.num_seeds_cliff));
  const Grid grid =
      Grid({index_axis("D", depths_c), index_axis("N", options.samples), seeds}).where([&](const Cell& cell) {
        return cell.integer("seed") <
               (cell.integer("N") <= cliff_samples ? options.num_seeds_cliff : options.num_seeds);
      });
  return runner.run(
      {"fig3_critical",
       grid,
       {"log_alpha_D"},
       {{"seed", std::to_string(options.seed)},
        {"d", std::to_string(options.dimension)},
        {"threshold", exact_number(options.threshold)}}},
      [&](const Cell& cell) { return critical_numbers(options, cell); },
      [](const Cell& cell) {
        const double size = cell["N"] / 500.0;
        return 0.1 + 2.0 * size * size;
      });
}

Fig3 make_fig3(const Fig3Options& options, const SweepResult& critical) {
  static_cast<void>(critical.require_ok());
  Fig3 figure;
  const int half = options.num_z / 2;
  for (const Index depth : depths_ab) {
    for (int k = -half; k <= half; ++k) {
      const double z = 5.0 * k / half;
      figure.panel_a.push_back({depth, z, q_normalized(depth, z)});
    }
    for (const double log_alpha_D : spaced(-8.0, 1.0, options.num_scales, Spacing::linear))
      figure.panel_b.push_back({depth, log_alpha_D, sparse_to_dense(depth, options.dimension_b, log_alpha_D)});
  }
  for (const Index depth : depths_c)
    for (const Index n : options.samples) {
      const std::vector<double> values =
          critical.values("log_alpha_D", {{"D", static_cast<double>(depth)}, {"N", static_cast<double>(n)}});
      const auto count = std::count(values.begin(), values.end(), never);
      figure.panel_c.push_back({depth, n, static_cast<Index>(values.size()), quartiles(values),
                                static_cast<double>(count) / static_cast<double>(values.size())});
    }
  check_a(figure);
  check_b(options, figure);
  check_c(options, figure);
  return figure;
}

void write_fig3_tables(const Fig3& figure, const std::filesystem::path& folder) {
  CsvWriter a({"D", "z", "q_normalized"});
  for (const Fig3aPoint& point : figure.panel_a) a.row({point.depth, point.z, point.q_normalized});
  a.write(folder / "fig3a.csv");
  CsvWriter b({"D", "log_alpha_D", "ratio"});
  for (const Fig3bPoint& point : figure.panel_b) b.row({point.depth, point.log_alpha_D, point.ratio});
  b.write(folder / "fig3b.csv");
  // An empty cell says that this quartile of the seeds never learns.
  const auto scale_cell = [](double log_alpha_D) {
    return log_alpha_D == never ? CsvCell::empty() : CsvCell(std::exp(log_alpha_D));
  };
  CsvWriter c({"D", "N", "scale_median", "scale_q25", "scale_q75", "never_fraction", "repetitions"});
  for (const Fig3cPoint& point : figure.panel_c)
    c.row({point.depth, point.num_samples, scale_cell(point.log_alpha_D.median), scale_cell(point.log_alpha_D.q25),
           scale_cell(point.log_alpha_D.q75), point.never_fraction, point.repetitions});
  c.write(folder / "fig3c.csv");
}

Picture fig3_picture() {
  Picture picture;
  picture.name = "fig3";
  picture.alt =
      "Three panels. (a) The regularizer of depth 2, 3, 5, 10 and 100 against z, all with the same parabola at 0; the "
      "deeper, the slower the growth. (b) Its value at a sparse over that at a dense vector against the logarithm of "
      "alpha to the D: from the l1 value 0.1 to the l2 value 1, earlier for deeper nets. (c) The largest alpha to the "
      "D that learns against the number of samples: at depth 2 a cliff, at larger depth a moderate scale down to where "
      "the minimum l1 norm learns.";
  picture.width = 1560;
  picture.height = 470;
  picture.panels = panels_in_grid(3, {"fig3a", "fig3b", "fig3c"}, {0.32, 0.67});
  picture.commands = R"gp(set multiplot
set tmargin at screen 0.9
set bmargin at screen 0.15
set lmargin at screen 0.045
set rmargin at screen 0.3
array color[5] = [0x0072B2, 0xD55E00, 0x009E73, 0xE69F00, 0xCC79A7]
set linetype 11 lc rgb blue lw 2.8
set linetype 12 lc rgb vermilion lw 2.8 dt (14,6)
set linetype 13 lc rgb green lw 2.8 dt (10,4,2,4)
set linetype 14 lc rgb orange lw 2.8 dt (4,4)
set linetype 15 lc rgb purple lw 2.8
depth(k) = word("2 3 5 10 100", k)
pick(k, name) = column("D") == real(depth(k)) ? column(name) : NaN
set title "(a) The regularizer at depth {/:Italic D}"
set xlabel "{/:Italic z}"
set ylabel "{/:Italic q_D}({/:Italic z}), same curvature at 0"
set xrange [-5:5]
set yrange [0:*]
set xtics 1
set ytics 1
set key center top Left reverse
plot for [k=1:5] "fig3a.csv" using "z":(pick(k, "q_normalized")) with lines lt (10+k) title "{/:Italic D} = ".depth(k)
set lmargin at screen 0.368
set rmargin at screen 0.623
set title "(b) From ℓ_1 to ℓ_2"
set xlabel "log α^{/:Italic D}"
set ylabel "{/:Italic Q}({/:Bold e}_1) / {/:Italic Q}({/:Bold 1}/√{/:Italic d})"
set xrange [-8:1]
set yrange [0:1.08]
set ytics 0.2
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lc rgb ink lw 1.4 dt (8,5)
set arrow 2 from graph 0, first 0.1 to graph 1, first 0.1 nohead lc rgb ink lw 1.4 dt (8,5)
set label 1 "ℓ_2" right at 0.8, 1 offset 0,0.6
set label 2 "ℓ_1" right at 0.8, 0.1 offset 0,0.6
set key at graph 0.06, graph 0.9 left top Left reverse
plot for [k=1:5] "fig3b.csv" using "log_alpha_D":(pick(k, "ratio")) with lines lt (10+k) title "{/:Italic D} = ".depth(k)
unset arrow; unset label
set lmargin at screen 0.715
set rmargin at screen 0.99
set title "(c) Largest α^{/:Italic D} with error at most 0.025"
set xlabel "number of samples {/:Italic N}"
set ylabel "largest α^{/:Italic D} that learns"
set logscale xy
set xrange [38:520]
set yrange [1e-16:1]
set xtics (40, 50, 60, 80, 100, 150, 200, 300, 500)
set ytics 1e-16,1e4,1 format "10^{%T}"
set key inside bottom right Left reverse noautotitle samplen 2.5 spacing 1.25
depth_c(k) = word("2 3 5 8", k)
bottom(name) = strcol(name) eq "" || real(strcol(name)) < 1e-16 ? 1e-16 : real(strcol(name))
pick_c(k, name) = column("D") == real(depth_c(k)) ? bottom(name) : NaN
plot for [k=1:4] "fig3c.csv" using "N":(pick_c(k, "scale_q25")):(pick_c(k, "scale_q75")) with filledcurves fs transparent solid 0.12 noborder lc rgb color[k], \
     for [k=1:4] "" using "N":(pick_c(k, "scale_median")) with linespoints lt (10+k) pt 7 ps 0.5 title "{/:Italic D} = ".depth_c(k)
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
