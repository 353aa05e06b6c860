#include "richflow/models/unbiased.hpp"

#include <limits>

#include "richflow/core/random.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Battery, and the definition at many points and on other samples.
/// f(w, X), by the call without an evaluation.
template <class M>
Vector<double> values(const M& model, const Vector<double>& w, const Matrix<double>& X) {
  Vector<double> f(X.rows());
  model.predict(w, X, f);
  return f;
}

/// `definition(w)`: the N values of the model in terms of the model inside.
template <class M, class Definition>
void check_model(const M& model, RandomStream& random, const Matrix<double>& X, std::size_t checks,
                 const Definition& definition) {
  const Index samples = X.rows();
  const Index parameters = model.num_parameters();
  const Vector<double> w = 2.0 * random_vector(random, parameters);
  const Vector<double> v = random_vector(random, parameters);
  const Vector<double> r = random_vector(random, samples);
  const Dataset data(X, random_vector(random, samples));
  const auto report = testing::model_battery(model, w, data, v, r, 1e-5);
  CAPTURE(report);
  CHECK(report.ok());
  CHECK(report.checks.size() == checks);

  const Vector<double> expected_f = values(model, w, X);
  CHECK((expected_f - definition(w)).norm() <= 1000 * eps * (1.0 + w.norm()));
  // At many w on the same samples, and then on others.
  auto at = model.make_evaluation(samples);
  Vector<double> f(samples);
  at.forward(v, X, f);
  at.forward(w, f);
  CHECK((f - definition(w)).norm() <= 1000 * eps * (1.0 + w.norm()));
  at.forward(v, f);
  CHECK((f - definition(v)).norm() <= 1000 * eps * (1.0 + v.norm()));
  const Matrix<double> others = random_matrix(random, samples - 1, X.cols());
  at.forward(w, others, f.head(samples - 1));
  CHECK((f.head(samples - 1) - values(model, w, others)).norm() <= 1000 * eps * (1.0 + w.norm()));
}

}  // namespace

TEST_CASE("Unbiased, Doubled and Linearized are models, of networks and of models without structure") {
  RandomStream random(41);
  const ReluNetwork<double> net(2, {5, 4});
  const SquaredDiagonalNet<double> diagonal(2);
  const Matrix<double> X = random_matrix(random, 4, 2);
  const Vector<double> w0 = random_vector(random, net.num_parameters());
  const auto unbiased = [&](const auto& model, const Vector<double>& start) {
    return [&](const Vector<double>& w) -> Vector<double> { return values(model, w, X) - values(model, start, X); };
  };
  const auto doubled = [&](const auto& model) {
    return [&](const Vector<double>& w) -> Vector<double> {
      const Index half = w.size() / 2;
      return values(model, w.head(half), X) - values(model, w.tail(half), X);
    };
  };
  // f(w0) + J(w0) (w - w0), by the products with the Jacobian of the model inside, which have tests of their own.
  const auto linearized = [&](const auto& model, const Vector<double>& start) {
    return [&](const Vector<double>& w) -> Vector<double> {
      Vector<double> jv(X.rows());
      model.jvp(start, X, w - start, jv);
      return values(model, start, X) + jv;
    };
  };
  check_model(Unbiased(net, w0), random, X, 24, unbiased(net, w0));
  check_model(Doubled(net), random, X, 24, doubled(net));
  check_model(Linearized(net, w0), random, X, 23, linearized(net, w0));
  const Vector<double> diagonal_w0 = random_vector(random, 4);
  check_model(Unbiased(diagonal, diagonal_w0), random, X, 23, unbiased(diagonal, diagonal_w0));
  check_model(Doubled(diagonal), random, X, 23, doubled(diagonal));
  check_model(Linearized(diagonal, diagonal_w0), random, X, 22, linearized(diagonal, diagonal_w0));
  // They nest.
  const Unbiased inner(net, w0);
  const Vector<double> jump = values(net, w0, X);
  check_model(Linearized(inner, w0), random, X, 23,
              [&](const Vector<double>& w) -> Vector<double> { return linearized(net, w0)(w) - jump; });
}

TEST_CASE("Unbiased and Doubled start from the zero function; doubling doubles the kernel") {
  RandomStream random(42);
  const ReluNetwork<double> net(2, {6});
  const Matrix<double> X = random_matrix(random, 5, 2);
  const Vector<double> w0 = random_vector(random, net.num_parameters());
  Vector<double> f(5);
  const Unbiased unbiased(net, w0);
  unbiased.predict(w0, X, f);
  CHECK(f.norm() == 0.0);
  const Doubled doubled(net);
  const Vector<double> both = doubled.initial_parameters(w0);
  doubled.predict(both, X, f);
  CHECK(f.norm() == 0.0);

  auto once = make_evaluation(net, 5);
  auto twice = make_evaluation(doubled, 5);
  Matrix<double> K(5, 5);
  Matrix<double> K2(5, 5);
  once.forward(w0, X, f);
  once.kernel(K);
  twice.forward(both, X, f);
  twice.kernel(K2);
  CHECK((K2 - 2.0 * K).norm() == 0.0);
  Vector<double> units(12);
  doubled.unit_square_norms(both, units);
  CHECK((units.head(6) - units.tail(6)).norm() == 0.0);
}

TEST_CASE("the linearized model touches its model to first order") {
  RandomStream random(43);
  const ReluNetwork<double> net(2, {5, 4});
  const Matrix<double> X = random_matrix(random, 4, 2);
  const Vector<double> w0 = random_vector(random, net.num_parameters());
  const Vector<double> v = random_vector(random, net.num_parameters());
  const Linearized linear(net, w0);
  Vector<double> exact(4);
  Vector<double> tangent(4);
  double previous = 0.0;
  for (const double h : {1e-3, 5e-4}) {
    net.predict(w0 + h * v, X, exact);
    linear.predict(w0 + h * v, X, tangent);
    const double error = (exact - tangent).norm();
    // A second-order remainder: a quarter at half the distance, up to the third order (h relative).
    if (previous > 0.0) CHECK_THAT(previous / error, near(4.0, 0.02, 0.0));
    previous = error;
  }
}

TEST_CASE("Unbiased, Doubled and Linearized refuse bad input") {
  const ReluNetwork<double> net(2, {3});
  CHECK_THROWS_MATCHES(Unbiased(net, Vector<double>::Ones(8).eval()), DimensionError, message_contains("start"));
  CHECK_THROWS_AS(Unbiased(net, Vector<double>::Constant(9, std::numeric_limits<double>::infinity()).eval()),
                  NonFiniteError);
  CHECK_THROWS_MATCHES(Linearized(net, Vector<double>::Ones(8).eval()), DimensionError, message_contains("w0"));
  CHECK_THROWS_AS(Doubled(net).initial_parameters(Vector<double>::Ones(8)), DimensionError);
  Vector<double> out(2);
  CHECK_THROWS_AS(Doubled(net).predict(Vector<double>::Ones(9), Matrix<double>::Ones(2, 2), out), DimensionError);
}
