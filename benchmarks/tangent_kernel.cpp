// The tangent kernel of a depth-3 ReLU network with a million parameters on 500 samples, beside the rate of one large
// matrix product. `efficiency` is the rate of the kernel's necessary operations (forward, backward and Gram matrices,
// half of each for symmetry) over that of the product.

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>

#include "rate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/models/relu_network.hpp"

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

constexpr Index samples = 500;
constexpr Index features = 10;
constexpr Index width = 990;  // 10 * 990 + 990^2 + 990 = 991 000 parameters

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void empirical_kernel(benchmark::State& state) {
  RandomStream random(3);
  const ReluNetwork<double> net(features, {width, width});
  const Vector<double> w = net.initial_parameters(random, Scale::from_value(1));
  const Matrix<double> X = normal_matrix(random, samples, features);
  Matrix<double> K(samples, samples);
  net.tangent_kernel(w, X.topRows(8), K.topLeftCorner(8, 8));
  static const double before = peak_megabytes();  // of the first of several calls
  double best = 1e300;
  for (auto _ : state) {
    const double start = seconds();
    net.tangent_kernel(w, X, K);
    benchmark::DoNotOptimize(K.data());
    best = std::min(best, seconds() - start);
  }
  state.counters["extra_MB"] = peak_megabytes() - before;
  const auto n = static_cast<double>(samples);
  const auto m = static_cast<double>(width);
  const double operations = 2 * (2 * n * m * m) + 4 * n * m * static_cast<double>(features) + 4 * (n * n * m);
  state.counters["efficiency"] = operations / best / product_rate<double>(1000, 1000, 1000);
  state.counters["Gflops"] = operations / best * 1e-9;
}

BENCHMARK(empirical_kernel)->Unit(benchmark::kMillisecond);

}  // namespace
