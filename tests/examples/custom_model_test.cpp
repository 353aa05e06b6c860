#include "custom_model.hpp"

#include <array>
#include <cmath>
#include <span>

#include "support/catch.hpp"

using namespace richflow::examples;

TEST_CASE("the custom model is a softplus network that does not overflow") {
  const SoftplusNet net{1, 2};
  // Units (b, u, a): z = b + u x.
  const std::array<double, 6> w = {0.5, 1.0, 2.0, -1000.0, 0.0, 3.0};
  const std::array<double, 1> x = {0.25};
  CHECK_THAT(net.predict<double>(w, x), test_support::near(2.0 * std::log1p(std::exp(0.75)), 1e-15, 0.0));
  const std::array<double, 6> large = {1000.0, 0.0, 1.0, 0.0, 0.0, 0.0};
  CHECK(net.predict<double>(large, x) == 1000.0);
}

TEST_CASE("the custom model goes through flow, kernel and predictor, from the rich to the kernel regime") {
  const CustomModel result = run_custom_model(1, 10, {1.0, 30.0});
  REQUIRE(result.points.size() == 2);
  for (const Claim& claim : result.claims) {
    CAPTURE(claim.claim, claim.measured);
    CHECK(claim.holds);
  }
  CHECK(result.claims.size() == 5);
}
