// The minimum-l1 interpolator: ours against CLP's dual simplex on the same linear program.

#include <benchmark/benchmark.h>

#include "problem.hpp"
#include "richflow/minimizers/min_norm.hpp"

#ifdef HAVE_CLP
#include <ClpSimplex.hpp>
#include <CoinPackedMatrix.hpp>
#endif

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

void richflow_min_l1(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  MinL1Result<> result;
  for (auto _ : state) {
    result = min_l1_interpolator(regression.dataset);
    benchmark::DoNotOptimize(result.objective);
  }
  if (!result.ok()) state.SkipWithError("no vertex was proved optimal");
  state.counters["objective"] = result.objective;
  state.counters["gap"] = result.duality_gap;
  state.counters["pivots"] = static_cast<double>(result.pivots);
}

#ifdef HAVE_CLP
void clp_dual_simplex(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  const Matrix<double>& X = regression.dataset.X();
  const Vector<double>& y = regression.dataset.y();
  const auto n = static_cast<int>(X.rows());
  const auto d = static_cast<int>(X.cols());
  // beta = p - m with p, m >= 0; columns of [X, -X] in compressed form.
  std::vector<CoinBigIndex> starts;
  std::vector<int> rows;
  std::vector<double> values;
  for (int j = 0; j <= 2 * d; ++j) starts.push_back(static_cast<CoinBigIndex>(j) * n);
  for (int j = 0; j < 2 * d; ++j)
    for (int i = 0; i < n; ++i) {
      rows.push_back(i);
      values.push_back(j < d ? X(i, j) : -X(i, j - d));
    }
  const std::vector<double> ones(static_cast<std::size_t>(2 * d), 1.0);
  double objective = 0;
  for (auto _ : state) {
    ClpSimplex model;
    model.setLogLevel(0);
    model.loadProblem(2 * d, n, starts.data(), rows.data(), values.data(), nullptr, nullptr, ones.data(), y.data(),
                      y.data());
    model.dual();
    objective = model.objectiveValue();
  }
  state.counters["objective"] = objective;
  const double ours = min_l1_interpolator(regression.dataset).objective;
  state.counters["relative_difference"] = (objective - ours) / ours;
}
BENCHMARK_CAPTURE(clp_dual_simplex, noisy, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(clp_dual_simplex, noise_free, false)->Unit(benchmark::kMillisecond);
#endif

BENCHMARK_CAPTURE(richflow_min_l1, noisy, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(richflow_min_l1, noise_free, false)->Unit(benchmark::kMillisecond);

}  // namespace
