#include "csv.hpp"
#include "fuzz.hpp"

using namespace richflow::examples;

namespace {

/// With the names in quotes, for they may hold commas.
std::string written(const CsvTable& table) {
  std::vector<std::string> names;
  for (const std::string& name : table.columns) names.push_back('"' + name + '"');
  CsvWriter writer(names);
  for (richflow::Index i = 0; i < table.values.rows(); ++i) {
    std::vector<CsvCell> cells;
    for (const double value : table.values.row(i)) cells.emplace_back(value);
    writer.row(cells);
  }
  const std::filesystem::path path = fuzz::folder() / "written";
  writer.write(path);
  return fuzz::content_of(path);
}

constexpr CsvFormat as_written{CsvFormat::Header::names, CsvFormat::Index::keep};

/// Ends the program unless a good file holds this table.
void expect_table(const std::string& content, const CsvFormat& format, const CsvTable& table) {
  const CsvTable back = fuzz::accepted([&] { return read_csv(fuzz::file("again", content), format); });
  fuzz::expect(back.columns == table.columns, "the names read back");
  fuzz::expect(fuzz::same(back.values, table.values), "the numbers read back");
}

void read_back(const std::filesystem::path& path, const CsvFormat& format) {
  const auto table = fuzz::unless_refused([&] { return read_csv(path, format); });
  if (!table) return;
  fuzz::expect(table->values.allFinite(), "numbers are finite");
  expect_table(written(*table), as_written, *table);
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const auto seed = [](const std::vector<std::string>& names, double scale) {
    CsvWriter writer(names);
    richflow::Matrix<double> values(3, static_cast<richflow::Index>(names.size()));
    for (richflow::Index i = 0; i < 3; ++i) {
      std::vector<CsvCell> cells;
      for (richflow::Index j = 0; j < values.cols(); ++j) {
        values(i, j) = scale * (static_cast<double>(i) + 1.0) / (static_cast<double>(j) + 3.0);
        cells.emplace_back(values(i, j));
      }
      writer.row(cells);
    }
    const std::filesystem::path path = folder() / "seed";
    writer.write(path);
    std::string content = content_of(path);
    expect_table(content, as_written, {names, values});
    return content;
  };
  const std::string quoted = "\xEF\xBB\xBF\"a, b\",c\r\n\"1\", +2.5e-3\r\n3,4\r\n\r\n";
  expect_table(quoted, {}, {{"a, b", "c"}, richflow::Matrix<double>{{1.0, 2.5e-3}, {3.0, 4.0}}});
  const std::string indexed = "index,a\n0,1\n1,2\n";
  expect_table(indexed, {CsvFormat::Header::names, CsvFormat::Index::drop},
               {{"a"}, richflow::Matrix<double>{{1.0}, {2.0}}});
  return {seed({"x1", "x2", "y"}, 1.0),
          seed({"", "a"}, -1e-310),
          seed({"1", "2"}, 1e300),
          seed({"y"}, 0.0),
          quoted,
          indexed,
          "a;b\n1,5;2\n"};
}

void fuzz::try_input(const std::string& content) {
  const std::filesystem::path path = file("input", content);
  read_back(path, {});
  read_back(path, {CsvFormat::Header::none, CsvFormat::Index::drop});
  read_back(path, as_written);
}
