#pragma once

#include <concepts>

#include "richflow/core/types.hpp"

namespace richflow {

/// A loss of the N outputs f on the labels y, `L = loss(f, y)`:
///
/// - `value(f, y)`
/// - `gradient(f, y, out)`: `out` = dL / df, N values; `out` may be `f` itself
/// - `curvature()`: a constant c with d^2 L / df^2 = c I, which makes `c J^T J` the Gauss-Newton matrix; a loss whose
///   second derivative varies does not fit
template <class L, class Scalar>
concept Loss = requires(const L& loss, ConstVectorRef<Scalar> f, VectorRef<Scalar> out) {
  { loss.value(f, f) } -> std::convertible_to<Scalar>;
  loss.gradient(f, f, out);
  { loss.curvature() } -> std::convertible_to<Scalar>;
};

/// The plain sum of squares, `|f - y|^2`: neither halved nor a mean.
template <class S>
struct SquaredLoss {
  /// `|f - y|^2`.
  [[nodiscard]] S value(ConstVectorRef<S> f, ConstVectorRef<S> y) const { return (f - y).squaredNorm(); }
  /// `out = 2 (f - y)`.
  void gradient(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const { out = S(2) * (f - y); }
  /// 2.
  [[nodiscard]] static constexpr S curvature() { return S(2); }
};

static_assert(Loss<SquaredLoss<double>, double>);

}  // namespace richflow
