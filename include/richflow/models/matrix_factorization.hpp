#pragma once

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <memory>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/evaluation.hpp"

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
/// factors of width k (Woodworth et al. 2020, Section 6; docs/theory.md, section 5.1). Its samples are
/// MatrixMeasurements of M, of any kind: observed entries (matrix completion), general or diagonal ones, or your own.
///
///     const MatrixMeasurements<double> X = MatrixMeasurements<double>::entries(10, 10, {{0, 3}, {7, 7}});
///     const Dataset data(X, y);
///     const MatrixFactorization<double> model(10, 10, width);
///     const GradientFlow flow(model, data);
///
/// The parameters are one vector: the rows of U, k numbers each, then those of V: the stack F = [U; V], D x k, row
/// after row (D = d1 + d2, or d). The loss is the plain sum of squares, so with `A = 2 sum_n r_n X_n` the gradient flow
/// is `U' = -A V`, `V' = -A^T U`, along which `U^T U - V^T V` is constant.
///
/// A Model with its own evaluation, HasJvp, HasHessianProduct, a LinearPredictor of `vec(X_n)`, for U V^T HasInvariant.
/// Immutable; `predict`, `vjp`, `jvp` and `beta` do not allocate (with the measurements of richflow), and cost O(d1 d2
/// (k + N)) for dense measurements, O(N k) for entries. The LiftedFlow of the same model is far cheaper than its
/// GradientFlow, and any width reduces to D.
template <class S = double, bool symmetric = false>
class MatrixFactorization {
 public:
  using Scalar = S;
  /// What it is evaluated on.
  using Samples = MatrixMeasurements<S>;
  /// `invariant` depends on the symmetry.
  static constexpr bool has_conditional_members = true;

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
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, Scale<S> scale) const;

  /// Parameters of `reduced()` with the law of reduced `initial_parameters`: alpha times a Wishart factor of k degrees
  /// of freedom. Costs the same for any k beyond D, 10^9 included. Throws as `initial_parameters`.
  [[nodiscard]] Vector<S> reduced_initial_parameters(RandomStream& random, Scale<S> scale) const;

  /// Parameters of `reduced()` whose gradient flow has the predictor of that from w, at all times. Cost O(D^2 k).
  [[nodiscard]] Vector<S> reduce(ConstVectorRef<S> w) const { return reduced().pack(reduce_width<S>(stack(w))); }

  /// w of the stack F (D x k).
  [[nodiscard]] Vector<S> pack(const Matrix<S>& F) const;

  /// The stack F (D x k) of w.
  [[nodiscard]] Matrix<S> stack(ConstVectorRef<S> w) const { return transposed(w).transpose(); }

  /// The matrix M (d1 x d2) of w. Cost O(d1 d2 k).
  [[nodiscard]] Matrix<S> product(ConstVectorRef<S> w) const;

  /// d1 d2, the numbers of an X_n.
  [[nodiscard]] Index num_inputs() const { return shape_.rows() * shape_.cols(); }

  /// The predictor as a vector: vec(M), column after column. Cost O(d1 d2 k).
  void beta(ConstVectorRef<S> w, VectorRef<S> out) const;

  /// `out_n = <M, X_n>`, N values.
  void predict(ConstVectorRef<S> w, const MatrixMeasurements<S>& X, VectorRef<S> out) const;

  /// `out = J(w)^T r`, P values: with `A = sum_n r_n X_n` the rows of A V and of A^T U, or those of `(A + A^T) U`.
  void vjp(ConstVectorRef<S> w, const MatrixMeasurements<S>& X, ConstVectorRef<S> r, VectorRef<S> out) const;

  /// `out = J(w) v`, N values: `<X_n, dU V^T + U dV^T>`, v the stack [dU; dV].
  void jvp(ConstVectorRef<S> w, const MatrixMeasurements<S>& X, ConstVectorRef<S> v, VectorRef<S> out) const;

  /// Memory for at most `max_batch` measurements. The kernel is that of MatrixMeasurements where it costs no more than
  /// gradients do: for entries and diagonals unless there are fewer of them than D, for others at widths k >= D.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const;

  /// `out = sum_n r_n (d^2 f(w, X_n) / dw^2) v`, P values: `vjp` at v, for f is quadratic in w.
  void hessian_product(ConstVectorRef<S> w, const MatrixMeasurements<S>& X, ConstVectorRef<S> r, ConstVectorRef<S> v,
                       VectorRef<S> out) const;

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

  void check(const MatrixMeasurements<S>& X, Index num_samples) const;

  static S representable(Scale<S> scale);

  FactorShape shape_;
  Index width_;
};

template <class S, bool symmetric>
Vector<S> MatrixFactorization<S, symmetric>::initial_parameters(RandomStream& random, Scale<S> scale) const {
  return representable(scale) * normal_vector<S>(random, num_parameters());
}

template <class S, bool symmetric>
Vector<S> MatrixFactorization<S, symmetric>::reduced_initial_parameters(RandomStream& random, Scale<S> scale) const {
  return reduced().pack(representable(scale) * wishart_factor<S>(random, shape_.stack_size(), width_));
}

template <class S, bool symmetric>
Vector<S> MatrixFactorization<S, symmetric>::pack(const Matrix<S>& F) const {
  require<DimensionError>(F.rows() == shape_.stack_size() && F.cols() == width_, "the stack is ", F.rows(), " x ",
                          F.cols(), " where ", shape_.stack_size(), " x ", width_, " is needed");
  const Matrix<S> T = F.transpose();
  return Eigen::Map<const Vector<S>>(T.data(), T.size());
}

template <class S, bool symmetric>
Matrix<S> MatrixFactorization<S, symmetric>::product(ConstVectorRef<S> w) const {
  const auto T = transposed(w);
  Matrix<S> M(shape_.rows(), shape_.cols());
  detail::product_of_transposed<S>(T.leftCols(shape_.rows()), T.middleCols(shape_.second(), shape_.cols()), M);
  return M;
}

template <class S, bool symmetric>
void MatrixFactorization<S, symmetric>::beta(ConstVectorRef<S> w, VectorRef<S> out) const {
  require_size("out", out.size(), num_inputs());
  const auto T = transposed(w);
  Index f = 0;
  for (Index j = 0; j < shape_.cols(); ++j)
    for (Index i = 0; i < shape_.rows(); ++i) out[f++] = T.col(i).dot(T.col(shape_.second() + j));
}

template <class S, bool symmetric>
void MatrixFactorization<S, symmetric>::predict(ConstVectorRef<S> w, const MatrixMeasurements<S>& X,
                                                VectorRef<S> out) const {
  check(X, out.size());
  const auto T = transposed(w);
  out.setZero();
  X.operations().add_pairing(shape_, T, T, out);
}

template <class S, bool symmetric>
void MatrixFactorization<S, symmetric>::vjp(ConstVectorRef<S> w, const MatrixMeasurements<S>& X, ConstVectorRef<S> r,
                                            VectorRef<S> out) const {
  check(X, r.size());
  require_size("out", out.size(), num_parameters());
  out.setZero();
  X.operations().add_pullback(shape_, r, transposed(w), Eigen::Map<Matrix<S>>(out.data(), width_, shape_.stack_size()));
}

template <class S, bool symmetric>
void MatrixFactorization<S, symmetric>::jvp(ConstVectorRef<S> w, const MatrixMeasurements<S>& X, ConstVectorRef<S> v,
                                            VectorRef<S> out) const {
  check(X, out.size());
  require_size("v", v.size(), num_parameters());
  const auto T = transposed(w);
  const auto dT = transposed(v);
  out.setZero();
  X.operations().add_pairing(shape_, dT, T, out);
  X.operations().add_pairing(shape_, T, dT, out);
}

template <class S, bool symmetric>
void MatrixFactorization<S, symmetric>::hessian_product(ConstVectorRef<S> w, const MatrixMeasurements<S>& X,
                                                        ConstVectorRef<S> r, ConstVectorRef<S> v,
                                                        VectorRef<S> out) const {
  require_size("w", w.size(), num_parameters());
  require_size("v", v.size(), num_parameters());
  vjp(v, X, r, out);
}

template <class S, bool symmetric>
MatrixFactorization<S, symmetric>::MatrixFactorization(FactorShape shape, Index width) : shape_(shape), width_(width) {
  require<DimensionError>(width > 0, "a factorization needs width k > 0, got ", width);
}

template <class S, bool symmetric>
Eigen::Map<const Matrix<S>> MatrixFactorization<S, symmetric>::transposed(const ConstVectorRef<S>& w) const {
  require_size("w", w.size(), num_parameters());
  return {w.data(), width_, shape_.stack_size()};
}

template <class S, bool symmetric>
void MatrixFactorization<S, symmetric>::check(const MatrixMeasurements<S>& X, Index num_samples) const {
  X.require_shape(shape_);
  require_size("the vector over samples", num_samples, X.num_measurements());
}

template <class S, bool symmetric>
S MatrixFactorization<S, symmetric>::representable(Scale<S> scale) {
  using std::isfinite;
  const S alpha = scale.value();
  require(alpha > S(0) && isfinite(alpha), "log alpha = ", scale.log(),
          " puts alpha outside the range of the scalar type");
  return alpha;
}

namespace detail {

/// The evaluation of a factorization: its kernel is `tr(B_n B_m F F^T)`.
template <class S, bool symmetric>
class FactorizationEvaluation final : public ModelEvaluation<MatrixFactorization<S, symmetric>> {
  using Base = ModelEvaluation<MatrixFactorization<S, symmetric>>;

 public:
  using Base::Base;
  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<FactorizationEvaluation>(*this);
  }
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override;

 private:
  Matrix<S> identity_ = {};
  Matrix<S> squares_ = {};  // F F^T
  Matrix<S> scratch_ = {};
};

template <class S, bool symmetric>
void FactorizationEvaluation<S, symmetric>::kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) {
  const FactorShape& shape = this->model().shape();
  const Index D = shape.stack_size();
  const Index width = this->model().width();
  const MatrixMeasurements<S>& measurements = X.measurements();
  const bool is_sparse = as_kind<EntryMeasurements<S>>(measurements) != nullptr ||
                         as_kind<DiagonalMeasurements<S>>(measurements) != nullptr;
  if (is_sparse ? D > X.size() : D > width) {
    Base::kernel(w, X, form, K);
    return;
  }
  measurements.require_shape(shape);
  identity_.setIdentity(D, D);
  squares_.resize(D, D);
  scratch_.setZero(D, 3 * D);
  const Eigen::Map<const Matrix<S>> T(w.data(), width, D);
  product_of_transposed<S>(T, T, squares_);
  K.setZero();
  measurements.operations().kernel(shape, identity_, squares_, K, scratch_);
}

}  // namespace detail

template <class S, bool symmetric>
Evaluation<S> MatrixFactorization<S, symmetric>::make_evaluation(Index max_batch, ParallelOptions /*parallel*/) const {
  return Evaluation<S>(std::make_unique<detail::FactorizationEvaluation<S, symmetric>>(*this, max_batch));
}

/// `M = U U^T`.
template <class S>
using SymmetricFactorization = MatrixFactorization<S, true>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MATRIX_FACTORIZATION(prefix, S)       \
  prefix template class MatrixFactorization<S, false>;             \
  prefix template class MatrixFactorization<S, true>;              \
  prefix template class detail::FactorizationEvaluation<S, false>; \
  prefix template class detail::FactorizationEvaluation<S, true>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MATRIX_FACTORIZATION)
