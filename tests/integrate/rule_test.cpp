#include "richflow/integrate/rule.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/decay_schedule.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using RuleNet = SquaredDiagonalNet<double>;

struct RuleProblem {
  Dataset<> data;
  RuleNet net;
  Vector<double> w0;

  explicit RuleProblem(std::uint64_t seed) : RuleProblem(RandomStream(seed)) {}

  /// The gradient by its definition.
  [[nodiscard]] Vector<double> gradient(const Vector<double>& w) const {
    const Index d = data.num_inputs();
    const Vector<double> r = data.X() * (w.head(d).cwiseAbs2() - w.tail(d).cwiseAbs2()) - data.y();
    const Vector<double> g = data.X().transpose() * r;
    Vector<double> out(2 * d);
    out << 4 * w.head(d).cwiseProduct(g), -4 * w.tail(d).cwiseProduct(g);
    return out;
  }

 private:
  explicit RuleProblem(RandomStream random)
      : data(gaussian_data(random, 4, 10)), net(10), w0(net.initial_parameters(Scale<>::from_value(0.4))) {}
};

/// A rule of a user's, as in the documentation.
struct SignDescent {
  [[nodiscard]] Index memory_size(Index num_parameters) const { return num_parameters; }
  void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w,
                  VectorRef<double> memory) const {
    gradient.write(memory);
    w.array() -= step * memory.array().sign();
  }
};

}  // namespace

TEST_CASE("descent is Euler's method, to the bit") {
  const RuleProblem p(901);
  const GradientFlow flow(p.net, p.data);
  const auto descent = integrate(flow, p.w0, Steps{300}, Descent{}, ConstantStep{1e-3});
  const auto euler = gradient_descent(p.net, p.data, p.w0, {.step = 1e-3, .iterations = 300});
  CHECK(descent.status == Status::reached_end);
  CHECK(descent.step == 300);
  CHECK(same_bits(descent.w, euler.w));
  CHECK(descent.stats == euler.stats);
}

TEST_CASE("heavy ball, Nesterov and a user's rule by their definitions") {
  for (const std::uint64_t seed : {902U, 903U, 904U}) {
    const RuleProblem p(seed);
    const GradientFlow flow(p.net, p.data);
    const double h = 7e-4;
    const double m = 0.8;
    const Index steps = 200;
    Vector<double> ball = p.w0;
    Vector<double> before = p.w0;
    // w_(k+1) = w_k - h g + m (w_k - w_(k-1))
    for (Index k = 0; k < steps; ++k) {
      const Vector<double> next = ball - h * p.gradient(ball) + m * (ball - before);
      before = ball;
      ball = next;
    }
    const auto heavy = integrate(flow, p.w0, Steps{steps}, HeavyBall{.momentum = m}, ConstantStep{h});
    // 200 steps of a contraction, each a few roundings.
    CHECK((heavy.w - ball).norm() <= 1e-12 * ball.norm());

    // u_(k+1) = u_k + v_(k+1), v_(k+1) = m v_k - h g(u_k + m v_k); the weights look ahead.
    Vector<double> u = p.w0;
    Vector<double> v = Vector<double>::Zero(u.size());
    for (Index k = 0; k < steps; ++k) {
      v = m * v - h * p.gradient(u + m * v);
      u += v;
    }
    const auto nesterov = integrate(flow, p.w0, Steps{steps}, Nesterov{.momentum = m}, ConstantStep{h});
    CHECK((nesterov.w - (u + m * v)).norm() <= 1e-12 * u.norm());

    Vector<double> sign = p.w0;
    for (Index k = 0; k < 20; ++k) sign -= h * p.gradient(sign).array().sign().matrix();
    const auto users = integrate(flow, p.w0, Steps{20}, SignDescent{}, ConstantStep{h});
    CHECK((users.w - sign).norm() <= 1e-13 * sign.norm());
  }
}

TEST_CASE("every rule tends to the flow like its step, in its own time") {
  const RuleProblem p(905);
  const GradientFlow flow(p.net, p.data);
  const double end = 0.05;
  const auto exact =
      integrate(flow, p.w0, TimeSpan{0.0, end}, DormandPrince{}, PiController<>{.tolerance = {1e-12, 1e-14}});
  REQUIRE(exact.ok());
  const auto check_order = [&](const auto& rule, double momentum) {
    std::vector<double> errors;
    for (const Index steps : {4000, 8000, 16000}) {
      // A step of h moves a rule with momentum m on by the time h / (1 - m).
      const double h = end * (1 - momentum) / static_cast<double>(steps);
      const auto run = integrate(flow, p.w0, Steps{steps}, rule, ConstantStep{h});
      REQUIRE(run.ok());
      errors.push_back((run.w - exact.w).norm());
    }
    // First order: halving the step halves the error, to the band in which order tests of this project lie.
    for (std::size_t i = 1; i < errors.size(); ++i) CHECK(std::abs(std::log2(errors[i - 1] / errors[i]) - 1.0) < 0.2);
  };
  check_order(Descent{}, 0.0);
  check_order(HeavyBall{.momentum = 0.5}, 0.5);
  check_order(HeavyBall{.momentum = 0.9}, 0.9);
  check_order(Nesterov{.momentum = 0.5}, 0.5);
}

TEST_CASE("schedules of steps") {
  const RuleProblem p(906);
  const GradientFlow flow(p.net, p.data);
  const auto length = [](Index k) { return 1e-3 / std::sqrt(static_cast<double>(k) + 1.0); };
  Vector<double> w = p.w0;
  double t = 0.0;
  std::vector<double> list;
  for (Index k = 0; k < 50; ++k) {
    w -= length(k) * p.gradient(w);
    t += length(k);
    list.push_back(length(k));
  }
  const auto run = integrate(flow, p.w0, Steps{50}, Descent{}, StepSchedule<>(length));
  CHECK((run.w - w).norm() <= 1e-13 * w.norm());
  CHECK(run.t == t);
  CHECK(same_bits(integrate(flow, p.w0, Steps{50}, Descent{}, StepSchedule<>(list)).w, run.w));
  // It also serves a stepper, and the end of a span cuts the last step.
  const auto span = integrate(flow, p.w0, TimeSpan{0.0, 0.5 * t}, Euler{}, StepSchedule<>(list));
  CHECK(span.status == Status::reached_end);
  CHECK(span.t == 0.5 * t);

  SECTION("a list that fills the span up to rounding reaches its end") {
    const auto filled =
        integrate(flow, p.w0, TimeSpan{0.0, 1e-2}, Euler{}, StepSchedule<>(std::vector<double>(10, 1e-3)));
    CHECK(filled.status == Status::reached_end);
    CHECK(filled.t == 1e-2);
    CHECK(filled.step == 10);
    const auto endless =
        integrate(flow, p.w0, TimeSpan{0.0, 1e-2}, Euler{}, StepSchedule<>([](Index) { return 1e-3; }));
    CHECK(endless.step == 10);
  }
  SECTION("it resumes by the number of the step after an event within one") {
    IntegrateOptions<double> until;
    until.events = {zero_crossing("time", [&](double time, const Vector<double>&) { return time - 2.5e-3; })};
    const auto cut = integrate(flow, p.w0, Steps{50}, Euler{}, StepSchedule<>(length), until);
    REQUIRE(cut.status == Status::event);
    const auto rest = resume(flow, cut.state, Steps{cut.step + 1}, Euler{}, StepSchedule<>(length));
    CHECK(std::abs(rest.t - cut.t - length(cut.step)) <= 4 * eps * rest.t);
  }
  SECTION("one that ends early says so, with the last state") {
    list.resize(20);
    const auto early = integrate(flow, p.w0, Steps{50}, Descent{}, StepSchedule<>(list));
    CHECK(early.status == Status::max_steps);
    CHECK(early.step == 20);
    CHECK_THAT(early.message, text_contains("schedule"));
    const auto stopped =
        integrate(flow, p.w0, Steps{50}, Descent{}, StepSchedule<>([&](Index k) { return k < 20 ? length(k) : -1.0; }));
    CHECK(stopped.status == Status::max_steps);
    CHECK(same_bits(early.w, stopped.w));
  }
  CHECK_THROWS_AS(StepSchedule<>(std::vector<double>{}), ArgumentError);
  CHECK_THROWS_MATCHES(StepSchedule<>(std::vector<double>{0.1, 0.0}), ArgumentError, message_contains("steps[1]"));
}

TEST_CASE("a rule resumes from a state to the bit, with its memory") {
  const RuleProblem p(907);
  const GradientFlow flow(p.net, p.data);
  const auto check_resumed = [&](const auto& rule) {
    const auto whole = integrate(flow, p.w0, Steps{100}, rule, ConstantStep{1e-3});
    const auto part = integrate(flow, p.w0, Steps{37}, rule, ConstantStep{1e-3});
    const auto rest = resume(flow, part.state, Steps{100}, rule, ConstantStep{1e-3});
    CHECK(same_bits(rest.w, whole.w));
    CHECK(rest.t == whole.t);
    CHECK(rest.stats == whole.stats);
  };
  check_resumed(Descent{});
  check_resumed(HeavyBall{});
  check_resumed(Nesterov{});
  check_resumed(SignDescent{});
  const auto part = integrate(flow, p.w0, Steps{37}, Descent{}, ConstantStep{1e-3});
  CHECK_THROWS_MATCHES(resume(flow, part.state, Steps{100}, HeavyBall{}, ConstantStep{1e-3}), ArgumentError,
                       message_contains("another rule"));
  CHECK_THROWS_AS(resume(flow, part.state, Steps{10}, Descent{}, ConstantStep{1e-3}), ArgumentError);
}

TEST_CASE("several quantities of one run, at steps and at times") {
  const RuleProblem p(908);
  const GradientFlow flow(p.net, p.data);
  const auto loss = [&](const Vector<double>& w) { return flow.loss(w); };
  const auto beta = [&](double, const Vector<double>& w) {
    Vector<double> out(10);
    p.net.beta(w, out);
    return out;
  };
  IntegrateOptions<double> options;
  options.save_at = {.steps = {0, 1, 10, 100}, .quantities = {{"loss", loss}, {"beta", beta}}};
  const auto run = integrate(flow, p.w0, Steps{100}, HeavyBall{}, ConstantStep{1e-4}, options);
  CHECK(run.steps == std::vector<Index>{0, 1, 10, 100});
  CHECK(run.values.empty());
  REQUIRE(run.table.num_rows() == 4);
  CHECK(run.table["loss"][0] == flow.loss(p.w0));
  CHECK(run.table["loss"][3] == flow.loss(run.w));
  CHECK(run.table.columns("beta").row(3).transpose() == beta(0.0, run.w));
  CHECK(run.table.first()[3] == run.t);

  // Between two steps of a rule the weights are on the line between them.
  options.save_at = {.times = {0.25e-4, 1e-4}, .start = true};
  const auto line = integrate(flow, p.w0, Steps{1}, Descent{}, ConstantStep{1e-4}, options);
  REQUIRE(line.values.size() == 3);
  CHECK((line.values[1] - (0.75 * line.values[0] + 0.25 * line.values[2])).norm() <= 4 * eps * p.w0.norm());

  options.save_at = {.quantities = {{"loss", loss}}};
  CHECK_THROWS_MATCHES(integrate(flow, p.w0, Steps{1}, Descent{}, ConstantStep{1e-4}, options), ArgumentError,
                       message_contains("nothing says when"));
  options.save_at = {.steps = {3, 3}};
  CHECK_THROWS_AS(integrate(flow, p.w0, Steps{1}, Descent{}, ConstantStep{1e-4}, options), ArgumentError);
}

TEST_CASE("an event of a rule is met at the end of a step") {
  const RuleProblem p(909);
  const GradientFlow flow(p.net, p.data);
  IntegrateOptions<double> options;
  options.events = {loss_below(1e-6)};
  CHECK_THROWS_MATCHES(integrate(flow, p.w0, Steps{100000}, Descent{}, ConstantStep{1e-3}, options), ArgumentError,
                       message_contains("at_step_end"));
  options.events = {loss_below(1e-6).at_step_end(64)};
  const auto run = integrate(flow, p.w0, Steps{100000}, Descent{}, ConstantStep{1e-3}, options);
  REQUIRE(run.status == Status::event);
  CHECK(run.step % 64 == 0);
  CHECK(flow.loss(run.w) <= 1e-6);
  // One at the start, and one for each 64 steps.
  CHECK(run.stats.loss_evaluations == 1 + run.step / 64);
  CHECK_THROWS_AS(loss_below(1e-6).at_step_end(0), ArgumentError);
}

TEST_CASE("every way of descending fails with the same status and keeps the last good state") {
  const RuleProblem p(910);
  const GradientFlow flow(p.net, p.data);
  const double huge = 10.0;
  const auto descent = integrate(flow, p.w0, Steps{1000}, Descent{}, ConstantStep{huge});
  CHECK(descent.status == Status::non_finite);
  CHECK(descent.w.allFinite());
  // The steps made, and the one that failed: not what the message took.
  CHECK(descent.stats.evaluations == descent.step + 1);
  // And says which steps would do.
  const std::size_t at = descent.message.find("below about ");
  REQUIRE(at != std::string::npos);
  const double bound = std::stod(descent.message.substr(at + 12));
  const auto shorter = integrate(flow, p.w0, Steps{4000}, Descent{}, ConstantStep{0.9 * bound});
  REQUIRE(shorter.step == 4000);
  CHECK(flow.loss(shorter.w) < 1e-6 * flow.loss(p.w0));
  CHECK(integrate(flow, p.w0, TimeSpan{0.0, 1e4}, Euler{}, ConstantStep{huge}).status == Status::non_finite);
  CHECK(gradient_descent(p.net, p.data, p.w0, {.step = huge, .iterations = 1000}).status == Status::non_finite);
  for (const auto& run : {integrate(flow, p.w0, Steps{1000}, HeavyBall{}, ConstantStep{huge}),
                          integrate(flow, p.w0, Steps{1000}, Nesterov{}, ConstantStep{huge})}) {
    CHECK(run.status == Status::non_finite);
    CHECK(run.w.allFinite());
    CHECK(run.state.memory.allFinite());
  }
  CHECK_THROWS_MATCHES(integrate(flow, p.w0, Steps{1}, HeavyBall{.momentum = 1.0}, ConstantStep{1e-3}), ArgumentError,
                       message_contains("momentum"));
  CHECK_THROWS_AS(integrate(flow, p.w0, Steps{1}, Nesterov{.momentum = -0.1}, ConstantStep{1e-3}), ArgumentError);
  CHECK_THROWS_AS(integrate(flow, p.w0, Steps{0}, Descent{}, ConstantStep{1e-3}), ArgumentError);
}

namespace {

/// A loss, and how often it and its gradient are called.
struct CountedFlow {
  using Scalar = double;
  GradientFlow<RuleNet> flow;
  std::shared_ptr<Index> calls = std::make_shared<Index>(0);
  [[nodiscard]] Index dimension() const { return flow.dimension(); }
  void operator()(double t, ConstVectorRef<double> w, VectorRef<double> dw) const {
    ++*calls;
    flow(t, w, dw);
  }
  [[nodiscard]] double loss(ConstVectorRef<double> w) const {
    ++*calls;
    return flow.loss(w);
  }
};

}  // namespace

TEST_CASE("advice on steps that diverge costs no more than a few of them, and is given only where it is true") {
  const RuleProblem p(912);
  const CountedFlow counted{GradientFlow(p.net, p.data)};
  const auto run = integrate(counted, p.w0, Steps{1000}, Descent{}, ConstantStep{10.0});
  REQUIRE(run.status == Status::non_finite);
  CHECK(*counted.calls <= run.step + 1 + std::max<Index>(20, run.step));
  const auto advises = [&](const auto& solution) {
    REQUIRE(solution.status == Status::non_finite);
    return solution.message.find("below about") != std::string::npos;
  };
  CHECK(advises(run));
  const GradientFlow flow(p.net, p.data);
  const ConstantStep huge{10.0};
  const Steps many{1000};
  CHECK_FALSE(advises(integrate(flow, p.w0, many, HeavyBall{}, huge)));
  CHECK_FALSE(advises(integrate(flow, p.w0, TimeSpan{0.0, 1e4}, Euler{}, huge)));
  CHECK_FALSE(advises(integrate(WithWeightDecay(flow, 0.1), p.w0, many, Descent{}, huge)));
  CHECK_FALSE(advises(
      integrate(StochasticGradient(p.net, p.data, {.batch_size = 1, .mean = true}), p.w0, many, Descent{}, huge)));
  // Nor where the run began elsewhere.
  const auto part = integrate(flow, p.w0, Steps{1}, Descent{}, ConstantStep{1e-3});
  CHECK_FALSE(advises(resume(flow, part.state, many, Descent{}, huge)));
}

TEST_CASE("a run has the decay of a piece for as many steps as it lasts") {
  const RuleProblem p(913);
  const GradientFlow flow(p.net, p.data);
  const ConstantStep step{0.00052};
  // 6 steps, and 6 * 0.00052 < 0.00312 in double.
  const auto of_pieces =
      integrate(WithWeightDecay(flow, DecaySchedule<>({{20.0, 0.00312}})), p.w0, Steps{9}, Descent{}, step);
  const auto decayed = integrate(WithWeightDecay(flow, 20.0), p.w0, Steps{6}, Descent{}, step);
  CHECK(same_bits(of_pieces.w, integrate(flow, decayed.w, Steps{3}, Descent{}, step).w));
  CHECK_THROWS_MATCHES(WithWeightDecay(flow, std::function<double(double)>{}), ArgumentError,
                       message_contains("lambda is an empty function"));
}

TEST_CASE("weight decay on a flow and on descent") {
  const RuleProblem p(911);
  const GradientFlow flow(p.net, p.data);
  const double lambda = 0.05;

  SECTION("of the flow: the effective scale is alpha exp(-2 Lambda)") {
    const auto rate = [](double t) { return 0.1 + 0.05 * std::sin(t); };
    const WithWeightDecay decayed(flow, rate);
    const double end = 3.0;
    const auto run =
        integrate(decayed, p.w0, TimeSpan{0.0, end}, DormandPrince{}, PiController<>{.tolerance = {1e-11, 1e-13}});
    REQUIRE(run.ok());
    const double integral = 0.1 * end + 0.05 * (1 - std::cos(end));
    const Vector<double> k = run.w.head(10).cwiseProduct(run.w.tail(10));
    // w_+ w_- decays at the rate 4 lambda; the tolerance of the run, over some hundred steps.
    CHECK((k.array() / (0.16 * std::exp(-4 * integral)) - 1.0).abs().maxCoeff() <= 1e-8);
    CHECK(decayed.lambda(0.0) == 0.1);
  }
  SECTION("of descent and heavy ball: gradients of L + lambda |w|^2") {
    const WithWeightDecay decayed(flow, lambda);
    const double h = 1e-3;
    Vector<double> w = p.w0;
    for (Index k = 0; k < 100; ++k) w = (1 - 2 * h * lambda) * w - h * p.gradient(w);
    const auto descent = integrate(decayed, p.w0, Steps{100}, Descent{}, ConstantStep{h});
    CHECK((descent.w - w).norm() <= 1e-13 * w.norm());
    Vector<double> ball = p.w0;
    Vector<double> v = Vector<double>::Zero(ball.size());
    for (Index k = 0; k < 100; ++k) {
      v = 0.5 * v - h * (p.gradient(ball) + 2 * lambda * ball);
      ball += v;
    }
    const auto heavy = integrate(decayed, p.w0, Steps{100}, HeavyBall{.momentum = 0.5}, ConstantStep{h});
    CHECK((heavy.w - ball).norm() <= 1e-13 * ball.norm());
  }
  SECTION("it has a limit: the lasso") {
    // min |X beta - y|^2 + lambda |beta|_1: where beta_i is not zero, 2 X_i^T r = -lambda sign(beta_i).
    const double strong = 0.5;
    const WithWeightDecay decayed(flow, strong);
    const auto run = integrate(decayed, p.w0, TimeSpan{0.0, 20000.0}, DormandPrince{},
                               PiController<>{.tolerance = {1e-9, 1e-13}}, {.events = {stationary(1e-6)}});
    REQUIRE(run.status == Status::event);
    Vector<double> beta(10);
    p.net.beta(run.w, beta);
    const Vector<double> slope = 2 * p.data.X().transpose() * (p.data.X() * beta - p.data.y());
    // F_i = -2 w_i (slope_i +- lambda), w_i about the root of |beta_i|.
    for (Index i = 0; i < 10; ++i) {
      const double size = std::sqrt(std::abs(beta[i]));
      if (size > 1e-3) CHECK(std::abs(slope[i] + std::copysign(strong, beta[i])) <= 1e-6 / size);
      CHECK(std::abs(slope[i]) <= strong * (1 + 1e-3));
    }
    CHECK((beta.array().abs() > 1e-3).count() <= 4);  // at most N
  }
  const auto negative = integrate(WithWeightDecay(flow, [](double t) { return t < 0.01 ? 0.1 : -0.1; }), p.w0,
                                  Steps{100}, Descent{}, ConstantStep{1e-3});
  CHECK(negative.status == Status::non_finite);
  CHECK(negative.w.allFinite());
  CHECK(negative.t <= 0.011);
  CHECK_THROWS_MATCHES(WithWeightDecay(flow, -1.0), ArgumentError, message_contains("lambda"));
  CHECK_THROWS_AS(WithWeightDecay(flow, infinity), ArgumentError);
}
