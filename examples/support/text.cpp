#include "text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace richflow::examples {

namespace {

std::string formatted(double value, int digits) {
  std::array<char, 64> buffer{};
  const auto result =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::general, digits);
  return std::string(buffer.data(), result.ptr);
}

}  // namespace

std::string exact_number(double value) { return formatted(value, 17); }

std::string short_number(double value, int digits) { return formatted(value, digits); }

std::string clock_time(double seconds) {
  if (!(seconds < 359999.0)) return "--:--";
  const long total = std::lround(seconds);
  std::array<char, 32> buffer{};
  if (total < 3600)
    std::snprintf(buffer.data(), buffer.size(), "%ld:%02ld", total / 60, total % 60);
  else
    std::snprintf(buffer.data(), buffer.size(), "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
  return buffer.data();
}

std::string duration(double seconds) {
  if (seconds < 0.1) return "under 0.1 s";
  if (seconds < 59.95) return short_number(std::round(10.0 * seconds) / 10.0, 3) + " s";
  const long total = std::lround(seconds);
  if (total < 3600) return std::to_string(total / 60) + " min " + std::to_string(total % 60) + " s";
  return std::to_string(total / 3600) + " h " + std::to_string(total / 60 % 60) + " min";
}

std::string quoted(const std::filesystem::path& path) {
  std::string result = "'";
  result += path.string();
  return result += "'";
}

std::string shell_word(const std::string& word) {
  const bool is_plain = !word.empty() && word.find_first_not_of(
                                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                             "_-+=.,:/@%") == std::string::npos;
  if (is_plain) return word;
  std::string quoted_word = "'";
  for (const char c : word) quoted_word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted_word + "'";
}

}  // namespace richflow::examples
