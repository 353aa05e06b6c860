#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"

namespace richflow::detail {

/// The column-pivoted QR factorization `A P = Q R` of an m x n matrix by Householder reflections (Businger and Golub
/// 1965; Golub and Van Loan, Matrix Computations, 5.4.2), column by column in plain loops. Eigen's is not faster below
/// some hundred columns and adds two seconds to the compilation of every program.
template <class S>
class PivotedQr {
 public:
  /// Factors A. Cost 2 m n^2.
  void compute(const Matrix<S>& A);

  [[nodiscard]] Index rows() const { return qr_.rows(); }
  [[nodiscard]] Index cols() const { return qr_.cols(); }

  /// R in the upper triangle; below it are the reflections.
  [[nodiscard]] const Matrix<S>& upper() const { return qr_; }

  /// Column k of `A P` is column `column(k)` of A.
  [[nodiscard]] Index column(Index k) const { return order_[static_cast<std::size_t>(k)]; }

  /// How many pivots exceed `threshold` times the largest.
  [[nodiscard]] Index rank(S threshold) const;

  /// The first `columns` columns of Q (m x m), columns <= m. Cost 2 m columns^2.
  [[nodiscard]] Matrix<S> leading_columns_of_q(Index columns) const;

  /// `R P^T`, m x n: A without Q.
  [[nodiscard]] Matrix<S> unpivoted_r() const;

 private:
  /// The norm of column j, from row k on.
  [[nodiscard]] S norm_from(Index k, Index j) const;
  void make_reflection(Index k);
  /// Column j of `columns`, from row k on. They may be qr_ itself, for j > k.
  void reflect(Index k, Matrix<S>& columns, Index j) const;

  Matrix<S> qr_;
  Vector<S> factors_;  // the reflections are I - factor v v^T, with v_k = 1 and the rest of v in qr_
  std::vector<Index> order_;
};

template <class S>
void PivotedQr<S>::compute(const Matrix<S>& A) {
  using std::abs;
  using std::sqrt;
  qr_ = A;
  const Index steps = std::min(rows(), cols());
  factors_.setZero(steps);
  order_.resize(static_cast<std::size_t>(cols()));
  std::iota(order_.begin(), order_.end(), Index(0));
  Vector<S> norms(cols());
  for (Index j = 0; j < cols(); ++j) norms[j] = norm_from(0, j);
  Vector<S> exact = norms;  // when they were last computed and not updated
  const S trusted = sqrt(std::numeric_limits<S>::epsilon());
  for (Index k = 0; k < steps; ++k) {
    Index pivot = k;
    for (Index j = k + 1; j < cols(); ++j)
      if (norms[j] > norms[pivot]) pivot = j;
    if (pivot != k) {
      std::swap_ranges(&qr_(0, k), &qr_(0, k) + rows(), &qr_(0, pivot));
      std::swap(norms[k], norms[pivot]);
      std::swap(exact[k], exact[pivot]);
      std::swap(order_[static_cast<std::size_t>(k)], order_[static_cast<std::size_t>(pivot)]);
    }
    make_reflection(k);
    for (Index j = k + 1; j < cols(); ++j) {
      reflect(k, qr_, j);
      if (norms[j] == S(0)) continue;
      // Drmac and Bujanovic 2008: what is left of the norm, until the difference has lost its digits.
      const S part = abs(qr_(k, j)) / norms[j];
      const S left = std::max(S((S(1) + part) * (S(1) - part)), S(0));
      const S ratio = norms[j] / exact[j];
      if (left * ratio * ratio <= trusted)
        norms[j] = exact[j] = norm_from(k + 1, j);
      else
        norms[j] *= sqrt(left);
    }
  }
}

template <class S>
Index PivotedQr<S>::rank(S threshold) const {
  using std::abs;
  S largest(0);
  for (Index k = 0; k < factors_.size(); ++k) largest = std::max(largest, S(abs(qr_(k, k))));
  Index count = 0;
  for (Index k = 0; k < factors_.size(); ++k)
    if (abs(qr_(k, k)) > threshold * largest) ++count;
  return count;
}

template <class S>
Matrix<S> PivotedQr<S>::leading_columns_of_q(Index columns) const {
  Matrix<S> Q = Matrix<S>::Zero(rows(), columns);
  for (Index k = 0; k < columns; ++k) Q(k, k) = S(1);
  // The reflections after the first `columns` leave these columns of the identity alone.
  for (Index k = std::min(columns, factors_.size()) - 1; k >= 0; --k)
    for (Index j = k; j < columns; ++j) reflect(k, Q, j);
  return Q;
}

template <class S>
Matrix<S> PivotedQr<S>::unpivoted_r() const {
  Matrix<S> R = Matrix<S>::Zero(rows(), cols());
  for (Index k = 0; k < cols(); ++k)
    for (Index i = 0; i < std::min(k + 1, rows()); ++i) R(i, column(k)) = qr_(i, k);
  return R;
}

template <class S>
S PivotedQr<S>::norm_from(Index k, Index j) const {
  using std::sqrt;
  const S* const entries = qr_.data() + j * rows() + k;
  return sqrt(inner_product(entries, entries, rows() - k));
}

template <class S>
void PivotedQr<S>::make_reflection(Index k) {
  using std::sqrt;
  const Index count = rows() - k - 1;
  S* const below = &qr_(k, k) + 1;
  const S square = inner_product<S>(below, below, count);
  if (square <= std::numeric_limits<S>::min()) {
    std::fill_n(below, count, S(0));
    return;
  }
  const S head = qr_(k, k);
  const S norm = sqrt(head * head + square);
  const S pivot = head >= S(0) ? -norm : norm;
  const S inverse = S(1) / (head - pivot);
  for (Index i = 0; i < count; ++i) below[i] *= inverse;
  factors_[k] = (pivot - head) / pivot;
  qr_(k, k) = pivot;
}

template <class S>
void PivotedQr<S>::reflect(Index k, Matrix<S>& columns, Index j) const {
  if (factors_[k] == S(0)) return;
  const Index count = rows() - k - 1;
  const S* const below = &qr_(k, k) + 1;
  S* const column = &columns(k, j);
  const S amount = factors_[k] * (*column + inner_product<S>(below, column + 1, count));
  *column -= amount;
  add_multiple<S>(-amount, below, column + 1, count);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_PIVOTED_QR(prefix, S) prefix template class detail::PivotedQr<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_PIVOTED_QR)
