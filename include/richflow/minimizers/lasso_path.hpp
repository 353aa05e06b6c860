#pragma once

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/minimizers/l1_path.hpp"

namespace richflow {

/// A knot, where the support of the lasso's solution changes: `lambda`, and `time = 1 / (4 lambda)`, the unit of the
/// saddle path at depth 2. beta is the solution at this lambda.
template <class S = double>
struct LassoKnot : PathPoint<S> {
  S lambda = S(0);  ///< Where, decreasing from `max_i |x_i^T y|` on.
};

/// The solutions of `min |X beta - y|^2 / 2 + lambda |beta|_1` for all lambda > 0: linear in lambda between knots. Its
/// end, lambda -> 0, has the least l1 norm of all interpolators.
template <class S = double>
struct [[nodiscard]] LassoPath : PathEnd<S>, Result<LassoPath<S>> {
  std::vector<LassoKnot<S>> knots = {};  ///< By falling lambda.

  /// The solution at lambda >= 0, d entries. Throws ArgumentError for a negative lambda.
  [[nodiscard]] Vector<S> at(S lambda) const;
};

/// The lasso path of `min |X beta - y|^2 / 2 + lambda |beta|_1` by the homotopy (Osborne, Presnell and Turlach 2000;
/// Efron et al. 2004), with the drops. X is N x d.
///
///     const LassoPath<> path = lasso_path(data).require_ok();
///     path.at(0.1);   // beta at lambda = 0.1
///
/// Its dual over lambda follows the same equation as that of the saddle path at depth 2 (docs/theory.md, section 8.1):
/// as long as no coordinate has left, the jumps of that path are at the times `1 / (4 lambda)` of these knots, with the
/// same coordinates. Where nothing fits y, the path ends at a least-squares point. Cost of a knot with k active
/// columns: O(N k), with their factorization updated, and the slopes of those columns that can enter soon; a product
/// with all of X only every so many knots, when these are chosen anew. No column is missed: the others are out of reach
/// by Cauchy and Schwarz.
template <class S>
[[nodiscard]] LassoPath<S> lasso_path(const Dataset<S>& data);

template <class S>
Vector<S> LassoPath<S>::at(S lambda) const {
  require(lambda >= S(0), "lambda must not be negative, got ", lambda);
  const Index d = this->beta.size();
  // The first knot at or below lambda.
  const auto next = std::find_if(knots.begin(), knots.end(), [&](const auto& knot) { return knot.lambda <= lambda; });
  if (next == knots.begin()) return knots.empty() ? this->beta : Vector<S>(Vector<S>::Zero(d));
  const LassoKnot<S>& above = *(next - 1);
  const S below = next == knots.end() ? S(0) : next->lambda;
  const S part = (above.lambda - lambda) / (above.lambda - below);
  const Vector<S> end = next == knots.end() ? this->beta : next->beta(d);
  return (S(1) - part) * above.beta(d) + part * end;
}

template <class S>
LassoPath<S> lasso_path(const Dataset<S>& data) {
  const Vector<S> ones = Vector<S>::Ones(data.num_inputs());
  LassoPath<S> path;
  detail::L1Path<S> lasso(data, ones, ones, S(1), detail::L1PathRule::lasso);
  for (PathPoint<S>& point : lasso.follow(path)) {
    LassoKnot<S> knot{std::move(point)};
    knot.lambda = S(1) / knot.time;
    knot.time /= S(4);
    path.knots.push_back(std::move(knot));
  }
  return path;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LASSO_PATH(prefix, S) \
  prefix template struct LassoPath<S>;             \
  prefix template LassoPath<S> lasso_path<S>(const Dataset<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LASSO_PATH)
