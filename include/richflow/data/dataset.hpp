#pragma once

#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// A regression problem: `X` is N x d (row n is x_n), `y` has N labels. Checked once, on construction;
/// everything that takes a dataset relies on it.
template <class S>
class BasicDataset {
 public:
  using Scalar = S;

  /// Takes over `X` and `y`. Throws DimensionError when N = 0, d = 0 or the shapes differ, and
  /// NonFiniteError when an entry is NaN or infinite. Cost: one pass over the data.
  BasicDataset(Matrix<S> X, Vector<S> y) : X_(std::move(X)), y_(std::move(y)) {
    require<DimensionError>(X_.rows() > 0, "X has N = 0 rows (samples)");
    require<DimensionError>(X_.cols() > 0, "X has d = 0 columns (features)");
    require<DimensionError>(X_.rows() == y_.size(), "X is ", X_.rows(), " x ", X_.cols(), " but y has ", y_.size(),
                            " entries");
    require_finite("X", X_);
    require_finite("y", y_);
  }

  /// Samples, N x d.
  [[nodiscard]] const Matrix<S>& X() const { return X_; }
  /// Labels, N.
  [[nodiscard]] const Vector<S>& y() const { return y_; }
  /// N.
  [[nodiscard]] Index num_samples() const { return X_.rows(); }
  /// d.
  [[nodiscard]] Index dimension() const { return X_.cols(); }

 private:
  Matrix<S> X_;
  Vector<S> y_;
};

/// Dataset in double precision.
using Dataset = BasicDataset<double>;

}  // namespace richflow
