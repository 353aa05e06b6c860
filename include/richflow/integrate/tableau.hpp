#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// @file
/// Explicit Runge-Kutta methods as data. A method is a struct of constants; `ExplicitRk<Tableau>` is
/// the stepper. Coefficients are fractions, so that they are exact to the last digit in any number type.
///
/// A tableau has `stages` = s, `order`, `a` (s x s, strictly lower triangular), `b`, `c` (s entries).
/// Optional members: `b_error` = b - b_embedded with `error_order` (the order of the embedded solution),
/// and `dense` (s x p): the weights of the interpolant, `b_i(theta) = sum_q dense[i][q] theta^(q+1)`.
/// A method whose last stage is its own result (the last row of `a` equals `b`, and `c` ends in 1)
/// reuses that stage as the first one of the next step; this is recognised, not declared.

namespace richflow {

/// An exact coefficient.
struct Fraction {
  std::int64_t numerator = 0;    ///< may be negative
  std::int64_t denominator = 1;  ///< positive

  /// The nearest value in `Scalar`.
  template <class Scalar>
  [[nodiscard]] constexpr Scalar as() const {
    return Scalar(numerator) / Scalar(denominator);
  }

  /// True for 0.
  [[nodiscard]] constexpr bool is_zero() const { return numerator == 0; }

  /// Equal as written; coefficients of one tableau are in lowest terms.
  friend constexpr bool operator==(const Fraction&, const Fraction&) = default;
};

/// Coefficients of `columns` weights for each of `rows` stages.
template <std::size_t rows, std::size_t columns>
using FractionTable = std::array<std::array<Fraction, columns>, rows>;

/// Euler's method, order 1. With a constant step on a gradient flow this is gradient descent.
struct EulerTableau {
  /// Number of stages.
  static constexpr int stages = 1;
  /// Order of b.
  static constexpr int order = 1;
  /// Weights of the stages.
  static constexpr FractionTable<1, 1> a = {};
  /// Weights of the result.
  static constexpr std::array<Fraction, 1> b = {{{1, 1}}};
  /// Times of the stages.
  static constexpr std::array<Fraction, 1> c = {};
};

/// The classical method of order 4 (Kutta 1901).
struct RungeKutta4Tableau {
  /// Number of stages.
  static constexpr int stages = 4;
  /// Order of b.
  static constexpr int order = 4;
  /// Weights of the stages.
  static constexpr FractionTable<4, 4> a = {{{{}}, {{{1, 2}}}, {{{0, 1}, {1, 2}}}, {{{0, 1}, {0, 1}, {1, 1}}}}};
  /// Weights of the result.
  static constexpr std::array<Fraction, 4> b = {{{1, 6}, {1, 3}, {1, 3}, {1, 6}}};
  /// Times of the stages.
  static constexpr std::array<Fraction, 4> c = {{{0, 1}, {1, 2}, {1, 2}, {1, 1}}};
};

/// Order 5 with an embedded order 4 (Dormand and Prince 1980, RK5(4)7M) and the order-4 interpolant of
/// Shampine 1986. Seven stages, six evaluations per accepted step.
struct DormandPrinceTableau {
  /// Number of stages.
  static constexpr int stages = 7;
  /// Order of b.
  static constexpr int order = 5;
  /// Order of b - b_error.
  static constexpr int error_order = 4;
  /// Weights of the stages.
  static constexpr FractionTable<7, 7> a = {{
      {{}},
      {{{1, 5}}},
      {{{3, 40}, {9, 40}}},
      {{{44, 45}, {-56, 15}, {32, 9}}},
      {{{19372, 6561}, {-25360, 2187}, {64448, 6561}, {-212, 729}}},
      {{{9017, 3168}, {-355, 33}, {46732, 5247}, {49, 176}, {-5103, 18656}}},
      {{{35, 384}, {0, 1}, {500, 1113}, {125, 192}, {-2187, 6784}, {11, 84}}},
  }};
  /// Weights of the result.
  static constexpr std::array<Fraction, 7> b = {
      {{35, 384}, {0, 1}, {500, 1113}, {125, 192}, {-2187, 6784}, {11, 84}, {0, 1}}};
  /// Times of the stages.
  static constexpr std::array<Fraction, 7> c = {{{0, 1}, {1, 5}, {3, 10}, {4, 5}, {8, 9}, {1, 1}, {1, 1}}};
  /// Weights of the error estimate.
  static constexpr std::array<Fraction, 7> b_error = {
      {{71, 57600}, {0, 1}, {-71, 16695}, {71, 1920}, {-17253, 339200}, {22, 525}, {-1, 40}}};
  /// Weights of the interpolant, see above.
  static constexpr FractionTable<7, 4> dense = {{
      {{{1, 1}, {-8048581381, 2820520608}, {8663915743, 2820520608}, {-12715105075, 11282082432}}},
      {{}},
      {{{0, 1}, {131558114200, 32700410799}, {-68118460800, 10900136933}, {87487479700, 32700410799}}},
      {{{0, 1}, {-1754552775, 470086768}, {14199869525, 1410260304}, {-10690763975, 1880347072}}},
      {{{0, 1}, {127303824393, 49829197408}, {-318862633887, 49829197408}, {701980252875, 199316789632}}},
      {{{0, 1}, {-282668133, 205662961}, {2019193451, 616988883}, {-1453857185, 822651844}}},
      {{{0, 1}, {40617522, 29380423}, {-110615467, 29380423}, {69997945, 29380423}}},
  }};
};

}  // namespace richflow
