#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Data in mixed units, and what is right about it whatever the units.

namespace test_support {

/// Factors from 1 to `ratio`, evenly spaced in the logarithm, in random order.
inline richflow::Vector<double> mixed_units(richflow::RandomStream& random, richflow::Index size, double ratio) {
  richflow::Vector<double> units(size);
  for (richflow::Index i = 0; i < size; ++i)
    units(i) = std::pow(ratio, size > 1 ? static_cast<double>(i) / static_cast<double>(size - 1) : 0.0);
  for (richflow::Index i = size - 1; i > 0; --i)
    std::swap(units(i), units(static_cast<richflow::Index>(random.uniform_integer(static_cast<std::uint64_t>(i + 1)))));
  return units;
}

using LongMatrix = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
using LongVector = Eigen::Matrix<long double, Eigen::Dynamic, 1>;

/// The solution of least norm of `X m = y`, X of full row rank N <= d, as the mean of the solutions of all N x N
/// subsystems with weights det^2 (Jacobi 1841): no difference between units enters it. Cramer's rule in extended
/// precision; for N = 2 or 3 and few columns.
inline richflow::Vector<double> least_norm_by_minors(const richflow::Matrix<double>& X,
                                                     const richflow::Vector<double>& y) {
  using richflow::Index;
  const Index N = X.rows();
  const Index d = X.cols();
  const auto det = [](const LongMatrix& A) -> long double {
    if (A.rows() == 2) return A(0, 0) * A(1, 1) - A(0, 1) * A(1, 0);
    return A(0, 0) * (A(1, 1) * A(2, 2) - A(1, 2) * A(2, 1)) - A(0, 1) * (A(1, 0) * A(2, 2) - A(1, 2) * A(2, 0)) +
           A(0, 2) * (A(1, 0) * A(2, 1) - A(1, 1) * A(2, 0));
  };
  LongVector sum = LongVector::Zero(d);
  long double weights = 0;
  std::vector<bool> taken(static_cast<std::size_t>(d), false);
  std::fill(taken.end() - N, taken.end(), true);
  do {
    std::vector<Index> basis;
    for (Index j = 0; j < d; ++j)
      if (taken[static_cast<std::size_t>(j)]) basis.push_back(j);
    LongMatrix A(N, N);
    for (Index k = 0; k < N; ++k) A.col(k) = X.col(basis[static_cast<std::size_t>(k)]).cast<long double>();
    const long double whole = det(A);
    weights += whole * whole;
    for (Index k = 0; k < N; ++k) {
      LongMatrix replaced = A;
      replaced.col(k) = y.cast<long double>();
      sum(basis[static_cast<std::size_t>(k)]) += whole * det(replaced);
    }
  } while (std::next_permutation(taken.begin(), taken.end()));
  return (sum / weights).cast<double>();
}

/// `|X m - y| / |y|` in extended precision.
inline double relative_residual(const richflow::Matrix<double>& X, const richflow::Vector<double>& m,
                                const richflow::Vector<double>& y) {
  const LongVector r = X.cast<long double>() * m.cast<long double>() - y.cast<long double>();
  return static_cast<double>(r.norm()) / y.norm();
}

}  // namespace test_support
