// The whole lasso path: ours, against coordinate descent over a grid of penalties as scikit-learn has it, at its
// accuracy and at ours. Each time stands beside the largest error on the grid.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "problem.hpp"
#include "richflow/minimizers/lasso_path.hpp"

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

/// 100 penalties from the largest that matters to a thousandth of it.
std::vector<double> penalties(const Dataset<>& data) {
  const double largest = (data.X().transpose() * data.y()).cwiseAbs().maxCoeff();
  std::vector<double> out;
  for (int k = 0; k < 100; ++k) out.push_back(largest * std::pow(10.0, -3.0 * k / 99));
  return out;
}

/// `argmin |X beta - y|^2 / 2 + lambda |beta|_1` by cyclic coordinate descent: all coordinates once, then those that
/// are not 0 until they rest, and so on until the duality gap is at most `tolerance |y|^2`.
class CoordinateDescent {
 public:
  explicit CoordinateDescent(const Dataset<>& data)
      : data_(data),
        squares_(data.X().colwise().squaredNorm()),
        beta_(Vector<double>::Zero(data.num_inputs())),
        residual_(data.y()) {}

  /// From where the last one ended.
  const Vector<double>& solve(double lambda, double tolerance) {
    const double goal = tolerance * data_.y().squaredNorm();
    for (int round = 0; round < 100000; ++round) {
      sweep(lambda, false);
      if (gap(lambda) <= goal) break;
      for (int inner = 0; inner < 1000; ++inner)
        if (sweep(lambda, true) <= 0.1 * std::sqrt(goal) / residual_scale()) break;
    }
    return beta_;
  }

 private:
  [[nodiscard]] double residual_scale() const { return std::sqrt(squares_.maxCoeff()); }

  /// The largest move.
  double sweep(double lambda, bool only_active) {
    double largest = 0;
    for (Index i = 0; i < beta_.size(); ++i) {
      if (only_active && beta_[i] == 0) continue;
      const auto x = data_.X().col(i);
      const double slope = x.dot(residual_) + squares_[i] * beta_[i];
      const double next = std::copysign(std::max(std::abs(slope) - lambda, 0.0), slope) / squares_[i];
      if (next == beta_[i]) continue;
      residual_ += (beta_[i] - next) * x;
      largest = std::max(largest, std::abs(next - beta_[i]));
      beta_[i] = next;
    }
    return largest;
  }

  [[nodiscard]] double gap(double lambda) const {
    const double excess = (data_.X().transpose() * residual_).cwiseAbs().maxCoeff();
    const double part = excess > lambda ? lambda / excess : 1.0;
    const double square = residual_.squaredNorm();
    return square / 2 + lambda * beta_.lpNorm<1>() - part * residual_.dot(data_.y()) + part * part * square / 2;
  }

  const Dataset<>& data_;
  Vector<double> squares_, beta_, residual_;
};

/// The largest `|beta - exact| / |exact|` on the grid.
double largest_error(const LassoPath<>& path, const std::vector<double>& grid,
                     const std::vector<Vector<double>>& betas) {
  double error = 0;
  for (std::size_t k = 1; k < grid.size(); ++k) {
    const Vector<double> exact = path.at(grid[k]);
    error = std::max(error, (betas[k] - exact).norm() / exact.norm());
  }
  return error;
}

void richflow_lasso_path(benchmark::State& state, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  const std::vector<double> grid = penalties(regression.dataset);
  LassoPath<> path;
  std::vector<Vector<double>> betas;
  for (auto _ : state) {
    path = lasso_path(regression.dataset);
    betas.clear();
    for (const double lambda : grid) betas.push_back(path.at(lambda));
    benchmark::DoNotOptimize(betas.data());
  }
  if (!path.ok()) state.SkipWithError("the path was not followed to its end");
  // By the conditions of optimality, in units of the largest slope.
  double error = 0;
  for (std::size_t k = 0; k < grid.size(); ++k) {
    const Vector<double> slope =
        regression.dataset.X().transpose() * (regression.dataset.y() - regression.dataset.X() * betas[k]);
    error = std::max(error, (slope.cwiseAbs().maxCoeff() - grid[k]) / grid[0]);
  }
  state.counters["excess_slope"] = error;
  state.counters["knots"] = static_cast<double>(path.knots.size());
}

void coordinate_descent(benchmark::State& state, bool noisy, double tolerance) {
  const SparseRegression<> regression = problem(noisy);
  const std::vector<double> grid = penalties(regression.dataset);
  std::vector<Vector<double>> betas;
  for (auto _ : state) {
    betas.clear();
    CoordinateDescent descent(regression.dataset);
    for (const double lambda : grid) betas.push_back(descent.solve(lambda, tolerance));
    benchmark::DoNotOptimize(betas.data());
  }
  state.counters["error"] = largest_error(lasso_path(regression.dataset), grid, betas);
}

BENCHMARK_CAPTURE(richflow_lasso_path, noisy, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(richflow_lasso_path, noise_free, false)->Unit(benchmark::kMillisecond);
// scikit-learn's tolerance, one of four digits more, and one near ours.
BENCHMARK_CAPTURE(coordinate_descent, noisy, true, 1e-4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(coordinate_descent, noise_free, false, 1e-4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(coordinate_descent, noisy_1e8, true, 1e-8)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(coordinate_descent, noise_free_1e8, false, 1e-8)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(coordinate_descent, noisy_1e12, true, 1e-12)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(coordinate_descent, noise_free_1e12, false, 1e-12)->Unit(benchmark::kMillisecond);

}  // namespace
