#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_layers.hpp"

namespace richflow {

/// Deep matrix factorization (Arora et al. 2019): `f(w, X_n) = <M(w), X_n>`, `M = W_L ... W_1`, d1 x d2, of any depth
/// L >= 2 and any widths. Its samples are MatrixMeasurements of M, like those of MatrixFactorization: observed entries
/// (matrix completion) or any other kind (sensing).
///
///     const DeepFactorization<double> model({10, 10, 10, 10});   // depth 3, 10 x 10
///     const auto w0 = pack_layers(balanced_start<double>(random, model.widths(), scale));
///     simulate(model, data, w0, {.loss = 1e-8});
///
/// The parameters are the layers as `pack_layers` stores them: those of the DeepLinearNetwork of the same widths, whose
/// evaluation on the d2 unit vectors makes M and its derivatives. The flow conserves `W_{l+1}^T W_{l+1} - W_l W_l^T`
/// (`invariant`); from a balanced start M has a flow of its own, whatever the widths (EndToEndFlow).
///
/// A Model with its own evaluation, HasJvp, HasUnits (the hidden neurons), HasInvariant, a LinearPredictor of
/// `vec(X_n)`. Immutable. Costs are those of the network on d2 samples and of the measurements; the tangent kernel is
/// `K_nm = sum_l <X_n, A_l A_l^T X_m B_l^T B_l>`, `A_l = W_L ... W_{l+1}`, `B_l = W_{l-1} ... W_1`.
template <class S = double>
class DeepFactorization : public detail::ByEvaluation<DeepFactorization<S>, S, const MatrixMeasurements<S>&> {
 public:
  using Scalar = S;
  /// What it is evaluated on.
  using Samples = MatrixMeasurements<S>;
  /// See HasSmoothUnits.
  static constexpr bool is_smooth = true;

  /// Of widths n_0, ..., n_L, first to last: M is n_L x n_0. Throws DimensionError unless there are three or more, all
  /// positive.
  explicit DeepFactorization(std::vector<Index> widths) : widths_(std::move(widths)), net_(network(widths_)) {}

  /// n_0, ..., n_L.
  [[nodiscard]] const std::vector<Index>& widths() const { return widths_; }
  /// L.
  [[nodiscard]] Index depth() const { return net_.depth(); }
  /// d1 = n_L.
  [[nodiscard]] Index rows() const { return widths_.back(); }
  /// d2 = n_0.
  [[nodiscard]] Index cols() const { return widths_.front(); }
  /// P.
  [[nodiscard]] Index num_parameters() const { return net_.num_parameters(); }
  /// d1 d2, the numbers of an X_n.
  [[nodiscard]] Index num_inputs() const { return rows() * cols(); }
  /// L: `f(c w, x) = c^L f(w, x)`.
  [[nodiscard]] Index homogeneity() const { return depth(); }
  /// The linear network with the same parameters.
  [[nodiscard]] const DeepLinearNetwork<S>& network() const { return net_; }

  /// M of w, d1 x d2. Throws DimensionError unless w has P entries.
  [[nodiscard]] Matrix<S> product(ConstVectorRef<S> w) const { return layers_product(unpack_layers<S>(widths_, w)); }

  /// The predictor as a vector: vec(M), column after column.
  void beta(ConstVectorRef<S> w, VectorRef<S> out) const {
    require_size("out", out.size(), num_inputs());
    Eigen::Map<Matrix<S>>(out.data(), rows(), cols()) = product(w);
  }

  /// Hidden neurons.
  [[nodiscard]] Index num_units() const { return net_.num_units(); }
  /// Per hidden neuron the squared norm of the entries of v at its incoming and outgoing weights.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const { net_.unit_square_norms(v, out); }
  /// All entries of `W_{l+1}^T W_{l+1} - W_l W_l^T`, l = 1 ... L - 1, as `conserved_matrices` has them: lambda I for a
  /// lambda-balanced start. (The invariant of the network has the other sign.)
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const { return -net_.invariant(w); }

  /// Memory for at most `max_batch` measurements.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const;

 private:
  static DeepLinearNetwork<S> network(const std::vector<Index>& widths) {
    require<DimensionError>(widths.size() >= 3, "a deep factorization of L >= 2 layers has L + 1 widths, got ",
                            static_cast<Index>(widths.size()));
    detail::require_widths(widths);
    return DeepLinearNetwork<S>(widths.front(), std::vector<Index>(widths.begin() + 1, widths.end() - 1), false,
                                widths.back());
  }

  std::vector<Index> widths_;
  DeepLinearNetwork<S> net_;
};

namespace detail {

/// The evaluation of a deep factorization: that of its network at the unit vectors, whose outputs are M^T.
template <class S>
class DeepFactorizationEvaluation final : public AnyEvaluation<S> {
 public:
  DeepFactorizationEvaluation(const DeepFactorization<S>& model, Index max_batch, ParallelOptions parallel);
  // The network's evaluation refers to the unit vectors, which are here.
  DeepFactorizationEvaluation(const DeepFactorizationEvaluation& other) = default;

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<DeepFactorizationEvaluation>(*this);
  }

  void set_samples(Samples<S> X) override { X.measurements().require_shape(shape_); }
  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;
  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override;
  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override;
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override;
  [[nodiscard]] Index num_units() const override { return net_.num_units(); }
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const override { net_.unit_square_norms(v, out); }

 private:
  DeepLinearNetwork<S> net_;
  FactorShape shape_;
  Evaluation<S> at_;
  std::shared_ptr<const Matrix<S>> inputs_;  // I, n_0 x n_0
  Matrix<S> outputs_;                        // M^T or its change, n_0 x n_L
  Matrix<S> matrix_;                         // M, the adjoint or a change, n_L x n_0
  // For kernels.
  Matrix<S> left_ = {};
  Matrix<S> right_ = {};
  Matrix<S> scratch_ = {};
  Matrix<S> of_layer_ = {};
  std::vector<Matrix<S>> below_ = {};  // B_l^T, n_0 x n_{l-1}
  std::vector<Matrix<S>> above_ = {};  // A_l^T, n_l x n_L
};

template <class S>
DeepFactorizationEvaluation<S>::DeepFactorizationEvaluation(const DeepFactorization<S>& model, Index max_batch,
                                                            ParallelOptions parallel)
    : AnyEvaluation<S>({model.num_parameters(), 1, max_batch, model.num_inputs(), true}),
      net_(model.network()),
      shape_(FactorShape::general(model.rows(), model.cols())),
      at_(net_.make_evaluation(model.cols(), parallel)),
      inputs_(std::make_shared<const Matrix<S>>(Matrix<S>::Identity(model.cols(), model.cols()))),
      outputs_(model.cols(), model.rows()),
      matrix_(model.rows(), model.cols()) {}

template <class S>
void DeepFactorizationEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) {
  at_.forward(w, *inputs_, outputs_);
  matrix_ = outputs_.transpose();
  F.setZero();
  X.measurements().operations().add_values(matrix_, F.col(0));
}

template <class S>
void DeepFactorizationEvaluation<S>::add_pullback(ConstVectorRef<S> /*w*/, Samples<S> X, ConstMatrixRef<S> G, S scale,
                                                  VectorRef<S> target) {
  matrix_.setZero();
  X.measurements().operations().add_adjoint(G.col(0), matrix_);
  outputs_ = matrix_.transpose();
  at_.add_pullback(outputs_, scale, target);
}

template <class S>
void DeepFactorizationEvaluation<S>::jvp(ConstVectorRef<S> /*w*/, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) {
  at_.jvp(v, outputs_);
  matrix_ = outputs_.transpose();
  dF.setZero();
  X.measurements().operations().add_values(matrix_, dF.col(0));
}

template <class S>
void DeepFactorizationEvaluation<S>::kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm /*form*/, MatrixRef<S> K) {
  const auto& layers = net_.layers();
  const Index rows = shape_.rows();
  const Index cols = shape_.cols();
  const Index D = shape_.stack_size();
  // The network's weights are W_l^T. Of a stack [U; V] the kernel is tr(B_n P B_m W): P stands at U and W at V.
  below_.resize(layers.size());
  below_.front() = *inputs_;
  for (std::size_t l = 1; l < layers.size(); ++l) {
    below_[l].resize(cols, layers[l].inputs);
    matrix_product<S>(below_[l - 1], layers[l - 1].matrix(w), below_[l]);
  }
  left_.setZero(D, D);
  right_.setZero(D, D);
  scratch_.setZero(D, 3 * D);
  of_layer_.setZero(K.rows(), K.cols());
  above_.resize(layers.size());
  above_.back().setIdentity(rows, rows);
  K.setZero();
  for (std::size_t l = layers.size(); l-- > 0;) {
    product_of_transposed<S>(above_[l], above_[l], left_.topLeftCorner(rows, rows));
    product_with_transposed<S>(below_[l], below_[l], right_.bottomRightCorner(cols, cols));
    X.measurements().operations().kernel(shape_, left_, right_, of_layer_, scratch_);
    K += of_layer_;
    if (l == 0) break;
    above_[l - 1].resize(layers[l].inputs, rows);
    matrix_product<S>(layers[l].matrix(w), above_[l], above_[l - 1]);
  }
}

}  // namespace detail

template <class S>
Evaluation<S> DeepFactorization<S>::make_evaluation(Index max_batch, ParallelOptions parallel) const {
  return Evaluation<S>(std::make_unique<detail::DeepFactorizationEvaluation<S>>(*this, max_batch, parallel));
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DEEP_FACTORIZATION(prefix, S) \
  prefix template class DeepFactorization<S>;              \
  prefix template class detail::DeepFactorizationEvaluation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DEEP_FACTORIZATION)
