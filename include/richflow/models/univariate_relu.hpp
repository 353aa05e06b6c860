#pragma once

#include <algorithm>
#include <cmath>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// Memory in which a UnivariateRelu evaluates N samples: two k x N matrices.
template <class S>
struct UnivariateReluWorkspace {
  Matrix<S> active = {};  // [u_i x_n + b_i]_+
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
  explicit UnivariateRelu(Index k) : k_(k) {
    require<DimensionError>(k > 0, "the univariate ReLU network needs width k > 0, got ", k);
  }

  /// k.
  [[nodiscard]] Index width() const { return k_; }
  /// P = 3 k + 1.
  [[nodiscard]] Index num_parameters() const { return 3 * k_ + 1; }

  /// `alpha w0` with u, b ~ N(0, 1) and a ~ N(0, 2 / k) (variance), c = 0; then the first layer (u, b) times
  /// `k^-shift` and the second (a) times `k^shift`: shift = 0, 1/2, 1/4 in panels a, b, c of Figure 7. Throws
  /// ArgumentError unless shift is finite and alpha is in the range of the scalar type.
  [[nodiscard]] Vector<S> initial_parameters(RandomStream& random, BasicScale<S> scale, S shift = S(0)) const {
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

  /// Memory for N = X.rows() samples.
  [[nodiscard]] Workspace make_workspace(ConstMatrixRef<S> X) const {
    check_features(X);
    return {Matrix<S>::Zero(k_, X.rows()), Matrix<S>::Zero(k_, X.rows())};
  }

  /// `out = f(w, X)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const {
    check(w, X, out.size());
    for (Index n = 0; n < X.rows(); ++n) {
      auto active = ws.active.col(n);
      active = (second(w) * X(n, 0) + third(w)).cwiseMax(S(0));
      out[n] = first(w).dot(active) + w[3 * k_];
    }
  }

  /// `out = J(w)^T r`, P values, at the w of the last `predict` with this workspace.
  void pullback(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const {
    find_slopes(w, ws);
    tangent_vjp(X, r, out, ws);
  }

  /// `out = f(w, X)`; from here on `tangent_vjp`, `tangent_jvp` and `tangent_kernel` are at w.
  void linearize(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out, Workspace& ws) const {
    predict(w, X, out, ws);
    find_slopes(w, ws);
  }

  /// `out = J^T r`, P values, where the workspace was linearized.
  void tangent_vjp(ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out, Workspace& ws) const {
    require_size("r", r.size(), X.rows());
    require_size("out", out.size(), num_parameters());
    out.setZero();
    for (Index n = 0; n < X.rows(); ++n) {
      out.segment(0, k_) += r[n] * ws.active.col(n);
      out.segment(k_, k_) += (r[n] * X(n, 0)) * ws.slopes.col(n);
      out.segment(2 * k_, k_) += r[n] * ws.slopes.col(n);
    }
    out[3 * k_] = r.sum();
  }

  /// `out = J v`, N values, where the workspace was linearized.
  void tangent_jvp(ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out, Workspace& ws) const {
    require_size("v", v.size(), num_parameters());
    require_size("out", out.size(), X.rows());
    for (Index n = 0; n < X.rows(); ++n)
      out[n] = ws.active.col(n).dot(first(v)) + ws.slopes.col(n).dot(second(v) * X(n, 0) + third(v)) + v[3 * k_];
  }

  /// `K = J J^T`, N x N, where the workspace was linearized.
  void tangent_kernel(ConstMatrixRef<S> X, MatrixRef<S> K, Workspace& ws) const {
    const Index n = X.rows();
    require<DimensionError>(K.rows() == n && K.cols() == n, "K is ", K.rows(), " x ", K.cols(), " where N = ", n);
    K.noalias() = ws.slopes.transpose() * ws.slopes;
    for (Index j = 0; j < n; ++j) K.col(j).array() *= X(j, 0) * X.col(0).array() + S(1);
    K.noalias() += ws.active.transpose() * ws.active;
    K.array() += S(1);
  }

  /// `out = f(w, X)`, N values. Allocates a workspace.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
    Workspace ws = make_workspace(X);
    predict(w, X, out, ws);
  }

  /// `out = J(w)^T r`, P values. Allocates a workspace.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const {
    Workspace ws = make_workspace(X);
    Vector<S> ignored(X.rows());
    linearize(w, X, ignored, ws);
    tangent_vjp(X, r, out, ws);
  }

  /// `out = J(w) v`, N values. Allocates a workspace.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const {
    Workspace ws = make_workspace(X);
    linearize(w, X, out, ws);
    tangent_jvp(X, v, out, ws);
  }

  /// k.
  [[nodiscard]] Index num_units() const { return k_; }

  /// The squared norm of (a_i, u_i, b_i) of v for every unit.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const {
    require_size("the parameter vector", v.size(), num_parameters());
    require_size("out", out.size(), k_);
    out.array() = first(v).array().square() + second(v).array().square() + third(v).array().square();
  }

  /// `u_i^2 + b_i^2 - a_i^2`, k values: constant along every gradient flow.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const {
    require_size("w", w.size(), num_parameters());
    return second(w).array().square() + third(w).array().square() - first(w).array().square();
  }

 private:
  // The parts a, u, b of a parameter vector.
  auto first(const ConstVectorRef<S>& w) const { return w.segment(0, k_); }
  auto second(const ConstVectorRef<S>& w) const { return w.segment(k_, k_); }
  auto third(const ConstVectorRef<S>& w) const { return w.segment(2 * k_, k_); }

  void find_slopes(ConstVectorRef<S> w, Workspace& ws) const {
    for (Index n = 0; n < ws.active.cols(); ++n)
      ws.slopes.col(n) = (ws.active.col(n).array() > S(0)).select(first(w), S(0));
  }

  static void check_features(ConstMatrixRef<S> X) {
    require<DimensionError>(X.cols() == 1, "X has ", X.cols(), " columns where the univariate network has 1 feature");
  }

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const {
    require_size("w", w.size(), num_parameters());
    check_features(X);
    require_size("the vector over samples", num_samples, X.rows());
  }

  Index k_;
};

static_assert(HasJvp<UnivariateRelu<double>>);
static_assert(HasInvariant<UnivariateRelu<double>>);
static_assert(HasTangent<UnivariateRelu<double>>);
static_assert(HasUnits<UnivariateRelu<double>>);

}  // namespace richflow
