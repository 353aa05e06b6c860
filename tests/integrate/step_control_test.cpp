#include "richflow/integrate/step_control.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"

using namespace richflow;
using namespace test_support;

namespace {

std::vector<double> times_of(double start, double end, double step) {
  const Decay problem = decay({1.0});
  return integrate(problem, Vector<double>::Ones(1), TimeSpan{start, end}, Euler{}, ConstantStep<>{.step = step},
                   {.save_at = {.every = 1, .start = true}})
      .times;
}

PiController<> controller(double relative) { return {.tolerance = {.relative = relative, .absolute = relative / 100}}; }

}  // namespace

TEST_CASE("the k-th time of a constant step is a fraction of the span, and the last is its end") {
  // 0.1 + 0.1 + ... is off by 1e-13 after 1000 additions; here every time is one product and one division.
  const std::vector<double> times = times_of(0, 100, 0.1);
  REQUIRE(times.size() == 1001);
  for (std::size_t k = 0; k < times.size(); ++k) CHECK(times[k] == 100.0 * static_cast<double>(k) / 1000.0);
  CHECK(times.back() == 100.0);
  const std::vector<double> shifted = times_of(-0.7, 0.3, 0.01);
  REQUIRE(shifted.size() == 101);
  for (std::size_t k = 0; k < 100; ++k) CHECK(shifted[k] == -0.7 + (0.3 + 0.7) * static_cast<double>(k) / 100.0);
  CHECK(shifted.back() == 0.3);
}

TEST_CASE("a step that does not divide the span ends with a shorter one, exactly at the end") {
  const std::vector<double> times = times_of(0, 1, 0.3);
  CHECK(times == std::vector<double>{0, 0.3, 0.6, 3 * 0.3, 1});
  CHECK(times_of(2, 2.5, 7) == std::vector<double>{2, 2.5});
  CHECK(times_of(2, 2, 7) == std::vector<double>{2});

  const Decay problem = decay({1.0});
  const auto solution =
      integrate(problem, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.3});
  // Three steps of 0.3 and one of what is left; 4 ulp for the products.
  CHECK_THAT(solution.w(0), near(std::pow(0.7, 3) * 0.9, 4e-16, 0));
}

TEST_CASE("an adaptive run ends exactly at the end of the span") {
  const Mixed problem;
  for (const double end : {1e-9, 0.1, 1.0 / 3.0, 2.0}) {
    const auto solution = integrate(problem, Mixed::start(), TimeSpan{0, end}, DormandPrince{}, controller(1e-7));
    CHECK(solution.status == Status::reached_end);
    CHECK(solution.t == end);
    // Error per step at most the tolerance, some dozens of steps, entries up to 4.
    CHECK((solution.w - Mixed::exact(end)).norm() < 1e-5);
  }
}

TEST_CASE("the error of an adaptive run falls with its tolerance") {
  const Mixed problem;
  double before = 1;
  for (const double relative : {1e-4, 1e-6, 1e-8, 1e-10}) {
    const auto solution = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, controller(relative));
    const double error = (solution.w - Mixed::exact(2)).norm();
    CAPTURE(relative, error);
    CHECK(error < 100 * relative);  // steps times local error, for fewer than 100 steps per unit of condition
    CHECK(error < before / 10);     // tolerance proportionality: 100 times tighter, at least 10 times better
    before = error;
  }
}

TEST_CASE("an error ratio that is NaN is rejected") {
  const PiController<> pi = controller(1e-6);
  ControlMemory<double> memory{.step = 1.0};
  CHECK_FALSE(pi.judge(std::numeric_limits<double>::quiet_NaN(), 1.0, 4, memory));
  CHECK(memory.step == pi.min_factor);
  CHECK_FALSE(pi.judge(infinity, 1.0, 4, memory));
  CHECK_FALSE(pi.judge(1.0000001, 1.0, 4, memory));
  CHECK(memory.rejected);
  CHECK(pi.judge(1.0, 1.0, 4, memory));
  CHECK_FALSE(memory.rejected);
}

TEST_CASE("changes of the step stay within their factors, and none grows after a rejection") {
  const PiController<> pi = controller(1e-6);
  ControlMemory<double> memory{.step = 1.0, .taken = 5};
  CHECK(pi.judge(0.0, 1.0, 4, memory));
  CHECK(memory.step == pi.max_factor);
  memory = {.step = 1.0};
  CHECK(pi.judge(0.0, 1.0, 4, memory));
  CHECK(memory.step > pi.max_factor);
  CHECK(memory.step <= pi.first_max_factor);
  memory = {.step = 1.0, .taken = 5};
  CHECK_FALSE(pi.judge(1e30, 1.0, 4, memory));
  CHECK(memory.step == pi.min_factor);
  CHECK(pi.judge(0.0, memory.step, 4, memory));
  CHECK(memory.step == pi.min_factor);
}

TEST_CASE("steps respect first_step and max_step") {
  const Decay problem = decay({1.0});
  PiController<> pi = controller(1e-6);
  pi.first_step = 1e-5;
  pi.max_step = 0.02;
  const auto solution = integrate(problem, Vector<double>::Ones(1), TimeSpan{0, 1}, DormandPrince{}, pi,
                                  {.save_at = {.every = 1, .start = true}});
  REQUIRE(solution.times.size() > 50);
  CHECK(solution.times[1] == 1e-5);
  for (std::size_t i = 1; i < solution.times.size(); ++i)
    CHECK(solution.times[i] - solution.times[i - 1] <= 0.02 * 1.01 + 1e-15);  // the last one may stretch by 1 %
}

TEST_CASE("the first step knows no unit of time") {
  // The same flow on clocks that run 1e-100 to 1e100 times as fast takes the same number of steps.
  const Vector<double> y0 = Vector<double>::Constant(2, 0.5);
  Index expected = 0;
  for (const double clock : {1.0, 1e-100, 1e-6, 1e6, 1e100}) {
    const Decay problem = decay({clock, 3 * clock});
    const auto solution = integrate(problem, y0, TimeSpan{0, 5 / clock}, DormandPrince{}, controller(1e-6));
    CHECK(solution.status == Status::reached_end);
    if (expected == 0) expected = solution.stats.accepted;
    CHECK(std::abs(solution.stats.accepted - expected) <= 1);  // rounding of the rates may move one step
    CHECK(solution.stats.rejected <= 1);
  }
}

TEST_CASE("coordinates that stay exactly zero do not disturb a purely relative tolerance") {
  const Decay problem = decay({1.0, 2.0});
  const Vector<double> y0 = Vector<double>::Unit(2, 1);
  const auto solution = integrate(problem, y0, TimeSpan{0, 3}, DormandPrince{},
                                  PiController<>{.tolerance = {.relative = 1e-8, .absolute = 0}});
  CHECK(solution.status == Status::reached_end);
  CHECK(solution.w(0) == 0.0);
  CHECK_THAT(solution.w(1), near(std::exp(-6), 1e-6, 0));
}

namespace {

/// Measures errors in its own norm, 1e6 times stricter than the default one.
struct Strict : Decay {
  [[nodiscard]] double error_ratio(const Vector<double>& y, const Vector<double>&, const Vector<double>& error,
                                   const Tolerance<double>& tolerance) const {
    return 1e6 * error.norm() / (tolerance.absolute + tolerance.relative * y.norm());
  }
};

}  // namespace

static_assert(HasErrorRatio<Strict> && !HasErrorRatio<Decay>);

TEST_CASE("a problem's own error norm replaces the default") {
  const Decay plain = decay({1.0, 2.0});
  const Strict strict{plain};
  const Vector<double> y0 = Vector<double>::Ones(2);
  const auto loose = integrate(plain, y0, TimeSpan{0, 3}, DormandPrince{}, controller(1e-5));
  const auto tight = integrate(strict, y0, TimeSpan{0, 3}, DormandPrince{}, controller(1e-5));
  // Steps grow like ratio^(1/5): 1e6^(1/5) = 16.
  CHECK(tight.stats.accepted > 8 * loose.stats.accepted);
  CHECK((tight.w - plain.exact(3, y0)).norm() < 1e-9);
}

TEST_CASE("the default norm is the root mean square of errors over what is allowed") {
  const Decay problem = decay({1.0, 1.0});
  Vector<double> y(2), y_new(2), error(2);
  y << 3, -1;
  y_new << 2, -4;
  error << 0.3, 0.4;
  const double expected = std::sqrt((std::pow(0.3 / (0.1 + 0.5 * 3), 2) + std::pow(0.4 / (0.1 + 0.5 * 4), 2)) / 2);
  CHECK_THAT(error_ratio(problem, y, y_new, error, Tolerance<double>{.relative = 0.5, .absolute = 0.1}),
             within_ulp(expected, 4));
  error(1) = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(error_ratio(problem, y, y_new, error, Tolerance<double>{.relative = 0.5, .absolute = 0.1})));
}

TEST_CASE("controllers refuse settings that make no sense, naming them") {
  const auto message = [](const auto& settings) {
    try {
      settings.check();
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto with = [](auto change) {
    PiController<> pi{.tolerance = {.relative = 1e-6, .absolute = 1e-6}};
    change(pi);
    return pi;
  };
  CHECK_THAT(message(ConstantStep{}), text_contains("step must be given"));
  CHECK_THAT(message(ConstantStep<>{.step = -1}), text_contains("-1"));
  CHECK_THAT(message(ConstantStep<>{.step = infinity}), text_contains("inf"));
  CHECK_THAT(message(PiController<>{}), text_contains("tolerance.relative must be given"));
  CHECK_THAT(message(PiController<>{.tolerance = {.relative = 1e-3}}),
             text_contains("tolerance.absolute must be given"));
  CHECK_THAT(message(PiController<>{.tolerance = {.relative = 0, .absolute = 0}}), text_contains("both be 0"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.safety = 1; })), text_contains("safety"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.min_factor = 1.5; })), text_contains("min_factor"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.max_factor = 1; })), text_contains(": max_factor"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.first_max_factor = 0; })), text_contains("first_max_factor"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.first_step = -2; })), text_contains("first_step"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.min_step = -2; })), text_contains("min_step"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.max_step = 0; })), text_contains("max_step"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.integral = 0; })), text_contains("integral"));
  CHECK_THAT(message(with([](PiController<>& pi) { pi.proportional = 2; })), text_contains("proportional"));
  CHECK(message(with([](PiController<>&) {})).empty());
}
