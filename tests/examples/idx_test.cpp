#include "idx.hpp"

#include <zlib.h>

#include <filesystem>
#include <string>

#include "files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::content_of;
using test_support::message_contains;
using test_support::TemporaryFolder;

namespace {

std::string big_endian(unsigned value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xFFU);
  return bytes;
}

std::string images(unsigned count, unsigned height, unsigned width) {
  std::string bytes = big_endian(0x803) + big_endian(count) + big_endian(height) + big_endian(width);
  for (unsigned k = 0; k < count * height * width; ++k) bytes += static_cast<char>(k * 37 % 251);
  return bytes;
}

std::string labels(unsigned count) {
  std::string bytes = big_endian(0x801) + big_endian(count);
  for (unsigned k = 0; k < count; ++k) bytes += static_cast<char>(k % 10);
  return bytes;
}

void write_compressed(const std::filesystem::path& path, const std::string& content) {
  gzFile file = gzopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  REQUIRE(gzwrite(file, content.data(), static_cast<unsigned>(content.size())) == static_cast<int>(content.size()));
  REQUIRE(gzclose(file) == Z_OK);
}

}  // namespace

TEST_CASE("IDX images and labels are read, compressed and plain alike") {
  const TemporaryFolder folder;
  write_compressed(folder.path() / "train-images-idx3-ubyte.gz", images(12, 3, 4));
  (void)folder.file("train-labels-idx1-ubyte", labels(12));
  const LabelledImages data = read_labelled_images(folder.path(), Part::train);
  CHECK(data.num_images == 12);
  CHECK(data.height == 3);
  CHECK(data.width == 4);
  REQUIRE(data.pixels.size() == 144);
  CHECK(data.pixels[143] == 143 * 37 % 251);
  REQUIRE(data.labels.size() == 12);
  CHECK(data.labels[11] == 1);
}

TEST_CASE("IDX files are found with a dot in their name and in the folder raw; a missing one lists what is there") {
  for (const char* below : {"", "raw", "MNIST/raw"}) {
    for (const bool compressed : {false, true}) {
      CAPTURE(below, compressed);
      const TemporaryFolder folder;
      const auto place = folder.path() / below;
      std::filesystem::create_directories(place);
      const std::string ending = compressed ? ".gz" : "";
      if (compressed) {
        write_compressed(place / "train-images.idx3-ubyte.gz", images(12, 3, 4));
        write_compressed(place / "train-labels.idx1-ubyte.gz", labels(12));
      } else {
        write_file(place / "train-images.idx3-ubyte", images(12, 3, 4));
        write_file(place / "train-labels.idx1-ubyte", labels(12));
      }
      const LabelledImages data = read_labelled_images(folder.path(), Part::train);
      CHECK(data.num_images == 12);
      CHECK(data.labels[11] == 1);
    }
  }
  const TemporaryFolder folder;
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::train), FileError, message_contains("which is empty"));
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path() / "none", Part::train), FileError,
                       message_contains("which does not exist"));
  (void)folder.file("images.zip", "PK");
  (void)folder.file("a.txt", "");
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::train), FileError,
                       message_contains("which holds 'a.txt', 'images.zip'"));
  for (int k = 0; k < 9; ++k) (void)folder.file("b" + std::to_string(k), "");
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::train), FileError, message_contains("and 3 others"));
}

TEST_CASE("damaged and mislabelled IDX files are refused by name") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& content, int rank, const char* message) {
    const auto path = folder.file("file.idx", content);
    INFO(message);
    CHECK_THROWS_MATCHES(read_idx(path, rank), FileError, message_contains(message));
    CHECK_THROWS_MATCHES(read_idx(path, rank), FileError, message_contains("file.idx"));
  };
  refused("", 3, "too short for an IDX file");
  refused("ab", 3, "too short for an IDX file");
  refused("label,pixel1\n5,0\n", 3, "not an IDX file");
  refused("<!DOCTYPE html><html></html>", 3, "web page (HTML)");
  refused("version https://git-lfs.github.com/spec/v1\n", 3, "Git LFS");
  refused("PK\x03\x04 and so on", 3, "ZIP archive");
  refused(labels(4), 3, "IDX array of rank 1 where rank 3 is needed");
  refused(images(2, 3, 4), 1, "IDX array of rank 3 where rank 1 is needed");
  refused(std::string("\0\0\x0D\x01", 4) + big_endian(2) + "01234567", 1, "IDX element type 13");
  refused(images(2, 3, 4).substr(0, 10), 3, "truncated in its header");
  refused(images(2, 3, 4).substr(0, 30), 3, "truncated: 14 of 24 bytes");
  refused(images(2, 3, 4) + "x", 3, "continues after the 24 bytes");
  refused(big_endian(0x803) + big_endian(0) + big_endian(3) + big_endian(4), 3, "empty array");
  // A header that lies about its size costs neither memory nor time.
  const std::string huge = big_endian(0xFFFFFFFFU);
  refused(big_endian(0x803) + huge + huge + huge, 3, "more than 2^40 bytes");
  refused(big_endian(0x801) + huge + "abc", 1, "truncated: 3 of 4294967295 bytes");
}

TEST_CASE("a compressed file that was cut or damaged is refused") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "images.gz";
  // Long enough that the cut falls into the compressed pixels.
  write_compressed(path, images(200, 28, 28));
  const std::string whole = content_of(path);
  CHECK(read_idx(path, 3).values.size() == 200 * 28 * 28);
  for (const std::size_t size : {whole.size() / 2, whole.size() - 9, whole.size() - 4, whole.size() - 1}) {
    INFO(size);
    CHECK_THROWS_MATCHES(read_idx(folder.file("cut.gz", whole.substr(0, size)), 3), FileError,
                         message_contains("truncated"));
  }
  std::string damaged = whole;
  damaged[whole.size() - 6] = static_cast<char>(damaged[whole.size() - 6] ^ 0x55);  // in the checksum
  CHECK_THROWS_MATCHES(read_idx(folder.file("damaged.gz", damaged), 3), FileError, message_contains("damaged.gz"));
}

TEST_CASE("images and labels that do not belong together are refused") {
  const TemporaryFolder folder;
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::test), FileError,
                       message_contains("no 't10k-images-idx3-ubyte.gz' in the folder"));
  (void)folder.file("t10k-images-idx3-ubyte", images(3, 2, 2));
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::test), FileError,
                       message_contains("no 't10k-labels-idx1-ubyte.gz'"));
  (void)folder.file("t10k-labels-idx1-ubyte", labels(4));
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::test), FileError,
                       message_contains("has 3 images but"));
  std::string wrong = labels(3);
  wrong.back() = 10;
  (void)folder.file("t10k-labels-idx1-ubyte", wrong);
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::test), FileError,
                       message_contains("label 2 is 10, above 9"));
  // Labels in the place of images.
  (void)folder.file("t10k-images-idx3-ubyte", labels(3));
  CHECK_THROWS_MATCHES(read_labelled_images(folder.path(), Part::test), FileError, message_contains("rank 1"));
}
