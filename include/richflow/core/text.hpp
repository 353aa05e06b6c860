#pragma once

#include <initializer_list>
#include <locale>
#include <ostream>
#include <sstream>
#include <string>

/// Marks a function that no hot loop calls: it is compiled for size, and placed apart from hot code.
#ifdef __GNUC__
#define RICHFLOW_COLD [[gnu::cold, gnu::noinline]]
#else
#define RICHFLOW_COLD
#endif

namespace richflow::detail {

/// Refers to a value of any type that can be printed, until the end of the expression, so that texts are put together
/// by one function and not by one for each combination of types.
class Printable {
 public:
  Printable(const char* text)  // NOLINT: implicit
      : value_(text),
        print_([](std::ostream& stream, const void* value) { stream << static_cast<const char*>(value); }) {}
  template <class T>
  Printable(const T& value)  // NOLINT: implicit
      : value_(&value), print_([](std::ostream& stream, const void* v) { stream << *static_cast<const T*>(v); }) {}

  void print(std::ostream& stream) const { print_(stream, value_); }

 private:
  const void* value_;
  void (*print_)(std::ostream& stream, const void* value);
};

/// The parts in one string, numbers to this many digits.
RICHFLOW_COLD [[nodiscard]] inline std::string join(int digits, std::initializer_list<Printable> parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // numbers are the same whatever locale the program has chosen
  text.precision(digits);
  for (const Printable& part : parts) part.print(text);
  return text.str();
}

/// Numbers with all their digits.
template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  return join(17, {parts...});
}

/// Numbers with nine digits: enough to tell two steps apart, and easy to read.
template <class... Parts>
[[nodiscard]] std::string sentence(const Parts&... parts) {
  return join(9, {parts...});
}

}  // namespace richflow::detail
