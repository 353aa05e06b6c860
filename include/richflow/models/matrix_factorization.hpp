#pragma once

#include <Eigen/QR>
#include <algorithm>
#include <cmath>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/products.hpp"

namespace richflow {

/// The lower triangular D x D factor L, with nonnegative diagonal, of `F F^T = L L^T` for a stack F of k > D columns; F
/// itself for k <= D. The flow of a factorization multiplies its stack from the left only, so that a net of width k
/// started at F and one of width D started at L have the same predictor at all times: the exact width reduction. F may
/// hold any number of columns; cost O(D^2 k).
template <class S>
[[nodiscard]] Matrix<S> reduce_width(const Matrix<S>& F) {
  const Index D = F.rows();
  if (F.cols() <= D) return F;
  const Eigen::HouseholderQR<Matrix<S>> qr(F.transpose());
  Matrix<S> L = qr.matrixQR().topRows(D).template triangularView<Eigen::Upper>().transpose();
  for (Index j = 0; j < D; ++j)
    if (L(j, j) < S(0)) L.col(j) = -L.col(j);
  return L;
}

/// Matrix factorization: `f(w, X_n) = <M(w), X_n>` with `M = U V^T` (d1 x d2), or `M = U U^T` (d x d) when `symmetric`,
/// factors of width k (Woodworth et al. 2020, Section 6). `Kind` says how a row of X stands for X_n: DenseMeasurements
/// (its d1 d2 entries), MatrixEntries (the indices of an observed entry: matrix completion), DiagonalMeasurements.
///
/// The parameters are one vector: the rows of U, k numbers each, then those of V: the stack F = [U; V], D x k, row
/// after row (D = d1 + d2, or d). The loss is the plain sum of squares, so with `A = 2 sum_n r_n X_n` the gradient flow
/// is `U' = -A V`, `V' = -A^T U`, along which `U^T U - V^T V` is constant.
///
/// A Model, HasJvp, for U V^T HasInvariant, and a LinearPredictor where a row of X is linear in X_n (not for entries).
/// Immutable; `predict`, `vjp`, `jvp` and `beta` do not allocate, and cost O(d1 d2 (k + N)) for dense measurements, O(N
/// k) for entries. The LiftedFlow of the same model is far cheaper than its GradientFlow, and any width reduces to D.
template <class S, class Kind = DenseMeasurements, bool symmetric = false>
class MatrixFactorization {
 public:
  /// Number type.
  using Scalar = S;
  /// `beta` and `invariant` depend on the measurements and the symmetry.
  static constexpr bool has_conditional_members = true;
  /// How a row of X is read.
  using Measurements = Kind;

  /// `U V^T`, rows x cols, of width k. Throws DimensionError unless all are positive.
  MatrixFactorization(Index rows, Index cols, Index width) requires(!symmetric)
      : MatrixFactorization(FactorShape::general(rows, cols), width) {}

  /// `U U^T`, size x size, of width k. Throws DimensionError unless both are positive.
  MatrixFactorization(Index size, Index width) requires symmetric
      : MatrixFactorization(FactorShape::symmetric(size), width) {}

  /// Shape of M.
  [[nodiscard]] const FactorShape& shape() const { return shape_; }
  /// k, the columns of the factors.
  [[nodiscard]] Index width() const { return width_; }
  /// P = D k.
  [[nodiscard]] Index num_parameters() const { return shape_.stack_size() * width_; }
  /// The model is homogeneous of this degree: f(c w, x) = c^2 f(w, x).
  [[nodiscard]] static constexpr int homogeneity() { return 2; }

  /// The same model at another width.
  [[nodiscard]] MatrixFactorization with_width(Index width) const { return {shape_, width}; }
  /// The same model at the width that is as good as its own: min(k, D).
  [[nodiscard]] MatrixFactorization reduced() const { return {shape_, std::min(width_, shape_.stack_size())}; }

  /// Independent entries `N(0, alpha^2)`, drawn in the order of w. Throws ArgumentError where alpha is outside the
  /// range of S.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, BasicScale<S> scale) const;

  /// Parameters of `reduced()` with the law of reduced `initial_parameters`: alpha times a Wishart factor of k degrees
  /// of freedom. Costs the same for any k beyond D, 10^9 included. Throws as `initial_parameters`.
  [[nodiscard]] Vector<S> reduced_initial_parameters(RandomStream& random, BasicScale<S> scale) const;

  /// Parameters of `reduced()` whose gradient flow has the predictor of that from w, at all times. Cost O(D^2 k).
  [[nodiscard]] Vector<S> reduce(ConstVectorRef<S> w) const { return reduced().pack(reduce_width<S>(stack(w))); }

  /// w of the stack F (D x k).
  [[nodiscard]] Vector<S> pack(const Matrix<S>& F) const;

  /// The stack F (D x k) of w.
  [[nodiscard]] Matrix<S> stack(ConstVectorRef<S> w) const { return transposed(w).transpose(); }

  /// The matrix M (d1 x d2) of w. Cost O(d1 d2 k).
  [[nodiscard]] Matrix<S> product(ConstVectorRef<S> w) const;

  /// Features of an input: d1 d2 for dense measurements, min(d1, d2) for diagonal ones.
  [[nodiscard]] Index input_dimension() const requires(Kind::is_linear) { return Kind::num_features(shape_); }

  /// The predictor as a vector: vec(M), column after column, or the diagonal of M.
  void beta(ConstVectorRef<S> w, VectorRef<S> out) const requires(Kind::is_linear) {
    if constexpr (Kind::is_linear) {  // clang 14 compiles it also where the clause above says no
      require_size("out", out.size(), input_dimension());
      const auto T = transposed(w);
      for (Index i = 0; i < out.size(); ++i) {
        const auto [row, col] = Kind::feature_position(shape_, i);
        out[i] = T.col(row).dot(T.col(shape_.second() + col));
      }
    }
  }

  /// `out_n = <M, X_n>`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const;

  /// `out = J(w)^T r`, P values: with `A = sum_n r_n X_n` the rows of A V and of A^T U, or those of `(A + A^T) U`.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const;

  /// `out = J(w) v`, N values: `<X_n, dU V^T + U dV^T>`, v the stack [dU; dV].
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const;

  /// `U^T U - V^T V`, k^2 values: constant along every gradient flow, and drifting by O(step) under descent.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const requires(!symmetric) {
    const auto T = transposed(w);
    const auto top = T.leftCols(shape_.rows());
    const auto bottom = T.rightCols(shape_.cols());
    const Matrix<S> difference = top * top.transpose() - bottom * bottom.transpose();
    return Eigen::Map<const Vector<S>>(difference.data(), difference.size());
  }

 private:
  MatrixFactorization(FactorShape shape, Index width);

  [[nodiscard]] Eigen::Map<const Matrix<S>> transposed(const ConstVectorRef<S>& w) const;

  void check(const ConstMatrixRef<S>& X, Index num_samples) const;

  static S representable(BasicScale<S> scale);

  FactorShape shape_;
  Index width_;
};

template <class S, class Kind, bool symmetric>
Vector<S> MatrixFactorization<S, Kind, symmetric>::initial_parameters(RandomStream& random, BasicScale<S> scale) const {
  return representable(scale) * normal_vector<S>(random, num_parameters());
}

template <class S, class Kind, bool symmetric>
Vector<S> MatrixFactorization<S, Kind, symmetric>::reduced_initial_parameters(RandomStream& random,
                                                                              BasicScale<S> scale) const {
  return reduced().pack(representable(scale) * wishart_factor<S>(random, shape_.stack_size(), width_));
}

template <class S, class Kind, bool symmetric>
Vector<S> MatrixFactorization<S, Kind, symmetric>::pack(const Matrix<S>& F) const {
  require<DimensionError>(F.rows() == shape_.stack_size() && F.cols() == width_, "the stack is ", F.rows(), " x ",
                          F.cols(), " where ", shape_.stack_size(), " x ", width_, " is needed");
  const Matrix<S> T = F.transpose();
  return Eigen::Map<const Vector<S>>(T.data(), T.size());
}

template <class S, class Kind, bool symmetric>
Matrix<S> MatrixFactorization<S, Kind, symmetric>::product(ConstVectorRef<S> w) const {
  const auto T = transposed(w);
  Matrix<S> M(shape_.rows(), shape_.cols());
  detail::product_of_transposed<S>(T.leftCols(shape_.rows()), T.middleCols(shape_.second(), shape_.cols()), M);
  return M;
}

template <class S, class Kind, bool symmetric>
void MatrixFactorization<S, Kind, symmetric>::predict(ConstVectorRef<S> w, ConstMatrixRef<S> X,
                                                      VectorRef<S> out) const {
  check(X, out.size());
  const auto T = transposed(w);
  out.setZero();
  Kind::template add_pairing<S>(shape_, X, T, T, out);
}

template <class S, class Kind, bool symmetric>
void MatrixFactorization<S, Kind, symmetric>::vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r,
                                                  VectorRef<S> out) const {
  check(X, r.size());
  require_size("out", out.size(), num_parameters());
  out.setZero();
  Kind::template add_pullback<S>(shape_, X, r, transposed(w),
                                 Eigen::Map<Matrix<S>>(out.data(), width_, shape_.stack_size()));
}

template <class S, class Kind, bool symmetric>
void MatrixFactorization<S, Kind, symmetric>::jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v,
                                                  VectorRef<S> out) const {
  check(X, out.size());
  require_size("v", v.size(), num_parameters());
  const auto T = transposed(w);
  const auto dT = transposed(v);
  out.setZero();
  Kind::template add_pairing<S>(shape_, X, dT, T, out);
  Kind::template add_pairing<S>(shape_, X, T, dT, out);
}

template <class S, class Kind, bool symmetric>
MatrixFactorization<S, Kind, symmetric>::MatrixFactorization(FactorShape shape, Index width)
    : shape_(shape), width_(width) {
  require<DimensionError>(width > 0, "a factorization needs width k > 0, got ", width);
}

template <class S, class Kind, bool symmetric>
Eigen::Map<const Matrix<S>> MatrixFactorization<S, Kind, symmetric>::transposed(const ConstVectorRef<S>& w) const {
  require_size("w", w.size(), num_parameters());
  return {w.data(), width_, shape_.stack_size()};
}

template <class S, class Kind, bool symmetric>
void MatrixFactorization<S, Kind, symmetric>::check(const ConstMatrixRef<S>& X, Index num_samples) const {
  Kind::template check<S>(shape_, X);
  require_size("the vector over samples", num_samples, X.rows());
}

template <class S, class Kind, bool symmetric>
S MatrixFactorization<S, Kind, symmetric>::representable(BasicScale<S> scale) {
  using std::isfinite;
  const S alpha = scale.value();
  require(alpha > S(0) && isfinite(alpha), "log alpha = ", scale.log(),
          " puts alpha outside the range of the scalar type");
  return alpha;
}

/// `M = U U^T`.
template <class S, class Kind = DenseMeasurements>
using SymmetricFactorization = MatrixFactorization<S, Kind, true>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MATRIX_FACTORIZATION(prefix, S)                 \
  prefix template class MatrixFactorization<S, DenseMeasurements, false>;    \
  prefix template class MatrixFactorization<S, DenseMeasurements, true>;     \
  prefix template class MatrixFactorization<S, MatrixEntries, false>;        \
  prefix template class MatrixFactorization<S, MatrixEntries, true>;         \
  prefix template class MatrixFactorization<S, DiagonalMeasurements, false>; \
  prefix template class MatrixFactorization<S, DiagonalMeasurements, true>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MATRIX_FACTORIZATION)
