#include "richflow/flow/symmetric_change_flow.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "richflow/bias/factorization.hpp"
#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/unbiased.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// A completion, or a sensing problem of measurements that are not symmetric.
Dataset<> symmetric_problem(RandomStream& random, bool is_completion) {
  const Vector<double> y = random_vector(random, 5);
  if (is_completion) return {MatrixMeasurements<double>::entries(4, 4, {{0, 1}, {1, 1}, {2, 0}, {3, 3}, {1, 3}}), y};
  return {MatrixMeasurements<double>::dense(4, 4, random_matrix(random, 5, 16)), y};
}

template <class Flow>
Vector<double> followed(const Flow& flow, const Vector<double>& start, double end, double relative) {
  PiController<> controller;
  controller.tolerance = {relative, relative};
  return integrate(flow, start, TimeSpan<>{0.0, end}, DormandPrince{}, controller).require_ok().w;
}

/// The distance of the flow's limit from the kernel predictor, relative to that.
double distance_from_kernel(const Dataset<>& data, const Matrix<double>& W0, double alpha, ZeroStart start) {
  const SymmetricChangeFlow<> flow(data, W0, Scale<>::from_value(alpha), start);
  PiController<> controller;
  controller.tolerance = {1e-12, 1e-13};
  const auto run = integrate(flow, flow.initial_state(), TimeSpan<>{0.0, std::numeric_limits<double>::infinity()},
                             DormandPrince{}, controller, {.events = {loss_below(1e-22 * data.y().squaredNorm())}});
  const Matrix<double> M = flow.kernel_limit();
  return (flow.matrix(run.require_ok().w) - M).norm() / M.norm();
}

}  // namespace

TEST_CASE("the change of a symmetric factorization flows as its weights do, with either start") {
  RandomStream random(2611);
  const SymmetricFactorization<double> model(4, 6);
  const Dataset<> data = symmetric_problem(random, false);
  const Matrix<double> U0 = random_matrix(random, 4, 6);
  const double alpha = 1.7;
  const Vector<double> w0 = model.pack(alpha * U0);
  const double tau = 0.05;
  const double t = tau / (alpha * alpha);
  const auto change = [&](ZeroStart start) {
    const SymmetricChangeFlow<> flow(data, U0 * U0.transpose(), Scale<>::from_value(alpha), start);
    return flow.matrix(followed(flow, flow.initial_state(), tau, 1e-12));
  };
  const Vector<double> w =
      followed(GradientFlow<Unbiased<SymmetricFactorization<double>>>({model, w0}, data), w0, t, 1e-12);
  const Matrix<double> expected = model.product(w) - model.product(w0);
  CHECK(expected.norm() > 0.1);
  // Steps of 1e-12, some hundred of them.
  CHECK((change(ZeroStart::subtracted) - expected).norm() <= 1e-10 * w0.squaredNorm());
  const Doubled<SymmetricFactorization<double>> doubled(model);
  const Vector<double> both = followed(GradientFlow<Doubled<SymmetricFactorization<double>>>(doubled, data),
                                       doubled.initial_parameters(w0), t, 1e-12);
  const Matrix<double> difference = model.product(both.head(24)) - model.product(both.tail(24));
  CHECK((change(ZeroStart::doubled) - difference).norm() <= 1e-10 * w0.squaredNorm());
}

TEST_CASE("the kernel limit is the kernel predictor, free of alpha, and where the flow at infinity ends") {
  RandomStream random(2612);
  const SymmetricFactorization<double> model(4, 6);
  std::vector<MatrixEntry> all;
  for (Index j = 0; j < 4; ++j)
    for (Index i = 0; i < 4; ++i) all.push_back({i, j});
  const auto entries = MatrixMeasurements<double>::entries(4, 4, all);
  for (const bool is_completion : {true, false}) {
    const Dataset<> data = symmetric_problem(random, is_completion);
    const Matrix<double> U0 = random_matrix(random, 4, 6);
    const SymmetricChangeFlow<> flow(data, U0 * U0.transpose());
    const Matrix<double> M = flow.kernel_limit();
    CHECK((data.measurements().apply(M) - data.y()).norm() <= 1e-12 * data.y().norm());
    for (const double alpha : {1.0, 30.0}) {
      const Vector<double> w0 = model.pack(alpha * U0);
      const Unbiased<SymmetricFactorization<double>> unbiased(model, w0);
      const Vector<double> predicted = KernelPredictor<double>(unbiased, w0, data).predict(entries);
      // The condition of the kernel, below 1e3.
      CHECK((predicted - M.reshaped()).norm() <= 1e-11 * M.norm());
    }
    CHECK(distance_from_kernel(data, U0 * U0.transpose(), 1e170, ZeroStart::doubled) <= 1e-8);
  }
}

TEST_CASE("appendix E: the limit nears the kernel predictor as alpha^-2, and from a doubled start as alpha^-4") {
  RandomStream random(2613);
  for (const bool is_completion : {true, false}) {
    const Dataset<> data = symmetric_problem(random, is_completion);
    const Matrix<double> U0 = random_matrix(random, 4, 6);
    const Matrix<double> W0 = U0 * U0.transpose();
    CAPTURE(is_completion);
    const auto slope = [&](ZeroStart start, double alpha) {
      const double before = distance_from_kernel(data, W0, alpha, start);
      return std::log10(distance_from_kernel(data, W0, std::sqrt(10.0) * alpha, start) / before) / 0.5;
    };
    // theory-limits, section 4. The next order is smaller by alpha^-2, and the steps' errors, 1e-12, by three digits.
    CHECK_THAT(slope(ZeroStart::subtracted, 10), near(-2, 0, 0.02));
    CHECK_THAT(slope(ZeroStart::doubled, 4), near(-4, 0, 0.02));
  }
}

TEST_CASE("a completion on which a tiny start does not lead to the least nuclear norm") {
  // Li, Luo and Lyu (2021): (1, R, 1, R) fits all that is seen, with trace 2 R^2 + 2, and a matrix of rank two with 4
  // R.
  const double R = 2;
  const Dataset<> data(MatrixMeasurements<double>::entries(4, 4, {{0, 2}, {0, 3}, {1, 2}}), Vector<double>{{1, R, R}});
  Matrix<double> least(4, 4);
  least << R, 1, 1, R, 1, R, R, 1, 1, R, R, 1, R, 1, 1, R;
  CHECK((data.measurements().apply(least) - data.y()).norm() == 0);
  CHECK(detail::lowest_eigenvalue(least) >= -8 * eps);
  const SymmetricFactorization<double> model(4, 4);
  double before = 0;
  for (const double log_alpha : {-3.0, -12.0, -24.0, -60.0}) {
    const Vector<double> w0 = model.pack(std::exp(log_alpha) * Matrix<double>::Identity(4, 4));
    const auto run = simulate(model, data, w0, {.loss = 1e-14});
    CAPTURE(log_alpha, run.message);
    REQUIRE(run.status == Status::event);
    const Matrix<double> M = model.product(run.w);
    // Away from the least, the smaller the start.
    CHECK(M.trace() > before + (log_alpha > -60 ? 0.01 : 0));
    CHECK(M.trace() > least.trace() + 0.2);
    before = M.trace();
    if (log_alpha > -60) continue;
    const Vector<double> one{{1, R, 1, R}};
    CHECK((M - one * one.transpose()).norm() <= 1e-5);
  }
}

TEST_CASE("a completion whose unseen entry runs away while the loss falls") {
  // Razin and Cohen (2020): M_01 = M_10 = 1 and M_11 = 0 are seen. det M > 0 stays, so that M_00 > M_01^2 / M_11.
  const Dataset<> data(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 1}}), Vector<double>{{1, 0}});
  const SymmetricFactorization<double> model(2, 2);
  const Vector<double> w0 = model.pack(0.1 * Matrix<double>::Identity(2, 2));
  for (const double loss : {1e-4, 1e-8, 1e-10}) {
    // Errors of single steps add up along a path that nothing pulls back to.
    const auto run = simulate(model, data, w0, {.loss = loss, .tolerance = 1e-6});
    CAPTURE(loss, run.message);
    CHECK(run.status == Status::event);
    const double unseen = model.product(run.w)(0, 0);
    // On M_00 M_11 = M_01^2 = 1 the loss is M_00^-2, and M_00' = 8 M_00^-2, to first order in the root of the loss.
    CHECK_THAT(unseen * std::sqrt(loss), near(1, std::sqrt(loss), 1e-4));
    CHECK_THAT(24 * run.t, near(unseen * unseen * unseen, 1e-3 + std::sqrt(loss), 0));
  }
  // Of U V^T this is the flow from U = V only: what differs grows like exp(2 t / M_00), det M changes its sign, and all
  // is fitted at a finite M_00.
  const MatrixFactorization<double> general(2, 2, 2);
  const Dataset<> both(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 0}, {1, 1}}), Vector<double>{{1, 1, 0}});
  Matrix<double> stack(4, 2);
  stack << 0.1, 0, 0, 0.1, 0.1, 0, 1e-7, 0.1;
  const auto run = simulate(general, both, general.pack(stack), {.loss = 1e-14}).require_ok();
  const Matrix<double> M = general.product(run.w);
  CHECK(M(0, 0) < 10);
  // Entries fit to 1e-7.
  CHECK_THAT(M(0, 0) * M(1, 1) - M(0, 1) * M(1, 0), near(-1, 2e-6, 0));
}

TEST_CASE("simulate follows the runaway completion as far as is asked, with its factorization's own flow or without") {
  using Symmetric = SymmetricFactorization<double>;
  const Dataset<> data(MatrixMeasurements<double>::entries(2, 2, {{0, 1}, {1, 1}}), Vector<double>{{1, 0}});
  const Symmetric model(2, 2);
  const Vector<double> w0 = model.pack(0.1 * Matrix<double>::Identity(2, 2));
  const auto of_any_model = [&](const SimulateOptions<>& options) {
    return simulate<Symmetric, SquaredLoss<double>>(model, data, w0, options);
  };
  for (const double loss : {0.0, 1e-6, 1e-14, 1e-20, 1e-28})
    for (const bool is_own : {true, false}) {
      const SimulateOptions<> options{.loss = loss, .max_steps = 5'000};
      const auto run = is_own ? simulate(model, data, w0, options) : of_any_model(options);
      CAPTURE(loss, is_own, run.method, run.message);
      CHECK(run.status == Status::event);
      CHECK(run.loss <= (loss > 0 ? loss : 4 * eps));
      const double unseen = model.product(run.w)(0, 0);
      // The entry seen as 1 is good to rounding, 1e-16; below a loss of 1e-28 that is in its root, too.
      CHECK_THAT(unseen * std::sqrt(run.loss), near(1, 1e-3, 0));
      // Steps of 1e-3, and 2e-3 by the lifted flow at 1e-6.
      CHECK_THAT(24 * run.t, near(unseen * unseen * unseen, 3e-3, 0));
    }
  // To a time, with values on the way; between steps of 3 % of the weights they are interpolated.
  const SimulateOptions<> timed{
      .times = {1e5, 1e10, 1e30},
      .quantities = {{"unseen", [&](const Vector<double>& w) { return model.product(w)(0, 0); }},
                     {"loss", [&](const Vector<double>& w) { return GradientFlow(model, data).loss(w); }}},
      .max_steps = 5'000};
  for (const bool is_own : {true, false}) {
    const auto run = is_own ? simulate(model, data, w0, timed) : of_any_model(timed);
    CAPTURE(is_own, run.method, run.message);
    CHECK(run.status == Status::reached_end);
    const Vector<double> times = run.table.first();
    const Vector<double> unseen = run.table["unseen"];
    REQUIRE(times.size() == 3);
    const Vector<double> losses = run.table["loss"];
    for (Index k = 0; k < 3; ++k) {
      CAPTURE(k);
      CHECK_THAT(24 * times[k], near(unseen[k] * unseen[k] * unseen[k], 5e-3, 0));
      // On the curved path, which a chord between two steps leaves; L = M_00^-2 to first order in 1 / M_00.
      CHECK_THAT(unseen[k] * std::sqrt(losses[k]), near(1, 2 / unseen[k] + 1e-3, 0));
    }
  }
  // With few steps it is said how far it came.
  for (const bool is_own : {true, false}) {
    const SimulateOptions<> few{.loss = 1e-20, .max_steps = 50};
    const auto run = is_own ? simulate(model, data, w0, few) : of_any_model(few);
    CHECK(run.status == Status::max_steps);
    CHECK_THAT(run.message, text_contains("50 steps were used up"));
    CHECK(run.loss > 1e-4);
  }
  // A square is not -1: the loss falls to 1 as |u|^2 does to 0, and no further.
  const Dataset<> impossible(MatrixMeasurements<double>::entries(2, 2, {{0, 0}}), Vector<double>{{-1}});
  for (const bool is_own : {true, false}) {
    const SimulateOptions<> half{.loss = 0.5, .max_steps = 5'000};
    const auto run = is_own ? simulate(model, impossible, w0, half)
                            : simulate<Symmetric, SquaredLoss<double>>(model, impossible, w0, half);
    CAPTURE(is_own, run.method, run.message);
    CHECK(!run.ok());
    CHECK_THAT(run.loss, near(1, 1e-6, 0));
    CHECK_THAT(run.message, text_contains("the loss is 1"));
    CHECK(run.method.find("RelaxedEuler") == std::string::npos);
  }
}

TEST_CASE("what is no start of a symmetric factorization is refused") {
  // A dataset that would be gone.
  using Change = SymmetricChangeFlow<double>;
  STATIC_REQUIRE(std::is_constructible_v<Change, const Dataset<>&, Matrix<double>, ZeroStart>);
  STATIC_REQUIRE(!std::is_constructible_v<Change, Dataset<>&&, Matrix<double>, ZeroStart>);
  STATIC_REQUIRE(!std::is_constructible_v<Change, Dataset<>&&, Matrix<double>>);
  RandomStream random(2614);
  const Dataset<> data = symmetric_problem(random, true);
  const Scale<> scale = Scale<>::from_log(0);
  const Matrix<double> one = Matrix<double>::Identity(4, 4);
  Matrix<double> skew = one;
  skew(0, 1) = 0.5;
  const auto make = [&](const Matrix<double>& W0, Scale<> alpha) {
    return SymmetricChangeFlow<>(data, W0, alpha, ZeroStart::doubled);
  };
  CHECK_THROWS_MATCHES(make(skew, scale), ArgumentError, message_contains("differs from its transpose by 0.7"));
  CHECK_THROWS_MATCHES(make(-one, scale), ArgumentError, message_contains("has the eigenvalue -1"));
  CHECK_THROWS_MATCHES(make(one, Scale<>::from_log(-400)), ArgumentError, message_contains("alpha^-2"));
  CHECK_THROWS_AS(make(Matrix<double>::Identity(3, 3), scale), DimensionError);
  CHECK_THROWS_AS(make(Matrix<double>::Ones(4, 3), scale), DimensionError);
  const Vector<double> thin{{1, 0, 0, 0}};
  CHECK_THROWS_MATCHES(SymmetricChangeFlow<>(data, thin * thin.transpose()).kernel_limit(), InfeasibleError,
                       message_contains("kernel of the start is singular"));
}
