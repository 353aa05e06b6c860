#include "cifar.hpp"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr std::size_t pixels_per_image = 3 * 32 * 32;
constexpr std::size_t record = 1 + pixels_per_image;

void append_file(const std::filesystem::path& path, std::size_t count, LabelledImages& images) {
  const auto fail = [&](const std::string& what) { throw FileError(quoted(path) + ": " + what); };
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw FileError("cannot open " + quoted(path) + ": " + error.message());
  if (size != count * record)
    fail("has " + std::to_string(size) + " bytes where a file of CIFAR-10 has " + std::to_string(count * record) +
         " (" + std::to_string(count) + " images)");
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError("cannot open " + quoted(path) + ": " + std::generic_category().message(errno));
  std::vector<char> bytes(count * record);
  if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) fail("could not be read to its end");
  for (std::size_t n = 0; n < count; ++n) {
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(bytes.data()) + n * record;
    if (*begin > 9) fail("label " + std::to_string(n) + " is " + std::to_string(*begin) + ", above 9");
    images.labels.push_back(*begin);
    images.pixels.insert(images.pixels.end(), begin + 1, begin + record);
  }
}

}  // namespace

std::filesystem::path cifar10_folder(const std::filesystem::path& folder) {
  for (const std::filesystem::path& place : {folder, folder / "cifar-10-batches-bin"})
    if (std::filesystem::exists(place / "data_batch_1.bin")) return place;
  for (const std::filesystem::path& place : {folder, folder / "cifar-10-batches-py"})
    if (std::filesystem::exists(place / "data_batch_1"))
      throw FileError("the folder " + quoted(place) +
                      " holds the version of CIFAR-10 for Python: the binary version (data_batch_1.bin ...) is needed");
  return {};
}

LabelledImages read_cifar10(const std::filesystem::path& folder, Part part, Index images_per_file) {
  require(images_per_file > 0, "images_per_file must be positive, got ", images_per_file);
  std::vector<std::string> names = {"test_batch.bin"};
  if (part == Part::train) {
    names.clear();
    for (int k = 1; k <= 5; ++k) names.push_back("data_batch_" + std::to_string(k) + ".bin");
  }
  LabelledImages images;
  images.channels = 3;
  images.height = 32;
  images.width = 32;
  images.num_images = images_per_file * static_cast<Index>(names.size());
  images.labels.reserve(static_cast<std::size_t>(images.num_images));
  images.pixels.reserve(static_cast<std::size_t>(images.num_images) * pixels_per_image);
  for (const std::string& name : names) append_file(folder / name, static_cast<std::size_t>(images_per_file), images);
  return images;
}

}  // namespace richflow::examples
