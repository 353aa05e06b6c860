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

/// Entries of the samples up to which the l1 margin is solved in a tableau, of twice as many numbers.
inline constexpr Index largest_margin_tableau = 5'000'000;

/// The cheapest nonnegative combination of columns with all margins at least 1, a vertex, with its proof.
template <class S>
struct CheapestMargin {
  Vector<S> c = {};  ///< K, none negative, `B c >= 1`
  Vector<S> p = {};  ///< N, none negative, `B^T p <= weights` and `sum p = weights^T c`
  S cost = std::numeric_limits<S>::infinity();
  bool is_feasible = true;  ///< Whether some c >= 0 has `B c > 0`.
  /// tolerance_reached for either answer, whose proof was computed from B: c and p, or weights p >= 0 with `B^T p <=
  /// 0`. stalled where rounding keeps the proof from `epsilon^(2/3)`, max_steps where the pivots or the memory end.
  Status status = Status::max_steps;
  Index pivots = 0;
};

/// `min weights^T c` subject to `B c >= 1` and c >= 0, by the simplex method on its dual, `max sum p` subject to
/// `B^T p <= weights` and p >= 0, which p = 0 satisfies: the steepest edge enters, by Bland's rule where that makes no
/// progress. Against ties the weights are raised by different amounts of the size of `sqrt(epsilon)`; pivots of the
/// dual simplex method lead back to the weights themselves. The vertex is solved for again from B, so that it has its
/// own rounding only, and checked; where the check fails, the tableau is rebuilt from its basis. B is N x K, the
/// weights are positive. Cost O(N K) a pivot; `200 + 2 (N + K)` pivots at most each time (random data with signed
/// columns took fewer than 2 N + K / 2). Memory N K; nothing is tried beyond twice `largest_margin_tableau`.
template <class S>
[[nodiscard]] CheapestMargin<S> cheapest_margin(const Matrix<S>& B, const Vector<S>& weights);

/// The same for coordinates of either sign, `c = (max(b, 0), max(-b, 0))`, 2 d, from the signed samples in columns, d x
/// N: the l1 margin weighted by `costs`. All but coordinate `without`, which stays 0.
template <class S>
[[nodiscard]] CheapestMargin<S> cheapest_signed_margin(const Matrix<S>& columns, const Vector<S>& costs,
                                                       Index without = -1);

/// The tableau of that dual, of samples, columns and costs scaled to size 1.
template <class S>
class MarginTableau {
 public:
  /// Both must outlive it.
  MarginTableau(const Matrix<S>& B, const Vector<S>& weights);

  /// Pivots until the answer is known, at most `max_pivots` times; false where the dual is unbounded.
  [[nodiscard]] bool solve(Index max_pivots);
  /// Makes the tableau of the same basis again from B. False where rounding has made the basis singular.
  [[nodiscard]] bool rebuild();

  [[nodiscard]] Index pivots() const { return pivots_; }
  [[nodiscard]] bool is_done() const { return is_done_; }
  /// The samples with multipliers and the columns in use, equally many, each in increasing order.
  [[nodiscard]] std::vector<Index> samples() const;
  [[nodiscard]] std::vector<Index> columns() const;
  /// Where the dual is unbounded: a direction in which it is, N.
  [[nodiscard]] Vector<S> ray() const;

  /// What is smaller than this, relative to the largest of its kind, is rounding.
  [[nodiscard]] static S floor() {
    return std::cbrt(std::numeric_limits<S>::epsilon() * std::numeric_limits<S>::epsilon());
  }

 private:
  void fill();
  /// The length of an edge, the rate at which all variables change.
  void measure(Index c);
  [[nodiscard]] S negligible_gain(Index name) const;
  [[nodiscard]] Index entering(bool by_bland) const;
  [[nodiscard]] Index leaving(Index column) const;
  /// A step of the dual simplex method to the weights without shifts; -1 where none is left, 0 where it fails.
  [[nodiscard]] int restore();
  void pivot(Index row, Index column);

  const Matrix<S>& B_;
  const Vector<S>& weights_;
  Index N_, K_;
  // (K + 1) x (N + 2): slacks of the costs over multipliers, then the shifted and the true weights; the objective last.
  Matrix<S> T_;
  Vector<S> sizes_, gains_, rooms_;  // of the samples, their coefficients and the true weights as scaled
  Vector<S> lengths_;
  std::vector<Index> rows_ = {};   // n: the multiplier of sample n; N + j: the slack of column j
  std::vector<Index> names_ = {};  // of the columns of T_, the same
  Index pivots_ = 0, unbounded_ = -1;
  bool is_done_ = false;
};

template <class S>
MarginTableau<S>::MarginTableau(const Matrix<S>& B, const Vector<S>& weights)
    : B_(B),
      weights_(weights),
      N_(B.rows()),
      K_(B.cols()),
      T_(K_ + 1, N_ + 2),
      sizes_(N_),
      gains_(N_),
      rooms_(K_),
      lengths_(N_),
      rows_(static_cast<std::size_t>(K_)),
      names_(static_cast<std::size_t>(N_)) {
  fill();
}

template <class S>
void MarginTableau<S>::fill() {
  using std::abs;
  T_.setZero();
  for (Index n = 0; n < N_; ++n) {
    S size(0);
    for (Index j = 0; j < K_; ++j) size = std::max(size, S(abs(B_(n, j)) / weights_[j]));
    sizes_[n] = size > S(0) ? size : S(1);
    gains_[n] = S(1) / sizes_[n];
    for (Index j = 0; j < K_; ++j) T_(j, n) = B_(n, j) / weights_[j] / sizes_[n];
    names_[static_cast<std::size_t>(n)] = n;
  }
  // The objective's scale is that of its largest coefficient.
  const S largest = N_ > 0 ? gains_.maxCoeff() : S(0);
  if (largest > S(0)) gains_ /= largest;
  for (Index n = 0; n < N_; ++n) T_(K_, n) = -gains_[n];
  const S shift = std::sqrt(std::numeric_limits<S>::epsilon());
  for (Index j = 0; j < K_; ++j) {
    S size(0);
    for (Index n = 0; n < N_; ++n) size = std::max(size, S(abs(T_(j, n))));
    if (!(size > S(0))) size = S(1);
    for (Index n = 0; n < N_; ++n) T_(j, n) /= size;
    rooms_[j] = S(1) / size;
    // Amounts of no pattern.
    const S pattern = S((j * 7919 + 104729) % 10007) / S(10007);
    T_(j, N_) = rooms_[j] * (S(1) + shift * (S(1) + pattern));
    T_(j, N_ + 1) = rooms_[j];
    rows_[static_cast<std::size_t>(j)] = N_ + j;
  }
  for (Index n = 0; n < N_; ++n) measure(n);
}

template <class S>
void MarginTableau<S>::measure(Index c) {
  if (c >= N_) return;
  lengths_[c] = std::sqrt(S(1) + inner_product(&T_(0, c), &T_(0, c), K_));
}

template <class S>
bool MarginTableau<S>::rebuild() {
  const std::vector<Index> kept = samples();
  std::vector<Index> left = columns();
  fill();
  is_done_ = false;
  for (const Index n : kept) {
    std::size_t best = 0;
    for (std::size_t k = 1; k < left.size(); ++k)
      if (std::abs(T_(left[k], n)) > std::abs(T_(left[best], n))) best = k;
    if (!(std::abs(T_(left[best], n)) > std::numeric_limits<S>::epsilon())) return false;
    pivot(left[best], n);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(best));
  }
  return true;
}

template <class S>
S MarginTableau<S>::negligible_gain(Index name) const {
  const S rounding = S(1024) * std::numeric_limits<S>::epsilon();
  return rounding * (name < N_ ? gains_[name] : S(std::abs(T_(K_, N_)) / rooms_[name - N_]));
}

template <class S>
Index MarginTableau<S>::entering(bool by_bland) const {
  Index best = -1;
  S most(0);
  for (Index c = 0; c < N_; ++c) {
    const S gain = -T_(K_, c);
    const Index name = names_[static_cast<std::size_t>(c)];
    if (!(gain > negligible_gain(name))) continue;
    const S slope = gain / lengths_[c];
    if (by_bland ? best >= 0 && names_[static_cast<std::size_t>(best)] < name : slope <= most) continue;
    most = slope;
    best = c;
  }
  return best;
}

template <class S>
Index MarginTableau<S>::leaving(Index column) const {
  const S least = floor() * T_.col(column).head(K_).cwiseAbs().maxCoeff();
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
int MarginTableau<S>::restore() {
  S largest(0);
  for (Index r = 0; r < K_; ++r)
    if (rows_[static_cast<std::size_t>(r)] < N_) largest = std::max(largest, S(std::abs(T_(r, N_ + 1))));
  Index row = -1;
  S worst = S(1024) * std::numeric_limits<S>::epsilon();
  for (Index r = 0; r < K_; ++r) {
    const Index name = rows_[static_cast<std::size_t>(r)];
    const S lack = -T_(r, N_ + 1) / (name < N_ ? largest : rooms_[name - N_]);
    if (!(lack > worst)) continue;
    worst = lack;
    row = r;
  }
  if (row < 0) return -1;
  S size(0);
  for (Index c = 0; c < N_; ++c) size = std::max(size, S(std::abs(T_(row, c))));
  Index best = -1;
  S shortest = std::numeric_limits<S>::infinity();
  for (Index c = 0; c < N_; ++c) {
    if (!(-T_(row, c) > floor() * size)) continue;
    const S reach = std::max(S(0), T_(K_, c)) / -T_(row, c);
    if (reach < shortest) {
      shortest = reach;
      best = c;
    }
  }
  if (best < 0) return 0;
  pivot(row, best);
  return 1;
}

template <class S>
void MarginTableau<S>::pivot(Index row, Index column) {
  const S inverse = S(1) / T_(row, column);
  for (Index c = 0; c < T_.cols(); ++c) {
    if (c == column) continue;
    const S factor = normal_or_zero(S(T_(row, c) * inverse));
    if (factor != S(0)) add_multiple(S(-factor), &T_(0, column), &T_(0, c), K_ + 1);
    T_(row, c) = factor;
    if (factor != S(0)) measure(c);
  }
  for (Index r = 0; r <= K_; ++r) T_(r, column) = r == row ? inverse : S(-T_(r, column) * inverse);
  measure(column);
  std::swap(rows_[static_cast<std::size_t>(row)], names_[static_cast<std::size_t>(column)]);
  ++pivots_;
}

template <class S>
bool MarginTableau<S>::solve(Index max_pivots) {
  const Index end = pivots_ + max_pivots;
  Index idle = 0;
  S last = -std::numeric_limits<S>::infinity();
  while (pivots_ < end) {
    // Bland's rule cannot cycle.
    const Index column = entering(idle > 20);
    if (column < 0) break;
    const Index row = leaving(column);
    if (row < 0) {
      unbounded_ = column;
      is_done_ = true;
      return false;
    }
    pivot(row, column);
    idle = T_(K_, N_) > last ? 0 : idle + 1;
    last = std::max(last, T_(K_, N_));
  }
  int step = 1;
  while (step > 0 && pivots_ < end) step = restore();
  is_done_ = step < 0;
  return true;
}

template <class S>
Vector<S> MarginTableau<S>::ray() const {
  Vector<S> p = Vector<S>::Zero(N_);
  const auto set = [&](Index name, S value) {
    if (name < N_) p[name] = std::max(S(0), value) / sizes_[name];
  };
  set(names_[static_cast<std::size_t>(unbounded_)], S(1));
  for (Index r = 0; r < K_; ++r) set(rows_[static_cast<std::size_t>(r)], -T_(r, unbounded_));
  return p;
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

/// Whether `B^T p <= 0` within rounding.
template <class S>
bool proves_no_margin(const Matrix<S>& B, const Vector<S>& p) {
  for (Index j = 0; j < B.cols(); ++j) {
    S sum(0), size(0);
    for (Index n = 0; n < B.rows(); ++n) {
      sum += B(n, j) * p[n];
      size += std::abs(B(n, j)) * p[n];
    }
    if (!(sum <= MarginTableau<S>::floor() * size)) return false;
  }
  return true;
}

/// Solves for the vertex of a basis. False where it is not the solution.
template <class S>
bool fill_vertex(const Matrix<S>& B, const Vector<S>& weights, const std::vector<Index>& samples,
                 const std::vector<Index>& columns, CheapestMargin<S>& result) {
  const S rounding = MarginTableau<S>::floor();
  const auto k = static_cast<Index>(samples.size());
  UpdatableQr<S> qr;
  qr.reset(k);
  Vector<S> column(k), values, costs(k);
  for (Index j = 0; j < k; ++j) {
    for (Index n = 0; n < k; ++n)
      column[n] = B(samples[static_cast<std::size_t>(n)], columns[static_cast<std::size_t>(j)]);
    costs[j] = weights[columns[static_cast<std::size_t>(j)]];
    if (!qr.append(column.data(), S(0))) return false;
  }
  result.c.setZero();
  result.p.setZero();
  qr.solve(Vector<S>(Vector<S>::Ones(k)), values);
  for (Index j = 0; j < k; ++j) result.c[columns[static_cast<std::size_t>(j)]] = std::max(S(0), values[j]);
  qr.solve_transposed(costs, values);
  for (Index n = 0; n < k; ++n) result.p[samples[static_cast<std::size_t>(n)]] = std::max(S(0), values[n]);
  Vector<S> margins, prices;
  multiply(B, result.c, margins);
  multiply_transposed(B, result.p, prices);
  for (Index n = 0; n < margins.size(); ++n)
    if (!(margins[n] >= S(1) - rounding)) return false;
  for (Index j = 0; j < prices.size(); ++j)
    if (!(prices[j] <= weights[j] * (S(1) + rounding))) return false;
  const S cost = weights.dot(result.c);
  if (!(std::abs(cost - result.p.sum()) <= rounding * cost)) return false;
  result.cost = cost;
  return true;
}

template <class S>
CheapestMargin<S> cheapest_margin(const Matrix<S>& B, const Vector<S>& weights) {
  CheapestMargin<S> result;
  const Index N = B.rows();
  const Index K = B.cols();
  result.c = Vector<S>::Zero(K);
  result.p = Vector<S>::Zero(N);
  if (B.size() > 2 * largest_margin_tableau) return result;
  MarginTableau<S> tableau(B, weights);
  for (int attempt = 0; attempt < 3; ++attempt) {
    result.is_feasible = tableau.solve(200 + 2 * (N + K));
    result.pivots = tableau.pivots();
    const bool has_proof =
        tableau.is_done() && (result.is_feasible ? fill_vertex(B, weights, tableau.samples(), tableau.columns(), result)
                                                 : proves_no_margin(B, tableau.ray()));
    result.status = has_proof ? Status::tolerance_reached : tableau.is_done() ? Status::stalled : Status::max_steps;
    if (result.status != Status::stalled || !tableau.rebuild()) break;
  }
  if (!is_success(result.status)) result.is_feasible = true;
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
