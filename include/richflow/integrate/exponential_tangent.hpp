#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow {

/// Everything that changes during a run of the exponential tangent-kernel method: the tangent space, two N x N matrices
/// and a few vectors of P entries.
template <class Problem>
struct ExponentialTangentWorkspace {
  using Scalar = typename Problem::Scalar;

  detail::TangentStiffness<Problem> stiffness;
  StepCounters counters = {};
  Eigen::SelfAdjointEigenSolver<Matrix<Scalar>> eigen = {};
  Vector<Scalar> start = {};      // F(t, y)
  Vector<Scalar> remainder = {};  // what the linearization misses at the end of the step
  Vector<Scalar> error = {};
  Vector<Scalar> coefficients = {};  // slope in the eigenbasis of K
  Vector<Scalar> damped = {};        // scratch, N
  Vector<Scalar> samples = {};       // scratch, N
  bool has_start = false;
};

/// The exponential method of order 2(1) for the gradient flow of any model (GaussNewtonFlow): the flow of the tangent
/// model is exact, for any step, and what it misses enters by a second stage (the method ETD2RK of Cox and Matthews
/// 2002 with the Gauss-Newton matrix `S = c J^T J` as its linear part, which need not be the Jacobian). In the kernel
/// regime a handful of steps reaches any loss. With `K = J J^T`, `F = -J^T s`:
///
///     Y = y - h J^T phi_1(-c h K) s,    D = F(Y) + J^T exp(-c h K) s,    y_new = Y + h phi_2(-h S) D
///
/// An EmbeddedStepper; Y has order 1. Cost per accepted step: one eigendecomposition of K, and per attempt one
/// evaluation and four products with J. `step_floor` as for the W-methods (Rosenbrock). Nothing of P
/// entries is allocated; Eigen's eigendecomposition takes scratch of N numbers once per accepted step.
struct ExponentialTangent {
  /// Order of the propagated solution.
  static constexpr int order = 2;
  /// Order of the embedded solution Y.
  static constexpr int error_order = 1;

  template <class Problem>
  using Workspace = ExponentialTangentWorkspace<Problem>;

  /// All memory of a run.
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    static_assert(GaussNewtonFlow<Problem>,
                  "richflow: the exponential tangent-kernel stepper needs the gradient flow of a model");
    using Scalar = typename Problem::Scalar;
    Workspace<Problem> ws{detail::TangentStiffness<Problem>(problem)};
    const Index n = problem.num_residuals();
    ws.eigen = Eigen::SelfAdjointEigenSolver<Matrix<Scalar>>(n);
    for (Vector<Scalar>* v : {&ws.start, &ws.remainder, &ws.error}) v->setZero(problem.dimension());
    for (Vector<Scalar>* v : {&ws.coefficients, &ws.damped, &ws.samples}) v->setZero(n);
    return ws;
  }

  /// Starts at `(t, y)`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void begin(const Problem& /*problem*/, Scalar /*t*/, const Vector<Scalar>& /*y*/, Workspace<Problem>& ws) const {
    ws.has_start = false;
  }

  /// One attempt of length h from `(t, y)`; the result goes to `y_new`, NaN if K has no eigenvalues.
  template <class Problem, class Scalar = typename Problem::Scalar>
  void step(const Problem& problem, Scalar t, Scalar h, const Vector<Scalar>& y, Vector<Scalar>& y_new,
            Workspace<Problem>& ws) const {
    auto& tangent = ws.stiffness.tangent;
    if (!ws.has_start) {
      ws.stiffness.start(problem, t, y, ws.start);
      ws.stiffness.update(problem, t, y, ws.start);
      ws.eigen.compute(ws.stiffness.kernel);
      ++ws.counters.evaluations;
      ++ws.counters.jacobians;
      ++ws.counters.factorizations;
      ws.has_start = true;
    }
    if (ws.eigen.info() != Eigen::Success) {
      y_new.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
      ws.error = y_new;
      return;
    }
    const Matrix<Scalar>& U = ws.eigen.eigenvectors();
    const Scalar rate = -ws.stiffness.curvature * h;
    // `out = scale U phi_k(rate Lambda) coefficients`
    const auto filter = [&](int k, Scalar scale) {
      for (Index i = 0; i < ws.damped.size(); ++i) {
        const Scalar x = rate * std::max(ws.eigen.eigenvalues()[i], Scalar(0));
        using std::exp;
        ws.damped[i] = scale * (k == 0 ? exp(x) : detail::phi(k, x)) * ws.coefficients[i];
      }
      ws.samples.noalias() = U * ws.damped;
    };
    ws.coefficients.noalias() = U.transpose() * ws.stiffness.slope;
    filter(1, -h);
    tangent.vjp(ws.samples, y_new);
    y_new += y;
    problem(t + h, y_new, ws.remainder);
    ++ws.counters.evaluations;
    filter(0, Scalar(1));
    tangent.vjp(ws.samples, ws.error);
    ws.remainder += ws.error;
    // phi_2(-h S) D = D / 2 - c h J^T phi_3(-c h K) J D
    tangent.jvp(ws.remainder, ws.samples);
    ws.coefficients.noalias() = U.transpose() * ws.samples;
    filter(3, rate * h);
    tangent.vjp(ws.samples, ws.error);
    ws.error += (h / Scalar(2)) * ws.remainder;
    y_new += ws.error;
    ws.counters.solves += 2;
  }

  /// The last attempt was taken.
  template <class Problem>
  void accept(ExponentialTangentWorkspace<Problem>& ws) const {
    ws.has_start = false;
  }

  /// `y_new - Y` of the last attempt.
  template <class Problem>
  [[nodiscard]] const Vector<typename Problem::Scalar>& error(const ExponentialTangentWorkspace<Problem>& ws) const {
    return ws.error;
  }

  /// The step that is taken whatever its error.
  template <class Problem>
  [[nodiscard]] typename Problem::Scalar step_floor(const ExponentialTangentWorkspace<Problem>& ws) const {
    return ws.stiffness.floor;
  }
};

}  // namespace richflow
