#include <cmath>
#include <limits>

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
  Dataset data;
  Net net;
  Vector<double> w0;
};

Problem make_problem(std::uint64_t seed) {
  RandomStream random(seed);
  Dataset data(random_matrix(random, 4, 10), random_vector(random, 4));
  return {std::move(data), Net(10), Net(10).initial_parameters(Scale::from_value(0.4))};
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
  CHECK((solution.y - w).norm() <= 1e-14 * w.norm());  // 50 iterations, each a few roundings
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
  CHECK(flow.loss(solution.y) <= 1e-6);
  REQUIRE(solution.values.size() >= 2);
  CHECK(flow.loss(solution.values[solution.values.size() - 2]) > 1e-6);
  CHECK(same_bits(solution.values.back(), solution.y));
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
        .y;
  };
  const GradientFlow<Net> flow(p.net, p.data);
  const auto exact =
      integrate(flow, p.w0, TimeSpan{0.0, t}, DormandPrince{}, PiController{.tolerance = {1e-12, 1e-14}});
  REQUIRE(exact.ok());
  const double coarse = (at(400) - exact.y).norm();
  const double fine = (at(800) - exact.y).norm();
  CHECK_THAT(coarse / fine, near(2.0, 0.05, 0));  // first order, next term of relative size eta / t
}

TEST_CASE("gradient descent that diverges says so and keeps the last good iterate") {
  const Problem p = make_problem(54);
  const auto solution = gradient_descent(p.net, p.data, p.w0, {.step = 1.0, .iterations = 1000});
  CHECK(solution.status == Status::non_finite);
  CHECK(solution.y.allFinite());
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
