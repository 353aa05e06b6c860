#pragma once

#include "richflow/core/types.hpp"
#include "richflow/losses/loss.hpp"

namespace richflow {

/// The plain sum of squares, `|f - y|^2`: neither halved nor a mean.
template <class S = double>
struct SquaredLoss {
  /// `|f - y|^2`.
  [[nodiscard]] S value(ConstVectorRef<S> f, ConstVectorRef<S> y) const { return (f - y).squaredNorm(); }
  /// `out = 2 (f - y)`.
  void gradient(ConstVectorRef<S> f, ConstVectorRef<S> y, VectorRef<S> out) const { out = S(2) * (f - y); }
  /// 2.
  [[nodiscard]] static constexpr S curvature() { return S(2); }
};

}  // namespace richflow
