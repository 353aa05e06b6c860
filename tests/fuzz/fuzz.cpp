#include "fuzz.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <system_error>

#include "richflow/core/error.hpp"
#include "richflow/integrate/checkpoint.hpp"

/// @file
/// What libFuzzer calls. The seeds are its corpus where none is named: `fuzz_csv -runs=100000`; with a file, that input
/// alone: `fuzz_csv crash-...`.

namespace {

/// Removed at the end.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::error_code ignored;
    const std::filesystem::path memory = "/dev/shm";
    const bool has_memory = std::filesystem::is_directory(memory, ignored) && ::access(memory.c_str(), W_OK) == 0;
    path = (has_memory ? memory : std::filesystem::temp_directory_path()) /
           ("richflow-fuzz-" + std::to_string(::getpid()));
    std::filesystem::create_directories(path);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

namespace fuzz {

const std::filesystem::path& folder() {
  static const Folder folder;
  return folder.path;
}

std::filesystem::path file(const char* name, std::string_view content) {
  std::filesystem::path path = folder() / name;
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  expect(descriptor >= 0, "the folder of the inputs can be written");
  while (!content.empty()) {
    const ::ssize_t written = ::write(descriptor, content.data(), content.size());
    expect(written > 0, "the folder of the inputs has room");
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  ::close(descriptor);
  return path;
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

std::string sealed_lines(const std::string& title, const std::string& lines) {
  const std::string text = title + lines;
  return text + "checksum " + std::to_string(richflow::detail::checksum(text)) + "\n";
}

std::string lines_of(const char* title, const std::string& content) {
  std::string lines = richflow::detail::opened_checkpoint(title, content);
  expect(sealed_lines(title, lines) == content, "the lines are those of the file");
  return lines;
}

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace fuzz

/// Twice as many inputs in the same time. ASAN_OPTIONS wins, for the whole story of one input.
extern "C" const char* __asan_default_options() { return "malloc_context_size=1:quarantine_size_mb=4"; }  // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    fuzz::try_input(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const richflow::Error&) {
    // Refused.
  } catch (const std::exception& error) {
    std::fprintf(stderr, "not an error of richflow: %s\n", error.what());
    std::abort();
  }
  return 0;
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  static std::vector<char*> arguments(*argv, *argv + *argc);
  for (std::size_t k = 1; k < arguments.size(); ++k)
    if (arguments[k][0] != '-') return 0;
  const std::filesystem::path corpus = fuzz::folder() / "seeds";
  std::filesystem::create_directories(corpus);
  std::size_t count = 0;
  for (const std::string& seed : fuzz::seeds()) {
    fuzz::file(("seeds/" + std::to_string(count++)).c_str(), seed);
  }
  static std::string name = corpus.string();
  arguments.push_back(name.data());
  arguments.push_back(nullptr);
  *argc = static_cast<int>(arguments.size()) - 1;
  *argv = arguments.data();
  return 0;
}
