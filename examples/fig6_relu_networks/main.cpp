#include <CLI/CLI.hpp>

#include "fig6_relu_networks.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  bool descent = false;
  ex::ProgramInfo info;
  info.name = "fig6_relu_networks";
  info.description =
      "Figure 6 (a, b): ReLU networks of depth 2, 3 and 5 on ten points of the circle. Error and kernel distance of "
      "the "
      "flow's limit against the scale of the initialization.";
  info.title = "Figure 6 (a, b): ReLU networks";
  info.paper =
      "As the scale alpha^D of the initialization grows, ReLU networks pass from the rich regime, with a low error "
      "that "
      "does not depend on the scale, to the kernel regime, where the tangent kernel no longer changes.";
  info.data =
      "Synthetic: ten points uniform on the unit circle, labels of a ReLU network with three hidden units whose root "
      "mean square is 1; students of width 30, uniform He initialization times alpha.";
  info.reduction = "24 repetitions (100 in a full run), 19 scales (31).";
  info.figures = ex::fig6_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) {
    ex::add_seeds_option(app, num_seeds);
    app.add_flag("--gd", descent,
                 "Gradient descent with step 0.01 (halved until it is stable) in place of the flow; slow");
  };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig6Options options = ex::fig6_options(common.effort);
    options.seed = common.seed;
    options.descent = descent;
    if (num_seeds > 0) options.num_seeds = num_seeds;
    const richflow::SweepResult sweep = ex::run_fig6_sweep(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig6 figure = ex::make_fig6(options, sweep);
    if (common.sweeps.is_root()) ex::write_fig6_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig6_picture(options)},
        ex::fig6_tables,
        {},
        ex::joined_text(options.depths.size(), " depths, width ", options.width, ", alpha^D from 1e-4 to 100, ",
                        options.per_decade, " per factor 10, ", options.num_seeds, " repetitions")};
  });
}
