#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/hash.hpp"
#include "richflow/core/types.hpp"

/// @file
/// The cells of a sweep: named axes, their product, and what of it is kept.

namespace richflow {

/// A named list of values, in the order in which they are listed in results.
struct Axis {
  std::string name = {};
  std::vector<double> values = {};
};

/// The axis `seed` with values 0, ..., count - 1. Throws ArgumentError for count < 1.
[[nodiscard]] Axis seed_axis(Index count);

/// An axis of integers, such as sizes or depths.
[[nodiscard]] Axis index_axis(std::string name, const std::vector<Index>& values);

namespace detail {

/// Names stand in file headers and CSV columns: letters, digits, `_`, `.`, `-`.
void require_name(const char* what, std::string_view name);

}  // namespace detail

class Cell;

/// The product of axes, the last one running fastest, or a part of it. A value type.
class Grid {
 public:
  /// All combinations. Throws ArgumentError when there is no axis, an axis has no value or a value twice, two axes have
  /// one name, or a name has other characters than letters, digits, `_.-`, NonFiniteError for a value that is not
  /// finite.
  explicit Grid(std::vector<Axis> axes);

  /// The cells of this grid for which `keep(cell)` is true. Throws ArgumentError when no cell is kept. Cost: one call
  /// for each cell.
  template <class Keep>
  [[nodiscard]] Grid where(Keep&& keep) const;

  /// Number of cells; at least 1.
  [[nodiscard]] Index size() const { return is_filtered_ ? static_cast<Index>(kept_.size()) : num_combinations_; }

  /// The i-th cell, 0 <= i < size(). It refers to this grid. Throws ArgumentError outside.
  [[nodiscard]] Cell cell(Index i) const;

  [[nodiscard]] const std::vector<Axis>& axes() const { return axes_; }

  /// Number of the axis. Throws ArgumentError naming the axes there are.
  [[nodiscard]] std::size_t axis_number(std::string_view name) const;

 private:
  std::vector<Axis> axes_;
  Index num_combinations_ = 0;
  bool is_filtered_ = false;
  std::vector<Index> kept_ = {};
};

/// One combination of axis values. Refers to its grid, which must outlive it.
class Cell {
 public:
  Cell(const Grid& grid, Index index) : grid_(&grid), index_(index) {}

  /// Its number in the product of all axes, whether or not some of it is left out.
  [[nodiscard]] Index index() const { return index_; }

  /// The value on an axis. Throws ArgumentError for an unknown name.
  [[nodiscard]] double operator[](std::string_view axis) const { return value(grid_->axis_number(axis)); }

  /// The value on the k-th axis.
  [[nodiscard]] double value(std::size_t k) const;

  /// The value on an axis of whole numbers. Throws ArgumentError when it is not one.
  [[nodiscard]] Index integer(std::string_view axis) const;

  /// Position of that value on the k-th axis.
  [[nodiscard]] Index position(std::size_t k) const;

  /// The number of a random stream that follows from the names and values of this cell alone: `RandomStream(seed,
  /// cell.stream())` draws the same when the grid gains values or is reordered.
  [[nodiscard]] std::uint64_t stream() const;

  /// `N = 50, seed = 3`.
  [[nodiscard]] std::string describe() const;

 private:
  const Grid* grid_;
  Index index_;
};

template <class Keep>
Grid Grid::where(Keep&& keep) const {
  Grid result = *this;
  result.is_filtered_ = true;
  result.kept_.clear();
  for (Index i = 0; i < size(); ++i) {
    const Cell candidate = cell(i);
    if (keep(candidate)) result.kept_.push_back(candidate.index());
  }
  require(!result.kept_.empty(), "no cell of the grid is kept");
  return result;
}

#ifdef RICHFLOW_SWEEP_INLINE

namespace detail {

RICHFLOW_SWEEP_INLINE void require_name(const char* what, std::string_view name) {
  require(!name.empty() && name.size() <= 100, what, " must have 1 to 100 characters, got '", name, "'");
  for (const char c : name)
    require(
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-',
        what, " '", name, "' may hold letters, digits, '_', '.' and '-' alone");
}

}  // namespace detail

RICHFLOW_SWEEP_INLINE Axis seed_axis(Index count) {
  require(count >= 1, "seed_axis needs count >= 1, got ", count);
  Axis axis{"seed", {}};
  for (Index k = 0; k < count; ++k) axis.values.push_back(static_cast<double>(k));
  return axis;
}

RICHFLOW_SWEEP_INLINE Axis index_axis(std::string name, const std::vector<Index>& values) {
  Axis axis{std::move(name), {}};
  for (const Index value : values) axis.values.push_back(static_cast<double>(value));
  return axis;
}

RICHFLOW_SWEEP_INLINE Cell Grid::cell(Index i) const {
  require(i >= 0 && i < size(), "cell ", i, " of a grid of ", size());
  return Cell(*this, is_filtered_ ? kept_[static_cast<std::size_t>(i)] : i);
}

RICHFLOW_SWEEP_INLINE Grid::Grid(std::vector<Axis> axes) : axes_(std::move(axes)) {
  require(!axes_.empty(), "a grid needs at least one axis");
  num_combinations_ = 1;
  for (std::size_t k = 0; k < axes_.size(); ++k) {
    const Axis& axis = axes_[k];
    detail::require_name("the name of an axis", axis.name);
    for (std::size_t j = 0; j < k; ++j) require(axes_[j].name != axis.name, "two axes are named '", axis.name, "'");
    require(!axis.values.empty(), "axis '", axis.name, "' has no values");
    std::vector<double> sorted = axis.values;
    for (const double value : sorted)
      require<NonFiniteError>(std::isfinite(value), "axis '", axis.name, "' has the value ", value);
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    require(twice == sorted.end(), "axis '", axis.name, "' has the value ", twice == sorted.end() ? 0.0 : *twice,
            " twice");
    const auto count = static_cast<Index>(axis.values.size());
    require(num_combinations_ <= std::numeric_limits<Index>::max() / count, "the grid has too many cells at axis '",
            axis.name, "'");
    num_combinations_ *= count;
  }
}

RICHFLOW_SWEEP_INLINE std::size_t Grid::axis_number(std::string_view name) const {
  std::string names;
  for (std::size_t k = 0; k < axes_.size(); ++k) {
    if (axes_[k].name == name) return k;
    names += " " + axes_[k].name;
  }
  throw ArgumentError(detail::concat("no axis is named '", name, "'; there are:", names));
}

RICHFLOW_SWEEP_INLINE double Cell::value(std::size_t k) const {
  return grid_->axes()[k].values[static_cast<std::size_t>(position(k))];
}

RICHFLOW_SWEEP_INLINE Index Cell::integer(std::string_view axis) const {
  const double x = (*this)[axis];
  require(std::abs(x) <= 9007199254740992.0 && std::floor(x) == x, "axis '", axis, "' has the value ", x,
          ", which is not a whole number");
  return static_cast<Index>(x);
}

RICHFLOW_SWEEP_INLINE Index Cell::position(std::size_t k) const {
  Index rest = index_;
  for (std::size_t j = grid_->axes().size() - 1; j > k; --j) rest /= static_cast<Index>(grid_->axes()[j].values.size());
  return rest % static_cast<Index>(grid_->axes()[k].values.size());
}

RICHFLOW_SWEEP_INLINE std::uint64_t Cell::stream() const {
  std::uint64_t sum = 0;
  for (std::size_t k = 0; k < grid_->axes().size(); ++k) {
    std::uint64_t hash = 0;
    for (const char c : grid_->axes()[k].name) hash = detail::mix(hash ^ static_cast<unsigned char>(c));
    sum += detail::mix(hash ^ detail::mix(std::bit_cast<std::uint64_t>(value(k) + 0.0)));
  }
  return detail::mix(sum);
}

RICHFLOW_SWEEP_INLINE std::string Cell::describe() const {
  std::string text;
  for (std::size_t k = 0; k < grid_->axes().size(); ++k)
    text += detail::concat(k == 0 ? "" : ", ", grid_->axes()[k].name, " = ", value(k));
  return text;
}

#endif  // RICHFLOW_SWEEP_INLINE

}  // namespace richflow
