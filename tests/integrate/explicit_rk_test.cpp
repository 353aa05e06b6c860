#include "richflow/integrate/explicit_rk.hpp"

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Largest errors over the run with n constant steps on [0, 2]: at the ends of the steps, and at three
/// points within each.
template <class St>
std::array<double, 2> errors(const St& stepper, int n) {
  const Mixed problem;
  const double h = 2.0 / n;
  std::vector<double> times;
  for (int k = 0; k < n; ++k)
    for (const double theta : {0.2, 0.5, 0.8}) times.push_back((k + theta) * h);
  const auto largest = [](const auto& solution) {
    double error = 0;
    for (std::size_t i = 0; i < solution.times.size(); ++i)
      error = std::max(error, (solution.values[i] - Mixed::exact(solution.times[i])).cwiseAbs().maxCoeff());
    return error;
  };
  const auto ends =
      integrate(problem, Mixed::start(), TimeSpan{0, 2}, stepper, ConstantStep<>{.step = h}, {.save_at = {.every = 1}});
  const auto between = integrate(problem, Mixed::start(), TimeSpan{0, 2}, stepper, ConstantStep<>{.step = h},
                                 {.save_at = {.times = times}});
  REQUIRE(ends.status == Status::reached_end);
  REQUIRE(ends.times.size() == static_cast<std::size_t>(n));
  REQUIRE(between.times == times);
  return {largest(ends), largest(between)};
}

/// Halves the step from 2 / first until the error is near rounding. The observed order of a method of
/// order p is p + O(h), so a band of 0.2 holds once h is small enough.
template <class St>
void check_order(const St& stepper, int first, int halvings, double order, double order_between) {
  std::array<double, 2> before = errors(stepper, first);
  for (int k = 1; k <= halvings; ++k) {
    const std::array<double, 2> now = errors(stepper, first << k);
    CAPTURE(k, before[0] * 1e9, now[0] * 1e9, before[1] * 1e9, now[1] * 1e9);
    CHECK_THAT(std::log2(before[0] / now[0]), near(order, 0, 0.2));
    CHECK_THAT(std::log2(before[1] / now[1]), near(order_between, 0, 0.2));
    before = now;
  }
}

/// Kutta's third-order method, as a user would add it: a tableau and nothing else.
struct Kutta3Tableau {
  static constexpr int stages = 3;
  static constexpr int order = 3;
  static constexpr FractionTable<3, 3> a = {{{{}}, {{{1, 2}}}, {{{-1, 1}, {2, 1}}}}};
  static constexpr std::array<Fraction, 3> b = {{{1, 6}, {2, 3}, {1, 6}}};
  static constexpr std::array<Fraction, 3> c = {{{0, 1}, {1, 2}, {1, 1}}};
};

}  // namespace

static_assert(Stepper<Euler, Mixed> && !EmbeddedStepper<Euler, Mixed> && !DenseStepper<Euler, Mixed>);
static_assert(Stepper<RungeKutta4, Mixed> && !EmbeddedStepper<RungeKutta4, Mixed>);
static_assert(EmbeddedStepper<DormandPrince, Mixed> && DenseStepper<DormandPrince, Mixed>);
static_assert(DerivativeStepper<Euler, Mixed> && DerivativeStepper<DormandPrince, Mixed>);
static_assert(ExplicitRk<Kutta3Tableau>::order == 3 && Stepper<ExplicitRk<Kutta3Tableau>, Mixed>);
static_assert(Stepper<Midpoint, Mixed> && !DerivativeStepper<Midpoint, Mixed>);

// Between steps the interpolant of DormandPrince is off by O(h^5), the cubic Hermite interpolant by O(h^4).
TEST_CASE("Euler has order 1") { check_order(Euler{}, 256, 5, 1, 1); }
TEST_CASE("a user's midpoint rule has order 2") { check_order(Midpoint{}, 64, 6, 2, 2); }
TEST_CASE("a user's tableau of Kutta's third-order method has order 3") {
  check_order(ExplicitRk<Kutta3Tableau>{}, 32, 6, 3, 3);
}
TEST_CASE("RungeKutta4 has order 4") { check_order(RungeKutta4{}, 32, 5, 4, 4); }
TEST_CASE("DormandPrince has order 5, and so has its interpolant at given times") {
  check_order(DormandPrince{}, 32, 4, 5, 5);
}

TEST_CASE("the embedded error of DormandPrince falls with h^5") {
  const Mixed problem;
  const DormandPrince stepper;
  const Vector<double> y = Mixed::start();
  Vector<double> y_new(3);
  double before = 0;
  for (int k = 0; k < 6; ++k) {
    auto ws = stepper.make_workspace(problem);
    const double h = 0.2 / (1 << k);
    stepper.begin(problem, 0.3, y, ws);
    stepper.step(problem, 0.3, h, y, y_new, ws);
    const double now = stepper.error(ws).norm();
    if (k > 0) CHECK_THAT(std::log2(before / now), near(DormandPrince::error_order + 1, 0, 0.2));
    before = now;
  }
}

TEST_CASE("the interpolant of DormandPrince meets both ends of the step and both derivatives") {
  const Mixed problem;
  const DormandPrince stepper;
  const Vector<double> y = Mixed::start();
  const double h = 0.25;
  Vector<double> y_new(3), out(3), ahead(3);
  auto ws = stepper.make_workspace(problem);
  stepper.begin(problem, 0.0, y, ws);
  stepper.step(problem, 0.0, h, y, y_new, ws);
  stepper.interpolate(ws, 0.0, h, y, y_new, out);
  CHECK(out == y);
  stepper.interpolate(ws, 1.0, h, y, y_new, out);
  CHECK((out - y_new).norm() <= 1e-15 * y_new.norm() * 8);  // a sum of seven rounded terms
  // A one-sided difference over 1e-6 of the step: its own error is 1e-6 |y''| h, and rounding 1e-16 / 1e-6.
  const double small = 1e-6;
  stepper.interpolate(ws, small, h, y, y_new, ahead);
  CHECK((((ahead - y) / (small * h)) - stepper.start_derivative(problem, 0.0, y, ws)).norm() < 1e-5);
  stepper.interpolate(ws, 1 - small, h, y, y_new, ahead);
  CHECK(((y_new - ahead) / (small * h) - stepper.end_derivative(problem, h, y_new, ws)).norm() < 1e-5);
}

TEST_CASE("one evaluation per stage, and the last stage of DormandPrince is the next first one") {
  const Mixed problem;
  const auto evaluations = [&](const auto& stepper) {
    return integrate(problem, Mixed::start(), TimeSpan{0, 1}, stepper, ConstantStep<>{.step = 0.01}).stats.evaluations;
  };
  CHECK(evaluations(Euler{}) == 100);
  CHECK(evaluations(Midpoint{}) == 200);
  CHECK(evaluations(RungeKutta4{}) == 400);
  CHECK(evaluations(DormandPrince{}) == 601);
}

namespace {

/// Knows the solution of its problem, which is of one type.
struct ExactDecay : Euler {
  template <class Workspace>
  void step(const Decay& problem, double /*t*/, double h, const Vector<double>& y, Vector<double>& y_new,
            Workspace& ws) const {
    y_new = problem.exact(h, y);
    ++ws.counters.evaluations;
  }
};

}  // namespace

TEST_CASE("a stepper derived from another is given the problem itself") {
  const Decay problem = decay({0.3, 1.7, 11.0});
  const Vector<double> y0 = Vector<double>::Ones(3);
  const auto solution = integrate(problem, y0, TimeSpan{0, 1}, ExactDecay{}, ConstantStep<>{.step = 0.25});
  // Four roundings of each factor.
  CHECK((solution.w - problem.exact(1.0, y0)).cwiseAbs().maxCoeff() < 1e-15);
}

namespace {

/// Returns its vectors by value.
struct ByValue : DormandPrince {
  template <class Workspace>
  [[nodiscard]] Vector<double> error(const Workspace& ws) const {
    return DormandPrince::error(ws);
  }
  template <class Problem, class Workspace>
  [[nodiscard]] Vector<double> start_derivative(const Problem& problem, double t, const Vector<double>& y,
                                                Workspace& ws) const {
    return DormandPrince::start_derivative(problem, t, y, ws);
  }
  template <class Problem, class Workspace>
  [[nodiscard]] Vector<double> end_derivative(const Problem& problem, double t, const Vector<double>& y,
                                              Workspace& ws) const {
    return DormandPrince::end_derivative(problem, t, y, ws);
  }
};

/// Fields with a norm of errors beside them, and with members that no explicit method calls and that do not compile.
namespace fields {
struct Strict : Decay {
  template <class T>
  void negative_jacobian(double /*t*/, ConstVectorRef<double> /*y*/, MatrixRef<T> S) const {
    S.this_is_not_called();
  }
  [[nodiscard]] std::string is_graded() const { return "in itself"; }
};

double error_ratio(const Strict& problem, const Vector<double>& y, const Vector<double>& y_new,
                   const Vector<double>& error, const Tolerance<double>& tolerance) {
  return 100 * richflow::error_ratio(static_cast<const Decay&>(problem), y, y_new, error, tolerance);
}
}  // namespace fields

}  // namespace

TEST_CASE("a stepper may return its vectors by value") {
  const Decay problem = decay({0.3, 1.7, 11.0});
  const Vector<double> y0 = Vector<double>::Ones(3);
  const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-9}};
  const IntegrateOptions<double> options{.events = {stationary(1e-3)}};
  const auto by_value = integrate(problem, y0, TimeSpan{0, 100}, ByValue{}, controller, options);
  const auto by_reference = integrate(problem, y0, TimeSpan{0, 100}, DormandPrince{}, controller, options);
  CHECK(by_value.status == Status::event);
  CHECK(by_value.stats == by_reference.stats);
  CHECK(same_bits(by_value.w, by_reference.w));
}

TEST_CASE("a norm of errors beside the problem counts, and what an explicit method does not call need not compile") {
  const fields::Strict strict{decay({0.3, 1.7, 11.0})};
  const Vector<double> y0 = Vector<double>::Ones(3);
  const auto with = [](double tolerance) {
    return PiController<>{.tolerance = {.relative = tolerance, .absolute = tolerance}};
  };
  const auto strictly = integrate(strict, y0, TimeSpan{0, 2}, DormandPrince{}, with(1e-6));
  const auto loosely = integrate(static_cast<const Decay&>(strict), y0, TimeSpan{0, 2}, DormandPrince{}, with(1e-6));
  // A hundredth of the error takes 100^(1/5) = 2.5 times the steps.
  CHECK(strictly.stats.accepted > 2 * loosely.stats.accepted);
}

TEST_CASE("Euler with a constant step is gradient descent, bit for bit") {
  const Decay problem = decay({0.3, 1.7, 11.0});
  Vector<double> w = Vector<double>::LinSpaced(3, 0.1, 1.3);
  const double rate = 0.013;
  const auto solution = integrate(problem, w, TimeSpan{0, 500 * rate}, Euler{}, ConstantStep<>{.step = rate});
  Vector<double> gradient(3);
  for (int k = 0; k < 500; ++k) {
    problem(0.0, w, gradient);
    w += rate * gradient;
  }
  CHECK(solution.step == 500);
  CHECK(same_bits(solution.w, w));
}

TEMPLATE_TEST_CASE("explicit methods work in every real number type", "", float, double, long double) {
  using S = TestType;
  BasicDecay<S> problem{Vector<S>::LinSpaced(3, S(1), S(3))};
  const Vector<S> y0 = Vector<S>::Ones(3);
  const S tolerance = std::sqrt(std::numeric_limits<S>::epsilon());
  const auto solution = integrate(problem, y0, TimeSpan<S>{S(0), S(2)}, DormandPrince{},
                                  PiController<S>{.tolerance = {.relative = tolerance, .absolute = tolerance / S(100)}},
                                  {.save_at = {.times = {S(0.5), S(1)}}, .events = {loss_below(S(1e-9))}});
  CHECK(solution.status == Status::reached_end);
  CHECK(solution.values.size() == 2);
  // The local tolerance adds up over the steps; on a decaying problem to less than ten times itself.
  CHECK((solution.w - problem.exact(S(2), y0)).cwiseAbs().maxCoeff() < S(10) * tolerance);
  CHECK((solution.values[0] - problem.exact(S(0.5), y0)).cwiseAbs().maxCoeff() < S(10) * tolerance);
}
