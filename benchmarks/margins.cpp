// The margins of two classes: the hard margin against LIBSVM, the l1 margin against CLP, and the flow that comes to a
// loss of 1e-1000 against descent on the weights for the same time.

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "problem.hpp"
#include "rate.hpp"
#include "richflow/bias/predicted_classification.hpp"
#include "richflow/bias/simulate_classification.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/limits/max_margin.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/diagonal.hpp"

#ifdef HAVE_LIBSVM
#include <svm.h>
#endif

#ifdef HAVE_CLP
#include <ClpSimplex.hpp>
#include <CoinPackedMatrix.hpp>
#endif

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

/// Normal samples that five features tell apart, pushed from the plane by 0.1: N = 100 of d = 1000 features (wide), or
/// the other way round (tall).
Dataset<> classes(bool is_wide) {
  const Index N = is_wide ? 100 : 1000;
  const Index d = is_wide ? 1000 : 100;
  RandomStream random(1);
  Matrix<double> X = normal_matrix<double>(random, N, d);
  Vector<double> y(N);
  for (Index n = 0; n < N; ++n) {
    y[n] = X.row(n).head(5).sum() < 0 ? -1 : 1;
    X.row(n).head(5).array() += 0.1 * y[n];
  }
  return {X, y};
}

void richflow_l2(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  MarginResult<> result;
  for (auto _ : state) {
    result = max_margin_l2(data);
    benchmark::DoNotOptimize(result.beta.data());
  }
  if (!result.ok()) state.SkipWithError("the hard margin was not proved");
  state.counters["margin"] = result.margin / result.beta.norm();
  state.counters["gap"] = result.gap;
  state.counters["support"] = static_cast<double>(result.support.size());
}

void richflow_l1(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  MarginResult<> result;
  for (auto _ : state) {
    result = max_margin_l1(data);
    benchmark::DoNotOptimize(result.beta.data());
  }
  if (!result.ok()) state.SkipWithError("the l1 margin was not proved");
  state.counters["norm"] = result.beta.lpNorm<1>();
  state.counters["gap"] = result.gap;
}

#ifdef HAVE_LIBSVM
/// Linear kernel, C so large that no sample may be on the wrong side. LIBSVM fits an offset; with every sample and its
/// mirror image that is 0, and the problem ours.
void libsvm_symmetric(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  const Index N = data.num_samples();
  const Index d = data.num_inputs();
  std::vector<std::vector<svm_node>> nodes;
  std::vector<double> labels;
  for (const double side : {1.0, -1.0})
    for (Index n = 0; n < N; ++n) {
      nodes.emplace_back();
      for (Index i = 0; i < d; ++i) nodes.back().push_back({static_cast<int>(i + 1), side * data.X()(n, i)});
      nodes.back().push_back({-1, 0.0});
      labels.push_back(side * data.y()[n]);
    }
  std::vector<svm_node*> rows;
  for (auto& row : nodes) rows.push_back(row.data());
  const svm_problem problem{static_cast<int>(2 * N), labels.data(), rows.data()};
  svm_parameter parameter{};
  parameter.svm_type = C_SVC;
  parameter.kernel_type = LINEAR;
  parameter.cache_size = 200;
  parameter.eps = 1e-6;
  parameter.C = 1e6;
  parameter.shrinking = 1;
  svm_set_print_string_function([](const char*) {});
  Vector<double> beta = Vector<double>::Zero(d);
  for (auto _ : state) {
    svm_model* model = svm_train(&problem, &parameter);
    beta.setZero();
    const double side = model->label[0] > 0 ? 1.0 : -1.0;
    for (int k = 0; k < model->l; ++k)
      for (const svm_node* at = model->SV[k]; at->index > 0; ++at)
        beta[at->index - 1] += side * model->sv_coef[0][k] * at->value;
    svm_free_and_destroy_model(&model);
  }
  const double margin = (data.y().cwiseProduct(data.X() * beta)).minCoeff() / beta.norm();
  state.counters["margin"] = margin;
  const MarginResult<> ours = max_margin_l2(data);
  state.counters["relative_difference"] = margin * ours.beta.norm() / ours.margin - 1;
}
#endif

#ifdef HAVE_CLP
void clp_dual_simplex(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  const Matrix<double> Z = data.y().asDiagonal() * data.X();
  const auto N = static_cast<int>(Z.rows());
  const auto d = static_cast<int>(Z.cols());
  // beta = p - m with p, m >= 0; columns of [Z, -Z] in compressed form.
  std::vector<CoinBigIndex> starts;
  std::vector<int> rows;
  std::vector<double> values;
  for (int j = 0; j <= 2 * d; ++j) starts.push_back(static_cast<CoinBigIndex>(j) * N);
  for (int j = 0; j < 2 * d; ++j)
    for (int n = 0; n < N; ++n) {
      rows.push_back(n);
      values.push_back(j < d ? Z(n, j) : -Z(n, j - d));
    }
  const std::vector<double> costs(static_cast<std::size_t>(2 * d), 1.0), least(static_cast<std::size_t>(N), 1.0);
  double objective = 0;
  for (auto _ : state) {
    ClpSimplex model;
    model.setLogLevel(0);
    model.loadProblem(2 * d, N, starts.data(), rows.data(), values.data(), nullptr, nullptr, costs.data(), least.data(),
                      nullptr);
    model.dual();
    objective = model.objectiveValue();
  }
  state.counters["norm"] = objective;
  state.counters["relative_difference"] = objective / max_margin_l1(data).beta.lpNorm<1>() - 1;
}
#endif

constexpr double log_accuracy = -2302.585092994046;  // 1e-1000

Start<> small_start() { return Start<>::uniform(Scale<>::from_log(-3.0)); }

void richflow_flow(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  const DiagonalNet<double> net(2, data.num_inputs());
  const double best = 1.0 / max_margin_l1(data).beta.lpNorm<1>();
  Classification<> run;
  for (auto _ : state)
    run = simulate_classification(net, data, small_start(),
                                  {.loss = MarginLoss::logistic, .log_accuracies = {log_accuracy}});
  if (!run.ok()) {
    state.SkipWithError("the flow did not come to 1e-1000");
    return;
  }
  state.counters["log_loss"] = run.records[0].log_loss;
  state.counters["steps"] = static_cast<double>(run.stats.accepted);
  state.counters["l1_margin"] = run.records[0].l1_margin / best;
}

void richflow_prediction(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  const DiagonalNet<double> net(2, data.num_inputs());
  ClassificationPrediction<> at;
  for (auto _ : state) at = predicted_classification(net, data, small_start(), log_accuracy, MarginLoss::logistic);
  if (!at.ok()) {
    state.SkipWithError("no prediction");
    return;
  }
  const Classification<> run = simulate_classification(
      net, data, small_start(), {.loss = MarginLoss::logistic, .log_accuracies = {log_accuracy}});
  state.counters["l1_margin"] = at.l1_margin;
  state.counters["difference"] = (at.beta - run.beta()).norm() / run.beta().norm();
}

/// Descent on the weights by constant steps, the largest power of 2 that lowers the loss a thousand times in a row, for
/// as long as the flow takes: where it is then.
void plain_descent(benchmark::State& state, bool is_wide) {
  const Dataset<> data = classes(is_wide);
  const DiagonalNet<double> net(2, data.num_inputs());
  const double begun = seconds();
  benchmark::DoNotOptimize(simulate_classification(net, data, small_start(),
                                                   {.loss = MarginLoss::logistic, .log_accuracies = {log_accuracy}}));
  const double allowed = seconds() - begun;
  const GradientFlow flow(net, data, LogisticLoss<double>{});
  const Vector<double> w0 = net.initial_parameters(small_start());
  Vector<double> w = w0, slope(w0.size());
  double step = 1;
  for (bool falls = false; !falls; step /= falls ? 1 : 2) {
    w = w0;
    double before = flow.loss(w);
    falls = true;
    for (int k = 0; k < 1000 && falls; ++k) {
      flow(0.0, w, slope);
      w += step * slope;
      const double now = flow.loss(w);
      falls = now <= before;
      before = now;
    }
  }
  double steps = 0;
  for (auto _ : state) {
    w = w0;
    steps = 0;
    const double end = seconds() + allowed;
    while (seconds() < end) {
      flow(0.0, w, slope);
      w += step * slope;
      ++steps;
    }
  }
  Vector<double> beta(data.num_inputs());
  net.beta(w, beta);
  const double margin = data.y().cwiseProduct(data.X() * beta).minCoeff() / beta.lpNorm<1>();
  state.counters["log_loss"] = std::log(flow.loss(w));
  state.counters["steps"] = steps;
  state.counters["step"] = step;
  state.counters["l1_margin"] = margin * max_margin_l1(data).beta.lpNorm<1>();
}

#define MARGIN_BENCHMARK(name)                                        \
  BENCHMARK_CAPTURE(name, wide, true)->Unit(benchmark::kMillisecond); \
  BENCHMARK_CAPTURE(name, tall, false)->Unit(benchmark::kMillisecond)
MARGIN_BENCHMARK(richflow_l2);
#ifdef HAVE_LIBSVM
MARGIN_BENCHMARK(libsvm_symmetric);
#endif
MARGIN_BENCHMARK(richflow_l1);
#ifdef HAVE_CLP
MARGIN_BENCHMARK(clp_dual_simplex);
#endif
MARGIN_BENCHMARK(richflow_flow);
MARGIN_BENCHMARK(plain_descent);
MARGIN_BENCHMARK(richflow_prediction);

}  // namespace
