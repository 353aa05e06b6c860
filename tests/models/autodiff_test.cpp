#include "richflow/models/autodiff.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/testing/gradient_check.hpp"
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
    using std::max;
    using std::min;
    using std::pow;
    using std::sin;
    using std::sqrt;
    using std::tanh;
    T f = exp(w[0] * 0.3) + log(w[1] * w[1] + 1.0) / sqrt(2.0 + w[2] * w[2]) - sin(w[3] * x[0]) * cos(w[0]);
    f += tanh(w[1] - w[2]) * log1p(exp(-w[3])) + abs(w[0] - 3.0);
    f += max(w[0], w[1]) * min(w[2], 0.5) * pow(w[3], 3);
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

/// `sum_i a_i tanh(<u_i, x>)` in whole expressions, w = (U, a), U of shape k x d.
struct TanhExpression {
  Index d = 1;
  Index k = 1;
  [[nodiscard]] Index num_parameters() const { return k * (d + 1); }
  template <class T>
  [[nodiscard]] T predict(ConstVectorRef<T> w, ConstVectorRef<T> x) const {
    const Eigen::Map<const Matrix<T>> U(w.data(), k, d);
    return (U * x).array().tanh().matrix().dot(w.tail(k));
  }
};

/// The same with features of type double.
struct TanhOfDoubles : TanhExpression {
  template <class T>
  [[nodiscard]] T predict(const ConstVectorRef<T>& w, const ConstVectorRef<double>& x) const {
    const Eigen::Map<const Matrix<T>> U(w.data(), k, d);
    return (U * x.template cast<T>()).array().tanh().matrix().dot(w.tail(k));
  }
};

/// The same of vectors.
struct TanhOfVectors : TanhExpression {
  template <class T>
  [[nodiscard]] T predict(const Vector<T>& w, const Vector<T>& x) const {
    return TanhExpression::predict<T>(w, x);
  }
};

/// The same in loops.
struct TanhLoops : TanhExpression {
  template <class T>
  [[nodiscard]] T predict(std::span<const T> w, std::span<const double> x) const {
    using std::tanh;
    const auto units = static_cast<std::size_t>(k);
    T f(0);
    for (std::size_t i = 0; i < units; ++i) {
      T z(0);
      for (std::size_t j = 0; j < x.size(); ++j) z += w[i + units * j] * x[j];
      f += w[units * x.size() + i] * tanh(z);
    }
    return f;
  }
};

/// K outputs of one hidden layer: `V tanh(U x + b)`, w = (U, b, V).
struct TanhOutputs {
  Index d = 1;
  Index k = 1;
  Index outputs = 1;
  [[nodiscard]] Index num_parameters() const { return k * (d + 1 + outputs); }
  [[nodiscard]] Index num_outputs() const { return outputs; }
  template <class T>
  [[nodiscard]] Vector<T> predict(ConstVectorRef<T> w, ConstVectorRef<T> x) const {
    const Eigen::Map<const Matrix<T>> U(w.data(), k, d + 1);
    const Eigen::Map<const Matrix<T>> V(w.data() + k * (d + 1), outputs, k);
    return V * (U.leftCols(d) * x + U.col(d)).array().tanh().matrix();
  }
};

/// The same in loops.
struct TanhOutputLoops : TanhOutputs {
  template <class T>
  [[nodiscard]] std::vector<T> predict(std::span<const T> w, std::span<const double> x) const {
    using std::tanh;
    const auto units = static_cast<std::size_t>(k);
    const auto K = static_cast<std::size_t>(outputs);
    std::vector<T> f(K, T(0));
    for (std::size_t i = 0; i < units; ++i) {
      T z = w[i + units * x.size()];
      for (std::size_t j = 0; j < x.size(); ++j) z += w[i + units * j] * x[j];
      for (std::size_t m = 0; m < K; ++m) f[m] += w[units * (x.size() + 1) + m + K * i] * tanh(z);
    }
    return f;
  }
};

/// One of those outputs.
struct TanhOutput {
  TanhOutputs all = {};
  Index output = 0;
  [[nodiscard]] Index num_parameters() const { return all.num_parameters(); }
  template <class T>
  [[nodiscard]] T predict(ConstVectorRef<T> w, ConstVectorRef<T> x) const {
    return all.predict<T>(w, x)[output];
  }
};

/// Products of matrices of parameters, norms, reductions and numbers around them.
struct ManyExpressions {
  static constexpr Index k = 3;
  [[nodiscard]] static Index num_parameters() { return k * k + k; }
  template <class T>
  [[nodiscard]] T predict(ConstVectorRef<T> w, ConstVectorRef<T> x) const {
    using std::log;
    const Eigen::Map<const Matrix<T>> A(w.data(), k, k);
    Vector<T> z = A * x;
    z += 0.5 * w.tail(k);
    const T largest = z.maxCoeff();
    const T log_sum = largest + log((z.array() - largest).exp().sum());
    Matrix<T> B = A.transpose() * A;
    B.row(0) -= x.transpose();
    B.diagonal().array() += 1.0;
    const T bilinear = z.dot(B * z) / (1.0 + z.squaredNorm());
    return log_sum + bilinear * z.norm() - (z.array() > T(0)).select(z, 0.1 * z).mean() + B.cwiseAbs().sum();
  }
};

/// Functions of whole arrays: 15 of the first four parameters, 3 of the last four, which are positive; four outputs
/// each.
struct FunctionsOfArrays {
  static constexpr Index count = 18;
  [[nodiscard]] static Index num_parameters() { return 8; }
  [[nodiscard]] static Index num_outputs() { return 4 * count; }
  template <class T>
  [[nodiscard]] Vector<T> predict(ConstVectorRef<T> w, ConstVectorRef<T>) const {
    const auto a = w.head(4).array();
    const auto b = w.tail(4).array();
    Matrix<T> f(4, count);
    f.col(0) = a.tanh();
    f.col(1) = a.exp();
    f.col(2) = a.sin();
    f.col(3) = a.cos();
    f.col(4) = a.abs();
    f.col(5) = a.max(0.0);
    f.col(6) = a.min(0.5);
    f.col(7) = a.square();
    f.col(8) = a.cube();
    f.col(9) = a.pow(3);
    f.col(10) = pow(a, -2);
    f.col(11) = a.inverse();
    f.col(12) = a.logistic();
    f.col(13) = 1.0 / (a + 3.0) - 2 * a / 5 + 1;
    f.col(14) = (a > 0.0).select(a, 0.1 * a);
    f.col(15) = b.log();
    f.col(16) = b.log1p();
    f.col(17) = b.sqrt();
    return f.reshaped();
  }
};

/// Their derivatives.
struct KnownDerivative {
  const char* name;
  double (*derivative)(double x);
};
constexpr KnownDerivative known_derivatives[FunctionsOfArrays::count] = {
    {"tanh", [](double x) { return 1.0 / (std::cosh(x) * std::cosh(x)); }},
    {"exp", [](double x) { return std::exp(x); }},
    {"sin", [](double x) { return std::cos(x); }},
    {"cos", [](double x) { return -std::sin(x); }},
    {"abs", [](double x) { return x < 0.0 ? -1.0 : 1.0; }},
    {"max", [](double x) { return x > 0.0 ? 1.0 : 0.0; }},
    {"min", [](double x) { return x < 0.5 ? 1.0 : 0.0; }},
    {"square", [](double x) { return 2.0 * x; }},
    {"cube", [](double x) { return 3.0 * x * x; }},
    {"pow", [](double x) { return 3.0 * x * x; }},
    {"pow of a negative exponent", [](double x) { return -2.0 / (x * x * x); }},
    {"inverse", [](double x) { return -1.0 / (x * x); }},
    {"logistic", [](double x) { return std::exp(-x) / ((1.0 + std::exp(-x)) * (1.0 + std::exp(-x))); }},
    {"arithmetic with constants", [](double x) { return -1.0 / ((x + 3.0) * (x + 3.0)) - 0.4; }},
    {"select", [](double x) { return x > 0.0 ? 1.0 : 0.1; }},
    {"log", [](double x) { return 1.0 / x; }},
    {"log1p", [](double x) { return 1.0 / (1.0 + x); }},
    {"sqrt", [](double x) { return 0.5 / std::sqrt(x); }}};

/// Says 3 outputs and returns `returned`.
struct AnotherNumberOfOutputs {
  Index returned = 3;
  [[nodiscard]] static Index num_parameters() { return 5; }
  [[nodiscard]] static Index num_outputs() { return 3; }
  template <class T>
  [[nodiscard]] Vector<T> predict(ConstVectorRef<T> w, ConstVectorRef<T>) const {
    return w.head(returned);
  }
};

/// Says 2 outputs and returns one.
struct OneOfTwoOutputs {
  [[nodiscard]] static Index num_parameters() { return 1; }
  [[nodiscard]] static Index num_outputs() { return 2; }
  template <class T>
  [[nodiscard]] T predict(std::span<const T> w, std::span<const double>) const {
    return w[0];
  }
};

/// Its first output is a parameter, the second the same one, the third a constant.
struct ParametersAsOutputs {
  [[nodiscard]] static Index num_parameters() { return 2; }
  [[nodiscard]] static Index num_outputs() { return 3; }
  template <class T>
  [[nodiscard]] std::vector<T> predict(std::span<const T> w, std::span<const double> x) const {
    return {w[0], w[0], T(x[0])};
  }
};

/// `w_1 (max(w_0, 0) + min(w_0, 0)) + w_0^0`, with a root that nothing depends on.
struct AtZero {
  [[nodiscard]] static Index num_parameters() { return 2; }
  template <class T>
  [[nodiscard]] T predict(std::span<const T> w, std::span<const double>) const {
    using std::max;
    using std::min;
    using std::pow;
    using std::sqrt;
    const T unused = sqrt(w[0]) * w[1];
    return unused > T(1) ? unused : w[1] * (max(w[0], T(0)) + min(w[0], T(0))) + pow(w[0], 0);
  }
};

/// What a model computes.
struct Results {
  Matrix<double> F = {};
  Matrix<double> dF = {};
  Vector<double> g = {};
};

/// Of a model with P parameters and K outputs on six samples of three features, which all depend on P and K alone.
template <class M>
Results results_on_random_inputs(const M& model) {
  RandomStream random(83);
  const Index K = model.num_outputs();
  const Vector<double> w = random_vector(random, model.num_parameters());
  const Vector<double> v = random_vector(random, model.num_parameters());
  const Matrix<double> X = random_matrix(random, 6, 3);
  const Matrix<double> G = random_matrix(random, 6, K);
  Results results{Matrix<double>(6, K), Matrix<double>(6, K), Vector<double>(w.size())};
  model.predict(w, X, results.F);
  model.jvp(w, X, v, results.dF);
  model.vjp(w, X, G, results.g);
  return results;
}

// Sums of at most 11 units, of 3 features, of 6 samples of 4 outputs, added in another order: as many roundings of the
// sum of the magnitudes, which is at most ten times the norms.
constexpr double reordering = 10 * (11 + 3 + 24) * std::numeric_limits<double>::epsilon();

void check_agreement(const Results& results, const Results& expected) {
  CHECK((results.F - expected.F).norm() <= reordering * expected.F.norm());
  CHECK((results.dF - expected.dF).norm() <= reordering * expected.dF.norm());
  CHECK((results.g - expected.g).norm() <= reordering * expected.g.norm());
}

}  // namespace

TEST_CASE("automatic derivatives of every operation pass the model battery") {
  RandomStream random(81);
  const Autodiff model(Everything{});
  const Dataset data(random_matrix(random, 5, 1), random_vector(random, 5));
  const auto report = testing::model_battery(model, random_vector(random, 4), data, random_vector(random, 4),
                                             random_vector(random, 5), 1e-3);
  CAPTURE(report);
  CHECK(report.ok());
  CHECK(report.checks.size() == 22);
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

TEST_CASE("whole expressions and loops have the same automatic derivatives") {
  const Autodiff loops(TanhLoops{{3, 11}});
  CHECK(loops.num_outputs() == 1);
  const Results expected = results_on_random_inputs(loops);
  check_agreement(results_on_random_inputs(Autodiff(TanhExpression{3, 11})), expected);
  check_agreement(results_on_random_inputs(Autodiff(TanhOfDoubles{{3, 11}})), expected);
  check_agreement(results_on_random_inputs(Autodiff(TanhOfVectors{{3, 11}})), expected);
  check_agreement(results_on_random_inputs(Autodiff(TanhOutputs{3, 11, 4})),
                  results_on_random_inputs(Autodiff(TanhOutputLoops{{3, 11, 4}})));
}

TEST_CASE("automatic derivatives of whole expressions pass the model battery") {
  RandomStream random(84);
  const Autodiff model(ManyExpressions{});
  const Dataset data(random_matrix(random, 5, 3), random_vector(random, 5));
  const auto report = testing::model_battery(model, random_vector(random, 12), data, random_vector(random, 12),
                                             random_vector(random, 5), 1e-3);
  CAPTURE(report);
  CHECK(report.ok());
}

TEST_CASE("automatic derivatives of K outputs are those of K functions with one output") {
  RandomStream random(85);
  const TanhOutputs function{3, 11, 4};
  const Autodiff model(function);
  CHECK(model.num_outputs() == 4);
  const Index P = model.num_parameters();
  const Vector<double> w = random_vector(random, P);
  const Vector<double> v = random_vector(random, P);
  const Matrix<double> X = random_matrix(random, 6, 3);
  const Matrix<double> G = random_matrix(random, 6, 4);
  Matrix<double> F(6, 4);
  Matrix<double> dF(6, 4);
  Vector<double> g(P);
  model.predict(w, X, F);
  model.jvp(w, X, v, dF);
  model.vjp(w, X, G, g);
  Vector<double> sum = Vector<double>::Zero(P);
  for (Index k = 0; k < 4; ++k) {
    const Autodiff one(TanhOutput{function, k});
    Vector<double> f(6);
    one.predict(w, X, f);
    CHECK((F.col(k) - f).norm() <= reordering * f.norm());
    one.jvp(w, X, v, f);
    CHECK((dF.col(k) - f).norm() <= reordering * f.norm());
    Vector<double> g_k(P);
    one.vjp(w, X, G.col(k), g_k);
    sum += g_k;
  }
  CHECK((g - sum).norm() <= reordering * sum.norm());
}

TEST_CASE("automatic derivatives of K outputs agree with finite differences") {
  RandomStream random(86);
  const Autodiff model(TanhOutputs{2, 5, 3});
  const Index P = model.num_parameters();
  const Vector<double> w = random_vector(random, P);
  const Vector<double> v = random_vector(random, P);
  const Matrix<double> X = random_matrix(random, 4, 2);
  const Matrix<double> G = random_matrix(random, 4, 3);
  const auto outputs = [&](const Vector<double>& at) {
    Matrix<double> F(4, 3);
    model.predict(at, X, F);
    return F;
  };
  Matrix<double> dF(4, 3);
  model.jvp(w, X, v, dF);
  const auto pushed = testing::check_derivative<double>(
      [&](double s) -> Vector<double> { return outputs(w + s * v).reshaped(); }, dF.reshaped(), 1e-3);
  CAPTURE(pushed.fine_error, pushed.order);
  CHECK(pushed.passed());
  Vector<double> g(P);
  model.vjp(w, X, G, g);
  const auto pulled = testing::check_gradient<double>(
      [&](const Vector<double>& at) { return outputs(at).cwiseProduct(G).sum(); }, w, g, v, 1e-3);
  CAPTURE(pulled.fine_error, pulled.order);
  CHECK(pulled.passed());
}

TEST_CASE("functions of arrays have the derivatives that are known") {
  const Autodiff model(FunctionsOfArrays{});
  Vector<double> w(8);
  w << -1.3, -0.4, 0.7, 1.6, 0.2, 0.4, 0.7, 1.6;
  const Matrix<double> X = Matrix<double>::Zero(1, 1);
  Matrix<double> dF(1, model.num_outputs());
  model.jvp(w, X, Vector<double>::Ones(8), dF);
  // Both sides are a few operations on numbers of at most 50, each of relative error eps.
  const double rounding = 16 * std::numeric_limits<double>::epsilon();
  for (Index j = 0; j < FunctionsOfArrays::count; ++j) {
    const KnownDerivative& known = known_derivatives[j];
    CAPTURE(known.name);
    const Index first = j < 15 ? 0 : 4;
    Matrix<double> G = Matrix<double>::Zero(1, model.num_outputs());
    G.middleCols(4 * j, 4).setOnes();
    Vector<double> g(8);
    model.vjp(w, X, G, g);
    for (Index i = 0; i < 4; ++i) {
      const double expected = known.derivative(w[first + i]);
      CHECK_THAT(dF(0, 4 * j + i), near(expected, rounding, rounding));
      CHECK_THAT(g[first + i], near(expected, rounding, rounding));
    }
    CHECK(g.segment(4 - first, 4).norm() == 0.0);
  }
}

TEST_CASE("automatic derivatives at 0 are those of ReluNetwork, and finite") {
  Vector<double> w(2);
  w << 0.0, 2.0;
  const Autodiff model(AtZero{});
  Vector<double> g(2);
  model.vjp(w, Matrix<double>::Ones(1, 1), Vector<double>::Ones(1), g);
  CHECK(g[0] == 0.0);
  CHECK(g[1] == 0.0);
  const Vector<double> v = Vector<double>::Ones(2);
  Vector<double> df(1);
  model.jvp(w, Matrix<double>::Ones(1, 1), v, df);
  CHECK(df[0] == 0.0);
}

TEST_CASE("outputs that are parameters or constants have derivatives") {
  const Autodiff model(ParametersAsOutputs{});
  Matrix<double> G(2, 3);
  G << 1.0, 2.0, 4.0, 8.0, 16.0, 32.0;
  Vector<double> g(2);
  model.vjp(Vector<double>::Ones(2), Matrix<double>::Ones(2, 1), G, g);
  CHECK(g[0] == 1.0 + 2.0 + 8.0 + 16.0);
  CHECK(g[1] == 0.0);
}

TEST_CASE("automatic derivatives in single precision are those in double to its rounding") {
  RandomStream random(87);
  const Autodiff<TanhOutputs, float> model(TanhOutputs{3, 11, 4});
  const Autodiff<TanhOutputs> wide(TanhOutputs{3, 11, 4});
  const Vector<float> w = random_vector(random, model.num_parameters()).cast<float>();
  const Matrix<float> X = random_matrix(random, 6, 3).cast<float>();
  const Matrix<float> G = random_matrix(random, 6, 4).cast<float>();
  Vector<float> g(w.size());
  Vector<double> expected(w.size());
  model.vjp(w, X, G, g);
  wide.vjp(w.cast<double>(), X.cast<double>(), G.cast<double>(), expected);
  // The sums of `reordering`, in rounding of float.
  const double rounding = 10 * (11 + 3 + 24) * static_cast<double>(std::numeric_limits<float>::epsilon());
  CHECK((g.cast<double>() - expected).norm() <= rounding * expected.norm());
}

TEST_CASE("a function that returns another number of values than it says is refused") {
  const Matrix<double> X = Matrix<double>::Ones(2, 1);
  Matrix<double> F(2, 3);
  const Vector<double> w = Vector<double>::Ones(5);
  Vector<double> g(5);
  Autodiff(AnotherNumberOfOutputs{3}).predict(w, X, F);
  CHECK(F == Matrix<double>::Ones(2, 3));
  for (const Index returned : {2, 4}) {
    const Autodiff model(AnotherNumberOfOutputs{returned});
    const auto names_both = message_contains(
        "num_outputs() is 3, but the number of values that its predict returns is " + std::to_string(returned));
    CHECK_THROWS_MATCHES(model.predict(w, X, F), DimensionError, names_both);
    CHECK_THROWS_MATCHES(model.vjp(w, X, F, g), DimensionError, names_both);
    CHECK_THROWS_MATCHES(model.jvp(w, X, w, F), DimensionError, names_both);
  }
  Matrix<double> two(2, 2);
  CHECK_THROWS_MATCHES(Autodiff(OneOfTwoOutputs{}).predict(Vector<double>::Ones(1), X, two), DimensionError,
                       message_contains("num_outputs() is 2, but the number of values that its predict returns is 1"));
}

TEST_CASE("outputs of another shape than N x K are refused") {
  const Autodiff model(TanhOutputs{1, 2, 3});
  const Matrix<double> X = Matrix<double>::Ones(2, 1);
  const Vector<double> w = Vector<double>::Ones(10);
  Matrix<double> F(2, 2);
  Vector<double> g(10);
  CHECK_THROWS_MATCHES(model.predict(w, X, F), DimensionError, message_contains("out is 2 x 2 where N = 2 and K = 3"));
  CHECK_THROWS_MATCHES(model.vjp(w, X, F, g), DimensionError, message_contains("G is 2 x 2 where N = 2 and K = 3"));
  CHECK_THROWS_MATCHES(model.jvp(w, X, w, F), DimensionError, message_contains("dF is 2 x 2 where N = 2 and K = 3"));
}
