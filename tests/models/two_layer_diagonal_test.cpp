#include "richflow/models/two_layer_diagonal.hpp"

#include <cmath>
#include <utility>

#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Theory, section 9: sum (k/4) [1 - sqrt(1 + 4 b^2 / k^2) + (2b/k) arcsinh(2b/k)], k = 2 (u^2 + v^2).
double azulay_regularizer(const Vector<double>& u, const Vector<double>& v, const Vector<double>& beta) {
  long double sum = 0.0L;
  for (Index i = 0; i < beta.size(); ++i) {
    const long double k = 2.0L * (static_cast<long double>(u[i]) * u[i] + static_cast<long double>(v[i]) * v[i]);
    const long double t = 2.0L * beta[i] / k;
    sum += k / 4.0L * (1.0L - std::sqrt(1.0L + t * t) + t * std::asinh(t));
  }
  return static_cast<double>(sum);
}

}  // namespace

TEST_CASE("the two-layer net passes the model battery", "[two_layer]") {
  RandomStream random(19);
  for (const auto& [samples, features] : {std::pair<Index, Index>{1, 1}, {3, 2}, {2, 300}}) {
    const Dataset data(random_matrix(random, samples, features), random_vector(random, samples));
    const TwoLayerDiagonalNet<double> net(features);
    const auto report =
        testing::model_battery(net, random_vector(random, 4 * features), data, random_vector(random, 4 * features),
                               random_vector(random, samples), 1e-4);
    CAPTURE(samples, features, report);
    CHECK(report.ok());
    CHECK(report.checks.size() == 26);
  }
}

TEST_CASE("its regularizer is that of Azulay et al., in units of one half", "[two_layer]") {
  RandomStream random(20);
  for (const double log_alpha : {-3.0, 0.0, 2.0}) {
    const Vector<double> u = random_vector(random, 30);
    const Vector<double> v = random_vector(random, 30);
    const Vector<double> beta = random_vector(random, 30);
    const double alpha = std::exp(log_alpha);
    const auto Q = Hypentropy<>::two_layer(u, v, Scale<>::from_log(log_alpha));
    // The closed form in long double cancels at most like 1 / t^2, t above 1e-3 here.
    CHECK_THAT(Q.value(beta), near(2 * azulay_regularizer(alpha * u, alpha * v, beta), 1e-12, 0));
    CHECK(Q.dual_rate() == 4.0);
    CHECK(Q.with_scale(Scale<>::from_log(-1)).dual_rate() == 4.0);
  }
  CHECK_THROWS_MATCHES(
      Hypentropy<>::two_layer(Vector<double>::Zero(2), Vector<double>::Zero(2), Scale<>::from_value(1.0)),
      ArgumentError, message_contains("u(0)"));
  CHECK_THROWS_AS(Hypentropy<>::two_layer(Vector<double>::Ones(2), Vector<double>::Ones(3), Scale<>::from_value(1.0)),
                  DimensionError);
}

TEST_CASE("the limit of the simulated two-layer flow is the minimizer to 1e-8", "[two_layer]") {
  RandomStream random(21);
  const Index d = 12;
  const Dataset data(random_matrix(random, 4, d), random_vector(random, 4));
  for (const double alpha : {0.05, 0.5, 2.0}) {
    // From balanced to fully unbalanced (u = 0), and of mixed signs.
    Vector<double> u = random_vector(random, d);
    const Vector<double> v = random_vector(random, d);
    u[0] = 0.0;
    u[1] = v[1];
    u[2] = -v[2];
    const auto scale = Scale<>::from_value(alpha);
    const TwoLayerDiagonalNet<double> net(d);
    const GradientFlow flow(net, data);
    IntegrateOptions<> until_fit;
    until_fit.events = {loss_below(1e-20)};
    const Vector<double> w0 = net.initial_parameters(scale, u, v);
    const auto solution = integrate(flow, w0, TimeSpan{0.0, infinity}, DormandPrince{},
                                    PiController<>{.tolerance = {.relative = 1e-12, .absolute = 1e-15}}, until_fit);
    CAPTURE(alpha, solution.message);
    REQUIRE(solution.ok());
    Vector<double> beta(d);
    net.beta(solution.w, beta);
    CHECK(invariant_drift(net, w0, solution.w) <= 1e-9);
    HypentropyPath<> path(data, Hypentropy<>::two_layer(u, v, scale));
    const Vector<double> minimizer = path.solve(scale).require_ok().beta;
    CHECK((beta - minimizer).norm() <= 1e-8 * minimizer.norm());

    // The dual flow runs on the same clock: the predictor at one time, before the end, is the same.
    const double t = 0.02;
    const auto primal = integrate(flow, w0, TimeSpan{0.0, t}, DormandPrince{},
                                  PiController<>{.tolerance = {.relative = 1e-12, .absolute = 1e-15}});
    const DualFlow dual(Hypentropy<>::two_layer(u, v, scale), data);
    const auto in_dual = integrate(dual, dual.initial_state(), TimeSpan{0.0, t}, DormandPrince{},
                                   PiController<>{.tolerance = {.relative = 1e-12, .absolute = 1e-15}});
    Vector<double> beta_dual(d);
    net.beta(primal.w, beta);
    dual.beta(in_dual.w, beta_dual);
    CHECK((beta - beta_dual).norm() <= 1e-9 * (beta.norm() + 1e-3));
  }
}

TEST_CASE("the two-layer net refuses bad input by name", "[two_layer]") {
  CHECK_THROWS_MATCHES(TwoLayerDiagonalNet<double>(0), DimensionError, message_contains("d > 0"));
  const TwoLayerDiagonalNet<double> net(2);
  const auto scale = Scale<>::from_value(1.0);
  const Vector<double> one = Vector<double>::Ones(2);
  CHECK_THROWS_AS(net.initial_parameters(scale, Vector<double>::Ones(3), one), DimensionError);
  CHECK_THROWS_MATCHES(net.initial_parameters(scale, Vector<double>::Zero(2), Vector<double>::Zero(2)), ArgumentError,
                       message_contains("(0)"));
  CHECK_THROWS_MATCHES(net.initial_parameters(Scale<>::from_log(-800), one, one), ArgumentError,
                       message_contains("-800"));
  CHECK_THROWS_MATCHES(net.initial_parameters(Scale<>::from_log(800), one, one), ArgumentError,
                       message_contains("800"));
  Vector<double> beta(2);
  net.beta(net.initial_parameters(scale, one, 0 * one), beta);
  CHECK(beta.norm() == 0.0);
  CHECK_THROWS_AS(net.beta(Vector<double>::Ones(3), beta), DimensionError);
}
