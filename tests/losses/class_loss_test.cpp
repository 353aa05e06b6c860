#include <algorithm>
#include <cmath>

#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/linear_predictor.hpp"
#include "richflow/testing/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// `f(w, x) = <w, x>`.
struct LinearModel {
  using Scalar = double;
  Index d;
  [[nodiscard]] Index num_parameters() const { return d; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const {
    out.noalias() = X * w;
  }
  void vjp(ConstVectorRef<double> /*w*/, ConstMatrixRef<double> X, ConstVectorRef<double> r,
           VectorRef<double> out) const {
    out.noalias() = X.transpose() * r;
  }
};

Vector<double> signs(RandomStream& random, Index n) {
  Vector<double> y(n);
  for (double& value : y) value = random.uniform_integer(2) == 0 ? -1.0 : 1.0;
  return y;
}

template <class L>
void check_loss_gradient(const L& loss, RandomStream& random) {
  const Vector<double> f = random_vector(random, 5);
  const Vector<double> y = signs(random, 5);
  Vector<double> gradient = f;
  loss.gradient(gradient, y, gradient);  // in place
  const auto check = testing::check_gradient<double>([&](const Vector<double>& at) { return loss.value(at, y); }, f,
                                                     gradient, random_vector(random, 5), 1e-3);
  CHECK(check.passed());
}

/// The direction of the flow of a loss with two support vectors of unequal norm, (2, 0) and (0, 1), both labelled +1:
/// the maximum margin direction is that of the least norm w with <w, x_n> >= 1, which is (1/2, 1).
template <class L>
Vector<double> flow_direction(double t_end) {
  Matrix<double> X(3, 2);
  X << 2, 0, 0, 1, -3, -2;
  const Dataset data(X, Vector<double>{{1, 1, -1}});
  const GradientFlow<LinearModel, L> flow(LinearModel{2}, data);
  const auto run = integrate(flow, Vector<double>::Zero(2), TimeSpan{0.0, t_end}, DormandPrince{},
                             PiController<>{.tolerance = {1e-8, 1e-10}});
  REQUIRE(run.ok());
  return run.w.normalized();
}

}  // namespace

TEST_CASE("logistic and exponential loss: gradients against central differences") {
  RandomStream random(301);
  for (int repetition = 0; repetition < 10; ++repetition) {
    check_loss_gradient(LogisticLoss<double>{}, random);
    check_loss_gradient(ExponentialLoss<double>{}, random);
  }
}

TEST_CASE("the logistic loss is accurate at any margin") {
  const LogisticLoss<double> loss;
  for (const double margin : {-1e4, -700.0, -40.0, -1.0, 0.0, 1e-9, 1.0, 40.0, 700.0}) {
    for (const double label : {-1.0, 1.0}) {
      const Vector<double> f = Vector<double>::Constant(1, label * margin);
      const Vector<double> y = Vector<double>::Constant(1, label);
      const long double exact =
          std::log1pl(std::exp(-std::fabs(static_cast<long double>(margin)))) + std::max(0.0L, -1.0L * margin);
      // exp, log1p and one addition: each within an ulp or so
      CHECK_THAT(loss.value(f, y), within_ulp(exact, 4));
      Vector<double> g(1);
      loss.gradient(f, y, g);
      CHECK_THAT(g[0], within_ulp(-label / (1.0L + std::exp(static_cast<long double>(margin))), 4));
    }
  }
  const Vector<double> y = Vector<double>::Ones(1);
  CHECK(loss.value(Vector<double>::Constant(1, 1e4), y) == 0.0);
  CHECK(std::isnan(loss.value(Vector<double>::Constant(1, std::nan("")), y)));
}

TEST_CASE("the flows of the exponential and logistic loss go to the maximum margin, at the rate 1 / log t") {
  const Vector<double> best = Vector<double>{{1, 2}}.normalized();
  const auto distance = [&](const Vector<double>& direction) { return (direction - best).norm(); };
  const double early = distance(flow_direction<ExponentialLoss<double>>(1e2));
  const double late = distance(flow_direction<ExponentialLoss<double>>(1e4));
  // Soudry et al. (2018), Theorem 3: w = best log t + O(1), so that the distance halves as log t doubles, up to the
  // next order.
  CHECK(late < 0.65 * early);
  CHECK(late < 0.1);
  CHECK(distance(flow_direction<LogisticLoss<double>>(1e4)) < 0.1);
  // Where the flow begins, the direction is that of the mean of y x.
  CHECK(distance(Vector<double>{{5, 3}}.normalized()) > 0.5);
}

TEST_CASE("a loss of margins refuses labels other than +1 and -1, with the way to them") {
  const Matrix<double> X = Matrix<double>::Ones(3, 2);
  const LinearModel model{2};
  const Dataset zero_one(X, Vector<double>{{1.0, 0.0, 1.0}});
  CHECK_THROWS_MATCHES(GradientFlow(model, zero_one, LogisticLoss<double>{}), ArgumentError,
                       message_contains("y(1) must be +1 or -1 for a loss of margins, got 0; labels 0 and 1 become"));
  CHECK_THROWS_MATCHES(GradientFlow(model, zero_one, ExponentialLoss<double>{}), ArgumentError,
                       message_contains("2 y - 1"));
  const Dataset two(X, Vector<double>{{1.0, -1.0, 2.0}});
  CHECK_THROWS_MATCHES(GradientFlow(model, two, LogisticLoss<double>{}), ArgumentError, message_contains("y(2)"));
  const Dataset right(X, Vector<double>{{1.0, -1.0, 1.0}});
  CHECK(GradientFlow(model, right, LogisticLoss<double>{}).dimension() == 2);
}

TEST_CASE("cross-entropy: the gradient against central differences, and in place") {
  RandomStream random(302);
  const CrossEntropy<double> loss;
  for (const Index batch : {1, 3, 64, 65, 130}) {
    for (const Index classes : {2, 3, 10}) {
      const Matrix<double> F = 3.0 * random_matrix(random, batch, classes);
      Vector<int> labels(batch);
      for (int& label : labels) label = static_cast<int>(random.uniform_integer(static_cast<std::uint64_t>(classes)));
      Matrix<double> G(batch, classes);
      const double value = loss.value_and_gradient(F, labels, G);
      CHECK(value == loss.value(F, labels));
      Matrix<double> in_place = F;
      CHECK(loss.value_and_gradient(in_place, labels, in_place) == value);
      CHECK(in_place == G);
      // Probabilities minus an indicator.
      CHECK(G.rowwise().sum().cwiseAbs().maxCoeff() <= 4 * eps * static_cast<double>(classes));
      const auto flat = [](const Matrix<double>& matrix) {
        return Vector<double>(Eigen::Map<const Vector<double>>(matrix.data(), matrix.size()));
      };
      const auto check = testing::check_gradient<double>(
          [&](const Vector<double>& at) {
            return loss.value(Eigen::Map<const Matrix<double>>(at.data(), batch, classes), labels);
          },
          flat(F), flat(G), random_vector(random, F.size()), 1e-3);
      CHECK(check.passed());
    }
  }
}

TEST_CASE("cross-entropy against its definition in extended precision, up to extreme outputs") {
  RandomStream random(303);
  const CrossEntropy<double> loss;
  for (const double size : {1e-6, 1.0, 30.0, 1e4}) {
    for (int repetition = 0; repetition < 20; ++repetition) {
      const Index classes = 4;
      const Matrix<double> F = size * random_matrix(random, 1, classes);
      const int label = static_cast<int>(random.uniform_integer(4));
      const Vector<int> labels = Vector<int>::Constant(1, label);
      long double sum = 0.0L;  // of the others, relative to the label
      long double largest = 0.0L;
      for (Index k = 0; k < classes; ++k) largest = std::max(largest, static_cast<long double>(F(0, k)) - F(0, label));
      for (Index k = 0; k < classes; ++k)
        if (k != label) sum += std::exp(static_cast<long double>(F(0, k)) - F(0, label) - largest);
      const long double own = std::exp(-largest);
      const long double exact = largest > 0.0L ? largest + std::log(own + sum) : std::log1p(sum);
      Matrix<double> G(1, classes);
      const double value = loss.value_and_gradient(F, labels, G);
      // An exponent d is rounded to eps |d|, its exponential to that relative error.
      const double relative = 8 * eps * (1 + std::min(750.0, 10 * size));
      CHECK_THAT(value, near(static_cast<double>(exact), relative, 1e-307));
      CHECK_THAT(G(0, label), near(static_cast<double>(-sum / (own + sum)), relative, 1e-307));
    }
  }
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    for (Index k = 0; k < 3; ++k) {
      Matrix<double> F = Matrix<double>::Ones(70, 3);
      F(68, k) = bad;
      CHECK(std::isnan(loss.value(F, Vector<int>::Ones(70))));
    }
  }
}

TEST_CASE("cross-entropy with two classes is the logistic loss of the difference") {
  RandomStream random(304);
  const Matrix<double> F = 5.0 * random_matrix(random, 100, 2);
  const Vector<double> y = signs(random, 100);
  const Vector<int> labels = ((y.array() + 1.0) / 2.0).cast<int>();
  const Vector<double> difference = F.col(1) - F.col(0);
  Matrix<double> G(100, 2);
  const double value = CrossEntropy<double>{}.value_and_gradient(F, labels, G);
  CHECK_THAT(value, near(LogisticLoss<double>{}.value(difference, y), 100 * eps, 0));
  Vector<double> g(100);
  LogisticLoss<double>{}.gradient(difference, y, g);
  CHECK((G.col(1) - g).cwiseAbs().maxCoeff() <= 100 * eps);
}

TEST_CASE("cross-entropy refuses what does not fit") {
  const CrossEntropy<double> loss;
  const Matrix<double> F = Matrix<double>::Zero(2, 3);
  CHECK_THROWS_MATCHES(loss.value(F, Vector<int>::Constant(2, 3)), ArgumentError,
                       message_contains("labels(0) must be in 0 .. 2, got 3"));
  CHECK_THROWS_MATCHES(loss.value(F, Vector<int>::Constant(2, -1)), ArgumentError, message_contains("got -1"));
  CHECK_THROWS_AS(loss.value(F, Vector<int>::Zero(3)), DimensionError);
  CHECK_THROWS_AS(loss.value(Matrix<double>::Zero(2, 1), Vector<int>::Zero(2)), DimensionError);
  Matrix<double> wrong(3, 3);
  CHECK_THROWS_AS(loss.value_and_gradient(F, Vector<int>::Zero(2), wrong), DimensionError);
}

TEST_CASE("the count of correct samples: ties are wrong") {
  Matrix<double> F(3, 2);
  F << 1, 2, 2, 1, 1, 1;
  CHECK(count_correct(F, Vector<int>{{1, 1, 0}}) == 1);
}
