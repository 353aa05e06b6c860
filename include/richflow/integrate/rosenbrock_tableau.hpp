#pragma once

#include <array>
#include <cstddef>

/// @file
/// Rosenbrock methods as data. A method is a struct of constants; `Rosenbrock<Tableau>` is the stepper.
///
/// For `y' = F(y)` with Jacobian `-S` the stages solve, in the form without products by the Jacobian
/// (Hairer and Wanner, Solving ODEs II, IV.7),
///
///     (I / (gamma h) + S) u_i = F(y + sum_j a_ij u_j) + sum_j (c_ij / h) u_j
///     y_new = y + sum_i m_i u_i,     y_new - y_embedded = sum_i e_i u_i
///     y(t + theta h) = y + sum_i sum_q dense_iq theta^(q+1) u_i
///
/// A tableau has `stages` = s, `order`, `error_order` (of the embedded solution), `is_w_method` (whether the
/// orders hold with any matrix in place of the Jacobian), `gamma`, `a` and `c` (s x s, strictly lower
/// triangular), `m`, `e` (s entries), and, optionally, `dense` (s x p).

namespace richflow {

/// Coefficients of `columns` weights for each of `rows` stages.
template <std::size_t rows, std::size_t columns>
using CoefficientTable = std::array<std::array<long double, columns>, rows>;

/// Order 2 with an embedded order 1, two evaluations, L-stable (Verwer et al. 1999; Hundsdorfer and Verwer 2003, IV.5).
/// A W-method: it keeps its order with any approximation of the Jacobian. No interpolant.
struct Ros2Tableau {
  static constexpr std::size_t stages = 2;
  static constexpr int order = 2;
  static constexpr int error_order = 1;
  static constexpr bool is_w_method = true;
  static constexpr long double gamma = 0.292893218813452475599155637895150961L;  // 1 - 1 / sqrt(2)
  static constexpr CoefficientTable<2, 2> a = {{{}, {1 / gamma}}};
  static constexpr CoefficientTable<2, 2> c = {{{}, {-2 / gamma}}};
  static constexpr std::array<long double, 2> m = {1.5L / gamma, 0.5L / gamma};
  static constexpr std::array<long double, 2> e = {0.5L / gamma, 0.5L / gamma};
};

/// Order 3 with an embedded order 2, three evaluations, L-stable and stiffly accurate (Sandu et al. 1997),
/// with an interpolant of order 2 whose weights stay bounded for stiff components.
struct Rodas3Tableau {
  static constexpr std::size_t stages = 4;
  static constexpr int order = 3;
  static constexpr int error_order = 2;
  static constexpr bool is_w_method = false;
  static constexpr long double gamma = 0.5L;
  static constexpr CoefficientTable<4, 4> a = {{{}, {}, {2}, {2, 0, 1}}};
  static constexpr CoefficientTable<4, 4> c = {{{}, {4}, {1, -1}, {1, -1, -8.0L / 3}}};
  static constexpr std::array<long double, 4> m = {2, 0, 1, 1};
  static constexpr std::array<long double, 4> e = {0, 0, 0, 1};
  static constexpr CoefficientTable<4, 3> dense = {{{5, -3, 0}, {-1, 1, 0}, {0, 0, 1}, {0, 0, 1}}};
};

/// Order 4 with an embedded order 3, five evaluations, L-stable and stiffly accurate, with an interpolant of
/// order 3 (RODAS of Hairer and Wanner, Solving ODEs II, IV.10). Coefficients to 16 digits.
struct Rodas4Tableau {
  static constexpr std::size_t stages = 6;
  static constexpr int order = 4;
  static constexpr int error_order = 3;
  static constexpr bool is_w_method = false;
  static constexpr long double gamma = 0.25L;
  static constexpr CoefficientTable<6, 6> a = {
      {{},
       {1.544L},
       {0.9466785280815826L, 0.2557011698983284L},
       {3.314825187068521L, 2.896124015972201L, 0.9986419139977817L},
       {1.221224509226641L, 6.019134481288629L, 12.53708332932087L, -0.6878860361058950L},
       {1.221224509226641L, 6.019134481288629L, 12.53708332932087L, -0.6878860361058950L, 1}}};
  static constexpr CoefficientTable<6, 6> c = {
      {{},
       {-5.6688L},
       {-2.430093356833875L, -0.2063599157091915L},
       {-0.1073529058151375L, -9.594562251023355L, -20.47028614809616L},
       {7.496443313967647L, -10.24680431464352L, -33.99990352819905L, 11.70890893206160L},
       {8.083246795921522L, -7.981132988064893L, -31.52159432874371L, 16.31930543123136L, -6.058818238834054L}}};
  static constexpr std::array<long double, 6> m = {
      1.221224509226641L, 6.019134481288629L, 12.53708332932087L, -0.6878860361058950L, 1, 1};
  static constexpr std::array<long double, 6> e = {0, 0, 0, 0, 0, 1};
  static constexpr CoefficientTable<6, 3> dense = [] {
    // Published as y (1 - theta) + theta (y_new + (1 - theta) (D_2 + theta D_3)), D_k = sum_i d_ki u_i.
    constexpr std::array<long double, 6> d2 = {10.12623508344586L,  -7.487995877610167L, -34.80091861555747L,
                                               -7.992771707568823L, 1.025137723295662L,  0};
    constexpr std::array<long double, 6> d3 = {-0.6762803392806898L, 6.087714651680015L,  16.43084320892478L,
                                               24.76722511418386L,   -6.594389125716872L, 0};
    CoefficientTable<6, 3> table{};
    for (std::size_t i = 0; i < 6; ++i) table[i] = {m[i] + d2[i], d3[i] - d2[i], -d3[i]};
    return table;
  }();
};

/// Order 3 with an embedded order 2, four evaluations, L-stable and stiffly accurate (ROS34PW2 of Rang and
/// Angermann 2005), with an interpolant of order 3 (2 when the Jacobian is not exact). A W-method: it keeps its order
/// and its error estimate with any approximation of the Jacobian. Coefficients to 16 digits.
struct Ros34Pw2Tableau {
  static constexpr std::size_t stages = 4;
  static constexpr int order = 3;
  static constexpr int error_order = 2;
  static constexpr bool is_w_method = true;
  static constexpr long double gamma = 0.435866521508459L;
  static constexpr CoefficientTable<4, 4> a = {{{},
                                                {2},
                                                {1.41921731745576473749L, -0.259232211672969725669L},
                                                {4.18476048231916042L, -0.28519201735549588L, 2.29428036027904161L}}};
  static constexpr CoefficientTable<4, 4> c = {
      {{},
       {-4.58856072055808361654L},
       {-4.18476048231916042397L, 0.285192017355495930353L},
       {-6.36817920012835791965L, -6.79562094446683584437L, 2.87009860433105590261L}}};
  static constexpr std::array<long double, 4> m = {4.18476048231916042L, -0.28519201735549588L, 2.29428036027904161L,
                                                   1};
  static constexpr std::array<long double, 4> e = {0.277749947647968120634L, -1.40323989517599900800L,
                                                   1.77263012766755068128L, 0.5L};
  static constexpr CoefficientTable<4, 3> dense = {
      {{0.832659023154389554833L, 4.52078420052034779530L, -1.16868274135557559390L},
       {-1.46162133712465225344L, -4.72795432228401590891L, 5.90438364205317345323L},
       {0, 9.75293968516817777470L, -7.45865932488913774279L},
       {-2.39812007519558223478L, 5.50195979011212354948L, -2.10383971491654131469L}}};
};

}  // namespace richflow
