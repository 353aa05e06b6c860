#include "beyond_depth_completion.hpp"

#include <cmath>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using test_support::check_picture;
using test_support::message_contains;

namespace {

BeyondDepthCompletionOptions small_depth_completion() {
  BeyondDepthCompletionOptions options = beyond_depth_completion_options(Effort::quick);
  options.scales = {1.0, 1e-2, 1e-5};
  options.num_seeds = 12;
  options.widths = {5};
  return options;
}

}  // namespace

TEST_CASE("beyond depth and completion: the claims hold, for any number of threads, and are in the tables") {
  BeyondDepthCompletionOptions options = small_depth_completion();
  options.threads = 2;
  const BeyondDepthCompletion figure = beyond_depth_completion(options);
  CHECK(figure.claims.size() == 23);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
    CHECK(beyond_depth_completion_panels.count(claim.figure) == 1);
  }
  REQUIRE(figure.points.size() == 9);
  for (const DepthCompletionPoint& point : figure.points) {
    CHECK(point.effective_rank.q25 <= point.effective_rank.median);
    CHECK(point.effective_rank.median <= point.effective_rank.q75);
    // No direction is added to the truth's two by a start of 1e-5, at least three quarters of a direction by one of 1.
    CHECK((point.scale < 1.0 || point.effective_rank.median > 1.4));
  }

  const test_support::TemporaryFolder folder;
  write_beyond_depth_completion_tables(figure, folder.path());
  const CsvTable points = read_csv(folder.path() / "beyond_depth_completion.csv");
  CHECK(points.values.rows() == 9);
  CHECK(points.columns == std::vector<std::string>{"depth", "scale", "effective_rank_median", "effective_rank_q25",
                                                   "effective_rank_q75", "error_median", "error_q25", "error_q75"});
  CHECK(read_csv(folder.path() / "beyond_depth_completion_widths.csv").values.rows() == 3);
  CHECK(read_csv(folder.path() / "beyond_depth_completion_trace.csv").values.rows() == 27);
  const CsvTable runaway = read_csv(folder.path() / "beyond_depth_completion_runaway.csv");
  CHECK(runaway.values.rows() == static_cast<Index>(figure.runaway.size()));
  check_picture(beyond_depth_completion_picture(figure), folder.path());

  // The rest does not depend on them.
  options.widths = {};
  options.runaway_losses = {1e-2, 1e-2};
  options.threads = 1;
  options.num_seeds = 2;
  const auto alone = beyond_depth_completion(options);
  options.threads = 2;
  CHECK(beyond_depth_completion(options).points[4].error.median == alone.points[4].error.median);
}

TEST_CASE("beyond depth and completion refuses what makes no sense, by its name and value") {
  const auto check = [](const auto& change, const char* message) {
    BeyondDepthCompletionOptions options = small_depth_completion();
    change(options);
    CHECK_THROWS_MATCHES(beyond_depth_completion(options), richflow::ArgumentError, message_contains(message));
  };
  using Options = BeyondDepthCompletionOptions;
  check([](Options& options) { options.depths = {2, 1}; }, "a depth must be at least 2, got 1");
  check([](Options& options) { options.depths = {}; }, "no depth is given");
  check([](Options& options) { options.scales = {1.0, 0.0}; }, "the scale of a start must be positive, got 0");
  check([](Options& options) { options.scales = {1.0, -0.1}; }, "the scale of a start must be positive, got -0.1");
  check([](Options& options) { options.scales = {std::nan(""), 1.0}; }, "the scale of a start must be positive");
  check([](Options& options) { options.scales = {1.0}; }, "two scales");
  check([](Options& options) { options.num_seeds = 0; }, "num_seeds must be positive, got 0");
  check([](Options& options) { options.per_decade = 0; }, "per_decade must be positive, got 0");
  check([](Options& options) { options.num_observed = 9; },
        "num_observed = 9 entries leave a row of the 10 x 10 matrix unseen, which nothing determines");
  // Ten entries, one in each row and column, are one mask in five million.
  check([](Options& options) { options.num_observed = 10; }, "no observed entry");
  check([](Options& options) { options.runaway_losses = {1e-3}; }, "runaway_losses must be two, got 1");
}
