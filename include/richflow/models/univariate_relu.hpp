#pragma once

#include <algorithm>
#include <cmath>

#include "richflow/core/compiled.hpp"
#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// Memory in which a UnivariateRelu evaluates N samples: the point of linearization, and two blocks of units x N.
template <class S>
struct UnivariateReluWorkspace {
  Vector<S> point = {};   // where the tangent members are
  Matrix<S> active = {};  // [u_i x_n + b_i]_+ of the units of a block
  Matrix<S> slopes = {};  // a_i where the unit is active, else 0
};

/// The wide two-layer ReLU network on the line (Woodworth et al. 2020, section 6, Figure 7),
///
///     f(w, x) = sum_i a_i [u_i x + b_i]_+ + c,     w = (a, u, b, c),   P = 3 k + 1
///
/// with k units; X is N x 1. The derivative of the positive part at 0 is 0. Along the flow `u_i^2 + b_i^2 - a_i^2` is
/// constant for every unit (`invariant`). The units (HasUnits) are the k neurons (a_i, u_i, b_i); c belongs to none.
///
/// A Model, HasJvp, HasInvariant, HasWorkspace, HasTangent, HasUnits. Immutable; with a workspace nothing allocates.
/// Cost of every evaluation and product with the Jacobian: O(k N); of the tangent kernel O(k N^2).
template <class S>
class UnivariateRelu {
 public:
  using Scalar = S;
  using Workspace = UnivariateReluWorkspace<S>;

  /// A net of k units. Throws DimensionError for k <= 0.
  explicit UnivariateRelu(Index k);

  /// k.
  [[nodiscard]] Index width() const { return k_; }
  /// P = 3 k + 1.
  [[nodiscard]] Index num_parameters() const { return 3 * k_ + 1; }

  /// `alpha w0` with u, b ~ N(0, 1) and a ~ N(0, 2 / k) (variance), c = 0; then the first layer (u, b) times
  /// `k^-shift` and the second (a) times `k^shift`: shift = 0, 1/2, 1/4 in panels a, b, c of Figure 7. Throws
  /// ArgumentError unless shift is finite and alpha is in the range of the scalar type.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, BasicScale<S> scale, S shift = S(0)) const;

  /// Memory for N = X.rows() samples.
  [[nodiscard]] Workspace make_workspace(ConstMatrixRef<S> X) const;

  /// `out = f(w, X)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& /*ws*/) const;

  /// `out = J(w)^T r`, P values, at the w of the last `predict` with this workspace.
  void pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out,
                Workspace& /*ws*/) const;

  /// `out = f(w, X)`; from here on `tangent_vjp`, `tangent_jvp` and `tangent_kernel` are at w.
  void linearize(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const;

  /// `out = J^T r`, P values, where the workspace was linearized.
  void tangent_vjp(ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const;

  /// `out = J v`, N values, where the workspace was linearized.
  void tangent_jvp(ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out, Workspace& ws) const;

  /// `K = J J^T`, N x N, where the workspace was linearized.
  void tangent_kernel(ConstMatrixRef<S> X, MatrixRef<S> K, Workspace& ws) const;

  /// `out = f(w, X)`, N values. Allocates a workspace.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const;

  /// `out = J(w)^T r`, P values. Allocates a workspace.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const;

  /// `out = J(w) v`, N values. Allocates a workspace.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const;

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

  static void check_features(ConstMatrixRef<S> X);

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const;

  Index k_;
};

template <class S>
UnivariateRelu<S>::UnivariateRelu(Index k) : k_(k) {
  require<DimensionError>(k > 0, "the univariate ReLU network needs width k > 0, got ", k);
}

template <class S>
Vector<S> UnivariateRelu<S>::initial_parameters(RandomStream& random, BasicScale<S> scale, S shift) const {
  using std::isfinite;
  using std::pow;
  using std::sqrt;
  const S alpha = scale.value();
  require(isfinite(shift), "shift must be finite, got ", shift);
  require(alpha > S(0) && isfinite(alpha), "log alpha = ", scale.log(),
          " puts alpha outside the range of the scalar type");
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
typename UnivariateRelu<S>::Workspace UnivariateRelu<S>::make_workspace(ConstMatrixRef<S> X) const {
  check_features(X);
  const Index rows = std::min<Index>(k_, block_size);
  return {Vector<S>::Zero(num_parameters()), Matrix<S>::Zero(rows, X.rows()), Matrix<S>::Zero(rows, X.rows())};
}

template <class S>
void UnivariateRelu<S>::predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& /*ws*/) const {
  check(w, X, out.size());
  out.setConstant(w[3 * k_]);
  Block block;
  for (Index i = 0; i < k_; i += block_size) {
    load(w, i, block);
    for (Index n = 0; n < X.rows(); ++n) out[n] += (block.a * (block.u * X(n, 0) + block.b).max(S(0))).sum();
  }
}

template <class S>
void UnivariateRelu<S>::pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out,
                                 Workspace& /*ws*/) const {
  check(w, X, r.size());
  require_size("out", out.size(), num_parameters());
  Block block;
  BlockArray sum_active;
  BlockArray sum;
  BlockArray sum_x;
  for (Index i = 0; i < k_; i += block_size) {
    const Index count = load(w, i, block);
    sum_active.setZero();
    sum.setZero();
    sum_x.setZero();
    for (Index n = 0; n < X.rows(); ++n) {
      const BlockArray z = block.u * X(n, 0) + block.b;
      sum_active += r[n] * z.max(S(0));
      sum += (z > S(0)).select(BlockArray::Constant(r[n]), S(0));
      sum_x += (z > S(0)).select(BlockArray::Constant(r[n] * X(n, 0)), S(0));
    }
    out.segment(i, count) = sum_active.head(count);
    out.segment(k_ + i, count) = (block.a * sum_x).head(count);
    out.segment(2 * k_ + i, count) = (block.a * sum).head(count);
  }
  out[3 * k_] = r.sum();
}

template <class S>
void UnivariateRelu<S>::linearize(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const {
  predict(w, X, out, ws);
  ws.point = w;
}

template <class S>
void UnivariateRelu<S>::tangent_vjp(ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const {
  pullback(ws.point, X, r, out, ws);
}

template <class S>
void UnivariateRelu<S>::tangent_jvp(ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out, Workspace& ws) const {
  require_size("v", v.size(), num_parameters());
  require_size("out", out.size(), X.rows());
  out.setConstant(v[3 * k_]);
  Block block;
  Block moved;
  for (Index i = 0; i < k_; i += block_size) {
    load(ws.point, i, block);
    load(v, i, moved);
    for (Index n = 0; n < X.rows(); ++n) {
      const BlockArray z = block.u * X(n, 0) + block.b;
      const BlockArray change = z * moved.a + block.a * (moved.u * X(n, 0) + moved.b);
      const BlockArray active = (z > S(0)).select(change, S(0));  // apart from the sum, which would not vectorize
      out[n] += active.sum();
    }
  }
}

template <class S>
void UnivariateRelu<S>::tangent_kernel(ConstMatrixRef<S> X, MatrixRef<S> K, Workspace& ws) const {
  const Index samples = X.rows();
  require<DimensionError>(K.rows() == samples && K.cols() == samples, "K is ", K.rows(), " x ", K.cols(),
                          " where N = ", samples);
  K.setOnes();
  Block block;
  for (Index i = 0; i < k_; i += block_size) {
    load(ws.point, i, block);
    const Index rows = ws.active.rows();  // units beyond the last are zero
    for (Index n = 0; n < samples; ++n) {
      const BlockArray z = block.u * X(n, 0) + block.b;
      const BlockArray slopes = (z > S(0)).select(block.a, S(0));
      ws.active.col(n) = z.max(S(0)).matrix().head(rows);
      ws.slopes.col(n) = slopes.matrix().head(rows);
    }
    // Entry by entry: matrix products of so few columns cost more.
    for (Index n = 0; n < samples; ++n)
      for (Index m = n; m < samples; ++m)
        K(m, n) += ws.active.col(m).dot(ws.active.col(n)) +
                   (X(m, 0) * X(n, 0) + S(1)) * ws.slopes.col(m).dot(ws.slopes.col(n));
  }
  K.template triangularView<Eigen::StrictlyUpper>() = K.transpose();
}

template <class S>
void UnivariateRelu<S>::predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
  Workspace ws = make_workspace(X);
  predict(w, X, out, ws);
}

template <class S>
void UnivariateRelu<S>::vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const {
  Workspace ws = make_workspace(X);
  Vector<S> ignored(X.rows());
  linearize(w, X, ignored, ws);
  tangent_vjp(X, r, out, ws);
}

template <class S>
void UnivariateRelu<S>::jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const {
  Workspace ws = make_workspace(X);
  linearize(w, X, out, ws);
  tangent_jvp(X, v, out, ws);
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

template <class S>
Index UnivariateRelu<S>::load(const ConstVectorRef<S>& w, Index i, Block& block) const {
  const Index count = std::min<Index>(block_size, k_ - i);
  if (count < block_size) block = Block();
  block.a.head(count) = w.segment(i, count).array();
  block.u.head(count) = w.segment(k_ + i, count).array();
  block.b.head(count) = w.segment(2 * k_ + i, count).array();
  return count;
}

template <class S>
void UnivariateRelu<S>::check_features(ConstMatrixRef<S> X) {
  require<DimensionError>(X.cols() == 1, "X has ", X.cols(), " columns where the univariate network has 1 feature");
}

template <class S>
void UnivariateRelu<S>::check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const {
  require_size("w", w.size(), num_parameters());
  check_features(X);
  require_size("the vector over samples", num_samples, X.rows());
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_UNIVARIATE_RELU(prefix, S) prefix template class UnivariateRelu<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_UNIVARIATE_RELU)
