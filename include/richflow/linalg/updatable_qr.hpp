#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/stable_norm.hpp"
#include "richflow/linalg/triangular.hpp"

namespace richflow::detail {

/// The thin QR factorization `A = Q R` of columns that come and go, one by one: Q is N x k with orthonormal columns, R
/// k x k upper triangular. A method with an active set needs nothing else: least squares, systems with `A^T A`, and the
/// least-norm solution of `A^T nu = v`, without the squared condition number of a Cholesky factor of `A^T A`.
///
/// A column is added by Gram-Schmidt with a second pass (Daniel, Gragg, Kaufman and Stewart 1976), and removed by
/// Givens rotations (Golub and Van Loan, Matrix Computations, 6.5). Memory for n columns grows as they come.
template <class S>
class UpdatableQr {
 public:
  /// No columns, of this many rows.
  void reset(Index rows);

  [[nodiscard]] Index rows() const { return rows_; }
  /// k.
  [[nodiscard]] Index cols() const { return count_; }

  /// A column at the end, N values. False, and nothing changes, where all but `tolerance` of its length is in the span
  /// of the others. Cost 8 N k.
  bool append(const S* column, S tolerance);
  /// The same, where it is in their span up to rounding.
  bool append(const S* column);

  /// Takes column k away; those after it move up. Cost 6 N for each of them.
  void remove(Index k);

  /// The k-th column of Q, N values; right after `remove`, that at `cols()` is the direction which the span has lost.
  [[nodiscard]] const S* direction(Index k) const { return Q_.data() + k * rows_; }

  /// The k-th diagonal entry of R: how long column k is beside those before it.
  [[nodiscard]] S pivot(Index k) const { return R_(k, k); }

  /// `out = Q^T v`, k values of N. Cost 2 N k.
  void coordinates(const Vector<S>& v, Vector<S>& out) const;

  /// `x = R^{-1} x`, k values. Cost k^2.
  void solve_triangle(Vector<S>& x) const { solve_upper(R_, x); }

  /// `x = argmin |A x - v|`, with N values v. Cost 2 N k + k^2.
  void solve(const Vector<S>& v, Vector<S>& x) const;

  /// The same with `rest = v - A x`, orthogonal to all columns relative to its own length. Cost 8 N k + k^2.
  void project(const Vector<S>& v, Vector<S>& x, Vector<S>& rest) const;

  /// `x = (A^T A)^{-1} x`, k values. Cost 2 k^2.
  void solve_gram(Vector<S>& x) const;

  /// `nu = argmin |nu|` subject to `A^T nu = v`, N values of k. Cost 2 N k + k^2.
  void solve_transposed(const Vector<S>& v, Vector<S>& nu) const;

 private:
  /// Leaves of v what is orthogonal to the columns, and adds its coordinates in them to `entries`: two passes.
  void orthogonalize(S* v, S* entries) const;

  Index rows_ = 0;
  Index count_ = 0;
  Matrix<S> Q_;        // rows x capacity
  Matrix<S> R_;        // capacity x capacity
  Vector<S> column_;   // scratch, rows
  Vector<S> entries_;  // scratch, of a column of R
};

template <class S>
void UpdatableQr<S>::reset(Index rows) {
  rows_ = rows;
  count_ = 0;
  Q_.resize(rows, 0);
  R_.resize(0, 0);
}

template <class S>
void UpdatableQr<S>::orthogonalize(S* v, S* entries) const {
  Vector<S> part(count_);
  for (int pass = 0; pass < 2; ++pass) {
    part.setZero();
    add_transposed_image(S(1), Q_.data(), rows_, rows_, count_, v, part.data());
    add_image(S(-1), Q_.data(), rows_, rows_, count_, part.data(), v);
    add_multiple(S(1), part.data(), entries, count_);
  }
}

template <class S>
bool UpdatableQr<S>::append(const S* column) {
  using std::sqrt;
  return append(column, S(64) * std::numeric_limits<S>::epsilon() * sqrt(static_cast<S>(rows_)));
}

template <class S>
bool UpdatableQr<S>::append(const S* column, S tolerance) {
  if (count_ == Q_.cols()) {
    const Index capacity = std::min(rows_, std::max<Index>(2 * count_, 8));
    if (capacity == count_) return false;
    Q_.conservativeResize(Eigen::NoChange, capacity);
    R_.conservativeResize(capacity, capacity);
  }
  column_ = Eigen::Map<const Vector<S>>(column, rows_);
  entries_.setZero(count_ + 1);
  const S size = stable_norm(column_);
  orthogonalize(column_.data(), entries_.data());
  const S rest = stable_norm(column_);
  if (!(rest > tolerance * size)) return false;
  entries_[count_] = rest;
  const S inverse = S(1) / rest;
  for (Index n = 0; n < rows_; ++n) Q_(n, count_) = inverse * column_[n];
  for (Index i = 0; i <= count_; ++i) R_(i, count_) = entries_[i];
  ++count_;
  return true;
}

template <class S>
void UpdatableQr<S>::remove(Index k) {
  using std::sqrt;
  for (Index j = k + 1; j < count_; ++j) std::copy_n(&R_(0, j), j + 1, &R_(0, j - 1));
  --count_;
  // R has one entry below its diagonal in each of the columns that moved.
  for (Index j = k; j < count_; ++j) {
    const S a = R_(j, j), b = R_(j + 1, j);
    const S size = sqrt(a * a + b * b);
    const S cosine = size > S(0) ? a / size : S(1), sine = size > S(0) ? b / size : S(0);
    R_(j, j) = size;
    for (Index i = j + 1; i < count_; ++i) {
      const S upper = R_(j, i), lower = R_(j + 1, i);
      R_(j, i) = cosine * upper + sine * lower;
      R_(j + 1, i) = cosine * lower - sine * upper;
    }
    S* const left = &Q_(0, j);
    S* const right = &Q_(0, j + 1);
    for (Index n = 0; n < rows_; ++n) {
      const S first = left[n], second = right[n];
      left[n] = cosine * first + sine * second;
      right[n] = cosine * second - sine * first;
    }
  }
}

template <class S>
void UpdatableQr<S>::coordinates(const Vector<S>& v, Vector<S>& out) const {
  out.setZero(count_);
  if (count_ > 0) add_transposed_image(S(1), Q_.data(), rows_, rows_, count_, v.data(), out.data());
}

template <class S>
void UpdatableQr<S>::solve(const Vector<S>& v, Vector<S>& x) const {
  coordinates(v, x);
  solve_upper(R_, x);
}

template <class S>
void UpdatableQr<S>::project(const Vector<S>& v, Vector<S>& x, Vector<S>& rest) const {
  rest = v;
  x.setZero(count_);
  if (count_ == 0) return;
  orthogonalize(rest.data(), x.data());
  solve_upper(R_, x);
}

template <class S>
void UpdatableQr<S>::solve_gram(Vector<S>& x) const {
  solve_upper_transposed(R_, x);
  solve_upper(R_, x);
}

template <class S>
void UpdatableQr<S>::solve_transposed(const Vector<S>& v, Vector<S>& nu) const {
  Vector<S> part = v;
  solve_upper_transposed(R_, part);
  nu.setZero(rows_);
  if (count_ > 0) add_image(S(1), Q_.data(), rows_, rows_, count_, part.data(), nu.data());
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_UPDATABLE_QR(prefix, S) prefix template class detail::UpdatableQr<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_UPDATABLE_QR)
