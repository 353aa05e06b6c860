#pragma once

#include <type_traits>
#include <utility>

#include "richflow/core/random.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "support/random_inputs.hpp"

/// @file
/// Random data for each kind of measurement.

namespace test_support {

/// X for a kind of measurement: normals, or different entries of the matrix.
template <class Kind>
richflow::Matrix<double> random_measurements(richflow::RandomStream& random, const richflow::FactorShape& shape,
                                             richflow::Index samples) {
  using namespace richflow;
  if constexpr (Kind::is_linear) {
    return random_matrix(random, samples, Kind::num_features(shape));
  } else {
    Matrix<double> X(samples, 2);
    const auto cells = sample_without_replacement(random, shape.rows() * shape.cols(), samples);
    for (Index n = 0; n < samples; ++n) {
      const Index cell = cells[static_cast<std::size_t>(n)];
      X.row(n) << static_cast<double>(cell / shape.cols()), static_cast<double>(cell % shape.cols());
    }
    return X;
  }
}

/// Random measurements and labels.
template <class Kind>
richflow::Dataset random_measured_data(richflow::RandomStream& random, const richflow::FactorShape& shape,
                                       richflow::Index samples) {
  richflow::Matrix<double> X = random_measurements<Kind>(random, shape, samples);
  return {std::move(X), random_vector(random, samples)};
}

/// The matrix X_n that a row of X stands for.
template <class Kind>
richflow::Matrix<double> measurement_matrix(const richflow::FactorShape& shape, const richflow::Matrix<double>& X,
                                            richflow::Index n) {
  using namespace richflow;
  Matrix<double> matrix = Matrix<double>::Zero(shape.rows(), shape.cols());
  if constexpr (std::is_same_v<Kind, MatrixEntries>) {
    matrix(static_cast<Index>(X(n, 0)), static_cast<Index>(X(n, 1))) = 1.0;
  } else if constexpr (std::is_same_v<Kind, DiagonalMeasurements>) {
    for (Index i = 0; i < X.cols(); ++i) matrix(i, i) = X(n, i);
  } else {
    for (Index f = 0; f < X.cols(); ++f) matrix(f % shape.rows(), f / shape.rows()) = X(n, f);
  }
  return matrix;
}

/// The measurements of a matrix, and the combination of the X_n with multipliers, written out.
struct Measured {
  richflow::Vector<double> fit = {};          ///< `<M, X_n>`
  richflow::Matrix<double> combination = {};  ///< `sum_n nu_n X_n`
};

template <class Kind>
Measured measured(const richflow::FactorShape& shape, const richflow::Matrix<double>& X,
                  const richflow::Matrix<double>& M, const richflow::Vector<double>& nu) {
  Measured result{richflow::Vector<double>(X.rows()), richflow::Matrix<double>::Zero(shape.rows(), shape.cols())};
  for (richflow::Index n = 0; n < X.rows(); ++n) {
    const richflow::Matrix<double> X_n = measurement_matrix<Kind>(shape, X, n);
    result.fit(n) = X_n.cwiseProduct(M).sum();
    result.combination += nu(n) * X_n;
  }
  return result;
}

}  // namespace test_support
