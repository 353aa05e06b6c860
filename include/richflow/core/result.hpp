#pragma once

#include <string>
#include <utility>

#include "richflow/core/error.hpp"

namespace richflow {

/// The common base of all results: `ok()`, a sentence on how it ended (`message`), and `require_ok()`, which throws
/// where it did not succeed. `Derived` has `bool ok() const` and a `message`, a member or a function.
template <class Derived>
class Result {
 public:
  /// The result itself. Throws ConvergenceError with the message unless `ok()`.
  const Derived& require_ok() const& {
    check();
    return self();
  }
  /// The same for a temporary result, by value: `for (double b : path.solve(s).require_ok().beta)` is sound.
  Derived require_ok() && {
    check();
    return std::move(static_cast<Derived&>(*this));
  }
  /// The same for a constant one.
  Derived require_ok() const&& {
    check();
    return self();
  }

  friend bool operator==(const Result&, const Result&) = default;

 private:
  [[nodiscard]] const Derived& self() const { return static_cast<const Derived&>(*this); }

  void check() const {
    if (self().ok()) return;
    if constexpr (requires { self().message(); })
      throw ConvergenceError(self().message());
    else
      throw ConvergenceError(self().message);
  }
};

}  // namespace richflow
