#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// The largest eigenvalue of a symmetric matrix of which only products are known.

namespace richflow::detail {

/// A symmetric matrix by its products.
template <class S>
class SymmetricOperator {
 public:
  virtual ~SymmetricOperator() = default;
  /// `out = A v`, n values, `v` of norm 1.
  virtual void apply(const Vector<S>& v, Vector<S>& out) = 0;

 protected:
  SymmetricOperator() = default;
  SymmetricOperator(const SymmetricOperator&) = default;
  SymmetricOperator& operator=(const SymmetricOperator&) = default;
};

/// Lanczos' method with full reorthogonalization for the algebraically largest eigenvalue, in memory that is made once:
/// `basis` vectors of n values. It starts from one and the same random vector, and where the basis is full it starts
/// again from the best vector in it.
template <class S>
class Lanczos {
 public:
  /// For n x n matrices, n and basis positive.
  Lanczos(Index n, Index basis, std::uint64_t seed);

  /// Until `|A v - value v| <= tolerance |value|` by the recurrence, or is rounding, with at most that many products.
  /// The value is never above the largest eigenvalue but for rounding.
  Status compute(SymmetricOperator<S>& A, S tolerance, Index max_products);

  [[nodiscard]] S value() const { return value_; }
  /// `|A v - value v|` by the recurrence.
  [[nodiscard]] S residual() const { return residual_; }
  /// v, of norm 1.
  [[nodiscard]] const Vector<S>& vector() const { return vector_; }
  /// Of the entries of T, about |A|.
  [[nodiscard]] S size() const { return size_; }
  /// Products of the last `compute`.
  [[nodiscard]] Index products() const { return products_; }

 private:
  /// Takes vector_ as column j of the basis and extends the tridiagonal matrix T by A times it, whose part orthogonal
  /// to the basis is left in image_. False where that is not finite.
  bool extend(SymmetricOperator<S>& A, Index j);
  void orthogonalize(Index columns);
  /// The largest eigenvalue of the leading T of that size, from that of the one before, and its eigenvector, which has
  /// positive entries.
  void solve(Index size);
  [[nodiscard]] bool is_above_spectrum(Index size, S shift) const;
  /// vector_ = the Ritz vector.
  void combine(Index size);

  Matrix<S> basis_;
  Vector<S> start_;
  Vector<S> vector_ = {};
  Vector<S> image_ = {};
  Vector<S> coefficients_ = {};
  Vector<S> diagonal_ = {};      // of T
  Vector<S> off_diagonal_ = {};  // entry j couples j and j + 1; nonnegative
  Vector<S> weights_ = {};       // the eigenvector of T, norm 1
  Vector<S> pivots_ = {};
  S size_ = S(0);  // of the entries of T
  S value_ = S(0);
  S residual_ = S(0);
  Index products_ = 0;
};

template <class S>
Lanczos<S>::Lanczos(Index n, Index basis, std::uint64_t seed) {
  const Index m = std::min(n, basis);
  basis_.setZero(n, m);
  start_.resize(n);
  RandomStream random(seed);
  for (S& entry : start_) entry = static_cast<S>(random.normal());
  multiple(S(1) / norm(start_), start_, start_);
  vector_ = start_;
  image_.setZero(n);
  for (Vector<S>* v : {&coefficients_, &diagonal_, &off_diagonal_, &weights_, &pivots_}) v->setZero(m);
}

template <class S>
Status Lanczos<S>::compute(SymmetricOperator<S>& A, S tolerance, Index max_products) {
  using std::abs;
  const S eps = std::numeric_limits<S>::epsilon();
  vector_ = start_;
  products_ = 0;
  while (true) {
    size_ = S(0);
    for (Index j = 0; j < basis_.cols(); ++j) {
      if (!extend(A, j)) {
        value_ = residual_ = std::numeric_limits<S>::infinity();
        return Status::non_finite;
      }
      solve(j + 1);
      residual_ = off_diagonal_[j] * weights_[j];
      const bool is_done = residual_ <= std::max(tolerance * abs(value_), S(16) * eps * size_);
      if (is_done || products_ >= max_products || j + 1 == basis_.cols()) {
        combine(j + 1);
        if (is_done) return Status::tolerance_reached;
        if (products_ >= max_products) return Status::max_steps;
        break;
      }
      multiple(S(1) / off_diagonal_[j], image_, vector_);
    }
  }
}

template <class S>
bool Lanczos<S>::extend(SymmetricOperator<S>& A, Index j) {
  using std::abs;
  using std::isfinite;
  std::copy_n(vector_.data(), vector_.size(), basis_.col(j).data());
  A.apply(vector_, image_);
  ++products_;
  diagonal_[j] = inner_product(vector_, image_);
  if (!isfinite(diagonal_[j]) || !isfinite(norm(image_))) return false;
  // Twice: once leaves what cancellation has.
  orthogonalize(j + 1);
  orthogonalize(j + 1);
  off_diagonal_[j] = norm(image_);
  size_ = std::max({size_, abs(diagonal_[j]), off_diagonal_[j]});
  return true;
}

template <class S>
void Lanczos<S>::orthogonalize(Index columns) {
  const Index n = image_.size();
  std::fill_n(coefficients_.data(), columns, S(0));
  add_transposed_image(S(1), basis_.data(), n, n, columns, image_.data(), coefficients_.data());
  add_image(S(-1), basis_.data(), n, n, columns, coefficients_.data(), image_.data());
}

template <class S>
bool Lanczos<S>::is_above_spectrum(Index size, S shift) const {
  // Signs of the pivots of shift I - T.
  S pivot = shift - diagonal_[0];
  for (Index j = 1; j < size && pivot > S(0); ++j)
    pivot = shift - diagonal_[j] - off_diagonal_[j - 1] * (off_diagonal_[j - 1] / pivot);
  return pivot > S(0);
}

template <class S>
void Lanczos<S>::solve(Index size) {
  // The largest eigenvalue grows with T, by less than the entry that couples the new row.
  S low = diagonal_[0];
  S high = low;
  if (size > 1) {
    low = std::max(value_, diagonal_[size - 1]);
    high = low + off_diagonal_[size - 2];
  }
  const S resolution = std::max(S(4) * std::numeric_limits<S>::epsilon() * size_, std::numeric_limits<S>::min());
  high += resolution;
  while (!is_above_spectrum(size, high)) high += resolution * S(size);
  while (high - low > resolution) {
    const S middle = low + (high - low) / S(2);
    if (!(middle > low) || !(middle < high)) break;
    (is_above_spectrum(size, middle) ? high : low) = middle;
  }
  value_ = low;
  // Inverse iteration with shift I - T, positive definite with entries off the diagonal that are not positive: from
  // ones nothing cancels.
  const S smallest = resolution / S(4);
  pivots_[0] = std::max(high - diagonal_[0], smallest);
  for (Index j = 1; j < size; ++j)
    pivots_[j] =
        std::max(high - diagonal_[j] - off_diagonal_[j - 1] * (off_diagonal_[j - 1] / pivots_[j - 1]), smallest);
  std::fill_n(weights_.data(), size, S(1));
  for (int iteration = 0; iteration < 3; ++iteration) {
    for (Index j = 1; j < size; ++j) weights_[j] += off_diagonal_[j - 1] / pivots_[j - 1] * weights_[j - 1];
    weights_[size - 1] /= pivots_[size - 1];
    for (Index j = size - 2; j >= 0; --j) weights_[j] = (weights_[j] + off_diagonal_[j] * weights_[j + 1]) / pivots_[j];
    const S largest = largest_size(weights_.data(), size);
    for (Index j = 0; j < size; ++j) weights_[j] /= largest;
    const S length = std::sqrt(inner_product(weights_.data(), weights_.data(), size));
    for (Index j = 0; j < size; ++j) weights_[j] /= length;
  }
}

template <class S>
void Lanczos<S>::combine(Index size) {
  const Index n = vector_.size();
  std::fill_n(vector_.data(), n, S(0));
  add_image(S(1), basis_.data(), n, n, size, weights_.data(), vector_.data());
  multiple(S(1) / norm(vector_), vector_, vector_);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_LANCZOS(prefix, S) prefix template class detail::Lanczos<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LANCZOS)
