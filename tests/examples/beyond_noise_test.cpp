#include "beyond_noise.hpp"

#include <cmath>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;
using test_support::near;

namespace {

BeyondNoiseOptions small_noise() {
  BeyondNoiseOptions options;
  options.seed = 5;
  options.num_runs = 2;
  options.num_samples = 12;
  options.dimension = 24;
  options.num_nonzero = 2;
  options.step = 2e-3;
  options.levels = {1.0, 2.0};
  options.steps = {1000, 2000, 4000, 8000};
  return options;
}

}  // namespace

TEST_CASE("label noise: every claim holds for another problem, and log alpha falls as the theory says") {
  const BeyondNoise figure = beyond_noise(small_noise());
  CHECK(figure.claims.size() == 8);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
  }
  REQUIRE(figure.points.size() == 8);
  // log alpha falls by 8 step^2 delta^2 |X_i|^2 per step, where E|X_i|^2 = N: the mean over 24 columns is within a
  // fifth of that, the next order and the residuals add up to a tenth.
  const double moved = figure.points[3].log_scale - std::log(0.1);
  CHECK_THAT(moved, near(-8 * 4e-6 * 12 * 8000, 0.3, 0));
  // The sweep ends where the flow is, without noise.
  CHECK_THAT(figure.sweep.front().error, near(figure.flow, 1e-9, 0));
}

TEST_CASE("label noise writes its tables and its picture, and refuses invalid sizes") {
  const test_support::TemporaryFolder folder;
  BeyondNoiseOptions options = small_noise();
  options.num_runs = 1;
  options.steps = {1000, 2000};
  const BeyondNoise figure = beyond_noise(options);
  write_beyond_noise_tables(figure, folder.path());
  check_picture(beyond_noise_picture(figure, options), folder.path());
  CHECK(read_csv(folder.path() / "beyond_noise.csv").values.rows() == 4);
  CHECK(read_csv(folder.path() / "beyond_noise_sweep.csv").columns == std::vector<std::string>{"log_alpha", "error"});
  options.steps = {2000, 1000};
  CHECK_THROWS_AS(beyond_noise(options), richflow::ArgumentError);
  options.steps = {1000};
  options.num_runs = 0;
  CHECK_THROWS_AS(beyond_noise(options), richflow::ArgumentError);
}
