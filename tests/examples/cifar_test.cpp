#include "cifar.hpp"

#include <string>

#include "files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::message_contains;
using test_support::TemporaryFolder;

namespace {

constexpr int pixels = 3 * 32 * 32;

/// Two images, whose labels and pixels follow from the number of the file.
std::string two_images(int file) {
  std::string bytes;
  for (int n = 0; n < 2; ++n) {
    bytes += static_cast<char>((file + 5 * n) % 10);
    for (int k = 0; k < pixels; ++k) bytes += static_cast<char>((k + 7 * n + 31 * file) % 256);
  }
  return bytes;
}

}  // namespace

TEST_CASE("the files of CIFAR-10 are read in order, channel by channel") {
  const TemporaryFolder folder;
  for (int file = 1; file <= 5; ++file)
    (void)folder.file("data_batch_" + std::to_string(file) + ".bin", two_images(file));
  (void)folder.file("test_batch.bin", two_images(6));
  const LabelledImages train = read_cifar10(folder.path(), Part::train, 2);
  CHECK(train.num_images == 10);
  CHECK(train.channels == 3);
  CHECK(train.height == 32);
  CHECK(train.width == 32);
  REQUIRE(train.labels.size() == 10);
  REQUIRE(train.pixels.size() == 10 * pixels);
  CHECK(train.labels[0] == 1);
  CHECK(train.labels[9] == 0);
  CHECK(train.pixels[0] == 31);
  CHECK(train.pixels[9 * pixels + 5] == (5 + 7 + 31 * 5) % 256);  // above 127: bytes are unsigned
  const LabelledImages test = read_cifar10(folder.path(), Part::test, 2);
  CHECK(test.num_images == 2);
  CHECK(test.labels[1] == 1);
}

TEST_CASE("CIFAR-10 is found where its archive unpacks, and the version for Python is recognized") {
  const TemporaryFolder folder;
  CHECK(cifar10_folder(folder.path()).empty());
  std::filesystem::create_directory(folder.path() / "cifar-10-batches-py");
  (void)folder.file("cifar-10-batches-py/data_batch_1", "pickled");
  CHECK_THROWS_MATCHES(cifar10_folder(folder.path()), FileError, message_contains("the binary version"));
  std::filesystem::create_directory(folder.path() / "cifar-10-batches-bin");
  (void)folder.file("cifar-10-batches-bin/data_batch_1.bin", "");
  CHECK(cifar10_folder(folder.path()) == folder.path() / "cifar-10-batches-bin");
  (void)folder.file("data_batch_1.bin", "");
  CHECK(cifar10_folder(folder.path()) == folder.path());
}

TEST_CASE("damaged files of CIFAR-10 are refused by name") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& message) {
    INFO(message);
    CHECK_THROWS_MATCHES(read_cifar10(folder.path(), Part::test, 2), FileError, message_contains(message));
    CHECK_THROWS_MATCHES(read_cifar10(folder.path(), Part::test, 2), FileError, message_contains("test_batch.bin"));
  };
  refused("cannot open");
  const std::string whole = two_images(1);
  (void)folder.file("test_batch.bin", whole.substr(0, whole.size() - 1));
  refused("has 6145 bytes where a file of CIFAR-10 has 6146 (2 images)");
  (void)folder.file("test_batch.bin", whole.substr(0, 1 + pixels));  // cut between two images
  refused("has 3073 bytes");
  (void)folder.file("test_batch.bin", whole + "x");
  refused("has 6147 bytes");
  (void)folder.file("test_batch.bin", "");
  refused("has 0 bytes");
  std::string wrong = whole;
  wrong[1 + pixels] = 10;
  (void)folder.file("test_batch.bin", wrong);
  refused("label 1 is 10, above 9");
  // Of another size than the real ones.
  (void)folder.file("test_batch.bin", whole);
  CHECK_THROWS_MATCHES(read_cifar10(folder.path(), Part::test), FileError, message_contains("30730000 (10000 images)"));
  CHECK_THROWS_MATCHES(read_cifar10(folder.path(), Part::train, 2), FileError, message_contains("data_batch_1.bin"));
  CHECK_THROWS_AS(read_cifar10(folder.path(), Part::test, 0), richflow::ArgumentError);
}
