#include "richflow/data/measurements.hpp"

#include <cmath>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/samples.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/row_sums.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Measurements = MatrixMeasurements<double>;

/// Measurements and what they are, X_n, drawn without the library's own reading of them.
struct DrawnMeasurements {
  Measurements measurements;
  std::vector<Matrix<double>> matrices = {};
};

Index below(RandomStream& random, Index bound) {
  return std::min(bound - 1, static_cast<Index>(random.uniform(0.0, static_cast<double>(bound))));
}

DrawnMeasurements draw(RandomStream& random, int kind, Index rows, Index cols, Index count) {
  std::vector<Matrix<double>> matrices(static_cast<std::size_t>(count), Matrix<double>::Zero(rows, cols));
  if (kind == 0) {
    Matrix<double> X(count, rows * cols);
    for (Index n = 0; n < count; ++n) {
      Matrix<double>& X_n = matrices[static_cast<std::size_t>(n)];
      X_n = random_matrix(random, rows, cols);
      for (Index j = 0; j < cols; ++j)
        for (Index i = 0; i < rows; ++i) X(n, i + j * rows) = X_n(i, j);
    }
    return {Measurements::dense(rows, cols, X), std::move(matrices)};
  }
  if (kind == 1) {
    std::vector<MatrixEntry> places;
    for (Matrix<double>& X_n : matrices) {
      places.push_back({below(random, rows), below(random, cols)});  // some of them twice
      X_n(places.back().row, places.back().col) = 1.0;
    }
    return {Measurements::entries(rows, cols, places), std::move(matrices)};
  }
  if (kind == 2) {
    const Matrix<double> X = random_matrix(random, count, std::min(rows, cols));
    for (Index n = 0; n < count; ++n)
      for (Index i = 0; i < X.cols(); ++i) matrices[static_cast<std::size_t>(n)](i, i) = X(n, i);
    return {Measurements::diagonal(rows, cols, X), std::move(matrices)};
  }
  std::vector<Index> summed;
  for (Matrix<double>& X_n : matrices) {
    summed.push_back(below(random, rows));
    X_n.row(summed.back()).setOnes();
  }
  return {Measurements(std::make_unique<RowSums>(rows, cols, summed)), std::move(matrices)};
}

/// `B_n` of a stack, written out.
Matrix<double> stack_matrix(const FactorShape& shape, const Matrix<double>& X_n) {
  Matrix<double> B = Matrix<double>::Zero(shape.stack_size(), shape.stack_size());
  B.block(0, shape.second(), shape.rows(), shape.cols()) += X_n;
  B.block(shape.second(), 0, shape.cols(), shape.rows()) += X_n.transpose();
  return B;
}

}  // namespace

TEST_CASE("measurements of every kind, a user's own among them, are what they say, and adjoint is the transposed") {
  RandomStream random(301);
  for (int trial = 0; trial < 60; ++trial) {
    const int kind = trial % 4;
    // 300 rows cross the blocks in which dense measurements are summed.
    const Index rows = trial < 4 ? 300 : 1 + below(random, 7);
    const Index cols = 1 + below(random, 7);
    const Index count = 1 + below(random, 9);
    const DrawnMeasurements drawn = draw(random, kind, rows, cols, count);
    const Measurements& X = drawn.measurements;
    CAPTURE(kind, rows, cols, count);
    CHECK((X.rows() == rows && X.cols() == cols && X.num_measurements() == count));
    const Matrix<double> M = random_matrix(random, rows, cols);
    const Vector<double> r = random_vector(random, count);
    const Vector<double> values = X.apply(M);
    const Matrix<double> A = X.adjoint(r);
    const Matrix<double> gram = X.gram();
    Matrix<double> sum = Matrix<double>::Zero(rows, cols);
    double size = 0.0;
    for (Index n = 0; n < count; ++n) {
      const Matrix<double>& X_n = drawn.matrices[static_cast<std::size_t>(n)];
      size += X_n.norm();
      sum += r(n) * X_n;
      CHECK(std::abs(values(n) - M.cwiseProduct(X_n).sum()) <= 64 * eps * M.norm() * (1.0 + X_n.norm()));
      for (Index m = 0; m < count; ++m)
        CHECK(std::abs(gram(n, m) - X_n.cwiseProduct(drawn.matrices[static_cast<std::size_t>(m)]).sum()) <=
              64 * eps * (1.0 + X_n.squaredNorm() + drawn.matrices[static_cast<std::size_t>(m)].squaredNorm()));
    }
    CHECK((A - sum).norm() <= 64 * eps * r.norm() * (1.0 + size));
    // <A(M), r> = <M, A*(r)>.
    CHECK(std::abs(values.dot(r) - M.cwiseProduct(A).sum()) <= 64 * eps * M.norm() * r.norm() * (1.0 + size));
  }
}

TEST_CASE("operations on stacks are those of B_n = [0 X_n; X_n^T 0], whatever the kind") {
  RandomStream random(302);
  for (int trial = 0; trial < 48; ++trial) {
    const int kind = trial % 4;
    const bool symmetric = trial % 3 == 0;
    const Index rows = 1 + below(random, 6);
    const FactorShape shape =
        symmetric ? FactorShape::symmetric(rows) : FactorShape::general(rows, 1 + below(random, 6));
    const Index count = 1 + below(random, 7);
    const DrawnMeasurements drawn = draw(random, kind, shape.rows(), shape.cols(), count);
    const AnyMeasurements<double>& X = drawn.measurements.operations();
    CAPTURE(kind, symmetric, shape.rows(), shape.cols(), count);
    const Index D = shape.stack_size();
    const Matrix<double> T1 = random_matrix(random, 3, D);
    const Matrix<double> T2 = random_matrix(random, 3, D);
    const Vector<double> r = random_vector(random, count);
    const Matrix<double> root = random_matrix(random, D, D);
    const Matrix<double> P = root + root.transpose();
    const Matrix<double> W = T1.transpose() * T1;

    Vector<double> paired = Vector<double>::Ones(count);
    X.add_pairing(shape, T1, T2, paired);
    Matrix<double> pulled = Matrix<double>::Ones(3, D);
    X.add_pullback(shape, r, T1, pulled);
    Matrix<double> weighted = Matrix<double>::Ones(D, D);
    X.add_matrix(shape, r, weighted);
    const Matrix<double> K = drawn.measurements.kernel(shape, P, W);
    CHECK(K == K.transpose());

    Matrix<double> B = Matrix<double>::Zero(D, D);
    std::vector<Matrix<double>> B_n;
    for (const Matrix<double>& X_n : drawn.matrices) {
      B_n.push_back(stack_matrix(shape, X_n));
      B += r(static_cast<Index>(B_n.size()) - 1) * B_n.back();
    }
    const double size = (1.0 + T1.squaredNorm() + T2.squaredNorm()) * (1.0 + r.norm()) * (1.0 + P.norm());
    const double bound = 200 * eps * size * (1.0 + B.squaredNorm());
    const Matrix<double> product = T1.leftCols(shape.rows()).transpose() * T2.middleCols(shape.second(), shape.cols());
    for (Index n = 0; n < count; ++n) {
      const auto at = static_cast<std::size_t>(n);
      const double of_n = 1.0 + drawn.matrices[at].squaredNorm();
      CHECK(std::abs(paired(n) - 1.0 - product.cwiseProduct(drawn.matrices[at]).sum()) <= bound * of_n);
      for (Index m = 0; m < count; ++m) {
        const auto other = static_cast<std::size_t>(m);
        CHECK(std::abs(K(n, m) - (B_n[at] * P * B_n[other] * W).trace()) <=
              bound * of_n * (1.0 + drawn.matrices[other].squaredNorm()));
      }
    }
    CHECK((pulled.array() - 1.0 - (B * T1.transpose()).transpose().array()).matrix().norm() <= bound);
    CHECK((weighted.array() - 1.0 - B.array()).matrix().norm() <= bound);
  }
}

TEST_CASE("entries are the dense measurements of unit matrices") {
  RandomStream random(303);
  const std::vector<MatrixEntry> places = {{0, 3}, {2, 1}, {1, 1}, {0, 0}, {2, 1}};
  const Measurements entries = Measurements::entries(3, 4, places);
  Matrix<double> X = Matrix<double>::Zero(5, 12);
  for (Index n = 0; n < 5; ++n) {
    const auto [i, j] = places[static_cast<std::size_t>(n)];
    X(n, i + 3 * j) = 1.0;
  }
  const Measurements dense = Measurements::dense(3, 4, X);
  CHECK(entries.places() == places);
  const Matrix<double> M = random_matrix(random, 3, 4);
  const Vector<double> r = random_vector(random, 5);
  CHECK(entries.apply(M) == dense.apply(M));
  CHECK((entries.adjoint(r) - dense.adjoint(r)).norm() <= eps * r.norm());
  CHECK(entries.gram() == dense.gram());
  const FactorShape shape = FactorShape::general(3, 4);
  const Matrix<double> P = Matrix<double>::Identity(7, 7);
  const Matrix<double> T = random_matrix(random, 2, 7);
  const Matrix<double> W = T.transpose() * T;
  CHECK((entries.kernel(shape, P, W) - dense.kernel(shape, P, W)).norm() <= 64 * eps * W.norm());
}

TEST_CASE("a part of measurements is gathered into others, whatever these were") {
  RandomStream random(304);
  const std::vector<Index> indices = {4, 0, 2, 2, 5};
  for (int kind = 0; kind < 4; ++kind) {
    const DrawnMeasurements drawn = draw(random, kind, 3, 4, 6);
    const Matrix<double> M = random_matrix(random, 3, 4);
    const Vector<double> values = drawn.measurements.apply(M);
    for (int before = 0; before < 4; ++before) {
      CAPTURE(kind, before);
      Measurements part = draw(random, before, 3, 4, 2).measurements;
      const Measurements copy = part;
      const Vector<double> of_copy = copy.apply(M);
      for (const Index count : {5, 2, 4}) {
        part.gather(drawn.measurements, indices.data(), count);
        CHECK(part.num_measurements() == count);
        const Vector<double> found = part.apply(M);
        for (Index n = 0; n < count; ++n) CHECK(found(n) == values(indices[static_cast<std::size_t>(n)]));
        const Vector<double> r = random_vector(random, count);
        CHECK(std::abs(part.adjoint(r).cwiseProduct(M).sum() - found.dot(r)) <= 64 * eps * M.norm() * r.norm() * 9.0);
      }
      CHECK(copy.apply(M) == of_copy);  // copies are independent
    }
    Measurements self = drawn.measurements;
    self.gather(self, indices.data(), 3);
    CHECK(self.apply(M)(0) == values(4));
    CHECK_THROWS_AS(self.gather(drawn.measurements, indices.data(), 0), DimensionError);
  }
  // Another shape.
  Measurements other = Measurements::entries(9, 9, {{8, 8}});
  other.gather(Measurements::entries(3, 4, {{0, 1}, {2, 2}}), indices.data() + 1, 1);
  CHECK((other.rows() == 3 && other.cols() == 4));
}

TEST_CASE("measurements refuse bad input by place and value") {
  CHECK_THROWS_MATCHES(Measurements::entries(3, 4, {{0, 1}, {3, 0}}), ArgumentError,
                       message_contains("entry 1 is at (3, 0), outside the 3 x 4 matrix"));
  CHECK_THROWS_MATCHES(Measurements::entries(3, 4, {{0, 4}}), ArgumentError, message_contains("(0, 4)"));
  CHECK_THROWS_AS(Measurements::entries(3, 4, {{-1, 0}}), ArgumentError);
  CHECK_THROWS_MATCHES(Measurements::entries(3, 4, {}), DimensionError, message_contains("N = 0"));
  CHECK_THROWS_AS(Measurements::entries(0, 4, {{0, 0}}), DimensionError);
  CHECK_THROWS_MATCHES(Measurements::dense(3, 4, Matrix<double>::Ones(2, 11)), DimensionError,
                       message_contains("X has 11 columns where 12 are needed: row n is vec(X_n)"));
  CHECK_THROWS_MATCHES(Measurements::diagonal(3, 4, Matrix<double>::Ones(2, 4)), DimensionError,
                       message_contains("X has 4 columns where 3 are needed: row n is the diagonal"));
  CHECK_THROWS_AS(Measurements::dense(3, 4, Matrix<double>(0, 12)), DimensionError);
  CHECK_THROWS_MATCHES(Measurements::dense(3, 4, 1e160 * Matrix<double>::Ones(2, 12)), ArgumentError,
                       message_contains("squares of X overflow"));
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Matrix<double> X = Matrix<double>::Ones(2, 3);
    X(1, 2) = bad;
    CHECK_THROWS_MATCHES(Measurements::dense(3, 1, X), NonFiniteError, message_contains("X(1, 2)"));
    CHECK_THROWS_AS(Measurements::diagonal(3, 3, X), NonFiniteError);
    CHECK_THROWS_MATCHES(Measurements(std::make_unique<RowSums>(2, 2, std::vector<Index>{0, 1}, bad)), NonFiniteError,
                         message_contains("the measurement of a matrix of ones"));
  }
  CHECK_THROWS_MATCHES(Measurements(std::unique_ptr<AnyMeasurements<double>>()), ArgumentError,
                       message_contains("the pointer is null"));
  const Measurements X = Measurements::entries(3, 4, {{0, 1}, {2, 0}});
  CHECK_THROWS_MATCHES(X.apply(Matrix<double>::Zero(4, 3)), DimensionError, message_contains("M is 4 x 3"));
  CHECK_THROWS_AS(X.adjoint(Vector<double>::Zero(3)), DimensionError);
  CHECK_THROWS_AS(X.kernel(FactorShape::symmetric(3), Matrix<double>::Zero(3, 3), Matrix<double>::Zero(3, 3)),
                  DimensionError);
  CHECK_THROWS_MATCHES(X.kernel(FactorShape::general(3, 4), Matrix<double>::Zero(7, 7), Matrix<double>::Zero(6, 6)),
                       DimensionError, message_contains("W is 6 x 6 where 7 x 7"));
  CHECK_THROWS_MATCHES(Measurements::diagonal(3, 3, Matrix<double>::Ones(1, 3)).places(), ArgumentError,
                       message_contains("not observed entries"));
}

TEST_CASE("a dataset of measurements has no matrix of samples, and one of samples no measurements") {
  const Measurements X = Measurements::entries(3, 4, {{0, 1}, {2, 0}});
  const Dataset data(X, Vector<double>::LinSpaced(2, 1.0, 2.0));
  CHECK(data.num_samples() == 2);
  CHECK(data.num_inputs() == 12);
  CHECK(data.has_measurements());
  CHECK(data.measurements().places() == X.places());
  CHECK(data.y()(1) == 2.0);
  CHECK(data.Y().rows() == 2);
  CHECK(data.samples().size() == 2);
  CHECK_THROWS_MATCHES(data.X(), ArgumentError,
                       message_contains("the data are 2 measurements of a matrix where a matrix X of samples"));
  CHECK_THROWS_AS(data.samples().matrix(), ArgumentError);
  Matrix<double> M = Matrix<double>::Zero(3, 4);
  M(0, 1) = 4.0;
  M(2, 0) = -2.0;
  CHECK(data.residual_norm(Eigen::Map<const Vector<double>>(M.data(), 12)) == 5.0);
  CHECK_THROWS_AS(data.residual_norm(Vector<double>::Zero(2)), DimensionError);

  CHECK_THROWS_MATCHES(Dataset(X, Vector<double>::Ones(3)), DimensionError,
                       message_contains("there are 2 measurements but y has 3 entries"));
  CHECK_THROWS_AS(Dataset(X, Vector<double>::Constant(2, std::numeric_limits<double>::quiet_NaN())), NonFiniteError);
  CHECK_THROWS_AS(Dataset(X, Vector<double>::Constant(2, 1e160)), ArgumentError);

  const Dataset rows(Matrix<double>::Ones(2, 12), Vector<double>::Ones(2));
  CHECK_FALSE(rows.has_measurements());
  CHECK_THROWS_MATCHES(rows.measurements(), ArgumentError, message_contains("the data are a matrix X of 2 samples"));
  CHECK_THROWS_AS(rows.samples().measurements(), ArgumentError);
}
