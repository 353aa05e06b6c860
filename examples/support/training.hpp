#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "richflow/core/error.hpp"
#include "richflow/train/sgd.hpp"
#include "text.hpp"

/// @file
/// Training runs that take long: they go on where they were interrupted, and how long they take is said before.

namespace richflow::examples {

/// Trains to the end, from the checkpoint of `options` where one of the same run is there.
template <class M>
[[nodiscard]] SgdResult<float> train_resumably(const M& model, const LabelledDataset<float>& data,
                                               const Vector<float>& w0, const SgdOptions<float>& options) {
  Sgd<M> trainer(model, data, w0, options);
  if (!options.checkpoint.empty() && std::filesystem::exists(options.checkpoint)) {
    try {
      trainer.load(options.checkpoint);
    } catch (const CheckpointError&) {
      // Of other options or other code: from the beginning.
    }
  }
  return trainer.run();
}

/// Seconds that an epoch of `num_samples` samples takes on one thread, from one batch of the first ones of `data`.
template <class M>
[[nodiscard]] double seconds_of_epoch(const M& model, Vector<float> w, const LabelledDataset<float>& data,
                                      Index num_samples, Index batch_size) {
  const Index batch = std::min(batch_size, data.num_samples());
  const Matrix<float> X = data.features().leftCols(batch).transpose();
  Matrix<float> F(batch, model.num_outputs());
  auto ws = model.make_batch_workspace(batch);
  const auto seconds_of_batch = [&] {
    const Stopwatch watch;
    model.forward(w, X, F, ws);
    model.add_pullback(w, X, F, 0.0F, w, ws);
    return watch.seconds();
  };
  static_cast<void>(seconds_of_batch());  // touches the memory
  return seconds_of_batch() * std::ceil(static_cast<double>(num_samples) / static_cast<double>(batch));
}

}  // namespace richflow::examples
