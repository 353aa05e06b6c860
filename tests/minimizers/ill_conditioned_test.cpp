// Data whose rows are nearly dependent, against solutions of 50 digits. Needs Boost.Multiprecision, a test tool only.
#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)

#include <algorithm>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/models/diagonal.hpp"
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

/// X^T (X X^T)^-1 y by elimination in 50 digits.
Vector<double> wide_least_norm(const Matrix<double>& X, const Vector<double>& y) {
  const auto n = static_cast<std::size_t>(X.rows());
  FiftyDigitMatrix A(n, std::vector<FiftyDigits>(n + 1, FiftyDigits(0)));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < n; ++k)
      for (Index j = 0; j < X.cols(); ++j)
        A[i][k] += FiftyDigits(X(static_cast<Index>(i), j)) * FiftyDigits(X(static_cast<Index>(k), j));
    A[i][n] = FiftyDigits(y[static_cast<Index>(i)]);
  }
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
  Vector<double> beta(X.cols());
  for (Index j = 0; j < X.cols(); ++j) {
    FiftyDigits entry = 0;
    for (std::size_t i = 0; i < n; ++i) entry += FiftyDigits(X(static_cast<Index>(i), j)) * A[i][n] / A[i][i];
    beta[j] = static_cast<double>(entry);
  }
  return beta;
}

/// The rounding of |X beta - y| / |y| where beta is the nearest vector of doubles.
double rounding_of(const Matrix<double>& X, const Vector<double>& y, const Vector<double>& beta) {
  return std::numeric_limits<double>::epsilon() * (X.cwiseAbs() * beta.cwiseAbs()).norm() / y.norm();
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
      const double epsilon = std::numeric_limits<double>::epsilon();
      const auto d = static_cast<double>(beta.size() + 1);
      CHECK(std::abs(r[n] - static_cast<double>(exact)) <=
            epsilon * std::abs(static_cast<double>(exact)) + d * d * epsilon * epsilon * terms);
    }
  }
}

TEST_CASE("minimizers over ill-conditioned data: a certificate below 1e-10, or a status that says how far") {
  int proved = 0;
  int stalled = 0;
  for (const IllConditioned& data : ill_conditioned_data())
    for (const bool are_consistent : {true, false}) {
      const Dataset<> problem(data.X, labels_of(data.X, are_consistent, 11));
      for (const int depth : {2, 3})
        for (const double log_alpha : {-40.0, -7.0, 0.0, 7.0}) {
          CAPTURE(data.name, are_consistent, depth, log_alpha);
          const DiagonalNet<double> net(depth, data.X.cols());
          const auto limit = solve(net, problem, Start<>::uniform(Scale<>::from_log(log_alpha)));
          CAPTURE(limit.message);
          REQUIRE(limit.beta.allFinite());
          REQUIRE(limit.nu.allFinite());
          // The certificate tells the truth of the residual, to the digits of a rounding of beta's own.
          const double residual = wide_residual(data.X, problem.y(), limit.beta);
          CHECK(std::abs(limit.certificate.primal_residual - residual) <=
                1e-3 * residual + rounding_of(data.X, problem.y(), limit.beta) * 1e-3 + 1e-15);
          CHECK(std::isfinite(limit.certificate.duality_gap));
          if (limit.ok()) {
            ++proved;
            CHECK(residual <= 1e-10);
            CHECK(limit.certificate.kkt_residual <= 1e-10);
            CHECK(std::abs(limit.certificate.duality_gap) <= 1e-10);
          } else {
            ++stalled;
            CHECK(limit.status == Status::stalled);
            // Labels of which no vector of doubles is a sum, or the rich end, where beta climbs by factors.
            CHECK((!are_consistent || log_alpha < 0.0));
            CHECK(limit.message.find("relative duality gap") != std::string::npos);
          }
        }
    }
  CAPTURE(proved, stalled);
  CHECK(proved >= 70);
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

TEST_CASE("minimum l1 over ill-conditioned data: interpolates with a feasible dual, or says how far it is") {
  for (const IllConditioned& data : ill_conditioned_data())
    for (const bool are_consistent : {true, false}) {
      CAPTURE(data.name, are_consistent);
      const Vector<double> y = labels_of(data.X, are_consistent, 13);
      const auto best = min_l1_interpolator(Dataset<>(data.X, y));
      CAPTURE(best.message);
      REQUIRE(best.beta.allFinite());
      REQUIRE(best.nu.allFinite());
      CHECK(std::isfinite(best.duality_gap));
      const double residual = wide_residual(data.X, y, best.beta);
      if (best.ok()) CHECK(residual <= 1e-10);
      if (!best.ok()) CHECK(best.message.find("relative duality gap") != std::string::npos);
    }
}

#endif
