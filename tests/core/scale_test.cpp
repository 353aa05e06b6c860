#include "richflow/core/scale.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using richflow::Scale;
using test_support::message_contains;

TEST_CASE("a scale is made from alpha or from its logarithm") {
  CHECK(Scale<>::from_value(1.0).log() == 0.0);
  CHECK(Scale<>::from_value(1e-3).log() == std::log(1e-3));
  CHECK(Scale<>::from_log(-2.5).value() == std::exp(-2.5));
  CHECK(Scale<>::from_value(1e-3) == Scale<>::from_log(std::log(1e-3)));
  CHECK(Scale<>::from_log(-1.0).shifted(-2.0) == Scale<>::from_log(-3.0));
  CHECK(Scale<float>::from_value(2.0F).log() == std::log(2.0F));
  CHECK(Scale<long double>::from_log(-5000.0L).value() == std::exp(-5000.0L));
}

TEST_CASE("a scale beyond the range of double keeps its logarithm") {
  const Scale<> tiny = Scale<>::from_log(-5000.0);
  CHECK(tiny.log() == -5000.0);
  CHECK(tiny.value() == 0.0);
  CHECK(Scale<>::from_log(5000.0).value() == std::numeric_limits<double>::infinity());
  // the smallest positive double is a scale too
  CHECK(std::isfinite(Scale<>::from_value(std::numeric_limits<double>::denorm_min()).log()));
}

TEST_CASE("a scale that is not positive and finite is rejected") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -0.0, -1.0, nan, inf, -inf})
    CHECK_THROWS_MATCHES(Scale<>::from_value(bad), richflow::ArgumentError, message_contains("alpha must be positive"));
  for (const double bad : {nan, inf, -inf})
    CHECK_THROWS_MATCHES(Scale<>::from_log(bad), richflow::ArgumentError, message_contains("log_alpha"));
  CHECK_THROWS_AS(Scale<>::from_log(0.0).shifted(inf), richflow::ArgumentError);
  CHECK_THROWS_MATCHES(Scale<>::from_value(-0.5), richflow::ArgumentError, message_contains("-0.5"));
}
