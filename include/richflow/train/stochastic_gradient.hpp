#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scalar_of.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/train/any_batch.hpp"
#include "richflow/train/training_batch.hpp"

namespace richflow {

/// The part of the data that a step of an algorithm sees, and its noise. Everything random follows from (seed, number
/// of the step) alone, so that runs repeat to the bit, whatever the number of threads, and resume from any step.
template <class S = double>
struct Sampling {
  Index batch_size = 0;  ///< samples of a step, at most N; 0: all of them, in their order
  bool with_replacement =
      false;             ///< drawn afresh in each step, a sample perhaps twice; otherwise each once per epoch, in an
                         ///< order that follows from (seed, epoch) as in Sgd, the last batch with what is left
  bool mean = false;     ///< gradients of the mean over the batch; otherwise of the plain sum
  S label_noise = S(0);  ///< delta: every label of a step has `delta xi` added, fresh in each step
  /// The law of xi; standard normal where it is empty. It draws from the stream that it is given, and from nothing
  /// else.
  std::function<S(RandomStream&)> noise = {};
  S gradient_noise = S(0);  ///< sigma: the gradient of a step has `sigma xi` added, xi standard normal, P values
  std::uint64_t seed = 1;   ///< of the order and of the noise
};

namespace detail {

/// Throws ArgumentError where batches of an epoch are asked for and there is one sample, so that there is nothing to
/// choose.
template <class S>
void require_choice(const Sampling<S>& sampling, Index num_samples) {
  require(
      num_samples != 1 || sampling.batch_size != 1 || sampling.with_replacement,
      "batch_size = 1 without replacement chooses nothing where num_samples = 1: every step is one of descent, which "
      "batch_size = 0 is");
}

/// A model, a loss and data, a batch at a time: what StochasticGradient is apart from their types.
template <class S>
class SampledLoss {
 public:
  SampledLoss(Evaluation<S> evaluation, std::unique_ptr<AnyBatch<S>> batch, Sampling<S> sampling);
  SampledLoss(const SampledLoss& other)
      : evaluation_(other.evaluation_), batch_(other.batch_->clone()), sampling_(other.sampling_) {}
  SampledLoss(SampledLoss&&) noexcept = default;
  SampledLoss& operator=(const SampledLoss& other) { return *this = SampledLoss(other); }
  SampledLoss& operator=(SampledLoss&&) noexcept = default;
  ~SampledLoss() = default;

  /// The most samples that are evaluated at once.
  [[nodiscard]] static Index at_once(const Sampling<S>& sampling, Index num_samples) {
    constexpr Index enough = 256;
    return std::min(num_samples, sampling.batch_size > 0 ? std::max(sampling.batch_size, enough) : num_samples);
  }

  [[nodiscard]] const Sampling<S>& sampling() const { return sampling_; }
  [[nodiscard]] Index dimension() const { return evaluation_.num_parameters(); }
  [[nodiscard]] Index steps_per_epoch() const {
    const Index size = batch_size();
    return (batch_->num_samples() + size - 1) / size;
  }
  [[nodiscard]] S loss(ConstVectorRef<S> w) const;
  void derivative(ConstVectorRef<S> w, VectorRef<S> dw) const;
  [[nodiscard]] std::unique_ptr<AnySource<S>> make_source() const;

  /// Of a step.
  [[nodiscard]] Index batch_size() const {
    return sampling_.batch_size > 0 ? sampling_.batch_size : batch_->num_samples();
  }
  /// What it works with.
  [[nodiscard]] Evaluation<S>& evaluation() { return evaluation_; }
  [[nodiscard]] AnyBatch<S>& batch() { return *batch_; }
  [[nodiscard]] const AnyBatch<S>& batch() const { return *batch_; }
  /// Takes another batch of the same data for the one it works with.
  void swap_batch(std::unique_ptr<AnyBatch<S>>& other) { batch_.swap(other); }

 private:
  /// The factor of sums over all data.
  [[nodiscard]] S weight() const { return sampling_.mean ? S(1) / static_cast<S>(batch_->num_samples()) : S(1); }

  /// Moves through all data: `visit(size)` with the outputs in F.
  template <class Visit>
  void for_each_batch(ConstVectorRef<S> w, const Visit& visit) const {
    const Index count = batch_->num_samples();
    for (Index first = 0; first < count; first += evaluation_.max_batch()) {
      const Index size = std::min(evaluation_.max_batch(), count - first);
      batch_->gather_from(first, size);
      evaluation_.forward(w, batch_->samples(size), batch_->F(size));
      visit(size);
    }
  }

  mutable Evaluation<S> evaluation_;
  std::unique_ptr<AnyBatch<S>> batch_;
  Sampling<S> sampling_;
};

/// What the batches of a run are for.
struct BatchUse {
  bool counts = false;  ///< outputs that are right are counted
  bool goes_on = true;  ///< steps of descent may continue to the outputs of the next batch in the same pass
  bool as_predict =
      false;  ///< results are those of the model's `predict` and `vjp` to the bit, not only up to rounding
  bool stops_at_epochs = false;  ///< but not to that of another epoch, before which others use what is prepared
};

/// The batches of a run.
template <class S>
class BatchSource final : public AnySource<S> {
 public:
  explicit BatchSource(SampledLoss<S> loss, BatchUse use = {});
  /// A copy, which starts its next step afresh: the evaluation refers to the batch of the original.
  BatchSource(const BatchSource& other);
  BatchSource& operator=(const BatchSource&) = delete;
  ~BatchSource() override = default;

  void begin_step(Index k, S t, const Vector<S>& w) override;
  void add_gradient(S scale, VectorRef<S> target) override;
  S descend(S scale, const Vector<S>& w, Vector<S>& w_new) override;
  S descend_safely(S scale, Vector<S>& w, S square_norm) override;
  [[nodiscard]] StepResiduals<S> residuals() override { return seen_; }

  /// Samples of the step.
  [[nodiscard]] Index size() const { return size_; }
  /// Their loss, a plain sum.
  [[nodiscard]] double value() const { return value_; }
  /// And how many outputs are right, if they are counted.
  [[nodiscard]] Index correct() const { return correct_; }

  [[nodiscard]] const SampledLoss<S>& loss() const { return loss_; }
  /// Forgets what was prepared for the next step.
  void begin_anew();
  /// To work with; the next step starts afresh.
  [[nodiscard]] SampledLoss<S>& borrow_loss();

 private:
  /// The batch of a step with its outputs, made by the step before.
  struct Ahead {
    Index step = -1;
    const S* w = nullptr;
    Index size = 0;
  };

  /// Gathers the samples of step k and says how many they are.
  Index take_samples(Index k, AnyBatch<S>& batch);
  /// The factor of the plain sum over the samples of the step.
  [[nodiscard]] S weight_of_step(S scale) const {
    return loss_.sampling().mean ? scale / static_cast<S>(size_) : scale;
  }
  /// A step in the memory of w, to the outputs of the next batch.
  void descend_over(const MatrixRef<S>& G, S weight, Vector<S>& w);
  /// The next batch, of so many samples, has its outputs at w.
  void prepare_next(Index size, const Vector<S>& w);
  /// Whether the step after `step_` is prepared.
  [[nodiscard]] bool goes_on() const;

  SampledLoss<S> loss_;
  BatchUse use_;
  std::unique_ptr<AnyBatch<S>> next_ = {};  // where steps continue to it
  std::vector<Index> order_ = {};           // of an epoch, or drawn with replacement
  std::vector<Index> even_ = {};            // samples of the last step of even number, and of odd
  std::vector<Index> odd_ = {};
  Index batches_ = 1;                               // of an epoch
  S largest_ = std::numeric_limits<S>::infinity();  // of the rows that batches are views of
  Vector<S> noise_ = {};
  Index step_ = 0;
  Index epoch_ = -1;  // of order_
  Index size_ = 0;
  double value_ = 0.0;
  Index correct_ = 0;
  bool has_all_ = false;
  Ahead ahead_ = {};
  StepResiduals<S> seen_ = {};
};

template <class S>
SampledLoss<S>::SampledLoss(Evaluation<S> evaluation, std::unique_ptr<AnyBatch<S>> batch, Sampling<S> sampling)
    : evaluation_(std::move(evaluation)), batch_(std::move(batch)), sampling_(std::move(sampling)) {
  using std::isfinite;
  const Index N = batch_->num_samples();
  require_fit(evaluation_, *batch_);
  require(sampling_.batch_size >= 0 && sampling_.batch_size <= N, "batch_size must be in 1 .. N = ", N,
          ", or 0 for all, got ", sampling_.batch_size);
  require(sampling_.batch_size > 0 || !sampling_.with_replacement,
          "with_replacement needs a batch_size: so many samples are drawn in each step");
  require(isfinite(sampling_.label_noise) && sampling_.label_noise >= S(0),
          "label_noise must be finite and not negative, got ", sampling_.label_noise);
  require(isfinite(sampling_.gradient_noise) && sampling_.gradient_noise >= S(0),
          "gradient_noise must be finite and not negative, got ", sampling_.gradient_noise);
  require(sampling_.label_noise == S(0) || batch_->takes_label_noise(), "label_noise = ", sampling_.label_noise,
          " needs labels that are numbers: classes have no noise");
  require(!sampling_.noise || sampling_.label_noise > S(0), "noise is given, but label_noise, its size, is 0");
  batch_->check_labels();
  batch_->resize(evaluation_.max_batch());
}

template <class S>
S SampledLoss<S>::loss(ConstVectorRef<S> w) const {
  double sum = 0.0;
  for_each_batch(w, [&](Index size) { sum += batch_->value(size); });
  return weight() * static_cast<S>(sum);
}

template <class S>
void SampledLoss<S>::derivative(ConstVectorRef<S> w, VectorRef<S> dw) const {
  dw.setZero();
  for_each_batch(w, [&](Index size) {
    batch_->gradient(size);
    evaluation_.add_pullback(batch_->F(size), S(-weight()), dw);
  });
}

template <class S>
std::unique_ptr<AnySource<S>> SampledLoss<S>::make_source() const {
  return std::make_unique<BatchSource<S>>(SampledLoss(*this));
}

template <class S>
BatchSource<S>::BatchSource(SampledLoss<S> loss, BatchUse use) : loss_(std::move(loss)), use_(use) {
  const Sampling<S>& sampling = loss_.sampling();
  const Index size = loss_.batch_size();
  AnyBatch<S>& batch = loss_.batch();
  batch.resize(size);  // rows of few samples lie close together
  if (sampling.gradient_noise > S(0)) noise_.setZero(loss_.dimension());
  order_.resize(static_cast<std::size_t>(sampling.with_replacement ? size : batch.num_samples()));
  if (sampling.batch_size > 0)
    for (std::vector<Index>* drawn : {&even_, &odd_}) drawn->resize(static_cast<std::size_t>(size));
  batches_ = loss_.steps_per_epoch();
  const bool draws = sampling.batch_size > 0 && (sampling.with_replacement || batches_ > 1);
  if (draws) batch.keep_rows(!use.as_predict);
  if (!use.as_predict) loss_.evaluation().reorder_sums();
  use_.goes_on = use.goes_on && draws && noise_.size() == 0 && loss_.evaluation().is_descent_fused();
  if (!use_.goes_on) return;
  next_ = batch.clone();
  largest_ = batch.largest_in_view();
}

template <class S>
BatchSource<S>::BatchSource(const BatchSource& other)
    : AnySource<S>(other),
      loss_(other.loss_),
      use_(other.use_),
      order_(other.order_),
      even_(other.even_),
      odd_(other.odd_),
      batches_(other.batches_),
      largest_(other.largest_),
      noise_(other.noise_),
      step_(other.step_),
      epoch_(other.epoch_) {
  if (other.next_) next_ = other.next_->clone();
}

template <class S>
SampledLoss<S>& BatchSource<S>::borrow_loss() {
  begin_anew();
  return loss_;
}

template <class S>
void BatchSource<S>::begin_anew() {
  has_all_ = false;
  ahead_ = {};
}

template <class S>
Index BatchSource<S>::take_samples(Index k, AnyBatch<S>& batch) {
  const Sampling<S>& sampling = loss_.sampling();
  const Index N = batch.num_samples();
  if (sampling.batch_size == 0) {
    if (!has_all_) batch.gather_from(0, N);
    return N;
  }
  Index first = 0;
  Index size = sampling.batch_size;
  if (sampling.with_replacement) {
    RandomStream random = RandomStream(sampling.seed, static_cast<std::uint64_t>(k)).child("samples");
    for (Index b = 0; b < size; ++b)
      order_[static_cast<std::size_t>(b)] = static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(N)));
  } else {
    const Index epoch = k / batches_;
    first = (k - epoch * batches_) * size;
    if (epoch != epoch_) {
      epoch_ = epoch;
      std::iota(order_.begin(), order_.end(), Index(0));
      RandomStream random(sampling.seed, static_cast<std::uint64_t>(epoch_));
      shuffle(random, order_);
    }
    size = std::min(size, N - first);
  }
  const Index* const drawn = order_.data() + first;
  batch.gather(drawn, size);
  if (k % 2 == 0)
    std::copy_n(drawn, size, even_.data());
  else
    std::copy_n(drawn, size, odd_.data());
  return size;
}

template <class S>
void BatchSource<S>::begin_step(Index k, S /*t*/, const Vector<S>& w) {
  const Sampling<S>& sampling = loss_.sampling();
  step_ = k;
  if (ahead_.step == k && ahead_.w == w.data()) {
    size_ = ahead_.size;
  } else {
    AnyBatch<S>& batch = loss_.batch();
    size_ = take_samples(k, batch);
    if (has_all_)
      loss_.evaluation().forward(w, batch.F(size_));
    else
      loss_.evaluation().forward(w, batch.samples(size_), batch.F(size_));
    has_all_ = sampling.batch_size == 0;
  }
  ahead_.step = -1;
  AnyBatch<S>& batch = loss_.batch();
  if (sampling.label_noise > S(0)) {
    RandomStream random = RandomStream(sampling.seed, static_cast<std::uint64_t>(k)).child("label noise");
    batch.add_label_noise(size_, sampling.label_noise, sampling.noise, random);
  }
  if (sampling.gradient_noise > S(0)) {
    RandomStream random = RandomStream(sampling.seed, static_cast<std::uint64_t>(k)).child("gradient noise");
    fill_normal(random, noise_);
  }
  if (use_.counts) correct_ = batch.count_correct(size_);
  value_ = batch.gradient(size_);
  seen_.size = size_;
  if (batch.num_outputs() == 1) seen_.slopes = batch.F(size_).data();
  if (sampling.batch_size > 0) seen_.samples = (k % 2 == 0 ? even_ : odd_).data();
  if (sampling.mean) seen_.weight = S(1) / static_cast<S>(size_);
  seen_.has_gradient_noise = sampling.gradient_noise > S(0);
}

template <class S>
void BatchSource<S>::add_gradient(S scale, VectorRef<S> target) {
  const Sampling<S>& sampling = loss_.sampling();
  loss_.evaluation().add_pullback(loss_.batch().F(size_), weight_of_step(scale), target);
  if (noise_.size() > 0) add_multiple(S(scale * sampling.gradient_noise), noise_.data(), target.data(), target.size());
}

template <class S>
bool BatchSource<S>::goes_on() const {
  return use_.goes_on && !(use_.stops_at_epochs && (step_ + 1) % batches_ == 0);
}

template <class S>
S BatchSource<S>::descend_safely(S scale, Vector<S>& w, S square_norm) {
  if (!goes_on()) return S(-1);
  const S weight = weight_of_step(scale);
  const MatrixRef<S> G = loss_.batch().F(size_);
  const S growth = loss_.evaluation().growth_of_descent(G, weight, largest_);
  const S bound = square_norm * growth * growth;
  // A fourth of the largest number, for rounding.
  if (!(bound < std::numeric_limits<S>::max() / S(4))) return S(-1);
  descend_over(G, weight, w);
  return bound;
}

template <class S>
void BatchSource<S>::descend_over(const MatrixRef<S>& G, S weight, Vector<S>& w) {
  const Index size = take_samples(step_ + 1, *next_);
  loss_.evaluation().descend_and_forward(G, weight, w, next_->samples(size), next_->F(size));
  prepare_next(size, w);
}

template <class S>
S BatchSource<S>::descend(S scale, const Vector<S>& w, Vector<S>& w_new) {
  if (!goes_on()) return AnySource<S>::descend(scale, w, w_new);
  const S weight = weight_of_step(scale);
  const MatrixRef<S> G = loss_.batch().F(size_);
  if (&w_new == &w) {
    descend_over(G, weight, w_new);
    return S(-1);
  }
  const Index size = take_samples(step_ + 1, *next_);
  const S square_norm = loss_.evaluation().descend_into(G, weight, w_new, next_->samples(size), next_->F(size));
  prepare_next(size, w_new);
  return square_norm;
}

template <class S>
void BatchSource<S>::prepare_next(Index size, const Vector<S>& w) {
  loss_.swap_batch(next_);
  ahead_ = {step_ + 1, w.data(), size};
}

}  // namespace detail

/// A model on data whose gradients an algorithm sees in batches, or with noise: the problem of stochastic gradient
/// descent, `integrate(StochasticGradient(...), w0, Epochs{...}, rule, controller)` with any rule (`Descent`,
/// `HeavyBall`, ...). As a vector field it is the gradient flow of all data without noise.
///
///     StochasticGradient(net, data, {.batch_size = 1})                 // N x 1 or N x K labels, squared loss
///     StochasticGradient(net, data, {.label_noise = 0.5, .seed = 7})   // all samples, noisy labels
///     StochasticGradient(net, classes, {.batch_size = 64, .mean = true})  // LabelledDataset, cross-entropy
///
/// The loss is a plain sum over the samples of the step (`mean`: their mean), so that one sample in a step has the
/// gradient `2 (f(w, x_n) - y_n) grad f(w, x_n)`. Refers to the dataset, which must outlive it. Calls share buffers:
/// give each thread its own copy. A step allocates nothing if the model does not.
template <class M, class L, class Data>
class StochasticGradient {
 public:
  static_assert(explain_model<M>());
  using Scalar = detail::ScalarOfT<M>;
  static_assert(detail::explain_loss<L, Data>());

  /// `model` on `data`. Throws DimensionError where the two do not fit, ArgumentError for a sampling out of range (a
  /// batch larger than the data, batches without replacement of a single sample, noise of negative size or on classes)
  /// or labels that the loss does not take.
  StochasticGradient(M model, const Data& data, Sampling<Scalar> sampling, L loss = {}, ParallelOptions parallel = {1})
      : model_(std::move(model)),
        // Before the sampling is checked: an invalid batch size must not ask for its memory.
        loss_(make_evaluation(model_, detail::SampledLoss<Scalar>::at_once(sampling, data.num_samples()), parallel),
              detail::make_batch(std::move(loss), data), sampling) {
    detail::require_choice(sampling, data.num_samples());
  }
  StochasticGradient(M, const Data&&, Sampling<Scalar>, L = {}, ParallelOptions = {1}) = delete;

  /// P.
  [[nodiscard]] Index dimension() const { return loss_.dimension(); }
  /// The model.
  [[nodiscard]] const M& model() const { return model_; }
  /// What a step sees.
  [[nodiscard]] const Sampling<Scalar>& sampling() const { return loss_.sampling(); }
  /// Steps of one pass over the data: N / batch_size, rounded up.
  [[nodiscard]] Index steps_per_epoch() const { return loss_.steps_per_epoch(); }

  /// `dw = -grad L(w)` over all data, without noise.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const { loss_.derivative(w, dw); }
  /// `L(w)` over all data, a plain sum (`mean`: divided by N), without noise.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const { return loss_.loss(w); }
  /// The batches of a run, in memory of their own.
  [[nodiscard]] std::unique_ptr<AnySource<Scalar>> make_source() const { return loss_.make_source(); }

 private:
  M model_;
  detail::SampledLoss<Scalar> loss_;
};

template <class M, class S>
StochasticGradient(M, const Dataset<S>&, Sampling<S>) -> StochasticGradient<M, SquaredLoss<S>, Dataset<S>>;
template <class M, class S, class L>
StochasticGradient(M, const Dataset<S>&, Sampling<S>, L, ParallelOptions = {1}) -> StochasticGradient<M, L, Dataset<S>>;
template <class M, class S>
StochasticGradient(M, const LabelledDataset<S>&, Sampling<S>)
    -> StochasticGradient<M, CrossEntropy<S>, LabelledDataset<S>>;
template <class M, class S, class L>
StochasticGradient(M, const LabelledDataset<S>&, Sampling<S>, L, ParallelOptions = {1})
    -> StochasticGradient<M, L, LabelledDataset<S>>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_STOCHASTIC_GRADIENT(prefix, S) \
  prefix template class detail::SampledLoss<S>;             \
  prefix template class detail::BatchSource<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_STOCHASTIC_GRADIENT)
