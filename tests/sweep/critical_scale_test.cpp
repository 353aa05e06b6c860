#include "richflow/sweep/critical_scale.hpp"

#include <cmath>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "support/catch.hpp"

using namespace richflow;

TEST_CASE("a threshold anywhere in the range is found to the tolerance, from both sides") {
  RandomStream random(1);
  for (int k = 0; k < 200; ++k) {
    const double threshold = random.uniform(-199.0, 0.9);
    CriticalScaleOptions options;
    options.tolerance = k % 2 == 0 ? 0.01 : 1e-9;
    const CriticalScale largest = largest_scale([&](Scale<> s) { return s.log() <= threshold; }, options);
    REQUIRE(largest.kind == CriticalKind::found);
    CHECK(largest.scale.log() <= threshold);
    CHECK(largest.beyond.log() > threshold);
    // Rounding at |log alpha| = 200 adds up to a few 1e-14.
    CHECK(largest.beyond.log() - largest.scale.log() <= options.tolerance + 1e-12);

    const CriticalScale smallest = smallest_scale([&](Scale<> s) { return s.log() >= threshold; }, options);
    REQUIRE(smallest.kind == CriticalKind::found);
    CHECK(smallest.scale.log() >= threshold);
    CHECK(smallest.beyond.log() < threshold);
    CHECK(smallest.scale.log() - smallest.beyond.log() <= options.tolerance + 1e-12);
  }
}

TEST_CASE("never and always are results; the ends of the range are tried") {
  Index calls = 0;
  const CriticalScale never = largest_scale([&](Scale<>) {
    ++calls;
    return false;
  });
  CHECK(never.kind == CriticalKind::never);
  CHECK(never.evaluations == calls);
  CHECK(never.scale.log() == -200.0);
  const CriticalScale always = largest_scale([](Scale<>) { return true; });
  CHECK(always.kind == CriticalKind::always);
  CHECK(always.scale.log() == 1.0);
  CHECK(always.evaluations == 1);
  CHECK(smallest_scale([](Scale<>) { return true; }).scale.log() == -200.0);
  // Only the very end of the range passes.
  const CriticalScale end = largest_scale([](Scale<> s) { return s.log() <= -200.0; });
  CHECK(end.kind == CriticalKind::found);
  CHECK(end.scale.log() == -200.0);
}

TEST_CASE("of several stretches the one next to the start counts") {
  const auto two = [](Scale<> s) { return (s.log() < -3.0 && s.log() > -5.0) || s.log() < -20.0; };
  const CriticalScale result = largest_scale(two);
  REQUIRE(result.kind == CriticalKind::found);
  CHECK(result.scale.log() < -3.0);
  CHECK(result.scale.log() > -3.0 - 0.01 - 1e-12);
}

TEST_CASE("a tolerance below rounding ends, too") {
  CriticalScaleOptions options;
  options.tolerance = 1e-300;
  const CriticalScale result = largest_scale([](Scale<> s) { return s.log() <= -100.3; }, options);
  CHECK(result.kind == CriticalKind::found);
  CHECK(std::abs(result.scale.log() + 100.3) < 1e-12);
  CHECK(result.evaluations < 200);
}

TEST_CASE("ranges, tolerances and steps that make no sense are refused") {
  const auto yes = [](Scale<>) { return true; };
  CriticalScaleOptions options;
  options.low = options.high;
  CHECK_THROWS_AS(largest_scale(yes, options), ArgumentError);
  options = {};
  options.tolerance = 0.0;
  CHECK_THROWS_AS(largest_scale(yes, options), ArgumentError);
  options = {};
  options.step = -1.0;
  CHECK_THROWS_AS(smallest_scale(yes, options), ArgumentError);
  options = {};
  options.step_growth = -0.1;
  CHECK_THROWS_AS(smallest_scale(yes, options), ArgumentError);
}
