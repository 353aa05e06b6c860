#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/models/diagonal.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Net = SquaredDiagonalNet<double>;

}  // namespace

TEST_CASE("w_+ w_- is conserved by the flow to the tolerance of its steps") {
  RandomStream random(61);
  const Dataset data(random_matrix(random, 4, 10), random_vector(random, 4));
  const Net net(10);
  const GradientFlow<Net> flow(net, data);
  const Vector<double> w0 =
      net.initial_parameters(Scale<>::from_value(0.5), random_positive_vector(random, 10, 0.5, 2.0),
                             random_positive_vector(random, 10, 0.5, 2.0));
  double previous = 1.0;
  for (const double relative : {1e-4, 1e-7, 1e-10}) {
    InvariantMonitor<Net> monitor(net, w0);
    IntegrateOptions<double> options;
    options.observers = {monitor};
    const auto solution = integrate(flow, w0, TimeSpan{0.0, 1.0}, DormandPrince{},
                                    PiController<>{.tolerance = {relative, 1e-3 * relative}}, options);
    REQUIRE(solution.ok());
    CAPTURE(relative, monitor.largest());
    CHECK(monitor.largest() <= 100 * relative);  // some tens of steps, and a factor two from the product
    CHECK(monitor.largest() < 0.1 * previous);
    CHECK(monitor.latest() == invariant_drift<Net>(net, w0, solution.w));
    CHECK(monitor.latest() <= monitor.largest());
    previous = monitor.largest();
  }
}

TEST_CASE("under gradient descent the drift of the invariant halves with the step") {
  RandomStream random(62);
  const Dataset data(random_matrix(random, 4, 10), random_vector(random, 4));
  const Net net(10);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  const auto drift = [&](Index iterations) {
    InvariantMonitor<Net> monitor(net, w0);
    GradientDescentOptions<double> options{.step = 0.2 / static_cast<double>(iterations), .iterations = iterations};
    options.observers = {monitor};
    const auto solution = gradient_descent(net, data, w0, options);
    REQUIRE(solution.ok());
    return monitor.largest();
  };
  const double coarse = drift(2000);
  const double fine = drift(4000);
  CHECK(coarse > 1e-6);                           // well above rounding, so that the ratio means something
  CHECK_THAT(coarse / fine, near(2.0, 0.05, 0));  // the next order is of relative size one step
}

TEST_CASE("a monitor with a limit ends the run when the drift exceeds it") {
  RandomStream random(63);
  const Dataset data(random_matrix(random, 4, 10), random_vector(random, 4));
  const Net net(10);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  InvariantMonitor<Net> monitor(net, w0, 1e-3);
  GradientDescentOptions<double> options{.step = 5e-3, .iterations = 10000};
  options.observers = {monitor};
  const auto solution = gradient_descent(net, data, w0, options);
  CHECK(solution.status == Status::stopped_by_observer);
  CHECK(monitor.latest() > 1e-3);
  CHECK_THROWS_MATCHES((InvariantMonitor<Net>(net, w0, -1.0)), ArgumentError, message_contains("limit"));
}

TEST_CASE("the drift is relative to the largest invariant, and absolute from zero") {
  const Net net(2);
  Vector<double> w0(4);
  w0 << 1, 2, 3, 4;  // invariants 3, 8
  Vector<double> w(4);
  w << 1, 2, 3, 3;  // invariants 3, 6
  CHECK(invariant_drift<Net>(net, w0, w) == 0.25);
  CHECK(invariant_drift<Net>(net, w0, w0) == 0.0);
  Vector<double> flat(4);
  flat << 1, 2, 0, 0;
  CHECK(invariant_drift<Net>(net, flat, w) == 6.0);
}
