#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/hash.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/labels.hpp"

namespace richflow {

/// A classification problem: `X` is N x d (row n is x_n), labels 0, ..., K - 1. Checked once, on construction. A sample
/// is kept as a column of memory, so that a batch of arbitrary samples is gathered at the speed of memory.
template <class S = double>
class LabelledDataset {
 public:
  using Scalar = S;

  /// A copy of `X`, N x d; takes over the N `labels`. Throws DimensionError when N = 0, d = 0 or the sizes differ,
  /// NonFiniteError when an entry of X is NaN or infinite, ArgumentError for num_classes < 2 or a label outside
  /// 0 .. num_classes - 1. Cost: two passes.
  LabelledDataset(const Matrix<S>& X, Vector<int> labels, Index num_classes)
      : LabelledDataset(AsColumns{}, X.transpose(), std::move(labels), num_classes) {}

  /// The same from the samples as columns, d x N, which it takes over.
  [[nodiscard]] static LabelledDataset from_columns(Matrix<S> columns, Vector<int> labels, Index num_classes) {
    return LabelledDataset(AsColumns{}, std::move(columns), std::move(labels), num_classes);
  }

  /// Samples, N x d: a view.
  [[nodiscard]] Eigen::Transpose<const Matrix<S>> X() const { return columns_.transpose(); }
  /// Samples as columns, d x N, as they are kept.
  [[nodiscard]] const Matrix<S>& columns() const { return columns_; }
  /// Labels, N.
  [[nodiscard]] const Vector<int>& labels() const { return labels_; }
  /// N.
  [[nodiscard]] Index num_samples() const { return columns_.cols(); }
  /// d.
  [[nodiscard]] Index num_inputs() const { return columns_.rows(); }
  /// K.
  [[nodiscard]] Index num_classes() const { return num_classes_; }

  /// Row b of `X` (B x d) and entry b of `labels` (B) become those of sample `indices[b]`. Allocates nothing. Throws
  /// DimensionError for other shapes and ArgumentError for an index outside 0 .. N - 1.
  void gather(const Index* indices, MatrixRef<S> X, VectorRef<int> labels) const;

  /// The same for the samples from `first` on. Throws DimensionError for other shapes and ArgumentError for samples
  /// outside 0 .. N - 1.
  void gather_from(Index first, MatrixRef<S> X, VectorRef<int> labels) const;

  /// The samples `indices` as a dataset of their own. Throws as `gather`.
  [[nodiscard]] LabelledDataset subset(const std::vector<Index>& indices) const;

  /// `count` samples drawn without replacement. Throws ArgumentError unless 1 <= count <= N.
  [[nodiscard]] LabelledDataset random_subset(RandomStream& random, Index count) const;

 private:
  struct AsColumns {};
  LabelledDataset(AsColumns, Matrix<S> columns, Vector<int> labels, Index num_classes);

  static constexpr Index strip = 16;

  template <class IndexOf>
  void copy(const IndexOf& index_of, MatrixRef<S> X, VectorRef<int> labels) const {
    require<DimensionError>(X.cols() == num_inputs(), "X has ", X.cols(), " columns where d = ", num_inputs());
    require_size("labels", labels.size(), X.rows());
    for (Index b = 0; b < X.rows(); ++b) labels[b] = labels_[index_of(b)];
    // A transposition in strips: what a strip reads of a sample is a cache line, and what it writes stays in cache.
    for (Index first = 0; first < num_inputs(); first += strip) {
      const Index count = std::min<Index>(strip, num_inputs() - first);
      for (Index b = 0; b < X.rows(); ++b) {
        const S* sample = columns_.data() + index_of(b) * num_inputs() + first;
        for (Index i = 0; i < count; ++i) X(b, first + i) = sample[i];
      }
    }
  }

  Matrix<S> columns_;
  Vector<int> labels_;
  Index num_classes_;
};

/// `LabelledDataset data(X, labels, K)`: of the number type of X, which may be an expression.
template <class Derived>
LabelledDataset(const Eigen::MatrixBase<Derived>&, Vector<int>, Index) -> LabelledDataset<typename Derived::Scalar>;

template <class S>
LabelledDataset<S>::LabelledDataset(AsColumns, Matrix<S> columns, Vector<int> labels, Index num_classes)
    : columns_(std::move(columns)), labels_(std::move(labels)), num_classes_(num_classes) {
  require<DimensionError>(columns_.cols() > 0, "X has N = 0 rows (samples)");
  require<DimensionError>(columns_.rows() > 0, "X has d = 0 columns (features)");
  require(num_classes >= 2, "num_classes must be at least 2, got ", num_classes);
  detail::require_labels(labels_, columns_.cols(), num_classes);
  if (!detail::are_finite(columns_.data(), columns_.size())) require_finite("X", X());
}

template <class S>
void LabelledDataset<S>::gather(const Index* indices, MatrixRef<S> X, VectorRef<int> labels) const {
  for (Index b = 0; b < X.rows(); ++b)
    require(indices[b] >= 0 && indices[b] < num_samples(), "indices[", b, "] must be in 0 .. ", num_samples() - 1,
            ", got ", indices[b]);
  copy([indices](Index b) { return indices[b]; }, X, labels);
}

template <class S>
void LabelledDataset<S>::gather_from(Index first, MatrixRef<S> X, VectorRef<int> labels) const {
  require(first >= 0 && first <= num_samples() - X.rows(), "there are no ", X.rows(), " samples from first = ", first,
          " on, N = ", num_samples());
  copy([first](Index b) { return first + b; }, X, labels);
}

template <class S>
LabelledDataset<S> LabelledDataset<S>::subset(const std::vector<Index>& indices) const {
  Matrix<S> columns(num_inputs(), static_cast<Index>(indices.size()));
  Vector<int> labels(columns.cols());
  for (Index n = 0; n < columns.cols(); ++n) {
    const Index sample = indices[static_cast<std::size_t>(n)];
    require(sample >= 0 && sample < num_samples(), "indices[", n, "] must be in 0 .. ", num_samples() - 1, ", got ",
            sample);
    columns.col(n) = columns_.col(sample);
    labels[n] = labels_[sample];
  }
  return from_columns(std::move(columns), std::move(labels), num_classes_);
}

template <class S>
LabelledDataset<S> LabelledDataset<S>::random_subset(RandomStream& random, Index count) const {
  require(count >= 1 && count <= num_samples(), "count must be in 1 .. ", num_samples(), ", got ", count);
  return subset(sample_without_replacement(random, num_samples(), count));
}

namespace detail {

/// A hash of a dataset, by which a checkpoint knows it.
template <class S>
[[nodiscard]] std::uint64_t fingerprint(const LabelledDataset<S>& data) {
  std::uint64_t hash = 0;
  for (Index n = 0; n < data.num_samples(); ++n)
    hash = mix(hash ^ hash_of_numbers(data.columns().col(n).data(), data.num_inputs())) +
           static_cast<std::uint64_t>(data.labels()[n]);
  return hash;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LABELLED_DATASET(prefix, S) prefix template class LabelledDataset<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LABELLED_DATASET)
