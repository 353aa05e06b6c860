#include "richflow/core/random.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/statistics.hpp"

using richflow::Index;
using richflow::Matrix;
using richflow::philox4x32;
using richflow::RandomStream;
using richflow::Vector;
using test_support::gamma_cdf;
using test_support::kolmogorov_smirnov;
using test_support::message_contains;
using test_support::uniform_cells_p_value;

namespace {

template <class Draw>
std::vector<double> sample(std::size_t n, Draw draw) {
  std::vector<double> values(n);
  for (double& value : values) value = draw();
  return values;
}

}  // namespace

TEST_CASE("Philox4x32-10 reproduces the known answers of its authors") {
  // kat_vectors of the Random123 distribution
  using Counter = std::array<std::uint32_t, 4>;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a stream is the block function of (position, index) under its seed") {
  RandomStream zero(0, 0);
  CHECK(zero() == 0xe169c58d6627e8d5);
  CHECK(zero() == 0x9b00dbd8bc57ac4c);

  // Counter words are (block, index), low half first; a block holds two values.
  RandomStream random(0x299f31d0a4093822, 0x0370734413198a2e);
  random.discard(2 * std::uint64_t{0x05a308d3243f6a88});
  const auto words = philox4x32({0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0});
  CHECK(random() == (words[0] | std::uint64_t{words[1]} << 32));
  CHECK(random() == (words[2] | std::uint64_t{words[3]} << 32));
}

TEST_CASE("discard and position reach every draw in order") {
  RandomStream all(7, 3);
  std::vector<std::uint64_t> values;
  for (int k = 0; k < 64; ++k) values.push_back(all());
  CHECK(all.position() == 64);
  for (std::uint64_t k = 0; k < 64; ++k) {
    RandomStream jumped(7, 3);
    jumped.discard(k);
    CHECK(jumped.position() == k);
    CHECK(jumped() == values[k]);
    if (k + 1 < 64) CHECK(jumped() == values[k + 1]);
    RandomStream stepped(7, 3);
    stepped();
    stepped.discard(k);
    if (k + 1 < 64) CHECK(stepped() == values[k + 1]);
  }
  RandomStream copy = all;
  CHECK(copy == all);
  CHECK(copy() == all());
  copy();
  CHECK_FALSE(copy == all);
}

TEST_CASE("streams of different seed or index share no value and no correlation") {
  // 3 x 4 streams of 1000 values of 64 bits: a shared value has probability 4e-12.
  std::set<std::uint64_t> values;
  for (const std::uint64_t seed : {0U, 1U, 2U})
    for (const std::uint64_t index : {0U, 1U, 2U, 1000000U}) {
      RandomStream random(seed, index);
      for (int k = 0; k < 1000; ++k) values.insert(random());
    }
  CHECK(values.size() == 12000);

  // The normalised correlation of n normals is close to N(0, 1): beyond 6 with probability 2e-9.
  const int n = 20000;
  for (const auto& [seed, index] : {std::pair{0U, 1U}, std::pair{1U, 0U}, std::pair{1U, 1U}}) {
    RandomStream first(0, 0);
    RandomStream second(seed, index);
    double sum = 0.0;
    for (int k = 0; k < n; ++k) sum += first.normal() * second.normal();
    CHECK(std::fabs(sum) / std::sqrt(static_cast<double>(n)) < 6.0);
  }
}

TEST_CASE("every bit of the generator is fair and independent of its neighbours") {
  // 64 + 64 binomial counts, each beyond 6 standard deviations with probability 2e-9.
  RandomStream random(11);
  const int n = 40000;
  std::array<int, 64> ones{};
  std::array<int, 64> changes{};
  std::uint64_t previous = random();
  for (int k = 0; k < n; ++k) {
    const std::uint64_t bits = random();
    for (std::size_t b = 0; b < 64; ++b) {
      ones[b] += static_cast<int>((bits >> b) & 1U);
      changes[b] += static_cast<int>(((bits ^ previous) >> b) & 1U);
    }
    previous = bits;
  }
  const double deviation = 0.5 * std::sqrt(static_cast<double>(n));
  for (std::size_t b = 0; b < 64; ++b) {
    CHECK(std::fabs(ones[b] - 0.5 * n) < 6.0 * deviation);
    CHECK(std::fabs(changes[b] - 0.5 * n) < 6.0 * deviation);
  }
}

TEST_CASE("the draws are bit for bit the recorded ones") {
  // Recorded once; equal with g++ and clang, without optimisation and with fused multiply-add
  // instructions. A change of these numbers changes every experiment and needs a new major version.
  RandomStream random(20200101, 5);
  CHECK(random.uniform() == 0x1.60457d4980548p-2);
  CHECK(random.uniform() == 0x1.d9d4437c4a601p-1);
  CHECK(random.uniform_open() == 0x1.9b35d39078b7bp-1);
  CHECK(random.uniform(-2.0, 3.0) == 0x1.751dd1871ba0ap+1);
  CHECK(random.normal() == 0x1.62969b1adb3a1p-1);
  CHECK(random.normal() == -0x1.82e3f2b1d2407p-1);
  CHECK(random.normal() == 0x1.4edb8c630fe9ap-3);
  CHECK(random.normal() == 0x1.560fa502845f5p-3);
  CHECK(random.normal() == -0x1.f7edb1e3154dcp-2);
  CHECK(random.gamma(0.25) == 0x1.8eb629f2f00d8p-1);
  CHECK(random.gamma(3.5) == 0x1.7e8c5d53be628p+0);
  CHECK(random.chi_square(1.0) == 0x1.1f62aabe5f583p-3);
  CHECK(random.chi_square(1000.0) == 0x1.087a4bab41664p+10);
  CHECK(random.uniform_integer(1000) == 571);
  std::uint64_t digest = 0;
  const auto add = [&digest](double value) {
    digest = digest * 6364136223846793005U + std::bit_cast<std::uint64_t>(value);
  };
  for (int k = 0; k < 20000; ++k) {
    add(random.normal());
    add(random.gamma(0.7));
    add(random.chi_square(9.0));
  }
  CHECK(digest == 0xa8b5163ef4fbdf35);
}

TEST_CASE("uniforms are in range, at their extremes too, and uniform") {
  RandomStream random(1);
  const auto half_open = sample(50000, [&] { return random.uniform(); });
  const auto open = sample(50000, [&] { return random.uniform_open(); });
  const auto scaled = sample(50000, [&] { return random.uniform(-3.0, 5.0); });
  CHECK(std::all_of(half_open.begin(), half_open.end(), [](double u) { return u >= 0.0 && u < 1.0; }));
  CHECK(std::all_of(open.begin(), open.end(), [](double u) { return u > 0.0 && u < 1.0; }));
  CHECK(std::all_of(scaled.begin(), scaled.end(), [](double u) { return u >= -3.0 && u < 5.0; }));
  // false alarm 3e-8 each
  CHECK(kolmogorov_smirnov(half_open, [](double u) { return u; }) < 3.0);
  CHECK(kolmogorov_smirnov(open, [](double u) { return u; }) < 3.0);
  CHECK(kolmogorov_smirnov(scaled, [](double u) { return (u + 3.0) / 8.0; }) < 3.0);

  // Where rounding would reach the excluded end: neighbouring doubles leave one value only.
  const double one_up = std::nextafter(1.0, 2.0);
  for (int k = 0; k < 100; ++k) CHECK(random.uniform(1.0, one_up) == 1.0);
}

TEST_CASE("uniform rejects bad limits") {
  RandomStream random(1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_MATCHES(random.uniform(2.0, 2.0), richflow::ArgumentError, message_contains("low < high"));
  CHECK_THROWS_AS(random.uniform(3.0, 2.0), richflow::ArgumentError);
  CHECK_THROWS_AS(random.uniform(nan, 2.0), richflow::ArgumentError);
  CHECK_THROWS_AS(random.uniform(0.0, nan), richflow::ArgumentError);
  CHECK_THROWS_AS(random.uniform(-1e308, 1e308), richflow::ArgumentError);
}

TEST_CASE("normals follow the normal distribution") {
  RandomStream random(2);
  const std::size_t n = 200000;
  const auto values = sample(n, [&] { return random.normal(); });
  CHECK(random.position() == n);                                      // one draw each
  CHECK(kolmogorov_smirnov(values, test_support::normal_cdf) < 3.0);  // false alarm 3e-8

  // Moments: (mean of x^k - E x^k) / standard error is close to N(0, 1), beyond 6 with probability 2e-9.
  const std::array<double, 4> expected = {0.0, 1.0, 0.0, 3.0};
  const std::array<double, 4> variance = {1.0, 2.0, 15.0, 96.0};
  for (std::size_t k = 0; k < 4; ++k) {
    double mean = 0.0;
    for (const double x : values) mean += std::pow(x, static_cast<double>(k + 1)) / static_cast<double>(n);
    CHECK(std::fabs(mean - expected[k]) < 6.0 * std::sqrt(variance[k] / static_cast<double>(n)));
  }
  // Tails: the count beyond 3 has mean 540 and standard deviation 23.
  const auto beyond = std::count_if(values.begin(), values.end(), [](double x) { return std::fabs(x) > 3.0; });
  const double p = 2.0 * test_support::normal_cdf(-3.0);
  const double count_deviation = std::sqrt(static_cast<double>(n) * p);
  CHECK(std::fabs(static_cast<double>(beyond) - static_cast<double>(n) * p) < 6.0 * count_deviation);
  // Neighbours are uncorrelated.
  double product = 0.0;
  for (std::size_t k = 1; k < n; ++k) product += values[k - 1] * values[k];
  CHECK(std::fabs(product) / std::sqrt(static_cast<double>(n)) < 6.0);
}

TEST_CASE("gamma and chi-square variables follow their distributions") {
  const std::size_t n = 40000;
  std::uint64_t index = 0;
  for (const double shape : {0.05, 0.3, 0.5, 1.0, 1.5, 4.0, 30.0, 2500.0, 250000.0}) {
    INFO("shape " << shape);
    RandomStream random(3, index++);
    const auto values = sample(n, [&] { return random.gamma(shape); });
    CHECK(std::all_of(values.begin(), values.end(), [](double x) { return x >= 0.0 && std::isfinite(x); }));
    CHECK(kolmogorov_smirnov(values, [&](double x) { return gamma_cdf(shape, x); }) < 3.0);  // false alarm 3e-8
  }
  for (const double degrees : {1.0, 2.0, 7.0, 500.0}) {
    INFO("degrees " << degrees);
    RandomStream random(4, index++);
    const auto values = sample(n, [&] { return random.chi_square(degrees); });
    CHECK(kolmogorov_smirnov(values, [&](double x) { return gamma_cdf(0.5 * degrees, 0.5 * x); }) < 3.0);
  }
  // One degree of freedom is the square of a normal: P(chi^2 <= 1) = 0.6827.
  CHECK_THAT(gamma_cdf(0.5, 0.5), test_support::near(0.68268949213708590, 0.0, 1e-14));
}

TEST_CASE("gamma and chi-square reject bad parameters") {
  RandomStream random(1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, nan, inf}) {
    CHECK_THROWS_MATCHES(random.gamma(bad), richflow::ArgumentError, message_contains("shape"));
    CHECK_THROWS_MATCHES(random.chi_square(bad), richflow::ArgumentError, message_contains("degrees"));
  }
  CHECK(random.position() == 0);  // checked before anything is drawn
}

TEST_CASE("uniform integers have no bias and no gap") {
  RandomStream random(5);
  for (const std::uint64_t bound : {2U, 3U, 7U, 10U, 64U, 100U}) {
    INFO("bound " << bound);
    std::vector<long> counts(bound, 0);
    for (int k = 0; k < 60000; ++k) ++counts.at(random.uniform_integer(bound));
    CHECK(uniform_cells_p_value(counts) > 1e-8);  // false alarm 1e-8
  }
  CHECK(random.uniform_integer(1) == 0);
  // The largest bounds: in range, and the top half is hit (missed with probability 2^-64).
  const std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
  bool top = false;
  for (int k = 0; k < 64; ++k) {
    const std::uint64_t value = random.uniform_integer(largest);
    CHECK(value < largest);
    top = top || value > largest / 2;
  }
  CHECK(top);
  CHECK_THROWS_MATCHES(random.uniform_integer(0), richflow::ArgumentError, message_contains("bound"));
}

TEST_CASE("shuffle makes every order equally likely") {
  RandomStream random(6);
  std::vector<long> counts(24, 0);
  for (int k = 0; k < 48000; ++k) {
    std::vector<int> order = {0, 1, 2, 3};
    richflow::shuffle(random, order);
    std::size_t rank = 0;  // Lehmer code
    for (std::size_t i = 0; i < 4; ++i) {
      std::size_t smaller = 0;
      for (std::size_t j = i + 1; j < 4; ++j) smaller += order[j] < order[i] ? 1U : 0U;
      rank = rank * (4 - i) + smaller;
    }
    ++counts.at(rank);
  }
  CHECK(uniform_cells_p_value(counts) > 1e-8);  // false alarm 1e-8

  Vector<double> values = Vector<double>::LinSpaced(50, 0.0, 49.0);
  richflow::shuffle(random, values);
  std::sort(values.data(), values.data() + values.size());
  CHECK(values == Vector<double>::LinSpaced(50, 0.0, 49.0));

  std::vector<int> empty;
  richflow::shuffle(random, empty);
  CHECK(empty.empty());
}

TEST_CASE("sampling without replacement gives different numbers, every choice equally likely") {
  RandomStream random(8);
  std::vector<long> counts(5 * 4, 0);  // ordered pairs of {0..4}
  for (int k = 0; k < 40000; ++k) {
    const auto pair = richflow::sample_without_replacement(random, 5, 2);
    REQUIRE(pair.size() == 2);
    REQUIRE(pair[0] != pair[1]);
    ++counts.at(static_cast<std::size_t>(4 * pair[0] + (pair[1] > pair[0] ? pair[1] - 1 : pair[1])));
  }
  CHECK(uniform_cells_p_value(counts) > 1e-8);  // false alarm 1e-8

  auto permutation = richflow::sample_without_replacement(random, 100, 100);
  std::sort(permutation.begin(), permutation.end());
  for (std::size_t i = 0; i < permutation.size(); ++i) CHECK(permutation[i] == static_cast<Index>(i));
  CHECK(richflow::sample_without_replacement(random, 5, 0).empty());
  CHECK(richflow::sample_without_replacement(random, 0, 0).empty());
  CHECK_THROWS_MATCHES(richflow::sample_without_replacement(random, 3, 4), richflow::ArgumentError,
                       message_contains("4 of 3"));
  CHECK_THROWS_AS(richflow::sample_without_replacement(random, 3, -1), richflow::ArgumentError);
}

TEST_CASE("vectors and matrices are filled row by row from the stream") {
  RandomStream one_by_one(9);
  RandomStream filled(9);
  const Matrix<double> X = richflow::normal_matrix(filled, 4, 3);
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 3; ++j) CHECK(X(i, j) == one_by_one.normal());
  RandomStream shorter(9);
  CHECK(richflow::normal_matrix(shorter, 2, 3) == X.topRows(2));

  const Vector<float> v = richflow::normal_vector<float>(filled, 5);
  for (Index i = 0; i < 5; ++i) CHECK(v(i) == static_cast<float>(one_by_one.normal()));
  Matrix<long double> u(2, 2);
  richflow::fill_uniform(filled, u);
  CHECK(u(0, 0) == static_cast<long double>(one_by_one.uniform()));
  CHECK(u(0, 1) == static_cast<long double>(one_by_one.uniform()));

  CHECK(richflow::normal_vector(filled, 0).size() == 0);
  CHECK_THROWS_AS(richflow::normal_vector(filled, -1), richflow::DimensionError);
  CHECK_THROWS_AS(richflow::normal_matrix(filled, 2, -1), richflow::DimensionError);
}

TEST_CASE("children of a stream are streams of their own, by name") {
  const RandomStream parent(7, 3);
  RandomStream a = parent.child("noise");
  RandomStream again = parent.child("noise");
  RandomStream b = parent.child("order");
  RandomStream of_other_index = RandomStream(7, 4).child("noise");
  RandomStream of_other_seed = RandomStream(8, 3).child("noise");
  RandomStream itself(7, 3);
  CHECK(a == again);
  // Equal 64-bit draws of different streams have probability 2^-64.
  const std::uint64_t first = a();
  CHECK(first == again());
  for (RandomStream* other : {&b, &of_other_index, &of_other_seed, &itself}) CHECK((*other)() != first);
  static_assert(RandomStream(1).child("a").seed() != RandomStream(1).child("b").seed());
}
