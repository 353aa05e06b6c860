#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/bias/simulate.hpp"
#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/flow/decaying_dual_flow.hpp"
#include "richflow/integrate/decay_schedule.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"

namespace richflow {

/// A run of descent whose effective start is to be predicted: `Descent`, or `HeavyBall` with momentum, of constant
/// steps on `StochasticGradient(net, data, sampling)`, with weight decay.
template <class S = double>
struct AlgorithmRun {
  S step = S(0);                   ///< h, > 0
  Sampling<S> sampling = {};       ///< batches and label noise
  S momentum = S(0);               ///< m, in [0, 1)
  DecaySchedule<S> decay = S(0);   ///< lambda, of `lambda |w|^2`: a number, or of the time of the run
  Index steps = 0;                 ///< how many; 0: until it fits the data, after the pieces of the decay if it has any
  bool then_until_it_fits = true;  ///< after those steps: continue without label noise and decay until it fits
};

/// The predicted effective start of a run, known before it is made.
template <class S = double>
struct PredictedStart : Result<PredictedStart<S>> {
  Vector<S> log_a = {};             ///< log A_+, d values
  Vector<S> log_b = {};             ///< log A_-
  Vector<S> log_scale = {};         ///< log of the effective alpha of each coordinate, as EffectiveStart::log_scale
  Vector<S> log_offset_ratio = {};  ///< log(A_+ / A_-); at depth 2 that of the start: it moves in second order only
  Vector<S> labels = {};            ///< X beta at the end of the flow: what the run reaches
  Vector<S> beta = {};              ///< beta at the end of the flow that the prediction was made along
  S time = S(0);                    ///< of that flow
  S curvature_step = S(0);          ///< what is small where the prediction is good: the step h times the largest
                                    ///< eigenvalue of the Hessian at the end; of one sample where that of a batch is
                                    ///< smaller. With momentum m that of a batch counts by `(1 + m) / (1 - m)^2`, the
                                    ///< step of descent with the same `lambda w'' + w' + grad L = 0`, and that of one
                                    ///< sample by `1 / (1 - m)`
  Index steps = 0;                  ///< of the integrator
  Status status = Status::reached_end;
  std::string message = {};

  /// Whether the flow has ended.
  [[nodiscard]] bool ok() const { return is_success(status); }
  /// The start of a gradient flow that goes where the run goes.
  [[nodiscard]] Start<S> start() const {
    const S center = (log_a.mean() + log_b.mean()) / S(2);
    return Start<S>::biased_logs(Scale<S>::from_log(center), (log_a.array() - center).matrix(),
                                 (log_b.array() - center).matrix());
  }
};

namespace detail {

/// What a step of a run does on average, per time of the flow of L.
template <class S>
struct RunRates {
  S time_of_step = S(0);
  Vector<S> rate = {};                ///< by which log A_+ and log A_- fall while there is noise
  FlowQuadrature<S> quadrature = {};  ///< what they fall by besides, but for decay
};

/// A net: its depth, and whether it has two layers.
struct PredictedNet {
  Index depth;
  bool has_two_layers;
  Index d;

  /// Of the dual flow, nu' = -c r, in the units of X^T nu that DecayingDualFlow has.
  [[nodiscard]] Index dual_rate() const { return has_two_layers ? 4 : depth == 2 ? 8 : 2 * depth * (depth - 2); }
};

template <class S>
[[nodiscard]] RunRates<S> rates_of(const PredictedNet& net, const AlgorithmRun<S>& run, const Dataset<S>& data);

template <class S>
[[nodiscard]] PredictedStart<S> predict_start(const PredictedNet& net, const Dataset<S>& data, const Start<S>& start,
                                              const AlgorithmRun<S>& run);

}  // namespace detail

/// The effective start of a run of descent on a diagonal net, *without the run*: to first order in the step h, from
/// integrals along the dual flow (docs/theory.md, section 7.3).
///
///     const PredictedStart p = predicted_start(net, data, start, {.step = 0.01, .sampling = {.batch_size = 1}});
///     solve(net, data, p.require_ok().start());                       // where such runs end
///     predicted_start(net, data, start, {.step = 1e-3, .decay = 0.1, .steps = 5000, .then_until_it_fits = false});
///
/// It predicts `EffectiveStart`, which is exact for the run once it is made. With `g = X^T r` of the flow of
/// `L = |X beta - y|^2`, `log k = log(A_+ A_-)` of each coordinate falls by
///
/// - descent: `16 h` times the integral of `g_i^2`;
/// - momentum m: `16 h (1 + m) / (1 - m)^2` times the same, twice the matched lambda of `lambda w'' + w' + grad L = 0`;
/// - batches of B, drawn: `16 h` times the integral of `sum_n X_ni^2 r_n^2 + (B - 1) / N g_i^2`;
/// - batches of B, in order: `(N - B) / (N - 1) sum_n X_ni^2 r_n^2 + (B - 1) / (N - 1) g_i^2` in its place;
/// - label noise delta: `s_i^2 (1 + 3/2 s_i^2)` per step, `s_i^2 = 16 h^2 delta^2 |X_i|^2 B / N`, and the above of
///   residuals that fluctuate with the covariance `h delta^2 K`, K the tangent kernel;
/// - weight decay lambda: `-2 log(1 - 2 h lambda)` per step: the scale is `alpha e^(-2 Lambda)`. With momentum m it is
///   `-2 log rho`, rho the larger root of `rho - 1 = m (1 - 1 / rho) - 2 h lambda`, and where the run ends under decay
///   its v holds what the last steps have yet to do: the one n before the last has done `1 - m^(n + 1)` of its own.
///   lambda may change with time: pieces are taken step by step; a smooth function by its integral, up to second order
///   in h (up to first where it jumps: take pieces);
///
/// (a fourth of 16 in two layers; with momentum m the noise counts by 1 / (1 - m)). The offset log(A_+ / A_-) moves in
/// second order only. At depth D >= 3, p = D - 2, `A_+-^-p` grows by `2 D^2 p (p + 1) h` times the integral of `w_+-^p`
/// times the same, for descent, momentum and batches, and decay multiplies it by `rho^-p` per step, `rho = 1 - 2 h
/// lambda` without momentum. Label noise adds `2 D^2 p (p + 1) h^2 delta^2 |X_i|^2 B / N w_+-^p` per step, of the
/// weights that it has changed by then: where the data are fitted the square of a weight's `w^-p` grows in proportion
/// to the steps, and the interpolator with it; a step on `u = w^-p` is `u |1 - x|^-p`, x^2 on average that of the
/// noise. Noise and decay act on the flow that the integrals are taken along (DecayingDualFlow).
///
/// The error of log k is of second order in the step (in `curvature_step`); for batches and noise the fluctuation of
/// one run about the mean is added. (For label noise at depth D >= 3 fluctuations count in A_+- but not in the mean
/// path, so that it is formally of first order; measured on means of 16 to 24 runs of D = 3 and 4 at curvature steps of
/// 0.1: within 0.2 % of the change of `A^-p` in the sum over coordinates, the resolution of such means.) Any start at
/// depth 2 and in two layers; at depth D >= 3 those for which alpha^(D-2) is not below the rounding of the dual
/// variables. X is N x d.
///
/// Throws DimensionError or ArgumentError where net, data, start and run do not fit; where the step is not stable at
/// the end of the flow, with the largest that is; for label noise or decay without a number of steps, a decay at which
/// the net dies or weights change their signs (`2 h lambda` from `(1 - sqrt(m))^2` on), noise of an unknown law or on
/// gradients, and momentum on batches in order, whose gradients are not independent. InfeasibleError where no beta fits
/// y and the run is to fit. Trouble with the flow is in the status, and so is a decay that is a function and turns
/// negative, infinite or too strong for the step. Cost: some hundred N x N Jacobians, O(N^2 d) each, whatever the
/// number of steps of the run.
template <class S, int depth>
[[nodiscard]] PredictedStart<S> predicted_start(const DiagonalNet<S, depth>& net, const Dataset<S>& data,
                                                const Start<S>& start,
                                                const AlgorithmRun<std::type_identity_t<S>>& run) {
  return detail::predict_start({net.homogeneity(), false, net.num_inputs()}, data, start, run);
}

/// The same for two layers.
template <class S>
[[nodiscard]] PredictedStart<S> predicted_start(const TwoLayerDiagonalNet<S>& net, const Dataset<S>& data,
                                                const Start<S>& start,
                                                const AlgorithmRun<std::type_identity_t<S>>& run) {
  return detail::predict_start({2, true, net.num_inputs()}, data, start, run);
}

namespace detail {

/// The largest `2 h lambda` under which weights shrink without a change of sign.
template <class S>
[[nodiscard]] S most_decay(S momentum) {
  using std::sqrt;
  const S root = S(1) - sqrt(momentum);
  return root * root;
}

/// Whether it is neither a number nor pieces.
template <class S>
[[nodiscard]] bool is_function(const DecaySchedule<S>& decay) {
  return !decay.is_constant() && decay.pieces().empty();
}

template <class S>
void check_run(const AlgorithmRun<S>& run, const Dataset<S>& data) {
  using std::isfinite;
  const Sampling<S>& sampling = run.sampling;
  const Index N = data.num_samples();
  require(isfinite(run.step) && run.step > S(0), "step must be positive and finite, got ", run.step);
  require_momentum("predicted_start", static_cast<double>(run.momentum));
  require(run.steps >= 0, "steps must be positive, or 0 to run until it fits, got ", run.steps);
  require(sampling.batch_size >= 0 && sampling.batch_size <= N, "batch_size must be in 1 .. N = ", N,
          ", or 0 for all, got ", sampling.batch_size);
  require_choice(sampling, N);
  require(isfinite(sampling.label_noise) && sampling.label_noise >= S(0),
          "label_noise must be finite and not negative, got ", sampling.label_noise);
  require(!sampling.noise, "the variance of noise, a function, is not known: leave it out");
  require(sampling.gradient_noise == S(0), "gradient_noise = ", sampling.gradient_noise,
          ": there is no effective start with noise that is not in the row space of X");
  require(run.steps > 0 || !is_function(run.decay),
          "decay is a function of time: set steps, since it may last as long as the run");
  const bool ends = run.decay.is_zero() || !run.decay.is_constant();
  require(run.steps > 0 || (ends && sampling.label_noise == S(0)), "decay = ", run.decay(S(0)),
          " and label_noise = ", sampling.label_noise,
          " lower the scale with every step: set steps, since the data are never fitted");
  const bool is_in_order = sampling.batch_size > 0 && sampling.batch_size < N && !sampling.with_replacement;
  require(run.momentum == S(0) || !is_in_order, "momentum = ", run.momentum,
          " on batches of an epoch, which are not independent, has no formula here: take with_replacement");
}

template <class S>
RunRates<S> rates_of(const PredictedNet& net, const AlgorithmRun<S>& run, const Dataset<S>& data) {
  const Sampling<S>& sampling = run.sampling;
  const Index N = data.num_samples();
  const Index B = sampling.batch_size > 0 ? sampling.batch_size : N;
  const S all(static_cast<S>(N));
  const S h = run.step;
  const S left = S(1) - run.momentum;
  // Sums over the batches of an epoch, of which the last may be smaller.
  const bool is_drawn = sampling.with_replacement && sampling.batch_size > 0;
  const Index batches = is_drawn ? 1 : (N + B - 1) / B;
  S time(0), noise(0), moment_of_samples(0), variance_of_square(0), mean_of_square(0);
  for (Index b = 0; b < batches; ++b) {
    const auto size = static_cast<S>(is_drawn ? B : std::min(B, N - b * B));
    const S weight = sampling.mean ? h / size : h;
    time += weight * size / all;
    noise += weight * weight * size / all;
    const S mean = size * size / (all * all);
    const bool is_whole = !is_drawn && size == all;
    const S of_samples = is_drawn ? size / all : is_whole ? S(0) : size / all * (all - size) / (all - S(1));
    const S of_square = is_drawn   ? size * (size - S(1)) / (all * all)
                        : is_whole ? S(1)
                                   : size * (size - S(1)) / (all * (all - S(1)));
    moment_of_samples += weight * weight * of_samples;
    variance_of_square += weight * weight * (of_square - mean);
    mean_of_square += weight * weight * mean;
  }
  RunRates<S> out;
  const auto steps = static_cast<S>(batches);
  out.time_of_step = time / steps / left;
  // x = c / 2 h g, of which log A_+- loses x^2 / 2; with momentum the steps of its mean add up, those of noise do not.
  // Or A_+-^-p gains p (p + 1) / 2 w^-p x^2 for x = 2 D h w^p g.
  const auto dual_rate = static_cast<S>(net.dual_rate());
  const auto D = static_cast<S>(net.depth), p = D - S(2);
  const S unit = (net.depth == 2 ? dual_rate * dual_rate / S(8) : S(2) * D * D * p * (p + S(1))) / time;
  out.quadrature.of_samples = unit * moment_of_samples / left;
  out.quadrature.of_square =
      unit * (variance_of_square / left + mean_of_square * (S(1) + run.momentum) / (left * left));
  // Fluctuations of g follow the noise that makes them: m of the noise before is still in the step, against them. In a
  // mode of curvature a / h the square of a step is on average that of noise alone by 1 + a / (2 (1 + m)).
  out.quadrature.of_fluctuation = unit * (variance_of_square / left + mean_of_square / (S(1) + run.momentum));
  out.quadrature.fluctuation = sampling.label_noise * sampling.label_noise * h * dual_rate / S(2) / left;
  if (sampling.mean && sampling.label_noise > S(0)) out.quadrature.fluctuation /= static_cast<S>(B);
  const S of_norm = S(2) * unit * time * sampling.label_noise * sampling.label_noise * noise / steps;
  out.quadrature.feeds_back = net.depth > 2 && sampling.label_noise > S(0);
  out.rate.resize(data.num_inputs());
  for (Index i = 0; i < out.rate.size(); ++i) {
    const S variance = of_norm * data.X().col(i).squaredNorm();
    const S next = net.depth == 2 && run.momentum == S(0) ? S(1.5) * variance : S(0);
    out.rate[i] = variance * (S(1) + next) / (S(2) * left * left) / out.time_of_step;
  }
  return out;
}

/// Half of what log A_+- fall by in a step with the decay lambda, where they fall at a steady rate; NaN where it sets
/// weights to zero or beyond.
template <class S>
[[nodiscard]] S shrinkage(const AlgorithmRun<S>& run, S lambda) {
  using std::log1p;
  using std::sqrt;
  const S x = S(2) * run.step * lambda, m = run.momentum;
  if (m == S(0)) return log1p(-x) / S(-2);
  if (!(x < most_decay(m))) return std::numeric_limits<S>::quiet_NaN();
  // w is multiplied by the larger root 1 - q of rho - 1 = m (1 - 1 / rho) - x, that is q^2 - (1 - m + x) q + x = 0.
  const S sum = S(1) - m + x;
  return log1p(S(-2) * x / (sum + sqrt(sum * sum - S(4) * x))) / S(-2);
}

/// A part of a run with the same decay, or under a function of time.
template <class S>
struct DecayPart {
  DecaySchedule<S> shrinkage = {};  ///< per time of the dual flow
  S lambda = S(0);                  ///< of a function at t = 0
  Index steps = 0;
};

/// The earliest time of the run at which a function was seen to be no decay, or one that is too strong.
template <class S>
struct DecayFault {
  S time = std::numeric_limits<S>::infinity();
  S lambda = S(0);
};

/// Throws for a decay at which weights change signs.
template <class S>
void check_decay(const AlgorithmRun<S>& run, S lambda) {
  const S most = most_decay(run.momentum);
  require(lambda >= S(0), "decay is negative or not finite at t = 0");
  require(S(2) * run.step * lambda < most, "decay = ", lambda, " with step = ", run.step,
          " sets every weight to zero or beyond: 2 step decay must be below (1 - sqrt(momentum))^2 = ", most);
}

/// All parts that the run reaches: step number k is at the time k h of the run. Throws as check_decay.
template <class S>
[[nodiscard]] std::vector<DecayPart<S>> decay_parts(const AlgorithmRun<S>& run, S time_of_step,
                                                    const std::shared_ptr<DecayFault<S>>& fault) {
  using std::ceil;
  const auto part_of = [&](S lambda, Index steps) {
    check_decay(run, lambda);
    return DecayPart<S>{DecaySchedule<S>(shrinkage(run, lambda) / time_of_step), lambda, steps};
  };
  if (run.decay.is_constant()) return {part_of(run.decay(S(0)), run.steps)};
  if (is_function(run.decay)) {
    check_decay(run, run.decay(S(0)));
    // Sums over steps are integrals up to half a step before, to second order.
    const auto part = [run, time_of_step, fault](S t) {
      const S of_run = std::max(t / time_of_step * run.step - run.step / S(2), S(0));
      const S lambda = run.decay(of_run);
      const S found = shrinkage(run, lambda) / time_of_step;
      if (!(found >= S(0)) && of_run < fault->time) *fault = {of_run, lambda};
      return found;
    };
    return {{DecaySchedule<S>(part), run.decay(S(0)), run.steps}};
  }
  std::vector<DecayPart<S>> parts;
  S end(0);
  Index made = 0;
  const Index last = run.steps > 0 ? run.steps : std::numeric_limits<Index>::max();
  for (const DecayPiece<S>& piece : run.decay.pieces()) {
    end += piece.duration;
    // A time that is a number of steps is theirs, however it was rounded.
    const S steps = ceil(DecaySchedule<S>::without_rounding(end) / run.step);
    const Index until = steps < static_cast<S>(last) ? static_cast<Index>(steps) : last;
    if (until > made) parts.push_back(part_of(piece.lambda, until - made));
    made = std::max(made, until);
  }
  if (run.steps > made) parts.push_back(part_of(S(0), run.steps - made));
  return parts;
}

/// Throws for a constant decay that leaves nothing of the net.
template <class S>
void check_survival(const PredictedNet& net, const AlgorithmRun<S>& run, const Dataset<S>& data) {
  if (!run.decay.is_constant() || run.decay.is_zero() || net.depth > 2) return;
  // u^2 + v^2 >= 2 |u v|: in two layers half as much is enough.
  const S factor = net.has_two_layers ? S(1) : S(2);
  const S deadly = factor * (data.X().transpose() * data.y()).cwiseAbs().maxCoeff();
  require(run.decay(S(0)) < deadly, "decay = ", run.decay(S(0)), " leaves nothing of the net: from ", factor,
          " max |X^T y| = ", deadly, " on it goes to rest at beta = 0");
}

/// A prediction in the making: the dual flow part by part.
template <class S>
class StartPredictor {
 public:
  /// Checks the arguments.
  StartPredictor(const PredictedNet& net, const Dataset<S>& data, const Start<S>& start, const AlgorithmRun<S>& run);

  [[nodiscard]] PredictedStart<S> predict();

 private:
  /// The flow while log A_+- fall by `rate` and twice the integral of `shrinkage`, for a time or until it fits.
  /// Continues from the state, whose times restart so that log A_+- at its beginning are those of this flow.
  void follow(const Vector<S>& rate, const DecaySchedule<S>& shrinkage, const FlowQuadrature<S>& quadrature, S length);
  /// Of the parts of the run, those of the flow: how many of its steps each part has done by the end.
  [[nodiscard]] std::vector<S> steps_done() const;
  /// Takes the fall of log A_+- up to the end of a part into the logarithms and the state.
  void fall(const Vector<S>& rate, S common, S time);
  /// Throws where the decay of a part has left nothing of the net by its last step. At depth 2 the net comes back once
  /// there is no decay.
  void require_alive(const DecayPart<S>& part, Index last) const;
  /// Says at what time a function was found to be no decay.
  void tell_fault();
  /// Says how good the prediction is. Throws where the step is not stable.
  void judge_step(const DecayingDualFlow<S>& flow);
  /// log A_+- and what follows from them.
  void read_start();

  const PredictedNet net_;
  const Dataset<S>& data_;
  const AlgorithmRun<S>& run_;
  SideLogs<S> logs_;
  RunRates<S> rates_;
  std::shared_ptr<DecayFault<S>> fault_ = std::make_shared<DecayFault<S>>();
  std::vector<DecayPart<S>> parts_ = {};
  bool must_fit_;
  Vector<S> state_ = {};
  PredictedStart<S> out_ = {};
};

template <class S>
StartPredictor<S>::StartPredictor(const PredictedNet& net, const Dataset<S>& data, const Start<S>& start,
                                  const AlgorithmRun<S>& run)
    : net_(net), data_(data), run_(run), must_fit_(run.steps == 0 || run.then_until_it_fits) {
  using std::log;
  using std::sqrt;
  require<DimensionError>(data.num_inputs() == net.d, "the net has d = ", net.d, " features where the data have ",
                          data.num_inputs());
  require_size("y", data.y().size(), data.num_samples());
  check_run(run, data);
  require(net.has_two_layers || start.family() != StartFamily::unbalanced,
          "the start is unbalanced: it has two layers (TwoLayerDiagonalNet), where this net has one");
  logs_ = side_logs(net.d, start);
  rates_ = rates_of(net, run, data);
  parts_ = decay_parts(run, rates_.time_of_step, fault_);
  check_survival(net, run, data);
  require(!rates_.quadrature.is_empty(), "step = ", run.step,
          " is so small that its square is below the numbers of this type: the start itself is the prediction");
  const S room = static_cast<S>(net.depth - 2) * start.scale().log();
  require(net.depth == 2 || room > log(S(2) * sqrt(std::numeric_limits<S>::epsilon())),
          "log_alpha = ", start.scale().log(), " at depth D = ", net.depth,
          ": alpha^(D-2) is below the rounding of the dual variables");
  if (must_fit_) require_solution(data);
}

template <class S>
std::vector<S> StartPredictor<S>::steps_done() const {
  using std::pow;
  std::vector<S> done(parts_.size());
  // A run that ends there leaves in v what its last steps have yet to do: of the one n before the last m^(n + 1).
  const S m = run_.momentum;
  S left_after(1);
  for (std::size_t k = parts_.size(); k-- > 0;) {
    const auto steps = static_cast<S>(parts_[k].steps);
    const S left_before = left_after * pow(m, steps);
    done[k] = must_fit_ ? steps : steps - m / (S(1) - m) * (left_after - left_before);
    left_after = left_before;
  }
  return done;
}

template <class S>
PredictedStart<S> StartPredictor<S>::predict() {
  // Noise and decay for the time of the steps, and then neither.
  const std::vector<S> done = steps_done();
  Index last = 0;
  for (std::size_t k = 0; k < parts_.size(); ++k) {
    last += parts_[k].steps;
    if (!(done[k] > S(0)) || !out_.ok()) continue;
    follow(rates_.rate, parts_[k].shrinkage, rates_.quadrature, done[k] * rates_.time_of_step);
    require_alive(parts_[k], last);
  }
  tell_fault();
  if (must_fit_ && out_.ok()) {
    FlowQuadrature<S> quiet = rates_.quadrature;
    quiet.fluctuation = S(0);
    follow(Vector<S>::Zero(net_.d), {}, quiet, std::numeric_limits<S>::infinity());
  }
  read_start();
  return std::move(out_);
}

template <class S>
void StartPredictor<S>::follow(const Vector<S>& rate, const DecaySchedule<S>& shrinkage,
                               const FlowQuadrature<S>& quadrature, S length) {
  using std::sqrt;
  constexpr S eps = std::numeric_limits<S>::epsilon();
  const bool is_until_it_fits = length == std::numeric_limits<S>::infinity();
  const DecayingDualFlow<S> flow(data_, logs_, rate, static_cast<S>(net_.dual_rate()), quadrature, net_.depth,
                                 shrinkage);
  if (state_.size() == 0) state_ = flow.initial_state();
  PiController<S> controller;
  controller.tolerance = {std::max(S(1e-7), S(30) * eps), S(0)};
  controller.first_step = std::min(flow.first_step(), length);
  IntegrateOptions<S> options;
  if (is_until_it_fits) {
    const S size = std::max(data_.y().norm(), sqrt(flow.loss(flow.initial_state())));
    options.events = {loss_below(std::max(eps * size * size, std::numeric_limits<S>::min()))};
  }
  state_[data_.num_samples()] = S(0);
  auto solution = integrate(flow, state_, TimeSpan<S>{S(0), length}, Rodas4{}, controller, options);
  state_ = std::move(solution.w);
  out_.steps += solution.step;
  out_.status = solution.status;
  out_.message = std::move(solution.message);
  out_.time += solution.t;
  if (is_until_it_fits || out_.ok()) {
    judge_step(flow);
    out_.beta = flow.beta(state_);
  }
  fall(rate, S(2) * shrinkage.integral(solution.t), solution.t);
}

template <class S>
void StartPredictor<S>::fall(const Vector<S>& rate, S common, S time) {
  using std::exp;
  const S own = net_.depth == 2 ? time : S(0);
  for (Vector<S>* side : {&logs_.a, &logs_.b}) side->array() -= own * rate.array() + common;
  if (net_.depth == 2) return;
  // Powers -p of the weights, of which the state has a part.
  const S grown = exp(static_cast<S>(net_.depth - 2) * common);
  state_.head(data_.num_samples()) *= grown;
  state_.tail(2 * net_.d) *= grown;
}

template <class S>
void StartPredictor<S>::require_alive(const DecayPart<S>& part, Index last) const {
  constexpr S eps = std::numeric_limits<S>::epsilon();
  if (part.shrinkage.is_zero() || !out_.ok() || (net_.depth == 2 && must_fit_)) return;
  const S lambda = is_function(run_.decay) ? run_.decay(static_cast<S>(last - 1) * run_.step) : part.lambda;
  require(!((data_.X() * out_.beta).stableNorm() <= eps * data_.y().stableNorm()), "decay = ", lambda,
          " leaves nothing of the net: after ", last, " steps it is at rest at beta = 0");
}

template <class S>
void StartPredictor<S>::tell_fault() {
  using std::isnan;
  if (out_.ok() || fault_->time == std::numeric_limits<S>::infinity()) return;
  if (isnan(fault_->lambda))
    out_.message = sentence("decay is negative or not finite at t = ", fault_->time, " of the run");
  else
    out_.message =
        sentence("decay = ", fault_->lambda, " at t = ", fault_->time, " of the run with step = ", run_.step,
                 " sets every weight to zero or beyond: 2 step decay must be below (1 - sqrt(momentum))^2 = ",
                 most_decay(run_.momentum));
}

template <class S>
void StartPredictor<S>::judge_step(const DecayingDualFlow<S>& flow) {
  const bool has_batches = rates_.quadrature.of_samples != S(0);
  const S left = S(1) - run_.momentum;
  const S mean_step = rates_.time_of_step * left * flow.sharpness(state_, false);
  out_.curvature_step = mean_step * (S(1) + run_.momentum) / (left * left);
  if (has_batches) {
    const S of_sample = run_.step * flow.sharpness(state_, true) / left;
    const S size = run_.sampling.mean ? static_cast<S>(run_.sampling.batch_size) : S(1);
    out_.curvature_step = std::max(out_.curvature_step, of_sample / size);
  }
  const S most = S(2) * (S(1) + run_.momentum);
  require(mean_step <= most, "step = ", run_.step,
          " is not stable where the flow ends: descent settles there for steps below ", run_.step * most / mean_step);
}

template <class S>
void StartPredictor<S>::read_start() {
  const Index d = net_.d;
  out_.log_a = logs_.a;
  out_.log_b = logs_.b;
  if (net_.depth == 2) {
    out_.log_a -= state_.tail(d);
    out_.log_b -= state_.tail(d);
    out_.log_scale = (out_.log_a + out_.log_b) / S(2);
  } else {
    const auto p = static_cast<S>(net_.depth - 2);
    const Vector<S> plus = (-p * logs_.a).array().exp().matrix() + state_.segment(data_.num_samples() + 1, d);
    const Vector<S> minus = (-p * logs_.b).array().exp().matrix() + state_.tail(d);
    out_.log_a = plus.array().log() / -p;
    out_.log_b = minus.array().log() / -p;
    out_.log_scale = ((plus + minus) / S(2)).array().log() / -p;
  }
  out_.log_offset_ratio = out_.log_a - out_.log_b;
  if (must_fit_)
    out_.labels = data_.y();
  else if (out_.beta.size() == d)
    out_.labels = data_.X() * out_.beta;
  if (out_.ok())
    out_.message =
        sentence("log alpha has moved to a mean of ", out_.log_scale.mean(),
                 ", to first order in the step (its curvature step is ", out_.curvature_step, "); ", out_.message);
}

template <class S>
PredictedStart<S> predict_start(const PredictedNet& net, const Dataset<S>& data, const Start<S>& start,
                                const AlgorithmRun<S>& run) {
  return StartPredictor<S>(net, data, start, run).predict();
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_PREDICTED_START(prefix, S)                                                        \
  prefix template detail::RunRates<S> detail::rates_of<S>(const detail::PredictedNet&, const AlgorithmRun<S>&, \
                                                          const Dataset<S>&);                                  \
  prefix template PredictedStart<S> detail::predict_start<S>(const detail::PredictedNet&, const Dataset<S>&,   \
                                                             const Start<S>&, const AlgorithmRun<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_PREDICTED_START)
