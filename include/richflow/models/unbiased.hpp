#pragma once

#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/evaluation.hpp"

/// @file
/// Two ways to start from the zero function without starting from zero parameters: subtract the initial function, or
/// take the difference of two copies that start alike.

namespace richflow {

/// Memory of an Unbiased model: that of the model inside, and its initial function on the data.
template <Model M>
struct UnbiasedWorkspace {
  detail::ModelWorkspace<M> inner = {};
  Vector<typename M::Scalar> start = {};  // f(w(0), X)
};

/// A model minus its initial function, `g(w, x) = f(w, x) - f(w(0), x)`: unbiased, `g(w(0), .) = 0`, with the same
/// Jacobian, tangent kernel, units and invariant as f. The flow of g on labels y is that of f on labels
/// `y + f(w(0), X)`.
///
/// A Model, HasWorkspace, and HasJvp, HasTangent, HasUnits, HasInvariant where f is. With a workspace `f(w(0), X)` is
/// computed once; without one each `predict` costs two of f.
template <Model M>
class Unbiased {
 public:
  using Scalar = typename M::Scalar;
  /// Optional members of what is inside are its own.
  static constexpr bool has_conditional_members = true;
  using Workspace = UnbiasedWorkspace<M>;

  /// `model`, less its function at `start` = w(0). Throws DimensionError unless that has P entries and NonFiniteError
  /// if one is not finite.
  Unbiased(M model, Vector<Scalar> start) : model_(std::move(model)), start_(std::move(start)) {
    require_size("start", start_.size(), model_.num_parameters());
    require_finite("start", start_);
  }

  /// The model inside, f.
  [[nodiscard]] const M& model() const { return model_; }
  /// w(0).
  [[nodiscard]] const Vector<Scalar>& start() const { return start_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return model_.num_parameters(); }

  /// Memory for the samples X; evaluates `f(w(0), X)`.
  [[nodiscard]] Workspace make_workspace(ConstMatrixRef<Scalar> X) const {
    Workspace ws{detail::make_model_workspace(model_, X), Vector<Scalar>::Zero(X.rows())};
    detail::predict(model_, start_, X, ws.start, ws.inner);
    return ws;
  }

  /// `out = f(w, X) - f(w(0), X)`, N values.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out, Workspace& ws) const {
    detail::predict(model_, w, X, out, ws.inner);
    out -= ws.start;
  }
  /// `out = J(w)^T r`, P values, at the w of the last `predict` with this workspace.
  void pullback(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out,
                Workspace& ws) const {
    detail::pullback(model_, w, X, r, out, ws.inner);
  }

  /// `out = f(w, X) - f(w(0), X)`; from here on the tangent members are at w.
  void linearize(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out,
                 Workspace& ws) const requires HasTangent<M> {
    model_.linearize(w, X, out, ws.inner);
    out -= ws.start;
  }
  /// `out = J^T r`, P values.
  void tangent_vjp(ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out,
                   Workspace& ws) const requires HasTangent<M> {
    model_.tangent_vjp(X, r, out, ws.inner);
  }
  /// `out = J v`, N values.
  void tangent_jvp(ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, VectorRef<Scalar> out,
                   Workspace& ws) const requires HasTangent<M> {
    model_.tangent_jvp(X, v, out, ws.inner);
  }
  /// `K = J J^T`, N x N.
  void tangent_kernel(ConstMatrixRef<Scalar> X, MatrixRef<Scalar> K, Workspace& ws) const requires HasTangent<M> {
    model_.tangent_kernel(X, K, ws.inner);
  }

  /// `K = J(w) J(w)^T`, N x N lower triangle at least, in as little memory as f forms it.
  void tangent_kernel(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, MatrixRef<Scalar> K) const requires
      requires(const M& model) {
    model.tangent_kernel(w, X, K);
  }
  { model_.tangent_kernel(w, X, K); }

  /// `out = f(w, X) - f(w(0), X)`, N values.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out) const {
    Vector<Scalar> initial(X.rows());
    model_.predict(start_, X, initial);
    model_.predict(w, X, out);
    out -= initial;
  }
  /// `out = J(w)^T r`, P values.
  void vjp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const {
    model_.vjp(w, X, r, out);
  }
  /// `out = J(w) v`, N values.
  void jvp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v,
           VectorRef<Scalar> out) const requires HasJvp<M> {
    model_.jvp(w, X, v, out);
  }

  /// Units of f.
  [[nodiscard]] Index num_units() const requires HasUnits<M> { return model_.num_units(); }
  /// Per unit of f, the sum of the squares of its entries of v.
  void unit_square_norms(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasUnits<M> {
    model_.unit_square_norms(v, out);
  }
  /// What the flow of f conserves.
  [[nodiscard]] Vector<Scalar> invariant(ConstVectorRef<Scalar> w) const requires HasInvariant<M> {
    return model_.invariant(w);
  }

 private:
  M model_;
  Vector<Scalar> start_;
};

/// Memory of a Doubled model: that of its two halves.
template <Model M>
struct DoubledWorkspace {
  detail::ModelWorkspace<M> first = {};
  detail::ModelWorkspace<M> second = {};
  Vector<typename M::Scalar> samples = {};
  Matrix<typename M::Scalar> kernel = {};
};

/// Two copies of a model with opposite signs, `g((w, v), x) = f(w, x) - f(v, x)`, 2 P parameters: for a network, every
/// unit doubled with opposite output signs. Started at w(0) = v(0) it is unbiased, and its tangent kernel is twice that
/// of f. Homogeneous of the same degree as f.
///
/// A Model, HasWorkspace, and HasJvp, HasTangent, HasUnits, HasInvariant where f is.
template <Model M>
class Doubled {
 public:
  using Scalar = typename M::Scalar;
  /// Optional members of what is inside are its own.
  static constexpr bool has_conditional_members = true;
  using Workspace = DoubledWorkspace<M>;

  /// Two copies of `model`.
  explicit Doubled(M model) : model_(std::move(model)), half_(model_.num_parameters()) {}

  /// The model inside, f.
  [[nodiscard]] const M& model() const { return model_; }
  /// 2 P.
  [[nodiscard]] Index num_parameters() const { return 2 * half_; }
  /// `(start, start)`, at which the predictor is zero. Throws DimensionError unless `start` has P entries.
  [[nodiscard]] Vector<Scalar> initial_parameters(const Vector<Scalar>& start) const {
    require_size("start", start.size(), half_);
    Vector<Scalar> w(2 * half_);
    w << start, start;
    return w;
  }

  /// Memory for the samples X.
  [[nodiscard]] Workspace make_workspace(ConstMatrixRef<Scalar> X) const {
    return {detail::make_model_workspace(model_, X), detail::make_model_workspace(model_, X),
            Vector<Scalar>::Zero(X.rows()), Matrix<Scalar>()};
  }

  /// `out = f(w, X) - f(v, X)`, N values.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out, Workspace& ws) const {
    require_size("w", w.size(), 2 * half_);
    detail::predict(model_, w.head(half_), X, out, ws.first);
    detail::predict(model_, w.tail(half_), X, ws.samples, ws.second);
    out -= ws.samples;
  }
  /// `out = J^T r`, 2 P values, at the parameters of the last `predict` with this workspace.
  void pullback(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out,
                Workspace& ws) const {
    require_size("out", out.size(), 2 * half_);
    detail::pullback(model_, w.head(half_), X, r, out.head(half_), ws.first);
    detail::pullback(model_, w.tail(half_), X, r, out.tail(half_), ws.second);
    out.tail(half_) *= Scalar(-1);
  }

  /// `out = f(w, X) - f(v, X)`; from here on the tangent members are at (w, v).
  void linearize(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out,
                 Workspace& ws) const requires HasTangent<M> {
    require_size("w", w.size(), 2 * half_);
    model_.linearize(w.head(half_), X, out, ws.first);
    model_.linearize(w.tail(half_), X, ws.samples, ws.second);
    out -= ws.samples;
  }
  /// `out = J^T r`, 2 P values.
  void tangent_vjp(ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out,
                   Workspace& ws) const requires HasTangent<M> {
    require_size("out", out.size(), 2 * half_);
    model_.tangent_vjp(X, r, out.head(half_), ws.first);
    model_.tangent_vjp(X, r, out.tail(half_), ws.second);
    out.tail(half_) *= Scalar(-1);
  }
  /// `out = J v`, N values.
  void tangent_jvp(ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, VectorRef<Scalar> out,
                   Workspace& ws) const requires HasTangent<M> {
    require_size("v", v.size(), 2 * half_);
    model_.tangent_jvp(X, v.head(half_), out, ws.first);
    model_.tangent_jvp(X, v.tail(half_), ws.samples, ws.second);
    out -= ws.samples;
  }
  /// `K = J J^T`, N x N, the sum of two. The first call with a workspace allocates N^2.
  void tangent_kernel(ConstMatrixRef<Scalar> X, MatrixRef<Scalar> K, Workspace& ws) const requires HasTangent<M> {
    if (ws.kernel.rows() != X.rows()) ws.kernel.resize(X.rows(), X.rows());
    model_.tangent_kernel(X, K, ws.first);
    model_.tangent_kernel(X, ws.kernel, ws.second);
    K += ws.kernel;
  }

  /// `out = f(w, X) - f(v, X)`, N values. Allocates.
  void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> out) const {
    Workspace ws = make_workspace(X);
    predict(w, X, out, ws);
  }
  /// `out = J^T r`, 2 P values.
  void vjp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const {
    require_size("w", w.size(), 2 * half_);
    require_size("out", out.size(), 2 * half_);
    model_.vjp(w.head(half_), X, r, out.head(half_));
    model_.vjp(w.tail(half_), X, r, out.tail(half_));
    out.tail(half_) *= Scalar(-1);
  }
  /// `out = J v`, N values. Allocates.
  void jvp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v,
           VectorRef<Scalar> out) const requires HasJvp<M> {
    require_size("w", w.size(), 2 * half_);
    require_size("v", v.size(), 2 * half_);
    Vector<Scalar> second(X.rows());
    model_.jvp(w.head(half_), X, v.head(half_), out);
    model_.jvp(w.tail(half_), X, v.tail(half_), second);
    out -= second;
  }

  /// Twice the units of f.
  [[nodiscard]] Index num_units() const requires HasUnits<M> { return 2 * model_.num_units(); }
  /// Per unit, those of w first, the sum of the squares of its entries of v.
  void unit_square_norms(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasUnits<M> {
    require_size("v", v.size(), 2 * half_);
    model_.unit_square_norms(v.head(half_), out.head(model_.num_units()));
    model_.unit_square_norms(v.tail(half_), out.tail(model_.num_units()));
  }
  /// What the flow of f conserves, for both copies.
  [[nodiscard]] Vector<Scalar> invariant(ConstVectorRef<Scalar> w) const requires HasInvariant<M> {
    require_size("w", w.size(), 2 * half_);
    const Vector<Scalar> first = model_.invariant(w.head(half_));
    const Vector<Scalar> second = model_.invariant(w.tail(half_));
    Vector<Scalar> both(first.size() + second.size());
    both << first, second;
    return both;
  }

 private:
  M model_;
  Index half_;
};

}  // namespace richflow
