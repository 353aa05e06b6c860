#include "sweep_runner.hpp"

#include <CLI/CLI.hpp>
#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include "program.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace richflow::examples;
using test_support::content_of;
using test_support::TemporaryFolder;

namespace {

/// Runs a program whose only work is one sweep of twelve cells; its exit code.
struct Program {
  std::string code_version = "1";
  bool broken = false;  ///< one cell throws
  std::atomic<int> calls = 0;
  bool made_figure = false;

  int run(const TemporaryFolder& folder, std::vector<std::string> arguments) {
    calls = 0;
    made_figure = false;
    arguments.insert(arguments.begin(), "program");
    arguments.insert(arguments.end(), {"--out", folder.path().string(), "--threads", "2"});
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    ProgramInfo info;
    info.name = "program";
    info.figures = {"f"};
    info.sweeps = true;
    info.code_version = code_version;
    return run_program(static_cast<int>(argv.size()), argv.data(), info, [&](const CommonOptions& common) {
      const Sweep sweep{"cells", Grid({Axis{"N", {1.0, 2.0, 3.0}}, seed_axis(4)}), {"x"}};
      const SweepResult result = common.sweeps.run(sweep, [&](const Cell& cell) -> NamedNumbers {
        ++calls;
        if (broken && cell.index() == 5) throw Error("broken");
        return {{"x", RandomStream(common.seed, cell.stream()).normal()}};
      });
      if (common.sweeps.is_partial()) return ProgramResult{};
      static_cast<void>(result.require_ok());
      made_figure = true;
      return ProgramResult{{claim_at_most("f", "c", 0.0, 1.0)}, {}};
    });
  }
};

}  // namespace

TEST_CASE("shards make no figure; merged they make that of an undivided run") {
  const TemporaryFolder whole;
  Program program;
  REQUIRE(program.run(whole, {}) == 0);
  CHECK(program.calls == 12);
  const TemporaryFolder parts;
  for (const char* shard : {"2/3", "1/3", "3/3"}) {
    REQUIRE(program.run(parts, {"--shard", shard}) == 0);
    CHECK(program.calls == 4);
    CHECK_FALSE(program.made_figure);
    CHECK_FALSE(std::filesystem::exists(parts.path() / "claims.json"));
  }
  REQUIRE(program.run(parts, {"--merge", "3"}) == 0);
  CHECK(program.calls == 0);
  CHECK(program.made_figure);
  CHECK(content_of(parts.path() / "sweeps" / "cells.csv") == content_of(whole.path() / "sweeps" / "cells.csv"));
  CHECK_FALSE(content_of(whole.path() / "sweeps" / "cells.csv").empty());
}

TEST_CASE("merging unfinished shards, invalid shards and contradictions are errors") {
  const TemporaryFolder folder;
  Program program;
  REQUIRE(program.run(folder, {"--shard", "1/2"}) == 0);
  CHECK(program.run(folder, {"--merge", "2"}) == 2);
  CHECK(program.run(folder, {"--merge", "0"}) == 2);
  CHECK(program.run(folder, {"--shard", "3/2"}) == 2);
  CHECK(program.run(folder, {"--shard", "1/2", "--merge", "2"}) == 2);
  CHECK(program.run(folder, {"--resume", "--merge", "2"}) == 2);
  CHECK(program.calls == 0);
}

TEST_CASE("a failed cell ends the program with an error; resuming tries that cell alone again") {
  const TemporaryFolder folder;
  Program program;
  program.broken = true;
  CHECK(program.run(folder, {}) == 2);
  CHECK(program.calls == 12);
  program.broken = false;
  CHECK(program.run(folder, {"--resume"}) == 0);
  CHECK(program.calls == 1);
  CHECK(program.run(folder, {"--resume"}) == 0);
  CHECK(program.calls == 0);
  CHECK(program.run(folder, {}) == 0);
  CHECK(program.calls == 12);
}

TEST_CASE("results of other code are not resumed") {
  const TemporaryFolder folder;
  Program program;
  REQUIRE(program.run(folder, {}) == 0);
  program.code_version = "2";
  CHECK(program.run(folder, {"--resume"}) == 2);
  CHECK(program.calls == 0);
}
