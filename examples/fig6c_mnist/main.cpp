#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "fig6c_mnist.hpp"
#include "files.hpp"
#include "list.hpp"
#include "options.hpp"
#include "source_version.hpp"
#include "text.hpp"
#include "training.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  double save_seconds = ex::SavedTraining().seconds;
  richflow::Index num_train = 0;
  richflow::Index width = 0;
  std::string alphas = {};
  ex::Fig6cOptions choices;
  ex::ProgramInfo info;
  info.name = "fig6c_mnist";
  info.description =
      "Figure 6 (c): test error of a wide ReLU network on images, trained by SGD to full accuracy, against the scale "
      "of its initialization; beside it its tangent kernel and training of the last layer alone.";
  info.title = "Figure 6 (c): a wide network on images";
  info.paper =
      "Trained without explicit regularization, a wide network generalizes well from small initializations only: from "
      "large ones its test error is that of kernel methods.";
  info.reduction =
      "1000 of the training images, 500 hidden units, momentum 0.9 and loss 0.01, 3 repetitions (full run: all images, "
      "5000 units, plain SGD in batches of 256 to loss 1e-5, once, by steps that grow as one over the loss at its "
      "end).";
  info.figures = ex::fig6c_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) {
    ex::add_seeds_option(app, num_seeds);
    ex::add_save_option(app, save_seconds);
    app.add_option("--data", choices.data, "Folder of images in MNIST's format, or of CIFAR-10 (binary version)")
        ->capture_default_str();
    app.add_option("--alphas", alphas, "Scales, a,b,c or from:to:count (logarithmic); the paper's if not given");
    ex::add_integer_option(app, "--images", num_train, 0, 1'000'000, "Training images; 0 leaves them to the effort");
    ex::add_integer_option(app, "--width", width, 0, 1'000'000, "Hidden units; 0 leaves them to the effort");
  };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig6cOptions options = ex::fig6c_options(common.effort);
    options.seed = common.seed;
    options.data = choices.data;
    if (num_seeds > 0) options.num_seeds = num_seeds;
    if (num_train > 0) options.num_train = num_train;
    if (width > 0) options.width = width;
    if (!alphas.empty()) options.alphas = ex::parse_list("--alphas", alphas, ex::Spacing::logarithmic);
    if (common.sweeps.is_root()) std::cout << ex::fig6c_data(options) << '\n';
    if (common.effort == ex::Effort::full) {
      options.saved = {common.out / "fig6c_checkpoints", save_seconds};
      ex::prepare_output_folder(options.saved.folder);
      if (common.sweeps.is_root()) {
        const double epoch = ex::fig6c_seconds_of_epoch(options);
        constexpr double usual = 100.0;
        std::cerr << "Estimated time on one thread: " << ex::duration(epoch)
                  << " for an epoch of every network and tangent model, so " << ex::duration(epoch * usual)
                  << " if they take " << usual << " epochs (at four scales of MNIST they took 81 on average), and "
                  << ex::duration(epoch * static_cast<double>(options.max_epochs)) << " if all take the most, "
                  << options.max_epochs
                  << "; step searches, retries, the last layer and the smaller networks come on top. If interrupted, "
                     "continue with --resume.\n";
      }
    }
    const ex::Fig6cSweeps sweeps = ex::run_fig6c_sweeps(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig6c figure = ex::make_fig6c(options, sweeps);
    if (common.sweeps.is_root()) ex::write_fig6c_tables(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig6c_picture()},
        ex::fig6c_tables,
        ex::fig6c_data(options),
        ex::joined_text(options.num_train == 0 ? "all" : std::to_string(options.num_train), " images, ", options.width,
                        " hidden units, ", options.alphas.size(), " scales, ", options.num_seeds,
                        " repetitions, at most ", options.max_epochs, " epochs")};
  });
}
