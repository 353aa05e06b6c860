#include <CLI/CLI.hpp>

#include "fig1_sparse_regression.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  ex::ProgramInfo info;
  info.name = "fig1_sparse_regression";
  info.description =
      "Figure 1: sparse regression with the squared diagonal net. Population error, norms of the flow's limit, and "
      "the largest initialization scale that learns from N samples.";
  info.title = "Figure 1: sparse regression";
  info.paper =
      "With a small initialization the squared diagonal net finds the minimum-l1 interpolator and learns a sparse "
      "vector "
      "from few samples; with a large one it finds the minimum-l2 interpolator and does not. The largest scale that "
      "learns falls off a cliff as the number of samples comes down to what minimum l1 needs.";
  info.data =
      "Synthetic: x ~ N(0, I) in 1000 dimensions, five nonzero coefficients, labels with noise of variance 0.01.";
  info.reduction =
      "12 repetitions of panels a and b (48 in a full run), 100 of panel c up to N = 100 (400), 31 values of N (66).";
  info.figures = ex::fig1_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) { ex::add_seeds_option(app, num_seeds); };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig1Options options = ex::fig1_options(common.effort);
    options.seed = common.seed;
    if (num_seeds > 0) options.num_seeds = options.num_seeds_cliff = num_seeds;
    const ex::Fig1Sweeps sweeps = ex::run_fig1_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig1 figure = ex::make_fig1(options, sweeps);
    if (common.sweeps.is_root()) ex::write_fig1_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig1_picture(figure)},
        ex::fig1_tables,
        {},
        ex::joined_text("a and b: N = ", options.num_samples, ", d = ", options.dimension, ", ", options.num_seeds,
                        " repetitions; c: ", options.samples_c.size(), " values of N up to ", options.samples_c.back(),
                        ", ", options.num_seeds_cliff, " repetitions up to N = 100")};
  });
}
