#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <type_traits>
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
#include "richflow/train/training_batch.hpp"

namespace richflow {

/// What a step of an algorithm sees of the data. Everything random follows from (seed, number of the step) alone, so
/// that runs repeat to the bit, whatever the number of threads, and go on from any step.
template <class S = double>
struct Sampling {
  Index batch_size = 0;  ///< samples of a step, at most N; 0: all of them, in their order
  bool with_replacement =
      false;             ///< drawn anew in each step, a sample perhaps twice; or else each once per epoch, in an
                         ///< order that follows from (seed, epoch) as in Sgd, the last batch with what is left
  bool mean = false;     ///< gradients of the mean over the batch; or else of the plain sum
  S label_noise = S(0);  ///< delta: every label of a step has `delta xi` added, fresh in each step
  /// The law of xi; standard normal where it is empty. It draws from the stream that it is given, and from nothing
  /// else.
  std::function<S(RandomStream&)> noise = {};
  S gradient_noise = S(0);  ///< sigma: the gradient of a step has `sigma xi` added, xi standard normal, P values
  std::uint64_t seed = 1;   ///< of the order and of the noise
};

namespace detail {

/// Samples of a dataset and a loss on them, of any type.
template <class S>
class AnyBatch {
 public:
  virtual ~AnyBatch() = default;
  [[nodiscard]] virtual std::unique_ptr<AnyBatch> clone() const = 0;

  [[nodiscard]] virtual Index num_samples() const = 0;
  [[nodiscard]] virtual Index num_outputs() const = 0;
  [[nodiscard]] virtual Index num_inputs() const = 0;
  [[nodiscard]] virtual bool takes_label_noise() const = 0;

  /// Memory for so many samples.
  virtual void resize(Index size) = 0;
  virtual void gather(const Index* indices, Index size) = 0;
  virtual void gather_from(Index first, Index size) = 0;
  virtual void add_label_noise(Index size, const Sampling<S>& sampling, RandomStream& random) = 0;

  /// Those gathered.
  [[nodiscard]] virtual Samples<S> samples(Index size) const = 0;
  [[nodiscard]] virtual MatrixRef<S> F(Index size) = 0;

  /// The loss of the outputs in F, a plain sum.
  [[nodiscard]] virtual double value(Index size) = 0;
  /// The same; F becomes its gradient.
  virtual double gradient(Index size) = 0;
};

/// Of a dataset, which it refers to.
template <class S, class L, class Data>
class BatchOf final : public AnyBatch<S> {
 public:
  BatchOf(L loss, const Data& data) : loss_(std::move(loss)), data_(&data) { check_labels(loss_, data); }
  [[nodiscard]] std::unique_ptr<AnyBatch<S>> clone() const override { return std::make_unique<BatchOf>(*this); }

  [[nodiscard]] Index num_samples() const override { return data_->num_samples(); }
  [[nodiscard]] Index num_outputs() const override { return outputs_of(*data_); }
  [[nodiscard]] Index num_inputs() const override { return data_->num_inputs(); }
  [[nodiscard]] bool takes_label_noise() const override { return std::is_same_v<Data, Dataset<S>>; }

  void resize(Index size) override { batch_.resize(size, *data_); }
  void gather(const Index* indices, Index size) override { batch_.gather(*data_, indices, size); }
  void gather_from(Index first, Index size) override { batch_.gather_from(*data_, first, size); }
  void add_label_noise([[maybe_unused]] Index size, [[maybe_unused]] const Sampling<S>& sampling,
                       [[maybe_unused]] RandomStream& random) override {
    if constexpr (std::is_same_v<Data, Dataset<S>>)
      batch_.add_label_noise(size, [&] {
        return sampling.label_noise * (sampling.noise ? sampling.noise(random) : static_cast<S>(random.normal()));
      });
  }

  [[nodiscard]] Samples<S> samples(Index size) const override { return batch_.samples(size); }
  [[nodiscard]] MatrixRef<S> F(Index size) override { return batch_.F.topRows(size); }
  [[nodiscard]] double value(Index size) override { return batch_.value(loss_, size); }
  double gradient(Index size) override { return batch_.gradient(loss_, size); }

 private:
  L loss_;
  const Data* data_;
  TrainingBatch<Data> batch_ = {};
};

/// A model, a loss and data, a batch at a time: what StochasticGradient is but for their types.
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

 private:
  template <class>
  friend class BatchSource;

  [[nodiscard]] Index batch_size() const {
    return sampling_.batch_size > 0 ? sampling_.batch_size : batch_->num_samples();
  }
  /// What sums over all data are multiplied with.
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

/// The batches of a run.
template <class S>
class BatchSource final : public AnySource<S> {
 public:
  explicit BatchSource(const SampledLoss<S>& loss);

  void begin_step(Index k, S t, const Vector<S>& w) override;
  void add_gradient(S scale, VectorRef<S> target) override;
  [[nodiscard]] StepResiduals<S> residuals() override;

 private:
  void take_samples(Index k);

  SampledLoss<S> loss_;
  std::vector<Index> order_ = {};
  Vector<S> noise_ = {};
  Index epoch_ = -1;  // of order_
  Index first_ = 0;   // of the batch in order_
  Index size_ = 0;
  bool has_all_ = false;
};

template <class S>
SampledLoss<S>::SampledLoss(Evaluation<S> evaluation, std::unique_ptr<AnyBatch<S>> batch, Sampling<S> sampling)
    : evaluation_(std::move(evaluation)), batch_(std::move(batch)), sampling_(std::move(sampling)) {
  using std::isfinite;
  const Index N = batch_->num_samples();
  require<DimensionError>(evaluation_.num_inputs() == 0 || evaluation_.num_inputs() == batch_->num_inputs(),
                          "the model takes ", evaluation_.num_inputs(),
                          " features but the samples have d = ", batch_->num_inputs());
  require<DimensionError>(evaluation_.num_outputs() == batch_->num_outputs(), "the model has ",
                          evaluation_.num_outputs(),
                          " outputs but the labels of a sample are for K = ", batch_->num_outputs());
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
  return std::make_unique<BatchSource<S>>(*this);
}

template <class S>
BatchSource<S>::BatchSource(const SampledLoss<S>& loss) : loss_(loss) {
  loss_.batch_->resize(loss_.batch_size());  // rows of few samples lie close together
  if (loss_.sampling_.gradient_noise > S(0)) noise_.setZero(loss_.dimension());
  order_.resize(static_cast<std::size_t>(loss_.batch_->num_samples()));
}

template <class S>
void BatchSource<S>::take_samples(Index k) {
  const Sampling<S>& sampling = loss_.sampling_;
  AnyBatch<S>& batch = *loss_.batch_;
  const Index N = batch.num_samples();
  if (sampling.batch_size == 0) {
    if (!has_all_) batch.gather_from(0, N);
    size_ = N;
    return;
  }
  if (sampling.with_replacement) {
    RandomStream random = RandomStream(sampling.seed, static_cast<std::uint64_t>(k)).child("samples");
    first_ = 0;
    size_ = sampling.batch_size;
    for (std::size_t b = 0; b < static_cast<std::size_t>(size_); ++b)
      order_[b] = static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(N)));
    batch.gather(order_.data(), size_);
    return;
  }
  const Index batches = loss_.steps_per_epoch();
  if (k / batches != epoch_) {
    epoch_ = k / batches;
    std::iota(order_.begin(), order_.end(), Index(0));
    RandomStream random(sampling.seed, static_cast<std::uint64_t>(epoch_));
    shuffle(random, order_);
  }
  first_ = (k % batches) * sampling.batch_size;
  size_ = std::min(sampling.batch_size, N - first_);
  batch.gather(order_.data() + first_, size_);
}

template <class S>
void BatchSource<S>::begin_step(Index k, S /*t*/, const Vector<S>& w) {
  const Sampling<S>& sampling = loss_.sampling_;
  AnyBatch<S>& batch = *loss_.batch_;
  take_samples(k);
  if (sampling.label_noise > S(0)) {
    RandomStream random = RandomStream(sampling.seed, static_cast<std::uint64_t>(k)).child("label noise");
    batch.add_label_noise(size_, sampling, random);
  }
  if (sampling.gradient_noise > S(0)) {
    RandomStream random = RandomStream(sampling.seed, static_cast<std::uint64_t>(k)).child("gradient noise");
    fill_normal(random, noise_);
  }
  if (has_all_)
    loss_.evaluation_.forward(w, batch.F(size_));
  else
    loss_.evaluation_.forward(w, batch.samples(size_), batch.F(size_));
  has_all_ = sampling.batch_size == 0;
  batch.gradient(size_);
}

template <class S>
void BatchSource<S>::add_gradient(S scale, VectorRef<S> target) {
  const Sampling<S>& sampling = loss_.sampling_;
  const S weight = sampling.mean ? scale / static_cast<S>(size_) : scale;
  loss_.evaluation_.add_pullback(loss_.batch_->F(size_), weight, target);
  if (noise_.size() > 0) add_multiple(S(scale * sampling.gradient_noise), noise_.data(), target.data(), target.size());
}

template <class S>
StepResiduals<S> BatchSource<S>::residuals() {
  const Sampling<S>& sampling = loss_.sampling_;
  StepResiduals<S> seen;
  seen.size = size_;
  if (loss_.batch_->num_outputs() == 1) seen.slopes = loss_.batch_->F(size_).data();
  if (sampling.batch_size > 0) seen.samples = order_.data() + first_;
  if (sampling.mean) seen.weight = S(1) / static_cast<S>(size_);
  seen.has_gradient_noise = sampling.gradient_noise > S(0);
  return seen;
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
  /// Number type.
  using Scalar = detail::ScalarOfT<M>;
  static_assert(detail::is_loss_of<L, Data>,
                "richflow: the loss must have `value(F, labels)` and `value_and_gradient(F, labels, G)` for classes, "
                "`value(f, y)` and `gradient(f, y, out)` for numbers");

  /// `model` on `data`. Throws DimensionError where the two do not fit, ArgumentError for a sampling out of range (a
  /// batch larger than the data, noise of negative size or on classes) or labels that the loss does not take.
  StochasticGradient(M model, const Data& data, Sampling<Scalar> sampling, L loss = {}, ParallelOptions parallel = {1})
      : model_(std::move(model)),
        // Before the sampling is checked: a senseless batch size must not ask for its memory.
        loss_(make_evaluation(model_, detail::SampledLoss<Scalar>::at_once(sampling, data.num_samples()), parallel),
              std::make_unique<detail::BatchOf<Scalar, L, Data>>(std::move(loss), data), sampling) {}
  StochasticGradient(M, const Data&&, Sampling<Scalar>, L = {}, ParallelOptions = {1}) = delete;

  /// P.
  [[nodiscard]] Index dimension() const { return loss_.dimension(); }
  /// The model.
  [[nodiscard]] const M& model() const { return model_; }
  /// What a step sees.
  [[nodiscard]] const Sampling<Scalar>& sampling() const { return loss_.sampling(); }
  /// Steps that go once through the data: N / batch_size, rounded up.
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
