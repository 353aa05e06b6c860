#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/hash.hpp"
#include "richflow/core/portable_math.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Seeded random numbers that are the same on every platform. There is no global generator: every draw
/// comes from a stream that the caller made from a seed and an index.
///
/// The integers, uniforms, normals, gammas and permutations are bit for bit the same with every compiler,
/// optimisation level and vector unit (see core/portable_math.hpp for how and under which assumptions).
/// What a caller computes from them is subject to the caller's compiler as ever.

namespace richflow {

/// The Philox4x32-10 block function of Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2,
/// 3": 128 random bits from a 128-bit counter and a 64-bit key.
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                                std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

/// A stream of random numbers, chosen by `(seed, index)`.
///
/// A counter-based generator (Philox4x32-10): the k-th block of stream (seed, index) is the block function
/// of counter (k, index) under key seed. Hence any two streams are disjoint by construction, whatever
/// the seeds (no seed is weak, 0 included), any position is reached in O(1), and a parallel loop that
/// gives cell i the stream `(seed, i)` has results independent of threads and order. 2^64 values a stream.
///
/// A value type: a copy continues from the same position. Also a UniformRandomBitGenerator, but the
/// distributions of the standard library differ between platforms; use the members here.
class RandomStream {
 public:
  /// Every draw is 64 bits.
  using result_type = std::uint64_t;

  /// The stream `index` of the generator `seed`, at its beginning.
  explicit constexpr RandomStream(std::uint64_t seed, std::uint64_t index = 0) : seed_(seed), index_(index) {}

  /// 0.
  [[nodiscard]] static constexpr result_type min() { return 0; }
  /// 2^64 - 1.
  [[nodiscard]] static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  /// The next 64 random bits.
  constexpr result_type operator()() {
    if (position_ % 2 == 0) fill_block();
    return block_[static_cast<std::size_t>(position_++ % 2)];
  }

  /// Skips `count` values of 64 bits; O(1).
  constexpr void discard(std::uint64_t count) {
    position_ += count;
    if (position_ % 2 != 0) fill_block();
  }

  /// The seed it was made from.
  [[nodiscard]] constexpr std::uint64_t seed() const { return seed_; }
  /// The index it was made from.
  [[nodiscard]] constexpr std::uint64_t index() const { return index_; }
  /// Values of 64 bits drawn so far: `RandomStream(seed, index)` after `discard(position)` is this stream.
  [[nodiscard]] constexpr std::uint64_t position() const { return position_; }

  /// A separate stream for one purpose, at its beginning: its seed follows from the seed of this one and the name.
  ///
  ///     RandomStream(seed, cell).child("initialization")
  [[nodiscard]] constexpr RandomStream child(std::string_view name) const {
    std::uint64_t hash = detail::mix(seed_);
    for (const char c : name) hash = detail::mix(hash ^ static_cast<unsigned char>(c));
    return RandomStream(hash, index_);
  }

  /// Uniform on [0, 1): the multiples of 2^-53. One draw.
  [[nodiscard]] constexpr double uniform() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

  /// Uniform on (0, 1): the odd multiples of 2^-53. One draw.
  [[nodiscard]] constexpr double uniform_open() { return (2.0 * static_cast<double>((*this)() >> 12) + 1.0) * 0x1p-53; }

  /// Uniform on [low, high). One draw. Throws ArgumentError unless low < high and high - low is finite.
  [[nodiscard]] double uniform(double low, double high) {
    require(low < high && std::isfinite(high - low), "uniform needs low < high, both finite, got ", low, " and ", high);
    const double value = std::fma(uniform(), high - low, low);
    return value < high ? value : std::nextafter(high, low);
  }

  /// Standard normal, by inversion, so that the k-th normal always belongs to the k-th draw. One draw: a sign
  /// and 52 bits for the tail probability, which reaches |x| = 8.3.
  [[nodiscard]] double normal() {
    const std::uint64_t bits = (*this)();
    const double p = (2.0 * static_cast<double>(bits >> 12) + 1.0) * 0x1p-54;
    const double x = detail::upper_normal_quantile(p);
    return (bits & 1U) != 0 ? -x : x;
  }

  /// Gamma with density proportional to `x^(shape-1) e^-x`: Marsaglia & Tsang (2000), with their power
  /// transformation for shape < 1, where the result may underflow to 0. About 2 draws on average, 3 for shape < 1.
  /// Throws ArgumentError unless shape is positive and finite.
  [[nodiscard]] double gamma(double shape) {
    require(std::isfinite(shape) && shape > 0.0, "the shape of a gamma variable must be positive and finite, got ",
            shape);
    if (shape < 1.0) {
      const double power = detail::portable_exp(detail::portable_log(uniform_open()) / shape);
      return gamma_at_least_one(shape + 1.0) * power;
    }
    return gamma_at_least_one(shape);
  }

  /// Chi-square with `degrees > 0` degrees of freedom (not necessarily an integer): twice a gamma of shape
  /// degrees / 2. Throws ArgumentError unless degrees is positive and finite.
  [[nodiscard]] double chi_square(double degrees) {
    require(std::isfinite(degrees) && degrees > 0.0, "chi_square needs degrees of freedom > 0, got ", degrees);
    return 2.0 * gamma(0.5 * degrees);
  }

  /// Uniform on {0, ..., bound - 1}, without bias, by masking and rejection: fewer than 2 draws on average.
  /// Throws ArgumentError for bound = 0.
  [[nodiscard]] std::uint64_t uniform_integer(std::uint64_t bound) {
    require(bound > 0, "uniform_integer needs bound > 0");
    if (bound == 1) return 0;
    const int unused_bits = std::countl_zero(bound - 1);
    for (;;) {
      const std::uint64_t value = (*this)() >> unused_bits;
      if (value < bound) return value;
    }
  }

  /// The same stream at the same position.
  friend constexpr bool operator==(const RandomStream& a, const RandomStream& b) {
    return a.seed_ == b.seed_ && a.index_ == b.index_ && a.position_ == b.position_;
  }

 private:
  constexpr void fill_block() {
    const std::uint64_t number = position_ / 2;
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
    const auto words = philox4x32({low(number), high(number), low(index_), high(index_)}, {low(seed_), high(seed_)});
    block_[0] = words[0] | (std::uint64_t{words[1]} << 32);
    block_[1] = words[2] | (std::uint64_t{words[3]} << 32);
  }

  [[nodiscard]] double gamma_at_least_one(double shape) {
    const double d = shape - 1.0 / 3.0;
    const double c = 1.0 / (3.0 * std::sqrt(d));
    for (;;) {
      double x = 0.0;
      double v = 0.0;
      do {
        x = normal();
        v = std::fma(c, x, 1.0);
      } while (v <= 0.0);
      const double u = uniform_open();
      const double x2 = x * x;
      if (u >= std::fma(-0.0331 * x2, x2, 1.0)) {
        // log u < x^2/2 + d (1 - v^3 + log v^3), with the order of the roundings fixed
        const double t = std::fma(3.0, detail::portable_log(v), std::fma(-(v * v), v, 1.0));
        if (detail::portable_log(u) >= std::fma(d, t, 0.5 * x2)) continue;
      }
      return d * (v * v * v);
    }
  }

  std::uint64_t seed_;
  std::uint64_t index_;
  std::uint64_t position_ = 0;
  std::array<std::uint64_t, 2> block_ = {};
};

namespace detail {

/// `out(i, j) = draw()`, the rows one after the other.
template <class Derived, class Draw>
void fill_by_rows(Eigen::DenseBase<Derived>& out, Draw draw) {
  for (Index i = 0; i < out.rows(); ++i)
    for (Index j = 0; j < out.cols(); ++j) out.derived().coeffRef(i, j) = static_cast<typename Derived::Scalar>(draw());
}

}  // namespace detail

/// Fills a vector or matrix with independent uniforms on [0, 1), row by row: the first rows of a taller
/// matrix are the same.
template <class Derived>
void fill_uniform(RandomStream& random, Eigen::DenseBase<Derived>& out) {
  detail::fill_by_rows(out, [&random] { return random.uniform(); });
}

/// Fills a vector or matrix with independent standard normals, row by row: the first rows of a taller
/// matrix are the same.
template <class Derived>
void fill_normal(RandomStream& random, Eigen::DenseBase<Derived>& out) {
  detail::fill_by_rows(out, [&random] { return random.normal(); });
}

/// `size` independent standard normals. Scalar types wider than double get the double's value. Throws DimensionError
/// for a negative size.
template <class Scalar = double>
[[nodiscard]] Vector<Scalar> normal_vector(RandomStream& random, Index size) {
  require<DimensionError>(size >= 0, "a vector cannot have ", size, " entries");
  Vector<Scalar> out(size);
  fill_normal(random, out);
  return out;
}

/// A `rows` x `cols` matrix of independent standard normals, drawn row by row. Throws DimensionError for a negative
/// size.
template <class Scalar = double>
[[nodiscard]] Matrix<Scalar> normal_matrix(RandomStream& random, Index rows, Index cols) {
  require<DimensionError>(rows >= 0 && cols >= 0, "a matrix cannot be ", rows, " x ", cols);
  Matrix<Scalar> out(rows, cols);
  fill_normal(random, out);
  return out;
}

/// A lower trapezoidal `size` x min(size, degrees) matrix L for which `L L^T` has the Wishart law: that of `G G^T` for
/// a `size` x `degrees` matrix G of independent standard normals. L itself has the law of `G O`, O the orthogonal
/// matrix that makes `G O` trapezoidal with a nonnegative diagonal. Bartlett's decomposition: the diagonal entry i is
/// the root of a chi-square variable with `degrees - i` degrees of freedom, what is left of it standard normal; drawn
/// row by row. Throws DimensionError unless size > 0 and degrees > 0. Cost: O(size min(size, degrees)), whatever
/// `degrees`.
template <class Scalar = double>
[[nodiscard]] Matrix<Scalar> wishart_factor(RandomStream& random, Index size, Index degrees) {
  require<DimensionError>(size > 0 && degrees > 0, "a Wishart factor needs size > 0 and degrees > 0, got ", size,
                          " and ", degrees);
  const Index cols = size < degrees ? size : degrees;
  Matrix<Scalar> L = Matrix<Scalar>::Zero(size, cols);
  for (Index i = 0; i < size; ++i) {
    for (Index j = 0; j < i && j < cols; ++j) L(i, j) = static_cast<Scalar>(random.normal());
    if (i < cols) L(i, i) = static_cast<Scalar>(std::sqrt(random.chi_square(static_cast<double>(degrees - i))));
  }
  return L;
}

/// Puts `values` (a std::vector, an Eigen vector, ...) in a uniformly random order (Fisher-Yates).
template <class Sequence>
void shuffle(RandomStream& random, Sequence& values) {
  using std::swap;
  using Size = decltype(values.size());
  for (Size n = values.size(); n > 1; --n) {
    const auto pick = static_cast<Size>(random.uniform_integer(static_cast<std::uint64_t>(n)));
    swap(values[n - 1], values[pick]);
  }
}

/// `count` different numbers of {0, ..., size - 1}, every ordered choice equally likely; `count = size` gives
/// a random permutation. Throws ArgumentError unless 0 <= count <= size. Cost: O(size).
[[nodiscard]] inline std::vector<Index> sample_without_replacement(RandomStream& random, Index size, Index count) {
  require(count >= 0 && count <= size, "cannot draw ", count, " of ", size, " without replacement");
  std::vector<Index> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<Index>(i);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const auto pick = static_cast<std::size_t>(random.uniform_integer(static_cast<std::uint64_t>(values.size() - i)));
    std::swap(values[i], values[i + pick]);
  }
  values.resize(static_cast<std::size_t>(count));
  return values;
}

}  // namespace richflow
