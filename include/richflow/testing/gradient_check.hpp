#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

/// @file
/// Derivatives against central differences, for any test framework: the functions measure, the caller judges.
/// With two difference steps the error of a correct derivative falls like h^2, and that of a wrong one does
/// not, whatever its size; so the measured order tells more than a small error.

namespace richflow::testing {

/// How a derivative compares with central differences of two steps.
template <class Scalar>
struct DerivativeCheck {
  Scalar coarse_error = Scalar(0);  ///< with step h, relative to the size of the derivative
  Scalar fine_error = Scalar(0);    ///< with step h / 2
  /// What rounding contributes to `fine_error`: below it the error cannot fall further.
  Scalar rounding = Scalar(0);
  Scalar order = Scalar(0);  ///< log2(coarse_error / fine_error); 2 for a correct derivative

  /// True if the error is at the level of rounding, or small and falling like h^2 (an order of 1.8 to 2.2; a polynomial
  /// of degree 2 has no error but rounding).
  [[nodiscard]] bool passed() const {
    using std::isfinite;
    if (!isfinite(coarse_error) || !isfinite(fine_error)) return false;
    if (fine_error <= rounding) return true;
    return fine_error <= Scalar(0.01) && order >= Scalar(1.8) && order <= Scalar(2.2);
  }
};

/// Compares `derivative`, the derivative at 0 of the vector-valued `curve(s)`, with central differences of steps
/// h and h / 2. The curve returns a `Vector<Scalar>`, with values of relative accuracy of a few ulp. Throws
/// ArgumentError unless h is positive and finite.
template <class Scalar, class Curve>
[[nodiscard]] DerivativeCheck<Scalar> check_derivative(const Curve& curve, const Vector<Scalar>& derivative, Scalar h) {
  using std::isfinite;
  using std::log2;
  require(isfinite(h) && h > Scalar(0), "check_derivative: h must be positive and finite, got ", h);
  Scalar values(0);
  const auto difference = [&](Scalar step) {
    const Vector<Scalar> ahead = curve(step);
    const Vector<Scalar> behind = curve(-step);
    require_size("the derivative", derivative.size(), ahead.size());
    values = std::max(ahead.norm(), behind.norm());
    return Vector<Scalar>((ahead - behind) / (Scalar(2) * step));
  };
  const Scalar size = std::max(derivative.norm(), std::numeric_limits<Scalar>::min());
  DerivativeCheck<Scalar> check;
  check.coarse_error = (difference(h) - derivative).norm() / size;
  check.fine_error = (difference(h / Scalar(2)) - derivative).norm() / size;
  check.rounding = Scalar(64) * std::numeric_limits<Scalar>::epsilon() * (Scalar(1) + values / (size * h));
  check.order = log2(check.coarse_error / std::max(check.fine_error, std::numeric_limits<Scalar>::min()));
  return check;
}

/// The gradient of a scalar function along one direction v: `function(x)` against `gradient` (at x), by
/// central differences of steps h and h / 2 times |v|.
template <class Scalar, class Function>
[[nodiscard]] DerivativeCheck<Scalar> check_gradient(const Function& function, const Vector<Scalar>& x,
                                                     const Vector<Scalar>& gradient, const Vector<Scalar>& direction,
                                                     Scalar h) {
  require_size("gradient", gradient.size(), x.size());
  require_size("direction", direction.size(), x.size());
  const Vector<Scalar> slope = Vector<Scalar>::Constant(1, gradient.dot(direction));
  return check_derivative<Scalar>(
      [&](Scalar s) -> Vector<Scalar> {
        return Vector<Scalar>::Constant(1, function(Vector<Scalar>(x + s * direction)));
      },
      slope, h);
}

/// J^T by `vjp`, P x NK: column n + k N is the gradient of output k of sample n. Cost: NK calls.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> transposed_jacobian_by_vjp(const M& model, const Vector<typename M::Scalar>& w,
                                                                    Samples<typename M::Scalar> X) {
  using Scalar = typename M::Scalar;
  const Index outputs = richflow::detail::num_outputs(model);
  Matrix<Scalar> transposed(model.num_parameters(), X.size() * outputs);
  Matrix<Scalar> unit = Matrix<Scalar>::Zero(X.size(), outputs);
  for (Index i = 0; i < unit.size(); ++i) {
    unit.data()[i] = Scalar(1);
    richflow::detail::vjp_of(model, w, X, unit, transposed.col(i));
    unit.data()[i] = Scalar(0);
  }
  return transposed;
}

/// The whole `vjp` of a model at w, all P columns of the NK x P Jacobian, against central differences of `predict`
/// in each parameter (differences of step h and h / 2). Cost: 4 P predictions and NK calls of `vjp`.
template <Model M>
[[nodiscard]] DerivativeCheck<typename M::Scalar> check_vjp(const M& model, const Vector<typename M::Scalar>& w,
                                                            Samples<typename M::Scalar> X, typename M::Scalar h) {
  using Scalar = typename M::Scalar;
  const Index outputs = richflow::detail::num_outputs(model);
  const Index values_at_once = X.size() * outputs;
  const Matrix<Scalar> jacobian = transposed_jacobian_by_vjp(model, w, X).transpose();
  // All differences at once, as one long vector.
  const Vector<Scalar> derivative = Eigen::Map<const Vector<Scalar>>(jacobian.data(), jacobian.size());
  return check_derivative<Scalar>(
      [&](Scalar s) -> Vector<Scalar> {
        Vector<Scalar> values(derivative.size());
        Vector<Scalar> moved = w;
        for (Index p = 0; p < w.size(); ++p) {
          moved[p] = w[p] + s;
          Eigen::Map<Matrix<Scalar>> F(values.data() + p * values_at_once, X.size(), outputs);
          richflow::detail::predict_of(model, moved, X, F);
          moved[p] = w[p];
        }
        return values;
      },
      derivative, h);
}

/// `jvp` of a model at w in the direction v against central differences of `predict` along v.
template <HasJvp M>
[[nodiscard]] DerivativeCheck<typename M::Scalar> check_jvp(const M& model, const Vector<typename M::Scalar>& w,
                                                            Samples<typename M::Scalar> X,
                                                            const Vector<typename M::Scalar>& v, typename M::Scalar h) {
  using Scalar = typename M::Scalar;
  const Index outputs = richflow::detail::num_outputs(model);
  Vector<Scalar> derivative(X.size() * outputs);
  richflow::detail::jvp_of(model, w, X, v, Eigen::Map<Matrix<Scalar>>(derivative.data(), X.size(), outputs));
  return check_derivative<Scalar>(
      [&](Scalar s) -> Vector<Scalar> {
        Vector<Scalar> values(derivative.size());
        richflow::detail::predict_of(model, Vector<Scalar>(w + s * v), X,
                                     Eigen::Map<Matrix<Scalar>>(values.data(), X.size(), outputs));
        return values;
      },
      derivative, h);
}

/// `hessian_product` of a model at w in the direction v against central differences of `vjp` along v.
template <HasHessianProduct M>
[[nodiscard]] DerivativeCheck<typename M::Scalar> check_hessian_product(
    const M& model, const Vector<typename M::Scalar>& w, Samples<typename M::Scalar> X,
    const Matrix<typename M::Scalar>& G, const Vector<typename M::Scalar>& v, typename M::Scalar h) {
  using Scalar = typename M::Scalar;
  Vector<Scalar> derivative(w.size());
  richflow::detail::hessian_product_of(model, w, X, G, v, derivative);
  return check_derivative<Scalar>(
      [&](Scalar s) -> Vector<Scalar> {
        Vector<Scalar> pulled(w.size());
        richflow::detail::vjp_of(model, Vector<Scalar>(w + s * v), X, G, pulled);
        return pulled;
      },
      derivative, h);
}

}  // namespace richflow::testing
