#include "algorithm.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/bias/effective_start.hpp"
#include "richflow/bias/regularizer.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

double decay_of(const AlgorithmOptions& options, const Dataset<>& data) {
  if (options.kind != AlgorithmKind::decay) return 0.0;
  return options.decay ? *options.decay : 1e-3 * largest_useful_decay(data);
}

double momentum_of(const AlgorithmOptions& options) {
  return options.kind == AlgorithmKind::momentum ? options.momentum : 0.0;
}

Sampling<double> sampling_of(const AlgorithmOptions& options, const Dataset<>& data) {
  Sampling<double> sampling;
  sampling.batch_size = options.batch.value_or(options.kind == AlgorithmKind::sgd ? 1 : 0);
  if (options.kind == AlgorithmKind::label_noise)
    sampling.label_noise = options.noise.value_or(0.1 * data.y().norm() / std::sqrt(double(data.num_samples())));
  sampling.seed = options.seed;
  return sampling;
}

/// At least the largest eigenvalue of `J J^T` over a batch: that over all samples, `dual_rate / 2 X diag(curvature)
/// X^T`, by power iteration, or the batch times the largest entry on the diagonal.
double kernel_norm(const ImplicitRegularizer<>& Q, const Dataset<>& data, Index batch, const Vector<double>& z,
                   const Vector<double>& below, const Vector<double>& above) {
  const Index d = data.num_inputs();
  Vector<double> beta(d), curvature(d);
  Q.mirror(z, below, above, beta, curvature);
  Vector<double> v =
      Vector<double>::Ones(data.num_samples()) + 0.1 * data.y() / (data.y().cwiseAbs().maxCoeff() + 1e-300);
  double norm = 0.0;
  for (int k = 0; k < 60; ++k) {
    v /= v.norm();
    v = data.X() * curvature.cwiseProduct(data.X().transpose() * v);
    norm = v.norm();
    if (!(norm > 0.0) || !std::isfinite(norm)) break;
  }
  const double largest = (data.X().cwiseAbs2() * curvature).maxCoeff();
  return 0.5 * Q.dual_rate() * std::min(norm, static_cast<double>(batch) * largest);
}

/// Up to this a step is stable at the limit of the flow, and at its start, where `L + lambda |w|^2` has the curvature
/// `2 |J J^T| + 2 lambda`.
double stable_step(const ImplicitRegularizer<>& Q, const Dataset<>& data, Index batch, double lambda,
                   const Vector<double>& flow_limit) {
  const Index d = data.num_inputs();
  Vector<double> z(d), below(d), above(d);
  Q.gradient(flow_limit, z, below, above);
  double norm = kernel_norm(Q, data, batch, z, below, above);
  z.setZero();
  Q.bounds(z, below, above);
  norm = std::max(norm, kernel_norm(Q, data, batch, z, below, above));
  return 1.0 / (norm + lambda);
}

double largest_difference(const Vector<double>& beta, const Vector<double>& other) {
  const double size = std::max(beta.cwiseAbs().maxCoeff(), std::numeric_limits<double>::min());
  return (beta - other).cwiseAbs().maxCoeff() / size;
}

}  // namespace

double largest_useful_decay(const Dataset<>& data) {
  return 2.0 * (data.X().transpose() * data.y()).cwiseAbs().maxCoeff();
}

void check(const AlgorithmOptions& options, const Dataset<>& data) {
  const Index N = data.num_samples();
  require(!options.step || (std::isfinite(*options.step) && *options.step > 0.0), "--step must be positive, got ",
          options.step.value_or(0.0));
  require(options.steps >= 1, "--steps must be at least 1, got ", options.steps);
  require(options.kind != AlgorithmKind::sgd || N > 1, "--algorithm sgd chooses among the samples, got N = ", N,
          ": take --algorithm descent");
  require(!options.batch || (*options.batch >= 1 && *options.batch <= N), "--batch must be in 1 .. N = ", N,
          ": samples are drawn without replacement, got ", options.batch.value_or(0));
  require(!options.noise || (std::isfinite(*options.noise) && *options.noise > 0.0), "--noise must be positive, got ",
          options.noise.value_or(0.0));
  require(options.momentum >= 0.0 && options.momentum < 1.0, "--momentum must be in [0, 1), got ", options.momentum);
  require(!options.decay || (std::isfinite(*options.decay) && *options.decay >= 0.0),
          "--decay must not be negative, got ", options.decay.value_or(0.0));
}

Start<> start_of(const std::optional<Vector<double>>& shape, Scale<> scale) {
  return shape ? Start<>::shaped(scale, *shape) : Start<>::uniform(scale);
}

std::string describe(const AlgorithmOptions& options, const Dataset<>& data) {
  const Sampling<double> sampling = sampling_of(options, data);
  std::string text = algorithm_names.at(static_cast<std::size_t>(options.kind));
  if (options.kind == AlgorithmKind::label_noise) text += " " + short_number(sampling.label_noise);
  if (options.kind == AlgorithmKind::momentum) text += " " + short_number(options.momentum);
  if (options.kind == AlgorithmKind::decay) text += " " + short_number(decay_of(options, data));
  if (sampling.batch_size > 0) text += ", batches of " + std::to_string(sampling.batch_size);
  return text;
}

AlgorithmRow run_algorithm(const Dataset<>& data, const std::optional<Vector<double>>& shape, Index depth,
                           Scale<> scale, const Vector<double>& flow_limit, const AlgorithmOptions& options) {
  AlgorithmRow row;
  row.scale = scale;
  try {
    const DiagonalNet net(depth, data.num_inputs());
    const Start start = start_of(shape, scale);
    const Sampling<double> sampling = sampling_of(options, data);
    const double lambda = decay_of(options, data);
    const Index batch = sampling.batch_size > 0 ? sampling.batch_size : data.num_samples();
    const double stable = stable_step(regularizer(net, start), data, batch, lambda, flow_limit);
    row.step = options.step.value_or(0.5 * stable * (1.0 - momentum_of(options)));
    const Vector<double> w0 = net.initial_parameters(start);
    EffectiveStart effective(net, data, w0);
    const WithWeightDecay problem(StochasticGradient(net, data, sampling), lambda);
    IntegrateOptions<> run_options;
    run_options.observers = {effective};
    run_options.detect_stall = false;
    const bool comes_to_rest = options.kind != AlgorithmKind::label_noise && options.kind != AlgorithmKind::decay;
    if (comes_to_rest && data.y().squaredNorm() > 0.0)
      run_options.events = {
          loss_below(std::max(1e-20 * data.y().squaredNorm(), std::numeric_limits<double>::min())).at_step_end(50)};
    const auto run = integrate(problem, w0, Steps{options.steps}, HeavyBall{momentum_of(options)},
                               ConstantStep{row.step}, run_options);
    row.steps = run.step;
    row.sign_changes = effective.sign_changes();
    const double limit = stable * (1.0 + momentum_of(options));
    if (!run.ok() || !(effective.beta().cwiseAbs().maxCoeff() < 1e100)) {
      row.message = "diverged after " + std::to_string(run.step) + " steps of " + short_number(row.step) +
                    "; at the flow's limit steps below " + short_number(limit) + " are stable";
      return row;
    }
    row.beta = effective.beta();
    row.loss = problem.loss(run.w) / std::max(data.y().squaredNorm(), std::numeric_limits<double>::min());
    row.is_dead =
        lambda > 0.0 && row.beta.norm() <= 1e-8 * flow_limit.norm() && run.w.cwiseAbs().maxCoeff() < w0.minCoeff();
    if (!effective.ok()) {
      row.message = effective.message();
      return row;
    }
    row.effective_log_scale = effective.log_scale();
    row.log_offset_ratio = effective.log_offset_ratio();
    const Dataset reached = effective.reached();
    const Limit predicted = solve(net, reached, effective.start());
    row.predicted = predicted.beta;
    row.difference = largest_difference(row.beta, row.predicted);
    row.from_flow = largest_difference(row.beta, solve(net, reached, start).beta);
    row.ok = predicted.ok();
    if (!row.ok) row.message = "prediction: " + predicted.message;
  } catch (const Error& error) {
    row.message = error.what();
  }
  return row;
}

}  // namespace richflow::examples
