#include "fuzz.hpp"
#include "richflow/bias/effective_start.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/run_file.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

namespace {

using RunFile = detail::RunFile<double>;

/// An observer that is kept with its run.
struct StepCount {
  Index steps = 0;
  double last = 0.0;

  Action operator()(const StepView<double>& view) {
    ++steps;
    last = view.t;
    return Action::proceed;
  }
  void write(detail::CheckpointWriter& writer) const {
    writer.field("count_steps", steps);
    writer.field("count_last", last);
  }
  void read(detail::CheckpointReader& reader) {
    reader.field("count_steps", steps);
    reader.field("count_last", last);
  }
};

/// A run of two numbers that keeps something of everything.
struct KeptRun {
  Dataset<double> data = {Matrix<double>{{1.0}, {0.5}}, Vector<double>{{1.0, 0.25}}};
  StepCount count = {};
  EffectiveStart<double> effective_start = {SquaredDiagonalNet<double>(1), data, Vector<double>{{0.5, 0.5}}};
  std::vector<double> times = {0.5};
  std::vector<Index> steps = {};
  std::vector<Quantity<double>> quantities = {
      {"sum", [](const Vector<double>& y) { return y.sum(); }},
      {"head", [](double t, const Vector<double>& y) { return Vector<double>(t * y.head(2)); }}};
  std::vector<Event<double>> events = {
      condition<double>("late", [](double t, const Vector<double>& /*y*/) { return t > 9.0; }), loss_below(1e-4)};
  std::vector<ObserverRef<double>> observers = {count, effective_start};
  detail::RunOptions<double> options{
      {times, steps, 2, true, false, false, quantities}, events, observers, 100, false, 100};
  SaveAt<double, Vector<double>> save_at = {};
  detail::RunIdentity<double> identity = {.dimension = 2, .start = 17, .probe = 0.25, .loss = 1.5, .every = 2};
};

/// What the run has come to.
struct RunSoFar {
  IntegrationState<double> state = {};
  RunOutcome<double> kept = {};
  std::vector<Vector<double>> values = {};
};

KeptRun& kept_run() {
  static KeptRun run;
  return run;
}

template <class Use>
void with_file(const std::filesystem::path& path, RunSoFar& progress, const Use& use) {
  const CheckpointOptions<double> checkpoint = {.file = path};
  detail::ValuesOf<double, Vector<double>> values(kept_run().save_at, progress.values);
  RunFile file(checkpoint, kept_run().identity, values, kept_run().observers);
  use(file);
}

RunSoFar read(const std::filesystem::path& path) {
  RunSoFar progress;
  for (const Quantity<double>& quantity : kept_run().quantities) progress.kept.table.add_quantity(quantity.name());
  with_file(path, progress, [&](RunFile& file) { file.read(progress.state, progress.kept, kept_run().options, 1.0); });
  return progress;
}

std::string written(RunSoFar& progress) {
  const std::filesystem::path path = fuzz::folder() / "written";
  with_file(path, progress, [&](RunFile& file) { file.write(progress.state, progress.kept); });
  return fuzz::content_of(path);
}

bool same_kept(const RunOutcome<double>& a, const RunOutcome<double>& b) {
  return a.times == b.times && a.steps == b.steps && a.event == b.event && a.event_name == b.event_name &&
         a.table.columns("sum") == b.table.columns("sum") && a.table.columns("head") == b.table.columns("head");
}

/// The file of a run and of its observers, which reads as them.
std::string seed(RunSoFar& progress) {
  const StepCount count = kept_run().count;
  std::string content = written(progress);
  kept_run().count = {};
  RunSoFar back = fuzz::accepted([&] { return read(fuzz::file("again", content)); });
  fuzz::expect(back.state.y == progress.state.y && back.state.t == progress.state.t &&
                   back.state.step == progress.state.step && back.values == progress.values,
               "the state and the values are what was written");
  fuzz::expect(same_kept(back.kept, progress.kept), "what the run has kept is what was written");
  fuzz::expect(kept_run().count.steps == count.steps && kept_run().count.last == count.last,
               "the observers are what was written");
  fuzz::expect(written(back) == content, "the run is written as it was");
  return content;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  RunSoFar progress;
  for (const Quantity<double>& quantity : kept_run().quantities) progress.kept.table.add_quantity(quantity.name());
  progress.state.y = Vector<double>{{0.1, -1e-310}};
  const std::string begun = seed(progress);
  kept_run().count = {4, 0.1};
  for (const double t : {0.0, 0.5}) {
    progress.kept.times.push_back(t);
    progress.kept.steps.push_back(progress.state.step);
    progress.kept.table.add_row(t, {Vector<double>{{t + 1.0}}, progress.state.y});
    progress.values.push_back(progress.state.y);
    progress.state.t = t;
    progress.state.step += 2;
  }
  const std::string later = seed(progress);
  progress.kept.event = 1;
  progress.kept.event_name = "loss_below";
  const std::string ended = seed(progress);
  return {later, lines_of(RunFile::title, begun), lines_of(RunFile::title, later), lines_of(RunFile::title, ended)};
}

void fuzz::try_input(const std::string& content) {
  for (const std::string& text : {content, sealed_lines(RunFile::title, content)}) {
    auto progress = unless_refused([&] { return read(file("run", text)); });
    if (!progress) continue;
    expect(progress->values.size() == progress->kept.times.size(), "a value for each time");
    const std::string once = written(*progress);
    RunSoFar again = accepted([&] { return read(file("again", once)); });
    expect(written(again) == once, "the run reads back");
  }
}
