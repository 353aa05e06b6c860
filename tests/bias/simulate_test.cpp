#include "richflow/bias/simulate.hpp"

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <vector>

#include "richflow/bias/solve.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/fully_connected.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// `simulate` stops at a residual of 1.5e-8 |y|, which the columns in use (of a Gaussian X with d = 4 N) turn into
/// several times that much in beta.
constexpr double agreement = 1e-6;

template <class Net>
void check_agreement(const Net& net, const Dataset<>& data, const Start<>& start) {
  CAPTURE(start.family(), start.scale().log());
  const Limit<> limit = solve(net, data, start);
  const Simulation<> run = simulate(net, data, start);
  CAPTURE(limit.message, run.message, run.method, run.stats);
  REQUIRE(limit.ok());
  REQUIRE(run.ok());
  CHECK(run.status == Status::event);
  CHECK((run.beta - limit.beta).norm() <= agreement * limit.l2());
  CHECK_THAT(run.l1(), near(limit.l1(), 10 * agreement, 0));
  const Vector<double> at_start = data.X() * simulate(net, data, start, {.max_time = 1e-300}).beta;
  const double size = std::max(data.y().norm(), at_start.norm());
  CHECK((run.f(data.X()) - data.y()).norm() <= 1.5e-8 * size);
  CHECK_THAT(run.loss, near(std::numeric_limits<double>::epsilon() * size * size, 1e-3, 0));
  CHECK((run.steps > 0 && run.t > 0));
}

/// The flow of the weights by small explicit steps, until time t.
template <class Net>
Vector<double> integrate_weights(const Net& net, const Dataset<>& data, const Start<>& start, double t) {
  const GradientFlow flow(net, data);
  const PiController<> control{.tolerance = {.relative = 1e-11, .absolute = 1e-13}};
  return integrate(flow, net.initial_parameters(start), TimeSpan{0, t}, DormandPrince{}, control).require_ok().w;
}

/// A user's regularizer, `alpha sum_i q(beta_i / alpha)`, by its gradient's inverse alone: beta = alpha (z + z^3).
struct Cubic {
  using Scalar = double;
  Index d;
  Scale<> alpha;
  [[nodiscard]] Index dimension() const { return d; }
  [[nodiscard]] double value(ConstVectorRef<double> beta) const {
    Vector<double> z(d);
    gradient(beta, z);
    return z.dot(beta) - conjugate(z);
  }
  void gradient(ConstVectorRef<double> beta, VectorRef<double> out) const {
    // The real root of z^3 + z = u.
    for (Index i = 0; i < d; ++i)
      out[i] = 2 / std::sqrt(3.0) * std::sinh(std::asinh(1.5 * std::sqrt(3.0) * beta[i] / alpha.value()) / 3);
  }
  void mirror(ConstVectorRef<double> z, VectorRef<double> beta, VectorRef<double> curvature) const {
    beta = alpha.value() * (z.array() + z.array().cube());
    curvature = alpha.value() * (1 + 3 * z.array().square());
  }
  [[nodiscard]] double conjugate(ConstVectorRef<double> z) const {
    return alpha.value() * (z.array().square() / 2 + z.array().pow(4) / 4).sum();
  }
  [[nodiscard]] double max_step(ConstVectorRef<double>, ConstVectorRef<double>) const {
    return std::numeric_limits<double>::infinity();
  }
  [[nodiscard]] Scale<> scale() const { return alpha; }
  [[nodiscard]] Cubic with_scale(Scale<> scale) const { return {d, scale}; }
  [[nodiscard]] double homogeneity() const { return 1; }
  [[nodiscard]] double dual_rate() const { return 5; }
};

/// Its flow in the d mirror variables, `z' = -5 X^T (X beta(z) - y)`.
struct CubicFlow {
  using Scalar = double;
  const Cubic& Q;
  const Dataset<>& data;
  [[nodiscard]] Index dimension() const { return Q.d; }
  void operator()(double, ConstVectorRef<double> z, VectorRef<double> dz) const {
    Vector<double> beta(Q.d), curvature(Q.d);
    Q.mirror(z, beta, curvature);
    dz = -5 * data.X().transpose() * (data.X() * beta - data.y());
  }
};

/// The model of `X = (u, 1, 2; 3, 1, 1)`, `y = (1, 2)`: the first column in a unit of its own.
template <class S>
[[nodiscard]] Dataset<S> column_in_unit(S unit) {
  Matrix<S> X(2, 3);
  X << unit, 1, 2, 3, 1, 1;
  return Dataset<S>(X, Vector<S>{{1, 2}});
}

/// What its flow comes to as u grows: the first column fits the first row at once and for nothing, so that nu_0 = 0,
/// and what is left is the flow of the second row, with the other columns.
[[nodiscard]] Dataset<> rest_of_columns() {
  return Dataset<>(Matrix<double>::Ones(1, 2), Vector<double>::Constant(1, 2.0));
}

}  // namespace

TEST_CASE("simulate and solve agree at every depth, start and scale", "[verbs]") {
  RandomStream random(91);
  const Index d = 32;
  for (const int repetition : {0, 1}) {
    const Dataset<> data = gaussian_data(random, 8, d);
    const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
    const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
    CAPTURE(repetition);
    for (const Index depth : {2, 3, 5}) {
      CAPTURE(depth);
      for (const double log_size : {-8.0, -2.0, 1.0}) {
        const Scale<> scale = Scale<>::from_log(log_size / static_cast<double>(depth));
        const DiagonalNet<double> net(depth, d);
        check_agreement(net, data, Start<>::uniform(scale));
        check_agreement(net, data, Start<>::shaped(scale, a));
        check_agreement(net, data, Start<>::biased(scale, a, b));
      }
    }
    const TwoLayerDiagonalNet<double> two(d);
    for (const double log_alpha : {-30.0, -1.0, 1.0}) {
      const Scale<> scale = Scale<>::from_log(log_alpha);
      check_agreement(two, data, Start<>::uniform(scale));
      check_agreement(two, data, Start<>::biased(scale, a, b));
      check_agreement(two, data, Start<>::unbalanced(scale, a, -b));
      check_agreement(two, data, Start<>::unbalanced(scale, a, Vector<double>::Zero(d)));
    }
    for (const double log_alpha : {-500.0, 180.0, 300.0})
      check_agreement(SquaredDiagonalNet<double>(d), data, Start<>::uniform(Scale<>::from_log(log_alpha)));
  }
}

TEST_CASE("logarithms of -395 on a scale of -500 are simulated and solved end to end", "[verbs]") {
  RandomStream random(92);
  const Index d = 24;
  const Dataset<> data = gaussian_data(random, 6, d);
  const Scale<> scale = Scale<>::from_log(-500);
  Vector<double> log_a(d), log_b(d);
  for (double& entry : log_a) entry = -395 + random.uniform(-2.0, 2.0);
  for (double& entry : log_b) entry = -395 + random.uniform(-2.0, 2.0);
  check_agreement(DiagonalNet<double>(2, d), data, Start<>::shaped_logs(scale, log_a));
  check_agreement(DiagonalNet<double>(2, d), data, Start<>::biased_logs(scale, log_a, log_b));
  check_agreement(TwoLayerDiagonalNet<double>(d), data, Start<>::biased_logs(scale, log_a, log_b));
  for (double& entry : log_a) entry = -random.uniform(0.0, 395.0);
  check_agreement(DiagonalNet<double>(2, d), data, Start<>::shaped_logs(scale, log_a));
}

TEST_CASE("where the dual variables have no digits left the weights are followed", "[verbs]") {
  RandomStream random(93);
  const Index d = 24;
  const Dataset<> data = gaussian_data(random, 6, d);
  for (const auto& [depth, log_alpha] : {std::pair<Index, double>{3, -20.0}, {5, -8.0}}) {
    CAPTURE(depth, log_alpha);
    const DiagonalNet<double> net(depth, d);
    const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
    const Simulation<> run = simulate(net, data, start);
    CAPTURE(run.message, run.method);
    REQUIRE(run.ok());
    CHECK_THAT(run.method, text_contains("weights"));
    // Errors of 1e-3 in the weights may remain in the limit, times the depth.
    const Limit<> limit = solve(net, data, start);
    CHECK((run.beta - limit.beta).norm() <= 1e-2 * limit.l2());
    CHECK(run.w.size() == 2 * d);
  }
  // A shape that takes the digits.
  const Vector<double> w0 = random_positive_vector(random, d, 1e-3, 1e-2);
  const Start<> small = Start<>::shaped(Scale<>::from_log(-10), w0);
  const Simulation<> shaped = simulate(DiagonalNet<double>(3, d), data, small);
  CAPTURE(shaped.message, shaped.method);
  CHECK(shaped.ok());
  CHECK((shaped.beta - solve(DiagonalNet<double>(3, d), data, small).beta).norm() <= 1e-2 * shaped.l2());
  // So deep that a step through the escape of a weight loses the flow: it does not pass for a limit.
  const DiagonalNet<double> deep(100, d);
  for (const double log_alpha : {-0.2, -0.3}) {
    const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
    const Simulation<> run = simulate(deep, data, start);
    CAPTURE(log_alpha, run.message, run.method);
    CHECK((!run.ok() || (run.beta - solve(deep, data, start).beta).norm() <= 0.1 * run.l2()));
  }
}

TEST_CASE("weights and values are those of the flow of the weights", "[verbs]") {
  RandomStream random(94);
  const Index d = 10;
  const Dataset<> data = gaussian_data(random, 3, d);
  const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
  const Scale<> scale = Scale<>::from_value(0.4);
  const auto check = [&](const auto& net, const Start<>& start) {
    CAPTURE(start.family());
    const double t = 0.05;
    const Simulation<> run = simulate(net, data, start, {.tolerance = 1e-7, .times = {t / 4, t}});
    REQUIRE(run.ok());
    CHECK(run.status == Status::reached_end);
    CHECK((run.times == std::vector<double>{t / 4, t} && run.t == t));
    const Vector<double> w = integrate_weights(net, data, start, t);
    CHECK((run.w - w).norm() <= 1e-5 * w.norm());
    Vector<double> beta(d);
    net.beta(w, beta);
    CHECK((run.values[1] - beta).norm() <= 1e-5 * beta.norm());
    CHECK(run.values[1] == run.beta);
    net.beta(integrate_weights(net, data, start, t / 4), beta);
    CHECK((run.values[0] - beta).norm() <= 1e-4 * beta.norm());
    CHECK_THAT(run.loss, near((data.X() * run.beta - data.y()).squaredNorm(), 1e-10, 0));
  };
  for (const Index depth : {2, 3, 5}) {
    const DiagonalNet<double> net(depth, d);
    check(net, Start<>::uniform(scale));
    check(net, Start<>::shaped(scale, a));
    check(net, Start<>::biased(scale, a, b));
  }
  const TwoLayerDiagonalNet<double> two(d);
  check(two, Start<>::uniform(scale));
  check(two, Start<>::biased(scale, a, b));
  check(two, Start<>::unbalanced(scale, a, -b));
}

TEST_CASE("simulate stops where it is asked to", "[verbs]") {
  RandomStream random(95);
  const Dataset<> data = gaussian_data(random, 5, 20);
  const DiagonalNet<double> net(2, 20);
  const Start<> start = Start<>::uniform(Scale<>::from_log(-3));
  const Simulation<> run = simulate(net, data, start, {.loss = 1e-3});
  CHECK_THAT(run.loss, near(1e-3, 1e-6, 0));
  CHECK_THAT(run.method, text_contains("Q_alpha (depth 2, uniform start)"));
  CHECK(certify(regularizer(net, start), data, run.beta, run.nu).kkt_residual <= 1e-12);
  CHECK(simulate(net, data, start, {.max_time = 0.01}).t == 0.01);
  CHECK(simulate(net, data, start, {.max_time = 0.5, .times = {0.25}}).t == 0.5);
  Index seen = 0;
  auto count = [&](const StepView<double>&) {
    ++seen;
    return seen == 3 ? Action::stop : Action::proceed;
  };
  const Simulation<> stopped = simulate(net, data, start, {.observers = {count}});
  CHECK((stopped.steps == 3 && stopped.status == Status::stopped_by_observer));
  const Simulation<> cut = simulate(net, data, start, {.max_steps = 2});
  CHECK(!cut.ok());
  CHECK_THROWS_AS(cut.require_ok(), ConvergenceError);

  CHECK_THROWS_MATCHES(simulate(net, data, start, {.loss = -1}), ArgumentError, message_contains("loss"));
  CHECK_THROWS_MATCHES(simulate(net, data, start, {.tolerance = std::nan("")}), ArgumentError,
                       message_contains("tolerance"));
  CHECK_THROWS_MATCHES(simulate(net, data, start, {.max_time = 0}), ArgumentError, message_contains("max_time"));
  CHECK_THROWS_AS(simulate(net, data, start, {.times = {2, 1}}), ArgumentError);
  CHECK_THROWS_AS(simulate(DiagonalNet<double>(2, 19), data, start), DimensionError);

  // Labels that nothing fits end no run; a time does.
  Matrix<double> X(6, 20);
  X << data.X(), data.X().row(0);
  Vector<double> y(6);
  y << data.y(), data.y()[0];
  CHECK(simulate(net, Dataset(X, y), start).ok());
  y[5] += 1;
  CHECK_THROWS_AS(simulate(net, Dataset(X, y), start), InfeasibleError);
  CHECK_THAT(simulate(net, Dataset(X, y), start, {.max_time = 1e4}).loss, near(0.5, 1e-3, 0));
  // Nothing to do.
  const Simulation<> idle = simulate(net, Dataset(data.X(), Vector<double>::Zero(5)), start);
  CHECK((idle.ok() && idle.steps == 0 && idle.beta.isZero(0)));
  // Columns in very different units.
  Matrix<double> graded = data.X();
  graded.col(0) *= 1e6;
  graded.col(3) *= 1e-6;
  check_agreement(net, Dataset(graded, data.y()), start);
}

TEST_CASE("simulate and solve agree in float, to half its digits", "[verbs]") {
  RandomStream random(97);
  const Dataset<> data = gaussian_data(random, 6, 24);
  const Dataset<float> narrow(data.X().cast<float>(), data.y().cast<float>());
  for (const float log_alpha : {-30.0F, -2.0F, 1.0F}) {
    const auto start = Start<float>::uniform(Scale<float>::from_log(log_alpha));
    const DiagonalNet<float> net(2, 24);
    const auto run = simulate(net, narrow, start);
    CAPTURE(log_alpha, run.message);
    CHECK(run.ok());
    CHECK((run.beta - solve(net, narrow, start).beta).norm() <= 2e-2F * run.l2());
  }
}

TEST_CASE("simulate keeps quantities and is resumed from its file", "[verbs]") {
  RandomStream random(2441);
  const Dataset data(random_matrix(random, 5, 12) / std::sqrt(5.0), random_vector(random, 5));
  const DiagonalNet net(2, 12);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.1));
  const TemporaryFolder folder;
  SimulateOptions<> options;
  options.loss = 1e-6;
  options.quantities = {{"l1", [](const Vector<double>& beta) { return l1_norm(beta); }}};
  const Simulation<> straight = simulate(net, data, start, options).require_ok();
  REQUIRE(straight.table.num_rows() == straight.steps + 1);
  CHECK(straight.table["l1"][straight.steps] == straight.l1());

  // Ended by its steps and called again; then asked for less loss than what has ended it.
  options.checkpoint.file = folder.path() / "run";
  options.max_steps = 3;
  CHECK(simulate(net, data, start, options).status == Status::max_steps);
  options.max_steps = 100'000;
  const Simulation<> resumed = simulate(net, data, start, options).require_ok();
  CHECK(resumed.beta == straight.beta);
  CHECK(resumed.table["l1"] == straight.table["l1"]);
  CHECK(simulate(net, data, start, options).require_ok().beta == straight.beta);
  options.loss = 1e-10;
  CHECK(simulate(net, data, start, options).require_ok().loss <= 1e-10);

  // Of weights at times, with a value per name: those of the run without a table.
  const Vector<double> w0 = net.initial_parameters(start);
  const auto of_weights = simulate(net, data, w0, {.times = {0.1, 0.5}});
  const auto table =
      simulate(net, data, w0, {.times = {0.1, 0.5}, .quantities = {{"w", [](const Vector<double>& w) { return w; }}}});
  REQUIRE(table.table.num_rows() == 2);
  CHECK(table.values.empty());
  CHECK(table.table.columns("w").row(1).transpose() == of_weights.values[1]);
}

TEST_CASE("weights that take over from dual variables have a file of their own", "[verbs]") {
  RandomStream random(2442);
  const Dataset data(random_matrix(random, 5, 12) / std::sqrt(5.0), random_vector(random, 5));
  const DiagonalNet net(3, 12);
  Vector<double> logs = Vector<double>::Constant(12, -18.0);
  logs[0] = 0;
  const Start<> start = Start<>::biased_logs(Scale<>::from_log(-4), logs, logs);
  const TemporaryFolder folder;
  const Simulation<> without = simulate(net, data, start);
  for (int call = 0; call < 2; ++call) {
    const Simulation<> with = simulate(net, data, start, {.checkpoint = {.file = folder.path() / "run"}});
    CHECK(with.status == without.status);
    CHECK(with.beta == without.beta);
  }
}

TEST_CASE("any model is simulated from its weights", "[verbs]") {
  RandomStream random(96);
  const Dataset<> data = gaussian_data(random, 6, 3);
  const auto relu = ReluNetwork<double>::uniform_width(3, 2, 60);
  const auto run = simulate(relu, data, relu.initial_parameters(random, Scale<>::from_value(1.0)), {.loss = 1e-10});
  CAPTURE(run.message);
  REQUIRE(run.ok());
  CHECK_THAT(run.method, text_contains("Ros2"));
  CHECK((run.f(data.X()) - data.y()).norm() <= 1.01e-5);

  const Dataset<> wide = gaussian_data(random, 5, 20);
  const DiagonalNet<double> net(2, 20);
  const Start<> start = Start<>::uniform(Scale<>::from_value(0.3));
  const auto smooth = simulate(net, wide, net.initial_parameters(start), {.tolerance = 1e-6});
  CAPTURE(smooth.message);
  REQUIRE(smooth.ok());
  CHECK_THAT(smooth.method, text_contains("Ros34Pw2"));
  CHECK((smooth.f(wide.X()) - wide.y()).norm() <= 2e-8 * wide.y().norm());
  Vector<double> beta(20);
  net.beta(smooth.w, beta);
  const Limit<> limit = solve(net, wide, start);
  CHECK((beta - limit.beta).norm() <= 1e-4 * limit.l2());

  // A loss without an infimum that is reached.
  const Dataset signs(wide.X(), wide.y().cwiseSign());
  CHECK_THROWS_MATCHES(simulate(net, signs, smooth.w, {}, LogisticLoss<double>{}), ArgumentError,
                       message_contains("where to stop"));
  CHECK(simulate(net, signs, smooth.w, {.loss = 0.1}, LogisticLoss<double>{}).ok());
  CHECK_THROWS_AS(simulate(net, wide, Vector<double>::Zero(3)), DimensionError);
}

TEST_CASE("the flow of a regularizer of one's own is simulated, with its times", "[verbs]") {
  RandomStream random(97);
  const Dataset<> data = gaussian_data(random, 5, 20);
  for (const double log_alpha : {2.0, -3.0}) {
    CAPTURE(log_alpha);
    const Cubic Q{20, Scale<>::from_log(log_alpha)};
    const Simulation<> end = simulate(Q, data);
    CAPTURE(end.message);
    REQUIRE(end.ok());
    CHECK_THAT(end.method, text_contains("the dual flow of a mirror map, 5 unknowns"));
    CHECK(end.w.size() == 0);
    CHECK(certify(Q, data, end.beta, end.nu).kkt_residual <= 1e-13);
    MirrorPath<Cubic> path(data, Q);
    const Vector<double> limit = path.solve(Q.scale()).require_ok().beta;
    CHECK((end.beta - limit).norm() <= agreement * limit.norm());
    // Errors of 1e-6 of beta in every step, which add up at most.
    const std::vector<double> times = {0.1 * end.t, 0.3 * end.t};
    const Simulation<> run = simulate(Q, data, {.tolerance = 1e-6, .times = times});
    REQUIRE(run.values.size() == 2);
    const PiController<> control{.tolerance = {.relative = 1e-11, .absolute = 1e-13}};
    for (std::size_t k = 0; k < 2; ++k) {
      Vector<double> beta(20), curvature(20);
      Q.mirror(integrate(CubicFlow{Q, data}, Vector<double>(Vector<double>::Zero(20)), TimeSpan{0, times[k]},
                         DormandPrince{}, control)
                   .require_ok()
                   .w,
               beta, curvature);
      CHECK((run.values[k] - beta).norm() <= 1e-6 * static_cast<double>(run.steps) * beta.norm());
    }
  }
  // Of a net's regularizer it is the flow of the net.
  const DiagonalNet<double> net(2, 20);
  const Start<> start = Start<>::uniform(Scale<>::from_log(-5));
  const Simulation<> of_net = simulate(net, data, start);
  const Simulation<> of_regularizer = simulate(regularizer(net, start), data);
  CHECK(of_regularizer.beta == of_net.beta);
  CHECK(of_regularizer.t == of_net.t);
  CHECK(of_regularizer.method == of_net.method);
  CHECK_THROWS_AS(simulate(Cubic{3, Scale<>::from_log(0)}, data), DimensionError);
}

TEST_CASE("a column in another unit is simulated, with its times", "[verbs]") {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  for (const int depth : {2, 3}) {
    for (const double log_alpha : {2.0, 0.0, -6.0}) {
      const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
      const Simulation<> rest =
          simulate(DiagonalNet<double>(depth, 2), rest_of_columns(), start, {.loss = 5 * epsilon, .tolerance = 1e-8});
      const std::vector<double> times = {0.03 * rest.t, 0.1 * rest.t, 0.3 * rest.t, 0.6 * rest.t};
      const Simulation<> at_times =
          simulate(DiagonalNet<double>(depth, 2), rest_of_columns(), start, {.tolerance = 1e-8, .times = times});
      REQUIRE((rest.ok() && at_times.ok()));
      for (const double unit : {1e10, 1e18}) {
        CAPTURE(depth, log_alpha, unit);
        const Dataset<> data = column_in_unit(unit);
        const DiagonalNet<double> net(depth, 3);
        const Simulation<> run = simulate(net, data, start);
        CAPTURE(run.message, run.method);
        REQUIRE(run.ok());
        CHECK_THAT(run.method, text_contains("by Rodas4, errors relative to beta within 1e-07"));
        CHECK((run.f(data.X()) - data.y()).norm() <= 1.5e-8 * data.y().norm());
        // Of what the other columns fit, and of the first one by its own size.
        const Vector<double> error = run.beta - solve(net, data, start).require_ok().beta;
        CHECK(Vector<double>{{unit * error[0], error[1], error[2]}}.norm() <= agreement);
        // As documented.
        CHECK_THAT(run.t, near(rest.t, 1e-2, 0));
        // Errors of 1e-7 of `(u beta_0, beta)`, at most (-2, 1, 1), in every step, which add up at most; and z_0, at
        // most 1 / alpha, makes 3 z_0 / u of what is left.
        const Simulation<> on_the_way = simulate(net, data, start, {.times = times});
        REQUIRE(on_the_way.values.size() == times.size());
        const double allowed = 2.5e-7 * static_cast<double>(on_the_way.steps) + 3 * std::exp(6) * 4 / unit;
        for (std::size_t k = 0; k < times.size(); ++k) {
          CAPTURE(k);
          CHECK((on_the_way.values[k].tail(2) - at_times.values[k]).norm() <= allowed);
          CHECK_THAT(unit * on_the_way.values[k][0], near(1 - 3 * at_times.values[k][0], 0, 3 * allowed));
        }
      }
    }
  }
  // Columns a little apart are followed as any others, and far below any scale, too.
  CHECK_THAT(simulate(DiagonalNet<double>(2, 3), column_in_unit(1e4), Start<>::uniform(Scale<>::from_log(0))).method,
             text_contains("by ExponentialRosenbrock"));
  const Start<> tiny = Start<>::uniform(Scale<>::from_log(-22));
  const Dataset<> data = column_in_unit(1e18);
  const Simulation<> from_tiny = simulate(DiagonalNet<double>(2, 3), data, tiny).require_ok();
  CHECK((from_tiny.beta - solve(DiagonalNet<double>(2, 3), data, tiny).require_ok().beta).tail(2).norm() <= agreement);
}

TEST_CASE("a column in another unit is simulated in float, watched and resumed", "[verbs]") {
  // In float the errors of a step are within 1e-4 of 2.5, and those of some twenty steps add up to no more than this.
  constexpr double of_float = 5e-3;
  const Start<> start = Start<>::uniform(Scale<>::from_log(-6));
  const Simulation<> rest =
      simulate(DiagonalNet<double>(2, 2), rest_of_columns(), start, {.tolerance = 1e-8, .times = {0.5, 0.7}});
  const auto narrow = simulate(DiagonalNet<float>(2, 3), column_in_unit(1e10F),
                               Start<float>::uniform(Scale<float>::from_log(-6)), {.times = {0.5F, 0.7F}});
  CAPTURE(narrow.message, narrow.method);
  REQUIRE((narrow.ok() && narrow.values.size() == 2));
  for (std::size_t k = 0; k < 2; ++k)
    CHECK((narrow.values[k].tail(2).cast<double>() - rest.values[k]).norm() <= of_float);

  // A regularizer by itself, with quantities, an observer and a file: one run.
  const Dataset<> data = column_in_unit(1e18);
  const auto Q = regularizer(DiagonalNet<double>(2, 3), start);
  double last = 0;
  bool is_increasing = true;
  const auto watch = [&](const StepView<double>& view) {
    is_increasing = is_increasing && view.t > last;
    last = view.t;
    return Action::proceed;
  };
  SimulateOptions<> options;
  options.quantities = {{"rest", [](const Vector<double>& beta) { return beta[1] + beta[2]; }}};
  options.observers = {watch};
  const Simulation<> straight = simulate(Q, data, options).require_ok();
  CHECK(is_increasing);
  CHECK(last == straight.t);
  CHECK(straight.table["rest"][straight.steps] == straight.beta[1] + straight.beta[2]);
  const TemporaryFolder folder;
  options.observers.clear();
  options.checkpoint.file = folder.path() / "run";
  options.max_steps = 20;
  CHECK(simulate(Q, data, options).status == Status::max_steps);
  options.max_steps = 100'000;
  const Simulation<> resumed = simulate(Q, data, options).require_ok();
  CHECK(resumed.beta == straight.beta);
  CHECK(resumed.nu == straight.nu);
  CHECK(resumed.table["rest"] == straight.table["rest"]);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) CHECK(entry.path().filename() == "run");
}
