#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/separation.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/shifted_system.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"
#include "richflow/regularizers/mirror_map.hpp"

namespace richflow {

/// What ClassificationFlow factors and solves with.
template <class S>
struct ClassificationSolver {
  detail::ShiftedSystem<S> system = {};  ///< `W C W^T`, N x N, or `C^(1/2) W^T W C^(1/2)`, d x d, the smaller one
  Matrix<S> W = {};                      ///< `M^T Z`, N x d
  Matrix<S> weighted = {};               ///< some columns of `W C^(1/2)`, or of its transpose
  Vector<S> roots = {};                  ///< `C^(1/2)`, d
  Vector<S> inner = {};                  ///< scratch, d
  Vector<S> root = {};                   ///< `sqrt(g_n p_n)`, N
  Vector<S> unit = {};                   ///< `sqrt(p_n)`, N, of norm 1
  Vector<S> curvature = {};              ///< C, d
  Vector<S> clock = {};                  ///< what moves the time's logarithm, d
  Vector<S> z = {}, v = {}, dual = {};   ///< scratch
  S rate = S(0);                         ///< derivative of the last component
  S shift = S(0);
};

/// The gradient flow of a diagonal net under the exponential or the logistic loss, in its N dual variables and a time
/// in which no loss is too small (docs/theory.md, section 9.1). Along the flow
/// `grad Q(beta(t)) = sum_n nu_n y_n x_n` for the mirror map Q of the net and its start, and `nu_n' = (c / 2) e_n`,
/// `e_n = -dL/dm_n`, `c = mirror.dual_rate()`: nu grows. In the time `tau = |nu|_1`
///
///     d nu / d tau = p = e / sum_n e_n,     d t / d tau = 2 / (c sum_n e_n),     nu(0) = 0
///
/// and p, the softmax of `log e`, has all its digits however small e is. The state is nu and `log(t + t_0)`, N + 1
/// values, t_0 being dt/dtau at the start.
///
/// A field with a linear solver of its own (HasLinearSolver), for the W-method Ros34Pw2: the Jacobian `-A B`, `A =
/// diag(p) - p p^T = M M^T`, `B = Z diag(d beta / d z) Z^T` with the rows `y_n x_n` of Z, is not symmetric, but `M^T B
/// M` is, and serves. (For the logistic loss A is replaced by a symmetric matrix, which is exact where margins are
/// large.) In double precision p has digits down to `log L = -1e12`. For a map with bounds (depth D >= 3) beta is
/// determined by the distance of z from them, see `digits`.
///
/// Keeps what it needs of the data. Calls allocate nothing; they share buffers, so give each thread its own copy.
template <class S = double>
class ClassificationFlow {
 public:
  using Scalar = S;
  /// See HasLinearSolver.
  using LinearSolver = ClassificationSolver<S>;

  /// Of a mirror map at its scale. Throws DimensionError where the lengths differ, ArgumentError for labels other than
  /// -1 and +1 and where the rate of the dual variables leaves the range of S.
  template <MirrorMap Mirror>
  ClassificationFlow(Mirror mirror, const Dataset<S>& data, MarginLoss loss)
      : ClassificationFlow(std::make_unique<detail::MirrorMapOf<Mirror>>(std::move(mirror)), data, loss) {}
  /// Of any mirror map.
  ClassificationFlow(std::unique_ptr<detail::AnyMirrorMap<S>> map, const Dataset<S>& data, MarginLoss loss);
  ClassificationFlow(const ClassificationFlow& other);
  ClassificationFlow(ClassificationFlow&& other) noexcept;
  ClassificationFlow& operator=(const ClassificationFlow& other);
  ClassificationFlow& operator=(ClassificationFlow&& other) noexcept;
  ~ClassificationFlow();

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() { return "on the classification flow Ros34Pw2"; }
  /// N + 1.
  [[nodiscard]] Index dimension() const { return Z_.rows() + 1; }
  /// The loss.
  [[nodiscard]] MarginLoss loss_kind() const { return loss_; }
  /// The rows `y_n x_n`, N x d.
  [[nodiscard]] const Matrix<S>& signed_rows() const { return Z_; }

  /// nu = 0 and t = 0.
  [[nodiscard]] Vector<S> initial_state() const;
  /// A first step: z and the margins move by 0.1 at most.
  [[nodiscard]] S first_step() const;

  /// `d state / d tau`.
  void operator()(S tau, ConstVectorRef<S> state, VectorRef<S> derivative) const;

  /// `log L`, to full accuracy at any loss.
  [[nodiscard]] S log_loss(ConstVectorRef<S> state) const;
  /// L; 0 where it is below the normal numbers.
  [[nodiscard]] S loss(ConstVectorRef<S> state) const;
  /// `log t`, of the flow's own time; -infinity at the start.
  [[nodiscard]] S log_time(ConstVectorRef<S> state) const;
  /// beta, d values.
  [[nodiscard]] const Vector<S>& beta(ConstVectorRef<S> state) const;
  /// `y_n <x_n, beta>`, N values.
  [[nodiscard]] const Vector<S>& margins(ConstVectorRef<S> state) const;
  /// p, N values.
  [[nodiscard]] const Vector<S>& weights(ConstVectorRef<S> state) const;
  /// The relative accuracy that rounding of nu leaves beta: epsilon without bounds, and epsilon over the least relative
  /// distance of z from them otherwise.
  [[nodiscard]] S digits(ConstVectorRef<S> state) const;

  /// The error of a step: of beta relative to its norm (or to a beta with margins of about 1, where that is larger), of
  /// each entry of z where beta is small, and of log t. At most 1 means that the step meets the tolerance.
  template <class Tolerance>
  [[nodiscard]] S error_ratio(ConstVectorRef<S> /*state*/, ConstVectorRef<S> new_state, ConstVectorRef<S> error,
                              const Tolerance& tolerance) const {
    return error_size(new_state, error) / (S(tolerance.relative) + S(tolerance.absolute));
  }

  [[nodiscard]] LinearSolver make_linear_solver() const;
  /// Cost O(N d min(N, d)).
  void linearize(S tau, ConstVectorRef<S> state, LinearSolver& solver) const;
  /// Cost O(min(N, d)^3).
  [[nodiscard]] bool factorize(S shift, LinearSolver& solver) const;
  /// Cost O(N d).
  void solve(LinearSolver& solver, VectorRef<S> u) const;

 private:
  // So many that Eigen's buffers are on the stack for some hundred samples.
  static constexpr Index block_columns = 32;

  /// Whether systems are d x d.
  [[nodiscard]] bool is_tall() const { return Z_.rows() > Z_.cols(); }
  void evaluate(ConstVectorRef<S> state) const;
  [[nodiscard]] S error_size(ConstVectorRef<S> new_state, ConstVectorRef<S> error) const;

  detail::MirrorMapValue<S> map_;
  MarginLoss loss_;
  Matrix<S> Z_;
  S floor_{1};     // |beta| at which margins are about 1
  S log_rate_{0};  // log(c / 2)
  S log_start_{0};
  // The latest evaluated nu, NaN before the first, and what belongs to it.
  mutable Vector<S> point_, z_, beta_, curvature_, margins_, weights_;
  mutable S log_loss_{0}, log_sum_{0};
  mutable Vector<S> scratch_, log_slopes_, below_, above_;
};

template <class S>
ClassificationFlow<S>::ClassificationFlow(std::unique_ptr<detail::AnyMirrorMap<S>> map, const Dataset<S>& data,
                                          MarginLoss loss)
    : map_(std::move(map)), loss_(loss), Z_(detail::signed_samples(data).transpose()) {
  using std::isfinite;
  using std::log;
  require_size("the mirror map", map_->dimension(), data.num_inputs());
  const Index N = Z_.rows();
  const Index d = Z_.cols();
  point_ = Vector<S>::Constant(N, std::numeric_limits<S>::quiet_NaN());
  for (Vector<S>* v : {&margins_, &weights_, &log_slopes_}) v->setZero(N);
  for (Vector<S>* v : {&z_, &beta_, &curvature_, &scratch_}) v->setZero(d);
  if (map_->is_bounded()) {
    below_.setZero(d);
    above_.setZero(d);
  }
  S longest(0);
  for (Index n = 0; n < N; ++n) longest = std::max(longest, S(Z_.row(n).norm()));
  if (longest > S(0)) floor_ = S(1) / longest;
  log_rate_ = log(map_->dual_rate()) - log(S(2));
  require(isfinite(log_rate_), "the rate of the dual variables, of the size of alpha^(D-2), is ", map_->dual_rate(),
          ": the scale is out of the range of this number type");
  evaluate(Vector<S>::Zero(N));
  log_start_ = -log_rate_ - log_sum_;
}

template <class S>
ClassificationFlow<S>::ClassificationFlow(const ClassificationFlow& other) = default;
template <class S>
ClassificationFlow<S>::ClassificationFlow(ClassificationFlow&& other) noexcept = default;
template <class S>
ClassificationFlow<S>& ClassificationFlow<S>::operator=(const ClassificationFlow& other) = default;
template <class S>
ClassificationFlow<S>& ClassificationFlow<S>::operator=(ClassificationFlow&& other) noexcept = default;
template <class S>
ClassificationFlow<S>::~ClassificationFlow() = default;

template <class S>
void ClassificationFlow<S>::evaluate(ConstVectorRef<S> state) const {
  using std::exp;
  const Index N = Z_.rows();
  bool is_known = true;
  for (Index n = 0; n < N && is_known; ++n) is_known = point_[n] == state[n];
  if (is_known) return;
  for (Index n = 0; n < N; ++n) point_[n] = state[n];
  detail::multiply_transposed(Z_, point_, z_);
  map_->mirror(z_, beta_, curvature_);
  detail::multiply(Z_, beta_, margins_);
  for (Index n = 0; n < N; ++n) detail::log_losses_of_margin(loss_, margins_[n], log_slopes_[n], weights_[n]);
  log_loss_ = detail::log_of_sum(weights_);
  log_sum_ = detail::log_of_sum(log_slopes_);
  for (Index n = 0; n < N; ++n) weights_[n] = detail::normal_or_zero(S(exp(log_slopes_[n] - log_sum_)));
}

template <class S>
Vector<S> ClassificationFlow<S>::initial_state() const {
  Vector<S> state = Vector<S>::Zero(dimension());
  state[Z_.rows()] = log_start_;
  return state;
}

template <class S>
S ClassificationFlow<S>::first_step() const {
  evaluate(Vector<S>::Zero(Z_.rows()));
  Vector<S> direction, moved(Z_.cols()), margins;
  detail::multiply_transposed(Z_, weights_, direction);
  const S room = map_->max_step(Vector<S>::Zero(direction.size()), direction);
  detail::multiply_entries(curvature_, direction, moved);
  detail::multiply(Z_, moved, margins);
  const S fastest = std::max({detail::largest_size(direction), detail::largest_size(margins), S(1) / room});
  return fastest > S(0) ? S(0.1) / fastest : S(1);
}

template <class S>
void ClassificationFlow<S>::operator()(S /*tau*/, ConstVectorRef<S> state, VectorRef<S> derivative) const {
  using std::exp;
  evaluate(state);
  const Index N = Z_.rows();
  for (Index n = 0; n < N; ++n) derivative[n] = weights_[n];
  derivative[N] = exp(-log_rate_ - log_sum_ - state[N]);
}

template <class S>
S ClassificationFlow<S>::log_loss(ConstVectorRef<S> state) const {
  evaluate(state);
  return log_loss_;
}

template <class S>
S ClassificationFlow<S>::loss(ConstVectorRef<S> state) const {
  using std::exp;
  return detail::normal_or_zero(S(exp(log_loss(state))));
}

template <class S>
S ClassificationFlow<S>::log_time(ConstVectorRef<S> state) const {
  using std::expm1;
  using std::log;
  const S grown = state[Z_.rows()] - log_start_;
  // t = t_0 (e^grown - 1).
  if (!(grown > S(0))) return -std::numeric_limits<S>::infinity();
  const S large = -log(std::numeric_limits<S>::epsilon());
  return log_start_ + (grown > large ? grown : log(expm1(grown)));
}

template <class S>
const Vector<S>& ClassificationFlow<S>::beta(ConstVectorRef<S> state) const {
  evaluate(state);
  return beta_;
}

template <class S>
const Vector<S>& ClassificationFlow<S>::margins(ConstVectorRef<S> state) const {
  evaluate(state);
  return margins_;
}

template <class S>
const Vector<S>& ClassificationFlow<S>::weights(ConstVectorRef<S> state) const {
  evaluate(state);
  return weights_;
}

template <class S>
S ClassificationFlow<S>::digits(ConstVectorRef<S> state) const {
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  if (!map_->is_bounded()) return epsilon;
  evaluate(state);
  map_->bounds(z_, below_, above_);
  S least(1);
  for (Index i = 0; i < z_.size(); ++i)
    least = std::min(least, S(std::min(below_[i], above_[i]) / (below_[i] + above_[i])));
  return least > S(0) ? epsilon / least : std::numeric_limits<S>::infinity();
}

template <class S>
S ClassificationFlow<S>::error_size(ConstVectorRef<S> new_state, ConstVectorRef<S> error) const {
  using std::abs;
  evaluate(new_state);
  const Index N = Z_.rows();
  detail::multiply_transposed(Z_, error.head(N), scratch_);
  S worst = abs(error[N]);
  for (Index i = 0; i < z_.size(); ++i) {
    const S change = abs(scratch_[i]);
    const S size = abs(beta_[i]) + curvature_[i];
    worst = std::max(worst, size > S(0) ? S(change * (curvature_[i] / size)) : change);
    scratch_[i] *= curvature_[i];
  }
  // NaN must not be lost by the maximum.
  const S whole = detail::norm(scratch_) / (detail::norm(beta_) + floor_);
  return whole <= worst ? worst : whole;
}

template <class S>
typename ClassificationFlow<S>::LinearSolver ClassificationFlow<S>::make_linear_solver() const {
  LinearSolver solver;
  const Index N = Z_.rows();
  const Index d = Z_.cols();
  solver.system.allocate(std::min(N, d));
  solver.W.setZero(N, d);
  solver.weighted.setZero(std::min(N, d), std::min(std::max(N, d), block_columns));
  for (Vector<S>* v : {&solver.root, &solver.unit, &solver.v, &solver.dual}) v->setZero(N);
  for (Vector<S>* v : {&solver.curvature, &solver.clock, &solver.z, &solver.roots, &solver.inner}) v->setZero(d);
  return solver;
}

template <class S>
void ClassificationFlow<S>::linearize(S /*tau*/, ConstVectorRef<S> state, LinearSolver& solver) const {
  using std::exp;
  using std::sqrt;
  evaluate(state);
  const Index N = Z_.rows();
  const Index d = Z_.cols();
  solver.curvature = curvature_;
  for (Index n = 0; n < N; ++n) {
    // g_n = 1 - e_n for the logistic loss.
    const S g = loss_ == MarginLoss::exponential ? S(1) : S(1) - exp(log_slopes_[n]);
    solver.unit[n] = sqrt(weights_[n]);
    solver.root[n] = sqrt(g) * solver.unit[n];
    solver.v[n] = g * weights_[n];
  }
  detail::multiply_transposed(Z_, solver.v, solver.clock);
  detail::multiply_entries(solver.clock, curvature_, solver.clock);
  solver.rate = exp(-log_rate_ - log_sum_ - state[N]);
  solver.system.matrix().setZero();
  // W = (I - s s^T) diag(root) Z.
  for (Index i = 0; i < d; ++i) {
    solver.roots[i] = sqrt(curvature_[i]);
    S mean(0);
    for (Index n = 0; n < N; ++n) mean += solver.unit[n] * (solver.root[n] * Z_(n, i));
    for (Index n = 0; n < N; ++n)
      solver.W(n, i) = detail::normal_or_zero(S(solver.root[n] * Z_(n, i) - mean * solver.unit[n]));
  }
  const Index block = solver.weighted.cols();
  const Index total = is_tall() ? N : d;
  for (Index first = 0; first < total; first += block) {
    const Index count = std::min(block, total - first);
    for (Index j = 0; j < count; ++j)
      for (Index k = 0; k < solver.weighted.rows(); ++k) {
        const Index n = is_tall() ? first + j : k;
        const Index i = is_tall() ? k : first + j;
        solver.weighted(k, j) = detail::normal_or_zero(S(solver.roots[i] * solver.W(n, i)));
      }
    detail::add_lower_gram<S>(solver.weighted.leftCols(count), S(1), solver.system.matrix());
  }
}

template <class S>
bool ClassificationFlow<S>::factorize(S shift, LinearSolver& solver) const {
  solver.shift = shift;
  return solver.system.factorize(shift, true);
}

template <class S>
void ClassificationFlow<S>::solve(LinearSolver& solver, VectorRef<S> u) const {
  const Index N = Z_.rows();
  // x = (u - M K^-1 M^T B u) / shift, K = shift I + M^T B M.
  detail::multiply_transposed(Z_, u.head(N), solver.z);
  detail::multiply_entries(solver.z, solver.curvature, solver.z);
  detail::multiply(solver.W, solver.z, solver.dual);
  if (is_tall()) {
    // K^-1 r = (r - W C^(1/2) E^-1 C^(1/2) W^T r) / shift, E = shift I + C^(1/2) W^T W C^(1/2) (Woodbury).
    detail::multiply_transposed(solver.W, solver.dual, solver.inner);
    detail::multiply_entries(solver.inner, solver.roots, solver.inner);
    solver.system.solve_in_place(solver.inner);
    detail::multiply_entries(solver.inner, solver.roots, solver.inner);
    detail::subtract_product(solver.W, solver.inner, solver.dual);
    solver.dual /= solver.shift;
  } else {
    solver.system.solve_in_place(solver.dual);
  }
  const S mean = detail::inner_product(solver.unit, solver.dual);
  for (Index n = 0; n < N; ++n) {
    solver.v[n] = (u[n] - solver.root[n] * (solver.dual[n] - mean * solver.unit[n])) / solver.shift;
    u[n] = solver.v[n];
  }
  detail::multiply_transposed(Z_, solver.v, solver.z);
  u[N] = (u[N] + solver.rate * detail::inner_product(solver.clock, solver.z)) / (solver.shift + solver.rate);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_CLASSIFICATION_FLOW(prefix, S) prefix template class ClassificationFlow<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CLASSIFICATION_FLOW)
