#include "richflow/integrate/save_at.hpp"

#include <cmath>
#include <vector>

#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"

using namespace richflow;
using namespace test_support;

namespace {

const PiController<> tight{.tolerance = {.relative = 1e-9, .absolute = 1e-12}};

/// What a user may keep in place of the state: any type.
struct Kept {
  double t = 0;
  double norm = 0;
};

}  // namespace

TEST_CASE("without a request nothing is saved but the end") {
  const Mixed problem;
  const auto solution = integrate(problem, Mixed::start(), TimeSpan{0, 1}, DormandPrince{}, tight);
  CHECK(solution.times.empty());
  CHECK(solution.values.empty());
  CHECK((solution.w - Mixed::exact(1)).norm() < 1e-7);
}

TEST_CASE("times between steps come from the interpolant, and do not influence the steps") {
  const Mixed problem;
  const std::vector<double> times = {0, 0.001, 0.3, 0.300001, 0.77, 1.5, 2};
  const auto plain = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, tight);
  const auto saved =
      integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, tight, {.save_at = {.times = times}});
  REQUIRE(saved.times == times);
  REQUIRE(saved.values.size() == times.size());
  // The tolerance 1e-9 over some hundred steps; the interpolant has order 4 where the step has order 5.
  for (std::size_t i = 0; i < times.size(); ++i) CHECK((saved.values[i] - Mixed::exact(times[i])).norm() < 1e-7);
  CHECK(saved.values.front() == Mixed::start());
  CHECK(same_bits(saved.values.back(), saved.w));
  CHECK(same_bits(saved.w, plain.w));
  CHECK(saved.stats == plain.stats);
}

TEST_CASE("a saved time carries the number of steps completed by then") {
  const Decay problem = decay({1.0});
  const auto solution =
      integrate(problem, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.25},
                {.save_at = {.times = {0.25, 0.3, 1}, .every = 2, .start = true}});
  CHECK(solution.times == std::vector<double>{0, 0.25, 0.3, 0.5, 1});
  CHECK(solution.steps == std::vector<Index>{0, 1, 1, 2, 4});
}

TEST_CASE("every n steps, the start and the end; a time asked for twice is saved once") {
  const Decay problem = decay({1.0});
  const auto times = [&](SaveAt<double> save_at) {
    return integrate(problem, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.125},
                     {.save_at = std::move(save_at)})
        .times;
  };
  CHECK(times({.every = 3}) == std::vector<double>{0.375, 0.75});
  CHECK(times({.every = 4, .start = true, .end = true}) == std::vector<double>{0, 0.5, 1});
  CHECK(times({.end = true}) == std::vector<double>{1});
  CHECK(times({.times = {0, 0.5, 1}, .every = 4, .start = true, .end = true}) == std::vector<double>{0, 0.5, 1});
}

TEST_CASE("what is kept is a function of time and state, of any type") {
  const Rotation problem;
  const SaveAt<double, Kept> save_at{.times = {0.25, 1.75}, .end = true, .value = [](double t, const auto& y) {
                                       return Kept{.t = t, .norm = y.norm()};
                                     }};
  const auto solution = integrate(problem, Rotation::start(), TimeSpan{0, 3}, DormandPrince{}, tight,
                                  IntegrateOptions<double, Kept>{.save_at = save_at});
  REQUIRE(solution.values.size() == 3);
  CHECK(solution.values[0].t == 0.25);
  CHECK(solution.values[1].t == 1.75);
  CHECK(solution.values[2].t == 3);
  for (const Kept& kept : solution.values) CHECK_THAT(kept.norm, near(1, 1e-7, 0));

  // Also a vector of another length, for which the default type serves.
  const auto shorter =
      integrate(problem, Rotation::start(), TimeSpan{0, 1}, DormandPrince{}, tight,
                {.save_at = {.end = true, .value = [](double, const auto& y) { return Vector<double>(y.head(1)); }}});
  REQUIRE(shorter.values.size() == 1);
  CHECK(shorter.values[0].size() == 1);
}

TEST_CASE("steppers without an interpolant of their own save by cubic Hermite interpolation") {
  // y' = 1 - t^3 / 4 ... any cubic in t is reproduced to rounding, whatever the step.
  struct Cubic {
    using Scalar = double;
    [[nodiscard]] static Index dimension() { return 1; }
    void operator()(double t, ConstVectorRef<double>, VectorRef<double> dy) const { dy(0) = 1 - 3 * t * t; }
  };
  const Cubic problem;
  const auto exact = [](double t) { return 2 + t - t * t * t; };
  const std::vector<double> times = {0.1, 0.2, 0.9, 1.3, 1.999};
  const auto solution = integrate(problem, Vector<double>::Constant(1, 2.0), TimeSpan{0, 2}, RungeKutta4{},
                                  ConstantStep<>{.step = 1}, {.save_at = {.times = times}});
  REQUIRE(solution.times == times);
  // A dozen operations on numbers of size 10.
  for (std::size_t i = 0; i < times.size(); ++i)
    CHECK_THAT(solution.values[i](0), near(exact(times[i]), 0, 12 * 10 * 2.2e-16));
  // Both derivatives of a step are stages of this one and the next: asking for them costs one at the end.
  CHECK(solution.stats.evaluations == 2 * 4 + 1);
}

TEST_CASE("requests that cannot be met are refused before the first step") {
  const Rotation problem;
  const auto run = [&](SaveAt<double> save_at) {
    return integrate(problem, Rotation::start(), TimeSpan{0, 1}, DormandPrince{}, tight,
                     {.save_at = std::move(save_at)});
  };
  CHECK_THROWS_MATCHES(run({.times = {0.5, 1.5}}), ArgumentError, message_contains("times[1] = 1.5"));
  CHECK_THROWS_MATCHES(run({.times = {-0.1}}), ArgumentError, message_contains("time span [0, 1]"));
  CHECK_THROWS_MATCHES(run({.times = {std::nan("")}}), ArgumentError, message_contains("nan"));
  CHECK_THROWS_MATCHES(run({.times = {0.5, 0.5}}), ArgumentError, message_contains("increase"));
  CHECK_THROWS_MATCHES(run({.times = {0.5, 0.2}}), ArgumentError, message_contains("increase"));
  CHECK_THROWS_MATCHES(run({.every = -1}), ArgumentError, message_contains("every"));
  CHECK_THROWS_MATCHES(run({.value = [](double, const auto& y) { return y; }}), ArgumentError,
                       message_contains("nothing says when"));
  CHECK_THROWS_MATCHES(integrate(problem, Rotation::start(), TimeSpan{0, 1}, DormandPrince{}, tight,
                                 IntegrateOptions<double, double>{.save_at = {.end = true}}),
                       ArgumentError, message_contains("save_at.value must be given"));
}

TEST_CASE("a dense solution is the interpolant of the run at any time") {
  const Mixed problem;
  std::vector<double> times;
  for (int i = 0; i <= 400; ++i) times.push_back(0.005 * i);
  const auto check_same = [&](const auto& stepper, const auto& controller, double tolerance) {
    IntegrateOptions<double> options;
    options.save_at = {.times = times, .dense = true};
    const auto run = integrate(problem, Mixed::start(), TimeSpan{0, 2}, stepper, controller, options);
    REQUIRE(run.ok());
    CHECK(run.trajectory.start() == 0.0);
    CHECK(run.trajectory.end() == 2.0);
    for (std::size_t i = 0; i < times.size(); ++i) {
      CHECK((run.trajectory(times[i]) - run.values[i]).norm() <= tolerance);
    }
    CHECK_THROWS_MATCHES(run.trajectory(2.1), ArgumentError, message_contains("outside the times"));
    CHECK_THROWS_AS(run.trajectory(std::nan("")), ArgumentError);
  };
  // Degree 4 through five points, whose weights are below 4 in sum: roundings of states of size 10.
  check_same(DormandPrince{}, tight, 1e-13);
  check_same(RungeKutta4{}, ConstantStep<>{.step = 0.01}, 1e-13);
  check_same(Euler{}, ConstantStep<>{.step = 0.003}, 1e-13);

  SECTION("up to an event within a step") {
    IntegrateOptions<double> options;
    options.save_at.dense = true;
    options.events = {zero_crossing("half", [](double, const Vector<double>& y) { return y(1) - 0.5; })};
    const auto run = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, tight, options);
    REQUIRE(run.status == Status::event);
    CHECK(run.trajectory.end() == run.t);
    CHECK((run.trajectory(run.t) - run.w).norm() <= 1e-13);
    CHECK((run.trajectory(0.5 * run.t) - Mixed::exact(0.5 * run.t)).norm() < 1e-7);
  }
  SECTION("of a run of no length") {
    IntegrateOptions<double> options;
    options.save_at.dense = true;
    const auto run = integrate(problem, Mixed::start(), TimeSpan{0, 0}, DormandPrince{}, tight, options);
    CHECK(run.trajectory(0.0) == Mixed::start());
    CHECK(run.trajectory.end() == 0.0);
  }
  SECTION("not kept unless it is asked for") {
    const auto run = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, tight);
    CHECK(run.trajectory.empty());
    CHECK_THROWS_MATCHES(run.trajectory(1.0), ArgumentError, message_contains("save_at.dense"));
  }
}
