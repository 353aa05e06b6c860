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
/// a function. WithWeightDecay runs with it; DecayingDualFlow and `predicted_start` predict such runs.
///
///     const DecaySchedule<> schedule({{0.1, 20.0}});        // 0.1 until t = 20, then none
///     DecaySchedule<>([](double t) { return 0.1 * std::exp(-t); })
///     integrate(WithWeightDecay(GradientFlow(net, data), schedule), w0, span, stepper, controller);
///     DecayingDualFlow(net, data, start, schedule);
///
/// Lambda is exact for numbers and pieces. For functions it is the adaptive quadrature of Gauss and Kronrod from where
/// it was asked for last, up to rounding of Lambda or, where that is more, to the rounding of the function itself (it
/// takes many jumps in a row below a millionth of lambda's integral over them for such rounding). It sees lambda at
/// some points only: what is zero but for a short time between them (a pulse of 0.1 in an integral over 100) is missed,
/// silently, and a jump close to an end may be. Take pieces for those. Calls share the memory of the last one: give
/// each thread its own copy.
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
  /// Throws ArgumentError for a function that is empty. Lambda may miss short pulses: those are for pieces (see above).
  template <class F, class = std::enable_if_t<std::is_invocable_r_v<S, const F&, S> && !std::is_arithmetic_v<F> &&
                                              !std::is_same_v<F, DecaySchedule>>>
  DecaySchedule(F lambda) {  // NOLINT: a function is a schedule
    detail::require_function(lambda);
    function_ = std::move(lambda);
  }

  /// Whether lambda is one number.
  [[nodiscard]] bool is_constant() const { return pieces_.empty() && !function_; }
  /// Whether there is never any decay.
  [[nodiscard]] bool is_zero() const { return is_constant() && constant_ == S(0); }
  /// The pieces, if it is piecewise.
  [[nodiscard]] const std::vector<DecayPiece<S>>& pieces() const { return pieces_; }

  /// lambda(t). A piece ends `without_rounding`: a step that begins at its end, a sum or a multiple of lengths, is
  /// after it.
  [[nodiscard]] S operator()(S t) const;
  /// The time, below `end` by some roundings, from which on a piece that ends there is over.
  [[nodiscard]] static S without_rounding(S end) { return end * (S(1) - S(8) * std::numeric_limits<S>::epsilon()); }
  /// Lambda(t), the integral of lambda from 0 to t. Throws ConvergenceError where the quadrature of a function would
  /// need more than a million values of it.
  [[nodiscard]] S integral(S t) const;

 private:
  static void check(S lambda, const char* name) {
    using std::isfinite;
    require(isfinite(lambda) && lambda >= S(0), name, " must be finite and not negative, got ", lambda);
  }
  /// An integral by the rule of 15 nodes, and what that of 7 differs by.
  struct Estimate {
    S value;
    S error;
  };
  /// One quadrature.
  struct Quadrature {
    S from;
    S to;
    S size;  // of the integral: what its error is small against
    Index left;
  };
  [[nodiscard]] Estimate estimate(S from, S to, Quadrature& whole) const;
  /// The integral over [from, to], a part of the whole, in halves until it is one up to rounding.
  [[nodiscard]] S refined(S from, S to, const Estimate& found, Quadrature& whole, int splits) const;

  static constexpr Index most_evaluations = 1'000'000;

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
    if (t < without_rounding(end)) return piece.lambda;
  }
  return S(0);
}

template <class S>
S DecaySchedule<S>::integral(S t) const {
  using std::abs;
  if (function_) {
    if (t != latest_) {
      Quadrature whole{latest_, t, abs(integral_), most_evaluations};
      const Estimate found = estimate(latest_, t, whole);
      whole.size = std::max(whole.size, abs(found.value));
      const S next = integral_ + refined(latest_, t, found, whole, 0);
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
typename DecaySchedule<S>::Estimate DecaySchedule<S>::estimate(S from, S to, Quadrature& whole) const {
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
  constexpr Index evaluations = 15;
  require<ConvergenceError>(whole.left >= evaluations, "the integral of the decay from t = ", whole.from, " to ",
                            whole.to, " did not converge with ", most_evaluations,
                            " values of the function: take pieces (DecayPiece) for many jumps");
  whole.left -= evaluations;
  const S center = (from + to) / S(2), half = (to - from) / S(2);
  const S middle = (*this)(center);
  S kronrod = static_cast<S>(center_weight) * middle, of_gauss = static_cast<S>(gauss_center) * middle;
  for (int k = 0; k < 7; ++k) {
    const S shift = half * static_cast<S>(nodes[k]);
    const S both = (*this)(center - shift) + (*this)(center + shift);
    kronrod += static_cast<S>(weights[k]) * both;
    if (k % 2 == 1) of_gauss += static_cast<S>(gauss[k / 2]) * both;
  }
  return {half * kronrod, abs(half * (kronrod - of_gauss))};
}

template <class S>
S DecaySchedule<S>::refined(S from, S to, const Estimate& found, Quadrature& whole, int splits) const {
  using std::abs;
  constexpr S eps = std::numeric_limits<S>::epsilon();
  const auto is_fine = [&](const Estimate& part) {
    // What Gauss errs by is far above the error of Kronrod, QUADPACK's (200 e)^(3/2).
    const S relative = S(200) * part.error / std::max(abs(part.value), std::numeric_limits<S>::min());
    return relative * relative * relative < eps * eps || !(part.error > eps * (whole.size + abs(part.value)));
  };
  const S center = (from + to) / S(2);
  constexpr int most_splits = 60;
  if (is_fine(found) || splits == most_splits || center == from || center == to) return found.value;
  const Estimate low = estimate(from, center, whole), high = estimate(center, to, whole);
  // The rounding of the function, in both halves and no smaller than before: a jump or a kink is in one, and what is
  // smooth gains by halves.
  const S share = whole.size * abs((to - from) / (whole.to - whole.from));
  constexpr S rounding = S(8) * static_cast<S>(std::numeric_limits<float>::epsilon());
  const bool is_rounding = found.error <= rounding * std::max(share, abs(found.value)) && !is_fine(low) &&
                           !is_fine(high) && S(4) * (low.error + high.error) > found.error;
  if (is_rounding) return low.value + high.value;
  return refined(from, center, low, whole, splits + 1) + refined(center, to, high, whole, splits + 1);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DECAY_SCHEDULE(prefix, S) prefix template class DecaySchedule<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DECAY_SCHEDULE)
