#include "richflow/limits/linear_network.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_layers.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Layers = std::vector<Matrix<double>>;

/// The layers of the deep linear network at time t of its gradient flow, by steps accurate to 1e-12.
Layers integrated_layers(const Layers& start, const Dataset<>& data, double t) {
  std::vector<Index> hidden, widths = {start.front().cols()};
  for (const Matrix<double>& layer : start) widths.push_back(layer.rows());
  hidden.assign(widths.begin() + 1, widths.end() - 1);
  const DeepLinearNetwork<double> net(widths.front(), hidden, false, widths.back());
  const GradientFlow<DeepLinearNetwork<double>> flow(net, data);
  PiController<> controller;
  controller.tolerance = {1e-12, 1e-14};
  return unpack_layers(
      widths, integrate(flow, pack_layers(start), TimeSpan<>{0.0, t}, DormandPrince{}, controller).require_ok().w);
}

/// Inputs with X^T X = c I, and labels that are a linear map of them and something no map fits.
Dataset<> whitened_data(RandomStream& random, Index samples, Index d_in, Index d_out, double c) {
  const Matrix<double> X = std::sqrt(c) * detail::orthonormal_columns<double>(random, samples, d_in);
  return Dataset<>::with_outputs(X, random_matrix(random, samples, d_out));
}

Dataset<> identity_data(const Matrix<double>& target) {
  return Dataset<>::with_outputs(Matrix<double>::Identity(target.cols(), target.cols()), target.transpose());
}

}  // namespace

TEST_CASE("two layers on whitened inputs: the exact solution is what the flow of the network does") {
  RandomStream random(2601);
  for (const auto& [d_in, h, d_out] : {std::array<Index, 3>{4, 3, 3}, {3, 2, 5}, {5, 3, 4}}) {
    for (const double lambda : {-2.0, 0.0, 1.5, 20.0}) {
      const double c = lambda == 1.5 ? 2.5 : 1.0;
      const Dataset<> data = whitened_data(random, d_in + 2, d_in, d_out, c);
      const Layers start = lambda_balanced_start<double>(random, d_in, h, d_out, lambda, Scale<>::from_value(0.3));
      const TwoLayerExact<> exact(data, start[0], start[1]);
      CAPTURE(d_in, h, d_out, lambda);
      CHECK_THAT(exact.lambda(), near(lambda, 1e-13, 1e-13));
      for (const double t : {0.0, 0.1, 0.5, 2.0}) {
        const TwoLayerState<> state = exact.at(t);
        CAPTURE(t, state.message);
        CHECK(state.ok());
        const Layers layers = t > 0 ? integrated_layers(start, data, t) : start;
        // Steps of 1e-12, and what the flow makes of their errors.
        CHECK((state.product - layers_product(layers)).norm() <= 1e-9 * state.product.norm());
        CHECK((state.W1.transpose() * state.W1 - layers[0].transpose() * layers[0]).norm() <=
              1e-9 * layers[0].squaredNorm());
        CHECK((state.lifted().bottomRightCorner(d_out, d_out) - layers[1] * layers[1].transpose()).norm() <=
              1e-9 * layers[1].squaredNorm());
      }
    }
  }
}

TEST_CASE("long times cost the exact solution no digits") {
  RandomStream random(2602);
  for (const double lambda : {-1.0, 0.0, 0.5}) {
    const Matrix<double> target = random_matrix(random, 4, 5);
    const Layers start = lambda_balanced_start<double>(random, 5, 3, 4, lambda, Scale<>::from_value(0.1));
    const TwoLayerExact<> exact(start[0], start[1], target);
    // In two halves, each from layers.
    const TwoLayerState<> half = exact.at(3);
    const TwoLayerState<> whole = exact.at(6).require_ok();
    const TwoLayerState<> again = TwoLayerExact<>(half.W1, half.W2, target).at(3);
    CHECK((again.product - whole.product).norm() <= 1e-13 * target.norm());
    // The best approximation of rank 3.
    Eigen::JacobiSVD<Matrix<double>> svd(target, Eigen::ComputeThinU | Eigen::ComputeThinV);
    const Matrix<double> best =
        svd.matrixU().leftCols(3) * svd.singularValues().head(3).asDiagonal() * svd.matrixV().leftCols(3).transpose();
    const TwoLayerState<> end = exact.at(80).require_ok();
    // The slowest rate, 2 (s_3 - s_4) s_3 or so, has passed by then.
    CHECK((end.product - best).norm() <= 1e-12 * best.norm());
  }
}

TEST_CASE("one mode of two layers agrees with the network of one neuron, lazy to rich") {
  RandomStream random(2603);
  for (int trial = 0; trial < 60; ++trial) {
    const double lambda = trial % 6 == 0 ? 0.0 : signed_log_uniform(random, 1e-4, 50);
    const double start = signed_log_uniform(random, 1e-6, 3);
    const double target = signed_log_uniform(random, 1e-3, 3);
    const double t = log_uniform(random, 1e-3, 10);
    const double root = std::hypot(lambda, 2 * start);
    // w_2^2 or w_1^2, the larger one, has no cancellation.
    const double large = std::sqrt((std::abs(lambda) + root) / 2);
    const Matrix<double> w1 = Matrix<double>::Constant(1, 1, lambda >= 0 ? start / large : large);
    const Matrix<double> w2 = Matrix<double>::Constant(1, 1, lambda >= 0 ? large : start / large);
    const TwoLayerState<> state = TwoLayerExact<>(w1, w2, Matrix<double>::Constant(1, 1, target)).at(t).require_ok();
    CAPTURE(lambda, start, target, t);
    // The eigenvalues of F are known to rounding, and so are rates; over t = 10, 50 of them.
    CHECK_THAT(two_layer_mode(start, target, lambda, t),
               near(state.product(0, 0), 0, 1e-11 * std::max(std::abs(start), std::abs(target))));
    CHECK_THAT(two_layer_mode(start, target, lambda, 0.0), near(start, 0, 8 * eps * std::hypot(start, target)));
  }
  // A balance of nothing is balanced; from zero it is the only one that moves.
  CHECK_THAT(two_layer_mode(1e-3, 1.0, 1e-200, 2.0), near(two_layer_mode(1e-3, 1.0, 0.0, 2.0), 1e-14, 0));
  CHECK(two_layer_mode(0.0, 1.0, 0.0, 5.0) == 0.0);
  CHECK_THAT(two_layer_mode(0.0, 1.0, 1e-200, 1e3), near(1, 4 * eps, 0));
  CHECK_THAT(two_layer_mode(-0.5, 1.0, 0.0, 1e3), near(0, 0, 1e-300));
}

TEST_CASE("modes are learned one after the other in the rich regime and together in the lazy one") {
  const auto half_time = [](double target, double lambda) {
    double low = 0, high = 100;
    while (high - low > 1e-12 * high) {
      const double t = (low + high) / 2;
      (two_layer_mode(1e-3, target, lambda, t) < target / 2 ? low : high) = t;
    }
    return low;
  };
  // theory-limits, section 3; the digits given there.
  CHECK_THAT(half_time(2, 0), near(0.9501, 0, 5e-5));
  CHECK_THAT(half_time(1, 0), near(1.7267, 0, 5e-5));
  CHECK_THAT(half_time(0.5, 0), near(3.1063, 0, 5e-5));
  CHECK_THAT(half_time(0.5, 0.5) / half_time(2, 0.5), near(1.794, 0, 5e-4));
  CHECK_THAT(half_time(0.5, 5) / half_time(2, 5), near(1.026, 0, 5e-4));
  CHECK_THAT(half_time(0.5, 50) / half_time(2, 50), near(0.998, 0, 5e-4));
}

TEST_CASE("balanced and aligned layers of any depth move mode by mode") {
  RandomStream random(2604);
  const Matrix<double> U = detail::orthonormal_columns<double>(random, 4, 3);
  const Matrix<double> V = detail::orthonormal_columns<double>(random, 3, 3);
  const Vector<double> start{{0.3, 0.1, 0.02}};
  const Vector<double> target{{1.5, 0.7, -0.4}};
  const Dataset<> data = identity_data(U * target.asDiagonal() * V.transpose());
  for (const Index depth : {Index{2}, Index{3}, Index{4}, Index{6}}) {
    const Layers layers = balanced_layers<double>(random, U * start.asDiagonal() * V.transpose(),
                                                  std::vector<Index>(static_cast<std::size_t>(depth - 1), 5));
    for (const Matrix<double>& matrix : conserved_matrices(layers)) CHECK(matrix.norm() <= 64 * eps);
    const std::vector<double> times = {0.0, 0.4, 0.4, 1.5};
    const BalancedModes<> modes = balanced_modes(start, target, depth, times).require_ok();
    CAPTURE(depth);
    CHECK((modes.values.col(0) - start).norm() <= 8 * eps);
    CHECK(modes.values.col(1) == modes.values.col(2));
    for (const Index k : {Index{1}, Index{3}}) {
      const Layers moved = integrated_layers(layers, data, times[static_cast<std::size_t>(k)]);
      const Matrix<double> aligned = U.transpose() * layers_product(moved) * V;
      CHECK((aligned - Matrix<double>(modes.values.col(k).asDiagonal())).norm() <= 1e-10);
      for (const Matrix<double>& matrix : conserved_matrices(moved)) CHECK(matrix.norm() <= 1e-10);
    }
  }
  // The linear model, and a mode that rests at zero.
  const BalancedModes<> linear = balanced_modes(start, target, 1, std::vector<double>{0.7});
  CHECK((linear.values.col(0) - (target + std::exp(-1.4) * (start - target))).norm() <= 8 * eps);
  CHECK(balanced_modes(Vector<double>{{0.0}}, Vector<double>{{1.0}}, 3, std::vector<double>{1.0}).values(0, 0) == 0);
}

TEST_CASE("a single neuron ends where the closed form says, on any data") {
  RandomStream random(2605);
  for (const double delta : {0.0, 0.3, 2.0}) {
    for (const Index samples : {Index{1}, Index{3}}) {
      const Dataset<> data = gaussian_data(random, samples, 5);
      const Vector<double> w = 0.4 * random_vector(random, 5);
      const double a = (samples == 1 ? 1 : -1) * std::sqrt(delta + w.squaredNorm());
      const SingleNeuronLimit<> limit = single_neuron_limit(data, a, w);
      CAPTURE(delta, samples, limit.message);
      REQUIRE(limit.ok());
      CHECK_THAT(limit.delta, near(delta, 1e-13, 1e-14));
      const Layers end = integrated_layers({w.transpose(), Matrix<double>::Constant(1, 1, a)}, data, 60);
      // What is left of the loss by then is below the errors of the steps.
      CHECK_THAT(end[1](0, 0), near(limit.a, 1e-9, 0));
      CHECK((end[0].transpose() - limit.w).norm() <= 1e-9 * limit.w.norm());
    }
  }
}

TEST_CASE("starts have the balance and the size that they promise") {
  RandomStream random(2606);
  for (const std::vector<Index>& widths : {std::vector<Index>{3, 4}, {5, 2, 4}, {3, 7, 6, 4}, {1, 2, 1}}) {
    const double alpha = 1e-3;
    const Layers layers = balanced_start<double>(random, widths, Scale<>::from_value(alpha));
    REQUIRE(layers.size() + 1 == widths.size());
    for (const Matrix<double>& matrix : conserved_matrices(layers)) CHECK(matrix.norm() <= 64 * eps * alpha * alpha);
    CHECK(unpack_layers(widths, pack_layers(layers)) == layers);
    const Vector<double> first = detail::svd_values(layers.front());
    const Vector<double> product = detail::svd_values(layers_product(layers));
    const Index rank = *std::min_element(widths.begin(), widths.end());
    for (Index i = 0; i < rank; ++i)
      CHECK_THAT(product[i], near(std::pow(first[i], static_cast<double>(layers.size())), 1e-11, 0));
  }
  CHECK_THAT(effective_rank<double>(Matrix<double>::Identity(3, 5)), near(3, 1e-14, 0));
  CHECK_THAT(effective_rank<double>(Vector<double>{{1, 1, 0, 1e-30}}.asDiagonal().toDenseMatrix()), near(2, 1e-14, 0));
  CHECK(effective_rank<double>(Matrix<double>::Zero(2, 2)) == 0);
}

TEST_CASE("linear networks say in one sentence what does not fit") {
  RandomStream random(2607);
  const Scale<> scale = Scale<>::from_value(0.5);
  const Layers start = lambda_balanced_start<double>(random, 4, 2, 3, 1.0, scale);
  const Matrix<double> target = random_matrix(random, 3, 4);
  Matrix<double> off = start[0];
  off(0, 0) += 0.1;
  CHECK_THROWS_MATCHES(TwoLayerExact<>(off, start[1], target), ArgumentError,
                       message_contains("not lambda-balanced: W2^T W2 - W1 W1^T is off"));
  const Dataset<> data = Dataset<>::with_outputs(random_matrix(random, 6, 4), random_matrix(random, 6, 3));
  CHECK_THROWS_MATCHES(TwoLayerExact<>(data, start[0], start[1]), ArgumentError,
                       message_contains("not whitened: X^T X is off c I by "));
  // By hand: W_2^T W_2 - W_1 W_1^T = diag(0, 1), sqrt(1 / 2) from I / 2, of 5; X^T X = diag(1, 4), sqrt(4.5) from 2.5
  // I.
  const Matrix<double> unit = Matrix<double>::Identity(2, 2);
  const Matrix<double> stretched = Vector<double>{{1, std::sqrt(2.0)}}.asDiagonal();
  CHECK_THROWS_MATCHES(TwoLayerExact<>(unit, stretched, unit), ArgumentError,
                       message_contains("off lambda I by 0.14142") && message_contains("best lambda = 0.5"));
  const Matrix<double> uneven = Vector<double>{{1, 2}}.asDiagonal();
  CHECK_THROWS_MATCHES(TwoLayerExact<>(Dataset<>::with_outputs(uneven, unit), unit, unit), ArgumentError,
                       message_contains("off c I by 0.84852") && message_contains("best c = 2.5"));
  CHECK_THROWS_AS(TwoLayerExact<>(start[0], start[1], target.transpose()), DimensionError);
  CHECK_THROWS_AS(TwoLayerExact<>(start[1], start[1], target), DimensionError);
  CHECK_THROWS_AS(TwoLayerExact<>(start[0], start[1], target, 0.0), ArgumentError);
  CHECK_THROWS_AS(TwoLayerExact<>(start[0], start[1], target).at(-1), ArgumentError);
  CHECK_THROWS_MATCHES((lambda_balanced_start<double>(random, 4, 5, 3, 1.0, scale)), ArgumentError,
                       message_contains("h = 5 is more than d_out = 3"));
  CHECK_THROWS_MATCHES((lambda_balanced_start<double>(random, 4, 5, 6, -1.0, scale)), ArgumentError,
                       message_contains("h = 5 is more than d_in = 4"));
  CHECK_THROWS_MATCHES((balanced_layers<double>(random, target, {2})), ArgumentError,
                       message_contains("hidden_widths[0] = 2 is below the rank 3"));
  CHECK_THROWS_AS(balanced_start<double>(random, {3}, scale), DimensionError);
  CHECK_THROWS_AS(balanced_start<double>(random, {3, 0, 2}, scale), DimensionError);
  const Vector<double> one = Vector<double>::Ones(1);
  CHECK_THROWS_AS(balanced_modes(Vector<double>(-one), one, 2, {1.0}), ArgumentError);
  CHECK_THROWS_AS(balanced_modes(one, one, 0, {1.0}), ArgumentError);
  CHECK_THROWS_AS(balanced_modes(one, one, 3, {1.0, 0.5}), ArgumentError);
  CHECK_THROWS_AS(two_layer_mode(1.0, 1.0, 1.0, -1.0), ArgumentError);
  // At rest: a = 0, and w orthogonal to x. In the row space |w| = |a|, away from y. To a = 0, where nothing is
  // labelled.
  const Dataset<> line(Matrix<double>::Ones(1, 2), Vector<double>::Ones(1));
  CHECK_THROWS_MATCHES(single_neuron_limit(line, 0.0, Vector<double>{{1, -1}}), ArgumentError,
                       message_contains("a = 0 stays where it is"));
  CHECK_THROWS_MATCHES(single_neuron_limit(line, std::sqrt(2.0), Vector<double>{{0.5, -2.5}}), ArgumentError,
                       message_contains("ends at the saddle a = 0, w = 0"));
  CHECK_THROWS_MATCHES(
      single_neuron_limit(Dataset<>(Matrix<double>::Ones(1, 1), Vector<double>::Zero(1)), 1.0, Vector<double>{{2}}),
      ArgumentError, message_contains("by b = -3"));
  CHECK_THROWS_AS(
      single_neuron_limit(Dataset<>(Matrix<double>::Ones(1, 1), Vector<double>(one)), 1.0, Vector<double>(-one)),
      ArgumentError);
  CHECK_THROWS_AS(single_neuron_limit(Dataset<>(Matrix<double>::Ones(2, 1), Vector<double>{{1, 2}}), 1.0, one),
                  InfeasibleError);
}

TEST_CASE("a single neuron: the saddle along an eigenvector is reported, at any rank, and labels of zero are fitted") {
  const Matrix<double> X = Vector<double>{{2, 1}}.asDiagonal();
  const Dataset<> data(X, Vector<double>{{1, 0}});
  const Vector<double> away{{-1, 0}};
  // By hand: a = s, w = -s e_1 has s' = -2 s (4 s^2 + 2), which ends at 0.
  CHECK_THROWS_MATCHES(single_neuron_limit(data, 1.0, away), ArgumentError,
                       message_contains("ends at the saddle a = 0, w = 0"));
  CHECK_THROWS_AS(single_neuron_limit(data, -1.0, Vector<double>(-away)), ArgumentError);
  // Towards y, beside the axis, with delta > 0, and where X^T y is no eigenvector the flow fits y.
  CHECK_THAT(single_neuron_limit(data, 1.0, Vector<double>(-away)).require_ok().beta[0], near(0.5, 1e-14, 0));
  CHECK(single_neuron_limit(data, 1.0, Vector<double>{{-0.8, 0.6}}).ok());
  CHECK(single_neuron_limit(data, 1.1, away).ok());
  const Dataset<> both(X, Vector<double>{{1, 1}});
  const Vector<double> against = -Vector<double>{{2, 1}}.normalized();
  const SingleNeuronLimit<> limit = single_neuron_limit(both, 1.0, against).require_ok();
  const Layers end = integrated_layers({against.transpose(), Matrix<double>::Ones(1, 1)}, both, 60);
  CHECK((end[1](0, 0) * end[0].transpose() - limit.beta).norm() <= 1e-9 * limit.beta.norm());

  const Dataset<> nothing(Matrix<double>::Identity(2, 2), Vector<double>::Zero(2));
  const SingleNeuronLimit<> rest = single_neuron_limit(nothing, 1.0, Vector<double>(Vector<double>::Zero(2)));
  CHECK(rest.ok());
  CHECK(rest.beta.norm() == 0);
  CHECK(rest.a == 1);
  CHECK(rest.null_part == 0);
  const Dataset<> one(Matrix<double>::Ones(1, 1), Vector<double>::Zero(1));
  const SingleNeuronLimit<> gone = single_neuron_limit(one, 1.0, Vector<double>(Vector<double>::Ones(1)));
  CHECK(gone.ok());
  CHECK(gone.beta.norm() == 0);
}

TEST_CASE("deep balanced modes come to rest at their targets, however late it is asked") {
  // The time to y^N of s' = 2 N s^{2-2/N} (1 - s) from y_0^N: of y^{1-N} / (1 - y^N), by Simpson's rule in log y and
  // log (1 - y^N).
  const auto time_between = [](double from, double to, int depth) {
    const int panels = 4000;
    const double N = depth;
    const auto integrate_log = [&](double low, double high, auto&& f) {
      double sum = 0;
      const double h = (high - low) / panels;
      for (int k = 0; k <= panels; ++k) sum += (k == 0 || k == panels ? 1 : k % 2 == 1 ? 4 : 2) * f(low + k * h);
      return sum * h / 3;
    };
    const double middle = 0.5;
    const auto slow = [&](double x) { return 1 / (2 * N * std::exp(x * (1 - 2 / N)) * (1 - std::exp(x))); };
    const auto late = [&](double x) { return 1 / (2 * N * std::pow(1 - std::exp(x), 2 - 2 / N)); };
    return integrate_log(std::log(from), std::log(middle), slow) +
           integrate_log(std::log(1 - to), std::log(1 - middle), late);
  };
  for (const int depth : {3, 5}) {
    for (const double end : {0.9, 0.999, 1 - 1e-7}) {
      const double t = time_between(1e-3, end, depth);
      const BalancedModes<> modes = balanced_modes(Vector<double>{{1e-3}}, Vector<double>{{1.0}}, depth, {t});
      CAPTURE(depth, end, modes.message);
      REQUIRE(modes.ok());
      // Simpson's rule at h = .004 or less, and steps of some 1e-12.
      CHECK_THAT((1 - modes.values(0, 0)) / (1 - end), near(1, 1e-8, 0));
    }
  }
  const Vector<double> start{{1e-3, 1e-3, 2e3, 10, 1e-3, 1e3}}, target{{1e3, 0.5, 1e3, 10, -2, 0}};
  const BalancedModes<> modes = balanced_modes(start, target, 5, {0.0, 100.0, 1e5}).require_ok();
  CHECK((modes.values.col(0) - start).norm() == 0);
  for (const Index i : {0, 2, 3}) CHECK_THAT(modes.values(i, 1), near(target[i], 4 * eps, 0));
  CHECK_THAT(modes.values(1, 2), near(0.5, 4 * eps, 0));
  // Towards 0: (s^{-p} - s_0^{-p}) / p = 2 N t, p = 2 - 2 / N.
  const double p = 1.6;
  CHECK_THAT(modes.values(5, 1), near(std::pow(std::pow(1e3, -p) + p * 10 * 100, -1 / p), 1e-10, 0));
  CHECK(modes.values(4, 2) < modes.values(4, 1));
  CHECK(balanced_modes(Vector<double>{{1e-3}}, Vector<double>{{10.0}}, 3, {1e5}).ok());
}

TEST_CASE("linear networks at the ends of the range") {
  // 1 / s follows 1 / target + (1 / start - 1 / target) e^{-4 target t}.
  CHECK_THAT(two_layer_mode(1e300, 1e-10, 0.0, 1e10), near(1e-10 / -std::expm1(-4.0), 1e-14, 0));
  CHECK_THAT(two_layer_mode(1e-300, 1.0, 0.0, 200.0), near(1.0, 1e-14, 0));
  RandomStream random(2608);
  const Layers large = lambda_balanced_start<double>(random, 2, 2, 3, 1.0, Scale<>::from_log(400));
  for (const Matrix<double>& layer : large) {
    REQUIRE(layer.allFinite());
    CHECK(layer.cwiseAbs().maxCoeff() > 1e172);
  }
}

TEST_CASE("the exact solution of two layers stops where it is at rest") {
  RandomStream random(2609);
  const Matrix<double> target = random_matrix(random, 3, 3);
  const Layers start = lambda_balanced_start<double>(random, 3, 2, 3, 0.0, Scale<>::from_value(1e-6));
  const TwoLayerExact<> exact(start[0], start[1], target);
  const TwoLayerState<> late = exact.at(1e6).require_ok(), later = exact.at(1e8).require_ok();
  CHECK(late.steps < 5000);
  Eigen::JacobiSVD<Matrix<double>> svd(target, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Matrix<double> best =
      svd.matrixU().leftCols(2) * svd.singularValues().head(2).asDiagonal() * svd.matrixV().leftCols(2).transpose();
  for (const TwoLayerState<>& state : {late, later}) CHECK((state.product - best).norm() <= 1e-12 * best.norm());
  // A plateau is not rest.
  CHECK(exact.at(1.0).steps >= 1);
  const Layers tiny = lambda_balanced_start<double>(random, 3, 2, 3, 0.0, Scale<>::from_value(1e-60));
  CHECK((TwoLayerExact<>(tiny[0], tiny[1], target).at(1e6).product - best).norm() <= 1e-12 * best.norm());
}

TEST_CASE("a single neuron with small outer weight: whether it changes its sign, when, and where it ends") {
  RandomStream random(2610);
  const Index d = 5;
  int crossed = 0, kept = 0;
  for (int trial = 0; trial < 16; ++trial) {
    const Dataset<> data = gaussian_data(random, 3, d);
    const Vector<double> w = random_vector(random, d);
    const double a = random.uniform(-0.5, 0.5);
    const SingleNeuronLimit<> limit = single_neuron_limit(data, a, w);
    CAPTURE(trial, a, limit.message, limit.crossing_time);
    REQUIRE(limit.ok());
    CHECK_THAT(limit.delta, near(a * a - w.squaredNorm(), 1e-14, 0));
    const Layers start = {w.transpose(), Matrix<double>::Constant(1, 1, a)};
    // Near the end residuals fall at rates from 2 a^2 times the smallest eigenvalue of X X^T on: by e^-26 or so.
    const double slowest = std::pow(detail::svd_values(data.X())[2] * limit.a, 2);
    const Layers end = integrated_layers(start, data, 1 + 13 / slowest);
    CHECK((end[1](0, 0) * end[0].transpose() - limit.beta).norm() <= 1e-8 * limit.beta.norm());
    CHECK_THAT(end[1](0, 0), near(limit.a, 1e-8, 0));
    if (std::isfinite(limit.crossing_time)) {
      ++crossed;
      CHECK(limit.a * a < 0);
      const double there = integrated_layers(start, data, limit.crossing_time)[1](0, 0);
      CHECK(std::abs(there) <= 1e-10);
    } else {
      ++kept;
      CHECK(limit.a * a > 0);
    }
  }
  CHECK(crossed >= 4);
  CHECK(kept >= 4);

  // By hand: a = m sinh q, w = -m cosh q on x = y = 1 has q' = -2 - m^2 sinh(2 q), and z = e^{2 q} the time
  // integral dz / (m^2 z^2 + 4 z - m^2) from 1 on.
  const Dataset<> one(Matrix<double>::Ones(1, 1), Vector<double>::Ones(1));
  const SingleNeuronLimit<> far = single_neuron_limit(one, 1.0, Vector<double>{{-2}}).require_ok();
  const double z = std::exp(2 * std::asinh(1 / std::sqrt(3.0)));
  const double root = std::sqrt(4 + 9.0), high = (-2 + root) / 3, low = (-2 - root) / 3;
  const double time = std::log((z - high) / (z - low) * (1 - low) / (1 - high)) / (2 * root);
  // Steps of 1e3 epsilon.
  CHECK_THAT(far.crossing_time, near(time, 1e-11, 0));
  CHECK(far.a < 0);
  CHECK_THAT(far.beta[0], near(1, 1e-14, 0));
  // Out of a = 0 to the side of X^T y; with more of w outside the row space than in it nothing can cross.
  CHECK(single_neuron_limit(one, 0.0, Vector<double>{{-0.5}}).require_ok().a < 0);
  const Dataset<> line(Vector<double>{{1, 0}}.transpose(), Vector<double>::Ones(1));
  const SingleNeuronLimit<> aside = single_neuron_limit(line, 0.1, Vector<double>{{-0.05, 3}}).require_ok();
  CHECK(aside.crossing_time == infinity);
  CHECK(aside.a > 0);

  // Between starts that cross and starts that do not is one that ends at a saddle: there the sign is rounding.
  const Dataset<> plane(Matrix<double>::Identity(2, 2), Vector<double>{{1, 0}});
  const auto limit_from = [&](double x) { return single_neuron_limit(plane, 0.5, Vector<double>{{x, 1.5}}); };
  double low_x = -1.2, high_x = 0.5;
  REQUIRE(std::isfinite(limit_from(low_x).require_ok().crossing_time));
  REQUIRE(limit_from(high_x).require_ok().crossing_time == infinity);
  SingleNeuronLimit<> between = limit_from(high_x);
  for (int k = 0; k < 30 && between.ok(); ++k) {
    const double x = (low_x + high_x) / 2;
    between = limit_from(x);
    (std::isfinite(between.crossing_time) ? low_x : high_x) = x;
  }
  CHECK(between.status == Status::stalled);
  CHECK_THAT(between.message, text_contains("a comes to 0 at a saddle"));
  CHECK(between.beta.hasNaN());
}
