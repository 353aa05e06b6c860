#include "richflow/limits/l1_rate.hpp"

#include <algorithm>
#include <cmath>

#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/saddles.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Checks rho from above (nu) and from below by perturbing beta along random directions of the null space.
void check_rho(const Dataset<>& data, const L1Rate<>& rate) {
  const Vector<double> prices = data.X().transpose() * rate.nu;
  double largest = 0;
  for (Index i = 0; i < prices.size(); ++i) {
    if (rate.beta[i] != 0)
      CHECK_THAT(prices[i], near(std::copysign(1.0, rate.beta[i]), 1e-11, 0));
    else
      largest = std::max(largest, std::abs(prices[i]));
  }
  // Two certified programs of 1e-12, times the condition of the bases.
  CHECK_THAT(largest, near(rate.rho, 1e-10, 1e-12));
}

}  // namespace

TEST_CASE("on leaves the limit nears minimum l1 as alpha^(8/9)") {
  const Dataset<> data = tabulated_path("leaves", 2).data();
  const L1Rate<> rate = l1_rate(data);
  CAPTURE(rate.message);
  REQUIRE(rate.ok());
  CHECK_THAT(rate.exponent, near(8.0 / 9.0, 1e-13, 0));
  check_rho(data, rate);
  // The slope of what is off the support, which is exact where the distance is below rounding.
  HypentropyPath<> path(data, Hypentropy<>::uniform(6, Scale<>::from_log(-20.0)));
  std::vector<double> logs;
  for (const double log_alpha : {-20.0, -40.0}) {
    const Vector<double> beta = path.solve(Scale<>::from_log(log_alpha)).require_ok().beta;
    CHECK(std::abs(beta[rate.slowest]) == std::max({std::abs(beta[0]), std::abs(beta[4]), std::abs(beta[5])}));
    logs.push_back(std::log(std::abs(beta[rate.slowest])));
  }
  CHECK(rate.log_alpha > -20);
  // Theory's tolerance: what is left of the second coordinate.
  CHECK_THAT((logs[0] - logs[1]) / 20, near(8.0 / 9.0, 1e-4, 0));
}

TEST_CASE("at depth D >= 3 the limit nears minimum l1 as alpha^D") {
  const Dataset<> data = tabulated_path("leaves", 2).data();
  const Vector<double> end = l1_rate(data).require_ok().beta;
  for (const Index depth : {Index{3}, Index{4}}) {
    const auto distance = [&](double alpha) {
      const Limit<> limit = solve(DiagonalNet<double>(depth, 6), data, Start<>::uniform(Scale<>::from_value(alpha)));
      return (limit.require_ok().beta - end).norm();
    };
    const auto order = static_cast<double>(depth);
    // The next order is alpha^(D-2) of it; distances stay above the roundings, 1e-16.
    const double alpha = depth == 3 ? 1e-3 : 1e-2;
    CHECK_THAT(std::log10(distance(alpha) / distance(0.1 * alpha)), near(order, 0.01, 0));
  }
}

TEST_CASE("with fewer in the support than samples rho is the value of a linear program") {
  // Noise-free sparse data: the dual of minimum l1 is not unique, and its multipliers are not those of rho.
  const auto problem =
      sparse_regression({.num_samples = 8, .num_inputs = 16, .num_nonzero = 2, .noise_variance = 0, .seed = 3});
  const Dataset<>& data = problem.dataset;
  const L1Rate<> rate = l1_rate(data);
  CAPTURE(rate.message);
  REQUIRE(rate.ok());
  Index count = 0;
  for (const double value : rate.beta) count += value != 0 ? 1 : 0;
  REQUIRE(count == 2);
  check_rho(data, rate);
  CHECK(rate.rho > 0);
  CHECK(rate.rho < 1);
  // From below: no direction of the null space proves more than rho, and some are close (the program's own).
  RandomStream random(931);
  const Matrix<double> projector =
      Matrix<double>::Identity(16, 16) - data.X().transpose() * (data.X() * data.X().transpose()).inverse() * data.X();
  double best = 0;
  for (int trial = 0; trial < 200; ++trial) {
    const Vector<double> h = projector * random_vector(random, 16);
    double on = 0, off = 0;
    for (Index i = 0; i < 16; ++i)
      (rate.beta[i] != 0 ? on : off) += rate.beta[i] != 0 ? -std::copysign(h[i], h[i] * rate.beta[i]) : std::abs(h[i]);
    best = std::max(best, on / off);
  }
  CHECK(best < rate.rho);
  // The slope of the flow's limit: theory found 1 percent of oscillation.
  HypentropyPath<> path(data, Hypentropy<>::uniform(16, Scale<>::from_log(-10.0)));
  std::vector<double> logs;
  for (const double log_alpha : {-12.0, -24.0}) {
    const Vector<double> beta = path.solve(Scale<>::from_log(log_alpha)).require_ok().beta;
    double largest = 0;
    for (Index i = 0; i < 16; ++i)
      if (rate.beta[i] == 0) largest = std::max(largest, std::abs(beta[i]));
    logs.push_back(std::log(largest));
  }
  CHECK_THAT((logs[0] - logs[1]) / 12, near(rate.exponent, 0.02, 0));
}

TEST_CASE("where minimum l1 is not unique there is no power law, and where nothing is off the support no distance") {
  const L1Rate<> segment = l1_rate(Dataset(Matrix<double>::Ones(1, 2), Vector<double>::Ones(1)));
  REQUIRE(segment.ok());
  CHECK_THAT(segment.rho, near(1, 1e-14, 0));
  CHECK(segment.message.find("no power law") != std::string::npos);
  const L1Rate<> square = l1_rate(Dataset(Matrix<double>::Identity(3, 3), Vector<double>::Ones(3)));
  REQUIRE(square.ok());
  CHECK(square.rho == 0);
  CHECK(square.slowest == -1);
  // A coordinate that its multipliers can avoid: rho = 0 with one off the support.
  const L1Rate<> avoided = l1_rate(Dataset(Matrix<double>::Identity(3, 3), Vector<double>{{1, -1, 0}}));
  REQUIRE(avoided.ok());
  CHECK(avoided.rho == 0);
  CHECK(std::abs(avoided.nu[2]) <= 1e-15);
  CHECK_THAT(avoided.nu[1], near(-1, 1e-15, 0));
  RandomStream random(932);
  CHECK_THROWS_AS(l1_rate(gaussian_data(random, 8, 3)), InfeasibleError);
}
