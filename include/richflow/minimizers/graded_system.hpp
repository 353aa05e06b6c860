#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/order.hpp"
#include "richflow/linalg/pivoted_qr.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/triangular.hpp"

namespace richflow::detail {

/// Systems `X C X^T step = X C wish + rhs` whose weights C (positive, one per column of X) differ by more than working
/// precision and yet all count: Newton steps of a bounded mirror map at great depth and tiny alpha, where every
/// factorization of `X C X^T` loses the small weights.
///
/// A QR of `C^(1/2) X^T` with its rows sorted by size has errors relative to each row, `= Q R P^T`. In the basis
/// `B = X^T P R^-1 = C^-1/2 Q` a solution `step = P R^-1 u` moves `z = X^T step = B u` without the cancellation of that
/// product, and the system with other weights C' is `B^T C' B u = B^T C' wish + R^-T P^T rhs`, near the identity as
/// long as C' is near C: one factorization serves several systems by conjugate gradients.
template <class S>
class GradedSystem {
 public:
  /// Factors at `weights`. Cost: a QR of d x N, and its Q.
  void factorize(const Matrix<S>& X, const Vector<S>& weights);

  /// Whether there is a factorization.
  [[nodiscard]] bool is_factored() const { return basis_.size() > 0; }
  /// Whether it has served one solve at most.
  [[nodiscard]] bool is_fresh() const { return solves_ <= 1; }
  /// Forgets the factorization.
  void clear() { basis_.resize(0, 0); }

  /// `step` (N values) and `step_z = X^T step` for the present `weights`, to the given relative accuracy. False when
  /// the factorization is too old to reach that. What is left of `rhs` below `rounding` in a direction is not fitted:
  /// where only columns that cannot be seen have it, it would call for an endless step.
  bool solve(const Matrix<S>& X, const Vector<S>& weights, const Vector<S>& wish, const Vector<S>& rhs, S rounding,
             S accuracy, Vector<S>& step, Vector<S>& step_z);

  /// The largest entry of the last `rhs` that no column with a weight reaches.
  [[nodiscard]] S unreached() const { return unreached_; }

  /// Conjugate-gradient iterations of all solves.
  [[nodiscard]] Index iterations() const { return iterations_; }

 private:
  static constexpr Index max_iterations = 16;

  [[nodiscard]] Index at(Index k) const { return order_[static_cast<std::size_t>(k)]; }

  bool conjugate_gradients(const Vector<S>& weights, S accuracy);

  [[nodiscard]] S outer_norm();

  PivotedQr<S> qr_;
  Matrix<S> basis_;           // B, d x rank
  std::vector<Index> order_;  // the row of qr_ -> the column of X
  std::vector<Index> weightless_;
  Index rank_ = 0;
  S unreached_{0};
  Index iterations_ = 0;
  Index solves_ = 0;  // since the factorization
  Vector<S> size_, weighted_, residual_, solution_, direction_, image_;
};

template <class S>
void GradedSystem<S>::factorize(const Matrix<S>& X, const Vector<S>& weights) {
  using std::sqrt;
  const Index d = X.cols();
  multiply_entries(weights, squared_norms_of_columns(X), size_);
  order_ = decreasing_order(size_);
  const Index n = X.rows();
  const Index rows = std::max(d, n);
  Matrix<S> sorted = Matrix<S>::Zero(rows, n);
  for (Index k = 0; k < d; ++k) {
    const S root = sqrt(weights[at(k)]);
    for (Index j = 0; j < n; ++j) sorted(k, j) = root * X(j, at(k));
  }
  qr_.compute(sorted);
  // Not what Eigen takes for the rank: here small pivots are as good as large ones.
  rank_ = 0;
  while (rank_ < n && qr_.upper()(rank_, rank_) != S(0)) ++rank_;
  sorted = qr_.leading_columns_of_q(rank_);
  basis_.resize(d, rank_);
  weightless_.clear();
  for (Index k = 0; k < d; ++k) {
    const Index i = at(k);
    const bool has_weight = weights[i] > S(0);
    const S root = has_weight ? S(sqrt(weights[i])) : S(1);
    for (Index j = 0; j < rank_; ++j) basis_(i, j) = has_weight ? S(sorted(k, j) / root) : S(0);
    if (!has_weight) weightless_.push_back(i);
  }
  solves_ = 0;
}

template <class S>
bool GradedSystem<S>::solve(const Matrix<S>& X, const Vector<S>& weights, const Vector<S>& wish, const Vector<S>& rhs,
                            S rounding, S accuracy, Vector<S>& step, Vector<S>& step_z) {
  using std::abs;
  ++solves_;
  for (const Index i : weightless_)
    if (weights[i] > S(0)) return false;
  image_.resize(rhs.size());
  for (Index k = 0; k < rhs.size(); ++k) image_[k] = rhs[qr_.column(k)];
  const auto& R = qr_.upper();
  residual_.resize(rank_);
  for (Index k = 0; k < rank_; ++k) {
    const S left = image_[k] - inner_product(&R(0, k), residual_.data(), k);
    residual_[k] = abs(left) <= rounding ? S(0) : left / R(k, k);
  }
  unreached_ = S(0);
  for (Index k = rank_; k < image_.size(); ++k)
    unreached_ = std::max(unreached_, S(abs(image_[k] - inner_product(&R(0, k), residual_.data(), rank_))));
  multiply_entries(weights, wish, weighted_);
  add_transposed_product(basis_, weighted_, residual_);
  solution_.setZero(rank_);
  // Tiny pivots make entries whose squares overflow.
  const S size = largest_size(residual_);
  if (size > S(0))
    for (Index k = 0; k < rank_; ++k) residual_[k] /= size;
  const bool is_solved = conjugate_gradients(weights, accuracy);
  multiple(size, solution_, solution_);
  multiply(basis_, solution_, step_z);
  solve_upper(qr_.upper(), solution_);
  step.setZero(qr_.cols());
  for (Index k = 0; k < rank_; ++k) step[qr_.column(k)] = solution_[k];
  for (const Index i : weightless_) step_z[i] = inner_product(X.data() + i * X.rows(), step.data(), X.rows());
  return is_solved;
}

template <class S>
bool GradedSystem<S>::conjugate_gradients(const Vector<S>& weights, S accuracy) {
  direction_ = residual_;
  S square = inner_product(residual_, residual_);
  // Small pivots make large entries, so that the residual has to be small also where it came from, as R^T residual.
  const S goal = accuracy * accuracy * square;
  const S outer_goal = accuracy * outer_norm();
  for (Index k = 0; k < max_iterations; ++k) {
    if (!(square > goal) && outer_norm() <= outer_goal) return true;
    multiply(basis_, direction_, weighted_);
    multiply_entries(weighted_, weights, weighted_);
    multiply_transposed(basis_, weighted_, image_);
    ++iterations_;
    const S curvature = inner_product(direction_, image_);
    if (!(curvature > S(0))) return false;
    const S length = square / curvature;
    add_multiple(length, direction_, solution_);
    add_multiple(S(-length), image_, residual_);
    const S next = inner_product(residual_, residual_);
    sum_with_multiple(residual_, S(next / square), direction_, direction_);
    square = next;
  }
  return !(square > goal) && outer_norm() <= outer_goal;
}

template <class S>
S GradedSystem<S>::outer_norm() {
  multiply_upper_transposed(qr_.upper(), residual_, image_);
  return largest_size(image_);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_GRADED_SYSTEM(prefix, S) prefix template class detail::GradedSystem<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_GRADED_SYSTEM)
