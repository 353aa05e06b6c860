#include "list.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "richflow/core/error.hpp"
#include "support/catch.hpp"

using namespace richflow::examples;
using test_support::message_contains;
using test_support::near;

TEST_CASE("a comma-separated list") {
  CHECK(parse_list("--alpha", "1,0.5, 1e-3", Spacing::logarithmic) == std::vector<double>{1.0, 0.5, 1e-3});
  CHECK(parse_list("--log-alpha", "-500", Spacing::linear) == std::vector<double>{-500.0});
  CHECK(parse_list("--log-alpha", "+2,-.5", Spacing::linear) == std::vector<double>{2.0, -0.5});
}

TEST_CASE("a linear range") {
  CHECK(parse_list("--log-alpha", "2:-2:5", Spacing::linear) == std::vector<double>{2.0, 1.0, 0.0, -1.0, -2.0});
  CHECK(parse_list("--log-alpha", "3:3:1", Spacing::linear) == std::vector<double>{3.0});
}

TEST_CASE("a logarithmic range has equal ratios and exact ends") {
  const auto values = parse_list("--alpha", "1e-4:1:5", Spacing::logarithmic);
  REQUIRE(values.size() == 5);
  CHECK(values.front() == 1e-4);
  CHECK(values.back() == 1.0);
  // exp and log in between cost a few ulp times |log alpha| < 10.
  for (int k = 0; k < 5; ++k) CHECK_THAT(values[static_cast<std::size_t>(k)], near(std::pow(10.0, k - 4), 1e-14, 0.0));
}

TEST_CASE("bad lists are refused with the option and the piece") {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {"", "--alpha '': a number is missing"},
      {"1,,2", "a number is missing"},
      {"1,2,", "a number is missing"},
      {"1,two", "'two' is not a number"},
      {"1 2", "'1 2' is not a number"},
      {"nan", "'nan' is not finite"},
      {"1,inf", "'inf' is not finite"},
      {"1e999", "'1e999' is not a number"},
      {"1:2", "a range has three parts"},
      {"1:2:3:4", "a range has three parts"},
      {"1::3", "a number is missing"},
      {"1:2:0", "count must be from 1"},
      {"1:2:-3", "count must be from 1"},
      {"1:2:1", "one number cannot span"},
      {"1:2:2.5", "'2.5' is not a whole number"},
      {"1:2:2000000", "count must be from 1 to 1000000"},
      {"0:1:3", "both ends must be positive"},
      {"1:-1:3", "both ends must be positive"},
      {"1,2:3:4", "'1,2' is not a number"},
  };
  for (const Case& bad : cases) {
    INFO(bad.text);
    CHECK_THROWS_MATCHES(parse_list("--alpha", bad.text, Spacing::logarithmic), richflow::ArgumentError,
                         message_contains(bad.message));
    CHECK_THROWS_MATCHES(parse_list("--alpha", bad.text, Spacing::logarithmic), richflow::ArgumentError,
                         message_contains("--alpha"));
  }
}
