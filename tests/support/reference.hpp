#pragma once

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

/// @file
/// The tables of tests/reference: comma-separated, one header line, values computed with 60 digits and
/// printed with 25.

namespace test_support {

/// One table, kept as text so that a test can choose the precision it reads.
class ReferenceTable {
 public:
  ReferenceTable(std::string name, std::vector<std::string> header, std::vector<std::vector<std::string>> rows)
      : name_(std::move(name)), header_(std::move(header)), rows_(std::move(rows)) {}

  [[nodiscard]] std::size_t size() const { return rows_.size(); }

  [[nodiscard]] const std::string& text(std::size_t row, const std::string& column) const {
    for (std::size_t j = 0; j < header_.size(); ++j)
      if (header_[j] == column) return rows_.at(row)[j];
    throw std::runtime_error(name_ + " has no column " + column);
  }

  /// The entry as long double (more digits than double where the platform has them).
  [[nodiscard]] long double exact(std::size_t row, const std::string& column) const {
    const std::string& entry = text(row, column);
    char* end = nullptr;
    const long double value = std::strtold(entry.c_str(), &end);
    if (end == entry.c_str() || *end != '\0') throw std::runtime_error(name_ + ": not a number: " + entry);
    return value;
  }

  /// The entry rounded once to double.
  [[nodiscard]] double number(std::size_t row, const std::string& column) const {
    const std::string& entry = text(row, column);
    char* end = nullptr;
    const double value = std::strtod(entry.c_str(), &end);
    if (end == entry.c_str() || *end != '\0') throw std::runtime_error(name_ + ": not a number: " + entry);
    return value;
  }

 private:
  std::string name_;
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

/// Reads tests/reference/`name`; throws when it is missing, empty or ragged, so that no test passes on
/// a table it did not see.
inline ReferenceTable reference_table(const std::string& name) {
  std::ifstream file(std::string(RICHFLOW_TEST_REFERENCE_DIR) + "/" + name);
  if (!file) throw std::runtime_error("cannot open the reference table " + name);
  const auto split = [](const std::string& line) {
    std::vector<std::string> cells(1);
    for (const char c : line) {
      if (c == ',')
        cells.emplace_back();
      else if (c != '\r')
        cells.back().push_back(c);
    }
    return cells;
  };
  std::string line;
  std::getline(file, line);
  std::vector<std::string> header = split(line);
  std::vector<std::vector<std::string>> rows;
  while (std::getline(file, line)) {
    rows.push_back(split(line));
    if (rows.back().size() != header.size()) throw std::runtime_error("ragged line in reference table " + name);
  }
  if (rows.empty()) throw std::runtime_error("no rows in reference table " + name);
  return ReferenceTable(name, std::move(header), std::move(rows));
}

/// A table of numbers alone (limit_X.csv, limit_y.csv, limit_shape.csv) as a matrix, without its header.
inline richflow::Matrix<double> reference_matrix(const std::string& name, const std::vector<std::string>& columns) {
  const ReferenceTable table = reference_table(name);
  richflow::Matrix<double> values(static_cast<richflow::Index>(table.size()),
                                  static_cast<richflow::Index>(columns.size()));
  for (std::size_t i = 0; i < table.size(); ++i)
    for (std::size_t j = 0; j < columns.size(); ++j)
      values(static_cast<richflow::Index>(i), static_cast<richflow::Index>(j)) = table.number(i, columns[j]);
  return values;
}

/// Columns x0, x1, ... of a table.
inline std::vector<std::string> columns(richflow::Index d) {
  std::vector<std::string> names;
  for (richflow::Index i = 0; i < d; ++i) names.push_back(std::string("x").append(std::to_string(i)));
  return names;
}

/// The data of the tables limit_*.csv and trajectory_squared.csv.
inline richflow::Dataset<> reference_data() {
  return {reference_matrix("limit_X.csv", columns(9)), reference_matrix("limit_y.csv", {"y"})};
}

/// P3 of algorithms_gd.csv: 4 x 8 integers.
inline richflow::Dataset<> algorithms_problem() {
  return {reference_matrix("algorithms_problem.csv", columns(8)), reference_matrix("algorithms_problem.csv", {"y"})};
}

}  // namespace test_support
