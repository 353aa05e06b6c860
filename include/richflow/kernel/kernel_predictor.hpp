#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/kernel/tangent.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/models/linearized.hpp"

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
/// moves; what the labels ask for there is reported (`limit_residual`, `message`), never divided by. Cost: the tangent
/// kernel and one eigendecomposition, then O(N P) per call.
template <Model M>
class KernelPredictor {
 public:
  using Scalar = typename M::Scalar;

  /// The tangent model of `model` at `w0`, on `dataset`. `rank_tolerance` in (0, 1), or 0 for N times the rounding
  /// unit. Throws DimensionError unless w0 has P entries, NonFiniteError if it is not finite, ArgumentError for a
  /// tolerance outside its range.
  KernelPredictor(M model, Vector<Scalar> w0, const BasicDataset<Scalar>& dataset,
                  std::type_identity_t<Scalar> rank_tolerance = Scalar(0))
      : linear_(std::move(model), std::move(w0)), X_(dataset.X()) {
    require(rank_tolerance >= Scalar(0) && rank_tolerance < Scalar(1),
            "KernelPredictor: rank_tolerance must lie in [0, 1), got ", rank_tolerance);
    const Index samples = X_.rows();
    const Matrix<Scalar> K = richflow::tangent_kernel(linear_.model(), linear_.point(), X_);
    const Eigen::SelfAdjointEigenSolver<Matrix<Scalar>> eigen(K);
    require<ConvergenceError>(eigen.info() == Eigen::Success, "the eigenvalues of the tangent kernel did not converge");
    eigenvalues_ = eigen.eigenvalues().reverse();
    vectors_ = eigen.eigenvectors().rowwise().reverse();
    const Scalar relative = rank_tolerance > Scalar(0)
                                ? rank_tolerance
                                : static_cast<Scalar>(samples) * std::numeric_limits<Scalar>::epsilon();
    while (rank_ < samples && eigenvalues_[rank_] > relative * eigenvalues_[0]) ++rank_;
    Vector<Scalar> start(samples);
    linear_.model().predict(linear_.point(), X_, start);
    start -= dataset.y();
    coefficients_ = vectors_.transpose() * start;
    explain(dataset, start.norm());
  }

  /// The tangent model.
  [[nodiscard]] const Linearized<M>& model() const { return linear_; }
  /// Eigenvalues of the tangent kernel, largest first.
  [[nodiscard]] const Vector<Scalar>& eigenvalues() const { return eigenvalues_; }
  /// How many of them count as positive.
  [[nodiscard]] Index rank() const { return rank_; }
  /// The largest eigenvalue over the smallest positive one; infinity for a zero kernel. The limit amplifies errors of
  /// the labels by at most this.
  [[nodiscard]] Scalar condition_number() const {
    return rank_ > 0 ? eigenvalues_[0] / eigenvalues_[rank_ - 1] : std::numeric_limits<Scalar>::infinity();
  }
  /// `|f(X) - y|` in the limit: 0 unless the kernel is singular and the labels do not fit.
  [[nodiscard]] Scalar limit_residual() const { return coefficients_.tail(coefficients_.size() - rank_).norm(); }
  /// Whether the limit fits the data, up to rounding.
  [[nodiscard]] bool interpolates() const { return message_.empty(); }
  /// Why the limit does not fit the data, in a sentence: names two equal inputs with different labels where there are
  /// some. Empty if it does.
  [[nodiscard]] const std::string& message() const { return message_; }
  /// Throws InfeasibleError with the message unless the limit fits the data.
  const KernelPredictor& require_interpolation() const {
    require<InfeasibleError>(interpolates(), message_);
    return *this;
  }

  /// `f(w(t), X) - y` of the tangent model, N values. Throws ArgumentError unless t >= 0.
  [[nodiscard]] Vector<Scalar> residual(Scalar t) const {
    using std::exp;
    check_time(t);
    Vector<Scalar> decayed = coefficients_;
    for (Index i = 0; i < rank_; ++i) decayed[i] *= exp(Scalar(-2) * eigenvalues_[i] * t);
    return vectors_ * decayed;
  }

  /// w(t), P values; t = infinity (the default) is the limit. Throws ArgumentError unless t >= 0.
  [[nodiscard]] Vector<Scalar> parameters(Scalar t = std::numeric_limits<Scalar>::infinity()) const {
    using std::expm1;
    check_time(t);
    Vector<Scalar> moved = Vector<Scalar>::Zero(coefficients_.size());
    for (Index i = 0; i < rank_; ++i)
      moved[i] = expm1(Scalar(-2) * eigenvalues_[i] * t) / eigenvalues_[i] * coefficients_[i];
    Vector<Scalar> w(linear_.num_parameters());
    linear_.vjp(linear_.point(), X_, vectors_ * moved, w);
    return w + linear_.point();
  }

  /// `f(w(t), X)` of the tangent model on any inputs. Throws as `parameters`.
  [[nodiscard]] Vector<Scalar> predict(const Matrix<Scalar>& X,
                                       Scalar t = std::numeric_limits<Scalar>::infinity()) const {
    require_finite("X", X);
    Vector<Scalar> out(X.rows());
    linear_.predict(parameters(t), X, out);
    return out;
  }

 private:
  static void check_time(Scalar t) { require(t >= Scalar(0), "the time of a kernel predictor must be >= 0, got ", t); }

  void explain(const BasicDataset<Scalar>& dataset, Scalar size) {
    using std::sqrt;
    const Scalar missed = limit_residual();
    if (missed <= sqrt(std::numeric_limits<Scalar>::epsilon()) * size) return;
    message_ =
        detail::concat("the tangent kernel is singular (rank ", rank_, " of ", X_.rows(),
                       ") and the labels do not fit: the flow of the tangent model ends with |f(X) - y| = ", missed);
    if (rank_ == 0) message_ += "; the kernel is zero: no parameter moves (every unit dead?)";
    for (Index i = 0; i < X_.rows(); ++i)
      for (Index j = 0; j < i; ++j)
        if (X_.row(i) == X_.row(j) && dataset.y()[i] != dataset.y()[j]) {
          message_ += detail::concat("; samples ", j, " and ", i, " have the same input and different labels, ",
                                     dataset.y()[j], " and ", dataset.y()[i]);
          return;
        }
  }

  Linearized<M> linear_;
  Matrix<Scalar> X_;
  Vector<Scalar> eigenvalues_ = {};
  Matrix<Scalar> vectors_ = {};
  Vector<Scalar> coefficients_ = {};  // of the initial residual, in the eigenbasis
  Index rank_ = 0;
  std::string message_ = {};
};

}  // namespace richflow
