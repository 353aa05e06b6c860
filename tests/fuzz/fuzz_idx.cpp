#include <zlib.h>

#include "fuzz.hpp"
#include "idx.hpp"

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
  const std::filesystem::path path = fuzz::folder() / "compressed.gz";
  gzFile_s* const out = gzopen(path.c_str(), "wb1");
  gzwrite(out, content.data(), static_cast<unsigned>(content.size()));
  gzclose_w(out);
  return fuzz::content_of(path);
}

std::optional<IdxArray> read(const std::string& content, int rank) {
  return fuzz::unless_refused([&] { return read_idx(fuzz::file("input", content), rank); });
}

bool same_array(const std::optional<IdxArray>& a, const std::optional<IdxArray>& b) {
  return a.has_value() == b.has_value() && (!a || (a->shape == b->shape && a->values == b->values));
}

bool is_compressed(std::string_view content) { return content.starts_with("\x1f\x8b"); }

/// Compressed bytes are rare among the inputs, and what zlib makes of them the search does not see. So the first two
/// bytes say where those of the others are changed, the third how; 0: they end there.
void read_damaged(const std::string& content) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(content[k]); };
  const std::string rest = content.substr(3);
  if (rest.size() < 4 || is_compressed(rest)) return;
  const int rank = rest[3] == 1 ? 1 : 3;
  std::string bytes = compressed(rest);
  const std::size_t place = (256U * byte(0) + byte(1)) % bytes.size();
  if (byte(2) == 0) {
    fuzz::expect(!read(bytes.substr(0, place), rank), "a part of a compressed file is refused");
    return;
  }
  bytes[place] = static_cast<char>(static_cast<unsigned char>(bytes[place]) ^ byte(2));
  const std::optional<IdxArray> damaged = read(bytes, rank);
  fuzz::expect(!damaged || same_array(damaged, read(rest, rank)), "a damaged file is refused or reads as the whole");
}

/// A good file, plain and compressed, and what damages it: in the time of its header, which is of no account, in its
/// data, and in the checksum at its end.
void add_seeds(std::vector<std::string>& seeds, const IdxArray& array) {
  const std::string content = written(array);
  const std::string bytes = compressed(content);
  const auto rank = static_cast<int>(array.shape.size());
  fuzz::expect(same_array(read(content, rank), array), "the seed is what was written");
  fuzz::expect(same_array(read(bytes, rank), array), "the compressed seed is what was written");
  seeds.push_back(content);
  seeds.push_back(bytes);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut)
    fuzz::expect(!read(bytes.substr(0, cut), rank), "a part of the compressed seed is refused");
  for (const std::size_t place : {std::size_t{4}, std::size_t{20}, bytes.size() - 6})
    for (const char how : {'\0', '\1'})
      seeds.push_back(std::string{'\0', static_cast<char>(static_cast<unsigned char>(place)), how} + content);
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  std::vector<std::string> seeds;
  add_seeds(seeds, {{2, 2, 3}, {0, 1, 2, 3, 4, 5, 255, 254, 253, 252, 251, 250}});
  add_seeds(seeds, {{4}, {0, 9, 3, 2}});
  return seeds;
}

void fuzz::try_input(const std::string& content) {
  const std::string small = compressed(content);
  for (const int rank : {1, 3}) {
    const std::optional<IdxArray> array = read(content, rank);
    if (array) expect(same_array(read(written(*array), rank), array), "the array reads back");
    expect(is_compressed(content) || same_array(read(small, rank), array), "it reads as well compressed");
  }
  if (content.size() > 3) read_damaged(content);
}
