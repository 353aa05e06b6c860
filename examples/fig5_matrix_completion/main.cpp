#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>

#include "fig5_matrix_completion.hpp"
#include "list.hpp"
#include "options.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  int resolution = 0;
  std::string alpha2 = {};
  std::string widths = {};
  ex::ProgramInfo info;
  info.name = "fig5_matrix_completion";
  info.description =
      "Figure 5: matrix completion by U V^T. Nuclear norm of the flow's limit, and how far unobserved entries move, "
      "over the width and the scale of the initialization.";
  info.title = "Figure 5: matrix completion and the effect of width";
  info.paper =
      "Width is a second road into the kernel regime: the transition is where the variance of the initial entries "
      "times "
      "the width is about 1, however small the scale. Below it the flow completes a rank-one matrix with nearly the "
      "least "
      "nuclear norm; above it the unobserved entries do not move.";
  info.data =
      "Synthetic: a 10 x 10 matrix u v^T with normal u and v, of which 60 random entries are observed. A mask without "
      "any entry of some row or column cannot determine the matrix and is drawn again. Widths beyond 20 are reduced "
      "exactly, so that half a million costs as much as 20.";
  info.reduction =
      "12 repetitions (50 in a full run), heatmaps of 24 x 24 points with 3 repetitions (60 x 60 with 11).";
  info.figures = ex::fig5_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) {
    ex::add_seeds_option(app, num_seeds);
    ex::add_integer_option(app, "--grid", resolution, 0, 1000,
                           "Points along each axis of the heatmaps; 0 chooses them");
    app.add_option("--alpha2", alpha2, "Variances, a,b,c or from:to:count (logarithmic); the paper's if not given");
    app.add_option("--widths", widths, "Widths k, a,b,c or from:to:count (logarithmic); the paper's if not given");
  };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig5Options options = ex::fig5_options(common.effort);
    options.seed = common.seed;
    if (num_seeds > 0) {
      options.num_seeds = num_seeds;
      options.num_seeds_map = std::min(options.num_seeds_map, num_seeds);
    }
    if (resolution > 0) options.resolution = std::max(2, resolution);
    if (!alpha2.empty()) options.alpha2 = ex::parse_list("--alpha2", alpha2, ex::Spacing::logarithmic);
    if (!widths.empty()) options.widths = ex::parse_fig5_widths(widths);
    const ex::Fig5Sweeps sweeps = ex::run_fig5_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig5 figure = ex::make_fig5(options, sweeps);
    if (common.sweeps.is_root()) ex::write_fig5_tables(figure, sweeps, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig5_picture(figure)},
        ex::fig5_tables,
        {},
        ex::joined_text(options.dimension, " x ", options.dimension, " matrices, ", options.num_observed, " entries, ",
                        options.widths.size(), " widths, ", options.alpha2.size(), " scales, ", options.num_seeds,
                        " repetitions; maps of ", options.resolution, " x ", options.resolution, " points, ",
                        options.num_seeds_map, " repetitions")};
  });
}
