#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <locale>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/solution.hpp"
#include "richflow/integrate/source.hpp"

namespace richflow {

/// What an observer answers.
enum class Action { proceed, stop };

/// What an observer sees after every accepted step. Valid during the call only.
template <class Scalar>
struct StepView {
  Index step;                  ///< accepted steps so far, this one included
  Scalar t_previous;           ///< where the step began
  Scalar t;                    ///< where it ended
  Scalar start;                ///< first time of this run
  Scalar end;                  ///< last time of the span, possibly infinity
  const Vector<Scalar>& y;     ///< state at t
  std::optional<Scalar> loss;  ///< loss at t, if an event needed it
  const Stats& stats;          ///< work so far
  /// What the step saw of the data; null where it is not one of a rule.
  const StepResiduals<Scalar>* residuals = nullptr;
};

/// A callable on a step view that returns an `Action`. One with members `write(detail::CheckpointWriter&) const` and
/// `read(detail::CheckpointReader&)` is kept in the file of a run (CheckpointOptions) and restored with it.
///
///     auto stop_when_large = [](const StepView<double>& view) {
///       return view.y.norm() > 10 ? Action::stop : Action::proceed;
///     };
template <class O, class Scalar>
concept Observer = requires(O& observer, const StepView<Scalar>& view) {
  { observer(view) } -> std::same_as<Action>;
};

/// A reference to an observer, of any type. The observer is not copied: what it counts is there after
/// the run, and it must outlive the run, so a temporary does not compile.
template <class Scalar>
class ObserverRef {
 public:
  /// Refers to `observer`.
  template <class O>
  requires(!std::same_as<std::remove_cv_t<O>, ObserverRef>)
      ObserverRef(O& observer)  // NOLINT(google-explicit-constructor): a list of observers is a list of names
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(observer)))) {
    constexpr bool is_observer = Observer<O, Scalar>;
    static_assert(is_observer, "richflow: an observer must be callable as `Action (const StepView<Scalar>& view)`");
    if constexpr (is_observer)
      call_ = [](void* object, const StepView<Scalar>& view) { return (*static_cast<O*>(object))(view); };
    constexpr bool writes = requires(const O& kept, detail::CheckpointWriter& writer) { kept.write(writer); };
    constexpr bool reads = requires(O & found, detail::CheckpointReader & reader) { found.read(reader); };
    static_assert(writes == reads || std::is_const_v<O>,
                  "richflow: an observer is kept in files by `void write(detail::CheckpointWriter&) const` and `void "
                  "read(detail::CheckpointReader&)`, and one of the two is missing or does not fit");
    if constexpr (writes && reads) {
      write_ = [](const void* object, detail::CheckpointWriter& writer) {
        static_cast<const O*>(object)->write(writer);
      };
      read_ = [](void* object, detail::CheckpointReader& reader) { static_cast<O*>(object)->read(reader); };
    }
  }

  /// Calls the observer.
  Action operator()(const StepView<Scalar>& view) const { return call_(object_, view); }

  /// Whether it is kept in the file of a run.
  [[nodiscard]] bool is_storable() const { return write_ != nullptr; }
  /// What it has counted, to a file and from it.
  void write(detail::CheckpointWriter& writer) const { write_(object_, writer); }
  void read(detail::CheckpointReader& reader) const { read_(object_, reader); }

 private:
  void* object_;
  Action (*call_)(void*, const StepView<Scalar>&) = nullptr;
  void (*write_)(const void*, detail::CheckpointWriter&) = nullptr;
  void (*read_)(void*, detail::CheckpointReader&) = nullptr;
};

/// An observer that reports how far the run is, at most once per `interval`. It is silent unless given
/// somewhere to write.
///
///     Progress progress(std::cerr);
///     integrate(flow, w, span, stepper, controller, {.observers = {progress}});
class Progress {
 public:
  /// The clock of the interval.
  using Clock = std::chrono::steady_clock;

  /// Silent.
  Progress() = default;

  /// Writes one line per report to `stream`, which must outlive the observer.
  explicit Progress(std::ostream& stream, std::chrono::milliseconds interval = std::chrono::milliseconds(500))
      : Progress([&stream](const std::string& line) { stream << line << '\n'
                                                             << std::flush; }, interval) {}

  /// Hands one line per report, without line end, to `write`.
  explicit Progress(std::function<void(const std::string&)> write,
                    std::chrono::milliseconds interval = std::chrono::milliseconds(500))
      : write_(std::move(write)), interval_(interval), last_(Clock::now()) {}

  /// Reports if the interval has passed. Always proceeds.
  template <class Scalar>
  Action operator()(const StepView<Scalar>& view) {
    if (!write_) return Action::proceed;
    const Clock::time_point now = Clock::now();
    if (now - last_ < interval_) return Action::proceed;
    last_ = now;
    write_(line(view));
    return Action::proceed;
  }

 private:
  template <class Scalar>
  static std::string line(const StepView<Scalar>& view) {
    using std::isfinite;
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text.precision(4);
    text << "step " << view.step << "  t " << view.t;
    if (isfinite(view.end)) {
      const double done = static_cast<double>((view.t - view.start) / (view.end - view.start));
      text << " of " << view.end << " (" << static_cast<int>(100 * done) << " %)";
    }
    text << "  h " << view.t - view.t_previous;
    if (view.loss) text << "  loss " << *view.loss;
    return text.str();
  }

  std::function<void(const std::string&)> write_ = {};
  std::chrono::milliseconds interval_ = std::chrono::milliseconds(500);
  Clock::time_point last_ = {};
};

}  // namespace richflow
