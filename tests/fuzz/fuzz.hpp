#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

/// @file
/// What a fuzzer of a reader is made of. Each source of this folder but fuzz.cpp is one, a program of its own, which
/// defines `seeds` and `try_input`.

namespace fuzz {

/// Inputs where the search begins, made by the writers of what is read. Ends the program unless the good ones read as
/// what they were made from: a search from seeds that are refused at once sees nothing.
std::vector<std::string> seeds();

/// Reads `content`. What is read, its writer writes and the reader reads back. An exception that is not a
/// richflow::Error ends the program.
void try_input(const std::string& content);

/// The folder of this program, in memory where the system has such files.
const std::filesystem::path& folder();

/// The path of a file of that folder, which now holds `content`.
std::filesystem::path file(const char* name, std::string_view content);

/// All of a file.
std::string content_of(const std::filesystem::path& path);

/// Ends the program where `holds` is false, and says `what`.
void expect(bool holds, const char* what);

/// What `read` returns; nothing where it throws a richflow::Error.
template <class Read>
auto unless_refused(const Read& read) -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const richflow::Error&) {
    return {};
  }
}

/// What `read` returns from a good file. Ends the program where that is refused.
template <class Read>
auto accepted(const Read& read) {
  auto result = unless_refused(read);
  expect(result.has_value(), "a good file is read");
  return std::move(*result);
}

/// A checkpoint with this title and these lines, under the checksum that no search meets by chance.
std::string sealed_lines(const std::string& title, const std::string& lines);

/// The lines of a good checkpoint, without title and checksum.
std::string lines_of(const char* title, const std::string& content);

/// The same bits, or both not a number.
inline bool same(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b) || (a != a && b != b);
}

/// The same shape, and the same bits.
inline bool same(const richflow::Matrix<double>& a, const richflow::Matrix<double>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         (a.size() == 0 || std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(double)) == 0);
}

}  // namespace fuzz
