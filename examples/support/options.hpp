#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "richflow/core/error.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

/// @file
/// Numbers on the command line, read strictly: decimal digits, all of them. A zero in front changes nothing, as the job
/// numbers of an array have it; another base, a sign that would wrap, and what is out of range are refused.

namespace richflow::examples {

/// Within a handler: throws what is handled once more, as the same kind of error where it is one of the library's.
[[noreturn]] void rethrow_naming(std::string_view option);

/// What `work` returns. The message of an error that it throws begins with the option to change: `--x: cannot open`.
template <class Caught = Error, class Work>
auto naming_option(std::string_view option, const Work& work) {
  try {
    return work();
  } catch (const Caught&) {
    rethrow_naming(option);
  }
}

/// A whole number in low .. high. Throws ArgumentError naming the option and its value.
[[nodiscard]] std::int64_t parse_integer(std::string_view option, std::string_view text, std::int64_t low,
                                         std::int64_t high);

/// A whole number from 0 to 2^64 - 1. Throws ArgumentError naming the option and its value.
[[nodiscard]] std::uint64_t parse_seed(std::string_view option, std::string_view text);

/// A finite number that is not negative. Throws ArgumentError naming the option and its value.
[[nodiscard]] double parse_nonnegative(std::string_view option, std::string_view text);

/// Adds the option `name`, a whole number in low .. high, with the present value of `target` as its default.
CLI::Option* add_integer_option(CLI::App& app, const std::string& name, int& target, int low, int high,
                                const std::string& help);
CLI::Option* add_integer_option(CLI::App& app, const std::string& name, std::ptrdiff_t& target, std::ptrdiff_t low,
                                std::ptrdiff_t high, const std::string& help);
/// Several of them, separated by commas or blanks; as many as `targets` holds.
CLI::Option* add_integers_option(CLI::App& app, const std::string& name, std::vector<int>& targets, int low, int high,
                                 const std::string& help);
/// Adds an option whose value is a seed.
CLI::Option* add_seed_option(CLI::App& app, const std::string& name, std::uint64_t& target, const std::string& help);
/// Adds an option whose value is a finite number that is not negative.
CLI::Option* add_nonnegative_option(CLI::App& app, const std::string& name, double& target, const std::string& help);

}  // namespace richflow::examples
