#include "beyond_saddles.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_saddles";
  info.description =
      "Beyond the paper: the path that the flow takes from saddle to saddle as alpha tends to 0, solved exactly, "
      "beside "
      "flows of finite scale at depth 2 and 3, the lasso path, and the rate at which the limit nears minimum l1.";
  info.title = "From saddle to saddle";
  info.paper =
      "The paper shows where the flow ends as alpha tends to 0. Here is the way there: it rests at saddles and jumps "
      "at "
      "times that are known in advance (Berthier 2022; Pesme and Flammarion 2023), close to the lasso path and not on "
      "it, and what is left of the distance to minimum l1 falls with a power of alpha that a linear program gives.";
  info.data =
      "A problem of 3 samples and 6 features with integer entries; random problems of 4 samples and 9 features.";
  info.reduction = "400 random problems (10000 in a full run), 400 times of a curve (1000).";
  info.figures = ex::beyond_saddles_panels;
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::BeyondSaddlesOptions options = ex::beyond_saddles_options(common.effort);
    options.seed = common.seed;
    const ex::BeyondSaddles figure = ex::beyond_saddles(options);
    ex::write_beyond_saddles_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::beyond_saddles_picture(figure)},
                             ex::beyond_saddles_tables,
                             {},
                             ex::joined_text(options.num_problems, " random problems, ", options.num_scales,
                                             " scales, ", options.num_times, " times of a curve")};
  });
}
