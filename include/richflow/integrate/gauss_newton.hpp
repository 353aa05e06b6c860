#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <functional>
#include <limits>
#include <memory>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/shifted_system.hpp"
#include "richflow/losses/objective.hpp"
#include "richflow/models/evaluation.hpp"

/// @file
/// The stiff part of the gradient flow of a model: the Gauss-Newton matrix `J^T H J`, H the second derivative of the
/// loss by the M = N K outputs, through its M x M tangent kernel.

namespace richflow {

/// The tangent space of a model on data along its gradient flow, in memory of its own: what a linearly implicit stepper
/// moves from step to step. Refers to the flow that made it. N x K outputs are vectors of M = N K values, column by
/// column.
template <class S>
class GaussNewtonTangent {
 public:
  /// For what `X` is a view of and the loss `objective`: both must outlive it. Throws ArgumentError where a constant
  /// curvature is not positive and finite.
  GaussNewtonTangent(Evaluation<S> at, const detail::AnyObjective<S>& objective, Samples<S> X);
  // Not copied: the evaluation refers to the point that is held here.
  GaussNewtonTangent(const GaussNewtonTangent&) = delete;
  GaussNewtonTangent& operator=(const GaussNewtonTangent&) = delete;
  GaussNewtonTangent(GaussNewtonTangent&&) noexcept = default;
  GaussNewtonTangent& operator=(GaussNewtonTangent&&) noexcept = default;
  ~GaussNewtonTangent() = default;

  /// P.
  [[nodiscard]] Index num_parameters() const { return at_.num_parameters(); }
  /// M.
  [[nodiscard]] Index num_residuals() const { return outputs_.size(); }

  /// Moves to w; what follows is there. `slope` = dL / df, M values, and the derivative of the flow, `dw = -J^T slope`.
  void linearize(const Vector<S>& w, Vector<S>& slope, Vector<S>& dw);
  /// `out = J^T r`, P values.
  void vjp(const Vector<S>& r, VectorRef<S> out);
  /// `out = J v`, M values.
  void jvp(const Vector<S>& v, Vector<S>& out);
  /// `K = J J^T`, M x M.
  void kernel(Matrix<S>& K) { at_.kernel(K); }

  /// Whether H is a multiple of the identity, `curvature()` times.
  [[nodiscard]] bool is_quadratic() const { return kind_ == detail::CurvatureKind::constant; }
  [[nodiscard]] S curvature() const { return objective_->curvature(); }
  /// `out = R v` and `out = R^T v` with `R R^T = H`, M values; neither in place.
  void multiply_root(const Vector<S>& v, Vector<S>& out) const { multiply_root(v, false, out); }
  void multiply_root_transposed(const Vector<S>& v, Vector<S>& out) const { multiply_root(v, true, out); }
  /// `K = R^T K R`, both triangles.
  void conjugate_by_root(Matrix<S>& K);

  /// Says that the flow has another term `-rate(t) w`, weight decay: `linearize` leaves it out, the steppers add it.
  /// Rates add up.
  void add_decay(std::function<S(S)> rate) {
    if (decay_)
      decay_ = [first = std::move(decay_), second = std::move(rate)](S t) { return first(t) + second(t); };
    else
      decay_ = std::move(rate);
  }
  /// Whether it was said, whatever the rate.
  [[nodiscard]] bool has_decay() const { return static_cast<bool>(decay_); }
  /// That rate at time t, 0 where there is none.
  [[nodiscard]] S decay(S t) const { return decay_ ? decay_(t) : S(0); }

  /// The largest rate at which a unit changes relative to its norm, `max_u |dw_u| / |w_u|`; for a model without units,
  /// `|dw| / |w|`. A step much longer than its inverse cannot follow the flow.
  [[nodiscard]] S growth_rate(const Vector<S>& w, const Vector<S>& dw);

 private:
  void multiply_root(const Vector<S>& v, bool is_transposed, Vector<S>& out) const;
  [[nodiscard]] Eigen::Map<const Matrix<S>> by_sample(const Vector<S>& r) const {
    return {r.data(), outputs_.rows(), outputs_.cols()};
  }
  [[nodiscard]] Eigen::Map<Matrix<S>> by_sample(Vector<S>& r) const {
    return {r.data(), outputs_.rows(), outputs_.cols()};
  }

  Evaluation<S> at_;
  const detail::AnyObjective<S>* objective_;
  Samples<S> X_;
  detail::CurvatureKind kind_;
  Vector<S> point_ = {};
  Matrix<S> outputs_ = {};  // N x K
  Matrix<S> root_ = {};     // N x K, or N x K^2
  Vector<S> from_ = {};     // scratch, M
  Vector<S> column_ = {};
  Vector<S> unit_norms_ = {};
  Vector<S> unit_changes_ = {};
  std::function<S(S)> decay_ = {};
  bool has_samples_ = false;
};

/// A gradient flow whose stiffness is a Gauss-Newton matrix `S = J^T H J` of rank M, M much smaller than the dimension
/// P (and with weight decay a multiple of I): linear systems with `I / h + S` and functions of it cost M x M work.
/// `make_tangent()` returns the tangent space, and `has_curvature` says that the loss knows H.
template <class P>
concept GaussNewtonFlow = requires(const P& problem) {
  { problem.make_tangent() } -> std::same_as<GaussNewtonTangent<typename P::Scalar>>;
  requires P::has_curvature;
};

namespace detail {

/// `|A|_inf` of a symmetric matrix.
template <class S>
[[nodiscard]] S largest_row_sum(const Matrix<S>& A) {
  using std::abs;
  S largest(0);
  for (Index j = 0; j < A.cols(); ++j) {
    S sum(0);
    for (Index i = 0; i < A.rows(); ++i) sum += abs(A(i, j));
    largest = std::max(largest, sum);
  }
  return largest;
}

/// Solves `(s I + J^T H J) u = v` through the tangent kernel (docs/theory.md, section 10.2):
/// `u = (v - J^T R (s I + R^T K R)^-1 R^T J v) / s`, and with `H = c I`, `u = (v - J^T (s / c I + K)^-1 J v) / s`.
/// Weight decay adds its rate to s.
template <class S>
class TangentStiffness {
 public:
  explicit TangentStiffness(GaussNewtonTangent<S> tangent);

  /// The derivative of the flow at y, where the tangent space moves to.
  void start(S t, const Vector<S>& y, Vector<S>& dy);

  /// Takes the tangent kernel at y; `dy` is that of `start`.
  void update(const Vector<S>& y, const Vector<S>& dy);

  /// False if `shift I + S` is not positive definite or not finite.
  bool factorize(S shift);

  /// `u` for `v = F(y) = dy`. Without decay that is `-J^T slope`, for which both factors of J^T merge: `u = -J^T (s I +
  /// H K)^-1 slope`.
  void solve_start(const Vector<S>& dy, Vector<S>& u);

  /// In place.
  void solve(Vector<S>& u);

  [[nodiscard]] GaussNewtonTangent<S>& tangent() { return tangent_; }
  [[nodiscard]] const ShiftedSystem<S>& system() const { return system_; }
  [[nodiscard]] const Vector<S>& slope() const { return slope_; }
  /// The rate of weight decay at the start of the step.
  [[nodiscard]] S decay() const { return decay_; }
  /// The step that is taken whatever its error.
  [[nodiscard]] S floor() const { return floor_; }

 private:
  GaussNewtonTangent<S> tangent_;
  ShiftedSystem<S> system_ = {};  // with K, or R^T K R
  Vector<S> slope_ = {};          // dL / df at the start of the step
  Vector<S> kernel_slope_ = {};   // K slope, where H is no multiple of the identity
  Vector<S> projected_ = {};      // scratch, M
  Vector<S> rooted_ = {};         // scratch, M
  Vector<S> pulled_ = {};         // scratch, P
  S shift_ = S(1);                // with the decay
  S decay_ = S(0);
  S floor_ = S(0);
};

}  // namespace detail

template <class S>
GaussNewtonTangent<S>::GaussNewtonTangent(Evaluation<S> at, const detail::AnyObjective<S>& objective, Samples<S> X)
    : at_(std::move(at)), objective_(&objective), X_(X), kind_(objective.curvature_kind()) {
  using std::isfinite;
  require(kind_ != detail::CurvatureKind::constant || (objective.curvature() > S(0) && isfinite(objective.curvature())),
          "the loss's curvature must be positive and finite, got ", objective.curvature());
  outputs_.setZero(X.size(), at_.num_outputs());
  point_.setZero(at_.num_parameters());
  if (kind_ == detail::CurvatureKind::by_output || kind_ == detail::CurvatureKind::centered)
    root_.setZero(X.size(), at_.num_outputs());
  if (kind_ == detail::CurvatureKind::by_sample) root_.setZero(X.size(), at_.num_outputs() * at_.num_outputs());
  for (Vector<S>* v : {&from_, &column_}) v->setZero(outputs_.size());
  for (Vector<S>* v : {&unit_norms_, &unit_changes_}) v->setZero(at_.num_units());
}

template <class S>
void GaussNewtonTangent<S>::linearize(const Vector<S>& w, Vector<S>& slope, Vector<S>& dw) {
  point_ = w;
  if (has_samples_)
    at_.forward(point_, outputs_);
  else
    at_.forward(point_, X_, outputs_);
  has_samples_ = true;
  at_.linearize();
  objective_->gradient(outputs_, by_sample(slope));
  if (root_.size() > 0) objective_->curvature_root(outputs_, root_);
  at_.vjp(by_sample(std::as_const(slope)), dw);
  for (Index i = 0; i < dw.size(); ++i) dw[i] = -dw[i];
}

template <class S>
void GaussNewtonTangent<S>::vjp(const Vector<S>& r, VectorRef<S> out) {
  at_.vjp(by_sample(r), out);
}

template <class S>
void GaussNewtonTangent<S>::jvp(const Vector<S>& v, Vector<S>& out) {
  at_.jvp(v, by_sample(out));
}

template <class S>
void GaussNewtonTangent<S>::multiply_root(const Vector<S>& v, bool is_transposed, Vector<S>& out) const {
  if (kind_ == detail::CurvatureKind::by_output) {
    for (Index i = 0; i < v.size(); ++i) out[i] = root_.data()[i] * v[i];
    return;
  }
  if (kind_ == detail::CurvatureKind::centered) {
    // R = diag(r) (I - |r| |r|^T).
    using std::abs;
    const S* const r = root_.data();
    S mean(0);
    for (Index i = 0; i < v.size(); ++i) mean += abs(r[i]) * (is_transposed ? r[i] * v[i] : v[i]);
    for (Index i = 0; i < v.size(); ++i)
      out[i] = is_transposed ? S(r[i] * v[i] - abs(r[i]) * mean) : S(r[i] * (v[i] - abs(r[i]) * mean));
    return;
  }
  const Index samples = outputs_.rows();
  const Index outputs = outputs_.cols();
  for (Index n = 0; n < samples; ++n)
    for (Index a = 0; a < outputs; ++a) {
      S sum(0);
      for (Index b = 0; b < outputs; ++b)
        sum += (is_transposed ? root_(n, b + a * outputs) : root_(n, a + b * outputs)) * v[n + b * samples];
      out[n + a * samples] = sum;
    }
}

template <class S>
void GaussNewtonTangent<S>::conjugate_by_root(Matrix<S>& K) {
  // R^T K by columns, then the same of the symmetric result by its rows.
  for (int side = 0; side < 2; ++side) {
    for (Index j = 0; j < K.cols(); ++j) {
      std::copy_n(K.data() + j * K.rows(), K.rows(), from_.data());
      multiply_root(from_, true, column_);
      std::copy_n(column_.data(), K.rows(), K.data() + j * K.rows());
    }
    if (side == 0) K.transposeInPlace();
  }
}

template <class S>
S GaussNewtonTangent<S>::growth_rate(const Vector<S>& w, const Vector<S>& dw) {
  using std::sqrt;
  const S tiny = std::numeric_limits<S>::min();
  if (unit_norms_.size() == 0) return detail::norm(dw) / (detail::norm(w) + tiny);
  at_.unit_square_norms(w, unit_norms_);
  at_.unit_square_norms(dw, unit_changes_);
  for (Index u = 0; u < unit_norms_.size(); ++u) unit_changes_[u] /= unit_norms_[u] + tiny;
  return sqrt(detail::largest_size(unit_changes_));
}

namespace detail {

template <class S>
TangentStiffness<S>::TangentStiffness(GaussNewtonTangent<S> tangent) : tangent_(std::move(tangent)) {
  const Index m = tangent_.num_residuals();
  system_.allocate(m);
  for (Vector<S>* v : {&slope_, &kernel_slope_, &projected_, &rooted_}) v->setZero(m);
  pulled_.setZero(tangent_.num_parameters());
}

template <class S>
void TangentStiffness<S>::start(S t, const Vector<S>& y, Vector<S>& dy) {
  tangent_.linearize(y, slope_, dy);
  decay_ = tangent_.decay(t);
  if (decay_ != S(0)) add_multiple(S(-decay_), y, dy);
}

template <class S>
void TangentStiffness<S>::update(const Vector<S>& y, const Vector<S>& dy) {
  tangent_.kernel(system_.matrix());
  S curvature = tangent_.curvature();
  if (!tangent_.is_quadratic()) {
    multiply(system_.matrix(), slope_, kernel_slope_);
    tangent_.conjugate_by_root(system_.matrix());
    curvature = S(1);
  }
  // Gradient descent is stable up to 2 / (c |K|), and follows the growth of the units only if its steps are short
  // beside the time of that; what descent can do without looking at errors, this can, too. At kinks such steps are
  // first-order accurate: the fractions make their error a few thousandths where units grow by factors of thousands.
  constexpr int steps_per_stable_step = 4;
  constexpr int steps_per_growth = 80;
  const S norm = largest_row_sum(system_.matrix());
  const S stability = S(steps_per_stable_step) * (curvature * norm + decay_) / S(2);
  const S growth = S(steps_per_growth) * tangent_.growth_rate(y, dy);
  floor_ = S(1) / std::max({stability, growth, std::numeric_limits<S>::min()});
}

template <class S>
bool TangentStiffness<S>::factorize(S shift) {
  shift_ = shift + decay_;
  return system_.factorize(tangent_.is_quadratic() ? shift_ / tangent_.curvature() : shift_, false);
}

template <class S>
void TangentStiffness<S>::solve_start(const Vector<S>& dy, Vector<S>& u) {
  if (decay_ != S(0)) {
    u = dy;
    solve(u);
    return;
  }
  if (tangent_.is_quadratic()) {
    projected_ = slope_;
    system_.solve_in_place(projected_);
    multiple(S(-1) / tangent_.curvature(), projected_, projected_);
  } else {
    // (s I + H K)^-1 = (I - R (s I + R^T K R)^-1 R^T K) / s
    tangent_.multiply_root_transposed(kernel_slope_, rooted_);
    system_.solve_in_place(rooted_);
    tangent_.multiply_root(rooted_, projected_);
    for (Index i = 0; i < projected_.size(); ++i) projected_[i] = (projected_[i] - slope_[i]) / shift_;
  }
  tangent_.vjp(projected_, u);
}

template <class S>
void TangentStiffness<S>::solve(Vector<S>& u) {
  tangent_.jvp(u, projected_);
  if (tangent_.is_quadratic()) {
    system_.solve_in_place(projected_);
  } else {
    tangent_.multiply_root_transposed(projected_, rooted_);
    system_.solve_in_place(rooted_);
    tangent_.multiply_root(rooted_, projected_);
  }
  tangent_.vjp(projected_, pulled_);
  for (Index i = 0; i < u.size(); ++i) u[i] = (u[i] - pulled_[i]) / shift_;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_GAUSS_NEWTON(prefix, S) \
  prefix template class GaussNewtonTangent<S>;       \
  prefix template class detail::TangentStiffness<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_GAUSS_NEWTON)
