#include "beyond_alignment.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <set>

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

BeyondAlignmentOptions small_alignment() {
  BeyondAlignmentOptions options;
  options.width = 60;
  options.num_times = 30;
  options.num_bins = 24;
  options.num_rates = 3;
  options.num_scales = 4;
  options.num_problems = 3;
  return options;
}

}  // namespace

TEST_CASE("beyond alignment: the claims hold, and neurons of a tiny start gather in four directions") {
  const BeyondAlignment figure = beyond_alignment(small_alignment());
  CHECK(figure.claims.size() == 18);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
    CHECK(beyond_alignment_panels.count(claim.figure) == 1);
  }
  // Two of each sign, one on the ray that is orthogonal to the sample at 350 degrees.
  REQUIRE(figure.groups.size() == 4);
  std::set<int> degrees;
  for (const auto& group : figure.groups)
    degrees.insert(group.sign *
                   static_cast<int>(std::lround(std::atan2(group.direction[1], group.direction[0]) * 180.0 / M_PI)));
  CHECK(degrees == std::set<int>{-74, -7, 100, 165});

  // How far apart neighbouring angles are on average: evenly at first, in four heaps half-way.
  const auto spread = [](const AlignmentFlowPoint& point) {
    std::vector<double> angles(point.angles.begin(), point.angles.end());
    std::sort(angles.begin(), angles.end());
    int apart = 0;
    for (std::size_t k = 1; k < angles.size(); ++k) apart += angles[k] - angles[k - 1] > 0.01 ? 1 : 0;
    return apart;
  };
  const auto half =
      std::find_if(figure.tiny.begin(), figure.tiny.end(), [](const auto& point) { return point.time > 0.5; });
  REQUIRE(half != figure.tiny.end());
  CHECK(spread(figure.tiny.front()) > 20);
  CHECK(spread(*half) <= 4);
  CHECK_THAT(half->loss, near(figure.tiny.front().loss, 1e-10, 0));
  CHECK(figure.tiny.back().loss < 1e-3 * half->loss);
  CHECK(spread(figure.large.back()) > 20);
  CHECK(figure.errors.size() == 9);
  CHECK(figure.turns.size() == 4);
}

TEST_CASE("beyond alignment writes its tables and draws them, and refuses invalid sizes") {
  const BeyondAlignment figure = beyond_alignment(small_alignment());
  const test_support::TemporaryFolder folder;
  write_beyond_alignment_tables(figure, folder.path());
  const CsvTable tiny = read_csv(folder.path() / "beyond_alignment_tiny.csv");
  REQUIRE(tiny.values.rows() == 30 * 24);
  CHECK(tiny.columns == std::vector<std::string>{"time", "angle", "share"});
  // Of each time all norms are in some bin.
  CHECK_THAT(tiny.values.col(2).head(24).sum(), near(1.0, 1e-14, 0));
  CHECK_THAT(tiny.values.col(2).sum(), near(30.0, 1e-14, 0));
  CHECK(read_csv(folder.path() / "beyond_alignment_large.csv").values.rows() == 30 * 24);
  CHECK(read_csv(folder.path() / "beyond_alignment_loss.csv").values.rows() == 2 * 30);
  CHECK(read_csv(folder.path() / "beyond_alignment_predicted.csv").values.rows() == 4);
  CHECK(read_csv(folder.path() / "beyond_alignment_errors.csv").values.rows() == 9);
  CHECK(read_csv(folder.path() / "beyond_alignment_turns.csv").values.rows() == 4);
  check_picture(beyond_alignment_picture(figure), folder.path());

  for (int BeyondAlignmentOptions::*size :
       {&BeyondAlignmentOptions::num_times, &BeyondAlignmentOptions::num_bins, &BeyondAlignmentOptions::num_rates,
        &BeyondAlignmentOptions::num_scales, &BeyondAlignmentOptions::num_problems}) {
    BeyondAlignmentOptions options = small_alignment();
    options.*size = 0;
    CHECK_THROWS_AS(beyond_alignment(options), richflow::ArgumentError);
  }
  BeyondAlignmentOptions odd = small_alignment();
  odd.width = 61;
  CHECK_THROWS_AS(beyond_alignment(odd), richflow::ArgumentError);
}
