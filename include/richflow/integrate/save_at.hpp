#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
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

/// A named function of the state, or of the time and the state, for a table of a run: a number, or a vector of a length
/// that does not change. An immutable value.
///
///     const Quantity<> loss{"loss", [&](const Vector<double>& w) { return flow.loss(w); }};
template <class Scalar = double>
class Quantity {
 public:
  /// `function(y)` or `function(t, y)`. Throws ArgumentError for an empty name.
  template <class F>
  Quantity(std::string name, F function) : name_(std::move(name)) {
    constexpr bool takes_state = std::is_invocable_v<const F&, const Vector<Scalar>&>;
    constexpr bool takes_both = std::is_invocable_v<const F&, Scalar, const Vector<Scalar>&>;
    static_assert(takes_state || takes_both,
                  "richflow: the function of a quantity must be callable as `f(const Vector<Scalar>& y)` or `f(Scalar "
                  "t, const Vector<Scalar>& y)`, and return a number or a vector");
    require(!name_.empty(), "a quantity has an empty name");
    if constexpr (takes_both)
      function_ = [function = std::move(function)](Scalar t, const Vector<Scalar>& y, Vector<Scalar>& out) {
        write(function(t, y), out);
      };
    else if constexpr (takes_state)
      function_ = [function = std::move(function)](Scalar /*t*/, const Vector<Scalar>& y, Vector<Scalar>& out) {
        write(function(y), out);
      };
  }

  /// Name, a column of the table.
  [[nodiscard]] const std::string& name() const { return name_; }
  /// The value at (t, y).
  void operator()(Scalar t, const Vector<Scalar>& y, Vector<Scalar>& out) const { function_(t, y, out); }

 private:
  template <class Value>
  static void write(const Value& value, Vector<Scalar>& out) {
    if constexpr (std::is_convertible_v<Value, Scalar>)
      out = Vector<Scalar>::Constant(1, static_cast<Scalar>(value));
    else
      out = value;
  }

  std::string name_;
  std::function<void(Scalar, const Vector<Scalar>&, Vector<Scalar>&)> function_ = {};
};

/// What a run keeps, and when. The fields add up; a time that two of them ask for is saved once.
///
///     const auto loss = [&](const Vector<double>& w) { return flow.loss(w); };
///     const auto squares = [](double, const Vector<double>& w) -> Vector<double> { return w.cwiseAbs2(); };
///     SaveAt<double, Vector<double>>{.times = {0, 1, 2}, .value = squares}
///     SaveAt<>{.times = log_spaced(1e-3, 1e3, 50), .quantities = {{"loss", loss}, {"squares", squares}}}  // a table
///
/// `times` between steps come from the stepper's interpolant and do not influence the steps.
template <class Scalar = double, class Value = Vector<Scalar>>
struct SaveAt {
  std::vector<Scalar> times = {};  ///< strictly increasing, within the time span
  Index every = 0;                 ///< every so many accepted steps; 0: not
  std::vector<Index> steps = {};   ///< after these numbers of accepted steps; strictly increasing
  bool start = false;              ///< the initial state
  bool end = false;                ///< the state where the run ends, whatever its status
  bool dense = false;              ///< the whole of it, as a function of time: `solution.trajectory(t)`
  /// What to keep, as a function of `(t, y)`; empty: y itself (only if `Value` is the state's type).
  SavedValue<Scalar, Value> value = {};
  /// Named functions, whose values are in the `table` of the solution. With them, and without `value`, no states are
  /// kept.
  std::vector<Quantity<Scalar>> quantities = {};
};

/// Throws ArgumentError unless times and steps increase, the times lie in `[start, end]`, steps and `every` are not
/// negative, and `value` is there if needed and has something to be called for.
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
  for (std::size_t i = 0; i < save_at.steps.size(); ++i)
    require(save_at.steps[i] > (i == 0 ? Index(-1) : save_at.steps[i - 1]),
            "save_at.steps must not be negative and increase strictly, but [", i, "] = ", save_at.steps[i]);
  const bool saves =
      !save_at.times.empty() || !save_at.steps.empty() || save_at.every > 0 || save_at.start || save_at.end;
  require(saves || !(save_at.value || !save_at.quantities.empty()), "save_at.",
          save_at.value ? "value is" : "quantities are",
          " given, but nothing says when: set times, steps, every, start or end");
  if constexpr (!std::is_same_v<Value, Vector<Scalar>>)
    require(!saves || static_cast<bool>(save_at.value) || !save_at.quantities.empty(),
            "save_at.value must be given, because the saved type is not the state's");
}

}  // namespace richflow
