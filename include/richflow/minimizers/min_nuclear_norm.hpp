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
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/least_norm.hpp"
#include "richflow/regularizers/schatten.hpp"

/// @file
/// The two ends of the bias of matrix factorization: the interpolators of smallest nuclear and smallest Frobenius norm.

namespace richflow {

/// A matrix that fits the measurements and minimizes a regularizer R among those that do, with its proof. With the
/// multipliers nu, `sum_n nu_n X_n = Z` and any nu the optimum is at least `<y, nu> - R*(Z)` (weak duality).
template <class Scalar>
struct [[nodiscard]] BasicSpectralResult : Result<BasicSpectralResult<Scalar>> {
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
  [[nodiscard]] BasicSpectralResult explained() && {
    message = detail::concat("the matrix minimizer ended after ", iterations, " Newton steps (", status,
                             ") at relative duality gap ", duality_gap, " and primal residual ", primal_residual);
    return std::move(*this);
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
  const S lowest = lowest_eigenvalue(scaled);
  return lowest < S(0) ? std::min(S(1), S(-0.9) / lowest) : S(1);
}

/// The measurements of a matrix with rows to work with: for linear kinds independent, orthonormal rows whatever the
/// units of X (see `LeastNorm`), for entries X itself. What is said of a fit is said of the data as given.
template <class Kind, class S>
class MeasuredRows {
 public:
  static_assert(Kind::is_linear || std::is_same_v<Kind, MatrixEntries>,
                "richflow: the rows of X must hold coefficients of M, or indices of its entries");

  MeasuredRows(const FactorShape& shape, BasicDataset<S> data);

  /// As given.
  [[nodiscard]] const BasicDataset<S>& data() const { return data_; }
  /// As the rows of X for `Kind`.
  [[nodiscard]] const Matrix<S>& X() const;
  /// What M should measure there.
  [[nodiscard]] const Vector<S>& y() const { return y_; }
  /// Independent measurements; for entries all of them.
  [[nodiscard]] Index count() const { return X().rows(); }

  /// The multipliers nu of the original rows with the same `sum_n nu_n X_n`. Rows of Z in small units are the
  /// difference of terms in large ones, so one refinement.
  [[nodiscard]] Vector<S> original_multipliers(const Vector<S>& multipliers) const;

  /// The matrix of least Frobenius norm with the measurements v, where they are consistent; entries observed twice get
  /// the mean.
  [[nodiscard]] Matrix<S> least(const Vector<S>& v) const;

  /// `y_n - <M, X_n>` in the data as given.
  [[nodiscard]] Vector<S> residual(const Matrix<S>& M) const;

  /// How well M fits the data as given.
  [[nodiscard]] Misfit<S> misfit(const Matrix<S>& M) const;

  /// Moves M onto the measurements by the least change: a step of refinement, and others while each helps and the
  /// residual is more than a few roundings.
  Misfit<S> refine(Matrix<S>& M) const;

  /// The matrix of least Frobenius norm; throws InfeasibleError where y cannot be met.
  [[nodiscard]] Matrix<S> feasible() const;

 private:
  FactorShape shape_;
  BasicDataset<S> data_;
  Matrix<S> sizes_;  // |X|
  std::optional<LeastNorm<S>> least_ = {};
  Vector<S> y_ = {};
};

template <class Kind, class S>
MeasuredRows<Kind, S>::MeasuredRows(const FactorShape& shape, BasicDataset<S> data)
    : shape_(shape), data_(std::move(data)), sizes_(data_.X().cwiseAbs()) {
  check_measured<Kind>(shape, data_);
  if constexpr (Kind::is_linear) {
    least_.emplace(data_.X());
    y_ = least_->labels(data_.y());
  } else {
    y_ = data_.y();
  }
}

template <class Kind, class S>
const Matrix<S>& MeasuredRows<Kind, S>::X() const {
  if constexpr (Kind::is_linear)
    return least_->X();
  else
    return data_.X();
}

template <class Kind, class S>
Vector<S> MeasuredRows<Kind, S>::original_multipliers(const Vector<S>& multipliers) const {
  if constexpr (Kind::is_linear) {
    Vector<S> nu = least_->original_multipliers(multipliers);
    const Vector<S> missing = least_->X().transpose() * multipliers - data_.X().transpose() * nu;
    return nu + least_->original_multipliers(least_->X() * missing);
  } else {
    return multipliers;
  }
}

template <class Kind, class S>
Matrix<S> MeasuredRows<Kind, S>::least(const Vector<S>& v) const {
  Matrix<S> M = Matrix<S>::Zero(shape_.rows(), shape_.cols());
  if constexpr (Kind::is_linear) {
    const Vector<S> m = least_->solve(v);
    for (Index f = 0; f < m.size(); ++f) {
      const auto [i, j] = Kind::feature_position(shape_, f);
      M(i, j) = m[f];
    }
  } else {
    Matrix<S> counts = M;
    for (Index n = 0; n < v.size(); ++n) {
      S& count = counts(static_cast<Index>(data_.X()(n, 0)), static_cast<Index>(data_.X()(n, 1)));
      S& mean = M(static_cast<Index>(data_.X()(n, 0)), static_cast<Index>(data_.X()(n, 1)));
      count += S(1);
      mean += (v[n] - mean) / count;
    }
  }
  return M;
}

template <class Kind, class S>
Vector<S> MeasuredRows<Kind, S>::residual(const Matrix<S>& M) const {
  return data_.y() - measure<Kind, S>(shape_, data_.X(), M);
}

template <class Kind, class S>
Misfit<S> MeasuredRows<Kind, S>::misfit(const Matrix<S>& M) const {
  return {residual(M), data_.y(), measure<Kind, S>(shape_, sizes_, M.cwiseAbs())};
}

template <class Kind, class S>
Misfit<S> MeasuredRows<Kind, S>::refine(Matrix<S>& M) const {
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

template <class Kind, class S>
Matrix<S> MeasuredRows<Kind, S>::feasible() const {
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
/// factorizations. `Kind` says how a row of X stands for X_n; for MatrixEntries every unobserved entry is 0. Dependent
/// measurements are fine if y is consistent; throws InfeasibleError if not, DimensionError or ArgumentError where X
/// does not fit. Units of measurements (rows) and of entries (columns) of X may differ by any factor: rank and
/// consistency do not depend on them, and the fit is judged and refined in the data as given. Fits means `|<M, X_n> -
/// y_n|` at most the root of the rounding unit times |y|, and in each measurement times its terms; for consistent data
/// it is a few roundings. Cost O(N^2 d1 d2), O(N + d1 d2) for entries.
template <class Kind, class S>
[[nodiscard]] Matrix<S> min_frobenius_interpolator(const FactorShape& shape, const BasicDataset<S>& data) {
  return detail::MeasuredRows<Kind, S>(shape, data).feasible();
}

/// Options of the interior-point method.
template <class Scalar>
struct BasicNuclearNormOptions {
  Scalar gap_tolerance = Scalar(1e-7);  ///< Stop at this relative duality gap, > 0; rounding allows about 1e-8.
  /// Residuals that count as a fit, `|<M, X_n> - y_n|` relative to |y| and in each measurement relative to its terms,
  /// > 0.
  Scalar primal_tolerance = detail::interpolation_tolerance<Scalar>;
  Index max_iterations = 100;  ///< Give up after so many Newton steps, > 0.
};

/// The interpolator of smallest nuclear norm, `argmin |M|_*` subject to `<M, X_n> = y_n`, the rich limit of
/// factorizations, as a certified pair: `|M|_*` and a dual value `<y, nu>`, `|Z|_2 <= 1`, that bounds it from below.
///
/// Interior points of the semidefinite program `min tr(W) / 2` over `W = [W1 M; M^T W2]`: primal and dual iterates stay
/// feasible (the first M is that of smallest Frobenius norm), with the Newton directions of Helmberg, Kojima and
/// Monteiro. Each costs one kernel of the measurements and O(N^3 + D^3); some 15 reach the default gap. Where
/// the minimizer is not unique the result is the middle of the set of minimizers. Throws as
/// `min_frobenius_interpolator`; a gap or a residual that is not reached is in the status.
///
/// The iteration works with orthonormal rows; residual, dual norm and gap are those of the data as given, with nu
/// rounded to S. The units of measurements do not matter to them. Those of the entries do: where they differ by a
/// factor c, `sum_n nu_n X_n` is known to c roundings, and a gap below that is not reached (`stalled`), however good M
/// is.
template <class Kind, class S>
[[nodiscard]] BasicSpectralResult<S> min_nuclear_norm_interpolator(
    const FactorShape& shape, const BasicDataset<S>& data,
    const std::type_identity_t<BasicNuclearNormOptions<S>>& options = {}) {
  using std::abs;
  using std::isfinite;
  require(isfinite(options.gap_tolerance) && options.gap_tolerance > S(0), "gap_tolerance must be positive, got ",
          options.gap_tolerance);
  require(options.max_iterations > 0, "max_iterations must be positive, got ", options.max_iterations);
  const Vector<S>& y = data.y();
  const Index D = shape.stack_size();
  BasicSpectralResult<S> result;
  require(isfinite(options.primal_tolerance) && options.primal_tolerance > S(0),
          "primal_tolerance must be positive, got ", options.primal_tolerance);
  const detail::MeasuredRows<Kind, S> rows(shape, data);
  result.matrix = rows.feasible();
  result.nu = Vector<S>::Zero(y.size());
  result.objective = nuclear_norm(result.matrix);
  const S size = spectral_norm(result.matrix);
  const Matrix<S>& X = rows.X();
  S misfit = rows.misfit(result.matrix).size();
  result.primal_residual = rows.misfit(result.matrix).relative;
  if (!(size > S(0))) {
    result.duality_gap = S(0);
    result.status = Status::tolerance_reached;
    return std::move(result).explained();
  }

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
    const S dual_norm = std::max(S(1), spectral_norm(detail::weighted_sum<Kind>(shape, data.X(), given)));
    const S objective = nuclear_norm(M);
    const S gap = (objective - y.dot(given) / dual_norm) / objective;
    if (isfinite(gap) && gap < best) {
      best = gap;
      result.matrix = M;
      result.nu = given / dual_norm;
      result.objective = objective;
      result.duality_gap = gap;
      result.primal_residual = left.relative;
      misfit = left.size();
      without_gain = 0;
    } else if (++without_gain > patience) {
      result.status = Status::stalled;
      return std::move(result).explained();
    }
    if (result.duality_gap <= options.gap_tolerance && misfit <= options.primal_tolerance) {
      result.status = Status::tolerance_reached;
      return std::move(result).explained();
    }
    if (result.iterations == options.max_iterations) return std::move(result).explained();
    ++result.iterations;

    inverse.setIdentity();
    slack_factor.solveInPlace(inverse);
    const S complementarity = W.cwiseProduct(slack).sum() / static_cast<S>(D);
    const Matrix<S> kernel = S(0.25) * detail::full_kernel<Kind>(shape, X, inverse, W);
    const Eigen::LDLT<Matrix<S>> kernel_factor(kernel);
    const Matrix<S> target = (centering * complementarity) * inverse;
    // <A_n, W + dW> = y_n with A_n = B_n / 2, whatever W has lost to rounding.
    const Vector<S> rhs =
        rows.y() / size - detail::measure<Kind>(shape, X, Matrix<S>(target.topRightCorner(shape.rows(), shape.cols())));
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
      return std::move(result).explained();
    }
  }
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MIN_NUCLEAR_NORM(prefix, S)                                                              \
  prefix template S detail::step_to_boundary<S>(const Eigen::LLT<Matrix<S>>&, const Matrix<S>&);                      \
  prefix template class detail::MeasuredRows<DenseMeasurements, S>;                                                   \
  prefix template Matrix<S> min_frobenius_interpolator<DenseMeasurements, S>(const FactorShape&,                      \
                                                                             const BasicDataset<S>&);                 \
  prefix template BasicSpectralResult<S> min_nuclear_norm_interpolator<DenseMeasurements, S>(                         \
      const FactorShape&, const BasicDataset<S>&, const BasicNuclearNormOptions<S>&);                                 \
  prefix template class detail::MeasuredRows<MatrixEntries, S>;                                                       \
  prefix template Matrix<S> min_frobenius_interpolator<MatrixEntries, S>(const FactorShape&, const BasicDataset<S>&); \
  prefix template BasicSpectralResult<S> min_nuclear_norm_interpolator<MatrixEntries, S>(                             \
      const FactorShape&, const BasicDataset<S>&, const BasicNuclearNormOptions<S>&);                                 \
  prefix template class detail::MeasuredRows<DiagonalMeasurements, S>;                                                \
  prefix template Matrix<S> min_frobenius_interpolator<DiagonalMeasurements, S>(const FactorShape&,                   \
                                                                                const BasicDataset<S>&);              \
  prefix template BasicSpectralResult<S> min_nuclear_norm_interpolator<DiagonalMeasurements, S>(                      \
      const FactorShape&, const BasicDataset<S>&, const BasicNuclearNormOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MIN_NUCLEAR_NORM)
