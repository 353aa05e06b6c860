#include "fig7_univariate_relu.hpp"
#include "source_version.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "fig7_univariate_relu";
  info.description =
      "Figure 7: a wide two-layer ReLU network fits nine points on the line. Where the gradient flow ends, between the "
      "linear spline and the kernel predictor, for three ways of sharing the scale between the layers.";
  info.title = "Figure 7: a univariate ReLU network";
  info.paper =
      "At a small scale of the initialization the network finds the linear spline through the data, however the scale "
      "is shared between the layers; at a large scale it finds a smooth interpolant that depends on it.";
  info.data = "Nine points read off the figure: x = j sqrt(3) / 4, y = 1 for |j| <= 1 and 0 elsewhere.";
  info.reduction = "None; the quick run has 2000 units where the others have 10000.";
  info.figures = ex::fig7_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig7Options options = ex::fig7_options(common.effort);
    options.seed = common.seed;
    const ex::Fig7Sweeps sweeps = ex::run_fig7_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig7 figure = ex::make_fig7(options, sweeps);
    if (common.sweeps.is_root()) ex::write_fig7_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::fig7_picture(options)},
                             ex::fig7_tables,
                             {},
                             ex::joined_text(options.width, " hidden units, ", options.alphas.size(), " scales")};
  });
}
