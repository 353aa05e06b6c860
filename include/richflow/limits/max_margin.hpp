#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/cheapest_margin.hpp"
#include "richflow/limits/growing_basis.hpp"
#include "richflow/limits/separation.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/minimizer_result.hpp"
#include "richflow/minimizers/mirror_path_engine.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/mirror_map.hpp"

/// @file
/// Margin problems: the least regularizer that separates two classes with margin 1.

namespace richflow {

/// The minimizer of Q over `y_n <x_n, beta> >= 1`, with its proof; or, where the data are not separable, the proof of
/// that.
template <class S = double>
struct [[nodiscard]] MarginResult : Result<MarginResult<S>> {
  Vector<S> beta = {};              ///< The minimizer, d; empty where the data are not separable.
  Vector<S> multipliers = {};       ///< nu, N, none negative, with `grad Q(beta) = sum_n nu_n y_n x_n`.
  std::vector<Index> support = {};  ///< Increasing numbers of the samples with nu_n > 0; their x_n are independent.
  Vector<S> margins = {};           ///< `y_n <x_n, beta>`, N.
  S margin = S(0);                  ///< The least of them: 1 within rounding.
  S slackness = S(0);               ///< `sum_n nu_n |margin_n - 1|` over `sum_n nu_n`: complementary slackness.
  /// Primal minus dual value, `Q(beta) + Q*(sum nu_n y_n x_n) - sum nu_n`, relative to the larger of the first two. For
  /// a feasible beta an upper bound on how far Q(beta) is above the minimum, whatever it was found by.
  S gap = std::numeric_limits<S>::infinity();
  /// `|grad Q(beta) - sum nu_n y_n x_n|`, as in Certificate.
  S kkt_residual = std::numeric_limits<S>::infinity();
  bool is_separable = true;  ///< Whether some beta has `y_n <x_n, beta> > 0` for all n.
  /// Not separable: p, N, none negative, with sum 1 and `sum_n p_n y_n x_n = 0` within `obstacle_residual`: no beta can
  /// have positive margins, for their mean by p is 0. Empty otherwise.
  Vector<S> obstacle = {};
  S obstacle_residual = S(0);  ///< `|sum_n p_n y_n x_n|_inf` over the largest |x_ni|.
  Index solves = 0;            ///< Problems `y_n <x_n, beta> = 1` solved, for some of the samples each; or pivots.
  Index factorizations = 0;    ///< Factorizations they took.
  Status status = Status::stalled;
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether beta is a minimizer.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

namespace detail {

/// Times |z_n| |beta|: what rounding of products leaves uncertain of a margin.
template <class S>
inline constexpr S rounding_of_margins = S(64) * std::numeric_limits<S>::epsilon();

/// The most by which the least margin of a minimizer is below 1: 1e-10 in double, 5e-4 in float.
template <class S>
inline constexpr S margin_tolerance = std::min(S(100) * interpolation_tolerance<S>, S(5e-4));

/// Problems `<z_n, beta> = 1` for some of the samples, of one regularizer.
template <class S>
class EqualMargins {
 public:
  virtual ~EqualMargins() = default;

  /// `beta` and one multiplier for each of the `rows.size()` samples. `rows` are independent.
  virtual Status solve(const GrowingBasis<S>& rows, Vector<S>& beta, Vector<S>& nu) = 0;
  /// beta without multipliers.
  virtual void start(Vector<S>& beta) = 0;
  /// Times |z_n| |beta|: what rounding leaves uncertain of a margin.
  [[nodiscard]] virtual S rounding() const { return rounding_of_margins<S>; }
  /// The factorizations of all solves.
  [[nodiscard]] Index factorizations() const { return factorizations_; }

 protected:
  EqualMargins() = default;
  EqualMargins(const EqualMargins&) = default;
  EqualMargins& operator=(const EqualMargins&) = default;
  Index factorizations_ = 0;
};

/// An active set for `min Q(beta)` subject to `<z_n, beta> >= 1`, over the N multipliers: Lawson and Hanson's method
/// for any concave dual. Samples with positive multipliers are kept at margin 1; the multipliers go from the last ones
/// towards the solution of that problem until one is zero, which leaves; then violated samples enter. The dual value
/// rises with every move. A sample that depends on those that are in takes the place of the one whose multiplier is
/// used up first.
template <class S>
class MarginActiveSet {
 public:
  /// `columns` (d x N): the signed samples. Must outlive it.
  explicit MarginActiveSet(const Matrix<S>& columns);

  /// Begins from these multipliers; their samples are independent.
  void begin(const std::vector<Index>& support, const Vector<S>& multipliers);

  /// Solves; the multipliers it ends with are where the next call begins.
  Status solve(EqualMargins<S>& problem);

  [[nodiscard]] const Vector<S>& beta() const { return beta_; }
  [[nodiscard]] const Vector<S>& margins() const { return margins_; }
  [[nodiscard]] const Vector<S>& multipliers() const { return multipliers_; }
  [[nodiscard]] const std::vector<Index>& support() const { return rows_.chosen(); }
  [[nodiscard]] Index solves() const { return solves_; }

 private:
  static constexpr int bold_patience = 4;
  // Relative to the largest; as an error of the dual value it is below that of the margins.
  static constexpr double negligible_multiplier = 512;
  // What is nearer to the span of the others counts as in it.
  static constexpr double dependent = 1e3;

  [[nodiscard]] Index sample(Index k) const { return rows_.chosen()[static_cast<std::size_t>(k)]; }
  /// Goes to the target, or as far as no multiplier is negative, and takes out what is used up; true where it got
  /// there. `blocks`: what leaves at once does not come back before something has moved.
  bool move_towards(const Vector<S>& target, bool blocks);
  /// Sets margins and what violates them, the worst first.
  void find_violated();
  /// Lets at most `most` of those enter; how many did.
  Index enter(Index most);
  /// The dependent sample n takes the place of another. False where that would show that the data are not separable.
  bool exchange(Index n);
  /// What has a negative target leaves, what is violated enters. False where nothing changed.
  bool exchange_all(const Vector<S>& target);

  const Matrix<S>& columns_;
  GrowingBasis<S> rows_;
  Vector<S> beta_, margins_, multipliers_;
  std::vector<Index> violated_;
  std::vector<bool> is_blocked_;
  Vector<S> lengths_;  // of the columns
  S start_size_{0};    // of the margins without multipliers, relative to which the others are accurate
  S rounding_{0};      // of margins, see EqualMargins
  Index solves_ = 0;
};

/// What MarginPath does, for any mirror map.
template <class S>
class MarginPathEngine {
 public:
  /// See MarginPath.
  MarginPathEngine(Dataset<S> data, std::unique_ptr<AnyMirrorMap<S>> map);
  ~MarginPathEngine();
  MarginPathEngine(const MarginPathEngine&) = delete;
  MarginPathEngine& operator=(const MarginPathEngine&) = delete;

  /// See MarginPath.
  MarginResult<S> solve(Scale<S> scale);

  [[nodiscard]] const Dataset<S>& dataset() const { return data_; }

 private:
  void begin_cold();

  Dataset<S> data_;
  std::unique_ptr<AnyMirrorMap<S>> map_;
  Matrix<S> columns_;
  Dataset<S> constraints_;  // rows y_n x_n, labels 1
  Separation<S> separation_;
  MarginActiveSet<S> active_;
  bool is_warm_ = false;
};

/// See max_margin_l2.
template <class S>
[[nodiscard]] MarginResult<S> max_margin_l2_of(const Dataset<S>& data);

/// See max_margin_l1.
template <class S>
[[nodiscard]] MarginResult<S> max_margin_l1_of(const Dataset<S>& data);

}  // namespace detail

/// Margin problems of a mirror map's regularizer Q for many scales, `min Q(beta)` subject to `y_n <x_n, beta> >= 1`:
/// what the flow of the net under the exponential or the logistic loss minimizes at a finite accuracy (Moroshko et al.
/// 2020; with margin gamma instead of 1 at the scale `alpha gamma^(1/D)`: Q is homogeneous; docs/theory.md, section
/// 9.2). X is N x d, y has N labels -1 and +1; N may exceed d, samples may be equal.
///
/// The unknowns are the N multipliers. An active set is adapted, and the problems with equality on it are solved by
/// MirrorPath's engine, so that any `log alpha` works that works there. It begins from the hard margin's support, later
/// from the last scale's. Cost: per change of the active set of k samples some ten factorizations, O(k^2 d) each.
template <class Mirror>
requires(explain_mirror_map<Mirror>()) class MarginPath {
 public:
  using Scalar = typename Mirror::Scalar;
  using Result = MarginResult<Scalar>;

  /// `mirror` gives the regularizer; its scale does not matter. Throws DimensionError when the lengths differ,
  /// ArgumentError for labels other than -1 and +1. Cost: the separation of the data, O(d k^2) per support vector.
  MarginPath(Dataset<Scalar> data, Mirror mirror)
      : engine_(std::move(data), detail::owned_mirror_map(std::move(mirror))) {}

  MarginPath(const MarginPath&) = delete;
  MarginPath& operator=(const MarginPath&) = delete;

  /// The minimizer at `scale`. Throws ArgumentError where the map refuses it; numerical trouble and data that are not
  /// separable never throw: status, message and certificate say what was reached.
  Result solve(Scale<Scalar> scale) { return engine_.solve(scale); }

  /// The data.
  [[nodiscard]] const Dataset<Scalar>& dataset() const { return engine_.dataset(); }

 private:
  detail::MarginPathEngine<Scalar> engine_;
};

/// The margin problem of Q at its own scale. Throws and costs as MarginPath.
///
///     const auto best = max_margin(Hypentropy<>::uniform(d, Scale<>::from_log(-20)), data).require_ok();
///     best.beta, best.support, best.gap
template <MirrorMap Mirror>
[[nodiscard]] MarginResult<typename Mirror::Scalar> max_margin(const Mirror& Q,
                                                               const Dataset<typename Mirror::Scalar>& data) {
  return MarginPath<Mirror>(data, Q).solve(Q.scale());
}

/// The hard margin, `min |beta|_2` subject to `y_n <x_n, beta> >= 1` (a support vector machine without offset): the
/// margin problem of the kernel regime, alpha -> infinity. Multipliers and gap are those of `Q = |beta|_2^2 / 2`, so
/// that `beta = sum nu_n y_n x_n`. Throws ArgumentError for labels other than -1 and +1. Cost: O(N d) and O(d k^2) per
/// change of the k support vectors.
template <class S>
[[nodiscard]] MarginResult<S> max_margin_l2(const Dataset<S>& data) {
  return detail::max_margin_l2_of(data);
}

/// The l1 margin, `min |beta|_1` subject to `y_n <x_n, beta> >= 1`: the margin problem of the rich regime, alpha -> 0.
/// The multipliers are feasible for its dual, `max sum nu_n` subject to `|sum nu_n y_n x_n|_inf <= 1` and nu >= 0, and
/// the gap is `(|beta|_1 - sum nu_n) / |beta|_1`. A vertex, by the simplex method, as long as its tableau of N x 2 d
/// numbers is not beyond ten million. Beyond that, and where rounding is in its way, it is the minimizer of depth 4 at
/// a small alpha, which is within alpha^2 of the l1 margin (alpha^2 is rounding, or its root at most where rounding
/// leaves multipliers undetermined: the gap tells), and of the minimizer itself within alpha^4 where that is unique;
/// where it is not, it is one inside the set of minimizers. Throws as MarginPath. Cost: O(N d) for each pivot, of which
/// random data took fewer than 2 N + d (`200 + 2 (N + 2 d)` is the most that is tried), or that of MarginPath.
template <class S>
[[nodiscard]] MarginResult<S> max_margin_l1(const Dataset<S>& data) {
  return detail::max_margin_l1_of(data);
}

namespace detail {

/// The least solution.
template <class S>
class EqualMarginsL2 final : public EqualMargins<S> {
 public:
  explicit EqualMarginsL2(Index d) : d_(d) {}
  Status solve(const GrowingBasis<S>& rows, Vector<S>& beta, Vector<S>& nu) override {
    rows.least_solution(beta, nu);
    ++this->factorizations_;
    return Status::tolerance_reached;
  }
  void start(Vector<S>& beta) override { beta.setZero(d_); }

 private:
  Index d_;
};

/// By the path of a mirror map.
template <class S>
class EqualMarginsOfMap final : public EqualMargins<S> {
 public:
  EqualMarginsOfMap(const AnyMirrorMap<S>& map, Scale<S> scale, const Matrix<S>& columns)
      : map_(map), scale_(scale), columns_(columns) {}
  Status solve(const GrowingBasis<S>& rows, Vector<S>& beta, Vector<S>& nu) override {
    Matrix<S> X(rows.size(), columns_.rows());
    for (Index k = 0; k < X.rows(); ++k) {
      const Index n = rows.chosen()[static_cast<std::size_t>(k)];
      for (Index i = 0; i < X.cols(); ++i) X(k, i) = columns_(i, n);
    }
    const Vector<S> ones = Vector<S>::Ones(X.rows());
    // Long samples have terms that cancel to 1; no beta is shorter than the least solution.
    rows.least_solution(beta, nu);
    MinimizerOptions<S> options;
    options.primal_tolerance =
        std::max(options.primal_tolerance, rounding() * norm(beta) * S(X.rowwise().norm().maxCoeff()));
    MinimizerResult<S> result;
    try {
      MirrorPathEngine<S> engine(Dataset<S>(std::move(X), ones), map_.clone(), options);
      result = engine.solve(scale_);
    } catch (const InfeasibleError&) {
      return Status::stalled;  // independent samples whose margins no beta of this precision makes equal
    }
    this->factorizations_ += result.factorizations;
    beta = std::move(result.beta);
    nu = std::move(result.nu);
    return result.status;
  }
  /// Half a unit in the last place of z, of the size 2 log(1/alpha), is a relative error of beta.
  [[nodiscard]] S rounding() const override {
    using std::abs;
    return std::max(rounding_of_margins<S>, S(std::numeric_limits<S>::epsilon() * abs(scale_.log())));
  }
  void start(Vector<S>& beta) override {
    Vector<S> curvature(columns_.rows());
    beta.setZero(columns_.rows());
    map_.mirror(Vector<S>::Zero(columns_.rows()), beta, curvature);
  }

 private:
  const AnyMirrorMap<S>& map_;
  Scale<S> scale_;
  const Matrix<S>& columns_;
};

template <class S>
MarginActiveSet<S>::MarginActiveSet(const Matrix<S>& columns)
    : columns_(columns),
      rows_(columns),
      multipliers_(Vector<S>::Zero(columns.cols())),
      is_blocked_(static_cast<std::size_t>(columns.cols()), false),
      lengths_(columns.cols()) {
  for (Index n = 0; n < columns.cols(); ++n) lengths_[n] = Vector<S>(columns.col(n)).stableNorm();
}

template <class S>
void MarginActiveSet<S>::begin(const std::vector<Index>& support, const Vector<S>& multipliers) {
  rows_.clear();
  multipliers_.setZero();
  for (const Index n : support)
    if (multipliers[n] > S(0) && rows_.append(n, S(dependent) * std::numeric_limits<S>::epsilon()))
      multipliers_[n] = multipliers[n];
}

template <class S>
bool MarginActiveSet<S>::move_towards(const Vector<S>& target, bool blocks) {
  S reach(1);
  Index first = -1;
  for (Index k = 0; k < rows_.size(); ++k) {
    if (target[k] > S(0)) continue;
    const S now = multipliers_[sample(k)];
    const S fits = now > S(0) ? now / (now - target[k]) : S(0);
    if (first < 0 || fits < reach) {
      reach = fits;
      first = k;
    }
  }
  for (Index k = 0; k < rows_.size(); ++k) {
    S& nu = multipliers_[sample(k)];
    nu = first < 0 ? target[k] : std::max(S(0), nu + reach * (target[k] - nu));
  }
  if (reach > S(0)) std::fill(is_blocked_.begin(), is_blocked_.end(), false);
  if (first < 0) return true;
  multipliers_[sample(first)] = S(0);
  for (Index k = rows_.size() - 1; k >= 0; --k)
    if (multipliers_[sample(k)] == S(0) && !(target[k] > S(0))) {
      is_blocked_[static_cast<std::size_t>(sample(k))] = blocks && reach == S(0);
      rows_.erase(k);
    }
  return false;
}

template <class S>
bool MarginActiveSet<S>::exchange(Index n) {
  Vector<S> coefficients, rest;
  rows_.project(columns_.col(n), coefficients, rest);
  Index leaving = -1;
  S most = std::numeric_limits<S>::infinity();
  const S negligible = S(64) * std::numeric_limits<S>::epsilon() * largest_size(coefficients);
  for (Index k = 0; k < rows_.size(); ++k) {
    if (!(coefficients[k] > negligible)) continue;
    const S fits = multipliers_[sample(k)] / coefficients[k];
    if (fits < most) {
      most = fits;
      leaving = k;
    }
  }
  if (leaving < 0) return false;
  for (Index k = 0; k < rows_.size(); ++k) {
    S& nu = multipliers_[sample(k)];
    nu = std::max(S(0), nu - most * coefficients[k]);
  }
  multipliers_[n] = most;
  multipliers_[sample(leaving)] = S(0);
  rows_.erase(leaving);
  return rows_.append(n, S(0));
}

template <class S>
void MarginActiveSet<S>::find_violated() {
  using std::sqrt;
  multiply_transposed(columns_, beta_, margins_);
  const S rounding = rounding_ * norm(beta_);
  S longest(0);
  for (Index k = 0; k < rows_.size(); ++k) longest = std::max(longest, lengths_[sample(k)]);
  const S fitted = interpolation_tolerance<S> * std::max(S(sqrt(static_cast<S>(rows_.size() + 1))), start_size_);
  const S tolerance = S(8) * std::max(fitted, longest * rounding);
  violated_.clear();
  for (Index n = 0; n < margins_.size(); ++n)
    if (margins_[n] < S(1) - std::max(tolerance, lengths_[n] * rounding)) violated_.push_back(n);
  std::sort(violated_.begin(), violated_.end(),
            [&](Index a, Index b) { return margins_[a] != margins_[b] ? margins_[a] < margins_[b] : a < b; });
}

template <class S>
Index MarginActiveSet<S>::enter(Index most) {
  Index entered = 0;
  for (const Index n : violated_) {
    if (entered == most) break;
    if (multipliers_[n] == S(0) && !is_blocked_[static_cast<std::size_t>(n)] &&
        rows_.append(n, S(dependent) * std::numeric_limits<S>::epsilon()))
      ++entered;
  }
  if (entered > 0 || most == 0) return entered;
  for (const Index n : violated_)
    if (!is_blocked_[static_cast<std::size_t>(n)]) return exchange(n) ? 1 : 0;
  return 0;
}

template <class S>
bool MarginActiveSet<S>::exchange_all(const Vector<S>& target) {
  for (Index k = 0; k < rows_.size(); ++k) multipliers_[sample(k)] = std::max(S(0), target[k]);
  const Index before = rows_.size();
  for (Index k = before - 1; k >= 0; --k)
    if (multipliers_[sample(k)] == S(0)) rows_.erase(k);
  const bool left = rows_.size() < before;
  Index entered = 0;
  for (const Index n : violated_)
    if (rows_.append(n, S(dependent) * std::numeric_limits<S>::epsilon())) ++entered;
  return left || entered > 0;
}

template <class S>
Status MarginActiveSet<S>::solve(EqualMargins<S>& problem) {
  solves_ = 0;
  // Far more than were ever needed: only rounding can make an active set come back.
  const Index max_solves = 200 + 4 * columns_.cols();
  Vector<S> target;
  rounding_ = problem.rounding();
  problem.start(beta_);
  multiply_transposed(columns_, beta_, margins_);
  start_size_ = norm(margins_);
  std::fill(is_blocked_.begin(), is_blocked_.end(), false);
  Index at_once = std::max<Index>(1, margins_.size());
  // All that should leave or enter do so at once, as long as their number falls (Kim and Park 2011).
  bool is_bold = true;
  Index least = std::numeric_limits<Index>::max();
  int patience = bold_patience;
  while (solves_ < max_solves) {
    target.resize(0);
    if (rows_.size() > 0) {
      ++solves_;
      const Status status = problem.solve(rows_, beta_, target);
      if (!is_success(status)) return status;
    } else {
      problem.start(beta_);
    }
    find_violated();
    Index wrong = static_cast<Index>(violated_.size());
    // A multiplier that is 0 within rounding may come out negative, and without its sample others would be violated.
    const S negligible = S(negligible_multiplier) * std::numeric_limits<S>::epsilon() * largest_size(target);
    for (Index k = 0; k < target.size(); ++k) wrong += target[k] > -negligible ? 0 : 1;
    if (wrong == 0) {
      for (Index k = 0; k < target.size(); ++k) multipliers_[sample(k)] = std::max(S(0), target[k]);
      return Status::tolerance_reached;
    }
    if (is_bold) {
      patience = wrong < least ? bold_patience : patience - 1;
      least = std::min(least, wrong);
      is_bold = patience > 0 && exchange_all(target);
      if (is_bold) continue;
    }
    const Index before = rows_.size();
    if (target.size() > 0 && !move_towards(target, at_once == 1)) {
      // Too many that entered together leave together.
      if (before - rows_.size() > 1) at_once = std::max<Index>(1, at_once / 2);
      continue;
    }
    const Index entered = enter(std::min<Index>(at_once, (static_cast<Index>(violated_.size()) + 1) / 2));
    if (entered == 0) return Status::stalled;
  }
  return Status::max_steps;
}

/// What the samples at hand say of beta and its multipliers, whatever the regularizer.
template <class S>
void complete(const Matrix<S>& columns, const Vector<S>& beta, const Vector<S>& multipliers, MarginResult<S>& result) {
  using std::abs;
  result.beta = beta;
  result.multipliers = multipliers;
  result.support.clear();
  for (Index n = 0; n < result.multipliers.size(); ++n)
    if (result.multipliers[n] > S(0)) result.support.push_back(n);
  multiply_transposed(columns, result.beta, result.margins);
  // Terms of long samples cancel.
  const S rounding = std::numeric_limits<S>::epsilon() * norm(beta);
  const Vector<S> lengths = lengths_of_columns(columns);
  for (Index n = 0; n < result.margins.size(); ++n)
    if (rounding * lengths[n] > S(0.01) * margin_tolerance<S>)
      result.margins[n] = compensated_product(columns.data() + n * columns.rows(), beta.data(), beta.size());
  result.margin = result.margins.minCoeff();
  S sum(0), slack(0);
  for (Index n = 0; n < result.margins.size(); ++n) {
    sum += result.multipliers[n];
    slack += result.multipliers[n] * abs(result.margins[n] - S(1));
  }
  result.slackness = sum > S(0) ? slack / sum : S(0);
}

template <class S>
void complete(const Matrix<S>& columns, const MarginActiveSet<S>& active, MarginResult<S>& result) {
  complete(columns, active.beta(), active.multipliers(), result);
  result.solves = active.solves();
}

/// Newton steps for `<z_n, beta> = 1` on the support, with margins in twice the precision where terms cancel. They move
/// beta itself, by `curvature` (d, its slope in the sum of the multipliers' samples), and so bring it nearer than that
/// sum could, whose rounding is relative to log(1/alpha). Kept where the least margin rises.
template <class S>
void refine_margins(const Matrix<S>& columns, const Vector<S>& curvature, MarginResult<S>& result) {
  const auto k = static_cast<Index>(result.support.size());
  const Vector<S> root = curvature.cwiseSqrt();
  Matrix<S> scaled(columns.rows(), k);
  for (Index j = 0; j < k; ++j)
    scaled.col(j) = root.cwiseProduct(columns.col(result.support[static_cast<std::size_t>(j)]));
  GrowingBasis<S> basis(scaled);
  for (Index j = 0; j < k; ++j)
    if (!basis.append(j, S(0))) return;
  Vector<S> missing(k), change;
  for (int step = 0; step < 2; ++step) {
    MarginResult<S> refined = result;
    for (Index j = 0; j < k; ++j) {
      const Index n = result.support[static_cast<std::size_t>(j)];
      missing[j] =
          S(1) - compensated_product(columns.data() + n * columns.rows(), result.beta.data(), result.beta.size());
    }
    basis.least_solution_for(change, missing);
    const Vector<S> beta = result.beta + root.cwiseProduct(change);
    Vector<S> multipliers = result.multipliers;
    for (Index j = 0; j < k; ++j) multipliers[result.support[static_cast<std::size_t>(j)]] += missing[j];
    if (!beta.allFinite() || !(multipliers.minCoeff() >= S(0))) return;
    complete(columns, beta, multipliers, refined);
    if (!(refined.margin > result.margin)) return;
    result = std::move(refined);
  }
}

/// No success without margins and a gap. Margins are known relative to those of the start, if that has larger ones.
template <class S>
void judge(MarginResult<S>& result, S start_size = S(0)) {
  const S tolerance = margin_tolerance<S> * std::max(S(1), start_size);
  if (result.ok() && !(result.margin >= S(1) - tolerance && std::abs(result.gap) <= margin_tolerance<S>))
    result.status = Status::stalled;
}

template <class S>
void explain(const char* what, MarginResult<S>& result) {
  result.message = sentence(what, " ended after ", result.solves, " problems with equal margins (", result.status,
                            ") with ", static_cast<Index>(result.support.size()), " support vectors, least margin ",
                            result.margin, " and relative duality gap ", result.gap);
}

/// The result for data that are not separable.
template <class S>
MarginResult<S> not_separable(const Matrix<S>& columns, const Separation<S>& separation) {
  MarginResult<S> result;
  result.is_separable = false;
  result.obstacle = separation.p;
  result.multipliers = Vector<S>::Zero(columns.cols());
  Vector<S> sum;
  multiply(columns, result.obstacle, sum);
  const S size = largest_size(columns.data(), columns.size());
  result.obstacle_residual = size > S(0) ? largest_size(sum) / size : S(0);
  result.message = sentence("the data are not separable: a mean of ", static_cast<Index>(separation.support.size()),
                            " samples y_n x_n with nonnegative weights (obstacle) is 0 within ",
                            result.obstacle_residual, " of the largest |x_ni|, so no beta has positive margins");
  return result;
}

template <class S>
Dataset<S> margin_constraints(const Matrix<S>& columns) {
  return Dataset<S>(Matrix<S>(columns.transpose()), Vector<S>(Vector<S>::Ones(columns.cols())));
}

template <class S>
MarginPathEngine<S>::MarginPathEngine(Dataset<S> data, std::unique_ptr<AnyMirrorMap<S>> map)
    : data_(std::move(data)),
      map_(std::move(map)),
      columns_(signed_samples(data_)),
      constraints_(margin_constraints(columns_)),
      active_(columns_) {
  require_size("the regularizer", map_->dimension(), data_.num_inputs());
  separation_ = separate(columns_);
}

template <class S>
MarginPathEngine<S>::~MarginPathEngine() = default;

template <class S>
void MarginPathEngine<S>::begin_cold() {
  Vector<S> nu = separation_.p;
  Vector<S> z;
  multiply(columns_, nu, z);
  const S room = map_->max_step(Vector<S>::Zero(z.size()), z);
  nu *= std::min(S(1), room / S(2));
  active_.begin(separation_.support, nu);
}

template <class S>
MarginResult<S> MarginPathEngine<S>::solve(Scale<S> scale) {
  if (!separation_.is_separable) return not_separable(columns_, separation_);
  Index factorizations = 0;
  const auto solve_at = [&](Scale<S> there) {
    map_->set_scale(there);
    EqualMarginsOfMap<S> problem(*map_, there, columns_);
    const Status status = active_.solve(problem);
    factorizations += problem.factorizations();
    return status;
  };
  Status status = Status::stalled;
  if (is_warm_) status = solve_at(scale);
  if (!is_success(status)) {
    begin_cold();
    status = solve_at(scale);
  }
  // Supports of tiny scales that are far from the solution can be out of any precision: come from larger ones.
  if (!is_success(status) && scale.log() < S(-2)) {
    begin_cold();
    for (const S share : {S(0), S(0.05), S(0.1), S(0.2), S(0.35), S(0.5), S(0.65), S(0.8), S(0.9)})
      if (!is_success(solve_at(Scale<S>::from_log(share * scale.log())))) break;
    status = solve_at(scale);
  }
  map_->set_scale(scale);
  is_warm_ = is_success(status);
  MarginResult<S> result;
  result.status = status;
  result.factorizations = factorizations;
  complete(columns_, active_, result);
  Vector<S> z, start(columns_.rows()), curvature(columns_.rows());
  if (result.ok() && result.margin < S(1) - margin_tolerance<S>) {
    multiply(columns_, result.multipliers, z);
    map_->mirror(z, start, curvature);
    refine_margins(columns_, curvature, result);
  }
  const Certificate<S> certificate = certify_any(*map_, constraints_, result.beta, result.multipliers);
  result.gap = certificate.duality_gap;
  result.kkt_residual = certificate.kkt_residual;
  EqualMarginsOfMap<S>(*map_, scale, columns_).start(start);
  multiply_transposed(columns_, start, z);
  judge(result, norm(z));
  explain("the margin problem", result);
  return result;
}

template <class S>
MarginResult<S> max_margin_l2_of(const Dataset<S>& data) {
  const Matrix<S> columns = signed_samples(data);
  const Separation<S> separation = separate(columns);
  if (!separation.is_separable) return not_separable(columns, separation);
  MarginActiveSet<S> active(columns);
  active.begin(separation.support, separation.p);
  EqualMarginsL2<S> problem(columns.rows());
  MarginResult<S> result;
  result.status = active.solve(problem);
  result.factorizations = problem.factorizations();
  complete(columns, active, result);
  if (result.ok() && result.margin < S(1) - margin_tolerance<S>)
    refine_margins(columns, Vector<S>(Vector<S>::Ones(columns.rows())), result);
  Vector<S> rest;
  multiply(columns, result.multipliers, rest);
  const S conjugate = inner_product(rest, rest) / S(2);
  rest -= result.beta;
  const S primal = inner_product(result.beta, result.beta) / S(2);
  result.kkt_residual = norm(rest) / norm(result.beta);
  result.gap = (primal + conjugate - result.multipliers.sum()) / std::max(primal, conjugate);
  judge(result);
  explain("the l2 margin", result);
  return result;
}

/// The l1 margin by the simplex method. False, and nothing changes, where rounding keeps it from the precision of its
/// vertex.
template <class S>
bool fill_l1_vertex(const Matrix<S>& columns, MarginResult<S>& result) {
  const Index d = columns.rows();
  const CheapestMargin<S> program = cheapest_signed_margin<S>(columns, Vector<S>(Vector<S>::Ones(d)));
  if (!program.is_feasible || !is_success(program.status)) return false;
  const Vector<S> beta = program.c.head(d) - program.c.tail(d);
  Vector<S> margins, prices;
  multiply_transposed(columns, beta, margins);
  multiply(columns, program.p, prices);
  const S value = beta.template lpNorm<1>();
  // Multipliers that fit within rounding are made to fit, as below.
  const S largest = std::max(S(1), largest_size(prices));
  const S gap = S(1) - program.p.sum() / largest / value;
  constexpr S fitted = S(16) * interpolation_tolerance<S>;
  if (!(margins.minCoeff() >= S(1) - fitted && std::abs(gap) <= fitted)) return false;
  complete(columns, beta, Vector<S>(program.p / largest), result);
  // By how much prices leave [-1, 1], or 1 where beta is not 0.
  S worst(0);
  for (Index i = 0; i < d; ++i) {
    const S price = prices[i] / largest;
    worst = std::max(
        worst, beta[i] == S(0) ? S(std::abs(price) - S(1)) : S(std::abs(price - (beta[i] < S(0) ? S(-1) : S(1)))));
  }
  result.kkt_residual = worst;
  result.gap = gap;
  result.solves = program.pivots;
  result.factorizations = 1;
  result.message = sentence("the l1 margin: a vertex after ", program.pivots, " pivots with ",
                            static_cast<Index>(result.support.size()), " support vectors, least margin ", result.margin,
                            " and relative duality gap ", result.gap);
  return true;
}

template <class S>
MarginResult<S> max_margin_l1_of(const Dataset<S>& data) {
  using std::log;
  const Matrix<S> columns = signed_samples(data);
  MarginResult<S> result = max_margin_l2_of(data);
  if (!result.ok()) return result;
  if (columns.size() <= largest_margin_tableau && fill_l1_vertex(columns, result)) return result;
  const S size = largest_size(result.beta);
  using Map = DepthHypentropy<S>;
  MarginPathEngine<S> engine(
      data, std::make_unique<MirrorMapOf<Map>>(Map::uniform(4, data.num_inputs(), Scale<S>::from_log(S(0)))));
  // alpha^2 is the rounding of the size that beta has; where that leaves multipliers undetermined, a little more.
  for (const S share : {S(1), S(0.75), S(0.5)}) {
    const S log_alpha = log(size) / S(4) + share * log(std::numeric_limits<S>::epsilon()) / S(2);
    result = engine.solve(Scale<S>::from_log(log_alpha));
    if (result.ok()) break;
  }
  if (result.beta.size() == 0) return result;
  Vector<S> z;
  multiply(columns, result.multipliers, z);
  const S largest = largest_size(z);
  if (largest > S(0)) result.multipliers /= largest;
  const S value = result.beta.template lpNorm<1>();
  result.gap = (value - result.multipliers.sum()) / value;
  judge(result);
  explain("the l1 margin", result);
  return result;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MAX_MARGIN(prefix, S)                                \
  prefix template class detail::MarginActiveSet<S>;                               \
  prefix template class detail::MarginPathEngine<S>;                              \
  prefix template MarginResult<S> detail::max_margin_l2_of<S>(const Dataset<S>&); \
  prefix template MarginResult<S> detail::max_margin_l1_of<S>(const Dataset<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MAX_MARGIN)
