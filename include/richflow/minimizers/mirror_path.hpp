#pragma once

#include <memory>
#include <utility>

#include "richflow/core/scale.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/minimizers/minimizer_result.hpp"
#include "richflow/minimizers/mirror_path_engine.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"
#include "richflow/regularizers/mirror_map.hpp"

namespace richflow {

/// Minimizers of a mirror map's regularizer Q over `X beta = y` for many scales: the limits of gradient flow from
/// `w(0) = alpha w0`, with certificates and without time integration.
///
///     MirrorPath path(data, regularizer(net, start));   // or a mirror map of your own
///     for (const double log_alpha : {0.0, -20.0, -500.0})
///       use(path.solve(Scale<>::from_log(log_alpha)).require_ok().beta);
///
/// The N dual variables solve `X beta(X^T nu) = y` (the stationarity of the convex dual
/// `Q*(X^T nu) - <y, nu>`) by Newton's method, continued in `log alpha`: from the kernel end, or from the
/// last solution, a primal-dual predictor jumps as far towards the wanted scale as the actual residual
/// at the end of the jump allows. One factorization of the Hessian `X diag(d beta / d z) X^T` serves a jump and the
/// Newton steps around it, whose systems are solved by conjugate gradients preconditioned with it. Columns
/// whose curvature cannot matter are left out of the factorization. The line search stays within the bounds of a map
/// that has them; where alpha is tiny the distances from the bounds, not z, carry the solution.
///
/// Rank-deficient X is fine if y is consistent; nearly dependent rows, and columns in very different units, cost one QR
/// or two, after which Newton's method runs in other rows and ends with refinement in the data as given. Cost O(N^2 d)
/// per factorization.
template <class Mirror>
requires(explain_mirror_map<Mirror>()) class MirrorPath {
 public:
  using Scalar = typename Mirror::Scalar;
  using Result = MinimizerResult<Scalar>;
  using Options = MinimizerOptions<Scalar>;

  /// `mirror` gives the regularizer; its scale does not matter, `solve` takes one. Throws DimensionError
  /// when the lengths differ, ArgumentError for bad options, InfeasibleError when no beta fits y. Costs one
  /// factorization, which the first `solve` reports.
  MirrorPath(Dataset<Scalar> data, Mirror mirror, Options options = {})
      : engine_(std::move(data), detail::owned_mirror_map(std::move(mirror)), options) {}

  MirrorPath(const MirrorPath&) = delete;
  MirrorPath& operator=(const MirrorPath&) = delete;

  /// The minimizer at `scale`, continued from the last one found (at first: from the kernel end). Throws ArgumentError
  /// where the map refuses the scale; numerical trouble never throws: status and certificate say what was reached.
  Result solve(Scale<Scalar> scale) { return engine_.solve(scale); }

  /// The problem being solved.
  [[nodiscard]] const Dataset<Scalar>& dataset() const { return engine_.dataset(); }

 private:
  detail::MirrorPathEngine<Scalar> engine_;
};

}  // namespace richflow
