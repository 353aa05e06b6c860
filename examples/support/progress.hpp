#pragma once

#include <chrono>
#include <mutex>
#include <string>

/// @file
/// Progress of long computations, on the terminal.

namespace richflow::examples {

/// A bar on stderr with the share done, the rate and the remaining time; silent when stderr is not a terminal.
/// `finish` may be called from several threads. The bar clears its line when it goes away.
class Progress {
 public:
  /// Tasks of `total_cost` together, in any unit; the remaining time is guessed from the costs.
  Progress(std::string label, double total_cost);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Counts one finished task of this cost.
  void finish(double cost = 1.0);

 private:
  void draw(double seconds) const;

  using Clock = std::chrono::steady_clock;

  std::mutex mutex_;
  std::string label_;
  double total_cost_;
  double done_cost_ = 0.0;
  int done_tasks_ = 0;
  bool visible_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = {};
};

/// The text of the bar: `label [####    ]  50 %  12.3 tasks/s  0:07 left`; `share` is in [0, 1].
[[nodiscard]] std::string progress_line(const std::string& label, double share, int tasks, double seconds);

}  // namespace richflow::examples
