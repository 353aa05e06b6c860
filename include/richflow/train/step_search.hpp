#pragma once

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/train/sgd.hpp"

namespace richflow {

/// The ladder of a step search: `largest, largest * ratio, largest * ratio^2, ...`.
template <class S>
struct StepSearchOptions {
  S largest = S(1);
  S ratio = S(0.25);         ///< in (0, 1)
  Index count = 8;           ///< steps on the ladder
  Index trial_epochs = 3;    ///< each is tried for so long
  Index patience = 2;        ///< so many steps in a row worse than a larger one end the search
  bool by_accuracy = false;  ///< the largest accuracy wins, the loss decides among equals; otherwise the loss alone
};

/// How a step did.
template <class S>
struct StepTrial {
  S step = S(0);
  Status status = Status::max_steps;
  double loss = std::numeric_limits<double>::infinity();  ///< of the data after the trial; infinite if it diverged
  double accuracy = 0.0;                                  ///< after the trial
};

/// What a step search has found.
template <class S>
struct StepSearchResult {
  S step = S(0);                          ///< with the smallest loss; 0 when every step diverged
  std::vector<StepTrial<S>> trials = {};  ///< from the largest step down

  /// Whether any step did not diverge.
  [[nodiscard]] bool ok() const { return step > S(0); }
};

/// Tries the steps of a geometric ladder from large to small, each from w0 for a few epochs, and returns the one with
/// the smallest mean loss at the end. Steps that diverge are noted and passed over. Throws ArgumentError for a
/// senseless ladder, and what Sgd throws for `options`, whose step, length, callback and checkpoint do not matter.
template <BatchModel M, ClassLoss<typename M::Scalar> L = CrossEntropy<typename M::Scalar>>
[[nodiscard]] StepSearchResult<typename M::Scalar> search_step(
    const M& model, const LabelledDataset<typename M::Scalar>& data, const Vector<typename M::Scalar>& w0,
    SgdOptions<typename M::Scalar> options, const StepSearchOptions<typename M::Scalar>& ladder, const L& loss = {}) {
  using Scalar = typename M::Scalar;
  using std::isfinite;
  require(isfinite(ladder.largest) && ladder.largest > Scalar(0), "largest must be positive and finite, got ",
          ladder.largest);
  require(ladder.ratio > Scalar(0) && ladder.ratio < Scalar(1), "ratio must be in (0, 1), got ", ladder.ratio);
  require(ladder.count >= 1 && ladder.patience >= 1, "count and patience must be at least 1, got ", ladder.count,
          " and ", ladder.patience);
  options.max_epochs = ladder.trial_epochs;
  options.on_epoch = {};
  options.checkpoint.clear();
  StepSearchResult<Scalar> result;
  StepTrial<Scalar> best;
  const auto is_better = [&](const StepTrial<Scalar>& a, const StepTrial<Scalar>& b) {
    if (ladder.by_accuracy && a.accuracy != b.accuracy) return a.accuracy > b.accuracy;
    return a.loss < b.loss;
  };
  Index worse = 0;
  options.step = ladder.largest;
  for (Index k = 0; k < ladder.count && worse < ladder.patience; ++k, options.step *= ladder.ratio) {
    const SgdResult<Scalar> run = Sgd<M, L>(model, data, w0, options, loss).run();
    StepTrial<Scalar> trial{options.step, run.status};
    if (run.status != Status::non_finite && run.status != Status::diverged) {
      const Evaluation reached = evaluate(model, run.w, data, loss);
      if (isfinite(reached.loss)) {
        trial.loss = reached.loss;
        trial.accuracy = reached.accuracy;
      }
    }
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

}  // namespace richflow
