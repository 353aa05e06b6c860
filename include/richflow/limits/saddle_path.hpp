#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/minimizers/l1_path.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"

namespace richflow {

/// The path that the gradient flow of a diagonal net takes as alpha -> 0: it rests at saddles, and jumps from one to
/// the next. With its end, which has the least (weighted) l1 norm of all interpolators, and the proof of that.
///
/// Times are in the unit in which the path has a limit: `t / log(1 / alpha)` at depth 2, `t alpha^(D-2)` at depth
/// D >= 3.
template <class S = double>
struct [[nodiscard]] SaddlePath : PathEnd<S>, Result<SaddlePath<S>> {
  Index depth = 2;                       ///< D, 2 for two layers.
  S rate = S(0);                         ///< c of the dual equation `s' = c X^T (y - X beta)`.
  std::vector<PathPoint<S>> jumps = {};  ///< From beta = 0 on; beta, support and loss are those after the jump.

  /// The logarithm of the flow's time at scale alpha that belongs to the time `tau > 0` of the path, to leading order:
  /// `log(tau log(1/alpha))` at depth 2, `log tau - (D-2) log alpha` beyond. Throws ArgumentError unless tau > 0 and
  /// alpha < 1.
  [[nodiscard]] S log_time(S tau, Scale<S> scale) const {
    using std::log;
    require(tau > S(0), "tau must be positive, got ", tau);
    require(scale.log() < S(0), "log alpha must be negative, got ", scale.log());
    return depth == 2 ? log(tau) + log(-scale.log()) : log(tau) - S(depth - 2) * scale.log();
  }
};

namespace detail {

/// Of a diagonal net on d features.
template <class S>
[[nodiscard]] SaddlePath<S> diagonal_saddle_path(Index depth, Index d, const Dataset<S>& data, const Start<S>& start);

/// Of a two-layer diagonal net on d features.
template <class S>
[[nodiscard]] SaddlePath<S> two_layer_saddle_path(Index d, const Dataset<S>& data, const Start<S>& start);

}  // namespace detail

/// The saddle-to-saddle path of the depth-D diagonal net under `L = |X beta - y|^2` as the scale of `start` falls (the
/// scale that it has does not matter). It solves `s' = c X^T (y - X beta)`, `s_i = theta_i sign(beta_i)` where beta_i
/// is not 0 and `|s_i| <= theta_i` elsewhere (Berthier 2022; Pesme and Flammarion 2023; docs/theory.md, section 8.1),
/// exactly, from jump to jump. X is N x d.
///
/// At D = 2, `c = 8` and `theta = 2` from any start; at D >= 3, `c = 2 D (D-2)` and `theta = w0^(2-D)`, from a biased
/// start `a^(2-D)` for positive and `b^(2-D)` for negative entries. The end minimizes `sum theta_i |beta_i|` over
/// `X beta = y`, or, where nothing fits y, over the least-squares points.
///
///     const SaddlePath path = saddle_path(net, data, Start<>::uniform(Scale<>::from_log(-1)));
///     for (const auto& jump : path.require_ok().jumps) std::cout << jump.time << ' ' << jump.loss << '\n';
///
/// Coordinates that reach their thresholds together, to twelve digits, enter together (`is_tie`). Throws DimensionError
/// where net, start and data do not fit, ArgumentError for an unbalanced start, which has two layers, and where a
/// threshold leaves the range of S. Cost: O(N d) a jump, with the factorization of the columns in play updated.
template <class S, int depth>
[[nodiscard]] SaddlePath<S> saddle_path(const DiagonalNet<S, depth>& net, const Dataset<S>& data,
                                        const Start<S>& start) {
  return detail::diagonal_saddle_path<S>(net.homogeneity(), net.num_inputs(), data, start);
}

/// That of the two-layer diagonal net, from any start: as at depth 2 in twice the time (`c = 4`, `theta = 2`). Throws
/// DimensionError where the sizes do not fit.
template <class S>
[[nodiscard]] SaddlePath<S> saddle_path(const TwoLayerDiagonalNet<S>& net, const Dataset<S>& data,
                                        const Start<S>& start) {
  return detail::two_layer_saddle_path<S>(net.num_inputs(), data, start);
}

namespace detail {

/// From thresholds of the dual for positive and for negative entries.
template <class S>
[[nodiscard]] SaddlePath<S> follow_saddles(const Dataset<S>& data, Index depth, S rate, Vector<S> upper,
                                           Vector<S> lower);

/// `exp((2 - D) logs)`, and d ones where there are no logarithms.
template <class S>
[[nodiscard]] Vector<S> saddle_thresholds(Index depth, Index d, const Vector<S>& logs);

template <class S>
void require_saddle_data(Index d, const Dataset<S>& data, const Start<S>& start);

template <class S>
SaddlePath<S> diagonal_saddle_path(Index depth, Index d, const Dataset<S>& data, const Start<S>& start) {
  require(start.family() != StartFamily::unbalanced,
          "the start is unbalanced: it has two layers (TwoLayerDiagonalNet), where this net has one; it takes a "
          "uniform, shaped or biased start");
  require_saddle_data(d, data, start);
  if (depth == 2) return follow_saddles<S>(data, 2, S(8), Vector<S>::Constant(d, S(2)), Vector<S>::Constant(d, S(2)));
  return follow_saddles<S>(data, depth, S(2 * depth * (depth - 2)), saddle_thresholds<S>(depth, d, start.first_logs()),
                           saddle_thresholds<S>(depth, d, start.second_logs()));
}

template <class S>
SaddlePath<S> two_layer_saddle_path(Index d, const Dataset<S>& data, const Start<S>& start) {
  require_saddle_data(d, data, start);
  return follow_saddles<S>(data, 2, S(4), Vector<S>::Constant(d, S(2)), Vector<S>::Constant(d, S(2)));
}

template <class S>
SaddlePath<S> follow_saddles(const Dataset<S>& data, Index depth, S rate, Vector<S> upper, Vector<S> lower) {
  SaddlePath<S> path;
  path.depth = depth;
  path.rate = rate;
  path.jumps = L1Path<S>(data, std::move(upper), std::move(lower), rate, L1PathRule::saddles).follow(path);
  return path;
}

template <class S>
Vector<S> saddle_thresholds(Index depth, Index d, const Vector<S>& logs) {
  using std::exp;
  using std::isfinite;
  if (logs.size() == 0) return Vector<S>::Ones(d);
  Vector<S> thresholds(d);
  for (Index i = 0; i < d; ++i) {
    thresholds[i] = exp(S(2 - depth) * logs[i]);
    require(isfinite(thresholds[i]) && thresholds[i] >= std::numeric_limits<S>::min(), "entry ", i,
            " of the shape is e^", logs[i], ", and its power ", 2 - depth, " is outside the range of numbers");
  }
  return thresholds;
}

template <class S>
void require_saddle_data(Index d, const Dataset<S>& data, const Start<S>& start) {
  require<DimensionError>(data.num_inputs() == d, "the net has d = ", d, " features but X has ", data.num_inputs(),
                          " columns");
  start.require_fits(d);
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SADDLE_PATH(prefix, S)                                                                \
  prefix template SaddlePath<S> detail::diagonal_saddle_path<S>(Index, Index, const Dataset<S>&, const Start<S>&); \
  prefix template SaddlePath<S> detail::two_layer_saddle_path<S>(Index, const Dataset<S>&, const Start<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SADDLE_PATH)
