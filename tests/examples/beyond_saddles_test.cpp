#include "beyond_saddles.hpp"

#include <algorithm>
#include <cmath>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using test_support::check_picture;
using test_support::near;

namespace {

BeyondSaddlesOptions small_saddles() {
  BeyondSaddlesOptions options;
  options.num_times = 60;
  options.num_scales = 5;
  options.num_problems = 30;
  return options;
}

}  // namespace

TEST_CASE("beyond saddles: the claims hold, and the flow nears the steps as alpha falls") {
  const BeyondSaddles figure = beyond_saddles(small_saddles());
  CHECK(figure.claims.size() == 16);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
    CHECK(beyond_saddles_panels.count(claim.figure) == 1);
  }
  // The table of theory: 1/88, 3/55, 4/35 and .7513.
  REQUIRE(figure.at_depth_2.jumps.size() == 4);
  CHECK_THAT(figure.at_depth_2.jumps[0].time, near(1.0 / 88.0, 1e-14, 0));
  CHECK_THAT(figure.at_depth_2.jumps[1].time, near(3.0 / 55.0, 1e-14, 0));
  CHECK_THAT(figure.at_depth_2.jumps[2].time, near(4.0 / 35.0, 1e-14, 0));
  CHECK_THAT(figure.at_depth_2.jumps[3].time, near(0.7513, 1e-4, 0));
  CHECK_THAT(figure.exponent, near(8.0 / 9.0, 1e-12, 0));

  // How far the curves are from the steps, on average over times that are even in the logarithm.
  for (const richflow::SaddlePath<>* path : {&figure.at_depth_2, &figure.at_depth_3}) {
    std::vector<double> means;
    double log_alpha = 1.0;
    Index count = 0;
    for (const SaddleFlowPoint& point : figure.flows) {
      if (point.depth != path->depth) continue;
      if (point.log_alpha != log_alpha) {
        means.push_back(0.0);
        count = 0;
        log_alpha = point.log_alpha;
      }
      richflow::Vector<double> step = richflow::Vector<double>::Zero(6);
      for (const auto& jump : path->jumps)
        if (jump.time <= point.time) step = jump.beta(6);
      ++count;
      means.back() += (point.beta - step).norm() / 60.0;
    }
    CHECK(count == 60);
    REQUIRE(means.size() == 3);
    CHECK(means[0] > 2.0 * means[1]);
    CHECK(means[1] > 2.0 * means[2]);
  }
}

TEST_CASE("beyond saddles writes its tables and draws them, and refuses invalid sizes") {
  const BeyondSaddles figure = beyond_saddles(small_saddles());
  const test_support::TemporaryFolder folder;
  write_beyond_saddles_tables(figure, folder.path());
  // Two paths of four jumps as steps, three scales at each depth, three depths.
  CHECK(read_csv(folder.path() / "beyond_saddles_path.csv").values.rows() == 2 * 10);
  const CsvTable flow = read_csv(folder.path() / "beyond_saddles_flow.csv");
  CHECK(flow.values.rows() == 6 * 60);
  CHECK(flow.columns == std::vector<std::string>{"depth", "log_alpha", "time", "loss", "beta_0", "beta_1", "beta_2",
                                                 "beta_3", "beta_4", "beta_5"});
  CHECK(read_csv(folder.path() / "beyond_saddles_lasso.csv").values.rows() == 400);
  CHECK(read_csv(folder.path() / "beyond_saddles_distance.csv").values.rows() == 3 * 5);
  check_picture(beyond_saddles_picture(figure), folder.path());

  for (int BeyondSaddlesOptions::*size :
       {&BeyondSaddlesOptions::num_times, &BeyondSaddlesOptions::num_scales, &BeyondSaddlesOptions::num_problems}) {
    BeyondSaddlesOptions options = small_saddles();
    options.*size = 0;
    CHECK_THROWS_AS(beyond_saddles(options), richflow::ArgumentError);
  }
}
