#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"

namespace richflow::detail {

/// Products with a matrix X of n samples that is mostly zeros, such as images on a black background: `X W` and `X^T B`
/// for W and B of many columns, with a multiplication for every entry that is not zero.
///
/// Some columns of W or B at a time are turned into a panel, in which each of their rows is contiguous; a row of the
/// product is then a sum of a few rows of the panel. A zero of X drops its term, also where W or B is not finite.
template <class S>
class SparseFactor {
  using Packet = typename Eigen::internal::packet_traits<S>::type;

  static constexpr Index lanes = Eigen::internal::packet_traits<S>::size;
  // Sums that are made side by side: two cache lines of them, or the panels leave the nearest cache.
  static constexpr Index group = sizeof(Packet) >= 64 ? 2 : 4;

 public:
  /// Columns of a panel.
  static constexpr Index width = group * lanes;
  /// Scratch of `multiply` and `add_transposed_product`, one for each thread. Aligned: vectors of the processor that
  /// straddle cache lines take half as long again.
  using Panels = Vector<S>;

  /// Takes X in, if that saves time for products with `columns` columns: where at most a quarter of its entries are not
  /// zero, and it is neither small nor too large for a panel in the cache. Returns whether it has. Allocates where X
  /// has more rows, columns or such entries than any before.
  bool assign(ConstMatrixRef<S> X, Index columns);

  /// Whether the last X was taken in.
  [[nodiscard]] bool is_assigned() const { return is_assigned_; }

  /// `out = X W`.
  void multiply(ConstMatrixRef<S> W, Panels& panels, MatrixRef<S> out) const;

  /// `out += X^T B`.
  void add_transposed_product(ConstMatrixRef<S> B, Panels& panels, MatrixRef<S> out) const;

 private:
  // With fewer rows turning W into panels does not pay, with fewer columns nor does looking for zeros.
  static constexpr Index least_rows = 64;
  static constexpr Index least_inputs = 64;
  static constexpr Index least_columns = 256;
  static constexpr Index most_inverse = 4;  // one over the largest part of entries that are not zero
  // Of both panels: beyond the cache they are slower than Eigen's product, which is cut in all directions.
  static constexpr Index most_panel_bytes = 1 << 20;

  /// An entry that is not zero, and its index along its row or column.
  struct Entry {
    int at;
    S value;
  };
  /// The entries of all rows or of all columns.
  struct Lists {
    std::vector<Index> begin = {};  // of each list, and the end of the last
    std::vector<Entry> entries = {};

    [[nodiscard]] Index size() const { return static_cast<Index>(begin.size()) - 1; }
  };

  /// `lanes` vectors of the processor, turned from rows to columns: what is loaded from `from + k from_stride` is given
  /// to `put(k, packet)`.
  template <class Put>
  static void turn_square(const S* from, Index from_stride, const Put& put);

  /// The entries of X that are not zero; more than a quarter of all where there are so many.
  [[nodiscard]] static Index count_entries(const ConstMatrixRef<S>& X);
  void list_columns(const ConstMatrixRef<S>& X, Index count);
  void list_rows(Index rows);

  enum class Store { replace, add };

  /// `out = lists * in` or `out += lists * in`, a panel of columns at a time.
  static void multiply_lists(const Lists& lists, const ConstMatrixRef<S>& in, Panels& panels, Store store,
                             MatrixRef<S>& out);
  /// `count` columns of `in` from `column` on into a panel, with zeros for those that are missing.
  static void pack(const ConstMatrixRef<S>& in, Index column, Index count, S* panel);
  template <std::size_t... c>
  static void combine(const Lists& lists, const S* panel, S* out, std::index_sequence<c...> columns);
  static void unpack(const S* panel, Index column, Index count, Store store, MatrixRef<S>& out);

  Lists rows_ = {};
  Lists columns_ = {};
  std::vector<Index> next_ = {};  // of each row, the number of its entries, then where the next one goes
  bool is_assigned_ = false;
};

template <class S>
bool SparseFactor<S>::assign(ConstMatrixRef<S> X, Index columns) {
  is_assigned_ = false;
  const Index panel_bytes = (X.rows() + X.cols()) * width * static_cast<Index>(sizeof(S));
  if (X.rows() < least_rows || X.cols() < least_inputs || columns < least_columns || panel_bytes > most_panel_bytes)
    return false;
  const Index count = count_entries(X);
  if (count > X.size() / most_inverse) return false;
  list_columns(X, count);
  list_rows(X.rows());
  is_assigned_ = true;
  return true;
}

template <class S>
Index SparseFactor<S>::count_entries(const ConstMatrixRef<S>& X) {
  Index count = 0;
  for (Index j = 0; j < X.cols() && count <= X.size() / most_inverse; ++j) {
    const S* const x = X.data() + j * X.outerStride();
    for (Index i = 0; i < X.rows(); ++i) count += x[i] != S(0) ? 1 : 0;
  }
  return count;
}

template <class S>
void SparseFactor<S>::list_columns(const ConstMatrixRef<S>& X, Index count) {
  columns_.begin.assign(1, 0);
  columns_.entries.resize(static_cast<std::size_t>(count) + 1);
  next_.assign(static_cast<std::size_t>(X.rows()), 0);
  Entry* const entries = columns_.entries.data();
  Index end = 0;
  for (Index j = 0; j < X.cols(); ++j) {
    const S* const x = X.data() + j * X.outerStride();
    for (Index i = 0; i < X.rows(); ++i) {
      // Written where it is zero, too: the next one takes its place. A branch would be mispredicted.
      entries[end] = {static_cast<int>(i), x[i]};
      const Index is_entry = x[i] != S(0) ? 1 : 0;
      end += is_entry;
      next_[static_cast<std::size_t>(i)] += is_entry;
    }
    columns_.begin.push_back(end);
  }
}

template <class S>
void SparseFactor<S>::list_rows(Index rows) {
  rows_.begin.assign(1, 0);
  for (Index i = 0; i < rows; ++i) {
    const Index begin = rows_.begin.back();
    rows_.begin.push_back(begin + next_[static_cast<std::size_t>(i)]);
    next_[static_cast<std::size_t>(i)] = begin;
  }
  rows_.entries.resize(columns_.entries.size());
  for (Index j = 0; j < columns_.size(); ++j) {
    for (Index k = columns_.begin[static_cast<std::size_t>(j)]; k < columns_.begin[static_cast<std::size_t>(j) + 1];
         ++k) {
      const Entry& entry = columns_.entries[static_cast<std::size_t>(k)];
      Index& next = next_[static_cast<std::size_t>(entry.at)];
      rows_.entries[static_cast<std::size_t>(next++)] = {static_cast<int>(j), entry.value};
    }
  }
}

template <class S>
void SparseFactor<S>::multiply(ConstMatrixRef<S> W, Panels& panels, MatrixRef<S> out) const {
  multiply_lists(rows_, W, panels, Store::replace, out);
}

template <class S>
void SparseFactor<S>::add_transposed_product(ConstMatrixRef<S> B, Panels& panels, MatrixRef<S> out) const {
  multiply_lists(columns_, B, panels, Store::add, out);
}

template <class S>
void SparseFactor<S>::multiply_lists(const Lists& lists, const ConstMatrixRef<S>& in, Panels& panels, Store store,
                                     MatrixRef<S>& out) {
  panels.resize((in.rows() + out.rows()) * width);
  S* const factor = panels.data();
  S* const product = factor + in.rows() * width;
  for (Index column = 0; column < in.cols(); column += width) {
    const Index count = std::min(width, in.cols() - column);
    pack(in, column, count, factor);
    combine(lists, factor, product, std::make_index_sequence<static_cast<std::size_t>(group)>());
    unpack(product, column, count, store, out);
  }
}

// Eigen's own argument of a transposition: g++ warns that its name loses the attributes of the vectors.
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif
template <class S>
template <class Put>
void SparseFactor<S>::turn_square(const S* from, Index from_stride, const Put& put) {
  Eigen::internal::PacketBlock<Packet, lanes> square;
  for (Index k = 0; k < lanes; ++k) square.packet[k] = Eigen::internal::ploadu<Packet>(from + k * from_stride);
  Eigen::internal::ptranspose(square);
  for (Index k = 0; k < lanes; ++k) put(k, square.packet[k]);
}
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

template <class S>
void SparseFactor<S>::pack(const ConstMatrixRef<S>& in, Index column, Index count, S* panel) {
  const Index stride = in.outerStride();
  const Index whole_rows = in.rows() / lanes * lanes;
  for (Index c = 0; c < width; c += lanes) {
    const S* const from = in.data() + (column + std::min(c, count)) * stride;
    const bool is_whole = c + lanes <= count;
    for (Index i = 0; is_whole && i < whole_rows; i += lanes)
      turn_square(from + i, stride,
                  [&](Index k, const Packet& row) { Eigen::internal::pstore(panel + (i + k) * width + c, row); });
    for (Index i = is_whole ? whole_rows : 0; i < in.rows(); ++i)
      for (Index k = 0; k < lanes; ++k) panel[i * width + c + k] = c + k < count ? from[k * stride + i] : S(0);
  }
}

template <class S>
template <std::size_t... c>
void SparseFactor<S>::combine(const Lists& lists, const S* panel, S* out, std::index_sequence<c...> /*columns*/) {
  using Eigen::internal::pload;
  using Eigen::internal::pmadd;
  using Eigen::internal::pset1;
  const Entry* entry = lists.entries.data();
  for (Index i = 0; i < lists.size(); ++i, out += width) {
    const Entry* const end = lists.entries.data() + lists.begin[static_cast<std::size_t>(i) + 1];
    // Entries with constant indices are kept in registers.
    Packet sums[] = {(static_cast<void>(c), pset1<Packet>(S(0)))...};
    for (; entry != end; ++entry) {
      const Packet value = pset1<Packet>(entry->value);
      const S* const row = panel + entry->at * width;
      ((sums[c] = pmadd(value, pload<Packet>(row + static_cast<Index>(c) * lanes), sums[c])), ...);
    }
    (Eigen::internal::pstore(out + static_cast<Index>(c) * lanes, sums[c]), ...);
  }
}

template <class S>
void SparseFactor<S>::unpack(const S* panel, Index column, Index count, Store store, MatrixRef<S>& out) {
  using Eigen::internal::padd;
  using Eigen::internal::ploadu;
  const Index stride = out.outerStride();
  const Index whole_rows = out.rows() / lanes * lanes;
  const bool adds = store == Store::add;
  for (Index c = 0; c < count; c += lanes) {
    S* const to = out.data() + (column + c) * stride;
    const bool is_whole = c + lanes <= count;
    for (Index i = 0; is_whole && i < whole_rows; i += lanes)
      turn_square(panel + i * width + c, width, [&](Index k, const Packet& part) {
        S* const place = to + k * stride + i;
        Eigen::internal::pstoreu(place, adds ? padd(ploadu<Packet>(place), part) : part);
      });
    for (Index i = is_whole ? whole_rows : 0; i < out.rows(); ++i) {
      for (Index k = 0; k < std::min(lanes, count - c); ++k) {
        S& place = to[k * stride + i];
        place = (adds ? place : S(0)) + panel[i * width + c + k];
      }
    }
  }
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_SPARSE_FACTOR(prefix, S) prefix template class detail::SparseFactor<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SPARSE_FACTOR)
