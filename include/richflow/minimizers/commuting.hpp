#pragma once

#include <algorithm>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"

namespace richflow {

/// Symmetric measurements that commute, in their common basis: `X_n = Q diag(x_n) Q^T`.
template <class S = double>
struct CommutingMeasurements {
  /// Q, size x size, orthogonal.
  Matrix<S> basis = {};
  /// Row n of X holds the eigenvalues x_n (N x size), the diagonal of X_n in that basis: `MatrixMeasurements::diagonal(
  /// size, size, spectra.X())`; y as given.
  Dataset<S> spectra;
};

/// Diagonalizes symmetric size x size measurements together. Throws ArgumentError unless the data are measurements,
/// where an X_n is not symmetric, or two do not commute, beyond `tolerance` relative to their norms; DimensionError
/// where they are not of a square matrix. The flow of `U V^T` on such measurements is that of `Q^T U`, `Q^T V` on
/// diagonal ones. Cost O(N size^3).
template <class S>
[[nodiscard]] CommutingMeasurements<S> commuting_measurements(const Dataset<S>& data,
                                                              S tolerance = S(1e6) * Eigen::NumTraits<S>::epsilon()) {
  const Index size = data.measurements().rows();
  require<DimensionError>(data.measurements().cols() == size,
                          "commuting measurements are of a square matrix, not of a ", size, " x ",
                          data.measurements().cols(), " one");
  const Index N = data.num_samples();
  const Matrix<S> measured = detail::dense_rows(data.measurements());
  const auto matrix = [&](Index n) {
    const Vector<S> entries = measured.row(n).transpose();
    return Matrix<S>(Eigen::Map<const Matrix<S>>(entries.data(), size, size));
  };
  // In generic position a weighted sum has a simple spectrum within every joint eigenspace but one.
  RandomStream random(20190613);
  Matrix<S> mixture = Matrix<S>::Zero(size, size);
  for (Index n = 0; n < N; ++n) {
    const Matrix<S> X = matrix(n);
    const S norm = X.norm();
    require((X - X.transpose()).norm() <= tolerance * norm, "measurement ", n,
            " is not symmetric: |X - X^T| = ", (X - X.transpose()).norm(), " where |X| = ", norm);
    if (norm > S(0)) mixture += (static_cast<S>(random.normal()) / norm) * X;
  }
  detail::SymmetricEigen<S> solver;
  detail::compute_eigen(Matrix<S>(S(0.5) * (mixture + mixture.transpose())), solver);
  const Matrix<S>& Q = solver.eigenvectors();
  Matrix<S> spectra(N, size);
  bool commute = true;
  for (Index n = 0; n < N; ++n) {
    Matrix<S> rotated = Q.transpose() * matrix(n) * Q;
    spectra.row(n) = rotated.diagonal().transpose();
    const S norm = rotated.norm();
    rotated.diagonal().setZero();
    commute = commute && rotated.norm() <= tolerance * norm;
  }
  if (!commute) {
    S worst(-1);
    std::pair<Index, Index> pair;
    for (Index n = 0; n < N; ++n)
      for (Index m = 0; m < n; ++m) {
        const Matrix<S> a = matrix(m), b = matrix(n);
        const S size_of_both = a.norm() * b.norm();
        const S commutator = size_of_both > S(0) ? S((a * b - b * a).norm() / size_of_both) : S(0);
        if (commutator <= worst) continue;
        worst = commutator;
        pair = {m, n};
      }
    throw ArgumentError(detail::concat("measurements ", pair.first, " and ", pair.second,
                                       " do not commute: |[X_n, X_m]| / (|X_n| |X_m|) = ", worst));
  }
  return {Q, Dataset<S>(std::move(spectra), data.y())};
}

/// `argmin Q_mu(M)` (Schatten-Q_mu) subject to `<M, X_n> = y_n` for symmetric commuting measurements: through the
/// spectrum, `M = Q diag(s) Q^T` with s the hypentropy minimizer, whose certificate is that of M. For any log mu.
/// Throws as `commuting_measurements` and HypentropyPath.
template <class S = double>
struct CommutingMinimizer {
  Matrix<S> matrix = {};             ///< M, size x size.
  MinimizerResult<S> spectrum = {};  ///< s, with its status and certificate.
};

/// See CommutingMinimizer.
template <class S>
[[nodiscard]] CommutingMinimizer<S> minimize_schatten_commuting(const Dataset<S>& data, Scale<S> mu) {
  const CommutingMeasurements<S> commuting = commuting_measurements(data);
  MinimizerResult<S> spectrum = minimize_hypentropy(commuting.spectra, mu);
  Matrix<S> matrix = commuting.basis * spectrum.beta.asDiagonal() * commuting.basis.transpose();
  return {std::move(matrix), std::move(spectrum)};
}

}  // namespace richflow
