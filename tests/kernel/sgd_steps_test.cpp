#include "richflow/kernel/sgd_steps.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/linalg/spectral.hpp"
#include "richflow/models/activation.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/train/sgd.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

LabelledDataset<double> labelled(const Matrix<double>& X, int classes) {
  Vector<int> labels(X.rows());
  for (Index n = 0; n < X.rows(); ++n) labels[n] = static_cast<int>(n) % classes;
  return {X, labels, classes};
}

template <class M>
Matrix<double> outputs_of(const M& model, const Vector<double>& w, const Matrix<double>& X) {
  Matrix<double> F(X.rows(), model.num_outputs());
  model.predict(w, X, F);
  return F;
}

}  // namespace

TEST_CASE("edge_step of softmax regression is that of its covariance, and infinite where every softmax is saturated") {
  RandomStream random(631);
  const Matrix<double> X = random_matrix(random, 40, 5);
  const LabelledDataset<double> data = labelled(X, 3);
  const LinearClassifier<double> model(5, 3);
  const Vector<double> zero = Vector<double>::Zero(15);
  // At W = 0 every p is 1/3: the Hessian of the mean loss is X^T X / N times (I - 1 1^T / 3) / 3.
  const auto expected = [&](Index samples) {
    const Matrix<double> first = X.topRows(samples);
    return 2.0 * 3.0 * static_cast<double>(samples) / -detail::lowest_eigenvalue<double>(-first.transpose() * first);
  };
  // The tolerance of the measurement; an eigenvalue within it is off by its square over the gap, or by less than it.
  CHECK_THAT(edge_step(model, data, zero), near(expected(40), 1e-2, 0.0));
  CHECK_THAT(edge_step(model, data, zero, 12), near(expected(12), 1e-2, 0.0));
  CHECK(std::abs(expected(12) / expected(40) - 1) > 0.05);
  // exp(-1000) underflows.
  CHECK(std::isinf(edge_step(model, data, Vector<double>(1e9 * random_vector(random, 15)))));
  CHECK_THROWS_MATCHES(edge_step(model, data, zero, 0), ArgumentError, message_contains("samples must be at least 1"));
}

TEST_CASE("safe_growth_loss of a linear classifier is one over the step and the mean square of its rows") {
  RandomStream random(632);
  const Matrix<double> X = random_matrix(random, 30, 4);
  const LabelledDataset<double> data = labelled(X, 3);
  const LinearClassifier<double> model(4, 3);
  const Vector<double> w = random_vector(random, 12);
  // An output's derivatives are the sample; rounding.
  CHECK_THAT(safe_growth_loss(model, data, w, 500.0),
             near(1.0 / (500.0 * X.rowwise().squaredNorm().mean()), 1e-14, 0.0));
  CHECK_THAT(safe_growth_loss(model, data, w, 200.0, 7),
             near(1.0 / (200.0 * X.topRows(7).rowwise().squaredNorm().mean()), 1e-14, 0.0));
  // At most 0.01, also where nothing moves.
  CHECK(safe_growth_loss(model, data, w, 1e-3) == 0.01);
  CHECK(safe_growth_loss(model, labelled(Matrix<double>::Zero(3, 4), 3), w, 0.5) == 0.01);

  const auto refuses = [&](double step, Index samples, const char* part) {
    CHECK_THROWS_MATCHES(safe_growth_loss(model, data, w, step, samples), ArgumentError, message_contains(part));
  };
  refuses(0.0, 5, "step must be positive and finite, got 0");
  refuses(std::numeric_limits<double>::infinity(), 5, "step must be positive and finite, got inf");
  refuses(0.5, 0, "samples must be at least 1, got 0");
  CHECK_THROWS_AS(safe_growth_loss(model, data, Vector<double>::Zero(11), 0.5), DimensionError);
}

TEST_CASE("safe_growth_loss of a network is that of its gradients by differences") {
  RandomStream random(633);
  const Matrix<double> X = random_matrix(random, 6, 3);
  const FullyConnected<double, activation::Tanh> net(3, {5}, true, 4);
  const Vector<double> w = random_vector(random, net.num_parameters());
  constexpr double h = 1e-5;
  double square = 0.0;
  for (Index i = 0; i < w.size(); ++i) {
    const Vector<double> e = Vector<double>::Unit(w.size(), i);
    square +=
        ((outputs_of(net, Vector<double>(w + h * e), X) - outputs_of(net, Vector<double>(w - h * e), X)) / (2 * h))
            .squaredNorm();
  }
  // Central differences: h^2 = 1e-10 times derivatives of some units, and rounding of eps / h.
  CHECK_THAT(safe_growth_loss(net, labelled(X, 4), w, 1000.0), near(6.0 * 4.0 / (1000.0 * square), 1e-8, 0.0));
}

TEST_CASE("at safe_growth_loss no step that has grown moves an output of its batch by more than 1") {
  RandomStream random(634);
  double largest = 0.0;
  for (int repetition = 0; repetition < 60; ++repetition) {
    const Index N = 1 + repetition % 4;
    const Index d = N + repetition % 5;
    const int K = 2 + repetition % 3;
    Matrix<double> X = random_matrix(random, N, d);
    X.rowwise().normalize();
    const LabelledDataset<double> data = labelled(X, K);
    const LinearClassifier<double> model(d, K);
    // A start that fits every sample with the margin asked for, one of them with a smaller one.
    Matrix<double> margins = Matrix<double>::Zero(N, K);
    for (Index n = 0; n < N; ++n) margins(n, n % K) = (n == 0 ? 5.0 : 8.0) + std::abs(random.normal());
    const Matrix<double> W = X.transpose() * (X * X.transpose()).ldlt().solve(margins);
    const Vector<double> w0 = Eigen::Map<const Vector<double>>(W.data(), W.size());
    SgdOptions<double> options;
    options.step = 50.0 * std::exp(random.uniform());
    options.batch_size = N;
    options.max_epochs = 6;
    options.growth_loss = safe_growth_loss(model, data, w0, options.step);
    Sgd trainer(model, data, w0, options);
    for (int epoch = 0; epoch < 6; ++epoch) {
      const Matrix<double> before = outputs_of(model, trainer.w(), X);
      const double loss = evaluate(model, trainer.w(), data).loss;
      REQUIRE(trainer.step());
      const bool has_grown =
          epoch > 0 && std::max(loss, trainer.records()[trainer.records().size() - 2].loss) < options.growth_loss;
      if (!has_grown) continue;
      const double moved = (outputs_of(model, trainer.w(), X) - before).cwiseAbs().maxCoeff();
      INFO("N = " << N << ", d = " << d << ", K = " << K << ", step " << options.step << ", loss " << loss);
      CHECK(moved <= 1.0 + 1e-12);
      largest = std::max(largest, moved);
    }
  }
  CHECK(largest > 0.7);  // not 1: the loss of the epoch before is larger, and the steps smaller
}

TEST_CASE("safe_growth_loss of weights whose kernel overflows is refused") {
  const LinearClassifier<float> model(1, 2);
  const LabelledDataset<float> data(Matrix<float>{{1e30F}, {1.0F}}, Vector<int>{{0, 1}}, 2);
  CHECK_THROWS_MATCHES(safe_growth_loss(model, data, Vector<float>::Zero(2), 0.5), NonFiniteError,
                       message_contains("squared norm of the gradients is inf"));
}
