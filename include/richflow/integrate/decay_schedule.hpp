#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/weight_decay.hpp"

namespace richflow {

/// A part of a schedule of weight decay.
template <class S = double>
struct DecayPiece {
  S lambda = S(0);    ///< finite, >= 0
  S duration = S(0);  ///< finite, > 0
};

/// Weight decay lambda(t) >= 0 over the time of a run, with its integral Lambda: a number, pieces of constant decay, or
/// a function. It is what WithWeightDecay runs with and what DecayingDualFlow and `predicted_start` foresee.
///
///     const DecaySchedule<> schedule({{0.1, 20.0}});        // 0.1 until t = 20, then none
///     DecaySchedule<>([](double t) { return 0.1 * std::exp(-t); })
///     integrate(WithWeightDecay(GradientFlow(net, data), schedule), ...);
///     DecayingDualFlow(net, data, start, schedule);
///
/// Lambda is exact for numbers and pieces, and up to rounding for smooth functions: Gauss-Kronrod rules, adaptive, from
/// where it was asked for last. Take pieces for jumps: one close to an end of a long step lies between two nodes of a
/// rule. Calls share the memory of the last one: give each thread its own copy.
template <class S = double>
class DecaySchedule {
 public:
  /// Number type.
  using Scalar = S;

  /// Constant decay. Throws ArgumentError unless lambda is finite and not negative.
  DecaySchedule(S lambda = S(0)) : constant_(lambda) { check(lambda, "lambda"); }  // NOLINT: a number is a schedule
  /// One piece after the other from t = 0 on, no decay after the last. Throws ArgumentError for no pieces, or one whose
  /// lambda or duration is out of range.
  explicit DecaySchedule(std::vector<DecayPiece<S>> pieces);
  /// `lambda(t)`, t >= 0. What is negative or not finite makes lambda and Lambda NaN, which ends a run as non_finite.
  template <class F, class = std::enable_if_t<std::is_invocable_r_v<S, const F&, S> && !std::is_arithmetic_v<F> &&
                                              !std::is_same_v<F, DecaySchedule>>>
  DecaySchedule(F lambda) : function_(std::move(lambda)) {}  // NOLINT: a function is a schedule

  /// Whether lambda is one number.
  [[nodiscard]] bool is_constant() const { return pieces_.empty() && !function_; }
  /// Whether there is never any decay.
  [[nodiscard]] bool is_zero() const { return is_constant() && constant_ == S(0); }
  /// The pieces, if it is made of those.
  [[nodiscard]] const std::vector<DecayPiece<S>>& pieces() const { return pieces_; }

  /// lambda(t).
  [[nodiscard]] S operator()(S t) const;
  /// Lambda(t), the integral of lambda from 0 to t.
  [[nodiscard]] S integral(S t) const;

 private:
  static void check(S lambda, const char* name) {
    using std::isfinite;
    require(isfinite(lambda) && lambda >= S(0), name, " must be finite and not negative, got ", lambda);
  }
  /// The integral of the function over [from, to], in parts until it is one up to rounding of `size`.
  [[nodiscard]] S quadrature(S from, S to, S size, int splits) const;

  S constant_ = S(0);
  std::vector<DecayPiece<S>> pieces_ = {};
  std::function<S(S)> function_ = {};
  mutable S latest_ = S(0);  // time, and Lambda there
  mutable S integral_ = S(0);
};

template <class S>
DecaySchedule<S>::DecaySchedule(std::vector<DecayPiece<S>> pieces) : pieces_(std::move(pieces)) {
  using std::isfinite;
  require(!pieces_.empty(), "pieces is empty: a schedule without decay is DecaySchedule(0)");
  for (const DecayPiece<S>& piece : pieces_) {
    check(piece.lambda, "lambda of a piece");
    require(isfinite(piece.duration) && piece.duration > S(0), "duration of a piece must be positive and finite, got ",
            piece.duration);
  }
}

template <class S>
S DecaySchedule<S>::operator()(S t) const {
  if (function_) return detail::valid_decay<S>(function_(t));
  if (pieces_.empty()) return constant_;
  S end(0);
  for (const DecayPiece<S>& piece : pieces_) {
    end += piece.duration;
    if (t < end) return piece.lambda;
  }
  return S(0);
}

template <class S>
S DecaySchedule<S>::integral(S t) const {
  if (function_) {
    if (t != latest_) {
      const S next = integral_ + quadrature(latest_, t, integral_, 0);
      // NaN is not to be remembered: the function may be sound elsewhere.
      if (!(next == next)) return next;
      integral_ = next;
      latest_ = t;
    }
    return integral_;
  }
  if (pieces_.empty()) return constant_ * t;
  S sum(0), rest = t;
  for (const DecayPiece<S>& piece : pieces_) {
    sum += piece.lambda * std::min(rest, piece.duration);
    rest -= piece.duration;
    if (!(rest > S(0))) break;
  }
  return sum;
}

template <class S>
S DecaySchedule<S>::quadrature(S from, S to, S size, int splits) const {
  using std::abs;
  // Kronrod's 15 nodes on [0, 1] and their weights, every second one of Gauss.
  static constexpr double nodes[] = {0.991455371120812639206854697526329, 0.949107912342758524526189684047851,
                                     0.864864423359769072789712788640926, 0.741531185599394439863864773280788,
                                     0.586087235467691130294144691693016, 0.405845151377397166906606412076961,
                                     0.207784955007898467600689403773245};
  static constexpr double weights[] = {0.022935322010529224963732008058970, 0.063092092629978553290700663189204,
                                       0.104790010322250183839876322541518, 0.140653259715525918745189590510238,
                                       0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
                                       0.204432940075298892414161999234649};
  static constexpr double center_weight = 0.209482141084727828012999174891714;
  static constexpr double gauss[] = {0.129484966168869693270611432679082, 0.279705391489276667901467771423780,
                                     0.381830050505118944950369775488975};
  static constexpr double gauss_center = 0.417959183673469387755102040816327;
  const S center = (from + to) / S(2), half = (to - from) / S(2);
  const S middle = (*this)(center);
  S kronrod = static_cast<S>(center_weight) * middle, of_gauss = static_cast<S>(gauss_center) * middle;
  for (int k = 0; k < 7; ++k) {
    const S shift = half * static_cast<S>(nodes[k]);
    const S both = (*this)(center - shift) + (*this)(center + shift);
    kronrod += static_cast<S>(weights[k]) * both;
    if (k % 2 == 1) of_gauss += static_cast<S>(gauss[k / 2]) * both;
  }
  const S found = half * kronrod;
  constexpr S eps = std::numeric_limits<S>::epsilon();
  const S error = abs(half * (kronrod - of_gauss));
  // What Gauss errs by is far above the error of Kronrod, QUADPACK's (200 e)^(3/2).
  const S relative = S(200) * error / std::max(abs(found), std::numeric_limits<S>::min());
  const bool is_sharp = relative * relative * relative < eps * eps;
  if (is_sharp || !(error > eps * (abs(size) + abs(found))) || splits == 60) return found;
  return quadrature(from, center, size, splits + 1) + quadrature(center, to, size, splits + 1);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DECAY_SCHEDULE(prefix, S) prefix template class DecaySchedule<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DECAY_SCHEDULE)
