#pragma once

#include <concepts>
#include <memory>

#include "richflow/core/error.hpp"
#include "richflow/core/has_member.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/vector_field.hpp"

/// @file
/// Where the gradient of a step comes from, and what a rule sees of it.

namespace richflow {

/// What a step of a rule saw of the data: `grad L_B = J_B^T G` over its batch B, G the derivatives of the loss by
/// the outputs (with label noise, where there was some). Observers that add up residuals read it (StepView).
template <class S>
struct StepResiduals {
  const S* slopes = nullptr;        ///< G, `size` values of a model with one output; null where the source knows none
  const Index* samples = nullptr;   ///< the rows of X, `size` numbers; null: 0, 1, ..., size - 1
  Index size = 0;                   ///< samples of the batch
  S weight = S(1);                  ///< what G is multiplied by: 1, or for gradients of means 1 / size
  S decay = S(0);                   ///< 2 lambda of the step: `2 lambda w` was added to the gradient
  bool has_gradient_noise = false;  ///< whether noise was added that is not `J_B^T` of anything
  S h = S(0);                       ///< length of the step
  double long_run_gain = 0.0;       ///< of the rule; 0 where it has none
};

/// A source of gradients: one for each step k = 0, 1, ... of a run. What step k sees (which samples, which noise) may
/// depend on k and on the seeds of the source alone, so that a run resumed at step k sees what it would have
/// seen. A problem hands one out by `make_source()` (HasSource).
template <class S>
class AnySource {
 public:
  virtual ~AnySource() = default;

  /// Moves to step k, which begins at time t, at w. w stays where and as it is until the step is over, but for steps in
  /// its memory.
  virtual void begin_step(Index k, S t, const Vector<S>& w) = 0;

  /// `target += scale * gradient`, P values.
  virtual void add_gradient(S scale, VectorRef<S> target) = 0;

  /// `w_new = w + scale * gradient`: a step of descent. `w_new` is w itself, where nothing else is asked for before the
  /// next step, or other memory of P values. The next step begins there most of the time, and a source may prepare it
  /// in the same pass. Returns |w_new|^2 where that was made on the way, or else a negative number.
  virtual S descend(S scale, const Vector<S>& w, Vector<S>& w_new) {
    if (&w_new != &w) w_new = w;
    add_gradient(scale, w_new);
    return S(-1);
  }

  /// The same in the memory of w, whose `|w|^2` is at most `square_norm`, only where the new weights are sure to be
  /// finite: then nobody needs the old ones any more. Returns a bound of the new `|w|^2`, or a negative number where no
  /// step was made.
  virtual S descend_safely(S /*scale*/, Vector<S>& /*w*/, S /*square_norm*/) { return S(-1); }

  /// Whether a step in the memory of w may be made: not where the loss of its samples is not a number.
  [[nodiscard]] virtual bool is_sound() const { return true; }

  /// What the step saw, valid until the next `begin_step`. By default nothing is known.
  [[nodiscard]] virtual StepResiduals<S> residuals() { return {}; }
};

/// What a DescentRule sees of the gradient at w.
template <class S>
class StepGradient {
 public:
  /// Refers to a source that is at its step.
  explicit StepGradient(AnySource<S>& source) : source_(source) {}

  /// `target += scale * gradient`.
  void add_to(VectorRef<S> target, S scale) const { source_.add_gradient(scale, target); }

  /// `out = gradient`.
  void write(VectorRef<S> out) const {
    out.setZero();
    source_.add_gradient(S(1), out);
  }

 private:
  AnySource<S>& source_;
};

/// A problem that sees a part of its data in each step of a rule: `make_source()`, a `std::unique_ptr<AnySource>`, and
/// `steps_per_epoch()`. As a vector field it is the flow of all data, `w' = -grad L(w)`.
template <class P>
concept HasSource = VectorField<P> && requires(const P& problem) {
  { problem.make_source() } -> std::convertible_to<std::unique_ptr<AnySource<typename P::Scalar>>>;
  { problem.steps_per_epoch() } -> std::convertible_to<Index>;
};

/// A problem whose gradients are made for the step of `Descent` alone and for no other: `static constexpr bool
/// takes_descent_only = true`.
template <class P>
concept TakesDescentOnly = requires {
  requires P::takes_descent_only;
};

/// A problem whose steps go down more than its `loss`, such as a decay: `static constexpr bool
/// descends_loss_alone = false`.
template <class P>
concept DescendsMoreThanLoss = requires {
  requires !P::descends_loss_alone;
};

namespace detail {

RICHFLOW_DEFINE_HAS_MEMBER(make_source)

}  // namespace detail

}  // namespace richflow
