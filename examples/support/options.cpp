#include "options.hpp"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

template <class Value>
bool reads_as(std::string_view text, Value& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

template <class Parse>
CLI::Option* add_number_option(CLI::App& app, const std::string& name, const std::string& help, const std::string& kind,
                               const std::string& present, const Parse& parse) {
  return app
      .add_option_function<std::string>(
          name,
          [parse](const std::string& text) {
            try {
              parse(text);
            } catch (const ArgumentError& error) {
              throw CLI::ValidationError(error.what());
            }
          },
          help)
      ->type_name(kind)
      ->default_str(present);
}

}  // namespace

void rethrow_naming(std::string_view option) {
  const auto named = [&](const Error& error) { return std::string(option) + ": " + error.what(); };
  try {
    throw;
  } catch (const ArgumentError& error) {
    throw ArgumentError(named(error));
  } catch (const DimensionError& error) {
    throw DimensionError(named(error));
  } catch (const NonFiniteError& error) {
    throw NonFiniteError(named(error));
  } catch (const InfeasibleError& error) {
    throw InfeasibleError(named(error));
  } catch (const FileError& error) {
    throw FileError(named(error));
  } catch (const Error& error) {
    throw Error(named(error));
  }
}

std::int64_t parse_integer(std::string_view option, std::string_view text, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  require(reads_as(text, value) && value >= low && value <= high, option, " '", text,
          "' must be a whole number in decimal digits, from ", low, " to ", high);
  return value;
}

std::uint64_t parse_seed(std::string_view option, std::string_view text) {
  std::uint64_t value = 0;
  require(reads_as(text, value), option, " '", text, "' must be a whole number in decimal digits, from 0 to ",
          std::numeric_limits<std::uint64_t>::max());
  return value;
}

double parse_nonnegative(std::string_view option, std::string_view text) {
  double value = 0.0;
  require(reads_as(text, value) && std::isfinite(value) && value >= 0.0, option, " '", text,
          "' must be a finite number that is not negative");
  return value;
}

CLI::Option* add_integer_option(CLI::App& app, const std::string& name, int& target, int low, int high,
                                const std::string& help) {
  return add_number_option(app, name, help, "INT", std::to_string(target), [=, &target](const std::string& text) {
    target = static_cast<int>(parse_integer(name, text, low, high));
  });
}

CLI::Option* add_integer_option(CLI::App& app, const std::string& name, std::ptrdiff_t& target, std::ptrdiff_t low,
                                std::ptrdiff_t high, const std::string& help) {
  return add_number_option(app, name, help, "INT", std::to_string(target), [=, &target](const std::string& text) {
    target = static_cast<std::ptrdiff_t>(parse_integer(name, text, low, high));
  });
}

CLI::Option* add_integers_option(CLI::App& app, const std::string& name, std::vector<int>& targets, int low, int high,
                                 const std::string& help) {
  std::string present;
  for (const int target : targets) present += (present.empty() ? "" : ",") + std::to_string(target);
  return app
      .add_option_function<std::vector<std::string>>(
          name,
          [=, &targets](const std::vector<std::string>& texts) {
            try {
              for (std::size_t k = 0; k < targets.size() && k < texts.size(); ++k)
                targets[k] = static_cast<int>(parse_integer(name, texts[k], low, high));
            } catch (const ArgumentError& error) {
              throw CLI::ValidationError(error.what());
            }
          },
          help)
      ->expected(static_cast<int>(targets.size()))
      ->delimiter(',')
      ->type_name("INT")
      ->default_str(present);
}

CLI::Option* add_seed_option(CLI::App& app, const std::string& name, std::uint64_t& target, const std::string& help) {
  return add_number_option(app, name, help, "UINT", std::to_string(target),
                           [=, &target](const std::string& text) { target = parse_seed(name, text); });
}

CLI::Option* add_nonnegative_option(CLI::App& app, const std::string& name, double& target, const std::string& help) {
  return add_number_option(app, name, help, "FLOAT", short_number(target),
                           [=, &target](const std::string& text) { target = parse_nonnegative(name, text); });
}

}  // namespace richflow::examples
