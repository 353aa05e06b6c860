#include "richflow/bias/regularizer.hpp"

#include <cmath>
#include <string>

#include "richflow/flow/dual_flow.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Both maps do the same, to the last bit.
template <class Expected>
void check_is(const ImplicitRegularizer<>& Q, const Expected& expected, const Vector<double>& beta) {
  const Index d = beta.size();
  Vector<double> a(d), b(d), c(d), e(d);
  CHECK(Q.dimension() == d);
  CHECK(Q.scale() == expected.scale());
  CHECK(Q.dual_rate() == expected.dual_rate());
  CHECK(Q.homogeneity() == expected.homogeneity());
  CHECK(Q.value(beta) == expected.value(beta));
  Q.gradient(beta, a);
  expected.gradient(beta, b);
  CHECK(a == b);
  const Vector<double> z = 0.5 * a;
  Q.mirror(z, a, c);
  expected.mirror(z, b, e);
  CHECK((a == b && c == e));
  CHECK(Q.conjugate(z) == expected.conjugate(z));
  CHECK(Q.max_step(z, z) == expected.max_step(z, z));
  const Scale<> other = Scale<>::from_log(-3);
  CHECK(Q.with_scale(other).value(beta) == expected.with_scale(other).value(beta));
}

}  // namespace

static_assert(BoundedMirrorMap<ImplicitRegularizer<>>);

TEST_CASE("one type holds the regularizer of every depth and start", "[verbs]") {
  RandomStream random(71);
  const Index d = 7;
  const Vector<double> a = random_positive_vector(random, d, 0.5, 2.0);
  const Vector<double> b = random_positive_vector(random, d, 0.5, 2.0);
  const Vector<double> beta = random_vector(random, d);
  const Scale<> scale = Scale<>::from_log(-0.7);
  const Start<> uniform = Start<>::uniform(scale), shaped = Start<>::shaped(scale, a),
                biased = Start<>::biased(scale, a, b);

  for (const Index depth : {2, 3, 100}) {
    CAPTURE(depth);
    const DiagonalNet<double> net(depth, d);
    for (const Start<>& start : {uniform, shaped, biased}) {
      const ImplicitRegularizer<> Q = regularizer(net, start);
      CHECK(Q.depth() == depth);
      CHECK(Q.is_bounded() == (depth > 2));
      CHECK_THAT(Q.name(), text_contains(to_string(start.family())));
      CHECK_THAT(Q.name(), text_contains("depth " + std::to_string(depth)));
    }
    if (depth == 2) {
      check_is(regularizer(net, uniform), Hypentropy<>::uniform(d, scale), beta);
      check_is(regularizer(net, shaped), Hypentropy<>::shaped(a, scale), beta);
      check_is(regularizer(net, biased), Hypentropy<>::biased(a, b, scale), beta);
    } else {
      check_is(regularizer(net, uniform), DepthHypentropy<>::uniform(depth, d, scale), beta);
      check_is(regularizer(net, shaped), DepthHypentropy<>::shaped(depth, a, scale), beta);
      check_is(regularizer(net, biased), DepthHypentropy<>::biased(depth, a, b, scale), beta);
    }
  }
  // A depth that the compiler knows.
  check_is(regularizer(DiagonalNet<double, 3>(d), shaped), DepthHypentropy<>::shaped(3, a, scale), beta);

  const TwoLayerDiagonalNet<double> two(d);
  check_is(regularizer(two, Start<>::unbalanced(scale, a, b)), Hypentropy<>::two_layer(a, b, scale), beta);
  // Equal layers: the squared net at half the rate.
  CHECK(regularizer(two, uniform).dual_rate() == 4.0);
  CHECK(regularizer(two, shaped).value(beta) == Hypentropy<>::shaped(a, scale).value(beta));
  CHECK_THAT(regularizer(two, shaped).value(beta), near(Hypentropy<>::two_layer(a, a, scale).value(beta), 1e-14, 0));
  CHECK(regularizer(two, biased).value(beta) == Hypentropy<>::biased(a, b, scale).value(beta));
  CHECK(regularizer(two, biased).with_scale(Scale<>::from_log(1)).dual_rate() == 4.0);
}

TEST_CASE("what takes a mirror map takes the regularizer, with the numbers of the map inside", "[verbs]") {
  RandomStream random(72);
  const Dataset<> data = gaussian_data(random, 5, 12);
  const Scale<> scale = Scale<>::from_log(-2);
  const Start<> start = Start<>::shaped(scale, random_positive_vector(random, 12, 0.5, 2.0));
  const ImplicitRegularizer<> deep = regularizer(DiagonalNet<double>(3, 12), start);
  const ImplicitRegularizer<> flat = regularizer(DiagonalNet<double>(2, 12), start);

  MirrorPath<ImplicitRegularizer<>> path(data, deep);
  MirrorPath<DepthHypentropy<>> deep_path(data, DepthHypentropy<>::shaped(3, start.first_values(), scale));
  CHECK(path.solve(scale).require_ok().beta == deep_path.solve(scale).require_ok().beta);
  MirrorPath<ImplicitRegularizer<>> second(data, flat);
  MirrorPath<Hypentropy<>> flat_path(data, Hypentropy<>::shaped(start.first_values(), scale));
  const MinimizerResult<> solved = second.solve(scale).require_ok();
  CHECK(solved.beta == flat_path.solve(scale).require_ok().beta);
  CHECK(certify(flat, data, solved.beta, solved.nu).kkt_residual < 1e-12);

  const DualFlow flow(deep, data);
  const DualFlow deep_flow(DepthHypentropy<>::shaped(3, start.first_values(), scale), data);
  Vector<double> here(5), there(5);
  const Vector<double> nu = 0.01 * random_vector(random, 5);
  flow(0.0, nu, here);
  deep_flow(0.0, nu, there);
  CHECK(here == there);
}

TEST_CASE("regularizers from logarithms are those from numbers", "[verbs]") {
  RandomStream random(73);
  const Index d = 9;
  const Vector<double> a = random_positive_vector(random, d, 0.1, 3.0);
  const Vector<double> b = random_positive_vector(random, d, 0.1, 3.0);
  const Vector<double> log_a = a.array().log(), log_b = b.array().log();
  const Vector<double> beta = random_vector(random, d);
  for (const Index depth : {2, 3, 6})
    for (const double log_alpha : {-8.0, 0.5}) {
      CAPTURE(depth, log_alpha);
      const Scale<> scale = Scale<>::from_log(log_alpha);
      const DiagonalNet<double> net(depth, d);
      const auto value = [&](const Start<>& start) { return regularizer(net, start).value(beta); };
      // A rounding of log a is |log a| roundings of a, below 3 here, times the powers of the depth.
      CHECK_THAT(value(Start<>::shaped_logs(scale, log_a)), near(value(Start<>::shaped(scale, a)), 1e-13, 0));
      CHECK_THAT(value(Start<>::biased_logs(scale, log_a, log_b)), near(value(Start<>::biased(scale, a, b)), 1e-13, 0));
    }
}

TEST_CASE("entries whose squares underflow are those of the scale they belong to", "[verbs]") {
  RandomStream random(74);
  const Index d = 6;
  const Vector<double> beta = random_vector(random, d), shift = Vector<double>::Constant(d, 395.0);
  const Vector<double> log_a = random_vector(random, d), log_b = random_vector(random, d);
  for (const double log_alpha : {-500.0, -2.0, 1.0, 396.0}) {
    CAPTURE(log_alpha);
    const Scale<> scale = Scale<>::from_log(log_alpha), together = Scale<>::from_log(log_alpha - 395);
    const auto split = Hypentropy<>::biased_logs(log_a - shift, log_b - shift, scale);
    const auto whole = Hypentropy<>::biased_logs(log_a, log_b, together);
    CHECK_THAT(split.value(beta), near(whole.value(beta), 1e-12, 0));
    CHECK_THAT(Hypentropy<>::shaped_logs(log_a - shift, scale).value(beta),
               near(Hypentropy<>::shaped_logs(log_a, together).value(beta), 1e-12, 0));
    Vector<double> z(d), back(d), curvature(d);
    split.gradient(beta, z);
    split.mirror(z, back, curvature);
    // z has |log c| roundings.
    CHECK((back - beta).norm() <= 1e-12 * beta.norm());
    CHECK_THAT(split.with_scale(Scale<>::from_log(-3)).value(beta),
               near(whole.with_scale(Scale<>::from_log(-398)).value(beta), 1e-12, 0));
  }
  const Hypentropy<> raised =
      Hypentropy<>::biased_logs(log_a - shift, log_b, Scale<>::from_log(-1)).raised(Scale<>::from_log(-9));
  CHECK_THAT(raised.log_range().smallest, near(-9, 1e-12, 0));
  CHECK_THAT(raised.log_range().largest, near(log_b.maxCoeff() - 1, 1e-12, 1e-12));

  // At depth D >= 3 alpha^D may underflow, w0^(2-D) may not.
  const Scale<> scale = Scale<>::from_log(400), together = Scale<>::from_log(5);
  const auto split = DepthHypentropy<>::shaped_logs(3, log_a - shift, scale);
  const auto whole = DepthHypentropy<>::shaped_logs(3, log_a, together);
  CHECK_THAT(split.value(beta) * std::exp(-395.0), near(whole.value(beta), 1e-11, 0));
  CHECK_THROWS_MATCHES(DepthHypentropy<>::shaped_logs(5, log_a - shift, scale), ArgumentError,
                       message_contains("too extreme for depth 5"));
}

TEST_CASE("a regularizer that does not exist is refused by name", "[verbs]") {
  const Vector<double> three = Vector<double>::Ones(3);
  const Scale<> scale = Scale<>::from_log(0);
  CHECK_THROWS_MATCHES(regularizer(DiagonalNet<double>(3, 4), Start<>::shaped(scale, three)), DimensionError,
                       message_contains("d = 4"));
  CHECK_THROWS_MATCHES(regularizer(DiagonalNet<double>(2, 3), Start<>::unbalanced(scale, three, three)), ArgumentError,
                       message_contains("TwoLayerDiagonalNet"));
  CHECK_THROWS_AS(regularizer(TwoLayerDiagonalNet<double>(4), Start<>::unbalanced(scale, three, three)),
                  DimensionError);
  CHECK_THROWS_MATCHES(regularizer(DiagonalNet<double>(3, 3), Start<>::uniform(Scale<>::from_log(300))), ArgumentError,
                       message_contains("too large"));
  CHECK_THROWS_AS(Hypentropy<>::shaped_logs(Vector<double>(), scale), DimensionError);
  CHECK_THROWS_AS(Hypentropy<>::biased_logs(three, Vector<double>::Ones(2), scale), DimensionError);
  CHECK_THROWS_AS(DepthHypentropy<>::biased_logs(3, three, Vector<double>::Ones(2), scale), DimensionError);
  CHECK_THROWS_AS(DepthHypentropy<>::shaped_logs(2, three, scale), ArgumentError);
  CHECK_THROWS_AS(Hypentropy<>::shaped_logs(three / 0.0, scale), NonFiniteError);
}
