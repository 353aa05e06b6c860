#include "richflow/minimizers/l1_certificate.hpp"

#include <Eigen/LU>
#include <algorithm>
#include <cmath>

#include "richflow/core/random.hpp"
#include "richflow/minimizers/lasso_path.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("a certificate of minimum l1 has its textbook values at any pair") {
  RandomStream random(941);
  for (int trial = 0; trial < 10; ++trial) {
    const Dataset<> data = gaussian_data(random, 4, 9);
    const Vector<double> beta = random_vector(random, 9), nu = random_vector(random, 4);
    const Vector<double> upper = random_positive_vector(random, 9, 0.5, 2),
                         lower = random_positive_vector(random, 9, 0.5, 2);
    const auto certificate = certify_l1(data, beta, nu, upper, lower);
    const Vector<double> residual = data.X() * beta - data.y(), prices = data.X().transpose() * nu;
    double objective = 0, excess = 0, slope = 0;
    for (Index i = 0; i < 9; ++i) {
      objective += std::max(upper[i] * beta[i], -lower[i] * beta[i]);
      excess = std::max({excess, prices[i] / upper[i] - 1, -prices[i] / lower[i] - 1});
      slope = std::max(slope, std::abs(data.X().col(i).dot(residual)) / data.X().col(i).norm() / data.y().norm());
    }
    // Roundings of some ten terms.
    CHECK_THAT(certificate.objective, near(objective, 1e-14, 0));
    CHECK_THAT(certificate.primal_residual, near(residual.norm() / data.y().norm(), 1e-14, 0));
    CHECK_THAT(certificate.least_squares_residual, near(slope, 1e-13, 0));
    CHECK_THAT(certificate.dual_excess, near(excess, 1e-13, 1e-13));
    const double gap = (objective - (data.X() * beta).dot(nu) / (1 + excess)) / objective;
    CHECK_THAT(certificate.duality_gap, near(gap, 1e-12, 1e-13));
    CHECK(gap >= 0);
  }
}

TEST_CASE("a certificate sees a small distance from the optimum, on either side") {
  RandomStream random(942);
  const Dataset<> data = gaussian_data(random, 5, 12);
  const Vector<double> ones = Vector<double>::Ones(12);
  const LassoPath<> path = lasso_path(data);
  REQUIRE(path.ok());
  const auto gap = [&](const Vector<double>& beta, const Vector<double>& nu) {
    const auto certificate = certify_l1(data, beta, nu, ones, ones);
    return std::abs(certificate.duality_gap) + certificate.primal_residual;
  };
  CHECK(gap(path.beta, path.nu) <= 1e-14);
  for (const double distance : {1e-3, 1e-6, 1e-9}) {
    CAPTURE(distance);
    CHECK(gap(path.beta + distance * random_vector(random, 12), path.nu) >= 1e-2 * distance);
    CHECK(gap(path.beta, path.nu + distance * random_vector(random, 5)) >= 1e-2 * distance);
  }
  // Another interpolator, with the multipliers of the best one.
  Vector<double> other = path.beta;
  other += data.X().fullPivLu().kernel().col(0);
  CHECK(gap(other, path.nu) >= 1e-2);
}

TEST_CASE("a certificate does not take the rounding of columns of very different sizes for a distance") {
  RandomStream random(943);
  Dataset<> plain = gaussian_data(random, 6, 20);
  Matrix<double> X = plain.X();
  for (Index j = 0; j < 20; ++j) X.col(j) *= std::exp(6 * random.normal());
  const LassoPath<> path = lasso_path(Dataset(X, plain.y()));
  CAPTURE(path.message);
  CHECK(path.ok());
}

TEST_CASE("a certificate refuses lengths and weights that do not fit") {
  RandomStream random(944);
  const Dataset<> data = gaussian_data(random, 3, 5);
  const Vector<double> beta = Vector<double>::Zero(5), nu = Vector<double>::Zero(3), ones = Vector<double>::Ones(5);
  CHECK_THROWS_AS(certify_l1(data, nu, nu, ones, ones), DimensionError);
  CHECK_THROWS_AS(certify_l1(data, beta, beta, ones, ones), DimensionError);
  CHECK_THROWS_AS(certify_l1(data, beta, nu, nu, ones), DimensionError);
  CHECK_THROWS_MATCHES(certify_l1(data, beta, nu, ones, beta), ArgumentError, message_contains("lower(0)"));
}
