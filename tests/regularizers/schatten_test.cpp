#include "richflow/regularizers/schatten.hpp"

#include <Eigen/QR>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

Matrix<double> random_orthogonal(RandomStream& random, Index size) {
  return random_matrix(random, size, size).householderQr().householderQ();
}

}  // namespace

TEST_CASE("the norms of a matrix with a known spectrum") {
  RandomStream random(1);
  Matrix<double> M = Matrix<double>::Zero(4, 3);
  M.diagonal() << 3.0, 4.0, 12.0;
  M = random_orthogonal(random, 4) * M * random_orthogonal(random, 3);
  CHECK_THAT(nuclear_norm(M), near(19.0, 1e-14, 0.0));
  CHECK_THAT(frobenius_norm(M), near(13.0, 1e-14, 0.0));
  CHECK_THAT(spectral_norm(M), near(12.0, 1e-14, 0.0));
  CHECK(std::isfinite(frobenius_norm(1e200 * M)));
}

TEST_CASE("Schatten-Q is the hypentropy of the singular values, whatever the bases") {
  RandomStream random(2);
  for (const double log_mu : {-30.0, -2.0, 0.0, 3.0}) {
    CAPTURE(log_mu);
    const auto mu = Scale<>::from_log(log_mu);
    const Vector<double> s = random_positive_vector(random, 3, 0.1, 3.0);
    Matrix<double> M = Matrix<double>::Zero(3, 5);
    M.diagonal() = s;
    const Matrix<double> P = random_orthogonal(random, 3);
    const Matrix<double> Q = random_orthogonal(random, 5);
    const Matrix<double> rotated = P * M * Q;
    const SchattenHypentropy<> schatten(3, 5, mu);
    const auto hypentropy = Hypentropy<>::uniform(3, mu);
    CHECK(schatten.scale() == mu);
    CHECK_THAT(schatten.value(rotated), near(hypentropy.value(s), 1e-13, 0.0));
    Vector<double> z(3);
    hypentropy.gradient(s, z);
    Matrix<double> gradient = Matrix<double>::Zero(3, 5);
    gradient.diagonal() = z;
    CHECK((schatten.gradient(rotated) - P * gradient * Q).norm() <= 1e-13 * z.norm());
  }
}

TEST_CASE("the gradient of Schatten-Q by differences") {
  RandomStream random(3);
  const SchattenHypentropy<> schatten(4, 3, Scale<>::from_value(0.7));
  const Matrix<double> M = random_matrix(random, 4, 3);
  const Matrix<double> E = random_matrix(random, 4, 3);
  const double h = 1e-5;
  const double difference = (schatten.value(M + h * E) - schatten.value(M - h * E)) / (2.0 * h);
  // A third-order term of relative size h^2, and rounding over h.
  CHECK_THAT(schatten.gradient(M).cwiseProduct(E).sum(), near(difference, 1e-8, 1e-9));
}

TEST_CASE("Schatten-Q goes from the nuclear to the squared Frobenius norm") {
  RandomStream random(4);
  const Matrix<double> A = random_matrix(random, 4, 4);
  const Matrix<double> B = random_matrix(random, 4, 4);
  const auto ratio = [&](double log_mu) {
    const SchattenHypentropy<> schatten(4, 4, Scale<>::from_log(log_mu));
    return schatten.value(A) / schatten.value(B);
  };
  // Q = sum s^2 / (4 mu^2) (1 - s^2 / (48 mu^4)) there.
  CHECK_THAT(ratio(6.0), near(A.squaredNorm() / B.squaredNorm(), 1e-8, 0.0));
  // Q / log(1 / mu^2) = |M|_* (1 + O(1 / log)).
  const double limit = nuclear_norm(A) / nuclear_norm(B);
  CHECK(std::abs(ratio(-300.0) - limit) < 2.0 / 600.0 * limit);
  CHECK(std::abs(ratio(-300.0) - limit) < 0.2 * std::abs(ratio(-30.0) - limit));
}

TEST_CASE("Schatten-Q refuses bad input") {
  CHECK_THROWS_AS(SchattenHypentropy<>(0, 3, Scale<>::from_value(1.0)), DimensionError);
  CHECK_THROWS_AS(SchattenHypentropy<>(-2, 3, Scale<>::from_value(1.0)), DimensionError);
  const SchattenHypentropy<> schatten(2, 3, Scale<>::from_value(1.0));
  CHECK_THROWS_MATCHES(schatten.value(Matrix<double>::Zero(3, 2)), DimensionError, message_contains("M is 3 x 2"));
  Matrix<double> M = Matrix<double>::Zero(2, 3);
  M(1, 2) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(schatten.value(M), NonFiniteError);
  CHECK_THROWS_AS(schatten.gradient(M), NonFiniteError);
}

TEST_CASE("norms of a matrix that is not finite are refused, not invented", "[schatten]") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Matrix<double> M = Matrix<double>::Ones(4, 3);
    M(1, 2) = bad;
    CHECK_THROWS_AS(nuclear_norm(M), NonFiniteError);
    CHECK_THROWS_AS(spectral_norm(M), NonFiniteError);
  }
  CHECK_THROWS_AS(spectral_norm(Matrix<double>(0, 0)), DimensionError);
}
