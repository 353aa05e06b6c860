#include "richflow/bias/predicted_start.hpp"

#include <Eigen/Eigenvalues>
#include <cmath>

#include "richflow/bias/effective_start.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// 6 x 14, labels of a sparse beta and a little noise.
Dataset<> predicted_data(std::uint64_t seed) {
  RandomStream random(seed);
  Matrix<double> X = random_matrix(random, 6, 14);
  Vector<double> y = 0.6 * (X.col(0) - X.col(3)) + 0.3 * X.col(7);
  for (double& value : y) value += 0.1 * random.normal();
  return Dataset(std::move(X), std::move(y));
}

struct Comparison {
  double moved = 0.0;    ///< sum over coordinates of what log_scale moved by, in the runs, over that predicted
  double error = 0.0;    ///< largest |beta - prediction| over the largest |beta|, mean over the runs
  double plain = 0.0;    ///< the same of the run's own start
  double largest = 0.0;  ///< largest |log_scale - prediction| of the mean of the runs
};

/// Runs the algorithm, and compares where it went with the prediction: both solved over X beta = X beta(T).
template <class Net>
Comparison compare_prediction(const Net& net, const Dataset<>& data, const Start<>& start, const AlgorithmRun<>& run,
                              int seeds = 1) {
  const PredictedStart<> predicted = predicted_start(net, data, start, run).require_ok();
  const Vector<double> w0 = net.initial_parameters(start);
  const Vector<double> from = EffectiveStart(net, data, w0).log_scale();
  Vector<double> mean = Vector<double>::Zero(data.num_inputs());
  Comparison out;
  const auto error_of = [](const Vector<double>& beta, const Vector<double>& other) {
    return (beta - other).cwiseAbs().maxCoeff() / beta.cwiseAbs().maxCoeff();
  };
  for (int seed = 1; seed <= seeds; ++seed) {
    EffectiveStart effective(net, data, w0);
    AlgorithmRun<> seeded = run;
    seeded.sampling.seed = static_cast<std::uint64_t>(seed);
    IntegrateOptions<> options;
    options.observers = {effective};
    options.detect_stall = false;
    if (run.steps == 0) options.events = {loss_below(1e-12).at_step_end(20)};
    const WithWeightDecay problem(StochasticGradient(net, data, seeded.sampling), run.decay);
    (void)integrate(problem, w0, Steps{run.steps > 0 ? run.steps : 400000}, HeavyBall{run.momentum},
                    ConstantStep{run.step}, options)
        .require_ok();
    mean += effective.log_scale() / seeds;
    const Dataset<> reached = effective.reached();
    const Vector<double> beta = effective.beta();
    out.error += error_of(beta, solve(net, reached, predicted.start()).beta) / seeds;
    out.plain += error_of(beta, solve(net, reached, start).beta) / seeds;
  }
  out.moved = (mean - from).sum() / (predicted.log_scale - from).sum();
  out.largest = (mean - predicted.log_scale).cwiseAbs().maxCoeff();
  return out;
}

/// The prediction of steps h and h / 4: its error falls by 16, that of the plain start by 4. Up to a third order that
/// is not small at h.
template <class Net>
void check_second_order(const Net& net, const Dataset<>& data, const Start<>& start, AlgorithmRun<> run) {
  const Comparison coarse = compare_prediction(net, data, start, run);
  run.step /= 4;
  const Comparison fine = compare_prediction(net, data, start, run);
  INFO("h / 4 = " << run.step << ": " << fine.error << ", plain " << fine.plain);
  CHECK_THAT(coarse.error / fine.error, near(16, 0.25, 0));
  CHECK_THAT(coarse.plain / fine.plain, near(4, 0.2, 0));
  CHECK(fine.error < 0.05 * fine.plain);
  // First order in h.
  CHECK_THAT(fine.moved, near(1, 0, 0.04));
}

}  // namespace

TEST_CASE("the predicted start of descent and momentum: second order in the step where the plain start is first") {
  const Dataset<> data = predicted_data(2420);
  RandomStream random(2421);
  const Vector<double> a = random_positive_vector(random, 14, 0.7, 1.5),
                       b = random_positive_vector(random, 14, 0.7, 1.5);
  const Scale<> alpha = Scale<>::from_value(0.2);
  check_second_order(DiagonalNet<double>(2, 14), data, Start<>::uniform(alpha), {.step = 4e-3});
  check_second_order(DiagonalNet<double>(2, 14), data, Start<>::biased(alpha, a, b), {.step = 4e-3});
  check_second_order(DiagonalNet<double>(2, 14), data, Start<>::uniform(alpha), {.step = 8e-4, .momentum = 0.5});
  check_second_order(TwoLayerDiagonalNet<double>(14), data, Start<>::unbalanced(alpha, a, -b), {.step = 8e-3});
  check_second_order(DiagonalNet<double>(3, 14), data, Start<>::uniform(Scale<>::from_value(0.5)), {.step = 2e-3});
  check_second_order(DiagonalNet<double>(4, 14), data, Start<>::biased(Scale<>::from_value(0.6), a, b), {.step = 2e-3});
  check_second_order(DiagonalNet<double>(3, 14), data, Start<>::biased(Scale<>::from_value(0.5), a, b),
                     {.step = 4e-4, .momentum = 0.5});
  check_second_order(TwoLayerDiagonalNet<double>(14), data, Start<>::unbalanced(alpha, a, -b),
                     {.step = 1.6e-3, .momentum = 0.5});
}

TEST_CASE("the predicted start of batches: log k of the runs over the prediction goes to 1") {
  const Dataset<> data = predicted_data(2422);
  const DiagonalNet<double> net(2, 14), deep(3, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.2)),
                deep_start = Start<>::uniform(Scale<>::from_value(0.5));
  // 6 = 4 + 2: the last batch of an epoch is smaller.
  for (const Sampling<double>& sampling :
       {Sampling<double>{.batch_size = 1, .with_replacement = true}, Sampling<double>{.batch_size = 1},
        Sampling<double>{.batch_size = 3, .with_replacement = true}, Sampling<double>{.batch_size = 4}}) {
    INFO("batches of " << sampling.batch_size << (sampling.with_replacement ? ", drawn" : ", in order"));
    const Comparison run = compare_prediction(net, data, start, {.step = 1e-3, .sampling = sampling}, 2);
    // First order in the step, and noise of two runs.
    CHECK_THAT(run.moved, near(1, 0, 0.06));
    CHECK(run.error < 0.2 * run.plain);
    const Comparison deeper = compare_prediction(deep, data, deep_start, {.step = 1e-3, .sampling = sampling}, 2);
    CHECK_THAT(deeper.moved, near(1, 0, 0.06));
    // Of one run: its batches move it from their mean by up to a quarter.
    CHECK(deeper.error < 0.3 * deeper.plain);
  }
}

TEST_CASE("log k of runs on drawn samples falls by the second moment, not by the covariance alone") {
  const Dataset<> data = predicted_data(2427);
  const DiagonalNet<double> net(2, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.2));
  const double h = 1e-3;
  const Comparison run =
      compare_prediction(net, data, start, {.step = h, .sampling = {.batch_size = 1, .with_replacement = true}}, 3);
  // First order in the step, and the noise of three runs.
  CHECK_THAT(run.moved, near(1, 0, 0.05));
  // What the covariance falls short by: g_i^2 / N, integrated along the same flow.
  const auto integral = [&](detail::FlowQuadrature<double> quadrature) {
    const DecayingDualFlow<double> flow(data, detail::side_logs(14, start), Vector<double>::Zero(14), 8.0, quadrature);
    const auto end = integrate(flow, flow.initial_state(), TimeSpan{0, 50}, Rodas4{},
                               PiController<>{.tolerance = {1e-7, 0}, .first_step = flow.first_step()})
                         .require_ok();
    return flow.integrals(end.w).sum();
  };
  const double second_moment = integral({0, 8 * h, 0}), covariance = integral({-8 * h / 6, 8 * h, 0});
  const PredictedStart<> predicted =
      predicted_start(net, data, start, {.step = h, .sampling = {.batch_size = 1, .with_replacement = true}});
  // Errors of steps of 1e-7.
  CHECK_THAT(-second_moment, near((predicted.log_scale.array() - std::log(0.2)).sum(), 1e-5, 0));
  CHECK(run.moved * second_moment / covariance > 1.1);
}

TEST_CASE("the predicted start of means over batches is that of sums with shorter steps") {
  const Dataset<> data = predicted_data(2423);
  const DiagonalNet<double> net(2, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.2));
  for (const bool is_drawn : {true, false}) {
    Sampling<double> sums{.batch_size = 3, .with_replacement = is_drawn, .label_noise = 0.3};
    Sampling<double> means = sums;
    means.mean = true;
    const PredictedStart<> of_sums = predicted_start(net, data, start, {.step = 1e-3, .sampling = sums, .steps = 500});
    const PredictedStart<> of_means =
        predicted_start(net, data, start, {.step = 3e-3, .sampling = means, .steps = 500});
    // Rounding, through the choice of steps.
    CHECK((of_sums.log_scale - of_means.log_scale).cwiseAbs().maxCoeff() <= 1e-8);
    CHECK_THAT(of_means.curvature_step, near(of_sums.curvature_step, 1e-6, 0));
  }
  // All samples in one batch, in order, are descent.
  const PredictedStart<> one = predicted_start(net, data, start, {.step = 1e-3, .sampling = {.batch_size = 6}});
  const PredictedStart<> descent = predicted_start(net, data, start, {.step = 1e-3});
  CHECK((one.log_scale - descent.log_scale).cwiseAbs().maxCoeff() <= 1e-12);
}

TEST_CASE("the predicted start of label noise: the expected decay of every coordinate") {
  const Dataset<> data = predicted_data(2424);
  const DiagonalNet<double> net(2, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.2));
  const auto noisy = [](double step, Sampling<double> sampling, Index steps) {
    sampling.label_noise = 0.5;
    return AlgorithmRun<>{.step = step, .sampling = sampling, .steps = steps, .then_until_it_fits = false};
  };
  // log k has moved by 0.5 to 5; the standard deviation of the mean of 3 runs is some percent of that in one
  // coordinate, half a percent in all.
  const Comparison all = compare_prediction(net, data, start, noisy(2e-3, {}, 5000), 3);
  CHECK_THAT(all.moved, near(1, 0, 0.02));
  CHECK(all.error < 0.05 * all.plain);
  const Comparison drawn =
      compare_prediction(net, data, start, noisy(4e-3, {.batch_size = 2, .with_replacement = true}, 5000), 3);
  CHECK_THAT(drawn.moved, near(1, 0, 0.02));
  const Comparison layers = compare_prediction(TwoLayerDiagonalNet<double>(14), data, start, noisy(4e-3, {}, 5000), 3);
  CHECK_THAT(layers.moved, near(1, 0, 0.02));
  AlgorithmRun<> heavy = noisy(4e-4, {}, 8000);
  heavy.momentum = 0.6;
  CHECK_THAT(compare_prediction(net, data, start, heavy, 3).moved, near(1, 0, 0.02));
  // The noise alone, of a run that fits from its first step on: E log|1 - x^2| by moments, to next to leading order.
  const DiagonalNet<double> at_rest(2, 14);
  const Dataset fitted(data.X(), Vector<double>::Zero(6));
  const PredictedStart<> rest =
      predicted_start(at_rest, fitted, Start<>::uniform(Scale<>::from_log(-20)), noisy(0.01, {}, 50));
  for (Index i = 0; i < 14; ++i) {
    const double variance = 16 * 1e-4 * 0.25 * data.X().col(i).squaredNorm();
    CHECK_THAT(2 * (rest.log_scale[i] + 20), near(-50 * variance * (1 + 1.5 * variance), 1e-6, 0));
  }
}

TEST_CASE("the predicted start of label noise at depth D >= 3: each A^-p grows by what its weight is then") {
  const Dataset<> data = predicted_data(2424);
  const DiagonalNet<double> cubic(3, 14), quartic(4, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.5));
  const auto check = [&](const auto& net, const AlgorithmRun<>& run, int seeds) {
    const Comparison found = compare_prediction(net, data, start, run, seeds);
    INFO("moved " << found.moved << ", beta " << found.error << ", plain " << found.plain);
    // The sum over coordinates in one run has a standard deviation of 1 %, each coordinate of some.
    CHECK_THAT(found.moved, near(1, 0, 0.02));
    CHECK(found.error < 0.1 * found.plain);
  };
  AlgorithmRun<> run{.step = 2e-3, .sampling = {.label_noise = 1}, .steps = 4000, .then_until_it_fits = false};
  check(cubic, run, 4);
  run.sampling.batch_size = 2;
  run.sampling.with_replacement = true;
  check(cubic, run, 4);
  run = {.step = 1e-3, .sampling = {.label_noise = 0.5}, .steps = 8000, .then_until_it_fits = false};
  check(quartic, run, 4);
  run.decay = DecaySchedule<>([](double t) { return 0.02 * std::exp(-t); });
  check(quartic, run, 4);
  run = {.step = 5e-4, .sampling = {.label_noise = 1}, .momentum = 0.5, .steps = 8000, .then_until_it_fits = false};
  check(cubic, run, 4);
}

TEST_CASE("the predicted start of weight decay, and of decay that is switched off") {
  const Dataset<> data = predicted_data(2425);
  const DiagonalNet<double> net(2, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.5));
  AlgorithmRun<> run{.step = 1e-3, .decay = 0.1, .steps = 4000, .then_until_it_fits = false};
  const Comparison decayed = compare_prediction(net, data, start, run);
  // log k moves by -4 h lambda T = -1.6, first order in h of the rest.
  CHECK_THAT(decayed.moved, near(1, 0, 1e-3));
  CHECK(decayed.error < 0.02 * decayed.plain);
  const PredictedStart<> by_then = predicted_start(net, data, start, run);
  CHECK((by_then.labels - data.y()).norm() > 1e-3);

  // A long time of little decay without steps to speak of: exactly alpha e^(-2 Lambda).
  run = {.step = 1e-7, .decay = 0.1, .steps = 5'000'000};
  const PredictedStart<> off = predicted_start(net, data, start, run).require_ok();
  CHECK_THAT(off.log_scale.mean(), near(std::log(0.5) - 2 * 0.1 * 0.5, 0, 1e-5));
  CHECK(off.labels == data.y());
}

TEST_CASE("the predicted start of decay that changes with time: second order in the step, at any depth") {
  const Dataset<> data = predicted_data(2428);
  RandomStream random(2429);
  const Vector<double> a = random_positive_vector(random, 14, 0.7, 1.5),
                       b = random_positive_vector(random, 14, 0.7, 1.5);
  const double end = 4.0;
  const DecaySchedule<> pieces({{0.2, 1.3}, {0.05, 0.7}}), smooth([](double t) { return 0.2 * std::exp(-t); });
  const auto check = [&](const auto& net, const Start<>& start, const DecaySchedule<>& decay, double step,
                         double momentum = 0.0) {
    const auto error = [&](double h) {
      const AlgorithmRun<> run{.step = h,
                               .momentum = momentum,
                               .decay = decay,
                               .steps = static_cast<Index>(std::lround(end * (1 - momentum) / h)),
                               .then_until_it_fits = false};
      return compare_prediction(net, data, start, run);
    };
    const Comparison coarse = error(step), fine = error(step / 4);
    INFO("h = " << step << ": " << coarse.error << ", " << fine.error << ", plain " << fine.plain);
    CHECK_THAT(fine.moved, near(1, 0, 0.02));
    CHECK(fine.error < 0.02 * fine.plain);
    // Second order, where a missed half step of decay would be first; up to a third that is not small.
    CHECK_THAT(coarse.error / fine.error, near(16, 0.35, 0));
  };
  const DiagonalNet<double> squared(2, 14), cubic(3, 14);
  for (const DecaySchedule<>& decay : {pieces, smooth}) {
    check(squared, Start<>::biased(Scale<>::from_value(0.3), a, b), decay, 4e-3);
    check(cubic, Start<>::biased(Scale<>::from_value(0.6), a, b), decay, 1e-3);
    check(TwoLayerDiagonalNet<double>(14), Start<>::unbalanced(Scale<>::from_value(0.3), a, -b), decay, 8e-3);
  }
  check(cubic, Start<>::uniform(Scale<>::from_value(0.6)), 0.05, 1e-3);
  // What v holds at the end, and how decay compounds with momentum, are of first order.
  check(squared, Start<>::biased(Scale<>::from_value(0.3), a, b), pieces, 1e-3, 0.5);
  check(squared, Start<>::biased(Scale<>::from_value(0.3), a, b), smooth, 1e-3, 0.5);
  check(squared, Start<>::biased(Scale<>::from_value(0.3), a, b), 0.3, 1e-3, 0.5);
  check(cubic, Start<>::biased(Scale<>::from_value(0.6), a, b), 0.1, 2.5e-4, 0.5);

  // Decay, then none until it fits: without steps to speak of the start is alpha e^(-2 Lambda), whatever the depth.
  for (const Index depth : {2, 3}) {
    const DiagonalNet<double> net(depth, 14);
    const Start<> start = Start<>::biased(Scale<>::from_value(0.5), a, b);
    const PredictedStart<> off = predicted_start(net, data, start, {.step = 1e-7, .decay = pieces}).require_ok();
    const double integral = 0.2 * 1.3 + 0.05 * 0.7;
    const Vector<double> log_a = a.array().log();
    // Descent itself adds 1e-7.
    CHECK(((off.log_a - log_a).array() - (std::log(0.5) - 2 * integral)).abs().maxCoeff() <= 2e-5);
    CHECK(off.labels == data.y());
  }
  // The status reports a function that turns out of range.
  const auto check_told = [&](const DecaySchedule<>& decay, const char* beginning) {
    const PredictedStart<> reported = predicted_start(squared, data, Start<>::uniform(Scale<>::from_value(0.3)),
                                                      {.step = 1e-3, .decay = decay, .steps = 4000});
    INFO(reported.message);
    CHECK(reported.status == Status::non_finite);
    CHECK(reported.message.find(beginning) == 0);
    // Within half a step, by which sums are shifted, and where steps of the integrator get too small.
    CHECK_THAT(std::stod(reported.message.substr(reported.message.find("t = ") + 4)), near(1, 1e-3, 0));
  };
  check_told([](double t) { return 1.0 - t; }, "decay is negative or not finite at t = ");
  check_told([](double t) { return t < 1 ? 0.1 : 1e4; }, "decay = 10000 at t = ");
}

TEST_CASE("the predicted start of decay with momentum: second order in the step, whatever is left in v at the end") {
  const Dataset<> data = predicted_data(2430);
  RandomStream random(2431);
  const Vector<double> a = random_positive_vector(random, 14, 0.7, 1.5),
                       b = random_positive_vector(random, 14, 0.7, 1.5);
  // Powers of two: the times of the steps are not rounded.
  const double coarse_step = std::ldexp(1.0, -10);
  // The error of log A falls by 16 from h to h / 4; by 4 with any term of first order missing. Up to third order.
  const auto check = [&](const auto& net, const Start<>& start, double momentum, double step, double end,
                         const auto& decay_of) {
    const auto error = [&](double h) {
      AlgorithmRun<> run{
          .step = h, .momentum = momentum, .decay = DecaySchedule<>(decay_of(h)), .then_until_it_fits = false};
      run.steps = static_cast<Index>(std::lround(end / h));
      return compare_prediction(net, data, start, run).largest;
    };
    const double coarse = error(step), fine = error(step / 4);
    INFO("momentum " << momentum << ", h = " << step << ": " << coarse << ", " << fine);
    CHECK_THAT(coarse / fine, near(16, 0.25, 0));
  };
  const DiagonalNet<double> squared(2, 14), cubic(3, 14);
  const TwoLayerDiagonalNet<double> layers(14);
  const Start<> of_squared = Start<>::biased(Scale<>::from_value(0.4), a, b),
                of_cubic = Start<>::biased(Scale<>::from_value(0.6), a, b),
                of_layers = Start<>::unbalanced(Scale<>::from_value(0.4), a, -b);
  for (const double m : {0.5, 0.9}) {
    // As much time of the flow, and as large a step for it, h / (1 - m)^2.
    const double end = m == 0.5 ? 1.5 : 0.3125, step = m == 0.5 ? coarse_step : coarse_step / 32;
    const auto constant = [](double /*h*/) { return 0.2; };
    const auto pieces = [end](double /*h*/) { return std::vector<DecayPiece<>>{{0.2, end * 0.4}, {0.05, end * 0.2}}; };
    const auto rising = [end](double /*h*/) { return std::vector<DecayPiece<>>{{0.05, end * 0.4}, {0.3, end}}; };
    const auto smooth = [end](double /*h*/) { return [end](double t) { return 0.2 * std::exp(-t / end); }; };
    // Of the last three steps, most of which is left in v.
    const auto late = [end](double h) { return std::vector<DecayPiece<>>{{0.2, end - 3 * h}, {2.0, 3 * h}}; };
    check(squared, of_squared, m, step, end, constant);
    check(squared, of_squared, m, step, end, pieces);
    check(squared, of_squared, m, step, end, rising);
    check(squared, of_squared, m, step, end, smooth);
    check(squared, of_squared, m, step, end, late);
    check(cubic, of_cubic, m, step / 2, end, constant);
    check(cubic, of_cubic, m, step / 2, end, rising);
    check(cubic, of_cubic, m, step / 2, end, smooth);
    check(layers, of_layers, m, 2 * step, end, rising);
    check(layers, of_layers, m, 2 * step, end, smooth);
    // Until it fits, when v is empty.
    const auto error = [&](double h) {
      const AlgorithmRun<> run{.step = h, .momentum = m, .decay = DecaySchedule<>(pieces(h))};
      return compare_prediction(squared, data, of_squared, run).largest;
    };
    CHECK_THAT(error(step) / error(step / 4), near(16, 0.25, 0));
  }
}

TEST_CASE("the curvature step of momentum is that of the descent with the same second-order term") {
  const Dataset<> data = predicted_data(2432);
  const DiagonalNet<double> net(2, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.3));
  const double h = 1e-4, m = 0.9;
  const PredictedStart<> descent = predicted_start(net, data, start, {.step = h}),
                         heavy = predicted_start(net, data, start, {.step = h, .momentum = m});
  // At a fit the Hessian of L has the eigenvalues of 8 X diag(w_+^2 + w_-^2) X^T, and w_+ w_- = 0.3^2.
  const Vector<double> weights = (heavy.beta.array().square() + 4 * std::pow(0.3, 4)).sqrt();
  const Matrix<double> kernel = 8 * data.X() * weights.asDiagonal() * data.X().transpose();
  const double largest = Eigen::SelfAdjointEigenSolver<Matrix<double>>(kernel).eigenvalues().maxCoeff();
  // As documented, up to 1 % below.
  CHECK_THAT(heavy.curvature_step, near(h * (1 + m) / ((1 - m) * (1 - m)) * largest, 0.01, 0));
  CHECK_THAT(descent.curvature_step, near(h * largest, 0.01, 0));
  // One sample has no more than its own kernel in a step, and a batch of five more than that.
  const auto drawn = [&](Index size, double momentum) {
    return predicted_start(
               net, data, start,
               {.step = h, .sampling = {.batch_size = size, .with_replacement = true}, .momentum = momentum})
        .curvature_step;
  };
  // Errors of steps of 1e-7 in beta.
  CHECK_THAT(drawn(1, 0), near(h * kernel.diagonal().maxCoeff(), 1e-5, 0));
  CHECK_THAT(drawn(5, m), near(h * (1 + m) / ((1 - m) * (1 - m)) * 5 / 6 * largest, 0.01, 0));
}

TEST_CASE("a prediction refuses what it is not for") {
  const Dataset<> data = predicted_data(2426);
  const DiagonalNet<double> net(2, 14);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.2));
  const auto check = [&](const AlgorithmRun<>& run, const char* part) {
    INFO(part);
    CHECK_THROWS_MATCHES(predicted_start(net, data, start, run), ArgumentError, message_contains(part));
  };
  check({}, "step must be positive and finite, got 0");
  CHECK_THROWS_MATCHES((AlgorithmRun<>{.step = 1e-3, .decay = -1.0}), ArgumentError,
                       message_contains("lambda must be finite and not negative, got -1"));
  check({.step = 1e-3, .momentum = 1}, "momentum");
  check({.step = 1e-3, .sampling = {.batch_size = 7}}, "batch_size must be in 1 .. N = 6");
  check({.step = 1e-3, .sampling = {.label_noise = 0.5}}, "set steps");
  check({.step = 1e-3, .decay = 0.1}, "set steps");
  check({.step = 1e-3, .decay = [](double t) { return std::exp(-t); }}, "decay is a function of time: set steps");
  check({.step = 1e-3, .decay = [](double t) { return t - 1; }, .steps = 10}, "negative or not finite at t = 0");
  check({.step = 1e-3, .decay = [](double /*t*/) { return 1e4; }, .steps = 10}, "decay = 10000 with step = 0.001");
  // What the run reaches counts.
  const DecaySchedule<> late({{0.1, 1.0}, {1e3, 1.0}});
  check({.step = 1e-3, .decay = late}, "decay = 1000 with step = 0.001");
  check({.step = 1e-3, .decay = late, .steps = 1001}, "decay = 1000 with step = 0.001");
  CHECK(predicted_start(net, data, start, {.step = 1e-3, .decay = late, .steps = 1000}).ok());
  check({.step = 1e-3, .decay = 1e3, .steps = 10}, "2 step decay");
  check({.step = 1e-3, .momentum = 0.25, .decay = 200, .steps = 10}, "must be below (1 - sqrt(momentum))^2 = 0.25");
  check({.step = 1e-4, .decay = 1e3, .steps = 10}, "goes to rest at beta = 0");
  check({.step = 1e-3, .sampling = {.gradient_noise = 0.1}}, "gradient_noise");
  check({.step = 1e-3, .sampling = {.label_noise = 1, .noise = [](RandomStream&) { return 1.0; }}, .steps = 10},
        "variance of noise");
  check({.step = 1e-3, .sampling = {.batch_size = 2}, .momentum = 0.5}, "not independent");
  const Dataset<> single(data.X().topRows(1), data.y().head(1));
  CHECK_THROWS_MATCHES(predicted_start(net, single, start, {.step = 1e-3, .sampling = {.batch_size = 1}}),
                       ArgumentError, message_contains("num_samples = 1"));
  check({.step = 1.0}, "descent settles there for steps below");
  check({.step = 1e-170}, "the start itself is the prediction");
  CHECK_THROWS_MATCHES(
      predicted_start(DiagonalNet<double>(3, 14), data, start.with_scale(Scale<>::from_log(-20)), {.step = 1e-3}),
      ArgumentError, message_contains("below the rounding"));
  // At depth 3 beta = 0 is at rest under any decay, and a scale this small comes to it.
  CHECK_THROWS_MATCHES(predicted_start(DiagonalNet<double>(3, 14), data, start,
                                       {.step = 1e-3, .decay = 20.0, .steps = 4000, .then_until_it_fits = false}),
                       ArgumentError, message_contains("decay = 20 leaves nothing of the net: after 4000 steps"));
  CHECK_THROWS_MATCHES(predicted_start(DiagonalNet<double>(3, 14), data, start,
                                       {.step = 1e-3,
                                        .decay = DecaySchedule<>({{0.0, 1.0}, {20.0, 4.0}}),
                                        .steps = 5000,
                                        .then_until_it_fits = false}),
                       ArgumentError, message_contains("decay = 20 leaves nothing of the net: after 5000 steps"));
  // u^2 + v^2 is at least 2 |u v|.
  const double half_deadly = 1.5 * (data.X().transpose() * data.y()).cwiseAbs().maxCoeff();
  const AlgorithmRun<> dying{.step = 1e-5, .decay = half_deadly, .steps = 10, .then_until_it_fits = false};
  CHECK(predicted_start(net, data, start, dying).ok());
  CHECK_THROWS_MATCHES(predicted_start(TwoLayerDiagonalNet<double>(14), data, start, dying), ArgumentError,
                       message_contains("from 1 max |X^T y|"));
  CHECK_THROWS_AS(predicted_start(DiagonalNet<double>(2, 13), data, start, {.step = 1e-3}), DimensionError);
  const Vector<double> ones = Vector<double>::Ones(14);
  CHECK_THROWS_MATCHES(
      predicted_start(net, data, Start<>::unbalanced(Scale<>::from_value(1), ones, ones), {.step = 1e-3}),
      ArgumentError, message_contains("unbalanced"));
  // What is stable is said: from beside the flow's limit descent goes back to it a little below, and away above.
  double limit = 0;
  try {
    (void)predicted_start(net, data, start, {.step = 1.0});
  } catch (const ArgumentError& error) {
    const std::string text = error.what();
    limit = std::stod(text.substr(text.find("below ") + 6));
  }
  REQUIRE(limit > 0);
  const Vector<double> beta = solve(net, data, start).require_ok().beta;
  const double k = 0.04;
  Vector<double> at_limit(28);
  for (Index i = 0; i < 14; ++i) {
    const double sum = std::hypot(beta[i], 2 * k);
    at_limit[beta[i] >= 0 ? i : 14 + i] = std::sqrt((sum + std::abs(beta[i])) / 2);
    at_limit[beta[i] >= 0 ? 14 + i : i] = k / at_limit[beta[i] >= 0 ? i : 14 + i];
  }
  const auto loss_after = [&](double step) {
    const StochasticGradient problem(net, data, Sampling<double>{});
    IntegrateOptions<> options;
    options.detect_stall = false;
    const Vector<double> beside = (1 + 1e-8) * at_limit;
    const auto run = integrate(problem, beside, Steps{200}, Descent{}, ConstantStep{step}, options);
    return problem.loss(run.w) / problem.loss(beside);
  };
  CHECK(loss_after(0.95 * limit) < 1e-3);
  CHECK(loss_after(1.05 * limit) > 1e3);
}
