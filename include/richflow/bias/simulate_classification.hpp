#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/bias/regularizer.hpp"
#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/limits/classification_flow.hpp"
#include "richflow/limits/separation.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"

/// @file
/// What gradient flow on a diagonal net does under a loss of two classes, down to losses that no number type holds.

namespace richflow {

/// How far `simulate_classification` goes, and what it records.
///
///     simulate_classification(net, data, start, {.accuracies = {1e-2, 1e-4}})
///     simulate_classification(net, data, start, {.log_accuracies = {-2303}})   // a loss of 1e-1000
template <class S = double>
struct ClassificationOptions {
  MarginLoss loss = MarginLoss::exponential;  ///< A plain sum over the samples.
  std::vector<S> accuracies = {};             ///< Losses, positive, at which to record.
  std::vector<S> log_accuracies = {};         ///< The same by their natural logarithms.
  S tolerance = S(1e-3);                      ///< Relative error of a step, see ClassificationFlow.
  Index max_steps = 100'000;                  ///< Attempted steps, for all records.
};

/// The state of the flow when its loss has fallen to what was asked, and what it proves. With `z_n = y_n x_n` the rows
/// of Z, N x d.
template <class S = double>
struct ClassificationRecord {
  S log_loss = S(0);       ///< `log L`: what was asked, or what it was at the start if that was less.
  S log_time = S(0);       ///< `log t` of the flow's time; -infinity at the start.
  Vector<S> beta = {};     ///< d
  Vector<S> nu = {};       ///< Dual variables, N, none negative: `grad Q(beta) = Z^T nu`.
  Vector<S> weights = {};  ///< p, N, in the simplex: the share of a sample in the slope of the loss.
  Vector<S> margins = {};  ///< `Z beta`, N
  S margin = S(0);         ///< gamma, the least of them
  S value = S(0);          ///< `Q(beta)`
  /// `nu^T (Z beta - gamma)`: Q(beta) is at most this above the least Q of all beta with margin gamma.
  S excess = S(0);
  S l1_margin = S(0);  ///< `gamma / |beta|_1`: a lower bound on the best l1 margin, `max min_n <z_n, b> / |b|_1`
  S l1_bound = S(0);   ///< `|Z^T p|_inf`: an upper bound
  S l2_margin = S(0);  ///< The same for the Euclidean norm.
  S l2_bound = S(0);   ///< `|Z^T p|_2`
  /// How far beta is from stationary for the l_{2/D} margin, where the flow of depth D goes as t -> infinity:
  /// `sum |b_i f_i - lambda |b_i|^(2/D)| / sum |b_i f_i|`, `f = Z^T p`, with the lambda that makes the signed sum 0.
  S stationarity = S(0);
  Index steps = 0;  ///< Accepted steps so far.
};

/// The record of a simulated classification.
template <class S = double>
struct [[nodiscard]] Classification : Result<Classification<S>> {
  std::vector<ClassificationRecord<S>> records = {};  ///< By falling loss, as far as the flow came.
  bool is_separable = true;  ///< Otherwise the loss has a positive minimum or none, and nothing is simulated.
  Vector<S> obstacle = {};   ///< Not separable: the proof, as in MarginResult.
  Stats stats = {};          ///< Work.
  Status status = Status::stalled;
  std::string method = {};   ///< The problem, stepper and tolerance.
  std::string message = {};  ///< How it ended, with these numbers.

  /// Whether every accuracy was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }
  /// That of the last record. Throws ConvergenceError where there is none.
  [[nodiscard]] const Vector<S>& beta() const {
    require<ConvergenceError>(!records.empty(), "Classification: there is no record: ", message);
    return records.back().beta;
  }
};

namespace detail {

/// See `simulate_classification`.
template <class S>
[[nodiscard]] Classification<S> simulate_classes(const ImplicitRegularizer<S>& Q, const Dataset<S>& data,
                                                 const ClassificationOptions<S>& options);

/// The wanted logarithms of the loss, from the largest. Throws ArgumentError where there are none or one is not a loss.
template <class S>
[[nodiscard]] std::vector<S> wanted_log_losses(const ClassificationOptions<S>& options);

/// What there is to say about a state.
template <class S>
[[nodiscard]] ClassificationRecord<S> record_of(const ClassificationFlow<S>& flow, const ImplicitRegularizer<S>& Q,
                                                const Vector<S>& state);

}  // namespace detail

/// Gradient flow on a diagonal net of any depth under the exponential or the logistic loss of the margins `y_n <x_n,
/// beta>`, labels -1 and +1, recorded where the loss (a plain sum) has fallen to each accuracy, however small.
///
///     const DiagonalNet<double> net(2, data.num_inputs());
///     const auto run =
///         simulate_classification(net, data, start, {.loss = MarginLoss::logistic, .accuracies = {1e-4}});
///     run.require_ok().beta();
///     run.records[0].l1_margin, run.records[0].l1_bound;   // between them is the best l1 margin
///
/// Every record bounds how far the flow is from the margin problem (`max_margin`) without solving it. The
/// ClassificationFlow of `regularizer(net, start)` by Ros34Pw2: N + 1 unknowns. A loss of 1e-1000 takes 100 to 400
/// steps; beyond, their number grows like the root of |log L| (500 at -1e4, 4500 at -1e6): the weights p of the samples
/// depend on differences of margins of the size of |log L|, in which the errors of a step are relative ones.
///
/// At depth D >= 3 the dual variables must leave beta half its digits: where alpha^(D-2) is too small for that
/// (D = 3, alpha below some 1e-8) the run ends as stalled.
///
/// Throws DimensionError or ArgumentError where net, start, data and options do not fit. Trouble in the run, and data
/// that are not separable, are in the status. Cost per step: O(N d min(N, d)).
template <class S, int depth>
[[nodiscard]] Classification<S> simulate_classification(const DiagonalNet<S, depth>& net,
                                                        const Dataset<std::type_identity_t<S>>& data,
                                                        const Start<std::type_identity_t<S>>& start,
                                                        const ClassificationOptions<std::type_identity_t<S>>& options) {
  return detail::simulate_classes(regularizer(net, start), data, options);
}

/// The same for the two-layer diagonal net.
template <class S>
[[nodiscard]] Classification<S> simulate_classification(const TwoLayerDiagonalNet<S>& net,
                                                        const Dataset<std::type_identity_t<S>>& data,
                                                        const Start<std::type_identity_t<S>>& start,
                                                        const ClassificationOptions<std::type_identity_t<S>>& options) {
  return detail::simulate_classes(regularizer(net, start), data, options);
}

namespace detail {

template <class S>
std::vector<S> wanted_log_losses(const ClassificationOptions<S>& options) {
  using std::isfinite;
  using std::log;
  std::vector<S> logs;
  for (std::size_t k = 0; k < options.accuracies.size(); ++k) {
    const S loss = options.accuracies[k];
    require(isfinite(loss) && loss >= std::numeric_limits<S>::min(), "accuracies[", k, "] must be a loss of at least ",
            std::numeric_limits<S>::min(), ", got ", loss,
            "; give what is smaller by its logarithm, in log_accuracies");
    logs.push_back(log(loss));
  }
  // Below this the margins, of the size of the logarithm, lack the absolute accuracy that tells samples apart.
  const S least = S(-1e-4) / std::numeric_limits<S>::epsilon();
  for (std::size_t k = 0; k < options.log_accuracies.size(); ++k) {
    const S wanted = options.log_accuracies[k];
    require(wanted >= least && isfinite(wanted), "log_accuracies[", k, "] must be finite and at least ", least,
            ", below which margins have no digits left, got ", wanted);
    logs.push_back(wanted);
  }
  require(!logs.empty(), "simulate_classification: say at which losses to record: accuracies or log_accuracies");
  std::sort(logs.begin(), logs.end(), std::greater<S>());
  return logs;
}

template <class S>
ClassificationRecord<S> record_of(const ClassificationFlow<S>& flow, const ImplicitRegularizer<S>& Q,
                                  const Vector<S>& state) {
  using std::abs;
  using std::pow;
  ClassificationRecord<S> record;
  record.log_loss = flow.log_loss(state);
  record.log_time = flow.log_time(state);
  record.beta = flow.beta(state);
  record.nu = state.head(state.size() - 1);
  record.weights = flow.weights(state);
  record.margins = flow.margins(state);
  record.margin = record.margins.minCoeff();
  record.value = Q.value(record.beta);
  for (Index n = 0; n < record.nu.size(); ++n) record.excess += record.nu[n] * (record.margins[n] - record.margin);
  Vector<S> slope;
  multiply_transposed(flow.signed_rows(), record.weights, slope);
  const S l1 = record.beta.template lpNorm<1>();
  const S l2 = norm(record.beta);
  record.l1_margin = l1 > S(0) ? record.margin / l1 : S(0);
  record.l2_margin = l2 > S(0) ? record.margin / l2 : S(0);
  record.l1_bound = largest_size(slope);
  record.l2_bound = norm(slope);
  S work(0), powers(0), sizes(0), rest(0);
  const S exponent = S(2) / S(Q.depth());
  const S largest = largest_size(record.beta);
  if (!(largest > S(0))) return record;
  for (Index i = 0; i < slope.size(); ++i) {
    work += record.beta[i] * slope[i];
    sizes += abs(record.beta[i] * slope[i]);
    powers += pow(abs(record.beta[i]) / largest, exponent);
  }
  for (Index i = 0; i < slope.size(); ++i)
    rest += abs(record.beta[i] * slope[i] - work / powers * pow(abs(record.beta[i]) / largest, exponent));
  record.stationarity = sizes > S(0) ? rest / sizes : S(0);
  return record;
}

template <class S>
Classification<S> simulate_classes(const ImplicitRegularizer<S>& Q, const Dataset<S>& data,
                                   const ClassificationOptions<S>& options) {
  using std::sqrt;
  const std::vector<S> wanted = wanted_log_losses(options);
  require(options.tolerance > S(0) && options.tolerance < S(1), "tolerance must lie in (0, 1), got ",
          options.tolerance);
  require(options.max_steps > 0, "max_steps must be positive, got ", options.max_steps);
  const ClassificationFlow<S> flow(Q, data, options.loss);
  Classification<S> result;
  result.method =
      sentence("the dual flow of ", Q.name(), " under the ", to_string(options.loss), " loss, ", data.num_samples(),
               " unknowns in the time |nu|_1, by Ros34Pw2, errors within ", options.tolerance);
  const Separation<S> separation = separate(signed_samples(data));
  if (!separation.is_separable) {
    result.is_separable = false;
    result.obstacle = separation.p;
    result.message = sentence("the data are not separable: a mean of ", static_cast<Index>(separation.support.size()),
                              " samples y_n x_n with nonnegative weights (obstacle) is 0, and no flow brings the loss "
                              "to 0");
    return result;
  }
  PiController<S> controller;
  controller.tolerance = {options.tolerance, S(0)};
  controller.first_step = flow.first_step();
  const S fewest = sqrt(std::numeric_limits<S>::epsilon());
  S target = wanted.front();
  IntegrateOptions<S> run;
  run.events = {zero_crossing<S>(
                    "accuracy", [&](S, const Vector<S>& y) { return flow.log_loss(y) - target; }, Crossing::falling),
                condition<S>("digits", [&](S, const Vector<S>& y) { return flow.digits(y) > fewest; })};
  Vector<S> state = flow.initial_state();
  IntegrationState<S> resumed;
  bool has_begun = false;
  result.status = Status::event;
  for (const S next : wanted) {
    target = next;
    if (flow.log_loss(state) > target) {
      run.max_steps = options.max_steps - result.stats.accepted - result.stats.rejected;
      if (run.max_steps <= 0) {
        result.status = Status::max_steps;
        break;
      }
      constexpr S forever = std::numeric_limits<S>::infinity();
      auto solution = has_begun ? resume(flow, resumed, forever, Ros34Pw2{}, controller, run)
                                : integrate(flow, state, TimeSpan<S>{S(0), forever}, Ros34Pw2{}, controller, run);
      has_begun = true;
      state = std::move(solution.w);
      resumed = std::move(solution.state);
      result.stats = solution.stats;
      result.status = solution.status;
      result.message = std::move(solution.message);
      const bool lacks_digits = solution.event && *solution.event == 1;
      if (lacks_digits) {
        result.status = Status::stalled;
        result.message =
            sentence("rounding of the dual variables leaves beta a relative accuracy of ", flow.digits(state),
                     ", because z comes too near to its bounds at so small an alpha and so great a depth; ask "
                     "max_margin for the limit");
      }
      if (!is_success(result.status)) break;
    }
    result.records.push_back(record_of(flow, Q, state));
    result.records.back().steps = result.stats.accepted;
  }
  const S reached = flow.log_loss(state);
  result.message = sentence("the flow came to log L = ", reached, " of ", wanted.back(), " in ", result.stats.accepted,
                            " steps (", result.status, ")", is_success(result.status) ? "" : ": ",
                            is_success(result.status) ? "" : result.message.c_str());
  return result;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SIMULATE_CLASSIFICATION(prefix, S)                                                   \
  prefix template Classification<S> detail::simulate_classes<S>(const ImplicitRegularizer<S>&, const Dataset<S>&, \
                                                                const ClassificationOptions<S>&);                 \
  prefix template std::vector<S> detail::wanted_log_losses<S>(const ClassificationOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SIMULATE_CLASSIFICATION)
