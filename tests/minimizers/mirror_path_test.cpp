#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// y = X beta with `active` nonzero entries and no noise: fewer active coordinates than samples.
Dataset<> noise_free(Index n, Index d, Index active, std::uint64_t seed) {
  SparseRegressionOptions options;
  options.num_samples = n;
  options.num_inputs = d;
  options.num_nonzero = active;
  options.noise_variance = 0;
  options.seed = seed;
  return sparse_regression(options).dataset;
}

/// The three numbers at the level that the solver promises (1e-12 for the residual) or that rounding leaves:
/// the entries of z = X^T nu carry the rounding of some hundred increments; the gap is the residual times |nu|,
/// relative to Q.
void check_certified(const MinimizerResult<>& result) {
  CAPTURE(result.scale.log(), result.factorizations);
  CHECK(result.status == Status::tolerance_reached);
  CHECK(result.certificate.primal_residual <= 1e-12);
  CHECK(result.certificate.kkt_residual <= 5e-14);
  CHECK(std::abs(result.certificate.duality_gap) <= 1e-11);
}

/// Strict convexity: any other interpolator has a larger value.
template <class Mirror>
void check_better_than_another(const Mirror& Q, const Dataset<>& data, const Vector<double>& beta,
                               RandomStream& random) {
  const Matrix<double>& X = data.X();
  const Vector<double> detour = random_vector(random, data.num_inputs());
  const Vector<double> kernel_move = detour - X.transpose() * (X * X.transpose()).ldlt().solve(X * detour);
  CHECK(Q.value(beta + 0.1 * kernel_move) > Q.value(beta));
}

/// An independent route to a biased limit: grad Q(beta) - grad Q(beta(0)) in the row space for the unbiased Q.
template <class Mirror>
void check_bregman_projection(const Mirror& unbiased, const Dataset<>& data, const Vector<double>& start,
                              const Vector<double>& beta) {
  Vector<double> at_limit(beta.size()), at_start(beta.size());
  unbiased.gradient(beta, at_limit);
  unbiased.gradient(start, at_start);
  const Vector<double> move = at_limit - at_start;
  const Vector<double> nu = data.X().transpose().colPivHouseholderQr().solve(move);
  // Rounding of the gradient and of a least-squares problem of condition below 100.
  CHECK((data.X().transpose() * nu - move).norm() <= 1e-11 * move.norm());
}

/// beta of one (D, log alpha, init) of limit_beta.csv.
Vector<double> reference_limit(const ReferenceTable& table, Index depth, double log_alpha, const std::string& init) {
  Vector<double> expected = Vector<double>::Zero(9);
  Index found = 0;
  for (std::size_t row = 0; row < table.size(); ++row) {
    if (static_cast<Index>(table.number(row, "D")) != depth || table.text(row, "init") != init) continue;
    if (table.number(row, "log_alpha") != log_alpha) continue;
    expected[static_cast<Index>(table.number(row, "i"))] = table.number(row, "beta");
    ++found;
  }
  REQUIRE(found == 9);
  return expected;
}

/// The minimizer of the depth-D regularizer, from scratch.
MinimizerResult<> minimize_at_depth(const Dataset<>& data, const DepthHypentropy<>& Q) {
  MirrorPath<DepthHypentropy<>> path(data, Q);
  return path.solve(Q.scale());
}

}  // namespace

TEST_CASE("limits of the squared net's flow agree with the 25-digit table", "[minimizers]") {
  const Dataset<> data = reference_data();
  const Vector<double> w0 = reference_matrix("limit_shape.csv", {"w0"});
  const ReferenceTable table = reference_table("limit_beta.csv");
  Index compared = 0;
  for (const std::string& init : {std::string("uniform"), std::string("shape")}) {
    for (const double log_alpha : {3.0, 0.0, -1.0, -3.0, -6.0, -20.0, -60.0}) {
      const Vector<double> expected = reference_limit(table, 2, log_alpha, init);
      const Scale<> scale = Scale<>::from_log(log_alpha);
      const MinimizerResult<> result =
          init == "uniform" ? minimize_hypentropy(data, scale) : minimize_hypentropy(data, w0, scale);
      CAPTURE(init, log_alpha);
      check_certified(result);
      // A primal residual of 1e-12 times the condition number of this problem, below 10.
      CHECK((result.beta - expected).cwiseAbs().maxCoeff() <= 1e-11 * expected.cwiseAbs().maxCoeff());
      compared += expected.size();
    }
  }
  CHECK(compared == 2 * 7 * 9);
}

TEST_CASE("every scale is reached from scratch, certified, in few factorizations", "[minimizers]") {
  SparseRegressionOptions options;
  options.num_samples = 60;
  options.num_inputs = 400;
  const Dataset<> data = sparse_regression(options).dataset;
  for (const double log_alpha : {20.0, 5.0, 1.0, -1.0, -4.0, -9.0, -30.0, -100.0, -300.0, -500.0, -1000.0}) {
    HypentropyPath<> path(data, Hypentropy<>::uniform(400, Scale<>::from_log(0)));
    const MinimizerResult<> cold = path.solve(Scale<>::from_log(log_alpha));
    check_certified(cold);
    CHECK(cold.factorizations <= 25);
    const MinimizerResult<> warm = path.solve(Scale<>::from_log(log_alpha - 1));
    check_certified(warm);
    CHECK(warm.factorizations <= 4);
  }
}

TEST_CASE("noise-free sparse data, where the Hessian is numerically singular, converge", "[minimizers]") {
  for (const Index n : {20, 60, 120}) {
    const Dataset<> data = noise_free(n, 300, 4, 11);
    for (const double log_alpha : {-20.0, -50.0, -200.0, -500.0}) {
      const MinimizerResult<> result = minimize_hypentropy(data, Scale<>::from_log(log_alpha));
      CAPTURE(n);
      check_certified(result);
      // Exact recovery at these sizes: min-l1 is beta* with |beta*|_1 = 2, and Q nears l1 like d / log(1/alpha).
      if (n >= 60) CHECK_THAT(result.beta.lpNorm<1>(), near(2.0, 1e-6, 0));
    }
  }
}

TEST_CASE("random problems: minimizers are certified for uniform, shaped and biased starts", "[minimizers][property]") {
  for (std::uint64_t trial = 0; trial < 40; ++trial) {
    RandomStream random(7, trial);
    const Index n = 1 + static_cast<Index>(random.uniform_integer(12));
    const Index d = n + 1 + static_cast<Index>(random.uniform_integer(30));
    const Dataset<> data = gaussian_data(random, n, d);
    const Scale<> scale = Scale<>::from_log(random.uniform(-40.0, 3.0));
    const Vector<double> a = random_positive_vector(random, d, 0.3, 3.0);
    const Vector<double> b = random_positive_vector(random, d, 0.3, 3.0);
    for (const Hypentropy<>& Q :
         {Hypentropy<>::uniform(d, scale), Hypentropy<>::shaped(a, scale), Hypentropy<>::biased(a, b, scale)}) {
      CAPTURE(trial, n, d);
      HypentropyPath<> path(data, Q);
      const MinimizerResult<> result = path.solve(scale);
      check_certified(result);
      check_better_than_another(Q, data, result.beta, random);
    }
  }
}

TEST_CASE("the biased limit is the Bregman projection of beta(0)", "[minimizers]") {
  RandomStream random(3, 0);
  const Dataset<> data = gaussian_data(random, 5, 14);
  const Vector<double> a = random_positive_vector(random, 14, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, 14, 0.5, 2.0);
  const Scale<> scale = Scale<>::from_value(0.2);
  HypentropyPath<> path(data, Hypentropy<>::biased(a, b, scale));
  const Vector<double> beta = path.solve(scale).require_ok().beta;
  const Vector<double> w0 = a.cwiseProduct(b).cwiseSqrt();
  const Vector<double> start = 0.04 * (a.cwiseAbs2() - b.cwiseAbs2());
  const Hypentropy<> unbiased = Hypentropy<>::shaped(w0, scale);
  check_bregman_projection(unbiased, data, start, beta);
}

TEST_CASE("the certificate needs no trust in the solver", "[minimizers]") {
  RandomStream random(5, 0);
  const Dataset<> data = gaussian_data(random, 6, 20);
  const Scale<> scale = Scale<>::from_value(0.1);
  const Hypentropy<> Q = Hypentropy<>::uniform(20, scale);
  const MinimizerResult<> result = minimize_hypentropy(data, scale);
  const Certificate<> independent = certify(Q, data, result.beta);
  CHECK(independent.primal_residual <= 1e-12);
  CHECK(independent.kkt_residual <= 1e-12);
  CHECK(std::abs(independent.duality_gap) <= 1e-11);

  const Certificate<> elsewhere = certify(Q, data, min_l2_interpolator(data));
  CHECK(elsewhere.primal_residual <= 1e-12);
  CHECK(elsewhere.kkt_residual > 1e-2);
  CHECK(elsewhere.duality_gap > 1e-4);
  CHECK(certify(Q, data, Vector<double>(2 * result.beta)).primal_residual > 0.5);
  CHECK_THROWS_AS(certify(Q, data, Vector<double>::Zero(3)), DimensionError);
}

TEST_CASE("limits in alpha: least squares at the large end, minimum l1 at the small", "[minimizers]") {
  RandomStream random(9, 0);
  const Dataset<> data = gaussian_data(random, 8, 30);
  const Vector<double> l2 = min_l2_interpolator(data);
  const double l1 = min_l1_interpolator(data).require_ok().objective;
  const Vector<double> large = minimize_hypentropy(data, Scale<>::from_log(12)).beta;
  // Q differs from the quadratic by a relative (beta / alpha^2)^2, here e^-48.
  CHECK((large - l2).norm() <= 1e-12 * l2.norm());
  double last = std::numeric_limits<double>::infinity();
  for (const double log_alpha : {-10.0, -30.0, -100.0, -300.0}) {
    const double excess = minimize_hypentropy(data, Scale<>::from_log(log_alpha)).beta.lpNorm<1>() - l1;
    CHECK(excess <= last);
    CHECK(excess >= -1e-11);
    last = std::max(excess, 0.0);
  }
  CHECK(last <= 1e-3 * l1);
}

TEST_CASE("scaling y by c and alpha by sqrt(c) scales beta by c", "[minimizers][property]") {
  RandomStream random(21, 0);
  const Dataset<> data = gaussian_data(random, 7, 25);
  const Vector<double> beta = minimize_hypentropy(data, Scale<>::from_log(-4)).beta;
  for (const double c : {1e-8, 1e8}) {
    const Scale<> scale = Scale<>::from_log(-4 + std::log(c) / 2);
    const Vector<double> scaled = minimize_hypentropy(Dataset(data.X(), Vector<double>(c * data.y())), scale).beta;
    CHECK((scaled / c - beta).norm() <= 1e-11 * beta.norm());
  }
}

TEST_CASE("a path visits scales in any order with the same results", "[minimizers]") {
  RandomStream random(22, 0);
  const Dataset<> data = gaussian_data(random, 10, 60);
  HypentropyPath<> path(data, Hypentropy<>::uniform(60, Scale<>::from_log(0)));
  for (const double log_alpha : {-300.0, 2.0, -5.0, -100.0, 15.0, -40.0, -40.0}) {
    const MinimizerResult<> result = path.solve(Scale<>::from_log(log_alpha));
    check_certified(result);
    const MinimizerResult<> fresh = minimize_hypentropy(data, Scale<>::from_log(log_alpha));
    CHECK((result.beta - fresh.beta).norm() <= 1e-10 * fresh.beta.norm());
  }
}

TEST_CASE("numbers of columns around the blocks in which the Hessian is assembled", "[minimizers]") {
  RandomStream random(88);
  for (const Index d : {255, 256, 257, 512}) {
    const Matrix<double> X = random_matrix(random, 3, d);
    const Vector<double> y = random_vector(random, 3);
    const MinimizerResult<> result = minimize_hypentropy(Dataset(X, y), Scale<>::from_log(1.0));
    CAPTURE(d, result.certificate.kkt_residual);
    REQUIRE(result.ok());
    CHECK((X * result.beta - y).norm() <= 1e-11 * y.norm());
    CHECK(result.certificate.kkt_residual <= 1e-10);
  }
}

TEST_CASE("redundant, square and overdetermined systems", "[minimizers]") {
  RandomStream random(31, 0);
  const Dataset<> data = gaussian_data(random, 6, 20);
  Matrix<double> X(8, 20);
  Vector<double> y(8);
  X << data.X(), 2 * data.X().row(1), data.X().row(0) - data.X().row(3);
  y << data.y(), 2 * data.y()[1], data.y()[0] - data.y()[3];
  for (const double log_alpha : {2.0, -3.0, -200.0}) {
    const Scale<> scale = Scale<>::from_log(log_alpha);
    const MinimizerResult<> redundant = minimize_hypentropy(Dataset(X, y), scale);
    check_certified(redundant);
    CHECK(redundant.nu.size() == 8);
    const Vector<double> beta = minimize_hypentropy(data, scale).beta;
    CHECK((redundant.beta - beta).norm() <= 1e-10 * beta.norm());

    // With rank d there is one interpolator, whatever alpha.
    const Matrix<double> tall = random_matrix(random, 9, 5);
    const Vector<double> truth = random_vector(random, 5);
    const MinimizerResult<> unique = minimize_hypentropy(Dataset(tall, Vector<double>(tall * truth)), scale);
    CHECK(unique.ok());
    CHECK((unique.beta - truth).norm() <= 1e-10 * truth.norm());
    const Matrix<double> square = random_matrix(random, 5, 5);
    const MinimizerResult<> exact = minimize_hypentropy(Dataset(square, Vector<double>(square * truth)), scale);
    CHECK(exact.ok());
    CHECK((exact.beta - truth).norm() <= 1e-9 * truth.norm());
  }
}

TEST_CASE("bad problems are refused by name", "[minimizers]") {
  RandomStream random(41, 0);
  const Dataset<> data = gaussian_data(random, 4, 10);
  const Scale<> scale = Scale<>::from_value(0.1);

  Matrix<double> X(5, 10);
  Vector<double> y(5);
  X << data.X(), data.X().row(0);
  y << data.y(), data.y()[0] + 1;
  CHECK_THROWS_MATCHES(minimize_hypentropy(Dataset(X, y), scale), InfeasibleError,
                       message_contains("no beta satisfies"));
  CHECK_THROWS_AS(
      minimize_hypentropy(Dataset(Matrix<double>(random_matrix(random, 9, 4)), random_vector(random, 9)), scale),
      InfeasibleError);
  CHECK_THROWS_AS(
      minimize_hypentropy(Dataset(Matrix<double>(Matrix<double>::Zero(2, 5)), random_vector(random, 2)), scale),
      InfeasibleError);
  CHECK_THROWS_AS(minimize_hypentropy(Dataset(data.X(), random_vector(random, 3)), scale), DimensionError);
  CHECK_THROWS_AS(minimize_hypentropy(data, random_positive_vector(random, 9, 1, 2), scale), DimensionError);
  Vector<double> w0 = Vector<double>::Ones(10);
  w0[3] = 0;
  CHECK_THROWS_MATCHES(minimize_hypentropy(data, w0, scale), ArgumentError, message_contains("w0(3)"));
  CHECK_THROWS_MATCHES(minimize_hypentropy(data, Scale<>::from_log(400)), ArgumentError, message_contains("400"));
  MinimizerOptions<> options;
  options.primal_tolerance = 0;
  CHECK_THROWS_MATCHES(HypentropyPath<>(data, Hypentropy<>::uniform(10, scale), options), ArgumentError,
                       message_contains("primal_tolerance"));
  CHECK_THROWS_AS(HypentropyPath<>(data, Hypentropy<>::uniform(9, scale)), DimensionError);
}

TEST_CASE("a tolerance that is not reached is reported", "[minimizers]") {
  RandomStream random(43, 0);
  const Dataset<> data = gaussian_data(random, 10, 40);
  const Scale<> scale = Scale<>::from_log(-9);
  MinimizerOptions<> hopeless;
  hopeless.primal_tolerance = 1e-25;
  HypentropyPath<> below_rounding(data, Hypentropy<>::uniform(40, scale), hopeless);
  const MinimizerResult<> stalled = below_rounding.solve(scale);
  CHECK(stalled.status == Status::stalled);
  CHECK_FALSE(stalled.ok());
  CHECK(stalled.certificate.primal_residual <= 1e-12);
  CHECK_THROWS_MATCHES(stalled.require_ok(), ConvergenceError, message_contains("primal residual"));

  MinimizerOptions<> impatient;
  impatient.max_factorizations = 1;
  HypentropyPath<> cut_short(data, Hypentropy<>::uniform(40, scale), impatient);
  CHECK(cut_short.solve(scale).status == Status::max_steps);
}

TEST_CASE("y = 0 has the zero minimizer, and a biased start is pulled back to it", "[minimizers]") {
  RandomStream random(44, 0);
  const Matrix<double> X = random_matrix(random, 4, 9);
  const Vector<double> zero = Vector<double>::Zero(4);
  for (const double log_alpha : {1.0, -300.0}) {
    const MinimizerResult<> result = minimize_hypentropy(Dataset(X, zero), Scale<>::from_log(log_alpha));
    CHECK(result.ok());
    CHECK(result.beta.isZero(0));
  }
  const Scale<> scale = Scale<>::from_value(0.5);
  const Vector<double> a = random_positive_vector(random, 9, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, 9, 0.5, 2.0);
  HypentropyPath<> path({X, zero}, Hypentropy<>::biased(a, b, scale));
  check_certified(path.solve(scale));
}

TEST_CASE("other precisions: float stops at its own rounding, long double goes further", "[minimizers]") {
  RandomStream random(45, 0);
  const Dataset<> data = gaussian_data(random, 6, 20);
  const Vector<double> beta = minimize_hypentropy(data, Scale<>::from_log(-5)).beta;
  const auto coarse = minimize_hypentropy(Dataset<float>(data.X().cast<float>(), data.y().cast<float>()),
                                          Scale<float>::from_log(-5.0F));
  CHECK(coarse.ok());
  // 4500 epsilon of float times the condition number of the problem.
  CHECK((coarse.beta.cast<double>() - beta).norm() <= 1e-2 * beta.norm());
  const auto fine =
      minimize_hypentropy(Dataset<long double>(data.X().cast<long double>(), data.y().cast<long double>()),
                          Scale<long double>::from_log(-5.0L));
  CHECK(fine.ok());
  CHECK(static_cast<double>(fine.certificate.primal_residual) <= 1e-15);
  CHECK((fine.beta.cast<double>() - beta).norm() <= 1e-11 * beta.norm());
}

TEST_CASE("limits at depth 3, 4 and 6 agree with the 25-digit table", "[minimizers][depth]") {
  const Dataset<> data = reference_data();
  const Vector<double> w0 = reference_matrix("limit_shape.csv", {"w0"});
  const ReferenceTable table = reference_table("limit_beta.csv");
  for (const Index depth : {3, 4, 6})
    for (const double log_alpha : {3.0, 0.0, -1.0, -3.0, -6.0, -10.0})
      for (const bool is_uniform : {true, false}) {
        const Scale<> scale = Scale<>::from_log(log_alpha);
        const Vector<double> expected = reference_limit(table, depth, log_alpha, is_uniform ? "uniform" : "shape");
        const MinimizerResult<> result =
            minimize_at_depth(data, is_uniform ? DepthHypentropy<>::uniform(depth, 9, scale)
                                               : DepthHypentropy<>::shaped(depth, w0, scale));
        CAPTURE(depth, log_alpha, is_uniform);
        check_certified(result);
        // A primal residual of 1e-12 times the condition number of this problem, below 10.
        CHECK((result.beta - expected).cwiseAbs().maxCoeff() <= 1e-11 * expected.cwiseAbs().maxCoeff());
      }
}

TEST_CASE("at any depth every scale is reached, certified, in few factorizations", "[minimizers][depth]") {
  SparseRegressionOptions options;
  options.num_samples = 40;
  options.num_inputs = 250;
  const Dataset<> noisy = sparse_regression(options).dataset;
  const Dataset<> clean = noise_free(40, 250, 4, 11);
  Index cases = 0, factorizations = 0;
  for (const Dataset<>* data : {&noisy, &clean})
    for (const Index depth : {3, 5, 10, 100})
      for (const double log_alpha_D : {13.8, 0.0, -3.0, -10.0, -30.0, -60.0, -200.0, -460.0}) {
        MirrorPath<DepthHypentropy<>> path(*data, DepthHypentropy<>::uniform(depth, 250, Scale<>::from_log(0)));
        const MinimizerResult<> result = path.solve(Scale<>::from_log(log_alpha_D / static_cast<double>(depth)));
        CAPTURE(depth, log_alpha_D, data == &clean);
        check_certified(result);
        // Without noise, at tiny alpha, roundings decide how far a jump goes: in 640 such problems the most is 32.
        CHECK(result.factorizations <= (data == &noisy ? 25 : 40));
        ++cases;
        factorizations += result.factorizations;
      }
  CHECK(factorizations <= 10 * cases);
}

TEST_CASE("random problems at depth D are certified for uniform, shaped and biased starts",
          "[minimizers][depth][property]") {
  for (std::uint64_t trial = 0; trial < 40; ++trial) {
    RandomStream random(17, trial);
    const Index n = 1 + static_cast<Index>(random.uniform_integer(12));
    const Index d = n + 1 + static_cast<Index>(random.uniform_integer(30));
    const Index depth = 3 + static_cast<Index>(random.uniform_integer(8));
    const Dataset<> data = gaussian_data(random, n, d);
    const Scale<> scale = Scale<>::from_log(random.uniform(-40.0, 6.0) / static_cast<double>(depth));
    const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
    const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
    for (const DepthHypentropy<>& Q :
         {DepthHypentropy<>::uniform(depth, d, scale), DepthHypentropy<>::shaped(depth, a, scale),
          DepthHypentropy<>::biased(depth, a, b, scale)}) {
      CAPTURE(trial, n, d, depth);
      const MinimizerResult<> result = minimize_at_depth(data, Q);
      check_certified(result);
      check_better_than_another(Q, data, result.beta, random);
    }
  }
}

TEST_CASE("a path at depth D visits scales in any order with the same results", "[minimizers][depth]") {
  RandomStream random(23, 0);
  const Dataset<> data = gaussian_data(random, 10, 60);
  MirrorPath<DepthHypentropy<>> path(data, DepthHypentropy<>::uniform(4, 60, Scale<>::from_log(0)));
  for (const double log_alpha_D : {-300.0, 2.0, -5.0, -100.0, 8.0, -40.0, -40.0}) {
    const Scale<> scale = Scale<>::from_log(log_alpha_D / 4);
    const MinimizerResult<> result = path.solve(scale);
    CAPTURE(log_alpha_D);
    check_certified(result);
    const MinimizerResult<> fresh = minimize_at_depth(data, DepthHypentropy<>::uniform(4, 60, scale));
    CHECK((result.beta - fresh.beta).norm() <= 1e-10 * fresh.beta.norm());
  }
}

TEST_CASE("at depth D the limit nears the weighted minimum l1 norm linearly in alpha^D", "[minimizers][depth]") {
  RandomStream random(24, 0);
  const Dataset<> data = gaussian_data(random, 8, 30);
  const Vector<double> w0 = random_positive_vector(random, 30, 0.8, 1.25);
  for (const Index depth : {3, 4, 6}) {
    const auto power = static_cast<double>(depth - 2);
    const Vector<double> weights = w0.array().pow(-power);
    const auto rich = min_l1_interpolator(data, weights).require_ok();
    std::vector<double> excess, distance;
    for (const double log_alpha_D : {-18.0, -20.0, -22.0}) {
      const Scale<> scale = Scale<>::from_log(log_alpha_D / static_cast<double>(depth));
      const Vector<double> beta =
          minimize_at_depth(data, DepthHypentropy<>::shaped(depth, w0, scale)).require_ok().beta;
      distance.push_back((beta - rich.beta).norm());
      excess.push_back(weights.dot(beta.cwiseAbs()) - rich.objective);
    }
    CAPTURE(depth, excess, distance);
    // Entries off the support are alpha^D h_D(z), z inside the bounds; the next order is alpha^(D-2) smaller.
    for (std::size_t k = 1; k < excess.size(); ++k) {
      CHECK_THAT(std::log(excess[k - 1] / excess[k]), near(2.0, 0.1, 0));
      CHECK_THAT(std::log(distance[k - 1] / distance[k]), near(2.0, 0.1, 0));
    }
    // In the squared net the same shape vanishes: the limit is the plain minimum l1 norm.
    const Vector<double> squared = minimize_hypentropy(data, w0, Scale<>::from_log(-20000)).beta;
    CHECK_THAT(squared.lpNorm<1>(), near(min_l1_interpolator(data).objective, 1e-3, 0));
  }
}

TEST_CASE("the biased limit at depth D is the Bregman projection of beta(0)", "[minimizers][depth]") {
  RandomStream random(25, 0);
  const Dataset<> data = gaussian_data(random, 5, 14);
  const Vector<double> a = random_positive_vector(random, 14, 0.7, 1.4);
  const Vector<double> b = random_positive_vector(random, 14, 0.7, 1.4);
  const Scale<> scale = Scale<>::from_value(0.6);
  for (const Index depth : {3, 4, 5}) {
    const auto D = static_cast<double>(depth);
    const Vector<double> beta =
        minimize_at_depth(data, DepthHypentropy<>::biased(depth, a, b, scale)).require_ok().beta;
    const Vector<double> w0 = ((a.array().pow(2 - D) + b.array().pow(2 - D)) / 2).pow(1 / (2 - D));
    const Vector<double> start = std::pow(0.6, D) * (a.array().pow(D) - b.array().pow(D));
    const auto unbiased = DepthHypentropy<>::shaped(depth, w0, scale);
    check_bregman_projection(unbiased, data, start, beta);
  }
}

TEST_CASE("a tolerance below what rounding leaves is given up soon", "[minimizers]") {
  // Terms of 500 cancel to 1: half a unit in the last place of z = 2 log(1/alpha) moves the residual by more than
  // 1e-12.
  const Dataset data(Matrix<double>{{-0.01, -0.01}, {-10, 10}}, Vector<double>{{1, 1}});
  for (const double log_alpha : {-20.0, -30.0, -100.0}) {
    MirrorPath<Hypentropy<>> path(data, Hypentropy<>::uniform(2, Scale<>::from_log(0)));
    const auto result = path.solve(Scale<>::from_log(log_alpha));
    CAPTURE(log_alpha, result.message);
    CHECK((result.ok() || result.status == Status::stalled));
    // It was 5000 and as many factorizations as are allowed.
    CHECK(result.newton_steps < 100);
    CHECK(result.beta[0] == Approx(-50.05).epsilon(1e-11));
  }
}
