#include "classes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "options.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

/// From where Q is quadratic at the smallest loss, downwards. At depth 2 small scales rest on plateaus and no scale
/// shows the l1 margin; beyond, alpha^(D-2) has to leave the dual variables half their digits.
std::vector<Scale<>> default_class_scales(const MarginResult<>& l2, const ClassPathOptions& options) {
  const double depth = static_cast<double>(options.depth);
  const double margin = std::max(1.0, -*std::min_element(options.log_losses.begin(), options.log_losses.end()));
  const double top = (std::log(10.0 * margin * l2.beta.cwiseAbs().maxCoeff())) / depth;
  const double span = options.depth == 2 ? 16.0 : std::min(16.0, 12.0 / (depth - 2.0));
  std::vector<Scale<>> scales;
  for (const double log_alpha : spaced(top, top - span, options.num_scales, Spacing::linear))
    scales.push_back(Scale<>::from_log(log_alpha));
  return scales;
}

std::string loss_text(double log_loss) {
  const double digits = log_loss / std::log(10.0);
  if (std::abs(digits) < 2.0) return short_number(std::exp(log_loss), 2);
  const double exponent = std::floor(digits + 1e-9);
  const std::string mantissa = short_number(std::pow(10.0, digits - exponent), 2);
  return mantissa + "e" + short_number(exponent, 12);
}

/// The points of one accuracy, by falling scale.
std::vector<std::size_t> points_of(const MarginPlane& plane, double log_loss) {
  std::vector<std::size_t> points;
  for (std::size_t k = 0; k < plane.points.size(); ++k)
    if (plane.points[k].log_loss == log_loss) points.push_back(k);
  return points;
}

}  // namespace

ClassPath class_path(const AlphaPathProblem& problem, const ClassPathOptions& options) {
  ClassPath path;
  path.options = options;
  std::vector<double>& log_losses = path.options.log_losses;
  std::sort(log_losses.begin(), log_losses.end(), std::greater<>());
  log_losses.erase(std::unique(log_losses.begin(), log_losses.end()), log_losses.end());
  const double at_start = std::log(static_cast<double>(problem.train.num_samples())) +
                          (options.loss == MarginLoss::logistic ? std::log(std::log(2.0)) : 0.0);
  require(log_losses.empty() || log_losses.front() < at_start, "--accuracy: ", std::exp(log_losses.front()),
          " is not below the loss at the start, ", std::exp(at_start));
  MarginPlaneOptions plane;
  plane.depth = options.depth;
  plane.loss = options.loss;
  plane.log_losses = path.options.log_losses;
  plane.scales = options.scales;
  plane.shape = problem.shape;
  plane.threads = options.threads;
  require(options.depth >= 2, "depth must be at least 2, got ", options.depth);
  path.plane = naming_option("--loss", [&] {
    if (plane.scales.empty()) {
      const MarginResult<> l2 = max_margin_l2(problem.train);
      require(l2.is_separable, l2.message);
      plane.scales = default_class_scales(l2, options);
    }
    return margin_plane(problem.train, plane, std::string(to_string(options.loss)) + " loss");
  });
  for (const MarginPlanePoint& point : path.plane.points)
    path.accuracies.push_back(point.ok ? test_accuracy(problem, point.record.beta)
                                       : std::numeric_limits<double>::quiet_NaN());
  path.l1_accuracy = test_accuracy(problem, path.plane.l1.beta);
  path.l2_accuracy = test_accuracy(problem, path.plane.l2.beta);
  path.claims = margin_plane_claims("alpha_path", path.plane);
  return path;
}

void write_class_path_tables(const AlphaPathProblem& problem, const ClassPath& path,
                             const std::filesystem::path& folder) {
  CsvWriter betas({"log_alpha", "log_accuracy", "i", "beta", "margin_problem"});
  std::vector<std::string> columns = {"log_alpha", "log_accuracy", "log_time", "margin",  "l1_margin", "l1_bound",
                                      "best_l1",   "l2_margin",    "l2_bound", "best_l2", "q",         "q_excess",
                                      "q_least",   "distance",     "support",  "steps"};
  if (problem.test) columns.emplace_back("test_accuracy");
  CsvWriter table(columns);
  const double best_l1 = 1.0 / path.plane.l1.beta.lpNorm<1>();
  const double best_l2 = 1.0 / path.plane.l2.beta.norm();
  for (std::size_t k = 0; k < path.plane.points.size(); ++k) {
    const MarginPlanePoint& point = path.plane.points[k];
    if (!point.ok) continue;
    const ClassificationRecord<>& record = point.record;
    const bool is_solved = point.best.size() > 0;
    for (Index i = 0; i < record.beta.size(); ++i)
      betas.row({point.scale.log(), point.log_loss, i, record.beta[i],
                 is_solved ? CsvCell(point.best[i]) : CsvCell::empty()});
    const auto solved = [&](double value) { return is_solved ? CsvCell(value) : CsvCell::empty(); };
    std::vector<CsvCell> cells = {point.scale.log(),
                                  point.log_loss,
                                  std::isfinite(record.log_time) ? CsvCell(record.log_time) : CsvCell::empty(),
                                  record.margin,
                                  record.l1_margin,
                                  record.l1_bound,
                                  best_l1,
                                  record.l2_margin,
                                  record.l2_bound,
                                  best_l2,
                                  record.value,
                                  record.excess,
                                  solved(point.best_value),
                                  solved(point.distance),
                                  is_solved ? CsvCell(point.support) : CsvCell::empty(),
                                  record.steps};
    if (problem.test) cells.emplace_back(path.accuracies[k]);
    table.row(cells);
  }
  betas.write(folder / "margins.csv");
  table.write(folder / "classes.csv");
}

Picture class_path_picture(const AlphaPathProblem& problem, const ClassPath& path) {
  const bool has_test = problem.test.has_value();
  Picture picture;
  picture.name = "alpha_path_classes";
  picture.alt =
      "Against log alpha, a curve for each accuracy of the loss: the l1 margin and the l2 margin of the flow "
      "over the best ones, and the distance of the flow from the margin problem";
  picture.alt += has_test ? ", and the test accuracy." : ".";
  picture.width = 1100;
  picture.height = 760;
  std::string heading = problem.name;
  std::replace_if(
      heading.begin(), heading.end(), [](char c) { return c == '\'' || c == '\n' || c == '\\'; }, ' ');
  const auto curves = [&](const std::string& value) {
    std::string text;
    const std::vector<std::string> colours = {"vermilion", "orange", "green", "sky", "blue", "purple", "ink"};
    const std::vector<double>& logs = path.options.log_losses;
    for (std::size_t k = 0; k < logs.size(); ++k) {
      text += k == 0 ? "plot " : ", \\\n     ";
      text += (k == 0 ? std::string("\"classes.csv\"") : std::string("\"\"")) +
              " using \"log_alpha\":(abs(column(\"log_accuracy\") - (" + exact_number(logs[k]) + ")) < 1e-9 ? " +
              value + " : NaN) with linespoints pt 7 ps 0.5 lw 2.2 lc rgb " + colours[k % colours.size()] +
              " title \"" + (k == 0 ? "loss " : "") + loss_text(logs[k]) + "\"";
    }
    return text + "\n";
  };
  picture.setup = "heading = '" + heading + ", depth " + std::to_string(path.options.depth) + ", " +
                  to_string(path.options.loss) + " loss'\n";
  picture.commands =
      "set multiplot layout 2,2 margins 0.075,0.985,0.09,0.88 spacing 0.095,0.13 title heading noenhanced\n";
  picture.commands += R"gp(set datafile missing NaN
set xrange [*:*] reverse
set xlabel "log α   (kernel → rich)"
set title "{/:Italic ℓ}_1 margin over the best one"
set yrange [*:1.02]
unset key
)gp" + curves("column(\"l1_margin\") / column(\"best_l1\")") +
                      R"gp(set key top right
set title "{/:Italic ℓ}_2 margin over the best one"
)gp" + curves("column(\"l2_margin\") / column(\"best_l2\")") +
                      R"gp(unset key
set title "Relative distance from the margin problem"
set yrange [*:*]
set logscale y
set format y "10^{%T}"
)gp" + curves("column(\"distance\")") +
                      "unset logscale y\nset format y \"%g\"\n";
  if (has_test) {
    const auto level = [](int number, double accuracy, const char* style) {
      return "set arrow " + std::to_string(number) + " from graph 0, first " + exact_number(accuracy) +
             " to graph 1, first " + exact_number(accuracy) + " nohead back lc rgb grey lw 1.6" + style + "\n";
    };
    picture.commands +=
        "set title \"Test accuracy (best {/:Italic ℓ}_2 margin: grey; best {/:Italic ℓ}_1: dashed)\"\n" +
        level(1, path.l2_accuracy, "") + level(2, path.l1_accuracy, " dt (8,5)") + curves("column(\"test_accuracy\")") +
        "unset arrow\n";
  }
  picture.commands += "unset multiplot\nset xrange [*:*] noreverse\n";
  return picture;
}

void print_class_path(const AlphaPathProblem& problem, const ClassPath& path) {
  std::printf("%s: N = %td, d = %td, depth %td, %s loss; best l1 margin %.6g, best l2 margin %.6g\n",
              problem.name.c_str(), problem.train.num_samples(), problem.train.num_inputs(), path.options.depth,
              to_string(path.options.loss), 1.0 / path.plane.l1.beta.lpNorm<1>(), 1.0 / path.plane.l2.beta.norm());
  std::printf("%10s %9s %10s %10s %10s %10s %8s%s\n", "log alpha", "loss", "margin", "l1 / best", "l2 / best",
              "distance", "support", problem.test ? "  test accuracy" : "");
  for (const double log_loss : path.options.log_losses)
    for (const std::size_t k : points_of(path.plane, log_loss)) {
      const MarginPlanePoint& point = path.plane.points[k];
      std::printf("%10.4g %9s", point.scale.log(), loss_text(log_loss).c_str());
      if (!point.ok) {
        std::printf("  %s\n", point.message.c_str());
        continue;
      }
      std::printf(" %10.5g %10.5f %10.5f %10.2g %8td", point.record.margin,
                  point.record.l1_margin * path.plane.l1.beta.lpNorm<1>(),
                  point.record.l2_margin * path.plane.l2.beta.norm(), point.distance, point.support);
      if (problem.test) std::printf("  %13.4f", path.accuracies[k]);
      std::printf("\n");
    }
  if (problem.test)
    std::printf("test accuracy of the best l2 margin %.4f, of the best l1 margin %.4f\n", path.l2_accuracy,
                path.l1_accuracy);
  std::fflush(stdout);
}

}  // namespace richflow::examples
