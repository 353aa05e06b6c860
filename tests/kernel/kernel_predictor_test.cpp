#include "richflow/kernel/kernel_predictor.hpp"

#include <Eigen/LU>
#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/units.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct Problem {
  ReluNetwork<double> net{2, {40}};
  Vector<double> w0;
  Dataset<> data;
  Matrix<double> test;

  explicit Problem(std::uint64_t seed)
      : w0(RandomStreamStart(seed, net)), data(make_data(seed)), test(make_test(seed)) {}

 private:
  static Vector<double> RandomStreamStart(std::uint64_t seed, const ReluNetwork<double>& net) {
    RandomStream random(seed, 0);
    return net.initial_parameters(random, Scale<>::from_value(1.0));
  }
  static Dataset<> make_data(std::uint64_t seed) {
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
  const GradientFlow flow(Linearized(p.net, p.w0), p.data);
  Vector<double> w = p.w0;
  double t = 0.0;
  for (const double next : {1e-3, 0.02, 0.4}) {
    const auto solution = integrate(flow, w, TimeSpan{t, next}, DormandPrince{},
                                    PiController<>{.tolerance = {.relative = 1e-11, .absolute = 1e-12}});
    REQUIRE(solution.ok());
    w = solution.w;
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
  // As evaluated at the limit: f_0 and y to rounding.
  CHECK(kernel.residual(infinity).norm() <= 1e-14 * (p.data.y().norm() + kernel.residual(0.0).norm()));
}

TEST_CASE("a wide squared net has the kernel limit of least weighted l2 norm") {
  // For the squared net at (alpha, alpha) the tangent model is linear in beta, with kernel 8 alpha^2 X X^T.
  RandomStream random(63);
  const SquaredDiagonalNet<double> net(9);
  const Dataset data(random_matrix(random, 4, 9), random_vector(random, 4));
  const KernelPredictor kernel(net, net.initial_parameters(Scale<>::from_value(2.0)), data);
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

namespace {

/// f(w, x) = <w, x>: the tangent model is the model, and its limit from 0 the least-norm solution.
struct LinearNet {
  using Scalar = double;
  Index d;
  [[nodiscard]] Index num_parameters() const { return d; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double> /*w*/, ConstMatrixRef<double> X, ConstVectorRef<double> r,
           VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

}  // namespace

TEST_CASE("a linear model on features in any units: the limit is the least-norm solution, said of the data") {
  RandomStream random(66);
  const LinearNet net{8};
  for (int exponent = 0; exponent <= 18; exponent += 3)
    for (int trial = 0; trial < 4; ++trial) {
      CAPTURE(exponent, trial);
      const Vector<double> columns = mixed_units(random, 8, std::pow(10.0, exponent));
      const Vector<double> rows = mixed_units(random, 3, trial < 2 ? 1.0 : std::pow(10.0, exponent));
      const Matrix<double> plain = random_matrix(random, 3, 8) * columns.asDiagonal();
      const Dataset data(rows.asDiagonal() * plain, rows.cwiseProduct(random_vector(random, 3)));
      const KernelPredictor kernel(net, Vector<double>::Zero(8), data);
      INFO(kernel.message());
      REQUIRE(kernel.interpolates());
      CHECK(kernel.rank() == 3);
      const Vector<double> w = kernel.parameters();
      CHECK(relative_residual(data.X(), w, data.y()) <= 1e-12);
      CHECK_THAT(kernel.limit_residual(), near(0.0, 0.0, 1e-12 * data.y().norm()));
      if (trial >= 2) continue;  // samples of small size are judged by |y| alone
      // Every weight in its own unit.
      const Vector<double> expected = least_norm_by_minors(data.X(), data.y());
      CHECK((w - expected).cwiseProduct(columns).norm() <= 1e-9 * expected.cwiseProduct(columns).norm());
    }
}

TEST_CASE("inputs near 1e8 that were not normalized interpolate, in a linear model and in a network") {
  RandomStream random(67);
  const LinearNet linear{6};
  const ReluNetwork<double> net(2, {60});
  for (int trial = 0; trial < 5; ++trial) {
    CAPTURE(trial);
    const Matrix<double> X = (random_matrix(random, 4, 6).array() + 1e8).matrix();
    const Dataset data(X, random_vector(random, 4));
    const KernelPredictor kernel(linear, Vector<double>::Zero(6), data);
    INFO(kernel.message());
    CHECK(kernel.rank() == 4);
    // Predictions are sums of terms of size 1e8 |w|, a few roundings of which no weights can avoid.
    const Vector<double> w = kernel.parameters();
    const double rounding = 4 * std::numeric_limits<double>::epsilon() * 1e8 * w.lpNorm<1>() / data.y().norm();
    const double missed_share = relative_residual(X, w, data.y());
    CHECK(missed_share <= rounding);
    CHECK(kernel.interpolates() == (kernel.limit_residual() <= 1.4901161193847657e-8 * data.y().norm()));
    if (kernel.interpolates()) CHECK(missed_share <= 3e-8);

    // The function of a ReLU network at such inputs is of size 1e8 itself: subtracting it leaves 1e-8 of y.
    const Matrix<double> inputs = (random_matrix(random, 5, 2).array() + 1e8).matrix();
    const Dataset raw(inputs, random_vector(random, 5));
    const KernelPredictor wide(net, net.initial_parameters(random, Scale<>::from_value(1.0)), raw);
    const double missed = (wide.predict(inputs) - raw.y()).norm();
    CHECK_THAT(wide.limit_residual(), near(missed, 1e-6, 1e-12));
    CHECK(wide.interpolates() == (missed <= KernelPredictor<double>::fit_tolerance() * raw.y().norm()));
    CHECK(wide.message().empty() == wide.interpolates());
  }
}

TEST_CASE("an initial function so large that rounding hides the labels is reported, one of moderate size is not") {
  RandomStream random(68);
  const LinearNet net{6};
  const Matrix<double> X = random_matrix(random, 3, 6);
  const Dataset data(X, random_vector(random, 3));
  const Vector<double> direction = random_vector(random, 6);
  for (const double size : {1.0, 1e3, 1e12}) {
    CAPTURE(size);
    const KernelPredictor kernel(net, (size * direction).eval(), data);
    const double missed = relative_residual(X, kernel.parameters(), data.y());
    INFO(missed);
    if (size < 1e12) {
      CHECK(kernel.interpolates());
      CHECK(missed <= 1e-12);
    } else {
      CHECK_FALSE(kernel.interpolates());
      CHECK_THAT(kernel.message(), text_contains("|f_0(X)| = "));
      CHECK_THROWS_MATCHES(kernel.require_interpolation(), InfeasibleError, message_contains("rounding"));
    }
  }
}

TEST_CASE("conflicting labels are refused in any units of the features") {
  RandomStream random(69);
  for (int exponent = 0; exponent <= 18; exponent += 6) {
    CAPTURE(exponent);
    Matrix<double> X = random_matrix(random, 4, 8) * mixed_units(random, 8, std::pow(10.0, exponent)).asDiagonal();
    X.row(2) = X.row(0);
    Vector<double> y = random_vector(random, 4);
    const KernelPredictor conflicting(LinearNet{8}, Vector<double>::Zero(8), Dataset(X, y));
    CHECK_FALSE(conflicting.interpolates());
    CHECK_THAT(conflicting.message(), text_contains("samples 0 and 2 have the same input"));
    y(2) = y(0);
    const KernelPredictor agreeing(LinearNet{8}, Vector<double>::Zero(8), Dataset(X, y));
    INFO(agreeing.message());
    CHECK(agreeing.interpolates());
    CHECK(agreeing.rank() == 3);
    CHECK(relative_residual(X, agreeing.parameters(), y) <= 1e-12);
  }
}
