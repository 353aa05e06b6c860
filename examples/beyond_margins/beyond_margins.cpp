#include "beyond_margins.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/core/error.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

template <int rows, int columns>
Dataset<> of_rows(const int (&values)[rows][columns]) {
  Matrix<double> X(rows, columns);
  for (int n = 0; n < rows; ++n)
    for (int i = 0; i < columns; ++i) X(n, i) = values[n][i];
  return Dataset(std::move(X), Vector<double>(Vector<double>::Ones(rows)));
}

const char* name_of(MarginExample which) {
  switch (which) {
    case MarginExample::all_support:
      return "all_support";
    case MarginExample::one_free:
      return "one_free";
    case MarginExample::two_optima:
      return "two_optima";
  }
  return "";
}

/// The points of one scale.
std::vector<MarginPlanePoint> column(MarginExample which, Index depth, double log_alpha, MarginLoss loss,
                                     const std::vector<double>& log_losses, double tolerance) {
  MarginPlaneOptions options;
  options.depth = depth;
  options.loss = loss;
  options.scales = {Scale<>::from_log(log_alpha)};
  options.log_losses = log_losses;
  options.tolerance = tolerance;
  options.threads = 1;
  return margin_plane(margin_example(which), options, name_of(which)).points;
}

/// Where the l1 margin passes 0.80, between records that are 0.05 apart in the logarithm of the margin.
PlateauEnd plateau_end(double log_alpha, double tolerance) {
  const Dataset data = margin_example(MarginExample::one_free);
  ClassificationOptions<> options;
  options.tolerance = tolerance;
  // Theory: kappa* = 2 or a little less, and the offset is of order 1.
  for (double log_margin = -2.0 * log_alpha - 4.0; log_margin <= -2.0 * log_alpha + 1.5; log_margin += 0.05)
    if (log_margin > 1.0) options.log_accuracies.push_back(-std::exp(log_margin));
  const Classification<> run = simulate_classification(DiagonalNet<double>(2, data.num_inputs()), data,
                                                       Start<>::uniform(Scale<>::from_log(log_alpha)), options);
  PlateauEnd end{log_alpha, std::numeric_limits<double>::quiet_NaN()};
  constexpr double level = 0.80;
  for (std::size_t k = 1; k < run.records.size(); ++k) {
    const auto& before = run.records[k - 1];
    const auto& after = run.records[k];
    if (!(before.l1_margin < level && after.l1_margin >= level)) continue;
    const double share = (level - before.l1_margin) / (after.l1_margin - before.l1_margin);
    end.log_margin = std::log(before.margin) + share * std::log(after.margin / before.margin);
    break;
  }
  return end;
}

void fit(BeyondMargins& figure) {
  double x = 0.0, y = 0.0, xx = 0.0, xy = 0.0;
  const auto count = static_cast<double>(figure.ends.size());
  for (const PlateauEnd& end : figure.ends) {
    x += -end.log_alpha / count;
    y += end.log_margin / count;
  }
  for (const PlateauEnd& end : figure.ends) {
    xx += (-end.log_alpha - x) * (-end.log_alpha - x);
    xy += (-end.log_alpha - x) * (end.log_margin - y);
  }
  figure.slope = xy / xx;
  figure.offset = y - figure.slope * x;
}

struct Row {
  MarginExample which;
  Index depth;
  double log_alpha;
  std::vector<double> expected;  // at log L = -10, -100, -1e3, -1e4
};

/// Radau's and LSODA's results at tolerances of 1e-9, to two digits.
std::vector<Row> table_of_theory() {
  using E = MarginExample;
  return {{E::all_support, 2, std::log(30.0), {3.6e-2, 4.0e-3, 4.0e-4, 1.8e-5}},
          {E::all_support, 2, std::log(0.3), {2.2e-2, 2.3e-3, 2.3e-4, 2.3e-5}},
          {E::all_support, 2, -20.0, {6e-2, 2.1e-3, 2.1e-4, 2.3e-5}},
          {E::one_free, 2, std::log(30.0), {4.6e-2, 5.1e-3, 5.2e-4, 6.1e-5}},
          {E::one_free, 2, std::log(3.0), {4.6e-2, 6.1e-3, 1.0e-3, 1.8e-4}},
          {E::one_free, 2, std::log(0.3), {0.13, 1.5e-2, 3.9e-3, 1.2e-3}},
          {E::one_free, 2, -5.0, {0.70, 0.68, 0.58, 0.18}},
          {E::one_free, 2, -20.0, {0.70, 0.70, 0.70, 0.70}},
          {E::one_free, 3, std::log(10.0), {4.6e-2, 5.1e-3, 5.2e-4, 6.5e-5}},
          {E::one_free, 3, 0.0, {6.8e-2, 8.4e-3, 8.6e-4, 9.4e-5}},
          {E::one_free, 3, std::log(0.1), {0.71, 0.70, 0.70, 0.70}}};
}

void measure_errors(double tolerance, BeyondMargins& figure) {
  const std::vector<double> log_losses = {-10.0, -100.0, -1e3, -1e4};
  for (const Row& row : table_of_theory()) {
    MarginErrors errors{name_of(row.which), row.depth, row.log_alpha, log_losses, row.expected};
    for (const MarginPlanePoint& point :
         column(row.which, row.depth, row.log_alpha, MarginLoss::exponential, log_losses, tolerance))
      errors.measured.push_back(point.distance);
    figure.errors.push_back(std::move(errors));
  }
  for (const double log_alpha : {std::log(30.0), std::log(0.3), -20.0}) {
    const auto distance = [&](MarginLoss loss) {
      return column(MarginExample::two_optima, 2, log_alpha, loss, {-10.0}, tolerance).front().distance;
    };
    figure.logistic_difference = std::max(
        figure.logistic_difference, std::abs(distance(MarginLoss::logistic) / distance(MarginLoss::exponential) - 1.0));
  }
  const auto last = column(MarginExample::two_optima, 2, -5.0, MarginLoss::exponential, {-1e5}, tolerance).front();
  figure.two_optima_bracket = last.record.l1_bound / last.record.l1_margin - 1.0;
}

void check(BeyondMargins& figure) {
  constexpr const char* name = "beyond_margins";
  figure.claims = margin_plane_claims(name, figure.plane);
  double worst = 0.0, weakest = 0.0, strongest = 0.0;
  for (const MarginErrors& row : figure.errors)
    for (std::size_t k = 0; k < row.expected.size(); ++k) {
      const double off = k < row.measured.size() ? std::abs(row.measured[k] / row.expected[k] - 1.0) : HUGE_VAL;
      worst = std::max(worst, std::isnan(off) ? HUGE_VAL : off);
      if (row.problem != "all_support" || k >= row.measured.size()) continue;
      const double constant = row.measured[k] * -row.log_losses[k];
      weakest = weakest > 0.0 ? std::min(weakest, constant) : constant;
      strongest = std::max(strongest, constant);
    }
  figure.claims.push_back(claim_at_most(
      name, "distance from the margin problem as by Radau's method: largest relative difference in the table of errors",
      worst, 0.1));
  figure.claims.push_back(claim_at_most(
      name, "where every sample is a support vector the distance is below 0.7 / |log L| at every scale: largest factor",
      strongest, 0.7));
  figure.claims.push_back(
      claim_between(name,
                    "a sample with slack: the plateau ends at log margin = kappa log(1/alpha) + constant, kappa = 2 in "
                    "theory: slope",
                    figure.slope, 1.9, 2.1));
  figure.claims.push_back(claim_at_most(
      name, "the logistic loss is as far from the margin problem as the exponential one: largest relative difference",
      figure.logistic_difference, 0.1));
  figure.claims.push_back(claim_at_most(
      name, "several best l1 margins: the bracket of the l1 margin closes at a loss of e^-100000: relative width",
      figure.two_optima_bracket, 1e-2));
}

}  // namespace

Dataset<> margin_example(MarginExample which) {
  constexpr int all_support[4][7] = {
      {2, -1, 1, 0, 1, -2, 1}, {1, 2, -1, 1, 0, 1, -1}, {0, 1, 2, -1, -1, 1, 1}, {-1, 1, 0, 2, 1, 1, 2}};
  constexpr int one_free[5][8] = {{2, -3, -2, -2, -2, 2, 3, 1},
                                  {-3, -3, -1, 0, 1, 0, -2, -2},
                                  {1, 2, -3, -3, 0, -1, 3, 0},
                                  {-1, 0, 1, 1, -2, 2, 2, 3},
                                  {2, -2, -1, 1, 1, 1, 3, -1}};
  constexpr int two_optima[5][8] = {{3, 1, 1, 3, 1, 2, 2, -2},
                                    {-3, -1, -2, 3, 3, -3, 0, 2},
                                    {-3, 2, -3, 0, 2, -1, -1, -2},
                                    {2, -2, 3, 0, 0, 0, 1, 0},
                                    {0, 3, 2, 2, 1, 1, -1, 3}};
  switch (which) {
    case MarginExample::all_support:
      return of_rows(all_support);
    case MarginExample::one_free:
      return of_rows(one_free);
    default:
      return of_rows(two_optima);
  }
}

BeyondMarginsOptions beyond_margins_options(Effort effort) {
  BeyondMarginsOptions options;
  if (effort == Effort::quick) {
    options.num_scales = 17;
    options.num_losses = 17;
    options.digits_to = 4.0;
  }
  if (effort == Effort::full) {
    options.num_scales = 97;
    options.num_losses = 97;
    options.digits_to = 6.0;
    options.tolerance = 1e-4;
  }
  return options;
}

BeyondMargins beyond_margins(const BeyondMarginsOptions& options) {
  require(options.num_scales >= 2 && options.num_losses >= 2, "the map needs 2 scales and 2 losses at least, got ",
          options.num_scales, " and ", options.num_losses);
  require(options.digits_to > 1.0, "digits_to must be above 1, got ", options.digits_to);
  MarginPlaneOptions plane;
  plane.loss = options.loss;
  plane.tolerance = options.tolerance;
  plane.threads = options.threads;
  for (const double log_alpha :
       spaced(options.log_alpha_from, options.log_alpha_to, options.num_scales, Spacing::linear))
    plane.scales.push_back(Scale<>::from_log(log_alpha));
  for (const double digits : spaced(1.0, options.digits_to, options.num_losses, Spacing::linear))
    plane.log_losses.push_back(-std::pow(10.0, digits));
  BeyondMargins figure;
  figure.plane = margin_plane(margin_example(MarginExample::one_free), plane, "beyond_margins");
  for (const double log_alpha : {-3.0, -4.0, -5.0, -6.0})
    figure.ends.push_back(plateau_end(log_alpha, options.tolerance));
  fit(figure);
  measure_errors(options.tolerance, figure);
  check(figure);
  return figure;
}

void write_beyond_margins_tables(const BeyondMargins& figure, const std::filesystem::path& folder) {
  CsvWriter map({"log_alpha", "digits", "log_margin", "log10_distance", "l1_share", "l2_share"});
  for (const MarginPlanePoint& point : figure.plane.points) {
    const double digits = std::log10(-point.log_loss);
    const auto cell = [&](double value) { return point.ok ? CsvCell::or_empty(value) : CsvCell::empty(); };
    map.row({point.scale.log(), digits, cell(std::log(point.record.margin)), cell(std::log10(point.distance)),
             cell(point.record.l1_margin * figure.plane.l1.beta.lpNorm<1>()),
             cell(point.record.l2_margin * figure.plane.l2.beta.norm())});
  }
  map.write(folder / "beyond_margins.csv");
  CsvWriter ends({"log_alpha", "log_margin", "fit"});
  for (const PlateauEnd& end : figure.ends)
    ends.row({end.log_alpha, CsvCell::or_empty(end.log_margin), figure.offset - figure.slope * end.log_alpha});
  ends.write(folder / "beyond_margins_ends.csv");
  CsvWriter errors({"problem", "depth", "log_alpha", "log_loss", "distance", "by_radau"});
  for (const MarginErrors& row : figure.errors)
    for (std::size_t k = 0; k < row.measured.size(); ++k)
      errors.row({row.problem, row.depth, row.log_alpha, row.log_losses[k], row.measured[k], row.expected[k]});
  errors.write(folder / "beyond_margins_errors.csv");
}

Picture beyond_margins_picture(const BeyondMargins& figure, const BeyondMarginsOptions& options) {
  Picture picture;
  picture.name = "beyond_margins";
  picture.alt =
      "Three maps over log alpha and the number of digits of the loss's logarithm. Distance from the margin problem: "
      "small at large alpha and high accuracy, large on a plateau at small alpha that ends along a line of slope 2. "
      "The l1 margin over the best one: high between the kernel regime and the plateau. The l2 margin over the best "
      "one: 1 at large alpha.";
  picture.width = 1500;
  picture.height = 520;
  const auto constant = [](const char* name, double value) { return name + (" = " + exact_number(value)) + "\n"; };
  picture.setup =
      constant("slope", figure.slope) + constant("offset", figure.offset) + constant("from", options.log_alpha_from) +
      constant("to", options.log_alpha_to) + constant("last", options.digits_to) +
      constant("half_alpha",
               0.5 * (options.log_alpha_from - options.log_alpha_to) / static_cast<double>(options.num_scales - 1)) +
      constant("half_digits", 0.5 * (options.digits_to - 1.0) / static_cast<double>(options.num_losses - 1));
  picture.commands = R"gp(set multiplot layout 1,3 margins 0.045,0.945,0.14,0.89 spacing 0.115
set xrange [from + half_alpha : to - half_alpha]
set yrange [1 - half_digits : last + half_digits]
set xlabel "log α   (kernel → rich)"
set ylabel "accuracy: log_{10} |log {/:Italic L}|" offset 1,0
set style fill solid 1 noborder
set grid front
unset key
set colorbox
set title "log_{10} of the distance from the margin problem"
set palette defined (0 "#0072B2", 0.5 "#E8E8E8", 1 "#D55E00")
set cbrange [*:0]
plot "beyond_margins.csv" using "log_alpha":"digits":"log10_distance" with image, \
     "+" using 1:(($1 < -1.5) ? (offset - slope * $1) / log(10) : NaN) with lines lw 2 lc rgb ink, \
     "beyond_margins_ends.csv" using "log_alpha":(column("log_margin") / log(10)) with points pt 7 ps 1 lc rgb ink
unset ylabel
set title "{/:Italic ℓ}_1 margin over the best one (line: end of the plateau)"
set palette defined (0 "#E8E8E8", 1 "#009E73")
set cbrange [*:1]
plot "beyond_margins.csv" using "log_alpha":"digits":"l1_share" with image, \
     "+" using 1:(($1 < -1.5) ? (offset - slope * $1) / log(10) : NaN) with lines lw 2 lc rgb ink, \
     "beyond_margins_ends.csv" using "log_alpha":(column("log_margin") / log(10)) with points pt 7 ps 1 lc rgb ink
set title "{/:Italic ℓ}_2 margin over the best one"
set palette defined (0 "#E8E8E8", 1 "#0072B2")
plot "beyond_margins.csv" using "log_alpha":"digits":"l2_share" with image
unset multiplot
)gp";
  return picture;
}

}  // namespace richflow::examples
