#include "richflow/bias/effective_start.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/decay_schedule.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Labels of a sparse beta and a little noise: 6 x 14.
Dataset<> effective_data(std::uint64_t seed) {
  RandomStream random(seed);
  Matrix<double> X = random_matrix(random, 6, 14);
  Vector<double> y = X.col(0) - X.col(3) + 0.5 * X.col(7);
  for (double& value : y) value += 0.1 * random.normal();
  return Dataset(std::move(X), std::move(y));
}

/// The largest difference between beta and what the start predicts, over the largest beta; the prediction is solved
/// from its kernel end, and does not know beta.
template <class Net>
double prediction_error(const Net& net, const EffectiveStart<>& effective, double tolerance = 1e-10) {
  const Dataset<> reached = effective.reached();
  const Limit<> limit = solve(net, reached, effective.start());
  CHECK(limit.ok());
  CHECK(limit.certificate.primal_residual <= tolerance);
  CHECK(limit.certificate.kkt_residual <= tolerance);
  // The run itself is optimal: its gradient of Q is in the row space of X.
  CHECK(certify(regularizer(net, effective.start()), reached, effective.beta()).kkt_residual <= tolerance);
  return (limit.beta - effective.beta()).cwiseAbs().maxCoeff() / effective.beta().cwiseAbs().maxCoeff();
}

template <class Net>
double distance_to_flow(const Net& net, const EffectiveStart<>& effective, const Start<>& start) {
  const Limit<> limit = solve(net, effective.reached(), start);
  return (limit.beta - effective.beta()).cwiseAbs().maxCoeff() / effective.beta().cwiseAbs().maxCoeff();
}

/// A rule whose steps differ from weight to weight.
struct EffectiveSigns {
  [[nodiscard]] Index memory_size(Index num_parameters) const { return num_parameters; }
  void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w,
                  VectorRef<double> memory) const {
    gradient.write(memory);
    w.array() -= step * memory.array().sign();
  }
};

/// Linear in the gradients, and says so.
struct TwiceDescent {
  [[nodiscard]] static double long_run_gain() { return 2.0; }
  void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w,
                  VectorRef<double> /*memory*/) const {
    gradient.add_to(w, -2 * step);
  }
};

/// Where the statement is refused: no numbers, and a message.
void check_refused(const EffectiveStart<>& effective, const std::string& part) {
  CHECK_FALSE(effective.ok());
  CHECK_THAT(effective.message(), text_contains(part));
  CHECK_THROWS_MATCHES(effective.start(), ConvergenceError, message_contains(part));
  CHECK_THROWS_AS(effective.log_scale(), ConvergenceError);
  CHECK_THROWS_AS(effective.log_offset_ratio(), ConvergenceError);
}

}  // namespace

TEST_CASE("the effective start of descent and heavy ball, with 60-digit runs as reference") {
  const Dataset<> data = algorithms_problem();
  const DiagonalNet<double> net(2, 8);
  const ReferenceTable table = reference_table("algorithms_gd.csv");
  REQUIRE(table.size() == 48);
  for (std::size_t first = 0; first < table.size(); first += 8) {
    const auto number = [&](const char* column) { return table.number(first, column); };
    INFO(table.text(first, "run"));
    const Vector<double> ones = Vector<double>::Ones(8);
    const Start<> start = Start<>::biased(Scale<>::from_value(number("alpha")), number("a") * ones, number("b") * ones);
    EffectiveStart effective(net, data, start);
    const StochasticGradient problem(net, data, Sampling<double>{});
    const Steps steps{static_cast<Index>(number("steps"))};
    const double m = number("momentum");
    const Vector<double> w0 = net.initial_parameters(start);
    if (m > 0)
      (void)integrate(problem, w0, steps, HeavyBall{m}, ConstantStep{number("eta")}, {.observers = {effective}});
    else
      (void)integrate(problem, w0, steps, Descent{}, ConstantStep{number("eta")}, {.observers = {effective}});
    CHECK(effective.steps() == steps.count);
    CHECK(effective.sign_changes() == static_cast<Index>(number("sign_changes")));
    const Vector<double> log_scale = effective.log_scale();
    const Vector<double> log_ratio = effective.log_offset_ratio();
    const Vector<double> beta = effective.beta();
    const Vector<double> predicted = solve(net, data, effective.start()).require_ok().beta;
    for (Index i = 0; i < 8; ++i) {
      const std::size_t row = first + static_cast<std::size_t>(i);
      const double log_a = table.number(row, "log_a_plus");
      const double log_b = table.number(row, "log_a_minus");
      // The runs amplify rounding near the edge of stability.
      CHECK_THAT(log_scale[i], near((log_a + log_b) / 2, 0, 1e-11));
      CHECK_THAT(log_ratio[i], near(log_a - log_b, 0, 1e-11));
      CHECK_THAT(beta[i], near(table.number(row, "beta"), 1e-11, 1e-12));
      CHECK_THAT(predicted[i], near(table.number(row, "beta_predicted"), 1e-11, 1e-12));
    }
  }
}

TEST_CASE("the effective start is the sum over steps, step by step, with decay too") {
  const Dataset<> data = effective_data(2401);
  const Index d = data.num_inputs();
  const SquaredDiagonalNet<double> net(d);
  for (const double lambda : {0.0, 0.05}) {
    Vector<double> w = net.initial_parameters(Scale<>::from_value(0.2));
    EffectiveStart effective(net, data, w);
    const auto eta = [](Index k) { return 0.002 * (1 + 0.9 * std::sin(static_cast<double>(k) / 10)); };
    const WithWeightDecay problem(StochasticGradient(net, data, Sampling<double>{}), lambda);
    (void)integrate(problem, w, Steps{700}, Descent{}, StepSchedule<>(eta), {.observers = {effective}});
    Vector<double> log_a = w.head(d).array().log(), log_b = w.tail(d).array().log();
    for (Index k = 0; k < 700; ++k) {
      const Vector<double> r = data.X() * (w.head(d).cwiseAbs2() - w.tail(d).cwiseAbs2()) - data.y();
      const double c = 1 - 2 * eta(k) * lambda;
      const Vector<double> x = 4 * eta(k) / c * data.X().transpose() * r;
      for (Index i = 0; i < d; ++i) {
        log_a[i] += std::log(c) + std::log1p(-x[i]) + x[i];
        log_b[i] += std::log(c) + std::log1p(x[i]) - x[i];
        w[i] *= c * (1 - x[i]);
        w[d + i] *= c * (1 + x[i]);
      }
    }
    CHECK((effective.log_scale() - (log_a + log_b) / 2).cwiseAbs().maxCoeff() <= 1e-11);
    CHECK((effective.log_offset_ratio() - (log_a - log_b)).cwiseAbs().maxCoeff() <= 1e-11);
    // Far from a fit.
    CHECK(prediction_error(net, effective) <= 1e-10);
  }
}

TEST_CASE("predictions meet the runs of descent: batches, noise, decay, momentum, any depth") {
  for (std::uint64_t seed = 2410; seed < 2414; ++seed) {
    INFO(seed);
    const Dataset<> data = effective_data(seed);
    const Index d = data.num_inputs();
    RandomStream random(seed, 7);
    const auto check = [&](const auto& net, const Vector<double>& w0, const Start<>& start, const auto& sampling,
                           const auto& rule, double step, double lambda, Index steps) {
      EffectiveStart effective(net, data, w0);
      const WithWeightDecay problem(StochasticGradient(net, data, sampling), lambda);
      const auto run = integrate(problem, w0, Steps{steps}, rule, ConstantStep{step}, {.observers = {effective}});
      REQUIRE(run.ok());
      REQUIRE_THAT(effective.ok() ? "" : effective.message(), text_contains(""));
      REQUIRE(effective.ok());
      CHECK(prediction_error(net, effective) <= 1e-10);
      // The test can tell: from the run's own start the flow goes elsewhere.
      CHECK(distance_to_flow(net, effective, start) >= 1e-6);
    };
    const DiagonalNet<double> squared(2, d);
    const Start<> start = Start<>::shaped(Scale<>::from_value(0.3), random_positive_vector(random, d, 0.5, 1.5));
    const Vector<double> w0 = squared.initial_parameters(start);
    using Sampled = Sampling<double>;
    check(squared, w0, start, Sampled{}, Descent{}, 5e-3, 0.0, 1500);
    check(squared, w0, start, Sampled{}, Descent{}, 5e-3, 0.0, 20);
    check(squared, w0, start, Sampled{.batch_size = 1, .seed = seed}, Descent{}, 5e-3, 0.0, 6000);
    check(squared, w0, start, Sampled{.batch_size = 1, .with_replacement = true, .seed = seed}, Descent{}, 5e-3, 0.0,
          100);
    check(squared, w0, start, Sampled{.batch_size = 4, .mean = true, .seed = seed}, Descent{}, 2e-2, 0.0, 1000);
    check(squared, w0, start, Sampled{.batch_size = 4, .with_replacement = true, .seed = seed}, Descent{}, 5e-3, 0.02,
          1000);
    check(squared, w0, start, Sampled{.label_noise = 0.5, .seed = seed}, Descent{}, 3e-3, 0.0, 3000);
    check(squared, w0, start, Sampled{.batch_size = 2, .label_noise = 0.5, .seed = seed}, Descent{}, 3e-3, 0.0, 3000);
    check(squared, w0, start, Sampled{}, HeavyBall{0.5}, 2e-3, 0.0, 1500);
    check(squared, w0, start, Sampled{}, HeavyBall{0.9}, 1e-3, 0.0, 700);
    check(squared, w0, start, Sampled{.batch_size = 3, .seed = seed}, HeavyBall{0.5}, 2e-3, 0.01, 1500);
    check(squared, w0, start, Sampled{}, Nesterov{0.5}, 2e-3, 0.0, 1500);
    for (const Index depth : {3, 4, 5}) {
      INFO("depth " << depth);
      const DiagonalNet<double> deep(depth, d);
      const Start<> from = Start<>::uniform(Scale<>::from_value(0.6));
      const Vector<double> weights = deep.initial_parameters(from);
      check(deep, weights, from, Sampled{}, Descent{}, 1e-3, 0.0, 2000);
      check(deep, weights, from, Sampled{.batch_size = 3, .seed = seed}, Descent{}, 1e-3, 0.0, 2000);
      check(deep, weights, from, Sampled{.label_noise = 0.3, .seed = seed}, Descent{}, 5e-4, 0.0, 1000);
      check(deep, weights, from, Sampled{}, Descent{}, 1e-3, 0.02, 1000);
      check(deep, weights, from, Sampled{}, HeavyBall{0.5}, 5e-4, 0.0, 1000);
    }
    const TwoLayerDiagonalNet<double> two(d);
    const Start<> uneven = Start<>::unbalanced(Scale<>::from_value(0.3), random_vector(random, d),
                                               random_positive_vector(random, d, 0.5, 1.5));
    const Vector<double> layers = two.initial_parameters(uneven);
    check(two, layers, uneven, Sampled{}, Descent{}, 5e-3, 0.0, 2000);
    check(two, layers, uneven, Sampled{.batch_size = 2, .seed = seed}, Descent{}, 5e-3, 0.0, 2000);
    check(two, layers, uneven, Sampled{}, HeavyBall{0.5}, 3e-3, 0.01, 1000);
    check(two, two.initial_parameters(start), start, Sampled{.batch_size = 2, .seed = seed}, Descent{}, 5e-3, 0.0,
          2000);
  }
}

TEST_CASE("sign changes are no obstacle at even depth, and the end of the statement at odd depth") {
  const Dataset<> data = effective_data(2420);
  const Index d = data.num_inputs();
  const auto run = [&](Index depth, double alpha, double first_step, double step) {
    const DiagonalNet<double> net(depth, d);
    const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(alpha));
    EffectiveStart effective(net, data, w0);
    (void)integrate(StochasticGradient(net, data, Sampling<double>{}), w0, Steps{3000}, Descent{},
                    StepSchedule<>([=](Index k) { return k == 0 ? first_step : step; }), {.observers = {effective}});
    return effective;
  };
  // The first step makes the largest x 1.2.
  const Vector<double> g = data.X().transpose() * data.y();
  const double large = 1.2 / g.cwiseAbs().maxCoeff();
  const EffectiveStart<> squared = run(2, 0.4, large / 4, 1e-3);
  CHECK(squared.sign_changes() == 1);
  CHECK(squared.first_sign_change() == 1);
  CHECK(prediction_error(DiagonalNet<double>(2, d), squared) <= 1e-10);
  const EffectiveStart<> quartic = run(4, 0.7, large / (8 * 0.49), 1e-4);
  CHECK(quartic.sign_changes() == 1);
  CHECK(prediction_error(DiagonalNet<double>(4, d), quartic) <= 1e-9);
  check_refused(run(3, 0.7, large / (6 * 0.7), 1e-4), "became negative in step 1: at odd depth D = 3");
}

TEST_CASE("the statement is refused where there is none") {
  const Dataset<> data = effective_data(2430);
  const Index d = data.num_inputs();
  const SquaredDiagonalNet<double> net(d);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.3));
  const GradientFlow flow(net, data);
  const StochasticGradient problem(net, data, Sampling<double>{});
  EffectiveStart effective(net, data, w0);
  CHECK(effective.ok());  // of no steps: the run's own start
  CHECK((effective.log_scale().array() - std::log(0.3)).abs().maxCoeff() <= 1e-15);
  SECTION("adaptive steps") {
    (void)integrate(flow, w0, TimeSpan{0, 0.1}, DormandPrince{}, PiController<>{.tolerance = {1e-6, 1e-9}},
                    {.observers = {effective}});
    check_refused(effective, "steps of an integrator");
  }
  SECTION("a rule that is not linear") {
    (void)integrate(problem, w0, Steps{3}, EffectiveSigns{}, ConstantStep{1e-3}, {.observers = {effective}});
    check_refused(effective, "long_run_gain()");
  }
  SECTION("a problem that does not show its residuals") {
    (void)integrate(flow, w0, Steps{3}, Descent{}, ConstantStep{1e-3}, {.observers = {effective}});
    check_refused(effective, "StochasticGradient(net, data, {})");
  }
  SECTION("noise on gradients") {
    const StochasticGradient noisy(net, data, {.gradient_noise = 0.1});
    (void)integrate(noisy, w0, Steps{3}, Descent{}, ConstantStep{1e-3}, {.observers = {effective}});
    check_refused(effective, "noise on the gradients");
  }
  SECTION("steps that were not seen") {
    const auto half = integrate(problem, w0, Steps{5}, Descent{}, ConstantStep{1e-3});
    (void)resume(problem, half.state, Steps{7}, Descent{}, ConstantStep{1e-3}, {.observers = {effective}});
    check_refused(effective, "has seen 0 steps where the run has made 5");
  }
  SECTION("decay that sets every weight to zero") {
    const WithWeightDecay dead(problem, 500.0);
    (void)integrate(dead, w0, Steps{1}, Descent{}, ConstantStep{1e-3}, {.observers = {effective}});
    check_refused(effective, "sets every weight to zero");
  }
  SECTION("a factor that is zero") {
    // One sample, one feature: 4 h g = 1 in the first step.
    const Dataset one(Matrix<double>::Ones(1, 1), Vector<double>::Constant(1, -1.0));
    const SquaredDiagonalNet<double> small(1);
    EffectiveStart of_one(small, one, Vector<double>::Constant(2, 0.5));
    (void)integrate(StochasticGradient(small, one, Sampling<double>{}), Vector<double>::Constant(2, 0.5), Steps{4},
                    Descent{}, ConstantStep{0.25}, {.observers = {of_one}});
    check_refused(of_one, "w_+(0) became zero in step 1");
  }
  SECTION("two layers whose difference rounding hides, unless they are equal") {
    const TwoLayerDiagonalNet<double> two(d);
    const auto run = [&](const Start<>& start) {
      EffectiveStart of_two(two, data, start);
      (void)integrate(StochasticGradient(two, data, Sampling<double>{}), two.initial_parameters(start), Steps{6000},
                      Descent{}, ConstantStep{1e-2}, {.observers = {of_two}});
      return of_two;
    };
    const Scale<> small = Scale<>::from_value(1e-7);
    check_refused(run(Start<>::unbalanced(small, Vector<double>::Constant(d, 0.5), Vector<double>::Ones(d))),
                  "which rounding hides");
    CHECK(prediction_error(two, run(Start<>::uniform(small))) <= 1e-10);
  }
  SECTION("a net of depth 3 that decay has put to rest") {
    const DiagonalNet<double> deep(3, d);
    EffectiveStart of_deep(deep, data, Start<>::uniform(Scale<>::from_value(0.01)));
    (void)integrate(WithWeightDecay(StochasticGradient(deep, data, Sampling<double>{}), 50.0),
                    deep.initial_parameters(Scale<>::from_value(0.01)), Steps{10000}, Descent{}, ConstantStep{1e-3},
                    {.observers = {of_deep}});
    check_refused(of_deep, "underflowed in step");
  }
  SECTION("another run") {
    const Dataset<> other = effective_data(2431);
    EffectiveStart of_others(net, other, w0);
    CHECK_THROWS_MATCHES(integrate(problem, w0, Steps{3}, Descent{}, ConstantStep{1e-3}, {.observers = {of_others}}),
                         ArgumentError, message_contains("the first step of the run is not one of this net"));
    const Dataset fewer(Matrix<double>::Ones(3, d), Vector<double>::Ones(3));
    EffectiveStart of_fewer(net, fewer, w0);
    (void)integrate(problem, w0, Steps{3}, Descent{}, ConstantStep{1e-3}, {.observers = {of_fewer}});
    check_refused(of_fewer, "other data");
  }
  SECTION("what does not fit") {
    CHECK_THROWS_AS(EffectiveStart(SquaredDiagonalNet<double>(d + 1), data, w0), DimensionError);
    CHECK_THROWS_AS(EffectiveStart(net, data, Vector<double>(w0.head(d))), DimensionError);
    Vector<double> zero = w0;
    zero[d + 2] = 0;
    CHECK_THROWS_MATCHES(EffectiveStart(net, data, zero), ArgumentError, message_contains("w_-(2) is zero"));
    zero[d + 2] = -1;
    CHECK_NOTHROW(EffectiveStart(net, data, zero));
    CHECK_THROWS_MATCHES(EffectiveStart(DiagonalNet<double>(3, d), data, zero), ArgumentError,
                         message_contains("w_-(2) is negative"));
    const LabelledDataset<double> classes(Matrix<double>::Ones(5, 3), Vector<int>::Zero(5), 2);
    CHECK_THROWS_MATCHES(StochasticGradient(LinearClassifier<double>(3, 2), classes, {.label_noise = 0.5}),
                         ArgumentError, message_contains("classes have no noise"));
  }
}

TEST_CASE("one sample: descent, also by draws, and no batches without replacement") {
  RandomStream random(2440);
  const Dataset data(random_matrix(random, 1, 5), Vector<double>::Ones(1));
  const SquaredDiagonalNet<double> net(5);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.3));
  const auto scale_of = [&](const Sampling<double>& sampling) {
    EffectiveStart effective(net, data, start);
    (void)integrate(StochasticGradient(net, data, sampling), net.initial_parameters(start), Steps{400}, Descent{},
                    ConstantStep{5e-3}, {.observers = {effective}});
    CHECK(prediction_error(net, effective) <= 1e-10);
    return effective.log_scale();
  };
  // Products in another order, over 400 steps.
  CHECK((scale_of({}) - scale_of({.batch_size = 1, .with_replacement = true})).cwiseAbs().maxCoeff() <= 400 * eps);
  CHECK_THROWS_MATCHES(StochasticGradient(net, data, Sampling<double>{.batch_size = 1}), ArgumentError,
                       message_contains("batch_size = 1 without replacement chooses nothing where num_samples = 1"));
}

TEST_CASE("weights that underflow continue as logarithms, and k is what it is") {
  const Dataset<> data = effective_data(2450);
  const Index d = data.num_inputs();
  const SquaredDiagonalNet<double> net(d);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.3));
  SECTION("a net that dies of decay") {
    EffectiveStart effective(net, data, w0);
    // Every |2 g| is below lambda: beta goes to 0, and the weights below all numbers.
    const double lambda = 100.0 + 4 * (data.X().transpose() * data.y()).cwiseAbs().maxCoeff();
    const double h = 1e-3;
    const WithWeightDecay problem(StochasticGradient(net, data, Sampling<double>{}), lambda);
    const Index steps = 9000;
    const auto run = integrate(problem, w0, Steps{steps}, Descent{}, ConstantStep{h}, {.observers = {effective}});
    CHECK(run.w.cwiseAbs().maxCoeff() <= 1e-290);
    REQUIRE(effective.ok());
    CHECK(effective.message().find("the decay has left nothing of the net") != std::string::npos);
    // beta = 0 long before: then log k moves by 2 log c + log(1 - x^2) with the same x in each step.
    const double c = 1 - 2 * h * lambda;
    const Vector<double> g = data.X().transpose() * data.y();
    const Vector<double> x = 4 * h / c * g;
    for (Index i = 0; i < d; ++i) {
      const double per_step = std::log(std::abs(c)) + std::log(std::abs(1 - x[i] * x[i])) / 2;
      CHECK_THAT(effective.log_scale()[i], near(std::log(0.3) + static_cast<double>(steps) * per_step, 1e-3, 0));
    }
    CHECK(effective.reached().y().isZero(0));
  }
  SECTION("label noise on for long: k far below the smallest number") {
    EffectiveStart effective(net, data, w0);
    const StochasticGradient problem(net, data, {.label_noise = 3.0, .seed = 4});
    (void)integrate(problem, w0, Steps{20000}, Descent{}, ConstantStep{5e-3}, {.observers = {effective}});
    REQUIRE(effective.ok());
    CHECK(effective.log_scale().minCoeff() < -380);
    CHECK(prediction_error(net, effective, 1e-8) <= 1e-8);
  }
}

TEST_CASE("a net that decay has put to rest is reported after the decay has ended, and by a run that continues") {
  const Dataset<> data = effective_data(2455);
  const DiagonalNet<double> net(3, data.num_inputs());
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.4));
  const WithWeightDecay problem(StochasticGradient(net, data, Sampling<double>{}), DecaySchedule<>({{20.0, 2.0}}));
  const TemporaryFolder folder;
  IntegrateOptions<> options;
  options.checkpoint = {.file = folder.path() / "run"};
  for (const Index steps : {2300, 2500}) {
    EffectiveStart effective(net, data, start);
    options.observers = {effective};
    (void)integrate(problem, net.initial_parameters(start), Steps{steps}, Descent{}, ConstantStep{1e-3}, options);
    REQUIRE(effective.ok());
    CHECK(effective.message().find("the decay has left nothing of the net") != std::string::npos);
  }
  // A small net that nothing has decayed is none.
  const Start<> tiny = Start<>::uniform(Scale<>::from_value(1e-9));
  EffectiveStart effective(net, data, tiny);
  (void)integrate(problem.problem(), net.initial_parameters(tiny), Steps{3}, Descent{}, ConstantStep{1e-3},
                  {.observers = {effective}});
  REQUIRE(effective.ok());
  CHECK(effective.message().find("the decay") == std::string::npos);
}

TEST_CASE("an effective start is kept in the file of its run") {
  const Dataset<> data = effective_data(2460);
  const SquaredDiagonalNet<double> net(data.num_inputs());
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.3));
  const StochasticGradient problem(net, data, {.batch_size = 2, .label_noise = 0.2});
  const ConstantStep<> step{3e-3};
  EffectiveStart whole(net, data, w0);
  (void)integrate(problem, w0, Steps{200}, HeavyBall{0.4}, step, {.observers = {whole}});
  const TemporaryFolder folder;
  IntegrateOptions<> options;
  options.checkpoint = {.file = folder.path() / "run", .every_seconds = 1e9};
  {
    EffectiveStart first(net, data, w0);
    options.observers = {first};
    (void)integrate(problem, w0, Steps{90}, HeavyBall{0.4}, step, options);
  }
  EffectiveStart second(net, data, w0);
  options.observers = {second};
  (void)integrate(problem, w0, Steps{200}, HeavyBall{0.4}, step, options);
  CHECK(second.steps() == 200);
  CHECK(same_bits(second.log_scale(), whole.log_scale()));
  CHECK(same_bits(second.log_offset_ratio(), whole.log_offset_ratio()));
  // And over a resumed state.
  EffectiveStart parts(net, data, w0);
  const auto half = integrate(problem, w0, Steps{90}, HeavyBall{0.4}, step, {.observers = {parts}});
  (void)resume(problem, half.state, Steps{200}, HeavyBall{0.4}, step, {.observers = {parts}});
  CHECK(same_bits(parts.log_scale(), whole.log_scale()));
  // The file of a run that nothing watched has nothing for the observer.
  const auto blind = folder.path() / "blind";
  (void)integrate(problem, w0, Steps{90}, HeavyBall{0.4}, step, {.checkpoint = {.file = blind}});
  options.checkpoint.file = blind;
  CHECK_THROWS_MATCHES(integrate(problem, w0, Steps{200}, HeavyBall{0.4}, step, options), CheckpointError,
                       message_contains("effective_start_steps"));
  // A refusal is kept, too.
  EffectiveStart refused(net, data, w0);
  const StochasticGradient noisy(net, data, {.gradient_noise = 0.1});
  options.checkpoint.file = folder.path() / "refused";
  options.observers = {refused};
  (void)integrate(noisy, w0, Steps{5}, Descent{}, step, options);
  EffectiveStart again(net, data, w0);
  options.observers = {again};
  (void)integrate(noisy, w0, Steps{9}, Descent{}, step, options);
  CHECK(again.message() == refused.message());
}

TEST_CASE("the effective start nears the run's own like the step: the gains of the rules are right") {
  // Any vector in the row space of X in place of S gives a start that predicts the run. The right one stays near.
  const Dataset<> data = effective_data(2470);
  const Index d = data.num_inputs();
  const SquaredDiagonalNet<double> net(d);
  const Start<> start = Start<>::biased(Scale<>::from_value(0.3), Vector<double>::LinSpaced(d, 0.8, 1.5),
                                        Vector<double>::LinSpaced(d, 1.2, 0.6));
  const Vector<double> w0 = net.initial_parameters(start);
  const Vector<double> log_scale = (w0.head(d).array().log() + w0.tail(d).array().log()) / 2;
  const Vector<double> log_ratio = w0.head(d).array().log() - w0.tail(d).array().log();
  const auto check =
      [&](const auto& rule,
          const StochasticGradient<SquaredDiagonalNet<double>, SquaredLoss<double>, Dataset<double>>& problem) {
        const auto shift = [&](double h) {
          EffectiveStart effective(net, data, start);
          (void)integrate(problem, w0, Steps{static_cast<Index>(std::lround(2.0 / h))}, rule, ConstantStep{h},
                          {.observers = {effective}});
          CHECK((effective.log_offset_ratio() - log_ratio).cwiseAbs().maxCoeff() <= 0.1);
          return Vector<double>(effective.log_scale() - log_scale);
        };
        const Vector<double> coarse = shift(4e-4);
        const Vector<double> fine = shift(2e-4);
        CHECK(coarse.cwiseAbs().maxCoeff() <= 0.2);
        CHECK(coarse.maxCoeff() < 0);
        CHECK_THAT(coarse.norm() / fine.norm(), near(2.0, 0.15, 0));
      };
  const StochasticGradient whole(net, data, Sampling<double>{});
  check(Descent{}, whole);
  check(TwiceDescent{}, whole);
  check(HeavyBall{0.5}, whole);
  check(Nesterov{0.5}, whole);
  check(Descent{}, StochasticGradient(net, data, {.batch_size = 2}));
}

TEST_CASE("any schedule of weight decay, and decay that is switched off") {
  const Dataset<> data = effective_data(2480);
  for (const Index depth : {2, 3, 4}) {
    const DiagonalNet<double> net(depth, data.num_inputs());
    const Start<> start = Start<>::uniform(Scale<>::from_value(0.6));
    const Vector<double> w0 = net.initial_parameters(start);
    EffectiveStart effective(net, data, start);
    const double off = 1.5;
    const WithWeightDecay problem(StochasticGradient(net, data, {.batch_size = 3}),
                                  [=](double t) { return t < off ? 0.2 / (1 + t) : 0.0; });
    (void)integrate(problem, w0, Steps{6000}, Descent{}, ConstantStep{5e-4}, {.observers = {effective}});
    CHECK(prediction_error(net, effective) <= 1e-10);
    // alpha exp(-2 integral of lambda), to first order in the step.
    const Vector<double> log_scale = effective.log_scale();
    const double expected = std::log(0.6) - 2 * 0.2 * std::log(1 + off);
    CHECK((log_scale.array() - expected).abs().maxCoeff() <= 0.05);
  }
}

TEST_CASE("effective starts in single precision") {
  const Dataset<> whole = effective_data(2490);
  const Dataset<float> data(Matrix<float>(whole.X().cast<float>()), Vector<float>(whole.y().cast<float>()));
  const DiagonalNet<float> net(2, data.num_inputs());
  const auto start = Start<float>::uniform(Scale<float>::from_value(0.3F));
  EffectiveStart<float> effective(net, data, start);
  IntegrateOptions<float> options;
  options.observers = {effective};
  const StochasticGradient problem(net, data, Sampling<float>{.batch_size = 2});
  (void)integrate(problem, net.initial_parameters(start), Steps{2000}, Descent{}, ConstantStep<float>{5e-3F}, options);
  const auto limit = solve(net, effective.reached(), effective.start());
  CHECK((limit.beta - effective.beta()).norm() <= 1e-4F * effective.beta().norm());
}

TEST_CASE("the sum over steps keeps its accuracy beyond the number of steps at which a plain one has lost it") {
  // In single precision, where the machine epsilon times 4e5 steps is what it is times 2e14 in double. The weights
  // rest.
  constexpr Index steps = 400'000;
  const Dataset<float> data(Matrix<float>::Ones(1, 1), Vector<float>::Zero(1));
  const DiagonalNet<float> net(2, 1);
  const Vector<float> w = Vector<float>::Ones(2);
  EffectiveStart<float> effective(net, data, w);
  const float slope = 0.1F;
  StepResiduals<float> seen;
  seen.slopes = &slope;
  seen.size = 1;
  seen.h = 1.0F / 1024;  // products with it are exact
  seen.long_run_gain = 1;
  const Stats stats;
  double sum = 0;
  float plain = 0;
  for (Index k = 1; k <= steps; ++k) {
    sum += static_cast<double>(slope) / 1024;
    plain += slope / 1024;
    const float t = static_cast<float>(k);
    (void)effective(StepView<float>{k, t - 1, t, 0, t, w, {}, stats, &seen});
  }
  REQUIRE(effective.steps() == steps);
  // log(A_+ / A_-) = 2 S = 4 sum, rounded where it is formed.
  const double expected = 4 * sum;
  CHECK_THAT(static_cast<double>(effective.log_offset_ratio()[0]),
             near(expected, 4 * std::numeric_limits<float>::epsilon(), 0.0));
  // The test can tell.
  CHECK(std::abs(4.0 * static_cast<double>(plain) - expected) >= 1e-5 * expected);
}
