#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/gram_sum.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/order.hpp"
#include "richflow/linalg/pivoted_qr.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/stable_norm.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"

namespace richflow::detail {

/// What DualFlow does, for any mirror map: its members are defined outside the class, so that they can be compiled once
/// for a number type.
template <class S>
class DualFlowEngine {
 public:
  /// See DualFlow. `dataset` must outlive it.
  DualFlowEngine(std::unique_ptr<AnyMirrorMap<S>> map, const Dataset<S>& dataset);
  DualFlowEngine(const DualFlowEngine& other);
  DualFlowEngine(DualFlowEngine&& other) noexcept;
  DualFlowEngine& operator=(const DualFlowEngine& other);
  DualFlowEngine& operator=(DualFlowEngine&& other) noexcept;
  ~DualFlowEngine();

  [[nodiscard]] Index dimension() const { return dataset_->num_samples(); }
  [[nodiscard]] const AnyMirrorMap<S>& map() const { return *map_; }
  [[nodiscard]] const Dataset<S>& dataset() const { return *dataset_; }
  [[nodiscard]] bool is_graded() const { return rotated_.has_value(); }
  [[nodiscard]] S column_ratio() const { return column_ratio_; }

  // See DualFlow; `field` is the call.
  [[nodiscard]] Vector<S> multipliers(ConstVectorRef<S> state) const;
  [[nodiscard]] S first_step() const;
  void field(ConstVectorRef<S> nu, VectorRef<S> dnu) const;
  [[nodiscard]] S loss(ConstVectorRef<S> nu) const;
  void beta(ConstVectorRef<S> nu, VectorRef<S> out) const;
  void negative_jacobian(ConstVectorRef<S> nu, S relative, S absolute, MatrixRef<S> jacobian) const;
  [[nodiscard]] S error_ratio(ConstVectorRef<S> nu_new, ConstVectorRef<S> error, S relative, S absolute) const;

 private:
  [[nodiscard]] const Matrix<S>& X() const { return rotated_ ? rotated_->X() : dataset_->X(); }
  [[nodiscard]] const Vector<S>& y() const { return rotated_ ? rotated_->y() : dataset_->y(); }

  void rotate_graded_columns();

  /// Sets the point and its residual; and z_, beta_ and curvature_ where beta is visible at least.
  void evaluate(ConstVectorRef<S> nu) const { evaluate(nu, false); }
  /// The same with all of z_, beta_ and curvature_.
  void evaluate_all(ConstVectorRef<S> nu) const {
    evaluate(nu, true);
    complete();
  }
  void evaluate(ConstVectorRef<S> nu, bool needs_all) const;

  /// Sets the rest of z_, beta_ and curvature_ at the point.
  void complete() const;

  /// Sets beta_, curvature_ and invisible_ from z_.
  void evaluate_map() const;

  /// Whether so few entries of beta_ are visible that the others need not be read.
  [[nodiscard]] bool has_few_visible() const;

  /// Lists the columns whose beta may be visible at the point, seen from the last complete one. False where too many
  /// are or may be.
  bool list_columns() const;

  /// At a complete point, sets weight_ to the curvature times `X^T error`, 0 where the curvature is invisible beside
  /// the others; false where that is not for most.
  bool set_changes_of_visible(ConstVectorRef<S> error) const;

  /// Whether products with so many columns, one by one, are much cheaper than with all.
  [[nodiscard]] bool is_few(std::size_t columns) const {
    return 4 * static_cast<Index>(columns) <= dataset_->num_inputs();
  }

  /// Remembers this complete point for `list_columns`.
  void keep_reference() const;

  /// Adds `X beta_` to the residual, without the columns whose beta is invisible where these are many.
  void add_prediction() const;

  /// Adds `X diag(weight_) X^T` to the lower triangle of `jacobian`, over the columns where
  /// `|weight_| > rate max(negligible, relative curvature_)`; over all where `negligible` is negative.
  /// In single precision where `is_low`.
  void add_weighted_gram(S negligible, S relative, bool is_low, MatrixRef<S> jacobian) const;

  /// Adds `X diag(weight_ / unit) X^T` over these columns, collected in the buffers.
  template <class Number>
  void add_columns(S negligible, S relative, S unit, Matrix<Number>& columns, Matrix<Number>& negative_columns,
                   MatrixRef<Number> gram) const;

  /// |X|_2^2 by a few power iterations from a fixed start, good to a small factor.
  [[nodiscard]] S estimate_squared_norm() const;

  MirrorMapValue<S> map_;
  const Dataset<S>* dataset_;
  std::optional<Dataset<S>> rotated_;  // U^T X and U^T y, where columns differ much in size
  Matrix<S> rotation_;                 // U
  Vector<S> units_;                    // sizes of the columns over their median, 1 at least
  S column_ratio_ = S(1);              // of the largest size to the smallest, where it is rotated
  S squared_norm_ = S(0);
  mutable Vector<S> point_;           // the latest evaluated nu; NaN before the first
  mutable Vector<S> residual_;        // X beta - y there
  mutable Vector<S> z_;               // X^T nu
  mutable Vector<S> beta_;            // beta(z)
  mutable S invisible_ = S(0);        // below the rounding error of the largest entry of beta_
  mutable Vector<S> curvature_;       // d beta / d z
  mutable bool is_complete_ = false;  // z_, beta_ and curvature_ are those of the point everywhere
  Vector<S> column_norms_;
  mutable bool has_reference_ = false;         // where few entries of beta are visible
  mutable Vector<S> reference_;                // nu of a complete point
  mutable Vector<S> reference_z_;              // X^T nu there
  mutable S hidden_beta_ = S(0);               // where z lies between these two, |beta| is not larger
  mutable Vector<S> hidden_from_, hidden_to_;  // a z each
  mutable std::vector<Index> listed_;
  Vector<S> start_curvature_;         // d beta / d z at nu = 0
  mutable Matrix<S> start_jacobian_;  // lower triangle of S at nu = 0, once it was needed
  mutable bool has_start_jacobian_ = false;
  mutable Vector<S> weight_;   // scratch, d
  mutable Vector<S> scratch_;  // scratch, N
  using Low = LowPrecision<S>;
  mutable Matrix<S> columns_, negative_columns_;  // buffers of sums
  mutable Matrix<Low> low_columns_, low_negative_columns_, low_jacobian_;
};

template <class S>
DualFlowEngine<S>::DualFlowEngine(std::unique_ptr<AnyMirrorMap<S>> map, const Dataset<S>& dataset)
    : map_(std::move(map)),
      dataset_(&dataset),
      point_(Vector<S>::Constant(dataset.num_samples(), std::numeric_limits<S>::quiet_NaN())),
      residual_(dataset.num_samples()),
      z_(dataset.num_inputs()),
      beta_(dataset.num_inputs()),
      curvature_(dataset.num_inputs()),
      reference_(dataset.num_samples()),
      reference_z_(dataset.num_inputs()),
      hidden_from_(Vector<S>::Zero(dataset.num_inputs())),
      hidden_to_(Vector<S>::Zero(dataset.num_inputs())),
      start_curvature_(dataset.num_inputs()),
      weight_(dataset.num_inputs()),
      scratch_(dataset.num_samples()),
      low_jacobian_(dataset.num_samples(), dataset.num_samples()) {
  using std::sqrt;
  require<DimensionError>(map_->dimension() == dataset.num_inputs(), "the mirror map has ", map_->dimension(),
                          " coordinates but X has ", dataset.num_inputs(), " columns");
  rotate_graded_columns();
  for (Matrix<S>* buffer : {&columns_, &negative_columns_}) GramSum<S>::allocate(dimension(), *buffer);
  for (Matrix<Low>* buffer : {&low_columns_, &low_negative_columns_}) GramSum<Low>::allocate(dimension(), *buffer);
  start_jacobian_.setZero(dimension(), dimension());
  squared_norm_ = estimate_squared_norm();
  column_norms_ = squared_norms_of_columns(X());
  for (S& norm : column_norms_) norm = sqrt(norm);
  listed_.reserve(static_cast<std::size_t>(dataset.num_inputs()));
  z_.setZero();
  map_->mirror(z_, beta_, start_curvature_);
}

template <class S>
DualFlowEngine<S>::DualFlowEngine(const DualFlowEngine& other) = default;
template <class S>
DualFlowEngine<S>::DualFlowEngine(DualFlowEngine&& other) noexcept = default;
template <class S>
DualFlowEngine<S>& DualFlowEngine<S>::operator=(const DualFlowEngine& other) {
  return *this = DualFlowEngine(other);
}
template <class S>
DualFlowEngine<S>& DualFlowEngine<S>::operator=(DualFlowEngine&& other) noexcept = default;
template <class S>
DualFlowEngine<S>::~DualFlowEngine() = default;

template <class S>
Vector<S> DualFlowEngine<S>::multipliers(ConstVectorRef<S> state) const {
  require_size("state", state.size(), dimension());
  Vector<S> nu = state;
  if (rotated_) multiply(rotation_, state, nu);
  return nu;
}

template <class S>
S DualFlowEngine<S>::first_step() const {
  evaluate(Vector<S>::Zero(dimension()));
  const S rate = map_->dual_rate();
  multiply_transposed(X(), residual_, weight_);
  multiple(S(-rate), weight_, weight_);
  const S largest = largest_size(weight_);
  // Half the way to a bound, where there is one.
  const S reach = std::min(S(1), map_->max_step(Vector<S>::Zero(weight_.size()), weight_) / S(2) * largest);
  const S fastest = std::max(largest / reach, rate * squared_norm_ * largest_size(start_curvature_));
  return fastest > S(0) ? S(1) / fastest : S(1);
}

template <class S>
void DualFlowEngine<S>::field(ConstVectorRef<S> nu, VectorRef<S> dnu) const {
  evaluate(nu);
  const S rate = -map_->dual_rate();
  for (Index n = 0; n < dnu.size(); ++n) dnu[n] = rate * residual_[n];
}

template <class S>
S DualFlowEngine<S>::loss(ConstVectorRef<S> nu) const {
  evaluate(nu);
  return inner_product(residual_, residual_);
}

template <class S>
void DualFlowEngine<S>::beta(ConstVectorRef<S> nu, VectorRef<S> out) const {
  require_size("out", out.size(), dataset_->num_inputs());
  evaluate_all(nu);
  out = beta_;
}

template <class S>
void DualFlowEngine<S>::negative_jacobian(ConstVectorRef<S> nu, S relative, S absolute, MatrixRef<S> jacobian) const {
  require<DimensionError>(jacobian.rows() == dimension() && jacobian.cols() == dimension(), "S is ", jacobian.rows(),
                          " x ", jacobian.cols(), " where ", dimension(), " x ", dimension(), " is needed");
  if (rotated_) relative = absolute = S(0);
  evaluate_all(nu);
  const S rate = map_->dual_rate();
  const S rounding = rotated_ ? S(0) : std::numeric_limits<S>::epsilon() / S(4);
  const S negligible = std::max(absolute / (rate * squared_norm_), rounding * largest_size(curvature_));
  // Where the rounding of single precision is within what is allowed.
  const S size = rate * squared_norm_ * largest_size(curvature_);
  const bool is_low = !std::is_same_v<Low, S> && S(16) * S(std::numeric_limits<Low>::epsilon()) * size <= absolute;
  Index from_zero = 0;
  Index from_start = 0;
  for (Index i = 0; i < curvature_.size(); ++i) {
    using std::abs;
    const S c = curvature_[i];
    from_zero += c > negligible ? 1 : 0;
    from_start += abs(c - start_curvature_[i]) > std::max(negligible, relative * c) ? 1 : 0;
  }
  // The choice must depend on nu alone, not on whether the start's Jacobian is there already: a resumed run
  // repeats the uninterrupted one bit for bit.
  if (2 * from_start < from_zero) {
    if (!has_start_jacobian_) {
      has_start_jacobian_ = true;
      multiple(rate, start_curvature_, weight_);
      add_weighted_gram(S(-1), S(0), false, start_jacobian_);
    }
    for (Index j = 0; j < dimension(); ++j) std::copy_n(&start_jacobian_(j, j), dimension() - j, &jacobian(j, j));
    for (Index i = 0; i < weight_.size(); ++i) weight_[i] = rate * (curvature_[i] - start_curvature_[i]);
    add_weighted_gram(negligible, relative, is_low, jacobian);
  } else {
    for (Index j = 0; j < dimension(); ++j) std::fill_n(&jacobian(j, j), dimension() - j, S(0));
    multiple(rate, curvature_, weight_);
    add_weighted_gram(negligible, S(0), is_low, jacobian);
  }
}

template <class S>
S DualFlowEngine<S>::error_ratio(ConstVectorRef<S> nu_new, ConstVectorRef<S> error, S relative, S absolute) const {
  evaluate_all(nu_new);
  if (!set_changes_of_visible(error)) {
    scratch_ = error;
    multiply_columns(X(), scratch_, nullptr, X().cols(), weight_);
    multiply_entries(weight_, curvature_, weight_);
  }
  if (rotated_) {
    // A large column makes much of a small entry of beta.
    multiply_entries(weight_, units_, weight_);
    const S change = stable_norm(weight_);
    multiply_entries(units_, beta_, weight_);
    return change == S(0) ? change : change / (absolute + relative * stable_norm(weight_));
  }
  const S change = stable_norm(weight_);
  if (change == S(0)) return change;
  return change / (absolute + relative * stable_norm(beta_));
}

template <class S>
void DualFlowEngine<S>::rotate_graded_columns() {
  const Matrix<S>& X = dataset_->X();
  const Vector<S> sizes = sizes_of_columns(X);
  const S largest = largest_size(sizes);
  S smallest = largest;
  for (const S size : sizes)
    if (size > S(0)) smallest = std::min(smallest, size);
  if (!(largest > S(1e3) * smallest)) return;
  column_ratio_ = largest / smallest;
  const auto middle = static_cast<std::size_t>((sizes.size() - 1) / 2);
  const S median = sizes[decreasing_order(sizes)[middle]];
  const S unit = median > S(0) ? median : smallest;
  units_ = sizes;
  for (S& size : units_) size = std::max(S(size / unit), S(1));
  PivotedQr<S> qr;
  qr.compute(X);
  rotation_ = qr.leading_columns_of_q(X.rows());
  Vector<S> labels;
  multiply_transposed(rotation_, dataset_->y(), labels);
  rotated_.emplace(qr.unpivoted_r(), std::move(labels));
}

template <class S>
bool DualFlowEngine<S>::set_changes_of_visible(ConstVectorRef<S> error) const {
  using std::isfinite;
  if (!has_reference_) return false;
  const S negligible = std::numeric_limits<S>::epsilon() / S(8 * dataset_->num_inputs()) * largest_size(curvature_);
  if (!isfinite(negligible)) return false;  // an infinite curvature must reach the ratio
  listed_.clear();
  for (Index i = 0; i < curvature_.size(); ++i)
    if (!(curvature_[i] <= negligible)) {
      listed_.push_back(i);
      if (!is_few(listed_.size())) return false;
    }
  weight_.setZero();
  scratch_ = error;
  multiply_columns(X(), scratch_, listed_.data(), static_cast<Index>(listed_.size()), weight_);
  for (const Index i : listed_) weight_[i] *= curvature_[i];
  return true;
}

template <class S>
void DualFlowEngine<S>::evaluate(ConstVectorRef<S> nu, bool needs_all) const {
  require_size("nu", nu.size(), dimension());
  if (std::equal(point_.begin(), point_.end(), nu.data())) return;
  std::copy_n(nu.data(), nu.size(), point_.data());
  is_complete_ = false;
  if (!needs_all && list_columns()) {
    z_ = reference_z_;
    multiply_columns(X(), point_, listed_.data(), static_cast<Index>(listed_.size()), z_);
    evaluate_map();
    // What was left out is hidden from the beta of this point, too.
    if (!(invisible_ >= hidden_beta_)) complete();
  } else {
    complete();
  }
  multiple(S(-1), y(), residual_);
  add_prediction();
}

template <class S>
void DualFlowEngine<S>::complete() const {
  if (is_complete_) return;
  is_complete_ = true;
  multiply_columns(X(), point_, nullptr, X().cols(), z_);
  evaluate_map();
  keep_reference();
}

template <class S>
void DualFlowEngine<S>::evaluate_map() const {
  map_->mirror(z_, beta_, curvature_);
  invisible_ = std::numeric_limits<S>::epsilon() / S(8 * dataset_->num_inputs()) * largest_size(beta_);
}

template <class S>
void DualFlowEngine<S>::keep_reference() const {
  has_reference_ = !rotated_ && has_few_visible();
  if (!has_reference_) return;
  reference_ = point_;
  reference_z_ = z_;
  // Good for a beta of half to eight times the size.
  if (hidden_beta_ <= invisible_ && S(16) * hidden_beta_ >= invisible_) return;
  hidden_beta_ = invisible_ / S(2);
  weight_.setConstant(hidden_beta_);
  map_->gradient(weight_, hidden_to_);
  weight_.setConstant(-hidden_beta_);
  map_->gradient(weight_, hidden_from_);
}

template <class S>
bool DualFlowEngine<S>::list_columns() const {
  if (!has_reference_ || !(hidden_beta_ > S(0))) return false;
  sum_with_multiple(point_, S(-1), reference_, scratch_);
  // With the rounding of the products.
  const S rounding = S(4 * (dimension() + 8)) * std::numeric_limits<S>::epsilon();
  const S reach = norm(scratch_) * (S(1) + rounding) + rounding * (norm(point_) + norm(reference_));
  listed_.clear();
  for (Index i = 0; i < reference_z_.size(); ++i) {
    const S z = reference_z_[i];
    const S most = reach * column_norms_[i];
    if (z - most > hidden_from_[i] && z + most < hidden_to_[i]) continue;
    listed_.push_back(i);
    if (!is_few(listed_.size())) return false;
  }
  return true;
}

template <class S>
bool DualFlowEngine<S>::has_few_visible() const {
  using std::abs;
  using std::isfinite;
  // An infinite beta (beyond a bound, or an overflow) must reach the residual, so that the step is refused.
  if (!isfinite(invisible_)) return false;
  const Index d = beta_.size();
  constexpr Index part = 128;
  Index count = 0;
  for (Index begin = 0; begin < d && 8 * count <= d; begin += part) {
    const Index end = std::min(begin + part, d);
    for (Index i = begin; i < end; ++i) count += abs(beta_[i]) > invisible_ ? 1 : 0;
  }
  return 8 * count <= d;
}

template <class S>
void DualFlowEngine<S>::add_prediction() const {
  using std::abs;
  if (!is_complete_ && !has_few_visible()) complete();
  if (is_complete_ && !has_reference_) {
    add_product(X(), beta_, residual_);
    return;
  }
  for (Index i = 0; i < beta_.size(); ++i)
    if (!(abs(beta_[i]) <= invisible_)) add_multiple(beta_[i], &X()(0, i), residual_.data(), residual_.size());
}

template <class S>
void DualFlowEngine<S>::add_weighted_gram(S negligible, S relative, bool is_low, MatrixRef<S> jacobian) const {
  if (!is_low) {
    add_columns<S>(negligible, relative, S(1), columns_, negative_columns_, jacobian);
    return;
  }
  // In the range of the low precision.
  const S unit = largest_size(weight_) * squared_norm_;
  if (!(unit > S(0))) return;
  low_jacobian_.setZero();
  add_columns<Low>(negligible, relative, unit, low_columns_, low_negative_columns_, low_jacobian_);
  add_lower_triangle<S>(unit, low_jacobian_, jacobian);
}

template <class S>
template <class Number>
void DualFlowEngine<S>::add_columns(S negligible, S relative, S unit, Matrix<Number>& columns,
                                    Matrix<Number>& negative_columns, MatrixRef<Number> gram) const {
  using std::abs;
  using std::sqrt;
  const Matrix<S>& X = this->X();
  const S rate = map_->dual_rate();
  GramSum<Number> positive(columns, Number(1), gram);
  GramSum<Number> negative(negative_columns, Number(-1), gram);
  for (Index j = 0; j < dataset_->num_inputs(); ++j) {
    const S size = abs(weight_[j]);
    if (!(negligible < S(0)) && !(size > rate * std::max(negligible, S(relative * curvature_[j])))) continue;
    GramSum<Number>& sum = weight_[j] < S(0) ? negative : positive;
    sum.add(S(sqrt(size / unit)), X.data() + j * X.rows());
  }
  positive.finish();
  negative.finish();
}

template <class S>
S DualFlowEngine<S>::estimate_squared_norm() const {
  const Matrix<S>& X = this->X();
  Vector<S> u;
  multiply(X, Vector<S>(Vector<S>::Ones(X.cols())), u);
  add_multiple(S(1), y(), u);
  S estimate = inner_product(X.data(), X.data(), X.size()) / static_cast<S>(std::min(X.rows(), X.cols()));
  for (int k = 0; k < 3; ++k) {
    const S norm = stable_norm(u);
    if (!(norm > S(0))) break;
    for (S& value : u) value /= norm;
    multiply_transposed(X, u, z_);
    multiply(X, z_, u);
    estimate = std::max(estimate, inner_product(z_, z_));
  }
  return estimate;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_DUAL_FLOW_ENGINE(prefix, S) prefix template class detail::DualFlowEngine<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DUAL_FLOW_ENGINE)
