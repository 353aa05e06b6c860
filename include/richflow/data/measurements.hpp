#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"

/// @file
/// Linear measurements `<M, X_n>` of a factored matrix M, and how a row of X stands for X_n.
///
/// Everything is said in terms of one stack F of D rows: `F = [U; V]`, `M = U V^T` (D = d1 + d2), or `F = U`,
/// `M = U U^T` (D = d). Then `<M, X_n> = <F F^T, B_n> / 2` with the symmetric D x D matrix
/// `B_n = [0 X_n; X_n^T 0]`, or `B_n = X_n + X_n^T`. A stack of k columns is stored row after row: a vector of D k
/// entries, which is a k x D matrix T = F^T in Eigen's column-major order.

namespace richflow {

/// The shape of a factored matrix: `U V^T`, d1 x d2, or the symmetric `U U^T`, d x d.
class FactorShape {
 public:
  /// `M = U V^T`, rows x cols. Throws DimensionError unless both are positive.
  [[nodiscard]] static FactorShape general(Index rows, Index cols) {
    require<DimensionError>(rows > 0 && cols > 0, "a factored matrix needs rows > 0 and cols > 0, got ", rows, " x ",
                            cols);
    return {rows, cols, rows};
  }

  /// `M = U U^T`, size x size. Throws DimensionError unless size is positive.
  [[nodiscard]] static FactorShape symmetric(Index size) {
    require<DimensionError>(size > 0, "a factored matrix needs size > 0, got ", size);
    return {size, size, 0};
  }

  /// d1, the rows of M.
  [[nodiscard]] Index rows() const { return rows_; }
  /// d2, the columns of M.
  [[nodiscard]] Index cols() const { return cols_; }
  /// D, the rows of F.
  [[nodiscard]] Index stack_size() const { return second_ + cols_; }
  /// The row of F where the second factor begins: d1, or 0 for `U U^T`.
  [[nodiscard]] Index second() const { return second_; }
  /// Whether `M = U U^T`.
  [[nodiscard]] bool is_symmetric() const { return second_ == 0; }

  /// The same shape.
  friend bool operator==(const FactorShape&, const FactorShape&) = default;

 private:
  FactorShape(Index rows, Index cols, Index second) : rows_(rows), cols_(cols), second_(second) {}

  Index rows_;
  Index cols_;
  Index second_;
};

namespace detail {

template <class S>
void require_features(const ConstMatrixRef<S>& X, Index features, const char* meaning) {
  require<DimensionError>(X.cols() == features, "X has ", X.cols(), " columns where ", features,
                          " are needed: ", meaning);
}

/// `<B_n F, P B_m F>` for `B_n = e_a e_b^T + e_b e_a^T` and `B_m = e_c e_e^T + e_e e_c^T`, W = F F^T.
template <class S>
[[nodiscard]] S entry_kernel(const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W, Index a, Index b, Index c,
                             Index e) {
  return P(a, c) * W(b, e) + P(a, e) * W(b, c) + P(b, c) * W(a, e) + P(b, e) * W(a, c);
}

}  // namespace detail

/// General measurements: row n of X is `vec(X_n)`, d1 d2 numbers, column after column.
///
/// Like the other kinds (`MatrixEntries`, `DiagonalMeasurements`) a stateless set of functions of the shape, of X
/// (N rows) and of stacks stored as T = F^T. None of them allocates or checks.
struct DenseMeasurements {
  /// A row of X holds coefficients of M, so that the prediction is linear in it.
  static constexpr bool is_linear = true;

  /// Columns of X.
  [[nodiscard]] static Index num_features(const FactorShape& shape) { return shape.rows() * shape.cols(); }

  /// Row and column of the entry of M that feature f multiplies.
  [[nodiscard]] static std::pair<Index, Index> feature_position(const FactorShape& shape, Index f) {
    return {f % shape.rows(), f / shape.rows()};
  }

  /// Throws DimensionError unless X has `num_features` columns.
  template <class S>
  static void check(const FactorShape& shape, const ConstMatrixRef<S>& X) {
    detail::require_features(X, num_features(shape), "row n is vec(X_n)");
  }

  /// `out_n += <X_n, M>`, M the product of the first factor in F1 and the second in F2. Cost O(d1 d2 (k + N)).
  template <class S>
  static void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstMatrixRef<S>& T1,
                          const ConstMatrixRef<S>& T2, VectorRef<S> out) {
    Buffer<S> buffer;
    for_each_block(shape, [&](Index i, Index j, Index n) {
      auto part = buffer.head(n);
      part.noalias() = T1.middleCols(i, n).transpose() * T2.col(shape.second() + j);
      out.noalias() += X.middleCols(j * shape.rows() + i, n) * part;
    });
  }

  /// `G += (sum_n r_n B_n F)^T`, k x D: the transposed Jacobian on r. Cost O(d1 d2 (k + N)).
  template <class S>
  static void add_pullback(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                           const ConstMatrixRef<S>& T, MatrixRef<S> G) {
    for_each_weighted_block(shape, X, r, [&](Index i, Index j, const auto& part) {
      G.col(shape.second() + j).noalias() += T.middleCols(i, part.size()) * part;
      G.middleCols(i, part.size()).noalias() += T.col(shape.second() + j) * part.transpose();
    });
  }

  /// `B += sum_n r_n B_n`, D x D. Cost O(N d1 d2).
  template <class S>
  static void add_matrix(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                         MatrixRef<S> B) {
    for_each_weighted_block(shape, X, r, [&](Index i, Index j, const auto& part) {
      B.col(shape.second() + j).segment(i, part.size()) += part;
      B.row(shape.second() + j).segment(i, part.size()) += part.transpose();
    });
  }

  /// `K_nm = <B_n F, P B_m F> = tr(B_n P B_m W)`, N x N, the lower triangle at least, for symmetric P and W = F F^T;
  /// `scratch` is D x 3D. With P = I the tangent kernel. Cost O(N (N + D) D^2).
  template <class S>
  static void kernel(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstMatrixRef<S>& P,
                     const ConstMatrixRef<S>& W, MatrixRef<S> K, MatrixRef<S> scratch) {
    const Index D = shape.stack_size();
    auto B = scratch.leftCols(D);
    auto BW = scratch.middleCols(D, D);
    auto PBW = scratch.rightCols(D);
    for (Index m = 0; m < X.rows(); ++m) {
      B.setZero();
      for (Index j = 0; j < shape.cols(); ++j)
        for (Index i = 0; i < shape.rows(); ++i) {
          const S x = X(m, j * shape.rows() + i);
          B(i, shape.second() + j) += x;
          B(shape.second() + j, i) += x;
        }
      detail::matrix_product<S>(B, W, BW);
      detail::matrix_product<S>(P, BW, PBW);
      auto column = K.col(m);
      column.setZero();
      for (Index j = 0; j < shape.cols(); ++j) {
        auto part = B.col(0).head(shape.rows());
        part =
            PBW.col(shape.second() + j).head(shape.rows()) + PBW.row(shape.second() + j).head(shape.rows()).transpose();
        column.noalias() += X.middleCols(j * shape.rows(), shape.rows()) * part;
      }
    }
  }

 private:
  static constexpr Index block_size = 256;
  template <class S>
  using Buffer = Eigen::Matrix<S, block_size, 1>;

  /// `visit(i, j, n)` for pieces of n rows from i on of the columns j of M.
  template <class Visit>
  static void for_each_block(const FactorShape& shape, const Visit& visit) {
    for (Index j = 0; j < shape.cols(); ++j)
      for (Index i = 0; i < shape.rows(); i += block_size) visit(i, j, std::min(block_size, shape.rows() - i));
  }

  /// `visit(i, j, part)` with the pieces of `sum_n r_n X_n`.
  template <class S, class Visit>
  static void for_each_weighted_block(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                                      const Visit& visit) {
    Buffer<S> buffer;
    for_each_block(shape, [&](Index i, Index j, Index n) {
      auto part = buffer.head(n);
      part.noalias() = X.middleCols(j * shape.rows() + i, n).transpose() * r;
      visit(i, j, part);
    });
  }
};

/// Matrix completion: row n of X is the pair (i, j), counted from 0, of an observed entry, `<M, X_n> = M_ij`. Costs are
/// per observed entry, whatever the size of M.
struct MatrixEntries {
  /// A row of X holds indices.
  static constexpr bool is_linear = false;

  /// Columns of X.
  [[nodiscard]] static Index num_features(const FactorShape& /*shape*/) { return 2; }

  /// Throws DimensionError unless X has two columns, ArgumentError where an entry is no index of M.
  template <class S>
  static void check(const FactorShape& shape, const ConstMatrixRef<S>& X) {
    using std::floor;
    detail::require_features(X, 2, "row n is the pair (i, j) of an observed entry");
    for (Index n = 0; n < X.rows(); ++n)
      for (Index side = 0; side < 2; ++side) {
        const S index = X(n, side);
        const Index bound = side == 0 ? shape.rows() : shape.cols();
        require(index >= S(0) && index < static_cast<S>(bound) && index == floor(index), "X(", n, ", ", side,
                ") = ", index, " is not a ", side == 0 ? "row" : "column", " index of a ", shape.rows(), " x ",
                shape.cols(), " matrix");
      }
  }

  /// As DenseMeasurements. Cost O(N k).
  template <class S>
  static void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstMatrixRef<S>& T1,
                          const ConstMatrixRef<S>& T2, VectorRef<S> out) {
    for (Index n = 0; n < X.rows(); ++n) out[n] += T1.col(first(X, n)).dot(T2.col(second(shape, X, n)));
  }

  /// As DenseMeasurements. Cost O(N k).
  template <class S>
  static void add_pullback(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                           const ConstMatrixRef<S>& T, MatrixRef<S> G) {
    for (Index n = 0; n < X.rows(); ++n) {
      const Index a = first(X, n);
      const Index b = second(shape, X, n);
      G.col(a) += r[n] * T.col(b);
      G.col(b) += r[n] * T.col(a);
    }
  }

  /// As DenseMeasurements. Cost O(N).
  template <class S>
  static void add_matrix(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                         MatrixRef<S> B) {
    for (Index n = 0; n < X.rows(); ++n) {
      const Index a = first(X, n);
      const Index b = second(shape, X, n);
      B(a, b) += r[n];
      B(b, a) += r[n];
    }
  }

  /// As DenseMeasurements. Cost O(N^2).
  template <class S>
  static void kernel(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstMatrixRef<S>& P,
                     const ConstMatrixRef<S>& W, MatrixRef<S> K, MatrixRef<S> /*scratch*/) {
    for (Index m = 0; m < X.rows(); ++m) {
      const Index c = first(X, m);
      const Index e = second(shape, X, m);
      for (Index n = m; n < X.rows(); ++n)
        K(n, m) = detail::entry_kernel<S>(P, W, first(X, n), second(shape, X, n), c, e);
    }
  }

 private:
  template <class S>
  static Index first(const ConstMatrixRef<S>& X, Index n) {
    return static_cast<Index>(X(n, 0));
  }
  template <class S>
  static Index second(const FactorShape& shape, const ConstMatrixRef<S>& X, Index n) {
    return shape.second() + static_cast<Index>(X(n, 1));
  }
};

/// Diagonal measurements: `X_n = diag(x_n)`, row n of X is x_n, min(d1, d2) numbers. Measurements that commute become
/// these in their common basis (see `commuting_measurements`).
struct DiagonalMeasurements {
  /// A row of X holds coefficients of M, so that the prediction is linear in it.
  static constexpr bool is_linear = true;

  /// Columns of X.
  [[nodiscard]] static Index num_features(const FactorShape& shape) { return std::min(shape.rows(), shape.cols()); }

  /// Row and column of the entry of M that feature f multiplies.
  [[nodiscard]] static std::pair<Index, Index> feature_position(const FactorShape& /*shape*/, Index f) {
    return {f, f};
  }

  /// Throws DimensionError unless X has `num_features` columns.
  template <class S>
  static void check(const FactorShape& shape, const ConstMatrixRef<S>& X) {
    detail::require_features(X, num_features(shape), "row n is the diagonal of X_n");
  }

  /// As DenseMeasurements. Cost O(d (k + N)).
  template <class S>
  static void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstMatrixRef<S>& T1,
                          const ConstMatrixRef<S>& T2, VectorRef<S> out) {
    for (Index i = 0; i < X.cols(); ++i) out += T1.col(i).dot(T2.col(shape.second() + i)) * X.col(i);
  }

  /// As DenseMeasurements. Cost O(d (k + N)).
  template <class S>
  static void add_pullback(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                           const ConstMatrixRef<S>& T, MatrixRef<S> G) {
    for (Index i = 0; i < X.cols(); ++i) {
      const S weight = X.col(i).dot(r);
      G.col(i) += weight * T.col(shape.second() + i);
      G.col(shape.second() + i) += weight * T.col(i);
    }
  }

  /// As DenseMeasurements. Cost O(N d).
  template <class S>
  static void add_matrix(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstVectorRef<S>& r,
                         MatrixRef<S> B) {
    for (Index i = 0; i < X.cols(); ++i) {
      const S weight = X.col(i).dot(r);
      B(i, shape.second() + i) += weight;
      B(shape.second() + i, i) += weight;
    }
  }

  /// As DenseMeasurements. Cost O(N d (N + d)).
  template <class S>
  static void kernel(const FactorShape& shape, const ConstMatrixRef<S>& X, const ConstMatrixRef<S>& P,
                     const ConstMatrixRef<S>& W, MatrixRef<S> K, MatrixRef<S> scratch) {
    const Index d = X.cols();
    auto between = scratch.topLeftCorner(d, d);
    auto row = scratch.col(scratch.cols() - 1).head(d);
    for (Index j = 0; j < d; ++j)
      for (Index i = 0; i < d; ++i)
        between(i, j) = detail::entry_kernel<S>(P, W, i, shape.second() + i, j, shape.second() + j);
    for (Index m = 0; m < X.rows(); ++m) {
      row.noalias() = between * X.row(m).transpose();
      K.col(m).noalias() = X * row;
    }
  }
};

}  // namespace richflow
