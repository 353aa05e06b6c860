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

/// A source of gradients: one for each step k = 0, 1, ... of a run. What step k sees (which samples, which noise) may
/// depend on k and on the seeds of the source alone, so that a run that goes on from step k sees what it would have
/// seen. A problem hands one out by `make_source()` (HasSource).
template <class S>
class AnySource {
 public:
  virtual ~AnySource() = default;

  /// Moves to step k, which begins at time t, at w. w stays where and as it is until the step is over.
  virtual void begin_step(Index k, S t, const Vector<S>& w) = 0;

  /// `target += scale * gradient`, P values.
  virtual void add_gradient(S scale, VectorRef<S> target) = 0;
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

namespace detail {

RICHFLOW_DEFINE_HAS_MEMBER(make_source)

}  // namespace detail

}  // namespace richflow
