#pragma once

#include <string>

#include "richflow/core/concepts.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow::detail {

/// A vector field of any type, with what it may have beside: the loop and the steppers that need no more are compiled
/// once per number type, and call it for whole vectors. What a field does not have is not called.
template <class S>
class AnyField {
 public:
  using Scalar = S;
  /// What it has is known at run time.
  static constexpr bool has_conditional_members = true;

  virtual ~AnyField() = default;

  [[nodiscard]] virtual Index dimension() const = 0;
  virtual void operator()(S t, ConstVectorRef<S> y, VectorRef<S> dy) const = 0;

  [[nodiscard]] virtual bool has_loss() const = 0;
  [[nodiscard]] virtual S loss(ConstVectorRef<S> y) const = 0;

  [[nodiscard]] virtual bool has_loss_from_derivative() const = 0;
  [[nodiscard]] virtual S loss_from_derivative(const Vector<S>& y, const Vector<S>& dy) const = 0;

  /// In the field's own norm, or the default one.
  [[nodiscard]] virtual S error_ratio(const Vector<S>& y, const Vector<S>& y_new, const Vector<S>& error,
                                      const Tolerance<S>& tolerance) const = 0;

  virtual void negative_jacobian(S t, ConstVectorRef<S> y, MatrixRef<S> jacobian) const = 0;
  /// Exact where the field knows no other.
  virtual void negative_jacobian(S t, ConstVectorRef<S> y, S relative, S absolute, MatrixRef<S> jacobian) const = 0;
  [[nodiscard]] virtual bool is_graded() const = 0;

  /// What a stalled run may try, or nothing.
  [[nodiscard]] virtual std::string advice() const = 0;
};

/// Refers to a problem as a field.
template <class Problem>
class FieldOf final : public AnyField<typename Problem::Scalar> {
  using S = typename Problem::Scalar;

 public:
  explicit FieldOf(const Problem& problem) : problem_(problem) {}

  [[nodiscard]] Index dimension() const override { return problem_.dimension(); }
  void operator()(S t, ConstVectorRef<S> y, VectorRef<S> dy) const override { problem_(t, y, dy); }

  [[nodiscard]] bool has_loss() const override { return HasLoss<Problem>; }
  [[nodiscard]] S loss([[maybe_unused]] ConstVectorRef<S> y) const override {
    if constexpr (HasLoss<Problem>)
      return problem_.loss(y);
    else
      return S(0);
  }

  [[nodiscard]] bool has_loss_from_derivative() const override { return HasLossFromDerivative<Problem>; }
  [[nodiscard]] S loss_from_derivative([[maybe_unused]] const Vector<S>& y,
                                       [[maybe_unused]] const Vector<S>& dy) const override {
    if constexpr (HasLossFromDerivative<Problem>)
      return problem_.loss_from_derivative(y, dy);
    else
      return S(0);
  }

  [[nodiscard]] S error_ratio(const Vector<S>& y, const Vector<S>& y_new, const Vector<S>& error,
                              const Tolerance<S>& tolerance) const override {
    return richflow::error_ratio(problem_, y, y_new, error, tolerance);
  }

  void negative_jacobian([[maybe_unused]] S t, [[maybe_unused]] ConstVectorRef<S> y,
                         [[maybe_unused]] MatrixRef<S> jacobian) const override {
    if constexpr (SymmetricStiffField<Problem>) problem_.negative_jacobian(t, y, jacobian);
  }
  void negative_jacobian(S t, ConstVectorRef<S> y, [[maybe_unused]] S relative, [[maybe_unused]] S absolute,
                         MatrixRef<S> jacobian) const override {
    if constexpr (HasApproximateJacobian<Problem>)
      problem_.negative_jacobian(t, y, relative, absolute, jacobian);
    else
      negative_jacobian(t, y, jacobian);
  }
  [[nodiscard]] bool is_graded() const override {
    if constexpr (requires { problem_.is_graded(); })
      return problem_.is_graded();
    else
      return false;
  }

  [[nodiscard]] std::string advice() const override {
    std::string advice;
    if constexpr (requires { advice += problem_.advice(); }) advice += problem_.advice();
    return advice;
  }

 private:
  const Problem& problem_;
};

}  // namespace richflow::detail
