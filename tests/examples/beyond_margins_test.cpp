#include "beyond_margins.hpp"

#include <cmath>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;
using test_support::message_contains;

TEST_CASE("beyond margins: the problems are those of the reference table") {
  const std::vector<std::pair<MarginExample, std::string>> problems = {{MarginExample::all_support, "all_support"},
                                                                       {MarginExample::one_free, "one_free"},
                                                                       {MarginExample::two_optima, "two_optima"}};
  for (const auto& [which, name] : problems)
    CHECK(test_support::signed_rows(margin_example(which)) ==
          test_support::signed_rows(test_support::margin_data(name)));
}

TEST_CASE("beyond margins: kernel corner, plateau and their claims") {
  BeyondMarginsOptions options = beyond_margins_options(Effort::quick);
  options.num_scales = 5;
  options.num_losses = 4;
  options.threads = 2;
  const BeyondMargins figure = beyond_margins(options);
  REQUIRE(figure.plane.points.size() == 20);
  CHECK(all_hold(figure.claims));
  CHECK(figure.claims.size() == 9);
  // Large alpha: the l2 margin, up to 0.5 / |log L|; small alpha: the plateau at .692 of .894.
  const MarginPlanePoint& kernel = figure.plane.points[3];
  CHECK(kernel.scale.log() == 4.0);
  CHECK(kernel.log_loss == Approx(-1e4).epsilon(1e-12));
  CHECK(kernel.distance <= 1e-4);
  // alpha^2 = 3000 beside margins of 1e4: not quite the kernel regime.
  CHECK(kernel.record.l2_margin * figure.plane.l2.beta.norm() >= 0.999);
  const MarginPlanePoint& rich = figure.plane.points[19];
  CHECK(rich.record.l1_margin == Approx(0.692).epsilon(5e-3));
  CHECK(1 / figure.plane.l1.beta.lpNorm<1>() == Approx(0.894).epsilon(1e-3));

  const test_support::TemporaryFolder folder;
  write_beyond_margins_tables(figure, folder.path());
  CHECK(read_csv(folder.path() / "beyond_margins.csv").values.rows() == 20);
  check_picture(beyond_margins_picture(figure, options), folder.path());
}

TEST_CASE("beyond margins: threads do not matter, invalid sizes are refused") {
  MarginPlaneOptions options;
  for (const double log_alpha : {1.0, -1.0, -3.0}) options.scales.push_back(richflow::Scale<>::from_log(log_alpha));
  options.log_losses = {-30, -10};
  const richflow::Dataset<> data = margin_example(MarginExample::two_optima);
  options.threads = 1;
  const MarginPlane one = margin_plane(data, options, "one");
  options.threads = 2;
  const MarginPlane two = margin_plane(data, options, "two");
  for (std::size_t k = 0; k < 6; ++k) {
    CHECK(one.points[k].record.beta == two.points[k].record.beta);
    CHECK(one.points[k].best == two.points[k].best);
  }
  CHECK(one.points[0].log_loss == -10);
  BeyondMarginsOptions wrong = beyond_margins_options(Effort::quick);
  wrong.num_scales = 1;
  CHECK_THROWS_AS(beyond_margins(wrong), richflow::ArgumentError);
  wrong = beyond_margins_options(Effort::quick);
  wrong.digits_to = 1;
  CHECK_THROWS_AS(beyond_margins(wrong), richflow::ArgumentError);
}

TEST_CASE("lists of accuracies hold what no number does") {
  const std::vector<double> logs = parse_log_list("--accuracy", "1e-1000, 0.5,2.5E+3");
  REQUIRE(logs.size() == 3);
  CHECK(logs[0] == Approx(std::log(2500.0)).epsilon(1e-15));
  CHECK(logs[1] == Approx(std::log(0.5)).epsilon(1e-15));
  CHECK(logs[2] == Approx(-1000 * std::log(10.0)).epsilon(1e-15));
  for (const char* wrong : {"", "1,", "0", "-1", "1e", "1e-2x", "e5", "nan", "1e-99999999999999", "1,,2"})
    CHECK_THROWS_AS(parse_log_list("--accuracy", wrong), richflow::ArgumentError);
  CHECK_THROWS_MATCHES(parse_log_list("--accuracy", "1,2x"), richflow::ArgumentError, message_contains("--accuracy"));
}
