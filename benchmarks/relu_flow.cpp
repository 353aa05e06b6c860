// Gradient flow of ReLU networks to L <= 1e-9 (the sizes of Figure 6: depth, log10 of alpha^D, seed), and the wide
// univariate network of Figure 7 (a) at alpha = 1e-4 to L <= 1e-8: tangent-kernel steps beside gradient descent with
// step 0.01 (0.005 for Figure 7), halved until it is stable. Each row reports the distance of its end from a tight
// reference.

#include <benchmark/benchmark.h>

#include <cmath>
#include <limits>

#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/models/univariate_relu.hpp"
#include "richflow/problems/circle.hpp"

namespace {

using namespace richflow;

constexpr double loss_goal = 1e-9;
constexpr double forever = std::numeric_limits<double>::infinity();

/// The network, data and start of one case of Figure 6.
struct Case {
  explicit Case(const benchmark::State& state)
      : problem(circle_teacher({.seed = 1, .stream = static_cast<std::uint64_t>(state.range(2))})),
        net(ReluNetwork<double>::uniform_width(2, state.range(0), 30)),
        flow(net, problem.dataset) {
    RandomStream random(2, static_cast<std::uint64_t>(state.range(2)));
    const double log_scale = std::log(10.0) * static_cast<double>(state.range(1));
    start = net.initial_parameters(random, Scale<>::from_log(log_scale / static_cast<double>(state.range(0))));
  }

  [[nodiscard]] Solution<double> steps(double tolerance) const {
    return integrate(flow, start, TimeSpan{0, forever}, Ros2{},
                     PiController<>{.tolerance = {.relative = tolerance, .absolute = 0}},
                     {.events = {loss_below(loss_goal)}, .max_steps = 200000});
  }

  CircleTeacher<> problem;
  ReluNetwork<double> net;
  GradientFlow<ReluNetwork<double>> flow;
  Vector<double> start = {};
};

void report(benchmark::State& state, const Case& c, const Solution<double>& solution) {
  constexpr double tight = 1e-5;
  const auto reference = c.steps(tight);
  state.counters["error"] = (solution.w - reference.w).norm() / reference.w.norm();
  state.counters["loss"] = c.flow.loss(solution.w);
  state.counters["arrived"] = solution.status == Status::event ? 1 : 0;
  state.counters["steps"] = static_cast<double>(solution.step);
  state.counters["t"] = solution.t;
}

void tangent_steps(benchmark::State& state, double tolerance) {
  const Case c(state);
  Solution<double> solution;
  for (auto _ : state) solution = c.steps(tolerance);
  report(state, c, solution);
}

void descent(benchmark::State& state) {
  const Case c(state);
  Solution<double> solution;
  double step = 0.01;
  for (; step > 1e-9; step /= 2) {
    // A stable step first: what is timed is one descent with it.
    const auto trial = gradient_descent(c.flow, c.start, {.step = step, .iterations = 2000, .loss_below = loss_goal});
    // A long step may also end with every unit dead, at a loss below that of a large start.
    Vector<double> velocity(trial.w.size());
    c.flow(0.0, trial.w, velocity);
    const bool is_dead = c.flow.loss(trial.w) > loss_goal && velocity.norm() == 0.0;
    if (trial.ok() && !is_dead && c.flow.loss(trial.w) <= c.flow.loss(c.start)) break;
  }
  for (auto _ : state)
    solution = gradient_descent(c.flow, c.start, {.step = step, .iterations = 6000000, .loss_below = loss_goal});
  report(state, c, solution);
  state.counters["eta"] = step;
}

void cases(benchmark::internal::Benchmark* b) {
  for (const int depth : {2, 3, 5})
    for (const int log_scale : {-2, 0, 2})
      for (const int seed : {0, 1, 2}) b->Args({depth, log_scale, seed});
  b->Unit(benchmark::kMillisecond);
}

// The tolerance of the figures, and one at which most ends are within 1e-3 of the reference.
BENCHMARK_CAPTURE(tangent_steps, of_figures, 3e-3)->Apply(cases);
BENCHMARK_CAPTURE(tangent_steps, accurate, 3e-4)->Apply(cases);
BENCHMARK(descent)->Apply(cases)->Iterations(1);

using Wide = Unbiased<UnivariateRelu<double>>;

Dataset<> spline_data() {
  Matrix<double> X(9, 1);
  Vector<double> y(9);
  for (Index j = 0; j < 9; ++j) {
    X(j, 0) = static_cast<double>(j - 4) * std::sqrt(3.0) / 4;
    y[j] = j >= 3 && j <= 5 ? 1.0 : 0.0;
  }
  return Dataset(std::move(X), std::move(y));
}

template <class Run>
void wide_network(benchmark::State& state, const Run& run) {
  const Dataset<> data = spline_data();
  RandomStream random(7);
  const UnivariateRelu<double> net(10000);
  const Vector<double> start = net.initial_parameters(random, Scale<>::from_value(1e-4));
  const GradientFlow flow(Wide(net, start), data);
  Solution<double> solution;
  for (auto _ : state) solution = run(flow, start);
  state.counters["steps"] = static_cast<double>(solution.step);
  state.counters["t"] = solution.t;
  state.counters["loss"] = flow.loss(solution.w);
}

void figure_7a_tangent_steps(benchmark::State& state) {
  wide_network(state, [](const auto& flow, const Vector<double>& start) {
    return integrate(flow, start, TimeSpan{0, forever}, Ros2{},
                     PiController<>{.tolerance = {.relative = 1e-2, .absolute = 0}}, {.events = {loss_below(1e-8)}});
  });
}

void figure_7a_descent(benchmark::State& state) {
  wide_network(state, [](const auto& flow, const Vector<double>& start) {
    return gradient_descent(flow, start, {.step = 0.005, .iterations = 100000, .loss_below = 1e-8});
  });
}

BENCHMARK(figure_7a_tangent_steps)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(figure_7a_descent)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
