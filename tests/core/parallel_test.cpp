#include "richflow/core/parallel.hpp"

#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"

using richflow::Index;
using richflow::parallel_for;
using richflow::ParallelOptions;
using richflow::RandomStream;

TEST_CASE("results do not depend on the number of threads") {
  const auto run = [](int threads) {
    std::vector<double> results(200);
    parallel_for(
        200,
        [&](Index i) {
          RandomStream random(42, static_cast<std::uint64_t>(i));
          double sum = 0.0;
          for (Index k = 0; k < 50 * (i % 7); ++k) sum += random.normal();  // cells of unequal cost
          results[static_cast<std::size_t>(i)] = sum;
        },
        ParallelOptions{.threads = threads});
    return results;
  };
  const std::vector<double> expected = run(1);
  CHECK(std::set<double>(expected.begin(), expected.end()).size() > 150);
  for (const int threads : {0, 2, 4, 300}) CHECK(run(threads) == expected);
}

TEST_CASE("every cell runs exactly once") {
  for (const int threads : {1, 2, 4})
    for (const Index count : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
      parallel_for(
          count, [&](Index i) { ++calls[static_cast<std::size_t>(i)]; }, ParallelOptions{.threads = threads});
      bool once = true;
      for (const auto& c : calls) once = once && c == 1;
      CHECK(once);
    }
}

TEST_CASE("the work is really shared") {
  // Each of two cells waits until the other has started: with one thread this would never end.
  std::atomic<int> started{0};
  std::atomic<bool> together{true};
  parallel_for(
      2,
      [&](Index) {
        ++started;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (started < 2)
          if (std::chrono::steady_clock::now() > deadline) {
            together = false;
            return;
          }
      },
      ParallelOptions{.threads = 2});
  CHECK(together);
}

TEST_CASE("the exception of the lowest index is the one that arrives") {
  for (const int threads : {1, 2, 4})
    for (int repetition = 0; repetition < 20; ++repetition) {
      std::vector<std::atomic<int>> calls(100);
      std::string message;
      try {
        parallel_for(
            100,
            [&](Index i) {
              ++calls[static_cast<std::size_t>(i)];
              // the lowest failing cell is also the slowest to fail
              if (i == 17) std::this_thread::sleep_for(std::chrono::milliseconds(1));
              if (i >= 17 && i % 2 == 1) throw std::runtime_error("cell " + std::to_string(i));
            },
            ParallelOptions{.threads = threads});
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      CHECK(message == "cell 17");
      for (std::size_t i = 0; i <= 17; ++i) CHECK(calls[i] == 1);
      if (threads == 1) CHECK(calls[18] == 0);  // nothing is started after a failure
    }
}

TEST_CASE("exceptions of any type pass through, and the loop can be used again") {
  CHECK_THROWS_AS(parallel_for(
                      3, [](Index) { throw 5; }, ParallelOptions{.threads = 2}),
                  int);
  CHECK_THROWS_AS(
      parallel_for(
          3, [](Index) { throw richflow::NonFiniteError("beta(0) is nan"); }, ParallelOptions{.threads = 2}),
      richflow::NonFiniteError);
  std::atomic<int> calls{0};
  parallel_for(
      10, [&](Index) { ++calls; }, ParallelOptions{.threads = 2});
  CHECK(calls == 10);
}

TEST_CASE("loops may be nested") {
  std::vector<std::vector<int>> cells(4, std::vector<int>(5, 0));
  parallel_for(
      4,
      [&](Index i) {
        parallel_for(
            5,
            [&](Index j) {
              cells[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] = static_cast<int>(10 * i + j);
            },
            ParallelOptions{.threads = 2});
      },
      ParallelOptions{.threads = 2});
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 5; ++j) CHECK(cells[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] == 10 * i + j);
}

TEST_CASE("bad arguments of the parallel loop are named") {
  CHECK_THROWS_MATCHES(parallel_for(-1, [](Index) {}), richflow::ArgumentError, test_support::message_contains("-1"));
  CHECK_THROWS_MATCHES(parallel_for(
                           1, [](Index) {}, ParallelOptions{.threads = -2}),
                       richflow::ArgumentError, test_support::message_contains("threads"));
  CHECK(richflow::num_threads(ParallelOptions{.threads = 3}) == 3);
  CHECK(richflow::num_threads(ParallelOptions{}) >= 1);
}
