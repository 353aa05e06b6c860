#include "richflow/integrate/run_file.hpp"

#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct Killed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Ends the process, as far as a test can, after some steps.
struct Killer {
  Index left;
  Action operator()(const StepView<double>& /*view*/) {
    if (left-- == 0) throw Killed("killed");
    return Action::proceed;
  }
};

struct KilledProblem {
  Dataset<> data;
  SquaredDiagonalNet<double> net{8};
  Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.3));
  explicit KilledProblem(std::uint64_t seed)
      : data([&] {
          RandomStream random(seed);
          return gaussian_data(random, 5, 8);
        }()) {}
};

/// Runs `make_run(options)` undisturbed, and killed at random moments until it ends.
template <class MakeRun>
void check_survives(const MakeRun& make_run, std::uint64_t seed, Index longest_life) {
  const TemporaryFolder folder;
  RandomStream random(seed);
  IntegrateOptions<double> options;
  options.save_at.every = 7;
  options.save_at.start = true;
  options.save_at.quantities = {
      {"sum", [](const Vector<double>& w) { return w.sum(); }},
      {"head", [](double t, const Vector<double>& w) { return Vector<double>(t * w.head(2)); }}};
  options.save_at.value = [](double, const Vector<double>& w) { return Vector<double>(2 * w); };
  const auto whole = make_run(options);
  REQUIRE(whole.ok());
  options.checkpoint = {.file = folder.path() / "run", .every_seconds = 1e9, .every_steps = 5};
  int deaths = 0;
  for (;;) {
    Killer killer{static_cast<Index>(random.uniform_integer(static_cast<std::uint64_t>(longest_life)))};
    auto mortal = options;
    mortal.observers = {killer};
    try {
      const auto run = make_run(mortal);
      CHECK(same_bits(run.w, whole.w));
      CHECK(run.t == whole.t);
      CHECK(run.status == whole.status);
      CHECK(run.stats.accepted == whole.stats.accepted);
      CHECK(run.stats.rejected == whole.stats.rejected);
      CHECK(run.times == whole.times);
      CHECK(run.steps == whole.steps);
      CHECK(run.table == whole.table);
      REQUIRE(run.values.size() == whole.values.size());
      for (std::size_t i = 0; i < run.values.size(); ++i) CHECK(same_bits(run.values[i], whole.values[i]));
      break;
    } catch (const Killed&) {
      ++deaths;
      REQUIRE(deaths < 10000);
    }
  }
  CHECK(deaths > 0);
  // It is there to be asked again.
  CHECK(same_bits(make_run(options).w, whole.w));
}

}  // namespace

TEST_CASE("runs killed at random moments resume to the bit") {
  const KilledProblem p(921);
  const GradientFlow flow(p.net, p.data);
  const StochasticGradient stochastic(p.net, p.data, {.batch_size = 2, .label_noise = 0.1, .seed = 3});
  SECTION("a flow") {
    check_survives(
        [&](const IntegrateOptions<double>& options) {
          return integrate(flow, p.w0, TimeSpan{0.0, 3.0}, DormandPrince{}, PiController<>{.tolerance = {1e-8, 1e-10}},
                           options);
        },
        1, 40);
  }
  SECTION("SGD") {
    check_survives(
        [&](const IntegrateOptions<double>& options) {
          return integrate(stochastic, p.w0, Epochs{60}, Descent{}, ConstantStep{1e-3}, options);
        },
        2, 60);
  }
  SECTION("heavy ball") {
    check_survives(
        [&](const IntegrateOptions<double>& options) {
          return integrate(stochastic, p.w0, Epochs{60}, HeavyBall{.momentum = 0.7}, ConstantStep{1e-3}, options);
        },
        3, 60);
  }
}

TEST_CASE("a run that an event has ended stays ended, and others continue as far as they are asked") {
  const KilledProblem p(925);
  const TemporaryFolder folder;
  const GradientFlow flow(p.net, p.data);
  IntegrateOptions<double> options;
  options.checkpoint = {.file = folder.path() / "event"};
  options.save_at.end = true;
  const double half = 0.6;
  const auto norm = [half](double, const Vector<double>& w) { return w.head(8).norm() - 1.5 * half; };
  options.events = {zero_crossing("norm", norm)};
  const auto run = [&](double end) {
    return integrate(flow, p.w0, TimeSpan{0.0, end}, DormandPrince{}, PiController<>{.tolerance = {1e-8, 1e-10}},
                     options);
  };
  const auto first = run(3.0);
  CAPTURE(first.message);
  REQUIRE(first.status == Status::event);
  const auto again = run(3.0);
  CHECK(again.status == Status::event);
  CHECK(again.event_name == "norm");
  CHECK(again.t == first.t);
  CHECK(same_bits(again.w, first.w));
  CHECK(again.times == first.times);

  options.checkpoint = {.file = folder.path() / "span"};
  options.events.clear();
  const auto steps = [&](Index count) {
    return integrate(flow, p.w0, Steps{count}, HeavyBall{}, ConstantStep{1e-3}, options);
  };
  REQUIRE(steps(40).step == 40);
  const auto longer = steps(90);
  CHECK(longer.step == 90);
  options.checkpoint = {};
  CHECK(same_bits(longer.w, steps(90).w));
}

TEST_CASE("a checkpoint of another run is refused and stays as it is") {
  const KilledProblem p(922);
  const TemporaryFolder folder;
  IntegrateOptions<double> options;
  options.checkpoint = {.file = folder.path() / "run"};
  const Sampling<double> sampling{.batch_size = 2, .seed = 3};
  const auto run = [&](const auto& problem, const Vector<double>& w0, const auto& rule, double h) {
    return integrate(problem, w0, Epochs{10}, rule, ConstantStep{h}, options);
  };
  const StochasticGradient problem(p.net, p.data, sampling);
  const auto first = run(problem, p.w0, HeavyBall{.momentum = 0.5}, 1e-3);
  REQUIRE(first.ok());
  const std::string content = content_of(options.checkpoint.file.path());
  const auto refuses = [&](const auto& other) {
    CHECK_THROWS_MATCHES(other(), CheckpointError, message_contains("another"));
    CHECK(content_of(options.checkpoint.file.path()) == content);
  };
  refuses([&] { return run(problem, p.w0, HeavyBall{.momentum = 0.6}, 1e-3); });
  refuses([&] { return run(problem, p.w0, Nesterov{.momentum = 0.5}, 1e-3); });
  refuses([&] { return run(problem, p.w0, Descent{}, 1e-3); });
  refuses([&] { return run(problem, p.w0, HeavyBall{.momentum = 0.5}, 2e-3); });
  refuses([&] { return run(problem, Vector<double>(1.1 * p.w0), HeavyBall{.momentum = 0.5}, 1e-3); });
  const StochasticGradient other_order(p.net, p.data, {.batch_size = 2, .seed = 4});
  refuses([&] { return run(other_order, p.w0, HeavyBall{.momentum = 0.5}, 1e-3); });
  const StochasticGradient other_batch(p.net, p.data, {.batch_size = 3, .seed = 3});
  refuses([&] { return run(other_batch, p.w0, HeavyBall{.momentum = 0.5}, 1e-3); });
  refuses([&] { return run(WithWeightDecay(problem, 1e-5), p.w0, HeavyBall{.momentum = 0.5}, 1e-3); });
  // The first three batches do not see the sample, the loss at the start does.
  Vector<double> y = p.data.y();
  y[4] += 1.0;
  const Dataset relabelled(p.data.X(), y);
  const StochasticGradient other_label(p.net, relabelled, sampling);
  refuses([&] { return run(other_label, p.w0, HeavyBall{.momentum = 0.5}, 1e-3); });
  const KilledProblem q(923);
  const StochasticGradient other_data(q.net, q.data, sampling);
  refuses([&] { return run(other_data, p.w0, HeavyBall{.momentum = 0.5}, 1e-3); });
  CHECK(same_bits(run(problem, p.w0, HeavyBall{.momentum = 0.5}, 1e-3).w, first.w));
}

TEST_CASE("a checkpoint of a run that kept something else, or came further, is refused") {
  const KilledProblem p(926);
  const TemporaryFolder folder;
  const GradientFlow flow(p.net, p.data);
  IntegrateOptions<double> options;
  options.checkpoint = {.file = folder.path() / "run"};
  const auto steps = [&](Index count) {
    return integrate(flow, p.w0, Steps{count}, Descent{}, ConstantStep{1e-3}, options);
  };
  const auto sum = [](const Vector<double>& w) { return w.sum(); };
  const auto norm = [](const Vector<double>& w) { return w.norm(); };
  options.save_at = {.times = {0.004, 0.008}, .steps = {5}, .quantities = {{"sum", sum}, {"norm", norm}}};
  REQUIRE(steps(40).ok());
  const auto refuses = [&](Index count, const std::string& part) {
    CHECK_THROWS_MATCHES(steps(count), CheckpointError, message_contains(part));
  };
  refuses(10, "further");
  options.save_at.quantities = {{"norm", norm}, {"sum", sum}};
  refuses(40, "kept something else");
  options.save_at.quantities = {{"sum", sum}, {"norm", norm}};
  options.save_at.times = {0.004, 0.006};
  refuses(40, "0.006");
  options.save_at.times = {0.004, 0.008, 0.045};
  options.save_at.steps = {5, 50};
  const auto longer = steps(60);
  CHECK(longer.table.num_rows() == 5);
  CHECK(longer.step == 60);
  options.save_at.steps = {5, 20};
  refuses(60, "step 20");
}

TEST_CASE("the counts in a file of a run belong together, or it is refused") {
  const KilledProblem p(927);
  const TemporaryFolder folder;
  IntegrateOptions<double> options;
  options.checkpoint = {.file = folder.path() / "run"};
  options.save_at = {.steps = {2, 4, 6, 8}, .quantities = {{"sum", [](const Vector<double>& w) { return w.sum(); }}}};
  options.save_at.value = [](double, const Vector<double>& w) { return w; };
  const auto steps = [&] {
    return integrate(GradientFlow(p.net, p.data), p.w0, Steps{10}, Descent{}, ConstantStep{1e-3}, options);
  };
  REQUIRE(steps().ok());
  const std::string title = "richflow run 1";
  const auto& path = options.checkpoint.file.path();
  const std::string lines = detail::opened_checkpoint(title.c_str(), detail::checkpoint_content(path));
  const auto refuses = [&](const std::string& from, const std::string& to, const std::string& part) {
    std::string changed = lines;
    const std::size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    changed.replace(at, from.size(), to);
    write_file(path, detail::sealed_checkpoint(title.c_str(), changed.substr(1)));
    CHECK_THROWS_MATCHES(steps(), CheckpointError, message_contains(part));
  };
  refuses("kept 4", "kept 3", "it keeps 3 values of 4 times");
  // 4 times 2^62 is 0 in 64 bits.
  refuses("width 1\nvalues 4\n", "width 4611686018427387904\nvalues 0\n", "4 times 4611686018427387904 are needed");
}

TEST_CASE("a checkpoint that can no longer be written is no reason to lose the run") {
  const KilledProblem p(927);
  const GradientFlow flow(p.net, p.data);
  IntegrateOptions<double> options;
  const auto plain = integrate(flow, p.w0, Steps{20}, Descent{}, ConstantStep{1e-3}, options);
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "inner");
  options.checkpoint = {.file = folder.path() / "inner" / "run", .every_steps = 5};
  const auto remove = [&](const StepView<double>& view) {
    if (view.step == 3) std::filesystem::remove_all(folder.path() / "inner");
    return Action::proceed;
  };
  options.observers = {remove};
  const auto run = integrate(flow, p.w0, Steps{20}, Descent{}, ConstantStep{1e-3}, options);
  CHECK(run.ok());
  CHECK(same_bits(run.w, plain.w));
  CHECK_THAT(run.message, text_contains("cannot write"));
}

TEST_CASE("a damaged file of a run, and one that cannot be") {
  const KilledProblem p(924);
  const TemporaryFolder folder;
  const GradientFlow flow(p.net, p.data);
  IntegrateOptions<double> options;
  options.checkpoint = {.file = folder.path() / "run"};
  const auto run = [&] { return integrate(flow, p.w0, Steps{20}, Descent{}, ConstantStep{1e-3}, options); };
  REQUIRE(run().ok());
  std::string content = content_of(options.checkpoint.file.path());
  static_cast<void>(folder.file("run", content.substr(0, content.size() / 2)));
  CHECK_THROWS_AS(run(), CheckpointError);
  content[content.size() / 2] = content[content.size() / 2] == '1' ? '2' : '1';
  static_cast<void>(folder.file("run", content));
  CHECK_THROWS_AS(run(), CheckpointError);
  options.checkpoint.file = folder.path() / "missing" / "run";
  CHECK_THROWS_AS(run(), CheckpointError);
  options.checkpoint = {.file = folder.path() / "other", .every_seconds = -1.0};
  CHECK_THROWS_AS(run(), ArgumentError);
  options.checkpoint = {.file = folder.path() / "other", .every_steps = -1};
  CHECK_THROWS_AS(run(), ArgumentError);
  IntegrateOptions<double, std::string> texts;
  texts.checkpoint = {.file = folder.path() / "texts"};
  texts.save_at = {.every = 1, .value = [](double, const Vector<double>&) { return std::string("text"); }};
  CHECK_THROWS_MATCHES(integrate(flow, p.w0, Steps{20}, Descent{}, ConstantStep{1e-3}, texts), ArgumentError,
                       message_contains("neither a number nor a vector"));
}
