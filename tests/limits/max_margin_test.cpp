#include "richflow/limits/max_margin.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "richflow/bias/regularizer.hpp"
#include "richflow/core/random.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/margins.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Of a net from `alpha` everywhere.
ImplicitRegularizer<> margin_regularizer(Index depth, Index d, double log_alpha) {
  const Start<> start = Start<>::uniform(Scale<>::from_log(log_alpha));
  if (depth == 2) return regularizer(DiagonalNet<double>(2, d), start);
  return regularizer(DiagonalNet<double>(depth, d), start);
}

/// N random samples that some b with entries of +-1 tells apart, the margins of all but `touching` at least 0.3.
Dataset<> random_classes(RandomStream& random, Index N, Index d) {
  Matrix<double> X(N, d);
  Vector<double> y(N);
  const Vector<double> b = random_vector(random, d);
  for (Index n = 0; n < N; ++n) {
    Vector<double> x = random_vector(random, d);
    const double side = x.dot(b);
    y[n] = side < 0 ? -1 : 1;
    X.row(n) = x + (0.3 * y[n] / b.squaredNorm()) * b;
  }
  return {X, y};
}

/// Everything that makes beta the minimizer, from the data and Q alone. Tolerances: the margins of the support are
/// fitted to 1e-12 of their norm, or of that which a biased start has, the others to 8 times that; z carries the
/// rounding of a hundred sums.
template <class Mirror, class S = typename Mirror::Scalar>
void check_minimizer(const Mirror& Q, const Dataset<S>& data, const MarginResult<S>& result) {
  INFO(result.message);
  REQUIRE(result.ok());
  const double rounding = 4500.0 * static_cast<double>(std::numeric_limits<S>::epsilon());
  const Matrix<S> Z = signed_rows(data);
  Vector<S> start(Z.cols()), unused(Z.cols());
  Q.mirror(Vector<S>::Zero(Z.cols()), start, unused);
  const double start_size = static_cast<double>((Z * start).norm());
  const double tolerance =
      16.0 * rounding * std::max(std::sqrt(static_cast<double>(data.num_samples() + 1)), start_size);
  const Vector<S> m = Z * result.beta;
  CHECK(static_cast<double>(m.minCoeff()) >= 1.0 - tolerance);
  CHECK(static_cast<double>((m - result.margins).cwiseAbs().maxCoeff()) <=
        tolerance * static_cast<double>(m.cwiseAbs().maxCoeff()));
  CHECK(result.margin == result.margins.minCoeff());
  CHECK(result.multipliers.minCoeff() >= S(0));
  double slack = 0;
  for (Index n = 0; n < m.size(); ++n) {
    const bool is_support = std::find(result.support.begin(), result.support.end(), n) != result.support.end();
    CHECK(is_support == (result.multipliers[n] > S(0)));
    slack += static_cast<double>(result.multipliers[n] * std::abs(m[n] - S(1)));
  }
  CHECK(slack <= tolerance * static_cast<double>(result.multipliers.sum()));
  // beta belongs to the multipliers: compared as z, which is what rounding leaves exact at any scale.
  const Vector<S> z = Z.transpose() * result.multipliers;
  Vector<S> gradient(z.size());
  Q.gradient(result.beta, gradient);
  const double size = std::max(1.0, static_cast<double>(z.cwiseAbs().maxCoeff()));
  double worst = 0;
  for (Index i = 0; i < z.size(); ++i)
    if (std::abs(result.beta[i]) > S(1e-30)) worst = std::max(worst, static_cast<double>(std::abs(gradient[i] - z[i])));
  CHECK(worst <= rounding * size);
  CHECK(std::abs(static_cast<double>(result.gap)) <= tolerance * 10);
}

}  // namespace

TEST_CASE("whether classes are separable does not depend on the lengths of samples", "[limits]") {
  for (const double length : {1.0, 1e-5, 1e-8}) {
    const Dataset data(Matrix<double>{{1e10, 0}, {0, length}}, Vector<double>::Ones(2));
    const MarginResult<> best = max_margin_l2(data);
    CHECK(best.is_separable);
    CHECK_THAT(best.beta[1], near(1 / length, 1e-12, 0));
  }
  // Proved not to be, by a mean that is 0 whatever the lengths.
  const Dataset opposed(Matrix<double>{{1e10, 0}, {1e-5, 0}}, Vector<double>{{1, -1}});
  const MarginResult<> none = max_margin_l2(opposed);
  CHECK(!none.is_separable);
  CHECK((opposed.X().transpose() * none.obstacle.cwiseProduct(opposed.y())).norm() <= 1e-12);
}

TEST_CASE("margin problems agree with the 140-digit table", "[limits]") {
  Index compared = 0;
  for (const std::string problem : {"all_support", "one_free", "two_optima"}) {
    const Dataset<> data = margin_data(problem);
    for (const Index depth : {Index(2), Index(3)}) {
      MarginPath<ImplicitRegularizer<>> path(data, margin_regularizer(depth, data.num_inputs(), 0));
      for (const std::string log_alpha : {"3", "0", "-1", "-3", "-20", "-60", "-6"}) {
        if (depth == 2 ? log_alpha == "-6" : log_alpha.size() == 3) continue;  // not in the table
        CAPTURE(problem, depth, log_alpha);
        const std::string D = std::to_string(depth);
        const ImplicitRegularizer<> Q = margin_regularizer(depth, data.num_inputs(), std::stod(log_alpha));
        const Vector<double> beta = margin_values(problem, D, log_alpha, "beta");
        const Vector<double> nu = margin_values(problem, D, log_alpha, "nu");
        // From scratch, and along a path, where the support may be another at first.
        for (const MarginResult<>& result : {max_margin(Q, data), path.solve(Q.scale())}) {
          check_minimizer(Q, data, result);
          // Margins to 1e-12 of their norm, times the condition of the rows, below 10.
          CHECK((result.beta - beta).cwiseAbs().maxCoeff() <= 1e-11 * beta.cwiseAbs().maxCoeff());
          for (Index n = 0; n < nu.size(); ++n) CHECK((result.multipliers[n] > 0) == (nu[n] > 0));
          CHECK((result.margins - margin_values(problem, D, log_alpha, "margin")).cwiseAbs().maxCoeff() <= 1e-10);
          CHECK(Q.value(result.beta) == Approx(margin_values(problem, D, log_alpha, "Q")[0]).epsilon(1e-11));
          ++compared;
        }
      }
    }
  }
  CHECK(compared == 2 * 3 * (6 + 5));
}

TEST_CASE("the hard margin and the l1 margin are certified by their own duals", "[limits]") {
  RandomStream random(1);
  for (int trial = 0; trial < 12; ++trial) {
    const Index N = 3 + 4 * (trial % 4);
    const Index d = 6 + 5 * (trial % 3);
    const Dataset<> data = random_classes(random, N, d);
    const Matrix<double> Z = signed_rows(data);
    CAPTURE(trial, N, d);

    const MarginResult<> two = max_margin_l2(data).require_ok();
    CHECK((Z * two.beta).minCoeff() >= 1 - 1e-13 * Z.norm() * two.beta.norm());
    CHECK(two.multipliers.minCoeff() >= 0);
    CHECK((Z.transpose() * two.multipliers - two.beta).norm() <= 1e-12 * two.beta.norm());
    // Strong duality, sum nu = |beta|^2: no other separator is shorter.
    CHECK(two.multipliers.sum() == Approx(two.beta.squaredNorm()).epsilon(1e-12));

    const MarginResult<> one = max_margin_l1(data).require_ok();
    CHECK((Z * one.beta).minCoeff() >= 1 - 1e-10);
    CHECK(one.multipliers.minCoeff() >= 0);
    CHECK((Z.transpose() * one.multipliers).cwiseAbs().maxCoeff() <= 1 + 1e-14);
    CHECK(one.multipliers.sum() == Approx(one.beta.lpNorm<1>()).epsilon(1e-10));
    CHECK(one.gap == Approx(0).margin(1e-10));

    // The ends of Q: within alpha^-4 of the l2 margin, within 1 / log(1/alpha) of the l1 margin.
    const MarginResult<> large = max_margin(margin_regularizer(2, d, 7), data).require_ok();
    CHECK((large.beta - two.beta).norm() <= 1e-10 * two.beta.norm());
    const MarginResult<> small = max_margin(margin_regularizer(2, d, -300), data).require_ok();
    CHECK(small.beta.lpNorm<1>() >= one.beta.lpNorm<1>() * (1 - 1e-10));
    CHECK(small.beta.lpNorm<1>() <= one.beta.lpNorm<1>() * (1 + std::log(2.0 * static_cast<double>(d)) / 600));
  }
}

TEST_CASE("margin problems of every regularizer and any scale", "[limits]") {
  RandomStream random(2);
  const Dataset<> data = random_classes(random, 9, 14);
  const Index d = data.num_inputs();
  const Vector<double> w0 = (0.5 * random_vector(random, d)).array().exp();
  const Vector<double> a = (0.5 * random_vector(random, d)).array().exp();
  const DiagonalNet<double> squared(2, d), deep(5, d);
  for (const double log_alpha : {4.0, 0.0, -4.0, -30.0}) {
    CAPTURE(log_alpha);
    const Scale<> scale = Scale<>::from_log(log_alpha);
    for (const ImplicitRegularizer<>& Q :
         {regularizer(squared, Start<>::shaped(scale, w0)), regularizer(squared, Start<>::biased(scale, a, w0)),
          regularizer(TwoLayerDiagonalNet<double>(d), Start<>::unbalanced(scale, w0, a)),
          regularizer(DiagonalNet<double>(3, d), Start<>::uniform(scale))})
      check_minimizer(Q, data, max_margin(Q, data));
  }
  for (const double log_alpha : {1.0, -2.0}) {
    const ImplicitRegularizer<> Q = regularizer(deep, Start<>::shaped(Scale<>::from_log(log_alpha), w0));
    check_minimizer(Q, data, max_margin(Q, data));
  }
  const ImplicitRegularizer<> tiny = margin_regularizer(2, d, -500);
  check_minimizer(tiny, data, max_margin(tiny, data));
  const Dataset<float> in_float(data.X().cast<float>(), data.y().cast<float>());
  const auto Q = Hypentropy<float>::uniform(d, Scale<float>::from_log(-2.0F));
  check_minimizer(Q, in_float, max_margin(Q, in_float));
}

TEST_CASE("the margin gamma belongs to the scale alpha gamma^(-1/D)", "[limits]") {
  // beta of margin gamma is gamma times that of margin 1 there: compared through the problem with samples x / gamma.
  const Dataset<> data = margin_data("one_free");
  const double gamma = 40;
  const Dataset shrunk(data.X() / gamma, data.y());
  for (const Index depth : {Index(2), Index(3)}) {
    const ImplicitRegularizer<> Q = margin_regularizer(depth, 8, -1);
    const MarginResult<> here = max_margin(Q, shrunk).require_ok();
    const Scale<> there = Scale<>::from_log(-1 - std::log(gamma) / static_cast<double>(depth));
    const MarginResult<> unit = max_margin(Q.with_scale(there), data).require_ok();
    CHECK((here.beta - gamma * unit.beta).norm() <= 1e-10 * here.beta.norm());
  }
}

TEST_CASE("more samples than features, equal samples, zero columns, one sample", "[limits]") {
  RandomStream random(3);
  const auto check_all = [](const Dataset<>& data) {
    for (const double log_alpha : {3.0, -1.0, -20.0}) {
      CAPTURE(log_alpha);
      const ImplicitRegularizer<> Q = margin_regularizer(2, data.num_inputs(), log_alpha);
      check_minimizer(Q, data, max_margin(Q, data));
    }
    CHECK(std::abs(max_margin_l2(data).require_ok().gap) <= 1e-12);
    CHECK(std::abs(max_margin_l1(data).require_ok().gap) <= 1e-10);
  };
  check_all(random_classes(random, 60, 5));
  const Dataset<> once = random_classes(random, 7, 10);
  Matrix<double> X(14, 12);
  X.setZero();
  X.block(0, 1, 7, 10) = once.X();
  X.block(7, 1, 7, 10) = once.X();
  Vector<double> y(14);
  y << once.y(), once.y();
  const Dataset twice(X, y);
  check_all(twice);
  const ImplicitRegularizer<> Q = margin_regularizer(2, 10, -3);
  const MarginResult<> single = max_margin(Q, once).require_ok();
  const MarginResult<> doubled = max_margin(Q.with_scale(Q.scale()), once).require_ok();
  const MarginResult<> with_copies = max_margin(margin_regularizer(2, 12, -3), twice).require_ok();
  CHECK((with_copies.beta.segment(1, 10) - single.beta).norm() <= 1e-11 * single.beta.norm());
  CHECK(with_copies.beta[0] == 0.0);
  CHECK(doubled.beta == single.beta);

  // N = 1, in closed form at the l2 end: beta = x y / |x|^2.
  const Dataset sample(Matrix<double>(once.X().topRows(1)), Vector<double>(once.y().head(1)));
  const MarginResult<> one = max_margin_l2(sample).require_ok();
  const Vector<double> x = sample.X().row(0);
  CHECK((one.beta - sample.y()[0] / x.squaredNorm() * x).norm() <= 1e-15 * one.beta.norm() * 4);
  check_all(sample);
}

TEST_CASE("a start that separates with margin 1 stays", "[limits]") {
  const Dataset data(Matrix<double>::Identity(2, 2), Vector<double>::Ones(2));
  const Vector<double> a = Vector<double>::Constant(2, 3), b = Vector<double>::Ones(2);
  const ImplicitRegularizer<> Q = regularizer(DiagonalNet<double>(2, 2), Start<>::biased(Scale<>::from_log(0), a, b));
  const MarginResult<> result = max_margin(Q, data).require_ok();
  CHECK(result.support.empty());
  // beta(0) = alpha^2 (9 - 1).
  CHECK((result.beta - Vector<double>::Constant(2, 8)).norm() <= 1e-14);
}

TEST_CASE("data that are not separable come with the combination that proves it", "[limits]") {
  RandomStream random(4);
  Index refused = 0;
  for (int trial = 0; trial < 20; ++trial) {
    const Index d = 2 + trial % 5;
    const Index N = 4 * d + 4;
    // Random labels: not separable with near certainty at N > 4 d (Cover 1965), and always with the pair below.
    Matrix<double> X(N, d);
    Vector<double> y(N);
    for (Index n = 0; n < N; ++n) {
      X.row(n) = random_vector(random, d);
      y[n] = n % 2 == 0 ? 1 : -1;
    }
    X.row(1) = X.row(0);
    const Dataset data(X, y);
    for (const MarginResult<>& result :
         {max_margin_l2(data), max_margin_l1(data), max_margin(margin_regularizer(3, d, 0), data)}) {
      CHECK_FALSE(result.ok());
      CHECK_FALSE(result.is_separable);
      REQUIRE(result.obstacle.size() == N);
      CHECK(result.obstacle.minCoeff() >= 0);
      CHECK(result.obstacle.sum() == Approx(1).epsilon(1e-14));
      CHECK((signed_rows(data).transpose() * result.obstacle).cwiseAbs().maxCoeff() <= 1e-13 * X.cwiseAbs().maxCoeff());
      CHECK(result.message.find("not separable") != std::string::npos);
      ++refused;
    }
  }
  CHECK(refused == 60);
  const MarginResult<> zero = max_margin_l2(Dataset(Matrix<double>::Zero(2, 3), Vector<double>::Ones(2)));
  CHECK_FALSE(zero.is_separable);
  REQUIRE_THROWS_AS(zero.require_ok(), ConvergenceError);
}

TEST_CASE("integer data with ties: every answer comes with its proof", "[limits]") {
  RandomStream random(7);
  Index separable = 0, mixed = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const Index N = 1 + trial % 9;
    const Index d = 1 + trial % 6;
    Matrix<double> X(N, d);
    for (Index n = 0; n < N; ++n)
      X.row(n) = (2 * random_vector(random, d)).array().round().matrix().cwiseMax(-3).cwiseMin(3);
    if (trial % 3 == 0) X.row(N - 1) = X.row(0);
    if (trial % 4 == 0) X.row(0) *= 1e4;
    const Dataset data(X, Vector<double>::Ones(N));
    CAPTURE(trial, N, d, X);
    const ImplicitRegularizer<> Q = margin_regularizer(2, d, -3);
    const ImplicitRegularizer<> deep = margin_regularizer(3, d, -2);
    for (const MarginResult<>& result :
         {max_margin_l2(data), max_margin_l1(data), max_margin(Q, data), max_margin(deep, data)}) {
      INFO(result.message);
      if (!result.is_separable) {
        CHECK((X.transpose() * result.obstacle).cwiseAbs().maxCoeff() <= 1e-13 * X.cwiseAbs().maxCoeff());
        ++mixed;
        continue;
      }
      REQUIRE(result.ok());
      // 64 epsilon |x| |beta|, eight times, for the long samples.
      CHECK(result.margin >= 1 - 1e-10 - 1.2e-13 * X.rowwise().norm().maxCoeff() * result.beta.norm());
      CHECK(std::abs(result.gap) <= 1e-7);
      ++separable;
    }
  }
  CHECK(separable > 60);
  CHECK(mixed > 40);
}

TEST_CASE("samples of length 1e4 at tiny scales", "[limits]") {
  RandomStream random(8);
  Index solved = 0, separable = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const Index N = 1 + trial % 9, d = 1 + trial % 6;
    Matrix<double> X(N, d);
    const Vector<double> b = random_vector(random, d);
    for (Index n = 0; n < N; ++n) {
      X.row(n) = (2 * random_vector(random, d)).array().round();
      if (X.row(n).dot(b) < 0) X.row(n) *= -1;
      if ((n + trial) % 4 == 0) X.row(n) *= 1e4;
    }
    const Dataset data(X, Vector<double>::Ones(N));
    for (const double log_alpha : {-70.0, -400.0}) {
      const MarginResult<> result = max_margin(margin_regularizer(2, d, log_alpha), data);
      if (!result.is_separable) continue;
      CAPTURE(trial, X, result.message);
      // What remains open is said to be; never the budget, after which nothing is known.
      CHECK(result.status != Status::max_steps);
      ++separable;
      if (!result.ok()) continue;
      // Eight times what rounding of products, 64 epsilon, or of z, epsilon log(1/alpha), leaves.
      const double rounding = 8 * std::numeric_limits<double>::epsilon() * std::max(64.0, -log_alpha);
      CHECK(result.margin >= 1 - 1e-10 - rounding * X.rowwise().norm().maxCoeff() * result.beta.norm());
      CHECK(std::abs(result.gap) <= 1e-7);
      ++solved;
    }
  }
  CHECK(separable > 80);
  CHECK(solved >= separable - 1);
}

TEST_CASE("data that are barely separable are separated", "[limits]") {
  // Two opposite samples that differ by delta in a second feature: margin delta / sqrt(...), beta_2 = 1 / delta.
  for (const double delta : {1e-2, 1e-5, 1e-8, 1e-11}) {
    CAPTURE(delta);
    Matrix<double> X(2, 3);
    X << 1, delta, 0, 1, -delta, 0;
    Vector<double> y(2);
    y << 1, -1;
    const Dataset data(X, y);
    const MarginResult<> two = max_margin_l2(data).require_ok();
    CHECK(two.beta[1] * delta == Approx(1).epsilon(1e-12));
    // Q of so large a beta is nearly its l1 norm: the same separator.
    const MarginResult<> small = max_margin(margin_regularizer(2, 3, -10), data).require_ok();
    CHECK(small.beta[1] * delta == Approx(1).epsilon(1e-10));
  }
  // Below 1e-13 of the samples rounding decides, and the answer is a proof to that accuracy.
  Matrix<double> X(2, 1);
  X << 1, 1;
  Vector<double> y(2);
  y << 1, -1;
  CHECK_FALSE(max_margin_l2(Dataset(X, y)).is_separable);
}

TEST_CASE("margin problems refuse what is no classification", "[limits]") {
  const Dataset labels(Matrix<double>::Identity(2, 2), Vector<double>::Constant(2, 0.5));
  const auto says = [](const auto& call, const std::string& text) {
    try {
      call();
    } catch (const Error& error) {
      CAPTURE(error.what());
      return std::string(error.what()).find(text) != std::string::npos;
    }
    return false;
  };
  CHECK(says([&] { (void)max_margin_l2(labels); }, "y(0) must be +1 or -1"));
  CHECK(says([&] { (void)max_margin_l1(labels); }, "got 0.5"));
  CHECK(says([&] { (void)max_margin(margin_regularizer(2, 2, 0), labels); }, "y(0)"));
  const Dataset data(Matrix<double>::Identity(2, 2), Vector<double>::Ones(2));
  REQUIRE_THROWS_AS(max_margin(margin_regularizer(2, 3, 0), data), DimensionError);
  REQUIRE_THROWS_AS(MarginPath<ImplicitRegularizer<>>(data, margin_regularizer(2, 2, 0)).solve(Scale<>::from_log(500)),
                    ArgumentError);
}
