#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/limits/classification_flow.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// How near the weights of a homogeneous classifier are to a stationary point of its own margin problem, `min |w|^2`
/// subject to `y_n f(w, x_n) >= 1`: the flow of the exponential and the logistic loss tends to the direction of one
/// (Lyu and Li 2020). All of it is computed from logarithms of the loss, so that it means the same at any loss.
template <class S = double>
struct MarginState {
  S log_loss = S(0);           ///< `log L`, a plain sum
  S margin = S(0);             ///< `min_n y_n f(w, x_n)`
  S normalized_margin = S(0);  ///< that over `|w|^D`
  /// `-log L / |w|^D`: below the normalized margin, by `log N / |w|^D` at most; it never falls along the flow of the
  /// exponential loss once L < 1, and the distance of the two says how far the loss still is from telling margins.
  S smoothed_margin = S(0);
  /// `|w / |w| - g / |g||`, g = minus the gradient of L: 0 where w is a nonnegative combination of the gradients of the
  /// margins, the first condition of stationarity.
  S stationarity = std::numeric_limits<S>::infinity();
  /// `sum_n p_n (m_n - margin) / margin`, p the share of a sample in the slope of the loss: complementary slackness.
  /// Infinite where no margin is positive.
  S slackness = std::numeric_limits<S>::infinity();
  Vector<S> weights = {};    ///< p, N, in the simplex
  Vector<S> direction = {};  ///< `w / |w|`, P
};

/// The MarginState of a model with one output and `homogeneity()`, which throws for a model that has none, at the
/// weights w (P entries). Throws ArgumentError for labels other than -1 and +1 and for w = 0, DimensionError where
/// model, data and w do not fit. Cost: one forward and one backward pass.
template <Model M>
requires requires(const M& model) { model.homogeneity(); }
[[nodiscard]] MarginState<typename M::Scalar> margin_state(const M& model, const Dataset<typename M::Scalar>& data,
                                                           const Vector<typename M::Scalar>& w,
                                                           MarginLoss loss = MarginLoss::exponential) {
  using S = typename M::Scalar;
  using std::exp;
  using std::log;
  const auto degree = static_cast<S>(model.homogeneity());
  const Vector<S>& y = data.y();
  detail::require_two_classes<S>(y);
  require_size("w", w.size(), model.num_parameters());
  const Index N = y.size();
  Evaluation<S> at = make_evaluation(model, N);
  require<DimensionError>(at.num_outputs() == 1, "margin_state: the model has ", at.num_outputs(),
                          " outputs where one is needed");
  Matrix<S> outputs(N, 1);
  const Samples<S> samples = data.samples();
  at.forward(w, samples, outputs);
  Vector<S> margins(N), log_slopes(N), log_losses(N);
  for (Index n = 0; n < N; ++n) {
    margins[n] = y[n] * outputs(n, 0);
    detail::log_losses_of_margin(loss, margins[n], log_slopes[n], log_losses[n]);
  }
  MarginState<S> state;
  state.log_loss = detail::log_of_sum(log_losses);
  state.margin = margins.minCoeff();
  state.weights.resize(N);
  const S log_sum = detail::log_of_sum(log_slopes);
  for (Index n = 0; n < N; ++n) state.weights[n] = detail::normal_or_zero(S(exp(log_slopes[n] - log_sum)));
  const S size = detail::norm(w);
  require(size > S(0), "margin_state: w is 0 and has no direction");
  // In logarithms: |w|^D overflows in deep nets.
  const S scale = exp(-degree * log(size));
  state.normalized_margin = state.margin * scale;
  state.smoothed_margin = -state.log_loss * scale;
  state.direction = w / size;
  for (Index n = 0; n < N; ++n) outputs(n, 0) = y[n] * state.weights[n];
  Vector<S> slope(w.size());
  at.vjp(outputs, slope);
  const S steepness = detail::norm(slope);
  if (steepness > S(0)) state.stationarity = (state.direction - slope / steepness).norm();
  if (state.margin > S(0)) state.slackness = state.weights.dot((margins.array() / state.margin - S(1)).matrix());
  return state;
}

/// An observer that follows `margin_state` along a run.
///
///     MarginMonitor monitor(net, data, MarginLoss::logistic, 10);
///     integrate(flow, w0, span, stepper, controller, {.observers = {monitor}});
///     monitor.states().back().stationarity;  // and monitor.turns(): how much the direction still moves
///
/// Runs under LogMarginLoss reach any loss, however small. In nets with kinks (ReLU) a unit may come to rest where a
/// sample is on its kink; the gradient there is one-sided, and `stationarity` need not go to 0.
///
/// Refers to the data, which must outlive it. Memory of a record: N values. Cost of a step that is recorded: one
/// forward and one backward pass.
template <Model M>
class MarginMonitor {
 public:
  using Scalar = typename M::Scalar;

  /// Records after each step whose number is a multiple of `every`; keeps the last direction only, or with
  /// `keeps_directions` all, P numbers each. Throws ArgumentError unless every > 0 and labels are -1 and +1.
  MarginMonitor(M model, const Dataset<Scalar>& data, MarginLoss loss = MarginLoss::exponential, Index every = 1,
                bool keeps_directions = false)
      : model_(std::move(model)), data_(&data), loss_(loss), every_(every), keeps_directions_(keeps_directions) {
    require(every > 0, "MarginMonitor: every must be positive, got ", every);
    detail::require_two_classes<Scalar>(data.y());
  }
  MarginMonitor(M, const Dataset<Scalar>&&, MarginLoss = MarginLoss::exponential, Index = 1, bool = false) = delete;

  /// Records the end of a step.
  Action operator()(const StepView<Scalar>& view) {
    if (view.step % every_ != 0) return Action::proceed;
    states_.push_back(margin_state(model_, *data_, view.y, loss_));
    times_.push_back(view.t);
    const std::size_t count = states_.size();
    turns_.push_back(count > 1 ? (states_[count - 1].direction - states_[count - 2].direction).norm() : Scalar(0));
    // P numbers a record would be the memory of a trajectory.
    if (count > 1 && !keeps_directions_) states_[count - 2].direction.resize(0);
    return Action::proceed;
  }

  /// What was recorded. See the constructor on directions.
  [[nodiscard]] const std::vector<MarginState<Scalar>>& states() const { return states_; }
  /// When.
  [[nodiscard]] const std::vector<Scalar>& times() const { return times_; }
  /// `|direction - the one before|`, 0 for the first.
  [[nodiscard]] const std::vector<Scalar>& turns() const { return turns_; }

 private:
  M model_;
  const Dataset<Scalar>* data_;
  MarginLoss loss_;
  Index every_;
  bool keeps_directions_;
  std::vector<MarginState<Scalar>> states_ = {};
  std::vector<Scalar> times_ = {}, turns_ = {};
};

}  // namespace richflow
