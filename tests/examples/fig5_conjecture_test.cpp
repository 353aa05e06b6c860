#include "fig5_conjecture.hpp"

#include <algorithm>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;

namespace {

Fig5ConjectureOptions small_options() {
  Fig5ConjectureOptions options;
  options.seed = 4;
  options.num_seeds = 3;
  options.dimension = 5;
  options.num_observed = 15;
  options.num_commuting = 2;
  options.per_decade = 1;
  return options;
}

}  // namespace

TEST_CASE("beyond figure 5: the theorem holds where measurements commute, and the kernel end does anyway") {
  const Fig5ConjectureSweeps sweeps = run_fig5_conjecture_sweeps(small_options(), SweepRunner(0));
  const Fig5Conjecture figure = make_fig5_conjecture(sweeps);
  REQUIRE(figure.points.size() == 13);
  double largest = 0.0;
  for (const ConjecturePoint& point : figure.points) {
    CAPTURE(point.strength);
    // Some tens of steps that are accurate to 1e-6 each, of which most of the error dies out.
    CHECK(point.commuting_distance <= 1e-5);
    // argmin is the minimizer: nothing is below it, but by what the flow, which stops at L = 1e-18 |y|^2, leaves
    // unfitted.
    CHECK(point.excess >= -1e-8);
    if (point.strength > 99.0) CHECK(point.distance.median <= 1e-5);
    largest = std::max(largest, point.distance.median);
  }
  CHECK(largest > 1e-2);

  const test_support::TemporaryFolder folder;
  write_fig5_conjecture_tables(figure, folder.path());
  CHECK(read_csv(folder.path() / "fig5_conjecture.csv").values.rows() == 13);
  check_picture(fig5_conjecture_picture(), folder.path());
}

TEST_CASE("beyond figure 5: threads do not matter, invalid sizes are refused") {
  Fig5ConjectureOptions options = small_options();
  options.num_seeds = 1;
  CHECK(run_fig5_conjecture_sweeps(options, SweepRunner(1)).completion.csv() ==
        run_fig5_conjecture_sweeps(options, SweepRunner(2)).completion.csv());
  options.num_seeds = 0;
  CHECK_THROWS_AS(run_fig5_conjecture_sweeps(options, SweepRunner(1)), richflow::ArgumentError);
  options = small_options();
  options.num_commuting = 5;
  CHECK_THROWS_AS(run_fig5_conjecture_sweeps(options, SweepRunner(1)), richflow::ArgumentError);
}
