#include "richflow/flow/decaying_dual_flow.hpp"

#include <cmath>
#include <utility>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/decay_schedule.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// 5 x 12, labels of a sparse beta and noise.
Dataset<> decaying_data(std::uint64_t seed) {
  RandomStream random(seed);
  Matrix<double> X = random_matrix(random, 5, 12);
  Vector<double> y = X.col(0) - 0.7 * X.col(4);
  for (double& value : y) value += 0.2 * random.normal();
  return Dataset(std::move(X), std::move(y));
}

Solution<double> run_decaying(const DecayingDualFlow<double>& flow, double end, double tolerance = 1e-9,
                              const std::vector<double>& times = {}) {
  IntegrateOptions<> options;
  options.save_at.times = times;
  return integrate(flow, flow.initial_state(), TimeSpan{0, end}, Rodas4{},
                   PiController<>{.tolerance = {tolerance, 0}, .first_step = flow.first_step()}, options)
      .require_ok();
}

/// The weights themselves, by an explicit method.
template <class Net, class Lambda>
Solution<double> run_weights(const Net& net, const Dataset<>& data, const Start<>& start, const Lambda& lambda,
                             const std::vector<double>& times) {
  IntegrateOptions<> options;
  options.save_at.times = times;
  return integrate(WithWeightDecay(GradientFlow(net, data), lambda), net.initial_parameters(start),
                   TimeSpan{0, times.back()}, DormandPrince{}, PiController<>{.tolerance = {1e-10, 1e-14}}, options)
      .require_ok();
}

/// Beta at every time, against that of the weights.
template <class Net, class Lambda>
void check_against_weights(const Net& net, const Dataset<>& data, const Start<>& start, const Lambda& lambda) {
  const std::vector<double> times = {0.01, 0.1, 0.5, 3.0};
  const DecayingDualFlow<double> flow(net, data, start, lambda);
  const auto dual = run_decaying(flow, times.back(), 1e-9, times);
  const auto direct = run_weights(net, data, start, lambda, times);
  REQUIRE(dual.values.size() == times.size());
  for (std::size_t k = 0; k < times.size(); ++k) {
    Vector<double> beta(data.num_inputs());
    net.beta(direct.values[k], beta);
    INFO("t = " << times[k]);
    // Errors of a step of 1e-9 and 1e-10, over some hundred steps.
    CHECK((flow.beta(dual.values[k]) - beta).norm() <= 1e-6 * beta.norm());
    CHECK_THAT(flow.loss(dual.values[k]), near((data.X() * beta - data.y()).squaredNorm(), 1e-5, 1e-12));
  }
}

/// Solves with the Jacobian that differences of the field show.
void check_solver(const DecayingDualFlow<double>& flow, const Vector<double>& state) {
  const Index size = flow.dimension();
  Matrix<double> jacobian(size, size);
  Vector<double> above(size), below(size);
  for (Index j = 0; j < size; ++j) {
    const double step = 1e-6;
    flow(0, state + step * Vector<double>::Unit(size, j), above);
    flow(0, state - step * Vector<double>::Unit(size, j), below);
    jacobian.col(j) = (above - below) / (2 * step);
  }
  auto solver = flow.make_linear_solver();
  flow.linearize(0, state, solver);
  const double shift = 3.0;
  REQUIRE(flow.factorize(shift, solver));
  RandomStream random(7);
  const Vector<double> right = random_vector(random, size);
  Vector<double> u = right;
  flow.solve(solver, u);
  // Differences of second order.
  CHECK((shift * u - jacobian * u - right).norm() <= 1e-7 * (jacobian.norm() * u.norm()));
}

}  // namespace

TEST_CASE("the decaying dual flow is the flow of the weights with weight decay") {
  const Dataset<> data = decaying_data(2410);
  const SquaredDiagonalNet<double> net(12);
  RandomStream random(2411);
  const Vector<double> a = random_positive_vector(random, 12, 0.5, 2.0),
                       b = random_positive_vector(random, 12, 0.5, 2.0);
  for (const double lambda : {0.0, 0.1, 1.0}) {
    check_against_weights(net, data, Start<>::uniform(Scale<>::from_value(0.3)), lambda);
    check_against_weights(net, data, Start<>::biased(Scale<>::from_value(0.5), a, b), lambda);
    check_against_weights(TwoLayerDiagonalNet<double>(12), data, Start<>::unbalanced(Scale<>::from_value(0.4), a, -b),
                          lambda);
  }
}

TEST_CASE("with decay beta is at every time what the decayed scale goes to, and in the end the lasso") {
  const Dataset<> data = decaying_data(2412);
  const SquaredDiagonalNet<double> net(12);
  const double lambda = 0.2;
  const Scale<> alpha = Scale<>::from_value(2.0);
  const DecayingDualFlow<double> flow(net, data, Start<>::uniform(alpha), lambda);
  const std::vector<double> times = {0.05, 1.0, 10.0, 400.0};
  const auto run = run_decaying(flow, times.back(), 1e-7, times);
  for (std::size_t k = 0; k + 1 < times.size(); ++k) {
    const Vector<double> beta = flow.beta(run.values[k]);
    const Hypentropy<> Q = Hypentropy<>::uniform(12, Scale<>::from_log(alpha.log() - 2 * lambda * times[k]));
    // grad Q(beta) = X^T nu by construction of the flow: rounding.
    CHECK(certify(Q, Dataset(data.X(), data.X() * beta), beta).kkt_residual <= 1e-10);
  }
  // |X beta - y|^2 + lambda |beta|_1: 2 |X_i^T r| <= lambda, with equality where beta is.
  const Vector<double> beta = flow.beta(run.w);
  const Vector<double> slope = 2 * data.X().transpose() * (data.X() * beta - data.y());
  Index active = 0;
  for (Index i = 0; i < 12; ++i) {
    CHECK(std::abs(slope[i]) <= lambda * (1 + 1e-4));
    if (std::abs(beta[i]) < 1e-3) continue;
    ++active;
    CHECK_THAT(slope[i], near(beta[i] > 0 ? -lambda : lambda, 1e-4, 0));
  }
  CHECK(active >= 2);
}

TEST_CASE("decay that changes with time: the weights' own flow, and exactly the decayed scale where it ends") {
  const Dataset<> data = decaying_data(2417);
  const SquaredDiagonalNet<double> net(12);
  RandomStream random(2418);
  const Vector<double> a = random_positive_vector(random, 12, 0.5, 2.0),
                       b = random_positive_vector(random, 12, 0.5, 2.0);
  const Start<> biased = Start<>::biased(Scale<>::from_value(0.5), a, b);
  const DecaySchedule<> pieces({{0.3, 0.4}, {0.0, 0.2}, {1.0, 0.7}});
  const DecaySchedule<> smooth([](double t) { return 0.5 * std::exp(-2 * t); });
  check_against_weights(net, data, biased, pieces);
  check_against_weights(net, data, biased, smooth);
  check_against_weights(TwoLayerDiagonalNet<double>(12), data, Start<>::unbalanced(Scale<>::from_value(0.4), a, -b),
                        smooth);

  // Decay, then none: the limit is that of the scale alpha e^(-2 Lambda), and not that of alpha.
  const std::pair<DecaySchedule<>, double> ends[] = {{pieces, 0.82}, {smooth, 0.25}};
  for (const auto& [schedule, Lambda] : ends) {
    const DecayingDualFlow<double> flow(net, data, biased, schedule);
    const Vector<double> beta = flow.beta(run_decaying(flow, 60.0).w);
    const auto limit_of = [&](double log_shift) {
      const Scale<> scale = Scale<>::from_log(std::log(0.5) + log_shift);
      MirrorPath<Hypentropy<>> path(data, Hypentropy<>::biased(a, b, scale));
      return Vector<double>(path.solve(scale).require_ok().beta);
    };
    const Vector<double> limit = limit_of(-2 * Lambda);
    // Steps of an error of 1e-9, and e^(-4 * 30) of the decay left.
    CHECK((beta - limit).norm() <= 1e-8 * limit.norm());
    CHECK((beta - limit_of(0)).norm() > 0.01 * limit.norm());
  }
}

TEST_CASE("the Jacobian of the decaying dual flow, its integrals included") {
  const Dataset<> data = decaying_data(2413);
  RandomStream random(2414);
  detail::SideLogs<double> start{0.3 * random_vector(random, 12), 0.3 * random_vector(random, 12)};
  const Vector<double> rate = random_positive_vector(random, 12, 0.1, 0.4);
  for (const auto& quadrature :
       {detail::FlowQuadrature<double>{}, detail::FlowQuadrature<double>{0.7, 0, 0},
        detail::FlowQuadrature<double>{0.7, 0.4, 0}, detail::FlowQuadrature<double>{0.7, 0.4, 0.02, 0.6}}) {
    const DecayingDualFlow<double> flow(data, start, rate, 8.0, quadrature);
    Vector<double> state = 0.05 * random_vector(random, flow.dimension());
    check_solver(flow, state);
    if (quadrature.fluctuation != 0) continue;
    const DecaySchedule<> common([](double t) { return 0.3 + 0.2 * std::sin(3 * t); });
    const DecayingDualFlow<double> deep(data, start, Vector<double>::Zero(12), 6.0, quadrature, 3, common);
    state = 0.02 * random_vector(random, deep.dimension());
    check_solver(deep, state);
    // Integrals that feed back, of what does not depend on the state.
    const DecayingDualFlow<double> noisy(data, start, rate, 6.0, {0, 0, 0, 0, true}, 3, common);
    state = 0.02 * random_vector(random, noisy.dimension());
    check_solver(noisy, state);
  }
}

TEST_CASE("fluctuations on many features are those on few beside columns of zeros") {
  const Dataset<> data = decaying_data(2418);
  constexpr Index d = 12, many = 2100, N = 5;
  Matrix<double> X = Matrix<double>::Zero(N, many);
  X.leftCols(d) = data.X();
  const Dataset padded(std::move(X), data.y());
  const auto flow_of = [](const Dataset<>& on) {
    const Index size = on.num_inputs();
    return DecayingDualFlow<double>(on, {Vector<double>::Constant(size, -1.0), Vector<double>::Constant(size, -1.2)},
                                    Vector<double>::Constant(size, 0.2), 8.0, {0.7, 0.4, 0.02, 0.6});
  };
  const auto small = flow_of(data), large = flow_of(padded);
  RandomStream random(2419);
  Vector<double> state = 0.05 * random_vector(random, small.dimension());
  Vector<double> padded_state = Vector<double>::Zero(large.dimension());
  padded_state.head(state.size()) = state;
  Vector<double> slope(state.size()), padded_slope(padded_state.size());
  small(0, state, slope);
  large(0, padded_state, padded_slope);
  // Rounding.
  CHECK((slope - padded_slope.head(slope.size())).norm() <= 1e-13 * slope.norm());
  auto solver = small.make_linear_solver();
  auto padded_solver = large.make_linear_solver();
  small.linearize(0, state, solver);
  large.linearize(0, padded_state, padded_solver);
  REQUIRE(small.factorize(3.0, solver));
  REQUIRE(large.factorize(3.0, padded_solver));
  small.solve(solver, state);
  large.solve(padded_solver, padded_state);
  CHECK((state - padded_state.head(state.size())).norm() <= 1e-12 * state.norm());
}

TEST_CASE("integrals along the decaying dual flow are those of an explicit method, and fall with the tolerance") {
  const Dataset<> data = decaying_data(2415);
  const detail::SideLogs<double> start{Vector<double>::Constant(12, std::log(0.2)),
                                       Vector<double>::Constant(12, std::log(0.2))};
  const DecayingDualFlow<double> flow(data, start, Vector<double>::Constant(12, 0.1), 8.0, {0.7, 0.4, 0.01, 0.6});
  const auto reference = integrate(flow, flow.initial_state(), TimeSpan{0, 2}, DormandPrince{},
                                   PiController<>{.tolerance = {1e-12, 0}, .first_step = flow.first_step()})
                             .require_ok();
  const Vector<double> expected = flow.integrals(reference.w);
  for (const double tolerance : {1e-4, 1e-6, 1e-8}) {
    const auto run = run_decaying(flow, 2, tolerance);
    // Errors of steps add up over a few hundred of them.
    CHECK((flow.integrals(run.w) - expected).cwiseAbs().maxCoeff() <= 30 * tolerance * expected.maxCoeff());
  }

  // Integrals that feed back: the Jacobian leaves out what f changes by on their way, a part of 1e-3 here.
  const DecaySchedule<> common([](double t) { return 0.1 * std::exp(-t); });
  const DecayingDualFlow<double> noisy(data, start, Vector<double>::Constant(12, 0.1), 6.0,
                                       {7e-4, 4e-4, 0.01, 6e-4, true}, 3, common);
  const auto deep = integrate(noisy, noisy.initial_state(), TimeSpan{0, 20}, DormandPrince{},
                              PiController<>{.tolerance = {1e-12, 0}, .first_step = noisy.first_step()})
                        .require_ok();
  const Vector<double> grown = noisy.integrals(deep.w);
  for (const double tolerance : {1e-4, 1e-6, 1e-8}) {
    const auto run = run_decaying(noisy, 20, tolerance);
    CHECK((noisy.integrals(run.w) - grown).cwiseAbs().maxCoeff() <= 30 * tolerance * grown.maxCoeff());
    CHECK((noisy.beta(run.w) - noisy.beta(deep.w)).norm() <= 30 * tolerance * noisy.beta(deep.w).norm());
  }
}

TEST_CASE("the decaying dual flow is cheap at tiny decay and huge scales, and has any scale") {
  const Dataset<> data = decaying_data(2416);
  const SquaredDiagonalNet<double> net(12);
  const DecayingDualFlow<double> flow(net, data, Start<>::uniform(Scale<>::from_value(1e6)), 1e-3);
  const auto run = run_decaying(flow, 12000, 1e-5);
  CHECK(run.step <= 1500);
  // O(lambda).
  CHECK(std::sqrt(flow.loss(run.w)) <= 1e-3);
  const DecayingDualFlow<double> tiny(net, data, Start<>::uniform(Scale<>::from_log(-400)), 0.01);
  const auto small = run_decaying(tiny, 200, 1e-6);
  CHECK(small.step <= 5000);
  CHECK(tiny.loss(small.w) <= 0.5 * data.y().squaredNorm());
}

TEST_CASE("the decaying dual flow refuses what does not fit") {
  const Dataset<> data = decaying_data(2417);
  const Start<> start = Start<>::uniform(Scale<>::from_value(1));
  using Flow = DecayingDualFlow<double>;
  CHECK_THROWS_MATCHES(Flow(SquaredDiagonalNet<double>(11), data, start, 0.1), DimensionError,
                       message_contains("d = 11"));
  CHECK_THROWS_MATCHES(Flow(SquaredDiagonalNet<double>(12), data, start, -0.1), ArgumentError,
                       message_contains("-0.1"));
  const Vector<double> ones = Vector<double>::Ones(12);
  CHECK_THROWS_MATCHES(
      Flow(SquaredDiagonalNet<double>(12), data, Start<>::unbalanced(Scale<>::from_value(1), ones, ones), 0.1),
      ArgumentError, message_contains("unbalanced"));
}
