#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "richflow/core/error.hpp"

/// @file
/// Files that are never seen half written. POSIX.

namespace richflow {

/// A file or folder that cannot be read or written, or whose content is not what it should be. The
/// message names it and, in a file, the place.
class FileError : public Error {
 public:
  using Error::Error;
};

namespace detail {

[[nodiscard]] inline std::string quoted(const std::filesystem::path& path) {
  return concat("'", path.string(), "'");  // g++ 12 warns of "'" + ... at -O3
}

[[nodiscard]] inline std::string system_message(int code) { return std::generic_category().message(code); }

}  // namespace detail

/// Writes a whole file under a temporary name beside it, then moves it into place, so that a reader, or
/// a run that is killed, never leaves half a file. Throws FileError naming the path and the reason; the
/// old content is then still there.
inline void write_file(const std::filesystem::path& path, std::string_view content) {
  std::filesystem::path part = path;
  part += ".part" + std::to_string(::getpid());
  std::FILE* file = std::fopen(part.c_str(), "wb");
  if (file == nullptr) throw FileError("cannot write " + detail::quoted(path) + ": " + detail::system_message(errno));
  errno = 0;
  bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
  written = std::fclose(file) == 0 && written;
  const int code = errno;
  std::error_code error;
  if (written) {
    std::filesystem::rename(part, path, error);
    if (!error) return;
  } else {
    error = std::error_code(code, std::generic_category());
  }
  std::error_code ignored;
  std::filesystem::remove(part, ignored);
  throw FileError("cannot write " + detail::quoted(path) + ": " + error.message());
}

}  // namespace richflow
