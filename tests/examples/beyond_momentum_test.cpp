#include "beyond_momentum.hpp"

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

BeyondMomentumOptions small_momentum() {
  BeyondMomentumOptions options;
  options.seed = 5;
  options.num_samples = 8;
  options.dimension = 16;
  options.num_nonzero = 2;
  options.alpha = 0.2;
  options.series = {{0.0, {4e-4, 8e-4}}, {0.5, {4e-4, 8e-4}}, {0.9, {1e-2, 0.1, 0.3}}};
  return options;
}

}  // namespace

TEST_CASE("momentum: every claim holds for another problem, and one lambda stands for step and momentum") {
  const BeyondMomentum figure = beyond_momentum(small_momentum());
  CHECK(figure.claims.size() == 8);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
  }
  REQUIRE(figure.points.size() == 7);
  CHECK_THAT(figure.points[0].step, near(8e-4, 1e-12, 0));
  CHECK_THAT(figure.points[2].step, near(4e-4 / 3, 1e-12, 0));
  // Descent and momentum of one lambda differ in second order only.
  CHECK_THAT(figure.points[2].moved / figure.points[0].moved, near(1, 0.05, 0));
  CHECK(figure.points.back().sign_changes > 0);
  CHECK(figure.first_crossing <= 0.3);
}

TEST_CASE("momentum writes its table and its picture, and refuses invalid sizes") {
  const test_support::TemporaryFolder folder;
  BeyondMomentumOptions options = small_momentum();
  options.series = {{0.5, {2e-3, 4e-3}}};
  const BeyondMomentum figure = beyond_momentum(options);
  // No run crosses zero: that claim, and no other number, is missing.
  CHECK(std::isinf(figure.first_crossing));
  CHECK_FALSE(all_hold(figure.claims));
  write_beyond_momentum_tables(figure, folder.path());
  check_picture(beyond_momentum_picture(figure, options), folder.path());
  CHECK(read_csv(folder.path() / "beyond_momentum.csv").values.rows() == 2);
  options.series = {{0.5, {2e-3, 1e-3}}};
  CHECK_THROWS_AS(beyond_momentum(options), richflow::ArgumentError);
  options.series = {{1.0, {1e-3, 2e-3}}};
  CHECK_THROWS_AS(beyond_momentum(options), richflow::ArgumentError);
}
