#include "csv.hpp"

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "files.hpp"
#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using richflow::Vector;
using test_support::content_of;
using test_support::message_contains;
using test_support::TemporaryFolder;

namespace {

CsvTable read(const std::string& text, const CsvFormat& format = {}) {
  const TemporaryFolder folder;
  return read_csv(folder.file("data.csv", text), format);
}

}  // namespace

TEST_CASE("a CSV file gives its columns and values") {
  const CsvTable table = read("a,b,c\n1,2.5,-3e2\n4,+5,.5\n");
  CHECK(table.columns == std::vector<std::string>{"a", "b", "c"});
  REQUIRE(table.values.rows() == 2);
  REQUIRE(table.values.cols() == 3);
  CHECK(table.values(0, 0) == 1.0);
  CHECK(table.values(0, 1) == 2.5);
  CHECK(table.values(0, 2) == -300.0);
  CHECK(table.values(1, 1) == 5.0);
  CHECK(table.values(1, 2) == 0.5);
}

TEST_CASE("CRLF, blanks, a byte-order mark, quotes and blank lines at the end change nothing") {
  const auto plain = read("a,b\n1,2\n3,4\n");
  for (const char* text : {"a,b\r\n1,2\r\n3,4\r\n", "a,b\n1,2\n3,4", "a , b\n 1 ,\t2\n3, 4 \n",
                           "\xEF\xBB\xBF"
                           "a,b\n1,2\n3,4\n",
                           "\xEF\xBB\xBF\xEF\xBB\xBF"
                           "a,b\n1,2\n3,4\n",
                           "\"a\",\"b\"\n1,2\n3,4\n", "a,b\n1,2\n3,4\n\n\r\n  \n", "a,b\r\n1,2\r\n3,4"}) {
    INFO(text);
    const auto table = read(text);
    CHECK(table.columns == plain.columns);
    CHECK(table.values == plain.values);
  }
}

TEST_CASE("a comma within quotes belongs to the column's name") {
  const auto table = read("\"size, in cm\",b\n1,2\n");
  CHECK(table.columns == std::vector<std::string>{"size, in cm", "b"});
}

TEST_CASE("a first line of numbers is a sample or a header as it is said, and refused where nothing is said") {
  const CsvFormat names{.header = CsvFormat::Header::names, .index = CsvFormat::Index::certain};
  const CsvFormat none{.header = CsvFormat::Header::none, .index = CsvFormat::Index::certain};
  for (const char* text : {"0,1,2\n1,0,0\n", "1,2,3\n5,6,7\n", "1.0e+00,2.0e+00\n1.0e+00,0.0e+00\n", "1\n1\n",
                           "1.5,2.5\n3,4\n", "\"1\",\"2\"\n3,4\n", "1e3\n1e3\n", "-1\n1\n", "+1,2\n3,4\n"}) {
    INFO(text);
    CHECK_THROWS_MATCHES(read(text), FileError, message_contains("--header no"));
    CHECK(read(text, names).values.rows() == 1);
    CHECK(read(text, none).values.rows() == 2);
  }
  CHECK(read("0,1,2\n1,0,0\n", names).columns == std::vector<std::string>{"0", "1", "2"});
  CHECK(read("0,1,2\n1,0,0\n", none).values(0, 2) == 2.0);
  CHECK(read("7\n", none).values(0, 0) == 7.0);
  CHECK_THROWS_MATCHES(read("a,b\n1,2\n", none), FileError, message_contains("'a' is not a number"));
}

TEST_CASE("an index of the rows is dropped or kept as it is said, and refused where nothing is said") {
  const CsvFormat drop{.header = CsvFormat::Header::certain, .index = CsvFormat::Index::drop};
  const CsvFormat keep{.header = CsvFormat::Header::certain, .index = CsvFormat::Index::keep};
  for (const char* text : {",a,b\n0,1,5\n1,0,6\n", "\"\",a,b\n1,1,5\n2,0,6\n", "Unnamed: 0,a,b\n0,1,5\n1,0,6\n",
                           "index,a,b\n0,1,5\n1,0,6\n", "ID,a,b\n1,1,5\n2,0,6\n", ",a,b\n7,1,5\n3,0,6\n"}) {
    INFO(text);
    CHECK_THROWS_MATCHES(read(text), FileError, message_contains("--index drop"));
    const CsvTable dropped = read(text, drop);
    CHECK(dropped.columns == std::vector<std::string>{"a", "b"});
    CHECK(dropped.values(0, 0) == 1.0);
    CHECK(dropped.values(1, 1) == 6.0);
    CHECK(read(text, keep).values.cols() == 3);
  }
  // A feature of that name, and a feature that counts.
  CHECK(read("id,a\n5,1\n3,2\n").values.cols() == 2);
  CHECK(read("time,a\n0,1\n1,2\n").values.cols() == 2);
  CHECK_THROWS_MATCHES(read("a\n1\n", drop), FileError, message_contains("no column beside the first"));
  const TemporaryFolder folder;
  const auto labels = folder.file("y.csv", ",y\n0,3\n1,4\n");
  CHECK_THROWS_MATCHES(read_csv_column(labels), FileError, message_contains("--index drop"));
  CHECK(read_csv_column(labels, drop) == Vector<double>{{3.0, 4.0}});
}

TEST_CASE("numbers in quotes are read") {
  const CsvTable table = read("\"a\",\"b\",\"c\"\n\"1\",\"0\",\"2\"\n\"0\", 1 ,\"2\"\n");
  CHECK(table.values == (richflow::Matrix<double>(2, 3) << 1, 0, 2, 0, 1, 2).finished());
}

TEST_CASE("what other programs write is refused by its cause") {
  struct Case {
    std::string text;
    const char* message;
  };
  const Case cases[] = {
      {"a,b,c\r1,0,2\r0,1,2\r", "line ends must be LF or CR LF, not CR alone"},
      {"y\r1\r1\r", "not CR alone"},
      {"a\tb\tc\n1\t0\t2\n", "separated by tabs"},
      {"\xEF\xBB\xBF"
       "a;b;c\n1,5;0,5;2,5\n",
       "separated by ';', and its numbers have decimal commas"},
      {"a;b\n1.5;2\n", "separated by ';': columns must"},
      {"a|b\n1|2\n", "separated by '|'"},
      {"temp, max;b;c\n1,5;2;3\n", "separated by ';', and its numbers have decimal commas"},
      {"\"temp, max\";b;c\n1;2;3\n", "separated by ';': columns must"},
      {"1,5;2\n3,5;4\n", "separated by ';', and its numbers have decimal commas"},
      {"y\n1,5\n1,5\n", "line 2 has 2 columns where the header has 1; does it have decimal commas?"},
      {"a,b\n1,5,2,5\n", "does it have decimal commas?"},
      {"a,b,c\n\"1,000\",0,2\n", "line 2, column 1 (a): '1,000' holds a comma: a decimal comma must be a point"},
      {"\"a\nb\",c,d\n1,0,2\n", "a quote is not closed (names with a line break"},
      {"sep=,\na,b,c\n1,0,2\n", "line 1, 'sep=,', is a note to a spreadsheet program"},
      {"a,b,c,\n1,0,2,\n", "column 4 has no name; is there a comma at the end of every line?"},
      {"a,,c\n1,0,2\n", "column 2 has no name"},
      {"\xFF\xFE"
       "a,b\n",
       "UTF-16"},
      {"\x1F\x8B\x08", "gzip"},
      {"PK\x03\x04", "spreadsheet"},
      {"<!DOCTYPE html>\n<html>\n", "web page"},
      {"version https://git-lfs.github.com/spec/v1\n", "Git LFS"},
      {"a,b\n\"1,2\n", "a quote is not closed"},
      {"a,b\n\"1\"2,3\n", "stands after a number in quotes"},
      {"a,b\n\"1\",2,3\n", "line 2 has 3 columns where the header has 2"},
      {"a,b\n\"x\",2\n", "line 2, column 1 (a): 'x' is not a number"},
  };
  for (const Case& bad : cases) {
    INFO(bad.text);
    CHECK_THROWS_MATCHES(read(bad.text), FileError, message_contains(bad.message));
    CHECK_THROWS_MATCHES(read(bad.text), FileError, message_contains("data.csv"));
  }
}

TEST_CASE("decimal commas are named where there is no header, and a separator within names is no separator") {
  const CsvFormat none{.header = CsvFormat::Header::none, .index = CsvFormat::Index::certain};
  for (const char* text : {"1,5;2\n3,5;4\n", "1;2,5\n3;4,5\n", "\"1,5\";\"2\"\n", "1,5\t2,5\n", "1,5|2\n"}) {
    INFO(text);
    CHECK_THROWS_MATCHES(read(text, none), FileError, message_contains("and its numbers have decimal commas"));
  }
  CHECK_THROWS_MATCHES(read("1\n2,5\n", none), FileError,
                       message_contains("line 2 has 2 columns where line 1 has 1; does it have decimal commas?"));
  const TemporaryFolder folder;
  CHECK_THROWS_MATCHES(read_csv_column(folder.file("y.csv", "1,5\n2,5\n"), none), FileError,
                       message_contains("one column is needed, line 1 has 2: are its commas decimal commas?"));
  CHECK(read("a;b,\"c;d\",e|f\n1,2,3\n").columns == std::vector<std::string>{"a;b", "c;d", "e|f"});
  CHECK(read("a,\tb\n1,\t2\n").values.cols() == 2);
}

TEST_CASE("numbers too small for double are 0 or subnormal") {
  const auto table = read("a,b\n1e-400,4.9406564584124654e-324\n");
  CHECK(table.values(0, 0) == 0.0);
  CHECK(table.values(0, 1) == std::numeric_limits<double>::denorm_min());
}

TEST_CASE("bad CSV input is refused with its place") {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {"", "the file is empty"},
      {"\n", "line 1 is blank"},
      {"a,b\n", "header line but no rows"},
      {"a,b\n\n\n", "header line but no rows"},
      {"a,b\n1,2\n3\n", "line 3 has 1 columns where the header has 2"},
      {"a,b\n1,2\n3,4,5\n", "line 3 has 3 columns where the header has 2"},
      {"a,b\n1,2,\n", "line 2 has 3 columns where the header has 2"},
      {"a,b\n1,2\n\n3,4\n", "line 3 is blank"},
      {"a,b\n1,two\n", "line 2, column 2 (b): 'two' is not a number"},
      {"a,b\n1,2x\n", "line 2, column 2 (b): '2x' is not a number"},
      {"a,b\n1,1;2\n", "line 2, column 2 (b): '1;2' is not a number"},
      {"a,b\n1,+-2\n", "line 2, column 2 (b): '+-2' is not a number"},
      {"a,b\n1,\n", "line 2, column 2 (b): the cell is empty"},
      {"a,b\n , 2\n", "line 2, column 1 (a): the cell is empty"},
      {"a,b\n1,2\n1,NaN\n", "line 3, column 2 (b): 'NaN' is not finite"},
      {"a,b\ninf,2\n", "line 2, column 1 (a): 'inf' is not finite"},
      {"a,b\n1, -Infinity\n", "line 2, column 2 (b): '-Infinity' is not finite"},
      {"a,b\n1,1e999\n", "line 2, column 2 (b): '1e999' is beyond the range of double precision"},
      {"1.5,2.5\n3,4\n", "line 1 holds numbers where a header line"},
      {"-1\n1\n", "line 1 holds numbers where a header line"},
      {"\"a,b\n1,2\n", "line 1: a quote is not closed"},
  };
  for (const Case& bad : cases) {
    INFO(bad.text);
    CHECK_THROWS_MATCHES(read(bad.text), FileError, message_contains(bad.message));
    CHECK_THROWS_MATCHES(read(bad.text), FileError, message_contains("data.csv"));
  }
  CHECK_THROWS_MATCHES(read(std::string("a\0b\n1\n", 6)), FileError, message_contains("not a text file"));
}

TEST_CASE("a CSV file that cannot be opened is named") {
  const TemporaryFolder folder;
  CHECK_THROWS_MATCHES(read_csv(folder.path() / "none.csv"), FileError, message_contains("none.csv': No such file"));
  CHECK_THROWS_MATCHES(read_csv(folder.path()), FileError, message_contains("is a folder"));
}

TEST_CASE("a file of several columns is no column") {
  const TemporaryFolder folder;
  CHECK_THROWS_MATCHES(read_csv_column(folder.file("y.csv", "a,b\n1,2\n")), FileError,
                       message_contains("one column is needed, the header has 2"));
  CHECK(read_csv_column(folder.file("z.csv", "y\n1\n-1\n")).size() == 2);
}

TEST_CASE("every double survives writing and reading, across block boundaries") {
  // 100 000 rows of 3 are 5 MB: several blocks of the reader, each ending in the middle of a line.
  constexpr Index rows = 100000;
  richflow::RandomStream random(7, 0);
  richflow::Matrix<double> values(rows, 3);
  CsvWriter writer({"a", "b", "c"});
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < 3; ++j) values(i, j) = random.normal() * std::exp(random.uniform(-700.0, 700.0));
    writer.row({values(i, 0), values(i, 1), values(i, 2)});
  }
  const TemporaryFolder folder;
  writer.write(folder.path() / "big.csv");
  const CsvTable table = read_csv(folder.path() / "big.csv");
  CHECK(table.values == values);
}

TEST_CASE("a line longer than a block of the reader is read") {
  constexpr int columns = 200000;
  std::string header, row;
  for (int j = 0; j < columns; ++j) {
    header += (j == 0 ? "x" : ",x") + std::to_string(j);
    row += (j == 0 ? "" : ",") + std::to_string(j) + ".25";
  }
  const CsvTable table = read(header + "\n" + row + "\n");
  REQUIRE(table.values.cols() == columns);
  CHECK(table.values(0, columns - 1) == columns - 1 + 0.25);
}

TEST_CASE("a CSV writer writes numbers to 17 digits and leaves NaN cells empty on request") {
  CsvWriter writer({"name", "value", "note"});
  writer.row({"a", 0.1, CsvCell::empty()});
  writer.row({std::string("b"), 3, CsvCell::or_empty(std::nan(""))});
  writer.row({"c", Index{4}, CsvCell::or_empty(2.0)});
  const TemporaryFolder folder;
  writer.write(folder.path() / "out.csv");
  CHECK(content_of(folder.path() / "out.csv") == "name,value,note\na,0.10000000000000001,\nb,3,\nc,4,2\n");
  CHECK_THROWS_AS(writer.row({1.0}), richflow::DimensionError);
}

TEST_CASE("an output folder that cannot be made or written is named") {
  const TemporaryFolder folder;
  const auto file = folder.file("occupied", "x");
  CHECK_THROWS_MATCHES(prepare_output_folder(file), FileError, message_contains("occupied"));
  CHECK_THROWS_MATCHES(prepare_output_folder(file / "below"), FileError, message_contains("occupied/below"));
  CHECK_THROWS_MATCHES(write_file(folder.path() / "none" / "a.csv", "x"), FileError,
                       message_contains("none/a.csv': No such file"));
  // Nobody, root included, makes files in /proc.
  CHECK_THROWS_MATCHES(prepare_output_folder("/proc"), FileError, message_contains("'/proc'"));

  prepare_output_folder(folder.path() / "new" / "nested");
  CHECK(std::filesystem::is_directory(folder.path() / "new" / "nested"));
  CHECK(std::filesystem::is_empty(folder.path() / "new" / "nested"));
}
