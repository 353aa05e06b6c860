#include "csv.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
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
  // Too small rounds to 0 or a subnormal number.
  long double wide = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), wide).ec == std::errc())
    value = static_cast<double>(wide);
  else if (text.find("e-") != std::string_view::npos || text.find("E-") != std::string_view::npos)
    value = 0.0;
  else
    return Number::out_of_range;
  return std::isfinite(value) ? Number::good : Number::out_of_range;
}

/// What separates columns in place of commas, if anything does: it stands within what commas part, outside of quotes.
char separator_beside_commas(std::string_view text) {
  std::string part;
  char found = '\0';
  const auto judge = [&] {
    for (const char c : {';', '\t', '|'})
      if (found == '\0' && trimmed(part).find(c) != std::string_view::npos) found = c;
    part.clear();
  };
  bool in_quotes = false;
  for (const char c : text) {
    if (c == '"') in_quotes = !in_quotes;
    if (c == ',' && !in_quotes)
      judge();
    else if (!in_quotes)
      part += c;
  }
  judge();
  return found;
}

/// For a message: what tells the number of columns.
const char* first_line_of(const CsvFormat& format) {
  return format.header == CsvFormat::Header::none ? "line 1" : "the header";
}

/// Takes lines one at a time, and the numbers in them.
class CsvParser {
 public:
  CsvParser(const std::filesystem::path& path, const CsvFormat& format) : path_(path), format_(format) {}

  void line(std::string_view text) {
    ++line_;
    if (line_ == 1) {
      // Some programs put one mark before another.
      while (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
      reject_other_files(text);
    }
    const std::size_t carriage_return = text.find('\r');
    if (carriage_return != std::string_view::npos && carriage_return + 1 != text.size())
      fail("line " + std::to_string(line_) +
           " holds a carriage return (CR): line ends must be LF or CR LF, not CR alone");
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
    judge_index();
    return std::move(table_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw FileError(quoted(path_) + ": " + what); }

  [[noreturn]] void fail_at(std::size_t column, const std::string& what) const {
    std::string name = column < table_.columns.size() ? " (" + table_.columns[column] + ")" : std::string();
    fail("line " + std::to_string(line_) + ", column " + std::to_string(column + 1) + name + ": " + what);
  }

  /// What is no text of numbers at all.
  void reject_other_files(std::string_view text) const {
    const auto starts_with = [&](std::string_view mark) { return text.substr(0, mark.size()) == mark; };
    if (starts_with("\xFF\xFE") || starts_with("\xFE\xFF")) fail("it is text in UTF-16: save it as UTF-8");
    if (starts_with("\x1F\x8B")) fail("it is compressed by gzip: unpack it first");
    if (starts_with("PK\x03\x04"))
      fail("it is a ZIP archive, a spreadsheet or an NPZ file: export it as CSV, or save one array with numpy.save");
    if (starts_with("version https://git-lfs"))
      fail("it is a pointer of Git LFS: fetch the file itself (git lfs pull)");
    if (text.find('\0') != std::string_view::npos) fail("not a text file (line 1 holds a zero byte)");
    const std::string_view visible = trimmed(text);
    if (!visible.empty() && visible.front() == '<') fail("it is a web page (HTML) or XML: download the file itself");
    if (visible.substr(0, 4) == "sep=")
      fail("line 1, " + excerpt(visible) + ", is a note to a spreadsheet program: delete it");
  }

  void header(std::string_view text) {
    text = trimmed(text);
    if (text.empty()) fail("line 1 is blank: a header line is needed");
    other_separator_ = separator_beside_commas(text);
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
    if (in_quotes) fail("line 1: a quote is not closed (names with a line break are not read)");
    columns.emplace_back(trimmed(name));
    if (format_.header == CsvFormat::Header::none) {
      for (std::size_t j = 0; j < columns.size(); ++j) table_.columns.push_back("column " + std::to_string(j + 1));
      row(text);
      return;
    }
    if (format_.header == CsvFormat::Header::certain) reject_forgotten_header(columns);
    for (std::size_t j = 1; j < columns.size(); ++j)
      if (columns[j].empty())
        fail("line 1: column " + std::to_string(j + 1) + " has no name" +
             (j + 1 == columns.size() ? "; is there a comma at the end of every line?" : ""));
    table_.columns = std::move(columns);
  }

  void reject_forgotten_header(const std::vector<std::string>& columns) const {
    for (const std::string& column : columns) {
      double value = 0.0;
      if (parse_number(column, value) == Number::text) return;
    }
    fail(
        "line 1 holds numbers where a header line with the names of the columns is needed: with --header no it is the "
        "first sample, with --header yes the names");
  }

  /// Drops an index of the rows where that is asked for, and refuses what looks like one where nothing is said.
  void judge_index() {
    if (format_.index == CsvFormat::Index::keep) return;
    std::string name = table_.columns.front();
    for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    const bool is_named_so = name.empty() || name.substr(0, 7) == "unnamed" || name == "index" || name == "id" ||
                             name == "row" || name == "row_id" || name == "rowid" || name == "row_index" || name == "#";
    if (format_.index == CsvFormat::Index::certain) {
      if (!is_named_so) return;
      const double first = table_.values(0, 0);
      bool counts = first == 0.0 || first == 1.0;
      for (Eigen::Index i = 0; counts && i < num_rows_; ++i)
        counts = table_.values(i, 0) == first + static_cast<double>(i);
      if (!counts && !name.empty()) return;
      fail("the first column, " + (name.empty() ? "which has no name" : excerpt(table_.columns.front())) +
           (counts ? ", counts the rows" : "") +
           ": with --index drop it is left out as their index, with --index keep it is a column like the others");
    }
    if (table_.columns.size() < 2) fail("there is no column beside the first one, which --index drop leaves out");
    table_.columns.erase(table_.columns.begin());
    table_.values = table_.values.rightCols(table_.values.cols() - 1).eval();
  }

  /// Where the header and the first row have the same one, it is no part of a name.
  void reject_other_separator(std::string_view first_row) const {
    if (other_separator_ == '\0' || separator_beside_commas(first_row) != other_separator_) return;
    const std::string name = other_separator_ == '\t' ? "tabs" : std::string("'") + other_separator_ + "'";
    fail("its columns are separated by " + name +
         (first_row.find(',') != std::string_view::npos ? ", and its numbers have decimal commas" : "") +
         ": columns must be separated by commas, and decimals by a point");
  }

  void row(std::string_view text) {
    const std::size_t d = table_.columns.size();
    if (num_rows_ == 0) reject_other_separator(text);
    if (text.find('"') != std::string_view::npos) {
      quoted_row(text);
      return;
    }
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
    if (column + 1 != d) fail_ragged(column + 1);
    ++num_rows_;
  }

  [[noreturn]] void fail_ragged(std::size_t found) const {
    const std::size_t d = table_.columns.size();
    fail("line " + std::to_string(line_) + " has " + std::to_string(found) + " columns where " +
         first_line_of(format_) + " has " + std::to_string(d) +
         (found == 2 * d ? "; does it have decimal commas? Decimals must be separated by a point" : ""));
  }

  /// A row with numbers in quotes.
  void quoted_row(std::string_view text) {
    const std::size_t d = table_.columns.size();
    std::size_t column = 0;
    while (true) {
      while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
      const bool is_quoted = !text.empty() && text.front() == '"';
      const std::size_t end = is_quoted ? text.find('"', 1) : std::min(text.find(','), text.size());
      if (end == std::string_view::npos)
        fail_at(column, "a quote is not closed (line breaks within quotes are not read)");
      const std::string_view content = is_quoted ? text.substr(1, end - 1) : text.substr(0, end);
      text.remove_prefix(is_quoted ? end + 1 : end);
      const std::size_t comma = std::min(text.find(','), text.size());
      if (!trimmed(text.substr(0, comma)).empty())
        fail_at(column, excerpt(text.substr(0, comma)) + " stands after a number in quotes");
      if (content.find(',') != std::string_view::npos)
        fail_at(column, excerpt(content) +
                            " holds a comma: a decimal comma must be a point, and thousands must not be separated");
      if (column < d) values_.push_back(cell(column, content.data(), content.data() + content.size()));
      ++column;
      if (comma == text.size()) break;
      text.remove_prefix(comma + 1);
    }
    if (column != d) fail_ragged(column);
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
  CsvFormat format_;
  char other_separator_ = '\0';
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

CsvTable read_csv(const std::filesystem::path& path, const CsvFormat& format) {
  if (std::filesystem::is_directory(path)) throw FileError(quoted(path) + " is a folder, not a CSV file");
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (!file) throw FileError("cannot open " + quoted(path) + ": " + std::generic_category().message(errno));
  CsvParser parser(path, format);
  std::vector<char> block(std::size_t{1} << 16);
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

Vector<double> read_csv_column(const std::filesystem::path& path, const CsvFormat& format) {
  // An index beside it may be dropped; a single column is none.
  const bool drops = format.index == CsvFormat::Index::drop;
  CsvTable table = read_csv(path, {format.header, drops ? CsvFormat::Index::keep : format.index});
  if (drops && table.values.cols() == 2) table.values = table.values.rightCols(1).eval();
  if (table.values.cols() != 1)
    throw FileError(quoted(path) + ": one column is needed, " + first_line_of(format) + " has " +
                    std::to_string(table.values.cols()) +
                    (format.header == CsvFormat::Header::none
                         ? ": are its commas decimal commas? Decimals must be separated by a point"
                         : ""));
  return table.values.col(0);
}

}  // namespace richflow::examples
