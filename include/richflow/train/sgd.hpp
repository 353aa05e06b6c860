#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/hash.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scalar_of.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/integrate/any_controller.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/run.hpp"
#include "richflow/integrate/solution.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/train/any_batch.hpp"
#include "richflow/train/score.hpp"
#include "richflow/train/stochastic_gradient.hpp"

namespace richflow {

/// One epoch of training. Loss and accuracy are means over its batches, each as it was before the step on it.
struct EpochRecord {
  Index epoch = 0;  ///< from 1
  double loss = 0.0;
  double accuracy = 0.0;
  double seconds = 0.0;  ///< of wall clock, since the start of the trainer, or of the checkpoint it resumed
};

/// Options of SGD.
template <class S = double>
struct SgdOptions {
  S step = S(0.1);         ///< of the mean gradient of a batch
  Index batch_size = 256;  ///< the last batch of an epoch has what is left
  Index max_epochs = 100;
  S momentum = S(0);           ///< m in [0, 1): v <- m v - step g, w <- w + v
  std::uint64_t seed = 1;      ///< of the order of the samples
  double stop_accuracy = 1.0;  ///< a run ends after an epoch at which all samples have this accuracy
  double stop_loss = 0.0;      ///< and a mean loss below this; infinity: whatever the loss
  Index stall_epochs = 0;      ///< where positive, a run ends as stalled when so many epochs neither lower the smallest
                               ///< mean loss by a quarter nor have stop_accuracy (with classes)
  double divergence_factor = 100;  ///< a run diverges at a mean loss of an epoch beyond this times the sum of that
                                   ///< of the first batch and log K (for numbers, the mean of |y|^2)
  std::function<bool(const EpochRecord&)> on_epoch = {};  ///< after each epoch; false ends the run
  std::filesystem::path checkpoint = {};  ///< file that is written after every `checkpoint_epochs`, and at the end
  Index checkpoint_epochs = 10;
  double checkpoint_seconds = 0.0;  ///< at least so many seconds of wall clock after the last one
  /// Threads that share the work on a batch, where the model supports it: a FullyConnected network with layers of more
  /// than 512 neurons, a ConvNetwork with batches of more than 64 images. Eigen's products, or those of a BLAS, should
  /// have one thread each then. The result does not depend on it.
  ParallelOptions parallel = {1};
  /// Where it is positive, steps grow as the loss falls below it, to `step * growth_loss / max(L, l)`, l the mean loss
  /// of the batch and L that of the epoch before, but not below `step`, nor above `most_growth * step`. The curvature
  /// of a cross-entropy falls as the loss does, p (1 - p) < -log p for each sample, so that steps that are stable at
  /// growth_loss stay so while the model's derivatives keep their size, and a loss that falls like 1 / epoch with equal
  /// steps falls exponentially, along nearly the same flow: a batch weighs less where l > L. Below growth_loss
  /// nearly all samples should be right: `safe_growth_loss` proposes one.
  double growth_loss = 0.0;
  double most_growth = 1e4;  ///< at least 1
};

/// The result of SGD.
template <class S>
struct SgdResult : Result<SgdResult<S>> {
  Status status = Status::max_steps;
  std::string message = {};
  Vector<S> w = {};  ///< the last parameters; where the run diverged, those at the start of the last good epoch
  Score final = {};  ///< over all samples at these parameters
  Index epochs = 0;  ///< complete ones
  std::vector<EpochRecord> records = {};

  /// Whether the targets of the options were reached, or a callback ended the run.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

namespace detail {

/// Throws ArgumentError for options out of range.
template <class S>
void check(const SgdOptions<S>& options, Index num_samples);

/// What a trainer has counted; with weights and velocity, all that determines the rest of the run.
template <class S>
struct TrainerState {
  Index epoch = 0;
  Index batch = 0;
  Index correct = 0;
  double loss_sum = 0.0;
  double first_loss = 0.0;
  Vector<S> epoch_start = {};
  std::vector<EpochRecord> records = {};
};

/// The batches of a trainer, with what it counts of each before the step.
template <class S>
class CountedBatches final : public AnySource<S> {
 public:
  TrainerState<S> state = {};

  CountedBatches(SampledLoss<S> loss, BatchUse use, const SgdOptions<S>& options)
      : batches_(std::move(loss), use),
        divergence_factor_(options.divergence_factor),
        growth_loss_(options.growth_loss),
        most_growth_(options.most_growth),
        ignorance_(batches_.loss().batch().loss_of_ignorance()) {}

  void begin_step(Index k, S t, const Vector<S>& w) override;
  void add_gradient(S scale, VectorRef<S> target) override { batches_.add_gradient(growth_ * scale, target); }
  S descend(S scale, const Vector<S>& w, Vector<S>& w_new) override {
    return batches_.descend(growth_ * scale, w, w_new);
  }
  [[nodiscard]] bool is_sound() const override { return is_sound_; }
  [[nodiscard]] StepResiduals<S> residuals() override { return batches_.residuals(); }

  /// The step on the last batch over that of the options.
  [[nodiscard]] S growth() const { return growth_; }
  /// The mean loss of the last batch.
  [[nodiscard]] double batch_loss() const { return batch_loss_; }
  /// Whether a mean loss is so large that the run has diverged.
  [[nodiscard]] bool is_beyond(double loss) const {
    return !(loss <= divergence_factor_ * (state.first_loss + ignorance_));
  }
  [[nodiscard]] const SampledLoss<S>& loss() const { return batches_.loss(); }
  [[nodiscard]] SampledLoss<S>& borrow_loss() { return batches_.borrow_loss(); }
  void begin_anew() {
    batches_.begin_anew();
    batch_loss_ = 0.0;
  }

 private:
  /// Of the step on a batch with this mean loss.
  [[nodiscard]] double growth_on(double batch_loss) const;

  BatchSource<S> batches_;
  double divergence_factor_;
  double growth_loss_;
  double most_growth_;
  S growth_ = S(1);
  double batch_loss_ = 0.0;
  double ignorance_;
  bool is_sound_ = true;
};

/// A model, a loss and data as the problem of the loop.
template <class S>
class SampledField final : public AnyField<S> {
 public:
  explicit SampledField(const SampledLoss<S>& loss) : loss_(loss) {}

  [[nodiscard]] Index dimension() const override { return loss_.dimension(); }
  void operator()(S /*t*/, const Vector<S>& y, VectorRef<S> dy) const override { loss_.derivative(y, dy); }
  [[nodiscard]] bool has_loss() const override { return true; }
  [[nodiscard]] S loss(const Vector<S>& y) const override { return loss_.loss(y); }
  [[nodiscard]] bool has_loss_from_derivative() const override { return false; }
  [[nodiscard]] S loss_from_derivative(const Vector<S>& /*y*/, const Vector<S>& /*dy*/) const override {
    throw_absent("loss_from_derivative");
  }
  [[nodiscard]] S error_ratio(const Vector<S>& /*y*/, const Vector<S>& /*y_new*/, const Vector<S>& /*error*/,
                              const Tolerance<S>& /*tolerance*/) const override {
    throw_absent("error_ratio");
  }
  [[nodiscard]] std::string advice() const override { return {}; }
  [[nodiscard]] Index steps_per_epoch() const override { return loss_.steps_per_epoch(); }

 private:
  const SampledLoss<S>& loss_;
};

/// Steps of one length without end. Their time is their number, which does not stand still where a sum of many steps
/// would.
template <class S>
class EqualSteps final : public AnyController<S> {
 public:
  explicit EqualSteps(S step) : step_(step) {}

  void check() const override {}
  [[nodiscard]] StepPlan<S> plan(S /*t*/, S /*end*/, ControlMemory<S>& memory) const override {
    return {step_, static_cast<S>(memory.made + 1), false};
  }
  [[nodiscard]] bool judge(S /*ratio*/, S /*h*/, int /*error_order*/, ControlMemory<S>& /*memory*/) const override {
    return true;
  }
  [[nodiscard]] bool is_adaptive() const override { return false; }
  [[nodiscard]] const Tolerance<S>& tolerance() const override { return tolerance_; }
  [[nodiscard]] S first_step() const override { return step_; }

 private:
  S step_;
  Tolerance<S> tolerance_ = {};
};

/// What a trainer trains.
template <class S, class M, class Data, class L>
[[nodiscard]] SampledLoss<S> trained_loss(const M& model, const Data& data, L loss, const SgdOptions<S>& options) {
  static_assert(explain_model<M>());
  if constexpr (Model<M> && explain_loss<L, Data>()) {
    constexpr bool is_of_one_type = std::is_same_v<ScalarOfT<M>, S>;
    static_assert(is_of_one_type, "richflow: the model and the data of a trainer must be of one number type");
    if constexpr (is_of_one_type) {
      check(options, data.num_samples());
      if constexpr (std::is_same_v<L, SquaredLoss<S>>)
        require(options.growth_loss == 0.0,
                "growth_loss is for losses whose curvature falls as they do, and that of the ",
                "squared loss is the same everywhere: it must be 0, got ", options.growth_loss);
      Sampling<S> sampling;
      sampling.batch_size = options.batch_size;
      sampling.mean = true;
      sampling.seed = options.seed;
      return SampledLoss<S>(make_evaluation(model, options.batch_size, options.parallel),
                            make_batch(std::move(loss), data), std::move(sampling));
    }
  }
  throw Error("the model cannot be trained");
}

}  // namespace detail

/// Mini-batch stochastic gradient descent, `w -= step * (mean gradient of the batch)`, of a model on labelled data:
/// classes (LabelledDataset, by default with the cross-entropy) or numbers (Dataset, with the squared loss), whose
/// accuracy is 1.
///
///     Sgd(net, classes, w0, {.step = 0.1F}).run()
///     Sgd(SquaredDiagonalNet<double>(d), dataset, w0, {.step = 1e-3, .batch_size = 1}).run()
///
/// An epoch goes through all samples in an order that depends on (seed, epoch) alone. With the same options the result
/// is the same bit for bit, also when the run was interrupted and resumed from a checkpoint. Without momentum a step is
/// one pass over the parameters. On one thread steps allocate nothing if the model does not (Eigen's large products
/// do). Numbers too small to be normal are zero in a step (SubnormalMode): gradients of samples that fit well,
/// velocities of dead units. Refers to the dataset, which must outlive it.
///
/// It is the loop of `integrate` on a StochasticGradient (`mean`, without replacement) with Descent or HeavyBall and
/// equal steps, made in the memory of the weights, with an observer that ends, judges and keeps epochs.
template <class S>
class Sgd {
 public:
  using Scalar = S;

  /// Ready to train `model` on `data` from w0. Throws DimensionError where model, data and w0 do not fit, ArgumentError
  /// for options out of range (such as a batch larger than the data) and labels that the loss does not take,
  /// NonFiniteError for a w0 that is not finite.
  template <class M, class L = CrossEntropy<S>>
  Sgd(const M& model, const LabelledDataset<S>& data, Vector<std::type_identity_t<S>> w0,
      SgdOptions<std::type_identity_t<S>> options, L loss = {})
      : Sgd(detail::trained_loss<S>(model, data, std::move(loss), options), std::move(w0), std::move(options)) {}
  /// The same with labels that are numbers.
  template <class M, class L = SquaredLoss<S>>
  Sgd(const M& model, const Dataset<S>& data, Vector<std::type_identity_t<S>> w0,
      SgdOptions<std::type_identity_t<S>> options, L loss = {})
      : Sgd(detail::trained_loss<S>(model, data, std::move(loss), options), std::move(w0), std::move(options)) {}
  template <class M, class L = CrossEntropy<S>>
  Sgd(const M&, const LabelledDataset<S>&&, Vector<std::type_identity_t<S>>, SgdOptions<std::type_identity_t<S>>,
      L = {}) = delete;
  template <class M, class L = SquaredLoss<S>>
  Sgd(const M&, const Dataset<S>&&, Vector<std::type_identity_t<S>>, SgdOptions<std::type_identity_t<S>>,
      L = {}) = delete;

  Sgd(const Sgd& other);
  Sgd(Sgd&&) noexcept = default;
  Sgd& operator=(const Sgd& other) { return *this = Sgd(other); }
  Sgd& operator=(Sgd&&) noexcept = default;
  ~Sgd() = default;

  /// The parameters.
  [[nodiscard]] const Vector<S>& w() const { return running_ != nullptr ? running_->state().y : w_; }
  /// Complete epochs.
  [[nodiscard]] Index epoch() const { return state().epoch; }
  /// Records of the complete epochs.
  [[nodiscard]] const std::vector<EpochRecord>& records() const { return state().records; }
  /// The mean loss of the last batch, before the step on it; 0 before the first, and after `load`.
  [[nodiscard]] double batch_loss() const { return source_->batch_loss(); }
  /// Mean loss and accuracy over all samples, at `w()`. A forward pass over the data.
  [[nodiscard]] Score score() { return evaluate_all(w()); }
  /// Batches of an epoch.
  [[nodiscard]] Index num_batches() const { return source_->loss().steps_per_epoch(); }

  /// One batch; ends the epoch with its last one. False, with w as it was, when the loss is not finite.
  bool step();

  /// Trains until the targets of the options are reached, the epochs are used up, the loss diverges or stalls, or the
  /// callback ends it. Continues from where the trainer is.
  SgdResult<S> run();

  /// Writes everything that determines the rest of the run, atomically. Throws FileError where it cannot.
  void save(const std::filesystem::path& path) const;

  /// Resumes from what `save` wrote, bit for bit as if there had been no interruption. Throws CheckpointError when the
  /// file is missing, damaged, or of another model, loss, dataset, w0, step, momentum, batch size, seed or growth,
  /// naming what differs; nothing has changed then. `max_epochs`, `stall_epochs` and the targets may differ, and
  /// `growth_loss` by 1e-3 of it, as when another machine has measured it: that of the options is used, so that the
  /// rest of the run is near the uninterrupted one. Throws Error while it runs.
  void load(const std::filesystem::path& path);

  /// The lines of a checkpoint that identify its run, for files that hold more than one trainer.
  void write_identity(detail::CheckpointWriter& writer) const;

  /// Reads them. Throws CheckpointError where they are those of another run.
  void check_identity(detail::CheckpointReader& reader) const;

 private:
  using Clock = std::chrono::steady_clock;
  using Loop = detail::Run<S>;
  static constexpr const char* title = "richflow sgd checkpoint 2";

  /// The loop has the weights; they come back also where a model or the callback throws.
  struct Lent {
    Sgd& trainer;
    Loop& loop;
    Lent(Sgd& to, Loop& of) : trainer(to), loop(of) { trainer.running_ = &loop; }
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    ~Lent() {
      trainer.running_ = nullptr;
      if (loop.state().y.size() > 0) trainer.w_.swap(loop.state().y);
    }
  };

  Sgd(detail::SampledLoss<S> loss, Vector<S>&& w0, SgdOptions<S>&& options);

  /// Takes over a source, with the rule and its steps.
  void make_stepper(std::unique_ptr<detail::CountedBatches<S>> source);

  [[nodiscard]] detail::TrainerState<S>& state() { return source_->state; }
  [[nodiscard]] const detail::TrainerState<S>& state() const { return source_->state; }
  /// Steps made in all.
  [[nodiscard]] Index num_steps() const { return state().epoch * num_batches() + state().batch; }
  [[nodiscard]] static bool is_sound(Status status) {
    return status != Status::non_finite && status != Status::diverged;
  }
  [[nodiscard]] double elapsed() const {
    return before_ + std::chrono::duration<double>(Clock::now() - start_).count();
  }

  /// After each step; true where it was the last one of an epoch.
  bool count_step();
  /// The loop, until the epochs are used up or one ends it; whether one did.
  bool run_loop(SgdResult<S>& result);
  /// After an epoch: judges and keeps it; true when the run ends with it.
  bool end_epoch(SgdResult<S>& result, Clock::time_point& saved);
  /// True when the run ends with the epoch that is complete now.
  bool decide(SgdResult<S>& result);
  bool has_arrived(SgdResult<S>& result);
  bool has_stalled(SgdResult<S>& result) const;
  void say_diverged(SgdResult<S>& result, double loss) const;
  /// Behind the step in a message.
  [[nodiscard]] std::string growth_note() const {
    if (!(options_.growth_loss > 0.0)) return {};
    return detail::concat(", ", source_->growth(), " times as large by the growth");
  }
  [[nodiscard]] Score evaluate_all(const Vector<S>& w);
  /// The loss of the first sample at a point away from w0, where a tangent model differs from its network. Zero if not
  /// finite.
  [[nodiscard]] double probe();

  template <class Visit>
  void for_identity(const Visit& visit) const {
    const detail::SampledLoss<S>& loss = source_->loss();
    visit("digits", static_cast<Index>(std::numeric_limits<S>::digits));
    visit("parameters", loss.dimension());
    visit("features", loss.batch().num_inputs());
    visit("outputs", loss.batch().num_outputs());
    visit("samples", loss.batch().num_samples());
    visit("data", data_hash_);
    visit("start", start_hash_);
    visit("batch_size", options_.batch_size);
    visit("seed", options_.seed);
    visit("step_size", options_.step);
    visit("momentum", options_.momentum);
  }

  SgdOptions<S> options_;
  Vector<S> w_;
  std::unique_ptr<detail::AnyRule<S>> rule_ = {};
  detail::CountedBatches<S>* source_ = nullptr;  // the stepper's
  std::unique_ptr<detail::RuleStepper<S>> stepper_ = {};
  Loop* running_ = nullptr;  // has the weights while it runs
  std::uint64_t start_hash_ = 0;
  std::uint64_t data_hash_ = 0;
  bool has_classes_ = false;
  double probe_ = 0.0;
  double before_ = 0.0;
  Clock::time_point start_ = Clock::now();
};

namespace detail {

template <class S>
void check(const SgdOptions<S>& o, Index num_samples) {
  using std::isfinite;
  require(isfinite(o.step) && o.step > S(0), "step must be positive and finite, got ", o.step);
  require(o.momentum >= S(0) && o.momentum < S(1), "momentum must be in [0, 1), got ", o.momentum);
  require(o.batch_size >= 1 && o.batch_size <= num_samples, "batch_size must be in 1 .. N = ", num_samples, ", got ",
          o.batch_size);
  require(o.max_epochs >= 1, "max_epochs must be at least 1, got ", o.max_epochs);
  require(o.stop_accuracy >= 0.0 && o.stop_accuracy <= 1.0, "stop_accuracy must be in [0, 1], got ", o.stop_accuracy);
  require(o.stop_loss >= 0.0, "stop_loss must not be negative, got ", o.stop_loss);
  require(isfinite(o.growth_loss) && o.growth_loss >= 0.0, "growth_loss must not be negative, and finite, got ",
          o.growth_loss);
  require(isfinite(o.most_growth) && o.most_growth >= 1.0, "most_growth must be at least 1, and finite, got ",
          o.most_growth);
  require(o.stall_epochs >= 0, "stall_epochs must not be negative, got ", o.stall_epochs);
  require(o.divergence_factor > 1.0, "divergence_factor must be above 1, got ", o.divergence_factor);
  require(o.checkpoint_epochs >= 1, "checkpoint_epochs must be at least 1, got ", o.checkpoint_epochs);
  require(o.checkpoint_seconds >= 0.0, "checkpoint_seconds must not be negative, got ", o.checkpoint_seconds);
}

template <class S>
void CountedBatches<S>::begin_step(Index k, S t, const Vector<S>& w) {
  using std::isfinite;
  batches_.begin_step(k, t, w);
  const double loss = batches_.value();
  is_sound_ = isfinite(loss);
  if (!is_sound_) return;
  const double mean = loss / static_cast<double>(batches_.size());
  if (k == 0) state.first_loss = mean;
  // Now it is known that the last step of the epoch before has not destroyed them.
  if (state.batch == 0 && !is_beyond(mean)) state.epoch_start = w;
  state.loss_sum += loss;
  state.correct += batches_.correct();
  growth_ = static_cast<S>(growth_on(mean));
  batch_loss_ = mean;
}

template <class S>
double CountedBatches<S>::growth_on(double batch_loss) const {
  if (!(growth_loss_ > 0.0) || state.records.empty()) return 1.0;
  // A batch with an odd sample has the curvature of that sample, however small the mean loss of all is; and where the
  // losses rise again, those of this epoch show it before its mean does.
  const double loss = std::max(state.records.back().loss, batch_loss);
  // Also where the loss is 0, as of samples far from their boundary in float.
  if (loss * most_growth_ <= growth_loss_) return most_growth_;
  return std::max(1.0, growth_loss_ / loss);
}

}  // namespace detail

template <class S>
Sgd<S>::Sgd(detail::SampledLoss<S> loss, Vector<S>&& w0, SgdOptions<S>&& options)
    : options_(std::move(options)), w_(std::move(w0)) {
  require_size("w", w_.size(), loss.dimension());
  require_finite("w0", w_);
  start_hash_ = detail::hash_of_numbers(w_.data(), w_.size());
  data_hash_ = loss.batch().fingerprint();
  has_classes_ = loss.batch().has_classes();
  const detail::BatchUse use{true, options_.momentum == S(0), true, true};
  auto source = std::make_unique<detail::CountedBatches<S>>(std::move(loss), use, options_);
  source->state.epoch_start = w_;
  make_stepper(std::move(source));
  probe_ = probe();
}

template <class S>
Sgd<S>::Sgd(const Sgd& other)
    : options_(other.options_),
      w_(other.w()),
      start_hash_(other.start_hash_),
      data_hash_(other.data_hash_),
      has_classes_(other.has_classes_),
      probe_(other.probe_),
      before_(other.before_),
      start_(other.start_) {
  make_stepper(std::make_unique<detail::CountedBatches<S>>(*other.source_));
  stepper_->restore(num_steps(), other.stepper_->memory());
}

template <class S>
void Sgd<S>::make_stepper(std::unique_ptr<detail::CountedBatches<S>> source) {
  if (options_.momentum > S(0))
    rule_ = std::make_unique<detail::RuleOf<S, HeavyBall>>(HeavyBall{static_cast<double>(options_.momentum)});
  else
    rule_ = std::make_unique<detail::RuleOf<S, Descent>>(Descent{});
  source_ = source.get();
  stepper_ = std::make_unique<detail::RuleStepper<S>>(*rule_, std::move(source), w_.size(), true);
}

template <class S>
bool Sgd<S>::step() {
  const SubnormalScope flushes(SubnormalMode::flush());
  if (!stepper_->step_in_place(S(0), options_.step, w_)) return false;
  count_step();
  return true;
}

template <class S>
bool Sgd<S>::count_step() {
  detail::TrainerState<S>& at = state();
  if (++at.batch < num_batches()) return false;
  const SubnormalScope flushes(SubnormalMode::flush());
  const auto count = static_cast<double>(source_->loss().batch().num_samples());
  at.records.push_back({at.epoch + 1, at.loss_sum / count, static_cast<double>(at.correct) / count, elapsed()});
  ++at.epoch;
  at.batch = 0;
  at.correct = 0;
  at.loss_sum = 0.0;
  return true;
}

template <class S>
SgdResult<S> Sgd<S>::run() {
  SgdResult<S> result;
  // What was reached before an interruption.
  bool ended = state().epoch > 0 && state().batch == 0 && decide(result);
  if (!ended) ended = run_loop(result);
  if (!ended && result.status == Status::max_steps)
    result.message = detail::concat("max_epochs = ", options_.max_epochs, " ran out at mean loss ",
                                    records().empty() ? state().first_loss : records().back().loss);
  if (is_sound(result.status)) {
    result.w = w_;
    if (result.status != Status::tolerance_reached) result.final = evaluate_all(result.w);
    // The step on the last batch was followed by no loss that would tell.
    if (source_->is_beyond(result.final.loss)) say_diverged(result, result.final.loss);
  }
  if (!is_sound(result.status)) {
    result.w = state().epoch_start;
    result.final = evaluate_all(result.w);
  }
  result.epochs = epoch();
  result.records = records();
  return result;
}

template <class S>
bool Sgd<S>::run_loop(SgdResult<S>& result) {
  bool ended = false;
  auto saved = Clock::now();
  auto at_step_end = [&](const StepView<S>& /*view*/) {
    if (count_step()) ended = end_epoch(result, saved);
    return ended ? Action::stop : Action::proceed;
  };
  const Index most = std::numeric_limits<Index>::max() / num_batches();
  const std::vector<S> no_times;
  const std::vector<Index> no_steps;
  const std::vector<Quantity<S>> no_quantities;
  const std::vector<Event<S>> no_events;
  const std::vector<ObserverRef<S>> observers = {at_step_end};
  const detail::RunOptions<S> options{{no_times, no_steps, 0, false, false, false, no_quantities},
                                      no_events,
                                      observers,
                                      std::numeric_limits<Index>::max(),
                                      false,
                                      std::min(options_.max_epochs, most) * num_batches(),
                                      true};
  const detail::SampledField<S> field(source_->loss());
  const detail::EqualSteps<S> steps(options_.step);
  detail::NoValues<S> nothing;
  IntegrationState<S> start;
  start.step = num_steps();
  start.memory = stepper_->memory();
  start.y.swap(w_);
  Loop loop({field, *stepper_, steps, nothing}, options, std::move(start), std::numeric_limits<S>::infinity());
  const Lent lent{*this, loop};
  RunOutcome<S> outcome = loop.run(true);
  w_.swap(outcome.state.y);
  if (outcome.status == Status::non_finite) {
    result.status = Status::non_finite;
    result.message =
        detail::concat("the loss is not finite in epoch ", epoch() + 1, " with step ", options_.step, growth_note());
  }
  return ended;
}

template <class S>
bool Sgd<S>::end_epoch(SgdResult<S>& result, Clock::time_point& saved) {
  bool ended = decide(result);
  const Index done = epoch();
  const bool is_due = done % options_.checkpoint_epochs == 0 &&
                      std::chrono::duration<double>(Clock::now() - saved).count() >= options_.checkpoint_seconds;
  const bool saves = is_due || done == options_.max_epochs || ended;
  if (!options_.checkpoint.empty() && saves && is_sound(result.status)) {
    save(options_.checkpoint);
    saved = Clock::now();
  }
  if (options_.on_epoch && !options_.on_epoch(records().back()) && !ended) {
    result.status = Status::stopped_by_observer;
    result.message = detail::concat("the callback ended the run after epoch ", done);
    ended = true;
  }
  return ended;
}

template <class S>
bool Sgd<S>::decide(SgdResult<S>& result) {
  const EpochRecord& record = records().back();
  // Units that are zero where they should be NaN would hide it in the loss.
  if (!w().allFinite()) {
    result.status = Status::non_finite;
    result.message = detail::concat("the parameters are not finite after epoch ", record.epoch, " with step ",
                                    options_.step, growth_note());
    return true;
  }
  if (source_->is_beyond(record.loss)) {
    say_diverged(result, record.loss);
    return true;
  }
  return has_arrived(result) || has_stalled(result);
}

template <class S>
bool Sgd<S>::has_arrived(SgdResult<S>& result) {
  const EpochRecord& record = records().back();
  if (record.accuracy < options_.stop_accuracy || !(record.loss < options_.stop_loss)) return false;
  // Confirmed at one w.
  const Score all = evaluate_all(w());
  if (all.accuracy < options_.stop_accuracy || !(all.loss < options_.stop_loss)) return false;
  result.status = Status::tolerance_reached;
  result.final = all;
  result.message =
      detail::concat("accuracy ", all.accuracy, " and mean loss ", all.loss, " after epoch ", record.epoch);
  return true;
}

template <class S>
bool Sgd<S>::has_stalled(SgdResult<S>& result) const {
  constexpr double progress = 0.75;
  if (options_.stall_epochs == 0 || epoch() <= options_.stall_epochs) return false;
  const auto last = records().end() - options_.stall_epochs;
  // Once as many samples are right as asked for, the loss of equal steps falls like 1 / epoch, by a quarter in a third
  // of the epochs that there were. That is progress.
  const auto is_right = [&](const EpochRecord& record) { return record.accuracy >= options_.stop_accuracy; };
  if (has_classes_ && std::any_of(last, records().end(), is_right)) return false;
  const auto by_loss = [](const EpochRecord& a, const EpochRecord& b) { return a.loss < b.loss; };
  const double before = std::min_element(records().begin(), last, by_loss)->loss;
  const double since = std::min_element(last, records().end(), by_loss)->loss;
  if (since <= progress * before) return false;
  result.status = Status::stalled;
  result.message = detail::concat("the smallest mean loss was ", before, " before the last ", options_.stall_epochs,
                                  " epochs and ", since, " in them");
  return true;
}

template <class S>
void Sgd<S>::say_diverged(SgdResult<S>& result, double loss) const {
  using std::isfinite;
  result.status = isfinite(loss) ? Status::diverged : Status::non_finite;
  result.message = detail::concat("the mean loss of epoch ", epoch(), " is ", loss, ", that of the first batch was ",
                                  state().first_loss, "; step ", options_.step, growth_note(), " is too large");
}

template <class S>
Score Sgd<S>::evaluate_all(const Vector<S>& w) {
  detail::SampledLoss<S>& loss = source_->borrow_loss();
  return detail::score_of(loss.evaluation(), w, loss.batch());
}

template <class S>
double Sgd<S>::probe() {
  using std::isfinite;
  const SubnormalScope flushes(SubnormalMode::flush());
  RandomStream random(0);
  Vector<S> w = S(2) * w_;
  for (Index i = 0; i < w.size(); ++i) w[i] += static_cast<S>(random.uniform(-0.0625, 0.0625));
  detail::SampledLoss<S>& loss = source_->borrow_loss();
  detail::AnyBatch<S>& batch = loss.batch();
  batch.gather_from(0, 1);
  loss.evaluation().forward(w, batch.samples(1), batch.F(1));
  const double value = batch.value(1);
  return isfinite(value) ? value : 0.0;
}

template <class S>
void Sgd<S>::save(const std::filesystem::path& path) const {
  const detail::TrainerState<S>& at = state();
  detail::CheckpointWriter writer;
  write_identity(writer);
  writer.field("epoch", at.epoch);
  writer.field("batch", at.batch);
  writer.field("correct", at.correct);
  writer.field("loss_sum", at.loss_sum);
  writer.field("first_loss", at.first_loss);
  writer.field("seconds", elapsed());
  writer.field("w", w());
  writer.field("velocity", stepper_->memory());
  writer.field("epoch_start", at.epoch_start);
  writer.field("records", static_cast<Index>(at.records.size()));
  for (const EpochRecord& record : at.records) {
    writer.field("epoch", record.epoch);
    writer.field("loss", record.loss);
    writer.field("accuracy", record.accuracy);
    writer.field("seconds", record.seconds);
  }
  write_file(path, detail::sealed_checkpoint(title, writer.text()));
}

template <class S>
void Sgd<S>::load(const std::filesystem::path& path) {
  require<Error>(running_ == nullptr, "the trainer runs: it cannot resume from a file now");
  detail::CheckpointReader reader(detail::opened_checkpoint(title, detail::checkpoint_content(path)));
  check_identity(reader);
  detail::TrainerState<S> at;
  Vector<S> w(w_.size());
  Vector<S> velocity(stepper_->memory().size());
  at.epoch_start.resize(w_.size());
  double seconds = 0.0;
  reader.field("epoch", at.epoch);
  reader.field("batch", at.batch);
  reader.field("correct", at.correct);
  reader.field("loss_sum", at.loss_sum);
  reader.field("first_loss", at.first_loss);
  reader.field("seconds", seconds);
  for (auto [name, values] :
       {std::pair{"w", &w}, std::pair{"velocity", &velocity}, std::pair{"epoch_start", &at.epoch_start}}) {
    const Index size = values->size();
    reader.field(name, *values);
    require<CheckpointError>(values->size() == size, "checkpoint: ", name, " has ", values->size(),
                             " entries where the model has ", size);
  }
  Index count = 0;
  reader.field("records", count);
  for (Index k = 0; k < count; ++k) {
    EpochRecord record;
    reader.field("epoch", record.epoch);
    reader.field("loss", record.loss);
    reader.field("accuracy", record.accuracy);
    reader.field("seconds", record.seconds);
    at.records.push_back(record);
  }
  const Index last_epoch = std::numeric_limits<Index>::max() / num_batches() - 1;
  require<CheckpointError>(at.epoch >= 0 && at.epoch <= last_epoch && at.batch >= 0 && at.batch < num_batches(),
                           "checkpoint: epoch ", at.epoch, ", batch ", at.batch, " does not exist");
  state() = std::move(at);
  w_ = std::move(w);
  stepper_->restore(num_steps(), velocity);
  source_->begin_anew();
  before_ = seconds;
  start_ = Clock::now();
}

template <class S>
void Sgd<S>::write_identity(detail::CheckpointWriter& writer) const {
  for_identity([&](const char* name, const auto& value) { writer.field(name, value); });
  if (options_.growth_loss > 0.0) {
    writer.field("growth_loss", options_.growth_loss);
    writer.field("most_growth", options_.most_growth);
  }
  writer.field("probe", probe_);
}

template <class S>
void Sgd<S>::check_identity(detail::CheckpointReader& reader) const {
  const auto agree = [](const char* name, const auto& found, const auto& value) {
    require<CheckpointError>(found == value, "checkpoint: it is of another run, whose ", name, " is ", found,
                             " where this one has ", value);
  };
  for_identity([&](const char* name, const auto& value) {
    auto found = value;
    reader.field(name, found);
    agree(name, found, value);
  });
  // Files of runs with equal steps have neither.
  double growth_loss = 0.0;
  double most_growth = options_.most_growth;
  if (reader.next_is("growth_loss")) {
    reader.field("growth_loss", growth_loss);
    reader.field("most_growth", most_growth);
  }
  // May be measured (safe_growth_loss). Another machine may round in another order; so below.
  constexpr double rounding = 1e-3;
  if (!(std::abs(growth_loss - options_.growth_loss) <= rounding * options_.growth_loss))
    agree("growth_loss", growth_loss, options_.growth_loss);
  if (growth_loss > 0.0) agree("most_growth", most_growth, options_.most_growth);
  double found = 0.0;
  reader.field("probe", found);
  // Another model or loss is further away.
  require<CheckpointError>(std::abs(found - probe_) <= rounding * std::abs(probe_),
                           "checkpoint: it is of another run, whose model and loss give ", found,
                           " where those of this one give ", probe_);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SGD(prefix, S)                           \
  prefix template void detail::check<S>(const SgdOptions<S>&, Index); \
  prefix template class detail::CountedBatches<S>;                    \
  prefix template class detail::SampledField<S>;                      \
  prefix template class Sgd<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SGD)
