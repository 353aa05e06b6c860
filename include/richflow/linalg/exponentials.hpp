#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Exponentials and logarithms of whole vectors, several entries at a time. The result for an entry depends on its
/// value alone, not on its place in memory.

namespace richflow::detail {

/// `values_i = exp(values_i)`, n values; 0 where that is below the normal numbers, which processors handle many times
/// slower, infinite where it overflows.
template <class S>
void exponentiate(S* values, Index n);

/// `values_i = log(values_i)`, n values, normal numbers >= 0; -infinity for 0, infinity for infinity, NaN for NaN.
template <class S>
void take_logarithms(S* values, Index n);

/// This many entries are whole packets on every processor, padded where fewer are left.
inline constexpr Index packed_entries = 16;

/// `values = function(values)` entry by entry, `function` of an array of `packed_entries`; `pad` fills the last one.
template <class S, class Function>
void transform_in_packs(S* values, Index n, S pad, const Function& function) {
  Eigen::Array<S, static_cast<int>(packed_entries), 1> pack;
  for (Index begin = 0; begin < n; begin += packed_entries) {
    const Index count = std::min(packed_entries, n - begin);
    if (count < packed_entries) pack.setConstant(pad);
    std::copy_n(values + begin, count, pack.data());
    function(pack);
    std::copy_n(pack.data(), count, values + begin);
  }
}

template <class S>
void exponentiate(S* values, Index n) {
  using std::exp;
  constexpr S lowest = std::numeric_limits<S>::min_exponent * S(0.693147180559945309417L);
  constexpr S highest = std::numeric_limits<S>::max_exponent * S(0.693147180559945309417L);
  if constexpr (std::is_same_v<S, double> || std::is_same_v<S, float>) {
    transform_in_packs(values, n, S(0), [lowest, highest](auto& pack) {
      // Eigen's vectors of exponentials do not overflow.
      const auto exponents = pack;
      pack = pack.max(lowest).min(highest).exp();
      for (Index i = 0; i < packed_entries; ++i) {
        const S x = exponents[i];
        const S below = x < lowest ? S(0) : pack[i];
        const S bounded = x > highest ? std::numeric_limits<S>::infinity() : below;
        pack[i] = x != x ? x : bounded;
      }
    });
  } else {
    for (Index i = 0; i < n; ++i) values[i] = values[i] < lowest ? S(0) : S(exp(values[i]));
  }
}

template <class S>
void take_logarithms(S* values, Index n) {
  using std::log;
  if constexpr (std::is_same_v<S, double> || std::is_same_v<S, float>) {
    transform_in_packs(values, n, S(1), [](auto& pack) { pack = pack.log().eval(); });
  } else {
    for (Index i = 0; i < n; ++i) values[i] = log(values[i]);
  }
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_EXPONENTIALS(prefix, S)       \
  prefix template void detail::exponentiate<S>(S*, Index); \
  prefix template void detail::take_logarithms<S>(S*, Index);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EXPONENTIALS)
