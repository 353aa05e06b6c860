#include <Eigen/Dense>
#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/testing/convergence_order.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// y' = -A (y - centre), A = Q diag(rates) Q^T.
struct Linear {
  using Scalar = double;
  Matrix<double> Q;
  Vector<double> rates;
  Vector<double> centre;

  [[nodiscard]] Index dimension() const { return rates.size(); }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const {
    dy = -(Q * (rates.array() * (Q.transpose() * (y - centre)).array()).matrix());
  }
  void negative_jacobian(double, ConstVectorRef<double>, MatrixRef<double> S) const {
    S.setConstant(std::numeric_limits<double>::quiet_NaN());  // only the lower triangle may be read
    S.triangularView<Eigen::Lower>() = Q * rates.asDiagonal() * Q.transpose();
  }
  [[nodiscard]] Vector<double> exact(const Vector<double>& y0, double t) const {
    return centre + Q * ((-t * rates.array()).exp() * (Q.transpose() * (y0 - centre)).array()).matrix();
  }
};

Linear linear(std::uint64_t seed, Index n, double slowest, double fastest) {
  RandomStream random(seed);
  Linear problem;
  problem.Q = random_matrix(random, n, n).householderQr().householderQ();
  problem.rates = Vector<double>::LinSpaced(n, std::log(slowest), std::log(fastest)).array().exp();
  problem.centre = random_vector(random, n);
  return problem;
}

/// y_i' = -rate_i sinh(y_i): tanh(y_i(t) / 2) = tanh(y_i(0) / 2) exp(-rate_i t).
struct Sinh {
  using Scalar = double;
  Vector<double> rates;

  [[nodiscard]] Index dimension() const { return rates.size(); }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const {
    dy = -(rates.array() * y.array().sinh()).matrix();
  }
  void negative_jacobian(double, ConstVectorRef<double> y, MatrixRef<double> S) const {
    S.setZero();
    S.diagonal() = rates.array() * y.array().cosh();
  }
  [[nodiscard]] Vector<double> exact(const Vector<double>& y0, double t) const {
    return 2 * ((y0.array() / 2).tanh() * (-t * rates.array()).exp()).unaryExpr([](double x) { return std::atanh(x); });
  }
};

}  // namespace

static_assert(EmbeddedStepper<ExponentialRosenbrock, Linear> && DenseStepper<ExponentialRosenbrock, Linear> &&
              DerivativeStepper<ExponentialRosenbrock, Linear>);

TEST_CASE("the phi functions agree with their recursion in long double, at both ends") {
  for (const int k : {1, 2, 3})
    for (double magnitude = 1e-12; magnitude < 1e12; magnitude *= 3) {
      const double x = -magnitude;
      // Taylor's series where the recursion cancels, summed in long double.
      long double exact = 0;
      if (magnitude < 3) {
        long double term = 1;
        for (int i = 2; i <= k; ++i) term /= i;
        for (int i = k + 1; i < 80; ++i) {
          exact += term;
          term *= static_cast<long double>(x) / i;
        }
      } else {
        exact = std::expm1(static_cast<long double>(x)) / x;
        long double inverse_factorial = 1;
        for (int i = 2; i <= k; ++i) {
          exact = (exact - inverse_factorial) / x;
          inverse_factorial /= i;
        }
      }
      CAPTURE(k, x);
      // The recursion from |x| = 1 loses a factor of about ten in all.
      CHECK_THAT(detail::phi(k, x), within_ulp(exact, 40));
    }
  CHECK(detail::phi(1, 0.0) == 1.0);
  CHECK_THAT(detail::phi(3, 0.0), within_ulp(1.0L / 6, 1));
  CHECK(detail::phi(1, -std::numeric_limits<double>::max()) >= 0.0);
  CHECK(std::isfinite(detail::phi(3, -std::numeric_limits<double>::max())));
}

TEST_CASE("the tridiagonal eigenproblem is solved to rounding") {
  RandomStream random(81);
  for (const Index m : {1, 2, 3, 10, 60}) {
    Vector<double> diagonal = random_vector(random, m);
    Vector<double> off = random_vector(random, m);
    if (m > 3) off[m / 2] = 0.0;  // reducible
    Matrix<double> T = Matrix<double>::Zero(m, m);
    T.diagonal() = diagonal;
    if (m > 1) {
      T.diagonal(1) = off.head(m - 1);
      T.diagonal(-1) = off.head(m - 1);
    }
    Matrix<double> vectors(m, m);
    REQUIRE(detail::tridiagonal_eigen<double>(diagonal, off, vectors));
    // Backward stable: errors of a few ulp of the norm per eigenvalue.
    const double bound = 20 * static_cast<double>(m) * eps * (T.norm() + 1);
    CHECK((T * vectors - vectors * diagonal.asDiagonal()).norm() <= bound);
    CHECK((vectors.transpose() * vectors - Matrix<double>::Identity(m, m)).norm() <= bound);
  }
}

TEST_CASE("linear fields are solved exactly by one step of any length") {
  for (const auto& [slowest, fastest] : {std::pair<double, double>{1.0, 4.0}, {1e-3, 1e3}}) {
    const Linear problem = linear(82, 30, slowest, fastest);
    RandomStream random(83);
    const Vector<double> y0 = random_vector(random, 30);
    for (const double h : {1e-6, 1e-2, 1.0, 1e2, 1e6}) {
      const ExponentialRosenbrock stepper{.krylov_tolerance = 1e-13};
      auto ws = stepper.make_workspace(problem);
      Vector<double> y_new = y0;
      stepper.begin(problem, 0.0, y0, ws);
      stepper.step(problem, 0.0, h, y0, y_new, ws);
      CAPTURE(slowest, fastest, h);
      // Rounding of A (y - centre), divided by the smallest rate over the condition number.
      const double bound = 1e-13 * fastest / slowest * (y0 - problem.centre).norm() + 1e-12;
      CHECK((y_new - problem.exact(y0, h)).norm() <= bound);
      CHECK(stepper.error(ws).norm() <= bound);
      Vector<double> between(30);
      for (const double theta : {0.0, 0.25, 0.7, 1.0}) {
        stepper.interpolate(ws, theta, h, y0, y_new, between);
        CHECK((between - problem.exact(y0, theta * h)).norm() <= bound);
      }
    }
  }
}

TEST_CASE("the Krylov tolerance bounds the error of a step") {
  const Linear problem = linear(84, 60, 1.0, 30.0);
  RandomStream random(85);
  const Vector<double> y0 = random_vector(random, 60);
  for (const double h : {0.1, 1.0, 10.0})
    for (const double tolerance : {1e-2, 1e-4, 1e-6, 1e-8, 1e-10}) {
      const ExponentialRosenbrock stepper{.krylov_tolerance = tolerance};
      auto ws = stepper.make_workspace(problem);
      Vector<double> y_new = y0;
      stepper.begin(problem, 0.0, y0, ws);
      stepper.step(problem, 0.0, h, y0, y_new, ws);
      CAPTURE(h, tolerance, ws.linear.dimension);
      // Relative to h F, from which the space is built; the correction is zero up to the same error.
      Vector<double> f(60);
      problem(0.0, y0, f);
      CHECK((y_new - problem.exact(y0, h)).norm() <= tolerance * h * f.norm() + 1e-12);
      if (tolerance >= 1e-4) CHECK(ws.linear.dimension < 60);
    }
}

TEST_CASE("the exponential Rosenbrock method has order 3, its estimate 2 and its interpolant 3") {
  const Sinh problem{Eigen::Vector3d(0.7, 2.0, 5.0)};
  const Vector<double> y0 = Vector<double>::LinSpaced(3, 0.5, 2.0);
  const ExponentialRosenbrock stepper{.krylov_tolerance = 1e-14};
  const auto study =
      testing::convergence_study(problem, y0, TimeSpan{0.0, 1.0}, stepper, problem.exact(y0, 1.0), 40, 3);
  CHECK_THAT(study.finest_order(), near(3.0, 0, 0.2));
  const auto exact = [&](double, const Vector<double>& y, double s) { return problem.exact(y, s); };
  for (const double theta : {0.3, 0.6, 1.0}) {
    CAPTURE(theta);
    const auto local = testing::interpolant_study(problem, 0.0, y0, stepper, exact, 2e-2, theta, 2);
    CHECK_THAT(local.finest_order(), near(4.0, 0, 0.25));
  }
  const auto estimate = [&](double h) {
    auto ws = stepper.make_workspace(problem);
    Vector<double> y_new = y0;
    stepper.begin(problem, 0.0, y0, ws);
    stepper.step(problem, 0.0, h, y0, y_new, ws);
    return stepper.error(ws).norm();
  };
  CHECK_THAT(std::log2(estimate(2e-3) / estimate(1e-3)), near(3.0, 0, 0.2));
}

TEST_CASE("in the kernel regime a handful of steps follows the whole dual flow") {
  RandomStream random(86);
  const Dataset data(random_matrix(random, 20, 100), random_vector(random, 20));
  const DualFlow<Hypentropy<>> flow(Hypentropy<>::uniform(100, Scale<>::from_value(30.0)), data);
  IntegrateOptions<double> options;
  options.events = {loss_below(1e-12)};
  const auto solution = integrate(flow, flow.initial_state(), TimeSpan{0.0, infinity}, ExponentialRosenbrock{},
                                  PiController<>{.tolerance = {1e-6, 1e-12}, .first_step = flow.first_step()}, options);
  CAPTURE(solution);
  REQUIRE(solution.status == Status::event);
  CHECK(solution.stats.accepted <= 8);
  CHECK(solution.stats.rejected == 0);
  // The event time against a fine explicit solution.
  const auto fine = integrate(flow, flow.initial_state(), TimeSpan{0.0, infinity}, DormandPrince{},
                              PiController<>{.tolerance = {1e-11, 1e-15}}, options);
  REQUIRE(fine.status == Status::event);
  CHECK_THAT(solution.t, near(fine.t, 1e-4, 0));
}

TEST_CASE("statistics of the exponential method tell the truth") {
  const Sinh problem{Eigen::Vector3d(1.0, 10.0, 100.0)};
  const auto solution =
      integrate(problem, Vector<double>::Constant(3, 2.0), TimeSpan{0.0, 2.0}, ExponentialRosenbrock{},
                PiController<>{.tolerance = {1e-5, 1e-7}, .first_step = 1.0});
  REQUIRE(solution.ok());
  CHECK(solution.stats.rejected > 0);
  CHECK(solution.stats.jacobians == solution.stats.accepted);
  CHECK(solution.stats.evaluations == 2 * solution.stats.accepted + solution.stats.rejected);
}

TEST_CASE("options of the exponential method must make sense") {
  const Linear problem = linear(87, 2, 1.0, 2.0);
  CHECK_THROWS_MATCHES(ExponentialRosenbrock{.jacobian_tolerance = 1.5}.make_workspace(problem), ArgumentError,
                       message_contains("jacobian_tolerance"));
  CHECK_THROWS_MATCHES(ExponentialRosenbrock{.krylov_tolerance = 0.0}.make_workspace(problem), ArgumentError,
                       message_contains("krylov_tolerance"));
}
