#include <algorithm>
#include <cmath>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/relaxed_euler.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/models/univariate_relu.hpp"
#include "richflow/testing/convergence_order.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

PiController<> control(double relative) { return {.tolerance = {.relative = relative, .absolute = 0.0}}; }

/// Points on the circle with labels of a small network, as in Figure 6.
Dataset<> circle_data(std::uint64_t seed) {
  RandomStream random(seed);
  Matrix<double> X(10, 2);
  for (Index n = 0; n < 10; ++n) {
    const double angle = random.uniform(0.0, 6.283185307179586);
    X(n, 0) = std::cos(angle);
    X(n, 1) = std::sin(angle);
  }
  const ReluNetwork<double> teacher(2, {3});
  Vector<double> y(10);
  teacher.predict(teacher.initial_parameters(random, Scale<>::from_value(1.0)), X, y);
  return Dataset(std::move(X), std::move(y));
}

/// The problem of Figure 7 (a).
struct SplineProblem {
  using Net = Unbiased<UnivariateRelu<double>>;
  Dataset<> data = make_data();
  Vector<double> start;
  Net net;

  SplineProblem(Index width, double alpha)
      : start([&] {
          RandomStream random(7);
          return UnivariateRelu<double>(width).initial_parameters(random, Scale<>::from_value(alpha));
        }()),
        net(UnivariateRelu<double>(width), start) {}

  static Dataset<> make_data() {
    Matrix<double> X(9, 1);
    Vector<double> y(9);
    for (Index j = 0; j < 9; ++j) {
      X(j, 0) = static_cast<double>(j - 4) * std::sqrt(3.0) / 4.0;
      y[j] = std::abs(static_cast<int>(j) - 4) <= 1 ? 1.0 : 0.0;
    }
    return Dataset(std::move(X), std::move(y));
  }
};

}  // namespace

TEST_CASE("on a smooth flow the tangent-kernel steppers have their order though 2 J^T J is not the Jacobian") {
  RandomStream random(71);
  const SquaredDiagonalNet<double> net(8);
  const Dataset data(random_matrix(random, 4, 8), random_vector(random, 4));
  const GradientFlow flow(net, data);
  const Vector<double> w0 = random_positive_vector(random, 16, 0.5, 1.0);
  const auto exact = integrate(flow, w0, TimeSpan{0.0, 0.1}, DormandPrince{}, control(1e-13));
  REQUIRE(exact.ok());
  const auto order = [&](const auto& stepper) {
    return testing::convergence_study(flow, w0, TimeSpan{0.0, 0.1}, stepper, exact.w, 64, 3).finest_order();
  };
  CHECK_THAT(order(Ros2{}), near(2.0, 0.0, 0.2));
  CHECK_THAT(order(Ros34Pw2{}), near(3.0, 0.0, 0.2));
  CHECK_THAT(order(ExponentialTangent{}), near(2.0, 0.0, 0.2));
  CHECK_THAT(order(RelaxedEuler{}), near(2.0, 0.0, 0.2));
  const auto run = integrate(flow, w0, TimeSpan{0.0, 0.1}, RelaxedEuler{}, control(1e-4));
  // Some tens of steps of half this error.
  CHECK((run.require_ok().w - exact.w).norm() <= 3e-3 * exact.w.norm());
}

TEST_CASE("the spectrum of a symmetric matrix is Eigen's, in any size and unit") {
  RandomStream random(77);
  for (const Index n : {1, 2, 3, 20, 120}) {
    detail::SymmetricSpectrum<double> spectrum(n);
    for (const double unit : {1.0, 1e-200, 1e200}) {
      for (const Index rank : {n, (n + 1) / 2, Index(0)}) {
        CAPTURE(n, unit, rank);
        const Matrix<double> factor = random_matrix(random, n, std::max<Index>(rank, 1));
        const Matrix<double> half = rank > 0 ? factor : Matrix<double>(0.0 * factor);
        const Matrix<double> K = unit * half * half.transpose();
        REQUIRE(spectrum.compute(K));
        const Eigen::SelfAdjointEigenSolver<Matrix<double>> expected(Matrix<double>(half * half.transpose()));
        const double size = std::max(expected.eigenvalues().cwiseAbs().maxCoeff(), 1e-300);
        // Both are backward stable: n roundings of the largest eigenvalue.
        const double tolerance = 4e-16 * static_cast<double>(n + 4) * size;
        CHECK((spectrum.values() / unit - expected.eigenvalues()).cwiseAbs().maxCoeff() <= tolerance);
        const Vector<double> v = random_vector(random, n);
        Vector<double> samples = v, coefficients(n), back(n);
        spectrum.to_basis(samples, coefficients);
        CHECK_THAT(coefficients.norm(), near(v.norm(), 1e-14, 0));
        spectrum.from_basis(coefficients, back);
        CHECK((back - v).norm() <= 1e-14 * std::sqrt(static_cast<double>(n)) * v.norm());
        coefficients.array() *= spectrum.values().array() / unit;
        spectrum.from_basis(coefficients, back);
        CHECK((back - half * (half.transpose() * v)).norm() <= tolerance * v.norm());
      }
    }
    CHECK_FALSE(spectrum.compute(Matrix<double>::Constant(n, n, std::nan(""))));
  }
}

TEST_CASE("the exponential stepper is exact in the kernel regime, for any step") {
  RandomStream random(72);
  const ReluNetwork<double> net(2, {30});
  const Dataset<> data = circle_data(3);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(3.0));
  const KernelPredictor kernel(net, w0, data);
  const GradientFlow flow(Linearized(net, w0), data);
  for (const double t : {1e-3, 0.1, 30.0}) {
    const auto solution = integrate(flow, w0, TimeSpan{0.0, t}, ExponentialTangent{}, ConstantStep<>{.step = t});
    REQUIRE(solution.ok());
    CAPTURE(t);
    CHECK(solution.step == 1);
    // Rounding of products with J, |J| |w| / |w|.
    CHECK((solution.w - kernel.parameters(t)).norm() <= 1e-11 * w0.norm());
  }
}

TEST_CASE("the kernel regime of the network itself needs a handful of exponential steps") {
  RandomStream random(73);
  const auto net = ReluNetwork<double>::uniform_width(2, 2, 2000);
  const Dataset<> data = circle_data(3);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(10.0));
  const Unbiased model(net, w0);
  const GradientFlow flow(model, data);
  const auto solution = integrate(flow, w0, TimeSpan{0.0, infinity}, ExponentialTangent{}, control(1e-4),
                                  {.events = {loss_below(1e-8)}, .max_steps = 100});
  REQUIRE(solution.status == Status::event);
  CHECK(solution.step <= 12);
  Matrix<double> circle(50, 2);
  for (Index n = 0; n < 50; ++n)
    circle.row(n) << std::cos(0.1257 * static_cast<double>(n)), std::sin(0.1257 * static_cast<double>(n));
  Vector<double> f(50);
  model.predict(solution.w, circle, f);
  const Vector<double> limit = KernelPredictor(model, w0, data).predict(circle);
  // At scale alpha^2 sqrt(width) the distance to the kernel limit is of the order of its inverse.
  CHECK((f - limit).cwiseAbs().maxCoeff() <= 1e-2);
}

TEST_CASE("the tangent-kernel steppers agree with tight explicit integration on a smooth stretch") {
  const Dataset<> data = circle_data(5);
  for (const Index depth : {2, 3, 5}) {
    RandomStream random(74);
    const auto net = ReluNetwork<double>::uniform_width(2, depth, 30);
    const GradientFlow flow(net, data);
    const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(0.7));
    const TimeSpan<> span{0.0, 0.3};
    const auto exact = integrate(flow, w0, span, RungeKutta4{}, ConstantStep<>{.step = 1e-4});
    REQUIRE(exact.ok());
    double previous = infinity;
    for (const double tolerance : {1e-2, 1e-3, 1e-4}) {
      const auto solution = integrate(flow, w0, span, Ros2{}, control(tolerance));
      REQUIRE(solution.ok());
      const double error = (solution.w - exact.w).norm() / exact.w.norm();
      CAPTURE(depth, tolerance, error, solution.step);
      // Relative errors of the units, of some tens of steps and a few kinks.
      CHECK(error <= 10 * tolerance);
      CHECK(error < previous);
      previous = error;
    }
    const auto third = integrate(flow, w0, span, Ros34Pw2{}, control(1e-4));
    REQUIRE(third.ok());
    CHECK((third.w - exact.w).norm() <= 1e-3 * exact.w.norm());
  }
}

TEST_CASE("gradient descent approaches the tangent-kernel trajectory linearly in its step") {
  const Dataset<> data = circle_data(5);
  const auto net = ReluNetwork<double>::uniform_width(2, 3, 30);
  const GradientFlow flow(net, data);
  double coarse = 0.0;
  double fine = 0.0;
  // Several starts, for descent with another step crosses kinks at other times.
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    RandomStream random(75, seed);
    const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(0.8));
    const auto solution = integrate(flow, w0, TimeSpan{0.0, 0.5}, Ros2{}, control(1e-5));
    REQUIRE(solution.ok());
    const auto distance = [&](double step) {
      const auto descent =
          gradient_descent(flow, w0, {.step = step, .iterations = static_cast<Index>(std::lround(0.5 / step))});
      REQUIRE(descent.ok());
      return (descent.w - solution.w).norm() / solution.w.norm();
    };
    coarse += distance(4e-3) / 6.0;
    fine += distance(1e-3) / 6.0;
    // The balance of every neuron is conserved by the flow; what is left is the error of the steps.
    CHECK(invariant_drift(net, w0, solution.w) <= 1e-4);
  }
  CHECK(fine <= 1e-3);
  CHECK_THAT(coarse / fine, near(4.0, 0.3, 0.0));
}

TEST_CASE("deep in the rich regime the units that grow from nothing lead the run off its plateau, at the right time") {
  // Figure 7 (a) with fewer units and alpha = 1e-3, on the plateau until t = 55. A norm over all parameters, a mean or
  // a quantile of the units' errors misses the few that lead: the run leaves the plateau far too late, or never.
  const SplineProblem problem(400, 1e-3);
  const GradientFlow flow(problem.net, problem.data);
  const auto leaving_time = [&](double step) {
    const auto descent = gradient_descent(flow, problem.start, {.step = step, .iterations = 20000, .loss_below = 0.3});
    REQUIRE(descent.status == Status::event);
    return descent.t;
  };
  const double coarse = leaving_time(0.01);
  const double fine = leaving_time(0.005);
  const double extrapolated = 2.0 * fine - coarse;
  REQUIRE(fine > 50.0);
  // Of all steppers that keep their order there; the time is a sum of some hundred steps that each carry the growth
  // rate with a relative error of the tolerance.
  const auto check_time = [&](const auto& stepper, double tolerance, double factor = 1.0) {
    const auto solution = integrate(flow, problem.start, TimeSpan{0.0, infinity}, stepper, control(tolerance),
                                    {.events = {loss_below(0.3)}, .max_steps = 5000});
    REQUIRE(solution.status == Status::event);
    CAPTURE(tolerance, solution.t, solution.step, coarse, fine, extrapolated);
    const double error = std::abs(solution.t - extrapolated) / extrapolated;
    CHECK(error <= factor * tolerance + 5e-3);
    return error;
  };
  const double rough = check_time(Ros2{}, 3e-2);
  CHECK(check_time(Ros2{}, 1e-2) <= rough + 5e-3);
  check_time(ExponentialTangent{}, 1e-2);
  // The longer steps of the higher order err to the same side all along: by 5 times the tolerance, whatever that is.
  check_time(Ros34Pw2{}, 3e-3, 5.0);
}

TEST_CASE("where kinks stick to data points no step is much shorter than descent's") {
  const SplineProblem problem(20, 0.3);
  const GradientFlow flow(problem.net, problem.data);
  const auto solution =
      integrate(flow, problem.start, TimeSpan{0.0, 100.0}, Ros2{}, control(1e-7), {.max_steps = 200000});
  REQUIRE(solution.status == Status::reached_end);
  const Matrix<double> K = tangent_kernel(problem.net, solution.w, problem.data.X());
  const double stable_step = 1.0 / K.cwiseAbs().rowwise().sum().maxCoeff();
  // The tolerance alone would ask for steps of 1e-7 there. The mean step stays above a tenth of descent's.
  CHECK(100.0 / static_cast<double>(solution.stats.accepted) >= 0.1 * stable_step);
}

TEST_CASE("a network whose units are all dead ends as stalled: it cannot move") {
  const ReluNetwork<double> net(1, {3});
  const Dataset data(Matrix<double>::Ones(2, 1), Vector<double>::Ones(2));
  Vector<double> w(6);
  w << -1.0, -2.0, -0.5, 1.0, 1.0, 1.0;
  const GradientFlow flow(net, data);
  const auto run = [&](const auto& stepper) {
    return integrate(flow, w, TimeSpan{0.0, infinity}, stepper, control(1e-3), {.events = {loss_below(1e-8)}});
  };
  for (const auto& solution : {run(Ros2{}), run(Ros34Pw2{}), run(ExponentialTangent{})}) {
    CHECK(solution.status == Status::stalled);
    CHECK_THAT(solution.message, text_contains("no longer changes"));
    CHECK((solution.w - w).norm() == 0.0);
  }
}

TEST_CASE("the error of a step is that of its worst unit, and no unit may jump") {
  const UnivariateRelu<double> net(3);
  const Dataset data(Matrix<double>::Ones(2, 1), Vector<double>::Ones(2));
  const GradientFlow flow(net, data);
  Vector<double> w = Vector<double>::Ones(10);
  w[0] = w[3] = w[6] = 1e-6;  // a tiny unit among large ones
  const Tolerance<double> tolerance{.relative = 1e-2, .absolute = 0.0};
  Vector<double> error = Vector<double>::Zero(10);
  error[3] = 1e-8 * std::sqrt(3.0);  // one hundredth of its norm
  CHECK_THAT(flow.error_ratio(w, w, error, tolerance), near(1.0, 1e-10, 0.0));
  error.setZero();
  Vector<double> jumped = w;
  jumped[3] += 1e-6 * std::sqrt(3.0);  // twice what is allowed, squared
  CHECK_THAT(flow.error_ratio(w, jumped, error, tolerance), near(4.0, 1e-10, 0.0));
  // The output bias belongs to no unit: relative to the whole vector.
  error[9] = 1e-2 * w.norm();
  CHECK_THAT(flow.error_ratio(w, w, error, tolerance), near(1.0, 1e-10, 0.0));
  error[9] = std::nan("");
  CHECK(std::isnan(flow.error_ratio(w, w, error, tolerance)));
}
