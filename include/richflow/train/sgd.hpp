#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

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
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/loss.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/train/training_batch.hpp"

namespace richflow {

/// Mean loss and accuracy over a dataset.
struct Score {
  double loss = 0.0;
  double accuracy = 0.0;
  /// Fraction of samples whose label has not the largest output.
  [[nodiscard]] double error() const { return 1.0 - accuracy; }
};

namespace detail {

template <class Data, class S>
void require_fit(const Evaluation<S>& at, const Data& data, const Vector<S>& w) {
  require<DimensionError>(at.num_inputs() == 0 || at.num_inputs() == data.num_inputs(), "the model takes ",
                          at.num_inputs(), " features but the samples have d = ", data.num_inputs());
  require<DimensionError>(at.num_outputs() == outputs_of(data), "the model has ", at.num_outputs(),
                          " outputs but the labels of a sample are for K = ", outputs_of(data));
  require_size("w", w.size(), at.num_parameters());
}

/// `evaluate` in the caller's memory.
template <class S, class L, class Data>
[[nodiscard]] Score evaluate_in(Evaluation<S>& at, const L& loss, const Vector<S>& w, const Data& data,
                                TrainingBatch<Data>& batch) {
  const SubnormalScope flushes(SubnormalMode::flush());
  double sum = 0.0;
  Index correct = 0;
  const Index count = data.num_samples();
  for (Index first = 0; first < count; first += batch.max_size()) {
    const Index size = std::min(batch.max_size(), count - first);
    batch.gather_from(data, first, size);
    at.forward(w, batch.samples(size), batch.F.topRows(size));
    sum += batch.value(loss, size);
    correct += batch.count_correct(size);
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
    require_fit(at, data, w);
    check_labels(loss, data);
    TrainingBatch<Data> batch;
    batch.resize(rows, data);
    return evaluate_in(at, loss, w, data, batch);
  } else {
    return {};
  }
}

}  // namespace detail

/// Mean loss and accuracy of a model over a dataset, in batches. Throws DimensionError where the two do not fit,
/// ArgumentError unless max_batch > 0. A loss that is not finite says so: nothing is thrown.
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

/// One epoch of training. Loss and accuracy are means over its batches, each as it was before the step on it.
struct EpochRecord {
  Index epoch = 0;  ///< from 1
  double loss = 0.0;
  double accuracy = 0.0;
  double seconds = 0.0;  ///< of wall clock, since the trainer or the checkpoint it went on from began
};

/// How SGD runs.
template <class S = double>
struct SgdOptions {
  S step = S(0.1);         ///< of the mean gradient of a batch
  Index batch_size = 256;  ///< the last batch of an epoch has what is left
  Index max_epochs = 100;
  S momentum = S(0);               ///< m in [0, 1): v <- m v - step g, w <- w + v
  std::uint64_t seed = 1;          ///< of the order of the samples
  double stop_accuracy = 1.0;      ///< a run ends after an epoch at which all samples have this accuracy
  double stop_loss = 0.0;          ///< and a mean loss below this; infinity: whatever the loss
  double divergence_factor = 100;  ///< a mean loss of an epoch beyond this times that of the first batch + log K
                                   ///< (for numbers the mean of |y|^2)
  std::function<bool(const EpochRecord&)> on_epoch = {};  ///< after each epoch; false ends the run
  std::filesystem::path checkpoint = {};  ///< file that is written after every `checkpoint_epochs`, and at the end
  Index checkpoint_epochs = 10;
  double checkpoint_seconds = 0.0;  ///< at least so many seconds of wall clock after the last one
  /// Threads that share the work on a batch, where the model supports it: a FullyConnected network with layers of more
  /// than 512 neurons. Eigen's products, or those of a BLAS, should have one thread each then. The result does not
  /// depend on it.
  ParallelOptions parallel = {1};
};

/// What SGD has reached.
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

/// Mini-batch stochastic gradient descent, `w -= step * (mean gradient of the batch)`, of a model on labelled data:
/// classes (LabelledDataset, by default with the cross-entropy) or numbers (Dataset, with the squared loss), whose
/// accuracy is 1.
///
///     Sgd(net, classes, w0, {.step = 0.1F}).run()
///     Sgd(SquaredDiagonalNet<double>(d), dataset, w0, {.step = 1e-3, .batch_size = 1}).run()
///
/// An epoch goes through all samples in an order that depends on (seed, epoch) alone. With the same options the result
/// is the same bit for bit, also when the run was interrupted and went on from a checkpoint. Without momentum a step is
/// one pass over the parameters. On one thread steps allocate nothing if the model does not (Eigen's large products
/// do). Numbers too small to be normal are zero in a step (SubnormalMode): gradients of samples that fit well,
/// velocities of dead units. Refers to the dataset, which must outlive it.
template <class M, class L = CrossEntropy<detail::ScalarOfT<M>>, class Data = LabelledDataset<detail::ScalarOfT<M>>>
class Sgd {
 public:
  static_assert(explain_model<M>());
  using Scalar = detail::ScalarOfT<M>;
  static_assert(detail::is_loss_of<L, Data>,
                "richflow: the loss must have `value(F, labels)` and `value_and_gradient(F, labels, G)` for classes, "
                "`value(f, y)` and `gradient(f, y, out)` for numbers");

  /// Ready to train `model` on `data` from w0. Throws DimensionError where model, data and w0 do not fit, ArgumentError
  /// for options out of range (a batch larger than the data among them), NonFiniteError for a w0 that is not finite.
  Sgd(const M& model, const Data& data, Vector<Scalar> w0, SgdOptions<Scalar> options, L loss = {})
      : data_(&data),
        loss_(std::move(loss)),
        options_(std::move(options)),
        w_(std::move(w0)),
        // Before the options are checked: a senseless batch size must not ask for its memory.
        at_(make_evaluation(model, std::clamp<Index>(options_.batch_size, 1, data.num_samples()), options_.parallel)) {
    detail::require_fit(at_, data, w_);
    require_finite("w0", w_);
    check_options();
    detail::check_labels(loss_, data);
    current_.resize(options_.batch_size, data);
    if (goes_on_in_a_step()) next_.resize(options_.batch_size, data);
    if (options_.momentum > Scalar(0)) velocity_.setZero(w_.size());
    order_.resize(static_cast<std::size_t>(data.num_samples()));
    epoch_start_ = w_;
    start_hash_ = detail::hash_of_numbers(w_.data(), w_.size());
    data_hash_ = detail::fingerprint(data);
    probe_ = probe();
    shuffle_samples();
  }
  Sgd(const M&, const Data&&, Vector<Scalar>, SgdOptions<Scalar>, L = {}) = delete;

  /// The parameters.
  [[nodiscard]] const Vector<Scalar>& w() const { return w_; }
  /// Complete epochs.
  [[nodiscard]] Index epoch() const { return epoch_; }
  /// Records of the complete epochs.
  [[nodiscard]] const std::vector<EpochRecord>& records() const { return records_; }
  /// Batches of an epoch.
  [[nodiscard]] Index num_batches() const {
    return (data_->num_samples() + options_.batch_size - 1) / options_.batch_size;
  }

  /// One batch; ends the epoch with its last one. False, with w as it was, when the loss is not finite.
  bool step() {
    using std::isfinite;
    const SubnormalScope flushes(SubnormalMode::flush());
    const Index size = size_of(batch_);
    auto F = current_.F.topRows(size);
    if (!is_forward_done_) {
      gather(batch_, current_);
      at_.forward(w_, current_.samples(size), F);
    }
    is_forward_done_ = false;
    const Index correct = current_.count_correct(size);
    const double loss = current_.gradient(loss_, size);
    if (!isfinite(loss)) return false;
    if (epoch_ == 0 && batch_ == 0) first_loss_ = loss / static_cast<double>(size);
    // Now it is known that the last step of the epoch before has not destroyed them.
    if (batch_ == 0 && !is_beyond(loss / static_cast<double>(size))) epoch_start_ = w_;
    loss_sum_ += loss;
    correct_ += correct;
    const Scalar scale = -options_.step / static_cast<Scalar>(size);
    if (velocity_.size() > 0) {
      velocity_ *= options_.momentum;
      at_.add_pullback(F, scale, velocity_);
      w_ += velocity_;
    } else if (goes_on_in_a_step() && batch_ + 1 < num_batches()) {
      descend_to_next_batch(scale);
    } else {
      at_.add_pullback(F, scale, w_);
    }
    if (++batch_ == num_batches()) end_epoch();
    return true;
  }

  /// Trains until the targets of the options are reached, the epochs are used up, the loss diverges or the callback
  /// ends it. Goes on where the trainer is.
  SgdResult<Scalar> run() {
    SgdResult<Scalar> result;
    auto saved = Clock::now();
    // What was reached before an interruption.
    bool ended = epoch_ > 0 && batch_ == 0 && decide(result);
    while (!ended && epoch_ < options_.max_epochs) {
      const Index before = epoch_;
      if (!step()) {
        result.status = Status::non_finite;
        result.message = detail::concat("the loss is not finite in epoch ", epoch_ + 1, " with step ", options_.step);
        break;
      }
      if (epoch_ == before) continue;
      ended = decide(result);
      const bool is_due = epoch_ % options_.checkpoint_epochs == 0 &&
                          std::chrono::duration<double>(Clock::now() - saved).count() >= options_.checkpoint_seconds;
      const bool saves = is_due || epoch_ == options_.max_epochs || ended;
      if (!options_.checkpoint.empty() && saves && is_sound(result.status)) {
        save(options_.checkpoint);
        saved = Clock::now();
      }
      if (options_.on_epoch && !options_.on_epoch(records_.back()) && !ended) {
        result.status = Status::stopped_by_observer;
        result.message = detail::concat("the callback ended the run after epoch ", epoch_);
        ended = true;
      }
    }
    if (!ended && result.status == Status::max_steps)
      result.message = detail::concat("max_epochs = ", options_.max_epochs, " ran out at mean loss ",
                                      records_.empty() ? first_loss_ : records_.back().loss);
    if (is_sound(result.status)) {
      result.w = w_;
      if (result.status != Status::tolerance_reached) result.final = evaluate_all(result.w);
      // The step on the last batch was followed by no loss that would tell.
      if (is_beyond(result.final.loss)) say_diverged(result, result.final.loss);
    }
    if (!is_sound(result.status)) {
      result.w = epoch_start_;
      result.final = evaluate_all(result.w);
    }
    result.epochs = epoch_;
    result.records = records_;
    return result;
  }

  /// Writes everything that the rest of the run follows from, atomically. Throws FileError where it cannot.
  void save(const std::filesystem::path& path) const {
    detail::CheckpointWriter writer;
    write_identity(writer);
    writer.field("epoch", epoch_);
    writer.field("batch", batch_);
    writer.field("correct", correct_);
    writer.field("loss_sum", loss_sum_);
    writer.field("first_loss", first_loss_);
    writer.field("seconds", elapsed());
    writer.field("w", w_);
    writer.field("velocity", velocity_);
    writer.field("epoch_start", epoch_start_);
    writer.field("records", static_cast<Index>(records_.size()));
    for (const EpochRecord& record : records_) {
      writer.field("epoch", record.epoch);
      writer.field("loss", record.loss);
      writer.field("accuracy", record.accuracy);
      writer.field("seconds", record.seconds);
    }
    write_file(path, detail::sealed_checkpoint(title, writer.text()));
  }

  /// Goes on from what `save` wrote, bit for bit as if there had been no interruption. Throws CheckpointError when the
  /// file is missing, damaged, or of another model, loss, dataset, w0, step, momentum, batch size or seed, naming what
  /// differs; nothing has changed then. `max_epochs` and the targets may be others.
  void load(const std::filesystem::path& path) {
    detail::CheckpointReader reader(detail::opened_checkpoint(title, detail::checkpoint_content(path)));
    check_identity(reader);
    Sgd other(*this);
    double seconds = 0.0;
    reader.field("epoch", other.epoch_);
    reader.field("batch", other.batch_);
    reader.field("correct", other.correct_);
    reader.field("loss_sum", other.loss_sum_);
    reader.field("first_loss", other.first_loss_);
    reader.field("seconds", seconds);
    for (auto [name, values] : {std::pair{"w", &other.w_}, std::pair{"velocity", &other.velocity_},
                                std::pair{"epoch_start", &other.epoch_start_}}) {
      const Index size = values->size();
      reader.field(name, *values);
      require<CheckpointError>(values->size() == size, "checkpoint: ", name, " has ", values->size(),
                               " entries where the model has ", size);
    }
    Index count = 0;
    reader.field("records", count);
    other.records_.clear();
    for (Index k = 0; k < count; ++k) {
      EpochRecord record;
      reader.field("epoch", record.epoch);
      reader.field("loss", record.loss);
      reader.field("accuracy", record.accuracy);
      reader.field("seconds", record.seconds);
      other.records_.push_back(record);
    }
    require<CheckpointError>(other.epoch_ >= 0 && other.batch_ >= 0 && other.batch_ < num_batches(),
                             "checkpoint: epoch ", other.epoch_, ", batch ", other.batch_, " does not exist");
    other.before_ = seconds;
    other.start_ = Clock::now();
    other.is_forward_done_ = false;
    other.shuffle_samples();
    *this = std::move(other);
  }

  /// The lines of a checkpoint by which it knows its run, for files that hold more than one trainer.
  void write_identity(detail::CheckpointWriter& writer) const {
    for_identity([&](const char* name, const auto& value) { writer.field(name, value); });
    writer.field("probe", probe_);
  }

  /// Reads them. Throws CheckpointError where they are those of another run.
  void check_identity(detail::CheckpointReader& reader) const {
    for_identity([&](const char* name, const auto& value) {
      auto found = value;
      reader.field(name, found);
      require<CheckpointError>(found == value, "checkpoint: it is of another run, whose ", name, " is ", found,
                               " where this one has ", value);
    });
    double found = 0.0;
    reader.field("probe", found);
    // Another machine may round in another order; another model or loss is further away.
    require<CheckpointError>(std::abs(found - probe_) <= 1e-3 * std::abs(probe_),
                             "checkpoint: it is of another run, whose model and loss give ", found,
                             " where those of this one give ", probe_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr const char* title = "richflow sgd checkpoint 2";

  /// False in a copy, whose evaluation still refers to the batch of the original.
  struct NotCopied {
    bool value = false;
    NotCopied() = default;
    NotCopied(const NotCopied& /*other*/) {}
    NotCopied(NotCopied&&) = default;
    NotCopied& operator=(const NotCopied& /*other*/) { return *this = NotCopied(); }
    NotCopied& operator=(NotCopied&&) = default;
    NotCopied& operator=(bool is_done) {
      value = is_done;
      return *this;
    }
    explicit operator bool() const { return value; }
  };

  /// A batch and what the model makes of it, later the gradient of the loss.
  using Batch = detail::TrainingBatch<Data>;

  /// Whether a step goes on to the outputs of the next batch, which needs memory for that.
  [[nodiscard]] bool goes_on_in_a_step() const {
    return at_.is_descent_fused() && options_.momentum == Scalar(0) && num_batches() > 1;
  }

  [[nodiscard]] Index size_of(Index batch) const {
    return std::min(options_.batch_size, data_->num_samples() - batch * options_.batch_size);
  }

  void gather(Index batch, Batch& to) const {
    const Index size = size_of(batch);
    to.gather(*data_, order_.data() + batch * options_.batch_size, size);
  }

  /// The step on the current batch, whose F is the gradient, and the outputs of the next one.
  void descend_to_next_batch(Scalar scale) {
    const Index size = size_of(batch_);
    const Index next = size_of(batch_ + 1);
    gather(batch_ + 1, next_);
    at_.descend_and_forward(current_.F.topRows(size), scale, w_, next_.samples(next), next_.F.topRows(next));
    std::swap(current_, next_);
    is_forward_done_ = true;
  }

  void check_options() const {
    using std::isfinite;
    const auto& o = options_;
    require(isfinite(o.step) && o.step > Scalar(0), "step must be positive and finite, got ", o.step);
    require(o.momentum >= Scalar(0) && o.momentum < Scalar(1), "momentum must be in [0, 1), got ", o.momentum);
    require(o.batch_size >= 1 && o.batch_size <= data_->num_samples(),
            "batch_size must be in 1 .. N = ", data_->num_samples(), ", got ", o.batch_size);
    require(o.max_epochs >= 1, "max_epochs must be at least 1, got ", o.max_epochs);
    require(o.stop_accuracy >= 0.0 && o.stop_accuracy <= 1.0, "stop_accuracy must be in [0, 1], got ", o.stop_accuracy);
    require(o.stop_loss >= 0.0, "stop_loss must not be negative, got ", o.stop_loss);
    require(o.divergence_factor > 1.0, "divergence_factor must be above 1, got ", o.divergence_factor);
    require(o.checkpoint_epochs >= 1, "checkpoint_epochs must be at least 1, got ", o.checkpoint_epochs);
    require(o.checkpoint_seconds >= 0.0, "checkpoint_seconds must not be negative, got ", o.checkpoint_seconds);
    static_cast<void>(num_threads(o.parallel));
  }

  [[nodiscard]] static bool is_sound(Status status) {
    return status != Status::non_finite && status != Status::diverged;
  }

  /// The order of the epoch, from (seed, epoch) alone.
  void shuffle_samples() {
    std::iota(order_.begin(), order_.end(), Index(0));
    RandomStream random(options_.seed, static_cast<std::uint64_t>(epoch_));
    shuffle(random, order_);
  }

  void end_epoch() {
    const auto count = static_cast<double>(data_->num_samples());
    records_.push_back({epoch_ + 1, loss_sum_ / count, static_cast<double>(correct_) / count, elapsed()});
    ++epoch_;
    batch_ = 0;
    correct_ = 0;
    loss_sum_ = 0.0;
    shuffle_samples();
  }

  /// Whether a mean loss is so large that the run has diverged.
  [[nodiscard]] bool is_beyond(double loss) const {
    return !(loss <= options_.divergence_factor * (first_loss_ + detail::loss_of_ignorance(*data_)));
  }

  [[nodiscard]] Score evaluate_all(const Vector<Scalar>& w) {
    is_forward_done_ = false;
    return detail::evaluate_in(at_, loss_, w, *data_, current_);
  }

  void say_diverged(SgdResult<Scalar>& result, double loss) const {
    using std::isfinite;
    result.status = isfinite(loss) ? Status::diverged : Status::non_finite;
    result.message = detail::concat("the mean loss of epoch ", epoch_, " is ", loss, ", that of the first batch was ",
                                    first_loss_, "; step ", options_.step, " is too large");
  }

  /// The loss of the first sample at a point away from w0, where a tangent model differs from its network. Zero if not
  /// finite.
  [[nodiscard]] double probe() {
    using std::isfinite;
    const SubnormalScope flushes(SubnormalMode::flush());
    RandomStream random(0);
    Vector<Scalar> w = Scalar(2) * w_;
    for (Index i = 0; i < w.size(); ++i) w[i] += static_cast<Scalar>(random.uniform(-0.0625, 0.0625));
    auto F = current_.F.topRows(1);
    current_.gather_from(*data_, 0, 1);
    at_.forward(w, current_.samples(1), F);
    const double loss = current_.value(loss_, 1);
    return isfinite(loss) ? loss : 0.0;
  }

  /// True when the run ends with the epoch that is complete now.
  bool decide(SgdResult<Scalar>& result) {
    const EpochRecord& record = records_.back();
    // Units that are zero where they should be NaN would hide it in the loss.
    if (!w_.allFinite()) {
      result.status = Status::non_finite;
      result.message =
          detail::concat("the parameters are not finite after epoch ", record.epoch, " with step ", options_.step);
      return true;
    }
    if (is_beyond(record.loss)) {
      say_diverged(result, record.loss);
      return true;
    }
    if (record.accuracy < options_.stop_accuracy || !(record.loss < options_.stop_loss)) return false;
    // Confirmed at one w.
    const Score all = evaluate_all(w_);
    if (all.accuracy < options_.stop_accuracy || !(all.loss < options_.stop_loss)) return false;
    result.status = Status::tolerance_reached;
    result.final = all;
    result.message =
        detail::concat("accuracy ", all.accuracy, " and mean loss ", all.loss, " after epoch ", record.epoch);
    return true;
  }

  [[nodiscard]] double elapsed() const {
    return before_ + std::chrono::duration<double>(Clock::now() - start_).count();
  }

  template <class Visit>
  void for_identity(const Visit& visit) const {
    visit("digits", static_cast<Index>(std::numeric_limits<Scalar>::digits));
    visit("parameters", at_.num_parameters());
    visit("features", data_->num_inputs());
    visit("outputs", detail::outputs_of(*data_));
    visit("samples", data_->num_samples());
    visit("data", data_hash_);
    visit("start", start_hash_);
    visit("batch_size", options_.batch_size);
    visit("seed", options_.seed);
    visit("step_size", options_.step);
    visit("momentum", options_.momentum);
  }

  const Data* data_;
  L loss_;
  SgdOptions<Scalar> options_;
  Vector<Scalar> w_;
  Evaluation<Scalar> at_;
  Vector<Scalar> velocity_ = {};
  Vector<Scalar> epoch_start_ = {};
  Batch current_ = {};
  Batch next_ = {};                 // where a step goes on to it
  NotCopied is_forward_done_ = {};  // current_ holds the batch and its outputs already
  std::vector<Index> order_ = {};
  std::uint64_t start_hash_ = 0;
  std::uint64_t data_hash_ = 0;
  double probe_ = 0.0;
  Index epoch_ = 0;
  Index batch_ = 0;
  Index correct_ = 0;
  double loss_sum_ = 0.0;
  double first_loss_ = 0.0;
  double before_ = 0.0;
  Clock::time_point start_ = Clock::now();
  std::vector<EpochRecord> records_ = {};
};

template <class M, class S>
Sgd(const M&, const Dataset<S>&, const Vector<S>&, const SgdOptions<S>&) -> Sgd<M, SquaredLoss<S>, Dataset<S>>;

/// For a model that is refused: never defined, so that the refusal is all that the compiler says.
template <class M, class L, class Data>
requires(!Model<M>) class Sgd<M, L, Data> {
 public:
  static_assert(explain_model<M>());
  using Scalar = detail::ScalarOfT<M>;
  template <class... Arguments>
  explicit Sgd(const Arguments&... arguments);
  bool step();
  SgdResult<Scalar> run();
  [[nodiscard]] const Vector<Scalar>& w() const;
  [[nodiscard]] Index epoch() const;
  [[nodiscard]] const std::vector<EpochRecord>& records() const;
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);
};

}  // namespace richflow
