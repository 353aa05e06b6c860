#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/testing/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Net = SquaredDiagonalNet<double>;

}  // namespace

static_assert(TangentFlow<GradientFlow<Net>>);

TEST_CASE("the gradient flow of the squared net is the formula of the paper") {
  RandomStream random(21);
  const Dataset data(random_matrix(random, 4, 7), random_vector(random, 4));
  const GradientFlow<Net> flow(Net(7), data);
  const Vector<double> w = random_vector(random, 14);
  const Vector<double> beta = w.head(7).cwiseAbs2() - w.tail(7).cwiseAbs2();
  const Vector<double> r = data.X() * beta - data.y();
  const Vector<double> pull = data.X().transpose() * r;
  Vector<double> expected(14);
  expected << -4.0 * w.head(7).cwiseProduct(pull), 4.0 * w.tail(7).cwiseProduct(pull);

  Vector<double> dw(14);
  flow(0.0, w, dw);
  Vector<double> residual(4);
  flow.residual(w, residual);
  // Sums of at most 7 products in two orders.
  CHECK((dw - expected).norm() <= 1e-14 * expected.norm());
  CHECK((residual - r).norm() <= 1e-14 * r.norm());
  CHECK_THAT(flow.loss(w), near(r.squaredNorm(), 1e-14, 0));
  CHECK(flow.dimension() == 14);
  CHECK(flow.num_residuals() == 4);
}

TEST_CASE("the right-hand side is minus the gradient of the loss") {
  RandomStream random(22);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Dataset data(random_matrix(random, 3, 5), random_vector(random, 3));
    const GradientFlow<Net> flow(Net(5), data);
    const Vector<double> w = random_vector(random, 10);
    Vector<double> dw(10);
    flow(0.0, w, dw);
    const auto check = testing::check_gradient<double>([&](const Vector<double>& x) { return flow.loss(x); }, w,
                                                       Vector<double>(-dw), random_vector(random, 10), 1e-3);
    CAPTURE(check.coarse_error, check.fine_error, check.rounding, check.order);
    CHECK(check.passed());
  }
}

TEST_CASE("the residual obeys r' = -2 J J^T r") {
  RandomStream random(23);
  const Dataset data(random_matrix(random, 4, 6), random_vector(random, 4));
  const GradientFlow<Net> flow(Net(6), data);
  const Vector<double> w = random_vector(random, 12);
  Vector<double> r(4);
  Vector<double> pulled(12);
  Vector<double> kernel_r(4);
  Vector<double> dw(12);
  flow.residual(w, r);
  flow.vjp(w, r, pulled);
  flow.jvp(w, pulled, kernel_r);
  flow(0.0, w, dw);
  const auto check = testing::check_derivative<double>(
      [&](double s) {
        Vector<double> moved(4);
        flow.residual(Vector<double>(w + s * dw), moved);
        return moved;
      },
      Vector<double>(-2.0 * kernel_r), 1e-4);
  CAPTURE(check.coarse_error, check.fine_error, check.rounding, check.order);
  CHECK(check.passed());
}

TEST_CASE("the flow follows the reference trajectory") {
  const Dataset<> data = reference_data();
  const Net net(9);
  const GradientFlow<Net> flow(net, data);
  const ReferenceTable table = reference_table("trajectory_squared.csv");
  IntegrateOptions<double> options;
  options.save_at.times = {0.01, 0.1, 0.5, 1.0, 2.0};
  const auto solution = integrate(flow, net.initial_parameters(Scale<>::from_value(0.3)), TimeSpan{0.0, 2.0},
                                  DormandPrince{}, PiController<>{.tolerance = {1e-12, 1e-14}}, options);
  REQUIRE(solution.ok());
  REQUIRE(solution.values.size() == 5);
  REQUIRE(table.size() == 45);
  for (std::size_t k = 0; k < 5; ++k) {
    Vector<double> exact(9);
    for (std::size_t i = 0; i < 9; ++i) {
      REQUIRE(table.number(9 * k + i, "t") == solution.times[k]);
      exact[static_cast<Index>(i)] = table.number(9 * k + i, "beta");
    }
    Vector<double> beta(9);
    net.beta(solution.values[k], beta);
    CAPTURE(solution.times[k]);
    // A local tolerance of 1e-12 over some hundred steps, and an interpolant of one order less.
    CHECK((beta - exact).lpNorm<Eigen::Infinity>() <= 1e-10 * exact.lpNorm<Eigen::Infinity>());
  }
}

TEST_CASE("the flow of the net ends at the minimizer of its start's regularizer: uniform, shaped, biased") {
  const auto kind = GENERATE(as<std::string>{}, "uniform", "shaped", "biased");
  RandomStream random(25);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const Dataset data(random_matrix(random, 4, 9), random_vector(random, 4));
    const Net net(9);
    const Scale<> scale = Scale<>::from_log(random.uniform() * 2.0 - 1.5);
    const Vector<double> a = random_vector(random, 9).cwiseAbs() + Vector<double>::Constant(9, 0.3);
    const Vector<double> b = random_vector(random, 9).cwiseAbs() + Vector<double>::Constant(9, 0.3);
    const Vector<double> start = kind == "uniform"  ? net.initial_parameters(scale)
                                 : kind == "shaped" ? net.initial_parameters(scale, a)
                                                    : net.initial_parameters(scale, a, b);
    const Hypentropy<> regularizer = kind == "uniform"  ? Hypentropy<>::uniform(9, scale)
                                     : kind == "shaped" ? Hypentropy<>::shaped(a, scale)
                                                        : Hypentropy<>::biased(a, b, scale);
    const GradientFlow<Net> flow(net, data);
    IntegrateOptions<> options;
    options.events = {loss_below(1e-16)};
    const auto solution = integrate(flow, start, TimeSpan{0.0, infinity}, DormandPrince{},
                                    PiController<>{.tolerance = {1e-11, 1e-13}}, options);
    CAPTURE(kind, repeat, scale.log(), solution.message);
    REQUIRE(solution.ok());
    Vector<double> beta(9);
    net.beta(solution.w, beta);
    const Vector<double> limit = HypentropyPath<>(data, regularizer).solve(scale).require_ok().beta;
    // At the threshold the residual is 1e-8 long, and X is well conditioned; another start of the same size has
    // a limit that differs by a tenth or more.
    CHECK((beta - limit).norm() <= 1e-7 * limit.norm());
  }
}

TEST_CASE("a model and data that do not fit are refused") {
  RandomStream random(24);
  const Dataset data(random_matrix(random, 3, 5), random_vector(random, 3));
  CHECK_THROWS_MATCHES(GradientFlow<Net>(Net(4), data), DimensionError, message_contains("4 features"));
}
