#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "claims.hpp"
#include "richflow/core/types.hpp"

/// @file
/// A model that richflow does not have, and all that richflow does with it.

namespace richflow::examples {

/// A two-layer network with the softplus activation: `f(w, x) = sum_i a_i log(1 + exp(<u_i, x> + b_i))`. This is all
/// that your own model needs.
struct SoftplusNet {
  Index d = 1;  ///< features
  Index k = 1;  ///< units

  [[nodiscard]] Index num_parameters() const { return k * (d + 2); }

  template <class T>
  [[nodiscard]] T predict(std::span<const T> w, std::span<const double> x) const {
    using std::exp;
    using std::log1p;
    T f(0);
    auto next = w.begin();
    for (Index i = 0; i < k; ++i) {
      T z = *next++;
      for (const double feature : x) z += *next++ * feature;
      f += *next++ * (z > T(0) ? z + log1p(exp(-z)) : log1p(exp(z)));  // does not overflow
    }
    return f;
  }
};

/// What the program does at one scale.
struct CustomModelPoint {
  double alpha = 0.0;
  double loss = 0.0;             ///< where the flow ended
  double steps = 0.0;            ///< tangent-kernel steps
  double kernel_distance = 0.0;  ///< of start and end
  double to_kernel = 0.0;        ///< largest distance of the flow's limit to the kernel predictor on [-2, 2]
};

/// The points and what is checked of them.
struct CustomModel {
  std::vector<CustomModelPoint> points = {};
  std::vector<Claim> claims = {};
};

/// Checks the model's derivatives and runs it through flow, tangent kernel and kernel predictor at each scale, from
/// weights of the seed.
[[nodiscard]] CustomModel run_custom_model(std::uint64_t seed, Index units, const std::vector<double>& alphas);

/// Writes custom_model.csv into `folder`.
void write_custom_model(const CustomModel& result, const std::filesystem::path& folder);

}  // namespace richflow::examples
