#include "richflow/models/univariate_relu.hpp"

#include <cmath>

#include "richflow/core/random.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The same function as a ReluNetwork with biases, whose parameters are ordered (u, b, a, c).
Vector<double> reordered(const Vector<double>& w, Index k) {
  Vector<double> out(w.size());
  out << w.segment(k, k), w.segment(2 * k, k), w.head(k), w.tail(1);
  return out;
}

}  // namespace

TEST_CASE("the univariate network passes the model battery") {
  RandomStream random(31);
  for (const Index k : {1, 5, 300}) {
    const UnivariateRelu<double> net(k);
    const Dataset data(random_matrix(random, 6, 1), random_vector(random, 6));
    const Vector<double> w = random_vector(random, net.num_parameters());
    const auto report = testing::model_battery(net, w, data, random_vector(random, net.num_parameters()),
                                               random_vector(random, 6), 1e-6);
    CAPTURE(k, report);
    CHECK(report.ok());
    CHECK(report.checks.size() == 24);  // with jvp, invariant and units
  }
}

TEST_CASE("the univariate network is the ReLU network of depth 2 with biases") {
  RandomStream random(32);
  const Index k = 40;
  const UnivariateRelu<double> net(k);
  const ReluNetwork<double> dense(1, {k}, true);
  const Matrix<double> X = random_matrix(random, 7, 1);
  const Vector<double> w = random_vector(random, net.num_parameters());
  const Vector<double> dense_w = reordered(w, k);
  const Vector<double> v = random_vector(random, net.num_parameters());
  const Vector<double> r = random_vector(random, 7);
  auto at = net.make_evaluation(7);
  auto dense_at = dense.make_evaluation(7);
  Vector<double> f(7);
  Vector<double> dense_f(7);
  Vector<double> g(net.num_parameters());
  Vector<double> dense_g(net.num_parameters());
  // Sums of 40 terms of order one, in another order.
  const double rounding = 1000 * eps;

  at.forward(w, X, f);
  dense_at.forward(dense_w, X, dense_f);
  CHECK((f - dense_f).norm() <= rounding * f.norm());
  at.vjp(r, g);
  dense_at.vjp(r, dense_g);
  CHECK((reordered(g, k) - dense_g).norm() <= rounding * g.norm());
  const Vector<double> dense_v = reordered(v, k);
  at.jvp(v, f);
  dense_at.jvp(dense_v, dense_f);
  CHECK((f - dense_f).norm() <= rounding * v.norm() * w.norm());
  Matrix<double> K(7, 7);
  Matrix<double> dense_K(7, 7);
  at.kernel(K);
  dense_at.kernel(dense_K);
  CHECK((K - dense_K).norm() <= rounding * K.norm());
  CHECK((net.invariant(w) - dense.invariant(dense_w)).norm() <= rounding * w.squaredNorm());
  Vector<double> units(k);
  Vector<double> dense_units(k);
  net.unit_square_norms(w, units);
  dense.unit_square_norms(dense_w, dense_units);
  CHECK((units - dense_units).norm() <= rounding * units.norm());
}

TEST_CASE("the shapes of Figure 7 share their function and differ in the size of their layers") {
  const Index k = 1000;
  const UnivariateRelu<double> net(k);
  const Matrix<double> X = Vector<double>::LinSpaced(5, -2.0, 2.0);
  Vector<double> plain(5);
  RandomStream random(33);
  const Vector<double> w = net.initial_parameters(random, Scale<>::from_value(0.3));
  net.predict(w, X, plain);
  for (const double shift : {0.5, 0.25}) {
    RandomStream again(33);
    const Vector<double> shifted = net.initial_parameters(again, Scale<>::from_value(0.3), shift);
    const double factor = std::pow(1000.0, shift);
    CHECK((shifted.head(k) - factor * w.head(k)).norm() <= 10 * eps * shifted.norm());
    Vector<double> out(5);
    net.predict(shifted, X, out);
    // A sum of 1000 products of normals: their square root of roundings.
    CHECK((out - plain).norm() <= 1000 * eps * w.squaredNorm());
  }
  // Sample variances of 1000 entries, sqrt(2 / 1000) = 4.5 %, within five of it.
  CHECK_THAT(w.head(k).squaredNorm(), near(0.09 * 2.0, 0.23, 0.0));
  CHECK_THAT(w.segment(k, 2 * k).squaredNorm(), near(0.09 * 2000.0, 0.16, 0.0));
  CHECK(w[3 * k] == 0.0);
}

TEST_CASE("the univariate network refuses bad input by name and value") {
  RandomStream random(34);
  CHECK_THROWS_MATCHES(UnivariateRelu<double>(0), DimensionError, message_contains("width k > 0"));
  const UnivariateRelu<double> net(3);
  Vector<double> out(2);
  CHECK_THROWS_MATCHES(net.predict(Vector<double>::Ones(10), Matrix<double>::Ones(2, 2), out), DimensionError,
                       message_contains("d = 1 features"));
  CHECK_THROWS_AS(net.predict(Vector<double>::Ones(9), Matrix<double>::Ones(2, 1), out), DimensionError);
  CHECK_THROWS_AS(net.initial_parameters(random, Scale<>::from_log(-800.0)), ArgumentError);
  CHECK_THROWS_MATCHES(net.initial_parameters(random, Scale<>::from_value(1.0), std::nan("")), ArgumentError,
                       message_contains("shift"));
}
