#pragma once

#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/kernel/tangent.hpp"

namespace richflow {

/// Memory of a Linearized model: the tangent space at w0 and `f(w0, X)`, computed once.
template <Model M>
struct LinearizedWorkspace {
  detail::TangentSpace<M> tangent = {};
  Vector<typename M::Scalar> start = {};  // f(w0, X)
  Vector<typename M::Scalar> moved = {};  // w - w0
};

namespace detail {

/// What a Linearized model needs for batches: nothing where the model does not evaluate them.
template <class M>
struct LinearizedBatchWorkspace {};

template <HasBatchJvp M>
struct LinearizedBatchWorkspace<M> {
  typename M::BatchWorkspace model;
  Vector<typename M::Scalar> moved;   // w - w0
  Matrix<typename M::Scalar> change;  // max_batch x K
};

}  // namespace detail

/// The tangent model of a model at w0, `f_lin(w, x) = f(w0, x) + J(w0, x) (w - w0)`: linear in w, with the constant
/// tangent kernel `J(w0) J(w0)^T`. Its gradient flow is the kernel regime, whose whole trajectory `KernelPredictor`
/// gives in closed form.
///
/// A Model, HasJvp, HasWorkspace and HasTangent; HasUnits where f is; HasBatchJvp where f has, which
/// trains the tangent model by Jacobian-vector products, no Jacobian being stored. Without a workspace each call
/// linearizes f anew.
template <class M>
requires(explain_model<M>() && Model<M>) class Linearized {
 public:
  using Scalar = typename M::Scalar;
  /// Optional members of what is inside are its own.
  static constexpr bool has_conditional_members = true;
  using Workspace = LinearizedWorkspace<M>;
  using BatchWorkspace = detail::LinearizedBatchWorkspace<M>;

  /// The tangent of `model` at `w0`. Throws DimensionError unless w0 has P entries, NonFiniteError if one is not
  /// finite.
  Linearized(M model, Vector<Scalar> w0) : model_(std::move(model)), w0_(std::move(w0)) {
    require_size("w0", w0_.size(), model_.num_parameters());
    require_finite("w0", w0_);
  }

  /// The model that was linearized.
  [[nodiscard]] const M& model() const { return model_; }
  /// Where.
  [[nodiscard]] const Vector<Scalar>& point() const { return w0_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return model_.num_parameters(); }

  /// Memory for the samples X; linearizes f.
  [[nodiscard]] Workspace make_workspace(ConstMatrixRef<Scalar> X) const {
    Workspace ws{detail::TangentSpace<M>(model_, X), Vector<Scalar>::Zero(X.rows()), w0_};
    ws.tangent.linearize(model_, w0_, X, ws.start);
    return ws;
  }

  /// `out = f(w0, X) + J(w0) (w - w0)`, N values.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out, Workspace& ws) const {
    require_size("w", w.size(), w0_.size());
    require_size("out", out.size(), X.rows());
    ws.moved = w - w0_;
    ws.tangent.jvp(model_, X, ws.moved, out);
    out += ws.start;
  }
  /// `out = J(w0)^T r`, P values.
  void pullback(ConstVectorRef<Scalar> /*w*/, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out,
                Workspace& ws) const {
    tangent_vjp(X, r, out, ws);
  }
  /// `out = f_lin(w, X)`; the tangent space is the same everywhere.
  void linearize(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out, Workspace& ws) const {
    predict(w, X, out, ws);
  }
  /// `out = J(w0)^T r`, P values.
  void tangent_vjp(ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out, Workspace& ws) const {
    ws.tangent.vjp(model_, X, r, out);
  }
  /// `out = J(w0) v`, N values.
  void tangent_jvp(ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, VectorRef<Scalar> out, Workspace& ws) const {
    ws.tangent.jvp(model_, X, v, out);
  }
  /// `K = J(w0) J(w0)^T`, N x N.
  void tangent_kernel(ConstMatrixRef<Scalar> X, MatrixRef<Scalar> K, Workspace& ws) const {
    ws.tangent.kernel(model_, X, K);
  }

  /// `out = f(w0, X) + J(w0) (w - w0)`, N values. Allocates.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out) const {
    if constexpr (HasJvp<M>) {
      // A test set may be large, and a workspace would hold its tangent features.
      require_size("w", w.size(), w0_.size());
      require_size("out", out.size(), X.rows());
      const Vector<Scalar> moved = w - w0_;
      Vector<Scalar> change(X.rows());
      model_.predict(w0_, X, out);
      model_.jvp(w0_, X, moved, change);
      out += change;
    } else {
      Workspace ws = make_workspace(X);
      predict(w, X, out, ws);
    }
  }
  /// `out = J(w0)^T r`, P values.
  void vjp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const {
    require_size("w", w.size(), w0_.size());
    model_.vjp(w0_, X, r, out);
  }
  /// `out = J(w0) v`, N values. Allocates.
  void jvp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const {
    require_size("w", w.size(), w0_.size());
    require_size("v", v.size(), w0_.size());
    if constexpr (HasJvp<M>) {
      model_.jvp(w0_, X, v, out);
    } else {
      Workspace ws = make_workspace(X);
      tangent_jvp(X, v, out, ws);
    }
  }

  /// d.
  [[nodiscard]] Index input_features() const requires HasBatchJvp<M> { return model_.input_features(); }
  /// K.
  [[nodiscard]] Index num_outputs() const requires HasBatchJvp<M> { return model_.num_outputs(); }
  /// Memory for batches of up to `max_batch` samples.
  [[nodiscard]] BatchWorkspace make_batch_workspace(Index max_batch) const requires HasBatchJvp<M> {
    return {model_.make_batch_workspace(max_batch), w0_, Matrix<Scalar>::Zero(max_batch, model_.num_outputs())};
  }
  /// The same with threads that share the work on a batch of f.
  [[nodiscard]] BatchWorkspace make_batch_workspace(Index max_batch, ParallelOptions parallel) const requires
      HasBatchJvp<M> && HasParallelBatches<M> {
    return {model_.make_batch_workspace(max_batch, parallel), w0_,
            Matrix<Scalar>::Zero(max_batch, model_.num_outputs())};
  }
  /// `F = f(w0, X) + J(w0) (w - w0)`, B x K. Cost: a `forward` and a `forward_jvp` of f.
  void forward(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, MatrixRef<Scalar> F,
               BatchWorkspace& ws) const requires HasBatchJvp<M> {
    require_size("w", w.size(), w0_.size());
    model_.forward(w0_, X, F, ws.model);
    ws.moved = w - w0_;
    auto change = ws.change.topRows(X.rows());
    model_.forward_jvp(w0_, X, ws.moved, change, ws.model);
    F += change;
  }
  /// `target += scale * sum_n J_n(w0)^T G_n` for the X of the last `forward`; `target` may be w itself.
  void add_pullback(ConstVectorRef<Scalar> /*w*/, ConstMatrixRef<Scalar> X, ConstMatrixRef<Scalar> G, Scalar scale,
                    VectorRef<Scalar> target, BatchWorkspace& ws) const requires HasBatchJvp<M> {
    model_.add_pullback(w0_, X, G, scale, target, ws.model);
  }
  /// `dF = J(w0) v`, B x K, for the X of the last `forward`.
  void forward_jvp(ConstVectorRef<Scalar> /*w*/, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v,
                   MatrixRef<Scalar> dF, BatchWorkspace& ws) const requires HasBatchJvp<M> {
    model_.forward_jvp(w0_, X, v, dF, ws.model);
  }

  /// Units of f.
  [[nodiscard]] Index num_units() const requires HasUnits<M> { return model_.num_units(); }
  /// Per unit of f, the sum of the squares of its entries of v.
  void unit_square_norms(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasUnits<M> {
    model_.unit_square_norms(v, out);
  }

 private:
  M model_;
  Vector<Scalar> w0_;
};

}  // namespace richflow
