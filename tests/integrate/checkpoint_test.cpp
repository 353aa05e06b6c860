#include "richflow/integrate/checkpoint.hpp"

#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>

#include "richflow/core/random.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// A state with numbers that are hard to write: denormal, huge, negative zero, one ulp from 1.
template <class S>
IntegrationState<S> difficult_state() {
  using Limits = std::numeric_limits<S>;
  IntegrationState<S> state;
  state.t = S(1) / S(3);
  state.y.resize(7);
  state.y << Limits::denorm_min(), Limits::max(), Limits::lowest(), -S(0), S(1) + Limits::epsilon(), Limits::min(),
      S(-1) / S(7);
  state.step = 123456789012345;
  state.stage_time = std::nextafter(state.t, S(1));
  state.control = {.step = S(1e-30), .previous_ratio = S(0.1), .rejected = true, .origin = S(-2), .taken = 77};
  state.bad_index = 3;
  state.stall = {.probes = 1,
                 .steps = 2,
                 .strikes = 1,
                 .unchanged = 3,
                 .last_t = S(0.1),
                 .last_rate = S(0.2),
                 .reference_log = S(-0.3),
                 .promised = S(0.7),
                 .last_y = state.y};
  state.stats = {.accepted = 1,
                 .rejected = 2,
                 .evaluations = 3,
                 .loss_evaluations = 4,
                 .jacobians = 5,
                 .factorizations = 6,
                 .solves = 7};
  return state;
}

template <class S>
bool same(S a, S b) {
  return a == b && std::signbit(a) == std::signbit(b);
}

template <class S>
bool same(const Vector<S>& a, const Vector<S>& b) {
  if (a.size() != b.size()) return false;
  for (Index i = 0; i < a.size(); ++i)
    if (!same(a(i), b(i))) return false;
  return true;
}

std::string text_of(const IntegrationState<double>& state) {
  std::ostringstream stream;
  save_checkpoint(stream, state);
  return stream.str();
}

IntegrationState<double> read(const std::string& text) {
  std::istringstream stream(text);
  return load_checkpoint<double>(stream);
}

}  // namespace

TEMPLATE_TEST_CASE("a state comes back bit for bit", "", float, double, long double) {
  using S = TestType;
  const IntegrationState<S> state = difficult_state<S>();
  std::stringstream stream;
  save_checkpoint(stream, state);
  const IntegrationState<S> back = load_checkpoint<S>(stream);
  CHECK(same(back.t, state.t));
  CHECK(same(back.y, state.y));
  CHECK(back.step == state.step);
  CHECK(same(back.stage_time, state.stage_time));
  CHECK(same(back.control.step, state.control.step));
  CHECK(same(back.control.previous_ratio, state.control.previous_ratio));
  CHECK(back.control.rejected == state.control.rejected);
  CHECK(same(back.control.origin, state.control.origin));
  CHECK(back.control.taken == state.control.taken);
  CHECK(back.bad_index == state.bad_index);
  CHECK(back.stall.probes == state.stall.probes);
  CHECK(back.stall.steps == state.stall.steps);
  CHECK(back.stall.strikes == state.stall.strikes);
  CHECK(back.stall.unchanged == state.stall.unchanged);
  CHECK(same(back.stall.last_t, state.stall.last_t));
  CHECK(same(back.stall.last_rate, state.stall.last_rate));
  CHECK(same(back.stall.reference_log, state.stall.reference_log));
  CHECK(same(back.stall.promised, state.stall.promised));
  CHECK(same(back.stall.last_y, state.stall.last_y));
  CHECK(back.stats == state.stats);
}

TEST_CASE("random doubles of every size come back bit for bit") {
  RandomStream random(21, 0);
  IntegrationState<double> state;
  state.y.resize(5000);
  for (Index i = 0; i < state.y.size(); ++i) state.y(i) = signed_log_uniform(random, 1e-320, 1e308);
  CHECK(same_bits(read(text_of(state)).y, state.y));
}

TEST_CASE("every truncation is noticed") {
  const std::string text = text_of(difficult_state<double>());
  for (std::size_t length = 0; length < text.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_AS(read(text.substr(0, length)), CheckpointError);
  }
  CHECK_NOTHROW(read(text));
}

TEST_CASE("every changed character is noticed") {
  const std::string text = text_of(difficult_state<double>());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == '1' ? '2' : '1';
    CAPTURE(i);
    CHECK_THROWS_AS(read(changed), CheckpointError);
  }
}

TEST_CASE("foreign content, another number type and another version are refused, saying so") {
  CHECK_THROWS_MATCHES(read(""), CheckpointError, message_contains("not a checkpoint"));
  CHECK_THROWS_MATCHES(read("i,beta\n1,2\n"), CheckpointError, message_contains("not a checkpoint"));
  CHECK_THROWS_MATCHES(read("richflow checkpoint 1\nchecksum 1\n"), CheckpointError, message_contains("this version"));
  std::stringstream stream;
  save_checkpoint(stream, difficult_state<float>());
  CHECK_THROWS_MATCHES(load_checkpoint<double>(stream), CheckpointError, message_contains("24 binary digits"));
}

TEST_CASE("files: written whole or not at all, and missing ones are named") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run.checkpoint";
  const IntegrationState<double> state = difficult_state<double>();
  save_checkpoint(path, state);
  CHECK(same_bits(load_checkpoint<double>(path).y, state.y));
  // Nothing is beside it.
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator()) == 1);

  IntegrationState<double> other = state;
  other.step = 5;
  save_checkpoint(path, other);
  CHECK(load_checkpoint<double>(path).step == 5);

  CHECK_THROWS_MATCHES(load_checkpoint<double>(folder.path() / "absent"), CheckpointError, message_contains("absent"));
  CHECK_THROWS_MATCHES(save_checkpoint(folder.path() / "no" / "such" / "folder", state), CheckpointError,
                       message_contains("cannot write"));
  std::ostringstream full;
  full.setstate(std::ios::badbit);
  CHECK_THROWS_MATCHES(save_checkpoint(full, state), CheckpointError, message_contains("cannot be written"));
}

TEST_CASE("a run resumed from a file ends as if it had never stopped") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run";
  const Mixed problem;
  const PiController<> controller{.tolerance = {.relative = 1e-7, .absolute = 1e-9}};
  const auto whole = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, controller);
  // Save often, as a long run would: an observer cannot see the state, but a budget of steps can.
  auto solution = integrate(problem, Mixed::start(), TimeSpan{0, 2}, DormandPrince{}, controller, {.max_steps = 7});
  while (solution.status == Status::max_steps) {
    save_checkpoint(path, solution.state);
    solution = resume(problem, load_checkpoint<double>(path), 2, DormandPrince{}, controller, {.max_steps = 7});
  }
  CHECK(solution.status == Status::reached_end);
  CHECK(same_bits(solution.w, whole.w));
  CHECK(solution.step == whole.step);
}
