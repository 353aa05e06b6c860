#include "richflow/regularizers/hypentropy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using richflow::Hypentropy;
using richflow::hypentropy;
using richflow::hypentropy_gradient;
using richflow::Index;
using richflow::RandomStream;
using richflow::Scale;
using richflow::Vector;
using test_support::eps;
using test_support::log_uniform;
using test_support::message_contains;
using test_support::near;
using test_support::random_positive_vector;
using test_support::random_vector;
using test_support::signed_log_uniform;
using test_support::ulp_error;
using test_support::within_ulp;

namespace {

/// q(z) as the integral that defines it, in long double: Romberg's rule for moderate z (exact to rounding
/// there: it meets the closed form at z = 2), the series below, the closed form above.
long double q_oracle(long double z) {
  z = std::fabs(z);
  if (z < 1e-4L) return z * z / 4.0L * (1.0L - z * z / 48.0L);
  if (z > 1e10L) return z * (std::log(z) - 1.0L) + 2.0L;
  if (z > 2.0L) return 2.0L - std::sqrt(4.0L + z * z) + z * std::asinh(z / 2.0L);
  const auto integrand = [](long double u) { return std::asinh(u / 2.0L); };
  constexpr std::size_t levels = 9;
  std::array<long double, levels> previous{};
  std::array<long double, levels> current{};
  previous[0] = z * (integrand(0.0L) + integrand(z)) / 2.0L;
  long double h = z;
  for (std::size_t k = 1; k < levels; ++k) {
    h /= 2.0L;
    long double sum = 0.0L;
    for (int i = 1; i < (1 << k); i += 2) sum += integrand(h * static_cast<long double>(i));
    current[0] = previous[0] / 2.0L + h * sum;
    long double power = 4.0L;
    for (std::size_t j = 1; j <= k; ++j, power *= 4.0L)
      current[j] = current[j - 1] + (current[j - 1] - previous[j - 1]) / (power - 1.0L);
    previous = current;
  }
  return previous[levels - 1];
}

/// w_+(0) = alpha a, w_-(0) = alpha b of each coordinate, and the map made from them.
struct HypentropyCase {
  std::string name;
  Vector<double> a;
  Vector<double> b;
  Hypentropy<> map;
};

/// The three ways of initializing, with random shapes.
std::vector<HypentropyCase> cases(RandomStream& random, Index d, Scale<> scale) {
  const Vector<double> one = Vector<double>::Ones(d);
  const Vector<double> w0 = random_positive_vector(random, d, 0.3, 3.0);
  const Vector<double> a = random_positive_vector(random, d, 0.3, 3.0);
  const Vector<double> b = random_positive_vector(random, d, 0.3, 3.0);
  return {{"uniform", one, one, Hypentropy<>::uniform(d, scale)},
          {"shaped", w0, w0, Hypentropy<>::shaped(w0, scale)},
          {"biased", a, b, Hypentropy<>::biased(a, b, scale)}};
}

Vector<double> gradient_of(const Hypentropy<>& map, const Vector<double>& beta) {
  Vector<double> out(beta.size());
  map.gradient(beta, out);
  return out;
}

std::pair<Vector<double>, Vector<double>> mirror_of(const Hypentropy<>& map, const Vector<double>& z) {
  std::pair<Vector<double>, Vector<double>> out{Vector<double>(z.size()), Vector<double>(z.size())};
  map.mirror(z, out.first, out.second);
  return out;
}

}  // namespace

TEST_CASE("q and q' agree with the reference table") {
  const auto table = test_support::reference_table("hypentropy.csv");
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double z = table.number(i, "z");
    INFO("z = " << z);
    // The table's z is a decimal; to first order the value at the nearest double differs by the derivative
    // times the difference.
    const long double difference = z - table.exact(i, "z");
    const long double dq = table.exact(i, "dq");
    CHECK_THAT(hypentropy(z), within_ulp(table.exact(i, "q") + dq * difference, 7.0L));
    const long double curvature = 1.0L / std::hypot(2.0L, static_cast<long double>(z));
    CHECK_THAT(hypentropy_gradient(z), within_ulp(dq + curvature * difference, 2.0L));
  }
}

TEST_CASE("q and q' are accurate to a few ulp over the whole range") {
  RandomStream random(1);
  long double worst_value = 0.0L;
  long double worst_gradient = 0.0L;
  const std::vector<std::pair<double, double>> ranges = {{1e-150, 1e-15}, {1e-15, 1e-4}, {1e-4, 0.1}, {0.1, 1.0},
                                                         {1.0, 10.0},     {10.0, 1e6},   {1e6, 1e20}, {1e20, 1e305}};
  for (const auto& [low, high] : ranges)
    for (int k = 0; k < 500; ++k) {
      const double z = signed_log_uniform(random, low, high);
      worst_value = std::max(worst_value, ulp_error(hypentropy(z), q_oracle(z)));
      const long double exact = std::asinh(static_cast<long double>(z) / 2.0L);
      worst_gradient = std::max(worst_gradient, ulp_error(hypentropy_gradient(z), exact));
    }
  // Largest seen over 2 * 10^5 points: 5.1 and 1.5 ulp (that of the library's asinh).
  CHECK(worst_value < 7.0L);
  CHECK(worst_gradient < 2.0L);
}

TEST_CASE("q at the ends of the range") {
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(hypentropy(0.0) == 0.0);
  CHECK(hypentropy_gradient(0.0) == 0.0);
  CHECK(hypentropy(1e-200) == 0.0);  // z^2/4 underflows
  CHECK(hypentropy(std::numeric_limits<double>::max()) == inf);
  CHECK(hypentropy(-inf) == inf);
  CHECK(hypentropy_gradient(-inf) == -inf);
  CHECK(std::isnan(hypentropy(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("q has the limits of theory") {
  for (double z = 1e-2; z > 1e-6; z /= 10.0)  // z^2/4 (1 - z^2/48 + z^4/640 - ...)
    CHECK_THAT(hypentropy(z) / (z * z / 4.0), near(1.0 - z * z / 48.0, 2e-15, z * z * z * z / 640.0));
  for (double z = 1e2; z < 1e8; z *= 10.0)  // |z| log|z| - |z| + 2 - 1/|z| + ...: not |z| log|z| alone
    CHECK_THAT(hypentropy(-z), near(z * std::log(z) - z + 2.0, 1e-15, 1.1 / z));
}

TEST_CASE("q in float and long double has that type's accuracy") {
  RandomStream random(2);
  for (int k = 0; k < 2000; ++k) {
    const double z = signed_log_uniform(random, 1e-12, 1e12);
    const auto narrow = static_cast<float>(z);
    CHECK_THAT(hypentropy(narrow), within_ulp<float>(q_oracle(narrow), 7.0L));
    const long double wide = z;
    // largest seen: 6.9 epsilon, of which the oracle has a part
    CHECK(std::fabs(hypentropy(wide) - q_oracle(wide)) <=
          10.0L * std::numeric_limits<long double>::epsilon() * q_oracle(wide));
  }
}

TEST_CASE("Q and its gradient agree with the reference table from log alpha = -1000 to 100") {
  const auto table = test_support::reference_table("hypentropy_scaled.csv");
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double log_alpha = table.number(i, "log_alpha");
    const Vector<double> beta = Vector<double>::Constant(1, table.number(i, "beta"));
    INFO("log_alpha = " << log_alpha << ", beta = " << beta(0));
    const Hypentropy<> map = Hypentropy<>::uniform(1, Scale<>::from_log(log_alpha));
    const long double difference = beta(0) - table.exact(i, "beta");
    const long double dQ = table.exact(i, "dQ");
    const long double curvature = std::hypot(static_cast<long double>(beta(0)), 2.0L * std::exp(2.0L * log_alpha));
    // Largest seen: 3.5 and 1.1 ulp.
    CHECK_THAT(map.value(beta), within_ulp(table.exact(i, "Q") + dQ * difference, 6.0L));
    CHECK_THAT(gradient_of(map, beta)(0), within_ulp(dQ + difference / curvature, 3.0L));
  }
}

TEST_CASE("Q, its gradient and the mirror are accurate for any shape and alpha") {
  // The oracle forms c = alpha^2 w0^2 in long double, whose range reaches log alpha = -2800.
  RandomStream random(3);
  for (const double log_alpha :
       {-1000.0, -500.0, -300.0, -100.0, -20.0, -5.0, -1.0, 0.0, 1.0, 5.0, 20.0, 100.0, 300.0}) {
    INFO("log_alpha = " << log_alpha);
    const Index d = 200;
    const Vector<double> w0 = random_positive_vector(random, d, 0.3, 3.0);
    for (const bool uniform : {true, false}) {
      const Scale<> scale = Scale<>::from_log(log_alpha);
      const Hypentropy<> map = uniform ? Hypentropy<>::uniform(d, scale) : Hypentropy<>::shaped(w0, scale);
      Vector<double> beta(d);
      for (Index i = 0; i < d; ++i) beta(i) = signed_log_uniform(random, 1e-6, 1e3);
      const Vector<double> z = gradient_of(map, beta);
      const auto [mirrored, curvature] = mirror_of(map, z);
      long double sum = 0.0L;
      for (Index i = 0; i < d; ++i) {
        const long double root = std::exp(static_cast<long double>(log_alpha)) * (uniform ? 1.0L : w0(i));
        const long double c = root * root;
        const long double x = beta(i) / c;
        sum += c * q_oracle(x);
        // Seen over 10^5 points: at most 3.8 ulp.
        CHECK_THAT(z(i), within_ulp(std::asinh(x / 2.0L), 6.0L));
        // exp loses as many half ulp as its argument has units, and here that is z +- log c
        const long double bound = 6.0L + std::fabs(z(i)) + (std::fabs(z(i)) < 1.0 ? 0.0L : 2.0L * std::fabs(log_alpha));
        CHECK_THAT(mirrored(i), within_ulp(2.0L * c * std::sinh(static_cast<long double>(z(i))), bound));
        CHECK_THAT(curvature(i), within_ulp(2.0L * c * std::cosh(static_cast<long double>(z(i))), bound));
      }
      // 200 positive terms of at most 8 ulp; the sum's own rounding is below 200/2 ulp and mostly averages out
      CHECK_THAT(map.value(beta), within_ulp(sum, 20.0L));
    }
  }
}

TEST_CASE("the gradient and the mirror undo each other") {
  RandomStream random(4);
  for (const double log_alpha : {-500.0, -40.0, -3.0, 0.0, 2.0, 20.0}) {
    const Index d = 50;
    for (const HypentropyCase& c : cases(random, d, Scale<>::from_log(log_alpha))) {
      INFO(c.name << ", log_alpha = " << log_alpha);
      Vector<double> beta = random_vector(random, d);
      beta(0) = 0.0;
      const auto [back, curvature] = mirror_of(c.map, gradient_of(c.map, beta));
      // An error of eps |z| in z moves beta by eps |z| curvature; |z| reaches 2 |log alpha| + a few.
      for (Index i = 0; i < d; ++i)
        CHECK(std::fabs(back(i) - beta(i)) <= (8.0 + 4.0 * std::fabs(log_alpha)) * eps * curvature(i));

      // Around the z of betas of order 1, which neither overflow nor underflow.
      Vector<double> z = 3.0 * random_vector(random, d);
      for (Index i = 0; i < d; ++i) z(i) += (z(i) < 0.0 ? -2.0 : 2.0) * std::max(0.0, -log_alpha);
      const Vector<double> z_back = gradient_of(c.map, mirror_of(c.map, z).first);
      // An ulp of beta is tanh(z) ulp in z, and log alpha enters by its own ulp.
      for (Index i = 0; i < d; ++i)
        CHECK(std::fabs(z_back(i) - z(i)) <= (16.0 + 4.0 * std::fabs(log_alpha)) * eps * (1.0 + std::fabs(z(i))));
    }
  }
}

TEST_CASE("the mirror is the weights of the flow: alpha^2 (a^2 e^z - b^2 e^-z)") {
  RandomStream random(5);
  const Index d = 40;
  for (const double log_alpha : {-400.0, -2.0, 0.0, 3.0})
    for (const HypentropyCase& c : cases(random, d, Scale<>::from_log(log_alpha))) {
      INFO(c.name << ", log_alpha = " << log_alpha);
      const Vector<double> z = 4.0 * random_vector(random, d);
      const auto [beta, curvature] = mirror_of(c.map, z);
      const long double alpha2 = std::exp(2.0L * log_alpha);
      for (Index i = 0; i < d; ++i) {
        const long double plus = alpha2 * c.a(i) * c.a(i) * std::exp(static_cast<long double>(z(i)));
        const long double minus = alpha2 * c.b(i) * c.b(i) * std::exp(-static_cast<long double>(z(i)));
        // c through its logarithm: half an ulp of |log c| units, twice
        const auto bound = static_cast<double>((2.0L * std::fabs(log_alpha) + 40.0L) * 1.2e-16L * (plus + minus));
        if (plus + minus < 1e-290L) continue;  // underflow is absolute
        CHECK_THAT(beta(i), near(static_cast<double>(plus - minus), 0.0, bound));
        CHECK_THAT(curvature(i), near(static_cast<double>(plus + minus), 0.0, bound));
      }
    }
}

TEST_CASE("derivatives agree with central differences, whose error falls with the square of the step") {
  // In long double, so that rounding is far below the error of the difference quotient.
  using L = long double;
  RandomStream random(6);
  const Index d = 5;
  for (const L log_alpha : {-6.0L, -1.0L, 0.0L, 1.0L})
    for (const bool biased : {false, true}) {
      INFO("log_alpha = " << static_cast<double>(log_alpha) << (biased ? ", biased" : ", uniform"));
      const auto scale = Scale<L>::from_log(log_alpha);
      const Vector<L> a = random_positive_vector(random, d, 0.5, 2.0).cast<L>();
      const Vector<L> b = random_positive_vector(random, d, 0.5, 2.0).cast<L>();
      const auto map = biased ? Hypentropy<L>::biased(a, b, scale) : Hypentropy<L>::uniform(d, scale);
      Vector<L> beta(d);
      for (Index i = 0; i < d; ++i) beta(i) = signed_log_uniform(random, 0.5, 2.0);
      const Vector<L> direction = random_vector(random, d).cast<L>();
      Vector<L> z(d), mirrored(d), curvature(d), low(d), high(d), unused(d);
      map.gradient(beta, z);
      map.mirror(z, mirrored, curvature);

      const auto value_error = [&](L h) {
        const L difference = map.value(beta + h * direction) - map.value(beta - h * direction);
        return std::fabs(difference / (2.0L * h) - z.dot(direction));
      };
      CHECK(value_error(4e-3L) < 1e-3L);
      CHECK_THAT(static_cast<double>(value_error(4e-3L) / value_error(2e-3L)), near(4.0, 0.0, 0.05));

      const auto conjugate_error = [&](L h) {
        const L difference = map.conjugate(z + h * direction) - map.conjugate(z - h * direction);
        return std::fabs(difference / (2.0L * h) - mirrored.dot(direction));
      };
      CHECK(conjugate_error(4e-3L) < 1e-3L);
      CHECK_THAT(static_cast<double>(conjugate_error(4e-3L) / conjugate_error(2e-3L)), near(4.0, 0.0, 0.05));

      const auto curvature_error = [&](L h) {
        map.mirror(z + h * Vector<L>::Ones(d), high, unused);
        map.mirror(z - h * Vector<L>::Ones(d), low, unused);
        return ((high - low) / (2.0L * h) - curvature).norm() / curvature.norm();
      };
      CHECK(curvature_error(4e-3L) < 1e-5L);
      CHECK_THAT(static_cast<double>(curvature_error(4e-3L) / curvature_error(2e-3L)), near(4.0, 0.0, 0.05));

      // the mirror at constant z is homogeneous in alpha
      const L factor = std::exp(map.homogeneity() * 0.75L);
      map.with_scale(scale.shifted(0.75L)).mirror(z, high, unused);
      CHECK((high - factor * mirrored).norm() < 1e-16L * high.norm());
    }
}

TEST_CASE("the conjugate meets Fenchel and Young") {
  RandomStream random(7);
  const Index d = 30;
  for (const double log_alpha : {-500.0, -30.0, -2.0, 0.0, 2.0, 10.0})
    for (const HypentropyCase& c : cases(random, d, Scale<>::from_log(log_alpha))) {
      INFO(c.name << ", log_alpha = " << log_alpha);
      const Vector<double> beta = random_vector(random, d);
      const Vector<double> z = gradient_of(c.map, beta);
      // Q(beta) + Q*(z) = <z, beta> at z = grad Q(beta). Q* moves by beta eps |z|; sums of 30 terms.
      const double size = c.map.value(beta) + std::fabs(c.map.conjugate(z)) + z.cwiseAbs().dot(beta.cwiseAbs());
      CHECK_THAT(c.map.value(beta) + c.map.conjugate(z),
                 near(z.dot(beta), 0.0, (1e-15 * (16.0 + 0.5 * std::fabs(log_alpha))) * size));
      // ... and > elsewhere
      for (int k = 0; k < 10; ++k) {
        const Vector<double> other = z + random_vector(random, d);
        CHECK(c.map.value(beta) + c.map.conjugate(other) > other.dot(beta));
      }
      CHECK(c.map.conjugate(Vector<double>::Zero(d)) == 0.0);
    }
}

TEST_CASE("the conjugate keeps its digits near 0") {
  // Q*(z) = sum 2 c (cosh z - 1) for a = b: the plain difference is 0 at z = 1e-9.
  for (const double log_alpha : {-300.0, 0.0, 5.0, 100.0}) {
    const Hypentropy<> map = Hypentropy<>::uniform(1, Scale<>::from_log(log_alpha));
    for (double z = 1e-12; z < 30.0; z *= 3.7) {
      const long double s = std::sinh(static_cast<long double>(z) / 2.0L);
      const long double exact = 4.0L * std::exp(2.0L * log_alpha) * s * s;
      // beyond z = 20 through log c, at half an ulp per unit of |log c|
      const long double bound = z < 20.0 ? 8.0L : 8.0L + 2.0L * std::fabs(log_alpha);
      CHECK_THAT(map.conjugate(Vector<double>::Constant(1, z)), within_ulp(exact, bound));
    }
  }
}

TEST_CASE("the biased form is the Bregman divergence from the initial beta") {
  RandomStream random(8);
  const Index d = 12;
  for (const double log_alpha : {-20.0, -2.0, 0.0, 2.0}) {
    const Vector<double> a = random_positive_vector(random, d, 0.3, 3.0);
    Vector<double> b = random_positive_vector(random, d, 0.3, 3.0);
    b(0) = a(0);
    const Hypentropy<> map = Hypentropy<>::biased(a, b, Scale<>::from_log(log_alpha));
    const double alpha2 = std::exp(2.0 * log_alpha);
    const Vector<double> start = alpha2 * (a.cwiseAbs2() - b.cwiseAbs2());
    INFO("log_alpha = " << log_alpha);

    // at beta(0): value 0, gradient 0 (to the rounding of arcsinh(...) - log(a/b), both of order 1)
    CHECK(gradient_of(map, start).cwiseAbs().maxCoeff() < 2e-15);
    CHECK(map.value(start) < 1e-28 * alpha2);
    CHECK((mirror_of(map, Vector<double>::Zero(d)).first - start).cwiseAbs().maxCoeff() < 1e-14 * alpha2);

    // Against the definition in long double; at distances from 1e-2 of the start's size to far away.
    for (const double distance : {1e-2, 0.3, 1.0, 30.0, 1e6}) {
      const Vector<double> beta = start + distance * alpha2 * random_vector(random, d);
      long double exact = 0.0L;
      long double size = 0.0L;
      for (Index i = 0; i < d; ++i) {
        const long double c = std::exp(2.0L * log_alpha) * a(i) * b(i);
        const long double beta0 = std::exp(2.0L * log_alpha) *
                                  (static_cast<long double>(a(i)) * a(i) - static_cast<long double>(b(i)) * b(i));
        const long double z0 = std::asinh(beta0 / (2.0L * c));
        exact += c * q_oracle(beta(i) / c) - c * q_oracle(beta0 / c) - z0 * (beta(i) - beta0);
        size += c * q_oracle(beta(i) / c) + c * q_oracle(beta0 / c);
      }
      // The value is quadratic in z - z(0), which carries an absolute error of a few eps: 2 * 2e-15 / distance;
      // the oracle itself cancels from `size`, at 1e-19 each.
      const auto bound = static_cast<double>(exact) * (2e-14 + 8e-15 / distance) + static_cast<double>(size) * 2e-18;
      CHECK_THAT(map.value(beta), near(static_cast<double>(exact), 0.0, bound));
    }
  }
}

TEST_CASE("a biased form without bias is the shaped form, and a constant shape a shift of alpha") {
  RandomStream random(9);
  const Index d = 20;
  for (const double log_alpha : {-200.0, -3.0, 0.0, 4.0}) {
    INFO("log_alpha = " << log_alpha);
    const Scale<> scale = Scale<>::from_log(log_alpha);
    const Vector<double> w0 = random_positive_vector(random, d, 0.3, 3.0);
    const Vector<double> beta = random_vector(random, d);
    const Hypentropy<> shaped = Hypentropy<>::shaped(w0, scale);
    const Hypentropy<> unbiased = Hypentropy<>::biased(w0, w0, scale);
    CHECK_THAT(unbiased.value(beta), near(shaped.value(beta), 4e-14, 0.0));
    CHECK((gradient_of(unbiased, beta) - gradient_of(shaped, beta)).norm() < 4e-15 * gradient_of(shaped, beta).norm());

    const Hypentropy<> constant = Hypentropy<>::shaped(Vector<double>::Constant(d, std::exp(1.5)), scale);
    const Hypentropy<> shifted = Hypentropy<>::uniform(d, scale.shifted(1.5));
    CHECK_THAT(constant.value(beta), near(shifted.value(beta), 4e-15, 0.0));
    CHECK((gradient_of(constant, beta) - gradient_of(shifted, beta)).norm() <
          4e-15 * gradient_of(shifted, beta).norm());
  }
}

TEST_CASE("Q tends to a weighted l2 norm for large alpha and to the l1 norm for small") {
  RandomStream random(10);
  const Index d = 25;
  const Vector<double> w0 = random_positive_vector(random, d, 0.3, 3.0);
  const Vector<double> beta = random_vector(random, d);
  for (const double alpha : {1e2, 1e3, 1e4}) {
    const double l2 = (beta.array().square() / (4.0 * alpha * alpha * w0.array().square())).sum();
    // relative remainder z^2/48 with z = beta / (alpha w0)^2
    const double z = (beta.array() / (alpha * alpha * w0.array().square())).abs().maxCoeff();
    CHECK_THAT(Hypentropy<>::shaped(w0, Scale<>::from_value(alpha)).value(beta), near(l2, 1e-14 + z * z / 48.0, 0.0));
  }
  // Q / log(1/alpha^2) = |beta|_1 + (sum |beta| (log|beta| - 1 - 2 log w0)) / log(1/alpha^2) + ..., whatever w0
  const double l1 = beta.lpNorm<1>();
  const double correction = (beta.array().abs() * (beta.array().abs().log() - 1.0 - 2.0 * w0.array().log())).sum();
  for (const double log_alpha : {-50.0, -500.0, -5000.0, -50000.0}) {
    const double q = Hypentropy<>::shaped(w0, Scale<>::from_log(log_alpha)).value(beta);
    CHECK_THAT(q / (-2.0 * log_alpha), near(l1 + correction / (-2.0 * log_alpha), 1e-14, 0.0));
  }
}

TEST_CASE("the other members say what the path solvers need") {
  const Hypentropy<> map = Hypentropy<>::uniform(3, Scale<>::from_log(-2.0));
  CHECK(map.dimension() == 3);
  CHECK(map.scale() == Scale<>::from_log(-2.0));
  CHECK(map.dual_rate() == 8.0);
  CHECK(map.homogeneity() == 2.0);
  CHECK(map.max_step(Vector<double>::Ones(3), Vector<double>::Ones(3)) == std::numeric_limits<double>::infinity());
  const Hypentropy<> other = map.with_scale(Scale<>::from_log(-9.0));
  CHECK(other.scale() == Scale<>::from_log(-9.0));
  CHECK(map.scale() == Scale<>::from_log(-2.0));
  const Vector<double> beta = Vector<double>::LinSpaced(3, -1.0, 1.0);
  CHECK(other.value(beta) == Hypentropy<>::uniform(3, Scale<>::from_log(-9.0)).value(beta));
}

TEST_CASE("the mirror far out in z overflows to infinity, never to NaN") {
  const Hypentropy<> map = Hypentropy<>::uniform(4, Scale<>::from_log(-500.0));
  Vector<double> z(4);
  z << 2000.0, -2000.0, 1e300, 0.0;
  const auto [beta, curvature] = mirror_of(map, z);
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(beta(0) == inf);
  CHECK(beta(1) == -inf);
  CHECK(beta(2) == inf);
  CHECK(beta(3) == 0.0);
  CHECK(curvature(1) == inf);
  CHECK(map.conjugate(z) == inf);
}

TEST_CASE("the mirror map serves float") {
  RandomStream random(11);
  const Index d = 30;
  const Vector<float> w0 = random_positive_vector(random, d, 0.3, 3.0).cast<float>();
  for (const float log_alpha : {-500.0F, -10.0F, 0.0F, 5.0F}) {
    INFO("log_alpha = " << log_alpha);
    const auto map = Hypentropy<float>::shaped(w0, Scale<float>::from_log(log_alpha));
    const Vector<float> beta = random_vector(random, d).cast<float>();
    Vector<float> z(d), back(d), curvature(d);
    map.gradient(beta, z);
    map.mirror(z, back, curvature);
    long double sum = 0.0L;
    for (Index i = 0; i < d; ++i) {
      const long double c = std::exp(2.0L * log_alpha) * w0(i) * w0(i);
      sum += c * q_oracle(beta(i) / c);
      CHECK_THAT(z(i), within_ulp<float>(std::asinh(beta(i) / c / 2.0L), 6.0L));
      const float float_eps = std::numeric_limits<float>::epsilon();
      CHECK(std::fabs(back(i) - beta(i)) <= (8.0F + 4.0F * std::fabs(log_alpha)) * float_eps * curvature(i));
    }
    CHECK_THAT(map.value(beta), within_ulp<float>(sum, 20.0L));
  }
}

TEST_CASE("bad input of the hypentropy is named") {
  using richflow::ArgumentError;
  using richflow::DimensionError;
  using richflow::NonFiniteError;
  const Scale<> scale = Scale<>::from_log(-1.0);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  CHECK_THROWS_MATCHES(Hypentropy<>::uniform(0, scale), DimensionError, message_contains("d > 0"));
  CHECK_THROWS_AS(Hypentropy<>::uniform(-2, scale), DimensionError);
  CHECK_THROWS_AS(Hypentropy<>::shaped(Vector<double>(), scale), DimensionError);
  CHECK_THROWS_AS(Hypentropy<>::biased(Vector<double>(), Vector<double>(), scale), DimensionError);
  Vector<double> w0 = Vector<double>::Ones(3);
  const Vector<double> one = w0;
  CHECK_THROWS_MATCHES(Hypentropy<>::biased(one, Vector<double>::Ones(2), scale), DimensionError,
                       message_contains("b has 2"));
  for (const double bad : {0.0, -1.0}) {
    w0(2) = bad;
    CHECK_THROWS_MATCHES(Hypentropy<>::shaped(w0, scale), ArgumentError, message_contains("w0(2)"));
    CHECK_THROWS_MATCHES(Hypentropy<>::biased(w0, one, scale), ArgumentError, message_contains("a(2)"));
    CHECK_THROWS_MATCHES(Hypentropy<>::biased(one, w0, scale), ArgumentError, message_contains("b(2)"));
  }
  for (const double bad : {nan, inf}) {
    w0(2) = bad;
    CHECK_THROWS_MATCHES(Hypentropy<>::shaped(w0, scale), NonFiniteError, message_contains("w0(2)"));
    CHECK_THROWS_AS(Hypentropy<>::biased(one, w0, scale), NonFiniteError);
  }
  CHECK_THROWS_MATCHES(Hypentropy<>::uniform(3, Scale<>::from_log(400.0)), ArgumentError, message_contains("400"));
  CHECK_THROWS_AS(Hypentropy<>::uniform(3, scale).with_scale(Scale<>::from_log(400.0)), ArgumentError);
  CHECK_THROWS_AS(Hypentropy<>::shaped(1e200 * one, Scale<>::from_log(0.0)), ArgumentError);
  // beta(0) = e^690 1e20, and below it in range.
  CHECK_THROWS_MATCHES(Hypentropy<>::biased(1e10 * one, 1e-10 * one, Scale<>::from_log(345.0)), ArgumentError,
                       message_contains("345"));
  CHECK_NOTHROW(Hypentropy<>::biased(1e10 * one, 1e-10 * one, Scale<>::from_log(330.0)));

  const Hypentropy<> map = Hypentropy<>::uniform(3, scale);
  Vector<double> two = Vector<double>::Ones(2);
  Vector<double> out = one;
  Vector<double> out2 = one;
  CHECK_THROWS_MATCHES(map.value(two), DimensionError, message_contains("beta has 2"));
  CHECK_THROWS_AS(map.gradient(two, out), DimensionError);
  CHECK_THROWS_AS(map.gradient(one, two), DimensionError);
  CHECK_THROWS_MATCHES(map.mirror(two, out, out2), DimensionError, message_contains("z has 2"));
  CHECK_THROWS_AS(map.mirror(one, two, out2), DimensionError);
  CHECK_THROWS_AS(map.mirror(one, out, two), DimensionError);
  CHECK_THROWS_AS(map.conjugate(two), DimensionError);
  CHECK_THROWS_AS(map.max_step(two, two), DimensionError);
}
