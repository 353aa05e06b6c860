#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/he_initialization.hpp"

namespace richflow {

/// Memory in which a ReluNetwork evaluates N samples: per hidden layer two N x n_l matrices, one N x max n_l, and two
/// tiles of the kernel.
template <class S>
struct ReluNetworkWorkspace {
  std::vector<Matrix<S>> activations = {};    // A_l, l = 1 .. D - 1
  std::vector<Matrix<S>> sensitivities = {};  // B_l: derivatives of the outputs, times the seed, by Z_l
  Matrix<S> scratch = {};                     // N x the largest number of outputs of a layer
  Matrix<S> inputs = {};                      // tiles of the kernel
  Matrix<S> outputs = {};
};

/// Memory in which a ReluNetwork evaluates batches: per hidden layer two matrices of max_batch x n_l, and max_batch x K
/// for each block of neurons of the last hidden layer.
template <class S>
struct ReluNetworkBatchWorkspace {
  std::vector<Matrix<S>> activations = {};      // A_l, l = 1 .. D - 1
  std::vector<Matrix<S>> sensitivities = {};    // derivatives by Z_l on the way back, derivatives of A_l along v
  std::vector<Matrix<S>> partial_outputs = {};  // max_batch x K: what each block of the last hidden layer contributes
  Matrix<S> seed = {};                          // max_batch x K
  Index batch = 0;                              // rows of the last forward
  ParallelOptions parallel = {1};
};

/// The fully connected ReLU network of depth D >= 2 with K outputs, one by default (Woodworth et al. 2020, section 6,
/// Figure 6),
///
///     A_0 = X,   Z_l = A_{l-1} W_l (+ 1 b_l^T),   A_l = max(Z_l, 0) for l < D,   f(w, X) = Z_D
///
/// `W_l` is n_{l-1} x n_l (n_0 = d, n_D = K): column j holds the incoming weights of neuron j. The parameters are one
/// vector, `w = (W_1, [b_1], W_2, [b_2], ...)`, matrices column by column. The derivative of max(z, 0) at z = 0 is 0.
/// Without biases f is homogeneous of degree D in w, so that the scale of the predictor is alpha^D, and in x of
/// degree 1.
///
/// The flow conserves, for every hidden neuron, the squared norm of its incoming parameters minus that of its outgoing
/// ones (`invariant`). The units (HasUnits) are the hidden neurons, each with its incoming and outgoing parameters.
///
/// A Model, HasJvp, HasInvariant, HasWorkspace, HasTangent, HasUnits, and for any K a BatchModel with HasBatchJvp,
/// HasParallelBatches and HasDescent; what concerns one value per sample (`predict` and all that is built on it) throws
/// DimensionError for K > 1. Immutable.
///
/// Batches are worked on in blocks of up to 512 neurons, layer by layer. Threads share the blocks of a layer, which do
/// not depend on their number: a layer of up to 512 neurons keeps one thread busy, one of 5000 at most ten. The weights
/// of a block of the first layer are read once for all that is done with them in a step, if they fit into the cache.
///
/// With a workspace nothing allocates for layers of up to about a hundred neurons (beyond, Eigen's matrix product
/// does). With B_l the derivatives of the N outputs by Z_l, everything at one point follows from A and B: `J^T r =
/// A_{l-1}^T diag(r) B_l` per layer, `J v = sum_l rowsum((A_{l-1} V_l) * B_l)` and `K = sum_l (A_{l-1} A_{l-1}^T) *
/// (B_l B_l^T)`. Cost: 2 N P operations for `predict` and each product with J, 6 N P for a gradient.
template <class S>
class ReluNetwork {
 public:
  using Scalar = S;
  using Workspace = ReluNetworkWorkspace<S>;

  using BatchWorkspace = ReluNetworkBatchWorkspace<S>;

  /// A net on d inputs with the given widths of its hidden layers, `{30, 30}` for depth 3. Throws DimensionError
  /// unless there is a hidden layer (depth >= 2) and d, all widths and the number of outputs are positive.
  ReluNetwork(Index d, const std::vector<Index>& hidden_widths, bool has_biases = false, Index num_outputs = 1);

  /// A net of `depth` >= 2 layers whose hidden layers all have the same width.
  [[nodiscard]] static ReluNetwork uniform_width(Index d, Index depth, Index width, bool has_biases = false);

  /// d.
  [[nodiscard]] Index input_features() const { return layers_.front().inputs; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return layers_.back().outputs; }
  /// D, the number of weight matrices.
  [[nodiscard]] Index depth() const { return static_cast<Index>(layers_.size()); }
  /// Whether every layer has biases.
  [[nodiscard]] bool has_biases() const { return has_biases_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return num_parameters_; }
  /// D: `f(c w, x) = c^D f(w, x)` for c > 0. Throws ArgumentError for a net with biases, which is not homogeneous.
  [[nodiscard]] Index homogeneity() const;

  /// `W_l`, l from 1 to depth(), as a view of the parameters.
  [[nodiscard]] Eigen::Map<const Matrix<S>> weights(ConstVectorRef<S> w, Index l) const;

  /// `alpha w0` with w0 drawn by the rule of He, layer by layer; biases start at zero. Throws ArgumentError where alpha
  /// is outside the range of the scalar type.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, BasicScale<S> scale,
                                             HeInitialization rule = HeInitialization::uniform) const;

  /// Memory for N = X.rows() samples.
  [[nodiscard]] Workspace make_workspace(ConstMatrixRef<S> X) const;

  /// `out = f(w, X)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const;

  /// `out = J(w)^T r`, P values, at the w of the last `predict` with this workspace.
  void pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const;

  /// `out = f(w, X)`; from here on `tangent_vjp`, `tangent_jvp` and `tangent_kernel` are at w.
  void linearize(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const;

  /// `out = J^T r`, P values, where the workspace was linearized.
  void tangent_vjp(ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const;

  /// `out = J v`, N values, where the workspace was linearized.
  void tangent_jvp(ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out, Workspace& ws) const;

  /// `K = J J^T`, N x N, where the workspace was linearized. Cost: 2 N^2 per neuron and N^2 for each input.
  void tangent_kernel(ConstMatrixRef<S> X, MatrixRef<S> K, Workspace& ws) const;

  /// `K = J(w) J(w)^T`, N x N, for large N and P, in little memory: beside K one layer's activations, a byte per sample
  /// and hidden neuron but those of the last layer, D - 3 further N x N matrices where D > 3, and some blocks of
  /// rows. The Gram matrices of the activations are formed on the way forward (that of the first hidden layer in the
  /// other triangle of K), those of the sensitivities on the way back. Cost: 4 N P for the two ways and N^2 per neuron
  /// and Gram matrix, nearly all in matrix products.
  void tangent_kernel(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> K) const;

  /// `out = f(w, X)`, N values. Allocates a workspace.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const;

  /// `out = J(w)^T r`, P values. Allocates a workspace.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const;

  /// `out = J(w) v`, N values. Allocates a workspace.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const;

  /// Memory for batches of up to `max_batch` samples, and the threads that share the work on one, one by default. Where
  /// Eigen's products use threads of their own (with OpenMP or a BLAS), these should be set to one. The threads are
  /// started anew for every pass through a layer, 2 D - 3 times in a step of descent, some 30 microseconds each. Throws
  /// DimensionError unless max_batch > 0, ArgumentError for a negative number of threads.
  [[nodiscard]] BatchWorkspace make_batch_workspace(Index max_batch, ParallelOptions parallel = {1}) const;

  /// `F = f(w, X)` for a batch X, B x K.
  void forward(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> F, BatchWorkspace& ws) const;

  /// `target += scale * sum_n J_n^T G_n` at the w and X of the last `forward`; `target` may be w itself. The products
  /// add to `target` directly: no other pass over the parameters.
  void add_pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target,
                    BatchWorkspace& ws) const;

  /// `add_pullback(w, X, G, scale, w, ws)` at the w and X of the last `forward`, then `forward(w, X_next, F_next, ws)`,
  /// in one pass over the weights of the first layer. G is B x K, X_next B' x d and F_next B' x K, both B and B' at
  /// most max_batch; F_next may be the memory of G if B' = B. Throws DimensionError for other shapes; nothing has
  /// changed then.
  void descend_and_forward(VectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, S scale, ConstMatrixRef<S> X_next,
                           MatrixRef<S> F_next, BatchWorkspace& ws) const;

  /// `dF = J(w) v`, B x K, at the w and X of the last `forward`.
  void forward_jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF,
                   BatchWorkspace& ws) const;

  /// Hidden neurons.
  [[nodiscard]] Index num_units() const { return num_units_; }

  /// For every hidden neuron, layer by layer, the squared norm of the entries of v at its incoming parameters (bias
  /// included) and outgoing weights.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const { neuron_sums(v, S(1), out); }

  /// For every hidden neuron, layer by layer, the squared norm of its incoming parameters (bias included) minus that of
  /// its outgoing weights: constant along every gradient flow, and drifting by O(step) under descent.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const;

 private:
  struct Layer {
    Index inputs = 0;
    Index outputs = 0;
    Index weights = 0;  // where W_l begins in w
    Index biases = 0;   // where b_l begins, if there are any
  };

  /// Neurons of a hidden layer that are worked on together.
  struct Block {
    std::size_t index = 0;
    Index first = 0;
    Index count = 0;
  };

  /// What the kernel of many samples is made in.
  struct KernelMemory {
    KernelMemory(Index n, const std::vector<Layer>& layers) : first_diagonal(Vector<S>::Zero(n)) {
      Index widest = 1;
      for (std::size_t l = 0; l + 1 < layers.size(); ++l) widest = std::max(widest, layers[l].outputs);
      values.resize(n, widest);
      block.resize(block_rows, widest);
    }

    Matrix<S> values = {};  // A_l on the way forward, B_l on the way back
    Matrix<S> block = {};   // the next values of some samples
    Matrix<S> gram = Matrix<S>(tile_rows, tile_cols);
    Matrix<S> inputs = Matrix<S>(tile_rows, tile_cols);
    std::vector<Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>> active =
        {};                             // of all hidden layers but the last
    Vector<S> first_diagonal;           // of the Gram matrix of A_1, whose other entries are above the diagonal of K
    std::vector<Matrix<S>> grams = {};  // of A_2 ... A_{D-2}
  };

  // Two threads on 784 x 5000 weights take 4 % longer with 256, 15 % with 1024.
  static constexpr Index block_neurons = 512;
  static constexpr Index block_rows = 48;
  static constexpr Index tile_rows = 128;
  static constexpr Index tile_cols = 64;

  /// `action(first, count)` for one block of rows after the other.
  template <class Action>
  static void for_row_blocks(Index n, const Action& action) {
    for (Index i = 0; i < n; i += block_rows) action(i, std::min<Index>(block_rows, n - i));
  }

  /// `action(i, rows, j, cols)` for tiles that cover the lower triangle of an n x n matrix: squares at the diagonal,
  /// where i = j, and below them tiles of up to twice that height. (Eigen's rankUpdate would pack, that is copy, all of
  /// its factor twice.)
  template <class Action>
  static void for_lower_tiles(Index n, const Action& action) {
    for (Index j = 0; j < n; j += tile_cols) {
      const Index cols = std::min<Index>(tile_cols, n - j);
      action(j, cols, j, cols);
      for (Index i = j + cols; i < n; i += tile_rows) action(i, std::min<Index>(tile_rows, n - i), j, cols);
    }
  }

  static Eigen::Map<const Matrix<S>> map(const ConstVectorRef<S>& w, const Layer& layer);
  static Eigen::Map<Matrix<S>> map(VectorRef<S>& w, const Layer& layer);

  /// `out = A_{l-1} W_l + 1 b_l^T` for the layer of index l (from 0), with weights and biases taken from `w`.
  void apply(ConstVectorRef<S> w, std::size_t l, ConstMatrixRef<S> X, const Workspace& ws, MatrixRef<S> out) const;

  /// A_l from A_{l-1} (layers count from 0 in here), a block of samples at a time.
  void activate(ConstVectorRef<S> w, std::size_t l, ConstMatrixRef<S> X, KernelMemory& memory) const;

  /// `A_l A_l^T`: that of the last hidden layer, plus 1 with biases, begins K; that of the first goes above the
  /// diagonal of K.
  void keep_gram_of_activations(std::size_t l, MatrixRef<S> K, KernelMemory& memory) const;

  /// B_l from B_{l+1}; for the last hidden layer from A_l.
  void replace_by_sensitivities(ConstVectorRef<S> w, std::size_t l, KernelMemory& memory) const;

  /// `K += (A_{l-1} A_{l-1}^T + 1) * (B_l B_l^T)`, the 1 with biases, on and below the diagonal.
  void add_kernel_of_layer(std::size_t l, ConstMatrixRef<S> X, MatrixRef<S> K, KernelMemory& memory) const;

  [[nodiscard]] static Index num_blocks(Index neurons) { return (neurons + block_neurons - 1) / block_neurons; }

  /// `action(block)` for blocks of about equal size that cover the neurons of a hidden layer, on the threads of the
  /// workspace.
  template <class Action>
  void for_blocks(std::size_t l, const BatchWorkspace& ws, const Action& action) const {
    const Index neurons = layers_[l].outputs;
    const Index blocks = num_blocks(neurons);
    const auto start = [&](Index b) { return b * neurons / blocks; };
    parallel_for(
        blocks,
        [&](Index b) {
          action(Block{static_cast<std::size_t>(b), start(b), start(b + 1) - start(b)});
        },
        ws.parallel);
  }

  /// Entries of values at the neurons of a block that are zero where the neuron is not active.
  template <class Values>
  static void keep_active(std::size_t l, const Block& block, Values& values, const BatchWorkspace& ws) {
    const auto A = ws.activations[l].block(0, block.first, values.rows(), block.count);
    values.array() = (A.array() > S(0)).select(values.array(), S(0));
  }

  /// Activations of a block of hidden layer l, and what those of the last hidden layer contribute to the outputs.
  void forward_block(ConstVectorRef<S> w, std::size_t l, const Block& block, ConstMatrixRef<S> inputs,
                     BatchWorkspace& ws) const;

  /// The rest of `forward` when the first layer is done.
  void forward_above_first(ConstVectorRef<S> w, MatrixRef<S> F, BatchWorkspace& ws) const;

  /// The outputs, with the biases of the last layer from `w`.
  void sum_partial_outputs(ConstVectorRef<S> w, MatrixRef<S> F, const BatchWorkspace& ws) const;

  /// From the sensitivities above a block of hidden layer l: its own, and the gradients of its biases and of the
  /// weights that go out of it. Those that go out of other blocks are not read, so that `target` may be the memory of
  /// w.
  void pull_back_block(ConstVectorRef<S> w, std::size_t l, const Block& block, VectorRef<S> target,
                       BatchWorkspace& ws) const;

  /// The gradient of the weights of a block of the first layer.
  void add_first_gradient(const Block& block, ConstMatrixRef<S> X, VectorRef<S> target, const BatchWorkspace& ws) const;

  /// The part of `add_pullback` before the first hidden layer is reached.
  void pull_back_above_first(ConstVectorRef<S> w, ConstMatrixRef<S> G, S scale, VectorRef<S> target,
                             BatchWorkspace& ws) const;

  /// Sensitivities from the activations, each sample's times its entry of `seed`; an empty seed is all ones.
  void backpropagate(ConstVectorRef<S> w, ConstVectorRef<S> seed, Workspace& ws) const;

  /// The part of J^T r that belongs to a layer: `A_{l-1}^T G`, `1^T G`.
  void write_gradient(std::size_t l, ConstMatrixRef<S> X, ConstMatrixRef<S> g, VectorRef<S> out,
                      const Workspace& ws) const;

  /// Per hidden neuron: squares of v over its incoming parameters plus `sign` times those over its outgoing ones.
  void neuron_sums(ConstVectorRef<S> v, S sign, VectorRef<S> out) const;

  void check_features(ConstMatrixRef<S> X) const;

  void check_outputs(const char* name, ConstMatrixRef<S> F, Index batch) const;

  void check_batch(ConstMatrixRef<S> X, ConstMatrixRef<S> F, const BatchWorkspace& ws) const;

  void check_last_batch(ConstVectorRef<S> w, ConstMatrixRef<S> X, const BatchWorkspace& ws) const;

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const;

  std::vector<Layer> layers_ = {};
  Index num_parameters_ = 0;
  Index num_units_ = 0;
  bool has_biases_ = false;
};

template <class S>
void ReluNetwork<S>::apply(ConstVectorRef<S> w, std::size_t l, ConstMatrixRef<S> X, const Workspace& ws,
                           MatrixRef<S> out) const {
  const auto W = map(w, layers_[l]);
  if (l == 0)
    detail::matrix_product<S>(X, W, out);
  else
    detail::matrix_product<S>(ws.activations[l - 1], W, out);
  if (has_biases_) out.rowwise() += w.segment(layers_[l].biases, layers_[l].outputs).transpose();
}

template <class S>
void ReluNetwork<S>::write_gradient(std::size_t l, ConstMatrixRef<S> X, ConstMatrixRef<S> g, VectorRef<S> out,
                                    const Workspace& ws) const {
  const Layer& layer = layers_[l];
  Eigen::Map<Matrix<S>> W(out.data() + layer.weights, layer.inputs, layer.outputs);
  if (l == 0)
    detail::product_of_transposed<S>(X, g, W);
  else
    detail::product_of_transposed<S>(ws.activations[l - 1], g, W);
  if (has_biases_) out.segment(layer.biases, layer.outputs) = g.colwise().sum().transpose();
}

template <class S>
ReluNetwork<S>::ReluNetwork(Index d, const std::vector<Index>& hidden_widths, bool has_biases, Index num_outputs)
    : has_biases_(has_biases) {
  require<DimensionError>(num_outputs > 0, "the ReLU network needs num_outputs > 0, got ", num_outputs);
  require<DimensionError>(d > 0, "the ReLU network needs d > 0 features, got ", d);
  require<DimensionError>(!hidden_widths.empty(),
                          "the ReLU network needs a hidden layer (depth >= 2), got depth 1: no hidden widths");
  Index inputs = d;
  for (std::size_t l = 0; l <= hidden_widths.size(); ++l) {
    const Index outputs = l < hidden_widths.size() ? hidden_widths[l] : num_outputs;
    require<DimensionError>(outputs > 0, "hidden layer ", l + 1, " of the ReLU network has width ", outputs,
                            "; widths must be positive");
    layers_.push_back({inputs, outputs, num_parameters_, num_parameters_ + inputs * outputs});
    num_parameters_ += (inputs + (has_biases ? 1 : 0)) * outputs;
    if (l < hidden_widths.size()) num_units_ += outputs;
    inputs = outputs;
  }
}

template <class S>
ReluNetwork<S> ReluNetwork<S>::uniform_width(Index d, Index depth, Index width, bool has_biases) {
  require<DimensionError>(depth >= 2, "the ReLU network needs depth >= 2, got ", depth);
  return ReluNetwork(d, std::vector<Index>(static_cast<std::size_t>(depth - 1), width), has_biases);
}

template <class S>
Index ReluNetwork<S>::homogeneity() const {
  require(!has_biases_, "a ReLU network with biases is not homogeneous");
  return depth();
}

template <class S>
Eigen::Map<const Matrix<S>> ReluNetwork<S>::weights(ConstVectorRef<S> w, Index l) const {
  require_size("w", w.size(), num_parameters_);
  require(l >= 1 && l <= depth(), "the layers count from 1 to ", depth(), ", got ", l);
  return map(w, layers_[static_cast<std::size_t>(l - 1)]);
}

template <class S>
Vector<S> ReluNetwork<S>::initial_parameters(RandomStream& random, BasicScale<S> scale, HeInitialization rule) const {
  const S alpha = detail::representable_alpha(scale);
  Vector<S> w = Vector<S>::Zero(num_parameters_);
  for (const Layer& layer : layers_)
    detail::draw_layer<S>(random, alpha, rule, layer.inputs, w.segment(layer.weights, layer.inputs * layer.outputs));
  return w;
}

template <class S>
typename ReluNetwork<S>::Workspace ReluNetwork<S>::make_workspace(ConstMatrixRef<S> X) const {
  check_features(X);
  Workspace ws;
  Index widest = 1;
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
    ws.activations.emplace_back(Matrix<S>::Zero(X.rows(), layers_[l].outputs));
    ws.sensitivities.emplace_back(Matrix<S>::Zero(X.rows(), layers_[l].outputs));
    widest = std::max(widest, layers_[l].outputs);
  }
  ws.scratch.setZero(X.rows(), widest);
  for (Matrix<S>* tile : {&ws.inputs, &ws.outputs})
    tile->setZero(std::min(tile_rows, X.rows()), std::min(tile_cols, X.rows()));
  return ws;
}

template <class S>
void ReluNetwork<S>::predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const {
  check(w, X, out.size());
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
    Matrix<S>& A = ws.activations[l];
    apply(w, l, X, ws, A);
    A = A.cwiseMax(S(0));
  }
  apply(w, layers_.size() - 1, X, ws, out);
}

template <class S>
void ReluNetwork<S>::pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out,
                              Workspace& ws) const {
  check(w, X, r.size());
  require_size("out", out.size(), num_parameters_);
  backpropagate(w, r, ws);
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l) write_gradient(l, X, ws.sensitivities[l], out, ws);
  write_gradient(layers_.size() - 1, X, r, out, ws);
}

template <class S>
void ReluNetwork<S>::linearize(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const {
  predict(w, X, out, ws);
  backpropagate(w, Vector<S>(), ws);
}

template <class S>
void ReluNetwork<S>::tangent_vjp(ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const {
  require_size("r", r.size(), X.rows());
  require_size("out", out.size(), num_parameters_);
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
    auto scaled = ws.scratch.leftCols(layers_[l].outputs);
    scaled.noalias() = r.asDiagonal() * ws.sensitivities[l];
    write_gradient(l, X, scaled, out, ws);
  }
  write_gradient(layers_.size() - 1, X, r, out, ws);
}

template <class S>
void ReluNetwork<S>::tangent_jvp(ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out, Workspace& ws) const {
  require_size("v", v.size(), num_parameters_);
  require_size("out", out.size(), X.rows());
  apply(v, layers_.size() - 1, X, ws, out);
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
    auto moved = ws.scratch.leftCols(layers_[l].outputs);
    apply(v, l, X, ws, moved);
    for (Index j = 0; j < layers_[l].outputs; ++j)
      out.array() += moved.col(j).array() * ws.sensitivities[l].col(j).array();
  }
}

template <class S>
void ReluNetwork<S>::tangent_kernel(ConstMatrixRef<S> X, MatrixRef<S> K, Workspace& ws) const {
  const Index n = X.rows();
  require<DimensionError>(K.rows() == n && K.cols() == n, "K is ", K.rows(), " x ", K.cols(), " where N = ", n);
  const S one = has_biases_ ? S(1) : S(0);
  for_lower_tiles(n, [&](Index i, Index rows, Index j, Index cols) {
    auto block = K.block(i, j, rows, cols);
    auto inputs = ws.inputs.topLeftCorner(rows, cols);
    auto outputs = ws.outputs.topLeftCorner(rows, cols);
    const auto products = [&](const auto& A, auto& out) {
      detail::product_with_transposed<S>(A.middleRows(i, rows), A.middleRows(j, cols), out);
    };
    products(ws.activations.back(), block);
    block.array() += one;
    for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
      if (l == 0)
        products(X, inputs);
      else
        products(ws.activations[l - 1], inputs);
      products(ws.sensitivities[l], outputs);
      block.array() += (inputs.array() + one) * outputs.array();
    }
  });
  K.template triangularView<Eigen::StrictlyUpper>() = K.transpose();
}

template <class S>
void ReluNetwork<S>::tangent_kernel(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> K) const {
  check(w, X, X.rows());
  require<DimensionError>(K.rows() == X.rows() && K.cols() == X.rows(), "K is ", K.rows(), " x ", K.cols(),
                          " where N = ", X.rows());
  const std::size_t hidden = layers_.size() - 1;
  KernelMemory memory(X.rows(), layers_);
  for (std::size_t l = 0; l < hidden; ++l) {
    activate(w, l, X, memory);
    keep_gram_of_activations(l, K, memory);
  }
  for (std::size_t l = hidden; l-- > 0;) {
    replace_by_sensitivities(w, l, memory);
    add_kernel_of_layer(l, X, K, memory);
  }
  K.template triangularView<Eigen::StrictlyUpper>() = K.transpose();
}

template <class S>
void ReluNetwork<S>::predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
  Workspace ws = make_workspace(X);
  predict(w, X, out, ws);
}

template <class S>
void ReluNetwork<S>::vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const {
  Workspace ws = make_workspace(X);
  Vector<S> ignored(X.rows());
  predict(w, X, ignored, ws);
  pullback(w, X, r, out, ws);
}

template <class S>
void ReluNetwork<S>::jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const {
  Workspace ws = make_workspace(X);
  linearize(w, X, out, ws);
  tangent_jvp(X, v, out, ws);
}

template <class S>
typename ReluNetwork<S>::BatchWorkspace ReluNetwork<S>::make_batch_workspace(Index max_batch,
                                                                             ParallelOptions parallel) const {
  require<DimensionError>(max_batch > 0, "max_batch must be positive, got ", max_batch);
  BatchWorkspace ws;
  ws.parallel.threads = num_threads(parallel);
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l)
    for (auto* values : {&ws.activations, &ws.sensitivities})
      values->emplace_back(Matrix<S>::Zero(max_batch, layers_[l].outputs));
  const Index blocks = num_blocks(layers_[layers_.size() - 2].outputs);
  ws.partial_outputs.assign(static_cast<std::size_t>(blocks), Matrix<S>::Zero(max_batch, num_outputs()));
  ws.seed.setZero(max_batch, num_outputs());
  return ws;
}

template <class S>
void ReluNetwork<S>::forward(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> F, BatchWorkspace& ws) const {
  require_size("w", w.size(), num_parameters_);
  check_batch(X, F, ws);
  ws.batch = X.rows();
  for_blocks(0, ws, [&](const Block& block) { forward_block(w, 0, block, X, ws); });
  forward_above_first(w, F, ws);
}

template <class S>
void ReluNetwork<S>::add_pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, S scale,
                                  VectorRef<S> target, BatchWorkspace& ws) const {
  check_last_batch(w, X, ws);
  check_outputs("G", G, X.rows());
  require_size("target", target.size(), num_parameters_);
  pull_back_above_first(w, G, scale, target, ws);
  for_blocks(0, ws, [&](const Block& block) {
    pull_back_block(w, 0, block, target, ws);
    add_first_gradient(block, X, target, ws);
  });
}

template <class S>
void ReluNetwork<S>::descend_and_forward(VectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, S scale,
                                         ConstMatrixRef<S> X_next, MatrixRef<S> F_next, BatchWorkspace& ws) const {
  check_last_batch(w, X, ws);
  check_outputs("G", G, X.rows());
  check_batch(X_next, F_next, ws);
  pull_back_above_first(w, G, scale, w, ws);
  for_blocks(0, ws, [&](const Block& block) {
    pull_back_block(w, 0, block, w, ws);
    add_first_gradient(block, X, w, ws);
    forward_block(w, 0, block, X_next, ws);
  });
  ws.batch = X_next.rows();
  forward_above_first(w, F_next, ws);
}

template <class S>
void ReluNetwork<S>::forward_jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF,
                                 BatchWorkspace& ws) const {
  check_last_batch(w, X, ws);
  require_size("v", v.size(), num_parameters_);
  check_outputs("dF", dF, X.rows());
  const std::size_t hidden = layers_.size() - 1;
  for (std::size_t l = 0; l < hidden; ++l) {
    for_blocks(l, ws, [&](const Block& block) {
      auto dA = ws.sensitivities[l].block(0, block.first, ws.batch, block.count);
      const auto V = map(v, layers_[l]).middleCols(block.first, block.count);
      if (l == 0) {
        detail::matrix_product<S>(X, V, dA);
      } else {
        detail::matrix_product<S>(ws.activations[l - 1].topRows(ws.batch), V, dA);
        detail::add_matrix_product<S>(ws.sensitivities[l - 1].topRows(ws.batch),
                                      map(w, layers_[l]).middleCols(block.first, block.count), dA);
      }
      if (has_biases_) dA.rowwise() += v.segment(layers_[l].biases + block.first, block.count).transpose();
      keep_active(l, block, dA, ws);
      if (l + 1 < hidden) return;
      auto out = ws.partial_outputs[block.index].topRows(ws.batch);
      const auto A = ws.activations[l].block(0, block.first, ws.batch, block.count);
      detail::matrix_product<S>(A, map(v, layers_[hidden]).middleRows(block.first, block.count), out);
      detail::add_matrix_product<S>(dA, map(w, layers_[hidden]).middleRows(block.first, block.count), out);
    });
  }
  sum_partial_outputs(v, dF, ws);
}

template <class S>
Vector<S> ReluNetwork<S>::invariant(ConstVectorRef<S> w) const {
  Vector<S> out(num_units_);
  neuron_sums(w, S(-1), out);
  return out;
}

template <class S>
Eigen::Map<const Matrix<S>> ReluNetwork<S>::map(const ConstVectorRef<S>& w, const Layer& layer) {
  return {w.data() + layer.weights, layer.inputs, layer.outputs};
}

template <class S>
Eigen::Map<Matrix<S>> ReluNetwork<S>::map(VectorRef<S>& w, const Layer& layer) {
  return {w.data() + layer.weights, layer.inputs, layer.outputs};
}

template <class S>
void ReluNetwork<S>::activate(ConstVectorRef<S> w, std::size_t l, ConstMatrixRef<S> X, KernelMemory& memory) const {
  const Index n = memory.values.rows();
  const Index width = layers_[l].outputs;
  const bool is_last = l + 2 == layers_.size();
  const auto W = map(w, layers_[l]);
  if (!is_last) memory.active.emplace_back(n, width);
  for_row_blocks(n, [&](Index i, Index rows) {
    auto z = memory.block.topLeftCorner(rows, width);
    if (l == 0)
      detail::matrix_product<S>(X.middleRows(i, rows), W, z);
    else
      detail::matrix_product<S>(memory.values.block(i, 0, rows, layers_[l].inputs), W, z);
    if (has_biases_) z.rowwise() += w.segment(layers_[l].biases, width).transpose();
    if (!is_last) memory.active.back().middleRows(i, rows) = z.array() > S(0);
    memory.values.block(i, 0, rows, width) = z.cwiseMax(S(0));
  });
}

template <class S>
void ReluNetwork<S>::keep_gram_of_activations(std::size_t l, MatrixRef<S> K, KernelMemory& memory) const {
  const Index n = K.rows();
  const bool is_last = l + 2 == layers_.size();
  const auto A = memory.values.leftCols(layers_[l].outputs);
  if (!is_last && l > 0) memory.grams.emplace_back(n, n);
  for_lower_tiles(n, [&](Index i, Index rows, Index j, Index cols) {
    auto gram = memory.gram.topLeftCorner(rows, cols);
    detail::product_with_transposed<S>(A.middleRows(i, rows), A.middleRows(j, cols), gram);
    if (is_last) {
      gram.array() += has_biases_ ? S(1) : S(0);
      auto below = K.block(i, j, rows, cols);
      if (i == j)
        below.template triangularView<Eigen::Lower>() = gram;
      else
        below = gram;
    } else if (l == 0) {
      auto above = K.block(j, i, cols, rows);
      if (i == j) {
        above.template triangularView<Eigen::StrictlyUpper>() = gram.transpose();
        memory.first_diagonal.segment(j, cols) = gram.diagonal();
      } else {
        above = gram.transpose();
      }
    } else {
      memory.grams.back().block(i, j, rows, cols) = gram;
    }
  });
}

template <class S>
void ReluNetwork<S>::replace_by_sensitivities(ConstVectorRef<S> w, std::size_t l, KernelMemory& memory) const {
  const Index n = memory.values.rows();
  const Index width = layers_[l].outputs;
  const auto W = map(w, layers_[l + 1]);
  auto B = memory.values.leftCols(width);
  if (l + 2 == layers_.size()) {
    for (Index j = 0; j < width; ++j)
      B.col(j) = (B.col(j).array() > S(0)).select(Vector<S>::Constant(n, W(j, 0)), S(0));
    return;
  }
  for_row_blocks(n, [&](Index i, Index rows) {
    auto back = memory.block.topLeftCorner(rows, width);
    detail::product_with_transposed<S>(memory.values.block(i, 0, rows, layers_[l + 1].outputs), W, back);
    B.middleRows(i, rows) = memory.active[l].middleRows(i, rows).select(back.array(), S(0)).matrix();
  });
}

template <class S>
void ReluNetwork<S>::add_kernel_of_layer(std::size_t l, ConstMatrixRef<S> X, MatrixRef<S> K,
                                         KernelMemory& memory) const {
  const auto B = memory.values.leftCols(layers_[l].outputs);
  for_lower_tiles(K.rows(), [&](Index i, Index rows, Index j, Index cols) {
    auto gram = memory.gram.topLeftCorner(rows, cols);
    auto inputs = memory.inputs.topLeftCorner(rows, cols);
    detail::product_with_transposed<S>(B.middleRows(i, rows), B.middleRows(j, cols), gram);
    if (l == 0) {
      detail::product_with_transposed<S>(X.middleRows(i, rows), X.middleRows(j, cols), inputs);
    } else if (l == 1) {
      inputs = K.block(j, i, cols, rows).transpose();  // at the diagonal right below it only
      if (i == j) inputs.diagonal() = memory.first_diagonal.segment(j, cols);
    } else {
      inputs = memory.grams[l - 2].block(i, j, rows, cols);
    }
    gram.array() *= inputs.array() + (has_biases_ ? S(1) : S(0));
    auto below = K.block(i, j, rows, cols);
    if (i == j)
      below.template triangularView<Eigen::Lower>() += gram;
    else
      below += gram;
  });
}

template <class S>
void ReluNetwork<S>::forward_block(ConstVectorRef<S> w, std::size_t l, const Block& block, ConstMatrixRef<S> inputs,
                                   BatchWorkspace& ws) const {
  const Index batch = inputs.rows();
  auto A = ws.activations[l].block(0, block.first, batch, block.count);
  detail::matrix_product<S>(inputs, map(w, layers_[l]).middleCols(block.first, block.count), A);
  if (has_biases_) A.rowwise() += w.segment(layers_[l].biases + block.first, block.count).transpose();
  A = A.unaryExpr([](S z) { return z < S(0) ? S(0) : z; });  // NaN stays NaN
  if (l + 2 == layers_.size())
    detail::matrix_product<S>(A, map(w, layers_.back()).middleRows(block.first, block.count),
                              ws.partial_outputs[block.index].topRows(batch));
}

template <class S>
void ReluNetwork<S>::forward_above_first(ConstVectorRef<S> w, MatrixRef<S> F, BatchWorkspace& ws) const {
  for (std::size_t l = 1; l + 1 < layers_.size(); ++l)
    for_blocks(l, ws,
               [&](const Block& block) { forward_block(w, l, block, ws.activations[l - 1].topRows(ws.batch), ws); });
  sum_partial_outputs(w, F, ws);
}

template <class S>
void ReluNetwork<S>::sum_partial_outputs(ConstVectorRef<S> w, MatrixRef<S> F, const BatchWorkspace& ws) const {
  F = ws.partial_outputs.front().topRows(ws.batch);
  for (std::size_t b = 1; b < ws.partial_outputs.size(); ++b) F += ws.partial_outputs[b].topRows(ws.batch);
  if (has_biases_) F.rowwise() += w.segment(layers_.back().biases, num_outputs()).transpose();
}

template <class S>
void ReluNetwork<S>::pull_back_block(ConstVectorRef<S> w, std::size_t l, const Block& block, VectorRef<S> target,
                                     BatchWorkspace& ws) const {
  const auto above = l + 2 == layers_.size() ? ws.seed.topRows(ws.batch) : ws.sensitivities[l + 1].topRows(ws.batch);
  auto B = ws.sensitivities[l].block(0, block.first, ws.batch, block.count);
  const auto A = ws.activations[l].block(0, block.first, ws.batch, block.count);
  detail::product_with_transposed<S>(above, map(w, layers_[l + 1]).middleRows(block.first, block.count), B);
  keep_active(l, block, B, ws);
  detail::add_product_of_transposed<S>(A, above, map(target, layers_[l + 1]).middleRows(block.first, block.count));
  if (has_biases_) target.segment(layers_[l].biases + block.first, block.count) += B.colwise().sum().transpose();
}

template <class S>
void ReluNetwork<S>::add_first_gradient(const Block& block, ConstMatrixRef<S> X, VectorRef<S> target,
                                        const BatchWorkspace& ws) const {
  detail::add_product_of_transposed<S>(X, ws.sensitivities[0].block(0, block.first, ws.batch, block.count),
                                       map(target, layers_[0]).middleCols(block.first, block.count));
}

template <class S>
void ReluNetwork<S>::pull_back_above_first(ConstVectorRef<S> w, ConstMatrixRef<S> G, S scale, VectorRef<S> target,
                                           BatchWorkspace& ws) const {
  auto seed = ws.seed.topRows(ws.batch);
  seed = scale * G;
  if (has_biases_) target.segment(layers_.back().biases, num_outputs()) += seed.colwise().sum().transpose();
  for (std::size_t l = layers_.size() - 2; l > 0; --l)
    for_blocks(l, ws, [&](const Block& block) { pull_back_block(w, l, block, target, ws); });
}

template <class S>
void ReluNetwork<S>::backpropagate(ConstVectorRef<S> w, ConstVectorRef<S> seed, Workspace& ws) const {
  for (std::size_t l = layers_.size() - 1; l-- > 0;) {
    Matrix<S>& B = ws.sensitivities[l];
    const auto W = map(w, layers_[l + 1]);
    if (l + 2 < layers_.size())
      detail::product_with_transposed<S>(ws.sensitivities[l + 1], W, B);
    else if (seed.size() == 0)
      B.rowwise() = W.col(0).transpose();
    else
      detail::product_with_transposed<S>(seed, W, B);
    B.array() = (ws.activations[l].array() > S(0)).select(B.array(), S(0));
  }
}

template <class S>
void ReluNetwork<S>::neuron_sums(ConstVectorRef<S> v, S sign, VectorRef<S> out) const {
  require_size("the parameter vector", v.size(), num_parameters_);
  require_size("out", out.size(), num_units_);
  Index first = 0;
  for (std::size_t l = 0; l + 1 < layers_.size(); ++l) {
    const Index width = layers_[l].outputs;
    auto sums = out.segment(first, width);
    const auto next = map(v, layers_[l + 1]);
    sums.setZero();
    for (Index k = 0; k < next.cols(); ++k) sums.array() += next.col(k).array().square();
    sums *= sign;
    sums += map(v, layers_[l]).colwise().squaredNorm().transpose();
    if (has_biases_) sums.array() += v.segment(layers_[l].biases, width).array().square();
    first += width;
  }
}

template <class S>
void ReluNetwork<S>::check_features(ConstMatrixRef<S> X) const {
  require<DimensionError>(X.cols() == input_features(), "X has ", X.cols(),
                          " columns where the net has d = ", input_features(), " features");
}

template <class S>
void ReluNetwork<S>::check_outputs(const char* name, ConstMatrixRef<S> F, Index batch) const {
  require<DimensionError>(F.rows() == batch && F.cols() == num_outputs(), name, " is ", F.rows(), " x ", F.cols(),
                          " where B = ", batch, " and K = ", num_outputs());
}

template <class S>
void ReluNetwork<S>::check_batch(ConstMatrixRef<S> X, ConstMatrixRef<S> F, const BatchWorkspace& ws) const {
  check_features(X);
  check_outputs("F", F, X.rows());
  require<DimensionError>(X.rows() <= ws.seed.rows(), "the batch has ", X.rows(), " samples, the workspace room for ",
                          ws.seed.rows());
}

template <class S>
void ReluNetwork<S>::check_last_batch(ConstVectorRef<S> w, ConstMatrixRef<S> X, const BatchWorkspace& ws) const {
  require_size("w", w.size(), num_parameters_);
  check_features(X);
  require<DimensionError>(X.rows() == ws.batch, "X has ", X.rows(), " rows, that of the last forward had ", ws.batch);
}

template <class S>
void ReluNetwork<S>::check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const {
  require<DimensionError>(num_outputs() == 1, "the net has num_outputs = ", num_outputs(),
                          " where one value per sample is asked for");
  require_size("w", w.size(), num_parameters_);
  check_features(X);
  require_size("the vector over samples", num_samples, X.rows());
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_RELU_NETWORK(prefix, S) prefix template class ReluNetwork<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_RELU_NETWORK)
