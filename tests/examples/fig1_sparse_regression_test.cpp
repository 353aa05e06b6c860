#include "fig1_sparse_regression.hpp"

#include <cmath>
#include <filesystem>
#include <limits>

#include "csv.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using richflow::Scale;
using test_support::check_picture;

namespace {

/// A fifth of the paper's dimension, in which everything takes milliseconds.
Fig1Options small_options() {
  Fig1Options options;
  options.seed = 3;
  options.num_seeds = 1;
  options.num_seeds_cliff = 1;
  options.dimension = 200;
  options.num_samples = 60;
  options.per_decade = 2;
  options.flow_every = 4;
  options.samples_c = {20, 50, 100};
  options.samples_l1 = {20, 100};
  return options;
}

Fig1 figure_of(const Fig1Options& options, int threads = 0) {
  return make_fig1(options, run_fig1_sweeps(options, SweepRunner(threads)));
}

double limit_error(const Fig1Options& options, Index num_samples, double log_alpha) {
  richflow::SparseRegressionOptions data;
  data.num_samples = num_samples;
  data.num_inputs = options.dimension;
  data.seed = options.seed;
  const auto problem = richflow::sparse_regression(data);
  const auto limit = richflow::minimize_hypentropy(problem.dataset, Scale<>::from_log(log_alpha));
  return problem.population_error(limit.require_ok().beta);
}

}  // namespace

TEST_CASE("figure 1: points are the errors of the minimizers, and the integrated flow agrees") {
  const Fig1Options options = small_options();
  const Fig1 figure = figure_of(options);
  REQUIRE(figure.panel_a.size() == 9);
  CHECK_THAT(figure.panel_a.front().alpha, test_support::near(1e-4, 1e-12, 0.0));  // exp of a sum of logs
  CHECK_THAT(figure.panel_a.back().alpha, test_support::near(1.0, 1e-12, 0.0));
  int integrated = 0;
  for (const Fig1aPoint& point : figure.panel_a) {
    const double direct = limit_error(options, 60, std::log(point.alpha));
    CHECK(std::abs(point.error.median - direct) <= 1e-9);  // both solved to 1e-12
    if (std::isnan(point.error_flow)) continue;
    ++integrated;
    CHECK(std::abs(point.error_flow - direct) <= 1e-6);
  }
  CHECK(integrated == 3);
  CHECK(figure.panel_b.size() == 15);
}

TEST_CASE("figure 1c: the largest alpha passes and the next one does not, or none passes") {
  const Fig1Options options = small_options();
  const Fig1 figure = figure_of(options);
  REQUIRE(figure.panel_c.size() == 3);
  int found = 0;
  for (const Fig1cPoint& point : figure.panel_c) {
    if (point.never_fraction == 1.0) {
      CHECK(point.log_alpha.median == -std::numeric_limits<double>::infinity());
      for (const double log_alpha : {0.0, -2.0, -5.0, -10.0, -50.0, -200.0})
        CHECK(limit_error(options, point.num_samples, log_alpha) > options.threshold);
    } else {
      ++found;
      const double log_alpha = point.log_alpha.median;
      CHECK(limit_error(options, point.num_samples, log_alpha) <= options.threshold);
      CHECK(limit_error(options, point.num_samples, log_alpha + 0.011) > options.threshold);
      for (double above = log_alpha + 0.25; above <= 1.0; above += 0.25)
        CHECK(limit_error(options, point.num_samples, above) > options.threshold);
    }
  }
  // 20 samples are too few, 100 are plenty.
  CHECK(figure.panel_c.front().never_fraction == 1.0);
  CHECK(found >= 1);
  CHECK(figure.dashed_line == 100);
}

TEST_CASE("figure 1 does not depend on the number of threads") {
  Fig1Options options = small_options();
  options.num_seeds = 2;
  options.num_seeds_cliff = 2;
  const Fig1 one = figure_of(options, 1);
  const Fig1 three = figure_of(options, 3);
  for (std::size_t i = 0; i < one.panel_a.size(); ++i) {
    CHECK(one.panel_a[i].error.median == three.panel_a[i].error.median);
    CHECK((std::isnan(one.panel_a[i].error_flow) || one.panel_a[i].error_flow == three.panel_a[i].error_flow));
  }
  for (std::size_t i = 0; i < one.panel_c.size(); ++i)
    CHECK(one.panel_c[i].log_alpha.median == three.panel_c[i].log_alpha.median);
}

TEST_CASE("figure 1 writes its tables") {
  const test_support::TemporaryFolder folder;
  const Fig1 figure = figure_of(small_options());
  write_fig1_tables(figure, folder.path());
  const auto header = [&](const char* name) {
    const std::string text = test_support::content_of(folder.path() / name);
    return text.substr(0, text.find('\n'));
  };
  CHECK(header("fig1a.csv") == "alpha,error_median,error_q25,error_q75,error_flow");
  CHECK(header("fig1b.csv") == "alpha,excess_l1,excess_l2");
  CHECK(header("fig1c.csv") == "N,alpha_median,alpha_q25,alpha_q75,never_fraction,repetitions");
  CHECK(header("fig1c_l1.csv") == "N,l1_error_median");
  check_picture(fig1_picture(figure), folder.path());
  CHECK(std::filesystem::exists(folder.path() / "fig1.gp"));
}

TEST_CASE("figure 1 refuses invalid sizes") {
  Fig1Options options = small_options();
  options.num_samples = 200;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
  options = small_options();
  options.num_seeds = 0;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
}
