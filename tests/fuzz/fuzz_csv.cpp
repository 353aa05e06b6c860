#include "csv.hpp"
#include "fuzz.hpp"
#include "richflow/core/error.hpp"

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

void read_back(const std::filesystem::path& path, const CsvFormat& format) {
  CsvTable table;
  try {
    table = read_csv(path, format);
  } catch (const richflow::Error&) {
    return;
  }
  fuzz::expect(table.values.allFinite(), "numbers are finite");
  const std::filesystem::path again = fuzz::file("again", written(table));
  const CsvTable back = read_csv(again, {CsvFormat::Header::names, CsvFormat::Index::keep});
  fuzz::expect(back.columns == table.columns, "the names read back");
  fuzz::expect(fuzz::same(back.values, table.values), "the numbers read back");
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const auto seed = [](const std::vector<std::string>& names, double scale) {
    CsvWriter writer(names);
    for (int i = 0; i < 3; ++i) {
      std::vector<CsvCell> cells;
      for (std::size_t j = 0; j < names.size(); ++j)
        cells.emplace_back(scale * (i + 1.0) / (static_cast<double>(j) + 3.0));
      writer.row(cells);
    }
    const std::filesystem::path path = folder() / "seed";
    writer.write(path);
    return content_of(path);
  };
  return {seed({"x1", "x2", "y"}, 1.0),
          seed({"", "a"}, -1e-310),
          seed({"1", "2"}, 1e300),
          seed({"y"}, 0.0),
          "\xEF\xBB\xBF\"a, b\",c\r\n\"1\", +2.5e-3\r\n3,4\r\n\r\n",
          "index,a\n0,1\n1,2\n",
          "a;b\n1,5;2\n"};
}

void fuzz::try_input(const std::string& content) {
  const std::filesystem::path path = file("input", content);
  read_back(path, {});
  read_back(path, {CsvFormat::Header::none, CsvFormat::Index::drop});
  read_back(path, {CsvFormat::Header::names, CsvFormat::Index::keep});
}
