#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "richflow/core/error.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/models/measurements.hpp"
#include "richflow/regularizers/schatten.hpp"

/// @file
/// The two ends of the bias of matrix factorization: the interpolators of smallest nuclear and smallest Frobenius norm.

namespace richflow {

/// A matrix that fits the measurements and minimizes a regularizer R among those that do, with its proof. With the
/// multipliers nu, `sum_n nu_n X_n = Z` and any nu the optimum is at least `<y, nu> - R*(Z)` (weak duality).
template <class Scalar>
struct [[nodiscard]] BasicSpectralResult {
  Matrix<Scalar> matrix = {};                                  ///< M, d1 x d2.
  Vector<Scalar> nu = {};                                      ///< Multipliers, N: feasible for the dual problem.
  Scalar objective = std::numeric_limits<Scalar>::infinity();  ///< R(M).
  Scalar primal_residual =
      std::numeric_limits<Scalar>::infinity();  ///< `|<M, X_n> - y_n| / |y|`, the absolute norm for y = 0.
  Scalar duality_gap = std::numeric_limits<Scalar>::infinity();  ///< `(R(M) + R*(Z) - <y, nu>) / max(R(M), R*(Z))`.
  Index iterations = 0;                                          ///< Newton steps.
  Status status = Status::stalled;                               ///< tolerance_reached, stalled or max_steps.

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }

  /// *this, or throws ConvergenceError with the numbers.
  const BasicSpectralResult& require_ok() const {
    require<ConvergenceError>(ok(), "the matrix minimizer stopped after ", iterations, " Newton steps (", status,
                              ") at relative duality gap ", duality_gap, " and primal residual ", primal_residual);
    return *this;
  }
};

/// Spectral result in double precision.
using SpectralResult = BasicSpectralResult<double>;

namespace detail {

/// `out_n = <M, X_n>`.
template <class Kind, class S>
[[nodiscard]] Vector<S> measure(const FactorShape& shape, const Matrix<S>& X, const Matrix<S>& M) {
  // As the product of the factors I and M^T, of width d1.
  const Matrix<S> first = Matrix<S>::Identity(shape.rows(), shape.rows());
  Matrix<S> T(shape.rows(), shape.stack_size());
  T << first, M;
  Vector<S> out = Vector<S>::Zero(X.rows());
  Kind::template add_pairing<S>(shape, X, T, T, out);
  return out;
}

/// `sum_n nu_n X_n`.
template <class Kind, class S>
[[nodiscard]] Matrix<S> weighted_sum(const FactorShape& shape, const Matrix<S>& X, const Vector<S>& nu) {
  Matrix<S> B = Matrix<S>::Zero(shape.stack_size(), shape.stack_size());
  Kind::template add_matrix<S>(shape, X, nu, B);
  return B.topRightCorner(shape.rows(), shape.cols());
}

/// `tr(B_n P B_m W)`, both triangles.
template <class Kind, class S>
[[nodiscard]] Matrix<S> full_kernel(const FactorShape& shape, const Matrix<S>& X, const Matrix<S>& P,
                                    const Matrix<S>& W) {
  Matrix<S> K = Matrix<S>::Zero(X.rows(), X.rows());
  Matrix<S> scratch = Matrix<S>::Zero(shape.stack_size(), 3 * shape.stack_size());
  Kind::template kernel<S>(shape, X, P, W, K, scratch);
  return K.template selfadjointView<Eigen::Lower>();
}

/// What the minimizers of a matrix over its measurements share: M = U V^T is general, and the measurements fit.
template <class Kind, class S>
void check_measured(const FactorShape& shape, const BasicDataset<S>& data) {
  require(!shape.is_symmetric(), "the minimizers are over all matrices: pass FactorShape::general");
  Kind::template check<S>(shape, data.X());
}

/// The largest t <= 1 for which `A + t dA` stays positive definite with some margin, A = L L^T.
template <class S>
[[nodiscard]] S step_to_boundary(const Eigen::LLT<Matrix<S>>& L, const Matrix<S>& dA) {
  Matrix<S> scaled = dA;
  L.matrixL().solveInPlace(scaled);
  scaled.transposeInPlace();
  L.matrixL().solveInPlace(scaled);
  const S lowest = Eigen::SelfAdjointEigenSolver<Matrix<S>>(scaled, Eigen::EigenvaluesOnly).eigenvalues()(0);
  return lowest < S(0) ? std::min(S(1), S(-0.9) / lowest) : S(1);
}

/// Matrices of smallest Frobenius norm with given measurements.
template <class Kind, class S>
class LeastFrobenius {
 public:
  LeastFrobenius(const FactorShape& shape, const BasicDataset<S>& data) : shape_(shape), X_(data.X()) {
    check_measured<Kind>(shape, data);
    const Matrix<S> identity = Matrix<S>::Identity(shape.stack_size(), shape.stack_size());
    // <X_n, X_m> = tr(B_n B_m) / 2
    gram_ = S(0.5) * full_kernel<Kind>(shape, X_, identity, identity);
    solver_.compute(gram_);
  }

  /// The matrix with the measurements y, in the least-squares sense.
  [[nodiscard]] Matrix<S> solve(const Vector<S>& y) const {
    Vector<S> nu = solver_.solve(y);
    // One refinement makes up for the squared condition number of the Gram matrix.
    nu += solver_.solve(y - gram_ * nu);
    return weighted_sum<Kind>(shape_, X_, nu);
  }

 private:
  FactorShape shape_;
  const Matrix<S>& X_;
  Matrix<S> gram_ = {};
  Eigen::CompleteOrthogonalDecomposition<Matrix<S>> solver_ = {};
};

/// `LeastFrobenius` at y; throws InfeasibleError where y cannot be met.
template <class Kind, class S>
[[nodiscard]] Matrix<S> solve_feasible(const LeastFrobenius<Kind, S>& least, const FactorShape& shape,
                                       const BasicDataset<S>& data) {
  using std::sqrt;
  Matrix<S> M = least.solve(data.y());
  const S misfit = (measure<Kind>(shape, data.X(), M) - data.y()).norm();
  require<InfeasibleError>(misfit <= sqrt(Eigen::NumTraits<S>::epsilon()) * data.y().norm(),
                           "no matrix fits the measurements: the best fit leaves a residual of norm ", misfit,
                           " where |y| = ", data.y().norm());
  return M;
}

}  // namespace detail

/// The interpolator of smallest Frobenius norm: `argmin |M|_F` subject to `<M, X_n> = y_n`, the kernel limit of wide
/// factorizations. `Kind` says how a row of X stands for X_n; for MatrixEntries every unobserved entry is 0. Dependent
/// measurements are fine if y is consistent; throws InfeasibleError if not, DimensionError or ArgumentError where X
/// does not fit. Cost O(N^3), besides the kernel of the measurements.
template <class Kind, class S>
[[nodiscard]] Matrix<S> min_frobenius_interpolator(const FactorShape& shape, const BasicDataset<S>& data) {
  return detail::solve_feasible(detail::LeastFrobenius<Kind, S>(shape, data), shape, data);
}

/// Options of the interior-point method.
template <class Scalar>
struct BasicNuclearNormOptions {
  Scalar gap_tolerance = Scalar(1e-7);  ///< Stop at this relative duality gap, > 0; rounding allows about 1e-8.
  Index max_iterations = 100;           ///< Give up after so many Newton steps, > 0.
};

/// The interpolator of smallest nuclear norm, `argmin |M|_*` subject to `<M, X_n> = y_n`, the rich limit of
/// factorizations, as a certified pair: `|M|_*` and a dual value `<y, nu>`, `|Z|_2 <= 1`, that bounds it from below.
///
/// Interior points of the semidefinite program `min tr(W) / 2` over `W = [W1 M; M^T W2]`: primal and dual iterates stay
/// feasible (the first M is that of smallest Frobenius norm), with the Newton directions of Helmberg, Kojima and
/// Monteiro. Each costs one kernel of the measurements and O(N^3 + D^3); some 15 reach the default gap. Where
/// the minimizer is not unique the result is the middle of the set of minimizers. Throws as
/// `min_frobenius_interpolator`; a gap that is not reached is in the status.
template <class Kind, class S>
[[nodiscard]] BasicSpectralResult<S> min_nuclear_norm_interpolator(
    const FactorShape& shape, const BasicDataset<S>& data,
    const std::type_identity_t<BasicNuclearNormOptions<S>>& options = {}) {
  using std::abs;
  using std::isfinite;
  require(isfinite(options.gap_tolerance) && options.gap_tolerance > S(0), "gap_tolerance must be positive, got ",
          options.gap_tolerance);
  require(options.max_iterations > 0, "max_iterations must be positive, got ", options.max_iterations);
  const Matrix<S>& X = data.X();
  const Vector<S>& y = data.y();
  const Index D = shape.stack_size();
  BasicSpectralResult<S> result;
  const detail::LeastFrobenius<Kind, S> least(shape, data);
  result.matrix = detail::solve_feasible(least, shape, data);
  result.nu = Vector<S>::Zero(y.size());
  result.objective = nuclear_norm(result.matrix);
  const S size = spectral_norm(result.matrix);
  const auto relative_residual = [&](const Matrix<S>& M) {
    return (detail::measure<Kind>(shape, X, M) - y).norm() / (y.norm() > S(0) ? y.norm() : S(1));
  };
  result.primal_residual = relative_residual(result.matrix);
  if (!(size > S(0))) {
    result.duality_gap = S(0);
    result.status = Status::tolerance_reached;
    return result;
  }

  // In units of the largest singular value. W is primal; `slack` = (I - sum_n nu_n B_n) / 2 is its dual partner.
  Matrix<S> W = S(1.5) * Matrix<S>::Identity(D, D);
  W.topRightCorner(shape.rows(), shape.cols()) = result.matrix / size;
  W.bottomLeftCorner(shape.cols(), shape.rows()) = result.matrix.transpose() / size;
  Matrix<S> slack = S(0.5) * Matrix<S>::Identity(D, D);
  Vector<S> nu = result.nu;
  Matrix<S> inverse(D, D), dW(D, D), dSlack(D, D);
  Eigen::LLT<Matrix<S>> W_factor(W), slack_factor(slack);

  // Near the optimum rounding makes the gap of single iterates jump.
  constexpr Index patience = 5;
  Index without_gain = 0;
  S best = std::numeric_limits<S>::infinity();
  result.status = Status::max_steps;
  S centering(0.2);
  while (true) {
    // The certificate of this iterate: M moved onto the measurements, nu scaled into the ball.
    Matrix<S> M = size * W.topRightCorner(shape.rows(), shape.cols());
    M += least.solve(y - detail::measure<Kind>(shape, X, M));
    if (!M.allFinite() || !nu.allFinite()) {
      result.status = Status::stalled;
      return result;
    }
    const S dual_norm = std::max(S(1), spectral_norm(detail::weighted_sum<Kind>(shape, X, nu)));
    const S objective = nuclear_norm(M);
    const S gap = (objective - y.dot(nu) / dual_norm) / objective;
    if (isfinite(gap) && gap < best) {
      best = gap;
      result.matrix = M;
      result.nu = nu / dual_norm;
      result.objective = objective;
      result.duality_gap = gap;
      result.primal_residual = relative_residual(M);
      without_gain = 0;
    } else if (++without_gain > patience) {
      result.status = Status::stalled;
      return result;
    }
    if (result.duality_gap <= options.gap_tolerance) {
      result.status = Status::tolerance_reached;
      return result;
    }
    if (result.iterations == options.max_iterations) return result;
    ++result.iterations;

    inverse.setIdentity();
    slack_factor.solveInPlace(inverse);
    const S complementarity = W.cwiseProduct(slack).sum() / static_cast<S>(D);
    const Matrix<S> kernel = S(0.25) * detail::full_kernel<Kind>(shape, X, inverse, W);
    const Eigen::LDLT<Matrix<S>> kernel_factor(kernel);
    const Matrix<S> target = (centering * complementarity) * inverse;
    // <A_n, W + dW> = y_n with A_n = B_n / 2, whatever W has lost to rounding.
    const Vector<S> rhs =
        y / size - detail::measure<Kind>(shape, X, Matrix<S>(target.topRightCorner(shape.rows(), shape.cols())));
    Vector<S> dnu = kernel_factor.solve(rhs);
    dnu += kernel_factor.solve(rhs - kernel * dnu);
    dSlack.setZero();
    Kind::template add_matrix<S>(shape, X, dnu, dSlack);
    dSlack *= S(-0.5);
    dW = inverse * dSlack * W;
    dW = (target - W - S(0.5) * (dW + dW.transpose())).eval();
    const S primal_step = detail::step_to_boundary(W_factor, dW);
    const S dual_step = detail::step_to_boundary(slack_factor, dSlack);
    W += primal_step * dW;
    slack += dual_step * dSlack;
    nu += dual_step * dnu;
    // Long steps were possible: the next may aim nearer to the boundary.
    const S shortfall = S(1) - std::min(primal_step, dual_step);
    centering = std::clamp(shortfall * shortfall, S(0.1), S(0.5));
    W_factor.compute(W);
    slack_factor.compute(slack);
    if (W_factor.info() != Eigen::Success || slack_factor.info() != Eigen::Success) {
      result.status = Status::stalled;
      return result;
    }
  }
}

}  // namespace richflow
