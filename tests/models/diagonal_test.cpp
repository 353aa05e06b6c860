#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/core/random.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("the squared net passes the model battery at random points and shapes") {
  RandomStream random(11);
  // 300 and 513 features cross the blocks in which predictions are summed.
  for (const auto& [samples, features] : {std::pair<Index, Index>{1, 1}, {3, 2}, {5, 40}, {2, 300}, {3, 513}}) {
    const Dataset data(random_matrix(random, samples, features), random_vector(random, samples));
    const SquaredDiagonalNet<double> net(features);
    const auto report =
        testing::model_battery(net, random_vector(random, 2 * features), data, random_vector(random, 2 * features),
                               random_vector(random, samples), 1e-4);
    CAPTURE(samples, features, report);
    CHECK(report.ok());
    CHECK(report.checks.size() == 26);  // all refinements took part
  }
}

TEST_CASE("predict and beta agree with the definition in long double") {
  RandomStream random(12);
  const Index features = 700;
  const SquaredDiagonalNet<double> net(features);
  const Vector<double> w = random_vector(random, 2 * features);
  const Matrix<double> X = random_matrix(random, 4, features);
  const Vector<long double> exact =
      w.head(features).cast<long double>().array().square() - w.tail(features).cast<long double>().array().square();
  Vector<double> beta(features);
  net.beta(w, beta);
  // (p - m)(p + m): two subtractions and a product, half an ulp each.
  for (Index i = 0; i < features; ++i)
    CHECK(std::abs(static_cast<double>(beta[i] - exact[i])) <= 2 * eps * std::abs(static_cast<double>(exact[i])));

  Vector<double> out(4);
  net.predict(w, X, out);
  const Vector<double> expected = (X.cast<long double>() * exact).cast<double>();
  // A sum of 700 terms: at most 700 roundings of the sum of magnitudes, in practice their square root.
  CHECK((out - expected).norm() <= 100 * eps * X.norm() * beta.norm());
}

TEST_CASE("the squared net is homogeneous of degree two") {
  RandomStream random(13);
  const SquaredDiagonalNet<double> net(6);
  const Vector<double> w = random_vector(random, 12);
  const Matrix<double> X = random_matrix(random, 3, 6);
  Vector<double> one(3);
  Vector<double> scaled(3);
  net.predict(w, X, one);
  net.predict(Vector<double>(4.0 * w), X, scaled);  // a power of two: no rounding
  CHECK((scaled - std::pow(4.0, net.homogeneity()) * one).norm() == 0.0);
}

TEST_CASE("initial parameters have the promised predictor and invariant") {
  RandomStream random(14);
  const Index features = 8;
  const SquaredDiagonalNet<double> net(features);
  const auto scale = Scale<>::from_value(0.3);
  const Vector<double> a = random_positive_vector(random, features, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, features, 0.5, 2.0);
  Vector<double> beta(features);

  const Vector<double> uniform = net.initial_parameters(scale);
  CHECK(uniform.size() == net.num_parameters());
  CHECK((uniform.array() - 0.3).abs().maxCoeff() <= eps);
  net.beta(uniform, beta);
  CHECK(beta.norm() == 0.0);

  const Vector<double> shaped = net.initial_parameters(scale, a);
  CHECK((shaped.head(features) - 0.3 * a).norm() <= 4 * eps);
  net.beta(shaped, beta);
  CHECK(beta.norm() == 0.0);

  const Vector<double> biased = net.initial_parameters(scale, a, b);
  net.beta(biased, beta);
  // Values of order one and a few roundings.
  CHECK((beta.array() - 0.09 * (a.array().square() - b.array().square())).abs().maxCoeff() <= 16 * eps);
  CHECK((net.invariant(biased).array() - 0.09 * a.array() * b.array()).abs().maxCoeff() <= 16 * eps);
}

TEST_CASE("the squared net refuses bad input by name and value") {
  CHECK_THROWS_MATCHES(SquaredDiagonalNet<double>(0), DimensionError, message_contains("d > 0"));
  const SquaredDiagonalNet<double> net(3);
  const auto scale = Scale<>::from_value(1.0);
  const double nan = std::numeric_limits<double>::quiet_NaN();

  CHECK_THROWS_MATCHES(net.initial_parameters(Scale<>::from_log(-800.0)), ArgumentError, message_contains("-800"));
  CHECK_THROWS_MATCHES(net.initial_parameters(Scale<>::from_log(800.0)), ArgumentError, message_contains("800"));
  CHECK_THROWS_MATCHES(net.initial_parameters(Scale<>::from_log(-700.0), Vector<double>::Constant(3, 1e-200)),
                       ArgumentError, message_contains("underflows"));
  CHECK_THROWS_AS(net.initial_parameters(scale, Vector<double>::Ones(2)), DimensionError);
  Vector<double> shape = Vector<double>::Ones(3);
  shape[1] = 0.0;
  CHECK_THROWS_MATCHES(net.initial_parameters(scale, shape), ArgumentError, message_contains("w0(1)"));
  shape[1] = nan;
  CHECK_THROWS_AS(net.initial_parameters(scale, shape), NonFiniteError);
  CHECK_THROWS_MATCHES(net.initial_parameters(scale, Vector<double>::Ones(3), -Vector<double>::Ones(3)), ArgumentError,
                       message_contains("b(0)"));

  const Vector<double> w = net.initial_parameters(scale);
  Vector<double> out(2);
  CHECK_THROWS_AS(net.predict(w, Matrix<double>::Ones(2, 4), out), DimensionError);
  CHECK_THROWS_AS(net.predict(w.head(3), Matrix<double>::Ones(2, 3), out), DimensionError);
  CHECK_THROWS_AS(net.predict(w, Matrix<double>::Ones(3, 3), out), DimensionError);
  CHECK_THROWS_AS(net.beta(w, out), DimensionError);
  CHECK_THROWS_AS(net.vjp(w, Matrix<double>::Ones(2, 3), Vector<double>::Ones(2), out), DimensionError);
}

TEMPLATE_TEST_CASE("the squared net works in other precisions", "", float, long double) {
  using S = TestType;
  RandomStream random(15);
  const SquaredDiagonalNet<S> net(5);
  const Dataset<S> data(random_matrix(random, 3, 5).cast<S>(), random_vector(random, 3).cast<S>());
  // A step near the cube root of the precision balances rounding and truncation.
  const S h = std::is_same_v<S, float> ? S(1e-2) : S(1e-5);
  const auto report = testing::model_battery(net, Vector<S>(random_vector(random, 10).cast<S>()), data,
                                             Vector<S>(random_vector(random, 10).cast<S>()),
                                             Vector<S>(random_vector(random, 3).cast<S>()), h);
  CAPTURE(report);
  CHECK(report.ok());
}

TEST_CASE("nets of any depth pass the model battery, and the depth of compile time is that of run time", "[depth]") {
  RandomStream random(16);
  for (const Index depth : {2, 3, 4, 7, 100})
    for (const auto& [samples, features] : {std::pair<Index, Index>{3, 2}, {2, 300}}) {
      // In long double, because w^100 amplifies rounding more than a difference quotient can bear; near 1, so that it
      // stays in range.
      using L = long double;
      const Dataset<L> data(random_matrix(random, samples, features).cast<L>(),
                            random_vector(random, samples).cast<L>());
      const DiagonalNet<L> net(depth, features);
      const auto D = static_cast<L>(depth);
      const Vector<L> w = Vector<L>::Ones(2 * features) + random_vector(random, 2 * features).cast<L>() / D;
      const auto report = testing::model_battery(net, w, data, Vector<L>(random_vector(random, 2 * features).cast<L>()),
                                                 Vector<L>(random_vector(random, samples).cast<L>()), 1e-2L / (D * D));
      CAPTURE(depth, samples, features, report);
      CHECK(report.ok());
      CHECK(report.checks.size() == 26);
      CHECK(net.homogeneity() == depth);
    }
  const DiagonalNet<double, 5> fixed(4);
  const DiagonalNet<double> dynamic(5, 4);
  const Vector<double> w = random_vector(random, 8);
  const Matrix<double> X = random_matrix(random, 3, 4);
  Vector<double> a(3), b(3), back_a(8), back_b(8);
  fixed.predict(w, X, a);
  dynamic.predict(w, X, b);
  fixed.vjp(w, X, a, back_a);
  dynamic.vjp(w, X, b, back_b);
  CHECK(a == b);
  CHECK(back_a == back_b);
}

TEST_CASE("beta at depth D agrees with the definition in long double, also where w_+ nearly equals w_-", "[depth]") {
  RandomStream random(17);
  for (const Index depth : {2, 3, 5, 10}) {
    const DiagonalNet<double> net(depth, 50);
    Vector<double> w(100), beta(50);
    for (Index i = 0; i < 50; ++i) {
      w[i] = random.uniform(0.5, 1.5);
      w[50 + i] = i % 2 == 0 ? random.uniform(0.5, 1.5) : w[i] * (1 + 1e-9 * random.uniform());
    }
    net.beta(w, beta);
    for (Index i = 0; i < 50; ++i) {
      const auto p = static_cast<long double>(w[i]);
      const auto m = static_cast<long double>(w[50 + i]);
      const auto D = static_cast<long double>(depth);
      const long double exact = std::pow(m, D) * std::expm1(D * std::log1p((p - m) / m));
      // D terms of one sign.
      CHECK(std::fabs(static_cast<long double>(beta[i]) - exact) <= 4 * D * eps * std::fabs(exact));
    }
  }
}

TEST_CASE("starts and invariants at depth D", "[depth]") {
  RandomStream random(18);
  const Index d = 6;
  const auto scale = Scale<>::from_value(0.5);
  const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
  for (const Index depth : {3, 4, 9}) {
    const DiagonalNet<double> net(depth, d);
    const auto D = static_cast<double>(depth);
    Vector<double> beta(d);
    net.beta(net.initial_parameters(scale, a), beta);
    CHECK(beta.norm() == 0.0);
    const Vector<double> w = net.initial_parameters(scale, a, b);
    net.beta(w, beta);
    const Vector<double> expected = std::pow(0.5, D) * (a.array().pow(D) - b.array().pow(D));
    const double size = std::pow(0.5, D) * (a.array().pow(D) + b.array().pow(D)).maxCoeff();
    CHECK((beta - expected).cwiseAbs().maxCoeff() <= 8 * D * eps * size);
    const Vector<double> conserved = (0.5 * a.array()).pow(2 - D) + (0.5 * b.array()).pow(2 - D);
    CHECK((net.invariant(w) - conserved).cwiseAbs().maxCoeff() <= 8 * D * eps * conserved.maxCoeff());
  }
  CHECK_THROWS_MATCHES(DiagonalNet<double>(1, 3), ArgumentError, message_contains("depth"));
  CHECK_THROWS_MATCHES(DiagonalNet<double>(3, 0), DimensionError, message_contains("d > 0"));
}

TEST_CASE("a step of the squared net on one sample into other memory is a pullback and a forward") {
  RandomStream random(15);
  // 1 and 3 features are fewer than the entries that are worked on at once.
  for (const Index features : {1, 3, 40, 1003}) {
    const SquaredDiagonalNet<double> net(features);
    const Vector<double> w = random_vector(random, 2 * features);
    const Matrix<double> x = random_matrix(random, 1, features);
    const Matrix<double> x_next = random_matrix(random, 1, features);
    const Matrix<double> G = Matrix<double>::Constant(1, 1, 0.7);
    Matrix<double> F(1, 1), expected(1, 1), F_next(1, 1), again(1, 1);
    auto plain = net.make_evaluation(1);
    Vector<double> moved = w;
    plain.forward(moved, x, F);
    plain.add_pullback(G, -0.1, moved);
    plain.forward(moved, x_next, expected);
    Vector<double> copied(w.size());
    auto at = net.make_evaluation(1);
    at.forward(w, x, F);
    CHECK(at.descend_into(G, -0.1, copied, x_next, F_next) < 0.0);  // no norm was made on the way
    CHECK(copied == moved);
    CHECK(F_next == expected);

    auto fast = net.make_evaluation(1);
    fast.reorder_sums();
    CHECK(fast.is_descent_fused());
    Vector<double> w_new(w.size());
    fast.forward(w, x, F);
    const double square_norm = fast.descend_into(G, -0.1, w_new, x_next, F_next);
    // Three products and a sum in each entry; sums of at most 2003 terms.
    CHECK((w_new - moved).norm() <= 8 * eps * moved.norm());
    CHECK(std::abs(square_norm - moved.squaredNorm()) <= 50 * eps * moved.squaredNorm());
    CHECK(std::abs(F_next(0, 0) - expected(0, 0)) <= 50 * eps * x_next.norm() * moved.squaredNorm());
    // In the memory of w: the same without the norm, which is known to be below a bound.
    Vector<double> over = w;
    Matrix<double> F_over(1, 1);
    fast.forward(over, x, F);
    const double growth = fast.growth_of_descent(G, -0.1, x.cwiseAbs().maxCoeff());
    CHECK(moved.cwiseAbs().maxCoeff() <= growth * w.cwiseAbs().maxCoeff());
    CHECK(plain.growth_of_descent(G, -0.1, 1.0) == std::numeric_limits<double>::infinity());
    fast.descend_and_forward(G, -0.1, over, x_next, F_over);
    CHECK(over == w_new);
    CHECK(F_over == F_next);
    // What continues from there does so as from a forward.
    fast.forward(w_new, x_next, F_next);
    fast.forward(w, x, F);
    fast.descend_into(G, -0.1, w_new, x_next, F_next);
    fast.forward(w_new, x_next, again);
    CHECK(again(0, 0) == F_next(0, 0));
    CHECK_THROWS_MATCHES(fast.descend_into(G, -0.1, w_new, x_next, F_next), ArgumentError,
                         message_contains("w_new must not be the w"));
  }
}

TEST_CASE("a step of a diagonal net that leaves the numbers shows in its norm") {
  const SquaredDiagonalNet<double> net(40);
  auto at = net.make_evaluation(1);
  at.reorder_sums();
  Vector<double> w = Vector<double>::Ones(80);
  Vector<double> w_new(80);
  Matrix<double> x = Matrix<double>::Ones(1, 40);
  Matrix<double> F(1, 1);
  x(0, 17) = 1e200;
  at.forward(w, x, F);
  CHECK_FALSE(std::isfinite(at.descend_into(Matrix<double>::Constant(1, 1, 1e200), 1.0, w_new, x, F)));
}
