#pragma once

#include <cmath>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

/// @file
/// The two norms that the squared net's bias interpolates between, and how small or large alpha must be for
/// each.

namespace richflow {

/// `sum_i |beta_i|`.
template <class Derived>
[[nodiscard]] typename Derived::Scalar l1_norm(const Eigen::MatrixBase<Derived>& beta) {
  return beta.template lpNorm<1>();
}

/// `sqrt(sum_i beta_i^2)`, without intermediate overflow or underflow.
template <class Derived>
[[nodiscard]] typename Derived::Scalar l2_norm(const Eigen::MatrixBase<Derived>& beta) {
  return beta.stableNorm();
}

namespace detail {

/// Throws unless every weight is positive and finite and there is at least one.
template <class S>
void check_weights(const Vector<S>& weights) {
  require<DimensionError>(weights.size() > 0, "weights are empty");
  require_positive("weights", weights);
}

}  // namespace detail

/// The norm `sum_i v_i |beta_i|`, with v = 1 unless given. A Regularizer.
template <class S = double>
class L1Norm {
 public:
  using Scalar = S;

  /// v = 1, d coordinates. Throws DimensionError for d <= 0.
  explicit L1Norm(Index d) : dimension_(d) {
    require<DimensionError>(d > 0, "the l1 norm needs d > 0 coordinates, got ", d);
  }

  /// Weights v. Throws ArgumentError where an entry is not positive, NonFiniteError where one is not finite.
  explicit L1Norm(Vector<S> weights) : dimension_(weights.size()), weights_(std::move(weights)) {
    detail::check_weights(weights_);
  }

  /// d.
  [[nodiscard]] Index dimension() const { return dimension_; }

  /// `sum_i v_i |beta_i|`.
  [[nodiscard]] S value(ConstVectorRef<S> beta) const {
    require_size("beta", beta.size(), dimension_);
    return weights_.size() == 0 ? l1_norm(beta) : beta.cwiseAbs().dot(weights_);
  }

  /// The subgradient `v_i sign(beta_i)`, 0 where beta_i = 0.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const {
    require_size("beta", beta.size(), dimension_);
    require_size("out", out.size(), dimension_);
    for (Index i = 0; i < dimension_; ++i) {
      const S v = weights_.size() == 0 ? S(1) : weights_[i];
      out[i] = beta[i] > S(0) ? v : beta[i] < S(0) ? S(-v) : S(0);
    }
  }

 private:
  Index dimension_;
  Vector<S> weights_ = {};
};

/// The norm `sqrt(sum_i v_i beta_i^2)`, with v = 1 unless given. A Regularizer.
///
/// The kernel limit of the squared net with initial shape w0 is the weighted norm with v = 1 / w0^2.
template <class S = double>
class L2Norm {
 public:
  using Scalar = S;

  /// v = 1, d coordinates. Throws DimensionError for d <= 0.
  explicit L2Norm(Index d) : dimension_(d) {
    require<DimensionError>(d > 0, "the l2 norm needs d > 0 coordinates, got ", d);
  }

  /// Weights v. Throws ArgumentError where an entry is not positive, NonFiniteError where one is not finite.
  explicit L2Norm(const Vector<S>& weights) : dimension_(weights.size()) {
    detail::check_weights(weights);
    root_weights_ = weights.cwiseSqrt();
  }

  /// d.
  [[nodiscard]] Index dimension() const { return dimension_; }

  /// `sqrt(sum_i v_i beta_i^2)`, without intermediate overflow or underflow.
  [[nodiscard]] S value(ConstVectorRef<S> beta) const {
    require_size("beta", beta.size(), dimension_);
    if (root_weights_.size() == 0) return l2_norm(beta);
    return l2_norm(beta.cwiseProduct(root_weights_));
  }

  /// `out_i = v_i beta_i / value(beta)`; 0 at beta = 0.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const {
    require_size("out", out.size(), dimension_);
    const S norm = value(beta);
    if (norm == S(0)) {
      out.setZero();
      return;
    }
    out = beta / norm;
    if (root_weights_.size() != 0) out.array() *= root_weights_.array().square();
  }

 private:
  Index dimension_;
  Vector<S> root_weights_ = {};
};

/// How small alpha must be for the flow's limit beta to have `|beta|_1 <= (1 + epsilon) |b1|_1`, where `l1` = |b1|_1 is
/// the norm of the minimum-l1 interpolator (Woodworth et al. 2020, Theorem 2, uniform initialization; docs/theory.md,
/// section 2.5):
///
///     alpha <= min{ (2 (1 + epsilon) l1)^(-(2 + epsilon)/(2 epsilon)),  exp(-d / (epsilon l1)) }
///
/// Sufficient, not sharp. Returned as a Scale, since it easily lies below the range of double. Throws DimensionError
/// unless d > 0, ArgumentError unless l1 > 0 and 0 < epsilon < d.
template <class S>
[[nodiscard]] Scale<S> scale_for_l1(S l1, Index d, S epsilon) {
  using std::isfinite;
  using std::log;
  require(isfinite(l1) && l1 > S(0), "l1 must be positive and finite, got ", l1);
  require<DimensionError>(d > 0, "d must be positive, got ", d);
  require(epsilon > S(0) && epsilon < static_cast<S>(d), "epsilon must be between 0 and d = ", d, ", got ", epsilon);
  const S power = -((S(2) + epsilon) / (S(2) * epsilon)) * (log(S(2)) + log(S(1) + epsilon) + log(l1));
  const S exponential = -(static_cast<S>(d) / epsilon) / l1;
  return Scale<S>::from_log(power < exponential ? power : exponential);
}

/// How large alpha must be for the flow's limit beta to have `|beta|_2^2 <= (1 + epsilon) |b2|_2^2`, where `l2` =
/// |b2|_2 is the norm of the minimum-l2 interpolator (Woodworth et al. 2020, Theorem 2, uniform initialization;
/// docs/theory.md, section 2.5):
///
///     alpha >= sqrt(2 (1 + epsilon) (1 + 2/epsilon) l2)
///
/// Sufficient, not sharp. Throws ArgumentError unless l2 > 0 and epsilon > 0, both finite.
template <class S>
[[nodiscard]] Scale<S> scale_for_l2(S l2, S epsilon) {
  using std::isfinite;
  using std::log;
  require(isfinite(l2) && l2 > S(0), "l2 must be positive and finite, got ", l2);
  require(isfinite(epsilon) && epsilon > S(0), "epsilon must be positive and finite, got ", epsilon);
  return Scale<S>::from_log((log(S(2)) + log(S(1) + epsilon) + log(S(1) + S(2) / epsilon) + log(l2)) / S(2));
}

}  // namespace richflow
