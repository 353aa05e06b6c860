#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"

/// @file
/// Figure 2: the distance to initialization is not what gradient flow minimizes.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig2_panels = {"fig2", "fig2_l1"};

/// Resolution of the curves.
struct Fig2Options {
  int num_z = 1001;     ///< points of z in [-25, 25]; odd, so that 0 is one of them
  int num_alpha = 101;  ///< points of alpha in [1e-8, 100]
  int dimension = 100;  ///< d of the directions compared in the second panel
};

/// One point of the first panel.
struct Fig2Point {
  double z = 0.0;
  double q = 0.0;           ///< q(z), the regularizer of gradient flow
  double r = 0.0;           ///< r(z), the squared distance to initialization
  double q_rescaled = 0.0;  ///< q(z) / q(25)
  double r_rescaled = 0.0;  ///< r(z) / r(25)
};

/// One point of the second panel: how far Q_alpha and R_alpha are from a multiple of the l1 norm, measured
/// by two vectors of the same length, one sparse and one dense:
/// `excess = (Q(e_1) / |e_1|_1) / (Q(u) / |u|_1) - 1`, `u = (1, ..., 1) / sqrt(d)`. It is 0 for the l1 norm and
/// `sqrt(d) - 1` for the squared l2 norm.
struct Fig2L1Point {
  double alpha = 0.0;
  double excess_q = 0.0;
  double excess_r = 0.0;
};

/// Both panels and what the paper says of them.
struct Fig2 {
  std::vector<Fig2Point> curve = {};
  std::vector<Fig2L1Point> to_l1 = {};
  std::vector<Claim> claims = {};
};

/// Computes the figure; milliseconds.
[[nodiscard]] Fig2 fig2_distance_vs_bias(const Fig2Options& options = {});

/// Names of the tables.
inline const std::vector<std::string> fig2_tables = {"fig2.csv", "fig2_l1.csv"};

/// Writes the tables into `folder`.
void write_fig2_tables(const Fig2& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig2_picture();

}  // namespace richflow::examples
