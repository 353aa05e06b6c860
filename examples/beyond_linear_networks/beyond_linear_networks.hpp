#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "program.hpp"
#include "richflow/core/types.hpp"
#include "richflow/flow/symmetric_change_flow.hpp"

/// @file
/// Beyond the paper: linear networks from rich to lazy beside their exact solutions, and how fast a symmetric
/// factorization nears its kernel limit (the paper's appendix E).

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> beyond_linear_networks_panels = {
    "beyond_linear_networks_modes", "beyond_linear_networks_kernel", "beyond_linear_networks_start",
    "beyond_linear_networks_depth", "beyond_linear_networks_neuron", "beyond_linear_networks_symmetric"};

/// Size of the experiment.
struct BeyondLinearNetworksOptions {
  std::uint64_t seed = 1;
  int num_times = 200;       ///< of a simulated curve
  int num_alphas = 17;       ///< of the factorization, for each start
  int num_problems = 60;     ///< random ones of each kind, on which claims are checked
  double tolerance = 2e-11;  ///< of the steps of `simulate`
};

/// The options that belong to an effort.
[[nodiscard]] BeyondLinearNetworksOptions beyond_linear_networks_options(Effort effort);

/// Singular values of the product of the layers at one time.
struct LinearModesPoint {
  double key = 0.0;  ///< lambda, or the depth
  double time = 0.0;
  Vector<double> exact = {};
  Vector<double> simulated = {};
};

/// A network of two layers whose modes 2, 1 and .5 start at 1e-3, at one lambda.
struct LazyPoint {
  double lambda = 0.0;
  double half_time_ratio = 0.0;            ///< of mode .5 over mode 2
  double kernel_change = 0.0;              ///< of the tangent kernel from start to end, relative
  double simulated_half_time_ratio = 0.0;  ///< NaN where it was not simulated
  double simulated_kernel_change = 0.0;    ///< likewise
};

/// The distance of the limit of a symmetric factorization from its kernel predictor, relative to that.
struct KernelDistancePoint {
  bool is_completion = false;
  ZeroStart start = ZeroStart::subtracted;
  double alpha = 0.0;
  double distance = 0.0;
};

/// What is seen.
struct BeyondLinearNetworks {
  std::vector<LinearModesPoint> over_lambda = {};  ///< aligned, lambda = 0, .5, 5, 50
  std::vector<LinearModesPoint> not_aligned = {};  ///< one random start, lambda = 0
  std::vector<LinearModesPoint> over_depth = {};   ///< aligned and balanced, depth 2, 3, 4
  std::vector<LazyPoint> lazy = {};
  std::vector<KernelDistancePoint> distances = {};
  std::vector<Claim> claims = {};
};

/// Computes it. Throws ArgumentError for invalid sizes, ConvergenceError where an integration does not reach its
/// end.
[[nodiscard]] BeyondLinearNetworks beyond_linear_networks(const BeyondLinearNetworksOptions& options);

/// Names of the tables.
inline const std::vector<std::string> beyond_linear_networks_tables = {
    "beyond_linear_networks_lambda.csv", "beyond_linear_networks_start.csv", "beyond_linear_networks_depth.csv",
    "beyond_linear_networks_lazy.csv", "beyond_linear_networks_symmetric.csv"};

/// Writes the tables into `folder`.
void write_beyond_linear_networks_tables(const BeyondLinearNetworks& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture beyond_linear_networks_picture(const BeyondLinearNetworks& figure);

}  // namespace richflow::examples
