#include <CLI/CLI.hpp>

#include "beyond_margins.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  std::string loss = "exponential";
  ex::ProgramInfo info;
  info.name = "beyond_margins";
  info.description =
      "Beyond the paper: which margin gradient flow on the squared net maximizes under the exponential or the logistic "
      "loss, over the plane of initialization scale and accuracy.";
  info.title = "Beyond the paper: which margin is maximized, at which scale and accuracy?";
  info.paper =
      "The paper asks how the scale decides between kernel and rich regime under the squared loss. Under the losses of "
      "classification the accuracy decides as well (Moroshko et al. 2020): here the flow is simulated to losses far "
      "below any number type and compared with the margin problem, min Q subject to its own margin.";
  info.data = "Three integer problems of four or five samples, so that every number can be checked.";
  info.reduction = "65 scales and 65 accuracies down to e^-100000 (97 and e^-1000000 in a full run).";
  info.figures = ex::beyond_margins_panels;
  info.add_options = [&](CLI::App& app) {
    app.add_option("--loss", loss, "Loss of the maps: exponential, logistic")
        ->check(CLI::IsMember({"exponential", "logistic"}))
        ->capture_default_str();
  };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::BeyondMarginsOptions options = ex::beyond_margins_options(common.effort);
    options.loss = loss == "logistic" ? richflow::MarginLoss::logistic : richflow::MarginLoss::exponential;
    options.threads = common.threads;
    const ex::BeyondMargins figure = ex::beyond_margins(options);
    ex::write_beyond_margins_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::beyond_margins_picture(figure, options)},
        ex::beyond_margins_tables,
        {},
        ex::joined_text(options.num_scales, " scales and ", options.num_losses, " accuracies of three problems")};
  });
}
