#include <Eigen/LU>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "richflow/minimizers/min_norm.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The minimum-l1 interpolator by trying every basis: N columns at a time.
double smallest_l1_norm_of_all_vertices(const Matrix<double>& X, const Vector<double>& y) {
  const Index n = X.rows();
  const Index d = X.cols();
  std::vector<bool> chosen(static_cast<std::size_t>(d), false);
  std::fill(chosen.begin(), chosen.begin() + n, true);
  double best = std::numeric_limits<double>::infinity();
  do {
    Matrix<double> basis(n, n);
    Index k = 0;
    for (Index j = 0; j < d; ++j)
      if (chosen[static_cast<std::size_t>(j)]) basis.col(k++) = X.col(j);
    const Eigen::FullPivLU<Matrix<double>> lu(basis);
    if (lu.isInvertible()) best = std::min(best, lu.solve(y).lpNorm<1>());
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  return best;
}

/// Weak duality proves the optimum: nu is feasible and its value equals the objective. Rounding of N-term sums.
void check_optimal(const MinL1Result<>& result, const Dataset<>& data) {
  CHECK(result.ok());
  CHECK(result.primal_residual <= 1e-12);
  CHECK(std::abs(result.duality_gap) <= 1e-12);
  CHECK((data.X().transpose() * result.nu).cwiseAbs().maxCoeff() <= 1 + 1e-14);
  CHECK_THAT(data.y().dot(result.nu), near(result.objective, 1e-12, 0));
  CHECK((result.beta.array() != 0).count() <= data.num_samples());
}

}  // namespace

TEST_CASE("minimum l1 equals the best of all vertices", "[minimizers][property]") {
  for (std::uint64_t trial = 0; trial < 60; ++trial) {
    RandomStream random(101, trial);
    const Index n = 1 + static_cast<Index>(random.uniform_integer(4));
    const Index d = n + static_cast<Index>(random.uniform_integer(7));
    Matrix<double> X = random_matrix(random, n, d);
    const Dataset data(X, random_vector(random, n));
    CAPTURE(trial, n, d);
    const MinL1Result<> result = min_l1_interpolator(data);
    check_optimal(result, data);
    CHECK_THAT(result.objective, near(smallest_l1_norm_of_all_vertices(X, data.y()), 1e-11, 0));
  }
}

TEST_CASE("minimum l1 on many random problems is certified", "[minimizers][property]") {
  for (std::uint64_t trial = 0; trial < 30; ++trial) {
    RandomStream random(102, trial);
    const Index n = 5 + static_cast<Index>(random.uniform_integer(40));
    const Index d = n + static_cast<Index>(random.uniform_integer(200));
    Matrix<double> X = random_matrix(random, n, d);
    const Dataset data(std::move(X), log_uniform(random, 1e-8, 1e8) * random_vector(random, n));
    CAPTURE(trial, n, d);
    check_optimal(min_l1_interpolator(data), data);
  }
}

TEST_CASE("degenerate vertices: sparse truth, integer data, repeated columns", "[minimizers]") {
  for (const Index n : {20, 60, 120}) {
    SparseRegressionOptions options;
    options.num_samples = n;
    options.num_inputs = 300;
    options.num_nonzero = 4;
    options.noise_variance = 0;
    const SparseRegression<> problem = sparse_regression(options);
    const MinL1Result<> result = min_l1_interpolator(problem.dataset);
    check_optimal(result, problem.dataset);
    if (n >= 60) CHECK((result.beta - problem.beta_star).norm() <= 1e-12);
  }
  for (std::uint64_t trial = 0; trial < 30; ++trial) {
    RandomStream random(103, trial);
    Matrix<double> X(4, 9);
    for (Index i = 0; i < 4; ++i)
      for (Index j = 0; j < 9; ++j) X(i, j) = static_cast<double>(random.uniform_integer(3)) - 1;
    X.leftCols(4) += 2 * Matrix<double>::Identity(4, 4);  // full row rank for most draws, ties everywhere
    X.col(8) = -X.col(0);
    Vector<double> sparse = Vector<double>::Zero(9);
    sparse[static_cast<Index>(random.uniform_integer(9))] = 2;
    const Dataset data(X, X * sparse);
    CAPTURE(trial);
    check_optimal(min_l1_interpolator(data), data);
  }
}

TEST_CASE("weighted l1 is l1 in scaled columns", "[minimizers]") {
  RandomStream random(104, 0);
  Matrix<double> X = random_matrix(random, 6, 25);
  const Dataset data(std::move(X), random_vector(random, 6));
  const Vector<double> weights = random_positive_vector(random, 25, 0.2, 5.0);
  const MinL1Result<> result = min_l1_interpolator(data, weights);
  CHECK(result.ok());
  CHECK_THAT(result.objective, near(weights.dot(result.beta.cwiseAbs()), 1e-13, 0));
  CHECK((data.X() * result.beta - data.y()).norm() <= 1e-12 * data.y().norm());
  CHECK(((data.X().transpose() * result.nu).cwiseAbs() - weights).maxCoeff() <= 1e-13);
  CHECK_THAT(data.y().dot(result.nu), near(result.objective, 1e-12, 0));
  CHECK_THROWS_AS(min_l1_interpolator(data, Vector<double>(-weights)), ArgumentError);
  CHECK_THROWS_AS(min_l1_interpolator(data, Vector<double>(Vector<double>::Ones(3))), DimensionError);
}

TEST_CASE("redundant rows, square systems, y = 0 and infeasible y", "[minimizers]") {
  RandomStream random(105, 0);
  const Matrix<double> X = random_matrix(random, 5, 12);
  const Vector<double> y = random_vector(random, 5);
  Matrix<double> doubled(6, 12);
  Vector<double> doubled_y(6);
  doubled << X, 3 * X.row(2);
  doubled_y << y, 3 * y[2];
  const Dataset redundant(doubled, doubled_y);
  const MinL1Result<> result = min_l1_interpolator(redundant);
  check_optimal(result, redundant);
  CHECK_THAT(result.objective, near(min_l1_interpolator(Dataset(X, y)).objective, 1e-12, 0));

  doubled_y[5] += 1;
  CHECK_THROWS_AS(min_l1_interpolator(Dataset(doubled, doubled_y)), InfeasibleError);
  CHECK_THROWS_AS(min_l2_interpolator(Dataset(doubled, doubled_y)), InfeasibleError);

  const MinL1Result<> zero = min_l1_interpolator(Dataset(X, Vector<double>::Zero(5)));
  CHECK(zero.ok());
  CHECK(zero.objective == 0);
  CHECK(zero.beta.isZero(0));

  const Matrix<double> tall = random_matrix(random, 8, 5);
  const Vector<double> truth = random_vector(random, 5);
  const Dataset overdetermined(tall, tall * truth);
  CHECK((min_l1_interpolator(overdetermined).beta - truth).norm() <= 1e-11 * truth.norm());
  CHECK((min_l2_interpolator(overdetermined) - truth).norm() <= 1e-11 * truth.norm());
}

TEST_CASE("consistent rows whose terms vanish at the solution are no misfit", "[minimizers]") {
  // Row 0 sees an entry that is 0 up to rounding, and its label is 0.
  const Matrix<double> X{{0, 1}, {1, -1}, {1, 0}};
  const Vector<double> exact{{-2, 0}};
  const MinL1Result<> least = min_l1_interpolator(Dataset(X, X * exact)).require_ok();
  CHECK((least.beta - exact).norm() <= 1e-14);
  // Independent rows of which one has terms of 6e8 that cancel to its label.
  const Matrix<double> far{{-3e5, -2e5, 6e5}, {6e-4, -5e-4, 3e-4}};
  CHECK_NOTHROW(OrthonormalRows<double>(Dataset(far, Vector<double>::Ones(2))).require_solution());

  // Integer rows with many such zeros, more of them than columns or fewer; then a label that contradicts its twin.
  RandomStream random(2023);
  for (int trial = 0; trial < 300; ++trial) {
    const Index N = 2 + trial % 6, d = 2 + trial % 5;
    CAPTURE(trial, N, d);
    Matrix<double> rows(N + 1, d);
    for (double& entry : rows.reshaped()) entry = static_cast<double>(random.uniform_integer(5)) - 2;
    rows.row(N) = rows.row(N - 1);
    if (trial % 3 == 1) rows.col(0) *= 1e-7;
    if (trial % 3 == 2) rows.row(0) *= 1e6;
    Vector<double> beta(d);
    for (double& entry : beta) entry = static_cast<double>(random.uniform_integer(3)) - 1;
    Vector<double> y = rows * beta;
    CHECK_NOTHROW(OrthonormalRows<double>(Dataset(rows, y)).require_solution());
    y[N] += 1e-3;
    CHECK_THROWS_AS(OrthonormalRows<double>(Dataset(rows, y)).require_solution(), InfeasibleError);
  }
}

TEST_CASE("nearly dependent rows: the minimizers of l1 and Q are certified at every distance", "[minimizers]") {
  RandomStream random(2022);
  const Index n = 40;
  const Index d = 120;
  Matrix<double> X = random_matrix(random, n + 1, d);
  const Vector<double> noise = random_vector(random, d);
  const Vector<double> truth = random_vector(random, d);
  for (int k = 1; k <= 16; ++k) {
    CAPTURE(k);
    X.row(n) = X.row(0) + std::pow(10.0, -k) * noise.transpose();
    const Dataset data(X, X * truth);
    const MinL1Result<> l1 = min_l1_interpolator(data);
    CHECK(l1.ok());
    // The labels of the close rows are rounded to 1e-16, which the rows' distance magnifies.
    CHECK(l1.primal_residual <= 1e-13);
    CHECK(l1.objective <= truth.lpNorm<1>());
    CHECK(std::abs(l1.duality_gap) <= 1e-13 * std::pow(10.0, std::min(k, 13)));
    HypentropyPath<> path(data, Hypentropy<>::uniform(d, Scale<>::from_log(0)));
    for (const double log_alpha : {5.0, -5.0, -30.0}) {
      CAPTURE(log_alpha);
      const MinimizerResult<> q = path.solve(Scale<>::from_log(log_alpha));
      CHECK(q.ok());
      CHECK(q.certificate.primal_residual <= 1e-11);
      CHECK(q.beta.lpNorm<1>() >= l1.objective * (1 - 1e-9));
    }
  }
}

TEST_CASE("badly conditioned features: powers of 12 points", "[minimizers]") {
  const Index n = 12;
  const Index d = 30;
  Matrix<double> X(n, d);
  Vector<double> y(n);
  for (Index i = 0; i < n; ++i) {
    const double x = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
    for (Index j = 0; j < d; ++j) X(i, j) = std::pow(x, static_cast<double>(j));
    y(i) = std::exp(-x);
  }
  const Dataset data(X, y);
  const MinL1Result<> l1 = min_l1_interpolator(data);
  CHECK(l1.ok());
  CHECK(l1.primal_residual <= 1e-12);
  HypentropyPath<> path(data, Hypentropy<>::uniform(d, Scale<>::from_log(0)));
  for (const double log_alpha : {5.0, -2.0, -10.0, -50.0}) {
    CAPTURE(log_alpha);
    const MinimizerResult<> q = path.solve(Scale<>::from_log(log_alpha));
    CHECK(q.ok());
    CHECK(q.certificate.primal_residual <= 1e-11);
  }
}

TEST_CASE("minimum l2 is the pseudo-inverse solution", "[minimizers][property]") {
  for (std::uint64_t trial = 0; trial < 30; ++trial) {
    RandomStream random(106, trial);
    const Index n = 1 + static_cast<Index>(random.uniform_integer(20));
    const Index d = n + static_cast<Index>(random.uniform_integer(40));
    Matrix<double> X = random_matrix(random, n, d);
    const Dataset data(X, random_vector(random, n));
    const Vector<double> expected = X.jacobiSvd(Eigen::ComputeThinU | Eigen::ComputeThinV).solve(data.y());
    const Vector<double> beta = min_l2_interpolator(data);
    CAPTURE(trial, n, d);
    // Condition numbers of square Gaussian matrices reach 1e3 here.
    CHECK((beta - expected).norm() <= 1e-9 * expected.norm());

    const Vector<double> w0 = random_positive_vector(random, d, 0.2, 3.0);
    const Vector<double> shaped = min_l2_interpolator(data, w0);
    CHECK((X * shaped - data.y()).norm() <= 1e-11 * data.y().norm());
    // Stationarity: beta / w0^2 lies in the row space of X.
    const Vector<double> gradient = shaped.cwiseQuotient(w0.cwiseAbs2());
    const Vector<double> nu = X.transpose().colPivHouseholderQr().solve(gradient);
    CHECK((X.transpose() * nu - gradient).norm() <= 1e-9 * gradient.norm());
  }
}

TEST_CASE("hypentropy minimizers approach the vertex as alpha falls, from any shape", "[minimizers]") {
  RandomStream random(107, 0);
  Matrix<double> X = random_matrix(random, 6, 20);
  const Dataset data(std::move(X), random_vector(random, 6));
  const Vector<double> vertex = min_l1_interpolator(data).beta;
  const Vector<double> w0 = random_positive_vector(random, 20, 0.5, 2.0);
  for (const Vector<double>& shape : {Vector<double>::Ones(20).eval(), w0}) {
    const Vector<double> beta = minimize_hypentropy(data, shape, Scale<>::from_log(-1000)).beta;
    CHECK((beta - vertex).norm() <= 1e-3 * vertex.norm());
  }
}
