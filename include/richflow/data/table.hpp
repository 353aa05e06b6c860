#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <iosfwd>
#include <limits>
#include <locale>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// Named quantities over time, or over any first column: what a run was asked to keep (`SaveAt::quantities`), quartiles
/// of it over repetitions, the rows of a CSV file. A quantity is one number in each row, or a vector of a length that
/// all rows share.
template <class S = double>
class Table {
 public:
  /// The name of the first column.
  explicit Table(std::string first = "t") : first_(std::move(first)) {}

  /// The name of the first column.
  [[nodiscard]] const std::string& first_name() const { return first_; }
  /// The names of the quantities, in their order.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  /// Rows.
  [[nodiscard]] Index num_rows() const { return static_cast<Index>(first_values_.size()); }
  /// Whether there are no rows.
  [[nodiscard]] bool empty() const { return first_values_.empty(); }
  /// Numbers of a quantity in each row; 0 before the first row. Throws ArgumentError for a name that is not there.
  [[nodiscard]] Index width(std::string_view name) const { return widths_[position(name)]; }
  /// The first column, `num_rows()` values.
  [[nodiscard]] Vector<S> first() const { return Eigen::Map<const Vector<S>>(first_values_.data(), num_rows()); }
  /// A quantity of one number, `num_rows()` values. Throws ArgumentError for a name that is not there, DimensionError
  /// for a quantity of several numbers.
  [[nodiscard]] Vector<S> operator[](std::string_view name) const;
  /// A quantity, num_rows() x width. Throws ArgumentError for a name that is not there.
  [[nodiscard]] Matrix<S> columns(std::string_view name) const;

  /// One more quantity. Throws ArgumentError where there are rows already, or the name is there or empty.
  void add_quantity(std::string name);
  /// One more row: `values` has those of all quantities, each of the length it has had. Throws DimensionError for other
  /// lengths.
  void add_row(S first, const std::vector<Vector<S>>& values);

  /// The same names and numbers.
  friend bool operator==(const Table&, const Table&) = default;

 private:
  [[nodiscard]] std::size_t position(std::string_view name) const;

  std::string first_;
  std::vector<std::string> names_ = {};
  std::vector<Index> widths_ = {};
  std::vector<S> first_values_ = {};
  std::vector<std::vector<S>> values_ = {};  // of each quantity, row after row
};

/// `count` numbers from `first` to `last` whose logarithms are equally spaced; the ends are exact. Throws ArgumentError
/// unless `0 < first < last`, both finite, and count >= 2 (count = 1 gives `first`).
template <class S = double>
[[nodiscard]] std::vector<S> log_spaced(S first, S last, Index count) {
  using std::exp;
  using std::isfinite;
  using std::log;
  require(first > S(0) && isfinite(first), "log_spaced: first must be positive and finite, got ", first);
  require(count >= 1, "log_spaced: count must be at least 1, got ", count);
  std::vector<S> out(static_cast<std::size_t>(count), first);
  if (count == 1) return out;
  require(last > first && isfinite(last), "log_spaced: last must be above first = ", first, " and finite, got ", last);
  const S span = log(last) - log(first);
  for (Index i = 1; i + 1 < count; ++i)
    out[static_cast<std::size_t>(i)] = exp(log(first) + span * static_cast<S>(i) / static_cast<S>(count - 1));
  out.back() = last;
  return out;
}

/// Quartiles over repetitions: of every quantity `q` the columns `q.25`, `q.50` (the median) and `q.75`, by linear
/// interpolation between order statistics; NaN counts as larger than infinity. Throws ArgumentError without a table, or
/// where one has other names or other first columns than the first one, DimensionError where a quantity has another
/// width.
template <class S>
[[nodiscard]] Table<S> quartiles(const std::vector<Table<S>>& repetitions);

/// Writes a table as CSV (RFC 4180): one header line, a quantity of several numbers as `name[0]`, `name[1]`, ...,
/// numbers with all their digits and a decimal point in any locale. Throws FileError naming the path.
template <class S>
void write_csv(const std::filesystem::path& path, const Table<S>& table);

/// Writes a matrix for NumPy (`numpy.load`): version 1.0 of the NPY format, `f8` or `f4`, in Fortran order. Throws
/// FileError naming the path.
template <class S>
void write_npy(const std::filesystem::path& path, const Matrix<S>& values);

/// The same of a vector, as a one-dimensional array.
template <class S>
void write_npy(const std::filesystem::path& path, const Vector<S>& values);

template <class S>
std::size_t Table<S>::position(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  require(found != names_.end(), "the table has no quantity '", std::string(name), "'");
  return static_cast<std::size_t>(found - names_.begin());
}

template <class S>
Matrix<S> Table<S>::columns(std::string_view name) const {
  const std::size_t i = position(name);
  return Eigen::Map<const Matrix<S>>(values_[i].data(), widths_[i], num_rows()).transpose();
}

template <class S>
Vector<S> Table<S>::operator[](std::string_view name) const {
  const std::size_t i = position(name);
  require<DimensionError>(empty() || widths_[i] == 1, "the quantity '", std::string(name), "' has ", widths_[i],
                          " numbers in a row where one is asked for: see columns");
  return Eigen::Map<const Vector<S>>(values_[i].data(), num_rows());
}

template <class S>
void Table<S>::add_quantity(std::string name) {
  require(empty(), "the quantity '", name, "' comes after the first row");
  require(!name.empty(), "a quantity has an empty name");
  require(std::find(names_.begin(), names_.end(), name) == names_.end(), "there are two quantities '", name, "'");
  names_.push_back(std::move(name));
  widths_.push_back(0);
  values_.emplace_back();
}

template <class S>
void Table<S>::add_row(S first, const std::vector<Vector<S>>& values) {
  require<DimensionError>(values.size() == names_.size(), "a row has ", values.size(), " quantities where there are ",
                          names_.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    require<DimensionError>(empty() || values[i].size() == widths_[i], "the quantity '", names_[i], "' has ",
                            values[i].size(), " numbers where it had ", widths_[i], " in the rows before");
  for (std::size_t i = 0; i < values.size(); ++i) {
    widths_[i] = values[i].size();
    values_[i].insert(values_[i].end(), values[i].data(), values[i].data() + values[i].size());
  }
  first_values_.push_back(first);
}

template <class S>
Table<S> quartiles(const std::vector<Table<S>>& repetitions) {
  require(!repetitions.empty(), "quartiles: there is no table");
  const Table<S>& model = repetitions.front();
  Table<S> out(model.first_name());
  for (const std::string& name : model.names())
    for (const char* part : {".25", ".50", ".75"}) out.add_quantity(name + part);
  for (std::size_t r = 0; r < repetitions.size(); ++r) {
    require(repetitions[r].names() == model.names() && repetitions[r].num_rows() == model.num_rows() &&
                repetitions[r].first() == model.first(),
            "quartiles: table ", r, " has other quantities or another column ", model.first_name(), " than table 0");
    for (const std::string& name : model.names())
      require<DimensionError>(repetitions[r].width(name) == model.width(name), "quartiles: the quantity '", name,
                              "' has ", repetitions[r].width(name), " numbers in table ", r, " and ", model.width(name),
                              " in table 0");
  }
  std::vector<std::vector<Matrix<S>>> all;  // [quantity][repetition]
  for (const std::string& name : model.names()) {
    all.emplace_back();
    for (const Table<S>& table : repetitions) all.back().push_back(table.columns(name));
  }
  const Vector<S> first = model.first();
  std::vector<S> sorted(repetitions.size());
  for (Index row = 0; row < model.num_rows(); ++row) {
    std::vector<Vector<S>> values;
    for (const std::vector<Matrix<S>>& quantity : all) {
      const Index width = quantity.front().cols();
      Vector<S> parts[3] = {Vector<S>(width), Vector<S>(width), Vector<S>(width)};
      for (Index j = 0; j < width; ++j) {
        for (std::size_t r = 0; r < sorted.size(); ++r) sorted[r] = quantity[r](row, j);
        // NaN is beyond infinity.
        std::sort(sorted.begin(), sorted.end(), [](S a, S b) { return a < b || (a == a && b != b); });
        for (std::size_t part = 0; part < 3; ++part) {
          const std::size_t scaled = (part + 1) * (sorted.size() - 1);  // four times the rank
          const std::size_t below = scaled / 4;
          const S weight = static_cast<S>(scaled % 4) / S(4);
          const S above = sorted[std::min(below + 1, sorted.size() - 1)];
          const bool is_exact = weight == S(0) || above == sorted[below];
          parts[part][j] = is_exact ? sorted[below] : sorted[below] + weight * (above - sorted[below]);
        }
      }
      for (Vector<S>& part : parts) values.push_back(std::move(part));
    }
    out.add_row(first[row], values);
  }
  return out;
}

template <class S>
void write_csv(const std::filesystem::path& path, const Table<S>& table) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text.precision(std::numeric_limits<S>::max_digits10);
  std::vector<Matrix<S>> columns;
  const auto cell = [](const std::string& name) {
    if (name.find_first_of(",\"\r\n") == std::string::npos) return name;
    std::string quoted = "\"";
    for (const char c : name) quoted.append(c == '"' ? 2 : 1, c);
    return quoted + '"';
  };
  text << cell(table.first_name());
  for (const std::string& name : table.names()) {
    columns.push_back(table.columns(name));
    const Index width = columns.back().cols();
    for (Index j = 0; j < width; ++j) {
      text << ',' << cell(width > 1 ? name + "[" + std::to_string(j) + "]" : name);
    }
  }
  text << '\n';
  const Vector<S> first = table.first();
  for (Index row = 0; row < table.num_rows(); ++row) {
    text << first[row];
    for (const Matrix<S>& column : columns)
      for (Index j = 0; j < column.cols(); ++j) text << ',' << column(row, j);
    text << '\n';
  }
  write_file(path, text.str());
}

namespace detail {

/// An NPY file of numbers in Fortran order; `shape` as Python writes a tuple.
template <class S>
void write_npy(const std::filesystem::path& path, const S* values, Index count, const std::string& shape) {
  static_assert(std::numeric_limits<S>::is_iec559 && (sizeof(S) == 4 || sizeof(S) == 8),
                "richflow: an NPY file holds float or double");
  constexpr char order = std::endian::native == std::endian::little ? '<' : '>';
  std::string header = std::string("{'descr': '") + order + "f" + std::to_string(sizeof(S)) +
                       "', 'fortran_order': True, 'shape': " + shape + ", }";
  // Magic, version and length are 10 bytes; the data begin at a multiple of 64.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string content = "\x93NUMPY";
  content += '\x01';
  content += '\0';
  content += static_cast<char>(header.size() % 256);
  content += static_cast<char>(header.size() / 256);
  content += header;
  content.append(reinterpret_cast<const char*>(values), static_cast<std::size_t>(count) * sizeof(S));
  write_file(path, content);
}

}  // namespace detail

template <class S>
void write_npy(const std::filesystem::path& path, const Matrix<S>& values) {
  detail::write_npy(path, values.data(), values.size(),
                    "(" + std::to_string(values.rows()) + ", " + std::to_string(values.cols()) + ")");
}

template <class S>
void write_npy(const std::filesystem::path& path, const Vector<S>& values) {
  detail::write_npy(path, values.data(), values.size(), "(" + std::to_string(values.size()) + ",)");
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_TABLE(prefix, S)                                     \
  prefix template class Table<S>;                                                 \
  prefix template Table<S> quartiles(const std::vector<Table<S>>&);               \
  prefix template void write_csv(const std::filesystem::path&, const Table<S>&);  \
  prefix template void write_npy(const std::filesystem::path&, const Matrix<S>&); \
  prefix template void write_npy(const std::filesystem::path&, const Vector<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TABLE)
