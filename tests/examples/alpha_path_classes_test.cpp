#include <cmath>

#include "classes.hpp"
#include "csv.hpp"
#include "richflow/core/error.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/pictures.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace richflow::examples;
using namespace test_support;

TEST_CASE("alpha_path --loss: the flow at each accuracy beside the margin problem, with test data") {
  AlphaPathProblem problem{"it's small", margin_data("all_support")};
  problem.test = margin_data("all_support");
  ClassPathOptions options;
  options.loss = MarginLoss::exponential;
  options.num_scales = 3;
  options.log_losses = {-2303, -10};
  const ClassPath path = class_path(problem, options);
  REQUIRE(path.plane.points.size() == 6);
  CHECK(all_hold(path.claims));
  // Separated training data as test data: all right, once the loss is below 1.
  for (const double accuracy : path.accuracies) CHECK(accuracy == 1.0);
  // Every sample is a support vector: the distance is 0.2 to 0.7 over |log L|.
  for (const MarginPlanePoint& point : path.plane.points) CHECK(point.distance <= 0.7 / -point.log_loss);

  const TemporaryFolder folder;
  write_class_path_tables(problem, path, folder.path());
  const CsvTable betas = read_csv(folder.path() / "margins.csv");
  CHECK(betas.columns == std::vector<std::string>{"log_alpha", "log_accuracy", "i", "beta", "margin_problem"});
  REQUIRE(betas.values.rows() == 6 * 7);
  for (Index row = 0; row < 7; ++row) CHECK(betas.values(row, 3) == path.plane.points[0].record.beta[row]);
  const CsvTable table = read_csv(folder.path() / "classes.csv");
  REQUIRE(table.values.rows() == 6);
  CHECK(table.columns.back() == "test_accuracy");
  for (Index row = 0; row < 6; ++row) {
    CHECK(table.values(row, 4) <= table.values(row, 6));  // the bracket of the l1 margin
    CHECK(table.values(row, 6) <= table.values(row, 5));
  }
  check_picture(class_path_picture(problem, path), folder.path());
}

TEST_CASE("alpha_path --loss: deeper nets and shapes, and what is no classification") {
  AlphaPathProblem problem{"shaped", margin_data("one_free")};
  problem.shape = Vector<double>::LinSpaced(8, 0.5, 1.5);
  ClassPathOptions options;
  options.depth = 3;
  options.scales = {Scale<>::from_log(0.0), Scale<>::from_log(-1.0)};
  options.log_losses = {-5};
  const ClassPath path = class_path(problem, options);
  CHECK(all_hold(path.claims));
  CHECK(std::isnan(path.l1_accuracy));

  const AlphaPathProblem regression{"regression", Dataset(problem.train.X(), Vector<double>::Constant(5, 0.5))};
  CHECK_THROWS_MATCHES(class_path(regression, options), ArgumentError, message_contains("y(0) must be +1 or -1"));
  Matrix<double> X(2, 2);
  X << 1, 2, 1, 2;
  Vector<double> y(2);
  y << 1, -1;
  const AlphaPathProblem mixed{"mixed", Dataset(X, y)};
  CHECK_THROWS_MATCHES(class_path(mixed, options), ArgumentError, message_contains("not separable"));
  options.depth = 1;
  CHECK_THROWS_AS(class_path(problem, options), ArgumentError);
}
