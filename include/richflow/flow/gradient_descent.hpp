#pragma once

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/vector_field.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// Options of gradient descent.
template <class Scalar = double, class Value = Vector<Scalar>>
struct GradientDescentOptions {
  Scalar step = Scalar(0);                          ///< eta > 0 in `w <- w - eta grad L(w)`; must be given
  Index iterations = 0;                             ///< at most this many, > 0; must be given
  Scalar loss_below = Scalar(0);                    ///< > 0: stop at the first iterate with at most this loss
  SaveAt<Scalar, Value> save_at = {};               ///< what to keep; times are t = eta k
  std::vector<ObserverRef<Scalar>> observers = {};  ///< called after every iteration
  /// Whether a run that cannot come down to `loss_below`, or goes round in a cycle, ends as `stalled` rather than by
  /// its budget.
  bool detect_stall = true;
};

/// Gradient descent `w_{k+1} = w_k - eta grad L(w_k)` on a field `w' = -grad L(w)`: the one time loop with
/// Euler's method and a constant step. In the result `step` is the iteration k and `t` the time of the
/// gradient flow that it stands for, `t = eta k`. L is the plain sum of squares, not halved and not a mean.
///
/// Throws ArgumentError on a step or iteration count that was not given or is out of range. A descent that
/// diverges ends with status `non_finite` at its last finite iterate; one whose iterates go round in a cycle of 2, 4,
/// 8, 16 or 32 (the step is beyond the edge of stability) ends as `stalled`, with a stable step in the message; one
/// that runs out of iterations ends with `reached_end`. Cost: one right-hand side per iteration, and one loss if
/// `loss_below` is given.
template <VectorField Problem, class Value = Vector<typename Problem::Scalar>>
Solution<typename Problem::Scalar, Value> gradient_descent(
    const Problem& problem, ConstVectorRef<typename Problem::Scalar> w0,
    const GradientDescentOptions<typename Problem::Scalar, Value>& options) {
  using std::isfinite;
  using Scalar = typename Problem::Scalar;
  require(isfinite(options.step) && options.step > Scalar(0),
          "gradient descent: step must be given, positive and finite, got ", options.step);
  require(options.iterations > 0, "gradient descent: iterations must be given and positive, got ", options.iterations);
  require(isfinite(options.loss_below) && options.loss_below >= Scalar(0),
          "gradient descent: loss_below must be at least 0, got ", options.loss_below);
  IntegrateOptions<Scalar, Value> run;
  run.save_at = options.save_at;
  run.observers = options.observers;
  run.max_steps = options.iterations;
  run.detect_stall = options.detect_stall;
  if (options.loss_below > Scalar(0)) run.events = {loss_below(options.loss_below).at_step_end()};
  const TimeSpan<Scalar> span{Scalar(0), options.step * Scalar(options.iterations)};
  return integrate(problem, w0, span, Euler{}, ConstantStep<Scalar>{options.step}, run);
}

/// The same for a model on data.
template <Model M, class Value = Vector<typename M::Scalar>>
Solution<typename M::Scalar, Value> gradient_descent(const M& model, const Dataset<typename M::Scalar>& dataset,
                                                     ConstVectorRef<typename M::Scalar> w0,
                                                     const GradientDescentOptions<typename M::Scalar, Value>& options) {
  return gradient_descent(GradientFlow<M>(model, dataset), w0, options);
}

}  // namespace richflow
