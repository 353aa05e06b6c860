#include "richflow/problems/matrix_completion.hpp"

#include <Eigen/SVD>
#include <cmath>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "support/catch.hpp"

using namespace richflow;
using test_support::message_contains;

TEST_CASE("the defaults are the protocol of Figure 5") {
  const MatrixCompletion<> problem = matrix_completion({.seed = 4});
  const Dataset<>& data = problem.observations.dataset;
  CHECK(data.num_samples() == 60);
  CHECK(data.num_inputs() == 100);
  REQUIRE(problem.truth.rows() == 10);
  REQUIRE(problem.truth.cols() == 10);
  const Vector<double> spectrum = problem.truth.jacobiSvd().singularValues();
  CHECK(spectrum(1) <= 1e-14 * spectrum(0));
  std::set<std::pair<Index, Index>> seen;
  for (const auto [i, j] : data.measurements().places()) seen.emplace(i, j);
  CHECK(data.measurements().apply(problem.truth) == data.y());
  CHECK(seen.size() == 60);
  CHECK(matrix_completion({.seed = 4}).observations.dataset.y() == data.y());
  CHECK(matrix_completion({.seed = 4, .stream = 1}).observations.dataset.y() != data.y());
}

TEST_CASE("the rank, the shape and the number of observations are what was asked for") {
  const MatrixCompletion<> problem =
      matrix_completion({.rows = 7, .cols = 4, .rank = 3, .num_observed = 28, .seed = 1});
  const Vector<double> spectrum = problem.truth.jacobiSvd().singularValues();
  CHECK(spectrum(2) > 1e-3 * spectrum(0));
  CHECK(spectrum(3) <= 1e-13 * spectrum(0));
  CHECK(problem.observations.dataset.num_samples() == 28);  // everything
  CHECK(problem.observations.empty_rows.empty());
  CHECK(problem.observations.empty_cols.empty());
}

TEST_CASE("rows and columns without an observation are allowed and reported") {
  const auto observed = observed_entries<double>(4, 3, {{2, 0, 1.0}, {0, 0, -1.0}, {2, 2, 0.5}});
  CHECK(observed.empty_rows == std::vector<Index>{1, 3});
  CHECK(observed.empty_cols == std::vector<Index>{1});
  CHECK(observed.undetermined() ==
        "rows 1, 3 and column 1 have no observed entry: nothing determines them, and a flow from a small start leaves "
        "them near 0");
  CHECK(observed_entries<double>(1, 2, {{0, 1, 1.0}}).undetermined() ==
        "column 0 has no observed entry: nothing determines it, and a flow from a small start leaves it near 0");
  CHECK(observed_entries<double>(1, 1, {{0, 0, 1.0}}).undetermined().empty());
  CHECK(observed.num_repeated == 0);
  CHECK(observed.dataset.measurements().places() == std::vector<MatrixEntry>{{2, 0}, {0, 0}, {2, 2}});
  CHECK(observed.dataset.y() == Eigen::Vector3d(1.0, -1.0, 0.5));
}

TEST_CASE("an entry given again is dropped, with another value refused") {
  const auto observed = observed_entries<double>(2, 2, {{0, 1, 3.0}, {1, 1, 2.0}, {0, 1, 3.0}, {0, 1, 3.0}});
  CHECK(observed.num_repeated == 2);
  CHECK(observed.dataset.y() == Eigen::Vector2d(3.0, 2.0));
  CHECK_THROWS_MATCHES(observed_entries<double>(2, 2, {{0, 1, 3.0}, {1, 1, 2.0}, {0, 1, 3.5}}), ArgumentError,
                       message_contains("(0, 1) is given twice, as 3 and as 3.5"));
}

TEST_CASE("observations refuse bad input by place and value") {
  CHECK_THROWS_AS(observed_entries<double>(2, 2, {}), DimensionError);
  CHECK_THROWS_AS(observed_entries<double>(0, 2, {{0, 0, 1.0}}), DimensionError);
  CHECK_THROWS_MATCHES(observed_entries<double>(2, 3, {{0, 0, 1.0}, {0, 3, 1.0}}), ArgumentError,
                       message_contains("entry 1 is at (0, 3)"));
  CHECK_THROWS_AS(observed_entries<double>(2, 3, {{-1, 0, 1.0}}), ArgumentError);
  CHECK_THROWS_AS(observed_entries<double>(2, 3, {{0, 0, std::numeric_limits<double>::quiet_NaN()}}), NonFiniteError);
  CHECK_THROWS_AS(matrix_completion({.rows = 0}), DimensionError);
  CHECK_THROWS_MATCHES(matrix_completion({.rank = 11}), ArgumentError, message_contains("got 11"));
  CHECK_THROWS_MATCHES(matrix_completion({.num_observed = 101}), ArgumentError, message_contains("got 101"));
  CHECK_THROWS_AS(matrix_completion({.num_observed = 0}), ArgumentError);
}
