#include "richflow/integrate/observer.hpp"

#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"

using namespace richflow;
using namespace test_support;

namespace {

struct Recorder {
  std::vector<Index> steps = {};
  std::vector<double> times = {};
  std::vector<double> first_entries = {};
  std::vector<bool> has_loss = {};
  Index stop_at = -1;

  Action operator()(const StepView<double>& view) {
    steps.push_back(view.step);
    times.push_back(view.t);
    first_entries.push_back(view.y(0));
    has_loss.push_back(view.loss.has_value());
    return view.step == stop_at ? Action::stop : Action::proceed;
  }
};

const Decay two_decays = decay({1.0, 2.0});
const Vector<double> ones = Vector<double>::Ones(2);

}  // namespace

static_assert(Observer<Recorder, double> && Observer<Progress, double> && Observer<Progress, float>);
static_assert(std::is_constructible_v<ObserverRef<double>, Recorder&>);
static_assert(!std::is_constructible_v<ObserverRef<double>, Recorder>, "a temporary would dangle");

TEST_CASE("observers see every accepted step and keep what they count") {
  Recorder recorder;
  const auto solution = integrate(two_decays, ones, TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1},
                                  {.save_at = {.every = 1}, .observers = {recorder}});
  CHECK(recorder.steps == std::vector<Index>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(recorder.times == solution.times);
  for (std::size_t i = 0; i < solution.values.size(); ++i) CHECK(recorder.first_entries[i] == solution.values[i](0));
  CHECK(recorder.has_loss == std::vector<bool>(10, false));
}

TEST_CASE("every observer is called, in order, even when one of them stops the run") {
  Recorder first;
  Recorder second;
  first.stop_at = 4;
  const auto solution =
      integrate(two_decays, ones, TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1}, {.observers = {first, second}});
  CHECK(solution.status == Status::stopped_by_observer);
  CHECK(solution.step == 4);
  CHECK(second.steps == first.steps);
  CHECK(second.steps.size() == 4);
}

TEST_CASE("an observer sees the loss that an event needed, and the state where it fired") {
  Recorder recorder;
  const auto solution = integrate(two_decays, ones, TimeSpan{0, 10}, Euler{}, ConstantStep<>{.step = 0.1},
                                  {.events = {loss_below(1e-2)}, .observers = {recorder}});
  REQUIRE(solution.status == Status::event);
  CHECK(recorder.steps.back() == solution.step);
  CHECK(recorder.times.back() == solution.t);
  CHECK(recorder.first_entries.back() == solution.w(0));
  CHECK(recorder.has_loss.front());
}

TEST_CASE("an observer need not be copyable") {
  struct Single {
    int calls = 0;
    Single() = default;
    Single(const Single&) = delete;
    Action operator()(const StepView<double>& view) {
      calls += view.stats.accepted == view.step ? 1 : 0;
      return Action::proceed;
    }
  };
  Single single;
  static_cast<void>(
      integrate(two_decays, ones, TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.25}, {.observers = {single}}));
  CHECK(single.calls == 4);
}

TEST_CASE("progress is silent unless given somewhere to write") {
  Progress silent;
  const auto solution =
      integrate(two_decays, ones, TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.25}, {.observers = {silent}});
  CHECK(solution.status == Status::reached_end);

  std::ostringstream stream;
  Progress progress(stream, std::chrono::milliseconds(0));
  static_cast<void>(integrate(two_decays, ones, TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.25},
                              {.events = {loss_below(1e-9)}, .observers = {progress}}));
  CHECK(stream.str() ==
        "step 1  t 0.25 of 1 (25 %)  h 0.25  loss 0.5312\n"
        "step 2  t 0.5 of 1 (50 %)  h 0.25  loss 0.2207\n"
        "step 3  t 0.75 of 1 (75 %)  h 0.25  loss 0.1046\n"
        "step 4  t 1 of 1 (100 %)  h 0.25  loss 0.05396\n");
}

TEST_CASE("progress writes lines to a function, and no more often than its interval") {
  std::vector<std::string> lines;
  Progress often([&](const std::string& line) { lines.push_back(line); }, std::chrono::milliseconds(0));
  Progress rarely([&](const std::string& line) { lines.push_back(line); }, std::chrono::hours(1));
  auto stop = [](const StepView<double>& view) { return view.step == 3 ? Action::stop : Action::proceed; };
  static_cast<void>(integrate(two_decays, ones, TimeSpan{0, infinity}, Euler{}, ConstantStep<>{.step = 0.5},
                              {.observers = {often, rarely, stop}}));
  CHECK(lines == std::vector<std::string>{"step 1  t 0.5  h 0.5", "step 2  t 1  h 0.5", "step 3  t 1.5  h 0.5"});
}
