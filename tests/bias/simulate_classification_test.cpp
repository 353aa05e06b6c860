#include "richflow/bias/simulate_classification.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/limits/max_margin.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The flow of the weights under the same loss by small explicit steps, until the time of a record.
template <class Loss, class Net>
Vector<double> classify_by_weights(const Net& net, const Dataset<>& data, const Start<>& start, double t) {
  const GradientFlow flow(net, data, Loss{});
  const PiController<> control{.tolerance = {.relative = 1e-10, .absolute = 1e-14}};
  const auto solution =
      integrate(flow, net.initial_parameters(start), TimeSpan{0, t}, DormandPrince{}, control).require_ok();
  Vector<double> beta(data.num_inputs());
  net.beta(solution.w, beta);
  return beta;
}

template <class Net>
void check_against_weights(const Net& net, const Dataset<>& data, const Start<>& start) {
  for (const MarginLoss loss : {MarginLoss::exponential, MarginLoss::logistic}) {
    const Classification<> run =
        simulate_classification(net, data, start, {.loss = loss, .accuracies = {0.5, 1e-2}, .tolerance = 1e-6});
    CAPTURE(run.message, run.method);
    REQUIRE(run.ok());
    REQUIRE(run.records.size() == 2);
    for (const ClassificationRecord<>& record : run.records) {
      const double t = std::exp(record.log_time);
      const Vector<double> beta = loss == MarginLoss::exponential
                                      ? classify_by_weights<ExponentialLoss<double>>(net, data, start, t)
                                      : classify_by_weights<LogisticLoss<double>>(net, data, start, t);
      CAPTURE(to_string(loss), record.log_loss, record.steps);
      // A hundred steps with errors of 1e-6, which small alpha multiplies by the growth of the entries.
      CHECK((record.beta - beta).norm() <= 3e-4 * beta.norm());
    }
  }
}

/// Relative error of a record against the margin problem at its own margin.
double error_of_record(const ClassificationRecord<>& record, const ImplicitRegularizer<>& Q, const Dataset<>& data) {
  const Scale<> there = Q.scale().shifted(-std::log(record.margin) / static_cast<double>(Q.depth()));
  const MarginResult<> best = max_margin(Q.with_scale(there), data).require_ok();
  return (record.beta - record.margin * best.beta).norm() / record.beta.norm();
}

/// Everything that a record claims, from Z and Q.
void check_record(const ClassificationRecord<>& record, const ImplicitRegularizer<>& Q, const Dataset<>& data,
                  double best_l1, double best_l2) {
  CAPTURE(record.log_loss, record.margin);
  const Matrix<double> Z = signed_rows(data);
  const Vector<double> m = Z * record.beta;
  CHECK((m - record.margins).cwiseAbs().maxCoeff() <= 1e-12 * (1 + m.cwiseAbs().maxCoeff()));
  CHECK(record.nu.minCoeff() >= 0);
  CHECK(record.weights.minCoeff() >= 0);
  CHECK(record.weights.sum() == Approx(1).epsilon(1e-12));
  const double rounding = 1e-10;
  CHECK(record.l1_margin <= best_l1 * (1 + rounding));
  CHECK(record.l1_bound >= best_l1 * (1 - rounding));
  CHECK(record.l2_margin <= best_l2 * (1 + rounding));
  CHECK(record.l2_bound >= best_l2 * (1 - rounding));
  if (!(record.margin > 0)) return;
  const Scale<> there = Q.scale().shifted(-std::log(record.margin) / static_cast<double>(Q.depth()));
  const MarginResult<> best = max_margin(Q.with_scale(there), data).require_ok();
  const Vector<double> b = record.margin * best.beta;
  const double above = Q.value(record.beta) - Q.value(b);
  CHECK(above >= -1e-9 * Q.value(b));
  CHECK(above <= record.excess + 1e-9 * Q.value(b));
}

}  // namespace

TEST_CASE("the classification flow is the flow of the weights", "[verbs]") {
  const Dataset<> data = margin_data("one_free");
  const Index d = data.num_inputs();
  RandomStream random(5);
  const Vector<double> a = random_positive_vector(random, d, 0.5, 1.5);
  const Vector<double> b = random_positive_vector(random, d, 0.5, 1.5);
  const DiagonalNet<double> squared(2, d);
  for (const double alpha : {3.0, 0.1})
    check_against_weights(squared, data, Start<>::uniform(Scale<>::from_value(alpha)));
  check_against_weights(squared, data, Start<>::biased(Scale<>::from_value(0.5), a, b));
  check_against_weights(DiagonalNet<double>(3, d), data, Start<>::shaped(Scale<>::from_value(0.5), a));
  check_against_weights(TwoLayerDiagonalNet<double>(d), data, Start<>::unbalanced(Scale<>::from_value(0.5), a, b));

  // More samples than features: systems of size d.
  Matrix<double> X(40, 3);
  Vector<double> y(40);
  for (Index n = 0; n < 40; ++n) {
    X.row(n) = random_vector(random, 3);
    y[n] = X(n, 0) + X(n, 1) < 0 ? -1 : 1;
    X(n, 0) += 0.2 * y[n];
  }
  check_against_weights(DiagonalNet<double>(2, 3), Dataset(X, y), Start<>::uniform(Scale<>::from_value(0.5)));
  check_against_weights(DiagonalNet<double>(3, 3), Dataset(X, y), Start<>::uniform(Scale<>::from_value(0.5)));
}

TEST_CASE("the classification flow approaches the margin problem as theory says", "[verbs]") {
  struct Row {
    const char* problem;
    Index depth;
    double log_alpha;
    std::vector<double> errors;  // at log L = -10, -100, -1e3, -1e4
  };
  // Simulated by Radau's method at a tolerance of 1e-9: two digits, so within 10 percent.
  const std::vector<Row> rows = {
      {"all_support", 2, std::log(30.0), {3.6e-2, 4.0e-3, 4.0e-4, 1.8e-5}},
      {"all_support", 2, -20, {6e-2, 2.1e-3, 2.1e-4, 2.3e-5}},
      {"one_free", 2, std::log(30.0), {4.6e-2, 5.1e-3, 5.2e-4, 6.1e-5}},
      {"one_free", 2, std::log(3.0), {4.6e-2, 6.1e-3, 1.0e-3, 1.8e-4}},
      {"one_free", 2, std::log(0.3), {0.13, 1.5e-2, 3.9e-3, 1.2e-3}},
      {"one_free", 2, -5, {0.70, 0.68, 0.58, 0.18}},
      {"one_free", 3, std::log(10.0), {4.6e-2, 5.1e-3, 5.2e-4, 6.5e-5}},
      {"one_free", 3, 0, {6.8e-2, 8.4e-3, 8.6e-4, 9.4e-5}},
      {"one_free", 3, std::log(0.1), {0.71, 0.70, 0.70, 0.70}},
  };
  for (const Row& row : rows) {
    const Dataset<> data = margin_data(row.problem);
    const DiagonalNet<double> net(row.depth, data.num_inputs());
    const Start<> start = Start<>::uniform(Scale<>::from_log(row.log_alpha));
    const Classification<> run =
        simulate_classification(net, data, start, {.log_accuracies = {-10, -100, -1e3, -1e4}}).require_ok();
    for (std::size_t k = 0; k < 4; ++k) {
      CAPTURE(row.problem, row.depth, row.log_alpha, run.records[k].log_loss);
      CHECK(error_of_record(run.records[k], regularizer(net, start), data) == Approx(row.errors[k]).epsilon(0.1));
    }
  }
}

TEST_CASE("every record of a classification bounds every margin", "[verbs]") {
  for (const std::string problem : {"all_support", "one_free", "two_optima"}) {
    const Dataset<> data = margin_data(problem);
    const double best_l1 = 1 / max_margin_l1(data).require_ok().beta.lpNorm<1>();
    const double best_l2 = 1 / max_margin_l2(data).require_ok().beta.norm();
    for (const Index depth : {2, 3})
      for (const double log_alpha : {2.0, -1.0, -3.0})
        for (const MarginLoss loss : {MarginLoss::exponential, MarginLoss::logistic}) {
          CAPTURE(problem, depth, log_alpha, to_string(loss));
          const DiagonalNet<double> net(depth, data.num_inputs());
          const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
          const Classification<> run = simulate_classification(
              net, data, start,
              {.loss = loss, .accuracies = {1.0, 0.1}, .log_accuracies = {1.0, -10, -1000, -2302.585}});
          CAPTURE(run.message);
          REQUIRE(run.ok());
          REQUIRE(run.records.size() == 6);
          for (const ClassificationRecord<>& record : run.records)
            check_record(record, regularizer(net, start), data, best_l1, best_l2);
          // An event is located to rounding of the time, of the size of log L or, at most, that of log alpha.
          CHECK(run.records.back().log_loss == Approx(-2302.585).epsilon(1e-9));
        }
  }
}

TEST_CASE("a loss of 1e-1000 at scales from e^5 to e^-500", "[verbs]") {
  RandomStream random(6);
  const Index d = 20;
  Matrix<double> X(6, d);
  Vector<double> y(6);
  for (Index n = 0; n < 6; ++n) {
    X.row(n) = random_vector(random, d);
    y[n] = n % 2 == 0 ? 1 : -1;
  }
  const Dataset data(X, y);
  const double best_l1 = 1 / max_margin_l1(data).require_ok().beta.lpNorm<1>();
  const double best_l2 = 1 / max_margin_l2(data).require_ok().beta.norm();
  const DiagonalNet<double> net(2, d);
  for (const double log_alpha : {5.0, -30.0, -500.0}) {
    const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
    const Classification<> run = simulate_classification(net, data, start, {.log_accuracies = {-2303}});
    CAPTURE(log_alpha, run.message);
    REQUIRE(run.ok());
    CHECK(run.stats.accepted < 1000);
    CHECK(std::isfinite(run.records[0].log_time));
    check_record(run.records[0], regularizer(net, start), data, best_l1, best_l2);
  }
}

TEST_CASE("one sample: the time of the flow by quadrature", "[verbs]") {
  // nu = tau, m = sum_i 2 alpha^2 x_i sinh(x_i nu) and t = (1/4) int exp(m): Simpson's rule on the logarithm's scale.
  Matrix<double> X(1, 3);
  X << 1, -0.5, 0.25;
  const Dataset data(X, Vector<double>::Ones(1));
  const double alpha = 0.3;
  const auto margin = [&](double nu) {
    double m = 0;
    for (Index i = 0; i < 3; ++i) m += 2 * alpha * alpha * X(0, i) * std::sinh(X(0, i) * nu);
    return m;
  };
  const DiagonalNet<double> net(2, 3);
  const Classification<> run = simulate_classification(net, data, Start<>::uniform(Scale<>::from_value(alpha)),
                                                       {.log_accuracies = {-1, -20, -2303}, .tolerance = 1e-7});
  REQUIRE(run.ok());
  for (const ClassificationRecord<>& record : run.records) {
    const double end = record.nu[0];
    CHECK(margin(end) == Approx(-record.log_loss).epsilon(1e-9));
    const int cells = 200'000;
    double sum = 0;
    for (int k = 0; k <= cells; ++k) {
      const double weight = k == 0 || k == cells ? 1 : k % 2 == 1 ? 4 : 2;
      sum += weight * std::exp(margin(end * k / cells) - margin(end));
    }
    const double log_time = std::log(sum * end / cells / 3 / 4) + margin(end);
    CAPTURE(record.log_loss);
    // Some hundred steps with errors of 1e-7 of t, and Simpson's rule with 1e5 cells over 40 e-folds or more.
    CHECK(std::abs(record.log_time - log_time) <= 1e-4);
  }
}

TEST_CASE("deep nets go to a stationary point of the l_{2/D} margin", "[verbs]") {
  const Dataset<> data = margin_data("one_free");
  const DiagonalNet<double> net(3, data.num_inputs());
  const Classification<> run = simulate_classification(net, data, Start<>::uniform(Scale<>::from_log(0)),
                                                       {.log_accuracies = {-10, -100, -1e3, -1e4}});
  REQUIRE(run.ok());
  for (std::size_t k = 1; k < 4; ++k) CHECK(run.records[k].stationarity < run.records[k - 1].stationarity);
  // The four entries that do not grow are about alpha^3 = 1 beside 1e4 and weigh about 4 (1e-4)^(2/3) = 9e-3.
  CHECK(run.records[3].stationarity < 2e-2);
  // Those that grow: c_i = |f_i| |b_i|^(1/3) was 1, .999, .997, 1.000 of the largest by LSODA.
  const ClassificationRecord<>& last = run.records[3];
  const Vector<double> slope = signed_rows(data).transpose() * last.weights;
  Vector<double> c(8);
  for (Index i = 0; i < 8; ++i) c[i] = slope[i] * std::cbrt(last.beta[i]);
  Index growing = 0;
  for (Index i = 0; i < 8; ++i) {
    if (std::abs(last.beta[i]) < 100) continue;
    CHECK(c[i] >= 0.996 * c.maxCoeff());
    ++growing;
  }
  CHECK(growing == 4);
}

TEST_CASE("classification of equal samples, zero columns and in float", "[verbs]") {
  const Dataset<> data = margin_data("all_support");
  Matrix<double> X = Matrix<double>::Zero(8, 9);
  X.block(0, 1, 4, 7) = data.X();
  X.block(4, 1, 4, 7) = data.X();
  Vector<double> y(8);
  y << data.y(), data.y();
  const Dataset twice(X, y);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.5));
  const auto once =
      simulate_classification(DiagonalNet<double>(2, 7), data, start, {.log_accuracies = {-50}, .tolerance = 1e-6})
          .require_ok();
  // Twice the loss: the same flow at half its loss, in half the time.
  const auto run = simulate_classification(DiagonalNet<double>(2, 9), twice, start,
                                           {.log_accuracies = {-50 + std::log(2.0)}, .tolerance = 1e-6})
                       .require_ok();
  CHECK((run.beta().segment(1, 7) - once.beta()).norm() <= 1e-5 * once.beta().norm());
  CHECK(run.beta()[0] == 0.0);
  CHECK(run.records[0].log_time == Approx(once.records[0].log_time - std::log(2.0)).epsilon(1e-5));

  const Dataset<float> in_float(data.X().cast<float>(), data.y().cast<float>());
  const auto rough =
      simulate_classification(DiagonalNet<float>(2, 7), in_float, Start<float>::uniform(Scale<float>::from_value(0.5F)),
                              {.log_accuracies = {-50.0F}})
          .require_ok();
  CHECK((rough.beta().cast<double>() - once.beta()).norm() <= 1e-2 * once.beta().norm());
}

TEST_CASE("classification of data that are barely separable", "[verbs]") {
  // Two opposite samples that differ by delta in a second feature: beta_2 = margin / delta.
  for (const double delta : {1e-2, 1e-4, 1e-6}) {
    const Dataset data(Matrix<double>{{1, delta, 0}, {1, -delta, 0}}, Vector<double>{{1, -1}});
    const auto run = simulate_classification(DiagonalNet<double>(2, 3), data, Start<>::uniform(Scale<>::from_log(-2)),
                                             {.log_accuracies = {-5, -100}});
    CAPTURE(delta, run.message);
    const ClassificationRecord<>& record = run.require_ok().records.back();
    // By symmetry the margins are equal and their sum is 2 delta beta_2: beta_1 is rounding of beta_2 at most.
    CHECK(record.beta[1] * delta == Approx(record.margin).epsilon(1e-9));
    CHECK(record.margin == Approx(100 + std::log(2.0)).epsilon(1e-6));
    CHECK(record.l1_margin <= record.l1_bound * (1 + 1e-12));
  }
}

TEST_CASE("classifications that cannot continue say so", "[verbs]") {
  Matrix<double> X(2, 2);
  X << 1, 2, 1, 2;
  Vector<double> y(2);
  y << 1, -1;
  const DiagonalNet<double> net(2, 2);
  const Start<> start = Start<>::uniform(Scale<>::from_value(1));
  const Classification<> refused = simulate_classification(net, Dataset(X, y), start, {.accuracies = {1e-3}});
  CHECK_FALSE(refused.ok());
  CHECK_FALSE(refused.is_separable);
  CHECK((refused.obstacle - Vector<double>::Constant(2, 0.5)).norm() <= 1e-14);
  CHECK(refused.message.find("not separable") != std::string::npos);
  CHECK_THROWS_MATCHES(refused.beta(), ConvergenceError, message_contains("not separable"));

  const Dataset<> data = margin_data("one_free");
  const Classification<> deep = simulate_classification(
      DiagonalNet<double>(5, 8), data, Start<>::uniform(Scale<>::from_log(-12)), {.log_accuracies = {-5}});
  CHECK(deep.status == Status::stalled);
  CHECK(deep.message.find("rounding of the dual variables") != std::string::npos);

  const Classification<> brief =
      simulate_classification(DiagonalNet<double>(2, 8), data, start, {.log_accuracies = {-1, -1e6}, .max_steps = 60});
  CHECK(brief.status == Status::max_steps);
  REQUIRE(brief.records.size() == 1);
  REQUIRE_THROWS_AS(brief.require_ok(), ConvergenceError);
}

TEST_CASE("classification refuses what is none", "[verbs]") {
  const Dataset<> data = margin_data("one_free");
  const DiagonalNet<double> net(2, 8);
  const Start<> start = Start<>::uniform(Scale<>::from_value(1));
  const auto message = [&](const Dataset<>& samples, const ClassificationOptions<>& options) {
    try {
      (void)simulate_classification(net, samples, start, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Dataset regression(data.X(), Vector<double>::Constant(5, 2));
  CHECK(message(regression, {.accuracies = {1e-3}}).find("y(0) must be +1 or -1") == 0);
  CHECK(message(data, {.accuracies = {0}}).find("accuracies[0] must be a loss of at least") == 0);
  CHECK(message(data, {.accuracies = {1e-3, nan}}).find("accuracies[1]") == 0);
  CHECK(message(data, {.log_accuracies = {nan}}).find("log_accuracies[0]") == 0);
  CHECK(message(data, {.log_accuracies = {-1e15}}).find("log_accuracies[0]") == 0);
  CHECK(message(data, {}).find("simulate_classification: say at which losses") == 0);
  CHECK(message(data, {.accuracies = {1e-3}, .tolerance = nan}).find("tolerance") == 0);
  REQUIRE_THROWS_AS(simulate_classification(DiagonalNet<double>(2, 7), data, start, {.accuracies = {1e-3}}),
                    DimensionError);
}
