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
    // A plain loop that minds NaN is none of vectors.
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
  prefix template void detail::add_multiple<S>(S, const Vector<S>&, Vector<S>&);                        \
  prefix template S detail::inner_product<S>(const Vector<S>&, const Vector<S>&);                       \
  prefix template S detail::norm<S>(const Vector<S>&);                                                  \
  prefix template S detail::largest_size<S>(const S*, Index);                                           \
  prefix template S detail::largest_size<S>(const Vector<S>&);                                          \
  prefix template void detail::multiple<S>(S, const Vector<S>&, Vector<S>&);                            \
  prefix template void detail::sum_with_multiple<S>(const Vector<S>&, S, const Vector<S>&, Vector<S>&); \
  prefix template void detail::multiply_entries<S>(const Vector<S>&, const Vector<S>&, Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_KERNELS)
