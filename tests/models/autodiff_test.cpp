#include "richflow/models/autodiff.hpp"

#include <cmath>
#include <limits>
#include <span>

#include "richflow/core/random.hpp"
#include "richflow/models/relu_network.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Every operation once, on positive arguments.
struct Everything {
  [[nodiscard]] static Index num_parameters() { return 4; }
  template <class T>
  [[nodiscard]] T predict(std::span<const T> w, std::span<const double> x) const {
    using std::abs;
    using std::cos;
    using std::exp;
    using std::log;
    using std::log1p;
    using std::sin;
    using std::sqrt;
    using std::tanh;
    T f = exp(w[0] * 0.3) + log(w[1] * w[1] + 1.0) / sqrt(2.0 + w[2] * w[2]) - sin(w[3] * x[0]) * cos(w[0]);
    f += tanh(w[1] - w[2]) * log1p(exp(-w[3])) + abs(w[0] - 3.0);
    f -= 2.0 * w[2];
    f *= w[1] + 2.0;
    f /= 1.5 - 0.1 * w[0];
    return w[3] > T(100) ? T(0) : f;
  }
};

/// A ReLU network of depth 2, by hand.
struct TwoLayers {
  Index k = 3;
  [[nodiscard]] Index num_parameters() const { return 3 * k; }
  template <class T>
  [[nodiscard]] T predict(std::span<const T> w, std::span<const double> x) const {
    T f(0);
    for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i) {
      const T z = w[2 * i] * x[0] + w[2 * i + 1] * x[1];
      f += w[static_cast<std::size_t>(2 * k) + i] * (z > T(0) ? z : T(0));
    }
    return f;
  }
};

/// The same, telling that unit i has w_(2i), w_(2i+1) and its output weight.
struct TwoLayersOfUnits : TwoLayers {
  [[nodiscard]] Index num_units() const { return k; }
  void unit_square_norms(ConstVectorRef<double> v, VectorRef<double> out) const {
    for (Index i = 0; i < k; ++i) out[i] = v.segment(2 * i, 2).squaredNorm() + v[2 * k + i] * v[2 * k + i];
  }
};

static_assert(HasUnits<Autodiff<TwoLayersOfUnits>> && !HasUnits<Autodiff<TwoLayers>>);

struct Constant {
  [[nodiscard]] static Index num_parameters() { return 2; }
  template <class T>
  [[nodiscard]] T predict(std::span<const T>, std::span<const double> x) const {
    return T(x[0]);
  }
};

}  // namespace

TEST_CASE("automatic derivatives of every operation pass the model battery") {
  RandomStream random(81);
  const Autodiff model(Everything{});
  const Dataset data(random_matrix(random, 5, 1), random_vector(random, 5));
  const auto report = testing::model_battery(model, random_vector(random, 4), data, random_vector(random, 4),
                                             random_vector(random, 5), 1e-3);
  CAPTURE(report);
  CHECK(report.ok());
  CHECK(report.checks.size() == 6);
}

TEST_CASE("automatic derivatives agree with those written by hand to rounding") {
  RandomStream random(82);
  const Autodiff model(TwoLayers{});
  const ReluNetwork<double> net(2, {3});
  const Matrix<double> X = random_matrix(random, 7, 2);
  const Vector<double> w = random_vector(random, 9);
  const Vector<double> v = random_vector(random, 9);
  const Vector<double> r = random_vector(random, 7);
  // Sums of at most 7 terms, each a few products of numbers of order 1.
  const double rounding = 16 * std::numeric_limits<double>::epsilon();
  Vector<double> f(7);
  Vector<double> expected(7);
  model.predict(w, X, f);
  net.predict(w, X, expected);
  CHECK((f - expected).norm() <= rounding * (1.0 + expected.norm()));
  model.jvp(w, X, v, f);
  net.jvp(w, X, v, expected);
  CHECK((f - expected).norm() <= rounding * (1.0 + expected.norm()));
  Vector<double> g(9);
  Vector<double> expected_g(9);
  model.vjp(w, X, r, g);
  net.vjp(w, X, r, expected_g);
  CHECK((g - expected_g).norm() <= rounding * (1.0 + expected_g.norm()));
}

TEST_CASE("a prediction that does not depend on the parameters has no derivative") {
  const Autodiff model(Constant{});
  Vector<double> g(2);
  model.vjp(Vector<double>::Ones(2), Matrix<double>::Ones(3, 1), Vector<double>::Ones(3), g);
  CHECK(g.norm() == 0.0);
  CHECK_THROWS_AS(model.vjp(Vector<double>::Ones(3), Matrix<double>::Ones(3, 1), Vector<double>::Ones(3), g),
                  DimensionError);
}
