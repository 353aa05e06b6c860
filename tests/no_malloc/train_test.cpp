// Proves that a step of SGD allocates nothing.
#include "support/no_allocation.hpp"

#include "richflow/bias/effective_start.hpp"
#include "richflow/integrate/rule.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/kernel/sharpness.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/factorizations.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

template <class M>
void check_steps(const M& model, const Vector<double>& w0, double momentum) {
  RandomStream random(92);
  Vector<int> labels(20);
  for (int& label : labels) label = static_cast<int>(random.uniform_integer(3));
  const LabelledDataset<double> data(random_matrix(random, 20, 4), labels, 3);
  SgdOptions<double> options;
  options.step = 0.01;
  options.momentum = momentum;
  options.batch_size = 6;  // the last batch has 2 samples
  Sgd trainer(model, data, w0, options);
  bool finite = true;
  const auto run = [&] {
    const NoAllocation guard;
    for (int k = 0; k < 3 * 4; ++k) finite = trainer.step() && finite;
  };
  CHECK_NOTHROW(run());
  CHECK(finite);
  CHECK(trainer.epoch() == 3);
}

}  // namespace

TEST_CASE("a step of SGD allocates nothing") {
  RandomStream random(93);
  for (const double momentum : {0.0, 0.9}) {
    for (const bool biases : {false, true}) {
      const ReluNetwork<double> net(4, {8, 6}, biases, 3);
      const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
      check_steps(net, w0, momentum);
      check_steps(Linearized<ReluNetwork<double>>(net, w0), w0, momentum);
    }
    check_steps(LinearClassifier<double>(4, 3), random_vector(random, 12), momentum);
  }
}

TEST_CASE("a step of a rule allocates nothing, whatever it sees of the data") {
  RandomStream random(94);
  const Dataset<> data = gaussian_data(random, 20, 30);
  const SquaredDiagonalNet<double> net(30);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.1));
  const auto check_rule = [&](const auto& problem, const auto& rule) {
    using Rule = std::remove_cvref_t<decltype(rule)>;
    const detail::RuleOf<double, Rule> any_rule(rule);
    detail::RuleStepper<double> stepper(any_rule, problem.make_source(), w0.size());
    Vector<double> w = w0;
    Vector<double> w_new = w0;
    const auto run = [&] {
      const NoAllocation guard;
      for (int k = 0; k < 3 * 7; ++k) {
        stepper.step(0.0, 1e-4, w, w_new);
        stepper.accept();
        w.swap(w_new);
      }
    };
    CHECK_NOTHROW(run());
    CHECK(w.allFinite());
    CHECK((w - w0).norm() > 0.0);
  };
  for (const bool replaces : {false, true}) {
    const StochasticGradient problem(
        net, data, {.batch_size = 3, .with_replacement = replaces, .label_noise = 0.1, .gradient_noise = 0.1});
    check_rule(problem, Descent{});
    check_rule(problem, HeavyBall{});
    check_rule(WithWeightDecay(problem, 0.1), Nesterov{});
  }
  check_rule(StochasticGradient(net, data, {.label_noise = 0.1}), Descent{});
}

TEST_CASE("a step of SGD on measurements allocates nothing, whatever their kind") {
  RandomStream random(94);
  const MatrixFactorization<double> model(5, 4, 3);
  const Vector<double> w0 = model.initial_parameters(random, Scale<>::from_value(0.1));
  for (const Kind kind : {Kind::dense, Kind::entries, Kind::diagonal}) {
    const Dataset<> data = random_measured_data(random, kind, model.shape(), 20);
    SgdOptions<double> options;
    options.step = 0.01;
    options.batch_size = 6;  // the last batch has 2
    Sgd trainer(model, data, w0, options);
    bool finite = true;
    const auto run = [&] {
      const NoAllocation guard;
      for (int k = 0; k < 3 * 4; ++k) finite = trainer.step() && finite;
    };
    CHECK_NOTHROW(run());
    CHECK(finite);
    CHECK(trainer.epoch() == 3);
  }
}

TEST_CASE("an effective start allocates nothing after the first step") {
  RandomStream random(95);
  const Dataset<> data = gaussian_data(random, 20, 30);
  const SquaredDiagonalNet<double> net(30);
  Vector<double> w = net.initial_parameters(Scale<>::from_value(0.1));
  Vector<double> w_new = w;
  EffectiveStart effective(net, data, w);
  const detail::RuleOf<double, Descent> rule(Descent{});
  const StochasticGradient problem(net, data, {.batch_size = 3});
  detail::RuleStepper<double> stepper(rule, problem.make_source(), w.size());
  const Stats stats;
  const auto step = [&](Index k) {
    stepper.step(0.0, 1e-4, w, w_new);
    stepper.accept();
    w.swap(w_new);
    effective(StepView<double>{k, 0.0, 1.0, 0.0, 1.0, w, std::nullopt, stats, stepper.residuals()});
  };
  step(1);
  const auto run = [&] {
    const NoAllocation guard;
    for (Index k = 2; k <= 30; ++k) step(k);
  };
  CHECK_NOTHROW(run());
  CHECK(effective.ok());
  CHECK(effective.steps() == 30);
}

TEST_CASE("a sharpness allocates nothing after its first measurement") {
  RandomStream random(95);
  const Dataset<> data = gaussian_data(random, 6, 4);
  const auto check = [&](const auto& net, const SharpnessOptions& options) {
    const Sharpness<> sharpness(net, data, options);
    const Vector<double> w = random_vector(random, net.num_parameters());
    const double value = sharpness(w);
    double again = 0.0;
    const auto run = [&] {
      const NoAllocation guard;
      for (int k = 0; k < 3; ++k) again = sharpness(w);
    };
    CHECK_NOTHROW(run());
    CHECK(again == value);
    CHECK(sharpness.failures() == 0);
  };
  for (const HessianPart part : {HessianPart::full, HessianPart::gauss_newton}) {
    check(SquaredDiagonalNet<double>(4), {.part = part});
    check(DiagonalNet<double>(3, 4), {.part = part, .basis = 4});
    check(ReluNetwork<double>(4, {6, 5}), {.part = part});
  }
}
