#pragma once

#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow {

namespace detail {

/// The gradient flow of a model near a point with its exact Jacobian `-(c J^T J + C)`, `C = sum_n s_n d^2 f_n`, in
/// dense matrices, s the slope of the loss by the outputs.
///
/// Far along a slow path s is what it would be after a short implicit step, not what it is: fast directions decay long
/// before anything else moves, and what rounding leaves of a fitted output is as large as what drives the path. With
/// the slope itself C would hold both against every longer step.
template <class S>
class CurvedTangent {
 public:
  explicit CurvedTangent(GaussNewtonTangent<S> tangent);

  [[nodiscard]] Index num_parameters() const { return tangent_.num_parameters(); }
  [[nodiscard]] const GaussNewtonTangent<S>& tangent() const { return tangent_; }

  /// Moves to y.
  void move_to(const Vector<S>& y);

  /// The same without C, which `relax` does not need.
  void linearize_at(const Vector<S>& y);

  /// `change = h (I + h (c J^T J + C))^{-1} F`, a linearly implicit Euler step. False where it is not finite, or
  /// where by linear extrapolation something grows by more than an e-fold in it.
  [[nodiscard]] bool implicit_step(S h, Vector<S>& change);

  /// A time that is short for all but the fast directions.
  [[nodiscard]] S short_time() const { return shortest_; }

  /// The same step without C, for such a time.
  void relax(S h, Vector<S>& change);

 private:
  void slope_after(S h);
  void set_curvature();
  [[nodiscard]] bool solve_scaled();
  [[nodiscard]] bool is_growing(S shift);

  GaussNewtonTangent<S> tangent_;
  Vector<S> slope_;     // M
  Vector<S> filtered_;  // M
  Vector<S> scaled_;    // M
  Vector<S> unknown_;   // M
  Vector<S> derivative_, moved_, above_, below_;
  Matrix<S> tangents_;   // J^T, P x M
  Matrix<S> solved_;     // P x M
  Matrix<S> curvature_;  // C
  Matrix<S> square_;     // P x P
  Matrix<S> kernel_;     // J J^T
  Matrix<S> system_;     // M x M
  Eigen::PartialPivLU<Matrix<S>> curved_;
  Eigen::PartialPivLU<Matrix<S>> small_;
  S shortest_ = S(0);
};

template <class S>
CurvedTangent<S>::CurvedTangent(GaussNewtonTangent<S> tangent) : tangent_(std::move(tangent)) {
  const Index P = tangent_.num_parameters();
  const Index M = tangent_.num_residuals();
  for (Vector<S>* v : {&slope_, &filtered_, &scaled_, &unknown_}) v->setZero(M);
  for (Vector<S>* v : {&derivative_, &moved_, &above_, &below_}) v->setZero(P);
  for (Matrix<S>* A : {&tangents_, &solved_}) A->setZero(P, M);
  for (Matrix<S>* A : {&curvature_, &square_}) A->setZero(P, P);
  for (Matrix<S>* A : {&kernel_, &system_}) A->setZero(M, M);
  curved_ = Eigen::PartialPivLU<Matrix<S>>(P);
  small_ = Eigen::PartialPivLU<Matrix<S>>(M);
}

template <class S>
void CurvedTangent<S>::linearize_at(const Vector<S>& y) {
  tangent_.linearize(y, slope_, derivative_);
  for (Index n = 0; n < slope_.size(); ++n) {
    scaled_.setZero();
    scaled_[n] = S(1);
    tangent_.vjp(scaled_, tangents_.col(n));
  }
  kernel_.noalias() = tangents_.transpose() * tangents_;
}

template <class S>
void CurvedTangent<S>::move_to(const Vector<S>& y) {
  linearize_at(y);
  moved_ = y;
  filtered_ = slope_;
  set_curvature();
  S size = largest_row_sum(curvature_);
  // What is left of the fast directions hides behind itself: the less there is, the longer is a short step.
  constexpr int most_rounds = 6;
  for (int round = 0; round < most_rounds && size > S(0); ++round) {
    slope_after(S(0.25) / size);
    set_curvature();
    const S now = largest_row_sum(curvature_);
    const bool is_settled = !(now < size / S(2));
    size = now;
    if (is_settled) break;
  }
  using std::isfinite;
  shortest_ = S(0.25) / size;
  if (!isfinite(shortest_)) shortest_ = std::numeric_limits<S>::max();
}

template <class S>
void CurvedTangent<S>::slope_after(S h) {
  system_ = (tangent_.curvature() * h) * kernel_;
  system_.diagonal().array() += S(1);
  filtered_ = slope_;
  if (!solve_scaled()) filtered_ = slope_;
}

template <class S>
bool CurvedTangent<S>::solve_scaled() {
  using std::abs;
  using std::sqrt;
  // Rows and columns of one size: slow directions are as exact as fast ones.
  for (Index n = 0; n < filtered_.size(); ++n) {
    const S size = sqrt(abs(system_(n, n)));
    scaled_[n] = size > S(0) ? S(1) / size : S(1);
  }
  for (Index n = 0; n < filtered_.size(); ++n) system_.col(n).array() *= scaled_[n] * scaled_.array();
  if (!system_.allFinite()) return false;
  filtered_.array() *= scaled_.array();
  small_.compute(system_);
  scaled_.swap(filtered_);
  // scaled_ holds the right-hand side, filtered_ the scales.
  unknown_ = small_.solve(scaled_);
  filtered_.array() *= unknown_.array();
  return filtered_.allFinite();
}

template <class S>
void CurvedTangent<S>::set_curvature() {
  using std::cbrt;
  const S size = moved_.size() > 0 ? moved_.template lpNorm<Eigen::Infinity>() : S(0);
  const S distance = S(cbrt(std::numeric_limits<S>::epsilon())) * (size > S(0) ? size : S(1));
  scaled_ = slope_;
  for (Index i = 0; i < moved_.size(); ++i) {
    const S here = moved_[i];
    const auto pulled_at = [&](S value, Vector<S>& out) {
      moved_[i] = value;
      tangent_.linearize(moved_, scaled_, derivative_);
      tangent_.vjp(filtered_, out);
    };
    const S up = here + distance;
    const S down = here - distance;
    pulled_at(up, above_);
    pulled_at(down, below_);
    moved_[i] = here;
    curvature_.col(i) = (above_ - below_) / (up - down);
  }
  for (Index j = 0; j < curvature_.cols(); ++j)
    for (Index i = 0; i < j; ++i) curvature_(i, j) = curvature_(j, i) = (curvature_(i, j) + curvature_(j, i)) / S(2);
}

template <class S>
bool CurvedTangent<S>::is_growing(S shift) {
  const S c = tangent_.curvature();
  square_.noalias() = c * tangents_ * tangents_.transpose();
  square_ += curvature_;
  square_.diagonal().array() += shift;
  constexpr int roundings = 64;
  for (Index i = 0; i < above_.size(); ++i)
    above_[i] = S(roundings) * std::numeric_limits<S>::epsilon() *
                (shift + curvature_.col(i).template lpNorm<1>() + c * tangents_.row(i).squaredNorm());
  for (Index k = 0; k < square_.rows(); ++k) {
    const S pivot = square_(k, k);
    if (!(pivot >= -above_[k])) return true;
    if (pivot <= above_[k]) {
      // Beside a pivot of rounding what is not small makes it indefinite: a_ik^2 <= a_ii a_kk where it is not.
      const S largest = pivot + above_[k];
      for (Index i = k + 1; i < square_.rows(); ++i)
        if (square_(i, k) * square_(i, k) > largest * (square_(i, i) + above_[i])) return true;
      continue;
    }
    for (Index j = k + 1; j < square_.cols(); ++j) {
      const S factor = square_(j, k) / pivot;
      for (Index i = k + 1; i < square_.rows(); ++i) square_(i, j) -= factor * square_(i, k);
    }
  }
  return false;
}

template <class S>
bool CurvedTangent<S>::implicit_step(S h, Vector<S>& change) {
  const S shift = S(1) / h;
  if (!curvature_.allFinite() || !slope_.allFinite() || is_growing(shift)) return false;
  square_ = curvature_;
  square_.diagonal().array() += shift;
  curved_.compute(square_);
  solved_ = curved_.solve(tangents_);
  system_.noalias() = tangents_.transpose() * solved_;
  system_.diagonal().array() += S(1) / tangent_.curvature();
  filtered_ = slope_ / tangent_.curvature();
  if (!solve_scaled()) return false;
  change.noalias() = solved_ * filtered_;
  change = -change;
  return change.allFinite();
}

template <class S>
void CurvedTangent<S>::relax(S h, Vector<S>& change) {
  slope_after(h);
  change.noalias() = tangents_ * filtered_;
  change *= -h;
}

}  // namespace detail

/// Everything that changes during a run of the relaxed Euler method.
template <class Problem>
struct RelaxedEulerWorkspace {
  using Scalar = typename Problem::Scalar;

  detail::CurvedTangent<Scalar> here;
  detail::CurvedTangent<Scalar> there;
  mutable detail::CurvedTangent<Scalar> between;  // of interpolate
  StepCounters counters = {};
  mutable Vector<Scalar> chord = {};
  mutable Vector<Scalar> back = {};
  Vector<Scalar> whole = {};
  Vector<Scalar> half = {};
  Vector<Scalar> middle = {};
  Vector<Scalar> error = {};
  bool has_start = false;
};

/// The stepper for gradient flows that creep along a curved path to infinity: Euler's linearly implicit method,
/// extrapolated to order 2.
///
///     integrate(GradientFlow(net, data), w, TimeSpan{0, 1e6}, RelaxedEuler{}, controller)
///
/// A step is one of h and two of h / 2, each with the Jacobian `-(c J^T J + C)` at its own start, second derivatives of
/// the model included; then the fast directions relax.
///
/// Where weights grow like a power of t while some outputs are fitted ever better, the fast rates exceed the slow one
/// by powers of the weights (R^4 in the completion of Razin and Cohen), and the path is bent. A W-method, which leaves
/// out C, is bound to steps of 1 / |C|; a Rosenbrock method of many stages evaluates off the path, where the flow
/// across it is larger than along it by such a power. This method evaluates only where a step begins, and the implicit
/// solve cancels what is off the path there. A fixed number of steps takes the weights through each factor of
/// ten, at any size.
///
/// An EmbeddedStepper and DenseStepper (linear between steps) for the gradient flow of a model (GaussNewtonFlow) of
/// P parameters under the squared loss, without weight decay. For small models: cost of a step some 40 P evaluations of
/// all samples, O(P^3 + N^3), memory O((P + N)^2).
struct RelaxedEuler {
  /// Order of the propagated solution.
  static constexpr int order = 2;
  /// Order of the embedded solution.
  static constexpr int error_order = 1;
  /// The largest share of a step in which the fast directions relax at its end.
  static constexpr double relaxing = 1e-4;
  /// It needs nothing but the field and its tangent space. (A stepper derived from it may.)
  template <class St, class Problem>
  static constexpr bool works_on_any_tangent_field = std::is_same_v<St, RelaxedEuler>;

  template <class Problem>
  using Workspace = RelaxedEulerWorkspace<Problem>;

  /// All memory of a run. Throws ArgumentError unless the loss has a constant second derivative, or with weight decay.
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    static_assert(GaussNewtonFlow<Problem>, "richflow: the relaxed Euler stepper needs the gradient flow of a model");
    using Scalar = typename Problem::Scalar;
    Workspace<Problem> ws{detail::CurvedTangent<Scalar>(problem.make_tangent()),
                          detail::CurvedTangent<Scalar>(problem.make_tangent()),
                          detail::CurvedTangent<Scalar>(problem.make_tangent())};
    require(ws.here.tangent().is_quadratic(),
            "RelaxedEuler: the loss must have a constant second derivative; for this one use Ros2 or Ros34Pw2");
    require(!ws.here.tangent().has_decay(), "RelaxedEuler: the flow must not have weight decay; use Ros2 or Ros34Pw2");
    for (Vector<Scalar>* v : {&ws.whole, &ws.half, &ws.middle, &ws.error, &ws.chord, &ws.back})
      v->setZero(problem.dimension());
    return ws;
  }

  /// Starts at `(t, y)`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void begin(const Problem& /*problem*/, Scalar /*t*/, const Vector<Scalar>& /*y*/, Workspace<Problem>& ws) const {
    ws.has_start = false;
  }

  /// One attempt of length h from `(t, y)`; the result goes to `y_new`, NaN where a step would grow too much.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void step(const Problem& /*problem*/, Scalar /*t*/, Scalar h, const Vector<Scalar>& y, Vector<Scalar>& y_new,
            Workspace<Problem>& ws) const {
    if (!ws.has_start) {
      ws.here.move_to(y);
      // It allocates at its first use, which must not come between later steps.
      ws.between.linearize_at(y);
      ws.between.relax(Scalar(0), ws.back);
      count_linearization(ws.counters);
      ws.has_start = true;
    }
    const Scalar rest = std::min(static_cast<Scalar>(relaxing) * h, ws.here.short_time());
    const Scalar whole = h - rest;
    const Scalar part = whole / Scalar(2);
    ws.counters.factorizations += 3;
    ws.counters.solves += 3;
    bool is_good = ws.here.implicit_step(whole, ws.whole) && ws.here.implicit_step(part, ws.half);
    if (is_good) {
      ws.middle = y + ws.half;
      ws.there.move_to(ws.middle);
      count_linearization(ws.counters);
      is_good = ws.there.implicit_step(part, ws.half);
    }
    if (!is_good) {
      y_new.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
      ws.error = y_new;
      return;
    }
    ws.error = (ws.middle - y) + (ws.half - ws.whole);
    y_new = y + ws.whole + Scalar(2) * ws.error;
    ws.there.linearize_at(y_new);
    count_linearization(ws.counters);
    ws.there.relax(rest, ws.half);
    y_new += ws.half;
  }

  /// The last attempt was taken.
  template <class Problem>
  void accept(RelaxedEulerWorkspace<Problem>& ws) const {
    ws.has_start = false;
  }

  /// Half the change by the extrapolation in the last attempt.
  template <class Problem>
  [[nodiscard]] const Vector<typename Problem::Scalar>& error(const RelaxedEulerWorkspace<Problem>& ws) const {
    return ws.error;
  }

  /// `out` = y + theta (y_new - y), brought back to the curved path by what is fast there.
  template <class Problem>
  void interpolate(const RelaxedEulerWorkspace<Problem>& ws, std::type_identity_t<typename Problem::Scalar> theta,
                   std::type_identity_t<typename Problem::Scalar> h, const Vector<typename Problem::Scalar>& y,
                   const Vector<typename Problem::Scalar>& y_new, VectorRef<typename Problem::Scalar> out) const {
    using Scalar = typename Problem::Scalar;
    out = y + theta * (y_new - y);
    if (!(theta > Scalar(0) && theta < Scalar(1))) return;
    // A chord leaves the curved path: back to it.
    ws.chord = out;
    ws.between.linearize_at(ws.chord);
    ws.between.relax(std::min(static_cast<Scalar>(relaxing) * theta * h, ws.here.short_time()), ws.back);
    out += ws.back;
  }

 private:
  static void count_linearization(StepCounters& counters) {
    ++counters.evaluations;
    ++counters.jacobians;
  }
};

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_RELAXED_EULER(prefix, S) \
  prefix template class detail::CurvedTangent<S>;     \
  prefix template class detail::StepperOn<RelaxedEuler, detail::AnyTangentField<S>>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_RELAXED_EULER)
