#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "richflow/sweep/sweep.hpp"

namespace CLI {
class App;
}

/// @file
/// Sweeps as every program runs them: the same options, threads or MPI, results files, progress.

namespace richflow::examples {

/// Options of every program that sweeps.
struct SweepChoices {
  bool resume = false;     ///< resume an earlier run; failed cells are tried again
  std::string shard = {};  ///< `i/n`: compute this part only
  int merge = 0;           ///< n: compute nothing, join n shards
};

/// Adds `--resume`, `--shard` and `--merge`.
void add_sweep_options(CLI::App& app, SweepChoices& choices);

/// Adds `--seeds`, the repetitions of what a program repeats; 0, the default, leaves them to the effort.
void add_seeds_option(CLI::App& app, int& num_seeds);

/// Starts MPI when the program runs under an MPI launcher and was built with MPI; ends it on destruction.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  [[nodiscard]] bool is_active() const { return active_; }

  /// True on the process that writes files and prints.
  [[nodiscard]] bool is_root() const { return rank_ == 0; }

  /// Ends all processes when there are several, which would wait for this one for ever.
  void abort_others(int exit_code) const;

 private:
  bool active_ = false;
  int rank_ = 0;
};

/// Runs the sweeps of one program.
class SweepRunner {
 public:
  /// Without files, on `threads` threads of this process (0: all cores).
  explicit SweepRunner(int threads = 0) : threads_(threads) {}

  /// With files in `folder`. Under MPI every process runs `threads` threads (0: one), otherwise `threads` threads (0:
  /// all cores). Throws ArgumentError for an ill-formed shard, or a shard to be merged.
  SweepRunner(std::filesystem::path folder, const SweepChoices& choices, int threads, std::string code_version,
              const MpiSession& mpi);

  using Function = std::function<NamedNumbers(const Cell&)>;
  using Cost = std::function<double(const Cell&)>;

  /// Runs, resumes or merges the sweep, with a bar on the terminal. Failed cells are reported on stderr.
  [[nodiscard]] SweepResult run(Sweep sweep, const Function& function, const Cost& cost = {}) const;

  /// True when one part of each sweep is computed, from which no figure can be made.
  [[nodiscard]] bool is_partial() const { return shard_.count > 1; }

  /// What a user does after such a run.
  [[nodiscard]] std::string advice() const;

  /// True on the process that writes files and prints.
  [[nodiscard]] bool is_root() const { return is_root_; }

 private:
  std::filesystem::path folder_ = {};
  bool resume_ = false;
  int merge_ = 0;
  Shard shard_ = {};
  int threads_ = 0;
  std::string code_version_ = {};
  bool use_mpi_ = false;
  bool is_root_ = true;
};

}  // namespace richflow::examples
