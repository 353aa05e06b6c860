#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/integrate/stepper.hpp"
#include "richflow/kernel/tangent.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/losses/loss.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/models/evaluation.hpp"

namespace richflow {

/// The gradient flow of a model on data, `w' = -grad L(w) = -2 J(w)^T r(w)`, with `r = f(w, X) - y` and
/// the plain-sum loss `L = |r|^2`; with another loss, `w' = -J(w)^T dL/df`. The state is the parameter vector w (P
/// entries).
///
/// A TangentFlow: any integrator of richflow runs it; the stiff ones (W-methods such as `Ros34Pw2`, and
/// `ExponentialTangent`) work on its N x N tangent kernel and need a QuadraticLoss. Holds its own copy of the model (a
/// shape, no weights) and refers to the dataset, which must outlive it. Calls allocate nothing if the model does not;
/// they share buffers of N values and the model's workspace, so give each thread its own copy.
///
/// For a model made of units (HasUnits) the error of a step is the largest over the units, each relative to the norm of
/// the unit at the start of the step, and that of the whole vector relative to |w|. Deep in the rich regime everything
/// waits for units that grow exponentially from almost nothing; a norm over all parameters, a mean over units or even a
/// high quantile of them does not notice that a step destroyed the few that grow fastest, and the run rests on a saddle
/// forever. No step may change a unit by more than half its norm, either.
template <class M, class L = SquaredLoss<typename M::Scalar>>
requires(explain_model<M>()) class GradientFlow {
 public:
  using Scalar = typename M::Scalar;
  /// `jvp`, `curvature` and `error_ratio` depend on the model and the loss.
  static constexpr bool has_conditional_members = true;
  static_assert(Loss<L, Scalar>, "richflow: the loss must have `value(f, y)` and `gradient(f, y, out)`");
  static_assert(
      QuadraticLoss<L, Scalar> || !detail::Has_curvature<L>,
      "richflow: the loss's curvature does not fit: `Scalar curvature() const`, the c with d^2 L / df^2 = c I");

  /// `model` on `dataset`. Throws DimensionError where the model does not fit the data, and ArgumentError for labels
  /// that the loss does not take. Cost: O(N) and the model's
  /// workspace.
  GradientFlow(M model, const BasicDataset<Scalar>& dataset, L loss = {})
      : model_(std::move(model)),
        dataset_(&dataset),
        loss_(std::move(loss)),
        ws_(detail::make_model_workspace(model_, dataset.X())),
        residual_(dataset.num_samples()) {
    if constexpr (requires { loss_.check_labels(dataset.y()); }) loss_.check_labels(dataset.y());
    if constexpr (LinearPredictor<M>)
      require<DimensionError>(model_.input_dimension() == dataset.dimension(), "the model takes ",
                              model_.input_dimension(), " features but X has ", dataset.dimension(), " columns");
    if constexpr (HasUnits<M>) {
      for (Vector<Scalar>* v : {&unit_norms_, &unit_errors_}) v->setZero(model_.num_units());
      change_.setZero(model_.num_parameters());
    }
  }
  GradientFlow(M, const BasicDataset<Scalar>&&, L = {}) = delete;

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() { return "on the weights of a model Ros2 or Ros34Pw2"; }
  /// P.
  [[nodiscard]] Index dimension() const { return model_.num_parameters(); }
  /// N.
  [[nodiscard]] Index num_residuals() const { return dataset_->num_samples(); }
  /// The model.
  [[nodiscard]] const M& model() const { return model_; }
  /// The data.
  [[nodiscard]] const BasicDataset<Scalar>& dataset() const { return *dataset_; }

  /// `dw = -J(w)^T dL/df`, for the squared loss `-2 J(w)^T r(w)`. Cost: one `predict` and one `vjp` of the model.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> w, VectorRef<Scalar> dw) const {
    detail::predict(model_, w, dataset_->X(), residual_, ws_);
    loss_.gradient(residual_, dataset_->y(), residual_);
    detail::pullback(model_, w, dataset_->X(), residual_, dw, ws_);
    dw *= Scalar(-1);
  }

  /// `r = f(w, X) - y`, N values.
  void residual(ConstVectorRef<Scalar> w, VectorRef<Scalar> r) const {
    detail::predict(model_, w, dataset_->X(), r, ws_);
    r -= dataset_->y();
  }

  /// `out = J(w)^T r`, P values.
  void vjp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> r, VectorRef<Scalar> out) const {
    if constexpr (HasWorkspace<M>) detail::predict(model_, w, dataset_->X(), residual_, ws_);
    detail::pullback(model_, w, dataset_->X(), r, out, ws_);
  }

  /// `out = J(w) v`, N values; only for models with Jacobian-vector products.
  void jvp(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const requires HasJvp<M> {
    if constexpr (HasTangent<M>) {
      model_.linearize(w, dataset_->X(), residual_, ws_);
      model_.tangent_jvp(dataset_->X(), v, out, ws_);
    } else {
      model_.jvp(w, dataset_->X(), v, out);
    }
  }

  /// `L(w)`, for the squared loss `|f(w, X) - y|^2`. Cost: one `predict`.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> w) const {
    detail::predict(model_, w, dataset_->X(), residual_, ws_);
    return loss_.value(residual_, dataset_->y());
  }

  /// Memory for the tangent space of the model on the data; it refers to this flow, which must outlive it.
  [[nodiscard]] Tangent<M> make_tangent() const { return Tangent<M>(model_, dataset_->X()); }

  /// Moves `tangent` to w and writes the derivative, `dw = -J(w)^T dL/df`. `slope` = dL/df, N values.
  void linearize(ConstVectorRef<Scalar> w, Tangent<M>& tangent, VectorRef<Scalar> slope, VectorRef<Scalar> dw) const {
    tangent.linearize(w);
    loss_.gradient(tangent.prediction(), dataset_->y(), slope);
    tangent.vjp(slope, dw);
    dw *= Scalar(-1);
  }

  /// The constant c that makes `c J^T J` the Gauss-Newton matrix, the stiff part of the flow: 2 for the squared loss.
  [[nodiscard]] Scalar curvature() const requires QuadraticLoss<L, Scalar> { return loss_.curvature(); }

  /// The largest rate at which a unit changes relative to its norm, `max_u |dw_u| / |w_u|`; for a model without units,
  /// `|dw| / |w|`. A step much longer than its inverse cannot follow the flow.
  [[nodiscard]] Scalar growth_rate(ConstVectorRef<Scalar> w, ConstVectorRef<Scalar> dw) const {
    using std::sqrt;
    const Scalar tiny = std::numeric_limits<Scalar>::min();
    if constexpr (HasUnits<M>) {
      model_.unit_square_norms(w, unit_norms_);
      model_.unit_square_norms(dw, unit_errors_);
      return sqrt((unit_errors_.array() / (unit_norms_.array() + tiny)).maxCoeff());
    } else {
      return dw.norm() / (w.norm() + tiny);
    }
  }

  /// The error of the step from w to w_new in units of what is allowed (HasErrorRatio): the largest of all units.
  [[nodiscard]] Scalar error_ratio(const Vector<Scalar>& w, const Vector<Scalar>& w_new, const Vector<Scalar>& error,
                                   const Tolerance<Scalar>& tolerance) const requires HasUnits<M> {
    using std::isfinite;
    using std::sqrt;
    const Scalar absolute = tolerance.absolute + std::numeric_limits<Scalar>::min();
    const Scalar size = std::max(detail::norm(w), detail::norm(w_new));
    const Scalar whole = detail::norm(error) / (absolute + tolerance.relative * size);
    if (!isfinite(whole)) return whole;
    model_.unit_square_norms(w, unit_norms_);
    model_.unit_square_norms(error, unit_errors_);
    Scalar largest(0);
    for (Index k = 0; k < unit_norms_.size(); ++k) {
      unit_norms_[k] = sqrt(unit_norms_[k]);
      largest = std::max(largest, sqrt(unit_errors_[k]) / (absolute + tolerance.relative * unit_norms_[k]));
    }
    detail::sum_with_multiple(w_new, Scalar(-1), w, change_);
    model_.unit_square_norms(change_, unit_errors_);
    // In the same proportion to the tolerances, so that units below the absolute one may change freely.
    const Scalar negligible = tolerance.relative > Scalar(0) ? absolute / tolerance.relative : absolute;
    Scalar change(0);
    for (Index k = 0; k < unit_norms_.size(); ++k)
      change = std::max(change, sqrt(unit_errors_[k]) / (negligible + unit_norms_[k]));
    change /= largest_change;
    // Squared: an error falls at least like h^2, and the next step is chosen accordingly.
    return std::max({whole, largest, change * change});
  }

 private:
  static constexpr Scalar largest_change = Scalar(0.5);

  M model_;
  const BasicDataset<Scalar>* dataset_;
  L loss_;
  mutable detail::ModelWorkspace<M> ws_;
  mutable Vector<Scalar> residual_;
  mutable Vector<Scalar> unit_norms_ = {};
  mutable Vector<Scalar> unit_errors_ = {};
  mutable Vector<Scalar> change_ = {};
};

}  // namespace richflow
