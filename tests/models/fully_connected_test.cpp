#include "richflow/models/fully_connected.hpp"

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
    CHECK(report.checks.size() == (c.has_biases ? 24U : 25U));  // with jvp, invariant, units and homogeneity
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

TEST_CASE("an evaluation has the values and gradients of the definition") {
  RandomStream random(23);
  for (const NetworkCase& c : network_cases()) {
    const ReluNetwork<double> net(c.features, c.widths, c.has_biases);
    const Matrix<double> X = random_matrix(random, c.samples, c.features);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const Vector<double> r = random_vector(random, c.samples);
    auto at = net.make_evaluation(c.samples);
    Vector<double> f(c.samples);
    Vector<double> g(net.num_parameters());
    at.forward(w, X, f);
    for (Index n = 0; n < c.samples; ++n) {
      const double by_definition = forward(net, w, X.row(n));
      CHECK_THAT(f[n], near(by_definition, 1e-12, 1e-12));  // some hundred roundings of numbers of size one
    }
    at.vjp(r, g);
    // Rounding of outputs up to some hundreds over the step of 1e-6.
    CHECK((g - pullback_by_differences(net, w, X, r)).norm() <= 1e-6 * (1.0 + g.norm()));
  }
}

namespace {

/// A user's activation whose derivative is no function of its value.
struct Sine {
  template <class S>
  static S value(S z) {
    using std::sin;
    return sin(z);
  }
  template <class S>
  static S slope(S z) {
    using std::cos;
    return cos(z);
  }
};

/// The battery for one activation, over parametrizations, biases and outputs.
template <class A>
void check_activation(const A& sigma, bool is_smooth) {
  RandomStream random(28);
  for (const auto parametrization : {Parametrization::standard, Parametrization::ntk, Parametrization::maximal_update})
    for (const bool has_biases : {false, true})
      for (const Index outputs : {1, 3}) {
        const FullyConnected<double, A> net(2, {5, 4},
                                            FullyConnectedOptions<double, A>{.has_biases = has_biases,
                                                                             .num_outputs = outputs,
                                                                             .parametrization = parametrization,
                                                                             .activation = sigma});
        const auto data = Dataset<>::with_outputs(random_matrix(random, 5, 2), random_matrix(random, 5, outputs));
        // Smooth ones away from saturation, others from their kinks.
        const auto report =
            testing::model_battery(net, data, 29, {.size = is_smooth ? 0.7 : 2.0, .step = is_smooth ? 1e-4 : 1e-5});
        CAPTURE(has_biases, outputs, static_cast<int>(parametrization), report);
        CHECK(report.ok());
        // 23 with jvp and units; homogeneous activations have an invariant, and without biases a degree.
        const std::size_t more = !is_smooth || detail::is_homogeneous<A> ? (has_biases ? 1 : 2) : 0;
        CHECK(report.checks.size() == 23 + more);
      }
}

}  // namespace

TEST_CASE("networks of every activation and parametrization pass the battery, with one output and several") {
  check_activation(activation::Relu{}, false);
  check_activation(activation::LeakyRelu(0.2), false);
  check_activation(activation::Linear{}, true);
  check_activation(activation::Tanh{}, true);
  check_activation(activation::Softplus{}, true);
  check_activation(Sine{}, true);
}

TEST_CASE("activations keep the digits of small values, and say where they are not homogeneous") {
  CHECK_THAT(activation::Softplus::value(-50.0), near(std::exp(-50.0), 1e-15, 0.0));
  CHECK_THAT(activation::Softplus::slope_from_value(activation::Softplus::value(-50.0)),
             near(std::exp(-50.0), 1e-15, 0.0));
  CHECK(activation::Softplus::value(800.0) == 800.0);
  CHECK(std::isnan(activation::Relu::value(std::nan(""))));
  CHECK_THROWS_MATCHES(activation::LeakyRelu(1.5), ArgumentError, message_contains("got 1.5"));
  const FullyConnected<double, activation::Tanh> net(2, {3});
  CHECK_THROWS_MATCHES(net.homogeneity(), ArgumentError, message_contains("activation"));
}

TEST_CASE("the flow of a deep linear network conserves the balance of neighbouring layers") {
  RandomStream random(30);
  const DeepLinearNetwork<double> net(3, {4, 5}, false, 2);
  const auto data = Dataset<>::with_outputs(random_matrix(random, 6, 3), random_matrix(random, 6, 2));
  const Vector<double> w = net.initial_parameters(random, Scale<>::from_value(0.5));
  const Matrix<double> W1 = net.weights(w, 1);
  const Matrix<double> W2 = net.weights(w, 2);
  const Matrix<double> balance = W1.transpose() * W1 - W2 * W2.transpose();
  const Vector<double> invariant = net.invariant(w);
  REQUIRE(invariant.size() == 16 + 25);
  CHECK((Eigen::Map<const Matrix<double>>(invariant.data(), 4, 4) - balance).norm() <= 10 * eps * w.squaredNorm());
  // Its product is a linear function of the inputs.
  Matrix<double> F(6, 2);
  net.predict(w, data.X(), F);
  CHECK((F - data.X() * W1 * W2 * net.weights(w, 3)).norm() <= 100 * eps * F.norm());
}

TEST_CASE("parametrizations start as functions of one size, and learn at their own speeds") {
  // Sums over n = 400 neurons; what is drawn scatters by some per cent.
  const Index n = 400;
  const Matrix<double> X = Matrix<double>::Ones(1, 10) / std::sqrt(10.0);
  const auto make = [&](Parametrization parametrization) {
    return ReluNetwork<double>(10, {n, n}, FullyConnectedOptions<double>{.parametrization = parametrization});
  };
  const auto mean_square = [&](const ReluNetwork<double>& net) {
    double sum = 0.0;
    for (int k = 0; k < 200; ++k) {
      RandomStream random(31, static_cast<std::uint64_t>(k));
      Vector<double> f(1);
      net.predict(net.initial_parameters(random, Scale<>::from_value(1.0), HeInitialization::normal), X, f);
      sum += f[0] * f[0] / 200.0;
    }
    return sum;
  };
  // Gain 2 in each layer halves in each ReLU: E f^2 = 2 |x|^2 / d * ... = 2 / 10 for |x| = 1, d = 10; muP's last layer
  // is smaller by sqrt(n). 200 draws of f^2 scatter by about sqrt(2 / 200) = 0.1 and the widths: within four of it.
  CHECK_THAT(mean_square(make(Parametrization::standard)), near(0.2, 0.4, 0.0));
  CHECK_THAT(mean_square(make(Parametrization::ntk)), near(0.2, 0.4, 0.0));
  CHECK_THAT(mean_square(make(Parametrization::maximal_update)), near(0.2 / static_cast<double>(n), 0.4, 0.0));
  // The factors of a parametrization belong to the model: with the same function, gradients by the weights of layer l
  // are m_l times those of the standard one.
  const ReluNetwork<double> standard = make(Parametrization::standard);
  const ReluNetwork<double> ntk = make(Parametrization::ntk);
  RandomStream random(32);
  const Vector<double> w = ntk.initial_parameters(random, Scale<>::from_value(1.0), HeInitialization::normal);
  Vector<double> same = w;
  Vector<double> factors(w.size());
  for (Index l = 1; l <= 3; ++l) {
    const auto W = ntk.weights(w, l);
    const double m = std::sqrt(2.0 / static_cast<double>(W.rows()));
    factors.segment(W.data() - w.data(), W.size()).setConstant(m);
  }
  same.array() *= factors.array();
  Vector<double> f(1), g(1), gradient(w.size()), of_standard(w.size());
  ntk.predict(w, X, f);
  standard.predict(same, X, g);
  CHECK_THAT(f[0], near(g[0], 1e-10, 1e-12));
  ntk.vjp(w, X, Vector<double>::Ones(1), gradient);
  standard.vjp(same, X, Vector<double>::Ones(1), of_standard);
  CHECK((gradient - factors.cwiseProduct(of_standard)).norm() <= 1e-12 * gradient.norm());
}

TEST_CASE("He initialization has the promised bounds, variances and scale") {
  RandomStream random(24);
  const ReluNetwork<double> net(3, {200, 100}, true);
  const Vector<double> uniform = net.initial_parameters(random, Scale<>::from_value(0.5));
  const Vector<double> normal = net.initial_parameters(random, Scale<>::from_value(0.5), HeInitialization::normal);
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
  const Vector<double> w = net.initial_parameters(random, Scale<>::from_value(0.7));
  std::vector<double> drifts;
  for (const double step : {4e-4, 2e-4, 1e-4}) {
    const auto end = gradient_descent(net, data, w, {.step = step, .iterations = static_cast<Index>(0.4 / step)});
    REQUIRE(end.ok());
    drifts.push_back(invariant_drift(net, w, end.w));
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
  CHECK_THROWS_MATCHES(net.initial_parameters(random, Scale<>::from_log(-800.0)), ArgumentError,
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
  const Vector<S> w = net.initial_parameters(random, Scale<S>::from_value(S(1)));
  const ReluNetwork<double> in_double(2, {4, 3});
  const Matrix<double> X = random_matrix(random, 5, 2);
  Vector<S> out(5);
  Vector<double> expected(5);
  net.predict(w, X.cast<S>(), out);
  in_double.predict(w.template cast<double>(), X, expected);
  const double rounding = std::max(eps, static_cast<double>(std::numeric_limits<S>::epsilon()));
  CHECK((out.template cast<double>() - expected).norm() <= 100 * rounding);
}
