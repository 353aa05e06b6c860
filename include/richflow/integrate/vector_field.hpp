#pragma once

#include <concepts>

#include "richflow/core/has_member.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

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

/// A vector field that says how it depends on t: `is_autonomous()`, true where it does not, and `time_derivative(t, h,
/// y, out)`, which writes dF/dt at (t, y), good for a step h from there. Rosenbrock methods that are not W-methods and
/// the exponential one need it to keep their order.
template <class P>
concept HasTimeDerivative = VectorField<P> &&
    requires(const P& problem, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
             VectorRef<typename P::Scalar> out) {
  { problem.is_autonomous() } -> std::convertible_to<bool>;
  problem.time_derivative(t, t, y, out);
};

namespace detail {

/// Whether the field says that it depends on t.
template <class P>
[[nodiscard]] bool depends_on_time([[maybe_unused]] const P& problem) {
  if constexpr (HasTimeDerivative<P>)
    return !problem.is_autonomous();
  else
    return false;
}

/// For those that do.
template <class P, class S = typename P::Scalar>
void set_time_derivative([[maybe_unused]] const P& problem, [[maybe_unused]] S t, [[maybe_unused]] S h,
                         [[maybe_unused]] const Vector<S>& y, [[maybe_unused]] Vector<S>& out) {
  if constexpr (HasTimeDerivative<P>) problem.time_derivative(t, h, y, out);
}

RICHFLOW_DEFINE_HAS_MEMBER(loss)
RICHFLOW_DEFINE_HAS_MEMBER(negative_jacobian)

}  // namespace detail

}  // namespace richflow
