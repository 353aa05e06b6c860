#include "beyond_depth_completion.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_depth_completion";
  info.description =
      "Beyond the paper: what deep factorizations complete a matrix to, by depth and scale of the start, and two "
      "completions whose ends no norm explains.";
  info.title = "Depth and completion";
  info.paper =
      "The paper's factorization has depth 2, where small starts lead near the least nuclear norm. Here are deeper "
      "ones, whose ends have a lower effective rank at the same scale (Arora et al. 2019); a completion on which a "
      "tiny start leads away from the least nuclear norm (Li, Luo and Lyu 2021); and one on which every norm tends to "
      "infinity as the data are fitted (Razin and Cohen 2020).";
  info.data =
      "Random 10 x 10 matrices of rank 2 with 55 entries seen, every row and column among them; completions of 4 x 4 "
      "and 2 x 2 entries, by hand.";
  info.reduction = "48 random problems (200 in a full run).";
  info.figures = ex::beyond_depth_completion_panels;
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::BeyondDepthCompletionOptions options = ex::beyond_depth_completion_options(common.effort);
    options.seed = common.seed;
    options.threads = common.threads;
    const ex::BeyondDepthCompletion figure = ex::beyond_depth_completion(options);
    ex::write_beyond_depth_completion_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::beyond_depth_completion_picture(figure)},
                             ex::beyond_depth_completion_tables,
                             {},
                             ex::joined_text(options.dimension, " x ", options.dimension, " matrices, ",
                                             options.num_observed, " entries, ", options.depths.size(), " depths, ",
                                             options.scales.size(), " scales, ", options.num_seeds, " repetitions")};
  });
}
