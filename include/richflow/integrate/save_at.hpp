#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// A function `(t, y)` that says what is kept, or none.
template <class Scalar, class Value>
class SavedValue {
 public:
  /// None.
  SavedValue() = default;
  /// That function.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, SavedValue>) SavedValue(F&& function) {  // NOLINT: as std::function
    constexpr bool fits = std::is_invocable_r_v<Value, F&, Scalar, const Vector<Scalar>&>;
    static_assert(fits,
                  "richflow: save_at.value must be callable as `Value (Scalar t, const Vector<Scalar>& y)`; where it "
                  "returns something else than the state, spell the type out: IntegrateOptions<double, double>{...}");
    if constexpr (fits) function_ = std::forward<F>(function);
  }

  /// Whether there is one.
  explicit operator bool() const { return static_cast<bool>(function_); }
  /// Calls it.
  Value operator()(Scalar t, const Vector<Scalar>& y) const { return function_(t, y); }

 private:
  std::function<Value(Scalar, const Vector<Scalar>&)> function_ = {};
};

/// What a run keeps, and when. The fields add up; a time that two of them ask for is saved once.
///
///     SaveAt<double, Vector<double>>{.times = {0, 1, 2}, .value = [&](double, const auto& w) { return model.beta(w);
///     }}
///
/// `times` between steps come from the stepper's interpolant and do not influence the steps.
template <class Scalar = double, class Value = Vector<Scalar>>
struct SaveAt {
  std::vector<Scalar> times = {};  ///< strictly increasing, within the time span
  Index every = 0;                 ///< every so many accepted steps; 0: not
  bool start = false;              ///< the initial state
  bool end = false;                ///< the state where the run ends, whatever its status
  /// What to keep, as a function of `(t, y)`; empty: y itself (only if `Value` is the state's type).
  SavedValue<Scalar, Value> value = {};
};

/// Throws ArgumentError unless the times increase and lie in `[start, end]`, and `value` is there if
/// needed and has something to be called for.
template <class Scalar, class Value>
void check(const SaveAt<Scalar, Value>& save_at, Scalar start, Scalar end) {
  using std::isfinite;
  for (std::size_t i = 0; i < save_at.times.size(); ++i) {
    const Scalar& time = save_at.times[i];
    require(isfinite(time) && time >= start && time <= end, "save_at.times[", i, "] = ", time,
            " is not in the time span [", start, ", ", end, "]");
    require(i == 0 || time > save_at.times[i - 1], "save_at.times must increase strictly, but [", i, "] = ", time);
  }
  require(save_at.every >= 0, "save_at.every must be at least 0, got ", save_at.every);
  const bool saves = !save_at.times.empty() || save_at.every > 0 || save_at.start || save_at.end;
  require(saves || !save_at.value, "save_at.value is given, but nothing says when: set times, every, start or end");
  if constexpr (!std::is_same_v<Value, Vector<Scalar>>)
    require(!saves || static_cast<bool>(save_at.value),
            "save_at.value must be given, because the saved type is not the state's");
}

}  // namespace richflow
