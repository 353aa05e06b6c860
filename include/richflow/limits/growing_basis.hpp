#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/triangular.hpp"

namespace richflow::detail {

/// Some independent columns of a matrix as `Q R`, to which others are added and from which some are taken out: what
/// the active sets of the margin problems live on. Gram and Schmidt's method, twice for each column.
template <class S>
class GrowingBasis {
 public:
  /// No columns yet. `columns` (d x N) must outlive it.
  explicit GrowingBasis(const Matrix<S>& columns);

  /// The columns it holds, in the order in which they came.
  [[nodiscard]] const std::vector<Index>& chosen() const { return chosen_; }
  /// How many.
  [[nodiscard]] Index size() const { return static_cast<Index>(chosen_.size()); }

  /// Adds column n. False, and nothing changes, where all but `tolerance` of its length is in the span of the others.
  /// Cost O(d k).
  bool append(Index n, S tolerance);

  /// Takes out the k-th. Cost O(d k^2) at most.
  void erase(Index k);

  /// Takes out all.
  void clear() { chosen_.clear(); }

  /// The combination of the columns that is nearest to v: its coefficients, and `rest`, what is left of v, orthogonal
  /// to all columns relative to its own length. Cost O(d k).
  void project(const Vector<S>& v, Vector<S>& coefficients, Vector<S>& rest) const;

  /// The shortest b with `<column, b> = 1` for each column, and the k multipliers nu with `b = sum nu_k column_k`.
  void least_solution(Vector<S>& b, Vector<S>& nu) const;

 private:
  /// Orthogonalizes v, of d values, and adds its coordinates to `coordinates`.
  void orthogonalize(S* v, S* coordinates) const;

  const Matrix<S>* columns_;
  std::vector<Index> chosen_ = {};
  Matrix<S> Q_, R_;
  mutable Vector<S> scratch_;
};

template <class S>
GrowingBasis<S>::GrowingBasis(const Matrix<S>& columns) : columns_(&columns) {
  const Index most = std::min(columns.rows(), columns.cols());
  Q_.setZero(columns.rows(), most);
  R_.setZero(most, most);
  scratch_.setZero(std::max<Index>(most, 1));
}

template <class S>
void GrowingBasis<S>::orthogonalize(S* v, S* coordinates) const {
  const Index d = columns_->rows();
  const Index k = size();
  for (int pass = 0; pass < 2; ++pass) {
    scratch_.setZero();
    add_transposed_image(S(1), Q_.data(), d, d, k, v, scratch_.data());
    add_image(S(-1), Q_.data(), d, d, k, scratch_.data(), v);
    for (Index j = 0; j < k; ++j) coordinates[j] += scratch_[j];
  }
}

template <class S>
bool GrowingBasis<S>::append(Index n, S tolerance) {
  const Index k = size();
  if (k == Q_.cols()) return false;
  Vector<S> rest = columns_->col(n);
  const S length = norm(rest);
  Vector<S> coordinates = Vector<S>::Zero(Q_.cols());
  orthogonalize(rest.data(), coordinates.data());
  const S left = norm(rest);
  if (!(left > tolerance * length)) return false;
  for (Index j = 0; j < k; ++j) R_(j, k) = coordinates[j];
  R_(k, k) = left;
  for (Index i = 0; i < rest.size(); ++i) Q_(i, k) = rest[i] / left;
  chosen_.push_back(n);
  return true;
}

template <class S>
void GrowingBasis<S>::erase(Index k) {
  const auto position = chosen_.begin() + static_cast<std::ptrdiff_t>(k);
  const std::vector<Index> later(position + 1, chosen_.end());
  chosen_.erase(position, chosen_.end());
  for (const Index n : later) append(n, S(0));
}

template <class S>
void GrowingBasis<S>::project(const Vector<S>& v, Vector<S>& coefficients, Vector<S>& rest) const {
  const Index k = size();
  rest = v;
  Vector<S> coordinates = Vector<S>::Zero(Q_.cols());
  orthogonalize(rest.data(), coordinates.data());
  coefficients = coordinates.head(k);
  solve_upper(R_, coefficients);
}

template <class S>
void GrowingBasis<S>::least_solution(Vector<S>& b, Vector<S>& nu) const {
  nu.setOnes(size());
  solve_upper_transposed(R_, nu);
  b.setZero(columns_->rows());
  add_image(S(1), Q_.data(), columns_->rows(), columns_->rows(), size(), nu.data(), b.data());
  solve_upper(R_, nu);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_GROWING_BASIS(prefix, S) prefix template class detail::GrowingBasis<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_GROWING_BASIS)
