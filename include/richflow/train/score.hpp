#pragma once

#include <algorithm>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scalar_of.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/train/any_batch.hpp"

namespace richflow {

/// Mean loss and accuracy over a dataset.
struct Score {
  double loss = 0.0;
  double accuracy = 0.0;
  /// Fraction of samples whose label does not have the largest output.
  [[nodiscard]] double error() const { return 1.0 - accuracy; }
};

namespace detail {

/// Of all data, in as many samples at once as the batch holds.
template <class S>
[[nodiscard]] Score score_of(Evaluation<S>& at, const Vector<S>& w, AnyBatch<S>& data) {
  const SubnormalScope flushes(SubnormalMode::flush());
  double sum = 0.0;
  Index correct = 0;
  const Index count = data.num_samples();
  for (Index first = 0; first < count; first += data.max_size()) {
    const Index size = std::min(data.max_size(), count - first);
    data.gather_from(first, size);
    at.forward(w, data.samples(size), data.F(size));
    sum += data.value(size);
    correct += data.count_correct(size);
  }
  return {sum / static_cast<double>(count), static_cast<double>(correct) / static_cast<double>(count)};
}

/// See `evaluate`.
template <class M, class Data, class L>
[[nodiscard]] Score evaluate_on(const M& model, const Vector<ScalarOfT<M>>& w, const Data& data, const L& loss,
                                Index max_batch) {
  static_assert(explain_model<M>());
  if constexpr (Model<M>) {
    require(max_batch > 0, "max_batch must be positive, got ", max_batch);
    const Index rows = std::min(max_batch, data.num_samples());
    auto at = make_evaluation(model, rows);
    const auto batch = make_batch(loss, data);
    require_fit(at, *batch);
    require_size("w", w.size(), at.num_parameters());
    batch->check_labels();
    batch->resize(rows);
    return score_of(at, w, *batch);
  } else {
    return {};
  }
}

}  // namespace detail

/// Mean loss and accuracy of a model over a dataset, in batches. Throws DimensionError where the two do not fit,
/// ArgumentError unless max_batch > 0 and for labels that the loss does not take. A loss that is not finite is
/// returned, not thrown.
template <class M, class L = CrossEntropy<detail::ScalarOfT<M>>>
[[nodiscard]] Score evaluate(const M& model, const Vector<detail::ScalarOfT<M>>& w,
                             const LabelledDataset<detail::ScalarOfT<M>>& data, const L& loss = {},
                             Index max_batch = 256) {
  return detail::evaluate_on(model, w, data, loss, max_batch);
}

/// The same where the labels are numbers; their accuracy is 1.
template <class M, class L = SquaredLoss<detail::ScalarOfT<M>>>
[[nodiscard]] Score evaluate(const M& model, const Vector<detail::ScalarOfT<M>>& w,
                             const Dataset<detail::ScalarOfT<M>>& data, const L& loss = {}, Index max_batch = 256) {
  return detail::evaluate_on(model, w, data, loss, max_batch);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SCORE(prefix, S) \
  prefix template Score detail::score_of<S>(Evaluation<S>&, const Vector<S>&, detail::AnyBatch<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SCORE)
