#include "files.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "text.hpp"

namespace richflow::examples {

namespace {

std::string reason(int code) { return std::generic_category().message(code); }

}  // namespace

void prepare_output_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error && !std::filesystem::is_directory(folder))
    throw FileError("cannot make the output folder " + quoted(folder) + ", see --out: " + error.message());
  const richflow::detail::TemporaryFile probe(folder / ".writable");
  if (probe.file < 0)
    throw FileError("cannot write into the output folder " + quoted(folder) + ", see --out: " + reason(errno));
  ::close(probe.file);
  std::filesystem::remove(probe.name, error);
}

bool is_standard_output_written() {
  std::cout.flush();
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
}

std::string file_content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError("cannot read " + quoted(path));
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

std::string contents_of(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return "which does not exist";
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    names.push_back(quoted(entry.path().filename()));
  if (error) return "which cannot be read";
  if (names.empty()) return "which is empty";
  std::sort(names.begin(), names.end());
  constexpr std::size_t most = 8;
  std::string text = "which holds " + names.front();
  for (std::size_t k = 1; k < std::min(most, names.size()); ++k) text += ", " + names[k];
  return names.size() > most ? text + " and " + std::to_string(names.size() - most) + " others" : text;
}

}  // namespace richflow::examples
