#include "richflow/bias/step_size_bound.hpp"

#include <algorithm>
#include <cmath>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/linalg/spectral.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

template <class Net>
Vector<double> predictor(const Net& net, const Vector<double>& w) {
  Vector<double> beta(net.num_inputs());
  net.beta(w, beta);
  return beta;
}

/// At any weights the sharpness is at least what their beta says, and at `flattest`, the weights that are flattest for
/// it, exactly so.
template <class Net>
void check_bound(const Net& net, RandomStream& random, const Vector<double>& flattest) {
  const Matrix<double> X = random_matrix(random, 6, net.num_inputs());
  for (int k = 0; k < 20; ++k) {
    const Vector<double> w = random_vector(random, net.num_parameters());
    const double sharpness = interpolator_sharpness(net, X, w);
    CHECK_THAT(sharpness, near(2 * detail::svd_values<double>(tangent_kernel(net, w, X))[0], 1e-12, 0.0));
    const auto bound = step_size_bound(net, X, predictor(net, w), 2 / sharpness);
    CHECK(bound.holds());
    CHECK(bound.largest_step >= 2 / sharpness);
    CHECK(bound.weighted_l1 <= bound.weighted_l1_bound);
    // The step that the flattest weights of this beta allow, and nothing beyond.
    CHECK(step_size_bound(net, X, predictor(net, w), 0.999 * bound.largest_step).holds());
    CHECK_FALSE(step_size_bound(net, X, predictor(net, w), 1.001 * bound.largest_step).holds());
  }
  const auto bound = step_size_bound(net, X, predictor(net, flattest), 0.1);
  CHECK_THAT(bound.largest_step, near(2 / interpolator_sharpness(net, X, flattest), 1e-12, 0.0));
}

}  // namespace

TEST_CASE("the bound of a step is the sharpness of the flattest weights with this predictor") {
  RandomStream random(2470);
  const Index d = 9;
  for (const Index depth : {2, 3, 4, 5}) {
    CAPTURE(depth);
    // One of w_+, w_- is zero; at odd depth both are equal, of opposite sign.
    Vector<double> flattest = Vector<double>::Zero(2 * d);
    flattest.head(d) = random_positive_vector(random, d, 0.1, 1.0);
    if (depth % 2 == 1) flattest.tail(d) = -flattest.head(d);
    check_bound(DiagonalNet<double>(depth, d), random, flattest);
  }
  // |u| = |v|, and one pair zero.
  Vector<double> flattest = Vector<double>::Zero(4 * d);
  flattest.head(d) = random_positive_vector(random, d, 0.1, 1.0);
  flattest.segment(d, d) = flattest.head(d);
  check_bound(TwoLayerDiagonalNet<double>(d), random, flattest);
}

TEST_CASE("every limit of descent satisfies the bound of its step, up to the edge of stability") {
  RandomStream random(2471);
  int ended = 0, near_the_edge = 0;
  for (int k = 0; k < 8; ++k) {
    const Dataset<> data = gaussian_data(random, 5, 9);
    const SquaredDiagonalNet<double> net(9);
    const GradientFlow flow(net, data);
    const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(log_uniform(random, 0.1, 1.0)));
    // Of the step that the flow's limit allows.
    const Vector<double> limit =
        integrate(flow, w0, Steps{20000}, Descent{}, ConstantStep{2e-4}, {.events = {loss_below(1e-16).at_step_end()}})
            .w;
    const double stable = 2 / interpolator_sharpness(net, data.X(), limit);
    for (const double fraction : {0.5, 0.9, 1.0, 1.05, 1.1, 1.5}) {
      const double step = fraction * stable;
      const auto run = integrate(flow, w0, Steps{5000}, Descent{}, ConstantStep{step}, {.detect_stall = false});
      if (!run.ok() || !(flow.loss(run.w) <= 1e-20)) continue;
      ++ended;
      const double edge = step * interpolator_sharpness(net, data.X(), run.w);
      if (edge > 1.5) ++near_the_edge;
      // Beyond 2 rounding grows by edge - 1 in each step: 1e-16 would be seen, as 1e-10, within half of the run.
      CHECK(edge <= 2.006);
      const auto bound = step_size_bound(net, data.X(), predictor(net, run.w), step);
      CHECK(bound.holds());
      CHECK(bound.weighted_l1 <= bound.weighted_l1_bound);
    }
  }
  // The runs come close to the bound; some converge with steps that the flow's own limit does not allow.
  CHECK(ended >= 24);
  CHECK(near_the_edge >= 8);
}

TEST_CASE("a step rules out predictors of large weighted l1 norm, in closed form") {
  const Dataset<> data = algorithms_problem();
  const SquaredDiagonalNet<double> net(8);
  const Vector<double> beta = Vector<double>::LinSpaced(8, -1.0, 2.0);
  const auto bound = step_size_bound(net, data.X(), beta, 0.05);
  const Matrix<double> weighted = data.X() * beta.cwiseAbs().asDiagonal() * data.X().transpose();
  CHECK_THAT(bound.spectral, near(detail::svd_values<double>(weighted)[0], 1e-13, 0.0));
  CHECK_THAT(bound.spectral_bound, near(1 / (4 * 0.05), 1e-15, 0.0));
  CHECK_THAT(bound.weighted_l1, near(weighted.trace(), 1e-13, 0.0));
  CHECK_THAT(bound.weighted_l1_bound, near(4 / (4 * 0.05), 1e-15, 0.0));
  // Of more samples than features, by the other side.
  const Matrix<double> tall = data.X().transpose();
  const Vector<double> few = beta.head(4);
  CHECK_THAT(step_size_bound(SquaredDiagonalNet<double>(4), tall, few, 0.05).spectral,
             near(detail::svd_values<double>(tall * few.cwiseAbs().asDiagonal() * tall.transpose())[0], 1e-13, 0.0));
  CHECK(step_size_bound(net, data.X(), Vector<double>::Zero(8), 1.0).largest_step == infinity);

  CHECK_THROWS_MATCHES(step_size_bound(net, data.X(), beta, 0.0), ArgumentError,
                       message_contains("the step must be positive and finite, got 0"));
  CHECK_THROWS_AS(step_size_bound(net, data.X(), few, 0.1), DimensionError);
  CHECK_THROWS_AS(step_size_bound(net, tall, beta, 0.1), DimensionError);
  CHECK_THROWS_AS(step_size_bound(net, Matrix<double>(0, 8), beta, 0.1), DimensionError);
  CHECK_THROWS_AS(step_size_bound(net, data.X(), Vector<double>::Constant(8, infinity), 0.1), NonFiniteError);
  CHECK_THROWS_AS(interpolator_sharpness(net, data.X(), beta), DimensionError);
  CHECK_THROWS_MATCHES(interpolator_sharpness(net, data.X(), Vector<double>::Constant(16, 1e200)), NonFiniteError,
                       message_contains("the squared derivative of beta(0) is inf"));
}
