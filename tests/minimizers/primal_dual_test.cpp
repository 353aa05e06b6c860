#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

/// @file
/// The steps of MirrorPath, whichever they are (primal-dual, dual, graded), against the plainest Newton's method and
/// against certificates computed here.

using namespace richflow;
using namespace test_support;

namespace {

/// Newton's method on the dual with halved steps, from scale 1 by e-folds of alpha^D: another road to the minimizer.
template <class Mirror>
Vector<double> primal_dual_oracle(const Dataset<>& data, const Mirror& mirror) {
  const Matrix<double>& X = data.X();
  const Vector<double>& y = data.y();
  const double end = mirror.scale().log(), fold = 1 / mirror.homogeneity();
  Vector<double> nu = Vector<double>::Zero(y.size()), beta(X.cols()), curvature(X.cols()), trial(X.cols());
  for (double at = std::max(end, 3 * fold);; at = std::max(at - fold, end)) {
    const Mirror Q = mirror.with_scale(Scale<>::from_log(at));
    for (int step = 0; step < 500; ++step) {
      Q.mirror(X.transpose() * nu, beta, curvature);
      const Vector<double> r = y - X * beta;
      if (r.norm() <= 1e-13 * y.norm()) break;
      const Vector<double> direction = (X * curvature.asDiagonal() * X.transpose()).ldlt().solve(r);
      double t = std::min(1.0, 0.9 * Q.max_step(X.transpose() * nu, X.transpose() * direction));
      for (; t > 1e-12; t /= 2) {
        Vector<double> unused(X.cols());
        Q.mirror(X.transpose() * (nu + t * direction), trial, unused);
        if ((y - X * trial).norm() < (1 - t / 4) * r.norm()) break;
      }
      if (t <= 1e-12) break;
      nu += t * direction;
    }
    if (at == end) return beta;
  }
}

/// `|X beta - y|` over the largest of its parts: y, X beta, and X beta(0), from which a biased start comes.
template <class Mirror>
double primal_dual_misfit(const Mirror& Q, const Dataset<>& data, const Vector<double>& beta) {
  Vector<double> start(beta.size()), unused(beta.size());
  Q.mirror(Vector<double>::Zero(beta.size()), start, unused);
  const Vector<double> fit = data.X() * beta;
  return (fit - data.y()).norm() / std::max({data.y().norm(), fit.norm(), (data.X() * start).norm()});
}

/// Whether beta is an interpolator and grad Q(beta) = X^T nu, both found here; the KKT residual relative to the size of
/// the terms of X^T nu.
template <class Mirror>
void primal_dual_check(const Mirror& at, const Dataset<>& data, const MinimizerResult<>& result) {
  const Mirror Q = at.with_scale(result.scale);
  CAPTURE(result.message, result.scale.log());
  REQUIRE(result.ok());
  CHECK(primal_dual_misfit(Q, data, result.beta) <= 1e-12);
  Vector<double> gradient(result.beta.size());
  Q.gradient(result.beta, gradient);
  const Vector<double> terms = data.X().cwiseAbs().transpose() * result.nu.cwiseAbs();
  // Some hundred increments, each rounded, relative to the terms, and the rounding of log(a / b), which is below 1.4;
  // where beta is below the normal numbers it is 0.
  for (Index i = 0; i < gradient.size(); ++i)
    if (std::abs(result.beta[i]) > 1e-290)
      CHECK(std::abs(gradient[i] - data.X().col(i).dot(result.nu)) <= 1e-11 * terms[i] + 1e-15);
}

/// Gaussian; then with a zero column, with a row twice, with columns twice, of one sample, square.
Dataset<> primal_dual_data(int kind, RandomStream& random) {
  const Index n = kind == 4 ? 1 : 3 + static_cast<Index>(random.uniform_integer(8));
  const Index d = kind == 5 ? n : 2 * n + static_cast<Index>(random.uniform_integer(30));
  Matrix<double> X = random_matrix(random, n, d);
  Vector<double> y = random_vector(random, n);
  if (kind == 1) X.col(d / 2).setZero();
  if (kind == 2) {
    X.row(n - 1) = X.row(0);
    y[n - 1] = y[0];
  }
  if (kind == 3) X.rightCols(2) = X.leftCols(2);
  return {std::move(X), std::move(y)};
}

/// The uniform, shaped and biased maps of a start, from what makes each.
template <class Uniform, class Shaped, class Biased>
auto primal_dual_maps(RandomStream& random, Index d, const Uniform& uniform, const Shaped& shaped,
                      const Biased& biased) {
  const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
  return std::vector{uniform(), shaped(a), biased(a, b)};
}

auto primal_dual_hypentropies(RandomStream& random, Index d, double log_alpha) {
  const Scale<> scale = Scale<>::from_log(log_alpha);
  return primal_dual_maps(
      random, d, [&] { return Hypentropy<>::uniform(d, scale); },
      [&](const Vector<double>& a) { return Hypentropy<>::shaped(a, scale); },
      [&](const Vector<double>& a, const Vector<double>& b) { return Hypentropy<>::biased(a, b, scale); });
}

auto primal_dual_depths(RandomStream& random, Index depth, Index d, double log_alpha_D) {
  const Scale<> scale = Scale<>::from_log(log_alpha_D / static_cast<double>(depth));
  return primal_dual_maps(
      random, d, [&] { return DepthHypentropy<>::uniform(depth, d, scale); },
      [&](const Vector<double>& a) { return DepthHypentropy<>::shaped(depth, a, scale); },
      [&](const Vector<double>& a, const Vector<double>& b) { return DepthHypentropy<>::biased(depth, a, b, scale); });
}

}  // namespace

TEST_CASE("the path of the squared net ends where plain Newton does, for every start", "[minimizers][property]") {
  for (std::uint64_t trial = 0; trial < 24; ++trial) {
    RandomStream random(7710, trial);
    const Dataset<> data = primal_dual_data(trial % 4 == 1 ? 1 : 0, random);
    const double log_alpha = random.uniform(-8.0, 3.0);
    for (const Hypentropy<>& Q : primal_dual_hypentropies(random, data.num_inputs(), log_alpha)) {
      HypentropyPath<> path(data, Q);
      const MinimizerResult<> result = path.solve(Q.scale());
      CAPTURE(trial, log_alpha);
      primal_dual_check(Q, data, result);
      const Vector<double> expected = primal_dual_oracle(data, Q);
      // Residuals of 1e-12 times the condition of a dozen gaussian columns.
      CHECK((result.beta - expected).norm() <= 1e-9 * expected.norm());
    }
  }
}

TEST_CASE("the path at depth 3, 5 and 10 ends where plain Newton does, for every start",
          "[minimizers][depth][property]") {
  for (std::uint64_t trial = 0; trial < 12; ++trial)
    for (const Index depth : {3, 5, 10}) {
      RandomStream random(7711, trial);
      const Dataset<> data = primal_dual_data(trial % 4 == 1 ? 1 : 0, random);
      const double log_alpha_D = random.uniform(-6.0, 4.0);
      for (const DepthHypentropy<>& Q : primal_dual_depths(random, depth, data.num_inputs(), log_alpha_D)) {
        MirrorPath<DepthHypentropy<>> path(data, Q);
        const MinimizerResult<> result = path.solve(Q.scale());
        CAPTURE(trial, depth, log_alpha_D);
        REQUIRE(result.ok());
        const Vector<double> expected = primal_dual_oracle(data, Q);
        CHECK((result.beta - expected).norm() <= 1e-9 * expected.norm());
      }
    }
}

TEST_CASE("from log alpha = -500 to 300, degenerate data or not, the squared net's minimizers carry certificates",
          "[minimizers][property]") {
  for (int kind = 0; kind < 6; ++kind)
    for (const double log_alpha : {-500.0, -250.0, -60.0, -12.0, 12.0, 60.0, 300.0}) {
      RandomStream random(7712, static_cast<std::uint64_t>(kind));
      const Dataset<> data = primal_dual_data(kind, random);
      const auto maps = primal_dual_hypentropies(random, data.num_inputs(), log_alpha);
      for (const Hypentropy<>& Q : maps) {
        HypentropyPath<> path(data, Q);
        const MinimizerResult<> result = path.solve(Q.scale());
        CAPTURE(kind, log_alpha, &Q - maps.data());
        if (&Q == &maps[2] && log_alpha == 300.0 && !result.ok()) {
          // The biased start is e^600 then, and the square of its fit out of range: that is said.
          CHECK(result.status == Status::stalled);
          continue;
        }
        primal_dual_check(Q, data, result);
        // Jumps along a path that is there already.
        const MinimizerResult<> near = path.solve(Scale<>::from_log(log_alpha > 0 ? log_alpha - 2 : log_alpha / 2));
        primal_dual_check(Q, data, near);
      }
    }
}

TEST_CASE("from alpha^D = e^-500 to e^300, degenerate data or not, deep nets' minimizers carry certificates",
          "[minimizers][depth][property]") {
  for (int kind = 0; kind < 6; ++kind)
    for (const Index depth : {3, 5, 10})
      for (const double log_alpha_D : {-500.0, -60.0, -12.0, 12.0, 300.0}) {
        RandomStream random(7713, static_cast<std::uint64_t>(kind));
        const Dataset<> data = primal_dual_data(kind, random);
        for (const DepthHypentropy<>& Q : primal_dual_depths(random, depth, data.num_inputs(), log_alpha_D)) {
          MirrorPath<DepthHypentropy<>> path(data, Q);
          const MinimizerResult<> result = path.solve(Q.scale());
          CAPTURE(kind, depth, log_alpha_D, result.message);
          REQUIRE(result.ok());
          CHECK(primal_dual_misfit(Q, data, result.beta) <= 1e-12);
          CHECK(result.certificate.kkt_residual <= 5e-14);
        }
      }
}

TEST_CASE("the path in single precision ends where the one in double does, as far as floats see", "[minimizers]") {
  for (int kind = 0; kind < 5; ++kind)
    for (const double log_alpha : {-80.0, -20.0, -5.0, 0.0, 5.0}) {
      RandomStream random(7714, static_cast<std::uint64_t>(kind));
      const Dataset<> wide = primal_dual_data(kind, random);
      const Dataset<float> data(wide.X().cast<float>(), wide.y().cast<float>());
      const Dataset<> same(data.X().cast<double>(), data.y().cast<double>());
      const Index d = wide.num_inputs();
      HypentropyPath<> exact(same, Hypentropy<>::uniform(d, Scale<>::from_log(0)));
      HypentropyPath<float> path(data, Hypentropy<float>::uniform(d, Scale<float>::from_log(0)));
      const auto expected = exact.solve(Scale<>::from_log(log_alpha)).require_ok();
      const auto result = path.solve(Scale<float>::from_log(static_cast<float>(log_alpha)));
      CAPTURE(kind, log_alpha, result.message);
      REQUIRE(result.ok());
      // The promised 4500 epsilon of float times the condition of the active columns.
      CHECK((result.beta.cast<double>() - expected.beta).norm() <= 2e-2 * expected.beta.norm());
    }
}
