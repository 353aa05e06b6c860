#include "richflow/core/parallel.hpp"

#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __GLIBC__
#include <pthread.h>
#endif

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

#ifdef __GLIBC__
TEST_CASE("the threads of a parallel loop have a stack for matrix products where the default of the system is small") {
  struct SmallDefault {
    pthread_attr_t before;
    SmallDefault() {
      pthread_getattr_default_np(&before);
      pthread_attr_t small;
      pthread_attr_init(&small);
      pthread_attr_setstacksize(&small, std::size_t(128) << 10);
      REQUIRE(pthread_setattr_default_np(&small) == 0);
      pthread_attr_destroy(&small);
    }
    ~SmallDefault() {
      pthread_setattr_default_np(&before);
      pthread_attr_destroy(&before);
    }
  };
  const SmallDefault small;
  const auto stack_bytes = [] {
    pthread_attr_t attributes;
    std::size_t bytes = 0;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, &bytes);
    pthread_attr_destroy(&attributes);
    return bytes;
  };
  std::size_t of_plain_thread = 0;
  std::thread([&] { of_plain_thread = stack_bytes(); }).join();
  CHECK(of_plain_thread <= std::size_t(128) << 10);  // the case is one with small stacks

  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> waiting{4};
  std::vector<std::size_t> bytes(4, 0);
  parallel_for(
      4,
      [&](Index i) {
        // Each cell on a thread of its own.
        for (--waiting; waiting.load() > 0;) std::this_thread::yield();
        if (std::this_thread::get_id() != caller) bytes[static_cast<std::size_t>(i)] = stack_bytes();
      },
      ParallelOptions{.threads = 4});
  int helpers = 0;
  for (const std::size_t one : bytes) {
    if (one == 0) continue;
    ++helpers;
    CHECK(one >= std::size_t(2) << 20);
  }
  CHECK(helpers == 3);
}
#endif
