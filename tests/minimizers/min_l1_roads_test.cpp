#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "richflow/minimizers/l1_certificate.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Integers = std::vector<std::vector<std::int64_t>>;

/// The determinant of a small matrix of small integers, exact at every step (Bareiss 1968).
std::int64_t exact_determinant(Integers A) {
  const std::size_t n = A.size();
  std::int64_t sign = 1, last = 1;
  for (std::size_t k = 0; k + 1 < n; ++k) {
    std::size_t row = k;
    while (row < n && A[row][k] == 0) ++row;
    if (row == n) return 0;
    if (row != k) {
      std::swap(A[row], A[k]);
      sign = -sign;
    }
    for (std::size_t i = k + 1; i < n; ++i)
      for (std::size_t j = k + 1; j < n; ++j) A[i][j] = (A[i][j] * A[k][k] - A[i][k] * A[k][j]) / last;
    last = A[k][k];
  }
  return sign * A[n - 1][n - 1];
}

/// The vertices of least l1 norm among all solutions of integer equations, as fractions.
struct ExactLeastL1 {
  std::int64_t numerator = -1, denominator = 1;  // of the norm; -1 where there is no vertex
  std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> vertices = {};

  [[nodiscard]] double norm() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
};

/// By Cramer's rule at every basis; X of full row rank.
ExactLeastL1 exact_least_l1(const Integers& columns, const std::vector<std::int64_t>& y) {
  const std::size_t n = y.size(), d = columns.size();
  ExactLeastL1 best;
  std::vector<bool> chosen(d, false);
  std::fill(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(n), true);
  do {
    Integers basis;
    std::vector<std::size_t> places;
    for (std::size_t j = 0; j < d; ++j) {
      if (!chosen[j]) continue;
      basis.push_back(columns[j]);
      places.push_back(j);
    }
    const std::int64_t whole = exact_determinant(basis);
    if (whole == 0) continue;
    std::vector<std::pair<std::int64_t, std::int64_t>> beta(d, {0, 1});
    std::int64_t sum = 0;
    for (std::size_t k = 0; k < n; ++k) {
      Integers replaced = basis;
      replaced[k] = y;
      const std::int64_t part = exact_determinant(replaced);
      const std::int64_t common = std::gcd(part, whole) * (whole < 0 ? -1 : 1);
      beta[places[k]] = {part / common, whole / common};
      sum += std::abs(part);
    }
    const std::int64_t bottom = std::abs(whole);
    if (best.numerator < 0 || sum * best.denominator < best.numerator * bottom) {
      best.numerator = sum;
      best.denominator = bottom;
      best.vertices.clear();
    }
    const bool is_least = sum * best.denominator == best.numerator * bottom;
    if (is_least && std::find(best.vertices.begin(), best.vertices.end(), beta) == best.vertices.end())
      best.vertices.push_back(beta);
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  return best;
}

/// Optimality without trust in the solver, and that it is a vertex.
void check_vertex(const MinL1Result<>& result, const Dataset<>& data) {
  CAPTURE(result.message);
  REQUIRE(result.ok());
  const Vector<double> ones = Vector<double>::Ones(data.num_inputs());
  const L1Certificate<> certificate = certify_l1(data, result.beta, result.nu, ones, ones);
  // What `ok` promises.
  CHECK(certificate.primal_residual <= 1e-12);
  CHECK(certificate.dual_excess <= 1e-12);
  CHECK(std::abs(certificate.duality_gap) <= 1e-12);
  std::vector<Index> support;
  for (Index i = 0; i < data.num_inputs(); ++i)
    if (result.beta[i] != 0) support.push_back(i);
  detail::UpdatableQr<double> qr;
  qr.reset(data.num_samples());
  for (const Index i : support) CHECK(qr.append(data.X().col(i).data()));
}

}  // namespace

TEST_CASE("minimum l1: homotopy and simplex end at the same vertex, at every aspect ratio", "[minimizers][property]") {
  RandomStream random(2501);
  for (const auto& [n, d] : std::vector<std::pair<Index, Index>>{
           {1, 400}, {2, 3000}, {5, 70}, {12, 900}, {30, 31}, {30, 200}, {40, 500}, {60, 130}}) {
    for (const bool sparse : {false, true}) {
      Matrix<double> X = random_matrix(random, n, d);
      Vector<double> y = random_vector(random, n);
      if (sparse) y = X.col(0) - 2 * X.col(d - 1);
      const Dataset<> data(std::move(X), std::move(y));
      const MinL1Result<> path = min_l1_interpolator(data), simplex = min_l1_interpolator(data, MinL1Road::simplex);
      CAPTURE(n, d, sparse);
      CHECK(path.road == MinL1Road::homotopy);
      CHECK(path.knots > 0);
      CHECK(path.pivots == 0);
      CHECK(simplex.road == MinL1Road::simplex);
      CHECK(simplex.knots == 0);
      check_vertex(path, data);
      check_vertex(simplex, data);
      CHECK_THAT(path.objective, near(simplex.objective, 1e-12, 0));
      CHECK(path.is_unique);
      // Two certified solutions, 1e-12 each, times the condition of the basis.
      CHECK((path.beta - simplex.beta).norm() <= 1e-9 * simplex.beta.norm());
    }
  }
}

TEST_CASE("minimum l1 of small integers is that of exact arithmetic, and only what is unique is called so") {
  RandomStream random(2502);
  int unique = 0, several = 0, called_unique = 0;
  for (int trial = 0; trial < 250; ++trial) {
    const auto n = static_cast<std::size_t>(1 + random.uniform_integer(3));
    const auto d = n + static_cast<std::size_t>(random.uniform_integer(6));
    const auto integer = [&](int most) {
      return static_cast<std::int64_t>(random.uniform_integer(static_cast<std::uint64_t>(2 * most + 1))) - most;
    };
    Integers columns(d, std::vector<std::int64_t>(n));
    std::vector<std::int64_t> labels(n);
    Matrix<double> X(static_cast<Index>(n), static_cast<Index>(d));
    Vector<double> y(static_cast<Index>(n));
    for (std::size_t j = 0; j < d; ++j)
      for (std::size_t i = 0; i < n; ++i) {
        columns[j][i] = integer(1 + trial % 3);
        X(static_cast<Index>(i), static_cast<Index>(j)) = static_cast<double>(columns[j][i]);
      }
    for (std::size_t i = 0; i < n; ++i) {
      labels[i] = integer(4);
      y[static_cast<Index>(i)] = static_cast<double>(labels[i]);
    }
    const ExactLeastL1 exact = exact_least_l1(columns, labels);
    if (exact.numerator <= 0) continue;  // dependent rows, or nothing to fit
    const Dataset<> data(X, y);
    for (const MinL1Road road : {MinL1Road::homotopy, MinL1Road::simplex}) {
      const MinL1Result<> result = min_l1_interpolator(data, road);
      CAPTURE(trial, n, d, result.message);
      check_vertex(result, data);
      CHECK(result.road == road);
      // Entries of a few units, with denominators below 100.
      CHECK_THAT(result.objective, near(exact.norm(), 1e-13, 0));
      if (result.is_unique) {
        REQUIRE(exact.vertices.size() == 1);
        for (std::size_t j = 0; j < d; ++j) {
          const auto& [top, bottom] = exact.vertices[0][j];
          CHECK_THAT(result.beta[static_cast<Index>(j)],
                     near(static_cast<double>(top) / static_cast<double>(bottom), 1e-13, 1e-13));
        }
      }
      if (road == MinL1Road::homotopy) called_unique += result.is_unique ? 1 : 0;
    }
    (exact.vertices.size() == 1 ? unique : several) += 1;
  }
  CAPTURE(unique, several, called_unique);
  CHECK(several >= 30);
  CHECK(unique >= 80);
  // The dual may be degenerate, but not often.
  CHECK(called_unique >= 0.9 * unique);
}

TEST_CASE("minimum l1: the simplex stands in where the end of the path is not proved") {
  RandomStream random(2503);
  // Rows over 18 decades, of which the last are rounding to the path.
  Matrix<double> X = random_matrix(random, 6, 20);
  const Vector<double> truth = random_vector(random, 20);
  const Dataset<> plain(X, X * truth);
  for (Index n = 0; n < 6; ++n) X.row(n) *= std::pow(10.0, 9 - 18 * static_cast<double>(n) / 5);
  const Dataset<> graded(X, X * truth);
  const MinL1Result<> rescued = min_l1_interpolator(graded), direct = min_l1_interpolator(graded, MinL1Road::simplex);
  CAPTURE(rescued.message);
  REQUIRE(rescued.ok());
  CHECK(rescued.road == MinL1Road::simplex);
  CHECK(rescued.knots > 0);
  CHECK(rescued.beta == direct.beta);
  const MinL1Result<> expected = min_l1_interpolator(plain);
  CHECK(expected.road == MinL1Road::homotopy);
  // The rounding of the labels, times the condition of the basis.
  CHECK((rescued.beta - expected.beta).norm() <= 1e-9 * expected.beta.norm());
  // Where nothing fits, both say so.
  Matrix<double> twice(2, 3);
  twice << 1, 2, 3, 2, 4, 6;
  const Dataset<> contradiction(twice, Vector<double>(Eigen::Vector2d(1, 3)));
  CHECK_THROWS_AS(min_l1_interpolator(contradiction), InfeasibleError);
  CHECK_THROWS_AS(min_l1_interpolator(contradiction, MinL1Road::simplex), InfeasibleError);
}

TEST_CASE("minimum l1 with weights takes the road it is asked for") {
  RandomStream random(2504);
  const Dataset<> data = gaussian_data(random, 10, 90);
  const Vector<double> weights = random_positive_vector(random, 90, 0.2, 5.0);
  const MinL1Result<> path = min_l1_interpolator(data, weights);
  const MinL1Result<> simplex = min_l1_interpolator(data, weights, MinL1Road::simplex);
  REQUIRE(path.ok());
  REQUIRE(simplex.ok());
  CHECK(path.road == MinL1Road::homotopy);
  CHECK(simplex.road == MinL1Road::simplex);
  CHECK_THAT(path.objective, near(simplex.objective, 1e-12, 0));
  CHECK((path.beta - simplex.beta).norm() <= 1e-9 * path.beta.norm());
}

TEST_CASE("minimum l1 in single precision is the vertex of the same data, at its own rounding") {
  RandomStream random(2505);
  for (const auto& [n, d] : {std::pair<Index, Index>{5, 40}, {50, 300}, {60, 40}}) {
    const Matrix<float> X = random_matrix(random, n, d).cast<float>();
    const Vector<float> y = n < d ? random_vector(random, n).cast<float>().eval()
                                  : Vector<float>(X * random_vector(random, d).cast<float>());
    const MinL1Result<float> result = min_l1_interpolator(Dataset<float>(X, y));
    CAPTURE(n, d, result.message);
    REQUIRE(result.ok());
    if (n < d) {
      CHECK(result.road == MinL1Road::homotopy);
      const MinL1Result<> wide = min_l1_interpolator(Dataset<>(X.cast<double>(), y.cast<double>()));
      // The entries of beta, rounded.
      CHECK((result.beta.cast<double>() - wide.beta).norm() <= 1e-6 * wide.beta.norm());
      CHECK_THAT(result.objective, near(static_cast<float>(wide.objective), 1e-6F, 0));
    }
    CHECK((X.cast<double>() * result.beta.cast<double>() - y.cast<double>()).norm() <= 1e-5 * y.cast<double>().norm());
    CHECK((X.transpose() * result.nu).cwiseAbs().maxCoeff() <= 1 + 1e-6F);
  }
}

namespace {

/// How far nu is from a proof that beta is of least norm: by what its prices exceed 1, and the relative gap. In sums of
/// wider numbers.
std::pair<double, double> distance_from_proof(const MinL1Result<>& result, const Dataset<>& data) {
  const Matrix<long double> X = data.X().cast<long double>();
  const Vector<long double> nu = result.nu.cast<long double>();
  const long double norm = result.beta.cast<long double>().lpNorm<1>();
  const long double value = data.y().cast<long double>().dot(nu);
  const long double largest = (X.transpose() * nu).cwiseAbs().maxCoeff();
  return {static_cast<double>(largest - 1), static_cast<double>(std::abs(norm - value) / norm)};
}

}  // namespace

TEST_CASE("minimum l1: the dual is a proof where columns differ by many decades", "[minimizers][property]") {
  const auto check = [](const MinL1Result<>& result, const Dataset<>& data) {
    CAPTURE(result.message, data.X(), result.nu);
    REQUIRE(result.ok());
    const auto [excess, gap] = distance_from_proof(result, data);
    // What `ok` promises, and as much for the rounding of nu and of the norm.
    CHECK(excess <= 2e-12);
    CHECK(gap <= 2e-12);
    CHECK_THAT(result.duality_gap, near(gap, 0, 2e-12));
  };
  const auto both = [&](const Matrix<double>& X, const Vector<double>& y) {
    const Dataset<> data(X, y);
    const MinL1Result<> path = min_l1_interpolator(data), simplex = min_l1_interpolator(data, MinL1Road::simplex);
    check(path, data);
    check(simplex, data);
    CHECK_THAT(path.objective, near(simplex.objective, 2e-12, 0));
  };
  // Prices of the large columns are rounded to more than 1, and to .2.
  Matrix<double> X(2, 3);
  X << 0, 2e8, 0, 0, -2e8, 1e-8;
  const Vector<double> y{{1, 2}};
  both(X, y);
  X << 2e-7, 2e8, 2e6, 0, -1e8, -1e6;
  both(X, y);
  RandomStream random(2506);
  for (const int decades : {2, 4, 6, 8}) {
    for (int trial = 0; trial < 40; ++trial) {
      const bool is_small = trial % 2 == 0;
      const Index n = is_small ? 2 : 2 + trial / 2, d = n + (is_small ? 2 : 12);
      Matrix<double> columns = random_matrix(random, n, d);
      // Of small integers, so that vertices are degenerate.
      if (is_small) columns = (2 * columns).array().round();
      if (is_small) columns.leftCols(2) << 1, 1, 0, 1;
      for (Index j = 0; j < d; ++j)
        columns.col(j) *= std::pow(
            10.0, static_cast<double>(random.uniform_integer(static_cast<std::uint64_t>(2 * decades + 1))) - decades);
      CAPTURE(decades, trial);
      both(columns, is_small ? y : random_vector(random, n));
    }
  }
}
