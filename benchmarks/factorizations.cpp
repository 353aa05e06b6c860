// Symmetric and deep factorizations to L <= 1e-10 |y|^2, for completion and sensing of a 10 x 10 matrix of rank two:
// the lifted flow of `U U^T` and the flow of `W_L ... W_1`, L = 2, 3, 4, as `simulate` follows them, beside Dormand and
// Prince's explicit steps and plain descent at a tenth of its stable step. Starts of `U U^T = alpha I` and of balanced
// layers whose product is alpha times an orthogonal matrix, alpha = 1 and 1e-3. Each row reports the distance of its
// end from the limit, solved tightly.

#include <benchmark/benchmark.h>

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "richflow/bias/factorization.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/models/deep_factorization.hpp"
#include "richflow/models/linear_layers.hpp"
#include "richflow/models/matrix_factorization.hpp"

namespace {

using namespace richflow;

constexpr Index d = 10;
constexpr Index rank = 2;

Matrix<double> normal(RandomStream& random, Index rows, Index cols) {
  Matrix<double> A(rows, cols);
  for (Index j = 0; j < cols; ++j)
    for (Index i = 0; i < rows; ++i) A(i, j) = random.normal();
  return A;
}

/// Entries or dense measurements of a matrix with singular values of some 1; N is the number of its degrees of freedom
/// and a half more.
Dataset<> measured(bool is_symmetric, bool is_sensing) {
  RandomStream random(11);
  const Matrix<double> U = normal(random, d, rank) / std::sqrt(d);
  const Matrix<double> V = is_symmetric ? U : Matrix<double>(normal(random, d, rank) / std::sqrt(d));
  const Matrix<double> truth = U * V.transpose();
  const Index freedom = is_symmetric ? rank * d - rank * (rank - 1) / 2 : 2 * rank * d - rank * rank;
  const Index N = 3 * freedom / 2;
  const auto of = [&](const MatrixMeasurements<double>& measurements) {
    return Dataset<>(measurements, measurements.apply(truth));
  };
  if (is_sensing)
    return of(MatrixMeasurements<double>::dense(d, d, normal(random, N, d * d) / std::sqrt(static_cast<double>(N))));
  std::vector<MatrixEntry> entries;
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i < (is_symmetric ? j + 1 : d); ++i) entries.push_back({i, j});
  for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n)
    std::swap(entries[n], entries[n + static_cast<std::size_t>(random.uniform_integer(entries.size() - n))]);
  entries.resize(static_cast<std::size_t>(N));
  return of(MatrixMeasurements<double>::entries(d, d, entries));
}

template <class M>
struct Point {
  M model;
  Dataset<> data;
  Vector<double> start;
  std::string name;

  [[nodiscard]] double goal() const { return 1e-10 * data.y().squaredNorm(); }
};

std::string name_of(bool is_sensing, double alpha) {
  return std::string(is_sensing ? "sensing" : "completion") + ", alpha = " + (alpha < 1.0 ? "1e-3" : "1");
}

using Symmetric = SymmetricFactorization<double>;
using Deep = DeepFactorization<double>;

/// Numbers 0 to 3: completion and sensing, each at both alpha.
Point<Symmetric> symmetric_point(const benchmark::State& state) {
  const bool is_sensing = state.range(0) >= 2;
  const double alpha = state.range(0) % 2 == 0 ? 1.0 : 1e-3;
  const Symmetric model(d, d);
  return {model, measured(true, is_sensing), model.pack(std::sqrt(alpha) * Matrix<double>::Identity(d, d)),
          name_of(is_sensing, alpha)};
}

/// Numbers 0 to 11: completion and sensing, at depth 2, 3 and 4, each at both alpha.
Point<Deep> deep_point(const benchmark::State& state) {
  const bool is_sensing = state.range(0) >= 6;
  const Index depth = 2 + state.range(0) % 6 / 2;
  const double alpha = state.range(0) % 2 == 0 ? 1.0 : 1e-3;
  RandomStream random(12);
  const Matrix<double> Q = Eigen::HouseholderQR<Matrix<double>>(normal(random, d, d)).householderQ();
  return {Deep(std::vector<Index>(static_cast<std::size_t>(depth + 1), d)), measured(false, is_sensing),
          pack_layers(
              balanced_layers<double>(random, alpha * Q, std::vector<Index>(static_cast<std::size_t>(depth - 1), d))),
          "depth " + std::to_string(depth) + ", " + name_of(is_sensing, alpha)};
}

template <class M>
Solution<double> explicit_run(const Point<M>& at, double relative) {
  const GradientFlow<M> flow(at.model, at.data);
  return integrate(flow, at.start, TimeSpan{0.0, std::numeric_limits<double>::infinity()}, DormandPrince{},
                   PiController<>{.tolerance = {.relative = relative, .absolute = 1e-3 * relative}},
                   {.events = {loss_below(at.goal())}, .max_steps = 2'000'000});
}

template <class M>
void report(benchmark::State& state, const Point<M>& at, const Matrix<double>& found, double steps, bool reached) {
  const Matrix<double> limit = at.model.product(explicit_run(at, 1e-9).require_ok().w);
  state.SetLabel(at.name);
  state.counters["steps"] = steps;
  state.counters["error"] = (found - limit).norm() / limit.norm();
  state.counters["reached"] = reached ? 1 : 0;
}

template <class M>
void follow(benchmark::State& state, const Point<M>& at) {
  Matrix<double> found;
  double steps = 0.0;
  for (auto _ : state) {
    const auto run = simulate(at.model, at.data, at.start, {.loss = at.goal()});
    if (!run.ok()) state.SkipWithError("the loss was not reached");
    found = run.model.product(run.w);
    steps = static_cast<double>(run.steps);
  }
  report(state, at, found, steps, true);
}

template <class M>
void explicit_steps(benchmark::State& state, const Point<M>& at) {
  Solution<double> solution;
  for (auto _ : state) solution = explicit_run(at, 1e-7);
  report(state, at, at.model.product(solution.w), static_cast<double>(solution.stats.accepted), solution.ok());
}

template <class M>
double largest_rate(const Point<M>& at, const Vector<double>& w) {
  return -detail::lowest_eigenvalue<double>(-tangent_kernel(at.model, w, at.data.measurements()));
}

/// Descent is stable where its step is below the inverse of the largest eigenvalue of the tangent kernel; `share` of
/// that, by the larger one of start and end. The loss is looked at every 50 steps.
template <class M>
void descend(benchmark::State& state, const Point<M>& at, double share) {
  const GradientFlow<M> flow(at.model, at.data);
  const double step =
      share / std::max(largest_rate(at, at.start), largest_rate(at, explicit_run(at, 1e-7).require_ok().w));
  Vector<double> w, dw(at.start.size());
  Index steps = 0;
  bool reached = false;
  for (auto _ : state) {
    w = at.start;
    reached = false;
    for (steps = 0; steps < 20'000'000 && !reached; ++steps) {
      flow(0.0, w, dw);
      w += step * dw;
      if (steps % 50 == 49) reached = flow.loss(w) <= at.goal();
    }
  }
  report(state, at, at.model.product(w), static_cast<double>(steps), reached);
}

void lifted_flow(benchmark::State& state) { follow(state, symmetric_point(state)); }
void explicit_on_symmetric(benchmark::State& state) { explicit_steps(state, symmetric_point(state)); }
void descent_on_symmetric(benchmark::State& state) { descend(state, symmetric_point(state), 0.1); }

void deep_flow(benchmark::State& state) { follow(state, deep_point(state)); }
void explicit_on_deep(benchmark::State& state) { explicit_steps(state, deep_point(state)); }
void descent_on_deep(benchmark::State& state) { descend(state, deep_point(state), 0.1); }
/// Ends about as near to the limit of the flow as `deep_flow` does.
void descent_as_accurate(benchmark::State& state) { descend(state, deep_point(state), 5e-4); }

BENCHMARK(lifted_flow)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK(explicit_on_symmetric)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK(descent_on_symmetric)->DenseRange(0, 3)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(deep_flow)->DenseRange(0, 11)->Unit(benchmark::kMillisecond);
BENCHMARK(explicit_on_deep)->DenseRange(0, 11)->Unit(benchmark::kMillisecond);
BENCHMARK(descent_on_deep)->DenseRange(0, 11)->Unit(benchmark::kMillisecond)->Iterations(1);
BENCHMARK(descent_as_accurate)->DenseRange(0, 4, 2)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
