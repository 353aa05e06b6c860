#include "richflow/data/labelled_dataset.hpp"

#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

LabelledDataset<double> gaussian_samples(Index d, Index n) {
  RandomStream random(401);
  Vector<int> labels(n);
  for (Index i = 0; i < n; ++i) labels[i] = static_cast<int>(i % 3);
  return {random_matrix(random, n, d), labels, 3};
}

}  // namespace

TEST_CASE("a labelled dataset gathers samples as rows") {
  for (const Index d : {1, 15, 16, 17, 40}) {
    const auto data = gaussian_samples(d, 9);
    const std::vector<Index> indices = {8, 0, 3, 3, 5};
    Matrix<double> X(5, d);
    Vector<int> labels(5);
    CHECK(data.X() == data.columns().transpose());
    data.gather(indices.data(), X, labels);
    for (Index b = 0; b < 5; ++b) {
      const Index n = indices[static_cast<std::size_t>(b)];
      CHECK(X.row(b) == data.X().row(n));
      CHECK(labels[b] == data.labels()[n]);
    }
    data.gather_from(4, X, labels);
    CHECK(X == data.X().bottomRows(5));
    CHECK(labels == data.labels().tail(5));
    const auto part = data.subset(indices);
    CHECK(part.num_samples() == 5);
    CHECK(part.X().row(2) == data.X().row(3));
    CHECK(part.labels()[0] == data.labels()[8]);
  }
}

TEST_CASE("a random subset takes every sample at most once") {
  RandomStream random(402);
  const auto data = gaussian_samples(2, 20);
  const auto all = data.random_subset(random, 20);
  CHECK(all.X() != data.X());
  CHECK_THAT(all.X().sum(), near(data.X().sum(), 1e-12, 1e-12));
  CHECK(data.random_subset(random, 7).num_samples() == 7);
  CHECK_THROWS_MATCHES(data.random_subset(random, 21), ArgumentError, message_contains("got 21"));
  CHECK_THROWS_AS(data.random_subset(random, 0), ArgumentError);
}

TEST_CASE("a labelled dataset refuses bad input, naming it") {
  const Matrix<double> X = Matrix<double>::Ones(3, 2);
  using Data = LabelledDataset<double>;
  CHECK_THROWS_MATCHES(Data(X, Vector<int>{{0, 1, 2}}, 2), ArgumentError,
                       message_contains("labels(2) must be in 0 .. 1, got 2"));
  CHECK_THROWS_MATCHES(Data(X, Vector<int>{{0, -1, 1}}, 2), ArgumentError, message_contains("got -1"));
  CHECK_THROWS_AS(Data(X, Vector<int>{{0, 1}}, 2), DimensionError);
  CHECK_THROWS_AS(Data(Matrix<double>(0, 2), Vector<int>(0), 2), DimensionError);
  CHECK_THROWS_AS(Data(Matrix<double>(3, 0), Vector<int>::Zero(3), 2), DimensionError);
  CHECK_THROWS_MATCHES(Data(X, Vector<int>::Zero(3), 1), ArgumentError, message_contains("num_classes"));
  Matrix<double> bad = X;
  bad(2, 1) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_MATCHES(Data(bad, Vector<int>::Zero(3), 2), NonFiniteError, message_contains("X(2, 1)"));
  const Data data(X, Vector<int>::Zero(3), 2);
  CHECK(Data::from_columns(X.transpose(), Vector<int>::Zero(3), 2).X() == X);
  Matrix<double> batch(1, 2);
  Vector<int> labels(1);
  const Index outside = 3;
  CHECK_THROWS_MATCHES(data.gather(&outside, batch, labels), ArgumentError, message_contains("got 3"));
  CHECK_THROWS_AS(data.gather_from(3, batch, labels), ArgumentError);
}

TEST_CASE("the fingerprint of a dataset is the same number on every machine and in every version") {
  // Programs know the images of MNIST by theirs.
  const LabelledDataset<float> data(Matrix<float>{{0.0F, 0.5F}, {1.0F, -0.25F}, {-0.0F, 3.0F}}, Vector<int>{{0, 2, 1}},
                                    3);
  CHECK(detail::fingerprint(data) == 3815543964493514804U);
}
