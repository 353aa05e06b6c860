#include <cmath>
#include <vector>

#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linearized.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

// Models with several outputs, and losses whose curvature varies.

namespace {

PiController<> control(double relative) { return {.tolerance = {.relative = relative, .absolute = 0.0}}; }

/// Three classes in the plane.
LabelledDataset<double> three_classes(RandomStream& random, Index samples) {
  Matrix<double> features = random_matrix(random, 2, samples);
  Vector<int> labels(samples);
  for (Index n = 0; n < samples; ++n) {
    labels[n] = static_cast<int>(n % 3);
    features(0, n) += 2.0 * std::cos(2.1 * labels[n]);
    features(1, n) += 2.0 * std::sin(2.1 * labels[n]);
  }
  return LabelledDataset<double>::from_columns(features, labels, 3);
}

}  // namespace

TEST_CASE("the flow of K outputs is that of K networks where they share nothing") {
  // A two-layer network whose hidden units feed one output each: the flow keeps the zeros of its last layer.
  RandomStream random(501);
  const ReluNetwork<double> both(2, {8}, false, 2);
  const ReluNetwork<double> single(2, {4});
  const Matrix<double> X = random_matrix(random, 5, 2);
  const Matrix<double> Y = random_matrix(random, 5, 2);
  const Matrix<double> first = random_matrix(random, 2, 8);
  const Matrix<double> last = random_matrix(random, 8, 2);
  Vector<double> w = Vector<double>::Zero(both.num_parameters());
  Eigen::Map<Matrix<double>>(w.data(), 2, 8) = first;
  Eigen::Map<Matrix<double>> outgoing(w.data() + 16, 8, 2);
  outgoing.col(0).head(4) = last.col(0).head(4);
  outgoing.col(1).tail(4) = last.col(1).tail(4);
  const auto data = Dataset<>::with_outputs(X, Y);
  // Descent would move the zeros: a unit that feeds no second output still has a gradient by that weight. So compare
  // the derivative on the weights that are not zero.
  Vector<double> derivative(w.size());
  const GradientFlow flow(both, data);
  flow(0.0, w, derivative);
  double sum = 0.0;
  for (Index k = 0; k < 2; ++k) {
    const Dataset one(X, Y.col(k));
    const GradientFlow alone(single, one);
    Vector<double> part(12);
    part << first.middleCols(4 * k, 4).reshaped(), last.col(k).segment(4 * k, 4);
    Vector<double> own(12);
    alone(0.0, part, own);
    CHECK((derivative.segment(8 * k, 8) - own.head(8)).norm() <= 100 * eps * derivative.norm());
    CHECK((derivative.segment(16 + 8 * k + 4 * k, 4) - own.tail(4)).norm() <= 100 * eps * derivative.norm());
    sum += alone.loss(part);
  }
  CHECK_THAT(flow.loss(w), near(sum, 1e-14, 0.0));
}

TEST_CASE("a deep linear network and a muP network with ten outputs end where small steps of descent do, in fewer") {
  const auto check = [](const auto& net, const Dataset<>& data, const Vector<double>& w0, double step) {
    const GradientFlow flow(net, data);
    constexpr double goal = 1e-8;
    const auto end =
        integrate(flow, w0, TimeSpan{0.0, infinity}, Ros2{}, control(1e-4), {.events = {loss_below(goal)}});
    REQUIRE(end.status == Status::event);
    const auto descent = gradient_descent(flow, w0, {.step = step, .iterations = 2'000'000, .loss_below = goal});
    REQUIRE(descent.status == Status::event);
    CAPTURE(end.step, descent.step);
    CHECK((end.w - descent.w).norm() <= 1e-3 * end.w.norm());
    CHECK(end.step < descent.step / 5);
  };
  RandomStream random(502);
  const Matrix<double> X = random_matrix(random, 12, 6);
  const DeepLinearNetwork<double> linear(6, {8, 8, 8}, false, 3);  // depth 4
  const auto rotated = Dataset<>::with_outputs(X, X * random_matrix(random, 6, 3) / 3.0);
  check(linear, rotated, linear.initial_parameters(random, Scale<>::from_value(0.6)), 2e-5);

  const ReluNetwork<double> net(
      6, {40}, FullyConnectedOptions<double>{.num_outputs = 10, .parametrization = Parametrization::maximal_update});
  const auto data = Dataset<>::with_outputs(X.topRows(8), random_matrix(random, 8, 10));
  check(net, data, net.initial_parameters(random, Scale<>::from_value(1.0)), 2e-5);
}

TEST_CASE("the kernel predictor of several outputs is where the flow of the tangent model ends") {
  RandomStream random(503);
  const FullyConnected<double, activation::Tanh> net(3, {15, 10}, true, 3);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  const auto data = Dataset<>::with_outputs(random_matrix(random, 6, 3), random_matrix(random, 6, 3));
  const KernelPredictor kernel(net, w0, data);
  REQUIRE(kernel.rank() == 18);
  CHECK(kernel.interpolates());
  Matrix<double> F(6, 3);
  const Linearized tangent(net, w0);
  tangent.predict(kernel.parameters(), data.X(), F);
  CHECK((F - data.Y()).norm() <= 1e-10 * data.Y().norm());
  // At a finite time, against an integrator.
  const GradientFlow flow(tangent, data);
  const auto end = integrate(flow, w0, TimeSpan{0, 0.05}, DormandPrince{}, control(1e-10));
  CHECK((end.w - kernel.parameters(0.05)).norm() <= 1e-7 * (end.w - w0).norm());
  CHECK(kernel.predict_outputs(data.X()).isApprox(data.Y(), 1e-9));
  CHECK_THROWS_MATCHES(kernel.predict(data.X()), DimensionError, message_contains("3 outputs"));
  CHECK_THROWS_MATCHES(KernelPredictor(net, w0, Dataset(data.X(), data.Y().col(0))), DimensionError,
                       message_contains("the model has 3 outputs but the labels of a sample are for 1"));
}

TEST_CASE("W-methods follow the flows of the logistic loss, the exponential loss and the cross-entropy") {
  RandomStream random(504);
  const auto check = [](const auto& flow, const Vector<double>& w0, double goal) {
    const auto run = [&](const auto& stepper, double relative) {
      const auto end =
          integrate(flow, w0, TimeSpan{0.0, infinity}, stepper, control(relative), {.events = {loss_below(goal)}});
      REQUIRE(end.status == Status::event);
      return end;
    };
    // The explicit method at a tight tolerance is the reference; the errors of the others follow their tolerances.
    const auto exact = run(DormandPrince{}, 1e-9);
    const auto third = run(Ros34Pw2{}, 1e-6);
    const auto second = run(Ros2{}, 1e-5);
    CHECK((third.w - exact.w).norm() <= 1e-4 * exact.w.norm());
    CHECK((second.w - exact.w).norm() <= 1e-3 * exact.w.norm());
    CHECK_THAT(third.t, near(exact.t, 1e-3, 0.0));
  };
  const SquaredDiagonalNet<double> diagonal(6);
  Vector<double> y = random_vector(random, 5);
  for (double& label : y) label = label < 0.0 ? -1.0 : 1.0;
  const Dataset separable(random_matrix(random, 5, 6), y);
  const Vector<double> w0 = diagonal.initial_parameters(Scale<>::from_value(0.5));
  check(GradientFlow(diagonal, separable, LogisticLoss<double>{}), w0, 1e-2);
  check(GradientFlow(diagonal, separable, ExponentialLoss<double>{}), w0, 1e-2);

  const FullyConnected<double, activation::Tanh> net(2, {12}, true, 3);
  const LabelledDataset<double> classes = three_classes(random, 12);
  check(GradientFlow(net, classes), net.initial_parameters(random, Scale<>::from_value(1.0)), 1e-1);
}

TEST_CASE("flows of several outputs refuse what does not fit") {
  RandomStream random(506);
  const ReluNetwork<double> net(2, {3}, false, 2);
  const Matrix<double> X = random_matrix(random, 4, 2);
  const Dataset one(X, random_vector(random, 4));
  CHECK_THROWS_MATCHES(GradientFlow(net, one), DimensionError,
                       message_contains("the model has 2 outputs but the labels of a sample are for 1"));
  const LabelledDataset<double> classes = three_classes(random, 6);
  CHECK_THROWS_MATCHES(GradientFlow(net, classes), DimensionError, message_contains("for 3"));
  const ReluNetwork<double> wide(3, {3}, false, 3);
  CHECK_THROWS_MATCHES(GradientFlow(wide, classes), DimensionError, message_contains("the model takes 3 features"));
  const auto many = Dataset<>::with_outputs(X, random_matrix(random, 4, 2));
  CHECK_THROWS_MATCHES(many.y(), DimensionError, message_contains("2 labels per sample"));
  CHECK_THROWS_AS(Dataset<>::with_outputs(X, Matrix<double>(4, 0)), DimensionError);
  CHECK_THROWS_AS(Dataset<>::with_outputs(X, random_matrix(random, 3, 2)), DimensionError);
  const GradientFlow cross(ReluNetwork<double>(2, {3}, false, 3), classes);
  CHECK_THROWS_MATCHES(
      integrate(cross, Vector<double>::Ones(15).eval(), TimeSpan{0, 1}, ExponentialTangent{}, control(1e-3)),
      ArgumentError, message_contains("constant second derivative"));
}
