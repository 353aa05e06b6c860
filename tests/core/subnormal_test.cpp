#include "richflow/core/subnormal.hpp"

#include <array>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "richflow/core/parallel.hpp"
#include "support/catch.hpp"

using namespace richflow;

namespace {

/// Half the smallest normal number, made by the processor in the mode of the calling thread.
bool makes_subnormals() {
  const volatile double smallest = std::numeric_limits<double>::min();
  const volatile double half = smallest * 0.5;
  return half != 0.0;
}

/// Whether twice a subnormal operand is not zero.
bool takes_subnormals() {
  const volatile double tiny = std::numeric_limits<double>::denorm_min();
  const volatile double twice = tiny * 4503599627370496.0;  // 2^52: a normal number
  return twice != 0.0;
}

}  // namespace

TEST_CASE("a scope flushes subnormal numbers, operands and results, and restores the caller's mode") {
  REQUIRE(makes_subnormals());
  REQUIRE(takes_subnormals());
  {
    const SubnormalScope flushes(SubnormalMode::flush());
    CHECK(makes_subnormals() == !SubnormalMode::is_supported);
    CHECK(takes_subnormals() == !SubnormalMode::is_supported);
    {
      const SubnormalScope keeps(SubnormalMode::keep());
      CHECK(makes_subnormals());
      CHECK(takes_subnormals());
    }
    CHECK(SubnormalMode::of_this_thread() == SubnormalMode::flush());
    CHECK(makes_subnormals() == !SubnormalMode::is_supported);
  }
  CHECK(makes_subnormals());
  CHECK(takes_subnormals());
}

TEST_CASE("an exception that leaves a scope restores the mode, too") {
  const SubnormalMode before = SubnormalMode::of_this_thread();
  const auto fails = [] {
    const SubnormalScope flushes(SubnormalMode::flush());
    throw std::runtime_error("out");
  };
  CHECK_THROWS_AS(fails(), std::runtime_error);
  CHECK(SubnormalMode::of_this_thread() == before);
  CHECK(makes_subnormals());
}

TEST_CASE("a scope leaves rounding and the exception flags as they are") {
  const SubnormalScope flushes(SubnormalMode::flush());
  const volatile double third = 1.0 / 3.0;
  CHECK(third * 3.0 == 1.0);
  const volatile double huge = std::numeric_limits<double>::max();
  const volatile double over = huge * 2.0;
  CHECK(over == std::numeric_limits<double>::infinity());
}

TEST_CASE("the threads of a parallel loop have the caller's mode") {
  const auto modes = [] {
    std::array<int, 64> made{};
    parallel_for(
        64, [&](Index i) { made[static_cast<std::size_t>(i)] = makes_subnormals() ? 1 : 0; },
        ParallelOptions{.threads = 4});
    int sum = 0;
    for (const int one : made) sum += one;
    return sum;
  };
  CHECK(modes() == 64);
  {
    const SubnormalScope flushes(SubnormalMode::flush());
    CHECK(modes() == (SubnormalMode::is_supported ? 0 : 64));
  }
  CHECK(modes() == 64);
  // A thread of the caller's own begins with the mode of the system or of its maker, and keeps what it sets.
  bool kept = true;
  std::thread([&] {
    SubnormalMode::flush().apply();
    parallel_for(4, [](Index) {});
    kept = SubnormalMode::of_this_thread() == SubnormalMode::flush();
  }).join();
  CHECK(kept);
  CHECK(makes_subnormals());
}
