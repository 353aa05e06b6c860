#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/bias/simulate.hpp"
#include "richflow/bias/solve.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/measurements.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/flow/lifted_flow.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/commuting.hpp"
#include "richflow/minimizers/minimizer_result.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/start.hpp"
#include "richflow/regularizers/schatten.hpp"

/// @file
/// The two verbs for matrix factorizations.
///
/// A uniform start of a factorization `U V^T` of width k stands for entries `N(0, alpha^2)` in the limit of large k, in
/// which `W(0) = F F^T`, F = [U; V], is its mean `alpha^2 k I`: a net of finite width ends O(1 / sqrt(k)) from there.

namespace richflow {

/// The limit of the gradient flow of a wide factorization, with the proof. `beta` is vec(M), column after column.
template <class S = double>
struct [[nodiscard]] MatrixLimit : LinearPrediction<S>, Result<MatrixLimit<S>> {
  Matrix<S> matrix = {};                                      ///< M, d1 x d2.
  S regularizer_value = std::numeric_limits<S>::quiet_NaN();  ///< `Q_mu(M)`.
  Vector<S> nu = {};                                          ///< Multipliers, N.
  Certificate<S> certificate = {};                            ///< Distance from optimality, of the spectrum.
  Status status = Status::stalled;                            ///< tolerance_reached, stalled or max_steps.
  std::string method = {};                                    ///< What was minimized, and how.
  std::string message = {};                                   ///< How it ended, with these numbers.

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }

  using LinearPrediction<S>::f;
  /// `<M, X_n>`, N values.
  [[nodiscard]] Vector<S> f(const MatrixMeasurements<S>& measurements) const { return measurements.apply(matrix); }
};

/// The end of the simulated flow of a wide factorization; `w` is the reduced stack, D x D (see LiftedFlow).
template <class S = double>
struct [[nodiscard]] MatrixSimulation : LinearPrediction<S>, SimulationRecord<S>, Result<MatrixSimulation<S>> {
  Matrix<S> matrix = {};  ///< M, d1 x d2.

  using LinearPrediction<S>::f;
  /// `<M, X_n>`, N values.
  [[nodiscard]] Vector<S> f(const MatrixMeasurements<S>& measurements) const { return measurements.apply(matrix); }
};

namespace detail {

/// mu with `2 mu^2 = alpha^2 k`.
template <class S>
[[nodiscard]] Scale<S> schatten_scale(const Start<S>& start, Index width) {
  using std::log;
  require(start.family() == StartFamily::uniform, "a factorization has uniform starts only, not a ",
          to_string(start.family()), " one");
  return start.scale().shifted(log(static_cast<S>(width) / S(2)) / S(2));
}

/// Throws ArgumentError for observed entries off the diagonal.
template <class S>
void require_commuting_entries(const MatrixMeasurements<S>& measurements) {
  const auto* const observed = as_kind<EntryMeasurements<S>>(measurements);
  if (observed == nullptr) return;
  for (const auto [i, j] : observed->entries())
    require(i == j, "the entry at (", i, ", ", j,
            ") is observed: entries off the diagonal do not commute, and no theorem names the regularizer of matrix "
            "completion; SchattenPath minimizes the one that is conjectured, simulate(net, data, w0) follows the flow");
}

/// Throws InfeasibleError where no matrix has these measurements. Observed entries are compared with each other; others
/// cost a factorization of N x d1 d2 numbers, which is not made for more than 32 million of them.
template <class S>
void require_measurable(const Dataset<S>& data) {
  const MatrixMeasurements<S>& measurements = data.measurements();
  if (const auto* const observed = as_kind<EntryMeasurements<S>>(measurements)) {
    Matrix<S> seen = Matrix<S>::Constant(measurements.rows(), measurements.cols(), std::numeric_limits<S>::quiet_NaN());
    Index n = 0;
    for (const auto [i, j] : observed->entries()) {
      using std::isnan;
      require<InfeasibleError>(isnan(seen(i, j)) || seen(i, j) == data.y()[n], "no matrix fits y: its entry (", i, ", ",
                               j, ") is ", seen(i, j), " and ", data.y()[n]);
      seen(i, j) = data.y()[n++];
    }
    return;
  }
  constexpr Index most = Index(1) << 25;
  if (measurements.num_measurements() * measurements.rows() * measurements.cols() > most) return;
  require_solution(Dataset<S>(dense_rows(measurements), data.y()));
}

/// The lifted flow, whose steps are to be as accurate in the residual as in the stack. Where the loss is below the
/// square of their tolerance the stack hardly moves: errors of the stack would allow any step then, and a linearly
/// implicit one of many e-folds leaves more of the residual than the flow does, so that a loss is reached late.
template <class M>
class TimedLiftedFlow : public LiftedFlow<M> {
 public:
  using Scalar = typename M::Scalar;

  TimedLiftedFlow(M model, const Dataset<Scalar>& dataset)
      : LiftedFlow<M>(std::move(model), dataset), residual_(dataset.num_samples()), change_(dataset.num_samples()) {}

  /// From now on residuals count absolutely where they are smaller than the rounding of this size.
  void set_size(Scalar size) { floor_ = std::sqrt(std::numeric_limits<Scalar>::epsilon()) * size; }

  /// The larger of the errors of the stack and of the residual.
  template <class Tolerance>
  [[nodiscard]] Scalar error_ratio(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> w_new, ConstVectorRef<Scalar> error,
                                   const Tolerance& tolerance) const {
    const Scalar of_stack = LiftedFlow<M>::error_ratio(w, w_new, error, tolerance);
    if (!(of_stack <= Scalar(1))) return of_stack;
    this->residual(w_new, residual_);
    this->jvp(w_new, error, change_);
    constexpr Scalar rounding = Scalar(64) * std::numeric_limits<Scalar>::epsilon();
    const Scalar allowed = tolerance.relative * (norm(residual_) + floor_) + rounding * w_new.squaredNorm();
    return std::max<Scalar>(of_stack, norm(change_) / allowed);
  }

 private:
  Scalar floor_ = Scalar(0);
  mutable Vector<Scalar> residual_;
  mutable Vector<Scalar> change_;
};

/// Runs the lifted flow; `kept(w)` is what is kept.
template <class M, class Kept>
void simulate_lifted(const M& net, const Dataset<typename M::Scalar>& data, const Vector<typename M::Scalar>& w0,
                     const SimulateOptions<typename M::Scalar>& options, const Kept& kept,
                     SimulationRecord<typename M::Scalar>& result) {
  using S = typename M::Scalar;
  using std::sqrt;
  if (is_until_fit(options)) require_measurable(data);
  TimedLiftedFlow<M> flow(net, data);
  require_size("w0", w0.size(), flow.dimension());
  PiController<S> controller;
  controller.tolerance = {options.tolerance > S(0) ? options.tolerance : S(1e-4), S(0)};
  controller.first_step = flow.first_step(w0);
  const S size = std::max<S>(norm(data.y()), sqrt(flow.loss(w0)));
  flow.set_size(size);
  run_simulation<S>(flow, w0, Rodas4{}, controller, size, options, kept, result, result.w);
  result.method = sentence("the lifted flow, ", net.shape().stack_size(), " x ", net.width(),
                           ", by Rodas4, errors relative to each direction and to the residual within ",
                           controller.tolerance.relative);
  // The state of both is the stack.
  const GradientFlow<M> weights(net, data);
  controller.tolerance.absolute = controller.tolerance.relative * negligible_weight<S>(weights, w0);
  controller.first_step = S(0);
  follow_slowly<S>(TangentFieldOf<GradientFlow<M>>(weights), w0, controller, size, options, kept,
                   conserved_sign(net, w0), result);
}

}  // namespace detail

/// The regularizer of a wide factorization `U V^T` on these measurements, if they commute: Schatten-Q_mu,
/// `2 mu^2 = alpha^2 k` (Woodworth et al. 2020, Section 6; docs/theory.md, section 5.3). Diagonal measurements do;
/// others must be symmetric and commute. Throws ArgumentError naming two measurements that do not commute, where the
/// data are not measurements, and for a start that is not uniform, DimensionError where the shapes do not fit.
/// Cost O(N size^3).
template <class S>
[[nodiscard]] SchattenHypentropy<S> regularizer(const MatrixFactorization<S>& net, const Start<S>& start,
                                                const Dataset<S>& data) {
  const FactorShape& shape = net.shape();
  data.measurements().require_shape(shape);
  if (detail::as_kind<detail::DiagonalMeasurements<S>>(data.measurements()) == nullptr) {
    detail::require_commuting_entries(data.measurements());
    static_cast<void>(commuting_measurements(data));
  }
  return {shape.rows(), shape.cols(), detail::schatten_scale(start, net.width())};
}

/// Where gradient flow on a wide factorization ends if it fits measurements that commute: the minimizer of
/// `regularizer(net, start, data)`, through its spectrum, for any alpha. Throws as `regularizer`, DimensionError where
/// X does not fit, InfeasibleError when no M fits.
template <class S>
[[nodiscard]] MatrixLimit<S> solve(const MatrixFactorization<S>& net, const Dataset<S>& data, const Start<S>& start) {
  const FactorShape& shape = net.shape();
  data.measurements().require_shape(shape);
  const Scale<S> mu = detail::schatten_scale(start, net.width());
  MatrixLimit<S> limit;
  MinimizerResult<S> spectrum;
  if (const auto* diagonal = detail::as_kind<detail::DiagonalMeasurements<S>>(data.measurements())) {
    spectrum = minimize_hypentropy(Dataset<S>(Matrix<S>(diagonal->X()), data.y()), mu);
    limit.matrix = Matrix<S>::Zero(shape.rows(), shape.cols());
    limit.matrix.diagonal() = spectrum.beta;
  } else {
    detail::require_commuting_entries(data.measurements());
    auto found = minimize_schatten_commuting(data, mu);
    limit.matrix = std::move(found.matrix);
    spectrum = std::move(found.spectrum);
  }
  limit.beta = Eigen::Map<const Vector<S>>(limit.matrix.data(), limit.matrix.size());
  limit.regularizer_value = Hypentropy<S>::uniform(spectrum.beta.size(), mu).value(spectrum.beta);
  limit.nu = std::move(spectrum.nu);
  limit.certificate = spectrum.certificate;
  limit.status = spectrum.status;
  limit.method = detail::sentence("the minimizer of Schatten-Q_mu, log mu = ", mu.log(),
                                  ", over M that fit, through its spectrum");
  limit.message = std::move(spectrum.message);
  return limit;
}

/// What gradient flow on a wide factorization does from a uniform start, on any measurements: the
/// LiftedFlow from `F = alpha sqrt(k) I`, D x D, by Rodas4 with errors of 1e-4 in every direction and in the residual.
/// Throws DimensionError or ArgumentError where net, data, start and options do not fit, ArgumentError also where alpha
/// sqrt(k) is outside the range of S, InfeasibleError where y is seen to fit no M and nothing else says where to stop.
/// Cost of a step: O(D^3 + N^3).
template <class S>
[[nodiscard]] MatrixSimulation<S> simulate(const MatrixFactorization<S>& net, const Dataset<S>& data,
                                           const Start<S>& start,
                                           const SimulateOptions<std::type_identity_t<S>>& options = {}) {
  using std::isfinite;
  const Index D = net.shape().stack_size();
  const auto square = net.with_width(D);
  const S size = std::sqrt(S(2)) * detail::schatten_scale(start, net.width()).value();
  require(size > S(0) && isfinite(size), "log alpha = ", start.scale().log(),
          " puts the weights outside the range of the scalar type");
  const auto beta_of = [&](const Vector<S>& w) {
    Vector<S> beta(square.num_inputs());
    square.beta(w, beta);
    return beta;
  };
  MatrixSimulation<S> result;
  detail::simulate_lifted(square, data, square.pack(Matrix<S>(size * Matrix<S>::Identity(D, D))), options, beta_of,
                          result);
  result.beta = beta_of(result.w);
  result.matrix = square.product(result.w);
  return result;
}

/// The flow of a factorization, symmetric or not, on any measurements, from the weights w0: the LiftedFlow from
/// `net.reduce(w0)`, whose predictor is the same. `model` and `w` of the result are those of `net.reduced()`. Where
/// that does not reach its end and the reduced stack has at most 32 entries, it is followed once more by RelaxedEuler,
/// as for any model. Throws as above, and DimensionError unless w0 has P entries; cost as above.
template <class S, bool symmetric>
[[nodiscard]] ModelSimulation<MatrixFactorization<S, symmetric>> simulate(
    const MatrixFactorization<S, symmetric>& net, const Dataset<std::type_identity_t<S>>& data,
    const Vector<std::type_identity_t<S>>& w0, const SimulateOptions<std::type_identity_t<S>>& options = {}) {
  require_size("w0", w0.size(), net.num_parameters());
  ModelSimulation<MatrixFactorization<S, symmetric>> result(net.reduced());
  detail::simulate_lifted(
      net.reduced(), data, net.reduce(w0), options, [](const Vector<S>& w) { return w; }, result);
  return result;
}

}  // namespace richflow
