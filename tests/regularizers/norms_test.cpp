#include "richflow/regularizers/norms.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using richflow::Index;
using richflow::L1Norm;
using richflow::L2Norm;
using richflow::RandomStream;
using richflow::Scale;
using richflow::scale_for_l1;
using richflow::scale_for_l2;
using richflow::Vector;
using test_support::message_contains;
using test_support::near;
using test_support::random_positive_vector;
using test_support::random_vector;

namespace {

/// The limit of the squared net's flow from w = alpha on one sample, `<x, beta> = y`: beta = 2 alpha^2 sinh(x nu)
/// with the nu found by bisection. Works from log alpha.
Vector<double> single_sample_limit(const Vector<double>& x, double y, double log_alpha) {
  const auto beta = [&](double nu) {
    Vector<double> b(x.size());
    for (Index i = 0; i < x.size(); ++i)
      b(i) = std::exp(x(i) * nu + 2.0 * log_alpha) - std::exp(-x(i) * nu + 2.0 * log_alpha);
    return b;
  };
  double low = 0.0;
  double high = 1e6;
  for (int k = 0; k < 200; ++k) {
    const double middle = 0.5 * (low + high);
    (x.dot(beta(middle)) < y ? low : high) = middle;
  }
  return beta(low);
}

}  // namespace

TEST_CASE("norms have their textbook values") {
  Vector<double> beta(3);
  beta << 3.0, -4.0, 0.0;
  Vector<double> weights(3);
  weights << 1.0, 0.25, 7.0;
  CHECK(richflow::l1_norm(beta) == 7.0);
  CHECK(richflow::l2_norm(beta) == 5.0);
  CHECK(L1Norm<>(3).value(beta) == 7.0);
  CHECK(L2Norm<>(3).value(beta) == 5.0);
  CHECK(L1Norm<>(weights).value(beta) == 4.0);
  CHECK_THAT(L2Norm<>(weights).value(beta), near(std::sqrt(13.0), 1e-15, 0.0));
  CHECK(L1Norm<>(weights).dimension() == 3);
  CHECK(L2Norm<>(weights).dimension() == 3);

  Vector<double> gradient(3);
  L1Norm<>(3).gradient(beta, gradient);
  CHECK(gradient == Eigen::Vector3d(1.0, -1.0, 0.0));
  L1Norm<>(weights).gradient(beta, gradient);
  CHECK(gradient == Eigen::Vector3d(1.0, -0.25, 0.0));
  L2Norm<>(3).gradient(beta, gradient);
  CHECK((gradient - Eigen::Vector3d(0.6, -0.8, 0.0)).norm() < 1e-15);
  L2Norm<>(3).gradient(Vector<double>::Zero(3), gradient);
  CHECK(gradient == Eigen::Vector3d::Zero());
}

TEST_CASE("norms do not overflow or underflow on the way") {
  const Vector<double> pattern = (Vector<double>(2) << 3.0, 4.0).finished();
  for (const double size : {1e-300, 1e-160, 1e160, 1e300}) {
    CHECK_THAT(L2Norm<>(2).value(size * pattern), near(5.0 * size, 1e-15, 0.0));
    Vector<double> gradient(2);
    L2Norm<>(2).gradient(size * pattern, gradient);
    CHECK((gradient - pattern / 5.0).norm() < 1e-15);
    CHECK_THAT(L1Norm<>(2).value(size * pattern), near(7.0 * size, 1e-15, 0.0));
  }
}

TEST_CASE("norms are norms and their gradients are derivatives") {
  RandomStream random(1);
  const Index d = 12;
  for (int k = 0; k < 20; ++k) {
    const Vector<double> weights = random_positive_vector(random, d, 0.1, 3.0);
    const Vector<double> a = random_vector(random, d);
    const Vector<double> b = random_vector(random, d);
    const auto check = [&](const auto& norm) {
      const double rounding = 1e-14;  // sums of twelve terms of order 1
      CHECK(norm.value(a + b) <= norm.value(a) + norm.value(b) + rounding);
      CHECK_THAT(norm.value(-3.0 * a), near(3.0 * norm.value(a), rounding, 0.0));
      Vector<double> gradient(d);
      norm.gradient(a, gradient);
      CHECK_THAT(gradient.dot(a), near(norm.value(a), rounding, 0.0));         // Euler, degree 1
      CHECK(norm.value(b) >= norm.value(a) + gradient.dot(b - a) - rounding);  // subgradient
      // central differences inside one orthant: error h^2 and rounding 1e-15 / h
      const double h = 1e-5 * a.cwiseAbs().minCoeff();
      const double slope = (norm.value(a + h * b) - norm.value(a - h * b)) / (2.0 * h);
      if (h > 1e-8) CHECK_THAT(slope, near(gradient.dot(b), 1e-5, 1e-5));
    };
    check(L1Norm<>(d));
    check(L2Norm<>(d));
    check(L1Norm<>(weights));
    check(L2Norm<>(weights));
  }
}

TEST_CASE("bad input of the norms is named") {
  CHECK_THROWS_AS(L1Norm<>(0), richflow::DimensionError);
  CHECK_THROWS_AS(L2Norm<>(-1), richflow::DimensionError);
  CHECK_THROWS_AS(L1Norm<>(Vector<double>()), richflow::DimensionError);
  Vector<double> weights = Vector<double>::Ones(3);
  for (const double bad : {0.0, -1.0}) {
    weights(1) = bad;
    CHECK_THROWS_MATCHES(L1Norm<>(weights), richflow::ArgumentError, message_contains("weights(1)"));
    CHECK_THROWS_MATCHES(L2Norm<>(weights), richflow::ArgumentError, message_contains("weights(1)"));
  }
  weights(1) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(L1Norm<>(weights), richflow::NonFiniteError);
  CHECK_THROWS_AS(L2Norm<>(weights), richflow::NonFiniteError);
  Vector<double> out(3);
  CHECK_THROWS_AS(L1Norm<>(3).value(Vector<double>::Zero(2)), richflow::DimensionError);
  CHECK_THROWS_AS(L2Norm<>(3).value(Vector<double>::Zero(4)), richflow::DimensionError);
  CHECK_THROWS_AS(L1Norm<>(2).gradient(Vector<double>::Zero(2), out), richflow::DimensionError);
  CHECK_THROWS_AS(L2Norm<>(2).gradient(Vector<double>::Zero(2), out), richflow::DimensionError);
}

TEST_CASE("the two scale bounds are the formulas of the theorem") {
  // |b1|_1 = 2, d = 10, epsilon = 1: min{8^-3/2... = (2 * 2 * 2)^(-3/2), exp(-5)}
  CHECK_THAT(scale_for_l1(2.0, 10, 1.0).log(), near(-5.0, 1e-15, 0.0));
  CHECK_THAT(scale_for_l1(2.0, 4, 1.0).log(), near(-1.5 * std::log(8.0), 1e-15, 0.0));
  CHECK_THAT(scale_for_l2(3.0, 2.0).log(), near(0.5 * std::log(2.0 * 3.0 * 2.0 * 3.0), 1e-15, 0.0));
  // far below the range of double
  CHECK_THAT(scale_for_l1(1.0, 1000, 0.01).log(), near(-1e5, 1e-15, 0.0));
  CHECK(scale_for_l1(1.0, 1000, 0.01).value() == 0.0);
  // other scalars
  CHECK(std::fabs(scale_for_l1(2.0L, 10, 1.0L).log() + 5.0L) < 1e-18L);
  CHECK(std::fabs(scale_for_l2(3.0F, 2.0F).log() - 0.5F * std::log(36.0F)) < 1e-6F);
}

TEST_CASE("at the two scale bounds the limit of the flow keeps the theorem's promise") {
  RandomStream random(2);
  for (int k = 0; k < 40; ++k) {
    const Index d = 2 + k % 5;
    const Vector<double> x = random_vector(random, d).cwiseAbs();
    const double y = test_support::log_uniform(random, 0.1, 10.0);
    const double l1 = y / x.maxCoeff();  // the minimum-l1 interpolator has one entry
    const double l2 = y / x.norm();      // the minimum-l2 interpolator is along x
    for (const double epsilon : {0.05, 0.3, 1.0}) {
      INFO("d = " << d << ", epsilon = " << epsilon);
      const Vector<double> rich = single_sample_limit(x, y, scale_for_l1(l1, d, epsilon).log());
      CHECK_THAT(x.dot(rich), near(y, 1e-9, 0.0));  // exponents up to 1e4 cost four digits
      CHECK(richflow::l1_norm(rich) <= (1.0 + epsilon) * l1);
      const Vector<double> kernel = single_sample_limit(x, y, scale_for_l2(l2, epsilon).log());
      CHECK_THAT(x.dot(kernel), near(y, 1e-9, 0.0));
      CHECK(kernel.squaredNorm() <= (1.0 + epsilon) * l2 * l2);
      // The promise is not empty: neither limit is the minimizer itself.
      CHECK(richflow::l1_norm(rich) >= l1 * (1.0 - 1e-9));
      CHECK(kernel.norm() >= l2 * (1.0 - 1e-9));
    }
  }
}

TEST_CASE("bad input of the scale bounds is named") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, nan, inf}) {
    CHECK_THROWS_MATCHES(scale_for_l1(bad, 10, 0.5), richflow::ArgumentError, message_contains("l1"));
    CHECK_THROWS_MATCHES(scale_for_l2(bad, 0.5), richflow::ArgumentError, message_contains("l2"));
    CHECK_THROWS_MATCHES(scale_for_l1(1.0, 10, bad), richflow::ArgumentError, message_contains("epsilon"));
    CHECK_THROWS_MATCHES(scale_for_l2(1.0, bad), richflow::ArgumentError, message_contains("epsilon"));
  }
  CHECK_THROWS_AS(scale_for_l1(1.0, 10, 10.0), richflow::ArgumentError);  // epsilon < d
  CHECK_THROWS_AS(scale_for_l1(1.0, 0, 0.5), richflow::DimensionError);
}
