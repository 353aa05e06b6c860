#include <cmath>

#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/testing/convergence_order.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("the measured order is that of the method, also of a user's stepper") {
  const Decay problem = decay({1.0, 2.0});
  const Vector<double> y0 = Vector<double>::Ones(2);
  const TimeSpan<> span{0.0, 1.0};
  const auto order = [&](const auto& stepper) {
    return testing::convergence_study(problem, y0, span, stepper, problem.exact(1.0, y0), 32, 3).finest_order();
  };
  CHECK_THAT(order(Euler{}), near(1.0, 0, 0.05));
  CHECK_THAT(order(Midpoint{}), near(2.0, 0, 0.05));
  CHECK_THAT(order(RungeKutta4{}), near(4.0, 0, 0.05));
}

TEST_CASE("a study lists steps, errors and the orders between them") {
  const Decay problem = decay({1.0});
  const Vector<double> y0 = Vector<double>::Ones(1);
  const auto study =
      testing::convergence_study(problem, y0, TimeSpan{0.0, 1.0}, Euler{}, problem.exact(1.0, y0), 10, 2);
  REQUIRE(study.steps == std::vector<Index>{10, 20, 40});
  REQUIRE(study.errors.size() == 3);
  REQUIRE(study.orders.size() == 2);
  // Euler in closed form: (1 - h)^n.
  for (std::size_t i = 0; i < 3; ++i) {
    const auto n = static_cast<double>(study.steps[i]);
    CHECK_THAT(study.errors[i], near(std::exp(-1.0) - std::pow(1 - 1 / n, n), 0, 1e-14));
  }
  CHECK(study.finest_order() == study.orders[1]);
}

TEST_CASE("the interpolant's order is measured by its local error") {
  const Decay problem = decay({1.0, 3.0});
  const Vector<double> y0 = Vector<double>::Ones(2);
  const auto exact = [&](double, const Vector<double>& y, double s) { return problem.exact(s, y); };
  const auto study = testing::interpolant_study(problem, 0.0, y0, DormandPrince{}, exact, 0.1, 0.4, 3);
  CHECK(study.errors.size() == 4);
  CHECK_THAT(study.finest_order(), near(5.0, 0, 0.2));  // an interpolant of order 4
}

TEST_CASE("a study refuses what makes no sense") {
  const Decay problem = decay({1.0});
  const Vector<double> y0 = Vector<double>::Ones(1);
  const TimeSpan<> span{0.0, 1.0};
  CHECK_THROWS_MATCHES(testing::convergence_study(problem, y0, span, Euler{}, y0, 0, 2), ArgumentError,
                       message_contains("first_steps"));
  CHECK_THROWS_MATCHES(testing::convergence_study(problem, y0, span, Euler{}, y0, 4, 0), ArgumentError,
                       message_contains("doublings"));
  CHECK_THROWS_AS(testing::convergence_study(problem, y0, span, Euler{}, Vector<double>(Vector<double>::Ones(2)), 4, 1),
                  DimensionError);
  CHECK_THROWS_AS(testing::ConvergenceStudy<double>{}.finest_order(), ArgumentError);
  // A run that blows up is not a study.
  CHECK_THROWS_AS(testing::convergence_study(BlowUp{}, BlowUp::start(), TimeSpan{0.0, 50.0}, RungeKutta4{},
                                             BlowUp::start(), 100, 1),
                  ConvergenceError);
}
