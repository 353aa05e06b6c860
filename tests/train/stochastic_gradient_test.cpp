#include "richflow/train/stochastic_gradient.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/step_search.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using StochasticNet = SquaredDiagonalNet<double>;
constexpr Index features = 9;

Dataset<> stochastic_data(std::uint64_t seed, Index n = 7) {
  RandomStream random(seed);
  return gaussian_data(random, n, features);
}

Vector<double> stochastic_start() { return StochasticNet(features).initial_parameters(Scale<>::from_value(0.3)); }

/// The gradient of the plain sum over some samples, by its definition.
Vector<double> sum_gradient(const Dataset<>& data, const Vector<double>& w, const std::vector<Index>& samples,
                            const std::vector<double>& noise = {}) {
  Vector<double> g = Vector<double>::Zero(features);
  for (std::size_t b = 0; b < samples.size(); ++b) {
    const Vector<double> x = data.X().row(samples[b]);
    const double r = x.dot(w.head(features).cwiseAbs2() - w.tail(features).cwiseAbs2()) - data.y()[samples[b]] -
                     (noise.empty() ? 0.0 : noise[b]);
    g += r * x;
  }
  Vector<double> out(2 * features);
  out << 4 * w.head(features).cwiseProduct(g), -4 * w.tail(features).cwiseProduct(g);
  return out;
}

/// Batches of one epoch without replacement.
std::vector<std::vector<Index>> batches_of(std::uint64_t seed, std::uint64_t epoch, Index n, Index size) {
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index(0));
  RandomStream random(seed, epoch);
  shuffle(random, order);
  std::vector<std::vector<Index>> out;
  for (Index first = 0; first < n; first += size)
    out.emplace_back(order.begin() + first, order.begin() + std::min(first + size, n));
  return out;
}

LabelledDataset<double> three_classes(Index n) {
  RandomStream random(955);
  Matrix<double> points = random_matrix(random, 4, n);
  Vector<int> labels(n);
  for (Index i = 0; i < n; ++i) labels[i] = static_cast<int>(random.uniform_integer(3));
  return LabelledDataset<double>::from_columns(std::move(points), std::move(labels), 3);
}

}  // namespace

TEST_CASE("mini-batches without replacement: each sample once per epoch, sums or means") {
  for (const Index size : {1, 2, 3, 7}) {
    const Dataset<> data = stochastic_data(950 + static_cast<std::uint64_t>(size));
    const double h = 1e-3;
    Vector<double> w = stochastic_start();
    Vector<double> mean = w;
    for (std::uint64_t epoch = 0; epoch < 4; ++epoch)
      for (const std::vector<Index>& batch : batches_of(5, epoch, 7, size)) {
        w -= h * sum_gradient(data, w, batch);
        mean -= h / static_cast<double>(batch.size()) * sum_gradient(data, mean, batch);
      }
    const StochasticGradient problem(StochasticNet(features), data, {.batch_size = size, .seed = 5});
    CHECK(problem.steps_per_epoch() == (7 + size - 1) / size);
    const auto run = integrate(problem, stochastic_start(), Epochs{4}, Descent{}, ConstantStep{h});
    CHECK(run.step == 4 * problem.steps_per_epoch());
    CHECK((run.w - w).norm() <= 1e-13 * w.norm());
    const StochasticGradient of_means(StochasticNet(features), data, {.batch_size = size, .mean = true, .seed = 5});
    const auto means = integrate(of_means, stochastic_start(), Epochs{4}, Descent{}, ConstantStep{h});
    CHECK((means.w - mean).norm() <= 1e-13 * mean.norm());
  }
}

TEST_CASE("samples drawn with replacement: unbiased, and the same for the same seed") {
  const Dataset<> data = stochastic_data(960);
  const Vector<double> w = stochastic_start();
  std::vector<Index> all(7);
  std::iota(all.begin(), all.end(), Index(0));
  const Vector<double> whole = sum_gradient(data, w, all);
  const StochasticGradient problem(StochasticNet(features), data,
                                   {.batch_size = 2, .with_replacement = true, .seed = 6});
  const auto source = problem.make_source();
  const Index draws = 20000;
  Vector<double> sum = Vector<double>::Zero(w.size());
  Vector<double> squares = Vector<double>::Zero(w.size());
  for (Index k = 0; k < draws; ++k) {
    Vector<double> g = Vector<double>::Zero(w.size());
    source->begin_step(k, 0.0, w);
    source->add_gradient(1.0, g);
    sum += g;
    squares += g.cwiseAbs2();
  }
  const Vector<double> mean = sum / static_cast<double>(draws);
  // 2 of 7 samples; five standard errors of the mean, for 18 entries.
  for (Index i = 0; i < w.size(); ++i) {
    const double variance = squares[i] / static_cast<double>(draws) - mean[i] * mean[i];
    CHECK(std::abs(mean[i] - 2.0 / 7.0 * whole[i]) <= 5 * std::sqrt(variance / static_cast<double>(draws)));
  }
  const auto run = [&](std::uint64_t seed) {
    const StochasticGradient other(StochasticNet(features), data,
                                   {.batch_size = 2, .with_replacement = true, .seed = seed});
    return integrate(other, w, Steps{50}, Descent{}, ConstantStep{1e-3}).w;
  };
  CHECK(same_bits(run(6), run(6)));
  CHECK_FALSE(same_bits(run(6), run(7)));
}

TEST_CASE("label noise and gradient noise by their definitions") {
  const Dataset<> data = stochastic_data(961);
  const double h = 1e-3;
  const double delta = 0.7;
  SECTION("fresh normal noise on all labels of a step") {
    Vector<double> w = stochastic_start();
    std::vector<Index> all(7);
    std::iota(all.begin(), all.end(), Index(0));
    for (std::uint64_t k = 0; k < 30; ++k) {
      RandomStream random = RandomStream(8, k).child("label noise");
      std::vector<double> noise(7);
      for (double& xi : noise) xi = delta * random.normal();
      w -= h * sum_gradient(data, w, all, noise);
    }
    const StochasticGradient problem(StochasticNet(features), data, {.label_noise = delta, .seed = 8});
    CHECK(problem.steps_per_epoch() == 1);
    const auto run = integrate(problem, stochastic_start(), Steps{30}, Descent{}, ConstantStep{h});
    CHECK((run.w - w).norm() <= 1e-13 * w.norm());
    // The problem itself has none.
    CHECK(
        std::abs(problem.loss(w) -
                 (data.X() * (w.head(features).cwiseAbs2() - w.tail(features).cwiseAbs2()) - data.y()).squaredNorm()) <=
        1e-12 * problem.loss(w));
  }
  SECTION("your own law") {
    Vector<double> w = stochastic_start();
    std::uint64_t k = 0;
    for (std::uint64_t epoch = 0; epoch < 5; ++epoch)
      for (const std::vector<Index>& batch : batches_of(9, epoch, 7, 3)) {
        RandomStream random = RandomStream(9, k++).child("label noise");
        std::vector<double> noise;
        for (std::size_t b = 0; b < batch.size(); ++b) noise.push_back(delta * (random.uniform() < 0.5 ? -1.0 : 1.0));
        w -= h * sum_gradient(data, w, batch, noise);
      }
    const StochasticGradient problem(StochasticNet(features), data,
                                     {.batch_size = 3,
                                      .label_noise = delta,
                                      .noise = [](RandomStream& r) { return r.uniform() < 0.5 ? -1.0 : 1.0; },
                                      .seed = 9});
    const auto run = integrate(problem, stochastic_start(), Epochs{5}, Descent{}, ConstantStep{h});
    CHECK((run.w - w).norm() <= 1e-13 * w.norm());
  }
  SECTION("on the gradient") {
    Vector<double> w = stochastic_start();
    std::vector<Index> all(7);
    std::iota(all.begin(), all.end(), Index(0));
    for (std::uint64_t k = 0; k < 30; ++k) {
      RandomStream random = RandomStream(10, k).child("gradient noise");
      w -= h * (sum_gradient(data, w, all) + 0.2 * normal_vector(random, w.size()));
    }
    const StochasticGradient problem(StochasticNet(features), data, {.gradient_noise = 0.2, .seed = 10});
    const auto run = integrate(problem, stochastic_start(), Steps{30}, Descent{}, ConstantStep{h});
    CHECK((run.w - w).norm() <= 1e-13 * w.norm());
  }
}

TEST_CASE("as a vector field it is the gradient flow of all data, a batch at a time") {
  const Dataset<> data = stochastic_data(962, 600);
  const StochasticNet net(features);
  const GradientFlow flow(net, data);
  const StochasticGradient problem(net, data, {.batch_size = 1});
  RandomStream random(963);
  for (int i = 0; i < 5; ++i) {
    const Vector<double> w = random_vector(random, 2 * features);
    Vector<double> a(w.size()), b(w.size());
    flow(0.0, w, a);
    problem(0.0, w, b);
    CHECK((a - b).norm() <= 1e-13 * a.norm());
    CHECK(std::abs(flow.loss(w) - problem.loss(w)) <= 1e-13 * flow.loss(w));
  }
}

TEST_CASE("descent on means of classes makes the steps of Sgd, and momentum too") {
  const LabelledDataset<double> data = three_classes(50);
  const LinearClassifier<double> model(4, 3);
  const Vector<double> w0 = Vector<double>::Zero(12);
  const auto trained = [&](double momentum) {
    return Sgd(model, data, w0,
               {.step = 0.05, .batch_size = 8, .max_epochs = 5, .momentum = momentum, .seed = 4, .stop_accuracy = 1.0})
        .run();
  };
  const StochasticGradient problem(model, data, {.batch_size = 8, .mean = true, .seed = 4});
  const auto plain = integrate(problem, w0, Epochs{5}, Descent{}, ConstantStep{0.05});
  CHECK((plain.w - trained(0.0).w).norm() <= 1e-13 * plain.w.norm());
  const auto ball = integrate(problem, w0, Epochs{5}, HeavyBall{.momentum = 0.9}, ConstantStep{0.05});
  CHECK((ball.w - trained(0.9).w).norm() <= 1e-13 * ball.w.norm());

  // A network, whose steps continue to the next batch in either loop: the same products on the same numbers.
  RandomStream random(956);
  const ReluNetwork<double> net(4, {30, 20}, true, 3);
  const Vector<double> start = net.initial_parameters(random, Scale<>::from_value(1.0));
  const StochasticGradient of_net(net, data, {.batch_size = 8, .mean = true, .seed = 4});
  const auto run = integrate(of_net, start, Epochs{5}, Descent{}, ConstantStep{0.05});
  const auto trainer = Sgd(net, data, start, {.step = 0.05, .batch_size = 8, .max_epochs = 5, .seed = 4}).run();
  CHECK(same_bits(run.w, trainer.w));
  CHECK((run.w - start).norm() > 0.01 * start.norm());
}

TEST_CASE("mini-batch runs do not depend on the number of threads") {
  RandomStream random(964);
  const Matrix<double> points = random_matrix(random, 40, 3);
  const Dataset<> data = Dataset<>::with_outputs(points, random_matrix(random, 40, 2));
  // Wide enough for its layers to be shared.
  const ReluNetwork<double> net(3, {600}, false, 2);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  const auto run = [&](int threads) {
    const StochasticGradient problem(net, data, {.batch_size = 16, .mean = true}, SquaredLoss<double>{},
                                     ParallelOptions{threads});
    return integrate(problem, w0, Epochs{3}, HeavyBall{}, ConstantStep{1e-3}).w;
  };
  const Vector<double> one = run(1);
  CHECK(same_bits(one, run(2)));
  CHECK(same_bits(one, run(3)));
}

TEST_CASE("weight decay on mini-batches") {
  const Dataset<> data = stochastic_data(965);
  const double h = 1e-3;
  const double lambda = 0.3;
  Vector<double> w = stochastic_start();
  for (std::uint64_t epoch = 0; epoch < 4; ++epoch)
    for (const std::vector<Index>& batch : batches_of(5, epoch, 7, 2))
      w = (1 - 2 * h * lambda) * w - h * sum_gradient(data, w, batch);
  const StochasticGradient problem(StochasticNet(features), data, {.batch_size = 2, .seed = 5});
  const auto run =
      integrate(WithWeightDecay(problem, lambda), stochastic_start(), Epochs{4}, Descent{}, ConstantStep{h});
  CHECK((run.w - w).norm() <= 1e-13 * w.norm());
}

TEST_CASE("a stochastic problem refuses what makes no sense") {
  // Numbers that stand for classes.
  RandomStream signs(970);
  const Dataset<> unsigned_data = gaussian_data(signs, 7, features);
  const Dataset<> two_classes(unsigned_data.X(),
                              Vector<double>((unsigned_data.y().array() > 0).cast<double>() * 2 - 1));
  CHECK_THROWS_MATCHES(
      StochasticGradient(StochasticNet(features), two_classes, Sampling<double>{.label_noise = 0.1}, LogisticLoss<>{}),
      ArgumentError, message_contains("classes have no noise"));
  const Dataset<> data = stochastic_data(966);
  const StochasticNet net(features);
  const auto refuses = [&](const Sampling<double>& sampling, const std::string& part) {
    CHECK_THROWS_MATCHES(StochasticGradient(net, data, sampling), ArgumentError, message_contains(part));
  };
  refuses({.batch_size = 8}, "batch_size must be in 1 .. N = 7");
  refuses({.batch_size = -1}, "batch_size");
  refuses({.with_replacement = true}, "with_replacement");
  refuses({.label_noise = -0.5}, "label_noise");
  refuses({.label_noise = std::nan("")}, "label_noise");
  refuses({.gradient_noise = -1.0}, "gradient_noise");
  refuses({.noise = [](RandomStream& r) { return r.normal(); }}, "label_noise, its size, is 0");
  const LabelledDataset<double> classes = three_classes(20);
  CHECK_THROWS_MATCHES(StochasticGradient(LinearClassifier<double>(4, 3), classes, {.label_noise = 0.1}), ArgumentError,
                       message_contains("classes have no noise"));
  CHECK_THROWS_AS(StochasticGradient(LinearClassifier<double>(4, 2), classes, {.batch_size = 2}), DimensionError);
  CHECK_THROWS_AS(StochasticGradient(StochasticNet(features + 1), data, {.batch_size = 2}), DimensionError);
}

TEST_CASE("the step search serves every rule") {
  const Dataset<> data = stochastic_data(967);
  const StochasticGradient problem(StochasticNet(features), data, {.batch_size = 2, .seed = 5});
  const auto check_search = [&](const auto& rule) {
    const StepSearchOptions<double> ladder{
        .largest = 10.0, .ratio = 0.25, .count = 10, .trial_epochs = 20, .patience = 3};
    const auto found = search_step(problem, stochastic_start(), rule, ladder);
    REQUIRE(found.ok());
    CHECK(found.trials.front().status != Status::reached_end);  // 10 is far beyond stability
    double least = infinity;
    for (const auto& trial : found.trials) {
      least = std::min(least, trial.loss);
      if (!std::isfinite(trial.loss)) continue;
      const auto run = integrate(problem, stochastic_start(), Epochs{20}, rule, ConstantStep{trial.step});
      CHECK(problem.loss(run.w) == trial.loss);
      if (trial.step == found.step) CHECK(trial.loss == least);
    }
  };
  check_search(Descent{});
  check_search(HeavyBall{.momentum = 0.5});
  CHECK_THROWS_MATCHES(search_step(problem, stochastic_start(), Descent{}, {.by_accuracy = true}), ArgumentError,
                       message_contains("by_accuracy"));
  CHECK_THROWS_MATCHES(search_step(problem, stochastic_start(), Descent{}, {.hopeless_batches = 3}), ArgumentError,
                       message_contains("hopeless_batches is for the search with SgdOptions, got 3"));
  CHECK_THROWS_MATCHES(search_step(problem, stochastic_start(), Descent{}, {.trial_epochs = 0}), ArgumentError,
                       message_contains("trial_epochs"));
}

TEST_CASE("a run of single samples resumes from any step bit for bit, though its steps look ahead") {
  RandomStream random(967);
  const Dataset<> data = gaussian_data(random, 9, 43);
  const SquaredDiagonalNet<double> net(43);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  for (const Sampling<double>& sampling :
       {Sampling<double>{.batch_size = 1}, Sampling<double>{.batch_size = 1, .with_replacement = true},
        Sampling<double>{.batch_size = 1, .label_noise = 0.3}, Sampling<double>{.batch_size = 2}}) {
    const StochasticGradient problem(net, data, sampling);
    const auto whole = integrate(problem, w0, Steps{40}, Descent{}, ConstantStep{2e-3});
    REQUIRE(whole.ok());
    CHECK((whole.w - w0).norm() > 0.01 * w0.norm());
    for (const Index steps : {1, 8, 9, 17, 39}) {
      const auto part = integrate(problem, w0, Steps{steps}, Descent{}, ConstantStep{2e-3});
      const auto rest = resume(problem, part.state, Steps{40}, Descent{}, ConstantStep{2e-3});
      CHECK(same_bits(rest.w, whole.w));
    }
    // An observer sees the samples of the step that was made, not those of the next.
    std::vector<Index> seen;
    auto collect = [&](const StepView<double>& view) {
      seen.insert(seen.end(), view.residuals->samples, view.residuals->samples + view.residuals->size);
      return Action::proceed;
    };
    static_cast<void>(integrate(problem, w0, Epochs{2}, Descent{}, ConstantStep{2e-3}, {.observers = {collect}}));
    REQUIRE(seen.size() >= 18);
    if (!sampling.with_replacement)
      for (auto first : {seen.begin(), seen.begin() + 9}) {
        std::vector<Index> epoch(first, first + 9);
        std::sort(epoch.begin(), epoch.end());
        for (Index n = 0; n < 9; ++n) CHECK(epoch[static_cast<std::size_t>(n)] == n);
      }
  }
}

TEST_CASE("a run of single samples keeps its last good state where a step leaves the numbers") {
  RandomStream random(968);
  const Dataset<> unit = gaussian_data(random, 5, 40);
  const Dataset data(Matrix<double>(1e100 * unit.X()), unit.y());
  const SquaredDiagonalNet<double> net(40);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(1.0));
  const auto run =
      integrate(StochasticGradient(net, data, {.batch_size = 1}), w0, Steps{50}, Descent{}, ConstantStep{1e-10});
  CHECK(run.status == Status::non_finite);
  CHECK(run.w.allFinite());
  CHECK(run.step < 50);
}

TEST_CASE("a run of single samples that never goes back makes the steps of one that might, bit for bit") {
  RandomStream random(969);
  const Dataset<> data = gaussian_data(random, 9, 43);
  const SquaredDiagonalNet<double> net(43);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  // A loss that is never met: its event has the run keep what was before each step.
  IntegrateOptions<double> with_event;
  with_event.events = {loss_below(1e-300).at_step_end(1000)};
  with_event.detect_stall = false;
  for (const double noise : {0.0, 20.0}) {
    // With noise weights grow by what may be a tenth per step: bounds of their norm leave the numbers in between.
    const StochasticGradient problem(net, data, {.batch_size = 1, .label_noise = noise});
    const ConstantStep step{noise > 0.0 ? 1e-3 : 2e-3};
    const auto might = integrate(problem, w0, Steps{4000}, Descent{}, step, with_event);
    std::vector<double> norms;
    auto watch = [&](const StepView<double>& view) {
      norms.push_back(view.y.norm());
      return Action::proceed;
    };
    const auto never = integrate(problem, w0, Steps{4000}, Descent{}, step, {.observers = {watch}});
    REQUIRE(might.status == Status::reached_end);
    REQUIRE(never.status == Status::reached_end);
    CHECK(same_bits(never.w, might.w));
    CHECK(norms.back() == might.w.norm());
  }
}
