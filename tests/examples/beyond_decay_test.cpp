#include "beyond_decay.hpp"

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

BeyondDecayOptions small_decay() {
  BeyondDecayOptions options;
  options.num_samples = 12;
  options.dimension = 24;
  options.num_nonzero = 2;
  options.scales = {10.0, 1e8};
  options.lambdas = {0.1, 0.01};
  options.num_times = 30;
  options.num_scales = 30;
  return options;
}

}  // namespace

TEST_CASE("weight decay: every claim holds for other problems, and the curves are those of the theory") {
  BeyondDecayOptions options = small_decay();
  for (const std::uint64_t seed : {3U, 4U}) {
    options.seed = seed;
    const BeyondDecay figure = beyond_decay(options);
    CHECK(figure.claims.size() == 7);
    for (const Claim& claim : figure.claims) {
      INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
      CHECK(claim.holds);
    }
    // alpha e^(-2 lambda t*) is the same for all: the times differ by log(1e7) / (2 lambda).
    CHECK_THAT(figure.crossings[1].measured - figure.crossings[0].measured, near(std::log(1e7) / 0.02, 1e-3, 0));
    // The plateau of the larger scale is the error of the limit at a large scale, and the end that at a small one.
    CHECK_THAT(figure.times[40].error, near(figure.transition.high_value, 0.2, 0));
    CHECK(figure.times.back().error < 0.1 * figure.transition.high_value);
  }
}

TEST_CASE("weight decay writes its tables and its picture, and refuses invalid sizes") {
  const test_support::TemporaryFolder folder;
  const BeyondDecayOptions options = small_decay();
  const BeyondDecay figure = beyond_decay(options);
  write_beyond_decay_tables(figure, folder.path());
  check_picture(beyond_decay_picture(figure, options), folder.path());
  CHECK(read_csv(folder.path() / "beyond_decay.csv").values.rows() == 60);
  CHECK(read_csv(folder.path() / "beyond_decay_crossings.csv").values.rows() == 4);
  CHECK(read_csv(folder.path() / "beyond_decay_collapse.csv").columns ==
        std::vector<std::string>{"lambda", "scale", "error", "sweep"});
  BeyondDecayOptions wrong = options;
  wrong.lambdas = {0.1};
  CHECK_THROWS_AS(beyond_decay(wrong), richflow::ArgumentError);
  wrong = options;
  wrong.num_scales = 1;
  CHECK_THROWS_AS(beyond_decay(wrong), richflow::ArgumentError);
}
