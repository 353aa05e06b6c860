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
  state.step = std::numeric_limits<Index>::max() / 3;
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

TEST_CASE("long vectors are bytes in a checkpoint, the same on every machine") {
  IntegrationState<double> state = difficult_state<double>();
  state.y = Vector<double>::Constant(300, 0.0);
  state.y.head(4) << 1.0, -2.5, std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity();
  const std::string text = text_of(state);
  // 1 and -2.5 by IEEE 754, the lowest byte first.
  const std::string expected("y 300 binary64\n\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\x04\xc0", 31);
  CHECK(text.find(expected) != std::string::npos);
  const Vector<double> back = read(text).y;
  REQUIRE(back.size() == 300);
  CHECK(std::isnan(back[2]));
  CHECK(back.head(2) == state.y.head(2));
  CHECK(same_bits(Vector<double>(back.tail(297)), Vector<double>(state.y.tail(297))));

  IntegrationState<float> single = difficult_state<float>();
  single.y = state.y.cast<float>().head(256);
  single.y[2] = 0.1F;
  std::stringstream stream;
  save_checkpoint(stream, single);
  const std::string floats("y 256 binary32\n\0\0\x80\x3f\0\0\x20\xc0", 23);
  CHECK(stream.str().find(floats) != std::string::npos);
  CHECK(same(load_checkpoint<float>(stream).y, single.y));

  // Numbers of other types have no layout that all machines share, and stay lines.
  IntegrationState<long double> wide = difficult_state<long double>();
  wide.y = Vector<long double>::Constant(1000, 1.0L / 3.0L);
  std::stringstream lines;
  save_checkpoint(lines, wide);
  CHECK(lines.str().find("y 1000\n") != std::string::npos);
  CHECK(same(load_checkpoint<long double>(lines).y, wide.y));
}

TEST_CASE("damage in the bytes of a checkpoint is noticed, and what it claims is not believed") {
  RandomStream random(22, 0);
  IntegrationState<double> state = difficult_state<double>();
  state.y = random_vector(random, 500);
  const std::string text = text_of(state);
  for (int k = 0; k < 200; ++k) {
    const auto place = static_cast<std::size_t>(random.uniform_integer(text.size()));
    CAPTURE(place);
    CHECK_THROWS_AS(read(text.substr(0, place)), CheckpointError);
    std::string changed = text;
    changed[place] = static_cast<char>(changed[place] ^ static_cast<char>(1U << random.uniform_integer(8)));
    CHECK_THROWS_AS(read(changed), CheckpointError);
  }
  // With a checksum that fits.
  const std::string title = detail::checkpoint_title;
  const auto sealed = [&](const std::string& from, const std::string& to) {
    std::string lines = text.substr(title.size() + 1, text.rfind("checksum ") - title.size() - 1);
    lines.replace(lines.find(from), from.size(), to);
    return detail::sealed_checkpoint(title.c_str(), lines);
  };
  CHECK(same_bits(read(sealed("y 500 ", "y 500 ")).y, state.y));
  for (const char* claim : {"y 499 ", "y 501 ", "y 999999999999 ", "y -1 "})
    CHECK_THROWS_AS(read(sealed("y 500 ", claim)), CheckpointError);
  CHECK_THROWS_MATCHES(read(sealed("binary64", "binary32")), CheckpointError,
                       message_contains("are binary32, those of the run binary64"));
}

TEST_CASE("checkpoints whose long vectors are lines are still read") {
  RandomStream random(23, 0);
  const Vector<double> values = random_vector(random, 300);
  std::ostringstream lines;
  lines.precision(17);
  lines << "y 300\n";
  for (const double value : values) lines << value << '\n';
  detail::CheckpointReader reader(lines.str());
  Vector<double> back;
  reader.field("y", back);
  CHECK(same_bits(back, values));
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
