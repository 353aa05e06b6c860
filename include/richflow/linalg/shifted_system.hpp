#pragma once

#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/cholesky.hpp"

namespace richflow::detail {

/// Systems `(shift I + A) u = v` with one symmetric positive semidefinite A and many shifts: what the linearly implicit
/// steppers solve.
template <class S>
class ShiftedSystem {
 public:
  /// All memory for n x n.
  void allocate(Index n);

  /// A, which its owner fills in; only the lower triangle is read.
  [[nodiscard]] Matrix<S>& matrix() { return A_; }
  [[nodiscard]] const Matrix<S>& matrix() const { return A_; }

  /// Factors `shift I + A`; false where that is not positive definite or not finite. `is_graded` where the rows of A
  /// differ in size and each counts. Cost n^3 / 3; no allocation for up to some 500 rows.
  bool factorize(S shift, bool is_graded);

  /// `v = (shift I + A)^{-1} v`. Cost 2 n^2.
  void solve_in_place(Vector<S>& v) const { factor_.solve_in_place(v); }

 private:
  Matrix<S> A_;
  Cholesky<S> factor_;
  Vector<S> diagonal_;  // of A
};

template <class S>
void ShiftedSystem<S>::allocate(Index n) {
  A_.setZero(n, n);
  factor_.allocate(n);
  diagonal_.setZero(n);
}

template <class S>
bool ShiftedSystem<S>::factorize(S shift, bool is_graded) {
  // A carries rounding errors of this size, which for shift -> 0 would leave it indefinite where the field hardly
  // depends on y. As errors of the Jacobian they are below those of the step.
  const Index n = diagonal_.size();
  S trace(0);
  for (Index i = 0; i < n; ++i) trace += diagonal_[i] = A_(i, i);
  // Or each entry has rounding errors of its own size.
  const S rounding = is_graded ? S(0) : S(8) * std::numeric_limits<S>::epsilon() * trace;
  const S relative = is_graded ? S(8 * n) * std::numeric_limits<S>::epsilon() : S(0);
  for (Index i = 0; i < n; ++i) A_(i, i) = diagonal_[i] * (S(1) + relative) + (shift + rounding);
  const bool is_definite = factor_.compute(A_);
  for (Index i = 0; i < n; ++i) A_(i, i) = diagonal_[i];
  return is_definite;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_SHIFTED_SYSTEM(prefix, S) prefix template class detail::ShiftedSystem<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SHIFTED_SYSTEM)
