#include "beyond_descent.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  ex::ProgramInfo info;
  info.name = "beyond_descent";
  info.description =
      "Beyond the paper: where gradient descent and SGD end on the squared net, with steps up to the edge of "
      "stability, "
      "beside the limit of gradient flow and the prediction from their effective start.";
  info.title = "Beyond the paper: descent and SGD are gradient flow from another start";
  info.paper =
      "The theorems are on gradient flow. The limit of descent or SGD with steps of any length is exactly that of "
      "gradient flow from an effective start, which the run accumulates from its residuals (Even et al. 2023). Descent "
      "with long steps shrinks its scale on the support of beta*, which costs test error, SGD more evenly, which "
      "gains.";
  info.data =
      "Synthetic: sparse regression from alpha = 0.1, 3 nonzero coefficients, N = 20 of d = 50 without noise (picture) "
      "and N = 10 of d = 30 with noisy labels.";
  info.reduction = "20 repetitions (100 in a full run).";
  info.figures = ex::beyond_descent_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) { ex::add_seeds_option(app, num_seeds); };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::BeyondDescentOptions options = ex::beyond_descent_options(common.effort);
    options.seed = common.seed;
    if (num_seeds > 0) options.num_seeds = num_seeds;
    const ex::BeyondDescentSweeps sweeps = ex::run_beyond_descent_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::BeyondDescent figure = ex::make_beyond_descent(sweeps);
    if (common.sweeps.is_root()) ex::write_beyond_descent_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::beyond_descent_picture()},
                             ex::beyond_descent_tables,
                             {},
                             ex::joined_text(options.fractions.size(), " steps, ", options.num_seeds, " repetitions")};
  });
}
