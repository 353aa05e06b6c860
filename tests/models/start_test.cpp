#include "richflow/models/start.hpp"

#include <cmath>
#include <limits>

#include "richflow/models/diagonal.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("a start keeps what it was given", "[start]") {
  RandomStream random(61);
  const Scale<> scale = Scale<>::from_log(-500);
  const Vector<double> a = random_positive_vector(random, 4, 0.1, 3.0);
  const Vector<double> b = random_positive_vector(random, 4, 0.1, 3.0);

  const Start<> uniform = Start<>::uniform(scale);
  CHECK(uniform.family() == StartFamily::uniform);
  CHECK(uniform.scale() == scale);
  CHECK((uniform.dimension() == 0 && !uniform.has_values()));
  CHECK(uniform.first_weights(3) == Vector<double>::Constant(3, std::exp(-500.0)));

  const Start<> shaped = Start<>::shaped(scale, a);
  CHECK((shaped.first_values() == a && shaped.second_values() == a));
  const Vector<double> log_a = a.array().log();
  CHECK((shaped.first_logs() - log_a).norm() <= 1e-15 * log_a.norm());
  CHECK(shaped.second_logs() == shaped.first_logs());
  CHECK(shaped.with_scale(Scale<>::from_value(0.25)).first_weights(4) == 0.25 * a);
  CHECK(shaped.dimension() == 4);

  const Start<> biased = Start<>::biased(Scale<>::from_value(0.25), a, b);
  CHECK((biased.first_weights(4) == 0.25 * a && biased.second_weights(4) == 0.25 * b));
  const Start<> of_logs = Start<>::biased_logs(Scale<>::from_value(0.25), a.array().log(), b.array().log());
  CHECK(!of_logs.has_values());
  CHECK((of_logs.first_weights(4) - 0.25 * a).norm() <= 1e-14 * a.norm());
  CHECK((of_logs.second_weights(4) - 0.25 * b).norm() <= 1e-14 * b.norm());

  const Start<> unbalanced = Start<>::unbalanced(Scale<>::from_value(0.5), -a, Vector<double>::Zero(4));
  CHECK(unbalanced.first_weights(4) == -0.5 * a);
  CHECK(unbalanced.second_weights(4) == Vector<double>::Zero(4));
  CHECK(unbalanced.second_logs()[0] == -std::numeric_limits<double>::infinity());
}

TEST_CASE("alpha may be outside the range of the weights where the weights are not", "[start]") {
  const Vector<double> large = Vector<double>::Constant(2, 1e300);
  const Start<> start = Start<>::shaped(Scale<>::from_log(-800), large);
  const double expected = std::exp(-800 + std::log(1e300));
  CHECK_THAT(start.first_weights(2)[0], near(expected, 1e-12, 0));
  CHECK_THAT(DiagonalNet<double>(3, 2).initial_parameters(start)[3], near(expected, 1e-12, 0));
  const Start<> signs = Start<>::unbalanced(Scale<>::from_log(-800), -large, large);
  CHECK_THAT(TwoLayerDiagonalNet<double>(2).initial_parameters(signs)[0], near(-expected, 1e-12, 0));
}

TEST_CASE("nets start where the start says", "[start]") {
  RandomStream random(62);
  const Vector<double> a = random_positive_vector(random, 5, 0.1, 3.0);
  const Vector<double> b = random_positive_vector(random, 5, 0.1, 3.0);
  const Scale<> scale = Scale<>::from_log(-1.3);
  const DiagonalNet<double> net(3, 5);
  CHECK(net.initial_parameters(Start<>::uniform(scale)) == net.initial_parameters(scale));
  CHECK(net.initial_parameters(Start<>::shaped(scale, a)) == net.initial_parameters(scale, a));
  const Vector<double> w = net.initial_parameters(Start<>::biased(scale, a, b));
  CHECK((w.head(5) == scale.value() * a && w.tail(5) == scale.value() * b));

  const TwoLayerDiagonalNet<double> two(5);
  Vector<double> expected(20);
  expected << scale.value() * a, scale.value() * b, scale.value() * a, scale.value() * b;
  CHECK(two.initial_parameters(Start<>::unbalanced(scale, a, b)) == expected);
  expected << scale.value() * a, scale.value() * a, scale.value() * b, scale.value() * b;
  CHECK(two.initial_parameters(Start<>::biased(scale, a, b)) == expected);
  CHECK(two.initial_parameters(Start<>::uniform(scale)) == Vector<double>::Constant(20, scale.value()));
}

TEST_CASE("a start and a net that do not fit are refused by name", "[start]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Scale<> scale = Scale<>::from_log(-1);
  const Vector<double> one = Vector<double>::Ones(3);
  const Vector<double> none;
  Vector<double> bad = one;
  for (const double value : {0.0, -1.0}) {
    bad[2] = value;
    CHECK_THROWS_MATCHES(Start<>::shaped(scale, bad), ArgumentError, message_contains("w0(2)"));
    CHECK_THROWS_MATCHES(Start<>::biased(scale, one, bad), ArgumentError, message_contains("b(2)"));
  }
  bad[1] = nan;
  CHECK_THROWS_MATCHES(Start<>::shaped_logs(scale, bad), NonFiniteError, message_contains("log_w0(1)"));
  CHECK_THROWS_MATCHES(Start<>::biased_logs(scale, one, bad), NonFiniteError, message_contains("log_b(1)"));
  CHECK_THROWS_MATCHES(Start<>::unbalanced(scale, bad, one), NonFiniteError, message_contains("u(1)"));
  CHECK_THROWS_MATCHES(Start<>::unbalanced(scale, Vector<double>::Zero(3), Vector<double>::Zero(3)), ArgumentError,
                       message_contains("u(0)"));
  for (const auto& make : {+[](const Vector<double>& x) { return Start<>::shaped(Scale<>::from_log(0), x); },
                           +[](const Vector<double>& x) { return Start<>::shaped_logs(Scale<>::from_log(0), x); },
                           +[](const Vector<double>& x) { return Start<>::biased(Scale<>::from_log(0), x, x); },
                           +[](const Vector<double>& x) { return Start<>::biased_logs(Scale<>::from_log(0), x, x); },
                           +[](const Vector<double>& x) { return Start<>::unbalanced(Scale<>::from_log(0), x, x); }})
    CHECK_THROWS_MATCHES(make(none), DimensionError, message_contains("empty"));
  CHECK_THROWS_MATCHES(Start<>::biased(scale, one, Vector<double>::Ones(2)), DimensionError,
                       message_contains("b has 2"));
  CHECK_THROWS_AS(Start<>::biased_logs(scale, one, Vector<double>::Ones(2)), DimensionError);
  CHECK_THROWS_AS(Start<>::unbalanced(scale, one, Vector<double>::Ones(2)), DimensionError);

  const DiagonalNet<double> net(3, 4);
  CHECK_THROWS_MATCHES(net.initial_parameters(Start<>::shaped(scale, one)), DimensionError,
                       message_contains("has 3 entries where the net has d = 4"));
  const Vector<double> four = Vector<double>::Ones(4);
  CHECK_THROWS_MATCHES(net.initial_parameters(Start<>::unbalanced(scale, four, four)), ArgumentError,
                       message_contains("TwoLayerDiagonalNet"));
  CHECK_THROWS_MATCHES(net.initial_parameters(Start<>::uniform(Scale<>::from_log(-800))), ArgumentError,
                       message_contains("simulate"));
  CHECK_THROWS_MATCHES(net.initial_parameters(Start<>::shaped_logs(Scale<>::from_log(-400), -395 * four)),
                       ArgumentError, message_contains("w0(0) underflows to zero"));
  CHECK_THROWS_MATCHES(TwoLayerDiagonalNet<double>(4).initial_parameters(Start<>::uniform(Scale<>::from_log(-800))),
                       ArgumentError, message_contains("-800"));
}
