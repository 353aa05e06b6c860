#include <zlib.h>

#include "fuzz.hpp"
#include "idx.hpp"
#include "richflow/core/error.hpp"

using namespace richflow::examples;

namespace {

std::string written(const IdxArray& array) {
  std::string content{'\0', '\0', '\x08', static_cast<char>(array.shape.size())};
  for (const richflow::Index size : array.shape)
    for (int shift = 24; shift >= 0; shift -= 8)
      content += static_cast<char>(static_cast<unsigned char>(size >> shift));
  content.append(array.values.begin(), array.values.end());
  return content;
}

std::string compressed(const std::string& content) {
  const std::filesystem::path path = fuzz::folder() / "seed.gz";
  gzFile_s* const out = gzopen(path.c_str(), "wb");
  gzwrite(out, content.data(), static_cast<unsigned>(content.size()));
  gzclose_w(out);
  return fuzz::content_of(path);
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const std::string images = written({{2, 2, 3}, {0, 1, 2, 3, 4, 5, 255, 254, 253, 252, 251, 250}});
  const std::string labels = written({{4}, {0, 9, 3, 2}});
  return {images, labels, compressed(images), compressed(labels)};
}

void fuzz::try_input(const std::string& content) {
  const std::filesystem::path path = file("input", content);
  for (const int rank : {1, 3}) {
    IdxArray array;
    try {
      array = read_idx(path, rank);
    } catch (const richflow::Error&) {
      continue;
    }
    const IdxArray back = read_idx(file("again", written(array)), rank);
    expect(back.shape == array.shape && back.values == array.values, "the array reads back");
  }
}
