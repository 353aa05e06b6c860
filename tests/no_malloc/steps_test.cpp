// Proves that a step of every stepper allocates nothing.
#include "support/no_allocation.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

#include "richflow/core/random.hpp"
#include "richflow/flow/decaying_dual_flow.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/flow/end_to_end_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/flow/symmetric_change_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/relaxed_euler.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/limits/classification_flow.hpp"
#include "richflow/models/conv_network.hpp"
#include "richflow/models/deep_factorization.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/models/univariate_relu.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

Dataset<> fixed_data(Index n, Index d) {
  RandomStream random(91);
  return gaussian_data(random, n, d);
}

/// Two accepted steps and a rejected one, with everything the loop asks for. On the gradient flow of a model a first
/// step makes the memory of its tangent space.
template <class Problem, class St>
void check_steps(const Problem& problem, const Vector<double>& y0, double h, const St& stepper) {
  auto ws = stepper.make_workspace(problem);
  Vector<double> y = y0;
  Vector<double> y_new = y0;
  Vector<double> between = y0;
  if constexpr (requires { problem.make_tangent(); }) {
    stepper.begin(problem, 0.0, y, ws);
    stepper.step(problem, 0.0, h, y, y_new, ws);
  }
  const auto run = [&] {
    const NoAllocation guard;
    stepper.begin(problem, 0.0, y, ws);
    for (int i = 0; i < 2; ++i) {
      stepper.step(problem, 0.0, 2 * h, y, y_new, ws);
      stepper.step(problem, 0.0, h, y, y_new, ws);
      if constexpr (DerivativeStepper<St, Problem>) stepper.end_derivative(problem, h, y_new, ws);
      if constexpr (DenseStepper<St, Problem>) stepper.interpolate(ws, 0.5, h, y, y_new, between);
      if constexpr (EmbeddedStepper<St, Problem> && HasErrorRatio<Problem>)
        static_cast<void>(problem.error_ratio(y, y_new, stepper.error(ws), Tolerance<double>{1e-3, 1e-6}));
      static_cast<void>(problem.loss(y_new));
      stepper.accept(ws);
      y.swap(y_new);
    }
  };
  REQUIRE_NOTHROW(run());
  CHECK(y.allFinite());
  CHECK((y - y0).norm() > 0.0);
}

}  // namespace

TEST_CASE("the switch works: an allocation is seen") {
  const auto allocate = [] {
    const NoAllocation guard;
    const Vector<double> v = Vector<double>::Zero(1000);
    return v.sum();
  };
  CHECK_THROWS_AS(allocate(), std::logic_error);
}

TEST_CASE("explicit steps of the gradient flow allocate nothing") {
  const Dataset<> data = fixed_data(40, 700);
  const SquaredDiagonalNet<double> net(700);
  const GradientFlow<SquaredDiagonalNet<double>> flow(net, data);
  const Vector<double> w = net.initial_parameters(Scale<>::from_value(0.1));
  check_steps(flow, w, 1e-5, Euler{});
  check_steps(flow, w, 1e-5, RungeKutta4{});
  check_steps(flow, w, 1e-5, DormandPrince{});

  Vector<double> v = w;
  Vector<double> r(40);
  const auto call = [&] {
    const NoAllocation guard;
    flow.residual(w, r);
    flow.jvp(w, v, r);
    flow.vjp(w, r, v);
  };
  CHECK_NOTHROW(call());
}

TEST_CASE("linearly implicit and exponential steps with weight decay allocate nothing") {
  const Dataset<> data = fixed_data(12, 40);
  const SquaredDiagonalNet<double> net(40);
  const auto relu = ReluNetwork<double>::uniform_width(40, 2, 10);
  RandomStream random(94);
  const Vector<double> weights = relu.initial_parameters(random, Scale<>::from_value(1.0));
  const auto check = [&](const auto& problem, const Vector<double>& w) {
    const WithWeightDecay decayed(problem, [](double t) { return 0.1 / (1 + t); });
    check_steps(decayed, w, 1e-4, Ros2{});
    check_steps(decayed, w, 1e-4, Ros34Pw2{});
    check_steps(decayed, w, 1e-4, ExponentialTangent{});
  };
  check(GradientFlow(net, data), net.initial_parameters(Scale<>::from_value(0.1)));
  check(GradientFlow(relu, data), weights);
  // A field with a Jacobian, whose dependence on t has memory of its own.
  const DualFlow<Hypentropy<>> field(Hypentropy<>::uniform(40, Scale<>::from_value(0.3)), data);
  const WithWeightDecay decayed(field, [](double t) { return 0.1 / (1 + t); });
  check_steps(decayed, field.initial_state(), field.first_step(), Rodas4{});
  check_steps(decayed, field.initial_state(), field.first_step(), Ros34Pw2{});
  check_steps(decayed, field.initial_state(), field.first_step(), ExponentialRosenbrock{});
}

TEST_CASE("explicit and linearly implicit steps of the dual flow allocate nothing") {
  // 100 samples are several tiles of the Jacobian's assembly.
  const Dataset<> data = fixed_data(100, 500);
  for (const double log_alpha : {2.0, 0.0, -5.0, -100.0}) {
    CAPTURE(log_alpha);
    const DualFlow<Hypentropy<>> flow(Hypentropy<>::uniform(500, Scale<>::from_log(log_alpha)), data);
    const Vector<double> nu = flow.initial_state();
    const double h = flow.first_step();
    check_steps(flow, nu, h, DormandPrince{});
    check_steps(flow, nu, h, Rodas3{});
    check_steps(flow, nu, h, Rodas3{.jacobian_tolerance = 1e-3});
    check_steps(flow, nu, h, Rodas4{});
    check_steps(flow, nu, h, Ros34Pw2{.jacobian_tolerance = 1e-1});
    check_steps(flow, nu, h, ExponentialRosenbrock{});
    check_steps(flow, nu, h, ExponentialRosenbrock{.jacobian_tolerance = 1e-3});
  }
}

TEST_CASE("steps of the dual flow with decay, and with integrals that feed back, allocate nothing") {
  const Dataset<> data = fixed_data(30, 80);
  const Vector<double> logs = Vector<double>::Constant(80, -0.5), rate = Vector<double>::Constant(80, 0.1);
  for (const Index depth : {2, 3}) {
    const DecayingDualFlow<double> flow(data, {logs, logs}, rate, depth == 2 ? 8.0 : 6.0,
                                        {1e-3, 1e-3, 0.01, 1e-3, depth > 2}, depth, 0.1);
    check_steps(flow, flow.initial_state(), flow.first_step(), Rodas4{});
  }
}

TEST_CASE("linearly implicit steps of the classification flow allocate nothing") {
  const Dataset<> data = fixed_data(60, 300);
  const Dataset classes(data.X(), data.y().unaryExpr([](double label) { return label < 0 ? -1.0 : 1.0; }));
  for (const double log_alpha : {2.0, -5.0, -100.0}) {
    CAPTURE(log_alpha);
    const ClassificationFlow<> flow(Hypentropy<>::uniform(300, Scale<>::from_log(log_alpha)), classes,
                                    MarginLoss::logistic);
    check_steps(flow, flow.initial_state(), flow.first_step(), Ros34Pw2{});
  }
}

namespace {

template <class M>
void check_factorization(const M& model, Kind kind, Index samples) {
  RandomStream random(92);
  const Dataset<> data = random_measured_data(random, kind, model.shape(), samples);
  const Vector<double> w = model.initial_parameters(random, Scale<>::from_value(0.1));
  const GradientFlow<M> plain(model, data);
  const LiftedFlow<M> lifted(model, data);
  const double h = lifted.first_step(w);
  check_steps(plain, w, h, DormandPrince{});
  check_steps(lifted, w, h, DormandPrince{});
  check_steps(lifted, w, h, Rodas4{});
  check_steps(lifted, w, h, Ros34Pw2{});
}

}  // namespace

TEST_CASE("explicit and linearly implicit steps of factorizations allocate nothing") {
  check_factorization(MatrixFactorization<double>(10, 10, 20), Kind::entries, 60);
  check_factorization(MatrixFactorization<double>(30, 20, 4), Kind::entries, 100);
  check_factorization(MatrixFactorization<double>(10, 8, 18), Kind::dense, 30);
  check_factorization(MatrixFactorization<double>(10, 10, 20), Kind::diagonal, 4);
  check_factorization(SymmetricFactorization<double>(10, 10), Kind::dense, 30);
}

TEST_CASE("explicit steps of lifted and end-to-end flows and evaluations of deep factorizations allocate nothing") {
  RandomStream random(95);
  for (const Kind kind : {Kind::dense, Kind::entries}) {
    const Dataset<> data = random_measured_data(random, kind, FactorShape::general(4, 4), 5);
    const SymmetricChangeFlow<> change(data, Matrix<double>::Identity(4, 4), Scale<>::from_log(1), ZeroStart::doubled);
    check_steps(change, random_vector(random, 32), 1e-3, DormandPrince{});
    check_steps(EndToEndFlow<>(3, data), random_vector(random, 16), 1e-4, DormandPrince{});
    const DeepFactorization<double> model({4, 5, 2, 4});
    auto at = model.make_evaluation(5);
    const Vector<double> w = random_vector(random, model.num_parameters());
    Vector<double> gradient(w.size());
    Matrix<double> F(5, 1), K(5, 5);
    const auto pass = [&] {
      at.forward(w, data.measurements(), F);
      at.vjp(F, gradient);
      at.jvp(gradient, F);
      at.kernel(K);
    };
    pass();
    const auto run = [&] {
      const NoAllocation guard;
      pass();
    };
    CHECK_NOTHROW(run());
    CHECK(K.allFinite());
  }
}

TEST_CASE("steps of ReLU networks allocate nothing") {
  // Short, for the widest net is stiff.
  const auto check_all = [](const auto& flow, const Vector<double>& w) {
    check_steps(flow, w, 1e-5, Euler{});
    check_steps(flow, w, 1e-5, DormandPrince{});
    check_steps(flow, w, 1e-5, Ros2{});
    check_steps(flow, w, 1e-5, Ros34Pw2{});
    check_steps(flow, w, 1e-5, ExponentialTangent{});
  };
  RandomStream random(92);
  const Dataset<> data = fixed_data(10, 2);
  for (const Index depth : {2, 3, 5}) {
    const auto net = ReluNetwork<double>::uniform_width(2, depth, 30, depth == 3);
    check_all(GradientFlow(net, data), net.initial_parameters(random, Scale<>::from_value(1.0)));
  }
  const Dataset<> line = fixed_data(9, 1);
  const UnivariateRelu<double> wide(1000);
  const Vector<double> start = wide.initial_parameters(random, Scale<>::from_value(0.5));
  check_all(GradientFlow(Unbiased(wide, start), line), start);
  check_all(GradientFlow(Doubled(wide), line), Doubled(wide).initial_parameters(start));
  // More samples than Eigen's reflections are applied to one by one.
  const Dataset<> many = fixed_data(150, 2);
  const auto net = ReluNetwork<double>::uniform_width(2, 3, 40);
  check_steps(GradientFlow(net, many), net.initial_parameters(random, Scale<>::from_value(1.0)), 1e-5,
              ExponentialTangent{});
}

TEST_CASE("steps with second derivatives of the model allocate nothing") {
  RandomStream random(93);
  const auto net = ReluNetwork<double>::uniform_width(2, 2, 8);
  const Dataset<> data = fixed_data(12, 2);
  check_steps(GradientFlow(net, data), net.initial_parameters(random, Scale<>::from_value(1.0)), 1e-5, RelaxedEuler{});
}

TEST_CASE("a batch of a small convolutional network allocates nothing") {
  RandomStream random(92);
  const ConvNetwork<double> net({2, 4, 4}, "3-M-4-FC", 3);
  const Matrix<double> X = random_matrix(random, 7, net.num_inputs());
  const Matrix<double> G = random_matrix(random, 7, 3);
  Vector<double> w = net.initial_parameters(random, Scale<>::from_value(1));
  const Vector<double> v = w;
  Matrix<double> F(7, 3);
  Matrix<double> dF(7, 3);
  auto at = net.make_evaluation(9);
  const auto run = [&] {
    const NoAllocation guard;
    at.forward(w, X, F);
    at.jvp(v, dF);
    at.add_pullback(G, -0.01, w);
    at.forward(w, X.topRows(5), F.topRows(5));
  };
  REQUIRE_NOTHROW(run());
  CHECK((w - v).norm() > 0.0);
  CHECK(dF.allFinite());
}

TEST_CASE("evaluations of small models allocate nothing, after their first linearization") {
  RandomStream random(93);
  testing::ModelBatteryOptions<double> options;
  options.size = 2.0;
  // A first pass makes what is made where it is used first.
  options.count_allocations = [](const std::function<void()>& action) {
    action();
    try {
      const NoAllocation guard;
      action();
    } catch (const std::logic_error&) {
      return Index(1);
    }
    return Index(0);
  };
  const auto check = [&](const auto& model, Index features, Index outputs) {
    const auto data = Dataset<>::with_outputs(random_matrix(random, 5, features), random_matrix(random, 5, outputs));
    const auto report = testing::model_battery(model, data, 94, options);
    CAPTURE(report);
    CHECK(report.ok());
    CHECK(std::any_of(report.checks.begin(), report.checks.end(),
                      [](const auto& c) { return c.name == "allocations of an evaluation" && c.passed; }));
  };
  const ReluNetwork<double> net(3, {6, 4}, true, 2);
  check(net, 3, 2);
  check(Unbiased(net, random_vector(random, net.num_parameters())), 3, 2);
  check(Doubled(net), 3, 2);
  check(Linearized(net, random_vector(random, net.num_parameters())), 3, 2);
  check(LinearClassifier<double>(3, 2), 3, 2);
  check(UnivariateRelu<double>(7), 1, 1);
  check(SquaredDiagonalNet<double>(3), 3, 1);
}
