#include "richflow/models/matrix_factorization.hpp"

#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "richflow/core/random.hpp"
#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Completion = MatrixFactorization<double, MatrixEntries>;

template <class M>
void check_model(const M& model, Index samples, std::size_t num_checks) {
  using Kind = typename M::Measurements;
  RandomStream random(21);
  const Dataset data = random_measured_data<Kind>(random, model.shape(), samples);
  const Vector<double> w = random_vector(random, model.num_parameters());
  const auto report = testing::model_battery(model, w, data, random_vector(random, model.num_parameters()),
                                             random_vector(random, samples), 1e-4);
  CAPTURE(model.shape().rows(), model.shape().cols(), model.width(), report);
  CHECK(report.ok());
  // Beside those of every model with jvp one each for a linear predictor and an invariant.
  CHECK(report.checks.size() == num_checks);

  // <M, X_n> as written in the paper.
  const Matrix<double> F = model.stack(w);
  const Matrix<double> product = F.topRows(model.shape().rows()) * F.bottomRows(model.shape().cols()).transpose();
  CHECK((model.product(w) - product).norm() <= 16 * eps * static_cast<double>(model.width()) * F.squaredNorm());
  Vector<double> out(samples);
  model.predict(w, data.X(), out);
  for (Index n = 0; n < samples; ++n) {
    const Matrix<double> X_n = measurement_matrix<Kind>(model.shape(), data.X(), n);
    // Sums of at most P products.
    CHECK(std::abs(out[n] - product.cwiseProduct(X_n).sum()) <=
          4 * eps * static_cast<double>(model.num_parameters()) * F.squaredNorm() * X_n.norm());
  }
  CHECK((model.pack(F) - w).norm() == 0.0);
}

}  // namespace

TEST_CASE("factorizations pass the model battery and have the predictor of the definition") {
  // 300 rows cross the blocks in which dense measurements are summed.
  for (const auto& [rows, cols, width] :
       {std::tuple<Index, Index, Index>{1, 1, 1}, {3, 4, 2}, {6, 2, 9}, {300, 2, 2}}) {
    check_model(MatrixFactorization<double>(rows, cols, width), rows * cols > 20 ? 20 : rows * cols, 25);
    check_model(MatrixFactorization<double, DiagonalMeasurements>(rows, cols, width), 3, 25);
    check_model(Completion(rows, cols, width), rows * cols > 20 ? 20 : rows * cols, 24);
  }
  for (const auto& [size, width] : {std::pair<Index, Index>{1, 1}, {5, 3}, {4, 11}}) {
    check_model(SymmetricFactorization<double>(size, width), size, 24);
    check_model(SymmetricFactorization<double, DiagonalMeasurements>(size, width), size, 24);
    check_model(SymmetricFactorization<double, MatrixEntries>(size, width), size, 23);
  }
}

TEMPLATE_TEST_CASE("factorizations work in other precisions", "", float, long double) {
  using S = TestType;
  RandomStream random(25);
  const MatrixFactorization<S> model(3, 2, 4);
  const BasicDataset<S> data(random_matrix(random, 3, 6).cast<S>(), random_vector(random, 3).cast<S>());
  // A step near the cube root of the precision balances rounding and truncation.
  const S h = std::is_same_v<S, float> ? S(1e-2) : S(1e-5);
  const auto report = testing::model_battery(model, Vector<S>(random_vector(random, 20).cast<S>()), data,
                                             Vector<S>(random_vector(random, 20).cast<S>()),
                                             Vector<S>(random_vector(random, 3).cast<S>()), h);
  CAPTURE(report);
  CHECK(report.ok());
}

TEST_CASE("U^T U - V^T V drifts under descent by an amount that halves with the step") {
  RandomStream random(22);
  const Completion model(5, 4, 3);
  const Dataset data = random_measured_data<MatrixEntries>(random, model.shape(), 9);
  const Vector<double> w0 = random_vector(random, model.num_parameters());
  const auto drift = [&](Index iterations) {
    InvariantMonitor<Completion> monitor(model, w0);
    GradientDescentOptions<double> options{.step = 0.5 / static_cast<double>(iterations), .iterations = iterations};
    options.observers = {monitor};
    const auto solution = gradient_descent(model, data, w0, options);
    REQUIRE(solution.ok());
    return monitor.largest();
  };
  const double coarse = drift(2000);
  CHECK(coarse > 1e-6);                                  // well above rounding
  CHECK_THAT(coarse / drift(4000), near(2.0, 0.05, 0));  // the next order is of relative size one step
}

TEST_CASE("the width reduction is exact: 3000 steps of descent at width 2000 and at width 20") {
  RandomStream random(23);
  const Completion wide(10, 10, 2000);
  const Dataset data = random_measured_data<MatrixEntries>(random, wide.shape(), 60);
  const Vector<double> w = wide.initial_parameters(random, Scale::from_value(0.01));
  const Completion narrow = wide.reduced();
  CHECK(narrow.width() == 20);
  const Vector<double> reduced = wide.reduce(w);
  const Matrix<double> F = wide.stack(w);
  const Matrix<double> L = narrow.stack(reduced);
  CHECK((F * F.transpose() - L * L.transpose()).norm() <= 64 * eps * F.squaredNorm());
  CHECK(L.isLowerTriangular(0.0));
  CHECK((L.diagonal().array() > 0.0).all());

  const GradientDescentOptions<double> options{.step = 1e-3, .iterations = 3000};
  const auto from_wide = gradient_descent(wide, data, w, options);
  const auto from_narrow = gradient_descent(narrow, data, reduced, options);
  const Matrix<double> M = wide.product(from_wide.y);
  CHECK((M - wide.product(w)).norm() > 0.5);  // it has moved
  // Rounding, which descent hardly amplifies.
  CHECK((M - narrow.product(from_narrow.y)).norm() <= 1e-13 * M.norm());
}

TEST_CASE("reduction leaves narrow stacks alone, and takes rank-deficient ones") {
  RandomStream random(24);
  const Matrix<double> narrow = random_matrix(random, 6, 4);
  CHECK(reduce_width<double>(narrow) == narrow);
  const Matrix<double> low_rank = random_matrix(random, 6, 2) * random_matrix(random, 2, 50);
  const Matrix<double> L = reduce_width<double>(low_rank);
  CHECK(L.cols() == 6);
  CHECK((L * L.transpose() - low_rank * low_rank.transpose()).norm() <= 64 * eps * low_rank.squaredNorm());
}

TEST_CASE("random starts: plain ones are normal in the order of w, reduced ones a scaled Wishart factor") {
  const auto scale = Scale::from_value(0.1);
  RandomStream a(3), b(3);
  const Completion model(2, 3, 7);
  // The scale comes back from its logarithm with an error of rounding.
  CHECK((model.initial_parameters(a, scale) - 0.1 * normal_vector(b, 35)).norm() <= 1e-16);
  const Matrix<double> F = model.reduced().stack(model.reduced_initial_parameters(a, scale));
  CHECK(F.rows() == 5);
  CHECK(F.cols() == 5);
  CHECK((F - 0.1 * wishart_factor(b, 5, 7)).norm() <= 1e-16);
  const Completion thin(2, 3, 2);
  CHECK(thin.reduced_initial_parameters(a, scale).size() == 10);
  const Completion huge(10, 10, 1'000'000'000);
  CHECK(huge.reduced_initial_parameters(a, scale).size() == 400);
}

TEST_CASE("factorizations refuse bad input by name and value") {
  CHECK_THROWS_MATCHES(MatrixFactorization<double>(3, 3, 0), DimensionError, message_contains("width k > 0, got 0"));
  CHECK_THROWS_AS(MatrixFactorization<double>(0, 3, 1), DimensionError);
  CHECK_THROWS_AS(SymmetricFactorization<double>(0, 1), DimensionError);
  const Completion model(3, 4, 2);
  RandomStream random(1);
  CHECK_THROWS_MATCHES(model.initial_parameters(random, Scale::from_log(-800.0)), ArgumentError,
                       message_contains("-800"));
  const Vector<double> w = random_vector(random, 14);
  Vector<double> out(2);
  Matrix<double> X(2, 2);
  X << 0, 1, 2, 4;
  CHECK_THROWS_MATCHES(model.predict(w, X, out), ArgumentError, message_contains("X(1, 1) = 4 is not a column index"));
  X << 0, 1, -1, 0;
  CHECK_THROWS_MATCHES(model.predict(w, X, out), ArgumentError, message_contains("X(1, 0) = -1 is not a row index"));
  X << 0, 0.5, 0, 0;
  CHECK_THROWS_AS(model.predict(w, X, out), ArgumentError);
  X(0, 1) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(model.predict(w, X, out), ArgumentError);
  CHECK_THROWS_MATCHES(model.predict(w, Matrix<double>::Zero(2, 12), out), DimensionError,
                       message_contains("X has 12 columns where 2 are needed"));
  CHECK_THROWS_AS(model.predict(w.head(13), Matrix<double>::Zero(2, 2), out), DimensionError);
  CHECK_THROWS_AS(model.predict(w, Matrix<double>::Zero(3, 2), out), DimensionError);
  CHECK_THROWS_AS(model.product(w.head(13)), DimensionError);
  CHECK_THROWS_AS(model.pack(Matrix<double>::Zero(7, 3)), DimensionError);
  CHECK_THROWS_AS(model.vjp(w, Matrix<double>::Zero(2, 2), Vector<double>::Zero(3), out), DimensionError);
}
