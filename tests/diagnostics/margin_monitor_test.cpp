#include "richflow/diagnostics/margin_monitor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/bias/simulate.hpp"
#include "richflow/bias/simulate_classification.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The weights of the squared net at the dual variables of its flow.
Vector<double> weights_at(const ClassificationRecord<>& record, const Dataset<>& data, double alpha) {
  const Vector<double> z = signed_rows(data).transpose() * record.nu;
  Vector<double> w(2 * z.size());
  w << alpha * (z / 2).array().exp().matrix(), alpha * (-z / 2).array().exp().matrix();
  return w;
}

}  // namespace

TEST_CASE("the squared net's flow approaches a stationary point of its margin problem, far beyond any number's loss") {
  const Dataset<> data = margin_data("all_support");
  const DiagonalNet<double> net(2, data.num_inputs());
  const double alpha = 0.3;
  const Classification<> run = simulate_classification(net, data, Start<>::uniform(Scale<>::from_value(alpha)),
                                                       {.log_accuracies = {-10, -100, -1e3, -1e4}})
                                   .require_ok();
  double previous = 2;
  for (const ClassificationRecord<>& record : run.records) {
    const Vector<double> w = weights_at(record, data, alpha);
    const MarginState<> state = margin_state(net, data, w);
    CAPTURE(record.log_loss, state.stationarity, state.slackness);
    // The two see the same net: rounding of exponentials of z.
    CHECK(state.log_loss == Approx(record.log_loss).epsilon(1e-10));
    CHECK(state.margin == Approx(record.margin).epsilon(1e-10));
    CHECK((state.weights - record.weights).norm() <= 1e-6);
    // -grad L = 2 (w_+ f, -w_- f) up to a factor, f = Z^T p.
    const Vector<double> f = signed_rows(data).transpose() * record.weights;
    Vector<double> slope(14);
    slope << w.head(7).cwiseProduct(f), -w.tail(7).cwiseProduct(f);
    CHECK(state.stationarity == Approx((w.normalized() - slope.normalized()).norm()).epsilon(1e-6));
    CHECK(state.stationarity < previous);
    previous = state.stationarity;
    CHECK(state.smoothed_margin <= state.normalized_margin);
    CHECK(state.slackness >= 0);
    CHECK(state.slackness <= 3 / -record.log_loss);
  }
}

TEST_CASE("along the flow of a ReLU net the smoothed margin never falls, and Euler's theorem holds") {
  RandomStream random(71);
  const Index N = 6;
  Matrix<double> X(N, 2);
  Vector<double> y(N);
  for (Index n = 0; n < N; ++n) {
    X.row(n) << std::cos(1.0 * static_cast<double>(n)), std::sin(1.0 * static_cast<double>(n));
    y[n] = n < 2 || n == 4 ? 1 : -1;
  }
  const Dataset data(X, y);
  for (const Index depth : {2, 3}) {
    const auto net = ReluNetwork<double>::uniform_width(2, depth, 20);
    const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
    MarginMonitor monitor(net, data);
    const auto solution =
        simulate(net, data, w0, {.loss = 1e-4, .tolerance = 1e-4, .observers = {monitor}}, ExponentialLoss<double>{})
            .require_ok();
    REQUIRE(monitor.states().size() == static_cast<std::size_t>(solution.steps));
    CHECK(monitor.times().back() == solution.t);
    double smoothed = 0;
    bool has_begun = false;
    for (const MarginState<>& state : monitor.states()) {
      if (!(state.log_loss < 0)) continue;
      // Errors of a step, of 1e-4 in each unit, which margins multiply by the depth.
      if (has_begun) CHECK(state.smoothed_margin >= smoothed - 1e-3 * std::abs(state.normalized_margin));
      smoothed = state.smoothed_margin;
      has_begun = true;
    }
    CHECK(has_begun);
    // <w, grad f> = D f for each sample, hence the angle between w and g from margins alone.
    const MarginState<>& last = monitor.states().back();
    Vector<double> f(N), g(w0.size());
    net.predict(solution.w, data.X(), f);
    net.vjp(solution.w, data.X(), Vector<double>(y.cwiseProduct(last.weights)), g);
    const double cosine =
        static_cast<double>(depth) * last.weights.dot(y.cwiseProduct(f)) / (solution.w.norm() * g.norm());
    CHECK(last.stationarity == Approx(std::sqrt(2 - 2 * cosine)).epsilon(1e-6));
    CHECK(last.stationarity < monitor.states().front().stationarity);
    CHECK(last.log_loss == Approx(std::log(1e-4)).epsilon(1e-6));
    CHECK(monitor.turns().back() < 0.1);
  }
}

TEST_CASE("ReLU nets of two and three layers, far beyond any number's loss") {
  Matrix<double> X(6, 2);
  for (Index n = 0; n < 6; ++n)
    X.row(n) << std::cos(1.0 * static_cast<double>(n)), std::sin(1.0 * static_cast<double>(n));
  const Dataset data(X, Vector<double>{{1, 1, -1, -1, 1, -1}});
  for (const Index depth : {2, 3}) {
    RandomStream random(71);
    const auto net = ReluNetwork<double>::uniform_width(2, depth, 20);
    const GradientFlow flow(net, data, LogMarginLoss<double>{MarginLoss::logistic});
    MarginMonitor monitor(net, data, MarginLoss::logistic, 20);
    IntegrateOptions<double> run;
    run.observers = {monitor};
    run.events = {condition<double>("accuracy", [&](double, const Vector<double>& w) { return flow.loss(w) < -1000; })};
    const PiController<> control{.tolerance = {.relative = 1e-3, .absolute = 0}};
    const auto solution = integrate(flow, net.initial_parameters(random, Scale<>::from_value(1.0)),
                                    TimeSpan<>{0, std::numeric_limits<double>::infinity()}, Ros2{}, control, run);
    CAPTURE(depth, solution.message, solution.step);
    REQUIRE(solution.status == Status::event);
    const MarginState<> last = margin_state(net, data, solution.w, MarginLoss::logistic);
    CHECK(last.log_loss < -1000);
    CHECK(last.log_loss > -1500);
    CHECK(LogisticLoss<double>{}.value(Vector<double>(data.y() * last.margin), data.y()) == 0.0);
    // -log L is below the least margin by log N at most.
    CHECK(last.smoothed_margin <= last.normalized_margin);
    CHECK(last.smoothed_margin >= last.normalized_margin * (1 - std::log(6.0) / 1000));
    // sum p (m - margin) <= log N where p is the softmax of -m.
    CHECK(last.slackness * last.margin <= std::log(6.0));
    CHECK(last.weights.sum() == Approx(1).epsilon(1e-12));
    double smoothed = -1;
    for (const MarginState<>& state : monitor.states()) {
      if (!(state.log_loss < -1)) continue;
      // Along the flow it never falls; 20 steps with errors of 1e-3 in each unit.
      CHECK(state.smoothed_margin >= smoothed * (1 - 2e-2));
      smoothed = state.smoothed_margin;
    }
    CHECK(smoothed > 0);
    // The direction settles, and no more than the last is kept.
    CHECK(monitor.turns().back() < 0.1 * *std::max_element(monitor.turns().begin(), monitor.turns().end()));
    REQUIRE(monitor.states().size() > 10);
    CHECK(monitor.states().front().direction.size() == 0);
    CHECK(monitor.states().back().direction.size() == net.num_parameters());
  }
}

TEST_CASE("the logarithm of a loss has the flow of the loss in another time, and its own curvature") {
  const Dataset<> data = margin_data("one_free");
  const DiagonalNet<double> net(2, 8);
  RandomStream random(72);
  const Vector<double> w = random_vector(random, 16), f = data.X() * random_vector(random, 8);
  Vector<double> whole(16), logarithm(16), root(5), slope(5), moved(5);
  const auto check = [&](const auto& loss, MarginLoss kind) {
    const LogMarginLoss<double> log_loss{kind};
    CHECK(log_loss.value(f, data.y()) == Approx(std::log(loss.value(f, data.y()))).epsilon(1e-13));
    GradientFlow(net, data, loss)(0.0, w, whole);
    const GradientFlow flow(net, data, log_loss);
    flow(0.0, w, logarithm);
    CHECK((whole - std::exp(flow.loss(w)) * logarithm).norm() <= 1e-13 * whole.norm());
  };
  check(ExponentialLoss<double>{}, MarginLoss::exponential);
  check(LogisticLoss<double>{}, MarginLoss::logistic);
  // Its curvature, as the steppers multiply with it, by differences of the slope, of error h^2.
  const LogMarginLoss<double> log_loss{MarginLoss::exponential};
  const GradientFlow flow(net, data, log_loss);
  auto tangent = flow.make_tangent();
  tangent.linearize(w, slope, whole);
  Vector<double> outputs(5), unit(5), column(5);
  net.predict(w, data.X(), outputs);
  const double h = 1e-4;
  for (Index n = 0; n < 5; ++n) {
    Vector<double> there = outputs;
    there[n] += h;
    log_loss.gradient(there, data.y(), moved);
    there[n] -= 2 * h;
    log_loss.gradient(there, data.y(), slope);
    unit = Vector<double>::Unit(5, n);
    tangent.multiply_root_transposed(unit, root);
    tangent.multiply_root(root, column);
    CHECK(((moved - slope) / (2 * h) - column).norm() <= 1e-7);
  }
  const Dataset<> regression(data.X(), Vector<double>::Constant(5, 2));
  REQUIRE_THROWS_AS(GradientFlow(net, regression, log_loss), ArgumentError);
}

TEST_CASE("margin states of what has none are refused") {
  const Dataset<> data = margin_data("all_support");
  const DiagonalNet<double> net(2, 7);
  REQUIRE_THROWS_AS(margin_state(net, data, Vector<double>(Vector<double>::Zero(14))), ArgumentError);
  REQUIRE_THROWS_AS(margin_state(net, data, Vector<double>(Vector<double>::Ones(13))), DimensionError);
  const Dataset regression(data.X(), Vector<double>::Constant(4, 0.5));
  REQUIRE_THROWS_AS(margin_state(net, regression, Vector<double>(Vector<double>::Ones(14))), ArgumentError);
  REQUIRE_THROWS_AS(MarginMonitor(net, data, MarginLoss::logistic, 0), ArgumentError);
  const auto biased = ReluNetwork<double>::uniform_width(7, 2, 3, true);
  REQUIRE_THROWS_AS(margin_state(biased, data, Vector<double>(Vector<double>::Ones(biased.num_parameters()))),
                    ArgumentError);
}

TEST_CASE("the flow of the logarithm of a loss runs as its documentation says") {
  const Dataset<> data(Matrix<double>::Identity(2, 2), Vector<double>::Ones(2));
  const DiagonalNet<double> net(2, 2);
  const Vector<double> w0 = Vector<double>{{0.2, 0.2, 0.1, 0.1}};
  const PiController<> controller{.tolerance = {.relative = 1e-3, .absolute = 0}};
  const GradientFlow flow(net, data, LogMarginLoss<>{MarginLoss::logistic});
  const auto is_accurate = [&](double, const Vector<double>& w) { return flow.loss(w) <= -2303; };
  const TimeSpan<> forever{0, std::numeric_limits<double>::infinity()};
  const auto end = integrate(flow, w0, forever, Ros2{}, controller, {.events = {condition("L", is_accurate)}});
  CAPTURE(end.message);
  REQUIRE(end.ok());
  // The event is found to rounding in time, in which the logarithm falls like its own square.
  CHECK_THAT(flow.loss(end.w), near(-2303, 1e-9, 0));
}
