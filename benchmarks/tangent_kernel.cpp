// The tangent kernel of a depth-3 ReLU network with a million parameters on 500 samples, beside the rate of one large
// matrix product. `efficiency` is the rate of the kernel's necessary operations (forward, backward and Gram matrices,
// half of each for symmetry) over that of the product. `extra_MB` is what a first call adds to the memory of the
// process, K included; `allowed_MB` is twice the kernel and one layer's activations.

#include <benchmark/benchmark.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "rate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/models/fully_connected.hpp"

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

constexpr Index samples = 500;
constexpr Index features = 10;
constexpr Index width = 990;  // 10 * 990 + 990^2 + 990 = 991 000 parameters

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024e-6;
}

/// The kernel of all samples, in memory of its own but for K.
void kernel_of(const ReluNetwork<double>& net, const Vector<double>& w, const Matrix<double>& X, MatrixRef<double> K) {
  auto at = net.make_evaluation(X.rows());
  Matrix<double> f(X.rows(), 1);
  at.forward(w, X, f);
  at.kernel(K);
}

/// Memory that the kernel takes beside what there was, K included; in a process of its own, so that nothing freed
/// before serves again, and whose freed blocks go back to the system, so that only what is held at the same time
/// counts.
double extra_megabytes(const ReluNetwork<double>& net, const Vector<double>& w, const Matrix<double>& X) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    Matrix<double> small(8, 8);
    kernel_of(net, w, X.topRows(8), small);  // the program's own pages
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 64 * 1024);
#endif
    const double before = peak_megabytes();
    Matrix<double> K(samples, samples);
    kernel_of(net, w, X, K);
    const double extra = peak_megabytes() - before;
    _exit(write(ends[1], &extra, sizeof extra) == sizeof extra ? 0 : 1);
  }
  double extra = -1;
  close(ends[1]);
  if (child < 0 || read(ends[0], &extra, sizeof extra) != sizeof extra) extra = -1;
  close(ends[0]);
  if (child > 0) waitpid(child, nullptr, 0);
  return extra;
}

void empirical_kernel(benchmark::State& state) {
  RandomStream random(3);
  const ReluNetwork<double> net(features, {width, width});
  const Vector<double> w = net.initial_parameters(random, Scale<>::from_value(1));
  const Matrix<double> X = normal_matrix(random, samples, features);
  Matrix<double> K(samples, samples);
  static const double extra = extra_megabytes(net, w, X);
  double best = 1e300;
  for (auto _ : state) {
    const double start = seconds();
    kernel_of(net, w, X, K);
    benchmark::DoNotOptimize(K.data());
    best = std::min(best, seconds() - start);
  }
  state.counters["extra_MB"] = extra;
  state.counters["allowed_MB"] = 8.0 * (2.0 * samples * samples + static_cast<double>(samples * width)) * 1e-6;
  const auto n = static_cast<double>(samples);
  const auto m = static_cast<double>(width);
  const double operations = 2 * (2 * n * m * m) + 4 * n * m * static_cast<double>(features) + 4 * (n * n * m);
  state.counters["efficiency"] = operations / best / product_rate<double>(1000, 1000, 1000);
  state.counters["Gflops"] = operations / best * 1e-9;
}

BENCHMARK(empirical_kernel)->Unit(benchmark::kMillisecond);

}  // namespace
