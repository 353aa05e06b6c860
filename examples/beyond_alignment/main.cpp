#include "beyond_alignment.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_alignment";
  info.description =
      "Beyond the paper: the directions in which the neurons of a ReLU network align before they grow, solved exactly "
      "from data and start, beside flows from tiny and large starts, and how the error falls with the scale.";
  info.title = "Neurons align before they grow";
  info.paper =
      "The paper shows that a small start leaves the kernel regime. Here is the first thing that happens there: while "
      "the loss has not moved yet, every neuron of a ReLU network of two layers turns to one of a few directions that "
      "the data alone determine (Maennel, Bousquet and Gelly 2018; Boursier, Pillaud-Vivien and Flammarion 2022), on a "
      "way that is known in advance from cone to cone. From a large start no neuron turns.";
  info.data = "Five samples on the circle with labels of both signs; random problems of eight samples.";
  info.reduction = "200 random problems (1000 in a full run), 13 scales (49).";
  info.figures = ex::beyond_alignment_panels;
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::BeyondAlignmentOptions options = ex::beyond_alignment_options(common.effort);
    options.seed = common.seed;
    const ex::BeyondAlignment figure = ex::beyond_alignment(options);
    ex::write_beyond_alignment_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::beyond_alignment_picture(figure)},
                             ex::beyond_alignment_tables,
                             {},
                             ex::joined_text(options.width, " neurons, ", options.num_scales, " scales, ",
                                             options.num_problems, " random problems")};
  });
}
