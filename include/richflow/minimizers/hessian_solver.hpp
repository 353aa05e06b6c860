#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/cholesky.hpp"
#include "richflow/linalg/gram_sum.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"

namespace richflow::detail {

/// Systems `H step = rhs` with the Hessian `H = X diag(curvature) X^T` of the dual: by conjugate gradients,
/// preconditioned with a Cholesky factorization that may belong to other curvatures.
template <class S>
class HessianSolver {
 public:
  /// For these data; without factorization. `is_graded` where the sizes of the rows and columns differ much.
  void reset(const Matrix<S>& X, bool is_graded);

  /// Factors H, leaving out columns that are invisible at working precision, and lifting the diagonal where fewer than
  /// N columns count (sparse data at tiny alpha). Cost O(N^2 d).
  void factorize(const Matrix<S>& X, const Vector<S>& beta, const Vector<S>& curvature);

  /// Keeps the present factorization, of the kernel.
  void keep();
  /// Returns to it; H is `scale` times as large now.
  void restore(S scale);
  /// Solves with the one that was kept.
  void solve_kept(const Vector<S>& rhs, Vector<S>& out) const;
  [[nodiscard]] bool is_kept_well_conditioned() const { return kept_.is_well_conditioned(); }

  /// `out ~ H^{-1} rhs` to the given relative residual, and `out_z = X^T out`. False when the factorization has become
  /// too old to serve. Cost: two products with X for each iteration, in one pass over X.
  bool solve(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& rhs, S tolerance, Index max_iterations,
             Vector<S>& out, Vector<S>& out_z);

  /// How many times smaller the residual of the last solve became.
  [[nodiscard]] S reduction() const { return reduction_; }

  /// Conjugate-gradient iterations of all solves.
  [[nodiscard]] Index iterations() const { return iterations_; }

  /// True where the lift of the diagonal is felt beside the smallest pivot, but the pivot is not all lift: then the
  /// directions it belongs to are invisible.
  [[nodiscard]] bool is_lift_felt() const;

 private:
  // The rounding of the low precision might disturb smaller pivots, relative to the diagonal.
  static constexpr double visible_pivot = 1e-3;

  using Low = LowPrecision<S>;

  /// H_, with sums of the type Number.
  template <class Number>
  void form(const Matrix<S>& X, const Vector<S>& curvature, Matrix<Number>& columns, Matrix<Number>& gram);
  void lift_and_factor(const Matrix<S>& X, const Vector<S>& beta);

  void precondition(const Vector<S>& v, Vector<S>& out) const;
  /// `out = H v` and `v_z = X^T v`.
  void apply(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& v, Vector<S>& v_z, Vector<S>& out);

  bool is_graded_ = false;
  Vector<S> squared_norms_;  // of the columns of X
  Matrix<S> H_;
  Matrix<S> columns_;
  Matrix<Low> low_H_, low_columns_;
  Cholesky<S> cholesky_;
  Vector<S> lift_, lift_size_;  // added to the diagonal of H, and in units of what
  S factor_scale_{1};           // cholesky_ factors H / factor_scale_
  Cholesky<S> kept_;
  Vector<S> kept_lift_;
  Index iterations_ = 0;
  S reduction_{1};
  Vector<S> residual_, preconditioned_, direction_, direction_z_, image_;
};

template <class S>
void HessianSolver<S>::reset(const Matrix<S>& X, bool is_graded) {
  is_graded_ = is_graded;
  squared_norms_ = squared_norms_of_columns(X);
  for (Vector<S>* v : {&residual_, &preconditioned_, &direction_, &image_}) v->setZero(X.rows());
  direction_z_.setZero(X.cols());
  H_.resize(X.rows(), X.rows());
}

template <class S>
void HessianSolver<S>::factorize(const Matrix<S>& X, const Vector<S>& beta, const Vector<S>& curvature) {
  if (!std::is_same_v<Low, S> && !is_graded_) {
    form(X, curvature, low_columns_, low_H_);
    lift_and_factor(X, beta);
    S size(0);
    S smallest = std::numeric_limits<S>::infinity();
    for (Index n = 0; n < H_.rows(); ++n) {
      size = std::max(size, H_(n, n));
      smallest = std::min(smallest, cholesky_.pivot(n));
    }
    if (cholesky_.is_factored() && smallest > S(visible_pivot) * size) return;
  }
  form(X, curvature, columns_, H_);
  lift_and_factor(X, beta);
}

template <class S>
template <class Number>
void HessianSolver<S>::form(const Matrix<S>& X, const Vector<S>& curvature, Matrix<Number>& columns,
                            Matrix<Number>& gram) {
  using std::sqrt;
  constexpr bool is_low = !std::is_same_v<Number, S>;
  S largest(0);
  for (Index i = 0; i < curvature.size(); ++i) largest = std::max(largest, S(curvature[i] * squared_norms_[i]));
  const S visible =
      is_graded_ ? S(0) : largest * S(1e-3) * S(Eigen::NumTraits<Number>::epsilon()) / static_cast<S>(curvature.size());
  // In the range of the low precision.
  const S unit = is_low && largest > S(0) ? largest : S(1);
  gram.setZero(X.rows(), X.rows());
  GramSum<Number> sum(columns, Number(1), gram);
  for (Index i = 0; i < curvature.size(); ++i)
    if (curvature[i] * squared_norms_[i] > visible) sum.add(S(sqrt(curvature[i] / unit)), X.data() + i * X.rows());
  sum.finish();
  if constexpr (is_low) {
    H_.setZero();
    add_lower_triangle<S>(unit, gram, H_);
  }
}

template <class S>
void HessianSolver<S>::lift_and_factor(const Matrix<S>& X, const Vector<S>& beta) {
  S size(0);
  for (Index n = 0; n < H_.rows(); ++n) size = std::max(size, H_(n, n));
  // In rows of graded size each diagonal entry counts by itself, down to the rounding of its row of X beta.
  lift_size_.setConstant(X.rows(), size);
  if (is_graded_) {
    const Vector<S> terms = sizes_of_terms(X, beta);
    for (Index n = 0; n < terms.size(); ++n)
      if (const S own = std::max(terms[n], H_(n, n)); own > S(0)) lift_size_[n] = own;
  }
  lift_.setZero(X.rows());
  for (S lift = S(64) * Eigen::NumTraits<S>::epsilon();; lift *= S(100)) {
    for (Index n = 0; n < H_.rows(); ++n) H_(n, n) += lift * lift_size_[n];
    add_multiple(lift, lift_size_, lift_);
    if (cholesky_.compute(H_) || lift > S(1)) break;
  }
  factor_scale_ = S(1);
}

template <class S>
void HessianSolver<S>::keep() {
  kept_ = cholesky_;
  kept_lift_ = lift_;
}

template <class S>
void HessianSolver<S>::restore(S scale) {
  cholesky_ = kept_;
  lift_ = kept_lift_;
  factor_scale_ = scale;
}

template <class S>
void HessianSolver<S>::solve_kept(const Vector<S>& rhs, Vector<S>& out) const {
  out = rhs;
  kept_.solve_in_place(out);
}

template <class S>
void HessianSolver<S>::precondition(const Vector<S>& v, Vector<S>& out) const {
  multiple(factor_scale_, v, out);
  cholesky_.solve_in_place(out);
}

template <class S>
void HessianSolver<S>::apply(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& v, Vector<S>& v_z,
                             Vector<S>& out) {
  multiply_by_weighted_gram(X, curvature, v, v_z, out);
  // Without the lift, rounding errors of the right-hand side blow up where the Hessian vanishes.
  for (Index n = 0; n < v.size(); ++n) out[n] += lift_[n] * v[n] / factor_scale_;
}

template <class S>
bool HessianSolver<S>::solve(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& rhs, S tolerance,
                             Index max_iterations, Vector<S>& out, Vector<S>& out_z) {
  out.setZero();
  out_z.setZero();
  residual_ = rhs;
  const S start = norm(rhs);
  const S goal = tolerance * start;
  reduction_ = S(1);
  precondition(residual_, preconditioned_);
  direction_ = preconditioned_;
  S rs = inner_product(residual_, preconditioned_);
  for (Index k = 0; k < max_iterations; ++k) {
    if (!(rs > S(0))) return true;
    apply(X, curvature, direction_, direction_z_, image_);
    ++iterations_;
    const S slope = inner_product(direction_, image_);
    if (!(slope > S(0))) return k > 0;
    const S a = rs / slope;
    add_multiple(a, direction_, out);
    add_multiple(a, direction_z_, out_z);
    add_multiple(S(-a), image_, residual_);
    const S left = norm(residual_);
    reduction_ = start / left;
    if (left <= goal) return true;
    precondition(residual_, preconditioned_);
    const S next = inner_product(residual_, preconditioned_);
    sum_with_multiple(preconditioned_, S(next / rs), direction_, direction_);
    rs = next;
  }
  return false;
}

template <class S>
bool HessianSolver<S>::is_lift_felt() const {
  S lifts = std::numeric_limits<S>::infinity();
  for (Index n = 0; n < lift_.size(); ++n) lifts = std::min(lifts, cholesky_.pivot(n) / lift_[n]);
  return lifts < S(1e6) && lifts > S(4);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_HESSIAN_SOLVER(prefix, S) prefix template class detail::HessianSolver<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_HESSIAN_SOLVER)
