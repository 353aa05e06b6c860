#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/stable_norm.hpp"
#include "richflow/linalg/updatable_qr.hpp"
#include "richflow/minimizers/dual_watch.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/l1_certificate.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"

/// @file
/// What the saddle-to-saddle path of diagonal nets and the lasso path have in common: one dual equation, two rules for
/// the set of coordinates that are in play.

namespace richflow {

/// A point where a path changes its direction: a jump from saddle to saddle, or a knot of the lasso.
template <class S = double>
struct PathPoint {
  S time = S(0);                    ///< When, in the units of the path.
  std::vector<Index> entered = {};  ///< Coordinates that come into play here, increasing.
  std::vector<Index> left = {};     ///< Coordinates that go out of play here, increasing.
  std::vector<Index> support = {};  ///< Nonzero coordinates of beta, increasing.
  Vector<S> values = {};            ///< beta on the support.
  Vector<S> nu = {};                ///< Multipliers, N: the dual is `s = X^T nu`.
  S loss = S(0);                    ///< `|X beta - y|^2`.
  bool is_tie = false;              ///< Whether several coordinates reached their thresholds together.
  /// Whether beta is proved to be the only one: false where the columns in play are dependent (equal ones, say), so
  /// that X beta and s are unique and beta may not be.
  bool is_unique = true;

  /// beta, with d entries.
  [[nodiscard]] Vector<S> beta(Index d) const {
    Vector<S> out = Vector<S>::Zero(d);
    for (std::size_t k = 0; k < support.size(); ++k) out[support[k]] = values[static_cast<Index>(k)];
    return out;
  }
};

/// The end of a path, with its proof.
template <class S = double>
struct PathEnd {
  Vector<S> beta = {};                ///< Where the path ends, d entries.
  Vector<S> nu = {};                  ///< Multipliers there, N.
  Vector<S> upper = {};               ///< Thresholds of the dual, d: `s_i <= upper_i`, ...
  Vector<S> lower = {};               ///< ... and `s_i >= -lower_i`.
  L1Certificate<S> certificate = {};  ///< Distance from the minimum of `sum upper beta^+ + lower beta^-`.
  bool fits = false;                  ///< Whether `X beta = y`; otherwise beta is a least-squares point.
  bool is_unique = true;              ///< Whether every beta on the way is proved to be the only one.
  Index ties = 0;                     ///< How many of the points are ties.
  /// tolerance_reached; stalled where rounding keeps the path from continuing or its end from its proof; max_steps.
  Status status = Status::stalled;
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether the path was followed to its end and the end is proved.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

namespace detail {

/// Which coordinates at their thresholds are in play.
enum class L1PathRule {
  saddles,  ///< beta is the least-squares point of their signs: beta stays while s moves
  lasso,    ///< beta moves with s, and a coordinate leaves when it comes to 0
};

/// Follows `s' = rate X^T (y - X b)` for the least-squares point b of the coordinates in play, from threshold to
/// threshold. Under the rule of the lasso s is the dual over lambda, and time is `1 / (rate lambda)`.
template <class S>
class L1Path {
 public:
  /// `upper`, `lower`: positive thresholds, d each. `data` must outlive it.
  L1Path(const Dataset<S>& data, Vector<S> upper, Vector<S> lower, S rate, L1PathRule rule);

  /// Follows it to its end.
  [[nodiscard]] std::vector<PathPoint<S>> follow(PathEnd<S>& end);

 private:
  [[nodiscard]] const S* column(Index i) const { return data_.X().data() + i * data_.num_samples(); }
  [[nodiscard]] S size(Index i) const { return sizes_[i]; }
  [[nodiscard]] static std::size_t at(Index k) { return static_cast<std::size_t>(k); }
  [[nodiscard]] S threshold(Index i, S direction) const { return direction > S(0) ? upper_[i] : lower_[i]; }
  [[nodiscard]] S slope(Index i) const { return inner_product(column(i), residual_.data(), residual_.size()); }

  /// What rounding makes of `|x_i^T residual| / |x_i|`.
  [[nodiscard]] S rounding() const;

  /// The least-squares point of the columns in play, and its residual, from the data.
  void fit();
  /// The same, updated, after the last column was added or one was removed.
  void fit_last_column();
  void fit_without_column();
  /// From the data after all, where rounding could show. Sets `terms_`.
  void check_fit();
  void sum_terms();
  /// What must have the signs of the duals: that point, or the direction of the lasso.
  [[nodiscard]] Vector<S> target() const;
  /// Adds to `nu_` what the duals lack by rounding.
  void polish_multipliers();

  /// Continues until something happens, from one choice of watched columns to the next. The step that is then left;
  /// infinity where nothing happens any more.
  [[nodiscard]] S approach();
  /// nu and the watched duals move on.
  void move(S step);
  void renew_watch() { watch_.renew(nu_, side_, static_cast<Index>(active_.size()), dual_); }
  /// The largest step before something happens; infinity where nothing does. Sets `next_` to what enters.
  [[nodiscard]] S next_step();
  /// Which coordinate of the lasso comes to 0 before time_ + step, and when.
  [[nodiscard]] S next_zero(S step) const;
  void advance(S step);
  /// Lets go of the coordinates in play that the lasso has brought to 0.
  void drop_zeros();
  /// Chooses what is in play among the coordinates at their thresholds (Lawson and Hanson's active sets). False where
  /// it does not come to an end.
  bool choose();
  bool move_towards(Vector<S> aim, Index newest);
  void block(Index i);
  void take_away(Index k);
  [[nodiscard]] bool has_independent_columns();
  [[nodiscard]] PathPoint<S> point(const std::vector<Index>& before);
  void finish(PathEnd<S>& end);
  /// Whether the end leaves a residual that some beta does not: where rows are nearly dependent, a point that is short
  /// of the fit looks like one of least squares.
  [[nodiscard]] bool is_short_of_fit(const PathEnd<S>& end) const;

  // Of the length of the residual when it was computed from the data last.
  static constexpr double stale = 1e-3;

  const Dataset<S>& data_;
  Vector<S> upper_, lower_, sizes_;
  DualWatch<S> watch_;
  S rate_;
  L1PathRule rule_;
  S norm_y_ = S(0);

  UpdatableQr<S> qr_;
  std::vector<Index> active_;                          // the columns of qr_
  Vector<S> values_;                                   // on them: what has signs; see target()
  std::vector<bool> is_free_;                          // on them: no sign is asked for (lasso, beta_i is not 0)
  Vector<S> fitted_;                                   // on them: the least-squares point
  Vector<S> coordinates_;                              // Q^T y
  std::vector<signed char> side_;                      // d: the sign of s where it is at its threshold, else 0
  std::vector<unsigned char> is_active_, is_blocked_;  // d: whether; bits would be slow to read
  std::vector<unsigned char> mark_;                    // d, scratch: all 0
  std::vector<Index> blocked_;
  Vector<S> dual_;    // d, valid where watched
  Vector<S> slopes_;  // of the watched columns
  Vector<S> residual_, nu_;
  std::vector<Index> next_;
  S time_ = S(0);
  S fresh_ = S(0);           // |residual_| when it was computed from the data last
  S terms_ = S(0);           // what the sizes of the terms of the residual add up to
  bool misses_fit_ = false;  // the end does not fit y, but some beta does
};

template <class S>
L1Path<S>::L1Path(const Dataset<S>& data, Vector<S> upper, Vector<S> lower, S rate, L1PathRule rule)
    : data_(data),
      upper_(std::move(upper)),
      lower_(std::move(lower)),
      sizes_(lengths_of_columns(data.X())),
      watch_(data.X(), sizes_, upper_, lower_),
      rate_(rate),
      rule_(rule) {
  const Index d = data.num_inputs();
  norm_y_ = stable_norm(data.y());
  qr_.reset(data.num_samples());
  side_.assign(at(d), 0);
  is_active_.assign(at(d), 0);
  is_blocked_.assign(at(d), 0);
  mark_.assign(at(d), 0);
  dual_.setZero(d);
  nu_.setZero(data.num_samples());
  fit();
}

template <class S>
std::vector<PathPoint<S>> L1Path<S>::follow(PathEnd<S>& end) {
  using std::isfinite;
  std::vector<PathPoint<S>> points;
  const Index most = 200 * (std::min(data_.num_samples(), data_.num_inputs()) + 5);
  end.status = Status::max_steps;
  S loss = inner_product(residual_, residual_);
  while (static_cast<Index>(points.size()) < most) {
    const S step = approach();
    if (!isfinite(step)) {
      end.status = Status::tolerance_reached;
      break;
    }
    const std::vector<Index> before = active_;
    advance(step);
    const bool is_tie = next_.size() > 1;
    if (rule_ == L1PathRule::lasso) drop_zeros();
    const bool is_chosen = choose();
    // Jumps are few, and each saddle counts by itself.
    if (rule_ == L1PathRule::saddles) {
      fit();
      values_ = fitted_;
    }
    PathPoint<S> next = point(before);
    next.is_tie = is_tie;
    next.is_unique = has_independent_columns();
    const bool is_progress = !next.entered.empty() || !next.left.empty();
    if (!is_chosen || !is_progress || (rule_ == L1PathRule::saddles && !(next.loss < loss))) {
      end.status = Status::stalled;
      break;
    }
    loss = next.loss;
    end.ties += is_tie ? 1 : 0;
    end.is_unique = end.is_unique && next.is_unique;
    points.push_back(std::move(next));
    if (watch_.is_old()) renew_watch();
  }
  finish(end);
  end.message = concat(rule_ == L1PathRule::saddles ? "the saddle path ended after " : "the lasso path ended after ",
                       points.size(), rule_ == L1PathRule::saddles ? " jumps (" : " knots (", end.status,
                       end.fits      ? ") at relative residual "
                       : misses_fit_ ? ") short of a beta that fits y, at relative residual "
                                     : ") at a least-squares point of relative residual ",
                       end.certificate.primal_residual, " and relative duality gap ", end.certificate.duality_gap,
                       end.ties > 0 ? concat("; ties: ", end.ties) : std::string(),
                       end.is_unique ? "" : "; columns in play are dependent, and beta may be one of several");
  return points;
}

template <class S>
S L1Path<S>::rounding() const {
  return S(4 * (static_cast<Index>(active_.size()) + 8)) * std::numeric_limits<S>::epsilon() * terms_;
}

template <class S>
void L1Path<S>::fit() {
  Vector<S> correction;
  qr_.coordinates(data_.y(), coordinates_);
  fitted_ = coordinates_;
  qr_.solve_triangle(fitted_);
  for (int pass = 0; pass < 2; ++pass) {
    residual_ = data_.y();
    for (std::size_t k = 0; k < active_.size(); ++k)
      add_multiple(S(-fitted_[static_cast<Index>(k)]), column(active_[k]), residual_.data(), residual_.size());
    if (pass > 0 || active_.empty()) break;
    qr_.solve(residual_, correction);
    fitted_ += correction;
  }
  sum_terms();
  fresh_ = stable_norm(residual_);
}

template <class S>
void L1Path<S>::fit_last_column() {
  const S* const direction = qr_.direction(qr_.cols() - 1);
  const Index last = coordinates_.size();
  const S coordinate = inner_product(direction, residual_.data(), residual_.size());
  add_multiple(S(-coordinate), direction, residual_.data(), residual_.size());
  coordinates_.conservativeResize(last + 1);
  coordinates_[last] = coordinate;
  check_fit();
}

template <class S>
void L1Path<S>::fit_without_column() {
  const S* const lost = qr_.direction(qr_.cols());
  add_multiple(inner_product(lost, data_.y().data(), residual_.size()), lost, residual_.data(), residual_.size());
  qr_.coordinates(data_.y(), coordinates_);
  check_fit();
}

template <class S>
void L1Path<S>::check_fit() {
  using std::sqrt;
  const S delicate = sqrt(sqrt(std::numeric_limits<S>::epsilon()));
  bool is_delicate = stable_norm(residual_) < S(stale) * fresh_;
  for (Index k = 0; k < qr_.cols(); ++k) is_delicate = is_delicate || !(qr_.pivot(k) > delicate * size(active_[at(k)]));
  if (is_delicate) return fit();
  fitted_ = coordinates_;
  qr_.solve_triangle(fitted_);
  sum_terms();
}

template <class S>
void L1Path<S>::sum_terms() {
  using std::abs;
  terms_ = norm_y_;
  for (Index k = 0; k < fitted_.size(); ++k) terms_ += abs(fitted_[k]) * size(active_[at(k)]);
}

template <class S>
Vector<S> L1Path<S>::target() const {
  if (rule_ == L1PathRule::saddles) return fitted_;
  Vector<S> direction(fitted_.size());
  for (Index k = 0; k < direction.size(); ++k) {
    const Index i = active_[at(k)];
    direction[k] = side_[at(i)] > 0 ? upper_[i] : -lower_[i];
  }
  qr_.solve_gram(direction);
  return direction;
}

template <class S>
S L1Path<S>::approach() {
  using std::isfinite;
  while (true) {
    const S step = next_step();
    // Nothing has a slope that is more than rounding.
    if (!(stable_norm(residual_) > rounding())) return step;
    const S allowed = watch_.way(nu_, residual_) / rate_;
    if (step <= allowed) return step;
    if (isfinite(step)) {
      move(allowed);
      renew_watch();
    } else {
      // What is watched does not move outwards: then perhaps nothing does.
      renew_watch();
      watch_.watch_all();
    }
  }
}

template <class S>
S L1Path<S>::next_step() {
  using std::abs;
  watch_.multiply(residual_, slopes_);
  const std::vector<Index>& watched = watch_.columns();
  const S floor = rounding();
  S step = std::numeric_limits<S>::infinity();
  for (Index k = 0; k < slopes_.size(); ++k) {
    const Index i = watched[at(k)];
    S& u = slopes_[k];
    if (is_active_[at(i)] != 0 || !(abs(u) > floor * size(i))) {
      u = S(0);
      continue;
    }
    // What is at its threshold and not in play moves inwards.
    side_[at(i)] = 0;
    u *= rate_;
    const S way = u > S(0) ? upper_[i] - dual_[i] : -lower_[i] - dual_[i];
    step = std::min(step, std::max(S(way / u), S(0)));
  }
  return rule_ == L1PathRule::lasso ? next_zero(step) : step;
}

template <class S>
S L1Path<S>::next_zero(S step) const {
  const S floor = rounding();
  for (Index k = 0; k < fitted_.size(); ++k) {
    const Index i = active_[at(k)];
    // beta = fitted - values lambda; one that comes to 0 at lambda = 0 does not leave.
    if (S(side_[at(i)]) * fitted_[k] * size(i) < -floor)
      step = std::min(step, std::max(S(values_[k] / (rate_ * fitted_[k]) - time_), S(0)));
  }
  return step;
}

template <class S>
void L1Path<S>::move(S step) {
  time_ += step;
  add_multiple(S(step * rate_), residual_, nu_);
  const std::vector<Index>& watched = watch_.columns();
  for (Index k = 0; k < slopes_.size(); ++k) dual_[watched[at(k)]] += step * slopes_[k];
}

template <class S>
void L1Path<S>::advance(S step) {
  move(step);
  next_.clear();
  for (Index k = 0; k < slopes_.size(); ++k) {
    if (slopes_[k] == S(0)) continue;
    const Index i = watch_.columns()[at(k)];
    const S bound = threshold(i, slopes_[k]);
    const S reached = slopes_[k] > S(0) ? dual_[i] : -dual_[i];
    if (!(reached >= bound * (S(1) - interpolation_tolerance<S>))) continue;
    side_[at(i)] = slopes_[k] > S(0) ? 1 : -1;
    dual_[i] = slopes_[k] > S(0) ? bound : -bound;
    next_.push_back(i);
  }
}

template <class S>
void L1Path<S>::drop_zeros() {
  using std::abs;
  const S lambda = S(1) / (rate_ * time_);
  const S floor = rounding();
  std::vector<Index> zeros;
  for (Index k = fitted_.size() - 1; k >= 0; --k) {
    const Index i = active_[at(k)];
    const S beta = fitted_[k] - lambda * values_[k];
    const S terms = abs(fitted_[k]) + lambda * abs(values_[k]);
    const bool is_zero = S(side_[at(i)]) * beta * size(i) <=
                         std::max(floor, S(S(8) * std::numeric_limits<S>::epsilon() * terms * size(i)));
    is_free_[at(k)] = !is_zero;
    if (is_zero) zeros.push_back(k);
  }
  for (const Index k : zeros) take_away(k);
  if (!zeros.empty()) values_ = target();
}

template <class S>
bool L1Path<S>::choose() {
  const Index most = 10 * (static_cast<Index>(active_.size() + next_.size()) + 10);
  // The direction of the lasso is there already.
  if (rule_ == L1PathRule::saddles && !move_towards(target(), -1)) return false;
  for (Index round = 0; round < most; ++round) {
    Index best = -1;
    S steepest = rounding();
    for (const Index i : watch_.columns()) {
      if (side_[at(i)] == 0 || is_active_[at(i)] != 0 || is_blocked_[at(i)] != 0) continue;
      const S outwards = S(side_[at(i)]) * slope(i) / size(i);
      if (!(outwards > steepest)) continue;
      steepest = outwards;
      best = i;
    }
    if (best < 0) {
      for (const Index i : blocked_) is_blocked_[at(i)] = 0;
      blocked_.clear();
      return true;
    }
    if (!qr_.append(column(best))) {
      block(best);
      continue;
    }
    active_.push_back(best);
    is_active_[at(best)] = 1;
    is_free_.push_back(false);
    const Index count = values_.size();
    values_.conservativeResize(count + 1);
    values_[count] = S(0);
    fit_last_column();
    if (!move_towards(target(), best)) return false;
  }
  return false;
}

template <class S>
bool L1Path<S>::move_towards(Vector<S> aim, Index newest) {
  using std::abs;
  const S epsilon = std::numeric_limits<S>::epsilon();
  for (std::size_t round = 0; round <= side_.size(); ++round) {
    S terms(0);
    for (Index k = 0; k < aim.size(); ++k) terms += abs(aim[k]) * size(active_[at(k)]);
    const S floor = rule_ == L1PathRule::saddles ? rounding() : S(4 * (aim.size() + 8)) * epsilon * terms;
    S part(1);
    Index first = -1;
    for (Index k = 0; k < aim.size(); ++k) {
      const Index i = active_[at(k)];
      const S side(side_[at(i)]);
      if (is_free_[at(k)] || side * aim[k] * size(i) > floor) continue;
      const S way = values_[k] - aim[k];
      const S allowed = side * way > S(0) ? std::clamp(S(values_[k] / way), S(0), S(1)) : S(1);
      if (first < 0 || allowed < part) {
        part = allowed;
        first = k;
      }
    }
    if (first < 0) {
      values_ = std::move(aim);
      return true;
    }
    for (Index k = 0; k < aim.size(); ++k) values_[k] += part * (aim[k] - values_[k]);
    // A column that can only enter with the wrong sign would come again.
    const Index gone = active_[at(first)];
    if (gone == newest && !(part > S(0))) block(gone);
    take_away(first);
    aim = target();
  }
  return false;
}

template <class S>
void L1Path<S>::block(Index i) {
  is_blocked_[at(i)] = 1;
  blocked_.push_back(i);
}

template <class S>
void L1Path<S>::take_away(Index k) {
  qr_.remove(k);
  is_active_[at(active_[at(k)])] = 0;
  active_.erase(active_.begin() + k);
  is_free_.erase(is_free_.begin() + k);
  for (Index j = k + 1; j < values_.size(); ++j) values_[j - 1] = values_[j];
  values_.conservativeResize(values_.size() - 1);
  fit_without_column();
}

template <class S>
bool L1Path<S>::has_independent_columns() {
  const S floor = rounding();
  Index tried = 0;
  bool is_independent = true;
  using std::abs;
  for (const Index i : watch_.columns()) {
    if (!is_independent) break;
    if (side_[at(i)] == 0 || is_active_[at(i)] != 0) continue;
    if (abs(slope(i)) > floor * size(i)) continue;
    is_independent = qr_.append(column(i));
    tried += is_independent ? 1 : 0;
  }
  for (; tried > 0; --tried) qr_.remove(qr_.cols() - 1);
  return is_independent;
}

template <class S>
PathPoint<S> L1Path<S>::point(const std::vector<Index>& before) {
  PathPoint<S> out;
  out.time = time_;
  out.nu = nu_;
  for (const Index i : before) {
    mark_[at(i)] = 1;
    if (is_active_[at(i)] == 0) out.left.push_back(i);
  }
  std::vector<std::pair<Index, S>> nonzero;
  const bool is_lasso = rule_ == L1PathRule::lasso;
  const S lambda = is_lasso ? S(1) / (rate_ * time_) : S(0);
  for (std::size_t k = 0; k < active_.size(); ++k) {
    const Index i = active_[k];
    const auto j = static_cast<Index>(k);
    if (mark_[at(i)] == 0) out.entered.push_back(i);
    if (!is_lasso)
      nonzero.emplace_back(i, fitted_[j]);
    else if (mark_[at(i)] != 0)
      nonzero.emplace_back(i, fitted_[j] - lambda * values_[j]);
  }
  for (const Index i : before) mark_[at(i)] = 0;
  std::sort(out.entered.begin(), out.entered.end());
  std::sort(out.left.begin(), out.left.end());
  std::sort(nonzero.begin(), nonzero.end());
  out.values.resize(static_cast<Index>(nonzero.size()));
  for (std::size_t k = 0; k < nonzero.size(); ++k) {
    out.support.push_back(nonzero[k].first);
    out.values[static_cast<Index>(k)] = nonzero[k].second;
  }
  // y - X beta = lambda nu for the lasso.
  out.loss = is_lasso ? lambda * lambda * inner_product(nu_, nu_) : inner_product(residual_, residual_);
  return out;
}

template <class S>
void L1Path<S>::polish_multipliers() {
  Vector<S> lack(fitted_.size()), correction;
  for (Index k = 0; k < lack.size(); ++k) {
    const Index i = active_[at(k)];
    const S bound = side_[at(i)] > 0 ? upper_[i] : -lower_[i];
    lack[k] = bound - inner_product(column(i), nu_.data(), nu_.size());
  }
  qr_.solve_transposed(lack, correction);
  nu_ += correction;
}

template <class S>
bool L1Path<S>::is_short_of_fit(const PathEnd<S>& end) const {
  if (end.fits) return false;
  // If y can be fitted, the residual r is at most the condition of X times X^T r, which is the tolerance at the end,
  // and well-conditioned columns have one of some thousands.
  const bool is_far = end.certificate.primal_residual > S(1e6) * interpolation_tolerance<S>;
  if (is_far && has_well_conditioned_rows<S>(transposed(data_.X()))) return false;
  return OrthonormalRows<S>(data_).relative_misfit() <= interpolation_tolerance<S>;
}

template <class S>
void L1Path<S>::finish(PathEnd<S>& end) {
  using std::abs;
  fit();
  polish_multipliers();
  end.beta.setZero(data_.num_inputs());
  for (Index k = 0; k < fitted_.size(); ++k) {
    const Index i = active_[at(k)];
    const bool is_zero = rule_ == L1PathRule::lasso && abs(fitted_[k]) * size(i) <= rounding();
    if (!is_zero) end.beta[i] = fitted_[k];
  }
  end.nu = nu_;
  end.certificate = certify_l1(data_, end.beta, end.nu, upper_, lower_);
  constexpr S tolerance = interpolation_tolerance<S>;
  end.fits = end.certificate.primal_residual <= tolerance;
  // What the rounding of nu does to its prices, but a hundred times the tolerance at most.
  S unavoidable(0);
  for (const Index i : active_)
    unavoidable =
        std::max(unavoidable, data_.X().col(i).cwiseAbs().dot(nu_.cwiseAbs()) / threshold(i, S(side_[at(i)])));
  unavoidable *= S(4) * std::numeric_limits<S>::epsilon();
  const S proves = std::min<S>(tolerance + unavoidable, S(100) * tolerance);
  const bool is_proved = end.certificate.least_squares_residual <= tolerance && end.certificate.dual_excess <= proves &&
                         abs(end.certificate.duality_gap) <= proves;
  if (end.status == Status::tolerance_reached && !is_proved) end.status = Status::stalled;
  if (end.status == Status::tolerance_reached && is_short_of_fit(end)) {
    misses_fit_ = true;
    end.status = Status::stalled;
  }
  end.upper = std::move(upper_);
  end.lower = std::move(lower_);
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_L1_PATH(prefix, S) prefix template class detail::L1Path<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_L1_PATH)
