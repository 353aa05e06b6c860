#include "richflow/data/dataset.hpp"

#include <limits>

#include "support/catch.hpp"

using richflow::Dataset;
using richflow::Matrix;
using richflow::Vector;
using test_support::message_contains;

TEST_CASE("a dataset keeps what it was given") {
  Matrix<double> X(2, 3);
  X << 1, 2, 3, 4, 5, 6;
  const Vector<double> y = Vector<double>::LinSpaced(2, -1.0, 1.0);
  const Dataset dataset(X, y);
  CHECK(dataset.X() == X);
  CHECK(dataset.y() == y);
  CHECK(dataset.num_samples() == 2);
  CHECK(dataset.num_inputs() == 3);
  CHECK(Dataset<float>(X.cast<float>(), y.cast<float>()).num_inputs() == 3);
}

TEST_CASE("a dataset takes its data over without a copy") {
  Matrix<double> X = Matrix<double>::Ones(2, 3);
  const double* const storage = X.data();
  const Dataset dataset(std::move(X), Vector<double>::Ones(2));
  CHECK(dataset.X().data() == storage);
}

TEST_CASE("a dataset rejects shapes that do not fit") {
  CHECK_THROWS_MATCHES(Dataset(Matrix<double>(0, 3), Vector<double>(0)), richflow::DimensionError,
                       message_contains("N = 0"));
  CHECK_THROWS_MATCHES(Dataset(Matrix<double>(2, 0), Vector<double>::Ones(2)), richflow::DimensionError,
                       message_contains("d = 0"));
  CHECK_THROWS_MATCHES(Dataset(Matrix<double>::Ones(2, 3), Vector<double>::Ones(3)), richflow::DimensionError,
                       message_contains("X is 2 x 3 but y has 3"));
  const Dataset data(Matrix<double>::Ones(2, 3), Vector<double>::Ones(2));
  CHECK_THROWS_MATCHES(data.residual_norm(Vector<double>::Ones(2)), richflow::DimensionError,
                       message_contains("beta has 2"));
}

TEST_CASE("a dataset rejects units in which squares leave the range") {
  const Matrix<double> X = Matrix<double>::Ones(2, 3);
  const Vector<double> y = Vector<double>::Ones(2);
  CHECK_THROWS_MATCHES(Dataset(1e160 * X, y), richflow::ArgumentError, message_contains("squares of X overflow"));
  CHECK_THROWS_MATCHES(Dataset(1e-160 * X, y), richflow::ArgumentError, message_contains("squares of X underflow"));
  CHECK_THROWS_MATCHES(Dataset(X, 1e160 * y), richflow::ArgumentError, message_contains("squares of y overflow"));
  CHECK_THROWS_MATCHES(Dataset(X, 1e-160 * y), richflow::ArgumentError, message_contains("squares of y underflow"));
  CHECK_NOTHROW(Dataset(1e140 * X, 1e-140 * y));
  CHECK_NOTHROW(Dataset(0.0 * X, 0.0 * y));
}

TEST_CASE("a dataset rejects NaN and infinity anywhere") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {nan, inf, -inf}) {
    for (richflow::Index k = 0; k < 6; ++k) {
      Matrix<double> X = Matrix<double>::Ones(2, 3);
      X(k % 2, k / 2) = bad;
      CHECK_THROWS_MATCHES(Dataset(X, Vector<double>::Ones(2)), richflow::NonFiniteError, message_contains("X("));
    }
    for (richflow::Index k = 0; k < 2; ++k) {
      Vector<double> y = Vector<double>::Ones(2);
      y(k) = bad;
      CHECK_THROWS_MATCHES(Dataset(Matrix<double>::Ones(2, 3), y), richflow::NonFiniteError, message_contains("y("));
    }
  }
}
