#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "richflow/core/error.hpp"
#include "richflow/core/hash.hpp"

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

/// Asks the system to put a file's content on the disk; 0, or -1 with errno. Not every file system can, which is no
/// error.
inline int flush_to_disk(int file) {
#if defined(__APPLE__)
  // Its fsync leaves the content in the drive's memory.
  if (::fcntl(file, F_FULLFSYNC) == 0) return 0;
  const int result = ::fsync(file);
#elif defined(_POSIX_SYNCHRONIZED_IO) && _POSIX_SYNCHRONIZED_IO > 0
  const int result = ::fdatasync(file);
#else
  const int result = ::fsync(file);
#endif
  return result != 0 && (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) ? 0 : result;
}

/// A name beside `path` that no other process or thread will choose: the process id alone is the same in every
/// container.
[[nodiscard]] inline std::filesystem::path temporary_name(const std::filesystem::path& path) {
  static std::atomic<std::uint64_t> count{0};
  const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  const auto place = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&count));
  const std::uint64_t id =
      mix(now ^ mix(place ^ mix(static_cast<std::uint64_t>(::getpid()) ^ mix(count.fetch_add(1)))));
  std::filesystem::path result = path;
  result += ".part" + std::to_string(id);
  return result;
}

/// A new file, open for writing, and its name; `file` is -1 where none can be made, with errno.
struct TemporaryFile {
  std::filesystem::path name;
  int file = -1;

  explicit TemporaryFile(const std::filesystem::path& beside) {
    constexpr int attempts = 100;
    for (int k = 0; k < attempts; ++k) {
      name = temporary_name(beside);
      file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file >= 0 || errno != EEXIST) return;
    }
  }
};

/// 0, or the error number.
inline int write_all(int file, std::string_view content) {
  while (!content.empty()) {
    const ::ssize_t written = ::write(file, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace detail

/// Writes a whole file under a temporary name of its own beside it, brings it to the disk and moves it into place, so
/// that a reader, a run that is killed, a machine that loses its power, or another process that writes the same file
/// never sees or leaves half a file. Throws FileError naming the path and the reason; the old content is then still
/// there.
inline void write_file(const std::filesystem::path& path, std::string_view content) {
  const detail::TemporaryFile part(path);
  if (part.file < 0) throw FileError("cannot write " + detail::quoted(path) + ": " + detail::system_message(errno));
  int code = detail::write_all(part.file, content);
  if (code == 0 && detail::flush_to_disk(part.file) != 0) code = errno;
  if (::close(part.file) != 0 && code == 0) code = errno;
  std::error_code error(code, std::generic_category());
  if (!error) std::filesystem::rename(part.name, path, error);
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(part.name, ignored);
    throw FileError("cannot write " + detail::quoted(path) + ": " + error.message());
  }
  // The new name, too.
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  const int directory = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (directory < 0) return;
  static_cast<void>(detail::flush_to_disk(directory));
  ::close(directory);
}

}  // namespace richflow
