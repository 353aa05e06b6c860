#pragma once

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

namespace richflow::testing {

/// One property, with the measured number and the bound it must keep.
struct BatteryCheck {
  std::string name = {};
  double measured = 0;
  double bound = 0;
  bool passed = false;
};

/// What a battery of checks found.
struct BatteryReport {
  std::vector<BatteryCheck> checks = {};

  /// True if every check passed, and there was one.
  [[nodiscard]] bool ok() const {
    return !checks.empty() &&
           std::all_of(checks.begin(), checks.end(), [](const BatteryCheck& check) { return check.passed; });
  }
};

/// One line per check.
inline std::ostream& operator<<(std::ostream& stream, const BatteryReport& report) {
  for (const BatteryCheck& check : report.checks)
    stream << (check.passed ? "passed  " : "FAILED  ") << check.name << ": " << check.measured << ", at most "
           << check.bound << '\n';
  return stream;
}

}  // namespace richflow::testing
