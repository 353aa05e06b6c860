// How a sweep scales with threads: panel c of Figure 1, as a quick run of it computes, on one thread and on more. The
// table must be the same; `speedup` is the time on one thread over that on this number of threads.

#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <string>
#include <thread>

#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/sweep/critical_scale.hpp"
#include "richflow/sweep/sweep.hpp"

namespace {

using namespace richflow;

constexpr Index dimension = 1000;

/// The largest alpha that learns from N samples.
NamedNumbers critical_numbers(const Cell& cell) {
  SparseRegressionOptions options;
  options.num_samples = cell.integer("N");
  options.num_inputs = dimension;
  options.seed = 1;
  options.stream = static_cast<std::uint64_t>(cell.integer("seed"));
  const SparseRegression<> problem = sparse_regression(options);
  HypentropyPath<> path(problem.dataset, Hypentropy<>::uniform(dimension, Scale<>::from_value(1.0)));
  const CriticalScale critical = largest_scale(
      [&](Scale<> scale) { return problem.population_error(path.solve(scale).require_ok().beta) <= 0.025; });
  return {{"log_alpha", critical.kind == CriticalKind::never ? -INFINITY : critical.scale.log()}};
}

struct OneThread {
  double seconds = 0.0;
  std::string table = {};
};

OneThread& one_thread() {
  static OneThread result;
  return result;
}

void panel_c(benchmark::State& state) {
  const Sweep sweep{
      "critical", Grid({Axis{"N", {44, 48, 52, 56, 60, 64, 68, 72, 80, 100, 125}}, seed_axis(4)}), {"log_alpha"}};
  SweepOptions options;
  options.cost = [](const Cell& cell) { return cell["N"] * cell["N"]; };
  const ThreadExecutor threads{{.threads = static_cast<int>(state.range(0))}};
  std::string table;
  double seconds = 0.0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    table = run_sweep(sweep, critical_numbers, options, threads).require_ok().csv();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  seconds /= static_cast<double>(state.iterations());
  if (state.range(0) == 1) one_thread() = {seconds, table};
  if (one_thread().table.empty()) return;  // only a part of the benchmarks was chosen
  if (table != one_thread().table) state.SkipWithError("the table differs from that of one thread");
  state.counters["speedup"] = one_thread().seconds / seconds;
}

BENCHMARK(panel_c)->Unit(benchmark::kMillisecond)->UseRealTime()->Apply([](benchmark::internal::Benchmark* b) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (int threads = 1; threads <= cores; threads *= 2) b->Arg(threads);
});

}  // namespace
