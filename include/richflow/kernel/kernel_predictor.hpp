#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/scaling.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/minimizers/least_norm.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

namespace detail {

/// What makes the evaluations of a model, which must stay; none for a model that is refused, by one sentence.
template <class S, class M>
[[nodiscard]] std::function<Evaluation<S>(Index)> evaluations_of(const M& model) {
  static_assert(explain_model<M>());
  if constexpr (Model<M>) {
    constexpr bool is_of_one_type = std::is_same_v<typename M::Scalar, S>;
    static_assert(is_of_one_type, "richflow: the model and the data must be of one number type");
    if constexpr (is_of_one_type) return [&model](Index max_batch) { return make_evaluation(model, max_batch); };
  }
  return {};
}

}  // namespace detail

/// The kernel regime in closed form: the whole gradient flow of the tangent model at w0 (Linearized) for the plain-sum
/// squared loss, at any time, infinity included (docs/theory.md, section 1.4).
///
///     const KernelPredictor kernel(net, w0, data);
///     const Vector<double> f = kernel.predict(X_test);                    // where the flow ends
///     const Vector<double> early = kernel.predict(X_test, 0.5);           // at t = 0.5
///
/// The limit is the kernel predictor
///
///     f(x) = f_0(x) + K(x, X) K(X, X)^{-1} (y - f_0(X)),    K = J(w0) J(w0)^T,
///
/// the interpolator of least change of f_0 in the norm of the tangent kernel's RKHS, which equals |w(inf) - w0|. With
/// `K = U diag(lambda) U^T` and `r_0 = f_0(X) - y`:
///
///     r(t) = U exp(-2 lambda t) U^T r_0,    w(t) = w0 - J^T U diag((1 - exp(-2 lambda t)) / lambda) U^T r_0
///
/// Rank-revealing: eigenvalues below `rank_tolerance` times the largest count as zero, directions in which no weight
/// moves; what the labels ask for there is reported (`limit_residual`, `message`), never divided by.
///
/// Whether the limit interpolates is judged by `f(X) - y` itself, of the tangent model at the limit's weights on the X
/// and y that were given, and the limit is refined there. A kernel squares the condition number of J: inputs that are
/// not normalized, or features in units of their own, leave eigenvalues that drown in the rounding of the largest.
/// Where the residual shows it (and J has at most 32 million numbers) the limit is computed from a QR of J instead, in
/// which units of parameters and samples do not matter; `eigenvalues`, `condition_number` and all values at finite
/// times remain those of the kernel.
///
/// With K outputs all N above are NK, output k of sample n at n + k N, and `Dataset::with_outputs` brings the labels.
///
/// Cost: the tangent kernel, one eigendecomposition and one evaluation, the QR (O(N^2 P)) where it is needed, then O(N
/// P) per call.
template <class S>
class KernelPredictor {
 public:
  using Scalar = S;

  /// The tangent model of `model` at `w0`, on `dataset`. `rank_tolerance` in (0, 1), or 0 for N times the rounding
  /// unit. Throws DimensionError unless w0 has P entries and the labels are for the outputs of the model,
  /// NonFiniteError if w0 is not finite, ArgumentError for a tolerance outside its range, or where the model takes rows
  /// and the data are measurements of a matrix, or the other way round, ConvergenceError where the eigenvalues do not
  /// converge.
  template <class M>
  KernelPredictor(const M& model, Vector<std::type_identity_t<S>> w0, const Dataset<S>& dataset,
                  std::type_identity_t<S> rank_tolerance = S(0))
      : KernelPredictor(detail::evaluations_of<S>(model), std::move(w0), dataset, rank_tolerance, Engine{}) {}

  /// Where the model was linearized, P entries.
  [[nodiscard]] const Vector<S>& point() const { return w0_; }
  /// Eigenvalues of the tangent kernel, largest first.
  [[nodiscard]] const Vector<S>& eigenvalues() const { return eigenvalues_; }
  /// How many of them count as positive; where the limit was computed from J, the rank of J.
  [[nodiscard]] Index rank() const { return rank_; }
  /// The largest eigenvalue over the smallest one that counts; infinity for a zero kernel. The limit amplifies errors
  /// of the labels by at most this, if `rank()` eigenvalues count.
  [[nodiscard]] S condition_number() const {
    return moving_ > 0 ? eigenvalues_[0] / eigenvalues_[moving_ - 1] : std::numeric_limits<S>::infinity();
  }
  /// `|f(X) - y|` in the limit, evaluated: a few roundings of |f_0(X)| and |y| unless the kernel is singular and the
  /// labels do not fit.
  [[nodiscard]] S limit_residual() const { return limit_residual_; }
  /// Whether the limit fits the data: `|f(X) - y|` is at most `fit_tolerance()` times |y| (times |f_0(X) - y| for y =
  /// 0), and so is the residual of each sample relative to the parts of its prediction, `|y_n| + |f_0(x_n)| +
  /// |grad f(x_n)| |w - w0|`.
  [[nodiscard]] bool interpolates() const { return message_.empty(); }
  /// What counts as a fit: the root of the rounding unit, 1.5e-8 in double precision. The limit is refined as far as
  /// rounding allows, to some 1e-15 for normalized inputs.
  [[nodiscard]] static S fit_tolerance() {
    using std::sqrt;
    return sqrt(std::numeric_limits<S>::epsilon());
  }
  /// Why the limit does not fit the data, in a sentence: names two equal inputs with different labels where there are
  /// some. Empty if it does.
  [[nodiscard]] const std::string& message() const { return message_; }
  /// Throws InfeasibleError with the message unless the limit fits the data.
  const KernelPredictor& require_interpolation() const {
    require<InfeasibleError>(interpolates(), message_);
    return *this;
  }

  /// `f(w(t), X) - y` of the tangent model, N values; in the limit as evaluated. Throws ArgumentError unless t >= 0.
  [[nodiscard]] Vector<S> residual(S t) const;

  /// w(t), P values; t = infinity (the default) is the limit. Throws ArgumentError unless t >= 0.
  [[nodiscard]] Vector<S> parameters(S t = std::numeric_limits<S>::infinity()) const;

  /// `f(w(t), X)` of the tangent model on any inputs, the rows of a matrix or, for a model that takes them,
  /// measurements. Throws as `parameters`, ArgumentError for the other sort of samples, and DimensionError for a model
  /// with several outputs.
  [[nodiscard]] Vector<S> predict(const Matrix<S>& X, S t = std::numeric_limits<S>::infinity()) const {
    return predict_one(X, t);
  }
  [[nodiscard]] Vector<S> predict(const MatrixMeasurements<S>& X, S t = std::numeric_limits<S>::infinity()) const {
    return predict_one(X, t);
  }
  /// The same with K outputs, N x K.
  [[nodiscard]] Matrix<S> predict_outputs(const Matrix<S>& X, S t = std::numeric_limits<S>::infinity()) const {
    return predict_all(X, t);
  }
  [[nodiscard]] Matrix<S> predict_outputs(const MatrixMeasurements<S>& X,
                                          S t = std::numeric_limits<S>::infinity()) const {
    return predict_all(X, t);
  }

 private:
  struct Engine {};
  using Evaluations = std::function<Evaluation<S>(Index max_batch)>;

  KernelPredictor(const Evaluations& evaluations, Vector<S>&& w0, const Dataset<S>& dataset, S rank_tolerance,
                  Engine /*tag*/);

  /// N.
  [[nodiscard]] Index num_samples() const { return X_.view().size(); }
  /// K.
  [[nodiscard]] Index num_outputs() const { return tangent_.num_outputs(); }

  static void check_time(S t) { require(t >= S(0), "the time of a kernel predictor must be >= 0, got ", t); }

  [[nodiscard]] Vector<S> predict_one(Samples<S> X, S t) const;
  [[nodiscard]] Matrix<S> predict_all(Samples<S> X, S t) const;
  /// Whether what still decays at t is below rounding.
  [[nodiscard]] bool has_settled(S t) const;
  [[nodiscard]] Vector<S> from_eigenbasis(const Vector<S>& coefficients) const;
  [[nodiscard]] Vector<S> pull_back(const Vector<S>& r) const;
  /// NK values as N x K.
  [[nodiscard]] Eigen::Map<Matrix<S>> by_sample(Vector<S>& values) const {
    return {values.data(), num_samples(), num_outputs()};
  }
  /// `f(w, X) - y` of the tangent model, evaluated.
  [[nodiscard]] Vector<S> evaluate(const Vector<S>& w, const Vector<S>& y) const;
  /// Takes w for the limit if it fits better than what is there.
  bool improve(const Vector<S>& w, const Vector<S>& y);
  /// The limit, refined where it is evaluated; `solve(r)` is the least change of w that adds r to the predictions.
  template <class Solve>
  void refine(const Vector<S>& y, const Solve& solve);
  /// How far the limit is from fitting, in all samples and in each.
  [[nodiscard]] S misfit(const Vector<S>& y, const Vector<S>& start, const Vector<S>& gradients) const;
  void find_limit(const Evaluations& evaluations, const Vector<S>& y, const Vector<S>& initial,
                  const Vector<S>& gradients, bool has_rank_tolerance);
  [[nodiscard]] bool are_equal(Index i, Index j) const;
  void explain(const Dataset<S>& dataset, const Vector<S>& start);

  Vector<S> w0_;
  StoredSamples<S> X_;
  Evaluation<S> tangent_;  // of the tangent model; each call works in a copy
  Vector<S> eigenvalues_ = {};
  Matrix<S> vectors_ = {};
  Vector<S> coefficients_ = {};  // of the initial residual, in the eigenbasis
  Index moving_ = 0;             // eigenvalues of the kernel that count
  Index rank_ = 0;
  Vector<S> limit_ = {};   // w(infinity)
  Vector<S> misfit_ = {};  // f(X) - y there
  S limit_residual_ = S(0);
  S scale_ = S(0);  // what residuals are relative to
  std::string message_ = {};
};

template <class S>
KernelPredictor<S>::KernelPredictor(const Evaluations& evaluations, Vector<S>&& w0, const Dataset<S>& dataset,
                                    S rank_tolerance, Engine /*tag*/)
    : w0_(std::move(w0)),
      X_(dataset.samples()),
      tangent_(detail::tangent_evaluation(evaluations(std::min<Index>(num_samples(), 256)), w0_)) {
  require(rank_tolerance >= S(0) && rank_tolerance < S(1), "KernelPredictor: rank_tolerance must lie in [0, 1), got ",
          rank_tolerance);
  using std::sqrt;
  require<DimensionError>(num_outputs() == dataset.num_outputs(), "the model has ", num_outputs(),
                          " outputs but the labels of a sample are for ", dataset.num_outputs());
  const Index samples = num_samples() * num_outputs();
  const Vector<S> y = Eigen::Map<const Vector<S>>(dataset.Y().data(), samples);
  const Matrix<S> K = detail::tangent_kernel_of(evaluations(num_samples()), w0_, X_.view(), KernelForm::full);
  detail::SymmetricEigen<S> eigen;
  detail::compute_eigen(K, eigen);
  require<ConvergenceError>(eigen.info() == Eigen::Success, "the eigenvalues of the tangent kernel did not converge");
  eigenvalues_.resize(samples);
  vectors_.resize(samples, samples);
  for (Index k = 0; k < samples; ++k) {
    eigenvalues_[k] = eigen.eigenvalues()[samples - 1 - k];
    std::copy_n(&eigen.eigenvectors()(0, samples - 1 - k), samples, &vectors_(0, k));
  }
  const S relative =
      rank_tolerance > S(0) ? rank_tolerance : static_cast<S>(samples) * std::numeric_limits<S>::epsilon();
  while (moving_ < samples && eigenvalues_[moving_] > relative * eigenvalues_[0]) ++moving_;
  rank_ = moving_;
  Vector<S> start(samples);
  detail::InBatches<S>(evaluations(tangent_.max_batch()), X_.view()).predict(w0_, by_sample(start));
  Vector<S> residual, gradients(samples);
  detail::sum_with_multiple(start, S(-1), y, residual);
  detail::multiply_transposed(vectors_, residual, coefficients_);
  for (Index n = 0; n < samples; ++n) gradients[n] = sqrt(K(n, n));
  find_limit(evaluations, y, start, gradients, rank_tolerance > S(0));
  if (!(misfit(y, start, gradients) <= fit_tolerance())) explain(dataset, start);
}

template <class S>
Vector<S> KernelPredictor<S>::residual(S t) const {
  using std::exp;
  check_time(t);
  if (has_settled(t)) return misfit_;
  Vector<S> decayed = coefficients_;
  for (Index i = 0; i < moving_; ++i) decayed[i] *= exp(S(-2) * eigenvalues_[i] * t);
  return from_eigenbasis(decayed);
}

template <class S>
Vector<S> KernelPredictor<S>::parameters(S t) const {
  using std::expm1;
  check_time(t);
  if (has_settled(t)) return limit_;
  Vector<S> moved = Vector<S>::Zero(coefficients_.size());
  for (Index i = 0; i < moving_; ++i)
    moved[i] = expm1(S(-2) * eigenvalues_[i] * t) / eigenvalues_[i] * coefficients_[i];
  Vector<S> w = w0_;
  detail::add_multiple(S(1), pull_back(from_eigenbasis(moved)), w);
  return w;
}

template <class S>
Vector<S> KernelPredictor<S>::predict_one(Samples<S> X, S t) const {
  require<DimensionError>(num_outputs() == 1, "the model has ", num_outputs(),
                          " outputs per sample where one is asked for; predict_outputs gives all");
  return predict_all(X, t);
}

template <class S>
Matrix<S> KernelPredictor<S>::predict_all(Samples<S> X, S t) const {
  X.require_finite("X");
  Matrix<S> out(X.size(), num_outputs());
  detail::InBatches<S>(tangent_, X).predict(parameters(t), out);
  return out;
}

template <class S>
bool KernelPredictor<S>::has_settled(S t) const {
  using std::log;
  if (t == std::numeric_limits<S>::infinity()) return true;
  return moving_ > 0 && rank_ == moving_ &&
         S(2) * eigenvalues_[moving_ - 1] * t > -S(2) * log(std::numeric_limits<S>::epsilon());
}

template <class S>
Vector<S> KernelPredictor<S>::from_eigenbasis(const Vector<S>& coefficients) const {
  Vector<S> r;
  detail::multiply(vectors_, coefficients, r);
  return r;
}

template <class S>
Vector<S> KernelPredictor<S>::pull_back(const Vector<S>& r) const {
  Vector<S> w(w0_.size());
  detail::InBatches<S>(tangent_, X_.view())
      .vjp(w0_, Eigen::Map<const Matrix<S>>(r.data(), num_samples(), num_outputs()), w);
  return w;
}

template <class S>
Vector<S> KernelPredictor<S>::evaluate(const Vector<S>& w, const Vector<S>& y) const {
  Vector<S> f(y.size());
  detail::InBatches<S>(tangent_, X_.view()).predict(w, by_sample(f));
  detail::add_multiple(S(-1), y, f);
  return f;
}

template <class S>
bool KernelPredictor<S>::improve(const Vector<S>& w, const Vector<S>& y) {
  const Vector<S> left = evaluate(w, y);
  if (!(detail::norm(left) < limit_residual_)) return false;
  limit_ = w;
  misfit_ = left;
  limit_residual_ = detail::norm(left);
  return true;
}

template <class S>
template <class Solve>
void KernelPredictor<S>::refine(const Vector<S>& y, const Solve& solve) {
  constexpr int most = 4;
  const S goal = S(8) * std::numeric_limits<S>::epsilon() * detail::norm(y);
  for (int step = 0; step < most && limit_residual_ > goal; ++step) {
    const S before = limit_residual_;
    Vector<S> refined = limit_;
    detail::add_multiple(S(-1), solve(misfit_), refined);
    if (!improve(refined, y) || limit_residual_ > S(0.5) * before) break;
  }
}

template <class S>
S KernelPredictor<S>::misfit(const Vector<S>& y, const Vector<S>& start, const Vector<S>& gradients) const {
  using std::abs;
  Vector<S> moved, terms(start.size());
  detail::sum_with_multiple(limit_, S(-1), w0_, moved);
  const S distance = detail::norm(moved);
  for (Index n = 0; n < terms.size(); ++n) terms[n] = abs(start[n]) + distance * gradients[n];
  return std::max(limit_residual_ / scale_, detail::Misfit<S>(misfit_, y, terms).worst);
}

template <class S>
void KernelPredictor<S>::find_limit(const Evaluations& evaluations, const Vector<S>& y, const Vector<S>& initial,
                                    const Vector<S>& gradients, bool has_rank_tolerance) {
  const auto by_kernel = [&](const Vector<S>& r) {
    Vector<S> along;
    detail::multiply_transposed(vectors_, r, along);
    for (Index k = 0; k < along.size(); ++k) along[k] = k < moving_ ? along[k] / eigenvalues_[k] : S(0);
    return pull_back(from_eigenbasis(along));
  };
  limit_ = w0_;
  misfit_ = evaluate(limit_, y);
  limit_residual_ = detail::norm(misfit_);
  scale_ = detail::norm(y);
  if (!(scale_ > S(0))) scale_ = limit_residual_;
  if (!(scale_ > S(0))) scale_ = S(1);
  const Vector<S> start = misfit_;
  // What the kernel gives is the limit, even where directions that no weight moves keep the residual.
  detail::add_multiple(S(-1), by_kernel(start), limit_);
  misfit_ = evaluate(limit_, y);
  limit_residual_ = detail::norm(misfit_);
  refine(y, by_kernel);
  constexpr Index budget = Index(1) << 25;
  const bool is_small = w0_.size() <= budget / y.size();
  using std::pow;
  const S good = pow(std::numeric_limits<S>::epsilon(), S(0.625));
  if (misfit(y, initial, gradients) <= good || has_rank_tolerance || moving_ == 0 || !is_small) return;
  const detail::LeastNorm<S> least(
      detail::transposed(detail::transposed_jacobian(detail::SampleGradients<S>(evaluations(1)), w0_, X_.view())));
  if (least.rank() < moving_) return;
  Vector<S> kernel_limit = limit_;
  Vector<S> kernel_misfit = misfit_;
  const S before = misfit(y, initial, gradients);
  const auto by_rows = [&](const Vector<S>& r) { return least.solve(r); };
  limit_ = w0_;
  detail::add_multiple(S(-1), least.solve(start), limit_);
  misfit_ = evaluate(limit_, y);
  limit_residual_ = detail::norm(misfit_);
  refine(y, by_rows);
  rank_ = least.rank();
  // The kernel's limit meets conflicting labels in the mean, and no other has a smaller residual.
  if (!(limit_residual_ < detail::norm(kernel_misfit)) && !(misfit(y, initial, gradients) < before)) {
    limit_.swap(kernel_limit);
    misfit_.swap(kernel_misfit);
    limit_residual_ = detail::norm(misfit_);
  }
}

template <class S>
bool KernelPredictor<S>::are_equal(Index i, Index j) const {
  const Samples<S> X = X_.view();
  if (X.are_measurements()) {
    const Vector<S> unit = Vector<S>::Unit(num_samples(), i) - Vector<S>::Unit(num_samples(), j);
    return X.measurements().adjoint(unit).isZero(S(0));
  }
  const auto rows = X.matrix();
  for (Index k = 0; k < rows.cols(); ++k)
    if (rows(i, k) != rows(j, k)) return false;
  return true;
}

template <class S>
void KernelPredictor<S>::explain(const Dataset<S>& dataset, const Vector<S>& start) {
  const S rounding = std::numeric_limits<S>::epsilon() * detail::norm(start);
  if (rank_ == start.size() || rounding > fit_tolerance() * scale_ / S(100)) {
    message_ = detail::concat("the limit of the tangent model was reached to |f(X) - y| = ", limit_residual_,
                              " only, where |y| = ", dataset.Y().norm(), " and |f_0(X)| = ", detail::norm(start),
                              ": rounding allows no better; normalize the inputs or choose a smaller initial function");
    return;
  }
  message_ = detail::concat(
      "the tangent kernel is singular (rank ", rank_, " of ", start.size(),
      ") and the labels do not fit: the flow of the tangent model ends with |f(X) - y| = ", limit_residual_);
  if (rank_ == 0) message_ += "; the kernel is zero: no parameter moves (every unit dead?)";
  for (Index i = 0; i < num_samples(); ++i)
    for (Index j = 0; j < i; ++j)
      for (Index k = 0; k < dataset.num_outputs(); ++k)
        if (dataset.Y()(i, k) != dataset.Y()(j, k) && are_equal(i, j)) {
          message_ += detail::concat("; samples ", j, " and ", i, " have the same input and different labels, ",
                                     dataset.Y()(j, k), " and ", dataset.Y()(i, k));
          return;
        }
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_KERNEL_PREDICTOR(prefix, S) prefix template class KernelPredictor<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_KERNEL_PREDICTOR)
