#pragma once

#include <cmath>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// How the weights of a network are drawn; in both cases the layers preserve the size of their input (He et al. 2015).
enum class HeInitialization {
  uniform,  ///< on [-sqrt(6 / n_in), +sqrt(6 / n_in)]
  normal,   ///< N(0, 2 / n_in)
};

namespace detail {

/// alpha. Throws ArgumentError where it is outside the range of the scalar type.
template <class S>
[[nodiscard]] S representable_alpha(BasicScale<S> scale) {
  using std::isfinite;
  const S alpha = scale.value();
  require(alpha > S(0) && isfinite(alpha), "log alpha = ", scale.log(),
          " puts alpha outside the range of the scalar type");
  return alpha;
}

/// `weights` of a layer of n_in inputs = alpha times a draw by the rule, in their order.
template <class S>
void draw_layer(RandomStream& random, S alpha, HeInitialization rule, Index inputs, VectorRef<S> weights) {
  using std::sqrt;
  const bool is_uniform = rule == HeInitialization::uniform;
  const S size = alpha * sqrt(S(is_uniform ? 6 : 2) / S(inputs));
  for (S& weight : weights) weight = size * static_cast<S>(is_uniform ? random.uniform(-1.0, 1.0) : random.normal());
}

}  // namespace detail

}  // namespace richflow
