#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/cholesky.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/order.hpp"
#include "richflow/linalg/pivoted_qr.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/triangular.hpp"

namespace richflow {

namespace detail {

/// Powers of two, by exponent, that bring the largest entry of every row and column of `diag(2^row) X diag(2^col)`
/// near 1 (Ruiz 2001): whatever the units of samples and features, the rank of the product says which are dependent.
/// Rows and columns of zeros keep exponent 0. Cost O(N d) for each of ten passes.
template <class Scalar>
struct Equilibration {
  Vector<Scalar> row, col;

  explicit Equilibration(const Matrix<Scalar>& X)
      : row(Vector<Scalar>::Zero(X.rows())), col(Vector<Scalar>::Zero(X.cols())) {
    using std::abs;
    using std::floor;
    using std::log2;
    using std::max;
    constexpr Scalar none = -std::numeric_limits<Scalar>::infinity();
    Matrix<Scalar> size(X.rows(), X.cols());
    for (Index j = 0; j < X.cols(); ++j)
      for (Index i = 0; i < X.rows(); ++i) size(i, j) = X(i, j) == Scalar(0) ? none : Scalar(log2(abs(X(i, j))));
    Vector<Scalar> rows(X.rows()), cols(X.cols());
    for (int pass = 0; pass < 10; ++pass) {
      rows.setConstant(none);
      cols.setConstant(none);
      for (Index j = 0; j < X.cols(); ++j)
        for (Index i = 0; i < X.rows(); ++i) {
          const Scalar here = size(i, j) + row[i] + col[j];
          rows[i] = max(rows[i], here);
          cols[j] = max(cols[j], here);
        }
      // Rows and columns share the change; the last pass gives it to the columns.
      const Scalar share = pass < 9 ? Scalar(0.5) : Scalar(1);
      for (Index i = 0; i < row.size(); ++i)
        if (rows[i] != none && pass < 9) row[i] -= share * rows[i];
      for (Index j = 0; j < col.size(); ++j)
        if (cols[j] != none) col[j] -= share * cols[j];
    }
    for (Scalar& exponent : row) exponent = floor(exponent);
    for (Scalar& exponent : col) exponent = floor(exponent);
  }

  /// By how many powers of two the units of the columns differ.
  [[nodiscard]] Scalar column_spread() const {
    const auto [least, most] = std::minmax_element(col.data(), col.data() + col.size());
    return *most - *least;
  }
};

/// `2^exponents`.
template <class Scalar>
[[nodiscard]] Vector<Scalar> powers_of_two(const Vector<Scalar>& exponents) {
  using std::ldexp;
  Vector<Scalar> powers(exponents.size());
  for (Index i = 0; i < powers.size(); ++i) powers[i] = ldexp(Scalar(1), static_cast<int>(exponents[i]));
  return powers;
}

}  // namespace detail

/// The constraint `X beta = y` written with rows that have the same solutions, but neither near-dependent nor redundant
/// ones: `S Q^T beta = S R^{-T} P^T D y` from the column-pivoted QR `X_kept^T D P = Q R`. D (powers of two) frees the
/// rows of their units, and the rows to keep are chosen after the columns were freed of theirs too: a pivot of the
/// equilibrated matrix counts as zero below `16 min(N, d) epsilon` of the largest.
///
/// Where the units of the columns differ by less than 2^5, S is the identity and the rows are orthonormal. Where they
/// differ more, the QR takes the columns of X by decreasing size, so that its errors are relative to each (Cox and
/// Higham 1998), and S (powers of two) brings the terms of each row at the least solution to 1.
///
/// Whether the rows have a solution is judged by the residual of the least one in the data as given, after refinement
/// there. Cost O(N^2 d).
template <class Scalar = double>
class OrthonormalRows {
 public:
  explicit OrthonormalRows(const Dataset<Scalar>& data);

  /// Throws InfeasibleError, with the size of the misfit, when what fits `rank` independent rows leaves a residual
  /// above `sqrt(epsilon) |y|` in all of them, or in one of them above `sqrt(epsilon)` of the terms of which it is the
  /// sum: then no beta satisfies `X beta = y` to that accuracy, or none was found.
  void require_solution() const;

  /// The solution of least Euclidean norm. Throws as `require_solution`. Cost O(1).
  [[nodiscard]] Vector<Scalar> least_solution() const;

  /// rank x d.
  [[nodiscard]] const Matrix<Scalar>& X() const { return X_; }
  /// The labels that belong to `X()`.
  [[nodiscard]] const Vector<Scalar>& y() const { return y_; }
  /// Whether the units of the columns differ so much that the rows of `X()` are graded and not of norm 1.
  [[nodiscard]] bool has_units() const { return has_units_; }
  /// `|X beta - y| / |y|` of the least solution in the data as given.
  [[nodiscard]] Scalar relative_misfit() const { return size_ > Scalar(0) ? misfit_ / size_ : misfit_; }

  /// What N values `v` of the original rows become in the rows of `X()`: `y()` for the labels, and for a residual
  /// `v = y - X_original beta` what `beta` lacks. Cost O(N + rank^2).
  [[nodiscard]] Vector<Scalar> labels(const Vector<Scalar>& v) const;

  /// The least change of beta that adds `v` (N values, consistent) to X_original beta. Cost O(rank d).
  [[nodiscard]] Vector<Scalar> least_correction(const Vector<Scalar>& v) const;

  /// The N multipliers of the original rows with `X_original^T nu = X()^T multipliers`.
  [[nodiscard]] Vector<Scalar> original_multipliers(const Vector<Scalar>& multipliers) const;

  /// The N multipliers of the original rows for which `X_original^T nu` is nearest to the d values `z`.
  [[nodiscard]] Vector<Scalar> nearest_multipliers(const Vector<Scalar>& z) const;

 private:
  [[nodiscard]] Index row(Index k) const { return kept_[static_cast<std::size_t>(k)]; }

  /// `S v` and `S^-2 v` of `rank` values.
  [[nodiscard]] Vector<Scalar> divided_by_sizes(Vector<Scalar> v) const;
  [[nodiscard]] Vector<Scalar> times_squared_sizes(Vector<Scalar> v) const;

  void factorize_by_size(const Matrix<Scalar>& X);

  /// Gives every row the size of its terms at the least solution.
  void scale_rows();

  void solve_least(const Dataset<Scalar>& data, const Vector<Scalar>& column_units);

  Index num_samples_;
  Scalar size_;  // |y|
  bool has_units_ = false;
  Vector<Scalar> inverse_sizes_;   // D
  std::vector<Index> kept_;        // the rows of X in the order of upper_
  Matrix<Scalar> upper_ = {};      // R
  Vector<Scalar> row_sizes_ = {};  // 1 / S
  Matrix<Scalar> X_ = {};
  Vector<Scalar> y_ = {};
  Vector<Scalar> least_ = {};
  Scalar misfit_ = {};
  Scalar rounding_ = Scalar(0);  // of the residual
  Scalar worst_ = Scalar(0);
  Index worst_row_ = 0;
};

template <class Scalar>
OrthonormalRows<Scalar>::OrthonormalRows(const Dataset<Scalar>& data)
    : num_samples_(data.num_samples()), size_(detail::norm(data.y())) {
  using std::min;
  const detail::Equilibration<Scalar> units(data.X());
  const bool differ = units.column_spread() > Scalar(5);
  if (differ) {
    inverse_sizes_ = detail::powers_of_two(units.row);
  } else {
    inverse_sizes_ = detail::sizes_of_rows(data.X());
    for (Scalar& size : inverse_sizes_) size = size > std::numeric_limits<Scalar>::min() ? Scalar(1) / size : Scalar(1);
  }
  Matrix<Scalar> columns = detail::transposed(data.X());
  detail::scale_columns(columns, inverse_sizes_);
  const Vector<Scalar> column_units =
      differ ? detail::powers_of_two(units.col) : Vector<Scalar>(Vector<Scalar>::Ones(data.num_inputs()));
  if (differ) detail::scale_rows(column_units, columns);
  detail::PivotedQr<Scalar> qr;
  qr.compute(columns);
  const auto n = static_cast<Scalar>(min(num_samples_, data.num_inputs()));
  const Index rank = qr.rank(Scalar(16) * n * Eigen::NumTraits<Scalar>::epsilon());
  for (Index k = 0; k < rank; ++k) kept_.push_back(qr.column(k));
  if (differ && rank > 0) {
    factorize_by_size(data.X());
  } else {
    X_ = detail::transposed(qr.leading_columns_of_q(rank));
    upper_ = qr.upper().topLeftCorner(rank, rank);
  }
  row_sizes_ = Vector<Scalar>::Ones(upper_.rows());
  y_ = labels(data.y());
  solve_least(data, column_units);
  if (has_units_) scale_rows();
}

template <class Scalar>
void OrthonormalRows<Scalar>::require_solution() const {
  using std::sqrt;
  const Scalar tolerance = sqrt(Eigen::NumTraits<Scalar>::epsilon());
  require<InfeasibleError>(misfit_ <= tolerance * size_ + rounding_, "no beta satisfies X beta = y (X is ",
                           num_samples_, " x ", X_.cols(), "): what fits ", y_.size(),
                           " independent rows leaves a residual of norm ", misfit_, " where |y| = ", size_);
  require<InfeasibleError>(worst_ <= tolerance, "no beta satisfies X beta = y (X is ", num_samples_, " x ", X_.cols(),
                           "): what fits ", y_.size(), " independent rows leaves a residual of ", worst_,
                           " relative to the terms of row ", worst_row_);
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::least_solution() const {
  require_solution();
  return least_;
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::labels(const Vector<Scalar>& v) const {
  Vector<Scalar> out(upper_.rows());
  for (Index k = 0; k < out.size(); ++k) out[k] = inverse_sizes_[row(k)] * v[row(k)];
  detail::solve_upper_transposed(upper_, out);
  return divided_by_sizes(out);
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::least_correction(const Vector<Scalar>& v) const {
  Vector<Scalar> correction;
  detail::multiply_transposed(X_, times_squared_sizes(labels(v)), correction);
  return correction;
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::original_multipliers(const Vector<Scalar>& multipliers) const {
  Vector<Scalar> pivoted = divided_by_sizes(multipliers);
  detail::solve_upper(upper_, pivoted);
  Vector<Scalar> out = Vector<Scalar>::Zero(num_samples_);
  for (Index k = 0; k < pivoted.size(); ++k) out[row(k)] = inverse_sizes_[row(k)] * pivoted[k];
  return out;
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::nearest_multipliers(const Vector<Scalar>& z) const {
  Vector<Scalar> image;
  detail::multiply(X_, z, image);
  return original_multipliers(times_squared_sizes(image));
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::divided_by_sizes(Vector<Scalar> v) const {
  for (Index k = 0; k < v.size(); ++k) v[k] /= row_sizes_[k];
  return v;
}

template <class Scalar>
Vector<Scalar> OrthonormalRows<Scalar>::times_squared_sizes(Vector<Scalar> v) const {
  for (Index k = 0; k < v.size(); ++k) v[k] = v[k] * row_sizes_[k] * row_sizes_[k];
  return v;
}

template <class Scalar>
void OrthonormalRows<Scalar>::factorize_by_size(const Matrix<Scalar>& X) {
  using std::abs;
  has_units_ = true;
  const auto rank = static_cast<Index>(kept_.size());
  const Index d = X.cols();
  Vector<Scalar> sizes = Vector<Scalar>::Zero(d);
  for (const Index n : kept_)
    for (Index j = 0; j < d; ++j) sizes[j] = std::max(sizes[j], Scalar(abs(inverse_sizes_[n] * X(n, j))));
  const std::vector<Index> order = detail::decreasing_order(sizes);
  Matrix<Scalar> sorted(d, rank);
  for (Index i = 0; i < d; ++i)
    for (Index k = 0; k < rank; ++k)
      sorted(i, k) = X(row(k), order[static_cast<std::size_t>(i)]) * inverse_sizes_[row(k)];
  detail::PivotedQr<Scalar> qr;
  qr.compute(sorted);
  Index factored = 0;
  while (factored < rank && qr.upper()(factored, factored) != Scalar(0)) ++factored;
  std::vector<Index> pivoted;
  for (Index k = 0; k < factored; ++k) pivoted.push_back(row(qr.column(k)));
  kept_ = std::move(pivoted);
  upper_ = qr.upper().topLeftCorner(factored, factored);
  sorted = qr.leading_columns_of_q(factored);
  X_.resize(factored, d);
  for (Index i = 0; i < d; ++i)
    for (Index k = 0; k < factored; ++k) X_(k, order[static_cast<std::size_t>(i)]) = sorted(i, k);
}

template <class Scalar>
void OrthonormalRows<Scalar>::scale_rows() {
  using std::log2;
  Vector<Scalar> exponents = detail::sizes_of_terms(X_, least_);
  for (Scalar& size : exponents) size = size > Scalar(0) ? Scalar(static_cast<int>(log2(size))) : Scalar(0);
  row_sizes_ = detail::powers_of_two(exponents);
  detail::scale_rows(divided_by_sizes(Vector<Scalar>::Ones(row_sizes_.size())), X_);
  y_ = divided_by_sizes(y_);
}

template <class Scalar>
void OrthonormalRows<Scalar>::solve_least(const Dataset<Scalar>& data, const Vector<Scalar>& column_units) {
  using std::abs;
  detail::multiply_transposed(X_, times_squared_sizes(y_), least_);
  Vector<Scalar> residual = data.y();
  detail::subtract_product(data.X(), least_, residual);
  misfit_ = detail::norm(residual);
  // Refinement, as long as it gains: what is left in redundant rows does not change.
  for (int pass = 0; pass < 4 && misfit_ > Scalar(4) * Eigen::NumTraits<Scalar>::epsilon() * size_; ++pass) {
    Vector<Scalar> refined = least_correction(residual);
    detail::add_multiple(Scalar(1), least_, refined);
    Vector<Scalar> rest = data.y();
    detail::subtract_product(data.X(), refined, rest);
    const Scalar left = detail::norm(rest);
    if (!(left < misfit_)) break;
    least_ = refined;
    residual = rest;
    const bool gains = left < misfit_ / Scalar(2);
    misfit_ = left;
    if (!gains) break;
  }
  const Vector<Scalar> terms = detail::sizes_of_terms(data.X(), least_);
  // An entry of `least_` that should be 0 is a rounding of the others: that much of a row is no misfit of it.
  const Scalar rounding = Scalar(16) * static_cast<Scalar>(y_.size() + 1) * Eigen::NumTraits<Scalar>::epsilon() *
                          least_.cwiseQuotient(column_units).cwiseAbs().maxCoeff();
  const Vector<Scalar> roundings = detail::sizes_of_terms(data.X(), Vector<Scalar>(rounding * column_units));
  rounding_ = detail::norm(roundings);
  for (Index i = 0; i < terms.size(); ++i) {
    const Scalar size = terms[i] + abs(data.y()[i]);
    const Scalar relative = size > Scalar(0) ? abs(residual[i]) / size : Scalar(0);
    if (relative <= worst_ || abs(residual[i]) <= roundings[i]) continue;
    worst_ = relative;
    worst_row_ = i;
  }
}

/// Whether a Cholesky factorization of X X^T shows full row rank with a condition number small enough for
/// normal equations, at a tenth of a QR's cost. Cost O(N^2 d).
template <class Scalar>
[[nodiscard]] bool has_well_conditioned_rows(const Matrix<Scalar>& X) {
  if (X.rows() > X.cols()) return false;
  detail::Cholesky<Scalar> gram;
  gram.compute(detail::lower_gram_matrix(X));
  return gram.is_well_conditioned();
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_ORTHONORMAL_ROWS(prefix, S)                \
  prefix template struct detail::Equilibration<S>;                      \
  prefix template Vector<S> detail::powers_of_two<S>(const Vector<S>&); \
  prefix template class OrthonormalRows<S>;                             \
  prefix template bool has_well_conditioned_rows<S>(const Matrix<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_ORTHONORMAL_ROWS)
