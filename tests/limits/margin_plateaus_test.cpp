#include "richflow/limits/margin_plateaus.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "richflow/bias/simulate_classification.hpp"
#include "richflow/core/random.hpp"
#include "richflow/limits/cheapest_margin.hpp"
#include "richflow/limits/max_margin.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// N samples of d features told apart by a b of +-1, no entry 0.
Dataset<> plateau_classes(RandomStream& random, Index N, Index d) {
  Matrix<double> X(N, d);
  Vector<double> y(N);
  const Vector<double> b = random_vector(random, d).array().sign();
  for (Index n = 0; n < N; ++n) {
    X.row(n) = random_vector(random, d);
    y[n] = X.row(n).dot(b) < 0 ? -1 : 1;
  }
  return {X, y};
}

/// Samples of +-1, the sign of the sum of the first five: ties everywhere.
Dataset<> sign_classes(unsigned seed, Index N, Index d) {
  std::mt19937 bits(seed);
  Matrix<double> X(N, d);
  for (Index i = 0; i < X.size(); ++i) X.data()[i] = bits() % 2 == 1 ? 1 : -1;
  const Vector<double> sum = X.leftCols(std::min<Index>(5, d)).rowwise().sum();
  return {X, sum.unaryExpr([](double v) { return v > 0 ? 1.0 : -1.0; })};
}

}  // namespace

TEST_CASE("the cheapest margin is a vertex, proved by its dual", "[limits]") {
  RandomStream random(31);
  Index feasible = 0, refused = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const Index N = 1 + trial % 8, K = 1 + trial % 7;
    Matrix<double> B(N, K);
    for (Index n = 0; n < N; ++n) B.row(n) = random_vector(random, K);
    if (trial % 2 == 0) B.row(0) *= 1e6;
    if (trial % 3 == 0) B = (2 * B).array().round();
    B.col(0).array() += trial % 4 == 0 ? 0.0 : 2.0;
    const Vector<double> weights = random_positive_vector(random, K, 0.1, 3.0);
    const auto result = detail::cheapest_margin(B, weights);
    CAPTURE(trial, N, K, B);
    REQUIRE(result.status == Status::tolerance_reached);
    if (!result.is_feasible) {
      // By another method: (B, I) with free signs forced nonnegative has no separator either.
      Matrix<double> both(N + K, K);
      both << B, Matrix<double>::Identity(K, K);
      CHECK_FALSE(max_margin_l2(Dataset<>(both, Vector<double>::Ones(N + K))).is_separable);
      ++refused;
      continue;
    }
    CHECK(result.c.minCoeff() >= 0);
    CHECK(result.p.minCoeff() >= 0);
    // A square system of order 8 or less, conditions up to 1e4.
    CHECK((B * result.c).minCoeff() >= 1 - 1e-10);
    CHECK((B.transpose() * result.p - weights).maxCoeff() <= 1e-10 * weights.maxCoeff());
    CHECK(result.p.sum() == Approx(result.cost).epsilon(1e-10));
    CHECK((result.c.array() > 0).count() <= N);
    ++feasible;
  }
  CHECK(feasible > 20);
  CHECK(refused > 5);
}

TEST_CASE("the cheapest margin of tied samples is proved or refused", "[limits]") {
  Index pivots = 0;
  for (unsigned trial = 0; trial < 60; ++trial) {
    const Dataset<> data = sign_classes(40000 + trial, 40, 80);
    const Matrix<double> Z = signed_rows(data);
    const auto result = detail::cheapest_signed_margin<double>(Z.transpose(), Vector<double>::Ones(80));
    CAPTURE(trial);
    REQUIRE(result.status == Status::tolerance_reached);
    REQUIRE(result.is_feasible);
    // epsilon^(2/3), what is promised.
    CHECK((Z * (result.c.head(80) - result.c.tail(80))).minCoeff() >= 1 - 4e-11);
    CHECK((Z.transpose() * result.p).cwiseAbs().maxCoeff() <= 1 + 4e-11);
    CHECK(result.p.sum() == Approx(result.cost).epsilon(4e-11));
    pivots += result.pivots;
  }
  CHECK(pivots <= 60 * (40 + 80));
}

TEST_CASE("the cheapest margin of weights that differ by less than its shifts", "[limits]") {
  RandomStream random(33);
  for (int trial = 0; trial < 30; ++trial) {
    // Each column twice, and the cheaper one is known.
    const Index N = 6, K = 8;
    Matrix<double> B(N, 2 * K);
    for (Index n = 0; n < N; ++n) B.row(n).head(K) = random_positive_vector(random, K, 0.1, 3.0);
    B.rightCols(K) = B.leftCols(K);
    const Vector<double> cheap = random_positive_vector(random, K, 0.5, 2.0);
    Vector<double> weights(2 * K);
    weights << cheap, cheap;
    for (Index j = 0; j < K; ++j) weights[(j + trial) % 2 == 0 ? j : K + j] *= 1 + 1e-10;
    const auto result = detail::cheapest_margin(B, weights);
    CAPTURE(trial);
    REQUIRE(result.status == Status::tolerance_reached);
    for (Index j = 0; j < K; ++j) CHECK(result.c[(j + trial) % 2 == 0 ? j : K + j] == 0);
  }
}

TEST_CASE("plateaus: the kappa at which the l1 margin comes", "[limits]") {
  const Dataset<> data = margin_data("one_free");
  const MarginPlateaus<> path = margin_plateaus(data).require_ok();
  REQUIRE(path.plateaus.size() == 3);
  // theory-limits, section 2: 1.94 and 1.97 from runs at log alpha = -20 and -100, on the plateau of margin .692.
  CHECK(path.plateaus[2].kappa == Approx(1.97).margin(0.005));
  CHECK(path.plateaus[1].margin == Approx(9.0 / 13).epsilon(1e-12));
  CHECK(path.is_l1_margin);
  CHECK(path.is_unique);
  CHECK_FALSE(margin_plateaus(margin_data("two_optima")).require_ok().is_unique);
  for (const char* problem : {"all_support", "one_free", "two_optima"}) {
    const Dataset<> of_table = margin_data(problem);
    const MarginPlateau<> last = margin_plateaus(of_table, MarginLoss::logistic).require_ok().plateaus.back();
    CHECK(last.margin == Approx(1 / max_margin_l1(of_table).require_ok().beta.lpNorm<1>()).epsilon(1e-9));
    CHECK((signed_rows(of_table) * last.beta).minCoeff() == Approx(1).epsilon(1e-12));
  }
}

TEST_CASE("plateaus of tied data end at the best l1 margin", "[limits]") {
  // Coordinates 4 and 6 come in at 0 on the last plateau but one, each when the other moves inwards.
  const Dataset<> smallest(Matrix<double>{{-1, -1, -1, 1, 1, -1, 1, -1},
                                          {1, 1, -1, 1, 1, 1, 1, 1},
                                          {1, -1, -1, -1, 1, -1, -1, -1},
                                          {1, -1, -1, -1, -1, -1, 1, 1},
                                          {-1, 1, 1, 1, 1, 1, -1, -1},
                                          {1, -1, 1, -1, 1, -1, 1, -1}},
                           Vector<double>{{-1, 1, -1, -1, 1, 1}});
  CHECK(margin_plateaus(smallest).require_ok().is_l1_margin);
  // One that came in at 0 has to come in again with the other sign.
  const Dataset<> crossing(Matrix<double>{{2, 1, -2}, {2, 2, 2}, {-2, 1, -1}}, Vector<double>::Ones(3));
  CHECK(margin_plateaus(crossing).require_ok().is_l1_margin);
  for (unsigned trial = 0; trial < 60; ++trial) {
    const Dataset<> data = trial == 59  ? sign_classes(40055, 40, 80)
                           : trial < 40 ? sign_classes(6000 + trial, 6, 8)
                                        : sign_classes(20000 + trial, 20, 40);
    const MarginPlateaus<> path = margin_plateaus(data);
    if (!path.is_separable) continue;
    CAPTURE(trial, path.message);
    REQUIRE(path.ok());
    CHECK(path.is_l1_margin);
    for (const MarginPlateau<>& plateau : path.plateaus)
      CHECK((signed_rows(data) * plateau.beta).minCoeff() >= 1 - 4e-11);
    CHECK(path.plateaus.back().margin == Approx(1 / max_margin_l1(data).require_ok().beta.lpNorm<1>()).epsilon(1e-9));
  }
}

TEST_CASE("the flow from tiny starts rests on the plateaus", "[limits]") {
  RandomStream random(32);
  Index compared = 0;
  for (int trial = 0; trial < 10; ++trial) {
    const Dataset<> data = plateau_classes(random, 3 + trial % 4, 8);
    const MarginLoss loss = trial % 2 == 0 ? MarginLoss::exponential : MarginLoss::logistic;
    const MarginPlateaus<> path = margin_plateaus(data, loss);
    INFO(path.message);
    REQUIRE(path.ok());
    CHECK(path.is_l1_margin);
    const double log_alpha = -100;
    const DiagonalNet<double> net(2, 8);
    const Classification<> run = simulate_classification(net, data, Start<>::uniform(Scale<>::from_log(log_alpha)),
                                                         {.loss = loss, .log_accuracies = {-1e3, -1e5, -1e7}});
    INFO(run.message);
    REQUIRE(run.ok());
    for (const ClassificationRecord<>& record : run.records) {
      const double kappa = std::log(record.margin) / -log_alpha;
      const MarginPlateau<>& here = path.at(kappa);
      // What enters grows beside the rest as exp(gain * (log margin - its log margin at the jump)): off by some
      // e-folds.
      bool is_near_jump = kappa < 0.06;
      for (std::size_t k = 1; k < path.plateaus.size(); ++k) {
        const MarginPlateau<>& before = path.plateaus[k - 1];
        const Vector<double> prices = signed_rows(data).transpose() * before.weights / before.margin;
        double gain = 1;
        for (const Index i : path.plateaus[k].entered) gain = std::min(gain, std::abs(prices[i]) - 1);
        is_near_jump = is_near_jump || std::abs(path.plateaus[k].kappa - kappa) < 0.06 / gain;
      }
      if (is_near_jump) continue;
      CAPTURE(trial, kappa, path.plateaus.size());
      // What leaves decays beside the rest like a power of the margin, from e^(0.06 * 100) e-folds of it on.
      CHECK((record.beta / record.margin - here.beta).norm() <= std::exp(-0.06 * 100 / 2) * here.beta.norm());
      ++compared;
    }
  }
  CHECK(compared >= 12);
}

TEST_CASE("plateaus refuse what has none", "[limits]") {
  const Matrix<double> X{{1, 2}, {1, 2}};
  const MarginPlateaus<> none = margin_plateaus(Dataset(X, Vector<double>{{1, -1}}));
  CHECK_FALSE(none.ok());
  CHECK_FALSE(none.is_separable);
  REQUIRE_THROWS_AS(none.at(0), ArgumentError);
  REQUIRE_THROWS_AS(margin_plateaus(Dataset(X, Vector<double>{{1, 2}})), ArgumentError);
  const Dataset<> data = margin_data("one_free");
  REQUIRE_THROWS_AS(margin_plateaus(data, MarginLoss::exponential, 1), ArgumentError);
  REQUIRE_THROWS_AS(margin_plateaus(data, MarginLoss::exponential, 3, Vector<double>(Vector<double>::Ones(7))),
                    DimensionError);
  REQUIRE_THROWS_AS(margin_plateaus(data, MarginLoss::exponential, 3, Vector<double>(Vector<double>::Zero(8))),
                    ArgumentError);
  // One sample: its longest entry alone, from the first on.
  const MarginPlateaus<> one = margin_plateaus(Dataset(Matrix<double>{{1, -3, 2}}, Vector<double>{{-1}})).require_ok();
  REQUIRE(one.plateaus.size() == 1);
  CHECK(one.plateaus[0].beta[1] == Approx(1.0 / 3).epsilon(1e-15));
  CHECK(one.saddles == 1);
}
