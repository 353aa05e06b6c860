#pragma once

#include <cmath>
#include <concepts>
#include <type_traits>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/vector_field.hpp"

/// @file
/// What the one time loop asks of a stepper, and the small values both share. A stepper is a small
/// immutable value (a method and its constants); everything that changes during a run lives in a
/// workspace that is made once, so that a step allocates nothing.
///
/// A stepper is called in this order: `make_workspace`, `begin`, then `step` any number of times
/// from the same `(t, y)` (rejected attempts differ in `h` only) and `accept` after the attempt that
/// was taken. `begin` starts a run and a resumed run alike; it must leave the workspace in a state
/// whose later steps agree bit for bit with those of the uninterrupted run. Its `t` is `t + h` of the
/// step that ended in `y`, which may differ from the time of the next `step` by rounding; a stepper that
/// carries a derivative over from one step to the next evaluates it in `begin`, at that time.

namespace richflow {

/// Work a stepper did so far; every workspace has one, named `counters`.
struct StepCounters {
  Index evaluations = 0;     ///< right-hand sides
  Index jacobians = 0;       ///< Jacobians of the right-hand side
  Index factorizations = 0;  ///< matrix factorizations
  Index solves = 0;          ///< linear systems solved with them

  /// Equal in every count.
  friend bool operator==(const StepCounters&, const StepCounters&) = default;
};

/// Local error allowed per step: `absolute + relative * |y|`. Both must be given; there is no silent
/// default, because only the user knows how small a coordinate may matter. Zero is allowed for one of
/// them.
template <class Scalar = double>
struct Tolerance {
  Scalar relative = Scalar(-1);  ///< per unit of |y|, in [0, 1); must be given
  Scalar absolute = Scalar(-1);  ///< in the units of y, at least 0; must be given
};

/// Throws ArgumentError unless both entries were given, are finite and nonnegative, and are not both zero.
template <class Scalar>
void check(const Tolerance<Scalar>& tolerance) {
  using std::isfinite;
  require(isfinite(tolerance.relative) && tolerance.relative >= Scalar(0) && tolerance.relative < Scalar(1),
          "tolerance.relative must be given and lie in [0, 1), got ", tolerance.relative);
  require(isfinite(tolerance.absolute) && tolerance.absolute >= Scalar(0),
          "tolerance.absolute must be given and be at least 0, got ", tolerance.absolute);
  require(tolerance.relative > Scalar(0) || tolerance.absolute > Scalar(0),
          "tolerance.relative and tolerance.absolute must not both be 0");
}

/// The time interval of a run, `start <= end`; `end` may be infinity when an event or an observer ends the run.
template <class Scalar = double>
struct TimeSpan {
  Scalar start = Scalar(0);  ///< t0, finite
  Scalar end = Scalar(0);    ///< t1
};

/// `TimeSpan{0, 10}` is one of doubles.
template <class Start, class End>
TimeSpan(Start, End) -> TimeSpan<detail::RealOf<Start, End>>;

/// The workspace type that `Stepper` makes for `Problem`.
template <class Stepper, class Problem>
using WorkspaceOf = decltype(std::declval<const Stepper&>().make_workspace(std::declval<const Problem&>()));

/// A one-step method for `Problem`:
///
/// - `static constexpr int order`: order of the solution it propagates
/// - `make_workspace(problem)`: all memory of a run, with a member `counters` (StepCounters)
/// - `begin(problem, t, y, ws)`: start (or resume) at `(t, y)`
/// - `step(problem, t, h, y, y_new, ws)`: one attempt from `(t, y)`, result in `y_new`; no allocation
/// - `accept(ws)`: the last attempt was taken
///
/// A stepper that needs more than a vector field says so by a `static_assert` in `make_workspace`. One that is a
/// template of the problem may save compile time by a `template <class St, class Problem> static constexpr bool
/// works_on_any_field` (or `works_on_any_stiff_field`, with a symmetric Jacobian, `works_on_any_tangent_field`, on the
/// gradient flows of models): where it is true, the problems it is given are all of one type. It should be so only for
/// `St` the stepper itself, not one derived from it.
template <class St, class P>
concept Stepper = requires(const St& stepper, const P& problem, typename P::Scalar t,
                           const Vector<typename P::Scalar>& y, Vector<typename P::Scalar>& y_new,
                           WorkspaceOf<St, P>& ws) {
  { St::order } -> std::convertible_to<int>;
  stepper.begin(problem, t, y, ws);
  stepper.step(problem, t, t, y, y_new, ws);
  stepper.accept(ws);
  { &std::as_const(ws).counters } -> std::convertible_to<const StepCounters*>;
};

/// A stepper that estimates its error: `error(ws)` = `y_new - y_embedded` of the last attempt, and
/// `static constexpr int error_order`, the order of the embedded solution: the estimate is
/// `O(h^(error_order + 1))`.
template <class St, class P>
concept EmbeddedStepper = Stepper<St, P> && requires(const St& stepper, const WorkspaceOf<St, P>& ws) {
  { St::error_order } -> std::convertible_to<int>;
  { stepper.error(ws) } -> std::convertible_to<const Vector<typename P::Scalar>&>;
};

/// A stepper with an interpolant of its own. `interpolate(ws, theta, h, y, y_new, out)` writes the
/// solution at `t + theta h`, theta in [0, 1]; valid after `step` and before `accept`. For the others
/// the loop uses the cubic Hermite interpolant.
template <class St, class P>
concept DenseStepper = Stepper<St, P> &&
    requires(const St& stepper, const WorkspaceOf<St, P>& ws, typename P::Scalar theta,
             const Vector<typename P::Scalar>& y, VectorRef<typename P::Scalar> out) {
  stepper.interpolate(ws, theta, theta, y, y, out);
};

/// A stepper whose steps may pass through many time scales of the flow (`has_long_steps = true`): within one, events
/// are looked for on all of them.
template <class St>
concept HasLongSteps = requires {
  requires St::has_long_steps;
};

/// A stepper that shares the derivatives it holds anyway, so that the loop does not compute them again.
///
/// - `start_derivative(problem, t, y, ws)`: `F(t, y)` at the start of the step; after `begin`, and
///   until `accept`
/// - `end_derivative(problem, t_new, y_new, ws)`: `F(t_new, y_new)` of the last attempt; after `step`
///   and before `accept`. If it has to be evaluated it is kept, and `accept` makes it the first stage of
///   the next step, so that asking for it costs nothing in the long run.
///
/// Both return a `const Vector&` and count what they evaluate in `ws.counters`.
template <class St, class P>
concept DerivativeStepper = Stepper<St, P> && requires(const St& stepper, const P& problem, typename P::Scalar t,
                                                       const Vector<typename P::Scalar>& y, WorkspaceOf<St, P>& ws) {
  { stepper.start_derivative(problem, t, y, ws) } -> std::convertible_to<const Vector<typename P::Scalar>&>;
  { stepper.end_derivative(problem, t, y, ws) } -> std::convertible_to<const Vector<typename P::Scalar>&>;
};

/// A problem that measures local errors in its own norm: `error_ratio(y, y_new, error, tolerance)` is
/// at most 1 when the error of the step from `y` to `y_new` is allowed, and scales linearly with
/// `error`. It replaces the default norm, the root mean square of
/// `error_i / (absolute + relative max(|y_i|, |y_new_i|))`.
template <class P>
concept HasErrorRatio = VectorField<P> &&
    requires(const P& problem, const Vector<typename P::Scalar>& y, const Tolerance<typename P::Scalar>& tolerance) {
  { problem.error_ratio(y, y, y, tolerance) } -> std::convertible_to<typename P::Scalar>;
};

/// A problem whose loss is a by-product of its derivative `dy = F(t, y)`: `loss_from_derivative(y, dy)`
/// is called in place of `loss(y)` wherever the stepper has `dy` already.
template <class P>
concept HasLossFromDerivative = HasLoss<P> && requires(const P& problem, const Vector<typename P::Scalar>& y) {
  { problem.loss_from_derivative(y, y) } -> std::convertible_to<typename P::Scalar>;
};

/// A stiff field whose Jacobian is cheaper when it need not be exact:
/// `negative_jacobian(t, y, relative, absolute, S)` writes `S + E` with `-B <= E <= B` as quadratic forms,
/// `B = relative S + absolute I`.
template <class P>
concept HasApproximateJacobian = SymmetricStiffField<P> &&
    requires(const P& problem, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
             MatrixRef<typename P::Scalar> S) {
  problem.negative_jacobian(t, y, t, t, S);
};

/// A stepper that knows a step length below which errors need not be judged, `step_floor(ws)` for the step that begins
/// where the last attempt did. The loop takes such a step whatever its error estimate says: where a right-hand side
/// jumps (a kink that sticks to a data point) no step has a small one.
template <class St, class P>
concept HasStepFloor = Stepper<St, P> && requires(const St& stepper, const WorkspaceOf<St, P>& ws) {
  { stepper.step_floor(ws) } -> std::convertible_to<typename P::Scalar>;
};

namespace detail {

RICHFLOW_DEFINE_HAS_MEMBER(error_ratio)
RICHFLOW_DEFINE_HAS_MEMBER(loss_from_derivative)
RICHFLOW_DEFINE_HAS_MEMBER(time_derivative)

}  // namespace detail

/// One sentence per member that is missing or does not fit, at compile time, for a problem used as a vector field.
template <class P>
constexpr void explain_vector_field() {
  if constexpr (VectorField<P>) {
    static_assert(HasLoss<P> || !detail::Has_loss<P>,
                  "richflow: the problem's loss does not fit: `Scalar loss(ConstVectorRef<Scalar> y) const`");
    static_assert(SymmetricStiffField<P> || !detail::Has_negative_jacobian<P>,
                  "richflow: the problem's negative_jacobian does not fit: `void negative_jacobian(Scalar t, "
                  "ConstVectorRef<Scalar> y, MatrixRef<Scalar> S) const`, writing the lower triangle of S = -dF/dy");
    static_assert(HasErrorRatio<P> || !detail::Has_error_ratio<P>,
                  "richflow: the problem's error_ratio does not fit: `Scalar error_ratio(y, y_new, error, const "
                  "Tolerance<Scalar>&) const`");
    static_assert(HasLossFromDerivative<P> || !detail::Has_loss_from_derivative<P>,
                  "richflow: the problem's loss_from_derivative does not fit: `Scalar loss_from_derivative(const "
                  "Vector<Scalar>& y, const Vector<Scalar>& dy) const`, beside a loss");
    static_assert(HasTimeDerivative<P> || !detail::Has_time_derivative<P>,
                  "richflow: the problem's time_derivative does not fit: `void time_derivative(Scalar t, Scalar h, "
                  "ConstVectorRef<Scalar> y, VectorRef<Scalar> out) const`, beside `bool is_autonomous() const`");
  }
  static_assert(
      requires { typename P::Scalar; }, "richflow: the problem must name its number type: `using Scalar = double;`");
  if constexpr (requires { typename P::Scalar; }) {
    static_assert(
        requires(const P& p) {
          { p.dimension() } -> std::convertible_to<Index>;
        },
        "richflow: the problem must have a const member `Index dimension() const`, the length of y");
    static_assert(
        requires(const P& p, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
                 VectorRef<typename P::Scalar> dy) { p(t, y, dy); },
        "richflow: the problem must be callable as `void operator()(Scalar t, ConstVectorRef<Scalar> y, "
        "VectorRef<Scalar> dy) const`, writing dy = F(t, y)");
  }
}

/// One sentence per missing member, at compile time, for a stepper on a problem.
template <class St, class P>
constexpr void explain_stepper() {
  static_assert(
      requires {
        { St::order } -> std::convertible_to<int>;
      },
      "richflow: the stepper must have `static constexpr int order`, the order of the solution it propagates");
  static_assert(
      requires(const St& s, const P& p) { s.make_workspace(p); },
      "richflow: the stepper must have `auto make_workspace(const Problem&) const`, which makes all memory of a run");
  if constexpr (requires(const St& s, const P& p) { s.make_workspace(p); }) {
    using S = typename P::Scalar;
    using Ws = WorkspaceOf<St, P>;
    static_assert(
        requires(const Ws& ws) {
          { &ws.counters } -> std::convertible_to<const StepCounters*>;
        },
        "richflow: the stepper's workspace must have a member `StepCounters counters`");
    static_assert(
        requires(const St& s, const P& p, S t, const Vector<S>& y, Ws& ws) { s.begin(p, t, y, ws); },
        "richflow: the stepper must have `void begin(const Problem&, Scalar t, const Vector<Scalar>& y, Workspace&) "
        "const`");
    static_assert(
        requires(const St& s, const P& p, S t, const Vector<S>& y, Vector<S>& y_new, Ws& ws) {
          s.step(p, t, t, y, y_new, ws);
        },
        "richflow: the stepper must have `void step(const Problem&, Scalar t, Scalar h, const Vector<Scalar>& y, "
        "Vector<Scalar>& y_new, Workspace&) const`");
    static_assert(
        requires(const St& s, Ws& ws) { s.accept(ws); },
        "richflow: the stepper must have `void accept(Workspace&) const`");
  }
}

}  // namespace richflow
