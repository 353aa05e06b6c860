#include "richflow/integrate/event.hpp"

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

constexpr double pi = std::numbers::pi;
const PiController<> fine{.tolerance = {.relative = 1e-11, .absolute = 1e-13}};

Solution<double> rotate(std::vector<Event<>> events, double start = 0) {
  const Rotation problem;
  Vector<double> y0(2);
  y0 << std::cos(start), std::sin(start);
  return integrate(problem, y0, TimeSpan{start, infinity}, DormandPrince{}, fine, {.events = std::move(events)});
}

double first(double, const Vector<double>& y) { return y(0); }
double second(double, const Vector<double>& y) { return y(1); }

/// y' = 1: the interpolants are exact, so that a root is found to rounding or not at all.
struct Clock {
  using Scalar = double;
  [[nodiscard]] static Index dimension() { return 1; }
  void operator()(double, ConstVectorRef<double>, VectorRef<double> dy) const { dy.setOnes(); }
};

}  // namespace

TEST_CASE("a sign change is located on the interpolant, in every direction asked for") {
  // 1e-9: the tolerance 1e-11 per step times some hundred steps.
  const auto either = rotate({zero_crossing("x", first)});
  CHECK(either.status == Status::event);
  CHECK(either.event == std::size_t{0});
  CHECK(either.event_name == "x");
  CHECK_THAT(either.message, text_contains("the event x fired at t = 1.570796"));
  CHECK_THAT(either.t, near(pi / 2, 0, 1e-9));
  CHECK_THAT(either.w(1), near(1, 0, 1e-9));
  CHECK(std::abs(either.w(0)) < 1e-14);
  CHECK_THAT(rotate({zero_crossing("x", first, Crossing::falling)}).t, near(pi / 2, 0, 1e-9));
  CHECK_THAT(rotate({zero_crossing("x", first, Crossing::rising)}).t, near(3 * pi / 2, 0, 1e-9));
  CHECK_THAT(rotate({zero_crossing("y", second, Crossing::falling)}).t, near(pi, 0, 1e-9));
}

TEST_CASE("a function that starts at zero does not fire by leaving it") {
  CHECK_THAT(rotate({zero_crossing("y", second)}).t, near(pi, 0, 1e-9));
  CHECK_THAT(rotate({zero_crossing("y", second, Crossing::rising)}).t, near(2 * pi, 0, 1e-9));
}

TEST_CASE("roots are found to rounding, wherever they are in the step") {
  const Clock problem;
  RandomStream random(7, 0);
  for (int trial = 0; trial < 200; ++trial) {
    const double root = random.uniform(0.0, 3.0);
    const double power = random.uniform(0.2, 5.0);
    const auto bent = [&](double, const Vector<double>& y) {
      const double distance = y(0) - root;
      return std::copysign(std::pow(std::abs(distance), power), distance);
    };
    const auto from_steps = [&](const auto& stepper) {
      return integrate(problem, Vector<double>::Zero(1), TimeSpan{0, 4}, stepper, ConstantStep<>{.step = 0.5},
                       {.events = {zero_crossing("bent", bent)}});
    };
    // The interpolated y carries a few roundings of numbers up to 4.
    const auto dense = from_steps(DormandPrince{});
    REQUIRE(dense.status == Status::event);
    CHECK_THAT(dense.t, near(root, 0, 8e-15));
    CHECK(bent(dense.t, dense.w) >= 0);
    const auto hermite = from_steps(RungeKutta4{});
    REQUIRE(hermite.status == Status::event);
    CHECK_THAT(hermite.t, near(root, 0, 8e-15));
    CHECK_THAT(from_steps(Midpoint{}).t, near(root, 0, 8e-15));
  }
}

TEST_CASE("the search for a root takes few evaluations and survives values that are not finite") {
  int calls = 0;
  const auto count = [&](auto g) {
    calls = 0;
    return [&calls, g](double x) {
      ++calls;
      return g(x);
    };
  };
  const auto smooth = [](double x) { return std::exp(-3 * x) - 0.5; };
  const double root = detail::locate_sign_change<double>(count(smooth), smooth(0), smooth(1), eps);
  CHECK_THAT(root, near(std::log(2.0) / 3, 0, 4 * eps));
  CHECK(smooth(root) <= 0);
  CHECK(calls <= 15);
  // A jump can only be bisected: 52 bits, and the two ends.
  const auto jump = [](double x) { return x < 0.7 ? 1.0 : -1.0; };
  CHECK_THAT(detail::locate_sign_change<double>(count(jump), 1.0, -1.0, eps), near(0.7, 0, 2 * eps));
  CHECK(calls <= 56);
  const auto infinite = [](double x) { return x < 0.3 ? infinity : -infinity; };
  CHECK_THAT(detail::locate_sign_change<double>(count(infinite), infinity, -infinity, eps), near(0.3, 0, 2 * eps));
  CHECK(calls <= 56);
  const auto flat = [](double x) { return std::pow(0.4 - x, 9); };
  // Underflow to zero within 1e-35 of the root does not matter; the flat part still has a sign.
  CHECK_THAT(detail::locate_sign_change<double>(count(flat), flat(0), flat(1), eps), near(0.4, 0, 4 * eps));
  CHECK(calls <= 110);
}

TEST_CASE("the run ends where the loss is at the threshold, not above it") {
  const Decay problem = decay({0.5, 1.0});
  RandomStream random(11, 0);
  for (int trial = 0; trial < 50; ++trial) {
    const Vector<double> y0 = random_vector(random, 2);
    const double threshold = log_uniform(random, 1e-12, 0.5) * problem.loss(y0);
    const auto solution =
        integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, fine, {.events = {loss_below(threshold)}});
    REQUIRE(solution.status == Status::event);
    CHECK(problem.loss(solution.w) <= threshold);
    CHECK_THAT(problem.loss(problem.exact(solution.t, y0)), near(threshold, 1e-6, 0));  // tolerance over sqrt(loss)
  }
}

TEST_CASE("a run is stationary when its derivative is small") {
  const Decay problem = decay({0.5, 1.0});
  const Vector<double> y0 = Vector<double>::Ones(2);
  for (const bool at_step_end : {false, true}) {
    const Event<> event = at_step_end ? stationary(1e-5).at_step_end() : stationary(1e-5);
    for (const auto& solution :
         {integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, fine, {.events = {event}}),
          integrate(problem, y0, TimeSpan{0, infinity}, RungeKutta4{}, ConstantStep<>{.step = 0.1},
                    {.events = {event}}),
          integrate(problem, y0, TimeSpan{0, infinity}, Midpoint{}, ConstantStep<>{.step = 0.1},
                    {.events = {event}})}) {
      Vector<double> dy(2);
      problem(0.0, solution.w, dy);
      REQUIRE(solution.status == Status::event);
      CHECK(dy.norm() <= 1e-5);
      CHECK(dy.norm() > (at_step_end ? 0.8e-5 : 0.999e-5));
    }
  }
}

TEST_CASE("a condition ends the run where it begins to hold, or at once") {
  const auto late = rotate({condition("late", [](double t, const Vector<double>&) { return t > 2.5; })});
  CHECK(late.status == Status::event);
  CHECK_THAT(late.t, near(2.5, 1e-14, 0));
  CHECK(late.t > 2.5);
  const auto now = rotate({condition("now", [](double, const Vector<double>& y) { return y(0) > 0.5; })});
  CHECK(now.status == Status::event);
  CHECK(now.t == 0);
  CHECK(now.step == 0);
  CHECK(now.stats.accepted == 0);
}

TEST_CASE("a loss that is below its threshold at the start ends the run there") {
  const Decay problem = decay({1.0});
  const Vector<double> y0 = Vector<double>::Constant(1, 1e-3);
  const auto solution =
      integrate(problem, y0, TimeSpan{0, infinity}, DormandPrince{}, fine, {.events = {loss_below(1.0)}});
  CHECK(solution.status == Status::event);
  CHECK(solution.t == 0);
  CHECK(same_bits(solution.w, y0));
  CHECK(solution.stats.evaluations <= 1);
}

TEST_CASE("the first of several events wins, in time and not in order") {
  const auto at = [](double time) {
    return zero_crossing("at " + std::to_string(time), [time](double t, const Vector<double>&) { return t - time; });
  };
  // One step of 10 sees all of them.
  const Clock problem;
  const auto solution = integrate(problem, Vector<double>::Zero(1), TimeSpan{0, 10}, DormandPrince{},
                                  ConstantStep<>{.step = 10}, {.events = {at(7), at(3), at(5)}});
  CHECK(solution.event == std::size_t{1});
  CHECK_THAT(solution.t, near(3, 1e-15, 0));
  CHECK_THAT(solution.w(0), near(3, 1e-15, 0));
}

TEST_CASE("an event may end the run at the end of its step: the iterate of gradient descent") {
  const Decay problem = decay({1.0});
  const Vector<double> y0 = Vector<double>::Ones(1);
  const auto solution = integrate(problem, y0, TimeSpan{0, infinity}, Euler{}, ConstantStep<>{.step = 0.1},
                                  {.events = {loss_below(1e-3).at_step_end()}});
  double w = 1;
  Index steps = 0;
  for (; w * w / 2 > 1e-3; ++steps) w += 0.1 * -w;
  CHECK(solution.step == steps);
  CHECK(same_bits(solution.w(0), w));
  CHECK(solution.t == 0.1 * static_cast<double>(steps));
}

TEST_CASE("save times up to the event are kept, later ones are not, and the end is the event") {
  const Rotation problem;
  const auto solution =
      integrate(problem, Rotation::start(), TimeSpan{0, 10}, DormandPrince{}, fine,
                {.save_at = {.times = {0.5, 1.5, 1.6, 9}, .end = true}, .events = {zero_crossing("x", first)}});
  REQUIRE(solution.times.size() == 3);
  CHECK(solution.times[1] == 1.5);
  CHECK(solution.times[2] == solution.t);
  CHECK(same_bits(solution.values[2], solution.w));
}

TEST_CASE("a run continues past an event") {
  const Rotation problem;
  const IntegrateOptions<double> options{.events = {zero_crossing("x", first)}};
  auto solution = integrate(problem, Rotation::start(), TimeSpan{0, infinity}, DormandPrince{}, fine, options);
  for (int k = 1; k < 5; ++k) {
    solution = resume(problem, solution.state, infinity, DormandPrince{}, fine, options);
    REQUIRE(solution.status == Status::event);
    CHECK_THAT(solution.t, near(pi / 2 + k * pi, 0, 1e-8));
  }
}

TEST_CASE("an event that is NaN ends the run as non_finite, at the last good state") {
  const auto broken = [](double t, const Vector<double>&) { return t > 2 ? std::nan("") : 1.0; };
  const auto solution = rotate({zero_crossing("broken", broken)});
  CHECK(solution.status == Status::non_finite);
  CHECK_THAT(solution.message, text_contains("the event broken is NaN at t = 2."));
  CHECK(solution.t <= 2);
  CHECK(solution.w.allFinite());
  CHECK_FALSE(solution.event.has_value());
  const auto at_start = rotate({zero_crossing("broken", broken)}, 3);
  CHECK(at_start.status == Status::non_finite);
  CHECK(at_start.t == 3);
}

TEST_CASE("thresholds and problems that do not fit are refused") {
  CHECK_THROWS_MATCHES(loss_below(0.0), ArgumentError, message_contains("threshold"));
  CHECK_THROWS_MATCHES(loss_below(-1.0), ArgumentError, message_contains("-1"));
  CHECK_THROWS_MATCHES(loss_below(std::nan("")), ArgumentError, message_contains("nan"));
  CHECK_THROWS_MATCHES(stationary(0.0), ArgumentError, message_contains("threshold"));
  CHECK_THROWS_MATCHES(rotate({loss_below(1.0)}), ArgumentError, message_contains("loss(y)"));
  CHECK_THROWS_MATCHES(rotate({}), ArgumentError, message_contains("infinity"));
}

namespace {

/// Its loss is the square of its derivative; counts how it is asked for.
struct SharedLoss {
  using Scalar = double;
  mutable Index losses = 0;
  mutable Index shared = 0;
  [[nodiscard]] static Index dimension() { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
  [[nodiscard]] double loss(ConstVectorRef<double> y) const {
    ++losses;
    return y.squaredNorm();
  }
  [[nodiscard]] double loss_from_derivative(const Vector<double>&, const Vector<double>& dy) const {
    ++shared;
    return dy.squaredNorm();
  }
};

}  // namespace

static_assert(HasLossFromDerivative<SharedLoss> && !HasLossFromDerivative<Decay>);

TEST_CASE("a loss that follows from the derivative is evaluated between steps only") {
  const SharedLoss problem;
  const auto solution = integrate(problem, Vector<double>::Ones(1), TimeSpan{0, infinity}, DormandPrince{}, fine,
                                  {.events = {loss_below(1e-6)}});
  CHECK(solution.status == Status::event);
  CHECK_THAT(solution.t, near(std::log(1e3), 1e-8, 0));
  CHECK(problem.shared == solution.stats.accepted + 1);
  CHECK(problem.losses == solution.stats.loss_evaluations);
  CHECK(problem.losses <= 12 + 3 * (solution.stats.accepted / 50));  // location, and two per look for a stall
}

namespace {

/// y' = -diag(rates) y, a SymmetricStiffField: every exponential step is exact, whatever its length.
struct LinearDecay {
  using Scalar = double;
  Vector<double> rates;
  [[nodiscard]] Index dimension() const { return rates.size(); }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -rates.cwiseProduct(y); }
  void negative_jacobian(double, ConstVectorRef<double>, MatrixRef<double> S) const { S = rates.asDiagonal(); }
};

/// f(w, x) = <w, x>.
struct LinearNet {
  using Scalar = double;
  Index d;
  [[nodiscard]] Index num_parameters() const { return d; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

}  // namespace

TEST_CASE("an event that rises and falls within one exponential step is found where it rises") {
  // u = exp(-t) - exp(-100 t) starts at 0, rises above 0.9 and falls: exp(-t) - exp(-100 t) = 0.9.
  LinearDecay field{Vector<double>(2)};
  field.rates << 1, 100;
  const auto bump = [](double, const Vector<double>& y) { return y(0) - y(1) - 0.9; };
  double expected = 0.02;
  for (int k = 0; k < 50; ++k)
    expected -= (std::exp(-expected) - std::exp(-100 * expected) - 0.9) /
                (100 * std::exp(-100 * expected) - std::exp(-expected));
  for (const double h : {1.0, 30.0, 1e4}) {
    CAPTURE(h);
    const auto solution =
        integrate(field, Vector<double>::Ones(2), TimeSpan{0, h}, ExponentialRosenbrock{}, ConstantStep<>{.step = h},
                  {.events = {zero_crossing("bump", bump, Crossing::rising)}});
    INFO(solution.message);
    REQUIRE(solution.status == Status::event);
    CHECK_THAT(solution.t, near(expected, 1e-9, 0));  // the tolerance of the Lanczos space, 1e-10
    const auto held =
        integrate(field, Vector<double>::Ones(2), TimeSpan{0, h}, ExponentialRosenbrock{}, ConstantStep<>{.step = h},
                  {.events = {condition("bump", [&](double t, const auto& y) { return bump(t, y) > 0; })}});
    REQUIRE(held.status == Status::event);
    CHECK_THAT(held.t, near(expected, 1e-9, 0));
  }
  // A bump that stays below the threshold does not fire: its maximum is 0.945.
  const auto low = [](double, const Vector<double>& y) { return y(0) - y(1) - 0.95; };
  CHECK(integrate(field, Vector<double>::Ones(2), TimeSpan{0, 1e4}, ExponentialRosenbrock{},
                  ConstantStep<>{.step = 1e4}, {.events = {zero_crossing("low", low)}})
            .status == Status::reached_end);
  // One that only just reaches it, between two of the points looked at.
  const double peak = std::log(100.0) / 99;
  const double top = std::exp(-peak) - std::exp(-100 * peak);
  const auto narrow = [&](double, const Vector<double>& y) { return y(0) - y(1) - top * (1 - 1e-6); };
  const auto found =
      integrate(field, Vector<double>::Ones(2), TimeSpan{0, 1e4}, ExponentialRosenbrock{}, ConstantStep<>{.step = 1e4},
                {.events = {zero_crossing("narrow", narrow, Crossing::rising)}});
  REQUIRE(found.status == Status::event);
  CHECK(found.t < peak);
  CHECK_THAT(found.t, near(peak, 1e-2, 0));
}

TEST_CASE("the exponential tangent stepper interpolates the flow, and finds events within a step") {
  // f = <w, x> with K = diag(1, 1e4): w(t) = y / x (1 - exp(-2 x^2 t)); a step of any length is exact.
  Matrix<double> X(2, 2);
  X << 1, 0, 0, 100;
  Vector<double> y(2);
  y << 1, 100;
  const Dataset data(X, y);
  const GradientFlow flow(LinearNet{2}, data);
  const auto at = [](double t) {
    Vector<double> w(2);
    w << -std::expm1(-2 * t), -std::expm1(-2e4 * t);
    return w;
  };
  for (const double h : {1e-3, 10.0, 1e6}) {
    CAPTURE(h);
    IntegrateOptions<double> options;
    for (const double part : {1e-6, 1e-3, 0.25, 0.9}) options.save_at.times.push_back(part * h);
    const auto saved = integrate(flow, Vector<double>::Zero(2), TimeSpan{0, h}, ExponentialTangent{},
                                 ConstantStep<>{.step = h}, options);
    REQUIRE(saved.ok());
    for (std::size_t k = 0; k < 4; ++k) CHECK((saved.values[k] - at(saved.times[k])).norm() <= 1e-12);
    // w_1 - w_0 rises to 0.998 and falls to 0.
    if (h < 1) continue;
    const auto gap = [](double, const Vector<double>& w) { return w(1) - w(0) - 0.99; };
    const auto solution = integrate(flow, Vector<double>::Zero(2), TimeSpan{0, h}, ExponentialTangent{},
                                    ConstantStep<>{.step = h}, {.events = {zero_crossing("gap", gap)}});
    INFO(solution.message);
    REQUIRE(solution.status == Status::event);
    const Vector<double> there = at(solution.t);
    CHECK_THAT(there(1) - there(0), near(0.99, 1e-10, 0));
    CHECK(solution.t < 1e-3);
  }
}

TEST_CASE("a dip that crosses zero twice within one step is found in a Runge-Kutta step") {
  const auto dip = [](double t, const Vector<double>&) { return (t - 0.6) * (t - 0.6) - 1e-4; };
  const auto solution = integrate(Clock{}, Vector<double>::Zero(1), TimeSpan{0, 1}, DormandPrince{},
                                  ConstantStep<>{.step = 1}, {.events = {zero_crossing("dip", dip)}});
  REQUIRE(solution.status == Status::event);
  CHECK_THAT(solution.t, near(0.59, 0, 1e-12));
}
