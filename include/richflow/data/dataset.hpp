#pragma once

#include <limits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"

namespace richflow {

/// A regression problem: `X` is N x d (row n is x_n), `y` has N labels; or N x K labels `Y`, for models with K outputs.
/// Checked once, on construction; everything that takes a dataset relies on it.
template <class S>
class BasicDataset {
 public:
  using Scalar = S;

  /// Takes over `X` and `y`. Throws DimensionError when N = 0, d = 0 or the shapes differ, and
  /// NonFiniteError when an entry is NaN or infinite, and ArgumentError when X or y is in units so large or so
  /// small that sums of their squares (losses, kernels) leave the range of S. Cost: two passes over the data.
  BasicDataset(Matrix<S> X, Vector<S> y);

  /// K labels per sample, `Y` is N x K. Throws as the constructor, and DimensionError for K = 0.
  [[nodiscard]] static BasicDataset with_outputs(Matrix<S> X, const Matrix<S>& Y);

  /// Refused: data of another number type.
  template <class DerivedX, class DerivedY>
  requires(!std::is_same_v<typename DerivedX::Scalar, S> || !std::is_same_v<typename DerivedY::Scalar, S>)
      BasicDataset(const Eigen::MatrixBase<DerivedX>&, const Eigen::MatrixBase<DerivedY>&) {
    static_assert(std::is_same_v<typename DerivedX::Scalar, S> && std::is_same_v<typename DerivedY::Scalar, S>,
                  "richflow: X and y must be of the dataset's number type: BasicDataset<float>(X, y), or "
                  "Dataset(X.cast<double>(), y.cast<double>())");
  }

  /// Samples, N x d.
  [[nodiscard]] const Matrix<S>& X() const { return X_; }
  /// Labels, N. Throws DimensionError where there are K > 1 per sample.
  [[nodiscard]] const Vector<S>& y() const {
    require<DimensionError>(num_outputs_ == 1, "the dataset has ", num_outputs_,
                            " labels per sample where one is asked for");
    return y_;
  }
  /// All labels, N x K.
  [[nodiscard]] Eigen::Map<const Matrix<S>> Y() const { return {y_.data(), X_.rows(), num_outputs_}; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return num_outputs_; }
  /// N.
  [[nodiscard]] Index num_samples() const { return X_.rows(); }
  /// d.
  [[nodiscard]] Index dimension() const { return X_.cols(); }
  /// `|X beta - y|` for d values beta.
  [[nodiscard]] S residual_norm(const Vector<S>& beta) const;

 private:
  BasicDataset(Matrix<S> X, Vector<S> y, Index num_outputs);

  static void require_squares(const char* name, S largest, Index count);

  Matrix<S> X_;
  Vector<S> y_;  // Y column by column
  Index num_outputs_;
};

template <class S>
BasicDataset<S>::BasicDataset(Matrix<S> X, Vector<S> y) : BasicDataset(std::move(X), std::move(y), 1) {}

template <class S>
BasicDataset<S> BasicDataset<S>::with_outputs(Matrix<S> X, const Matrix<S>& Y) {
  require<DimensionError>(Y.cols() > 0, "Y has K = 0 columns (outputs)");
  require<DimensionError>(X.rows() == Y.rows(), "X is ", X.rows(), " x ", X.cols(), " but Y is ", Y.rows(), " x ",
                          Y.cols());
  return {std::move(X), Eigen::Map<const Vector<S>>(Y.data(), Y.size()), Y.cols()};
}

template <class S>
BasicDataset<S>::BasicDataset(Matrix<S> X, Vector<S> y, Index num_outputs)
    : X_(std::move(X)), y_(std::move(y)), num_outputs_(num_outputs) {
  require<DimensionError>(X_.rows() > 0, "X has N = 0 rows (samples)");
  require<DimensionError>(X_.cols() > 0, "X has d = 0 columns (features)");
  require<DimensionError>(X_.rows() * num_outputs_ == y_.size(), "X is ", X_.rows(), " x ", X_.cols(), " but y has ",
                          y_.size(), " entries");
  require_finite("X", X_);
  require_finite("y", y_);
  require_squares("X", detail::largest_size(X_.data(), X_.size()), X_.size());
  require_squares("y", detail::largest_size(y_), y_.size());
}

template <class S>
S BasicDataset<S>::residual_norm(const Vector<S>& beta) const {
  Vector<S> residual = y();
  detail::subtract_product(X_, beta, residual);
  return detail::norm(residual);
}

template <class S>
void BasicDataset<S>::require_squares(const char* name, S largest, Index count) {
  using Limits = std::numeric_limits<S>;
  const bool overflow = largest > S(1) && largest > Limits::max() / largest / static_cast<S>(count);
  const bool underflow = largest > S(0) && largest < S(1) && largest * largest < Limits::min() / Limits::epsilon();
  require(!overflow && !underflow, "sums of squares of ", name, " ", overflow ? "overflow" : "underflow",
          ": its largest entry is ", largest, "; choose other units");
}

/// Dataset in double precision.
using Dataset = BasicDataset<double>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DATASET(prefix, S) prefix template class BasicDataset<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DATASET)
