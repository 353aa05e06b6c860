#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_stepper.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/stepper.hpp"

namespace richflow {

namespace detail {

/// The eigendecomposition `Q Z diag(values) Z^T Q^T` of a symmetric matrix in the two factors in which it is found: Q
/// is never multiplied out, and nothing is allocated.
template <class Scalar>
class SymmetricSpectrum {
 public:
  /// Memory for n x n.
  explicit SymmetricSpectrum(Index n);

  /// Takes K and reads its lower triangle. False where K is not finite or the iteration fails.
  [[nodiscard]] bool compute(const Matrix<Scalar>& K);

  /// n values, rising.
  [[nodiscard]] const Vector<Scalar>& values() const { return values_; }

  /// `coefficients = Z^T Q^T samples`; destroys `samples`.
  void to_basis(Vector<Scalar>& samples, Vector<Scalar>& coefficients) const;

  /// `samples = Q Z coefficients`.
  void from_basis(const Vector<Scalar>& coefficients, Vector<Scalar>& samples) const;

 private:
  /// Q is the product of `I - c_k v_k v_k^T`, v_k = (0, ..., 0, 1, these).
  [[nodiscard]] auto reflection(Index k) const {
    return tridiagonal_.packedMatrix().col(k).tail(reflections_.size() - k - 1);
  }

  /// Eigen's own application of Q takes memory.
  void reflect(Index k, Vector<Scalar>& samples) const;

  Eigen::Tridiagonalization<Matrix<Scalar>> tridiagonal_;
  Eigen::SelfAdjointEigenSolver<Matrix<Scalar>> solver_;
  Matrix<Scalar> scaled_;
  Vector<Scalar> values_, diagonal_, subdiagonal_, reflections_;
};

template <class Scalar>
SymmetricSpectrum<Scalar>::SymmetricSpectrum(Index n)
    : tridiagonal_(Matrix<Scalar>(Matrix<Scalar>::Zero(n, n))),
      solver_(n),
      scaled_(n, n),
      values_(n),
      diagonal_(n),
      subdiagonal_(n - 1),
      reflections_(n - 1) {}

template <class Scalar>
bool SymmetricSpectrum<Scalar>::compute(const Matrix<Scalar>& K) {
  using std::isfinite;
  Scalar largest(0);
  Scalar sum(0);
  for (Index j = 0; j < K.cols(); ++j) {
    const auto column = K.col(j).tail(K.rows() - j);
    largest = std::max(largest, column.cwiseAbs().maxCoeff());
    sum += column.sum();
  }
  if (!isfinite(sum)) return false;
  const Scalar scale = largest > Scalar(0) ? largest : Scalar(1);
  scaled_ = K / scale;
  tridiagonal_.compute(scaled_);
  for (Index k = 0; k < reflections_.size(); ++k) {
    const Scalar squares = reflection(k).squaredNorm();
    reflections_[k] = squares > Scalar(0) ? Scalar(2) / (Scalar(1) + squares) : Scalar(0);
  }
  diagonal_ = tridiagonal_.diagonal();
  subdiagonal_ = tridiagonal_.subDiagonal();
  solver_.computeFromTridiagonal(diagonal_, subdiagonal_, Eigen::ComputeEigenvectors);
  if (solver_.info() != Eigen::Success) return false;
  values_ = scale * solver_.eigenvalues();
  return true;
}

template <class Scalar>
void SymmetricSpectrum<Scalar>::to_basis(Vector<Scalar>& samples, Vector<Scalar>& coefficients) const {
  for (Index k = 0; k < reflections_.size(); ++k) reflect(k, samples);
  coefficients.noalias() = solver_.eigenvectors().transpose() * samples;
}

template <class Scalar>
void SymmetricSpectrum<Scalar>::from_basis(const Vector<Scalar>& coefficients, Vector<Scalar>& samples) const {
  samples.noalias() = solver_.eigenvectors() * coefficients;
  for (Index k = reflections_.size(); k-- > 0;) reflect(k, samples);
}

template <class Scalar>
void SymmetricSpectrum<Scalar>::reflect(Index k, Vector<Scalar>& samples) const {
  const auto v = reflection(k);
  auto below = samples.tail(v.size());
  Scalar& first = samples[k + 1];
  const Scalar along = reflections_[k] * (first + v.dot(below));
  first -= along;
  below -= along * v;
}

}  // namespace detail

/// Everything that changes during a run of the exponential tangent-kernel method: the tangent space, some N x N
/// matrices and a few vectors of P entries.
template <class Problem>
struct ExponentialTangentWorkspace {
  using Scalar = typename Problem::Scalar;

  mutable detail::TangentStiffness<Scalar> stiffness;
  StepCounters counters = {};
  detail::SymmetricSpectrum<Scalar> spectrum;
  Vector<Scalar> start = {};      // F(t, y)
  Vector<Scalar> remainder = {};  // what the linearization misses at the end of the step
  Vector<Scalar> error = {};
  Vector<Scalar> coefficients = {};     // slope in the eigenbasis of K
  Vector<Scalar> correction = {};       // J D there
  Vector<Scalar> position = {};         // J y there, with weight decay
  mutable Vector<Scalar> damped = {};   // scratch, N
  mutable Vector<Scalar> samples = {};  // scratch, N
  mutable Vector<Scalar> pulled = {};   // scratch, P
  bool has_start = false;
  bool has_spectrum = false;  // K has eigenvalues
};

/// The exponential method of order 2(1) for the gradient flow of any model (GaussNewtonFlow) under a QuadraticLoss.
///
///     integrate(GradientFlow(net, data), w, TimeSpan{0, 10}, ExponentialTangent{}, controller)
///
/// The flow of the tangent model is exact, for any step, and what it misses enters by a second stage (the method ETD2RK
/// of Cox and Matthews 2002 with the Gauss-Newton matrix `S = c J^T J` as its linear part, which need not be the
/// Jacobian). In the kernel regime a handful of steps reaches any loss. With `K = J J^T`, `F = -J^T s`:
///
///     Y = y - h J^T phi_1(-c h K) s,    D = F(Y) + J^T exp(-c h K) s,    y_new = Y + h phi_2(-h S) D
///
/// Weight decay at a rate m belongs to the linear part, too: `S = m I + c J^T J`, `F = -J^T s - m y`, `Y = y + h
/// phi_1(-h S) F`, `D = F(Y) - exp(-h S) F`, where `f(S) = f(m) I + J^T (f(m + c K) - f(m)) K^-1 J`. A rate that
/// changes with time enters by D.
///
/// An EmbeddedStepper and DenseStepper; Y has order 1. Cost per accepted step: one eigendecomposition of K, and per
/// attempt one evaluation and four products with J. `step_floor` as for the W-methods (Rosenbrock). Steps allocate
/// nothing.
struct ExponentialTangent {
  /// Order of the propagated solution.
  static constexpr int order = 2;
  /// Order of the embedded solution Y.
  static constexpr int error_order = 1;
  /// See HasLongSteps.
  static constexpr bool has_long_steps = true;
  /// It needs nothing but the field and its tangent space. (A stepper derived from it may.)
  template <class St, class Problem>
  static constexpr bool works_on_any_tangent_field = std::is_same_v<St, ExponentialTangent>;

  template <class Problem>
  using Workspace = ExponentialTangentWorkspace<Problem>;

  /// All memory of a run. Throws ArgumentError unless the loss has a constant second derivative.
  template <class Problem>
  [[nodiscard]] Workspace<Problem> make_workspace(const Problem& problem) const {
    static_assert(GaussNewtonFlow<Problem>,
                  "richflow: the exponential tangent-kernel stepper needs the gradient flow of a model");
    using Scalar = typename Problem::Scalar;
    detail::TangentStiffness<Scalar> stiffness(problem.make_tangent());
    require(stiffness.tangent().is_quadratic(),
            "ExponentialTangent: the loss must have a constant second derivative; for this one use Ros2 or Ros34Pw2");
    const Index n = stiffness.tangent().num_residuals();
    Workspace<Problem> ws{.stiffness = std::move(stiffness), .spectrum = detail::SymmetricSpectrum<Scalar>(n)};
    for (Vector<Scalar>* v : {&ws.start, &ws.remainder, &ws.error, &ws.pulled}) v->setZero(problem.dimension());
    for (Vector<Scalar>* v : {&ws.coefficients, &ws.correction, &ws.position, &ws.damped, &ws.samples}) v->setZero(n);
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
    auto& tangent = ws.stiffness.tangent();
    if (!ws.has_start) {
      ws.stiffness.start(t, y, ws.start);
      ws.stiffness.update(y, ws.start);
      ws.has_spectrum = ws.spectrum.compute(ws.stiffness.system().matrix());
      ++ws.counters.evaluations;
      ++ws.counters.jacobians;
      ++ws.counters.factorizations;
      ws.has_start = true;
    }
    if (!ws.has_spectrum) {
      y_new.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
      ws.error = y_new;
      return;
    }
    ws.samples = ws.stiffness.slope();
    ws.spectrum.to_basis(ws.samples, ws.coefficients);
    if (ws.stiffness.decay() != Scalar(0)) {
      tangent.jvp(y, ws.samples);
      ws.spectrum.to_basis(ws.samples, ws.position);
    }
    set_of_start(ws, 1, h, h, y, y_new);
    y_new += y;
    problem(t + h, y_new, ws.remainder);
    ++ws.counters.evaluations;
    set_of_start(ws, 0, h, Scalar(1), y, ws.error);
    ws.remainder -= ws.error;
    tangent.jvp(ws.remainder, ws.samples);
    ws.spectrum.to_basis(ws.samples, ws.correction);
    set_of_remainder(ws, h, h, ws.error);
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

  /// `out` = the solution at `t + theta h`: the flow of the tangent model with the remainder taken as `theta D`.
  template <class Problem>
  void interpolate(const ExponentialTangentWorkspace<Problem>& ws, std::type_identity_t<typename Problem::Scalar> theta,
                   std::type_identity_t<typename Problem::Scalar> h, const Vector<typename Problem::Scalar>& y,
                   const Vector<typename Problem::Scalar>& /*y_new*/, VectorRef<typename Problem::Scalar> out) const {
    using Scalar = typename Problem::Scalar;
    const Scalar part = theta * h;
    set_of_start(ws, 1, part, part, y, out);
    set_of_remainder(ws, part, theta * part, ws.pulled);
    out += y + ws.pulled;
  }

  /// The step that is taken whatever its error.
  template <class Problem>
  [[nodiscard]] typename Problem::Scalar step_floor(const ExponentialTangentWorkspace<Problem>& ws) const {
    return ws.stiffness.floor();
  }

 private:
  /// phi_k, k = 0 the exponential.
  template <class Scalar>
  static Scalar function(int k, Scalar x) {
    using std::exp;
    return k == 0 ? exp(x) : detail::phi(k, x);
  }

  /// `(phi_k(x + dx) - phi_k(x)) / dx`.
  template <class Scalar>
  static Scalar divided_difference(int k, Scalar x, Scalar dx) {
    using std::abs;
    // phi_k' = phi_k - k phi_{k+1}, at the middle good to dx^2 / 24 of itself.
    if (abs(dx) < Scalar(1e-3)) {
      const Scalar middle = x + dx / Scalar(2);
      return function(k, middle) - (k == 0 ? Scalar(0) : Scalar(k) * function(k + 1, middle));
    }
    return (function(k, Scalar(x + dx)) - function(k, x)) / dx;
  }

  /// `out = scale phi_k(-h S) F` at the start of the step.
  template <class Problem, class Scalar = typename Problem::Scalar>
  static void set_of_start(const ExponentialTangentWorkspace<Problem>& ws, int k, std::type_identity_t<Scalar> h,
                           std::type_identity_t<Scalar> scale, const Vector<Scalar>& y,
                           VectorRef<std::type_identity_t<Scalar>> out) {
    const Scalar decay = ws.stiffness.decay();
    const Scalar rate = -ws.stiffness.tangent().curvature() * h;
    for (Index i = 0; i < ws.damped.size(); ++i) {
      const Scalar x = rate * std::max(ws.spectrum.values()[i], Scalar(0));
      ws.damped[i] = -scale * function(k, Scalar(x - decay * h)) * ws.coefficients[i];
      if (decay != Scalar(0))
        ws.damped[i] -= scale * decay * rate * divided_difference(k, Scalar(-decay * h), x) * ws.position[i];
    }
    ws.spectrum.from_basis(ws.damped, ws.samples);
    ws.stiffness.tangent().vjp(ws.samples, out);
    if (decay != Scalar(0)) out -= (scale * decay * function(k, Scalar(-decay * h))) * y;
  }

  /// `out = scale phi_2(-h S) D`.
  template <class Problem, class Scalar = typename Problem::Scalar>
  static void set_of_remainder(const ExponentialTangentWorkspace<Problem>& ws, std::type_identity_t<Scalar> h,
                               std::type_identity_t<Scalar> scale, Vector<std::type_identity_t<Scalar>>& out) {
    const Scalar decay = ws.stiffness.decay();
    const Scalar rate = -ws.stiffness.tangent().curvature() * h;
    for (Index i = 0; i < ws.damped.size(); ++i) {
      const Scalar x = rate * std::max(ws.spectrum.values()[i], Scalar(0));
      // (phi_2(x) - phi_2(0)) / x = phi_3(x)
      const Scalar slope = decay == Scalar(0) ? detail::phi(3, x) : divided_difference(2, Scalar(-decay * h), x);
      ws.damped[i] = scale * rate * slope * ws.correction[i];
    }
    ws.spectrum.from_basis(ws.damped, ws.samples);
    ws.stiffness.tangent().vjp(ws.samples, out);
    out += (scale * function(2, Scalar(-decay * h))) * ws.remainder;
  }
};

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_EXPONENTIAL_TANGENT(prefix, S) \
  prefix template class detail::SymmetricSpectrum<S>;       \
  prefix template class detail::StepperOn<ExponentialTangent, detail::AnyTangentField<S>>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EXPONENTIAL_TANGENT)
