#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/convolution.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/initialization.hpp"

namespace richflow {

/// The shape of an image. Its d = channels * height * width features are the channels one after the other, each row by
/// row.
struct ImageShape {
  Index channels = 1;
  Index height = 0;
  Index width = 0;

  /// d.
  [[nodiscard]] Index size() const { return channels * height * width; }

  friend bool operator==(const ImageShape&, const ImageShape&) = default;
};

/// A layer of a ConvNetwork before the last.
struct ConvLayer {
  /// What the layer does.
  enum class Kind {
    convolution,  ///< 3x3, border of zeros, then max(., 0)
    max_pool,     ///< the largest of each 2x2 square
  };
  Kind kind = Kind::convolution;
  Index channels = 0;  ///< of the output of a convolution

  friend bool operator==(const ConvLayer&, const ConvLayer&) = default;
};

/// The layers of a specification such as `64-M-128-M-256-256-M-FC`: a number is a convolution with that many output
/// channels, `M` a max-pooling, and `FC`, which stands at the end and nowhere else, the dense layer to the outputs.
/// Throws ArgumentError naming the part that is wrong and its place.
[[nodiscard]] inline std::vector<ConvLayer> parse_conv_layers(std::string_view specification) {
  std::vector<ConvLayer> layers;
  std::string_view rest = specification;
  for (int place = 1;; ++place) {
    const std::size_t end = rest.find('-');
    const std::string_view part = rest.substr(0, end);
    const auto complain = [&](const char* what) {
      throw ArgumentError(
          detail::concat("part ", place, " of the layers '", specification, "' is '", part, "': ", what));
    };
    const bool is_last = end == std::string_view::npos;
    if (is_last) {
      if (part != "FC") complain("the layers must end with FC");
      return layers;
    }
    if (part == "FC") complain("FC is the last layer and occurs once");
    if (part == "M") {
      layers.push_back({ConvLayer::Kind::max_pool, 0});
    } else {
      Index channels = 0;
      const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), channels);
      if (error != std::errc() || stop != part.data() + part.size() || part.empty())
        complain("neither a number of channels nor M nor FC");
      if (channels <= 0) complain("the number of channels must be positive");
      layers.push_back({ConvLayer::Kind::convolution, channels});
    }
    rest.remove_prefix(end + 1);
  }
}

/// The layers of VGG11 (Simonyan & Zisserman 2015) with one dense layer, `64-M-128-M-256-256-M-512-512-M-512-512-M-FC`,
/// for images of 32 x 32; `width` channels in place of 64, and the others in proportion. Throws ArgumentError unless
/// width > 0.
[[nodiscard]] inline std::vector<ConvLayer> vgg11_layers(Index width = 64) {
  require(width > 0, "the width of VGG11 must be positive, got ", width);
  std::vector<ConvLayer> layers;
  for (const Index factor : {1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0})
    layers.push_back(factor == 0 ? ConvLayer{ConvLayer::Kind::max_pool, 0}
                                 : ConvLayer{ConvLayer::Kind::convolution, factor * width});
  return layers;
}

namespace detail {

/// A layer of a ConvNetwork before the last, with its place in w.
template <class S>
struct PlacedConvLayer {
  bool is_pool;
  ImageShape output;
  Convolution3x3<S> convolution;  // unused in a pooling
  Index weights;                  // position in w
};

/// Some images of a batch on their way through the layers of a ConvNetwork before the last: what one thread works on,
/// in scratch for all convolutions. Each layer's weights are given transformed, since all parts of a batch need them.
template <class S>
class ConvBatchPart {
 public:
  using Layers = std::vector<PlacedConvLayer<S>>;

  /// For up to `max_batch` images.
  ConvBatchPart(const Layers& layers, Index num_inputs, Index max_batch);

  /// The images that go through the layers.
  void begin_forward(ConstMatrixRef<S> X);

  /// Through the layers `first ... last - 1`.
  void forward(const Layers& layers, const std::vector<Vector<S>>& transformed, std::size_t first, std::size_t last,
               ConvolutionScratch<S>& scratch);

  /// The outputs of the last of the layers, B x features.
  [[nodiscard]] auto features() { return samples(values_.back(), num_features_).topRows(batch_); }

  /// The gradient by the features, where the way back begins: all samples and those that are padding.
  [[nodiscard]] Eigen::Map<Matrix<S>> begin_backward() {
    at_ = 0;
    return samples(tangents_[at_], num_features_);
  }

  /// Turns the gradient by the output of layer l into that by its input, unless it is the first with weights. A
  /// convolution leaves that by its weights in `weights()`.
  void backward(const Layers& layers, const std::vector<Vector<S>>& transformed, std::size_t l, bool is_first,
                ConvolutionScratch<S>& scratch);

  /// Where the derivatives of the layers along parameters begin.
  void begin_tangent() { at_ = 0; }

  /// The derivatives along `v` of the outputs of the layers `begin ... end - 1`, the input of layer `first` being
  /// fixed. Each part transforms the weights of v for itself, in the memory of gradients.
  void tangent(const Layers& layers, const std::vector<Vector<S>>& transformed, ConstVectorRef<S> v, std::size_t first,
               std::size_t begin, std::size_t end, ConvolutionScratch<S>& scratch);

  /// The images before and after the layer l, with the gradients by them on the way back; `is_first` where that by the
  /// input is not needed.
  [[nodiscard]] ConvolutionImages<S> images(std::size_t l, bool is_first) {
    return {padded_batch(), input(l), values_[l].data(), is_first ? nullptr : tangents_[1 - at_].data(),
            tangents_[at_].data()};
  }

  /// The same with their derivatives along parameters; `is_first` where the input has none.
  [[nodiscard]] ConvolutionImages<S> moved_images(std::size_t l, bool is_first) {
    return {padded_batch(), input(l), values_[l].data(), is_first ? nullptr : tangents_[at_].data(),
            tangents_[1 - at_].data()};
  }

  /// On to the derivatives of the next layer.
  void advance() { at_ = 1 - at_; }

  /// Transformed weights of a gradient or a direction, of one layer.
  [[nodiscard]] S* weights() { return weights_.data(); }

  /// Memory for those of a layer of this size.
  void reserve_weights(Index size) {
    if (weights_.size() < size) weights_.setZero(size);
  }

  /// What `tangent` computed, B x features.
  [[nodiscard]] auto feature_tangents() { return samples(tangents_[at_], num_features_).topRows(batch_); }

 private:
  /// Values of a layer as a matrix of padded samples x features.
  [[nodiscard]] Eigen::Map<Matrix<S>> samples(Vector<S>& values, Index features) const {
    return {values.data(), padded_batch(), features};
  }

  [[nodiscard]] Index padded_batch() const { return Convolution3x3<S>::padded(batch_); }

  [[nodiscard]] const S* input(std::size_t l) const { return l == 0 ? input_.data() : values_[l - 1].data(); }

  /// `body(place, corner, row)` for each pixel of the output: where its `batch` values are in the output, and
  /// those of the square in the input: at corner, corner + batch, row, row + batch.
  template <class Body>
  static void for_squares(const ImageShape& output, Index batch, Body body) {
    const Index line = 2 * output.width * batch;
    for (Index y = 0; y < output.channels * output.height; ++y)
      for (Index x = 0; x < output.width; ++x) {
        const Index corner = 2 * (y * line + x * batch);
        body((y * output.width + x) * batch, corner, corner + line);
      }
  }

  // Loops over plain numbers that compilers turn into vector instructions, since nothing overlaps.

  static void pool(const ImageShape& output, Index batch, const S* in, S* out);

  /// `out` is the result of `pool` on `in`.
  static void pool_back(const ImageShape& output, Index batch, const S* in, const S* out, const S* of_output,
                        S* of_input);

  /// Gives the gradients g of `batch` squares to the first of the values a, b, c, d that is the largest, m.
  static void give_to_first(Index batch, const S* ab, const S* cd, const S* m, const S* g, S* __restrict to_a,
                            S* __restrict to_b, S* __restrict to_c, S* __restrict to_d);

  /// `out` is the result of `pool` on `in`.
  static void pool_tangent(const ImageShape& output, Index batch, const S* in, const S* out, const S* of_input,
                           S* of_output);

  Index num_inputs_;
  Index num_features_;
  Index batch_ = 0;                         // B of the last forward
  Vector<S> input_ = {};                    // X, padded
  std::vector<Vector<S>> values_ = {};      // per layer its output
  std::array<Vector<S>, 2> tangents_ = {};  // derivatives of one layer and the next
  std::size_t at_ = 0;                      // which of them is the last
  Vector<S> weights_ = {};                  // those of a gradient or a direction, transformed
};

}  // namespace detail

template <class S>
class ConvNetworkEvaluation;

/// A convolutional network on images with K outputs per image, such as the VGG11 of Woodworth et al. 2020, Figure 6
/// (d): 3x3 convolutions without bias, each followed by max(., 0), 2x2 max-poolings, and a dense layer without bias to
/// the outputs.
///
/// An image is a row of X, see ImageShape. The parameters are one vector, layer by layer: `(9 C_in) x C_out` for a
/// convolution (see Convolution3x3), `features x K` for the dense layer, matrices column by column. f is homogeneous
/// of degree D in w, D the number of layers with weights. The derivative of max(z, 0) at z = 0 is 0, and that of a
/// max-pooling belongs to the first of several equal maxima, row by row.
///
/// A Model with its own evaluation and HasJvp. Immutable; an evaluation holds the outputs of all layers, twice the
/// largest of them, the transformed weights (16/9 P) and for each quarter of a batch the transformed gradient of a
/// layer, and allocates nothing but in Eigen's matrix products and for threads. A batch is cut into at most four parts
/// of 64 images or more, which share the matrix products of layers of few pixels and many weights; all in the same way
/// for any number of threads, so that results do not depend on it.
/// Cost per image of `forward`: 8 H W C_in C_out operations per convolution (18 without Winograd's algorithm),
/// `add_pullback` twice, `jvp` twice.
template <class S = double>
class ConvNetwork : public detail::ByEvaluation<ConvNetwork<S>, S> {
 public:
  using Scalar = S;

  /// Throws DimensionError for an image or a number of outputs that is not positive, a convolution without channels,
  /// a pooling of an odd height or width, and where no layer is given.
  ConvNetwork(const ImageShape& image, const std::vector<ConvLayer>& layers, Index num_outputs);

  /// From a specification, see parse_conv_layers.
  ConvNetwork(const ImageShape& image, std::string_view layers, Index num_outputs)
      : ConvNetwork(image, parse_conv_layers(layers), num_outputs) {}

  /// The shape of the images.
  [[nodiscard]] const ImageShape& image() const { return image_; }
  /// d.
  [[nodiscard]] Index num_inputs() const { return image_.size(); }
  /// K.
  [[nodiscard]] Index num_outputs() const { return dense_.outputs; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return num_parameters_; }
  /// D, the number of layers with weights.
  [[nodiscard]] Index depth() const { return depth_; }
  /// D: `f(c w, x) = c^D f(w, x)` for c > 0.
  [[nodiscard]] Index homogeneity() const { return depth_; }
  /// The weights of the dense layer are the last ones of w, this many: features * K.
  [[nodiscard]] Index num_dense_weights() const { return dense_.inputs * dense_.outputs; }

  /// The weights of the layer `l` of those with weights, from 1 to depth(), as a view of the parameters. Throws
  /// DimensionError unless w has P entries, ArgumentError for another l.
  [[nodiscard]] Eigen::Map<const Matrix<S>> weights(ConstVectorRef<S> w, Index l) const;

  /// `alpha w0` with w0 drawn by the rule of He, layer by layer. Throws ArgumentError where alpha is outside the range
  /// of the scalar type.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, Scale<S> scale,
                                             HeInitialization rule = HeInitialization::uniform) const;

  /// Memory for batches of up to `max_batch` images, and the threads that share the work on one: at most four, and one
  /// for every 64 images. Throws DimensionError unless max_batch > 0, ArgumentError for a negative number of threads.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const;

  /// Features of the dense layer.
  [[nodiscard]] Index num_last_features() const { return dense_.inputs; }
  /// What the dense layer sees of the images X, N x num_last_features(): the inputs of a LinearClassifier that trains
  /// this layer alone. Allocates an evaluation. Throws DimensionError for wrong shapes.
  [[nodiscard]] Matrix<S> last_features(ConstVectorRef<S> w, ConstMatrixRef<S> X) const;

 private:
  using Layer = detail::PlacedConvLayer<S>;

  struct Dense {
    Index inputs = 0;
    Index outputs = 0;
    Index weights = 0;
  };

  friend class ConvNetworkEvaluation<S>;

  ImageShape image_;
  std::vector<Layer> layers_ = {};
  Dense dense_ = {};
  std::size_t first_convolution_ = 0;
  Index depth_ = 0;
  Index num_parameters_ = 0;
};

/// The evaluation of a ConvNetwork.
template <class S>
class ConvNetworkEvaluation final : public AnyEvaluation<S> {
 public:
  ConvNetworkEvaluation(const ConvNetwork<S>& net, Index max_batch, ParallelOptions parallel);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<ConvNetworkEvaluation>(*this);
  }

  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;
  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override;
  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override;

  /// What the dense layer saw in the last `forward`, into `features`, B x features.
  void copy_last_features(MatrixRef<S> features);

 private:
  using Layer = detail::PlacedConvLayer<S>;

  // Layers of few pixels have matrix products of about this many rows; fewer would be slow.
  static constexpr Index least_images = 64;
  static constexpr Index most_parts = 4;

  /// Images of each part of a batch but the last.
  [[nodiscard]] static Index images_of_part(Index batch) {
    return Convolution3x3<S>::padded(std::max(least_images, (batch + most_parts - 1) / most_parts));
  }

  /// `action(part, first, count)` for the parts of the last batch and the images of each, on all threads.
  template <class Action>
  void for_parts(const Action& action) {
    const Index images = images_of_part(batch_);
    parallel_for(
        num_parts(),
        [&](Index p) {
          action(parts_[static_cast<std::size_t>(p)], p * images, std::min(images, batch_ - p * images));
        },
        parallel_);
  }

  /// Of the last batch.
  [[nodiscard]] Index num_parts() const { return (batch_ + images_of_part(batch_) - 1) / images_of_part(batch_); }

  /// Whether the parts of the last batch go through the layer l together: alone, each would read its many weights and
  /// make a gradient as large.
  [[nodiscard]] bool is_of_all(std::size_t l) const {
    return num_parts() > 1 && !layers()[l].is_pool && layers()[l].convolution.is_of_weights(images_of_part(batch_));
  }

  /// The first layer from l on that they go through together; that after the last where there is none.
  [[nodiscard]] std::size_t next_of_all(std::size_t l) const {
    while (l < layers().size() && !is_of_all(l)) ++l;
    return l;
  }

  /// For layers that the part goes through alone. One thread has one scratch for all, which stays in its cache.
  [[nodiscard]] ConvolutionScratch<S>& scratch_of(const detail::ConvBatchPart<S>& part) {
    return scratch_[std::min(static_cast<std::size_t>(&part - parts_.data()), scratch_.size() - 1)];
  }

  using PartImages = std::array<ConvolutionImages<S>, static_cast<std::size_t>(most_parts)>;

  /// `images(part)` of each.
  template <class Images>
  [[nodiscard]] typename Convolution3x3<S>::Parts gather(PartImages& all, const Images& images) {
    const auto count = static_cast<std::size_t>(num_parts());
    for (std::size_t p = 0; p < count; ++p) all[p] = images(parts_[p]);
    return {all.data(), count};
  }

  /// Transforms the weights of all convolutions.
  void transform(ConstVectorRef<S> w);

  /// `target += scale` times the sum of what the first `parts` parts have as gradient of the convolution l.
  void add_weight_gradients(std::size_t l, std::size_t parts, S scale, VectorRef<S> target);

  [[nodiscard]] Eigen::Map<const Matrix<S>> dense_weights(ConstVectorRef<S> w) const {
    return {w.data() + dense().weights, dense().inputs, dense().outputs};
  }

  [[nodiscard]] const std::vector<Layer>& layers() const { return net_.layers_; }
  [[nodiscard]] const typename ConvNetwork<S>::Dense& dense() const { return net_.dense_; }

  ConvNetwork<S> net_;
  ParallelOptions parallel_;
  Index batch_ = 0;  // B of the last forward
  std::vector<detail::ConvBatchPart<S>> parts_ = {};
  std::vector<ConvolutionScratch<S>> scratch_ = {};
  std::vector<Vector<S>> transformed_ = {};  // per layer its weights, of the last forward
};

template <class S>
ConvNetwork<S>::ConvNetwork(const ImageShape& image, const std::vector<ConvLayer>& layers, Index num_outputs)
    : image_(image) {
  require<DimensionError>(image.channels > 0 && image.height > 0 && image.width > 0,
                          "the images of a convolutional network must not be empty, got ", image.channels, " x ",
                          image.height, " x ", image.width);
  require<DimensionError>(num_outputs > 0, "a convolutional network needs num_outputs > 0, got ", num_outputs);
  require<DimensionError>(!layers.empty(), "a convolutional network needs a layer before its last");
  ImageShape shape = image;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const bool is_pool = layers[l].kind == ConvLayer::Kind::max_pool;
    const Index channels = is_pool ? shape.channels : layers[l].channels;
    require<DimensionError>(channels > 0, "layer ", l + 1, " of the convolutional network has ", channels,
                            " channels; there must be one or more");
    require<DimensionError>(!is_pool || (shape.height % 2 == 0 && shape.width % 2 == 0), "layer ", l + 1,
                            " of the convolutional network pools images of ", shape.height, " x ", shape.width,
                            "; height and width must be even");
    const Convolution3x3<S> convolution(shape.height, shape.width, shape.channels, channels);
    const ImageShape output = is_pool ? ImageShape{channels, shape.height / 2, shape.width / 2}
                                      : ImageShape{channels, shape.height, shape.width};
    layers_.push_back({is_pool, output, convolution, num_parameters_});
    if (!is_pool) {
      if (depth_++ == 0) first_convolution_ = l;
      num_parameters_ += convolution.num_weights();
    }
    shape = output;
  }
  if (depth_ == 0) first_convolution_ = layers.size();
  dense_ = {shape.size(), num_outputs, num_parameters_};
  num_parameters_ += dense_.inputs * dense_.outputs;
  ++depth_;
}

template <class S>
Eigen::Map<const Matrix<S>> ConvNetwork<S>::weights(ConstVectorRef<S> w, Index l) const {
  require_size("w", w.size(), num_parameters_);
  require(l >= 1 && l <= depth_, "the layers with weights count from 1 to ", depth_, ", got ", l);
  Index found = 0;
  for (const Layer& layer : layers_)
    if (!layer.is_pool && ++found == l)
      return {w.data() + layer.weights, 9 * layer.convolution.inputs(), layer.convolution.outputs()};
  return {w.data() + dense_.weights, dense_.inputs, dense_.outputs};
}

template <class S>
Vector<S> ConvNetwork<S>::initial_parameters(RandomStream& random, Scale<S> scale, HeInitialization rule) const {
  const S alpha = detail::representable_alpha(scale);
  Vector<S> w(num_parameters_);
  Index position = 0;
  for (Index l = 1; l <= depth_; ++l) {
    const auto W = weights(w, l);
    detail::draw_weights<S>(random, alpha, rule, 2.0, W.rows(), w.segment(position, W.size()));
    position += W.size();
  }
  return w;
}

template <class S>
Evaluation<S> ConvNetwork<S>::make_evaluation(Index max_batch, ParallelOptions parallel) const {
  return Evaluation<S>(std::make_unique<ConvNetworkEvaluation<S>>(*this, max_batch, parallel));
}

template <class S>
Matrix<S> ConvNetwork<S>::last_features(ConstVectorRef<S> w, ConstMatrixRef<S> X) const {
  constexpr Index at_once = 128;
  require_size("w", w.size(), num_parameters_);
  require<DimensionError>(X.cols() == num_inputs() && X.rows() > 0, "X is ", X.rows(), " x ", X.cols(),
                          " where images of d = ", num_inputs(), " features are needed");
  ConvNetworkEvaluation<S> at(*this, std::min(at_once, X.rows()), ParallelOptions{1});
  Matrix<S> features(X.rows(), num_last_features());
  Matrix<S> ignored(std::min(at_once, X.rows()), num_outputs());
  for (Index first = 0; first < X.rows(); first += at_once) {
    const Index count = std::min(at_once, X.rows() - first);
    at.forward(w, X.middleRows(first, count), ignored.topRows(count));
    at.copy_last_features(features.middleRows(first, count));
  }
  return features;
}

template <class S>
ConvNetworkEvaluation<S>::ConvNetworkEvaluation(const ConvNetwork<S>& net, Index max_batch, ParallelOptions parallel)
    : AnyEvaluation<S>({net.num_parameters(), net.num_outputs(), max_batch, net.num_inputs()}),
      net_(net),
      parallel_{num_threads(parallel)} {
  const Index images = images_of_part(max_batch);
  // A smaller batch may have more parts than the largest, of fewer images.
  constexpr Index fewest = Convolution3x3<S>::padded(least_images);
  for (Index p = 0; p < std::min(most_parts, (max_batch + fewest - 1) / fewest); ++p)
    parts_.emplace_back(layers(), net.num_inputs(), std::min(images, max_batch));
  scratch_.resize(parallel_.threads == 1 ? 1 : parts_.size());
  const Index batch = Convolution3x3<S>::padded(std::min(images, max_batch));
  for (const Layer& layer : layers()) {
    transformed_.emplace_back(Vector<S>::Zero(layer.is_pool ? 0 : layer.convolution.num_transformed()));
    if (layer.is_pool) continue;
    // Smaller batches may go together through a layer where the largest do not.
    const bool is_alone = !layer.convolution.is_of_weights(batch);
    for (auto& part : parts_)
      if (is_alone || &part == &parts_.front()) part.reserve_weights(layer.convolution.num_transformed());
    for (auto& scratch : scratch_)
      if (is_alone || &scratch == &scratch_.front()) layer.convolution.reserve(scratch, batch);
    if (layer.convolution.is_of_weights(std::min(batch, fewest)))
      layer.convolution.reserve(scratch_.front(), batch, static_cast<Index>(parts_.size()));
  }
}

template <class S>
void ConvNetworkEvaluation<S>::transform(ConstVectorRef<S> w) {
  for (std::size_t l = 0; l < layers().size(); ++l) {
    const Layer& layer = layers()[l];
    if (!layer.is_pool) layer.convolution.transform_weights(w.data() + layer.weights, transformed_[l].data());
  }
}

template <class S>
void ConvNetworkEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> points, MatrixRef<S> F) {
  const ConstMatrixRef<S> X = points.matrix();
  batch_ = X.rows();
  transform(w);
  const std::size_t size = layers().size();
  for (std::size_t l = 0;; ++l) {
    const std::size_t end = next_of_all(l);
    if (l == 0 || l < end || end == size)
      for_parts([&](auto& part, Index first, Index count) {
        if (l == 0) part.begin_forward(X.middleRows(first, count));
        part.forward(layers(), transformed_, l, end, scratch_of(part));
        if (end == size) detail::matrix_product<S>(part.features(), dense_weights(w), F.middleRows(first, count));
      });
    if (end == size) return;
    l = end;
    PartImages images;
    layers()[l].convolution.forward_relu(gather(images, [&](auto& part) { return part.images(l, true); }),
                                         transformed_[l].data(), scratch_.front(), parallel_);
  }
}

template <class S>
void ConvNetworkEvaluation<S>::add_pullback(ConstVectorRef<S> w, Samples<S> /*X*/, ConstMatrixRef<S> G, S scale,
                                            VectorRef<S> target) {
  for_parts([&](auto& part, Index first, Index count) {
    auto of_features = part.begin_backward();
    detail::product_with_transposed<S>(G.middleRows(first, count), dense_weights(w), of_features.topRows(count));
    of_features.bottomRows(of_features.rows() - count).setZero();
  });
  Eigen::Map<Matrix<S>> dense_target(target.data() + dense().weights, dense().inputs, dense().outputs);
  Index first = 0;
  for (auto& part : parts_) {
    if (first >= batch_) break;
    const auto features = part.features();
    dense_target.noalias() += scale * features.transpose() * G.middleRows(first, features.rows());
    first += features.rows();
  }
  // Poolings with the convolution below them, so that threads meet as rarely as can be.
  for (std::size_t above = layers().size(); above > net_.first_convolution_;) {
    std::size_t l = above - 1;
    while (layers()[l].is_pool) --l;
    const bool is_first = l == net_.first_convolution_;
    const bool is_together = is_of_all(l);
    const std::size_t end = is_together ? l + 1 : l;
    if (end < above)
      for_parts([&](auto& part, Index, Index) {
        for (std::size_t k = above; k-- > end;)
          part.backward(layers(), transformed_, k, is_first && k == l, scratch_of(part));
      });
    if (is_together) {
      PartImages images;
      layers()[l].convolution.backward_relu(gather(images, [&](auto& part) { return part.images(l, is_first); }),
                                            transformed_[l].data(), parts_.front().weights(), scratch_.front(),
                                            parallel_);
      for (auto& part : parts_) part.advance();
    }
    add_weight_gradients(l, is_together ? 1 : static_cast<std::size_t>(num_parts()), scale, target);
    above = l;
  }
}

template <class S>
void ConvNetworkEvaluation<S>::add_weight_gradients(std::size_t l, std::size_t parts, S scale, VectorRef<S> target) {
  const Convolution3x3<S>& convolution = layers()[l].convolution;
  const Index channels_at_once = std::max<Index>(1, (convolution.outputs() + most_parts - 1) / most_parts);
  const auto gradient = [this](std::size_t p) { return parts_[p].weights(); };
  S* const sum = gradient(0);
  const auto add_channels = [&](Index begin) {
    const Index end = std::min(convolution.outputs(), begin + channels_at_once);
    const Index count = (end - begin) * convolution.inputs();
    for (std::size_t p = 1; p < parts; ++p)
      for (Index k = 0; k < 16; ++k) {
        const Index place = (k * convolution.outputs() + begin) * convolution.inputs();
        Vector<S>::Map(sum + place, count) += Vector<S>::Map(gradient(p) + place, count);
      }
    convolution.add_weight_gradient(sum, begin, end, scale, target.data() + layers()[l].weights);
  };
  parallel_for((convolution.outputs() + channels_at_once - 1) / channels_at_once,
               [&](Index i) { add_channels(i * channels_at_once); }, num_parts() > 1 ? parallel_ : ParallelOptions{1});
}

template <class S>
void ConvNetworkEvaluation<S>::jvp(ConstVectorRef<S> w, Samples<S> /*X*/, ConstVectorRef<S> v, MatrixRef<S> dF) {
  const std::size_t size = layers().size();
  const std::size_t first_convolution = net_.first_convolution_;
  for (std::size_t l = first_convolution;; ++l) {
    const std::size_t end = next_of_all(l);
    if (l == first_convolution || l < end || end == size)
      for_parts([&](auto& part, Index first, Index count) {
        if (l == first_convolution) part.begin_tangent();
        part.tangent(layers(), transformed_, v, first_convolution, l, end, scratch_of(part));
        if (end < size) return;
        auto of_part = dF.middleRows(first, count);
        detail::matrix_product<S>(part.features(), dense_weights(v), of_part);
        if (first_convolution < size) detail::add_matrix_product<S>(part.feature_tangents(), dense_weights(w), of_part);
      });
    if (end == size) return;
    l = end;
    const Layer& layer = layers()[l];
    S* const direction = parts_.front().weights();
    layer.convolution.transform_weights(v.data() + layer.weights, direction);
    PartImages images;
    layer.convolution.forward_tangent(
        gather(images, [&](auto& part) { return part.moved_images(l, l == first_convolution); }),
        transformed_[l].data(), direction, scratch_.front(), parallel_);
    for (auto& part : parts_) part.advance();
  }
}

template <class S>
void ConvNetworkEvaluation<S>::copy_last_features(MatrixRef<S> features) {
  for_parts([&](auto& part, Index first, Index count) { features.middleRows(first, count) = part.features(); });
}

namespace detail {

template <class S>
ConvBatchPart<S>::ConvBatchPart(const Layers& layers, Index num_inputs, Index max_batch)
    : num_inputs_(num_inputs), num_features_(layers.back().output.size()) {
  const Index batch = Convolution3x3<S>::padded(max_batch);
  input_.setZero(batch * num_inputs);
  Index largest = num_inputs;
  for (const auto& layer : layers) {
    values_.emplace_back(Vector<S>::Zero(batch * layer.output.size()));
    largest = std::max(largest, layer.output.size());
  }
  for (Vector<S>& tangent : tangents_) tangent.setZero(batch * largest);
}

template <class S>
void ConvBatchPart<S>::begin_forward(ConstMatrixRef<S> X) {
  batch_ = X.rows();
  auto padded_input = samples(input_, num_inputs_);
  padded_input.topRows(batch_) = X;
  padded_input.bottomRows(padded_input.rows() - batch_).setZero();
}

template <class S>
void ConvBatchPart<S>::forward(const Layers& layers, const std::vector<Vector<S>>& transformed, std::size_t first,
                               std::size_t last, ConvolutionScratch<S>& scratch) {
  for (std::size_t l = first; l < last; ++l) {
    const auto& layer = layers[l];
    if (layer.is_pool) {
      pool(layer.output, padded_batch(), input(l), values_[l].data());
    } else {
      const auto part = images(l, true);
      layer.convolution.forward_relu({&part, 1}, transformed[l].data(), scratch, ParallelOptions{1});
    }
  }
}

template <class S>
void ConvBatchPart<S>::backward(const Layers& layers, const std::vector<Vector<S>>& transformed, std::size_t l,
                                bool is_first, ConvolutionScratch<S>& scratch) {
  const auto& layer = layers[l];
  const auto part = images(l, is_first);
  if (layer.is_pool)
    pool_back(layer.output, part.batch, part.A, part.Z, part.dZ, part.dA);
  else
    layer.convolution.backward_relu({&part, 1}, transformed[l].data(), weights(), scratch, ParallelOptions{1});
  advance();
}

template <class S>
void ConvBatchPart<S>::tangent(const Layers& layers, const std::vector<Vector<S>>& transformed, ConstVectorRef<S> v,
                               std::size_t first, std::size_t begin, std::size_t end, ConvolutionScratch<S>& scratch) {
  for (std::size_t l = begin; l < end; ++l) {
    const auto& layer = layers[l];
    const auto part = moved_images(l, l == first);
    if (layer.is_pool) {
      pool_tangent(layer.output, part.batch, part.A, part.Z, part.dA, part.dZ);
    } else {
      layer.convolution.transform_weights(v.data() + layer.weights, weights());
      layer.convolution.forward_tangent({&part, 1}, transformed[l].data(), weights(), scratch, ParallelOptions{1});
    }
    advance();
  }
}

template <class S>
void ConvBatchPart<S>::pool(const ImageShape& output, Index batch, const S* in, S* out) {
  const auto larger = [](S v, S u) { return v < u || u != u ? u : v; };  // NaN where one of them is
  for_squares(output, batch, [&](Index place, Index corner, Index row) {
    const S* const a = in + corner;
    const S* const b = a + batch;
    const S* const c = in + row;
    const S* const d = c + batch;
    S* __restrict const to = out + place;
    for (Index n = 0; n < batch; ++n) to[n] = larger(larger(a[n], b[n]), larger(c[n], d[n]));
  });
}

template <class S>
void ConvBatchPart<S>::pool_back(const ImageShape& output, Index batch, const S* in, const S* out, const S* of_output,
                                 S* of_input) {
  for_squares(output, batch, [&](Index place, Index corner, Index row) {
    give_to_first(batch, in + corner, in + row, out + place, of_output + place, of_input + corner,
                  of_input + corner + batch, of_input + row, of_input + row + batch);
  });
}

template <class S>
void ConvBatchPart<S>::give_to_first(Index batch, const S* ab, const S* cd, const S* m, const S* g, S* __restrict to_a,
                                     S* __restrict to_b, S* __restrict to_c, S* __restrict to_d) {
  for (Index n = 0; n < batch; ++n) {
    const S all = g[n];
    const S after_a = ab[n] == m[n] ? S(0) : all;
    const S after_b = ab[batch + n] == m[n] ? S(0) : after_a;
    const S after_c = cd[n] == m[n] ? S(0) : after_b;
    to_a[n] = all - after_a;
    to_b[n] = after_a - after_b;
    to_c[n] = after_b - after_c;
    to_d[n] = after_c;
  }
}

template <class S>
void ConvBatchPart<S>::pool_tangent(const ImageShape& output, Index batch, const S* in, const S* out, const S* of_input,
                                    S* of_output) {
  for_squares(output, batch, [&](Index place, Index corner, Index row) {
    S* __restrict const to = of_output + place;
    for (Index n = 0; n < batch; ++n) {
      const S largest = out[place + n];
      S moved = of_input[row + batch + n];
      moved = in[row + n] == largest ? of_input[row + n] : moved;
      moved = in[corner + batch + n] == largest ? of_input[corner + batch + n] : moved;
      to[n] = in[corner + n] == largest ? of_input[corner + n] : moved;
    }
  });
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_CONV_NETWORK(prefix, S) \
  prefix template class detail::ConvBatchPart<S>;    \
  prefix template class ConvNetwork<S>;              \
  prefix template class ConvNetworkEvaluation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CONV_NETWORK)
