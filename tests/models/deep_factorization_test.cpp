#include "richflow/models/deep_factorization.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/models/linear_layers.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/row_sums.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("deep factorizations pass the model battery and have the predictor of the definition") {
  RandomStream random(2621);
  for (const std::vector<Index>& widths : {std::vector<Index>{1, 1, 1}, {4, 2, 3}, {3, 5, 2, 4}, {3, 3, 3, 3, 3}}) {
    const DeepFactorization<double> model(widths);
    const FactorShape shape = FactorShape::general(widths.back(), widths.front());
    CHECK(model.depth() + 1 == static_cast<Index>(widths.size()));
    for (const Kind kind : {Kind::dense, Kind::entries, Kind::diagonal}) {
      const Dataset<> data = random_measured_data(random, kind, shape, std::min<Index>(model.num_inputs(), 4));
      // Differences of 1e-4: terms of third order are that squared, rounding over it.
      const auto report = testing::model_battery(model, data, 2622, {.step = 1e-4});
      CAPTURE(widths.size(), report);
      CHECK(report.ok());
    }
    std::vector<Matrix<double>> layers;
    for (std::size_t l = 0; l + 1 < widths.size(); ++l)
      layers.push_back(random_matrix(random, widths[l + 1], widths[l]));
    const Vector<double> w = pack_layers(layers);
    Matrix<double> M = layers.front();
    for (std::size_t l = 1; l < layers.size(); ++l) M = layers[l] * M;
    CHECK((model.product(w) - M).norm() <= 16 * eps * M.norm());
    // The network of the same parameters takes x to M x.
    const Matrix<double> X = random_matrix(random, 2, widths.front());
    Matrix<double> out(2, widths.back());
    model.network().predict(w, X, out);
    CHECK((out - X * M.transpose()).norm() <= 64 * eps * X.norm() * M.norm());
    // What is conserved, of both.
    const std::vector<Matrix<double>> conserved = conserved_matrices(layers);
    const Vector<double> invariant = model.invariant(w);
    Index first = 0;
    for (const Matrix<double>& matrix : conserved) {
      CHECK((invariant.segment(first, matrix.size()) - matrix.reshaped()).norm() <= 64 * eps * w.squaredNorm());
      first += matrix.size();
    }
    CHECK(first == invariant.size());
  }
  const Dataset sums(MatrixMeasurements<double>(std::make_unique<RowSums>(3, 4, std::vector<Index>{2, 0, 2}, 0.5)),
                     random_vector(random, 3));
  CHECK(testing::model_battery(DeepFactorization<double>({4, 2, 5, 3}), sums, 2623, {.step = 1e-4}).ok());
}

TEST_CASE("a deep factorization needs widths that fit") {
  CHECK_THROWS_MATCHES(DeepFactorization<double>({3, 4}), DimensionError, message_contains("L + 1 widths, got 2"));
  CHECK_THROWS_MATCHES(DeepFactorization<double>({3, 0, 4}), DimensionError,
                       message_contains("widths[1] must be positive, got 0"));
  const DeepFactorization<double> model({3, 2, 4});
  Vector<double> out(1);
  const auto X = MatrixMeasurements<double>::entries(3, 4, {{0, 0}});
  CHECK_THROWS_MATCHES(model.predict(Vector<double>::Zero(14), X, out), DimensionError, message_contains("4 x 3"));
  CHECK_THROWS_AS(model.product(Vector<double>::Zero(13)), DimensionError);
}
