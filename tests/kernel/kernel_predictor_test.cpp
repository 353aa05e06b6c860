#include "richflow/kernel/kernel_predictor.hpp"

#include <Eigen/LU>
#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/relu_network.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct Problem {
  ReluNetwork<double> net{2, {40}};
  Vector<double> w0;
  Dataset data;
  Matrix<double> test;

  explicit Problem(std::uint64_t seed)
      : w0(RandomStreamStart(seed, net)), data(make_data(seed)), test(make_test(seed)) {}

 private:
  static Vector<double> RandomStreamStart(std::uint64_t seed, const ReluNetwork<double>& net) {
    RandomStream random(seed, 0);
    return net.initial_parameters(random, Scale::from_value(1.0));
  }
  static Dataset make_data(std::uint64_t seed) {
    RandomStream random(seed, 1);
    Matrix<double> X = random_matrix(random, 6, 2);
    return Dataset(std::move(X), random_vector(random, 6));
  }
  static Matrix<double> make_test(std::uint64_t seed) {
    RandomStream random(seed, 2);
    return random_matrix(random, 5, 2);
  }
};

}  // namespace

TEST_CASE("the kernel predictor's limit is K(x, X) K(X, X)^-1 y, shifted by f_0") {
  const Problem p(61);
  const KernelPredictor kernel(p.net, p.w0, p.data);
  REQUIRE(kernel.interpolates());
  CHECK(kernel.message().empty());
  CHECK_NOTHROW(kernel.require_interpolation());
  CHECK(kernel.rank() == 6);
  Vector<double> f0(6);
  Vector<double> f0_test(5);
  p.net.predict(p.w0, p.data.X(), f0);
  p.net.predict(p.w0, p.test, f0_test);
  const Matrix<double> K = tangent_kernel(p.net, p.w0, p.data.X());
  const Matrix<double> cross = tangent_kernel(p.net, p.w0, p.test, p.data.X());
  const Vector<double> expected = f0_test + cross * K.partialPivLu().solve(p.data.y() - f0);
  // Errors of a linear solve: the condition number times a few roundings.
  const double rounding = 100 * std::numeric_limits<double>::epsilon() * kernel.condition_number();
  CHECK((kernel.predict(p.test) - expected).norm() <= rounding * (1.0 + expected.norm()));
  CHECK((kernel.predict(p.data.X()) - p.data.y()).norm() <= rounding * p.data.y().norm());
  // The squared RKHS norm of the change is that of the weights.
  const double norm2 = (p.data.y() - f0).dot(K.partialPivLu().solve(p.data.y() - f0));
  CHECK_THAT((kernel.parameters() - p.w0).squaredNorm(), near(norm2, rounding, 0.0));
}

TEST_CASE("the trajectory of the kernel predictor is the integrated flow of the tangent model") {
  const Problem p(62);
  const KernelPredictor kernel(p.net, p.w0, p.data);
  const GradientFlow flow(kernel.model(), p.data);
  Vector<double> w = p.w0;
  double t = 0.0;
  for (const double next : {1e-3, 0.02, 0.4}) {
    const auto solution = integrate(flow, w, TimeSpan{t, next}, DormandPrince{},
                                    PiController{.tolerance = {.relative = 1e-11, .absolute = 1e-12}});
    REQUIRE(solution.ok());
    w = solution.y;
    t = next;
    CAPTURE(t);
    // Some hundred steps with local errors of 1e-11.
    CHECK((kernel.parameters(t) - w).norm() <= 1e-8 * w.norm());
    Vector<double> r(6);
    flow.residual(w, r);
    CHECK((kernel.residual(t) - r).norm() <= 1e-8 * (1.0 + r.norm()));
  }
  CHECK((kernel.parameters(0.0) - p.w0).norm() == 0.0);
  CHECK((kernel.parameters(1e12) - kernel.parameters()).norm() == 0.0);
  CHECK(kernel.residual(infinity).norm() == 0.0);
}

TEST_CASE("a wide squared net has the kernel limit of least weighted l2 norm") {
  // For the squared net at (alpha, alpha) the tangent model is linear in beta, with kernel 8 alpha^2 X X^T.
  RandomStream random(63);
  const SquaredDiagonalNet<double> net(9);
  const Dataset data(random_matrix(random, 4, 9), random_vector(random, 4));
  const KernelPredictor kernel(net, net.initial_parameters(Scale::from_value(2.0)), data);
  const Matrix<double>& X = data.X();
  const Vector<double> min_l2 = X.transpose() * (X * X.transpose()).partialPivLu().solve(data.y());
  const Matrix<double> test = random_matrix(random, 3, 9);
  CHECK((kernel.predict(test) - test * min_l2).norm() <= 1e-12 * kernel.condition_number());
}

TEST_CASE("equal inputs with different labels are named; with equal labels the limit still interpolates") {
  const Problem p(64);
  Matrix<double> X(4, 2);
  X << 1.0, 0.5, -0.3, 0.8, 1.0, 0.5, 0.2, -0.9;
  Vector<double> y(4);
  y << 1.0, 2.0, 3.0, 4.0;
  const KernelPredictor conflicting(p.net, p.w0, Dataset(X, y));
  CHECK_FALSE(conflicting.interpolates());
  CHECK(conflicting.rank() == 3);
  CHECK_THAT(conflicting.message(), text_contains("samples 0 and 2 have the same input"));
  CHECK_THROWS_MATCHES(conflicting.require_interpolation(), InfeasibleError, message_contains("samples 0 and 2"));
  // The two labels are met halfway.
  CHECK_THAT(conflicting.limit_residual(), near(std::sqrt(2.0), 1e-10, 0.0));
  CHECK_THAT(conflicting.predict(X)[0], near(2.0, 1e-9, 0.0));
  y[2] = 1.0;
  const KernelPredictor consistent(p.net, p.w0, Dataset(X, y));
  CHECK(consistent.rank() == 3);
  CHECK(consistent.interpolates());
  CHECK((consistent.predict(X) - y).norm() <= 1e-9);
}

TEST_CASE("dead units give a zero kernel, which is reported and not divided by") {
  const ReluNetwork<double> net(1, {2});
  const Dataset data(Matrix<double>::Ones(2, 1), Vector<double>::Ones(2));
  Vector<double> w(4);
  w << -1.0, -2.0, 1.0, 1.0;
  const KernelPredictor kernel(net, w, data);
  CHECK(kernel.rank() == 0);
  CHECK(kernel.condition_number() == infinity);
  CHECK_THAT(kernel.message(), text_contains("no parameter moves"));
  CHECK((kernel.parameters() - w).norm() == 0.0);
  CHECK(kernel.predict(data.X()).norm() == 0.0);
}

TEST_CASE("the kernel predictor refuses bad input by name and value") {
  const Problem p(65);
  const KernelPredictor kernel(p.net, p.w0, p.data);
  CHECK_THROWS_MATCHES(kernel.predict(p.test, -1.0), ArgumentError, message_contains("-1"));
  CHECK_THROWS_AS(kernel.parameters(std::nan("")), ArgumentError);
  CHECK_THROWS_AS(kernel.predict(Matrix<double>::Ones(2, 3)), DimensionError);
  CHECK_THROWS_AS(KernelPredictor(p.net, p.w0.head(3).eval(), p.data), DimensionError);
  CHECK_THROWS_MATCHES(KernelPredictor(p.net, p.w0, p.data, 1.0), ArgumentError, message_contains("rank_tolerance"));
}
