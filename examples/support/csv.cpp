#include "csv.hpp"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

CsvCell::CsvCell(double value) : text_(exact_number(value)) {}
CsvCell::CsvCell(int value) : text_(std::to_string(value)) {}
CsvCell::CsvCell(Index value) : text_(std::to_string(value)) {}
CsvCell::CsvCell(std::string value) : text_(std::move(value)) {}
CsvCell::CsvCell(const char* value) : text_(value) {}
CsvCell CsvCell::empty() { return CsvCell(""); }
CsvCell CsvCell::or_empty(double value) { return std::isnan(value) ? empty() : CsvCell(value); }

CsvWriter::CsvWriter(std::vector<std::string> columns) : num_columns_(columns.size()) {
  for (std::size_t i = 0; i < columns.size(); ++i) text_ += (i == 0 ? "" : ",") + columns[i];
  text_ += '\n';
}

void CsvWriter::row(const std::vector<CsvCell>& cells) {
  require_size("a CSV row", static_cast<Index>(cells.size()), static_cast<Index>(num_columns_));
  bool first = true;
  for (const CsvCell& cell : cells) {
    if (!first) text_ += ',';
    first = false;
    text_ += cell.text();
  }
  text_ += '\n';
  ++num_rows_;
}

void CsvWriter::write(const std::filesystem::path& path) const { write_file(path, text_); }

namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

/// At most 40 characters of what was found, for messages.
std::string excerpt(std::string_view text) {
  std::string result = "'";
  result += text.substr(0, 40);
  return result += text.size() > 40 ? "...'" : "'";
}

enum class Number { good, text, out_of_range };

/// The number that fills `text`; "nan" and "inf" count as good.
Number parse_number(std::string_view text, double& value) {
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') text.remove_prefix(1);
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ptr != text.data() + text.size() || text.empty()) return Number::text;
  if (result.ec == std::errc()) return Number::good;
  if (result.ec != std::errc::result_out_of_range) return Number::text;
  value = std::strtod(std::string(text).c_str(), nullptr);
  return std::isfinite(value) ? Number::good : Number::out_of_range;  // too small rounds to 0 or a subnormal
}

/// Takes lines one at a time, and the numbers in them.
class CsvParser {
 public:
  explicit CsvParser(const std::filesystem::path& path) : path_(path) {}

  void line(std::string_view text) {
    ++line_;
    if (table_.columns.empty()) {
      header(text);
    } else if (trimmed(text).empty()) {
      if (blank_line_ == 0) blank_line_ = line_;
    } else {
      if (blank_line_ != 0) fail("line " + std::to_string(blank_line_) + " is blank");
      row(text);
    }
  }

  [[nodiscard]] CsvTable finish() {
    if (table_.columns.empty()) fail("the file is empty: a header line and rows of numbers are needed");
    if (num_rows_ == 0) fail("the file has a header line but no rows");
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const auto d = static_cast<Index>(table_.columns.size());
    table_.values = Eigen::Map<const RowMajor>(values_.data(), num_rows_, d);
    return std::move(table_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw FileError(quoted(path_) + ": " + what); }

  [[noreturn]] void fail_at(std::size_t column, const std::string& what) const {
    std::string name = column < table_.columns.size() ? " (" + table_.columns[column] + ")" : std::string();
    fail("line " + std::to_string(line_) + ", column " + std::to_string(column + 1) + name + ": " + what);
  }

  void header(std::string_view text) {
    if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
    if (text.find('\0') != std::string_view::npos) fail("not a text file (line 1 holds a zero byte)");
    text = trimmed(text);
    if (text.empty()) fail("line 1 is blank: a header line is needed");
    std::vector<std::string> columns;
    std::string name;
    bool in_quotes = false;
    for (const char c : text) {
      if (c == '"') {
        in_quotes = !in_quotes;
      } else if (c == ',' && !in_quotes) {
        columns.emplace_back(trimmed(name));
        name.clear();
      } else {
        name += c;
      }
    }
    if (in_quotes) fail("line 1: a quote is not closed");
    columns.emplace_back(trimmed(name));
    reject_forgotten_header(columns);
    table_.columns = std::move(columns);
  }

  void reject_forgotten_header(const std::vector<std::string>& columns) const {
    double first = 0.0;
    bool counts = true;
    for (std::size_t j = 0; j < columns.size(); ++j) {
      double value = 0.0;
      if (parse_number(columns[j], value) == Number::text) return;
      if (j == 0) first = value;
      counts = counts && value == first + static_cast<double>(j);
    }
    if (!(counts && (first == 0.0 || first == 1.0)))
      fail("line 1 holds numbers where a header line with the names of the columns is needed");
  }

  void row(std::string_view text) {
    const std::size_t d = table_.columns.size();
    std::size_t column = 0;
    const char* position = text.data();
    const char* const end = text.data() + text.size();
    for (;; ++column) {
      const auto* comma =
          static_cast<const char*>(std::memchr(position, ',', static_cast<std::size_t>(end - position)));
      const char* const stop = comma == nullptr ? end : comma;
      if (column < d) values_.push_back(cell(column, position, stop));
      if (comma == nullptr) break;
      position = comma + 1;
    }
    if (column + 1 != d)
      fail("line " + std::to_string(line_) + " has " + std::to_string(column + 1) + " columns where the header has " +
           std::to_string(d));
    ++num_rows_;
  }

  double cell(std::size_t column, const char* begin, const char* end) const {
    double value = 0.0;
    const auto fast = std::from_chars(begin, end, value);
    if (fast.ec != std::errc() || fast.ptr != end) {
      const std::string_view text = trimmed({begin, static_cast<std::size_t>(end - begin)});
      if (text.empty()) fail_at(column, "the cell is empty");
      switch (parse_number(text, value)) {
        case Number::good:
          break;
        case Number::text:
          fail_at(column, excerpt(text) + " is not a number");
        case Number::out_of_range:
          fail_at(column, excerpt(text) + " is beyond the range of double precision");
      }
    }
    if (!std::isfinite(value))
      fail_at(column, excerpt(trimmed({begin, static_cast<std::size_t>(end - begin)})) + " is not finite");
    return value;
  }

  std::filesystem::path path_;
  CsvTable table_;
  std::vector<double> values_;
  Index num_rows_ = 0;
  Index line_ = 0;
  Index blank_line_ = 0;
};

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

CsvTable read_csv(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) throw FileError(quoted(path) + " is a folder, not a CSV file");
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (!file) throw FileError("cannot open " + quoted(path) + ": " + std::generic_category().message(errno));
  CsvParser parser(path);
  std::vector<char> block(std::size_t{1} << 20);
  std::size_t kept = 0;  // start of a line whose end is not read yet
  for (;;) {
    if (kept == block.size()) block.resize(2 * block.size());
    const std::size_t got = std::fread(block.data() + kept, 1, block.size() - kept, file.get());
    if (got == 0) break;
    const char* position = block.data();
    const char* const end = block.data() + kept + got;
    while (const auto* newline =
               static_cast<const char*>(std::memchr(position, '\n', static_cast<std::size_t>(end - position)))) {
      parser.line({position, static_cast<std::size_t>(newline - position)});
      position = newline + 1;
    }
    kept = static_cast<std::size_t>(end - position);
    std::memmove(block.data(), position, kept);
  }
  if (std::ferror(file.get()) != 0) throw FileError("cannot read " + quoted(path) + " to its end");
  if (kept > 0) parser.line({block.data(), kept});
  return parser.finish();
}

Vector<double> read_csv_column(const std::filesystem::path& path) {
  const CsvTable table = read_csv(path);
  if (table.values.cols() != 1)
    throw FileError(quoted(path) + ": one column is needed, the header has " + std::to_string(table.values.cols()));
  return table.values.col(0);
}

}  // namespace richflow::examples
