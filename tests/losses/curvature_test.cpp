#include <cmath>

#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("the roots of the curvature of margin losses are those of finite differences") {
  RandomStream random(601);
  const Vector<double> f = 2.0 * random_vector(random, 6);
  Vector<double> y(6);
  for (Index n = 0; n < 6; ++n) y[n] = n % 2 == 0 ? 1.0 : -1.0;
  constexpr double h = 1e-5;
  const auto check = [&](const auto& loss) {
    Vector<double> root(6), ahead(6), behind(6);
    loss.curvature_root(f, y, root);
    loss.gradient(Vector<double>(f.array() + h), y, ahead);
    loss.gradient(Vector<double>(f.array() - h), y, behind);
    const Vector<double> second = (ahead - behind) / (2.0 * h);
    // A term of h^2, and rounding over h.
    CHECK((root.cwiseAbs2() - second).norm() <= 1e-8 * second.norm());
  };
  check(LogisticLoss<double>{});
  check(ExponentialLoss<double>{});
  // Far out it is zero, not subnormal, and never NaN.
  Vector<double> root(2);
  LogisticLoss<double>{}.curvature_root(Vector<double>{{1e4, -1e4}}, Vector<double>{{1.0, 1.0}}, root);
  CHECK(root.norm() == 0.0);
}

TEST_CASE("the root of the curvature of the cross-entropy squares to that of the softmax") {
  RandomStream random(602);
  const CrossEntropy<double> loss;
  for (const Index outputs : {2, 3, 7}) {
    Matrix<double> F = 2.0 * random_matrix(random, 4, outputs);
    F(0, 0) += 100.0;   // a sample that fits well
    F(1, 0) += 5000.0;  // and one whose other probabilities vanish
    Vector<int> labels(4);
    for (Index n = 0; n < 4; ++n) labels[n] = static_cast<int>(n % outputs);
    Matrix<double> R(4, outputs * outputs);
    loss.curvature_root(F, labels, R);
    REQUIRE(R.allFinite());
    for (Index n = 0; n < 4; ++n) {
      Vector<double> p = (F.row(n).array() - F.row(n).maxCoeff()).exp().matrix().transpose();
      p /= p.sum();
      const Matrix<double> H = Matrix<double>(p.asDiagonal()) - p * p.transpose();
      const Vector<double> entries = R.row(n);
      const Eigen::Map<const Matrix<double>> root(entries.data(), outputs, outputs);
      CHECK((root * root.transpose() - H).norm() <= 10 * eps);
    }
  }
  Matrix<double> wrong(4, 4);
  CHECK_THROWS_AS(loss.curvature_root(Matrix<double>::Zero(4, 3), Vector<int>::Zero(4), wrong), DimensionError);
}
