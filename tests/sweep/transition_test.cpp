#include "richflow/sweep/transition.hpp"

#include <cmath>

#include "richflow/bias/regularizer.hpp"
#include "richflow/flow/decaying_dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "support/catch.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("a transition is found where the curve makes its step") {
  const double center = -2.3, slope = 1.7;
  const Transition found = transition(
      [&](Scale<> scale) { return 3 + 5 / (1 + std::exp(-slope * (scale.log() - center))); }, {.tolerance = 1e-7});
  CHECK_THAT(found.low_value, near(3, 1e-12, 0));
  CHECK_THAT(found.high_value, near(8, 1e-5, 0));
  // The ends of the range are e^-12 from the plateaus.
  CHECK_THAT(found.half.log(), near(center, 0, 1e-5));
  CHECK_THAT(found.width(), near(2 * std::log(9) / slope, 1e-4, 0));
  CHECK_THAT(found.time(Scale<>::from_log(10), 0.01), near((10 - center) / 0.02, 1e-5, 0));
  CHECK_THAT(found.duration(0.01), near(2 * std::log(9) / slope / 0.02, 1e-4, 0));
}

TEST_CASE("grokking: the test error of the flow with weight decay falls when the sweep says") {
  const SparseRegression<> problem =
      sparse_regression({.num_samples = 12, .num_inputs = 30, .num_nonzero = 2, .noise_variance = 0, .seed = 12});
  const Dataset<>& data = problem.dataset;
  const SquaredDiagonalNet<double> net(30);
  MirrorPath path(data, regularizer(net, Start<>::uniform(Scale<>::from_log(0))));
  const auto error_at = [&](Scale<> alpha) { return problem.population_error(path.solve(alpha).require_ok().beta); };
  const Transition found = transition(error_at);
  const double level = 0.5 * (found.low_value + found.high_value);
  for (const double alpha : {10.0, 1e6})
    for (const double lambda : {0.1, 1e-3}) {
      const Scale<> scale = Scale<>::from_value(alpha);
      const DecayingDualFlow<double> flow(net, data, Start<>::uniform(scale), lambda);
      IntegrateOptions<> options;
      options.events = {zero_crossing(
          "half way down",
          [&](double t, const Vector<double>& state) {
            // The first moments, when the data are not yet fitted, do not count.
            return t < 1 ? 1.0 : problem.population_error(flow.beta(state)) - level;
          },
          Crossing::falling)};
      const auto run = integrate(flow, flow.initial_state(), TimeSpan{0, 3 * found.time(scale, lambda)}, Rodas4{},
                                 PiController<>{.tolerance = {1e-6, 0}, .first_step = flow.first_step()}, options);
      INFO("alpha = " << alpha << ", lambda = " << lambda << ", steps " << run.step);
      REQUIRE(run.status == Status::event);
      // The flow is within O(lambda) of the path, in log alpha too: of log(alpha / alpha_c) = 2 lambda t.
      CHECK_THAT(2 * lambda * run.t, near(2 * lambda * found.time(scale, lambda), 0, 0.5 * lambda + 1e-3));
      CHECK(run.step < 2000);
    }
}

TEST_CASE("a transition refuses a curve that does not rise, and decay that is none") {
  CHECK_THROWS_MATCHES(transition([](Scale<>) { return 1.0; }), ArgumentError, message_contains("rise"));
  CHECK_THROWS_AS(transition([](Scale<> scale) { return scale.log() > 0 ? std::nan("") : 0.0; }), ArgumentError);
  CHECK_THROWS_MATCHES(grokking_time(Scale<>::from_log(1), Scale<>::from_log(0), 0), ArgumentError,
                       message_contains("lambda"));
}
