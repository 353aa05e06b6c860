#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"
#include "sweep_runner.hpp"

namespace CLI {
class App;
}

/// @file
/// The frame of every program: options that all of them share, errors, claims, exit code.

namespace richflow::examples {

/// How much work a program does: seconds, minutes, or the paper's own protocol.
enum class Effort { quick, standard, full };

/// Options of every program.
struct CommonOptions {
  std::uint64_t seed = 1;                 ///< every random draw follows from it
  std::filesystem::path out = "figures";  ///< where the files go
  int threads = 0;                        ///< 0: all cores
  Effort effort = Effort::standard;
  SweepRunner sweeps = SweepRunner();  ///< for programs that sweep
};

/// What a program is called and whose claims it makes.
struct ProgramInfo {
  std::string name = {};
  std::string description = {};
  std::string title = {};              ///< heading of its section in the report; empty: the name
  std::string paper = {};              ///< what the paper claims, one or two sentences
  std::string data = {};               ///< what the numbers are computed from
  std::string reduction = {};          ///< how the default run is smaller than `--full`
  std::set<std::string> figures = {};  ///< `figure` of its claims; replaced in claims.json on each run
  std::function<void(CLI::App&)> add_options = {};
  bool sweeps = false;            ///< takes `--resume`, `--shard` and `--merge`, and may run under MPI
  std::string code_version = {};  ///< of the program's sources: results of other code are not resumed
};

/// What a program has found: the claims it has checked, and the pictures to be drawn from the tables it has written.
/// Empty when the sweeps are partial (a shard).
struct ProgramResult {
  std::vector<Claim> claims = {};
  std::vector<Picture> pictures = {};
  std::vector<std::string> tables = {};  ///< names of the CSV files
  std::string data = {};                 ///< what they are computed from, where `ProgramInfo` cannot know it
  std::string size = {};                 ///< of the problems that were solved, and how many
};

/// Parses the command line, makes the output folder, runs `body`, prints its claims and writes them to
/// `claims.json`, what the report says of it to `<name>.json`, and then draws its pictures, so that trouble with a
/// picture costs no result. Under MPI every process
/// runs `body`, which leaves writing to the process where `sweeps.is_root()`. Returns the exit code: 0 when all claims
/// hold, 1 when one is violated, 2 after an error, which is printed in one line: also where standard output did not
/// take what was printed. With `--json` standard output is one JSON object: what the report says of the program, its
/// claims and the folder, or `name` and `error`, also for a command line that cannot be parsed.
[[nodiscard]] int run_program(int argc, const char* const* argv, const ProgramInfo& info,
                              const std::function<ProgramResult(const CommonOptions&)>& body);

}  // namespace richflow::examples
