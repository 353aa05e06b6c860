#include <Eigen/Dense>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "richflow/core/random.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/testing/convergence_order.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// y' = -Q (rate * sinh(Q^T y)) with an orthogonal Q: the gradient flow of a convex function, coupled, nonlinear, and
/// solved by u = Q^T y, tanh(u_i(t) / 2) = tanh(u_i(0) / 2) exp(-rate_i t).
template <class S = double>
struct RotatedSinh {
  using Scalar = S;
  Matrix<S> Q;
  Vector<S> rates;
  S jacobian_factor = S(1);  // 1: exact; otherwise a wrong Jacobian on purpose

  [[nodiscard]] Index dimension() const { return rates.size(); }
  void operator()(S, ConstVectorRef<S> y, VectorRef<S> dy) const {
    const Vector<S> u = Q.transpose().lazyProduct(y);
    const Vector<S> slope = rates.array() * u.array().sinh();
    dy = -Q.lazyProduct(slope);
  }
  void negative_jacobian(S, ConstVectorRef<S> y, MatrixRef<S> out) const {
    const Vector<S> u = Q.transpose().lazyProduct(y);
    out.setConstant(std::numeric_limits<S>::quiet_NaN());  // only the lower triangle may be read
    for (Index i = 0; i < Q.rows(); ++i)
      for (Index j = 0; j <= i; ++j) {
        out(i, j) = S(0);
        for (Index k = 0; k < Q.cols(); ++k)
          out(i, j) += jacobian_factor * rates[k] * std::cosh(u[k]) * Q(i, k) * Q(j, k);
      }
  }
  [[nodiscard]] S loss(ConstVectorRef<S> y) const { return y.squaredNorm(); }
  [[nodiscard]] Vector<S> exact(const Vector<S>& y0, S t) const {
    Vector<S> u = Q.transpose().lazyProduct(y0);
    for (Index k = 0; k < u.size(); ++k) u[k] = S(2) * std::atanh(std::tanh(u[k] / S(2)) * std::exp(-t * rates[k]));
    return Q.lazyProduct(u);
  }
};

template <class S = double>
RotatedSinh<S> rotated_sinh(std::uint64_t seed, std::initializer_list<double> rates) {
  RandomStream random(seed);
  const auto n = static_cast<Index>(rates.size());
  const Matrix<double> A = random_matrix(random, n, n);
  RotatedSinh<S> problem{A.cast<S>(), Vector<S>(n)};
  // Gram and Schmidt, twice for orthogonality to the last digit.
  Matrix<S>& Q = problem.Q;
  for (Index j = 0; j < n; ++j) {
    for (int pass = 0; pass < 2; ++pass)
      for (Index k = 0; k < j; ++k) Q.col(j) -= S(Q.col(k).dot(Q.col(j))) * Q.col(k);
    Q.col(j) /= Q.col(j).norm();
  }
  Index i = 0;
  for (const double rate : rates) problem.rates[i++] = static_cast<S>(rate);
  return problem;
}

Vector<double> start(Index n) { return Vector<double>::LinSpaced(n, 0.4, 1.4); }

/// y' = y: not a descent, S = -1, which makes I / (gamma h) + S indefinite for large h.
struct Growth {
  using Scalar = double;
  [[nodiscard]] static Index dimension() { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = y; }
  void negative_jacobian(double, ConstVectorRef<double>, MatrixRef<double> S) const { S(0, 0) = -1.0; }
};

template <std::size_t s>
using Table = Eigen::Matrix<long double, static_cast<int>(s), static_cast<int>(s)>;
template <std::size_t s>
using Column = Eigen::Matrix<long double, static_cast<int>(s), 1>;

/// A tableau back in the coefficients of Rosenbrock's form, in which the order conditions are stated:
/// k_i = F(y + sum alpha_ij k_j) + h J sum gamma_ij k_j.
template <class T>
struct Butcher {
  static constexpr std::size_t s = T::stages;
  Table<s> alpha, gamma;
  Column<s> b, b_embedded;

  Butcher() {
    Table<s> a = Table<s>::Zero();
    Table<s> inverse = Table<s>::Zero();
    Column<s> m, e;
    for (std::size_t i = 0; i < s; ++i) {
      const auto r = static_cast<Index>(i);
      for (std::size_t j = 0; j < s; ++j) {
        const auto c = static_cast<Index>(j);
        a(r, c) = T::a[i][j];
        inverse(r, c) = (i == j ? 1 / T::gamma : 0) - T::c[i][j];
      }
      m(r) = T::m[i];
      e(r) = T::e[i];
    }
    // It is lower triangular.
    gamma.setZero();
    for (Index c = 0; c < gamma.cols(); ++c)
      for (Index r = c; r < gamma.rows(); ++r) {
        gamma(r, c) = r == c ? 1 : 0;
        for (Index k = c; k < r; ++k) gamma(r, c) -= inverse(r, k) * gamma(k, c);
        gamma(r, c) /= inverse(r, r);
      }
    alpha = a * gamma;
    b = gamma.transpose() * m;
    b_embedded = b - gamma.transpose() * e;
  }
};

/// Residuals of the conditions of order 1, 2, ... with beta = alpha + gamma (Hairer and Wanner, IV.7).
template <class T>
long double rosenbrock_residual(const Column<T::stages>& b, int order) {
  const Butcher<T> t;
  using V = Column<T::stages>;
  const V one = V::Ones();
  const V alpha = t.alpha * one;
  const Table<T::stages> B = t.alpha + t.gamma;
  const V beta = B * one;
  const V square = alpha.array().square();
  long double worst = std::fabs(b.sum() - 1);
  const auto check = [&](long double value, long double wanted) { worst = std::max(worst, std::fabs(value - wanted)); };
  if (order >= 2) check(b.dot(beta), 1.0L / 2);
  if (order >= 3) {
    check(b.dot(square), 1.0L / 3);
    check(b.dot(V(B * beta)), 1.0L / 6);
  }
  if (order >= 4) {
    check(b.dot(V(alpha.array().cube())), 1.0L / 4);
    check(b.dot(V(alpha.array() * (t.alpha * beta).array())), 1.0L / 8);
    check(b.dot(V(B * square)), 1.0L / 12);
    check(b.dot(V(B * (B * beta))), 1.0L / 24);
  }
  return worst;
}

/// The same for an arbitrary matrix in place of J: alpha and gamma meet separate conditions.
template <class T>
long double w_residual(const Column<T::stages>& b, int order) {
  const Butcher<T> t;
  using V = Column<T::stages>;
  const V one = V::Ones();
  const V alpha = t.alpha * one;
  const V gamma = t.gamma * one;
  long double worst = std::fabs(b.sum() - 1);
  const auto check = [&](long double value, long double wanted) { worst = std::max(worst, std::fabs(value - wanted)); };
  if (order >= 2) {
    check(b.dot(alpha), 1.0L / 2);
    check(b.dot(gamma), 0);
  }
  if (order >= 3) {
    check(b.dot(V(alpha.array().square())), 1.0L / 3);
    check(b.dot(V(t.alpha * alpha)), 1.0L / 6);
    check(b.dot(V(t.alpha * gamma)), 0);
    check(b.dot(V(t.gamma * alpha)), 0);
    check(b.dot(V(t.gamma * gamma)), 0);
  }
  return worst;
}

}  // namespace

static_assert(Stepper<Rodas3, RotatedSinh<>> && EmbeddedStepper<Rodas3, RotatedSinh<>> &&
              DenseStepper<Rodas3, RotatedSinh<>>);
static_assert(DerivativeStepper<Rodas4, RotatedSinh<>> && DenseStepper<Rodas4, RotatedSinh<>>);

TEST_CASE("the tableaus satisfy the order conditions, and fail those of the next order") {
  // The coefficients are published to 16 digits and reach 50 in size.
  constexpr long double rounding = 1e-13L;
  const Butcher<Rodas3Tableau> rodas3;
  CHECK(rosenbrock_residual<Rodas3Tableau>(rodas3.b, 3) <= 1e-17L);
  CHECK(rosenbrock_residual<Rodas3Tableau>(rodas3.b, 4) >= 1e-3L);
  CHECK(rosenbrock_residual<Rodas3Tableau>(rodas3.b_embedded, 2) <= 1e-17L);
  CHECK(rosenbrock_residual<Rodas3Tableau>(rodas3.b_embedded, 3) >= 1e-3L);

  const Butcher<Rodas4Tableau> rodas4;
  CHECK(rosenbrock_residual<Rodas4Tableau>(rodas4.b, 4) <= rounding);
  CHECK(rosenbrock_residual<Rodas4Tableau>(rodas4.b_embedded, 3) <= rounding);
  CHECK(rosenbrock_residual<Rodas4Tableau>(rodas4.b_embedded, 4) >= 1e-4L);

  const Butcher<Ros34Pw2Tableau> ros34;
  CHECK(w_residual<Ros34Pw2Tableau>(ros34.b, 3) <= rounding);
  CHECK(rosenbrock_residual<Ros34Pw2Tableau>(ros34.b, 3) <= rounding);
  CHECK(rosenbrock_residual<Ros34Pw2Tableau>(ros34.b, 4) >= 1e-3L);
  CHECK(w_residual<Ros34Pw2Tableau>(ros34.b_embedded, 2) <= rounding);
  CHECK(w_residual<Ros34Pw2Tableau>(ros34.b_embedded, 3) >= 1e-3L);
  CHECK(w_residual<Rodas3Tableau>(rodas3.b, 2) >= 1e-3L);  // not a W-method
}

TEMPLATE_TEST_CASE("the tableaus are stiffly accurate and L-stable at infinity", "", Rodas3Tableau, Rodas4Tableau,
                   Ros34Pw2Tableau) {
  const Butcher<TestType> t;
  constexpr auto last = static_cast<Index>(TestType::stages) - 1;
  // The last row of alpha + gamma is b: then R(infinity) = 0. Coefficients to 16 digits, up to 50 in size.
  CHECK((t.alpha + t.gamma).row(last).transpose().isApprox(t.b, 1e-13L));
  CHECK_THAT(static_cast<double>(t.alpha.row(last).sum()), near(1.0, 0, 1e-13));
}

TEST_CASE("every Rosenbrock method converges with its order") {
  const RotatedSinh problem = rotated_sinh(71, {0.7, 2.0, 5.0});
  const Vector<double> y0 = start(3);
  const Vector<double> exact = problem.exact(y0, 1.0);
  const auto order = [&](const auto& stepper, Index steps) {
    return testing::convergence_study(problem, y0, TimeSpan{0.0, 1.0}, stepper, exact, steps, 3).finest_order();
  };
  // Step counts where the asymptotic regime is reached and rounding (1e-15) is far.
  CHECK_THAT(order(Rodas3{}, 40), near(3.0, 0, 0.2));
  CHECK_THAT(order(Rodas4{}, 20), near(4.0, 0, 0.2));
  CHECK_THAT(order(Ros34Pw2{}, 40), near(3.0, 0, 0.2));
}

TEST_CASE("a W-method keeps its order with a wrong Jacobian, the others do not") {
  RotatedSinh problem = rotated_sinh(72, {0.7, 2.0, 5.0});
  problem.jacobian_factor = 0.6;
  const Vector<double> y0 = start(3);
  const Vector<double> exact = problem.exact(y0, 1.0);
  const auto order = [&](const auto& stepper) {
    return testing::convergence_study(problem, y0, TimeSpan{0.0, 1.0}, stepper, exact, 80, 3).finest_order();
  };
  CHECK_THAT(order(Ros34Pw2{}), near(3.0, 0, 0.2));
  CHECK(order(Rodas3{}) < 2.2);
}

TEST_CASE("the error estimate has the order of the embedded method") {
  const RotatedSinh problem = rotated_sinh(73, {0.7, 2.0, 5.0});
  const Vector<double> y0 = start(3);
  const auto order = [&](const auto& stepper, double h) {
    const auto estimate = [&](double step) {
      auto ws = stepper.make_workspace(problem);
      Vector<double> y_new = y0;
      stepper.begin(problem, 0.0, y0, ws);
      stepper.step(problem, 0.0, step, y0, y_new, ws);
      return stepper.error(ws).norm();
    };
    return std::log2(estimate(h) / estimate(h / 2));
  };
  CHECK_THAT(order(Rodas3{}, 2e-3), near(3.0, 0, 0.2));
  CHECK_THAT(order(Rodas4{}, 1e-2), near(4.0, 0, 0.2));
  CHECK_THAT(order(Ros34Pw2{}, 2e-3), near(3.0, 0, 0.2));
}

TEST_CASE("the interpolants have their order, and end where the step ends") {
  const RotatedSinh problem = rotated_sinh(74, {0.7, 2.0, 5.0});
  const Vector<double> y0 = start(3);
  const auto exact = [&](double, const Vector<double>& y, double s) { return problem.exact(y, s); };
  const auto local_order = [&](const auto& stepper, double h, double theta) {
    return testing::interpolant_study(problem, 0.0, y0, stepper, exact, h, theta, 2).finest_order();
  };
  for (const double theta : {0.3, 0.6}) {
    CAPTURE(theta);
    CHECK_THAT(local_order(Rodas3{}, 5e-3, theta), near(3.0, 0, 0.2));
    CHECK_THAT(local_order(Rodas4{}, 5e-3, theta), near(4.0, 0, 0.2));
    CHECK_THAT(local_order(Ros34Pw2{}, 5e-3, theta), near(4.0, 0, 0.2));
  }
  const auto check_ends = [&](const auto& stepper) {
    auto ws = stepper.make_workspace(problem);
    Vector<double> y_new = y0;
    Vector<double> out = y0;
    stepper.begin(problem, 0.0, y0, ws);
    stepper.step(problem, 0.0, 0.1, y0, y_new, ws);
    stepper.interpolate(ws, 0.0, 0.1, y0, y_new, out);
    CHECK((out - y0).norm() == 0.0);
    stepper.interpolate(ws, 1.0, 0.1, y0, y_new, out);
    CHECK((out - y_new).norm() <= 1e-13 * y_new.norm());  // coefficients up to 50, to 16 digits
  };
  check_ends(Rodas3{});
  check_ends(Rodas4{});
  check_ends(Ros34Pw2{});
}

TEST_CASE("stiffness does not limit the steps") {
  const RotatedSinh problem = rotated_sinh(75, {1.0, 1e6, 1e10});
  const Vector<double> y0 = 0.1 * start(3);
  const Vector<double> exact = problem.exact(y0, 1.0);
  const auto check = [&](const auto& stepper) {
    const PiController<> control{.tolerance = {1e-5, 1e-7}};
    const auto solution = integrate(problem, y0, TimeSpan{0.0, 1.0}, stepper, control);
    CAPTURE(solution);
    REQUIRE(solution.ok());
    CHECK(solution.stats.accepted + solution.stats.rejected < 300);  // an explicit method needs 1e10
    CHECK((solution.w - exact).norm() <= 1e-4 * exact.norm() + 1e-6);
  };
  check(Rodas3{});
  check(Rodas4{});
  check(Ros34Pw2{});

  // One enormous step goes to rest and stays bounded in between.
  auto ws = Rodas3{}.make_workspace(problem);
  Vector<double> y_new = y0;
  Vector<double> between = y0;
  Rodas3{}.begin(problem, 0.0, y0, ws);
  Rodas3{}.step(problem, 0.0, 1e12, y0, y_new, ws);
  CHECK(y_new.norm() <= 1e-2 * y0.norm());
  for (const double theta : {0.1, 0.5, 0.9}) {
    Rodas3{}.interpolate(ws, theta, 1e12, y0, y_new, between);
    CHECK(between.norm() <= 5 * y0.norm());
  }
}

TEST_CASE("statistics tell the truth, and a rejected attempt keeps the Jacobian and the first stage") {
  struct Counted : RotatedSinh<> {
    mutable Index evaluations = 0;
    mutable Index jacobians = 0;
    explicit Counted(const RotatedSinh<>& base) : RotatedSinh<>(base) {}
    void operator()(double t, ConstVectorRef<double> y, VectorRef<double> dy) const {
      ++evaluations;
      RotatedSinh<>::operator()(t, y, dy);
    }
    void negative_jacobian(double t, ConstVectorRef<double> y, MatrixRef<double> out) const {
      ++jacobians;
      RotatedSinh<>::negative_jacobian(t, y, out);
    }
  };
  const Counted problem(rotated_sinh(76, {1.0, 10.0, 100.0}));
  const PiController<> control{.tolerance = {1e-6, 1e-8}, .first_step = 1.0};  // far too long: rejections
  const auto solution = integrate(problem, start(3), TimeSpan{0.0, 3.0}, Rodas3{}, control);
  REQUIRE(solution.ok());
  const Index attempts = solution.stats.accepted + solution.stats.rejected;
  CHECK(solution.stats.rejected > 0);
  CHECK(problem.evaluations == solution.stats.evaluations);
  CHECK(problem.jacobians == solution.stats.jacobians);
  CHECK(solution.stats.jacobians == solution.stats.accepted);
  CHECK(solution.stats.factorizations == attempts);
  CHECK(solution.stats.solves == 4 * attempts);
  CHECK(solution.stats.evaluations == solution.stats.accepted + 2 * attempts);
}

TEST_CASE("a matrix that is not positive definite rejects the step") {
  const Vector<double> y0 = Vector<double>::Ones(1);
  auto ws = Rodas3{}.make_workspace(Growth{});
  Vector<double> y_new = y0;
  Rodas3{}.begin(Growth{}, 0.0, y0, ws);
  Rodas3{}.step(Growth{}, 0.0, 100.0, y0, y_new, ws);
  CHECK(std::isnan(y_new[0]));
  CHECK(std::isnan(Rodas3{}.error(ws)[0]));

  const auto solution = integrate(Growth{}, y0, TimeSpan{0.0, 3.0}, Rodas4{},
                                  PiController<>{.tolerance = {1e-9, 1e-12}, .first_step = 100.0});
  REQUIRE(solution.ok());
  CHECK(solution.stats.rejected > 0);
  CHECK_THAT(solution.w[0], near(std::exp(3.0), 1e-7, 0));  // a hundred local errors of 1e-9
}

TEST_CASE("a Rosenbrock method runs in other precisions") {
  const auto problem = rotated_sinh<long double>(77, {0.7, 2.0, 5.0});
  const Vector<long double> y0 = start(3).cast<long double>();
  const auto solution =
      integrate(problem, y0, TimeSpan<long double>{0.0L, 1.0L}, Rodas4{}, ConstantStep<long double>{0.01L});
  REQUIRE(solution.ok());
  const Vector<long double> exact = problem.exact(y0, 1.0L);
  CHECK(static_cast<double>((solution.w - exact).norm() / exact.norm()) <= 1e-6);
  const auto order = testing::convergence_study(problem, y0, TimeSpan<long double>{0.0L, 1.0L}, Rodas3{}, exact, 40, 3);
  CHECK_THAT(static_cast<double>(order.finest_order()), near(3.0, 0, 0.2));
}

TEST_CASE("the Jacobian tolerance must make sense") {
  const RotatedSinh problem = rotated_sinh(78, {1.0});
  for (const double bad : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_MATCHES(Rodas3{.jacobian_tolerance = bad}.make_workspace(problem), ArgumentError,
                         message_contains("jacobian_tolerance"));
}
