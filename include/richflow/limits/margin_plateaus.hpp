#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/cheapest_margin.hpp"
#include "richflow/limits/classification_flow.hpp"
#include "richflow/limits/max_margin.hpp"
#include "richflow/limits/separation.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/updatable_qr.hpp"
#include "richflow/losses/margin_losses.hpp"

namespace richflow {

/// A plateau: where the flow of a classification rests as alpha -> 0, between two accuracies.
template <class S = double>
struct MarginPlateau {
  /// It begins at margins of `alpha^-kappa`, losses of `exp(-alpha^-kappa)`: 0 for the first.
  S kappa = S(0);
  Vector<S> beta = {};     ///< The direction, d, scaled to least margin 1: cheapest over the coordinates in play.
  Vector<S> weights = {};  ///< p, N, in the simplex: the share of a sample in the slope of the loss.
  /// The coordinates that may be nonzero, increasing: those of beta, and with ties others that keep up with their
  /// thresholds too. (Of equal columns beta has one, the flow all.)
  std::vector<Index> in_play = {};
  std::vector<Index> entered = {};  ///< Those that came with this plateau.
  S margin = S(0);                  ///< `1 / |beta|_1` (depth D >= 3: in the norm weighted by the thresholds)
};

/// The path through the plateaus.
template <class S = double>
struct [[nodiscard]] MarginPlateaus : Result<MarginPlateaus<S>> {
  std::vector<MarginPlateau<S>> plateaus = {};  ///< By rising kappa.
  Index saddles = 0;          ///< Minimizers of the loss at which the flow rests before any plateau, beta = 0 included.
  bool is_l1_margin = false;  ///< Whether the last has the best margin of all: at depth D >= 3 it need not.
  /// Whether no coordinate out of play could enter the last plateau without lowering its margin. Otherwise several
  /// directions have that margin.
  bool is_unique = false;
  bool is_separable = true;  ///< Otherwise there are no plateaus.
  Status status = Status::stalled;
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether the path was followed to its end.
  [[nodiscard]] bool ok() const { return is_success(status); }
  /// The one at kappa. Throws ArgumentError where there is none.
  [[nodiscard]] const MarginPlateau<S>& at(S kappa) const {
    require(!plateaus.empty(), "there are no plateaus: ", message);
    std::size_t k = 0;
    while (k + 1 < plateaus.size() && plateaus[k + 1].kappa <= kappa) ++k;
    return plateaus[k];
  }
};

/// The path of diagonal nets under the exponential or the logistic loss as alpha -> 0, with labels -1 and +1: with
/// `s = Z^T nu` in the unit log(1/alpha) (Z has the rows y_n x_n) coordinate i is in play where `|s_i|` reaches a
/// threshold, 2 at depth 2. First the flow rests at saddles, the minimizers of the loss over the coordinates in play,
/// while the others move as `Z^T p`. Once those in play separate the data (docs/theory.md, section 9.3), margins grow
/// without end, and the unit of progress is `kappa = log margin / log(1/alpha)`: beta has the best l1 margin over the
/// coordinates in play, p are its multipliers, thresholds move as 2 + kappa and the others as
/// `ds_i/dkappa = (Z^T p)_i |beta|_1`. What catches up enters: a simplex method run by the flow, which ends at the best
/// l1 margin. Each plateau lasts from its kappa to the next.
///
/// At depth D >= 3 thresholds are `theta = w0^(2-D)` and do not move, and so the first plateau is the last.
/// `thresholds` gives them (positive, d, in the unit of s); empty: 2 everywhere at depth 2, 1 beyond.
///
/// Where ties leave p free (a direction with more samples of least margin than entries), p are the multipliers of a
/// vertex, and what comes into play at 0 stays there until the plateau ends: the plateaus are right, their kappa one of
/// several that the limit alone allows. Rates, times and costs that differ by less than 1e5 epsilon count as equal.
///
/// A saddle may be at infinity though the data are not separated yet (ties or entries of x that are exactly 0 can make
/// one): the samples whose margins grow there have weights 0. Where the margins of others then grow, too, the path ends
/// as stalled, and the message says so. Throws ArgumentError for a depth below 2, labels other than -1 and +1 and
/// thresholds that are not positive, DimensionError for their number. Cost: `max_margin_l1`, and with k coordinates in
/// play a linear program of k columns in a tableau of N x k numbers (ten million at most) for each that enters after
/// the data are separated, a convex problem of k unknowns and O(N k^2) a Newton step for each saddle.
template <class S>
[[nodiscard]] MarginPlateaus<S> margin_plateaus(const Dataset<S>& data, MarginLoss loss = MarginLoss::exponential,
                                                Index depth = 2, const Vector<S>& thresholds = {});

namespace detail {

/// Follows the path of `margin_plateaus`.
template <class S>
class PlateauWalk {
 public:
  /// `columns` (d x N), the signed samples, must outlive it. The thresholds begin at `thresholds` and grow as `kappa
  /// costs`.
  PlateauWalk(const Matrix<S>& columns, MarginLoss loss, Vector<S> thresholds, Vector<S> costs);

  /// To the end, or no further than the first plateau that lasts until `last_kappa`.
  [[nodiscard]] MarginPlateaus<S> run(S last_kappa);

 private:
  /// B, N x k: the columns in play, along their signs.
  [[nodiscard]] Matrix<S> in_play() const;
  /// The minimizer of the loss over `c >= 0`, and its p; where it is at infinity, p within rounding of its limit.
  /// Returns what went wrong, or null.
  [[nodiscard]] const char* rest_at_saddle(const Matrix<S>& B, Vector<S>& c);
  void weigh(const Vector<S>& margins);
  /// Moves s along its slope, times `unit`, until a coordinate is at its threshold; thresholds recede at the rate
  /// `growth`. False where none ever is.
  [[nodiscard]] bool advance(S unit, S growth, S& reach);
  /// What counts as rounding of the rate at which i gains on its threshold.
  [[nodiscard]] S negligible(Index i, S unit, S growth) const {
    return rounding * std::max(S(growth * costs_[i]), S(unit * largest_));
  }
  /// Whether i, which is at its threshold, keeps up with it.
  [[nodiscard]] bool stays(Index i, S unit, S growth) const;
  /// The end, where no coordinate is out of play, in units of the costs.
  [[nodiscard]] MarginResult<S> best_of_all() const;
  void add_plateau(S kappa, Vector<S> entries, S cost, MarginPlateaus<S>& path) const;

  // What differs by less counts as equal: times, costs, and rates beside the largest.
  static constexpr S rounding = S(1e5) * std::numeric_limits<S>::epsilon();

  const Matrix<S>& columns_;
  MarginLoss loss_;
  Vector<S> thresholds_, costs_, s_, slopes_;
  Vector<S> p_, log_slopes_, logs_;
  S log_loss_{0}, largest_;
  std::vector<Index> active_ = {}, entered_ = {};
};

template <class S>
PlateauWalk<S>::PlateauWalk(const Matrix<S>& columns, MarginLoss loss, Vector<S> thresholds, Vector<S> costs)
    : columns_(columns),
      loss_(loss),
      thresholds_(std::move(thresholds)),
      costs_(std::move(costs)),
      s_(Vector<S>::Zero(columns.rows())),
      p_(Vector<S>::Zero(columns.cols())),
      log_slopes_(columns.cols()),
      logs_(columns.cols()),
      largest_(largest_size(columns.data(), columns.size())) {}

template <class S>
Matrix<S> PlateauWalk<S>::in_play() const {
  Matrix<S> B(columns_.cols(), static_cast<Index>(active_.size()));
  for (Index j = 0; j < B.cols(); ++j) {
    const Index i = active_[static_cast<std::size_t>(j)];
    const S sign = s_[i] < S(0) ? S(-1) : S(1);
    for (Index n = 0; n < B.rows(); ++n) B(n, j) = sign * columns_(i, n);
  }
  return B;
}

template <class S>
void PlateauWalk<S>::weigh(const Vector<S>& margins) {
  using std::exp;
  for (Index n = 0; n < margins.size(); ++n) log_losses_of_margin(loss_, margins[n], log_slopes_[n], logs_[n]);
  log_loss_ = log_of_sum(logs_);
  const S log_sum = log_of_sum(log_slopes_);
  for (Index n = 0; n < margins.size(); ++n) p_[n] = normal_or_zero(S(exp(log_slopes_[n] - log_sum)));
}

template <class S>
const char* PlateauWalk<S>::rest_at_saddle(const Matrix<S>& B, Vector<S>& c) {
  using std::exp;
  using std::sqrt;
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  constexpr S most_change = S(8);
  constexpr const char* astray = "Newton's method did not reach the minimizer of the loss over the coordinates in play";
  const Index N = B.rows();
  const Index K = B.cols();
  c = Vector<S>::Zero(K);
  Vector<S> margins = Vector<S>::Zero(N), prices, column(N), target(N), step, trial;
  const S size = std::max(largest_size(B.data(), B.size()), std::numeric_limits<S>::min());
  std::vector<bool> is_free(static_cast<std::size_t>(K), false);
  weigh(margins);
  // Newton's method over those that are not at 0; one that may enter does so when the others have arrived.
  for (int iteration = 0; iteration < 1000; ++iteration) {
    multiply_transposed(B, p_, prices);
    S slope(0);
    for (Index j = 0; j < K; ++j)
      if (is_free[static_cast<std::size_t>(j)]) slope = std::max(slope, S(std::abs(prices[j])));
    if (slope <= S(1e4) * epsilon * size) {
      Index best = -1;
      for (Index j = 0; j < K; ++j)
        if (!is_free[static_cast<std::size_t>(j)] && prices[j] > S(1e5) * epsilon * size &&
            (best < 0 || prices[j] > prices[best]))
          best = j;
      if (best < 0) return nullptr;
      is_free[static_cast<std::size_t>(best)] = true;
    }
    // The step is a least-squares problem: W B step = W t, W^2 the second and W^2 t the first derivatives.
    std::vector<Index> free;
    UpdatableQr<S> qr;
    qr.reset(N);
    for (Index n = 0; n < N; ++n) {
      const S rest = loss_ == MarginLoss::exponential ? S(1) : S(1) - exp(log_slopes_[n]);
      target[n] = rest > S(0) ? sqrt(p_[n] / rest) : S(0);
    }
    for (Index j = 0; j < K; ++j) {
      if (!is_free[static_cast<std::size_t>(j)]) continue;
      for (Index n = 0; n < N; ++n) {
        const S rest = loss_ == MarginLoss::exponential ? S(1) : S(1) - exp(log_slopes_[n]);
        column[n] = sqrt(p_[n] * rest) * B(n, j);
      }
      if (qr.append(column.data())) free.push_back(j);
    }
    if (free.empty()) return astray;
    qr.solve(target, step);
    // Where a minimizer is at infinity W B loses its rank: no step is longer than the model that it comes from.
    trial.setZero(K);
    for (std::size_t k = 0; k < free.size(); ++k) trial[free[k]] = step[static_cast<Index>(k)];
    multiply(B, trial, margins);
    const S farthest = largest_size(margins);
    if (farthest > most_change) step *= most_change / farthest;
    S reach(1);
    for (std::size_t k = 0; k < free.size(); ++k)
      if (step[static_cast<Index>(k)] < S(0)) reach = std::min(reach, S(-c[free[k]] / step[static_cast<Index>(k)]));
    const S before = log_loss_;
    const S noise = S(64) * epsilon * (S(1) + std::abs(before));
    bool has_moved = false;
    for (S t = reach; t > epsilon * reach || !has_moved; t /= S(2)) {
      trial = c;
      for (std::size_t k = 0; k < free.size(); ++k)
        trial[free[k]] = std::max(S(0), c[free[k]] + t * step[static_cast<Index>(k)]);
      multiply(B, trial, margins);
      weigh(margins);
      has_moved = log_loss_ <= before + noise;
      if (has_moved || !(t > epsilon * reach)) {
        if (t == reach && reach < S(1))
          for (std::size_t k = 0; k < free.size(); ++k)
            if (trial[free[k]] <= S(4) * epsilon * c[free[k]] ||
                c[free[k]] + reach * step[static_cast<Index>(k)] <= S(0)) {
              trial[free[k]] = S(0);
              is_free[static_cast<std::size_t>(free[k])] = false;
            }
        break;
      }
    }
    c = trial;
    if (!has_moved) return astray;
    // Margins that keep growing take their samples out of the loss; where that frees others without end, it is lost.
    if (largest_size(margins) > S(-20) * std::log(epsilon))
      return "the margins of some samples over the coordinates in play grow without end, before all are positive";
  }
  return astray;
}

template <class S>
bool PlateauWalk<S>::advance(S unit, S growth, S& reach) {
  using std::abs;
  const Index d = s_.size();
  Vector<S> times = Vector<S>::Constant(d, std::numeric_limits<S>::infinity());
  reach = std::numeric_limits<S>::infinity();
  for (Index i = 0; i < d; ++i) {
    if (std::find(active_.begin(), active_.end(), i) != active_.end()) continue;
    const S slope = unit * slopes_[i];
    const S gain = abs(slope) - growth * costs_[i];
    if (!(gain > negligible(i, unit, growth))) continue;
    const S side = slope < S(0) ? S(-1) : S(1);
    times[i] = std::max(S(0), (thresholds_[i] - side * s_[i]) / gain);
    reach = std::min(reach, times[i]);
  }
  using std::isfinite;
  if (!isfinite(reach)) return false;
  entered_.clear();
  for (Index i = 0; i < d; ++i) {
    const bool enters = times[i] <= reach * (S(1) + rounding);
    if (std::find(active_.begin(), active_.end(), i) == active_.end()) s_[i] += reach * unit * slopes_[i];
    thresholds_[i] += reach * growth * costs_[i];
    if (enters) {
      s_[i] = slopes_[i] < S(0) ? -thresholds_[i] : thresholds_[i];
      entered_.push_back(i);
    }
  }
  for (const Index i : active_) s_[i] = s_[i] < S(0) ? -thresholds_[i] : thresholds_[i];
  active_.insert(active_.end(), entered_.begin(), entered_.end());
  std::sort(active_.begin(), active_.end());
  return true;
}

template <class S>
bool PlateauWalk<S>::stays(Index i, S unit, S growth) const {
  const S gain = (s_[i] < S(0) ? -unit : unit) * slopes_[i] - growth * costs_[i];
  return gain >= -negligible(i, unit, growth);
}

template <class S>
MarginResult<S> PlateauWalk<S>::best_of_all() const {
  Matrix<S> X = columns_.transpose();
  for (Index i = 0; i < X.cols(); ++i) X.col(i) /= costs_[i];
  return max_margin_l1_of(Dataset<S>(std::move(X), Vector<S>(Vector<S>::Ones(columns_.cols()))));
}

template <class S>
MarginPlateaus<S> PlateauWalk<S>::run(S last_kappa) {
  MarginPlateaus<S> path;
  weigh(Vector<S>::Zero(columns_.cols()));
  const MarginResult<S> best = best_of_all();
  if (!best.ok()) {
    path.message = sentence("the path was not started, since its end is not known: ", best.message);
    return path;
  }
  const S least = best.beta.template lpNorm<1>();
  S kappa(0), reach(0), last(0);
  std::string lost;
  const Index most = 200 + 20 * s_.size();
  for (Index round = 0; lost.empty(); ++round) {
    if (round == most) {
      lost = sentence("after ", most, " rounds it had not ended");
      break;
    }
    const Matrix<S> B = in_play();
    Vector<S> c;
    CheapestMargin<S> cheapest;
    if (!active_.empty()) {
      Vector<S> prices(B.cols());
      for (Index j = 0; j < prices.size(); ++j) prices[j] = costs_[active_[static_cast<std::size_t>(j)]];
      cheapest = cheapest_margin(B, prices);
      if (!is_success(cheapest.status)) {
        lost = sentence("the linear program over the ", B.cols(), " coordinates in play ended with ", cheapest.status);
        break;
      }
    } else {
      cheapest.is_feasible = false;
    }
    const bool separates = cheapest.is_feasible;
    if (!separates && !path.plateaus.empty()) {
      lost = "the coordinates in play separated the data, and within rounding they no longer do";
      break;
    }
    if (!separates && !active_.empty()) {
      const char* wrong = rest_at_saddle(B, c);
      if (wrong != nullptr) {
        lost = wrong;
        break;
      }
    }
    if (separates) {
      c = cheapest.c;
      p_ = cheapest.p / cheapest.p.sum();
    } else {
      ++path.saddles;
    }
    multiply(columns_, p_, slopes_);
    const S unit = separates ? cheapest.cost : S(1);
    const S growth = separates ? S(1) : S(0);
    const bool is_new = path.plateaus.empty() || cheapest.cost < last * (S(1) - rounding);
    if (separates && !is_new) {
      // What came in at 0 changes the multipliers alone. It stays at its threshold until the plateau ends, or two of
      // them could take turns without end; only what is on its way to the other threshold leaves.
      std::vector<Index> held;
      for (std::size_t j = 0; j < active_.size(); ++j) {
        const Index i = active_[j];
        const S outwards = (s_[i] < S(0) ? -unit : unit) * slopes_[i];
        if (c[static_cast<Index>(j)] > S(0) || outwards >= -growth * costs_[i] - negligible(i, unit, growth))
          held.push_back(i);
      }
      active_ = held;
      path.plateaus.back().in_play = active_;
    } else {
      // What is at its threshold and slower than that moves inwards from here.
      Vector<S> entries = Vector<S>::Zero(s_.size());
      std::vector<Index> held;
      for (std::size_t j = 0; j < active_.size(); ++j) {
        const Index i = active_[j];
        const S entry = c[static_cast<Index>(j)];
        if (!(entry > S(0)) && !stays(i, unit, growth)) continue;
        held.push_back(i);
        entries[i] = s_[i] < S(0) ? S(-entry) : entry;
        if (!separates) slopes_[i] = S(0);
      }
      active_ = held;
      if (separates) {
        last = cheapest.cost;
        add_plateau(kappa, std::move(entries), cheapest.cost, path);
        path.is_l1_margin = cheapest.cost <= least * (S(1) + rounding);
        if (path.is_l1_margin) break;
      }
    }
    if (!advance(unit, growth, reach)) {
      // By the multipliers no coordinate could lower the cost by more than what counts as rounding.
      S slack = rounding;
      for (Index i = 0; i < s_.size(); ++i) slack = std::max(slack, S(negligible(i, unit, growth) / costs_[i]));
      path.is_l1_margin = separates && last <= least * (S(1) + slack);
      if (!path.is_l1_margin)
        lost = separates ? sentence("no other coordinate catches up with those in play, though their margin ",
                                    S(1) / last, " is below the best one, ", S(1) / least)
                         : "within rounding the loss has a minimizer, though the data are separable";
      break;
    }
    if (separates) kappa += reach;
    if (kappa > last_kappa) break;
  }
  const auto count = static_cast<Index>(path.plateaus.size());
  if (lost.empty()) {
    path.status = Status::tolerance_reached;
    path.message = sentence("the path rests at ", path.saddles, " saddles and ", count,
                            " plateaus, the last from kappa = ", path.plateaus.back().kappa, " on, at margin ",
                            path.plateaus.back().margin);
  } else {
    path.message = sentence("the path was lost after ", path.saddles, " saddles and ", count, " plateaus: ", lost);
  }
  return path;
}

template <class S>
void PlateauWalk<S>::add_plateau(S kappa, Vector<S> entries, S cost, MarginPlateaus<S>& path) const {
  MarginPlateau<S> plateau;
  plateau.kappa = kappa;
  plateau.beta = std::move(entries);
  plateau.weights = p_;
  plateau.in_play = active_;
  plateau.entered = entered_;
  plateau.margin = S(1) / cost;
  S worst(0);
  for (Index i = 0; i < s_.size(); ++i)
    if (plateau.beta[i] == S(0)) worst = std::max(worst, S(std::abs(slopes_[i]) / costs_[i]));
  path.is_unique = worst * cost < S(1) - rounding;
  path.plateaus.push_back(std::move(plateau));
}

}  // namespace detail

template <class S>
MarginPlateaus<S> margin_plateaus(const Dataset<S>& data, MarginLoss loss, Index depth, const Vector<S>& thresholds) {
  require(depth >= 2, "depth must be at least 2, got ", depth);
  const Index d = data.num_inputs();
  if (thresholds.size() > 0) {
    require_size("thresholds", thresholds.size(), d);
    for (Index i = 0; i < d; ++i)
      require(thresholds[i] > S(0), "thresholds(", i, ") must be positive, got ", thresholds[i]);
  }
  const Matrix<S> columns = detail::signed_samples(data);
  if (!detail::separate(columns).is_separable) {
    MarginPlateaus<S> none;
    none.is_separable = false;
    none.message = "the data are not separable: the loss does not tend to 0, and there are no plateaus";
    return none;
  }
  const bool is_flat = depth == 2;
  const Vector<S> start = thresholds.size() > 0 ? thresholds : Vector<S>(Vector<S>::Constant(d, S(is_flat ? 2 : 1)));
  const Vector<S> costs = is_flat ? Vector<S>(Vector<S>::Ones(d)) : start;
  return detail::PlateauWalk<S>(columns, loss, start, costs).run(is_flat ? std::numeric_limits<S>::infinity() : S(0));
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MARGIN_PLATEAUS(prefix, S) \
  prefix template class detail::PlateauWalk<S>;         \
  prefix template MarginPlateaus<S> margin_plateaus<S>(const Dataset<S>&, MarginLoss, Index, const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MARGIN_PLATEAUS)
