#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/compensated.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/continuation.hpp"
#include "richflow/minimizers/dual_point.hpp"
#include "richflow/minimizers/graded_system.hpp"
#include "richflow/minimizers/hessian_solver.hpp"
#include "richflow/minimizers/minimizer_result.hpp"
#include "richflow/minimizers/mirror_point.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"

namespace richflow::detail {

/// What MirrorPath does, for any mirror map: its members are defined outside the class, so that they can be compiled
/// once for a number type.
template <class S>
class MirrorPathEngine final : private ContinuedPath<S> {
 public:
  using Options = MinimizerOptions<S>;

  /// See MirrorPath.
  MirrorPathEngine(Dataset<S> data, std::unique_ptr<AnyMirrorMap<S>> map, Options options);
  ~MirrorPathEngine() override;

  /// See MirrorPath.
  MinimizerResult<S> solve(Scale<S> scale);

  [[nodiscard]] const Dataset<S>& dataset() const { return data_; }

 private:
  // A conjugate-gradient iteration costs 1/6 to 1/20 of a factorization, hence `max_inner`; a jump, which the next
  // corrects, is worth a new factorization earlier. When more than `patience` iterations are expected, a new one that
  // serves the next solves, too, is cheaper, but not near bounds, where the Hessian changes with each step. A Newton
  // step that fits less than `graded_below` times between the bounds is rounding.
  static constexpr Index max_inner = 16;
  static constexpr double patience = 5;
  static constexpr double graded_below = 1e-3;
  // An old factorization may aim a jump if it does so to this relative accuracy.
  static constexpr double aimed = 1e-4;
  // Above this residual Newton steps are primal-dual ones; below it both converge alike.
  static constexpr double primal_dual_above = 1e-3;
  // A jump after which a Newton step fits less often than this between the bounds, or after which nothing reaches that
  // much of the residual, has left a growing entry of beta behind, which would have to climb by a factor per step.
  // After some retreats it was lost earlier, and climbs.
  static constexpr double overshot_below = 1e-6;
  static constexpr Index max_retreats = 2;

  [[nodiscard]] const Matrix<S>& X() const { return rows_ ? rows_->X() : data_.X(); }
  [[nodiscard]] const Vector<S>& y() const { return rows_ ? target_ : data_.y(); }
  [[nodiscard]] bool has_units() const { return rows_ && rows_->has_units(); }
  void evaluate_here() { residual_ = here_.evaluate(*map_, X(), y(), residual_scale_); }

  void allocate(Index rows);

  void set_scale(S log_alpha);

  void factorize();

  /// The Hessian at z = 0, where every scale has the same one up to a factor.
  void factorize_kernel();

  void orthonormalize_rows();

  /// The scale at which the problem has become nearly linear: max |z| = 0.5 for the kernel solution, and nowhere more
  /// than half the way to a bound.
  void find_kernel_end();

  /// z = 0 at the kernel end, or at the wanted scale if that is larger.
  void start_at_kernel_end(Scale<S> scale);

  /// `H out = rhs` and `out_z = X^T out`, H with a curvature.
  bool solve_hessian(const Vector<S>& curvature, const Vector<S>& rhs, S tolerance, Index max_iterations,
                     Vector<S>& out, Vector<S>& out_z);

  /// Whether a new factorization is cheaper than the iterations that the old one is expected to need for a solve to
  /// this accuracy.
  [[nodiscard]] bool is_factor_old(S accuracy) const;

  /// `H step = X diag(curvature) wish + rhs` and `step_z = X^T step` where the curvatures differ by more than working
  /// precision and yet all count.
  void solve_graded(const Vector<S>& wish, const Vector<S>& rhs, S accuracy, Vector<S>& step, Vector<S>& step_z);

  /// One damped inexact Newton step; false if it made no progress.
  bool newton_step(S goal);

  /// The step of Newton's method on `X b = y, grad Q(b) = X^T nu` from the b of `set_primal`: along it entries of beta
  /// that grow are linear, whereas on the dual they grow exponentially. False, with nothing changed, if it is not
  /// better than `newton_step` may be.
  bool primal_dual_step(S accuracy);

  /// Sets `primal_` to where a full step to the present point leads: for entries that grow the linear prediction from
  /// `beta` with its `curvature`, after the change `dz` of grad Q there; for others the present beta.
  void set_primal(const Vector<S>& beta, const Vector<S>& curvature, const Vector<S>& dz);

  void accept(S t, const Vector<S>& direction, S residual);

  /// Near a bound the residual says nothing of the small entries of beta, but a Newton step that moves no distance by
  /// more than half does. At the final tolerance those entries are below rounding.
  [[nodiscard]] bool is_close(S goal) const;

  [[nodiscard]] S log_scale() const override { return log_alpha_; }
  [[nodiscard]] S residual() const override { return residual_; }
  [[nodiscard]] bool is_budget_spent() const override { return factorizations_ >= options_.max_factorizations; }
  Status correct(S goal) override;

  /// The tolerance is meant for the residual in the data as given. Among other rows it has another size, and what was
  /// fitted there are labels with roundings of their own: they are replaced by those the remaining residual asks for.
  Status correct_in_data();

  /// The norm against which the residual in the data as given is judged.
  [[nodiscard]] S scale_in_data();

  /// How many times the certificate is beyond what is asked for: the residual beyond its tolerance and `rounding`, or
  /// the gap beyond ten times that.
  [[nodiscard]] S excess(const Certificate<S>& certificate, S rounding) const;

  /// Iterative refinement, where the certificate asks for it and as long as it gains: Newton steps whose residual, in
  /// the data as given, is added up in twice the precision. Among nearly dependent rows the rounding of plain sums,
  /// times large multipliers, is a gap.
  void refine(MinimizerResult<S>& result);

  Status follow_to(Scale<S> scale);

  void prepare_jumps() override { is_jump_graded_ = is_bounded_ && hessian_.is_lift_felt(); }

  /// The factorization that served the last Newton steps may aim the jump too, if it does so accurately.
  S try_jump(S end, S neighbourhood) override;

  bool improve_predictions() override;

  S retreat() override;

  /// Sets `trial_` to the predicted point at the scale of `map_there_`: if beta stayed as it is, z would have to go to
  /// `aim_`; the step is the nearest to that in the row space of X, in the norm of the Hessian. To first order that is
  /// the tangent of the path, and it is exact where beta no longer changes. What is left over tells how beta does
  /// change; a second pass aims with that. False when the prediction leaves the domain.
  bool aim();

  void take_aim(S accuracy);

  [[nodiscard]] bool is_kernel_end_nearer(Scale<S> scale) const;

  /// |X beta(0)| at a scale.
  [[nodiscard]] S start_norm(S log_alpha) const;

  MinimizerResult<S> collect(Scale<S> scale, Status status);

  Dataset<S> data_;
  std::unique_ptr<AnyMirrorMap<S>> map_;        // at log_alpha_
  std::unique_ptr<AnyMirrorMap<S>> map_there_;  // where a jump ends
  Options options_;
  S homogeneity_;
  bool is_bounded_;

  std::optional<OrthonormalRows<S>> rows_;  // in use when the rows of X are nearly dependent
  Vector<S> target_;                        // the labels of rows_, refined
  S kernel_log_alpha_{0};

  // The present point, at log_alpha_. It is updated by increments, not recomputed from nu_, because at tiny alpha the
  // rounding of X^T nu would show in beta.
  bool is_warm_ = false;
  S log_alpha_{0};
  S residual_scale_{1};
  S start_norm_{0};
  S residual_{0};
  S room_ = std::numeric_limits<S>::infinity();  // how often the last Newton step fits between the bounds
  Vector<S> nu_;
  DualPoint<S> here_;

  HessianSolver<S> hessian_;
  bool is_fresh_ = false;
  bool is_factor_good_ = true;
  bool is_graded_ = false;       // Newton steps go through `solve_graded`
  bool is_jump_graded_ = false;  // jumps do
  GradedSystem<S> graded_;
  Index newton_steps_ = 0;
  Index factorizations_ = 0;
  Index inner_iterations_ = 0;
  S iterations_per_fold_{0};  // of the residual, of the last solve

  bool can_retreat_ = false;  // since the last jump no goal was reached
  Index retreats_ = 0;
  bool is_overshot_ = false;
  MirrorPoint<S> departure_;
  Vector<S> departure_nu_;
  S departure_log_alpha_{0};

  // The b of `primal_dual_step`, grad Q(b), and the curvature there.
  bool has_primal_ = false;
  Vector<S> primal_, primal_curvature_;

  DualPoint<S> trial_;
  MirrorPoint<S> aim_;
  Vector<S> step_, step_z_, tangent_, tangent_z_, aim_z_, aim_beta_, rhs_, scratch_;
};

template <class S>
MirrorPathEngine<S>::MirrorPathEngine(Dataset<S> data, std::unique_ptr<AnyMirrorMap<S>> map, Options options)
    : data_(std::move(data)),
      map_(std::move(map)),
      map_there_(map_->clone()),
      options_(options),
      homogeneity_(map_->homogeneity()),
      is_bounded_(map_->is_bounded()) {
  using std::isfinite;
  require_size("the regularizer", map_->dimension(), data_.num_inputs());
  require(options_.primal_tolerance > S(0) && isfinite(options_.primal_tolerance),
          "primal_tolerance must be positive and finite, got ", options_.primal_tolerance);
  require(options_.max_factorizations > 0, "max_factorizations must be positive, got ", options_.max_factorizations);
  allocate(data_.num_samples());
  factorize_kernel();
  if (!hessian_.is_kept_well_conditioned()) orthonormalize_rows();
}

template <class S>
MirrorPathEngine<S>::~MirrorPathEngine() = default;

template <class S>
MinimizerResult<S> MirrorPathEngine<S>::solve(Scale<S> scale) {
  Status status = Status::stalled;
  map_there_->set_scale(scale);  // which refuses one that is too large
  const Scale<S> wanted = map_there_->scale();
  if (rows_) target_ = rows_->y();
  if (is_warm_ && !is_kernel_end_nearer(scale)) status = follow_to(scale);
  if (!is_success(status)) {
    start_at_kernel_end(scale);
    status = follow_to(scale);
  }
  MinimizerResult<S> result = collect(wanted, status);
  if (is_success(status) && !(result.certificate.primal_residual <= options_.primal_tolerance)) {
    status = correct_in_data();
    result = collect(wanted, status);
    if (!(result.certificate.primal_residual <= options_.primal_tolerance)) status = Status::stalled;
  }
  refine(result);
  using std::abs;
  const bool is_optimal = abs(result.certificate.duality_gap) <= S(100) * interpolation_tolerance<S>;
  if (status == Status::stalled && result.certificate.primal_residual <= options_.primal_tolerance && is_optimal)
    status = Status::tolerance_reached;
  else if (is_success(status) && !is_optimal)
    status = Status::stalled;
  is_warm_ = is_success(status);
  result.status = status;
  result.newton_steps = std::exchange(newton_steps_, 0);
  result.factorizations = std::exchange(factorizations_, 0);
  result.inner_iterations = std::exchange(inner_iterations_, 0);
  result.message =
      concat("the minimizer at log_alpha = ", scale.log(), " ended after ", result.factorizations, " factorizations (",
             status, ") at primal residual ", result.certificate.primal_residual, ", KKT residual ",
             result.certificate.kkt_residual, " and relative duality gap ", result.certificate.duality_gap);
  return result;
}

template <class S>
void MirrorPathEngine<S>::allocate(Index rows) {
  const Index d = data_.num_inputs();
  for (Vector<S>* v : {&nu_, &step_, &tangent_, &rhs_}) v->setZero(rows);
  for (Vector<S>* v : {&step_z_, &tangent_z_, &aim_z_, &aim_beta_, &primal_, &primal_curvature_, &scratch_})
    v->setZero(d);
  for (DualPoint<S>* point : {&here_, &trial_}) point->resize(rows, d, is_bounded_);
  for (MirrorPoint<S>* point : {&aim_, &departure_}) point->resize(d, is_bounded_);
  hessian_.reset(X(), has_units());
}

template <class S>
void MirrorPathEngine<S>::set_scale(S log_alpha) {
  log_alpha_ = log_alpha;
  map_->set_scale(Scale<S>::from_log(log_alpha));
}

template <class S>
void MirrorPathEngine<S>::factorize() {
  hessian_.factorize(X(), here_.beta, here_.curvature);
  is_fresh_ = true;
  ++factorizations_;
}

template <class S>
void MirrorPathEngine<S>::factorize_kernel() {
  set_scale(S(0));
  here_.point.set(*map_, Vector<S>::Zero(data_.num_inputs()));
  evaluate_here();
  factorize();
  hessian_.keep();
  find_kernel_end();
}

template <class S>
void MirrorPathEngine<S>::orthonormalize_rows() {
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

template <class S>
void MirrorPathEngine<S>::find_kernel_end() {
  using std::log;
  start_norm_ = prediction_norm(X(), here_.beta);
  hessian_.solve_kept(y(), step_);
  multiply_transposed(X(), step_, step_z_);
  const S to_bound = map_->max_step(Vector<S>::Zero(step_z_.size()), step_z_);
  const S size = std::max(largest_size(step_z_), S(1) / to_bound) / S(0.5);
  kernel_log_alpha_ = size > S(0) ? log(size) / homogeneity_ : -std::numeric_limits<S>::infinity();
}

template <class S>
void MirrorPathEngine<S>::start_at_kernel_end(Scale<S> scale) {
  using std::exp;
  set_scale(std::max(scale.log(), kernel_log_alpha_));
  hessian_.restore(exp(-homogeneity_ * log_alpha_));
  is_fresh_ = true;
  can_retreat_ = false;
  nu_.setZero();
  here_.point.set(*map_, Vector<S>::Zero(data_.num_inputs()));
  residual_scale_ = residual_scale<S>(norm(y()), start_norm(log_alpha_));
  evaluate_here();
}

template <class S>
bool MirrorPathEngine<S>::solve_hessian(const Vector<S>& curvature, const Vector<S>& rhs, S tolerance,
                                        Index max_iterations, Vector<S>& out, Vector<S>& out_z) {
  using std::log;
  const Index before = hessian_.iterations();
  const bool is_solved = hessian_.solve(X(), curvature, rhs, tolerance, max_iterations, out, out_z);
  const Index made = hessian_.iterations() - before;
  inner_iterations_ += made;
  iterations_per_fold_ = static_cast<S>(made) / std::max(S(log(hessian_.reduction())), S(1));
  return is_solved;
}

template <class S>
bool MirrorPathEngine<S>::is_factor_old(S accuracy) const {
  using std::log;
  if (is_bounded_ || is_fresh_ || is_budget_spent()) return false;
  return -log(accuracy) * iterations_per_fold_ > S(patience);
}

template <class S>
void MirrorPathEngine<S>::solve_graded(const Vector<S>& wish, const Vector<S>& rhs, S accuracy, Vector<S>& step,
                                       Vector<S>& step_z) {
  const S rounding = S(64) * Eigen::NumTraits<S>::epsilon() * residual_scale_;
  const Index before = graded_.iterations();
  if (!graded_.is_factored() || !graded_.solve(X(), here_.curvature, wish, rhs, rounding, accuracy, step, step_z)) {
    graded_.factorize(X(), here_.curvature);
    ++factorizations_;
    graded_.solve(X(), here_.curvature, wish, rhs, rounding, accuracy, step, step_z);
  }
  inner_iterations_ += graded_.iterations() - before;
}

template <class S>
bool MirrorPathEngine<S>::newton_step(S goal) {
  using std::max;
  using std::min;
  // Quadratic convergence needs a relative accuracy of the order of the residual, and no more than the goal.
  const S accuracy = max(min(S(0.1), residual_), S(0.3) * goal / residual_);
  if (!is_graded_) {
    if (primal_dual_step(accuracy)) return true;
    if (is_factor_old(accuracy)) factorize();
    is_factor_good_ = solve_hessian(here_.curvature, here_.r, accuracy, max_inner, step_, step_z_);
    room_ = here_.point.max_step(*map_, step_z_);
    // A step that leaves the domain at once is the rounding of X^T step_ in a row much closer to its bound than
    // others.
    is_graded_ = room_ < S(graded_below);
  }
  if (is_graded_) {
    scratch_.setZero();
    solve_graded(scratch_, here_.r, accuracy, step_, step_z_);
    room_ = here_.point.max_step(*map_, step_z_);
    const bool is_lost = graded_.unreached() > S(overshot_below) * residual_scale_;
    is_overshot_ = can_retreat_ && (room_ < S(overshot_below) || is_lost);
    if (is_overshot_) return false;
  }
  ++newton_steps_;
  S t = min(S(1), S(0.9) * room_);
  for (int halvings = 0; halvings < 40; ++halvings, t /= S(2)) {
    trial_.point.set_to_step(here_.point, t, step_z_);
    const S trial = trial_.evaluate(*map_, X(), y(), residual_scale_);
    if (is_newton_progress(t, residual_, trial, inner_product(step_, trial_.r))) {
      accept(t, step_, trial);
      // `trial_` is the point before the step.
      if (t == S(1) && !is_bounded_ && residual_ > S(primal_dual_above))
        set_primal(trial_.beta, trial_.curvature, step_z_);
      return true;
    }
  }
  return false;
}

template <class S>
bool MirrorPathEngine<S>::primal_dual_step(S accuracy) {
  if (!std::exchange(has_primal_, false) || is_factor_old(accuracy)) return false;
  aim_.locate(*map_, primal_);
  aim_.evaluate(*map_, scratch_, primal_curvature_);
  sum_with_multiple(aim_.z(), S(-1), here_.point.z(), aim_z_);
  multiply_entries(primal_curvature_, aim_z_, scratch_);
  sum_with_multiple(primal_, S(-1), scratch_, scratch_);
  rhs_ = y();
  subtract_product(X(), scratch_, rhs_);
  if (!solve_hessian(primal_curvature_, rhs_, accuracy, max_inner, step_, step_z_)) return false;
  trial_.point.set_to_step(here_.point, S(1), step_z_);
  const S trial = trial_.evaluate(*map_, X(), y(), residual_scale_);
  ++newton_steps_;
  if (!(trial < S(0.3) * residual_)) return false;
  accept(S(1), step_, trial);
  sum_with_multiple(step_z_, S(-1), aim_z_, aim_z_);
  if (residual_ > S(primal_dual_above)) set_primal(primal_, primal_curvature_, aim_z_);
  return true;
}

template <class S>
void MirrorPathEngine<S>::set_primal(const Vector<S>& beta, const Vector<S>& curvature, const Vector<S>& dz) {
  using std::abs;
  for (Index i = 0; i < dz.size(); ++i) {
    const S there = beta[i] + curvature[i] * dz[i];
    const bool grows = abs(there) > abs(beta[i]) && (there < S(0)) == (beta[i] < S(0));
    primal_[i] = grows ? there : here_.beta[i];
  }
  has_primal_ = true;
}

template <class S>
void MirrorPathEngine<S>::accept(S t, const Vector<S>& direction, S residual) {
  add_multiple(t, direction, nu_);
  here_.swap(trial_);
  residual_ = residual;
  is_fresh_ = false;
}

template <class S>
bool MirrorPathEngine<S>::is_close(S goal) const {
  return residual_ <= goal && (room_ >= S(2) || goal <= options_.primal_tolerance);
}

template <class S>
Status MirrorPathEngine<S>::correct(S goal) {
  S best = residual_;
  S best_room(0);
  Index steps_without_gain = 0;
  bool is_last_try = false;  // the graded system was factored again, and nothing gained since
  is_graded_ = false;
  has_primal_ = false;
  while (!is_close(goal)) {
    const bool progress = newton_step(goal);
    // An entry far below its value climbs by factors, long before it shows in the residual.
    const bool gains = residual_ < S(0.9) * best || room_ > S(2) * best_room;
    steps_without_gain = gains ? 0 : steps_without_gain + 1;
    is_last_try = is_last_try && !gains;
    best = std::min(best, residual_);
    best_room = std::max(best_room, room_);
    if (is_overshot_) return Status::stalled;
    if (is_close(goal)) break;
    if (is_budget_spent()) return Status::max_steps;
    const bool is_stuck = steps_without_gain > newton_patience || (!progress && (is_fresh_ || is_graded_));
    if (is_stuck && is_graded_ && (graded_.is_fresh() || is_last_try)) return Status::stalled;
    if (is_stuck) {
      is_last_try = is_graded_;
      if (is_graded_) graded_.clear();
      is_graded_ = true;
      steps_without_gain = 0;
    }
    if (!is_graded_ && !(progress && is_factor_good_)) factorize();
  }
  can_retreat_ = false;
  return Status::tolerance_reached;
}

template <class S>
S MirrorPathEngine<S>::scale_in_data() {
  Vector<S> start(data_.num_inputs());
  map_->mirror(Vector<S>::Zero(data_.num_inputs()), start, scratch_);
  return residual_scale<S>(norm(data_.y()), prediction_norm(data_.X(), start));
}

template <class S>
Status MirrorPathEngine<S>::correct_in_data() {
  Vector<S> misfit;
  const S scale = scale_in_data();
  S best = std::numeric_limits<S>::infinity();
  int steps_without_gain = 0;
  is_graded_ = false;
  has_primal_ = false;
  while (steps_without_gain < 4) {
    misfit = data_.y();
    subtract_product(data_.X(), here_.beta, misfit);
    const S size = norm(misfit) / scale;
    if (size <= options_.primal_tolerance) return Status::tolerance_reached;
    steps_without_gain = size < S(0.5) * best ? 0 : steps_without_gain + 1;
    best = std::min(best, size);
    if (rows_) {
      multiply(X(), here_.beta, target_);
      add_multiple(S(1), rows_->labels(misfit), target_);
    }
    evaluate_here();
    const S goal = S(0.3) * options_.primal_tolerance * (residual_ / size);
    if (newton_step(goal) && is_factor_good_) continue;
    if (is_budget_spent()) return Status::max_steps;
    is_graded_ = is_fresh_;
    if (!is_graded_) factorize();
  }
  return Status::stalled;
}

template <class S>
S MirrorPathEngine<S>::excess(const Certificate<S>& certificate, S rounding) const {
  using std::abs;
  return std::max(certificate.primal_residual / (options_.primal_tolerance + rounding),
                  abs(certificate.duality_gap) / (S(10) * interpolation_tolerance<S>));
}

template <class S>
void MirrorPathEngine<S>::refine(MinimizerResult<S>& result) {
  using std::isfinite;
  using std::sqrt;
  // A step large in the directions where X is small is to leave the others alone.
  const S accuracy = sqrt(Eigen::NumTraits<S>::epsilon());
  constexpr int most_steps = 8;
  if (!(excess(result.certificate, S(0)) > S(1))) return;
  // No beta of these digits is nearer.
  const S rounding = Eigen::NumTraits<S>::epsilon() * norm(sizes_of_terms(data_.X(), result.beta)) / scale_in_data();
  S best = excess(result.certificate, rounding);
  S least = best;
  DualPoint<S> best_point = here_;
  Vector<S> best_nu = nu_;
  S best_residual = residual_;
  Vector<S> beta = result.beta, misfit;
  int steps_without_gain = 0;
  for (int k = 0; k < most_steps && best > S(1) && steps_without_gain < 2; ++k) {
    compensated_residual(data_.X(), beta, data_.y(), misfit);
    if (!isfinite(norm(misfit))) break;
    rhs_ = rows_ ? rows_->labels(misfit) : misfit;
    // The certificate tells how accurate the step is.
    if (!solve_hessian(here_.curvature, rhs_, accuracy, max_inner, step_, step_z_) && !is_fresh_ &&
        !is_budget_spent()) {
      factorize();
      solve_hessian(here_.curvature, rhs_, accuracy, max_inner, step_, step_z_);
    }
    const S t = std::min(S(1), S(0.9) * here_.point.max_step(*map_, step_z_));
    trial_.point.set_to_step(here_.point, t, step_z_);
    accept(t, step_, trial_.evaluate(*map_, X(), y(), residual_scale_));
    ++newton_steps_;
    MinimizerResult<S> refined = collect(result.scale, result.status);
    beta = refined.beta;
    const S now = excess(refined.certificate, rounding);
    steps_without_gain = now < least / S(2) ? 0 : steps_without_gain + 1;
    least = std::min(least, now);
    // A point that fits is left for one that does not only on the way.
    const bool fits = refined.certificate.primal_residual <= options_.primal_tolerance ||
                      result.certificate.primal_residual > options_.primal_tolerance;
    if (!fits || !(now < best)) continue;
    best = now;
    result = std::move(refined);
    best_point = here_;
    best_nu = nu_;
    best_residual = residual_;
  }
  here_ = std::move(best_point);
  nu_ = std::move(best_nu);
  residual_ = best_residual;
}

template <class S>
Status MirrorPathEngine<S>::follow_to(Scale<S> scale) {
  retreats_ = 0;
  const Status status = Continuation<S>::follow(*this, scale.log(), options_.primal_tolerance);
  return is_success(status) && rows_ ? correct_in_data() : status;
}

template <class S>
S MirrorPathEngine<S>::try_jump(S end, S neighbourhood) {
  map_there_->set_scale(Scale<S>::from_log(end));
  if (!is_jump_graded_ && is_factor_old(S(aimed))) {
    factorize();
    prepare_jumps();
  }
  bool is_inside = aim();
  if (!is_fresh_ && !is_factor_good_) {
    factorize();
    prepare_jumps();
    is_inside = aim();
  }
  if (!is_inside) return std::numeric_limits<S>::infinity();
  // A biased start has another |X beta(0)| at each scale.
  const S end_scale = residual_scale<S>(norm(y()), start_norm(end));
  const S trial = trial_.evaluate(*map_there_, X(), y(), residual_scale_) * (residual_scale_ / end_scale);
  if (!(trial <= neighbourhood)) return trial;
  ++newton_steps_;
  departure_ = here_.point;
  departure_nu_ = nu_;
  departure_log_alpha_ = log_alpha_;
  can_retreat_ = retreats_ < max_retreats;
  accept(S(1), tangent_, trial);
  room_ = is_bounded_ ? S(0) : room_;
  residual_scale_ = end_scale;
  log_alpha_ = end;
  map_.swap(map_there_);
  if (here_.point.is_determined_by_z()) {
    // Where |z| has shrunk, the rounding of the increments would outweigh what is left.
    multiply_transposed(X(), nu_, scratch_);
    here_.point.set(*map_, scratch_);
    evaluate_here();
  }
  return trial;
}

template <class S>
bool MirrorPathEngine<S>::improve_predictions() {
  if (is_fresh_) return false;
  factorize();
  return true;
}

template <class S>
S MirrorPathEngine<S>::retreat() {
  using std::abs;
  if (!is_overshot_) return S(0);
  const S jump = abs(log_alpha_ - departure_log_alpha_);
  set_scale(departure_log_alpha_);
  here_.point.swap(departure_);
  nu_.swap(departure_nu_);
  residual_scale_ = residual_scale<S>(norm(y()), start_norm(log_alpha_));
  evaluate_here();
  room_ = std::numeric_limits<S>::infinity();
  is_fresh_ = false;
  can_retreat_ = false;
  ++retreats_;
  is_overshot_ = false;
  return jump;
}

template <class S>
bool MirrorPathEngine<S>::aim() {
  aim_beta_ = here_.beta;
  take_aim(S(1e-2));
  if (!is_fresh_ && !is_factor_good_) return false;
  for (Index i = 0; i < aim_beta_.size(); ++i) {
    using std::abs;
    S change = here_.curvature[i] * (tangent_z_[i] - aim_z_[i]);
    // No entry changes its sign.
    const S most = S(0.9) * abs(aim_beta_[i]);
    if (abs(change) > most) change *= most / abs(change);
    aim_beta_[i] += change;
  }
  // At a bound the aimed distance is all that counts, and it may be many orders below the step.
  take_aim(is_bounded_ ? S(1e-12) : S(1e-2));
  return trial_.point.set_towards(here_.point, tangent_z_, aim_, aim_z_);
}

template <class S>
void MirrorPathEngine<S>::take_aim(S accuracy) {
  aim_.locate(*map_there_, aim_beta_);
  aim_.difference(here_.point, aim_z_);
  rhs_ = y();
  if (is_jump_graded_) {
    is_factor_good_ = true;
    subtract_product(X(), aim_beta_, rhs_);
    solve_graded(aim_z_, rhs_, accuracy, tangent_, tangent_z_);
  } else {
    multiply_entries(here_.curvature, aim_z_, scratch_);
    sum_with_multiple(aim_beta_, S(-1), scratch_, scratch_);
    subtract_product(X(), scratch_, rhs_);
    is_factor_good_ = is_fresh_ ? solve_hessian(here_.curvature, rhs_, accuracy, max_inner, tangent_, tangent_z_)
                                : solve_hessian(here_.curvature, rhs_, std::min(accuracy, S(aimed)), max_inner / 2,
                                                tangent_, tangent_z_);
  }
}

template <class S>
bool MirrorPathEngine<S>::is_kernel_end_nearer(Scale<S> scale) const {
  using std::abs;
  return kernel_log_alpha_ - scale.log() < abs(scale.log() - log_alpha_);
}

template <class S>
S MirrorPathEngine<S>::start_norm(S log_alpha) const {
  using std::exp;
  return start_norm_ == S(0) ? S(0) : start_norm_ * exp(homogeneity_ * log_alpha);
}

template <class S>
MinimizerResult<S> MirrorPathEngine<S>::collect(Scale<S> scale, Status status) {
  MinimizerResult<S> result;
  result.beta.resize(data_.num_inputs());
  here_.point.evaluate(*map_, result.beta, scratch_);
  result.nu = rows_ ? rows_->original_multipliers(nu_) : nu_;
  result.scale = scale;
  result.status = status;
  result.certificate = certify_any(*map_, data_, result.beta, result.nu);
  return result;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_MIRROR_PATH_ENGINE(prefix, S) prefix template class detail::MirrorPathEngine<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MIRROR_PATH_ENGINE)
