#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"

/// @file
/// Cholesky factorizations.

namespace richflow::detail {

/// `A = L L^T` of a symmetric positive definite matrix, for systems with single right-hand sides. Our own, on the rank
/// updates that Gram matrices need anyway: Eigen's adds two seconds to the compilation of every program that solves a
/// system.
template <class S>
class Cholesky {
 public:
  /// All memory for n x n.
  void allocate(Index n) { L_.resize(n, n); }

  /// Factors A, whose lower triangle it reads. False where A is not positive definite at working precision, or
  /// not finite. Cost n^3 / 3. No allocation for up to some 500 rows after `allocate`.
  bool compute(const Matrix<S>& A);

  /// Whether the last `compute` succeeded.
  [[nodiscard]] bool is_factored() const { return is_factored_; }

  /// `v = A^{-1} v`. Cost 2 n^2.
  void solve_in_place(Vector<S>& v) const;

  /// The square of the k-th diagonal entry of L.
  [[nodiscard]] S pivot(Index k) const { return L_(k, k) * L_(k, k); }

  /// Whether the pivots span less than six orders of magnitude, so that working with A loses few digits. Cost O(n).
  [[nodiscard]] bool is_well_conditioned() const;

 private:
  // Columns that are factored at once, before the others feel them.
  static constexpr Index panel = 32;

  bool factor_panel(Index begin, Index end);

  Matrix<S> L_;
  bool is_factored_ = false;
};

template <class S>
bool Cholesky<S>::compute(const Matrix<S>& A) {
  L_ = A;
  const Index n = L_.rows();
  is_factored_ = true;
  for (Index begin = 0; begin < n && is_factored_; begin += panel) {
    const Index end = std::min(begin + panel, n);
    is_factored_ = factor_panel(begin, end);
    if (is_factored_ && end < n)
      add_lower_gram<S>(L_.block(end, begin, n - end, end - begin), S(-1), L_.bottomRightCorner(n - end, n - end));
  }
  return is_factored_;
}

template <class S>
bool Cholesky<S>::factor_panel(Index begin, Index end) {
  using std::isfinite;
  using std::sqrt;
  const Index n = L_.rows();
  S row[panel];
  for (Index k = begin; k < end; ++k) {
    for (Index j = begin; j < k; ++j) row[j - begin] = L_(k, j);
    S* const column = &L_(k, k);
    if (k > begin) add_image<S>(S(-1), &L_(k, begin), n, n - k, k - begin, row, column);
    const S square = *column;
    if (!(square > S(0)) || !isfinite(square)) return false;
    *column = sqrt(square);
    const S inverse = S(1) / *column;
    for (Index i = 1; i < n - k; ++i) column[i] *= inverse;
  }
  return true;
}

template <class S>
void Cholesky<S>::solve_in_place(Vector<S>& v) const {
  const Index n = L_.rows();
  const S* const L = L_.data();
  S* const x = v.data();
  // Columns in groups, so that the rest of v is passed over once for each group.
  constexpr Index group = 8;
  for (Index begin = 0; begin < n; begin += group) {
    const Index end = std::min(begin + group, n);
    for (Index k = begin; k < end; ++k) {
      x[k] /= L[k * n + k];
      for (Index i = k + 1; i < end; ++i) x[i] -= L[k * n + i] * x[k];
    }
    add_image(S(-1), L + begin * n + end, n, n - end, end - begin, x + begin, x + end);
  }
  for (Index begin = (n - 1) / group * group; begin >= 0; begin -= group) {
    const Index end = std::min(begin + group, n);
    add_transposed_image(S(-1), L + begin * n + end, n, n - end, end - begin, x + end, x + begin);
    for (Index k = end - 1; k >= begin; --k) {
      for (Index i = k + 1; i < end; ++i) x[k] -= L[k * n + i] * x[i];
      x[k] /= L[k * n + k];
    }
  }
}

template <class S>
bool Cholesky<S>::is_well_conditioned() const {
  if (!is_factored_) return false;
  S smallest = pivot(0);
  S largest = smallest;
  for (Index k = 1; k < L_.rows(); ++k) {
    smallest = std::min(smallest, pivot(k));
    largest = std::max(largest, pivot(k));
  }
  return smallest > S(1e-6) * largest;
}

/// Factors A, whose lower triangle it reads, for systems with many right-hand sides.
template <class S>
void compute_cholesky(const Matrix<S>& A, Eigen::LLT<Matrix<S>>& factor) {
  factor.compute(A);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_CHOLESKY(prefix, S) \
  prefix template class detail::Cholesky<S>;     \
  prefix template void detail::compute_cholesky<S>(const Matrix<S>&, Eigen::LLT<Matrix<S>>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CHOLESKY)
