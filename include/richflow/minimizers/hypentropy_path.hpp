#pragma once

#include <utility>

#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/regularizers/hypentropy.hpp"

namespace richflow {

/// Minimizers of `Q_alpha` for many scales: where gradient flow on the squared diagonal net ends.
///
///     HypentropyPath path(dataset, Hypentropy::uniform(dataset.dimension(), Scale::from_value(1)));
///     for (double log_alpha : {2.0, 0.0, -5.0, -500.0})
///       use(path.solve(Scale::from_log(log_alpha)).require_ok().beta);
template <class Scalar>
using BasicHypentropyPath = MirrorPath<BasicHypentropy<Scalar>>;

using HypentropyPath = BasicHypentropyPath<double>;

/// `argmin Q_alpha(beta)` subject to `X beta = y` (X is N x d), uniform initialization `w(0) = alpha`
/// (Woodworth et al. 2020, Theorem 1). For many scales of one problem use HypentropyPath. Throws as
/// BasicDataset and MirrorPath do; a tolerance not reached is in the status.
template <class Scalar>
[[nodiscard]] BasicMinimizerResult<Scalar> minimize_hypentropy(const Matrix<Scalar>& X, const Vector<Scalar>& y,
                                                               BasicScale<Scalar> scale) {
  BasicHypentropyPath<Scalar> path({X, y}, BasicHypentropy<Scalar>::uniform(X.cols(), scale));
  return path.solve(scale);
}

/// The same for the shaped initialization `w(0) = alpha w0`, `w0` with d positive entries.
template <class Scalar>
[[nodiscard]] BasicMinimizerResult<Scalar> minimize_hypentropy(const Matrix<Scalar>& X, const Vector<Scalar>& y,
                                                               const Vector<Scalar>& w0, BasicScale<Scalar> scale) {
  BasicHypentropyPath<Scalar> path({X, y}, BasicHypentropy<Scalar>::shaped(w0, scale));
  return path.solve(scale);
}

}  // namespace richflow
