#pragma once

#include <concepts>
#include <string>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/integrate/vector_field.hpp"

namespace richflow::detail {

/// A vector field of any type, with whatever else it may have: the loop and the steppers that need no more are compiled
/// once per number type, and call it for whole vectors. A member that the field lacks throws an Error.
template <class S>
class AnyField {
 public:
  using Scalar = S;
  /// What it has is known at run time.
  static constexpr bool has_conditional_members = true;

  virtual ~AnyField() = default;

  [[nodiscard]] virtual Index dimension() const = 0;
  virtual void operator()(S t, const Vector<S>& y, VectorRef<S> dy) const = 0;

  [[nodiscard]] virtual bool has_loss() const = 0;
  [[nodiscard]] virtual S loss(const Vector<S>& y) const = 0;

  [[nodiscard]] virtual bool has_loss_from_derivative() const = 0;
  [[nodiscard]] virtual S loss_from_derivative(const Vector<S>& y, const Vector<S>& dy) const = 0;

  /// In the field's own norm, or the default one.
  [[nodiscard]] virtual S error_ratio(const Vector<S>& y, const Vector<S>& y_new, const Vector<S>& error,
                                      const Tolerance<S>& tolerance) const = 0;

  /// What a stalled run may try, or nothing.
  [[nodiscard]] virtual std::string advice() const = 0;

  /// Steps of one pass over the data, for a rule that sees a part of them in each; 0 where there is no such part.
  [[nodiscard]] virtual Index steps_per_epoch() const = 0;
};

/// A SymmetricStiffField of any type.
template <class S>
class AnyStiffField : public AnyField<S> {
 public:
  virtual void negative_jacobian(S t, const Vector<S>& y, MatrixRef<S> jacobian) const = 0;
  /// Exact where the field knows no other.
  virtual void negative_jacobian(S t, const Vector<S>& y, S relative, S absolute, MatrixRef<S> jacobian) const = 0;
  [[nodiscard]] virtual bool is_graded() const = 0;

  /// See HasTimeDerivative.
  [[nodiscard]] virtual bool is_autonomous() const = 0;
  virtual void time_derivative(S t, S h, const Vector<S>& y, VectorRef<S> out) const = 0;
};

[[noreturn]] inline void throw_absent(const char* member) {
  throw Error(std::string("the problem has no member ") + member);
}

/// Outside FieldOf, where an `error_ratio` beside the problem is found too.
template <class Problem, class S>
[[nodiscard]] S error_ratio_of(const Problem& problem, const Vector<S>& y, const Vector<S>& y_new,
                               const Vector<S>& error, const Tolerance<S>& tolerance) {
  return error_ratio(problem, y, y_new, error, tolerance);
}

/// Refers to a problem as a field.
template <class Problem, class Base = AnyField<typename Problem::Scalar>>
class FieldOf : public Base {
  using S = typename Problem::Scalar;

 public:
  explicit FieldOf(const Problem& problem) : problem_(problem) {}

  [[nodiscard]] Index dimension() const override { return problem_.dimension(); }
  void operator()(S t, const Vector<S>& y, VectorRef<S> dy) const override { problem_(t, y, dy); }

  [[nodiscard]] bool has_loss() const override { return HasLoss<Problem>; }
  [[nodiscard]] S loss([[maybe_unused]] const Vector<S>& y) const override {
    if constexpr (HasLoss<Problem>)
      return problem_.loss(y);
    else
      throw_absent("loss");
  }

  [[nodiscard]] bool has_loss_from_derivative() const override { return HasLossFromDerivative<Problem>; }
  [[nodiscard]] S loss_from_derivative([[maybe_unused]] const Vector<S>& y,
                                       [[maybe_unused]] const Vector<S>& dy) const override {
    if constexpr (HasLossFromDerivative<Problem>)
      return problem_.loss_from_derivative(y, dy);
    else
      throw_absent("loss_from_derivative");
  }

  [[nodiscard]] S error_ratio(const Vector<S>& y, const Vector<S>& y_new, const Vector<S>& error,
                              const Tolerance<S>& tolerance) const override {
    return error_ratio_of(problem_, y, y_new, error, tolerance);
  }

  [[nodiscard]] std::string advice() const override {
    std::string advice;
    if constexpr (requires { advice += problem_.advice(); }) advice += problem_.advice();
    return advice;
  }

  [[nodiscard]] Index steps_per_epoch() const override {
    if constexpr (HasSource<Problem>)
      return problem_.steps_per_epoch();
    else
      return 0;
  }

 protected:
  const Problem& problem_;
};

/// Refers to a problem as a stiff field.
template <SymmetricStiffField Problem>
class StiffFieldOf final : public FieldOf<Problem, AnyStiffField<typename Problem::Scalar>> {
  using S = typename Problem::Scalar;

 public:
  using FieldOf<Problem, AnyStiffField<S>>::FieldOf;

  void negative_jacobian(S t, const Vector<S>& y, MatrixRef<S> jacobian) const override {
    this->problem_.negative_jacobian(t, y, jacobian);
  }
  void negative_jacobian(S t, const Vector<S>& y, [[maybe_unused]] S relative, [[maybe_unused]] S absolute,
                         MatrixRef<S> jacobian) const override {
    if constexpr (HasApproximateJacobian<Problem>)
      this->problem_.negative_jacobian(t, y, relative, absolute, jacobian);
    else
      this->problem_.negative_jacobian(t, y, jacobian);
  }
  [[nodiscard]] bool is_graded() const override {
    constexpr bool says_so = requires(const Problem& problem) {
      { problem.is_graded() } -> std::convertible_to<bool>;
    };
    if constexpr (says_so)
      return this->problem_.is_graded();
    else
      return false;
  }

  [[nodiscard]] bool is_autonomous() const override { return !depends_on_time(this->problem_); }
  void time_derivative(S t, S h, const Vector<S>& y, VectorRef<S> out) const override {
    if constexpr (HasTimeDerivative<Problem>)
      this->problem_.time_derivative(t, h, y, out);
    else
      throw_absent("time_derivative");
  }
};

/// The gradient flow of a model (GaussNewtonFlow) of any type.
template <class S>
class AnyTangentField : public AnyField<S> {
 public:
  static constexpr bool has_curvature = true;

  [[nodiscard]] virtual GaussNewtonTangent<S> make_tangent() const = 0;
};

/// Refers to a problem as the gradient flow of a model.
template <GaussNewtonFlow Problem>
class TangentFieldOf final : public FieldOf<Problem, AnyTangentField<typename Problem::Scalar>> {
  using S = typename Problem::Scalar;

 public:
  using FieldOf<Problem, AnyTangentField<S>>::FieldOf;

  [[nodiscard]] GaussNewtonTangent<S> make_tangent() const override { return this->problem_.make_tangent(); }
};

}  // namespace richflow::detail
