#pragma once

#include <Eigen/Cholesky>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/rosenbrock_tableau.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow {

/// A stiff field whose Jacobian is cheaper when it need not be exact:
/// `negative_jacobian(t, y, relative, absolute, S)` writes `S + E` with `-B <= E <= B` as quadratic forms,
/// `B = relative S + absolute I`.
template <class P>
concept HasApproximateJacobian = SymmetricStiffField<P> &&
    requires(const P& problem, typename P::Scalar t, ConstVectorRef<typename P::Scalar> y,
             MatrixRef<typename P::Scalar> S) {
  problem.negative_jacobian(t, y, t, t, S);
};

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

/// S as a dense matrix and the Cholesky factor of the shifted one: for fields without a solver of their own.
template <class Scalar>
struct DenseLinearSolver {
  Matrix<Scalar> jacobian = {};  // lower triangle of S
  Vector<Scalar> diagonal = {};  // of S
  Eigen::LLT<Matrix<Scalar>> factor = {};
};

template <class Problem>
struct LinearSolverOf {
  using type = DenseLinearSolver<typename Problem::Scalar>;
};
template <HasLinearSolver Problem>
struct LinearSolverOf<Problem> {
  using type = typename Problem::LinearSolver;
};

template <class Tableau>
concept HasRosenbrockInterpolant = requires {
  Tableau::dense;
};

/// True if stage i evaluates the field at a point where stage i - 1 did not.
template <class Tableau>
constexpr bool is_new_argument(std::size_t i) {
  return i > 0 && Tableau::a[i] != Tableau::a[i - 1];
}

}  // namespace detail

/// Everything that changes during a run of a Rosenbrock method: the Jacobian and its factor, the stages and a few
/// vectors of the length of y.
template <class Scalar, std::size_t stages, class LinearSolver>
struct RosenbrockWorkspace {
  StepCounters counters = {};
  std::array<Vector<Scalar>, stages> u = {};
  Vector<Scalar> start = {};     // F(t, y)
  Vector<Scalar> end = {};       // F(t_new, y_new) of the last attempt
  Vector<Scalar> argument = {};  // where a stage evaluates
  Vector<Scalar> stage = {};     // F there
  Vector<Scalar> error = {};
  LinearSolver solver = {};
  bool has_start = false;
  bool has_end = false;
  bool has_jacobian = false;
};

/// The Rosenbrock method of a tableau: linearly implicit steps with the exact Jacobian, for stiff
/// autonomous fields `dy/dt = F(y)` with symmetric Jacobian -S, such as the dual flow (SymmetricStiffField, dense S)
/// and the lifted flow (HasLinearSolver). `Rodas3`, `Rodas4`, `Ros34Pw2`. Not limited by stiffness; no iteration.
///
///     integrate(flow, nu, {0, inf}, Rodas3{.jacobian_tolerance = 1e-4}, PiController{...}, options)
///
/// An EmbeddedStepper, DerivativeStepper, and DenseStepper where the tableau has an interpolant. Cost per
/// accepted step: one Jacobian, and per attempt one Cholesky factorization of `I / (gamma h) + S`, a solve per
/// stage and the evaluations of the tableau. A rejected attempt keeps the Jacobian and the first stage. A step
/// allocates nothing unless N is in the hundreds, when Eigen's factorization does. An attempt in
/// which the factorization fails yields NaN, so that the controller rejects it.
template <class Tableau>
class Rosenbrock {
 public:
  /// Order of the propagated solution (for autonomous fields).
  static constexpr int order = Tableau::order;
  /// Order of the embedded solution.
  static constexpr int error_order = Tableau::error_order;

  template <class Problem>
  using Workspace =
      RosenbrockWorkspace<typename Problem::Scalar, Tableau::stages, typename detail::LinearSolverOf<Problem>::type>;

  /// Relative error allowed in the matrix `I / (gamma h) + S`, in [0, 1), for problems that save work by it
  /// (HasApproximateJacobian). A W-method (Ros34Pw2) keeps its order with any value, 1e-2 is good; for the
  /// others choose a tenth of the relative step tolerance. 0, the default: the exact Jacobian.
  double jacobian_tolerance = 0;

  /// All memory of a run: the solver (dense: two N x N matrices) and stages + 5 vectors. Throws ArgumentError when
  /// `jacobian_tolerance` is outside [0, 1).
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    static_assert(SymmetricStiffField<Problem> || HasLinearSolver<Problem>,
                  "richflow: a Rosenbrock stepper needs a field with a symmetric Jacobian: "
                  "`problem.negative_jacobian(t, y, S)`, which writes the lower triangle of S = -dF/dy, or a solver of "
                  "its own (HasLinearSolver)");
    using Scalar = typename Problem::Scalar;
    require(jacobian_tolerance >= 0 && jacobian_tolerance < 1,
            "Rosenbrock: jacobian_tolerance must lie in [0, 1), got ", jacobian_tolerance);
    const Index n = problem.dimension();
    Workspace<Problem> ws;
    for (Vector<Scalar>& u : ws.u) u.setZero(n);
    for (Vector<Scalar>* v : {&ws.start, &ws.end, &ws.argument, &ws.stage, &ws.error}) v->setZero(n);
    if constexpr (HasLinearSolver<Problem>) {
      ws.solver = problem.make_linear_solver();
    } else {
      ws.solver.jacobian.setZero(n, n);
      ws.solver.diagonal.setZero(n);
      ws.solver.factor = Eigen::LLT<Matrix<Scalar>>(n);
    }
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
    const Vector<Scalar>* f = &start_derivative(problem, t, y, ws);
    if (!factorize(problem, t, h, y, ws)) {
      y_new.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
      ws.error = y_new;
      return;
    }
    for (std::size_t i = 0; i < Tableau::stages; ++i) {
      if (detail::is_new_argument<Tableau>(i)) {
        ws.argument = y;
        accumulate(Tableau::a[i], i, Scalar(1), ws, ws.argument);
        problem(t, ws.argument, ws.stage);
        ++ws.counters.evaluations;
        f = &ws.stage;
      }
      ws.u[i] = *f;
      accumulate(Tableau::c[i], i, Scalar(1) / h, ws, ws.u[i]);
      if constexpr (HasLinearSolver<Problem>)
        problem.solve(ws.solver, ws.u[i]);
      else
        ws.solver.factor.solveInPlace(ws.u[i]);
      ++ws.counters.solves;
    }
    y_new = y;
    accumulate(Tableau::m, Tableau::stages, Scalar(1), ws, y_new);
    ws.error.setZero();
    accumulate(Tableau::e, Tableau::stages, Scalar(1), ws, ws.error);
  }

  /// The last attempt was taken.
  template <class Scalar, class LinearSolver>
  void accept(RosenbrockWorkspace<Scalar, Tableau::stages, LinearSolver>& ws) const {
    if (ws.has_end) ws.start.swap(ws.end);
    ws.has_start = ws.has_end;
    ws.has_end = false;
    ws.has_jacobian = false;
  }

  /// `y_new - y_embedded` of the last attempt.
  template <class Scalar, class LinearSolver>
  [[nodiscard]] const Vector<Scalar>& error(
      const RosenbrockWorkspace<Scalar, Tableau::stages, LinearSolver>& ws) const {
    return ws.error;
  }

  /// `F(t, y)` at the start of the step.
  template <class Problem, class Scalar = typename Problem::Scalar>
  const Vector<Scalar>& start_derivative(const Problem& problem, Scalar t, const Vector<Scalar>& y,
                                         Workspace<Problem>& ws) const {
    if (!ws.has_start) {
      problem(t, y, ws.start);
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
  template <class Scalar, class LinearSolver>
  void interpolate(
      const RosenbrockWorkspace<Scalar, Tableau::stages, LinearSolver>& ws, std::type_identity_t<Scalar> theta,
      std::type_identity_t<Scalar> /*h*/, const Vector<Scalar>& y, const Vector<Scalar>& /*y_new*/,
      VectorRef<std::type_identity_t<Scalar>> out) const requires detail::HasRosenbrockInterpolant<Tableau> {
    out = y;
    for (std::size_t i = 0; i < Tableau::stages; ++i) {
      Scalar weight(0);
      for (std::size_t q = Tableau::dense[i].size(); q-- > 0;)
        weight = (weight + static_cast<Scalar>(Tableau::dense[i][q])) * theta;
      out += weight * ws.u[i];
    }
  }

 private:
  /// `target += scale * sum_{j < count} weights_j u_j`.
  template <class Scalar, class LinearSolver>
  static void accumulate(const std::array<long double, Tableau::stages>& weights, std::size_t count, Scalar scale,
                         const RosenbrockWorkspace<Scalar, Tableau::stages, LinearSolver>& ws, Vector<Scalar>& target) {
    for (std::size_t j = 0; j < count; ++j)
      if (weights[j] != 0) target += (scale * static_cast<Scalar>(weights[j])) * ws.u[j];
  }

  /// Factors `I / (gamma h) + S`; false if it is not positive definite or not finite.
  template <class Problem, class Scalar = typename Problem::Scalar>
  bool factorize(const Problem& problem, Scalar t, Scalar h, const Vector<Scalar>& y, Workspace<Problem>& ws) const {
    const Scalar inverse = Scalar(1) / (static_cast<Scalar>(Tableau::gamma) * h);
    ++ws.counters.factorizations;
    if (!ws.has_jacobian) {
      if constexpr (HasLinearSolver<Problem>) {
        problem.linearize(t, y, ws.solver);
      } else if constexpr (HasApproximateJacobian<Problem>) {
        const Scalar relative = static_cast<Scalar>(jacobian_tolerance);
        problem.negative_jacobian(t, y, relative, relative * inverse, ws.solver.jacobian);
      } else {
        problem.negative_jacobian(t, y, ws.solver.jacobian);
      }
      ++ws.counters.jacobians;
      ws.has_jacobian = true;
    }
    if constexpr (HasLinearSolver<Problem>) {
      return problem.factorize(inverse, ws.solver);
    } else {
      auto& [jacobian, diagonal, factor] = ws.solver;
      // S carries rounding errors of this size, which for h -> infinity would leave it indefinite where
      // the field hardly depends on y. As errors of the Jacobian they are below those of the step.
      const Scalar rounding = Scalar(8) * std::numeric_limits<Scalar>::epsilon() * jacobian.diagonal().sum();
      diagonal = jacobian.diagonal();
      jacobian.diagonal().array() += inverse + rounding;
      factor.compute(jacobian);
      jacobian.diagonal() = diagonal;
      return factor.info() == Eigen::Success;
    }
  }
};

/// Order 3(2), three evaluations: the first choice for the dual flow at moderate tolerances.
using Rodas3 = Rosenbrock<Rodas3Tableau>;
/// Order 4(3), five evaluations: for tighter tolerances.
using Rodas4 = Rosenbrock<Rodas4Tableau>;
/// Order 3(2), four evaluations, keeps its order with an approximate Jacobian.
using Ros34Pw2 = Rosenbrock<Ros34Pw2Tableau>;

}  // namespace richflow
