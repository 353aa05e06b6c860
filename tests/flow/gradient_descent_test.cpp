#include <cmath>
#include <limits>
#include <string>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/models/diagonal.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Net = SquaredDiagonalNet<double>;

struct Problem {
  Dataset<> data;
  Net net;
  Vector<double> w0;
};

Problem make_problem(std::uint64_t seed) {
  RandomStream random(seed);
  Dataset data(random_matrix(random, 4, 10), random_vector(random, 4));
  return {std::move(data), Net(10), Net(10).initial_parameters(Scale<>::from_value(0.4))};
}

}  // namespace

TEST_CASE("gradient descent is the iteration w - eta grad L") {
  const Problem p = make_problem(51);
  const double eta = 1e-3;
  Vector<double> w = p.w0;
  for (int k = 0; k < 50; ++k) {
    const Vector<double> r = p.data.X() * (w.head(10).cwiseAbs2() - w.tail(10).cwiseAbs2()) - p.data.y();
    const Vector<double> pull = p.data.X().transpose() * r;
    const Vector<double> plus = w.head(10);
    w.head(10) -= eta * 4 * plus.cwiseProduct(pull);
    w.tail(10) += eta * 4 * w.tail(10).cwiseProduct(pull);
  }
  const auto solution = gradient_descent(p.net, p.data, p.w0, {.step = eta, .iterations = 50});
  CHECK(solution.status == Status::reached_end);
  CHECK(solution.step == 50);
  CHECK(solution.t == 50 * eta);
  CHECK((solution.w - w).norm() <= 1e-14 * w.norm());  // 50 iterations, each a few roundings
  CHECK(solution.stats.evaluations == 50);
}

TEST_CASE("gradient descent reports k and t = eta k, and stops at the first iterate below the loss") {
  const Problem p = make_problem(52);
  const double eta = 2e-3;
  GradientDescentOptions<double> options{.step = eta, .iterations = 100000, .loss_below = 1e-6};
  options.save_at.every = 1;
  const auto solution = gradient_descent(p.net, p.data, p.w0, options);
  REQUIRE(solution.status == Status::event);
  const GradientFlow<Net> flow(p.net, p.data);
  CHECK(flow.loss(solution.w) <= 1e-6);
  REQUIRE(solution.values.size() >= 2);
  CHECK(flow.loss(solution.values[solution.values.size() - 2]) > 1e-6);
  CHECK(same_bits(solution.values.back(), solution.w));
  // t_k is a fraction of the span, never a running sum: one rounding.
  for (std::size_t i = 0; i < solution.times.size(); ++i)
    CHECK_THAT(solution.times[i], within_ulp(static_cast<long double>(eta) * solution.steps[i], 2));
}

TEST_CASE("gradient descent tends to the flow like its step") {
  const Problem p = make_problem(53);
  const double t = 0.05;
  const auto at = [&](Index iterations) {
    return gradient_descent(p.net, p.data, p.w0,
                            {.step = t / static_cast<double>(iterations), .iterations = iterations})
        .w;
  };
  const GradientFlow<Net> flow(p.net, p.data);
  const auto exact =
      integrate(flow, p.w0, TimeSpan{0.0, t}, DormandPrince{}, PiController<>{.tolerance = {1e-12, 1e-14}});
  REQUIRE(exact.ok());
  const double coarse = (at(400) - exact.w).norm();
  const double fine = (at(800) - exact.w).norm();
  CHECK_THAT(coarse / fine, near(2.0, 0.05, 0));  // first order, next term of relative size eta / t
}

TEST_CASE("gradient descent that diverges says so and keeps the last good iterate") {
  const Problem p = make_problem(54);
  const auto solution = gradient_descent(p.net, p.data, p.w0, {.step = 1.0, .iterations = 1000});
  CHECK(solution.status == Status::non_finite);
  CHECK(solution.w.allFinite());
  CHECK(solution.step < 1000);
}

TEST_CASE("gradient descent refuses options that were not given or make no sense") {
  const Problem p = make_problem(55);
  CHECK_THROWS_MATCHES(gradient_descent(p.net, p.data, p.w0, {.iterations = 5}), ArgumentError,
                       message_contains("step"));
  CHECK_THROWS_MATCHES(gradient_descent(p.net, p.data, p.w0, {.step = 0.1}), ArgumentError,
                       message_contains("iterations"));
  CHECK_THROWS_AS(gradient_descent(p.net, p.data, p.w0, {.step = -0.1, .iterations = 5}), ArgumentError);
  CHECK_THROWS_AS(
      gradient_descent(p.net, p.data, p.w0, {.step = std::numeric_limits<double>::infinity(), .iterations = 5}),
      ArgumentError);
  CHECK_THROWS_MATCHES(gradient_descent(p.net, p.data, p.w0, {.step = 0.1, .iterations = 5, .loss_below = -1.0}),
                       ArgumentError, message_contains("loss_below"));
}

namespace {

/// f(w) = w^2, y = 1: L = (w^2 - 1)^2 with L'' = 8 at w = 1, so that steps below 1/4 are stable there.
struct SquareNet {
  using Scalar = double;
  [[nodiscard]] static Index num_parameters() { return 1; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const {
    out = w(0) * w(0) * X.col(0);
  }
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out(0) = 2 * w(0) * X.col(0).dot(r);
  }
};

}  // namespace

TEST_CASE("descent that ends in a two-cycle at the edge of stability is stalled and names a stable step") {
  const Dataset data(Matrix<double>::Ones(1, 1), Vector<double>::Ones(1));
  const Vector<double> w0 = Vector<double>::Constant(1, 0.7);
  // Stable below 1/4; above it a two-cycle, above 0.309 one of four.
  for (const double step : {0.26, 0.28, 0.3, 0.315}) {
    CAPTURE(step);
    for (const double loss : {0.0, 1e-12}) {
      const auto solution =
          gradient_descent(SquareNet{}, data, w0, {.step = step, .iterations = 100000, .loss_below = loss});
      INFO(solution.message);
      CHECK(solution.status == Status::stalled);
      CHECK_FALSE(solution.ok());
      CHECK(solution.step < 100000);
      CHECK_THAT(solution.message, text_contains("cycle of " + std::string(step < 0.31 ? "2" : "4")));
      CHECK_THAT(solution.message, text_contains("the steps of " + std::string(step == 0.3 ? "0.3" : "0.")));
      CHECK_THAT(solution.message, text_contains("below about 0.25"));
      // It is a cycle: two steps written out lead back.
      double w = solution.w(0);
      for (int k = 0; k < 4; ++k) w -= step * 4 * w * (w * w - 1);
      CHECK(std::abs(w - solution.w(0)) <= 1e-12);
    }
  }
  // Below the edge, however near, descent converges and is not stopped.
  const auto stable = gradient_descent(SquareNet{}, data, w0, {.step = 0.249, .iterations = 20000});
  CHECK(stable.status == Status::reached_end);
  CHECK(stable.step == 20000);
  CHECK(std::abs(stable.w(0) - 1) <= 1e-12);
  // Who wants the cycle gets it.
  const auto asked = gradient_descent(SquareNet{}, data, w0, {.step = 0.28, .iterations = 5000, .detect_stall = false});
  CHECK(asked.status == Status::reached_end);
  CHECK(asked.step == 5000);
}

TEST_CASE("the stable step of a quadratic loss is named, and a slow oscillation is no cycle") {
  // L = 4 w_0^2 + w_1^2: at the step 2 / 8 the first entry changes its sign for ever, the second decays.
  struct Quadratic {
    using Scalar = double;
    [[nodiscard]] static Index dimension() { return 2; }
    void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy << -8 * y(0), -2 * y(1); }
    [[nodiscard]] double loss(ConstVectorRef<double> y) const { return 4 * y(0) * y(0) + y(1) * y(1); }
  };
  const auto edge = gradient_descent(Quadratic{}, Vector<double>::Ones(2), {.step = 0.25, .iterations = 10000});
  INFO(edge.message);
  CHECK(edge.status == Status::stalled);
  CHECK_THAT(edge.message, text_contains("below about 0.25,"));
  // Just inside it shrinks by 1e-4 in two steps: slow, but no cycle.
  const auto inside =
      gradient_descent(Quadratic{}, Vector<double>::Ones(2), {.step = 0.25 * (1 - 2.5e-5), .iterations = 10000});
  CHECK(inside.status == Status::reached_end);
}
