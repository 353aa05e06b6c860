#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "richflow/core/types.hpp"

/// @file
/// Comma-separated files: results out, users' data in.

namespace richflow::examples {

/// One cell of a row to write: a number (17 significant digits), a word, or nothing.
class CsvCell {
 public:
  CsvCell(double value);                 // NOLINT: a cell is written as its value
  CsvCell(int value);                    // NOLINT
  CsvCell(Index value);                  // NOLINT
  CsvCell(std::string value);            // NOLINT
  CsvCell(const char* value);            // NOLINT
  [[nodiscard]] static CsvCell empty();  ///< nothing between the commas
  /// `value`, or nothing when it is NaN.
  [[nodiscard]] static CsvCell or_empty(double value);

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// Collects rows and writes them at once. Words must hold no comma, quote or line break.
class CsvWriter {
 public:
  /// Starts with the header line.
  explicit CsvWriter(std::vector<std::string> columns);

  /// Adds a row; throws DimensionError unless it has as many cells as there are columns.
  void row(const std::vector<CsvCell>& cells);

  /// Rows so far.
  [[nodiscard]] Index num_rows() const { return num_rows_; }

  /// Writes the file, with all rows so far; see `write_file`.
  void write(const std::filesystem::path& path) const;

 private:
  std::size_t num_columns_;
  Index num_rows_ = 0;
  std::string text_;
};

/// Numbers with names: `values` is rows x columns.
struct CsvTable {
  std::vector<std::string> columns = {};
  Matrix<double> values = {};
};

/// What the file itself does not say. By default what is not certain is refused, with the option that decides it.
struct CsvFormat {
  enum class Header { certain, names, none };
  enum class Index { certain, drop, keep };

  Header header = Header::certain;  ///< whether line 1 holds the names of the columns: numbers might be a sample
  Index index = Index::certain;     ///< whether the first column is an index of the rows, which is no feature
};

/// Reads numbers below one header line. Takes LF and CRLF, blanks around cells, a byte-order mark, quotes around names
/// and numbers, and blank lines at the end. Everything else throws FileError naming file, line and column, and the
/// cause where it is known: a missing, empty or header-only file, ragged rows, text, an empty cell, NaN, infinity, a
/// number beyond double precision; other separators, decimal commas, thousands separators, line ends or encodings,
/// other kinds of files. Nothing is guessed in silence: a first line of numbers, and a first column that looks like an
/// index of the rows (without a name, or named so, and counting them), are refused unless `format` says what they are.
/// One pass in blocks; memory is that of the values, twice while they grow.
[[nodiscard]] CsvTable read_csv(const std::filesystem::path& path, const CsvFormat& format = {});

/// Reads a file of a single column (see `read_csv`), such as the labels `y`.
[[nodiscard]] Vector<double> read_csv_column(const std::filesystem::path& path, const CsvFormat& format = {});

}  // namespace richflow::examples
