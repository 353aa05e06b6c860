#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// Which sign changes of an event function end a run.
enum class Crossing {
  falling,  ///< from positive to zero or negative
  rising,   ///< from negative to zero or positive
  either,
};

/// A condition that ends a run. Made by `loss_below`, `stationary`, `condition` and `zero_crossing`.
///
/// Events are tested at the end of every accepted step. The one that fired is located on the stepper's
/// interpolant, to rounding in t, and the run ends there, on the side where the condition holds; with
/// `at_step_end()` it ends at the end of the step instead (the iterate of gradient descent). A user's
/// function that changes sign twice within one step is seen too, where the stepper knows its interpolant or its
/// derivatives (all but plain Runge-Kutta methods such as Euler) and the event is located: it is evaluated at four
/// points of a step, or at 24 that double from 2^-20 on for the exponential steppers, whose steps may be far longer
/// than the flow's time scales; a zero crossing is looked for in dips between them as well. Two sign changes of a
/// loss or of |F| within one step are not seen. An event that can already hold at the start (all but
/// `zero_crossing`) then ends the run before the first step.
template <class Scalar = double>
class Event {
 public:
  /// What the event looks at.
  enum class Kind { loss_below, stationary, condition, zero_crossing };

  /// Scalar function of (t, y).
  using Function = std::function<Scalar(Scalar, const Vector<Scalar>&)>;

  /// For the functions named above.
  Event(Kind kind, std::string name, Scalar threshold, Crossing direction, Function function)
      : kind_(kind),
        name_(std::move(name)),
        threshold_(threshold),
        direction_(direction),
        function_(std::move(function)) {}

  /// The same event for another number type, so that `loss_below(1e-4)` serves a problem in float. Throws ArgumentError
  /// for an event with a function, which looks at numbers of its own type.
  template <class Other>
  Event(const Event<Other>& other)  // NOLINT(google-explicit-constructor): an event is written in any number type
      : kind_(static_cast<Kind>(static_cast<int>(other.kind()))),
        name_(other.name()),
        threshold_(static_cast<Scalar>(other.threshold())),
        direction_(other.direction()),
        is_located_(other.is_located()),
        every_(other.every()) {
    require(!other.function(), "the event ", name_,
            " looks at numbers of another type than the problem's: name it, as "
            "in condition<float>(...)");
    require(threshold_ > Scalar(0), "the event ", name_, " has a threshold of ", other.threshold(),
            ", which is 0 in the number type of the problem");
  }

  /// What the event looks at.
  [[nodiscard]] Kind kind() const { return kind_; }
  /// Name, for results and messages.
  [[nodiscard]] const std::string& name() const { return name_; }
  /// Threshold of loss_below and stationary.
  [[nodiscard]] Scalar threshold() const { return threshold_; }
  /// Sign changes that fire.
  [[nodiscard]] Crossing direction() const { return direction_; }
  /// The user's function; empty for loss_below and stationary.
  [[nodiscard]] const Function& function() const { return function_; }
  /// Whether the run ends at the root (or else at the end of the step).
  [[nodiscard]] bool is_located() const { return is_located_; }

  /// Steps from one test to the next; 1 for a located event.
  [[nodiscard]] Index every() const { return every_; }

  /// The same event, ending the run at the end of the step in which it fires; tested after each step whose number is a
  /// multiple of `every` (an epoch of a stochastic run, whose loss over all data costs as much as one). Throws
  /// ArgumentError unless every > 0.
  [[nodiscard]] Event at_step_end(Index every = 1) const {
    require(every > 0, "at_step_end: every must be positive, got ", every);
    Event event = *this;
    event.is_located_ = false;
    event.every_ = every;
    return event;
  }

  /// True if the event can hold from the start, and then fires at once.
  [[nodiscard]] bool is_state() const { return kind_ != Kind::zero_crossing; }

  /// True if a step from function value `before` to `after` makes the event fire.
  [[nodiscard]] bool fires(Scalar before, Scalar after) const {
    const bool falls = before > Scalar(0) && after <= Scalar(0);
    const bool rises = before < Scalar(0) && after >= Scalar(0);
    switch (direction_) {
      case Crossing::falling:
        return falls;
      case Crossing::rising:
        return rises;
      case Crossing::either:
        return falls || rises;
    }
    return false;
  }

 private:
  Kind kind_;
  std::string name_;
  Scalar threshold_;
  Crossing direction_;
  Function function_;
  bool is_located_ = true;
  Index every_ = 1;
};

/// Ends the run when the problem's loss (for `|f(w, X) - y|^2` the plain sum of squares) is at most
/// `threshold > 0`. The problem must have `loss(y)`; a run with another one throws ArgumentError.
template <class Scalar>
[[nodiscard]] Event<Scalar> loss_below(Scalar threshold) {
  using std::isfinite;
  require(isfinite(threshold) && threshold > Scalar(0), "loss_below: threshold must be positive, got ", threshold);
  return {Event<Scalar>::Kind::loss_below, "loss_below", threshold, Crossing::falling, {}};
}

/// Ends the run when the Euclidean norm of the derivative, `|F(t, y)|`, is at most `threshold > 0`.
template <class Scalar>
[[nodiscard]] Event<Scalar> stationary(Scalar threshold) {
  using std::isfinite;
  require(isfinite(threshold) && threshold > Scalar(0), "stationary: threshold must be positive, got ", threshold);
  return {Event<Scalar>::Kind::stationary, "stationary", threshold, Crossing::falling, {}};
}

/// Ends the run when `predicate(t, y)`, a bool, holds.
template <class Scalar = double, class Predicate>
[[nodiscard]] Event<Scalar> condition(std::string name, Predicate predicate) {
  static_assert(std::is_invocable_r_v<bool, const Predicate&, Scalar, const Vector<Scalar>&>,
                "richflow: the predicate of an event must be callable as `bool (Scalar t, const Vector<Scalar>& y)`");
  return {Event<Scalar>::Kind::condition, std::move(name), Scalar(0), Crossing::falling,
          [predicate = std::move(predicate)](Scalar t, const Vector<Scalar>& y) {
            return predicate(t, y) ? Scalar(-1) : Scalar(1);
          }};
}

/// Ends the run when `function(t, y)`, a continuous scalar, changes sign in the given direction. A
/// function that starts at exactly zero does not fire by leaving it.
template <class Scalar = double, class F>
[[nodiscard]] Event<Scalar> zero_crossing(std::string name, F function, Crossing direction = Crossing::either) {
  static_assert(std::is_invocable_r_v<Scalar, const F&, Scalar, const Vector<Scalar>&>,
                "richflow: the function of an event must be callable as `Scalar (Scalar t, const Vector<Scalar>& y)`");
  static_assert(!std::is_same_v<std::invoke_result_t<const F&, Scalar, const Vector<Scalar>&>, bool>,
                "richflow: a bool has no sign change; use `condition`");
  return {Event<Scalar>::Kind::zero_crossing, std::move(name), Scalar(0), direction, std::move(function)};
}

namespace detail {

/// The sign change of `g` on [0, 1], given g(0) and g(1) of opposite sign (or g(1) = 0), to within
/// `tolerance`: the end of the final bracket on the side of g(1), so that the event holds there. Bisection
/// and inverse quadratic interpolation (Chandrupatla 1997); a value that is not finite only bisects.
template <class Scalar, class G>
[[nodiscard]] Scalar locate_sign_change(G&& g, Scalar g0, Scalar g1, Scalar tolerance) {
  using std::abs;
  const bool starts_positive = g0 > Scalar(0);
  const auto is_before = [&](Scalar value) { return starts_positive ? value > Scalar(0) : value < Scalar(0); };
  Scalar a = Scalar(1), fa = g1;  // newest point
  Scalar b = Scalar(0), fb = g0;  // the other end of the bracket
  Scalar c = b, fc = fb;
  Scalar fraction = Scalar(0.5);
  constexpr int max_evaluations = 200;
  for (int i = 0; i < max_evaluations; ++i) {
    const Scalar width = abs(b - a);
    const Scalar limit = tolerance / width;
    if (fa == Scalar(0) || !(limit < Scalar(0.5))) break;
    const Scalar x = a + std::clamp(fraction, limit, Scalar(1) - limit) * (b - a);
    const Scalar fx = g(x);
    if (is_before(fx) == is_before(fa)) {
      c = a;
      fc = fa;
    } else {
      c = b;
      fc = fb;
      b = a;
      fb = fa;
    }
    a = x;
    fa = fx;
    const Scalar xi = (a - b) / (c - b);
    const Scalar phi = (fa - fb) / (fc - fb);
    fraction = Scalar(0.5);
    if (phi * phi < xi && (Scalar(1) - phi) * (Scalar(1) - phi) < Scalar(1) - xi)
      fraction = fa / (fb - fa) * (fc / (fb - fc)) + (c - a) / (b - a) * (fa / (fc - fa)) * (fb / (fc - fb));
  }
  return is_before(fa) ? b : a;
}

}  // namespace detail

}  // namespace richflow
