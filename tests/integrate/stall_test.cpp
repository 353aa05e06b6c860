#include "richflow/integrate/stall.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "richflow/core/random.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Gradient flow of |A y - b|^2.
struct LeastSquares {
  using Scalar = double;
  Matrix<double> A;
  Vector<double> b;
  [[nodiscard]] Index dimension() const { return A.cols(); }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const {
    dy = -2.0 * (A.transpose() * (A * y - b));
  }
  [[nodiscard]] double loss(ConstVectorRef<double> y) const { return (A * y - b).squaredNorm(); }
  [[nodiscard]] static const char* advice() { return "solve the normal equations"; }
};

/// L = (1 - u v)^2 + stiffness s^2: from tiny u and v the flow rests at L = 1 for a time log(1/u) / 2, in
/// which an explicit method, bound by the stiff direction, takes thousands of steps.
struct Saddle {
  using Scalar = double;
  double stiffness = 1000;
  [[nodiscard]] static Index dimension() { return 3; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const {
    const double r = 1 - y(0) * y(1);
    dy << 2 * r * y(1), 2 * r * y(0), -2 * stiffness * y(2);
  }
  [[nodiscard]] double loss(ConstVectorRef<double> y) const {
    const double r = 1 - y(0) * y(1);
    return r * r + stiffness * y(2) * y(2);
  }
};

PiController<> loose(double relative) { return {.tolerance = {.relative = relative, .absolute = relative / 100}}; }

}  // namespace

TEST_CASE("a threshold below the noise floor of the tolerance ends as stalled, with advice") {
  RandomStream random(5, 0);
  for (int trial = 0; trial < 10; ++trial) {
    const LeastSquares problem{random_matrix(random, 8, 20), random_vector(random, 8)};
    const Vector<double> y0 = random_vector(random, 20);
    for (const double relative : {1e-4, 1e-6}) {
      const auto solution = integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(relative),
                                      {.events = {loss_below(1e-28)}});
      CAPTURE(trial, relative, solution.message, solution.stats.accepted);
      REQUIRE(solution.status == Status::stalled);
      CHECK_FALSE(solution.ok());
      CHECK(solution.stats.accepted < 5000);
      CHECK(problem.loss(solution.w) < 1e-4);
      CHECK_THAT(solution.message, text_contains("the loss is "));
      CHECK_THAT(solution.message, text_contains("the threshold 1e-28"));
      CHECK_THAT(solution.message, text_contains("tolerance"));
      CHECK_THAT(solution.message, text_contains("a stepper for stiff problems"));
      // What is only true of some problems, the problem says.
      CHECK_THAT(solution.message, text_contains("; solve the normal equations"));
      CHECK_THAT(solution.message, !text_contains("minimize_hypentropy"));
    }
    // Above the floor the same run reaches its threshold.
    const auto reached =
        integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(1e-9), {.events = {loss_below(1e-9)}});
    CHECK(reached.status == Status::event);
  }
}

TEST_CASE("a stationarity below the noise floor stalls as well") {
  const Decay problem = decay({1.0, 100.0});
  const auto solution = integrate(problem, Vector<double>::Ones(2), TimeSpan{0, 1e9}, DormandPrince{}, loose(1e-5),
                                  {.events = {stationary(1e-200)}});
  CHECK(solution.status == Status::stalled);
  CHECK_THAT(solution.message, text_contains("|F| is "));
}

TEST_CASE("a plateau is not a stall") {
  const Saddle problem;
  Vector<double> y0(3);
  y0 << 1e-20, 1e-20, 1;
  for (const double relative : {1e-4, 1e-7}) {
    const auto solution =
        integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(relative), {.events = {loss_below(1e-3)}});
    CAPTURE(solution.message);
    CHECK(solution.status == Status::event);
    CHECK(solution.stats.accepted > 5000);
    // u = v grow like exp(2 t): from 1e-20 to 1 in log(1e20) / 2 = 23.
    CHECK_THAT(solution.t, near(23, 0.1, 0));
  }
}

TEST_CASE("a slow decrease is not a stall") {
  // L ~ t^-2 along y' = -y^3 / 2 while a stiff direction holds the steps short.
  struct Slow {
    using Scalar = double;
    [[nodiscard]] static Index dimension() { return 2; }
    void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const {
      dy << -y(0) * y(0) * y(0) / 2, -1000 * y(1);
    }
    [[nodiscard]] double loss(ConstVectorRef<double> y) const { return std::pow(y(0), 4) / 8 + 500 * y(1) * y(1); }
  };
  const Slow problem;
  const auto solution = integrate(problem, Vector<double>::Ones(2), TimeSpan{0, infinity}, DormandPrince{}, loose(1e-8),
                                  {.events = {loss_below(1e-5)}});
  CHECK(solution.status == Status::event);
  // y^-2 = 1 + t, L = y^4 / 8 = 1e-5.
  CHECK_THAT(solution.t, near(std::sqrt(1 / 8e-5) - 1, 1e-3, 0));
  CHECK(solution.stats.accepted > 10000);
}

TEST_CASE("noise in a fast direction that is a small part of a falling loss is not a stall") {
  // Rates 1 and 500: the steps are as long as the fast direction allows, whose noise settles near 1e-3 of the
  // tolerance squared, far below a threshold that the slow one passes at t = log(1e8) / 2.
  const Decay problem = decay({1.0, 500.0});
  const auto run = [&](double threshold) {
    return integrate(problem, Vector<double>::Ones(2), TimeSpan{0, infinity}, DormandPrince{}, loose(1e-4),
                     {.events = {loss_below(threshold)}});
  };
  const auto floor = run(1e-30);
  REQUIRE(floor.status == Status::stalled);
  const double lowest = problem.loss(floor.w);
  for (const double above : {1.05, 1.5, 4.0, 100.0}) {
    const auto solution = run(above * lowest);
    CAPTURE(above, lowest, solution.message);
    CHECK(solution.status == Status::event);
  }
}

TEST_CASE("gradient descent stalls when its steps are below rounding") {
  RandomStream random(6, 0);
  const LeastSquares problem{random_matrix(random, 3, 6), random_vector(random, 3)};
  const auto solution = integrate(problem, Vector<double>::Zero(6), TimeSpan{0, infinity}, Euler{},
                                  ConstantStep<>{.step = 0.01}, {.events = {loss_below(1e-60)}});
  CAPTURE(solution.message);
  CHECK(solution.status == Status::stalled);
  CHECK(problem.loss(solution.w) < 1e-25);
  CHECK_THAT(solution.message, text_contains("no longer changes"));
}

TEST_CASE("a run that waits at a stationary point stalls instead of running out of time") {
  const Saddle problem;
  const auto solution = integrate(problem, Vector<double>::Zero(3), TimeSpan{0, infinity}, DormandPrince{}, loose(1e-6),
                                  {.events = {loss_below(1e-3)}});
  CHECK(solution.status == Status::stalled);
  CHECK(solution.stats.accepted <= 400);
  CHECK(solution.t < infinity);
}

TEST_CASE("stall detection can be switched off, and a stalled run continues with a finer tolerance") {
  RandomStream random(8, 0);
  const LeastSquares problem{random_matrix(random, 8, 20), random_vector(random, 8)};
  const Vector<double> y0 = random_vector(random, 20);
  IntegrateOptions<double> options{.events = {loss_below(1e-12)}, .max_steps = 20000};
  const auto stalled = integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(1e-4), options);
  REQUIRE(stalled.status == Status::stalled);
  const auto finer = resume(problem, stalled.state, infinity, DormandPrince{}, loose(1e-9), options);
  CHECK(finer.status == Status::event);
  options.detect_stall = false;
  const auto burnt = integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(1e-4), options);
  CHECK(burnt.status == Status::max_steps);
  CHECK_THAT(burnt.message, text_contains("the loss is "));
}

TEST_CASE("a stall is the same whichever way it is run") {
  RandomStream random(9, 0);
  const LeastSquares problem{random_matrix(random, 8, 20), random_vector(random, 8)};
  const Vector<double> y0 = random_vector(random, 20);
  IntegrateOptions<double> options{.events = {loss_below(1e-28)}};
  const auto whole = integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(1e-5), options);
  REQUIRE(whole.status == Status::stalled);
  options.max_steps = 1;
  auto step = integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, loose(1e-5), options);
  for (int k = 0; k < 5000 && step.status == Status::max_steps; ++k)
    step = resume(problem, step.state, infinity, DormandPrince{}, loose(1e-5), options);
  CHECK(step.status == Status::stalled);
  CHECK(step.step == whole.step);
  CHECK(same_bits(step.w, whole.w));
  CHECK(step.message == whole.message);
}
