// Features and samples in any units: what the minimizers promise holds in the data as given.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/status.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)
#include <boost/multiprecision/cpp_bin_float.hpp>
#endif

using namespace richflow;
using namespace test_support;

namespace {

Dataset<> dataset(Index n, Index d, const std::vector<double>& rows, const std::vector<double>& y) {
  Matrix<double> X(n, d);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j) X(i, j) = rows[static_cast<std::size_t>(i * d + j)];
  return {X, Eigen::Map<const Vector<double>>(y.data(), n)};
}

Dataset<> ratio(double unit) { return dataset(2, 3, {unit, 1, 2, 3, 1, 1}, {1, 2}); }
Dataset<> milliseconds() { return dataset(2, 3, {1700000000000, 0, 2, 0, 1, 2}, {1, 1}); }
Dataset<> nanoseconds() {
  return dataset(3, 5, {1.700000000123e18, 1, 0, 1, .5, 1.700000060456e18, 0, 1, 1, .25, 1.700000123789e18, 1, 1, 0, 1},
                 {1, 0, 1});
}
Dataset<> scaled() {
  return dataset(4, 8, {0.009748640287032838,  6.482404052376027e-07,  -0.6585830644379084, -5.872968381685387e-06,
                        -118630.02816994421,   0.0006297879946119585,  1441658.8377519548,  -5.259554755005256e-07,
                        -0.016978180669477802, 2.0000424260489841e-07, 0.7077694241065318,  -2.7221238497250926e-05,
                        13835.60396321788,     0.0021643869796808407,  820647.6094296887,   5.504588009224558e-07,
                        0.004021212773250661,  1.0618988212946601e-06, -0.941167253806946,  -8.45337802436993e-06,
                        40756.93088941364,     -0.0006853293444903695, 258702.42021479423,  -1.9125624836303925e-06,
                        0.007579546637146332,  8.469714121998347e-07,  0.04367790209725824, 1.6442294114809471e-06,
                        162065.10857032432,    -0.0010830946278820044, -913156.6562852219,  -1.093806293915453e-06},
                 {-2.7275454068021725, 2.315135973664454, -3.9201476608010077, -2.4521850064977553});
}

double residual_of(const Dataset<>& data, const Vector<double>& beta) {
  return (data.X() * beta - data.y()).norm() / data.y().norm();
}

/// Entry by entry, to the digits in which the exact values are known.
void check_entries(const Vector<double>& beta, const std::vector<double>& exact) {
  for (std::size_t i = 0; i < exact.size(); ++i)
    CHECK(std::abs(beta[static_cast<Index>(i)] - exact[i]) <= 1e-11 * std::abs(exact[i]));
}

template <class Mirror>
Vector<double> mirror_start(const Mirror& mirror, double log_alpha) {
  const Index d = mirror.dimension();
  Vector<double> start(d), curvature(d);
  mirror.with_scale(Scale<>::from_log(log_alpha)).mirror(Vector<double>::Zero(d), start, curvature);
  return start;
}

template <class Mirror>
void check_path(const Dataset<>& data, const Mirror& mirror, std::initializer_list<double> log_alphas) {
  MirrorPath<Mirror> path(data, mirror);
  for (const double log_alpha : log_alphas) {
    CAPTURE(log_alpha);
    const MinimizerResult<> result = path.solve(Scale<>::from_log(log_alpha));
    CHECK(result.ok());
    // What `ok` promises, at any bias: relative to |y| or |X beta(0)|, whichever is larger.
    CHECK(result.certificate.primal_residual <= 1e-12);
    CHECK(data.residual_norm(result.beta) <=
          1e-12 * std::max(data.y().norm(), (data.X() * mirror_start(mirror, log_alpha)).norm()));
    // The proof: rounding of z at |z| ~ 1000.
    CHECK(result.certificate.kkt_residual <= 1e-11);
    CHECK(std::abs(result.certificate.duality_gap) <= 1e-11);
  }
}

void check_every_path(const Dataset<>& data, RandomStream& random) {
  const Index d = data.num_inputs();
  const Scale<> one = Scale<>::from_log(0);
  const Vector<double> shape = random_positive_vector(random, d, 0.5, 2);
  check_path(data, Hypentropy<>::uniform(d, one), {5, 2, 0, -2, -5, -10, -25, -100});
  check_path(data, Hypentropy<>::shaped(shape, one), {3, 0, -3, -20});
  const Vector<double> first_layer = random_positive_vector(random, d, 0.1, 2);
  const Vector<double> second_layer = random_positive_vector(random, d, 0.1, 2);
  check_path(data, Hypentropy<>::two_layer(first_layer, second_layer, one), {3, 0, -4, -25});
  check_path(data, DepthHypentropy<>::uniform(3, d, one), {3, 0, -2, -5, -8, -12});
  check_path(data, DepthHypentropy<>::shaped(3, shape, one), {0, -4});
  check_path(data, DepthHypentropy<>::uniform(5, d, one), {3, 0, -2, -4});
}

/// Units 10^(0 .. decades), one at each end at least, in no order.
Vector<double> random_units(RandomStream& random, Index size, double decades) {
  Vector<double> units(size);
  for (double& unit : units) unit = std::pow(10.0, decades * random.uniform(0, 1));
  units[static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(size)))] = std::pow(10.0, decades);
  return units;
}

#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)
using Wide = boost::multiprecision::number<boost::multiprecision::cpp_bin_float<100>, boost::multiprecision::et_off>;

/// The least-l2 solution with 100 digits, X of full row rank: `X^T (X X^T)^-1 y` by elimination.
std::vector<Wide> exact_least_l2(const Dataset<>& data) {
  const Index n = data.num_samples(), d = data.num_inputs();
  std::vector<std::vector<Wide>> rows(static_cast<std::size_t>(n), std::vector<Wide>(static_cast<std::size_t>(n + 1)));
  const auto at = [&](Index i, Index j) -> Wide& {
    return rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
  };
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j)
      for (Index k = 0; k < d; ++k) at(i, j) += Wide(data.X()(i, k)) * Wide(data.X()(j, k));
    at(i, n) = data.y()[i];
  }
  for (Index k = 0; k < n; ++k)
    for (Index i = 0; i < n; ++i) {
      if (i == k) continue;
      const Wide factor = at(i, k) / at(k, k);
      for (Index j = k; j <= n; ++j) at(i, j) -= factor * at(k, j);
    }
  std::vector<Wide> beta(static_cast<std::size_t>(d));
  for (Index k = 0; k < d; ++k)
    for (Index i = 0; i < n; ++i) beta[static_cast<std::size_t>(k)] += Wide(data.X()(i, k)) * at(i, n) / at(i, i);
  return beta;
}
#endif

}  // namespace

TEST_CASE("units: least l2 norm, exact values from rational arithmetic") {
  check_entries(min_l2_interpolator(ratio(1e10)), {-2.00000000075e-10, 1.00000000045, 1.00000000015});
  check_entries(min_l2_interpolator(milliseconds()), {1.17647058824e-13, .2, .4});
  check_entries(min_l2_interpolator(nanoseconds()),
                {3.03605300724e-19, .580645165606, -.354838725053, -.225806432191, .258064510633});
  check_entries(min_l2_interpolator(scaled()), {-120.802697784, -.00269510248823, 2.44000028195, -.0818927327579,
                                                -1.8458660108e-5, 3.63437343879, -1.48091987783e-6, .000283770059911});
  for (const Dataset<>& data : {ratio(1e7), ratio(1e10), ratio(1e18), milliseconds(), nanoseconds(), scaled()})
    CHECK(residual_of(data, min_l2_interpolator(data)) <= 1e-12);
}

TEST_CASE("units: least l1 norm, exact values from rational arithmetic") {
  const auto check = [](const Dataset<>& data, double norm) {
    const MinL1Result<> result = min_l1_interpolator(data).require_ok();
    CHECK(result.objective == Approx(norm).epsilon(1e-11));
    CHECK(residual_of(data, result.beta) <= 1e-12);
    CHECK(std::abs(result.duality_gap) <= 1e-11);
    return result;
  };
  CHECK(check(ratio(1e7), 2.0000004).is_unique);
  CHECK(check(ratio(1e10), 2.0000000004).is_unique);
  const MinL1Result<> in_milliseconds = check(milliseconds(), .5);
  CHECK(std::abs(in_milliseconds.beta[0]) <= 1e-27);
  CHECK(in_milliseconds.beta[2] == Approx(.5).epsilon(1e-14));
  (void)check(nanoseconds(), 1);
  const MinL1Result<> of_scaled = check(scaled(), 123.355550153);
  for (const Index j : {1, 3, 5, 7}) CHECK(of_scaled.beta[j] == 0.0);
  for (const Index j : {0, 2, 4, 6}) CHECK(of_scaled.beta[j] != 0.0);
}

TEST_CASE("units: every scale of every mirror map is solved, and ok means a residual in the data as given") {
  RandomStream random(71);
  for (const Dataset<>& data : {ratio(1e7), ratio(1e10), ratio(1e18), milliseconds(), nanoseconds(), scaled()}) {
    CAPTURE(data.X()(0, 0));
    check_every_path(data, random);
  }
}

TEST_CASE("units: columns of any ratio on every road") {
  RandomStream random(72);
  for (const double decades : {0., 3., 6., 9., 12., 15., 18.})
    for (int repeat = 0; repeat < 3; ++repeat) {
      CAPTURE(decades, repeat);
      const Index n = 4, d = 9;
      const Vector<double> units = random_units(random, d, decades);
      const Dataset data(random_matrix(random, n, d) * units.asDiagonal(), random_vector(random, n));
      const Vector<double> least = min_l2_interpolator(data);
      CHECK(residual_of(data, least) <= 1e-12);
#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)
      // Each entry relative to what it contributes: conditioning of Gaussian problems, some 1e3 at most.
      const std::vector<Wide> exact = exact_least_l2(data);
      const double size = (units.asDiagonal() * least).cwiseAbs().maxCoeff();
      for (Index j = 0; j < d; ++j) {
        const double error = static_cast<double>(abs(Wide(least[j]) - exact[static_cast<std::size_t>(j)]));
        CHECK(error * units[j] <= 1e-12 * size);
      }
#endif
      const MinL1Result<> sparse = min_l1_interpolator(data);
      CHECK(sparse.ok());
      CHECK(residual_of(data, sparse.beta) <= 1e-12);
      CHECK(std::abs(sparse.duality_gap) <= 1e-11);
      // The same problem in other words: norms weighted by the inverse units, of data without them. The solutions are
      // those of the plain data, which no unit troubles.
      const Dataset plain(data.X() * units.cwiseInverse().asDiagonal(), data.y());
      const Vector<double> weighted = min_l2_interpolator(data, Vector<double>(units.cwiseInverse()));
      CHECK((weighted.cwiseProduct(units) - min_l2_interpolator(plain)).norm() <= 1e-12 * plain.y().norm() * 1e2);
      const MinL1Result<> plain_sparse = min_l1_interpolator(plain).require_ok();
      const MinL1Result<> weighted_sparse = min_l1_interpolator(data, units).require_ok();
      CHECK(residual_of(data, weighted_sparse.beta) <= 1e-12);
      CHECK((weighted_sparse.beta.cwiseProduct(units) - plain_sparse.beta).norm() <= 1e-10 * plain_sparse.beta.norm());
      check_every_path(data, random);
    }
}

TEST_CASE("units: rows of any ratio leave the solutions where they are") {
  RandomStream random(73);
  for (const double decades : {3., 9., 18.}) {
    CAPTURE(decades);
    const Index n = 4, d = 9;
    const Dataset<> plain = gaussian_data(random, n, d);
    // Powers of two, so that both are the same problem to the last digit.
    Vector<double> units = random_units(random, n, decades);
    for (double& unit : units) unit = std::exp2(std::round(std::log2(unit)));
    const Dataset data(units.asDiagonal() * plain.X(), units.cwiseProduct(plain.y()));
    const auto check = [&](const Vector<double>& beta, const Vector<double>& expected) {
      CHECK((beta - expected).norm() <= 1e-9 * expected.norm());
      CHECK(residual_of(data, beta) <= 1e-12);
    };
    check(min_l2_interpolator(data), min_l2_interpolator(plain));
    check(min_l1_interpolator(data).require_ok().beta, min_l1_interpolator(plain).require_ok().beta);
    for (const double log_alpha : {2., -1., -6.}) {
      const Scale<> scale = Scale<>::from_log(log_alpha);
      HypentropyPath<> path(data, Hypentropy<>::uniform(d, scale)), plain_path(plain, Hypentropy<>::uniform(d, scale));
      check(path.solve(scale).require_ok().beta, plain_path.solve(scale).require_ok().beta);
      MirrorPath<DepthHypentropy<>> deep(data, DepthHypentropy<>::uniform(3, d, scale)),
          plain_deep(plain, DepthHypentropy<>::uniform(3, d, scale));
      check(deep.solve(scale).require_ok().beta, plain_deep.solve(scale).require_ok().beta);
    }
  }
}

TEST_CASE("units: redundant rows are recognized, and contradictions refused, in any units of rows and columns") {
  RandomStream random(74);
  for (const double decades : {0., 6., 12., 18.}) {
    CAPTURE(decades);
    const Index n = 4, d = 9;
    const Matrix<double> X = random_matrix(random, n, d);
    const Vector<double> y = random_vector(random, n);
    Matrix<double> twice(n + 2, d);
    twice << X, X.row(0), 2 * X.row(2);
    Vector<double> labels(n + 2);
    labels << y, y[0], 2 * y[2];
    Vector<double> rows = random_units(random, n + 2, decades / 2), columns = random_units(random, d, decades);
    for (double& unit : rows) unit = std::exp2(std::round(std::log2(unit)));
    for (double& unit : columns) unit = std::exp2(std::round(std::log2(unit)));
    const Matrix<double> in_units = rows.asDiagonal() * twice * columns.asDiagonal();
    const Dataset data(in_units, rows.cwiseProduct(labels));
    const OrthonormalRows<double> found(data);
    CHECK(found.X().rows() == n);
    CHECK(residual_of(data, min_l2_interpolator(data)) <= 1e-12);
    CHECK(residual_of(data, min_l1_interpolator(data).require_ok().beta) <= 1e-12);
    check_path(data, Hypentropy<>::uniform(d, Scale<>::from_log(0)), {1, -3, -30});
    check_path(data, DepthHypentropy<>::uniform(3, d, Scale<>::from_log(0)), {1, -3});

    // One label off by a part in 1e3 of itself, in whatever unit its row is.
    for (const Index k : {n, n + 1}) {
      Vector<double> wrong = data.y();
      wrong[k] *= 1.001;
      const Dataset contradiction(in_units, wrong);
      CHECK_THROWS_AS(min_l2_interpolator(contradiction), InfeasibleError);
      CHECK_THROWS_AS(min_l1_interpolator(contradiction), InfeasibleError);
      CHECK_THROWS_AS(HypentropyPath<>(contradiction, Hypentropy<>::uniform(d, Scale<>::from_log(0))), InfeasibleError);
      CHECK_THROWS_AS(
          MirrorPath<DepthHypentropy<>>(contradiction, DepthHypentropy<>::uniform(3, d, Scale<>::from_log(0))),
          InfeasibleError);
    }
  }
}

TEST_CASE("units: a biased start") {
  RandomStream random(75);
  for (const double decades : {6., 12.}) {
    CAPTURE(decades);
    const Index n = 3, d = 7;
    const Vector<double> units = random_units(random, d, decades);
    const Dataset data(random_matrix(random, n, d) * units.asDiagonal(), random_vector(random, n));
    const Vector<double> a = random_positive_vector(random, d, .5, 2), b = random_positive_vector(random, d, .5, 2);
    check_path(data, Hypentropy<>::biased(a, b, Scale<>::from_log(0)), {-5, -15, -40});
  }
}

TEST_CASE("a minimum-l1 interpolator says whether it is the only one") {
  const Dataset<> equal_columns = dataset(1, 2, {1, 1}, {3});
  const MinL1Result<> result = min_l1_interpolator(equal_columns).require_ok();
  CHECK(result.objective == Approx(3.0));
  CHECK_FALSE(result.is_unique);
  // The flow's limit lies on the segment, not at its end: beta_i = 2 alpha^2 w0_i^2 sinh(nu).
  Vector<double> w0(2);
  w0 << 1, 2;
  HypentropyPath<> path(equal_columns, Hypentropy<>::shaped(w0, Scale<>::from_log(0)));
  for (const double log_alpha : {3., 0., -10., -100., -500.}) {
    const Vector<double> beta = path.solve(Scale<>::from_log(log_alpha)).require_ok().beta;
    CHECK(beta[0] == Approx(.2 * 3).epsilon(1e-11));
    CHECK(beta[1] == Approx(.8 * 3).epsilon(1e-11));
  }
  Vector<double> weights(2);
  weights << 1, 2;
  CHECK(min_l1_interpolator(equal_columns, weights).require_ok().is_unique);
  CHECK(min_l1_interpolator(dataset(1, 2, {1, 1.001}, {3})).require_ok().is_unique);
  CHECK(min_l1_interpolator(dataset(2, 2, {1, 2, 3, 4}, {1, 1})).require_ok().is_unique);
  CHECK(min_l1_interpolator(dataset(1, 2, {1, 1}, {0})).require_ok().is_unique);
  // A sparse solution, at a degenerate vertex: a strict dual proves it.
  RandomStream random(76);
  const Matrix<double> X = random_matrix(random, 20, 40);
  Vector<double> sparse = Vector<double>::Zero(40);
  sparse[3] = 1;
  sparse[17] = -2;
  CHECK(min_l1_interpolator(Dataset(X, X * sparse)).require_ok().is_unique);
}

TEST_CASE("weights of norms count by their ratios, whatever their common size") {
  RandomStream random(77);
  const Dataset<> data = gaussian_data(random, 3, 8);
  const Vector<double> w = random_positive_vector(random, 8, .5, 2);
  const Vector<double> l2 = min_l2_interpolator(data, w);
  const MinL1Result<> l1 = min_l1_interpolator(data, w).require_ok();
  for (const double size : {std::exp2(-660), std::exp2(660)}) {
    CHECK(min_l2_interpolator(data, Vector<double>(size * w)) == l2);
    const MinL1Result<> other = min_l1_interpolator(data, Vector<double>(size * w)).require_ok();
    CHECK(other.beta == l1.beta);
    CHECK(other.objective == Approx(size * l1.objective).epsilon(1e-14));
    CHECK(other.duality_gap == l1.duality_gap);
  }
}

TEST_CASE("units: the dual flow's loss is that of the data, and its end is the minimizer") {
  RandomStream random(78);
  for (const double unit : {1., 1e3, 1e5, 1e7, 1e10, 1e14, 1e18}) {
    CAPTURE(unit);
    Dataset<> data = gaussian_data(random, 3, 6);
    Matrix<double> X = data.X();
    X.col(2) *= unit;
    data = Dataset(X, data.y());
    const Hypentropy<> mirror = Hypentropy<>::uniform(6, Scale<>::from_log(-1));
    const DualFlow flow(mirror, data);
    IntegrateOptions<> until_fit;
    until_fit.events = {loss_below(1e-16 * data.y().squaredNorm())};
    const PiController<> controller{.tolerance = {.relative = 1e-4, .absolute = 1e-4}, .first_step = flow.first_step()};
    const auto solution = integrate(flow, flow.initial_state(), TimeSpan{0.0, std::numeric_limits<double>::infinity()},
                                    Rodas4{}, controller, until_fit);
    Vector<double> beta(6);
    flow.beta(solution.w, beta);
    CAPTURE(solution.message, solution.t, solution.stats.accepted, residual_of(data, beta));
    REQUIRE(solution.ok());
    // The event is the crossing itself.
    CHECK(residual_of(data, beta) <= 1e-8 * (1 + 1e-6));
    CHECK(certify(mirror, data, beta, flow.multipliers(solution.w)).kkt_residual <= 1e-10);
    HypentropyPath<> path(data, mirror);
    CHECK((beta - path.solve(mirror.scale()).require_ok().beta).norm() <= 1e-6 * beta.norm());
  }
}
