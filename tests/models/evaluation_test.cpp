#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/testing/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Batches of a model with its derivatives by itself: F against differences, adjointness, in-place descent, smaller
/// batches.
template <HasEvaluation M>
void check_batches(const M& model, const Vector<double>& w, RandomStream& random) {
  const Index d = model.num_inputs();
  const Index outputs = model.num_outputs();
  auto at = model.make_evaluation(7);
  for (const Index batch : {7, 3, 1}) {
    const Matrix<double> X = random_matrix(random, batch, d);
    const Matrix<double> G = random_matrix(random, batch, outputs);
    const Vector<double> v = random_vector(random, w.size());
    Matrix<double> F(batch, outputs);
    Matrix<double> dF(batch, outputs);
    at.forward(w, X, F);
    at.jvp(v, dF);
    const auto flat = [&](const Matrix<double>& values) {
      return Vector<double>(Eigen::Map<const Vector<double>>(values.data(), values.size()));
    };
    const auto check = testing::check_derivative<double>(
        [&](double s) {
          Matrix<double> moved(batch, outputs);
          auto elsewhere = model.make_evaluation(batch);
          const Vector<double> point = w + s * v;
          elsewhere.forward(point, X, moved);
          return flat(moved);
        },
        flat(dF), 1e-5);
    CHECK(check.passed());

    // <G, J v> = <J^T G, v>, after the jvp, which must not disturb what the pullback needs
    Vector<double> pulled = Vector<double>::Zero(w.size());
    at.add_pullback(G, 1.0, pulled);
    const double left = flat(G).dot(flat(dF));
    CHECK_THAT(pulled.dot(v), near(left, 0, 1e3 * eps * pulled.norm() * v.norm()));

    // added to what is there, with a scale, also onto the parameters themselves
    Vector<double> target = v;
    at.add_pullback(G, -0.3, target);
    CHECK((target - (v - 0.3 * pulled)).norm() <= 100 * eps * (v.norm() + pulled.norm()));
    Vector<double> own = w;
    at.forward(own, X, F);
    at.add_pullback(G, -0.3, own);
    CHECK((own - (w - 0.3 * pulled)).norm() <= 100 * eps * (w.norm() + pulled.norm()));
  }
  Matrix<double> F(8, outputs);
  const Matrix<double> other = Matrix<double>::Zero(7, d + 1);
  CHECK_THROWS_AS(at.forward(w, other, F), DimensionError);
  CHECK_THROWS_AS(model.make_evaluation(0), DimensionError);
}

const std::vector<std::pair<std::vector<Index>, bool>>& shapes() {
  static const std::vector<std::pair<std::vector<Index>, bool>> all = {
      {{1}, false}, {{6}, true}, {{5, 4}, false}, {{3, 6, 4}, true}};
  return all;
}

}  // namespace

TEST_CASE("the ReLU network, its tangent model and the linear classifier pass the checks of a batch model") {
  RandomStream random(501);
  for (const auto& [widths, biases] : shapes())
    for (const Index outputs : {1, 2, 5}) {
      const ReluNetwork<double> net(3, widths, biases, outputs);
      const Vector<double> w = random_vector(random, net.num_parameters());
      check_batches(net, w, random);
      const Linearized<ReluNetwork<double>> tangent(net, w);
      check_batches(tangent, w + random_vector(random, w.size()), random);
    }
  const LinearClassifier<double> linear(4, 3);
  check_batches(linear, random_vector(random, 12), random);
}

TEST_CASE("a wide ReLU network, worked on in blocks of neurons, has the batches of the model of one value per sample") {
  RandomStream random(504);
  for (const auto& widths : {std::vector<Index>{1030}, std::vector<Index>{3, 520}, std::vector<Index>{600, 2, 513}})
    for (const bool biases : {false, true}) {
      const ReluNetwork<double> net(3, widths, biases);
      const Vector<double> w = random_vector(random, net.num_parameters());
      const Vector<double> v = random_vector(random, net.num_parameters());
      const Matrix<double> X = random_matrix(random, 7, 3);
      const Vector<double> r = random_vector(random, 7);
      Vector<double> f(7), df(7), gradient(w.size());
      net.predict(w, X, f);
      net.jvp(w, X, v, df);
      net.vjp(w, X, r, gradient);
      auto at = net.make_evaluation(9);
      Matrix<double> F(7, 1), dF(7, 1);
      Vector<double> pulled = Vector<double>::Zero(w.size());
      at.forward(w, X, F);
      at.jvp(v, dF);
      at.add_pullback(r, 1.0, pulled);
      if (biases) CHECK(std::min({f.norm(), df.norm(), gradient.norm()}) > 0.0);
      // Rounding of sums of a thousand terms in another order.
      CHECK((F - f).norm() <= 1e3 * eps * f.norm());
      CHECK((dF - df).norm() <= 1e3 * eps * df.norm());
      CHECK((pulled - gradient).norm() <= 1e3 * eps * gradient.norm());
    }
}

TEST_CASE("the batches of a ReLU network are the same bit for bit for any number of threads") {
  RandomStream random(505);
  const ReluNetwork<float> net(5, {1100, 700}, true, 3);
  const Vector<float> w0 = net.initial_parameters(random, Scale<float>::from_value(1));
  const Vector<float> v = random_vector(random, w0.size()).cast<float>();
  const Matrix<float> X = random_matrix(random, 20, 5).cast<float>();
  const Matrix<float> G = random_matrix(random, 20, 3).cast<float>();
  const auto run = [&](int threads) {
    auto at = net.make_evaluation(20, {threads});
    Vector<float> w = w0;
    Matrix<float> F(20, 3), dF(20, 3), last(20, 3);
    at.forward(w, X, F);
    at.jvp(v, dF);
    at.descend_and_forward(G, 0.01F, w, X, last);
    at.add_pullback(G, 0.01F, w);
    Vector<float> all(w.size() + 180);
    all << w, F.reshaped(), dF.reshaped(), last.reshaped();
    return all;
  };
  const Vector<float> one = run(1);
  CHECK(one.allFinite());
  for (const int threads : {2, 3, 7}) CHECK(run(threads) == one);
  const Linearized<ReluNetwork<float>> tangent(net, w0);
  const Vector<float> moved = w0 + v;
  const auto run_tangent = [&](int threads) {
    auto at = tangent.make_evaluation(20, {threads});
    Matrix<float> F(20, 3);
    at.forward(moved, X, F);
    return F;
  };
  CHECK(run_tangent(3) == run_tangent(1));
  CHECK_THROWS_MATCHES(net.make_evaluation(20, {-1}), ArgumentError, message_contains("threads"));
}

TEST_CASE("samples that are mostly zero give what they give in batches too small to leave the zeros out") {
  RandomStream random(507);
  constexpr Index half = 40, samples = 2 * half, features = 70;
  const auto images = [&](double part) {
    Matrix<double> X = random_matrix(random, samples, features);
    for (double& x : X.reshaped())
      if (random.uniform() >= part) x = 0.0;
    return X;
  };
  for (const auto& widths : {std::vector<Index>{530}, std::vector<Index>{300, 20}}) {
    CAPTURE(widths.size());
    const ReluNetwork<double> net(features, widths, true, 2);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const Vector<double> v = random_vector(random, net.num_parameters());
    const Matrix<double> X = images(0.2);
    const Matrix<double> dense = images(0.5);
    const Matrix<double> G = random_matrix(random, samples, 2);
    auto whole = net.make_evaluation(samples);
    auto part = net.make_evaluation(half);
    Matrix<double> F(samples, 2), dF(samples, 2), of_kept(samples, 2), F_part(samples, 2), dF_part(samples, 2);
    Vector<double> g(w.size()), g_kept(w.size()), g_part = Vector<double>::Zero(w.size());
    whole.forward(w, X, F);
    whole.jvp(v, dF);
    whole.vjp(G, g);
    whole.linearize();
    whole.jvp(v, of_kept);
    whole.vjp(G, g_kept);
    for (const Index first : {Index(0), half}) {
      const Matrix<double> some = X.middleRows(first, half);
      part.forward(w, some, F_part.middleRows(first, half));
      part.jvp(v, dF_part.middleRows(first, half));
      part.add_pullback(G.middleRows(first, half), 1.0, g_part);
    }
    // The same terms in another order: roundings of sums of some hundreds, each of about the size of the result.
    constexpr double rounding = 1e3 * std::numeric_limits<double>::epsilon();
    CHECK((F - F_part).norm() <= rounding * F.norm());
    CHECK((dF - dF_part).norm() <= rounding * dF.norm());
    CHECK((of_kept - dF).norm() <= rounding * dF.norm());
    CHECK((g - g_part).norm() <= rounding * g.norm());
    CHECK((g_kept - g).norm() <= rounding * g.norm());
    // The zeros are left out: infinity times zero would be no number.
    Matrix<double> unseen = X;
    unseen.col(0).setZero();
    Vector<double> infinite = w;
    infinite[0] = std::numeric_limits<double>::infinity();
    whole.forward(infinite, unseen, F);
    CHECK(F.allFinite());
    // A kernel takes the place of the activations, which a jvp then needs again; a copy stays where it was.
    whole.forward(w, X, F);
    auto copy = whole;
    Matrix<double> K(samples, samples);
    whole.kernel(K, KernelForm::trace);
    whole.jvp(v, of_kept);
    CHECK(of_kept == dF);
    whole.forward(w, dense, F_part);
    copy.jvp(v, of_kept);
    CHECK(of_kept == dF);
    // The tangent model at w is the network there, and its derivative.
    auto tangent = Linearized<ReluNetwork<double>>(net, w).make_evaluation(samples);
    const Vector<double> moved = w + v;
    tangent.forward(moved, X, F_part);
    CHECK((F_part - F - dF).norm() <= rounding * (F.norm() + dF.norm()));
    // From batches with zeros to batches without and back, in one pass and in two, on any number of threads.
    const std::vector<Matrix<double>> batches = {dense, X, X.topRows(65), X.topRows(50), X, dense.topRows(70)};
    const auto run = [&](int threads, bool in_one_pass) {
      auto at = net.make_evaluation(samples, {threads});
      Vector<double> moving = w;
      Matrix<double> out(samples, 2);
      at.forward(moving, X, out);
      Index size = samples;
      for (const Matrix<double>& next : batches) {
        if (in_one_pass) {
          at.descend_and_forward(G.topRows(size), -0.01, moving, next, out.topRows(next.rows()));
        } else {
          at.add_pullback(G.topRows(size), -0.01, moving);
          at.forward(moving, next, out.topRows(next.rows()));
        }
        size = next.rows();
      }
      Vector<double> all(moving.size() + 2 * size);
      all << moving, out.topRows(size).reshaped();
      return all;
    };
    const Vector<double> one = run(1, true);
    CHECK(one.allFinite());
    CHECK(run(1, false) == one);
    for (const int threads : {2, 3}) CHECK(run(threads, true) == one);
  }
}

TEST_CASE("descending and continuing to the next batch in one pass is both bit for bit") {
  RandomStream random(506);
  for (const auto& widths : {std::vector<Index>{4}, std::vector<Index>{1030}, std::vector<Index>{520, 6, 530}})
    for (const bool biases : {false, true}) {
      const ReluNetwork<double> net(3, widths, biases, 2);
      const Vector<double> w0 = random_vector(random, net.num_parameters());
      auto at = net.make_evaluation(7);
      for (const auto& [batch, next] : {std::pair<Index, Index>{7, 4}, {4, 7}, {5, 5}}) {
        const Matrix<double> X = random_matrix(random, batch, 3);
        const Matrix<double> X_next = random_matrix(random, next, 3);
        const Matrix<double> G = random_matrix(random, batch, 2);
        Matrix<double> F(batch, 2), F_next(next, 2), expected(next, 2);
        Vector<double> w = w0;
        at.forward(w, X, F);
        at.add_pullback(G, -0.1, w);
        at.forward(w, X_next, expected);
        Vector<double> fused = w0;
        at.forward(fused, X, F);
        at.descend_and_forward(G, -0.1, fused, X_next, F_next);
        CHECK(fused == w);
        CHECK(F_next == expected);
        CHECK(w != w0);
        // What a pullback needs is that of the next batch.
        const Matrix<double> H = random_matrix(random, next, 2);
        Vector<double> pulled = Vector<double>::Zero(w.size());
        at.add_pullback(H, 1.0, pulled);
        Vector<double> anew = Vector<double>::Zero(w.size());
        at.forward(w, X_next, expected);
        at.add_pullback(H, 1.0, anew);
        CHECK(pulled == anew);
        Matrix<double> too_large(8, 2);
        const Matrix<double> too_many = Matrix<double>::Zero(8, 3);
        CHECK_THROWS_MATCHES(at.descend_and_forward(H, 1.0, w, too_many, too_large), DimensionError,
                             message_contains("at most 7"));
      }
    }
}

TEST_CASE("a weight of a ReLU network that is NaN makes the outputs of a batch NaN") {
  RandomStream random(507);
  const ReluNetwork<float> net(40, {30, 20}, false, 2);
  const Matrix<float> X = random_matrix(random, 6, 40).cast<float>();
  Matrix<float> F(6, 2);
  auto at = net.make_evaluation(6);
  for (const Index position : {Index(7), Index(1250), net.num_parameters() - 1}) {
    Vector<float> w = net.initial_parameters(random, Scale<float>::from_value(1));
    w[position] = std::numeric_limits<float>::quiet_NaN();
    at.forward(w, X, F);
    CHECK(F.array().isNaN().rowwise().any().all());
  }
  const ReluNetwork<float> single(40, {30, 20}, false);
  Vector<float> f(6);
  for (const Index position : {Index(7), Index(1250)}) {
    Vector<float> w = single.initial_parameters(random, Scale<float>::from_value(1));
    w[position] = std::numeric_limits<float>::quiet_NaN();
    single.predict(w, X, f);
    CHECK(f.array().isNaN().all());
  }
}

TEST_CASE("with one output a batch has the values and gradients of the model of one value per sample") {
  RandomStream random(502);
  for (const auto& [widths, biases] : shapes()) {
    const ReluNetwork<double> net(2, widths, biases);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const Matrix<double> X = random_matrix(random, 6, 2);
    const Vector<double> r = random_vector(random, 6);
    auto at = net.make_evaluation(6);
    Vector<double> f(6), gradient(w.size()), pulled = Vector<double>::Zero(w.size());
    Matrix<double> F(6, 1);
    net.predict(w, X, f);
    net.vjp(w, X, r, gradient);
    at.forward(w, X, F);
    at.add_pullback(r, 1.0, pulled);
    CHECK((F.col(0) - f).norm() <= 100 * eps * f.norm());
    CHECK((pulled - gradient).norm() <= 100 * eps * gradient.norm());
    const Linearized<ReluNetwork<double>> tangent(net, w);
    const Vector<double> moved = w + random_vector(random, w.size());
    auto tangent_ws = tangent.make_evaluation(6);
    tangent.predict(moved, X, f);
    tangent_ws.forward(moved, X, F);
    CHECK((F.col(0) - f).norm() <= 1e3 * eps * (1 + f.norm()));
  }
}

TEST_CASE("output k of a wide network is the network whose last layer is column k alone, and gradients add up") {
  RandomStream random(508);
  for (const Index width : {1030, 2}) {
    const ReluNetwork<double> net(3, {520, width}, true, 3);
    const ReluNetwork<double> single(3, {520, width}, true);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const Matrix<double> X = random_matrix(random, 6, 3);
    const Matrix<double> G = random_matrix(random, 6, 3);
    Matrix<double> F(6, 3);
    Vector<double> pulled = Vector<double>::Zero(w.size());
    auto at = net.make_evaluation(6, {2});
    at.forward(w, X, F);
    at.add_pullback(G, 1.0, pulled);
    const Index hidden = w.size() - 3 * (width + 1);
    Vector<double> expected = Vector<double>::Zero(w.size());
    for (Index k = 0; k < 3; ++k) {
      Vector<double> part(single.num_parameters());
      part << w.head(hidden), w.segment(hidden + width * k, width), w[hidden + 3 * width + k];
      Vector<double> f(6);
      single.predict(part, X, f);
      // Rounding of sums of a thousand terms in another order, here and below.
      CHECK((F.col(k) - f).norm() <= 1e3 * eps * f.norm());
      Vector<double> gradient(part.size());
      single.vjp(part, X, G.col(k), gradient);
      expected.head(hidden) += gradient.head(hidden);
      expected.segment(hidden + width * k, width) += gradient.segment(hidden, width);
      expected[hidden + 3 * width + k] += gradient[hidden + width];
    }
    CHECK((pulled - expected).norm() <= 1e3 * eps * expected.norm());
  }
}

TEST_CASE("output k of a network is the network whose last layer is column k alone") {
  RandomStream random(503);
  const ReluNetwork<double> net(3, {5, 4}, false, 3);
  const ReluNetwork<double> single(3, {5, 4}, false);
  const Vector<double> w = random_vector(random, net.num_parameters());
  const Matrix<double> X = random_matrix(random, 6, 3);
  Matrix<double> F(6, 3);
  auto at = net.make_evaluation(6);
  at.forward(w, X, F);
  for (Index k = 0; k < 3; ++k) {
    Vector<double> part(single.num_parameters());
    part << w.head(35), w.segment(35 + 4 * k, 4);
    Vector<double> f(6);
    single.predict(part, X, f);
    CHECK((F.col(k) - f).norm() <= 100 * eps * f.norm());
  }
}

TEST_CASE("a network of several outputs refuses to be one of one value per sample, and invalid shapes") {
  const ReluNetwork<double> net(2, {3}, false, 2);
  const Vector<double> w = Vector<double>::Ones(net.num_parameters());
  Vector<double> f(4);
  const Matrix<double> X = Matrix<double>::Ones(4, 2);
  CHECK_THROWS_MATCHES(net.predict(w, X, f), DimensionError, message_contains("4 x 2 is needed"));
  CHECK_THROWS_MATCHES(ReluNetwork<double>(2, {3}, false, 0), DimensionError, message_contains("num_outputs > 0"));
  auto at = net.make_evaluation(3);
  Matrix<double> F(4, 2);
  CHECK_THROWS_MATCHES(at.forward(w, X, F), DimensionError, message_contains("at most 3"));
  Matrix<double> G(3, 2);
  CHECK_THROWS_MATCHES(at.add_pullback(G, 1.0, f), ArgumentError, message_contains("at no point: forward"));
  at.forward(w, X.topRows(3), G);
  CHECK_THROWS_AS(at.add_pullback(G, 1.0, f), DimensionError);
  CHECK_THROWS_AS(LinearClassifier<double>(2, 0), DimensionError);
  const LinearClassifier<double> linear(2, 2);
  auto small = linear.make_evaluation(3);
  Vector<double> v = Vector<double>::Ones(4);
  CHECK_THROWS_MATCHES(small.forward(v, X, F), DimensionError, message_contains("at most 3"));
  small.forward(v, X.topRows(3), G);
  CHECK_THROWS_MATCHES(small.add_pullback(F, 1.0, v), DimensionError, message_contains("G is 4 x 2"));
}
