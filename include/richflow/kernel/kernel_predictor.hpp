#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

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
#include "richflow/models/linearized.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// The kernel regime in closed form: the whole gradient flow of the tangent model at w0 (Linearized) for the plain-sum
/// squared loss, at any time, infinity included. The limit is the kernel predictor
///
///     f(x) = f_0(x) + K(x, X) K(X, X)^{-1} (y - f_0(X)),    K = J(w0) J(w0)^T,
///
/// the interpolator of least change of f_0 in the norm of the tangent kernel's RKHS, which equals |w(inf) - w0|. With
/// `K = U diag(lambda) U^T` and `r_0 = f_0(X) - y`:
///
///     r(t) = U exp(-2 lambda t) U^T r_0,    w(t) = w0 - J^T U diag((1 - exp(-2 lambda t)) / lambda) U^T r_0
///
///     const KernelPredictor kernel(net, w0, data);
///     const Vector<double> f = kernel.predict(X_test);                    // where the flow ends
///     const Vector<double> early = kernel.predict(X_test, 0.5);           // at t = 0.5
///
/// Rank-revealing: eigenvalues below `rank_tolerance` times the largest count as zero, directions in which no weight
/// moves; what the labels ask for there is reported (`limit_residual`, `message`), never divided by.
///
/// Whether the limit interpolates is said of `f(X) - y` itself, the tangent model at the limit's weights on the X
/// and y that were given, and the limit is refined there. A kernel squares the condition number of J: inputs that are
/// not normalized, or features in units of their own, leave eigenvalues that drown in the rounding of the largest.
/// Where the residual shows it (and J has at most 32 million numbers) the limit is computed from a QR of J instead, in
/// which units of parameters and samples do not matter; `eigenvalues`, `condition_number` and what is said of finite
/// times remain those of the kernel.
///
/// With K outputs all N above are NK, output k of sample n at n + k N, and `Dataset::with_outputs` brings the labels.
///
/// Cost: the tangent kernel, one eigendecomposition and one evaluation, the QR (O(N^2 P)) where it is needed, then O(N
/// P) per call.
template <class M>
requires(explain_model<M>() && Model<M>) class KernelPredictor {
 public:
  using Scalar = typename M::Scalar;

  /// The tangent model of `model` at `w0`, on `dataset`. `rank_tolerance` in (0, 1), or 0 for N times the rounding
  /// unit. Throws DimensionError unless w0 has P entries, NonFiniteError if it is not finite, ArgumentError for a
  /// tolerance outside its range, or where the model takes rows and the data are measurements of a matrix, or
  /// the other way round.
  KernelPredictor(M model, Vector<Scalar> w0, const Dataset<Scalar>& dataset,
                  std::type_identity_t<Scalar> rank_tolerance = Scalar(0))
      : linear_(std::move(model), std::move(w0)), X_(samples_of(dataset)) {
    require(rank_tolerance >= Scalar(0) && rank_tolerance < Scalar(1),
            "KernelPredictor: rank_tolerance must lie in [0, 1), got ", rank_tolerance);
    using std::sqrt;
    require<DimensionError>(linear_.num_outputs() == dataset.num_outputs(), "the model has ", linear_.num_outputs(),
                            " outputs but the labels of a sample are for ", dataset.num_outputs());
    const Index samples = num_samples() * linear_.num_outputs();
    const Vector<Scalar> y = Eigen::Map<const Vector<Scalar>>(dataset.Y().data(), samples);
    const Matrix<Scalar> K = richflow::tangent_kernel(linear_.model(), linear_.point(), X_);
    detail::SymmetricEigen<Scalar> eigen;
    detail::compute_eigen(K, eigen);
    require<ConvergenceError>(eigen.info() == Eigen::Success, "the eigenvalues of the tangent kernel did not converge");
    eigenvalues_.resize(samples);
    vectors_.resize(samples, samples);
    for (Index k = 0; k < samples; ++k) {
      eigenvalues_[k] = eigen.eigenvalues()[samples - 1 - k];
      std::copy_n(&eigen.eigenvectors()(0, samples - 1 - k), samples, &vectors_(0, k));
    }
    const Scalar relative = rank_tolerance > Scalar(0)
                                ? rank_tolerance
                                : static_cast<Scalar>(samples) * std::numeric_limits<Scalar>::epsilon();
    while (moving_ < samples && eigenvalues_[moving_] > relative * eigenvalues_[0]) ++moving_;
    rank_ = moving_;
    Vector<Scalar> start(samples);
    detail::predict_of(linear_.model(), linear_.point(), X_, by_sample(start));
    Vector<Scalar> residual, gradients(samples);
    detail::sum_with_multiple(start, Scalar(-1), y, residual);
    detail::multiply_transposed(vectors_, residual, coefficients_);
    for (Index n = 0; n < samples; ++n) gradients[n] = sqrt(K(n, n));
    find_limit(y, start, gradients, rank_tolerance > Scalar(0));
    if (!(misfit(y, start, gradients) <= fit_tolerance())) explain(dataset, start);
  }

  /// The tangent model.
  [[nodiscard]] const Linearized<M>& model() const { return linear_; }
  /// Eigenvalues of the tangent kernel, largest first.
  [[nodiscard]] const Vector<Scalar>& eigenvalues() const { return eigenvalues_; }
  /// How many of them count as positive; where the limit was computed from J, the rank of J.
  [[nodiscard]] Index rank() const { return rank_; }
  /// The largest eigenvalue over the smallest one that counts; infinity for a zero kernel. The limit amplifies errors
  /// of the labels by at most this, if `rank()` eigenvalues count.
  [[nodiscard]] Scalar condition_number() const {
    return moving_ > 0 ? eigenvalues_[0] / eigenvalues_[moving_ - 1] : std::numeric_limits<Scalar>::infinity();
  }
  /// `|f(X) - y|` in the limit, evaluated: a few roundings of |f_0(X)| and |y| unless the kernel is singular and the
  /// labels do not fit.
  [[nodiscard]] Scalar limit_residual() const { return limit_residual_; }
  /// Whether the limit fits the data: `|f(X) - y|` is at most `fit_tolerance()` times |y| (times |f_0(X) - y| for y =
  /// 0), and so is the residual of each sample relative to what its prediction is made of, `|y_n| + |f_0(x_n)| +
  /// |grad f(x_n)| |w - w0|`.
  [[nodiscard]] bool interpolates() const { return message_.empty(); }
  /// What counts as a fit: the root of the rounding unit, 1.5e-8 in double precision. The limit is refined as far as
  /// rounding allows, to some 1e-15 for normalized inputs.
  [[nodiscard]] static Scalar fit_tolerance() {
    using std::sqrt;
    return sqrt(std::numeric_limits<Scalar>::epsilon());
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
  [[nodiscard]] Vector<Scalar> residual(Scalar t) const {
    using std::exp;
    check_time(t);
    if (has_settled(t)) return misfit_;
    Vector<Scalar> decayed = coefficients_;
    for (Index i = 0; i < moving_; ++i) decayed[i] *= exp(Scalar(-2) * eigenvalues_[i] * t);
    return from_eigenbasis(decayed);
  }

  /// w(t), P values; t = infinity (the default) is the limit. Throws ArgumentError unless t >= 0.
  [[nodiscard]] Vector<Scalar> parameters(Scalar t = std::numeric_limits<Scalar>::infinity()) const {
    using std::expm1;
    check_time(t);
    if (has_settled(t)) return limit_;
    Vector<Scalar> moved = Vector<Scalar>::Zero(coefficients_.size());
    for (Index i = 0; i < moving_; ++i)
      moved[i] = expm1(Scalar(-2) * eigenvalues_[i] * t) / eigenvalues_[i] * coefficients_[i];
    Vector<Scalar> w = linear_.point();
    detail::add_multiple(Scalar(1), pull_back(from_eigenbasis(moved)), w);
    return w;
  }

  /// `f(w(t), X)` of the tangent model on any inputs. Throws as `parameters`, and DimensionError for a model with
  /// several outputs.
  [[nodiscard]] Vector<Scalar> predict(const SamplesOf<M>& X,
                                       Scalar t = std::numeric_limits<Scalar>::infinity()) const {
    require<DimensionError>(linear_.num_outputs() == 1, "the model has ", linear_.num_outputs(),
                            " outputs per sample where one is asked for; predict_outputs gives all");
    return predict_outputs(X, t);
  }
  /// The same with K outputs, N x K.
  [[nodiscard]] Matrix<Scalar> predict_outputs(const SamplesOf<M>& X,
                                               Scalar t = std::numeric_limits<Scalar>::infinity()) const {
    const Samples<Scalar> samples = X;
    samples.require_finite("X");
    Matrix<Scalar> out(samples.size(), linear_.num_outputs());
    linear_.predict(parameters(t), X, out);
    return out;
  }

 private:
  /// N.
  [[nodiscard]] Index num_samples() const { return Samples<Scalar>(X_).size(); }

  [[nodiscard]] static const SamplesOf<M>& samples_of(const Dataset<Scalar>& dataset) {
    if constexpr (takes_measurements<M>)
      return dataset.measurements();
    else
      return dataset.X();
  }

  static void check_time(Scalar t) { require(t >= Scalar(0), "the time of a kernel predictor must be >= 0, got ", t); }

  /// Whether what still decays at t is below rounding.
  [[nodiscard]] bool has_settled(Scalar t) const {
    using std::log;
    if (t == std::numeric_limits<Scalar>::infinity()) return true;
    return moving_ > 0 && rank_ == moving_ &&
           Scalar(2) * eigenvalues_[moving_ - 1] * t > -Scalar(2) * log(std::numeric_limits<Scalar>::epsilon());
  }

  [[nodiscard]] Vector<Scalar> from_eigenbasis(const Vector<Scalar>& coefficients) const {
    Vector<Scalar> r;
    detail::multiply(vectors_, coefficients, r);
    return r;
  }

  [[nodiscard]] Vector<Scalar> pull_back(const Vector<Scalar>& r) const {
    Vector<Scalar> w(linear_.num_parameters());
    linear_.vjp(linear_.point(), X_, Eigen::Map<const Matrix<Scalar>>(r.data(), num_samples(), linear_.num_outputs()),
                w);
    return w;
  }

  /// NK values as N x K.
  [[nodiscard]] Eigen::Map<Matrix<Scalar>> by_sample(Vector<Scalar>& values) const {
    return {values.data(), num_samples(), linear_.num_outputs()};
  }

  /// `f(w, X) - y` of the tangent model, evaluated.
  [[nodiscard]] Vector<Scalar> evaluate(const Vector<Scalar>& w, const Vector<Scalar>& y) const {
    Vector<Scalar> f(y.size());
    linear_.predict(w, X_, by_sample(f));
    detail::add_multiple(Scalar(-1), y, f);
    return f;
  }

  /// Takes w for the limit if it fits better than what is there.
  bool improve(const Vector<Scalar>& w, const Vector<Scalar>& y) {
    const Vector<Scalar> left = evaluate(w, y);
    if (!(detail::norm(left) < limit_residual_)) return false;
    limit_ = w;
    misfit_ = left;
    limit_residual_ = detail::norm(left);
    return true;
  }

  /// The limit, refined where it is evaluated; `solve(r)` is the least change of w that adds r to the predictions.
  template <class Solve>
  void refine(const Vector<Scalar>& y, const Solve& solve) {
    constexpr int most = 4;
    const Scalar goal = Scalar(8) * std::numeric_limits<Scalar>::epsilon() * detail::norm(y);
    for (int step = 0; step < most && limit_residual_ > goal; ++step) {
      const Scalar before = limit_residual_;
      Vector<Scalar> refined = limit_;
      detail::add_multiple(Scalar(-1), solve(misfit_), refined);
      if (!improve(refined, y) || limit_residual_ > Scalar(0.5) * before) break;
    }
  }

  /// How far the limit is from fitting, in all samples and in each.
  [[nodiscard]] Scalar misfit(const Vector<Scalar>& y, const Vector<Scalar>& start,
                              const Vector<Scalar>& gradients) const {
    using std::abs;
    Vector<Scalar> moved, terms(start.size());
    detail::sum_with_multiple(limit_, Scalar(-1), linear_.point(), moved);
    const Scalar distance = detail::norm(moved);
    for (Index n = 0; n < terms.size(); ++n) terms[n] = abs(start[n]) + distance * gradients[n];
    return std::max(limit_residual_ / scale_, detail::Misfit<Scalar>(misfit_, y, terms).worst);
  }

  void find_limit(const Vector<Scalar>& y, const Vector<Scalar>& initial, const Vector<Scalar>& gradients,
                  bool has_rank_tolerance) {
    const auto by_kernel = [&](const Vector<Scalar>& r) {
      Vector<Scalar> along;
      detail::multiply_transposed(vectors_, r, along);
      for (Index k = 0; k < along.size(); ++k) along[k] = k < moving_ ? along[k] / eigenvalues_[k] : Scalar(0);
      return pull_back(from_eigenbasis(along));
    };
    limit_ = linear_.point();
    misfit_ = evaluate(limit_, y);
    limit_residual_ = detail::norm(misfit_);
    scale_ = detail::norm(y);
    if (!(scale_ > Scalar(0))) scale_ = limit_residual_;
    if (!(scale_ > Scalar(0))) scale_ = Scalar(1);
    const Vector<Scalar> start = misfit_;
    // What the kernel gives is the limit, even where directions that no weight moves keep the residual.
    detail::add_multiple(Scalar(-1), by_kernel(start), limit_);
    misfit_ = evaluate(limit_, y);
    limit_residual_ = detail::norm(misfit_);
    refine(y, by_kernel);
    constexpr Index budget = Index(1) << 25;
    const bool is_small = linear_.num_parameters() <= budget / y.size();
    using std::pow;
    const Scalar good = pow(std::numeric_limits<Scalar>::epsilon(), Scalar(0.625));
    if (misfit(y, initial, gradients) <= good || has_rank_tolerance || moving_ == 0 || !is_small) return;
    const detail::LeastNorm<Scalar> least(detail::transposed(detail::transposed_jacobian(
        detail::SampleGradients<Scalar>(make_evaluation(linear_.model(), 1)), linear_.point(), X_)));
    if (least.rank() < moving_) return;
    Vector<Scalar> kernel_limit = limit_;
    Vector<Scalar> kernel_misfit = misfit_;
    const Scalar before = misfit(y, initial, gradients);
    const auto by_rows = [&](const Vector<Scalar>& r) { return least.solve(r); };
    limit_ = linear_.point();
    detail::add_multiple(Scalar(-1), least.solve(start), limit_);
    misfit_ = evaluate(limit_, y);
    limit_residual_ = detail::norm(misfit_);
    refine(y, by_rows);
    rank_ = least.rank();
    // Labels that conflict are met in the mean by the kernel's limit, which no other has a smaller residual than.
    if (!(limit_residual_ < detail::norm(kernel_misfit)) && !(misfit(y, initial, gradients) < before)) {
      limit_.swap(kernel_limit);
      misfit_.swap(kernel_misfit);
      limit_residual_ = detail::norm(misfit_);
    }
  }

  [[nodiscard]] bool are_equal(Index i, Index j) const {
    if constexpr (takes_measurements<M>) {
      const Vector<Scalar> unit = Vector<Scalar>::Unit(num_samples(), i) - Vector<Scalar>::Unit(num_samples(), j);
      return X_.adjoint(unit).isZero(Scalar(0));
    } else {
      for (Index k = 0; k < X_.cols(); ++k)
        if (X_(i, k) != X_(j, k)) return false;
      return true;
    }
  }

  void explain(const Dataset<Scalar>& dataset, const Vector<Scalar>& start) {
    const Scalar rounding = std::numeric_limits<Scalar>::epsilon() * detail::norm(start);
    if (rank_ == start.size() || rounding > fit_tolerance() * scale_ / Scalar(100)) {
      message_ =
          detail::concat("the limit of the tangent model was reached to |f(X) - y| = ", limit_residual_,
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

  Linearized<M> linear_;
  SamplesOf<M> X_;
  Vector<Scalar> eigenvalues_ = {};
  Matrix<Scalar> vectors_ = {};
  Vector<Scalar> coefficients_ = {};  // of the initial residual, in the eigenbasis
  Index moving_ = 0;                  // eigenvalues of the kernel that count
  Index rank_ = 0;
  Vector<Scalar> limit_ = {};   // w(infinity)
  Vector<Scalar> misfit_ = {};  // f(X) - y there
  Scalar limit_residual_ = Scalar(0);
  Scalar scale_ = Scalar(0);  // what residuals are relative to
  std::string message_ = {};
};

}  // namespace richflow
