#pragma once

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/evaluation.hpp"

namespace richflow {

namespace detail {

/// The tangent space of a model at one point, in memory made once for data X: the structure that the model offers
/// (HasTangent), or else the P x N matrix J^T. Every call takes the same model and X.
template <Model M>
struct TangentSpace {
  using Scalar = typename M::Scalar;

  ModelWorkspace<M> ws = {};       // where the model has structure
  Matrix<Scalar> transposed = {};  // else J^T
  Matrix<Scalar> sample = {};
  Vector<Scalar> one = {};

  TangentSpace() = default;

  TangentSpace(const M& model, ConstMatrixRef<Scalar> X) {
    if constexpr (HasTangent<M>) {
      ws = model.make_workspace(X);
    } else {
      transposed.setZero(model.num_parameters(), X.rows());
      sample.setZero(1, X.cols());
      one.setOnes(1);
    }
  }

  void linearize(const M& model, ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, VectorRef<Scalar> prediction) {
    if constexpr (HasTangent<M>) {
      model.linearize(w, X, prediction, ws);
    } else {
      model.predict(w, X, prediction);
      for (Index n = 0; n < X.rows(); ++n) {
        sample = X.row(n);
        model.vjp(w, sample, one, transposed.col(n));
      }
    }
  }

  void vjp(const M& model, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) {
    if constexpr (HasTangent<M>)
      model.tangent_vjp(X, r, out, ws);
    else
      matrix_product<Scalar>(transposed, r, out);
  }

  void jvp(const M& model, ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) {
    if constexpr (HasTangent<M>)
      model.tangent_jvp(X, v, out, ws);
    else
      product_of_transposed<Scalar>(transposed, v, out);
  }

  void kernel(const M& model, ConstMatrixRef<Scalar> X, MatrixRef<Scalar> K) {
    if constexpr (HasTangent<M>)
      model.tangent_kernel(X, K, ws);
    else
      product_of_transposed<Scalar>(transposed, transposed, K);
  }
};

}  // namespace detail

/// The tangent space of a model on data X at one point w: `f(w, X)`, products with the N x P Jacobian J and the tangent
/// kernel `K = J J^T`. All memory is made once, so that moving to another w allocates nothing.
///
///     Tangent tangent(model, X);
///     tangent.linearize(w);
///     tangent.kernel(K);
///
/// A model that knows its structure (HasTangent) is asked for it; for any other the P x N matrix J^T is kept, at the
/// cost of N calls of its `vjp` per point. Refers to the model and to X, which must outlive it.
template <class M>
requires(explain_model<M>()) class Tangent {
 public:
  using Scalar = typename M::Scalar;

  /// Memory for `model` on X (N x d). Throws DimensionError for N = 0.
  Tangent(const M& model, const Matrix<Scalar>& X)
      : model_(&model), X_(&X), prediction_(Vector<Scalar>::Zero(X.rows())), space_(model, X) {
    require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  }
  Tangent(const M&&, const Matrix<Scalar>&) = delete;
  Tangent(const M&, const Matrix<Scalar>&&) = delete;

  /// N.
  [[nodiscard]] Index num_samples() const { return prediction_.size(); }
  /// P.
  [[nodiscard]] Index num_parameters() const { return model_->num_parameters(); }

  /// Moves to w; what follows is there. Throws DimensionError unless w has P entries.
  void linearize(ConstVectorRef<Scalar> w) {
    require_size("w", w.size(), model_->num_parameters());
    space_.linearize(*model_, w, *X_, prediction_);
  }

  /// f(w, X), N values.
  [[nodiscard]] const Vector<Scalar>& prediction() const { return prediction_; }
  /// `out = J^T r`, P values.
  void vjp(ConstVectorRef<Scalar> r, VectorRef<Scalar> out) { space_.vjp(*model_, *X_, r, out); }
  /// `out = J v`, N values.
  void jvp(ConstVectorRef<Scalar> v, VectorRef<Scalar> out) { space_.jvp(*model_, *X_, v, out); }
  /// `K = J J^T`, N x N, both triangles.
  void kernel(MatrixRef<Scalar> K) { space_.kernel(*model_, *X_, K); }

 private:
  const M* model_;
  const Matrix<Scalar>* X_;
  Vector<Scalar> prediction_;
  detail::TangentSpace<M> space_;
};

}  // namespace richflow
