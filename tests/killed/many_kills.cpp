#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
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
/// undisturbed, to the byte.
///
///     many_kills flow|sweep|training KILLS SEED FOLDER
///     many_kills command KILLS SEED FOLDER FILE,FILE,... WORD...     (each {} of the words is the folder of the
///     results)
///
/// SEED 0 draws one; every one is printed.

using namespace richflow;

namespace {

using Clock = std::chrono::steady_clock;
using Job = std::function<void(const std::filesystem::path&)>;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

std::string bits_of(const Vector<double>& values) { return detail::to_bytes<double>(values); }

/// A run of some thousand steps, which keeps what it passes.
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
      [](const Cell& cell) -> NamedNumbers {
        RandomStream random(17, cell.stream());
        double sum = 0.0;
        for (int k = 0; k < 40000; ++k) sum += random.normal() * cell["a"];
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

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv, argv + argc);
  try {
    require(words.size() >= 5, "usage: many_kills flow|sweep|training|command KILLS SEED FOLDER [FILES WORD...]");
    const std::string& kind = words[1];
    const int kills = std::stoi(words[2]);
    std::uint64_t seed = std::stoull(words[3]);
    if (seed == 0) seed = std::random_device()();
    const std::filesystem::path folder = std::filesystem::absolute(words[4]);
    std::vector<std::string> files = {"result"};
    Job job = flow;
    if (kind == "sweep") {
      job = sweep;
      files = {"killed.csv"};
    } else if (kind == "training") {
      job = training;
    } else if (kind == "command") {
      require(words.size() >= 7, "a command needs the files to compare, and its words");
      files = split(words[5]);
      job = command({words.begin() + 6, words.end()});
    } else {
      require(kind == "flow", "unknown kind '", kind, "': flow, sweep, training or command");
    }

    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder / "undisturbed");
    const Outcome whole = run(job, folder / "undisturbed", -1.0);
    require<Error>(!whole.was_killed && whole.code <= 1, "the undisturbed run ended with ", whole.code);
    std::cout << kind << ", seed " << seed << ": undisturbed in " << whole.seconds << " s" << std::endl;

    RandomStream random(seed);
    int killed = 0;
    int completed = 0;
    while (killed < kills) {
      const std::filesystem::path here = folder / "killed";
      std::filesystem::remove_all(here);
      std::filesystem::create_directories(here);
      int deaths = 0;
      for (;;) {
        // As long as kills are left; half of the lives are short, where files are begun.
        const double share = random.uniform(0.0, 1.0) < 0.5 ? 0.1 : 0.6;
        const double limit = killed < kills ? share * whole.seconds * random.uniform(0.0, 1.0) : -1.0;
        const Outcome life = run(job, here, limit);
        if (!life.was_killed) {
          require<Error>(life.code == whole.code, "seed ", seed, ", after ", killed, " kills: it ended with ",
                         life.code, ", undisturbed with ", whole.code);
          break;
        }
        ++killed;
        ++deaths;
      }
      for (const std::string& file : files) {
        const std::string expected = content_of(folder / "undisturbed" / file);
        require<Error>(!expected.empty(), "the undisturbed run left no ", file);
        require<Error>(content_of(here / file) == expected, "seed ", seed, ", after ", killed, " kills, ", deaths,
                       " of this run: ", file, " differs from that of the undisturbed run");
      }
      ++completed;
    }
    std::cout << kind << ": killed " << killed << " times in " << completed
              << " runs, all of which ended as the undisturbed one, to the byte\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
