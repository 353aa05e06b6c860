#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/integrate/tableau.hpp"
#include "richflow/integrate/vector_field.hpp"

namespace richflow {

namespace detail {

template <class Tableau>
constexpr bool has_error_weights = requires {
  Tableau::b_error;
};

template <class Tableau>
constexpr bool has_dense_weights = requires {
  Tableau::dense;
};

/// True when the last stage is evaluated at the result of the step.
template <class Tableau>
constexpr bool last_stage_is_result() {
  constexpr std::size_t last = std::size_t(Tableau::stages) - 1;
  if (last == 0) return false;
  for (std::size_t j = 0; j < last; ++j)
    if (!(Tableau::a[last][j] == Tableau::b[j])) return false;
  return Tableau::b[last].is_zero() && Tableau::c[last].numerator == Tableau::c[last].denominator;
}

/// b - b_embedded in `Scalar`, or nothing.
template <class Scalar, class Tableau, std::size_t stages>
std::array<Scalar, stages> error_weights() {
  std::array<Scalar, stages> weights{};
  if constexpr (has_error_weights<Tableau>)
    for (std::size_t i = 0; i < stages; ++i) weights[i] = Tableau::b_error[i].template as<Scalar>();
  return weights;
}

}  // namespace detail

/// Everything that changes during a run of an explicit Runge-Kutta method: the stages and a few
/// vectors of the length of y.
template <class Scalar, std::size_t stages>
struct ExplicitRkWorkspace {
  StepCounters counters = {};                             ///< work so far
  std::array<std::array<Scalar, stages>, stages> a = {};  ///< weights of the stages
  std::array<Scalar, stages> b = {};                      ///< weights of the result
  std::array<Scalar, stages> c = {};                      ///< times of the stages
  std::array<Scalar, stages> b_error = {};                ///< weights of the error estimate
  std::array<Vector<Scalar>, stages> k = {};              ///< derivatives at the stages
  Vector<Scalar> stage_y = {};                            ///< argument of a stage
  Vector<Scalar> end_k = {};                              ///< F(t_new, y_new), if has_end
  Vector<Scalar> error = {};                              ///< y_new - y_embedded
  bool has_start = false;                                 ///< k[0] is F(t, y) at the start of the step
  bool has_end = false;                                   ///< end_k is F(t_new, y_new) of the last attempt
};

/// The explicit Runge-Kutta method of a tableau, for any vector field: `Euler`, `RungeKutta4`, `DormandPrince`, or your
/// own.
///
///     integrate(field, y0, TimeSpan{0, 10}, DormandPrince{}, controller)
///     integrate(GradientFlow(net, data), w, TimeSpan{0, 10}, Euler{}, ConstantStep<>{0.01})   // gradient descent
///
/// It is an EmbeddedStepper when the tableau has `b_error` and a DenseStepper when it has `dense`. The
/// first stage is kept over rejected attempts, and over accepted ones when the last stage is the result
/// of the step. Cost per attempt: one right-hand side per stage, and vector additions. No allocation.
template <class Tableau>
class ExplicitRk {
  static constexpr std::size_t stages_ = std::size_t(Tableau::stages);
  static constexpr bool reuses_last_ = detail::last_stage_is_result<Tableau>();

 public:
  /// Order of the propagated solution.
  static constexpr int order = Tableau::order;

  /// Order of the embedded solution.
  static constexpr int error_order = [] {
    if constexpr (detail::has_error_weights<Tableau>)
      return Tableau::error_order;
    else
      return 0;
  }();

  /// It needs nothing but the field. (A stepper derived from it may.)
  template <class St, class Problem>
  static constexpr bool works_on_any_field =
      std::conjunction_v<std::is_same<St, ExplicitRk>, std::bool_constant<VectorField<Problem>>>;

  /// The workspace for a problem.
  template <class Problem>
  using Workspace = ExplicitRkWorkspace<typename Problem::Scalar, stages_>;

  /// All memory of a run: s + 3 vectors of the length of y.
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    static_assert(VectorField<Problem>,
                  "richflow: an explicit Runge-Kutta stepper needs a vector field: `problem(t, y, dy)` and "
                  "`problem.dimension()`");
    using Scalar = typename Problem::Scalar;
    Workspace<Problem> ws;
    for (std::size_t i = 0; i < stages_; ++i) {
      for (std::size_t j = 0; j < i; ++j) ws.a[i][j] = Tableau::a[i][j].template as<Scalar>();
      ws.b[i] = Tableau::b[i].template as<Scalar>();
      ws.c[i] = Tableau::c[i].template as<Scalar>();
      ws.k[i].setZero(problem.dimension());
    }
    ws.b_error = detail::error_weights<Scalar, Tableau, stages_>();
    ws.stage_y.setZero(problem.dimension());
    ws.end_k.setZero(problem.dimension());
    ws.error.setZero(detail::has_error_weights<Tableau> ? problem.dimension() : 0);
    return ws;
  }

  /// Starts at `(t, y)`. A method that reuses its last stage evaluates it here, at the time where the
  /// step that ended in `y` evaluated it; the others evaluate their first stage when it is needed.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void begin(const Problem& problem, Scalar t, const Vector<Scalar>& y, Workspace<Problem>& ws) const {
    ws.has_start = false;
    ws.has_end = false;
    if constexpr (reuses_last_) start_derivative(problem, t, y, ws);
  }

  /// One attempt of length h from `(t, y)`; the result goes to `y_new`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void step(const Problem& problem, Scalar t, Scalar h, const Vector<Scalar>& y, Vector<Scalar>& y_new,
            Workspace<Problem>& ws) const {
    start_derivative(problem, t, y, ws);
    ws.has_end = false;
    for (std::size_t i = 1; i < stages_; ++i) {
      const bool is_result = reuses_last_ && i + 1 == stages_;
      Vector<Scalar>& stage_y = is_result ? y_new : ws.stage_y;
      combine(h, y, ws.a[i], i, ws.k, stage_y);
      evaluate(problem, t + ws.c[i] * h, stage_y, ws.k[i], ws);
    }
    if constexpr (!reuses_last_) combine(h, y, ws.b, stages_, ws.k, y_new);
    if constexpr (detail::has_error_weights<Tableau>) {
      ws.error = (h * ws.b_error[0]) * ws.k[0];
      for (std::size_t i = 1; i < stages_; ++i)
        if (!Tableau::b_error[i].is_zero()) ws.error += (h * ws.b_error[i]) * ws.k[i];
    }
  }

  /// The last attempt was taken: its final derivative, if known, becomes the first stage.
  template <class Scalar>
  void accept(ExplicitRkWorkspace<Scalar, stages_>& ws) const {
    if constexpr (reuses_last_) {
      ws.k.front().swap(ws.k.back());
    } else {
      if (ws.has_end) ws.k.front().swap(ws.end_k);
      ws.has_start = ws.has_end;
    }
    ws.has_end = false;
  }

  /// `y_new - y_embedded` of the last attempt.
  template <class Scalar>
  requires(detail::has_error_weights<Tableau>)
      [[nodiscard]] const Vector<Scalar>& error(const ExplicitRkWorkspace<Scalar, stages_>& ws) const {
    return ws.error;
  }

  /// The solution at `t + theta h`, theta in [0, 1], from the stages of the last attempt.
  template <class Scalar>
  requires(detail::has_dense_weights<Tableau>) void interpolate(const ExplicitRkWorkspace<Scalar, stages_>& ws,
                                                                Scalar theta, Scalar h, const Vector<Scalar>& y,
                                                                const Vector<Scalar>& /*y_new*/,
                                                                std::type_identity_t<VectorRef<Scalar>> out) const {
    out = y;
    for (std::size_t i = 0; i < stages_; ++i) {
      constexpr std::size_t degree = Tableau::dense[0].size();
      Scalar weight(0);
      for (std::size_t q = degree; q-- > 0;) weight = theta * (weight + Tableau::dense[i][q].template as<Scalar>());
      if (weight != Scalar(0)) out += (h * weight) * ws.k[i];
    }
  }

  /// `F(t, y)` at the start of the step, evaluated at most once per step.
  template <class Problem, class Scalar = typename Problem::Scalar>
  const Vector<Scalar>& start_derivative(const Problem& problem, Scalar t, const Vector<Scalar>& y,
                                         Workspace<Problem>& ws) const {
    if (!ws.has_start) {
      evaluate(problem, t, y, ws.k[0], ws);
      ws.has_start = true;
    }
    return ws.k[0];
  }

  /// `F(t_new, y_new)` of the last attempt, evaluated at most once and kept for the next step.
  template <class Problem, class Scalar = typename Problem::Scalar>
  const Vector<Scalar>& end_derivative(const Problem& problem, Scalar t_new, const Vector<Scalar>& y_new,
                                       Workspace<Problem>& ws) const {
    if constexpr (reuses_last_) {
      return ws.k.back();
    } else {
      if (!ws.has_end) {
        evaluate(problem, t_new, y_new, ws.end_k, ws);
        ws.has_end = true;
      }
      return ws.end_k;
    }
  }

 private:
  template <class Problem, class Scalar = typename Problem::Scalar>
  static void evaluate(const Problem& problem, Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy,
                       Workspace<Problem>& ws) {
    problem(t, y, dy);
    ++ws.counters.evaluations;
  }

  /// out = y + h sum_{j < count} weights[j] k[j]
  template <class Scalar>
  static void combine(Scalar h, const Vector<Scalar>& y, const std::array<Scalar, stages_>& weights, std::size_t count,
                      const std::array<Vector<Scalar>, stages_>& k, Vector<Scalar>& out) {
    out = y + (h * weights[0]) * k[0];
    for (std::size_t j = 1; j < count; ++j)
      if (weights[j] != Scalar(0)) out += (h * weights[j]) * k[j];
  }
};

/// Euler's method; with `ConstantStep` on a gradient flow, gradient descent.
using Euler = ExplicitRk<EulerTableau>;

/// The classical order-4 method.
using RungeKutta4 = ExplicitRk<RungeKutta4Tableau>;

/// Order 5(4) with an order-4 interpolant: the explicit stepper for adaptive steps.
using DormandPrince = ExplicitRk<DormandPrinceTableau>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_EXPLICIT_RK(prefix, S)                          \
  prefix template class detail::StepperOn<Euler, detail::AnyField<S>>;       \
  prefix template class detail::StepperOn<RungeKutta4, detail::AnyField<S>>; \
  prefix template class detail::StepperOn<DormandPrince, detail::AnyField<S>>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EXPLICIT_RK)
