#include "idx.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

struct CloseGz {
  void operator()(gzFile_s* file) const { gzclose_r(file); }
};

class IdxReader {
 public:
  explicit IdxReader(const std::filesystem::path& path) : path_(path) {
    if (std::filesystem::is_directory(path)) throw FileError(quoted(path) + " is a folder, not an IDX file");
    file_.reset(gzopen(path.c_str(), "rb"));
    if (!file_) throw FileError("cannot open " + quoted(path) + ": " + std::generic_category().message(errno));
    // Of a size for which malloc does not ask the system each time.
    gzbuffer(file_.get(), 1U << 16);
  }

  /// Fills `out` as far as the file goes; returns the number of bytes.
  std::size_t read(std::uint8_t* out, std::size_t size) {
    std::size_t done = 0;
    while (done < size) {
      const auto block = static_cast<unsigned>(std::min(size - done, std::size_t{1} << 24));
      const int got = gzread(file_.get(), out + done, block);
      if (got < 0) fail_compressed();
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    // A compressed file cut off in the middle ends without a word from gzread.
    int code = Z_OK;
    gzerror(file_.get(), &code);
    if (code != Z_OK && code != Z_STREAM_END) fail_compressed();
    return done;
  }

  [[noreturn]] void fail(const std::string& what) const { throw FileError(quoted(path_) + ": " + what); }

 private:
  [[noreturn]] void fail_compressed() const {
    int code = Z_OK;
    const std::string text = gzerror(file_.get(), &code);
    fail(code == Z_BUF_ERROR ? "the compressed file is truncated" : "damaged compressed file (" + text + ")");
  }

  std::filesystem::path path_;
  std::unique_ptr<gzFile_s, CloseGz> file_;
};

/// `prefix-kind` as it is found in the folder: with a dash or a dot between, compressed or not, or where the loader of
/// a deep-learning framework puts it.
std::filesystem::path find_file(const std::filesystem::path& folder, const std::string& prefix,
                                const std::string& kind) {
  for (const char* below : {"", "raw", "MNIST/raw", "FashionMNIST/raw"})
    for (const char* separator : {"-", "."})
      for (const char* ending : {".gz", ""}) {
        const std::filesystem::path path = folder / below / (prefix + separator + kind + ending);
        std::error_code error;
        if (std::filesystem::is_regular_file(path, error)) return path;
      }
  throw FileError("no '" + prefix + "-" + kind + ".gz' in the folder " + quoted(folder) + ", " + contents_of(folder) +
                  ": see --data");
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& path, int rank) {
  IdxReader in(path);
  std::array<std::uint8_t, 4> magic{};
  if (in.read(magic.data(), magic.size()) != magic.size()) in.fail("too short for an IDX file");
  const std::string begin(magic.begin(), magic.end());
  if (begin[0] == '<') in.fail("it is a web page (HTML), not an IDX file: download the file itself");
  if (begin == "vers") in.fail("it is a pointer of Git LFS, not an IDX file: fetch the file itself (git lfs pull)");
  if (begin == "PK\x03\x04") in.fail("it is a ZIP archive, not an IDX file: unpack it first");
  if (magic[0] != 0 || magic[1] != 0) in.fail("not an IDX file (it must begin with two zero bytes)");
  if (magic[2] != 0x08)
    in.fail("IDX element type " + std::to_string(magic[2]) + " where unsigned bytes (type 8) are needed");
  if (magic[3] != rank)
    in.fail("IDX array of rank " + std::to_string(magic[3]) + " where rank " + std::to_string(rank) + " is needed");

  IdxArray array;
  std::size_t total = 1;
  for (int k = 0; k < rank; ++k) {
    std::array<std::uint8_t, 4> bytes{};
    if (in.read(bytes.data(), bytes.size()) != bytes.size()) in.fail("the file is truncated in its header");
    const std::size_t size = (std::size_t{bytes[0]} << 24) | (std::size_t{bytes[1]} << 16) |
                             (std::size_t{bytes[2]} << 8) | std::size_t{bytes[3]};
    if (size == 0) in.fail("the header announces an empty array");
    if (total > (std::size_t{1} << 40) / size) in.fail("the header announces more than 2^40 bytes");
    total *= size;
    array.shape.push_back(static_cast<Index>(size));
  }

  // Memory follows what the file holds, not what its header announces.
  while (array.values.size() < total) {
    const std::size_t have = array.values.size();
    const std::size_t block = std::min(total - have, std::max(have, std::size_t{1} << 16));
    array.values.resize(have + block);
    const std::size_t got = in.read(array.values.data() + have, block);
    if (got != block)
      in.fail("the file is truncated: " + std::to_string(have + got) + " of " + std::to_string(total) + " bytes");
  }
  std::uint8_t extra = 0;
  if (in.read(&extra, 1) != 0)
    in.fail("the file continues after the " + std::to_string(total) + " bytes of its header");
  return array;
}

LabelledImages read_labelled_images(const std::filesystem::path& folder, Part part) {
  const std::string prefix = part == Part::train ? "train" : "t10k";
  const std::filesystem::path image_path = find_file(folder, prefix + "-images", "idx3-ubyte");
  const std::filesystem::path label_path = find_file(folder, prefix + "-labels", "idx1-ubyte");
  IdxArray images = read_idx(image_path, 3);
  IdxArray labels = read_idx(label_path, 1);
  if (images.shape[0] != labels.shape[0])
    throw FileError(quoted(image_path) + " has " + std::to_string(images.shape[0]) + " images but " +
                    quoted(label_path) + " has " + std::to_string(labels.shape[0]) + " labels");
  for (std::size_t n = 0; n < labels.values.size(); ++n)
    if (labels.values[n] > 9)
      throw FileError(quoted(label_path) + ": label " + std::to_string(n) + " is " + std::to_string(labels.values[n]) +
                      ", above 9");
  LabelledImages result;
  result.num_images = images.shape[0];
  result.height = images.shape[1];
  result.width = images.shape[2];
  result.pixels = std::move(images.values);
  result.labels = std::move(labels.values);
  return result;
}

}  // namespace richflow::examples
