#include "beyond_linear_networks.hpp"

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

TEST_CASE("beyond linear networks: the claims hold, the tables are written and drawn") {
  BeyondLinearNetworksOptions options = beyond_linear_networks_options(Effort::quick);
  options.num_alphas = 5;
  options.num_problems = 4;
  const BeyondLinearNetworks figure = beyond_linear_networks(options);
  CHECK(figure.claims.size() == 22);
  for (const Claim& claim : figure.claims) {
    INFO(claim.figure << ": " << claim.claim << ": " << claim.measured);
    CHECK(claim.holds);
    CHECK(beyond_linear_networks_panels.count(claim.figure) == 1);
  }

  // Six simulated lambda, then the curve. Lazy: R of the start moves by s^2 + q^2 over lambda^2 for modes s and q.
  REQUIRE(figure.lazy.size() == 6 + 101);
  const LazyPoint& lazy = figure.lazy[5];
  CHECK(lazy.lambda == 500);
  double squares = 0;
  for (const double s : {2.0, 1.0, 0.5})
    for (const double q : {2.0, 1.0, 0.5}) squares += std::pow(s * s + q * q, 2) / 9;
  // Up to (2 s / lambda)^2 / 4.
  CHECK_THAT(lazy.simulated_kernel_change, near(std::sqrt(squares) / (500.0 * 500.0), 2e-5, 0));
  CHECK_THAT(lazy.simulated_half_time_ratio, near(1, 0, 1e-2));

  const test_support::TemporaryFolder folder;
  write_beyond_linear_networks_tables(figure, folder.path());
  const CsvTable modes = read_csv(folder.path() / "beyond_linear_networks_lambda.csv");
  CHECK(modes.values.rows() == 4 * options.num_times);
  CHECK(modes.columns == std::vector<std::string>{"lambda", "time", "exact_0", "exact_1", "exact_2", "simulated_0",
                                                  "simulated_1", "simulated_2"});
  CHECK(read_csv(folder.path() / "beyond_linear_networks_start.csv").values.rows() == options.num_times);
  CHECK(read_csv(folder.path() / "beyond_linear_networks_depth.csv").values.rows() == 3 * options.num_times);
  CHECK(read_csv(folder.path() / "beyond_linear_networks_symmetric.csv").values.rows() == 4 * 5);
  check_picture(beyond_linear_networks_picture(figure), folder.path());
}

TEST_CASE("beyond linear networks refuses invalid sizes") {
  for (int BeyondLinearNetworksOptions::*size :
       {&BeyondLinearNetworksOptions::num_times, &BeyondLinearNetworksOptions::num_alphas,
        &BeyondLinearNetworksOptions::num_problems}) {
    BeyondLinearNetworksOptions options = beyond_linear_networks_options(Effort::quick);
    options.*size = 0;
    CHECK_THROWS_AS(beyond_linear_networks(options), richflow::ArgumentError);
  }
}
