#include "beyond_linear_networks.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  ex::ProgramInfo info;
  info.name = "beyond_linear_networks";
  info.description =
      "Beyond the paper: linear networks of two and more layers beside their exact solutions, from rich to lazy over "
      "the balance lambda of the layers, and the kernel limit of a symmetric factorization (the paper's appendix E).";
  info.title = "Linear networks and the kernel limit, exactly";
  info.paper =
      "The paper takes its regimes from the scale alpha. Two linear layers with W_2^T W_2 - W_1 W_1^T = lambda I go "
      "from rich to lazy over lambda, and can be solved exactly (Saxe et al. 2014; Domine et al. 2024), as can "
      "balanced "
      "layers of any depth (Arora et al. 2019) and a single neuron (Azulay et al. 2021). Its appendix E says that a "
      "symmetric factorization tends to its kernel predictor as alpha grows: it does so as alpha^-2, and as alpha^-4 "
      "from a doubled start.";
  info.data =
      "Whitened inputs whose best linear map has the singular values 2, 1 and 1/2; random whitened data; measurements "
      "of 4 x 4 matrices, single entries and dense ones.";
  info.reduction = "60 random problems of each kind (500 in a full run), 200 times of a curve (400).";
  info.figures = ex::beyond_linear_networks_panels;
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::BeyondLinearNetworksOptions options = ex::beyond_linear_networks_options(common.effort);
    options.seed = common.seed;
    const ex::BeyondLinearNetworks figure = ex::beyond_linear_networks(options);
    ex::write_beyond_linear_networks_tables(figure, common.out);
    return ex::ProgramResult{figure.claims,
                             {ex::beyond_linear_networks_picture(figure)},
                             ex::beyond_linear_networks_tables,
                             {},
                             ex::joined_text(options.num_problems, " random problems of each kind, ",
                                             options.num_alphas, " scales, ", options.num_times, " times of a curve")};
  });
}
