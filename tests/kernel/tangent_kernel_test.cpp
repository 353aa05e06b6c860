#include "richflow/kernel/tangent_kernel.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/models/univariate_relu.hpp"
#include "richflow/testing/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// J by N calls of vjp on all samples.
template <class M>
Matrix<double> jacobian(const M& model, const Vector<double>& w, const Matrix<double>& X) {
  Matrix<double> transposed(model.num_parameters(), X.rows());
  for (Index n = 0; n < X.rows(); ++n) model.vjp(w, X, Vector<double>::Unit(X.rows(), n), transposed.col(n));
  return transposed.transpose();
}

template <class M>
void check_kernels(const M& model, RandomStream& random, Index samples, Index features) {
  const Matrix<double> X = random_matrix(random, samples, features);
  const Matrix<double> X2 = random_matrix(random, 3, features);
  const Vector<double> w = random_vector(random, model.num_parameters());
  const Matrix<double> J = jacobian(model, w, X);
  const Matrix<double> J2 = jacobian(model, w, X2);
  // Sums of P products, in different orders.
  const double rounding = 8 * eps * static_cast<double>(model.num_parameters());
  CAPTURE(samples, features, model.num_parameters());
  const Matrix<double> K = tangent_kernel(model, w, X);
  CHECK((K - J * J.transpose()).norm() <= rounding * J.squaredNorm());
  CHECK(K == K.transpose());
  CHECK((tangent_kernel(model, w, X, X2) - J * J2.transpose()).norm() <= rounding * J.norm() * J2.norm());
  auto at = make_evaluation(model, samples);
  const Vector<double> v = random_vector(random, samples);
  Vector<double> f(samples);
  at.forward(w, X, f);
  CHECK((tangent_kernel_product(at, v) - K * v).norm() <= rounding * K.norm() * v.norm());
}

}  // namespace

TEST_CASE("the tangent kernel is J J^T for every road to it") {
  RandomStream random(51);
  // Sizes at the borders of blocks and tiles and beyond; depths 2 to 5 cross the ways in which Gram matrices are kept.
  for (const bool has_biases : {false, true})
    for (const Index samples : {1, 7, 64, 65, 193, 300}) {
      check_kernels(ReluNetwork<double>(3, {5}, has_biases), random, samples, 3);
      check_kernels(ReluNetwork<double>(2, {70, 4}, has_biases), random, samples, 2);
      check_kernels(ReluNetwork<double>(2, {4, 6, 5}, has_biases), random, samples, 2);
      check_kernels(ReluNetwork<double>(2, {3, 5, 4, 6}, has_biases), random, samples, 2);
    }
  check_kernels(UnivariateRelu<double>(300), random, 9, 1);
  const ReluNetwork<double> biased(2, {4, 3});
  check_kernels(Unbiased(biased, random_vector(random, biased.num_parameters())), random, 6, 2);
  check_kernels(Doubled(ReluNetwork<double>(2, {4, 3})), random, 6, 2);
  check_kernels(SquaredDiagonalNet<double>(5), random, 6, 5);
}

TEST_CASE("the kernel of a ReLU network fills the block it is given, in single precision too") {
  RandomStream random(54);
  const ReluNetwork<float> net(3, {6, 5, 4}, true);
  const Vector<float> w = random_vector(random, net.num_parameters()).cast<float>();
  const Matrix<float> X = random_matrix(random, 130, 3).cast<float>();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Matrix<float> around = Matrix<float>::Constant(134, 134, nan);
  auto at = net.make_evaluation(130);
  Vector<float> f(130);
  at.forward(w, X, f);
  at.kernel(around.block(2, 2, 130, 130));
  CHECK(around.col(1).array().isNaN().all());
  CHECK(around.row(132).array().isNaN().all());
  Matrix<float> K = Matrix<float>::Constant(130, 130, nan);
  at.linearize();
  at.kernel(K);
  Matrix<float> J(130, w.size());
  for (Index n = 0; n < 130; ++n) {
    Vector<float> row(w.size());
    net.vjp(w, X, Vector<float>::Unit(130, n), row);
    J.row(n) = row.transpose();
  }
  // Sums of some tens of products in each entry, by different roads.
  const float rounding = 64 * std::numeric_limits<float>::epsilon() * J.squaredNorm();
  CHECK((around.block(2, 2, 130, 130) - J * J.transpose()).norm() <= rounding);
  CHECK((K - J * J.transpose()).norm() <= rounding);
}

TEST_CASE("the kernel of the squared net is 4 X diag(w_+^2 + w_-^2) X^T") {
  RandomStream random(52);
  const SquaredDiagonalNet<double> net(6);
  const Matrix<double> X = random_matrix(random, 4, 6);
  const Vector<double> w = random_vector(random, 12);
  const Vector<double> weights = 4.0 * (w.head(6).array().square() + w.tail(6).array().square());
  const Matrix<double> expected = X * weights.asDiagonal() * X.transpose();
  CHECK((tangent_kernel(net, w, X) - expected).norm() <= 100 * eps * expected.norm());
}

TEST_CASE("kernel distance is the cosine distance of the gradients, to the accuracy of small angles") {
  RandomStream random(53);
  const ReluNetwork<double> net(2, {6, 4});
  const Matrix<double> X = random_matrix(random, 5, 2);
  const Vector<double> a = random_vector(random, net.num_parameters());
  const Vector<double> b = random_vector(random, net.num_parameters());
  const Matrix<double> Ja = jacobian(net, a, X);
  const Matrix<double> Jb = jacobian(net, b, X);
  const double cosine = Ja.cwiseProduct(Jb).sum() / (Ja.norm() * Jb.norm());
  CHECK_THAT(kernel_distance(net, a, b, X), near(1.0 - cosine, 0.0, 100 * eps));
  CHECK(kernel_distance(net, a, Vector<double>(3.0 * a), X) <= eps);  // J is homogeneous
  // Quadratic in the distance of the points: a quarter at half of it, where 1 - cosine has no digit left.
  const double h = 1e-9;
  const double far = kernel_distance(net, a, Vector<double>(a + h * b), X);
  const double close = kernel_distance(net, a, Vector<double>(a + 0.5 * h * b), X);
  CHECK(far > 0.0);
  // Rounding of a relative to h.
  CHECK_THAT(far / close, near(4.0, 1e-5, 0.0));
  CHECK_THROWS_MATCHES(kernel_distance(net, a, Vector<double>::Zero(a.size()).eval(), X), ArgumentError,
                       message_contains("at w"));
}

TEST_CASE("with several outputs the kernel has a row for each of each sample, and a trace over them") {
  RandomStream random(55);
  for (const auto& widths : {std::vector<Index>{5}, std::vector<Index>{4, 6}})
    for (const bool has_biases : {false, true})
      for (const Index samples : {1, 70, 130}) {
        const ReluNetwork<double> net(3, widths, has_biases, 3);
        const Vector<double> w = random_vector(random, net.num_parameters());
        const Matrix<double> X = random_matrix(random, samples, 3);
        const Matrix<double> X2 = random_matrix(random, 2, 3);
        const Matrix<double> J = testing::transposed_jacobian_by_vjp(net, w, X).transpose();
        const Matrix<double> J2 = testing::transposed_jacobian_by_vjp(net, w, X2).transpose();
        const double rounding = 8 * eps * static_cast<double>(net.num_parameters());  // sums of P products
        const Matrix<double> K = tangent_kernel(net, w, X);
        CHECK((K - J * J.transpose()).norm() <= rounding * J.squaredNorm());
        CHECK((tangent_kernel(net, w, X, X2) - J * J2.transpose()).norm() <= rounding * J.norm() * J2.norm());
        Matrix<double> trace = Matrix<double>::Zero(samples, samples);
        for (Index k = 0; k < 3; ++k) trace += K.block(k * samples, k * samples, samples, samples);
        CHECK((tangent_kernel(net, w, X, KernelForm::trace) - trace).norm() <= rounding * J.squaredNorm());
      }
}

TEST_CASE("kernel distance takes all outputs, and random projections estimate it") {
  RandomStream random(56);
  const ReluNetwork<double> net(3, {20, 10}, true, 3);
  const Matrix<double> X = random_matrix(random, 12, 3);
  const Vector<double> a = random_vector(random, net.num_parameters());
  const Vector<double> b = a + 0.3 * random_vector(random, net.num_parameters());
  const Matrix<double> Ja = testing::transposed_jacobian_by_vjp(net, a, X);
  const Matrix<double> Jb = testing::transposed_jacobian_by_vjp(net, b, X);
  const double expected = 1.0 - Ja.cwiseProduct(Jb).sum() / (Ja.norm() * Jb.norm());
  KernelDistance exact(net, a, X);
  CHECK_THAT(exact(b), near(expected, 0.0, 1000 * eps));
  CHECK_THAT(exact(b), near(kernel_distance(net, a, b, X), 0.0, 10 * eps));
  CHECK(exact(a) <= eps);
  // A mean over m independent projections: their relative scatter sqrt(2 / m), here within five of it.
  constexpr Index projections = 800;
  KernelDistance estimated(net, a, X, {.projections = projections, .seed = 3});
  CHECK_THAT(estimated(b), near(expected, 5.0 * std::sqrt(2.0 / projections), 0.0));
  CHECK(estimated(b) != exact(b));
  CHECK(estimated(a) <= eps);
  CHECK_THROWS_MATCHES(KernelDistance(net, a, X, {.projections = -1}), ArgumentError,
                       message_contains("projections must not be negative"));
  const ReluNetwork<double> without_biases(3, {20, 10}, false, 3);
  const Vector<double> dead = Vector<double>::Zero(without_biases.num_parameters());
  CHECK_THROWS_MATCHES(KernelDistance(without_biases, dead, X), ArgumentError,
                       message_contains("at the reference point"));
}

TEST_CASE("centred alignment does not see what a constant adds to the kernel") {
  RandomStream random(57);
  const Matrix<double> A = random_matrix(random, 5, 6);
  const Matrix<double> B = random_matrix(random, 5, 6);
  const Matrix<double> K = A * A.transpose();
  const Matrix<double> L = B * B.transpose();
  const Matrix<double> H = Matrix<double>::Identity(5, 5) - Matrix<double>::Constant(5, 5, 0.2);
  CHECK_THAT(centred_kernel_alignment(K, L), near(kernel_alignment<double>(H * K * H, H * L * H), 1e-13, 0.0));
  const Matrix<double> shifted = (K.array() + 7.0).matrix();
  CHECK_THAT(centred_kernel_alignment(shifted, K), near(1.0, 1e-13, 0.0));
  CHECK(kernel_alignment(shifted, K) < 0.999);
  CHECK_THROWS_AS(centred_kernel_alignment<double>(K, Matrix<double>::Ones(5, 5)), ArgumentError);
  CHECK_THROWS_AS(centred_kernel_alignment<double>(K, Matrix<double>::Ones(3, 3)), DimensionError);
}

TEST_CASE("kernel alignment is one for proportional kernels and less for others") {
  RandomStream random(54);
  const Matrix<double> A = random_matrix(random, 4, 6);
  const Matrix<double> B = random_matrix(random, 4, 6);
  const Matrix<double> K = A * A.transpose();
  const Matrix<double> L = B * B.transpose();
  CHECK_THAT(kernel_alignment<double>(K, 5.0 * K), near(1.0, 0.0, 10 * eps));
  CHECK_THAT(kernel_alignment(K, L), near((K * L).trace() / (K.norm() * L.norm()), 1e-14, 0.0));
  CHECK(kernel_alignment(K, L) < 1.0);
  CHECK_THROWS_AS(kernel_alignment<double>(K, Matrix<double>::Zero(4, 4)), ArgumentError);
  CHECK_THROWS_AS(kernel_alignment<double>(K, Matrix<double>::Ones(3, 3)), DimensionError);
}

TEST_CASE("tangent kernels refuse bad input by name") {
  const ReluNetwork<double> net(2, {3});
  const Matrix<double> X = Matrix<double>::Ones(2, 2);
  Vector<double> w = Vector<double>::Ones(9);
  CHECK_THROWS_MATCHES(tangent_kernel(net, Vector<double>::Ones(8).eval(), X), DimensionError, message_contains("w"));
  CHECK_THROWS_MATCHES(tangent_kernel(net, w, Matrix<double>(0, 2)), DimensionError, message_contains("N = 0"));
  CHECK_THROWS_AS(tangent_kernel(net, w, Matrix<double>::Ones(2, 3).eval()), DimensionError);
  CHECK_THROWS_AS(tangent_kernel(net, w, X, Matrix<double>::Ones(2, 3).eval()), DimensionError);
  w[4] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_MATCHES(tangent_kernel(net, w, X), NonFiniteError, message_contains("w(4)"));
}
