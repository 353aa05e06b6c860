#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"

/// @file
/// Linear measurements `<M, X_n>` of a d1 x d2 matrix M, n = 1 ... N, `<M, X> = tr(M^T X)`.
///
/// Of a factored matrix everything is said in terms of one stack F of D rows: `F = [U; V]`, `M = U V^T` (D = d1 + d2),
/// or `F = U`, `M = U U^T` (D = d). Then `<M, X_n> = <F F^T, B_n> / 2` with the symmetric D x D matrix
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

/// A place in a matrix, counted from 0.
struct MatrixEntry {
  Index row = 0;  ///< i
  Index col = 0;  ///< j

  /// The same place.
  friend bool operator==(const MatrixEntry&, const MatrixEntry&) = default;
};

/// The body of MatrixMeasurements: N linear measurements of a rows x cols matrix. A kind of measurement of your
/// own derives from MeasurementKind, which derives from this class.
///
/// Whatever is done with measurements is one call for all of them. Arguments are checked already. The operations on
/// stacks have defaults by `add_values` and `add_adjoint`, which allocate and form a rows x cols matrix; a kind whose
/// measurements are cheaper overrides them. Those of richflow do, and allocate nothing.
template <class S>
class AnyMeasurements {
 public:
  virtual ~AnyMeasurements() = default;

  /// d1, the rows of M.
  [[nodiscard]] Index rows() const { return rows_; }
  /// d2, the columns of M.
  [[nodiscard]] Index cols() const { return cols_; }
  /// N.
  [[nodiscard]] Index num_measurements() const { return count_; }

  /// `out_n += <M, X_n>`, M rows x cols.
  virtual void add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const = 0;

  /// `A += sum_n r_n X_n`, A rows x cols: the transpose of `add_values`.
  virtual void add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const = 0;

  /// `out_n += <M, X_n>`, M the product of the first factor in F1 and the second in F2, stored as T1 and T2 (k x D).
  virtual void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1, const ConstMatrixRef<S>& T2,
                           VectorRef<S> out) const;

  /// `G += (sum_n r_n B_n F)^T`, k x D: the transposed Jacobian of the measured product on r.
  virtual void add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r, const ConstMatrixRef<S>& T,
                            MatrixRef<S> G) const;

  /// `B += sum_n r_n B_n`, D x D.
  virtual void add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const;

  /// `K_nm = <B_n F, P B_m F> = tr(B_n P B_m W)`, N x N, the lower triangle at least, for symmetric P and W = F F^T;
  /// `scratch` is D x 3D. With P = I the tangent kernel of the factorization.
  virtual void kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W, MatrixRef<S> K,
                      MatrixRef<S> scratch) const;

  /// `K_nm = <X_n, X_m>`, N x N, both triangles.
  virtual void gram(MatrixRef<S> K) const;

  /// An independent copy.
  [[nodiscard]] virtual std::unique_ptr<AnyMeasurements> clone() const = 0;

  /// Becomes measurements `indices[0 ... count - 1]` of `from`; false, and nothing has changed, unless that is of the
  /// same class and shape.
  [[nodiscard]] virtual bool gather(const AnyMeasurements& from, const Index* indices, Index count) = 0;

  /// What tells the classes of measurements apart.
  [[nodiscard]] virtual const void* kind() const = 0;

 protected:
  /// Throws DimensionError unless rows, cols and count are positive.
  AnyMeasurements(Index rows, Index cols, Index count) : rows_(rows), cols_(cols), count_(count) {
    require<DimensionError>(rows > 0 && cols > 0, "the matrix that is measured is ", rows, " x ", cols);
    require<DimensionError>(count > 0, "there are N = ", count, " measurements");
  }
  AnyMeasurements(const AnyMeasurements&) = default;
  AnyMeasurements& operator=(const AnyMeasurements&) = default;

  /// What `gather` sets after `take`.
  void set_num_measurements(Index count) { count_ = count; }

 private:
  Index rows_;
  Index cols_;
  Index count_;
};

namespace detail {

/// One object for each class, whose address tells them apart.
template <class Kind>
inline constexpr char kind_of_measurements = 0;

}  // namespace detail

/// The base of your own kind of measurement. `Self`, which can be copied, has `add_values` and `add_adjoint`,
/// and for batches of measurements `take`:
///
///     class RowSums : public MeasurementKind<RowSums, double> {   // <M, X_n> = the sum of row rows[n] of M
///      public:
///       RowSums(Index d1, Index d2, std::vector<Index> rows);     // calls MeasurementKind(d1, d2, rows.size())
///       void add_values(const ConstMatrixRef<double>& M, VectorRef<double> out) const override;
///       void add_adjoint(const ConstVectorRef<double>& r, MatrixRef<double> A) const override;
///       void take(const RowSums& from, const Index* indices, Index count);
///     };
///     MatrixMeasurements<double>(std::make_unique<RowSums>(3, 4, std::vector<Index>{0, 2}))
///
/// `take` writes measurements `indices[0 ... count - 1]` of `from` over its own; if it allocates nothing once it has
/// held as many, neither do steps of SGD.
template <class Self, class S>
class MeasurementKind : public AnyMeasurements<S> {
 public:
  [[nodiscard]] std::unique_ptr<AnyMeasurements<S>> clone() const final {
    return std::make_unique<Self>(static_cast<const Self&>(*this));
  }
  [[nodiscard]] bool gather(const AnyMeasurements<S>& from, const Index* indices, Index count) final {
    if (from.kind() != kind() || from.rows() != this->rows() || from.cols() != this->cols()) return false;
    static_cast<Self&>(*this).take(static_cast<const Self&>(from), indices, count);
    this->set_num_measurements(count);
    return true;
  }
  [[nodiscard]] const void* kind() const final { return &detail::kind_of_measurements<Self>; }

 protected:
  using AnyMeasurements<S>::AnyMeasurements;
};

namespace detail {

/// Throws ArgumentError where sums of `count` squares of numbers up to `largest` leave the range of S.
template <class S>
void require_squares(const char* name, S largest, Index count) {
  using Limits = std::numeric_limits<S>;
  const bool overflow = largest > S(1) && largest > Limits::max() / largest / static_cast<S>(count);
  const bool underflow = largest > S(0) && largest < S(1) && largest * largest < Limits::min() / Limits::epsilon();
  require(!overflow && !underflow, "sums of squares of ", name, " ", overflow ? "overflow" : "underflow",
          ": its largest entry is ", largest, "; choose other units");
}

/// `<B_n F, P B_m F>` for `B_n = e_a e_b^T + e_b e_a^T` and `B_m = e_c e_e^T + e_e e_c^T`, W = F F^T.
template <class S>
[[nodiscard]] S entry_kernel(const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W, Index a, Index b, Index c,
                             Index e) {
  return P(a, c) * W(b, e) + P(a, e) * W(b, c) + P(b, c) * W(a, e) + P(b, e) * W(a, c);
}

/// N rows of coefficients, in memory for as many as there ever were.
template <class S>
class CoefficientRows {
 public:
  CoefficientRows(Matrix<S> X, Index features, const char* meaning) : X_(std::move(X)), count_(X_.rows()) {
    require<DimensionError>(X_.rows() > 0, "X has N = 0 rows (measurements)");
    require<DimensionError>(X_.cols() == features, "X has ", X_.cols(), " columns where ", features,
                            " are needed: ", meaning);
    require_finite("X", X_);
    require_squares("X", largest_size(X_.data(), X_.size()), X_.size());
  }
  // Without memory for more.
  CoefficientRows(const CoefficientRows& other) : X_(other.get()), count_(other.count_) {}
  CoefficientRows(CoefficientRows&&) noexcept = default;
  CoefficientRows& operator=(const CoefficientRows& other) { return *this = CoefficientRows(other); }
  CoefficientRows& operator=(CoefficientRows&&) noexcept = default;
  ~CoefficientRows() = default;

  [[nodiscard]] ConstMatrixRef<S> get() const { return X_.topRows(count_); }
  void take(const CoefficientRows& from, const Index* indices, Index count) {
    if (X_.rows() < count) X_.resize(count, from.X_.cols());
    count_ = count;
    for (Index j = 0; j < X_.cols(); ++j) {
      const S* const column = &from.X_(0, j);
      for (Index n = 0; n < count; ++n) X_(n, j) = column[indices[n]];
    }
  }

 private:
  Matrix<S> X_;
  Index count_;
};

/// General measurements, by the d1 d2 numbers of each X_n, column after column.
template <class S>
class DenseMeasurements final : public MeasurementKind<DenseMeasurements<S>, S> {
 public:
  DenseMeasurements(Index rows, Index cols, Matrix<S> X)
      : MeasurementKind<DenseMeasurements, S>(rows, cols, X.rows()),
        X_(std::move(X), rows * cols, "row n is vec(X_n)") {}

  /// N x d1 d2.
  [[nodiscard]] ConstMatrixRef<S> X() const { return X_.get(); }

  void add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const override;
  void add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const override;
  void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1, const ConstMatrixRef<S>& T2,
                   VectorRef<S> out) const override;
  void add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r, const ConstMatrixRef<S>& T,
                    MatrixRef<S> G) const override;
  void add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const override;
  void kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W, MatrixRef<S> K,
              MatrixRef<S> scratch) const override;
  void gram(MatrixRef<S> K) const override { product_with_transposed<S>(X(), X(), K); }
  void take(const DenseMeasurements& from, const Index* indices, Index count) { X_.take(from.X_, indices, count); }

 private:
  static constexpr Index block_size = 256;
  using Buffer = Eigen::Matrix<S, block_size, 1>;

  /// `visit(i, j, n)` for pieces of n rows from i on of the columns j of M.
  template <class Visit>
  void for_each_block(const Visit& visit) const {
    for (Index j = 0; j < this->cols(); ++j)
      for (Index i = 0; i < this->rows(); i += block_size) visit(i, j, std::min(block_size, this->rows() - i));
  }

  /// `visit(i, j, part)` with the pieces of `sum_n r_n X_n`.
  template <class Visit>
  void for_each_weighted_block(const ConstVectorRef<S>& r, const Visit& visit) const {
    Buffer buffer;
    const auto X = this->X();
    for_each_block([&](Index i, Index j, Index n) {
      auto part = buffer.head(n);
      part.noalias() = X.middleCols(j * this->rows() + i, n).transpose() * r;
      visit(i, j, part);
    });
  }

  CoefficientRows<S> X_;
};

template <class S>
void DenseMeasurements<S>::add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const {
  const auto X = this->X();
  for_each_block([&](Index i, Index j, Index n) {
    out.noalias() += X.middleCols(j * this->rows() + i, n) * M.col(j).segment(i, n);
  });
}

template <class S>
void DenseMeasurements<S>::add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const {
  for_each_weighted_block(r, [&](Index i, Index j, const auto& part) { A.col(j).segment(i, part.size()) += part; });
}

template <class S>
void DenseMeasurements<S>::add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1,
                                       const ConstMatrixRef<S>& T2, VectorRef<S> out) const {
  Buffer buffer;
  const auto X = this->X();
  for_each_block([&](Index i, Index j, Index n) {
    auto part = buffer.head(n);
    part.noalias() = T1.middleCols(i, n).transpose() * T2.col(shape.second() + j);
    out.noalias() += X.middleCols(j * this->rows() + i, n) * part;
  });
}

template <class S>
void DenseMeasurements<S>::add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r,
                                        const ConstMatrixRef<S>& T, MatrixRef<S> G) const {
  for_each_weighted_block(r, [&](Index i, Index j, const auto& part) {
    G.col(shape.second() + j).noalias() += T.middleCols(i, part.size()) * part;
    G.middleCols(i, part.size()).noalias() += T.col(shape.second() + j) * part.transpose();
  });
}

template <class S>
void DenseMeasurements<S>::add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const {
  for_each_weighted_block(r, [&](Index i, Index j, const auto& part) {
    B.col(shape.second() + j).segment(i, part.size()) += part;
    B.row(shape.second() + j).segment(i, part.size()) += part.transpose();
  });
}

template <class S>
void DenseMeasurements<S>::kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W,
                                  MatrixRef<S> K, MatrixRef<S> scratch) const {
  const auto X = this->X();
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
    matrix_product<S>(B, W, BW);
    matrix_product<S>(P, BW, PBW);
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

/// Observed entries. Costs are per entry, whatever the size of M.
template <class S>
class EntryMeasurements final : public MeasurementKind<EntryMeasurements<S>, S> {
 public:
  EntryMeasurements(Index rows, Index cols, std::vector<MatrixEntry> entries)
      : MeasurementKind<EntryMeasurements, S>(rows, cols, static_cast<Index>(entries.size())),
        entries_(std::move(entries)) {
    for (std::size_t n = 0; n < entries_.size(); ++n) {
      const auto [i, j] = entries_[n];
      require(i >= 0 && i < rows && j >= 0 && j < cols, "entry ", n, " is at (", i, ", ", j, "), outside the ", rows,
              " x ", cols, " matrix");
    }
  }

  [[nodiscard]] const std::vector<MatrixEntry>& entries() const { return entries_; }

  void add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const override;
  void add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const override;
  void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1, const ConstMatrixRef<S>& T2,
                   VectorRef<S> out) const override;
  void add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r, const ConstMatrixRef<S>& T,
                    MatrixRef<S> G) const override;
  void add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const override;
  void kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W, MatrixRef<S> K,
              MatrixRef<S> scratch) const override;
  void gram(MatrixRef<S> K) const override;
  void take(const EntryMeasurements& from, const Index* indices, Index count) {
    entries_.resize(static_cast<std::size_t>(count));
    for (std::size_t n = 0; n < entries_.size(); ++n) entries_[n] = from.entries_[static_cast<std::size_t>(indices[n])];
  }

 private:
  /// `visit(n, a, b)` with the rows a and b of the stack that measurement n pairs.
  template <class Visit>
  void for_each(const FactorShape& shape, const Visit& visit) const {
    Index n = 0;
    for (const MatrixEntry& entry : entries_) visit(n++, entry.row, shape.second() + entry.col);
  }

  std::vector<MatrixEntry> entries_;
};

template <class S>
void EntryMeasurements<S>::add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const {
  Index n = 0;
  for (const auto [i, j] : entries_) out[n++] += M(i, j);
}

template <class S>
void EntryMeasurements<S>::add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const {
  Index n = 0;
  for (const auto [i, j] : entries_) A(i, j) += r[n++];
}

template <class S>
void EntryMeasurements<S>::add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1,
                                       const ConstMatrixRef<S>& T2, VectorRef<S> out) const {
  for_each(shape, [&](Index n, Index a, Index b) { out[n] += T1.col(a).dot(T2.col(b)); });
}

template <class S>
void EntryMeasurements<S>::add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r,
                                        const ConstMatrixRef<S>& T, MatrixRef<S> G) const {
  for_each(shape, [&](Index n, Index a, Index b) {
    G.col(a) += r[n] * T.col(b);
    G.col(b) += r[n] * T.col(a);
  });
}

template <class S>
void EntryMeasurements<S>::add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const {
  for_each(shape, [&](Index n, Index a, Index b) {
    B(a, b) += r[n];
    B(b, a) += r[n];
  });
}

template <class S>
void EntryMeasurements<S>::kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W,
                                  MatrixRef<S> K, MatrixRef<S> /*scratch*/) const {
  for_each(shape, [&](Index m, Index c, Index e) {
    for (Index n = m; n < this->num_measurements(); ++n) {
      const auto [a, b] = entries_[static_cast<std::size_t>(n)];
      K(n, m) = entry_kernel<S>(P, W, a, shape.second() + b, c, e);
    }
  });
}

template <class S>
void EntryMeasurements<S>::gram(MatrixRef<S> K) const {
  for (std::size_t m = 0; m < entries_.size(); ++m)
    for (std::size_t n = 0; n < entries_.size(); ++n)
      K(static_cast<Index>(n), static_cast<Index>(m)) = entries_[n] == entries_[m] ? S(1) : S(0);
}

/// `X_n = diag(x_n)`, by the min(d1, d2) numbers of each x_n.
template <class S>
class DiagonalMeasurements final : public MeasurementKind<DiagonalMeasurements<S>, S> {
 public:
  DiagonalMeasurements(Index rows, Index cols, Matrix<S> X)
      : MeasurementKind<DiagonalMeasurements, S>(rows, cols, X.rows()),
        X_(std::move(X), std::min(rows, cols), "row n is the diagonal of X_n") {}

  /// N x min(d1, d2).
  [[nodiscard]] ConstMatrixRef<S> X() const { return X_.get(); }

  void add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const override;
  void add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const override;
  void add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1, const ConstMatrixRef<S>& T2,
                   VectorRef<S> out) const override;
  void add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r, const ConstMatrixRef<S>& T,
                    MatrixRef<S> G) const override;
  void add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const override;
  void kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W, MatrixRef<S> K,
              MatrixRef<S> scratch) const override;
  void gram(MatrixRef<S> K) const override { product_with_transposed<S>(X(), X(), K); }
  void take(const DiagonalMeasurements& from, const Index* indices, Index count) { X_.take(from.X_, indices, count); }

 private:
  CoefficientRows<S> X_;
};

template <class S>
void DiagonalMeasurements<S>::add_values(const ConstMatrixRef<S>& M, VectorRef<S> out) const {
  const auto X = this->X();
  for (Index i = 0; i < X.cols(); ++i) out += M(i, i) * X.col(i);
}

template <class S>
void DiagonalMeasurements<S>::add_adjoint(const ConstVectorRef<S>& r, MatrixRef<S> A) const {
  const auto X = this->X();
  for (Index i = 0; i < X.cols(); ++i) A(i, i) += X.col(i).dot(r);
}

template <class S>
void DiagonalMeasurements<S>::add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1,
                                          const ConstMatrixRef<S>& T2, VectorRef<S> out) const {
  const auto X = this->X();
  for (Index i = 0; i < X.cols(); ++i) out += T1.col(i).dot(T2.col(shape.second() + i)) * X.col(i);
}

template <class S>
void DiagonalMeasurements<S>::add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r,
                                           const ConstMatrixRef<S>& T, MatrixRef<S> G) const {
  const auto X = this->X();
  for (Index i = 0; i < X.cols(); ++i) {
    const S weight = X.col(i).dot(r);
    G.col(i) += weight * T.col(shape.second() + i);
    G.col(shape.second() + i) += weight * T.col(i);
  }
}

template <class S>
void DiagonalMeasurements<S>::add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const {
  const auto X = this->X();
  for (Index i = 0; i < X.cols(); ++i) {
    const S weight = X.col(i).dot(r);
    B(i, shape.second() + i) += weight;
    B(shape.second() + i, i) += weight;
  }
}

template <class S>
void DiagonalMeasurements<S>::kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W,
                                     MatrixRef<S> K, MatrixRef<S> scratch) const {
  const auto X = this->X();
  const Index d = X.cols();
  auto between = scratch.topLeftCorner(d, d);
  auto row = scratch.col(scratch.cols() - 1).head(d);
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i < d; ++i) between(i, j) = entry_kernel<S>(P, W, i, shape.second() + i, j, shape.second() + j);
  for (Index m = 0; m < X.rows(); ++m) {
    row.noalias() = between * X.row(m).transpose();
    K.col(m).noalias() = X * row;
  }
}

}  // namespace detail

/// N linear measurements `<M, X_n>` of a d1 x d2 matrix M: what a matrix factorization is fitted to, whose samples they
/// are. A value; copies are independent.
///
///     MatrixMeasurements<double>::entries(10, 10, {{0, 3}, {7, 7}})      // M_03 and M_77: matrix completion
///     MatrixMeasurements<double>::dense(3, 4, X)                         // row n of X is vec(X_n), N x 12
///     MatrixMeasurements<double>::diagonal(5, 5, X)                      // row n of X is the diagonal of X_n, N x 5
///
///     const Dataset data(measurements, measurements.apply(truth));
///
/// A kind of your own comes as a unique pointer: see MeasurementKind.
///
/// | kind       | memory      | cost of an operation on a stack of k columns | of `kernel`          |
/// |------------|-------------|----------------------------------------------|----------------------|
/// | `entries`  | N pairs     | O(N k)                                       | O(N^2)               |
/// | `dense`    | N d1 d2     | O(d1 d2 (k + N))                             | O(N (N + D) D^2)     |
/// | `diagonal` | N d         | O(d (k + N)), d = min(d1, d2)                | O(N d (N + d))       |
template <class S = double>
class MatrixMeasurements {
 public:
  /// Number type.
  using Scalar = S;

  /// General measurements: row n of X (N x d1 d2) is `vec(X_n)`, column after column. Throws DimensionError where the
  /// shapes do not fit or N = 0, NonFiniteError for an entry that is not finite, ArgumentError where squares of X leave
  /// the range of S.
  [[nodiscard]] static MatrixMeasurements dense(Index rows, Index cols, Matrix<S> X) {
    return MatrixMeasurements(Body(std::make_unique<detail::DenseMeasurements<S>>(rows, cols, std::move(X))));
  }

  /// Observed entries, `<M, X_n> = M_ij`; one may be observed more than once. Throws DimensionError where there is none
  /// or the matrix is empty, ArgumentError naming an entry outside the matrix.
  [[nodiscard]] static MatrixMeasurements entries(Index rows, Index cols, std::vector<MatrixEntry> places) {
    return MatrixMeasurements(Body(std::make_unique<detail::EntryMeasurements<S>>(rows, cols, std::move(places))));
  }

  /// `X_n = diag(x_n)`: row n of X (N x min(d1, d2)) is x_n. Measurements that commute become these in their common
  /// basis (see `commuting_measurements`). Throws as `dense`.
  [[nodiscard]] static MatrixMeasurements diagonal(Index rows, Index cols, Matrix<S> X) {
    return MatrixMeasurements(Body(std::make_unique<detail::DiagonalMeasurements<S>>(rows, cols, std::move(X))));
  }

  /// Measurements of a kind of your own. Throws ArgumentError for nullptr, NonFiniteError where those of the matrix of
  /// ones are not finite.
  explicit MatrixMeasurements(std::unique_ptr<AnyMeasurements<S>> kind);

  MatrixMeasurements(const MatrixMeasurements& other) : kind_(other.kind_->clone()) {}
  MatrixMeasurements(MatrixMeasurements&&) noexcept = default;
  MatrixMeasurements& operator=(const MatrixMeasurements& other) { return *this = MatrixMeasurements(other); }
  MatrixMeasurements& operator=(MatrixMeasurements&&) noexcept = default;
  ~MatrixMeasurements() = default;

  /// d1, the rows of M.
  [[nodiscard]] Index rows() const { return kind_->rows(); }
  /// d2, the columns of M.
  [[nodiscard]] Index cols() const { return kind_->cols(); }
  /// N.
  [[nodiscard]] Index num_measurements() const { return kind_->num_measurements(); }

  /// `<M, X_n>`, N values. Throws DimensionError unless M is d1 x d2. Cost: N terms for entries, N d1 d2 for dense
  /// ones.
  [[nodiscard]] Vector<S> apply(const Matrix<S>& M) const;

  /// `sum_n r_n X_n`, d1 x d2: the transpose of `apply`, `<apply(M), r> = <M, adjoint(r)>`. Throws DimensionError
  /// unless r has N entries. Cost as `apply`, and d1 d2.
  [[nodiscard]] Matrix<S> adjoint(const Vector<S>& r) const;

  /// `<X_n, X_m>`, N x N: the kernel of the linear model `M -> <M, X_n>`. Cost N^2 for entries, N^2 d1 d2 for dense
  /// ones.
  [[nodiscard]] Matrix<S> gram() const;

  /// `tr(B_n P B_m W)`, N x N, for symmetric D x D matrices P and W (see the top of this file). With P = I and W = F
  /// F^T the tangent kernel at the stack F of a factorization of this shape. Throws DimensionError where the shapes do
  /// not fit.
  [[nodiscard]] Matrix<S> kernel(const FactorShape& shape, const Matrix<S>& P, const Matrix<S>& W) const;

  /// Where the observed entries are. Throws ArgumentError unless these were made by `entries`.
  [[nodiscard]] const std::vector<MatrixEntry>& places() const;

  /// Becomes measurements `indices[0 ... count - 1]` of `from`, each in 0 ... N - 1, which is not checked. Allocates
  /// nothing where these are of the same kind and shape and have held as many before. Throws DimensionError unless
  /// count > 0.
  void gather(const MatrixMeasurements& from, const Index* indices, Index count);

  /// Throws DimensionError unless these measure matrices of this shape.
  void require_shape(const FactorShape& shape) const {
    require<DimensionError>(shape.rows() == rows() && shape.cols() == cols(), "the measurements are of a ", rows(),
                            " x ", cols(), " matrix where that of the model is ", shape.rows(), " x ", shape.cols());
  }

  /// The operations on stacks, which neither check nor, for the kinds of richflow, allocate.
  [[nodiscard]] const AnyMeasurements<S>& operations() const { return *kind_; }

 private:
  /// What needs no check.
  struct Body {
    explicit Body(std::unique_ptr<AnyMeasurements<S>> k) : kind(std::move(k)) {}
    std::unique_ptr<AnyMeasurements<S>> kind;
  };
  explicit MatrixMeasurements(Body body) : kind_(std::move(body.kind)) {}

  std::unique_ptr<AnyMeasurements<S>> kind_;
};

namespace detail {

/// The measurements as those of one class, nullptr where they are of another.
template <class Kind, class S>
[[nodiscard]] const Kind* as_kind(const MatrixMeasurements<S>& measurements) {
  const AnyMeasurements<S>& any = measurements.operations();
  return any.kind() == &kind_of_measurements<Kind> ? static_cast<const Kind*>(&any) : nullptr;
}

/// `vec(X_n)` in row n, N x d1 d2.
template <class S>
[[nodiscard]] Matrix<S> dense_rows(const MatrixMeasurements<S>& measurements) {
  if (const auto* dense = as_kind<DenseMeasurements<S>>(measurements)) return dense->X();
  const Index N = measurements.num_measurements();
  Matrix<S> X(N, measurements.rows() * measurements.cols());
  Vector<S> unit = Vector<S>::Zero(N);
  for (Index n = 0; n < N; ++n) {
    unit[n] = S(1);
    const Matrix<S> X_n = measurements.adjoint(unit);
    unit[n] = S(0);
    X.row(n) = Eigen::Map<const Vector<S>>(X_n.data(), X_n.size()).transpose();
  }
  return X;
}

}  // namespace detail

template <class S>
void AnyMeasurements<S>::add_pairing(const FactorShape& shape, const ConstMatrixRef<S>& T1, const ConstMatrixRef<S>& T2,
                                     VectorRef<S> out) const {
  Matrix<S> M(rows_, cols_);
  detail::product_of_transposed<S>(T1.leftCols(rows_), T2.middleCols(shape.second(), cols_), M);
  add_values(M, out);
}

template <class S>
void AnyMeasurements<S>::add_pullback(const FactorShape& shape, const ConstVectorRef<S>& r, const ConstMatrixRef<S>& T,
                                      MatrixRef<S> G) const {
  Matrix<S> A = Matrix<S>::Zero(rows_, cols_);
  add_adjoint(r, A);
  G.leftCols(rows_).noalias() += T.middleCols(shape.second(), cols_) * A.transpose();
  G.middleCols(shape.second(), cols_).noalias() += T.leftCols(rows_) * A;
}

template <class S>
void AnyMeasurements<S>::add_matrix(const FactorShape& shape, const ConstVectorRef<S>& r, MatrixRef<S> B) const {
  Matrix<S> A = Matrix<S>::Zero(rows_, cols_);
  add_adjoint(r, A);
  B.block(0, shape.second(), rows_, cols_) += A;
  B.block(shape.second(), 0, cols_, rows_) += A.transpose();
}

template <class S>
void AnyMeasurements<S>::kernel(const FactorShape& shape, const ConstMatrixRef<S>& P, const ConstMatrixRef<S>& W,
                                MatrixRef<S> K, MatrixRef<S> scratch) const {
  const Index D = shape.stack_size();
  auto B = scratch.leftCols(D);
  auto BW = scratch.middleCols(D, D);
  auto PBW = scratch.rightCols(D);
  Vector<S> unit = Vector<S>::Zero(count_);
  Matrix<S> part(rows_, cols_);
  for (Index m = 0; m < count_; ++m) {
    B.setZero();
    unit[m] = S(1);
    add_matrix(shape, unit, B);
    unit[m] = S(0);
    detail::matrix_product<S>(B, W, BW);
    detail::matrix_product<S>(P, BW, PBW);
    part = PBW.block(0, shape.second(), rows_, cols_);
    part += PBW.block(shape.second(), 0, cols_, rows_).transpose();
    K.col(m).setZero();
    add_values(part, K.col(m));
  }
}

template <class S>
void AnyMeasurements<S>::gram(MatrixRef<S> K) const {
  Vector<S> unit = Vector<S>::Zero(count_);
  Matrix<S> X_m(rows_, cols_);
  K.setZero();
  for (Index m = 0; m < count_; ++m) {
    X_m.setZero();
    unit[m] = S(1);
    add_adjoint(unit, X_m);
    unit[m] = S(0);
    add_values(X_m, K.col(m));
  }
}

template <class S>
MatrixMeasurements<S>::MatrixMeasurements(std::unique_ptr<AnyMeasurements<S>> kind) : kind_(std::move(kind)) {
  require(kind_ != nullptr, "MatrixMeasurements: the pointer is null");
  const FactorShape shape = FactorShape::general(rows(), cols());
  const Matrix<S> ones = Matrix<S>::Ones(1, shape.stack_size());
  Vector<S> values = Vector<S>::Zero(num_measurements());
  kind_->add_pairing(shape, ones, ones, values);
  require_finite("the measurement of a matrix of ones", values);
}

template <class S>
Vector<S> MatrixMeasurements<S>::apply(const Matrix<S>& M) const {
  require<DimensionError>(M.rows() == rows() && M.cols() == cols(), "M is ", M.rows(), " x ", M.cols(),
                          " where the measurements are of a ", rows(), " x ", cols(), " matrix");
  Vector<S> out = Vector<S>::Zero(num_measurements());
  kind_->add_values(M, out);
  return out;
}

template <class S>
Matrix<S> MatrixMeasurements<S>::adjoint(const Vector<S>& r) const {
  require_size("r", r.size(), num_measurements());
  Matrix<S> A = Matrix<S>::Zero(rows(), cols());
  kind_->add_adjoint(r, A);
  return A;
}

template <class S>
Matrix<S> MatrixMeasurements<S>::gram() const {
  Matrix<S> K(num_measurements(), num_measurements());
  kind_->gram(K);
  return K;
}

template <class S>
Matrix<S> MatrixMeasurements<S>::kernel(const FactorShape& shape, const Matrix<S>& P, const Matrix<S>& W) const {
  require_shape(shape);
  const Index D = shape.stack_size();
  for (const auto& [name, A] : {std::pair{"P", &P}, std::pair{"W", &W}})
    require<DimensionError>(A->rows() == D && A->cols() == D, name, " is ", A->rows(), " x ", A->cols(), " where ", D,
                            " x ", D, " is needed");
  Matrix<S> K = Matrix<S>::Zero(num_measurements(), num_measurements());
  Matrix<S> scratch = Matrix<S>::Zero(D, 3 * D);
  kind_->kernel(shape, P, W, K, scratch);
  K.template triangularView<Eigen::StrictlyUpper>() = K.transpose();
  return K;
}

template <class S>
const std::vector<MatrixEntry>& MatrixMeasurements<S>::places() const {
  const auto* entries = detail::as_kind<detail::EntryMeasurements<S>>(*this);
  require(entries != nullptr, "the measurements are not observed entries, which alone have places");
  return entries->entries();
}

template <class S>
void MatrixMeasurements<S>::gather(const MatrixMeasurements& from, const Index* indices, Index count) {
  require<DimensionError>(count > 0, "there are N = ", count, " measurements to gather");
  if (&from != this && kind_->gather(*from.kind_, indices, count)) return;
  MatrixMeasurements part = from;
  static_cast<void>(part.kind_->gather(*from.kind_, indices, count));
  *this = std::move(part);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MEASUREMENTS(prefix, S)     \
  prefix template class AnyMeasurements<S>;              \
  prefix template class detail::DenseMeasurements<S>;    \
  prefix template class detail::EntryMeasurements<S>;    \
  prefix template class detail::DiagonalMeasurements<S>; \
  prefix template class MatrixMeasurements<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MEASUREMENTS)
