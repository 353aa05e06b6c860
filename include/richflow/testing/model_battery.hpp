#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/testing/battery.hpp"
#include "richflow/testing/gradient_check.hpp"

namespace richflow::testing {

/// What every model of richflow must satisfy, and a user's own as well: run it once per model in a test.
///
/// - `predict` and `vjp` at `w` write every entry of their output, depend on nothing but their arguments, and
///   treat samples independently
/// - `vjp` is the transposed derivative of `predict` (central differences, error falling like h^2)
/// - `jvp` is the derivative, and the transpose of `vjp`: `<r, J v> = <J^T r, v>` (if there is one)
/// - `predict = X beta` (if it is a linear predictor)
/// - `invariant` is constant along the flow: its derivative in the direction of -grad L vanishes (if there is one)
///
/// `w` is a point where the model is differentiable, `X` (N x d) and `y` (N) some data, `v` (P) and `r` (N)
/// directions; all should be random. `h` is the step of the differences, small against the entries of w.
template <Model M>
[[nodiscard]] BatteryReport model_battery(const M& model, const Vector<typename M::Scalar>& w,
                                          const BasicDataset<typename M::Scalar>& dataset,
                                          const Vector<typename M::Scalar>& v, const Vector<typename M::Scalar>& r,
                                          typename M::Scalar h) {
  using Scalar = typename M::Scalar;
  using std::abs;
  const Matrix<Scalar>& X = dataset.X();
  const Index samples = X.rows();
  const Index parameters = model.num_parameters();
  require_size("w", w.size(), parameters);
  require_size("v", v.size(), parameters);
  require_size("r", r.size(), samples);

  BatteryReport report;
  const auto add = [&](const char* name, Scalar measured, Scalar bound) {
    report.checks.push_back({name, static_cast<double>(measured), static_cast<double>(bound), measured <= bound});
  };
  const auto add_check = [&](const char* name, const DerivativeCheck<Scalar>& check) {
    report.checks.push_back({name, static_cast<double>(check.fine_error),
                             static_cast<double>(std::max(check.rounding, Scalar(0.01))), check.passed()});
  };
  const auto distance = [](const Vector<Scalar>& a, const Vector<Scalar>& b) {
    return (a - b).norm() / std::max(std::max(a.norm(), b.norm()), std::numeric_limits<Scalar>::min());
  };
  // Two ways of summing at most P or N d products in working precision.
  const Scalar rounding =
      Scalar(8) * std::numeric_limits<Scalar>::epsilon() * Scalar(std::max(parameters, samples) + X.cols());
  const Scalar nan = std::numeric_limits<Scalar>::quiet_NaN();

  Vector<Scalar> prediction = Vector<Scalar>::Constant(samples, nan);
  model.predict(w, X, prediction);
  Vector<Scalar> again = Vector<Scalar>::Constant(samples, Scalar(1));
  model.predict(w, X, again);
  add("predict overwrites its output", (again - prediction).norm(), Scalar(0));

  Vector<Scalar> alone(samples);
  for (Index n = 0; n < samples; ++n) {
    const Matrix<Scalar> row = X.row(n);
    model.predict(w, row, alone.segment(n, 1));
  }
  add("predict treats samples independently", distance(alone, prediction), rounding);

  Vector<Scalar> pulled = Vector<Scalar>::Constant(parameters, nan);
  model.vjp(w, X, r, pulled);
  Vector<Scalar> pulled_again = Vector<Scalar>::Constant(parameters, Scalar(1));
  model.vjp(w, X, r, pulled_again);
  add("vjp overwrites its output", (pulled_again - pulled).norm(), Scalar(0));

  add_check("vjp is the transposed derivative of predict", check_vjp(model, w, X, h));

  if constexpr (HasJvp<M>) {
    Vector<Scalar> pushed = Vector<Scalar>::Constant(samples, nan);
    model.jvp(w, X, v, pushed);
    add_check("jvp is the derivative of predict", check_jvp(model, w, X, v, h));
    const Scalar size = std::max(r.norm() * pushed.norm(), pulled.norm() * v.norm());
    add("jvp is the transpose of vjp", abs(r.dot(pushed) - pulled.dot(v)),
        rounding * std::max(size, std::numeric_limits<Scalar>::min()));
  }
  if constexpr (LinearPredictor<M>) {
    Vector<Scalar> beta = Vector<Scalar>::Constant(model.input_dimension(), nan);
    model.beta(w, beta);
    add("predict is X beta", distance(X * beta, prediction), rounding);
  }
  if constexpr (HasInvariant<M>) {
    // The central difference along the velocity; for a quantity of degree three and more it leaves a term of
    // third order in the step, which is below h^2 relative to the quantity.
    const GradientFlow<M> flow(model, dataset);
    Vector<Scalar> velocity(parameters);
    flow(Scalar(0), w, velocity);
    const Scalar step = h * w.norm() / std::max(velocity.norm(), std::numeric_limits<Scalar>::min());
    const Vector<Scalar> ahead = model.invariant(w + step * velocity);
    const Vector<Scalar> behind = model.invariant(w - step * velocity);
    const Scalar size = std::max(ahead.norm(), behind.norm());
    add("invariant is constant along the flow", (ahead - behind).norm(),
        std::max(h * h, rounding) * std::max(size, std::numeric_limits<Scalar>::min()));
  }
  return report;
}

}  // namespace richflow::testing
