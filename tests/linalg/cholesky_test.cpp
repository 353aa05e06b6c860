#include "richflow/linalg/cholesky.hpp"

#include <Eigen/Cholesky>
#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

constexpr double rounding_unit = std::numeric_limits<double>::epsilon();

/// B B^T + I.
Matrix<double> random_definite(RandomStream& random, Index n) {
  const Matrix<double> B = random_matrix(random, n, n);
  return B * B.transpose() + Matrix<double>::Identity(n, n);
}

}  // namespace

TEST_CASE("the factor and the solutions are those of Eigen's Cholesky, around every size of a panel") {
  RandomStream random(81);
  detail::Cholesky<double> cholesky;
  for (const Index n : {1, 2, 3, 8, 31, 32, 33, 63, 64, 65, 97, 130}) {
    CAPTURE(n);
    Matrix<double> A = random_definite(random, n);
    const Vector<double> b = random_matrix(random, n, 1);
    const Eigen::LLT<Matrix<double>> eigen(A);
    const Matrix<double> L = eigen.matrixL();
    // Only the lower triangle is read.
    A.triangularView<Eigen::StrictlyUpper>().setConstant(std::numeric_limits<double>::quiet_NaN());
    REQUIRE(cholesky.compute(A));
    CHECK(cholesky.is_factored());
    // Higham, Accuracy and Stability, 10.3: backward errors of n + 1 roundings relative to A; forward they grow by the
    // condition number, of which |A| bounds the size here, where the smallest eigenvalue is at least 1.
    const Matrix<double> whole = L * L.transpose();
    const double rounding = 4 * static_cast<double>(n + 1) * rounding_unit * whole.norm();
    for (Index k = 0; k < n; ++k) CHECK(std::abs(std::sqrt(cholesky.pivot(k)) - L(k, k)) <= rounding * L.norm());
    Vector<double> v = b;
    cholesky.solve_in_place(v);
    CHECK((whole * v - b).norm() <= rounding * v.norm());
  }
}

TEST_CASE("what is not positive definite, or not finite, is refused wherever that shows, and a later matrix is not") {
  RandomStream random(82);
  detail::Cholesky<double> cholesky;
  for (const Index n : {1, 5, 40, 70})
    for (const Index at : {Index(0), n / 2, n - 1})
      for (const double value :
           {-1.0, 0.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        CAPTURE(n, at, value);
        const Matrix<double> good = random_definite(random, n);
        Matrix<double> bad = good;
        bad(at, at) = value;
        CHECK(!cholesky.compute(bad));
        CHECK(!cholesky.is_factored());
        CHECK(!cholesky.is_well_conditioned());
        CHECK(cholesky.compute(good));
        CHECK(cholesky.is_factored());
      }
  Matrix<double> indefinite(2, 2);
  indefinite << 1, 2, 2, 1;
  CHECK(!cholesky.compute(indefinite));
}

TEST_CASE("well conditioned means pivots within six orders of magnitude") {
  detail::Cholesky<double> cholesky;
  for (const double smallest : {1.0, 1e-5, 1e-7}) {
    CAPTURE(smallest);
    Matrix<double> A = Matrix<double>::Identity(3, 3);
    A(1, 1) = smallest;
    REQUIRE(cholesky.compute(A));
    CHECK(cholesky.is_well_conditioned() == (smallest > 1e-6));
  }
}
