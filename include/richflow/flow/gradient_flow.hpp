#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/loss.hpp"
#include "richflow/losses/objective.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

namespace detail {

/// The gradient flow of an evaluation and a loss: what GradientFlow is but for the types of its model and loss.
template <class S>
class EvaluationFlow {
 public:
  /// On the samples X.
  EvaluationFlow(Evaluation<S> evaluation, std::unique_ptr<AnyObjective<S>> objective, Samples<S> X);
  /// On the rows of a matrix that copies share.
  EvaluationFlow(Evaluation<S> evaluation, std::unique_ptr<AnyObjective<S>> objective,
                 std::shared_ptr<const Matrix<S>> X);
  EvaluationFlow(const EvaluationFlow& other);
  EvaluationFlow(EvaluationFlow&&) noexcept = default;
  EvaluationFlow& operator=(const EvaluationFlow& other) { return *this = EvaluationFlow(other); }
  EvaluationFlow& operator=(EvaluationFlow&&) noexcept = default;
  ~EvaluationFlow() = default;

  [[nodiscard]] Index dimension() const { return evaluation_.num_parameters(); }
  [[nodiscard]] Index num_residuals() const { return outputs_.size(); }

  void derivative(ConstVectorRef<S> w, VectorRef<S> dw) const;
  [[nodiscard]] S loss(ConstVectorRef<S> w) const;
  /// `f = f(w, X)`, NK values.
  void outputs(ConstVectorRef<S> w, VectorRef<S> f) const;
  void vjp(ConstVectorRef<S> w, ConstVectorRef<S> r, VectorRef<S> out) const;
  void jvp(ConstVectorRef<S> w, ConstVectorRef<S> v, VectorRef<S> out) const;
  [[nodiscard]] S error_ratio(const Vector<S>& w, const Vector<S>& w_new, const Vector<S>& error,
                              const Tolerance<S>& tolerance) const;
  [[nodiscard]] GaussNewtonTangent<S> make_tangent() const { return {evaluation_, *objective_, X_}; }

 private:
  static constexpr S largest_change = S(0.5);

  void move_to(ConstVectorRef<S> w) const;

  mutable Evaluation<S> evaluation_;
  std::unique_ptr<AnyObjective<S>> objective_;
  Samples<S> X_;
  std::shared_ptr<const Matrix<S>> owned_ = {};  // what X_ is a view of, if it is not the caller's
  mutable Matrix<S> outputs_;                    // N x K
  mutable bool has_samples_ = false;
  mutable Vector<S> unit_norms_ = {};
  mutable Vector<S> unit_errors_ = {};
  mutable Vector<S> change_ = {};
};

}  // namespace detail

/// The gradient flow of a model on data, `w' = -grad L(w) = -J(w)^T dL/df`. The state is the parameter vector w (P
/// entries).
///
///     const GradientFlow flow(net, data);              // squared loss; N x K labels for a model with K outputs
///     const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-9}};
///     const auto run = integrate(flow, w0, TimeSpan{0, 10}, Ros34Pw2{}, controller).require_ok();
///     GradientFlow(net, data, LogisticLoss<double>{})  // another loss
///     GradientFlow(net, labelled)                      // K classes, cross-entropy
///
/// For the plain-sum squared loss `L = |r|^2`, `r = f(w, X) - y`, it is `w' = -2 J(w)^T r(w)`.
///
/// A TangentFlow: any integrator of richflow runs it; the stiff ones (W-methods such as `Ros34Pw2`, and
/// `ExponentialTangent`) work on its NK x NK tangent kernel and need a loss of known curvature (QuadraticLoss,
/// ConvexLoss, ConvexClassLoss). Holds its own copy of the model (a shape, no weights) and refers to the dataset, which
/// must outlive it. Calls allocate nothing if the model does not; they share buffers of NK values and the model's
/// evaluation, so give each thread its own copy.
///
/// For a model with units (HasUnits) the error of a step is the largest over the units, each relative to the norm of
/// the unit at the start of the step, and that of the whole vector relative to |w|. Deep in the rich regime everything
/// waits for units that grow exponentially from almost nothing; a norm over all parameters, a mean over units or even a
/// high quantile of them does not notice that a step destroyed the few that grow fastest, and the run rests on a saddle
/// forever. No step may change a unit by more than half its norm, either (docs/theory.md, section 10.3).
template <class M, class L = SquaredLoss<typename M::Scalar>>
requires(explain_model<M>()) class GradientFlow {
 public:
  using Scalar = typename M::Scalar;
  /// `residual` and `error_ratio` depend on the loss and the model.
  static constexpr bool has_conditional_members = true;
  static constexpr bool is_of_classes = ClassLoss<L, Scalar>;
  /// Whether the linearly implicit steppers can work on it.
  static constexpr bool has_curvature = QuadraticLoss<L, Scalar> || ConvexLoss<L, Scalar> || ConvexClassLoss<L, Scalar>;
  static_assert(
      Loss<L, Scalar> || ClassLoss<L, Scalar>,
      "richflow: the loss must have `value(f, y)` and `gradient(f, y, out)`, or for classes `value(F, labels)` "
      "and `value_and_gradient(F, labels, G)`");
  static_assert(
      QuadraticLoss<L, Scalar> || !detail::Has_curvature<L>,
      "richflow: the loss's curvature does not fit: `Scalar curvature() const`, the c with d^2 L / df^2 = c I");
  static_assert(ConvexLoss<L, Scalar> || ConvexClassLoss<L, Scalar> || !detail::Has_curvature_root<L>,
                "richflow: the loss's curvature_root does not fit: `void curvature_root(ConstVectorRef<Scalar> f, "
                "ConstVectorRef<Scalar> y, VectorRef<Scalar> out) const`, the roots of the second derivatives, or for "
                "classes `void curvature_root(ConstMatrixRef<Scalar> F, ConstVectorRef<int> labels, MatrixRef<Scalar> "
                "R) const`");

  /// `model` on `dataset`. Throws DimensionError where the model does not fit the data, and ArgumentError for labels
  /// that the loss does not take, or where the model takes rows and the data are measurements of a matrix, or the other
  /// way round. Cost: O(NK) and the model's evaluation for N samples.
  GradientFlow(M model, const Dataset<Scalar>& dataset, L loss = {}) requires(!is_of_classes)
      : model_(std::move(model)),
        dataset_(&dataset),
        flow_(make_evaluation(model_, dataset.num_samples()),
              std::make_unique<detail::ObjectiveOf<Scalar, L>>(std::move(loss), dataset), dataset.samples()) {}
  GradientFlow(M, const Dataset<Scalar>&&, L = {}) requires(!is_of_classes) = delete;

  /// `model`, with an output for each class, on a LabelledDataset, whose samples it copies. Throws as above.
  template <class Labelled>
  requires(std::is_same_v<Labelled, LabelledDataset<typename M::Scalar>>&& ClassLoss<L, typename M::Scalar>)
      GradientFlow(M model, const Labelled& dataset, L loss = {})
      : model_(std::move(model)),
        flow_(make_evaluation(model_, dataset.num_samples()),
              std::make_unique<detail::ClassObjectiveOf<Scalar, L>>(std::move(loss), dataset),
              std::make_shared<const Matrix<Scalar>>(dataset.X())) {}
  GradientFlow(M, const LabelledDataset<Scalar>&&, L = {}) requires is_of_classes = delete;

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() { return "on the weights of a model Ros2 or Ros34Pw2"; }
  /// P.
  [[nodiscard]] Index dimension() const { return flow_.dimension(); }
  /// N K.
  [[nodiscard]] Index num_residuals() const { return flow_.num_residuals(); }
  /// The model.
  [[nodiscard]] const M& model() const { return model_; }
  /// The data.
  [[nodiscard]] const Dataset<Scalar>& dataset() const requires(!is_of_classes) { return *dataset_; }

  /// `dw = -J(w)^T dL/df`, for the squared loss `-2 J(w)^T r(w)`. Cost: one `forward` and one `vjp` of the model.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const { flow_.derivative(w, dw); }

  /// `r = f(w, X) - y`, NK values; not for classes.
  void residual(ConstVectorRef<Scalar> w, VectorRef<Scalar> r) const requires(!is_of_classes) {
    flow_.outputs(w, r);
    r -= Eigen::Map<const Vector<Scalar>>(dataset_->Y().data(), r.size());
  }

  /// `out = J(w)^T r`, P values.
  void vjp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const { flow_.vjp(w, r, out); }

  /// `out = J(w) v`, NK values.
  void jvp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const { flow_.jvp(w, v, out); }

  /// `L(w)`, for the squared loss `|f(w, X) - y|^2`. Cost: one `forward`.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const { return flow_.loss(w); }

  /// Memory for the tangent space of the model on the data; it refers to this flow, which must outlive it.
  [[nodiscard]] GaussNewtonTangent<Scalar> make_tangent() const { return flow_.make_tangent(); }

  /// The error of the step from w to w_new in units of what is allowed (HasErrorRatio): the largest of all units.
  [[nodiscard]] Scalar error_ratio(const Vector<Scalar>& w, const Vector<Scalar>& w_new, const Vector<Scalar>& error,
                                   const Tolerance<Scalar>& tolerance) const requires HasUnits<M> {
    return flow_.error_ratio(w, w_new, error, tolerance);
  }

 private:
  M model_;
  const Dataset<Scalar>* dataset_ = nullptr;
  detail::EvaluationFlow<Scalar> flow_;
};

template <class M>
GradientFlow(M, const LabelledDataset<typename M::Scalar>&) -> GradientFlow<M, CrossEntropy<typename M::Scalar>>;

namespace detail {

template <class S>
EvaluationFlow<S>::EvaluationFlow(Evaluation<S> evaluation, std::unique_ptr<AnyObjective<S>> objective, Samples<S> X)
    : evaluation_(std::move(evaluation)), objective_(std::move(objective)), X_(X) {
  require(evaluation_.takes_measurements() == X_.are_measurements(),
          evaluation_.takes_measurements() ? "the model takes measurements of a matrix and the data are rows X"
                                           : "the model takes rows X and the data are measurements of a matrix");
  require<DimensionError>(evaluation_.num_inputs() == 0 || evaluation_.num_inputs() == X_.num_inputs(),
                          "the model takes ", evaluation_.num_inputs(), " features but X has ", X_.num_inputs(),
                          " columns");
  require<DimensionError>(evaluation_.num_outputs() == objective_->num_outputs(), "the model has ",
                          evaluation_.num_outputs(), " outputs but the labels of a sample are for ",
                          objective_->num_outputs());
  outputs_.setZero(X_.size(), evaluation_.num_outputs());
  if (evaluation_.num_units() > 0) {
    for (Vector<S>* v : {&unit_norms_, &unit_errors_}) v->setZero(evaluation_.num_units());
    change_.setZero(dimension());
  }
}

template <class S>
EvaluationFlow<S>::EvaluationFlow(Evaluation<S> evaluation, std::unique_ptr<AnyObjective<S>> objective,
                                  std::shared_ptr<const Matrix<S>> X)
    : EvaluationFlow(std::move(evaluation), std::move(objective), Samples<S>(*X)) {
  owned_ = std::move(X);
}

template <class S>
EvaluationFlow<S>::EvaluationFlow(const EvaluationFlow& other)
    : evaluation_(other.evaluation_),
      objective_(other.objective_->clone()),
      X_(other.X_),
      owned_(other.owned_),
      outputs_(other.outputs_),
      has_samples_(other.has_samples_),
      unit_norms_(other.unit_norms_),
      unit_errors_(other.unit_errors_),
      change_(other.change_) {}

template <class S>
void EvaluationFlow<S>::move_to(ConstVectorRef<S> w) const {
  if (has_samples_)
    evaluation_.forward(w, outputs_);
  else
    evaluation_.forward(w, X_, outputs_);
  has_samples_ = true;
}

template <class S>
void EvaluationFlow<S>::derivative(ConstVectorRef<S> w, VectorRef<S> dw) const {
  move_to(w);
  objective_->gradient(outputs_, outputs_);
  evaluation_.vjp(outputs_, dw);
  for (Index i = 0; i < dw.size(); ++i) dw[i] = -dw[i];
}

template <class S>
S EvaluationFlow<S>::loss(ConstVectorRef<S> w) const {
  move_to(w);
  return objective_->value(outputs_);
}

template <class S>
void EvaluationFlow<S>::outputs(ConstVectorRef<S> w, VectorRef<S> f) const {
  require_size("the vector over samples", f.size(), outputs_.size());
  move_to(w);
  std::copy_n(outputs_.data(), outputs_.size(), f.data());
}

template <class S>
void EvaluationFlow<S>::vjp(ConstVectorRef<S> w, ConstVectorRef<S> r, VectorRef<S> out) const {
  require_size("the vector over samples", r.size(), outputs_.size());
  move_to(w);
  evaluation_.vjp(Eigen::Map<const Matrix<S>>(r.data(), outputs_.rows(), outputs_.cols()), out);
}

template <class S>
void EvaluationFlow<S>::jvp(ConstVectorRef<S> w, ConstVectorRef<S> v, VectorRef<S> out) const {
  require_size("the vector over samples", out.size(), outputs_.size());
  move_to(w);
  evaluation_.jvp(v, Eigen::Map<Matrix<S>>(out.data(), outputs_.rows(), outputs_.cols()));
}

template <class S>
S EvaluationFlow<S>::error_ratio(const Vector<S>& w, const Vector<S>& w_new, const Vector<S>& error,
                                 const Tolerance<S>& tolerance) const {
  using std::isfinite;
  using std::sqrt;
  const S absolute = tolerance.absolute + std::numeric_limits<S>::min();
  const S size = std::max(norm(w), norm(w_new));
  const S whole = norm(error) / (absolute + tolerance.relative * size);
  if (!isfinite(whole)) return whole;
  evaluation_.unit_square_norms(w, unit_norms_);
  evaluation_.unit_square_norms(error, unit_errors_);
  S largest(0);
  for (Index k = 0; k < unit_norms_.size(); ++k) {
    unit_norms_[k] = sqrt(unit_norms_[k]);
    largest = std::max(largest, sqrt(unit_errors_[k]) / (absolute + tolerance.relative * unit_norms_[k]));
  }
  sum_with_multiple(w_new, S(-1), w, change_);
  evaluation_.unit_square_norms(change_, unit_errors_);
  // In the same proportion to the tolerances, so that units below the absolute one may change freely.
  const S negligible = tolerance.relative > S(0) ? absolute / tolerance.relative : absolute;
  S change(0);
  for (Index k = 0; k < unit_norms_.size(); ++k)
    change = std::max(change, sqrt(unit_errors_[k]) / (negligible + unit_norms_[k]));
  change /= largest_change;
  // Squared: an error falls at least like h^2, and the next step is chosen accordingly.
  return std::max({whole, largest, change * change});
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_GRADIENT_FLOW(prefix, S) prefix template class detail::EvaluationFlow<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_GRADIENT_FLOW)
