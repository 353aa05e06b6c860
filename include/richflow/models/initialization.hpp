#pragma once

#include <cmath>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// How the weights of a network are drawn; in both cases the layers preserve the size of their input (He et al. 2015;
/// the gain is 2 for ReLU networks, 1 for linear ones).
enum class HeInitialization {
  uniform,  ///< on [-sqrt(3 gain / n_in), +sqrt(3 gain / n_in)]
  normal,   ///< N(0, gain / n_in)
};

/// How the output of a layer depends on its weights, `Z = m A W`, and with it how fast they learn: a factor m that
/// moves from the weights into the model multiplies the speed of the layer by m^2 (Yang & Hu 2021, with one step for
/// all layers).
enum class Parametrization {
  standard,        ///< m = 1; weights of variance gain / n_in
  ntk,             ///< m = sqrt(gain / n_in); weights of variance 1: the kernel regime as the width grows
  maximal_update,  ///< muP: features learn at any width. m = sqrt(n_out), 1, ..., 1, 1 / sqrt(n_in) from the first
                   ///< layer to the last; weights of variance gain / (n_in n_out) in the first, gain / n_in in the
                   ///< others
};

namespace detail {

/// alpha. Throws ArgumentError where it is outside the range of the scalar type.
template <class S>
[[nodiscard]] S representable_alpha(Scale<S> scale) {
  using std::isfinite;
  const S alpha = scale.value();
  require(alpha > S(0) && isfinite(alpha), "log alpha = ", scale.log(),
          " puts alpha outside the range of the scalar type");
  return alpha;
}

/// `weights` = alpha times draws of variance `gain / count`, in their order.
template <class S>
void draw_weights(RandomStream& random, S alpha, HeInitialization law, double gain, Index count, VectorRef<S> weights) {
  using std::sqrt;
  const bool is_uniform = law == HeInitialization::uniform;
  const S size = alpha * sqrt(static_cast<S>(is_uniform ? 3.0 * gain : gain) / static_cast<S>(count));
  for (S& weight : weights) weight = size * static_cast<S>(is_uniform ? random.uniform(-1.0, 1.0) : random.normal());
}

}  // namespace detail

}  // namespace richflow
