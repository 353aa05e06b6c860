#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>

#include "files.hpp"
#include "richflow/core/error.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/step_search.hpp"
#include "text.hpp"

namespace CLI {
class App;
}

/// @file
/// Long training runs: they resume after an interruption, and report beforehand how long they take.

namespace richflow::examples {

/// The folder in which the training of one model keeps what it resumes from: the steps that were searched, and the
/// trainer of each step that it was trained with.
class TrainingFolder {
 public:
  /// Nothing is kept.
  TrainingFolder() = default;
  /// Makes the folder where it is not there; a trainer is saved after an epoch if the last time is `save_seconds` ago.
  /// Throws FileError where it cannot.
  TrainingFolder(std::filesystem::path folder, double save_seconds)
      : folder_(std::move(folder)), save_seconds_(save_seconds) {
    prepare_output_folder(folder_);
  }

  /// Empty where nothing is kept, as the others.
  [[nodiscard]] std::filesystem::path search_file() const { return folder_.empty() ? folder_ : folder_ / "search"; }
  [[nodiscard]] std::filesystem::path trainer_file(float step) const {
    return folder_.empty() ? folder_ : folder_ / ("step_" + exact_number(static_cast<double>(step)));
  }
  [[nodiscard]] double save_seconds() const { return save_seconds_; }

  /// Removes everything: the training is done.
  void remove() const {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

 private:
  std::filesystem::path folder_ = {};
  double save_seconds_ = 0.0;
};

/// Where and how often half-trained nets are saved. A file of a large net takes a second.
struct SavedTraining {
  std::filesystem::path folder = {};  ///< empty: nothing is kept
  double seconds = 60.0;              ///< between saves

  /// That of one model.
  [[nodiscard]] TrainingFolder of(const std::string& model) const {
    return folder.empty() ? TrainingFolder() : TrainingFolder(folder / model, seconds);
  }
};

/// Adds `--save-seconds`.
void add_save_option(CLI::App& app, double& save_seconds);

/// Whatever prevents resuming from `file` is reported and removed.
inline void discard(const std::filesystem::path& file, const CheckpointError& error) {
  std::cerr << quoted(file) << " is not used, and replaced: " << error.what() << '\n';
  std::filesystem::remove(file);
}

/// Trains to the end, from the file in `folder` where one of the same run is there.
template <class M>
[[nodiscard]] SgdResult<float> train_resumably(const M& model, const LabelledDataset<float>& data,
                                               const Vector<float>& w0, SgdOptions<float> options,
                                               const TrainingFolder& folder) {
  options.checkpoint = folder.trainer_file(options.step);
  options.checkpoint_epochs = 1;
  options.checkpoint_seconds = folder.save_seconds();
  Sgd trainer(model, data, w0, options);
  if (!options.checkpoint.empty() && std::filesystem::exists(options.checkpoint)) {
    try {
      trainer.load(options.checkpoint);
      std::cerr << quoted(options.checkpoint) << ": resumes after epoch " << trainer.epoch() << '\n';
    } catch (const CheckpointError& error) {
      discard(options.checkpoint, error);
    }
  }
  return trainer.run();
}

/// Searches the step, from the file in `folder` where one of the same search is there.
template <class M>
[[nodiscard]] StepSearchResult<float> search_step_resumably(const M& model, const LabelledDataset<float>& data,
                                                            const Vector<float>& w0, const SgdOptions<float>& options,
                                                            StepSearchOptions<float> ladder,
                                                            const TrainingFolder& folder) {
  ladder.checkpoint = folder.search_file();
  try {
    return search_step(model, data, w0, options, ladder);
  } catch (const CheckpointError& error) {
    discard(ladder.checkpoint, error);
    return search_step(model, data, w0, options, ladder);
  }
}

/// How far training from w0 to w has moved the tangent kernel of all outputs, on the first images of `data`: a cosine
/// distance, to some 20 % by random projections, which are the same for all networks of one shape.
template <class M>
[[nodiscard]] double trained_kernel_distance(const M& model, const Vector<float>& w0, const Vector<float>& w,
                                             const LabelledDataset<float>& data, Index images) {
  constexpr Index projections = 48;
  const Matrix<float> X = data.X().topRows(std::min(images, data.num_samples()));
  return static_cast<double>(KernelDistance<M>(model, w0, X, {.projections = projections})(w));
}

/// Seconds that an epoch of `num_samples` samples takes on one thread, from one batch of the first ones of `data`.
template <class M>
[[nodiscard]] double seconds_of_epoch(const M& model, Vector<float> w, const LabelledDataset<float>& data,
                                      Index num_samples, Index batch_size) {
  const Index batch = std::min(batch_size, data.num_samples());
  const Matrix<float> X = data.X().topRows(batch);
  Matrix<float> F(batch, model.num_outputs());
  auto at = model.make_evaluation(batch);
  const auto seconds_of_batch = [&] {
    const Stopwatch watch;
    at.forward(w, X, F);
    at.add_pullback(F, 0.0F, w);
    return watch.seconds();
  };
  static_cast<void>(seconds_of_batch());  // touches the memory
  return seconds_of_batch() * std::ceil(static_cast<double>(num_samples) / static_cast<double>(batch));
}

}  // namespace richflow::examples
