#include "richflow/regularizers/distance_to_initialization.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using richflow::distance_to_initialization;
using richflow::distance_to_initialization_gradient;
using richflow::DistanceToInitialization;
using richflow::Index;
using richflow::RandomStream;
using richflow::Scale;
using richflow::Vector;
using test_support::message_contains;
using test_support::random_vector;
using test_support::signed_log_uniform;
using test_support::ulp_error;
using test_support::within_ulp;

namespace {

struct Oracle {
  long double w_plus;
  long double w_minus;
  long double r;
  long double gradient;
};

/// The nearest point by bisection on w_+ - 1, in long double: nothing in common with the library but the
/// stationarity condition 1/w_+ + 1/w_- = 2.
Oracle oracle(long double z) {
  const auto beta = [](long double p) {
    const long double w_minus = (1.0L + p) / (1.0L + 2.0L * p);
    return ((1.0L + p) - w_minus) * ((1.0L + p) + w_minus);
  };
  // (1+p) - w_- cancels for small p; there 2p(1+p)/(1+2p) is the same difference.
  const auto small_beta = [](long double p) {
    const long double w_minus = (1.0L + p) / (1.0L + 2.0L * p);
    return 2.0L * p * (1.0L + p) / (1.0L + 2.0L * p) * ((1.0L + p) + w_minus);
  };
  long double low = std::ldexp(1.0L, -1100);
  long double high = std::ldexp(1.0L, 600);
  for (int k = 0; k < 12; ++k) {  // to a factor of 2 in the exponent ...
    const long double middle = std::sqrt(low) * std::sqrt(high);
    ((middle < 1.0L ? small_beta(middle) : beta(middle)) > z ? high : low) = middle;
  }
  for (int k = 0; k < 100; ++k) {  // ... and then to rounding
    const long double middle = low + (high - low) / 2.0L;
    ((middle < 1.0L ? small_beta(middle) : beta(middle)) > z ? high : low) = middle;
  }
  const long double p = low + (high - low) / 2.0L;
  const long double q = p / (1.0L + 2.0L * p);
  return {1.0L + p, 1.0L - q, p * p + q * q, p / (1.0L + p)};
}

}  // namespace

TEST_CASE("r agrees with the reference table") {
  const auto table = test_support::reference_table("distance_r.csv");
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double z = table.number(i, "z");
    INFO("z = " << z);
    // The table's z is a decimal; r at the nearest double differs by r' times the difference.
    const long double difference = z - table.exact(i, "z");
    const long double exact = table.exact(i, "r") + distance_to_initialization_gradient(z) * difference;
    CHECK_THAT(distance_to_initialization(z), within_ulp(exact, 6.0L));  // largest seen: see the next test
  }
}

TEST_CASE("r and its derivative are accurate to a few ulp over the whole range") {
  RandomStream random(1);
  long double worst_value = 0.0L;
  long double worst_gradient = 0.0L;
  const std::vector<std::pair<double, double>> ranges = {{1e-150, 1e-10}, {1e-10, 1e-2}, {1e-2, 1.0},    {1.0, 10.0},
                                                         {10.0, 1e6},     {1e6, 1e20},   {1e20, 1.7e308}};
  for (const auto& [low, high] : ranges)
    for (int k = 0; k < 2000; ++k) {
      const double z = signed_log_uniform(random, low, high);
      const Oracle exact = oracle(std::fabs(z));
      worst_value = std::max(worst_value, ulp_error(distance_to_initialization(z), exact.r));
      worst_gradient =
          std::max(worst_gradient, ulp_error(distance_to_initialization_gradient(std::fabs(z)), exact.gradient));
      REQUIRE(distance_to_initialization_gradient(-z) == -distance_to_initialization_gradient(z));
      REQUIRE(distance_to_initialization(-z) == distance_to_initialization(z));
    }
  // Largest seen over 5 * 10^5 points: 5.4 and 2.9 ulp. r is twice as sensitive to s as s itself.
  CHECK(worst_value < 7.0L);
  CHECK(worst_gradient < 4.0L);
}

TEST_CASE("r at the ends of the range") {
  const double tiny = std::numeric_limits<double>::denorm_min();
  const double largest = std::numeric_limits<double>::max();
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(distance_to_initialization(0.0) == 0.0);
  CHECK(distance_to_initialization_gradient(0.0) == 0.0);
  CHECK(distance_to_initialization(tiny) == 0.0);  // z^2/8 underflows
  CHECK(distance_to_initialization(largest) == largest);
  CHECK(distance_to_initialization_gradient(largest) == 1.0);
  CHECK(distance_to_initialization(inf) == inf);
  CHECK(distance_to_initialization_gradient(-inf) == -1.0);
  CHECK(std::isnan(distance_to_initialization(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("r is a root of the quartic of the paper, the smaller one") {
  for (const long double z : {0.1L, 0.7L, 1.0L, 3.0L, 10.0L, 25.0L}) {
    const auto quartic = [z](long double u) {
      return (((u - 6.0L) * u + (12.0L - 2.0L * z * z)) * u - (8.0L + 10.0L * z * z)) * u + z * z + z * z * z * z;
    };
    const long double r = distance_to_initialization(z);
    // at a simple root the sign changes, and below the smallest root the quartic is positive
    CHECK(quartic(r * (1.0L - 1e-12L)) > 0.0L);
    CHECK(quartic(r * (1.0L + 1e-12L)) < 0.0L);
    for (int k = 0; k < 100; ++k) CHECK(quartic(r * static_cast<long double>(k) / 100.0L) > 0.0L);
  }
}

TEST_CASE("r nears its limits at the rates of theory") {
  for (double z = 1e-3; z > 1e-7; z /= 10.0) {
    // z^2/8 (1 - z^2/16 + ...): the remainder is below z^4
    CHECK_THAT(distance_to_initialization(z) / (z * z / 8.0),
               test_support::near(1.0 - z * z / 16.0, 1e-15, z * z * z * z));
  }
  for (double z = 1e4; z < 1e13; z *= 10.0) {
    // |z| - 2 sqrt|z| + 3/2 + O(1/sqrt|z|)
    const double remainder = distance_to_initialization(z) - (z - 2.0 * std::sqrt(z) + 1.5);
    CHECK(std::fabs(remainder) < 1.0 / std::sqrt(z) + 1e-15 * z);
  }
}

TEST_CASE("no nearby weights with the same beta are closer to the initialization") {
  RandomStream random(2);
  for (int k = 0; k < 200; ++k) {
    const double z = signed_log_uniform(random, 0.1, 1e3);
    const double r = distance_to_initialization(z);
    // every (w_+, w_-) with w_+^2 - w_-^2 = z, w_- from a wide interval
    double smallest = std::numeric_limits<double>::infinity();
    for (int j = 0; j <= 2000; ++j) {
      const double small = std::sqrt(std::fabs(z)) * std::sinh(6.0 * j / 2000.0);
      const double large = std::sqrt(std::fabs(z)) * std::cosh(6.0 * j / 2000.0);
      smallest = std::min(smallest, (large - 1.0) * (large - 1.0) + (small - 1.0) * (small - 1.0));
    }
    CHECK(r <= smallest * (1.0 + 1e-14));
    // A grid point lies within 0.0015 of the best angle, where the second derivative of the distance is at
    // most 4 (w_+^2 + w_-^2) <= 8 (1 + sqrt|z|)^2.
    CHECK(smallest <= r + 0.5 * 0.0015 * 0.0015 * 8.1 * std::pow(1.0 + std::sqrt(std::fabs(z)), 2));
  }
}

TEST_CASE("R agrees with the sum of alpha^2 r(beta / alpha^2), for any alpha") {
  // The oracle forms alpha^2 and its inverse in long double, whose range reaches log alpha = -2800.
  RandomStream random(3);
  const Index d = 20;
  for (const double log_alpha : {-700.0, -500.0, -300.0, -50.0, -5.0, -1.0, 0.0, 1.0, 5.0, 50.0, 200.0}) {
    INFO("log_alpha = " << log_alpha);
    const DistanceToInitialization<> R(d, Scale<>::from_log(log_alpha));
    const Vector<double> beta = random_vector(random, d);
    Vector<double> gradient(d);
    R.gradient(beta, gradient);
    const auto weights = R.nearest_weights(beta);
    const long double alpha = std::exp(static_cast<long double>(log_alpha));
    long double value = 0.0L;
    for (Index i = 0; i < d; ++i) {
      const long double z = static_cast<long double>(beta(i)) / (alpha * alpha);
      // Beyond the oracle's range of w_+ (2^600) r(z) is z to far more than long double precision.
      if (std::fabs(z) > 1e300L) {
        value += std::fabs(static_cast<long double>(beta(i)));
        CHECK(gradient(i) == (beta(i) > 0.0 ? 1.0 : -1.0));
      } else {
        const Oracle exact = oracle(std::fabs(z));
        value += alpha * alpha * exact.r;
        // beta exp(-log alpha)^2 carries 3 ulp, s and the weights a few more
        CHECK_THAT(std::fabs(gradient(i)), within_ulp(exact.gradient, 8.0L));
        const double large = beta(i) > 0.0 ? weights.plus(i) : weights.minus(i);
        const double small = beta(i) > 0.0 ? weights.minus(i) : weights.plus(i);
        CHECK_THAT(large, within_ulp(alpha * exact.w_plus, 8.0L));
        CHECK_THAT(small, within_ulp(alpha * exact.w_minus, 8.0L));
      }
    }
    CHECK_THAT(R.value(beta), within_ulp(value, 16.0L));  // a sum of 20 positive terms
  }
}

TEST_CASE("the nearest weights represent beta at the distance R, and are stationary") {
  RandomStream random(4);
  const Index d = 30;
  for (const double log_alpha : {-400.0, -20.0, -3.0, 0.0, 2.0}) {
    const DistanceToInitialization<> R(d, Scale<>::from_log(log_alpha));
    Vector<double> beta = random_vector(random, d);
    beta(0) = 0.0;
    const auto w = R.nearest_weights(beta);
    const double alpha = std::exp(log_alpha);
    double distance = 0.0;
    for (Index i = 0; i < d; ++i) {
      CHECK(w.plus(i) > 0.0);
      CHECK(w.minus(i) > 0.0);
      const double predicted = (w.plus(i) - w.minus(i)) * (w.plus(i) + w.minus(i));
      // the difference of two rounded weights: absolute in the weights' own size
      const double size = std::max(w.plus(i), w.minus(i));
      CHECK_THAT(predicted, test_support::near(beta(i), 0.0, 1e-14 * size * size));
      // stationarity: w_+ - alpha = s w_+, alpha - w_- = s w_-, that is 1/w_+ + 1/w_- = 2/alpha
      CHECK_THAT(1.0 / w.plus(i) + 1.0 / w.minus(i), test_support::near(2.0 / alpha, 1e-14, 0.0));
      distance += std::pow(w.plus(i) - alpha, 2) + std::pow(w.minus(i) - alpha, 2);
    }
    // the distance cancels where alpha is large beside beta
    CHECK_THAT(distance, test_support::near(R.value(beta), 1e-13, 1e-13 * alpha * alpha));
    CHECK(w.plus(0) == w.minus(0));
  }
}

TEST_CASE("the gradient of R is its derivative") {
  // In long double, so that rounding (1e-17 here) is far below the error of the difference quotient.
  RandomStream random(5);
  const Index d = 6;
  for (const long double log_alpha : {-8.0L, -1.0L, 0.0L, 1.0L}) {
    const DistanceToInitialization<long double> R(d, Scale<long double>::from_log(log_alpha));
    Vector<long double> beta(d);
    for (Index i = 0; i < d; ++i) beta(i) = signed_log_uniform(random, 0.5, 2.0);
    const Vector<long double> direction = random_vector(random, d).cast<long double>();
    Vector<long double> gradient(d);
    R.gradient(beta, gradient);
    const auto error = [&](long double h) {
      const long double difference = R.value(beta + h * direction) - R.value(beta - h * direction);
      return std::fabs(difference / (2.0L * h) - gradient.dot(direction));
    };
    // central differences: the error is C h^2 (1 + O(h^2))
    CHECK(error(4e-3L) < 1e-4L);
    CHECK_THAT(static_cast<double>(error(4e-3L) / error(2e-3L)), test_support::near(4.0, 0.0, 0.02));
  }
}

TEST_CASE("R nears the l1 norm polynomially as alpha falls") {
  RandomStream random(6);
  const Vector<double> beta = random_vector(random, 50);
  const double l1 = beta.lpNorm<1>();
  // R = |beta|_1 - 2 alpha sum sqrt|beta_i| + O(alpha^2 d)
  const double slope = 2.0 * beta.cwiseAbs().cwiseSqrt().sum();
  for (const double alpha : {1e-3, 1e-4, 1e-5}) {
    const double gap = l1 - DistanceToInitialization<>(50, Scale<>::from_value(alpha)).value(beta);
    CHECK_THAT(gap, test_support::near(alpha * slope, 1e-10, 3.0 * 50.0 * alpha * alpha));
  }
  CHECK_THAT(DistanceToInitialization<>(50, Scale<>::from_log(-500.0)).value(beta), within_ulp(l1, 50.0L));
}

TEST_CASE("R serves float and long double") {
  const Index d = 3;
  Vector<long double> beta(d);
  beta << 0.5L, -3.0L, 1e-4L;
  const DistanceToInitialization<long double> wide(d, Scale<long double>::from_log(-1.0L));
  const DistanceToInitialization<float> narrow(d, Scale<float>::from_log(-1.0F));
  long double expected = 0.0L;
  const long double c = std::exp(-2.0L);
  for (Index i = 0; i < d; ++i) expected += c * oracle(std::fabs(beta(i)) / c).r;
  // a few ulp of the type itself
  CHECK(std::fabs(wide.value(beta) - expected) < 16.0L * std::numeric_limits<long double>::epsilon() * expected);
  CHECK_THAT(narrow.value(beta.cast<float>()), within_ulp<float>(expected, 8.0L));
  const DistanceToInitialization<float> tiny(d, Scale<float>::from_log(-500.0F));
  CHECK_THAT(tiny.value(beta.cast<float>()), within_ulp<float>(3.5001L, 4.0L));
}

TEST_CASE("a scaled copy is the same function at another alpha") {
  const DistanceToInitialization<> R(2, Scale<>::from_log(-1.0));
  const DistanceToInitialization<> other = R.with_scale(Scale<>::from_log(-7.0));
  const Vector<double> beta = Vector<double>::LinSpaced(2, -1.0, 2.0);
  CHECK(other.dimension() == 2);
  CHECK(other.scale() == Scale<>::from_log(-7.0));
  CHECK(R.scale() == Scale<>::from_log(-1.0));
  CHECK(other.value(beta) == DistanceToInitialization<>(2, Scale<>::from_log(-7.0)).value(beta));
}

TEST_CASE("bad input of R is named") {
  CHECK_THROWS_AS(DistanceToInitialization<>(0, Scale<>::from_log(0.0)), richflow::DimensionError);
  CHECK_THROWS_AS(DistanceToInitialization<>(-3, Scale<>::from_log(0.0)), richflow::DimensionError);
  const DistanceToInitialization<> R(3, Scale<>::from_log(0.0));
  Vector<double> out(3);
  Vector<double> beta = Vector<double>::Zero(2);
  CHECK_THROWS_MATCHES(R.value(beta), richflow::DimensionError, message_contains("beta has 2"));
  CHECK_THROWS_AS(R.gradient(beta, out), richflow::DimensionError);
  CHECK_THROWS_AS(R.nearest_weights(beta), richflow::DimensionError);
  beta = Vector<double>::Zero(3);
  Vector<double> short_out(2);
  CHECK_THROWS_MATCHES(R.gradient(beta, short_out), richflow::DimensionError, message_contains("out"));
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    beta(1) = bad;
    CHECK_THROWS_MATCHES(R.value(beta), richflow::NonFiniteError, message_contains("beta(1)"));
    CHECK_THROWS_AS(R.gradient(beta, out), richflow::NonFiniteError);
    CHECK_THROWS_AS(R.nearest_weights(beta), richflow::NonFiniteError);
  }
  const DistanceToInitialization<> huge(3, Scale<>::from_log(800.0));
  CHECK_THROWS_MATCHES(huge.nearest_weights(Vector<double>::Zero(3)), richflow::ArgumentError,
                       message_contains("log_alpha = 800"));
}
