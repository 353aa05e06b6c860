#include "richflow/linalg/sparse_factor.hpp"

#include <limits>
#include <vector>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Normal numbers, of which about `part` are kept; some rows and columns are zero.
template <class S>
Matrix<S> sparse_matrix(RandomStream& random, Index rows, Index cols, double part) {
  Matrix<S> X = random_matrix(random, rows, cols).cast<S>();
  for (Index j = 0; j < cols; ++j)
    for (Index i = 0; i < rows; ++i)
      if (i % 17 == 5 || j % 13 == 7 || random.uniform() >= part) X(i, j) = S(0);
  return X;
}

/// In both directions, in the middle of larger matrices, against the products of all entries.
template <class S>
void check_products(RandomStream& random, detail::SparseFactor<S>& sparse, Index rows, Index cols, Index columns,
                    double part) {
  CAPTURE(rows, cols, columns, part, sizeof(S));
  const Matrix<S> in_larger = sparse_matrix<S>(random, rows + 3, cols, part);
  const auto X = in_larger.middleRows(2, rows);
  REQUIRE(sparse.assign(X, 256));
  typename detail::SparseFactor<S>::Panels panels;
  const Matrix<S> W = random_matrix(random, cols + 1, columns).cast<S>();
  const Matrix<S> B = random_matrix(random, rows + 2, columns).cast<S>();
  const Matrix<S> before = random_matrix(random, rows + cols, columns + 2).cast<S>();
  const auto in_the_middle = [columns](Matrix<S>& out, Index count) { return out.block(1, 1, count, columns); };
  // Sums of the same terms in another order: as many roundings as terms, of at most the product of the norms.
  const S rounding = std::numeric_limits<S>::epsilon() * X.norm() * static_cast<S>(rows + cols);
  const auto check = [&](const Matrix<S>& out, Matrix<S> expected, Index count, S size) {
    CHECK((out - expected).block(1, 1, count, columns).cwiseAbs().maxCoeff() <= rounding * size);
    in_the_middle(expected, count) = out.block(1, 1, count, columns);
    CHECK(out == expected);  // around it nothing was written
  };
  Matrix<S> out = before;
  Matrix<S> expected = before;
  sparse.multiply(W.topRows(cols), panels, in_the_middle(out, rows));
  in_the_middle(expected, rows) = X * W.topRows(cols);
  check(out, expected, rows, W.colwise().norm().maxCoeff());
  out = before;
  expected = before;
  sparse.add_transposed_product(B.bottomRows(rows), panels, in_the_middle(out, cols));
  in_the_middle(expected, cols) += X.transpose() * B.bottomRows(rows);
  check(out, expected, cols, B.colwise().norm().maxCoeff() + before.cwiseAbs().maxCoeff());
}

}  // namespace

TEST_CASE("products without the zeros are those with them") {
  RandomStream random(2681);
  detail::SparseFactor<double> doubles;
  detail::SparseFactor<float> floats;
  for (const Index rows : {64, 67, 130})
    for (const Index cols : {64, 101})
      // Whole panels, parts of one, and a column alone.
      for (const Index columns : {256, 259, 300, 33, 1}) {
        check_products(random, doubles, rows, cols, columns, 0.2);
        check_products(random, floats, rows, cols, columns, 0.05);
      }
  detail::SparseFactor<long double> long_doubles;
  check_products(random, long_doubles, 67, 101, 259, 0.2);
}

TEST_CASE("a factor of zeros gives zeros, and adds nothing") {
  detail::SparseFactor<double> sparse;
  const Matrix<double> X = Matrix<double>::Zero(70, 80);
  REQUIRE(sparse.assign(X, 300));
  detail::SparseFactor<double>::Panels panels;
  const Matrix<double> W = Matrix<double>::Ones(80, 300);
  Matrix<double> out = Matrix<double>::Ones(70, 300);
  sparse.multiply(W, panels, out);
  CHECK(out.isZero(0.0));
  Matrix<double> sum = Matrix<double>::Ones(80, 300);
  sparse.add_transposed_product(out, panels, sum);
  CHECK((sum.array() == 1.0).all());
}

TEST_CASE("only what is large and mostly zero is taken in, and at most a quarter is not zero") {
  detail::SparseFactor<double> sparse;
  Matrix<double> X = Matrix<double>::Zero(64, 64);
  X.leftCols(16).setOnes();
  CHECK(sparse.assign(X, 256));
  CHECK(sparse.is_assigned());
  X(3, 40) = 1e-300;
  CHECK_FALSE(sparse.assign(X, 256));
  CHECK_FALSE(sparse.is_assigned());
  X(3, 0) = -0.0;
  CHECK(sparse.assign(X, 256));
  CHECK_FALSE(sparse.assign(X, 255));
  CHECK_FALSE(sparse.assign(X.topRows(63), 256));
  CHECK_FALSE(sparse.assign(X.leftCols(63), 256));
  CHECK_FALSE(sparse.assign(Matrix<double>::Ones(256, 784), 5000));
  // Too large for a panel in the cache.
  CHECK_FALSE(sparse.assign(Matrix<double>::Zero(20'000, 64), 256));
  // What is not a number is not zero.
  X(3, 40) = 0.0;
  X(5, 63) = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(sparse.assign(X, 256));
  detail::SparseFactor<double>::Panels panels;
  const Matrix<double> W = Matrix<double>::Zero(64, 256);
  Matrix<double> out(64, 256);
  sparse.multiply(W, panels, out);
  CHECK(out.row(5).array().isNaN().all());
  CHECK(out.topRows(5).isZero(0.0));
}
