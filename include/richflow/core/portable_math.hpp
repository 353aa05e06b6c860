#pragma once

#include <cmath>
#include <cstddef>

/// @file
/// Elementary functions that give the same bits with every compiler and library, for the random
/// numbers. `std::log` and `std::exp` may differ in the last place between libraries, and a compiler may
/// or may not contract `a * b + c` into one rounding. Here every multiplication that meets an addition is
/// an explicit `std::fma`, which IEEE 754 defines exactly (in software where the machine has none), and
/// all else is a correctly rounded operation (+, -, *, /, sqrt) or exact (frexp, ldexp, floor). What is
/// assumed: IEEE double, evaluation in double (not x87 registers), rounding to nearest.

namespace richflow::detail {

/// c[0] + c[1] x + ... by Horner's rule, one rounding per coefficient.
template <std::size_t n>
[[nodiscard]] inline double fused_horner(const double (&c)[n], double x) {
  double value = c[n - 1];
  for (std::size_t k = n - 1; k > 0; --k) value = std::fma(value, x, c[k - 1]);
  return value;
}

/// Natural logarithm of a positive finite number, to about 1 ulp.
[[nodiscard]] inline double portable_log(double x) {
  static constexpr double ln2_high = 0x1.62e42fefa39efp-1;
  static constexpr double ln2_low = 0x1.abc9e3b39803fp-56;
  static constexpr double sqrt_half = 0x1.6a09e667f3bcdp-1;
  // 2 atanh(s) / s = 2 + s^2 (2/3 + 2/5 s^2 + ...), |s| <= 0.1716: twelve terms reach 1e-19.
  static constexpr double series[] = {2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11, 2.0 / 13,
                                      2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23, 2.0 / 25};
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < sqrt_half) {
    m *= 2.0;
    --exponent;
  }
  const double f = m - 1.0;  // exact
  const double s = f / (2.0 + f);
  const double z = s * s;
  // log(1 + f) = 2 s + s R = f - s (f - R), where f is exact.
  const double log_m = std::fma(-s, std::fma(-z, fused_horner(series, z), f), f);
  const double k = exponent;
  return std::fma(k, ln2_high, std::fma(k, ln2_low, log_m));
}

/// Exponential of a finite number, to about 1 ulp; 0 below -746, infinity above 710.
[[nodiscard]] inline double portable_exp(double x) {
  static constexpr double inverse_ln2 = 0x1.71547652b82fep+0;
  static constexpr double ln2_high = 0x1.62e42fefa39efp-1;
  static constexpr double ln2_low = 0x1.abc9e3b39803fp-56;
  // 1/k! for |r| <= log(2)/2: the first term left out is below 1e-17.
  static constexpr double series[] = {
      1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
      1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
  if (x < -746.0) return 0.0;
  if (x > 710.0) return HUGE_VAL;
  const double k = std::floor(std::fma(x, inverse_ln2, 0.5));
  const double r = std::fma(-k, ln2_low, std::fma(-k, ln2_high, x));
  return std::ldexp(fused_horner(series, r), static_cast<int>(k));
}

/// The x >= 0 with P(N(0, 1) > x) = p, for 0 < p <= 1/2, to a few ulp: the rational approximations of
/// Wichura (1988), Algorithm AS 241, PPND16. The last operation is a division, so that a caller's
/// addition cannot be fused into it either.
[[nodiscard]] inline double upper_normal_quantile(double p) {
  static constexpr double central_numerator[] = {3.387132872796366608,  133.14166789178437745, 1971.5909503065514427,
                                                 13731.693765509461125, 45921.953931549871457, 67265.770927008700853,
                                                 33430.575583588128105, 2509.0809287301226727};
  static constexpr double central_denominator[] = {1.0,
                                                   42.313330701600911252,
                                                   687.1870074920579083,
                                                   5394.1960214247511077,
                                                   21213.794301586595867,
                                                   39307.89580009271061,
                                                   28729.085735721942674,
                                                   5226.495278852545925};
  static constexpr double middle_numerator[] = {1.42343711074968357734,  4.6303378461565452959,   5.7694972214606914055,
                                                3.64784832476320460504,  1.27045825245236838258,  .24178072517745061177,
                                                .0227238449892691845833, 7.7454501427834140764e-4};
  static constexpr double middle_denominator[] = {1.0,
                                                  2.05319162663775882187,
                                                  1.6763848301838038494,
                                                  .68976733498510000455,
                                                  .14810397642748007459,
                                                  .0151986665636164571966,
                                                  5.475938084995344946e-4,
                                                  1.05075007164441684324e-9};
  static constexpr double far_numerator[] = {
      6.6579046435011037772,  5.4637849111641143699,   1.7848265399172913358,     .29656057182850489123,
      .026532189526576123093, .0012426609473880784386, 2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double far_denominator[] = {1.0,
                                               .59983220655588793769,
                                               .13692988092273580531,
                                               .0148753612908506148525,
                                               7.868691311456132591e-4,
                                               1.8463183175100546818e-5,
                                               1.4215117583164458887e-7,
                                               2.04426310338993978564e-15};
  const double q = 0.5 - p;
  if (q <= 0.425) {
    const double r = std::fma(-q, q, 0.180625);
    return (q * fused_horner(central_numerator, r)) / fused_horner(central_denominator, r);
  }
  const double r = std::sqrt(-portable_log(p));
  if (r <= 5.0) return fused_horner(middle_numerator, r - 1.6) / fused_horner(middle_denominator, r - 1.6);
  return fused_horner(far_numerator, r - 5.0) / fused_horner(far_denominator, r - 5.0);
}

}  // namespace richflow::detail
