#include "fig6_relu_networks.hpp"

#include <cmath>
#include <filesystem>

#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;

namespace {

Fig6Options small_options() {
  Fig6Options options;
  options.seed = 3;
  options.num_seeds = 2;
  options.per_decade = 1;
  options.depths = {2, 3};
  options.width = 12;
  options.loss = 1e-6;
  return options;
}

Fig6 figure_of(const Fig6Options& options, int threads = 0) {
  return make_fig6(options, run_fig6_sweep(options, SweepRunner(threads)));
}

}  // namespace

TEST_CASE("figure 6: both ends of every depth are what they should be, whatever the number of threads") {
  const Fig6Options options = small_options();
  const Fig6 figure = figure_of(options, 1);
  REQUIRE(figure.points.size() == 14);
  CHECK(figure.points.front().scale == 1e-4);
  for (const Fig6Point& point : figure.points) {
    CAPTURE(point.depth, point.scale);
    CHECK(std::isfinite(point.rmse.median));
    CHECK(point.rmse.q25 <= point.rmse.median);
    CHECK(point.rmse.median <= point.rmse.q75);
    CHECK(point.distance.median >= 0.0);
    CHECK(point.distance.median <= 1.5);  // a cosine distance is at most 2
  }
  // From scale 1e-4 to 1e2 the kernel moves less and less: as 1 / scale where it is lazy.
  CHECK(figure.points[6].distance.median < 0.2 * figure.points[0].distance.median);
  const Fig6 again = figure_of(options, 3);
  for (std::size_t i = 0; i < figure.points.size(); ++i) {
    CHECK(again.points[i].rmse.median == figure.points[i].rmse.median);
    CHECK(again.points[i].distance.median == figure.points[i].distance.median);
  }
}

TEST_CASE("figure 6: gradient descent ends where the flow does, as far as its step allows") {
  Fig6Options options = small_options();
  options.depths = {3};
  options.max_descent = 30000;
  const Fig6 flow = figure_of(options);
  options.descent = true;
  const Fig6 descent = figure_of(options);
  // At scale 1, where descent at step 0.01 still follows the flow: a kink crossed at another time changes the error.
  REQUIRE(flow.points[4].scale > 0.9);
  CHECK_THAT(descent.points[4].rmse.median, test_support::near(flow.points[4].rmse.median, 0.1, 0.0));
}

TEST_CASE("figure 6 writes its tables and refuses invalid sizes") {
  const test_support::TemporaryFolder folder;
  Fig6Options options = small_options();
  options.num_seeds = 1;
  const Fig6 figure = figure_of(options);
  write_fig6_tables(figure, folder.path());
  const auto header = [&](const char* name) {
    const std::string text = test_support::content_of(folder.path() / name);
    return text.substr(0, text.find('\n'));
  };
  CHECK(header("fig6a.csv") == "depth,scale,rmse_median,rmse_q25,rmse_q75,kernel_rmse,zero_rmse,arrived_fraction");
  CHECK(header("fig6b.csv") == "depth,scale,distance_median,distance_q25,distance_q75");
  check_picture(fig6_picture(options), folder.path());
  options.num_seeds = 0;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
  options = small_options();
  options.loss = 0.0;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
}
