#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/models/measurements.hpp"
#include "richflow/regularizers/schatten.hpp"

namespace richflow {

/// Options of SchattenPath.
template <class Scalar>
struct BasicSchattenPathOptions {
  /// Stop when `|<M, X_n> - y_n|` is at most this relative to |y|, and in each measurement relative to its terms, > 0.
  Scalar primal_tolerance = Scalar(1e-11);
  Index max_iterations = 1000;  ///< Give up after so many Newton steps in one call, > 0.
};

/// Minimizers of Schatten-Q_mu over the matrices that fit given measurements, commuting or not, for many mu:
/// `argmin Q_mu(M)` subject to `<M, X_n> = y_n`.
///
/// Newton on the convex dual, N unknowns: `M = 2 mu^2 P diag(sinh z) Q^T` for `sum_n nu_n X_n = Z = P diag(z) Q^T`
/// satisfies the optimality conditions for every nu, and nu is moved until M fits; continued in log mu from the last
/// solution, or from large mu, where the problem is least squares. Cost per Newton step: one SVD, O(N d1 d2 (d1 + d2 +
/// N)) and O(N^3). For commuting measurements `minimize_schatten_commuting` is far cheaper and reaches any mu; here log
/// mu goes down to -100 and below, until the dual Hessian has no digits left. The units of measurements and entries do
/// not matter: the work is done on orthonormal rows, residual and gap are those of the data as given. (Where the units
/// of the entries differ by c, rounding of nu leaves c roundings in the gap.)
template <class Kind, class S>
class BasicSchattenPath {
 public:
  /// Number type.
  using Scalar = S;

  /// On matrices of a general shape. Throws DimensionError or ArgumentError where X or an option does not fit,
  /// InfeasibleError when no matrix fits the measurements.
  BasicSchattenPath(FactorShape shape, BasicDataset<S> data, BasicSchattenPathOptions<S> options = {});

  /// The minimizer at mu. Throws ArgumentError where mu^2 overflows; other numerical trouble never throws: status and
  /// certificate say what was reached.
  BasicSpectralResult<S> solve(BasicScale<S> mu);

 private:
  void evaluate();

  /// `2 mu^2 sinh x`, x >= 0.
  [[nodiscard]] S odd(S x) const;
  /// `2 mu^2 cosh x`.
  [[nodiscard]] S even(S x) const;
  /// `sinh x / x`.
  [[nodiscard]] static S sinh_ratio(S x);
  /// `2 mu^2 (sinh a - sinh b) / (a - b)`, a, b >= 0: the derivative in the direction of symmetric changes.
  [[nodiscard]] S difference_ratio(S a, S b) const;
  /// `2 mu^2 (sinh a + sinh b) / (a + b)`: in the direction of antisymmetric changes.
  [[nodiscard]] S sum_ratio(S a, S b) const;

  /// The dual Hessian `<X_n, D M(Z)[X_m]>` is features features^T: the derivative of a function of the singular values
  /// acts entry by entry on `P^T X_n Q`, on its symmetric and antisymmetric parts apart.
  void factorize();

  /// Newton steps at the present mu until the residual is at most `goal`.
  Status correct(S goal);

  Status follow_to(S goal);

  BasicSpectralResult<S> collect(BasicScale<S> mu, Status status);

  FactorShape shape_;
  detail::MeasuredRows<Kind, S> rows_;
  BasicSchattenPathOptions<S> options_;
  std::vector<Matrix<S>> measurements_ = {};
  S size_ = S(0);    // of the least-squares solution
  S norm_y_ = S(0);  // of the labels of the rows worked with
  S kernel_log_mu_ = S(0);

  // The present point.
  bool is_warm_ = false;
  S log_mu_ = S(0);
  S relative_ = S(0);
  Vector<S> nu_, residual_, spectrum_;
  Matrix<S> M_, features_;
  detail::Svd<S> svd_ = {};
  Eigen::LDLT<Matrix<S>> hessian_ = {};
  Index iterations_ = 0;
};

template <class Kind, class S>
BasicSchattenPath<Kind, S>::BasicSchattenPath(FactorShape shape, BasicDataset<S> data,
                                              BasicSchattenPathOptions<S> options)
    : shape_(shape), rows_(shape, std::move(data)), options_(options) {
  using std::isfinite;
  using std::log;
  require(isfinite(options_.primal_tolerance) && options_.primal_tolerance > S(0),
          "primal_tolerance must be positive and finite, got ", options_.primal_tolerance);
  require(options_.max_iterations > 0, "max_iterations must be positive, got ", options_.max_iterations);
  size_ = spectral_norm(rows_.feasible());
  norm_y_ = rows_.y().norm();
  // sinh z is nearly z where z <= 1/4.
  if (size_ > S(0)) kernel_log_mu_ = S(0.5) * log(S(2) * size_);
  const Index N = rows_.count();
  measurements_.reserve(static_cast<std::size_t>(N));
  for (Index n = 0; n < N; ++n)
    measurements_.push_back(detail::weighted_sum<Kind>(shape_, rows_.X(), Vector<S>(Vector<S>::Unit(N, n))));
  features_.setZero(N, shape_.rows() * shape_.cols());
  nu_.setZero(N);
}

template <class Kind, class S>
BasicSpectralResult<S> BasicSchattenPath<Kind, S>::solve(BasicScale<S> mu) {
  using std::abs;
  using std::exp;
  using std::isfinite;
  require(isfinite(exp(S(2) * mu.log())), "log mu = ", mu.log(), " is too large: mu^2 overflows");
  iterations_ = 0;
  Status status = Status::tolerance_reached;
  if (size_ > S(0)) {
    const S goal = mu.log();
    const bool from_kernel_end = !is_warm_ || goal > log_mu_;
    if (from_kernel_end) {
      log_mu_ = std::max(goal, kernel_log_mu_);
      nu_.setZero();
      evaluate();
    }
    status = follow_to(goal);
    is_warm_ = is_success(status);
  }
  return collect(mu, status);
}

template <class Kind, class S>
void BasicSchattenPath<Kind, S>::evaluate() {
  detail::compute_svd(Matrix<S>(detail::weighted_sum<Kind>(shape_, rows_.X(), nu_)),
                      Eigen::ComputeFullU | Eigen::ComputeFullV, svd_);
  const Vector<S>& z = svd_.singularValues();
  spectrum_ = z.unaryExpr([&](S x) { return odd(x); });
  M_ = svd_.matrixU().leftCols(z.size()) * spectrum_.asDiagonal() * svd_.matrixV().leftCols(z.size()).transpose();
  residual_ = rows_.y() - detail::measure<Kind>(shape_, rows_.X(), M_);
  relative_ = residual_.norm() / norm_y_;
  using std::isfinite;
  if (!isfinite(relative_)) relative_ = std::numeric_limits<S>::infinity();
}

template <class Kind, class S>
S BasicSchattenPath<Kind, S>::odd(S x) const {
  using std::exp;
  using std::sinh;
  const S base = S(2) * log_mu_;
  return x < S(1) ? S(2) * exp(base) * sinh(x) : exp(base + x) - exp(base - x);
}

template <class Kind, class S>
S BasicSchattenPath<Kind, S>::even(S x) const {
  using std::exp;
  return exp(S(2) * log_mu_ + x) + exp(S(2) * log_mu_ - x);
}

template <class Kind, class S>
S BasicSchattenPath<Kind, S>::sinh_ratio(S x) {
  using std::abs;
  using std::sinh;
  return abs(x) < S(1e-4) ? S(1) + x * x / S(6) : sinh(x) / x;
}

template <class Kind, class S>
S BasicSchattenPath<Kind, S>::difference_ratio(S a, S b) const {
  using std::abs;
  if (abs(a - b) > S(2)) return (odd(a) - odd(b)) / (a - b);
  return even((a + b) / S(2)) * sinh_ratio((a - b) / S(2));
}

template <class Kind, class S>
S BasicSchattenPath<Kind, S>::sum_ratio(S a, S b) const {
  if (a + b > S(2)) return (odd(a) + odd(b)) / (a + b);
  return even((a - b) / S(2)) * sinh_ratio((a + b) / S(2));
}

template <class Kind, class S>
void BasicSchattenPath<Kind, S>::factorize() {
  using std::sqrt;
  const Vector<S>& z = svd_.singularValues();
  const Index r = z.size();
  for (std::size_t n = 0; n < measurements_.size(); ++n) {
    const Matrix<S> E = svd_.matrixU().transpose() * measurements_[n] * svd_.matrixV();
    Index column = 0;
    const auto row = static_cast<Index>(n);
    for (Index j = 0; j < E.cols(); ++j)
      for (Index i = 0; i < E.rows(); ++i) {
        S value;
        if (i >= r || j >= r) {
          const S a = z[std::min(i, j)];
          value = sqrt(sum_ratio(a, S(0))) * E(i, j);
        } else if (i == j) {
          value = sqrt(even(z[i])) * E(i, i);
        } else if (i < j) {
          value = sqrt(difference_ratio(z[i], z[j]) / S(2)) * (E(i, j) + E(j, i));
        } else {
          value = sqrt(sum_ratio(z[i], z[j]) / S(2)) * (E(i, j) - E(j, i));
        }
        features_(row, column++) = value;
      }
  }
  Matrix<S> H = features_ * features_.transpose();
  // Dependent measurements, and directions below the rounding of the others.
  H.diagonal().array() += S(16) * Eigen::NumTraits<S>::epsilon() * H.diagonal().maxCoeff();
  hessian_.compute(H);
  ++iterations_;
}

template <class Kind, class S>
Status BasicSchattenPath<Kind, S>::correct(S goal) {
  Index without_gain = 0;
  S best = relative_;
  while (!(relative_ <= goal)) {
    if (iterations_ >= options_.max_iterations) return Status::max_steps;
    factorize();
    const Vector<S> step = hessian_.solve(residual_);
    const Vector<S> from = nu_;
    const S before = relative_;
    S t(1);
    for (int halvings = 0;; ++halvings, t /= S(2)) {
      if (halvings == 40) {
        nu_ = from;
        evaluate();
        return Status::stalled;
      }
      nu_ = from + t * step;
      evaluate();
      // While the slope of the concave dual along the step is uphill the dual grows.
      if (relative_ < (S(1) - S(0.1) * t) * before || (relative_ < S(1) && step.dot(residual_) > S(0))) break;
    }
    without_gain = relative_ < S(0.9) * best ? 0 : without_gain + 1;
    best = std::min(best, relative_);
    if (without_gain > 12) return Status::stalled;
  }
  return Status::tolerance_reached;
}

template <class Kind, class S>
Status BasicSchattenPath<Kind, S>::follow_to(S goal) {
  S jump = S(0.5);
  while (true) {
    const bool is_there = log_mu_ == goal;
    const Status status = correct(is_there ? options_.primal_tolerance : S(1e-2));
    if (!is_success(status) || is_there) return status;
    if (iterations_ >= options_.max_iterations) return Status::max_steps;
    factorize();
    // M / mu^2 is a function of nu alone: <X_n, 2 M + DM[Z']> = 0 along the path.
    const Vector<S> tangent = hessian_.solve(Vector<S>(S(-2) * (rows_.y() - residual_)));
    const Vector<S> from = nu_;
    const S start = log_mu_;
    for (int tries = 0;; ++tries) {
      if (tries == 60) return Status::stalled;
      log_mu_ = std::max(goal, start - jump);
      nu_ = from + (log_mu_ - start) * tangent;
      evaluate();
      if (relative_ <= S(0.5)) break;
      jump /= S(2);
    }
    jump *= S(2);
  }
}

template <class Kind, class S>
BasicSpectralResult<S> BasicSchattenPath<Kind, S>::collect(BasicScale<S> mu, Status status) {
  BasicSpectralResult<S> result;
  result.iterations = iterations_;
  result.status = status;
  result.nu = nu_;
  if (!(size_ > S(0))) {
    result.matrix = Matrix<S>::Zero(shape_.rows(), shape_.cols());
    result.objective = result.primal_residual = result.duality_gap = S(0);
    return std::move(result).explained();
  }
  const auto q = BasicHypentropy<S>::uniform(spectrum_.size(), mu);
  result.matrix = M_;
  result.objective = q.value(spectrum_);
  // What was solved is said of the data as given.
  detail::Misfit<S> left = rows_.misfit(M_);
  if (!(left.size() <= options_.primal_tolerance)) {
    left = rows_.refine(result.matrix);
    result.objective = q.value(detail::svd_values(result.matrix));
  }
  result.primal_residual = left.relative;
  if (is_success(status) && !(left.size() <= options_.primal_tolerance)) result.status = Status::stalled;
  result.nu = rows_.original_multipliers(nu_);
  Vector<S> z = svd_.singularValues();
  if constexpr (Kind::is_linear)
    z = detail::svd_values(Matrix<S>(detail::weighted_sum<Kind>(shape_, rows_.data().X(), result.nu)));
  const S conjugate = q.conjugate(z);
  using std::isfinite;
  const S gap =
      (result.objective + conjugate - rows_.data().y().dot(result.nu)) / std::max(result.objective, conjugate);
  result.duality_gap = isfinite(gap) ? gap : std::numeric_limits<S>::infinity();
  return std::move(result).explained();
}

/// Minimizers of Schatten-Q_mu in double precision.
template <class Kind>
using SchattenPath = BasicSchattenPath<Kind, double>;

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SCHATTEN_PATH(prefix, S)            \
  prefix template class BasicSchattenPath<DenseMeasurements, S>; \
  prefix template class BasicSchattenPath<MatrixEntries, S>;     \
  prefix template class BasicSchattenPath<DiagonalMeasurements, S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SCHATTEN_PATH)
