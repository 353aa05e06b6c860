#include <cmath>
#include <limits>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/decaying_dual_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/integrate/decay_schedule.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/testing/convergence_order.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

/// @file
/// Linearly implicit and exponential steps on problems with weight decay.

using namespace richflow;
using namespace test_support;

namespace {

/// `w' = -(A w + w^3 - b)`, the gradient flow of a convex function, with its dense Jacobian.
struct DecayingQuartic {
  using Scalar = double;
  Matrix<double> A;
  Vector<double> b;

  [[nodiscard]] Index dimension() const { return b.size(); }
  void operator()(double, ConstVectorRef<double> w, VectorRef<double> dw) const {
    dw = b - A * w - w.array().cube().matrix();
  }
  void negative_jacobian(double, ConstVectorRef<double> w, MatrixRef<double> S) const {
    S = A;
    S.diagonal().array() += 3 * w.array().square();
  }
};

DecayingQuartic decaying_quartic() {
  RandomStream random(7720);
  const Matrix<double> root = random_matrix(random, 5, 5);
  return {Matrix<double>(root * root.transpose()), random_vector(random, 5)};
}

double decaying_rate(double t) { return 0.4 + 0.3 * std::sin(5 * t); }

PiController<> decaying_control(double relative) { return {.tolerance = {.relative = relative, .absolute = 0.0}}; }

template <class Problem>
Vector<double> decaying_exact(const Problem& problem, const Vector<double>& w0, double end) {
  const PiController<> tight{.tolerance = {1e-12, 1e-15}};
  return integrate(problem, w0, TimeSpan{0.0, end}, DormandPrince{}, tight).require_ok().w;
}

/// The order of the last of four halvings.
template <class Problem, class St>
double decaying_order(const Problem& problem, const Vector<double>& w0, const St& stepper, Index first_steps) {
  const auto study = testing::convergence_study(problem, w0, TimeSpan{0.0, 0.6}, stepper,
                                                decaying_exact(problem, w0, 0.6), first_steps, 4);
  CAPTURE(study.errors, study.orders);
  CHECK(study.errors.back() < 1e-2 * study.errors.front());
  return study.finest_order();
}

Dataset<> decaying_step_data() {
  RandomStream random(7721);
  return gaussian_data(random, 4, 9);
}

/// Ten points on the circle.
Dataset<> decaying_circle() {
  RandomStream random(7722);
  Matrix<double> X(10, 2);
  for (Index n = 0; n < 10; ++n)
    X.row(n) << std::cos(0.6 * static_cast<double>(n)), std::sin(0.6 * static_cast<double>(n));
  return {std::move(X), Vector<double>(0.3 * random_vector(random, 10))};
}

}  // namespace

TEST_CASE("stage times of the tableaus are those of the methods") {
  // From the tables of the methods: Verwer et al. 1999; Hairer and Wanner (RODAS: alpha_i and gamma_i).
  const auto check = [](const auto& times, const std::vector<double>& node, const std::vector<double>& slope) {
    for (std::size_t i = 0; i < node.size(); ++i) {
      CHECK_THAT(static_cast<double>(times.node[i]), near(node[i], 1e-13, 1e-13));
      CHECK_THAT(static_cast<double>(times.slope[i]), near(slope[i], 1e-13, 1e-13));
    }
  };
  const double gamma = 1 - 1 / std::sqrt(2.0);
  check(detail::stage_times<Ros2Tableau>, {0, 1}, {gamma, -gamma});
  check(detail::stage_times<Rodas4Tableau>, {0, 0.386, 0.21, 0.63, 1, 1}, {0.25, -0.1043, 0.1035, -0.0362, 0, 0});
}

TEST_CASE("steps on a field with a Jacobian and decay keep their order, whether lambda depends on t or not") {
  const DecayingQuartic problem = decaying_quartic();
  const Vector<double> w0 = Vector<double>::Constant(5, 0.8);
  const auto check = [&](const auto& decayed) {
    // Observed orders within a quarter of the method's.
    CHECK_THAT(decaying_order(decayed, w0, Rodas4{}, 16), near(4.0, 0, 0.25));
    CHECK_THAT(decaying_order(decayed, w0, Rodas3{}, 8), near(3.0, 0, 0.25));
    CHECK_THAT(decaying_order(decayed, w0, Ros34Pw2{}, 8), near(3.0, 0, 0.25));
    CHECK_THAT(decaying_order(decayed, w0, Ros2{}, 8), near(2.0, 0, 0.25));
    CHECK_THAT(decaying_order(decayed, w0, ExponentialRosenbrock{.krylov_tolerance = 1e-13}, 8), near(3.0, 0, 0.25));
  };
  check(WithWeightDecay(problem, 0.5));
  check(WithWeightDecay(problem, decaying_rate));
  check(WithWeightDecay(problem, DecaySchedule<>(decaying_rate)));
  // Of a problem that depends on t itself.
  check(WithWeightDecay(WithWeightDecay(problem, decaying_rate), 0.5));
  CHECK_FALSE(WithWeightDecay(WithWeightDecay(problem, decaying_rate), 0.5).is_autonomous());
  CHECK(WithWeightDecay(WithWeightDecay(problem, 0.1), 0.5).is_autonomous());
  CHECK(WithWeightDecay(problem, 0.5).is_autonomous());
  CHECK(WithWeightDecay(problem, DecaySchedule<>(0.5)).is_autonomous());
  CHECK_FALSE(WithWeightDecay(problem, decaying_rate).is_autonomous());
  Matrix<double> S(5, 5), decayed(5, 5);
  problem.negative_jacobian(0.0, w0, S);
  WithWeightDecay(problem, 0.5).negative_jacobian(0.0, w0, decayed);
  CHECK((decayed - S - Matrix<double>::Identity(5, 5)).norm() <= 4 * eps * S.norm());
}

TEST_CASE("steps on the weights of a squared diagonal net with decay keep their order") {
  const Dataset<> data = decaying_step_data();
  const SquaredDiagonalNet<double> net(9);
  const GradientFlow flow(net, data);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  const auto check = [&](const auto& decayed) {
    CHECK_THAT(decaying_order(decayed, w0, Ros2{}, 64), near(2.0, 0, 0.3));
    CHECK_THAT(decaying_order(decayed, w0, Ros34Pw2{}, 64), near(3.0, 0, 0.3));
    CHECK_THAT(decaying_order(decayed, w0, ExponentialTangent{}, 64), near(2.0, 0, 0.3));
  };
  check(WithWeightDecay(flow, 0.3));
  check(WithWeightDecay(flow, decaying_rate));
  check(WithWeightDecay(WithWeightDecay(flow, decaying_rate), 0.3));
}

TEST_CASE("the exponential steps of a linear model with decay are exact, whatever their length") {
  const Dataset<> data = decaying_step_data();
  RandomStream random(7723);
  const Vector<double> anchor = random_vector(random, 18), w0 = random_vector(random, 18);
  const Linearized model(SquaredDiagonalNet<double>(9), anchor);
  const GradientFlow flow(model, data);
  const WithWeightDecay decayed(flow, 0.3);
  for (const double end : {0.01, 1.0, 100.0}) {
    const auto one = integrate(decayed, w0, TimeSpan{0.0, end}, ExponentialTangent{}, ConstantStep<>{.step = end});
    REQUIRE(one.ok());
    const Vector<double> exact = decaying_exact(decayed, w0, end);
    CAPTURE(end);
    CHECK((one.w - exact).norm() <= 1e-10 * exact.norm());  // some hundred steps of 1e-12
    auto ws = ExponentialTangent{}.make_workspace(decayed);
    Vector<double> w_new(18), middle(18);
    ExponentialTangent{}.begin(decayed, 0.0, w0, ws);
    ExponentialTangent{}.step(decayed, 0.0, end, w0, w_new, ws);
    ExponentialTangent{}.interpolate(ws, 0.25, end, w0, w_new, middle);
    const Vector<double> quarter = decaying_exact(decayed, w0, 0.25 * end);
    CHECK((middle - quarter).norm() <= 1e-10 * quarter.norm());
  }
}

TEST_CASE("a small ReLU network with decay: implicit and exponential runs agree with a tight explicit one") {
  const Dataset<> data = decaying_circle();
  const auto net = ReluNetwork<double>::uniform_width(2, 3, 20);
  const GradientFlow flow(net, data);
  RandomStream random(7724);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(0.7));
  const auto check = [&](const auto& decayed) {
    const Vector<double> exact =
        integrate(decayed, w0, TimeSpan{0.0, 0.3}, RungeKutta4{}, ConstantStep<>{.step = 2e-4}).require_ok().w;
    const auto error = [&](const auto& stepper, double tolerance) {
      const auto run = integrate(decayed, w0, TimeSpan{0.0, 0.3}, stepper, decaying_control(tolerance));
      REQUIRE(run.ok());
      return (run.w - exact).norm() / exact.norm();
    };
    // Relative errors of the units, of some tens of steps and a few kinks.
    CHECK(error(Ros2{}, 1e-3) <= 1e-2);
    CHECK(error(Ros2{}, 1e-4) <= 1e-3);
    CHECK(error(Ros34Pw2{}, 1e-4) <= 1e-3);
    CHECK(error(ExponentialTangent{}, 1e-3) <= 1e-2);
    CHECK(error(ExponentialTangent{}, 1e-4) <= 1e-3);
    const Vector<double> plain = integrate(flow, w0, TimeSpan{0.0, 0.3}, Ros2{}, decaying_control(1e-4)).require_ok().w;
    CHECK((plain - exact).norm() > 0.02 * exact.norm());  // decay shows
  };
  check(WithWeightDecay(flow, 0.2));
  check(WithWeightDecay(flow, decaying_rate));
}

TEST_CASE("weights that decay, by implicit steps, are where the dual flow with decay foresees them") {
  const Dataset<> data = decaying_step_data();
  const SquaredDiagonalNet<double> net(9);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.1));
  const DecaySchedule<> schedule([](double t) { return 0.05 * std::exp(-0.3 * t); });
  const DecayingDualFlow<double> foreseen(net, data, start, schedule);
  const auto dual = integrate(foreseen, foreseen.initial_state(), TimeSpan{0.0, 4.0}, Rodas4{},
                              PiController<>{.tolerance = {1e-9, 0}, .first_step = foreseen.first_step()})
                        .require_ok();
  const Vector<double> expected = foreseen.beta(dual.w);
  const auto error = [&](const auto& stepper, double tolerance) {
    const WithWeightDecay decayed(GradientFlow(net, data), schedule);
    const auto run =
        integrate(decayed, net.initial_parameters(start), TimeSpan{0.0, 4.0}, stepper, decaying_control(tolerance));
    REQUIRE(run.ok());
    Vector<double> beta(9);
    net.beta(run.w, beta);
    return (beta - expected).norm() / expected.norm();
  };
  // Some hundred steps of this error each, damped.
  CHECK(error(Ros34Pw2{}, 1e-6) <= 1e-5);
  CHECK(error(Ros2{}, 1e-5) <= 1e-4);
  CHECK(error(ExponentialTangent{}, 1e-5) <= 1e-4);
}

TEST_CASE("a factorization with decay: the lifted flow by Rodas4 and the weights by explicit steps") {
  RandomStream random(7725);
  const MatrixFactorization<double> model(3, 4, 7);
  const Dataset<> data = random_measured_data(random, Kind::dense, model.shape(), 5);
  const Vector<double> w0 = model.initial_parameters(random, Scale<>::from_value(0.7));
  const LiftedFlow flow(model, data);
  const auto check = [&](const auto& lambda) {
    const Vector<double> exact = decaying_exact(WithWeightDecay(GradientFlow(model, data), lambda), w0, 0.5);
    const auto run = integrate(WithWeightDecay(flow, lambda), w0, TimeSpan{0.0, 0.5}, Rodas4{}, decaying_control(1e-8));
    REQUIRE(run.ok());
    // Some tens of steps of this error each.
    CHECK((run.w - exact).norm() <= 1e-6 * exact.norm());
  };
  check(0.4);
  check(decaying_rate);
}

TEST_CASE("no decay is no decay, to the bit, and a decay that is none ends a run as for explicit steps") {
  const Dataset<> data = decaying_step_data();
  const SquaredDiagonalNet<double> net(9);
  const GradientFlow flow(net, data);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.3));
  const auto check = [&](const auto& stepper) {
    const auto run = [&](const auto& problem) {
      return integrate(problem, w0, TimeSpan{0.0, 0.5}, stepper, decaying_control(1e-4));
    };
    CHECK((run(flow).w.array() == run(WithWeightDecay(flow, 0.0)).w.array()).all());
    const auto negative = run(WithWeightDecay(flow, [](double t) { return t < 0.1 ? 0.1 : -0.1; }));
    CAPTURE(negative.message);
    CHECK_FALSE(negative.ok());
    CHECK(negative.w.allFinite());
    CHECK(negative.t <= 0.1 + 1e-9);
  };
  check(Ros2{});
  check(Ros34Pw2{});
  check(ExponentialTangent{});
}
