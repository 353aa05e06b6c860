#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

namespace richflow::detail {

/// The product under Gram matrices, `C += factor A B^T` in its lower triangle, of some rows A and some rows B of a
/// matrix. Both are given in panels: as many rows as a vector of the processor has entries, column after column,
/// `depth` of them at most.
///
/// Eigen's `rankUpdate` copies both factors for each product and computes whole squares on the diagonal: for some
/// hundred rows it takes half as long again, and it takes longer to compile.
template <class S>
class GramPanels {
  using Packet = typename Eigen::internal::packet_traits<S>::type;

  // A tile is `group` columns times up to three panels: as many sums as there are registers for.
  static constexpr Index group = EIGEN_MAX_STATIC_ALIGN_BYTES >= 64 ? 8 : 4;
  static constexpr Index most_panels = 3;
  // Numbers of a cache line.
  static constexpr Index line = std::max<Index>(1, 64 / static_cast<Index>(sizeof(S)));

 public:
  /// Rows of a panel.
  static constexpr Index lanes = Eigen::internal::packet_traits<S>::size;
  /// Columns that a panel has room for: the panels of some hundred rows stay in the nearest cache.
  static constexpr Index depth = 64;
  /// From one panel to the next.
  static constexpr Index stride = lanes * depth;

  /// The number of panels for so many rows, padded with zeros to whole panels and whole groups of columns.
  [[nodiscard]] static constexpr Index panels(Index rows) {
    constexpr Index whole = std::max(lanes, group);
    return (rows + whole - 1) / whole * whole / lanes;
  }

  /// Writes column k, `root` times `rows` values, into the panels.
  template <class From>
  static void put(From root, const From* column, Index rows, Index k, S* out) {
    S* to = out + k * lanes;
    Index i = 0;
    for (; i + lanes <= rows; i += lanes, to += stride) {
      if constexpr (std::is_same_v<From, S>)
        Eigen::internal::pstoreu(to, Eigen::internal::pmul(Eigen::internal::pset1<Packet>(root),
                                                           Eigen::internal::ploadu<Packet>(column + i)));
      else
        for (Index lane = 0; lane < lanes; ++lane) to[lane] = static_cast<S>(root * column[i + lane]);
    }
    for (const Index end = panels(rows) * lanes; i < end; i += lanes, to += stride)
      for (Index lane = 0; lane < lanes; ++lane)
        to[lane] = i + lane < rows ? static_cast<S>(root * column[i + lane]) : S(0);
  }

  /// Some rows of the matrix: in panels, and those of C they belong to.
  struct Rows {
    const S* panels;
    Index begin;
    Index end;
  };

  /// Adds the product over `count` columns to what C, with `leading` entries from column to column, has on and below
  /// the diagonal. A is B, or begins where B ends or later. No allocation.
  static void add(const Rows& A, const Rows& B, Index count, S factor, S* C, Index leading);

 private:
  /// The rows of A from i on, `height` panels of them, times those of B from j on, a group of them.
  template <Index height>
  static void add_tile(const Rows& A, const Rows& B, Index i, Index j, Index count, S factor, S* C, Index leading);

  /// Gives each sum, with its row and column in the tile, to `finish`.
  template <Index height, class Finish, std::size_t... entry>
  static void multiply(const S* rows, const S* columns, Index count, const Finish& finish,
                       std::index_sequence<entry...> entries);
};

template <class S>
void GramPanels<S>::add(const Rows& A, const Rows& B, Index count, S factor, S* C, Index leading) {
  for (Index j = B.begin; j < B.end; j += group) {
    const Index above = A.begin == B.begin ? (j - B.begin) / lanes * lanes : 0;
    for (Index i = A.begin + above; i < A.end;) {
      const Index left = (A.end - i + lanes - 1) / lanes;
      // A single panel keeps the processor half as busy: four are two times two.
      const Index height = left == most_panels + 1 ? 2 : std::min(left, most_panels);
      if (height == 1)
        add_tile<1>(A, B, i, j, count, factor, C, leading);
      else if (height == 2)
        add_tile<2>(A, B, i, j, count, factor, C, leading);
      else
        add_tile<most_panels>(A, B, i, j, count, factor, C, leading);
      i += height * lanes;
    }
  }
}

template <class S>
template <Index height>
void GramPanels<S>::add_tile(const Rows& A, const Rows& B, Index i, Index j, Index count, S factor, S* C,
                             Index leading) {
  const auto at = [](const Rows& rows, Index k) {
    return rows.panels + (k - rows.begin) / lanes * stride + (k - rows.begin) % lanes;
  };
  using Eigen::internal::pmadd;
  using Eigen::internal::pstoreu;
  constexpr Index size = height * lanes;
  constexpr auto entries = std::make_index_sequence<height * group>();
  if (i + size <= A.end && j + group <= B.end && i >= j + group - 1) {
    // Asked for before it is needed.
    S* const tile = C + j * leading + i;
    for (Index c = 0; c < group; ++c)
      for (Index k = 0; k < size; k += line) Eigen::internal::prefetch(tile + c * leading + k);
    const auto scale = Eigen::internal::pset1<Packet>(factor);
    const auto add_to = [&](const Packet& sum, Index row, Index column) {
      S* const to = tile + column * leading + row;
      pstoreu(to, pmadd(scale, sum, Eigen::internal::ploadu<Packet>(to)));
    };
    multiply<height>(at(A, i), at(B, j), count, add_to, entries);
    return;
  }
  alignas(64) S product[size * group];
  const auto keep = [&](const Packet& sum, Index row, Index column) { pstoreu(product + column * size + row, sum); };
  multiply<height>(at(A, i), at(B, j), count, keep, entries);
  const Index end = std::min(size, A.end - i);
  for (Index c = 0; c < std::min(group, B.end - j); ++c) {
    const S* const from = product + c * size;
    S* const to = C + (j + c) * leading + i;
    for (Index k = std::max(j + c - i, Index(0)); k < end; ++k) to[k] += factor * from[k];
  }
}

template <class S>
template <Index height, class Finish, std::size_t... entry>
void GramPanels<S>::multiply(const S* rows, const S* columns, Index count, const Finish& finish,
                             std::index_sequence<entry...> /*entries*/) {
  using Eigen::internal::ploadu;
  using Eigen::internal::pmadd;
  using Eigen::internal::pset1;
  // Entries with constant indices are kept in registers; those of one column come one after the other.
  Packet sums[] = {(static_cast<void>(entry), pset1<Packet>(S(0)))...};
  constexpr auto row_offset = [](std::size_t k) { return static_cast<Index>(k) % height * stride; };
  constexpr auto column_offset = [](std::size_t k) {
    const Index c = static_cast<Index>(k) / height;
    return c / lanes * stride + c % lanes;
  };
  for (Index k = 0; k < count; ++k, rows += lanes, columns += lanes)
    ((sums[entry] =
          pmadd(ploadu<Packet>(rows + row_offset(entry)), pset1<Packet>(columns[column_offset(entry)]), sums[entry])),
     ...);
  (finish(sums[entry], static_cast<Index>(entry) % height * lanes, static_cast<Index>(entry) / height), ...);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_GRAM_PANELS(prefix, S) prefix template class detail::GramPanels<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_GRAM_PANELS)
