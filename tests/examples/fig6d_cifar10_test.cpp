#include "fig6d_cifar10.hpp"

#include <cmath>
#include <fstream>
#include <string>

#include "files.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using test_support::near;
using test_support::TemporaryFolder;

namespace {

/// Two classes of images of 4 x 4 pixels, told apart by where they are bright, in MNIST's format.
void write_images(const TemporaryFolder& folder, const std::string& prefix, int count) {
  const std::string zeros(3, '\0');
  std::string images = std::string("\0\0\x08\x03", 4) + zeros + static_cast<char>(count) + zeros + '\4' + zeros + '\4';
  std::string labels = std::string("\0\0\x08\x01", 4) + zeros + static_cast<char>(count);
  for (int n = 0; n < count; ++n) {
    for (int k = 0; k < 16; ++k) images += static_cast<char>((k < 8) == (n % 2 == 0) ? 90 + 7 * ((n + k) % 5) : 3 * k);
    labels += static_cast<char>(n % 2);
  }
  (void)folder.file(prefix + "-images-idx3-ubyte", images);
  (void)folder.file(prefix + "-labels-idx1-ubyte", labels);
}

/// The same two classes in CIFAR-10's format, brighter in the upper or in the lower half of every colour.
void write_cifar(const TemporaryFolder& folder, const std::string& name, int count) {
  std::string bytes;
  for (int n = 0; n < count; ++n) {
    bytes += static_cast<char>(n % 2);
    for (int k = 0; k < 3 * 32 * 32; ++k)
      bytes += static_cast<char>((k % 1024 < 512) == (n % 2 == 0) ? 180 + 7 * ((n + k) % 5) : k % 48);
  }
  (void)folder.file(name, bytes);
}

Fig6dOptions small_options(const TemporaryFolder& folder) {
  write_images(folder, "train", 24);
  write_images(folder, "t10k", 12);
  Fig6dOptions options;
  options.data = folder.path();
  options.num_seeds = 2;
  options.alphas = {1.0, 1.5};
  options.width = 2;
  options.batch = 8;
  options.max_epochs = 30;
  options.max_linear_epochs = 2;
  return options;
}

Fig6d figure_of(const Fig6dOptions& options, int threads) {
  return make_fig6d(options, run_fig6d_sweep(options, SweepRunner(threads)));
}

}  // namespace

TEST_CASE("figure 6 (d): numbers are what they should be, whatever the number of threads") {
  const TemporaryFolder folder;
  const Fig6dOptions options = small_options(folder);
  const Fig6d figure = figure_of(options, 1);
  REQUIRE(figure.points.size() == 2);
  for (const Fig6dPoint& point : figure.points) {
    CAPTURE(point.alpha);
    CHECK(point.step > 0.0);
    CHECK((point.kernel_distance > 0.0 && point.kernel_distance < 1.0));
    CHECK(point.epochs >= 1.0);
    CHECK(point.epochs <= 30.0);
    // Means of counts over 24 training and 12 test images and two seeds; a guess is wrong for one image in two.
    CHECK(point.train_error * 48 == std::round(point.train_error * 48));
    for (const double error :
         {point.test_error.median, point.kernel_test_error.median, point.linearized_test_error.median}) {
      CHECK(error < 0.4);
      CHECK_THAT(error * 24, near(std::round(error * 24), 0.0, 1e-9));
    }
  }
  // Two classes that a few pixels tell apart.
  CHECK(figure.points.front().train_error <= 0.1);
  CHECK(figure.claims.size() == 5);
  const Fig6d again = figure_of(options, 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(again.points[i].test_error.median == figure.points[i].test_error.median);
    CHECK(again.points[i].loss == figure.points[i].loss);
  }
  write_fig6d_table(figure, folder.path());
  CHECK(std::filesystem::exists(folder.path() / "fig6d.csv"));
  CHECK(fig6d_estimate(options) > 0.0);
}

TEST_CASE("figure 6 (d) trains on files of CIFAR-10's format") {
  const TemporaryFolder folder;
  for (int file = 1; file <= 5; ++file) write_cifar(folder, "data_batch_" + std::to_string(file) + ".bin", 4);
  write_cifar(folder, "test_batch.bin", 4);
  Fig6dOptions options;
  options.data = folder.path();
  options.images_per_file = 4;
  options.num_seeds = 1;
  options.alphas = {1.0};
  options.num_train = 0;
  options.width = 2;
  options.batch = 8;
  options.max_epochs = 30;
  options.max_linear_epochs = 2;
  const Fig6d figure = figure_of(options, 1);
  CHECK(figure.data == "CIFAR-10, 20 training and 4 test images, 2 channels in the first layer");
  REQUIRE(figure.points.size() == 1);
  // Two classes that half of the pixels tell apart; a guess is wrong for one image in two.
  CHECK(figure.points.front().train_error == 0.0);
  CHECK(figure.points.front().test_error.median == 0.0);
  CHECK((figure.points.front().kernel_distance > 0.0 && figure.points.front().kernel_distance < 1.0));
}

TEST_CASE("figure 6 (d): invalid sizes are refused") {
  const TemporaryFolder folder;
  Fig6dOptions options = small_options(folder);
  options.alphas.clear();
  CHECK_THROWS_AS(run_fig6d_sweep(options, SweepRunner(1)), richflow::ArgumentError);
  options = small_options(folder);
  options.batch = 0;
  CHECK_THROWS_AS(run_fig6d_sweep(options, SweepRunner(1)), richflow::ArgumentError);
}
