#include "richflow/sweep/grid.hpp"

#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "richflow/core/error.hpp"
#include "support/catch.hpp"

using namespace richflow;

TEST_CASE("the cells of a grid are all combinations, the last axis running fastest") {
  const Grid grid({Axis{"N", {50.0, 60.0}}, Axis{"alpha", {0.1, 0.2, 0.3}}, seed_axis(4)});
  REQUIRE(grid.size() == 24);
  Index i = 0;
  for (const double n : {50.0, 60.0})
    for (const double alpha : {0.1, 0.2, 0.3})
      for (Index seed = 0; seed < 4; ++seed, ++i) {
        const Cell cell = grid.cell(i);
        CHECK(cell.index() == i);
        CHECK(cell["N"] == n);
        CHECK(cell["alpha"] == alpha);
        CHECK(cell.integer("seed") == seed);
        CHECK(cell.position(2) == seed);
      }
  CHECK(grid.cell(23).describe() == "N = 60, alpha = 0.29999999999999999, seed = 3");
}

TEST_CASE("a part of a grid keeps the numbers of its cells") {
  const Grid grid({Axis{"N", {50.0, 60.0}}, seed_axis(4)});
  const Grid part = grid.where([](const Cell& cell) { return cell["N"] == 50.0 || cell["seed"] < 1.0; });
  REQUIRE(part.size() == 5);
  CHECK(part.cell(4).index() == 4);
  CHECK(part.cell(4)["N"] == 60.0);
  const Grid smaller = part.where([](const Cell& cell) { return cell["N"] == 60.0; });
  REQUIRE(smaller.size() == 1);
  CHECK(smaller.cell(0).index() == 4);
}

TEST_CASE("a cell's random stream belongs to its values, wherever they stand in the grid") {
  const Grid small({Axis{"N", {50.0, 60.0}}, seed_axis(3)});
  const Grid large({Axis{"seed", {2.0, 0.0, 7.0, 1.0}}, Axis{"N", {60.0, 40.0, 50.0}}});
  std::set<std::uint64_t> streams;
  Index found = 0;
  for (Index i = 0; i < large.size(); ++i) {
    const Cell cell = large.cell(i);
    streams.insert(cell.stream());
    for (Index j = 0; j < small.size(); ++j)
      if (small.cell(j)["N"] == cell["N"] && small.cell(j)["seed"] == cell["seed"]) {
        CHECK(small.cell(j).stream() == cell.stream());
        ++found;
      }
  }
  CHECK(found == small.size());
  CHECK(streams.size() == static_cast<std::size_t>(large.size()));
  // Which value stands on which axis matters.
  CHECK(Grid({Axis{"a", {1.0}}, Axis{"b", {2.0}}}).cell(0).stream() !=
        Grid({Axis{"a", {2.0}}, Axis{"b", {1.0}}}).cell(0).stream());
}

TEST_CASE("ill-formed grids are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(Grid({}), ArgumentError);
  CHECK_THROWS_WITH(Grid({Axis{"N", {}}}), test_support::text_contains("'N' has no values"));
  CHECK_THROWS_WITH(Grid({Axis{"N", {1.0, 2.0, 1.0}}}), test_support::text_contains("value 1 twice"));
  CHECK_THROWS_AS(Grid({Axis{"N", {0.0, -0.0}}}), ArgumentError);
  CHECK_THROWS_AS(Grid({Axis{"N", {nan}}}), NonFiniteError);
  CHECK_THROWS_WITH(Grid({Axis{"N", {1.0}}, Axis{"N", {2.0}}}), test_support::text_contains("two axes are named 'N'"));
  CHECK_THROWS_AS(Grid({Axis{"a,b", {1.0}}}), ArgumentError);
  CHECK_THROWS_AS(Grid({Axis{"", {1.0}}}), ArgumentError);
  CHECK_THROWS_AS(seed_axis(0), ArgumentError);
  std::vector<Axis> huge;
  for (int k = 0; k < 7; ++k) {
    huge.push_back(seed_axis(1000));
    huge.back().name = std::string(1, static_cast<char>('a' + k));
  }
  CHECK_THROWS_AS(Grid(huge), ArgumentError);

  const Grid grid({Axis{"x", {1.5}}});
  CHECK_THROWS_AS(grid.where([](const Cell&) { return false; }), ArgumentError);
  CHECK_THROWS_AS(grid.cell(1), ArgumentError);
  CHECK_THROWS_AS(grid.cell(-1), ArgumentError);
  CHECK_THROWS_WITH(grid.cell(0)["y"], test_support::text_contains("no axis is named 'y'; there are: x"));
  CHECK_THROWS_AS(grid.cell(0).integer("x"), ArgumentError);
}
