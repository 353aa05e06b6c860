#pragma once

#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/measurements.hpp"

namespace richflow {

namespace detail {

/// Of a type: a vector or matrix in memory, column by column, not an expression.
template <class T, class S>
[[nodiscard]] consteval bool is_in_memory() {
  if constexpr (requires {
                  typename T::Scalar;
                  T::Flags;
                }) {
    constexpr bool by_columns = T::IsVectorAtCompileTime || !T::IsRowMajor;
    return std::is_same_v<typename T::Scalar, S> && (T::Flags & Eigen::DirectAccessBit) != 0 && by_columns &&
           Eigen::internal::inner_stride_at_compile_time<T>::ret == 1;
  } else {
    return false;
  }
}

}  // namespace detail

/// The samples that a model is evaluated on, where they are: the N rows x_n of a matrix, or N measurements of a matrix.
/// A view, made from either without a copy; what it was made from must stay. A model takes one sort of samples: rows,
/// or measurements if it says so (`using Samples = MatrixMeasurements<Scalar>;`).
template <class S>
class Samples {
 public:
  /// Number type.
  using Scalar = S;
  /// A matrix elsewhere.
  using MatrixMap = Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>>;

  /// None.
  Samples() = default;
  /// The rows of a matrix (N x d).
  template <class X>
  requires(detail::is_in_memory<X, S>()) Samples(const X& rows) {  // NOLINT: a view is made without words
    const ConstMatrixRef<S> ref(rows);
    data_ = ref.data();
    rows_ = ref.rows();
    cols_ = ref.cols();
    stride_ = ref.outerStride();
  }
  /// Measurements of a matrix.
  Samples(const MatrixMeasurements<S>& measurements) : measurements_(&measurements) {}  // NOLINT

  /// N.
  [[nodiscard]] Index size() const { return measurements_ != nullptr ? measurements_->num_measurements() : rows_; }
  /// d, the numbers of one sample: d1 d2 of a measurement.
  [[nodiscard]] Index num_inputs() const {
    return measurements_ != nullptr ? measurements_->rows() * measurements_->cols() : cols_;
  }
  /// Whether these are measurements.
  [[nodiscard]] bool are_measurements() const { return measurements_ != nullptr; }

  /// The rows, N x d. Throws ArgumentError where these are measurements.
  [[nodiscard]] MatrixMap matrix() const {
    require(measurements_ == nullptr, "the samples are measurements of a matrix where the rows of a matrix are needed");
    return {data_, rows_, cols_, Eigen::OuterStride<>(stride_)};
  }
  /// Whether this is one row whose entries follow one another in memory.
  [[nodiscard]] bool is_one_row() const { return measurements_ == nullptr && rows_ == 1 && stride_ == 1; }
  /// The entries of that row.
  [[nodiscard]] const S* row_data() const { return data_; }
  /// The measurements. Throws ArgumentError where these are rows.
  [[nodiscard]] const MatrixMeasurements<S>& measurements() const {
    require(measurements_ != nullptr,
            "the samples are the rows of a matrix where measurements are needed (MatrixMeasurements)");
    return *measurements_;
  }

  /// Throws NonFiniteError, with this name, for a row that is not finite; measurements always are.
  void require_finite(const char* name) const {
    if (measurements_ == nullptr) richflow::require_finite(name, matrix());
  }

 private:
  const S* data_ = nullptr;
  Index rows_ = 0;
  Index cols_ = 0;
  Index stride_ = 0;
  const MatrixMeasurements<S>* measurements_ = nullptr;
};

/// Samples in their own memory, which later ones reuse.
template <class S>
class StoredSamples {
 public:
  /// None.
  StoredSamples() = default;
  /// A copy of `X`.
  explicit StoredSamples(Samples<S> X) {
    if (X.are_measurements())
      measurements_ = std::make_unique<MatrixMeasurements<S>>(X.measurements());
    else
      rows_ = X.matrix();
  }
  StoredSamples(const StoredSamples& other) : rows_(other.rows_), indices_(other.indices_) {
    if (other.measurements_) measurements_ = std::make_unique<MatrixMeasurements<S>>(*other.measurements_);
  }
  StoredSamples(StoredSamples&&) noexcept = default;
  StoredSamples& operator=(const StoredSamples& other) { return *this = StoredSamples(other); }
  StoredSamples& operator=(StoredSamples&&) noexcept = default;
  ~StoredSamples() = default;

  /// The samples; the view stays valid when this object is moved or swapped.
  [[nodiscard]] Samples<S> view() const { return measurements_ ? Samples<S>(*measurements_) : Samples<S>(rows_); }

  /// Becomes samples `first ... first + count - 1` of X.
  void take(Samples<S> X, Index first, Index count) {
    if (X.are_measurements()) {
      indices_.resize(static_cast<std::size_t>(count));
      std::iota(indices_.begin(), indices_.end(), first);
      gather(X.measurements(), indices_.data(), count);
    } else {
      measurements_.reset();
      rows_ = X.matrix().middleRows(first, count);
    }
  }

  /// Becomes measurements `indices[0 ... count - 1]` of X.
  void gather(const MatrixMeasurements<S>& X, const Index* indices, Index count) {
    if (measurements_) {
      measurements_->gather(X, indices, count);
      return;
    }
    MatrixMeasurements<S> part = X;
    part.gather(X, indices, count);
    measurements_ = std::make_unique<MatrixMeasurements<S>>(part);  // in memory for no more than these
  }

 private:
  Matrix<S> rows_ = {};
  std::unique_ptr<MatrixMeasurements<S>> measurements_ = {};
  std::vector<Index> indices_ = {};
};

}  // namespace richflow
