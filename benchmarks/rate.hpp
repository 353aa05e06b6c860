#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>

#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"

#ifdef EIGEN_USE_BLAS
extern "C" void openblas_set_num_threads(int num_threads);
#endif

/// @file
/// The rate of this machine's matrix products, beside which the others are put.

namespace richflow::benchmarks {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The threads of each matrix product from here on, where the program was compiled with OpenMP or calls OpenBLAS.
inline void set_product_threads(int threads) {
  Eigen::setNbThreads(threads);
#ifdef EIGEN_USE_BLAS
  openblas_set_num_threads(threads);
#endif
}

/// Operations per second of a product of an m x k and a k x n matrix.
template <class S>
double product_rate(Index m, Index k, Index n) {
  RandomStream random(1);
  const Matrix<S> A = normal_matrix<S>(random, m, k);
  const Matrix<S> B = normal_matrix<S>(random, k, n);
  Matrix<S> C(m, n);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds();
    C.noalias() = A * B;
    benchmark::DoNotOptimize(C.data());
    const double operations = 2 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n);
    best = std::max(best, operations / (seconds() - start));
  }
  return best;
}

}  // namespace richflow::benchmarks
