#include "richflow/core/file.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "richflow/core/parallel.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Many copies of one letter: a mixture shows.
std::string content_by(int writer) {
  return std::string(50000 + 1000 * static_cast<std::size_t>(writer), static_cast<char>('a' + writer));
}

bool is_whole(const std::string& content) { return !content.empty() && content == content_by(content.front() - 'a'); }

}  // namespace

TEST_CASE("a file that several processes write at a time is always one of what they write, and nothing is left over") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "shared.txt";
  write_file(path, content_by(0));
  constexpr int writers = 4;
  std::vector<::pid_t> children;
  for (int writer = 0; writer < writers; ++writer) {
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int failures = 0;
      for (int k = 0; k < 40; ++k) {
        try {
          write_file(path, content_by(writer));
        } catch (const Error&) {
          ++failures;
        }
      }
      ::_exit(failures);
    }
    children.push_back(child);
  }
  int reads = 0;
  bool whole = true;
  while (!children.empty()) {
    whole = whole && is_whole(content_of(path));
    ++reads;
    int state = 0;
    const ::pid_t ended = ::waitpid(-1, &state, WNOHANG);
    if (ended <= 0) continue;
    CHECK(WIFEXITED(state));
    CHECK(WEXITSTATUS(state) == 0);
    children.erase(std::remove(children.begin(), children.end(), ended), children.end());
  }
  CHECK(whole);
  CHECK(reads > 1);
  CHECK(is_whole(content_of(path)));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"shared.txt"});
}

TEST_CASE("the threads of a process do not meet in a file either") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "shared.txt";
  parallel_for(
      64, [&](Index i) { write_file(path, content_by(static_cast<int>(i % 4))); }, ParallelOptions{.threads = 4});
  CHECK(is_whole(content_of(path)));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"shared.txt"});

  std::set<std::filesystem::path> names;
  for (int k = 0; k < 1000; ++k) names.insert(detail::temporary_name(path));
  CHECK(names.size() == 1000);
}

TEST_CASE("a write that fails half way is reported, keeps the old file and leaves no half one") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "out.csv";
  write_file(path, "old");
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // No file of this process may grow beyond 1000 bytes, as on a disk that is full.
    std::signal(SIGXFSZ, SIG_IGN);
    const ::rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(2);
    try {
      write_file(path, std::string(100000, 'x'));
    } catch (const FileError& error) {
      const std::string message = error.what();
      ::_exit(message.find("out.csv") != std::string::npos && message.find("too large") != std::string::npos ? 0 : 3);
    }
    ::_exit(4);
  }
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  CHECK(WEXITSTATUS(state) == 0);
  CHECK(content_of(path) == "old");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"out.csv"});
}

TEST_CASE("a file that cannot be written is named with the reason") {
  const TemporaryFolder folder;
  CHECK_THROWS_MATCHES(write_file(folder.path() / "missing" / "file", "x"), FileError,
                       message_contains("No such file or directory"));
  std::filesystem::create_directory(folder.path() / "occupied");
  (void)folder.file("occupied/inside", "y");
  CHECK_THROWS_MATCHES(write_file(folder.path() / "occupied", "x"), FileError, message_contains("occupied"));
  CHECK(names_in(folder.path()) == std::vector<std::string>{"occupied"});
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_file("here.txt", "z");
  std::filesystem::current_path(before);
  CHECK(content_of(folder.path() / "here.txt") == "z");
}
