#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/linalg/cholesky.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/matrix_factorization.hpp"

namespace richflow {

/// What LiftedFlow factors and solves with, for D x k stacks and N measurements.
template <class S>
struct LiftedSolver {
  Matrix<S> T = {};                         ///< the transposed stack, k x D
  Matrix<S> W = {};                         ///< F F^T, D x D
  Matrix<S> B = {};                         ///< `2 sum_n r_n B_n`, D x D
  Matrix<S> inverse = {};                   ///< of `shift I + B`
  Matrix<S> kernel = {};                    ///< lower triangle of the N x N matrix that is solved with
  Matrix<S> scratch = {};                   ///< D x 3D
  Matrix<S> change = {};                    ///< k x D
  Vector<S> measured = {};                  ///< N
  Eigen::LLT<Matrix<S>> stack_factor = {};  ///< of `shift I + B`
  detail::Cholesky<S> kernel_factor = {};   ///< of the kernel
};

/// The gradient flow of a matrix factorization, at a cost that does not depend on its width (docs/theory.md, section
/// 5.1).
///
///     const MatrixFactorization<double> wide(10, 10, 500'000);
///     const LiftedFlow flow(wide.reduced(), data);
///     integrate_to_loss(flow, wide.reduced_initial_parameters(random, scale), 1e-12, 1e-4);
///
/// With the stack F (`[U; V]` or `U`) and `B = 2 sum_n r_n B_n` (see data/measurements.hpp: `[0 A; A^T 0]` or
/// `A + A^T`, `A = 2 sum_n r_n X_n`) the flow is `F' = -B F`, so that the lifted matrix `W = F F^T` obeys
/// `W' = -(B W + W B)`, where B depends on W alone: the flow is closed in W, D x D, whatever the width. The state is a
/// factor of W of at most D columns, not W itself: it stays positive semidefinite, and its small directions, from
/// which the rich regime grows, keep their digits. So make the model `reduced()`, and start at `reduce(w)` or at
/// `reduced_initial_parameters` of a model of any width.
///
/// A TangentFlow, as the GradientFlow of the model, that also solves with its exact Jacobian (HasLinearSolver):
/// `shift I + B` is D x D, and the N residuals enter by an N x N matrix, so that a linearly implicit step costs O(D^3 +
/// N^3 + k D^2), besides the kernel of the measurements: O(N^2) for entries. Steps are then limited by accuracy, which
/// is measured per direction (see `error_ratio`), and by growth: a step in which a direction would grow more than `1 /
/// gamma` e-folds by linear extrapolation is refused.
///
/// Refers to the dataset, which must outlive it. Calls allocate nothing if the measurements do not (for D and N up to a
/// hundred or so, beyond which Eigen's products do); they share buffers, so give each thread its own copy.
template <class M>
class LiftedFlow {
 public:
  /// Number type.
  using Scalar = typename M::Scalar;
  /// See HasLinearSolver.
  using LinearSolver = LiftedSolver<Scalar>;

  /// `model` on `dataset`. Throws ArgumentError unless the data are measurements, DimensionError where they are not of
  /// a matrix of the model's shape.
  LiftedFlow(M model, const Dataset<Scalar>& dataset);
  LiftedFlow(M, const Dataset<Scalar>&&) = delete;

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() { return "on the lifted flow Rodas4 (integrate_to_loss)"; }
  /// P = D k of the model.
  [[nodiscard]] Index dimension() const { return model_.num_parameters(); }
  /// N.
  [[nodiscard]] Index num_residuals() const { return dataset_->num_samples(); }
  /// The model.
  [[nodiscard]] const M& model() const { return model_; }
  /// The data.
  [[nodiscard]] const Dataset<Scalar>& dataset() const { return *dataset_; }

  /// `W = F F^T`, D x D.
  [[nodiscard]] Matrix<Scalar> lifted(ConstVectorRef<Scalar> w) const;

  /// `dF = -B F`.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const;

  /// `r_n = <M, X_n> - y_n`, N values. Free at the latest evaluated point.
  void residual(ConstVectorRef<Scalar> w, VectorRef<Scalar> r) const;

  /// `L = |r|^2`. Free at the latest evaluated point.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const;

  /// `out = J(w)^T r`, P values.
  void vjp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const;

  /// `out = J(w) v`, N values.
  void jvp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const;

  /// A first step from w for adaptive integration: a tenth of the shortest time, by bounds on B and on the tangent
  /// kernel, in which anything changes by an e-fold. Cost: one linearization.
  [[nodiscard]] Scalar first_step(ConstVectorRef<Scalar> w) const;

  /// The error of a step per direction: `|E (relative^2 F^T F + absolute^2 I)^{-1/2}|_F` for the error E of the stack,
  /// at w_new. At most 1 means that what the error does to a direction in which F has the size s is at most `relative
  /// s`, or `absolute` where that is more. `absolute = 0` (any type with members `absolute` and `relative` serves)
  /// follows the smallest directions as well as the largest. Cost O(k^2 D + k^3).
  template <class Tolerance>
  [[nodiscard]] Scalar error_ratio(ConstVectorRef<Scalar> /*w*/, ConstVectorRef<Scalar> w_new,
                                   ConstVectorRef<Scalar> error, const Tolerance& tolerance) const {
    return error_per_direction(w_new, error, tolerance.relative, tolerance.absolute);
  }

  /// All memory of a factorization.
  [[nodiscard]] LinearSolver make_linear_solver() const;

  /// Takes the Jacobian `-(B + 2 J^T J)` at w. Cost O(k D^2 + N).
  void linearize(Scalar /*t*/, ConstVectorRef<Scalar> w, LinearSolver& solver) const;

  /// Factors `shift I + B + 2 J^T J` by way of `(shift I + B)^{-1}` and the N x N matrix `I / 2 + J (shift I + B)^{-1}
  /// J^T`. False unless `shift I + B` is positive definite.
  [[nodiscard]] bool factorize(Scalar shift, LinearSolver& solver) const;

  /// Solves with what `factorize` factored, in place. Cost O(k D^2 + N^2).
  void solve(LinearSolver& solver, VectorRef<Scalar> u) const;

 private:
  [[nodiscard]] const AnyMeasurements<Scalar>& measured() const { return dataset_->measurements().operations(); }

  [[nodiscard]] Eigen::Map<const Matrix<Scalar>> transposed(const ConstVectorRef<Scalar>& w) const;

  [[nodiscard]] Scalar error_per_direction(ConstVectorRef<Scalar> w_new, ConstVectorRef<Scalar> error, Scalar relative,
                                           Scalar absolute) const;

  void pull_back(ConstVectorRef<Scalar> w, const ConstVectorRef<Scalar>& r, VectorRef<Scalar> out) const;

  void evaluate(ConstVectorRef<Scalar> w) const;

  /// 2^-e for `size = m 2^e`, m in [1/2, 1); 1 for zero and what is not finite.
  [[nodiscard]] static Scalar inverse_power_of_two(Scalar size);

  M model_;
  const Dataset<Scalar>* dataset_;
  mutable Vector<Scalar> point_;     // the latest evaluated w; NaN before the first
  mutable Vector<Scalar> residual_;  // there
  mutable Vector<Scalar> weights_;   // scratch, N
  mutable Matrix<Scalar> gram_, change_;
  mutable Eigen::LLT<Matrix<Scalar>> gram_factor_;
};

template <class M>
LiftedFlow<M>::LiftedFlow(M model, const Dataset<Scalar>& dataset)
    : model_(std::move(model)),
      dataset_(&dataset),
      point_(Vector<Scalar>::Constant(model_.num_parameters(), std::numeric_limits<Scalar>::quiet_NaN())),
      residual_(dataset.num_samples()),
      weights_(dataset.num_samples()),
      gram_(model_.width(), model_.width()),
      change_(model_.width(), model_.shape().stack_size()),
      gram_factor_(model_.width()) {
  dataset.measurements().require_shape(model_.shape());
}

template <class M>
Matrix<typename LiftedFlow<M>::Scalar> LiftedFlow<M>::lifted(ConstVectorRef<Scalar> w) const {
  const auto T = transposed(w);
  Matrix<Scalar> W(T.cols(), T.cols());
  detail::product_of_transposed<Scalar>(T, T, W);
  return W;
}

template <class M>
void LiftedFlow<M>::operator()(Scalar /*t*/, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const {
  evaluate(w);
  weights_ = Scalar(-2) * residual_;
  pull_back(w, weights_, dw);
}

template <class M>
void LiftedFlow<M>::residual(ConstVectorRef<Scalar> w, VectorRef<Scalar> r) const {
  require_size("r", r.size(), num_residuals());
  evaluate(w);
  r = residual_;
}

template <class M>
typename LiftedFlow<M>::Scalar LiftedFlow<M>::loss(ConstVectorRef<Scalar> w) const {
  evaluate(w);
  return residual_.squaredNorm();
}

template <class M>
void LiftedFlow<M>::vjp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const {
  require_size("r", r.size(), num_residuals());
  pull_back(w, r, out);
}

template <class M>
void LiftedFlow<M>::jvp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const {
  model_.jvp(w, dataset_->measurements(), v, out);
}

template <class M>
typename LiftedFlow<M>::Scalar LiftedFlow<M>::first_step(ConstVectorRef<Scalar> w) const {
  LinearSolver solver = make_linear_solver();
  linearize(Scalar(0), w, solver);
  solver.inverse.setIdentity();
  measured().kernel(model_.shape(), solver.inverse, solver.W, solver.kernel, solver.scratch);
  const Scalar rate = solver.B.norm() + Scalar(2) * solver.kernel.diagonal().sum();
  return rate > Scalar(0) ? Scalar(0.1) / rate : Scalar(1);
}

template <class M>
typename LiftedFlow<M>::Scalar LiftedFlow<M>::error_per_direction(ConstVectorRef<Scalar> w_new,
                                                                  ConstVectorRef<Scalar> error, Scalar relative,
                                                                  Scalar absolute) const {
  // In units of the largest allowed error, a power of two, so that no square leaves the normal numbers.
  const Scalar unit =
      inverse_power_of_two(std::max<Scalar>(relative * w_new.template lpNorm<Eigen::Infinity>(), absolute));
  change_ = (unit * relative) * transposed(w_new);
  detail::product_with_transposed<Scalar>(change_, change_, gram_);
  // The smallest eigenvalue is known to rounding of the largest only.
  const Scalar rounding = Scalar(4) * std::numeric_limits<Scalar>::epsilon() * gram_.trace();
  const Scalar smallest = unit * absolute;
  gram_.diagonal().array() += smallest * smallest + rounding + std::numeric_limits<Scalar>::min();
  detail::compute_cholesky(gram_, gram_factor_);
  if (gram_factor_.info() != Eigen::Success) return std::numeric_limits<Scalar>::quiet_NaN();
  change_ = unit * transposed(error);
  gram_factor_.matrixL().solveInPlace(change_);
  return change_.norm();
}

template <class M>
typename LiftedFlow<M>::LinearSolver LiftedFlow<M>::make_linear_solver() const {
  const Index n = num_residuals();
  const Index D = model_.shape().stack_size();
  LinearSolver solver;
  for (Matrix<Scalar>* square : {&solver.W, &solver.B, &solver.inverse}) square->setZero(D, D);
  for (Matrix<Scalar>* stack : {&solver.T, &solver.change}) stack->setZero(model_.width(), D);
  solver.kernel.setZero(n, n);
  solver.scratch.setZero(D, 3 * D);
  solver.measured.setZero(n);
  solver.stack_factor = Eigen::LLT<Matrix<Scalar>>(D);
  solver.kernel_factor.allocate(n);
  return solver;
}

template <class M>
void LiftedFlow<M>::linearize(Scalar /*t*/, ConstVectorRef<Scalar> w, LinearSolver& solver) const {
  evaluate(w);
  solver.T = transposed(w);
  detail::product_of_transposed<Scalar>(solver.T, solver.T, solver.W);
  weights_ = Scalar(2) * residual_;
  solver.B.setZero();
  measured().add_matrix(model_.shape(), weights_, solver.B);
}

template <class M>
bool LiftedFlow<M>::factorize(Scalar shift, LinearSolver& solver) const {
  solver.inverse = solver.B;
  solver.inverse.diagonal().array() += shift;
  detail::compute_cholesky(solver.inverse, solver.stack_factor);
  if (solver.stack_factor.info() != Eigen::Success) return false;
  solver.inverse.setIdentity();
  solver.stack_factor.solveInPlace(solver.inverse);
  measured().kernel(model_.shape(), solver.inverse, solver.W, solver.kernel, solver.scratch);
  const Scalar rounding = Scalar(8) * std::numeric_limits<Scalar>::epsilon() * solver.kernel.diagonal().sum();
  solver.kernel.diagonal().array() += Scalar(0.5) + rounding;
  return solver.kernel_factor.compute(solver.kernel);
}

template <class M>
void LiftedFlow<M>::solve(LinearSolver& solver, VectorRef<Scalar> u) const {
  Eigen::Map<Matrix<Scalar>> U(u.data(), model_.width(), model_.shape().stack_size());
  detail::matrix_product<Scalar>(U, solver.inverse, solver.change);
  solver.measured.setZero();
  measured().add_pairing(model_.shape(), solver.change, solver.T, solver.measured);
  measured().add_pairing(model_.shape(), solver.T, solver.change, solver.measured);
  solver.kernel_factor.solve_in_place(solver.measured);
  solver.measured *= Scalar(-1);
  measured().add_pullback(model_.shape(), solver.measured, solver.T, U);
  detail::matrix_product<Scalar>(U, solver.inverse, solver.change);
  U = solver.change;
}

template <class M>
Eigen::Map<const Matrix<typename LiftedFlow<M>::Scalar>> LiftedFlow<M>::transposed(
    const ConstVectorRef<Scalar>& w) const {
  require_size("w", w.size(), dimension());
  return {w.data(), model_.width(), model_.shape().stack_size()};
}

template <class M>
void LiftedFlow<M>::pull_back(ConstVectorRef<Scalar> w, const ConstVectorRef<Scalar>& r, VectorRef<Scalar> out) const {
  require_size("out", out.size(), dimension());
  out.setZero();
  measured().add_pullback(model_.shape(), r, transposed(w),
                          Eigen::Map<Matrix<Scalar>>(out.data(), model_.width(), model_.shape().stack_size()));
}

template <class M>
void LiftedFlow<M>::evaluate(ConstVectorRef<Scalar> w) const {
  const auto T = transposed(w);
  if (w == point_) return;
  point_ = w;
  residual_ = -dataset_->y();
  measured().add_pairing(model_.shape(), T, T, residual_);
}

template <class M>
typename LiftedFlow<M>::Scalar LiftedFlow<M>::inverse_power_of_two(Scalar size) {
  using std::frexp;
  using std::isfinite;
  using std::ldexp;
  if (!(size >= std::numeric_limits<Scalar>::min()) || !isfinite(size)) return Scalar(1);
  int exponent = 0;
  frexp(size, &exponent);
  return ldexp(Scalar(1), -exponent);
}

/// Follows the flow from w0 until `L <= loss` (a stationary point above that ends as `stalled` or `max_steps`), by the
/// method that measured best: Rodas4 with steps accurate to `relative` in every direction of the stack. 1e-4 gives the
/// limit to some 1e-6, in 10 to 90 steps between the kernel regime and the deep rich one. Where `loss` is far below
/// `relative^2 |y|^2` the time is some percent late, as errors are those of the stack (`simulate` asks for those of the
/// residual, too). Neither has a default: both are the user's choice. Throws as `integrate`.
template <class M>
[[nodiscard]] Solution<typename M::Scalar> integrate_to_loss(const LiftedFlow<M>& flow,
                                                             const Vector<typename M::Scalar>& w0,
                                                             typename M::Scalar loss, typename M::Scalar relative) {
  using S = typename M::Scalar;
  IntegrateOptions<S> options;
  options.events = {loss_below(loss).at_step_end()};
  options.max_steps = 100'000;
  PiController<S> controller;
  controller.tolerance = {relative, S(0)};
  controller.first_step = flow.first_step(w0);
  return integrate(flow, w0, TimeSpan<S>{S(0), std::numeric_limits<S>::infinity()}, Rodas4{}, controller, options);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LIFTED_FLOW(prefix, S)                \
  prefix template class LiftedFlow<MatrixFactorization<S, false>>; \
  prefix template class LiftedFlow<MatrixFactorization<S, true>>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LIFTED_FLOW)
