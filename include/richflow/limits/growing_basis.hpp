#pragma once

#include <cstddef>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/updatable_qr.hpp"

namespace richflow::detail {

/// Some independent columns of a matrix, to which others are added and from which some are taken out, with their QR
/// factorization: what the active sets of the margin problems live on.
template <class S>
class GrowingBasis {
 public:
  /// No columns yet. `columns` (d x N) must outlive it.
  explicit GrowingBasis(const Matrix<S>& columns) : columns_(&columns) { clear(); }

  /// The columns it holds, in the order in which they came.
  [[nodiscard]] const std::vector<Index>& chosen() const { return chosen_; }
  /// How many.
  [[nodiscard]] Index size() const { return qr_.cols(); }

  /// Adds column n. False, and nothing changes, where all but `tolerance` of its length is in the span of the others.
  /// Cost O(d k).
  bool append(Index n, S tolerance) {
    if (!qr_.append(columns_->data() + n * columns_->rows(), tolerance)) return false;
    chosen_.push_back(n);
    return true;
  }

  /// Takes out the k-th. Cost O(d k).
  void erase(Index k) {
    qr_.remove(k);
    chosen_.erase(chosen_.begin() + static_cast<std::ptrdiff_t>(k));
  }

  /// Takes out all.
  void clear() {
    qr_.reset(columns_->rows());
    chosen_.clear();
  }

  /// The combination of the columns that is nearest to v: its coefficients, and `rest`, what is left of v, orthogonal
  /// to all columns relative to its own length. Cost O(d k).
  void project(const Vector<S>& v, Vector<S>& coefficients, Vector<S>& rest) const {
    qr_.project(v, coefficients, rest);
  }

  /// The shortest b with `<column, b> = 1` for each column, and the k multipliers nu with `b = sum nu_k column_k`. Cost
  /// O(d k).
  void least_solution(Vector<S>& b, Vector<S>& nu) const {
    nu.setOnes(size());
    least_solution_for(b, nu);
  }

  /// The same for `<column_k, b> = nu_k` with the nu given.
  void least_solution_for(Vector<S>& b, Vector<S>& nu) const {
    qr_.solve_transposed(nu, b);
    qr_.solve_gram(nu);
  }

 private:
  const Matrix<S>* columns_;
  std::vector<Index> chosen_ = {};
  UpdatableQr<S> qr_ = {};
};

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_GROWING_BASIS(prefix, S) prefix template class detail::GrowingBasis<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_GROWING_BASIS)
