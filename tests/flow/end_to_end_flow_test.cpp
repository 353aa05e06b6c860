#include "richflow/flow/end_to_end_flow.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "richflow/bias/factorization.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/deep_factorization.hpp"
#include "richflow/models/linear_layers.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

template <class Flow>
Solution<double> run_of(const Flow& flow, const Vector<double>& start, double end, double relative,
                        const IntegrateOptions<double>& options = {}) {
  PiController<> controller;
  controller.tolerance = {relative, 1e-3 * relative};
  return integrate(flow, start, TimeSpan<>{0.0, end}, DormandPrince{}, controller, options).require_ok();
}

}  // namespace

TEST_CASE("from a balanced start the product of the layers has a flow of its own, whatever the widths") {
  RandomStream random(2631);
  const FactorShape shape = FactorShape::general(3, 4);
  const Matrix<double> M0 = random_matrix(random, 3, 4);
  for (const Kind kind : {Kind::entries, Kind::dense}) {
    const Dataset<> data = random_measured_data(random, kind, shape, 6);
    for (const std::vector<Index>& hidden : {std::vector<Index>{3}, {7}, {3, 5}, {6, 3, 4}}) {
      const std::vector<Matrix<double>> layers = balanced_layers<double>(random, M0, hidden);
      std::vector<Index> widths = {4};
      widths.insert(widths.end(), hidden.begin(), hidden.end());
      widths.push_back(3);
      const DeepFactorization<double> model(widths);
      const Vector<double> w0 = pack_layers(layers);
      const double end = 0.3;
      const Vector<double> w = run_of(GradientFlow<DeepFactorization<double>>(model, data), w0, end, 1e-11).w;
      const EndToEndFlow<> reduced(model.depth(), data);
      const Vector<double> m = run_of(reduced, Vector<double>(M0.reshaped()), end, 1e-11).w;
      CAPTURE(hidden.size(), hidden.front());
      CHECK((model.product(w) - M0).norm() > 0.1);
      // Steps of 1e-11, some hundred of them.
      CHECK((model.product(w) - reduced.matrix(m)).norm() <= 1e-9 * M0.norm());
      CHECK((model.invariant(w) - model.invariant(w0)).norm() <= 1e-9 * w0.squaredNorm());
    }
  }
  // At depth 1 it is the linear model.
  const Dataset<> data = random_measured_data(random, Kind::dense, shape, 6);
  const EndToEndFlow<> linear(1, data);
  const Vector<double> m = M0.reshaped();
  Vector<double> dm(12);
  linear(0.0, m, dm);
  const Matrix<double> X = measurement_rows(data);
  CHECK((dm + 2.0 * X.transpose() * (X * m - data.y())).norm() <= 64 * eps * X.squaredNorm() * m.norm());
}

TEST_CASE("in completion depth lowers the effective rank, and so does a smaller start") {
  RandomStream random(2632);
  const Index n = 6;
  const Matrix<double> truth = random_matrix(random, n, 1) * random_matrix(random, 1, n);
  const MatrixMeasurements<double> X = random_measurements(random, Kind::entries, FactorShape::general(n, n), 18);
  const Dataset<> data(X, X.apply(truth));
  // Layers of the size that makes all products alike.
  const auto rank_of = [&](Index depth, double product_size) {
    RandomStream start(2633);
    const std::vector<Index> widths(static_cast<std::size_t>(depth + 1), n);
    const DeepFactorization<double> model(widths);
    const auto scale = Scale<>::from_log(std::log(product_size) / static_cast<double>(depth));
    const Vector<double> w0 = pack_layers(balanced_start<double>(start, widths, scale));
    const GradientFlow<DeepFactorization<double>> flow(model, data);
    const auto run = run_of(flow, w0, std::numeric_limits<double>::infinity(), 1e-6,
                            {.events = {loss_below(1e-8 * data.y().squaredNorm())}});
    return effective_rank<double>(model.product(run.w));
  };
  const double shallow = rank_of(2, 1e-2);
  const double deep = rank_of(3, 1e-2);
  CHECK(deep < shallow - 0.05);
  CHECK(rank_of(2, 1e-4) < shallow - 0.05);
  CHECK(rank_of(3, 1e-4) <= deep);
  CHECK_THAT(rank_of(4, 1e-4), near(1, 0, 0.01));
}

TEST_CASE("at depth 3 the unseen entry of the runaway completion grows as the loss falls, and det M stays positive") {
  // Razin and Cohen (2020): M_01 = M_10 = 1 and M_11 = 0 are seen.
  const Dataset<> data(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 0}, {1, 1}}), Vector<double>{{1, 1, 0}});
  const DeepFactorization<double> model({2, 2, 2, 2});
  const Vector<double> w0 = pack_layers(std::vector<Matrix<double>>(3, 0.3 * Matrix<double>::Identity(2, 2)));
  for (const double loss : {1e-2, 1e-4}) {
    const auto run = simulate(model, data, w0, {.loss = loss});
    CAPTURE(loss, run.message);
    CHECK(run.status == Status::event);
    const Matrix<double> M = model.product(run.w);
    CHECK(M(0, 0) * M(1, 1) - M(0, 1) * M(1, 0) > 0);
    // M_01 M_10 < M_00 M_11 and |M_11| is at most the root of the loss, as is what M_01 misses.
    CHECK(M(0, 0) > (1 - 2 * std::sqrt(loss)) / std::sqrt(loss));
  }
}

TEST_CASE("simulate knows by the sign of det M that steps have left the flow of balanced layers") {
  const Dataset<> data(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 0}, {1, 1}}), Vector<double>{{1, 1, 0}});
  const Matrix<double> identity = Matrix<double>::Identity(2, 2);
  const auto determinant_of = [](const Matrix<double>& M) { return M(0, 0) * M(1, 1) - M(0, 1) * M(1, 0); };
  // Steps of the default tolerance leave it, finer ones do not.
  const DeepFactorization<double> deep({2, 2, 2, 2});
  const auto run = simulate(deep, data, pack_layers(std::vector<Matrix<double>>(3, 0.3 * identity)), {.loss = 1e-5});
  CAPTURE(run.method, run.message);
  CHECK(run.status == Status::event);
  CHECK_THAT(run.method,
             text_contains("by RelaxedEuler, errors within 1e-06") && text_contains("another sign of det M"));
  const double unseen = deep.product(run.w)(0, 0);
  CHECK(determinant_of(deep.product(run.w)) > 0);
  // M_00 sqrt L is 1 and M_00^(8/3) = 16 t to first order; errors of 1e-6 add up.
  CHECK_THAT(unseen * std::sqrt(run.loss), near(1, 1e-3, 0));
  CHECK_THAT(16 * run.t, near(std::pow(unseen, 8.0 / 3), 2e-3, 0));

  // From U = V the differences that rounding makes grow like exp(2 t / M_00): no tolerance is fine enough.
  const MatrixFactorization<double> two(2, 2, 2);
  Matrix<double> stack(4, 2);
  stack << 0.3 * identity, 0.3 * identity;
  const TemporaryFolder folder;
  SimulateOptions<> kept{.loss = 1e-14};
  kept.checkpoint.file = folder.path() / "run";
  const auto lost = simulate(two, data, two.pack(stack), kept);
  CAPTURE(lost.method, lost.message);
  CHECK(lost.status == Status::stalled);
  CHECK_THAT(lost.message, text_contains("det M has changed its sign at t = "));
  CHECK(lost.loss > 1e-4);
  // Up to there it is the path, (24 t)^(1/3) for U U^T and half as fast for two factors, to first order.
  const double last = two.product(lost.w)(0, 0);
  CHECK(last > 5);
  CHECK_THAT(last * std::sqrt(lost.loss), near(1, 3 / last, 0));

  // Called again it takes no step.
  const auto again = simulate(two, data, two.pack(stack), kept);
  CHECK(again.status == Status::stalled);
  CHECK(again.steps == lost.steps);
  CHECK(again.w == lost.w);
  CHECK(again.message == lost.message);

  // Where a run has not come to its end, and the second one loses the sign however fine its steps, it says so.
  const Vector<double> w_two = two.pack(stack);
  const GradientFlow<MatrixFactorization<double>> flow(two, data);
  SimulationRecord<double> slow = simulate(two, data, w_two, {.loss = 0.1});
  slow.status = Status::stalled;
  PiController<> controller;
  controller.tolerance = {1e-3, 0.0};
  detail::follow_slowly<double>(
      detail::TangentFieldOf<GradientFlow<MatrixFactorization<double>>>(flow), w_two, controller, std::sqrt(2.0),
      {.loss = 1e-8}, [](const Vector<double>& w) { return w; }, detail::conserved_sign(two, w_two), slow);
  CAPTURE(slow.message);
  CHECK(slow.status == Status::stalled);
  CHECK_THAT(slow.loss, near(0.1, 1e-6, 0));
  CHECK_THAT(slow.message, text_contains("another sign of det M") && text_contains("loses the sign, too, at t = "));

  // A larger model is not followed twice.
  RandomStream random(2635);
  const DeepFactorization<double> wide({2, 5, 5, 2});
  const Vector<double> w0 = pack_layers(balanced_layers<double>(random, 0.027 * identity, {5, 5}));
  const auto left = simulate(wide, data, w0, {.loss = 1e-6});
  CHECK(determinant_of(wide.product(left.w)) < 0);
  CHECK(left.status == Status::stalled);
  CHECK_THAT(left.message, text_contains("the steps have left the flow: det M has changed its sign"));

  // A start that is not balanced conserves nothing of the kind: nothing is said of a fit by the other sign.
  Vector<double> not_balanced = w0;
  not_balanced.head(10) *= 2;
  CHECK(simulate(wide, data, not_balanced, {.loss = 1e-6}).status == Status::event);
}

TEST_CASE("an end-to-end flow needs a depth and measurements") {
  RandomStream random(2634);
  const Dataset<> data = random_measured_data(random, Kind::entries, FactorShape::general(2, 3), 2);
  CHECK_THROWS_MATCHES(EndToEndFlow<>(0, data), ArgumentError, message_contains("depth must be positive, got 0"));
  const Dataset<> rows = gaussian_data(random, 3, 2);
  CHECK_THROWS_AS(EndToEndFlow<>(2, rows), ArgumentError);
  Vector<double> dm(6);
  CHECK_THROWS_AS(EndToEndFlow<>(2, data)(0.0, Vector<double>::Zero(5), dm), DimensionError);
}
