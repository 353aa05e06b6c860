#include "richflow/data/table.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

Table<double> random_table(RandomStream& random, Index rows) {
  Table<double> table("t");
  table.add_quantity("loss");
  table.add_quantity("beta");
  for (Index row = 0; row < rows; ++row)
    table.add_row(0.5 * static_cast<double>(row), {random_vector(random, 1), random_vector(random, 3)});
  return table;
}

}  // namespace

TEST_CASE("a table gives back its rows by name") {
  Table<double> table("t");
  table.add_quantity("loss");
  table.add_quantity("beta");
  Vector<double> one(1), two(2);
  one << 3.0;
  two << 1.0, -1.0;
  table.add_row(0.5, {one, two});
  table.add_row(0.75, {2 * one, 2 * two});
  CHECK(table.num_rows() == 2);
  CHECK(table.width("beta") == 2);
  CHECK(table.first()[1] == 0.75);
  CHECK(table["loss"][1] == 6.0);
  CHECK(table.columns("beta")(1, 1) == -2.0);
  CHECK_THROWS_MATCHES(table["los"], ArgumentError, message_contains("'los'"));
  CHECK_THROWS_MATCHES(table["beta"], DimensionError, message_contains("2 numbers"));
  CHECK_THROWS_AS(table.add_row(1.0, {one}), DimensionError);
  CHECK_THROWS_AS(table.add_row(1.0, {two, two}), DimensionError);
  CHECK(table.num_rows() == 2);
  CHECK_THROWS_AS(table.add_quantity("late"), ArgumentError);
  Table<double> other("t");
  other.add_quantity("loss");
  CHECK_THROWS_AS(other.add_quantity("loss"), ArgumentError);
  CHECK_THROWS_AS(other.add_quantity(""), ArgumentError);
}

TEST_CASE("log_spaced has exact ends and equal ratios") {
  const std::vector<double> times = log_spaced(1e-3, 1e3, 7);
  REQUIRE(times.size() == 7);
  CHECK(times.front() == 1e-3);
  CHECK(times.back() == 1e3);
  // One exponential of an argument below 14: a few roundings of it.
  for (std::size_t i = 1; i < times.size(); ++i) CHECK(std::abs(times[i] / times[i - 1] - 10.0) <= 100 * 10.0 * eps);
  // A ratio that overflows; the exponential of a number of size 460.
  const std::vector<double> wide = log_spaced(1e-200, 1e200, 5);
  CHECK(std::abs(wide[2] - 1.0) <= 500 * eps);
  CHECK(std::abs(wide[1] / 1e-100 - 1.0) <= 500 * eps);
  CHECK(log_spaced(2.0, 1.0, 1) == std::vector<double>{2.0});
  CHECK_THROWS_AS(log_spaced(0.0, 1.0, 3), ArgumentError);
  CHECK_THROWS_AS(log_spaced(2.0, 1.0, 3), ArgumentError);
  CHECK_THROWS_AS(log_spaced(1.0, 2.0, 0), ArgumentError);
  CHECK_THROWS_AS(log_spaced(1.0, infinity, 3), ArgumentError);
}

TEST_CASE("quartiles over repetitions") {
  RandomStream random(811);
  for (const Index repetitions : {1, 2, 3, 4, 5, 8, 101}) {
    std::vector<Table<double>> tables;
    for (Index r = 0; r < repetitions; ++r) tables.push_back(random_table(random, 4));
    const Table<double> parts = quartiles(tables);
    CHECK(parts.first() == tables[0].first());
    for (Index row = 0; row < 4; ++row)
      for (Index j = 0; j < 3; ++j) {
        std::vector<double> sorted;
        for (const Table<double>& table : tables) sorted.push_back(table.columns("beta")(row, j));
        std::sort(sorted.begin(), sorted.end());
        // A fraction p of the distances between neighbours lies below the quantile of p.
        const auto quantile = [&](double p) {
          const double rank = p * static_cast<double>(repetitions - 1);
          const auto below = static_cast<std::size_t>(std::floor(rank));
          const std::size_t above = std::min(below + 1, sorted.size() - 1);
          const double part = rank - std::floor(rank);
          return (1 - part) * sorted[below] + part * sorted[above];
        };
        CHECK(std::abs(parts.columns("beta.25")(row, j) - quantile(0.25)) <= 10 * eps);
        CHECK(std::abs(parts.columns("beta.50")(row, j) - quantile(0.50)) <= 10 * eps);
        CHECK(std::abs(parts.columns("beta.75")(row, j) - quantile(0.75)) <= 10 * eps);
      }
  }
  SECTION("a repetition that diverged does not spoil the others") {
    const auto with = [](std::initializer_list<double> values) {
      std::vector<Table<double>> tables;
      for (const double value : values) {
        tables.emplace_back("t");
        tables.back().add_quantity("q");
        tables.back().add_row(0.0, {Vector<double>::Constant(1, value)});
      }
      return quartiles(tables);
    };
    const double nan = std::nan("");
    CHECK(with({1, infinity, 2})["q.50"][0] == 2.0);
    CHECK(with({infinity, 1, infinity})["q.50"][0] == infinity);
    CHECK(with({nan, 3, 2, 1, 0})["q.50"][0] == 2.0);
    CHECK(with({3, nan, 1, 2, 0})["q.50"][0] == 2.0);
    CHECK(with({1, nan, infinity})["q.50"][0] == infinity);
  }
  CHECK_THROWS_AS(quartiles(std::vector<Table<double>>{}), ArgumentError);
  CHECK_THROWS_AS(quartiles(std::vector<Table<double>>{random_table(random, 4), random_table(random, 3)}),
                  ArgumentError);
}

TEST_CASE("a table as CSV is read back to the bit") {
  RandomStream random(812);
  const TemporaryFolder folder;
  const Table<double> table = random_table(random, 5);
  write_csv(folder.path() / "table.csv", table);
  std::istringstream lines(content_of(folder.path() / "table.csv"));
  std::string line;
  REQUIRE(std::getline(lines, line));
  CHECK(line == "t,loss,beta[0],beta[1],beta[2]");
  for (Index row = 0; row < 5; ++row) {
    REQUIRE(std::getline(lines, line));
    std::istringstream cells(line);
    std::string cell;
    std::vector<double> numbers;
    while (std::getline(cells, cell, ',')) numbers.push_back(std::stod(cell));
    REQUIRE(numbers.size() == 5);
    CHECK(numbers[0] == table.first()[row]);
    CHECK(numbers[1] == table["loss"][row]);
    for (Index j = 0; j < 3; ++j) CHECK(numbers[static_cast<std::size_t>(2 + j)] == table.columns("beta")(row, j));
  }
  CHECK_FALSE(std::getline(lines, line));
  CHECK_THROWS_AS(write_csv(folder.path() / "no" / "table.csv", table), FileError);
}

TEST_CASE("names with commas and quotes are quoted in CSV") {
  const TemporaryFolder folder;
  Table<double> table("t");
  table.add_quantity("a, \"b\"");
  table.add_row(1.0, {Vector<double>::Constant(1, 2.0)});
  write_csv(folder.path() / "table.csv", table);
  CHECK(content_of(folder.path() / "table.csv") == "t,\"a, \"\"b\"\"\"\n1,2\n");
}

TEST_CASE("a matrix for NumPy") {
  RandomStream random(813);
  const TemporaryFolder folder;
  const Matrix<double> values = random_matrix(random, 3, 4);
  write_npy(folder.path() / "values.npy", values);
  const std::string content = content_of(folder.path() / "values.npy");
  REQUIRE(content.size() > 10);
  CHECK(content.substr(0, 8) == std::string("\x93NUMPY\x01\0", 8));
  const auto length = static_cast<std::size_t>(static_cast<unsigned char>(content[8])) +
                      256 * static_cast<std::size_t>(static_cast<unsigned char>(content[9]));
  // The format: the header ends with a line feed, and what follows begins at a multiple of 64.
  CHECK((10 + length) % 64 == 0);
  const std::string header = content.substr(10, length);
  CHECK(header.back() == '\n');
  CHECK(header.find("'shape': (3, 4)") != std::string::npos);
  CHECK(header.find("'fortran_order': True") != std::string::npos);
  CHECK(header.find("f8'") != std::string::npos);
  REQUIRE(content.size() == 10 + length + 12 * sizeof(double));
  CHECK(std::memcmp(content.data() + 10 + length, values.data(), 12 * sizeof(double)) == 0);
  write_npy(folder.path() / "float.npy", Matrix<float>(values.cast<float>()));
  CHECK(content_of(folder.path() / "float.npy").find("f4'") != std::string::npos);
}
