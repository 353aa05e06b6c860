#include "richflow/core/error.hpp"

#include <limits>
#include <stdexcept>

#include "support/catch.hpp"

using namespace richflow;
using test_support::message_contains;

TEST_CASE("every exception of the library is an Error and a runtime_error") {
  CHECK_THROWS_AS(throw ArgumentError("x"), Error);
  CHECK_THROWS_AS(throw DimensionError("x"), Error);
  CHECK_THROWS_AS(throw NonFiniteError("x"), Error);
  CHECK_THROWS_AS(throw InfeasibleError("x"), Error);
  CHECK_THROWS_AS(throw ConvergenceError("x"), Error);
  CHECK_THROWS_AS(throw Error("x"), std::runtime_error);
}

TEST_CASE("require throws the asked-for exception with the whole message") {
  CHECK_NOTHROW(require(true, "never"));
  CHECK_THROWS_MATCHES(require(false, "threads must not be negative, got ", -3), ArgumentError,
                       message_contains("threads must not be negative, got -3"));
  CHECK_THROWS_AS(require<DimensionError>(false, "x"), DimensionError);
  // 17 digits: the value in the message is the value that was given
  CHECK_THROWS_MATCHES(require(false, 0.1), ArgumentError, message_contains("0.10000000000000001"));
  CHECK_NOTHROW(require_size("beta", 3, 3));
  CHECK_THROWS_MATCHES(require_size("beta", 2, 3), DimensionError, message_contains("beta has 2 entries where 3"));
}

TEST_CASE("require_finite names the first bad entry") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  Vector<double> v = Vector<double>::Ones(4);
  CHECK_NOTHROW(require_finite("v", v));
  v(3) = nan;
  v(2) = -inf;
  CHECK_THROWS_MATCHES(require_finite("v", v), NonFiniteError, message_contains("v(2) is -inf"));
  Matrix<double> X = Matrix<double>::Ones(3, 2);
  X(2, 1) = nan;
  CHECK_THROWS_MATCHES(require_finite("X", X), NonFiniteError, message_contains("X(2, 1) is"));
  CHECK_NOTHROW(require_finite("X", X.topRows(2)));
  CHECK_NOTHROW(require_finite("empty", Vector<double>()));
}
