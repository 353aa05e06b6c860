#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <vector>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/statistics.hpp"

using namespace richflow;
using namespace test_support;

namespace {

constexpr int draws = 2000;

/// `sqrt(nm / (n + m)) sup |F - G|` of two samples; beyond t with probability about 2 exp(-2 t^2).
double two_sample_kolmogorov_smirnov(std::vector<double> a, std::vector<double> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  const auto n = static_cast<double>(a.size());
  const auto m = static_cast<double>(b.size());
  double distance = 0.0;
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    (a[i] < b[j] ? i : j) += 1;
    distance = std::max(distance, std::abs(static_cast<double>(i) / n - static_cast<double>(j) / m));
  }
  return std::sqrt(n * m / (n + m)) * distance;
}

}  // namespace

TEST_CASE("a Wishart factor is lower trapezoidal with a positive diagonal") {
  RandomStream random(1);
  for (const auto& [size, degrees] : {std::pair<Index, Index>{1, 1}, {5, 2}, {5, 5}, {5, 40}}) {
    const Matrix<double> L = wishart_factor(random, size, degrees);
    CAPTURE(size, degrees);
    REQUIRE(L.rows() == size);
    REQUIRE(L.cols() == std::min(size, degrees));
    for (Index j = 0; j < L.cols(); ++j) {
      CHECK(L(j, j) > 0.0);
      CHECK((L.col(j).head(j).array() == 0.0).all());
    }
  }
}

TEST_CASE("every quadratic form of a Wishart matrix is chi-square, and its top eigenvalue that of a drawn one") {
  RandomStream random(2);
  const Index size = 6;
  for (const Index degrees : {Index{1}, Index{4}, Index{6}, Index{30}}) {
    CAPTURE(degrees);
    // Directions that mix all rows; the first and last alone are in the span of few entries.
    std::vector<Vector<double>> directions = {Vector<double>::Unit(size, 0), Vector<double>::Unit(size, size - 1),
                                              Vector<double>::Ones(size), random_vector(random, size)};
    std::vector<std::vector<double>> forms(directions.size());
    std::vector<double> top, top_drawn, trace_square, trace_square_drawn;
    const auto largest = [](const Matrix<double>& W) {
      return Eigen::SelfAdjointEigenSolver<Matrix<double>>(W).eigenvalues().tail(1)(0);
    };
    for (int n = 0; n < draws; ++n) {
      const Matrix<double> L = wishart_factor(random, size, degrees);
      for (std::size_t k = 0; k < directions.size(); ++k)
        forms[k].push_back((L.transpose() * directions[k]).squaredNorm() / directions[k].squaredNorm());
      const Matrix<double> W = L * L.transpose();
      top.push_back(largest(W));
      trace_square.push_back(W.squaredNorm());
      const Matrix<double> G = random_matrix(random, size, degrees);
      top_drawn.push_back(largest(G * G.transpose()));
      trace_square_drawn.push_back((G * G.transpose()).squaredNorm());
    }
    const auto chi_square = [&](double x) { return gamma_cdf(0.5 * static_cast<double>(degrees), 0.5 * x); };
    for (const auto& form : forms) CHECK(kolmogorov_smirnov(form, chi_square) < 3.0);  // false alarm 3e-8 each
    CHECK(two_sample_kolmogorov_smirnov(top, top_drawn) < 3.0);
    CHECK(two_sample_kolmogorov_smirnov(trace_square, trace_square_drawn) < 3.0);
  }
}

TEST_CASE("a thousand million degrees of freedom are as good as four") {
  RandomStream random(3);
  const Index degrees = 1'000'000'000;
  const Matrix<double> L = wishart_factor(random, 20, degrees);
  // W / k is I with entries off by about 1 / sqrt(k) = 3e-5, sqrt(2) times that on the diagonal; 6 of these.
  const Matrix<double> W = L * L.transpose() / static_cast<double>(degrees);
  CHECK((W - Matrix<double>::Identity(20, 20)).cwiseAbs().maxCoeff() < 6.0 * std::sqrt(2e-9));
  CHECK((W - Matrix<double>::Identity(20, 20)).cwiseAbs().maxCoeff() > 1e-5);
  CHECK_THROWS_AS(wishart_factor(random, 0, 3), DimensionError);
  CHECK_THROWS_MATCHES(wishart_factor(random, 3, 0), DimensionError, message_contains("degrees > 0"));
}
