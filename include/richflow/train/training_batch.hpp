#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/hash.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/loss.hpp"
#include "richflow/losses/squared_loss.hpp"

/// @file
/// The data of a trainer, classes or numbers, one batch at a time.

namespace richflow::detail {

/// Samples of a dataset, their outputs F and labels. `value` and `gradient` are of a plain sum over them.
template <class Data>
class TrainingBatch;

/// Of classes.
template <class S>
class TrainingBatch<LabelledDataset<S>> {
 public:
  Matrix<S> F = {};

  /// The most samples.
  [[nodiscard]] Index max_size() const { return F.rows(); }
  /// The first `size` that were gathered.
  [[nodiscard]] Samples<S> samples(Index size) const { return Samples<S>(X_.topRows(size)); }

  void resize(Index size, const LabelledDataset<S>& data) {
    X_.setZero(size, data.num_inputs());
    F.setZero(size, data.num_classes());
    labels_.setZero(size);
  }
  /// Nothing to do: each sample is contiguous already.
  void keep_rows(const LabelledDataset<S>& /*data*/, bool /*views*/) {}
  [[nodiscard]] static S largest_in_view() { return std::numeric_limits<S>::infinity(); }
  void gather(const LabelledDataset<S>& data, const Index* indices, Index size) {
    data.gather(indices, X_.topRows(size), labels_.head(size));
  }
  void gather_from(const LabelledDataset<S>& data, Index first, Index size) {
    data.gather_from(first, X_.topRows(size), labels_.head(size));
  }
  template <class L>
  [[nodiscard]] double value(const L& loss, Index size) const {
    return static_cast<double>(loss.value(F.topRows(size), labels_.head(size)));
  }
  /// The value; F becomes its gradient.
  template <class L>
  double gradient(const L& loss, Index size) {
    auto outputs = F.topRows(size);
    return static_cast<double>(loss.value_and_gradient(outputs, labels_.head(size), outputs));
  }
  [[nodiscard]] Index count_correct(Index size) const {
    return richflow::count_correct(F.topRows(size), labels_.head(size));
  }

 private:
  Matrix<S> X_ = {};
  Vector<int> labels_ = {};
};

/// Of numbers, one or K per sample, of which none is right or wrong: each counts as right.
template <class S>
class TrainingBatch<Dataset<S>> {
 public:
  Matrix<S> F = {};

  /// The most samples.
  [[nodiscard]] Index max_size() const { return F.rows(); }
  /// Keeps the samples of the data row after row too, from which batches of any samples are gathered at the speed of
  /// memory; copies share it. With `views` a batch for one sample is that row itself.
  void keep_rows(const Dataset<S>& data, bool views) {
    if (data.has_measurements()) return;
    rows_ = std::make_shared<const Matrix<S>>(data.X().transpose());
    views_ = views && max_size() == 1;
    if (views_) largest_ = largest_size(rows_->data(), rows_->size());
  }
  /// The largest |X_ni| where batches are views of rows; infinity elsewhere.
  [[nodiscard]] S largest_in_view() const { return largest_; }
  /// Those that were gathered, `size` of them.
  [[nodiscard]] Samples<S> samples(Index size) const {
    if (view_ != nullptr) return Samples<S>(Eigen::Map<const Matrix<S>>(view_, 1, X_.cols()));
    return measured_.view().are_measurements() ? measured_.view() : Samples<S>(X_.topRows(size));
  }

  void resize(Index size, const Dataset<S>& data) {
    indices_.resize(static_cast<std::size_t>(size));
    if (data.has_measurements())
      measured_.take(data.samples(), 0, size);
    else
      X_.setZero(size, data.num_inputs());
    F.setZero(size, data.num_outputs());
    for (Vector<S>* v : {&outputs_, &labels_, &targets_, &slopes_}) v->setZero(F.size());
  }
  void gather(const Dataset<S>& data, const Index* indices, Index size) {
    if (data.has_measurements()) {
      measured_.gather(data.measurements(), indices, size);
    } else if (views_) {
      view_ = &(*rows_)(0, indices[0]);
    } else if (rows_) {
      gather_rows(indices, size);
    } else {
      for (Index j = 0; j < X_.cols(); ++j) {
        const S* const column = &data.X()(0, j);
        for (Index b = 0; b < size; ++b) X_(b, j) = column[indices[b]];
      }
    }
    for (Index k = 0; k < F.cols(); ++k)
      for (Index b = 0; b < size; ++b) labels_[b + k * size] = data.Y()(indices[b], k);
    std::copy_n(labels_.data(), size * F.cols(), targets_.data());
  }
  void gather_from(const Dataset<S>& data, Index first, Index size) {
    std::iota(indices_.begin(), indices_.begin() + size, first);
    gather(data, indices_.data(), size);
  }
  template <class L>
  [[nodiscard]] double value(const L& loss, Index size) {
    take_outputs(size);
    const Index count = size * F.cols();
    return static_cast<double>(loss.value(outputs_.head(count), targets_.head(count)));
  }
  template <class L>
  double gradient(const L& loss, Index size) {
    const double sum = value(loss, size);
    const Index count = size * F.cols();
    loss.gradient(outputs_.head(count), targets_.head(count), slopes_.head(count));
    F.topRows(size) = Eigen::Map<const Matrix<S>>(slopes_.data(), size, F.cols());
    return sum;
  }
  [[nodiscard]] static Index count_correct(Index size) { return size; }

  /// The labels of the batch with `draw()` added to each, in the order of the samples; not on top of an earlier noise.
  template <class Draw>
  void add_label_noise(Index size, const Draw& draw) {
    for (Index b = 0; b < size; ++b)
      for (Index k = 0; k < F.cols(); ++k) targets_[b + k * size] = labels_[b + k * size] + draw();
  }

 private:
  /// In strips, whose lines of X_ stay in cache.
  void gather_rows(const Index* indices, Index size) {
    constexpr Index strip = 16;
    for (Index first = 0; first < X_.cols(); first += strip)
      for (Index b = 0; b < size; ++b) {
        const S* const row = &(*rows_)(0, indices[b]);
        for (Index j = first; j < std::min(first + strip, X_.cols()); ++j) X_(b, j) = row[j];
      }
  }

  // Losses take vectors, and the outputs of the last batch are a part of a matrix.
  void take_outputs(Index size) { Eigen::Map<Matrix<S>>(outputs_.data(), size, F.cols()) = F.topRows(size); }

  Matrix<S> X_ = {};
  StoredSamples<S> measured_ = {};  // in place of X_
  std::shared_ptr<const Matrix<S>> rows_ = {};
  bool views_ = false;
  S largest_ = std::numeric_limits<S>::infinity();
  const S* view_ = nullptr;          // in rows_, in place of X_
  std::vector<Index> indices_ = {};  // of samples that follow one another
  Vector<S> outputs_ = {};
  Vector<S> labels_ = {};
  Vector<S> targets_ = {};  // labels with their noise
  Vector<S> slopes_ = {};
};

/// K.
template <class S>
[[nodiscard]] Index outputs_of(const LabelledDataset<S>& data) {
  return data.num_classes();
}
template <class S>
[[nodiscard]] Index outputs_of(const Dataset<S>& data) {
  return data.num_outputs();
}

/// The mean loss of outputs that know nothing: a loss is large if it is far above this.
template <class S>
[[nodiscard]] double loss_of_ignorance(const LabelledDataset<S>& data) {
  return std::log(static_cast<double>(data.num_classes()));
}
template <class S>
[[nodiscard]] double loss_of_ignorance(const Dataset<S>& data) {
  return static_cast<double>(data.Y().squaredNorm()) / static_cast<double>(data.num_samples());
}

/// A hash by which a checkpoint knows its data.
template <class S>
[[nodiscard]] std::uint64_t fingerprint(const Dataset<S>& data) {
  const std::uint64_t of_labels = hash_of_numbers(data.Y().data(), data.num_samples() * data.num_outputs());
  if (!data.has_measurements()) return mix(hash_of_numbers(data.X().data(), data.X().size())) ^ of_labels;
  // By what they measure of some matrix of rank one.
  const MatrixMeasurements<S>& measurements = data.measurements();
  const FactorShape shape = FactorShape::general(measurements.rows(), measurements.cols());
  Matrix<S> T(1, shape.stack_size());
  RandomStream random(0);
  for (Index i = 0; i < T.size(); ++i) T.data()[i] = static_cast<S>(random.uniform(0.5, 1.0));
  Vector<S> values = Vector<S>::Zero(measurements.num_measurements());
  measurements.operations().add_pairing(shape, T, T, values);
  return mix(hash_of_numbers(values.data(), values.size())) ^ of_labels;
}

/// The loss of a trainer that names none.
template <class Data>
struct DefaultLoss;
template <class S>
struct DefaultLoss<LabelledDataset<S>> {
  using type = CrossEntropy<S>;
};
template <class S>
struct DefaultLoss<Dataset<S>> {
  using type = SquaredLoss<S>;
};

/// Whether the loss is one of the labels of the data.
template <class L, class Data>
inline constexpr bool is_loss_of = ClassLoss<L, typename Data::Scalar>;
template <class L, class S>
inline constexpr bool is_loss_of<L, Dataset<S>> = Loss<L, S>;

/// Throws ArgumentError for labels that the loss does not take.
template <class L, class S>
void check_labels(const L& /*loss*/, const LabelledDataset<S>& /*data*/) {}
template <class L, class S>
void check_labels(const L& loss, const Dataset<S>& data) {
  const Eigen::Map<const Vector<S>> labels(data.Y().data(), data.num_samples() * data.num_outputs());
  check_labels_of_loss<L, S>(loss, labels);
}

}  // namespace richflow::detail
