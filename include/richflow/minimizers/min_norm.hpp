#pragma once

#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/cholesky.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/stable_norm.hpp"
#include "richflow/linalg/updatable_qr.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/lasso_path.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"

namespace richflow {

namespace detail {

/// See `min_l2_interpolator`, with whatever residual rounding leaves.
template <class Scalar>
[[nodiscard]] Vector<Scalar> least_l2_point(const Dataset<Scalar>& data) {
  const Matrix<Scalar>& X = data.X();
  if (data.num_samples() <= data.num_inputs()) {
    Cholesky<Scalar> cholesky;
    cholesky.compute(lower_gram_matrix(X));
    if (cholesky.is_well_conditioned()) {
      Vector<Scalar> beta, correction, rest = data.y();
      cholesky.solve_in_place(rest);
      multiply_transposed(X, rest, beta);
      // One refinement makes up for the squared condition number of the Gram matrix.
      rest = data.y();
      subtract_product(X, beta, rest);
      cholesky.solve_in_place(rest);
      multiply_transposed(X, rest, correction);
      beta += correction;
      if (data.residual_norm(beta) <= interpolation_tolerance<Scalar> * data.y().norm()) return beta;
    }
  }
  return OrthonormalRows<Scalar>(data).least_solution();
}

}  // namespace detail

/// The interpolator of minimum Euclidean norm, `argmin |beta|_2` subject to `X beta = y`: the alpha -> infinity limit
/// of the uniformly initialized squared net.
///
///     const Vector<double> beta = min_l2_interpolator(data);
///
/// Rank-deficient X is fine if y is consistent; throws InfeasibleError if not. Columns and rows may be in any units:
/// the residual is refined in the data as given. Throws ConvergenceError where it is still above `sqrt(epsilon) |y|`,
/// as when some rows have terms so large that the rounding of beta alone does that. Cost O(N^2 d).
template <class Scalar>
[[nodiscard]] Vector<Scalar> min_l2_interpolator(const Dataset<Scalar>& data) {
  Vector<Scalar> beta = detail::least_l2_point(data);
  const Scalar misfit = data.residual_norm(beta), size = data.y().norm();
  require<ConvergenceError>(misfit <= std::sqrt(Eigen::NumTraits<Scalar>::epsilon()) * size,
                            "min_l2_interpolator: X beta - y has norm ", misfit, " where |y| = ", size,
                            ", because the rows of X are nearly dependent or in units too far apart");
  return beta;
}

/// `argmin sum_i beta_i^2 / w0_i^2` subject to `X beta = y`: the kernel limit of the net with shape `w0`.
/// Throws as above, DimensionError unless w0 has d entries, and ArgumentError where one is not positive.
template <class Scalar>
[[nodiscard]] Vector<Scalar> min_l2_interpolator(const Dataset<Scalar>& data, const Vector<Scalar>& w0) {
  require_size("w0", w0.size(), data.num_inputs());
  require_positive("w0", w0);
  // Their common size does not matter, and squares of it need not be representable.
  const Vector<Scalar> relative = w0 / w0.maxCoeff();
  const Dataset<Scalar> scaled(data.X() * relative.asDiagonal(), data.y());
  Vector<Scalar> beta = relative.cwiseProduct(detail::least_l2_point(scaled));
  const Scalar misfit = data.residual_norm(beta), size = data.y().norm();
  require<InfeasibleError>(misfit <= std::sqrt(Eigen::NumTraits<Scalar>::epsilon()) * size,
                           "the shape w0 leaves too little of X: its entries differ by a factor ",
                           Scalar(1) / relative.minCoeff(), ", and X beta - y has norm ", misfit,
                           " where |y| = ", size);
  return beta;
}

/// How a minimum-l1 interpolator is found.
enum class MinL1Road {
  homotopy,  ///< The end of the lasso path.
  simplex,   ///< The simplex method from the support that a minimizer of Q_alpha at tiny alpha shows.
};

/// A minimum-l1 interpolator at a vertex, with its proof.
template <class Scalar = double>
struct [[nodiscard]] MinL1Result : Result<MinL1Result<Scalar>> {
  Vector<Scalar> beta = {};  ///< The minimizer, d entries, at most rank(X) of them nonzero.
  /// Dual optimum, N: `max <y, nu>` subject to `|X^T nu|_inf <= 1`. Feasible; where its own rounding is more than 1e-12
  /// in X^T nu, and the status is ok, it is the leading part of a feasible one in twice the precision.
  Vector<Scalar> nu = {};
  Scalar objective = std::numeric_limits<Scalar>::infinity();        ///< `|beta|_1` (weighted where asked).
  Scalar primal_residual = std::numeric_limits<Scalar>::infinity();  ///< `|X beta - y| / |y|`.
  /// `(objective - <y, nu>) / objective`, with the nu in twice the precision where there is one.
  Scalar duality_gap = std::numeric_limits<Scalar>::infinity();
  MinL1Road road = MinL1Road::homotopy;  ///< Which road found it.
  Index knots = 0;                       ///< Knots of the lasso path, if it was followed.
  Index pivots = 0;                      ///< Simplex pivots after the warm start; 0 where the lasso path sufficed.
  /// True where `nu` proves that no other interpolator has this norm: the dual constraints that are not strict belong
  /// to independent columns. False where there are others (equal columns: a segment of them), or where a degenerate
  /// vertex leaves it open.
  bool is_unique = false;
  /// tolerance_reached, max_steps, or stalled where the vertex is found but rounding leaves |X beta - y| > 1e-12 |y|,
  /// or no nu with a gap below 1e-10 (in double) even in twice the precision: nearly dependent rows have large
  /// multipliers.
  Status status = Status::stalled;
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether it is a minimizer and interpolates.
  [[nodiscard]] bool ok() const { return is_success(status); }

  /// Itself, with the message that belongs to its numbers.
  [[nodiscard]] MinL1Result explained() && {
    message = detail::concat("the minimum-l1 interpolator ended after ", knots, " knots of the lasso path and ", pivots,
                             " pivots (", status, ") at relative duality gap ", duality_gap, " and relative residual ",
                             primal_residual);
    return std::move(*this);
  }
};

namespace detail {

/// Simplex method for `min |beta|_1` subject to `X beta = y`, X of full row rank m. A basis is m independent
/// columns; a pivot lets the column with the most violated dual constraint enter and passes through sign
/// changes of the others as long as the objective falls (a piecewise linear line search).
template <class Scalar>
class L1Simplex {
 public:
  L1Simplex(const Matrix<Scalar>& X, std::vector<Index> basis);

  /// Pivots until every dual constraint holds to `tolerance`. False when `max_pivots` did not suffice.
  bool optimize(const Vector<Scalar>& y, Scalar tolerance, Index max_pivots);

  /// Solves the basic system for `y` afresh, with one refinement, keeping the signs of the dual: those of the
  /// last `optimize`, which also decide for values that are 0 here. Returns by how much the signs
  /// misjudge the objective, `sum |value| - sign * value`; 0 at an optimal basis.
  Scalar polish(const Vector<Scalar>& y);

  /// Adds to the values of the basic variables what fits `misfit`, after `polish`.
  void refine(const Vector<Scalar>& misfit) { add_product(inverse_, misfit, values_); }

  /// Whether every dual constraint outside the basis is strict by `tolerance`: then the optimum is unique.
  [[nodiscard]] bool has_strict_dual(Scalar tolerance);

  /// Norm of a basic column: values times these are comparable whatever the units of the columns.
  [[nodiscard]] Scalar size(Index k) const { return sizes_[basis_[static_cast<std::size_t>(k)]]; }

  /// Values of the basic variables for `y`.
  [[nodiscard]] Vector<Scalar> solve_basis(const Vector<Scalar>& y);

  [[nodiscard]] const std::vector<Index>& basis() const { return basis_; }
  [[nodiscard]] const Vector<Scalar>& values() const { return values_; }
  [[nodiscard]] const Vector<Scalar>& dual() const { return dual_; }
  [[nodiscard]] const Matrix<Scalar>& columns() const { return columns_; }
  [[nodiscard]] Index pivots() const { return pivots_; }

 private:
  void gather();

  void invert();

  void solve_dual();

  bool pivot(Index entering);

  void replace(Index leaving, Index entering);

  const Matrix<Scalar>& X_;
  std::vector<Index> basis_;
  std::vector<bool> is_basic_;
  Matrix<Scalar> columns_, inverse_;
  Vector<Scalar> values_, signs_, dual_, prices_, direction_, row_, sizes_;
  std::vector<std::pair<Scalar, Index>> breakpoints_;
  Index pivots_ = 0;
};

template <class Scalar>
L1Simplex<Scalar>::L1Simplex(const Matrix<Scalar>& X, std::vector<Index> basis) : X_(X), basis_(std::move(basis)) {
  const Index m = X_.rows();
  require(static_cast<Index>(basis_.size()) == m, "basis must have ", m, " columns, got ", basis_.size());
  is_basic_.assign(static_cast<std::size_t>(X_.cols()), false);
  for (const Index j : basis_) is_basic_[static_cast<std::size_t>(j)] = true;
  columns_.resize(m, m);
  inverse_.resize(m, m);
  sizes_ = X_.colwise().norm().transpose();
}

template <class Scalar>
bool L1Simplex<Scalar>::optimize(const Vector<Scalar>& y, Scalar tolerance, Index max_pivots) {
  using std::abs;
  invert();
  multiply(inverse_, y, values_);
  for (Index count = 0; count < max_pivots; ++count) {
    if (count % 64 == 63) {
      invert();
      multiply(inverse_, y, values_);
    }
    solve_dual();
    multiply_transposed(X_, dual_, prices_);
    Index entering = -1;
    Scalar worst = Scalar(1) + tolerance;
    for (Index j = 0; j < prices_.size(); ++j) {
      if (is_basic_[static_cast<std::size_t>(j)] || !(abs(prices_[j]) > worst)) continue;
      worst = abs(prices_[j]);
      entering = j;
    }
    if (entering < 0) return true;
    if (!pivot(entering)) return false;
  }
  return false;
}

template <class Scalar>
Scalar L1Simplex<Scalar>::polish(const Vector<Scalar>& y) {
  invert();
  multiply(inverse_, y, values_);
  Vector<Scalar> misfit = y;
  subtract_product(columns_, values_, misfit);
  add_product(inverse_, misfit, values_);
  multiply_transposed(inverse_, signs_, dual_);
  Vector<Scalar> rest;
  multiply_transposed(columns_, dual_, rest);
  rest = signs_ - rest;
  add_transposed_product(inverse_, rest, dual_);
  return values_.template lpNorm<1>() - signs_.dot(values_);
}

template <class Scalar>
bool L1Simplex<Scalar>::has_strict_dual(Scalar tolerance) {
  using std::abs;
  multiply_transposed(X_, dual_, prices_);
  for (Index j = 0; j < prices_.size(); ++j)
    if (!is_basic_[static_cast<std::size_t>(j)] && !(abs(prices_[j]) < Scalar(1) - tolerance)) return false;
  return true;
}

template <class Scalar>
Vector<Scalar> L1Simplex<Scalar>::solve_basis(const Vector<Scalar>& y) {
  invert();
  Vector<Scalar> values;
  multiply(inverse_, y, values);
  return values;
}

template <class Scalar>
void L1Simplex<Scalar>::gather() {
  for (Index k = 0; k < columns_.cols(); ++k) columns_.col(k) = X_.col(basis_[static_cast<std::size_t>(k)]);
}

template <class Scalar>
void L1Simplex<Scalar>::invert() {
  gather();
  inverse_ = columns_.partialPivLu().inverse();
}

template <class Scalar>
void L1Simplex<Scalar>::solve_dual() {
  signs_ = values_.unaryExpr([](Scalar v) { return v < Scalar(0) ? Scalar(-1) : Scalar(1); });
  multiply_transposed(inverse_, signs_, dual_);
}

template <class Scalar>
bool L1Simplex<Scalar>::pivot(Index entering) {
  using std::abs;
  const Scalar sign = prices_[entering] > Scalar(0) ? Scalar(1) : Scalar(-1);
  multiply(inverse_, X_.col(entering), direction_);
  breakpoints_.clear();
  Scalar negligible(0);
  for (Index k = 0; k < direction_.size(); ++k) negligible = std::max(negligible, abs(direction_[k]) * size(k));
  negligible *= Scalar(64) * Eigen::NumTraits<Scalar>::epsilon();
  for (Index k = 0; k < values_.size(); ++k) {
    const Scalar rate = sign * direction_[k];  // values_ moves by -t rate
    if (abs(rate) * size(k) > negligible && signs_[k] * rate > Scalar(0))
      breakpoints_.emplace_back(values_[k] / rate, k);
  }
  std::sort(breakpoints_.begin(), breakpoints_.end());
  Scalar slope = Scalar(1) - abs(prices_[entering]);
  for (const auto& [t, k] : breakpoints_) {
    slope += Scalar(2) * abs(direction_[k]);
    if (slope < Scalar(0)) continue;
    values_ -= (t * sign) * direction_;
    values_[k] = sign * t;
    replace(k, entering);
    return true;
  }
  return false;
}

template <class Scalar>
void L1Simplex<Scalar>::replace(Index leaving, Index entering) {
  const Scalar pivot = direction_[leaving];
  row_ = inverse_.row(leaving) / pivot;
  direction_[leaving] -= Scalar(1);
  inverse_.noalias() -= direction_ * row_.transpose();
  is_basic_[static_cast<std::size_t>(basis_[static_cast<std::size_t>(leaving)])] = false;
  is_basic_[static_cast<std::size_t>(entering)] = true;
  basis_[static_cast<std::size_t>(leaving)] = entering;
  ++pivots_;
}

/// m independent columns of X, whose rows are well-conditioned, preferring those with large `weight`.
template <class Scalar>
[[nodiscard]] std::vector<Index> heaviest_basis(const Matrix<Scalar>& X, const Vector<Scalar>& weight) {
  const Index m = X.rows();
  std::vector<Index> order(static_cast<std::size_t>(X.cols()));
  std::iota(order.begin(), order.end(), Index(0));
  const auto heavier = [&](Index a, Index b) { return weight[a] != weight[b] ? weight[a] > weight[b] : a < b; };
  std::sort(order.begin(), order.end(), heavier);
  // The weights differ by many orders of magnitude, so a greedy choice by weight alone would do, were it not
  // for dependent columns; elimination in the order of weight skips those.
  Matrix<Scalar> kept(m, m);
  Vector<Scalar> column(m);
  std::vector<Index> basis;
  for (const Scalar tolerance : {Scalar(1e-2), Scalar(1e-7), Scalar(0)}) {
    for (const Index j : order) {
      if (static_cast<Index>(basis.size()) == m) break;
      if (std::find(basis.begin(), basis.end(), j) != basis.end()) continue;
      const auto rank = static_cast<Index>(basis.size());
      column = X.col(j);
      const Scalar size = column.norm();
      for (int pass = 0; pass < 2; ++pass)
        column.noalias() -= kept.leftCols(rank) * (kept.leftCols(rank).transpose() * column).eval();
      const Scalar rest = column.norm();
      if (!(rest > tolerance * size)) continue;
      kept.col(rank) = column / rest;
      basis.push_back(j);
    }
  }
  return basis;
}

/// Whether the columns whose prices `X^T nu` are 1 or -1 up to `tolerance` are independent.
template <class Scalar>
[[nodiscard]] bool has_independent_binding_columns(const Matrix<Scalar>& X, const Vector<Scalar>& prices,
                                                   Scalar tolerance) {
  using std::abs;
  std::vector<Index> binding;
  for (Index j = 0; j < prices.size(); ++j)
    if (!(abs(prices[j]) < Scalar(1) - tolerance)) binding.push_back(j);
  if (static_cast<Index>(binding.size()) > X.rows()) return false;
  UpdatableQr<Scalar> qr;
  qr.reset(X.rows());
  return std::all_of(binding.begin(), binding.end(), [&](Index j) { return qr.append(X.data() + j * X.rows()); });
}

/// The least share of `|beta|_1` that counts as more than rounding, of prices too.
template <class Scalar>
inline constexpr Scalar l1_rounding = Scalar(1e4) * Eigen::NumTraits<Scalar>::epsilon();

/// Whether each row by itself is fitted, up to the rounding of its terms, whatever units the others are in. Cost O(N)
/// for each nonzero entry.
template <class Scalar>
[[nodiscard]] bool fits_each_row(const Dataset<Scalar>& data, const Vector<Scalar>& beta) {
  using std::abs;
  const Index rows = data.num_samples();
  Vector<Scalar> rest = data.y(), terms = data.y().cwiseAbs();
  Index count = 0;
  for (Index j = 0; j < beta.size(); ++j) {
    if (beta[j] == Scalar(0)) continue;
    ++count;
    add_multiple(Scalar(-beta[j]), data.X().data() + j * rows, rest.data(), rows);
    for (Index n = 0; n < rows; ++n) terms[n] += abs(beta[j] * data.X()(n, j));
  }
  const Scalar rounding = Scalar(2 * (count + 2)) * Eigen::NumTraits<Scalar>::epsilon();
  for (Index n = 0; n < rows; ++n)
    if (!(abs(rest[n]) <= rounding * terms[n])) return false;
  return true;
}

/// Multipliers that prove a vertex to be of least l1 norm: `|X^T nu|_inf <= 1` with `<y, nu> = |beta|_1`, both up to
/// `interpolation_tolerance`, or a hundred times that where no such nu is found. Where columns differ much in size, the
/// rounding of a nu made for small columns may be a large part of the price of a large one, and more than its bound:
/// such prices are aimed inside by as much, which costs nothing that counts, since large columns have small entries.
template <class Scalar>
class L1Proof {
 public:
  L1Proof(const Dataset<Scalar>& data, const Vector<Scalar>& beta) : data_(data), beta_(beta) {
    objective_ = beta.template lpNorm<1>();
  }

  /// Whether nu is such a proof or can be made one; kept as it is where its prices are rounded to less than the
  /// tolerance.
  bool accept(Vector<Scalar> nu);

  /// The prices `X^T nu`.
  [[nodiscard]] const Vector<Scalar>& prices() const { return prices_; }

  /// What there is of a proof, into the result.
  void write(MinL1Result<Scalar>& result) {
    result.objective = objective_;
    result.duality_gap = gap_;
    result.nu = std::move(nu_);
  }

 private:
  static constexpr Scalar tolerance = interpolation_tolerance<Scalar>;

  [[nodiscard]] const Scalar* column(Index j) const { return data_.X().data() + j * data_.num_samples(); }
  /// `epsilon sum_n |x_nj nu_n|`: what a price is rounded to.
  [[nodiscard]] Scalar rounding(Index j, const Vector<Scalar>& nu) const {
    return Eigen::NumTraits<Scalar>::epsilon() * data_.X().col(j).cwiseAbs().dot(nu.cwiseAbs());
  }
  /// The tolerance and what is unavoidable, but a hundred times the tolerance at most.
  [[nodiscard]] static Scalar most(Scalar unavoidable) {
    return std::min<Scalar>(tolerance + unavoidable, Scalar(100) * tolerance);
  }
  /// Whether the gap is within that: no nu in this precision has prices nearer to the signs than by their rounding.
  [[nodiscard]] bool is_proved() const;
  void find_prices(const Vector<Scalar>& nu);
  [[nodiscard]] Scalar gap_of(const Vector<Scalar>& nu) const {
    return (objective_ - compensated_product(data_.y().data(), nu.data(), nu.size())) / objective_;
  }
  /// What the price of an aimed column is to be. Entries that are 0 but for rounding have the sign of their price.
  [[nodiscard]] Scalar sign_of(Index j) const {
    using std::abs;
    const bool is_negative = abs(prices_[j]) < Scalar(0.5) ? beta_[j] < Scalar(0) : prices_[j] < Scalar(0);
    return is_negative ? Scalar(-1) : Scalar(1);
  }
  /// Whether such a proof is near nu in twice the precision, as the sum of two vectors. Where nu is large, or columns
  /// are, the rounding of a single one is more in its prices than the tolerance. What is kept of it is the larger part.
  /// Its gap is added up without cancellation: `|beta|_1 - <y, nu> = sum_j (|beta_j| - beta_j x_j^T nu) - <y - X beta,
  /// nu>`.
  bool accept_in_two_parts(Vector<Scalar> nu);
  /// Keeps nu, divided by its largest price if that exceeds 1, if it has the least gap so far.
  void keep(Vector<Scalar> nu);
  /// The columns whose prices are more than 1, or should be 1, small ones first, as far as they are independent.
  void gather(UpdatableQr<Scalar>& qr, std::vector<Index>& aimed) const;

  const Dataset<Scalar>& data_;
  const Vector<Scalar>& beta_;
  Scalar objective_;
  Vector<Scalar> nu_ = {}, prices_ = {};
  Scalar gap_ = std::numeric_limits<Scalar>::infinity();
};

template <class Scalar>
bool L1Proof<Scalar>::is_proved() const {
  using std::abs;
  if (nu_.size() == 0) return false;
  if (abs(gap_) <= tolerance) return true;
  Scalar unavoidable(0);
  for (Index j = 0; j < beta_.size(); ++j)
    if (beta_[j] != Scalar(0)) unavoidable += abs(beta_[j]) * rounding(j, nu_);
  return abs(gap_) <= most(Scalar(4) * unavoidable / objective_);
}

template <class Scalar>
void L1Proof<Scalar>::find_prices(const Vector<Scalar>& nu) {
  prices_.resize(data_.num_inputs());
  for (Index j = 0; j < prices_.size(); ++j) prices_[j] = compensated_product(column(j), nu.data(), nu.size());
}

template <class Scalar>
void L1Proof<Scalar>::keep(Vector<Scalar> nu) {
  using std::abs;
  find_prices(nu);
  // Dividing rounds again.
  for (int pass = 0; pass < 2 && largest_size(prices_) > Scalar(1); ++pass) {
    nu /= largest_size(prices_);
    find_prices(nu);
  }
  const Scalar excess = std::max<Scalar>(largest_size(prices_) - Scalar(1), Scalar(0));
  const Scalar gap = gap_of(nu);
  if (excess > tolerance || (nu_.size() > 0 && !(abs(gap) < abs(gap_)))) return;
  gap_ = gap;
  nu_ = std::move(nu);
}

template <class Scalar>
void L1Proof<Scalar>::gather(UpdatableQr<Scalar>& qr, std::vector<Index>& aimed) const {
  using std::abs;
  std::vector<Index> order;
  for (Index j = 0; j < beta_.size(); ++j)
    if (beta_[j] != Scalar(0) || abs(prices_[j]) > Scalar(1)) order.push_back(j);
  const Vector<Scalar> sizes = lengths_of_columns(data_.X());
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return sizes[a] != sizes[b] ? sizes[a] < sizes[b] : a < b; });
  qr.reset(data_.num_samples());
  aimed.clear();
  for (const Index j : order)
    if (qr.append(column(j))) aimed.push_back(j);
}

template <class Scalar>
bool L1Proof<Scalar>::accept(Vector<Scalar> nu) {
  using std::abs;
  multiply_transposed(data_.X(), nu, prices_);
  bool is_rounded_little = true;
  for (Index j = 0; j < prices_.size() && is_rounded_little; ++j)
    is_rounded_little = beta_[j] != Scalar(0) ? rounding(j, nu) <= tolerance && abs(prices_[j]) <= Scalar(1) + tolerance
                                              : abs(prices_[j]) + rounding(j, nu) <= Scalar(1) + tolerance;
  if (is_rounded_little) {
    const Scalar largest = largest_size(prices_);
    nu_ = largest > Scalar(1) ? Vector<Scalar>(nu / largest) : nu;
    gap_ = gap_of(nu_);
    if (is_proved()) return true;
  }
  nu_.resize(0);
  gap_ = std::numeric_limits<Scalar>::infinity();
  const Vector<Scalar> first = nu;
  keep(nu);
  UpdatableQr<Scalar> qr;
  std::vector<Index> aimed;
  Vector<Scalar> correction;
  // Then from nothing: at a degenerate vertex the nu given may be much larger than it need be.
  for (const bool is_from_nothing : {false, true}) {
    if (is_from_nothing) nu.setZero();
    Scalar inside(1);
    for (int pass = 0; pass < 4 && !(nu_.size() > 0 && abs(gap_) <= tolerance); ++pass) {
      find_prices(nu);
      gather(qr, aimed);
      Vector<Scalar> lack(static_cast<Index>(aimed.size()));
      for (Index k = 0; k < lack.size(); ++k) {
        const Index j = aimed[static_cast<std::size_t>(k)];
        const Scalar aim = std::max<Scalar>(Scalar(1) - inside * rounding(j, nu), Scalar(0));
        lack[k] = sign_of(j) * aim - prices_[j];
      }
      qr.solve_transposed(lack, correction);
      nu += correction;
      keep(nu);
      if (pass > 0) inside *= Scalar(2);
    }
  }
  if (is_proved()) {
    find_prices(nu_);
    return true;
  }
  for (const bool is_from_nothing : {false, true})
    if (accept_in_two_parts(is_from_nothing ? Vector<Scalar>(Vector<Scalar>::Zero(first.size())) : first)) return true;
  if (nu_.size() == 0) {
    // No proof: what was given, made feasible.
    find_prices(first);
    nu_ = first / std::max<Scalar>(largest_size(prices_), Scalar(1));
    gap_ = gap_of(nu_);
    return false;
  }
  find_prices(nu_);
  return false;
}

template <class Scalar>
bool L1Proof<Scalar>::accept_in_two_parts(Vector<Scalar> nu) {
  using std::abs;
  constexpr int most_passes = 12;
  constexpr Scalar proves = Scalar(100) * tolerance;
  Vector<Scalar> low = Vector<Scalar>::Zero(nu.size()), misfit, correction;
  compensated_residual(data_.X(), beta_, data_.y(), misfit);
  UpdatableQr<Scalar> qr;
  std::vector<Index> aimed;
  for (int pass = 0; pass < most_passes; ++pass) {
    find_prices(nu);
    for (Index j = 0; j < prices_.size(); ++j) prices_[j] += inner_product(column(j), low.data(), low.size());
    Scalar slack(0), excess(0);
    for (Index j = 0; j < prices_.size(); ++j) {
      excess = std::max<Scalar>(excess, abs(prices_[j]) - Scalar(1));
      if (beta_[j] != Scalar(0)) slack += abs(beta_[j]) - beta_[j] * prices_[j];
    }
    const Scalar gap = (slack - inner_product(misfit, nu) - inner_product(misfit, low)) / objective_;
    if (excess <= proves && abs(gap) <= proves) {
      gap_ = gap;
      nu_ = std::move(nu);
      return true;
    }
    gather(qr, aimed);
    Vector<Scalar> lack(static_cast<Index>(aimed.size()));
    for (Index k = 0; k < lack.size(); ++k) {
      const Index j = aimed[static_cast<std::size_t>(k)];
      lack[k] = sign_of(j) - prices_[j];
    }
    qr.solve_transposed(lack, correction);
    for (Index n = 0; n < nu.size(); ++n) {
      const Scalar sum = nu[n] + correction[n];
      const Scalar added = sum - nu[n];
      low[n] += (nu[n] - (sum - added)) + (correction[n] - added);
      nu[n] = sum;
    }
  }
  return false;
}

/// The end of the lasso path, if it fits, and how many knots it took: of least l1 norm, but for what rounding may have
/// done to the path.
template <class Scalar>
bool end_of_lasso_path(const Dataset<Scalar>& data, Vector<Scalar>& beta, Vector<Scalar>& nu, Index& knots) {
  LassoPath<Scalar> path = lasso_path(data);
  knots = static_cast<Index>(path.knots.size());
  if (!path.fits || !fits_each_row(data, path.beta)) return false;
  beta = std::move(path.beta);
  nu = std::move(path.nu);
  return true;
}

/// The minimum-l1 interpolator by the homotopy. False where it is not proved to be one.
template <class Scalar>
bool min_l1_by_homotopy(const Dataset<Scalar>& data, MinL1Result<Scalar>& result) {
  result.road = MinL1Road::homotopy;
  bool is_found = false;
  // In single precision paths of more than some ten knots lose their way. But consistent labels of more rows than rank
  // are so only up to the rounding of the precision they have.
  if constexpr (std::is_same_v<Scalar, float>) {
    Vector<double> beta, nu;
    const Dataset<double> wide(data.X().template cast<double>(), data.y().template cast<double>());
    is_found = end_of_lasso_path(wide, beta, nu, result.knots);
    result.beta = beta.template cast<Scalar>();
    result.nu = nu.template cast<Scalar>();
  }
  if (!is_found && !end_of_lasso_path(data, result.beta, result.nu, result.knots)) return false;
  result.primal_residual = data.residual_norm(result.beta) / data.y().norm();
  if (!(result.primal_residual <= interpolation_tolerance<Scalar>)) return false;
  L1Proof<Scalar> proof(data, result.beta);
  if (!proof.accept(result.nu)) return false;
  proof.write(result);
  result.is_unique = has_independent_binding_columns(data.X(), proof.prices(), l1_rounding<Scalar>);
  result.status = Status::tolerance_reached;
  return true;
}

/// The minimum-l1 interpolator by the simplex method.
template <class Scalar>
void min_l1_by_simplex(const Dataset<Scalar>& data, MinL1Result<Scalar>& result) {
  using std::abs;
  using std::log;
  const Index d = data.num_inputs();
  const Scalar size = data.y().norm();
  result.road = MinL1Road::simplex;
  result.beta.setZero(d);
  // Deep enough for a good guess of the support, near enough to be cheap.
  const Scalar depth(25);
  const Vector<Scalar> spread = least_l2_point(data);
  const auto scale = Scale<Scalar>::from_log(log(spread.cwiseAbs().maxCoeff()) / Scalar(2) - depth);
  MinimizerOptions<Scalar> rough;
  rough.primal_tolerance = Scalar(1e-3);
  HypentropyPath<Scalar> path(data, Hypentropy<Scalar>::uniform(d, scale), rough);
  const Vector<Scalar> guess = path.solve(scale).beta.cwiseAbs();

  std::optional<OrthonormalRows<Scalar>> rows;
  if (!has_well_conditioned_rows(data.X())) rows.emplace(data);
  const Matrix<Scalar>& X = rows ? rows->X() : data.X();
  const Vector<Scalar>& y = rows ? rows->y() : data.y();

  L1Simplex<Scalar> simplex(X, heaviest_basis(X, guess));
  const Index max_pivots = 50 * (X.rows() + 20);
  const Scalar tolerance = l1_rounding<Scalar>;
  // Sparse solutions are degenerate vertices, where simplex pivots can cycle. Moving every basic variable away
  // from zero, by amounts of no pattern, gives a nearby problem without ties whose optimal basis also serves y.
  Vector<Scalar> shift = simplex.solve_basis(y);
  Scalar unit(0);
  for (Index k = 0; k < shift.size(); ++k) unit = std::max(unit, abs(shift[k]) * simplex.size(k));
  unit *= Scalar(1e-9);
  for (Index k = 0; k < shift.size(); ++k) {
    const Scalar pattern = Scalar((k * 7919 + 104729) % 10007) / Scalar(10007);
    shift[k] = unit / simplex.size(k) * (Scalar(1) + pattern) * (shift[k] < Scalar(0) ? Scalar(-1) : Scalar(1));
  }
  Vector<Scalar> shifted = y;
  add_product(simplex.columns(), shift, shifted);
  bool is_optimal = simplex.optimize(shifted, tolerance, max_pivots);
  Scalar misjudged = simplex.polish(y);
  if (!is_optimal || misjudged > tolerance * simplex.values().template lpNorm<1>()) {
    is_optimal = simplex.optimize(y, tolerance, max_pivots);
    misjudged = simplex.polish(y);
  }

  const Vector<Scalar> nu = rows ? rows->original_multipliers(simplex.dual()) : simplex.dual();
  // What is left of y is worth its product with nu, relative to the norm: where nu is large, a residual that is
  // rounding may still ask for refinement.
  Vector<Scalar> misfit;
  const auto judge = [&] {
    const Scalar norm_beta = simplex.values().template lpNorm<1>();
    misfit = exact_residual(data, result.beta, nu, size, norm_beta);
    result.primal_residual = stable_norm(misfit) / size;
    return std::max<Scalar>(result.primal_residual, abs(inner_product(misfit, nu)) / norm_beta);
  };
  const auto place = [&] {
    for (Index k = 0; k < X.rows(); ++k)
      result.beta[simplex.basis()[static_cast<std::size_t>(k)]] = simplex.values()[k];
    return judge();
  };
  constexpr Scalar interpolates = interpolation_tolerance<Scalar>;
  Scalar error = place();
  for (int pass = 0; pass < 3 && error > Scalar(0.1) * interpolates; ++pass) {
    const Vector<Scalar> step = rows ? rows->labels(misfit) : misfit;
    simplex.refine(step);
    const Scalar refined = place();
    if (!(refined < error)) {
      simplex.refine(Vector<Scalar>(-step));
      error = place();
      break;
    }
    error = refined;
  }
  // A small column may have an entry that is rounding, and yet a part of the norm.
  const Vector<Scalar> lengths = lengths_of_columns(data.X());
  const Scalar zero =
      Scalar(4 * (X.rows() + 8)) * Eigen::NumTraits<Scalar>::epsilon() * lengths.dot(result.beta.cwiseAbs());
  const Vector<Scalar> unrounded = result.beta;
  for (Index j = 0; j < d; ++j)
    if (abs(result.beta[j]) * lengths[j] <= zero) result.beta[j] = Scalar(0);
  const Scalar residual = result.primal_residual;
  const Scalar rounded = judge();
  const bool fits = fits_each_row(data, result.beta) || result.primal_residual <= residual;
  if (!fits || rounded > std::max<Scalar>(error, Scalar(0.1) * interpolates)) {
    result.beta = unrounded;
    result.primal_residual = residual;
  }
  L1Proof<Scalar> proof(data, result.beta);
  const bool is_proved = proof.accept(nu);
  proof.write(result);
  result.pivots = simplex.pivots();
  const bool is_at_end = is_optimal && misjudged <= tolerance * result.objective;
  result.is_unique = is_at_end && is_proved && simplex.has_strict_dual(tolerance);
  result.status = !is_at_end                                            ? Status::max_steps
                  : is_proved && result.primal_residual <= interpolates ? Status::tolerance_reached
                                                                        : Status::stalled;
}

}  // namespace detail

/// An interpolator of minimum l1 norm, `argmin |beta|_1` subject to `X beta = y`, exact to a vertex.
///
///     const MinL1Result<> rich = min_l1_interpolator(data).require_ok();
///     rich.beta, rich.objective, rich.is_unique;
///
/// Where it is the only one (`is_unique`), it is the alpha -> 0 limit of the squared net, whatever its shape (Woodworth
/// et al. 2020, Theorem 1; docs/theory.md, section 2.3). Where there are several, the limit is one of them that depends
/// on the shape, in general not a vertex: with X = (1, 1) and w0 = (1, 2) it is (.2, .8) y.
///
/// It is the end of the lasso path, if that is proved: see `lasso_path`. Where it is not (rows that are nearly
/// dependent, say), or where the simplex is asked for, the rich end of the hypentropy path shows the support and a few
/// simplex pivots make it exact; `road` says which it was. The dual vector proves optimality: it is feasible and
/// its value equals the objective, both to 1e-12 (in double; 1e-10 where its rounding asks for twice the precision), in
/// columns of any units; where it does not, the status is not ok, and the message says how large the gap is.
/// Rank-deficient X is fine if y is consistent; throws InfeasibleError if not. Columns and rows may be in any units:
/// the residual is refined in the data as given, and the status is ok only where it is at most 1e-12 |y| (in double).
/// Cost: that of the lasso path; by the simplex O(N^2 d) for the hypentropy path and O(N d) per pivot.
template <class Scalar>
[[nodiscard]] MinL1Result<Scalar> min_l1_interpolator(const Dataset<Scalar>& data,
                                                      MinL1Road first = MinL1Road::homotopy) {
  MinL1Result<Scalar> result;
  result.beta = Vector<Scalar>::Zero(data.num_inputs());
  result.nu = Vector<Scalar>::Zero(data.num_samples());
  if (data.y().norm() == Scalar(0)) {
    result.objective = result.primal_residual = result.duality_gap = Scalar(0);
    result.is_unique = true;
    result.status = Status::tolerance_reached;
    return std::move(result).explained();
  }
  if (first == MinL1Road::simplex || !detail::min_l1_by_homotopy(data, result)) detail::min_l1_by_simplex(data, result);
  return std::move(result).explained();
}

/// `argmin sum_i weights_i |beta_i|` subject to `X beta = y`. Throws DimensionError unless `weights` has d entries,
/// ArgumentError where one is not positive. `nu` satisfies `|x_i^T nu| <= weights_i`. Otherwise as without weights.
template <class Scalar>
[[nodiscard]] MinL1Result<Scalar> min_l1_interpolator(const Dataset<Scalar>& data, const Vector<Scalar>& weights,
                                                      MinL1Road first = MinL1Road::homotopy) {
  require_size("weights", weights.size(), data.num_inputs());
  require_positive("weights", weights);
  // Their common size is put back last: squares of it need not be representable.
  const Scalar unit = weights.minCoeff();
  const Vector<Scalar> shrink = unit / weights.array();
  const Dataset<Scalar> scaled(data.X() * shrink.asDiagonal(), data.y());
  MinL1Result<Scalar> result = min_l1_interpolator(scaled, first);
  result.beta = result.beta.cwiseProduct(shrink).eval();
  result.nu *= unit;
  result.objective *= unit;
  const Scalar size = data.y().norm();
  result.primal_residual = size > Scalar(0) ? data.residual_norm(result.beta) / size : Scalar(0);
  if (result.ok() && !(result.primal_residual <= detail::interpolation_tolerance<Scalar>))
    result.status = Status::stalled;
  return std::move(result).explained();
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MIN_NORM(prefix, S)                          \
  prefix template class detail::L1Simplex<S>;                             \
  prefix template class detail::L1Proof<S>;                               \
  prefix template Vector<S> detail::least_l2_point<S>(const Dataset<S>&); \
  prefix template Vector<S> min_l2_interpolator<S>(const Dataset<S>&);    \
  prefix template MinL1Result<S> min_l1_interpolator<S>(const Dataset<S>&, MinL1Road);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MIN_NORM)
