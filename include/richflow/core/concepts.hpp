#pragma once

#include <concepts>
#include <type_traits>

#include "richflow/core/has_member.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

/// @file
/// What richflow asks of the types that plug into it. No base classes and no registration: a plain
/// class with the named members fits. What richflow takes as a template argument (a model, a mirror map, a vector
/// field, a stepper) has an `explain_...` function, one sentence per member, that the entry points call first,
/// so that a missing member costs one readable line. An optional member that is there and does not fit does not compile
/// either: it would never be called, and nobody would know.

namespace richflow {

/// A model `f(w, x)` of fixed shape. The parameters `w` are arguments, never members.
///
/// - `Scalar`, `num_parameters()` = P
/// - `predict(w, X, out)`: `out` = f(w, X), N values
/// - `vjp(w, X, r, out)`: `out` = J(w)^T r, P values, J the N x P Jacobian of `predict`
template <class M>
concept Model = requires(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
                         ConstVectorRef<typename M::Scalar> r, VectorRef<typename M::Scalar> out) {
  { model.num_parameters() } -> std::convertible_to<Index>;
  model.predict(w, X, out);
  model.vjp(w, X, r, out);
};

/// A model with Jacobian-vector products: `jvp(w, X, v, out)`: `out` = J(w) v, N values.
template <class M>
concept HasJvp = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             ConstVectorRef<typename M::Scalar> v, VectorRef<typename M::Scalar> out) {
  model.jvp(w, X, v, out);
};

/// A model that is linear in its input, `f(w, x) = <beta(w), x>`: `beta(w, out)` writes d values,
/// `input_dimension()` = d.
template <class M>
concept LinearPredictor = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, VectorRef<typename M::Scalar> out) {
  { model.input_dimension() } -> std::convertible_to<Index>;
  model.beta(w, out);
};

/// A model whose gradient flow conserves something: `invariant(w)` returns a vector that is constant
/// in time along every gradient flow of the model.
template <class M>
concept HasInvariant = Model<M> && requires(const M& model, ConstVectorRef<typename M::Scalar> w) {
  { model.invariant(w) } -> std::convertible_to<Vector<typename M::Scalar>>;
};

/// A model that evaluates in memory of its own, made once for the data X, so that a run allocates nothing.
/// `X` in the calls must be the one that the workspace was made for.
///
/// - `Workspace`, `make_workspace(X)`
/// - `predict(w, X, out, ws)`: `out` = f(w, X), and `ws` holds what `pullback` needs
/// - `pullback(w, X, r, out, ws)`: `out` = J(w)^T r, at the w of the last `predict` with this workspace
template <class M>
concept HasWorkspace = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             ConstVectorRef<typename M::Scalar> r, VectorRef<typename M::Scalar> out, typename M::Workspace& ws) {
  { model.make_workspace(X) } -> std::same_as<typename M::Workspace>;
  model.predict(w, X, out, ws);
  model.pullback(w, X, r, out, ws);
};

/// A model that knows the structure of its tangent space: products with the Jacobian J at one point, many times.
///
/// - `linearize(w, X, out, ws)`: `out` = f(w, X); from here on the members below are at this w
/// - `tangent_vjp(X, r, out, ws)`: `out` = J^T r, P values
/// - `tangent_jvp(X, v, out, ws)`: `out` = J v, N values
/// - `tangent_kernel(X, K, ws)`: `K` = J J^T, N x N, both triangles
template <class M>
concept HasTangent = HasWorkspace<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             VectorRef<typename M::Scalar> out, MatrixRef<typename M::Scalar> K, typename M::Workspace& ws) {
  model.linearize(w, X, out, ws);
  model.tangent_vjp(X, w, out, ws);
  model.tangent_jvp(X, w, out, ws);
  model.tangent_kernel(X, K, ws);
};

/// A model made of units (neurons) that can grow from almost nothing, each by its own rate: errors of a step must be
/// small relative to the unit they are in. `num_units()`, and `unit_square_norms(v, out)`, which writes for every unit
/// the sum of the squares of those entries of v (P values) that belong to it. A parameter may belong to two units
/// (the weight between two neurons) or to none (a bias of the output).
template <class M>
concept HasUnits = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> v, VectorRef<typename M::Scalar> out) {
  { model.num_units() } -> std::convertible_to<Index>;
  model.unit_square_norms(v, out);
};

/// A model with K outputs per sample, evaluated batch by batch: what mini-batch training runs on. A batch X is B x d
/// (B at most the `max_batch` that the workspace was made for), its outputs F are B x K.
///
/// - `Scalar`, `num_parameters()` = P, `input_features()` = d, `num_outputs()` = K
/// - `BatchWorkspace`, `make_batch_workspace(max_batch)`: all memory, so that the calls below allocate nothing
/// - `forward(w, X, F, ws)`: `F` = f(w, X), and `ws` holds what `add_pullback` needs
/// - `add_pullback(w, X, G, scale, target, ws)`: `target += scale * sum_n J_n(w)^T G_n`, P values, at the w and X of
///   the last `forward`; `target` may be the memory of w itself, which makes a step of descent one pass over the
///   parameters
template <class M>
concept BatchModel = requires(const M& model, ConstVectorRef<typename M::Scalar> w,
                              ConstMatrixRef<typename M::Scalar> X, MatrixRef<typename M::Scalar> F,
                              VectorRef<typename M::Scalar> target, typename M::Scalar scale,
                              typename M::BatchWorkspace& ws) {
  { model.num_parameters() } -> std::convertible_to<Index>;
  { model.input_features() } -> std::convertible_to<Index>;
  { model.num_outputs() } -> std::convertible_to<Index>;
  { model.make_batch_workspace(Index(1)) } -> std::same_as<typename M::BatchWorkspace>;
  model.forward(w, X, F, ws);
  model.add_pullback(w, X, X, scale, target, ws);
};

/// A BatchModel with Jacobian-vector products: `forward_jvp(w, X, v, dF, ws)`: `dF` = J(w) v, B x K, at the w and X of
/// the last `forward`.
template <class M>
concept HasBatchJvp = BatchModel<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             MatrixRef<typename M::Scalar> F, typename M::BatchWorkspace& ws) {
  model.forward_jvp(w, X, w, F, ws);
};

/// A BatchModel whose work on one batch threads can share, with the same results for any number of them:
/// `make_batch_workspace(max_batch, parallel)`.
template <class M>
concept HasParallelBatches = BatchModel<M> && requires(const M& model, ParallelOptions parallel) {
  { model.make_batch_workspace(Index(1), parallel) } -> std::same_as<typename M::BatchWorkspace>;
};

/// A BatchModel that goes from a step of descent on to the next batch with fewer passes over its parameters:
/// `descend_and_forward(w, X, G, scale, X_next, F_next, ws)` is `add_pullback(w, X, G, scale, w, ws)`, then
/// `forward(w, X_next, F_next, ws)`, with the same results bit for bit.
template <class M>
concept HasDescent = BatchModel<M> &&
    requires(const M& model, VectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             MatrixRef<typename M::Scalar> F, typename M::Scalar scale, typename M::BatchWorkspace& ws) {
  model.descend_and_forward(w, X, X, scale, X, F, ws);
};

/// An ordinary differential equation `y' = F(t, y)`: `dimension()`, and a call that writes `dy`.
template <class P>
concept VectorField = requires(const P& problem, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
                               VectorRef<typename P::Scalar> dy) {
  { problem.dimension() } -> std::convertible_to<Index>;
  problem(t, y, dy);
};

/// A vector field with a loss that it descends: `loss(y)`.
template <class P>
concept HasLoss = VectorField<P> && requires(const P& problem, ConstVectorRef<typename P::Scalar> y) {
  { problem.loss(y) } -> std::convertible_to<typename P::Scalar>;
};

/// The gradient flow of a model on data, opened up: `num_residuals()` = N, `residual(w, r)`,
/// `vjp(w, r, out)` = J^T r, and the flow itself, `w' = -2 J^T r`.
template <class P>
concept TangentFlow = HasLoss<P> && requires(const P& problem, ConstVectorRef<typename P::Scalar> w,
                                             ConstVectorRef<typename P::Scalar> r, VectorRef<typename P::Scalar> out) {
  { problem.num_residuals() } -> std::convertible_to<Index>;
  problem.residual(w, out);
  problem.vjp(w, r, out);
};

/// A stiff vector field with an exact symmetric Jacobian `F_y = -S`, S positive semidefinite, the form
/// of every gradient flow of a convex function: `negative_jacobian(t, y, S)` writes the lower triangle
/// of the dense matrix S.
template <class P>
concept SymmetricStiffField = VectorField<P> &&
    requires(const P& problem, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
             MatrixRef<typename P::Scalar> S) {
  problem.negative_jacobian(t, y, S);
};

/// A separable convex regularizer `Q(beta)` on R^d.
template <class R>
concept Regularizer = requires(const R& regularizer, ConstVectorRef<typename R::Scalar> beta,
                               VectorRef<typename R::Scalar> out) {
  { regularizer.dimension() } -> std::convertible_to<Index>;
  { regularizer.value(beta) } -> std::convertible_to<typename R::Scalar>;
  regularizer.gradient(beta, out);
};

/// A regularizer whose gradient inverts in closed form: the extension point of the solve road. From
/// these members richflow derives the minimizer of `Q` subject to `X beta = y` for any scale, its
/// certificate and the dual flow.
///
/// With `z = grad Q(beta)`, the d mirror variables (on the interpolating path `z = X^T nu`):
/// - `mirror(z, beta, curvature)`: `beta = (grad Q)^{-1}(z)` and `curvature = d beta / d z > 0`
/// - `conjugate(z)`: `Q*(z) = sup_beta <z, beta> - Q(beta)`
/// - `max_step(z, dz)`: the largest t such that `z + s dz` is in the domain for all s in [0, t)
/// - `scale()`, `with_scale(scale)`: the initialization scale, and the same regularizer at another one
/// - `homogeneity()`: the p with `beta = alpha^p * (a function of z alone)`; 2 for the squared net, D at depth D
/// - `dual_rate()`: the constant c in the dual flow `nu' = -c (X beta(X^T nu) - y)` for the plain-sum loss
template <class R>
concept MirrorMap = Regularizer<R> &&
    requires(const R& regularizer, ConstVectorRef<typename R::Scalar> z, VectorRef<typename R::Scalar> out,
             BasicScale<typename R::Scalar> scale) {
  regularizer.mirror(z, out, out);
  { regularizer.conjugate(z) } -> std::convertible_to<typename R::Scalar>;
  { regularizer.max_step(z, z) } -> std::convertible_to<typename R::Scalar>;
  { regularizer.scale() } -> std::convertible_to<BasicScale<typename R::Scalar>>;
  { regularizer.with_scale(scale) } -> std::convertible_to<R>;
  { regularizer.homogeneity() } -> std::convertible_to<typename R::Scalar>;
  { regularizer.dual_rate() } -> std::convertible_to<typename R::Scalar>;
};

/// A mirror map whose z lives between bounds at which beta becomes infinite, so that near them only the distance
/// from the bound has the digits that determine beta. With `below` = z - lower bound, `above` = upper bound - z:
/// - `bounds(z, below, above)`: the distances of z
/// - `mirror(z, below, above, beta, curvature)` and `gradient(beta, z, below, above)`: the members of a MirrorMap,
///   working from and giving the distances, each accurate relative to itself
template <class R>
concept BoundedMirrorMap = MirrorMap<R> &&
    requires(const R& regularizer, ConstVectorRef<typename R::Scalar> in, VectorRef<typename R::Scalar> out) {
  regularizer.bounds(in, out, out);
  regularizer.mirror(in, in, in, out, out);
  regularizer.gradient(in, out, out, out);
};

namespace detail {

/// See `ScalarOfT`.
template <class T>
struct ScalarOf {
  using type = double;  ///< for want of a better one
};

/// See `ScalarOfT`.
template <class T>
requires requires { typename T::Scalar; }
struct ScalarOf<T> {
  using type = typename T::Scalar;  ///< what it says
};

/// Number type of a problem or a model; double for one that names none, which `explain_...` then reports.
template <class T>
using ScalarOfT = typename ScalarOf<T>::type;

RICHFLOW_DEFINE_HAS_MEMBER(beta)
RICHFLOW_DEFINE_HAS_MEMBER(bounds)
RICHFLOW_DEFINE_HAS_MEMBER(descend_and_forward)
RICHFLOW_DEFINE_HAS_MEMBER(forward_jvp)
RICHFLOW_DEFINE_HAS_MEMBER(invariant)
RICHFLOW_DEFINE_HAS_MEMBER(jvp)
RICHFLOW_DEFINE_HAS_MEMBER(linearize)
RICHFLOW_DEFINE_HAS_MEMBER(loss)
RICHFLOW_DEFINE_HAS_MEMBER(make_workspace)
RICHFLOW_DEFINE_HAS_MEMBER(negative_jacobian)
RICHFLOW_DEFINE_HAS_MEMBER(num_units)
RICHFLOW_DEFINE_HAS_MEMBER(pullback)
RICHFLOW_DEFINE_HAS_MEMBER(tangent_jvp)
RICHFLOW_DEFINE_HAS_MEMBER(tangent_kernel)
RICHFLOW_DEFINE_HAS_MEMBER(tangent_vjp)
RICHFLOW_DEFINE_HAS_MEMBER(unit_square_norms)

/// A model with its own way to the kernel of many samples in little memory: `tangent_kernel(w, X, K)`.
template <class M>
concept HasLeanTangentKernel = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
             MatrixRef<typename M::Scalar> K) {
  model.tangent_kernel(w, X, K);
};

/// One sentence for each optional member of a Model that is there and does not fit.
template <Model M>
constexpr void explain_optional_members() {
  static_assert(HasJvp<M> || !Has_jvp<M>,
                "richflow: the model's jvp does not fit: `void jvp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, "
                "ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const`, writing the N values J(w) v");
  static_assert(HasUnits<M> || !(Has_num_units<M> || Has_unit_square_norms<M>),
                "richflow: the model's units do not fit: `Index num_units() const` and `void unit_square_norms("
                "ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const`, writing one number per unit");
  static_assert(LinearPredictor<M> || !Has_beta<M>,
                "richflow: the model's beta does not fit: `void beta(ConstVectorRef<Scalar> w, VectorRef<Scalar> out) "
                "const`, writing d values, and `Index input_dimension() const` = d");
  static_assert(
      HasInvariant<M> || !Has_invariant<M>,
      "richflow: the model's invariant does not fit: `Vector<Scalar> invariant(ConstVectorRef<Scalar> w) const`");
  static_assert(HasWorkspace<M> || !(Has_make_workspace<M> || Has_pullback<M>),
                "richflow: the model's workspace does not fit: a type `Workspace`, `Workspace make_workspace("
                "ConstMatrixRef<Scalar> X) const`, and predict(w, X, out, ws) and pullback(w, X, r, out, ws)");
  static_assert(
      HasTangent<M> || !(Has_linearize<M> || Has_tangent_vjp<M> || Has_tangent_jvp<M>),
      "richflow: the model's tangent space does not fit: a workspace (HasWorkspace), and linearize(w, X, out, "
      "ws), tangent_vjp(X, r, out, ws), tangent_jvp(X, v, out, ws) and tangent_kernel(X, K, ws)");
  static_assert(HasTangent<M> || HasLeanTangentKernel<M> || !Has_tangent_kernel<M>,
                "richflow: the model's tangent_kernel does not fit: `void tangent_kernel(ConstVectorRef<Scalar> w, "
                "ConstMatrixRef<Scalar> X, MatrixRef<Scalar> K) const`, or that of HasTangent");
}

}  // namespace detail

/// True for a Model; otherwise does not compile, with one sentence per member that is missing or does not fit.
template <class M>
consteval bool explain_model() {
  if constexpr (Model<M>) detail::explain_optional_members<M>();
  static_assert(
      requires { typename M::Scalar; }, "richflow: the model must name its number type: `using Scalar = double;`");
  if constexpr (requires { typename M::Scalar; }) {
    using S = typename M::Scalar;
    static_assert(
        requires(const M& m) {
          { m.num_parameters() } -> std::convertible_to<Index>;
        },
        "richflow: the model must have a const member `Index num_parameters() const`, the length of w");
    static_assert(
        requires(const M& m, ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) { m.predict(w, X, out); },
        "richflow: the model must have a const member `void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> "
        "X, "
        "VectorRef<Scalar> out) const`, writing the N values f(w, X)");
    static_assert(
        requires(const M& m, ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) { m.vjp(w, X, w, out); },
        "richflow: the model must have a const member `void vjp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, "
        "ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const`, writing the P values J(w)^T r");
  }
  return true;
}

/// True for a BatchModel; otherwise, or with an optional member that does not fit, does not compile, with one sentence.
template <class M>
consteval bool explain_batch_model() {
  // Not the concept itself: the compiler would list its requirements.
  constexpr bool fits = BatchModel<M>;
  static_assert(fits,
                "richflow: mini-batch training and `evaluate` need a BatchModel: num_parameters(), input_features(), "
                "num_outputs(), a type BatchWorkspace with make_batch_workspace(max_batch), forward(w, X, F, ws) and "
                "add_pullback(w, X, G, scale, target, ws), all const");
  if constexpr (BatchModel<M>) {
    static_assert(HasBatchJvp<M> || !detail::Has_forward_jvp<M>,
                  "richflow: the model's forward_jvp does not fit: `void forward_jvp(ConstVectorRef<Scalar> w, "
                  "ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> v, MatrixRef<Scalar> dF, BatchWorkspace&) const`");
    static_assert(HasDescent<M> || !detail::Has_descend_and_forward<M>,
                  "richflow: the model's descend_and_forward does not fit: `void descend_and_forward(VectorRef<Scalar> "
                  "w, ConstMatrixRef<Scalar> X, ConstMatrixRef<Scalar> G, Scalar scale, ConstMatrixRef<Scalar> X_next, "
                  "MatrixRef<Scalar> F_next, BatchWorkspace&) const`");
  }
  return true;
}

/// True for a MirrorMap; otherwise does not compile, with one sentence per missing member.
template <class R>
consteval bool explain_mirror_map() {
  static_assert(
      requires { typename R::Scalar; }, "richflow: the mirror map must name its number type: `using Scalar = double;`");
  if constexpr (requires { typename R::Scalar; }) {
    using S = typename R::Scalar;
    static_assert(
        requires(const R& q) {
          { q.dimension() } -> std::convertible_to<Index>;
        },
        "richflow: the mirror map must have a const member `Index dimension() const`, the length of beta");
    static_assert(
        requires(const R& q, ConstVectorRef<S> beta) {
          { q.value(beta) } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar value(ConstVectorRef<Scalar> beta) const`, Q(beta)");
    static_assert(
        requires(const R& q, ConstVectorRef<S> beta, VectorRef<S> out) { q.gradient(beta, out); },
        "richflow: the mirror map must have a const member `void gradient(ConstVectorRef<Scalar> beta, "
        "VectorRef<Scalar> out) const`, writing grad Q(beta)");
    static_assert(
        requires(const R& q, ConstVectorRef<S> z, VectorRef<S> out) { q.mirror(z, out, out); },
        "richflow: the mirror map must have a const member `void mirror(ConstVectorRef<Scalar> z, VectorRef<Scalar> "
        "beta, VectorRef<Scalar> curvature) const`, writing beta = (grad Q)^{-1}(z) and d beta / d z");
    static_assert(
        requires(const R& q, ConstVectorRef<S> z) {
          { q.conjugate(z) } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar conjugate(ConstVectorRef<Scalar> z) const`, Q*(z)");
    static_assert(
        requires(const R& q, ConstVectorRef<S> z) {
          { q.max_step(z, z) } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar max_step(ConstVectorRef<Scalar> z, "
        "ConstVectorRef<Scalar> dz) const`, how far z may go along dz");
    static_assert(
        requires(const R& q) {
          { q.scale() } -> std::convertible_to<BasicScale<S>>;
        },
        "richflow: the mirror map must have a const member `BasicScale<Scalar> scale() const`");
    static_assert(
        requires(const R& q, BasicScale<S> scale) {
          { q.with_scale(scale) } -> std::convertible_to<R>;
        },
        "richflow: the mirror map must have a const member `with_scale(BasicScale<Scalar>) const`, itself at another "
        "scale");
    static_assert(
        requires(const R& q) {
          { q.homogeneity() } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar homogeneity() const`, the p with beta ~ alpha^p at "
        "constant z");
    static_assert(
        requires(const R& q) {
          { q.dual_rate() } -> std::convertible_to<S>;
        },
        "richflow: the mirror map must have a const member `Scalar dual_rate() const`, the rate c of its dual flow");
  }
  if constexpr (MirrorMap<R>)
    static_assert(BoundedMirrorMap<R> || !detail::Has_bounds<R>,
                  "richflow: the bounds of the mirror map do not fit: `void bounds(z, below, above) const`, "
                  "mirror(z, below, above, beta, curvature) and gradient(beta, z, below, above) (BoundedMirrorMap)");
  return true;
}

}  // namespace richflow
