#include "richflow/kernel/sharpness.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "richflow/bias/step_size_bound.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/activation.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The Hessian of a flow's loss, column by column by central differences of steps h and h / 2 extrapolated, whose error
/// is of fourth order.
template <class Flow>
Matrix<double> dense_hessian(const Flow& flow, const Vector<double>& w, double h = 1e-3) {
  const Index P = w.size();
  Matrix<double> H(P, P);
  Vector<double> ahead(P), behind(P);
  const auto difference = [&](Index j, double step) -> Vector<double> {
    const Vector<double> unit = Vector<double>::Unit(P, j);
    flow(0.0, Vector<double>(w + step * unit), ahead);
    flow(0.0, Vector<double>(w - step * unit), behind);
    return (behind - ahead) / (2 * step);
  };
  for (Index j = 0; j < P; ++j) H.col(j) = (4 * difference(j, h / 2) - difference(j, h)) / 3;
  return (H + H.transpose()) / 2;
}

double largest_eigenvalue(const Matrix<double>& H) { return -detail::lowest_eigenvalue<double>(-H); }

/// `accuracy`, relative to |H|, is that of the dense one.
template <class Flow>
void check_against_dense(const SharpnessResult<double>& found, const Flow& flow, const Vector<double>& w,
                         double accuracy, double h = 1e-3) {
  CAPTURE(found.message);
  REQUIRE(found.ok());
  const Matrix<double> H = dense_hessian(flow, w, h);
  const double size = H.norm();
  CHECK(std::abs(found.value - largest_eigenvalue(H)) <= accuracy * size);
  CHECK(found.residual <= 3e-8 * std::abs(found.value) + 1e-12 * size);
  CHECK_THAT(found.eigenvector.norm(), near(1.0, 1e-14, 0.0));
  CHECK((H * found.eigenvector - found.value * found.eigenvector).norm() <= found.residual + accuracy * size);
}

/// `sum (f - y)^4`, which does not know its second derivative.
struct QuarticLoss {
  [[nodiscard]] double value(ConstVectorRef<double> f, ConstVectorRef<double> y) const {
    return (f - y).array().pow(4).sum();
  }
  void gradient(ConstVectorRef<double> f, ConstVectorRef<double> y, VectorRef<double> out) const {
    out = 4 * (f - y).array().cube().matrix();
  }
};

using TanhNetwork = FullyConnected<double, activation::Tanh>;

}  // namespace

TEST_CASE("the sharpness is the largest eigenvalue of the dense Hessian, for any model and loss") {
  RandomStream random(2460);
  const Dataset<> data = gaussian_data(random, 6, 4);
  SECTION("diagonal nets, far from a fit, exactly") {
    for (const Index depth : {2, 3, 4, 5}) {
      CAPTURE(depth);
      const DiagonalNet<double> net(depth, 4);
      for (int k = 0; k < 4; ++k) {
        const Vector<double> w = random_vector(random, 8);
        const auto found = sharpness(net, data, w);
        check_against_dense(found, GradientFlow(net, data), w, 1e-10);
        // Without differences the certificate is rounding.
        CHECK(found.residual <= 2e-8 * found.value);
      }
      // Small weights and large residuals: eigenvalues of both signs and much the same size.
      const Vector<double> w = 0.01 * random_vector(random, 8);
      check_against_dense(sharpness(net, data, w), GradientFlow(net, data), w, 1e-8, 1e-4);
    }
  }
  SECTION("two layers") {
    const TwoLayerDiagonalNet<double> net(4);
    const Vector<double> w = random_vector(random, 16);
    check_against_dense(sharpness(net, data, w), GradientFlow(net, data), w, 1e-10);
  }
  SECTION("a factorization") {
    const FactorShape shape = FactorShape::general(2, 2);
    const Dataset<> measured = dense_data(shape, random_matrix(random, 6, 4), random_vector(random, 6));
    const MatrixFactorization<double> net(2, 2, 3);
    const Vector<double> w = random_vector(random, net.num_parameters());
    check_against_dense(sharpness(net, measured, w), GradientFlow(net, measured), w, 1e-10);
  }
  SECTION("networks, by differences") {
    const TanhNetwork smooth(4, {5, 3});
    const ReluNetwork<double> kinked(4, {5, 3});
    for (int k = 0; k < 4; ++k) {
      const Vector<double> w = random_vector(random, smooth.num_parameters());
      // Differences are off by e^2 / 6 = 1e-11 to 4e-11 times a third derivative, of up to 100 |H| at such weights.
      check_against_dense(sharpness(smooth, data, w), GradientFlow(smooth, data), w, 1e-8);
      // Steps shorter than the way to a kink.
      check_against_dense(sharpness(kinked, data, w), GradientFlow(kinked, data), w, 1e-8, 1e-5);
    }
  }
  SECTION("other losses") {
    const TanhNetwork net(4, {5});
    const Vector<double> w = random_vector(random, net.num_parameters());
    check_against_dense(sharpness(net, data, w, QuarticLoss{}), GradientFlow(net, data, QuarticLoss{}), w, 2e-9);
    const Dataset signs(data.X(), data.y().array().sign().matrix());
    check_against_dense(sharpness(net, signs, w, LogisticLoss<double>{}),
                        GradientFlow(net, signs, LogisticLoss<double>{}), w, 2e-9);
    const TanhNetwork classes(4, {5}, false, 3);
    const LabelledDataset<double> labelled(data.X(), (Vector<int>(6) << 0, 1, 2, 2, 1, 0).finished(), 3);
    const Vector<double> v = random_vector(random, classes.num_parameters());
    check_against_dense(sharpness(classes, labelled, v), GradientFlow(classes, labelled), v, 2e-9);
  }
}

TEST_CASE("the Gauss-Newton part is 2 lambda_max(J J^T), by the smaller side") {
  RandomStream random(2461);
  const SharpnessOptions gauss_newton{.part = HessianPart::gauss_newton};
  const auto check = [&](const auto& net, Index samples) {
    CAPTURE(samples);
    const Dataset<> data = gaussian_data(random, samples, 4);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const auto found = sharpness(net, data, w, SquaredLoss<double>{}, gauss_newton);
    CHECK(found.ok());
    const double expected = 2 * largest_eigenvalue(tangent_kernel(net, w, data.X()));
    // The default tolerance bounds the residual, and the error by its square over the gap.
    CHECK_THAT(found.value, near(expected, 1.5e-8, 0.0));
    CHECK(found.residual <= 3e-8 * found.value);
    CHECK_THAT(found.eigenvector.norm(), near(1.0, 1e-14, 0.0));
  };
  for (const Index samples : {1, 3, 40}) {
    check(SquaredDiagonalNet<double>(4), samples);
    check(ReluNetwork<double>(4, {6, 5}), samples);
  }
  // With curvature that differs from sample to sample.
  const Dataset<> data = gaussian_data(random, 5, 4);
  const Dataset signs(data.X(), data.y().array().sign().matrix());
  const TanhNetwork net(4, {6});
  const Vector<double> w = random_vector(random, net.num_parameters());
  const auto found = sharpness(net, signs, w, LogisticLoss<double>{}, gauss_newton);
  Vector<double> f(5), root(5);
  net.predict(w, signs.X(), f);
  LogisticLoss<double>{}.curvature_root(f, signs.y(), root);
  const Matrix<double> K = root.asDiagonal() * tangent_kernel(net, w, signs.X()) * root.asDiagonal();
  CHECK_THAT(found.value, near(largest_eigenvalue(K), 1.5e-8, 0.0));
  CHECK_THROWS_MATCHES(sharpness(net, signs, w, QuarticLoss{}, gauss_newton), ArgumentError,
                       message_contains("does not know its second derivative"));
  // No slope, no curvature.
  const auto flat = sharpness(SquaredDiagonalNet<double>(4), data, Vector<double>::Zero(8), {}, gauss_newton);
  CHECK(flat.ok());
  CHECK(flat.value == 0.0);
}

TEST_CASE("a kink within the steps of differences shortens them, and one at w is reported") {
  // relu(w_0 x_0 + w_1 x_1) w_2 at x = (1, 1), (1, 0.3); where both are active it is the linear net.
  const ReluNetwork<double> net(2, {1});
  const DeepLinearNetwork<double> active(2, {1});
  const Dataset data((Matrix<double>(2, 2) << 1.0, 1.0, 1.0, 0.3).finished(), Vector<double>::Constant(2, 5.0));
  const SharpnessOptions options{.tolerance = 1e-6};
  const auto at = [](double distance) {
    return Vector<double>((Vector<double>(3) << 1.0, distance - 1.0, 0.7).finished());
  };
  // Of the differences' steps, 6e-6 |w| and that over 64 and 4096, one more is short enough each time.
  for (const double distance : {1e-1, 1e-6, 2e-8}) {
    CAPTURE(distance);
    const auto found = sharpness(net, data, at(distance), SquaredLoss<double>{}, options);
    CAPTURE(found.message);
    CHECK(found.ok());
    const double expected = largest_eigenvalue(dense_hessian(GradientFlow(active, data), at(distance)));
    // Shorter steps leave more rounding.
    CHECK_THAT(found.value, near(expected, 1e-6, 0.0));
  }
  const auto lost = sharpness(net, data, at(1e-13), SquaredLoss<double>{}, options);
  CHECK(lost.status == Status::stalled);
  CHECK_THAT(lost.message, text_contains("a kink of the model near w"));
}

TEST_CASE("a sharpness that is not reached is said so, and bad input is refused") {
  RandomStream random(2463);
  const Dataset<> data = gaussian_data(random, 20, 30);
  const SquaredDiagonalNet<double> net(30);
  const Vector<double> w = random_vector(random, 60);
  const Sharpness<> exact(net, data);
  const double value = exact(w);
  CHECK(exact.status() == Status::tolerance_reached);
  CHECK(exact.failures() == 0);
  const Sharpness<> hasty(net, data, SharpnessOptions{.max_products = 3});
  const auto found = hasty.measure(w);
  CHECK_FALSE(found.ok());
  CHECK(found.status == Status::max_steps);
  CHECK(found.value < value);
  CHECK(found.value + found.residual >= value * (1 - 1e-12));
  CHECK(hasty.failures() == 1);
  CHECK_THAT(found.message, text_contains("raise max_products or basis"));
  CHECK_THROWS_AS(found.require_ok(), ConvergenceError);
  // It starts again from the best vector of a small basis, and gets there.
  CHECK_THAT(Sharpness<>(net, data, SharpnessOptions{.basis = 4})(w), near(value, 1e-8, 0.0));
  // A function of w alone.
  (void)exact(Vector<double>(2 * w));
  CHECK(exact(w) == value);
  CHECK_THAT(Sharpness<>(net, data, SharpnessOptions{.seed = 5})(w), near(value, 1e-8, 0.0));

  const auto overflow = exact.measure(Vector<double>::Constant(60, 1e160));
  CHECK(overflow.status == Status::non_finite);
  CHECK(overflow.value == infinity);
  CHECK_THAT(overflow.message, text_contains("not finite"));
  CHECK_THROWS_MATCHES(exact(Vector<double>::Ones(7)), DimensionError, message_contains("w has 7 entries where 60"));
  CHECK_THROWS_AS(exact(Vector<double>::Constant(60, std::nan(""))), NonFiniteError);
  CHECK_THROWS_AS(Sharpness<>(SquaredDiagonalNet<double>(4), data), DimensionError);
  const auto refused = [&](const SharpnessOptions& options, const char* part) {
    CHECK_THROWS_MATCHES(Sharpness<>(net, data, options), ArgumentError, message_contains(part));
  };
  refused({.tolerance = -1.0}, "tolerance must not be negative, and finite, got -1");
  refused({.max_products = 0}, "max_products must be positive, got 0");
  refused({.basis = 1}, "basis must be more than 1, got 1");
  refused({.every = 0}, "every must be positive, got 0");
  CHECK_THROWS_MATCHES(edge_of_stability(exact, 0.0), ArgumentError, message_contains("the step must be positive"));
  CHECK_THROWS_MATCHES(edge_of_stability(exact, 1.0, Crossing::rising, -2.0), ArgumentError,
                       message_contains("the limit must be positive"));
}

TEST_CASE("the sharpness in single precision") {
  RandomStream random(2464);
  const Dataset<> data = gaussian_data(random, 6, 4);
  const Dataset<float> narrow(data.X().cast<float>(), data.y().cast<float>());
  const TanhNetwork net(4, {5, 3});
  const Vector<double> w = random_vector(random, net.num_parameters());
  const auto found =
      sharpness(FullyConnected<float, activation::Tanh>(4, {5, 3}), narrow, Vector<float>(w.cast<float>()));
  CAPTURE(found.message);
  CHECK(found.ok());
  // The default tolerance, the root of epsilon.
  CHECK_THAT(static_cast<double>(found.value), near(sharpness(net, data, w).value, 4e-4, 0.0));
}

TEST_CASE("where the data are fitted the sharpness has the closed form") {
  RandomStream random(2465);
  const auto check = [&](const auto& net) {
    const Matrix<double> X = random_matrix(random, 5, 8);
    const Vector<double> w = random_vector(random, net.num_parameters());
    Vector<double> y(5);
    net.predict(w, X, y);
    const Dataset data(X, y);
    const double closed = interpolator_sharpness(net, X, w);
    CHECK_THAT(sharpness(net, data, w).value, near(closed, 1e-12, 0.0));
    CHECK_THAT(sharpness(net, data, w, SquaredLoss<double>{}, {.part = HessianPart::gauss_newton}).value,
               near(closed, 1e-12, 0.0));
  };
  for (const Index depth : {2, 3, 4, 7}) check(DiagonalNet<double>(depth, 8));
  check(TwoLayerDiagonalNet<double>(8));
}

TEST_CASE("descent ends below its edge of stability, and the run says where it crossed it") {
  // P3 of the reference at alpha = 0.5.
  const Dataset<> data = algorithms_problem();
  const SquaredDiagonalNet<double> net(8);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  Sharpness<> sharp(net, data);
  const GradientFlow flow(net, data);
  const auto descend = [&](double eta, Index steps, IntegrateOptions<> options, double alpha = 0.5) {
    options.detect_stall = false;
    return integrate(flow, net.initial_parameters(Scale<>::from_value(alpha)), Steps{steps}, Descent{},
                     ConstantStep{eta}, options);
  };
  const auto converged = descend(0.037, 3000, {});
  CHECK(flow.loss(converged.w) <= 1e-24);
  // 1.91 of the table; two digits.
  CHECK_THAT(0.037 * sharp(converged.w), near(1.91, 0.0, 5e-3));
  CHECK_THAT(sharp(converged.w), near(interpolator_sharpness(net, data.X(), converged.w), 1e-8, 0.0));
  CHECK(flow.loss(descend(0.042, 3000, {}).w) >= 1e-3);
  CHECK(descend(0.045, 3000, {}).status == Status::non_finite);

  SECTION("observed, and in the table of a run") {
    const auto run = descend(
        0.037, 40, {.save_at = {.every = 1, .quantities = {{"sharpness", std::cref(sharp)}}}, .observers = {sharp}});
    const Vector<double> column = run.table["sharpness"];
    REQUIRE(column.size() == 40);
    Index at = 0;
    CHECK(sharp.largest() == column.maxCoeff(&at));
    CHECK(sharp.largest_at() == at + 1);
    CHECK(sharp.failures() == 0);
    Vector<double> w = w0, dw(16);
    for (Index k = 0; k < 40; ++k) {
      flow(0.0, w, dw);
      w += 0.037 * dw;
      CHECK_THAT(column[k], near(largest_eigenvalue(dense_hessian(flow, w)), 1e-8, 0.0));
    }
  }
  SECTION("an event ends descent at the step that crosses the edge") {
    Vector<double> w = net.initial_parameters(Scale<>::from_value(0.1)), dw(16);
    CHECK(0.037 * sharp(w) < 2);
    Index crossing = 0;
    for (Index k = 1; crossing == 0 && k < 100; ++k) {
      flow(0.0, w, dw);
      w += 0.037 * dw;
      if (0.037 * largest_eigenvalue(dense_hessian(flow, w)) >= 2) crossing = k;
    }
    REQUIRE(crossing > 0);
    const auto run =
        descend(0.037, 3000, {.events = {edge_of_stability(sharp, 0.037, Crossing::rising).at_step_end()}}, 0.1);
    CHECK(run.status == Status::event);
    CHECK(run.step == crossing);
    CHECK(run.event_name == "edge_of_stability");
  }
  SECTION("and a gradient flow at the time of the crossing") {
    const double eta = 2 / (0.9 * sharp(w0) + 0.1 * sharp(converged.w));
    const auto run = integrate(flow, w0, TimeSpan{0, 10}, DormandPrince{}, PiController<>{.tolerance = {1e-10, 1e-12}},
                               {.events = {edge_of_stability(sharp, eta)}});
    REQUIRE(run.status == Status::event);
    CHECK(run.t > 0);
    // Located to rounding in t; the sharpness itself to its tolerance.
    CHECK_THAT(eta * sharp(run.w), near(2.0, 1e-7, 0.0));
  }
}
