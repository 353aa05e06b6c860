#include "richflow/minimizers/graded_system.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// A system of X C X^T, solved with the factorization at `factored` and the weights `weights`.
struct GradedSolution {
  bool is_solved = false;
  double unreached = 0.0;
  Vector<double> step = {};
  Vector<double> step_z = {};
};

GradedSolution solve_graded(const Matrix<double>& X, const Vector<double>& factored, const Vector<double>& weights,
                            const Vector<double>& wish, const Vector<double>& rhs) {
  detail::GradedSystem<double> system;
  system.factorize(X, factored);
  GradedSolution out;
  out.is_solved = system.solve(X, weights, wish, rhs, 1e-14, 1e-13, out.step, out.step_z);
  out.unreached = system.unreached();
  return out;
}

/// From 1 down to 10^-decades, in a random order.
Vector<double> graded_weights(RandomStream& random, Index d, double decades) {
  std::vector<double> weights;
  for (Index i = 0; i < d; ++i)
    weights.push_back(std::pow(10.0, -decades * static_cast<double>(i) / static_cast<double>(d - 1)));
  shuffle(random, weights);
  return Vector<double>::Map(weights.data(), d);
}

}  // namespace

TEST_CASE("with equal weights a graded system is one of least squares") {
  RandomStream random(811);
  for (int repetition = 0; repetition < 10; ++repetition) {
    const Matrix<double> X = random_matrix(random, 5, 12);
    const Vector<double> weights = random_vector(random, 12).array().exp();
    const Vector<double> wish = random_vector(random, 12);
    const Vector<double> rhs = random_vector(random, 5);
    const GradedSolution solution = solve_graded(X, weights, weights, wish, rhs);
    const Matrix<double> A = X * weights.asDiagonal() * X.transpose();
    const Vector<double> expected = A.ldlt().solve(X * weights.cwiseProduct(wish) + rhs);
    CHECK(solution.is_solved);
    // cond(A) is some hundreds.
    CHECK((solution.step - expected).norm() <= 1e4 * eps * expected.norm());
    CHECK((solution.step_z - X.transpose() * expected).norm() <= 1e4 * eps * expected.norm());
  }
}

TEST_CASE("a square graded system reaches every wish, however small its weight") {
  RandomStream random(812);
  for (const double decades : {10.0, 40.0, 250.0}) {
    const Matrix<double> X = random_matrix(random, 7, 7);
    const Vector<double> weights = graded_weights(random, 7, decades);
    const Vector<double> wish = random_vector(random, 7);
    const GradedSolution solution = solve_graded(X, weights, weights, wish, Vector<double>::Zero(7));
    CHECK(solution.is_solved);
    // Rounding of a solve with X: some tens of operations per entry, here and below.
    const double condition = X.norm() * X.inverse().norm();
    CHECK((solution.step_z - wish).cwiseAbs().maxCoeff() <= 100 * eps * condition * wish.norm());
  }
}

TEST_CASE("where weights differ beyond all precision the heaviest columns have their wish") {
  RandomStream random(813);
  const Index n = 4;
  const Index d = 9;
  for (int repetition = 0; repetition < 10; ++repetition) {
    const Matrix<double> X = random_matrix(random, n, d);
    const Vector<double> weights = graded_weights(random, d, 240.0);  // 10^-30 from one to the next
    const Vector<double> wish = random_vector(random, d);
    Matrix<double> heaviest(n, n);
    Vector<double> wish_of_heaviest(n);
    Index found = 0;
    for (Index i = 0; i < d; ++i) {
      if (weights[i] < 1e-100) continue;
      heaviest.col(found) = X.col(i);
      wish_of_heaviest[found++] = wish[i];
    }
    REQUIRE(found == n);
    const Vector<double> expected = heaviest.transpose().partialPivLu().solve(wish_of_heaviest);
    const GradedSolution solution = solve_graded(X, weights, weights, wish, Vector<double>::Zero(n));
    CHECK(solution.is_solved);
    const double condition = heaviest.norm() * heaviest.inverse().norm();
    CHECK((solution.step - expected).norm() <= 100 * eps * condition * expected.norm());
  }
}

TEST_CASE("an old factorization of a graded system serves weights nearby, and says when they are too far") {
  RandomStream random(814);
  int num_refused = 0;  // with more rows than conjugate gradients make iterations
  for (const double distance : {0.0, 0.1, 1.0, 10.0, 100.0})
    for (int repetition = 0; repetition < 5; ++repetition) {
      const Matrix<double> X = random_matrix(random, 40, 90);
      const Vector<double> factored = graded_weights(random, 90, 60.0);
      const Vector<double> weights = factored.array() * (distance * random_vector(random, 90).array()).exp();
      const Vector<double> wish = random_vector(random, 90);
      const GradedSolution solution = solve_graded(X, factored, weights, wish, Vector<double>::Zero(40));
      CAPTURE(distance, repetition);
      if (distance <= 0.1) CHECK(solution.is_solved);
      if (!solution.is_solved) {
        ++num_refused;
        continue;
      }
      // X C X^T step = X C wish, to the accuracy that solve_graded asks for and the rounding of these sums.
      const double size = (X * weights.cwiseProduct(wish)).cwiseAbs().maxCoeff();
      CHECK((X * weights.cwiseProduct(wish - solution.step_z)).cwiseAbs().maxCoeff() <= 1e-12 * size);
    }
  CHECK(num_refused > 0);
}

TEST_CASE("columns without weight are moved along, and a factorization without one that has a weight now is too old") {
  RandomStream random(815);
  const Matrix<double> X = random_matrix(random, 3, 8);
  Vector<double> weights = Vector<double>::Ones(8);
  weights[2] = weights[5] = 0.0;
  const Vector<double> wish = random_vector(random, 8);
  const GradedSolution solution = solve_graded(X, weights, weights, wish, Vector<double>::Zero(3));
  CHECK(solution.is_solved);
  CHECK((solution.step_z - X.transpose() * solution.step).norm() <= 100 * eps * solution.step_z.norm());
  CHECK_FALSE(solve_graded(X, weights, Vector<double>::Ones(8), wish, Vector<double>::Zero(3)).is_solved);
}

TEST_CASE("a graded system tells what of the right side no column reaches") {
  RandomStream random(816);
  Matrix<double> X = random_matrix(random, 4, 10);
  X.row(3).setZero();
  const Vector<double> weights = Vector<double>::Ones(10);
  Vector<double> rhs = random_vector(random, 4);
  rhs[3] = 0.25;
  CHECK(solve_graded(X, weights, weights, Vector<double>::Zero(10), rhs).unreached == 0.25);
  rhs[3] = 0.0;
  CHECK(solve_graded(X, weights, weights, Vector<double>::Zero(10), rhs).unreached == 0.0);
}
