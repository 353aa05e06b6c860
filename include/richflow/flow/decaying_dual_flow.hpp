#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/decay_schedule.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/shifted_system.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"

namespace richflow {

namespace detail {

/// log of the weights `alpha a` and `alpha b` of the squared net that a start of depth 2 is, d each.
template <class S>
struct SideLogs {
  Vector<S> a = {};
  Vector<S> b = {};
};
template <class S>
[[nodiscard]] SideLogs<S> side_logs(Index d, const Start<S>& start);

/// What is integrated along a flow: `f_i = of_square g_i^2 + of_samples sum_n X_ni^2 r_n^2`, `g = X^T r`, on average
/// over residuals that fluctuate about r with the covariance `fluctuation X diag(d beta / d z) X^T`, which enters g_i^2
/// by `of_fluctuation`. At depth D >= 3 `w_+^p f` and `w_-^p f`, p = D - 2, 2d integrals, with the covariance E times
/// that; where it feeds back they are added to the `w_+-^-p` of the flow as they grow.
template <class S>
struct FlowQuadrature {
  S of_square = S(0);
  S of_samples = S(0);
  S fluctuation = S(0);
  S of_fluctuation = S(0);
  bool feeds_back = false;

  [[nodiscard]] bool is_empty() const { return of_square == S(0) && of_samples == S(0) && !feeds_back; }
};

}  // namespace detail

/// What a linearly implicit step on a DecayingDualFlow solves with.
template <class S>
struct DecayingDualSolver {
  detail::ShiftedSystem<S> system = {};
  Matrix<S> scaled = {};  // X diag(d beta / d z)^(1/2)
  S shift = S(0);
  Vector<S> residual = {}, pulled = {}, beta = {}, curvature = {};   // at the point of the Jacobian
  Vector<S> rate = {};                                               // by which log A_+- fall there
  Vector<S> side = {}, density = {};                                 // w_+-^p and f there, at depth D >= 3
  Vector<S> slopes = {}, returned = {};                              // |d beta / d (E w_+-^-p)| and w_+-^2p f there
  S shrunk = S(1), shrink_rate = S(0);                               // E, and -E' / E, there
  Vector<S> change = {};                                             // N
  Vector<S> z_change = {}, beta_change = {}, curvature_change = {};  // d
};

/// The gradient flow of `L + lambda |w|^2` on a squared diagonal net, in its N dual variables:
///
///     beta(t) = (alpha a)^2 e^(z - 4 Lambda) - (alpha b)^2 e^(-z - 4 Lambda),     z = X^T nu
///     nu' = -8 (X beta - y),     nu(0) = 0
///
/// the flow without decay but for its scale, `alpha e^(-2 Lambda)`, Lambda(t) the integral of lambda, which is a number
/// or changes with time (DecaySchedule): at every t beta is what the start at that scale goes to under
/// `X beta = X beta(t)`. Decay until some time and none after it ends exactly at the interpolator of that scale. (4
/// instead of 8 in two layers.) L is the plain sum `|X beta - y|^2`, and may be asked for by `loss_below`. With a decay
/// of its own for each coordinate it is also what descent with label noise of standard deviation delta does on average,
/// `lambda_i = 4 h delta^2 |X_i|^2` (HaoChen et al. 2020; docs/theory.md, sections 7.4 and 7.6).
///
///     const DecayingDualFlow<double> flow(net, data, start, lambda);
///     integrate(flow, flow.initial_state(), TimeSpan{0, 1e4}, Rodas4{},
///               PiController<>{.tolerance = {.relative = 1e-6}, .first_step = flow.first_step()}, options)
///
/// The state is (nu, t), N + 1 numbers: the field is autonomous, stiff, and has its exact Jacobian (HasLinearSolver),
/// for Rodas3 and Rodas4. Any `log alpha` works: exponents are added up before they are taken. The smallest weights
/// leave the range of numbers after a while without harm. Refers to the data, which must outlive it; calls share
/// buffers: give each thread its own copy. A step costs one N x N Jacobian, O(N^2 d), and allocates nothing.
template <class S>
class DecayingDualFlow {
 public:
  /// Number type.
  using Scalar = S;
  /// See HasLinearSolver.
  using LinearSolver = DecayingDualSolver<S>;

  /// The type of a schedule; numbers and functions convert to it.
  using Schedule = std::type_identity_t<DecaySchedule<S>>;

  /// Of a squared net with the decay lambda. Throws DimensionError where net, data and start do not fit, ArgumentError
  /// for an unbalanced start or a lambda that is negative or not finite (a function that becomes so ends the run).
  DecayingDualFlow(const SquaredDiagonalNet<S>& net, const Dataset<S>& data, const Start<S>& start, Schedule lambda)
      : DecayingDualFlow(net.num_inputs(), data, start, std::move(lambda), S(8)) {}
  /// Of two layers, from any start.
  DecayingDualFlow(const TwoLayerDiagonalNet<S>& net, const Dataset<S>& data, const Start<S>& start, Schedule lambda)
      : DecayingDualFlow(net.num_inputs(), data, start, std::move(lambda), S(4)) {}
  template <class Net>
  DecayingDualFlow(const Net&, const Dataset<S>&&, const Start<S>&, Schedule) = delete;

  /// Of the squared net that has the logarithms `start` of its weights, each of which falls by `rate` per time, d
  /// values, and by twice the integral of `common`; `dual_rate`: 8, or 4. The state continues with the integrals of the
  /// quadrature, d numbers, where there is one. Or of a net of depth D >= 3: `dual_rate` is 2 D (D - 2), and
  /// `w_+-^-p = (w_+-(0)^-p -+ z) / E` with `E = e^(-2 p Lambda)`, Lambda the integral of `common`,
  /// `nu' = -dual_rate E r`, and E in the integrals. `rate` is then a part of their f, which needs a quadrature that
  /// feeds back: `w_+-^-p = (w_+-(0)^-p -+ z + integral) / E`.
  DecayingDualFlow(const Dataset<S>& data, detail::SideLogs<S> start, Vector<S> rate, S dual_rate,
                   detail::FlowQuadrature<S> quadrature, Index depth = 2, DecaySchedule<S> common = {});

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() { return "on the dual flow Rodas4, or solve for the limit"; }
  /// N + 1, and d or 2d more with a quadrature.
  [[nodiscard]] Index dimension() const { return N_ + 1 + num_integrals(); }
  /// (0, 0).
  [[nodiscard]] Vector<S> initial_state() const { return Vector<S>::Zero(dimension()); }
  /// The data.
  [[nodiscard]] const Dataset<S>& dataset() const { return *data_; }
  /// The integrals, d values (2d at depth D >= 3); empty without a quadrature.
  [[nodiscard]] Vector<S> integrals(ConstVectorRef<S> state) const { return state.tail(num_integrals()); }

  /// A first step from the initial state: the time in which the fastest z moves by one, or the stiffest mode by an
  /// e-fold, or the decay. Cost: some products with X.
  [[nodiscard]] S first_step() const;

  /// The field.
  void operator()(S /*t*/, ConstVectorRef<S> state, VectorRef<S> derivative) const;
  /// `L = |X beta - y|^2`. Free at the latest evaluated point.
  [[nodiscard]] S loss(ConstVectorRef<S> state) const;
  /// beta, d values. Free at the latest evaluated point.
  [[nodiscard]] Vector<S> beta(ConstVectorRef<S> state) const;
  /// `dual_rate` times the largest eigenvalue of `X diag(d beta / d z) X^T`, up to 1 % below: that of the Hessian of
  /// L in the weights, where L is 0. `of_samples`: the largest diagonal entry instead.
  [[nodiscard]] S sharpness(ConstVectorRef<S> state, bool of_samples) const;

  /// The error of a step in beta, relative to |beta|, and in the integrals, relative to the largest of them.
  template <class Tolerance>
  [[nodiscard]] S error_ratio(ConstVectorRef<S> /*state*/, ConstVectorRef<S> state_new, ConstVectorRef<S> error,
                              const Tolerance& tolerance) const {
    return error_over(state_new, error, S(tolerance.relative), S(tolerance.absolute));
  }

  /// All memory of a factorization.
  [[nodiscard]] LinearSolver make_linear_solver() const;
  /// Takes the Jacobian. Cost O(N^2 d).
  void linearize(S /*t*/, ConstVectorRef<S> state, LinearSolver& solver) const;
  /// Factors `shift I - J`.
  [[nodiscard]] bool factorize(S shift, LinearSolver& solver) const;
  /// Solves with that. Cost: three products with X and more with a quadrature.
  void solve(LinearSolver& solver, VectorRef<S> u) const;

 private:
  DecayingDualFlow(Index d, const Dataset<S>& data, const Start<S>& start, DecaySchedule<S> lambda, S dual_rate)
      : DecayingDualFlow(checked(d, data), side_logs_of(d, start, dual_rate), Vector<S>::Zero(d), dual_rate, {}, 2,
                         std::move(lambda)) {}

  [[nodiscard]] static const Dataset<S>& checked(Index d, const Dataset<S>& data);
  [[nodiscard]] static detail::SideLogs<S> side_logs_of(Index d, const Start<S>& start, S dual_rate);

  /// By which log A_+- fall on their own.
  [[nodiscard]] S fall_rate(Index i) const { return depth_ == 2 ? rate_[i] : S(0); }
  [[nodiscard]] Index num_integrals() const { return quadrature_.is_empty() ? 0 : depth_ > 2 ? 2 * d_ : d_; }

  void evaluate(ConstVectorRef<S> state) const;
  /// z is set.
  void evaluate_squared(S t) const;
  void evaluate_deep(S t) const;
  /// f at the evaluated point.
  void write_density(VectorRef<S> f) const;
  /// beta_change, of beta, becomes that of f, with curvature_change.
  void write_density_change(LinearSolver& solver) const;
  /// The rest of `solve` where integrals feed back, but for the feedback of what f changes by.
  void solve_with_feedback(LinearSolver& solver, VectorRef<S> u) const;
  /// The system of a shift where integrals feed back, which their own equations give another curvature.
  void eliminate_integrals(S shift, LinearSolver& solver) const;
  /// `out += scale diag(X^T (X diag(v) X^T) X)` times of_fluctuation, and the diagonal of the middle for of_samples.
  void add_fluctuations(const Vector<S>& v, S scale, VectorRef<S> out) const;
  [[nodiscard]] S error_over(ConstVectorRef<S> state_new, ConstVectorRef<S> error, S relative, S absolute) const;

  const Dataset<S>* data_;
  Index N_;
  Index d_;
  Vector<S> log_scale_;  // log(alpha^2 a b)
  Vector<S> offset_;     // log(a / b)
  Vector<S> rate_;
  DecaySchedule<S> common_;
  S dual_rate_;
  Index depth_;
  Vector<S> power_;  // w_+-(0)^-p, 2d; empty at depth 2
  detail::FlowQuadrature<S> quadrature_;
  Matrix<S> squares_ = {};       // X * X, where it is needed
  Matrix<S> gram_squares_ = {};  // X^T X, squared by entries, where it is needed and not too large
  mutable Vector<S> point_;      // the latest evaluated state; NaN before the first
  mutable Vector<S> nu_, z_, beta_, curvature_, residual_, pulled_;  // there
  mutable Vector<S> side_ = {};                                      // w_+-^p there, 2d; empty at depth 2
  mutable Vector<S> slopes_ = {};                                    // |d beta / d (E w_+-^-p)| there, likewise
  mutable S shrunk_ = S(1);                                          // E there; 1 at depth 2
  mutable Vector<S> sample_scratch_, scratch_;
  mutable Matrix<S> covariance_ = {}, products_ = {};
};

namespace detail {

template <class S>
SideLogs<S> side_logs(Index d, const Start<S>& start) {
  using std::hypot;
  using std::log;
  using std::sqrt;
  start.require_fits(d);
  SideLogs<S> out;
  out.a.setConstant(d, start.scale().log());
  out.b = out.a;
  if (start.family() == StartFamily::uniform) return out;
  if (start.family() == StartFamily::unbalanced) {
    const Vector<S>& u = start.first_values();
    const Vector<S>& v = start.second_values();
    for (Index i = 0; i < d; ++i) out.a[i] += log(hypot(u[i], v[i]) / sqrt(S(2)));
    out.b = out.a;
    return out;
  }
  out.a += start.first_logs();
  out.b += start.second_logs();
  return out;
}

}  // namespace detail

template <class S>
const Dataset<S>& DecayingDualFlow<S>::checked(Index d, const Dataset<S>& data) {
  require<DimensionError>(data.num_inputs() == d, "the net has d = ", d, " features where the data have ",
                          data.num_inputs());
  return data;
}

template <class S>
detail::SideLogs<S> DecayingDualFlow<S>::side_logs_of(Index d, const Start<S>& start, S dual_rate) {
  require(dual_rate == S(4) || start.family() != StartFamily::unbalanced,
          "the start is unbalanced: it has two layers (TwoLayerDiagonalNet), where this net has one");
  return detail::side_logs(d, start);
}

template <class S>
DecayingDualFlow<S>::DecayingDualFlow(const Dataset<S>& data, detail::SideLogs<S> start, Vector<S> rate, S dual_rate,
                                      detail::FlowQuadrature<S> quadrature, Index depth, DecaySchedule<S> common)
    : data_(&data),
      N_(data.num_samples()),
      d_(data.num_inputs()),
      log_scale_(start.a + start.b),
      offset_(start.a - start.b),
      rate_(std::move(rate)),
      common_(std::move(common)),
      dual_rate_(dual_rate),
      depth_(depth),
      quadrature_(quadrature) {
  require_size("y", data.y().size(), N_);
  require_size("start", log_scale_.size(), d_);
  require_size("rate", rate_.size(), d_);
  require_finite("rate", rate_);
  if (quadrature_.of_samples != S(0)) squares_ = data.X().cwiseAbs2();
  if (quadrature_.fluctuation != S(0)) {
    // Up to some size a product with d x d numbers costs less than two with N x N x d.
    constexpr Index largest_gram = 2048;
    if (d_ <= largest_gram) {
      gram_squares_.setZero(d_, d_);
      detail::product_of_transposed<S>(data.X(), data.X(), gram_squares_);
      gram_squares_ = gram_squares_.cwiseAbs2().eval();
    } else {
      covariance_.setZero(N_, N_);
      products_.setZero(N_, d_);
    }
  }
  if (depth > 2) {
    power_.resize(2 * d_);
    power_ << (start.a * static_cast<S>(2 - depth)).array().exp(), (start.b * static_cast<S>(2 - depth)).array().exp();
    side_.setZero(2 * d_);
    slopes_.setZero(2 * d_);
  }
  point_.setConstant(dimension(), std::numeric_limits<S>::quiet_NaN());
  for (Vector<S>* v : {&nu_, &residual_, &sample_scratch_}) v->setZero(N_);
  for (Vector<S>* v : {&z_, &beta_, &curvature_, &pulled_, &scratch_}) v->setZero(d_);
}

template <class S>
void DecayingDualFlow<S>::evaluate(ConstVectorRef<S> state) const {
  require_size("state", state.size(), dimension());
  if (point_ == state) return;
  point_ = state;
  nu_ = state.head(N_);
  detail::multiply_transposed(data_->X(), nu_, z_);
  if (depth_ > 2)
    evaluate_deep(state[N_]);
  else
    evaluate_squared(state[N_]);
  detail::multiply(data_->X(), beta_, residual_);
  residual_ -= data_->y();
  detail::multiply_transposed(data_->X(), residual_, pulled_);
}

template <class S>
void DecayingDualFlow<S>::evaluate_squared(S t) const {
  using std::abs;
  using std::exp;
  using std::sinh;
  const S fallen = S(2) * common_.integral(t);
  for (Index i = 0; i < d_; ++i) {
    const S log_k = log_scale_[i] - S(2) * (rate_[i] * t + fallen);
    const S u = z_[i] + offset_[i];
    const S grown = exp(log_k + u), shrunk = exp(log_k - u);
    // The difference of two that are nearly the same has no digits.
    beta_[i] = abs(u) < S(1) ? S(2) * exp(log_k) * sinh(u) : grown - shrunk;
    curvature_[i] = grown + shrunk;
  }
}

template <class S>
void DecayingDualFlow<S>::evaluate_deep(S t) const {
  using std::exp;
  using std::pow;
  const auto D = static_cast<S>(depth_);
  shrunk_ = exp(S(-2) * (D - S(2)) * common_.integral(t));
  const S exponent = D / (D - S(2));
  // Beyond a bound of z there is no weight: NaN, which rejects the step.
  const auto inverse = [](S power) { return power > S(0) ? S(1) / power : std::numeric_limits<S>::quiet_NaN(); };
  const Index first = N_ + 1;
  const auto grown = [&](Index j) { return quadrature_.feeds_back ? power_[j] + point_[first + j] : power_[j]; };
  for (Index i = 0; i < d_; ++i) {
    const S plus = inverse(grown(i) - z_[i]);
    const S minus = inverse(grown(d_ + i) + z_[i]);
    side_[i] = shrunk_ * plus;
    side_[d_ + i] = shrunk_ * minus;
    const S of_plus = pow(side_[i], exponent), of_minus = pow(side_[d_ + i], exponent);
    beta_[i] = of_plus - of_minus;
    slopes_[i] = exponent * of_plus * plus;
    slopes_[d_ + i] = exponent * of_minus * minus;
    curvature_[i] = slopes_[i] + slopes_[d_ + i];
  }
}

template <class S>
void DecayingDualFlow<S>::add_fluctuations(const Vector<S>& v, S scale, VectorRef<S> out) const {
  const Matrix<S>& X = data_->X();
  if (quadrature_.of_samples != S(0)) {
    // The diagonal of X diag(v) X^T.
    detail::multiply(squares_, v, sample_scratch_);
    detail::multiply_transposed(squares_, sample_scratch_, scratch_);
    out += scale * quadrature_.of_samples * quadrature_.fluctuation * scratch_;
  }
  if (quadrature_.of_fluctuation == S(0)) return;
  const S factor = scale * quadrature_.of_fluctuation * quadrature_.fluctuation;
  if (gram_squares_.size() > 0) {
    detail::multiply(gram_squares_, v, scratch_);
    out += factor * scratch_;
    return;
  }
  for (Index i = 0; i < d_; ++i) products_.col(i) = v[i] * X.col(i);
  covariance_.setZero();
  detail::product_with_transposed<S>(products_, X, covariance_);
  detail::matrix_product<S>(covariance_, X, products_);
  for (Index i = 0; i < d_; ++i) out[i] += factor * products_.col(i).dot(X.col(i));
}

template <class S>
void DecayingDualFlow<S>::write_density(VectorRef<S> f) const {
  f = quadrature_.of_square * pulled_.cwiseAbs2();
  if (quadrature_.of_samples != S(0)) {
    sample_scratch_ = residual_.cwiseAbs2();
    detail::multiply_transposed(squares_, sample_scratch_, scratch_);
    f += quadrature_.of_samples * scratch_;
  }
  if (depth_ > 2 && quadrature_.feeds_back) f += rate_;
  if (quadrature_.fluctuation != S(0)) add_fluctuations(curvature_, shrunk_, f);
}

template <class S>
void DecayingDualFlow<S>::operator()(S /*t*/, ConstVectorRef<S> state, VectorRef<S> derivative) const {
  evaluate(state);
  derivative.head(N_) = -dual_rate_ * shrunk_ * residual_;
  derivative[N_] = S(1);
  if (quadrature_.is_empty()) return;
  VectorRef<S> f = derivative.segment(N_ + 1, d_);
  write_density(f);
  if (depth_ == 2) return;
  derivative.tail(d_) = shrunk_ * f.cwiseProduct(side_.tail(d_));
  f = shrunk_ * f.cwiseProduct(side_.head(d_));
}

template <class S>
S DecayingDualFlow<S>::loss(ConstVectorRef<S> state) const {
  evaluate(state);
  return residual_.squaredNorm();
}

template <class S>
Vector<S> DecayingDualFlow<S>::beta(ConstVectorRef<S> state) const {
  evaluate(state);
  return beta_;
}

template <class S>
S DecayingDualFlow<S>::sharpness(ConstVectorRef<S> state, bool of_samples) const {
  evaluate(state);
  const Matrix<S>& X = data_->X();
  if (of_samples) return dual_rate_ * shrunk_ * (X.cwiseAbs2() * curvature_).maxCoeff();
  Vector<S> v(N_), pulled(d_);
  for (Index n = 0; n < N_; ++n) v[n] = X.row(n).cwiseAbs2().dot(curvature_) * (n % 2 == 0 ? S(1) : S(-0.75));
  S norm(0);
  for (int k = 0; k < 100; ++k) {
    const S size = v.norm();
    if (!(size > S(0))) return S(0);
    v /= size;
    pulled = curvature_.cwiseProduct(X.transpose() * v);
    v.noalias() = X * pulled;
    norm = v.norm();
  }
  return dual_rate_ * shrunk_ * norm;
}

template <class S>
S DecayingDualFlow<S>::first_step() const {
  const Vector<S> start = initial_state();
  evaluate(start);
  const S fastest = std::max({dual_rate_ * detail::largest_size(pulled_), sharpness(start, false),
                              S(2) * detail::largest_size(rate_) + S(2) * static_cast<S>(depth_) * common_(S(0)),
                              std::numeric_limits<S>::min()});
  return S(1) / fastest;
}

template <class S>
S DecayingDualFlow<S>::error_over(ConstVectorRef<S> state_new, ConstVectorRef<S> error, S relative, S absolute) const {
  evaluate(state_new);
  sample_scratch_ = error.head(N_);
  detail::multiply_transposed(data_->X(), sample_scratch_, scratch_);
  const S common = static_cast<S>(depth_) * common_(state_new[N_]);
  for (Index i = 0; i < d_; ++i)
    scratch_[i] = curvature_[i] * scratch_[i] - S(2) * error[N_] * (fall_rate(i) + common) * beta_[i];
  const S beta_error = scratch_.stableNorm();
  // Below the range of numbers beta is 0, and so is its error.
  S ratio = beta_error == S(0) ? S(0) : beta_error / (absolute + relative * beta_.stableNorm());
  if (quadrature_.is_empty()) return ratio;
  const S size = state_new.tail(num_integrals()).cwiseAbs().maxCoeff();
  const S integral_error = error.tail(num_integrals()).cwiseAbs().maxCoeff();
  if (integral_error > S(0)) ratio = std::max(ratio, integral_error / (relative * size));
  return ratio;
}

template <class S>
typename DecayingDualFlow<S>::LinearSolver DecayingDualFlow<S>::make_linear_solver() const {
  LinearSolver solver;
  solver.system.allocate(N_);
  solver.scaled.setZero(N_, d_);
  for (Vector<S>* v : {&solver.residual, &solver.change}) v->setZero(N_);
  for (Vector<S>* v : {&solver.pulled, &solver.beta, &solver.curvature, &solver.rate, &solver.z_change,
                       &solver.beta_change, &solver.curvature_change})
    v->setZero(d_);
  if (depth_ > 2) {
    for (Vector<S>* v : {&solver.side, &solver.slopes, &solver.returned}) v->setZero(2 * d_);
    solver.density.setZero(d_);
  }
  return solver;
}

template <class S>
void DecayingDualFlow<S>::linearize(S /*t*/, ConstVectorRef<S> state, LinearSolver& solver) const {
  using std::sqrt;
  evaluate(state);
  solver.residual = residual_;
  solver.pulled = pulled_;
  solver.beta = beta_;
  solver.curvature = curvature_;
  // beta falls by 2 rate beta per time.
  const S common = static_cast<S>(depth_) * common_(state[N_]);
  for (Index i = 0; i < d_; ++i) solver.rate[i] = fall_rate(i) + common;
  solver.shrunk = shrunk_;
  solver.shrink_rate = S(2) * static_cast<S>(depth_ - 2) * common_(state[N_]);
  if (depth_ > 2 && !quadrature_.is_empty()) {
    solver.side = side_;
    write_density(solver.density);
  }
  if (quadrature_.feeds_back && depth_ > 2) {
    solver.slopes = slopes_;
    for (Index j = 0; j < 2 * d_; ++j) solver.returned[j] = side_[j] * side_[j] * solver.density[j < d_ ? j : j - d_];
    return;
  }
  const Matrix<S>& X = data_->X();
  for (Index i = 0; i < d_; ++i) solver.scaled.col(i) = sqrt(curvature_[i]) * X.col(i);
  solver.system.matrix().setZero();
  detail::add_lower_gram<S>(solver.scaled, dual_rate_ * shrunk_, solver.system.matrix());
}

template <class S>
void DecayingDualFlow<S>::eliminate_integrals(S shift, LinearSolver& solver) const {
  using std::sqrt;
  const auto left = [&](Index j) { return solver.slopes[j] * (shift / (shift + solver.returned[j])); };
  const Matrix<S>& X = data_->X();
  for (Index i = 0; i < d_; ++i) solver.scaled.col(i) = sqrt(left(i) + left(d_ + i)) * X.col(i);
  solver.system.matrix().setZero();
  detail::add_lower_gram<S>(solver.scaled, dual_rate_ * solver.shrunk, solver.system.matrix());
}

template <class S>
bool DecayingDualFlow<S>::factorize(S shift, LinearSolver& solver) const {
  solver.shift = shift;
  if (quadrature_.feeds_back && depth_ > 2) eliminate_integrals(shift, solver);
  return solver.system.factorize(shift, false);
}

template <class S>
void DecayingDualFlow<S>::solve(LinearSolver& solver, VectorRef<S> u) const {
  const Matrix<S>& X = data_->X();
  const S dt = u[N_] / solver.shift;
  u[N_] = dt;
  // The column of t.
  solver.beta_change = S(2) * solver.rate.cwiseProduct(solver.beta);
  if (quadrature_.feeds_back && depth_ > 2) {
    solve_with_feedback(solver, u);
    return;
  }
  detail::multiply(X, solver.beta_change, solver.change);
  solver.change = u.head(N_) + dual_rate_ * solver.shrunk * dt * (solver.change + solver.shrink_rate * solver.residual);
  solver.system.solve_in_place(solver.change);
  u.head(N_) = solver.change;
  if (quadrature_.is_empty()) return;
  // And then the integrals, which nothing depends on.
  detail::multiply_transposed(X, solver.change, scratch_);
  solver.z_change = scratch_;
  solver.beta_change = solver.curvature.cwiseProduct(solver.z_change) - dt * solver.beta_change;
  if (quadrature_.fluctuation != S(0))
    solver.curvature_change =
        solver.beta.cwiseProduct(solver.z_change) - S(2) * dt * solver.rate.cwiseProduct(solver.curvature);
  write_density_change(solver);
  VectorRef<S> integral = u.segment(N_ + 1, d_);
  if (depth_ == 2) {
    integral = (integral + solver.beta_change) / solver.shift;
    return;
  }
  const auto plus = solver.side.head(d_).array(), minus = solver.side.tail(d_).array();
  const auto density = solver.density.array(), dz = solver.z_change.array(), df = solver.beta_change.array();
  // E w_+-^p f, w_+-^p = E / (w_+-(0)^-p -+ z).
  const S E = solver.shrunk, dE = S(-2) * solver.shrink_rate * E * dt;
  integral.array() = (integral.array() + plus * (E * df + density * (plus * dz + dE))) / solver.shift;
  u.tail(d_).array() = (u.tail(d_).array() + minus * (E * df - density * (minus * dz - dE))) / solver.shift;
}

template <class S>
void DecayingDualFlow<S>::write_density_change(LinearSolver& solver) const {
  const Matrix<S>& X = data_->X();
  detail::multiply(X, solver.beta_change, solver.change);
  // From here on beta_change is that of f.
  detail::multiply_transposed(X, solver.change, scratch_);
  solver.beta_change = S(2) * quadrature_.of_square * solver.pulled.cwiseProduct(scratch_);
  if (quadrature_.of_samples != S(0)) {
    sample_scratch_ = solver.residual.cwiseProduct(solver.change);
    detail::multiply_transposed(squares_, sample_scratch_, scratch_);
    solver.beta_change += S(2) * quadrature_.of_samples * scratch_;
  }
  if (quadrature_.fluctuation != S(0)) add_fluctuations(solver.curvature_change, solver.shrunk, solver.beta_change);
}

template <class S>
void DecayingDualFlow<S>::solve_with_feedback(LinearSolver& solver, VectorRef<S> u) const {
  const Matrix<S>& X = data_->X();
  const S dt = u[N_], E = solver.shrunk, sigma = solver.shift;
  const auto D = static_cast<S>(depth_);
  const S exponent = D / (D - S(2));
  const Vector<S>& ratio = solver.returned;
  VectorRef<S> power = u.tail(2 * d_);
  // What the integrals change by but for z and f, whose share in them is of first order in the step of the run.
  for (Index j = 0; j < 2 * d_; ++j) {
    const S dE = S(-2) * solver.shrink_rate * E * dt;
    power[j] = (power[j] + solver.side[j] * solver.density[j % d_] * dE) / (sigma + ratio[j]);
  }
  solver.curvature_change = solver.beta_change;
  for (Index i = 0; i < d_; ++i)
    scratch_[i] = dt * solver.beta_change[i] + solver.slopes[i] * power[i] - solver.slopes[d_ + i] * power[d_ + i];
  detail::multiply(X, scratch_, solver.change);
  solver.change = u.head(N_) + dual_rate_ * E * (solver.change + dt * solver.shrink_rate * solver.residual);
  solver.system.solve_in_place(solver.change);
  u.head(N_) = solver.change;
  detail::multiply_transposed(X, solver.change, scratch_);
  solver.z_change = scratch_;
  for (Index i = 0; i < d_; ++i) {
    const Index k = d_ + i;
    const S dz = solver.z_change[i];
    power[i] += ratio[i] * dz / (sigma + ratio[i]);
    power[k] -= ratio[k] * dz / (sigma + ratio[k]);
    const S plus = power[i] - dz, minus = power[k] + dz;
    solver.beta_change[i] = -solver.slopes[i] * plus + solver.slopes[k] * minus - dt * solver.curvature_change[i];
    // slopes = exponent E^exponent (E w^-p)^(-exponent - 1).
    solver.curvature_change[i] =
        -(exponent + S(1)) / E *
            (solver.slopes[i] * solver.side[i] * plus + solver.slopes[k] * solver.side[k] * minus) -
        dt * (S(2) * solver.rate[i] + solver.shrink_rate) * solver.curvature[i];
  }
  write_density_change(solver);
  for (Index j = 0; j < 2 * d_; ++j) power[j] += E * solver.side[j] * solver.beta_change[j % d_] / (sigma + ratio[j]);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DECAYING_DUAL_FLOW(prefix, S)                          \
  prefix template detail::SideLogs<S> detail::side_logs<S>(Index, const Start<S>&); \
  prefix template class DecayingDualFlow<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DECAYING_DUAL_FLOW)
