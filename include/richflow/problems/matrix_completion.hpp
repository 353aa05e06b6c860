#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/linalg/products.hpp"

namespace richflow {

/// An entry that was observed: `M(row, col) = value`, counted from 0.
template <class S = double>
struct ObservedEntry {
  Index row = 0;   ///< i
  Index col = 0;   ///< j
  S value = S(0);  ///< M_ij
};

/// Observed entries as regression data, checked.
template <class S = double>
struct Observations {
  /// Measurements of the entries, in the order given (MatrixMeasurements::entries); y holds the values.
  Dataset<S> dataset;
  /// Rows of M of which nothing was observed, ascending: no data can tell what they hold.
  std::vector<Index> empty_rows = {};
  /// The same for columns.
  std::vector<Index> empty_cols = {};
  /// Entries given again with the same value, which were dropped.
  Index num_repeated = 0;

  /// One sentence that names what no data can tell, empty where every row and column has an entry.
  [[nodiscard]] std::string undetermined() const;
};

namespace detail {

/// "row 3", "columns 0, 2", or nothing.
[[nodiscard]] inline std::string named_lines(const char* kind, const std::vector<Index>& lines) {
  if (lines.empty()) return {};
  std::string text = kind;
  text += lines.size() > 1 ? "s " : " ";
  for (std::size_t k = 0; k < lines.size(); ++k) text += (k > 0 ? ", " : "") + std::to_string(lines[k]);
  return text;
}

}  // namespace detail

template <class S>
std::string Observations<S>::undetermined() const {
  const std::string rows = detail::named_lines("row", empty_rows);
  const std::string cols = detail::named_lines("column", empty_cols);
  if (rows.empty() && cols.empty()) return {};
  const bool is_one = empty_rows.size() + empty_cols.size() == 1;
  return detail::sentence(rows, rows.empty() || cols.empty() ? "" : " and ", cols, is_one ? " has" : " have",
                          " no observed entry: nothing determines ", is_one ? "it" : "them",
                          ", and a flow from a small start leaves ", is_one ? "it" : "them", " near 0");
}

/// Observed entries of a rows x cols matrix as a dataset. Rows and columns without an observation are allowed, and
/// reported (`undetermined`). Throws DimensionError when there is no entry or the matrix is empty, ArgumentError for an
/// index outside the matrix or an entry given with two different values, and as Dataset. Cost O(N log N).
template <class S>
[[nodiscard]] Observations<S> observed_entries(Index rows, Index cols, const std::vector<ObservedEntry<S>>& entries) {
  require<DimensionError>(rows > 0 && cols > 0, "the matrix is ", rows, " x ", cols);
  require<DimensionError>(!entries.empty(), "no entry of the matrix is observed");
  std::vector<std::size_t> order(entries.size());
  for (std::size_t n = 0; n < entries.size(); ++n) {
    const auto& entry = entries[n];
    require(entry.row >= 0 && entry.row < rows && entry.col >= 0 && entry.col < cols, "entry ", n, " is at (",
            entry.row, ", ", entry.col, "), outside the ", rows, " x ", cols, " matrix");
    order[n] = n;
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(std::pair(entries[a].row, entries[a].col), a) <
           std::pair(std::pair(entries[b].row, entries[b].col), b);
  });
  std::vector<bool> is_kept(entries.size(), true);
  Index num_repeated = 0;
  for (std::size_t k = 1; k < order.size(); ++k) {
    const auto& entry = entries[order[k]];
    const auto& before = entries[order[k - 1]];
    if (entry.row != before.row || entry.col != before.col) continue;
    require(entry.value == before.value, "the entry (", entry.row, ", ", entry.col, ") is given twice, as ",
            before.value, " and as ", entry.value);
    is_kept[order[k]] = false;
    ++num_repeated;
  }

  const Index count = static_cast<Index>(entries.size()) - num_repeated;
  std::vector<MatrixEntry> places;
  places.reserve(static_cast<std::size_t>(count));
  Vector<S> y(count);
  std::vector<bool> has_row(static_cast<std::size_t>(rows), false);
  std::vector<bool> has_col(static_cast<std::size_t>(cols), false);
  Index n = 0;
  for (std::size_t k = 0; k < entries.size(); ++k) {
    if (!is_kept[k]) continue;
    places.push_back({entries[k].row, entries[k].col});
    y(n++) = entries[k].value;
    has_row[static_cast<std::size_t>(entries[k].row)] = true;
    has_col[static_cast<std::size_t>(entries[k].col)] = true;
  }
  Observations<S> observations{
      Dataset<S>(MatrixMeasurements<S>::entries(rows, cols, std::move(places)), std::move(y)), {}, {}, num_repeated};
  for (Index i = 0; i < rows; ++i)
    if (!has_row[static_cast<std::size_t>(i)]) observations.empty_rows.push_back(i);
  for (Index j = 0; j < cols; ++j)
    if (!has_col[static_cast<std::size_t>(j)]) observations.empty_cols.push_back(j);
  return observations;
}

/// The matrix completion problem of Woodworth et al. (2020), Figure 5, with the paper's values as defaults.
struct MatrixCompletionOptions {
  Index rows = 10;           ///< d1 >= 1
  Index cols = 10;           ///< d2 >= 1
  Index rank = 1;            ///< of the truth, 1 <= rank <= min(d1, d2)
  Index num_observed = 60;   ///< N, 1 <= N <= d1 d2
  std::uint64_t seed = 0;    ///< of the random numbers
  std::uint64_t stream = 0;  ///< index of the stream: repetitions of an experiment differ in this
};

/// A drawn completion problem and the truth behind it.
template <class S = double>
struct MatrixCompletion {
  /// What is seen.
  Observations<S> observations;
  /// Y*, d1 x d2.
  Matrix<S> truth = {};
};

/// Draws `Y* = U* V*^T` with independent standard normal factors of `rank` columns, and which N entries are observed,
/// every choice equally likely. No noise. The numbers follow from (seed, stream) alone. Throws ArgumentError or
/// DimensionError for options out of range.
template <class S = double>
[[nodiscard]] MatrixCompletion<S> matrix_completion(const MatrixCompletionOptions& options) {
  const Index d1 = options.rows;
  const Index d2 = options.cols;
  require<DimensionError>(d1 >= 1 && d2 >= 1, "rows and cols must be at least 1, got ", d1, " and ", d2);
  require(options.rank >= 1 && options.rank <= std::min(d1, d2), "rank must be between 1 and ", std::min(d1, d2),
          ", got ", options.rank);
  require(options.num_observed >= 1 && options.num_observed <= d1 * d2, "num_observed must be between 1 and ", d1 * d2,
          ", got ", options.num_observed);
  RandomStream random(options.seed, options.stream);
  const Matrix<S> U = normal_matrix<S>(random, d1, options.rank);
  const Matrix<S> V = normal_matrix<S>(random, d2, options.rank);
  Matrix<S> truth(d1, d2);
  detail::product_with_transposed<S>(U, V, truth);
  std::vector<ObservedEntry<S>> entries;
  for (const Index cell : sample_without_replacement(random, d1 * d2, options.num_observed))
    entries.push_back({cell / d2, cell % d2, truth(cell / d2, cell % d2)});
  return {observed_entries<S>(d1, d2, entries), std::move(truth)};
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_MATRIX_COMPLETION(prefix, S)                                                  \
  prefix template Observations<S> observed_entries<S>(Index, Index, const std::vector<ObservedEntry<S>>&); \
  prefix template MatrixCompletion<S> matrix_completion<S>(const MatrixCompletionOptions&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MATRIX_COMPLETION)
