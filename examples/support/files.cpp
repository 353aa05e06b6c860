#include "files.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

#include "text.hpp"

namespace richflow::examples {

namespace {

std::string reason(int code) { return std::generic_category().message(code); }

std::filesystem::path temporary_name(const std::filesystem::path& path) {
  std::filesystem::path result = path;
  result += ".part" + std::to_string(::getpid());
  return result;
}

}  // namespace

void prepare_output_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error && !std::filesystem::is_directory(folder))
    throw FileError("cannot make the output folder " + quoted(folder) + ": " + error.message());
  const std::filesystem::path probe = temporary_name(folder / ".writable");
  std::FILE* file = std::fopen(probe.c_str(), "wb");
  if (file == nullptr) throw FileError("cannot write into the output folder " + quoted(folder) + ": " + reason(errno));
  std::fclose(file);
  std::filesystem::remove(probe, error);
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path part = temporary_name(path);
  std::FILE* file = std::fopen(part.c_str(), "wb");
  if (file == nullptr) throw FileError("cannot write " + quoted(path) + ": " + reason(errno));
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
  throw FileError("cannot write " + quoted(path) + ": " + error.message());
}

}  // namespace richflow::examples
