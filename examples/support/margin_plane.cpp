#include "margin_plane.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <sstream>

#include "list.hpp"
#include "progress.hpp"
#include "richflow/bias/regularizer.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"

namespace richflow::examples {

namespace {

Start<> start_of(const MarginPlaneOptions& options, Scale<> scale) {
  return options.shape ? Start<>::shaped(scale, *options.shape) : Start<>::uniform(scale);
}

using Points = MarginPlanePoint*;

/// The points of one scale.
void fill(const Dataset<>& data, const MarginPlaneOptions& options, Scale<> scale, Points points) {
  const std::size_t count = options.log_losses.size();
  try {
    const DiagonalNet net(options.depth, data.num_inputs());
    const Start<> start = start_of(options, scale);
    const auto Q = regularizer(net, start);
    ClassificationOptions<> wanted;
    wanted.loss = options.loss;
    wanted.log_accuracies = options.log_losses;
    wanted.tolerance = options.tolerance;
    Classification<> run = simulate_classification(net, data, start, wanted);
    MarginPath<ImplicitRegularizer<>> path(data, Q);
    for (std::size_t k = 0; k < count; ++k) {
      MarginPlanePoint& point = points[k];
      if (k >= run.records.size()) {
        point.message = run.message;
        continue;
      }
      point.record = std::move(run.records[k]);
      point.ok = true;
      if (!(point.record.margin > 0.0)) continue;
      // Q is homogeneous: margin gamma at alpha is margin 1 at alpha gamma^(-1/D).
      const double shift = -std::log(point.record.margin) / static_cast<double>(options.depth);
      const MarginResult<> best = path.solve(scale.shifted(shift));
      if (!best.ok()) {
        point.ok = false;
        point.message = best.message;
        continue;
      }
      point.best = point.record.margin * best.beta;
      point.best_value = Q.value(point.best);
      point.gap = best.gap;
      point.support = static_cast<Index>(best.support.size());
      point.distance = (point.record.beta - point.best).norm() / point.record.beta.norm();
    }
  } catch (const Error& error) {
    for (std::size_t k = 0; k < count; ++k) points[k].message = error.what();
  }
}

double parse_log(const std::string& option, const std::string& piece) {
  const std::size_t mark = piece.find_first_of("eE");
  const std::string mantissa = piece.substr(0, mark);
  int exponent = 0;
  bool fits = !mantissa.empty();
  if (mark != std::string::npos) {
    const std::size_t first = mark + 1 < piece.size() && piece[mark + 1] == '+' ? mark + 2 : mark + 1;
    const char* const end = piece.data() + piece.size();
    const auto [rest, error] = std::from_chars(piece.data() + first, end, exponent);
    fits = fits && error == std::errc() && rest == end;
  }
  require(mantissa.find(':') == std::string::npos, option, " is a list a,b,c, got '", piece, "'");
  require(fits, option, ": '", piece, "' is not a positive number");
  const double value = parse_list(option, mantissa, Spacing::linear).front();
  require(value > 0.0, option, ": '", piece, "' is not a positive number");
  return std::log(value) + exponent * std::log(10.0);
}

}  // namespace

MarginPlane margin_plane(const Dataset<>& data, const MarginPlaneOptions& options, const std::string& label) {
  require(!options.scales.empty(), "the margin plane needs a scale");
  require(!options.log_losses.empty(), "the margin plane needs an accuracy");
  MarginPlane plane;
  plane.l2 = max_margin_l2(data);
  require(plane.l2.is_separable, plane.l2.message);
  plane.l2.require_ok();
  plane.l1 = max_margin_l1(data).require_ok();
  MarginPlaneOptions sorted = options;
  std::sort(sorted.scales.begin(), sorted.scales.end(), [](Scale<> a, Scale<> b) { return a.log() > b.log(); });
  std::sort(sorted.log_losses.begin(), sorted.log_losses.end(), std::greater<>());
  sorted.scales.erase(std::unique(sorted.scales.begin(), sorted.scales.end()), sorted.scales.end());
  sorted.log_losses.erase(std::unique(sorted.log_losses.begin(), sorted.log_losses.end()), sorted.log_losses.end());
  // A shape that does not fit is one error, not one of each point.
  (void)regularizer(DiagonalNet(options.depth, data.num_inputs()), start_of(options, sorted.scales.front()));
  const std::size_t count = sorted.log_losses.size();
  plane.points.resize(sorted.scales.size() * count);
  for (std::size_t k = 0; k < plane.points.size(); ++k) {
    plane.points[k].scale = sorted.scales[k / count];
    plane.points[k].log_loss = sorted.log_losses[k % count];
    plane.points[k].distance = std::numeric_limits<double>::quiet_NaN();
  }
  Progress progress(label, static_cast<double>(sorted.scales.size()));
  parallel_for(static_cast<Index>(sorted.scales.size()),
               [&](Index k) {
                 const auto slot = static_cast<std::size_t>(k);
                 fill(data, sorted, sorted.scales[slot], &plane.points[slot * count]);
                 progress.finish();
               },
               {.threads = options.threads});
  return plane;
}

std::vector<Claim> margin_plane_claims(const std::string& figure, const MarginPlane& plane) {
  const double l1 = 1.0 / plane.l1.beta.lpNorm<1>();
  const double l2 = 1.0 / plane.l2.beta.norm();
  double gap = std::max(std::abs(plane.l1.gap), std::abs(plane.l2.gap));
  double below = 0.0, value = 0.0;
  Index missing = 0;
  for (const MarginPlanePoint& point : plane.points) {
    if (!point.ok) {
      ++missing;
      continue;
    }
    const ClassificationRecord<>& record = point.record;
    below = std::max({below, record.l1_margin / l1 - 1.0, 1.0 - record.l1_bound / l1, record.l2_margin / l2 - 1.0,
                      1.0 - record.l2_bound / l2});
    if (point.best.size() == 0) continue;
    gap = std::max(gap, std::abs(point.gap));
    const double above = record.value - point.best_value;
    value = std::max({value, -above / point.best_value, (above - record.excess) / point.best_value});
  }
  return {claim_at_most(figure, "every accuracy is reached: points of the plane that are not",
                        static_cast<double>(missing), 0.0),
          claim_at_most(figure, "every margin problem is proved solved: largest relative duality gap", gap, 1e-9),
          claim_at_most(figure,
                        "the flow's own bounds hold the best l1 and l2 margins between them: largest relative "
                        "violation",
                        below, 1e-9),
          claim_at_most(figure,
                        "Q at the flow is above the least Q of its margin by nu^T (m - gamma) at most: largest "
                        "relative violation",
                        value, 1e-9)};
}

std::vector<double> parse_log_list(const std::string& option, const std::string& text) {
  std::vector<double> logs;
  std::istringstream pieces(text);
  std::string piece;
  while (std::getline(pieces, piece, ',')) logs.push_back(parse_log(option, piece));
  require(!logs.empty() && text.back() != ',', option, " is a list of positive numbers a,b,c, got '", text, "'");
  std::sort(logs.begin(), logs.end(), std::greater<>());
  return logs;
}

}  // namespace richflow::examples
