#include "richflow/integrate/decay_schedule.hpp"

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "richflow/integrate/weight_decay.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("schedules of decay and their integrals") {
  const DecaySchedule<> none, constant = 0.25, pieces({{0.1, 2.0}, {0.0, 1.0}, {0.4, 0.5}});
  CHECK(none.is_zero());
  CHECK(constant.is_constant());
  CHECK_FALSE(constant.is_zero());
  CHECK(constant.integral(8.0) == 2.0);
  CHECK_FALSE(pieces.is_constant());
  const double times[] = {0.0, 1.0, 2.0, 2.5, 3.0, 3.25, 3.5, 100.0};
  const double lambdas[] = {0.1, 0.1, 0.0, 0.0, 0.4, 0.4, 0.0, 0.0};
  const double integrals[] = {0.0, 0.1, 0.2, 0.2, 0.2, 0.3, 0.4, 0.4};
  for (int k = 0; k < 8; ++k) {
    CHECK(pieces(times[k]) == lambdas[k]);
    CHECK_THAT(pieces.integral(times[k]), near(integrals[k], 4 * eps, 0));
  }
}

TEST_CASE("the integral of a decay that is a function, forwards and backwards, smooth or with jumps") {
  const DecaySchedule<> smooth([](double t) { return 1 + std::sin(5 * t) * std::exp(-t); });
  const auto exact = [](double t) { return t + (5 - std::exp(-t) * (std::sin(5 * t) + 5 * std::cos(5 * t))) / 26; };
  const DecaySchedule<> jumping([](double t) { return t < 1.7 ? 0.3 : t < 4 ? 2.0 : 0.0; });
  const auto of_jumps = [](double t) { return 0.3 * std::fmin(t, 1.7) + 2.0 * std::fmax(0, std::fmin(t, 4) - 1.7); };
  // Each call begins where the last ended: rounding of eight integrals.
  for (const double t : {0.01, 0.5, 0.3, 4.0, 3.9, 40.0, 2.0, 0.0}) {
    CHECK_THAT(smooth.integral(t), near(exact(t), 100 * eps, 100 * eps));
  }
  for (const double t : {0.01, 0.5, 0.3, 4.3, 3.9, 2.0, 0.0}) {
    INFO("t = " << t);
    CHECK_THAT(jumping.integral(t), near(of_jumps(t), 100 * eps, 100 * eps));
  }
  const DecaySchedule<float> narrow([](float t) { return std::exp(-t); });
  CHECK_THAT(static_cast<double>(narrow.integral(2.0F)),
             near(1 - std::exp(-2.0), 8 * static_cast<double>(std::numeric_limits<float>::epsilon()), 0));
}

TEST_CASE("common schedules of decay cost few values of their function") {
  const double pi = std::acos(-1.0);
  const auto of_float = [](double t) { return static_cast<double>(0.1F * std::exp(-static_cast<float>(t))); };
  struct Case {
    const char* name;
    std::function<double(double)> lambda;
    double until;
    double exact;
    double tolerance;
  };
  // In each half of up to 60, two rules of 15: 1800 for a jump. Rounding of some hundred parts, and for the function
  // that computes in float its own, 2^-24 of exp and of the product.
  const double rounding = 20 * eps;
  const Case cases[] = {
      {"cosine", [=](double t) { return t < 20 ? 0.05 * (1 + std::cos(pi * t / 20)) : 0; }, 50.0, 1.0, rounding},
      {"switch", [](double t) { return 0.05 * (1 - std::tanh((t - 20) * 5)); }, 50.0, 2.0, rounding},
      {"restarts", [=](double t) { return 0.05 * (1 + std::cos(pi * std::fmod(t, 10.0) / 10)); }, 25.0, 1.25 + 0.5 / pi,
       rounding},
      {"cubic", [](double t) { return std::pow(std::fmax(0, 1 - t / 20), 3); }, 50.0, 5.0, rounding},
      {"float", of_float, 1.0, -0.1 * std::expm1(-1.0), 3 * std::ldexp(1.0, -24)},
  };
  for (const Case& schedule : cases) {
    INFO(schedule.name);
    Index calls = 0;
    const DecaySchedule<> counted([&](double t) {
      ++calls;
      return schedule.lambda(t);
    });
    CHECK_THAT(counted.integral(schedule.until), near(schedule.exact, schedule.tolerance, 0));
    CHECK(calls <= 2 * 1800);
  }
  // Without end where no halving helps.
  Index calls = 0;
  const DecaySchedule<> noise([&](double t) {
    ++calls;
    return std::fmod(1e6 + 43758.5453 * std::sin(1e6 * t), 1.0);
  });
  CHECK_THROWS_MATCHES(noise.integral(1.0), ConvergenceError, message_contains("from t = 0 to 1 did not converge"));
  CHECK(calls <= 1'000'000);
}

TEST_CASE("a piece of decay that lasts a number of steps is over after those, however they were rounded") {
  const auto check = [](auto zero) {
    using S = decltype(zero);
    for (int thousandths = 1; thousandths < 100; thousandths += 2)
      for (int k = 1; k < 200; k += 3) {
        const S h = static_cast<S>(thousandths) / S(1000), duration = static_cast<S>(k * thousandths) / S(1000);
        const DecaySchedule<S> schedule({{S(2), duration}, {S(1), duration}});
        const bool is_right = schedule(S(k - 1) * h) == S(2) && schedule(S(k) * h) == S(1) &&
                              schedule(S(2 * k - 1) * h) == S(1) && schedule(S(2 * k) * h) == S(0);
        if (!is_right) FAIL_CHECK("h = " << h << ", " << k << " steps");
      }
    CHECK(DecaySchedule<S>({{S(20), S(0.00312)}, {S(0), S(1)}})(S(6) * S(0.00052)) == S(0));
  };
  check(0.0);
  check(0.0F);
}

TEST_CASE("a schedule of decay refuses what is none") {
  CHECK_THROWS_MATCHES(DecaySchedule<>(-0.1), ArgumentError,
                       message_contains("lambda must be finite and not negative"));
  CHECK_THROWS_AS(DecaySchedule<>(std::numeric_limits<double>::infinity()), ArgumentError);
  CHECK_THROWS_MATCHES(DecaySchedule<>(std::vector<DecayPiece<>>{}), ArgumentError,
                       message_contains("pieces is empty"));
  CHECK_THROWS_MATCHES(DecaySchedule<>({{-1.0, 1.0}, {1.0, 1.0}}), ArgumentError,
                       message_contains("lambda of a piece must be finite and not negative, got -1"));
  CHECK_THROWS_MATCHES(DecaySchedule<>({{1.0, 0.0}, {1.0, 1.0}}), ArgumentError,
                       message_contains("duration of a piece"));
  CHECK_THROWS_MATCHES(DecaySchedule<>(std::function<double(double)>{}), ArgumentError,
                       message_contains("lambda is an empty function"));
  CHECK_THROWS_MATCHES(DecaySchedule<float>(std::function<double(double)>{}), ArgumentError,
                       message_contains("lambda is an empty function"));
  double (*const no_function)(double) = nullptr;
  CHECK_THROWS_MATCHES(DecaySchedule<>(no_function), ArgumentError, message_contains("lambda is a null pointer"));
  const DecaySchedule<> negative([](double t) { return 1 - t; });
  CHECK(std::isnan(negative(2.0)));
  CHECK(std::isnan(negative.integral(2.0)));
  CHECK_THAT(negative.integral(0.5), near(0.375, 4 * eps, 0));
}
