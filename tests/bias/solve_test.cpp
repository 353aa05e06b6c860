#include "richflow/bias/solve.hpp"

#include <cmath>
#include <limits>

#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace own_net {

/// A user's net whose regularizer the user knows: |beta|^2 / 2, its own mirror image.
struct Euclidean {
  using Scalar = double;
  Index d;
  [[nodiscard]] Index dimension() const { return d; }
  [[nodiscard]] double value(ConstVectorRef<double> beta) const { return beta.squaredNorm() / 2; }
  void gradient(ConstVectorRef<double> beta, VectorRef<double> out) const { out = beta; }
  void mirror(ConstVectorRef<double> z, VectorRef<double> beta, VectorRef<double> curvature) const {
    beta = z;
    curvature.setOnes();
  }
  [[nodiscard]] double conjugate(ConstVectorRef<double> z) const { return z.squaredNorm() / 2; }
  [[nodiscard]] double max_step(ConstVectorRef<double>, ConstVectorRef<double>) const {
    return std::numeric_limits<double>::infinity();
  }
  [[nodiscard]] Scale<> scale() const { return Scale<>::from_log(0); }
  [[nodiscard]] Euclidean with_scale(Scale<>) const { return *this; }
  [[nodiscard]] double homogeneity() const { return 1; }
  [[nodiscard]] double dual_rate() const { return 2; }
};

struct Linear {
  Index d;
};

Euclidean regularizer(const Linear& net, const Start<>&) { return {net.d}; }

}  // namespace own_net

TEST_CASE("solve gives the certified limit of any depth and start", "[verbs]") {
  RandomStream random(81);
  const Index d = 30;
  const Dataset<> data = gaussian_data(random, 8, d);
  const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
  for (const Index depth : {2, 3, 5, 100})
    for (const double log_size : {-20.0, -2.0, 1.0}) {
      const Scale<> scale = Scale<>::from_log(log_size / static_cast<double>(depth));
      for (const Start<>& start : {Start<>::uniform(scale), Start<>::shaped(scale, a), Start<>::biased(scale, a, b)}) {
        CAPTURE(depth, log_size, start.family());
        // At depth 100 an entry of 1/2 is w0^(2-D) = 2^98: the shape decides.
        if (depth == 100 && start.family() != StartFamily::uniform) continue;
        const DiagonalNet<double> net(depth, d);
        const Limit<> limit = solve(net, data, start);
        REQUIRE(limit.ok());
        const ImplicitRegularizer<> Q = regularizer(net, start);
        CHECK(limit.certificate.primal_residual <= 1e-12);
        CHECK(std::fabs(limit.certificate.duality_gap) <= 1e-10);
        // Judged without anything that the solver says of itself.
        CHECK(certify(Q, data, limit.beta).kkt_residual <= 1e-8);
        CHECK(limit.regularizer_value == Q.value(limit.beta));
        Vector<double> start_beta(d), curvature(d);
        Q.mirror(Vector<double>::Zero(d), start_beta, curvature);
        const double size = std::max(data.y().norm(), (data.X() * start_beta).norm());
        CHECK((limit.f(data.X()) - data.y()).norm() <= 1.1e-12 * size);
        CHECK(limit.l1() == limit.beta.lpNorm<1>());
        CHECK_THAT(limit.l2(), near(limit.beta.norm(), 1e-14, 0));
        CHECK_THAT(limit.method, text_contains(Q.name()));
      }
    }
  const TwoLayerDiagonalNet<double> two(d);
  const Scale<> scale = Scale<>::from_log(-3);
  for (const Start<>& start :
       {Start<>::uniform(scale), Start<>::biased(scale, a, b), Start<>::unbalanced(scale, a, -b)}) {
    const Limit<> limit = solve(two, data, start);
    CAPTURE(limit.message);
    CHECK(limit.ok());
    CHECK(limit.certificate.kkt_residual <= 1e-12);
  }
  const Limit<> single = solve(DiagonalNet<double, 2>(d), data, Start<>::uniform(scale));
  CHECK(single.beta == minimize_hypentropy(data, scale).beta);
}

TEST_CASE("starts whose weights are apart by hundreds of e-folds are solved, and proved", "[verbs]") {
  RandomStream random(82);
  const Index d = 40;
  const Dataset<> data = gaussian_data(random, 10, d);
  const DiagonalNet<double> net(2, d);
  const double least = min_l1_interpolator(data).require_ok().objective;
  for (const double width : {12.0, 80.0, 395.0})
    for (const double log_alpha : {-500.0, -5.0, 2.0}) {
      CAPTURE(width, log_alpha);
      const Scale<> scale = Scale<>::from_log(log_alpha);
      Vector<double> log_a(d), log_b(d);
      for (double& entry : log_a) entry = -random.uniform(0.0, width);
      for (double& entry : log_b) entry = -random.uniform(0.0, width);
      const Start<> shaped = Start<>::shaped_logs(scale, log_a);
      const Start<> biased = Start<>::biased_logs(scale, log_a, log_b);
      for (const Start<>& start : {shaped, biased}) {
        const Limit<> limit = solve(net, data, start);
        CAPTURE(start.family(), limit.message);
        CHECK(limit.ok());
        const auto proof = certify(regularizer(net, start), data, limit.beta, limit.nu);
        CHECK(proof.primal_residual <= 1e-12);
        CHECK(proof.kkt_residual <= 1e-12);
        CHECK(std::fabs(proof.duality_gap) <= 1e-9);
      }
      // The limit alpha -> 0 of Q is the l1 norm, whatever the shape: within 2 width / (2 * 500) here.
      if (log_alpha == -500.0) CHECK(solve(net, data, shaped).l1() <= (1 + width / 500) * least);
    }
}

TEST_CASE("solve finds the regularizer that belongs to a user's net", "[verbs]") {
  RandomStream random(83);
  const Dataset<> data = gaussian_data(random, 5, 20);
  const Limit<> limit = solve(own_net::Linear{20}, data, Start<>::uniform(Scale<>::from_log(0)));
  CHECK(limit.ok());
  CHECK((limit.beta - min_l2_interpolator(data)).norm() <= 1e-12 * limit.l2());
}

TEST_CASE("solve refuses what does not fit", "[verbs]") {
  RandomStream random(84);
  const Dataset<> data = gaussian_data(random, 5, 20);
  const Start<> start = Start<>::uniform(Scale<>::from_log(0));
  CHECK_THROWS_AS(solve(DiagonalNet<double>(3, 19), data, start), DimensionError);
  Matrix<double> X = Matrix<double>::Zero(2, 20);
  X.row(0).setOnes();
  CHECK_THROWS_AS(solve(DiagonalNet<double>(2, 20), Dataset(X, Vector<double>::Ones(2)), start), InfeasibleError);
  const Limit<> limit = solve(DiagonalNet<double>(2, 20), data, start);
  CHECK_THROWS_MATCHES(limit.f(Matrix<double>::Zero(3, 19)), DimensionError, message_contains("19 columns"));
  const Limit<> cut = solve(DiagonalNet<double>(2, 20), data, start.with_scale(Scale<>::from_log(-50)),
                            MinimizerOptions<>{.max_factorizations = 1});
  CHECK(!cut.ok());
  CHECK_THROWS_AS(cut.require_ok(), ConvergenceError);

  const Dataset<float> narrow(data.X().cast<float>(), data.y().cast<float>());
  const auto in_float = solve(DiagonalNet<float>(3, 20), narrow, Start<float>::uniform(Scale<float>::from_log(-2)));
  CHECK(in_float.ok());
  CHECK((in_float.beta.cast<double>() -
         solve(DiagonalNet<double>(3, 20), data, Start<>::uniform(Scale<>::from_log(-2))).beta)
            .norm() <= 1e-3 * in_float.l2());
}
