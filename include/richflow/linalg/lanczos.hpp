#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// The largest eigenvalue of a symmetric matrix that is known by its products alone.

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
/// `basis` vectors of n values. It starts from one and the same random vector, and where the basis is full it restarts
/// from the upper two thirds of its Ritz vectors (thick restart, Wu and Simon 2000), so that eigenvalues close to the
/// largest one are separated from it by the information of all products. A restart, every `basis / 3` products, costs
/// O(n basis^2).
template <class S>
class Lanczos {
 public:
  /// For n x n matrices, n and basis positive.
  Lanczos(Index n, Index basis, std::uint64_t seed);

  /// Until `|A v - value v| <= tolerance |value|` by the recurrence, or is rounding, with at most `max_products`
  /// products. Up to rounding, the value is never above the largest eigenvalue.
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
  static constexpr Index rows_at_once = 64;

  /// Takes vector_ as column j of the basis and extends T by A times it, whose part orthogonal to the basis is left in
  /// image_. False where that is not finite.
  bool extend(SymmetricOperator<S>& A, Index j);
  void orthogonalize(Index columns);
  /// The largest eigenvalue of the leading T of that size, from that of the one before, and its eigenvector, which has
  /// positive entries.
  void solve(Index size);
  /// Whether the shift is above the largest eigenvalue of the leading T. Sets the pivots of `shift I - T`.
  [[nodiscard]] bool is_above_spectrum(Index size, S shift);
  /// Pivot number j of `shift I - T`, from those before it.
  [[nodiscard]] S pivot_of(Index j, S shift) const;
  /// vector_ = the Ritz vector.
  void combine(Index size);
  /// Diagonalizes T, of the size of the basis, by Jacobi's rotations: small_, ritz_ and order_.
  void diagonalize();
  /// Restarts the full basis from its best Ritz vectors.
  void restart();
  /// The row of T that entry j of off_diagonal_ couples with row j: the kept vectors are coupled with the first one
  /// that follows them only, and each that follows with the next.
  [[nodiscard]] Index coupled(Index j) const { return std::max(j + 1, kept_); }
  /// The couplings of the rows before number j with it.
  [[nodiscard]] Index first_coupled(Index j) const { return j == kept_ ? 0 : std::max(j - 1, kept_); }

  Matrix<S> basis_;
  Vector<S> start_;
  Vector<S> vector_ = {};
  Vector<S> image_ = {};
  Vector<S> coefficients_ = {};
  Vector<S> diagonal_ = {};      // of T
  Vector<S> off_diagonal_ = {};  // entry j couples j and coupled(j); nonnegative
  Vector<S> weights_ = {};       // the eigenvector of T, norm 1
  Vector<S> pivots_ = {};
  Index kept_ = 0;                 // vectors that the basis began with
  S last_coupling_ = S(0);         // of all rows before with the last one: its norm is at most that
  Matrix<S> small_ = {};           // T
  Matrix<S> ritz_ = {};            // its eigenvectors
  std::vector<Index> order_ = {};  // of the eigenvalues, decreasing
  Matrix<S> rows_ = {};            // of the basis, while they are combined
  S size_ = S(0);                  // of the entries of T
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
  small_.setZero(m, m);
  ritz_.setZero(m, m);
  order_.resize(static_cast<std::size_t>(m));
  rows_.setZero(std::min<Index>(n, rows_at_once), m);
}

template <class S>
Status Lanczos<S>::compute(SymmetricOperator<S>& A, S tolerance, Index max_products) {
  using std::abs;
  const S eps = std::numeric_limits<S>::epsilon();
  vector_ = start_;
  products_ = 0;
  size_ = S(0);
  kept_ = 0;
  while (true) {
    for (Index j = kept_; j < basis_.cols(); ++j) {
      if (!extend(A, j)) {
        value_ = residual_ = std::numeric_limits<S>::infinity();
        return Status::non_finite;
      }
      solve(j + 1);
      residual_ = off_diagonal_[j] * weights_[j];
      const bool is_done = residual_ <= std::max(tolerance * abs(value_), S(16) * eps * size_);
      if (is_done || products_ >= max_products) {
        combine(j + 1);
        return is_done ? Status::tolerance_reached : Status::max_steps;
      }
      multiple(S(1) / off_diagonal_[j], image_, vector_);
    }
    restart();
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
  // Twice: one pass leaves the errors of cancellation.
  orthogonalize(j + 1);
  orthogonalize(j + 1);
  if (j > kept_ || kept_ == 0) last_coupling_ = j > 0 ? off_diagonal_[j - 1] : S(0);
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
S Lanczos<S>::pivot_of(Index j, S shift) const {
  S pivot = shift - diagonal_[j];
  for (Index i = first_coupled(j); i < j; ++i) pivot -= off_diagonal_[i] * (off_diagonal_[i] / pivots_[i]);
  return pivot;
}

template <class S>
bool Lanczos<S>::is_above_spectrum(Index size, S shift) {
  for (Index j = 0; j < size; ++j) {
    pivots_[j] = pivot_of(j, shift);
    if (!(pivots_[j] > S(0))) return false;
  }
  return true;
}

template <class S>
void Lanczos<S>::solve(Index size) {
  // The largest eigenvalue grows with T, by less than the norm of what couples the new row.
  S low = diagonal_[0];
  S high = low;
  if (size > 1) {
    low = std::max(value_, diagonal_[size - 1]);
    high = low + last_coupling_;
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
  for (Index j = 0; j < size; ++j) pivots_[j] = std::max(pivot_of(j, high), smallest);
  std::fill_n(weights_.data(), size, S(1));
  for (int iteration = 0; iteration < 3; ++iteration) {
    for (Index j = 0; j < size - 1; ++j) weights_[coupled(j)] += off_diagonal_[j] / pivots_[j] * weights_[j];
    weights_[size - 1] /= pivots_[size - 1];
    for (Index j = size - 2; j >= 0; --j)
      weights_[j] = (weights_[j] + off_diagonal_[j] * weights_[coupled(j)]) / pivots_[j];
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

template <class S>
void Lanczos<S>::diagonalize() {
  using std::abs;
  using std::sqrt;
  const Index m = small_.cols();
  small_.setZero();
  for (Index j = 0; j < m; ++j) {
    small_(j, j) = diagonal_[j];
    if (j + 1 < m) small_(coupled(j), j) = small_(j, coupled(j)) = off_diagonal_[j];
  }
  ritz_.setIdentity();
  const S negligible = std::numeric_limits<S>::epsilon() * size_;
  const auto rotate = [m](S c, S s, S* x, S* y, Index stride) {
    for (Index i = 0; i < m * stride; i += stride) {
      const S old = x[i];
      x[i] = c * old - s * y[i];
      y[i] = s * old + c * y[i];
    }
  };
  // Convergence is quadratic: some 6 sweeps.
  constexpr int most_sweeps = 50;
  bool is_diagonal = false;
  for (int sweep = 0; sweep < most_sweeps && !is_diagonal; ++sweep) {
    is_diagonal = true;
    for (Index q = 1; q < m; ++q)
      for (Index p = 0; p < q; ++p) {
        const S entry = small_(p, q);
        if (!(abs(entry) > negligible)) continue;
        is_diagonal = false;
        const S cotangent = (small_(q, q) - small_(p, p)) / (S(2) * entry);
        const S size = S(1) / (abs(cotangent) + sqrt(cotangent * cotangent + S(1)));
        const S tangent = cotangent < S(0) ? -size : size;
        const S c = S(1) / sqrt(tangent * tangent + S(1));
        const S s = tangent * c;
        rotate(c, s, small_.col(p).data(), small_.col(q).data(), 1);
        rotate(c, s, small_.data() + p, small_.data() + q, m);
        rotate(c, s, ritz_.col(p).data(), ritz_.col(q).data(), 1);
      }
  }
  std::iota(order_.begin(), order_.end(), Index(0));
  std::sort(order_.begin(), order_.end(), [this](Index i, Index j) {
    return small_(i, i) > small_(j, j) || (small_(i, i) == small_(j, j) && i < j);
  });
}

template <class S>
void Lanczos<S>::restart() {
  using std::abs;
  diagonalize();
  const Index n = basis_.rows(), m = basis_.cols();
  const S left = off_diagonal_[m - 1];
  kept_ = 2 * m / 3;
  last_coupling_ = left;
  const auto best = [this](Index i) { return order_[static_cast<std::size_t>(i)]; };
  for (Index r = 0; r < n; r += rows_.rows()) {
    const Index count = std::min(rows_.rows(), n - r);
    for (Index i = 0; i < kept_; ++i) {
      S* const column = rows_.col(i).data();
      std::fill_n(column, count, S(0));
      add_image(S(1), basis_.data() + r, n, count, m, ritz_.col(best(i)).data(), column);
    }
    for (Index i = 0; i < kept_; ++i) std::copy_n(rows_.col(i).data(), count, basis_.col(i).data() + r);
  }
  for (Index i = 0; i < kept_; ++i) {
    diagonal_[i] = small_(best(i), best(i));
    // The sign of a vector is free: with this one no coupling is negative.
    const S last = ritz_(m - 1, best(i));
    off_diagonal_[i] = left * abs(last);
    if (last < S(0))
      for (S& entry : basis_.col(i)) entry = -entry;
  }
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_LANCZOS(prefix, S) prefix template class detail::Lanczos<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LANCZOS)
