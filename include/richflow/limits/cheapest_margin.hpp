#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/updatable_qr.hpp"
#include "richflow/losses/margin_losses.hpp"

namespace richflow::detail {

/// The cheapest nonnegative combination of columns with all margins at least 1, a vertex, with its proof.
template <class S>
struct CheapestMargin {
  Vector<S> c = {};  ///< K, none negative, `B c >= 1`
  Vector<S> p = {};  ///< N, none negative, `B^T p <= weights` and `sum p = weights^T c`
  S cost = std::numeric_limits<S>::infinity();
  bool is_feasible = true;            ///< Whether some c >= 0 has `B c > 0`.
  Status status = Status::max_steps;  ///< tolerance_reached for either answer
  Index pivots = 0;
};

/// `min weights^T c` subject to `B c >= 1` and c >= 0, by the simplex method on its dual, `max sum p` subject to
/// `B^T p <= weights` and p >= 0, which p = 0 fits: the largest coefficient enters, by Bland's rule where that makes no
/// progress. The vertex is solved for again from B, so that it has its own rounding only. B is N x K, the weights
/// are positive. Cost O(N K) a pivot.
template <class S>
[[nodiscard]] CheapestMargin<S> cheapest_margin(const Matrix<S>& B, const Vector<S>& weights);

/// The same of coordinates with either sign, `c = (max(b, 0), max(-b, 0))`, 2 d, from the signed samples in columns, d
/// x N: the l1 margin weighted by `costs`. All but coordinate `without`, which stays 0.
template <class S>
[[nodiscard]] CheapestMargin<S> cheapest_signed_margin(const Matrix<S>& columns, const Vector<S>& costs,
                                                       Index without = -1);

/// The tableau of that dual, of samples and costs scaled to size 1.
template <class S>
class MarginTableau {
 public:
  MarginTableau(const Matrix<S>& B, const Vector<S>& weights);

  /// Pivots until the answer is known; false where the dual has no bound.
  [[nodiscard]] bool solve(Index max_pivots);

  [[nodiscard]] Index pivots() const { return pivots_; }
  [[nodiscard]] bool is_done() const { return is_done_; }
  /// The samples with multipliers and the columns in use, equally many, each in increasing order.
  [[nodiscard]] std::vector<Index> samples() const;
  [[nodiscard]] std::vector<Index> columns() const;

 private:
  [[nodiscard]] Index entering(bool by_bland) const;
  [[nodiscard]] Index leaving(Index column) const;
  void pivot(Index row, Index column);

  Index N_, K_;
  Matrix<S> T_;                    // (K + 1) x (N + 1): slacks of the costs over multipliers, the objective last
  std::vector<Index> rows_ = {};   // n: the multiplier of sample n; N + j: the slack of column j
  std::vector<Index> names_ = {};  // of the columns of T_, the same
  Index pivots_ = 0;
  bool is_done_ = false;
};

template <class S>
MarginTableau<S>::MarginTableau(const Matrix<S>& B, const Vector<S>& weights)
    : N_(B.rows()), K_(B.cols()), T_(Matrix<S>::Zero(K_ + 1, N_ + 1)) {
  using std::abs;
  for (Index n = 0; n < N_; ++n) {
    S size(0);
    for (Index j = 0; j < K_; ++j) size = std::max(size, S(abs(B(n, j)) / weights[j]));
    if (!(size > S(0))) size = S(1);
    for (Index j = 0; j < K_; ++j) T_(j, n) = B(n, j) / weights[j] / size;
    T_(K_, n) = S(-1) / size;
  }
  // The objective's scale is that of its largest coefficient.
  const S largest = T_.row(K_).cwiseAbs().maxCoeff();
  if (largest > S(0)) T_.row(K_) /= largest;
  T_.col(N_).head(K_).setOnes();
  for (Index n = 0; n < N_; ++n) names_.push_back(n);
  for (Index j = 0; j < K_; ++j) rows_.push_back(N_ + j);
}

template <class S>
Index MarginTableau<S>::entering(bool by_bland) const {
  Index best = -1;
  S most = S(256) * std::numeric_limits<S>::epsilon();
  for (Index c = 0; c < N_; ++c) {
    const S gain = -T_(K_, c);
    if (!(gain > (by_bland ? S(256) * std::numeric_limits<S>::epsilon() : most))) continue;
    if (by_bland && best >= 0 && names_[static_cast<std::size_t>(best)] < names_[static_cast<std::size_t>(c)]) continue;
    most = gain;
    best = c;
  }
  return best;
}

template <class S>
Index MarginTableau<S>::leaving(Index column) const {
  const S least =
      S(256) * std::numeric_limits<S>::epsilon() * std::max(S(1), S(T_.col(column).head(K_).cwiseAbs().maxCoeff()));
  Index best = -1;
  S shortest = std::numeric_limits<S>::infinity();
  for (Index r = 0; r < K_; ++r) {
    if (!(T_(r, column) > least)) continue;
    const S reach = std::max(S(0), T_(r, N_)) / T_(r, column);
    const bool is_tie =
        reach == shortest && best >= 0 && rows_[static_cast<std::size_t>(r)] < rows_[static_cast<std::size_t>(best)];
    if (reach < shortest || is_tie) {
      shortest = reach;
      best = r;
    }
  }
  return best;
}

template <class S>
void MarginTableau<S>::pivot(Index row, Index column) {
  const S inverse = S(1) / T_(row, column);
  for (Index c = 0; c <= N_; ++c) {
    if (c == column) continue;
    const S factor = normal_or_zero(S(T_(row, c) * inverse));
    if (factor != S(0)) add_multiple(S(-factor), &T_(0, column), &T_(0, c), K_ + 1);
    T_(row, c) = factor;
  }
  for (Index r = 0; r <= K_; ++r) T_(r, column) = r == row ? inverse : S(-T_(r, column) * inverse);
  std::swap(rows_[static_cast<std::size_t>(row)], names_[static_cast<std::size_t>(column)]);
  ++pivots_;
}

template <class S>
bool MarginTableau<S>::solve(Index max_pivots) {
  Index idle = 0;
  S last = -std::numeric_limits<S>::infinity();
  while (pivots_ < max_pivots) {
    // Bland's rule cannot cycle.
    const Index column = entering(idle > 20);
    if (column < 0) {
      is_done_ = true;
      return true;
    }
    const Index row = leaving(column);
    if (row < 0) {
      is_done_ = true;
      return false;
    }
    pivot(row, column);
    idle = T_(K_, N_) > last ? 0 : idle + 1;
    last = std::max(last, T_(K_, N_));
  }
  return true;
}

template <class S>
std::vector<Index> MarginTableau<S>::samples() const {
  std::vector<Index> found;
  for (const Index name : rows_)
    if (name < N_) found.push_back(name);
  std::sort(found.begin(), found.end());
  return found;
}

template <class S>
std::vector<Index> MarginTableau<S>::columns() const {
  std::vector<Index> found;
  for (const Index name : names_)
    if (name >= N_) found.push_back(name - N_);
  std::sort(found.begin(), found.end());
  return found;
}

template <class S>
CheapestMargin<S> cheapest_margin(const Matrix<S>& B, const Vector<S>& weights) {
  CheapestMargin<S> result;
  const Index N = B.rows();
  const Index K = B.cols();
  result.c = Vector<S>::Zero(K);
  result.p = Vector<S>::Zero(N);
  MarginTableau<S> tableau(B, weights);
  result.is_feasible = tableau.solve(200 + 20 * (N + K));
  result.pivots = tableau.pivots();
  if (!tableau.is_done()) return result;
  result.status = Status::tolerance_reached;
  if (!result.is_feasible) return result;
  const std::vector<Index> samples = tableau.samples(), columns = tableau.columns();
  const auto k = static_cast<Index>(samples.size());
  UpdatableQr<S> qr;
  qr.reset(k);
  Vector<S> column(k), values, costs(k);
  for (Index j = 0; j < k; ++j) {
    for (Index n = 0; n < k; ++n)
      column[n] = B(samples[static_cast<std::size_t>(n)], columns[static_cast<std::size_t>(j)]);
    costs[j] = weights[columns[static_cast<std::size_t>(j)]];
    if (qr.append(column.data(), S(0))) continue;
    result.status = Status::stalled;
    return result;
  }
  qr.solve(Vector<S>(Vector<S>::Ones(k)), values);
  for (Index j = 0; j < k; ++j) result.c[columns[static_cast<std::size_t>(j)]] = std::max(S(0), values[j]);
  qr.solve_transposed(costs, values);
  for (Index n = 0; n < k; ++n) result.p[samples[static_cast<std::size_t>(n)]] = std::max(S(0), values[n]);
  result.cost = weights.dot(result.c);
  return result;
}

template <class S>
CheapestMargin<S> cheapest_signed_margin(const Matrix<S>& columns, const Vector<S>& costs, Index without) {
  const Index d = columns.rows();
  Matrix<S> B(columns.cols(), 2 * d);
  Vector<S> prices(2 * d);
  for (Index i = 0; i < d; ++i) {
    for (Index n = 0; n < B.rows(); ++n) {
      B(n, i) = i == without ? S(0) : columns(i, n);
      B(n, d + i) = -B(n, i);
    }
    prices[i] = prices[d + i] = costs[i];
  }
  return cheapest_margin(B, prices);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_CHEAPEST_MARGIN(prefix, S)                                                           \
  prefix template class detail::MarginTableau<S>;                                                                 \
  prefix template detail::CheapestMargin<S> detail::cheapest_margin<S>(const Matrix<S>&, const Vector<S>&);       \
  prefix template detail::CheapestMargin<S> detail::cheapest_signed_margin<S>(const Matrix<S>&, const Vector<S>&, \
                                                                              Index);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CHEAPEST_MARGIN)
