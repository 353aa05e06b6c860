#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/cholesky.hpp"
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
  [[nodiscard]] bool is_kept_well_conditioned() const { return is_well_conditioned(kept_); }

  /// `out ~ H^{-1} rhs` to the given relative residual. False when the factorization has become too old to serve.
  /// Cost: two products with X for each iteration.
  bool solve(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& rhs, S tolerance, Index max_iterations,
             Vector<S>& out);

  /// Conjugate-gradient iterations of all solves.
  [[nodiscard]] Index iterations() const { return iterations_; }

  /// True where the lift of the diagonal is felt beside the smallest pivot, but that is not all lift: then the
  /// directions it belongs to are invisible.
  [[nodiscard]] bool is_lift_felt() const;

 private:
  void precondition(const Vector<S>& v, Vector<S>& out) const;
  void apply(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& v, Vector<S>& out);

  bool is_graded_ = false;
  Vector<S> squared_norms_;  // of the columns of X
  Matrix<S> H_;
  Matrix<S> columns_;
  Eigen::LLT<Matrix<S>> cholesky_;
  Vector<S> lift_, lift_size_;  // added to the diagonal of H, and in units of what
  S factor_scale_{1};           // cholesky_ factors H / factor_scale_
  Eigen::LLT<Matrix<S>> kept_;
  Vector<S> kept_lift_;
  Index iterations_ = 0;
  Vector<S> residual_, preconditioned_, direction_, image_, scratch_;
};

template <class S>
void HessianSolver<S>::reset(const Matrix<S>& X, bool is_graded) {
  is_graded_ = is_graded;
  squared_norms_ = squared_norms_of_columns(X);
  for (Vector<S>* v : {&residual_, &preconditioned_, &direction_, &image_}) v->setZero(X.rows());
  scratch_.setZero(X.cols());
  H_.resize(X.rows(), X.rows());
}

template <class S>
void HessianSolver<S>::factorize(const Matrix<S>& X, const Vector<S>& beta, const Vector<S>& curvature) {
  using std::sqrt;
  const S visible = is_graded_ ? S(0)
                               : S((curvature.array() * squared_norms_.array()).maxCoeff()) * S(1e-3) *
                                     Eigen::NumTraits<S>::epsilon() / static_cast<S>(curvature.size());
  constexpr Index block = 256;  // a buffer of N x d would be fresh, cold memory
  columns_.resize(X.rows(), std::min(block, X.cols()));
  H_.setZero();
  Index filled = 0;
  for (Index i = 0; i < curvature.size(); ++i) {
    if (!(curvature[i] * squared_norms_[i] > visible)) continue;
    columns_.col(filled++) = sqrt(curvature[i]) * X.col(i);
    if (filled < columns_.cols()) continue;
    add_lower_gram<S>(columns_, S(1), H_);
    filled = 0;
  }
  add_lower_gram<S>(columns_.leftCols(filled), S(1), H_);
  const S size = H_.diagonal().maxCoeff();
  // In rows of graded size each diagonal entry counts by itself, down to the rounding of its row of X beta.
  lift_size_.setConstant(X.rows(), size);
  if (is_graded_) {
    const Vector<S> terms = sizes_of_terms(X, beta);
    for (Index n = 0; n < terms.size(); ++n)
      if (const S own = std::max(terms[n], H_(n, n)); own > S(0)) lift_size_[n] = own;
  }
  lift_.setZero(X.rows());
  for (S lift = S(64) * Eigen::NumTraits<S>::epsilon();; lift *= S(100)) {
    H_.diagonal() += lift * lift_size_;
    lift_ += lift * lift_size_;
    compute_cholesky(H_, cholesky_);
    if (cholesky_.info() == Eigen::Success || lift > S(1)) break;
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
  solve_in_place(kept_, out);
}

template <class S>
void HessianSolver<S>::precondition(const Vector<S>& v, Vector<S>& out) const {
  out = factor_scale_ * v;
  solve_in_place(cholesky_, out);
}

template <class S>
void HessianSolver<S>::apply(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& v, Vector<S>& out) {
  multiply_transposed(X, v, scratch_);
  scratch_.array() *= curvature.array();
  multiply(X, scratch_, out);
  // Without the lift, rounding errors of the right-hand side blow up where the Hessian vanishes.
  out += lift_.cwiseProduct(v) / factor_scale_;
}

template <class S>
bool HessianSolver<S>::solve(const Matrix<S>& X, const Vector<S>& curvature, const Vector<S>& rhs, S tolerance,
                             Index max_iterations, Vector<S>& out) {
  out.setZero();
  residual_ = rhs;
  const S goal = tolerance * rhs.norm();
  precondition(residual_, preconditioned_);
  direction_ = preconditioned_;
  S rs = residual_.dot(preconditioned_);
  for (Index k = 0; k < max_iterations; ++k) {
    if (!(rs > S(0))) return true;
    apply(X, curvature, direction_, image_);
    ++iterations_;
    const S slope = direction_.dot(image_);
    if (!(slope > S(0))) return k > 0;
    const S a = rs / slope;
    out += a * direction_;
    residual_ -= a * image_;
    if (residual_.norm() <= goal) return true;
    precondition(residual_, preconditioned_);
    const S next = residual_.dot(preconditioned_);
    direction_ = preconditioned_ + (next / rs) * direction_;
    rs = next;
  }
  return false;
}

template <class S>
bool HessianSolver<S>::is_lift_felt() const {
  const S lifts = (cholesky_.matrixLLT().diagonal().array().square() / lift_.array()).minCoeff();
  return lifts < S(1e6) && lifts > S(4);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_HESSIAN_SOLVER(prefix, S) prefix template class detail::HessianSolver<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_HESSIAN_SOLVER)
