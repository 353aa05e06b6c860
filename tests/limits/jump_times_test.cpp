#include "richflow/limits/jump_times.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "richflow/bias/regularizer.hpp"
#include "richflow/bias/simulate.hpp"
#include "support/catch.hpp"
#include "support/saddles.hpp"

using namespace richflow;
using namespace test_support;

namespace {

JumpTimes<> jumps_of_flow(const TabulatedPath& table, const SaddlePath<>& path, double log_alpha) {
  const Dataset<> data = table.data();
  const Start<> start = Start<>::shaped(Scale<>::from_log(log_alpha), table.shape());
  return jump_times(regularizer(DiagonalNet<double>(table.depth, data.num_inputs()), start), data, path);
}

}  // namespace

TEST_CASE("the dual flow jumps at the times of the path, with an error of C over log 1/alpha at depth 2") {
  // C_k of theory: measured there with another integrator, to the digits given.
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  const std::map<std::string, std::vector<double>> tabulated = {
      {"leaves", {-0.0041748, -0.0290604, -0.0066504, -1.125313}},
      {"leaves_slow", {unknown, -1.024427, 0.341057, -10.7077}},
      {"returns", {-0.0083765, unknown, unknown, -0.119564}},
      {"shape", {-0.006742, unknown, unknown, -0.136373}}};
  for (const auto& [name, expected] : tabulated) {
    const TabulatedPath& table = tabulated_path(name, 2);
    const SaddlePath<> path = path_of(table);
    for (const double log_alpha : {-100.0, -300.0, -1000.0}) {
      const JumpTimes<> seen = jumps_of_flow(table, path, log_alpha);
      CAPTURE(name, log_alpha, seen.message);
      REQUIRE(seen.ok());
      REQUIRE(seen.offsets.size() == expected.size());
      for (std::size_t k = 0; k < expected.size(); ++k) {
        if (std::isnan(expected[k])) continue;
        CAPTURE(k, seen.times[k]);
        // The table's last digit, and the errors of the steps; at -100 what falls with a power of alpha is still there.
        CHECK_THAT(seen.offsets[k], near(expected[k], log_alpha > -200 ? 1e-3 : 2e-5, 2e-6));
        CHECK_THAT(seen.times[k] / -log_alpha - path.jumps[k].time, near(seen.offsets[k] / -log_alpha, 1e-9, 1e-15));
      }
    }
  }
}

TEST_CASE("offsets that were measured once predict the jumps of every smaller scale") {
  const TabulatedPath& table = tabulated_path("leaves_slow", 2);
  const SaddlePath<> path = path_of(table);
  const JumpTimes<> once = jumps_of_flow(table, path, -200);
  REQUIRE(once.ok());
  for (const double log_alpha : {-400.0, -1000.0}) {
    const JumpTimes<> seen = jumps_of_flow(table, path, log_alpha);
    REQUIRE(seen.ok());
    for (std::size_t k = 0; k < path.jumps.size(); ++k)
      // Errors of the steps, of 1e-9 of some hundred, at times of up to 635.
      CHECK_THAT(once.predict(path, static_cast<Index>(k), seen.scale), near(seen.times[k], 0, 2e-6));
  }
  CHECK_THROWS_AS(once.predict(path, 4, Scale<>::from_log(-400.0)), ArgumentError);
  CHECK_THROWS_AS(once.predict(path, -1, Scale<>::from_log(-400.0)), ArgumentError);
  CHECK_THROWS_AS(jumps_of_flow(table, path, 1.0), ArgumentError);
}

TEST_CASE("of orthogonal columns every offset is known in closed form") {
  // Columns of squares 1, 4, 9 and least-squares values 1, -0.5, 0.1.
  const Vector<double> sizes{{1, 2, 3}}, values{{1, -0.5, 0.1}}, w0{{0.5, 1, 2}};
  const Dataset data(Matrix<double>(sizes.asDiagonal()), sizes.cwiseProduct(values));
  const Start<> start = Start<>::shaped(Scale<>::from_log(-300.0), w0);
  const DiagonalNet<double> net(2, 3);
  const SaddlePath<> path = saddle_path(net, data, start);
  const JumpTimes<> seen = jump_times(regularizer(net, start), data, path);
  REQUIRE(seen.ok());
  REQUIRE(seen.offsets.size() == 3);
  for (std::size_t k = 0; k < 3; ++k) {
    REQUIRE(path.jumps[k].entered.size() == 1);
    const Index i = path.jumps[k].entered[0];
    // beta = a^2 (P - 1/P) with P' = -4 x^T r P: half of what it loses of the loss is gone at beta = (1 - 1/sqrt 2) b.
    const double slope = 8 * sizes[i] * sizes[i] * std::abs(values[i]);
    const double offset = (std::log(std::abs(values[i]) / (w0[i] * w0[i])) - std::log(1 + std::sqrt(2.0))) / slope;
    CAPTURE(k, i);
    CHECK_THAT(path.jumps[k].time, near(2 / slope, 1e-15, 0));
    // The errors of the steps, each within 1e-9, relative to the time.
    CHECK_THAT(seen.offsets[k], near(offset, 0, 1e-8 * seen.times[k]));
  }
}

TEST_CASE("the dual flow jumps at the times of the path, with an error of order alpha^(D-2) at depth D") {
  for (const auto& [name, depth] : {std::pair<std::string, Index>{"leaves", 3}, {"leaves_shaped", 3}, {"shape", 5}}) {
    const TabulatedPath& table = tabulated_path(name, depth);
    const SaddlePath<> path = path_of(table);
    std::vector<double> before;
    // alpha^(D-2) = 1e-2, 1e-3.
    for (const double digits : {2.0, 3.0}) {
      const double log_alpha = -digits * std::log(10.0) / static_cast<double>(depth - 2);
      const JumpTimes<> seen = jumps_of_flow(table, path, log_alpha);
      CAPTURE(name, depth, log_alpha, seen.message);
      REQUIRE(seen.ok());
      for (std::size_t k = 0; k < before.size(); ++k) {
        CAPTURE(k, seen.offsets[k], before[k]);
        // The same, up to the next order.
        CHECK_THAT(seen.offsets[k], near(before[k], 0.1, 0));
      }
      before = seen.offsets;
    }
    // Theory's, measured there with another integrator: an error of -1.234e-3 at alpha = 1e-3.
    if (name == "leaves") CHECK_THAT(before[3], near(-1.234, 1e-3, 0));
  }
}

TEST_CASE("the flow of e^-1000 rests at the saddles between the jumps") {
  const TabulatedPath& table = tabulated_path("leaves", 2);
  const Dataset<> data = table.data();
  const SaddlePath<> path = path_of(table);
  SimulateOptions<> options;
  for (std::size_t k = 0; k + 1 < path.jumps.size(); ++k)
    options.times.push_back(500 * (path.jumps[k].time + path.jumps[k + 1].time));
  const Simulation<> run =
      simulate(DiagonalNet<double>(2, 6), data, Start<>::uniform(Scale<>::from_log(-1000.0)), options);
  REQUIRE(run.ok());
  REQUIRE(run.values.size() == 3);
  // e^-(slope times time) is below the roundings of a dual of some 1000.
  for (std::size_t k = 0; k < 3; ++k) CHECK((run.values[k] - path.jumps[k].beta(6)).lpNorm<Eigen::Infinity>() <= 1e-11);
}

TEST_CASE("without a signal no jump is waited for") {
  const Dataset data(Matrix<double>::Identity(2, 4), Vector<double>::Zero(2));
  const Start<> start = Start<>::uniform(Scale<>::from_log(-10.0));
  const DiagonalNet<double> net(2, 4);
  const JumpTimes<> seen = jump_times(regularizer(net, start), data, saddle_path(net, data, start));
  CHECK(seen.ok());
  CHECK(seen.times.empty());
}
