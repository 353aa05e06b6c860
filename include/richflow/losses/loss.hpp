#pragma once

#include <concepts>

#include "richflow/core/has_member.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// A loss of the N outputs f on the labels y, `L = loss(f, y)`:
///
/// - `value(f, y)`
/// - `gradient(f, y, out)`: `out` = dL / df, N values; `out` may be `f` itself
///
/// A loss that does not take all labels also has `check_labels(y)`, which throws for the others; flows call it once.
template <class L, class Scalar>
concept Loss = requires(const L& loss, ConstVectorRef<Scalar> f, VectorRef<Scalar> out) {
  { loss.value(f, f) } -> std::convertible_to<Scalar>;
  loss.gradient(f, f, out);
};

/// A Loss of constant second derivative: `curvature()` is the c with d^2 L / df^2 = c I, which makes `c J^T J` the
/// Gauss-Newton matrix of the flow. The integrators that work on the tangent kernel need it, or a ConvexLoss; explicit
/// ones do not.
template <class L, class Scalar>
concept QuadraticLoss = Loss<L, Scalar> && requires(const L& loss) {
  { loss.curvature() } -> std::convertible_to<Scalar>;
};

/// A Loss that is a sum of convex functions, one of each output: `curvature_root(f, y, out)` writes the square roots of
/// their second derivatives. With `H = d^2 L / df^2` the Gauss-Newton matrix of the flow is `J^T H J`. (The logarithm
/// of a sum, whose `H = diag(p) - q q^T` with p in the simplex and q = +-p, declares that by a static member
/// `has_centered_curvature` and writes the roots of p with the signs of q.)
template <class L, class Scalar>
concept ConvexLoss = Loss<L, Scalar> && requires(const L& loss, ConstVectorRef<Scalar> f, VectorRef<Scalar> out) {
  loss.curvature_root(f, f, out);
};

namespace detail {

RICHFLOW_DEFINE_HAS_MEMBER(curvature)
RICHFLOW_DEFINE_HAS_MEMBER(curvature_root)
RICHFLOW_DEFINE_HAS_MEMBER(check_labels)

template <class L, class Scalar>
concept ChecksLabels = requires(const L& loss, ConstVectorRef<Scalar> y) {
  loss.check_labels(y);
};

/// Throws ArgumentError for labels that the loss does not take.
template <class L, class Scalar>
void check_labels_of_loss([[maybe_unused]] const L& loss, [[maybe_unused]] ConstVectorRef<Scalar> y) {
  static_assert(ChecksLabels<L, Scalar> || !Has_check_labels<L>,
                "richflow: the loss's check_labels does not fit: `void check_labels(ConstVectorRef<Scalar> y) const`");
  if constexpr (ChecksLabels<L, Scalar>) loss.check_labels(y);
}

}  // namespace detail

/// A loss of B x K outputs F on B labels 0, ..., K - 1, a plain sum over the samples:
///
/// - `value(F, labels)`
/// - `value_and_gradient(F, labels, G)`: the value, and `G` = dL / dF, B x K; `G` may be `F` itself
template <class L, class Scalar>
concept ClassLoss = requires(const L& loss, ConstMatrixRef<Scalar> F, ConstVectorRef<int> labels, MatrixRef<Scalar> G) {
  { loss.value(F, labels) } -> std::convertible_to<Scalar>;
  { loss.value_and_gradient(F, labels, G) } -> std::convertible_to<Scalar>;
};

/// A convex ClassLoss: `curvature_root(F, labels, R)` writes N x K^2 numbers, row n a K x K matrix R_n, column by
/// column, with `R_n R_n^T` the second derivative by the outputs of sample n.
template <class L, class Scalar>
concept ConvexClassLoss = ClassLoss<L, Scalar> &&
    requires(const L& loss, ConstMatrixRef<Scalar> F, ConstVectorRef<int> labels, MatrixRef<Scalar> R) {
  loss.curvature_root(F, labels, R);
};

}  // namespace richflow
