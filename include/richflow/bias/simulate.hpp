#pragma once

#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/bias/regularizer.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/table.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_rosenbrock.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/relaxed_euler.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/linalg/cholesky.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/orthonormal_rows.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/regularizers/mirror_map.hpp"

/// @file
/// The first of the two verbs: `simulate(net, data, start)`, what gradient flow does. It chooses the problem, the
/// stepper and the tolerance that measured best, and says what it chose; with `integrate` you choose.

namespace richflow {

/// How far `simulate` goes, and what it keeps. Everything has a default.
///
///     simulate(net, data, start, {.loss = 1e-8})              // until L <= 1e-8
///     simulate(net, data, start, {.times = {0.1, 1, 10}})     // beta at these times, and no further
template <class S = double>
struct SimulateOptions {
  /// Stop when the loss, `L = |f(w, X) - y|^2`, is at most this. 0: at rounding, `L <= epsilon |y|^2` (or of what it is
  /// at the start, if that is more), a residual of 1.5e-8 |y| in double; or never, where `times` or `max_time` say how
  /// far.
  S loss = S(0);
  /// Of the local errors, relative: of beta, or of each weight or unit where the weights are followed. 0: 1e-4, and for
  /// weights 1e-3.
  S tolerance = S(0);
  /// The end of time. Infinity: until the loss is reached, or the last of `times`.
  S max_time = std::numeric_limits<S>::infinity();
  /// Increasing times at which beta (or w) is kept in `values`.
  std::vector<S> times = {};
  /// Named functions of beta, or of the weights where the model is not a diagonal net: their values at `times`, or
  /// after every step where no times are given, are in the `table` of the result, and no other values are kept.
  std::vector<Quantity<S>> quantities = {};
  /// A file from which a killed run resumes when it is called again. A second run (see `simulate` of any model) has a
  /// file of its own beside it: ".explicit" after the name where explicit steps come first, ".slow" and ".sign" for
  /// RelaxedEuler, ".weights" where a deep net's weights are followed in place of its dual
  /// variables. All of them belong to this call alone: delete them with the file.
  CheckpointOptions<S> checkpoint = {};
  /// Called after every accepted step; what they see as y is the state of the problem that was chosen.
  std::vector<ObserverRef<S>> observers = {};
  /// Attempted steps; where there is a second run (see `simulate` of any model), of each.
  Index max_steps = 100'000;
};

/// The record of a simulated flow: what `simulate` returns for any model.
template <class S = double>
struct SimulationRecord {
  Vector<S> w = {};                    ///< Final weights, P. What is below the normal numbers may be 0.
  S t = S(0);                          ///< Final time.
  Index steps = 0;                     ///< Accepted steps.
  S loss = S(0);                       ///< Final loss.
  std::vector<S> times = {};           ///< When values were kept.
  std::vector<Vector<S>> values = {};  ///< What was kept: beta of a diagonal net, w of other models.
  Table<S> table = Table<S>();         ///< The `quantities`, with the times.
  Stats stats = {};                    ///< Work.
  Status status = Status::stalled;     ///< event (the loss was reached), reached_end, or what went wrong.
  std::string method = {};             ///< The problem, stepper and tolerance that were chosen.
  std::string message = {};            ///< How it ended, with these numbers.

  /// Whether it went as far as was asked.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

/// The end of the simulated flow of a diagonal net, in the words of `Limit`.
template <class S = double>
struct [[nodiscard]] Simulation : LinearPrediction<S>, SimulationRecord<S>, Result<Simulation<S>> {
  Vector<S> nu = {};  ///< Dual variables, N, with `grad Q(beta) = X^T nu`; empty where the weights were followed.
};

/// The end of the simulated flow of any model.
template <class M>
struct [[nodiscard]] ModelSimulation : SimulationRecord<typename M::Scalar>, Result<ModelSimulation<M>> {
  using Scalar = typename M::Scalar;

  explicit ModelSimulation(M shape) : model(std::move(shape)) {}

  M model;  ///< Its shape.

  /// `f(w, X)`, N values (N x K for a model with K outputs), for X of shape N x d, or N measurements.
  template <class X>
  [[nodiscard]] auto f(const X& samples) const {
    const Index N = Samples<Scalar>(samples).size();
    if constexpr (HasOutputs<M>) {
      Matrix<Scalar> out(N, model.num_outputs());
      model.predict(this->w, samples, out);
      return out;
    } else {
      Vector<Scalar> out(N);
      model.predict(this->w, samples, out);
      return out;
    }
  }
};

namespace detail {

/// See `simulate`. `z` is set to `X^T nu` at the end.
template <class S, class Mirror>
[[nodiscard]] Simulation<S> simulate_dual(const Mirror& Q, const Dataset<S>& data, const SimulateOptions<S>& options,
                                          Vector<S>& z);

/// (w_+, w_-) at the mirror variables z of a diagonal net.
template <class S>
[[nodiscard]] Vector<S> diagonal_weights(const ImplicitRegularizer<S>& Q, const Start<S>& start, const Vector<S>& z);

/// (u_+, v_+, u_-, v_-) at the mirror variables z of a two-layer net.
template <class S>
[[nodiscard]] Vector<S> two_layer_weights(const Start<S>& start, const Vector<S>& z);

/// See `simulate`. `may_be_deep`: D >= 3 is possible. (At depth 2 nothing of what follows weights is compiled.)
template <class S, bool may_be_deep>
[[nodiscard]] Simulation<S> simulate_diagonal(Index depth, Index d, const Dataset<S>& data, const Start<S>& start,
                                              const SimulateOptions<S>& options);
template <class S>
[[nodiscard]] Simulation<S> simulate_two_layer(Index d, const Dataset<S>& data, const Start<S>& start,
                                               const SimulateOptions<S>& options);

/// The status of a run on the weights: stalled unless `grad Q(beta)` is in the row space of X, as it is along
/// the flow, up to the errors of the steps.
template <class S>
void judge_weights(const ImplicitRegularizer<S>& Q, const Dataset<S>& data, Simulation<S>& result);

template <class S>
[[nodiscard]] bool has_digits(const ImplicitRegularizer<S>& Q);

/// Where a run ends: the loss, 0 for none, and the time.
template <class S>
struct SimulationEnd {
  S loss;
  S time;
};
template <class S>
[[nodiscard]] SimulationEnd<S> end_of(const SimulateOptions<S>& options, S size);

/// Whether nothing but the loss at rounding ends the run.
template <class S>
[[nodiscard]] bool is_until_fit(const SimulateOptions<S>& options);

/// Throws InfeasibleError when no beta fits y.
template <class S>
void require_solution(const Dataset<S>& data);

/// Allowed errors of the residual, in relative tolerances of the weights: the time at which a loss is reached is then
/// good to some thirty tolerances, for a fifth more steps.
inline constexpr int residual_share = 100;

/// A change of the residual in units of what is allowed. `relative_size`: the size of the weights over that of their
/// change, since what rounding makes of them is allowed.
template <class S>
[[nodiscard]] S residual_ratio(const Vector<S>& residual, const Vector<S>& change, S relative_size, S size,
                               const Tolerance<S>& tolerance) {
  using std::sqrt;
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  const S moved = norm(change);
  const S allowed = S(residual_share) * tolerance.relative * (norm(residual) + sqrt(epsilon) * size);
  return moved / (allowed + S(64) * epsilon * (size + moved * relative_size));
}

/// Runs a flow from `y0`; what is kept of y is `value(y)`. `given_up`: a further event. Returns the name of the event
/// that has ended it.
template <class S, class Flow, class St, class Kept>
std::string run_simulation(const Flow& flow, const Vector<S>& y0, const St& stepper, PiController<S> controller, S size,
                           const SimulateOptions<S>& options, const Kept& kept, SimulationRecord<S>& out, Vector<S>& y,
                           const Event<S>* given_up = nullptr) {
  const SimulationEnd<S> end = end_of(options, size);
  IntegrateOptions<S> run;
  run.save_at.times = options.times;
  if (!options.quantities.empty()) {
    run.save_at.every = options.times.empty() ? 1 : 0;
    run.save_at.start = run.save_at.end = options.times.empty();
    for (const Quantity<S>& quantity : options.quantities)
      run.save_at.quantities.emplace_back(quantity.name(), [&](S t, const Vector<S>& state) {
        Vector<S> value;
        quantity(t, kept(state), value);
        return value;
      });
  } else if (!options.times.empty()) {
    run.save_at.value = [&](S, const Vector<S>& state) { return kept(state); };
  }
  run.checkpoint = options.checkpoint;
  if (end.loss > S(0)) run.events = {loss_below(end.loss)};
  // Between its steps the fast directions are not relaxed.
  if (std::is_same_v<St, RelaxedEuler>)
    for (Event<S>& event : run.events) event = event.at_step_end();
  if (given_up != nullptr) run.events.push_back(given_up->at_step_end());
  run.observers = options.observers;
  run.max_steps = options.max_steps;
  auto solution = integrate(flow, y0, TimeSpan<S>{S(0), end.time}, stepper, controller, run);
  out.t = solution.t;
  out.steps = solution.step;
  out.loss = flow.loss(solution.w);
  out.table = std::move(solution.table);
  out.times = std::move(solution.times);
  out.values = std::move(solution.values);
  out.stats = solution.stats;
  out.status = solution.status;
  out.message = std::move(solution.message);
  y = std::move(solution.w);
  return std::move(solution.event_name);
}

/// Watches explicit steps and gives them up at step `most`, or once they are stiff: when in four windows of 50 steps in
/// a row stability limits their length, `h lambda_max(-F') > 2.5`, and at their pace the run would take more than twice
/// `most` steps. The time left to a loss counts only where its rate changes no faster than the loss: on the way to a
/// plateau and off it, it changes faster.
template <class S>
class StiffnessWatch {
 public:
  StiffnessWatch(const AnyField<S>& field, const SimulationEnd<S>& end, Index most)
      : field_(field), end_(end), most_(most) {}

  Action operator()(const StepView<S>& view);

  /// Ends the run, as an event and not as an observer: a run that an event has ended takes no step when called again.
  [[nodiscard]] Event<S> event() const {
    return condition<S>("explicit steps are given up", [this](S, const Vector<S>&) { return step_ > 0; });
  }

  /// "was given up at step ...", and why.
  [[nodiscard]] std::string text() const;

  void write(CheckpointWriter& writer) const { for_each_field(writer, *this); }
  void read(CheckpointReader& reader) { for_each_field(reader, *this); }

 private:
  static constexpr Index window = 50;

  template <class Archive, class Self>
  static void for_each_field(Archive& archive, Self& self) {
    archive.field("watch_t", self.t_);
    archive.field("watch_loss", self.loss_);
    archive.field("watch_rate", self.rate_);
    archive.field("watch_hits", self.hits_);
    archive.field("watch_step", self.step_);
    archive.field("watch_length", self.length_);
  }

  /// The largest rate of F at w, by power iteration with differences.
  [[nodiscard]] S largest_rate(const Vector<S>& w) const;

  const AnyField<S>& field_;
  const SimulationEnd<S> end_;
  const Index most_;
  // At the end of the last window.
  S t_ = S(0);
  S loss_ = S(0);
  S rate_ = S(0);
  Index hits_ = 0;
  Index step_ = 0;   // at which it was given up
  S length_ = S(0);  // of its steps then, if they are stiff
};

/// The gradient flow under the squared loss with steps whose errors are small beside the residual, too. Where the loss
/// is below the square of their tolerance the weights hardly move, so that errors of the weights alone would leave the
/// residual, and the time at which a loss is reached, to chance.
template <class M, class L>
class TimedGradientFlow : public GradientFlow<M, L> {
 public:
  using Scalar = typename M::Scalar;

  /// Residuals count absolutely where they are smaller than the rounding of `size`.
  TimedGradientFlow(const GradientFlow<M, L>& flow, Scalar size)
      : GradientFlow<M, L>(flow.model(), flow.dataset()),
        weights_(flow),
        size_(size),
        residual_(flow.num_residuals()),
        change_(flow.num_residuals()) {}

  /// The larger of the errors of the weights and of the residual.
  [[nodiscard]] Scalar error_ratio(const Vector<Scalar>& w, const Vector<Scalar>& w_new, const Vector<Scalar>& error,
                                   const Tolerance<Scalar>& tolerance) const {
    const Scalar of_weights = error_ratio_of(weights_, w, w_new, error, tolerance);
    const Scalar moved = norm(error);
    if (!(of_weights <= Scalar(1)) || !(moved > Scalar(0))) return of_weights;
    this->residual(w_new, residual_);
    this->jvp(w_new, error, change_);
    return std::max(residual_ratio<Scalar>(residual_, change_, norm(w_new) / moved, size_, tolerance), of_weights);
  }

 private:
  const GradientFlow<M, L>& weights_;
  Scalar size_;
  mutable Vector<Scalar> residual_;
  mutable Vector<Scalar> change_;
};

}  // namespace detail

namespace detail {

/// The gradient flow of any model under the squared loss, so that what follows is compiled once.
template <class S>
class SlowFlow {
 public:
  using Scalar = S;
  static constexpr bool has_curvature = true;

  explicit SlowFlow(const AnyTangentField<S>& field) : field_(field) {}

  [[nodiscard]] Index dimension() const { return field_.dimension(); }
  void operator()(S t, ConstVectorRef<S> w, VectorRef<S> dw) const { field_(t, w, dw); }
  [[nodiscard]] S loss(ConstVectorRef<S> w) const { return field_.loss(w); }
  [[nodiscard]] S error_ratio(const Vector<S>& w, const Vector<S>& w_new, const Vector<S>& error,
                              const Tolerance<S>& tolerance) const {
    return field_.error_ratio(w, w_new, error, tolerance);
  }
  [[nodiscard]] GaussNewtonTangent<S> make_tangent() const { return field_.make_tangent(); }

 private:
  const AnyTangentField<S>& field_;
};

/// The sign of det A for a square matrix A; 0 where rounding may have made it.
template <class S>
[[nodiscard]] int determinant_sign(const Matrix<S>& A);

/// The sign of det M, which the flow of balanced layers conserves: the singular values of each layer are those of M to
/// the power 1 / L, and `(log |det M|)'` is bounded where they are, L >= 2 (docs/theory.md, section 5.5).
template <class S>
struct ConservedSign {
  std::function<Matrix<S>(const Vector<S>&)> matrix = {};
  int sign = 0;                            ///< 0: M is not square, or singular up to rounding.
  std::function<bool()> is_balanced = {};  ///< Whether the layers are at the start.

  /// Whether det M at w has the other sign. (Balance takes memory for the square of the widths, so it is checked last.)
  [[nodiscard]] bool is_flipped(const Vector<S>& w) const {
    return sign != 0 && determinant_sign<S>(matrix(w)) == -sign && is_balanced();
  }
};

/// The sign that a model whose layers make a matrix conserves; 0 for any other model.
template <class M>
[[nodiscard]] ConservedSign<typename M::Scalar> conserved_sign(const M& model, const Vector<typename M::Scalar>& w0) {
  using S = typename M::Scalar;
  ConservedSign<S> conserved;
  if constexpr (HasInvariant<M> && requires {
                  { model.product(w0) } -> std::same_as<Matrix<S>>;
                }) {
    const Matrix<S> start = model.product(w0);
    if (start.rows() != start.cols()) return conserved;
    conserved.matrix = [model](const Vector<S>& w) { return model.product(w); };
    conserved.sign = determinant_sign(start);
    conserved.is_balanced = [model, w0] {
      constexpr S rounding = S(256) * std::numeric_limits<S>::epsilon();
      return norm(model.invariant(w0)) <= rounding * w0.squaredNorm();
    };
  }
  return conserved;
}

/// A second run, of a small model, from the start by RelaxedEuler, if the run in `result` did not reach its end or
/// reached one with another sign than the conserved one. It replaces `result` if it reaches its end. If `result` ended
/// with another sign and finer steps lose the sign, too, the finer run replaces it, up to where it does, as stalled.
/// Not with observers, which see one run only.
template <class S>
void follow_slowly(const AnyTangentField<S>& field, const Vector<S>& w0, const PiController<S>& controller, S size,
                   const SimulateOptions<S>& options, const std::function<Vector<S>(const Vector<S>&)>& kept,
                   const ConservedSign<S>& conserved, SimulationRecord<S>& result);

/// See `simulate`; `absolute`: the size of a weight below which errors count absolutely; `kept(w)` is what is kept.
template <class M, class L, class Kept>
[[nodiscard]] ModelSimulation<M> simulate_weights(const GradientFlow<M, L>& flow, const Vector<typename M::Scalar>& w0,
                                                  const SimulateOptions<typename M::Scalar>& options,
                                                  typename M::Scalar absolute, const Kept& kept) {
  using S = typename M::Scalar;
  using std::isfinite;
  using std::sqrt;
  constexpr bool is_squared = std::is_same_v<L, SquaredLoss<S>>;
  require(is_squared || options.loss > S(0) || isfinite(options.max_time) || !options.times.empty(),
          "simulate: under a loss other than the squared one say where to stop: loss, max_time or times");
  ModelSimulation<M> result(flow.model());
  PiController<S> controller;
  const S relative = options.tolerance > S(0) ? options.tolerance : S(1e-3);
  controller.tolerance = {relative, relative * absolute};
  const S size = is_squared ? std::max<S>(flow.dataset().Y().norm(), sqrt(flow.loss(w0))) : S(1);
  const SimulationEnd<S> end = end_of(options, size);
  // Coarser steps give no accurate times, and need not pay for them.
  const bool is_timed = is_squared && relative < S(1e-6) && end.loss > S(0);
  const auto run_on = [&](const auto& followed, const char* name, const auto& stepper, const SimulateOptions<S>& chosen,
                          const Event<S>* given_up) {
    std::string event =
        run_simulation<S>(followed, w0, stepper, controller, size, chosen, kept, result, result.w, given_up);
    result.method = sentence("the gradient flow of the ", flow.dimension(), " weights by ", name,
                             ", errors relative to each ", HasUnits<M> ? "unit" : "weight", " within ", relative);
    if constexpr (!std::is_same_v<decltype(followed), const GradientFlow<M, L>&>)
      result.method += sentence(", to the residual within ", S(residual_share) * relative);
    return event;
  };
  const auto run = [&](const char* name, const auto& stepper) { run_on(flow, name, stepper, options, nullptr); };
  const auto run_timed = [&](const char* name, const auto& stepper, const SimulateOptions<S>& chosen,
                             const Event<S>* given_up) {
    if constexpr (is_squared)
      if (is_timed) return run_on(TimedGradientFlow<M, L>(flow, size), name, stepper, chosen, given_up);
    return run_on(flow, name, stepper, chosen, given_up);
  };
  // At coarse tolerances Ros2 keeps the small directions of a product of layers better; at fine ones it takes ten
  // times the steps and more. There explicit steps of order 5 are longer than those of order 3 unless the flow is
  // stiff, and follow deep modes that rise a hundred times better.
  if constexpr (!GradientFlow<M, L>::has_curvature) {
    run("DormandPrince", DormandPrince{});
  } else if constexpr (!HasUnits<M>) {
    run_timed("Ros34Pw2", Ros34Pw2{}, options, nullptr);
  } else if constexpr (HasSmoothUnits<M>) {
    if (!(relative < S(1e-6))) {
      run("Ros2", Ros2{});
    } else {
      std::string before;
      if (options.observers.empty()) {
        constexpr Index most_explicit_steps = 5'000;
        const FieldOf<GradientFlow<M, L>> field(flow);
        StiffnessWatch<S> watch(field, end, most_explicit_steps);
        const Event<S> given_up = watch.event();
        SimulateOptions<S> first = options;
        first.observers = {watch};
        first.checkpoint.file = options.checkpoint.file.beside(".explicit");
        const bool is_given_up = run_timed("DormandPrince", DormandPrince{}, first, &given_up) == given_up.name();
        if (is_given_up) result.status = Status::max_steps;
        before = sentence(", after DormandPrince ",
                          is_given_up ? watch.text() : sentence("ended as ", to_string(result.status)));
      }
      if (!result.ok()) {
        run_timed("Ros34Pw2", Ros34Pw2{}, options, nullptr);
        result.method += before;
      }
    }
  } else {
    run("Ros2", Ros2{});
  }
  if constexpr (is_squared)
    if (flow.dataset().samples().are_measurements())
      follow_slowly<S>(TangentFieldOf<GradientFlow<M, L>>(flow), w0, controller, size, options, kept,
                       conserved_sign(flow.model(), w0), result);
  return result;
}

/// A hundredth of the size that weights have, by those at the start or, where they are 0, by how far the loss is down
/// its slope.
template <class S, class Flow>
[[nodiscard]] S negligible_weight(const Flow& flow, const Vector<S>& w0) {
  using std::isfinite;
  using std::sqrt;
  S size = norm(w0);
  if (!(size > S(0))) {
    Vector<S> slope(w0.size());
    flow(S(0), w0, slope);
    size = flow.loss(w0) / norm(slope);
  }
  return isfinite(size) ? S(0.01) * size / sqrt(static_cast<S>(w0.size())) : S(0.01);
}

}  // namespace detail

/// The gradient flow of any model from the weights w0 (P entries) under a loss, by default the plain sum of squares.
///
///     const FullyConnected<double> net(data.num_inputs(), {100});
///     const auto run = simulate(net, data, net.initial_parameters(random, scale), {.loss = 1e-6});
///     run.require_ok().f(X_new);
///
/// It follows the weights, with relative errors of 1e-3 in every unit of a model that has units, in every weight of
/// others (weights below a hundredth of the size at the start count as if they had that). Linearly implicit through the
/// tangent kernel where the second derivative of the loss is known (Ros2 for models of units, which mostly have kinks;
/// Ros34Pw2 for others), Dormand and Prince's explicit method otherwise. For smooth units at tolerances below 1e-6 the
/// explicit method is tried first. If 5000 steps of it do not reach the end, or stability keeps them so short that
/// clearly they will not, the flow is stiff, and Ros34Pw2 follows it; with observers, which see one run only, it does
/// so from the start. At these tolerances, where a loss ends the run, errors of smooth models are
/// within a hundred tolerances of the residual, too, as the time at which a small loss is reached depends on it.
///
/// Under the squared loss a small model of measurements (a factorization of at most 32 weights and 256 measurements)
/// may creep without reaching the end. It is then followed once more, from the start, by RelaxedEuler (at most 5000
/// steps; not with observers), for weights that grow to infinity, with steps in proportion to t. The loss is then below
/// `options.loss`, and not equal to it.
///
/// From balanced layers that make a square matrix M the flow conserves the sign of det M (DeepFactorization,
/// MatrixFactorization). A run that ends with the other sign has left the flow. A small model is then followed once
/// more by RelaxedEuler with errors of 1e-6, or of `tolerance` if that is less; if these steps lose the sign, too, the
/// result ends there, as stalled. A larger model, and one that 20000 of these steps do not follow to an end, is stalled
/// if the smallest singular value is above the root of the loss; if it is below, the message says so.
///
/// Throws as GradientFlow and `integrate`: DimensionError where model, data and w0 do not fit, ArgumentError for
/// options out of range, and for a loss other than the squared one where nothing says where to stop. Trouble in the run
/// is in the status. Cost of an implicit step: O(N^2 P + N^3).
template <Model M, class L = SquaredLoss<typename M::Scalar>>
[[nodiscard]] ModelSimulation<M> simulate(const M& model, const Dataset<std::type_identity_t<typename M::Scalar>>& data,
                                          const Vector<std::type_identity_t<typename M::Scalar>>& w0,
                                          const SimulateOptions<std::type_identity_t<typename M::Scalar>>& options = {},
                                          const L& loss = {}) {
  using S = typename M::Scalar;
  const GradientFlow<M, L> flow(model, data, loss);
  require_size("w0", w0.size(), flow.dimension());
  const S absolute = HasUnits<M> ? S(0) : detail::negligible_weight<S>(flow, w0);
  return detail::simulate_weights(flow, w0, options, absolute, [](const Vector<S>& w) { return w; });
}

/// The gradient flow of a diagonal net from `start`, until it fits the data (see `options`): beta, weights, time and
/// loss. X is N x d, y has N labels; the loss is the plain sum `|X beta - y|^2`, which sets the unit of time.
///
///     const DiagonalNet<double> net(2, data.num_inputs());
///     const Simulation run = simulate(net, data, Start<>::uniform(Scale<>::from_log(-20)));
///     run.require_ok().l1();   // as solve(net, data, start).l1()
///
/// Chosen: the DualFlow of `regularizer(net, start)`, N unknowns whatever the size of alpha, by ExponentialRosenbrock,
/// which measured best over all alpha: exact in the kernel regime (2 to 6 steps), and the only one whose time at the
/// end, where the loss is rounding, is right at a relative tolerance of 1e-4. Where columns of X are in units so far
/// apart, by 7e5 at this tolerance (the root of the tolerance over the rounding unit, and 1e3 at least), that its
/// exponentials lose the small ones, Rodas4 at a tolerance of 1e-7 at most (in float 3e-4) takes its place: there the
/// time at the end is good to 1 %. At depth D >= 3 and alpha^(D-2) below some 1e-7 the dual variables have no digits
/// left near their bounds; the 2d weights are followed instead (Ros34Pw2), and the end is checked: steps through the
/// escapes of very deep nets may leave the flow, which ends as stalled. The check is of grad Q, not of beta: where the
/// minimum-l1 interpolator is not unique (integer data), weights that are followed may end at another one than `solve`
/// finds. An escape takes a time of about alpha^(2-D); where it is shorter than the rounding of that time (D = 3 below
/// log alpha = -34), the run ends as step_too_small or stalled.
///
/// Throws DimensionError or ArgumentError where net, start, data and options do not fit, InfeasibleError when no beta
/// fits y and nothing else says where to stop; trouble in the run is in the status. Cost per step: an N x N Jacobian,
/// O(N^2 d), and some products with it.
template <class S, int depth>
[[nodiscard]] Simulation<S> simulate(const DiagonalNet<S, depth>& net, const Dataset<S>& data, const Start<S>& start,
                                     const SimulateOptions<std::type_identity_t<S>>& options = {}) {
  return detail::simulate_diagonal<S, depth != 2>(net.homogeneity(), net.num_inputs(), data, start, options);
}

/// The same for the two-layer diagonal net, from any start.
template <class S>
[[nodiscard]] Simulation<S> simulate(const TwoLayerDiagonalNet<S>& net, const Dataset<S>& data, const Start<S>& start,
                                     const SimulateOptions<std::type_identity_t<S>>& options = {}) {
  return detail::simulate_two_layer<S>(net.num_inputs(), data, start, options);
}

/// The mirror flow of a regularizer, `(grad Q(beta))' = -c X^T (X beta - y)` with `c = Q.dual_rate()`, from
/// `grad Q(beta) = 0` until it fits the data, at the minimizer of Q: of one of your own (a MirrorMap, see
/// docs/own_regularizer.md), or of `regularizer(net, start)`. The latter gives the beta, times and loss of
/// `simulate(net, data, start)`, where that follows dual variables. There are no weights: `w` is empty.
///
///     simulate(Q, data, {.times = {0.1, 1, 10}}).require_ok().beta
///
/// The DualFlow by ExponentialRosenbrock; throws as above, cost as above. To choose the stepper, use `integrate`.
template <MirrorMap Mirror>
[[nodiscard]] Simulation<typename Mirror::Scalar> simulate(
    const Mirror& Q, const Dataset<std::type_identity_t<typename Mirror::Scalar>>& data,
    const SimulateOptions<std::type_identity_t<typename Mirror::Scalar>>& options = {}) {
  Vector<typename Mirror::Scalar> z;
  return detail::simulate_dual(Q, data, options, z);
}

/// Of any other model from a Start: does not compile, and says what to pass.
template <class M, class S>
requires(!detail::is_diagonal_net<M>)
    [[noreturn]] ModelSimulation<M> simulate(const M& /*model*/, const Dataset<S>& /*data*/, const Start<S>& /*start*/,
                                             const SimulateOptions<S>& = {}) {
  static_assert(detail::is_diagonal_net<M>,
                "richflow: this model has no Start: pass its weights, simulate(net, data, w0), for example those of "
                "net.initial_parameters(random, scale)");
  throw ArgumentError("this model has no Start");
}

namespace detail {

template <class S>
SimulationEnd<S> end_of(const SimulateOptions<S>& options, S size) {
  using std::isfinite;
  require(isfinite(options.loss) && options.loss >= S(0), "loss must be at least 0 (0: chosen), got ", options.loss);
  require(isfinite(options.tolerance) && options.tolerance >= S(0), "tolerance must be at least 0 (0: chosen), got ",
          options.tolerance);
  require(options.max_time > S(0), "max_time must be positive, got ", options.max_time);
  if (options.loss > S(0)) return {options.loss, options.max_time};
  if (isfinite(options.max_time)) return {S(0), options.max_time};
  if (!options.times.empty()) return {S(0), options.times.back()};
  using Limits = std::numeric_limits<S>;
  return {std::max(S(Limits::epsilon() * size * size), Limits::min()), options.max_time};
}

template <class S>
Action StiffnessWatch<S>::operator()(const StepView<S>& view) {
  using std::abs;
  using std::log;
  if (step_ > 0) return Action::proceed;
  // The event sees it one step later.
  if (view.step + 1 >= most_) step_ = view.step + 1;
  if (view.step % window != 0) return Action::proceed;
  const S h = (view.t - t_) / S(window);
  S left = end_.time - view.t;
  bool is_steady = true;
  S rate(0);
  if (end_.loss > S(0)) {
    const S loss = view.loss.value_or(S(0));
    if (loss > S(0) && loss < loss_) rate = log(loss_ / loss) / (view.t - t_);
    constexpr auto unsteady = static_cast<S>(0.01);
    is_steady = rate > S(0) && rate_ > S(0) && abs(log(rate / rate_)) <= log(loss_ / loss) + unsteady;
    if (is_steady) left = std::min<S>(left, log(loss / end_.loss) / rate);
    loss_ = loss;
  }
  const bool is_known = t_ > S(0);  // a whole window
  t_ = view.t;
  rate_ = rate;
  constexpr auto stable = static_cast<S>(2.5);
  constexpr Index needed = 4;
  const bool is_far = is_known && is_steady && S(view.step) + left / h > S(2) * S(most_);
  hits_ = is_far && h * largest_rate(view.y) >= stable ? hits_ + 1 : 0;
  if (hits_ < needed) return Action::proceed;
  step_ = view.step + 1;
  length_ = h;
  return Action::proceed;
}

template <class S>
std::string StiffnessWatch<S>::text() const {
  if (!(length_ > S(0))) return sentence("ended as max_steps at step ", step_);
  return sentence("was given up at step ", step_, ", held by stability to steps of ", length_);
}

template <class S>
S StiffnessWatch<S>::largest_rate(const Vector<S>& w) const {
  using std::sqrt;
  constexpr int iterations = 20;
  const S delta = sqrt(std::numeric_limits<S>::epsilon()) * norm(w);
  Vector<S> here(w.size()), there(w.size());
  field_(t_, w, here);
  S size = norm(here), rate(0);
  if (!(size > S(0)) || !(delta > S(0))) return S(0);
  Vector<S> direction = here / size;
  for (int i = 0; i < iterations; ++i) {
    field_(t_, Vector<S>(w + delta * direction), there);
    there -= here;
    size = norm(there);
    if (!(size > S(0))) return S(0);
    rate = size / delta;
    direction = there / size;
  }
  return rate;
}

template <class S>
int determinant_sign(const Matrix<S>& A) {
  using std::abs;
  const S size = A.size() > 0 ? A.template lpNorm<Eigen::Infinity>() : S(0);
  if (!(size >= std::numeric_limits<S>::min()) || !A.allFinite()) return 0;
  const Eigen::PartialPivLU<Matrix<S>> factor(A / size);
  const S rounding = S(64) * static_cast<S>(A.rows()) * std::numeric_limits<S>::epsilon();
  int sign = factor.permutationP().determinant() > 0 ? 1 : -1;
  for (Index i = 0; i < A.rows(); ++i) {
    const S pivot = factor.matrixLU()(i, i);
    if (!(abs(pivot) > rounding)) return 0;
    if (pivot < S(0)) sign = -sign;
  }
  return sign;
}

/// The status and message of a result whose steps have lost the sign of det M, without a better run.
template <class S>
void judge_sign(const ConservedSign<S>& conserved, SimulationRecord<S>& result) {
  using std::sqrt;
  const Vector<S> values = svd_values(conserved.matrix(result.w));
  const S smallest = values[values.size() - 1];
  const std::string found = sentence(
      "det M has changed its sign, which the flow of balanced layers never does: the smallest singular value, ",
      smallest, ", comes from errors of the steps");
  // The nearest matrices of the right sign are at this distance.
  if (smallest <= sqrt(result.loss)) {
    result.message += sentence(" (", found, ", below the root of the loss)");
    return;
  }
  result.status = Status::stalled;
  result.message = sentence("the steps have left the flow: ", found, "; tighten the tolerance (", result.message, ")");
}

template <class S>
void follow_slowly(const AnyTangentField<S>& field, const Vector<S>& w0, const PiController<S>& controller, S size,
                   const SimulateOptions<S>& options, const std::function<Vector<S>(const Vector<S>&)>& kept,
                   const ConservedSign<S>& conserved, SimulationRecord<S>& result) {
  constexpr Index most_weights = 32;
  constexpr Index most_residuals = 256;
  constexpr Index most_steps = 5'000;
  constexpr Index most_fine_steps = 20'000;
  constexpr auto fine = static_cast<S>(1e-6);
  constexpr Index probing_steps = 60;
  const bool is_slow =
      result.status == Status::stalled || result.status == Status::max_steps || result.status == Status::step_too_small;
  const bool is_flipped = result.ok() && conserved.is_flipped(result.w);
  if (!is_slow && !is_flipped) return;
  const SlowFlow<S> flow(field);
  if (w0.size() > most_weights || !options.observers.empty() || flow.make_tangent().num_residuals() > most_residuals) {
    if (is_flipped) judge_sign(conserved, result);
    return;
  }
  const std::string before = sentence(", after ", result.method, ", ended as ", to_string(result.status),
                                      " at a loss of ", result.loss, is_flipped ? " and another sign of det M" : "");
  const Event<S> sign_is_lost = condition<S>("det M has changed its sign",
                                             [&conserved](S, const Vector<S>& w) { return conserved.is_flipped(w); });
  bool is_lost = false;
  const auto follow = [&](const PiController<S>& steps, Index most, const char* file, const Event<S>* lost) {
    SimulateOptions<S> second = options;
    second.max_steps = std::min(options.max_steps, most);
    second.checkpoint.file = options.checkpoint.file.beside(file);
    SimulationRecord<S> record;
    is_lost = run_simulation<S>(flow, w0, RelaxedEuler{}, steps, size, second, kept, record, record.w, lost) ==
              sign_is_lost.name();
    record.method = sentence("the gradient flow of the ", w0.size(), " weights by RelaxedEuler, errors within ",
                             steps.tolerance.relative, before);
    return record;
  };
  if (is_slow) {
    // Rest and kinks are no slow paths: from where the first run ended the loss must fall a little in a few steps.
    IntegrateOptions<S> probe;
    probe.max_steps = probing_steps;
    constexpr auto little = static_cast<S>(0.9);
    const S aim = little * result.loss;
    if (!(aim >= std::numeric_limits<S>::min())) return;
    probe.events = {loss_below(aim).at_step_end()};
    const TimeSpan<S> onwards{S(0), std::numeric_limits<S>::infinity()};
    if (integrate(flow, result.w, onwards, RelaxedEuler{}, controller, probe).status != Status::event) return;
    SimulationRecord<S> record = follow(controller, most_steps, ".slow", nullptr);
    if (!record.ok()) return;
    if (!conserved.is_flipped(record.w)) {
      result = std::move(record);
      return;
    }
  }
  PiController<S> steps = controller;
  steps.tolerance.relative = std::min(controller.tolerance.relative, fine);
  steps.tolerance.absolute *= steps.tolerance.relative / controller.tolerance.relative;
  SimulationRecord<S> record = follow(steps, most_fine_steps, ".sign", &sign_is_lost);
  if (is_slow && (is_lost || !record.ok())) {
    result.message += sentence(
        " (followed once more by RelaxedEuler it reaches its end with another sign of det M, which the flow of "
        "balanced layers never does, and with errors within ",
        steps.tolerance.relative, " it ",
        is_lost ? sentence("loses the sign, too, at t = ", record.t, ", loss ", record.loss)
                : sentence("ends as ", to_string(record.status)),
        ")");
    return;
  }
  if (is_lost) {
    record.status = Status::stalled;
    record.message = sentence(
        "det M has changed its sign at t = ", record.t, ", step ", record.steps, ", loss ", record.loss,
        ", which the flow of balanced layers never does: errors of the steps, within ", steps.tolerance.relative,
        ", are as large as the smallest singular value; a finer tolerance may follow the flow further");
  } else if (!record.ok()) {
    judge_sign(conserved, result);
    return;
  }
  result = std::move(record);
}

template <class S>
bool is_until_fit(const SimulateOptions<S>& options) {
  using std::isfinite;
  return !(options.loss > S(0)) && !isfinite(options.max_time) && options.times.empty();
}

template <class S>
void require_solution(const Dataset<S>& data) {
  Matrix<S> gram = Matrix<S>::Zero(data.num_samples(), data.num_samples());
  add_lower_gram<S>(data.X(), S(1), gram);
  Cholesky<S> factor;
  factor.allocate(gram.rows());
  // Independent rows fit anything.
  if (!(factor.compute(gram) && factor.is_well_conditioned())) OrthonormalRows<S>(data).require_solution();
}

template <class S>
bool has_digits(const ImplicitRegularizer<S>& Q) {
  using std::exp;
  using std::sqrt;
  // The distance that beta leaves z from its bounds is of this size, relative to them. Where it has half the digits,
  // the residual has, too.
  const S room = exp(S(Q.depth() - 2) * Q.scale().log());
  return !Q.is_bounded() || room > S(4) * sqrt(std::numeric_limits<S>::epsilon());
}

template <class S>
void judge_weights(const ImplicitRegularizer<S>& Q, const Dataset<S>& data, Simulation<S>& result) {
  if (!result.ok()) return;
  constexpr auto allowed = static_cast<S>(0.05);
  const S distance =
      result.beta.allFinite() ? certify(Q, data, result.beta).kkt_residual : std::numeric_limits<S>::infinity();
  if (distance <= allowed) return;
  result.status = Status::stalled;
  result.message =
      sentence("the steps have left the flow: grad Q(beta) is ", distance,
               " from the row space of X; tighten the tolerance, or ask solve for the limit (", result.message, ")");
}

template <class S, class Mirror>
Simulation<S> simulate_dual(const Mirror& Q, const Dataset<S>& data, const SimulateOptions<S>& options, Vector<S>& z) {
  using std::sqrt;
  const DualFlow<Mirror> flow(Q, data);
  const Index d = data.num_inputs();
  PiController<S> controller;
  controller.tolerance = {options.tolerance > S(0) ? options.tolerance : S(1e-4), S(0)};
  controller.first_step = flow.first_step();
  const auto beta_of = [&](const Vector<S>& state) {
    Vector<S> beta(d);
    flow.beta(state, beta);
    return beta;
  };
  const Vector<S> start = flow.initial_state();
  Vector<S> prediction;
  multiply(data.X(), beta_of(start), prediction);
  const S size = std::max(norm(data.y()), norm(prediction));
  if (is_until_fit(options)) require_solution(data);
  std::string of_mirror = "a mirror map";
  if constexpr (requires { of_mirror = Q.name(); }) of_mirror = Q.name();
  Simulation<S> result;
  Vector<S> state;
  const auto run = [&](const char* name, const auto& stepper) {
    run_simulation<S>(flow, start, stepper, controller, size, options, beta_of, result, state);
    result.method = sentence("the dual flow of ", of_mirror, ", ", flow.dimension(), " unknowns, by ", name,
                             ", errors relative to beta within ", controller.tolerance.relative);
  };
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  if (flow.is_graded() && epsilon * flow.column_ratio() * flow.column_ratio() > controller.tolerance.relative) {
    // Entries of the Jacobian differ as the squares of the columns: the exponential loses the small ones, the Cholesky
    // factor does not. The steps are held by their errors alone, and at more than this the end is late.
    const S fine = std::max(static_cast<S>(1e-7), sqrt(epsilon));
    controller.tolerance.relative = std::min(controller.tolerance.relative, fine);
    run("Rodas4", Rodas4{});
  } else {
    // A Jacobian as exact as the steps costs less, and the method forgives it.
    run("ExponentialRosenbrock", ExponentialRosenbrock{.jacobian_tolerance = std::min(
                                                           1e-2, static_cast<double>(controller.tolerance.relative))});
  }
  result.beta = beta_of(state);
  result.nu = flow.multipliers(state);
  multiply_transposed(data.X(), result.nu, z);
  return result;
}

template <class S, bool may_be_deep>
Simulation<S> simulate_diagonal(Index depth, Index d, const Dataset<S>& data, const Start<S>& start,
                                const SimulateOptions<S>& options) {
  const ImplicitRegularizer<S> Q = diagonal_regularizer<S, may_be_deep>(depth, d, start);
  Simulation<S> result;
  if (!may_be_deep || has_digits(Q)) {
    Vector<S> z;
    result = simulate_dual(Q, data, options, z);
    result.w = diagonal_weights(Q, start, z);
    // A shape far from 1 takes digits, too.
    if (!Q.is_bounded() || result.status != Status::stalled || !options.observers.empty()) return result;
  }
  if constexpr (may_be_deep) {
    if (is_until_fit(options)) require_solution(data);
    const DiagonalNet<S> net(depth, d);
    result = {};
    const auto beta_of = [&](const Vector<S>& w) {
      Vector<S> beta(d);
      net.beta(w, beta);
      return beta;
    };
    // Weights are another run than dual variables, with a file of its own.
    SimulateOptions<S> of_weights = options;
    of_weights.checkpoint.file = options.checkpoint.file.beside(".weights");
    static_cast<SimulationRecord<S>&>(result) =
        simulate_weights(GradientFlow(net, data), net.initial_parameters(start), of_weights, S(0), beta_of);
    result.beta = beta_of(result.w);
    judge_weights(Q, data, result);
  }
  return result;
}

template <class S>
Simulation<S> simulate_two_layer(Index d, const Dataset<S>& data, const Start<S>& start,
                                 const SimulateOptions<S>& options) {
  Vector<S> z;
  Simulation<S> result = simulate_dual(two_layer_regularizer(d, start), data, options, z);
  result.w = two_layer_weights(start, z);
  return result;
}

template <class S>
Vector<S> diagonal_weights(const ImplicitRegularizer<S>& Q, const Start<S>& start, const Vector<S>& z) {
  using std::exp;
  using std::log;
  const Index d = z.size();
  const S log_alpha = start.scale().log();
  const auto log_of = [&](const Vector<S>& logs, Index i) { return log_alpha + (logs.size() > 0 ? logs[i] : S(0)); };
  Vector<S> w(2 * d);
  if (!Q.is_bounded()) {
    for (Index i = 0; i < d; ++i) {
      w[i] = exp(log_of(start.first_logs(), i) + z[i] / S(2));
      w[d + i] = exp(log_of(start.second_logs(), i) - z[i] / S(2));
    }
    return w;
  }
  // w^(2-D) is alpha^(2-D) times the distance from a bound.
  Vector<S> below(d), above(d);
  Q.bounds(z, below, above);
  const S exponent = S(-1) / S(Q.depth() - 2);
  for (Index i = 0; i < d; ++i) {
    w[i] = exp(log_alpha + exponent * log(above[i]));
    w[d + i] = exp(log_alpha + exponent * log(below[i]));
  }
  return w;
}

template <class S>
Vector<S> two_layer_weights(const Start<S>& start, const Vector<S>& z) {
  using std::exp;
  const Index d = z.size();
  const S log_alpha = start.scale().log();
  Vector<S> w(4 * d);
  if (start.family() == StartFamily::unbalanced) {
    // u + v and u - v grow and decay by themselves.
    const Vector<S>& u = start.first_values();
    const Vector<S>& v = start.second_values();
    for (Index i = 0; i < d; ++i) {
      const S grown = exp(log_alpha + z[i] / S(2)) / S(2), shrunk = exp(log_alpha - z[i] / S(2)) / S(2);
      const S sum = u[i] + v[i], difference = u[i] - v[i];
      w[i] = grown * sum + shrunk * difference;
      w[d + i] = grown * sum - shrunk * difference;
      w[2 * d + i] = shrunk * sum + grown * difference;
      w[3 * d + i] = shrunk * sum - grown * difference;
    }
    return w;
  }
  const auto log_of = [&](const Vector<S>& logs, Index i) { return log_alpha + (logs.size() > 0 ? logs[i] : S(0)); };
  for (Index i = 0; i < d; ++i) {
    w[i] = w[d + i] = exp(log_of(start.first_logs(), i) + z[i] / S(2));
    w[2 * d + i] = w[3 * d + i] = exp(log_of(start.second_logs(), i) - z[i] / S(2));
  }
  return w;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SIMULATE(prefix, S)                                                                      \
  prefix template class detail::StiffnessWatch<S>;                                                                    \
  prefix template S detail::residual_ratio<S>(const Vector<S>&, const Vector<S>&, S, S, const Tolerance<S>&);         \
  prefix template void detail::follow_slowly<S>(                                                                      \
      const detail::AnyTangentField<S>&, const Vector<S>&, const PiController<S>&, S, const SimulateOptions<S>&,      \
      const std::function<Vector<S>(const Vector<S>&)>&, const detail::ConservedSign<S>&, SimulationRecord<S>&);      \
  prefix template Simulation<S> detail::simulate_diagonal<S, false>(Index, Index, const Dataset<S>&, const Start<S>&, \
                                                                    const SimulateOptions<S>&);                       \
  prefix template Simulation<S> detail::simulate_diagonal<S, true>(Index, Index, const Dataset<S>&, const Start<S>&,  \
                                                                   const SimulateOptions<S>&);                        \
  prefix template Simulation<S> detail::simulate_two_layer<S>(Index, const Dataset<S>&, const Start<S>&,              \
                                                              const SimulateOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SIMULATE)
