// argmin Q_alpha over X beta = y: one factorization of its Hessian as the unit, a plain damped Newton method
// on the dual continued in steps of one e-fold (the naive way), and MirrorPath from scratch and warm; also at depth 2
// to 10 for alpha^D from 1e6 to 1e-200. The peer of the noisy problem is scipy_argmin_q.py.

#include <benchmark/benchmark.h>

#include <Eigen/Cholesky>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "problem.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

void one_factorization(benchmark::State& state) {
  const SparseRegression<> regression = problem();
  const Matrix<double>& X = regression.dataset.X();
  const Vector<double> root = Vector<double>::LinSpaced(X.cols(), 0.5, 2.0);
  Matrix<double> H(X.rows(), X.rows()), columns(X.rows(), X.cols());
  Eigen::LLT<Matrix<double>> cholesky(X.rows());
  for (auto _ : state) {
    columns = X * root.asDiagonal();
    H.setZero();
    H.selfadjointView<Eigen::Lower>().rankUpdate(columns);
    cholesky.compute(H);
    benchmark::DoNotOptimize(cholesky.matrixLLT().data());
  }
}

/// Newton's method on the dual with halved steps, a factorization each, one e-fold of alpha^(D/2) after the other.
template <class Mirror>
Vector<double> plain_dual_newton(const Dataset<>& data, const Mirror& mirror, Index& factorizations) {
  const Matrix<double>& X = data.X();
  const Vector<double>& y = data.y();
  const Index d = data.num_inputs();
  const double log_alpha = mirror.scale().log();
  const double e_fold = 2 / mirror.homogeneity();
  double at = std::max(log_alpha, e_fold);
  Vector<double> nu = Vector<double>::Zero(data.num_samples()), beta(d), curvature(d), trial_beta(d), r, trial_r;
  while (true) {
    const Mirror Q = mirror.with_scale(Scale<>::from_log(at));
    for (int step = 0; step < 200; ++step) {
      Q.mirror(X.transpose() * nu, beta, curvature);
      r = y;
      r.noalias() -= X * beta;
      if (r.norm() <= 1e-12 * y.norm()) break;
      const Vector<double> direction = (X * curvature.asDiagonal() * X.transpose()).llt().solve(r);
      ++factorizations;
      double t = 1;
      for (; t > 1e-12; t /= 2) {
        Q.mirror(X.transpose() * (nu + t * direction), trial_beta, curvature);
        trial_r = y;
        trial_r.noalias() -= X * trial_beta;
        if (trial_r.norm() < (1 - t / 4) * r.norm()) break;
      }
      if (t <= 1e-12) break;
      nu += t * direction;
    }
    if (at == log_alpha) return beta;
    at = std::max(at - e_fold, log_alpha);
  }
}

/// Times `plain_dual_newton`.
template <class Mirror>
void plain_newton_of(benchmark::State& state, const Mirror& mirror) {
  const SparseRegression<> regression = problem();
  const Vector<double> limit = certified_limit(regression.dataset, mirror);
  Vector<double> beta;
  Index factorizations = 0;
  for (auto _ : state) {
    factorizations = 0;
    beta = plain_dual_newton(regression.dataset, mirror, factorizations);
  }
  report(state, mirror.scale().log(), beta, limit);
  state.counters["factorizations"] = static_cast<double>(factorizations);
}

/// For scipy_argmin_q.py: log alpha, the minimizer, and a line of y_n and the n-th row of X for each sample.
void write_problem(const char* file, const Dataset<>& data, const MinimizerResult<>& result) {
  std::ofstream out(file);
  out.precision(std::numeric_limits<double>::max_digits10);
  out << result.scale.log() << '\n';
  for (Index i = 0; i < data.num_inputs(); ++i) out << (i > 0 ? "," : "") << result.beta[i];
  for (Index n = 0; n < data.num_samples(); ++n) {
    out << '\n' << data.y()[n];
    for (Index i = 0; i < data.num_inputs(); ++i) out << ',' << data.X()(n, i);
  }
  out << '\n';
}

/// Times a path made for this one scale.
template <class Mirror>
void from_scratch_of(benchmark::State& state, const Mirror& mirror, bool noisy) {
  const SparseRegression<> regression = problem(noisy);
  MinimizerResult<> result;
  for (auto _ : state) {
    MirrorPath<Mirror> path(regression.dataset, mirror);
    result = path.solve(mirror.scale());
    benchmark::DoNotOptimize(result.beta.data());
  }
  if (!result.ok()) state.SkipWithError("the tolerance was not reached");
  state.counters["log_alpha"] = mirror.scale().log();
  state.counters["factorizations"] = static_cast<double>(result.factorizations);
  state.counters["inner"] = static_cast<double>(result.inner_iterations);
  state.counters["residual"] = result.certificate.primal_residual;
  state.counters["gap"] = result.certificate.duality_gap;
  if (const char* file = std::getenv("RICHFLOW_PROBLEM_FILE")) write_problem(file, regression.dataset, result);
}

void plain_newton(benchmark::State& state) {
  plain_newton_of(state, Hypentropy<>::uniform(1000, Scale<>::from_log(log_alpha(state))));
}

void from_scratch(benchmark::State& state, bool noisy) {
  from_scratch_of(state, Hypentropy<>::uniform(1000, Scale<>::from_log(log_alpha(state))), noisy);
}

/// alpha^D, decimal logarithms.
constexpr std::array<double, 7> log10_sizes = {6, 0, -2, -6, -20, -100, -200};

double log_size(benchmark::State& state) {
  const double log10_size = log10_sizes[static_cast<std::size_t>(state.range(0))];
  state.counters["log10_alpha^D"] = log10_size;
  return log10_size * std::log(10.0);
}

void plain_newton_at_depth(benchmark::State& state, Index depth) {
  at_depth(depth, 1000, log_size(state), [&](const auto& mirror) { plain_newton_of(state, mirror); });
}

void from_scratch_at_depth(benchmark::State& state, Index depth) {
  at_depth(depth, 1000, log_size(state), [&](const auto& mirror) { from_scratch_of(state, mirror, true); });
}

void warm_one_e_fold_away(benchmark::State& state) {
  const SparseRegression<> regression = problem();
  const double log_alpha_here = log_alpha(state);
  HypentropyPath<> path(regression.dataset, Hypentropy<>::uniform(1000, Scale<>::from_log(0)));
  MinimizerResult<> result = path.solve(Scale<>::from_log(log_alpha_here));
  double worst = 0;
  bool is_down = true;
  for (auto _ : state) {
    result = path.solve(Scale<>::from_log(is_down ? log_alpha_here - 1 : log_alpha_here));
    worst = std::max(worst, static_cast<double>(result.factorizations));
    is_down = !is_down;
  }
  if (!result.ok()) state.SkipWithError("the tolerance was not reached");
  state.counters["log_alpha"] = log_alpha_here;
  state.counters["factorizations_max"] = worst;
}

BENCHMARK(one_factorization)->Unit(benchmark::kMillisecond);
BENCHMARK(plain_newton)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(from_scratch, noisy, true)->DenseRange(0, 7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(from_scratch, noise_free, false)->DenseRange(0, 7)->Unit(benchmark::kMillisecond);
BENCHMARK(warm_one_e_fold_away)->DenseRange(0, 7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plain_newton_at_depth, depth_2, 2)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plain_newton_at_depth, depth_3, 3)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plain_newton_at_depth, depth_5, 5)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(plain_newton_at_depth, depth_10, 10)->DenseRange(0, 4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(from_scratch_at_depth, depth_2, 2)->DenseRange(0, 6)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(from_scratch_at_depth, depth_3, 3)->DenseRange(0, 6)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(from_scratch_at_depth, depth_5, 5)->DenseRange(0, 6)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(from_scratch_at_depth, depth_10, 10)->DenseRange(0, 6)->Unit(benchmark::kMillisecond);

}  // namespace
