#include "richflow/regularizers/depth_hypentropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using L = long double;
const std::vector<Index> depths = {3, 4, 5, 6, 10, 20, 100, 1000};

L power_of(Index depth) { return static_cast<L>(depth) / static_cast<L>(depth - 2); }

/// h_D from the distance to the nearer end in long double; only for u where the difference does not cancel.
L h_oracle(Index depth, L u) { return std::pow(1 - u, -power_of(depth)) - std::pow(1 + u, -power_of(depth)); }

/// A random shape whose w0^(2-D), the bounds of z, are within a factor e of 1.
Vector<double> random_shape(RandomStream& random, Index depth, Index d) {
  const double reach = std::exp(1 / static_cast<double>(depth - 2));
  return random_positive_vector(random, d, 1 / reach, reach);
}

/// A random start of each kind, as pairs (a, b), with the map made from it.
struct Case {
  std::string name;
  Vector<double> a;
  Vector<double> b;
  DepthHypentropy<> map;
};

std::vector<Case> cases(RandomStream& random, Index depth, Index d, Scale<> scale) {
  const Vector<double> one = Vector<double>::Ones(d);
  const Vector<double> w0 = random_shape(random, depth, d);
  const Vector<double> a = random_shape(random, depth, d);
  const Vector<double> b = random_shape(random, depth, d);
  return {{"uniform", one, one, DepthHypentropy<>::uniform(depth, d, scale)},
          {"shaped", w0, w0, DepthHypentropy<>::shaped(depth, w0, scale)},
          {"biased", a, b, DepthHypentropy<>::biased(depth, a, b, scale)}};
}

Vector<double> gradient_of(const DepthHypentropy<>& map, const Vector<double>& beta) {
  Vector<double> out(beta.size());
  map.gradient(beta, out);
  return out;
}

Vector<double> mirror_of(const DepthHypentropy<>& map, const Vector<double>& z) {
  Vector<double> beta(z.size()), curvature(z.size());
  map.mirror(z, beta, curvature);
  return beta;
}

}  // namespace

TEST_CASE("q_D and its derivative agree with the reference table", "[regularizers]") {
  const auto table = reference_table("depth_q.csv");
  L worst_value = 0;
  L worst_gradient = 0;
  for (std::size_t i = 0; i < table.size(); ++i) {
    const auto depth = static_cast<Index>(table.number(i, "D"));
    const double z = table.number(i, "z");
    CAPTURE(depth, z);
    // The table's z is a decimal; to first order the value at the nearest double differs by the derivative times the
    // difference, and the derivative by that of a function below z / (2p).
    const L difference = z - table.exact(i, "z");
    const L dq = table.exact(i, "dq");
    const L exact_value = table.exact(i, "q") + dq * difference;
    const L exact_gradient = dq + (std::fabs(z) < 1 ? difference / (2 * power_of(depth)) : 0);
    worst_value = std::max(worst_value, ulp_error(depth_hypentropy(depth, z), exact_value));
    worst_gradient = std::max(worst_gradient, ulp_error(depth_hypentropy_gradient(depth, z), exact_gradient));
  }
  // Each is a handful of elementary functions of one ulp.
  CHECK(worst_value <= 12);
  CHECK(worst_gradient <= 8);
}

TEST_CASE("h_D is accurate to a few ulp and inverted by q_D' over the whole range", "[regularizers][property]") {
  RandomStream random(61);
  for (const Index depth : depths) {
    L worst = 0;
    for (int k = 0; k < 400; ++k) {
      const double u = random.uniform(0.05, 0.999);
      // The exponent p multiplies the relative error of 1 - u in the oracle, far below that of double.
      worst = std::max(worst, ulp_error(depth_hypentropy_mirror(depth, u), h_oracle(depth, u)));
    }
    CAPTURE(depth);
    CHECK(worst <= 12);
    for (int k = 0; k < 400; ++k) {
      const double z = signed_log_uniform(random, 1e-300, 1e300);
      const double u = depth_hypentropy_gradient(depth, z);
      CHECK(std::abs(u) <= 1);
      // Where u has digits left, h must return z; the condition of h is u h'/h = O(p / (1 - u)).
      if (std::abs(u) < 0.99)
        CHECK_THAT(depth_hypentropy_mirror(depth, u),
                   near(z, 16 * eps * static_cast<double>(power_of(depth)) * 100, 0));
    }
  }
}

TEST_CASE("q_D has the limits of theory", "[regularizers]") {
  for (const Index depth : depths) {
    const double p = static_cast<double>(power_of(depth));
    CAPTURE(depth);
    for (double z = 1e-2; z > 1e-150; z /= 1e3)  // z^2 / (4p) with p = D/(D-2), next term z^4
      CHECK_THAT(depth_hypentropy(depth, z), near(z * z / (4 * p), 1e-14 + z * z, 0));
    // |z| - O(z^(2/D)): z u - H with 1 - u = z^(-1/p).
    for (double z = 1e20; z < 1e300; z *= 1e40)
      CHECK_THAT(depth_hypentropy(depth, -z), near(z, 1e-14 + 2 * static_cast<double>(depth) * std::pow(z, -1 / p), 0));
    CHECK(depth_hypentropy(depth, 0.0) == 0.0);
    CHECK(depth_hypentropy(depth, -std::numeric_limits<double>::infinity()) == std::numeric_limits<double>::infinity());
    CHECK(depth_hypentropy_gradient(depth, 0.0) == 0.0);
    CHECK(depth_hypentropy_mirror(depth, 1.0) == std::numeric_limits<double>::infinity());
    CHECK(depth_hypentropy_mirror(depth, -2.0) == -std::numeric_limits<double>::infinity());
    CHECK(std::isnan(depth_hypentropy_mirror(depth, std::numeric_limits<double>::quiet_NaN())));
  }
}

TEST_CASE("the map is the weights of the depth-D flow", "[regularizers][property]") {
  // w_+ = alpha (a^(2-D) - z)^(-1/(D-2)), w_- = alpha (b^(2-D) + z)^(-1/(D-2)): theory, section 4.
  RandomStream random(62);
  for (const Index depth : {3, 5, 10})
    for (const double log_alpha : {-10.0, -1.0, 1.0})
      for (const Case& c : cases(random, depth, 20, Scale<>::from_log(log_alpha))) {
        CAPTURE(depth, log_alpha, c.name);
        const L e = static_cast<L>(depth - 2);
        Vector<double> z(20);
        for (Index i = 0; i < 20; ++i)
          z[i] = random.uniform(-0.9 * std::pow(c.b[i], 2.0 - static_cast<double>(depth)),
                                0.9 * std::pow(c.a[i], 2.0 - static_cast<double>(depth)));
        Vector<double> beta(20), curvature(20);
        c.map.mirror(z, beta, curvature);
        for (Index i = 0; i < 20; ++i) {
          const L plus = std::pow(std::pow(static_cast<L>(c.a[i]), -e) - z[i], -1 / e);
          const L minus = std::pow(std::pow(static_cast<L>(c.b[i]), -e) + z[i], -1 / e);
          const L scale = std::exp(static_cast<L>(depth) * log_alpha);
          const L sizes = std::pow(plus, static_cast<L>(depth)) + std::pow(minus, static_cast<L>(depth));
          const L expected = scale * (std::pow(plus, static_cast<L>(depth)) - std::pow(minus, static_cast<L>(depth)));
          // The distance from the bound, of at least a tenth of the width, carries an ulp or two of the width.
          CHECK(std::fabs(static_cast<L>(beta[i]) - expected) <= 200 * eps * scale * sizes);
          const L slope =
              scale * static_cast<L>(depth) / e *
              (std::pow(plus, static_cast<L>(2 * depth - 2)) + std::pow(minus, static_cast<L>(2 * depth - 2)));
          CHECK(std::fabs(static_cast<L>(curvature[i]) - slope) <= 400 * eps * slope);
        }
      }
}

TEST_CASE("gradient and mirror undo each other at any scale, through the distances from the bounds",
          "[regularizers][property]") {
  RandomStream random(63);
  for (const Index depth : depths)
    for (const double log_alpha_D : {-1000.0, -500.0, -40.0, -3.0, 0.0, 10.0})
      for (const Case& c : cases(random, depth, 30, Scale<>::from_log(log_alpha_D / static_cast<double>(depth)))) {
        CAPTURE(depth, log_alpha_D, c.name);
        if (log_alpha_D * static_cast<double>(depth - 2) / static_cast<double>(depth) < -650) continue;
        Vector<double> beta(30);
        for (Index i = 0; i < 30; ++i) beta[i] = signed_log_uniform(random, 1e-8, 1e3);
        beta[0] = 0;
        Vector<double> z(30), below(30), above(30), back(30), curvature(30);
        c.map.gradient(beta, z, below, above);
        CHECK(below.minCoeff() > 0);
        CHECK(above.minCoeff() > 0);
        CHECK((gradient_of(c.map, beta) - z).norm() == 0.0);
        c.map.mirror(z, below, above, back, curvature);
        // A few ulp; below the range of double through the logarithm, at an ulp per unit of it. In the biased case z
        // is a difference from the center, whose rounding is one of the width.
        const double width = (below + above).maxCoeff();
        for (Index i = 0; i < 30; ++i) {
          const bool is_central = std::min(below[i], above[i]) > 0.25 * (below[i] + above[i]);
          CHECK(std::abs(back[i] - beta[i]) <= (60 + 2 * std::abs(log_alpha_D)) * eps * std::abs(beta[i]) +
                                                   (is_central ? 8 * eps * width * curvature[i] : 0.0));
        }
        Vector<double> below_z(30), above_z(30);
        c.map.bounds(z, below_z, above_z);
        CHECK((below_z - below).cwiseAbs().maxCoeff() <= 8 * eps * width);
        CHECK((above_z - above).cwiseAbs().maxCoeff() <= 8 * eps * width);
      }
}

TEST_CASE("values, gradients and conjugates are derivatives of each other", "[regularizers][property]") {
  // Long double, so that the error of the central difference and not rounding is seen; it falls with h^2.
  RandomStream random(64);
  const Index d = 6;
  for (const Index depth : {3, 4, 10})
    for (const bool biased : {false, true}) {
      const auto scale = Scale<L>::from_log(-0.3L);
      const Vector<L> a = random_shape(random, depth, d).cast<L>();
      const Vector<L> b = random_shape(random, depth, d).cast<L>();
      const auto map =
          biased ? DepthHypentropy<L>::biased(depth, a, b, scale) : DepthHypentropy<L>::shaped(depth, a, scale);
      Vector<L> beta(d);
      for (Index i = 0; i < d; ++i) beta[i] = signed_log_uniform(random, 0.5, 2.0);
      const Vector<L> direction = random_vector(random, d).cast<L>();
      Vector<L> z(d), at(d), curvature(d), high(d), low(d), unused(d);
      map.gradient(beta, z);
      map.mirror(z, at, curvature);
      const Vector<L> in_domain = direction * (map.max_step(z, direction) < 1 ? map.max_step(z, direction) : L(1));
      const auto value_error = [&](L h) {
        return std::fabs((map.value(beta + h * direction) - map.value(beta - h * direction)) / (2 * h) -
                         z.dot(direction));
      };
      const auto conjugate_error = [&](L h) {
        return std::fabs((map.conjugate(z + h * in_domain) - map.conjugate(z - h * in_domain)) / (2 * h) -
                         at.dot(in_domain));
      };
      const auto mirror_error = [&](L h) {
        map.mirror(z + h * in_domain, high, unused);
        map.mirror(z - h * in_domain, low, unused);
        return ((high - low) / (2 * h) - curvature.cwiseProduct(in_domain)).norm();
      };
      CAPTURE(depth, biased);
      CHECK_THAT(static_cast<double>(value_error(4e-3L) / value_error(2e-3L)), near(4.0, 0, 0.1));
      CHECK_THAT(static_cast<double>(conjugate_error(4e-3L) / conjugate_error(2e-3L)), near(4.0, 0, 0.1));
      CHECK_THAT(static_cast<double>(mirror_error(4e-3L) / mirror_error(2e-3L)), near(4.0, 0, 0.1));
      CHECK(mirror_error(1e-4L) <= 1e-4L * curvature.norm());
    }
}

TEST_CASE("Fenchel and Young at depth D, and the conjugate ends at the bounds", "[regularizers][property]") {
  RandomStream random(65);
  for (const Index depth : {3, 5, 10, 100})
    for (const double log_alpha_D : {-30.0, -3.0, 0.0, 8.0})
      for (const Case& c : cases(random, depth, 20, Scale<>::from_log(log_alpha_D / static_cast<double>(depth)))) {
        CAPTURE(depth, log_alpha_D, c.name);
        const Vector<double> beta = random_vector(random, 20);
        const Vector<double> z = gradient_of(c.map, beta);
        const double size = c.map.value(beta) + std::abs(c.map.conjugate(z)) + z.cwiseAbs().dot(beta.cwiseAbs());
        // Q(beta) + Q*(z) = <z, beta>; Q* moves by beta times the rounding of z, at most an ulp of the width.
        CHECK_THAT(c.map.value(beta) + c.map.conjugate(z), near(z.dot(beta), 0, 1e-14 * size));
        for (int k = 0; k < 5; ++k) {
          const Vector<double> direction = random_vector(random, 20);
          const double room = c.map.max_step(z, direction);
          const Vector<double> other = z + random.uniform(0.2, 0.8) * std::min(room, 1.0) * direction;
          CHECK(c.map.value(beta) + c.map.conjugate(other) >= other.dot(beta) - 1e-14 * size);
          CHECK(c.map.conjugate(Vector<double>(z + 1.01 * room * direction)) ==
                std::numeric_limits<double>::infinity());
          CHECK(std::isfinite(mirror_of(c.map, z + 0.99 * room * direction).norm()));
        }
        CHECK(std::abs(c.map.conjugate(Vector<double>::Zero(20))) == 0.0);
      }
}

TEST_CASE("the biased form is the Bregman divergence from beta(0)", "[regularizers]") {
  RandomStream random(66);
  for (const Index depth : {3, 5, 10})
    for (const double log_alpha_D : {-20.0, -2.0, 2.0}) {
      const double log_alpha = log_alpha_D / static_cast<double>(depth);
      const Vector<double> a = random_shape(random, depth, 12);
      const Vector<double> b = random_shape(random, depth, 12);
      const Scale<> scale = Scale<>::from_log(log_alpha);
      const auto biased = DepthHypentropy<>::biased(depth, a, b, scale);
      const double exponent = 2.0 - static_cast<double>(depth);
      const Vector<double> w0 = ((a.array().pow(exponent) + b.array().pow(exponent)) / 2).pow(1 / exponent);
      const auto unbiased = DepthHypentropy<>::shaped(depth, w0, scale);
      const auto D = static_cast<double>(depth);
      const Vector<double> start = std::exp(log_alpha_D) * (a.array().pow(D) - b.array().pow(D));
      CAPTURE(depth, log_alpha_D);
      const double size = std::exp(log_alpha_D);
      CHECK(gradient_of(biased, start).cwiseAbs().maxCoeff() <= 1e-13);
      CHECK((mirror_of(biased, Vector<double>::Zero(12)) - start).cwiseAbs().maxCoeff() <= 1e-12 * start.norm());
      const Vector<double> gradient_at_start = gradient_of(unbiased, start);
      for (const double distance : {1e-3, 0.1, 1.0, 100.0}) {
        const Vector<double> beta = start + distance * size * random_vector(random, 12);
        const double expected = unbiased.value(beta) - unbiased.value(start) - gradient_at_start.dot(beta - start);
        // The definition cancels; the value itself is quadratic in a z with a few ulp of the width.
        const double cancels =
            unbiased.value(beta) + unbiased.value(start) + std::abs(gradient_at_start.dot(beta - start));
        CHECK_THAT(biased.value(beta), near(expected, 1e-11 + 1e-14 / distance, 1e-14 * cancels));
      }
    }
}

TEST_CASE("the shape survives in the rich limit: Q tends to the weighted norm", "[regularizers]") {
  RandomStream random(67);
  for (const Index depth : {3, 5, 10}) {
    const Vector<double> w0 = random_shape(random, depth, 15);
    const Vector<double> beta = random_vector(random, 15);
    const double weighted = (w0.array().pow(2.0 - static_cast<double>(depth)) * beta.array().abs()).sum();
    double last = std::numeric_limits<double>::infinity();
    for (const double log_alpha : {-2.0, -4.0, -8.0}) {
      const double value = DepthHypentropy<>::shaped(depth, w0, Scale<>::from_log(log_alpha)).value(beta);
      const double gap = weighted - value;  // O(alpha^(D-2))
      CHECK(gap > -1e-14);
      CHECK(gap < 1.05 * last * std::exp(-static_cast<double>(depth - 2) * (log_alpha == -8.0 ? 4.0 : 2.0)) + 1e-14);
      last = gap;
    }
  }
}

TEST_CASE("the depth hypentropy refuses bad input by name", "[regularizers]") {
  const Scale<> scale = Scale<>::from_value(0.5);
  CHECK_THROWS_MATCHES(DepthHypentropy<>::uniform(2, 4, scale), ArgumentError, message_contains("depth"));
  CHECK_THROWS_MATCHES(DepthHypentropy<>::uniform(3, 0, scale), DimensionError, message_contains("0"));
  CHECK_THROWS_MATCHES(DepthHypentropy<>::shaped(3, Vector<double>::Zero(2), scale), ArgumentError,
                       message_contains("w0(0)"));
  CHECK_THROWS_MATCHES(DepthHypentropy<>::shaped(1000, Vector<double>::Constant(2, 0.1), scale), ArgumentError,
                       message_contains("1000"));
  CHECK_THROWS_AS(DepthHypentropy<>::biased(3, Vector<double>::Ones(2), Vector<double>::Ones(3), scale),
                  DimensionError);
  CHECK_THROWS_MATCHES(DepthHypentropy<>::uniform(10, 2, Scale<>::from_log(100)), ArgumentError,
                       message_contains("100"));
  CHECK_THROWS_AS(depth_hypentropy(2, 1.0), ArgumentError);
  CHECK_THROWS_AS(depth_hypentropy_gradient(1, 1.0), ArgumentError);
  CHECK_THROWS_AS(depth_hypentropy_mirror(0, 0.5), ArgumentError);
  const auto map = DepthHypentropy<>::uniform(3, 4, scale);
  CHECK_THROWS_AS(map.value(Vector<double>::Zero(3)), DimensionError);
  const Vector<double> zero = Vector<double>::Zero(4);
  Vector<double> out(4), three(3);
  CHECK_THROWS_MATCHES(map.gradient(zero, three, out, out), DimensionError, message_contains("z has 3"));
  CHECK_THROWS_AS(map.gradient(zero, out, three, out), DimensionError);
  CHECK_THROWS_AS(map.gradient(zero, out, out, three), DimensionError);
  CHECK_THROWS_AS(map.bounds(zero, three, out), DimensionError);
  CHECK_THROWS_AS(map.bounds(zero, out, three), DimensionError);
  CHECK_THROWS_MATCHES(map.mirror(zero, three, zero, out, out), DimensionError, message_contains("below has 3"));
  CHECK_THROWS_AS(map.mirror(zero, zero, three, out, out), DimensionError);
  CHECK_THROWS_AS(map.mirror(zero, zero, zero, three, out), DimensionError);
  CHECK_THROWS_AS(map.mirror(zero, zero, zero, out, three), DimensionError);
  CHECK(map.dual_rate() == 2 * 3 * 1 * 0.5);
  CHECK(map.homogeneity() == 3.0);
  CHECK(map.with_scale(Scale<>::from_log(-9)).scale() == Scale<>::from_log(-9));
}

TEST_CASE("the depth hypentropy works in float and long double", "[regularizers]") {
  for (const double z : {1e-6, 0.3, 4.0, 1e6}) {
    const L exact = depth_hypentropy(Index(5), static_cast<L>(z));
    CHECK_THAT(depth_hypentropy(Index(5), z), near(static_cast<double>(exact), 12 * eps, 0));
    const auto narrow = static_cast<float>(z);
    CHECK_THAT(static_cast<double>(depth_hypentropy(Index(5), narrow)),
               near(static_cast<double>(depth_hypentropy(Index(5), static_cast<L>(narrow))), 12 * 1.2e-7, 0));
  }
}
