#include "richflow/minimizers/dual_watch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "richflow/linalg/scaling.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("columns that are not watched cannot come to their thresholds before nu has gone its way") {
  RandomStream random(2510);
  const Index n = 9, d = 400;
  const Matrix<double> X = random_matrix(random, n, d);
  const Vector<double> sizes = detail::lengths_of_columns(X);
  const Vector<double> upper = random_positive_vector(random, d, 0.5, 2),
                       lower = random_positive_vector(random, d, 0.5, 2);
  detail::DualWatch<double> watch(X, sizes, upper, lower);
  CHECK(static_cast<Index>(watch.columns().size()) == d);
  Vector<double> nu = random_vector(random, n), dual(d), slopes;
  // Inside all thresholds; two columns are said to be on theirs.
  nu *= 0.4 / (X.transpose() * nu).cwiseAbs().maxCoeff();
  std::vector<signed char> side(static_cast<std::size_t>(d), 0);
  side[7] = 1;
  side[123] = -1;
  CHECK(watch.way(nu, nu) == std::numeric_limits<double>::infinity());
  watch.renew(nu, side, 2, dual);
  const std::vector<Index>& watched = watch.columns();
  REQUIRE(static_cast<Index>(watched.size()) < d / 2);
  CHECK(std::is_sorted(watched.begin(), watched.end()));
  CHECK(dual[7] == upper[7]);
  CHECK(dual[123] == -lower[123]);
  const auto is_watched = [&](Index i) { return std::binary_search(watched.begin(), watched.end(), i); };
  CHECK(is_watched(7));
  CHECK(is_watched(123));
  watch.multiply(nu, slopes);
  for (std::size_t k = 0; k < watched.size(); ++k)
    CHECK_THAT(slopes[static_cast<Index>(k)], near(X.col(watched[k]).dot(nu), 1e-14, 1e-15));
  for (Index i = 0; i < d; ++i) {
    if (side[static_cast<std::size_t>(i)] == 0) CHECK_THAT(dual[i], near(X.col(i).dot(nu), 1e-14, 1e-15));
    if (is_watched(i)) continue;
    // The worst that can happen to a column: nu goes straight towards one of its thresholds, directly or in two legs.
    for (const double sign : {1.0, -1.0}) {
      const Vector<double> direction = sign * X.col(i);
      const Vector<double> half = nu + 0.5 * watch.way(nu, direction) * direction;
      const Vector<double> end = half + watch.way(half, direction) * direction;
      CHECK((end - nu - watch.way(nu, direction) * direction).norm() <= 1e-14);
      CHECK(X.col(i).dot(end) < upper[i]);
      CHECK(X.col(i).dot(end) > -lower[i]);
    }
  }
  CHECK(watch.way(nu, Vector<double>::Zero(n)) == std::numeric_limits<double>::infinity());
  watch.watch_all();
  CHECK(static_cast<Index>(watch.columns().size()) == d);
}

TEST_CASE("a watch widens when it ends soon and narrows when it lasts, within its bounds") {
  RandomStream random(2511);
  const Index n = 6, d = 3000;
  const Matrix<double> X = random_matrix(random, n, d);
  const Vector<double> sizes = detail::lengths_of_columns(X), ones = Vector<double>::Ones(d);
  const std::vector<signed char> side(static_cast<std::size_t>(d), 0);
  detail::DualWatch<double> watch(X, sizes, ones, ones);
  Vector<double> nu = random_vector(random, n), dual(d), slopes;
  nu *= 0.5 / (X.transpose() * nu).cwiseAbs().maxCoeff();
  watch.renew(nu, side, 0, dual);
  const auto first = watch.columns().size();
  watch.multiply(nu, slopes);
  CHECK(!watch.is_old());
  watch.renew(nu, side, 0, dual);
  const auto second = watch.columns().size();
  CHECK(second > first);
  int steps = 0;
  for (; !watch.is_old(); ++steps) watch.multiply(nu, slopes);
  // From one choice to the next the steps cost what a few renewals do.
  CHECK(steps * static_cast<int>(second) >= 2 * d);
  CHECK(steps * static_cast<int>(second) <= 10 * d);
  watch.renew(nu, side, 0, dual);
  CHECK(watch.columns().size() < second);
  // Where half of them are at their thresholds, a choice does not pay.
  detail::DualWatch<double> small(X, sizes, ones, ones);
  small.renew(nu, side, d / 2, dual);
  CHECK(static_cast<Index>(small.columns().size()) == d);
}
