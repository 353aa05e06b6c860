#include "fig6c_mnist.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

#include "files.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace richflow::examples;
using namespace test_support;

namespace {

std::string big_endian(unsigned value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xFFU);
  return bytes;
}

/// Ten classes of 4 x 4 images, each a bright spot at its place in noise.
void write_images(const std::filesystem::path& folder, const std::string& prefix, unsigned count, std::uint64_t seed) {
  RandomStream random(seed);
  std::string pixels = big_endian(0x803) + big_endian(count) + big_endian(4) + big_endian(4);
  std::string labels = big_endian(0x801) + big_endian(count);
  for (unsigned n = 0; n < count; ++n) {
    const auto label = static_cast<unsigned>(random.uniform_integer(10));
    labels += static_cast<char>(label);
    for (unsigned i = 0; i < 16; ++i)
      pixels += static_cast<char>(random.uniform_integer(120) + (i == label ? 130U : 0U));
  }
  write_file(folder / (prefix + "-images-idx3-ubyte"), pixels);
  write_file(folder / (prefix + "-labels-idx1-ubyte"), labels);
}

Fig6cOptions small_options(const std::filesystem::path& folder) {
  Fig6cOptions options = fig6c_options(Effort::quick);
  options.data = folder;
  options.num_seeds = 2;
  options.num_train = 60;
  options.num_test = 0;
  options.width = 20;
  options.alphas = {0.5, 50};
  options.max_epochs = 200;
  options.trial_epochs = 3;
  return options;
}

}  // namespace

TEST_CASE("figure 6 (c): the same numbers with any number of threads, and one point per scale") {
  const TemporaryFolder folder;
  write_images(folder.path(), "train", 200, 1);
  write_images(folder.path(), "t10k", 100, 2);
  const Fig6cOptions options = small_options(folder.path());
  const Fig6cSweeps one = run_fig6c_sweeps(options, SweepRunner(1));
  const Fig6cSweeps three = run_fig6c_sweeps(options, SweepRunner(3));
  for (const char* output : {"step", "epochs", "arrived", "train_error", "test_error", "kernel_distance"}) {
    CHECK(one.networks.values(output) == three.networks.values(output));
    CHECK(one.last_layer.values(output) == three.last_layer.values(output));
    CHECK(one.small_steps.values(output) == three.small_steps.values(output));
  }
  const Fig6c figure = make_fig6c(options, one);
  REQUIRE(figure.points.size() == 2);
  for (const Fig6cPoint& point : figure.points) {
    CAPTURE(point.alpha, point.step, point.epochs, point.train_error, point.kernel_train_error);
    // a chance guess is wrong nine times in ten
    CHECK(point.test_error.mean < 0.6);
    CHECK(point.kernel_test_error.mean < 0.6);
    CHECK(point.test_error.standard_error > 0.0);
    CHECK(point.step > 0.0);
    CHECK((point.kernel_distance > 0.0 && point.kernel_distance < 1.0));
    CHECK((point.small_step_kernel_distance > 0.0 && point.small_step_kernel_distance < 1.0));
    CHECK(point.small_step_test_error < 0.6);
  }
  CHECK(figure.last_layer_test_error.mean < 0.6);
  CHECK(figure.claims.size() == 9);
  CHECK_FALSE(one.is_protocol);
  Fig6cSweeps protocol = one;
  protocol.is_protocol = true;  // the paper's errors beside
  const auto claims = make_fig6c(options, protocol).claims;
  CHECK(claims.size() == 13);
  const auto last_layer = std::find_if(claims.begin(), claims.end(), [](const Claim& claim) {
    return claim.claim.find("last layer only (the paper: 2.7)") != std::string::npos;
  });
  REQUIRE(last_layer != claims.end());
  CHECK(last_layer->measured == 100.0 * figure.last_layer_test_error.mean);
  CHECK_FALSE(last_layer->holds);
  write_fig6c_tables(figure, folder.path());
  CHECK(
      content_of(folder.path() / "fig6c.csv").rfind("alpha,step,epochs,train_error,test_error,kernel_test_error", 0) ==
      0);
}

TEST_CASE("the full run of figure 6 (c) arrives with networks, their tangent models and the last layer") {
  const TemporaryFolder folder;
  write_images(folder.path(), "train", 200, 1);
  write_images(folder.path(), "t10k", 100, 2);
  Fig6cOptions options = fig6c_options(Effort::full);
  options.data = folder.path();
  options.num_test = 0;
  options.width = 60;
  options.batch_size = 32;
  options.alphas = {0.1, 1, 50};
  const Fig6cSweeps sweeps = run_fig6c_sweeps(options, SweepRunner(1));
  for (const SweepResult* sweep : {&sweeps.networks, &sweeps.last_layer}) {
    for (const double arrived : sweep->values("arrived")) CHECK(arrived == 1.0);
    for (const double error : sweep->values("train_error")) CHECK(error == 0.0);
  }
  // The steps of a perceptron at alpha = 1 and 50, and for the last layer.
  CHECK(sweeps.networks.values("step", {{"alpha", 1}, {"tangent", 1}}).front() == 64.0);
  CHECK(sweeps.networks.values("step", {{"alpha", 50}, {"tangent", 1}}).front() == 1.0);
  CHECK(sweeps.last_layer.values("step").front() == 64.0);
}

TEST_CASE("figure 6 (c) says how many trainings ended too early") {
  const TemporaryFolder folder;
  write_images(folder.path(), "train", 200, 1);
  write_images(folder.path(), "t10k", 100, 2);
  Fig6cOptions options = small_options(folder.path());
  const auto early = [&] {
    const auto claims = make_fig6c(options, run_fig6c_sweeps(options, SweepRunner(1))).claims;
    const auto found = std::find_if(claims.begin(), claims.end(), [](const Claim& claim) {
      return claim.claim.find("whose training ended before every image was right") != std::string::npos;
    });
    REQUIRE(found != claims.end());
    CHECK(found->holds == (found->measured == 0.0));
    return found->measured;
  };
  options.alphas = {1, 50};
  options.max_epochs = 2000;
  CHECK(early() == 0.0);
  options.max_epochs = 1;
  // Two scales, two repetitions: 4 networks, 4 tangent models; the 2 small networks may take 10 epochs.
  CHECK(early() >= 8.0);
}

TEST_CASE("figure 6 (c) refuses invalid sizes and missing data") {
  const TemporaryFolder folder;
  Fig6cOptions options = small_options(folder.path());
  CHECK_THROWS_MATCHES(run_fig6c_sweeps(options, SweepRunner(1)), FileError, message_contains("train-images"));
  options.num_seeds = 0;
  CHECK_THROWS_MATCHES(run_fig6c_sweeps(options, SweepRunner(1)), ArgumentError, message_contains("num_seeds"));
  options = small_options(folder.path());
  options.alphas = {-1};
  CHECK_THROWS_MATCHES(run_fig6c_sweeps(options, SweepRunner(1)), ArgumentError, message_contains("got -1"));
}
