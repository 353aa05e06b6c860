#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/span.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/interpolation_tolerance.hpp"
#include "richflow/minimizers/least_norm.hpp"
#include "richflow/models/linear_layers.hpp"

/// @file
/// Gradient flow of linear networks in closed form: two layers on whitened inputs from any lambda-balanced start, lazy
/// to rich (Saxe et al. 2014; Braun et al. 2022; Domine et al. 2024), the modes of balanced networks of any depth
/// (Arora et al. 2019), and where a single hidden neuron ends on any data (Azulay et al. 2021; docs/theory.md, section
/// 6). The loss is the plain sum of squares.

namespace richflow {

/// A linear network of two layers at a time t of its flow (see TwoLayerExact).
template <class S = double>
struct [[nodiscard]] TwoLayerState : Result<TwoLayerState<S>> {
  S t = S(0);              ///< The time.
  Matrix<S> W1 = {};       ///< First layer, h x d_in; W_1 and W_2 up to one rotation of the hidden layer.
  Matrix<S> W2 = {};       ///< Second layer, d_out x h.
  Matrix<S> product = {};  ///< `W_2 W_1`, d_out x d_in.
  /// How far R, computed at times around t, misses `R' = 2 c (F R + R F - R^2)`, relative to the sizes of these terms,
  /// by differences of fourth order: rounding leaves it near epsilon^(4/5).
  S residual = S(0);
  /// `|W_2^T W_2 - W_1 W_1^T - lambda I|_F` relative to `|W_1|_F^2 + |W_2|_F^2`, which steps may have moved.
  S defect = S(0);
  Index steps = 0;                  ///< Steps of the factor: up to t, or until it is at rest.
  Status status = Status::stalled;  ///< tolerance_reached, or stalled where residual or defect are not rounding.
  std::string message = {};         ///< How it ended, with these numbers.

  /// `R = Q Q^T` of `Q = [W_1^T; W_2]`, (d_in + d_out) x (d_in + d_out): its blocks are `W_1^T W_1`, `W_2 W_1` below
  /// and `W_2 W_2^T`.
  [[nodiscard]] Matrix<S> lifted() const {
    Matrix<S> Q(W1.cols() + W2.rows(), W1.rows());
    Q << W1.transpose(), W2;
    return Q * Q.transpose();
  }
  /// Whether the certificate holds.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// The exact gradient flow of a linear network of two layers, `f(x) = W_2 W_1 x`, on whitened inputs, from a
/// lambda-balanced start, `W_2^T W_2 - W_1 W_1^T = lambda I`: from lazy (|lambda| large) to rich.
///
///     const TwoLayerExact<double> exact(data, W1, W2);
///     exact.at(2.0).require_ok().product;
///
/// On data with `X^T X = c I` the loss `|X M^T - Y|^2` is `c |M - T|^2` and a constant, `T = Y^T X / c`, `M = W_2 W_1`.
/// With `F = [-lambda/2 I, T^T; T, lambda/2 I]` the matrix `R = Q Q^T` solves `R' = 2 c (F R + R F - R^2)`, in closed
/// form. Written down once for the whole time, that loses digits like `exp(4 e_max c t)`, e_max the largest eigenvalue
/// of F; so the factor Q is moved in steps of `c e_max h <= 1`, each by the closed form, `C C^T = I + Q^T M Q`, `Q <-
/// exp(2 c F h) Q C^{-T}`, which keeps the rank and rounding at rounding.
template <class S = double>
class TwoLayerExact {
 public:
  using Scalar = S;

  /// The flow on `c |W_2 W_1 - target|^2`, W1 h x d_in, W2 d_out x h, the target d_out x d_in. Throws DimensionError
  /// where the shapes do not fit, NonFiniteError, and ArgumentError unless c is positive and finite and the start is
  /// lambda-balanced for some lambda, up to `1e4 epsilon` of its size: the message says how far off it is.
  TwoLayerExact(const Matrix<S>& W1, const Matrix<S>& W2, const Matrix<S>& target, S c = S(1));

  /// The flow on data, N x d_in inputs and N x d_out labels. Throws as above, and ArgumentError unless the inputs are
  /// whitened, `X^T X = c I` up to `1e4 epsilon` of c: the message says how far off they are.
  TwoLayerExact(const Dataset<S>& data, const Matrix<S>& W1, const Matrix<S>& W2);

  /// The lambda of the start.
  [[nodiscard]] S lambda() const { return lambda_; }
  /// c: `X^T X = c I`.
  [[nodiscard]] S whitening() const { return c_; }
  /// T, d_out x d_in: the product at which the flow is aimed, the least-squares map.
  [[nodiscard]] const Matrix<S>& target() const { return target_; }

  /// Where the flow is at time t. Throws ArgumentError unless `0 <= t < infinity`, and beyond 1e9 steps. Cost: O(h^2
  /// (d_in + d_out) + h^3) for each of `c e_max t` steps, or fewer: it stops where steps move nothing by more than
  /// rounding.
  [[nodiscard]] TwoLayerState<S> at(S t) const;

 private:
  struct FromData {
    S c;
    Matrix<S> target;
  };
  static FromData of(const Dataset<S>& data);
  TwoLayerExact(FromData&& data, const Matrix<S>& W1, const Matrix<S>& W2)
      : TwoLayerExact(W1, W2, data.target, data.c) {}

  /// Whether a step has moved no direction by more than its rounding, except for those that are negligible beside the
  /// others.
  static bool is_at_rest(const Matrix<S>& before, const Matrix<S>& Q);
  /// Q, in the eigenbasis of F, a time h later (or before, for small h).
  void move(S h, Matrix<S>& Q) const;

  Matrix<S> target_;
  S c_;
  S lambda_ = S(0);
  Vector<S> eigenvalues_ = {};  // of F
  Matrix<S> vectors_ = {};
  Matrix<S> start_ = {};  // Q(0) in its eigenbasis
};

/// The product p(t) = w_2 w_1 of one mode of a lambda-balanced network of two layers, `w_2^2 - w_1^2 = lambda`, on
/// `(p - target)^2`, at time t >= 0 in closed form (docs/theory.md, section 6.2): the solution of
///
///     p' = -2 (p - target) sqrt(lambda^2 + 4 p^2)
///
/// At lambda = 0 it is a sigmoid of rate `4 target`, for large |lambda| exponential decay of rate `2 |lambda|`.
/// Accurate to rounding of the larger of |p(0)| and |target|, and relatively where p keeps its sign. Throws
/// ArgumentError unless all are finite and t >= 0.
template <class S>
[[nodiscard]] S two_layer_mode(S start, S target, S lambda, S t);

/// Modes of a balanced linear network over time.
template <class S = double>
struct [[nodiscard]] BalancedModes : Result<BalancedModes<S>> {
  Matrix<S> values = {};  ///< Row i: mode i at the times asked for; r x number of times. NaN where it was not reached.
  Status status = Status::stalled;  ///< reached_end, or how the integration ended.
  std::string message = {};         ///< How it ended.

  /// Whether all times were reached.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// The singular values of a balanced linear network of the given depth that starts aligned with its target: each solves
/// `s' = 2 N s^{2-2/N} (target - s)` by itself, N the depth (1 is the linear model; the larger N, the longer small
/// values wait). Closed forms for N = 1 and 2; beyond, integrated by DormandPrince
/// with relative errors of some 1e-12, in coordinates that are straight near the target: no time is too late. At N >= 2
/// a mode that starts at 0 stays there. Throws DimensionError unless start and target have one size, ArgumentError
/// unless N > 0, start >= 0 (N >= 2) and the times increase from 0 or later, NonFiniteError.
template <class S>
[[nodiscard]] BalancedModes<S> balanced_modes(const Vector<S>& start, const Vector<S>& target, Index depth,
                                              const std::vector<S>& times);

/// Where gradient flow on a single hidden neuron, `f(x) = a <w, x>`, ends on data.
template <class S = double>
struct [[nodiscard]] SingleNeuronLimit : Result<SingleNeuronLimit<S>> {
  Vector<S> beta = {};  ///< `a w`, d.
  S a = S(0);           ///< The outer weight.
  Vector<S> w = {};     ///< The inner weights, d.
  S delta = S(0);       ///< `a^2 - |w|^2`, conserved.
  S residual = S(0);    ///< `|X beta - y| / |y|`.
  /// `|w - w(0)|` outside the row space of X, relative to |w|: rounding.
  S null_part = S(0);
  /// When a changed its sign, which it does at most once: infinity where it never does.
  S crossing_time = std::numeric_limits<S>::infinity();
  /// tolerance_reached, or stalled where a certificate is not rounding, or how the search for the crossing failed.
  Status status = Status::stalled;
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether the certificate holds.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// The limit of gradient flow on `|X (a w) - y|^2` from (a, w), on any data that can be fitted: the flow conserves
/// `delta = a^2 - |w|^2` and moves w in the row space of X, so that `w = w_n + u / a` with w_n the part of w(0) in the
/// null space of X, u the least-norm interpolator, and `a^4 - b a^2 - |u|^2 = 0`, `b = delta + |w_n|^2`: in closed form
/// but for the sign of a. The sign is that of the start where b >= 0, and wherever the loss of the start is at most
/// `|y|^2`, its value at a = 0, as the loss only falls. It is known for a = 0, too. From other starts (b < 0: most of w
/// is in the row space, and larger than a) the flow of a and of w in the row space is integrated, by DormandPrince with
/// relative errors of `1e3 epsilon`, until a has changed its sign, which it can do only once, or the loss is below
/// `|y|^2`.
///
/// X is N x d. Throws DimensionError, NonFiniteError, InfeasibleError where nothing fits y, and ArgumentError where the
/// flow runs straight into a saddle at a = 0 (b = 0, and `a w` points against `X^T y`, an eigenvector of X^T X), rests
/// at one (a = 0 and no w in the row space, or one orthogonal to `X^T y`), or ends at a = 0 as y = 0 and b < 0. Where b
/// < 0 and the flow comes so near a saddle that the sign is a matter of rounding, there is no limit, and the status
/// says so. From all other starts it is assumed to fit y. Cost: that of a least-norm solution, and r^2 for each step
/// that is integrated, r the rank of X.
template <class S>
[[nodiscard]] SingleNeuronLimit<S> single_neuron_limit(const Dataset<S>& data, S a, const Vector<S>& w);

namespace detail {

/// A mode s of depth N >= 3, `s' = 2 N s^{2-2/N} (target - s)`, in a coordinate z in which its way into the target is
/// straight: `log(s / (target - s))` below the target and `log(s / target - 1)` above it; `log s` for targets up to 0,
/// which it nears like a power of t. Errors of z are no less than relative errors of s.
template <class S>
struct DeepMode {
  using Scalar = S;
  S target;
  S depth;
  bool is_below;  // where the target is positive

  [[nodiscard]] Index dimension() const { return 1; }
  [[nodiscard]] S coordinate(S s) const {
    using std::log;
    if (!(target > S(0))) return log(s);
    return is_below ? S(log(s) - log(target - s)) : S(log(s / target - S(1)));
  }
  [[nodiscard]] S value(S z) const {
    using std::exp;
    if (!(target > S(0))) return exp(z);
    return is_below ? S(target / (S(1) + exp(-z))) : S(target + target * exp(z));
  }
  /// Whether s is the target but for rounding, as it will be from then on.
  [[nodiscard]] bool is_at_target(S z) const {
    using std::log;
    return target > S(0) && (is_below ? z : -z) > S(1) - log(std::numeric_limits<S>::epsilon());
  }
  void operator()(S /*t*/, ConstVectorRef<S> z, VectorRef<S> dz) const {
    using std::pow;
    const S s = value(z[0]);
    const S power = S(1) - S(2) / depth;
    const S rate = S(2) * depth * pow(s, power);
    dz[0] = !(target > S(0)) ? rate * (target - s) : is_below ? rate * target : -rate * s;
  }
};

/// The flow of a single neuron in the row space of its data: the state is (a, v), w = v in an orthonormal basis.
template <class S>
struct NeuronFlow {
  using Scalar = S;
  Matrix<S> gram;  // of the inputs in that basis
  Vector<S> pull;  // X^T y in it
  mutable Vector<S> product = Vector<S>(pull.size());

  [[nodiscard]] Index dimension() const { return pull.size() + 1; }
  void operator()(S /*t*/, ConstVectorRef<S> state, VectorRef<S> out) const {
    const auto v = state.tail(pull.size());
    const S a = state[0];
    product.noalias() = gram * v;
    out[0] = S(2) * (v.dot(pull) - a * v.dot(product));
    out.tail(pull.size()) = S(2) * a * (pull - a * product);
  }
  /// `(L - |y|^2) / a`: of the sign of -a where the loss is below that of a = 0.
  [[nodiscard]] S excess(const Vector<S>& state) const {
    const auto v = state.tail(pull.size());
    product.noalias() = gram * v;
    return state[0] * v.dot(product) - S(2) * v.dot(pull);
  }
};

/// What becomes of the sign of a single neuron that may change it.
template <class S>
struct NeuronSign {
  S crossing_time = std::numeric_limits<S>::infinity();
  Status status = Status::event;
  std::string message = {};
};

/// From a state with a != 0 and `a^2 - |v|^2 = b < 0`.
template <class S>
[[nodiscard]] NeuronSign<S> neuron_sign(const NeuronFlow<S>& flow, const Vector<S>& start, S b) {
  using std::abs;
  using std::sqrt;
  NeuronSign<S> sign;
  const bool is_positive = start[0] > S(0);
  const auto is_below = [&](S /*t*/, const Vector<S>& state) {
    const S excess = flow.excess(state);
    return is_positive ? excess <= S(0) : excess >= S(0);
  };
  if (is_below(S(0), start)) return sign;
  constexpr S tolerance = S(1e3) * std::numeric_limits<S>::epsilon();
  // |v| at the saddles and where a crosses zero.
  const S size = sqrt(-b);
  const S pull_norm = flow.pull.norm();
  // Errors of the steps grow from there on.
  const auto is_near_saddle = [&](S /*t*/, const Vector<S>& state) {
    const auto v = state.tail(flow.pull.size());
    return abs(state[0]) + abs(v.dot(flow.pull)) / pull_norm <= sqrt(tolerance) * size;
  };
  PiController<S> controller;
  controller.tolerance = {tolerance, tolerance * size};
  const auto solution =
      integrate(flow, start, TimeSpan<S>{S(0), std::numeric_limits<S>::infinity()}, DormandPrince{}, controller,
                {.events = {condition<S>("near a saddle", is_near_saddle),
                            zero_crossing<S>("a crosses 0", [](S /*t*/, const Vector<S>& state) { return state[0]; }),
                            condition<S>("below", is_below)}});
  sign.status = solution.status;
  if (is_near_saddle(solution.t, solution.w)) {
    sign.status = Status::stalled;
    sign.message = concat("a comes to 0 at a saddle, or past it nearer than rounding, at t = ", solution.t);
  } else if (!solution.ok()) {
    sign.message = concat("whether a changes its sign is open: ", solution.message);
  } else if (*solution.event == 1) {
    sign.crossing_time = solution.t;
  }
  return sign;
}

/// `s' = 4 s (target - s)`.
template <class S>
[[nodiscard]] S sigmoid_mode(S start, S target, S t) {
  using std::exp;
  using std::expm1;
  const S rate = S(4) * target;
  // (1 - e^{-4 target t}) / target
  const S passed = target == S(0) ? S(4) * t : S(-expm1(-rate * t) / target);
  const S left = exp(-rate * t);
  // Neither product nor quotient may overflow.
  if (start > S(1)) return S(1) / (passed + left / start);
  return start == S(0) ? S(0) : start / (start * passed + left);
}

}  // namespace detail

template <class S>
TwoLayerExact<S>::TwoLayerExact(const Matrix<S>& W1, const Matrix<S>& W2, const Matrix<S>& target, S c)
    : target_(target), c_(c) {
  using std::isfinite;
  detail::require_layers<S>({W1, W2});
  require<DimensionError>(target.rows() == W2.rows() && target.cols() == W1.cols(), "the target is ", target.rows(),
                          " x ", target.cols(), " where W_2 W_1 is ", W2.rows(), " x ", W1.cols());
  require_finite("W1", W1);
  require_finite("W2", W2);
  require_finite("the target", target);
  require(c > S(0) && isfinite(c), "c must be positive and finite, got ", c);
  const Index h = W1.rows();
  Matrix<S> conserved = W2.transpose() * W2 - W1 * W1.transpose();
  lambda_ = conserved.trace() / static_cast<S>(h);
  conserved.diagonal().array() -= lambda_;
  const S size = W1.squaredNorm() + W2.squaredNorm();
  const S allowed = S(1e4) * std::numeric_limits<S>::epsilon() * size;
  require(conserved.norm() <= allowed, "the start is not lambda-balanced: W2^T W2 - W1 W1^T is off lambda I by ",
          conserved.norm() / size, " of |W1|^2 + |W2|^2, at the best lambda = ", lambda_);
  const Index inputs = W1.cols();
  const Index outputs = W2.rows();
  Matrix<S> F = Matrix<S>::Zero(inputs + outputs, inputs + outputs);
  F.diagonal().head(inputs).setConstant(-lambda_ / S(2));
  F.diagonal().tail(outputs).setConstant(lambda_ / S(2));
  F.bottomLeftCorner(outputs, inputs) = target;
  F.topRightCorner(inputs, outputs) = target.transpose();
  detail::SymmetricEigen<S> eigen;
  detail::compute_eigen(F, eigen);
  require<ConvergenceError>(eigen.info() == Eigen::Success, "the eigenvalues of F did not converge");
  eigenvalues_ = eigen.eigenvalues();
  vectors_ = eigen.eigenvectors();
  Matrix<S> Q(inputs + outputs, h);
  Q << W1.transpose(), W2;
  start_ = vectors_.transpose() * Q;
}

template <class S>
TwoLayerExact<S>::TwoLayerExact(const Dataset<S>& data, const Matrix<S>& W1, const Matrix<S>& W2)
    : TwoLayerExact(of(data), W1, W2) {}

template <class S>
typename TwoLayerExact<S>::FromData TwoLayerExact<S>::of(const Dataset<S>& data) {
  const Matrix<S>& X = data.X();
  Matrix<S> gram = X.transpose() * X;
  const S c = gram.trace() / static_cast<S>(gram.rows());
  require(c > S(0), "the inputs are all zero");
  Matrix<S> target = (data.Y().transpose() * X) / c;
  gram.diagonal().array() -= c;
  const S off = gram.norm() / c;
  require(off <= S(1e4) * std::numeric_limits<S>::epsilon(), "the inputs are not whitened: X^T X is off c I by ", off,
          " of c, at the best c = ", c);
  return {c, std::move(target)};
}

template <class S>
void TwoLayerExact<S>::move(S h, Matrix<S>& Q) const {
  using std::exp;
  using std::expm1;
  const S time = c_ * h;
  // M = integral_0^{2 time} e^{2 F s} ds, diagonal here.
  Vector<S> weights(eigenvalues_.size());
  Vector<S> growth(eigenvalues_.size());
  for (Index i = 0; i < weights.size(); ++i) {
    const S e = eigenvalues_[i];
    weights[i] = e == S(0) ? S(2) * time : S(expm1(S(4) * e * time) / (S(2) * e));
    growth[i] = exp(S(2) * e * time);
  }
  Matrix<S> gram = Q.transpose() * weights.asDiagonal() * Q;
  gram.diagonal().array() += S(1);
  const Eigen::LLT<Matrix<S>> factor(gram);
  Matrix<S> moved = (growth.asDiagonal() * Q).transpose();
  factor.matrixL().solveInPlace(moved);
  Q = moved.transpose();
}

template <class S>
bool TwoLayerExact<S>::is_at_rest(const Matrix<S>& before, const Matrix<S>& Q) {
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  const S size = Q.norm();
  for (Index i = 0; i < Q.rows(); ++i) {
    const S last = before.row(i).norm();
    const S now = Q.row(i).norm();
    const bool has_vanished = now <= epsilon * epsilon * size && now <= last;
    if (!has_vanished && (Q.row(i) - before.row(i)).norm() > S(16) * epsilon * now) return false;
  }
  return true;
}

template <class S>
TwoLayerState<S> TwoLayerExact<S>::at(S t) const {
  using std::ceil;
  using std::isfinite;
  using std::pow;
  require(t >= S(0) && isfinite(t), "the time must be finite and at least 0, got t = ", t);
  const S largest = eigenvalues_.cwiseAbs().maxCoeff();
  const S count = std::max<S>(ceil(c_ * largest * t), S(1));
  require(count <= S(1e9), "t = ", t, " is ", count, " steps of the exact solution away");
  TwoLayerState<S> state;
  state.t = t;
  state.steps = static_cast<Index>(count);
  Matrix<S> Q = start_;
  for (Index n = 0; n < state.steps; ++n) {
    Matrix<S> before = Q;
    move(t / count, Q);
    if (is_at_rest(before, Q)) state.steps = n + 1;
  }

  // The certificate: differences of R around t against the right-hand side, in the eigenbasis, where F is diagonal.
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  const Matrix<S> R = Q * Q.transpose();
  const S size = std::max<S>(largest, R.diagonal().cwiseAbs().maxCoeff());
  const S step = size > S(0) ? S(pow(epsilon, S(0.2)) / (S(8) * c_ * size)) : S(1);
  const auto lifted_at = [&](S shift) {
    Matrix<S> moved = Q;
    move(shift, moved);
    return Matrix<S>(moved * moved.transpose());
  };
  const Matrix<S> slope =
      (S(8) * (lifted_at(step) - lifted_at(-step)) - (lifted_at(S(2) * step) - lifted_at(S(-2) * step))) /
      (S(12) * step);
  const Matrix<S> FR = eigenvalues_.asDiagonal() * R;
  const Matrix<S> rate = S(2) * c_ * (FR + FR.transpose() - R * R);
  const S terms = S(2) * c_ * (S(2) * FR.norm() + R.squaredNorm());
  state.residual = terms > S(0) ? (slope - rate).norm() / terms : S(0);

  Q = vectors_ * Q;
  const Index inputs = target_.cols();
  state.W1 = Q.topRows(inputs).transpose();
  state.W2 = Q.bottomRows(target_.rows());
  state.product = state.W2 * state.W1;
  Matrix<S> conserved = state.W2.transpose() * state.W2 - state.W1 * state.W1.transpose();
  conserved.diagonal().array() -= lambda_;
  const S weight = state.W1.squaredNorm() + state.W2.squaredNorm();
  state.defect = weight > S(0) ? conserved.norm() / weight : S(0);
  // The start may be off by 1e4 epsilon, and what is off stays.
  const bool is_certain = state.residual <= S(1e3) * pow(epsilon, S(0.8)) && state.defect <= S(1e5) * epsilon;
  state.status = is_certain ? Status::tolerance_reached : Status::stalled;
  state.message = detail::concat(
      is_certain ? "the exact solution at t = " : "rounding has ruined the solution at t = ", t, " in ", state.steps,
      " steps: it satisfies its equation to ", state.residual, " and is lambda-balanced to ", state.defect);
  return state;
}

template <class S>
S two_layer_mode(S start, S target, S lambda, S t) {
  using std::abs;
  using std::exp;
  using std::expm1;
  using std::hypot;
  using std::isfinite;
  require(isfinite(start) && isfinite(target) && isfinite(lambda), "a mode needs finite numbers, got start = ", start,
          ", target = ", target, ", lambda = ", lambda);
  require(t >= S(0) && isfinite(t), "the time must be finite and at least 0, got t = ", t);
  if (lambda == S(0)) {
    const S sign = start < S(0) ? S(-1) : S(1);
    return sign * detail::sigmoid_mode<S>(abs(start), sign * target, t);
  }
  // p = (l/4) (u - 1/u); towards a target of u = a >= 1, for which (u - a) / (u + 1/a) decays.
  const S sign = target < S(0) ? S(-1) : S(1);
  const S l = abs(lambda);
  const S p = sign * start;
  const S goal = abs(target);
  const S root = hypot(S(2) * p, l);
  const S goal_root = hypot(S(2) * goal, l);
  const S a = S(2) * goal + goal_root;  // times l
  const S inverse = l / a;
  const S u0 = p > S(0) ? S((S(2) * p + root) / l) : S(l / (root - S(2) * p));
  const S exponent = S(-2) * goal_root * t;
  const S decay = exp(exponent);
  // All over a, so that nothing overflows, and what is small without cancellation: u0 / a - 1, 1 - decay, 1 - 1 / a.
  const S apart = S(2) * (p - goal) * (S(1) + S(2) * (p + goal) / (root + goal_root)) / a;
  const S below_one = (S(2) * goal + S(4) * goal * goal / (goal_root + l)) / a;
  const S denominator =
      apart > S(0) ? S(1 + inverse * inverse - apart * expm1(exponent)) : S((u0 + inverse) * inverse - apart * decay);
  const S above_one = (below_one * (u0 + inverse) + decay * apart * (S(1) + inverse)) / denominator;
  const S u = (u0 - expm1(exponent) * inverse + u0 * inverse * inverse * decay) / denominator;
  return sign * (l / S(4)) * above_one * (S(1) + S(1) / u);
}

template <class S>
BalancedModes<S> balanced_modes(const Vector<S>& start, const Vector<S>& target, Index depth,
                                const std::vector<S>& times) {
  using std::exp;
  using std::log;
  require_size("target", target.size(), start.size());
  require_finite("start", start);
  require_finite("target", target);
  require(depth > 0, "the depth must be positive, got ", depth);
  for (std::size_t k = 0; k < times.size(); ++k) {
    using std::isfinite;
    const S before = k == 0 ? S(0) : times[k - 1];
    require(times[k] >= before && isfinite(times[k]), "times must increase from 0 on, got times[",
            static_cast<Index>(k), "] = ", times[k]);
  }
  std::vector<Index> moving;
  for (Index i = 0; i < start.size(); ++i) {
    require(depth == 1 || start[i] >= S(0), "singular values are at least 0, got start(", i, ") = ", start[i]);
    if (start[i] > S(0)) moving.push_back(i);
  }
  BalancedModes<S> modes;
  modes.values = Matrix<S>::Zero(start.size(), static_cast<Index>(times.size()));
  modes.status = Status::reached_end;
  modes.message = "in closed form";
  if (depth <= 2) {
    for (Index k = 0; k < modes.values.cols(); ++k) {
      const S t = times[static_cast<std::size_t>(k)];
      for (Index i = 0; i < start.size(); ++i)
        modes.values(i, k) = depth == 1 ? S(target[i] + (start[i] - target[i]) * exp(S(-2) * t))
                                        : detail::sigmoid_mode<S>(start[i], target[i], t);
    }
    return modes;
  }
  // One after the other: each has its own steps. From time to time, so that nothing is interpolated.
  constexpr S tolerance = S(1e3) * std::numeric_limits<S>::epsilon();
  PiController<S> controller;
  controller.tolerance = {S(0), tolerance};
  for (const Index i : moving) {
    const detail::DeepMode<S> mode{target[i], static_cast<S>(depth), start[i] < target[i]};
    const Event<S> arrival =
        condition<S>("target", [&](S /*t*/, const Vector<S>& z) { return mode.is_at_target(z[0]); });
    bool is_at_target = start[i] == target[i];
    Vector<S> z = Vector<S>::Constant(1, is_at_target ? S(0) : mode.coordinate(start[i]));
    is_at_target = is_at_target || mode.is_at_target(z[0]);
    S t(0);
    for (Index k = 0; k < modes.values.cols(); ++k) {
      const S next = times[static_cast<std::size_t>(k)];
      if (next > t && !is_at_target) {
        auto solution = integrate(mode, z, TimeSpan<S>{t, next}, DormandPrince{}, controller, {.events = {arrival}});
        if (!solution.ok()) {
          modes.values.row(i).tail(modes.values.cols() - k).setConstant(std::numeric_limits<S>::quiet_NaN());
          if (modes.ok())
            modes.message = detail::concat("mode ", i, " did not get to t = ", next, " (", solution.status, ")");
          modes.status = solution.status;
          break;
        }
        z = std::move(solution.w);
        is_at_target = mode.is_at_target(z[0]);
        t = next;
      }
      modes.values(i, k) = t == S(0) && next == S(0) ? start[i] : is_at_target ? target[i] : mode.value(z[0]);
    }
  }
  return modes;
}

template <class S>
SingleNeuronLimit<S> single_neuron_limit(const Dataset<S>& data, S a, const Vector<S>& w) {
  using std::abs;
  using std::hypot;
  using std::isfinite;
  using std::sqrt;
  require_size("w", w.size(), data.num_inputs());
  require_finite("w", w);
  require(isfinite(a), "a must be finite, got ", a);
  SingleNeuronLimit<S> limit;
  limit.delta = a * a - w.squaredNorm();
  const S size = a * a + w.squaredNorm();
  const S rounding = S(16) * std::numeric_limits<S>::epsilon() * static_cast<S>(w.size());
  const detail::LeastNorm<S> rows(data.X());
  const Matrix<S>& basis = rows.X();
  const Vector<S> u = rows.solve(data.y());
  const S y_norm = data.y().norm();
  require<InfeasibleError>(data.residual_norm(u) <= S(1e2) * detail::interpolation_tolerance<S> * y_norm,
                           "no beta satisfies X beta = y: what fits best leaves ", data.residual_norm(u) / y_norm,
                           " of |y|");
  // The rest of w stands still.
  Vector<S> start(rows.rank() + 1);
  start << a, basis * w;
  const auto v = start.tail(rows.rank());
  const Vector<S> outside = w - basis.transpose() * v;
  const Matrix<S> inputs = data.X() * basis.transpose();
  const detail::NeuronFlow<S> flow{inputs.transpose() * inputs, inputs.transpose() * data.y()};
  const S pull_norm = flow.pull.norm();
  // What v has of roundings of w.
  const S slack = rounding * (a * a + w.norm() * v.norm());
  S b = a * a - v.squaredNorm();
  if (b >= -slack) b = std::max<S>(b, S(0));
  S sign = a > S(0) ? S(1) : S(-1);
  if (a == S(0)) {
    const S slope = v.dot(flow.pull);
    require(abs(slope) > rounding * w.norm() * pull_norm,
            "a = 0 stays where it is: the part of w in the row space of X is 0, or orthogonal to X^T y");
    sign = slope > S(0) ? S(1) : S(-1);
  } else if (b < S(0)) {
    require(pull_norm > S(0), "y = 0 and |w| > |a| in the row space of X, by b = ", b,
            ": the flow ends at a = 0, and w follows from the whole of it only");
    detail::NeuronSign<S> found = detail::neuron_sign(flow, start, b);
    if (!is_success(found.status)) {
      limit.status = found.status;
      limit.message = std::move(found.message);
      limit.a = limit.residual = limit.null_part = std::numeric_limits<S>::quiet_NaN();
      limit.w = limit.beta = Vector<S>::Constant(w.size(), limit.a);
      return limit;
    }
    limit.crossing_time = found.crossing_time;
    if (isfinite(found.crossing_time)) sign = -sign;
  } else if (b <= slack && pull_norm > S(0)) {
    // All may stay on one eigenvector of X^T X and point away from y.
    const Vector<S> axis = sign / pull_norm * flow.pull;
    const Vector<S> image = flow.gram * axis;
    const S off = (image - axis.dot(image) * axis).norm();
    require(
        (v + v.norm() * axis).norm() > rounding * w.norm() || off > rounding * flow.gram.norm(), "from a = ", a,
        " the flow ends at the saddle a = 0, w = 0 in the row space of X: there |w| = |a|, and w points away from y, "
        "along an eigenvector of X^T X");
  }
  const S root = hypot(b, S(2) * u.norm());
  const S square = b >= S(0) ? S((b + root) / S(2)) : S(S(2) * u.squaredNorm() / (root - b));
  limit.a = sign * sqrt(square);
  limit.w = outside;
  if (square > S(0)) limit.w += u / limit.a;
  limit.beta = limit.a * limit.w;
  limit.residual = data.residual_norm(limit.beta) / (y_norm > S(0) ? y_norm : S(1));
  const Vector<S> moved = limit.w - w;
  limit.null_part = (moved - basis.transpose() * (basis * moved)).norm();
  if (limit.null_part > S(0)) limit.null_part /= std::max<S>(limit.w.norm(), w.norm());
  const S conserved = abs(limit.a * limit.a - limit.w.squaredNorm() - limit.delta) / (size + square);
  const bool is_certain = limit.residual <= S(1e2) * detail::interpolation_tolerance<S> &&
                          limit.null_part <= detail::interpolation_tolerance<S> &&
                          conserved <= detail::interpolation_tolerance<S>;
  limit.status = is_certain ? Status::tolerance_reached : Status::stalled;
  limit.message = detail::concat(is_certain ? "the limit" : "rounding has ruined the limit", ": it leaves ",
                                 limit.residual, " of |y|, ", limit.null_part,
                                 " of w moved outside the row space, and delta is off by ", conserved);
  return limit;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LINEAR_NETWORK(prefix, S)                                          \
  prefix template class TwoLayerExact<S>;                                                       \
  prefix template S two_layer_mode<S>(S, S, S, S);                                              \
  prefix template BalancedModes<S> balanced_modes<S>(const Vector<S>&, const Vector<S>&, Index, \
                                                     const std::vector<S>&);                    \
  prefix template SingleNeuronLimit<S> single_neuron_limit<S>(const Dataset<S>&, S, const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LINEAR_NETWORK)
