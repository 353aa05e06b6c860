#include <CLI/CLI.hpp>

#include "fig3_depth.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  ex::ProgramInfo info;
  info.name = "fig3_depth";
  info.description =
      "Figure 3: the regularizer of depth-D diagonal nets, how fast it nears the l1 norm, and the largest alpha^D that "
      "learns a sparse vector from N samples.";
  info.title = "Figure 3: depth";
  info.paper =
      "Depth hastens the transition to the rich limit: at depth 2 the scale must be exponentially small, beyond only "
      "polynomially. With few samples deeper nets learn at scales at which the squared net does not.";
  info.data =
      "Panel c, synthetic: x ~ N(0, I) in 1000 dimensions, five nonzero coefficients, labels with noise of variance "
      "0.01.";
  info.reduction = "Panel c: 24 repetitions up to N = 100 (100 in a full run), 6 beyond (24), 18 values of N (34).";
  info.figures = ex::fig3_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) { ex::add_seeds_option(app, num_seeds); };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig3Options options = ex::fig3_options(common.effort);
    options.seed = common.seed;
    if (num_seeds > 0) options.num_seeds = options.num_seeds_cliff = num_seeds;
    const richflow::SweepResult critical = ex::run_fig3_sweep(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig3 figure = ex::make_fig3(options, critical);
    if (common.sweeps.is_root()) ex::write_fig3_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig3_picture()},
        ex::fig3_tables,
        {},
        ex::joined_text("c: d = ", options.dimension, ", ", options.samples.size(), " values of N up to ",
                        options.samples.back(), ", ", options.num_seeds_cliff, " repetitions up to N = 100, ",
                        options.num_seeds, " beyond")};
  });
}
