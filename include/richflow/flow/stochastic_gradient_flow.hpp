#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// The covariance of the noise of a stochastic gradient flow, per time and per `step`.
enum class FlowNoise {
  sampling,   ///< that of one sample drawn uniformly: `sum_n grad L_n grad L_n^T - grad L grad L^T / N`
  isotropic,  ///< `4 (L / N) J^T J`: every residual as large as their root mean square (Pesme et al. 2021)
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(FlowNoise noise) {
  return noise == FlowNoise::sampling ? "sampling" : "isotropic";
}

/// The step and noise of a stochastic gradient flow.
template <class S = double>
struct StochasticFlowOptions {
  S step = S(0);  ///< eta, that of the descent which the flow stands for; its noise has the variance eta per time; >= 0
  FlowNoise noise = FlowNoise::sampling;
  std::uint64_t seed = 1;
};

namespace detail {

/// The steps of Euler and Maruyama.
template <class S>
class StochasticFlowSource final : public AnySource<S> {
 public:
  StochasticFlowSource(Evaluation<S> evaluation, Samples<S> X, const Vector<S>& y,
                       const StochasticFlowOptions<S>& options);

  void begin_step(Index k, S t, const Vector<S>& w) override;
  void add_gradient(S scale, VectorRef<S> target) override;
  [[nodiscard]] StepResiduals<S> residuals() override;

 private:
  Evaluation<S> evaluation_;
  Samples<S> X_;
  const Vector<S>& y_;
  StochasticFlowOptions<S> options_;
  Vector<S> outputs_;  // f(w, X)
  Vector<S> slopes_;   // 2 (f - y)
  Vector<S> noise_;    // what is added to them, over sqrt(eta / h)
  Vector<S> noisy_;    // both
  bool is_first_ = true;
};

template <class S>
StochasticFlowSource<S>::StochasticFlowSource(Evaluation<S> evaluation, Samples<S> X, const Vector<S>& y,
                                              const StochasticFlowOptions<S>& options)
    : evaluation_(std::move(evaluation)), X_(X), y_(y), options_(options) {
  for (Vector<S>* v : {&outputs_, &slopes_, &noise_, &noisy_}) v->setZero(y.size());
}

template <class S>
void StochasticFlowSource<S>::begin_step(Index k, S /*t*/, const Vector<S>& w) {
  using std::sqrt;
  if (is_first_)
    evaluation_.forward(w, X_, outputs_);
  else
    evaluation_.forward(w, outputs_);
  is_first_ = false;
  slopes_ = S(2) * (outputs_ - y_);
  RandomStream random = RandomStream(options_.seed, static_cast<std::uint64_t>(k)).child("stochastic flow");
  fill_normal(random, noise_);
  const auto N = static_cast<S>(y_.size());
  if (options_.noise == FlowNoise::isotropic) {
    noise_ *= slopes_.norm() / sqrt(N);
  } else {
    noise_.array() -= noise_.sum() / N;
    noise_.array() *= slopes_.array();
  }
}

template <class S>
void StochasticFlowSource<S>::add_gradient(S scale, VectorRef<S> target) {
  using std::abs;
  using std::sqrt;
  const S h = abs(scale);
  noisy_ = slopes_;
  if (h > S(0) && options_.step > S(0)) noisy_ += sqrt(options_.step / h) * noise_;
  evaluation_.add_pullback(noisy_, scale, target);
}

template <class S>
StepResiduals<S> StochasticFlowSource<S>::residuals() {
  StepResiduals<S> seen;
  seen.slopes = noisy_.data();
  seen.size = noisy_.size();
  return seen;
}

}  // namespace detail

/// The stochastic gradient flow of a model under the plain-sum squared loss, in the time of the flow of L
/// (docs/theory.md, section 7.5):
///
///     dw = -grad L(w) dt + sqrt(eta) noise(w) dW
///
/// a problem for the loop, by the steps of Euler and Maruyama: the rule `Descent` with ConstantStep, whose length h is
/// the dt of the discretization and has nothing to do with eta,
///
///     const StochasticGradientFlow flow(net, data, {.step = 0.01, .seed = 7});
///     integrate(flow, w0, Steps{100000}, Descent{}, ConstantStep{1e-4}, {.observers = {effective}});
///
/// With `sampling` noise it has the drift and the covariance of descent on one sample drawn uniformly in each step of
/// length eta, one step in the time eta / N. On the squared diagonal net `log k = log(w_+ w_-)` falls on average by
/// `16 eta (sum_n X_ni^2 r_n^2 - g_i^2 / N)` per time; with `isotropic` noise, the model of Pesme et al. (2021), by `16
/// eta |X_i|^2 L / N`. Neither is what descent itself does: its log k falls by the full second moment `16 eta sum_n
/// X_ni^2 r_n^2` (predicted_start), since a drift in finite steps adds its own square. Of the two the first differs
/// from that by `g_i^2 / N`, the second by the profile over coordinates.
///
/// The noise is in the row space of the samples, so that EffectiveStart holds for its runs as for those of descent. It
/// follows from (seed, number of the step) alone: runs repeat to the bit and resume from any step. Its size is right
/// for Descent only, and `integrate` compiles with nothing else. Called as a vector field it is the flow without noise.
/// Refers to the data, which must outlive it; models with one output. A step costs a prediction and a product with J,
/// and allocates nothing if the model does not.
template <class M>
requires(explain_model<M>()) class StochasticGradientFlow {
 public:
  /// Number type.
  using Scalar = typename M::Scalar;
  /// `integrate` takes no other rule and no stepper, at compile time.
  static constexpr bool takes_descent_only = true;

  /// `model` on `data`. Throws DimensionError or ArgumentError where the two do not fit, where the model has more than
  /// one output, or for a step that is negative or not finite.
  StochasticGradientFlow(M model, const Dataset<Scalar>& data, StochasticFlowOptions<Scalar> options)
      : flow_(std::move(model), data), options_(options) {
    using std::isfinite;
    require(isfinite(options.step) && options.step >= Scalar(0), "step must be finite and not negative, got ",
            options.step);
    require<DimensionError>(flow_.num_residuals() == data.num_samples() && data.y().size() == data.num_samples(),
                            "a stochastic gradient flow needs a model with one output, and one label for each sample");
  }
  StochasticGradientFlow(M, const Dataset<Scalar>&&, StochasticFlowOptions<Scalar>) = delete;

  /// P.
  [[nodiscard]] Index dimension() const { return flow_.dimension(); }
  /// What it is driven by.
  [[nodiscard]] const StochasticFlowOptions<Scalar>& options() const { return options_; }
  /// `dw = -grad L(w)`, without noise.
  void operator()(Scalar t, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const { flow_(t, w, dw); }
  /// L(w).
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const { return flow_.loss(w); }
  /// Steps that go through the data: one.
  [[nodiscard]] static Index steps_per_epoch() { return 1; }
  /// The noise of a run, in memory of its own.
  [[nodiscard]] std::unique_ptr<AnySource<Scalar>> make_source() const {
    const Dataset<Scalar>& data = flow_.dataset();
    return std::make_unique<detail::StochasticFlowSource<Scalar>>(make_evaluation(flow_.model(), data.num_samples()),
                                                                  data.samples(), data.y(), options_);
  }

 private:
  GradientFlow<M> flow_;
  StochasticFlowOptions<Scalar> options_;
};

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_STOCHASTIC_GRADIENT_FLOW(prefix, S) prefix template class detail::StochasticFlowSource<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_STOCHASTIC_GRADIENT_FLOW)
