#include "richflow/linalg/lanczos.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/linalg/spectral.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct DenseOperator final : detail::SymmetricOperator<double> {
  explicit DenseOperator(Matrix<double> matrix) : A(std::move(matrix)) {}
  void apply(const Vector<double>& v, Vector<double>& out) override { out.noalias() = A * v; }
  Matrix<double> A;
};

struct DiagonalOperator final : detail::SymmetricOperator<double> {
  explicit DiagonalOperator(Vector<double> diagonal) : values(std::move(diagonal)) {}
  void apply(const Vector<double>& v, Vector<double>& out) override { out = values.cwiseProduct(v); }
  Vector<double> values;
};

/// Q diag(values) Q^T with a random Q.
Matrix<double> symmetric_with(const Vector<double>& values, RandomStream& random) {
  detail::SymmetricEigen<double> eigen;
  const Matrix<double> G = random_matrix(random, values.size(), values.size());
  detail::compute_eigen<double>(G + G.transpose(), eigen);
  const Matrix<double> Q = eigen.eigenvectors();
  return Q * values.asDiagonal() * Q.transpose();
}

void check_largest(const Vector<double>& values, RandomStream& random, double tolerance, Index basis) {
  const Index n = values.size();
  DenseOperator A(symmetric_with(values, random));
  detail::Lanczos<double> lanczos(n, basis, 7);
  CHECK(lanczos.compute(A, tolerance, 5000) == Status::tolerance_reached);
  const double largest = values.maxCoeff();
  const double size = values.cwiseAbs().maxCoeff();
  // A Ritz value is off by at most the residual, and products round.
  const double rounding = 64 * eps * size * std::sqrt(static_cast<double>(n));
  CHECK(std::abs(lanczos.value() - largest) <= std::max(tolerance * std::abs(largest), rounding));
  CHECK(lanczos.value() <= largest + rounding);
  CHECK_THAT(lanczos.vector().norm(), near(1.0, 8 * eps, 0));
  const double residual = (A.A * lanczos.vector() - lanczos.value() * lanczos.vector()).norm();
  CHECK(residual <= 1.01 * tolerance * std::abs(largest) + rounding);
  CHECK(std::abs(residual - lanczos.residual()) <= 0.01 * residual + rounding);
}

}  // namespace

TEST_CASE("Lanczos finds the largest eigenvalue of any spectrum") {
  RandomStream random(2450);
  for (const Index n : {1, 2, 3, 10, 60}) {
    CAPTURE(n);
    check_largest(random_vector(random, n), random, 1e-8, 48);
    check_largest(random_positive_vector(random, n, 1e-8, 1.0), random, 1e-8, 48);
    check_largest(-random_positive_vector(random, n, 0.5, 1.0), random, 1e-8, 48);  // all below 0
    check_largest(Vector<double>::Constant(n, 3.0), random, 1e-8, 48);
    check_largest(Vector<double>::Zero(n), random, 1e-8, 48);
    Vector<double> low_rank = Vector<double>::Zero(n);
    low_rank[n / 2] = 2.0;
    check_largest(low_rank, random, 1e-8, 48);
    low_rank[n - 1] = -100.0;  // larger in size, but not the largest
    check_largest(low_rank, random, 1e-8, 48);
  }
}

TEST_CASE("a basis smaller than what is needed starts again") {
  RandomStream random(2451);
  // Many eigenvalues close to the largest one.
  Vector<double> values(200);
  for (Index i = 0; i < 200; ++i) values[i] = std::cos(0.01 * static_cast<double>(i));
  for (const Index basis : {30, 48}) check_largest(values, random, 1e-6, basis);
}

TEST_CASE("a full basis restarts without forgetting: clusters at the top cost little more than in a basis of all") {
  const Index n = 400;
  Vector<double> multiple(n), cluster(n);
  for (Index i = 0; i < n; ++i) {
    const auto x = static_cast<double>(i);
    multiple[i] = 0.999 * x / static_cast<double>(n);
    cluster[i] = 0.9 * x / static_cast<double>(n);
  }
  multiple.head(5) << 1, 1, 1, 1 - 1e-6, 1 - 2e-6;
  for (Index i = 0; i < 12; ++i) cluster[i] = 1 - 1e-6 * static_cast<double>(i);
  for (const Vector<double>& values : {multiple, cluster}) {
    DiagonalOperator A(values);
    for (const double tolerance : {1e-8, 1e-10}) {
      // Never full: no method of products from this start needs fewer.
      detail::Lanczos<double> whole(n, n, 7);
      REQUIRE(whole.compute(A, tolerance, 5000) == Status::tolerance_reached);
      for (const Index basis : {30, 48}) {
        detail::Lanczos<double> lanczos(n, basis, 7);
        CHECK(lanczos.compute(A, tolerance, 20000) == Status::tolerance_reached);
        INFO(basis << " vectors, " << tolerance << ": " << lanczos.products() << " products, " << whole.products());
        // Restarts that keep the cluster lose little; from one vector alone they cost 2 to 100 times as many.
        CHECK(2 * lanczos.products() <= 3 * whole.products());
        const Vector<double>& v = lanczos.vector();
        const double residual = (values.cwiseProduct(v) - lanczos.value() * v).norm();
        // Rounding of some restarts.
        CHECK(residual <= tolerance + 64 * eps * std::sqrt(static_cast<double>(n)));
        CHECK(std::abs(lanczos.value() - 1) <= 64 * eps * std::sqrt(static_cast<double>(n)) + residual);
        const double value = lanczos.value();
        (void)lanczos.compute(A, tolerance, 20000);
        CHECK(lanczos.value() == value);
      }
    }
  }
}

TEST_CASE("Lanczos says what it did not reach") {
  RandomStream random(2452);
  DenseOperator A(symmetric_with(random_positive_vector(random, 50, 0.0, 1.0), random));
  detail::Lanczos<double> lanczos(50, 20, 7);
  CHECK(lanczos.compute(A, 1e-12, 3) == Status::max_steps);
  CHECK(lanczos.products() == 3);
  CHECK(lanczos.residual() > 1e-12);
  CHECK(lanczos.value() < -detail::lowest_eigenvalue<double>(-A.A));
  // The budget does not change what is found, only whether.
  CHECK(lanczos.compute(A, 1e-10, 5000) == Status::tolerance_reached);
  const double value = lanczos.value();
  CHECK(lanczos.compute(A, 1e-10, 5000) == Status::tolerance_reached);
  CHECK(lanczos.value() == value);
  A.A(3, 3) = std::numeric_limits<double>::quiet_NaN();
  CHECK(lanczos.compute(A, 1e-10, 5000) == Status::non_finite);
  CHECK(lanczos.value() == std::numeric_limits<double>::infinity());
}
