#include "beyond_decay.hpp"
#include "program.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_decay";
  info.description =
      "Beyond the paper: the flow of the squared diagonal net with weight decay, whose effective scale falls in time. "
      "Test error and train loss for scales over ten decades, and when the test error falls (grokking).";
  info.title = "Weight decay: from the kernel to the rich regime in time";
  info.paper =
      "Weight decay lambda takes the flow from alpha along the limits of alpha e^(-2 lambda t): the data are fitted at "
      "once, and the test error falls at the time log(alpha / alpha_c) / (2 lambda), where alpha_c is the scale at "
      "which a sweep in alpha without decay makes its transition.";
  info.data = "Synthetic: 20 samples x ~ N(0, I) in 50 dimensions, three nonzero coefficients, no noise.";
  info.reduction = "Complete: the default is the whole figure.";
  info.figures = ex::beyond_decay_panels;
  return ex::run_program(argc, argv, info, [](const ex::CommonOptions& common) {
    ex::BeyondDecayOptions options;
    options.seed = common.seed;
    if (common.effort == ex::Effort::quick) {
      options.scales = {1.0, 1e5, 1e10};
      options.lambdas = {0.1, 0.01, 0.001};
      options.num_times = 80;
      options.num_scales = 60;
    }
    const ex::BeyondDecay figure = ex::beyond_decay(options);
    ex::write_beyond_decay_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::beyond_decay_picture(figure, options)},
        ex::beyond_decay_tables,
        {},
        ex::joined_text("N = ", options.num_samples, ", d = ", options.dimension, ", ", options.scales.size(),
                        " scales, ", options.lambdas.size(), " rates of decay")};
  });
}
