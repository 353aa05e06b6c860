#pragma once

#include "richflow/core/concepts.hpp"
#include "richflow/core/types.hpp"

/// @file
/// One way to evaluate models with and without a workspace, for what is built on top of them.

namespace richflow::detail {

/// The workspace of a model that has none.
struct NoWorkspace {};

/// See `ModelWorkspace`.
template <class M>
struct ModelWorkspaceOf {
  using type = NoWorkspace;  ///< of a model without one
};

/// See `ModelWorkspace`.
template <HasWorkspace M>
struct ModelWorkspaceOf<M> {
  using type = typename M::Workspace;  ///< what the model says
};

/// The workspace type of any model.
template <class M>
using ModelWorkspace = typename ModelWorkspaceOf<M>::type;

/// The workspace of `model` for data X.
template <Model M>
[[nodiscard]] ModelWorkspace<M> make_model_workspace(const M& model, ConstMatrixRef<typename M::Scalar> X) {
  if constexpr (HasWorkspace<M>)
    return model.make_workspace(X);
  else
    return {};
}

/// `out = f(w, X)`.
template <Model M>
void predict(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             VectorRef<typename M::Scalar> out, ModelWorkspace<M>& ws) {
  if constexpr (HasWorkspace<M>)
    model.predict(w, X, out, ws);
  else
    model.predict(w, X, out);
}

/// `out = J(w)^T r`, after `predict` at the same w.
template <Model M>
void pullback(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
              ConstVectorRef<typename M::Scalar> r, VectorRef<typename M::Scalar> out, ModelWorkspace<M>& ws) {
  if constexpr (HasWorkspace<M>)
    model.pullback(w, X, r, out, ws);
  else
    model.vjp(w, X, r, out);
}

}  // namespace richflow::detail
