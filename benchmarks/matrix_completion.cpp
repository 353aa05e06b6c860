// Matrix completion to L <= 1e-10 (Figure 5: 10 x 10, rank one, 60 observed entries): gradient descent on U and V, and
// the lifted flow. Widths k = 10, 100, 1000 at entry variances alpha^2 = alpha0 / sqrt(k), alpha0 = 1e-3, 0.1, 10; and
// the lifted flow against the width. Each row reports the distance of its end from the limit, solved tightly.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "richflow/flow/gradient_flow.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/problems/matrix_completion.hpp"

namespace {

using namespace richflow;

using Completion = MatrixFactorization<double>;

constexpr double loss_goal = 1e-10;

const MatrixCompletion<>& problem() {
  static const MatrixCompletion<> drawn = matrix_completion({.seed = 1});
  return drawn;
}

/// A point of the benchmark: its width, the variance of its entries, and a start at full width.
struct Point {
  Index width;
  double alpha2;
  Completion model;
  Vector<double> start;
};

Point point(const benchmark::State& state) {
  constexpr std::array<Index, 3> widths = {10, 100, 1000};
  constexpr std::array<double, 3> alpha0 = {1e-3, 0.1, 10.0};
  const auto number = static_cast<std::size_t>(state.range(0));
  const Index width = widths[number / 3];
  const double alpha2 = alpha0[number % 3] / std::sqrt(static_cast<double>(width));
  const Completion model(10, 10, width);
  RandomStream random(7);
  return {width, alpha2, model, model.initial_parameters(random, Scale<>::from_value(std::sqrt(alpha2)))};
}

Matrix<double> tight_limit(const Completion& reduced, const Vector<double>& start) {
  const LiftedFlow flow(reduced, problem().observations.dataset);
  return reduced.product(integrate_to_loss(flow, start, 1e-20, 1e-7).require_ok().w);
}

void report(benchmark::State& state, double width, double alpha2, const Matrix<double>& M,
            const Matrix<double>& limit) {
  state.counters["k"] = width;
  state.counters["alpha2"] = alpha2;
  state.counters["error"] = (M - limit).norm() / limit.norm();
}

void lifted_flow(benchmark::State& state) {
  const Point at = point(state);
  const Completion reduced = at.model.reduced();
  const LiftedFlow flow(reduced, problem().observations.dataset);
  Solution<double> solution;
  for (auto _ : state) {
    solution = integrate_to_loss(flow, at.model.reduce(at.start), loss_goal, 1e-4);
    if (!solution.ok()) state.SkipWithError("the loss was not reached");
  }
  report(state, static_cast<double>(at.width), at.alpha2, reduced.product(solution.w),
         tight_limit(reduced, at.model.reduce(at.start)));
  state.counters["steps"] = static_cast<double>(solution.stats.accepted);
}

/// Explicit Runge-Kutta on the reduced factor: fewer operations a step, more steps the stiffer, that is the richer.
void dormand_prince_on_reduced(benchmark::State& state) {
  const Point at = point(state);
  const Completion reduced = at.model.reduced();
  const LiftedFlow flow(reduced, problem().observations.dataset);
  Solution<double> solution;
  for (auto _ : state) {
    const Vector<double> start = at.model.reduce(at.start);
    solution = integrate(flow, start, TimeSpan{0.0, std::numeric_limits<double>::infinity()}, DormandPrince{},
                         PiController<>{.tolerance = {.relative = 1e-7, .absolute = 0.0}},
                         {.events = {loss_below(loss_goal).at_step_end()}, .max_steps = 200'000});
  }
  report(state, static_cast<double>(at.width), at.alpha2, reduced.product(solution.w),
         tight_limit(reduced, at.model.reduce(at.start)));
  state.counters["steps"] = static_cast<double>(solution.stats.accepted);
  state.counters["reached"] = solution.ok() ? 1 : 0;
}

/// Plain descent of `model` from `start_of_run()` with steps of 1e-3, or as long as they are stable at the width of the
/// point, times `shortened`; the loss is looked at every 50.
template <class Start>
void descend(benchmark::State& state, const Point& at, const Completion& model, const Start& start_of_run,
             double shortened = 1.0) {
  const GradientFlow flow(model, problem().observations.dataset);
  const double step = shortened * std::min(1e-3, 0.1 / (at.alpha2 * static_cast<double>(at.width)));
  Vector<double> w, dw(model.num_parameters());
  Index steps = 0;
  bool reached = false;
  for (auto _ : state) {
    w = start_of_run();
    reached = false;
    for (steps = 0; steps < 5'000'000 && !reached; ++steps) {
      flow(0.0, w, dw);
      w += step * dw;
      if (steps % 50 == 49) reached = flow.loss(w) <= loss_goal;
    }
  }
  report(state, static_cast<double>(at.width), at.alpha2, model.product(w),
         tight_limit(at.model.reduced(), at.model.reduce(at.start)));
  state.counters["steps"] = static_cast<double>(steps);
  state.counters["reached"] = reached ? 1 : 0;
}

void gradient_descent_on_factors(benchmark::State& state) {
  const Point at = point(state);
  descend(state, at, at.model, [&] { return at.start; });
}

/// Descent with steps so short that it ends about as near to the limit of the flow as the lifted flow does.
void gradient_descent_as_accurate(benchmark::State& state) {
  const Point at = point(state);
  descend(
      state, at, at.model, [&] { return at.start; }, 1e-3);
}

/// The same iterates as `gradient_descent_on_factors`, of the exact reduction to D columns: cheaper than the lifted
/// flow where fifty steps are enough, deep in the kernel regime.
void gradient_descent_on_reduced(benchmark::State& state) {
  const Point at = point(state);
  descend(state, at, at.model.reduced(), [&] { return at.model.reduce(at.start); });
}

/// The start drawn as a Wishart factor, at alpha^2 k = 0.01: what a point of the figure costs at k = 10^range.
void lifted_flow_at_width(benchmark::State& state) {
  const auto width = static_cast<Index>(std::llround(std::pow(10.0, static_cast<double>(state.range(0)))));
  const double alpha2 = 0.01 / static_cast<double>(width);
  const Completion model(10, 10, width);
  const Completion reduced = model.reduced();
  Vector<double> start;
  Solution<double> solution;
  for (auto _ : state) {
    RandomStream random(7);
    const LiftedFlow flow(reduced, problem().observations.dataset);
    start = model.reduced_initial_parameters(random, Scale<>::from_value(std::sqrt(alpha2)));
    solution = integrate_to_loss(flow, start, loss_goal, 1e-4);
    if (!solution.ok()) state.SkipWithError("the loss was not reached");
  }
  report(state, static_cast<double>(width), alpha2, reduced.product(solution.w), tight_limit(reduced, start));
  state.counters["steps"] = static_cast<double>(solution.stats.accepted);
}

BENCHMARK(lifted_flow)->DenseRange(0, 8)->Unit(benchmark::kMillisecond);
BENCHMARK(dormand_prince_on_reduced)->DenseRange(0, 8)->Unit(benchmark::kMillisecond);
BENCHMARK(gradient_descent_on_factors)->DenseRange(0, 8)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(gradient_descent_as_accurate)->Arg(2)->Arg(5)->Arg(8)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(gradient_descent_on_reduced)->DenseRange(0, 8)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(lifted_flow_at_width)->DenseRange(1, 9)->Unit(benchmark::kMillisecond);

}  // namespace
