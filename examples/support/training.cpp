#include "training.hpp"

#include "options.hpp"

namespace richflow::examples {

void add_save_option(CLI::App& app, double& save_seconds) {
  add_nonnegative_option(app, "--save-seconds", save_seconds,
                         "A full run saves its half-trained nets after epochs, this often");
}

}  // namespace richflow::examples
