#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/train/training_batch.hpp"

/// @file
/// The data and the loss of an algorithm, of any type: what trains is compiled once per number type.

namespace richflow::detail {

/// Samples of a dataset and a loss on them, of any type. `value` and `gradient` are of a plain sum.
template <class S>
class AnyBatch {
 public:
  virtual ~AnyBatch() = default;
  [[nodiscard]] virtual std::unique_ptr<AnyBatch> clone() const = 0;

  /// Of all data.
  [[nodiscard]] virtual Index num_samples() const = 0;
  [[nodiscard]] virtual Index num_outputs() const = 0;
  [[nodiscard]] virtual Index num_inputs() const = 0;
  [[nodiscard]] virtual bool takes_label_noise() const = 0;
  /// Whether samples can be wrong; numbers have an accuracy of 1.
  [[nodiscard]] virtual bool has_classes() const = 0;
  /// Throws ArgumentError for labels that the loss does not take.
  virtual void check_labels() const = 0;
  /// The mean loss of outputs that know nothing.
  [[nodiscard]] virtual double loss_of_ignorance() const = 0;
  /// A hash by which a checkpoint knows its data.
  [[nodiscard]] virtual std::uint64_t fingerprint() const = 0;

  /// Memory for so many samples.
  virtual void resize(Index size) = 0;
  [[nodiscard]] virtual Index max_size() const = 0;
  /// See TrainingBatch.
  virtual void keep_rows(bool views) = 0;
  [[nodiscard]] virtual S largest_in_view() const = 0;
  virtual void gather(const Index* indices, Index size) = 0;
  virtual void gather_from(Index first, Index size) = 0;
  /// Adds `level * law(random)` to every label of the batch, standard normal where there is no law.
  virtual void add_label_noise(Index size, S level, const std::function<S(RandomStream&)>& law,
                               RandomStream& random) = 0;

  /// Those gathered.
  [[nodiscard]] virtual Samples<S> samples(Index size) const = 0;
  [[nodiscard]] virtual MatrixRef<S> F(Index size) = 0;

  /// The loss of the outputs in F.
  [[nodiscard]] virtual double value(Index size) = 0;
  /// The same; F becomes its gradient.
  virtual double gradient(Index size) = 0;
  /// Outputs in F that are largest where the label is.
  [[nodiscard]] virtual Index count_correct(Index size) const = 0;
};

/// Of a dataset, which it refers to.
template <class S, class L, class Data>
class BatchOf final : public AnyBatch<S> {
 public:
  BatchOf(L loss, const Data& data) : loss_(std::move(loss)), data_(&data) {}
  [[nodiscard]] std::unique_ptr<AnyBatch<S>> clone() const override { return std::make_unique<BatchOf>(*this); }

  [[nodiscard]] Index num_samples() const override { return data_->num_samples(); }
  [[nodiscard]] Index num_outputs() const override { return outputs_of(*data_); }
  [[nodiscard]] Index num_inputs() const override { return data_->num_inputs(); }
  /// Not for classes, nor for numbers that stand for them, where the loss takes no others.
  [[nodiscard]] bool takes_label_noise() const override {
    return std::is_same_v<Data, Dataset<S>> && !ChecksLabels<L, S>;
  }
  [[nodiscard]] bool has_classes() const override { return std::is_same_v<Data, LabelledDataset<S>>; }
  void check_labels() const override { detail::check_labels(loss_, *data_); }
  [[nodiscard]] double loss_of_ignorance() const override { return detail::loss_of_ignorance(*data_); }
  [[nodiscard]] std::uint64_t fingerprint() const override { return detail::fingerprint(*data_); }

  void resize(Index size) override { batch_.resize(size, *data_); }
  [[nodiscard]] Index max_size() const override { return batch_.max_size(); }
  void keep_rows(bool views) override { batch_.keep_rows(*data_, views); }
  [[nodiscard]] S largest_in_view() const override { return batch_.largest_in_view(); }
  void gather(const Index* indices, Index size) override { batch_.gather(*data_, indices, size); }
  void gather_from(Index first, Index size) override { batch_.gather_from(*data_, first, size); }
  void add_label_noise([[maybe_unused]] Index size, [[maybe_unused]] S level,
                       [[maybe_unused]] const std::function<S(RandomStream&)>& law,
                       [[maybe_unused]] RandomStream& random) override {
    if constexpr (std::is_same_v<Data, Dataset<S>>)
      batch_.add_label_noise(size, [&] { return level * (law ? law(random) : static_cast<S>(random.normal())); });
  }

  [[nodiscard]] Samples<S> samples(Index size) const override { return batch_.samples(size); }
  [[nodiscard]] MatrixRef<S> F(Index size) override { return batch_.F.topRows(size); }
  [[nodiscard]] double value(Index size) override { return batch_.value(loss_, size); }
  double gradient(Index size) override { return batch_.gradient(loss_, size); }
  [[nodiscard]] Index count_correct(Index size) const override { return batch_.count_correct(size); }

 private:
  L loss_;
  const Data* data_;
  TrainingBatch<Data> batch_ = {};
};

/// Throws DimensionError where the sizes of a model and the data differ.
template <class S>
void require_fit(const Evaluation<S>& at, const AnyBatch<S>& data) {
  require<DimensionError>(at.num_inputs() == 0 || at.num_inputs() == data.num_inputs(), "the model takes ",
                          at.num_inputs(), " features but the samples have d = ", data.num_inputs());
  require<DimensionError>(at.num_outputs() == data.num_outputs(), "the model has ", at.num_outputs(),
                          " outputs but the labels of a sample are for K = ", data.num_outputs());
}

/// One sentence where the loss is not one of the labels of the data, at compile time; true where it is.
template <class L, class Data>
[[nodiscard]] consteval bool explain_loss() {
  static_assert(is_loss_of<L, Data>,
                "richflow: the loss must have `value(F, labels)` and `value_and_gradient(F, labels, G)` for classes, "
                "`value(f, y)` and `gradient(f, y, out)` for numbers");
  return is_loss_of<L, Data>;
}

/// The batches of a dataset with a loss.
template <class L, class Data>
[[nodiscard]] std::unique_ptr<AnyBatch<typename Data::Scalar>> make_batch(L loss, const Data& data) {
  static_assert(explain_loss<L, Data>());
  if constexpr (is_loss_of<L, Data>)
    return std::make_unique<BatchOf<typename Data::Scalar, L, Data>>(std::move(loss), data);
  else
    return nullptr;
}

}  // namespace richflow::detail
