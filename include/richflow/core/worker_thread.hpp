#pragma once

#include <cstddef>
#include <system_error>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define RICHFLOW_HAS_PTHREAD
#else
#include <thread>
#endif

namespace richflow {

/// A thread with a stack of at least 2 MiB, whatever the system gives by default (128 KiB with musl, 512 KiB on macOS,
/// `ulimit -s` with glibc): Eigen's products keep up to 256 KiB on it. Where there are no POSIX threads, the default of
/// the system. Must be joined before it is destroyed.
class WorkerThread {
 public:
  /// Bytes of stack, unless the default of the system is larger.
  static constexpr std::size_t min_stack_bytes = std::size_t(2) << 20;

  /// Starts `work()`, which must not throw and must outlive the thread. Throws std::system_error where the system
  /// refuses a thread.
  template <class Work>
  explicit WorkerThread(Work& work) {
#if defined(RICHFLOW_HAS_PTHREAD)
    start(
        [](void* w) -> void* {
          (*static_cast<Work*>(w))();
          return nullptr;
        },
        const_cast<void*>(static_cast<const void*>(&work)));
#else
    thread_ = std::thread([&work] { work(); });
#endif
  }

#if defined(RICHFLOW_HAS_PTHREAD)
  /// Waits for its end.
  void join() { pthread_join(thread_, nullptr); }

 private:
  void start(void* (*function)(void*), void* argument) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error == 0) {
      std::size_t bytes = 0;
      if (pthread_attr_getstacksize(&attributes, &bytes) == 0 && bytes < min_stack_bytes)
        error = pthread_attr_setstacksize(&attributes, min_stack_bytes);
      if (error == 0) error = pthread_create(&thread_, &attributes, function, argument);
      pthread_attr_destroy(&attributes);
    }
    if (error != 0) throw std::system_error(error, std::generic_category(), "no further thread");
  }

  pthread_t thread_ = {};
#else
  /// Waits for its end.
  void join() { thread_.join(); }

 private:
  std::thread thread_ = {};
#endif
};

}  // namespace richflow

#undef RICHFLOW_HAS_PTHREAD
