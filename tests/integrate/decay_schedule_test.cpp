#include "richflow/integrate/decay_schedule.hpp"

#include <cmath>
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
  const DecaySchedule<> negative([](double t) { return 1 - t; });
  CHECK(std::isnan(negative(2.0)));
  CHECK(std::isnan(negative.integral(2.0)));
  CHECK_THAT(negative.integral(0.5), near(0.375, 4 * eps, 0));
}
