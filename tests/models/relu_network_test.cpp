#include "richflow/models/relu_network.hpp"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct NetworkCase {
  Index samples;
  Index features;
  std::vector<Index> widths;
  bool has_biases;
};

const std::vector<NetworkCase>& network_cases() {
  static const std::vector<NetworkCase> all = {{1, 1, {1}, false},
                                               {4, 3, {5}, true},
                                               {6, 2, {7, 4}, false},
                                               {5, 2, {6, 3, 5}, true},
                                               {3, 2, {4, 5, 6, 3}, false}};
  return all;
}

/// The definition, one sample and one neuron at a time.
double forward(const ReluNetwork<double>& net, const Vector<double>& w, const Vector<double>& x) {
  std::vector<double> values(x.data(), x.data() + x.size());
  Index position = 0;
  for (Index l = 1; l <= net.depth(); ++l) {
    const auto W = net.weights(w, l);
    position += W.size();
    std::vector<double> next;
    for (Index j = 0; j < W.cols(); ++j) {
      double z = net.has_biases() ? w[position + j] : 0.0;
      for (Index i = 0; i < W.rows(); ++i) z += W(i, j) * values[static_cast<std::size_t>(i)];
      next.push_back(l < net.depth() && z < 0.0 ? 0.0 : z);
    }
    if (net.has_biases()) position += W.cols();
    values = next;
  }
  return values.front();
}

/// J^T r by differences of the definition, which is linear in each parameter away from the kinks: exact to rounding
/// over the step.
Vector<double> pullback_by_differences(const ReluNetwork<double>& net, const Vector<double>& w, const Matrix<double>& X,
                                       const Vector<double>& r) {
  constexpr double h = 1e-6;
  Vector<double> g = Vector<double>::Zero(w.size());
  for (Index p = 0; p < w.size(); ++p) {
    const Vector<double> move = h * Vector<double>::Unit(w.size(), p);
    for (Index n = 0; n < X.rows(); ++n)
      g[p] += r[n] * (forward(net, w + move, X.row(n)) - forward(net, w - move, X.row(n))) / (2.0 * h);
  }
  return g;
}

}  // namespace

TEST_CASE("the ReLU network passes the model battery for depths, widths and biases") {
  RandomStream random(21);
  for (const NetworkCase& c : network_cases()) {
    const ReluNetwork<double> net(c.features, c.widths, c.has_biases);
    const Dataset data(random_matrix(random, c.samples, c.features), random_vector(random, c.samples));
    // Larger than one, so that no kink lies within the step of the differences.
    const Vector<double> w = 2.0 * random_vector(random, net.num_parameters());
    const auto report = testing::model_battery(net, w, data, random_vector(random, net.num_parameters()),
                                               random_vector(random, c.samples), 1e-5);
    CAPTURE(c.samples, c.features, c.widths.size(), report);
    CHECK(report.ok());
    CHECK(report.checks.size() == 7);  // with jvp and invariant
  }
}

TEST_CASE("the ReLU network is what its definition says, and homogeneous of its depth") {
  RandomStream random(22);
  for (const NetworkCase& c : network_cases()) {
    const ReluNetwork<double> net(c.features, c.widths, c.has_biases);
    const Matrix<double> X = random_matrix(random, c.samples, c.features);
    const Vector<double> w = random_vector(random, net.num_parameters());
    Vector<double> out(c.samples);
    net.predict(w, X, out);
    double size = 1.0;
    for (Index l = 1; l <= net.depth(); ++l) size *= 1.0 + net.weights(w, l).norm();
    for (Index n = 0; n < c.samples; ++n) {
      CAPTURE(n, c.widths.size());
      // A few roundings per layer of sums of at most seven terms, relative to the product of the norms.
      CHECK_THAT(out[n], near(forward(net, w, X.row(n)), 0.0, 100 * eps * size));
    }
    if (c.has_biases) {
      CHECK_THROWS_MATCHES(net.homogeneity(), ArgumentError, message_contains("biases"));
    } else {
      Vector<double> scaled(c.samples);
      net.predict(Vector<double>(2.0 * w), X, scaled);  // a power of two: no rounding
      CHECK((scaled - std::pow(2.0, static_cast<double>(net.homogeneity())) * out).norm() == 0.0);
    }
  }
}

TEST_CASE("a workspace gives the same numbers as calls without one, for every member") {
  RandomStream random(23);
  for (const NetworkCase& c : network_cases()) {
    const ReluNetwork<double> net(c.features, c.widths, c.has_biases);
    const Matrix<double> X = random_matrix(random, c.samples, c.features);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const Vector<double> v = random_vector(random, net.num_parameters());
    const Vector<double> r = random_vector(random, c.samples);
    auto ws = net.make_workspace(X);
    Vector<double> f(c.samples);
    Vector<double> expected_f(c.samples);
    Vector<double> g(net.num_parameters());
    Vector<double> expected_g(net.num_parameters());
    net.predict(w, X, expected_f);
    net.vjp(w, X, r, expected_g);

    net.predict(w, X, f, ws);
    net.pullback(w, X, r, g, ws);
    CHECK((f - expected_f).norm() == 0.0);
    CHECK((g - expected_g).norm() == 0.0);
    // The calls without a workspace may be made of those with one: both against the definition.
    for (Index n = 0; n < c.samples; ++n) {
      const double by_definition = forward(net, w, X.row(n));
      CHECK_THAT(f[n], near(by_definition, 1e-12, 1e-12));  // some hundred roundings of numbers of size one
    }
    // Rounding of outputs up to some hundreds over the step of 1e-6.
    CHECK((g - pullback_by_differences(net, w, X, r)).norm() <= 1e-6 * (1.0 + g.norm()));

    net.linearize(w, X, f, ws);
    CHECK((f - expected_f).norm() == 0.0);
    net.tangent_vjp(X, r, g, ws);
    // The factor r enters at the other end of the products: a few roundings per layer.
    CHECK((g - expected_g).norm() <= 100 * eps * expected_g.norm());
    net.jvp(w, X, v, expected_f);
    net.tangent_jvp(X, v, f, ws);
    CHECK((f - expected_f).norm() == 0.0);

    Matrix<double> K(c.samples, c.samples);
    net.tangent_kernel(X, K, ws);
    for (Index n = 0; n < c.samples; ++n) {
      net.vjp(w, X, Vector<double>::Unit(c.samples, n), g);
      net.jvp(w, X, g, f);
      // K e_n = J J^T e_n by two other routes; sums of at most P products.
      CHECK((K.col(n) - f).norm() <= 200 * eps * K.norm());
    }
  }
}

TEST_CASE("He initialization has the promised bounds, variances and scale") {
  RandomStream random(24);
  const ReluNetwork<double> net(3, {200, 100}, true);
  const Vector<double> uniform = net.initial_parameters(random, Scale::from_value(0.5));
  const Vector<double> normal = net.initial_parameters(random, Scale::from_value(0.5), HeInitialization::normal);
  for (Index l = 1; l <= 3; ++l) {
    const auto U = net.weights(uniform, l);
    const double inputs = static_cast<double>(U.rows());
    const double bound = 0.5 * std::sqrt(6.0 / inputs);
    CHECK(U.cwiseAbs().maxCoeff() <= bound);
    CHECK(U.cwiseAbs().maxCoeff() >= 0.9 * bound);
    // Variance alpha^2 2 / n_in for both; the sample variance of m entries scatters by sqrt(2 / m), here within five.
    for (const auto& W : {Matrix<double>(U), Matrix<double>(net.weights(normal, l))}) {
      const double variance = W.squaredNorm() / static_cast<double>(W.size());
      CHECK_THAT(variance, near(0.25 * 2.0 / inputs, 5.0 * std::sqrt(2.0 / static_cast<double>(W.size())), 0.0));
    }
  }
  const double weights = 3 * 200 + 200 * 100 + 100;
  CHECK((uniform.array() != 0.0).count() == static_cast<Index>(weights));  // biases start at zero
}

TEST_CASE("units are the hidden neurons with what goes in and out") {
  const ReluNetwork<double> net(1, {2, 1}, true);
  // W_1 = (1, 2), b_1 = (3, 4), W_2 = (5, 6)^T, b_2 = 7, W_3 = 8, b_3 = 9
  Vector<double> w(9);
  w << 1, 2, 3, 4, 5, 6, 7, 8, 9;
  Vector<double> sums(3);
  REQUIRE(net.num_units() == 3);
  net.unit_square_norms(w, sums);
  CHECK(sums == Vector<double>((Vector<double>(3) << 1 + 9 + 25, 4 + 16 + 36, 25 + 36 + 49 + 64).finished()));
  const Vector<double> invariant = net.invariant(w);
  CHECK(invariant == Vector<double>((Vector<double>(3) << 1 + 9 - 25, 4 + 16 - 36, 25 + 36 + 49 - 64).finished()));
}

TEST_CASE("the norm balance of every neuron drifts by O(step) under descent") {
  RandomStream random(25);
  const auto net = ReluNetwork<double>::uniform_width(2, 3, 8);
  const Dataset data(random_matrix(random, 6, 2), random_vector(random, 6));
  const Vector<double> w = net.initial_parameters(random, Scale::from_value(0.7));
  std::vector<double> drifts;
  for (const double step : {4e-4, 2e-4, 1e-4}) {
    const auto end = gradient_descent(net, data, w, {.step = step, .iterations = static_cast<Index>(0.4 / step)});
    REQUIRE(end.ok());
    drifts.push_back(invariant_drift(net, w, end.y));
  }
  CHECK(drifts.front() > 1e-5);
  // Halving the step halves the drift, up to terms of second order and kinks crossed at other steps.
  CHECK_THAT(drifts[0] / drifts[1], near(2.0, 0.1, 0.0));
  CHECK_THAT(drifts[1] / drifts[2], near(2.0, 0.1, 0.0));
}

TEST_CASE("the ReLU network refuses bad input by name and value") {
  RandomStream random(26);
  CHECK_THROWS_MATCHES(ReluNetwork<double>(2, {}), DimensionError, message_contains("depth >= 2"));
  CHECK_THROWS_MATCHES(ReluNetwork<double>::uniform_width(2, 1, 30), DimensionError, message_contains("got 1"));
  CHECK_THROWS_MATCHES(ReluNetwork<double>(2, {3, 0}), DimensionError, message_contains("layer 2"));
  CHECK_THROWS_MATCHES(ReluNetwork<double>(0, {3}), DimensionError, message_contains("d > 0"));
  const ReluNetwork<double> net(2, {3});
  CHECK_THROWS_MATCHES(net.initial_parameters(random, Scale::from_log(-800.0)), ArgumentError,
                       message_contains("-800"));
  Vector<double> out(4);
  Vector<double> g(9);
  const Matrix<double> X = Matrix<double>::Ones(4, 2);
  CHECK_THROWS_AS(net.predict(Vector<double>::Ones(8), X, out), DimensionError);
  CHECK_THROWS_AS(net.predict(Vector<double>::Ones(9), Matrix<double>::Ones(4, 3), out), DimensionError);
  CHECK_THROWS_AS(net.vjp(Vector<double>::Ones(9), X, Vector<double>::Ones(3), g), DimensionError);
  CHECK_THROWS_AS(net.jvp(Vector<double>::Ones(9), X, Vector<double>::Ones(3), out), DimensionError);
  CHECK_THROWS_AS(net.invariant(Vector<double>::Ones(3)), DimensionError);
  CHECK_THROWS_AS(net.weights(Vector<double>::Ones(9), 3), ArgumentError);
}

TEMPLATE_TEST_CASE("the ReLU network works in other precisions", "", float, long double) {
  using S = TestType;
  RandomStream random(27);
  const ReluNetwork<S> net(2, {4, 3});
  const Vector<S> w = net.initial_parameters(random, BasicScale<S>::from_value(S(1)));
  const ReluNetwork<double> in_double(2, {4, 3});
  const Matrix<double> X = random_matrix(random, 5, 2);
  Vector<S> out(5);
  Vector<double> expected(5);
  net.predict(w, X.cast<S>(), out);
  in_double.predict(w.template cast<double>(), X, expected);
  const double rounding = std::max(eps, static_cast<double>(std::numeric_limits<S>::epsilon()));
  CHECK((out.template cast<double>() - expected).norm() <= 100 * rounding);
}
