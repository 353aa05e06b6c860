#pragma once

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/span.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/vector_field.hpp"
#include "richflow/train/sgd.hpp"

namespace richflow {

/// The ladder of a step search: `largest, largest * ratio, largest * ratio^2, ...`.
template <class S = double>
struct StepSearchOptions {
  S largest = S(1);
  S ratio = S(0.25);         ///< in (0, 1)
  Index count = 8;           ///< steps on the ladder
  Index trial_epochs = 3;    ///< each is tried for this many
  Index patience = 2;        ///< this many steps in a row worse than a larger one end the search
  bool by_accuracy = false;  ///< the largest accuracy wins, the loss decides among equals; otherwise the loss alone
  /// File of the trials so far, written after each; a search that finds its own file resumes from there.
  std::filesystem::path checkpoint = {};
  /// Where positive, a trial is given up after this many batches in a row of its first epoch with a mean loss above
  /// that of all samples at the start: it diverges or has destroyed the model. Some dozens are enough.
  Index hopeless_batches = 0;
};

/// The trial of one step.
template <class S = double>
struct StepTrial {
  S step = S(0);
  Status status = Status::max_steps;
  double loss = std::numeric_limits<double>::infinity();  ///< of the data after the trial; infinite if it diverged
  double accuracy = 0.0;                                  ///< after the trial
};

/// The result of a step search.
template <class S = double>
struct StepSearchResult : Result<StepSearchResult<S>> {
  S step = S(0);                          ///< the best one; 0 when every step diverged
  std::vector<StepTrial<S>> trials = {};  ///< from the largest step down

  /// Whether any step did not diverge.
  [[nodiscard]] bool ok() const { return step > S(0); }
  /// The best step and its loss, or that there is none.
  [[nodiscard]] std::string message() const {
    for (const StepTrial<S>& trial : trials)
      if (ok() && trial.step == step)
        return detail::concat("step ", step, " is the best of ", trials.size(), ", with a mean loss of ", trial.loss);
    return trials.empty() ? "no step was tried"
                          : detail::concat("training diverged with each of ", trials.size(), " steps, from ",
                                           trials.front().step, " to ", trials.back().step);
  }
};

namespace detail {

template <class S>
void check(const StepSearchOptions<S>& ladder) {
  using std::isfinite;
  require(isfinite(ladder.largest) && ladder.largest > S(0), "largest must be positive and finite, got ",
          ladder.largest);
  require(ladder.ratio > S(0) && ladder.ratio < S(1), "ratio must be in (0, 1), got ", ladder.ratio);
  require(ladder.count >= 1 && ladder.patience >= 1, "count and patience must be at least 1, got ", ladder.count,
          " and ", ladder.patience);
  require(ladder.hopeless_batches >= 0, "hopeless_batches must not be negative, got ", ladder.hopeless_batches);
  require(ladder.trial_epochs >= 1, "trial_epochs must be at least 1, got ", ladder.trial_epochs);
}

/// `attempt(step, k)` down the ladder, until `patience` steps in a row were worse than the best.
template <class S, class Attempt>
[[nodiscard]] StepSearchResult<S> search_ladder(const StepSearchOptions<S>& ladder, const Attempt& attempt) {
  using std::isfinite;
  StepSearchResult<S> result;
  StepTrial<S> best;
  const auto is_better = [&](const StepTrial<S>& a, const StepTrial<S>& b) {
    if (ladder.by_accuracy && a.accuracy != b.accuracy) return a.accuracy > b.accuracy;
    return a.loss < b.loss;
  };
  S step = ladder.largest;
  Index worse = 0;
  for (Index k = 0; k < ladder.count && worse < ladder.patience; ++k, step *= ladder.ratio) {
    const StepTrial<S> trial = attempt(step, static_cast<std::size_t>(k));
    result.trials.push_back(trial);
    if (isfinite(trial.loss) && (!result.ok() || is_better(trial, best))) {
      best = trial;
      result.step = trial.step;
      worse = 0;
    } else if (result.ok() && is_better(best, trial)) {
      // Not where they tie, as all do that leave no unit alive.
      ++worse;
    }
  }
  return result;
}

inline constexpr const char* step_search_title = "richflow step search 1";

/// The part of a search's file by which it knows its run: that of the trainer with the largest step, and the ladder.
template <class S>
void write_search_identity(CheckpointWriter& writer, const Sgd<S>& trainer, const StepSearchOptions<S>& ladder) {
  trainer.write_identity(writer);
  writer.field("ratio", ladder.ratio);
  writer.field("trial_epochs", ladder.trial_epochs);
  if (ladder.hopeless_batches > 0) writer.field("hopeless_batches", ladder.hopeless_batches);
}

template <class S>
void save_trials(const Sgd<S>& trainer, const StepSearchOptions<S>& ladder, const std::vector<StepTrial<S>>& trials) {
  CheckpointWriter writer;
  write_search_identity(writer, trainer, ladder);
  writer.field("trials", static_cast<Index>(trials.size()));
  for (const auto& trial : trials) {
    const bool is_finite = std::isfinite(trial.loss);
    writer.field("step", trial.step);
    writer.field("status", static_cast<int>(trial.status));
    writer.field("finite", is_finite ? 1 : 0);
    writer.field("loss", is_finite ? trial.loss : 0.0);
    writer.field("accuracy", trial.accuracy);
  }
  write_file(ladder.checkpoint, sealed_checkpoint(step_search_title, writer.text()));
}

/// None where there is no file.
template <class S>
[[nodiscard]] std::vector<StepTrial<S>> load_trials(const Sgd<S>& trainer, const StepSearchOptions<S>& ladder) {
  std::vector<StepTrial<S>> trials;
  if (ladder.checkpoint.empty() || !std::filesystem::exists(ladder.checkpoint)) return trials;
  CheckpointReader reader(opened_checkpoint(step_search_title, checkpoint_content(ladder.checkpoint)));
  trainer.check_identity(reader);
  auto ratio = ladder.ratio;
  Index trial_epochs = 0;
  Index count = 0;
  reader.field("ratio", ratio);
  reader.field("trial_epochs", trial_epochs);
  require<CheckpointError>(ratio == ladder.ratio && trial_epochs == ladder.trial_epochs,
                           "checkpoint: it is of a search with ratio ", ratio, " and trial_epochs ", trial_epochs,
                           " where this one has ", ladder.ratio, " and ", ladder.trial_epochs);
  Index hopeless_batches = 0;
  if (reader.next_is("hopeless_batches")) reader.field("hopeless_batches", hopeless_batches);
  require<CheckpointError>(hopeless_batches == ladder.hopeless_batches,
                           "checkpoint: it is of a search with hopeless_batches ", hopeless_batches,
                           " where this one has ", ladder.hopeless_batches);
  reader.field("trials", count);
  for (Index k = 0; k < count; ++k) {
    StepTrial<S> trial;
    int status = 0;
    int is_finite = 0;
    reader.field("step", trial.step);
    reader.field("status", status);
    reader.field("finite", is_finite);
    reader.field("loss", trial.loss);
    reader.field("accuracy", trial.accuracy);
    require<CheckpointError>(status >= 0 && status <= static_cast<int>(Status::diverged),
                             "checkpoint: a trial has the ", "status ", status, ", which does not exist");
    trial.status = static_cast<Status>(status);
    if (is_finite == 0) trial.loss = std::numeric_limits<double>::infinity();
    trials.push_back(trial);
  }
  return trials;
}

/// Whether so many batches in a row of the first epoch have a loss above `start_loss`, or one a loss that is not
/// finite. The trainer is then where that shows, otherwise at the end of the epoch.
template <class S>
[[nodiscard]] bool is_hopeless(Sgd<S>& trainer, Index batches, double start_loss) {
  Index above = 0;
  for (Index k = 0; k < trainer.num_batches(); ++k) {
    if (!trainer.step()) return true;
    above = trainer.batch_loss() > start_loss ? above + 1 : 0;
    if (above >= batches) return true;
  }
  return false;
}

/// The search among trainers of given steps.
template <class S>
[[nodiscard]] StepSearchResult<S> search_trainers(const StepSearchOptions<S>& ladder,
                                                  const std::function<Sgd<S>(S)>& trainer_of) {
  const bool saves = !ladder.checkpoint.empty();
  std::optional<Sgd<S>> first;  // for its identity
  std::vector<StepTrial<S>> known;
  if (saves) {
    first.emplace(trainer_of(ladder.largest));
    known = load_trials(*first, ladder);
  }
  std::optional<double> start_loss;  // all trials begin at the same weights
  std::vector<StepTrial<S>> trials;
  return search_ladder<S>(ladder, [&](S step, std::size_t k) {
    StepTrial<S> trial{step};
    if (k < known.size()) {
      trial = known[k];
    } else {
      Sgd<S> trainer = trainer_of(step);
      if (ladder.hopeless_batches > 0 && !start_loss) start_loss = trainer.score().loss;
      if (ladder.hopeless_batches > 0 && is_hopeless(trainer, ladder.hopeless_batches, *start_loss)) {
        trial.status = Status::diverged;
      } else {
        const SgdResult<S> run = trainer.run();
        trial.status = run.status;
        if (run.status != Status::non_finite && run.status != Status::diverged) {
          trial.loss = run.final.loss;
          trial.accuracy = run.final.accuracy;
        }
      }
    }
    trials.push_back(trial);
    if (saves && trials.size() > known.size()) save_trials(*first, ladder, trials);
    return trial;
  });
}

}  // namespace detail

/// Tries the steps of a geometric ladder from large to small, each from w0 for a few epochs, and returns the one with
/// the smallest mean loss at the end. Steps that diverge are noted and passed over. Throws ArgumentError for an invalid
/// ladder, what Sgd throws for `options`, whose step, length, callback and checkpoint do not matter, and
/// CheckpointError when the ladder's checkpoint is damaged or of another search.
template <Model M, class Data, class L = typename detail::DefaultLoss<Data>::type>
[[nodiscard]] StepSearchResult<typename M::Scalar> search_step(const M& model, const Data& data,
                                                               const Vector<typename M::Scalar>& w0,
                                                               SgdOptions<typename M::Scalar> options,
                                                               const StepSearchOptions<typename M::Scalar>& ladder,
                                                               const L& loss = {}) {
  using Scalar = typename M::Scalar;
  detail::check(ladder);
  options.max_epochs = ladder.trial_epochs;
  options.on_epoch = {};
  options.checkpoint.clear();
  return detail::search_trainers<Scalar>(ladder, [&](Scalar step) {
    options.step = step;
    return Sgd<Scalar>(model, data, w0, options, loss);
  });
}

/// The same with any rule on any problem with a source: each step from w0 for `trial_epochs` passes through the data,
/// and the one with the smallest loss over all data is best. A step is passed over where the run ends early, or at a
/// loss that is not finite or above a hundred times that at w0. With `checkpoint` every trial is kept in a file of its
/// own beside it (`checkpoint.0`, ...), from which it resumes. Throws as above, and ArgumentError for `by_accuracy`
/// and `hopeless_batches`: only losses at the end of a trial are compared here.
///
///     search_step(StochasticGradient(net, data, {.batch_size = 8}), w0, HeavyBall{.momentum = 0.9}, {.largest = 0.1})
template <class P, class R>
requires(HasSource<P>&& HasLoss<P>&& DescentRule<R, typename P::Scalar>)
    [[nodiscard]] StepSearchResult<typename P::Scalar> search_step(
        const P& problem, const Vector<typename P::Scalar>& w0, const R& rule,
        const StepSearchOptions<typename P::Scalar>& ladder) {
  using Scalar = typename P::Scalar;
  using std::isfinite;
  detail::check(ladder);
  require(!ladder.by_accuracy, "by_accuracy is for the search with SgdOptions: a problem has a loss and no accuracy");
  require(ladder.hopeless_batches == 0, "hopeless_batches is for the search with SgdOptions, got ",
          ladder.hopeless_batches);
  const Scalar start = problem.loss(w0);
  constexpr double divergence_factor = 100.0;
  return detail::search_ladder<Scalar>(ladder, [&](Scalar step, std::size_t k) {
    StepTrial<Scalar> trial{step};
    IntegrateOptions<Scalar> options;
    if (!ladder.checkpoint.empty())
      options.checkpoint.file = std::filesystem::path(ladder.checkpoint) += detail::concat(".", k);
    const auto run = integrate(problem, w0, Epochs{ladder.trial_epochs}, rule, ConstantStep<Scalar>{step}, options);
    trial.status = run.status;
    const auto loss = static_cast<double>(problem.loss(run.w));
    if (run.ok() && isfinite(loss) && loss <= divergence_factor * static_cast<double>(start))
      trial.loss = loss;
    else if (run.ok())
      trial.status = Status::diverged;
    return trial;
  });
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_STEP_SEARCH(prefix, S)                                           \
  prefix template StepSearchResult<S> detail::search_trainers<S>(const StepSearchOptions<S>&, \
                                                                 const std::function<Sgd<S>(S)>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_STEP_SEARCH)
