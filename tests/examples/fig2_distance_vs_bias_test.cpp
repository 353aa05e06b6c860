#include "fig2_distance_vs_bias.hpp"

#include <cmath>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;
using test_support::near;

TEST_CASE("figure 2: the claims of the paper hold, and the curves have their closed forms") {
  const Fig2 figure = fig2_distance_vs_bias();
  CHECK(figure.claims.size() == 6);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
  }
  REQUIRE(figure.curve.size() == 1001);
  const Fig2Point& zero = figure.curve[500];
  CHECK(zero.z == 0.0);
  CHECK(zero.q == 0.0);
  CHECK(zero.r == 0.0);
  CHECK(figure.curve.front().q_rescaled == 1.0);
  CHECK(figure.curve.back().r_rescaled == 1.0);
  for (const Fig2Point& point : figure.curve) {
    if (std::abs(point.z) < 1.0) continue;  // the textbook form below cancels near 0
    const double z = point.z;
    CHECK_THAT(point.q, near(2.0 - std::sqrt(4.0 + z * z) + z * std::asinh(z / 2.0), 1e-13, 0.0));
    // r is a root of the paper's quartic.
    const double u = point.r;
    const double terms[] = {u * u * u * u, -6.0 * u * u * u, (12.0 - 2.0 * z * z) * u * u, -(8.0 + 10.0 * z * z) * u,
                            z * z + z * z * z * z};
    double sum = 0.0, size = 0.0;
    for (const double term : terms) {
      sum += term;
      size += std::abs(term);
    }
    CHECK(std::abs(sum) <= 1e-13 * size);
  }
}

TEST_CASE("figure 2: the second panel goes from the squared l2 norm to the l1 norm") {
  Fig2Options options;
  options.dimension = 49;
  const Fig2 figure = fig2_distance_vs_bias(options);
  // alpha = 100: both are the squared l2 norm up to alpha^-4.
  CHECK_THAT(figure.to_l1.back().excess_q, near(6.0, 1e-6, 0.0));
  CHECK_THAT(figure.to_l1.back().excess_r, near(6.0, 1e-6, 0.0));
  for (std::size_t k = 1; k < figure.to_l1.size(); ++k) {
    // Growing, up to the rounding of the difference to 1.
    CHECK(figure.to_l1[k].excess_q >= figure.to_l1[k - 1].excess_q - 1e-14);
    CHECK(figure.to_l1[k].excess_r >= figure.to_l1[k - 1].excess_r - 1e-14);
  }
}

TEST_CASE("figure 2 writes its tables and refuses invalid resolutions") {
  const test_support::TemporaryFolder folder;
  const Fig2 figure = fig2_distance_vs_bias({.num_z = 11, .num_alpha = 5, .dimension = 4});
  write_fig2_tables(figure, folder.path());
  check_picture(fig2_picture(), folder.path());
  const CsvTable table = read_csv(folder.path() / "fig2.csv");
  CHECK(table.columns == std::vector<std::string>{"z", "q", "r", "q_rescaled", "r_rescaled"});
  CHECK(table.values.rows() == 11);
  CHECK(read_csv(folder.path() / "fig2_l1.csv").values.rows() == 5);
  CHECK_THROWS_AS(fig2_distance_vs_bias({.num_z = 10}), richflow::ArgumentError);
  CHECK_THROWS_AS(fig2_distance_vs_bias({.num_alpha = 1}), richflow::ArgumentError);
  CHECK_THROWS_AS(fig2_distance_vs_bias({.dimension = 1}), richflow::ArgumentError);
}
