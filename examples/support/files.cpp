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

}  // namespace richflow::examples
