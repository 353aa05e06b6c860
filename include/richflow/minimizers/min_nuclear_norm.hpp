#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/least_norm.hpp"
#include "richflow/regularizers/schatten.hpp"

/// @file
/// The two ends of the bias of matrix factorization: the interpolators of smallest nuclear and smallest Frobenius norm.

namespace richflow {

/// A matrix that fits the measurements and minimizes a regularizer R among those that do, with its proof. With any
/// multipliers nu and `sum_n nu_n X_n = Z` the optimum is at least `<y, nu> - R*(Z)` (weak duality).
template <class Scalar = double>
struct [[nodiscard]] SpectralResult : Result<SpectralResult<Scalar>> {
  Matrix<Scalar> matrix = {};                                  ///< M, d1 x d2.
  Vector<Scalar> nu = {};                                      ///< Multipliers, N: feasible for the dual problem.
  Scalar objective = std::numeric_limits<Scalar>::infinity();  ///< R(M).
  Scalar primal_residual =
      std::numeric_limits<Scalar>::infinity();  ///< `|<M, X_n> - y_n| / |y|`, the absolute norm for y = 0.
  Scalar duality_gap = std::numeric_limits<Scalar>::infinity();  ///< `(R(M) + R*(Z) - <y, nu>) / max(R(M), R*(Z))`.
  Index iterations = 0;                                          ///< Newton steps.
  Status status = Status::stalled;                               ///< tolerance_reached, stalled or max_steps.
  std::string message = {};                                      ///< How it ended, with these numbers.

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }

  /// Itself, with the message that belongs to its numbers.
  [[nodiscard]] SpectralResult explained() && {
    message = detail::concat("the matrix minimizer ended after ", iterations, " Newton steps (", status,
                             ") at relative duality gap ", duality_gap, " and primal residual ", primal_residual);
    return std::move(*this);
  }
};

namespace detail {

/// The largest t <= 1 for which `A + t dA` stays positive definite with some margin, A = L L^T.
template <class S>
[[nodiscard]] S step_to_boundary(const Eigen::LLT<Matrix<S>>& L, const Matrix<S>& dA) {
  Matrix<S> scaled = dA;
  L.matrixL().solveInPlace(scaled);
  scaled.transposeInPlace();
  L.matrixL().solveInPlace(scaled);
  const S lowest = lowest_eigenvalue(scaled);
  return lowest < S(0) ? std::min(S(1), S(-0.9) / lowest) : S(1);
}

/// The measurements of a matrix, and equivalent ones to work with: independent, orthonormal ones whatever the units of
/// X (see `LeastNorm`); observed entries are used as they are. Fits are judged in the data as given.
template <class S>
class MeasuredRows {
 public:
  /// Throws ArgumentError unless the data are measurements.
  explicit MeasuredRows(Dataset<S> data);

  /// As given.
  [[nodiscard]] const Dataset<S>& data() const { return data_; }
  /// Of the matrix that is measured.
  [[nodiscard]] const FactorShape& shape() const { return shape_; }
  /// To work with. There must be some (`count`).
  [[nodiscard]] const MatrixMeasurements<S>& measurements() const {
    return orthonormal_ ? *orthonormal_ : data_.measurements();
  }
  /// What M should measure there.
  [[nodiscard]] const Vector<S>& y() const { return y_; }
  /// Independent measurements; for entries all of them.
  [[nodiscard]] Index count() const { return y_.size(); }
  /// Whether those to work with are those given.
  [[nodiscard]] bool are_given() const { return !least_; }

  /// The multipliers nu of the original measurements with the same `sum_n nu_n X_n`. Rows of Z in small units are the
  /// difference of terms in large ones, so one refinement.
  [[nodiscard]] Vector<S> original_multipliers(const Vector<S>& multipliers) const;

  /// `sum_n nu_n X_n` of the data as given; in twice the precision where its terms cancel.
  [[nodiscard]] Matrix<S> adjoint(const Vector<S>& nu) const;

  /// The matrix of least Frobenius norm with the measurements v, where they are consistent; entries observed twice get
  /// the mean.
  [[nodiscard]] Matrix<S> least(const Vector<S>& v) const;

  /// `y_n - <M, X_n>` in the data as given.
  [[nodiscard]] Vector<S> residual(const Matrix<S>& M) const { return data_.y() - data_.measurements().apply(M); }

  /// How well M fits the data as given.
  [[nodiscard]] Misfit<S> misfit(const Matrix<S>& M) const;

  /// Moves M onto the measurements by the least change: a step of refinement, and others while each helps and the
  /// residual is more than a few roundings.
  Misfit<S> refine(Matrix<S>& M) const;

  /// The matrix of least Frobenius norm; throws InfeasibleError where y cannot be met.
  [[nodiscard]] Matrix<S> feasible() const;

 private:
  /// As given, the coefficients of each X_n: of its diagonal, or of all of it.
  [[nodiscard]] ConstMatrixRef<S> coefficients() const;

  /// Measurements of the same kind with these coefficients.
  [[nodiscard]] MatrixMeasurements<S> with_coefficients(Matrix<S> X) const;

  Dataset<S> data_;
  FactorShape shape_;
  bool is_diagonal_ = false;
  Matrix<S> dense_ = {};                             // the coefficients of a user's kind
  std::optional<MatrixMeasurements<S>> sizes_ = {};  // |X|
  std::optional<LeastNorm<S>> least_ = {};
  std::optional<MatrixMeasurements<S>> orthonormal_ = {};
  Vector<S> y_ = {};
};

template <class S>
MeasuredRows<S>::MeasuredRows(Dataset<S> data)
    : data_(std::move(data)), shape_(FactorShape::general(data_.measurements().rows(), data_.measurements().cols())) {
  if (as_kind<EntryMeasurements<S>>(data_.measurements()) != nullptr) {
    y_ = data_.y();
    return;
  }
  is_diagonal_ = as_kind<DiagonalMeasurements<S>>(data_.measurements()) != nullptr;
  if (!is_diagonal_ && as_kind<DenseMeasurements<S>>(data_.measurements()) == nullptr)
    dense_ = dense_rows(data_.measurements());
  sizes_ = with_coefficients(coefficients().cwiseAbs());
  least_.emplace(Matrix<S>(coefficients()));
  y_ = least_->labels(data_.y());
  if (least_->rank() > 0) orthonormal_ = with_coefficients(least_->X());
}

template <class S>
ConstMatrixRef<S> MeasuredRows<S>::coefficients() const {
  if (is_diagonal_) return as_kind<DiagonalMeasurements<S>>(data_.measurements())->X();
  if (dense_.size() > 0) return dense_;
  return as_kind<DenseMeasurements<S>>(data_.measurements())->X();
}

template <class S>
MatrixMeasurements<S> MeasuredRows<S>::with_coefficients(Matrix<S> X) const {
  return is_diagonal_ ? MatrixMeasurements<S>::diagonal(shape_.rows(), shape_.cols(), std::move(X))
                      : MatrixMeasurements<S>::dense(shape_.rows(), shape_.cols(), std::move(X));
}

template <class S>
Vector<S> MeasuredRows<S>::original_multipliers(const Vector<S>& multipliers) const {
  if (are_given()) return multipliers;
  Vector<S> nu = least_->original_multipliers(multipliers);
  const Vector<S> missing = least_->X().transpose() * multipliers - coefficients().transpose() * nu;
  return nu + least_->original_multipliers(least_->X() * missing);
}

template <class S>
Matrix<S> MeasuredRows<S>::adjoint(const Vector<S>& nu) const {
  Matrix<S> Z = data_.measurements().adjoint(nu);
  if (are_given()) return Z;
  constexpr S seen(S(0.1) * interpolation_tolerance<S>);
  const Matrix<S> terms = sizes_->adjoint(nu.cwiseAbs());
  const auto entries = coefficients();
  for (Index j = 0; j < entries.cols(); ++j) {
    S& entry = is_diagonal_ ? Z(j, j) : Z.data()[j];
    if (std::numeric_limits<S>::epsilon() * (is_diagonal_ ? terms(j, j) : terms.data()[j]) > seen)
      entry = compensated_product(entries.data() + j * entries.outerStride(), nu.data(), nu.size());
  }
  return Z;
}

template <class S>
Matrix<S> MeasuredRows<S>::least(const Vector<S>& v) const {
  Matrix<S> M = Matrix<S>::Zero(shape_.rows(), shape_.cols());
  if (!are_given()) {
    const Vector<S> m = least_->solve(v);
    if (is_diagonal_)
      M.diagonal() = m;
    else
      M = Eigen::Map<const Matrix<S>>(m.data(), M.rows(), M.cols());
    return M;
  }
  Matrix<S> counts = M;
  Index n = 0;
  for (const auto [i, j] : data_.measurements().places()) {
    counts(i, j) += S(1);
    M(i, j) += (v[n++] - M(i, j)) / counts(i, j);
  }
  return M;
}

template <class S>
Misfit<S> MeasuredRows<S>::misfit(const Matrix<S>& M) const {
  return {residual(M), data_.y(), (sizes_ ? *sizes_ : data_.measurements()).apply(M.cwiseAbs())};
}

template <class S>
Misfit<S> MeasuredRows<S>::refine(Matrix<S>& M) const {
  Misfit<S> now = misfit(M);
  constexpr int most = 4;
  for (int step = 0; step < most && !(now.size() <= S(8) * std::numeric_limits<S>::epsilon()); ++step) {
    const Matrix<S> better = M + least(residual(M));
    const Misfit<S> then = misfit(better);
    if (!(then.size() < now.size())) break;
    M = better;
    now = then;
  }
  return now;
}

template <class S>
Matrix<S> MeasuredRows<S>::feasible() const {
  using std::sqrt;
  Matrix<S> M = least(data_.y());
  const Misfit<S> left = refine(M);
  const S tolerance = sqrt(std::numeric_limits<S>::epsilon());
  require<InfeasibleError>(left.relative <= tolerance, "no matrix fits the measurements: what fits ", count(),
                           " independent ones of ", data_.num_samples(), " leaves a residual of norm ", left.norm,
                           " where |y| = ", data_.y().norm());
  require<InfeasibleError>(left.worst <= tolerance, "no matrix fits the measurements: what fits ", count(),
                           " independent ones of ", data_.num_samples(), " leaves a residual in measurement ",
                           left.sample, ", y = ", data_.y()[left.sample], ", of ", left.worst, " times its terms");
  return M;
}

}  // namespace detail

/// The interpolator of smallest Frobenius norm: `argmin |M|_F` subject to `<M, X_n> = y_n`, the kernel limit of wide
/// factorizations; of observed entries every unobserved one is 0. Dependent measurements are fine if y is consistent;
/// throws InfeasibleError if not, ArgumentError unless the data are measurements. Units of measurements (rows) and of
/// entries (columns) of X may differ by any factor: rank and consistency do not depend on them, and the fit is judged
/// and refined in the data as given. A fit has `|<M, X_n> - y_n|` at most the root of the rounding unit times |y|, and
/// in each measurement times its terms; for consistent data it is a few roundings. Cost O(N^2 d1 d2), O(N + d1 d2) for
/// entries.
template <class S>
[[nodiscard]] Matrix<S> min_frobenius_interpolator(const Dataset<S>& data) {
  return detail::MeasuredRows<S>(data).feasible();
}

/// Options of the interior-point method.
template <class Scalar = double>
struct NuclearNormOptions {
  Scalar gap_tolerance = Scalar(1e-7);  ///< Stop at this relative duality gap, > 0; rounding allows about 1e-8.
  /// Residuals that count as a fit, `|<M, X_n> - y_n|` relative to |y| and in each measurement relative to its terms,
  /// > 0.
  Scalar primal_tolerance = detail::interpolation_tolerance<Scalar>;
  Index max_iterations = 100;  ///< Give up after so many Newton steps, > 0.
};

/// The interpolator of smallest nuclear norm, `argmin |M|_*` subject to `<M, X_n> = y_n`, the rich limit of
/// factorizations, as a certified pair: `|M|_*` and a dual value `<y, nu>`, `|Z|_2 <= 1`, that bounds it from below.
///
///     min_nuclear_norm_interpolator(data).require_ok().matrix;
///
/// Interior points of the semidefinite program `min tr(W) / 2` over `W = [W1 M; M^T W2]`: primal and dual iterates stay
/// feasible (the first M is that of smallest Frobenius norm), with the Newton directions of Helmberg, Kojima and
/// Monteiro. Each costs one kernel of the measurements and O(N^3 + D^3); some 15 reach the default gap. Where
/// the minimizer is not unique the result is the middle of the set of minimizers. Throws as
/// `min_frobenius_interpolator`, and ArgumentError for bad options; a gap or a residual that is not reached is in the
/// status.
///
/// The iteration works with orthonormal rows; residual, dual norm and gap are those of the data as given, with nu
/// rounded to S. The units of measurements do not matter to them. Those of the entries do: where they differ by a
/// factor c, `sum_n nu_n X_n` is known to c roundings, and a gap below that is not reached (`stalled`), however good M
/// is.
template <class S>
[[nodiscard]] SpectralResult<S> min_nuclear_norm_interpolator(
    const Dataset<S>& data, const std::type_identity_t<NuclearNormOptions<S>>& options = {}) {
  using std::abs;
  using std::isfinite;
  require(isfinite(options.gap_tolerance) && options.gap_tolerance > S(0), "gap_tolerance must be positive, got ",
          options.gap_tolerance);
  require(options.max_iterations > 0, "max_iterations must be positive, got ", options.max_iterations);
  const Vector<S>& y = data.y();
  SpectralResult<S> result;
  require(isfinite(options.primal_tolerance) && options.primal_tolerance > S(0),
          "primal_tolerance must be positive, got ", options.primal_tolerance);
  const detail::MeasuredRows<S> rows(data);
  const FactorShape shape = rows.shape();
  const Index D = shape.stack_size();
  result.matrix = rows.feasible();
  result.nu = Vector<S>::Zero(y.size());
  result.objective = nuclear_norm(result.matrix);
  const S size = spectral_norm(result.matrix);
  S misfit = rows.misfit(result.matrix).size();
  result.primal_residual = rows.misfit(result.matrix).relative;
  if (!(size > S(0))) {
    result.duality_gap = S(0);
    result.status = Status::tolerance_reached;
    return std::move(result).explained();
  }

  const MatrixMeasurements<S>& measurements = rows.measurements();
  // In units of the largest singular value. W is primal; `slack` = (I - sum_n nu_n B_n) / 2 is its dual partner.
  Matrix<S> W = S(1.5) * Matrix<S>::Identity(D, D);
  W.topRightCorner(shape.rows(), shape.cols()) = result.matrix / size;
  W.bottomLeftCorner(shape.cols(), shape.rows()) = result.matrix.transpose() / size;
  Matrix<S> slack = S(0.5) * Matrix<S>::Identity(D, D);
  Vector<S> nu = Vector<S>::Zero(rows.count());
  Matrix<S> inverse(D, D), dW(D, D), dSlack(D, D);
  Eigen::LLT<Matrix<S>> W_factor(W), slack_factor(slack);

  // Near the optimum rounding makes the gap of single iterates jump.
  constexpr Index patience = 5;
  Index without_gain = 0;
  S best = std::numeric_limits<S>::infinity();
  result.status = Status::max_steps;
  S centering = S(0.2);
  while (true) {
    // The certificate of this iterate: M moved onto the measurements, nu scaled into the ball.
    Matrix<S> M = size * W.topRightCorner(shape.rows(), shape.cols());
    if (!M.allFinite() || !nu.allFinite()) {
      result.status = Status::stalled;
      return std::move(result).explained();
    }
    const detail::Misfit<S> left = rows.refine(M);
    const Vector<S> given = rows.original_multipliers(nu);
    const Vector<S> feasible = given / std::max(S(1), spectral_norm(rows.adjoint(given)));
    // Dividing rounds, which counts where terms cancel.
    const S dual_norm = rows.are_given() ? S(1) : std::max(S(1), spectral_norm(rows.adjoint(feasible)));
    const S objective = nuclear_norm(M);
    const S gap =
        (objective - detail::compensated_product(y.data(), feasible.data(), y.size()) / dual_norm) / objective;
    // A gap below 0 is what the residual is worth, by the multipliers.
    if (isfinite(gap) && abs(gap) < best) {
      best = abs(gap);
      result.matrix = M;
      result.nu = feasible;
      result.objective = objective;
      result.duality_gap = gap;
      result.primal_residual = left.relative;
      misfit = left.size();
      without_gain = 0;
    } else if (++without_gain > patience) {
      result.status = Status::stalled;
      return std::move(result).explained();
    }
    if (best <= options.gap_tolerance && misfit <= options.primal_tolerance) {
      result.status = Status::tolerance_reached;
      return std::move(result).explained();
    }
    if (result.iterations == options.max_iterations) return std::move(result).explained();
    ++result.iterations;

    inverse.setIdentity();
    slack_factor.solveInPlace(inverse);
    const S complementarity = W.cwiseProduct(slack).sum() / static_cast<S>(D);
    const Matrix<S> kernel = S(0.25) * measurements.kernel(shape, inverse, W);
    const Eigen::LDLT<Matrix<S>> kernel_factor(kernel);
    const Matrix<S> target = (centering * complementarity) * inverse;
    // <A_n, W + dW> = y_n with A_n = B_n / 2, whatever W has lost to rounding.
    const Vector<S> rhs = rows.y() / size - measurements.apply(target.topRightCorner(shape.rows(), shape.cols()));
    Vector<S> dnu = kernel_factor.solve(rhs);
    dnu += kernel_factor.solve(rhs - kernel * dnu);
    dSlack.setZero();
    measurements.operations().add_matrix(shape, dnu, dSlack);
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
      return std::move(result).explained();
    }
  }
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MIN_NUCLEAR_NORM(prefix, S)                                         \
  prefix template S detail::step_to_boundary<S>(const Eigen::LLT<Matrix<S>>&, const Matrix<S>&); \
  prefix template class detail::MeasuredRows<S>;                                                 \
  prefix template Matrix<S> min_frobenius_interpolator<S>(const Dataset<S>&);                    \
  prefix template SpectralResult<S> min_nuclear_norm_interpolator<S>(const Dataset<S>&, const NuclearNormOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MIN_NUCLEAR_NORM)
