#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/gram_panels.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// Products with the data, behind functions of the number type alone: each is compiled once, wherever it is used.

namespace richflow::detail {

/// `out = X v`. `out` is neither X nor v, here and below.
template <class S>
void multiply(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out += X v`.
template <class S>
void add_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out -= X v`.
template <class S>
void subtract_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out = X^T v`.
template <class S>
void multiply_transposed(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `out += X^T v`.
template <class S>
void add_transposed_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out);

/// `v_z = X^T v` and `out = X diag(weights) v_z`, in one pass over X.
template <class S>
void multiply_by_weighted_gram(const Matrix<S>& X, const Vector<S>& weights, const Vector<S>& v, Vector<S>& v_z,
                               Vector<S>& out);

/// `out_i = x_i^T v` for the `count` columns x_i of X that `columns` lists, or for all where it is null; the others
/// stay. An entry has the same bits, whichever others are listed.
template <class S>
void multiply_columns(const Matrix<S>& X, const Vector<S>& v, const Index* columns, Index count, Vector<S>& out);

// Matrices of one column are treated as vectors at run time: small products are faster that way.

/// `C = A B`. C is neither A nor B.
template <class S>
void matrix_product(const std::type_identity_t<ConstMatrixRef<S>>& A, const std::type_identity_t<ConstMatrixRef<S>>& B,
                    MatrixRef<S> C);

/// `C += A B`. C is neither A nor B.
template <class S>
void add_matrix_product(const std::type_identity_t<ConstMatrixRef<S>>& A,
                        const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C);

/// `C = A B^T`. C is neither A nor B.
template <class S>
void product_with_transposed(const std::type_identity_t<ConstMatrixRef<S>>& A,
                             const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C);

/// `C = A^T B`. C is neither A nor B.
template <class S>
void product_of_transposed(const std::type_identity_t<ConstMatrixRef<S>>& A,
                           const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C);

/// `C += A^T B`. C is neither A nor B.
template <class S>
void add_product_of_transposed(const std::type_identity_t<ConstMatrixRef<S>>& A,
                               const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C);

/// `|X| |v|`: what the terms of `X v` add up to in size.
template <class S>
[[nodiscard]] Vector<S> sizes_of_terms(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v);

/// Adds `factor A A^T` to the lower triangle of C. No allocation for float and double, unless
/// EIGEN_STACK_ALLOCATION_LIMIT is lowered.
template <class S>
void add_lower_gram(std::type_identity_t<ConstMatrixRef<S>> A, S factor, MatrixRef<S> C);

/// The lower triangle of `X X^T`; 0 above it.
template <class S>
[[nodiscard]] Matrix<S> lower_gram_matrix(const Matrix<S>& X);

template <class S>
void multiply(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.setZero(X.rows());
  add_product(X, v, out);
}

template <class S>
void add_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  add_image(S(1), X.data(), X.rows(), X.rows(), X.cols(), v.data(), out.data());
}

template <class S>
void subtract_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  add_image(S(-1), X.data(), X.rows(), X.rows(), X.cols(), v.data(), out.data());
}

template <class S>
void multiply_transposed(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  out.setZero(X.cols());
  add_transposed_product(X, v, out);
}

template <class S>
void add_transposed_product(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v, Vector<S>& out) {
  add_transposed_image(S(1), X.data(), X.rows(), X.rows(), X.cols(), v.data(), out.data());
}

/// The processor's vectors, halved where they are the longest, which would straddle cache lines in every other column.
template <class S, bool has_longest = (EIGEN_MAX_STATIC_ALIGN_BYTES >= 64)>
struct ShorterPacket {
  using type = typename Eigen::internal::packet_traits<S>::type;
  static constexpr Index size = Eigen::internal::packet_traits<S>::size;
};
template <class S>
struct ShorterPacket<S, true> {
  using type = typename Eigen::internal::packet_traits<S>::half;
  static constexpr Index size = Eigen::internal::unpacket_traits<type>::size;
};

/// `out += sum_c weighted_c here_c` and then `weighted_c = next_c^T v`, of some columns of n entries side by side at
/// `here` and `next`. The former works from the nearest cache while the latter waits for memory.
template <class S, std::size_t... c>
void add_and_project(const S* here, const S* next, const S* v, Index n, S* weighted, S* out,
                     std::index_sequence<c...> /*columns*/) {
  using Eigen::internal::ploadu;
  using Eigen::internal::pmadd;
  using Eigen::internal::pset1;
  using Packet = typename ShorterPacket<S>::type;
  constexpr Index lanes = ShorterPacket<S>::size;
  const Index whole = n / lanes * lanes;
  const auto column = [n](std::size_t k) { return static_cast<Index>(k) * n; };
  Packet sums[] = {(static_cast<void>(c), pset1<Packet>(S(0)))...};
  const Packet factors[] = {pset1<Packet>(weighted[c])...};
  for (Index i = 0; i < whole; i += lanes) {
    const Packet part = ploadu<Packet>(v + i);
    ((sums[c] = pmadd(part, ploadu<Packet>(next + column(c) + i), sums[c])), ...);
    Packet to = ploadu<Packet>(out + i);
    ((to = pmadd(factors[c], ploadu<Packet>(here + column(c) + i), to)), ...);
    Eigen::internal::pstoreu(out + i, to);
  }
  S projections[] = {Eigen::internal::predux(sums[c])...};
  for (Index i = whole; i < n; ++i) {
    ((projections[c] += v[i] * next[column(c) + i]), ...);
    ((out[i] += weighted[c] * here[column(c) + i]), ...);
  }
  ((weighted[c] = projections[c]), ...);
}

template <class S>
void multiply_by_weighted_gram(const Matrix<S>& X, const Vector<S>& weights, const Vector<S>& v, Vector<S>& v_z,
                               Vector<S>& out) {
  const Index n = X.rows();
  v_z.resize(X.cols());
  out.setZero(n);
  constexpr Index group = EIGEN_MAX_STATIC_ALIGN_BYTES >= 32 ? 6 : 4;
  const Index grouped = X.cols() / group * group;
  S weighted[group] = {};
  const S* here = X.data();
  for (Index j = 0; j < grouped; j += group) {
    const S* const next = X.data() + j * n;
    add_and_project(here, next, v.data(), n, weighted, out.data(), std::make_index_sequence<group>());
    for (Index c = 0; c < group; ++c) {
      v_z[j + c] = weighted[c];
      weighted[c] *= weights[j + c];
    }
    here = next;
  }
  if (grouped > 0) add_image(S(1), here, n, n, group, weighted, out.data());
  for (Index j = grouped; j < X.cols(); ++j) {
    v_z[j] = inner_product(X.data() + j * n, v.data(), n);
    add_multiple<S>(weights[j] * v_z[j], X.data() + j * n, out.data(), n);
  }
}

template <class S>
void multiply_columns(const Matrix<S>& X, const Vector<S>& v, const Index* columns, Index count, Vector<S>& out) {
  // One vector of the processor (see ShorterPacket), more of the shortest ones.
  constexpr Index bytes = std::min<Index>(EIGEN_MAX_STATIC_ALIGN_BYTES, 32);
  constexpr Index lanes = std::max<Index>(bytes / static_cast<Index>(sizeof(S)), 4);
  using Pack = Eigen::Array<S, static_cast<int>(lanes), 1>;
  using PackAt = Eigen::Map<const Pack>;
  const Index n = X.rows();
  const Index whole = n / lanes * lanes;
  for (Index begin = 0; begin < count; begin += 4) {
    // A last group that is not full repeats its last column.
    const auto column = [columns, count, begin](Index k) {
      const Index listed = std::min(begin + k, count - 1);
      return columns == nullptr ? listed : columns[listed];
    };
    const Index at[4] = {column(0), column(1), column(2), column(3)};
    const S* const x0 = X.data() + at[0] * n;
    const S* const x1 = X.data() + at[1] * n;
    const S* const x2 = X.data() + at[2] * n;
    const S* const x3 = X.data() + at[3] * n;
    Pack pack0 = Pack::Zero(), pack1 = Pack::Zero(), pack2 = Pack::Zero(), pack3 = Pack::Zero();
    for (Index i = 0; i < whole; i += lanes) {
      const Pack part = PackAt(v.data() + i);
      pack0 += part * PackAt(x0 + i);
      pack1 += part * PackAt(x1 + i);
      pack2 += part * PackAt(x2 + i);
      pack3 += part * PackAt(x3 + i);
    }
    S sum0 = pack0.sum(), sum1 = pack1.sum(), sum2 = pack2.sum(), sum3 = pack3.sum();
    for (Index i = whole; i < n; ++i) {
      sum0 += v[i] * x0[i];
      sum1 += v[i] * x1[i];
      sum2 += v[i] * x2[i];
      sum3 += v[i] * x3[i];
    }
    out[at[0]] = sum0;
    out[at[1]] = sum1;
    out[at[2]] = sum2;
    out[at[3]] = sum3;
  }
}

/// For short columns several times faster than Eigen's, whose loops up to an aligned address g++ turns into string
/// instructions.
template <class S>
void set_zero(MatrixRef<S>& C) {
  const bool is_contiguous = C.outerStride() == C.rows();
  const Index parts = is_contiguous ? 1 : C.cols();
  const Index size = is_contiguous ? C.size() : C.rows();
  for (Index k = 0; k < parts; ++k) std::fill_n(C.data() + k * C.outerStride(), size, S(0));
}

template <class S>
void matrix_product(const std::type_identity_t<ConstMatrixRef<S>>& A, const std::type_identity_t<ConstMatrixRef<S>>& B,
                    MatrixRef<S> C) {
  set_zero(C);
  if (C.cols() == 1) {
    const ConstVectorRef<S> b = B.col(0);
    VectorRef<S> c = C.col(0);
    c.noalias() += A * b;
    return;
  }
  C.noalias() += A * B;
}

template <class S>
void add_matrix_product(const std::type_identity_t<ConstMatrixRef<S>>& A,
                        const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C) {
  C.noalias() += A * B;
}

template <class S>
void product_with_transposed(const std::type_identity_t<ConstMatrixRef<S>>& A,
                             const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C) {
  if (A.cols() == 1) {
    // Eigen's loops up to an aligned address take longer than the rest of a short column.
    const S* const a = A.data();
    const S* const b = B.data();
    for (Index j = 0; j < C.cols(); ++j) {
      S* const c = C.data() + j * C.outerStride();
      const S b_j = b[j];
      for (Index i = 0; i < C.rows(); ++i) c[i] = a[i] * b_j;
    }
    return;
  }
  set_zero(C);
  C.noalias() += A * B.transpose();
}

template <class S>
void product_of_transposed(const std::type_identity_t<ConstMatrixRef<S>>& A,
                           const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C) {
  set_zero(C);
  if (C.cols() == 1) {
    const ConstVectorRef<S> b = B.col(0);
    VectorRef<S> c = C.col(0);
    c.noalias() += A.transpose() * b;
    return;
  }
  C.noalias() += A.transpose() * B;
}

template <class S>
void add_product_of_transposed(const std::type_identity_t<ConstMatrixRef<S>>& A,
                               const std::type_identity_t<ConstMatrixRef<S>>& B, MatrixRef<S> C) {
  if (C.cols() == 1) {
    const ConstVectorRef<S> b = B.col(0);
    VectorRef<S> c = C.col(0);
    c.noalias() += A.transpose() * b;
    return;
  }
  C.noalias() += A.transpose() * B;
}

template <class S>
Vector<S> sizes_of_terms(const Matrix<S>& X, std::type_identity_t<ConstVectorRef<S>> v) {
  using std::abs;
  Vector<S> sizes = Vector<S>::Zero(X.rows());
  for (Index j = 0; j < X.cols(); ++j)
    for (Index i = 0; i < X.rows(); ++i) sizes[i] += abs(X(i, j) * v[j]);
  return sizes;
}

template <class S>
void add_lower_gram(std::type_identity_t<ConstMatrixRef<S>> A, S factor, MatrixRef<S> C) {
  using Panels = GramPanels<S>;
  constexpr Index block = 128;  // rows at a time
  const Index rows = A.rows();
  // On the stack up to Eigen's limit, as its own products; the second only where there is a second block.
  const auto size = static_cast<std::size_t>(Panels::panels(std::min(block, rows)) * Panels::stride);
  const std::size_t size_below = rows > block ? size : 1;
  namespace internal = Eigen::internal;  // the macro asks for it
  ei_declare_aligned_stack_constructed_variable(S, of_here, size, nullptr);
  ei_declare_aligned_stack_constructed_variable(S, of_below, size_below, nullptr);
  const auto pack = [&A](Index begin, Index end, Index first, Index count, S* to) {
    const S* column = A.data() + first * A.outerStride() + begin;
    for (Index k = 0; k < count; ++k, column += A.outerStride()) Panels::put(S(1), column, end - begin, k, to);
    return typename Panels::Rows{to, begin, end};
  };
  for (Index first = 0; first < A.cols(); first += Panels::depth) {
    const Index count = std::min(Panels::depth, A.cols() - first);
    for (Index j = 0; j < rows; j += block) {
      const auto here = pack(j, std::min(j + block, rows), first, count, of_here);
      Panels::add(here, here, count, factor, C.data(), C.outerStride());
      for (Index i = j + block; i < rows; i += block) {
        const auto below = pack(i, std::min(i + block, rows), first, count, of_below);
        Panels::add(below, here, count, factor, C.data(), C.outerStride());
      }
    }
  }
}

template <class S>
Matrix<S> lower_gram_matrix(const Matrix<S>& X) {
  Matrix<S> gram = Matrix<S>::Zero(X.rows(), X.rows());
  add_lower_gram<S>(X, S(1), gram);
  return gram;
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_PRODUCTS(prefix, S)                                                                    \
  prefix template void detail::matrix_product<S>(const ConstMatrixRef<S>&, const ConstMatrixRef<S>&, MatrixRef<S>); \
  prefix template void detail::add_matrix_product<S>(const ConstMatrixRef<S>&, const ConstMatrixRef<S>&,            \
                                                     MatrixRef<S>);                                                 \
  prefix template void detail::product_with_transposed<S>(const ConstMatrixRef<S>&, const ConstMatrixRef<S>&,       \
                                                          MatrixRef<S>);                                            \
  prefix template void detail::product_of_transposed<S>(const ConstMatrixRef<S>&, const ConstMatrixRef<S>&,         \
                                                        MatrixRef<S>);                                              \
  prefix template void detail::add_product_of_transposed<S>(const ConstMatrixRef<S>&, const ConstMatrixRef<S>&,     \
                                                            MatrixRef<S>);                                          \
  prefix template void detail::multiply<S>(const Matrix<S>&, ConstVectorRef<S>, Vector<S>&);                        \
  prefix template void detail::multiply_columns<S>(const Matrix<S>&, const Vector<S>&, const Index*, Index,         \
                                                   Vector<S>&);                                                     \
  prefix template void detail::multiply_by_weighted_gram<S>(const Matrix<S>&, const Vector<S>&, const Vector<S>&,   \
                                                            Vector<S>&, Vector<S>&);                                \
  prefix template void detail::add_product<S>(const Matrix<S>&, ConstVectorRef<S>, Vector<S>&);                     \
  prefix template void detail::subtract_product<S>(const Matrix<S>&, ConstVectorRef<S>, Vector<S>&);                \
  prefix template void detail::multiply_transposed<S>(const Matrix<S>&, ConstVectorRef<S>, Vector<S>&);             \
  prefix template void detail::add_transposed_product<S>(const Matrix<S>&, ConstVectorRef<S>, Vector<S>&);          \
  prefix template Vector<S> detail::sizes_of_terms<S>(const Matrix<S>&, ConstVectorRef<S>);                         \
  prefix template void detail::add_lower_gram<S>(ConstMatrixRef<S>, S, MatrixRef<S>);                               \
  prefix template Matrix<S> detail::lower_gram_matrix<S>(const Matrix<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_PRODUCTS)
