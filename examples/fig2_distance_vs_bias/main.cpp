#include "fig2_distance_vs_bias.hpp"
#include "program.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "fig2_distance_vs_bias";
  info.description =
      "Figure 2: the regularizer q that gradient flow on the squared diagonal net minimizes, beside the squared "
      "distance r from initialization, and how both approach the l1 norm as alpha goes to 0.";
  info.title = "Figure 2: distance to initialization is not the bias";
  info.paper =
      "The regularizer that gradient flow minimizes is not the distance from its start: both look alike, but as alpha "
      "goes to 0 the distance approaches the l1 norm algebraically and the bias of the flow only logarithmically.";
  info.data = "None: closed forms.";
  info.reduction = "Complete: the default is the whole figure.";
  info.figures = ex::fig2_panels;
  return ex::run_program(argc, argv, info, [](const ex::CommonOptions& common) {
    ex::Fig2Options options;
    if (common.effort == ex::Effort::quick) {
      options.num_z = 201;
      options.num_alpha = 41;
    }
    const ex::Fig2 figure = ex::fig2_distance_vs_bias(options);
    ex::write_fig2_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig2_picture()},
        ex::fig2_tables,
        {},
        ex::joined_text(options.num_z, " values of z, ", options.num_alpha, " scales, d = ", options.dimension)};
  });
}
