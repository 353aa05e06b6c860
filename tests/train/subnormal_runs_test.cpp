// No run leaves subnormal numbers behind, where the same run with the processor's own arithmetic does. Without a
// processor that has the switch (SubnormalMode::is_supported) there is nothing to look at.

#include <cmath>
#include <string>
#include <utility>

#if defined(__SSE2_MATH__)
#include <xmmintrin.h>
#endif

#include "richflow/bias/effective_start.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/flow/stochastic_gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/conv_network.hpp"
#include "richflow/models/deep_factorization.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "richflow/sweep/sweep.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

template <class Derived>
Index count_subnormal(const Eigen::DenseBase<Derived>& values) {
  Index count = 0;
  for (Index j = 0; j < values.cols(); ++j)
    for (Index i = 0; i < values.rows(); ++i)
      count += std::fpclassify(values.derived().coeff(i, j)) == FP_SUBNORMAL ? 1 : 0;
  return count;
}

/// Whether an operation within `run()` had a subnormal operand, where the processor says so (x86); a thread in which
/// they are zero has none.
template <class Run>
bool has_subnormal_operands([[maybe_unused]] bool otherwise, const Run& run) {
#if defined(__SSE2_MATH__)
  constexpr unsigned denormal_flag = 2;
  _mm_setcsr(_mm_getcsr() & ~denormal_flag);
  run();
  return (_mm_getcsr() & denormal_flag) != 0;
#else
  run();
  return otherwise;
#endif
}

/// A controller that gives the loop the processor's own arithmetic back, before each step: the run that the library
/// would make without SubnormalMode.
template <class C>
struct InOwnArithmetic : C {
  template <class S, class Memory>
  [[nodiscard]] StepPlan<S> plan(S t, S end, Memory& memory) const {
    SubnormalMode::keep().apply();
    return C::plan(t, end, memory);
  }
};

/// Descent with the gradient in its memory, where it can be looked at.
struct DescentThatShows {
  [[nodiscard]] static Index memory_size(Index num_parameters) { return num_parameters; }
  void operator()(const StepGradient<float>& gradient, float step, VectorRef<float> w, VectorRef<float> memory) const {
    gradient.write(memory);
    w -= step * memory;
  }
};

/// No subnormal numbers among weights, memory (velocity or gradient) and operands of a run of a rule, observers
/// included, where the same run in the processor's own arithmetic has some.
template <class Problem, class Rule>
Vector<float> check_rule(const Problem& problem, const Vector<float>& w0, Rule rule, float step, Index count,
                         IntegrateOptions<float> options = {}) {
  options.detect_stall = false;
  Index without = 0;
  CHECK(has_subnormal_operands(true, [&] {
    auto plain = options;
    plain.observers.clear();
    const auto run = integrate(problem, w0, Steps{count}, rule, InOwnArithmetic<ConstantStep<float>>{{step}}, plain);
    REQUIRE(run.ok());
    without = count_subnormal(run.w) + count_subnormal(run.state.memory);
  }));
  CHECK(without > 0);  // the case is one where they arise
  Solution<float> run;
  const bool has_operands = has_subnormal_operands(
      false, [&] { run = integrate(problem, w0, Steps{count}, rule, ConstantStep<float>{step}, options); });
  INFO(run);
  REQUIRE(run.ok());
  CHECK(SubnormalMode::of_this_thread() == SubnormalMode::keep());
  if constexpr (SubnormalMode::is_supported) {
    CHECK_FALSE(has_operands);
    CHECK(count_subnormal(run.w) == 0);
    CHECK(count_subnormal(run.state.memory) == 0);
  }
  return run.w;
}

/// How often to step: 0.9^1200 is 1e-55.
constexpr int steps = 1200;

/// The velocity of a trainer with momentum, from its checkpoint.
template <class Trainer>
Vector<float> velocity_of(const Trainer& trainer, const std::filesystem::path& path) {
  trainer.save(path);
  detail::CheckpointReader reader(
      detail::opened_checkpoint("richflow sgd checkpoint 2", detail::checkpoint_content(path)));
  trainer.check_identity(reader);
  Index integer = 0;
  double number = 0.0;
  for (const char* name : {"epoch", "batch", "correct"}) reader.field(name, integer);
  for (const char* name : {"loss_sum", "first_loss", "seconds"}) reader.field(name, number);
  Vector<float> w, velocity;
  reader.field("w", w);
  reader.field("velocity", velocity);
  return velocity;
}

/// No subnormal numbers among the weights, the velocity and the gradient after steps of SGD with momentum on samples
/// that fit better and better; the same steps written down, with the processor's own arithmetic, leave some.
template <class M>
void check_training(const M& model, Vector<float> w, float scale, float step) {
  RandomStream random(71);
  const Index count = 8;
  Matrix<float> X(count, model.num_inputs());
  for (Index i = 0; i < X.size(); ++i) X.data()[i] = static_cast<float>(random.normal());
  w *= scale;
  auto at = model.make_evaluation(count);
  Matrix<float> F(count, model.num_outputs());
  at.forward(w, X, F);
  // Labels that fit already, all but one.
  Vector<int> labels(count);
  for (Index n = 0; n < count; ++n) {
    Index best = 0;
    F.row(n).maxCoeff(&best);
    labels[n] = static_cast<int>(n == 0 ? (best + 1) % model.num_outputs() : best);
  }
  const LabelledDataset<float> data(X, labels, model.num_outputs());
  SgdOptions<float> options;
  options.step = step;  // jumps beyond, to margins whose softmax underflows
  options.momentum = 0.9F;
  options.batch_size = count;

  Index without = 0;
  {
    // The same, as one writes it down.
    Vector<float> plain = w, velocity = Vector<float>::Zero(w.size());
    for (int k = 0; k < steps; ++k) {
      at.forward(plain, X, F);
      CrossEntropy<float>().value_and_gradient(F, labels, F);
      velocity *= options.momentum;
      at.add_pullback(F, -options.step / static_cast<float>(count), velocity);
      plain += velocity;
    }
    without = count_subnormal(plain) + count_subnormal(velocity);
  }
  CHECK(without > 0);  // the case is one where they arise

  const TemporaryFolder folder;
  Sgd trainer(model, data, w, options);
  bool finite = true;
  for (int k = 0; k < steps; ++k) finite = trainer.step() && finite;
  REQUIRE(finite);
  const Vector<float> velocity = velocity_of(trainer, folder.path() / "checkpoint");
  REQUIRE(velocity.size() == w.size());
  at.forward(trainer.w(), X, F);
  CrossEntropy<float>().value_and_gradient(F, labels, F);
  CHECK(count_subnormal(F) == 0);
  if constexpr (SubnormalMode::is_supported) {
    CHECK(count_subnormal(trainer.w()) == 0);
    CHECK(count_subnormal(velocity) == 0);
  }
  CHECK(SubnormalMode::of_this_thread() == SubnormalMode::keep());
}

}  // namespace

TEST_CASE("the gradient of the cross-entropy has no subnormal numbers") {
  // Gaps of 80 to 110 between two outputs: the softmax of the smaller one passes 1e-38 at 87.
  Matrix<float> F(31, 2), G(31, 2);
  for (Index n = 0; n < 31; ++n) F.row(n) << 0.0F, -80.0F - static_cast<float>(n);
  const Vector<int> labels = Vector<int>::Zero(31);
  CrossEntropy<float>().value_and_gradient(F, labels, G);
  CHECK(count_subnormal(G) == 0);
  CHECK(G(0, 1) > 0.0F);
  CHECK(G(0, 0) == -G(0, 1));
  CHECK(G.row(30).isZero(0.0F));
}

TEST_CASE("the gradients of losses of margins have no subnormal numbers") {
  // exp(-margin) passes 2e-308 at 708.4 and 0 at 745.
  const Vector<double> f = Vector<double>::LinSpaced(61, 690, 750);
  const Vector<double> y = Vector<double>::Ones(61);
  Vector<double> logistic(61), exponential(61);
  LogisticLoss<double>().gradient(f, y, logistic);
  ExponentialLoss<double>().gradient(f, y, exponential);
  CHECK(count_subnormal(logistic) == 0);
  CHECK(count_subnormal(exponential) == 0);
  CHECK(logistic[18] < 0.0);  // margin 708
  CHECK(exponential[18] < 0.0);
  CHECK(logistic[19] == 0.0);
  CHECK(exponential[19] == 0.0);
}

TEST_CASE("training leaves no subnormal numbers in weights, velocities and gradients") {
  RandomStream random(72);
  const ReluNetwork<float> relu(6, {12, 8}, true, 3);
  check_training(relu, relu.initial_parameters(random, Scale<float>::from_value(1)), 1.0F, 0.1F);
  const ConvNetwork<float> conv({1, 4, 4}, "3-M-FC", 3);
  check_training(conv, conv.initial_parameters(random, Scale<float>::from_value(1)), 10.0F, 0.1F);
  const LinearClassifier<float> linear(6, 3);
  check_training(
      linear,
      [&] {
        Vector<float> w(18);
        for (float& x : w) x = static_cast<float>(random.normal());
        return w;
      }(),
      10.0F, 50.0F);
}

TEST_CASE(
    "flows of tiny units leave no subnormal numbers; observers, events and what is saved keep the caller's mode") {
  RandomStream random(73);
  const Index d = 12;
  const Dataset<float> data(random_matrix(random, 5, d).cast<float>(), random_vector(random, 5).cast<float>());
  const SquaredDiagonalNet<float> net(d);
  const GradientFlow flow(net, data);
  // u v stays alpha^2 = 1e-60 along the flow: where one grows to 1 the other leaves the normal numbers.
  const Vector<float> w0 = Vector<float>::Constant(2 * d, 1e-30F);
  // Small steps of the same flow, as one writes them down, leave some.
  Vector<float> plain = w0, dw(2 * d);
  for (int k = 0; k < 60000; ++k) {
    flow(0.0F, plain, dw);
    plain += 1e-3F * dw;
  }
  CHECK(count_subnormal(plain) > 0);

  bool keeps = true;
  const auto keeps_mode = [&] { keeps = keeps && SubnormalMode::of_this_thread() == SubnormalMode::keep(); };
  auto watch = [&](const StepView<float>&) {
    keeps_mode();
    return Action::proceed;
  };
  IntegrateOptions<float, float> options;
  options.observers = {watch};
  options.events = {condition<float>("never", [&](float, const Vector<float>&) {
    keeps_mode();
    return false;
  })};
  options.save_at.every = 10;
  options.save_at.value = [&](float t, const Vector<float>&) {
    keeps_mode();
    return t;
  };
  const auto run = integrate(flow, w0, TimeSpan<float>{0, 60}, DormandPrince{},
                             PiController<float>{.tolerance = {.relative = 1e-3F, .absolute = 0.0F}}, options);
  INFO(run);
  REQUIRE(run.status == Status::reached_end);
  CHECK(run.w.cwiseAbs().maxCoeff() > 0.1F);
  CHECK(keeps);
  CHECK(SubnormalMode::of_this_thread() == SubnormalMode::keep());
  if constexpr (SubnormalMode::is_supported) CHECK(count_subnormal(run.w) == 0);
}

TEST_CASE("runs of rules leave no subnormal numbers in weights, velocities and gradients") {
  RandomStream random(76);
  const Index d = 12;
  const Dataset<float> data(random_matrix(random, 5, d).cast<float>(), random_vector(random, 5).cast<float>());
  const SquaredDiagonalNet<float> net(d);
  // u v stays about alpha^2 = 1e-60, as along the flow.
  const Vector<float> w0 = Vector<float>::Constant(2 * d, 1e-30F);
  const Index count = 5000;
  const StochasticGradient batches(net, data, {.batch_size = 2, .seed = 3});
  EffectiveStart<float> effective(net, data, w0);
  IntegrateOptions<float> watched;
  watched.observers = {effective};
  const Vector<float> descent = check_rule(batches, w0, Descent{}, 4e-3F, count, watched);
  CHECK(descent.cwiseAbs().maxCoeff() > 0.1F);
  CHECK(effective.steps() == count);
  check_rule(batches, w0, DescentThatShows{}, 4e-3F, count);
  check_rule(batches, w0, HeavyBall{.momentum = 0.9}, 4e-4F, count);
  check_rule(batches, w0, Nesterov{.momentum = 0.9}, 4e-4F, count);
  check_rule(StochasticGradientFlow(net, data, {.step = 1e-3F, .seed = 5}), w0, Descent{}, 3e-3F, count);
}

TEST_CASE("flows of tiny ReLU units and deep factorizations leave no subnormal numbers") {
  // Units with a negative output weight shrink as the others grow: u w stays 1e-40.
  const ReluNetwork<float> relu(1, {4}, false, 1);
  Matrix<float> X(3, 1);
  X << 0.5F, 1.0F, 1.5F;
  const Dataset<float> line(X, Vector<float>(2.0F * X.col(0)));
  Vector<float> w0(8);
  w0 << 1e-20F, 2e-20F, 1e-20F, 2e-20F, 1e-20F, 2e-20F, -1e-20F, -2e-20F;
  const Vector<float> grown = check_rule(GradientFlow(relu, line), w0, DescentThatShows{}, 2e-3F, 4000);
  CHECK(grown.cwiseAbs().maxCoeff() > 0.5F);

  // The gradient of each of three layers is a product of the two others.
  RandomStream random(77);
  const auto problem = matrix_completion<float>({.rows = 4, .cols = 4, .rank = 1, .num_observed = 10, .seed = 3});
  const DeepFactorization<float> deep({4, 4, 4, 4});
  const auto start = balanced_start<float>(random, deep.widths(), Scale<float>::from_value(1e-20F));
  check_rule(GradientFlow(deep, problem.observations.dataset), pack_layers(start), DescentThatShows{}, 1e-2F, 50);
}

TEST_CASE("completion at a tiny scale leaves no subnormal numbers") {
  const auto problem = matrix_completion({.rows = 8, .cols = 8, .rank = 1, .num_observed = 40, .seed = 3});
  const MatrixFactorization<double> model(8, 8, 8);
  const LiftedFlow flow(model, problem.observations.dataset);
  RandomStream random(74);
  // Products of two such entries are subnormal, and the parts that never grow stay there.
  const Vector<double> w0 = 1e-150 * random_vector(random, model.num_parameters());
  const auto run = integrate_to_loss(flow, w0, 1e-12, 1e-6);
  INFO(run);
  REQUIRE(run.ok());
  if constexpr (SubnormalMode::is_supported) CHECK(count_subnormal(run.w) == 0);

  const TimeSpan<double> span{0, run.t};
  const PiController<double> controller{.tolerance = {1e-2, 0.0}, .first_step = flow.first_step(w0)};
  bool all_end = true;
  const auto follow = [&](const auto& chosen) {
    return [&] { all_end = integrate(flow, w0, span, Rodas4{}, chosen).ok() && all_end; };
  };
  CHECK(has_subnormal_operands(true, follow(InOwnArithmetic<PiController<double>>{controller})));
  if constexpr (SubnormalMode::is_supported) CHECK_FALSE(has_subnormal_operands(false, follow(controller)));
  CHECK(all_end);
}

TEST_CASE("the cells of a sweep have the caller's mode, and the library's loops in them flush") {
  const Sweep sweep{.name = "modes", .grid = Grid({seed_axis(6)}), .outputs = {"keeps", "subnormals"}};
  const auto cell = [](const Cell&) -> NamedNumbers {
    const bool keeps = SubnormalMode::of_this_thread() == SubnormalMode::keep();
    RandomStream random(75);
    const Dataset<float> data(random_matrix(random, 3, 8).cast<float>(), random_vector(random, 3).cast<float>());
    const SquaredDiagonalNet<float> net(8);
    const GradientFlow flow(net, data);
    const auto run = integrate(flow, Vector<float>::Constant(16, 1e-30F), TimeSpan<float>{0, 60}, DormandPrince{},
                               PiController<float>{.tolerance = {.relative = 1e-3F, .absolute = 0.0F}});
    return {{"keeps", keeps ? 1.0 : 0.0}, {"subnormals", static_cast<double>(count_subnormal(run.require_ok().w))}};
  };
  const SweepResult result = run_sweep(sweep, cell, {}, ThreadExecutor{{.threads = 3}}).require_ok();
  for (const double keeps : result.values("keeps")) CHECK(keeps == 1.0);
  if constexpr (SubnormalMode::is_supported)
    for (const double subnormals : result.values("subnormals")) CHECK(subnormals == 0.0);
}
