#include "richflow/core/portable_math.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using richflow::RandomStream;
using richflow::detail::portable_exp;
using richflow::detail::portable_log;
using richflow::detail::upper_normal_quantile;
using test_support::log_uniform;
using test_support::ulp_error;

// The oracles are the long double functions of the system's library. Bounds: about 1.5 times the largest
// error seen over 10^6 points (1.15 ulp for the logarithm, 0.87 for the exponential, 5.0 for the quantile).

TEST_CASE("the portable logarithm is accurate over the whole range") {
  RandomStream random(1);
  long double worst = 0.0L;
  for (int k = 0; k < 100000; ++k) {
    const double far = log_uniform(random, 1e-300, 1e300);
    const double near = random.uniform(0.5, 2.0);
    worst = std::max(worst, ulp_error(portable_log(far), std::log(static_cast<long double>(far))));
    worst = std::max(worst, ulp_error(portable_log(near), std::log(static_cast<long double>(near))));
  }
  CHECK(worst < 1.7L);
  CHECK(portable_log(1.0) == 0.0);
  const double denormal = std::numeric_limits<double>::denorm_min();
  CHECK(ulp_error(portable_log(denormal), std::log(static_cast<long double>(denormal))) < 1.7L);
  const double largest = std::numeric_limits<double>::max();
  CHECK(ulp_error(portable_log(largest), std::log(static_cast<long double>(largest))) < 1.7L);
}

TEST_CASE("the portable exponential is accurate over the whole range") {
  RandomStream random(2);
  long double worst = 0.0L;
  for (int k = 0; k < 100000; ++k) {
    const double far = random.uniform(-745.0, 709.7);
    const double near = random.uniform(-1.0, 1.0);
    worst = std::max(worst, ulp_error(portable_exp(far), std::exp(static_cast<long double>(far))));
    worst = std::max(worst, ulp_error(portable_exp(near), std::exp(static_cast<long double>(near))));
  }
  CHECK(worst < 1.3L);
  CHECK(portable_exp(0.0) == 1.0);
  CHECK(portable_exp(-1e9) == 0.0);
  CHECK(portable_exp(1e9) == std::numeric_limits<double>::infinity());
}

TEST_CASE("the normal quantile inverts the tail probability") {
  const long double pi = std::acos(-1.0L);
  RandomStream random(3);
  long double worst = 0.0L;
  for (int k = 0; k < 100000; ++k) {
    // down to 2^-54, the smallest probability that the generator asks for
    const double p = k % 2 == 0 ? 0.5 * random.uniform_open() : log_uniform(random, 0x1p-54, 0.5);
    const double x = upper_normal_quantile(p);
    // The error in x, to first order: the error of its tail probability over the density.
    const long double tail = std::erfc(static_cast<long double>(x) / std::sqrt(2.0L)) / 2.0L;
    const long double density = std::exp(-static_cast<long double>(x) * x / 2.0L) / std::sqrt(2.0L * pi);
    // Near the median x = (1/2 - p)/density, whose error the difference above sees only in absolute terms.
    if (x > 1e-3) worst = std::max(worst, std::fabs(tail - p) / density / test_support::ulp<double>(x));
  }
  CHECK(worst < 7.5L);
  CHECK(upper_normal_quantile(0.5) == 0.0);
  // near the median: x = sqrt(2 pi) (1/2 - p)
  const double q = 0x1p-40;
  CHECK(ulp_error(upper_normal_quantile(0.5 - q), std::sqrt(2.0L * pi) * q) < 7.5L);
}
