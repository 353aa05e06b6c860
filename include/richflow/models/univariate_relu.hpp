#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/initialization.hpp"

namespace richflow {

/// The wide two-layer ReLU network on the line (Woodworth et al. 2020, section 6, Figure 7; docs/theory.md, section
/// 10.1),
///
///     f(w, x) = sum_i a_i [u_i x + b_i]_+ + c,     w = (a, u, b, c),   P = 3 k + 1
///
/// with k units; X is N x 1. The derivative of the positive part at 0 is 0. Along the flow `u_i^2 + b_i^2 - a_i^2` is
/// constant for every unit (`invariant`). The units (HasUnits) are the k neurons (a_i, u_i, b_i); c belongs to none.
///
/// A Model with its own evaluation, HasJvp, HasInvariant, HasUnits. Immutable; an evaluation allocates nothing. Cost of
/// every prediction and product with the Jacobian: O(k N); of the tangent kernel O(k N^2).
template <class S = double>
class UnivariateRelu : public detail::ByEvaluation<UnivariateRelu<S>, S> {
 public:
  using Scalar = S;

  /// A net of k units. Throws DimensionError for k <= 0.
  explicit UnivariateRelu(Index k);

  /// k.
  [[nodiscard]] Index width() const { return k_; }
  /// 1.
  [[nodiscard]] static constexpr Index num_inputs() { return 1; }
  /// P = 3 k + 1.
  [[nodiscard]] Index num_parameters() const { return 3 * k_ + 1; }

  /// `alpha w0` with u, b ~ N(0, 1) and a ~ N(0, 2 / k) (variance), c = 0; then the first layer (u, b) times
  /// `k^-shift` and the second (a) times `k^shift`: shift = 0, 1/2, 1/4 in panels a, b, c of Figure 7. Throws
  /// ArgumentError unless shift is finite and alpha is in the range of the scalar type.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, Scale<S> scale, S shift = S(0)) const;

  /// Memory for at most `max_batch` samples; one thread works on them.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions parallel = {1}) const;

  /// k.
  [[nodiscard]] Index num_units() const { return k_; }

  /// The squared norm of (a_i, u_i, b_i) of v for every unit.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const;

  /// `u_i^2 + b_i^2 - a_i^2`, k values: constant along every gradient flow.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const;

 private:
  // The parts a, u, b of a parameter vector.
  auto first(const ConstVectorRef<S>& w) const { return w.segment(0, k_); }
  auto second(const ConstVectorRef<S>& w) const { return w.segment(k_, k_); }
  auto third(const ConstVectorRef<S>& w) const { return w.segment(2 * k_, k_); }

  Index k_;
};

namespace detail {

/// The evaluation of a UnivariateRelu, which keeps nothing of a point: units are evaluated in blocks, on the stack.
template <class S>
class UnivariateReluEvaluation final : public AnyEvaluation<S> {
 public:
  UnivariateReluEvaluation(const UnivariateRelu<S>& net, Index max_batch);

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<UnivariateReluEvaluation>(*this);
  }

  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override;
  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override;
  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override;
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override;
  [[nodiscard]] Index num_units() const override { return net_.num_units(); }
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const override { net_.unit_square_norms(v, out); }

 private:
  static constexpr int block_size = 128;
  using BlockArray = Eigen::Array<S, block_size, 1>;

  // The parameters of a block of units.
  struct Block {
    BlockArray a = BlockArray::Zero();
    BlockArray u = BlockArray::Zero();
    BlockArray b = BlockArray::Zero();
  };

  /// The units from `i` on, and zeros beyond the last; returns how many there are.
  Index load(const ConstVectorRef<S>& w, Index i, Block& block) const;

  UnivariateRelu<S> net_;
  Index k_;
  Matrix<S> active_ = {};  // [u_i x_n + b_i]_+ of the units of a block
  Matrix<S> slopes_ = {};  // a_i where the unit is active, else 0
};

}  // namespace detail

template <class S>
UnivariateRelu<S>::UnivariateRelu(Index k) : k_(k) {
  require<DimensionError>(k > 0, "the univariate ReLU network needs width k > 0, got ", k);
}

template <class S>
Vector<S> UnivariateRelu<S>::initial_parameters(RandomStream& random, Scale<S> scale, S shift) const {
  using std::isfinite;
  using std::pow;
  using std::sqrt;
  require(isfinite(shift), "shift must be finite, got ", shift);
  const S alpha = detail::representable_alpha(scale);
  const S first = alpha * pow(S(k_), -shift);
  const S second = alpha * pow(S(k_), shift) * sqrt(S(2) / S(k_));
  Vector<S> w(num_parameters());
  for (Index i = 0; i < k_; ++i) {
    w[k_ + i] = first * static_cast<S>(random.normal());
    w[2 * k_ + i] = first * static_cast<S>(random.normal());
    w[i] = second * static_cast<S>(random.normal());
  }
  w[3 * k_] = S(0);
  return w;
}

template <class S>
Evaluation<S> UnivariateRelu<S>::make_evaluation(Index max_batch, ParallelOptions /*parallel*/) const {
  return Evaluation<S>(std::make_unique<detail::UnivariateReluEvaluation<S>>(*this, max_batch));
}

template <class S>
void UnivariateRelu<S>::unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const {
  require_size("the parameter vector", v.size(), num_parameters());
  require_size("out", out.size(), k_);
  out.array() = first(v).array().square() + second(v).array().square() + third(v).array().square();
}

template <class S>
Vector<S> UnivariateRelu<S>::invariant(ConstVectorRef<S> w) const {
  require_size("w", w.size(), num_parameters());
  return second(w).array().square() + third(w).array().square() - first(w).array().square();
}

namespace detail {

template <class S>
UnivariateReluEvaluation<S>::UnivariateReluEvaluation(const UnivariateRelu<S>& net, Index max_batch)
    : AnyEvaluation<S>({net.num_parameters(), 1, max_batch, 1}), net_(net), k_(net.width()) {
  const Index rows = std::min<Index>(k_, block_size);
  for (Matrix<S>* values : {&active_, &slopes_}) values->resize(rows, max_batch);
}

template <class S>
void UnivariateReluEvaluation<S>::forward(ConstVectorRef<S> w, Samples<S> points, MatrixRef<S> F) {
  const ConstMatrixRef<S> X = points.matrix();
  F.setConstant(w[3 * k_]);
  Block block;
  for (Index i = 0; i < k_; i += block_size) {
    load(w, i, block);
    for (Index n = 0; n < X.rows(); ++n) F(n, 0) += (block.a * (block.u * X(n, 0) + block.b).max(S(0))).sum();
  }
}

template <class S>
void UnivariateReluEvaluation<S>::add_pullback(ConstVectorRef<S> w, Samples<S> points, ConstMatrixRef<S> G, S scale,
                                               VectorRef<S> target) {
  const ConstMatrixRef<S> X = points.matrix();
  Block block;
  BlockArray sum_active;
  BlockArray sum;
  BlockArray sum_x;
  const S all = G.col(0).sum();
  for (Index i = 0; i < k_; i += block_size) {
    const Index count = load(w, i, block);
    sum_active.setZero();
    sum.setZero();
    sum_x.setZero();
    for (Index n = 0; n < X.rows(); ++n) {
      const S r = scale * G(n, 0);
      const BlockArray z = block.u * X(n, 0) + block.b;
      sum_active += r * z.max(S(0));
      sum += (z > S(0)).select(BlockArray::Constant(r), S(0));
      sum_x += (z > S(0)).select(BlockArray::Constant(r * X(n, 0)), S(0));
    }
    target.segment(i, count).array() += sum_active.head(count);
    target.segment(k_ + i, count).array() += (block.a * sum_x).head(count);
    target.segment(2 * k_ + i, count).array() += (block.a * sum).head(count);
  }
  target[3 * k_] += scale * all;
}

template <class S>
void UnivariateReluEvaluation<S>::jvp(ConstVectorRef<S> w, Samples<S> points, ConstVectorRef<S> v, MatrixRef<S> dF) {
  const ConstMatrixRef<S> X = points.matrix();
  dF.setConstant(v[3 * k_]);
  Block block;
  Block moved;
  for (Index i = 0; i < k_; i += block_size) {
    load(w, i, block);
    load(v, i, moved);
    for (Index n = 0; n < X.rows(); ++n) {
      const BlockArray z = block.u * X(n, 0) + block.b;
      const BlockArray change = z * moved.a + block.a * (moved.u * X(n, 0) + moved.b);
      const BlockArray active = (z > S(0)).select(change, S(0));  // apart from the sum, which would not vectorize
      dF(n, 0) += active.sum();
    }
  }
}

template <class S>
void UnivariateReluEvaluation<S>::kernel(ConstVectorRef<S> w, Samples<S> points, KernelForm /*form*/, MatrixRef<S> K) {
  const ConstMatrixRef<S> X = points.matrix();
  const Index samples = X.rows();
  K.setOnes();
  Block block;
  for (Index i = 0; i < k_; i += block_size) {
    load(w, i, block);
    const Index rows = active_.rows();  // units beyond the last are zero
    for (Index n = 0; n < samples; ++n) {
      const BlockArray z = block.u * X(n, 0) + block.b;
      const BlockArray slopes = (z > S(0)).select(block.a, S(0));
      active_.col(n) = z.max(S(0)).matrix().head(rows);
      slopes_.col(n) = slopes.matrix().head(rows);
    }
    // Entry by entry: matrix products of so few columns cost more.
    for (Index n = 0; n < samples; ++n)
      for (Index m = n; m < samples; ++m)
        K(m, n) += active_.col(m).dot(active_.col(n)) + (X(m, 0) * X(n, 0) + S(1)) * slopes_.col(m).dot(slopes_.col(n));
  }
}

template <class S>
Index UnivariateReluEvaluation<S>::load(const ConstVectorRef<S>& w, Index i, Block& block) const {
  const Index count = std::min<Index>(block_size, k_ - i);
  if (count < block_size) block = Block();
  block.a.head(count) = w.segment(i, count).array();
  block.u.head(count) = w.segment(k_ + i, count).array();
  block.b.head(count) = w.segment(2 * k_ + i, count).array();
  return count;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_UNIVARIATE_RELU(prefix, S) \
  prefix template class UnivariateRelu<S>;              \
  prefix template class detail::UnivariateReluEvaluation<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_UNIVARIATE_RELU)
