#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/graded_system.hpp"
#include "richflow/minimizers/mirror_point.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"

namespace richflow {

/// Options of the mirror-map minimizers.
template <class Scalar>
struct BasicMinimizerOptions {
  /// Stop when `|X beta - y| / max(|y|, |X beta(0)|)` is at most this (1e-12 in double), in the data as given. Much
  /// below the default, or where beta has terms that cancel, rounding decides and the result says `stalled`.
  Scalar primal_tolerance = Scalar(4500) * Eigen::NumTraits<Scalar>::epsilon();
  /// Give up after this many factorizations.
  Index max_factorizations = 400;
};

using MinimizerOptions = BasicMinimizerOptions<double>;

/// Minimizer of a regularizer Q over the interpolators, with its proof.
template <class Scalar>
struct [[nodiscard]] BasicMinimizerResult : Result<BasicMinimizerResult<Scalar>> {
  Vector<Scalar> beta = {};                                    ///< The minimizer, d.
  Vector<Scalar> nu = {};                                      ///< Multipliers, N: `grad Q(beta) = X^T nu`.
  BasicScale<Scalar> scale = BasicScale<Scalar>::from_log(0);  ///< alpha.
  BasicCertificate<Scalar> certificate = {};                   ///< Distance from optimality.
  Status status = Status::stalled;                             ///< tolerance_reached, stalled or max_steps.
  Index newton_steps = 0;                                      ///< Newton and continuation steps taken.
  Index factorizations = 0;                                    ///< N x N Cholesky and, rarely, d x N QR factorizations.
  Index inner_iterations = 0;                                  ///< Conjugate-gradient iterations, O(N d) each.
  std::string message = {};                                    ///< How it ended, with these numbers.

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

using MinimizerResult = BasicMinimizerResult<double>;

/// Minimizers of a mirror map's regularizer Q over `X beta = y` for many scales: the points where gradient
/// flow from `w(0) = alpha w0` ends, with certificates and without time integration.
///
/// The N dual variables solve `X beta(X^T nu) = y` (the stationarity of the convex dual
/// `Q*(X^T nu) - <y, nu>`) by Newton's method, continued in `log alpha`: from the kernel end, or from the
/// last solution, a primal-dual predictor jumps as far towards the wanted scale as the actual residual
/// at the end of the jump allows. One factorization of the Hessian `X diag(d beta / d z) X^T` serves a jump and the
/// Newton steps around it, whose systems are solved by conjugate gradients preconditioned with it. Columns
/// whose curvature cannot matter are left out of the factorization. The line search stays within the bounds of a map
/// that has them; where alpha is tiny the distances from the bounds, not z, carry the solution.
///
/// Rank-deficient X is fine if y is consistent; nearly dependent rows, and columns in very different units, cost one QR
/// or two, after which Newton's method runs in other rows and ends with refinement in the data as given. Cost O(N^2 d)
/// per factorization.
template <class Mirror>
requires(explain_mirror_map<Mirror>()) class MirrorPath {
 public:
  using Scalar = typename Mirror::Scalar;
  using Result = BasicMinimizerResult<Scalar>;
  using Options = BasicMinimizerOptions<Scalar>;

  /// `mirror` gives the regularizer; its scale does not matter, `solve` takes one. Throws DimensionError
  /// when the lengths differ, ArgumentError for bad options, InfeasibleError when no beta fits y. Costs one
  /// factorization, which the first `solve` reports.
  MirrorPath(BasicDataset<Scalar> data, Mirror mirror, Options options = {})
      : data_(std::move(data)), mirror_(std::move(mirror)), at_scale_(mirror_), options_(options) {
    using std::isfinite;
    require_size("the regularizer", mirror_.dimension(), data_.dimension());
    require(options_.primal_tolerance > Scalar(0) && isfinite(options_.primal_tolerance),
            "primal_tolerance must be positive and finite, got ", options_.primal_tolerance);
    require(options_.max_factorizations > 0, "max_factorizations must be positive, got ", options_.max_factorizations);
    allocate(data_.num_samples());
    factorize_kernel();
    if (!is_well_conditioned(kernel_factor_)) orthonormalize_rows();
  }

  MirrorPath(const MirrorPath&) = delete;
  MirrorPath& operator=(const MirrorPath&) = delete;

  /// The minimizer at `scale`, continued from the last one found (at first: from the kernel end). Numerical
  /// trouble never throws: status and certificate say what was reached.
  Result solve(BasicScale<Scalar> scale) {
    Status status = Status::stalled;
    const Mirror target = mirror_.with_scale(scale);
    if (rows_) target_ = rows_->y();
    if (is_warm_ && !is_kernel_end_nearer(scale)) status = follow_to(scale);
    if (!is_success(status)) {
      start_at_kernel_end(scale);
      status = follow_to(scale);
    }
    Result result = collect(target, status);
    if (is_success(status) && !(result.certificate.primal_residual <= options_.primal_tolerance)) {
      status = correct_in_data();
      result = collect(target, status);
      if (!(result.certificate.primal_residual <= options_.primal_tolerance)) status = Status::stalled;
    }
    is_warm_ = is_success(status);
    result.status = status;
    result.newton_steps = std::exchange(newton_steps_, 0);
    result.factorizations = std::exchange(factorizations_, 0);
    result.inner_iterations = std::exchange(inner_iterations_, 0);
    result.message =
        detail::concat("the minimizer at log_alpha = ", scale.log(), " ended after ", result.factorizations,
                       " factorizations (", status, ") at primal residual ", result.certificate.primal_residual,
                       " and KKT residual ", result.certificate.kkt_residual);
    return result;
  }

  /// The problem being solved.
  [[nodiscard]] const BasicDataset<Scalar>& dataset() const { return data_; }

 private:
  using S = Scalar;

  // A jump may end where the relative residual is `neighbourhood`; before the next one Newton brings it to
  // `corrected`. A jump is at most `reach` times the one before. A conjugate-gradient iteration costs about 1/20 of a
  // factorization, hence `max_inner`; a jump, which the next corrects, is worth a new factorization earlier. Measured
  // on Gaussian problems with d = 1000 and N = 100; the counts change little within a factor 2 of each. A Newton step
  // that fits less than `graded_below` times between the bounds is rounding.
  static constexpr double neighbourhood = 0.5;
  static constexpr double corrected = 1e-2;
  static constexpr Index max_inner = 16;
  static constexpr double reach = 6;
  static constexpr double graded_below = 1e-3;
  // An old factorization may aim a jump if it does so to this relative accuracy.
  static constexpr double aimed = 1e-7;
  // A jump after which a Newton step fits less often than this between the bounds, or after which nothing reaches that
  // much of the residual, has left a growing entry of beta behind, which would have to climb by a factor per step.
  // After some retreats it was lost earlier, and climbs.
  static constexpr double overshot_below = 1e-6;
  static constexpr Index max_retreats = 2;
  // Newton steps that may pass without a smaller residual before the limit of rounding counts as reached.
  static constexpr Index patience = 12;

  void allocate(Index rows) {
    const Index d = data_.dimension();
    squared_norms_ = X().colwise().squaredNorm().transpose();
    for (Vector<S>* v : {&nu_, &r_, &trial_r_, &step_, &tangent_, &rhs_, &cg_r_, &cg_s_, &cg_p_, &cg_q_})
      v->setZero(rows);
    for (Vector<S>* v :
         {&beta_, &curvature_, &trial_beta_, &trial_curvature_, &step_z_, &tangent_z_, &aim_z_, &aim_beta_, &scratch_})
      v->setZero(d);
    for (detail::MirrorPoint<Mirror>* point : {&point_, &trial_, &aim_, &departure_}) point->resize(d);
    H_.resize(rows, rows);
    H_.setIdentity();
    cholesky_.compute(H_);
  }

  [[nodiscard]] const Matrix<S>& X() const { return rows_ ? rows_->X() : data_.X(); }
  [[nodiscard]] const Vector<S>& y() const { return rows_ ? target_ : data_.y(); }
  [[nodiscard]] bool has_units() const { return rows_ && rows_->has_units(); }

  void set_scale(S log_alpha) {
    log_alpha_ = log_alpha;
    at_scale_ = mirror_.with_scale(BasicScale<S>::from_log(log_alpha));
  }

  /// Residual, relative to `residual_scale_`, at (point, mirror); infinite where it overflows.
  S evaluate(const Mirror& mirror, const detail::MirrorPoint<Mirror>& point, Vector<S>& beta, Vector<S>& curvature,
             Vector<S>& r) const {
    using std::isfinite;
    point.evaluate(mirror, beta, curvature);
    // What cannot be seen in X beta is dropped before it becomes subnormal and slows every product.
    const S invisible =
        std::max(curvature.maxCoeff(), S(1)) * std::numeric_limits<S>::min() / Eigen::NumTraits<S>::epsilon();
    if (curvature.minCoeff() < invisible) {
      beta = (curvature.array() < invisible).select(S(0), beta);
      curvature = (curvature.array() < invisible).select(S(0), curvature);
    }
    r = y();
    r.noalias() -= X() * beta;
    const S size = r.norm() / residual_scale_;
    return isfinite(size) ? size : std::numeric_limits<S>::infinity();
  }

  void evaluate_here() { residual_ = evaluate(at_scale_, point_, beta_, curvature_, r_); }

  /// Factors `X diag(curvature) X^T`, leaving out columns that are invisible at working precision, and
  /// lifting the diagonal where fewer than N columns count (sparse data at tiny alpha).
  void factorize() {
    const S visible = has_units() ? S(0)
                                  : (curvature_.array() * squared_norms_.array()).maxCoeff() * S(1e-3) *
                                        Eigen::NumTraits<S>::epsilon() / static_cast<S>(curvature_.size());
    using std::sqrt;
    constexpr Index block = 256;  // a buffer of N x d would be fresh, cold memory
    columns_.resize(X().rows(), std::min(block, X().cols()));
    H_.setZero();
    Index filled = 0;
    const auto add = [&] {
      if (filled == 0) return;  // Eigen divides by the number of columns
      H_.template selfadjointView<Eigen::Lower>().rankUpdate(columns_.leftCols(filled));
      filled = 0;
    };
    for (Index i = 0; i < curvature_.size(); ++i) {
      if (!(curvature_[i] * squared_norms_[i] > visible)) continue;
      columns_.col(filled++) = sqrt(curvature_[i]) * X().col(i);
      if (filled == columns_.cols()) add();
    }
    add();
    const S size = H_.diagonal().maxCoeff();
    // In rows of graded size each diagonal entry counts by itself, down to the rounding of its row of X beta.
    lift_size_.setConstant(X().rows(), size);
    if (has_units()) {
      lift_size_ = (X().cwiseAbs() * beta_.cwiseAbs()).cwiseMax(H_.diagonal());
      lift_size_ = (lift_size_.array() > S(0)).select(lift_size_, size);
    }
    lift_.setZero(X().rows());
    for (S lift = S(64) * Eigen::NumTraits<S>::epsilon();; lift *= S(100)) {
      H_.diagonal() += lift * lift_size_;
      lift_ += lift * lift_size_;
      cholesky_.compute(H_);
      if (cholesky_.info() == Eigen::Success || lift > S(1)) break;
    }
    factor_scale_ = S(1);
    is_fresh_ = true;
    ++factorizations_;
  }

  /// The Hessian at z = 0, where every scale has the same one up to a factor.
  void factorize_kernel() {
    set_scale(S(0));
    point_.set(at_scale_, Vector<S>::Zero(data_.dimension()));
    evaluate_here();
    factorize();
    kernel_factor_ = cholesky_;
    kernel_lift_ = lift_;
    find_kernel_end();
  }

  void orthonormalize_rows() {
    rows_.emplace(data_);
    rows_->require_solution();
    target_ = rows_->y();
    const Index rank = rows_->X().rows();
    if (rank == 0) {
      rows_.reset();
      return;
    }
    allocate(rank);
    factorize_kernel();
  }

  /// The scale at which the problem has become nearly linear: max |z| = 0.5 for the kernel solution, and nowhere more
  /// than half the way to a bound.
  void find_kernel_end() {
    using std::log;
    rhs_.noalias() = X() * beta_;
    start_norm_ = rhs_.norm();
    step_ = kernel_factor_.solve(y());
    step_z_.noalias() = X().transpose() * step_;
    const S to_bound = at_scale_.max_step(Vector<S>::Zero(step_z_.size()), step_z_);
    const S size = std::max(S(step_z_.cwiseAbs().maxCoeff()), S(1) / to_bound) / S(0.5);
    kernel_log_alpha_ = size > S(0) ? log(size) / mirror_.homogeneity() : -std::numeric_limits<S>::infinity();
  }

  /// z = 0 at the kernel end, or at the wanted scale if that is larger.
  void start_at_kernel_end(BasicScale<S> scale) {
    using std::exp;
    cholesky_ = kernel_factor_;
    lift_ = kernel_lift_;
    set_scale(std::max(scale.log(), kernel_log_alpha_));
    factor_scale_ = exp(-mirror_.homogeneity() * log_alpha_);
    is_fresh_ = true;
    can_retreat_ = false;
    nu_.setZero();
    point_.set(at_scale_, Vector<S>::Zero(data_.dimension()));
    residual_scale_ = detail::residual_scale<S>(y().norm(), start_norm(log_alpha_));
    evaluate_here();
  }

  void precondition(const Vector<S>& v, Vector<S>& out) const {
    out = factor_scale_ * v;
    cholesky_.solveInPlace(out);
  }

  void apply_hessian(const Vector<S>& v, Vector<S>& out) {
    scratch_.noalias() = X().transpose() * v;
    scratch_.array() *= curvature_.array();
    out.noalias() = X() * scratch_;
    // Without the lift, rounding errors of the right-hand side blow up where the Hessian vanishes.
    out += lift_.cwiseProduct(v) / factor_scale_;
  }

  /// `out ~ H^{-1} rhs` to the given relative residual by preconditioned conjugate gradients. False when the
  /// factorization has become too old to serve.
  bool solve_hessian(const Vector<S>& rhs, S tolerance, Vector<S>& out, Index max_iterations = max_inner) {
    out.setZero();
    cg_r_ = rhs;
    const S goal = tolerance * rhs.norm();
    precondition(cg_r_, cg_s_);
    cg_p_ = cg_s_;
    S rs = cg_r_.dot(cg_s_);
    for (Index k = 0; k < max_iterations; ++k) {
      if (!(rs > S(0))) return true;
      apply_hessian(cg_p_, cg_q_);
      ++inner_iterations_;
      const S curvature = cg_p_.dot(cg_q_);
      if (!(curvature > S(0))) return k > 0;
      const S a = rs / curvature;
      out += a * cg_p_;
      cg_r_ -= a * cg_q_;
      if (cg_r_.norm() <= goal) return true;
      precondition(cg_r_, cg_s_);
      const S next = cg_r_.dot(cg_s_);
      cg_p_ = cg_s_ + (next / rs) * cg_p_;
      rs = next;
    }
    return false;
  }

  /// `H step = X diag(curvature) wish + rhs` and `step_z = X^T step` where the curvatures differ by more than working
  /// precision and yet all count.
  void solve_graded(const Vector<S>& wish, const Vector<S>& rhs, S accuracy, Vector<S>& step, Vector<S>& step_z) {
    const S rounding = S(64) * Eigen::NumTraits<S>::epsilon() * residual_scale_;
    const Index before = graded_.iterations();
    if (!graded_.is_factored() || !graded_.solve(X(), curvature_, wish, rhs, rounding, accuracy, step, step_z)) {
      graded_.factorize(X(), curvature_);
      ++factorizations_;
      graded_.solve(X(), curvature_, wish, rhs, rounding, accuracy, step, step_z);
    }
    inner_iterations_ += graded_.iterations() - before;
  }

  /// True where the lift of the diagonal is felt beside the smallest pivot, but that is not all lift: then the
  /// directions it belongs to are invisible.
  [[nodiscard]] bool is_lift_felt() const {
    const S lifts = (cholesky_.matrixLLT().diagonal().array().square() / lift_.array()).minCoeff();
    return lifts < S(1e6) && lifts > S(4);
  }

  /// One damped inexact Newton step; false if it made no progress.
  bool newton_step(S goal) {
    using std::max;
    using std::min;
    // Quadratic convergence needs a relative accuracy of the order of the residual, and no more than the goal.
    const S accuracy = max(min(S(0.1), residual_), S(0.3) * goal / residual_);
    if (!is_graded_) {
      is_factor_good_ = solve_hessian(r_, accuracy, step_);
      step_z_.noalias() = X().transpose() * step_;
      room_ = point_.max_step(at_scale_, step_z_);
      // A step that leaves the domain at once is the rounding of X^T step_ in a row much closer to its bound than
      // others.
      is_graded_ = room_ < S(graded_below);
    }
    if (is_graded_) {
      scratch_.setZero();
      solve_graded(scratch_, r_, accuracy, step_, step_z_);
      room_ = point_.max_step(at_scale_, step_z_);
      const bool is_lost = graded_.unreached() > S(overshot_below) * residual_scale_;
      is_overshot_ = can_retreat_ && (room_ < S(overshot_below) || is_lost);
      if (is_overshot_) return false;
    }
    ++newton_steps_;
    S t = min(S(1), S(0.9) * room_);
    for (int halvings = 0; halvings < 40; ++halvings, t /= S(2)) {
      trial_.set_to_step(point_, t, step_z_);
      const S trial = evaluate(at_scale_, trial_, trial_beta_, trial_curvature_, trial_r_);
      // The slope of the convex dual along the step is -<step, r>: while it is downhill the dual decreases,
      // even where the residual of an inexact step does not.
      const bool is_downhill = trial < S(1) && step_.dot(trial_r_) > S(0);
      if (trial < (S(1) - S(0.1) * t) * residual_ || is_downhill) {
        accept(t, step_, trial);
        return true;
      }
    }
    return false;
  }

  void accept(S t, const Vector<S>& direction, S residual) {
    nu_ += t * direction;
    point_.swap(trial_);
    beta_.swap(trial_beta_);
    curvature_.swap(trial_curvature_);
    r_.swap(trial_r_);
    residual_ = residual;
    is_fresh_ = false;
  }

  /// Near a bound the residual says nothing of the small entries of beta; that a Newton step moves no distance by more
  /// than half does. At the final tolerance those entries are below rounding.
  [[nodiscard]] bool is_close(S goal) const {
    return residual_ <= goal && (room_ >= S(2) || goal <= options_.primal_tolerance);
  }

  /// Newton steps at the present scale until the relative residual is at most `goal`.
  Status correct(S goal) {
    S best = residual_;
    S best_room(0);
    Index steps_without_gain = 0;
    is_graded_ = false;
    while (!is_close(goal)) {
      const bool progress = newton_step(goal);
      // An entry far below its value climbs by factors, long before it shows in the residual.
      const bool gains = residual_ < S(0.9) * best || room_ > S(2) * best_room;
      steps_without_gain = gains ? 0 : steps_without_gain + 1;
      best = std::min(best, residual_);
      best_room = std::max(best_room, room_);
      if (is_overshot_) return Status::stalled;
      if (is_close(goal)) break;
      if (factorizations_ >= options_.max_factorizations) return Status::max_steps;
      const bool is_stuck = steps_without_gain > patience || (!progress && (is_fresh_ || is_graded_));
      if (is_stuck && is_graded_ && graded_.is_fresh()) return Status::stalled;
      if (is_stuck) {
        if (is_graded_) graded_.clear();
        is_graded_ = true;
        steps_without_gain = 0;
      }
      if (!is_graded_ && !(progress && is_factor_good_)) factorize();
    }
    can_retreat_ = false;
    return Status::tolerance_reached;
  }

  /// The tolerance is meant for the residual in the data as given. Among other rows it has another size, and what was
  /// fitted there are labels with roundings of their own: they are replaced by those the remaining residual asks for.
  Status correct_in_data() {
    Vector<S> start(data_.dimension());
    at_scale_.mirror(Vector<S>::Zero(data_.dimension()), start, scratch_);
    const Vector<S> start_prediction = data_.X() * start;
    const S scale = detail::residual_scale<S>(data_.y().norm(), start_prediction.norm());
    S best = std::numeric_limits<S>::infinity();
    int steps_without_gain = 0;
    is_graded_ = false;
    while (steps_without_gain < 4) {
      const Vector<S> misfit = data_.y() - data_.X() * beta_;
      const S size = misfit.norm() / scale;
      if (size <= options_.primal_tolerance) return Status::tolerance_reached;
      steps_without_gain = size < S(0.5) * best ? 0 : steps_without_gain + 1;
      best = std::min(best, size);
      if (rows_) target_ = X() * beta_ + rows_->labels(misfit);
      evaluate_here();
      const S goal = S(0.3) * options_.primal_tolerance * (residual_ / size);
      if (newton_step(goal) && is_factor_good_) continue;
      if (factorizations_ >= options_.max_factorizations) return Status::max_steps;
      is_graded_ = is_fresh_;
      if (!is_graded_) factorize();
    }
    return Status::stalled;
  }

  Status follow_to(BasicScale<S> scale) {
    const S target = scale.log();
    jump_ = std::numeric_limits<S>::infinity();
    retreats_ = 0;
    while (true) {
      const bool is_there = log_alpha_ == target;
      const Status status = correct(is_there ? options_.primal_tolerance : S(corrected));
      if (is_overshot_) {
        retreat();
        continue;
      }
      if (!is_success(status)) return status;
      if (is_there) return rows_ ? correct_in_data() : status;
      if (factorizations_ >= options_.max_factorizations) return Status::max_steps;
      while (!jump_towards(target)) {
        // Small entries of beta may be far from the path although the residual is small: correct them first.
        if (residual_ <= options_.primal_tolerance) return Status::stalled;
        const Status closer = correct(std::max(options_.primal_tolerance, S(1e-2) * residual_));
        if (!is_success(closer)) return closer;
      }
    }
  }

  /// Moves along the path `nu(log alpha)`, as far as the residual at the end allows. The factorization that served the
  /// last Newton steps may aim the jump too, if it does so accurately.
  bool jump_towards(S target) {
    if (try_jumps(target)) return true;
    if (is_fresh_) return false;
    factorize();
    return try_jumps(target);
  }

  bool try_jumps(S target) {
    using std::abs;
    const S distance = target - log_alpha_;
    is_jump_graded_ = BoundedMirrorMap<Mirror> && is_lift_felt();
    S step = abs(distance) <= S(reach) * jump_ ? distance : (distance > S(0) ? S(reach) * jump_ : -S(reach) * jump_);
    for (int tries = 0; tries < 20; ++tries, step *= S(0.6)) {
      const S end = step == distance ? target : log_alpha_ + step;
      if (end == log_alpha_) return false;
      const Mirror at_end = at(end);
      bool is_inside = aim_at(at_end);
      if (!is_fresh_ && !is_factor_good_) {
        factorize();
        is_jump_graded_ = BoundedMirrorMap<Mirror> && is_lift_felt();
        is_inside = aim_at(at_end);
      }
      if (!is_inside) continue;
      // A biased start has another |X beta(0)| at each scale.
      const S end_scale = detail::residual_scale<S>(y().norm(), start_norm(end));
      const S trial = evaluate(at_end, trial_, trial_beta_, trial_curvature_, trial_r_) * (residual_scale_ / end_scale);
      if (!(trial <= S(neighbourhood))) continue;
      ++newton_steps_;
      departure_ = point_;
      departure_nu_ = nu_;
      departure_log_alpha_ = log_alpha_;
      can_retreat_ = retreats_ < max_retreats;
      accept(S(1), tangent_, trial);
      room_ = BoundedMirrorMap<Mirror> ? S(0) : room_;
      residual_scale_ = end_scale;
      set_scale(end);
      if (point_.is_determined_by_z()) {
        // Where |z| has shrunk, the rounding of the increments would outweigh what is left.
        scratch_.noalias() = X().transpose() * nu_;
        point_.set(at_scale_, scratch_);
        evaluate_here();
      }
      jump_ = abs(step);
      return true;
    }
    return false;
  }

  /// Back to where the last jump began; the next one will be shorter.
  void retreat() {
    using std::abs;
    jump_ = S(0.3) / S(reach) * abs(log_alpha_ - departure_log_alpha_);
    set_scale(departure_log_alpha_);
    point_.swap(departure_);
    nu_.swap(departure_nu_);
    residual_scale_ = detail::residual_scale<S>(y().norm(), start_norm(log_alpha_));
    evaluate_here();
    room_ = std::numeric_limits<S>::infinity();
    is_fresh_ = false;
    can_retreat_ = false;
    ++retreats_;
    is_overshot_ = false;
  }

  /// Sets `trial_` to the predicted point at the scale of `at_end`: if beta stayed as it is, z would have to go to
  /// `aim_`; the step is the nearest to that in the row space of X, in the norm of the Hessian. To first order that is
  /// the tangent of the path, and it is exact where beta no longer changes. What is left over tells how beta does
  /// change; a second pass aims with that. False when the prediction leaves the domain.
  bool aim_at(const Mirror& at_end) {
    aim_beta_ = beta_;
    take_aim(at_end, S(1e-2));
    if (!is_fresh_ && !is_factor_good_) return false;
    scratch_ = curvature_.cwiseProduct(tangent_z_ - aim_z_);
    for (Index i = 0; i < scratch_.size(); ++i) {
      using std::abs;
      // No entry changes its sign.
      const S most = S(0.9) * abs(aim_beta_[i]);
      if (abs(scratch_[i]) > most) scratch_[i] *= most / abs(scratch_[i]);
    }
    aim_beta_ += scratch_;
    // At a bound the aimed distance is all that counts, and it may be many orders below the step.
    take_aim(at_end, BoundedMirrorMap<Mirror> ? S(1e-12) : S(1e-2));
    return trial_.set_towards(point_, tangent_z_, aim_, aim_z_);
  }

  void take_aim(const Mirror& at_end, S accuracy) {
    aim_.locate(at_end, aim_beta_);
    aim_.difference(point_, aim_z_);
    rhs_ = y();
    if (is_jump_graded_) {
      is_factor_good_ = true;
      rhs_.noalias() -= X() * aim_beta_;
      solve_graded(aim_z_, rhs_, accuracy, tangent_, tangent_z_);
    } else {
      scratch_ = aim_beta_ - curvature_.cwiseProduct(aim_z_);
      rhs_.noalias() -= X() * scratch_;
      is_factor_good_ = is_fresh_ ? solve_hessian(rhs_, accuracy, tangent_)
                                  : solve_hessian(rhs_, std::min(accuracy, S(aimed)), tangent_, max_inner / 2);
      tangent_z_.noalias() = X().transpose() * tangent_;
    }
  }

  [[nodiscard]] bool is_kernel_end_nearer(BasicScale<S> scale) const {
    using std::abs;
    return kernel_log_alpha_ - scale.log() < abs(scale.log() - log_alpha_);
  }

  [[nodiscard]] Mirror at(S log_alpha) const { return mirror_.with_scale(BasicScale<S>::from_log(log_alpha)); }

  /// |X beta(0)| at a scale.
  [[nodiscard]] S start_norm(S log_alpha) const {
    using std::exp;
    return start_norm_ == S(0) ? S(0) : start_norm_ * exp(mirror_.homogeneity() * log_alpha);
  }

  Result collect(const Mirror& target, Status status) {
    Result result;
    result.beta.resize(data_.dimension());
    point_.evaluate(at_scale_, result.beta, scratch_);
    result.nu = rows_ ? rows_->original_multipliers(nu_) : nu_;
    result.scale = target.scale();
    result.status = status;
    result.certificate = certify(at_scale_, data_, result.beta, result.nu);
    return result;
  }

  BasicDataset<S> data_;
  Mirror mirror_;
  Mirror at_scale_;  // mirror_ at log_alpha_
  Options options_;

  std::optional<BasicOrthonormalRows<S>> rows_;  // in use when the rows of X are nearly dependent
  Vector<S> target_;                             // the labels of rows_, refined
  Vector<S> squared_norms_;
  Eigen::LLT<Matrix<S>> kernel_factor_;
  Vector<S> kernel_lift_;
  S kernel_log_alpha_{0};

  // The present point: beta_ = beta(point_) at log_alpha_, r_ = y - X beta_. point_ is updated by increments, not
  // recomputed from nu_, because at tiny alpha the rounding of X^T nu would show in beta.
  bool is_warm_ = false;
  S log_alpha_{0};
  S residual_scale_{1};
  S start_norm_{0};
  S residual_{0};
  S room_ = std::numeric_limits<S>::infinity();  // how often the last Newton step fits between the bounds
  Vector<S> nu_, beta_, curvature_, r_;
  detail::MirrorPoint<Mirror> point_;

  Matrix<S> H_;
  Matrix<S> columns_;
  Eigen::LLT<Matrix<S>> cholesky_;
  Vector<S> lift_, lift_size_;  // added to the diagonal of H, and in units of what
  S factor_scale_{1};           // cholesky_ factors H / factor_scale_
  bool is_fresh_ = false;
  bool is_factor_good_ = true;
  bool is_graded_ = false;       // Newton steps go through `solve_graded`
  bool is_jump_graded_ = false;  // jumps do
  detail::GradedSystem<S> graded_;
  S jump_{0};
  Index newton_steps_ = 0;
  Index factorizations_ = 0;
  Index inner_iterations_ = 0;

  bool can_retreat_ = false;  // since the last jump no goal was reached
  Index retreats_ = 0;
  bool is_overshot_ = false;
  detail::MirrorPoint<Mirror> departure_;
  Vector<S> departure_nu_;
  S departure_log_alpha_{0};

  detail::MirrorPoint<Mirror> trial_, aim_;
  Vector<S> trial_beta_, trial_curvature_, trial_r_;
  Vector<S> step_, step_z_, tangent_, tangent_z_, aim_z_, aim_beta_, rhs_, scratch_;
  Vector<S> cg_r_, cg_s_, cg_p_, cg_q_;
};

}  // namespace richflow
