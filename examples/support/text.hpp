#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <type_traits>

/// @file
/// Numbers and names as text.

namespace richflow::examples {

/// `value` to 17 significant digits, from which the same double reads back.
[[nodiscard]] std::string exact_number(double value);

/// `value` to `digits` significant digits, for people.
[[nodiscard]] std::string short_number(double value, int digits = 4);

/// Texts and numbers one after the other: whole numbers with all digits, others as `short_number` has them.
template <class... Parts>
[[nodiscard]] std::string joined_text(const Parts&... parts) {
  const auto text = []<class Part>(const Part& part) -> std::string {
    if constexpr (std::is_integral_v<Part>) {
      return std::to_string(part);
    } else if constexpr (std::is_floating_point_v<Part>) {
      return short_number(part);
    } else {
      return part;
    }
  };
  return (std::string() + ... + text(parts));
}

/// `2:05` or `1:02:05`.
[[nodiscard]] std::string clock_time(double seconds);

/// For people: `under 0.1 s`, `12.3 s`, `2 min 5 s` or `1 h 2 min`.
[[nodiscard]] std::string duration(double seconds);

/// A path in single quotes.
[[nodiscard]] std::string quoted(const std::filesystem::path& path);

/// One word of a command for a POSIX shell, which reads back as `word` whatever is in it.
[[nodiscard]] std::string shell_word(const std::string& word);

/// Seconds of wall clock since its construction.
class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace richflow::examples
