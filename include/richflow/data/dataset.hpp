#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"

namespace richflow {

/// A regression problem: samples `X`, N x d (row n is x_n), and N labels `y`.
///
///     const Dataset data(X, y);
///     const Dataset several = Dataset<>::with_outputs(X, Y);   // Y is N x K, for models with K outputs
///     data.residual_norm(beta);                                // |X beta - y|
///
/// For models of a matrix N measurements of it take the place of X. Checked once, on construction; everything that
/// takes a dataset relies on it.
template <class S = double>
class Dataset {
 public:
  using Scalar = S;

  /// Takes over `X` and `y`. Throws DimensionError when N = 0, d = 0 or the shapes differ,
  /// NonFiniteError when an entry is NaN or infinite, and ArgumentError when X or y is in units so large or so
  /// small that sums of their squares (losses, kernels) leave the range of S. Cost: two passes over the data.
  Dataset(Matrix<S> X, Vector<S> y);

  /// What was measured of a matrix, `<M, X_n> = y_n`: takes over both. Throws DimensionError unless y has N entries,
  /// and for y as above. Cost: one pass over y.
  Dataset(MatrixMeasurements<S> measurements, Vector<S> y);

  /// K labels per sample, `Y` is N x K. Throws as the constructor, and DimensionError for K = 0.
  [[nodiscard]] static Dataset with_outputs(Matrix<S> X, const Matrix<S>& Y);

  /// Refused: data of another number type.
  template <class DerivedX, class DerivedY>
  requires(!std::is_same_v<typename DerivedX::Scalar, S> || !std::is_same_v<typename DerivedY::Scalar, S>)
      Dataset(const Eigen::MatrixBase<DerivedX>&, const Eigen::MatrixBase<DerivedY>&) {
    static_assert(std::is_same_v<typename DerivedX::Scalar, S> && std::is_same_v<typename DerivedY::Scalar, S>,
                  "richflow: X and y must be of the dataset's number type: Dataset<float>(X, y), or "
                  "Dataset(X.cast<double>(), y.cast<double>())");
  }

  /// Samples, N x d. Throws ArgumentError where the data are measurements of a matrix.
  [[nodiscard]] const Matrix<S>& X() const {
    require(!measurements_, "the data are ", num_samples(),
            " measurements of a matrix where a matrix X of samples is asked for");
    return X_;
  }
  /// Whether the data are measurements of a matrix.
  [[nodiscard]] bool has_measurements() const { return measurements_.has_value(); }
  /// The measurements. Throws ArgumentError where the data are the rows of X.
  [[nodiscard]] const MatrixMeasurements<S>& measurements() const {
    require(measurements_.has_value(), "the data are a matrix X of ", num_samples(),
            " samples where measurements of a matrix are asked for (MatrixMeasurements)");
    return *measurements_;
  }
  /// A view of either; the dataset must outlive it.
  [[nodiscard]] Samples<S> samples() const { return measurements_ ? Samples<S>(*measurements_) : Samples<S>(X_); }
  /// Labels, N. Throws DimensionError where there are K > 1 per sample.
  [[nodiscard]] const Vector<S>& y() const {
    require<DimensionError>(num_outputs_ == 1, "the dataset has ", num_outputs_,
                            " labels per sample where one is asked for");
    return y_;
  }
  /// All labels, N x K.
  [[nodiscard]] Eigen::Map<const Matrix<S>> Y() const { return {y_.data(), num_samples(), num_outputs_}; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return num_outputs_; }
  /// N.
  [[nodiscard]] Index num_samples() const { return samples().size(); }
  /// d; d1 d2 where the samples are measurements of a d1 x d2 matrix.
  [[nodiscard]] Index num_inputs() const { return samples().num_inputs(); }
  /// `|X beta - y|` for d values beta; for measurements beta is `vec(M)`.
  [[nodiscard]] S residual_norm(const Vector<S>& beta) const;

 private:
  Dataset(Matrix<S> X, Vector<S> y, Index num_outputs);

  void check_labels() const;

  Matrix<S> X_;
  std::optional<MatrixMeasurements<S>> measurements_ = {};  // in place of X
  Vector<S> y_;                                             // Y column by column
  Index num_outputs_;
};

/// `Dataset data(X, y)`: of the number type of X, which may be an expression.
template <class DerivedX, class DerivedY>
Dataset(const Eigen::MatrixBase<DerivedX>&, const Eigen::MatrixBase<DerivedY>&) -> Dataset<typename DerivedX::Scalar>;
template <class S, class DerivedY>
Dataset(MatrixMeasurements<S>, const Eigen::MatrixBase<DerivedY>&) -> Dataset<S>;

template <class S>
Dataset<S>::Dataset(Matrix<S> X, Vector<S> y) : Dataset(std::move(X), std::move(y), 1) {}

template <class S>
Dataset<S>::Dataset(MatrixMeasurements<S> measurements, Vector<S> y)
    : measurements_(std::move(measurements)), y_(std::move(y)), num_outputs_(1) {
  require<DimensionError>(num_samples() == y_.size(), "there are ", num_samples(), " measurements but y has ",
                          y_.size(), " entries");
  check_labels();
}

template <class S>
Dataset<S> Dataset<S>::with_outputs(Matrix<S> X, const Matrix<S>& Y) {
  require<DimensionError>(Y.cols() > 0, "Y has K = 0 columns (outputs)");
  require<DimensionError>(X.rows() == Y.rows(), "X is ", X.rows(), " x ", X.cols(), " but Y is ", Y.rows(), " x ",
                          Y.cols());
  return {std::move(X), Eigen::Map<const Vector<S>>(Y.data(), Y.size()), Y.cols()};
}

template <class S>
Dataset<S>::Dataset(Matrix<S> X, Vector<S> y, Index num_outputs)
    : X_(std::move(X)), y_(std::move(y)), num_outputs_(num_outputs) {
  require<DimensionError>(X_.rows() > 0, "X has N = 0 rows (samples)");
  require<DimensionError>(X_.cols() > 0, "X has d = 0 columns (features)");
  require<DimensionError>(X_.rows() * num_outputs_ == y_.size(), "X is ", X_.rows(), " x ", X_.cols(), " but y has ",
                          y_.size(), " entries");
  require_finite("X", X_);
  detail::require_squares("X", detail::largest_size(X_.data(), X_.size()), X_.size());
  check_labels();
}

template <class S>
void Dataset<S>::check_labels() const {
  require_finite("y", y_);
  detail::require_squares("y", detail::largest_size(y_), y_.size());
}

template <class S>
S Dataset<S>::residual_norm(const Vector<S>& beta) const {
  require_size("beta", beta.size(), num_inputs());
  Vector<S> residual = y();
  if (measurements_) {
    residual -=
        measurements_->apply(Eigen::Map<const Matrix<S>>(beta.data(), measurements_->rows(), measurements_->cols()));
  } else {
    detail::subtract_product(X_, beta, residual);
  }
  return detail::norm(residual);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DATASET(prefix, S) prefix template class Dataset<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DATASET)
