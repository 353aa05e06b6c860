#include "progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "text.hpp"

namespace richflow::examples {

std::string progress_line(const std::string& label, double share, int tasks, double seconds) {
  constexpr int width = 28;
  share = std::clamp(share, 0.0, 1.0);
  const auto filled = static_cast<std::size_t>(std::lround(share * width));
  std::array<char, 64> percent{};
  std::snprintf(percent.data(), percent.size(), "%3.0f %%", 100.0 * share);
  std::string line = label + " [" + std::string(filled, '#') + std::string(width - filled, ' ') + "] " + percent.data();
  if (share > 0.0 && seconds > 0.0)
    line +=
        "  " + short_number(tasks / seconds, 3) + " tasks/s  " + clock_time(seconds * (1.0 - share) / share) + " left";
  return line;
}

Progress::Progress(std::string label, double total_cost)
    : label_(std::move(label)), total_cost_(total_cost), visible_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

void Progress::finish(double cost) {
  const std::lock_guard<std::mutex> lock(mutex_);
  done_cost_ += cost;
  ++done_tasks_;
  if (!visible_) return;
  const Clock::time_point now = Clock::now();
  if (now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  draw(std::chrono::duration<double>(now - start_).count());
}

void Progress::draw(double seconds) const {
  const double share = total_cost_ > 0.0 ? done_cost_ / total_cost_ : 1.0;
  const std::string line = "\r\x1b[K" + progress_line(label_, share, done_tasks_, seconds);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace richflow::examples
