#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/minimizers/mirror_point.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"

namespace richflow::detail {

/// A point on the way to a minimizer, with what was evaluated there.
template <class S>
struct DualPoint {
  MirrorPoint<S> point;  ///< z
  Vector<S> beta;        ///< beta(z), without what is invisible
  Vector<S> curvature;   ///< d beta / d z, likewise
  Vector<S> r;           ///< y - X beta

  void resize(Index rows, Index d, bool is_bounded);

  /// Sets all but the point itself. The residual `|r| / residual_scale`; infinite where it overflows.
  S evaluate(const AnyMirrorMap<S>& map, const Matrix<S>& X, const Vector<S>& y, S residual_scale);

  void swap(DualPoint& other);
};

template <class S>
void DualPoint<S>::resize(Index rows, Index d, bool is_bounded) {
  point.resize(d, is_bounded);
  beta.setZero(d);
  curvature.setZero(d);
  r.setZero(rows);
}

template <class S>
S DualPoint<S>::evaluate(const AnyMirrorMap<S>& map, const Matrix<S>& X, const Vector<S>& y, S residual_scale) {
  using std::isfinite;
  point.evaluate(map, beta, curvature);
  // What cannot be seen in X beta is dropped before it becomes subnormal and slows every product.
  const S invisible =
      std::max(largest_size(curvature), S(1)) * std::numeric_limits<S>::min() / Eigen::NumTraits<S>::epsilon();
  for (Index i = 0; i < curvature.size(); ++i)
    if (curvature[i] < invisible) beta[i] = curvature[i] = S(0);
  r = y;
  if (largest_size(beta) != S(0)) subtract_product(X, beta, r);
  const S size = norm(r) / residual_scale;
  return isfinite(size) ? size : std::numeric_limits<S>::infinity();
}

template <class S>
void DualPoint<S>::swap(DualPoint& other) {
  point.swap(other.point);
  beta.swap(other.beta);
  curvature.swap(other.curvature);
  r.swap(other.r);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_DUAL_POINT(prefix, S) prefix template struct detail::DualPoint<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DUAL_POINT)
