#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/hash.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/run.hpp"
#include "richflow/integrate/solution.hpp"

namespace richflow {

template <class Scalar>
struct CheckpointOptions;

namespace detail {

/// See below.
template <class S>
[[nodiscard]] RunOutcome<S> run_with_file(RunParts<S> parts, const RunOptions<S>& options, IntegrationState<S> state,
                                          S end, bool is_fresh, const CheckpointOptions<S>& checkpoint);

}  // namespace detail

/// The path of a checkpoint. One made from a path brings the code that reads and writes the file: a program that names
/// none does not compile it.
template <class Scalar>
class CheckpointFile {
 public:
  /// None.
  CheckpointFile() = default;
  /// That file.
  template <class Path>
  requires std::is_convertible_v<Path&&, std::filesystem::path> CheckpointFile(Path&& path)  // NOLINT: as a path
      : path_(std::forward<Path>(path)), run_(&detail::run_with_file<Scalar>) {}

  /// Empty where there is none.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Whether there is none.
  [[nodiscard]] bool empty() const { return path_.empty(); }
  /// The same kind of file beside it: `suffix` behind its name. None beside none.
  [[nodiscard]] CheckpointFile beside(const char* suffix) const {
    CheckpointFile other = *this;
    if (!empty()) other.path_ += suffix;
    return other;
  }
  /// What reads and writes it.
  [[nodiscard]] auto runner() const { return run_; }

 private:
  std::filesystem::path path_ = {};
  decltype(&detail::run_with_file<Scalar>) run_ = nullptr;
};

/// The file from which a killed run resumes: `integrate` writes its state and all it has kept to it, and where it finds
/// one of the same run, resumes from it, bit for bit.
///
///     integrate(flow, w0, span, stepper, controller, {.checkpoint = {.file = "run.checkpoint"}})
template <class Scalar>
struct CheckpointOptions {
  CheckpointFile<Scalar> file = {};  ///< empty: none
  double every_seconds = 60.0;       ///< of wall clock, between two writes; 0: after every step
  Index every_steps = 0;             ///< and every so many accepted steps; 0: by the clock alone
};

namespace detail {

/// Throws ArgumentError for intervals that make no sense.
template <class S>
void check(const CheckpointOptions<S>& options) {
  require(options.every_seconds >= 0.0, "checkpoint.every_seconds must not be negative, got ", options.every_seconds);
  require(options.every_steps >= 0, "checkpoint.every_steps must not be negative, got ", options.every_steps);
}

/// What a checkpoint knows its run by: the start, the loss there, which sees all data, where the first three steps
/// lead, and what is kept. (A schedule or decay that differs only later is not seen.)
template <class S>
struct RunIdentity {
  Index dimension = 0;
  S start_time = S(0);
  std::uint64_t start = 0;
  S probe_time = S(0);
  S probe = S(0);
  S loss = S(0);  ///< 0 where the problem has none
  std::uint64_t quantities = 0;
  Index every = 0;
  bool saves_start = false;

  [[nodiscard]] static RunIdentity of(const IntegrationState<S>& start, const RunOutcome<S>& first_steps,
                                      const AnyField<S>& problem, const RunOptions<S>& options);
  template <class Archive, class Self>
  static void for_each_field(Archive& archive, Self& self) {
    archive.field("dimension", self.dimension);
    archive.field("start_time", self.start_time);
    archive.field("start", self.start);
    archive.field("probe_time", self.probe_time);
    archive.field("probe", self.probe);
    archive.field("loss", self.loss);
    archive.field("quantities", self.quantities);
    archive.field("every", self.every);
    archive.field("saves_start", self.saves_start);
  }
  /// Throws CheckpointError where this, of a file, is not that of the run.
  void check(const RunIdentity& run) const;
};

/// The file of a run. What a solution keeps beside the state is read and written by its AnyValues.
template <class S>
class RunFile final : public AnyRunFile<S> {
 public:
  static constexpr const char* title = "richflow run 1";

  RunFile(const CheckpointOptions<S>& options, const RunIdentity<S>& identity, AnyValues<S>& values,
          const std::vector<ObserverRef<S>>& observers)
      : options_(options), identity_(identity), values_(values), observers_(observers) {}

  [[nodiscard]] bool is_due(Index step) override {
    if (options_.every_steps > 0 && step % options_.every_steps == 0) return true;
    return std::chrono::duration<double>(Clock::now() - last_).count() >= options_.every_seconds;
  }
  void write(const IntegrationState<S>& state, const RunOutcome<S>& kept) override;
  /// Throws CheckpointError, with the state unchanged, where the file is damaged or of another run.
  void read(IntegrationState<S>& state, RunOutcome<S>& kept, const RunOptions<S>& options, S end) const;

 private:
  using Clock = std::chrono::steady_clock;

  const CheckpointOptions<S>& options_;
  const RunIdentity<S> identity_;
  AnyValues<S>& values_;
  const std::vector<ObserverRef<S>>& observers_;
  Clock::time_point last_ = Clock::now();
};

template <class S>
RunIdentity<S> RunIdentity<S>::of(const IntegrationState<S>& start, const RunOutcome<S>& first_steps,
                                  const AnyField<S>& problem, const RunOptions<S>& options) {
  RunIdentity identity;
  identity.dimension = start.y.size();
  identity.start_time = start.t;
  identity.start = hash_of_numbers(start.y.data(), start.y.size());
  identity.probe_time = first_steps.t;
  RandomStream random(0);
  for (Index i = 0; i < start.y.size(); ++i)
    identity.probe += static_cast<S>(random.uniform(0.5, 1.5)) * (first_steps.w[i] - start.y[i]);
  using std::isfinite;
  if (!isfinite(identity.probe)) identity.probe = S(0);
  if (problem.has_loss()) identity.loss = problem.loss(start.y);
  if (!isfinite(identity.loss)) identity.loss = S(0);
  for (const Quantity<S>& quantity : options.save_at.quantities)
    identity.quantities = mix(identity.quantities ^ checksum(quantity.name()));
  identity.every = options.save_at.every;
  identity.saves_start = options.save_at.start;
  return identity;
}

template <class S>
void RunIdentity<S>::check(const RunIdentity& run) const {
  require<CheckpointError>(dimension == run.dimension, "checkpoint: it is of another run, whose state has ", dimension,
                           " entries where this one has ", run.dimension);
  require<CheckpointError>(start == run.start && start_time == run.start_time,
                           "checkpoint: it is of a run from another start");
  // Another machine may round in another order.
  const auto agree = [](S a, S b) {
    using std::abs;
    using std::sqrt;
    return abs(a - b) <= sqrt(std::numeric_limits<S>::epsilon()) * (abs(a) + abs(b));
  };
  require<CheckpointError>(agree(loss, run.loss), "checkpoint: it is of another run, whose loss at the start is ", loss,
                           " where that of this one is ", run.loss);
  require<CheckpointError>(agree(probe_time, run.probe_time) && agree(probe, run.probe),
                           "checkpoint: it is of another run, whose first steps from the same start lead elsewhere "
                           "(another problem, source, stepper, rule or step): by ",
                           probe, " to t = ", probe_time, " where those of this run go by ", run.probe,
                           " to t = ", run.probe_time);
  require<CheckpointError>(quantities == run.quantities && every == run.every && saves_start == run.saves_start,
                           "checkpoint: it is of a run that kept something else: another save_at.every, start or list "
                           "of quantities");
}

template <class S>
void RunFile<S>::write(const IntegrationState<S>& state, const RunOutcome<S>& kept) {
  CheckpointWriter writer;
  writer.field("digits", std::numeric_limits<S>::digits);
  RunIdentity<S>::for_each_field(writer, identity_);
  for_each_field(writer, state);
  writer.field("saves", static_cast<Index>(kept.times.size()));
  for (std::size_t i = 0; i < kept.times.size(); ++i) {
    writer.field("time", kept.times[i]);
    writer.field("step", kept.steps[i]);
  }
  writer.field("event", kept.event ? static_cast<Index>(*kept.event) : Index(-1));
  writer.field("event_name", checksum(kept.event_name));
  values_.write(writer);
  writer.field("quantities", static_cast<Index>(kept.table.names().size()));
  for (const std::string& name : kept.table.names()) {
    writer.field("width", kept.table.width(name));
    const Matrix<S> columns = kept.table.columns(name).transpose();
    writer.field("values", Vector<S>(Eigen::Map<const Vector<S>>(columns.data(), columns.size())));
  }
  for (const ObserverRef<S>& observer : observers_)
    if (observer.is_storable()) observer.write(writer);
  try {
    write_file(options_.file.path(), sealed_checkpoint(title, writer.text()));
  } catch (const FileError& error) {
    throw CheckpointError(std::string("checkpoint: ") + error.what());
  }
  last_ = Clock::now();
}

template <class S>
void RunFile<S>::read(IntegrationState<S>& state, RunOutcome<S>& kept, const RunOptions<S>& options, S end) const {
  CheckpointReader reader(opened_checkpoint(title, checkpoint_content(options_.file.path())));
  int digits = 0;
  reader.field("digits", digits);
  require<CheckpointError>(digits == std::numeric_limits<S>::digits, "checkpoint: its numbers have ", digits,
                           " binary digits, those of the run ", std::numeric_limits<S>::digits);
  RunIdentity<S> identity;
  RunIdentity<S>::for_each_field(reader, identity);
  identity.check(identity_);
  IntegrationState<S> found;
  for_each_field(reader, found);
  Index saves = 0;
  reader.field("saves", saves);
  for (Index i = 0; i < saves; ++i) {
    S time(0);
    Index step = 0;
    reader.field("time", time);
    reader.field("step", step);
    kept.times.push_back(time);
    kept.steps.push_back(step);
  }
  require<CheckpointError>(found.step <= options.last_step && found.t <= end,
                           "checkpoint: its run has gone further than this one is to go, to t = ", found.t, ", step ",
                           found.step);
  const auto is_kept = [](const auto& all, auto value) {
    return std::find(all.begin(), all.end(), value) != all.end();
  };
  for (const S time : options.save_at.times)
    require<CheckpointError>(time > found.t || is_kept(kept.times, time),
                             "checkpoint: the run in it has passed t = ", time, " and did not keep it");
  for (const Index step : options.save_at.steps)
    require<CheckpointError>(step > found.step || is_kept(kept.steps, step),
                             "checkpoint: the run in it has passed step ", step, " and did not keep it");
  Index event = -1;
  std::uint64_t event_name = 0;
  reader.field("event", event);
  reader.field("event_name", event_name);
  values_.read(reader, saves);
  Index quantities = 0;
  reader.field("quantities", quantities);
  const std::vector<std::string>& names = kept.table.names();
  require<CheckpointError>(quantities == static_cast<Index>(names.size()), "checkpoint: it has ", quantities,
                           " quantities where save_at has ", names.size());
  std::vector<Index> widths(names.size());
  std::vector<Vector<S>> columns(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    reader.field("width", widths[i]);
    reader.field("values", columns[i]);
    const Index most = saves > 0 ? columns[i].size() / saves : widths[i];
    require<CheckpointError>(widths[i] >= 0 && widths[i] <= most && columns[i].size() == widths[i] * saves,
                             "checkpoint: the quantity ", names[i], " has ", columns[i].size(), " values where ", saves,
                             " times ", widths[i], " are needed");
  }
  std::vector<Vector<S>> row(names.size());
  for (Index r = 0; !names.empty() && r < saves; ++r) {
    for (std::size_t i = 0; i < names.size(); ++i) row[i] = columns[i].segment(r * widths[i], widths[i]);
    kept.table.add_row(kept.times[static_cast<std::size_t>(r)], row);
  }
  for (const ObserverRef<S>& observer : observers_)
    if (observer.is_storable()) observer.read(reader);
  state = std::move(found);
  // The same event of the same list has ended it: it does not continue past that.
  const auto position = static_cast<std::size_t>(event);
  if (event >= 0 && position < options.events.size() && checksum(options.events[position].name()) == event_name) {
    kept.event = position;
    kept.event_name = options.events[position].name();
  }
}

template <class S>
RunOutcome<S> run_or_go_on(const RunParts<S>& parts, const RunOptions<S>& options, IntegrationState<S> state, S end,
                           bool is_fresh, const CheckpointOptions<S>& checkpoint) {
  if (checkpoint.file.empty()) return Run<S>(parts, options, std::move(state), end).run(is_fresh);
  return checkpoint.file.runner()(parts, options, std::move(state), end, is_fresh, checkpoint);
}

template <class S>
RunOutcome<S> run_with_file(RunParts<S> parts, const RunOptions<S>& options, IntegrationState<S> state, S end,
                            bool is_fresh, const CheckpointOptions<S>& checkpoint) {
  check(checkpoint);
  require(parts.values.is_storable(),
          "checkpoint: what save_at.value keeps is neither a number nor a vector, and has no place in the file");
  NoValues<S> nothing;
  const std::vector<S> no_times;
  const std::vector<Index> no_steps;
  const std::vector<Quantity<S>> no_quantities;
  const std::vector<Event<S>> no_events;
  const std::vector<ObserverRef<S>> no_observers;
  // Three, since a rule with memory begins with none.
  const RunOptions<S> few{
      {no_times, no_steps, 0, false, false, false, no_quantities}, no_events, no_observers, 100, false, state.step + 3};
  RunParts<S> probed = parts;
  AnyValues<S>& values = parts.values;
  const RunOutcome<S> probe =
      Run<S>({probed.problem, probed.stepper, probed.controller, nothing}, few, state, end).run(is_fresh);
  RunFile<S> file(checkpoint, RunIdentity<S>::of(state, probe, parts.problem, options), values, options.observers);
  RunOutcome<S> kept;
  for (const Quantity<S>& quantity : options.save_at.quantities) kept.table.add_quantity(quantity.name());
  if (std::filesystem::exists(checkpoint.file.path())) {
    file.read(state, kept, options, end);
    is_fresh = false;
    if (kept.event) {
      // An event of the same name that asks for less loss is another one, and is still to come.
      const Event<S>& event = options.events[*kept.event];
      if (event.kind() == Event<S>::Kind::loss_below &&
          parts.problem.loss(state.y) > event.threshold() * (S(1) + S(64) * std::numeric_limits<S>::epsilon())) {
        kept.event.reset();
        kept.event_name.clear();
      }
    }
    if (kept.event) {
      kept.status = Status::event;
      kept.message = sentence("the event ", kept.event_name, " had fired at t = ", state.t, ", step ", state.step);
      kept.t = state.t;
      kept.w = state.y;
      kept.step = state.step;
      kept.stats = state.stats;
      kept.state = std::move(state);
      return kept;
    }
  } else {
    file.write(state, kept);  // a file that cannot be written is reported before any work
  }
  parts.file = &file;
  return Run<S>(parts, options, std::move(state), end, std::move(kept)).run(is_fresh);
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_RUN_FILE(prefix, S)                                                                 \
  prefix template RunOutcome<S> detail::run_or_go_on(const detail::RunParts<S>&, const detail::RunOptions<S>&,   \
                                                     IntegrationState<S>, S, bool, const CheckpointOptions<S>&); \
  prefix template RunOutcome<S> detail::run_with_file(detail::RunParts<S>, const detail::RunOptions<S>&,         \
                                                      IntegrationState<S>, S, bool, const CheckpointOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_RUN_FILE)
