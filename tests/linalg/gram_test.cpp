#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/linalg/gram_sum.hpp"
#include "richflow/linalg/products.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// `start + factor A A^T` on and below the diagonal, `start` above it, by sums in long double.
template <class S>
Matrix<S> gram_by_sums(const Matrix<S>& start, const Matrix<S>& A, S factor) {
  Matrix<S> gram = start;
  for (Index j = 0; j < A.rows(); ++j)
    for (Index i = j; i < A.rows(); ++i) {
      long double sum = 0;
      for (Index k = 0; k < A.cols(); ++k) sum += static_cast<long double>(A(i, k)) * static_cast<long double>(A(j, k));
      gram(i, j) += static_cast<S>(static_cast<long double>(factor) * sum);
    }
  return gram;
}

/// Rounding of sums of so many products of rows of A, in any order.
template <class S>
S gram_rounding(const Matrix<S>& start, const Matrix<S>& A, S factor) {
  return static_cast<S>(A.cols() + 2) * std::numeric_limits<S>::epsilon() *
         (start.cwiseAbs().maxCoeff() + std::abs(factor) * A.rowwise().squaredNorm().maxCoeff());
}

template <class S>
void check_grams(Index rows, Index cols) {
  CAPTURE(rows, cols);
  RandomStream random(91);
  const Matrix<S> whole = random_matrix(random, rows + 3, cols + 1).template cast<S>();
  const Matrix<S> start = random_matrix(random, rows + 2, rows + 2).template cast<S>();
  const Matrix<S> A = whole.block(2, 0, rows, cols);
  const Matrix<S> before = start.block(1, 1, rows, rows);
  const S factor(-1.5);
  Matrix<S> expected = start;
  expected.block(1, 1, rows, rows) = gram_by_sums(before, A, factor);
  const S rounding = cols > 0 ? gram_rounding(before, A, factor) : S(0);
  // A block of a matrix, to a block of another: nothing beside it, nor above the diagonal, changes.
  Matrix<S> blocks = start;
  detail::add_lower_gram<S>(whole.block(2, 0, rows, cols), factor, blocks.block(1, 1, rows, rows));
  CHECK((blocks - expected).cwiseAbs().maxCoeff() <= rounding);
  CHECK(blocks.row(0) == start.row(0));
  CHECK(Matrix<S>(blocks.template triangularView<Eigen::StrictlyUpper>()) ==
        Matrix<S>(start.template triangularView<Eigen::StrictlyUpper>()));
  // Column by column.
  Matrix<S> sums = start, buffer;
  detail::GramSum<S> sum(buffer, factor, sums.block(1, 1, rows, rows));
  for (Index k = 0; k < cols; ++k) sum.add(S(1), A.data() + k * rows);
  sum.finish();
  CHECK((sums - expected).cwiseAbs().maxCoeff() <= rounding);
}

}  // namespace

TEST_CASE("Gram matrices are the sums they are, around every size of their tiles and blocks") {
  for (const Index rows : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 49, 63, 65, 100})
    for (const Index cols : {0, 1, 3, 64, 65}) {
      check_grams<double>(rows, cols);
      check_grams<float>(rows, cols);
    }
  for (const Index rows : {127, 128, 129, 150, 260}) {
    check_grams<double>(rows, 70);
    check_grams<float>(rows, 70);
  }
  check_grams<long double>(21, 67);
}

TEST_CASE("a Gram matrix of another precision, with weights, takes single columns as they are") {
  RandomStream random(92);
  const Matrix<double> A = random_matrix(random, 37, 150);
  Matrix<double> weighted = A;
  Matrix<float> gram = Matrix<float>::Zero(37, 37), buffer;
  detail::GramSum<float>::allocate(37, buffer);
  detail::GramSum<float> sum(buffer, 1.0F, gram);
  for (Index k = 0; k < A.cols(); ++k) {
    const double root = 0.1 + static_cast<double>(k % 7);
    weighted.col(k) *= root;
    sum.add(root, A.data() + k * 37);
  }
  sum.finish();
  const Matrix<float> low = weighted.cast<float>();
  const Matrix<float> zero = Matrix<float>::Zero(37, 37);
  CHECK((gram - gram_by_sums<float>(zero, low, 1.0F)).cwiseAbs().maxCoeff() <= gram_rounding<float>(zero, low, 1.0F));
}

TEST_CASE("a weighted Gram matrix times a vector is its two products, for every number of columns and rows") {
  RandomStream random(93);
  for (const Index rows : {1, 2, 3, 4, 7, 8, 9, 100})
    for (const Index cols : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25}) {
      CAPTURE(rows, cols);
      const Matrix<double> X = random_matrix(random, rows, cols);
      const Vector<double> weights = random_matrix(random, cols, 1).cwiseAbs(), v = random_matrix(random, rows, 1);
      Vector<double> z, image;
      detail::multiply_by_weighted_gram(X, weights, v, z, image);
      const Vector<double> expected_z = X.transpose() * v;
      // Sums of so many products, twice.
      const double rounding = static_cast<double>(rows + 2) * std::numeric_limits<double>::epsilon() * X.norm();
      CHECK((z - expected_z).norm() <= rounding * v.norm());
      const Vector<double> expected = X * weights.cwiseProduct(expected_z);
      const double more = rounding + static_cast<double>(cols + 2) * std::numeric_limits<double>::epsilon() * X.norm();
      CHECK((image - expected).norm() <= more * X.norm() * weights.maxCoeff() * v.norm());
    }
}
