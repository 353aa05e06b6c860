#include "richflow/limits/saddle_path.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "richflow/bias/regularizer.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/lasso_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

constexpr double never = std::numeric_limits<double>::infinity();

/// One problem of saddles.csv, and its path in exact fractions, rounded once.
struct TabulatedPath {
  struct Jump {
    double time = 0;
    double loss = 0;
    std::set<Index> entered = {}, left = {};
    std::map<Index, double> beta = {}, dual = {};
  };

  Index depth = 2;
  std::map<std::pair<Index, Index>, double> X = {};
  std::map<Index, double> y = {}, w0 = {};
  std::map<Index, Jump> jumps = {};

  [[nodiscard]] Dataset<> data() const {
    Matrix<double> samples(static_cast<Index>(y.size()), static_cast<Index>(w0.size()));
    Vector<double> labels(samples.rows());
    for (const auto& [place, value] : X) samples(place.first, place.second) = value;
    for (const auto& [n, value] : y) labels[n] = value;
    return {std::move(samples), std::move(labels)};
  }
  [[nodiscard]] Vector<double> shape() const {
    Vector<double> out(static_cast<Index>(w0.size()));
    for (const auto& [i, value] : w0) out[i] = value;
    return out;
  }
};

std::map<std::pair<std::string, Index>, TabulatedPath> tabulated_paths() {
  const ReferenceTable table = reference_table("saddles.csv");
  std::map<std::pair<std::string, Index>, TabulatedPath> paths;
  for (std::size_t row = 0; row < table.size(); ++row) {
    const auto depth = static_cast<Index>(table.number(row, "depth"));
    TabulatedPath& path = paths[{table.text(row, "problem"), depth}];
    path.depth = depth;
    const std::string kind = table.text(row, "kind");
    const double value = table.number(row, "decimal");
    const Index at = table.text(row, "row").empty() ? -1 : static_cast<Index>(table.number(row, "row"));
    const Index i = table.text(row, "i").empty() ? -1 : static_cast<Index>(table.number(row, "i"));
    if (kind == "X") path.X[{at, i}] = value;
    if (kind == "y") path.y[at] = value;
    if (kind == "w0") path.w0[i] = value;
    if (kind == "time") path.jumps[at].time = value;
    if (kind == "loss") path.jumps[at].loss = value;
    if (kind == "enter") path.jumps[at].entered.insert(i);
    if (kind == "leave") path.jumps[at].left.insert(i);
    if (kind == "beta") path.jumps[at].beta[i] = value;
    if (kind == "dual") path.jumps[at].dual[i] = value;
  }
  return paths;
}

const TabulatedPath& tabulated_path(const std::string& name, Index depth) {
  static const auto paths = tabulated_paths();
  return paths.at({name, depth});
}

SaddlePath path_of(const TabulatedPath& table) {
  const Dataset<> data = table.data();
  return saddle_path(DiagonalNet<double>(table.depth, data.num_inputs()), data,
                     Start<>::shaped(Scale<>::from_log(-1.0), table.shape()));
}

/// When the flow from this start has lost half of what each jump of the path loses: times of the flow.
std::vector<double> times_of_jumps(const Dataset<>& data, Index depth, const Start<>& start, const SaddlePath& path,
                                   Vector<double>& end) {
  const DualFlow flow(regularizer(DiagonalNet<double>(depth, data.num_inputs()), start), data);
  std::vector<double> times;
  Vector<double> nu = flow.initial_state();
  double t = 0, before = data.y().squaredNorm();
  std::vector<double> losses;
  for (const auto& jump : path.jumps) {
    losses.push_back((before + jump.loss) / 2);
    before = jump.loss;
  }
  losses.push_back(depth == 2 ? 1e-22 : 1e-18);
  for (const double loss : losses) {
    IntegrateOptions<double> options;
    options.events = {loss_below(loss)};
    // As exact as the interpolant that locates the event.
    const PiController<> controller{.tolerance = {1e-9, 1e-12}, .first_step = flow.first_step()};
    const auto run = integrate(flow, nu, TimeSpan{t, never}, Rodas4{}, controller, options);
    CAPTURE(run.message);
    REQUIRE(run.status == Status::event);
    nu = run.w;
    t = run.t;
    times.push_back(t);
  }
  times.pop_back();
  end.resize(data.num_inputs());
  flow.beta(nu, end);
  return times;
}

}  // namespace

TEST_CASE("saddle paths are those of the exact table") {
  const auto tables = tabulated_paths();
  std::size_t compared = 0;
  for (const auto& [name, table] : tables) {
    CAPTURE(name.first, name.second);
    const Dataset<> data = table.data();
    const SaddlePath path = path_of(table);
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
      const SaddlePath path = saddle_path(net, data, start);
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
  const SaddlePath path = saddle_path(net, data, Start<>::shaped(Scale<>::from_log(-400.0), w0));
  CHECK(path.beta == saddle_path(net, data, Start<>::shaped(Scale<>::from_log(5.0), w0)).beta);
  CHECK_THAT(path.log_time(2.0, Scale<>::from_log(-1000.0)), near(std::log(2.0) + 1000, 1e-15, 0));
  // At depth 2 no start matters.
  const SaddlePath flat = saddle_path(DiagonalNet<double>(2, 6), data, Start<>::uniform(Scale<>::from_log(-1.0)));
  const SaddlePath biased =
      saddle_path(DiagonalNet<double>(2, 6), data, Start<>::biased(Scale<>::from_log(-1.0), w0, w0.reverse().eval()));
  CHECK(flat.beta == biased.beta);
  CHECK_THAT(flat.log_time(2.0, Scale<>::from_log(-1000.0)), near(std::log(2000.0), 1e-15, 0));
  const Vector<double> u = Vector<double>::LinSpaced(6, -1, 2);
  const SaddlePath layers =
      saddle_path(TwoLayerDiagonalNet<double>(6), data, Start<>::unbalanced(Scale<>::from_log(-1.0), u, w0));
  REQUIRE(layers.jumps.size() == flat.jumps.size());
  for (std::size_t k = 0; k < flat.jumps.size(); ++k) {
    CHECK(layers.jumps[k].time == 2 * flat.jumps[k].time);
    CHECK(layers.jumps[k].values == flat.jumps[k].values);
  }
}

TEST_CASE("the dual flow jumps at the times of the path, with an error of C over log 1/alpha at depth 2") {
  // C_k of theory: measured there with another integrator, to the digits given.
  const std::map<std::string, std::vector<double>> offsets = {
      {"leaves", {-0.0041748, -0.0290604, -0.0066504, -1.125313}},
      {"leaves_slow", {never, -1.024427, 0.341057, -10.7077}},
      {"returns", {-0.0083765, never, never, -0.119564}},
      {"shape", {-0.006742, never, never, -0.136373}}};
  for (const auto& [name, expected] : offsets) {
    const TabulatedPath& table = tabulated_path(name, 2);
    const Dataset<> data = table.data();
    const SaddlePath path = path_of(table);
    for (const double log_alpha : {-100.0, -300.0, -1000.0}) {
      CAPTURE(name, log_alpha);
      Vector<double> end;
      const std::vector<double> times =
          times_of_jumps(data, 2, Start<>::shaped(Scale<>::from_log(log_alpha), table.shape()), path, end);
      REQUIRE(times.size() == expected.size());
      for (std::size_t k = 0; k < times.size(); ++k) {
        if (expected[k] == never) continue;
        CAPTURE(k, times[k]);
        // The table's last digit, and the errors of the steps; at -100 what falls with a power of alpha is still there.
        const double offset = times[k] + log_alpha * path.jumps[k].time;
        CHECK_THAT(offset, near(expected[k], log_alpha > -200 ? 1e-3 : 2e-5, 2e-6));
      }
      // The flow was followed until the loss is 1e-22; a power of alpha here, too.
      CHECK((end - path.beta).lpNorm<Eigen::Infinity>() <= (log_alpha > -200 ? 1e-6 : 1e-10));
    }
  }
}

TEST_CASE("the dual flow jumps at the times of the path, with an error of order alpha^(D-2) at depth D") {
  for (const auto& [name, depth] : {std::pair<std::string, Index>{"leaves", 3}, {"leaves_shaped", 3}, {"shape", 5}}) {
    const TabulatedPath& table = tabulated_path(name, depth);
    const Dataset<> data = table.data();
    const SaddlePath path = path_of(table);
    const auto order = static_cast<double>(depth - 2);
    std::vector<double> previous;
    // alpha^(D-2) = 1e-2, 1e-3.
    for (const double digits : {2.0, 3.0}) {
      const double log_alpha = -digits * std::log(10.0) / order;
      CAPTURE(name, depth, log_alpha);
      Vector<double> end;
      const std::vector<double> times =
          times_of_jumps(data, depth, Start<>::shaped(Scale<>::from_log(log_alpha), table.shape()), path, end);
      REQUIRE(times.size() == path.jumps.size());
      std::vector<double> errors;
      for (std::size_t k = 0; k < times.size(); ++k)
        errors.push_back(times[k] * std::exp(order * log_alpha) - path.jumps[k].time);
      for (std::size_t k = 0; k < previous.size(); ++k) {
        CAPTURE(k, errors[k], previous[k]);
        // Ten times smaller, up to the next order.
        CHECK_THAT(errors[k] / previous[k], near(0.1, 0.1, 0));
      }
      previous = errors;
      // The distance of the limit is of order alpha^D (8e-3 at alpha = 0.1 on `leaves`); the flow's is a residual of
      // 1e-9.
      CHECK((end - path.beta).lpNorm<Eigen::Infinity>() <=
            20 * std::exp(static_cast<double>(depth) * log_alpha) + 1e-8);
    }
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
    const SaddlePath path =
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
  const SaddlePath path = saddle_path(DiagonalNet<double>(3, 15), data, Start<>::biased(Scale<>::from_log(-3.0), a, b));
  REQUIRE(path.ok());
  // The certificate is of these weights: the same beta under those of the other side is not certified.
  CHECK((path.upper - a.cwiseInverse()).norm() <= 1e-14);
  CHECK((path.lower - b.cwiseInverse()).norm() <= 1e-14);
  CHECK(certify_l1(data, path.beta, path.nu, path.upper, path.lower).duality_gap <= 1e-12);
  CHECK(certify_l1(data, path.beta, path.nu, path.lower, path.upper).duality_gap > 1e-3);
  // And the flow from there has its end there: distances of alpha^3 and the flow's tolerance.
  Vector<double> end;
  times_of_jumps(data, 3, Start<>::biased(Scale<>::from_value(1e-3), a, b), path, end);
  CHECK((end - path.beta).lpNorm<Eigen::Infinity>() <= 1e-6);
}

TEST_CASE("equal columns, more samples than features, zero columns, one sample and no signal") {
  RandomStream random(913);
  const auto follow = [](const Dataset<>& data) {
    return saddle_path(DiagonalNet<double>(2, data.num_inputs()), data, Start<>::uniform(Scale<>::from_log(-1.0)));
  };
  SECTION("columns equal up to sign enter together; X beta is unique, beta is not") {
    Matrix<double> X(2, 4);
    X << 1, -1, 0, 1, 1, -1, 1, 2;
    const SaddlePath path = follow({X, Vector<double>(Eigen::Vector2d(3, 1))});
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
    const SaddlePath once = follow(data), path = follow({twice, data.y()});
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
    const SaddlePath path = follow(data);
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
    const SaddlePath path = follow(data);
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
    const SaddlePath path = follow({X, random_vector(random, 3)});
    REQUIRE(path.ok());
    CHECK(path.beta[2] == 0);
    CHECK(path.is_unique);
  }
  SECTION("one sample: the largest entry, at 2 / (8 |x_i y|)") {
    Matrix<double> X(1, 3);
    X << 1, -4, 2;
    const SaddlePath path = follow({X, Vector<double>::Constant(1, 3)});
    REQUIRE(path.ok());
    REQUIRE(path.jumps.size() == 1);
    CHECK(path.jumps[0].time == 2.0 / (8 * 12));
    CHECK(path.beta == Vector<double>(Eigen::Vector3d(0, -0.75, 0)));
  }
  SECTION("no signal: no jump") {
    const SaddlePath path = follow({random_matrix(random, 3, 7), Vector<double>::Zero(3)});
    REQUIRE(path.ok());
    CHECK(path.jumps.empty());
    CHECK(path.fits);
    CHECK(path.beta == Vector<double>::Zero(7));
  }
  SECTION("units of columns and labels change times and nothing else") {
    const Dataset<> data = gaussian_data(random, 6, 20);
    const SaddlePath path = follow(data);
    for (const double unit : {1e-90, 1e90}) {
      const SaddlePath other = follow({unit * data.X(), data.y()});
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
  const SaddlePath path = saddle_path(DiagonalNet<double>(3, 30), data, Start<>::uniform(Scale<>::from_log(-1.0)));
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
  const SaddlePath path = saddle_path(DiagonalNet<double>(2, 5), data, uniform);
  CHECK_THROWS_MATCHES(path.log_time(1.0, Scale<>::from_log(0.0)), ArgumentError, message_contains("log alpha"));
  CHECK_THROWS_MATCHES(path.log_time(0.0, Scale<>::from_log(-1.0)), ArgumentError, message_contains("tau"));
}
