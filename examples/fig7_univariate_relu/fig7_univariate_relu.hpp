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
#include "richflow/sweep/sweep.hpp"
#include "sweep_runner.hpp"

/// @file
/// Figure 7: the univariate two-layer ReLU network between the linear spline and the kernel predictor.

namespace richflow::examples {

/// Panels of this program in claims.json.
inline const std::set<std::string> fig7_panels = {"fig7a", "fig7b", "fig7c"};

/// Size of the experiment.
struct Fig7Options {
  std::uint64_t seed = 1;
  Index width = 10000;                                      ///< k
  std::vector<double> alphas = {1e-4, 1e-2, 0.1, 1.0, 10};  ///< of panels a and c; panel b leaves out those below 0.01
  double loss = 1e-8;                                       ///< the flow ends here
  Index points = 401;                                       ///< of the curves
};

/// The options that belong to an effort.
[[nodiscard]] Fig7Options fig7_options(Effort effort);

/// One curve on the grid.
struct Fig7Curve {
  int panel = 0;       ///< 0, 1, 2 for a, b, c
  double alpha = 0.0;  ///< infinity for the kernel predictor
  Vector<double> f = {};
  double loss = 0.0;  ///< where the flow ended
  double time = 0.0;
};

/// All curves and what the paper says of them.
struct Fig7 {
  Vector<double> x = {};
  Vector<double> spline = {};
  std::vector<Fig7Curve> curves = {};
  std::vector<Fig7Curve> kernels = {};  ///< one for each panel
  std::vector<Claim> claims = {};
};

/// Everything that is computed.
struct Fig7Sweeps {
  SweepResult flow;    ///< over `panel` and `alpha`: where the flow ends
  SweepResult kernel;  ///< over `panel`: the kernel predictor
};

/// The nine data points of the figure: `x_j = j sqrt(3) / 4` with label 1 for |j| <= 1 and 0 elsewhere.
[[nodiscard]] Matrix<double> fig7_inputs();
/// Their labels.
[[nodiscard]] Vector<double> fig7_labels();

/// Runs the sweeps. Throws ArgumentError for invalid sizes.
[[nodiscard]] Fig7Sweeps run_fig7_sweeps(const Fig7Options& options, const SweepRunner& runner);

/// The figure of complete sweeps. Throws ConvergenceError when a cell is missing or has failed.
[[nodiscard]] Fig7 make_fig7(const Fig7Options& options, const Fig7Sweeps& sweeps);

/// Names of the tables.
inline const std::vector<std::string> fig7_tables = {"fig7.csv", "fig7_reference.csv", "fig7_data.csv"};

/// Writes the tables into `folder`.
void write_fig7_tables(const Fig7& figure, const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture fig7_picture(const Fig7Options& options);

}  // namespace richflow::examples
