// Training on one core, beside the rate of one large matrix product. `images_per_s` is of forward and backward.
// `of_product_rate` is the rate of the network's own products over that of the large one; `direct_Gflops` is the rate
// that a convolution by its definition would need to be as fast.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "rate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/models/conv_network.hpp"

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

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
  Vector<float> w = net.initial_parameters(random, BasicScale<float>::from_value(1));
  const Matrix<float> X = normal_matrix<float>(random, batch, net.input_features());
  const Matrix<float> G = normal_matrix<float>(random, batch, net.num_outputs());
  Matrix<float> F(batch, net.num_outputs());
  auto ws = net.make_batch_workspace(batch);
  double best = 1e300;
  for (auto _ : state) {
    const double start = seconds();
    net.forward(w, X, F, ws);
    net.add_pullback(w, X, G, 0.0F, w, ws);  // step 0: the weights stay
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
