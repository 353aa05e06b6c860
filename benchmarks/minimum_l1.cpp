// The minimum-l1 interpolator: ours by both of its roads, the homotopy written down plainly, and CLP's dual simplex on
// the same linear program. With the folder of RICHFLOW_PROBLEM_DIR the problems are written there for
// highs_minimum_l1.py, which adds SciPy's HiGHS.

#include <benchmark/benchmark.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <vector>

#include "problem.hpp"
#include "richflow/data/table.hpp"
#include "richflow/minimizers/min_norm.hpp"

#ifdef HAVE_CLP
#include <ClpSimplex.hpp>
#include <CoinPackedMatrix.hpp>
#endif

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

void measure(benchmark::State& state, const Dataset<>& data, MinL1Road road) {
  MinL1Result<> result;
  for (auto _ : state) {
    result = min_l1_interpolator(data, road);
    benchmark::DoNotOptimize(result.beta.data());
  }
  if (!result.ok() || result.road != road) state.SkipWithError("no vertex was proved optimal by this road");
  state.counters["objective"] = result.objective;
  state.counters["gap"] = result.duality_gap;
  state.counters["knots"] = static_cast<double>(result.knots);
  state.counters["pivots"] = static_cast<double>(result.pivots);
}

void richflow_min_l1(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  if (const char* folder = std::getenv("RICHFLOW_PROBLEM_DIR")) {
    const std::filesystem::path file = std::filesystem::path(folder) / (noisy ? "noisy" : "noise_free");
    write_npy<double>(file.string() + "_X.npy", regression.dataset.X());
    write_npy<double>(file.string() + "_y.npy", Matrix<double>(regression.dataset.y()));
  }
  measure(state, regression.dataset, MinL1Road::homotopy);
}

void richflow_simplex(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  measure(state, regression.dataset, MinL1Road::simplex);
}

void richflow_large(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy, 500, 100000);
  measure(state, regression.dataset, MinL1Road::homotopy);
}

/// The homotopy as textbooks have it: at each knot all slopes, and the Gram matrix of what is in play factored afresh.
Vector<double> plain_homotopy(const Dataset<>& data) {
  const Matrix<double>& X = data.X();
  const Vector<double>& y = data.y();
  const Index d = X.cols();
  Vector<double> beta = Vector<double>::Zero(d);
  Vector<double> slopes = X.transpose() * y;
  double lambda = 0;
  Index entering = 0;
  lambda = slopes.cwiseAbs().maxCoeff(&entering);
  std::vector<Index> active{entering};
  std::vector<bool> is_active(static_cast<std::size_t>(d), false);
  is_active[static_cast<std::size_t>(entering)] = true;
  Index leaving = -1;
  while (lambda > 0) {
    const auto k = static_cast<Index>(active.size());
    Matrix<double> columns(X.rows(), k);
    Vector<double> signs(k), values(k);
    for (Index j = 0; j < k; ++j) {
      const Index i = active[static_cast<std::size_t>(j)];
      columns.col(j) = X.col(i);
      signs[j] = slopes[i] > 0 ? 1 : -1;
      values[j] = beta[i];
    }
    const Vector<double> way = (columns.transpose() * columns).eval().llt().solve(signs);
    const Vector<double> fall = X.transpose() * (columns * way);
    double step = lambda;
    const bool fits = (y - columns * (values + lambda * way)).norm() <= 1e-12 * y.norm();
    entering = -1;
    Index zero = -1;
    // Where those in play fit y at lambda = 0, the slopes of all fall alike.
    for (Index i = 0; i < d && !fits; ++i) {
      if (is_active[static_cast<std::size_t>(i)] || i == leaving) continue;
      for (const double side : {1.0, -1.0}) {
        const double t = (lambda - side * slopes[i]) / (1 - side * fall[i]);
        if (t > 1e-12 * lambda && t < step) {
          step = t;
          entering = i;
        }
      }
    }
    for (Index j = 0; j < k; ++j) {
      const double t = -beta[active[static_cast<std::size_t>(j)]] / way[j];
      if (t > 1e-12 * lambda && t < step) {
        step = t;
        zero = j;
      }
    }
    for (Index j = 0; j < k; ++j) beta[active[static_cast<std::size_t>(j)]] += step * way[j];
    slopes -= step * fall;
    lambda -= step;
    leaving = -1;
    if (zero >= 0) {
      leaving = active[static_cast<std::size_t>(zero)];
      beta[leaving] = 0;
      is_active[static_cast<std::size_t>(leaving)] = false;
      active.erase(active.begin() + zero);
    } else if (entering >= 0) {
      active.push_back(entering);
      is_active[static_cast<std::size_t>(entering)] = true;
    } else {
      break;
    }
  }
  return beta;
}

void plain(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  const Dataset<>& data = regression.dataset;
  Vector<double> beta;
  for (auto _ : state) {
    beta = plain_homotopy(data);
    benchmark::DoNotOptimize(beta.data());
  }
  const double ours = min_l1_interpolator(data).objective;
  state.counters["objective"] = beta.lpNorm<1>();
  state.counters["relative_difference"] = (beta.lpNorm<1>() - ours) / ours;
  state.counters["residual"] = data.residual_norm(beta) / data.y().norm();
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
BENCHMARK_CAPTURE(richflow_simplex, noisy, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(richflow_simplex, noise_free, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plain, noisy, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plain, noise_free, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(richflow_large, with_noise, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(richflow_large, without_noise, false)->Unit(benchmark::kMillisecond);

}  // namespace
