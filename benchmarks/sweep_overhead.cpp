// What a sweep costs beside its cells: ten thousand cells that do nothing, on one thread. The naive road is a loop
// that writes a line and flushes it; it can be resumed by nobody.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "richflow/sweep/sweep.hpp"

namespace {

using namespace richflow;

constexpr Index cells = 10000;

Sweep empty_sweep() { return {"empty", Grid({Axis{"N", {1.0, 2.0}}, seed_axis(cells / 2)}), {"x"}}; }

NamedNumbers nothing(const Cell& cell) { return {{"x", cell["seed"]}}; }

std::filesystem::path folder() {
  return std::filesystem::temp_directory_path() / ("richflow-benchmark-" + std::to_string(::getpid()));
}

void report(benchmark::State& state) {
  state.counters["per_cell"] = benchmark::Counter(
      static_cast<double>(cells), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  std::filesystem::remove_all(folder());
}

void richflow_sweep(benchmark::State& state, bool with_files) {
  const Sweep sweep = empty_sweep();
  SweepOptions options;
  if (with_files) options.folder = folder();
  for (auto _ : state) {
    const SweepResult result = run_sweep(sweep, nothing, options, ThreadExecutor{{.threads = 1}});
    if (!result.ok()) state.SkipWithError("cells are missing");
  }
  report(state);
}

void naive_loop(benchmark::State& state) {
  const Sweep sweep = empty_sweep();
  std::filesystem::create_directories(folder());
  for (auto _ : state) {
    std::ofstream out(folder() / "naive.csv");
    out.precision(17);
    for (Index i = 0; i < sweep.grid.size(); ++i) {
      const Cell cell = sweep.grid.cell(i);
      out << cell["N"] << ',' << cell["seed"] << ',' << nothing(cell)[0].second << '\n' << std::flush;
    }
  }
  report(state);
}

BENCHMARK_CAPTURE(richflow_sweep, in_memory, false)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(richflow_sweep, on_file, true)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(naive_loop)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
