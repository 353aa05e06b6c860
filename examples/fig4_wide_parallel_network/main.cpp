#include "fig4_wide_parallel_network.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  ex::ProgramInfo info;
  info.name = "fig4_wide_parallel_network";
  info.description =
      "Figure 4: the wide parallel network of matrix factorization with diagonal measurements, and its theorem: "
      "distance "
      "of the flow's limit from the minimizer of Q_mu against the width.";
  info.title = "Figure 4: a wide parallel network";
  info.paper =
      "With commuting measurements, width k to infinity and entries of variance 2 mu^2 / k, the flow on U V^T ends at "
      "the "
      "minimizer of Q_mu of the spectrum. A finite width deviates by the order of one over its root.";
  info.data =
      "Synthetic: 4 measurements of 10 x 10 matrices with normal eigenvalues, in the standard basis and in a random "
      "one, "
      "and normal labels; mu = 0.3.";
  info.reduction = "24 repetitions (200 in a full run), 11 widths (21).";
  info.figures = ex::fig4_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) { ex::add_seeds_option(app, num_seeds); };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig4Options options = ex::fig4_options(common.effort);
    options.seed = common.seed;
    if (num_seeds > 0) options.num_seeds = num_seeds;
    const ex::Fig4Sweeps sweeps = ex::run_fig4_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig4 figure = ex::make_fig4(sweeps);
    if (common.sweeps.is_root()) ex::write_fig4_tables(figure, sweeps, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::fig4_picture(figure)},
                             ex::fig4_tables,
                             {},
                             ex::joined_text(options.num_samples, " measurements of ", options.dimension, " x ",
                                             options.dimension, " matrices, widths up to 10^6, ", options.per_decade,
                                             " per factor 10, ", options.num_seeds, " repetitions")};
  });
}
