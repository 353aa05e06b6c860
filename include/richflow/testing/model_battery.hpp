#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/testing/battery.hpp"
#include "richflow/testing/gradient_check.hpp"

namespace richflow::testing {

/// How a model battery draws its point, and what it can measure.
template <class S>
struct ModelBatteryOptions {
  S size = S(1);     ///< of the standard normal parameters at which the model is checked
  S step = S(1e-5);  ///< of the differences, small against the entries of w
  /// Runs an action and says how many times it allocated, where the caller can tell; steps of an evaluation must not.
  std::function<Index(const std::function<void()>&)> count_allocations = {};
};

namespace detail {

/// `|A - B|` relative to the larger.
template <class S>
[[nodiscard]] S relative_distance(const Matrix<S>& A, const Matrix<S>& B) {
  return (A - B).norm() / std::max(std::max(A.norm(), B.norm()), std::numeric_limits<S>::min());
}

/// Checks of the evaluation `at` of a model against its prediction F and its transposed Jacobian (P x NK) at (w, X).
template <class S>
void check_evaluation(Evaluation<S> at, const Vector<S>& w, Samples<S> X, const Matrix<S>& F,
                      const Matrix<S>& transposed, const Vector<S>& v, const Matrix<S>& G, S rounding,
                      const ModelBatteryOptions<S>& options, BatteryReport& report) {
  const auto add = [&](const char* name, S measured, S bound) {
    report.checks.push_back({name, static_cast<double>(measured), static_cast<double>(bound), measured <= bound});
  };
  const Index samples = X.size();
  const Index outputs = F.cols();
  const S nan = std::numeric_limits<S>::quiet_NaN();
  const S tiny = std::numeric_limits<S>::min();
  const Eigen::Map<const Vector<S>> g(G.data(), G.size());
  const Vector<S> pulled = transposed * g;
  const Vector<S> pushed = transposed.transpose() * v;
  // Sums may cancel: relative to the sizes of their terms.
  const S pulled_size = std::max(transposed.norm() * G.norm(), tiny);
  const S pushed_size = std::max(transposed.norm() * v.norm(), tiny);
  const S kernel_size = std::max(transposed.squaredNorm(), tiny);

  Matrix<S> outputs_of_all = Matrix<S>::Constant(samples, outputs, nan);
  Vector<S> gradient = Vector<S>::Constant(w.size(), nan);
  Matrix<S> tangent = Matrix<S>::Constant(samples, outputs, nan);
  Matrix<S> K(samples * outputs, samples * outputs);
  Matrix<S> trace(samples, samples);

  at.forward(w, X, outputs_of_all);
  add("an evaluation predicts as the model", relative_distance<S>(outputs_of_all, F), rounding);
  for (const bool is_linearized : {false, true}) {
    if (is_linearized) at.linearize();
    at.vjp(G, gradient);
    add(is_linearized ? "vjp of an evaluation, linearized" : "vjp of an evaluation",
        (gradient - pulled).norm() / pulled_size, rounding);
    at.jvp(v, tangent);
    add(is_linearized ? "jvp of an evaluation, linearized" : "jvp of an evaluation",
        (Eigen::Map<const Vector<S>>(tangent.data(), tangent.size()) - pushed).norm() / pushed_size, rounding);
    at.kernel(K);
    add(is_linearized ? "the kernel is J J^T, linearized" : "the kernel is J J^T",
        (K - transposed.transpose() * transposed).norm() / kernel_size, rounding);
    at.kernel(trace, KernelForm::trace);
    Matrix<S> expected = Matrix<S>::Zero(samples, samples);
    for (Index k = 0; k < outputs; ++k) expected += K.block(k * samples, k * samples, samples, samples);
    add(is_linearized ? "the trace of the kernel, linearized" : "the trace of the kernel",
        (trace - expected).norm() / kernel_size, rounding);
    Vector<S> target = v;
    at.add_pullback(G, S(-0.25), target);
    add(is_linearized ? "add_pullback adds, linearized" : "add_pullback adds",
        (target - v + S(0.25) * pulled).norm() / (v.norm() + pulled_size), rounding);
  }

  // In the memory of the parameters, and on to other samples.
  const Index part = (samples + 1) / 2;
  StoredSamples<S> of_first;
  of_first.take(X, 0, part);
  const Samples<S> first = of_first.view();
  Matrix<S> part_outputs(part, outputs);
  Vector<S> moved = w;
  at.forward(moved, X, outputs_of_all);
  at.add_pullback(G, S(-0.25), moved);
  add("add_pullback onto the parameters", (moved - w + S(0.25) * pulled).norm() / (w.norm() + pulled_size), rounding);
  at.forward(moved, first, part_outputs);
  Vector<S> fused = w;
  Matrix<S> fused_outputs(part, outputs);
  at.forward(fused, X, outputs_of_all);
  at.descend_and_forward(G, S(-0.25), fused, first, fused_outputs);
  add("descend_and_forward is both, bit for bit", (fused - moved).norm() + (fused_outputs - part_outputs).norm(), S(0));

  at.forward(w, first, part_outputs);
  add("a part of the samples predicts as the whole", relative_distance<S>(part_outputs, F.topRows(part)), rounding);
  {
    // G and the tangent as parts of larger matrices.
    Matrix<S> of_part(w.size(), part * outputs);
    for (Index k = 0; k < outputs; ++k) of_part.middleCols(k * part, part) = transposed.middleCols(k * samples, part);
    const Matrix<S> seed = G.topRows(part);
    at.vjp(G.topRows(part), gradient);
    at.jvp(v, tangent.topRows(part));
    Matrix<S> part_kernel(part * outputs, part * outputs);
    at.kernel(part_kernel);
    const Matrix<S> pushed_part = tangent.topRows(part);
    S worst = (gradient - of_part * Eigen::Map<const Vector<S>>(seed.data(), seed.size())).norm() / pulled_size;
    worst = std::max(
        worst, (Eigen::Map<const Vector<S>>(pushed_part.data(), pushed_part.size()) - of_part.transpose() * v).norm() /
                   pushed_size);
    worst = std::max(worst, (part_kernel - of_part.transpose() * of_part).norm() / kernel_size);
    add("a part of the samples has its own products", worst, rounding);
  }

  at.forward(w, X, outputs_of_all);
  at.vjp(G, gradient);
  Evaluation<S> other = at;
  Vector<S> of_copy = Vector<S>::Constant(w.size(), nan);
  other.vjp(G, of_copy);
  const Vector<S> elsewhere = S(2) * w;
  other.forward(elsewhere, first, part_outputs);
  Vector<S> again = Vector<S>::Constant(w.size(), nan);
  at.vjp(G, again);
  add("two evaluations are independent", (again - gradient).norm() + (of_copy - gradient).norm(), S(0));

  if (options.count_allocations) {
    const Index count = options.count_allocations([&] {
      at.forward(w, X, outputs_of_all);
      at.vjp(G, gradient);
      at.jvp(v, tangent);
      at.kernel(K);
      at.forward(w, outputs_of_all);
      at.linearize();
      at.add_pullback(G, S(1), gradient);
      at.jvp(v, tangent);
      at.kernel(K);
    });
    add("allocations of an evaluation", static_cast<S>(count), S(0));
  }
}

/// `homogeneity()`, where the model has one.
template <class M>
[[nodiscard]] std::optional<Index> homogeneity_of(const M& model) {
  if constexpr (requires { model.homogeneity(); }) {
    try {
      return static_cast<Index>(model.homogeneity());
    } catch (const Error&) {
    }
  }
  return std::nullopt;
}

}  // namespace detail

/// What every model of richflow must satisfy, and a user's own as well: run it once per model in a test.
///
/// - `predict` and `vjp` at `w` write every entry of their output, depend on nothing but their arguments, and
///   treat samples independently
/// - `vjp` is the transposed derivative of `predict` (central differences, error falling like h^2)
/// - `jvp` is the derivative, and the transpose of `vjp`: `<G, J v> = <J^T G, v>` (if there is one)
/// - `hessian_product` is the derivative of `vjp` (if there is one)
/// - its evaluation says the same: outputs, `vjp`, `jvp`, `add_pullback`, also onto the parameters themselves, kernel
///   and its trace against J J^T, before and after `linearize`; parts of the samples, fused steps, independence of a
///   copy, and, where the caller can count them, no allocations
/// - `predict = X beta` (if it is a linear predictor)
/// - `invariant` is constant along the flow: its derivative in the direction of -grad L vanishes (if there is one)
/// - `unit_square_norms` is a sum of squares (if it has units), and `homogeneity()` is the degree (if it says one)
///
/// `w` is a point where the model is differentiable, `X` (N x d, or measurements) and the labels (N x K) some data, `v`
/// (P) and `G` (N x K) directions; all should be random. `options.step` is the step of the differences, small against
/// the entries of w. Throws DimensionError for wrong shapes.
template <Model M>
[[nodiscard]] BatteryReport model_battery(const M& model, const Vector<typename M::Scalar>& w,
                                          const Dataset<typename M::Scalar>& dataset,
                                          const Vector<typename M::Scalar>& v, const Matrix<typename M::Scalar>& G,
                                          const ModelBatteryOptions<typename M::Scalar>& options) {
  using Scalar = typename M::Scalar;
  using std::abs;
  using std::pow;
  const Scalar h = options.step;
  const Samples<Scalar> X = dataset.samples();
  const Index samples = X.size();
  const Index outputs = richflow::detail::num_outputs(model);
  const Index parameters = model.num_parameters();
  require_size("w", w.size(), parameters);
  require_size("v", v.size(), parameters);
  require<DimensionError>(G.rows() == samples && G.cols() == outputs, "G is ", G.rows(), " x ", G.cols(),
                          " where N x K = ", samples, " x ", outputs);

  BatteryReport report;
  const auto add = [&](const char* name, Scalar measured, Scalar bound) {
    report.checks.push_back({name, static_cast<double>(measured), static_cast<double>(bound), measured <= bound});
  };
  const auto add_check = [&](const char* name, const DerivativeCheck<Scalar>& check) {
    report.checks.push_back({name, static_cast<double>(check.fine_error),
                             static_cast<double>(std::max(check.rounding, Scalar(0.01))), check.passed()});
  };
  const auto predict = [&](const Vector<Scalar>& at, Samples<Scalar> on, Scalar before) {
    Matrix<Scalar> F = Matrix<Scalar>::Constant(on.size(), outputs, before);
    richflow::detail::predict_of(model, at, on, F);
    return F;
  };
  // Two ways of summing at most P or N d products in working precision.
  const Scalar rounding =
      Scalar(8) * std::numeric_limits<Scalar>::epsilon() * Scalar(std::max(parameters, samples) + X.num_inputs());
  const Scalar nan = std::numeric_limits<Scalar>::quiet_NaN();

  const Matrix<Scalar> prediction = predict(w, X, nan);
  add("predict overwrites its output", (predict(w, X, Scalar(1)) - prediction).norm(), Scalar(0));

  Matrix<Scalar> alone(samples, outputs);
  StoredSamples<Scalar> one;
  for (Index n = 0; n < samples; ++n) {
    one.take(X, n, 1);
    alone.row(n) = predict(w, one.view(), nan);
  }
  add("predict treats samples independently", detail::relative_distance<Scalar>(alone, prediction), rounding);

  Vector<Scalar> pulled = Vector<Scalar>::Constant(parameters, nan);
  richflow::detail::vjp_of(model, w, X, G, pulled);
  Vector<Scalar> pulled_again = Vector<Scalar>::Constant(parameters, Scalar(1));
  richflow::detail::vjp_of(model, w, X, G, pulled_again);
  add("vjp overwrites its output", (pulled_again - pulled).norm(), Scalar(0));

  add_check("vjp is the transposed derivative of predict", check_vjp(model, w, X, h));

  if constexpr (HasJvp<M>) {
    Matrix<Scalar> pushed = Matrix<Scalar>::Constant(samples, outputs, nan);
    richflow::detail::jvp_of(model, w, X, v, pushed);
    add_check("jvp is the derivative of predict", check_jvp(model, w, X, v, h));
    const Scalar size = std::max(G.norm() * pushed.norm(), pulled.norm() * v.norm());
    add("jvp is the transpose of vjp", abs(G.cwiseProduct(pushed).sum() - pulled.dot(v)),
        rounding * std::max(size, std::numeric_limits<Scalar>::min()));
  }
  if constexpr (HasHessianProduct<M>)
    add_check("hessian_product is the derivative of vjp", check_hessian_product(model, w, X, G, v, h));
  detail::check_evaluation(make_evaluation(model, samples), w, X, prediction, transposed_jacobian_by_vjp(model, w, X),
                           v, G, rounding, options, report);
  if constexpr (LinearPredictor<M>) {
    Vector<Scalar> beta = Vector<Scalar>::Constant(model.num_inputs(), nan);
    model.beta(w, beta);
    Matrix<Scalar> expected(samples, 1);
    if constexpr (takes_measurements<M>) {
      const MatrixMeasurements<Scalar>& measurements = X.measurements();
      expected =
          measurements.apply(Eigen::Map<const Matrix<Scalar>>(beta.data(), measurements.rows(), measurements.cols()));
    } else {
      expected = X.matrix() * beta;
    }
    add("predict is X beta", detail::relative_distance<Scalar>(expected, prediction), rounding);
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
  if constexpr (HasUnits<M>) {
    Vector<Scalar> norms = Vector<Scalar>::Constant(model.num_units(), nan);
    model.unit_square_norms(v, norms);
    Vector<Scalar> sum = Vector<Scalar>::Zero(norms.size());
    Vector<Scalar> of_one(norms.size());
    for (Index p = 0; p < parameters; ++p) {
      model.unit_square_norms(v[p] * Vector<Scalar>::Unit(parameters, p), of_one);
      sum += of_one;
    }
    add("unit_square_norms is a sum of squares", detail::relative_distance<Scalar>(sum, norms), rounding);
  }
  if (const auto degree = detail::homogeneity_of(model)) {
    // A power of two: no rounding, but in functions other than products.
    const Matrix<Scalar> doubled = predict(Scalar(2) * w, X, nan);
    add("homogeneity is the degree in w",
        detail::relative_distance<Scalar>(doubled, pow(Scalar(2), Scalar(*degree)) * prediction), rounding);
  }
  return report;
}

/// The same with differences of step `h`, and for one output a vector r (N) in place of G.
template <Model M>
[[nodiscard]] BatteryReport model_battery(const M& model, const Vector<typename M::Scalar>& w,
                                          const Dataset<typename M::Scalar>& dataset,
                                          const Vector<typename M::Scalar>& v, const Vector<typename M::Scalar>& r,
                                          typename M::Scalar h) {
  return model_battery(model, w, dataset, v, Matrix<typename M::Scalar>(r),
                       ModelBatteryOptions<typename M::Scalar>{.step = h});
}

/// The same at a random point and along random directions, standard normal numbers drawn from `seed`.
template <Model M>
[[nodiscard]] BatteryReport model_battery(const M& model, const Dataset<typename M::Scalar>& dataset,
                                          std::uint64_t seed,
                                          const ModelBatteryOptions<typename M::Scalar>& options = {}) {
  using Scalar = typename M::Scalar;
  RandomStream random(seed);
  const Vector<Scalar> w = options.size * normal_vector<Scalar>(random, model.num_parameters());
  const Vector<Scalar> v = normal_vector<Scalar>(random, model.num_parameters());
  Matrix<Scalar> G(dataset.num_samples(), richflow::detail::num_outputs(model));
  for (Index i = 0; i < G.size(); ++i) G.data()[i] = static_cast<Scalar>(random.normal());
  return model_battery(model, w, dataset, v, G, options);
}

}  // namespace richflow::testing
