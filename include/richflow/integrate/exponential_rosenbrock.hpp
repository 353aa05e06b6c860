#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/integrate/vector_field.hpp"
#include "richflow/linalg/stable_norm.hpp"

namespace richflow {

namespace detail {

/// The functions of exponential integrators, `phi_0 = exp`, `phi_k(x) = (phi_{k-1}(x) - 1/(k-1)!) / x`, here
/// k = 1 to 4: by series for |x| < 1, where the recursion cancels.
template <class Scalar>
[[nodiscard]] Scalar phi(int k, Scalar x) {
  using std::abs;
  using std::expm1;
  if (abs(x) < Scalar(1)) {
    Scalar term(1);
    for (int i = 2; i <= k; ++i) term /= Scalar(i);
    Scalar sum(0);
    for (int i = k + 1; i < k + 60; ++i) {
      sum += term;
      term *= x / Scalar(i);
      if (abs(term) <= std::numeric_limits<Scalar>::epsilon() * sum / Scalar(4)) break;
    }
    return sum + term;
  }
  Scalar value = expm1(x) / x;
  Scalar inverse_factorial(1);
  for (int i = 2; i <= k; ++i) {
    value = (value - inverse_factorial) / x;
    inverse_factorial /= Scalar(i);
  }
  return value;
}

/// Eigenvalues and eigenvectors of the symmetric tridiagonal matrix with `diagonal` (m entries) and
/// `off_diagonal` (m - 1, in an array of m), by implicit QL steps (Golub and Van Loan, Matrix Computations,
/// 8.3). On return `diagonal` holds the eigenvalues and the columns of `vectors` (m x m) the eigenvectors.
/// False if it does not converge. Cost O(m^3), no allocation.
template <class Scalar>
bool tridiagonal_eigen(VectorRef<Scalar> diagonal, VectorRef<Scalar> off_diagonal, MatrixRef<Scalar> vectors) {
  using std::abs;
  using std::hypot;
  const Index m = diagonal.size();
  vectors.setIdentity();
  if (m == 0) return true;
  off_diagonal[m - 1] = Scalar(0);
  constexpr int max_sweeps = 60;
  for (Index l = 0; l < m; ++l) {
    for (int sweep = 0;; ++sweep) {
      Index end = l;
      while (end + 1 < m && abs(off_diagonal[end]) >
                                std::numeric_limits<Scalar>::epsilon() * (abs(diagonal[end]) + abs(diagonal[end + 1])))
        ++end;
      if (end == l) break;
      if (sweep == max_sweeps) return false;
      Scalar g = (diagonal[l + 1] - diagonal[l]) / (Scalar(2) * off_diagonal[l]);
      const Scalar root = hypot(g, Scalar(1));
      g = diagonal[end] - diagonal[l] + off_diagonal[l] / (g + (g < Scalar(0) ? -root : root));
      Scalar sine(1);
      Scalar cosine(1);
      Scalar p(0);
      bool split = false;
      for (Index i = end; i-- > l;) {
        const Scalar f = sine * off_diagonal[i];
        const Scalar b = cosine * off_diagonal[i];
        const Scalar r = hypot(f, g);
        off_diagonal[i + 1] = r;
        if (r == Scalar(0)) {
          diagonal[i + 1] -= p;
          off_diagonal[end] = Scalar(0);
          split = true;
          break;
        }
        sine = f / r;
        cosine = g / r;
        g = diagonal[i + 1] - p;
        const Scalar s = (diagonal[i] - g) * sine + Scalar(2) * cosine * b;
        p = sine * s;
        diagonal[i + 1] = g + p;
        g = cosine * s - b;
        for (Index k = 0; k < m; ++k) {
          const Scalar upper = vectors(k, i + 1);
          vectors(k, i + 1) = sine * vectors(k, i) + cosine * upper;
          vectors(k, i) = cosine * vectors(k, i) - sine * upper;
        }
      }
      if (split) continue;
      diagonal[l] -= p;
      off_diagonal[l] = g;
      off_diagonal[end] = Scalar(0);
    }
  }
  return true;
}

/// A vector v in the eigenbasis of the Krylov space of a symmetric matrix S and v, from which functions of
/// S times v are cheap.
template <class Scalar>
struct KrylovSpace {
  Matrix<Scalar> basis = {};         // N x N, the first `dimension` columns orthonormal
  Matrix<Scalar> vectors = {};       // N x N, the leading block: eigenvectors of the projected matrix
  Vector<Scalar> eigenvalues = {};   // of the projected matrix
  Vector<Scalar> off_diagonal = {};  // scratch
  Vector<Scalar> coefficients = {};  // scratch
  Vector<Scalar> combined = {};      // scratch
  Scalar norm = Scalar(0);           // |v|
  Index dimension = 0;

  void resize(Index n) {
    basis.setZero(n, n);
    vectors.setZero(n, n);
    for (Vector<Scalar>* v : {&eigenvalues, &off_diagonal, &coefficients, &combined}) v->setZero(n);
  }

  /// Lanczos with full reorthogonalization, from the lower triangle of S, until the residual of
  /// `(I + h S)^-1 v` relative to |v|, which bounds how much the exponential still misses, is below
  /// `tolerance`. False if a value is not finite.
  bool build(const Matrix<Scalar>& S, const Vector<Scalar>& v, Scalar h, Scalar tolerance) {
    using std::isfinite;
    const Index n = v.size();
    dimension = 0;
    norm = stable_norm(v);  // at large scales squares of rates are out of range
    if (!isfinite(norm)) return false;
    if (norm == Scalar(0)) return true;
    basis.col(0) = v / norm;
    Scalar residual(1);
    Scalar pivot(1);
    Scalar previous(0);
    for (Index j = 0; j < n; ++j) {
      auto q = basis.col(j);
      combined.noalias() = S.template selfadjointView<Eigen::Lower>() * q;
      eigenvalues[j] = q.dot(combined);
      const auto known = basis.leftCols(j + 1);
      for (int pass = 0; pass < 2; ++pass) {
        coefficients.head(j + 1).noalias() = known.transpose() * combined;
        combined.noalias() -= known * coefficients.head(j + 1);
      }
      off_diagonal[j] = stable_norm(combined);
      ++dimension;
      // Pivots of the Cholesky-like factorization of I + h T; their product gives the last entry of its inverse.
      pivot = Scalar(1) + h * eigenvalues[j] - previous * previous / pivot;
      previous = h * off_diagonal[j];
      residual *= previous / pivot;
      if (!isfinite(residual)) return false;
      if (residual <= tolerance || j + 1 == n) break;
      basis.col(j + 1) = combined / off_diagonal[j];
    }
    return tridiagonal_eigen<Scalar>(eigenvalues.head(dimension), off_diagonal.head(dimension),
                                     vectors.topLeftCorner(dimension, dimension));
  }

  /// `out += scale phi_k(-h S) v`.
  void add(int k, Scalar h, Scalar scale, VectorRef<Scalar> out) {
    const Index m = dimension;
    if (m == 0) return;
    for (Index i = 0; i < m; ++i) coefficients[i] = scale * norm * vectors(0, i) * phi(k, -h * eigenvalues[i]);
    combined.head(m).noalias() = vectors.topLeftCorner(m, m) * coefficients.head(m);
    out.noalias() += basis.leftCols(m) * combined.head(m);
  }
};

}  // namespace detail

/// Everything that changes during a run of the exponential Rosenbrock method: five N x N matrices and a few
/// vectors of the length of y.
template <class Scalar>
struct ExponentialRosenbrockWorkspace {
  StepCounters counters = {};
  Vector<Scalar> start = {};      // F(t, y)
  Vector<Scalar> end = {};        // F(t_new, y_new) of the last attempt
  Vector<Scalar> remainder = {};  // what the linearization misses at the end of the step
  Vector<Scalar> increment = {};  // scratch
  Vector<Scalar> error = {};
  Vector<Scalar> drift = {};     // dF/dt, where the field depends on t
  Matrix<Scalar> jacobian = {};  // lower triangle of S
  mutable detail::KrylovSpace<Scalar> linear = {};
  mutable detail::KrylovSpace<Scalar> correction = {};
  mutable detail::KrylovSpace<Scalar> drifting = {};
  bool has_start = false;
  bool has_end = false;
  bool has_jacobian = false;
};

/// The exponential Rosenbrock method of order 3(2) of Hochbruck, Ostermann and Schweitzer (2009, "exprb32") for fields
/// with symmetric Jacobian -S (SymmetricStiffField).
///
///     integrate(dual_flow, nu, TimeSpan{0, 10}, ExponentialRosenbrock{}, controller)
///
/// Exact for linear fields, for any step: the method for the kernel regime (large alpha), where the dual flow is nearly
/// linear and needs a handful of steps.
///
///     Y = y + h phi_1(-h S) F(y),    D = F(Y) - F(y) + S (Y - y),    y_new = Y + 2 h phi_3(-h S) D
///
/// Where the field depends on t (HasTimeDerivative), Y has another term `h^2 phi_2(-h S) dF/dt`, and D another `-h
/// dF/dt`.
///
/// The functions of S act through Lanczos spaces of some tens of vectors. In the rich regime these grow
/// to N vectors, and a Rosenbrock method is cheaper. An EmbeddedStepper, DerivativeStepper and
/// DenseStepper (order 3). Cost per attempt: two evaluations, about `4 m N^2 + 10 m^3` operations for spaces of
/// dimension m; a rejected attempt keeps the Jacobian and the first evaluation. No allocation.
class ExponentialRosenbrock {
 public:
  /// Order of the propagated solution; where the field depends on t it must say how.
  static constexpr int order = 3;
  /// Order of the embedded solution, the exponential Euler-Rosenbrock step Y.
  static constexpr int error_order = 2;
  /// See HasLongSteps.
  static constexpr bool has_long_steps = true;

  /// It needs nothing but the field and its Jacobian. (A stepper derived from it may.)
  template <class St, class Problem>
  static constexpr bool works_on_any_stiff_field =
      std::conjunction_v<std::is_same<St, ExponentialRosenbrock>, std::bool_constant<SymmetricStiffField<Problem>>>;

  template <class Problem>
  using Workspace = ExponentialRosenbrockWorkspace<typename Problem::Scalar>;

  /// Relative error allowed in the matrix `I / h + S`, in [0, 1), for problems that save work by it
  /// (HasApproximateJacobian). Choose a tenth of the relative step tolerance. 0, the default: the exact Jacobian.
  double jacobian_tolerance = 0;
  /// Relative residual at which a Lanczos space is large enough, in (0, 1). Must be well below the step tolerance.
  double krylov_tolerance = 1e-10;

  /// All memory of a run. Throws ArgumentError when an option is outside its range.
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    static_assert(SymmetricStiffField<Problem>,
                  "richflow: the exponential Rosenbrock stepper needs a field with a symmetric Jacobian: "
                  "`problem.negative_jacobian(t, y, S)`, which writes the lower triangle of S = -dF/dy");
    using Scalar = typename Problem::Scalar;
    require(jacobian_tolerance >= 0 && jacobian_tolerance < 1,
            "ExponentialRosenbrock: jacobian_tolerance must lie in [0, 1), got ", jacobian_tolerance);
    require(krylov_tolerance > 0 && krylov_tolerance < 1,
            "ExponentialRosenbrock: krylov_tolerance must lie in (0, 1), got ", krylov_tolerance);
    const Index n = problem.dimension();
    Workspace<Problem> ws;
    for (Vector<Scalar>* v : {&ws.start, &ws.end, &ws.remainder, &ws.increment, &ws.error}) v->setZero(n);
    ws.jacobian.setZero(n, n);
    ws.linear.resize(n);
    ws.correction.resize(n);
    if (detail::depends_on_time(problem)) {
      ws.drift.setZero(n);
      ws.drifting.resize(n);
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

  /// One attempt of length h from `(t, y)`; the result goes to `y_new`, NaN if a space cannot be built.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void step(const Problem& problem, Scalar t, Scalar h, const Vector<Scalar>& y, Vector<Scalar>& y_new,
            Workspace<Problem>& ws) const {
    ws.has_end = false;
    start_derivative(problem, t, y, ws);
    if (!ws.has_jacobian) {
      if constexpr (HasApproximateJacobian<Problem>) {
        const Scalar relative = static_cast<Scalar>(jacobian_tolerance);
        problem.negative_jacobian(t, y, relative, relative / h, ws.jacobian);
      } else {
        problem.negative_jacobian(t, y, ws.jacobian);
      }
      ++ws.counters.jacobians;
      ws.has_jacobian = true;
    }
    const Scalar tolerance = static_cast<Scalar>(krylov_tolerance);
    ws.error.setZero();
    if (!ws.linear.build(ws.jacobian, ws.start, h, tolerance)) return fail(y_new, ws);
    ws.increment.setZero();
    ws.linear.add(1, h, h, ws.increment);
    const bool has_drift = ws.drift.size() > 0;
    if (has_drift) {
      detail::set_time_derivative(problem, t, h, y, ws.drift);
      if (!ws.drifting.build(ws.jacobian, ws.drift, h, tolerance)) return fail(y_new, ws);
      ws.drifting.add(2, h, h * h, ws.increment);
    }
    y_new = y + ws.increment;
    problem(t + h, y_new, ws.remainder);
    ++ws.counters.evaluations;
    ws.remainder -= ws.start;
    ws.remainder.noalias() += ws.jacobian.template selfadjointView<Eigen::Lower>() * ws.increment;
    if (has_drift) ws.remainder -= h * ws.drift;
    if (!ws.correction.build(ws.jacobian, ws.remainder, h, tolerance)) return fail(y_new, ws);
    ws.correction.add(3, h, Scalar(2) * h, ws.error);
    y_new += ws.error;
  }

  /// The last attempt was taken.
  template <class Scalar>
  void accept(ExponentialRosenbrockWorkspace<Scalar>& ws) const {
    if (ws.has_end) ws.start.swap(ws.end);
    ws.has_start = ws.has_end;
    ws.has_end = false;
    ws.has_jacobian = false;
  }

  /// `y_new - y_embedded` of the last attempt.
  template <class Scalar>
  [[nodiscard]] const Vector<Scalar>& error(const ExponentialRosenbrockWorkspace<Scalar>& ws) const {
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

  /// `F(t_new, y_new)` of the last attempt; the first evaluation of the next step.
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

  /// `out` = the solution at `t + theta h`: the linearized flow with the remainder taken as `theta^2 D`.
  template <class Scalar>
  void interpolate(const ExponentialRosenbrockWorkspace<Scalar>& ws, std::type_identity_t<Scalar> theta,
                   std::type_identity_t<Scalar> h, const Vector<Scalar>& y, const Vector<Scalar>& /*y_new*/,
                   VectorRef<std::type_identity_t<Scalar>> out) const {
    out = y;
    ws.linear.add(1, theta * h, theta * h, out);
    if (ws.drift.size() > 0) ws.drifting.add(2, theta * h, theta * h * theta * h, out);
    ws.correction.add(3, theta * h, Scalar(2) * theta * theta * theta * h, out);
  }

 private:
  template <class Scalar>
  static void fail(Vector<Scalar>& y_new, ExponentialRosenbrockWorkspace<Scalar>& ws) {
    y_new.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
    ws.error = y_new;
  }
};

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_EXPONENTIAL_ROSENBROCK(prefix, S) \
  prefix template class detail::StepperOn<ExponentialRosenbrock, detail::AnyStiffField<S>>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EXPONENTIAL_ROSENBROCK)
