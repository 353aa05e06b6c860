#pragma once

#include <type_traits>

#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"

/// @file
/// Weighted Gram matrices, also in numbers that are faster than those of the columns.

namespace richflow::detail {

/// Numbers half as long, for matrices that need not be exact: preconditioners and the Jacobians of W-methods.
template <class S>
using LowPrecision = std::conditional_t<std::is_same_v<S, double>, float, S>;

/// `factor sum_k c_k c_k^T` of columns that come one by one. They are collected in a buffer, whose size is that of the
/// matrix products.
template <class Number>
class GramSum {
 public:
  /// Adds to the lower triangle of `gram`; `buffer` has its rows. Both must outlive it.
  GramSum(Matrix<Number>& buffer, Number factor, MatrixRef<Number> gram)
      : buffer_(buffer), gram_(gram), factor_(factor) {}

  /// One more column, `root` times the values at `column`.
  template <class S>
  void add(S root, const S* column) {
    Number* const to = buffer_.data() + filled_ * buffer_.rows();
    for (Index n = 0; n < buffer_.rows(); ++n) to[n] = static_cast<Number>(root * column[n]);
    if (++filled_ == buffer_.cols()) finish();
  }

  /// To be called after the last column.
  void finish() {
    add_lower_gram<Number>(buffer_.leftCols(filled_), factor_, gram_);
    filled_ = 0;
  }

 private:
  Matrix<Number>& buffer_;
  MatrixRef<Number> gram_;
  Number factor_;
  Index filled_ = 0;
};

/// Adds `unit` times the lower triangle of `low` to that of `target`.
template <class S, class Number>
void add_lower_triangle(S unit, const Matrix<Number>& low, MatrixRef<S> target) {
  for (Index j = 0; j < low.cols(); ++j)
    for (Index n = j; n < low.rows(); ++n) target(n, j) += unit * static_cast<S>(low(n, j));
}

}  // namespace richflow::detail
