#pragma once

#include <string>

#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"

namespace richflow {

/// Options of the mirror-map minimizers.
template <class Scalar = double>
struct MinimizerOptions {
  /// Stop when `|X beta - y| / max(|y|, |X beta(0)|)` is at most this (1e-12 in double), in the data as given. Much
  /// below the default, or where beta has terms that cancel, rounding decides and the result says `stalled`.
  Scalar primal_tolerance = detail::interpolation_tolerance<Scalar>;
  /// Give up after this many factorizations.
  Index max_factorizations = 400;
};

/// Minimizer of a regularizer Q over the interpolators, with its proof.
template <class Scalar = double>
struct [[nodiscard]] MinimizerResult : Result<MinimizerResult<Scalar>> {
  Vector<Scalar> beta = {};                          ///< The minimizer, d.
  Vector<Scalar> nu = {};                            ///< Multipliers, N: `grad Q(beta) = X^T nu`.
  Scale<Scalar> scale = Scale<Scalar>::from_log(0);  ///< alpha.
  Certificate<Scalar> certificate = {};              ///< Distance from optimality.
  /// tolerance_reached, stalled (also where the residual is small, but the duality gap above 1e-10 in double: nearly
  /// dependent rows have large multipliers) or max_steps.
  Status status = Status::stalled;
  Index newton_steps = 0;      ///< Newton and continuation steps taken.
  Index factorizations = 0;    ///< N x N Cholesky and, rarely, d x N QR factorizations.
  Index inner_iterations = 0;  ///< Conjugate-gradient iterations, O(N d) each.
  std::string message = {};    ///< How it ended, with these numbers.

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

}  // namespace richflow
