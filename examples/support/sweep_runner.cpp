#include "sweep_runner.hpp"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <utility>

#include "options.hpp"
#include "progress.hpp"
#include "richflow/core/error.hpp"
#include "text.hpp"

#ifdef RICHFLOW_WITH_MPI
#include "richflow/sweep/mpi.hpp"
#endif

namespace richflow::examples {

void add_sweep_options(CLI::App& app, SweepChoices& choices) {
  auto* resume = app.add_flag("--resume", choices.resume, "Resume an earlier run with these options");
  auto* shard = app.add_option("--shard", choices.shard, "Compute part I of N alone, written I/N, for job arrays");
  add_integer_option(app, "--merge", choices.merge, 1, 1000000,
                     "Join the results of N shards and make the figure; computes nothing")
      ->default_str("")
      ->excludes(shard)
      ->excludes(resume);
}

void add_seeds_option(CLI::App& app, int& num_seeds) {
  add_integer_option(app, "--seeds", num_seeds, 0, 100000, "Repetitions; 0 chooses them");
}

MpiSession::MpiSession() {
#ifdef RICHFLOW_WITH_MPI
  // MPI_Init without a launcher takes a third of a second, and fails on some machines. What tells a launcher is the
  // place where it can be reached; ranks and sizes alone are left in the environment of batch systems and containers,
  // too.
  for (const char* variable : {"PMIX_SERVER_URI", "PMIX_SERVER_URI2", "PMIX_SERVER_URI21", "PMIX_SERVER_URI3",
                               "PMIX_SERVER_URI4", "PMIX_SERVER_URI41", "PMI_FD", "PMI_PORT"})
    active_ = active_ || std::getenv(variable) != nullptr;
  if (!active_) return;
  int support = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &support);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
#endif
}

MpiSession::~MpiSession() {
#ifdef RICHFLOW_WITH_MPI
  if (active_) MPI_Finalize();
#endif
}

void MpiSession::abort_others(int exit_code) const {
#ifdef RICHFLOW_WITH_MPI
  int size = 1;
  if (active_) MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size > 1) MPI_Abort(MPI_COMM_WORLD, exit_code);
#else
  static_cast<void>(exit_code);
#endif
}

SweepRunner::SweepRunner(std::filesystem::path folder, const SweepChoices& choices, int threads,
                         std::string code_version, const MpiSession& mpi)
    : folder_(std::move(folder)),
      resume_(choices.resume),
      merge_(choices.merge),
      threads_(threads),
      code_version_(std::move(code_version)),
      use_mpi_(mpi.is_active()),
      is_root_(mpi.is_root()) {
  if (!choices.shard.empty()) shard_ = naming_option("--shard", [&] { return parse_shard(choices.shard); });
  require(merge_ == 0 || shard_.count == 1, "--shard computes, and --merge does not: give one of them");
  require(merge_ == 0 || !use_mpi_, "--merge computes nothing: run it without MPI");
}

SweepResult SweepRunner::run(Sweep sweep, const Function& function, const Cost& cost) const {
  sweep.code_version = code_version_;
  if (merge_ > 0)
    return naming_option("--merge", [&] {
      SweepResult merged = merge_sweep(sweep, folder_, merge_);
      require<FileError>(merged.num_missing() == 0, "the shards in ", quoted(folder_),
                         " are unfinished: ", merged.summary(),
                         ". Resume them, or run with --resume and without --shard.");
      return merged;
    });
  SweepOptions options;
  options.folder = folder_;
  options.resume = options.retry_failed = resume_;
  options.shard = shard_;
  options.cost = cost;
  std::optional<Progress> progress;
  double cost_done = 0.0;
  options.on_progress = [&](const SweepProgress& state) {
    if (!progress) progress.emplace(sweep.name, state.cost_total);
    progress->finish(state.cost_done - cost_done);
    cost_done = state.cost_done;
  };
  SweepResult result = [&] {
#ifdef RICHFLOW_WITH_MPI
    if (use_mpi_) {
      MpiExecutor executor(MPI_COMM_WORLD, {.threads = threads_ == 0 ? 1 : threads_});
      return run_sweep(sweep, function, options, executor);
    }
#endif
    return run_sweep(sweep, function, options, ThreadExecutor{{.threads = threads_}});
  }();
  progress.reset();
  if (is_root_ && result.num_failed() > 0) std::cerr << result.summary() << "\n";
  return result;
}

std::string SweepRunner::advice() const {
  return "Part " + std::to_string(shard_.index) + " of " + std::to_string(shard_.count) + " is in " + quoted(folder_) +
         ". When all are there, run with --merge " + std::to_string(shard_.count) + ".";
}

}  // namespace richflow::examples
