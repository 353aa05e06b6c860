#include <cmath>

#include "richflow/core/random.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/testing/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

Vector<double> pair(double a, double b) {
  Vector<double> v(2);
  v[0] = a;
  v[1] = b;
  return v;
}

Vector<double> curve(double s) { return pair(std::exp(s), std::sin(3 * s + 1)); }
Vector<double> slope() { return pair(1.0, 3 * std::cos(1.0)); }

/// The squared net with a `vjp` that is off by the given factor, or has its halves swapped.
struct WrongVjp : SquaredDiagonalNet<double> {
  double factor = 1.0;
  WrongVjp(Index d, double f) : SquaredDiagonalNet<double>(d), factor(f) {}
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    SquaredDiagonalNet<double>::vjp(w, X, r, out);
    out *= factor;
  }
};

}  // namespace

TEST_CASE("a correct derivative passes, with errors falling like h^2") {
  const auto check = testing::check_derivative<double>(curve, slope(), 1e-2);
  CHECK(check.passed());
  CHECK_THAT(check.order, near(2.0, 0, 0.01));
  CHECK(check.fine_error > check.rounding);
  CHECK(testing::check_derivative<double>(curve, slope(), 1e-6).passed());  // at the level of rounding
}

TEST_CASE("a wrong derivative fails, however small its error") {
  for (const double error : {1.0, 1e-2, 1e-4, 1e-6}) {
    Vector<double> wrong = slope();
    wrong[1] += error;
    CAPTURE(error);
    CHECK_FALSE(testing::check_derivative<double>(curve, wrong, 1e-3 * std::sqrt(error)).passed());
  }
  CHECK_FALSE(testing::check_derivative<double>(curve, Vector<double>(-slope()), 1e-2).passed());
  const auto undefined = [](double) { return Vector<double>::Constant(2, std::nan("")).eval(); };
  CHECK_FALSE(testing::check_derivative<double>(undefined, slope(), 1e-2).passed());
}

TEST_CASE("gradients, vjp and jvp are checked against differences") {
  RandomStream random(101);
  const auto cubic = [](const Vector<double>& x) { return x.array().cube().sum(); };
  const Vector<double> x = random_vector(random, 5);
  const Vector<double> v = random_vector(random, 5);
  const Vector<double> gradient = 3 * x.array().square();
  CHECK(testing::check_gradient<double>(cubic, x, gradient, v, 1e-2).passed());
  CHECK_FALSE(testing::check_gradient<double>(cubic, x, Vector<double>(1.001 * gradient), v, 1e-3).passed());

  const Matrix<double> X = random_matrix(random, 3, 4);
  const Vector<double> w = random_vector(random, 8);
  CHECK(testing::check_vjp(WrongVjp(4, 1.0), w, X, 1e-3).passed());
  CHECK_FALSE(testing::check_vjp(WrongVjp(4, 1.0 + 1e-6), w, X, 1e-3).passed());
  CHECK_FALSE(testing::check_vjp(WrongVjp(4, 2.0), w, X, 1e-3).passed());
  CHECK(testing::check_jvp(SquaredDiagonalNet<double>(4), w, X, random_vector(random, 8), 1e-3).passed());
}

TEST_CASE("the checks refuse steps and shapes that make no sense") {
  CHECK_THROWS_MATCHES(testing::check_derivative<double>(curve, slope(), 0.0), ArgumentError, message_contains("h"));
  CHECK_THROWS_AS(testing::check_derivative<double>(curve, Vector<double>::Ones(3), 1e-2), DimensionError);
}
