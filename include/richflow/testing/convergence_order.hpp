#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow::testing {

/// Errors of a stepper with n, 2n, 4n, ... constant steps, and the orders between neighbours.
template <class Scalar>
struct ConvergenceStudy {
  std::vector<Index> steps = {};
  std::vector<Scalar> errors = {};  ///< |y - exact| at the end of the span, maximum norm
  std::vector<Scalar> orders = {};  ///< log2(errors[i] / errors[i + 1])

  /// The order between the two finest runs.
  [[nodiscard]] Scalar finest_order() const {
    require(!orders.empty(), "a convergence study needs at least two step counts");
    return orders.back();
  }
};

/// Integrates `problem` from `(span.start, y0)` with `first_steps`, twice as many, ... constant steps,
/// `doublings` times, and compares the end with `exact`. A stepper of order p shows orders that tend to p, until
/// the errors reach rounding. Throws ArgumentError unless `first_steps` and `doublings` are positive, ConvergenceError
/// if a run does not arrive.
template <class Problem, class St>
[[nodiscard]] ConvergenceStudy<typename Problem::Scalar> convergence_study(
    const Problem& problem, const Vector<typename Problem::Scalar>& y0, const TimeSpan<typename Problem::Scalar>& span,
    const St& stepper, const Vector<typename Problem::Scalar>& exact, Index first_steps, int doublings) {
  using std::log2;
  using Scalar = typename Problem::Scalar;
  require(first_steps > 0, "convergence_study: first_steps must be positive, got ", first_steps);
  require(doublings > 0, "convergence_study: doublings must be positive, got ", doublings);
  require_size("exact", exact.size(), y0.size());
  ConvergenceStudy<Scalar> study;
  Index steps = first_steps;
  for (int i = 0; i <= doublings; ++i, steps *= 2) {
    const ConstantStep<Scalar> control{(span.end - span.start) / Scalar(steps)};
    const auto solution = integrate(problem, y0, span, stepper, control);
    solution.require_ok();
    study.steps.push_back(steps);
    study.errors.push_back((solution.w - exact).template lpNorm<Eigen::Infinity>());
    if (i > 0) study.orders.push_back(log2(study.errors[study.errors.size() - 2] / study.errors.back()));
  }
  return study;
}

/// The order of the interpolant of a dense stepper: one step of length h from `(t, y)` is evaluated at
/// `theta` and compared with the exact flow `exact(t, y, s)` (the solution after time s); the same with h / 2, ...
/// The orders returned are those of the local error, one more than the order of the interpolant. Throws ArgumentError
/// unless `doublings` is positive.
template <class Problem, class St, class Exact>
[[nodiscard]] ConvergenceStudy<typename Problem::Scalar> interpolant_study(
    const Problem& problem, typename Problem::Scalar t, const Vector<typename Problem::Scalar>& y, const St& stepper,
    const Exact& exact, typename Problem::Scalar h, typename Problem::Scalar theta, int doublings) {
  static_assert(DenseStepper<St, Problem>, "richflow: the stepper has no interpolant of its own");
  using std::log2;
  using Scalar = typename Problem::Scalar;
  require(doublings > 0, "interpolant_study: doublings must be positive, got ", doublings);
  ConvergenceStudy<Scalar> study;
  Vector<Scalar> y_new = y;
  Vector<Scalar> between = y;
  Index count = 1;
  for (int i = 0; i <= doublings; ++i, h /= Scalar(2), count *= 2) {
    auto ws = stepper.make_workspace(problem);
    stepper.begin(problem, t, y, ws);
    stepper.step(problem, t, h, y, y_new, ws);
    stepper.interpolate(ws, theta, h, y, y_new, between);
    const Vector<Scalar> solution = exact(t, y, theta * h);
    study.steps.push_back(count);
    study.errors.push_back((between - solution).template lpNorm<Eigen::Infinity>());
    if (i > 0) study.orders.push_back(log2(study.errors[study.errors.size() - 2] / study.errors.back()));
  }
  return study;
}

}  // namespace richflow::testing
