#include "program.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "files.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "richflow/core/error.hpp"
#include "statistics.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"
#include "text.hpp"

using namespace richflow::examples;
using test_support::content_of;
using test_support::message_contains;
using test_support::TemporaryFolder;
using test_support::text_contains;

namespace {

template <class Body>
int run(std::vector<std::string> arguments, Body body, std::function<void(CLI::App&)> add_options = {}) {
  arguments.insert(arguments.begin(), "program");
  std::vector<const char*> argv;
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  ProgramInfo info;
  info.name = "program";
  info.description = "A program under test.";
  info.figures = {"f"};
  info.add_options = std::move(add_options);
  return run_program(static_cast<int>(argv.size()), argv.data(), info, body);
}

/// Runs `work` with standard output in this file; closed without one.
template <class Work>
int with_output(const std::filesystem::path& path, Work work) {
  std::cout.flush();
  std::fflush(stdout);
  const int before = ::dup(STDOUT_FILENO);
  ::close(STDOUT_FILENO);
  if (!path.empty()) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(file, STDOUT_FILENO);
    if (file != STDOUT_FILENO) ::close(file);
  }
  const int code = work();
  std::cout.flush();
  std::fflush(stdout);
  std::clearerr(stdout);
  std::cout.clear();
  ::dup2(before, STDOUT_FILENO);
  ::close(before);
  return code;
}

}  // namespace

TEST_CASE("the exit code tells claims that hold, claims that do not, and errors apart") {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string();
  const auto claims_of = [](double measured) {
    return [measured](const CommonOptions&) { return ProgramResult{{claim_at_most("f", "c", measured, 1.0)}, {}}; };
  };
  CHECK(run({"--out", out}, claims_of(0.0)) == 0);
  CHECK(run({"--out", out}, claims_of(2.0)) == 1);
  const std::string section = content_of(folder.path() / "out" / "program.json");
  CHECK_THAT(section,
             text_contains("for any processor of its kind") || text_contains("for the processor of the machine"));
  // A violated claim is on record, too.
  REQUIRE(read_claims(folder.path() / "out" / "claims.json").size() == 1);
  CHECK_FALSE(read_claims(folder.path() / "out" / "claims.json")[0].holds);
  CHECK(run({"--out", out}, [](const CommonOptions&) -> ProgramResult { throw std::runtime_error("broken"); }) == 2);
  bool ran = false;
  const auto body = [&](const CommonOptions&) {
    ran = true;
    return ProgramResult{};
  };
  CHECK(run({"--unknown"}, body) == 2);
  CHECK(run({"--quick", "--full"}, body) == 2);
  CHECK(run({"--threads", "-1"}, body) == 2);
  CHECK(run({"--seed", "x"}, body) == 2);
  CHECK(run({"--out", (folder.file("occupied", "") / "below").string()}, body) == 2);
  CHECK(run({"--help"}, body) == 0);
  CHECK_FALSE(ran);
}

TEST_CASE("with --json standard output is one object, whatever the program prints") {
  const TemporaryFolder folder;
  const auto printed = folder.path() / "printed";
  const std::string out = (folder.path() / "out").string();
  const auto object_of = [&](const std::vector<std::string>& arguments, auto body, int expected) {
    CHECK(with_output(printed, [&] { return run(arguments, body); }) == expected);
    return nlohmann::json::parse(content_of(printed));
  };
  const auto body = [](double measured) {
    return [measured](const CommonOptions&) {
      std::printf("a table\n");
      std::cout << "for people\n";
      ProgramResult result{{claim_at_most("f", "a claim", measured, 1.0)}, {}};
      result.tables = {"table.csv"};
      return result;
    };
  };
  const auto good = object_of({"--out", out, "--json"}, body(0.5), 0);
  CHECK(good.at("name") == "program");
  CHECK(good.at("out") == out);
  CHECK(good.at("tables").at(0) == "table.csv");
  CHECK(good.at("claims").size() == 1);
  CHECK(good.at("claims").at(0).at("measured") == 0.5);
  CHECK(good.at("claims").at(0).at("holds") == true);
  CHECK(object_of({"--out", out, "--json"}, body(2.0), 1).at("claims").at(0).at("holds") == false);
  const auto broken = object_of(
      {"--out", out, "--json"}, [](const CommonOptions&) -> ProgramResult { throw std::runtime_error("a reason"); }, 2);
  CHECK(broken.at("error") == "a reason");
}

TEST_CASE("with --json a command line that cannot be parsed is an object, too") {
  const TemporaryFolder folder;
  const auto printed = folder.path() / "printed";
  const auto body = [](const CommonOptions&) { return ProgramResult{}; };
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--json", "--threads", "x"}, {"--threads", "x", "--json"}, {"--unknown", "--json"}}) {
    CHECK(with_output(printed, [&] { return run(arguments, body); }) == 2);
    const auto object = nlohmann::json::parse(content_of(printed));
    CHECK(object.at("name") == "program");
    CHECK_THAT(object.at("error").get<std::string>(), text_contains("--threads") || text_contains("--unknown"));
  }
}

TEST_CASE("output that is lost is said, and the exit code is not 0") {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string();
  bool ran = false;
  const auto body = [&](const CommonOptions&) {
    std::printf("a table\n");
    ran = true;
    return ProgramResult{{claim_at_most("f", "c", 0.0, 1.0)}, {}};
  };
  for (const char* json : {"--quick", "--json"}) {
    CAPTURE(json);
    CHECK(with_output("/dev/full", [&] { return run({"--out", out, json}, body); }) == 2);
    CHECK(ran);
    ran = false;
    CHECK(with_output("", [&] { return run({"--out", out, json}, body); }) == 2);
    CHECK_FALSE(ran);
    CHECK(with_output("/dev/null", [&] { return run({"--out", out, json}, body); }) == 0);
  }
  CHECK(with_output("/dev/full", [&] { return run({"--help"}, body); }) == 2);
}

TEST_CASE("a claims file that is none stops the program before its work") {
  const TemporaryFolder folder;
  (void)folder.file("claims.json", "something else");
  bool ran = false;
  CHECK(run({"--out", folder.path().string()}, [&](const CommonOptions&) {
          ran = true;
          return ProgramResult{};
        }) == 2);
  CHECK_FALSE(ran);
}

TEST_CASE("the common options arrive") {
  const TemporaryFolder folder;
  const std::string out = folder.path().string();
  CommonOptions seen;
  int extra = 0;
  const auto body = [&](const CommonOptions& common) {
    seen = common;
    return ProgramResult{};
  };
  const auto add = [&](CLI::App& app) { app.add_option("--extra", extra); };
  REQUIRE(run({"--seed", "12345678901234567890", "--threads", "3", "--quick", "--out", out, "--extra", "7"}, body,
              add) == 0);
  CHECK(seen.seed == 12345678901234567890ULL);
  CHECK(seen.threads == 3);
  CHECK(seen.effort == Effort::quick);
  CHECK(seen.out == folder.path());
  CHECK(extra == 7);
  REQUIRE(run({"--full", "--out", out}, body) == 0);
  CHECK(seen.effort == Effort::full);
  REQUIRE(run({"--out", out}, body) == 0);
  CHECK(seen.effort == Effort::standard);
}

TEST_CASE("numbers of options are decimal, whole and within their range, or refused by name") {
  const TemporaryFolder folder;
  const std::string out = folder.path().string();
  CommonOptions seen;
  int depth = 3;
  std::vector<int> classes = {7, 9};
  double seconds = 1.0;
  std::ptrdiff_t per_class = 5;
  const auto body = [&](const CommonOptions& common) {
    seen = common;
    return ProgramResult{};
  };
  const auto add = [&](CLI::App& app) {
    add_integer_option(app, "--depth", depth, 2, 1000, "");
    add_integers_option(app, "--classes", classes, 0, 99, "");
    add_integer_option(app, "--per-class", per_class, 1, 1000000, "");
    add_nonnegative_option(app, "--seconds", seconds, "");
  };
  const auto with = [&](const char* option, const char* value) {
    return run({"--out", out, option, value}, body, add);
  };
  const std::pair<const char*, std::uint64_t> seeds[] = {{"007", 7},    {"008", 8}, {"010", 10},
                                                         {"0100", 100}, {"0", 0},   {"18446744073709551615", ~0ULL}};
  for (const auto& [text, expected] : seeds) {
    INFO(text);
    REQUIRE(with("--seed", text) == 0);
    CHECK(seen.seed == expected);
  }
  for (const char* text : {"-1", "-0", "+5", "18446744073709551616", "99999999999999999999999", "0x10", "1e3", "1.0",
                           "", " 1", "1 ", "1,2", "ten", "\xD9\xA1"}) {
    INFO(text);
    CHECK(with("--seed", text) == 2);
    CHECK(with("--depth", text) == 2);
    CHECK(with("--per-class", text) == 2);
    CHECK_THROWS_MATCHES(parse_seed("--seed", text), richflow::ArgumentError,
                         message_contains("--seed '" + std::string(text) + "'"));
  }
  REQUIRE(with("--depth", "010") == 0);
  CHECK(depth == 10);
  REQUIRE(with("--per-class", "0100") == 0);
  CHECK(per_class == 100);
  CHECK(with("--depth", "1") == 2);
  CHECK(with("--depth", "1001") == 2);
  CHECK(with("--threads", "08") == 0);
  CHECK(seen.threads == 8);
  CHECK(with("--threads", "4097") == 2);
  REQUIRE(with("--classes", "03,010") == 0);
  CHECK(classes == std::vector<int>{3, 10});
  CHECK(with("--classes", "3,0x4") == 2);
  CHECK(with("--classes", "3") == 2);
  REQUIRE(with("--seconds", "0.5") == 0);
  CHECK(seconds == 0.5);
  for (const char* text : {"-1", "nan", "inf", "1e999", "0,5", "0x1p3"}) CHECK(with("--seconds", text) == 2);
  CHECK_THROWS_MATCHES(
      parse_integer("--depth", "9223372036854775808", 2, 1000), richflow::ArgumentError,
      message_contains("--depth '9223372036854775808' must be a whole number in decimal digits, from 2"));
}

TEST_CASE("the progress line has share, rate and remaining time") {
  CHECK(progress_line("fig", 0.0, 0, 0.0) == "fig [                            ]   0 %");
  CHECK(progress_line("fig", 0.25, 1, 2.0) == "fig [#######                     ]  25 %  0.5 tasks/s  0:06 left");
  CHECK(progress_line("fig", 1.0, 4, 2.0) == "fig [############################] 100 %  2 tasks/s  0:00 left");
  CHECK(clock_time(3725.4) == "1:02:05");
  CHECK(duration(0.002) == "under 0.1 s");
  CHECK(duration(12.34) == "12.3 s");
  CHECK(duration(59.97) == "1 min 0 s");
  CHECK(duration(125.2) == "2 min 5 s");
  CHECK(duration(7380.0) == "2 h 3 min");
}

TEST_CASE("a command of the report means the same when it is pasted into a shell") {
  const TemporaryFolder folder;
  const std::vector<std::string> words = {
      "plain",       "with blank", "it's", "\"double\"", "a'b'c",   "$HOME `id` $(id)",
      "back\\slash", "",           "*?[]", "~",          "a;b&c|d", "new\nline",
      "--out=x y",   "#comment",   "!1",   "{1,2}",      "-"};
  std::string script = "printf '%s\\0'";
  for (const std::string& word : words) script += " " + shell_word(word);
  const std::filesystem::path printed = folder.path() / "printed";
  const std::filesystem::path file = folder.file("script.sh", script + " >'" + printed.string() + "'\n");
  REQUIRE(std::system(("sh '" + file.string() + "'").c_str()) == 0);
  std::string expected;
  for (const std::string& word : words) expected += word + '\0';
  CHECK(content_of(printed) == expected);
  CHECK(shell_word("plain") == "plain");
}

TEST_CASE("quartiles interpolate, but not with infinities") {
  const Quartiles even = quartiles({4.0, 1.0, 3.0, 2.0});
  CHECK(even.q25 == 1.75);
  CHECK(even.median == 2.5);
  CHECK(even.q75 == 3.25);
  const double never = -std::numeric_limits<double>::infinity();
  CHECK(quantile({never, never, 1.0, 2.0}, 0.5) == never);
  CHECK(quantile({never, 1.0, 2.0}, 0.5) == 1.0);
  CHECK_THROWS_AS(quantile({}, 0.5), richflow::ArgumentError);
  CHECK_THROWS_AS(quantile({1.0}, 1.5), richflow::ArgumentError);
}

TEST_CASE("without gnuplot the script is still there; a broken script is an error") {
  const TemporaryFolder folder;
  const std::string path = std::getenv("PATH") == nullptr ? "" : std::getenv("PATH");
  Picture picture;
  picture.name = "curve";
  picture.commands = "plot [0:1] x\n";
  ::setenv("PATH", folder.path().c_str(), 1);
  const bool drawn = draw_picture(picture, folder.path());
  ::setenv("PATH", path.c_str(), 1);
  CHECK_FALSE(drawn);
  CHECK(content_of(folder.path() / "curve.gp").find("plot [0:1] x") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "curve.svg"));

  if (draw_picture(picture, folder.path())) {
    CHECK(content_of(folder.path() / "curve.svg").find("<svg") != std::string::npos);
    CHECK(content_of(folder.path() / "curve.png").substr(1, 3) == "PNG");
    picture.commands = "plot \"missing.csv\"\n";
    CHECK_THROWS_AS(draw_picture(picture, folder.path()), FileError);
    // gnuplot is content with this one, and makes no picture.
    picture.name = "nothing";
    picture.commands = "set output\n";
    CHECK_THROWS_AS(draw_picture(picture, folder.path()), FileError);
  }
}

TEST_CASE("trouble with a picture costs no claim") {
  const TemporaryFolder folder;
  Picture picture;
  picture.name = "occupied";
  std::filesystem::create_directory(folder.path() / "occupied.gp");
  const auto body = [&](const CommonOptions&) { return ProgramResult{{claim_at_most("f", "c", 0.0, 1.0)}, {picture}}; };
  CHECK(run({"--out", folder.path().string()}, body) == 2);
  CHECK(read_claims(folder.path() / "claims.json").size() == 1);
}
