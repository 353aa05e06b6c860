#include "richflow/limits/saddle_path.hpp"

#include <Eigen/QR>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "richflow/bias/regularizer.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/random.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/saddles.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("saddle paths are those of the exact table") {
  const auto tables = tabulated_paths();
  std::size_t compared = 0;
  for (const auto& [name, table] : tables) {
    CAPTURE(name.first, name.second);
    const Dataset<> data = table.data();
    const SaddlePath<> path = path_of(table);
    CAPTURE(path.message);
    REQUIRE(path.ok());
    REQUIRE(path.jumps.size() == table.jumps.size());
    // Roundings times condition numbers below 100.
    constexpr double tolerance = 1e-13;
    for (std::size_t k = 0; k < path.jumps.size(); ++k) {
      CAPTURE(k);
      const auto& jump = path.jumps[k];
      const TabulatedPath::Jump& exact = table.jumps.at(static_cast<Index>(k) + 1);
      CHECK_THAT(jump.time, near(exact.time, tolerance, 0));
      CHECK_THAT(jump.loss, near(exact.loss, tolerance, tolerance * data.y().squaredNorm()));
      CHECK(std::set<Index>(jump.entered.begin(), jump.entered.end()) == exact.entered);
      CHECK(std::set<Index>(jump.left.begin(), jump.left.end()) == exact.left);
      const Vector<double> beta = jump.beta(data.num_inputs());
      const Vector<double> dual = data.X().transpose() * jump.nu;
      for (const auto& [i, value] : exact.beta) {
        CHECK_THAT(beta[i], near(value, tolerance, tolerance));
        CHECK((beta[i] == 0) == (value == 0));
      }
      for (const auto& [i, value] : exact.dual) CHECK_THAT(dual[i], near(value, tolerance, tolerance));
      CHECK(jump.is_tie == (name.first == "tie"));
      CHECK(jump.is_unique);
      ++compared;
    }
    CHECK(path.fits);
    CHECK(path.ties == (name.first == "tie" ? 1 : 0));
    CHECK(path.beta == path.jumps.back().beta(data.num_inputs()));
    CHECK(path.certificate.duality_gap <= tolerance);
    CHECK(path.certificate.dual_excess <= tolerance);
  }
  CHECK(tables.size() == 9);
  CHECK(compared > 30);
}

TEST_CASE("the rate is that of the dual flow, and the scale of the start does not matter") {
  const Dataset<> data = tabulated_path("leaves", 2).data();
  const Vector<double> w0 = tabulated_path("shape", 2).shape();
  for (const double log_alpha : {-2.0, 1.0}) {
    const Start<> start = Start<>::shaped(Scale<>::from_log(log_alpha), w0);
    const auto check_rate = [&](const auto& net, double power) {
      const SaddlePath<> path = saddle_path(net, data, start);
      // Beyond depth 2 the unit of time is alpha^(2-D).
      CHECK_THAT(regularizer(net, start).dual_rate(), near(path.rate * std::exp(power * log_alpha), 1e-14, 0));
    };
    check_rate(DiagonalNet<double>(2, 6), 0);
    check_rate(SquaredDiagonalNet<double>(6), 0);
    check_rate(DiagonalNet<double>(3, 6), 1);
    check_rate(DiagonalNet<double>(5, 6), 3);
    check_rate(TwoLayerDiagonalNet<double>(6), 0);
  }
  const DiagonalNet<double> net(3, 6);
  const SaddlePath<> path = saddle_path(net, data, Start<>::shaped(Scale<>::from_log(-400.0), w0));
  CHECK(path.beta == saddle_path(net, data, Start<>::shaped(Scale<>::from_log(5.0), w0)).beta);
  CHECK_THAT(path.log_time(2.0, Scale<>::from_log(-1000.0)), near(std::log(2.0) + 1000, 1e-15, 0));
  // At depth 2 no start matters.
  const SaddlePath<> flat = saddle_path(DiagonalNet<double>(2, 6), data, Start<>::uniform(Scale<>::from_log(-1.0)));
  const SaddlePath<> biased =
      saddle_path(DiagonalNet<double>(2, 6), data, Start<>::biased(Scale<>::from_log(-1.0), w0, w0.reverse().eval()));
  CHECK(flat.beta == biased.beta);
  CHECK_THAT(flat.log_time(2.0, Scale<>::from_log(-1000.0)), near(std::log(2000.0), 1e-15, 0));
  const Vector<double> u = Vector<double>::LinSpaced(6, -1, 2);
  const SaddlePath<> layers =
      saddle_path(TwoLayerDiagonalNet<double>(6), data, Start<>::unbalanced(Scale<>::from_log(-1.0), u, w0));
  REQUIRE(layers.jumps.size() == flat.jumps.size());
  for (std::size_t k = 0; k < flat.jumps.size(); ++k) {
    CHECK(layers.jumps[k].time == 2 * flat.jumps[k].time);
    CHECK(layers.jumps[k].values == flat.jumps[k].values);
  }
}

TEST_CASE("the end of a random path is the least weighted l1 norm of the simplex, for every kind of start") {
  RandomStream random(911);
  for (int trial = 0; trial < 24; ++trial) {
    const Index n = 1 + static_cast<Index>(random.uniform_integer(12));
    const Index d = n + 1 + static_cast<Index>(random.uniform_integer(40));
    const Dataset<> data = gaussian_data(random, n, d);
    const Index depth = 2 + trial % 4;
    const Vector<double> w0 = random_positive_vector(random, d, 0.7, 1.4);
    CAPTURE(trial, n, d, depth);
    const SaddlePath<> path =
        saddle_path(DiagonalNet<double>(depth, d), data, Start<>::shaped(Scale<>::from_log(-3.0), w0));
    CAPTURE(path.message);
    REQUIRE(path.ok());
    CHECK(path.fits);
    CHECK(path.is_unique);
    const Vector<double> weights = w0.array().pow(2.0 - static_cast<double>(depth));
    const MinL1Result<> least = min_l1_interpolator(data, weights);
    REQUIRE(least.ok());
    // Two certified solutions, 1e-12 each, times the condition of the basis.
    CHECK((path.beta - least.beta).lpNorm<1>() <= 1e-9 * least.beta.lpNorm<1>());
    double loss = data.y().squaredNorm(), time = 0;
    for (const auto& jump : path.jumps) {
      CHECK(jump.loss < loss);
      CHECK(jump.time > time);
      loss = jump.loss;
      time = jump.time;
      // A saddle: no slope in what is in play, none against the thresholds elsewhere.
      const Vector<double> beta = jump.beta(d);
      const Vector<double> slope = data.X().transpose() * (data.y() - data.X() * beta);
      for (const Index i : jump.support) CHECK(std::abs(slope[i]) <= 1e-11 * data.X().col(i).norm() * data.y().norm());
    }
  }
}

TEST_CASE("from a biased start at depth D the two signs have their own thresholds") {
  RandomStream random(912);
  const Dataset<> data = gaussian_data(random, 6, 15);
  const Vector<double> a = random_positive_vector(random, 15, 0.7, 1.4);
  const Vector<double> b = random_positive_vector(random, 15, 0.7, 1.4);
  const SaddlePath<> path =
      saddle_path(DiagonalNet<double>(3, 15), data, Start<>::biased(Scale<>::from_log(-3.0), a, b));
  REQUIRE(path.ok());
  // The certificate is of these weights: the same beta under those of the other side is not certified.
  CHECK((path.upper - a.cwiseInverse()).norm() <= 1e-14);
  CHECK((path.lower - b.cwiseInverse()).norm() <= 1e-14);
  CHECK(certify_l1(data, path.beta, path.nu, path.upper, path.lower).duality_gap <= 1e-12);
  CHECK(certify_l1(data, path.beta, path.nu, path.lower, path.upper).duality_gap > 1e-3);
  // And theory's limit has its end there: a distance of alpha^3.
  const Limit<> limit = solve(DiagonalNet<double>(3, 15), data, Start<>::biased(Scale<>::from_value(1e-4), a, b));
  REQUIRE(limit.ok());
  CHECK((limit.beta - path.beta).lpNorm<Eigen::Infinity>() <= 1e-7);
}

TEST_CASE("equal columns, more samples than features, zero columns, one sample and no signal") {
  RandomStream random(913);
  const auto follow = [](const Dataset<>& data) {
    return saddle_path(DiagonalNet<double>(2, data.num_inputs()), data, Start<>::uniform(Scale<>::from_log(-1.0)));
  };
  SECTION("columns equal up to sign enter together; X beta is unique, beta is not") {
    Matrix<double> X(2, 4);
    X << 1, -1, 0, 1, 1, -1, 1, 2;
    const SaddlePath<> path = follow({X, Vector<double>(Eigen::Vector2d(3, 1))});
    REQUIRE(path.ok());
    CHECK(path.fits);
    CHECK(!path.is_unique);
    CHECK(path.message.find("one of several") != std::string::npos);
    CHECK(path.certificate.duality_gap <= 1e-14);
  }
  SECTION("a path of repeated columns is that of the columns") {
    const Dataset<> data = gaussian_data(random, 5, 9);
    Matrix<double> twice(5, 18);
    twice << data.X(), data.X();
    const SaddlePath<> once = follow(data), path = follow({twice, data.y()});
    REQUIRE(path.ok());
    REQUIRE(path.jumps.size() == once.jumps.size());
    for (std::size_t k = 0; k < once.jumps.size(); ++k) {
      CHECK_THAT(path.jumps[k].time, near(once.jumps[k].time, 1e-12, 0));
      const Vector<double> beta = path.jumps[k].beta(18);
      CHECK((beta.head(9) + beta.tail(9) - once.jumps[k].beta(9)).norm() <= 1e-11);
      CHECK(!path.jumps[k].is_unique);
    }
  }
  SECTION("over-determined data end at the least-squares point") {
    const Dataset<> data = gaussian_data(random, 12, 4);
    const SaddlePath<> path = follow(data);
    REQUIRE(path.ok());
    CHECK(!path.fits);
    CHECK(path.message.find("least-squares point") != std::string::npos);
    const Vector<double> exact = data.X().colPivHouseholderQr().solve(data.y());
    CHECK((path.beta - exact).norm() <= 1e-13 * exact.norm());
  }
  SECTION("over-determined data of dependent columns do, too, at the least norm of them") {
    Matrix<double> X = random_matrix(random, 12, 6);
    X.rightCols(3) = X.leftCols(3) * random_matrix(random, 3, 3);
    const Dataset data(X, random_vector(random, 12));
    const SaddlePath<> path = follow(data);
    REQUIRE(path.ok());
    CHECK(!path.fits);
    CHECK(path.certificate.least_squares_residual <= 1e-13);
    const Matrix<double> independent = X.leftCols(3);
    const Vector<double> fitted = independent * independent.householderQr().solve(data.y());
    CHECK((X * path.beta - fitted).norm() <= 1e-12 * fitted.norm());
    CHECK_THAT(path.certificate.objective / 2,
               near(min_l1_interpolator(Dataset(X, fitted)).beta.lpNorm<1>(), 1e-10, 0));
  }
  SECTION("a zero column stays out") {
    Matrix<double> X = random_matrix(random, 3, 7);
    X.col(2).setZero();
    const SaddlePath<> path = follow({X, random_vector(random, 3)});
    REQUIRE(path.ok());
    CHECK(path.beta[2] == 0);
    CHECK(path.is_unique);
  }
  SECTION("one sample: the largest entry, at 2 / (8 |x_i y|)") {
    Matrix<double> X(1, 3);
    X << 1, -4, 2;
    const SaddlePath<> path = follow({X, Vector<double>::Constant(1, 3)});
    REQUIRE(path.ok());
    REQUIRE(path.jumps.size() == 1);
    CHECK(path.jumps[0].time == 2.0 / (8 * 12));
    CHECK(path.beta == Vector<double>(Eigen::Vector3d(0, -0.75, 0)));
  }
  SECTION("no signal: no jump") {
    const SaddlePath<> path = follow({random_matrix(random, 3, 7), Vector<double>::Zero(3)});
    REQUIRE(path.ok());
    CHECK(path.jumps.empty());
    CHECK(path.fits);
    CHECK(path.beta == Vector<double>::Zero(7));
  }
  SECTION("units of columns and labels change times and nothing else") {
    const Dataset<> data = gaussian_data(random, 6, 20);
    const SaddlePath<> path = follow(data);
    for (const double unit : {1e-90, 1e90}) {
      const SaddlePath<> other = follow({unit * data.X(), data.y()});
      REQUIRE(other.ok());
      REQUIRE(other.jumps.size() == path.jumps.size());
      for (std::size_t k = 0; k < path.jumps.size(); ++k) {
        CHECK(other.jumps[k].entered == path.jumps[k].entered);
        CHECK_THAT(other.jumps[k].time * unit, near(path.jumps[k].time, 1e-12, 0));
      }
    }
  }
}

TEST_CASE("a path in single precision is the path, to its digits") {
  RandomStream random(914);
  const Dataset<> data = gaussian_data(random, 8, 30);
  const SaddlePath<> path = saddle_path(DiagonalNet<double>(3, 30), data, Start<>::uniform(Scale<>::from_log(-1.0)));
  const auto single =
      saddle_path(DiagonalNet<float>(3, 30), Dataset<float>(data.X().cast<float>(), data.y().cast<float>()),
                  Start<float>::uniform(Scale<float>::from_log(-1.0f)));
  CAPTURE(single.message);
  REQUIRE(single.ok());
  REQUIRE(single.jumps.size() == path.jumps.size());
  for (std::size_t k = 0; k < path.jumps.size(); ++k) CHECK(single.jumps[k].support == path.jumps[k].support);
  // Roundings of 6e-8 times a condition below 100.
  CHECK((single.beta.cast<double>() - path.beta).norm() <= 1e-4 * path.beta.norm());
}

TEST_CASE("a saddle path refuses what does not fit") {
  RandomStream random(915);
  const Dataset<> data = gaussian_data(random, 3, 5);
  const Start<> uniform = Start<>::uniform(Scale<>::from_log(-1.0));
  CHECK_THROWS_MATCHES(saddle_path(DiagonalNet<double>(3, 4), data, uniform), DimensionError,
                       message_contains("the net has d = 4 features but X has 5 columns"));
  CHECK_THROWS_AS(
      saddle_path(DiagonalNet<double>(3, 5), data, Start<>::shaped(Scale<>::from_log(-1.0), Vector<double>::Ones(4))),
      DimensionError);
  const Vector<double> ones = Vector<double>::Ones(5);
  CHECK_THROWS_MATCHES(
      saddle_path(DiagonalNet<double>(2, 5), data, Start<>::unbalanced(Scale<>::from_log(-1.0), ones, ones)),
      ArgumentError, message_contains("two layers"));
  CHECK_THROWS_MATCHES(
      saddle_path(DiagonalNet<double>(100, 5), data, Start<>::shaped(Scale<>::from_log(-1.0), 1e-4 * ones)),
      ArgumentError, message_contains("entry 0 of the shape"));
  const SaddlePath<> path = saddle_path(DiagonalNet<double>(2, 5), data, uniform);
  CHECK_THROWS_MATCHES(path.log_time(1.0, Scale<>::from_log(0.0)), ArgumentError, message_contains("log alpha"));
  CHECK_THROWS_MATCHES(path.log_time(0.0, Scale<>::from_log(-1.0)), ArgumentError, message_contains("tau"));
}
