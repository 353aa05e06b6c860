#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "richflow/train/sgd.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/row_sums.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Descent on U and V by batches of entries, as it is written down: nothing of richflow's but the order.
Matrix<double> completion_by_loop(Matrix<double> U, Matrix<double> V, const std::vector<MatrixEntry>& places,
                                  const Vector<double>& y, const SgdOptions<double>& options) {
  std::vector<Index> order(places.size());
  Matrix<double> U_step = Matrix<double>::Zero(U.rows(), U.cols());
  Matrix<double> V_step = Matrix<double>::Zero(V.rows(), V.cols());
  for (Index epoch = 0; epoch < options.max_epochs; ++epoch) {
    std::iota(order.begin(), order.end(), Index(0));
    RandomStream random(options.seed, static_cast<std::uint64_t>(epoch));
    shuffle(random, order);
    for (std::size_t first = 0; first < order.size(); first += static_cast<std::size_t>(options.batch_size)) {
      const std::size_t last = std::min(order.size(), first + static_cast<std::size_t>(options.batch_size));
      Matrix<double> A = Matrix<double>::Zero(U.rows(), V.rows());
      for (std::size_t b = first; b < last; ++b) {
        const auto [i, j] = places[static_cast<std::size_t>(order[b])];
        A(i, j) += 2.0 * (U.row(i).dot(V.row(j)) - y(order[b])) / static_cast<double>(last - first);
      }
      U_step = options.momentum * U_step - options.step * (A * V);
      V_step = options.momentum * V_step - options.step * (A.transpose() * U);
      U += U_step;
      V += V_step;
    }
  }
  return U * V.transpose();
}

}  // namespace

TEST_CASE("SGD on matrix completion takes batches of entries: against its own plain loop") {
  const MatrixCompletion<> problem = matrix_completion({.rows = 6, .cols = 5, .num_observed = 20, .seed = 2});
  const Dataset<>& data = problem.observations.dataset;
  const MatrixFactorization<double> model(6, 5, 3);
  RandomStream random(401);
  const Vector<double> w0 = model.initial_parameters(random, Scale<>::from_value(0.4));
  const Matrix<double> F = model.stack(w0);
  for (const Index batch_size : {1, 3, 8, 20})
    for (const double momentum : {0.0, 0.7}) {
      CAPTURE(batch_size, momentum);
      SgdOptions<double> options;
      options.step = 0.01;
      options.batch_size = batch_size;
      options.momentum = momentum;
      options.max_epochs = 30;
      options.seed = 7;
      const auto result = Sgd(model, data, w0, options).run();
      const Matrix<double> expected =
          completion_by_loop(F.topRows(6), F.bottomRows(5), data.measurements().places(), data.y(), options);
      CHECK((expected - model.product(w0)).norm() > 0.1 * expected.norm());  // it has moved
      // Up to 600 steps, each with rounding errors of its terms.
      CHECK((model.product(result.w) - expected).norm() <= 1e-12 * expected.norm());
      CHECK_THAT(result.final.loss, near(evaluate(model, result.w, data, SquaredLoss<double>(), 7).loss, 1e-13, 0.0));
    }
}

TEST_CASE("a run on measurements resumes from its checkpoint, which stores them") {
  const TemporaryFolder folder;
  const MatrixFactorization<double> model(4, 4, 2);
  RandomStream random(402);
  const Vector<double> w0 = random_vector(random, model.num_parameters());
  const Vector<double> y = random_vector(random, 4);
  const Dataset data(MatrixMeasurements<double>::entries(4, 4, {{0, 1}, {1, 2}, {3, 3}, {2, 0}}), y);
  const Dataset other(MatrixMeasurements<double>::entries(4, 4, {{0, 1}, {1, 2}, {3, 2}, {2, 0}}), y);
  SgdOptions<double> options;
  options.batch_size = 3;
  options.step = 0.01;
  options.max_epochs = 9;
  const auto whole = Sgd(model, data, w0, options).run();
  Sgd half(model, data, w0, options);
  for (int k = 0; k < 7; ++k) REQUIRE(half.step());
  half.save(folder.path() / "half");
  Sgd rest(model, data, w0, options);
  rest.load(folder.path() / "half");
  CHECK(rest.run().w == whole.w);
  Sgd copy(half);
  CHECK(copy.run().w == whole.w);
  CHECK(half.run().w == whole.w);
  Sgd wrong(model, other, w0, options);
  CHECK_THROWS_MATCHES(wrong.load(folder.path() / "half"), CheckpointError, message_contains("data"));
}

TEST_CASE("models of measurements train wrapped, and on a user's own kind") {
  RandomStream random(403);
  const MatrixFactorization<double> model(3, 4, 3);
  const Vector<double> w0 = random_vector(random, model.num_parameters());
  const Dataset data(MatrixMeasurements<double>(std::make_unique<RowSums>(3, 4, std::vector<Index>{0, 2, 1}, 0.5)),
                     random_vector(random, 3));
  SgdOptions<double> options;
  options.step = 0.05;
  options.batch_size = 2;
  options.max_epochs = 2000;
  options.stop_loss = 1e-10;
  const auto result = Sgd(Unbiased(model, w0), data, w0, options).run();
  CAPTURE(result.message);
  REQUIRE(result.ok());
  const Matrix<double> change = model.product(result.w) - model.product(w0);
  const Vector<double> sums = 0.5 * change.rowwise().sum();
  CHECK(std::abs(sums(0) - data.y()(0)) <= 1e-4);
  CHECK(std::abs(sums(2) - data.y()(1)) <= 1e-4);
  CHECK(std::abs(sums(1) - data.y()(2)) <= 1e-4);
}

TEST_CASE("a model of rows refuses measurements, and one of measurements rows") {
  const Dataset measured(MatrixMeasurements<double>::entries(3, 4, {{0, 1}, {2, 2}}), Vector<double>::Ones(2));
  const Dataset rows(Matrix<double>::Ones(2, 12), Vector<double>::Ones(2));
  const MatrixFactorization<double> of_measurements(3, 4, 2);
  const SquaredDiagonalNet<double> of_rows(12);
  const Vector<double> w = Vector<double>::Ones(14);
  const Vector<double> v = Vector<double>::Ones(24);
  const SgdOptions<double> options{.batch_size = 1};
  const auto rows_wanted = "the model takes rows";
  const auto measurements_wanted = "the model takes measurements";

  CHECK_THROWS_MATCHES(GradientFlow(of_rows, measured), ArgumentError, message_contains(rows_wanted));
  CHECK_THROWS_MATCHES(GradientFlow(of_measurements, rows), ArgumentError, message_contains(measurements_wanted));
  CHECK_THROWS_MATCHES(GradientFlow(Unbiased(of_measurements, w), rows), ArgumentError,
                       message_contains(measurements_wanted));
  CHECK_THROWS_MATCHES(Sgd(of_rows, measured, v, options), ArgumentError, message_contains(rows_wanted));
  CHECK_THROWS_MATCHES(Sgd(of_measurements, rows, w, options), ArgumentError, message_contains(measurements_wanted));
  CHECK_THROWS_MATCHES(Sgd(ReluNetwork<double>(12, {3}), measured, Vector<double>(Vector<double>::Ones(39)), options),
                       ArgumentError, message_contains(rows_wanted));
  CHECK_THROWS_AS(KernelPredictor(of_rows, v, measured), ArgumentError);
  CHECK_THROWS_AS(KernelPredictor(of_measurements, w, rows), ArgumentError);

  auto at = make_evaluation(of_measurements, 2);
  Matrix<double> F(2, 1);
  CHECK(at.takes_measurements());
  CHECK_THROWS_MATCHES(at.forward(w, rows.X(), F), ArgumentError,
                       message_contains("the model takes measurements of a matrix and X is a matrix of rows"));
  CHECK_NOTHROW(at.forward(w, measured.measurements(), F));
  auto at_rows = make_evaluation(of_rows, 2);
  CHECK_THROWS_MATCHES(at_rows.forward(v, measured.measurements(), F), ArgumentError,
                       message_contains("the model takes rows of a matrix and X holds measurements"));
  CHECK_THROWS_AS(GradientFlow(MatrixFactorization<double>(3, 5, 2), measured), DimensionError);
  // As many numbers, another shape.
  const GradientFlow flow(MatrixFactorization<double>(4, 3, 2), measured);
  CHECK_THROWS_MATCHES(flow.loss(w), DimensionError, message_contains("that of the model is 4 x 3"));
}
