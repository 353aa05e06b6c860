#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/sparse_factor.hpp"
#include "richflow/models/activation.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/initialization.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

namespace detail {

/// A layer `Z = m A W + 1 b^T` of a FullyConnected network.
template <class S>
struct DenseLayer {
  Index inputs = 0;
  Index outputs = 0;
  Index weights = 0;    // where W begins in w
  Index biases = 0;     // where b begins, if there are any
  S multiplier = S(1);  // m

  [[nodiscard]] Index num_weights() const { return inputs * outputs; }
  [[nodiscard]] Eigen::Map<const Matrix<S>> matrix(ConstVectorRef<S> w) const {
    return {w.data() + weights, inputs, outputs};
  }
  [[nodiscard]] Eigen::Map<Matrix<S>> matrix(VectorRef<S> w) const { return {w.data() + weights, inputs, outputs}; }
};

}  // namespace detail

/// What a FullyConnected network has besides its widths.
template <class S, class A = activation::Relu>
struct FullyConnectedOptions {
  bool has_biases = false;
  Index num_outputs = 1;
  Parametrization parametrization = Parametrization::standard;
  A activation = A();
};

/// The fully connected network of depth D >= 2 with K outputs, one by default (Woodworth et al. 2020, section 6, Figure
/// 6; docs/theory.md, section 10.1),
///
///     A_0 = X,   Z_l = m_l A_{l-1} W_l (+ 1 b_l^T),   A_l = sigma(Z_l) for l < D,   f(w, X) = Z_D
///
/// with an activation sigma (`activation::Relu`, `Linear`, `LeakyRelu`, `Tanh`, `Softplus` or a user's own) and the
/// factors m_l of its Parametrization, 1 by default. `W_l` is n_{l-1} x n_l (n_0 = d, n_D = K): column j holds the
/// incoming weights of neuron j. The parameters are one vector, `w = (W_1, [b_1], W_2, [b_2], ...)`, matrices column by
/// column. `ReluNetwork<S>` and `DeepLinearNetwork<S>` are short names.
///
/// With a homogeneous activation and without biases f is homogeneous of degree D in w, so that the scale of the
/// predictor is alpha^D, and in x of degree 1. With a homogeneous activation the flow conserves, for every hidden
/// neuron, the squared norm of its incoming parameters minus that of its outgoing ones, and a linear network the whole
/// matrix `W_l^T W_l - W_{l+1} W_{l+1}^T` (`invariant`). The units (HasUnits) are the hidden neurons, each with its
/// incoming and outgoing parameters.
///
/// A Model with its own evaluation, HasJvp, HasUnits, and HasInvariant where the activation is homogeneous. Immutable.
///
/// Batches are worked on in blocks of up to 512 neurons, layer by layer. Threads share the blocks of a layer, which are
/// the same for any number of threads: a layer of up to 512 neurons keeps one thread busy, one of 5000 at most ten.
/// (Kernels and `linearize` use one.) Threads are started anew for every pass through a layer, some 30 microseconds
/// each. Where Eigen's products use threads of their own (with OpenMP or a BLAS), these should be set to one. In a step
/// of descent the weights of a block of the first layer are read once for all that is done with them, if they fit into
/// the cache. Where a batch of at least 64 samples has three zeros for each nonzero number, such as images on a black
/// background, a first layer of at least 256 neurons leaves the zeros out: for the digits of MNIST a step takes less
/// than half the time. (A weight or derivative that is not finite does not show then where it meets zeros alone.)
///
/// An evaluation holds two matrices B x n_l per hidden layer, and allocates nothing for layers of up to about a hundred
/// neurons (beyond, Eigen's matrix product does). With B_l the derivatives of an output by Z_l, everything at one point
/// follows from A and B: `J^T r = A_{l-1}^T diag(r) B_l` per layer, `J v = sum_l rowsum((A_{l-1} V_l) * B_l)` and
/// `K = sum_l (A_{l-1} A_{l-1}^T) * (B_l B_l^T)`; `linearize` keeps them. Without it a tangent kernel is made layer by
/// layer, in the memory of its result and the activations, and for K > 1 of one layer's B, NK x n_l. Cost in
/// operations: 2 N P for `forward`, up to 4 N P for `vjp` and `jvp` (2 N P once linearized), 2 N^2 (1 + K^2) per neuron
/// for the kernel.
template <class S = double, class A = activation::Relu>
class FullyConnected : public detail::ByEvaluation<FullyConnected<S, A>, S> {
  static constexpr bool is_activation = Activation<A, S>;
  static_assert(is_activation,
                "richflow: the activation must have `S value(S z) const` and its derivative, `S slope_from_value(S a) "
                "const` as a function of a = value(z) or `S slope(S z) const`, for the number type S of the network");

 public:
  using Scalar = S;
  /// `invariant` depends on the activation.
  static constexpr bool has_conditional_members = true;
  /// See HasSmoothUnits.
  static constexpr bool is_smooth = detail::is_smooth<A>;

  /// A net on d inputs with the given widths of its hidden layers, `{30, 30}` for depth 3. Throws DimensionError
  /// unless there is a hidden layer (depth >= 2) and d, all widths and the number of outputs are positive.
  FullyConnected(Index d, const std::vector<Index>& hidden_widths, const FullyConnectedOptions<S, A>& options);

  /// The same with default options but for biases and outputs.
  FullyConnected(Index d, const std::vector<Index>& hidden_widths, bool has_biases = false, Index num_outputs = 1)
      : FullyConnected(d, hidden_widths, {.has_biases = has_biases, .num_outputs = num_outputs}) {}

  /// A net of `depth` >= 2 layers whose hidden layers all have the same width. Throws as the constructor.
  [[nodiscard]] static FullyConnected uniform_width(Index d, Index depth, Index width, bool has_biases = false);

  /// d.
  [[nodiscard]] Index num_inputs() const { return layers_.front().inputs; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return layers_.back().outputs; }
  /// D, the number of weight matrices.
  [[nodiscard]] Index depth() const { return static_cast<Index>(layers_.size()); }
  /// Whether every layer has biases.
  [[nodiscard]] bool has_biases() const { return has_biases_; }
  /// sigma.
  [[nodiscard]] const A& activation() const { return activation_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return num_parameters_; }
  /// D: `f(c w, x) = c^D f(w, x)` for c > 0. Throws ArgumentError for a net with biases or an activation that is not
  /// homogeneous.
  [[nodiscard]] Index homogeneity() const;

  /// `W_l`, l from 1 to depth(), as a view of the parameters. Throws DimensionError unless w has P entries,
  /// ArgumentError for another l.
  [[nodiscard]] Eigen::Map<const Matrix<S>> weights(ConstVectorRef<S> w, Index l) const;

  /// `alpha w0` with w0 drawn layer by layer, of the variance that the parametrization asks for; biases start at zero.
  /// Throws ArgumentError where alpha is outside the range of the scalar type.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, Scale<S> scale,
                                             HeInitialization law = HeInitialization::uniform) const;

  /// Memory for batches of up to `max_batch` samples, and the threads that share the work on one.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const;

  /// Hidden neurons.
  [[nodiscard]] Index num_units() const { return num_units_; }

  /// For every hidden neuron, layer by layer, the squared norm of the entries of v at its incoming parameters (bias
  /// included) and outgoing weights.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const { neuron_sums(v, S(1), out); }

  /// For every hidden neuron, layer by layer, the squared norm of its incoming parameters (bias included) minus that of
  /// its outgoing weights; for a linear network all entries of `W_l^T W_l (+ b_l b_l^T) - W_{l+1} W_{l+1}^T`, l = 1 ...
  /// D - 1. Constant along every gradient flow, and drifting by O(step) under descent.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const requires(detail::is_homogeneous<A>);

  /// The layers, from the first on.
  [[nodiscard]] const std::vector<detail::DenseLayer<S>>& layers() const { return layers_; }

 private:
  /// Per hidden neuron: squares of v over its incoming parameters plus `sign` times those over its outgoing ones.
  void neuron_sums(ConstVectorRef<S> v, S sign, VectorRef<S> out) const;

  std::vector<detail::DenseLayer<S>> layers_ = {};
  Index num_parameters_ = 0;
  Index num_units_ = 0;
  bool has_biases_ = false;
  Parametrization parametrization_ = Parametrization::standard;
  A activation_;
};

/// The fully connected ReLU network.
template <class S = double>
using ReluNetwork = FullyConnected<S, activation::Relu>;

/// The deep linear network.
template <class S = double>
using DeepLinearNetwork = FullyConnected<S, activation::Linear>;

namespace detail {

/// The evaluation of a FullyConnected network.
template <class S, class A>
class FullyConnectedEvaluation final : public AnyEvaluation<S> {
 public:
  FullyConnectedEvaluation(const FullyConnected<S, A>& net, Index max_batch, ParallelOptions parallel);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<FullyConnectedEvaluation>(*this);
  }

  void set_samples(Samples<S> X) override { samples_.assign(X.matrix(), layers().front().outputs); }
  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;
  void linearize(ConstVectorRef<S> w, Samples<S> X) override;
  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override;
  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override;
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override;
  void descend_and_forward(VectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, Samples<S> X_next,
                           MatrixRef<S> F_next) override;
  [[nodiscard]] bool is_descent_fused() const override { return true; }
  [[nodiscard]] Index num_units() const override { return net_.num_units(); }
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const override { net_.unit_square_norms(v, out); }

 private:
  static constexpr bool stores_slopes = !HasSlopeFromValue<A, S>;
  // Two threads on 784 x 5000 weights take 4 % longer with 256, 15 % with 1024.
  static constexpr Index block_neurons = 512;
  static constexpr Index block_rows = 48;
  static constexpr Index tile_rows = 128;
  static constexpr Index tile_cols = 64;

  /// Neurons of a hidden layer that are worked on together.
  struct Block {
    std::size_t index = 0;
    Index first = 0;
    Index count = 0;
  };

  [[nodiscard]] const std::vector<DenseLayer<S>>& layers() const { return net_.layers(); }
  /// Hidden layers; they count from 0, and layer `hidden()` is that of the outputs.
  [[nodiscard]] std::size_t hidden() const { return layers().size() - 1; }
  [[nodiscard]] Index outputs() const { return this->shape().num_outputs; }
  [[nodiscard]] Index widest() const;
  [[nodiscard]] static Index num_blocks(Index neurons) { return (neurons + block_neurons - 1) / block_neurons; }

  /// `action(block)` for blocks of about equal size that cover the neurons of a hidden layer, on all threads.
  template <class Action>
  void for_blocks(std::size_t l, const Action& action) const;

  [[nodiscard]] auto activations(std::size_t l, const Block& block) {
    return activations_[l].block(0, block.first, batch_, block.count);
  }
  [[nodiscard]] auto sensitivities(std::size_t l, const Block& block) {
    return sensitivities_[l].block(0, block.first, batch_, block.count);
  }

  /// `out = X V` for the columns of V that belong to a block of the first layer.
  void multiply_samples(const SparseFactor<S>& sparse, const Block& block, ConstMatrixRef<S> X, ConstMatrixRef<S> V,
                        MatrixRef<S> out);

  /// Activations of a block of the first layer.
  void forward_first_block(ConstVectorRef<S> w, const Block& block, ConstMatrixRef<S> X, const SparseFactor<S>& sparse);

  /// Those of a block of hidden layer l > 0.
  void forward_block(ConstVectorRef<S> w, std::size_t l, const Block& block);

  /// Activations of a block of hidden layer l of which `values` are the products of inputs and weights, and what those
  /// of the last hidden layer contribute to the outputs.
  void activate(ConstVectorRef<S> w, std::size_t l, const Block& block, MatrixRef<S> values);

  /// The rest of `forward` when the first layer is done.
  void forward_above_first(ConstVectorRef<S> w, MatrixRef<S> F);

  /// The outputs, with the biases of the last layer from `w`.
  void sum_partial_outputs(ConstVectorRef<S> w, MatrixRef<S> F) const;

  /// `action(at, other, count)` for pieces of two rows x cols matrices whose columns begin `stride` and `other_stride`
  /// values apart: their columns, or all at once.
  template <class Action>
  static void for_pieces(Index rows, Index cols, Index stride, Index other_stride, const Action& action);

  /// `B *= sigma'`, at the samples `first ...` and the neurons `first_neuron ...` of hidden layer l.
  void times_slopes(std::size_t l, Index first, Index first_neuron, MatrixRef<S> B) const;

  /// One step of every backward pass: `B = (above W_{l+1}^T) * sigma'_l` for some samples and neurons. `above` and what
  /// follows from it are the derivatives by `Z / m`, those by Z times the layer's multiplier; B itself is by Z.
  void step_back(ConstVectorRef<S> w, std::size_t l, Index first, Index first_neuron, ConstMatrixRef<S> above,
                 MatrixRef<S> B) const;

  /// The derivatives by Z_l, each sample's and output's times its entry of `scale G`, from the kept ones.
  void combine_kept(std::size_t l, const Block& block, ConstMatrixRef<S> G, S scale, MatrixRef<S> B) const;

  /// From the sensitivities above a block of hidden layer l: its own, and the gradients of its biases and of the
  /// weights that go out of it. Those that go out of other blocks are not read, so that `target` may be the memory of
  /// w.
  void pull_back_block(ConstVectorRef<S> w, std::size_t l, const Block& block, ConstMatrixRef<S> G, S scale,
                       VectorRef<S> target);

  /// The gradient of the weights of a block of the first layer.
  void add_first_gradient(const Block& block, ConstMatrixRef<S> X, VectorRef<S> target);

  /// The part of `add_pullback` before the first hidden layer is reached.
  void pull_back_above_first(ConstVectorRef<S> w, ConstMatrixRef<S> G, S scale, VectorRef<S> target);

  void jvp_forward(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF);
  void jvp_from_kept(ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF);

  /// `unit(n + k N, k) = m_D`: what the backward pass of every output of every sample begins with.
  void fill_unit_seed();

  /// `B` = those of all outputs of all samples, NK x n_l, from those of the layer above; in the place of `above` or of
  /// the activations, if it must be.
  void write_sensitivities(ConstVectorRef<S> w, std::size_t l, ConstMatrixRef<S> above, MatrixRef<S> B);

  /// The activations, where a kernel has used their memory.
  void restore(ConstVectorRef<S> w, ConstMatrixRef<S> X);

  /// `K += (A_{l-1} A_{l-1}^T (+ 1 / m_l^2)) * (B_l B_l^T)` for hidden layer l.
  void add_kernel_of_layer(std::size_t l, ConstMatrixRef<S> X, ConstMatrixRef<S> B, KernelForm form, MatrixRef<S> K);

  /// `K = A A^T (+ 1)` for the layer of the outputs.
  void begin_kernel(KernelForm form, MatrixRef<S> K);

  /// `action(i, rows, j, cols)` for tiles that cover the lower triangle of an n x n matrix: squares at the diagonal,
  /// where i = j, and below them tiles of up to twice that height. (Eigen's rankUpdate would pack, that is copy, all of
  /// its factor twice.)
  template <class Action>
  static void for_lower_tiles(Index n, const Action& action);

  FullyConnected<S, A> net_;
  ParallelOptions parallel_;
  Index batch_ = 0;                              // samples of the last forward
  bool is_linearized_ = false;                   // kept_ is of this point
  bool is_consumed_ = false;                     // a kernel has used the memory of the activations
  std::vector<Matrix<S>> activations_ = {};      // A_l of the hidden layers, max_batch x n_l
  std::vector<Matrix<S>> slopes_ = {};           // sigma'(Z_l), where it is no function of A_l
  std::vector<Matrix<S>> sensitivities_ = {};    // derivatives by Z_l / m_l on the way back; of A_l along v
  std::vector<Matrix<S>> partial_outputs_ = {};  // max_batch x K: what each block of the last hidden layer contributes
  Matrix<S> seed_ = {};                          // max_batch x K
  SparseFactor<S> samples_ = {};                 // where most of their entries are zero
  SparseFactor<S> next_samples_ = {};
  std::vector<typename SparseFactor<S>::Panels> panels_ = {};  // of each block of the first layer
  // Made where they are used first:
  std::vector<Matrix<S>> kept_ = {};  // derivatives of every output of every sample by Z_l / m_l, NK x n_l
  Matrix<S> unit_ = {};               // NK x K
  Matrix<S> running_ = {};            // those of one layer, for a kernel of several outputs that keeps none
  Matrix<S> some_rows_ = {};
  Matrix<S> ignored_ = {};
  Matrix<S> moved_ = {};
  Matrix<S> inputs_tile_ = {};
  Matrix<S> tile_ = {};
};

}  // namespace detail

template <class S, class A>
FullyConnected<S, A>::FullyConnected(Index d, const std::vector<Index>& hidden_widths,
                                     const FullyConnectedOptions<S, A>& options)
    : has_biases_(options.has_biases), parametrization_(options.parametrization), activation_(options.activation) {
  using std::sqrt;
  require<DimensionError>(options.num_outputs > 0, "the network needs num_outputs > 0, got ", options.num_outputs);
  require<DimensionError>(d > 0, "the network needs d > 0 features, got ", d);
  require<DimensionError>(!hidden_widths.empty(),
                          "the network needs a hidden layer (depth >= 2), got depth 1: no hidden widths");
  Index inputs = d;
  for (std::size_t l = 0; l <= hidden_widths.size(); ++l) {
    const bool is_last = l == hidden_widths.size();
    const Index outputs = is_last ? options.num_outputs : hidden_widths[l];
    require<DimensionError>(outputs > 0, "hidden layer ", l + 1, " of the network has width ", outputs,
                            "; widths must be positive");
    S multiplier(1);
    if (parametrization_ == Parametrization::ntk)
      multiplier = sqrt(static_cast<S>(detail::gain(activation_)) / static_cast<S>(inputs));
    if (parametrization_ == Parametrization::maximal_update && l == 0) multiplier = sqrt(static_cast<S>(outputs));
    if (parametrization_ == Parametrization::maximal_update && is_last)
      multiplier = S(1) / sqrt(static_cast<S>(inputs));
    layers_.push_back({inputs, outputs, num_parameters_, num_parameters_ + inputs * outputs, multiplier});
    num_parameters_ += (inputs + (has_biases_ ? 1 : 0)) * outputs;
    if (!is_last) num_units_ += outputs;
    inputs = outputs;
  }
}

template <class S, class A>
FullyConnected<S, A> FullyConnected<S, A>::uniform_width(Index d, Index depth, Index width, bool has_biases) {
  require<DimensionError>(depth >= 2, "the network needs depth >= 2, got ", depth);
  return FullyConnected(d, std::vector<Index>(static_cast<std::size_t>(depth - 1), width), has_biases);
}

template <class S, class A>
Index FullyConnected<S, A>::homogeneity() const {
  require(!has_biases_, "a network with biases is not homogeneous");
  require(detail::is_homogeneous<A>, "a network with this activation is not homogeneous");
  return depth();
}

template <class S, class A>
Eigen::Map<const Matrix<S>> FullyConnected<S, A>::weights(ConstVectorRef<S> w, Index l) const {
  require_size("w", w.size(), num_parameters_);
  require(l >= 1 && l <= depth(), "the layers count from 1 to ", depth(), ", got ", l);
  return layers_[static_cast<std::size_t>(l - 1)].matrix(w);
}

template <class S, class A>
Vector<S> FullyConnected<S, A>::initial_parameters(RandomStream& random, Scale<S> scale, HeInitialization law) const {
  const S alpha = detail::representable_alpha(scale);
  Vector<S> w = Vector<S>::Zero(num_parameters_);
  for (const auto& layer : layers_) {
    const bool is_first_mup = parametrization_ == Parametrization::maximal_update && &layer == &layers_.front();
    const bool is_ntk = parametrization_ == Parametrization::ntk;
    const Index count = is_ntk ? 1 : layer.inputs * (is_first_mup ? layer.outputs : 1);
    detail::draw_weights<S>(random, alpha, law, is_ntk ? 1.0 : detail::gain(activation_), count,
                            w.segment(layer.weights, layer.num_weights()));
  }
  return w;
}

template <class S, class A>
Evaluation<S> FullyConnected<S, A>::make_evaluation(Index max_batch, ParallelOptions parallel) const {
  return Evaluation<S>(std::make_unique<detail::FullyConnectedEvaluation<S, A>>(*this, max_batch, parallel));
}

template <class S, class A>
Vector<S> FullyConnected<S, A>::invariant(ConstVectorRef<S> w) const requires(detail::is_homogeneous<A>) {
  if constexpr (!detail::is_linear<A>) {
    Vector<S> out(num_units_);
    neuron_sums(w, S(-1), out);
    return out;
  } else {
    require_size("w", w.size(), num_parameters_);
    Index size = 0;
    for (std::size_t l = 0; l + 1 < layers_.size(); ++l) size += layers_[l].outputs * layers_[l].outputs;
    Vector<S> out(size);
    Index first = 0;
    for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
      const Index n = layers_[l].outputs;
      Eigen::Map<Matrix<S>> balance(out.data() + first, n, n);
      const auto above = layers_[l + 1].matrix(w);
      Matrix<S> outgoing(n, n);
      detail::product_with_transposed<S>(above, above, outgoing);
      detail::product_of_transposed<S>(layers_[l].matrix(w), layers_[l].matrix(w), balance);
      balance -= outgoing;
      if (has_biases_) {
        const auto b = w.segment(layers_[l].biases, n);
        for (Index j = 0; j < n; ++j) balance.col(j) += b[j] * b;
      }
      first += n * n;
    }
    return out;
  }
}

template <class S, class A>
void FullyConnected<S, A>::neuron_sums(ConstVectorRef<S> v, S sign, VectorRef<S> out) const {
  require_size("the parameter vector", v.size(), num_parameters_);
  require_size("out", out.size(), num_units_);
  std::fill_n(out.data(), num_units_, S(0));
  // Every weight is read once, for both of its neurons. From the last layer on, so that what goes out of a neuron is
  // there when what comes in is added.
  Index first = num_units_;
  for (std::size_t l = layers_.size(); l-- > 0;) {
    const detail::DenseLayer<S>& layer = layers_[l];
    const bool is_hidden = l + 1 < layers_.size();
    if (is_hidden) first -= layer.outputs;
    S* const incoming = is_hidden ? out.data() + first : nullptr;
    S* const outgoing = l > 0 ? out.data() + first - layer.inputs : nullptr;
    detail::add_square_norms(v.data() + layer.weights, layer.inputs, layer.outputs, outgoing, incoming);
    for (Index j = 0; is_hidden && has_biases_ && j < layer.outputs; ++j)
      incoming[j] += v[layer.biases + j] * v[layer.biases + j];
    for (Index j = 0; l > 0 && j < layer.inputs; ++j) outgoing[j] *= sign;
  }
}

namespace detail {

template <class S, class A>
FullyConnectedEvaluation<S, A>::FullyConnectedEvaluation(const FullyConnected<S, A>& net, Index max_batch,
                                                         ParallelOptions parallel)
    : AnyEvaluation<S>({net.num_parameters(), net.num_outputs(), max_batch, net.num_inputs()}),
      net_(net),
      parallel_{num_threads(parallel)} {
  for (std::size_t l = 0; l < hidden(); ++l) {
    const Index width = layers()[l].outputs;
    // Not filled: what is never used takes no memory from the system.
    activations_.emplace_back(max_batch, width);
    sensitivities_.emplace_back(max_batch, width);
    if (stores_slopes) slopes_.emplace_back(max_batch, width);
  }
  const Index blocks = num_blocks(layers()[hidden() - 1].outputs);
  partial_outputs_.assign(static_cast<std::size_t>(blocks), Matrix<S>(max_batch, outputs()));
  seed_.resize(max_batch, outputs());
  panels_.resize(static_cast<std::size_t>(num_blocks(layers().front().outputs)));
}

template <class S, class A>
Index FullyConnectedEvaluation<S, A>::widest() const {
  Index width = 1;
  for (std::size_t l = 0; l < hidden(); ++l) width = std::max(width, layers()[l].outputs);
  return width;
}

template <class S, class A>
template <class Action>
void FullyConnectedEvaluation<S, A>::for_blocks(std::size_t l, const Action& action) const {
  const Index neurons = layers()[l].outputs;
  const Index blocks = num_blocks(neurons);
  if (blocks == 1) {
    action(Block{0, 0, neurons});
    return;
  }
  const auto start = [&](Index b) { return b * neurons / blocks; };
  parallel_for(
      blocks,
      [&](Index b) {
        action(Block{static_cast<std::size_t>(b), start(b), start(b + 1) - start(b)});
      },
      parallel_);
}

template <class S, class A>
template <class Action>
void FullyConnectedEvaluation<S, A>::for_lower_tiles(Index n, const Action& action) {
  for (Index j = 0; j < n; j += tile_cols) {
    const Index cols = std::min<Index>(tile_cols, n - j);
    action(j, cols, j, cols);
    for (Index i = j + cols; i < n; i += tile_rows) action(i, std::min<Index>(tile_rows, n - i), j, cols);
  }
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::forward(ConstVectorRef<S> w, Samples<S> points, MatrixRef<S> F) {
  const ConstMatrixRef<S> X = points.matrix();
  batch_ = X.rows();
  is_linearized_ = false;
  is_consumed_ = false;
  for_blocks(0, [&](const Block& block) { forward_first_block(w, block, X, samples_); });
  forward_above_first(w, F);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::multiply_samples(const SparseFactor<S>& sparse, const Block& block,
                                                      ConstMatrixRef<S> X, ConstMatrixRef<S> V, MatrixRef<S> out) {
  if (sparse.is_assigned())
    sparse.multiply(V, panels_[block.index], out);
  else
    matrix_product<S>(X, V, out);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::forward_first_block(ConstVectorRef<S> w, const Block& block, ConstMatrixRef<S> X,
                                                         const SparseFactor<S>& sparse) {
  auto values = activations_[0].block(0, block.first, X.rows(), block.count);
  multiply_samples(sparse, block, X, layers().front().matrix(w).middleCols(block.first, block.count), values);
  activate(w, 0, block, values);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::forward_block(ConstVectorRef<S> w, std::size_t l, const Block& block) {
  auto values = activations(l, block);
  matrix_product<S>(activations_[l - 1].topRows(batch_), layers()[l].matrix(w).middleCols(block.first, block.count),
                    values);
  activate(w, l, block, values);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::activate(ConstVectorRef<S> w, std::size_t l, const Block& block,
                                              MatrixRef<S> values) {
  const DenseLayer<S>& layer = layers()[l];
  if (layer.multiplier != S(1)) values *= layer.multiplier;
  if (net_.has_biases()) values.rowwise() += w.segment(layer.biases + block.first, block.count).transpose();
  const A& sigma = net_.activation();
  S* const z = values.data();
  const Index stride = values.outerStride();
  for_pieces(values.rows(), values.cols(), stride, stride, [&](Index at, Index, Index count) {
    if constexpr (stores_slopes) {
      S* const slopes = &slopes_[l](0, block.first) + at;  // of the same shape
      for (Index n = 0; n < count; ++n) slopes[n] = sigma.slope(z[at + n]);
    }
    for (Index n = at; n < at + count; ++n) z[n] = sigma.value(z[n]);
  });
  if (l + 1 == hidden())
    matrix_product<S>(values, layers().back().matrix(w).middleRows(block.first, block.count),
                      partial_outputs_[block.index].topRows(values.rows()));
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::forward_above_first(ConstVectorRef<S> w, MatrixRef<S> F) {
  for (std::size_t l = 1; l < hidden(); ++l) for_blocks(l, [&](const Block& block) { forward_block(w, l, block); });
  sum_partial_outputs(w, F);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::sum_partial_outputs(ConstVectorRef<S> w, MatrixRef<S> F) const {
  F = partial_outputs_.front().topRows(batch_);
  for (std::size_t b = 1; b < partial_outputs_.size(); ++b) F += partial_outputs_[b].topRows(batch_);
  if (layers().back().multiplier != S(1)) F *= layers().back().multiplier;
  if (net_.has_biases()) F.rowwise() += w.segment(layers().back().biases, outputs()).transpose();
}

template <class S, class A>
template <class Action>
void FullyConnectedEvaluation<S, A>::for_pieces(Index rows, Index cols, Index stride, Index other_stride,
                                                const Action& action) {
  // Small networks spend their time in starting loops.
  if (stride == rows && other_stride == rows) {
    action(Index(0), Index(0), rows * cols);
    return;
  }
  for (Index j = 0; j < cols; ++j) action(j * stride, j * other_stride, rows);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::times_slopes(std::size_t l, Index first, Index first_neuron,
                                                  MatrixRef<S> B) const {
  const A& sigma = net_.activation();
  const Matrix<S>& known = stores_slopes ? slopes_[l] : activations_[l];
  S* const to = B.data();
  const S* const from = &known(first, first_neuron);
  for_pieces(B.rows(), B.cols(), B.outerStride(), known.rows(), [&](Index at, Index other, Index count) {
    S* const b = to + at;
    const S* const a = from + other;
    for (Index n = 0; n < count; ++n) {
      if constexpr (stores_slopes)
        b[n] *= a[n];
      else if constexpr (requires { sigma.pull_back(S(0), S(0)); })
        b[n] = sigma.pull_back(a[n], b[n]);
      else
        b[n] *= sigma.slope_from_value(a[n]);
    }
  });
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::step_back(ConstVectorRef<S> w, std::size_t l, Index first, Index first_neuron,
                                               ConstMatrixRef<S> above, MatrixRef<S> B) const {
  product_with_transposed<S>(above, layers()[l + 1].matrix(w).middleRows(first_neuron, B.cols()), B);
  times_slopes(l, first, first_neuron, B);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::combine_kept(std::size_t l, const Block& block, ConstMatrixRef<S> G, S scale,
                                                  MatrixRef<S> B) const {
  const S unscaled = scale / layers()[l].multiplier;
  const auto column = [&B](Index j) { return B.data() + j * B.outerStride(); };
  const auto kept = [&](Index j) { return kept_[l].data() + (block.first + j) * kept_[l].rows(); };
  const S* const g = G.data();
  for (Index j = 0; j < block.count; ++j) {
    S* const b = column(j);
    const S* const of_first = kept(j);
    for (Index n = 0; n < batch_; ++n) b[n] = unscaled * g[n] * of_first[n];
  }
  // In loops of their own: together they are slower for one output.
  for (Index j = 0; G.cols() > 1 && j < block.count; ++j) {
    S* const b = column(j);
    for (Index k = 1; k < G.cols(); ++k) {
      const S* const of_output = kept(j) + k * batch_;
      const S* const g_k = g + k * G.outerStride();
      for (Index n = 0; n < batch_; ++n) b[n] += unscaled * g_k[n] * of_output[n];
    }
  }
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::pull_back_block(ConstVectorRef<S> w, std::size_t l, const Block& block,
                                                     ConstMatrixRef<S> G, S scale, VectorRef<S> target) {
  const bool is_last = l + 1 == hidden();
  const auto above = is_last ? seed_.topRows(batch_) : sensitivities_[l + 1].topRows(batch_);
  auto B = sensitivities(l, block);
  if (is_linearized_)
    combine_kept(l, block, G, scale, B);
  else
    step_back(w, l, 0, block.first, above, B);
  add_product_of_transposed<S>(activations(l, block), above,
                               layers()[l + 1].matrix(target).middleRows(block.first, block.count));
  if (net_.has_biases()) target.segment(layers()[l].biases + block.first, block.count) += B.colwise().sum().transpose();
  if (layers()[l].multiplier != S(1)) B *= layers()[l].multiplier;
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::add_first_gradient(const Block& block, ConstMatrixRef<S> X, VectorRef<S> target) {
  const auto B = sensitivities(0, block);
  auto gradient = layers().front().matrix(target).middleCols(block.first, block.count);
  if (samples_.is_assigned())
    samples_.add_transposed_product(B, panels_[block.index], gradient);
  else
    add_product_of_transposed<S>(X, B, gradient);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::pull_back_above_first(ConstVectorRef<S> w, ConstMatrixRef<S> G, S scale,
                                                           VectorRef<S> target) {
  auto seed = seed_.topRows(batch_);
  seed = scale * G;
  if (net_.has_biases()) target.segment(layers().back().biases, outputs()) += seed.colwise().sum().transpose();
  if (layers().back().multiplier != S(1)) seed *= layers().back().multiplier;
  for (std::size_t l = hidden() - 1; l > 0; --l)
    for_blocks(l, [&](const Block& block) { pull_back_block(w, l, block, G, scale, target); });
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::add_pullback(ConstVectorRef<S> w, Samples<S> points, ConstMatrixRef<S> G, S scale,
                                                  VectorRef<S> target) {
  const ConstMatrixRef<S> X = points.matrix();
  restore(w, X);
  pull_back_above_first(w, G, scale, target);
  for_blocks(0, [&](const Block& block) {
    pull_back_block(w, 0, block, G, scale, target);
    add_first_gradient(block, X, target);
  });
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::descend_and_forward(VectorRef<S> w, Samples<S> points, ConstMatrixRef<S> G,
                                                         S scale, Samples<S> next_points, MatrixRef<S> F_next) {
  const ConstMatrixRef<S> X = points.matrix();
  const ConstMatrixRef<S> X_next = next_points.matrix();
  restore(w, X);
  next_samples_.assign(X_next, layers().front().outputs);
  pull_back_above_first(w, G, scale, w);
  for_blocks(0, [&](const Block& block) {
    pull_back_block(w, 0, block, G, scale, w);
    add_first_gradient(block, X, w);
    forward_first_block(w, block, X_next, next_samples_);
  });
  std::swap(samples_, next_samples_);
  batch_ = X_next.rows();
  is_linearized_ = false;
  forward_above_first(w, F_next);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::fill_unit_seed() {
  unit_.setZero(batch_ * outputs(), outputs());
  for (Index k = 0; k < outputs(); ++k)
    unit_.col(k).segment(k * batch_, batch_).setConstant(layers().back().multiplier);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::linearize(ConstVectorRef<S> w, Samples<S> points) {
  const ConstMatrixRef<S> X = points.matrix();
  if (is_linearized_) return;
  restore(w, X);
  fill_unit_seed();
  moved_.resize(batch_, widest());
  kept_.resize(hidden());
  for (std::size_t l = hidden(); l-- > 0;) {
    const Matrix<S>& above = l + 1 == hidden() ? unit_ : kept_[l + 1];
    kept_[l].resize(unit_.rows(), layers()[l].outputs);
    for (Index first = 0; first < unit_.rows(); first += batch_)
      step_back(w, l, 0, 0, above.middleRows(first, batch_), kept_[l].middleRows(first, batch_));
    if (layers()[l].multiplier != S(1)) kept_[l] *= layers()[l].multiplier;
  }
  is_linearized_ = true;
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::jvp(ConstVectorRef<S> w, Samples<S> points, ConstVectorRef<S> v, MatrixRef<S> dF) {
  const ConstMatrixRef<S> X = points.matrix();
  restore(w, X);
  if (is_linearized_)
    jvp_from_kept(X, v, dF);
  else
    jvp_forward(w, X, v, dF);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::jvp_forward(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v,
                                                 MatrixRef<S> dF) {
  for (std::size_t l = 0; l < hidden(); ++l) {
    for_blocks(l, [&](const Block& block) {
      const DenseLayer<S>& layer = layers()[l];
      auto dA = sensitivities(l, block);
      const auto V = layer.matrix(v).middleCols(block.first, block.count);
      if (l == 0) {
        multiply_samples(samples_, block, X, V, dA);
      } else {
        matrix_product<S>(activations_[l - 1].topRows(batch_), V, dA);
        add_matrix_product<S>(sensitivities_[l - 1].topRows(batch_),
                              layer.matrix(w).middleCols(block.first, block.count), dA);
      }
      if (layer.multiplier != S(1)) dA *= layer.multiplier;
      if (net_.has_biases()) dA.rowwise() += v.segment(layer.biases + block.first, block.count).transpose();
      times_slopes(l, 0, block.first, dA);
      if (l + 1 < hidden()) return;
      auto out = partial_outputs_[block.index].topRows(batch_);
      matrix_product<S>(activations(l, block), layers().back().matrix(v).middleRows(block.first, block.count), out);
      add_matrix_product<S>(dA, layers().back().matrix(w).middleRows(block.first, block.count), out);
    });
  }
  sum_partial_outputs(v, dF);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::jvp_from_kept(ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) {
  const DenseLayer<S>& last = layers().back();
  matrix_product<S>(activations_.back().topRows(batch_), last.matrix(v), dF);
  if (last.multiplier != S(1)) dF *= last.multiplier;
  if (net_.has_biases()) dF.rowwise() += v.segment(last.biases, outputs()).transpose();
  for (std::size_t l = 0; l < hidden(); ++l) {
    const DenseLayer<S>& layer = layers()[l];
    auto moved = moved_.leftCols(layer.outputs);
    if (l == 0)
      multiply_samples(samples_, Block{0, 0, layer.outputs}, X, layer.matrix(v), moved);
    else
      matrix_product<S>(activations_[l - 1].topRows(batch_), layer.matrix(v), moved);
    if (net_.has_biases())
      for (Index j = 0; j < layer.outputs; ++j) moved.col(j).array() += v[layer.biases + j] / layer.multiplier;
    for (Index k = 0; k < outputs(); ++k) {
      auto out = dF.col(k).array();
      const auto kept = kept_[l].middleRows(k * batch_, batch_);
      for (Index j = 0; j < layer.outputs; ++j) out += moved.col(j).array() * kept.col(j).array();
    }
  }
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::write_sensitivities(ConstVectorRef<S> w, std::size_t l, ConstMatrixRef<S> above,
                                                         MatrixRef<S> B) {
  for (Index row = 0, rows = 0; row < B.rows(); row += rows) {
    // Rows of one output, so that they are consecutive samples.
    const Index in_output = row % batch_;
    rows = std::min<Index>(block_rows, batch_ - in_output);
    auto some = some_rows_.topLeftCorner(rows, B.cols());
    step_back(w, l, in_output, 0, above.middleRows(row, rows), some);
    B.middleRows(row, rows) = layers()[l].multiplier * some;
  }
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::restore(ConstVectorRef<S> w, ConstMatrixRef<S> X) {
  if (!is_consumed_) return;
  ignored_.resize(batch_, outputs());
  forward(w, X, ignored_);
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::begin_kernel(KernelForm form, MatrixRef<S> K) {
  const S squared = layers().back().multiplier * layers().back().multiplier;
  const S bias = net_.has_biases() ? S(1) : S(0);
  const bool is_full = form == KernelForm::full;
  const auto values = activations_.back().topRows(batch_);
  if (is_full && outputs() > 1) K.setZero();
  for_lower_tiles(batch_, [&](Index i, Index rows, Index j, Index cols) {
    auto tile = K.block(i, j, rows, cols);
    product_with_transposed<S>(values.middleRows(i, rows), values.middleRows(j, cols), tile);
    if (squared != S(1) || bias != S(0)) tile.array() = squared * tile.array() + bias;
    if (!is_full) tile *= static_cast<S>(outputs());
    for (Index k = 1; is_full && k < outputs(); ++k) K.block(i + k * batch_, j + k * batch_, rows, cols) = tile;
  });
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::add_kernel_of_layer(std::size_t l, ConstMatrixRef<S> X, ConstMatrixRef<S> B,
                                                         KernelForm form, MatrixRef<S> K) {
  const S multiplier = layers()[l].multiplier;
  const S bias = net_.has_biases() ? S(1) / (multiplier * multiplier) : S(0);
  for_lower_tiles(batch_, [&](Index i, Index rows, Index j, Index cols) {
    auto inputs = inputs_tile_.topLeftCorner(rows, cols);
    if (l == 0)
      product_with_transposed<S>(X.middleRows(i, rows), X.middleRows(j, cols), inputs);
    else
      product_with_transposed<S>(activations_[l - 1].middleRows(i, rows), activations_[l - 1].middleRows(j, cols),
                                 inputs);
    auto tile = tile_.topLeftCorner(rows, cols);
    for (Index k = 0; k < outputs(); ++k) {
      for (Index other = 0; other < outputs(); ++other) {
        if (form == KernelForm::trace ? other != k : (i == j && other > k)) continue;
        product_with_transposed<S>(B.middleRows(i + k * batch_, rows), B.middleRows(j + other * batch_, cols), tile);
        if (form == KernelForm::trace)
          K.block(i, j, rows, cols).array() += tile.array() * (inputs.array() + bias);
        else if (k >= other)
          K.block(i + k * batch_, j + other * batch_, rows, cols).array() += tile.array() * (inputs.array() + bias);
        else
          K.block(j + other * batch_, i + k * batch_, cols, rows).array() +=
              (tile.array() * (inputs.array() + bias)).transpose();
      }
    }
  });
}

template <class S, class A>
void FullyConnectedEvaluation<S, A>::kernel(ConstVectorRef<S> w, Samples<S> points, KernelForm form, MatrixRef<S> K) {
  const ConstMatrixRef<S> X = points.matrix();
  restore(w, X);
  for (Matrix<S>* tile : {&inputs_tile_, &tile_})
    tile->resize(std::min(tile_rows, batch_), std::min(tile_cols, batch_));
  begin_kernel(form, K);
  if (is_linearized_) {
    for (std::size_t l = hidden(); l-- > 0;) add_kernel_of_layer(l, X, kept_[l], form, K);
    return;
  }
  fill_unit_seed();
  some_rows_.resize(block_rows, widest());
  if (outputs() > 1) running_.resize(unit_.rows(), widest());
  for (std::size_t l = hidden(); l-- > 0;) {
    const bool is_last = l + 1 == hidden();
    if (outputs() > 1) {
      auto B = running_.leftCols(layers()[l].outputs);
      if (is_last)
        write_sensitivities(w, l, unit_, B);
      else
        write_sensitivities(w, l, running_.leftCols(layers()[l + 1].outputs), B);
      add_kernel_of_layer(l, X, B, form, K);
    } else {
      // In the place of the activations, which are not needed any more.
      is_consumed_ = true;
      auto B = activations_[l].topRows(batch_);
      if (is_last)
        write_sensitivities(w, l, unit_, B);
      else
        write_sensitivities(w, l, activations_[l + 1].topRows(batch_), B);
      add_kernel_of_layer(l, X, B, form, K);
    }
  }
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_FULLY_CONNECTED(prefix, S)                        \
  prefix template class FullyConnected<S, activation::Relu>;                   \
  prefix template class detail::FullyConnectedEvaluation<S, activation::Relu>; \
  prefix template class FullyConnected<S, activation::Linear>;                 \
  prefix template class detail::FullyConnectedEvaluation<S, activation::Linear>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_FULLY_CONNECTED)
