#include <CLI/CLI.hpp>
#include <iostream>

#include "fig6d_cifar10.hpp"
#include "files.hpp"
#include "source_version.hpp"
#include "text.hpp"
#include "training.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  int num_seeds = 0;
  double save_seconds = ex::SavedTraining().seconds;
  std::filesystem::path data;
  ex::ProgramInfo info;
  info.name = "fig6d_cifar10";
  info.description =
      "Figure 6 (d): a VGG11-like network on images, trained by SGD from initializations of several scales, beside its "
      "kernel regime.";
  info.title = "Figure 6 (d): VGG11-like network";
  info.paper =
      "A convolutional network trained to fit all images generalizes the better the smaller the scale alpha of its "
      "initialization; at large alpha it is no better than in the kernel regime.";
  info.reduction =
      "1000 images of Fashion-MNIST, 4 channels in the first layer, batch 32, searched steps, until the training "
      "images "
      "are fitted; the paper: CIFAR-10 (--data), 64 channels, batch 128, step 1e-4, 2000 epochs.";
  info.figures = ex::fig6d_panels;
  info.sweeps = true;
  info.code_version = richflow_source_version;
  info.add_options = [&](CLI::App& app) {
    ex::add_seeds_option(app, num_seeds);
    ex::add_save_option(app, save_seconds);
    app.add_option("--data", data, "Folder of CIFAR-10 (binary version) or of images in MNIST's format");
  };
  return ex::run_program(argc, argv, info, [&](const ex::CommonOptions& common) {
    ex::Fig6dOptions options = ex::fig6d_options(common.effort);
    options.seed = common.seed;
    if (!data.empty()) options.data = data;
    if (num_seeds > 0) options.num_seeds = num_seeds;
    if (common.effort == ex::Effort::full) {
      options.saved = {common.out / "fig6d_checkpoints", save_seconds};
      ex::prepare_output_folder(options.saved.folder);
      if (common.sweeps.is_root())
        std::cerr << "Estimated time on one thread: " << ex::duration(ex::fig6d_estimate(options))
                  << ". If interrupted, continue with --resume.\n";
    }
    const richflow::SweepResult sweep = ex::run_fig6d_sweep(options, common.sweeps);
    if (common.sweeps.is_partial()) return ex::ProgramResult{};
    const ex::Fig6d figure = ex::make_fig6d(options, sweep);
    if (common.sweeps.is_root()) ex::write_fig6d_table(figure, common.out);
    return ex::ProgramResult{
        figure.claims,
        {ex::fig6d_picture()},
        ex::fig6d_tables,
        figure.data,
        ex::joined_text(options.num_train == 0 ? "all" : std::to_string(options.num_train), " images, ", options.width,
                        " channels in the first layer, ", options.alphas.size(), " scales, ", options.num_seeds,
                        " repetitions, at most ", options.max_epochs, " epochs")};
  });
}
