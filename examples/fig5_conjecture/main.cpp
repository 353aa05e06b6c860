#include "fig5_conjecture.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  ex::ProgramInfo info;
  info.name = "fig5_conjecture";
  info.description =
      "Beyond Figure 5: distance of the flow's limit on completion problems from the minimizer of Schatten-Q_mu, which "
      "the theorem for commuting measurements would suggest.";
  info.title = "Beyond Figure 5: does completion minimize Schatten-Q?";
  info.paper =
      "The paper proves that the flow minimizes Schatten-Q_mu, 2 mu^2 = alpha^2 k, for commuting measurements of wide "
      "factorizations, and leaves completion open. Here both are simulated from the start of infinite width and "
      "compared "
      "with the computed minimizer.";
  info.data =
      "Synthetic: 10 x 10 matrices u v^T with 60 observed entries; beside them diagonal measurements with normal "
      "entries "
      "and labels.";
  info.reduction = "24 repetitions (100 in a full run), 25 values of alpha^2 k (49).";
  info.figures = ex::fig5_conjecture_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) { ex::add_seeds_option(app, num_seeds); };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig5ConjectureOptions options = ex::fig5_conjecture_options(common.effort);
    options.seed = common.seed;
    if (num_seeds > 0) options.num_seeds = num_seeds;
    const ex::Fig5ConjectureSweeps sweeps = ex::run_fig5_conjecture_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig5Conjecture figure = ex::make_fig5_conjecture(sweeps);
    if (common.sweeps.is_root()) ex::write_fig5_conjecture_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig5_conjecture_picture()},
        ex::fig5_conjecture_tables,
        {},
        ex::joined_text(options.dimension, " x ", options.dimension, " matrices, ", options.num_observed,
                        " entries, alpha^2 k from 1e-8 to 1e4, ", options.per_decade, " per factor 10, ",
                        options.num_seeds, " repetitions")};
  });
}
