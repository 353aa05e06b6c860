#include "fig7_univariate_relu.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>

#include "csv.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/models/univariate_relu.hpp"
#include "richflow/sweep/grid.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr int half_points = 4;
constexpr std::array<double, 3> shifts = {0.0, 0.5, 0.25};  // the first layer times k^-shift, the second k^shift
constexpr std::array<const char*, 3> panel_names = {"a", "b", "c"};
constexpr double smallest_alpha_b = 0.01;
constexpr double tolerance = 1e-2;
// Descent with steps 0.005 and 0.0025 ends 0.126 and 0.129 from the spline; smaller scales rest on plateaus beyond t =
// 300.
constexpr double rich_bound_b = 0.15;
constexpr double infinity = std::numeric_limits<double>::infinity();

double spacing() { return std::sqrt(3.0) / 4.0; }

Matrix<double> grid_points(Index count) {
  const double end = half_points * spacing();
  return Vector<double>::LinSpaced(count, -end, end);
}

std::vector<std::string> curve_outputs(Index count) {
  std::vector<std::string> names;
  for (Index i = 0; i < count; ++i) names.push_back("f" + std::to_string(i));
  return names;
}

/// The numbers refer to `names`.
NamedNumbers curve_numbers(const std::vector<std::string>& names, const Vector<double>& f) {
  NamedNumbers numbers;
  for (Index i = 0; i < f.size(); ++i) numbers.push_back({names[static_cast<std::size_t>(i)], f[i]});
  return numbers;
}

/// The start of a panel: the same shape for every alpha.
Unbiased<UnivariateRelu<double>> network(const Fig7Options& options, const Cell& cell, double alpha) {
  RandomStream random(options.seed);
  const UnivariateRelu net(options.width);
  const double shift = shifts[static_cast<std::size_t>(cell.integer("panel"))];
  return {net, net.initial_parameters(random, Scale<>::from_value(alpha), shift)};
}

NamedNumbers flow_numbers(const Fig7Options& options, const std::vector<std::string>& names, const Cell& cell) {
  const auto model = network(options, cell, cell["alpha"]);
  const Dataset data(fig7_inputs(), fig7_labels());
  const auto run = simulate(model, data, model.start(), {.loss = options.loss, .tolerance = tolerance});
  NamedNumbers numbers = curve_numbers(names, run.f(grid_points(options.points)));
  numbers.push_back({"loss", run.loss});
  numbers.push_back({"time", run.t});
  numbers.push_back({"steps", static_cast<double>(run.steps)});
  return numbers;
}

NamedNumbers kernel_numbers(const Fig7Options& options, const std::vector<std::string>& names, const Cell& cell) {
  const auto model = network(options, cell, options.alphas.back());
  const Dataset data(fig7_inputs(), fig7_labels());
  const KernelPredictor kernel(model, model.start(), data);
  return curve_numbers(names, kernel.require_interpolation().predict(grid_points(options.points)));
}

double spline_at(double x) {
  const double position = x / spacing() + half_points;
  const Vector<double> y = fig7_labels();
  const auto left = std::clamp<Index>(static_cast<Index>(std::floor(position)), 0, y.size() - 2);
  const double share = position - static_cast<double>(left);
  return (1.0 - share) * y[left] + share * y[left + 1];
}

double distance(const Vector<double>& a, const Vector<double>& b) { return (a - b).cwiseAbs().maxCoeff(); }

void check(Fig7& figure) {
  auto& claims = figure.claims;
  std::vector<const Fig7Curve*> rich;
  for (std::size_t p = 0; p < shifts.size(); ++p) {
    const std::string panel = std::string("fig7") + panel_names[p];
    const Fig7Curve* first = nullptr;
    const Fig7Curve* last = nullptr;
    double largest_loss = 0.0;
    for (const Fig7Curve& curve : figure.curves) {
      if (curve.panel != static_cast<int>(p)) continue;
      if (first == nullptr) first = &curve;
      last = &curve;
      largest_loss = std::max(largest_loss, curve.loss);
    }
    rich.push_back(first);
    // A few kinks that stick to data points can hold a flow up above its goal.
    claims.push_back(claim_at_most(panel, "every flow fits the data: largest loss", largest_loss, 1e-5));
    claims.push_back(claim_at_most(panel, "rich limit: alpha = " + short_number(first->alpha) + " to the linear spline",
                                   distance(first->f, figure.spline), p == 1 ? rich_bound_b : 0.05));
    claims.push_back(claim_at_most(panel,
                                   "kernel limit: alpha = " + short_number(last->alpha) + " to the kernel predictor",
                                   distance(last->f, figure.kernels[p].f), 0.05));
  }
  // The plot of the paper seems to show 1.07 in panel c; the sum of the two layers' kernels, whose weights are as 1 to
  // 2 there whatever the width, gives less.
  constexpr std::array<double, 3> seen = {1.14, 1.02, 1.02};
  double widest = 0.0;
  for (std::size_t p = 0; p < shifts.size(); ++p) {
    claims.push_back(claim_between(std::string("fig7") + panel_names[p], "maximum of the kernel predictor",
                                   figure.kernels[p].f.maxCoeff(), seen[p] - 0.03, seen[p] + 0.03));
    for (std::size_t q = 0; q < p; ++q) widest = std::max(widest, distance(rich[p]->f, rich[q]->f));
  }
  const auto between_kernels = [&](std::size_t p, std::size_t q) {
    return distance(figure.kernels[p].f, figure.kernels[q].f);
  };
  claims.push_back(claim_at_least("fig7a", "kernel predictors differ: a from the closer of b and c",
                                  std::min(between_kernels(0, 1), between_kernels(0, 2)), 0.05));
  claims.push_back(claim_at_least("fig7b", "kernel predictors differ: b from c", between_kernels(1, 2), 0.004));
  claims.push_back(claim_at_most("fig7a", "rich limits do not: largest distance", widest, rich_bound_b));
}

}  // namespace

Matrix<double> fig7_inputs() {
  Matrix<double> X(2 * half_points + 1, 1);
  for (int j = -half_points; j <= half_points; ++j) X(j + half_points, 0) = j * spacing();
  return X;
}

Vector<double> fig7_labels() {
  Vector<double> y(2 * half_points + 1);
  for (int j = -half_points; j <= half_points; ++j) y[j + half_points] = std::abs(j) <= 1 ? 1.0 : 0.0;
  return y;
}

Fig7Options fig7_options(Effort effort) {
  Fig7Options options;
  if (effort == Effort::quick) options.width = 2000;
  return options;
}

Fig7Sweeps run_fig7_sweeps(const Fig7Options& options, const SweepRunner& runner) {
  require(options.width >= 1, "width must be at least 1, got ", options.width);
  require(!options.alphas.empty(), "alphas must not be empty");
  require(options.points >= 2, "points must be at least 2, got ", options.points);
  const std::map<std::string, std::string> settings = {{"seed", std::to_string(options.seed)},
                                                       {"k", std::to_string(options.width)},
                                                       {"loss", exact_number(options.loss)}};
  std::vector<std::string> outputs = curve_outputs(options.points);
  const std::vector<std::string> curve = outputs;
  for (const char* name : {"loss", "time", "steps"}) outputs.emplace_back(name);
  const Axis panels{"panel", {0, 1, 2}};
  const Grid grid = Grid({panels, Axis{"alpha", options.alphas}}).where([](const Cell& cell) {
    return cell.integer("panel") != 1 || cell["alpha"] >= smallest_alpha_b;
  });
  return {
      runner.run(
          {"fig7_flow", grid, outputs, settings}, [&](const Cell& cell) { return flow_numbers(options, curve, cell); },
          [](const Cell& cell) { return 1.0 - std::log(0.01 * cell["alpha"]); }),
      runner.run({"fig7_kernel", Grid({panels}), curve, settings},
                 [&](const Cell& cell) { return kernel_numbers(options, curve, cell); })};
}

Fig7 make_fig7(const Fig7Options& options, const Fig7Sweeps& sweeps) {
  static_cast<void>(sweeps.flow.require_ok());
  static_cast<void>(sweeps.kernel.require_ok());
  Fig7 figure;
  figure.x = grid_points(options.points).col(0);
  figure.spline = figure.x.unaryExpr([](double x) { return spline_at(x); });
  const std::vector<std::string> names = curve_outputs(options.points);
  const auto curve = [&](const SweepResult& sweep, const SweepRow& row, double alpha) {
    Fig7Curve result;
    result.panel = static_cast<int>(sweep.cell(row).integer("panel"));
    result.alpha = alpha;
    result.f.resize(options.points);
    for (std::size_t i = 0; i < names.size(); ++i) result.f[static_cast<Index>(i)] = sweep.value(row, names[i]);
    return result;
  };
  for (const SweepRow& row : sweeps.flow.rows()) {
    figure.curves.push_back(curve(sweeps.flow, row, sweeps.flow.cell(row)["alpha"]));
    figure.curves.back().loss = sweeps.flow.value(row, "loss");
    figure.curves.back().time = sweeps.flow.value(row, "time");
  }
  for (const SweepRow& row : sweeps.kernel.rows()) figure.kernels.push_back(curve(sweeps.kernel, row, infinity));
  check(figure);
  return figure;
}

void write_fig7_tables(const Fig7& figure, const std::filesystem::path& folder) {
  CsvWriter curves({"panel", "alpha", "x", "f"});
  for (const Fig7Curve& curve : figure.curves)
    for (Index i = 0; i < figure.x.size(); ++i)
      curves.row({panel_names[static_cast<std::size_t>(curve.panel)], curve.alpha, figure.x[i], curve.f[i]});
  curves.write(folder / "fig7.csv");
  CsvWriter reference({"x", "spline", "kernel_a", "kernel_b", "kernel_c"});
  for (Index i = 0; i < figure.x.size(); ++i)
    reference.row(
        {figure.x[i], figure.spline[i], figure.kernels[0].f[i], figure.kernels[1].f[i], figure.kernels[2].f[i]});
  reference.write(folder / "fig7_reference.csv");
  CsvWriter data({"x", "y"});
  const Matrix<double> X = fig7_inputs();
  const Vector<double> y = fig7_labels();
  for (Index n = 0; n < y.size(); ++n) data.row({X(n, 0), y[n]});
  data.write(folder / "fig7_data.csv");
}

Picture fig7_picture(const Fig7Options& options) {
  Picture picture;
  picture.name = "fig7";
  picture.width = 1500;
  picture.height = 540;
  picture.alt =
      "Three panels, for three ways of sharing the scale between the layers. At small alpha the network ends at the "
      "linear spline through the nine data points in all of them; at large alpha at a smooth interpolant, the kernel "
      "predictor, which differs between the panels.";
  std::string alphas;
  for (const double alpha : options.alphas) alphas += " " + short_number(alpha);
  picture.setup = "alphas = \"" + alphas.substr(1) + "\"\ncolours = \"#2f6db3 #2f9fb0 #2f8f5b #d99a2b #d1502b\"\n";
  picture.panels = panels_in_grid(3, {"fig7a", "fig7b", "fig7c"}, {0.345, 0.672});
  picture.commands = R"gp(set multiplot layout 1,3 margins 0.055,0.985,0.37,0.91 spacing 0.05
set xrange [-1.75:1.75]
set yrange [-0.22:1.28]
set xtics 1
set ytics 0.5
set xlabel "{/:Italic x}"
curve(p, a) = (strcol("panel") eq p && abs(column("alpha") / a - 1) < 1e-6) ? column("f") : NaN
do for [i=1:3] {
  p = word("a b c", i)
  set title sprintf("(%s) layers × %s", p, word("(1,1) (k^{-1/2},k^{1/2}) (k^{-1/4},k^{1/4})", i))
  if (i == 1) { set ylabel "{/:Italic f} ({/:Italic x})" } else { unset ylabel }
  if (i == 1) { set key at screen 0.5, screen 0.02 center bottom horizontal Left reverse samplen 2.5 maxrows 1 } else { unset key }
  plot for [j=1:words(alphas)] "fig7.csv" using "x":(curve(p, word(alphas, j) + 0)) with lines lw 2.4 lc rgb word(colours, (j - 1) % 5 + 1) title "α = " . word(alphas, j), \
       "fig7_reference.csv" using "x":"spline" with lines lw 1.4 lc rgb ink dt (2,4) title "linear spline", \
       "" using "x":"kernel_" . p with lines lw 1.4 lc rgb ink dt (9,5) title "kernel predictor", \
       "fig7_data.csv" using "x":"y" with points pt 7 ps 0.9 lc rgb ink notitle
}
unset multiplot
)gp";
  return picture;
}

}  // namespace richflow::examples
