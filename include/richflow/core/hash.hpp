#pragma once

#include <bit>
#include <cstdint>

#include "richflow/core/types.hpp"

/// @file
/// Hashes that choose the streams of cells, and by which a file recognizes the data it belongs to.

namespace richflow::detail {

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes all bits.
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

/// A hash of numbers and their order, a plain sum of weighted bits that a compiler can vectorize.
template <class S>
[[nodiscard]] std::uint64_t hash_of_numbers(const S* values, Index count) {
  std::uint64_t sum = 0;
  for (Index i = 0; i < count; ++i)
    sum += std::bit_cast<std::uint64_t>(static_cast<double>(values[i])) * (2 * static_cast<std::uint64_t>(i) + 1);
  return mix(sum + static_cast<std::uint64_t>(count));
}

}  // namespace richflow::detail
