#include "richflow/minimizers/lasso_path.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/limits/saddle_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// `argmin |X beta - y|^2 / 2 + lambda |beta|_1` by coordinate descent, written plainly, until nothing moves any more.
Vector<double> lasso_by_coordinate_descent(const Dataset<>& data, double lambda, Vector<double> beta) {
  Vector<double> residual = data.y() - data.X() * beta;
  for (int sweep = 0; sweep < 100000; ++sweep) {
    double largest_move = 0;
    for (Index i = 0; i < data.num_inputs(); ++i) {
      const auto x = data.X().col(i);
      const double square = x.squaredNorm();
      if (square == 0) continue;
      const double slope = x.dot(residual) + square * beta[i];
      const double next = std::copysign(std::max(std::abs(slope) - lambda, 0.0), slope) / square;
      residual += (beta[i] - next) * x;
      largest_move = std::max(largest_move, std::abs(next - beta[i]));
      beta[i] = next;
    }
    if (largest_move <= 1e-14 * (1 + beta.lpNorm<Eigen::Infinity>())) break;
  }
  return beta;
}

}  // namespace

TEST_CASE("the lasso path is where coordinate descent ends, at and between its knots") {
  RandomStream random(921);
  int drops = 0, compared = 0;
  for (int trial = 0; trial < 20; ++trial) {
    const Index n = 2 + static_cast<Index>(random.uniform_integer(8));
    const Index d = 2 + static_cast<Index>(random.uniform_integer(20));
    const Dataset<> data = gaussian_data(random, n, d);
    CAPTURE(trial, n, d);
    const LassoPath<> path = lasso_path(data);
    CAPTURE(path.message);
    REQUIRE(path.ok());
    CHECK(path.fits == (n <= d));
    const double largest = (data.X().transpose() * data.y()).lpNorm<Eigen::Infinity>();
    CHECK_THAT(path.knots.front().lambda, near(largest, 1e-14, 0));
    CHECK(path.at(largest * 1.5) == Vector<double>::Zero(d));
    CHECK(path.at(0.0) == path.beta);
    Vector<double> beta = Vector<double>::Zero(d);
    double above = path.knots.front().lambda;
    for (const auto& knot : path.knots) {
      drops += static_cast<int>(knot.left.size());
      CHECK(knot.lambda <= above);
      for (const double lambda : {std::sqrt(above * knot.lambda), knot.lambda}) {
        if (lambda < 1e-3 * largest) continue;  // coordinate descent takes too long
        beta = lasso_by_coordinate_descent(data, lambda, beta);
        CAPTURE(lambda);
        // What stops the descent, amplified by its slow convergence.
        CHECK((path.at(lambda) - beta).norm() <= 1e-9 * (1 + beta.norm()));
        ++compared;
      }
      CHECK_THAT(knot.loss, near((data.X() * knot.beta(d) - data.y()).squaredNorm(), 1e-11, 1e-13));
      above = knot.lambda;
    }
  }
  CHECK(drops >= 5);
  CHECK(compared > 200);
}

TEST_CASE("the lasso path of many columns meets the conditions of optimality of each of them, everywhere") {
  // So many that only some are watched at a time.
  RandomStream random(926);
  for (const auto& [n, d] : {std::pair<Index, Index>{30, 600}, {8, 1500}, {60, 300}}) {
    const Dataset<> data = gaussian_data(random, n, d);
    const LassoPath<> path = lasso_path(data);
    CAPTURE(n, d, path.message);
    REQUIRE(path.ok());
    CHECK(path.fits);
    Vector<double> descended = Vector<double>::Zero(d);
    double above = path.knots.front().lambda;
    for (std::size_t k = 0; k < path.knots.size(); ++k) {
      const auto& knot = path.knots[k];
      for (const double lambda : {0.5 * (above + knot.lambda), knot.lambda}) {
        const Vector<double> beta = path.at(lambda);
        const Vector<double> slope = data.X().transpose() * (data.y() - data.X() * beta);
        double excess = slope.cwiseAbs().maxCoeff() - lambda;
        for (Index i = 0; i < d; ++i)
          if (beta[i] != 0) excess = std::max(excess, std::abs(slope[i] - std::copysign(lambda, beta[i])));
        // N roundings of y and of each of the N terms of X beta, times the length of a column.
        CHECK(excess <= 1e-13 * static_cast<double>(n) * data.y().norm());
      }
      if (k % 8 == 7 && knot.lambda > 0.1 * path.knots.front().lambda) {
        descended = lasso_by_coordinate_descent(data, knot.lambda, descended);
        // What stops the descent, amplified by its slow convergence.
        CHECK((path.at(knot.lambda) - descended).norm() <= 1e-9 * (1 + descended.norm()));
      }
      above = knot.lambda;
    }
  }
}

TEST_CASE("the end of the lasso path is the least l1 norm") {
  RandomStream random(922);
  for (const auto& [n, d] : {std::pair<Index, Index>{4, 9}, {12, 50}, {30, 120}}) {
    const Dataset<> data = gaussian_data(random, n, d);
    const LassoPath<> path = lasso_path(data);
    CAPTURE(n, d, path.message);
    REQUIRE(path.ok());
    const MinL1Result<> least = min_l1_interpolator(data);
    REQUIRE(least.ok());
    CHECK((path.beta - least.beta).norm() <= 1e-10 * least.beta.norm());
    CHECK(path.certificate.duality_gap <= 1e-12);
  }
}

TEST_CASE("saddles jump at 1 / (4 lambda) of the lasso's knots until a coordinate leaves") {
  RandomStream random(923);
  int monotone = 0, parted = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const Dataset<> data = gaussian_data(random, 4, 9);
    const LassoPath<> lasso = lasso_path(data);
    const SaddlePath<> saddles =
        saddle_path(DiagonalNet<double>(2, 9), data, Start<>::uniform(Scale<>::from_log(-1.0)));
    CAPTURE(trial, lasso.message, saddles.message);
    REQUIRE(lasso.ok());
    REQUIRE(saddles.ok());
    CHECK((lasso.beta - saddles.beta).norm() <= 1e-11 * lasso.beta.norm());
    bool any_left = false;
    const std::size_t most = std::min(lasso.knots.size(), saddles.jumps.size());
    for (std::size_t k = 0; k < most && !any_left; ++k) {
      // The same dual up to and including the jump at which one leaves.
      CHECK_THAT(saddles.jumps[k].time, near(1 / (4 * lasso.knots[k].lambda), 1e-12, 0));
      CHECK(saddles.jumps[k].entered == lasso.knots[k].entered);
      any_left = !saddles.jumps[k].left.empty() || !lasso.knots[k].left.empty();
      if (any_left && k + 1 < saddles.jumps.size() && k + 1 < lasso.knots.size())
        parted += std::abs(4 * lasso.knots[k + 1].lambda * saddles.jumps[k + 1].time - 1) > 1e-6 ? 1 : 0;
    }
    if (!any_left) {
      CHECK(lasso.knots.size() == saddles.jumps.size());
      ++monotone;
    }
  }
  CHECK(monotone >= 10);
  CHECK(parted >= 5);
}

TEST_CASE("the lasso of orthogonal columns is soft thresholding, ties and all") {
  Matrix<double> X(4, 3);
  X << 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0;
  const Dataset data(X, Vector<double>(Eigen::Vector4d(4, 2, -4, 7)));
  const LassoPath<> path = lasso_path(data);
  CAPTURE(path.message);
  REQUIRE(path.ok());
  CHECK(!path.fits);
  REQUIRE(path.knots.size() == 1);
  CHECK(path.knots[0].lambda == 4.0);
  CHECK(path.knots[0].entered == std::vector<Index>{0, 1, 2});
  CHECK(path.ties == 1);
  CHECK((path.at(1.0) - Vector<double>(Eigen::Vector3d(3, 0.75, -3))).norm() <= 1e-14);
  CHECK_THROWS_MATCHES(path.at(-1.0), ArgumentError, message_contains("lambda must not be negative"));
}

TEST_CASE("problems of small integers, full of ties, equal columns and exact zeros, are solved by both paths") {
  RandomStream random(925);
  int ties = 0, several = 0;
  for (int trial = 0; trial < 400; ++trial) {
    const auto n = 1 + static_cast<Index>(random.uniform_integer(5));
    const auto d = 1 + static_cast<Index>(random.uniform_integer(10));
    const auto integer = [&](Index most) {
      return static_cast<double>(random.uniform_integer(static_cast<std::uint64_t>(2 * most + 1))) -
             static_cast<double>(most);
    };
    Matrix<double> X(n, d);
    Vector<double> y(n);
    for (Index j = 0; j < d; ++j)
      for (Index i = 0; i < n; ++i) X(i, j) = integer(1 + trial % 2);
    for (Index i = 0; i < n; ++i) y[i] = integer(3);
    const Dataset data(X, y);
    const LassoPath<> lasso = lasso_path(data);
    const SaddlePath<> saddles =
        saddle_path(DiagonalNet<double>(2 + trial % 3, d), data, Start<>::uniform(Scale<>::from_log(-1.0)));
    CAPTURE(trial, n, d, lasso.message, saddles.message);
    CHECK(lasso.ok());
    CHECK(saddles.ok());
    CHECK(lasso.fits == saddles.fits);
    // Two certified optima of values of some 10.
    CHECK_THAT(lasso.beta.lpNorm<1>(), near(saddles.beta.lpNorm<1>(), 1e-11, 1e-12));
    ties += saddles.ties > 0 ? 1 : 0;
    several += saddles.is_unique ? 0 : 1;
  }
  CHECK(ties > 100);
  CHECK(several > 50);
}

TEST_CASE("a coefficient that comes to 0 at lambda = 0 does not leave") {
  Matrix<double> X(3, 3);
  X << -1, 0, 0, 1, -1, 0, 0, -1, 1;
  const LassoPath<> path = lasso_path(Dataset(X, Vector<double>{{0, -2, 1}}));
  CAPTURE(path.message);
  REQUIRE(path.ok());
  CHECK(path.knots.size() == 3);
  CHECK(path.knots.back().left.empty());
  CHECK((path.beta - Vector<double>{{0, 2, 3}}).norm() <= 1e-15 * 10);
}

TEST_CASE("equal columns, a zero column and no signal leave the lasso path defined") {
  RandomStream random(924);
  const Dataset<> data = gaussian_data(random, 5, 8);
  Matrix<double> twice(5, 17);
  twice << data.X(), -data.X(), Vector<double>::Zero(5);
  const LassoPath<> once = lasso_path(data), path = lasso_path(Dataset(twice, data.y()));
  CAPTURE(path.message);
  REQUIRE(path.ok());
  CHECK(!path.is_unique);
  for (const double lambda : {2.0, 1.0, 0.3, 0.1, 0.0}) {
    const Vector<double> beta = path.at(lambda);
    CHECK((beta.head(8) - beta.segment(8, 8) - once.at(lambda)).norm() <= 1e-12);
    CHECK(beta[16] == 0.0);
  }
  const LassoPath<> silent = lasso_path(Dataset(data.X(), Vector<double>::Zero(5)));
  REQUIRE(silent.ok());
  CHECK(silent.knots.empty());
  CHECK(silent.at(1.0) == Vector<double>::Zero(8));
}
