#include "richflow/flow/stochastic_gradient_flow.hpp"

#include <cmath>

#include "richflow/bias/effective_start.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/decaying_dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// 6 x 14 without noise.
Dataset<> stochastic_flow_data() {
  RandomStream random(2430);
  Matrix<double> X = random_matrix(random, 6, 14);
  Vector<double> y = 0.6 * (X.col(0) - X.col(3)) + 0.3 * X.col(7);
  return Dataset(std::move(X), std::move(y));
}

/// What log k falls by per time: on average, by the formula of the noise.
Vector<double> expected_rate(const Dataset<>& data, const Vector<double>& residual, double eta, FlowNoise noise) {
  const auto N = static_cast<double>(data.num_samples());
  const Vector<double> norms = data.X().cwiseAbs2().transpose() * Vector<double>::Ones(data.num_samples());
  if (noise == FlowNoise::isotropic) return 16 * eta / N * residual.squaredNorm() * norms;
  const Vector<double> pulled = data.X().transpose() * residual;
  return 16 * eta * (data.X().cwiseAbs2().transpose() * residual.cwiseAbs2() - pulled.cwiseAbs2() / N);
}

}  // namespace

TEST_CASE("a stochastic gradient flow has the drift of the flow and the covariance that it names") {
  const Dataset<> data = stochastic_flow_data();
  const SquaredDiagonalNet<double> net(14);
  RandomStream random(2431);
  const Vector<double> w = random_vector(random, 28);
  Matrix<double> jacobian(6, 28);  // rows: gradients of the outputs
  for (Index n = 0; n < 6; ++n) {
    jacobian.row(n).head(14) = 2 * data.X().row(n).cwiseProduct(w.head(14).transpose());
    jacobian.row(n).tail(14) = -2 * data.X().row(n).cwiseProduct(w.tail(14).transpose());
  }
  Vector<double> prediction(6);
  net.predict(w, data.X(), prediction);
  const Vector<double> residual = prediction - data.y();
  const Vector<double> slope = 2 * jacobian.transpose() * residual;
  const double eta = 0.3, h = 0.02;
  const Matrix<double> directions = random_matrix(random, 3, 28);
  for (const FlowNoise noise : {FlowNoise::sampling, FlowNoise::isotropic}) {
    const StochasticGradientFlow flow(net, data, {.step = eta, .noise = noise, .seed = 5});
    const auto source = flow.make_source();
    constexpr Index draws = 10000;
    Vector<double> sum = Vector<double>::Zero(3), step(28);
    Matrix<double> squares = Matrix<double>::Zero(3, 3);
    for (Index k = 0; k < draws; ++k) {
      step.setZero();
      source->begin_step(k, 0, w);
      source->add_gradient(-h, step);
      step += h * slope;
      const Vector<double> seen = directions * step;
      sum += seen;
      squares += seen * seen.transpose() / (draws * h);
    }
    Matrix<double> expected = 4 * eta * residual.squaredNorm() / 6 * jacobian.transpose() * jacobian;
    if (noise == FlowNoise::sampling)
      expected = eta * (4 * jacobian.transpose() * residual.cwiseAbs2().asDiagonal() * jacobian -
                        slope * slope.transpose() / 6);
    expected = Matrix<double>(directions * expected * directions.transpose());
    INFO(to_string(noise));
    // Some standard errors, of sqrt(2 / draws) and sqrt(1 / draws).
    CHECK((squares - expected).norm() <= 0.05 * expected.norm());
    CHECK(sum.norm() / draws <= 0.04 * std::sqrt(h * expected.trace()));
  }
}

TEST_CASE("along a stochastic gradient flow log k falls on average by the formula of its noise") {
  const Dataset<> data = stochastic_flow_data();
  const SquaredDiagonalNet<double> net(14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.3));
  const Vector<double> w0 = net.initial_parameters(start);
  const double eta = 4e-3, h = 5e-4;
  constexpr int runs = 60;
  for (const FlowNoise noise : {FlowNoise::sampling, FlowNoise::isotropic}) {
    Vector<double> fallen = Vector<double>::Zero(14), expected = fallen;
    for (int run = 0; run < runs; ++run) {
      const StochasticGradientFlow flow(net, data,
                                        {.step = eta, .noise = noise, .seed = static_cast<std::uint64_t>(run)});
      Vector<double> residual = -data.y();
      const auto watch = [&](const StepView<double>& view) {
        // The square of the drift of a step of this length is not of the flow.
        expected += h * expected_rate(data, residual, eta, noise) / runs +
                    16 * h * h * (data.X().transpose() * residual).cwiseAbs2() / runs;
        net.predict(view.y, data.X(), residual);
        residual -= data.y();
        return Action::proceed;
      };
      const auto end = integrate(flow, w0, Steps{400}, Descent{}, ConstantStep{h}, {.observers = {watch}}).require_ok();
      fallen -= (end.w.head(14).cwiseProduct(end.w.tail(14)).array().log() - 2 * std::log(0.3)).matrix() / runs;
    }
    INFO(to_string(noise));
    // log k has a standard deviation of the size of sqrt(x^4) sums, small beside its mean; E log(1 - x^2) is that of
    // -x^2 up to h eta.
    CHECK_THAT(fallen.sum() / expected.sum(), near(1, 0.03, 0));
    CHECK((fallen - expected).cwiseAbs().maxCoeff() <= 0.1 * expected.maxCoeff());

    // And by the integral along the flow without noise, up to O(eta).
    if (noise == FlowNoise::isotropic) continue;
    const detail::SideLogs<double> logs{Vector<double>::Constant(14, std::log(0.3)),
                                        Vector<double>::Constant(14, std::log(0.3))};
    const DecayingDualFlow<double> dual(data, logs, Vector<double>::Zero(14), 8.0, {16 * (h - eta / 6), 16 * eta, 0});
    const auto flow = integrate(dual, dual.initial_state(), TimeSpan{0, 400 * h}, Rodas4{},
                                PiController<>{.tolerance = {1e-6, 0}, .first_step = dual.first_step()})
                          .require_ok();
    CHECK_THAT(fallen.sum() / dual.integrals(flow.w).sum(), near(1, 0.1, 0));
  }
}

TEST_CASE("runs of a stochastic gradient flow have an effective start, repeat, and resume bit for bit") {
  const Dataset<> data = stochastic_flow_data();
  const SquaredDiagonalNet<double> net(14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.3));
  const Vector<double> w0 = net.initial_parameters(start);
  const StochasticGradientFlow flow(net, data, {.step = 1e-2, .seed = 11});
  EffectiveStart effective(net, data, w0);
  const auto whole =
      integrate(flow, w0, Steps{800}, Descent{}, ConstantStep{1e-3}, {.observers = {effective}}).require_ok();
  const Vector<double> beta = effective.beta();
  const auto error = [&](const Start<>& from) {
    return (solve(net, effective.reached(), from).require_ok().beta - beta).norm() / beta.norm();
  };
  CHECK(error(effective.start()) <= 1e-10);  // sums of 800 steps, and the solver's certificate
  CHECK(error(start) >= 1e-3);

  const auto half = integrate(flow, w0, Steps{300}, Descent{}, ConstantStep{1e-3}).require_ok();
  const auto rest = resume(flow, half.state, Steps{800}, Descent{}, ConstantStep{1e-3}).require_ok();
  CHECK(rest.w == whole.w);
  const StochasticGradientFlow other(net, data, {.step = 1e-2, .seed = 12});
  CHECK((integrate(other, w0, Steps{800}, Descent{}, ConstantStep{1e-3}).w - whole.w).norm() > 1e-6);
}

TEST_CASE("without noise a stochastic gradient flow is descent, bit for bit; and it refuses bad steps") {
  const Dataset<> data = stochastic_flow_data();
  const SquaredDiagonalNet<double> net(14);
  const Vector<double> w0 = net.initial_parameters(Start<>::uniform(Scale<>::from_value(0.3)));
  const StochasticGradientFlow flow(net, data, {});
  const StochasticGradient descent(net, data, Sampling<double>{});
  const auto a = integrate(flow, w0, Steps{100}, Descent{}, ConstantStep{1e-3});
  const auto b = integrate(descent, w0, Steps{100}, Descent{}, ConstantStep{1e-3});
  CHECK(a.w == b.w);
  CHECK_THROWS_MATCHES(StochasticGradientFlow(net, data, {.step = -1}), ArgumentError, message_contains("step"));
}
