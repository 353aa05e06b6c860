#include "fuzz.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/run_file.hpp"

using namespace richflow;

namespace {

using RunFile = detail::RunFile<double>;

/// A run of two numbers that keeps something of everything.
struct KeptRun {
  std::vector<double> times = {0.5};
  std::vector<Index> steps = {};
  std::vector<Quantity<double>> quantities = {
      {"sum", [](const Vector<double>& y) { return y.sum(); }},
      {"head", [](double t, const Vector<double>& y) { return Vector<double>(t * y.head(2)); }}};
  std::vector<Event<double>> events = {};
  std::vector<ObserverRef<double>> observers = {};
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

const KeptRun& kept_run() {
  static const KeptRun run;
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

}  // namespace

std::vector<std::string> fuzz::seeds() {
  RunSoFar progress;
  for (const Quantity<double>& quantity : kept_run().quantities) progress.kept.table.add_quantity(quantity.name());
  progress.state.y = Vector<double>{{0.1, -1e-310}};
  const std::string begun = written(progress);
  for (const double t : {0.0, 0.5}) {
    progress.kept.times.push_back(t);
    progress.kept.steps.push_back(progress.state.step);
    progress.kept.table.add_row(t, {Vector<double>{{t + 1.0}}, progress.state.y});
    progress.values.push_back(progress.state.y);
    progress.state.t = t;
    progress.state.step += 2;
  }
  const std::string later = written(progress);
  return {later, detail::opened_checkpoint(RunFile::title, begun), detail::opened_checkpoint(RunFile::title, later)};
}

void fuzz::try_input(const std::string& content) {
  for (const std::string& text : {content, sealed_lines(RunFile::title, content)}) {
    try {
      RunSoFar progress = read(file("run", text));
      expect(progress.values.size() == progress.kept.times.size(), "a value for each time");
      const std::string once = written(progress);
      RunSoFar again = read(file("again", once));
      expect(written(again) == once, "the run reads back");
    } catch (const Error&) {
    }
  }
}
