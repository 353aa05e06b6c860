// A consumer whose Eigen is row-major by default and fills new matrices with NaN: nothing in the library takes its
// own default for granted, nor that memory holds numbers before they are written.

#define EIGEN_DEFAULT_TO_ROW_MAJOR
#define EIGEN_INITIALIZE_MATRICES_BY_NAN

#include <cmath>
#include <limits>

#include "richflow/richflow.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"

using namespace richflow;

namespace {

static_assert(Eigen::MatrixXd::IsRowMajor && !Matrix<double>::IsRowMajor);

Eigen::MatrixXd row_major(RandomStream& random, Index rows, Index cols) { return normal_matrix(random, rows, cols); }

template <class M>
void check_model(const M& model, const Dataset<>& data) {
  RandomStream random(3);
  const Index count = model.num_parameters();
  const testing::BatteryReport report = testing::model_battery(
      model, normal_vector(random, count), data, normal_vector(random, count), normal_vector(random, 6), 1e-4);
  INFO(report);
  CHECK(report.ok());
}

}  // namespace

TEST_CASE("data in rows are the same data: interpolators against a dense decomposition") {
  CHECK(std::isnan(Eigen::MatrixXd(2, 2)(1, 1)));
  RandomStream random(1);
  const Eigen::MatrixXd X = row_major(random, 8, 20);
  const Vector<double> y = normal_vector(random, 8);
  const Dataset data(X, y);
  CHECK(data.X()(1, 2) == X(1, 2));
  const Vector<double> least = X.transpose() * (X * X.transpose()).ldlt().solve(y);
  CHECK((min_l2_interpolator(data) - least).norm() <= 1e-12 * least.norm());

  const Scale<> scale = Scale<>::from_value(0.1);
  const MinimizerResult<> limit = minimize_hypentropy(data, scale);
  CHECK(limit.require_ok().certificate.kkt_residual <= 1e-12);
  const DualFlow flow(Hypentropy<>::uniform(20, scale), data);
  const auto solution =
      integrate(flow, flow.initial_state(), TimeSpan{0.0, std::numeric_limits<double>::infinity()}, Rodas4{},
                PiController<>{.tolerance = {.relative = 1e-6, .absolute = 1e-9}}, {.events = {loss_below(1e-20)}});
  Vector<double> beta(20);
  flow.beta(solution.require_ok().w, beta);
  // The flow ends at the minimizer up to its residual, 1e-10.
  CHECK((beta - limit.beta).norm() <= 1e-8 * limit.beta.norm());
  CHECK(min_l1_interpolator(data).require_ok().objective <= limit.beta.lpNorm<1>() * (1 + 1e-12));
}

TEST_CASE("models and their derivatives agree with finite differences") {
  RandomStream random(2);
  const Eigen::MatrixXd X = row_major(random, 6, 6);
  const Vector<double> y = normal_vector(random, 6);
  check_model(ReluNetwork<double>(3, {7, 5}, true), Dataset(X.leftCols(3), y));
  check_model(MatrixFactorization<double>(2, 3, 4), Dataset(MatrixMeasurements<double>::dense(2, 3, X), y));
}

TEST_CASE("networks train, on batches that do not divide the data") {
  RandomStream random(1);
  Matrix<double> X = normal_matrix(random, 100, 2);
  Vector<int> labels(100);
  for (Index n = 0; n < 100; ++n) {
    labels[n] = n % 2 == 0 ? 0 : 1;
    X.row(n) *= (labels[n] == 0 ? 0.5 : 1.5) / X.row(n).norm();
  }
  const LabelledDataset<double> data(X, labels, 2);
  const ReluNetwork<double> net(2, {50}, true, 2);
  SgdOptions<double> options;
  options.batch_size = 32;
  options.max_epochs = 2000;
  options.stop_loss = 0.05;
  options.step = 0.2;
  options.momentum = 0.5;
  const auto result = Sgd(net, data, net.initial_parameters(random, Scale<>::from_value(1.0)), options).run();
  CHECK(result.require_ok().w.allFinite());
  CHECK(evaluate(net, result.w, data).error() == 0.0);
}

TEST_CASE("a convolutional network fits lines across and upright") {
  const ImageShape shape{.channels = 1, .height = 8, .width = 8};
  Matrix<float> X = Matrix<float>::Zero(16, shape.size());
  Matrix<float> Y = Matrix<float>::Zero(16, 2);
  for (Index n = 0; n < 16; ++n) {
    for (Index k = 0; k < 8; ++k) X(n, n % 2 == 0 ? 8 * (n / 2) + k : 8 * k + n / 2) = 1.0F;
    Y(n, n % 2) = 1.0F;
  }
  const ConvNetwork<float> net(shape, "4-M-8-M-FC", 2);
  RandomStream random(1);
  Vector<float> w = net.initial_parameters(random, Scale<float>::from_value(1.0F));
  auto at = net.make_evaluation(16);
  Matrix<float> F(16, 2);
  Matrix<float> G(16, 2);
  for (int step = 0; step < 500; ++step) {
    at.forward(w, X, F);
    G = 2.0F * (F - Y);
    at.add_pullback(G, -0.005F, w);
  }
  at.forward(w, X, F);
  CHECK((F - Y).squaredNorm() < 0.01F);
}
