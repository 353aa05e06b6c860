#include "beyond_descent.hpp"

#include <algorithm>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;
using test_support::near;

namespace {

BeyondDescentOptions small_beyond_descent(std::vector<double> fractions) {
  BeyondDescentOptions options;
  options.seed = 3;
  options.num_seeds = 1;
  options.fractions = std::move(fractions);
  return options;
}

}  // namespace

TEST_CASE("beyond descent: the prediction holds up to the edge of stability, where the flow's limit is far") {
  const BeyondDescent figure =
      make_beyond_descent(run_beyond_descent_sweeps(small_beyond_descent({0.1, 0.2, 0.9, 20.0}), SweepRunner(0)));
  CHECK(figure.claims.size() == 11);
  REQUIRE(figure.curves.size() == 4);
  for (const DescentCurve& curve : figure.curves) {
    CAPTURE(curve.problem, curve.algorithm);
    REQUIRE(curve.points.size() == 4);
    for (std::size_t i = 0; i < 3; ++i) {
      const DescentPoint& point = curve.points[i];
      CAPTURE(point.fraction);
      CHECK(point.ended == 1.0);
      CHECK(point.from_predicted <= 1e-11);
      CHECK(point.nearest_flow >= 1e-3);
      CHECK(point.nearest_flow == point.from_flow.median);
      // k shrinks, everywhere.
      CHECK(point.log_k_on < 0.0);
      CHECK(point.log_k_off < 0.0);
      // By definition: the step is a fraction of 2 / sharpness.
      if (curve.algorithm == "descent")
        CHECK_THAT(point.edge, near(2.0 * point.fraction * point.sharpness, 1e-12, 0.0));
      if (curve.algorithm == "descent") CHECK(point.bound <= point.edge / 2.0);
    }
    CHECK(curve.points[2].from_flow.median > curve.points[0].from_flow.median);
    // Far beyond the edge nothing fits.
    CHECK(curve.points[3].ended == 0.0);
  }
}

TEST_CASE("beyond descent writes its tables, whatever the threads, and refuses invalid sizes") {
  const BeyondDescentOptions options = small_beyond_descent({0.3, 0.9});
  const BeyondDescentSweeps sweeps = run_beyond_descent_sweeps(options, SweepRunner(2));
  const BeyondDescentSweeps alone = run_beyond_descent_sweeps(options, SweepRunner(1));
  for (std::size_t i = 0; i < sweeps.size(); ++i) CHECK(sweeps[i].csv() == alone[i].csv());
  const test_support::TemporaryFolder folder;
  write_beyond_descent_tables(make_beyond_descent(sweeps), folder.path());
  for (const std::string& table : beyond_descent_tables) CHECK(read_csv(folder.path() / table).values.rows() == 2);
  check_picture(beyond_descent_picture(), folder.path());

  const auto refused = [](const BeyondDescentOptions& invalid) {
    CHECK_THROWS_AS(run_beyond_descent_sweeps(invalid, SweepRunner(1)), richflow::ArgumentError);
  };
  refused(small_beyond_descent({0.5}));
  refused(small_beyond_descent({0.5, 0.5}));
  refused(small_beyond_descent({-0.5, 0.5}));
  BeyondDescentOptions none = options;
  none.num_seeds = 0;
  refused(none);
}
