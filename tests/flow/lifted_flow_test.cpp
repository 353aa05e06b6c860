#include "richflow/flow/lifted_flow.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/diagnostics/invariants.hpp"
#include "richflow/flow/gradient_descent.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/reference.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Completion = MatrixFactorization<double>;

PiController<> accuracy(double relative, double first_step) {
  return PiController<>{.tolerance = {.relative = relative, .absolute = 0.0}, .first_step = first_step};
}

/// To a loss of `goal`, along the stiff road.
template <class Flow>
Vector<double> to_limit(const Flow& flow, const Vector<double>& w0, double relative, double goal = 1e-20) {
  const auto solution = integrate_to_loss(flow, w0, goal, relative);
  INFO(solution);
  REQUIRE(solution.ok());
  return solution.w;
}

template <class M>
void check_linear_algebra(const M& model, Kind kind, Index samples) {
  RandomStream random(31);
  const Dataset<> data = random_measured_data(random, kind, model.shape(), samples);
  const LiftedFlow flow(model, data);
  const GradientFlow plain(model, data);
  const Vector<double> w = random_vector(random, model.num_parameters());
  CAPTURE(model.shape().rows(), model.shape().cols(), model.width(), samples);

  Vector<double> field(w.size()), expected(w.size()), r(samples);
  flow(0.0, w, field);
  plain(0.0, w, expected);
  CHECK((field - expected).norm() <= 100 * eps * expected.norm());
  CHECK_THAT(flow.loss(w), near(plain.loss(w), 100 * eps, 0.0));
  plain.residual(w, r);
  CHECK((flow.lifted(w) - model.stack(w) * model.stack(w).transpose()).norm() <= 100 * eps * w.squaredNorm());

  // The Jacobian, from the model alone: J(w)^T r is linear in w and in r.
  const auto apply = [&](const Vector<double>& v) {
    Vector<double> jv(samples), first(w.size()), second(w.size());
    model.jvp(w, data.measurements(), v, jv);
    model.vjp(w, data.measurements(), jv, first);
    model.vjp(v, data.measurements(), r, second);
    return Vector<double>(2.0 * (first + second));
  };
  auto solver = flow.make_linear_solver();
  flow.linearize(0.0, w, solver);
  const double size = solver.B.norm();
  for (const double shift : {1.01 * size, 1e3 * size}) {
    REQUIRE(flow.factorize(shift, solver));
    const Vector<double> rhs = random_vector(random, w.size());
    Vector<double> u = rhs;
    flow.solve(solver, u);
    // The condition number is at most (shift + |S|) / (shift - |B|).
    const double norm = shift + 2.0 * 2.0 * measurement_rows(data).squaredNorm() * w.squaredNorm() + size;
    CHECK((shift * u + apply(u) - rhs).norm() <= 100 * eps * norm * u.norm());
  }
  const double lowest = Eigen::SelfAdjointEigenSolver<Matrix<double>>(solver.B).eigenvalues()(0);
  if (!model.shape().is_symmetric()) REQUIRE(lowest < 0.0);
  if (lowest < 0.0) {
    CHECK(flow.factorize(-1.01 * lowest, solver));
    CHECK_FALSE(flow.factorize(-0.99 * lowest, solver));
  }

  // ... and the field's own differences.
  const Vector<double> v = random_vector(random, w.size());
  const double h = 1e-5;
  Vector<double> ahead(w.size()), behind(w.size());
  flow(0.0, w + h * v, ahead);
  flow(0.0, w - h * v, behind);
  const Vector<double> difference = (behind - ahead) / (2.0 * h);
  // Central differences: a third-order term of relative size h^2 |v|^3, and rounding over h.
  CHECK((difference - apply(v)).norm() <= 1e-8 * apply(v).norm());
}

}  // namespace

TEST_CASE("the lifted flow is the gradient flow of the model, and solves with its exact Jacobian") {
  check_linear_algebra(MatrixFactorization<double>(3, 4, 7), Kind::dense, 5);
  check_linear_algebra(MatrixFactorization<double>(3, 4, 2), Kind::dense, 12);
  check_linear_algebra(Completion(4, 3, 7), Kind::entries, 8);
  check_linear_algebra(Completion(10, 10, 3), Kind::entries, 60);
  check_linear_algebra(MatrixFactorization<double>(4, 6, 5), Kind::diagonal, 3);
  check_linear_algebra(SymmetricFactorization<double>(4, 3), Kind::dense, 6);
  check_linear_algebra(SymmetricFactorization<double>(5, 5), Kind::entries, 9);
  check_linear_algebra(SymmetricFactorization<double>(5, 5), Kind::diagonal, 3);
}

TEST_CASE("the trajectory of the reference table, from 40 digits") {
  const ReferenceTable start = reference_table("factorization_init.csv");
  const ReferenceTable table = reference_table("trajectory_factorization.csv");
  Matrix<double> F(6, 2);
  std::vector<ObservedEntry<>> entries;
  for (std::size_t n = 0; n < start.size(); ++n) {
    const auto i = static_cast<Index>(start.number(n, "i"));
    const auto j = static_cast<Index>(start.number(n, "j"));
    if (start.text(n, "matrix") == "Y")
      entries.push_back({i, j, start.number(n, "value")});
    else
      F(start.text(n, "matrix") == "U" ? i : 3 + i, j) = start.number(n, "value");
  }
  REQUIRE(entries.size() == 5);
  const Observations<> observed = observed_entries<double>(3, 3, entries);
  const Completion model(3, 3, 2);
  const LiftedFlow flow(model, observed.dataset);
  IntegrateOptions<double, Matrix<double>> options;
  options.save_at.times = {0.05, 0.25, 1.0, 3.0};
  options.save_at.value = [&](double, const Vector<double>& w) { return model.product(w); };
  const auto compare = [&](const auto& solution, double tolerance) {
    REQUIRE(solution.ok());
    REQUIRE(solution.values.size() == 4);
    for (std::size_t n = 0; n < table.size(); ++n) {
      std::size_t k = 0;
      while (options.save_at.times[k] != table.number(n, "t")) ++k;
      const auto i = static_cast<Index>(table.number(n, "i"));
      const auto j = static_cast<Index>(table.number(n, "j"));
      CHECK_THAT(solution.values[k](i, j), near(table.number(n, "M"), 0.0, tolerance));
    }
  };
  // Some hundreds of steps, each within the tolerance; times between steps come from the interpolant.
  compare(integrate(flow, model.pack(F), TimeSpan{0.0, 3.0}, Rodas4{}, accuracy(1e-9, 0.0), options), 1e-7);
  compare(integrate(flow, model.pack(F), TimeSpan{0.0, 3.0}, DormandPrince{}, accuracy(1e-11, 0.0), options), 1e-9);
}

namespace {

/// The lifted equation `W' = -(B W + W B)` as written, D^2 unknowns: nothing of richflow's in it.
struct LiftedEquation {
  using Scalar = double;
  Index rows, cols;
  std::vector<std::pair<Index, Index>> observed;
  Vector<double> y;

  [[nodiscard]] Index dimension() const { return (rows + cols) * (rows + cols); }
  void operator()(double, ConstVectorRef<double> state, VectorRef<double> out) const {
    const Index D = rows + cols;
    const Eigen::Map<const Matrix<double>> W(state.data(), D, D);
    Matrix<double> B = Matrix<double>::Zero(D, D);
    for (std::size_t n = 0; n < observed.size(); ++n) {
      const auto [i, j] = observed[n];
      B(i, rows + j) += 2.0 * (W(i, rows + j) - y(static_cast<Index>(n)));
    }
    B = (B + B.transpose()).eval();
    Eigen::Map<Matrix<double>>(out.data(), D, D) = -(B * W + W * B);
  }
};

}  // namespace

TEST_CASE("the factor's flow is the lifted equation, for any width") {
  for (const Index width : {Index{2}, Index{7}, Index{40}}) {
    CAPTURE(width);
    RandomStream random(33);
    const Completion wide(4, 3, width);
    const Dataset<> data = random_measured_data(random, Kind::entries, wide.shape(), 8);
    const Vector<double> w = wide.initial_parameters(random, Scale<>::from_value(0.3));
    const LiftedFlow flow(wide.reduced(), data);
    const auto narrow = integrate(flow, wide.reduce(w), TimeSpan{0.0, 2.0}, Rodas4{}, accuracy(1e-9, 0.0));

    LiftedEquation equation{4, 3, {}, data.y()};
    for (const auto [i, j] : data.measurements().places()) equation.observed.emplace_back(i, j);
    const Matrix<double> W0 = wide.stack(w) * wide.stack(w).transpose();
    const auto lifted = integrate(equation, Eigen::Map<const Vector<double>>(W0.data(), W0.size()), TimeSpan{0.0, 2.0},
                                  DormandPrince{}, PiController<>{.tolerance = {.relative = 1e-11, .absolute = 1e-13}});
    REQUIRE(narrow.ok());
    REQUIRE(lifted.ok());
    const Eigen::Map<const Matrix<double>> W(lifted.w.data(), 7, 7);
    CHECK((W - W0).norm() > 0.1 * W.norm());
    // A hundred steps of 1e-9 on this side.
    CHECK((flow.lifted(narrow.w) - W).norm() <= 1e-7 * W.norm());
  }
}

TEST_CASE("Rodas4 has order four on the lifted flow") {
  RandomStream random(34);
  const Completion model(4, 3, 7);
  const Dataset<> data = random_measured_data(random, Kind::entries, model.shape(), 8);
  const Vector<double> w = model.initial_parameters(random, Scale<>::from_value(0.5));
  const LiftedFlow flow(model, data);
  const auto end = [&](int steps) {
    return integrate(flow, w, TimeSpan{0.0, 1.0}, Rodas4{}, ConstantStep{1.0 / steps}).require_ok().w;
  };
  const Vector<double> exact = end(1600);
  const double ratio = (end(150) - exact).norm() / (end(300) - exact).norm();
  CHECK(std::log2(ratio) > 3.8);
  CHECK(std::log2(ratio) < 4.3);
}

TEST_CASE("the invariant is conserved to the tolerance") {
  RandomStream random(35);
  const Completion model(5, 4, 9);
  const Dataset<> data = random_measured_data(random, Kind::entries, model.shape(), 9);
  const Vector<double> w0 = model.initial_parameters(random, Scale<>::from_value(0.3));
  const LiftedFlow flow(model, data);
  double previous = 1.0;
  for (const double relative : {1e-3, 1e-5, 1e-7}) {
    const double drift = invariant_drift<Completion>(model, w0, to_limit(flow, w0, relative));
    CAPTURE(relative, drift);
    CHECK(drift <= 100 * relative);  // some tens of steps
    CHECK(drift < 0.1 * previous);
    previous = drift;
  }
}

TEST_CASE("the flow is where small-step descent at full width is, from the rich to the kernel end") {
  // The error of descent is of first order in the step: it halves, and extrapolation to step 0 leaves the second order.
  const MatrixCompletion<> problem = matrix_completion({.rows = 4, .cols = 4, .num_observed = 10, .seed = 5});
  const Dataset<>& data = problem.observations.dataset;
  struct Case {
    double alpha;
    Index width;
    double end;
  };
  for (const Case& at : {Case{1e-4, 3, 40.0}, Case{0.05, 30, 40.0}, Case{1.0, 12, 0.5}}) {
    CAPTURE(at.alpha, at.width);
    const Completion wide(4, 4, at.width);
    RandomStream random(36);
    const Vector<double> w = wide.initial_parameters(random, Scale<>::from_value(at.alpha));
    const LiftedFlow flow(wide.reduced(), data);
    const Vector<double> start = wide.reduce(w);
    const auto solution =
        integrate(flow, start, TimeSpan{0.0, at.end}, Rodas4{}, accuracy(1e-7, flow.first_step(start))).require_ok();
    const Matrix<double> M = flow.model().product(solution.w);
    CHECK((M - wide.product(w)).norm() > 0.5);
    const auto descent = [&](Index iterations) {
      return wide.product(
          gradient_descent(wide, data, w, {.step = at.end / static_cast<double>(iterations), .iterations = iterations})
              .require_ok()
              .w);
    };
    const Matrix<double> coarse = descent(40'000);
    const Matrix<double> fine = descent(80'000);
    const double first_order = (coarse - fine).norm();
    CHECK(first_order > 1e-7);
    CHECK((fine - M).norm() <= 1.2 * first_order);
    CHECK((2.0 * fine - coarse - M).norm() <= 0.02 * first_order + 1e-7 * M.norm());
  }
}

TEST_CASE("diagonal measurements from the balanced start end at the hypentropy minimizer, certified at every time") {
  RandomStream random(37);
  const Index d = 8;
  const Index samples = 3;
  const Matrix<double> X = random_matrix(random, samples, d);
  const Dataset data(MatrixMeasurements<double>::diagonal(d, d, X), random_vector(random, samples));
  const MatrixFactorization<double> model(d, d, 2 * d);
  for (const double log_mu : {-12.0, -4.0, 0.0, 2.0}) {
    CAPTURE(log_mu);
    const double mu = std::exp(log_mu);
    Matrix<double> F = Matrix<double>::Zero(2 * d, 2 * d);
    F.diagonal().setConstant(std::sqrt(2.0) * mu);
    const LiftedFlow flow(model, data);
    const Vector<double> w0 = model.pack(F);
    const auto solution = integrate(flow, w0, TimeSpan{0.0, infinity}, Rodas4{}, accuracy(1e-7, flow.first_step(w0)),
                                    {.save_at = {.every = 4}, .events = {loss_below(1e-22).at_step_end()}});
    REQUIRE(solution.ok());
    Vector<double> diagonal = model.product(solution.w).diagonal();
    const Vector<double> limit = minimize_hypentropy(Dataset(X, data.y()), Scale<>::from_log(log_mu)).require_ok().beta;
    // Up to a hundred steps, each accurate to 1e-7 in every direction of the stack.
    CHECK((diagonal - limit).norm() <= 1e-5 * limit.norm());
    // The off-diagonal entries stay 0, to rounding.
    CHECK((model.product(solution.w) - Matrix<double>(diagonal.asDiagonal())).norm() <= 1e-12 * limit.norm());
    // arcsinh(M_ii / (2 mu^2)) is in the row space of X all the time; it moves by the relative error of M_ii at most.
    REQUIRE(solution.values.size() >= 2);
    for (const Vector<double>& w : solution.values) {
      diagonal = model.product(w).diagonal();
      const Vector<double> z = (diagonal / (2.0 * mu * mu)).array().asinh();
      const Vector<double> nu = X.transpose().householderQr().solve(z);
      CHECK((z - X.transpose() * nu).norm() <= 1e-5 * (1.0 + z.norm()));
    }
  }
}

TEST_CASE("as alpha^2 k grows the limit of the symmetric factorization is the kernel predictor") {
  // Unbiased by subtracting the initial function: labels y + f(w(0), X).
  RandomStream random(38);
  const Index d = 6;
  const Index samples = 10;
  const auto X = MatrixMeasurements<double>::dense(d, d, random_matrix(random, samples, d * d) / std::sqrt(double(d)));
  const Vector<double> y = random_vector(random, samples);
  // Minimum-Frobenius symmetric interpolator, the kernel limit for W(0) -> alpha^2 k I.
  Matrix<double> symmetrized(samples, d * d);
  for (Index n = 0; n < samples; ++n) {
    const Matrix<double> X_n = measurement_matrix(X, n);
    const Matrix<double> half = 0.5 * (X_n + X_n.transpose());
    symmetrized.row(n) = Eigen::Map<const Vector<double>>(half.data(), d * d).transpose();
  }
  const Vector<double> frobenius = symmetrized.transpose() * (symmetrized * symmetrized.transpose()).ldlt().solve(y);

  std::vector<double> to_kernel, to_frobenius;
  for (const double strength : {1e2, 1e3, 1e4}) {
    // The same strength at quite different alpha and k: alpha^2 k alone decides.
    const Index width = strength < 500.0 ? 1'000'000 : 100'000'000;
    const SymmetricFactorization<double> wide(d, width);
    const auto model = wide.reduced();
    const Vector<double> w0 =
        wide.reduced_initial_parameters(random, Scale<>::from_value(std::sqrt(strength / static_cast<double>(width))));
    Vector<double> start(samples);
    model.predict(w0, X, start);
    const Dataset data(X, y + start);
    const LiftedFlow flow(model, data);
    const Matrix<double> change = model.product(to_limit(flow, w0, 1e-6, 1e-16)) - model.product(w0);

    // Kernel predictor: f_0 + K(x, X) K(X, X)^{-1} y, K from the model's own derivatives.
    Matrix<double> J(samples, w0.size());
    for (Index n = 0; n < samples; ++n) {
      Vector<double> row(w0.size());
      model.vjp(w0, X, Vector<double>::Unit(samples, n), row);
      J.row(n) = row.transpose();
    }
    const Vector<double> v = J.transpose() * (J * J.transpose()).ldlt().solve(y);
    const Matrix<double> F = model.stack(w0);
    const Matrix<double> dF = model.stack(v);
    const Matrix<double> kernel_change = dF * F.transpose() + F * dF.transpose();
    to_kernel.push_back((change - kernel_change).norm() / kernel_change.norm());
    to_frobenius.push_back((change - Eigen::Map<const Matrix<double>>(frobenius.data(), d, d)).norm() /
                           frobenius.norm());
  }
  CAPTURE(to_kernel, to_frobenius);
  for (std::size_t k = 1; k < to_kernel.size(); ++k) {
    // The features move by 1 / (alpha^2 k), and so does the limit.
    CHECK(to_kernel[k - 1] / to_kernel[k] > 5.0);
    CHECK(to_kernel[k - 1] / to_kernel[k] < 20.0);
  }
  // ... where 1 / (alpha^2 k) = 1e-4; the constant is of order 1 for data and labels of order 1.
  CHECK(to_kernel.back() < 1e-3);
  // W(0) / (alpha^2 k) is I up to d k^-1/2 = 6e-4 in the Frobenius norm, and the kernel predictor of before is as near.
  CHECK(to_frobenius.back() < 3e-3);
}

TEST_CASE("tiny starts end near the truth, the nearer the smaller") {
  const MatrixCompletion<> problem = matrix_completion({.seed = 1});
  const Completion wide(10, 10, 100);
  std::vector<Matrix<double>> ends;
  for (const double alpha : {1e-4, 1e-8}) {
    RandomStream random(39);
    const Vector<double> w0 = wide.reduced_initial_parameters(random, Scale<>::from_value(alpha));
    const LiftedFlow flow(wide.reduced(), problem.observations.dataset);
    ends.push_back(flow.model().product(to_limit(flow, w0, 1e-4, 1e-14)));
  }
  // The truth is the only interpolant of rank one; the other directions grow from alpha only, as a power of it.
  CHECK((ends[0] - problem.truth).norm() <= 1e-2 * problem.truth.norm());
  CHECK((ends[1] - problem.truth).norm() <= 1e-3 * (ends[0] - problem.truth).norm());
}

TEST_CASE("a resumed run of the lifted flow is the uninterrupted one, bit for bit") {
  RandomStream random(40);
  const Completion model(5, 4, 9);
  const Dataset<> data = random_measured_data(random, Kind::entries, model.shape(), 12);
  const Vector<double> w0 = model.initial_parameters(random, Scale<>::from_value(0.1));
  const LiftedFlow flow(model, data);
  const auto controller = accuracy(1e-4, 1e-3);
  const auto whole = integrate(flow, w0, TimeSpan{0.0, 5.0}, Rodas4{}, controller);
  const auto half = integrate(flow, w0, TimeSpan{0.0, 5.0}, Rodas4{}, controller, {.max_steps = 7});
  REQUIRE(half.status == Status::max_steps);
  const LiftedFlow fresh(model, data);
  const auto rest = resume(fresh, half.state, 5.0, Rodas4{}, controller);
  REQUIRE(whole.ok());
  CHECK(rest.w == whole.w);
  CHECK(rest.step == whole.step);
}

TEST_CASE("the error of a step is measured per direction") {
  const Completion model(2, 2, 4);
  const Dataset data(MatrixMeasurements<double>::entries(2, 2, {{0, 0}}), Vector<double>::Ones(1));
  const LiftedFlow flow(model, data);
  Matrix<double> F = Matrix<double>::Zero(4, 4);
  F.diagonal() << 1.0, 1e-3, 1.0, 1e-6;
  Matrix<double> E = Matrix<double>::Zero(4, 4);
  const auto ratio = [&](double relative, double absolute) {
    return flow.error_ratio(model.pack(F), model.pack(F), model.pack(E), Tolerance<double>{relative, absolute});
  };
  E(0, 0) = 1e-4;
  CHECK_THAT(ratio(1e-4, 0.0), near(1.0, 1e-6, 0.0));
  E.setZero();
  E(2, 1) = 1e-7;  // an error of 1e-4 in a direction of size 1e-3
  CHECK_THAT(ratio(1e-4, 0.0), near(1.0, 1e-6, 0.0));
  CHECK_THAT(ratio(0.0, 1e-7), near(1.0, 1e-6, 0.0));
  CHECK(ratio(1e-4, 1e-5) < 0.02);
  E(2, 1) = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(ratio(1e-4, 0.0) <= 1.0);
}

TEST_CASE("the lifted flow refuses data that are not measurements of its matrix") {
  const Completion model(3, 3, 6);
  const Dataset other(MatrixMeasurements<double>::entries(4, 3, {{0, 0}, {3, 1}}), Vector<double>::Ones(2));
  CHECK_THROWS_MATCHES(LiftedFlow(model, other), DimensionError,
                       message_contains("the measurements are of a 4 x 3 matrix where that of the model is 3 x 3"));
  const Dataset rows(Matrix<double>::Ones(2, 9), Vector<double>::Ones(2));
  CHECK_THROWS_MATCHES(LiftedFlow(model, rows), ArgumentError,
                       message_contains("the data are a matrix X of 2 samples where measurements"));
}
