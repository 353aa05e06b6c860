#include "richflow/models/conv_network.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct Case {
  ImageShape image;
  const char* layers;
  Index outputs;
  Index batch;
};

/// Even and odd sizes, single pixels, batches that are and are not a multiple of any vector, poolings anywhere.
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {{{1, 1, 1}, "3-FC", 2, 1},         {{2, 1, 1}, "3-2-FC", 3, 5},
                                        {{1, 2, 2}, "3-M-FC", 1, 3},       {{2, 4, 6}, "3-M-2-FC", 2, 17},
                                        {{3, 5, 3}, "2-3-FC", 4, 2},       {{1, 4, 4}, "M-2-M-3-FC", 2, 4},
                                        {{2, 8, 8}, "3-M-M-2-2-FC", 3, 8}, {{2, 4, 4}, "M-M-FC", 2, 3},
                                        {{1, 1, 7}, "2-2-FC", 2, 16},      {{1, 32, 2}, "2-M-2-FC", 2, 20}};
  return all;
}

std::size_t at(const ImageShape& shape, Index c, Index y, Index x) {
  return static_cast<std::size_t>((c * shape.height + y) * shape.width + x);
}

/// The definition, one image and one number at a time.
std::vector<double> forward(const Case& c, const ConvNetwork<double>& net, const Vector<double>& w,
                            const Vector<double>& pixels) {
  ImageShape shape = c.image;
  std::vector<double> values(pixels.data(), pixels.data() + pixels.size());
  Index weighted = 0;
  for (const ConvLayer& layer : parse_conv_layers(c.layers)) {
    ImageShape next = shape;
    std::vector<double> out;
    if (layer.kind == ConvLayer::Kind::max_pool) {
      next.height /= 2;
      next.width /= 2;
      for (Index k = 0; k < next.channels; ++k)
        for (Index y = 0; y < next.height; ++y)
          for (Index x = 0; x < next.width; ++x)
            out.push_back(
                std::max({values[at(shape, k, 2 * y, 2 * x)], values[at(shape, k, 2 * y, 2 * x + 1)],
                          values[at(shape, k, 2 * y + 1, 2 * x)], values[at(shape, k, 2 * y + 1, 2 * x + 1)]}));
    } else {
      next.channels = layer.channels;
      const auto W = net.weights(w, ++weighted);
      for (Index k = 0; k < next.channels; ++k)
        for (Index y = 0; y < next.height; ++y)
          for (Index x = 0; x < next.width; ++x) {
            double z = 0.0;
            for (Index tap = 0; tap < 9; ++tap) {
              const Index row = y + tap / 3 - 1;
              const Index col = x + tap % 3 - 1;
              if (row < 0 || row >= shape.height || col < 0 || col >= shape.width) continue;
              for (Index i = 0; i < shape.channels; ++i)
                z += values[at(shape, i, row, col)] * W(tap * shape.channels + i, k);
            }
            out.push_back(std::max(z, 0.0));
          }
    }
    shape = next;
    values = out;
  }
  const auto W = net.weights(w, net.depth());
  std::vector<double> out(static_cast<std::size_t>(net.num_outputs()), 0.0);
  for (Index k = 0; k < net.num_outputs(); ++k)
    for (Index i = 0; i < W.rows(); ++i)
      out[static_cast<std::size_t>(k)] += W(i, k) * values[static_cast<std::size_t>(i)];
  return out;
}

/// A net, a batch and parameters for it.
template <class S>
struct Problem {
  Problem(const Case& c, RandomStream& random)
      : net(c.image, c.layers, c.outputs),
        X(random_matrix(random, c.batch, net.num_inputs()).template cast<S>()),
        w(random_vector(random, net.num_parameters()).template cast<S>()),
        F(Matrix<S>::Zero(c.batch, c.outputs)),
        at(net.make_evaluation(c.batch)) {}

  const Matrix<S>& forward(const Vector<S>& parameters) {
    at.forward(parameters, X, F);
    return F;
  }

  Vector<S> pullback(const Matrix<S>& G) {
    Vector<S> out = Vector<S>::Zero(net.num_parameters());
    at.add_pullback(G, S(1), out);
    return out;
  }

  Matrix<S> jvp(const Vector<S>& v) {
    Matrix<S> out(F.rows(), F.cols());
    at.jvp(v, out);
    return out;
  }

  ConvNetwork<S> net;
  Matrix<S> X;
  Vector<S> w;
  Matrix<S> F;
  Evaluation<S> at;
};

/// Another evaluation gives the same numbers.
void check_same(const Problem<double>& p, Evaluation<double>& at, const Matrix<double>& G, const Vector<double>& v,
                const Vector<double>& gradient, const Matrix<double>& tangent) {
  Matrix<double> F(p.F.rows(), p.F.cols());
  Vector<double> g = Vector<double>::Zero(p.w.size());
  Matrix<double> dF(p.F.rows(), p.F.cols());
  at.forward(p.w, p.X, F);
  at.add_pullback(G, 1.0, g);
  at.jvp(v, dF);
  CHECK(F == p.F);
  CHECK(g == gradient);
  CHECK(dF == tangent);
}

/// Image by image, in another memory: sums of up to 200 terms in another order. Only in these images G is not 0.
void check_one_at_a_time(const Problem<double>& p, const std::vector<Index>& images, const Matrix<double>& G,
                         const Vector<double>& v, const Vector<double>& gradient, const Matrix<double>& tangent) {
  Vector<double> sum = Vector<double>::Zero(p.w.size());
  auto one_at_a_time = p.net.make_evaluation(1);
  const Matrix<double> features = p.net.last_features(p.w, p.X);
  for (const Index n : images) {
    Matrix<double> F(1, G.cols());
    Matrix<double> dF(1, G.cols());
    const Matrix<double> image = p.X.row(n);
    one_at_a_time.forward(p.w, image, F);
    one_at_a_time.add_pullback(G.row(n), 1.0, sum);
    one_at_a_time.jvp(v, dF);
    CAPTURE(n);
    CHECK((F - p.F.row(n)).norm() <= 1e-13 * (1.0 + p.F.norm()));
    CHECK((dF - tangent.row(n)).norm() <= 1e-13 * (1.0 + tangent.norm()));
    CHECK((p.net.last_features(p.w, image) - features.row(n)).norm() <= 1e-13 * (1.0 + features.norm()));
  }
  CHECK((sum - gradient).norm() <= 1e-12 * gradient.norm());
}

}  // namespace

TEST_CASE("the convolutional network is what its definition says") {
  RandomStream random(1);
  for (const Case& c : cases()) {
    Problem<double> p(c, random);
    p.forward(p.w);
    Problem<float> single(c, random);
    single.X = p.X.cast<float>();
    single.w = p.w.cast<float>();
    single.forward(single.w);
    double size = 1.0;
    for (Index l = 1; l <= p.net.depth(); ++l) size *= 1.0 + p.net.weights(p.w, l).norm();
    for (Index n = 0; n < c.batch; ++n) {
      const std::vector<double> expected = forward(c, p.net, p.w, p.X.row(n));
      // A few roundings per layer, relative to the product of the norms.
      const double scale = size * (1.0 + p.X.row(n).norm());
      for (Index k = 0; k < c.outputs; ++k) {
        CAPTURE(c.layers, n, k);
        CHECK_THAT(p.F(n, k), near(expected[static_cast<std::size_t>(k)], 0.0, 100 * eps * scale));
        CHECK_THAT(static_cast<double>(single.F(n, k)),
                   near(expected[static_cast<std::size_t>(k)], 0.0,
                        100 * static_cast<double>(std::numeric_limits<float>::epsilon()) * scale));
      }
    }
  }
}

TEST_CASE("the gradient of the convolutional network is that of finite differences") {
  RandomStream random(2);
  for (const Case& c : cases()) {
    Problem<double> p(c, random);
    const Matrix<double> G = random_matrix(random, c.batch, c.outputs);
    p.forward(p.w);
    const Vector<double> gradient = p.pullback(G);
    // Random reals are away from kinks except for the one in 1/h of them that lies within a step of it. Between kinks f
    // is a polynomial of degree D in w: errors of h^2 and of roundings over h.
    const double h = 1e-6;
    Index near_kink = 0;
    for (Index i = 0; i < p.w.size(); ++i) {
      Vector<double> moved = p.w;
      moved[i] += h;
      const double above = p.forward(moved).cwiseProduct(G).sum();
      moved[i] -= 2 * h;
      const double below = p.forward(moved).cwiseProduct(G).sum();
      const double expected = (above - below) / (2 * h);
      CAPTURE(c.layers, i, expected, gradient[i]);
      const double scale = 1.0 + gradient.cwiseAbs().maxCoeff();
      if (std::abs(expected - gradient[i]) > 1e-6 * scale) ++near_kink;
    }
    CAPTURE(c.layers);
    CHECK(near_kink == 0);
  }
}

TEST_CASE("products with the Jacobian of the convolutional network and its transpose agree") {
  RandomStream random(3);
  for (const Case& c : cases()) {
    Problem<double> p(c, random);
    const Vector<double> v = random_vector(random, p.net.num_parameters());
    const Matrix<double> G = random_matrix(random, c.batch, c.outputs);
    p.forward(p.w);
    const Vector<double> gradient = p.pullback(G);
    const Matrix<double> moved = p.jvp(v);
    CAPTURE(c.layers);
    // Both are sums of the same products; roundings relative to the sizes.
    CHECK_THAT(moved.cwiseProduct(G).sum(), near(gradient.dot(v), 0.0, 1e-12 * gradient.norm() * v.norm()));
    // Euler's identity: the derivative along w is D f.
    const Matrix<double> along = p.jvp(p.w);
    CHECK((along - static_cast<double>(p.net.homogeneity()) * p.F).norm() <= 1e-12 * (1.0 + along.norm()));
    // No call disturbs what the last forward left.
    CHECK((p.pullback(G) - gradient).norm() == 0.0);
    CHECK((p.jvp(v) - moved).norm() == 0.0);
  }
}

TEST_CASE("a convolutional network with one output passes the model battery") {
  RandomStream random(11);
  for (const char* layers : {"3-M-2-FC", "2-3-FC", "M-2-FC"}) {
    const ConvNetwork<double> net({2, 4, 4}, layers, 1);
    const Dataset data(random_matrix(random, 5, net.num_inputs()), random_vector(random, 5));
    const auto report =
        testing::model_battery(net, random_vector(random, net.num_parameters()), data,
                               random_vector(random, net.num_parameters()), random_vector(random, 5), 1e-6);
    CAPTURE(layers, report);
    CHECK(report.ok());
  }
  const ConvNetwork<double> two({1, 2, 2}, "2-FC", 2);
  Vector<double> out(1);
  CHECK_THROWS_MATCHES(two.predict(Vector<double>::Zero(two.num_parameters()), Matrix<double>::Zero(1, 4), out),
                       DimensionError, message_contains("1 x 2 is needed"));
}

TEST_CASE("the convolutional network is homogeneous of its depth") {
  RandomStream random(4);
  for (const Case& c : cases()) {
    Problem<double> p(c, random);
    const Matrix<double> F = p.forward(p.w);
    // A power of two: no rounding.
    const Matrix<double> scaled = p.forward(2.0 * p.w);
    CAPTURE(c.layers);
    CHECK((scaled - std::pow(2.0, static_cast<double>(p.net.homogeneity())) * F).norm() == 0.0);
  }
  CHECK(ConvNetwork<double>({3, 32, 32}, vgg11_layers(), 10).homogeneity() == 9);
}

TEST_CASE("on single pixels the convolutional network is a dense one on the middle weights") {
  RandomStream random(5);
  const Case c = {{4, 1, 1}, "5-6-FC", 1, 9};
  Problem<double> p(c, random);
  const ReluNetwork<double> dense(4, {5, 6});
  Vector<double> w(dense.num_parameters());
  w << Matrix<double>(p.net.weights(p.w, 1).middleRows(4 * 4, 4)).reshaped(),
      Matrix<double>(p.net.weights(p.w, 2).middleRows(4 * 5, 5)).reshaped(), p.w.tail(6);
  Vector<double> expected(9);
  dense.predict(w, p.X, expected);
  p.forward(p.w);
  // Three layers of at most 20 roundings each.
  CHECK((p.F.col(0) - expected).norm() <= 100 * eps * expected.norm());
  // The gradient of the weights that meet only the border is zero.
  const Vector<double> g = p.pullback(Matrix<double>::Ones(9, 1));
  const auto first = p.net.weights(g, 1);
  CHECK(first.norm() > 0.0);
  CHECK_THAT(first.middleRows(16, 4).norm(), near(first.norm(), 1e-12, 0.0));
}

TEST_CASE("each image's output is independent of the rest of the batch, also in a smaller batch") {
  RandomStream random(6);
  for (const Case& c : cases()) {
    Problem<double> p(c, random);
    auto larger = p.net.make_evaluation(c.batch + 40);
    // Leave other values in the memory first.
    Matrix<double> ignored(c.batch + 40, c.outputs);
    const Matrix<double> others = random_matrix(random, c.batch + 40, p.net.num_inputs());
    larger.forward(p.w, others, ignored);
    Vector<double> whole_gradient = Vector<double>::Zero(p.w.size());
    const Matrix<double> G = random_matrix(random, c.batch, c.outputs);
    p.forward(p.w);
    const Vector<double> expected = p.pullback(G);
    for (Index n = 0; n < c.batch; ++n) {
      Matrix<double> one(1, c.outputs);
      const Matrix<double> image = p.X.row(n);
      larger.forward(p.w, image, one);
      CAPTURE(c.layers, n);
      // The matrix products may sum in another order.
      CHECK((one - p.F.row(n)).norm() <= 1e-13 * (1.0 + p.F.norm()));
      larger.add_pullback(G.row(n), 1.0, whole_gradient);
    }
    CHECK((whole_gradient - expected).norm() <= 1e-12 * expected.norm());
  }
}

TEST_CASE("a batch that is cut into parts has the same results for any number of threads, those of its images") {
  RandomStream random(16);
  // One part, some that are full, and a last one of a single image.
  for (const Index batch : {64, 129, 200}) {
    for (const char* layers : {"3-M-2-FC", "M-5-3-M-FC", "M-M-FC"}) {
      const Case c = {{2, 4, 4}, layers, 3, batch};
      Problem<double> p(c, random);
      const Matrix<double> G = random_matrix(random, batch, c.outputs);
      const Vector<double> v = random_vector(random, p.w.size());
      p.forward(p.w);
      const Vector<double> gradient = p.pullback(G);
      const Matrix<double> tangent = p.jvp(v);
      for (const int threads : {2, 3, 8}) {
        CAPTURE(layers, batch, threads);
        Evaluation<double> shared = p.net.make_evaluation(batch + 7, ParallelOptions{threads});
        for (Evaluation<double> at : {shared, Evaluation<double>(shared)}) {
          check_same(p, at, G, v, gradient, tangent);
        }
      }
      std::vector<Index> all(static_cast<std::size_t>(batch));
      std::iota(all.begin(), all.end(), 0);
      CAPTURE(layers, batch);
      check_one_at_a_time(p, all, G, v, gradient, tangent);
    }
  }
}

TEST_CASE("the parts of a batch share the products of wide layers of few pixels") {
  RandomStream random(18);
  const Index batch = 66;  // 64 and 2
  for (const char* layers : {"128-M-128-128-FC", "128-128-M-FC"}) {
    const Case c = {{1, 2, 2}, layers, 2, batch};
    Problem<double> p(c, random);
    const Vector<double> v = random_vector(random, p.w.size());
    // Of some images in both parts alone, so that few need to be computed again.
    const std::vector<Index> chosen = {0, 63, 65};
    Matrix<double> G = Matrix<double>::Zero(batch, c.outputs);
    for (const Index n : chosen) G.row(n) = random_vector(random, c.outputs).transpose();
    p.forward(p.w);
    const Vector<double> gradient = p.pullback(G);
    const Matrix<double> tangent = p.jvp(v);
    for (const int threads : {2, 8}) {
      CAPTURE(layers, threads);
      Evaluation<double> at = p.net.make_evaluation(batch + threads, ParallelOptions{threads});
      check_same(p, at, G, v, gradient, tangent);
    }
    CAPTURE(layers);
    check_one_at_a_time(p, chosen, G, v, gradient, tangent);
  }
}

TEST_CASE("a smaller batch may be cut into more parts than the largest one") {
  RandomStream random(17);
  const ConvNetwork<float> net({1, 2, 2}, "2-FC", 2);
  const Vector<float> w = random_vector(random, net.num_parameters()).cast<float>();
  // Parts have 64 images, or a quarter of more than 256 rounded up to whole vectors.
  for (const Index most : {129, 200, 290}) {
    auto at = net.make_evaluation(most);
    auto one = net.make_evaluation(1);
    for (Index batch = 60; batch <= most; batch += 3) {
      const Matrix<float> X = random_matrix(random, batch, 4).cast<float>();
      Matrix<float> F(batch, 2);
      at.forward(w, X, F);
      Matrix<float> last(1, 2);
      one.forward(w, X.bottomRows(1), last);
      CAPTURE(most, batch);
      CHECK((F.bottomRows(1) - last).norm() <= 1e-5F * (1.0F + F.norm()));
    }
  }
}

TEST_CASE("a step of descent may be taken in the memory of the parameters") {
  RandomStream random(7);
  for (const Case& c : cases()) {
    Problem<double> p(c, random);
    const Matrix<double> G = random_matrix(random, c.batch, c.outputs);
    p.forward(p.w);
    const Vector<double> gradient = p.pullback(G);
    Vector<double> w = p.w;
    p.forward(w);
    p.at.add_pullback(G, -0.25, w);
    CAPTURE(c.layers);
    CHECK((w - (p.w - 0.25 * gradient)).norm() <= 10 * eps * (p.w.norm() + gradient.norm()));
  }
}

TEST_CASE("of equal maxima the first has the gradient of the pooling") {
  // One image of two rows; the filter is the identity, so that the pooling sees the image.
  const ConvNetwork<double> net({1, 2, 2}, "1-M-FC", 1);
  auto at = net.make_evaluation(4);
  Vector<double> w = Vector<double>::Zero(10);
  w[4] = 1.0;
  w[9] = 1.0;
  Matrix<double> X(4, 4);
  X << 1, 1, 1, 1,  //
      0, 2, 2, 2,   //
      0, 0, 3, 3,   //
      -1, -1, -1, -1;
  Matrix<double> F(4, 1);
  at.forward(w, X, F);
  CHECK(F == (Matrix<double>(4, 1) << 1, 2, 3, 0).finished());
  // The derivative by the filter's weight t is what that neighbour of the first maximum is.
  const auto gradient_of = [&](Index n) {
    Matrix<double> G = Matrix<double>::Zero(4, 1);
    G(n, 0) = 1.0;
    Vector<double> out = Vector<double>::Zero(10);
    at.add_pullback(G, 1.0, out);
    return out;
  };
  const auto filter = [](std::vector<double> values) {
    return Vector<double>(Vector<double>::Map(values.data(), static_cast<Index>(values.size())));
  };
  // Sums and differences of small integers and their halves: exact.
  CHECK(gradient_of(0).head(9) == filter({0, 0, 0, 0, 1, 1, 0, 1, 1}));  // upper left
  CHECK(gradient_of(1).head(9) == filter({0, 0, 0, 0, 2, 0, 2, 2, 0}));  // upper right
  CHECK(gradient_of(2).head(9) == filter({0, 0, 0, 0, 3, 3, 0, 0, 0}));  // lower left
  CHECK(gradient_of(3).norm() == 0.0);                                   // all are at max(., 0)
}

TEST_CASE("NaN in the image or the weights does not disappear in max(., 0) or a pooling") {
  RandomStream random(8);
  const Case c = {{1, 4, 4}, "2-M-2-FC", 1, 3};
  Problem<double> p(c, random);
  p.X(1, 5) = std::numeric_limits<double>::quiet_NaN();
  p.forward(p.w);
  CHECK(std::isnan(p.F(1, 0)));
  CHECK(std::isfinite(p.F(0, 0)));
  p.w[4] = std::numeric_limits<double>::quiet_NaN();
  p.forward(p.w);
  CHECK(std::isnan(p.F(0, 0)));
}

TEST_CASE("the weights of the convolutional network are drawn by the rule of He") {
  const ConvNetwork<float> net({3, 32, 32}, vgg11_layers(), 10);
  CHECK(net.depth() == 9);
  // 9 (3 * 64 + 64 * 128 + 128 * 256 + 256^2 + 256 * 512 + 3 * 512^2) + 512 * 10.
  CHECK(net.num_parameters() == 9 * (192 + 8192 + 32768 + 65536 + 131072 + 3 * 262144) + 5120);
  RandomStream random(9);
  const Vector<float> w = net.initial_parameters(random, Scale<float>::from_value(2.0F));
  for (Index l = 1; l <= net.depth(); ++l) {
    const auto W = net.weights(w, l);
    const double bound = 2.0 * std::sqrt(6.0 / static_cast<double>(W.rows()));
    CAPTURE(l);
    CHECK(static_cast<double>(W.cwiseAbs().maxCoeff()) <= bound * (1.0 + 1e-6));
    const double variance = static_cast<double>(W.squaredNorm()) / static_cast<double>(W.size());
    // The mean of N squares of uniforms has the relative deviation sqrt(0.8 / N); five of them.
    CHECK_THAT(variance, near(bound * bound / 3, 5 * std::sqrt(0.8 / static_cast<double>(W.size())), 0.0));
  }
}

TEST_CASE("layers of a convolutional network are read from their specification") {
  using Kind = ConvLayer::Kind;
  CHECK(parse_conv_layers("64-M-128-FC") ==
        std::vector<ConvLayer>{{Kind::convolution, 64}, {Kind::max_pool, 0}, {Kind::convolution, 128}});
  CHECK(parse_conv_layers("64-M-128-M-256-256-M-512-512-M-512-512-M-FC") == vgg11_layers());
  CHECK(vgg11_layers(8) == parse_conv_layers("8-M-16-M-32-32-M-64-64-M-64-64-M-FC"));
  const auto refused = [](const char* text, const char* message) {
    INFO(text);
    CHECK_THROWS_MATCHES(parse_conv_layers(text), ArgumentError, message_contains(message));
  };
  refused("", "must end with FC");
  refused("64-M", "part 2 of the layers '64-M' is 'M': the layers must end with FC");
  refused("64-M-FC-", "part 3 of the layers '64-M-FC-' is 'FC': FC is the last layer");
  refused("64-FC-FC", "FC is the last layer");
  refused("64--FC", "part 2");
  refused("64-X-FC", "is 'X': neither a number of channels nor M nor FC");
  refused("6.5-FC", "is '6.5'");
  refused("0-FC", "must be positive");
  refused("99999999999999999999-FC", "neither a number");
  CHECK_THROWS_MATCHES(vgg11_layers(0), ArgumentError, message_contains("got 0"));
}

TEST_CASE("the convolutional network refuses bad shapes by name") {
  const auto refused = [](const ImageShape& image, const char* layers, Index outputs, const char* message) {
    INFO(message);
    CHECK_THROWS_MATCHES(ConvNetwork<double>(image, layers, outputs), DimensionError, message_contains(message));
  };
  refused({1, 6, 4}, "2-M-2-M-FC", 2, "layer 4 of the convolutional network pools images of 3 x 2");
  refused({1, 4, 1}, "M-FC", 2, "layer 1 of the convolutional network pools images of 4 x 1");
  refused({0, 4, 4}, "2-FC", 2, "0 x 4 x 4");
  refused({1, 4, 4}, "2-FC", 0, "num_outputs > 0, got 0");
  refused({1, 4, 4}, "FC", 2, "a layer before its last");
  CHECK_THROWS_MATCHES(ConvNetwork<double>({1, 4, 4}, {{ConvLayer::Kind::convolution, 0}}, 2), DimensionError,
                       message_contains("layer 1 of the convolutional network has 0 channels"));

  RandomStream random(10);
  const Case c = {{1, 2, 2}, "2-M-FC", 2, 3};
  Problem<double> p(c, random);
  CHECK_THROWS_MATCHES(p.net.make_evaluation(0), DimensionError, message_contains("got 0"));
  CHECK_THROWS_MATCHES(p.net.make_evaluation(1, ParallelOptions{-1}), ArgumentError, message_contains("got -1"));
  Vector<double> target = p.w;
  CHECK_THROWS_MATCHES(p.at.add_pullback(p.F, 1.0, target), ArgumentError, message_contains("at no point: forward"));
  const Matrix<double> too_wide = Matrix<double>::Zero(3, 5);
  const Matrix<double> too_many = Matrix<double>::Zero(4, 4);
  CHECK_THROWS_MATCHES(p.at.forward(p.w, too_wide, p.F), DimensionError,
                       message_contains("X has 5 columns where the model takes d = 4"));
  CHECK_THROWS_MATCHES(p.at.forward(p.w, too_many, p.F), DimensionError,
                       message_contains("X has 4 rows where the evaluation was made for at most 3"));
  CHECK_THROWS_MATCHES(p.at.forward(p.w.head(5), p.X, p.F), DimensionError, message_contains("w has 5"));
  Matrix<double> wrong(3, 1);
  CHECK_THROWS_MATCHES(p.at.forward(p.w, p.X, wrong), DimensionError, message_contains("F is 3 x 1"));
  p.forward(p.w);
  CHECK_THROWS_MATCHES(p.at.add_pullback(wrong, 1.0, target), DimensionError, message_contains("G is 3 x 1"));
  CHECK_THROWS_MATCHES(p.at.jvp(p.w.head(3), p.F), DimensionError, message_contains("v has 3"));
  CHECK_THROWS_MATCHES(p.net.weights(p.w, 3), ArgumentError, message_contains("1 to 2, got 3"));
  CHECK_THROWS_MATCHES(p.net.initial_parameters(random, Scale<>::from_log(-1e6)), ArgumentError,
                       message_contains("outside the range"));
}
