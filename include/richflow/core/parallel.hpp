#pragma once

#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/types.hpp"
#include "richflow/core/worker_thread.hpp"

namespace richflow {

/// Options of a parallel loop.
struct ParallelOptions {
  /// Threads to use, the calling one included; 0 means one per hardware thread.
  int threads = 0;
};

/// Threads that `options` stands for; at least 1. Throws ArgumentError for a negative number.
[[nodiscard]] inline int num_threads(ParallelOptions options) {
  require(options.threads >= 0, "threads must not be negative, got ", options.threads);
  if (options.threads > 0) return options.threads;
  const unsigned hardware = std::thread::hardware_concurrency();
  return hardware == 0 ? 1 : static_cast<int>(hardware);
}

/// Calls `body(i)` once for each i in {0, ..., count - 1}, on several threads.
///
/// The cells must be independent: `body` writes only what belongs to cell i (slot i of a vector; not of a
/// `std::vector<bool>`), and takes its random numbers from a stream with index i. Then the results do not
/// depend on the number of threads. Cells are handed out one at a time in increasing order, so that
/// cells of very different cost share the threads well; a cell should cost microseconds or more.
///
/// If calls throw, the exception of the lowest such i is rethrown when all threads have stopped: every cell
/// below it has run, and no new cell is started after a failure was seen. Every thread has the caller's
/// SubnormalMode, and every thread that is started has a stack of at least 2 MiB (WorkerThread). Throws ArgumentError
/// for count < 0 or a negative number of threads. Where the system refuses a thread, the others do the work.
template <class Body>
void parallel_for(Index count, Body&& body, ParallelOptions options = {}) {
  require(count >= 0, "parallel_for needs count >= 0, got ", count);
  const int threads = num_threads(options);

  std::atomic<Index> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::exception_ptr first_error;
  Index first_index = count;

  const SubnormalMode mode = SubnormalMode::of_this_thread();
  const auto work = [&]() noexcept {
    mode.apply();  // not every system hands it down to a new thread
    // A cell that was taken is always run. Cells are taken in order, so the lowest failing one always is.
    while (!failed.load()) {
      const Index i = next.fetch_add(1);
      if (i >= count) return;
      try {
        body(i);
      } catch (...) {
        failed.store(true);
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < first_index) {
          first_index = i;
          first_error = std::current_exception();
        }
      }
    }
  };

  std::vector<WorkerThread> helpers;
  const Index wanted = static_cast<Index>(threads) < count ? static_cast<Index>(threads) : count;
  if (wanted > 1) helpers.reserve(static_cast<std::size_t>(wanted - 1));
  for (Index k = 1; k < wanted; ++k) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {
      break;
    }
  }
  work();
  for (WorkerThread& helper : helpers) helper.join();
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace richflow
