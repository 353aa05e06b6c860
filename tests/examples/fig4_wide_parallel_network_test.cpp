#include "fig4_wide_parallel_network.hpp"

#include <cmath>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;

namespace {

Fig4Options small_options() {
  Fig4Options options;
  options.seed = 2;
  options.num_seeds = 12;
  options.dimension = 5;
  options.num_samples = 2;
  options.per_decade = 1;
  return options;
}

}  // namespace

TEST_CASE("figure 4: the distance from the minimizer falls like the root of the width") {
  const Fig4Sweeps sweeps = run_fig4_sweeps(small_options(), SweepRunner(0));
  const Fig4 figure = make_fig4(sweeps);
  REQUIRE(figure.points.size() == 6);
  CHECK(figure.points.front().width == 10);
  CHECK(figure.points.back().width == 1'000'000);
  for (std::size_t n = 1; n < figure.points.size(); ++n) {
    CHECK(figure.points[n].diagonal.median < figure.points[n - 1].diagonal.median);
    CHECK(figure.points[n].commuting.median < figure.points[n - 1].commuting.median);
  }
  // The theorem holds for both; the slope of medians of twelve has an error of a few hundredths.
  CHECK(figure.claims.size() == 4);
  for (const Claim& claim : figure.claims) {
    INFO(claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
  }

  const test_support::TemporaryFolder folder;
  write_fig4_tables(figure, sweeps, folder.path());
  const std::string text = test_support::content_of(folder.path() / "fig4.csv");
  CHECK(text.substr(0, text.find('\n')) == "k,seed,distance_to_minimizer,measurements");
  CHECK(read_csv(folder.path() / "fig4_medians.csv").values.rows() == 6);
  check_picture(fig4_picture(figure), folder.path());
}

TEST_CASE("figure 4 does not depend on the number of threads") {
  Fig4Options options = small_options();
  options.num_seeds = 2;
  const Fig4Sweeps one = run_fig4_sweeps(options, SweepRunner(1));
  const Fig4Sweeps three = run_fig4_sweeps(options, SweepRunner(3));
  CHECK(one.diagonal.csv() == three.diagonal.csv());
  CHECK(one.commuting.csv() == three.commuting.csv());
}

TEST_CASE("figure 4 refuses invalid sizes") {
  Fig4Options options = small_options();
  options.num_samples = 5;
  CHECK_THROWS_AS(run_fig4_sweeps(options, SweepRunner(1)), richflow::ArgumentError);
  options = small_options();
  options.mu = 0.0;
  CHECK_THROWS_AS(run_fig4_sweeps(options, SweepRunner(1)), richflow::ArgumentError);
  options = small_options();
  options.per_decade = 0;
  CHECK_THROWS_AS(run_fig4_sweeps(options, SweepRunner(1)), richflow::ArgumentError);
}
