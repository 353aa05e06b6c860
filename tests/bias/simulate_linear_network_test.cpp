#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "richflow/bias/simulate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/limits/linear_network.hpp"
#include "richflow/models/deep_factorization.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_layers.hpp"
#include "richflow/models/unbiased.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Steps of 1e-10 leave 1e-8 to hundred of their errors.
SimulateOptions<> accurate_to(std::vector<double> times) {
  SimulateOptions<> options;
  options.tolerance = 1e-10;
  options.times = std::move(times);
  return options;
}

struct StiffProblem {
  DeepLinearNetwork<double> net{2, {2}, false, 1};
  Dataset<> data;
  Vector<double> w0;
};

/// Rates of 4e5 and 4: explicit steps of 1e-5 would take a million.
StiffProblem stiff_problem() {
  Matrix<double> X(2, 2);
  X << 100, 0, 0, 0.3;
  Vector<double> w0(6);
  w0 << 1, 0.2, -0.3, 1.1, 0.8, 0.9;
  return {.data = Dataset<>(X, Vector<double>{{100, 0.3}}), .w0 = w0};
}

}  // namespace

TEST_CASE("simulate meets the exact solution of two layers to 1e-8, lazy to rich", "[verbs]") {
  RandomStream random(2631);
  const Index d_in = 4, h = 3, d_out = 3;
  const DeepLinearNetwork<double> net(d_in, {h}, false, d_out);
  const Matrix<double> X = std::sqrt(1.5) * detail::orthonormal_columns<double>(random, 6, d_in);
  const Dataset<> data = Dataset<>::with_outputs(X, random_matrix(random, 6, d_out));
  for (const double lambda : {-1.0, 0.0, 0.5, 20.0}) {
    const auto start = lambda_balanced_start<double>(random, d_in, h, d_out, lambda, Scale<>::from_value(0.05));
    const TwoLayerExact<> exact(data, start[0], start[1]);
    const double end = lambda > 1 ? 0.1 : 1.0;
    const auto run = simulate(net, data, pack_layers(start), accurate_to({end / 4, end / 2, end}));
    CAPTURE(lambda, run.method, run.message);
    REQUIRE(run.ok());
    REQUIRE(run.values.size() == 3);
    for (std::size_t k = 0; k < 3; ++k) {
      const TwoLayerState<> state = exact.at(run.times[k]).require_ok();
      const auto layers = unpack_layers<double>({d_in, h, d_out}, run.values[k]);
      CHECK((layers_product(layers) - state.product).norm() <= 1e-8 * state.product.norm());
      CHECK((layers[0].transpose() * layers[0] - state.W1.transpose() * state.W1).norm() <=
            1e-8 * state.W1.squaredNorm());
    }
    CHECK_THAT(run.method, text_contains("DormandPrince"));
  }
}

TEST_CASE("simulate meets the modes of balanced layers of depth 2, 3 and 4 to 1e-8, from tiny starts too", "[verbs]") {
  RandomStream random(2632);
  const Index d = 3;
  const Matrix<double> U = detail::orthonormal_columns<double>(random, d, d);
  const Matrix<double> V = detail::orthonormal_columns<double>(random, d, d);
  const Vector<double> target{{2, 1, 0.5}};
  // All entries are seen: the loss is |M - target|^2.
  std::vector<MatrixEntry> all;
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i < d; ++i) all.push_back({i, j});
  const Matrix<double> aim = U * target.asDiagonal() * V.transpose();
  const Dataset<> data(MatrixMeasurements<double>::entries(d, d, all), aim.reshaped());
  const auto check_start = [&](const Vector<double>& start, Index depth, double end) {
    // The fastest mode rises at a quarter of the time of the slowest.
    std::vector<double> times;
    for (int k = 1; k <= 20; ++k) times.push_back(end * k / 20);
    std::vector<Index> widths(static_cast<std::size_t>(depth + 1), 4);
    widths.front() = widths.back() = d;
    const DeepFactorization<double> model(widths);
    const auto layers = balanced_layers<double>(random, U * start.asDiagonal() * V.transpose(),
                                                std::vector<Index>(static_cast<std::size_t>(depth - 1), 4));
    const BalancedModes<> modes = balanced_modes(start, target, depth, times).require_ok();
    const auto run = simulate(model, data, pack_layers(layers), accurate_to(times));
    CAPTURE(depth, start, run.method, run.message);
    REQUIRE(run.ok());
    REQUIRE(run.values.size() == times.size());
    for (std::size_t k = 0; k < times.size(); ++k) {
      const Matrix<double> seen = U.transpose() * model.product(run.values[k]) * V;
      CHECK((seen - Matrix<double>(modes.values.col(static_cast<Index>(k)).asDiagonal())).norm() <= 1e-8);
    }
    // The last mode has risen.
    CHECK(modes.values(d - 1, static_cast<Index>(times.size()) - 1) > 0.4);
    // 200 to 800 were measured; steps of order 3 were some thousands.
    CHECK(run.steps < 1000);
  };
  for (const Index depth : {Index{2}, Index{3}, Index{4}}) {
    check_start(Vector<double>{{0.2, 0.1, 0.05}}, depth, 3);
    for (const double size : {1e-2, 1e-3, 1e-4}) {
      // Of the slowest mode alone, s' = 2 N s^(2 - 2 / N) target until it is near the target.
      const double power = 1 - 2 / static_cast<double>(depth);
      const double rate = 2 * static_cast<double>(depth) * target[d - 1];
      const double rise = depth == 2 ? std::log(1 / size) / rate : std::pow(size, -power) / (power * rate);
      check_start(Vector<double>::Constant(d, size), depth, 1.4 * rise);
    }
  }
}

TEST_CASE("simulate meets the limit of a single hidden neuron to 1e-8", "[verbs]") {
  RandomStream random(2633);
  const Index d = 5;
  const DeepLinearNetwork<double> net(d, {1});
  for (const double delta : {0.0, 0.3, 2.0, -0.9, -0.99}) {
    const Dataset<> data = gaussian_data(random, 3, d);
    // Against X^T y: the last two change the sign of a.
    const Vector<double> w = (random_vector(random, d) + data.X().transpose() * data.y()).normalized();
    const double a = -std::sqrt(delta + 1);
    const SingleNeuronLimit<> limit = single_neuron_limit(data, a, w).require_ok();
    CHECK(std::isfinite(limit.crossing_time) == (delta < 0));
    Vector<double> w0(d + 1);
    w0 << w, a;
    SimulateOptions<> options = accurate_to({});
    options.loss = 1e-20 * data.y().squaredNorm();
    const auto run = simulate(net, data, w0, options);
    CAPTURE(delta, run.method, run.message);
    REQUIRE(run.ok());
    CHECK((run.w.head(d) - limit.w).norm() <= 1e-8 * limit.w.norm());
    CHECK_THAT(run.w[d], near(limit.a, 1e-8, 0));
  }
}

TEST_CASE("where a flow is stiff implicit steps take over from explicit ones, and soon", "[verbs]") {
  const auto [net, data, w0] = stiff_problem();
  const auto run = simulate(net, data, w0, {.loss = 1e-12, .tolerance = 1e-7});
  CAPTURE(run.method, run.message);
  CHECK(run.status == Status::event);
  const std::string given_up = "after DormandPrince was given up at step ";
  CHECK_THAT(run.method, text_contains("Ros34Pw2") && text_contains(given_up));
  // Of 400 000; 301 were measured, of which a fast mode has most.
  CHECK(std::stoi(run.method.substr(run.method.find(given_up) + given_up.size())) < 600);
  CHECK_THAT(run.loss, near(1e-12, 1e-6, 0));
  // A time of 1 is 20 000 steps away.
  CHECK_THAT(simulate(net, data, w0, {.tolerance = 1e-7, .max_time = 1.0}).method, text_contains(given_up));
}

TEST_CASE("explicit steps on plateaus are not given up", "[verbs]") {
  RandomStream random(2635);
  const Index d = 3;
  std::vector<MatrixEntry> all;
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i < d; ++i) all.push_back({i, j});
  // Between the modes the loss rests for times in which stability holds the steps.
  const Matrix<double> target = Vector<double>{{20, 1, 0.5}}.asDiagonal();
  const Dataset<> data(MatrixMeasurements<double>::entries(d, d, all), target.reshaped());
  const DeepFactorization<double> model({d, 4, 4, d});
  const auto start = balanced_layers<double>(random, 1e-4 * Matrix<double>::Identity(d, d), {4, 4});
  const auto run = simulate(model, data, pack_layers(start), {.loss = 1e-8, .tolerance = 1e-7});
  CAPTURE(run.method, run.message);
  CHECK(run.status == Status::event);
  CHECK_THAT(run.method, text_contains("DormandPrince"));
  CHECK(run.method.find("given up") == std::string::npos);
  CHECK(run.steps > 500);  // ten windows of the watch
}

TEST_CASE("two steppers pass a small loss at one time", "[verbs]") {
  RandomStream random(2636);
  const auto go_on = [](const StepView<double>& /*view*/) { return Action::proceed; };
  const DeepLinearNetwork<double> net(5, {4}, false, 2);
  const Dataset<> data = Dataset<>::with_outputs(random_matrix(random, 4, 5), random_matrix(random, 4, 2));
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(0.5));
  SimulateOptions<> options{.loss = 1e-12 * data.Y().squaredNorm(), .tolerance = 1e-7};
  const auto first = simulate(net, data, w0, options);
  SimulateOptions<> observed = options;
  observed.observers = {go_on};
  const auto second = simulate(net, data, w0, observed);
  options.tolerance = 1e-11;
  const auto fine = simulate(net, data, w0, options);
  CAPTURE(first.method, second.method, fine.method);
  REQUIRE((first.ok() && second.ok() && fine.ok()));
  CHECK_THAT(first.method, text_contains("DormandPrince") && text_contains("to the residual within 1e-05"));
  CHECK_THAT(second.method, text_contains("Ros34Pw2") && text_contains("to the residual within 1e-05"));
  // Errors of 1e-5 a step over the log of the loss, 28: 1e-9 to 1e-8 and 2e-6 to 3e-6 were measured, and 1e-3 without
  // the residual.
  CHECK_THAT(first.t, near(fine.t, 1e-6, 0));
  CHECK_THAT(second.t, near(fine.t, 1e-5, 0));
}

TEST_CASE("a run that is killed in its explicit steps takes the same road when it is resumed", "[verbs]") {
  const auto [net, data, w0] = stiff_problem();
  const TemporaryFolder folder;
  const auto check_resumed = [&, &net = net, &data = data, &w0 = w0](const char* name, SimulateOptions<> options,
                                                                     Index last) {
    const auto whole = simulate(net, data, w0, options);
    CAPTURE(whole.method);
    CHECK_THAT(whole.method, text_contains("Ros34Pw2"));
    options.checkpoint = {.file = folder.path() / name, .every_steps = 100};
    SimulateOptions<> killed = options;
    Index steps = 0;
    killed.quantities = {{"steps", [&](const Vector<double>& /*w*/) {
                            if (++steps == last) throw std::runtime_error("killed");
                            return 0.0;
                          }}};
    CHECK_THROWS_WITH(simulate(net, data, w0, killed), "killed");
    steps = last + 1;
    const auto resumed = simulate(net, data, w0, killed);
    CHECK(resumed.method == whole.method);
    CHECK(resumed.w == whole.w);
    // Called again it makes no step, not one explicit one either.
    const auto content = [&] {
      std::ifstream file(folder.path() / (std::string(name) + ".explicit"), std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(file), {});
    };
    const std::string before = content();
    CHECK_FALSE(before.empty());
    const auto again = simulate(net, data, w0, killed);
    CHECK(content() == before);
    CHECK(again.method == whole.method);
    CHECK(again.w == whole.w);
    CHECK(again.steps == whole.steps);
  };
  // Some 6500 explicit steps, more than are made; fewer than that many are left when the run is resumed.
  check_resumed("run", {.tolerance = 1e-7, .max_time = 0.35}, 3000);
  // Given up as stiff in some 300 steps.
  check_resumed("stiff", {.loss = 1e-12, .tolerance = 1e-7}, 270);
}

TEST_CASE("at fine tolerances a smooth network of units takes steps of higher order, one with kinks does not",
          "[verbs]") {
  RandomStream random(2634);
  const Dataset<> data = gaussian_data(random, 4, 3);
  const FullyConnected<double, activation::Tanh> smooth(3, {6});
  const FullyConnected<double, activation::LeakyRelu> kinked(3, {6});
  const Unbiased<FullyConnected<double, activation::Tanh>> unbiased(
      smooth, smooth.initial_parameters(random, Scale<>::from_value(1.0)));
  const SimulateOptions<> options{.tolerance = 1e-7, .max_time = 0.01};
  CHECK_THAT(simulate(unbiased, data, unbiased.start(), options).method, text_contains("DormandPrince"));
  // Observers see one run only.
  Index seen = 0;
  const auto count = [&](const StepView<double>& /*view*/) {
    ++seen;
    return Action::proceed;
  };
  SimulateOptions<> observed = options;
  observed.observers = {count};
  const auto run = simulate(unbiased, data, unbiased.start(), observed);
  CHECK_THAT(run.method, text_contains("Ros34Pw2"));
  CHECK(run.method.find("DormandPrince") == std::string::npos);
  CHECK(seen == run.steps);
  CHECK_THAT(simulate(unbiased, data, unbiased.start(), {.max_time = 0.01}).method, text_contains("Ros2"));
  CHECK_THAT(simulate(kinked, data, unbiased.start(), options).method, text_contains("Ros2"));
}
