#pragma once

#include <utility>

#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/regularizers/hypentropy.hpp"

namespace richflow {

/// Minimizers of `Q_alpha` for many scales: where gradient flow on the squared diagonal net ends.
///
///     HypentropyPath<> path(dataset, Hypentropy<>::uniform(dataset.num_inputs(), Scale<>::from_value(1)));
///     for (double log_alpha : {2.0, 0.0, -5.0, -500.0})
///       use(path.solve(Scale<>::from_log(log_alpha)).require_ok().beta);
template <class Scalar = double>
using HypentropyPath = MirrorPath<Hypentropy<Scalar>>;

/// `argmin Q_alpha(beta)` subject to `X beta = y` (X is N x d), uniform initialization `w(0) = alpha` (Woodworth et al.
/// 2020, Theorem 1; docs/theory.md, section 2.2).
///
///     minimize_hypentropy(data, Scale<>::from_log(-20)).require_ok().beta;
///
/// For many scales of one problem use HypentropyPath. Throws as MirrorPath does; a tolerance not reached is in the
/// status.
template <class Scalar>
[[nodiscard]] MinimizerResult<Scalar> minimize_hypentropy(const Dataset<Scalar>& data, Scale<Scalar> scale) {
  HypentropyPath<Scalar> path(data, Hypentropy<Scalar>::uniform(data.num_inputs(), scale));
  return path.solve(scale);
}

/// The same for the shaped initialization `w(0) = alpha w0`, `w0` with d positive entries.
template <class Scalar>
[[nodiscard]] MinimizerResult<Scalar> minimize_hypentropy(const Dataset<Scalar>& data, const Vector<Scalar>& w0,
                                                          Scale<Scalar> scale) {
  HypentropyPath<Scalar> path(data, Hypentropy<Scalar>::shaped(w0, scale));
  return path.solve(scale);
}

}  // namespace richflow
