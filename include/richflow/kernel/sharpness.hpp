#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scalar_of.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/gauss_newton.hpp"
#include "richflow/integrate/observer.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/lanczos.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/loss.hpp"
#include "richflow/losses/objective.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// Which part of the Hessian of `L(w)`.
enum class HessianPart {
  full,          ///< `J^T H J + sum_n dL/df_n d^2 f_n / dw^2`, H = d^2 L / df^2
  gauss_newton,  ///< `J^T H J` alone: the same where the data are fitted, and never below 0
};

/// Options of a sharpness.
struct SharpnessOptions {
  HessianPart part = HessianPart::full;
  /// Of `|H v - value v|`, relative to the value; 0: the root of the machine epsilon, 1.5e-8 in double.
  double tolerance = 0.0;
  Index max_products = 2000;  ///< with the Hessian, per measurement
  Index basis = 48;           ///< vectors that are kept, > 1, of P numbers each (or NK, see Sharpness)
  std::uint64_t seed = 1;     ///< of the vector that it starts from
  Index every = 1;            ///< as an observer: steps from one measurement to the next
};

/// A measured sharpness.
template <class S>
struct SharpnessResult : Result<SharpnessResult<S>> {
  S value = S(0);                             ///< the largest eigenvalue
  Status status = Status::tolerance_reached;  ///< `max_steps`, `stalled` or `non_finite` where it is not to be trusted
  std::string message = {};                   ///< how it ended
  Index products = 0;                         ///< with the Hessian
  /// The certificate, `|H v - value v|` by a product of its own: an eigenvalue is at most this far from the value.
  S residual = S(0);
  Vector<S> eigenvector = {};  ///< v, P values of norm 1

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

namespace detail {

/// `out = sum G_nk d^2 f_k(w, x_n) / dw^2 v`, as the model knows it; empty where it does not.
template <class S>
using HessianProduct = std::function<void(const Vector<S>&, ConstMatrixRef<S>, const Vector<S>&, Vector<S>&)>;

template <class M>
[[nodiscard]] HessianProduct<typename M::Scalar> hessian_product_on([[maybe_unused]] const M& model,
                                                                    [[maybe_unused]] Samples<typename M::Scalar> X) {
  using S = typename M::Scalar;
  if constexpr (HasHessianProduct<M>)
    return [model, X](const Vector<S>& w, ConstMatrixRef<S> G, const Vector<S>& v, Vector<S>& out) {
      hessian_product_of(model, w, X, G, v, out);
    };
  else
    return {};
}

/// An evaluation that never stores J: of models whose `vjp` and `jvp` cost less than products with it.
template <class S>
class UnstoredEvaluation final : public EvaluationAround<S> {
 public:
  explicit UnstoredEvaluation(Evaluation<S> inner) : EvaluationAround<S>(std::move(inner)) {}

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<UnstoredEvaluation>(*this);
  }
  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override { this->inner().forward(w, X, F); }
  void linearize(ConstVectorRef<S> /*w*/, Samples<S> /*X*/) override {}
};

/// What Sharpness is but for the types of its model and loss: the Hessian at a point, and Lanczos' method on it.
template <class S>
class SharpnessEngine final : private SymmetricOperator<S> {
 public:
  SharpnessEngine(EvaluationFlow<S> flow, Index num_outputs, CurvatureKind kind, HessianProduct<S> second,
                  const SharpnessOptions& options);

  [[nodiscard]] Index num_parameters() const { return w_.size(); }
  [[nodiscard]] const SharpnessOptions& options() const { return options_; }

  void measure(const Vector<S>& w);
  [[nodiscard]] S value() const { return value_; }
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] S residual() const { return residual_; }
  [[nodiscard]] Index products() const { return products_; }
  [[nodiscard]] const Vector<S>& eigenvector() const { return eigenvector_; }
  [[nodiscard]] std::string message() const;

 private:
  void apply(const Vector<S>& v, Vector<S>& out) override {
    if (is_of_kernel_)
      apply_kernel(v, out);
    else
      apply_hessian(v, out);
  }
  /// `out = H v`, v of norm 1: the Gauss-Newton part, and what the residuals add.
  void apply_hessian(const Vector<S>& v, Vector<S>& out);
  /// `out = R^T J J^T R u` with R R^T the second derivative of the loss, and pulled_ = J^T R u.
  void apply_kernel(const Vector<S>& u, Vector<S>& out);
  void multiply_root(const Vector<S>& f, bool is_transposed, Vector<S>& out) const;
  /// `out = J^T dL/df` at w_ + shift v: dL/df is that at w_, or where the loss does not know its curvature that there.
  void write_gradient(S shift, const Vector<S>& v, Vector<S>& out);
  /// Measures the residual of the eigenvector.
  void certify();
  [[nodiscard]] bool takes_differences() const {
    return options_.part == HessianPart::full && has_residuals_ && !(second_ && kind_ != CurvatureKind::unknown);
  }

  EvaluationFlow<S> flow_;
  GaussNewtonTangent<S> tangent_;
  Index num_outputs_;
  CurvatureKind kind_;
  HessianProduct<S> second_;
  SharpnessOptions options_;
  S tolerance_;
  bool is_of_kernel_;
  Lanczos<S> lanczos_;
  Vector<S> w_;
  Vector<S> slope_ = {};         // dL / df, NK
  Vector<S> pushed_ = {};        // scratch, NK
  Vector<S> rooted_ = {};        // scratch, NK
  Vector<S> kernel_image_ = {};  // scratch, NK
  Vector<S> pulled_ = {};        // scratch, P, and so are those that follow
  Vector<S> shifted_ = {};
  Vector<S> ahead_ = {};
  Vector<S> behind_ = {};
  Vector<S> image_ = {};
  Vector<S> eigenvector_ = {};
  bool has_residuals_ = false;
  S difference_ = S(0);  // length of the step of a difference
  S value_ = S(0);
  S residual_ = S(0);
  Index products_ = 0;
  Status status_ = Status::tolerance_reached;
};

}  // namespace detail

/// The sharpness of a loss along a run: the largest eigenvalue of the Hessian of `L(w)`, the plain sum over the
/// samples, of any model and loss; without the Hessian in memory, by Lanczos' method with full reorthogonalization and
/// thick restarts, which clusters of eigenvalues at the top do not slow down while they fit half of the basis.
///
///     Sharpness sharpness(net, data);              // or (net, data, LogisticLoss<double>{}), or on a LabelledDataset
///     sharpness(w);                                // the number
///     sharpness.measure(w).require_ok().value;     // with its certificate and eigenvector
///     options.save_at = {.every = 10, .quantities = {{"sharpness", std::cref(sharpness)}}};
///     options.observers = {sharpness};             // sharpness.largest() of all steps
///     options.events = {edge_of_stability(sharpness, h).at_step_end()};
///
/// Descent `w <- w - h grad L(w)` is stable at a minimum while `h * sharpness < 2` (heavy ball while it is below
/// `2 (1 + m)`); with weight decay lambda add 2 lambda.
///
/// How exact: the Gauss-Newton part `J^T H J` is exact, by `jvp` and `vjp`. So is the part of the residuals, `sum_n
/// dL/df_n d^2 f_n / dw^2`, for models with `hessian_product` (diagonal nets, factorizations). For others it is the
/// central difference of `J(w)^T dL/df` at fixed dL/df, by steps e = eps^(1/3) |w|_inf along directions of norm 1: of
/// second order, off by e^2 / 6 times the third derivative of `J^T dL/df` along the direction, and by about `eps |J^T
/// dL/df| / e` of rounding, in double 4e-11 of `|J^T dL/df| / |w|_inf`; both vanish with the residuals. Where a kink of
/// a ReLU lies within such a step, the certificate, which takes half the step, does not hold; then the steps are made
/// 64 times shorter, twice at most. Losses that do not know their second derivative go by central differences of the
/// whole gradient, and have no Gauss-Newton part.
///
/// Refers to the data, which must outlive it. The memory, `basis` vectors of P values (of NK where the Gauss-Newton
/// part alone is asked for and NK < P: it has the eigenvalues of the NK x NK kernel), is made at once, and what the
/// evaluation of the model stores (`linearize`) by the first measurement; later ones allocate nothing. The value is a
/// function of w alone: every measurement starts from the same vector. Cost: a `forward`, and for each product (20 to
/// 50 are usual) a `jvp` and a `vjp`, and where differences are taken two `forward` and two `vjp` more. Give each
/// thread its own.
template <class S = double>
class Sharpness {
 public:
  /// Number type.
  using Scalar = S;

  /// Of `model` on `dataset`. Throws as GradientFlow, and ArgumentError for options out of range, or the Gauss-Newton
  /// part of a loss that does not know its second derivative.
  template <Model M, class L = SquaredLoss<S>>
  requires(Loss<L, S>)
      Sharpness(const M& model, const Dataset<S>& dataset, L loss = {}, const SharpnessOptions& options = {})
      : engine_(make_engine(model, dataset.samples(),
                            std::make_unique<detail::ObjectiveOf<S, L>>(std::move(loss), dataset), nullptr, options)) {}
  template <Model M>
  Sharpness(const M& model, const Dataset<S>& dataset, const SharpnessOptions& options)
      : Sharpness(model, dataset, SquaredLoss<S>{}, options) {}
  /// Of `model`, with an output for each class, on a LabelledDataset, whose samples it copies. Throws as above.
  template <Model M, class L = CrossEntropy<S>>
  requires(ClassLoss<L, S>)
      Sharpness(const M& model, const LabelledDataset<S>& dataset, L loss = {}, const SharpnessOptions& options = {})
      : Sharpness(model, std::make_shared<const Matrix<S>>(dataset.X()),
                  std::make_unique<detail::ClassObjectiveOf<S, L>>(std::move(loss), dataset), options) {}
  template <Model M>
  Sharpness(const M& model, const LabelledDataset<S>& dataset, const SharpnessOptions& options)
      : Sharpness(model, dataset, CrossEntropy<S>{}, options) {}
  template <class M, class... Rest>
  Sharpness(const M&, const Dataset<S>&&, const Rest&...) = delete;
  template <class M, class... Rest>
  Sharpness(const M&, const LabelledDataset<S>&&, const Rest&...) = delete;

  /// The sharpness at w: what `measure` has as its value. Where that did not reach its tolerance, `status()` says so
  /// and `failures()` counts it: the value is then a lower bound, or infinity where the Hessian overflows. Throws
  /// DimensionError unless w has P entries, NonFiniteError where it is not finite.
  [[nodiscard]] S operator()(const Vector<S>& w) const {
    engine_.measure(w);
    if (!is_success(engine_.status())) ++failures_;
    return engine_.value();
  }

  /// The sharpness at w, with how it was found. Throws as above.
  [[nodiscard]] SharpnessResult<S> measure(const Vector<S>& w) const {
    SharpnessResult<S> result;
    result.value = (*this)(w);
    result.status = engine_.status();
    result.message = engine_.message();
    result.products = engine_.products();
    result.residual = engine_.residual();
    result.eigenvector = engine_.eigenvector();
    return result;
  }

  /// As an observer: measures after every step whose number is a multiple of SharpnessOptions::every.
  Action operator()(const StepView<S>& view) {
    if (view.step % engine_.options().every != 0) return Action::proceed;
    const S value = (*this)(view.y);
    if (largest_at_ == 0 || value > largest_) {
      largest_ = value;
      largest_at_ = view.step;
    }
    return Action::proceed;
  }

  /// The last value; 0 before.
  [[nodiscard]] S latest() const { return engine_.value(); }
  /// How the last measurement ended.
  [[nodiscard]] Status status() const { return engine_.status(); }
  /// Its certificate, see SharpnessResult.
  [[nodiscard]] S residual() const { return engine_.residual(); }
  /// Its eigenvector.
  [[nodiscard]] const Vector<S>& eigenvector() const { return engine_.eigenvector(); }
  /// Measurements that did not reach the tolerance.
  [[nodiscard]] Index failures() const { return failures_; }
  /// The largest value that it has observed; 0 before the first.
  [[nodiscard]] S largest() const { return largest_; }
  /// The step after which that was; 0 before the first.
  [[nodiscard]] Index largest_at() const { return largest_at_; }

 private:
  template <class M>
  Sharpness(const M& model, const std::shared_ptr<const Matrix<S>>& X,
            std::unique_ptr<detail::AnyObjective<S>> objective, const SharpnessOptions& options)
      : engine_(make_engine(model, Samples<S>(*X), std::move(objective), X, options)) {}

  template <class M>
  [[nodiscard]] static detail::SharpnessEngine<S> make_engine(const M& model, Samples<S> X,
                                                              std::unique_ptr<detail::AnyObjective<S>> objective,
                                                              const std::shared_ptr<const Matrix<S>>& owned,
                                                              const SharpnessOptions& options) {
    static_assert(explain_model<M>());
    constexpr bool is_of_one_type = std::is_same_v<detail::ScalarOfT<M>, S>;
    static_assert(is_of_one_type, "richflow: the model and the data of a sharpness must be of one number type");
    if constexpr (is_of_one_type) {
      auto at = make_evaluation(model, X.size());
      if constexpr (HasJvp<M> && !HasEvaluation<M>)
        at = Evaluation<S>(std::make_unique<detail::UnstoredEvaluation<S>>(std::move(at)));
      const Index outputs = at.num_outputs();
      const detail::CurvatureKind kind = objective->curvature_kind();
      using Flow = detail::EvaluationFlow<S>;
      Flow flow =
          owned ? Flow(std::move(at), std::move(objective), owned) : Flow(std::move(at), std::move(objective), X);
      return {std::move(flow), outputs, kind, detail::hessian_product_on(model, X), options};
    }
    throw Error("the model has no sharpness");
  }

  mutable detail::SharpnessEngine<S> engine_;
  mutable Index failures_ = 0;
  S largest_ = S(0);
  Index largest_at_ = 0;
};

/// The largest eigenvalue of the Hessian of L at w, once; see Sharpness, also for what it throws.
template <Model M, class L = SquaredLoss<typename M::Scalar>>
requires(!std::is_same_v<L, SharpnessOptions>)
    [[nodiscard]] SharpnessResult<typename M::Scalar> sharpness(const M& model, const Dataset<typename M::Scalar>& data,
                                                                const Vector<typename M::Scalar>& w, L loss = {},
                                                                const SharpnessOptions& options = {}) {
  return Sharpness<typename M::Scalar>(model, data, std::move(loss), options).measure(w);
}
/// The same of a model with an output for each class.
template <Model M, class L = CrossEntropy<typename M::Scalar>>
requires(!std::is_same_v<L, SharpnessOptions>)
    [[nodiscard]] SharpnessResult<typename M::Scalar> sharpness(const M& model,
                                                                const LabelledDataset<typename M::Scalar>& data,
                                                                const Vector<typename M::Scalar>& w, L loss = {},
                                                                const SharpnessOptions& options = {}) {
  return Sharpness<typename M::Scalar>(model, data, std::move(loss), options).measure(w);
}

/// The same under the default loss of the data, with options.
template <Model M, class Data>
[[nodiscard]] SharpnessResult<typename M::Scalar> sharpness(const M& model, const Data& data,
                                                            const Vector<typename M::Scalar>& w,
                                                            const SharpnessOptions& options) {
  return Sharpness<typename M::Scalar>(model, data, options).measure(w);
}

/// The event that descent with steps h reaches its edge of stability: `h * sharpness` crosses `limit`, in the direction
/// given. On a gradient flow it is located between steps; runs of rules test it `at_step_end(every)`. Refers to
/// `sharpness`, which must outlive the run. Throws ArgumentError unless step and limit are positive and finite.
template <class S>
[[nodiscard]] Event<S> edge_of_stability(const Sharpness<S>& sharpness, std::type_identity_t<S> step,
                                         Crossing direction = Crossing::either, std::type_identity_t<S> limit = S(2)) {
  using std::isfinite;
  require(isfinite(step) && step > S(0), "edge_of_stability: the step must be positive and finite, got ", step);
  require(isfinite(limit) && limit > S(0), "edge_of_stability: the limit must be positive and finite, got ", limit);
  return zero_crossing<S>(
      "edge_of_stability",
      [&sharpness, step, limit](S /*t*/, const Vector<S>& w) { return step * sharpness(w) - limit; }, direction);
}
template <class S>
Event<S> edge_of_stability(const Sharpness<S>&&, std::type_identity_t<S>, Crossing = Crossing::either,
                           std::type_identity_t<S> = S(2)) = delete;

namespace detail {

template <class S>
SharpnessEngine<S>::SharpnessEngine(EvaluationFlow<S> flow, Index num_outputs, CurvatureKind kind,
                                    HessianProduct<S> second, const SharpnessOptions& options)
    : flow_(std::move(flow)),
      tangent_(flow_.make_tangent()),
      num_outputs_(num_outputs),
      kind_(kind),
      second_(std::move(second)),
      options_(options),
      tolerance_(options.tolerance > 0.0 ? static_cast<S>(options.tolerance)
                                         : std::sqrt(std::numeric_limits<S>::epsilon())),
      is_of_kernel_(options.part == HessianPart::gauss_newton && flow_.num_residuals() < flow_.dimension()),
      lanczos_(is_of_kernel_ ? flow_.num_residuals() : flow_.dimension(), std::max<Index>(options.basis, 1),
               options.seed) {
  using std::isfinite;
  require(isfinite(options.tolerance) && options.tolerance >= 0.0,
          "sharpness: tolerance must not be negative, and finite, got ", options.tolerance);
  require(options.max_products > 0, "sharpness: max_products must be positive, got ", options.max_products);
  require(options.basis > 1, "sharpness: basis must be more than 1, got ", options.basis);
  require(options.every > 0, "sharpness: every must be positive, got ", options.every);
  require(options.part == HessianPart::full || kind != CurvatureKind::unknown,
          "sharpness: the loss does not know its second derivative (curvature or curvature_root), so that there is no "
          "Gauss-Newton part");
  for (Vector<S>* f : {&slope_, &pushed_, &rooted_, &kernel_image_}) f->setZero(flow_.num_residuals());
  for (Vector<S>* v : {&w_, &pulled_, &shifted_, &ahead_, &behind_, &image_, &eigenvector_})
    v->setZero(flow_.dimension());
}

template <class S>
void SharpnessEngine<S>::measure(const Vector<S>& w) {
  using std::cbrt;
  require_size("w", w.size(), w_.size());
  require_finite("w", w);
  w_ = w;
  products_ = 0;
  tangent_.linearize(w_, slope_, pulled_);
  has_residuals_ = kind_ == CurvatureKind::unknown || largest_size(slope_) != S(0);
  const S size = largest_size(w_);
  difference_ = cbrt(std::numeric_limits<S>::epsilon()) * (size > S(0) ? size : S(1));
  constexpr int attempts = 3;
  constexpr int shortening = 64;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    if (attempt > 0) difference_ /= S(shortening);
    status_ = lanczos_.compute(*this, tolerance_, options_.max_products);
    products_ += lanczos_.products();
    value_ = lanczos_.value();
    certify();
    if (status_ != Status::stalled || !takes_differences()) return;
  }
}

template <class S>
void SharpnessEngine<S>::certify() {
  using std::abs;
  using std::max;
  using std::sqrt;
  residual_ = std::numeric_limits<S>::infinity();
  if (status_ == Status::non_finite) {
    eigenvector_.setZero();
    return;
  }
  if (is_of_kernel_) {
    // The eigenvector of J^T H J that belongs to u is J^T R u; where that is 0, J^T H J is.
    apply_kernel(lanczos_.vector(), kernel_image_);
    const S length = norm(pulled_);
    eigenvector_.setZero();
    if (length > S(0))
      multiple(S(1) / length, pulled_, eigenvector_);
    else
      eigenvector_[0] = S(1);
  } else {
    eigenvector_ = lanczos_.vector();
  }
  const S step = difference_;
  difference_ = step / S(2);
  apply_hessian(eigenvector_, image_);
  difference_ = step;
  ++products_;
  add_multiple(-value_, eigenvector_, image_);
  residual_ = norm(image_);
  // Twice the tolerance: the recurrence met it with other rounding. That of a sum of n terms grows like sqrt(n).
  const S rounding = S(64) * std::numeric_limits<S>::epsilon() * sqrt(S(w_.size())) * lanczos_.size();
  if (status_ == Status::tolerance_reached && !(residual_ <= max(S(2) * tolerance_ * abs(value_), rounding)))
    status_ = Status::stalled;
}

template <class S>
void SharpnessEngine<S>::apply_hessian(const Vector<S>& v, Vector<S>& out) {
  const bool has_curvature = kind_ != CurvatureKind::unknown;
  if (has_curvature) {
    tangent_.jvp(v, pushed_);
    multiply_root(pushed_, true, rooted_);
    multiply_root(rooted_, false, pushed_);
    tangent_.vjp(pushed_, out);
  } else {
    out.setZero();
  }
  if (options_.part == HessianPart::gauss_newton || !has_residuals_) return;
  if (takes_differences()) {
    write_gradient(difference_, v, ahead_);
    write_gradient(-difference_, v, behind_);
    const S scale = S(1) / (S(2) * difference_);
    for (Index i = 0; i < out.size(); ++i) out[i] += (ahead_[i] - behind_[i]) * scale;
  } else {
    second_(w_, Eigen::Map<const Matrix<S>>(slope_.data(), slope_.size() / num_outputs_, num_outputs_), v, ahead_);
    add_multiple(S(1), ahead_, out);
  }
}

template <class S>
void SharpnessEngine<S>::apply_kernel(const Vector<S>& u, Vector<S>& out) {
  multiply_root(u, false, rooted_);
  tangent_.vjp(rooted_, pulled_);
  tangent_.jvp(pulled_, pushed_);
  multiply_root(pushed_, true, out);
}

template <class S>
void SharpnessEngine<S>::multiply_root(const Vector<S>& f, bool is_transposed, Vector<S>& out) const {
  using std::sqrt;
  if (tangent_.is_quadratic())
    multiple(sqrt(tangent_.curvature()), f, out);
  else if (is_transposed)
    tangent_.multiply_root_transposed(f, out);
  else
    tangent_.multiply_root(f, out);
}

template <class S>
void SharpnessEngine<S>::write_gradient(S shift, const Vector<S>& v, Vector<S>& out) {
  sum_with_multiple(w_, shift, v, shifted_);
  if (kind_ != CurvatureKind::unknown) {
    flow_.vjp(shifted_, slope_, out);
  } else {
    flow_.derivative(shifted_, out);
    multiple(S(-1), out, out);
  }
}

template <class S>
std::string SharpnessEngine<S>::message() const {
  switch (status_) {
    case Status::non_finite:
      return "the Hessian has entries that are not finite";
    case Status::max_steps:
      return sentence("after ", products_, " products with the Hessian |H v - value v| is still ", residual_,
                      " at the value ", value_, ", a lower bound; raise max_products or basis");
    case Status::stalled:
      return sentence("|H v - value v| is ", residual_, " at the value ", value_, ", above the tolerance",
                      takes_differences() ? ": differences of gradients give the Hessian no better, because of a "
                                            "kink of the model near w or of rounding"
                                          : "");
    default:
      return sentence("the largest eigenvalue of the Hessian is ", value_, ", to within ", residual_, ", by ",
                      products_, " products");
  }
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SHARPNESS(prefix, S) prefix template class detail::SharpnessEngine<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SHARPNESS)
