// Data whose rows are nearly dependent, against solutions of 50 digits. Needs Boost.Multiprecision, a test tool only.
#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)

#include <Eigen/SVD>
#include <algorithm>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/text.hpp"
#include "richflow/limits/max_margin.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/lasso_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using FiftyDigits =
    boost::multiprecision::number<boost::multiprecision::cpp_bin_float<50>, boost::multiprecision::et_off>;
using FiftyDigitMatrix = std::vector<std::vector<FiftyDigits>>;

struct IllConditioned {
  std::string name;
  Matrix<double> X;
};

Matrix<double> vandermonde(Index num_samples, Index d, double from, double to) {
  Matrix<double> X(num_samples, d);
  for (Index n = 0; n < num_samples; ++n) {
    const double t = from + (to - from) * static_cast<double>(n) / static_cast<double>(num_samples - 1);
    for (Index j = 0; j < d; ++j) X(n, j) = std::pow(t, static_cast<double>(j));
  }
  return X;
}

Matrix<double> hilbert(Index num_samples, Index d) {
  Matrix<double> X(num_samples, d);
  for (Index n = 0; n < num_samples; ++n)
    for (Index j = 0; j < d; ++j) X(n, j) = 1.0 / static_cast<double>(n + j + 1);
  return X;
}

/// Gaussian columns, from 10^-8 to 10^8 of their size.
Matrix<double> decades(Index num_samples, Index d, std::uint64_t seed) {
  RandomStream random(seed);
  Matrix<double> X = random_matrix(random, num_samples, d);
  for (Index j = 0; j < d; ++j)
    X.col(j) *= std::pow(10.0, -8.0 + 16.0 * static_cast<double>(j) / static_cast<double>(d - 1));
  return X;
}

std::vector<IllConditioned> ill_conditioned_data() {
  return {{"Vandermonde on [0.1, 1]", vandermonde(8, 24, 0.1, 1.0)},
          {"Vandermonde on [-1, 1]", vandermonde(12, 30, -1.0, 1.0)},
          {"Vandermonde on [1, 10]", vandermonde(6, 12, 1.0, 10.0)},
          {"Hilbert 8 x 16", hilbert(8, 16)},
          {"Hilbert 8 x 8", hilbert(8, 8)},
          {"16 decades", decades(6, 16, 3)}};
}

/// Rows of a random kind, with a condition of up to 10^13: at times on the way to none, at times of no trouble.
IllConditioned random_rows(RandomStream& random) {
  const auto N = static_cast<Index>(2 + random.uniform_integer(7));
  const Index d = N + static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(N + 3)));
  const double decades = random.uniform(2.0, 13.0);
  Matrix<double> X = random_matrix(random, N, d);
  const auto share = [](Index i, Index count) {
    return count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0.0;
  };
  switch (random.uniform_integer(5)) {
    case 0:
      X.row(N - 1) = X.row(0) + std::pow(10.0, -decades) * X.row(N - 1);
      return {"two rows are nearly equal", X};
    case 1:
      X.row(N - 1) = X.topRows(N - 1).colwise().sum() + std::pow(10.0, -decades) * X.row(N - 1);
      return {"a row is nearly the sum of the others", X};
    case 2:
      for (Index n = 0; n < N; ++n) X.row(n) *= std::pow(10.0, decades * share(n, N));
      return {"rows in units that differ", X};
    case 3:
      for (Index j = 0; j < d; ++j) X.col(j) *= std::pow(10.0, decades * share(j, d));
      return {"columns in units that differ", X};
    default: {
      const Eigen::JacobiSVD<Matrix<double>> svd(X, Eigen::ComputeThinU | Eigen::ComputeThinV);
      Vector<double> sigma(N);
      for (Index k = 0; k < N; ++k) sigma[k] = std::pow(10.0, -decades * share(k, N));
      return {"singular values over decades", svd.matrixU() * sigma.asDiagonal() * svd.matrixV().transpose()};
    }
  }
}

Vector<double> labels_of(const Matrix<double>& X, bool are_consistent, std::uint64_t seed) {
  RandomStream random(seed);
  if (!are_consistent) return random_vector(random, X.rows());
  return X * random_vector(random, X.cols()) / 8.0;
}

/// |X beta - y| / |y| in 50 digits.
double wide_residual(const Matrix<double>& X, const Vector<double>& y, const Vector<double>& beta) {
  FiftyDigits sum = 0;
  for (Index n = 0; n < X.rows(); ++n) {
    FiftyDigits r = -FiftyDigits(y[n]);
    for (Index j = 0; j < X.cols(); ++j) r += FiftyDigits(X(n, j)) * FiftyDigits(beta[j]);
    sum += r * r;
  }
  return static_cast<double>(sqrt(sum)) / y.norm();
}

using FiftyDigitVector = std::vector<FiftyDigits>;

/// The solution of a square system by elimination in 50 digits; the right-hand side is the last column.
FiftyDigitVector wide_solution(FiftyDigitMatrix A) {
  const std::size_t n = A.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (abs(A[i][k]) > abs(A[pivot][k])) pivot = i;
    std::swap(A[k], A[pivot]);
    for (std::size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const FiftyDigits factor = A[i][k] / A[k][k];
      for (std::size_t c = k; c <= n; ++c) A[i][c] -= factor * A[k][c];
    }
  }
  FiftyDigitVector solution(n);
  for (std::size_t i = 0; i < n; ++i) solution[i] = A[i][n] / A[i][i];
  return solution;
}

/// X (X^T X)^-1 v in 50 digits: the shortest vector whose products with the columns of X are v.
FiftyDigitVector wide_shortest(const Matrix<double>& X, const FiftyDigitVector& v) {
  const auto k = static_cast<std::size_t>(X.cols());
  FiftyDigitMatrix A(k, FiftyDigitVector(k + 1, FiftyDigits(0)));
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = 0; j < k; ++j)
      for (Index n = 0; n < X.rows(); ++n)
        A[i][j] += FiftyDigits(X(n, static_cast<Index>(i))) * FiftyDigits(X(n, static_cast<Index>(j)));
    A[i][k] = v[i];
  }
  const FiftyDigitVector coefficients = wide_solution(std::move(A));
  FiftyDigitVector shortest(static_cast<std::size_t>(X.rows()), FiftyDigits(0));
  for (std::size_t n = 0; n < shortest.size(); ++n)
    for (std::size_t i = 0; i < k; ++i)
      shortest[n] += FiftyDigits(X(static_cast<Index>(n), static_cast<Index>(i))) * coefficients[i];
  return shortest;
}

/// X^T (X X^T)^-1 y.
Vector<double> wide_least_norm(const Matrix<double>& X, const Vector<double>& y) {
  const FiftyDigitVector exact = wide_shortest(X.transpose(), FiftyDigitVector(y.begin(), y.end()));
  Vector<double> beta(X.cols());
  for (Index j = 0; j < beta.size(); ++j) beta[j] = static_cast<double>(exact[static_cast<std::size_t>(j)]);
  return beta;
}

constexpr double epsilon = std::numeric_limits<double>::epsilon();

/// The rounding of |X beta - y| / |y| where beta is the nearest vector of doubles.
double rounding_of(const Matrix<double>& X, const Vector<double>& y, const Vector<double>& beta) {
  return epsilon * (X.cwiseAbs() * beta.cwiseAbs()).norm() / y.norm();
}

/// <a, b> in 50 digits.
FiftyDigits wide_product(const Vector<double>& a, const Vector<double>& b) {
  FiftyDigits sum = 0;
  for (Index n = 0; n < a.size(); ++n) sum += FiftyDigits(a[n]) * FiftyDigits(b[n]);
  return sum;
}

FiftyDigits wide_l1(const Vector<double>& beta) {
  FiftyDigits sum = 0;
  for (const double b : beta) sum += abs(FiftyDigits(b));
  return sum;
}

/// max_j |x_j^T nu| - 1 in 50 digits, x_j the columns.
double wide_excess(const Matrix<double>& X, const Vector<double>& nu) {
  FiftyDigits most = 0;
  for (Index j = 0; j < X.cols(); ++j) {
    const FiftyDigits price = abs(wide_product(X.col(j), nu));
    if (price > most) most = price;
  }
  return static_cast<double>(most - 1);
}

/// What the rounding of nu alone may be in its prices X^T nu.
double rounding_of_prices(const Matrix<double>& X, const Vector<double>& nu) {
  return epsilon * (X.cwiseAbs().transpose() * nu.cwiseAbs()).maxCoeff();
}

/// Data on which the vertices of least l1 norm have multipliers as large as 1e14.
std::vector<IllConditioned> data_with_large_multipliers() {
  std::vector<IllConditioned> all = ill_conditioned_data();
  all.push_back({"Hilbert 12 x 24", hilbert(12, 24)});
  all.push_back({"Vandermonde on [1, 10], 8 x 16", vandermonde(8, 16, 1.0, 10.0)});
  return all;
}

/// A sparse truth, one that is not, or labels of no truth.
Vector<double> labels_of_kind(const Matrix<double>& X, int kind) {
  if (kind == 2) return X.col(2) - 2.0 * X.col(5);
  return labels_of(X, kind == 1, 13);
}

/// Whether there are multipliers of 50 digits, near these or not, that prove beta to be of least l1 norm within 1e-10:
/// whatever they are found by, weak duality makes them a proof.
bool is_least_l1(const Matrix<double>& X, const Vector<double>& y, const Vector<double>& beta,
                 const Vector<double>& nu) {
  const FiftyDigits norm = wide_l1(beta);
  for (const bool is_from_nothing : {false, true}) {
    FiftyDigitVector v(nu.begin(), nu.end());
    if (is_from_nothing) std::fill(v.begin(), v.end(), FiftyDigits(0));
    for (int pass = 0; pass < 20; ++pass) {
      FiftyDigits excess = 0, value = 0;
      for (Index n = 0; n < y.size(); ++n) value += FiftyDigits(y[n]) * v[static_cast<std::size_t>(n)];
      std::vector<Index> aimed;
      FiftyDigitVector lack;
      for (Index j = 0; j < X.cols(); ++j) {
        FiftyDigits price = 0;
        for (Index n = 0; n < y.size(); ++n) price += FiftyDigits(X(n, j)) * v[static_cast<std::size_t>(n)];
        if (abs(price) - 1 > excess) excess = abs(price) - 1;
        const bool is_nonzero = beta[j] != 0.0;
        if ((!is_nonzero && abs(price) <= 1) || static_cast<Index>(aimed.size()) == y.size()) continue;
        aimed.push_back(j);
        lack.push_back((is_nonzero ? beta[j] < 0.0 : price < 0) ? -1 - price : 1 - price);
      }
      if (excess <= 1e-10 && abs(norm - value) <= 1e-10 * norm) return true;
      Matrix<double> columns(X.rows(), static_cast<Index>(aimed.size()));
      for (Index k = 0; k < columns.cols(); ++k) columns.col(k) = X.col(aimed[static_cast<std::size_t>(k)]);
      const FiftyDigitVector change = wide_shortest(columns, lack);
      for (std::size_t n = 0; n < v.size(); ++n) v[n] += change[n];
    }
  }
  return false;
}

bool says_number(const std::string& message, double number) {
  return message.find(detail::concat("relative duality gap ", number)) != std::string::npos;
}

bool says_residual(const std::string& message, double number) {
  return message.find(detail::concat("residual ", number)) != std::string::npos;
}

}  // namespace

TEST_CASE("a compensated residual is that of 50 digits, rounded") {
  RandomStream random(41);
  for (const IllConditioned& data : ill_conditioned_data()) {
    INFO(data.name);
    const Vector<double> beta = random_vector(random, data.X.cols());
    // What plain sums leave: nothing of the true residual but its size is right.
    const Vector<double> y = data.X * beta;
    Vector<double> r;
    detail::compensated_residual(data.X, beta, y, r);
    for (Index n = 0; n < y.size(); ++n) {
      FiftyDigits exact = FiftyDigits(y[n]);
      double terms = std::abs(y[n]);
      for (Index j = 0; j < beta.size(); ++j) {
        exact -= FiftyDigits(data.X(n, j)) * FiftyDigits(beta[j]);
        terms += std::abs(data.X(n, j) * beta[j]);
      }
      // Twice the precision: d^2 epsilon^2 of the terms, and a rounding of the result (Ogita, Rump and Oishi 2005).
      const auto d = static_cast<double>(beta.size() + 1);
      CHECK(std::abs(r[n] - static_cast<double>(exact)) <=
            epsilon * std::abs(static_cast<double>(exact)) + d * d * epsilon * epsilon * terms);
    }
  }
}

TEST_CASE("minimizers over ill-conditioned data: a certificate below 1e-10, or a status that says how far") {
  for (const IllConditioned& data : ill_conditioned_data())
    for (const bool are_consistent : {true, false}) {
      const Dataset<> problem(data.X, labels_of(data.X, are_consistent, 11));
      for (const int depth : {2, 3})
        for (const double log_alpha : {-40.0, -7.0, 0.0, 7.0}) {
          CAPTURE(data.name, are_consistent, depth, log_alpha);
          const DiagonalNet<double> net(depth, data.X.cols());
          const auto start = Start<>::uniform(Scale<>::from_log(log_alpha));
          const auto limit = solve(net, problem, start);
          CAPTURE(limit.message);
          REQUIRE(limit.beta.allFinite());
          REQUIRE(limit.nu.allFinite());
          const double residual = wide_residual(data.X, problem.y(), limit.beta);
          // What plain sums of d + 1 terms may be off by; sums in twice the precision are taken where one rounding is
          // more than a tenth of the tolerance, and are off by (d + 1)^2 epsilon roundings (Ogita, Rump and Oishi
          // 2005). The norms and their ratio round by a few parts of the result.
          const double rounding = epsilon + rounding_of(data.X, problem.y(), limit.beta);
          const auto terms = static_cast<double>(data.X.cols() + 1);
          const double off = rounding > 0.1 * detail::interpolation_tolerance<double> ? terms * terms * epsilon : terms;
          CHECK(std::abs(limit.certificate.primal_residual - residual) <= off * rounding + 16 * epsilon * residual);
          CHECK(std::isfinite(limit.certificate.duality_gap));
          if (limit.ok()) {
            CHECK(residual <= 1e-10);
            CHECK(limit.certificate.kkt_residual <= 1e-10);
            CHECK(std::abs(limit.certificate.duality_gap) <= 1e-10);
          } else {
            CHECK(limit.status == Status::stalled);
            // Only where digits are at their end: a rounding of beta, or of the terms of z = X^T nu, which moves beta
            // by its slope there, is more than the tolerance of the residual, or a rounding of a prediction, times nu,
            // more than that of the gap.
            Vector<double> z = data.X.transpose() * limit.nu, there(z.size()), slope(z.size());
            regularizer(net, start).mirror(z, there, slope);
            const Vector<double> moved =
                slope.cwiseProduct(data.X.cwiseAbs().transpose() * limit.nu.cwiseAbs()) + limit.beta.cwiseAbs();
            const double least = rounding_of(data.X, problem.y(), moved);
            CHECK(least > detail::interpolation_tolerance<double>);
            CHECK(says_number(limit.message, limit.certificate.duality_gap));
          }
        }
    }
}

TEST_CASE("the kernel limit of ill-conditioned data is the least-norm interpolator of 50 digits") {
  for (const IllConditioned& data : ill_conditioned_data()) {
    INFO(data.name);
    const Vector<double> y = labels_of(data.X, true, 12);
    const Vector<double> least = wide_least_norm(data.X, y);
    const auto limit =
        solve(DiagonalNet<double>(2, data.X.cols()), Dataset<>(data.X, y), Start<>::uniform(Scale<>::from_log(14.0)));
    REQUIRE(limit.ok());
    // The distance to the kernel limit is of the order |beta|^2 / alpha^4 = e^-56; a gap of 1e-10 is a distance of
    // 1e-5 in the norm of Q, which is that of beta here.
    CHECK((limit.beta - least).norm() <= 1e-5 * least.norm());
    const auto shortest = min_l2_interpolator(Dataset<>(data.X, y));
    CHECK(wide_residual(data.X, y, shortest) <= 1e-12);
  }
}

TEST_CASE("minimum l1 over ill-conditioned data: proved by multipliers of 50 digits, or a status that says how far") {
  for (const IllConditioned& data : data_with_large_multipliers())
    for (const int kind : {0, 1, 2})
      for (const MinL1Road road : {MinL1Road::homotopy, MinL1Road::simplex}) {
        const Vector<double> y = labels_of_kind(data.X, kind);
        const auto best = min_l1_interpolator(Dataset<>(data.X, y), road);
        CAPTURE(data.name, kind, best.message);
        REQUIRE(best.beta.allFinite());
        REQUIRE(best.nu.allFinite());
        const double residual = wide_residual(data.X, y, best.beta);
        if (best.ok()) {
          CHECK(residual <= 1e-10);
          CHECK(std::abs(best.duality_gap) <= 1e-10);
          CHECK(is_least_l1(data.X, y, best.beta, best.nu));
        } else {
          CHECK(best.status == Status::stalled);
          CHECK(says_number(best.message, best.duality_gap));
          // Either nu is feasible, and the gap is that of 50 digits: the norm is a sum of d roundings at most, the
          // value of nu one in twice the precision. Or it is the part of a proof, and what is left is the residual.
          if (wide_excess(data.X, best.nu) <= detail::interpolation_tolerance<double>) {
            const FiftyDigits norm = wide_l1(best.beta);
            const auto gap = static_cast<double>((norm - wide_product(y, best.nu)) / norm);
            const auto d = static_cast<double>(data.X.cols());
            const double terms = y.cwiseAbs().dot(best.nu.cwiseAbs()) / static_cast<double>(norm);
            CHECK(std::abs(best.duality_gap - gap) <= epsilon * (d + 4 + d * d * epsilon * terms));
          } else {
            CHECK(best.primal_residual > detail::interpolation_tolerance<double>);
            CHECK(is_least_l1(data.X, y, best.beta, best.nu));
          }
          // Only where a rounding of nu is more than the tolerance of the gap, or one of beta more than a tenth of that
          // of the residual, which N and more of them add up to.
          CHECK((rounding_of_prices(data.X, best.nu) > detail::interpolation_tolerance<double> ||
                 rounding_of(data.X, y, best.beta) > 0.1 * detail::interpolation_tolerance<double>));
        }
      }
}

TEST_CASE("the lasso path over ill-conditioned data: its certificate is that of 50 digits, and below 1e-10 where ok") {
  for (const IllConditioned& data : data_with_large_multipliers())
    for (const int kind : {0, 1, 2}) {
      const Vector<double> y = labels_of_kind(data.X, kind);
      const auto path = lasso_path(Dataset<>(data.X, y));
      CAPTURE(data.name, kind, path.message);
      REQUIRE(path.beta.allFinite());
      REQUIRE(path.nu.allFinite());
      const double excess = std::max(0.0, wide_excess(data.X, path.nu));
      // For beta's own prediction: sum_j (|beta_j| - beta_j x_j^T nu / (1 + excess)).
      const FiftyDigits norm = wide_l1(path.beta);
      FiftyDigits value = 0;
      for (Index j = 0; j < data.X.cols(); ++j)
        value += FiftyDigits(path.beta[j]) * wide_product(data.X.col(j), path.nu);
      const auto gap = static_cast<double>((norm - value / (1 + FiftyDigits(excess))) / norm);
      const auto d = static_cast<double>(data.X.cols());
      // Plain sums of N terms where a rounding of a price is below a tenth of the tolerance.
      const double off = 0.1 * detail::interpolation_tolerance<double> * static_cast<double>(y.size() + 1);
      CHECK(std::abs(path.certificate.dual_excess - excess) <= off + 8 * epsilon * (1 + excess));
      CHECK(std::abs(path.certificate.duality_gap - gap) <= 2 * off + 4 * (d + 4) * epsilon);
      if (path.ok()) {
        CHECK(excess <= 1e-10);
        CHECK(std::abs(gap) <= 1e-10);
      } else {
        CHECK(path.status == Status::stalled);
        CHECK(says_number(path.message, path.certificate.duality_gap));
      }
    }
}

TEST_CASE("rows of random kinds and conditions: a certificate below 1e-10, or a status or an error, never silence") {
  RandomStream random(40);
  Index solved = 0, proved = 0, followed = 0, shortest = 0;
  constexpr Index num_draws = 150;
  for (Index draw = 0; draw < num_draws; ++draw) {
    const IllConditioned data = random_rows(random);
    const Vector<double> b = random_vector(random, data.X.cols());
    const Dataset<> problem(data.X, data.X * b);
    const int depth = draw % 2 == 0 ? 2 : 3;
    const auto start = Start<>::uniform(Scale<>::from_log(random.uniform(-20.0, 2.0)));
    CAPTURE(draw, data.name, data.X, depth);
    const auto residual_of = [&](const Vector<double>& beta) { return wide_residual(data.X, problem.y(), beta); };
    const auto limit = solve(DiagonalNet<double>(depth, data.X.cols()), problem, start);
    CAPTURE(limit.message);
    if (limit.ok()) {
      CHECK(residual_of(limit.beta) <= 1e-10);
      CHECK(std::abs(limit.certificate.duality_gap) <= 1e-10);
      ++solved;
    } else {
      CHECK(says_residual(limit.message, limit.certificate.primal_residual));
    }
    const auto best = min_l1_interpolator(problem);
    CAPTURE(best.message);
    if (best.ok()) {
      CHECK(residual_of(best.beta) <= 1e-10);
      CHECK(std::abs(best.duality_gap) <= 1e-10);
      CHECK(is_least_l1(data.X, problem.y(), best.beta, best.nu));
      ++proved;
    } else {
      CHECK(says_number(best.message, best.duality_gap));
    }
    const auto path = lasso_path(problem);
    CAPTURE(path.message);
    if (path.ok()) {
      CHECK(residual_of(path.beta) <= 1e-10);
      CHECK(is_least_l1(data.X, problem.y(), path.beta, path.nu));
      ++followed;
    } else {
      CHECK(says_residual(path.message, path.certificate.primal_residual));
    }
    try {
      CHECK(residual_of(min_l2_interpolator(problem)) <= std::sqrt(epsilon));
      ++shortest;
    } catch (const ConvergenceError& error) {
      CHECK(std::string(error.what()).find("X beta - y has norm") != std::string::npos);
    }
  }
  // y is rounded, so that rows which differ by less than its rounding have no solution to 1e-10; the others do.
  CAPTURE(solved, proved, followed, shortest);
  CHECK(std::min({solved, proved, followed, shortest}) > num_draws / 2);
}

TEST_CASE("margins over ill-conditioned data: 1 within 1e-10 and a gap below it, or a status that says how far") {
  RandomStream random(17);
  for (const IllConditioned& data : data_with_large_multipliers())
    for (const bool are_random : {true, false}) {
      Vector<double> y = are_random ? random_vector(random, data.X.rows())
                                    : Vector<double>(data.X * random_vector(random, data.X.cols()));
      y = y.unaryExpr([](double v) { return v < 0 ? -1.0 : 1.0; });
      const Dataset<> problem(data.X, y);
      const auto rich = Hypentropy<>::uniform(data.X.cols(), Scale<>::from_log(-20));
      for (const auto& best : {max_margin_l2(problem), max_margin_l1(problem), max_margin(rich, problem)}) {
        CAPTURE(data.name, are_random, best.message);
        REQUIRE(best.is_separable);
        REQUIRE(best.beta.allFinite());
        double least = std::numeric_limits<double>::infinity();
        for (Index n = 0; n < y.size(); ++n)
          least = std::min(least, y[n] * static_cast<double>(wide_product(data.X.row(n), best.beta)));
        // Plain sums where a rounding is below a hundredth of 1e-10, or else in twice the precision.
        CHECK(std::abs(best.margin - least) <= 1e-12 * static_cast<double>(data.X.cols() + 1));
        if (best.ok()) {
          CHECK(least >= 1 - 1e-10);
          CHECK(std::abs(best.gap) <= 1e-10);
        } else {
          CHECK(best.message.find("least margin") != std::string::npos);
        }
      }
    }
}

TEST_CASE("nuclear norms over ill-conditioned measurements: the gap that is asked for, or a status that says how far") {
  for (const IllConditioned& data : data_with_large_multipliers())
    for (const bool are_diagonal : {true, false}) {
      const Vector<double> y = labels_of_kind(data.X, 1);
      const Index d = data.X.cols();
      const auto measurements = are_diagonal ? MatrixMeasurements<double>::diagonal(d, d, data.X)
                                             : MatrixMeasurements<double>::dense(1, d, data.X);
      const auto best = min_nuclear_norm_interpolator(Dataset<>(measurements, y));
      CAPTURE(data.name, are_diagonal, best.message);
      REQUIRE(best.matrix.allFinite());
      REQUIRE(best.nu.allFinite());
      const Vector<double> m =
          are_diagonal ? Vector<double>(best.matrix.diagonal()) : Vector<double>(best.matrix.transpose());
      const FiftyDigits norm = are_diagonal ? wide_l1(m) : FiftyDigits(sqrt(wide_product(m, m)));
      FiftyDigits dual_norm = 0;
      for (Index j = 0; j < d; ++j) {
        const FiftyDigits price = wide_product(data.X.col(j), best.nu);
        dual_norm = are_diagonal ? std::max<FiftyDigits>(dual_norm, abs(price)) : dual_norm + price * price;
      }
      if (!are_diagonal) dual_norm = sqrt(dual_norm);
      const FiftyDigits value = wide_product(y, best.nu) / std::max<FiftyDigits>(dual_norm, 1);
      const auto gap = static_cast<double>((norm - value) / norm);
      // Plain sums of prices where N roundings of one are below a tenth of 1e-12 each, and singular values to some
      // roundings of the largest.
      const double off = 1e-13 * static_cast<double>(data.X.rows() * d) + 64 * static_cast<double>(d) * epsilon;
      CHECK(std::abs(best.duality_gap - gap) <= off);
      if (best.ok())
        CHECK(std::abs(gap) <= 1e-7 + off);
      else
        CHECK(says_number(best.message, best.duality_gap));
    }
}

#endif
