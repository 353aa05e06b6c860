#include "richflow/integrate/integrate.hpp"

#include <cmath>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

using Options = IntegrateOptions<double>;

const PiController<> adaptive{.tolerance = {.relative = 1e-8, .absolute = 1e-10}};

/// The ways to run: in one call, one attempt at a time, and stopped once with the state sent through a
/// checkpoint. Each must give the same.
template <class Problem, class St, class Controller>
std::vector<Solution<double>> all_ways(const Problem& problem, const Vector<double>& y0, TimeSpan<> span,
                                       const St& stepper, const Controller& controller, const Options& options) {
  std::vector<Solution<double>> all;
  all.push_back(integrate(problem, y0, span, stepper, controller, options));

  Options one = options;
  one.max_steps = 1;
  Solution<double> step = integrate(problem, y0, span, stepper, controller, one);
  Index attempts = 1;
  while (step.status == Status::max_steps && attempts++ < options.max_steps)
    step = resume(problem, step.state, span.end, stepper, controller, one);
  all.push_back(std::move(step));

  Options part = options;
  part.max_steps = std::max<Index>(1, all[0].stats.accepted / 2);
  Solution<double> half = integrate(problem, y0, span, stepper, controller, part);
  if (half.status == Status::max_steps) {
    std::stringstream file;
    save_checkpoint(file, half.state);
    part.max_steps = options.max_steps - part.max_steps;
    half = resume(problem, load_checkpoint<double>(file), span.end, stepper, controller, part);
  }
  all.push_back(std::move(half));
  return all;
}

void check_all_equal(const std::vector<Solution<double>>& all, Status status) {
  for (std::size_t way = 0; way < all.size(); ++way) {
    CAPTURE(way, all[way].message, all[0].message);
    CHECK(all[way].status == status);
    CHECK(all[way].step == all[0].step);
    CHECK(same_bits(all[way].t, all[0].t));
    CHECK(same_bits(all[way].w, all[0].w));
    CHECK(all[way].bad_index == all[0].bad_index);
    CHECK(all[way].event == all[0].event);
    CHECK(all[way].stats.accepted == all[0].stats.accepted);
    CHECK(all[way].stats.rejected == all[0].stats.rejected);
    if (status != Status::max_steps) CHECK(all[way].message == all[0].message);
  }
}

}  // namespace

TEST_CASE("reached_end, whichever way it is run") {
  const Mixed problem;
  const auto check = [&](const auto& stepper, const auto& controller) {
    const auto all = all_ways(problem, Mixed::start(), TimeSpan{0, 2}, stepper, controller, {});
    check_all_equal(all, Status::reached_end);
    CHECK(all[0].ok());
    CHECK(all[0].t == 2);
    CHECK(all[0].message == "reached t = 2");
    CHECK(&all[0].require_ok() == &all[0]);
  };
  check(DormandPrince{}, adaptive);
  check(DormandPrince{}, ConstantStep<>{.step = 0.07});
  check(RungeKutta4{}, ConstantStep<>{.step = 0.05});
  check(Euler{}, ConstantStep<>{.step = 0.01});
  check(Midpoint{}, ConstantStep<>{.step = 0.03});
}

TEST_CASE("event, whichever way it is run") {
  const Decay problem = decay({1.0, 3.0});
  const Vector<double> y0 = Vector<double>::Ones(2);
  const auto check = [&](const auto& stepper, const auto& controller, const Event<>& event) {
    const auto all = all_ways(problem, y0, TimeSpan{0, infinity}, stepper, controller, {.events = {event}});
    check_all_equal(all, Status::event);
    CHECK(all[0].ok());
    CHECK(all[0].stats.accepted > 5);
  };
  for (const Event<>&event : {loss_below(1e-5), loss_below(1e-5).at_step_end(), stationary(1e-4),
                              zero_crossing("y0 = 0.01", [](double, const auto&y) { return y(0) - 0.01; }),
                              condition("t > 3", [](double t, const auto&) { return t > 3; })}) {
    CAPTURE(event.name());
    check(DormandPrince{}, adaptive, event);
    check(DormandPrince{}, ConstantStep<>{.step = 0.07}, event);
    check(RungeKutta4{}, ConstantStep<>{.step = 0.05}, event);
    check(Euler{}, ConstantStep<>{.step = 0.01}, event);
    check(Midpoint{}, ConstantStep<>{.step = 0.03}, event);
  }
}

TEST_CASE("stopped_by_observer, whichever way it is run") {
  const Mixed problem;
  auto stop = [](const StepView<double>& view) { return view.t > 0.7 ? Action::stop : Action::proceed; };
  const auto check = [&](const auto& stepper, const auto& controller) {
    const auto all =
        all_ways(problem, Mixed::start(), TimeSpan{0, infinity}, stepper, controller, {.observers = {stop}});
    check_all_equal(all, Status::stopped_by_observer);
    CHECK(all[0].ok());
    CHECK(all[0].t > 0.7);
    CHECK_THAT(all[0].message, text_contains("an observer stopped the run at t = "));
  };
  check(DormandPrince{}, adaptive);
  check(Euler{}, ConstantStep<>{.step = 0.01});
}

TEST_CASE("max_steps counts attempts, keeps the last state, and says how far it came") {
  const Mixed problem;
  const auto all = all_ways(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, adaptive, {.max_steps = 10});
  check_all_equal(all, Status::max_steps);
  CHECK_FALSE(all[0].ok());
  CHECK(all[0].stats.accepted + all[0].stats.rejected == 10);
  CHECK(all[0].t > 0);
  CHECK(all[0].t < 2);
  CHECK_THAT(all[0].message, text_contains("10 steps were used up at t = "));
  CHECK_THROWS_MATCHES(all[0].require_ok(), ConvergenceError, message_contains("10 steps were used up"));
}

TEST_CASE("step_too_small at a singularity, whichever way it is run") {
  const BlowUp problem;
  const auto all = all_ways(problem, BlowUp::start(), TimeSpan{0, 2}, DormandPrince{}, adaptive, {});
  check_all_equal(all, Status::step_too_small);
  CHECK_THAT(all[0].t, near(1, 1e-6, 0));
  CHECK(all[0].w.allFinite());
  CHECK_THAT(all[0].message, text_contains("too small to continue from t = "));

  PiController<> bounded = adaptive;
  bounded.min_step = 1e-4;
  const auto earlier = integrate(problem, BlowUp::start(), TimeSpan{0, 2}, DormandPrince{}, bounded);
  CHECK(earlier.status == Status::step_too_small);
  CHECK(earlier.t < all[0].t);
  // A constant step too small to move the time at all.
  const Decay still = decay({1.0});
  const auto stuck =
      integrate(still, Vector<double>::Ones(1), TimeSpan{1e20, 2e20}, Euler{}, ConstantStep<>{.step = 1.0});
  CHECK(stuck.status == Status::step_too_small);
}

TEST_CASE("non_finite when constant steps blow up: the last good state, the step, the time and the entry") {
  // |1 - 3 * 1| = 2: doubles every step in entry 1, decays in entry 0.
  const Decay problem = decay({0.5, 3.0});
  const auto check = [&](const auto& stepper, double step) {
    const auto all =
        all_ways(problem, Vector<double>::Ones(2), TimeSpan{0, 1e6}, stepper, ConstantStep<>{.step = step}, {});
    check_all_equal(all, Status::non_finite);
    const Solution<double>& solution = all[0];
    CHECK(solution.w.allFinite());
    CHECK(solution.w.cwiseAbs().maxCoeff() > 1e100);
    CHECK(solution.bad_index == 1);
    CHECK_THAT(solution.message, text_contains("y(1) became NaN or infinite in step " +
                                               std::to_string(solution.step + 1) + ", from t = "));
    CHECK_THAT(solution.message, text_contains("too large"));
    CHECK(solution.step > 10);
  };
  check(Euler{}, 1.0);
  check(RungeKutta4{}, 2.0);
  check(DormandPrince{}, 4.0);
  check(Midpoint{}, 2.0);
}

TEST_CASE("non_finite where the right-hand side is undefined, for constant and adaptive steps alike") {
  const UndefinedLater problem;
  const auto check = [&](const auto& stepper, const auto& controller, double first, double last) {
    const auto all = all_ways(problem, UndefinedLater::start(), TimeSpan{0, 1}, stepper, controller, {});
    check_all_equal(all, Status::non_finite);
    CHECK(all[0].bad_index == 1);
    CHECK(all[0].t >= first);
    CHECK(all[0].t <= last);
    CHECK(all[0].w.allFinite());
    CHECK_THAT(all[0].message, text_contains("y(1) became NaN"));
  };
  check(DormandPrince{}, adaptive, 0.5 - 1e-10, 0.5);
  check(DormandPrince{}, ConstantStep<>{.step = 0.01}, 0.49 - 1e-12, 0.5);
  check(RungeKutta4{}, ConstantStep<>{.step = 0.01}, 0.49 - 1e-12, 0.5);
  check(Midpoint{}, ConstantStep<>{.step = 0.01}, 0.49 - 1e-12, 0.5);
  // Euler evaluates at the start of its steps, and so still takes the one from 0.5.
  check(Euler{}, ConstantStep<>{.step = 0.0625}, 0.5625, 0.5625);
}

TEST_CASE("non_finite at once when the derivative is NaN at the start") {
  const UndefinedLater problem;
  for (const auto& all :
       {all_ways(problem, UndefinedLater::start(), TimeSpan{0.75, 1}, DormandPrince{}, adaptive, {}),
        all_ways(problem, UndefinedLater::start(), TimeSpan{0.75, 1}, Euler{}, ConstantStep<>{.step = 0.125}, {})}) {
    check_all_equal(all, Status::non_finite);
    CHECK(all[0].t == 0.75);
    CHECK(all[0].bad_index == 1);
    CHECK(all[0].stats.accepted == 0);
    CHECK(all[0].stats.evaluations <= 2);
    CHECK(same_bits(all[0].w, UndefinedLater::start()));
  }
}

TEST_CASE("large entries whose squares overflow are not mistaken for infinity") {
  const Decay problem = decay({1.0, 2.0});
  const Vector<double> y0 = Vector<double>::Constant(2, 1e200);
  const auto solution = integrate(problem, y0, TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.01});
  CHECK(solution.status == Status::reached_end);
  CHECK_THAT(solution.w(0), near(1e200 * std::pow(0.99, 100), 1e-13, 0));
}

TEST_CASE("a run that is stopped and resumed anywhere saves and ends the same, bit for bit") {
  const Mixed problem;
  const Options all{.save_at = {.times = {0.1, 0.11, 0.5, 1.1, 1.9, 2}, .every = 3, .start = true}};
  const auto check = [&](const auto& stepper, const auto& controller) {
    const auto whole = integrate(problem, Mixed::start(), TimeSpan{0, 2}, stepper, controller, all);
    REQUIRE(whole.status == Status::reached_end);
    const Index attempts = whole.stats.accepted + whole.stats.rejected;
    for (Index stop = 1; stop < attempts; ++stop) {
      Options first = all;
      first.max_steps = stop;
      const auto begun = integrate(problem, Mixed::start(), TimeSpan{0, 2}, stepper, controller, first);
      REQUIRE(begun.status == Status::max_steps);
      std::stringstream file;
      save_checkpoint(file, begun.state);
      const auto rest = resume(problem, load_checkpoint<double>(file), 2, stepper, controller, all);
      std::vector<double> times = begun.times;
      std::vector<Index> steps = begun.steps;
      auto values = begun.values;
      times.insert(times.end(), rest.times.begin(), rest.times.end());
      steps.insert(steps.end(), rest.steps.begin(), rest.steps.end());
      values.insert(values.end(), rest.values.begin(), rest.values.end());
      bool same = rest.status == whole.status && rest.step == whole.step && same_bits(rest.t, whole.t) &&
                  same_bits(rest.w, whole.w) && times == whole.times && steps == whole.steps &&
                  rest.stats.accepted == whole.stats.accepted && rest.stats.rejected == whole.stats.rejected;
      for (std::size_t i = 0; same && i < values.size(); ++i) same = same_bits(values[i], whole.values[i]);
      CAPTURE(stop);
      REQUIRE(same);
    }
  };
  check(DormandPrince{}, adaptive);
  check(DormandPrince{}, PiController<>{.tolerance = {.relative = 1e-2, .absolute = 1e-2}, .first_step = 1.0});
  check(DormandPrince{}, ConstantStep<>{.step = 0.03});
  check(RungeKutta4{}, ConstantStep<>{.step = 0.07});
  check(Euler{}, ConstantStep<>{.step = 0.01});
  check(Midpoint{}, ConstantStep<>{.step = 0.03});
}

TEST_CASE("an observer's stop resumes bit for bit") {
  const Mixed problem;
  auto stop = [](const StepView<double>& view) { return view.step == 7 ? Action::stop : Action::proceed; };
  const auto whole = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, adaptive);
  const auto stopped =
      integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, adaptive, {.observers = {stop}});
  REQUIRE(stopped.status == Status::stopped_by_observer);
  CHECK(stopped.step == 7);
  const auto rest = resume(problem, stopped.state, 2, DormandPrince{}, adaptive);
  CHECK(same_bits(rest.w, whole.w));
}

TEST_CASE("t1 and then t2 is t1 + t2, and a span of length zero is the identity") {
  const Mixed problem;
  RandomStream random(3, 0);
  for (int trial = 0; trial < 20; ++trial) {
    const double middle = random.uniform(0.1, 1.9);
    const auto first = integrate(problem, Mixed::start(), TimeSpan{0, middle}, DormandPrince{}, adaptive);
    const auto second = integrate(problem, first.w, TimeSpan{middle, 2}, DormandPrince{}, adaptive);
    const auto on = resume(problem, first.state, 2, DormandPrince{}, adaptive);
    // Both runs meet the tolerance 1e-8 per step, some 50 steps, entries up to 4 that grow by at most 4.
    CHECK((second.w - Mixed::exact(2)).norm() < 1e-5);
    CHECK((on.w - Mixed::exact(2)).norm() < 1e-5);
  }
  const auto nothing = integrate(problem, Mixed::start(), TimeSpan{1, 1}, DormandPrince{}, adaptive,
                                 {.save_at = {.times = {1}, .end = true}});
  CHECK(nothing.status == Status::reached_end);
  CHECK(same_bits(nothing.w, Mixed::start()));
  CHECK(nothing.times == std::vector<double>{1});
  CHECK(nothing.stats.accepted == 0);
}

TEST_CASE("statistics equal what a counting wrapper counts") {
  const Decay plain = decay({1.0, 3.0});
  const Vector<double> y0 = Vector<double>::Ones(2);
  const std::vector<double> times = {0.013, 0.2, 0.201, 0.77};
  const auto check = [&](const auto& stepper, const auto& controller, const Options& options) {
    const Counting<Decay> problem{plain};
    Index seen_accepted = 0;
    auto count = [&](const StepView<double>&) {
      ++seen_accepted;
      return Action::proceed;
    };
    Options watched = options;
    watched.observers = {count};
    const auto solution = integrate(problem, y0, TimeSpan{0, 4}, stepper, controller, watched);
    CHECK(solution.stats.evaluations == problem.evaluations);
    CHECK(solution.stats.loss_evaluations == problem.losses);
    CHECK(solution.stats.accepted == seen_accepted);
    CHECK(solution.stats.accepted == solution.step);
    CHECK(solution.stats.accepted > 0);
    CHECK(solution.stats.jacobians + solution.stats.factorizations + solution.stats.solves == 0);
  };
  for (const Options& options :
       {Options{}, Options{.save_at = {.times = times}}, Options{.events = {loss_below(1e-4)}},
        Options{.events = {loss_below(1e-4).at_step_end()}}, Options{.events = {stationary(1e-2)}},
        Options{.events = {stationary(1e-2), loss_below(1e-5), loss_below(1e-6)}},
        Options{.save_at = {.times = times}, .events = {loss_below(1e-300)}}}) {
    check(DormandPrince{}, adaptive, options);
    check(DormandPrince{}, PiController<>{.tolerance = {.relative = 1e-4, .absolute = 1e-4}, .first_step = 4}, options);
    check(DormandPrince{}, ConstantStep<>{.step = 0.05}, options);
    check(RungeKutta4{}, ConstantStep<>{.step = 0.05}, options);
    check(Euler{}, ConstantStep<>{.step = 0.01}, options);
    check(Midpoint{}, ConstantStep<>{.step = 0.05}, options);
  }
}

TEST_CASE("rejected attempts are counted, and do not evaluate the first stage again") {
  const Decay plain = decay({1.0});
  const Counting<Decay> problem{plain};
  PiController<> large = adaptive;
  large.first_step = 100;
  const auto solution = integrate(problem, Vector<double>::Ones(1), TimeSpan{0, 100}, DormandPrince{}, large);
  CHECK(solution.stats.rejected >= 1);
  CHECK(solution.stats.evaluations == 1 + 6 * (solution.stats.accepted + solution.stats.rejected));
  CHECK(solution.stats.evaluations == problem.evaluations);
}

TEST_CASE("a solution prints its status, its message and its work") {
  const Mixed problem;
  std::ostringstream text;
  text << integrate(problem, Mixed::start(), TimeSpan{0, 2}, Euler{}, ConstantStep<>{.step = 0.5});
  CHECK(text.str() ==
        "reached_end: reached t = 2 [4 steps, 0 rejected, 4 evaluations, 0 losses, 0 Jacobians, 0 factorizations, "
        "0 solves]");
}

TEST_CASE("bad input is refused before any work, naming argument and value") {
  const Decay plain = decay({1.0, 3.0});
  const Counting<Decay> problem{plain};
  const Vector<double> y0 = Vector<double>::Ones(2);
  const auto run = [&](const Vector<double>& y, TimeSpan<> span, const auto& controller, const Options& options) {
    return integrate(problem, y, span, DormandPrince{}, controller, options);
  };
  Vector<double> broken = y0;
  broken(1) = std::nan("");
  CHECK_THROWS_MATCHES(run(Vector<double>::Ones(3), {0, 1}, adaptive, {}), DimensionError, message_contains("y has 3"));
  CHECK_THROWS_AS(run(Vector<double>(0), {0, 1}, adaptive, {}), DimensionError);
  CHECK_THROWS_MATCHES(run(broken, {0, 1}, adaptive, {}), NonFiniteError, message_contains("y(1) is nan"));
  CHECK_THROWS_MATCHES(run(y0, {1, 0}, adaptive, {}), ArgumentError, message_contains("got 0"));
  CHECK_THROWS_MATCHES(run(y0, {std::nan(""), 1}, adaptive, {}), ArgumentError, message_contains("start"));
  CHECK_THROWS_MATCHES(run(y0, {0, std::nan("")}, adaptive, {}), ArgumentError, message_contains("end"));
  CHECK_THROWS_MATCHES(run(y0, {-infinity, 1}, adaptive, {}), ArgumentError, message_contains("finite"));
  CHECK_THROWS_MATCHES(run(y0, {0, infinity}, adaptive, {}), ArgumentError, message_contains("infinity"));
  CHECK_THROWS_MATCHES(run(y0, {0, 1}, adaptive, {.max_steps = 0}), ArgumentError, message_contains("max_steps"));
  CHECK_THROWS_MATCHES(run(y0, {0, 1}, PiController<>{}, {}), ArgumentError, message_contains("tolerance"));
  CHECK_THROWS_MATCHES(run(y0, {0, 1}, ConstantStep{}, {}), ArgumentError, message_contains("step"));
  IntegrationState<double> state;
  state.y = Vector<double>::Ones(5);
  CHECK_THROWS_MATCHES(resume(problem, state, 1, DormandPrince{}, adaptive), DimensionError,
                       message_contains("y has 5 entries where 2 are needed"));
  CHECK(problem.evaluations == 0);
}

TEST_CASE("an exception from the user's code passes through") {
  const Mixed problem;
  struct Mine {};
  auto thrower = [](const StepView<double>&) -> Action { throw Mine(); };
  CHECK_THROWS_AS(integrate(problem, Mixed::start(), TimeSpan{0, 2}, Euler{}, ConstantStep<>{.step = 0.5},
                            {.observers = {thrower}}),
                  Mine);
}
