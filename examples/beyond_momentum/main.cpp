#include "beyond_momentum.hpp"
#include "program.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_momentum";
  info.description =
      "Beyond the paper: heavy ball on the squared diagonal net. The effective scale against lambda = step (1 + m) / "
      "(2 "
      "(1 - m)^2), where the run ends from it, and the range in which it can be predicted without a run.";
  info.title = "Momentum: the effective scale, and where it can be predicted";
  info.paper =
      "Heavy ball follows lambda w'' + w' + grad L = 0 and goes where gradient flow goes from a smaller scale, which "
      "is "
      "known to first order in lambda without the run, until weights cross zero; the exact effective start holds "
      "beyond.";
  info.data = "Synthetic: 20 samples x ~ N(0, I) in 50 dimensions, three nonzero coefficients, no noise.";
  info.reduction = "Complete: the default is the whole figure.";
  info.figures = ex::beyond_momentum_panels;
  return ex::run_program(argc, argv, info, [](const ex::CommonOptions& common) {
    ex::BeyondMomentumOptions options;
    options.seed = common.seed;
    if (common.effort == ex::Effort::quick)
      options.series = {{0.0, {2e-4, 4e-4, 1e-3}}, {0.5, {1e-4, 2e-4, 5e-3}}, {0.9, {2e-3, 4e-3, 2e-2, 0.1, 0.3}}};
    const ex::BeyondMomentum figure = ex::beyond_momentum(options);
    ex::write_beyond_momentum_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::beyond_momentum_picture(figure, options)},
                             ex::beyond_momentum_tables,
                             {},
                             ex::joined_text("N = ", options.num_samples, ", d = ", options.dimension, ", ",
                                             options.series.size(), " momenta, each with several steps")};
  });
}
