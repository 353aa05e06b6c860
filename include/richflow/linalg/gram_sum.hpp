#pragma once

#include <type_traits>

#include "richflow/core/types.hpp"
#include "richflow/linalg/gram_panels.hpp"

/// @file
/// Weighted Gram matrices, also in a faster type of numbers than that of the columns.

namespace richflow::detail {

/// Numbers half as long, for matrices that need not be exact: preconditioners and the Jacobians of W-methods.
template <class S>
using LowPrecision = std::conditional_t<std::is_same_v<S, double>, float, S>;

/// `factor sum_k c_k c_k^T` of columns that come one by one. They are collected in a buffer, whose size suits the
/// matrix products.
template <class Number>
class GramSum {
 public:
  /// Adds to the lower triangle of `gram`. Both must outlive it.
  GramSum(Matrix<Number>& buffer, Number factor, MatrixRef<Number> gram)
      : buffer_(buffer), gram_(gram), factor_(factor) {
    allocate(gram.rows(), buffer);
  }

  /// All memory for columns of `rows` entries; does nothing where it is there already.
  static void allocate(Index rows, Matrix<Number>& buffer) { buffer.resize(Panels::stride, Panels::panels(rows)); }

  /// One more column, `root` times the values at `column`.
  template <class S>
  void add(S root, const S* column) {
    Panels::put(root, column, gram_.rows(), filled_, buffer_.data());
    if (++filled_ == Panels::depth) finish();
  }

  /// To be called after the last column.
  void finish() {
    const typename Panels::Rows all{buffer_.data(), 0, gram_.rows()};
    Panels::add(all, all, filled_, factor_, gram_.data(), gram_.outerStride());
    filled_ = 0;
  }

 private:
  using Panels = GramPanels<Number>;

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
