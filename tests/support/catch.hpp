#pragma once

/// @file
/// Catch2, version 2 or 3, whichever is installed, and the few names that differ between them.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#elif __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#else
#error "Catch2 (version 2 or 3) is needed to build the tests"
#endif

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <sstream>
#include <string>
#include <utility>

#if defined(CATCH_VERSION_MAJOR) && CATCH_VERSION_MAJOR == 3
// Version 2 makes this name global itself.
using Catch::Approx;
#endif

namespace test_support {

#if defined(CATCH_VERSION_MAJOR) && CATCH_VERSION_MAJOR == 2
template <class T>
using MatcherBase = Catch::MatcherBase<T>;
#else
template <class T>
using MatcherBase = Catch::Matchers::MatcherBase<T>;
#endif

/// Matches an exception whose message contains `part`: CHECK_THROWS_MATCHES(f(), E, message_contains("X")).
class MessageContains : public MatcherBase<std::exception> {
 public:
  explicit MessageContains(std::string part) : part_(std::move(part)) {}
  bool match(const std::exception& error) const override {
    return std::string(error.what()).find(part_) != std::string::npos;
  }
  std::string describe() const override { return "has a message that contains \"" + part_ + "\""; }

 private:
  std::string part_;
};

inline MessageContains message_contains(std::string part) { return MessageContains(std::move(part)); }

/// Matches a string that contains `part`.
class TextContains : public MatcherBase<std::string> {
 public:
  explicit TextContains(std::string part) : part_(std::move(part)) {}
  bool match(const std::string& text) const override { return text.find(part_) != std::string::npos; }
  std::string describe() const override { return "contains \"" + part_ + "\""; }

 private:
  std::string part_;
};

inline TextContains text_contains(std::string part) { return TextContains(std::move(part)); }

/// Distance between neighbouring doubles (floats) at `|x|`; the smallest denormal below the normal range.
template <class Scalar>
long double ulp(long double x) {
  constexpr int digits = std::numeric_limits<Scalar>::digits;
  constexpr int min_exponent = std::numeric_limits<Scalar>::min_exponent;
  if (x == 0.0L) return std::ldexp(1.0L, min_exponent - digits);
  int exponent = 0;
  std::frexp(x, &exponent);
  return std::ldexp(1.0L, std::max(exponent, min_exponent) - digits);
}

/// `|computed - exact|` in units of the last place of `exact`; infinite for a NaN.
template <class Scalar>
long double ulp_error(Scalar computed, long double exact) {
  if (!std::isfinite(computed)) return std::numeric_limits<long double>::infinity();
  return std::fabs(static_cast<long double>(computed) - exact) / ulp<Scalar>(exact);
}

/// Matches a value within `max_ulp` units in the last place of `exact`, which may carry more digits
/// than the value: CHECK_THAT(f(x), within_ulp(1.25L, 2)).
template <class Scalar = double>
class WithinUlp : public MatcherBase<Scalar> {
 public:
  WithinUlp(long double exact, long double max_ulp) : exact_(exact), max_ulp_(max_ulp) {}
  bool match(const Scalar& computed) const override { return ulp_error(computed, exact_) <= max_ulp_; }
  std::string describe() const override {
    std::ostringstream text;
    text.precision(21);
    text << "is within " << static_cast<double>(max_ulp_) << " ulp of " << exact_;
    return text.str();
  }

 private:
  long double exact_;
  long double max_ulp_;
};

template <class Scalar = double>
WithinUlp<Scalar> within_ulp(long double exact, long double max_ulp) {
  return WithinUlp<Scalar>(exact, max_ulp);
}

/// Matches a value within `absolute + relative * |expected|` of `expected`.
class Near : public MatcherBase<double> {
 public:
  Near(double expected, double relative, double absolute)
      : expected_(expected), relative_(relative), absolute_(absolute) {}
  bool match(const double& value) const override {
    return std::fabs(value - expected_) <= absolute_ + relative_ * std::fabs(expected_);
  }
  std::string describe() const override {
    std::ostringstream text;
    text.precision(17);
    text << "is within " << absolute_ << " + " << relative_ << " * |expected| of " << expected_;
    return text.str();
  }

 private:
  double expected_;
  double relative_;
  double absolute_;
};

inline Near near(double expected, double relative, double absolute) { return Near(expected, relative, absolute); }

}  // namespace test_support
