#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

/// @file
/// What the engines do with whole vectors, behind functions of the number type alone: each is compiled once, and not
/// again for every expression and every kind of row, column and segment.

namespace richflow::detail {

/// `y += a x`, for n values each.
template <class S>
void add_multiple(S a, const S* x, S* y, Index n);

/// `sum_i x_i y_i`, over n values.
template <class S>
[[nodiscard]] S inner_product(const S* x, const S* y, Index n);

/// `y += a A x` with the m x n matrix at A, whose columns begin `stride` values apart. y is neither A nor x.
template <class S>
void add_image(S a, const S* A, Index stride, Index m, Index n, const S* x, S* y);

/// `y += a A^T x`, likewise.
template <class S>
void add_transposed_image(S a, const S* A, Index stride, Index m, Index n, const S* x, S* y);

/// `of_rows_i += sum_j A_ij^2` and `of_columns_j += sum_i A_ij^2` with the m x n matrix at A, in one pass over it.
/// Either may be null.
template <class S>
void add_square_norms(const S* A, Index m, Index n, S* of_rows, S* of_columns);

/// `y += a x`.
template <class S>
void add_multiple(S a, const Vector<S>& x, Vector<S>& y);

/// `<x, y>`.
template <class S>
[[nodiscard]] S inner_product(const Vector<S>& x, const Vector<S>& y);

/// `|x|_2`.
template <class S>
[[nodiscard]] S norm(const Vector<S>& x);

/// `max_i |x_i|` over n values; 0 for n = 0, NaN where one is.
template <class S>
[[nodiscard]] S largest_size(const S* x, Index n);

/// `|x|_inf`, likewise.
template <class S>
[[nodiscard]] S largest_size(const Vector<S>& x);

/// `out = a x`. Here and below `out` may be x or y.
template <class S>
void multiple(S a, const Vector<S>& x, Vector<S>& out);

/// `out = x + a y`.
template <class S>
void sum_with_multiple(const Vector<S>& x, S a, const Vector<S>& y, Vector<S>& out);

/// `out_i = x_i y_i`.
template <class S>
void multiply_entries(const Vector<S>& x, const Vector<S>& y, Vector<S>& out);

template <class S>
void add_multiple(S a, const S* x, S* y, Index n) {
  Eigen::Map<Vector<S>>(y, n) += a * Eigen::Map<const Vector<S>>(x, n);
}

template <class S>
S inner_product(const S* x, const S* y, Index n) {
  return Eigen::Map<const Vector<S>>(x, n).dot(Eigen::Map<const Vector<S>>(y, n));
}

template <class S>
void add_image(S a, const S* A, Index stride, Index m, Index n, const S* x, S* y) {
  const Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>> image(A, m, n, Eigen::OuterStride<>(stride));
  Eigen::Map<Vector<S>>(y, m).noalias() += (a * image) * Eigen::Map<const Vector<S>>(x, n);
}

template <class S>
void add_transposed_image(S a, const S* A, Index stride, Index m, Index n, const S* x, S* y) {
  const Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>> image(A, m, n, Eigen::OuterStride<>(stride));
  Eigen::Map<Vector<S>>(y, n).noalias() += (a * image.transpose()) * Eigen::Map<const Vector<S>>(x, m);
}

/// The same for `columns` columns of m entries side by side at A: those of all of them meet an entry of `of_rows` while
/// it is in a register.
template <Index columns, class S>
void add_square_norms_of_columns(const S* A, Index m, S* of_rows, S* of_columns) {
  constexpr Index lanes = 4;
  using Pack = Eigen::Array<S, static_cast<int>(lanes), 1>;
  using PackAt = Eigen::Map<Pack>;
  const Index rest = m % lanes;  // compilers see that it is short
  const Index whole = m - rest;
  Pack packs[columns];
  for (Pack& pack : packs) pack.setZero();
  for (Index i = 0; i < whole; i += lanes) {
    Pack of_row = Pack::Zero();
    if (of_rows != nullptr) of_row = PackAt(of_rows + i);
    for (Index c = 0; c < columns; ++c) {
      const Pack squares = Eigen::Map<const Pack>(A + c * m + i).square();
      packs[c] += squares;
      of_row += squares;
    }
    if (of_rows != nullptr) PackAt(of_rows + i) = of_row;
  }
  S sums[columns];
  for (Index c = 0; c < columns; ++c) sums[c] = packs[c].sum();
  for (Index k = 0; k < rest; ++k) {
    const Index i = whole + k;
    S of_row = of_rows != nullptr ? of_rows[i] : S(0);
    for (Index c = 0; c < columns; ++c) {
      const S square = A[c * m + i] * A[c * m + i];
      sums[c] += square;
      of_row += square;
    }
    if (of_rows != nullptr) of_rows[i] = of_row;
  }
  for (Index c = 0; of_columns != nullptr && c < columns; ++c) of_columns[c] += sums[c];
}

template <class S>
void add_square_norms(const S* A, Index m, Index n, S* of_rows, S* of_columns) {
  for (Index j = 0; j < n; j += 2) {
    S* const norms = of_columns == nullptr ? nullptr : of_columns + j;
    if (j + 1 < n)
      add_square_norms_of_columns<2>(A + j * m, m, of_rows, norms);
    else
      add_square_norms_of_columns<1>(A + j * m, m, of_rows, norms);
  }
}

template <class S>
void add_multiple(S a, const Vector<S>& x, Vector<S>& y) {
  add_multiple(a, x.data(), y.data(), y.size());
}

template <class S>
S inner_product(const Vector<S>& x, const Vector<S>& y) {
  return inner_product(x.data(), y.data(), y.size());
}

template <class S>
S norm(const Vector<S>& x) {
  using std::sqrt;
  return sqrt(inner_product(x, x));
}

template <class S>
S largest_size(const S* x, Index n) {
  if constexpr (std::is_same_v<S, double> || std::is_same_v<S, float>) {
    // A plain loop that respects NaN is not vectorized.
    return n > 0 ? Eigen::Map<const Vector<S>>(x, n).cwiseAbs().template maxCoeff<Eigen::PropagateNaN>() : S(0);
  } else {
    using std::abs;
    S largest(0);
    S rest(0);  // NaN where an entry is
    for (Index i = 0; i < n; ++i) {
      const S size = abs(x[i]);
      largest = largest < size ? size : largest;
      rest = size != size ? size : rest;
    }
    return rest != rest ? rest : largest;
  }
}

template <class S>
S largest_size(const Vector<S>& x) {
  return largest_size(x.data(), x.size());
}

template <class S>
void multiple(S a, const Vector<S>& x, Vector<S>& out) {
  out.resize(x.size());
  const S* const from = x.data();
  S* const to = out.data();
  for (Index i = 0; i < x.size(); ++i) to[i] = a * from[i];
}

template <class S>
void sum_with_multiple(const Vector<S>& x, S a, const Vector<S>& y, Vector<S>& out) {
  out.resize(x.size());
  const S* const first = x.data();
  const S* const second = y.data();
  S* const to = out.data();
  for (Index i = 0; i < x.size(); ++i) to[i] = first[i] + a * second[i];
}

template <class S>
void multiply_entries(const Vector<S>& x, const Vector<S>& y, Vector<S>& out) {
  out.resize(x.size());
  const S* const first = x.data();
  const S* const second = y.data();
  S* const to = out.data();
  for (Index i = 0; i < x.size(); ++i) to[i] = first[i] * second[i];
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_KERNELS(prefix, S)                                                         \
  prefix template void detail::add_multiple<S>(S, const S*, S*, Index);                                 \
  prefix template S detail::inner_product<S>(const S*, const S*, Index);                                \
  prefix template void detail::add_image<S>(S, const S*, Index, Index, Index, const S*, S*);            \
  prefix template void detail::add_transposed_image<S>(S, const S*, Index, Index, Index, const S*, S*); \
  prefix template void detail::add_square_norms<S>(const S*, Index, Index, S*, S*);                     \
  prefix template void detail::add_multiple<S>(S, const Vector<S>&, Vector<S>&);                        \
  prefix template S detail::inner_product<S>(const Vector<S>&, const Vector<S>&);                       \
  prefix template S detail::norm<S>(const Vector<S>&);                                                  \
  prefix template S detail::largest_size<S>(const S*, Index);                                           \
  prefix template S detail::largest_size<S>(const Vector<S>&);                                          \
  prefix template void detail::multiple<S>(S, const Vector<S>&, Vector<S>&);                            \
  prefix template void detail::sum_with_multiple<S>(const Vector<S>&, S, const Vector<S>&, Vector<S>&); \
  prefix template void detail::multiply_entries<S>(const Vector<S>&, const Vector<S>&, Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_KERNELS)
