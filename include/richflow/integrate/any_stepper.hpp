#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include "richflow/core/types.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow::detail {

/// A stepper with its workspace, on a problem. What it does not have, by its members below, throws an Error.
template <class S>
class AnyStepper {
 public:
  virtual ~AnyStepper() = default;

  /// Before `begin`: the accepted steps so far, and what `memory` was then, empty at the very start.
  virtual void restore(Index /*step*/, const Vector<S>& /*memory*/) {}
  /// What the next steps depend on besides (t, y).
  [[nodiscard]] virtual const Vector<S>& memory() const {
    static const Vector<S> none = {};
    return none;
  }
  /// Whether nothing lies between two steps: those of an algorithm, not of an integrator.
  [[nodiscard]] virtual bool is_discrete() const { return false; }
  /// What the last step saw of the data; null where it is not one of a rule.
  [[nodiscard]] virtual const StepResiduals<S>* residuals() const { return nullptr; }

  virtual void begin(S t, const Vector<S>& y) = 0;
  virtual void step(S t, S h, const Vector<S>& y, Vector<S>& y_new) = 0;
  virtual void accept() = 0;
  /// `step`, for runs that never go back: true if it was made in the memory of y, where the end is sure to be finite.
  virtual bool step_forward(S t, S h, Vector<S>& y, Vector<S>& y_new) {
    step(t, h, y, y_new);
    return false;
  }
  /// |y_new|^2 of the last step where that was made on the way, or else a negative number.
  [[nodiscard]] virtual S square_norm() const { return S(-1); }
  /// A step in the memory of y, for runs that ask for it (RunOptions::in_place). False where it cannot be made, with y
  /// as it was.
  virtual bool step_in_place(S /*t*/, S /*h*/, Vector<S>& /*y*/) { throw_absent("step_in_place"); }
  [[nodiscard]] virtual const StepCounters& counters() const = 0;

  [[nodiscard]] virtual int error_order() const = 0;
  virtual const Vector<S>& error() = 0;

  [[nodiscard]] virtual bool shares_derivatives() const = 0;
  virtual const Vector<S>& start_derivative(S t, const Vector<S>& y) = 0;
  virtual const Vector<S>& end_derivative(S t_new, const Vector<S>& y_new) = 0;

  [[nodiscard]] virtual bool is_dense() const = 0;
  virtual void interpolate(S theta, S h, const Vector<S>& y, const Vector<S>& y_new, Vector<S>& out) const = 0;

  [[nodiscard]] virtual bool has_long_steps() const = 0;
  /// 0 where it knows none.
  [[nodiscard]] virtual S step_floor() const = 0;
};

/// The stepper `St` on a problem, which it refers to.
template <class St, class Problem>
class StepperOn final : public AnyStepper<typename Problem::Scalar> {
  using S = typename Problem::Scalar;

 public:
  StepperOn(const St& stepper, const Problem& problem);

  void begin(S t, const Vector<S>& y) override { stepper_.begin(problem_, t, y, ws_); }
  void step(S t, S h, const Vector<S>& y, Vector<S>& y_new) override { stepper_.step(problem_, t, h, y, y_new, ws_); }
  void accept() override { stepper_.accept(ws_); }
  [[nodiscard]] const StepCounters& counters() const override { return ws_.counters; }

  [[nodiscard]] int error_order() const override {
    if constexpr (EmbeddedStepper<St, Problem>)
      return St::error_order;
    else
      throw_absent("error_order");
  }
  const Vector<S>& error() override {
    if constexpr (EmbeddedStepper<St, Problem>)
      return kept(stepper_.error(ws_), error_);
    else
      throw_absent("error");
  }

  [[nodiscard]] bool shares_derivatives() const override { return DerivativeStepper<St, Problem>; }
  const Vector<S>& start_derivative([[maybe_unused]] S t, [[maybe_unused]] const Vector<S>& y) override {
    if constexpr (DerivativeStepper<St, Problem>)
      return kept(stepper_.start_derivative(problem_, t, y, ws_), start_);
    else
      throw_absent("start_derivative");
  }
  const Vector<S>& end_derivative([[maybe_unused]] S t_new, [[maybe_unused]] const Vector<S>& y_new) override {
    if constexpr (DerivativeStepper<St, Problem>)
      return kept(stepper_.end_derivative(problem_, t_new, y_new, ws_), end_);
    else
      throw_absent("end_derivative");
  }

  [[nodiscard]] bool is_dense() const override { return DenseStepper<St, Problem>; }
  void interpolate([[maybe_unused]] S theta, [[maybe_unused]] S h, [[maybe_unused]] const Vector<S>& y,
                   [[maybe_unused]] const Vector<S>& y_new, [[maybe_unused]] Vector<S>& out) const override {
    if constexpr (DenseStepper<St, Problem>)
      stepper_.interpolate(ws_, theta, h, y, y_new, out);
    else
      throw_absent("interpolate");
  }

  [[nodiscard]] bool has_long_steps() const override { return HasLongSteps<St>; }
  [[nodiscard]] S step_floor() const override {
    if constexpr (HasStepFloor<St, Problem>)
      return stepper_.step_floor(ws_);
    else
      return S(0);
  }

 private:
  /// What a stepper returns: a vector of its own, or a value that ends with the statement.
  template <class T>
  static const Vector<S>& kept(T&& vector, Vector<S>& memory) {
    if constexpr (std::is_lvalue_reference_v<T> && std::derived_from<std::remove_cvref_t<T>, Vector<S>>)
      return vector;
    else
      return memory = std::forward<T>(vector);
  }

  const St stepper_;
  const Problem& problem_;
  WorkspaceOf<St, Problem> ws_;
  Vector<S> error_ = {};
  Vector<S> start_ = {};
  Vector<S> end_ = {};
};

template <class St, class Problem>
StepperOn<St, Problem>::StepperOn(const St& stepper, const Problem& problem)
    : stepper_(stepper), problem_(problem), ws_(stepper_.make_workspace(problem_)) {}

/// A stepper that promises to call nothing of `Problem` beyond what an AnyField has:
/// `St::works_on_any_field<St, Problem>`.
template <class St, class Problem>
concept WorksOnAnyField = requires {
  requires St::template works_on_any_field<St, Problem>;
};

/// The same of an AnyStiffField: `St::works_on_any_stiff_field<St, Problem>`.
template <class St, class Problem>
concept WorksOnAnyStiffField = SymmetricStiffField<Problem> && requires {
  requires St::template works_on_any_stiff_field<St, Problem>;
};

/// The same of an AnyTangentField: `St::works_on_any_tangent_field<St, Problem>`.
template <class St, class Problem>
concept WorksOnAnyTangentField = GaussNewtonFlow<Problem> && !SymmetricStiffField<Problem> && requires {
  requires St::template works_on_any_tangent_field<St, Problem>;
};

}  // namespace richflow::detail
