#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

/// @file
/// DualFlow leaves out columns whose beta cannot be seen, by a bound from points asked before: that must never show.

using namespace richflow;
using namespace test_support;

namespace {

/// To the bit, where any NaN is as good as another.
template <class A, class B>
bool hidden_same(const A& a, const B& b) {
  for (Index j = 0; j < a.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) {
      const auto x = a(i, j), y = b(i, j);
      const bool same = std::isnan(x) ? std::isnan(y) : x == y && std::signbit(x) == std::signbit(y);
      if (!same) return false;
    }
  return true;
}

template <class S>
Vector<S> hidden_random(RandomStream& random, Index n) {
  return random_vector(random, n).template cast<S>();
}

/// Asks `flow`, which has been elsewhere, and one that has not, the same at nu. The name of what differs, or nothing.
template <class Mirror>
std::string hidden_difference(const DualFlow<Mirror>& flow, const Vector<typename Mirror::Scalar>& nu, Index question,
                              RandomStream& random) {
  using S = typename Mirror::Scalar;
  const Dataset<S>& data = flow.dataset();
  const DualFlow<Mirror> fresh(flow.mirror(), data);
  const Index n = data.num_samples();
  if (question == 0) {
    Vector<S> here(n), there(n);
    flow(S(0), nu, here);
    fresh(S(0), nu, there);
    return hidden_same(here, there) ? "" : "field";
  }
  if (question == 1) {
    const Vector<S> here = Vector<S>::Constant(1, flow.loss(nu)), there = Vector<S>::Constant(1, fresh.loss(nu));
    return hidden_same(here, there) ? "" : "loss";
  }
  if (question == 2) {
    Vector<S> here(data.num_inputs()), there(data.num_inputs());
    flow.beta(nu, here);
    fresh.beta(nu, there);
    return hidden_same(here, there) ? "" : "beta";
  }
  if (question == 3) {
    const Vector<S> error = S(1e-3) * hidden_random<S>(random, n);
    const Tolerance<S> tolerance{S(1e-3), S(1e-12)};
    const Vector<S> here = Vector<S>::Constant(1, flow.error_ratio(nu, nu, error, tolerance));
    const Vector<S> there = Vector<S>::Constant(1, fresh.error_ratio(nu, nu, error, tolerance));
    return hidden_same(here, there) ? "" : "error ratio";
  }
  Matrix<S> here = Matrix<S>::Zero(n, n), there = Matrix<S>::Zero(n, n);
  if (question == 4) {
    flow.negative_jacobian(S(0), nu, here);
    fresh.negative_jacobian(S(0), nu, there);
    return hidden_same(here, there) ? "" : "Jacobian";
  }
  flow.negative_jacobian(S(0), nu, S(1e-3), S(1e-2), here);
  fresh.negative_jacobian(S(0), nu, S(1e-3), S(1e-2), there);
  return hidden_same(here, there) ? "" : "approximate Jacobian";
}

/// A walk from a point with max |X^T nu| = `reach`, in steps of all sizes, with returns and jumps to where nothing is
/// finite. How many questions were answered otherwise than by a fresh flow.
template <class Mirror>
Index hidden_walk(const Mirror& mirror, const Dataset<typename Mirror::Scalar>& data, double reach, std::uint64_t seed,
                  Index steps, std::string& first) {
  using S = typename Mirror::Scalar;
  RandomStream random(7700, seed);
  const Index n = data.num_samples();
  const DualFlow<Mirror> flow(mirror, data);
  const auto at_reach = [&](S size) -> Vector<S> {
    const Vector<S> nu = hidden_random<S>(random, n);
    const S largest = (data.X().transpose() * nu).cwiseAbs().maxCoeff();
    return (size / largest) * nu;
  };
  const Vector<S> start = at_reach(S(reach));
  Vector<S> nu = start;
  Index differences = 0;
  for (Index k = 0; k < steps; ++k) {
    const auto kind = random.uniform_integer(16);
    if (kind == 0)
      nu = start;
    else if (kind == 1)
      nu = at_reach(S(reach * random.uniform(0.0, 1.3)));
    else if (kind == 2 && k % 4 == 0)
      nu = at_reach(S(reach) + S(2000));
    else if (kind == 3 && k % 4 == 0)
      nu[0] = std::numeric_limits<S>::quiet_NaN();
    else
      nu += at_reach(S(reach * log_uniform(random, 1e-6, 0.5)));
    if (!nu.allFinite() && kind != 3) nu = start;
    const std::string difference =
        hidden_difference(flow, nu, static_cast<Index>(random.uniform_integer(8)) % 6, random);
    if (difference.empty()) continue;
    ++differences;
    if (first.empty()) first = difference;
  }
  return differences;
}

/// Gaussian, or with a zero column and a row twice, or of a single sample.
template <class S>
Dataset<S> hidden_data(int kind, std::uint64_t seed) {
  RandomStream random(7701, seed);
  const Index n = kind == 2 ? 1 : 7;
  Matrix<double> X = random_matrix(random, n, 150);
  Vector<double> y = random_vector(random, n);
  if (kind == 1) {
    X.col(3).setZero();
    X.col(149).setZero();
    X.row(5) = X.row(2);
    y[5] = y[2];
  }
  return {Matrix<S>(X.cast<S>()), Vector<S>(y.cast<S>())};
}

}  // namespace

TEST_CASE("what a dual flow answers does not depend on where it was before, to the bit") {
  for (const double log_alpha : {-4.6, -100.0, -500.0})
    for (const int kind : {0, 1, 2}) {
      const Dataset<> data = hidden_data<double>(kind, 1);
      RandomStream random(7702, static_cast<std::uint64_t>(kind));
      const Scale<> scale = Scale<>::from_log(log_alpha);
      const Vector<double> a = random_positive_vector(random, 150, 0.5, 2.0);
      const Vector<double> b = random_positive_vector(random, 150, 0.5, 2.0);
      std::uint64_t seed = 0;
      for (const Hypentropy<>& mirror :
           {Hypentropy<>::uniform(150, scale), Hypentropy<>::shaped(a, scale), Hypentropy<>::biased(a, b, scale)}) {
        std::string first;
        CAPTURE(log_alpha, kind, seed);
        CHECK(hidden_walk(mirror, data, 2 * std::abs(log_alpha) + 1, ++seed, 150, first) == 0);
        CHECK(first == "");
      }
    }
}

TEST_CASE("what a dual flow answers does not depend on where it was before, in single precision") {
  for (const float log_alpha : {-4.6F, -100.0F, -500.0F})
    for (const int kind : {0, 1, 2}) {
      const Dataset<float> data = hidden_data<float>(kind, 2);
      const auto mirror = Hypentropy<float>::uniform(150, Scale<float>::from_log(log_alpha));
      std::string first;
      CAPTURE(log_alpha, kind);
      CHECK(hidden_walk(mirror, data, 2 * std::abs(log_alpha) + 1, 11, 200, first) == 0);
      CHECK(first == "");
    }
}

TEST_CASE("what a dual flow answers does not depend on where it was before, on both sides of the bounds", "[depth]") {
  for (const Index depth : {3, 5, 10})
    for (const double log_alpha_D : {-4.6, -20.0})
      for (const int kind : {0, 1, 2}) {
        const Dataset<> data = hidden_data<double>(kind, 3);
        const auto mirror =
            DepthHypentropy<>::uniform(depth, 150, Scale<>::from_log(log_alpha_D / static_cast<double>(depth)));
        // The first bound that a coordinate of z comes to.
        const double bound = mirror.max_step(Vector<double>::Zero(150), Vector<double>::Ones(150));
        std::string first;
        CAPTURE(depth, log_alpha_D, kind, bound);
        REQUIRE(std::isfinite(bound));
        CHECK(hidden_walk(mirror, data, bound, 21, 120, first) == 0);
        CHECK(first == "");
      }
}

TEST_CASE("an overflow of beta or of its curvature is seen by the field, the loss and the error of a step") {
  // One column is far ahead of the others, which are invisible beside it: few are visible all the way to the overflow.
  const Index d = 200;
  RandomStream random(7703);
  Matrix<double> X = 0.1 * random_matrix(random, 4, d);
  X.col(17).setConstant(0.5);
  const Dataset<> data(X, random_vector(random, 4));
  for (const double log_alpha : {-4.6, -100.0, -500.0}) {
    const DualFlow<Hypentropy<>> flow(Hypentropy<>::uniform(d, Scale<>::from_log(log_alpha)), data);
    Vector<double> field(4);
    const Vector<double> error = Vector<double>::Constant(4, 1e-3);
    const Tolerance<double> tolerance{1e-3, 1e-12};
    Index finite = 0, infinite = 0;
    // z of that column, from where beta is of the order one to far beyond what a number can be.
    for (double z = 2 * std::abs(log_alpha); z < 2 * std::abs(log_alpha) + 800; z += 7.3) {
      const Vector<double> nu = Vector<double>::Constant(4, z / 2);
      flow(0.0, nu, field);
      const double loss = flow.loss(nu);
      const double ratio = flow.error_ratio(nu, nu, error, tolerance);
      const double beta = std::exp(2 * log_alpha + z);
      CAPTURE(log_alpha, z, beta, loss, ratio);
      if (beta > 1e300) {
        ++infinite;
        // Squares are out of range; a step that ends here must not be taken.
        CHECK_FALSE(std::isfinite(loss));
        CHECK_FALSE(ratio <= 1);
        if (std::isinf(beta)) CHECK_FALSE(field.allFinite());
      } else if (beta > 1) {
        ++finite;
        // |X^T error| = 2e-3 in the column that is all of beta, over the tolerance of 1e-3.
        CHECK_THAT(ratio, near(2.0, 1e-6, 0));
        CHECK_FALSE(loss < 0.5 * beta);
      }
    }
    CHECK(finite > 50);
    CHECK(infinite > 5);
  }
}

TEST_CASE("next to a bound, where the curvature overflows before beta does, the error of a step is not small",
          "[depth]") {
  const Index d = 200;
  RandomStream random(7705);
  Matrix<double> X = 0.1 * random_matrix(random, 4, d);
  X.col(17).setConstant(0.5);
  const Dataset<> data(X, random_vector(random, 4));
  const Vector<double> error = Vector<double>::Constant(4, 1e-30);
  Index overflows = 0;
  for (const double log_alpha_D : {400.0, 500.0, 560.0, 580.0}) {
    const auto mirror = DepthHypentropy<>::uniform(3, d, Scale<>::from_log(log_alpha_D / 3));
    const DualFlow<DepthHypentropy<>> flow(mirror, data);
    for (const double distance : {1.0, 2.0, 64.0, 1e4}) {
      // z of that column is a few roundings below its bound, 1.
      const Vector<double> nu = Vector<double>::Constant(4, (1 - distance * eps / 2) / 2);
      Vector<double> beta(d), curvature(d);
      mirror.mirror(X.transpose() * nu, beta, curvature);
      const double ratio = flow.error_ratio(nu, nu, error, Tolerance<double>{1e-3, 1e-12});
      CAPTURE(log_alpha_D, distance, beta[17], curvature[17], ratio);
      if (!std::isfinite(curvature[17])) {
        overflows += std::isfinite(beta[17]) ? 1 : 0;
        CHECK_FALSE(ratio <= 1);
      } else {
        // |X^T error| = 2e-30 in the column that is all of beta.
        CHECK_THAT(ratio, near(curvature[17] * 2e-30 / (1e-3 * beta[17]), 1e-6, 0));
      }
    }
  }
  CHECK(overflows > 0);
}

TEST_CASE("no step of the dual flow is taken into where its curvature is infinite") {
  // Begun with steps that are far too long: each attempt that leads to an overflow is refused.
  RandomStream random(7704);
  const Dataset<> data = gaussian_data(random, 8, 160);
  for (const double log_alpha : {-4.6, -100.0, -500.0}) {
    const Hypentropy<> mirror = Hypentropy<>::uniform(160, Scale<>::from_log(log_alpha));
    const DualFlow<Hypentropy<>> flow(mirror, data);
    HypentropyPath<> path(data, mirror);
    const Vector<double> limit = path.solve(mirror.scale()).require_ok().beta;
    for (const double first_step : {1e2, 1e4, 1e8}) {
      IntegrateOptions<double> options;
      options.events = {loss_below(1e-16).at_step_end()};
      options.max_steps = 20000;
      const auto solution = integrate(flow, flow.initial_state(), TimeSpan{0.0, infinity}, Rodas3{},
                                      PiController<>{.tolerance = {1e-3, 1e-14}, .first_step = first_step}, options);
      CAPTURE(log_alpha, first_step, solution.message);
      REQUIRE(solution.status == Status::event);
      CHECK(solution.stats.rejected > 0);
      Vector<double> beta(160);
      flow.beta(solution.w, beta);
      // A residual of 1e-8 times the condition of the active columns (eight gaussian ones).
      CHECK((beta - limit).norm() <= 1e-6 * limit.norm());
    }
  }
}
