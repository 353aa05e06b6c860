#include "fig5_matrix_completion.hpp"

#include <cmath>
#include <filesystem>

#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/regularizers/schatten.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using richflow::Matrix;
using test_support::check_picture;

namespace {

Fig5Options small_options() {
  Fig5Options options;
  options.seed = 3;
  options.num_seeds = 2;
  options.num_seeds_map = 1;
  options.resolution = 3;
  options.dimension = 5;
  options.num_observed = 16;
  options.alpha2 = {1e-2, 1e-6};
  options.widths = {10, 1000, 100'000};
  return options;
}

Fig5 figure_of(const Fig5Options& options, int threads = 0) {
  return make_fig5(options, run_fig5_sweeps(options, SweepRunner(threads)));
}

const Fig5Point& point_at(const Fig5& figure, double alpha2, double width) {
  for (const Fig5Point& point : figure.points)
    if (point.alpha2 == alpha2 && point.width == width) return point;
  throw richflow::ArgumentError("no such point");
}

}  // namespace

TEST_CASE("figure 5: the corners of the plane are the two regimes") {
  const Fig5Options options = small_options();
  const Fig5 figure = figure_of(options);
  REQUIRE(figure.points.size() == 6);
  REQUIRE(figure.map.size() == 9);
  // alpha^2 k = 1e-5: a few alpha sqrt(k) = 3e-3 from the limit of vanishing scale, here the truth.
  const Fig5Point& rich = point_at(figure, 1e-6, 10.0);
  CHECK(std::abs(rich.excess) < 0.02);
  CHECK(std::abs(rich.motion - 1.0) < 0.02);
  // alpha^2 k = 1e3: the features hardly move, and the unobserved entries with them; alpha^2 and k^-1/2 are 1e-2.
  const Fig5Point& kernel = point_at(figure, 1e-2, 100'000.0);
  CHECK(kernel.motion < 0.1);
  CHECK(kernel.excess > 0.2);
  // No interpolant is below the least nuclear norm; the flow interpolates to the loss at which it stops.
  for (const Fig5Point& point : figure.points) CHECK(point.excess_minimum > -1e-6);
}

TEST_CASE("figure 5: a point is where plain descent ends, by its numbers") {
  // The excess in the rich corner, from descent at the true width, with a start of its own: neither depends on it
  // there.
  Fig5Options options = small_options();
  options.num_seeds = 1;
  options.alpha2 = {1e-6};
  options.widths = {30};
  const Fig5Sweeps sweeps = run_fig5_sweeps(options, SweepRunner(1));
  const auto problem = fig5_problem(options, 0).completion;
  const richflow::MatrixFactorization<double> model(5, 5, 30);
  richflow::RandomStream random(99);
  const auto solution = richflow::gradient_descent(
      model, problem.observations.dataset, model.initial_parameters(random, richflow::Scale<>::from_value(1e-3)),
      {.step = 2e-3, .iterations = 400'000, .loss_below = 1e-10});
  REQUIRE(solution.ok());
  const double excess = richflow::nuclear_norm(model.product(solution.w)) - richflow::nuclear_norm(problem.truth);
  // Both are within the deviation of alpha^2 k = 3e-5 from the rich limit.
  CHECK(std::abs(sweeps.points.values("excess_nuclear").front() - excess) <=
        2e-3 * richflow::nuclear_norm(problem.truth));
  CHECK_THAT(sweeps.problems.values("truth_nuclear").front(),
             test_support::near(richflow::nuclear_norm(problem.truth), 1e-13, 0.0));
}

TEST_CASE("figure 5 does not depend on the number of threads, and more seeds extend fewer") {
  const Fig5Options options = small_options();
  const Fig5Sweeps one = run_fig5_sweeps(options, SweepRunner(1));
  const Fig5Sweeps three = run_fig5_sweeps(options, SweepRunner(3));
  CHECK(one.points.csv() == three.points.csv());
  CHECK(one.map.csv() == three.map.csv());
  Fig5Options more = options;
  more.num_seeds = 3;
  const Fig5Sweeps longer = run_fig5_sweeps(more, SweepRunner(0));
  CHECK(longer.points.values("excess_nuclear", "seed", 1.0) == one.points.values("excess_nuclear", "seed", 1.0));
}

TEST_CASE("figure 5 draws masks again that miss a row or a column") {
  Fig5Options options = small_options();
  options.num_observed = 8;
  int refused = 0;
  for (Index seed = 0; seed < 20; ++seed) {
    const Fig5Problem problem = fig5_problem(options, seed);
    CHECK(problem.completion.observations.empty_rows.empty());
    CHECK(problem.completion.observations.empty_cols.empty());
    refused += problem.num_refused;
  }
  CHECK(refused > 20);
  options.num_observed = 4;  // five rows
  CHECK_THROWS_MATCHES(fig5_problem(options, 0), richflow::ConvergenceError,
                       test_support::message_contains("no mask of 4 entries"));
}

TEST_CASE("figure 5 writes its tables") {
  const test_support::TemporaryFolder folder;
  const Fig5Options options = small_options();
  const Fig5Sweeps sweeps = run_fig5_sweeps(options, SweepRunner(0));
  const Fig5 figure = make_fig5(options, sweeps);
  write_fig5_tables(figure, sweeps, folder.path());
  const CsvTable points = read_csv(folder.path() / "fig5.csv");
  CHECK(points.columns == std::vector<std::string>{"alpha2", "k", "seed", "excess_nuclear", "rms_unobserved_change"});
  CHECK(points.values.rows() == 12);
  const CsvTable map = read_csv(folder.path() / "fig5_map.csv");
  REQUIRE(map.values.rows() == 9);
  for (Index n = 0; n < 9; ++n) {
    CHECK(map.values(n, 2) < map.values(n, 0));
    CHECK(map.values(n, 0) < map.values(n, 3));
    CHECK(map.values(n, 4) < map.values(n, 1));
    CHECK(map.values(n, 1) < map.values(n, 5));
  }
  CHECK(read_csv(folder.path() / "fig5_medians.csv").values.rows() == 6);
  check_picture(fig5_picture(figure), folder.path());
}

TEST_CASE("figure 5 refuses invalid sizes") {
  CHECK(fig5_widths({3.2, 1e3, 2.9, 1.0}) == std::vector<Index>{1, 3, 1000});
  CHECK_THROWS_MATCHES(fig5_widths({0.2}), richflow::ArgumentError, test_support::message_contains("got 0.2"));
  CHECK(parse_fig5_widths("1:100:4") == std::vector<Index>{1, 5, 22, 100});
  CHECK(parse_fig5_widths("20,3") == std::vector<Index>{3, 20});
  for (const char* text : {"2.5", "1,2.5,3", "2.5:100:4", "1:2.5:4"})
    CHECK_THROWS_MATCHES(parse_fig5_widths(text), richflow::ArgumentError,
                         test_support::message_contains("2.5 is not a whole number"));
  Fig5Options options = small_options();
  options.num_seeds = 0;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
  options = small_options();
  options.num_seeds_map = 3;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
  options = small_options();
  options.resolution = 1;
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
  options = small_options();
  options.alpha2 = {0.0};
  CHECK_THROWS_AS(figure_of(options), richflow::ArgumentError);
}
