#include "richflow/sweep/sweep.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <limits>
#include <locale>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/richflow.hpp"  // every name beside those of the sweep
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using test_support::content_of;
using test_support::TemporaryFolder;

namespace {

Sweep small_sweep(Index seeds = 5) {
  Sweep sweep{"small", Grid({Axis{"N", {40.0, 50.0, 60.0}}, seed_axis(seeds)}), {"mean", "wide"}};
  sweep.settings = {{"seed", "7"}};
  return sweep;
}

/// Random numbers of all magnitudes; one cell fails.
NamedNumbers numbers_of(const Cell& cell) {
  if (cell["N"] == 50.0 && cell["seed"] == 2.0) throw std::runtime_error("no \"luck\",\nhere");
  RandomStream random(7, cell.stream());
  const double wide = std::exp(random.uniform(-700.0, 700.0));
  return {{"wide", cell["seed"] == 3.0 ? -std::numeric_limits<double>::infinity() : wide}, {"mean", random.normal()}};
}

std::string undisturbed(const Sweep& sweep) { return run_sweep(sweep, numbers_of).csv(); }

std::set<std::string> files_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

/// Runs `body` in a process of its own; its exit code, or 1000 + the signal that ended it.
template <class Body>
int in_child(Body body, int kill_after_microseconds = -1) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  if (kill_after_microseconds >= 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(kill_after_microseconds));
    ::kill(child, SIGKILL);
  }
  int state = 0;
  while (::waitpid(child, &state, 0) < 0) {
  }
  return WIFEXITED(state) ? WEXITSTATUS(state) : 1000 + WTERMSIG(state);
}

}  // namespace

TEST_CASE("a sweep returns every cell in the order of the grid, failed ones with their message") {
  const Sweep sweep = small_sweep();
  const SweepResult result = run_sweep(sweep, numbers_of);
  REQUIRE(result.rows().size() == 15);
  CHECK(result.num_failed() == 1);
  CHECK(result.num_missing() == 0);
  CHECK_FALSE(result.ok());
  CHECK_THROWS_AS(result.require_ok(), ConvergenceError);
  CHECK(result.summary() ==
        "sweep 'small': 15 of 15 cells done, 1 of them failed, the first at N = 50, seed = 2: no \"luck\", here");
  for (std::size_t k = 0; k < 15; ++k) {
    const SweepRow& row = result.rows()[k];
    const Cell cell = result.cell(row);
    REQUIRE(cell.index() == static_cast<Index>(k));
    if (row.ok())
      for (const auto& [name, number] : numbers_of(cell)) CHECK(result.value(row, name) == number);
    else
      CHECK(std::isnan(result.value(row, "mean")));
  }
  CHECK(result.values("mean", "N", 40.0).size() == 5);
  CHECK(result.values("mean", "N", 50.0).size() == 4);
  CHECK_THROWS_AS(result.value(result.rows()[0], "median"), ArgumentError);
  CHECK(result.csv().starts_with("N,seed,mean,wide,failure\n40,0,"));
  CHECK(result.csv().find("50,2,,,\"no \"\"luck\"\", here\"\n") != std::string::npos);
}

TEST_CASE("threads, shards and orders do not change a byte") {
  const Sweep sweep = small_sweep();
  const std::string expected = undisturbed(sweep);
  for (const int threads : {1, 2, 4}) {
    const TemporaryFolder folder;
    SweepOptions options;
    options.folder = folder.path();
    options.cost = [](const Cell& cell) { return std::sin(cell["seed"]); };
    const SweepResult result = run_sweep(sweep, numbers_of, options, ThreadExecutor{{.threads = threads}});
    CHECK(result.csv() == expected);
    CHECK(content_of(folder.path() / "small.csv") == expected);
  }

  const TemporaryFolder folder;
  Index together = 0;
  for (const int index : {3, 1, 2}) {
    SweepOptions options;
    options.folder = folder.path();
    options.shard = {index, 3};
    const SweepResult part = run_sweep(sweep, numbers_of, options);
    CHECK(part.rows().size() == 5);
    CHECK(part.num_missing() == 10);
    together += static_cast<Index>(part.rows().size());
  }
  CHECK(together == 15);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "small.csv"));
  CHECK(merge_sweep(sweep, folder.path(), 3).csv() == expected);
  CHECK(content_of(folder.path() / "small.csv") == expected);
  // What was merged is as good as an undivided run.
  SweepOptions options;
  options.folder = folder.path();
  options.resume = true;
  const auto never = [](const Cell&) -> NamedNumbers { throw std::logic_error("called"); };
  CHECK(run_sweep(sweep, never, options).csv() == expected);
}

TEST_CASE("an unfinished shard is merged as it is, and the rest is computed by resuming the whole") {
  const Sweep sweep = small_sweep();
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  options.shard = {1, 2};
  (void)run_sweep(sweep, numbers_of, options);
  CHECK_THROWS_AS(merge_sweep(sweep, folder.path(), 2), FileError);
  CHECK_THROWS_AS(merge_sweep(sweep, folder.path(), 0), ArgumentError);
  // The second shard has begun, and has no row.
  const std::string first = content_of(folder.path() / "small.1of2.journal");
  (void)folder.file("small.2of2.journal", first.substr(0, 30));
  CHECK(merge_sweep(sweep, folder.path(), 2).num_missing() == 7);
  // Of a torn row nothing is taken, and the shards stay as they are.
  (void)folder.file("small.1of2.journal", first.substr(0, first.size() - 3));
  CHECK(merge_sweep(sweep, folder.path(), 2).num_missing() == 8);
  CHECK(content_of(folder.path() / "small.1of2.journal") == first.substr(0, first.size() - 3));
  CHECK(content_of(folder.path() / "small.2of2.journal") == first.substr(0, 30));
  (void)folder.file("small.1of2.journal", first);
  CHECK(merge_sweep(sweep, folder.path(), 2).num_missing() == 7);
  options.shard = {};
  options.resume = true;
  std::atomic<int> calls = 0;
  const auto counted = [&](const Cell& cell) {
    ++calls;
    return numbers_of(cell);
  };
  CHECK(run_sweep(sweep, counted, options).csv() == undisturbed(sweep));
  CHECK(calls == 7);
}

TEST_CASE("a file torn at any byte is repaired, and the missing cells alone are computed") {
  const Sweep sweep = small_sweep(2);
  const std::string expected = undisturbed(sweep);
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  (void)run_sweep(sweep, numbers_of, options, ThreadExecutor{{.threads = 1}});
  const std::string whole = content_of(folder.path() / "small.journal");
  options.resume = true;
  const std::size_t rows_begin = whole.find("\n\n") + 2;
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    (void)folder.file("small.journal", whole.substr(0, size));
    std::filesystem::remove(folder.path() / "small.csv");
    int calls = 0;
    const auto counted = [&](const Cell& cell) {
      ++calls;
      return numbers_of(cell);
    };
    (void)run_sweep(sweep, counted, options, ThreadExecutor{{.threads = 1}});
    const auto done = size < rows_begin ? 0
                                        : std::count(whole.begin() + static_cast<std::ptrdiff_t>(rows_begin),
                                                     whole.begin() + static_cast<std::ptrdiff_t>(size), '\n');
    REQUIRE(calls == 6 - done);
    REQUIRE(content_of(folder.path() / "small.csv") == expected);
    REQUIRE(content_of(folder.path() / "small.journal") == whole);
  }
}

TEST_CASE("a damaged line in the middle counts as missing") {
  const Sweep sweep = small_sweep(2);
  const std::string expected = undisturbed(sweep);
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  (void)run_sweep(sweep, numbers_of, options, ThreadExecutor{{.threads = 1}});
  const std::string whole = content_of(folder.path() / "small.journal");
  options.resume = true;
  for (std::size_t at = whole.find("\n\n") + 2; at < whole.size(); at += 7) {
    if (whole[at] == '\n') continue;
    std::string damaged = whole;
    damaged[at] = damaged[at] == '3' ? '4' : '3';
    (void)folder.file("small.journal", damaged);
    CHECK(run_sweep(sweep, numbers_of, options).csv() == expected);
  }
}

TEST_CASE("kill -9 at any moment loses at most the cells in flight") {
  const Sweep sweep = small_sweep(40);
  const auto slow = [](const Cell& cell) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    return numbers_of(cell);
  };
  const std::string expected = undisturbed(sweep);
  RandomStream random(11);
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  options.resume = true;
  const auto rows_on_file = [&] {
    const std::string text = std::filesystem::exists(folder.path() / "small.journal")
                                 ? content_of(folder.path() / "small.journal")
                                 : std::string();
    const std::size_t begin = text.find("\n\n");
    return begin == std::string::npos
               ? 0
               : std::count(text.begin() + static_cast<std::ptrdiff_t>(begin) + 2, text.end(), '\n');
  };
  int killed = 0;
  std::ptrdiff_t before = 0;
  for (int run = 0; run < 8; ++run) {
    const int code = in_child(
        [&] {
          (void)run_sweep(sweep, slow, options, ThreadExecutor{{.threads = 2}});
          return 0;
        },
        static_cast<int>(random.uniform(0.0, 20000.0)));
    killed += code == 1000 + SIGKILL ? 1 : 0;
    CHECK(rows_on_file() >= before);
    before = rows_on_file();
  }
  CHECK(killed > 0);
  std::atomic<int> calls = 0;
  const auto counted = [&](const Cell& cell) {
    ++calls;
    return numbers_of(cell);
  };
  CHECK(run_sweep(sweep, counted, options).csv() == expected);
  CHECK(content_of(folder.path() / "small.csv") == expected);
  CHECK(calls == 120 - before);
}

TEST_CASE("the results of another sweep are refused, and stay as they are") {
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  (void)run_sweep(small_sweep(), numbers_of, options);
  const std::string whole = content_of(folder.path() / "small.journal");
  options.resume = true;
  const auto refused = [&](const Sweep& sweep, const std::string& reason) {
    CHECK_THROWS_WITH(run_sweep(sweep, numbers_of, options),
                      test_support::text_contains("another sweep") && test_support::text_contains(reason));
    CHECK(content_of(folder.path() / "small.journal") == whole);
  };
  refused(small_sweep(6), "axis seed 0 1 2 3 4 5");
  Sweep other = small_sweep();
  other.settings["seed"] = "8";
  refused(other, "setting seed = 8");
  other = small_sweep();
  other.settings["alpha"] = "1";
  refused(other, "setting alpha = 1");
  other = small_sweep();
  other.code_version = "2";
  refused(other, "code 2");
  other = small_sweep();
  other.outputs = {"wide", "mean"};
  refused(other, "outputs wide mean");
  other = small_sweep();
  other.grid = other.grid.where([](const Cell& cell) { return cell["seed"] > 0.0; });
  refused(other, "cells 12");

  // What other headers have written, without another version.
  const std::string hash = std::string("headers ") + richflow::detail::source_hash;
  const std::size_t at = whole.find(hash);
  REQUIRE(at != std::string::npos);
#ifdef RICHFLOW_SOURCE_HASH
  CHECK(hash != "headers unknown");
#endif
  std::string of_other_headers = whole;
  of_other_headers.replace(at, hash.size(), "headers 0123456789abcdef");
  (void)folder.file("small.journal", of_other_headers);
  CHECK_THROWS_WITH(run_sweep(small_sweep(), numbers_of, options),
                    test_support::text_contains("another sweep") && test_support::text_contains(hash));
  CHECK(content_of(folder.path() / "small.journal") == of_other_headers);

  (void)folder.file("small.journal", "something else\n");
  CHECK_THROWS_WITH(run_sweep(small_sweep(), numbers_of, options),
                    test_support::text_contains("not a file of sweep results"));
  CHECK(content_of(folder.path() / "small.journal") == "something else\n");
}

TEST_CASE("a value that is not on the axis is refused with the nearest, never answered by nothing") {
  const Sweep sweep{.name = "sums", .grid = Grid({Axis{"eps", {0.1, 0.2, 0.1 + 0.2}}}), .outputs = {"twice"}};
  const SweepResult result = run_sweep(sweep, [](const Cell& cell) -> NamedNumbers {
    return {{"twice", 2 * cell["eps"]}};
  });
  CHECK(result.values("twice", "eps", 0.2) == std::vector<double>{0.4});
  CHECK(result.values("twice", "eps", 0.1 + 0.2) == std::vector<double>{2 * (0.1 + 0.2)});
  CHECK_THROWS_WITH(result.values("twice", "eps", 0.3),
                    test_support::text_contains("the axis eps has no value 0.2999") &&
                        test_support::text_contains("nearest is 0.30000000000000004"));
  CHECK_THROWS_WITH(result.values("twice", {{"eps", -7.0}}), test_support::text_contains("nearest is 0.1"));
  const SweepResult nothing(sweep, {});
  CHECK(nothing.values("twice", "eps", 0.2).empty());
  CHECK_THROWS_WITH(nothing.values("thrice"), test_support::text_contains("no output 'thrice'"));
  CHECK_THROWS_WITH(nothing.values("thrice", "eps", 0.2), test_support::text_contains("no output 'thrice'"));
  CHECK_THROWS_AS(nothing.values("twice", "epsilon", 0.2), ArgumentError);
}

namespace {

/// Numbers as they are written in much of Europe.
struct Comma : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

/// That locale for the whole program, while it lives.
struct CommaLocale {
  std::locale before = std::locale::global(std::locale(std::locale::classic(), new Comma));
  CommaLocale() = default;
  ~CommaLocale() { std::locale::global(before); }
  CommaLocale(const CommaLocale&) = delete;
  CommaLocale& operator=(const CommaLocale&) = delete;
};

}  // namespace

TEST_CASE("numbers are read and written alike with and without floating-point charconv") {
  namespace detail = richflow::detail;
  richflow::RandomStream random(17);
  std::vector<double> numbers = {0.0,
                                 -0.0,
                                 1.0,
                                 0.1,
                                 0.1 + 0.2,
                                 1e100,
                                 5e-324,
                                 -2.2250738585072014e-308,
                                 1e22,
                                 123456789.0,
                                 std::numeric_limits<double>::max(),
                                 std::numeric_limits<double>::infinity(),
                                 -std::numeric_limits<double>::infinity()};
  for (int k = 0; k < 2000; ++k) numbers.push_back(random.normal() * std::exp(random.uniform(-700.0, 700.0)));
  for (const double number : numbers) {
    CAPTURE(number);
    for (const std::string& text : {detail::shortest(number), detail::shortest_by_stream(number)}) {
      const std::string line = text + " next";
      double a = 7.0, b = 7.0;
      CHECK(detail::read_double(line.data(), line.data() + line.size(), a) == line.data() + text.size());
      CHECK(detail::read_by_stream(line.data(), line.data() + line.size(), b) == line.data() + text.size());
      CHECK(a == number);
      CHECK(b == number);
      CHECK(std::signbit(b) == std::signbit(number));
    }
  }
  double value = 0.0;
  CHECK(detail::shortest_by_stream(std::nan("")) == "nan");
  const std::string bad = "x";
  CHECK(detail::read_by_stream(bad.data(), bad.data() + 1, value) == nullptr);
}

TEST_CASE("files and messages do not depend on the locale of the program") {
  std::vector<double> counts;
  for (int n = 1000; n < 1400; ++n) counts.push_back(n);
  const Sweep sweep{.name = "locale",
                    .grid = Grid({Axis{"N", counts}, Axis{"eps", {0.1, 0.2, 0.1 + 0.2}}}),
                    .outputs = {"ratio"},
                    .settings = {{"size", "1"}}};
  const auto cell = [](const Cell& at) -> NamedNumbers { return {{"ratio", at["N"] / at["eps"]}}; };
  const auto run = [&](const std::filesystem::path& folder, bool resume, bool comma) {
    std::optional<CommaLocale> locale;
    if (comma) locale.emplace();
    SweepOptions options;
    options.folder = folder;
    options.resume = resume;
    (void)run_sweep(sweep, cell, options, ThreadExecutor{{.threads = 1}}).require_ok();
  };
  const TemporaryFolder classic, comma;
  run(classic.path(), false, false);
  run(comma.path(), false, true);
  for (const char* file : {"locale.journal", "locale.csv"}) {
    const std::string expected = content_of(classic.path() / file);
    CHECK(expected.size() > 10000);
    CHECK(content_of(comma.path() / file) == expected);
  }
  // Each is resumed under the other.
  CHECK_NOTHROW(run(classic.path(), true, true));
  CHECK_NOTHROW(run(comma.path(), true, false));
  CHECK(content_of(classic.path() / "locale.csv") == content_of(comma.path() / "locale.csv"));
  const CommaLocale locale;
  CHECK(richflow::detail::concat(1234567, " ", 0.5) == "1234567 0.5");
}

TEST_CASE("without resume the older results are set aside") {
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  (void)run_sweep(small_sweep(), numbers_of, options);
  const std::string whole = content_of(folder.path() / "small.journal");
  int calls = 0;
  const auto counted = [&](const Cell& cell) {
    ++calls;
    return numbers_of(cell);
  };
  const std::string table = content_of(folder.path() / "small.csv");
  options.on_progress = [&](const SweepProgress& progress) {
    // No table stands beside results that are not its own.
    CHECK((progress.done == 15 || !std::filesystem::exists(folder.path() / "small.csv")));
  };
  (void)run_sweep(small_sweep(), counted, options, ThreadExecutor{{.threads = 1}});
  CHECK(calls == 15);
  CHECK(content_of(folder.path() / "small.journal.old") == whole);
  CHECK(content_of(folder.path() / "small.csv.old") == table);
  CHECK(files_in(folder.path()) ==
        std::set<std::string>{"small.csv", "small.csv.old", "small.journal", "small.journal.old"});
}

TEST_CASE("failed cells are kept by resume, or tried again") {
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  (void)run_sweep(small_sweep(), numbers_of, options);
  options.resume = true;
  const auto lucky = [](const Cell&) -> NamedNumbers { return {{"mean", 1.0}, {"wide", 2.0}}; };
  CHECK(run_sweep(small_sweep(), lucky, options).num_failed() == 1);
  options.retry_failed = true;
  CHECK(run_sweep(small_sweep(), lucky, options).num_failed() == 0);
  options.retry_failed = false;
  const SweepResult result = run_sweep(small_sweep(), lucky, options);
  CHECK(result.ok());
  CHECK(result.value(result.rows()[7], "wide") == 2.0);
}

TEST_CASE("a second process on the same results is refused") {
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  const Sweep sweep = small_sweep(1);
  int code = -1;
  std::mutex mutex;
  const auto meanwhile = [&](const Cell& cell) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (code < 0)
      code = in_child([&] {
        for (const bool resume : {false, true}) {
          SweepOptions second = options;
          second.resume = resume;
          try {
            (void)run_sweep(sweep, numbers_of, second);
            return 1;
          } catch (const FileError& error) {
            if (std::string(error.what()).find("in use by another process") == std::string::npos) return 2;
          }
        }
        return 0;
      });
    return numbers_of(cell);
  };
  const SweepResult result = run_sweep(sweep, meanwhile, options);
  CHECK(code == 0);
  CHECK(result.num_missing() == 0);
  CHECK(content_of(folder.path() / "small.csv") == undisturbed(sweep));
}

TEST_CASE("a full disk stops the sweep with an error, and what is on file is whole") {
  const Sweep sweep = small_sweep(20);
  const std::string expected = undisturbed(sweep);
  for (const ::rlim_t room : {10U, 400U, 1000U, 1500U}) {
    const TemporaryFolder folder;
    SweepOptions options;
    options.folder = folder.path();
    const int code = in_child([&] {
      // Writes beyond the limit fail as on a full disk.
      ::signal(SIGXFSZ, SIG_IGN);
      const ::rlimit limit{room, room};
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
      try {
        (void)run_sweep(sweep, numbers_of, options);
        return 1;
      } catch (const FileError& error) {
        return std::string(error.what()).find("cannot write '") == 0 ? 0 : 2;
      }
    });
    CHECK(code == 0);
    const std::string text = content_of(folder.path() / "small.journal");
    CHECK((text.empty() || text.back() == '\n'));
    options.resume = true;
    CHECK(run_sweep(sweep, numbers_of, options).csv() == expected);
  }
}

TEST_CASE("a folder that cannot be written is an error before any work") {
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.file("occupied", "") / "below";
  int calls = 0;
  const auto counted = [&](const Cell& cell) {
    ++calls;
    return numbers_of(cell);
  };
  CHECK_THROWS_AS(run_sweep(small_sweep(), counted, options), FileError);
  // Not even root may make files there.
  options.folder = "/proc/self";
  CHECK_THROWS_AS(run_sweep(small_sweep(), counted, options), FileError);
  CHECK(calls == 0);
}

namespace {

/// What `run_sweep` throws in a process whose user may not write where the permissions forbid it (root always may);
/// empty when it throws nothing.
std::string error_of_powerless_user(const Sweep& sweep, const SweepOptions& options) {
  std::array<int, 2> channel{};
  REQUIRE(::pipe(channel.data()) == 0);
  const int code = in_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 3;
    try {
      (void)run_sweep(sweep, numbers_of, options, ThreadExecutor{{.threads = 1}});
      return 1;
    } catch (const FileError& error) {
      const std::string text = error.what();
      return ::write(channel[1], text.data(), text.size()) == static_cast<::ssize_t>(text.size()) ? 0 : 4;
    }
  });
  ::close(channel[1]);
  std::array<char, 4096> buffer{};
  const ::ssize_t size = ::read(channel[0], buffer.data(), buffer.size());
  ::close(channel[0]);
  CHECK(code == 0);
  return std::string(buffer.data(), static_cast<std::size_t>(std::max<::ssize_t>(size, 0)));
}

}  // namespace

TEST_CASE("a read-only results file or folder is a clear error, and nothing on file changes") {
  using std::filesystem::perms;
  const TemporaryFolder folder;
  const std::filesystem::path journal = folder.path() / "small.journal";
  const std::filesystem::path table = folder.path() / "small.csv";
  const Sweep sweep = small_sweep();
  SweepOptions options;
  options.folder = folder.path();
  (void)run_sweep(sweep, numbers_of, options);
  const std::string whole = content_of(journal);
  const std::string expected = content_of(table);
  for (const bool resume : {false, true}) {
    options.resume = resume;
    std::filesystem::permissions(journal, perms::owner_read | perms::group_read | perms::others_read);
    CHECK_THAT(error_of_powerless_user(sweep, options),
               test_support::text_contains("cannot open '" + journal.string()));
    CHECK(content_of(journal) == whole);
    CHECK(files_in(folder.path()) == std::set<std::string>{"small.csv", "small.journal"});
  }

  // The results may be written, the table beside them may not.
  const std::string torn = whole.substr(0, whole.size() - 3);
  std::filesystem::permissions(journal, perms::all);
  (void)folder.file("small.journal", torn);
  std::filesystem::permissions(folder.path(), perms::owner_read | perms::owner_exec | perms::group_exec |
                                                  perms::others_read | perms::others_exec);
  CHECK_THAT(error_of_powerless_user(sweep, options), test_support::text_contains("cannot write '" + table.string()));
  std::filesystem::permissions(folder.path(), perms::owner_all);
  CHECK(content_of(table) == expected);
  // The missing cell was computed, and is not lost.
  int calls = 0;
  const auto counted = [&](const Cell& cell) {
    ++calls;
    return numbers_of(cell);
  };
  CHECK(run_sweep(sweep, counted, options).csv() == expected);
  CHECK(calls == 0);
}

TEST_CASE("something else in the place of the results file is refused") {
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  std::filesystem::create_directory(folder.path() / "small.journal");
  CHECK_THROWS_WITH(run_sweep(small_sweep(), numbers_of, options), test_support::text_contains("cannot open '"));
  std::filesystem::remove(folder.path() / "small.journal");
  // Reading a device need not end.
  std::filesystem::create_symlink("/dev/full", folder.path() / "small.journal");
  CHECK_THROWS_WITH(run_sweep(small_sweep(), numbers_of, options), test_support::text_contains("not a regular file"));
  CHECK(files_in(folder.path()) == std::set<std::string>{"small.journal"});
  // A folder where the table goes costs no result.
  std::filesystem::remove(folder.path() / "small.journal");
  std::filesystem::create_directory(folder.path() / "small.csv");
  CHECK_THROWS_WITH(run_sweep(small_sweep(), numbers_of, options), test_support::text_contains("cannot write '"));
  std::filesystem::remove(folder.path() / "small.csv");
  options.resume = true;
  const auto never = [](const Cell&) -> NamedNumbers { throw std::logic_error("called"); };
  CHECK(run_sweep(small_sweep(), never, options).csv() == undisturbed(small_sweep()));
}

TEST_CASE("names of outputs may be made at run time") {
  const Sweep sweep{"made", Grid({seed_axis(2)}), {"a_name_too_long_to_fit_into_a_small_string_1", "b"}};
  const SweepResult result = run_sweep(sweep, [](const Cell& cell) -> NamedNumbers {
    return {{"a_name_too_long_to_fit_into_a_small_string_" + std::to_string(1), cell["seed"]}, {"b", 2.0}};
  });
  CHECK(result.ok());
  CHECK(result.values("a_name_too_long_to_fit_into_a_small_string_1") == std::vector<double>{0.0, 1.0});
}

TEST_CASE("ill-formed sweeps and shards are refused") {
  Sweep sweep = small_sweep();
  sweep.outputs = {};
  CHECK_THROWS_AS(run_sweep(sweep, numbers_of), ArgumentError);
  sweep.outputs = {"mean", "N"};
  CHECK_THROWS_WITH(run_sweep(sweep, numbers_of), test_support::text_contains("two columns 'N'"));
  sweep = small_sweep();
  sweep.name = "../up";
  CHECK_THROWS_AS(run_sweep(sweep, numbers_of), ArgumentError);
  sweep = small_sweep();
  sweep.settings["seed"] = "1\n2";
  CHECK_THROWS_AS(run_sweep(sweep, numbers_of), ArgumentError);
  SweepOptions options;
  options.shard = {4, 3};
  CHECK_THROWS_WITH(run_sweep(small_sweep(), numbers_of, options), test_support::text_contains("4/3"));
  options.shard = {0, 3};
  CHECK_THROWS_AS(run_sweep(small_sweep(), numbers_of, options), ArgumentError);
  for (const char* text : {"", "1", "1/", "/2", "0/2", "3/2", "1/2/3", "a/2", "1/2 ", "-1/2", "99999999999/2"})
    CHECK_THROWS_AS(parse_shard(text), ArgumentError);
  CHECK(parse_shard("2/3").index == 2);
  CHECK(parse_shard("2/3").count == 3);
}

TEST_CASE("a cell that returns other names than the outputs has failed") {
  const Sweep sweep = small_sweep(1);
  const auto message = [&](NamedNumbers numbers) {
    return run_sweep(sweep, [&](const Cell&) { return numbers; }).rows()[0].error;
  };
  CHECK(message({{"mean", 1.0}}) == "the cell did not return the output 'wide'");
  CHECK(message({{"mean", 1.0}, {"wide", 1.0}, {"x", 1.0}}) ==
        "the cell returned 'x', which is no output of sweep 'small'");
  CHECK(message({{"mean", 1.0}, {"mean", 1.0}, {"wide", 1.0}}) == "the cell returned 'mean' twice");
  CHECK(run_sweep(sweep, [](const Cell&) -> NamedNumbers { throw 1; }).rows()[0].error ==
        "an exception that is not a std::exception");
}

TEST_CASE("progress counts cells, costs and failures, and may stop the sweep by throwing") {
  const Sweep sweep = small_sweep();
  const TemporaryFolder folder;
  SweepOptions options;
  options.folder = folder.path();
  options.cost = [](const Cell& cell) { return 1.0 + cell["seed"]; };
  Index calls = 0;
  SweepProgress last;
  options.on_progress = [&](const SweepProgress& progress) {
    ++calls;
    last = progress;
    if (calls == 6) throw std::runtime_error("enough");
  };
  CHECK_THROWS_WITH(run_sweep(sweep, numbers_of, options, ThreadExecutor{{.threads = 1}}), "enough");
  CHECK(last.done == 6);
  CHECK(last.total == 15);
  CHECK(last.cost_total == 45.0);
  // The dearest cells went first.
  CHECK(last.cost_done == 5.0 * 3.0 + 4.0 * 3.0);
  options.resume = true;
  CHECK(run_sweep(sweep, numbers_of, options).csv() == undisturbed(sweep));
  CHECK(calls == 15);
  CHECK(last.failed == 1);
  CHECK(last.cost_done == last.cost_total);
}

TEST_CASE("a line of a journal that no sweep has written counts as damaged") {
  const auto read = [](const std::string& text) {
    return detail::from_line(detail::line_checksum(text) + " " + text).has_value();
  };
  CHECK(read("3 ok 1 nan -inf"));
  CHECK(read("3 error it failed"));
  // Without a message it would be a success without numbers.
  CHECK_FALSE(read("3 error "));
  CHECK_FALSE(read("3 error it\tfailed"));
  CHECK_FALSE(read("3 ok 1 1e999"));
}
