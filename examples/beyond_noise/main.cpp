#include "beyond_noise.hpp"
#include "program.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_noise";
  info.description =
      "Beyond the paper: descent on the squared diagonal net with noise on the labels of every step. The effective "
      "scale and the test error against the number of steps, measured and predicted without a run.";
  info.title = "Label noise: a dial for the effective scale";
  info.paper =
      "Label noise of standard deviation delta lowers log alpha of coordinate i by 8 step^2 delta^2 |X_i|^2 in every "
      "step, for as long as it is on: descent goes from where gradient flow would end to the sparse solution.";
  info.data =
      "Synthetic: 20 samples x ~ N(0, I) in 50 dimensions, three nonzero coefficients, no noise but in the steps.";
  info.reduction = "3 runs of each level (10 in a full run).";
  info.figures = ex::beyond_noise_panels;
  return ex::run_program(argc, argv, info, [](const ex::CommonOptions& common) {
    ex::BeyondNoiseOptions options;
    options.seed = common.seed;
    if (common.effort == ex::Effort::quick) {
      options.num_runs = 1;
      options.levels = {1.0, 2.0};
      options.steps = {1000, 2500, 5000, 10000, 20000};
    }
    if (common.effort == ex::Effort::full) options.num_runs = 10;
    const ex::BeyondNoise figure = ex::beyond_noise(options);
    ex::write_beyond_noise_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::beyond_noise_picture(figure, options)},
        ex::beyond_noise_tables,
        {},
        ex::joined_text("N = ", options.num_samples, ", d = ", options.dimension, ", ", options.levels.size(),
                        " levels of noise, ", options.steps.size(), " times, up to ", options.steps.back(), " steps, ",
                        options.num_runs, options.num_runs == 1 ? " repetition" : " repetitions")};
  });
}
