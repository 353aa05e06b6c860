#pragma once

#include "richflow/core/types.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow::detail {

/// A step controller of any type.
template <class S>
class AnyController {
 public:
  virtual ~AnyController() = default;

  virtual void check() const = 0;
  [[nodiscard]] virtual StepPlan<S> plan(S t, S end, ControlMemory<S>& memory) const = 0;
  [[nodiscard]] virtual bool judge(S ratio, S h, int error_order, ControlMemory<S>& memory) const = 0;

  [[nodiscard]] virtual bool is_adaptive() const = 0;
  /// Of an adaptive one.
  [[nodiscard]] virtual const Tolerance<S>& tolerance() const = 0;
  [[nodiscard]] virtual S first_step() const = 0;
};

/// A copy of a controller.
template <class S, StepController<S> C>
class ControllerOf final : public AnyController<S> {
 public:
  explicit ControllerOf(const C& controller) : controller_(controller) {
    if constexpr (C::is_adaptive) {
      tolerance_.relative = controller_.tolerance.relative;
      tolerance_.absolute = controller_.tolerance.absolute;
    }
  }

  void check() const override { controller_.check(); }
  [[nodiscard]] StepPlan<S> plan(S t, S end, ControlMemory<S>& memory) const override {
    return controller_.plan(t, end, memory);
  }
  [[nodiscard]] bool judge(S ratio, S h, int error_order, ControlMemory<S>& memory) const override {
    return controller_.judge(ratio, h, error_order, memory);
  }

  [[nodiscard]] bool is_adaptive() const override { return C::is_adaptive; }
  [[nodiscard]] const Tolerance<S>& tolerance() const override { return tolerance_; }
  /// 0, which leaves it to the loop, for a controller of constant steps.
  [[nodiscard]] S first_step() const override {
    if constexpr (C::is_adaptive)
      return controller_.first_step;
    else
      return S(0);
  }

 private:
  const C controller_;
  Tolerance<S> tolerance_ = {};
};

}  // namespace richflow::detail
