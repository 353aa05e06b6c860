// Prints numbers of all engines, every bit of them. Built with the library richflow::compiled and without it.
#include <cstdio>
#include <limits>

#include "richflow/richflow.hpp"

using namespace richflow;

namespace {

template <class S>
void print(const char* name, const Vector<S>& values) {
  std::printf("%s", name);
  for (const S value : values) std::printf(" %a", static_cast<double>(value));
  std::printf("\n");
}

template <class S>
Dataset<S> data_with_units(S units) {
  RandomStream random(5);
  Matrix<S> X(12, 30);
  for (Index j = 0; j < X.cols(); ++j)
    for (Index i = 0; i < X.rows(); ++i) X(i, j) = static_cast<S>(random.normal());
  X.col(4) *= units;
  Vector<S> beta = Vector<S>::Zero(30);
  beta[2] = S(1);
  beta[9] = S(-0.5);
  const Vector<S> y = X * beta;
  return {X, y};
}

template <class Mirror>
void print_minimizers(const Mirror& mirror, const Dataset<typename Mirror::Scalar>& data) {
  using S = typename Mirror::Scalar;
  MirrorPath<Mirror> path(data, mirror);
  for (const double log_alpha : {1.0, -2.0, -9.0}) {
    const auto result = path.solve(Scale<S>::from_log(static_cast<S>(log_alpha)));
    std::printf("%s\n", result.message.c_str());
    print("beta", result.beta);
    print("nu", result.nu);
  }
}

template <class Mirror, class St>
void print_flow(const Mirror& mirror, const Dataset<typename Mirror::Scalar>& data, const St& stepper) {
  using S = typename Mirror::Scalar;
  const DualFlow<Mirror> flow(mirror, data);
  const auto run = integrate(
      flow, flow.initial_state(), TimeSpan<S>{S(0), std::numeric_limits<S>::infinity()}, stepper,
      PiController<S>{.tolerance = {.relative = S(1e-4), .absolute = S(1e-6)}, .first_step = flow.first_step()},
      {.events = {loss_below(S(1e-6))}});
  std::printf("%s\n", run.message.c_str());
  print("nu", run.w);
}

template <class S>
void print_all() {
  const auto alpha = Scale<S>::from_log(S(-1));
  for (const S units : {S(1), S(1e7)}) {
    const Dataset<S> data = data_with_units(units);
    print_minimizers(Hypentropy<S>::uniform(30, alpha), data);
    print_minimizers(DepthHypentropy<S>::uniform(3, 30, alpha), data);
    print_flow(Hypentropy<S>::uniform(30, alpha), data, Ros34Pw2{});
    print_flow(Hypentropy<S>::uniform(30, alpha), data, Rodas4{});
    print("least norm", min_l2_interpolator(data));
  }
  const Dataset<S> data = data_with_units(S(1));
  print_flow(DepthHypentropy<S>::uniform(3, 30, alpha), data, ExponentialRosenbrock{});
  print_flow(Hypentropy<S>::uniform(30, alpha), data, DormandPrince{});
}

template <class S>
void print_matrix_minimizers() {
  RandomStream random(6);
  Matrix<S> X(5, 9);
  Vector<S> y(5);
  for (Index n = 0; n < X.rows(); ++n) {
    for (Index k = 0; k < X.cols(); ++k) X(n, k) = static_cast<S>(random.normal());
    y[n] = static_cast<S>(random.normal());
  }
  SchattenPathOptions<S> options;
  options.primal_tolerance = S(100) * std::numeric_limits<S>::epsilon();
  SchattenPath<S> path(Dataset<S>(MatrixMeasurements<S>::dense(3, 3, X), y), options);
  for (const double log_mu : {0.0, -3.0}) {
    const auto result = path.solve(Scale<S>::from_log(static_cast<S>(log_mu)));
    std::printf("%s\n", result.message.c_str());
    print("nu", result.nu);
  }
}

template <class S>
void print_l1_paths() {
  RandomStream random(7);
  Matrix<S> X(6, 15);
  Vector<S> y(6);
  for (Index n = 0; n < X.rows(); ++n) {
    for (Index i = 0; i < X.cols(); ++i) X(n, i) = static_cast<S>(random.normal());
    y[n] = static_cast<S>(random.normal());
  }
  const Dataset<S> data(X, y);
  const auto start = Start<S>::uniform(Scale<S>::from_log(S(-1)));
  const auto saddles = saddle_path(DiagonalNet<S>(3, 15), data, start);
  std::printf("%s\n", saddles.message.c_str());
  print("saddles", saddles.beta);
  print("two layers", saddle_path(TwoLayerDiagonalNet<S>(15), data, start).nu);
  const auto lasso = lasso_path(data);
  std::printf("%s\n", lasso.message.c_str());
  print("lasso", lasso.at(S(0.3)));
  print("rate", l1_rate(data).nu);
}

void print_sweep() {
  const Sweep sweep{.name = "bits", .grid = Grid({seed_axis(2), Axis{"x", {0.1, 1.0 / 3.0}}}), .outputs = {"y"}};
  const SweepResult result = run_sweep(sweep, [](const Cell& cell) {
    RandomStream random(1, cell.stream());
    return NamedNumbers{{"y", cell["x"] * random.normal()}};
  });
  std::printf("%s%s\n", result.csv().c_str(), result.summary().c_str());
}

}  // namespace

int main() {
  print_all<double>();
  print_all<float>();
  print_matrix_minimizers<double>();
  print_matrix_minimizers<float>();
  print_l1_paths<double>();
  print_l1_paths<float>();
  print_sweep();
}
