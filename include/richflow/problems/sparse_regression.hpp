#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

namespace richflow {

/// The sparse regression problem of Woodworth et al. (2020), Section 4 and Figure 1, with the paper's
/// values as defaults (N varies there).
struct SparseRegressionOptions {
  /// N >= 1.
  Index num_samples = 100;
  /// d >= 1.
  Index num_inputs = 1000;
  /// r*, the number of nonzero entries of beta*; 1 <= r* <= d.
  Index num_nonzero = 5;
  /// Variance of the label noise, >= 0 (the standard deviation is its square root, 0.1 by default).
  double noise_variance = 0.01;
  /// Seed of the random numbers.
  std::uint64_t seed = 0;
  /// Index of the stream: repetitions of an experiment differ in this.
  std::uint64_t stream = 0;
};

/// `|beta - beta_star|_2^2`, the excess of `E (<beta, x> - y)^2` over the noise for `x ~ N(0, I_d)`. Throws
/// DimensionError where the lengths differ, NonFiniteError where beta is not finite.
template <class Scalar>
[[nodiscard]] Scalar population_error(const Vector<Scalar>& beta, const Vector<Scalar>& beta_star) {
  require_size("beta", beta.size(), beta_star.size());
  require_finite("beta", beta);
  return (beta - beta_star).squaredNorm();
}

/// A drawn problem and the truth behind it.
template <class S = double>
struct SparseRegression {
  /// X is N x d, y has N entries.
  Dataset<S> dataset;
  /// The d true coefficients.
  Vector<S> beta_star = {};

  /// `|beta - beta_star|_2^2`; throws as the free function.
  [[nodiscard]] S population_error(const Vector<S>& beta) const { return richflow::population_error(beta, beta_star); }
};

/// Draws `x_n ~ N(0, I_d)`, `y_n = <beta*, x_n> + N(0, noise_variance)`. The first r* entries of beta* are
/// 1/sqrt(r*), so that |beta*|_2 = 1; which ones does not matter, the columns of X being exchangeable.
///
/// The numbers follow from (seed, stream) alone, bit for bit on every platform. Sample n depends on n, d and the
/// seed only: the problem with more samples extends the one with fewer. The noise is drawn whatever its variance, so
/// that X does not depend on it. Throws ArgumentError or DimensionError for options out of range. Cost: N (d + 1)
/// normals.
template <class S = double>
[[nodiscard]] SparseRegression<S> sparse_regression(const SparseRegressionOptions& options) {
  const Index n = options.num_samples;
  const Index d = options.num_inputs;
  require<DimensionError>(n >= 1, "num_samples must be at least 1, got ", n);
  require<DimensionError>(d >= 1, "num_inputs must be at least 1, got ", d);
  require(options.num_nonzero >= 1 && options.num_nonzero <= d, "num_nonzero must be between 1 and num_inputs = ", d,
          ", got ", options.num_nonzero);
  require(std::isfinite(options.noise_variance) && options.noise_variance >= 0.0,
          "noise_variance must be finite and not negative, got ", options.noise_variance);

  RandomStream random(options.seed, options.stream);
  const double entry = 1.0 / std::sqrt(static_cast<double>(options.num_nonzero));
  const double noise = std::sqrt(options.noise_variance);
  Matrix<S> X(n, d);
  Vector<S> y(n);
  for (Index i = 0; i < n; ++i) {
    double label = 0.0;
    for (Index j = 0; j < d; ++j) {
      const double x = random.normal();
      X(i, j) = static_cast<S>(x);
      if (j < options.num_nonzero) label = std::fma(entry, x, label);
    }
    y(i) = static_cast<S>(std::fma(noise, random.normal(), label));
  }
  Vector<S> beta_star = Vector<S>::Zero(d);
  beta_star.head(options.num_nonzero).setConstant(static_cast<S>(entry));
  return SparseRegression<S>{Dataset<S>(std::move(X), std::move(y)), std::move(beta_star)};
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SPARSE_REGRESSION(prefix, S) \
  prefix template SparseRegression<S> sparse_regression<S>(const SparseRegressionOptions&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SPARSE_REGRESSION)
