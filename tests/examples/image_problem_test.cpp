#include "image_problem.hpp"

#include <cmath>
#include <string>

#include "files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using test_support::message_contains;
using test_support::TemporaryFolder;

namespace {

/// `count` images of 2 x 2 pixels and their labels, in MNIST's format.
void write_images(const TemporaryFolder& folder, const std::string& prefix, int count, bool one_colour = false) {
  const std::string zeros(3, '\0');
  std::string images = std::string("\0\0\x08\x03", 4) + zeros + static_cast<char>(count) + zeros + '\2' + zeros + '\2';
  std::string labels = std::string("\0\0\x08\x01", 4) + zeros + static_cast<char>(count);
  for (int n = 0; n < count; ++n) {
    for (int k = 0; k < 4; ++k) images += static_cast<char>(one_colour ? 7 : (37 * n + 11 * k) % 256);
    labels += static_cast<char>(n % 10);
  }
  (void)folder.file(prefix + "-images-idx3-ubyte", images);
  (void)folder.file(prefix + "-labels-idx1-ubyte", labels);
}

}  // namespace

TEST_CASE("an image problem is drawn, bordered and standardized by its training images") {
  const TemporaryFolder folder;
  write_images(folder, "train", 12);
  write_images(folder, "t10k", 5);
  const ImageProblem problem = image_problem(read_image_files(folder.path()), {.num_train = 8, .size = 4, .seed = 3});
  CHECK(problem.shape == richflow::ImageShape{1, 4, 4});
  CHECK(problem.train.num_samples() == 8);
  CHECK(problem.test.num_samples() == 5);
  const auto& X = problem.train.columns();
  REQUIRE(X.rows() == 16);
  // Sums of 128 floats, standardized in single precision.
  CHECK(std::abs(X.cast<double>().mean()) < 1e-5);
  CHECK(std::abs(X.cast<double>().squaredNorm() / 128 - 1.0) < 1e-5);
  // The border is background; the middle is not.
  CHECK(X.row(0).maxCoeff() == X.row(0).minCoeff());
  CHECK(X.row(5).maxCoeff() > X.row(0).maxCoeff());
  // Another stream draws other images; the same one the same.
  const auto again = image_problem(read_image_files(folder.path()), {.num_train = 8, .size = 4, .seed = 3});
  CHECK(again.train.columns() == X);
  const auto other =
      image_problem(read_image_files(folder.path()), {.num_train = 8, .size = 4, .seed = 3, .stream = 1});
  CHECK(other.train.labels() != problem.train.labels());
  CHECK(image_problem(read_image_files(folder.path()), {.num_train = 100}).train.num_samples() == 12);
}

TEST_CASE("an image problem that makes no sense is refused") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(image_problem(read_image_files(folder.path()), {}), FileError);
  write_images(folder, "train", 12, true);
  write_images(folder, "t10k", 5);
  CHECK_THROWS_MATCHES(image_problem(read_image_files(folder.path()), {}), richflow::ArgumentError,
                       message_contains("one colour"));
  CHECK_THROWS_MATCHES(image_problem(read_image_files(folder.path()), {.size = 1}), richflow::ArgumentError,
                       message_contains("padded_side"));
}
