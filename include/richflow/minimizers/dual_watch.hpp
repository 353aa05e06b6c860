#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/stable_norm.hpp"

namespace richflow::detail {

/// Which of the duals `s_i = x_i^T nu` can come to their thresholds `-lower_i <= s_i <= upper_i` soon. While nu is
/// within `reach` of where it was, `|x_i^T (nu - nu_0)| <= |x_i| reach`: a column whose room over its length is more
/// than `reach` need not be looked at. Those that are looked at are kept side by side.
template <class S>
class DualWatch {
 public:
  /// Watches all columns. What it refers to must outlive it; `sizes` are the lengths of the columns of X.
  DualWatch(const Matrix<S>& X, const Vector<S>& sizes, const Vector<S>& upper, const Vector<S>& lower);

  /// Watches all columns from now on, until the next `renew`.
  void watch_all();

  /// Chooses the columns to watch from nu on, and computes all duals afresh; those with a `side` are at their
  /// thresholds and stay there. `pinned` says how many these are. Cost: a product with X.
  void renew(const Vector<S>& nu, const std::vector<signed char>& side, Index pinned, Vector<S>& dual);

  /// Whether the watched columns have cost so much since the last `renew` that another, which may choose fewer, pays.
  [[nodiscard]] bool is_old() const { return spent() >= dear * X_.cols(); }

  /// The watched columns, increasing.
  [[nodiscard]] const std::vector<Index>& columns() const { return columns_; }

  /// `slopes_k = x_i^T v` of the k-th watched column i; counts a step.
  void multiply(const Vector<S>& v, Vector<S>& slopes);

  /// How far nu can go along `direction` before other columns must be watched: at most `direction` times this. Infinite
  /// where all are watched, or the direction is 0.
  [[nodiscard]] S way(const Vector<S>& nu, const Vector<S>& direction);

 private:
  // Fewer columns are not worth a choice. A renewal costs as much as a step with all columns: the steps between two of
  // them should cost about as much, neither less nor this many times as much.
  static constexpr Index few = 64;
  static constexpr Index dear = 6;

  [[nodiscard]] Index spent() const { return steps_ * static_cast<Index>(columns_.size()); }

  const Matrix<S>& X_;
  const Vector<S>&sizes_, &upper_, &lower_;
  std::vector<Index> columns_;
  Matrix<S> watched_;  // side by side, unless they are all
  Vector<S> anchor_, room_, sorted_, offset_;
  S reach_ = std::numeric_limits<S>::infinity();
  Index spare_;      // how many to watch beyond those at their thresholds
  Index steps_ = 0;  // since the last choice
};

template <class S>
DualWatch<S>::DualWatch(const Matrix<S>& X, const Vector<S>& sizes, const Vector<S>& upper, const Vector<S>& lower)
    : X_(X), sizes_(sizes), upper_(upper), lower_(lower), spare_(std::max<Index>(few / 2, X.cols() / 16)) {
  watch_all();
}

template <class S>
void DualWatch<S>::watch_all() {
  columns_.resize(static_cast<std::size_t>(X_.cols()));
  std::iota(columns_.begin(), columns_.end(), Index(0));
  reach_ = std::numeric_limits<S>::infinity();
  steps_ = 0;
}

template <class S>
void DualWatch<S>::renew(const Vector<S>& nu, const std::vector<signed char>& side, Index pinned, Vector<S>& dual) {
  using std::sqrt;
  const Index d = X_.cols();
  const S infinity = std::numeric_limits<S>::infinity();
  if (reach_ < infinity && spent() < d) spare_ = std::min(2 * spare_, d);
  if (reach_ < infinity && is_old()) spare_ = std::max(spare_ / 2, few / 2);
  multiply_transposed(X_, nu, dual);
  room_.resize(d);
  for (Index i = 0; i < d; ++i) {
    const signed char s = side[static_cast<std::size_t>(i)];
    if (s != 0) dual[i] = s > 0 ? upper_[i] : -lower_[i];
    const S room = s != 0 ? S(0) : std::min(S(upper_[i] - dual[i]), S(lower_[i] + dual[i]));
    room_[i] = sizes_[i] > S(0) ? room / sizes_[i] : infinity;
  }
  const Index count = pinned + spare_;
  if (d <= few || 2 * count > d) {
    watch_all();
    return;
  }
  sorted_ = room_;
  std::nth_element(sorted_.data(), sorted_.data() + count, sorted_.data() + d);
  const S reach = sorted_[count];
  if (!(reach < infinity) || !(reach > sqrt(std::numeric_limits<S>::epsilon()) * stable_norm(nu))) {
    watch_all();
    return;
  }
  columns_.clear();
  for (Index i = 0; i < d; ++i)
    if (!(room_[i] > reach)) columns_.push_back(i);
  const Index rows = X_.rows();
  const auto kept = static_cast<Index>(columns_.size());
  if (watched_.cols() < kept || watched_.cols() > 4 * kept) watched_.resize(rows, kept + kept / 4);
  for (Index k = 0; k < kept; ++k)
    std::copy_n(X_.data() + columns_[static_cast<std::size_t>(k)] * rows, rows, watched_.data() + k * rows);
  anchor_ = nu;
  // With room for the rounding of the duals.
  reach_ = S(0.999) * reach;
  steps_ = 0;
}

template <class S>
void DualWatch<S>::multiply(const Vector<S>& v, Vector<S>& slopes) {
  const auto kept = static_cast<Index>(columns_.size());
  const S* const columns = kept == X_.cols() ? X_.data() : watched_.data();
  slopes.setZero(kept);
  add_transposed_image(S(1), columns, X_.rows(), X_.rows(), kept, v.data(), slopes.data());
  ++steps_;
}

template <class S>
S DualWatch<S>::way(const Vector<S>& nu, const Vector<S>& direction) {
  using std::sqrt;
  const S length = stable_norm(direction);
  if (!(reach_ < std::numeric_limits<S>::infinity()) || !(length > S(0))) return std::numeric_limits<S>::infinity();
  sum_with_multiple(nu, S(-1), anchor_, offset_);
  multiple(S(S(1) / reach_), offset_, offset_);
  const S along = inner_product(offset_, direction) / length;
  const S left = S(1) - inner_product(offset_, offset_);
  if (!(left > S(0))) return S(0);
  // The positive root of |offset + t direction / length| = 1, without cancellation.
  const S root = sqrt(along * along + left);
  const S t = along > S(0) ? left / (root + along) : root - along;
  return t * (reach_ / length);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_DUAL_WATCH(prefix, S) prefix template class detail::DualWatch<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DUAL_WATCH)
