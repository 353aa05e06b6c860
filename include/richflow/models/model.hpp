#pragma once

#include <concepts>
#include <type_traits>

#include "richflow/core/has_member.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/data/samples.hpp"

/// @file
/// What a model is. It is a shape: its parameters `w` are arguments, never members, and it has no memory. A user writes
/// a plain class with a number type and three members,
///
///     struct Quadratic {                                   // f(w, x) = <w * w, x>
///       using Scalar = double;
///       Index d;
///       [[nodiscard]] Index num_parameters() const { return d; }
///       void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const {
///         out = X * w.cwiseAbs2();
///       }
///       void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r,
///                VectorRef<double> out) const {
///         out = 2.0 * w.cwiseProduct(X.transpose() * r);
///       }
///     };
///
/// or `predict` alone, through `Autodiff`. Flows, tangent kernels, kernel predictors and trainers work with it then.
/// With K outputs per sample, `num_outputs()` = K, the outputs are N x K: `predict(w, X, F)` takes a `MatrixRef` and
/// `vjp(w, X, G, out)` a `ConstMatrixRef`, `out = sum_nk G_nk grad f_k(w, x_n)`.
///
/// A model of a matrix M, whose samples are linear measurements `<M, X_n>`, says `using Samples =
/// MatrixMeasurements<Scalar>;` and takes a `const MatrixMeasurements<Scalar>& X` in place of the matrix of rows
/// (MatrixFactorization does).
///
/// What else a model may have, and what each buys:
///
/// | member                                | what it is              | what it buys                                   |
/// |---------------------------------------|-------------------------|------------------------------------------------|
/// | `num_outputs()`                       | K                       | more than one output                           |
/// | `jvp(w, X, v, out)`                   | `out = J(w) v`          | tangent models without J in memory             |
/// | `hessian_product(w, X, r, v, out)`    | see HasHessianProduct   | exact products in `sharpness`                  |
/// | `make_evaluation(max_batch, parallel)`| an `Evaluation`         | no allocation, shared batches, kernels without |
/// |                                       |                         | J, fused steps of descent (AnyEvaluation)      |
/// | `num_inputs()`                   | d                       | data of another shape is refused               |
/// | `num_units()`, `unit_square_norms`    | see HasUnits            | correct flows deep in the rich regime          |
/// | `is_smooth`                           | see HasSmoothUnits      | fewer steps of `simulate` at fine tolerances   |
/// | `beta(w, out)`                        | see LinearPredictor     | the predictor as a vector of d values          |
/// | `invariant(w)`                        | see HasInvariant        | InvariantMonitor                               |
///
/// `testing::model_battery` checks all of them.

namespace richflow {

template <class S>
class Evaluation;

namespace detail {

template <class M>
struct SamplesOfModel {
  using type = Matrix<typename M::Scalar>;
  using argument = ConstMatrixRef<typename M::Scalar>;
};
template <class M>
requires std::is_same_v<typename M::Samples, MatrixMeasurements<typename M::Scalar>>
struct SamplesOfModel<M> {
  using type = MatrixMeasurements<typename M::Scalar>;
  using argument = const MatrixMeasurements<typename M::Scalar>&;
};

}  // namespace detail

/// What a model is evaluated on: the rows of a `Matrix`, or `MatrixMeasurements` where it says so (`M::Samples`).
template <class M>
using SamplesOf = typename detail::SamplesOfModel<M>::type;

/// The argument that its members take: `ConstMatrixRef`, or `const MatrixMeasurements&`.
template <class M>
using SamplesArgument = typename detail::SamplesOfModel<M>::argument;

/// A model of a matrix, whose samples are measurements of it.
template <class M>
inline constexpr bool takes_measurements = std::is_same_v<SamplesOf<M>, MatrixMeasurements<typename M::Scalar>>;

/// A model `f(w, x)`: its shape, its predictions and their vector-Jacobian product. The parameters `w` are arguments,
/// never members.
///
///     static_assert(Model<Quadratic>);                                // the class at the top of this file
///     simulate(Quadratic{d}, data, Vector<double>::Constant(d, 0.1))  // what it buys
///
/// - `Scalar`, `num_parameters()` = P
/// - `predict(w, X, out)`: `out` = f(w, X), N values (N x K)
/// - `vjp(w, X, r, out)`: `out` = J(w)^T r, P values, J the Jacobian of `predict`
template <class M>
concept Model = requires(const M& model, ConstVectorRef<typename M::Scalar> w, SamplesArgument<M> X,
                         ConstVectorRef<typename M::Scalar> r, VectorRef<typename M::Scalar> out) {
  { model.num_parameters() } -> std::convertible_to<Index>;
  model.predict(w, X, out);
  model.vjp(w, X, r, out);
};

namespace detail {

/// Converts to a matrix argument and to nothing else: a vector argument does not take it.
template <class S>
struct MatrixOnly {
  operator MatrixRef<S>() const;       // NOLINT: never defined
  operator ConstMatrixRef<S>() const;  // NOLINT
};

}  // namespace detail

/// A model that says how many outputs it has, `num_outputs()` = K, and whose `predict` and `vjp` take matrices.
template <class M>
concept HasOutputs = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, SamplesArgument<M> X,
             VectorRef<typename M::Scalar> out, const detail::MatrixOnly<typename M::Scalar>& F) {
  { model.num_outputs() } -> std::convertible_to<Index>;
  model.predict(w, X, F);
  model.vjp(w, X, F, out);
};

/// A model with Jacobian-vector products: `jvp(w, X, v, out)`: `out` = J(w) v, N values (N x K).
template <class M>
concept HasJvp = Model<M> && requires(const M& model, ConstVectorRef<typename M::Scalar> w, SamplesArgument<M> X,
                                      ConstVectorRef<typename M::Scalar> v, VectorRef<typename M::Scalar> out) {
  model.jvp(w, X, v, out);
  requires !HasOutputs<M> || requires(const detail::MatrixOnly<typename M::Scalar>& F) { model.jvp(w, X, v, F); };
};

/// A model that knows its second derivative: `hessian_product(w, X, r, v, out)` writes `out = sum_n r_n (d^2 f(w, x_n)
/// / dw^2) v`, P values; with K outputs it takes a `ConstMatrixRef` G, N x K, in place of r. It is the derivative of
/// `J(w)^T r` along v.
template <class M>
concept HasHessianProduct = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, SamplesArgument<M> X,
             ConstVectorRef<typename M::Scalar> r, VectorRef<typename M::Scalar> out,
             const detail::MatrixOnly<typename M::Scalar>& G) {
  model.hessian_product(w, X, r, w, out);
  requires !HasOutputs<M> || requires { model.hessian_product(w, X, G, w, out); };
};

/// A model that knows the length of its inputs: `num_inputs()` = d.
template <class M>
concept HasNumInputs = Model<M> && requires(const M& model) {
  { model.num_inputs() } -> std::convertible_to<Index>;
};

/// A model that brings its own evaluation: `make_evaluation(max_batch, parallel)`.
template <class M>
concept HasEvaluation = Model<M> && requires(const M& model, ParallelOptions parallel) {
  { model.make_evaluation(Index(1), parallel) } -> std::same_as<Evaluation<typename M::Scalar>>;
};

/// A model that is linear in its input, `f(w, x) = <beta(w), x>`: `beta(w, out)` writes d values,
/// `num_inputs()` = d.
template <class M>
concept LinearPredictor = HasNumInputs<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> w, VectorRef<typename M::Scalar> out) {
  model.beta(w, out);
};

/// A model whose gradient flow conserves something: `invariant(w)` returns a vector that is constant
/// in time along every gradient flow of the model.
template <class M>
concept HasInvariant = Model<M> && requires(const M& model, ConstVectorRef<typename M::Scalar> w) {
  { model.invariant(w) } -> std::convertible_to<Vector<typename M::Scalar>>;
};

/// A model with units (neurons) that can grow from almost nothing, each by its own rate: errors of a step must be
/// small relative to the unit they are in. `num_units()`, and `unit_square_norms(v, out)`, which writes for every unit
/// the sum of the squares of those entries of v (P values) that belong to it. A parameter may belong to two units
/// (the weight between two neurons) or to none (a bias of the output).
template <class M>
concept HasUnits = Model<M> &&
    requires(const M& model, ConstVectorRef<typename M::Scalar> v, VectorRef<typename M::Scalar> out) {
  { model.num_units() } -> std::convertible_to<Index>;
  model.unit_square_norms(v, out);
};

/// A model with units whose function has no kinks in w, as it says by `static constexpr bool is_smooth = true`:
/// steppers of higher order gain on it.
template <class M>
concept HasSmoothUnits = HasUnits<M> && requires {
  requires M::is_smooth;
};

namespace detail {

RICHFLOW_DEFINE_HAS_MEMBER(beta)
RICHFLOW_DEFINE_HAS_MEMBER(hessian_product)
RICHFLOW_DEFINE_HAS_MEMBER(num_inputs)
RICHFLOW_DEFINE_HAS_MEMBER(invariant)
RICHFLOW_DEFINE_HAS_MEMBER(is_smooth)
RICHFLOW_DEFINE_HAS_MEMBER(jvp)
RICHFLOW_DEFINE_HAS_MEMBER(make_evaluation)
RICHFLOW_DEFINE_HAS_MEMBER(num_outputs)
RICHFLOW_DEFINE_HAS_MEMBER(num_units)
RICHFLOW_DEFINE_HAS_MEMBER(unit_square_norms)

template <class M>
concept SaysWhetherSmooth = requires {
  requires M::is_smooth || !M::is_smooth;
};

/// One sentence for each optional member of a Model that is there and does not fit.
template <Model M>
constexpr void explain_optional_members() {
  static_assert(HasOutputs<M> || !Has_num_outputs<M>,
                "richflow: the model's outputs do not fit: beside `Index num_outputs() const` = K, predict must take "
                "`MatrixRef<Scalar> F` and vjp `ConstMatrixRef<Scalar> G`, both N x K");
  static_assert(HasJvp<M> || !Has_jvp<M>,
                "richflow: the model's jvp does not fit: `void jvp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, "
                "ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const`, writing the N values J(w) v (with K outputs "
                "`MatrixRef<Scalar> out`, N x K)");
  static_assert(
      HasHessianProduct<M> || !Has_hessian_product<M>,
      "richflow: the model's hessian_product does not fit: `void hessian_product(ConstVectorRef<Scalar> w, "
      "ConstMatrixRef<Scalar> X, ConstVectorRef<Scalar> r, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) "
      "const`, writing the P values sum_n r_n (d^2 f(w, x_n) / dw^2) v (with K outputs `ConstMatrixRef<Scalar> "
      "G` for r, N x K)");
  static_assert(HasEvaluation<M> || !Has_make_evaluation<M>,
                "richflow: the model's make_evaluation does not fit: `Evaluation<Scalar> make_evaluation(Index "
                "max_batch, ParallelOptions parallel) const`");
  static_assert(HasNumInputs<M> || !Has_num_inputs<M>,
                "richflow: the model's num_inputs does not fit: `Index num_inputs() const` = d");
  static_assert(HasUnits<M> || !(Has_num_units<M> || Has_unit_square_norms<M>),
                "richflow: the model's units do not fit: `Index num_units() const` and `void unit_square_norms("
                "ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const`, writing one number per unit");
  static_assert(LinearPredictor<M> || !Has_beta<M>,
                "richflow: the model's beta does not fit: `void beta(ConstVectorRef<Scalar> w, VectorRef<Scalar> out) "
                "const`, writing d values, and `Index num_inputs() const` = d");
  static_assert(
      HasInvariant<M> || !Has_invariant<M>,
      "richflow: the model's invariant does not fit: `Vector<Scalar> invariant(ConstVectorRef<Scalar> w) const`");
  static_assert(SaysWhetherSmooth<M> || !Has_is_smooth<M>,
                "richflow: the model's is_smooth does not fit: `static constexpr bool is_smooth = true`");
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
    if constexpr (requires { typename M::Samples; })
      static_assert(std::is_same_v<typename M::Samples, SamplesOf<M>>,
                    "richflow: the model's Samples do not fit: they are Matrix<Scalar>, which need not be said, or "
                    "MatrixMeasurements<Scalar>");
    static_assert(
        requires(const M& m, ConstVectorRef<S> w, SamplesArgument<M> X, VectorRef<S> out) { m.predict(w, X, out); },
        "richflow: the model must have a const member `void predict(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> "
        "X, "
        "VectorRef<Scalar> out) const`, writing the N values f(w, X)");
    static_assert(
        requires(const M& m, ConstVectorRef<S> w, SamplesArgument<M> X, VectorRef<S> out) { m.vjp(w, X, w, out); },
        "richflow: the model must have a const member `void vjp(ConstVectorRef<Scalar> w, ConstMatrixRef<Scalar> X, "
        "ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const`, writing the P values J(w)^T r");
  }
  return true;
}

}  // namespace richflow
