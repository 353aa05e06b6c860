#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/types.hpp"
#include "richflow/core/worker_thread.hpp"

/// @file
/// Sweeps over MPI. Not a part of `richflow/richflow.hpp`: it needs an MPI library (in CMake: link
/// `MPI::MPI_CXX` as well).

namespace richflow {

/// Computes the cells of `run_sweep` on all processes of a communicator, which all call it with the same sweep and
/// function; it returns the same result on each of them. The first process keeps the results file. Cells are handed
/// out one at a time to whichever thread is free, there and elsewhere, so that cells of different cost share the
/// machine well.
///
/// MPI must be initialized with `MPI_THREAD_FUNNELED` or more, and sweeps must run on the thread that did it. Under an
/// MPI launcher one process per core, of one thread each, is usual; `threads` is the number for each process. If a
/// process dies, MPI ends them all; a run with `resume` continues from there.
class MpiExecutor {
 public:
  /// Throws ArgumentError when MPI is not initialized, or without support for threads, or for a negative number of
  /// threads. All processes of `parent` must call it.
  explicit MpiExecutor(MPI_Comm parent = MPI_COMM_WORLD, ParallelOptions options = {.threads = 1})
      : threads_(num_threads(options)) {
    int initialized = 0;
    MPI_Initialized(&initialized);
    require(initialized != 0, "MpiExecutor needs MPI_Init_thread before it");
    int support = MPI_THREAD_SINGLE;
    MPI_Query_thread(&support);
    require(support >= MPI_THREAD_FUNNELED, "MpiExecutor needs MPI with MPI_THREAD_FUNNELED or more");
    MPI_Comm_dup(parent, &comm_);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiExecutor() { MPI_Comm_free(&comm_); }
  MpiExecutor(const MpiExecutor&) = delete;
  MpiExecutor& operator=(const MpiExecutor&) = delete;

  [[nodiscard]] bool is_root() const { return rank_ == 0; }

  /// Processes of the communicator.
  [[nodiscard]] int size() const { return size_; }

  /// The root's `text`, on every process.
  [[nodiscard]] std::string broadcast(std::string text) {
    std::uint64_t length = text.size();
    MPI_Bcast(&length, 1, MPI_UINT64_T, 0, comm_);
    text.resize(length);
    constexpr std::uint64_t chunk = std::uint64_t{1} << 28U;
    for (std::uint64_t begin = 0; begin < length; begin += chunk)
      MPI_Bcast(text.data() + begin, static_cast<int>(std::min(chunk, length - begin)), MPI_CHAR, 0, comm_);
    return text;
  }

  /// See SweepExecutor.
  template <class Compute, class Record>
  void map(const std::vector<Index>& todo, Compute&& compute, Record&& record) {
    Threads threads(threads_, compute);
    if (is_root())
      hand_out(todo, threads, record);
    else
      work(threads);
  }

 private:
  enum Tag : int { request = 1, result, cell, stop };

  /// The computing threads of this process: cells go in, texts come out. MPI is left to the calling thread.
  class Threads {
   public:
    template <class Compute>
    Threads(int count, Compute& compute)
        : work_([this, &compute, mode = SubnormalMode::of_this_thread()] {
            mode.apply();
            run(compute);
          }) {
      threads_.reserve(static_cast<std::size_t>(count));
      for (int k = 0; k < count; ++k) {
        try {
          threads_.emplace_back(work_);
        } catch (const std::system_error&) {
          if (k == 0) throw;
          break;
        }
      }
    }
    ~Threads() {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
      }
      wake_.notify_all();
      for (WorkerThread& thread : threads_) thread.join();
    }
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

    [[nodiscard]] int count() const { return static_cast<int>(threads_.size()); }

    void give(Index cell) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        cells_.push_back(cell);
      }
      wake_.notify_one();
    }

    /// What is finished; waits a moment when that is nothing.
    [[nodiscard]] std::deque<std::string> take(bool wait) {
      std::unique_lock<std::mutex> lock(mutex_);
      if (wait) finished_.wait_for(lock, std::chrono::microseconds(100), [&] { return !texts_.empty(); });
      std::deque<std::string> texts;
      texts.swap(texts_);
      return texts;
    }

   private:
    template <class Compute>
    void run(Compute& compute) {
      std::unique_lock<std::mutex> lock(mutex_);
      for (;;) {
        wake_.wait(lock, [&] { return stopping_ || !cells_.empty(); });
        if (stopping_) return;
        const Index cell = cells_.front();
        cells_.pop_front();
        lock.unlock();
        std::string text = compute(cell);
        lock.lock();
        texts_.push_back(std::move(text));
        finished_.notify_one();
      }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable finished_;
    std::deque<Index> cells_;
    std::deque<std::string> texts_;
    bool stopping_ = false;
    std::function<void()> work_;
    std::vector<WorkerThread> threads_;
  };

  [[nodiscard]] bool receive(int source, int& from, int& tag, std::string& text) {
    int arrived = 0;
    MPI_Status status;
    MPI_Iprobe(source, MPI_ANY_TAG, comm_, &arrived, &status);
    if (arrived == 0) return false;
    int length = 0;
    MPI_Get_count(&status, MPI_CHAR, &length);
    text.resize(static_cast<std::size_t>(length));
    from = status.MPI_SOURCE;
    tag = status.MPI_TAG;
    MPI_Recv(text.data(), length, MPI_CHAR, from, tag, comm_, MPI_STATUS_IGNORE);
    return true;
  }

  void send(int to, Tag tag, const std::string& text) {
    MPI_Send(text.data(), static_cast<int>(text.size()), MPI_CHAR, to, tag, comm_);
  }

  template <class Record>
  void hand_out(const std::vector<Index>& todo, Threads& threads, Record& record) {
    std::exception_ptr error;
    std::size_t next = 0;
    const auto take_record = [&](const std::string& text) {
      if (error) return;
      try {
        record(text);
      } catch (...) {
        error = std::current_exception();
        next = todo.size();
      }
    };
    int local = 0;
    for (; local < threads.count() && next < todo.size(); ++local) threads.give(todo[next++]);

    int asking = 0;  // threads elsewhere that were not yet told to stop
    for (int rank = 1; rank < size_; ++rank) {
      int count = 0;
      MPI_Recv(&count, 1, MPI_INT, rank, request, comm_, MPI_STATUS_IGNORE);
      asking += count;
      for (int k = 0; k < count; ++k) asking -= answer(rank, todo, next) ? 0 : 1;
    }
    while (local > 0 || asking > 0) {
      bool idle = true;
      int from = 0;
      int tag = 0;
      for (std::string text; receive(MPI_ANY_SOURCE, from, tag, text); idle = false) {
        take_record(text);
        if (!answer(from, todo, next)) --asking;
      }
      for (const std::string& text : threads.take(idle)) {
        take_record(text);
        if (next < todo.size())
          threads.give(todo[next++]);
        else
          --local;
      }
    }
    if (error) std::rethrow_exception(error);
  }

  /// A cell for a thread of `rank`, or the word that there is none left.
  bool answer(int rank, const std::vector<Index>& todo, std::size_t& next) {
    if (next >= todo.size()) {
      send(rank, stop, {});
      return false;
    }
    send(rank, cell, std::to_string(todo[next++]));
    return true;
  }

  void work(Threads& threads) {
    int asking = threads.count();
    MPI_Send(&asking, 1, MPI_INT, 0, request, comm_);
    while (asking > 0) {
      bool idle = true;
      int from = 0;
      int tag = 0;
      for (std::string text; asking > 0 && receive(0, from, tag, text); idle = false) {
        if (tag == cell)
          threads.give(static_cast<Index>(std::stoll(text)));
        else
          --asking;
      }
      for (const std::string& text : threads.take(idle)) send(0, result, text);
    }
  }

  int threads_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace richflow
