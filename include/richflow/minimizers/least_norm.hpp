#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/order.hpp"
#include "richflow/linalg/pivoted_qr.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/triangular.hpp"

/// @file
/// Solutions of least norm of systems whose rows and columns come in units of their own.

namespace richflow::detail {

/// How far values are from fitting, in the data as given. The first number is what is promised about all samples, the
/// second tells a sample in small units from one that fits.
template <class S>
struct Misfit {
  S norm = S(0);      ///< `|r|`
  S relative = S(0);  ///< `|r| / |y|`, the absolute norm for y = 0
  S worst = S(0);     ///< `max_n |r_n| / (|y_n| + sum of the sizes of the terms of the prediction)`
  Index sample = 0;   ///< where that is

  /// `terms` = what the terms of each prediction add up to in size.
  Misfit(const Vector<S>& r, const Vector<S>& y, const Vector<S>& terms)
      : norm(r.norm()), relative(y.norm() > S(0) ? norm / y.norm() : norm) {
    using std::abs;
    for (Index n = 0; n < r.size(); ++n) {
      const S size = abs(y[n]) + terms[n];
      if (const S part = abs(r[n]) / size; size > S(0) && !(part <= worst)) {
        worst = part;
        sample = n;
        if (part != part) break;
      }
    }
  }

  /// The larger of the relative numbers; NaN where one is.
  [[nodiscard]] S size() const { return relative >= worst ? relative : worst + S(0) * relative; }
};

/// The solutions of least norm of `A m = y`, A of N rows, for many y, whatever the units of rows and columns.
///
/// Units of the rows do not change the solutions and those of the columns not the rank, so that the rank, and the
/// rows to work with, are found after both were equilibrated (Ruiz 2001): a pivot of a column-pivoted QR counts as zero
/// below `16 min(N, d) epsilon` of the largest. Then `A_rows^T = Q R` in the true units of the columns, which the QR
/// takes by decreasing size: its errors are then relative to each of them (Cox and Higham 1998). Cost O(N^2 d).
template <class S>
class LeastNorm {
 public:
  /// Factors A (N x d).
  explicit LeastNorm(const Matrix<S>& A);

  /// Independent rows of A.
  [[nodiscard]] Index rank() const { return X_.rows(); }
  /// rank x d, orthonormal rows with the row space of A.
  [[nodiscard]] const Matrix<S>& X() const { return X_; }

  /// What the values y (N) of the rows of A are for the rows of `X()`.
  [[nodiscard]] Vector<S> labels(const Vector<S>& y) const;

  /// The least m that fits `rank` independent rows of `A m = y`: all of them if y is consistent. Without refinement.
  [[nodiscard]] Vector<S> solve(const Vector<S>& y) const;

  /// N multipliers of the rows of A with `A^T nu = X()^T multipliers`.
  [[nodiscard]] Vector<S> original_multipliers(const Vector<S>& multipliers) const;

 private:
  /// Powers of two that bring the largest entries of all rows and columns of `diag(row) A diag(column)` near 1.
  static void equilibrate(const Matrix<S>& A, Vector<S>& row, Vector<S>& column);

  Index num_rows_;
  Matrix<S> X_ = {};
  Matrix<S> upper_ = {};
  Vector<Index> rows_ = {};  // of A, in the order of `upper_`
  Vector<S> scales_ = {};    // what they were multiplied by
};

template <class S>
LeastNorm<S>::LeastNorm(const Matrix<S>& A) : num_rows_(A.rows()) {
  Vector<S> row = Vector<S>::Ones(A.rows());
  Vector<S> column = Vector<S>::Ones(A.cols());
  equilibrate(A, row, column);
  PivotedQr<S> free;
  Matrix<S> equilibrated = transposed(A);
  scale_rows(column, equilibrated);
  scale_columns(equilibrated, row);
  free.compute(equilibrated);
  const auto n = static_cast<S>(std::min(A.rows(), A.cols()));
  const Index rank = free.rank(S(16) * n * std::numeric_limits<S>::epsilon());
  X_.resize(rank, A.cols());
  if (rank == 0) return;

  // Columns of A by decreasing size, where sizes are the inverse of what equilibrated them.
  const std::vector<Index> order = decreasing_order(Vector<S>(-column));
  Matrix<S> chosen(A.cols(), rank);
  Vector<Index> rows(rank);
  for (Index k = 0; k < rank; ++k) rows[k] = free.column(k);
  for (Index k = 0; k < rank; ++k)
    for (Index j = 0; j < A.cols(); ++j) chosen(j, k) = row[rows[k]] * A(rows[k], order[static_cast<std::size_t>(j)]);
  PivotedQr<S> qr;
  qr.compute(chosen);
  const Matrix<S> sorted = qr.leading_columns_of_q(rank);
  for (Index j = 0; j < A.cols(); ++j) X_.col(order[static_cast<std::size_t>(j)]) = sorted.row(j).transpose();
  upper_ = qr.upper().topLeftCorner(rank, rank);
  rows_.resize(rank);
  scales_.resize(rank);
  for (Index k = 0; k < rank; ++k) {
    rows_[k] = rows[qr.column(k)];
    scales_[k] = row[rows_[k]];
  }
}

template <class S>
Vector<S> LeastNorm<S>::labels(const Vector<S>& y) const {
  Vector<S> out(rank());
  for (Index k = 0; k < rank(); ++k) out[k] = scales_[k] * y[rows_[k]];
  solve_upper_transposed(upper_, out);
  return out;
}

template <class S>
Vector<S> LeastNorm<S>::solve(const Vector<S>& y) const {
  Vector<S> least;
  multiply_transposed(X_, labels(y), least);
  return least;
}

template <class S>
Vector<S> LeastNorm<S>::original_multipliers(const Vector<S>& multipliers) const {
  Vector<S> pivoted = multipliers;
  solve_upper(upper_, pivoted);
  Vector<S> nu = Vector<S>::Zero(num_rows_);
  for (Index k = 0; k < rank(); ++k) nu[rows_[k]] = scales_[k] * pivoted[k];
  return nu;
}

template <class S>
void LeastNorm<S>::equilibrate(const Matrix<S>& A, Vector<S>& row, Vector<S>& column) {
  using std::exp2;
  using std::log2;
  using std::round;
  // Exponents, so that nothing overflows; a zero has none.
  const Matrix<S> exponents = A.cwiseAbs().unaryExpr([](S x) { return S(log2(x)); });
  Vector<S> r = Vector<S>::Zero(A.rows());
  Vector<S> c = Vector<S>::Zero(A.cols());
  const auto finite = [](S x) { return x > -std::numeric_limits<S>::infinity() ? x : S(0); };
  constexpr int passes = 10;
  for (int pass = 0; pass < passes; ++pass) {
    // Rows and columns share the change; in the end the columns are exact.
    const Matrix<S> now = (exponents.colwise() + r).rowwise() + c.transpose();
    const S share = pass + 1 < passes ? S(0.5) : S(1);
    if (pass + 1 < passes) r -= share * Vector<S>(now.rowwise().maxCoeff()).unaryExpr(finite);
    c -= share * Vector<S>(now.colwise().maxCoeff().transpose()).unaryExpr(finite);
  }
  row = r.unaryExpr([](S x) { return S(exp2(round(x))); });
  column = c.unaryExpr([](S x) { return S(exp2(round(x))); });
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_LEAST_NORM(prefix, S) prefix template class detail::LeastNorm<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LEAST_NORM)
