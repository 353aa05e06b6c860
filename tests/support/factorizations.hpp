#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "support/random_inputs.hpp"

/// @file
/// Random measurements of a matrix, and what they are.

namespace test_support {

/// The kinds of measurement.
enum class Kind { dense, entries, diagonal };

/// Normal coefficients, or different entries of the matrix.
inline richflow::MatrixMeasurements<double> random_measurements(richflow::RandomStream& random, Kind kind,
                                                                const richflow::FactorShape& shape,
                                                                richflow::Index samples) {
  using namespace richflow;
  using Measurements = MatrixMeasurements<double>;
  if (kind == Kind::dense)
    return Measurements::dense(shape.rows(), shape.cols(), random_matrix(random, samples, shape.rows() * shape.cols()));
  if (kind == Kind::diagonal)
    return Measurements::diagonal(shape.rows(), shape.cols(),
                                  random_matrix(random, samples, std::min(shape.rows(), shape.cols())));
  std::vector<MatrixEntry> places;
  for (const Index cell : sample_without_replacement(random, shape.rows() * shape.cols(), samples))
    places.push_back({cell / shape.cols(), cell % shape.cols()});
  return Measurements::entries(shape.rows(), shape.cols(), std::move(places));
}

/// Random measurements and labels.
inline richflow::Dataset<> random_measured_data(richflow::RandomStream& random, Kind kind,
                                                const richflow::FactorShape& shape, richflow::Index samples) {
  richflow::MatrixMeasurements<double> X = random_measurements(random, kind, shape, samples);
  return {std::move(X), random_vector(random, samples)};
}

/// General measurements: row n of X is vec(X_n).
inline richflow::Dataset<> dense_data(const richflow::FactorShape& shape, const richflow::Matrix<double>& X,
                                      const richflow::Vector<double>& y) {
  return {richflow::MatrixMeasurements<double>::dense(shape.rows(), shape.cols(), X), y};
}

/// X_n.
inline richflow::Matrix<double> measurement_matrix(const richflow::MatrixMeasurements<double>& X, richflow::Index n) {
  return X.adjoint(richflow::Vector<double>::Unit(X.num_measurements(), n));
}

/// vec(X_n) in row n.
inline richflow::Matrix<double> measurement_rows(const richflow::Dataset<>& data) {
  using namespace richflow;
  const MatrixMeasurements<double>& X = data.measurements();
  Matrix<double> rows(X.num_measurements(), X.rows() * X.cols());
  for (Index n = 0; n < rows.rows(); ++n) {
    const Matrix<double> X_n = measurement_matrix(X, n);
    rows.row(n) = Eigen::Map<const Vector<double>>(X_n.data(), X_n.size()).transpose();
  }
  return rows;
}

/// The measurements of a matrix, and the combination of the X_n with multipliers, written out.
struct Measured {
  richflow::Vector<double> fit = {};          ///< `<M, X_n>`
  richflow::Matrix<double> combination = {};  ///< `sum_n nu_n X_n`
};

inline Measured measured(const richflow::MatrixMeasurements<double>& X, const richflow::Matrix<double>& M,
                         const richflow::Vector<double>& nu) {
  Measured result{richflow::Vector<double>(X.num_measurements()), richflow::Matrix<double>::Zero(X.rows(), X.cols())};
  for (richflow::Index n = 0; n < X.num_measurements(); ++n) {
    const richflow::Matrix<double> X_n = measurement_matrix(X, n);
    result.fit(n) = X_n.cwiseProduct(M).sum();
    result.combination += nu(n) * X_n;
  }
  return result;
}

}  // namespace test_support
