// Steps of an algorithm on the squared diagonal net, d = 1000, N = 100, through `integrate`.
//
// batch_of_one: SGD with one sample a step, beside the same steps as one writes them down with Eigen, with the samples
// row after row and the weights changed where they are. `plain_ns` and `ours_ns` are of a step at their best, measured
// in turn, and `of_plain` is their quotient. The argument is 1 with an EffectiveStart as observer. full_batch: steps
// that see all samples; `observer_ns` with an EffectiveStart, `overhead` what that adds. stochastic_gradient.py has the
// loops of NumPy and PyTorch.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <numeric>
#include <vector>

#include "richflow/bias/effective_start.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/train/stochastic_gradient.hpp"

namespace {

using namespace richflow;

const Dataset<>& data() {
  static const SparseRegression<> regression = [] {
    SparseRegressionOptions options;
    options.num_samples = 100;
    options.num_inputs = 1000;
    return sparse_regression(options);
  }();
  return regression.dataset;
}

const SquaredDiagonalNet<double>& net() {
  static const SquaredDiagonalNet<double> model(data().num_inputs());
  return model;
}

Vector<double> start() { return net().initial_parameters(Scale<>::from_value(0.1)); }

/// SGD, batch 1, written down.
Vector<double> plain_sgd(const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>& X, double step,
                         Index steps) {
  const SubnormalScope flushes(SubnormalMode::flush());
  const Index d = X.cols();
  const Vector<double> w0 = start();
  Eigen::ArrayXd p = w0.head(d);
  Eigen::ArrayXd m = w0.tail(d);
  std::vector<Index> order(static_cast<std::size_t>(X.rows()));
  for (Index k = 0; k < steps; ++k) {
    const Index position = k % X.rows();
    if (position == 0) {
      std::iota(order.begin(), order.end(), Index(0));
      RandomStream random(1, static_cast<std::uint64_t>(k / X.rows()));
      shuffle(random, order);
    }
    const Index n = order[static_cast<std::size_t>(position)];
    const Eigen::Map<const Eigen::ArrayXd> x(&X(n, 0), d);
    const double f = (x * (p.square() - m.square())).sum();
    const double c = 4.0 * step * (f - data().y()[n]);
    p -= c * x * p;
    m += c * x * m;
  }
  Vector<double> w(2 * d);
  w << p.matrix(), m.matrix();
  return w;
}

/// Of the processor: others on the machine take none of it.
template <class Run>
double seconds_of(const Run& run) {
  const std::clock_t before = std::clock();
  run();
  return static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
}

Vector<double> integrate_descent(const Sampling<double>& sampling, double step, Index steps, bool observes) {
  const StochasticGradient problem(net(), data(), sampling);
  EffectiveStart effective(net(), data(), start());
  IntegrateOptions<double> options;
  if (observes) options.observers = {effective};
  return integrate(problem, start(), Steps{steps}, Descent{}, ConstantStep{step}, options).w;
}

/// With an observer: 0 or 1.
void batch_of_one(benchmark::State& state) {
  const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> X = data().X();
  constexpr double step = 1e-5;
  constexpr Index steps = 100'000;
  double plain = 1e300;
  double ours = 1e300;
  double difference = 0.0;
  for (auto _ : state) {
    Vector<double> w, w_plain;
    plain = std::min(plain, seconds_of([&] { w_plain = plain_sgd(X, step, steps); }));
    ours =
        std::min(ours, seconds_of([&] { w = integrate_descent({.batch_size = 1}, step, steps, state.range(0) != 0); }));
    difference = (w - w_plain).norm() / w_plain.norm();
  }
  state.counters["plain_ns"] = 1e9 * plain / steps;
  state.counters["ours_ns"] = 1e9 * ours / steps;
  state.counters["of_plain"] = ours / plain;
  state.counters["difference"] = difference;
}

void full_batch(benchmark::State& state) {
  constexpr double step = 1e-6;
  constexpr Index steps = 5'000;
  double alone = 1e300;
  double observed = 1e300;
  for (auto _ : state) {
    alone = std::min(alone, seconds_of([&] { integrate_descent({}, step, steps, false); }));
    observed = std::min(observed, seconds_of([&] { integrate_descent({}, step, steps, true); }));
  }
  state.counters["step_ns"] = 1e9 * alone / steps;
  state.counters["observer_ns"] = 1e9 * observed / steps;
  state.counters["overhead"] = observed / alone - 1.0;
}

BENCHMARK(batch_of_one)->Unit(benchmark::kMillisecond)->UseRealTime()->Arg(0)->Arg(1);
BENCHMARK(full_batch)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
