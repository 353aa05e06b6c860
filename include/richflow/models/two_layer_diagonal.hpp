#pragma once

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/linear_predictor.hpp"
#include "richflow/models/start.hpp"

namespace richflow {

/// The two-layer diagonal net with untied layers, `f(w, x) = <beta(w), x>` with `beta(w) = u_+ v_+ - u_- v_-`
/// elementwise (Azulay et al. 2021; docs/theory.md, section 2.6).
///
/// The parameters are one vector of P = 4d entries, `w = (u_+, v_+, u_-, v_-)`. `X` is N x d; the loss is the plain sum
/// of squares, so the gradient flow is `u_+' = -2 v_+ * X^T r`, `v_+' = -2 u_+ * X^T r`, and with the other sign for
/// the second pair; `u_+^2 - v_+^2` and `u_-^2 - v_-^2` are constant along it. Started at `alpha (u, v)` in both pairs,
/// a limit that fits the data is the minimizer of `Hypentropy::two_layer(u, v, alpha)` over `X beta = y`. An imbalance
/// of the layers acts like the scale: the regularizer depends on `u^2 + v^2` alone, the predictor's speed on both.
///
/// A Model, LinearPredictor, HasJvp, HasHessianProduct, HasInvariant. Immutable; no member allocates except
/// `initial_parameters` and `invariant`. Members throw DimensionError for wrong shapes. `predict`, `vjp` and `jvp` each
/// cost one product with X.
template <class S = double>
class TwoLayerDiagonalNet {
 public:
  using Scalar = S;

  /// A net on inputs of d features. Throws DimensionError for d <= 0.
  explicit TwoLayerDiagonalNet(Index d);

  /// d.
  [[nodiscard]] Index num_inputs() const { return d_; }
  /// P = 4d.
  [[nodiscard]] Index num_parameters() const { return 4 * d_; }
  /// The model is homogeneous of this degree: f(c w, x) = c^2 f(w, x).
  [[nodiscard]] static constexpr Index homogeneity() { return 2; }

  /// The weights of any start: `u = v` on both sides unless it is unbalanced. Throws DimensionError where the start is
  /// not of d entries, ArgumentError where a pair underflows to (0, 0), at which the flow would stay, or overflows
  /// (`simulate` needs no weights and has no such limit).
  [[nodiscard]] Vector<S> initial_parameters(const Start<S>& start) const;

  /// `u_+ = u_- = alpha u`, `v_+ = v_- = alpha v`: an unbiased start, f(w, .) = 0. Throws DimensionError for wrong
  /// lengths, NonFiniteError for NaN or infinity, ArgumentError where a pair is or underflows to (0, 0), at which
  /// the flow would stay, or overflows.
  [[nodiscard]] Vector<S> initial_parameters(Scale<S> scale, const Vector<S>& u, const Vector<S>& v) const;

  /// `out = u_+ v_+ - u_- v_-`, d values.
  void beta(ConstVectorRef<S> w, VectorRef<S> out) const;

  /// `out = X beta(w)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const;

  /// `out = J(w)^T r`, P values: `(v_+ * g, u_+ * g, -v_- * g, -u_- * g)`, `g = X^T r`.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const;

  /// `out = J(w) v`, N values.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const;

  /// `out = sum_n r_n (d^2 f(w, x_n) / dw^2) v`, P values: `vjp` at v, for f is quadratic in w.
  void hessian_product(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, ConstVectorRef<S> v,
                       VectorRef<S> out) const;

  /// `(u_+^2 - v_+^2, u_-^2 - v_-^2)`, 2d values: constant along every gradient flow.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const;

 private:
  /// beta_i from the differences of the pairs, which keeps its digits where the pairs are close.
  [[nodiscard]] S beta_at(ConstVectorRef<S> w, Index i) const;

  /// The derivative of beta_i at w along v.
  [[nodiscard]] S entry(ConstVectorRef<S> w, ConstVectorRef<S> v, Index i) const;

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const;

  Index d_;
};

template <class S>
TwoLayerDiagonalNet<S>::TwoLayerDiagonalNet(Index d) : d_(d) {
  require<DimensionError>(d > 0, "the two-layer diagonal net needs d > 0 features, got ", d);
}

template <class S>
Vector<S> TwoLayerDiagonalNet<S>::initial_parameters(const Start<S>& start) const {
  const Vector<S> first = start.first_weights(d_);
  const Vector<S> second = start.second_weights(d_);
  Vector<S> w(4 * d_);
  if (start.family() == StartFamily::unbalanced)
    w << first, second, first, second;
  else
    w << first, first, second, second;
  require(w.allFinite(), "log alpha = ", start.scale().log(),
          " puts the weights outside the range of the scalar type (simulate needs no weights)");
  for (Index i = 0; i < d_; ++i)
    for (const Index side : {Index(0), 2 * d_})
      require(w[side + i] != S(0) || w[side + d_ + i] != S(0), "alpha (u, v)(", i,
              ") is zero at log alpha = ", start.scale().log(),
              "; there the flow would stay (simulate needs no weights)");
  return w;
}

template <class S>
Vector<S> TwoLayerDiagonalNet<S>::initial_parameters(Scale<S> scale, const Vector<S>& u, const Vector<S>& v) const {
  require_size("u", u.size(), d_);
  require_size("v", v.size(), d_);
  return initial_parameters(Start<S>::unbalanced(scale, u, v));
}

template <class S>
void TwoLayerDiagonalNet<S>::beta(ConstVectorRef<S> w, VectorRef<S> out) const {
  require_size("w", w.size(), 4 * d_);
  require_size("out", out.size(), d_);
  for (Index i = 0; i < d_; ++i) out[i] = beta_at(w, i);
}

template <class S>
void TwoLayerDiagonalNet<S>::predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
  check(w, X, out.size());
  detail::apply_entries<S>(X, out, [&](Index i) { return beta_at(w, i); });
}

template <class S>
void TwoLayerDiagonalNet<S>::vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r,
                                 VectorRef<S> out) const {
  check(w, X, r.size());
  require_size("out", out.size(), 4 * d_);
  auto g = out.head(d_);
  g.noalias() = X.transpose() * r;
  for (Index i = 0; i < d_; ++i) {
    const S at = g[i];
    out[i] = w[d_ + i] * at;
    out[d_ + i] = w[i] * at;
    out[2 * d_ + i] = -w[3 * d_ + i] * at;
    out[3 * d_ + i] = -w[2 * d_ + i] * at;
  }
}

template <class S>
void TwoLayerDiagonalNet<S>::jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v,
                                 VectorRef<S> out) const {
  check(w, X, out.size());
  require_size("v", v.size(), 4 * d_);
  detail::apply_entries<S>(X, out, [&](Index i) { return entry(w, v, i); });
}

template <class S>
void TwoLayerDiagonalNet<S>::hessian_product(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r,
                                             ConstVectorRef<S> v, VectorRef<S> out) const {
  require_size("w", w.size(), 4 * d_);
  require_size("v", v.size(), 4 * d_);
  vjp(v, X, r, out);
}

template <class S>
Vector<S> TwoLayerDiagonalNet<S>::invariant(ConstVectorRef<S> w) const {
  require_size("w", w.size(), 4 * d_);
  Vector<S> out(2 * d_);
  for (Index i = 0; i < d_; ++i) {
    out[i] = (w[i] - w[d_ + i]) * (w[i] + w[d_ + i]);
    out[d_ + i] = (w[2 * d_ + i] - w[3 * d_ + i]) * (w[2 * d_ + i] + w[3 * d_ + i]);
  }
  return out;
}

template <class S>
S TwoLayerDiagonalNet<S>::beta_at(ConstVectorRef<S> w, Index i) const {
  const S u_plus = w[i];
  const S v_plus = w[d_ + i];
  const S u_minus = w[2 * d_ + i];
  const S v_minus = w[3 * d_ + i];
  return ((u_plus - u_minus) * (v_plus + v_minus) + (u_plus + u_minus) * (v_plus - v_minus)) / S(2);
}

template <class S>
S TwoLayerDiagonalNet<S>::entry(ConstVectorRef<S> w, ConstVectorRef<S> v, Index i) const {
  const S plus = w[i] * v[d_ + i] + w[d_ + i] * v[i];
  return plus - (w[2 * d_ + i] * v[3 * d_ + i] + w[3 * d_ + i] * v[2 * d_ + i]);
}

template <class S>
void TwoLayerDiagonalNet<S>::check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const {
  require_size("w", w.size(), 4 * d_);
  require<DimensionError>(X.cols() == d_, "X has ", X.cols(), " columns where the net has d = ", d_, " features");
  require_size("the vector over samples", num_samples, X.rows());
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_TWO_LAYER_DIAGONAL(prefix, S) prefix template class TwoLayerDiagonalNet<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TWO_LAYER_DIAGONAL)
