#include "training.hpp"

#include <CLI/CLI.hpp>

namespace richflow::examples {

void add_save_option(CLI::App& app, double& save_seconds) {
  app.add_option("--save-seconds", save_seconds, "A full run saves its half-trained nets after epochs, this often")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

}  // namespace richflow::examples
