#include <Eigen/Dense>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/testing/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Flow = DualFlow<Hypentropy<>>;
using Net = SquaredDiagonalNet<double>;

Vector<double> predictor(const Flow& flow, const Vector<double>& nu) {
  Vector<double> beta(flow.dataset().num_inputs());
  flow.beta(nu, beta);
  return beta;
}

/// Distance of z from the row space of X, relative to |z|.
double distance_from_row_space(const Matrix<double>& X, const Vector<double>& z) {
  const Vector<double> nu = X.transpose().colPivHouseholderQr().solve(z);
  return (z - X.transpose() * nu).norm() / z.norm();
}

/// The dual flow from 0 until the loss is at most `threshold`.
template <class St>
Solution<double> to_the_end(const Flow& flow, double threshold, double relative, const St& stepper) {
  IntegrateOptions<double> options;
  options.events = {loss_below(threshold).at_step_end()};
  const PiController<> control{.tolerance = {relative, 1e-14}, .first_step = flow.first_step()};
  return integrate(flow, flow.initial_state(), TimeSpan{0.0, infinity}, stepper, control, options);
}

}  // namespace

static_assert(SymmetricStiffField<Flow>);
static_assert(HasApproximateJacobian<Flow>);
static_assert(HasErrorRatio<Flow>);
static_assert(HasLoss<Flow>);

TEST_CASE("the dual field is the residual at the mirrored predictor") {
  RandomStream random(31);
  const Dataset<> data = gaussian_data(random, 5, 12);
  const Vector<double> w0 = random_positive_vector(random, 12, 0.5, 2.0);
  const Flow flow(Hypentropy<>::shaped(w0, Scale<>::from_value(0.3)), data);
  const Vector<double> nu = random_vector(random, 5);
  const Vector<double> z = data.X().transpose() * nu;
  const Vector<double> beta = 2 * 0.09 * w0.array().square() * z.array().sinh();
  const Vector<double> residual = data.X() * beta - data.y();
  Vector<double> dnu(5);
  flow(0.0, nu, dnu);
  // exp and sinh differ by a few ulp, times the condition |z| of sinh (below 20 here).
  CHECK((dnu + 8 * residual).norm() <= 1e-13 * (8 * residual.norm() + beta.norm()));
  CHECK((predictor(flow, nu) - beta).norm() <= 1e-13 * beta.norm());
  CHECK_THAT(flow.loss(nu), near(residual.squaredNorm(), 1e-12, 0));
  CHECK(predictor(flow, flow.initial_state()).norm() == 0.0);
}

TEST_CASE("values do not depend on which points were asked before") {
  RandomStream random(32);
  const Dataset<> data = gaussian_data(random, 5, 12);
  const Flow flow(Hypentropy<>::uniform(12, Scale<>::from_value(0.1)), data);
  const Vector<double> a = random_vector(random, 5);
  const Vector<double> b = random_vector(random, 5);
  const double loss_a = Flow(flow).loss(a);
  const double loss_b = Flow(flow).loss(b);
  CHECK(same_bits(flow.loss(a), loss_a));
  CHECK(same_bits(flow.loss(b), loss_b));
  CHECK(same_bits(flow.loss(a), loss_a));
  CHECK(same_bits(flow.loss(a), loss_a));
  CHECK(std::isnan(flow.loss(Vector<double>::Constant(5, std::numeric_limits<double>::quiet_NaN()))));
  CHECK(same_bits(flow.loss(a), loss_a));
}

TEST_CASE("the Jacobian is the derivative of the field") {
  RandomStream random(33);
  // 130 samples and 200 features cross the tiles of the assembly.
  for (const auto& shape : {std::pair<Index, Index>{3, 8}, {20, 50}, {130, 200}}) {
    const Index n = shape.first;
    const Index d = shape.second;
    const Dataset<> data = gaussian_data(random, n, d);
    const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
    const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
    const Flow flow(Hypentropy<>::biased(a, b, Scale<>::from_value(0.5)), data);
    const Vector<double> nu = random_vector(random, n) / std::sqrt(static_cast<double>(n));
    const Vector<double> v = random_vector(random, n) / std::sqrt(static_cast<double>(n));
    Matrix<double> S(n, n);
    flow.negative_jacobian(0.0, nu, S);
    const Vector<double> slope = -(S.selfadjointView<Eigen::Lower>() * v);
    const auto check = testing::check_derivative<double>(
        [&](double s) {
          Vector<double> f(n);
          flow(0.0, Vector<double>(nu + s * v), f);
          return f;
        },
        slope, 1e-2);
    CAPTURE(n, d, check.coarse_error, check.fine_error, check.rounding, check.order);
    CHECK(check.passed());
  }
}

TEST_CASE("an approximate Jacobian keeps its bound as a quadratic form") {
  RandomStream random(34);
  const Index n = 20;
  const Index d = 120;
  const Dataset<> data = gaussian_data(random, n, d);
  for (const double log_alpha : {3.0, 0.0, -3.0, -20.0}) {
    const Flow flow(Hypentropy<>::uniform(d, Scale<>::from_log(log_alpha)), data);
    const auto end = to_the_end(flow, 1e-8, 1e-3, Rodas3{});
    REQUIRE(end.ok());
    for (const double part : {0.0, 0.3, 1.0})
      for (const double relative : {1e-6, 1e-3, 1e-1})
        for (const double absolute : {0.0, 1e-3, 1.0, 1e3}) {
          const Vector<double> nu = part * end.w;
          Matrix<double> S(n, n);
          Matrix<double> approximate(n, n);
          flow.negative_jacobian(0.0, nu, S);
          flow.negative_jacobian(0.0, nu, relative, absolute, approximate);
          const Matrix<double> exact = S.selfadjointView<Eigen::Lower>();
          const Matrix<double> E = Matrix<double>(approximate.selfadjointView<Eigen::Lower>()) - exact;
          // `absolute` rests on an estimate of |X| from below by a few power iterations: twice it is allowed.
          Matrix<double> bound = relative * exact;
          bound.diagonal().array() += 2 * absolute + 1e-13 * exact.norm();
          CAPTURE(log_alpha, part, relative, absolute);
          CHECK(Eigen::SelfAdjointEigenSolver<Matrix<double>>(bound + E).eigenvalues().minCoeff() >= 0.0);
          CHECK(Eigen::SelfAdjointEigenSolver<Matrix<double>>(bound - E).eigenvalues().minCoeff() >= 0.0);
        }
  }
}

TEST_CASE("primal flow, dual flow and the reference trajectory agree, and the certificate holds at every time") {
  const Dataset<> data = reference_data();
  const ReferenceTable table = reference_table("trajectory_squared.csv");
  const Flow flow(Hypentropy<>::uniform(9, Scale<>::from_value(0.3)), data);
  const std::vector<double> times{0.01, 0.1, 0.5, 1.0, 2.0};
  const auto run = [&](const auto& stepper, double relative) {
    IntegrateOptions<double, Vector<double>> options;
    options.save_at.times = times;
    options.save_at.value = [&](double, const Vector<double>& nu) { return predictor(flow, nu); };
    const auto solution = integrate(flow, flow.initial_state(), TimeSpan{0.0, 2.0}, stepper,
                                    PiController<>{.tolerance = {relative, 1e-14}}, options);
    REQUIRE(solution.ok());
    REQUIRE(solution.values.size() == times.size());
    return solution.values;
  };
  const auto check = [&](const std::vector<Vector<double>>& values, double bound) {
    for (std::size_t k = 0; k < times.size(); ++k) {
      Vector<double> exact(9);
      for (std::size_t i = 0; i < 9; ++i) exact[static_cast<Index>(i)] = table.number(9 * k + i, "beta");
      CAPTURE(times[k]);
      CHECK((values[k] - exact).lpNorm<Eigen::Infinity>() <= bound * exact.lpNorm<Eigen::Infinity>());
      const Vector<double> z = (values[k].array() / (2 * 0.09)).unaryExpr([](double u) { return std::asinh(u); });
      CHECK(distance_from_row_space(data.X(), z) <= 1e-13);  // on the manifold by construction, whatever the steps
    }
  };
  // Each local error is below the tolerance; some hundreds of them, damped by the flow, stay below ten times it. The
  // interpolants have one order less than the steps, except for the exponential one.
  check(run(Rodas4{}, 1e-9), 3e-8);
  check(run(Rodas3{}, 1e-8), 3e-6);
  check(run(Ros34Pw2{.jacobian_tolerance = 1e-2}, 1e-8), 3e-6);
  check(run(ExponentialRosenbrock{}, 1e-9), 1e-7);
  check(run(DormandPrince{}, 1e-11), 1e-10);

  const Net net(9);
  const GradientFlow<Net> primal(net, data);
  IntegrateOptions<double> options;
  options.save_at.times = times;
  const auto weights = integrate(primal, net.initial_parameters(Scale<>::from_value(0.3)), TimeSpan{0.0, 2.0},
                                 DormandPrince{}, PiController<>{.tolerance = {1e-12, 1e-14}}, options);
  REQUIRE(weights.ok());
  for (const Vector<double>& w : weights.values) {
    Vector<double> beta(9);
    net.beta(w, beta);
    const Vector<double> z = (beta.array() / (2 * 0.09)).unaryExpr([](double u) { return std::asinh(u); });
    CHECK(distance_from_row_space(data.X(), z) <= 1e-10);  // the primal steps leave it by their tolerance only
  }
}

TEST_CASE("the flow ends at the tabulated limits") {
  const Dataset<> data = reference_data();
  const Vector<double> shape = reference_matrix("limit_shape.csv", {"w0"});
  const ReferenceTable table = reference_table("limit_beta.csv");
  int tested = 0;
  for (std::size_t row = 0; row + 9 <= table.size(); row += 9) {
    if (table.text(row, "D") != "2") continue;
    const Scale<> scale = Scale<>::from_log(table.number(row, "log_alpha"));
    const bool uniform = table.text(row, "init") == "uniform";
    Vector<double> exact(9);
    for (std::size_t i = 0; i < 9; ++i) exact[static_cast<Index>(i)] = table.number(row + i, "beta");
    const Flow flow(uniform ? Hypentropy<>::uniform(9, scale) : Hypentropy<>::shaped(shape, scale), data);
    const auto solution = to_the_end(flow, 1e-24, 1e-3, Rodas3{});
    CAPTURE(scale.log(), uniform, solution);
    REQUIRE(solution.status == Status::event);
    // A residual of 1e-12 times the condition of the small problem.
    CHECK((predictor(flow, solution.w) - exact).lpNorm<Eigen::Infinity>() <= 1e-10 * exact.lpNorm<Eigen::Infinity>());
    ++tested;
  }
  CHECK(tested > 10);
}

TEST_CASE("the flow ends at the certified minimizer, for every kind of start and scale") {
  RandomStream random(35);
  const Index n = 12;
  const Index d = 40;
  for (const double log_alpha : {2.0, 0.0, -2.0, -8.0, -100.0, -500.0}) {
    const Dataset<> data = gaussian_data(random, n, d);
    const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
    const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
    const Scale<> scale = Scale<>::from_log(log_alpha);
    for (const Hypentropy<>& mirror :
         {Hypentropy<>::uniform(d, scale), Hypentropy<>::shaped(a, scale), Hypentropy<>::biased(a, b, scale)}) {
      const Flow flow(mirror, data);
      HypentropyPath<> path(data, mirror);
      const auto limit = path.solve(scale);
      REQUIRE(limit.ok());
      const auto solution = to_the_end(flow, 1e-20, 1e-3, Rodas3{.jacobian_tolerance = 1e-4});
      CAPTURE(log_alpha, solution);
      REQUIRE(solution.status == Status::event);
      // A residual of 1e-10 times the condition of the active columns (a dozen gaussian ones).
      CHECK((predictor(flow, solution.w) - limit.beta).norm() <= 1e-7 * limit.beta.norm());
    }
  }
}

TEST_CASE("large alpha ends at the minimum l2 norm interpolator") {
  RandomStream random(36);
  const Dataset<> data = gaussian_data(random, 10, 30);
  const Flow flow(Hypentropy<>::uniform(30, Scale<>::from_log(12.0)), data);
  const auto solution = to_the_end(flow, 1e-22, 1e-3, ExponentialRosenbrock{});
  REQUIRE(solution.ok());
  const Vector<double> l2 = min_l2_interpolator(data);
  // z = beta / (2 alpha^2) is 1e-11, and the curvature differs from constant by its square.
  CHECK((predictor(flow, solution.w) - l2).norm() <= 1e-9 * l2.norm());
}

TEST_CASE("y times c with alpha times sqrt(c) gives beta times c, at the time over c") {
  RandomStream random(37);
  const Index d = 30;
  const Dataset<> data = gaussian_data(random, 10, d);
  const Vector<double> times = Vector<double>::LinSpaced(5, 0.02, 0.1);
  const auto trajectory = [&](double c) {
    const Dataset scaled(data.X(), c * data.y());
    const Flow flow(Hypentropy<>::uniform(d, Scale<>::from_log(std::log(0.1) + 0.5 * std::log(c))), scaled);
    IntegrateOptions<double, Vector<double>> options;
    for (const double t : times) options.save_at.times.push_back(t / c);
    options.save_at.value = [&](double, const Vector<double>& nu) -> Vector<double> { return predictor(flow, nu) / c; };
    const auto solution =
        integrate(flow, flow.initial_state(), TimeSpan{0.0, times[4] / c}, Rodas4{},
                  PiController<>{.tolerance = {1e-6, 1e-12 * c}, .first_step = flow.first_step()}, options);
    REQUIRE(solution.ok());
    return solution.values;
  };
  const auto one = trajectory(1.0);
  for (const double c : {1e-8, 1e8}) {
    const auto other = trajectory(c);
    REQUIRE(other.size() == one.size());
    // The same steps up to rounding (c is not a power of two), which acts through |z| < 20.
    for (std::size_t k = 0; k < one.size(); ++k) CHECK((other[k] - one[k]).norm() <= 1e-10 * one[k].norm());
  }
}

TEST_CASE("time zero is the identity, and times compose") {
  RandomStream random(38);
  const Dataset<> data = gaussian_data(random, 8, 25);
  const Flow flow(Hypentropy<>::uniform(25, Scale<>::from_value(0.05)), data);
  const PiController<> control{.tolerance = {1e-8, 1e-14}};
  const auto advance = [&](const Vector<double>& nu, double t) {
    const auto solution = integrate(flow, nu, TimeSpan{0.0, t}, Rodas4{}, control);
    REQUIRE(solution.ok());
    return solution.w;
  };
  const Vector<double> start = flow.initial_state();
  CHECK(same_bits(advance(start, 0.0), start));
  const Vector<double> once = predictor(flow, advance(start, 0.3));
  const Vector<double> twice = predictor(flow, advance(advance(start, 0.1), 0.2));
  CHECK((once - twice).norm() <= 1e-6 * once.norm());  // a hundred local errors of 1e-8
}

TEST_CASE("a stopped run of the dual flow resumes bit for bit, with exact and approximate Jacobians") {
  RandomStream random(39);
  const Dataset<> data = gaussian_data(random, 15, 60);
  const auto check = [&](const auto& stepper, double alpha) {
    const Hypentropy<> mirror = Hypentropy<>::uniform(60, Scale<>::from_value(alpha));
    const Flow whole(mirror, data);
    IntegrateOptions<double> options;
    options.events = {loss_below(1e-10)};
    const PiController<> control{.tolerance = {1e-4, 1e-12}};
    const TimeSpan<> span{0.0, infinity};
    const auto uninterrupted = integrate(whole, whole.initial_state(), span, stepper, control, options);
    REQUIRE(uninterrupted.status == Status::event);
    IntegrateOptions<double> few = options;
    few.max_steps = 7;
    const Flow first(mirror, data);
    const auto stopped = integrate(first, first.initial_state(), span, stepper, control, few);
    REQUIRE(stopped.status == Status::max_steps);
    const Flow second(mirror, data);  // nothing remembered from the first run
    const auto resumed = resume(second, stopped.state, infinity, stepper, control, options);
    CHECK(resumed.status == Status::event);
    CHECK(same_bits(resumed.w, uninterrupted.w));
    CHECK(same_bits(resumed.t, uninterrupted.t));
  };
  for (const double alpha : {1e-3, 0.3, 3.0}) {
    CAPTURE(alpha);
    check(Rodas3{}, alpha);
    check(Rodas3{.jacobian_tolerance = 1e-3}, alpha);
    check(Ros34Pw2{.jacobian_tolerance = 1e-1}, alpha);
    check(ExponentialRosenbrock{.jacobian_tolerance = 1e-3}, alpha);
  }
}

TEST_CASE("the error ratio is the error of the predictor over its tolerance, and linear in the error") {
  RandomStream random(40);
  const Dataset<> data = gaussian_data(random, 6, 20);
  const Flow flow(Hypentropy<>::uniform(20, Scale<>::from_value(0.2)), data);
  const Vector<double> nu = random_vector(random, 6);
  const Vector<double> error = 1e-6 * random_vector(random, 6);
  const Tolerance<double> tolerance{1e-3, 1e-5};
  const double ratio = flow.error_ratio(nu, nu, error, tolerance);
  const Vector<double> moved = predictor(flow, nu + error) - predictor(flow, nu);
  const double expected = moved.norm() / (1e-5 + 1e-3 * predictor(flow, nu).norm());
  CHECK_THAT(ratio, near(expected, 1e-4, 0));  // linear up to |X^T error|, about 1e-5
  CHECK_THAT(flow.error_ratio(nu, nu, 2.0 * error, tolerance), near(2 * ratio, 1e-14, 0));
  CHECK(flow.error_ratio(nu, nu, Vector<double>::Zero(6), Tolerance<double>{1e-3, 0.0}) == 0.0);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(flow.error_ratio(nu, Vector<double>::Constant(6, nan), error, tolerance)));
}

TEST_CASE("the paper's setting reaches the limit in few steps") {
  SparseRegressionOptions problem;
  problem.num_samples = 60;
  problem.num_inputs = 400;
  const Dataset<> data = sparse_regression(problem).dataset;
  const auto steps = [&](double log_alpha, const auto& stepper) {
    const Flow flow(Hypentropy<>::uniform(400, Scale<>::from_log(log_alpha)), data);
    const auto solution = to_the_end(flow, 1e-10, 1e-3, stepper);
    REQUIRE(solution.status == Status::event);
    CHECK(solution.stats.jacobians == solution.stats.accepted);  // kept over rejected attempts
    const auto limit = minimize_hypentropy(data, Scale<>::from_log(log_alpha));
    CHECK((predictor(flow, solution.w) - limit.beta).norm() <= 1e-4 * limit.beta.norm());
    return solution.stats.accepted + solution.stats.rejected;
  };
  // Twice the counts seen: a loss of the error norm or of a Jacobian costs factors of ten.
  CHECK(steps(std::log(10.0), ExponentialRosenbrock{.jacobian_tolerance = 1e-4}) <= 20);
  CHECK(steps(0.0, ExponentialRosenbrock{.jacobian_tolerance = 1e-4}) <= 30);
  CHECK(steps(std::log(1e-2), Ros34Pw2{.jacobian_tolerance = 1e-2}) <= 120);
  CHECK(steps(std::log(1e-4), Ros34Pw2{.jacobian_tolerance = 1e-2}) <= 160);
  CHECK(steps(-100.0, Rodas3{.jacobian_tolerance = 1e-4}) <= 800);
}

TEST_CASE("the dual flow works in other precisions") {
  RandomStream random(41);
  const Dataset<> data = gaussian_data(random, 5, 12);
  const Dataset<long double> wide(data.X().cast<long double>(), data.y().cast<long double>());
  const auto mirror = Hypentropy<long double>::uniform(12, Scale<long double>::from_value(0.3L));
  const DualFlow<Hypentropy<long double>> flow(mirror, wide);
  IntegrateOptions<long double> options;
  options.events = {loss_below(1e-30L).at_step_end()};
  const auto solution =
      integrate(flow, flow.initial_state(), TimeSpan<long double>{0.0L, std::numeric_limits<long double>::infinity()},
                Rodas3{}, PiController<long double>{.tolerance = {1e-4L, 1e-15L}}, options);
  REQUIRE(solution.ok());
  const auto limit = minimize_hypentropy(data, Scale<>::from_value(0.3));
  Vector<long double> beta(12);
  flow.beta(solution.w, beta);
  CHECK((beta.cast<double>() - limit.beta).norm() <= 1e-10 * limit.beta.norm());  // the minimizer's 1e-12, conditioned
}

TEST_CASE("a mirror map and data that do not fit are refused") {
  RandomStream random(42);
  const Dataset<> data = gaussian_data(random, 3, 5);
  CHECK_THROWS_MATCHES(Flow(Hypentropy<>::uniform(4, Scale<>::from_value(1.0)), data), DimensionError,
                       message_contains("4 coordinates"));
  const Flow flow(Hypentropy<>::uniform(5, Scale<>::from_value(1.0)), data);
  Vector<double> out(4);
  CHECK_THROWS_AS(flow.beta(flow.initial_state(), out), DimensionError);
  CHECK_THROWS_AS(flow.loss(Vector<double>::Zero(4)), DimensionError);
  Matrix<double> S(3, 4);
  CHECK_THROWS_AS(flow.negative_jacobian(0.0, flow.initial_state(), S), DimensionError);
}

namespace {

using DepthFlow = DualFlow<DepthHypentropy<>>;

Vector<double> predictor(const DepthFlow& flow, const Vector<double>& nu) {
  Vector<double> beta(flow.dataset().num_inputs());
  flow.beta(nu, beta);
  return beta;
}

}  // namespace

TEST_CASE("beyond the bounds, or where beta overflows, field and loss are not finite", "[depth]") {
  RandomStream random(50);
  const Dataset<> data = gaussian_data(random, 4, 100);
  const Vector<double> far = Vector<double>::Constant(4, 1e4);
  Vector<double> field(4);
  const DepthFlow deep(DepthHypentropy<>::uniform(3, 100, Scale<>::from_value(0.5)), data);
  CHECK_FALSE(std::isfinite(deep.loss(far)));
  deep(0.0, far, field);
  CHECK_FALSE(field.allFinite());
  const Flow squared(Hypentropy<>::uniform(100, Scale<>::from_value(0.5)), data);
  CHECK_FALSE(std::isfinite(squared.loss(far)));
}

TEST_CASE("at depth D the dual flow is the flow of the weights, for every start", "[depth]") {
  RandomStream random(51);
  const Index d = 10;
  const Dataset<> data = gaussian_data(random, 4, d);
  const Vector<double> a = random_positive_vector(random, d, 0.8, 1.25);
  const Vector<double> b = random_positive_vector(random, d, 0.8, 1.25);
  const PiController<> tight{.tolerance = {1e-11, 1e-14}};
  for (const Index depth : {3, 4, 6})
    for (const double alpha : {0.5, 1.5}) {
      const Scale<> scale = Scale<>::from_value(alpha);
      const DiagonalNet<double> net(depth, d);
      const GradientFlow primal(net, data);
      const DepthFlow dual(DepthHypentropy<>::biased(depth, a, b, scale), data);
      // A few times the natural one, alpha^(2-D).
      const double t = 0.1 * std::pow(alpha, 2.0 - static_cast<double>(depth));
      const auto in_primal =
          integrate(primal, net.initial_parameters(scale, a, b), TimeSpan{0.0, t}, DormandPrince{}, tight);
      const auto in_dual = integrate(dual, dual.initial_state(), TimeSpan{0.0, t}, Rodas3{},
                                     PiController<>{.tolerance = {1e-9, 1e-12}, .first_step = dual.first_step()});
      Vector<double> beta(d), start(d);
      net.beta(in_primal.w, beta);
      net.beta(net.initial_parameters(scale, a, b), start);
      CAPTURE(depth, alpha);
      REQUIRE(in_primal.ok());
      REQUIRE(in_dual.ok());
      CHECK((beta - start).norm() > 0.05 * start.norm());  // something happened
      // The tolerance of the Rosenbrock run, accumulated over some hundred steps.
      CHECK((predictor(dual, in_dual.w) - beta).norm() <= 1e-7 * beta.norm());
    }
}

TEST_CASE("at depth D the dual flow ends at the minimizer and carries the certificate at every saved time", "[depth]") {
  RandomStream random(52);
  const Index d = 30;
  const Dataset<> data = gaussian_data(random, 6, d);
  const Vector<double> w0 = random_positive_vector(random, d, 0.8, 1.25);
  for (const Index depth : {3, 5, 10})
    for (const double log_alpha_D : {-12.0, -3.0, 2.0}) {
      const Scale<> scale = Scale<>::from_log(log_alpha_D / static_cast<double>(depth));
      const auto mirror = DepthHypentropy<>::shaped(depth, w0, scale);
      const DepthFlow flow(mirror, data);
      IntegrateOptions<double> options;
      options.events = {loss_below(1e-20).at_step_end()};
      options.save_at = {.every = 1};
      const PiController<> control{.tolerance = {1e-6, 1e-12}, .first_step = flow.first_step()};
      const auto solution = integrate(flow, flow.initial_state(), TimeSpan{0.0, infinity}, Rodas3{}, control, options);
      CAPTURE(depth, log_alpha_D, solution.message);
      REQUIRE(solution.ok());
      REQUIRE(solution.values.size() > 3);
      const double slack = std::exp(log_alpha_D * static_cast<double>(depth - 2) / static_cast<double>(depth));
      Vector<double> gradient(d);
      for (const Vector<double>& nu : solution.values) {
        mirror.gradient(predictor(flow, nu), gradient);
        // grad Q(beta(t)) in the row space: exact but for rounding, that of nu next to a bound.
        CHECK(distance_from_row_space(data.X(), gradient) <= 1e-12);
      }
      MirrorPath<DepthHypentropy<>> path(data, mirror);
      const Vector<double> minimizer = path.solve(scale).require_ok().beta;
      // |X beta - y| <= 1e-10 and the rounding of nu over its distance from the bound.
      CHECK((predictor(flow, solution.w) - minimizer).norm() <= (1e-8 + 1e-13 / slack) * minimizer.norm());
    }
}

TEST_CASE("at depth D the limit of the simulated weights is the minimizer, balanced or not", "[depth]") {
  RandomStream random(53);
  const Index d = 12;
  const Dataset<> data = gaussian_data(random, 4, d);
  const Vector<double> a = random_positive_vector(random, d, 0.8, 1.25);
  const Vector<double> b = random_positive_vector(random, d, 0.8, 1.25);
  for (const Index depth : {3, 5}) {
    const Scale<> scale = Scale<>::from_value(0.4);
    const DiagonalNet<double> net(depth, d);
    const GradientFlow flow(net, data);
    IntegrateOptions<double> options;
    options.events = {loss_below(1e-21)};
    const auto solution = integrate(flow, net.initial_parameters(scale, a, b), TimeSpan{0.0, infinity}, DormandPrince{},
                                    PiController<>{.tolerance = {1e-12, 1e-15}}, options);
    CAPTURE(depth, solution.message);
    REQUIRE(solution.ok());
    Vector<double> beta(d);
    net.beta(solution.w, beta);
    MirrorPath<DepthHypentropy<>> path(data, DepthHypentropy<>::biased(depth, a, b, scale));
    const Vector<double> minimizer = path.solve(scale).require_ok().beta;
    // The rest of the residual, 3e-11, times the condition of the problem, and 1e-12 per step along the flow.
    CHECK((beta - minimizer).norm() <= 1e-8 * minimizer.norm());
  }
}
