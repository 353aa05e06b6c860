#include "richflow/limits/quasi_norm_margin.hpp"

#include <Eigen/LU>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "richflow/bias/simulate_classification.hpp"
#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// The least `sum |b|^power` of all vertices of `Z b >= 1` within orthants, by solving every square system: a concave
/// function on an orthant's polyhedron has its minimum at one of them.
double least_of_all_vertices(const Matrix<double>& Z, double power) {
  const Index N = Z.rows(), d = Z.cols();
  double best = std::numeric_limits<double>::infinity();
  for (Index rows = 1; rows < (Index(1) << N); ++rows)
    for (Index columns = 1; columns < (Index(1) << d); ++columns) {
      std::vector<Index> in, of;
      for (Index n = 0; n < N; ++n)
        if ((rows >> n & 1) != 0) in.push_back(n);
      for (Index i = 0; i < d; ++i)
        if ((columns >> i & 1) != 0) of.push_back(i);
      if (in.size() != of.size()) continue;
      const auto k = static_cast<Index>(in.size());
      Matrix<double> A(k, k);
      for (Index r = 0; r < k; ++r)
        for (Index c = 0; c < k; ++c) A(r, c) = Z(in[static_cast<std::size_t>(r)], of[static_cast<std::size_t>(c)]);
      const Eigen::PartialPivLU<Matrix<double>> lu(A);
      if (!(std::abs(lu.determinant()) > 1e-9)) continue;
      const Vector<double> c = lu.solve(Vector<double>::Ones(k));
      Vector<double> b = Vector<double>::Zero(d);
      for (Index j = 0; j < k; ++j) b[of[static_cast<std::size_t>(j)]] = c[j];
      if ((Z * b).minCoeff() < 1 - 1e-9) continue;
      best = std::min(best, c.cwiseAbs().array().pow(power).sum());
    }
  return best;
}

/// The conditions of a stationary point, from the data.
void check_stationary(const StationaryMargin<>& result, const Matrix<double>& Z) {
  INFO(result.message);
  REQUIRE(result.ok());
  const double power = 2.0 / static_cast<double>(result.depth);
  // Square systems of order 6 or less, of condition 1e4 at most.
  const Vector<double> m = Z * result.beta;
  CHECK(m.minCoeff() >= 1 - 1e-10);
  CHECK(result.multipliers.minCoeff() >= 0);
  const Vector<double> slopes = Z.transpose() * result.multipliers;
  for (Index i = 0; i < slopes.size(); ++i) {
    if (result.beta[i] == 0) continue;
    const double wanted = std::copysign(power * std::pow(std::abs(result.beta[i]), power - 1), result.beta[i]);
    CHECK(slopes[i] == Approx(wanted).epsilon(1e-9));
  }
  CHECK(result.multipliers.dot((m.array() - 1).matrix()) <= 1e-10 * result.multipliers.sum());
  CHECK(result.nonzero.size() >= result.support.size());
  CHECK(result.value == Approx(result.beta.cwiseAbs().array().pow(power).sum()).epsilon(1e-12));
  CHECK(result.value >= result.lower_bound * (1 - 1e-9));
}

}  // namespace

TEST_CASE("stationary points of the l_{2/D} margin, beside the best of all vertices", "[limits]") {
  RandomStream random(51);
  Index global = 0, cases = 0;
  for (int trial = 0; trial < 24; ++trial) {
    const Index N = 2 + trial % 3, d = 3 + trial % 4;
    Matrix<double> Z(N, d);
    for (Index n = 0; n < N; ++n) Z.row(n) = random_vector(random, d);
    const Vector<double> b = random_vector(random, d);
    for (Index n = 0; n < N; ++n)
      if (Z.row(n).dot(b) < 0) Z.row(n) *= -1;
    const Dataset<> data(Z, Vector<double>::Ones(N));
    for (const Index depth : {Index(3), Index(5)}) {
      CAPTURE(trial, depth, N, d);
      const StationaryMargin<> result = stationary_margin(data, depth);
      check_stationary(result, Z);
      const double best = least_of_all_vertices(Z, 2.0 / static_cast<double>(depth));
      CHECK(result.value >= best * (1 - 1e-9));
      global += result.value <= best * (1 + 1e-9) ? 1 : 0;
      ++cases;
      // Nothing near is lower: within the polyhedron a step of 1e-3 of each entry, made feasible again by its length.
      if (!result.is_strict_local_minimum) continue;
      for (int k = 0; k < 10; ++k) {
        Vector<double> near = result.beta + 1e-3 * result.beta.cwiseAbs().maxCoeff() * random_vector(random, d);
        near /= std::min(1.0, (Z * near).minCoeff());
        CHECK(near.cwiseAbs().array().pow(2.0 / static_cast<double>(depth)).sum() >= result.value * (1 - 1e-9));
      }
    }
  }
  // A local method: 34 of them were global, which rounding may change in ties.
  CHECK(cases == 48);
  CHECK(global >= 30);
}

TEST_CASE("the flow of a deep net ends at the stationary point below it", "[limits]") {
  const Dataset<> data = margin_data("one_free");
  const DiagonalNet<double> net(3, 8);
  const Classification<> run =
      simulate_classification(net, data, Start<>::uniform(Scale<>::from_log(0)), {.log_accuracies = {-1e4}});
  const Vector<double> at = run.require_ok().beta();
  const StationaryMargin<> below = stationary_margin(data, 3, at);
  check_stationary(below, signed_rows(data));
  // The flow's own distance at this accuracy, entries of the size alpha^3 beside 1e4 and 1 / |log L|: see the records'
  // stationarity, 2e-2.
  CHECK((at / run.records[0].margin - below.beta).norm() <= 2e-2 * below.beta.norm());
  check_stationary(stationary_margin(data, 3), signed_rows(data));
}

TEST_CASE("the l_{2/D} margin: one sample, copies, zero columns and what has none", "[limits]") {
  // One entry: the longest, whose value meets the bound.
  const Dataset<> one(Matrix<double>{{1, 0, -4, 2}}, Vector<double>{{-1}});
  const StationaryMargin<> single = stationary_margin(one, 4).require_ok();
  CHECK(single.nonzero == std::vector<Index>{2});
  CHECK(single.beta[2] == Approx(0.25).epsilon(1e-15));
  CHECK(single.value == Approx(single.lower_bound).epsilon(1e-9));
  // An l1 margin that was not proved bounds nothing.
  MarginResult<> l1 = max_margin_l1(one);
  CHECK(detail::least_l1_of(l1) == l1.beta.lpNorm<1>());
  l1.status = Status::stalled;
  CHECK(detail::least_l1_of(l1) == 0.0);
  const Dataset<> data = margin_data("all_support");
  Matrix<double> X(8, 8);
  X << Vector<double>::Zero(4), data.X(), Vector<double>::Zero(4), data.X();
  Vector<double> y(8);
  y << data.y(), data.y();
  const Dataset twice(X, y);
  const StationaryMargin<> copies = stationary_margin(twice, 3);
  check_stationary(copies, signed_rows(twice));
  CHECK(copies.value == Approx(stationary_margin(data, 3).require_ok().value).epsilon(1e-9));
  const Dataset<float> in_float(data.X().cast<float>(), data.y().cast<float>());
  CHECK(stationary_margin(in_float, 3).require_ok().value == Approx(copies.value).epsilon(1e-3));

  REQUIRE_THROWS_AS(stationary_margin(data, 2), ArgumentError);
  REQUIRE_THROWS_AS(stationary_margin(data, 3, Vector<double>(Vector<double>::Zero(7))), ArgumentError);
  REQUIRE_THROWS_AS(stationary_margin(data, 3, Vector<double>(Vector<double>::Ones(6))), DimensionError);
  const StationaryMargin<> none =
      stationary_margin(Dataset(Matrix<double>{{1, 2}, {1, 2}}, Vector<double>{{1, -1}}), 3);
  CHECK_FALSE(none.ok());
  CHECK_FALSE(none.is_separable);
}
