#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/subnormal.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/integrate/source.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"

namespace richflow {

namespace detail {

template <class S, int depth>
void take_diagonal_net(const DiagonalNet<S, depth>&);
template <class S>
void take_diagonal_net(const TwoLayerDiagonalNet<S>&);

/// These nets and what derives from them.
template <class Net, class S>
concept HasEffectiveStart = requires(const Net& net) {
  take_diagonal_net<S>(net);
};

}  // namespace detail

/// The effective start of an algorithm on a diagonal net: what it did is gradient flow from there. An observer of a run
/// of a rule (`Descent`, `HeavyBall`, `Nesterov`) with constant or varying steps, on all samples or in batches, with
/// label noise or weight decay: `start()` is where a gradient flow begins that goes to what the run has reached,
///
///     EffectiveStart effective(net, data, w0);
///     integrate(StochasticGradient(net, data, {.batch_size = 1}), w0, Steps{20000}, Descent{}, ConstantStep{0.01},
///               {.observers = {effective}});
///     solve(net, data, effective.start());                 // where the run ends, once it fits the data
///     solve(net, effective.reached(), effective.start());  // where it is now: the labels are X beta(T)
///
/// Let `x_t = 2 D h_t g_t / c_t` with `g_t = X_B^T r_B` of the step's own batch and noise, and `c_t = 1 - 2 h_t
/// lambda_t` (1 without decay), and S the sum of the x_t times the rule's `long_run_gain()`, 1 / (1 - m). At depth 2
///
///     log A_+- = log|w_+-(T)| +- S = log w_+-(0) + sum_t (log|c_t -+ c_t x_t| +- x_t)
///
/// (the last form for `Descent`) is a start from which `beta(T) = A_+^2 e^z - A_-^2 e^-z`, z = -2 S in the row space of
/// X: the condition of optimality over `X beta = X beta(T)`. It holds at every step, through sign changes and at the
/// edge of stability, and the two-layer net is the squared net of `p = (u + v) / 2`, `m = (u - v) / 2` with half the x.
/// At depth D >= 3, with p = D - 2, `A_+-^-p = |w_+-(T)|^-p -+ Z`, Z the sum of the `2 D p h g`, a decay multiplying
/// what came before by c^-p. (docs/theory.md, sections 7.1 and 7.2; Even, Pesme, Gunasekar and Flammarion 2023 for
/// depth 2.)
///
/// S is added up from the residuals of the steps, N numbers in compensated sums: a start fitted to the final weights
/// would predict them whatever the algorithm. The start differs little from the run's own, by `sum x_t^2`, and that
/// difference is what the algorithm did. Weights that underflow at depth 2 continue as logarithms (`Descent` only).
///
/// Where there is no such statement `ok()` is false, `message()` says why, and `start()` throws: adaptive steps and
/// steps that are not those of a rule, rules that are not linear in the gradients, noise on gradients, a weight that
/// was set to zero, odd depth after a sign change, two layers whose difference rounding hides.
///
/// Sees every step of one run from the first on, resumed runs included; with IntegrateOptions::checkpoint it is kept in
/// the file of the run. Refers to the data, which must outlive it. Cost of a step: O(B) for the residuals of a batch of
/// B and one pass over the weights; of `start()`: O(N d).
template <class S = double>
class EffectiveStart : public Result<EffectiveStart<S>> {
 public:
  /// Number type.
  using Scalar = S;

  /// Of runs that begin at the weights w0, P entries. Throws DimensionError where net, data and w0 do not fit or y has
  /// more than one column, ArgumentError where a weight is zero, not finite or, at odd depth, negative.
  template <int depth>
  EffectiveStart(const DiagonalNet<S, depth>& net, const Dataset<S>& data, Vector<S> w0)
      : EffectiveStart(net.homogeneity(), false, net.num_inputs(), data, std::move(w0)) {}
  EffectiveStart(const TwoLayerDiagonalNet<S>& net, const Dataset<S>& data, Vector<S> w0)
      : EffectiveStart(2, true, net.num_inputs(), data, std::move(w0)) {}
  /// Of runs that begin at `net.initial_parameters(start)`.
  template <class Net>
  requires detail::HasEffectiveStart<Net, S> EffectiveStart(const Net& net, const Dataset<S>& data,
                                                            const Start<S>& start)
      : EffectiveStart(net, data, net.initial_parameters(start)) {}
  template <class Net, class W>
  EffectiveStart(const Net&, const Dataset<S>&&, const W&) = delete;
  /// Other models have none, and one sentence at compile time.
  template <class Net, class W>
  requires(!detail::HasEffectiveStart<Net, S>)
      EffectiveStart(const Net& /*net*/, const Dataset<S>& data, const W& /*w0*/)
      : EffectiveStart(2, false, data.num_inputs(), data, Vector<S>()) {
    constexpr bool is_known = detail::HasEffectiveStart<Net, S>;
    static_assert(is_known,
                  "richflow: no theorem gives the effective start of this model. One is known for DiagonalNet (any "
                  "depth) and TwoLayerDiagonalNet, of the number type of the data");
  }

  /// Takes in a step. Throws ArgumentError where the first step is not one of this net on these data from w0.
  Action operator()(const StepView<S>& view);

  /// Steps seen.
  [[nodiscard]] Index steps() const { return step_; }
  /// Whether the run is a gradient flow from another start.
  [[nodiscard]] bool ok() const { return message_of_logs().empty(); }
  /// What the start is, or why there is none.
  [[nodiscard]] std::string message() const;

  /// `(alpha A_+, alpha A_-)` as a biased start; its scale is their geometric mean. Throws ConvergenceError unless
  /// `ok()`.
  [[nodiscard]] Start<S> start() const;
  /// The data with the labels that the run has reached, `X beta(T)`.
  [[nodiscard]] Dataset<S> reached() const { return {data_->X(), data_->X() * beta()}; }
  /// beta(T), d.
  [[nodiscard]] Vector<S> beta() const;

  /// log of the effective alpha of each coordinate, d values: `log(A_+ A_-) / 2` at depth 2, and
  /// `-log((A_+^-p + A_-^-p) / 2) / p` beyond. Throws as `start`.
  [[nodiscard]] Vector<S> log_scale() const;
  /// `log(A_+ / A_-)`, d values, 0 for a start at beta = 0. Throws as `start`. Only its part orthogonal to the rows of
  /// X matters at depth 2.
  [[nodiscard]] Vector<S> log_offset_ratio() const;

  /// How often a weight of a diagonal net has changed its sign (0 for two layers).
  [[nodiscard]] Index sign_changes() const { return sign_changes_; }
  /// The step that first did, 0 for none.
  [[nodiscard]] Index first_sign_change() const { return first_sign_change_; }

  /// What a run's checkpoint keeps of it.
  void write(detail::CheckpointWriter& writer) const;
  /// Reads that back. Throws CheckpointError where it is damaged, or of another net or other data.
  void read(detail::CheckpointReader& reader);

 private:
  /// log A_+ and log A_-.
  struct Logs {
    Vector<S> a = {};
    Vector<S> b = {};
    std::string message = {};  ///< why there are none
  };

  EffectiveStart(Index depth, bool has_two_layers, Index d, const Dataset<S>& data, Vector<S> w0);

  [[nodiscard]] Logs logs() const;
  [[nodiscard]] std::string message_of_logs() const { return problem_.empty() ? logs().message : problem_; }
  [[nodiscard]] Logs checked_logs() const {
    this->require_ok();
    return logs();
  }

  [[nodiscard]] Index p() const { return depth_ - 2; }
  /// X^T of the sum over steps of `gain h G / c`.
  [[nodiscard]] Vector<S> sum_of_gradients() const;
  /// Number i of the gradient of a step.
  [[nodiscard]] S gradient_at(const StepResiduals<S>& seen, Index i) const;

  /// Whether beta is so small, under weight decay, that it predicts none of the labels.
  [[nodiscard]] bool has_died() const;
  /// Why a step has no statement; empty where it has one.
  [[nodiscard]] std::string objection(const StepView<S>& view) const;
  void check_first_step(const StepResiduals<S>& seen, const Vector<S>& w) const;
  void add(const StepResiduals<S>& seen, S decay_factor);
  /// Sign changes and zeros between the last weights and w.
  void watch(const StepResiduals<S>& seen, S decay_factor, Index step, const Vector<S>& w);
  void count_sign_changes(Index step, const Vector<S>& w);
  struct Smallest {
    S size;
    S product;
  };
  /// The smallest |w_j|, and product of w_j with what it was.
  [[nodiscard]] Smallest smallest_of(const Vector<S>& w) const;
  /// Follows the logarithms of weights that are zero, or so small that their steps are flushed to zero and no longer
  /// move them.
  void follow_small(const StepResiduals<S>& seen, S decay_factor, Index step, const Vector<S>& w);

  /// |w_+-| of depth 2; of two layers the roots of `p_+^2 + m_-^2` and of `m_+^2 + p_-^2`.
  [[nodiscard]] S side(const Vector<S>& w, Index i, bool is_plus) const;
  [[nodiscard]] std::string name_of(Index i, bool is_plus) const;

  static constexpr S smallest_followed = std::numeric_limits<S>::min() / std::numeric_limits<S>::epsilon();

  Index depth_;
  bool has_two_layers_;
  Index d_;
  const Dataset<S>* data_;
  Vector<S> w_;
  Vector<S> sum_ = {};         // over steps of gain h G / c, N
  Vector<S> correction_ = {};  // what its additions have lost
  Vector<S> log_side_ = {};    // of sides that are followed, 2d; NaN for others; empty before there are any
  bool has_decayed_ = false;   // in any step
  Index step_ = 0;
  Index sign_changes_ = 0;
  Index first_sign_change_ = 0;
  std::string problem_ = {};
};

template <class Net, class S, class W>
EffectiveStart(const Net&, const Dataset<S>&, const W&) -> EffectiveStart<S>;

template <class S>
EffectiveStart<S>::EffectiveStart(Index depth, bool has_two_layers, Index d, const Dataset<S>& data, Vector<S> w0)
    : depth_(depth), has_two_layers_(has_two_layers), d_(d), data_(&data), w_(std::move(w0)) {
  require<DimensionError>(data.num_inputs() == d, "the net has d = ", d, " features where the data have ",
                          data.num_inputs());
  (void)data.X();
  require_size("y", data.y().size(), data.num_samples());
  require_size("w0", w_.size(), (has_two_layers ? 4 : 2) * d);
  require_finite("w0", w_);
  for (Index i = 0; i < d; ++i)
    for (const bool is_plus : {true, false}) {
      require(side(w_, i, is_plus) > S(0), name_of(i, is_plus), " is zero at the start and never moves");
      require(depth % 2 == 0 || w_[is_plus ? i : d + i] > S(0), name_of(i, is_plus),
              " is negative: at odd depth that is no start");
    }
  sum_.setZero(data.num_samples());
  correction_.setZero(data.num_samples());
}

template <class S>
Action EffectiveStart<S>::operator()(const StepView<S>& view) {
  const SubnormalScope flushes(SubnormalMode::flush());
  if (problem_.empty()) problem_ = objection(view);
  step_ = view.step;
  if (problem_.empty()) {
    const StepResiduals<S>& seen = *view.residuals;
    const S decay_factor = S(1) - seen.h * seen.decay;
    has_decayed_ = has_decayed_ || seen.decay > S(0);
    if (view.step == 1) check_first_step(seen, view.y);
    watch(seen, decay_factor, view.step, view.y);
    add(seen, decay_factor);
  }
  w_ = view.y;
  return Action::proceed;
}

template <class S>
std::string EffectiveStart<S>::objection(const StepView<S>& view) const {
  using detail::concat;
  if (view.step != step_ + 1)
    return concat("the observer has seen ", step_, " steps where the run has made ", view.step - 1,
                  " before: it must see every step from the first on");
  if (view.residuals == nullptr)
    return "these are steps of an integrator, and the theory is for those of a rule (Descent, HeavyBall)";
  const StepResiduals<S>& seen = *view.residuals;
  if (!(seen.long_run_gain > 0.0))
    return "the rule has no long_run_gain(): there is no theorem for rules that are not linear in the gradients, or "
           "whose steps differ from weight to weight";
  if (seen.slopes == nullptr)
    return "the problem does not say what residuals its steps see: take StochasticGradient(net, data, {}), which makes "
           "the same steps";
  if (seen.has_gradient_noise)
    return "there is noise on the gradients, which is not in the row space of X (noise on the labels is)";
  if (view.y.size() != w_.size())
    return concat("the run has ", view.y.size(), " weights where the net has ", w_.size());
  const Index N = data_->num_samples();
  const auto is_out = [&](Index n) { return n < 0 || n >= N; };
  if (seen.samples == nullptr ? seen.size != N : std::any_of(seen.samples, seen.samples + seen.size, is_out))
    return concat("the run is on other data: it sees other samples than the N = ", N, " of these");
  if (seen.h * seen.decay == S(1)) return concat("step ", view.step, " sets every weight to zero: 2 h lambda = 1");
  return {};
}

template <class S>
S EffectiveStart<S>::gradient_at(const StepResiduals<S>& seen, Index i) const {
  S sum(0);
  for (Index b = 0; b < seen.size; ++b) sum += data_->X()(seen.samples ? seen.samples[b] : b, i) * seen.slopes[b];
  return seen.weight * sum;
}

template <class S>
void EffectiveStart<S>::check_first_step(const StepResiduals<S>& seen, const Vector<S>& w) const {
  using std::abs;
  using std::pow;
  Vector<S> slope(w.size());
  for (Index i = 0; i < d_; ++i) {
    const S g = gradient_at(seen, i);
    if (has_two_layers_) {
      slope[i] = w_[d_ + i] * g;
      slope[d_ + i] = w_[i] * g;
      slope[2 * d_ + i] = -w_[3 * d_ + i] * g;
      slope[3 * d_ + i] = -w_[2 * d_ + i] * g;
    } else {
      slope[i] = S(depth_) * pow(w_[i], S(depth_ - 1)) * g;
      slope[d_ + i] = -S(depth_) * pow(w_[d_ + i], S(depth_ - 1)) * g;
    }
  }
  slope = seen.h * (slope + seen.decay * w_);
  // Up to a factor, for a rule may begin with another step.
  const Vector<S> moved = w_ - w;
  const S size = slope.stableNorm();
  const S factor = size > S(0) ? moved.dot(slope / size) / size : S(0);
  const S allowed =
      S(1e-3) * moved.stableNorm() + S(64) * std::numeric_limits<S>::epsilon() * (w_.stableNorm() + w.stableNorm());
  require(!((moved - factor * slope).stableNorm() > allowed),
          "EffectiveStart: the first step of the run is not one of this net on these data from this w0");
}

template <class S>
void EffectiveStart<S>::add(const StepResiduals<S>& seen, S decay_factor) {
  using std::abs;
  using std::pow;
  if (decay_factor != S(1) && p() > 0) {
    const S grown = pow(abs(decay_factor), S(-p()));
    sum_ *= grown;
    correction_ *= grown;
  }
  S factor = static_cast<S>(seen.long_run_gain) * seen.h * seen.weight / decay_factor;
  if (p() > 0) factor *= pow(abs(decay_factor), S(-p()));
  for (Index b = 0; b < seen.size; ++b) {
    const Index n = seen.samples ? seen.samples[b] : b;
    const S term = factor * seen.slopes[b] - correction_[n];
    const S next = sum_[n] + term;
    correction_[n] = (next - sum_[n]) - term;
    sum_[n] = next;
  }
}

template <class S>
void EffectiveStart<S>::watch(const StepResiduals<S>& seen, S decay_factor, Index step, const Vector<S>& w) {
  using std::sqrt;
  const auto [smallest, product] = smallest_of(w);
  // Products of two smaller ones may underflow.
  const bool may_have_changed = smallest < sqrt(std::numeric_limits<S>::min()) || !(product > S(0));
  if (may_have_changed && !has_two_layers_) count_sign_changes(step, w);
  // In two layers a weight may pass through zero, or be a zero of the start.
  if ((smallest < smallest_followed || log_side_.size() > 0) && problem_.empty())
    follow_small(seen, decay_factor, step, w);
}

template <class S>
typename EffectiveStart<S>::Smallest EffectiveStart<S>::smallest_of(const Vector<S>& w) const {
  using std::abs;
  // In lanes, since each comparison waits for the one before.
  constexpr Index lanes = 16;
  Eigen::Array<S, lanes, 1> sizes = Eigen::Array<S, lanes, 1>::Constant(std::numeric_limits<S>::infinity());
  Eigen::Array<S, lanes, 1> products = sizes;
  Index j = 0;
  for (; j + lanes <= w.size(); j += lanes) {
    const auto now = w.template segment<lanes>(j).array();
    sizes = sizes.min(now.abs());
    products = products.min(now * w_.template segment<lanes>(j).array());
  }
  Smallest out{sizes.minCoeff(), products.minCoeff()};
  for (; j < w.size(); ++j) {
    out.size = std::min(out.size, S(abs(w[j])));
    out.product = std::min(out.product, S(w[j] * w_[j]));
  }
  return out;
}

template <class S>
void EffectiveStart<S>::count_sign_changes(Index step, const Vector<S>& w) {
  for (Index j = 0; j < w.size(); ++j) {
    if (w[j] == S(0) || w_[j] == S(0) || (w[j] < S(0)) == (w_[j] < S(0))) continue;
    ++sign_changes_;
    if (first_sign_change_ == 0) first_sign_change_ = step;
    if (depth_ % 2 == 1 && problem_.empty())
      problem_ = detail::concat(name_of(j % d_, j < d_), " became negative in step ", step,
                                ": at odd depth D = ", depth_, " its power changes sign, and no theorem holds");
  }
}

template <class S>
void EffectiveStart<S>::follow_small(const StepResiduals<S>& seen, S decay_factor, Index step, const Vector<S>& w) {
  using detail::concat;
  using std::abs;
  using std::isnan;
  using std::log;
  constexpr S eps = std::numeric_limits<S>::epsilon();
  for (Index i = 0; i < d_; ++i)
    for (const bool is_plus : {true, false}) {
      const S size = side(w, i, is_plus);
      const S before = side(w_, i, is_plus);
      const bool is_followed = log_side_.size() > 0 && !isnan(log_side_[is_plus ? i : d_ + i]);
      if (!(size < smallest_followed) && !is_followed) continue;
      const S x = S(depth_) / S(has_two_layers_ ? 2 : 1) * seen.h * gradient_at(seen, i);
      const S factor = abs(decay_factor - (is_plus ? x : -x));
      const bool is_zero = size == S(0) && before >= smallest_followed;
      if (depth_ > 2 && !is_zero) {
        problem_ = concat(name_of(i, is_plus), " underflowed in step ", step, ": its power ", -p(),
                          " leaves the range of numbers (with weight decay the net goes to rest at 0)");
        return;
      }
      if (is_zero || factor < S(4) * eps) {
        problem_ = concat(name_of(i, is_plus), " became zero in step ", step,
                          ", where it stays: gradient flow goes there from no start");
        return;
      }
      if (seen.long_run_gain != 1.0) {
        problem_ = concat(name_of(i, is_plus), " underflowed in step ", step,
                          ": with momentum its logarithm cannot be followed");
        return;
      }
      if (log_side_.size() == 0) log_side_.setConstant(2 * d_, std::numeric_limits<S>::quiet_NaN());
      S& at = log_side_[is_plus ? i : d_ + i];
      at = (is_followed ? at : log(before)) + log(factor);
      if (!(at > log(smallest_followed) + S(1))) continue;
      if (!(abs(log(size) - at) < S(1e-3))) {
        problem_ = concat(name_of(i, is_plus), " underflowed, and would have come back in step ", step,
                          ": the run is no longer the algorithm");
        return;
      }
      at = std::numeric_limits<S>::quiet_NaN();
    }
}

template <class S>
S EffectiveStart<S>::side(const Vector<S>& w, Index i, bool is_plus) const {
  using std::abs;
  using std::hypot;
  if (!has_two_layers_) return abs(w[is_plus ? i : d_ + i]);
  const S sign = is_plus ? S(1) : S(-1);
  const S of_plus = w[i] + sign * w[d_ + i];
  const S of_minus = w[2 * d_ + i] - sign * w[3 * d_ + i];
  return hypot(of_plus / S(2), of_minus / S(2));
}

template <class S>
std::string EffectiveStart<S>::name_of(Index i, bool is_plus) const {
  const char* name =
      has_two_layers_ ? (is_plus ? "(u_+ + v_+, u_- - v_-)(" : "(u_+ - v_+, u_- + v_-)(") : (is_plus ? "w_+(" : "w_-(");
  return detail::concat(name, i, ")");
}

template <class S>
Vector<S> EffectiveStart<S>::sum_of_gradients() const {
  Vector<S> out;
  detail::multiply_transposed(data_->X(), Vector<S>(sum_ - correction_), out);
  return out;
}

template <class S>
typename EffectiveStart<S>::Logs EffectiveStart<S>::logs() const {
  using detail::concat;
  using std::isfinite;
  using std::isnan;
  using std::log;
  using std::pow;
  Logs out;
  out.a.resize(d_);
  out.b.resize(d_);
  const Vector<S> gradients = sum_of_gradients();
  for (Index i = 0; i < d_; ++i)
    for (const bool is_plus : {true, false}) {
      const S sign = is_plus ? S(1) : S(-1);
      S& at = is_plus ? out.a[i] : out.b[i];
      const S size = side(w_, i, is_plus);
      if (p() == 0) {
        const bool is_followed = log_side_.size() > 0 && !isnan(log_side_[is_plus ? i : d_ + i]);
        at = (is_followed ? log_side_[is_plus ? i : d_ + i] : log(size)) +
             sign * (has_two_layers_ ? S(1) : S(2)) * gradients[i];
      } else {
        const S power = pow(size, S(-p())) - sign * S(depth_ * p()) * gradients[i];
        at = power > S(0) ? -log(power) / S(p()) : std::numeric_limits<S>::quiet_NaN();
      }
      if (!isfinite(at)) {
        out.message = concat("the effective start of ", name_of(i, is_plus),
                             " has left the range of numbers after step ", step_, ", where the weight has the size ",
                             size, p() > 0 ? ": steps as large as that lead to where no start of this depth does" : "");
        return out;
      }
    }
  if (!has_two_layers_) return out;
  for (Index i = 0; i < d_; ++i) {
    const S a = side(w_, i, true), b = side(w_, i, false);
    const bool has_layers_of_one_size =
        w_[i] == w_[d_ + i] && w_[2 * d_ + i] == w_[3 * d_ + i];  // the differences are zero, not rounding
    if (has_layers_of_one_size || std::min(a, b) > S(1e4) * std::numeric_limits<S>::epsilon() * std::max(a, b))
      continue;
    out.message = concat("the layers of coordinate ", i, " have the size ", std::max(a, b), " and their difference is ",
                         std::min(a, b), ", which rounding hides after step ", step_,
                         ": start from equal layers, or from a larger alpha");
    return out;
  }
  return out;
}

template <class S>
std::string EffectiveStart<S>::message() const {
  std::string problem = message_of_logs();
  if (!problem.empty()) return problem;
  return detail::concat("the start from which gradient flow goes to where ", step_, " steps went, through ",
                        sign_changes_, " sign changes",
                        has_died() ? ", which is beta = 0: the decay has left nothing of the net" : "");
}

template <class S>
bool EffectiveStart<S>::has_died() const {
  if (!has_decayed_) return false;
  const Vector<S> found = beta();
  return (data_->X() * found).stableNorm() <= std::numeric_limits<S>::epsilon() * data_->y().stableNorm();
}

template <class S>
Start<S> EffectiveStart<S>::start() const {
  Logs found = checked_logs();
  const S center = (found.a.mean() + found.b.mean()) / S(2);
  found.a.array() -= center;
  found.b.array() -= center;
  return Start<S>::biased_logs(Scale<S>::from_log(center), std::move(found.a), std::move(found.b));
}

template <class S>
Vector<S> EffectiveStart<S>::beta() const {
  Vector<S> out(d_);
  if (has_two_layers_)
    TwoLayerDiagonalNet<S>(d_).beta(w_, out);
  else
    DiagonalNet<S>(depth_, d_).beta(w_, out);
  return out;
}

template <class S>
Vector<S> EffectiveStart<S>::log_scale() const {
  using std::exp;
  using std::log1p;
  Logs found = checked_logs();
  if (p() == 0) return (found.a + found.b) / S(2);
  Vector<S> out(d_);
  for (Index i = 0; i < d_; ++i) {
    const S low = std::min(found.a[i], found.b[i]);
    const S gap = std::max(found.a[i], found.b[i]) - low;
    out[i] = low - log1p(S(0.5) * (exp(S(-p()) * gap) - S(1))) / S(p());
  }
  return out;
}

template <class S>
Vector<S> EffectiveStart<S>::log_offset_ratio() const {
  const Logs found = checked_logs();
  return found.a - found.b;
}

template <class S>
void EffectiveStart<S>::write(detail::CheckpointWriter& writer) const {
  Vector<S> followed(0);  // pairs (which, logarithm): NaN is no text that reads back
  for (Index j = 0; j < log_side_.size(); ++j)
    if (log_side_[j] == log_side_[j]) {
      followed.conservativeResize(followed.size() + 2);
      followed.tail(2) << S(j), log_side_[j];
    }
  writer.field("effective_start_steps", step_);
  writer.field("effective_start_weights", w_);
  writer.field("effective_start_sum", sum_);
  writer.field("effective_start_correction", correction_);
  writer.field("effective_start_followed", followed);
  writer.field("effective_start_sign_changes", sign_changes_);
  writer.field("effective_start_first_sign_change", first_sign_change_);
  writer.field("effective_start_has_decayed", has_decayed_ ? 1 : 0);
  Vector<S> letters(static_cast<Index>(problem_.size()));
  for (Index j = 0; j < letters.size(); ++j)
    letters[j] = static_cast<S>(static_cast<unsigned char>(problem_[static_cast<std::size_t>(j)]));
  writer.field("effective_start_problem", letters);
}

template <class S>
void EffectiveStart<S>::read(detail::CheckpointReader& reader) {
  EffectiveStart found = *this;
  Vector<S> followed, letters;
  int has_decayed = 0;
  reader.field("effective_start_steps", found.step_);
  reader.field("effective_start_weights", found.w_);
  reader.field("effective_start_sum", found.sum_);
  reader.field("effective_start_correction", found.correction_);
  reader.field("effective_start_followed", followed);
  reader.field("effective_start_sign_changes", found.sign_changes_);
  reader.field("effective_start_first_sign_change", found.first_sign_change_);
  reader.field("effective_start_has_decayed", has_decayed);
  reader.field("effective_start_problem", letters);
  found.has_decayed_ = has_decayed != 0;
  require<CheckpointError>(found.w_.size() == w_.size() && found.sum_.size() == sum_.size() &&
                               found.correction_.size() == sum_.size() && followed.size() % 2 == 0,
                           "checkpoint: its EffectiveStart is of another net or of other data");
  found.log_side_.resize(0);
  if (followed.size() > 0) found.log_side_.setConstant(2 * d_, std::numeric_limits<S>::quiet_NaN());
  for (Index j = 0; j < followed.size(); j += 2) {
    require<CheckpointError>(followed[j] >= S(0) && followed[j] < S(2 * d_),
                             "checkpoint: its EffectiveStart is damaged");
    found.log_side_[static_cast<Index>(followed[j])] = followed[j + 1];
  }
  found.problem_.clear();
  for (const S letter : letters) {
    require<CheckpointError>(letter >= S(0) && letter <= S(255), "checkpoint: its EffectiveStart is damaged");
    found.problem_ += static_cast<char>(static_cast<unsigned char>(letter));
  }
  *this = std::move(found);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_EFFECTIVE_START(prefix, S) prefix template class EffectiveStart<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EFFECTIVE_START)
