// Training, beside the rate of matrix products alone. `images_per_s` is of forward and backward.
//
// sgd: steps of SGD on a 784-5000-10 ReLU network, batch 256, on 1 or more threads; `of_products` is the time that
// the network's own five matrix products take, each as a whole on that many threads, over that of a step.
// mnist_sgd: the same at other widths, with the epochs of 60 000 images in a minute (mnist_epochs.py has PyTorch's);
// the last argument is the percentage of zeros in the images, 81 for the digits of MNIST.
// sgd_in_two_passes: the same without continuing to the next batch in the pass that changes the weights.
// plain_sgd: the same steps as one writes them down, in whole products. These have threads where the program was
// compiled with OpenMP or calls OpenBLAS.
// fitted_sgd and fitted_plain: steps with momentum where subnormal numbers arise (samples that fit, units that are
// dead), by Sgd and as one writes them down. The argument is 1 where the whole process flushes them: with Sgd the two
// rows should take the same time, and without it they do on AMD's processors, not on Intel's. `subnormal` counts what
// is left of them in weights and velocity. vgg11: a batch on one thread; `of_product_rate` is the rate of the network's
// own products over that of one large product, `direct_Gflops` the rate that a convolution by its definition would need
// to be as fast.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "rate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/models/conv_network.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/train/sgd.hpp"

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

constexpr Index d = 784;
constexpr Index width = 5000;
constexpr Index classes = 10;
constexpr Index batch_size = 256;
constexpr Index num_batches = 20;
constexpr double mnist_images = 60'000;

/// Seconds of the five products of a step alone, at their best.
double seconds_of_products(Index units = width) {
  RandomStream random(2);
  const Matrix<float> X = normal_matrix<float>(random, batch_size, d);
  const Matrix<float> G = normal_matrix<float>(random, batch_size, classes);
  Matrix<float> W = normal_matrix<float>(random, d, units);
  Matrix<float> V = normal_matrix<float>(random, units, classes);
  Matrix<float> A(batch_size, units);
  Matrix<float> B(batch_size, units);
  Matrix<float> F(batch_size, classes);
  double best = 1e300;
  for (int k = 0; k < 10; ++k) {
    const double start = seconds();
    A.noalias() = X * W;
    F.noalias() = A * V;
    B.noalias() = G * V.transpose();
    V.noalias() += A.transpose() * G;
    W.noalias() += X.transpose() * B;
    benchmark::DoNotOptimize(W.data());
    benchmark::DoNotOptimize(F.data());
    best = std::min(best, seconds() - start);
  }
  return best;
}

LabelledDataset<float> labelled_noise(RandomStream& random, Index batches = num_batches, double zeros = 0.0) {
  Vector<int> labels(batches * batch_size);
  for (Index n = 0; n < labels.size(); ++n) labels[n] = static_cast<int>(n % classes);
  Matrix<float> columns = normal_matrix<float>(random, d, labels.size());
  for (Index k = 0; zeros > 0.0 && k < columns.size(); ++k)
    if (random.uniform() < zeros) columns.data()[k] = 0.0F;
  return LabelledDataset<float>::from_columns(std::move(columns), std::move(labels), classes);
}

/// `epoch()` makes `num_batches` steps. The counters are of the best epoch.
template <class Epoch>
void time_epochs(benchmark::State& state, const Epoch& epoch, Index units = width) {
  double best = 1e300;
  for (auto _ : state) {
    const double start = seconds();
    epoch();
    best = std::min(best, (seconds() - start) / static_cast<double>(num_batches));
  }
  const double images_per_s = static_cast<double>(batch_size) / best;
  state.counters["images_per_s"] = images_per_s;
  state.counters["epochs_per_min"] = 60.0 * images_per_s / mnist_images;
  set_product_threads(static_cast<int>(state.range(0)));
  state.counters["of_products"] = seconds_of_products(units) / best;
  set_product_threads(1);
}

/// The evaluation of a network, less the steps of descent that continue to the next batch.
class EvaluationInTwoPasses final : public AnyEvaluation<float> {
 public:
  explicit EvaluationInTwoPasses(Evaluation<float> inner)
      : AnyEvaluation<float>({inner.num_parameters(), inner.num_outputs(), inner.max_batch(), inner.num_inputs()}),
        inner_(std::move(inner)) {}

  [[nodiscard]] std::unique_ptr<AnyEvaluation<float>> clone() const override {
    return std::make_unique<EvaluationInTwoPasses>(*this);
  }
  void forward(ConstVectorRef<float> w, Samples<float> X, MatrixRef<float> F) override { inner_.forward(w, X, F); }
  void add_pullback(ConstVectorRef<float> /*w*/, Samples<float> /*X*/, ConstMatrixRef<float> G, float scale,
                    VectorRef<float> target) override {
    inner_.add_pullback(G, scale, target);
  }
  void jvp(ConstVectorRef<float> /*w*/, Samples<float> /*X*/, ConstVectorRef<float> v, MatrixRef<float> dF) override {
    inner_.jvp(v, dF);
  }

 private:
  Evaluation<float> inner_;
};

/// A ReLU network that cannot continue to the next batch in a step.
struct TwoPasses : ReluNetwork<float> {
  using ReluNetwork<float>::ReluNetwork;
  [[nodiscard]] Evaluation<float> make_evaluation(Index max_batch, ParallelOptions parallel) const {
    return Evaluation<float>(
        std::make_unique<EvaluationInTwoPasses>(ReluNetwork<float>::make_evaluation(max_batch, parallel)));
  }
};

/// Threads.
template <class Net>
void sgd_of(benchmark::State& state, Index units = width, double zeros = 0.0) {
  set_product_threads(1);  // the trainer's own threads share each step
  RandomStream random(1);
  const LabelledDataset<float> data = labelled_noise(random, num_batches, zeros);
  const Net net(d, {units}, false, classes);
  SgdOptions<float> options;
  options.step = 0.01F;
  options.batch_size = batch_size;
  options.parallel.threads = static_cast<int>(state.range(0));
  Sgd trainer(net, data, net.initial_parameters(random, Scale<float>::from_value(1)), options);
  time_epochs(
      state,
      [&] {
        for (Index k = 0; k < num_batches; ++k)
          if (!trainer.step()) state.SkipWithError("the loss is not finite");
      },
      units);
}

void sgd(benchmark::State& state) { sgd_of<ReluNetwork<float>>(state); }
void sgd_in_two_passes(benchmark::State& state) { sgd_of<TwoPasses>(state); }

/// Threads, width, percentage of zeros.
void mnist_sgd(benchmark::State& state) {
  sgd_of<ReluNetwork<float>>(state, state.range(1), 0.01 * static_cast<double>(state.range(2)));
}

/// Threads.
void plain_sgd(benchmark::State& state) {
  set_product_threads(static_cast<int>(state.range(0)));
  RandomStream random(1);
  const LabelledDataset<float> data = labelled_noise(random);
  const ReluNetwork<float> net(d, {width}, false, classes);
  const Vector<float> w = net.initial_parameters(random, Scale<float>::from_value(1));
  Matrix<float> W = net.weights(w, 1);
  Matrix<float> V = net.weights(w, 2);
  Matrix<float> X(batch_size, d);
  Matrix<float> A(batch_size, width);
  Matrix<float> B(batch_size, width);
  Matrix<float> F(batch_size, classes);
  Vector<int> labels(batch_size);
  std::vector<Index> order(static_cast<std::size_t>(data.num_samples()));
  std::iota(order.begin(), order.end(), Index(0));
  const CrossEntropy<float> loss;
  const float step = 0.01F / static_cast<float>(batch_size);
  time_epochs(state, [&] {
    shuffle(random, order);
    for (Index k = 0; k < num_batches; ++k) {
      data.gather(order.data() + k * batch_size, X, labels);
      A.noalias() = X * W;
      A = A.cwiseMax(0.0F);
      F.noalias() = A * V;
      if (!std::isfinite(loss.value_and_gradient(F, labels, F))) state.SkipWithError("the loss is not finite");
      F *= -step;
      B.noalias() = F * V.transpose();
      B.array() = (A.array() > 0.0F).select(B.array(), 0.0F);
      V.noalias() += A.transpose() * F;
      W.noalias() += X.transpose() * B;
    }
  });
}

void up_to_all_cores(benchmark::internal::Benchmark* b) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  for (int threads = 1; threads <= cores; threads *= 2) b->Arg(threads);
}

BENCHMARK(sgd)->Unit(benchmark::kMillisecond)->UseRealTime()->Apply(up_to_all_cores);
BENCHMARK(mnist_sgd)
    ->Unit(benchmark::kMillisecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime()
    ->ArgsProduct({{1, 2}, {500, 5000}, {0, 81}});
BENCHMARK(sgd_in_two_passes)->Unit(benchmark::kMillisecond)->UseRealTime()->Apply(up_to_all_cores);
BENCHMARK(plain_sgd)->Unit(benchmark::kMillisecond)->UseRealTime()->Apply(up_to_all_cores);

constexpr Index fitted_width = 300;
constexpr Index fitted_batches = 5;
constexpr float fitted_step = 0.3F;
constexpr float fitted_scale = 10.0F;
constexpr int steps_until_fitted = 1500;  // 0.9^1000 is 2e-46

double count_subnormal(const Vector<float>& values) {
  return static_cast<double>(
      std::count_if(values.begin(), values.end(), [](float x) { return std::fpclassify(x) == FP_SUBNORMAL; }));
}

/// Flushes: 0 or 1.
void fitted_sgd(benchmark::State& state) {
  set_product_threads(1);
  const SubnormalScope mode(state.range(0) == 1 ? SubnormalMode::flush() : SubnormalMode::keep());
  RandomStream random(1);
  const LabelledDataset<float> data = labelled_noise(random, fitted_batches);
  const ReluNetwork<float> net(d, {fitted_width}, true, classes);
  SgdOptions<float> options;
  options.step = fitted_step;
  options.momentum = 0.9F;
  options.batch_size = batch_size;
  Sgd trainer(net, data, Vector<float>(fitted_scale * net.initial_parameters(random, Scale<float>::from_value(1))),
              options);
  for (int k = 0; k < steps_until_fitted; ++k) trainer.step();
  for (auto _ : state)
    for (Index k = 0; k < num_batches; ++k)
      if (!trainer.step()) state.SkipWithError("the loss is not finite");
  state.counters["subnormal"] = count_subnormal(trainer.w());
}

/// Flushes: 0 or 1.
void fitted_plain(benchmark::State& state) {
  set_product_threads(1);
  const SubnormalScope mode(state.range(0) == 1 ? SubnormalMode::flush() : SubnormalMode::keep());
  RandomStream random(1);
  const LabelledDataset<float> data = labelled_noise(random, fitted_batches);
  const ReluNetwork<float> net(d, {fitted_width}, true, classes);
  Vector<float> w = fitted_scale * net.initial_parameters(random, Scale<float>::from_value(1));
  Vector<float> velocity = Vector<float>::Zero(w.size());
  auto at = net.make_evaluation(batch_size);
  Matrix<float> X(batch_size, d);
  Matrix<float> F(batch_size, classes);
  Vector<int> labels(batch_size);
  std::vector<Index> order(static_cast<std::size_t>(data.num_samples()));
  std::iota(order.begin(), order.end(), Index(0));
  const CrossEntropy<float> loss;
  Index batch = fitted_batches;
  const auto step = [&] {
    if (batch == fitted_batches) {
      shuffle(random, order);
      batch = 0;
    }
    data.gather(order.data() + batch++ * batch_size, X, labels);
    at.forward(w, X, F);
    if (!std::isfinite(loss.value_and_gradient(F, labels, F))) state.SkipWithError("the loss is not finite");
    velocity *= 0.9F;
    at.add_pullback(F, -fitted_step / static_cast<float>(batch_size), velocity);
    w += velocity;
  };
  for (int k = 0; k < steps_until_fitted; ++k) step();
  for (auto _ : state)
    for (Index k = 0; k < num_batches; ++k) step();
  state.counters["subnormal"] = count_subnormal(w) + count_subnormal(velocity);
}

BENCHMARK(fitted_sgd)->Unit(benchmark::kMillisecond)->Arg(0)->Arg(1);
BENCHMARK(fitted_plain)->Unit(benchmark::kMillisecond)->Arg(0)->Arg(1);

/// Operations per image of forward and backward: `per_pixel` per pixel and pair of channels. The images themselves
/// need no gradient.
double operations(const ConvNetwork<float>& net, const std::vector<ConvLayer>& layers, double per_pixel) {
  ImageShape shape = net.image();
  double sum = 0;
  double passes = 2;
  for (const ConvLayer& layer : layers) {
    if (layer.kind == ConvLayer::Kind::max_pool) {
      shape.height /= 2;
      shape.width /= 2;
      continue;
    }
    // Winograd's tiles do not stick out: all sizes of VGG11 are even.
    sum += passes * per_pixel * static_cast<double>(shape.size() * layer.channels);
    shape.channels = layer.channels;
    passes = 3;
  }
  return sum + 3 * 2 * static_cast<double>(net.num_dense_weights());
}

/// Width of the first layer, batch.
void vgg11(benchmark::State& state) {
  set_product_threads(1);
  const auto layers = vgg11_layers(state.range(0));
  const Index batch = state.range(1);
  const ConvNetwork<float> net({3, 32, 32}, layers, 10);
  RandomStream random(1);
  Vector<float> w = net.initial_parameters(random, Scale<float>::from_value(1));
  const Matrix<float> X = normal_matrix<float>(random, batch, net.num_inputs());
  const Matrix<float> G = normal_matrix<float>(random, batch, net.num_outputs());
  Matrix<float> F(batch, net.num_outputs());
  auto at = net.make_evaluation(batch);
  double best = 1e300;
  for (auto _ : state) {
    const double start = seconds();
    at.forward(w, X, F);
    at.add_pullback(G, 0.0F, w);  // step 0: the weights stay
    benchmark::DoNotOptimize(w.data());
    best = std::min(best, seconds() - start);
  }
  const double images = static_cast<double>(batch) / best;
  state.counters["images_per_s"] = images;
  state.counters["of_product_rate"] = images * operations(net, layers, 8) / product_rate<float>(1000, 1000, 1000);
  state.counters["direct_Gflops"] = images * operations(net, layers, 18) * 1e-9;
}

BENCHMARK(vgg11)->Args({64, 128})->Args({16, 128})->Args({8, 128})->Args({4, 64})->Unit(benchmark::kMillisecond);

}  // namespace
