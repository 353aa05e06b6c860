#pragma once

#include <algorithm>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// How far the conserved quantities of a model have moved from `w0` to `w`, relative to their size:
/// `max_i |I_i(w) - I_i(w0)| / max_i |I_i(w0)|`, or the absolute change where I(w0) = 0. Zero along an
/// exact gradient flow; O(step) for gradient descent. NaN where w holds NaN.
template <HasInvariant M>
[[nodiscard]] typename M::Scalar invariant_drift(const M& model, ConstVectorRef<typename M::Scalar> w0,
                                                 ConstVectorRef<typename M::Scalar> w) {
  using Scalar = typename M::Scalar;
  const Vector<Scalar> reference = model.invariant(w0);
  const Scalar size = reference.template lpNorm<Eigen::Infinity>();
  const Scalar change = (model.invariant(w) - reference).template lpNorm<Eigen::Infinity>();
  return size > Scalar(0) ? change / size : change;
}

/// An observer that follows the conserved quantities of a model along a run, and can end it when they drift
/// more than allowed: the sign of a step too long for the flow it stands for.
///
///     InvariantMonitor monitor(model, w0);
///     integrate(flow, w0, span, stepper, controller, {.observers = {monitor}});
///     monitor.largest();  // of all steps
///
/// Cost per step: one `invariant` of the model.
template <HasInvariant M>
class InvariantMonitor {
 public:
  using Scalar = typename M::Scalar;

  /// Measures the drift from `w0`. `limit` > 0: stop the run when the relative drift exceeds it; 0: never.
  /// Throws ArgumentError for a negative limit.
  InvariantMonitor(M model, ConstVectorRef<Scalar> w0, Scalar limit = Scalar(0))
      : model_(std::move(model)),
        reference_(model_.invariant(w0)),
        size_(reference_.template lpNorm<Eigen::Infinity>()),
        limit_(limit) {
    require(limit >= Scalar(0), "InvariantMonitor: limit must be at least 0, got ", limit);
  }

  /// Measures the drift at the end of a step.
  Action operator()(const StepView<Scalar>& view) {
    const Scalar change = (model_.invariant(view.y) - reference_).template lpNorm<Eigen::Infinity>();
    latest_ = size_ > Scalar(0) ? change / size_ : change;
    largest_ = std::max(largest_, latest_);
    return limit_ > Scalar(0) && !(latest_ <= limit_) ? Action::stop : Action::proceed;
  }

  /// Relative drift at the latest step (see `invariant_drift`); 0 before the first.
  [[nodiscard]] Scalar latest() const { return latest_; }
  /// Largest relative drift of all steps so far.
  [[nodiscard]] Scalar largest() const { return largest_; }

 private:
  M model_;
  Vector<Scalar> reference_;
  Scalar size_;
  Scalar limit_;
  Scalar latest_ = Scalar(0);
  Scalar largest_ = Scalar(0);
};

}  // namespace richflow
