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
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/continuation.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/regularizers/schatten.hpp"

namespace richflow {

/// Options of SchattenPath.
template <class Scalar = double>
struct SchattenPathOptions {
  /// Stop when `|<M, X_n> - y_n|` is at most this relative to |y|, and in each measurement relative to its terms, > 0.
  Scalar primal_tolerance = Scalar(1e-11);
  Index max_iterations = 1000;  ///< Give up after so many Newton steps in one call, > 0.
};

/// Minimizers of Schatten-Q_mu over the matrices that fit given measurements, commuting or not, for many mu:
/// `argmin Q_mu(M)` subject to `<M, X_n> = y_n`.
///
///     SchattenPath path(data);   // of measurements
///     path.solve(Scale<>::from_log(-10)).require_ok().matrix;
///
/// Newton on the convex dual, N unknowns: `M = 2 mu^2 P diag(sinh z) Q^T` for `sum_n nu_n X_n = Z = P diag(z) Q^T`
/// satisfies the optimality conditions for every nu, and nu is moved until M fits; continued in log mu from the last
/// solution, or from large mu, where the problem is least squares. Cost per Newton step: one SVD, O(N d1 d2 (d1 + d2 +
/// N)) and O(N^3). For commuting measurements `minimize_schatten_commuting` is far cheaper and reaches any mu; here log
/// mu goes down to -100 and below, until the dual Hessian has no digits left. The units of measurements and entries do
/// not matter: the work is done on orthonormal rows, residual and gap are those of the data as given. (Where the units
/// of the entries differ by c, rounding of nu leaves c roundings in the gap.)
template <class S = double>
class SchattenPath final : private detail::ContinuedPath<S> {
 public:
  using Scalar = S;

  /// On data that are measurements. Throws ArgumentError where they are not or an option does not fit, InfeasibleError
  /// when no matrix fits the measurements.
  explicit SchattenPath(Dataset<S> data, SchattenPathOptions<S> options = {});

  /// The minimizer at mu. Throws ArgumentError where mu^2 overflows; other numerical trouble never throws: status and
  /// certificate say what was reached.
  SpectralResult<S> solve(Scale<S> mu);

 private:
  /// A point of the dual at a scale, with what was evaluated there.
  struct Point {
    S log_mu = S(0);
    Vector<S> nu = {};
    detail::Svd<S> svd = {};  // of Z
    Vector<S> spectrum = {};  // of M
    Matrix<S> M = {};
    Vector<S> r = {};  // y - <M, X_n>
    S residual = S(0);

    /// `2 mu^2 sinh x`, x >= 0.
    [[nodiscard]] S odd(S x) const;
    /// `2 mu^2 cosh x`.
    [[nodiscard]] S even(S x) const;
    /// `2 mu^2 (sinh a - sinh b) / (a - b)`, a, b >= 0: the derivative in the direction of symmetric changes.
    [[nodiscard]] S difference_ratio(S a, S b) const;
    /// `2 mu^2 (sinh a + sinh b) / (a + b)`: in the direction of antisymmetric changes.
    [[nodiscard]] S sum_ratio(S a, S b) const;
    /// `sinh x / x`.
    [[nodiscard]] static S sinh_ratio(S x);
  };

  /// Sets all but scale and multipliers.
  void evaluate(Point& point) const;

  /// The dual Hessian `<X_n, D M(Z)[X_m]>` is features features^T: the derivative of a function of the singular values
  /// acts entry by entry on `P^T X_n Q`, on its symmetric and antisymmetric parts apart.
  void factorize();

  [[nodiscard]] S log_scale() const override { return here_.log_mu; }
  [[nodiscard]] S residual() const override { return here_.residual; }
  [[nodiscard]] bool is_budget_spent() const override { return iterations_ >= options_.max_iterations; }
  Status correct(S goal) override;
  void prepare_jumps() override;
  S try_jump(S log_mu, S neighbourhood) override;
  /// A factorization serves one step only: they are as good as they get.
  bool improve_predictions() override { return false; }
  S retreat() override { return S(0); }

  /// One damped Newton step; false if it made no progress.
  bool newton_step();

  SpectralResult<S> collect(Scale<S> mu, Status status);

  detail::MeasuredRows<S> rows_;
  SchattenPathOptions<S> options_;
  std::vector<Matrix<S>> measurements_ = {};
  S size_ = S(0);    // of the least-squares solution
  S norm_y_ = S(0);  // of the labels of the rows worked with
  S kernel_log_mu_ = S(0);

  bool is_warm_ = false;
  Point here_ = {}, trial_ = {};
  Matrix<S> features_ = {};
  Eigen::LDLT<Matrix<S>> hessian_ = {};
  Vector<S> tangent_ = {};  // d nu / d log mu
  Index iterations_ = 0;
};

template <class S>
SchattenPath<S>::SchattenPath(Dataset<S> data, SchattenPathOptions<S> options)
    : rows_(std::move(data)), options_(options) {
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
  for (Index n = 0; n < N; ++n) measurements_.push_back(rows_.measurements().adjoint(Vector<S>::Unit(N, n)));
  features_.setZero(N, rows_.shape().rows() * rows_.shape().cols());
  here_.nu.setZero(N);
}

template <class S>
SpectralResult<S> SchattenPath<S>::solve(Scale<S> mu) {
  using std::abs;
  using std::exp;
  using std::isfinite;
  require(isfinite(exp(S(2) * mu.log())), "log mu = ", mu.log(), " is too large: mu^2 overflows");
  iterations_ = 0;
  Status status = Status::tolerance_reached;
  if (size_ > S(0)) {
    if (!is_warm_ || mu.log() > here_.log_mu) {
      here_.log_mu = std::max(mu.log(), kernel_log_mu_);
      here_.nu.setZero();
      evaluate(here_);
    }
    status = detail::Continuation<S>::follow(*this, mu.log(), options_.primal_tolerance);
    is_warm_ = is_success(status);
  }
  return collect(mu, status);
}

template <class S>
void SchattenPath<S>::evaluate(Point& point) const {
  using std::isfinite;
  detail::compute_svd(rows_.measurements().adjoint(point.nu), Eigen::ComputeFullU | Eigen::ComputeFullV, point.svd);
  const Vector<S>& z = point.svd.singularValues();
  point.spectrum.resize(z.size());
  for (Index i = 0; i < z.size(); ++i) point.spectrum[i] = point.odd(z[i]);
  point.M = point.svd.matrixU().leftCols(z.size()) * point.spectrum.asDiagonal() *
            point.svd.matrixV().leftCols(z.size()).transpose();
  point.r = rows_.y() - rows_.measurements().apply(point.M);
  point.residual = detail::norm(point.r) / norm_y_;
  if (!isfinite(point.residual)) point.residual = std::numeric_limits<S>::infinity();
}

template <class S>
S SchattenPath<S>::Point::odd(S x) const {
  using std::exp;
  using std::sinh;
  const S base = S(2) * log_mu;
  return x < S(1) ? S(2) * exp(base) * sinh(x) : exp(base + x) - exp(base - x);
}

template <class S>
S SchattenPath<S>::Point::even(S x) const {
  using std::exp;
  return exp(S(2) * log_mu + x) + exp(S(2) * log_mu - x);
}

template <class S>
S SchattenPath<S>::Point::sinh_ratio(S x) {
  using std::abs;
  using std::sinh;
  return abs(x) < S(1e-4) ? S(1) + x * x / S(6) : sinh(x) / x;
}

template <class S>
S SchattenPath<S>::Point::difference_ratio(S a, S b) const {
  using std::abs;
  if (abs(a - b) > S(2)) return (odd(a) - odd(b)) / (a - b);
  return even((a + b) / S(2)) * sinh_ratio((a - b) / S(2));
}

template <class S>
S SchattenPath<S>::Point::sum_ratio(S a, S b) const {
  if (a + b > S(2)) return (odd(a) + odd(b)) / (a + b);
  return even((a - b) / S(2)) * sinh_ratio((a + b) / S(2));
}

template <class S>
void SchattenPath<S>::factorize() {
  using std::sqrt;
  const Vector<S>& z = here_.svd.singularValues();
  const Index r = z.size();
  for (std::size_t n = 0; n < measurements_.size(); ++n) {
    const Matrix<S> E = here_.svd.matrixU().transpose() * measurements_[n] * here_.svd.matrixV();
    Index column = 0;
    const auto row = static_cast<Index>(n);
    for (Index j = 0; j < E.cols(); ++j)
      for (Index i = 0; i < E.rows(); ++i) {
        S value;
        if (i >= r || j >= r) {
          const S a = z[std::min(i, j)];
          value = sqrt(here_.sum_ratio(a, S(0))) * E(i, j);
        } else if (i == j) {
          value = sqrt(here_.even(z[i])) * E(i, i);
        } else if (i < j) {
          value = sqrt(here_.difference_ratio(z[i], z[j]) / S(2)) * (E(i, j) + E(j, i));
        } else {
          value = sqrt(here_.sum_ratio(z[i], z[j]) / S(2)) * (E(i, j) - E(j, i));
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

template <class S>
Status SchattenPath<S>::correct(S goal) {
  Index without_gain = 0;
  S best = here_.residual;
  while (!(here_.residual <= goal)) {
    if (is_budget_spent()) return Status::max_steps;
    if (!newton_step()) return Status::stalled;
    without_gain = here_.residual < S(0.9) * best ? 0 : without_gain + 1;
    best = std::min(best, here_.residual);
    if (without_gain > detail::newton_patience) return Status::stalled;
  }
  return Status::tolerance_reached;
}

template <class S>
bool SchattenPath<S>::newton_step() {
  factorize();
  const Vector<S> step = hessian_.solve(here_.r);
  trial_.log_mu = here_.log_mu;
  S t(1);
  for (int halvings = 0; halvings < 40; ++halvings, t /= S(2)) {
    detail::sum_with_multiple(here_.nu, t, step, trial_.nu);
    evaluate(trial_);
    if (!detail::is_newton_progress(t, here_.residual, trial_.residual, detail::inner_product(step, trial_.r)))
      continue;
    std::swap(here_, trial_);
    return true;
  }
  return false;
}

template <class S>
void SchattenPath<S>::prepare_jumps() {
  factorize();
  // M / mu^2 is a function of nu alone: <X_n, 2 M + DM[Z']> = 0 along the path.
  tangent_ = hessian_.solve(Vector<S>(S(-2) * (rows_.y() - here_.r)));
}

template <class S>
S SchattenPath<S>::try_jump(S log_mu, S neighbourhood) {
  trial_.log_mu = log_mu;
  detail::sum_with_multiple(here_.nu, S(log_mu - here_.log_mu), tangent_, trial_.nu);
  evaluate(trial_);
  const S there = trial_.residual;
  if (there <= neighbourhood) std::swap(here_, trial_);
  return there;
}

template <class S>
SpectralResult<S> SchattenPath<S>::collect(Scale<S> mu, Status status) {
  SpectralResult<S> result;
  result.iterations = iterations_;
  result.status = status;
  result.nu = here_.nu;
  if (!(size_ > S(0))) {
    result.matrix = Matrix<S>::Zero(rows_.shape().rows(), rows_.shape().cols());
    result.nu = Vector<S>::Zero(rows_.data().num_samples());
    result.objective = result.primal_residual = result.duality_gap = S(0);
    return std::move(result).explained();
  }
  const auto q = Hypentropy<S>::uniform(here_.spectrum.size(), mu);
  result.matrix = here_.M;
  result.objective = q.value(here_.spectrum);
  // What was solved is said of the data as given.
  detail::Misfit<S> left = rows_.misfit(here_.M);
  if (!(left.size() <= options_.primal_tolerance)) {
    left = rows_.refine(result.matrix);
    result.objective = q.value(detail::svd_values(result.matrix));
  }
  result.primal_residual = left.relative;
  if (is_success(status) && !(left.size() <= options_.primal_tolerance)) result.status = Status::stalled;
  result.nu = rows_.original_multipliers(here_.nu);
  Vector<S> z = here_.svd.singularValues();
  if (!rows_.are_given()) z = detail::svd_values(rows_.data().measurements().adjoint(result.nu));
  const S conjugate = q.conjugate(z);
  using std::isfinite;
  const S gap =
      (result.objective + conjugate - rows_.data().y().dot(result.nu)) / std::max(result.objective, conjugate);
  result.duality_gap = isfinite(gap) ? gap : std::numeric_limits<S>::infinity();
  return std::move(result).explained();
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SCHATTEN_PATH(prefix, S) prefix template class SchattenPath<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SCHATTEN_PATH)
