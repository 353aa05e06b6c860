#pragma once

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/models/fully_connected.hpp"

/// @file
/// The early phase of a ReLU network of two layers, `f(x) = sum_j a_j relu(<w_j, x>)`, from a tiny start (Maennel,
/// Bousquet and Gelly 2018; Phuong and Lampert 2021; Boursier, Pillaud-Vivien and Flammarion 2022): as long as f is
/// tiny the residual is -y, and every neuron moves on its own, by `w' = 2 a D(w)`, `a' = 2 <w, D(w)>` with
/// `D(w) = sum_n y_n [<w, x_n> > 0] x_n`, the gradient of `G(w) = sum_n y_n relu(<w, x_n>)`. It turns towards a
/// direction that follows from the data and its start alone, and grows along it (theory, section 10.4).

namespace richflow {

/// What a critical direction u of G on the sphere is to the neurons near it whose a has the sign s (theory, section
/// 10.4).
enum class AlignmentEnd {
  attracting,  ///< A strict local maximum of s G: all balanced neurons near it turn to it.
  resting,     ///< A local maximum that is not strict, where G is 0: those near it stay near, as dead ones do.
  repelling,   ///< No local maximum: some of those near it turn away.
  unknown,     ///< That of a lost neuron, or one on more than 12 hyperplanes at which the slope of s G jumps upwards.
};

/// The name of the enumerator.
[[nodiscard]] constexpr const char* to_string(AlignmentEnd end) {
  switch (end) {
    case AlignmentEnd::attracting:
      return "attracting";
    case AlignmentEnd::resting:
      return "resting";
    case AlignmentEnd::repelling:
      return "repelling";
    case AlignmentEnd::unknown:
      break;
  }
  return "unknown";
}

/// The early phase of one neuron: how it turns before it grows.
template <class S = double>
struct [[nodiscard]] AlignedNeuron : Result<AlignedNeuron<S>> {
  Vector<S> direction = {};  ///< The limit of `w / |w|`, d entries; where the neuron rests or is lost, that of its w.
  int sign = 0;              ///< Of a in the end.
  S rate = S(0);             ///< `sign G(direction)`: norms grow like `exp(2 rate t)`, and fall where it is negative.
  S time = S(0);             ///< Of the last crossing, or of the end of its way.
  Index crossings = 0;       ///< Hyperplanes `<w, x_n> = 0` that it came to; parallel samples share one.
  Index slides = 0;          ///< Hyperplanes on which it stays in the end: it is pushed there from both sides.
  bool has_slid = false;     ///< Whether it stayed on one for a while, or does in the end.
  Index sign_changes = 0;    ///< Of a; there are none from a start with `|a| >= |w|`.
  bool is_dead = false;      ///< Whether `<w, x_n> <= 0` in the end for all samples: it never grows.
  /// The certificate, from the data alone: how far the subdifferential of G at the direction is from a multiple of the
  /// direction, relative to `sum |y_n| |x_n|`. 0 where it no longer turns. A lower bound where it is on hyperplanes
  /// with dependent normals and jumps of both signs: the terms' subdifferentials may add up to more.
  S residual = S(0);
  AlignmentEnd end = AlignmentEnd::unknown;  ///< What the direction is to neurons of this sign.
  Status status = Status::stalled;           ///< tolerance_reached, or stalled where the neuron is lost.
  std::string message = {};                  ///< How it ended.

  /// Whether the direction is where the neuron stays.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// Neurons of one sign that end in one direction.
template <class S = double>
struct AlignedGroup {
  Vector<S> direction = {};
  int sign = 0;
  S rate = S(0);
  AlignmentEnd end = AlignmentEnd::unknown;
  Index slides = 0;                 ///< Hyperplanes that hold them: 0 inside a cone.
  std::vector<Index> members = {};  ///< Neurons, counted from 0.
};

namespace detail {

/// A piece of a neuron's way on which D does not change: `w = across + (p z - q / z) along`, `a = p z + q / z`,
/// `z = exp(rate (t - begin))`, times `exp(log_size)`.
template <class S>
struct AlignmentPiece {
  S begin = S(0);
  S rate = S(0);  // 2 |D|
  S log_size = S(0);
  Vector<S> across = {};
  Vector<S> along = {};
  S p = S(0), q = S(0);

  /// w and a at one time, divided by `exp(log_norm)` so that nothing overflows.
  struct Point {
    Vector<S> w = {};
    S a = S(0);
    S log_norm = S(0);
  };
  [[nodiscard]] Point at(S t) const;
};

/// `G(w) = <linear, w> + sum_h kink_h relu(<w, n_h>)` with unit normals of which no two are parallel.
template <class S>
struct KinkPlanes {
  explicit KinkPlanes(const Dataset<S>& data);

  Matrix<S> normals = {};  // d x H
  Vector<S> kinks = {};    // H
  Vector<S> linear = {};   // d
  S weight = S(0);         // sum |y_n| |x_n|
};

/// The lambda in [0, 1]^m that makes `|b + C lambda|` smallest, C d x m with few columns.
template <class S>
[[nodiscard]] Vector<S> shortest_in_box(const Vector<S>& b, const Matrix<S>& C);

/// See AlignedNeuron::residual.
template <class S>
[[nodiscard]] S alignment_residual(const KinkPlanes<S>& planes, const Vector<S>& direction);

/// See AlignmentEnd: of a critical direction of length 1, to neurons of a sign.
template <class S>
[[nodiscard]] AlignmentEnd alignment_end(const KinkPlanes<S>& planes, const Vector<S>& direction, int sign);

}  // namespace detail

/// The early phase of every neuron: see `early_alignment`.
template <class S = double>
struct [[nodiscard]] EarlyAlignment : Result<EarlyAlignment<S>> {
  std::vector<AlignedNeuron<S>> neurons = {};
  Status status = Status::stalled;  ///< tolerance_reached, or stalled where a neuron is lost.
  std::string message = {};         ///< How it ended.
  std::vector<std::vector<detail::AlignmentPiece<S>>> pieces =
      {};  ///< The ways of the neurons, from which `_at` reads.

  /// Whether every direction is known.
  [[nodiscard]] bool ok() const { return is_success(status); }

  /// Every `w / |w|` at time t >= 0 of the flow, d x h, exactly. (A lost neuron stays where it was lost.) Throws
  /// ArgumentError for a negative or infinite t. Cost: O(h d), and a search among the crossings.
  [[nodiscard]] Matrix<S> directions_at(S t) const;

  /// The parameters of the network at time t, `(w_1, ..., w_h, a)`, in the order of FullyConnected, in the units of the
  /// start; infinite where they overflow. Throws as above.
  [[nodiscard]] Vector<S> parameters_at(S t) const;

  /// The largest rate; 0 where no neuron grows.
  [[nodiscard]] S fastest_rate() const;

  /// When the early phase of the start times alpha ends, to leading order: `log(1/alpha) / (2 fastest_rate())`, when
  /// the fastest neurons have reached a size of order 1. Until `tau` times this time, the flow of the network stays
  /// within order `alpha^(2 - 2 tau)` of its limit. Infinite where no neuron grows. Throws ArgumentError unless alpha <
  /// 1.
  [[nodiscard]] S growth_time(Scale<S> alpha) const;

  /// The directions of the neurons that are not dead, each once for either sign: those within `angle` (in radians) of
  /// the first member. Throws ArgumentError unless angle >= 0. Cost: O(h d) a group.
  [[nodiscard]] std::vector<AlignedGroup<S>> groups(S angle = S(1e-6)) const;

 private:
  [[nodiscard]] std::vector<typename detail::AlignmentPiece<S>::Point> points_at(S t) const;
};

/// Follows the early phase of every neuron of `f(x) = sum_j a_j relu(<w_j, x>)` under `L = |f(X) - y|^2` exactly: the
/// limit of the gradient flow from `(alpha W, alpha a)` as alpha -> 0, at any fixed time. Column j of W, d x h, is w_j;
/// a has h entries. (The scale of the start does not matter, and |a| need not be |w|.)
///
///     const EarlyAlignment<> early = early_alignment(data, W, a).require_ok();
///     for (const auto& group : early.groups()) std::cout << group.direction.transpose() << '\n';
///
/// Between two hyperplanes `<w, x_n> = 0` D is constant, so that w moves in the plane of w and D, by hyperbolic
/// functions; with `delta = a^2 - |w|^2` conserved, the position on the next hyperplane is known in closed form, and
/// the time with it. There a neuron passes, or, where it is pushed back from the other side (`a y_n < 0`), slides: D is
/// then the shortest of the convex combinations of its values around (Filippov's solution, which is unique there). If
/// it starts on a hyperplane, up to rounding, it takes the side where `<w, x_n> < 0` if that does not push it away.
///
/// Lost (`stalled`) are neurons whose way is not unique: with `|a| > |w|`, w may come to 0, where all cones meet (at d
/// = 1 it passes); with `|a| < |w|`, a may change its sign while the neuron slides. Balanced starts, `|a| = |w|`, are
/// never lost.
///
/// Throws DimensionError where the shapes do not fit, NonFiniteError, and ArgumentError where some w_j is 0. Cost:
/// O(N^2 d) once, for parallel samples, and O(N d) a crossing, of which a neuron has about N at most in practice, with
/// O(d m^3) where it slides on m hyperplanes.
template <class S>
[[nodiscard]] EarlyAlignment<S> early_alignment(const Dataset<S>& data, const std::type_identity_t<Matrix<S>>& W,
                                                const std::type_identity_t<Vector<S>>& a);

/// The same of a network and its parameters. Throws ArgumentError too unless it is of depth 2 with one output, no
/// biases and the standard parametrization. (A bias of the first layer is a further input that is 1.)
template <class S>
[[nodiscard]] EarlyAlignment<S> early_alignment(const ReluNetwork<S>& net, const Dataset<S>& data,
                                                const std::type_identity_t<Vector<S>>& w0);

/// A direction as an end of neurons, from the data alone.
template <class S = double>
struct CriticalDirection {
  Vector<S> direction = {};  ///< d entries, of length 1.
  S value = S(0);            ///< G(direction): the rate of neurons with a > 0, and minus that of those with a < 0.
  S residual = S(0);         ///< As AlignedNeuron::residual: 0 up to rounding where it is critical.
  Index kinks = 0;           ///< Hyperplanes `<w, x_n> = 0` that it is on, at which the slope of G jumps.
  bool is_critical = false;  ///< Whether the residual is rounding. If not, it is no end, and repels both signs.
  AlignmentEnd positive = AlignmentEnd::repelling;  ///< What it is to neurons with a > 0.
  AlignmentEnd negative = AlignmentEnd::repelling;  ///< And to those with a < 0.

  /// For the sign of an a.
  [[nodiscard]] AlignmentEnd end(int sign) const { return sign < 0 ? negative : positive; }
};

/// Judges a direction (d entries, of any length) for any d: whether the subdifferential of G has a multiple of it (the
/// critical points of G on the sphere, inside cones and on their faces), and whether it is a local maximum of G or of
/// -G there. Exact, as a local maximum of a function that is linear in every cone is a matter of the cones around it:
///
///     for (const auto& group : early_alignment(data, W, a).groups())
///       std::cout << to_string(critical_direction(data, group.direction).end(group.sign)) << '\n';
///
/// Throws DimensionError unless it has d entries, NonFiniteError, and ArgumentError where it is 0. Cost: O(N^2 d), and
/// with m hyperplanes that it is on, k of which jump upwards, O(2^k d m^3); k is 0 where neurons end, unless the start
/// or the data are constructed for it.
template <class S>
[[nodiscard]] CriticalDirection<S> critical_direction(const Dataset<S>& data,
                                                      const std::type_identity_t<Vector<S>>& direction);

/// A direction on the circle in which neurons may end.
template <class S = double>
struct ExtremalDirection {
  Vector<S> direction = {};  ///< Two entries.
  S angle = S(0);            ///< In (-pi, pi].
  S value = S(0);            ///< G(direction): the rate of neurons with a > 0, and minus that of those with a < 0.
  int attracts = 0;          ///< The sign of a for which neurons turn to it; those of the other sign turn away.
  bool is_kink = false;      ///< Whether some `<direction, x_n> = 0`, where neurons slide.
};

/// All isolated critical directions of G on the circle, d = 2, by angle: its maxima attract neurons with a > 0, its
/// minima those with a < 0. Exact: one candidate in each cone, and its borders. Where G vanishes on a whole cone, every
/// direction of it is at rest, and neither it nor its borders are listed. For d >= 3 there may be some N^(d-1) of them:
/// `early_alignment` finds those in which given neurons end, and `critical_direction` judges any. Throws DimensionError
/// unless d = 2. Cost: O(N^2).
template <class S>
[[nodiscard]] std::vector<ExtremalDirection<S>> extremal_directions(const Dataset<S>& data);

namespace detail {

/// The way of one neuron.
template <class S>
class AlignmentPath {
 public:
  AlignmentPath(const KinkPlanes<S>& planes, Vector<S> w, S a);

  /// Follows it to its end: direction, sign, rate, time, counts and message of `neuron`, whose status is
  /// tolerance_reached unless the neuron is lost.
  [[nodiscard]] std::vector<AlignmentPiece<S>> follow(AlignedNeuron<S>& neuron);

 private:
  static constexpr S rounding = S(32) * std::numeric_limits<S>::epsilon();

  /// Where the present piece ends.
  struct Next {
    enum class Kind { never, plane, sign_change, origin } kind = Kind::never;
    S u = S(0);
  };

  /// Sides of the planes that w is on, from the sign of a, and the D that follows.
  void settle();
  /// Removes from v what is normal to the planes that w slides on.
  void clean(Vector<S>& v) const;
  /// Splits w by D.
  void split();
  [[nodiscard]] Next next() const;
  /// `a + u`, without cancellation.
  [[nodiscard]] S plus(S u, S a) const;
  void move_to(const Next& next);
  /// Sizes near 1.
  void rescale();
  [[nodiscard]] bool is_sliding() const { return std::find(side_.begin(), side_.end(), 0) != side_.end(); }

  const KinkPlanes<S>& planes_;
  Vector<S> w_;
  S a_;
  S delta_;
  S sign_;
  S log_size_ = S(0);
  S t_ = S(0);
  std::vector<int> side_;  // of each plane; 0: slides on it
  Vector<S> D_;
  S D_norm_ = S(0);
  // w = across + u along, a^2 - u^2 = excess
  Vector<S> along_, across_;
  S u_ = S(0);
  S excess_ = S(0);
};

template <class S>
auto AlignmentPiece<S>::at(S t) const -> Point {
  using std::exp;
  const S growth = rate * (t - begin);
  const S z = exp(-growth);
  // Divided by z where the neuron grows, multiplied where it falls for good.
  if (p == S(0)) {
    if (across.squaredNorm() > S(0)) return {across - q * z * along, q * z, log_size};
    return {-q * along, q, log_size - growth};
  }
  return {across * z + (p - q * z * z) * along, p + q * z * z, log_size + growth};
}

template <class S>
KinkPlanes<S>::KinkPlanes(const Dataset<S>& data) {
  using std::abs;
  const Matrix<S>& X = data.X();
  const Vector<S>& y = data.y();
  constexpr S tolerance = S(8) * std::numeric_limits<S>::epsilon();
  linear = Vector<S>::Zero(X.cols());
  normals.resize(X.cols(), X.rows());
  kinks = Vector<S>::Zero(X.rows());
  Vector<S> sums = Vector<S>::Zero(X.rows());
  Index count = 0;
  for (Index n = 0; n < X.rows(); ++n) {
    const S length = X.row(n).norm();
    const S pull = y[n] * length;
    if (pull == S(0)) continue;
    const Vector<S> normal = X.row(n).transpose() / length;
    weight += abs(pull);
    Index h = 0;
    bool is_opposite = false;
    for (; h < count; ++h) {
      is_opposite = normal.dot(normals.col(h)) < S(0);
      if ((is_opposite ? (normals.col(h) + normal).eval() : (normals.col(h) - normal).eval()).norm() <= tolerance)
        break;
    }
    if (h == count) {
      is_opposite = false;
      normals.col(count++) = normal;
    }
    // relu(-z) = relu(z) - z.
    if (is_opposite) linear -= pull * normals.col(h);
    kinks[h] += pull;
    sums[h] += abs(pull);
  }
  Index kept = 0;
  for (Index h = 0; h < count; ++h) {
    if (abs(kinks[h]) <= tolerance * sums[h]) continue;
    normals.col(kept) = normals.col(h).eval();
    kinks[kept++] = kinks[h];
  }
  normals.conservativeResize(Eigen::NoChange, kept);
  kinks.conservativeResize(kept);
}

template <class S>
Vector<S> shortest_in_box(const Vector<S>& b, const Matrix<S>& C) {
  using std::abs;
  const Index m = C.cols();
  Vector<S> lambda = Vector<S>::Zero(m);
  std::vector<Index> free;
  const S tolerance = S(16) * std::numeric_limits<S>::epsilon() * (b.norm() + C.colwise().norm().sum());
  for (Index round = 0; round < 10 * (m + 1); ++round) {
    const Vector<S> r = b + C * lambda;
    Index worst = -1;
    S most = tolerance;
    for (Index i = 0; i < m; ++i) {
      if (std::find(free.begin(), free.end(), i) != free.end()) continue;
      const S slope = C.col(i).dot(r) / C.col(i).norm();
      const S gain = lambda[i] == S(0) ? -slope : slope;
      if (gain > most) {
        most = gain;
        worst = i;
      }
    }
    if (worst < 0) break;
    free.push_back(worst);
    while (!free.empty()) {
      Matrix<S> A(C.rows(), static_cast<Index>(free.size()));
      Vector<S> now(A.cols());
      for (std::size_t k = 0; k < free.size(); ++k) {
        A.col(static_cast<Index>(k)) = C.col(free[k]);
        now[static_cast<Index>(k)] = lambda[free[k]];
      }
      const Vector<S> step = A.colPivHouseholderQr().solve(-(b + C * lambda));
      S share(1);
      std::size_t first = free.size();
      for (std::size_t k = 0; k < free.size(); ++k) {
        const S change = step[static_cast<Index>(k)], from = now[static_cast<Index>(k)];
        const S room = change > S(0) ? S(1) - from : from;
        if (abs(change) > room && room / abs(change) < share) {
          share = room / abs(change);
          first = k;
        }
      }
      for (std::size_t k = 0; k < free.size(); ++k)
        lambda[free[k]] = std::clamp(now[static_cast<Index>(k)] + share * step[static_cast<Index>(k)], S(0), S(1));
      if (first == free.size()) break;
      lambda[free[first]] = step[static_cast<Index>(first)] > S(0) ? S(1) : S(0);
      free.erase(free.begin() + static_cast<std::ptrdiff_t>(first));
    }
  }
  return lambda;
}

template <class S>
S alignment_residual(const KinkPlanes<S>& planes, const Vector<S>& direction) {
  using std::abs;
  if (planes.weight == S(0)) return S(0);
  const auto across = [&](const Vector<S>& v) -> Vector<S> { return v - v.dot(direction) * direction; };
  Vector<S> pull = planes.linear;
  Matrix<S> kinks(direction.size(), planes.kinks.size());
  Index count = 0;
  for (Index h = 0; h < planes.kinks.size(); ++h) {
    const S z = planes.normals.col(h).dot(direction);
    const Vector<S> term = planes.kinks[h] * planes.normals.col(h);
    if (abs(z) <= S(256) * std::numeric_limits<S>::epsilon())
      kinks.col(count++) = across(term);
    else if (z > S(0))
      pull += term;
  }
  pull = across(pull);
  kinks.conservativeResize(Eigen::NoChange, count);
  const Vector<S> lambda = shortest_in_box<S>(pull, kinks);
  return (pull + kinks * lambda).norm() / planes.weight;
}

template <class S>
AlignmentEnd alignment_end(const KinkPlanes<S>& planes, const Vector<S>& direction, int sign) {
  using std::abs;
  using std::sqrt;
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  constexpr std::size_t most_convex = 12;
  const S s = sign < 0 ? S(-1) : S(1);
  const S rounding = S(1e3) * epsilon * planes.weight;
  const Index d = direction.size();
  const auto across = [&](const Vector<S>& v) -> Vector<S> { return v - v.dot(direction) * direction; };
  // s G(u + v) = s G(u) + <pull, v> + sum_h s kink_h relu(<n_h, v>) for small v across u, h over the planes through u.
  Vector<S> pull = s * planes.linear;
  std::vector<Index> concave, convex;
  for (Index h = 0; h < planes.kinks.size(); ++h) {
    const S z = planes.normals.col(h).dot(direction);
    if (abs(z) <= S(256) * epsilon)
      (s * planes.kinks[h] < S(0) ? concave : convex).push_back(h);
    else if (z > S(0))
      pull += s * planes.kinks[h] * planes.normals.col(h);
  }
  const S value = pull.dot(direction);
  pull = across(pull);
  if (convex.size() > most_convex) return AlignmentEnd::unknown;
  Matrix<S> C(d, static_cast<Index>(concave.size()));
  for (Index i = 0; i < C.cols(); ++i) {
    const Index h = concave[static_cast<std::size_t>(i)];
    C.col(i) = across(s * planes.kinks[h] * planes.normals.col(h));
  }
  // What is linear or concave is nowhere positive if 0 is among its slopes, and negative but at 0 if it is inside: in a
  // smaller box of coefficients, of columns that span all directions across u.
  const S inside = sqrt(epsilon);
  bool is_sharp = d == 1;
  if (C.cols() > 0) {
    Eigen::ColPivHouseholderQR<Matrix<S>> factor(C);
    factor.setThreshold(S(64) * epsilon);
    is_sharp = is_sharp || factor.rank() == d - 1;
  }
  // The convex terms are the largest of the sums of their parts.
  for (std::size_t part = 0; part < std::size_t(1) << convex.size(); ++part) {
    Vector<S> slope = pull;
    for (std::size_t i = 0; i < convex.size(); ++i)
      if ((part >> i & 1U) != 0) slope += across(s * planes.kinks[convex[i]] * planes.normals.col(convex[i]));
    if (!((slope + C * shortest_in_box<S>(slope, C)).norm() <= rounding)) return AlignmentEnd::repelling;
    if (!is_sharp) continue;
    slope += inside * C.rowwise().sum();
    const Matrix<S> smaller = (S(1) - S(2) * inside) * C;
    is_sharp = (slope + smaller * shortest_in_box<S>(slope, smaller)).norm() <= rounding;
  }
  // The sphere bends away: s G of the direction of u + v is s G(u + v) / sqrt(1 + |v|^2).
  if (is_sharp || value > rounding) return AlignmentEnd::attracting;
  return value >= -rounding ? AlignmentEnd::resting : AlignmentEnd::repelling;
}

template <class S>
AlignmentPath<S>::AlignmentPath(const KinkPlanes<S>& planes, Vector<S> w, S a)
    : planes_(planes), w_(std::move(w)), a_(a), delta_(S(0)), sign_(S(0)), D_(planes.linear) {
  using std::abs;
  rescale();
  delta_ = a_ * a_ - w_.squaredNorm();
  // What is balanced to rounding is balanced.
  if (abs(delta_) <= rounding) delta_ = S(0);
  if (a_ != S(0)) sign_ = a_ > S(0) ? S(1) : S(-1);
  side_.resize(static_cast<std::size_t>(planes_.kinks.size()));
  for (std::size_t h = 0; h < side_.size(); ++h)
    side_[h] = planes_.normals.col(static_cast<Index>(h)).dot(w_) > rounding * w_.norm() ? 1 : -1;
  if (sign_ == S(0)) {
    // The planes that w is on do not count in <w, D>.
    for (std::size_t h = 0; h < side_.size(); ++h)
      if (side_[h] > 0) D_ += planes_.kinks[static_cast<Index>(h)] * planes_.normals.col(static_cast<Index>(h));
    const S slope = w_.dot(D_);
    if (abs(slope) > rounding * planes_.weight * w_.norm()) sign_ = slope > S(0) ? S(1) : S(-1);
  }
}

template <class S>
void AlignmentPath<S>::rescale() {
  using std::hypot;
  using std::log;
  const S size = hypot(w_.stableNorm(), a_);
  w_ /= size;
  a_ /= size;
  delta_ /= size * size;
  log_size_ += log(size);
}

template <class S>
void AlignmentPath<S>::settle() {
  using std::abs;
  Vector<S> base = planes_.linear;
  std::vector<Index> passing, pushing;
  const S on_plane = rounding * w_.norm();
  for (std::size_t h = 0; h < side_.size(); ++h) {
    const Index k = static_cast<Index>(h);
    if (side_[h] == 0 || abs(planes_.normals.col(k).dot(w_)) <= on_plane)
      (sign_ * planes_.kinks[k] < S(0) ? pushing : passing).push_back(k);
    else if (side_[h] > 0)
      base += planes_.kinks[k] * planes_.normals.col(k);
  }
  Matrix<S> C(planes_.linear.size(), static_cast<Index>(pushing.size()));
  for (Index i = 0; i < C.cols(); ++i) {
    const Index k = pushing[static_cast<std::size_t>(i)];
    C.col(i) = planes_.kinks[k] * planes_.normals.col(k);
  }
  Vector<S> lambda;
  // Each plane passed pushes on in the direction in which it was passed, so that few rounds are needed.
  for (std::size_t round = 0; round <= 2 * passing.size(); ++round) {
    D_ = base;
    for (const Index k : passing)
      if (side_[static_cast<std::size_t>(k)] > 0) D_ += planes_.kinks[k] * planes_.normals.col(k);
    lambda = shortest_in_box<S>(D_, C);
    D_ += C * lambda;
    bool is_settled = true;
    for (const Index k : passing) {
      int& side = side_[static_cast<std::size_t>(k)];
      if (sign_ * static_cast<S>(side) * planes_.normals.col(k).dot(D_) >= -rounding * planes_.weight) continue;
      side = -side;
      is_settled = false;
    }
    if (is_settled) break;
  }
  for (Index i = 0; i < lambda.size(); ++i)
    side_[static_cast<std::size_t>(pushing[static_cast<std::size_t>(i)])] =
        lambda[i] <= S(0) ? -1 : (lambda[i] >= S(1) ? 1 : 0);
}

template <class S>
void AlignmentPath<S>::clean(Vector<S>& v) const {
  Matrix<S> N(planes_.linear.size(), static_cast<Index>(std::count(side_.begin(), side_.end(), 0)));
  if (N.cols() == 0) return;
  Index count = 0;
  for (std::size_t h = 0; h < side_.size(); ++h)
    if (side_[h] == 0) N.col(count++) = planes_.normals.col(static_cast<Index>(h));
  v -= N * N.colPivHouseholderQr().solve(v).eval();
}

template <class S>
void AlignmentPath<S>::split() {
  clean(D_);
  clean(w_);
  D_norm_ = D_.norm();
  if (D_norm_ <= rounding * planes_.weight) {
    D_norm_ = S(0);
    return;
  }
  along_ = D_ / D_norm_;
  u_ = along_.dot(w_);
  across_ = w_ - u_ * along_;
  across_ -= along_.dot(across_) * along_;
  if (across_.norm() <= rounding * w_.norm()) across_.setZero();
  excess_ = delta_ + across_.squaredNorm();
}

template <class S>
auto AlignmentPath<S>::next() const -> Next {
  using std::sqrt;
  Next first;
  // D is known to this, and `shortest_in_box` stops at half of it: what moves no faster does not move.
  const S level = rounding * planes_.weight / D_norm_;
  // Along the clock sign u, which only rises.
  S reach = std::numeric_limits<S>::infinity();
  if (sign_ * u_ < S(0)) {
    if (excess_ < S(0)) {
      first = {Next::Kind::sign_change, -sign_ * sqrt(-excess_)};
      reach = sign_ * first.u;
    } else if (excess_ == S(0)) {
      reach = S(0);  // in infinite time
    } else if (across_.squaredNorm() == S(0) && w_.size() > 1) {
      first = {Next::Kind::origin, S(0)};
      reach = S(0);
    }
  }
  for (std::size_t h = 0; h < side_.size(); ++h) {
    const auto normal = planes_.normals.col(static_cast<Index>(h));
    const S c = normal.dot(along_);
    if (sign_ * c * static_cast<S>(side_[h]) >= -level) continue;
    const S u = sign_ * std::max<S>(-sign_ * normal.dot(across_) / c, sign_ * u_);
    if (sign_ * u >= reach) continue;
    reach = sign_ * u;
    first = {Next::Kind::plane, u};
  }
  return first;
}

template <class S>
S AlignmentPath<S>::plus(S u, S a) const {
  return sign_ * u >= S(0) ? a + u : excess_ / (a - u);
}

template <class S>
void AlignmentPath<S>::move_to(const Next& next) {
  using std::log;
  using std::sqrt;
  const bool has_zero = next.kind == Next::Kind::sign_change;
  const S a = has_zero ? S(0) : sign_ * sqrt(std::max<S>(excess_ + next.u * next.u, S(0)));
  const bool both_fall = sign_ * u_ < S(0) && sign_ * next.u < S(0);
  const S ratio = both_fall ? (a_ - u_) / (a - next.u) : plus(next.u, a) / plus(u_, a_);
  t_ += std::max<S>(log(ratio), S(0)) / (S(2) * D_norm_);
  w_ = across_ + next.u * along_;
  a_ = a;
  if (has_zero) sign_ = next.u > S(0) ? S(1) : S(-1);
}

template <class S>
std::vector<AlignmentPiece<S>> AlignmentPath<S>::follow(AlignedNeuron<S>& neuron) {
  using std::sqrt;
  std::vector<AlignmentPiece<S>> pieces;
  const Vector<S> zero = Vector<S>::Zero(w_.size());
  const auto rest = [&] { pieces.push_back({t_, S(0), log_size_, w_, zero, a_, S(0)}); };
  const auto lose = [&](const char* reason) {
    rest();
    neuron.status = Status::stalled;
    neuron.message = concat("lost at time ", t_, ": ", reason);
  };
  neuron.status = Status::tolerance_reached;
  const std::size_t most = 100 * (side_.size() + 1);
  bool is_new_sign = false;
  while (true) {
    if (sign_ != S(0) && !is_new_sign) settle();
    is_new_sign = false;
    split();
    if (sign_ == S(0) || D_norm_ == S(0)) {
      if (w_.squaredNorm() == S(0)) {
        neuron.direction = zero;
        lose("its incoming weights end at 0");
        break;
      }
      rest();
      neuron.direction = w_.normalized();
      neuron.message = "no force acts on it any more";
      break;
    }
    neuron.has_slid = neuron.has_slid || is_sliding();
    // Conserved: a^2 - u^2. The smaller of a + u and a - u follows from the other.
    if (a_ != S(0)) a_ = sign_ * sqrt(std::max<S>(excess_ + u_ * u_, S(0)));
    const bool is_rising = sign_ * u_ >= S(0);
    const S p = plus(u_, a_) / S(2);
    const S q = (is_rising ? excess_ / (a_ + u_) : a_ - u_) / S(2);
    const Next end = next();
    pieces.push_back({t_, S(2) * D_norm_, log_size_, across_, along_, p, q});
    if (end.kind == Next::Kind::never) {
      neuron.rate = D_norm_;
      neuron.direction = sign_ * along_;
      if (p == S(0)) {
        const bool is_across = across_.squaredNorm() > S(0);
        neuron.direction = is_across ? across_.normalized().eval() : (-sign_ * along_).eval();
        neuron.rate = is_across ? S(0) : -D_norm_;
      }
      neuron.message = "it turns to its direction for good";
      break;
    }
    move_to(end);
    if (end.kind == Next::Kind::origin) {
      w_ = u_ * along_;
      neuron.direction = w_.normalized();
      lose("its incoming weights pass 0, where its direction jumps");
      break;
    }
    if (end.kind == Next::Kind::sign_change) {
      ++neuron.sign_changes;
      is_new_sign = true;
      if (is_sliding()) {
        neuron.direction = w_.normalized();
        lose(
            "its outgoing weight changes its sign while the neuron is on a hyperplane, which it may leave to either "
            "side");
        break;
      }
    } else {
      ++neuron.crossings;
    }
    rescale();
    if (pieces.size() >= most) {
      neuron.direction = w_.normalized();
      lose("it reaches hyperplanes again and again");
      break;
    }
  }
  neuron.sign = sign_ > S(0) ? 1 : (sign_ < S(0) ? -1 : 0);
  neuron.time = t_;
  neuron.slides = static_cast<Index>(std::count(side_.begin(), side_.end(), 0));
  return pieces;
}

}  // namespace detail

template <class S>
auto EarlyAlignment<S>::points_at(S t) const -> std::vector<typename detail::AlignmentPiece<S>::Point> {
  using std::isfinite;
  require(t >= S(0) && isfinite(t), "t must be at least 0 and finite, got ", t);
  std::vector<typename detail::AlignmentPiece<S>::Point> points;
  for (const auto& way : pieces)
    points.push_back(std::prev(std::upper_bound(way.begin(), way.end(), t, [](S time, const auto& piece) {
                       return time < piece.begin;
                     }))->at(t));
  return points;
}

template <class S>
Matrix<S> EarlyAlignment<S>::directions_at(S t) const {
  const auto points = points_at(t);
  Matrix<S> directions(points.empty() ? 0 : points.front().w.size(), static_cast<Index>(points.size()));
  for (std::size_t j = 0; j < points.size(); ++j) directions.col(static_cast<Index>(j)) = points[j].w.normalized();
  return directions;
}

template <class S>
Vector<S> EarlyAlignment<S>::parameters_at(S t) const {
  using std::exp;
  const auto points = points_at(t);
  const Index h = static_cast<Index>(points.size()), d = points.empty() ? 0 : points.front().w.size();
  Vector<S> w(h * (d + 1));
  for (Index j = 0; j < h; ++j) {
    const auto& point = points[static_cast<std::size_t>(j)];
    const S size = exp(point.log_norm);
    // An entry that is 0 stays so where the others overflow.
    const auto sized = [size](S x) { return x == S(0) ? x : size * x; };
    w.segment(j * d, d) = point.w.unaryExpr(sized);
    w[h * d + j] = sized(point.a);
  }
  return w;
}

template <class S>
S EarlyAlignment<S>::fastest_rate() const {
  S fastest(0);
  for (const AlignedNeuron<S>& neuron : neurons) fastest = std::max(fastest, neuron.rate);
  return fastest;
}

template <class S>
S EarlyAlignment<S>::growth_time(Scale<S> alpha) const {
  require(alpha.log() < S(0), "log alpha must be negative, got ", alpha.log());
  return -alpha.log() / (S(2) * fastest_rate());
}

template <class S>
std::vector<AlignedGroup<S>> EarlyAlignment<S>::groups(S angle) const {
  using std::asin;
  require(angle >= S(0), "angle must be at least 0, got ", angle);
  std::vector<AlignedGroup<S>> all;
  for (std::size_t j = 0; j < neurons.size(); ++j) {
    const AlignedNeuron<S>& neuron = neurons[j];
    if (neuron.is_dead) continue;
    const auto same = std::find_if(all.begin(), all.end(), [&](const AlignedGroup<S>& group) {
      const S sine = (neuron.direction - group.direction).norm() / S(2);
      return neuron.sign == group.sign && S(2) * asin(std::min<S>(sine, S(1))) <= angle;
    });
    if (same == all.end())
      all.push_back({neuron.direction, neuron.sign, neuron.rate, neuron.end, neuron.slides, {static_cast<Index>(j)}});
    else
      same->members.push_back(static_cast<Index>(j));
  }
  return all;
}

template <class S>
EarlyAlignment<S> early_alignment(const Dataset<S>& data, const std::type_identity_t<Matrix<S>>& W,
                                  const std::type_identity_t<Vector<S>>& a) {
  require<DimensionError>(W.rows() == data.num_inputs(), "W has ", W.rows(),
                          " rows where X has d = ", data.num_inputs(), " columns");
  require<DimensionError>(W.cols() > 0, "W has no columns: there is no neuron");
  require_size("a", a.size(), W.cols());
  require_finite("W", W);
  require_finite("a", a);
  const S rounding = S(1e3) * std::numeric_limits<S>::epsilon();
  const detail::KinkPlanes<S> planes(data);
  EarlyAlignment<S> early;
  Index lost = 0, dead = 0;
  S worst(0);
  for (Index j = 0; j < W.cols(); ++j) {
    const S size = W.col(j).stableNorm();
    require(size > S(0), "column ", j, " of W is 0: a neuron without direction");
    AlignedNeuron<S> neuron;
    early.pieces.push_back(detail::AlignmentPath<S>(planes, W.col(j), a[j]).follow(neuron));
    neuron.is_dead = ((data.X() * neuron.direction).array() <= rounding * data.X().rowwise().norm().array()).all();
    neuron.residual = detail::alignment_residual<S>(planes, neuron.direction);
    if (neuron.ok() && !(neuron.residual <= rounding)) {
      neuron.status = Status::stalled;
      neuron.message += detail::concat(", but the direction is not critical: residual ", neuron.residual);
    }
    if (neuron.ok()) {
      neuron.end = detail::alignment_end<S>(planes, neuron.direction, neuron.sign);
      // Of no sign: what it is to either.
      if (neuron.sign == 0) neuron.end = std::max(neuron.end, detail::alignment_end<S>(planes, neuron.direction, -1));
      dead += neuron.is_dead ? 1 : 0;
      worst = std::max(worst, neuron.residual);
    } else if (lost++ == 0) {
      early.message = detail::concat("neuron ", j, " is ", neuron.message);
    }
    early.neurons.push_back(std::move(neuron));
  }
  early.status = lost == 0 ? Status::tolerance_reached : Status::stalled;
  early.message = lost == 0 ? detail::concat("the directions of ", W.cols(), " neurons, ", dead,
                                             " of them dead; largest residual ", worst)
                            : detail::concat(lost, " of ", W.cols(), " neurons have no direction: ", early.message);
  return early;
}

template <class S>
EarlyAlignment<S> early_alignment(const ReluNetwork<S>& net, const Dataset<S>& data,
                                  const std::type_identity_t<Vector<S>>& w0) {
  require(net.depth() == 2, "the network must have depth 2, got ", net.depth());
  require(net.num_outputs() == 1, "the network must have one output, got ", net.num_outputs());
  require(!net.has_biases(), "the network has biases; for one of the first layer add an input that is 1");
  for (const auto& layer : net.layers())
    require(layer.multiplier == S(1), "the network must have the standard parametrization, and a layer has the factor ",
            layer.multiplier);
  require_size("w0", w0.size(), net.num_parameters());
  return early_alignment<S>(data, net.weights(w0, 1), net.weights(w0, 2).col(0));
}

template <class S>
CriticalDirection<S> critical_direction(const Dataset<S>& data, const std::type_identity_t<Vector<S>>& direction) {
  using std::abs;
  require_size("direction", direction.size(), data.num_inputs());
  require_finite("direction", direction);
  const S largest = direction.cwiseAbs().maxCoeff();
  require(largest > S(0), "direction is 0");
  const detail::KinkPlanes<S> planes(data);
  CriticalDirection<S> found;
  // Its length may overflow, or be too small to divide by.
  found.direction = (direction / largest).normalized();
  found.value = data.y().dot((data.X() * found.direction).cwiseMax(S(0)));
  found.residual = detail::alignment_residual<S>(planes, found.direction);
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  found.kinks = ((planes.normals.transpose() * found.direction).array().abs() <= S(256) * epsilon).count();
  found.is_critical = found.residual <= S(1e3) * epsilon;
  if (!found.is_critical) return found;
  found.positive = detail::alignment_end<S>(planes, found.direction, 1);
  found.negative = detail::alignment_end<S>(planes, found.direction, -1);
  return found;
}

template <class S>
std::vector<ExtremalDirection<S>> extremal_directions(const Dataset<S>& data) {
  using std::atan2;
  require<DimensionError>(data.num_inputs() == 2, "X must have d = 2 columns, got ", data.num_inputs(),
                          " (for more, early_alignment finds the directions in which neurons end)");
  const detail::KinkPlanes<S> planes(data);
  const S rounding = S(64) * std::numeric_limits<S>::epsilon() * planes.weight;
  // The borders of the cones, by angle, with their hyperplanes.
  std::vector<std::pair<S, Vector<S>>> borders;
  for (Index h = 0; h < planes.kinks.size(); ++h)
    for (const S side : {S(1), S(-1)}) {
      const Vector<S> border{{-side * planes.normals(1, h), side * planes.normals(0, h)}};
      borders.emplace_back(atan2(border[1], border[0]), border);
    }
  std::sort(borders.begin(), borders.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ExtremalDirection<S>> all;
  const auto cross = [](const Vector<S>& a, const Vector<S>& b) { return a[0] * b[1] - a[1] * b[0]; };
  const auto add = [&](const Vector<S>& direction, S value, int attracts, bool is_kink) {
    all.push_back({direction, atan2(direction[1], direction[0]), value, attracts, is_kink});
  };
  if (borders.empty()) {
    const S norm = planes.linear.norm();
    if (norm > rounding)
      for (const int side : {1, -1})
        add(static_cast<S>(side) * planes.linear / norm, static_cast<S>(side) * norm, side, false);
    return all;
  }
  // D in the cone behind each border.
  const std::size_t count = borders.size();
  std::vector<Vector<S>> pulls;
  for (std::size_t k = 0; k < count; ++k) {
    const Vector<S>& from = borders[k].second;
    Vector<S> middle = from + borders[(k + 1) % count].second;
    if (count == 2) middle = Vector<S>{{-from[1], from[0]}};
    Vector<S> D = planes.linear;
    for (Index h = 0; h < planes.kinks.size(); ++h)
      if (planes.normals.col(h).dot(middle) > S(0)) D += planes.kinks[h] * planes.normals.col(h);
    pulls.push_back(std::move(D));
  }
  for (std::size_t k = 0; k < count; ++k) {
    const Vector<S>&border = borders[k].second, &next = borders[(k + 1) % count].second, &D = pulls[k];
    // The slope of G by the angle before and behind the border.
    const S before = cross(border, pulls[(k + count - 1) % count]), behind = cross(border, D);
    if (before > rounding && behind < -rounding) add(border, border.dot(D), 1, true);
    if (before < -rounding && behind > rounding) add(border, border.dot(D), -1, true);
    const S norm = D.norm();
    if (norm <= rounding) continue;
    for (const int side : {1, -1}) {
      const Vector<S> direction = static_cast<S>(side) * D / norm;
      if (cross(border, direction) * norm > rounding && cross(direction, next) * norm > rounding)
        add(direction, static_cast<S>(side) * norm, side, false);
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.angle < b.angle; });
  return all;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_EARLY_ALIGNMENT(prefix, S)                                                             \
  prefix template struct detail::KinkPlanes<S>;                                                                     \
  prefix template class detail::AlignmentPath<S>;                                                                   \
  prefix template Vector<S> detail::shortest_in_box<S>(const Vector<S>&, const Matrix<S>&);                         \
  prefix template S detail::alignment_residual<S>(const detail::KinkPlanes<S>&, const Vector<S>&);                  \
  prefix template AlignmentEnd detail::alignment_end<S>(const detail::KinkPlanes<S>&, const Vector<S>&, int);       \
  prefix template CriticalDirection<S> critical_direction<S>(const Dataset<S>&, const Vector<S>&);                  \
  prefix template struct EarlyAlignment<S>;                                                                         \
  prefix template EarlyAlignment<S> early_alignment<S>(const Dataset<S>&, const Matrix<S>&, const Vector<S>&);      \
  prefix template EarlyAlignment<S> early_alignment<S>(const ReluNetwork<S>&, const Dataset<S>&, const Vector<S>&); \
  prefix template std::vector<ExtremalDirection<S>> extremal_directions<S>(const Dataset<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EARLY_ALIGNMENT)
