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
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/cheapest_margin.hpp"
#include "richflow/limits/max_margin.hpp"
#include "richflow/limits/separation.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"

namespace richflow {

/// A stationary point of the l_{2/D} margin problem, `min sum |beta_i|^(2/D)` subject to `y_n <x_n, beta> >= 1`, with
/// what proves that. The problem is not convex: it is a local minimizer, and may not be the best one.
template <class S = double>
struct [[nodiscard]] StationaryMargin : Result<StationaryMargin<S>> {
  Index depth = 2;                  ///< D
  Vector<S> beta = {};              ///< d, a vertex: no more nonzero entries than samples in `support`
  std::vector<Index> nonzero = {};  ///< its nonzero coordinates, increasing
  /// nu, N, none negative: `(Z^T nu)_i = (2/D) sign(beta_i) |beta_i|^(2/D-1)` where beta_i is not 0 (Z has the rows y_n
  /// x_n). Where it is, the slope of |beta_i|^(2/D) is infinite and nothing is asked.
  Vector<S> multipliers = {};
  std::vector<Index> support = {};  ///< The samples with nu_n > 0.
  Vector<S> margins = {};           ///< `y_n <x_n, beta>`, N
  S margin = S(0);                  ///< the least: 1 within rounding
  S value = S(0);                   ///< `sum |beta_i|^(2/D)`
  /// No feasible beta has less: `(min |beta|_1)^(2/D)`, reached by a beta with one nonzero entry only. 0 where the l1
  /// margin was not proved.
  S lower_bound = S(0);
  S kkt_residual = std::numeric_limits<S>::infinity();  ///< largest relative error of the equations of nu
  S slackness = std::numeric_limits<S>::infinity();     ///< `sum nu_n |margin_n - 1| / sum nu_n`
  /// Whether small changes of beta raise the value: as many samples with nu_n > 0 as nonzero entries.
  bool is_strict_local_minimum = false;
  Index rounds = 0;  ///< Linear programs of the polish.
  bool is_separable = true;
  Status status = Status::stalled;
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether it is a stationary point.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// The stationary point of the l_{2/D} margin (D >= 3; where gradient flow on a diagonal net of depth D goes as t ->
/// infinity under the exponential or the logistic loss, Lyu and Li 2020; docs/theory.md, section 9.4) that lies below a
/// given separator: `from`, d values, with `y_n <x_n, from> > 0` for all n. Each round solves the linear program
/// `min sum |from_i|^(2/D-1) |b_i|` over the orthant and the nonzero coordinates of the last beta, which lowers
/// `sum |b_i|^(2/D)` (a concave function is below its tangent) and ends at a vertex. Labels are -1 and +1, X is N x d.
/// Throws ArgumentError unless D >= 3, for other labels and a `from` that does not separate, DimensionError for its
/// length. Cost: some linear programs of the k nonzero coordinates, in tableaus of N x k numbers; beyond ten million of
/// them the status is stalled.
template <class S>
[[nodiscard]] StationaryMargin<S> stationary_margin(const Dataset<S>& data, Index depth, const Vector<S>& from);

/// The same from the margin problems of the regularizer of depth D (from equal weights), followed in the accuracy: at
/// `log alpha` 0, -1, -2, ..., -8 for data of unit size, and the l1 margin, which is its end. The best stationary point
/// below them, and below the l1 margins without one of its coordinates, as long as that helps: a local one, as the name
/// of its result says (on 48 random problems of 2 to 4 samples and 3 to 6 features it was the global one 34 times).
/// Throws as above. Cost: that of the margin problems, and a linear program of 2 d columns for each coordinate (left
/// out where N d is above five million).
template <class S>
[[nodiscard]] StationaryMargin<S> stationary_margin(const Dataset<S>& data, Index depth);

namespace detail {

/// Of separable data. `columns`: the signed samples, d x N.
template <class S>
[[nodiscard]] StationaryMargin<S> descend_to_vertex(const Matrix<S>& columns, Index depth, const Vector<S>& from,
                                                    S least_l1);

/// The l1 margin of the other coordinates; empty where they do not separate the data.
template <class S>
[[nodiscard]] Vector<S> cheapest_without(const Matrix<S>& columns, Index without);

/// The l1 norm that no separator of margin 1 is below: 0 where that is not proved.
template <class S>
[[nodiscard]] S least_l1_of(const MarginResult<S>& l1) {
  return l1.ok() ? l1.beta.template lpNorm<1>() : S(0);
}

/// What data that are not separable have.
template <class S>
[[nodiscard]] StationaryMargin<S> no_stationary_margin(Index depth, std::string message) {
  StationaryMargin<S> result;
  result.depth = depth;
  result.is_separable = false;
  result.message = std::move(message);
  return result;
}

template <class S>
Vector<S> cheapest_without(const Matrix<S>& columns, Index without) {
  const Index d = columns.rows();
  const CheapestMargin<S> program = cheapest_signed_margin<S>(columns, Vector<S>(Vector<S>::Ones(d)), without);
  if (!program.is_feasible || !is_success(program.status)) return {};
  return program.c.head(d) - program.c.tail(d);
}

template <class S>
StationaryMargin<S> descend_to_vertex(const Matrix<S>& columns, Index depth, const Vector<S>& from, S least_l1) {
  using std::abs;
  using std::pow;
  const Index d = columns.rows();
  const Index N = columns.cols();
  const S power = S(2) / S(depth);
  StationaryMargin<S> result;
  result.depth = depth;
  result.beta = from;
  result.multipliers = Vector<S>::Zero(N);
  result.lower_bound = pow(least_l1, power);
  CheapestMargin<S> program;
  std::vector<Index> before;
  const auto sample = [&](Index n, Index i) { return result.beta[i] < S(0) ? S(-columns(i, n)) : columns(i, n); };
  // Every round takes coordinates out or lowers the value to another vertex.
  const Index most_rounds = 50 + d;
  bool has_settled = false;
  while (!has_settled && result.rounds < most_rounds) {
    std::vector<Index> nonzero;
    for (Index i = 0; i < d; ++i)
      if (result.beta[i] != S(0)) nonzero.push_back(i);
    Matrix<S> B(N, static_cast<Index>(nonzero.size()));
    Vector<S> prices(B.cols());
    for (Index j = 0; j < B.cols(); ++j) {
      const Index i = nonzero[static_cast<std::size_t>(j)];
      prices[j] = power * pow(abs(result.beta[i]), power - S(1));
      for (Index n = 0; n < N; ++n) B(n, j) = sample(n, i);
    }
    program = cheapest_margin(B, prices);
    ++result.rounds;
    if (!is_success(program.status) || !program.is_feasible) break;
    const Vector<S> old = result.beta;
    result.beta.setZero();
    for (Index j = 0; j < B.cols(); ++j) {
      const Index i = nonzero[static_cast<std::size_t>(j)];
      result.beta[i] = old[i] < S(0) ? S(-program.c[j]) : program.c[j];
    }
    // A vertex that is its own successor has the multipliers of its own slopes.
    has_settled = (result.beta - old).norm() <= S(1e3) * std::numeric_limits<S>::epsilon() * result.beta.norm();
  }
  for (Index i = 0; i < d; ++i)
    if (result.beta[i] != S(0)) result.nonzero.push_back(i);
  multiply_transposed(columns, result.beta, result.margins);
  result.margin = result.margins.minCoeff();
  for (const Index i : result.nonzero) result.value += pow(abs(result.beta[i]), power);
  if (program.is_feasible && is_success(program.status)) result.multipliers = program.p;
  S sum(0), slack(0);
  for (Index n = 0; n < N; ++n) {
    if (result.multipliers[n] > S(0)) result.support.push_back(n);
    sum += result.multipliers[n];
    slack += result.multipliers[n] * abs(result.margins[n] - S(1));
  }
  if (sum > S(0)) result.slackness = slack / sum;
  Vector<S> slopes;
  multiply(columns, result.multipliers, slopes);
  if (sum > S(0)) result.kkt_residual = S(0);
  for (const Index i : result.nonzero) {
    const S wanted = power * pow(abs(result.beta[i]), power - S(1));
    const S got = result.beta[i] < S(0) ? S(-slopes[i]) : slopes[i];
    result.kkt_residual = std::max(result.kkt_residual, S(abs(got / wanted - S(1))));
  }
  result.is_strict_local_minimum = result.support.size() == result.nonzero.size();
  const S rounding = std::sqrt(std::numeric_limits<S>::epsilon());
  if (has_settled && result.kkt_residual <= rounding && result.margin >= S(1) - rounding)
    result.status = Status::tolerance_reached;
  result.message =
      sentence("the l_{2/", depth, "} margin has a stationary point of value ", result.value, " (at least ",
               result.lower_bound, ") with ", static_cast<Index>(result.nonzero.size()), " nonzero entries and ",
               static_cast<Index>(result.support.size()), " support vectors, after ", result.rounds,
               " linear programs (", result.status, "), its equations hold within ", result.kkt_residual);
  return result;
}

}  // namespace detail

template <class S>
StationaryMargin<S> stationary_margin(const Dataset<S>& data, Index depth, const Vector<S>& from) {
  require(depth >= 3, "depth must be at least 3, got ", depth, " (the l1 margin is that of depth 2: max_margin_l1)");
  require_size("from", from.size(), data.num_inputs());
  const Matrix<S> columns = detail::signed_samples(data);
  const MarginResult<S> l1 = max_margin_l1(data);
  if (!l1.is_separable) return detail::no_stationary_margin<S>(depth, l1.message);
  Vector<S> margins;
  detail::multiply_transposed(columns, from, margins);
  const S least = margins.minCoeff();
  require(least > S(0), "from must have positive margins, got ", least);
  return detail::descend_to_vertex<S>(columns, depth, from / least, detail::least_l1_of(l1));
}

template <class S>
StationaryMargin<S> stationary_margin(const Dataset<S>& data, Index depth) {
  using std::log;
  require(depth >= 3, "depth must be at least 3, got ", depth, " (the l1 margin is that of depth 2: max_margin_l1)");
  const Matrix<S> columns = detail::signed_samples(data);
  const MarginResult<S> l1 = max_margin_l1(data);
  if (!l1.is_separable) return detail::no_stationary_margin<S>(depth, l1.message);
  const S least = detail::least_l1_of(l1);
  StationaryMargin<S> best = detail::descend_to_vertex<S>(columns, depth, l1.beta, least);
  using Map = DepthHypentropy<S>;
  const S unit = log(l1.beta.template lpNorm<1>()) / S(depth);
  MarginPath<Map> path(data, Map::uniform(depth, data.num_inputs(), Scale<S>::from_log(unit)));
  const auto improves = [&](const Vector<S>& from) {
    StationaryMargin<S> found = detail::descend_to_vertex<S>(columns, depth, from, least);
    const Index rounds = best.rounds + found.rounds;
    const S rounding = S(1e5) * std::numeric_limits<S>::epsilon();
    const bool is_better = found.ok() && (!best.ok() || found.value < best.value * (S(1) - rounding));
    if (is_better) best = std::move(found);
    best.rounds = rounds;
    return is_better;
  };
  for (int k = 0; k <= 8; ++k) {
    const MarginResult<S> at = path.solve(Scale<S>::from_log(unit - S(k)));
    if (at.ok()) improves(at.beta / at.margin);
  }
  bool goes_on = best.ok();
  while (goes_on) {
    goes_on = false;
    for (const Index without : std::vector<Index>(best.nonzero)) {
      const Vector<S> from = detail::cheapest_without<S>(columns, without);
      goes_on = from.size() > 0 && improves(from);
      if (goes_on) break;
    }
  }
  return best;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_QUASI_NORM_MARGIN(prefix, S)                                                         \
  prefix template StationaryMargin<S> detail::descend_to_vertex<S>(const Matrix<S>&, Index, const Vector<S>&, S); \
  prefix template Vector<S> detail::cheapest_without<S>(const Matrix<S>&, Index);                                 \
  prefix template StationaryMargin<S> stationary_margin<S>(const Dataset<S>&, Index, const Vector<S>&);           \
  prefix template StationaryMargin<S> stationary_margin<S>(const Dataset<S>&, Index);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_QUASI_NORM_MARGIN)
