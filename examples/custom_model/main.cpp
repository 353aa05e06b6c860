#include "custom_model.hpp"
#include "program.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "custom_model";
  info.description =
      "Your own model, written as its prediction alone: derivatives checked, gradient flow, tangent "
      "kernel "
      "and kernel predictor.";
  info.title = "Your own model";
  info.paper = "Any model passes from the rich to the kernel regime as the scale of its initialization grows.";
  info.data = "Five points on the line; a two-layer network with softplus units.";
  info.reduction = "40 units (20 in the quick run).";
  info.figures = {"custom_model"};
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    const richflow::Index units = common.effort == ex::Effort::quick ? 20 : 40;
    const ex::CustomModel result = ex::run_custom_model(common.seed, units, {0.3, 1.0, 3.0, 10.0, 30.0});
    ex::write_custom_model(result, common.out);
    return ex::ProgramResult{
        result.claims, {}, {"custom_model.csv"}, {}, ex::joined_text(units, " hidden units, five scales")};
  });
}
