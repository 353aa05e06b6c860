#include "richflow/problems/sparse_regression.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/statistics.hpp"

using richflow::Index;
using richflow::Matrix;
using richflow::sparse_regression;
using richflow::SparseRegression;
using richflow::SparseRegressionOptions;
using richflow::Vector;
using test_support::kolmogorov_smirnov;
using test_support::message_contains;

TEST_CASE("the defaults are the protocol of Figure 1") {
  const SparseRegression<> problem = sparse_regression({});
  CHECK(problem.dataset.num_samples() == 100);
  CHECK(problem.dataset.num_inputs() == 1000);
  CHECK(problem.beta_star.size() == 1000);
  CHECK((problem.beta_star.head(5).array() == 1.0 / std::sqrt(5.0)).all());
  CHECK((problem.beta_star.tail(995).array() == 0.0).all());

  // X is standard normal and so is the noise over 0.1: each false alarm 3e-8.
  const Matrix<double>& X = problem.dataset.X();
  const std::vector<double> entries(X.data(), X.data() + X.size());
  CHECK(kolmogorov_smirnov(entries, test_support::normal_cdf) < 3.0);
  const SparseRegression<> longer = sparse_regression({.num_samples = 5000, .num_inputs = 6});
  const Vector<double> noise = (longer.dataset.y() - longer.dataset.X() * longer.beta_star) / 0.1;
  CHECK(kolmogorov_smirnov({noise.data(), noise.data() + noise.size()}, test_support::normal_cdf) < 3.0);
  // ... and independent of X: a normalised correlation is beyond 6 with probability 2e-9.
  const Vector<double> correlation = longer.dataset.X().transpose() * noise / std::sqrt(5000.0);
  CHECK(correlation.cwiseAbs().maxCoeff() < 6.0);
}

TEST_CASE("without noise the labels are the predictions of beta_star") {
  const SparseRegression<> problem =
      sparse_regression({.num_samples = 20, .num_inputs = 30, .num_nonzero = 7, .noise_variance = 0.0, .seed = 3});
  const Vector<double> predictions = problem.dataset.X() * problem.beta_star;
  // seven products of size about 1, summed in another order
  CHECK((problem.dataset.y() - predictions).cwiseAbs().maxCoeff() < 1e-14);
  // the noise does not disturb X
  CHECK(sparse_regression({.num_samples = 20, .num_inputs = 30, .num_nonzero = 7, .seed = 3}).dataset.X() ==
        problem.dataset.X());
}

TEST_CASE("seed and stream decide everything, and more samples extend fewer") {
  const SparseRegressionOptions options{.num_samples = 10, .num_inputs = 8, .num_nonzero = 2, .seed = 5, .stream = 1};
  const SparseRegression<> problem = sparse_regression(options);
  const SparseRegression<> again = sparse_regression(options);
  CHECK(problem.dataset.X() == again.dataset.X());
  CHECK(problem.dataset.y() == again.dataset.y());

  SparseRegressionOptions other = options;
  other.stream = 2;
  CHECK(sparse_regression(other).dataset.X() != problem.dataset.X());
  other = options;
  other.seed = 6;
  CHECK(sparse_regression(other).dataset.X() != problem.dataset.X());

  SparseRegressionOptions larger = options;
  larger.num_samples = 25;
  const SparseRegression<> extended = sparse_regression(larger);
  CHECK(extended.dataset.X().topRows(10) == problem.dataset.X());
  CHECK(extended.dataset.y().head(10) == problem.dataset.y());
}

TEST_CASE("the problem is bit for bit the recorded one") {
  const SparseRegression<> problem = sparse_regression({.num_samples = 50, .num_inputs = 40, .seed = 1, .stream = 2});
  std::uint64_t digest = 0;
  const auto add = [&digest](double value) {
    digest = digest * 6364136223846793005U + std::bit_cast<std::uint64_t>(value);
  };
  for (Index i = 0; i < 50; ++i) {
    for (Index j = 0; j < 40; ++j) add(problem.dataset.X()(i, j));
    add(problem.dataset.y()(i));
  }
  CHECK(digest == 0x8863049f87f68a1d);
}

TEST_CASE("the population error is the squared distance to the truth") {
  const SparseRegression<> problem = sparse_regression({.num_samples = 3, .num_inputs = 10, .num_nonzero = 4});
  CHECK(problem.population_error(problem.beta_star) == 0.0);
  CHECK_THAT(problem.population_error(Vector<double>::Zero(10)), test_support::within_ulp(1.0L, 4.0L));
  Vector<double> beta = problem.beta_star;
  beta(9) = 3.0;
  CHECK(problem.population_error(beta) == 9.0);
  CHECK(richflow::population_error(beta, problem.beta_star) == 9.0);
  CHECK_THROWS_MATCHES(problem.population_error(Vector<double>::Zero(9)), richflow::DimensionError,
                       message_contains("beta has 9"));
  beta(0) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(problem.population_error(beta), richflow::NonFiniteError);
}

TEST_CASE("the generator serves other scalars") {
  const auto in_float = sparse_regression<float>({.num_samples = 4, .num_inputs = 6, .seed = 2});
  const auto in_double = sparse_regression({.num_samples = 4, .num_inputs = 6, .seed = 2});
  const auto in_long_double = sparse_regression<long double>({.num_samples = 4, .num_inputs = 6, .seed = 2});
  CHECK(in_float.dataset.X() == in_double.dataset.X().cast<float>());
  CHECK(in_float.dataset.y() == in_double.dataset.y().cast<float>());
  CHECK(in_long_double.dataset.X() == in_double.dataset.X().cast<long double>());
}

TEST_CASE("options out of range are named") {
  using richflow::ArgumentError;
  using richflow::DimensionError;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_MATCHES(sparse_regression({.num_samples = 0}), DimensionError, message_contains("num_samples"));
  CHECK_THROWS_MATCHES(sparse_regression({.num_samples = -4}), DimensionError, message_contains("-4"));
  CHECK_THROWS_MATCHES(sparse_regression({.num_inputs = 0}), DimensionError, message_contains("num_inputs"));
  CHECK_THROWS_MATCHES(sparse_regression({.num_nonzero = 0}), ArgumentError, message_contains("num_nonzero"));
  CHECK_THROWS_MATCHES(sparse_regression({.num_inputs = 4}), ArgumentError, message_contains("num_nonzero"));
  CHECK_THROWS_MATCHES(sparse_regression({.noise_variance = -1.0}), ArgumentError, message_contains("noise_variance"));
  CHECK_THROWS_AS(sparse_regression({.noise_variance = nan}), ArgumentError);
  CHECK_THROWS_AS(sparse_regression({.noise_variance = std::numeric_limits<double>::infinity()}), ArgumentError);
}
