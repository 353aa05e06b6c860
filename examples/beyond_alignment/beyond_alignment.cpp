#include "beyond_alignment.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "csv.hpp"
#include "list.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/fully_connected.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr double tiny_log_alpha = -30.0;
constexpr double large_log_alpha = 4.0;
constexpr double share_of_loss = 1e-3;  // of that of f = 0, at which the data count as fitted

/// Two directions attract neurons of each sign, one of them a kink, at comparable rates.
Dataset<> five_samples() {
  const std::vector<double> degrees = {285, 350, 160, 50, 150};
  Matrix<double> X(5, 2);
  for (Index n = 0; n < 5; ++n) {
    const double angle = degrees[static_cast<std::size_t>(n)] * pi / 180.0;
    X.row(n) << std::cos(angle), std::sin(angle);
  }
  return {std::move(X), Vector<double>{{-0.7, 1.2, 1.4, -0.7, -0.5}}};
}

/// Of `f(x) = sum_j a_j relu(<w_j, x>)`, before the scale.
struct Neurons {
  Matrix<double> W = {};
  Vector<double> a = {};

  [[nodiscard]] Vector<double> packed() const {
    Vector<double> w(W.size() + a.size());
    w << W.reshaped(), a;
    return w;
  }
};

/// Balanced pairs of random directions, with opposite outgoing weights, so that f = 0.
Neurons paired_neurons(RandomStream& random, Index d, Index width) {
  Neurons neurons{Matrix<double>(d, width), Vector<double>(width)};
  const double size = 1.0 / std::sqrt(static_cast<double>(width));
  for (Index j = 0; j < width; j += 2) {
    const Vector<double> direction = normal_vector(random, d).normalized();
    for (const Index k : {j, j + 1}) neurons.W.col(k) = size * direction;
    neurons.a[j] = size;
    neurons.a[j + 1] = -size;
  }
  return neurons;
}

double angle_between(const Vector<double>& u, const Vector<double>& v) {
  return 2.0 * std::asin(std::min(1.0, (u.normalized() - v.normalized()).norm() / 2.0));
}

AlignmentFlowPoint point_of(double log_alpha, double time, const GradientFlow<ReluNetwork<double>>& flow,
                            const Vector<double>& w) {
  const Index width = w.size() / 3;
  AlignmentFlowPoint point{log_alpha, time, flow.loss(w), Vector<double>(width), Vector<double>(width)};
  for (Index j = 0; j < width; ++j) {
    point.angles[j] = std::atan2(w[2 * j + 1], w[2 * j]);
    point.norms[j] = std::abs(w[2 * width + j]) * w.segment(2 * j, 2).norm();
  }
  return point;
}

/// Clusters of angles, more than `gap` apart, of at least a fiftieth of them each.
Index count_clusters(std::vector<double> angles, double gap) {
  std::sort(angles.begin(), angles.end());
  // From behind the widest gap, so that no cluster is cut in two.
  std::size_t first = 0;
  double widest = 0.0;
  const auto gap_before = [&](std::size_t k) {
    return k > 0 ? angles[k] - angles[k - 1] : angles.front() + 2.0 * pi - angles.back();
  };
  for (std::size_t k = 0; k < angles.size(); ++k)
    if (gap_before(k) > widest) {
      widest = gap_before(k);
      first = k;
    }
  Index clusters = 0;
  std::size_t members = 0;
  for (std::size_t i = 0; i < angles.size(); ++i) {
    ++members;
    const bool is_last = i + 1 == angles.size() || gap_before((first + i + 1) % angles.size()) > gap;
    if (!is_last) continue;
    clusters += 50 * members >= angles.size() ? 1 : 0;
    members = 0;
  }
  return clusters;
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Experiment {
 public:
  explicit Experiment(const BeyondAlignmentOptions& options)
      : options_(options),
        data_(five_samples()),
        net_(2, {options.width}),
        flow_(net_, data_),
        start_(make_start(options)) {
    figure_.early = early_alignment(data_, start_.W, start_.a).require_ok();
    figure_.groups = figure_.early.groups();
    figure_.num_bins = options.num_bins;
  }

  BeyondAlignment run() {
    follow_tiny();
    follow_large();
    measure_rates();
    measure_scales();
    try_random_problems();
    return std::move(figure_);
  }

 private:
  static Neurons make_start(const BeyondAlignmentOptions& options) {
    RandomStream random(options.seed);
    return paired_neurons(random, 2, options.width);
  }

  [[nodiscard]] Vector<double> start_at(double log_alpha) const { return std::exp(log_alpha) * start_.packed(); }

  /// The flow at shares of the early phase.
  [[nodiscard]] ModelSimulation<ReluNetwork<double>> flow_at(double log_alpha, const std::vector<double>& shares,
                                                             double tolerance) const {
    SimulateOptions<> options;
    options.tolerance = tolerance;
    const double end = figure_.early.growth_time(Scale<>::from_log(log_alpha));
    for (const double share : shares) options.times.push_back(share * end);
    return simulate(net_, data_, start_at(log_alpha), options).require_ok();
  }

  void follow_tiny() {
    const std::vector<double> shares = spaced(0.003, 3.0, options_.num_times, Spacing::logarithmic);
    const auto run = flow_at(tiny_log_alpha, shares, 1e-3);
    for (std::size_t k = 0; k < shares.size(); ++k)
      figure_.tiny.push_back(point_of(tiny_log_alpha, shares[k], flow_, run.values[k]));

    const std::string panel = "beyond_alignment_tiny";
    const double share = 0.5;
    const auto half = flow_at(tiny_log_alpha, {share}, 1e-5);
    const double time = share * figure_.early.growth_time(Scale<>::from_log(tiny_log_alpha));
    const Matrix<double> predicted = figure_.early.directions_at(time);
    std::vector<double> limit;
    Worst now(Worst::Is::largest), sliding(Worst::Is::largest), residual(Worst::Is::largest);
    std::vector<double> positive, negative;
    for (Index j = 0; j < options_.width; ++j) {
      const auto& neuron = figure_.early.neurons[static_cast<std::size_t>(j)];
      residual.add(neuron.residual);
      const Vector<double> w = half.values[0].segment(2 * j, 2);
      const double off = angle_between(w, predicted.col(j)), off_limit = angle_between(w, neuron.direction);
      if (neuron.has_slid) {
        sliding.add(off_limit);
      } else {
        now.add(off);
        limit.push_back(off_limit);
      }
      if (!neuron.is_dead) (neuron.sign > 0 ? positive : negative).push_back(std::atan2(w[1], w[0]));
    }
    add(claim_at_most(panel, "the predicted directions are critical, from the data alone: largest residual",
                      residual.value(), 1e-13));
    add(claim_at_most(panel,
                      "half-way through the early phase of the start e^-30 the neurons that never slide are where the "
                      "cone-by-cone solution says: largest angle",
                      now.value(), 1e-4));
    add(claim_at_most(panel, "and near their limits, to which they are still turning: median angle", median_of(limit),
                      3e-4));
    add(claim_at_most(panel,
                      "those that slide along a kink, where integrators chatter (relative error of a step 1e-5), are "
                      "near their limits: largest angle",
                      sliding.value(), 5e-3));
    const Index observed = count_clusters(positive, 0.05) + count_clusters(negative, 0.05);
    add(claim_between(panel,
                      "as many directions, of both signs, as predicted (" + std::to_string(figure_.groups.size()) +
                          "): clusters of the flow, more than 0.05 apart",
                      static_cast<double>(observed), static_cast<double>(figure_.groups.size()) - 0.5,
                      static_cast<double>(figure_.groups.size()) + 0.5));
    // They are among all that the plane has.
    Worst nearest(Worst::Is::largest);
    const auto extremal = extremal_directions(data_);
    for (const auto& group : figure_.groups) {
      double least = pi;
      for (const auto& one : extremal)
        if (one.attracts == group.sign) least = std::min(least, angle_between(one.direction, group.direction));
      nearest.add(least);
    }
    add(claim_at_most(panel, "each is one of the extremal directions that attract its sign: largest angle",
                      nearest.value(), 1e-13));
    const double loss = data_.y().squaredNorm();
    add(claim_at_most(panel, "the loss has not moved half-way through the early phase: its relative change",
                      std::abs(flow_.loss(half.values[0]) / loss - 1.0), 1e-10));
    add(claim_at_most(panel, "and is fitted later: loss at the end over that at the start",
                      figure_.tiny.back().loss / loss, share_of_loss));
  }

  /// The flow until the data are fitted.
  [[nodiscard]] ModelSimulation<ReluNetwork<double>> fitted(double log_alpha, double tolerance) const {
    SimulateOptions<> options;
    options.tolerance = tolerance;
    options.loss = share_of_loss * data_.y().squaredNorm();
    options.max_time = 1e3;
    return simulate(net_, data_, start_at(log_alpha), options).require_ok();
  }

  void follow_large() {
    const double end = fitted(large_log_alpha, 1e-5).t;
    SimulateOptions<> options;
    options.tolerance = 1e-5;
    for (const double share : spaced(0.0, 1.0, options_.num_times, Spacing::linear))
      if (share > 0.0) options.times.push_back(share * end);
    const auto run = simulate(net_, data_, start_at(large_log_alpha), options).require_ok();
    figure_.large.push_back(point_of(large_log_alpha, 0.0, flow_, start_at(large_log_alpha)));
    for (std::size_t k = 0; k < run.values.size(); ++k)
      figure_.large.push_back(point_of(large_log_alpha, options.times[k] / end, flow_, run.values[k]));

    Worst turned(Worst::Is::largest);
    for (Index j = 0; j < options_.width; ++j)
      turned.add(std::abs(std::remainder(figure_.large.back().angles[j] - figure_.large.front().angles[j], 2.0 * pi)));
    add(claim_at_most("beyond_alignment_large",
                      "from the start e^4 the data are fitted before a neuron turns: largest angle", turned.value(),
                      0.02));
  }

  /// The error of the prediction is of order alpha^(2 - 2 tau): on the neurons that never slide, as a network of their
  /// own, which an explicit method follows to twelve digits. (`simulate` takes the implicit steps that kinks need.)
  void measure_rates() {
    std::vector<Index> kept;
    for (Index j = 0; j < options_.width && kept.size() < 60; ++j)
      if (!figure_.early.neurons[static_cast<std::size_t>(j)].has_slid) kept.push_back(j);
    const Neurons smooth{start_.W(Eigen::all, kept), start_.a(kept)};
    const EarlyAlignment<> early = early_alignment(data_, smooth.W, smooth.a).require_ok();
    const auto count = static_cast<Index>(kept.size());
    const ReluNetwork<double> net(2, {count});
    const GradientFlow<ReluNetwork<double>> flow(net, data_);
    const std::vector<double> scales = spaced(-4.0, -12.0, options_.num_rates, Spacing::linear);
    const std::vector<double> shares = {0.25, 0.5, 0.75};
    for (const double log_alpha : scales) {
      PiController<> controller;
      controller.tolerance = {1e-11, 0.0};
      Vector<double> w = std::exp(log_alpha) * smooth.packed();
      double from = 0.0;
      for (const double share : shares) {
        const double to = share * early.growth_time(Scale<>::from_log(log_alpha));
        w = integrate(flow, w, TimeSpan<>{from, to}, DormandPrince{}, controller).require_ok().w;
        from = to;
        const Matrix<double> predicted = early.directions_at(to);
        std::vector<double> angles;
        for (Index j = 0; j < count; ++j) angles.push_back(angle_between(w.segment(2 * j, 2), predicted.col(j)));
        figure_.errors.push_back({share, log_alpha, median_of(angles)});
      }
    }
    for (std::size_t k = 0; k < shares.size(); ++k) {
      const std::size_t middle = scales.size() / 2, last = scales.size() - 1;
      const double slope = std::log(figure_.errors[3 * middle + k].angle / figure_.errors[3 * last + k].angle) /
                           (scales[middle] - scales[last]);
      const double expected = 2.0 - 2.0 * shares[k];
      add(claim_between("beyond_alignment_rate",
                        "at " + short_number(shares[k]) + " of the early phase the error falls as alpha^" +
                            short_number(expected) + ": slope of the median angle from e^-8 to e^-12",
                        slope, expected - 0.1, expected + 0.1));
    }
  }

  void measure_scales() {
    for (const double log_alpha : spaced(-8.0, 4.0, options_.num_scales, Spacing::linear))
      figure_.turns.push_back({log_alpha, average_turn(log_alpha)});
    const std::string panel = "beyond_alignment_scales";
    const auto& turns = figure_.turns;
    Worst rise(Worst::Is::largest);
    for (std::size_t k = 1; k < turns.size(); ++k) rise.add(turns[k].turn - turns[k - 1].turn);
    add(claim_at_most(panel,
                      "when the data are fitted the neurons have turned the less the larger the start, on average by "
                      "norm: largest rise between neighbours",
                      rise.value(), 0.01));
    add(claim_at_most(panel, "the average at e^4 over that at e^-8", turns.back().turn / turns.front().turn, 0.01));
    const double slope = std::log(turns.back().turn / average_turn(3.0));
    add(claim_between(panel, "in the kernel regime it falls as alpha^-2: slope from e^3 to e^4", slope, -2.2, -1.8));
  }

  [[nodiscard]] double average_turn(double log_alpha) const {
    const auto run = fitted(log_alpha, 1e-3);
    const AlignmentFlowPoint before = point_of(log_alpha, 0.0, flow_, start_at(log_alpha)),
                             behind = point_of(log_alpha, 1.0, flow_, run.w);
    double turn = 0.0;
    for (Index j = 0; j < options_.width; ++j)
      turn += behind.norms[j] * std::abs(std::remainder(behind.angles[j] - before.angles[j], 2.0 * pi));
    return turn / behind.norms.sum();
  }

  void try_random_problems() {
    const Index width = 20;
    Index within = 0, smooth = 0, sliding = 0, sliding_within = 0;
    Worst residual(Worst::Is::largest);
    for (int trial = 0; trial < options_.num_problems; ++trial) {
      RandomStream random(options_.seed, 1 + static_cast<std::uint64_t>(trial));
      const Index d = 2 + trial % 4;
      Matrix<double> X = normal_matrix(random, 8, d);
      const Dataset<> data(std::move(X), normal_vector(random, 8));
      const Neurons start = paired_neurons(random, d, width);
      const EarlyAlignment<> early = early_alignment(data, start.W, start.a).require_ok();
      const double log_alpha = -20.0, time = 0.5 * early.growth_time(Scale<>::from_log(log_alpha));
      // Adaptive steps may stick to a kink on which a neuron slides; constant ones turn it by two thousandths at most.
      const ReluNetwork<double> net(d, {width});
      const GradientFlow<ReluNetwork<double>> flow(net, data);
      GradientDescentOptions<> descent;
      const double weight = data.y().cwiseAbs().dot(data.X().rowwise().norm());
      descent.iterations = static_cast<Index>(std::ceil(1e3 * weight * time));
      descent.step = time / static_cast<double>(descent.iterations);
      const Vector<double> start_weights = std::exp(log_alpha) * start.packed();
      const Vector<double> w = gradient_descent(flow, start_weights, descent).require_ok().w;
      const Matrix<double> predicted = early.directions_at(time);
      for (Index j = 0; j < width; ++j) {
        const auto& neuron = early.neurons[static_cast<std::size_t>(j)];
        residual.add(neuron.residual);
        // Steps break the balance of a neuron that falls for ever, and what is left of it turns.
        if (neuron.rate < 0.0) continue;
        const bool is_near = angle_between(w.segment(d * j, d), predicted.col(j)) <= 0.02;
        (neuron.has_slid ? sliding : smooth) += 1;
        if (is_near) (neuron.has_slid ? sliding_within : within) += 1;
      }
    }
    const std::string panel = "beyond_alignment_random";
    const auto share = [](Index part, Index all) { return static_cast<double>(part) / static_cast<double>(all); };
    add(claim_at_most(
        panel, "on random problems of up to five features all predicted directions are critical: largest residual",
        residual.value(), 1e-12));
    add(claim_at_least(
        panel,
        "half-way through the early phase of the start e^-20 descent with small steps is within 0.02 of the "
        "prediction: "
        "share of the " +
            std::to_string(smooth) + " neurons that never slide",
        share(within, smooth), 0.995));
    add(claim_at_least(panel, "and of the " + std::to_string(sliding) + " that do, but for those whose norms fall",
                       share(sliding_within, sliding), 0.95));
  }

  void add(Claim claim) { figure_.claims.push_back(std::move(claim)); }

  BeyondAlignmentOptions options_;
  Dataset<> data_;
  ReluNetwork<double> net_;
  GradientFlow<ReluNetwork<double>> flow_;
  Neurons start_;
  BeyondAlignment figure_ = {};
};

}  // namespace

BeyondAlignmentOptions beyond_alignment_options(Effort effort) {
  BeyondAlignmentOptions options;
  if (effort == Effort::quick) {
    options.num_times = 100;
    options.num_rates = 5;
    options.num_problems = 20;
  }
  if (effort == Effort::full) {
    options.num_times = 400;
    options.num_bins = 120;
    options.num_rates = 17;
    options.num_scales = 49;
    options.num_problems = 1000;
  }
  return options;
}

BeyondAlignment beyond_alignment(const BeyondAlignmentOptions& options) {
  require(options.width >= 2 && options.width % 2 == 0, "width must be even and at least 2, got ", options.width);
  require(options.num_times >= 2, "num_times must be at least 2, got ", options.num_times);
  require(options.num_bins >= 2, "num_bins must be at least 2, got ", options.num_bins);
  require(options.num_rates >= 3 && options.num_rates % 2 == 1, "num_rates must be odd and at least 3, got ",
          options.num_rates);
  require(options.num_scales >= 2, "num_scales must be at least 2, got ", options.num_scales);
  require(options.num_problems >= 1, "num_problems must be at least 1, got ", options.num_problems);
  return Experiment(options).run();
}

void write_beyond_alignment_tables(const BeyondAlignment& figure, const std::filesystem::path& folder) {
  const Index width = figure.tiny.front().angles.size();
  const double degree = 180.0 / pi;
  // Of at most a hundred neurons, one after the other; a row without an angle is where a curve ends or passes 180.
  CsvWriter angles({"log_alpha", "neuron", "sign", "time", "angle"}), losses({"log_alpha", "time", "loss"});
  for (const auto* flow : {&figure.tiny, &figure.large}) {
    const double log_alpha = flow->front().log_alpha;
    for (Index j = 0; j < std::min<Index>(width, 100); ++j) {
      const int sign = figure.early.neurons[static_cast<std::size_t>(j)].sign;
      double before = flow->front().angles[j];
      for (const AlignmentFlowPoint& point : *flow) {
        if (std::abs(point.angles[j] - before) > pi) angles.row({log_alpha, j, sign, point.time, CsvCell::empty()});
        before = point.angles[j];
        angles.row({log_alpha, j, sign, point.time, before * degree});
      }
      angles.row({log_alpha, j, sign, flow->back().time, CsvCell::empty()});
    }
    CsvWriter histogram({"time", "angle", "share"});
    for (const AlignmentFlowPoint& point : *flow) {
      losses.row({log_alpha, point.time, point.loss});
      Vector<double> bins = Vector<double>::Zero(figure.num_bins);
      for (Index j = 0; j < width; ++j) {
        const double place = (point.angles[j] + pi) / (2.0 * pi) * static_cast<double>(figure.num_bins);
        bins[std::clamp<Index>(static_cast<Index>(place), 0, figure.num_bins - 1)] += point.norms[j];
      }
      for (Index k = 0; k < figure.num_bins; ++k)
        histogram.row({point.time,
                       -180.0 + 360.0 * (static_cast<double>(k) + 0.5) / static_cast<double>(figure.num_bins),
                       bins[k] / point.norms.sum()});
    }
    histogram.write(folder / (flow == &figure.tiny ? "beyond_alignment_tiny.csv" : "beyond_alignment_large.csv"));
  }
  losses.write(folder / "beyond_alignment_loss.csv");
  angles.write(folder / "beyond_alignment_angles.csv");

  CsvWriter predicted({"angle", "sign", "rate", "neurons"});
  for (const AlignedGroup<>& group : figure.groups)
    predicted.row({std::atan2(group.direction[1], group.direction[0]) * degree, group.sign, group.rate,
                   static_cast<Index>(group.members.size())});
  predicted.write(folder / "beyond_alignment_predicted.csv");

  CsvWriter errors({"tau", "log_alpha", "alpha", "angle"});
  for (const AlignmentError& error : figure.errors)
    errors.row({error.tau, error.log_alpha, std::exp(error.log_alpha), error.angle});
  errors.write(folder / "beyond_alignment_errors.csv");

  CsvWriter turns({"log_alpha", "alpha", "turn"});
  for (const AlignmentTurn& turn : figure.turns)
    turns.row({turn.log_alpha, std::exp(turn.log_alpha), turn.turn * degree});
  turns.write(folder / "beyond_alignment_turns.csv");
}

Picture beyond_alignment_picture(const BeyondAlignment& figure) {
  Picture picture;
  picture.name = "beyond_alignment";
  picture.alt =
      "Six panels. Angles of the neurons of a ReLU network against time: from a tiny start they gather, long before "
      "the "
      "loss moves, in four directions, which horizontal lines predict; from a large start they stay where they are. "
      "Below, the share of the norms at each angle over time: from the tiny start the direction of the largest rate "
      "leads, and the others follow as the loss falls; from the large start it is spread out for ever. Error of the "
      "predicted directions against alpha: straight lines of predicted slopes. How far neurons have turned when the "
      "data are fitted, against alpha: a plateau below 1, and beyond it a fall as alpha^-2.";
  picture.width = 1080;
  picture.height = 1180;
  std::string positive = "positive = \"", negative = "negative = \"";
  for (const AlignedGroup<>& group : figure.groups)
    (group.sign > 0 ? positive : negative) +=
        exact_number(std::atan2(group.direction[1], group.direction[0]) * 180.0 / pi) + " ";
  picture.setup = positive + "\"\n" + negative + "\"\ntiny = " + exact_number(tiny_log_alpha) +
                  "\nlarge = " + exact_number(large_log_alpha) + "\n";
  const AlignmentTurn& last = figure.turns.back();
  picture.setup += "turn = " + exact_number(last.turn * 180.0 / pi * std::exp(2.0 * last.log_alpha)) + "\n";
  picture.panels = panels_in_grid(2, {"beyond_alignment_tiny", "beyond_alignment_large", "", "",
                                      "beyond_alignment_rate", "beyond_alignment_scales"});
  picture.commands = R"gp(set multiplot layout 3,2 margins 0.09,0.925,0.06,0.965 spacing 0.15,0.09
angles = "beyond_alignment_angles.csv"
set ytics -180,90,180
do for [k = 0:1] {
  set title (k == 0 ? "Start {/:Italic e}^{-30}: neurons align, then grow" : "Start {/:Italic e}^{4}: neurons stay")
  set xlabel (k == 0 ? "time / end of the early phase" : "time / that at which the data are fitted")
  set ylabel "angle of {/:Italic w}_j"
  if (k == 0) { set xrange [log10(0.003) : log10(3)] } else { set xrange [0 : 1] }
  if (k == 0) { set xtics ("0.003" log10(0.003), "0.01" log10(0.01), "0.03" log10(0.03), "0.1" log10(0.1), "0.3" log10(0.3), "1" 0, "3" log10(3)) } else { set xtics 0.2 }
  set yrange [-180 : 250]
  set key top center horizontal maxrows 1 samplen 2
  from = k == 0 ? tiny : large
  place(time) = k == 0 ? log10(time) : time
  here(sign) = column("log_alpha") == from && column("sign") == sign && valid(5) ? column("angle") : NaN
  unset arrow
  if (k == 0) {
    do for [i = 1:words(positive)] { set arrow from graph 0, first real(word(positive, i)) to graph 1, first real(word(positive, i)) nohead lc rgb ink dt (12,6) lw 1.6 front }
    do for [i = 1:words(negative)] { set arrow from graph 0, first real(word(negative, i)) to graph 1, first real(word(negative, i)) nohead lc rgb ink dt (3,5) lw 1.6 front }
  }
  plot angles using (place(column("time"))):(here(1)) with lines lw 0.8 lc rgb blue title (k == 0 ? "" : "{/:Italic a}_j > 0"), \
       angles using (place(column("time"))):(here(-1)) with lines lw 0.8 lc rgb vermilion dt k + 1 title (k == 0 ? "" : "{/:Italic a}_j < 0"), \
       NaN with lines lw 1.6 dt (12,6) lc rgb ink title (k == 0 ? "predicted, {/:Italic a}_j > 0" : ""), \
       NaN with lines lw 1.6 dt (3,5) lc rgb ink title (k == 0 ? "{/:Italic a}_j < 0" : "")
}
unset key
set style fill solid noborder
set palette defined (0 "#fbf7ef", 0.15 "#f7d9a8", 0.4 "#e69f00", 0.7 "#c4461f", 1 "#4b0f38")
unset grid
set yrange [-180 : 180]
do for [k = 0:1] {
  set title (k == 0 ? "Start {/:Italic e}^{-30}: share of |{/:Italic a}_j| |{/:Italic w}_j| by angle" : "Start {/:Italic e}^{4}: share of |{/:Italic a}_j| |{/:Italic w}_j| by angle")
  set xlabel (k == 0 ? "time / end of the early phase" : "time / that at which the data are fitted")
  set ylabel "angle"
  if (k == 0) { set xrange [log10(0.003) : log10(3)] } else { set xrange [0 : 1] }
  if (k == 0) { set xtics ("0.003" log10(0.003), "0.01" log10(0.01), "0.03" log10(0.03), "0.1" log10(0.1), "0.3" log10(0.3), "1" 0, "3" log10(3)) } else { set xtics 0.2 }
  set colorbox
  if (k == 0) { set cbtics 0.2 format "%.1f" } else { set cbtics 0.02 format "%.2f" }
  set cbrange [0 : (k == 0 ? 0.6 : 0.06)]
  place(time) = k == 0 ? log10(time) : time
  unset arrow
  if (k == 0) {
    do for [i = 1:words(positive)] { set arrow from graph 0.96, first real(word(positive, i)) to graph 1, first real(word(positive, i)) nohead lc rgb blue lw 4 front }
    do for [i = 1:words(negative)] { set arrow from graph 0.96, first real(word(negative, i)) to graph 1, first real(word(negative, i)) nohead lc rgb vermilion lw 4 front }
  }
  plot (k == 0 ? "beyond_alignment_tiny.csv" : "beyond_alignment_large.csv") using (place(column("time"))):"angle":"share" with image
}
unset arrow
unset colorbox
set grid
set logscale xy
set xtics 1e-10,10,1e10 format "10^{%T}"
set ytics 1e-12,100,1e10 format "10^{%T}"
set title "Error of the predicted directions"
set xlabel "α"
set ylabel "median angle (radians)"
set xrange [4e-6:0.03]
set yrange [1e-12:10]
set key top left Left reverse vertical maxrows auto samplen 4
at(tau) = column("tau") == tau ? column("angle") : NaN
stats "beyond_alignment_errors.csv" using (at(0.25) / column("alpha")**1.5) nooutput prefix "A"
stats "beyond_alignment_errors.csv" using (at(0.5) / column("alpha")**1) nooutput prefix "B"
stats "beyond_alignment_errors.csv" using (at(0.75) / column("alpha")**0.5) nooutput prefix "C"
plot C_median * x**0.5 with lines lw 1.4 lc rgb green notitle, \
     B_median * x with lines lw 1.4 lc rgb blue notitle, \
     A_median * x**1.5 with lines lw 1.4 lc rgb vermilion notitle, \
     "beyond_alignment_errors.csv" using "alpha":(at(0.75)) with points pt 9 ps 0.9 lc rgb green title "at 3/4 of the early phase (slope 1/2)", \
     "" using "alpha":(at(0.5)) with points pt 5 ps 0.7 lc rgb blue title "at 1/2 (slope 1)", \
     "" using "alpha":(at(0.25)) with points pt 7 ps 0.7 lc rgb vermilion title "at 1/4 (slope 3/2)"
set title "How far the neurons have turned when the data are fitted"
set xlabel "α"
set ylabel "average by norm (degrees)"
set xrange [2e-4:100]
set yrange [0.03:200]
set ytics 1e-2,10,1e2 format "%g"
set key bottom left Left reverse
plot "beyond_alignment_turns.csv" using "alpha":"turn" with linespoints pt 7 ps 0.7 lw 1.6 lc rgb blue title "flow", \
     turn * x**-2 with lines lw 1.4 lc rgb ink title "slope −2"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
