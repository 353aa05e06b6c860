#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "richflow/core/file.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/run_file.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/sweep/sweep.hpp"
#include "richflow/train/sgd.hpp"

/// @file
/// Kills a process at random moments, many times, and takes it up again until it ends: with what it ends with
/// undisturbed, to the byte, and without doing again what was done.
///
///     many_kills flow|sweep|training KILLS SEED FOLDER
///     many_kills command KILLS SEED FOLDER WORD...     (each {} of the words is the folder of the results)
///     many_kills anew ...                              (as above, with nothing left after a kill, which must fail)
///
/// Of a command all tables and claims are compared; taken up again it must leave alone those that are finished. SEED 0
/// draws one; every one is printed.

using namespace richflow;

namespace {

using Clock = std::chrono::steady_clock;
using Job = std::function<void(const std::filesystem::path&)>;
using Files = std::map<std::filesystem::path, std::string>;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

/// Where a job counts what it does, which outlives everything else in its folder.
constexpr const char* work_file = "work";

/// One unit of work more, by any thread.
void count_work(const std::filesystem::path& folder) {
  std::ofstream(folder / work_file, std::ios::binary | std::ios::app) << '.';
}

/// Units in all lives so far.
Index work_in(const std::filesystem::path& folder) { return std::ssize(content_of(folder / work_file)); }

std::string bits_of(const Vector<double>& values) { return detail::to_bytes<double>(values); }

/// A run of some thousand steps, which keeps what it passes. A unit of its work is what it does between two saves.
void flow(const std::filesystem::path& folder) {
  RandomStream random(921);
  Matrix<double> X(5, 8);
  Vector<double> y(5);
  for (double& x : X.reshaped()) x = random.normal();
  for (double& label : y) label = random.normal();
  const Dataset<> data(X, y);
  const SquaredDiagonalNet<double> net(8);
  IntegrateOptions<double> options;
  options.save_at.every = 7;
  options.max_steps = 100000;
  options.checkpoint = {.file = folder / "checkpoint", .every_seconds = 1e9, .every_steps = 50};
  const auto count = [&](const StepView<double>& view) {
    if (view.step % options.checkpoint.every_steps == 0) count_work(folder);
    return Action::proceed;
  };
  options.observers = {count};
  const auto run = integrate(GradientFlow(net, data), net.initial_parameters(Scale<>::from_value(0.3)),
                             TimeSpan{0.0, 20.0}, DormandPrince{}, ConstantStep{5e-3}, options);
  std::string bits = bits_of(run.w) + std::to_string(run.stats.accepted);
  for (const Vector<double>& value : run.values) bits += bits_of(value);
  write_file(folder / "result", bits);
}

/// Sixty cells of a millisecond each, on two threads.
void sweep(const std::filesystem::path& folder) {
  const Sweep sweep{"killed", Grid({Axis{"a", {1, 2, 3, 4, 5, 6}}, seed_axis(10)}), {"value", "steps"}, {}, "1"};
  static_cast<void>(run_sweep(
      sweep,
      [&](const Cell& cell) -> NamedNumbers {
        RandomStream random(17, cell.stream());
        double sum = 0.0;
        for (int k = 0; k < 40000; ++k) sum += random.normal() * cell["a"];
        count_work(folder);
        return {{"value", sum}, {"steps", 40000.0}};
      },
      {.folder = folder, .resume = true}, ThreadExecutor{{.threads = 2}}));
}

/// Sixty epochs with momentum.
void training(const std::filesystem::path& folder) {
  RandomStream random(5);
  Matrix<double> features(6, 200);
  for (double& x : features.reshaped()) x = random.normal();
  Vector<int> labels(200);
  for (int& label : labels) label = static_cast<int>(random.uniform_integer(3));
  const auto data = LabelledDataset<double>::from_columns(std::move(features), std::move(labels), 3);
  const FullyConnected<double> net(6, {20}, true, 3);
  Vector<double> w0(net.num_parameters());
  for (double& w : w0) w = 0.3 * random.normal();
  SgdOptions<double> options;
  options.step = 0.05;
  options.batch_size = 10;
  options.max_epochs = 60;
  options.momentum = 0.5;
  options.checkpoint = folder / "checkpoint";
  options.checkpoint_epochs = 1;
  options.on_epoch = [&](const EpochRecord& /*record*/) {
    count_work(folder);
    return true;
  };
  Sgd trainer(net, data, w0, options);
  if (std::filesystem::exists(options.checkpoint)) trainer.load(options.checkpoint);
  static_cast<void>(trainer.run());
  write_file(folder / "result", bits_of(trainer.w()));
}

/// Another program.
Job command(const std::vector<std::string>& words) {
  return [words](const std::filesystem::path& folder) {
    std::vector<std::string> filled = words;
    for (std::string& word : filled)
      if (const std::size_t at = word.find("{}"); at != std::string::npos) word.replace(at, 2, folder.string());
    std::vector<char*> arguments;
    for (std::string& word : filled) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execvp(arguments.front(), arguments.data());
    throw Error("cannot run " + words.front());
  };
}

/// The same with nothing of its earlier lives.
Job anew(const Job& job) {
  return [job](const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().filename() != work_file) found.push_back(entry.path());
    for (const std::filesystem::path& path : found) std::filesystem::remove_all(path);
    job(folder);
  };
}

struct Outcome {
  bool was_killed = false;
  int code = 0;
  double seconds = 0.0;
};

/// The job in a process group of its own, killed with all it has started after `limit` seconds; not where that is
/// negative.
Outcome run(const Job& job, const std::filesystem::path& folder, double limit) {
  const Clock::time_point begin = Clock::now();
  std::cout.flush();
  const ::pid_t child = ::fork();
  if (child < 0) throw Error("cannot fork");
  if (child == 0) {
    ::setpgid(0, 0);
    try {
      job(folder);
    } catch (const std::exception& error) {
      std::cerr << error.what() << std::endl;
      ::_exit(99);
    }
    ::_exit(0);
  }
  ::setpgid(child, child);
  int status = 0;
  bool is_over = limit >= 0.0 && seconds_since(begin) >= limit;
  while (::waitpid(child, &status, limit < 0.0 ? 0 : WNOHANG) == 0) {
    if (!is_over && seconds_since(begin) >= limit) {
      ::kill(-child, SIGKILL);
      is_over = true;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  if (WIFSIGNALED(status) != 0) {
    ::kill(-child, SIGKILL);  // what it left behind
    return {true, 0, seconds_since(begin)};
  }
  return {false, WEXITSTATUS(status), seconds_since(begin)};
}

/// A table without its column `seconds`, which no run repeats.
std::string without_seconds(const std::string& table) {
  const auto cells_of = [](const std::string& line) {
    std::vector<std::string> cells;
    std::istringstream stream(line);
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    return cells;
  };
  const std::vector<std::string> names = cells_of(table.substr(0, table.find('\n')));
  const auto seconds = std::find(names.begin(), names.end(), "seconds") - names.begin();
  if (seconds == std::ssize(names)) return table;
  std::string rest;
  std::istringstream stream(table);
  for (std::string line; std::getline(stream, line); rest += '\n') {
    const std::vector<std::string> cells = cells_of(line);
    for (Index k = 0; k < std::ssize(cells); ++k)
      if (k != seconds) rest.append(cells[static_cast<std::size_t>(k)]).append(",");
  }
  return rest;
}

/// What two runs must end with alike, by its path in the folder.
Files files_of(const std::filesystem::path& folder) {
  Files files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::filesystem::path& path = entry.path();
    if (!entry.is_regular_file()) continue;
    if (path.filename() == "result" || path.filename() == "claims.json")
      files[path.lexically_relative(folder)] = content_of(path);
    else if (path.extension() == ".csv")
      files[path.lexically_relative(folder)] = without_seconds(content_of(path));
  }
  return files;
}

/// Empty where the files are the same.
std::string difference(const Files& found, const Files& expected) {
  for (const auto& [path, content] : expected) {
    const auto same = found.find(path);
    if (same == found.end()) return path.string() + " is missing";
    if (same->second != content) return path.string() + " differs from that of the undisturbed run";
  }
  for (const auto& [path, content] : found)
    if (expected.count(path) == 0) return path.string() + " is not one of the undisturbed run";
  return {};
}

/// What is to be killed.
struct Victim {
  Job job;
  Index under_way = 0;  ///< units of work that a kill may cost
  bool counts = true;   ///< its work
};

Victim victim_of(const std::vector<std::string>& words) {
  const std::string& kind = words[1];
  if (kind == "flow") return {flow, 1};
  if (kind == "sweep") return {sweep, 2};  // one on each thread
  if (kind == "training") return {training, 1};
  require(kind == "command", "unknown kind '", kind, "': flow, sweep, training or command");
  require(words.size() >= 6, "a command needs its words");
  return {command({words.begin() + 5, words.end()}), 0, false};
}

/// Kills one victim again and again, over many runs.
class Killer {
 public:
  Killer(Victim victim, int kills, std::uint64_t seed, std::filesystem::path folder)
      : victim_(std::move(victim)), kills_(kills), seed_(seed), random_(seed), folder_(std::move(folder)) {}

  void run_undisturbed() {
    const std::filesystem::path here = emptied("undisturbed");
    whole_ = run(victim_.job, here, -1.0);
    require<Error>(!whole_.was_killed && whole_.code <= 1, "the undisturbed run ended with ", whole_.code);
    expected_ = files_of(here);
    work_ = work_in(here);
    require<Error>(!expected_.empty() && (work_ > 0) == victim_.counts, "the undisturbed run left no result");
    std::cout << "seed " << seed_ << ": undisturbed in " << whole_.seconds << " s" << std::endl;
  }

  /// As many runs as it takes.
  void run_killed() {
    while (killed_ < kills_) run_once();
    std::cout << "killed " << killed_ << " times in " << completed_ << " runs, " << resumed_ << " times taken up from "
              << "what was there; all ended as the undisturbed one, to the byte" << std::endl;
    require<Error>(resumed_ > 0 && 10 * resumed_ >= (victim_.counts ? killed_ : completed_),
                   "killed too early to say that it is taken up again, or it is not: ", resumed_, " times in ",
                   completed_, " runs with ", killed_, " kills");
  }

 private:
  [[nodiscard]] std::filesystem::path emptied(const char* name) const {
    std::filesystem::remove_all(folder_ / name);
    std::filesystem::create_directories(folder_ / name);
    return folder_ / name;
  }

  /// As long as kills are left; half of the lives are short, where files are begun.
  [[nodiscard]] double next_limit() {
    const double share = random_.uniform(0.0, 1.0) < 0.5 ? 0.1 : 0.6;
    return killed_ < kills_ ? share * whole_.seconds * random_.uniform(0.0, 1.0) : -1.0;
  }

  void run_once() {
    const std::filesystem::path here = emptied("killed");
    Index saved = 0;  // units of work, at least, that were done for good
    Index lost = 0;   // at most
    for (;;) {
      const Index before = work_in(here);
      const auto begin = std::filesystem::file_time_type::clock::now();
      if (saved > 0) ++resumed_;
      const Outcome life = run(victim_.job, here, next_limit());
      if (!life.was_killed) {
        check_end(here, life, work_ + lost);
        if (keeps_files_of_before(here, begin)) ++resumed_;
        break;
      }
      ++killed_;
      const Index work = work_in(here) - before;
      lost += std::min(work, victim_.under_way);
      saved += work - std::min(work, victim_.under_way);
    }
    ++completed_;
  }

  void check_end(const std::filesystem::path& here, const Outcome& life, Index most_work) const {
    const std::string when = detail::concat("seed ", seed_, ", after ", killed_, " kills: ");
    require<Error>(life.code == whole_.code, when, "it ended with ", life.code, ", undisturbed with ", whole_.code);
    const std::string differs = difference(files_of(here), expected_);
    require<Error>(differs.empty(), when, differs);
    require<Error>(work_in(here) <= most_work, when, "it did again what was done, ", work_in(here),
                   " units of work where ", most_work, " are enough");
  }

  /// Of a job that does not count its work: whether what its last life found finished it left alone.
  [[nodiscard]] bool keeps_files_of_before(const std::filesystem::path& here,
                                           std::filesystem::file_time_type begin) const {
    return !victim_.counts && std::any_of(expected_.begin(), expected_.end(), [&](const auto& file) {
      return std::filesystem::last_write_time(here / file.first) < begin;
    });
  }

  Victim victim_;
  int kills_;
  std::uint64_t seed_;
  RandomStream random_;
  std::filesystem::path folder_;
  Outcome whole_ = {};
  Files expected_ = {};
  Index work_ = 0;
  int killed_ = 0;
  int completed_ = 0;
  int resumed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv, argv + argc);
  try {
    const bool is_anew = words.size() > 1 && words[1] == "anew";
    if (is_anew) words.erase(words.begin() + 1);
    require(words.size() >= 5, "usage: many_kills [anew] flow|sweep|training|command KILLS SEED FOLDER [WORD...]");
    Victim victim = victim_of(words);
    if (is_anew) victim.job = anew(victim.job);
    const std::uint64_t seed = std::stoull(words[3]);
    Killer killer(victim, std::stoi(words[2]), seed == 0 ? std::random_device()() : seed,
                  std::filesystem::absolute(words[4]));
    std::cout << words[1] << ", ";
    killer.run_undisturbed();
    killer.run_killed();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
