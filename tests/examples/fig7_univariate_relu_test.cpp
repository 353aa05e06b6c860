#include "fig7_univariate_relu.hpp"

#include <cmath>

#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::check_picture;

namespace {

Fig7Options small_options() {
  Fig7Options options;
  options.width = 300;
  options.alphas = {0.1, 10.0};
  options.points = 33;  // every fourth is a data point
  return options;
}

Fig7 figure_of(const Fig7Options& options, int threads = 0) {
  return make_fig7(options, run_fig7_sweeps(options, SweepRunner(threads)));
}

}  // namespace

TEST_CASE("figure 7: every curve goes through the data, and the spline is linear in between") {
  const Fig7Options options = small_options();
  const Fig7 figure = figure_of(options);
  const auto y = fig7_labels();
  REQUIRE(figure.curves.size() == 6);
  REQUIRE(figure.kernels.size() == 3);
  for (richflow::Index n = 0; n < 9; ++n) {
    for (const Fig7Curve& curve : figure.curves) {
      // Kinks that stick to data points may hold a narrow network up above the loss of 1e-8.
      CHECK(curve.loss <= 1e-6);
      CHECK(std::abs(curve.f[4 * n] - y[n]) <= 1.001 * std::sqrt(curve.loss));
    }
    for (const Fig7Curve& kernel : figure.kernels) CHECK(std::abs(kernel.f[4 * n] - y[n]) <= 1e-6);
    CHECK_THAT(figure.spline[4 * n], test_support::near(y[n], 0.0, 1e-12));
    if (n < 8) CHECK_THAT(figure.spline[4 * n + 2], test_support::near(0.5 * (y[n] + y[n + 1]), 0.0, 1e-12));
  }
}

TEST_CASE("figure 7 does not depend on the number of threads, and writes its tables") {
  Fig7Options options = small_options();
  options.width = 60;
  const Fig7 one = figure_of(options, 1);
  const Fig7 three = figure_of(options, 3);
  for (std::size_t i = 0; i < one.curves.size(); ++i) CHECK(one.curves[i].f == three.curves[i].f);
  const test_support::TemporaryFolder folder;
  write_fig7_tables(one, folder.path());
  const auto header = [&](const char* name) {
    const std::string text = test_support::content_of(folder.path() / name);
    return text.substr(0, text.find('\n'));
  };
  CHECK(header("fig7.csv") == "panel,alpha,x,f");
  CHECK(header("fig7_reference.csv") == "x,spline,kernel_a,kernel_b,kernel_c");
  CHECK(header("fig7_data.csv") == "x,y");
  check_picture(fig7_picture(options), folder.path());
  options.width = 0;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
}
