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

}  // namespace

void prepare_output_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error && !std::filesystem::is_directory(folder))
    throw FileError("cannot make the output folder " + quoted(folder) + ": " + error.message());
  const richflow::detail::TemporaryFile probe(folder / ".writable");
  if (probe.file < 0) throw FileError("cannot write into the output folder " + quoted(folder) + ": " + reason(errno));
  ::close(probe.file);
  std::filesystem::remove(probe.name, error);
}

}  // namespace richflow::examples
