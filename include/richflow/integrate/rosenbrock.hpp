#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/rosenbrock_tableau.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/integrate/vector_field.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/shifted_system.hpp"

namespace richflow {

/// A stiff field with a symmetric Jacobian -S (S need not be positive semidefinite) that solves with it by a structure
/// of its own, without forming S:
///
/// - `LinearSolver`: a type, what a factorization holds; `make_linear_solver()`: one with all its memory
/// - `linearize(t, y, solver)`: takes the Jacobian at y
/// - `factorize(shift, solver)`: factors `shift I + S`; false unless that is positive definite (and finite)
/// - `solve(solver, u)`: `u <- (shift I + S)^{-1} u`
///
/// None of them but `make_linear_solver` should allocate.
template <class P>
concept HasLinearSolver = VectorField<P> &&
    requires(const P& problem, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
             typename P::LinearSolver& solver, VectorRef<typename P::Scalar> u) {
  { problem.make_linear_solver() } -> std::convertible_to<typename P::LinearSolver>;
  problem.linearize(t, y, solver);
  { problem.factorize(t, solver) } -> std::convertible_to<bool>;
  problem.solve(solver, u);
};

namespace detail {

template <class Tableau>
concept HasRosenbrockInterpolant = requires {
  Tableau::dense;
};

/// True if stage i evaluates the field at a point where stage i - 1 did not.
template <class Tableau>
constexpr bool is_new_argument(std::size_t i) {
  return i > 0 && Tableau::a[i] != Tableau::a[i - 1];
}

/// The times of the stages, `t + node_i h`, and what they take of the derivative of the field by time, `slope_i h
/// dF/dt`: what the tableau says of the equation `t' = 1`. A W-method keeps its order without the latter.
template <class Tableau>
struct StageTimes {
  std::array<long double, Tableau::stages> node = {};
  std::array<long double, Tableau::stages> slope = {};

  constexpr StageTimes() {
    for (std::size_t i = 0; i < Tableau::stages; ++i) {
      slope[i] = Tableau::gamma;
      for (std::size_t j = 0; j < i; ++j) {
        slope[i] += Tableau::gamma * Tableau::c[i][j] * slope[j];
        node[i] += Tableau::a[i][j] * slope[j];
      }
    }
  }
};
template <class Tableau>
inline constexpr StageTimes<Tableau> stage_times = {};

/// Solves `(shift I + S) u = v` by a dense factorization, for a field with the N x N Jacobian -S.
template <class Problem>
struct DenseStiffness {
  using Scalar = typename Problem::Scalar;

  ShiftedSystem<Scalar> system = {};
  bool is_graded = false;

  explicit DenseStiffness(const Problem& problem) { system.allocate(problem.dimension()); }

  void start(const Problem& problem, Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy) { problem(t, y, dy); }

  void update(const Problem& problem, Scalar t, const Vector<Scalar>& y, Scalar shift, Scalar relative) {
    if constexpr (HasApproximateJacobian<Problem>)
      problem.negative_jacobian(t, y, relative, relative * shift, system.matrix());
    else
      problem.negative_jacobian(t, y, system.matrix());
    if constexpr (requires { problem.is_graded(); }) is_graded = problem.is_graded();
  }

  /// False if `shift I + S` is not positive definite or not finite.
  bool factorize(Scalar shift) { return system.factorize(shift, is_graded); }

  /// `u = F(y) = dy`, solved in place.
  void solve_start(const Vector<Scalar>& dy, Vector<Scalar>& u) {
    u = dy;
    solve(u);
  }

  void solve(Vector<Scalar>& u) { system.solve_in_place(u); }
};

/// The same through the structure of the field itself.
template <class Problem>
struct OwnStiffness {
  using Scalar = typename Problem::Scalar;

  typename Problem::LinearSolver solver;
  const Problem* field = nullptr;  // of the last update

  explicit OwnStiffness(const Problem& problem) : solver(problem.make_linear_solver()) {}

  void start(const Problem& problem, Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy) { problem(t, y, dy); }

  void update(const Problem& problem, Scalar t, const Vector<Scalar>& y, Scalar /*shift*/, Scalar /*relative*/) {
    field = &problem;
    problem.linearize(t, y, solver);
  }

  bool factorize(Scalar shift) { return field->factorize(shift, solver); }

  void solve_start(const Vector<Scalar>& dy, Vector<Scalar>& u) {
    u = dy;
    solve(u);
  }

  void solve(Vector<Scalar>& u) { field->solve(solver, u); }
};

/// The same for the gradient flow of a model.
template <class Problem>
struct GaussNewtonStiffness {
  using Scalar = typename Problem::Scalar;

  TangentStiffness<Scalar> tangent;

  explicit GaussNewtonStiffness(const Problem& problem) : tangent(problem.make_tangent()) {}

  void start(const Problem& /*problem*/, Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy) {
    tangent.start(t, y, dy);
  }
  void update(const Problem& /*problem*/, Scalar /*t*/, const Vector<Scalar>& y, const Vector<Scalar>& dy) {
    tangent.update(y, dy);
  }
  bool factorize(Scalar shift) { return tangent.factorize(shift); }
  void solve_start(const Vector<Scalar>& dy, Vector<Scalar>& u) { tangent.solve_start(dy, u); }
  void solve(Vector<Scalar>& u) { tangent.solve(u); }
  [[nodiscard]] Scalar floor() const { return tangent.floor(); }
};

/// For a problem that a Rosenbrock method refuses: never defined, so that the refusal is all that the compiler says.
template <class Problem>
struct NoStiffness {
  using Scalar = typename Problem::Scalar;

  explicit NoStiffness(const Problem& problem);
  void start(const Problem& problem, Scalar t, const Vector<Scalar>& y, Vector<Scalar>& dy);
  template <class... Arguments>
  void update(const Arguments&... arguments);
  bool factorize(Scalar shift);
  void solve_start(const Vector<Scalar>& dy, Vector<Scalar>& u);
  void solve(Vector<Scalar>& u);
  [[nodiscard]] Scalar floor() const;
};

/// True where the Jacobian is exact, and the field all that a step needs.
template <class Problem>
inline constexpr bool has_exact_jacobian = SymmetricStiffField<Problem> || HasLinearSolver<Problem>;

/// What a Rosenbrock method solves its stages with.
template <class Problem>
struct StiffnessOf {
  using type = NoStiffness<Problem>;
};
template <SymmetricStiffField Problem>
struct StiffnessOf<Problem> {
  using type = DenseStiffness<Problem>;
};
template <HasLinearSolver Problem>
requires(!SymmetricStiffField<Problem>) struct StiffnessOf<Problem> {
  using type = OwnStiffness<Problem>;
};
template <GaussNewtonFlow Problem>
requires(!has_exact_jacobian<Problem>) struct StiffnessOf<Problem> {
  using type = GaussNewtonStiffness<Problem>;
};

}  // namespace detail

/// Everything that changes during a run of a Rosenbrock method: N x N Jacobian and factor, the stages and
/// a few vectors of the length of y.
template <class Problem, std::size_t stages>
struct RosenbrockWorkspace {
  using Scalar = typename Problem::Scalar;

  typename detail::StiffnessOf<Problem>::type stiffness;
  StepCounters counters = {};
  std::array<Vector<Scalar>, stages> u = {};
  Vector<Scalar> start = {};     // F(t, y)
  Vector<Scalar> end = {};       // F(t_new, y_new) of the last attempt
  Vector<Scalar> argument = {};  // where a stage evaluates
  Vector<Scalar> stage = {};     // F there
  Vector<Scalar> error = {};
  Vector<Scalar> drift = {};  // dF/dt, where the field depends on t
  bool has_start = false;
  bool has_end = false;
  bool has_jacobian = false;
};

/// The Rosenbrock method of a tableau (`Rodas3`, `Rodas4`, `Ros34Pw2`, `Ros2`): linearly implicit steps, not limited by
/// stiffness, without iteration.
///
///     integrate(dual_flow, nu, TimeSpan{0, 10}, Rodas3{.jacobian_tolerance = 1e-4}, controller)
///     integrate(GradientFlow(net, data), w, TimeSpan{0, 10}, Ros34Pw2{}, controller)
///
/// Three kinds of stiff fields `dy/dt = F(y)` fit:
///
/// - fields with a symmetric Jacobian -S (SymmetricStiffField), such as the dual flow;
/// - fields that solve with such a Jacobian by a structure of their own (HasLinearSolver), such as the lifted flow;
/// - the gradient flow of any model (GaussNewtonFlow), through its tangent kernel: `S = J^T H J`, H the second
///   derivative of the loss by the M = N K outputs (2 I for the squared loss), has rank M, so that a stage costs an M x
///   M solve and two products with J, and nothing P x P is ever formed. S is not the exact Jacobian, so that the
///   tableau must be a W-method: `Ros34Pw2` or `Ros2`. Errors should be judged per unit (HasUnits).
///
/// On a field that depends on t (HasTimeDerivative, or weight decay that changes) a method keeps its order.
///
/// An EmbeddedStepper, DerivativeStepper, and DenseStepper where the tableau has an interpolant. Cost per
/// accepted step: one Jacobian (or tangent kernel), and per attempt one Cholesky factorization of `I / (gamma h) + S`
/// (or of `I / (2 gamma h) + K`), a solve per stage and the evaluations of the tableau. A rejected attempt keeps the
/// Jacobian and the first stage. A step allocates nothing unless N is in the hundreds, when Eigen's rank updates
/// do. An attempt in which the factorization fails yields NaN, so that the controller rejects it.
///
/// On a gradient flow `step_floor` is a quarter of the stable step of gradient descent, or an eightieth of the time in
/// which the fastest unit grows by its own size if that is shorter: no shorter step is tried, because the
/// error estimate stays large where a kink of the network sticks to a data point. A tolerance too tight for a kink thus
/// costs some five times the steps of descent at its stable step, not more.
template <class Tableau>
class Rosenbrock {
 public:
  /// Order of the propagated solution; where the field depends on t it must say how (HasTimeDerivative), unless the
  /// tableau is a W-method.
  static constexpr int order = Tableau::order;
  /// Order of the embedded solution.
  static constexpr int error_order = Tableau::error_order;

  /// It needs nothing but the field and its Jacobian, or its tangent space. (A stepper derived from it may.)
  template <class St, class Problem>
  static constexpr bool works_on_any_stiff_field =
      std::conjunction_v<std::is_same<St, Rosenbrock>, std::bool_constant<SymmetricStiffField<Problem>>>;
  template <class St, class Problem>
  static constexpr bool works_on_any_tangent_field =
      std::conjunction_v<std::is_same<St, Rosenbrock>, std::bool_constant<!detail::has_exact_jacobian<Problem>>>;

  template <class Problem>
  using Workspace = RosenbrockWorkspace<Problem, Tableau::stages>;

  /// Relative error allowed in the matrix `I / (gamma h) + S`, in [0, 1), for problems that save work by it
  /// (HasApproximateJacobian). A W-method (Ros34Pw2) keeps its order with any value, 1e-2 is good; for the
  /// others choose a tenth of the relative step tolerance. 0, the default: the exact Jacobian.
  double jacobian_tolerance = 0;

  /// Memory of a run: two N x N matrices and stages + 5 vectors; the first step on the gradient flow of a model makes
  /// what its evaluation keeps. Throws ArgumentError when `jacobian_tolerance` is outside [0, 1).
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    constexpr bool lacks_curvature = requires { problem.make_tangent(); }
    &&!GaussNewtonFlow<Problem>;
    static_assert(!lacks_curvature,
                  "richflow: the linearly implicit steppers need a loss whose second derivative is known: give it "
                  "`Scalar curvature() const`, the c with d^2 L / df^2 = c I, or `curvature_root` (ConvexLoss), or use "
                  "an explicit stepper (DormandPrince)");
    static_assert(
        detail::has_exact_jacobian<Problem> || GaussNewtonFlow<Problem> || lacks_curvature,
        "richflow: a Rosenbrock stepper needs a field with a symmetric Jacobian: "
        "`problem.negative_jacobian(t, y, S)`, which writes the lower triangle of S = -dF/dy, or a solver of its own "
        "(HasLinearSolver); or the gradient flow of a model");
    static_assert(detail::has_exact_jacobian<Problem> || Tableau::is_w_method,
                  "richflow: on the gradient flow of a model the stepper must be a W-method (Ros34Pw2, Ros2), for "
                  "2 J^T J is not the exact Jacobian");
    using Scalar = typename Problem::Scalar;
    require(jacobian_tolerance >= 0 && jacobian_tolerance < 1,
            "Rosenbrock: jacobian_tolerance must lie in [0, 1), got ", jacobian_tolerance);
    const Index n = problem.dimension();
    Workspace<Problem> ws{typename detail::StiffnessOf<Problem>::type(problem)};
    for (Vector<Scalar>& u : ws.u) u.setZero(n);
    for (Vector<Scalar>* v : {&ws.start, &ws.end, &ws.argument, &ws.stage, &ws.error}) v->setZero(n);
    if (detail::depends_on_time(problem)) ws.drift.setZero(n);
    return ws;
  }

  /// Starts at `(t, y)`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void begin(const Problem& /*problem*/, Scalar /*t*/, const Vector<Scalar>& /*y*/, Workspace<Problem>& ws) const {
    ws.has_start = false;
    ws.has_end = false;
    ws.has_jacobian = false;
  }

  /// One attempt of length h from `(t, y)`; the result goes to `y_new`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void step(const Problem& problem, Scalar t, Scalar h, const Vector<Scalar>& y, Vector<Scalar>& y_new,
            Workspace<Problem>& ws) const {
    ws.has_end = false;
    start_derivative(problem, t, y, ws);
    if (!factorize(problem, t, h, y, ws)) {
      y_new.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
      ws.error = y_new;
      return;
    }
    constexpr const auto& times = detail::stage_times<Tableau>;
    const bool has_drift = ws.drift.size() > 0;
    if (has_drift) {
      detail::set_time_derivative(problem, t, h, y, ws.drift);
      ws.u[0] = ws.start;
      detail::add_multiple<Scalar>(h * static_cast<Scalar>(times.slope[0]), ws.drift, ws.u[0]);
      ws.stiffness.solve(ws.u[0]);
    } else {
      ws.stiffness.solve_start(ws.start, ws.u[0]);
    }
    ++ws.counters.solves;
    const Vector<Scalar>* f = &ws.start;
    for (std::size_t i = 1; i < Tableau::stages; ++i) {
      if (detail::is_new_argument<Tableau>(i)) {
        ws.argument = y;
        accumulate(Tableau::a[i], i, Scalar(1), ws, ws.argument);
        problem(t + static_cast<Scalar>(times.node[i]) * h, ws.argument, ws.stage);
        ++ws.counters.evaluations;
        f = &ws.stage;
      }
      ws.u[i] = *f;
      accumulate(Tableau::c[i], i, Scalar(1) / h, ws, ws.u[i]);
      if (has_drift) detail::add_multiple<Scalar>(h * static_cast<Scalar>(times.slope[i]), ws.drift, ws.u[i]);
      ws.stiffness.solve(ws.u[i]);
      ++ws.counters.solves;
    }
    y_new = y;
    accumulate(Tableau::m, Tableau::stages, Scalar(1), ws, y_new);
    ws.error.setZero();
    accumulate(Tableau::e, Tableau::stages, Scalar(1), ws, ws.error);
  }

  /// The last attempt was taken.
  template <class Problem>
  void accept(RosenbrockWorkspace<Problem, Tableau::stages>& ws) const {
    if (ws.has_end) ws.start.swap(ws.end);
    // The tangent space of a gradient flow has to move anyway.
    ws.has_start = ws.has_end && detail::has_exact_jacobian<Problem>;
    ws.has_end = false;
    ws.has_jacobian = false;
  }

  /// `y_new - y_embedded` of the last attempt.
  template <class Problem>
  [[nodiscard]] const Vector<typename Problem::Scalar>& error(
      const RosenbrockWorkspace<Problem, Tableau::stages>& ws) const {
    return ws.error;
  }

  /// The step that is taken whatever its error; on a gradient flow only.
  template <class Problem>
  requires(!detail::has_exact_jacobian<Problem>) [[nodiscard]] typename Problem::Scalar
      step_floor(const RosenbrockWorkspace<Problem, Tableau::stages>& ws) const {
    return ws.stiffness.floor();
  }

  /// `F(t, y)` at the start of the step.
  template <class Problem, class Scalar = typename Problem::Scalar>
  const Vector<Scalar>& start_derivative(const Problem& problem, Scalar t, const Vector<Scalar>& y,
                                         Workspace<Problem>& ws) const {
    if (!ws.has_start) {
      ws.stiffness.start(problem, t, y, ws.start);
      ++ws.counters.evaluations;
      ws.has_start = true;
    }
    return ws.start;
  }

  /// `F(t_new, y_new)` of the last attempt; the first stage of the next step.
  template <class Problem, class Scalar = typename Problem::Scalar>
  const Vector<Scalar>& end_derivative(const Problem& problem, Scalar t_new, const Vector<Scalar>& y_new,
                                       Workspace<Problem>& ws) const {
    if (!ws.has_end) {
      problem(t_new, y_new, ws.end);
      ++ws.counters.evaluations;
      ws.has_end = true;
    }
    return ws.end;
  }

  /// `out` = the solution at `t + theta h`, theta in [0, 1], from the stages of the last attempt.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void interpolate(
      const RosenbrockWorkspace<Problem, Tableau::stages>& ws, std::type_identity_t<Scalar> theta,
      std::type_identity_t<Scalar> /*h*/, const Vector<Scalar>& y, const Vector<Scalar>& /*y_new*/,
      VectorRef<std::type_identity_t<Scalar>> out) const requires detail::HasRosenbrockInterpolant<Tableau> {
    out = y;
    for (std::size_t i = 0; i < Tableau::stages; ++i) {
      Scalar weight(0);
      for (std::size_t q = Tableau::dense[i].size(); q-- > 0;)
        weight = (weight + static_cast<Scalar>(Tableau::dense[i][q])) * theta;
      detail::add_multiple(weight, ws.u[i].data(), out.data(), out.size());
    }
  }

 private:
  /// `target += scale * sum_{j < count} weights_j u_j`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  static void accumulate(const std::array<long double, Tableau::stages>& weights, std::size_t count,
                         std::type_identity_t<Scalar> scale, const RosenbrockWorkspace<Problem, Tableau::stages>& ws,
                         Vector<Scalar>& target) {
    for (std::size_t j = 0; j < count; ++j)
      if (weights[j] != 0) detail::add_multiple<Scalar>(scale * static_cast<Scalar>(weights[j]), ws.u[j], target);
  }

  /// Factors `I / (gamma h) + S`; false if it is not positive definite or not finite.
  template <class Problem, class Scalar = typename Problem::Scalar>
  bool factorize(const Problem& problem, Scalar t, Scalar h, const Vector<Scalar>& y, Workspace<Problem>& ws) const {
    const Scalar inverse = Scalar(1) / (static_cast<Scalar>(Tableau::gamma) * h);
    if (!ws.has_jacobian) {
      if constexpr (detail::has_exact_jacobian<Problem>)
        ws.stiffness.update(problem, t, y, inverse, static_cast<Scalar>(jacobian_tolerance));
      else
        ws.stiffness.update(problem, t, y, ws.start);
      ++ws.counters.jacobians;
      ws.has_jacobian = true;
    }
    ++ws.counters.factorizations;
    return ws.stiffness.factorize(inverse);
  }
};

/// Order 3(2), three evaluations: the first choice for the dual flow at moderate tolerances.
using Rodas3 = Rosenbrock<Rodas3Tableau>;
/// Order 4(3), five evaluations: for tighter tolerances.
using Rodas4 = Rosenbrock<Rodas4Tableau>;
/// Order 2(1), two evaluations, keeps its order with an approximate Jacobian: the first choice for networks with kinks.
using Ros2 = Rosenbrock<Ros2Tableau>;
/// Order 3(2), four evaluations, keeps its order with an approximate Jacobian: for smooth models and tight tolerances.
using Ros34Pw2 = Rosenbrock<Ros34Pw2Tableau>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_ROSENBROCK(prefix, S)                               \
  prefix template class detail::StepperOn<Ros2, detail::AnyStiffField<S>>;       \
  prefix template class detail::StepperOn<Ros2, detail::AnyTangentField<S>>;     \
  prefix template class detail::StepperOn<Ros34Pw2, detail::AnyTangentField<S>>; \
  prefix template class detail::StepperOn<Rodas3, detail::AnyStiffField<S>>;     \
  prefix template class detail::StepperOn<Rodas4, detail::AnyStiffField<S>>;     \
  prefix template class detail::StepperOn<Ros34Pw2, detail::AnyStiffField<S>>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_ROSENBROCK)
