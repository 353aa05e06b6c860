#include "fig4_wide_parallel_network.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/minimizers/commuting.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double fitted = 1e-18;   // L over |y|^2 at which the flow counts as fitted
constexpr double accuracy = 1e-5;  // of a step, per direction
constexpr int lowest_decade = 1;
constexpr int highest_decade = 6;
constexpr double asymptotic = 100;  // widths from here on show the slope

/// The problem of a repetition, the same for every width: eigenvalues of the measurements, and labels.
Dataset<> spectra(const Fig4Options& options, const Cell& cell) {
  RandomStream random(options.seed, static_cast<std::uint64_t>(cell.integer("seed")));
  Matrix<double> X = normal_matrix(random, options.num_samples, options.dimension);
  return {std::move(X), normal_vector(random, options.num_samples)};
}

/// Where the flow of width k ends, started at entries N(0, 2 mu^2 / k).
Matrix<double> limit(const Fig4Options& options, const Cell& cell, const Dataset<>& data) {
  const Index d = options.dimension;
  const MatrixFactorization wide(d, d, cell.integer("k"));
  RandomStream random(options.seed, cell.stream());
  const Scale scale = Scale<>::from_value(std::sqrt(2.0 / cell["k"]) * options.mu);
  const LiftedFlow flow(wide.reduced(), data);
  const auto solution = integrate_to_loss(flow, wide.reduced_initial_parameters(random, scale),
                                          fitted * data.y().squaredNorm(), accuracy);
  return flow.model().product(solution.require_ok().w);
}

NamedNumbers diagonal_numbers(const Fig4Options& options, const Cell& cell) {
  const Dataset data = spectra(options, cell);
  const Vector<double> beta = minimize_hypentropy(data, Scale<>::from_value(options.mu)).require_ok().beta;
  const Index d = options.dimension;
  const Matrix<double> M = limit(options, cell, {MatrixMeasurements<double>::diagonal(d, d, data.X()), data.y()});
  return {{"distance", (M - Matrix<double>(beta.asDiagonal())).norm() / beta.norm()}};
}

/// The same spectra in a random basis, as general measurements.
NamedNumbers commuting_numbers(const Fig4Options& options, const Cell& cell) {
  const Dataset drawn = spectra(options, cell);
  const Index d = options.dimension;
  constexpr std::uint64_t basis_streams = std::uint64_t{1} << 32U;  // beyond those of the spectra
  RandomStream random(options.seed, basis_streams + static_cast<std::uint64_t>(cell.integer("seed")));
  const Matrix<double> Q = normal_matrix(random, d, d).householderQr().householderQ();
  Matrix<double> X(options.num_samples, d * d);
  for (Index n = 0; n < X.rows(); ++n) {
    const Matrix<double> X_n = Q * drawn.X().row(n).transpose().asDiagonal() * Q.transpose();
    X.row(n) = Eigen::Map<const Vector<double>>(X_n.data(), d * d).transpose();
  }
  const Dataset data(MatrixMeasurements<double>::dense(d, d, std::move(X)), drawn.y());
  const auto minimizer = minimize_schatten_commuting(data, Scale<>::from_value(options.mu));
  static_cast<void>(minimizer.spectrum.require_ok());
  const Matrix<double> M = limit(options, cell, data);
  return {{"distance", (M - minimizer.matrix).norm() / minimizer.matrix.norm()}};
}

/// Least-squares slope of log median distance over log k, from the first asymptotic width on.
double slope(const std::vector<Fig4Point>& points, Quartiles Fig4Point::*distance) {
  double n = 0.0, sum_x = 0.0, sum_y = 0.0, sum_xx = 0.0, sum_xy = 0.0;
  for (const Fig4Point& point : points) {
    if (static_cast<double>(point.width) < asymptotic) continue;
    const double x = std::log(static_cast<double>(point.width));
    const double y = std::log((point.*distance).median);
    n += 1.0;
    sum_x += x;
    sum_y += y;
    sum_xx += x * x;
    sum_xy += x * y;
  }
  return (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x);
}

/// Gnuplot commands that draw the network of diagonal measurements: each input has k products u v of its own.
std::string drawing() {
  constexpr int inputs = 3;
  constexpr int units = 4;
  const auto point = [](double x, double y) { return short_number(x) + "," + short_number(y); };
  std::string edges, nodes;
  int tag = 100;
  const auto edge = [&](double x0, double y0, double x1, double y1, const char* colour) {
    edges += "set arrow " + std::to_string(tag++) + " from " + point(x0, y0) + " to " + point(x1, y1) +
             " nohead lw 1.1 lc rgb " + colour + "\n";
  };
  const auto node = [&](double x, double y, double radius, const char* colour) {
    nodes += "set object " + std::to_string(tag++) + " circle at " + point(x, y) + " size " + short_number(radius) +
             " front fillcolor rgb " + colour + " fillstyle solid 1 border lc rgb \"#ffffff\"\n";
  };
  const auto text = [&](double x, double y, const std::string& words, const char* colour) {
    nodes += "set label " + std::to_string(tag++) + " \"" + words + "\" at " + point(x, y) + " center front tc rgb " +
             colour + "\n";
  };
  const char* names[inputs] = {"{/:Italic x}_1", "{/:Italic x}_2", "{/:Italic x}_{/:Italic d}"};
  const char* sums[inputs] = {"{/:Italic M}_{11}", "{/:Italic M}_{22}", "{/:Italic M}_{{/:Italic dd}}"};
  for (int i = 0; i < inputs; ++i) {
    const double middle = i == 2 ? 0.0 : 6.6 - 2.9 * i;
    for (int j = 0; j < units; ++j) {
      const double y = middle + 0.9 - 0.6 * j - (j == units - 1 ? 0.35 : 0.0);
      edge(1.0, middle, 4.0, y, "blue");
      edge(4.0, y, 7.0, middle, "vermilion");
      node(4.0, y, 0.17, "ink");
    }
    text(4.0, middle - 0.62, "⋮", "ink");
    edge(7.0, middle, 9.4, 3.4, "grey");
    node(1.0, middle, 0.34, "sky");
    node(7.0, middle, 0.34, "orange");
    text(0.2, middle, names[i], "ink");
    text(6.85, middle + 0.72, sums[i], "ink");
  }
  text(1.0, 1.9, "⋮", "ink");
  text(7.0, 1.9, "⋮", "ink");
  node(9.4, 3.4, 0.34, "green");
  text(10.0, 4.15, "⟨{/:Italic UV}^{⊤}, {/:Italic X}⟩", "ink");
  text(2.3, 8.35, "{/:Italic U}_{{/:Italic ij}}", "blue");
  text(5.7, 8.35, "{/:Italic V}_{{/:Italic ij}}", "vermilion");
  text(4.0, 8.35, "{/:Italic k}", "ink");
  return edges + nodes;
}

}  // namespace

Fig4Options fig4_options(Effort effort) {
  Fig4Options options;
  if (effort == Effort::quick) {
    options.num_seeds = 10;
    options.per_decade = 1;
  } else if (effort == Effort::full) {
    options.num_seeds = 200;
    options.per_decade = 4;
  }
  return options;
}

Fig4Sweeps run_fig4_sweeps(const Fig4Options& options, const SweepRunner& runner) {
  require(options.num_seeds >= 1, "num_seeds must be at least 1, got ", options.num_seeds);
  require(options.per_decade >= 1, "per_decade must be at least 1, got ", options.per_decade);
  require(options.num_samples >= 1 && options.num_samples < options.dimension, "num_samples = ", options.num_samples,
          " must be positive and below dimension = ", options.dimension);
  require(options.mu > 0.0, "mu must be positive, got ", options.mu);
  Axis widths{"k", spaced(std::pow(10.0, lowest_decade), std::pow(10.0, highest_decade),
                          (highest_decade - lowest_decade) * options.per_decade + 1, Spacing::logarithmic)};
  for (double& width : widths.values) width = std::round(width);
  const std::map<std::string, std::string> settings = {{"seed", std::to_string(options.seed)},
                                                       {"d", std::to_string(options.dimension)},
                                                       {"N", std::to_string(options.num_samples)},
                                                       {"mu", exact_number(options.mu)}};
  const Grid grid({widths, seed_axis(options.num_seeds)});
  return {runner.run({"fig4_diagonal", grid, {"distance"}, settings},
                     [&](const Cell& cell) { return diagonal_numbers(options, cell); }),
          runner.run({"fig4_commuting", grid, {"distance"}, settings},
                     [&](const Cell& cell) { return commuting_numbers(options, cell); })};
}

Fig4 make_fig4(const Fig4Sweeps& sweeps) {
  static_cast<void>(sweeps.diagonal.require_ok());
  static_cast<void>(sweeps.commuting.require_ok());
  Fig4 figure;
  for (const double width : sweeps.diagonal.sweep().grid.axes()[0].values)
    figure.points.push_back({static_cast<Index>(width), quartiles(sweeps.diagonal.values("distance", "k", width)),
                             quartiles(sweeps.commuting.values("distance", "k", width))});
  auto& claims = figure.claims;
  claims.push_back(claim_between("fig4", "diagonal measurements: log-log slope of the distance from argmin Q_mu in k",
                                 slope(figure.points, &Fig4Point::diagonal), -0.6, -0.4));
  claims.push_back(claim_between("fig4", "commuting measurements, Schatten-Q_mu: the same slope",
                                 slope(figure.points, &Fig4Point::commuting), -0.6, -0.4));
  claims.push_back(claim_at_most("fig4", "median distance at the largest width, diagonal measurements",
                                 figure.points.back().diagonal.median, 0.02));
  claims.push_back(claim_at_most("fig4", "median distance at the largest width, commuting measurements",
                                 figure.points.back().commuting.median, 0.02));
  return figure;
}

void write_fig4_tables(const Fig4& figure, const Fig4Sweeps& sweeps, const std::filesystem::path& folder) {
  CsvWriter all({"k", "seed", "distance_to_minimizer", "measurements"});
  for (const auto& [result, name] : {std::pair{&sweeps.diagonal, "diagonal"}, {&sweeps.commuting, "commuting"}})
    for (const SweepRow& row : result->rows()) {
      const Cell cell = result->cell(row);
      all.row({cell.integer("k"), cell.integer("seed"), result->value(row, "distance"), name});
    }
  all.write(folder / "fig4.csv");
  CsvWriter medians(
      {"k", "diagonal_median", "diagonal_q25", "diagonal_q75", "commuting_median", "commuting_q25", "commuting_q75"});
  for (const Fig4Point& point : figure.points)
    medians.row({point.width, point.diagonal.median, point.diagonal.q25, point.diagonal.q75, point.commuting.median,
                 point.commuting.q25, point.commuting.q75});
  medians.write(folder / "fig4_medians.csv");
}

Picture fig4_picture(const Fig4& figure) {
  const Fig4Point& last = figure.points.back();
  Picture picture;
  picture.name = "fig4";
  picture.alt =
      "Left: a drawing of the network of diagonal measurements; every input has its own k products of weights, "
      "summed to "
      "an entry of the diagonal, and these are summed to the output. Right: the distance of the flow's limit from the "
      "minimizer of Q_mu falls like one over the root of the width, for diagonal and for commuting measurements.";
  picture.width = 1120;
  picture.height = 450;
  picture.setup = "k_last = " + std::to_string(last.width) + "; level = " + exact_number(last.diagonal.median) + "\n";
  picture.panels = panels_in_grid(2, {"", "fig4"}, {0.47});
  picture.commands = R"gp(set multiplot
set lmargin at screen 0.02
set rmargin at screen 0.44
set tmargin at screen 0.89
set bmargin at screen 0.04
set title "A wide parallel network"
unset border; unset xtics; unset ytics; unset grid
set xrange [-0.4:10.6]
set yrange [-2:9]
)gp" + drawing() + R"gp(plot NaN
do for [tag=100:240] { unset arrow tag; unset object tag; unset label tag }
set border 3
set grid
set lmargin at screen 0.54
set rmargin at screen 0.985
set bmargin at screen 0.16
set title "The limit of the flow nears the minimizer of {/:Italic Q}_μ"
set xlabel "width {/:Italic k}"
set ylabel "relative distance"
set logscale xy
set xrange [8:1.25e6]
set yrange [*:*]
set xtics 10,10,1e6 format "10^{%T}" nomirror out scale 0.6 tc rgb ink
set ytics 1e-5,10,10 format "10^{%T}" nomirror out scale 0.6 tc rgb ink
set key top right Left reverse
plot "fig4_medians.csv" using "k":"diagonal_q25":"diagonal_q75" with filledcurves lc rgb blue, \
     "" using "k":"commuting_q25":"commuting_q75" with filledcurves lc rgb vermilion, \
     "" using "k":"diagonal_median" with linespoints pt 7 ps 0.7 lw 2.6 lc rgb blue title "diagonal (quartiles shaded)", \
     "" using "k":"commuting_median" with linespoints pt 6 ps 0.8 lw 2.2 lc rgb vermilion title "commuting", \
     0.6 * level * sqrt(k_last / x) with lines lw 1.4 lc rgb ink dt (8,5) title "{/:Italic k}^{-1/2}"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
