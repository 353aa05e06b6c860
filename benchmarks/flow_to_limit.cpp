// Gradient flow on the squared diagonal net, and on those of depth 3 and 5, until L <= 1e-10: plain gradient descent,
// explicit Runge-Kutta and CVODE on the 2d weights (the roads that people take), and the dual flow in N unknowns. Each
// row reports the distance of its end from the certified limit.

#include <benchmark/benchmark.h>

#include <Eigen/Eigenvalues>
#include <cmath>
#include <limits>
#include <vector>

#include "problem.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/models/diagonal.hpp"

#ifdef HAVE_ODEINT
#include <boost/numeric/odeint.hpp>
#endif
#ifdef HAVE_SUNDIALS
#include <cvode/cvode.h>
#include <nvector/nvector_serial.h>
#include <sunlinsol/sunlinsol_dense.h>
#include <sunlinsol/sunlinsol_spgmr.h>
#include <sunmatrix/sunmatrix_dense.h>
#endif

namespace {

using namespace richflow;
using namespace richflow::benchmarks;

constexpr double loss_goal = 1e-10;
constexpr double forever = std::numeric_limits<double>::infinity();

/// The dual flow by the stiff stepper. The trajectory is controlled to `relative` in the predictor; its limit does
/// not depend on it.
template <class Mirror, class Stiff>
void dual_flow_of(benchmark::State& state, const Mirror& mirror, const Stiff& stepper, double relative) {
  const SparseRegression<> regression = problem();
  const Dataset<>& data = regression.dataset;
  const Vector<double> limit = certified_limit(data, mirror);
  Vector<double> beta(data.num_inputs());
  Stats stats;
  for (auto _ : state) {
    const DualFlow flow(mirror, data);
    const auto solution = integrate(
        flow, flow.initial_state(), TimeSpan{0, forever}, stepper,
        PiController<>{.tolerance = {.relative = relative, .absolute = 1e-12}, .first_step = flow.first_step()},
        {.events = {loss_below(loss_goal).at_step_end()}});
    if (!solution.ok()) state.SkipWithError("the loss was not reached");
    flow.beta(solution.w, beta);
    stats = solution.stats;
  }
  report(state, mirror.scale().log(), beta, limit);
  state.counters["steps"] = static_cast<double>(stats.accepted);
  state.counters["jacobians"] = static_cast<double>(stats.jacobians);
}

template <class Stiff>
void dual_flow(benchmark::State& state, const Stiff& stepper, double relative) {
  dual_flow_of(state, Hypentropy<>::uniform(1000, Scale<>::from_log(log_alpha(state))), stepper, relative);
}

template <class Net, class Mirror>
void dormand_prince_of(benchmark::State& state, const Net& model, const Mirror& mirror, double relative) {
  const SparseRegression<> regression = problem();
  const Dataset<>& data = regression.dataset;
  const Vector<double> limit = certified_limit(data, mirror);
  const GradientFlow flow(model, data);
  Vector<double> beta(data.num_inputs());
  Stats stats;
  bool reached = true;
  for (auto _ : state) {
    const auto solution =
        integrate(flow, model.initial_parameters(mirror.scale()), TimeSpan{0, forever}, DormandPrince{},
                  PiController<>{.tolerance = {.relative = relative, .absolute = 1e-12}},
                  {.events = {loss_below(loss_goal).at_step_end()}, .max_steps = 200000});
    reached = solution.ok();
    model.beta(solution.w, beta);
    stats = solution.stats;
  }
  report(state, mirror.scale().log(), beta, limit);
  state.counters["steps"] = static_cast<double>(stats.accepted);
  state.counters["reached"] = reached ? 1 : 0;
}

void dormand_prince_on_weights(benchmark::State& state) {
  dormand_prince_of(state, SquaredDiagonalNet<double>(1000),
                    Hypentropy<>::uniform(1000, Scale<>::from_log(log_alpha(state))), 1e-7);
}

/// Plain descent, the step a fraction of the largest stable one at the limit: a hundredth of it follows the flow.
template <class Net, class Mirror>
void gradient_descent_of(benchmark::State& state, const Net& model, const Mirror& mirror, double fraction,
                         Index max_steps) {
  const SparseRegression<> regression = problem();
  const Dataset<>& data = regression.dataset;
  const Vector<double> limit = certified_limit(data, mirror);
  const GradientFlow flow(model, data);
  // The tangent kernel, through the mirror map's curvature.
  Vector<double> w, dw(2 * data.num_inputs()), beta(data.num_inputs()), z(data.num_inputs()),
      curvature(data.num_inputs());
  mirror.gradient(limit, z);
  mirror.mirror(z, beta, curvature);
  const Matrix<double> K = mirror.dual_rate() * data.X() * curvature.asDiagonal() * data.X().transpose();
  const double stable = 2 / K.operatorNorm();
  Index steps = 0;
  for (auto _ : state) {
    w = model.initial_parameters(mirror.scale());
    for (steps = 0; steps < max_steps && flow.loss(w) > loss_goal; ++steps) {
      flow(0.0, w, dw);
      w += fraction * stable * dw;
    }
  }
  model.beta(w, beta);
  report(state, mirror.scale().log(), beta, limit);
  state.counters["steps"] = static_cast<double>(steps);
  state.counters["reached"] = flow.loss(w) <= loss_goal ? 1 : 0;
}

void gradient_descent_on_weights(benchmark::State& state, double fraction) {
  gradient_descent_of(state, SquaredDiagonalNet<double>(1000),
                      Hypentropy<>::uniform(1000, Scale<>::from_log(log_alpha(state))), fraction, 1'000'000);
}

/// From alpha^D = 1e-6.
template <int Depth>
DepthHypentropy<> deep_regularizer() {
  return DepthHypentropy<>::uniform(Depth, 1000, Scale<>::from_log(std::log(1e-6) / Depth));
}

/// With 1e-7 it would stall above the loss at depth 3. At depth 5 its steps do not suffice.
template <int Depth>
void deep_dormand_prince(benchmark::State& state) {
  dormand_prince_of(state, DiagonalNet<double, Depth>(1000), deep_regularizer<Depth>(), 1e-9);
}

/// Descent that does not arrive within its steps says so; its time is that of these steps.
template <int Depth>
void deep_gradient_descent(benchmark::State& state) {
  gradient_descent_of(state, DiagonalNet<double, Depth>(1000), deep_regularizer<Depth>(), 0.1, 100'000);
}

template <class Stiff>
void deep_dual_flow(benchmark::State& state, const DepthHypentropy<>& mirror, const Stiff& stepper, double relative) {
  dual_flow_of(state, mirror, stepper, relative);
}

#ifdef HAVE_ODEINT
void odeint_dopri5_on_weights(benchmark::State& state) {
  namespace odeint = boost::numeric::odeint;
  const SparseRegression<> regression = problem();
  const Dataset<>& data = regression.dataset;
  const Vector<double> limit = certified_limit(data, log_alpha(state));
  const SquaredDiagonalNet<double> model(data.num_inputs());
  const GradientFlow flow(model, data);
  using State = std::vector<double>;
  const auto n = static_cast<Index>(2 * data.num_inputs());
  const auto rhs = [&](const State& w, State& dw, double) {
    flow(0.0, Eigen::Map<const Vector<double>>(w.data(), n), Eigen::Map<Vector<double>>(dw.data(), n));
  };
  Vector<double> beta(data.num_inputs());
  long steps = 0;
  bool reached = false;
  for (auto _ : state) {
    const Vector<double> w0 = model.initial_parameters(Scale<>::from_log(log_alpha(state)));
    State w(w0.data(), w0.data() + w0.size());
    auto stepper = odeint::make_controlled(1e-10, 1e-7, odeint::runge_kutta_dopri5<State>());
    double t = 0;
    double h = 1e-6;
    reached = false;
    for (steps = 0; steps < 100'000 && !reached; ++steps) {
      stepper.try_step(rhs, w, t, h);
      reached = flow.loss(Eigen::Map<const Vector<double>>(w.data(), n)) <= loss_goal;
    }
    model.beta(Eigen::Map<const Vector<double>>(w.data(), n), beta);
  }
  report(state, beta, limit);
  state.counters["steps"] = static_cast<double>(steps);
  state.counters["reached"] = reached ? 1 : 0;
}
#endif

#ifdef HAVE_SUNDIALS
struct CvodeEnd {
  Vector<double> y = {};
  long steps = 0;
  bool reached = false;
};

/// CVODE's BDF from y0 until the loss is reached: on many unknowns with matrix-free GMRES, on few with a dense
/// Jacobian of finite differences.
template <class Flow>
CvodeEnd cvode_bdf(const Flow& flow, const Vector<double>& y0, double relative, double absolute, bool dense) {
  const auto map = [](N_Vector v) {
    return Eigen::Map<Vector<double>>(N_VGetArrayPointer(v), static_cast<Index>(N_VGetLength(v)));
  };
  CvodeEnd end;
  SUNContext context = nullptr;
  SUNContext_Create(nullptr, &context);
  N_Vector y = N_VNew_Serial(y0.size(), context);
  map(y) = y0;
  void* memory = CVodeCreate(CV_BDF, context);
  CVodeInit(
      memory,
      [](realtype, N_Vector at, N_Vector out, void* user) {
        const auto* f = static_cast<const Flow*>(user);
        const auto size = static_cast<Index>(N_VGetLength(at));
        (*f)(0.0, Eigen::Map<const Vector<double>>(N_VGetArrayPointer(at), size),
             Eigen::Map<Vector<double>>(N_VGetArrayPointer(out), size));
        return 0;
      },
      0.0, y);
  CVodeSStolerances(memory, relative, absolute);
  CVodeSetUserData(memory, const_cast<Flow*>(&flow));
  SUNMatrix matrix = dense ? SUNDenseMatrix(y0.size(), y0.size(), context) : nullptr;
  SUNLinearSolver solver = dense ? SUNLinSol_Dense(y, matrix, context) : SUNLinSol_SPGMR(y, SUN_PREC_NONE, 20, context);
  CVodeSetLinearSolver(memory, solver, matrix);
  double t = 0;
  for (; end.steps < 100'000 && !end.reached; ++end.steps) {
    if (CVode(memory, 1e9, y, &t, CV_ONE_STEP) < 0) break;
    end.reached = flow.loss(map(y)) <= loss_goal;
  }
  end.y = map(y);
  SUNLinSolFree(solver);
  if (matrix != nullptr) SUNMatDestroy(matrix);
  CVodeFree(&memory);
  N_VDestroy(y);
  SUNContext_Free(&context);
  return end;
}

void report_steps(benchmark::State& state, const CvodeEnd& end) {
  state.counters["steps"] = static_cast<double>(end.steps);
  state.counters["reached"] = end.reached ? 1 : 0;
}

void cvode_bdf_on_weights(benchmark::State& state) {
  const SparseRegression<> regression = problem();
  const Dataset<>& data = regression.dataset;
  const SquaredDiagonalNet<double> model(data.num_inputs());
  const GradientFlow flow(model, data);
  CvodeEnd end;
  for (auto _ : state)
    end = cvode_bdf(flow, model.initial_parameters(Scale<>::from_log(log_alpha(state))), 1e-7, 1e-10, false);
  Vector<double> beta(data.num_inputs());
  model.beta(end.y, beta);
  report(state, beta, certified_limit(data, log_alpha(state)));
  report_steps(state, end);
}

/// What a user gets who derives the dual flow himself.
void cvode_bdf_on_dual(benchmark::State& state) {
  const SparseRegression<> regression = problem();
  const Dataset<>& data = regression.dataset;
  const DualFlow flow(Hypentropy<>::uniform(data.num_inputs(), Scale<>::from_log(log_alpha(state))), data);
  CvodeEnd end;
  for (auto _ : state) end = cvode_bdf(flow, flow.initial_state(), 1e-3, 1e-12, true);
  Vector<double> beta(data.num_inputs());
  flow.beta(end.y, beta);
  report(state, beta, certified_limit(data, log_alpha(state)));
  report_steps(state, end);
}
BENCHMARK(cvode_bdf_on_dual)->DenseRange(0, 7)->Unit(benchmark::kMillisecond);
BENCHMARK(cvode_bdf_on_weights)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
#endif
#ifdef HAVE_ODEINT
BENCHMARK(odeint_dopri5_on_weights)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
#endif
BENCHMARK(dormand_prince_on_weights)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(gradient_descent_on_weights, tenth, 0.1)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(gradient_descent_on_weights, hundredth, 0.01)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(dual_flow, exponential, ExponentialRosenbrock{.jacobian_tolerance = 1e-4}, 1e-3)
    ->DenseRange(0, 1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(dual_flow, ros34pw2, Ros34Pw2{.jacobian_tolerance = 1e-2}, 1e-3)
    ->DenseRange(0, 7)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(dual_flow, rodas3, Rodas3{.jacobian_tolerance = 1e-4}, 1e-3)
    ->DenseRange(0, 7)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(dual_flow, rodas4, Rodas4{}, 1e-4)->DenseRange(0, 7)->Unit(benchmark::kMillisecond);
BENCHMARK(deep_dormand_prince<3>)->Unit(benchmark::kMillisecond);
BENCHMARK(deep_dormand_prince<5>)->Unit(benchmark::kMillisecond);
BENCHMARK(deep_gradient_descent<3>)->Unit(benchmark::kMillisecond);
BENCHMARK(deep_gradient_descent<5>)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(deep_dual_flow, ros34pw2_depth_3, deep_regularizer<3>(), Ros34Pw2{.jacobian_tolerance = 1e-2}, 1e-3)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(deep_dual_flow, ros34pw2_depth_5, deep_regularizer<5>(), Ros34Pw2{.jacobian_tolerance = 1e-2}, 1e-3)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(deep_dual_flow, rodas4_depth_3, deep_regularizer<3>(), Rodas4{}, 1e-4)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(deep_dual_flow, rodas4_depth_5, deep_regularizer<5>(), Rodas4{}, 1e-4)->Unit(benchmark::kMillisecond);

}  // namespace
