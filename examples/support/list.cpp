#include "list.hpp"

#include <charconv>
#include <cmath>
#include <string>
#include <system_error>

#include "richflow/core/error.hpp"

namespace richflow::examples {

namespace {

constexpr int most_numbers = 1000000;

std::string_view without_blanks(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t position = text.find(separator);
    parts.push_back(without_blanks(text.substr(0, position)));
    if (position == std::string_view::npos) return parts;
    text.remove_prefix(position + 1);
  }
}

template <class Value>
Value number(std::string_view option, std::string_view whole, std::string_view text, const char* kind) {
  require(!text.empty(), option, " '", whole, "': ", kind, " is missing");
  Value value{};
  std::string_view digits = text;
  if (digits.size() > 1 && digits.front() == '+' && digits[1] != '-') digits.remove_prefix(1);
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  require(result.ec == std::errc() && result.ptr == digits.data() + digits.size(), option, " '", whole, "': '", text,
          "' is not ", kind);
  return value;
}

double finite_number(std::string_view option, std::string_view whole, std::string_view text) {
  const double value = number<double>(option, whole, text, "a number");
  require(std::isfinite(value), option, " '", whole, "': '", text, "' is not finite");
  return value;
}

}  // namespace

std::vector<double> spaced(double from, double to, int count, Spacing spacing) {
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(count));
  for (int k = 0; k < count; ++k) {
    if (k == 0)
      values.push_back(from);
    else if (k + 1 == count)
      values.push_back(to);
    else if (spacing == Spacing::linear)
      values.push_back(from + (to - from) * k / (count - 1));  // whole numbers stay whole
    else
      values.push_back(std::exp(std::log(from) + (std::log(to) - std::log(from)) * k / (count - 1)));
  }
  return values;
}

std::vector<double> parse_list(std::string_view option, std::string_view text, Spacing spacing) {
  if (text.find(':') == std::string_view::npos) {
    std::vector<double> values;
    for (const std::string_view part : split(text, ',')) values.push_back(finite_number(option, text, part));
    return values;
  }
  const std::vector<std::string_view> parts = split(text, ':');
  require(parts.size() == 3, option, " '", text, "': a range has three parts, from:to:count");
  const double from = finite_number(option, text, parts[0]);
  const double to = finite_number(option, text, parts[1]);
  const int count = number<int>(option, text, parts[2], "a whole number");
  require(count >= 1 && count <= most_numbers, option, " '", text, "': count must be from 1 to ", most_numbers,
          ", got ", count);
  require(count > 1 || from == to, option, " '", text, "': one number cannot span from ", from, " to ", to);
  if (spacing == Spacing::logarithmic)
    require(from > 0.0 && to > 0.0, option, " '", text, "': both ends must be positive");
  return spaced(from, to, count, spacing);
}

std::vector<Index> index_range(Index from, Index to, Index step) {
  std::vector<Index> values;
  for (Index n = from; n <= to; n += step) values.push_back(n);
  return values;
}

}  // namespace richflow::examples
