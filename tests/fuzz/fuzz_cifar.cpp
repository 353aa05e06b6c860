#include "cifar.hpp"
#include "fuzz.hpp"

using namespace richflow::examples;

namespace {

constexpr std::size_t record = 1 + 3 * 32 * 32;

std::string written(const LabelledImages& images) {
  std::string content;
  for (std::size_t n = 0; n < images.labels.size(); ++n) {
    content += static_cast<char>(images.labels[n]);
    const auto begin = images.pixels.begin() + static_cast<std::ptrdiff_t>(n * (record - 1));
    content.append(begin, begin + static_cast<std::ptrdiff_t>(record - 1));
  }
  return content;
}

LabelledImages read_back(const std::string& content) {
  fuzz::file("test_batch.bin", content);
  const auto count = static_cast<richflow::Index>(1 + content.size() / (record + 1));
  LabelledImages images = read_cifar10(fuzz::folder(), Part::test, count);
  fuzz::expect(images.num_images == count && written(images) == content, "the images read back");
  return images;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  LabelledImages images;
  images.labels = {7, 0};
  for (std::size_t k = 0; k < 2 * (record - 1); ++k) images.pixels.push_back(static_cast<std::uint8_t>(k % 251));
  const std::string content = written(images);
  const LabelledImages read = accepted([&] { return read_back(content); });
  expect(read.labels == images.labels && read.pixels == images.pixels && read.channels == 3 && read.height == 32 &&
             read.width == 32,
         "the images are what was written");
  return {content, content.substr(0, record)};
}

void fuzz::try_input(const std::string& content) {
  // A file of the right size is rare otherwise.
  std::string filled = content;
  filled.resize(record);
  if (static_cast<unsigned char>(filled.front()) <= 9) static_cast<void>(accepted([&] { return read_back(filled); }));
  static_cast<void>(read_back(content));
}
