#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "richflow/bias/regularizer.hpp"
#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/minimizers/certificate.hpp"
#include "richflow/minimizers/minimizer_result.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/start.hpp"
#include "richflow/regularizers/norms.hpp"

/// @file
/// The second of the two verbs: `solve(net, data, start)`, where theory says that training ends.

namespace richflow {

/// A linear predictor beta, in the words that `solve` and `simulate` share.
template <class S = double>
struct LinearPrediction {
  Vector<S> beta = {};  ///< The predictor, d.

  /// `f(X) = X beta`, N values for X of shape N x d. Throws DimensionError unless X has d columns.
  [[nodiscard]] Vector<S> f(const Matrix<S>& X) const {
    require<DimensionError>(X.cols() == beta.size(), "X has ", X.cols(), " columns where beta has ", beta.size(),
                            " entries");
    Vector<S> out(X.rows());
    detail::multiply(X, beta, out);
    return out;
  }
  /// `|beta|_1`.
  [[nodiscard]] S l1() const { return l1_norm(beta); }
  /// `|beta|_2`.
  [[nodiscard]] S l2() const { return l2_norm(beta); }
};

/// The limit of the gradient flow of a net, with the proof.
template <class S = double>
struct [[nodiscard]] Limit : LinearPrediction<S>, Result<Limit<S>> {
  S regularizer_value = std::numeric_limits<S>::quiet_NaN();  ///< `Q(beta)`.
  Vector<S> nu = {};                                          ///< Multipliers, N: `grad Q(beta) = X^T nu`.
  Certificate<S> certificate = {};                            ///< Distance from optimality.
  Status status = Status::stalled;                            ///< tolerance_reached, stalled or max_steps.
  Index newton_steps = 0;                                     ///< Newton and continuation steps taken.
  Index factorizations = 0;                                   ///< Of N x N matrices and, rarely, d x N ones.
  std::string method = {};                                    ///< What was minimized, and how.
  std::string message = {};                                   ///< How it ended, with these numbers.

  /// Whether the tolerance was reached.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

namespace detail {

/// The hypentropy of a start whose weights differ by many orders of magnitude, as the end of a path that MirrorPath can
/// follow: at "scale" s no weight is below e^s (times the largest, where that is above 1). From 0 on it is a uniform
/// start, so that there is a kernel end; going down, all weights fall together until each is where it belongs. (On the
/// path of the true scale they keep their proportions, and the kernel end is a least-squares problem whose weights
/// differ by the squares of those.)
template <class S>
class RaisedHypentropy {
 public:
  using Scalar = S;

  RaisedHypentropy(Hypentropy<S> map, Scale<S> scale)
      : target_(std::move(map)),
        top_(std::max(S(0), target_.log_range().largest)),
        scale_(scale),
        map_(target_.raised(Scale<S>::from_log(top_ + scale.log()))) {}

  /// A scale at which it is the target.
  [[nodiscard]] Scale<S> end() const { return Scale<S>::from_log(target_.log_range().smallest - top_ - S(1)); }

  [[nodiscard]] Index dimension() const { return map_.dimension(); }
  [[nodiscard]] Scale<S> scale() const { return scale_; }
  [[nodiscard]] RaisedHypentropy with_scale(Scale<S> scale) const { return {target_, scale}; }
  [[nodiscard]] S homogeneity() const { return S(2); }
  [[nodiscard]] S dual_rate() const { return map_.dual_rate(); }
  [[nodiscard]] S value(ConstVectorRef<S> beta) const { return map_.value(beta); }
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const { map_.gradient(beta, out); }
  void mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const { map_.mirror(z, beta, curvature); }
  [[nodiscard]] S conjugate(ConstVectorRef<S> z) const { return map_.conjugate(z); }
  [[nodiscard]] S max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const { return map_.max_step(z, dz); }

 private:
  Hypentropy<S> target_;
  S top_;
  Scale<S> scale_;
  Hypentropy<S> map_;
};

/// Of what a minimizer found.
template <class S>
[[nodiscard]] Limit<S> limit_of(MinimizerResult<S> found, S value, const std::string& name);

/// See `solve`.
template <class S>
[[nodiscard]] Limit<S> solve_diagonal(const ImplicitRegularizer<S>& Q, const Dataset<S>& data,
                                      const MinimizerOptions<S>& options);

}  // namespace detail

/// The limit of gradient flow on `net` from `start`, if it fits the data: `argmin Q(beta)` subject to `X beta = y` for
/// `Q = regularizer(net, start)`, with a certificate and without time integration. X is N x d, y has N labels.
///
///     const DiagonalNet<double> net(3, data.num_inputs());
///     const Limit limit = solve(net, data, Start<>::uniform(Scale<>::from_log(-20)));
///     limit.require_ok().l1();
///
/// For a net without such a theorem it does not compile (see `regularizer`). Throws DimensionError or ArgumentError
/// where net, start and data do not fit, InfeasibleError when no beta fits y; numerical trouble is in the status. Cost:
/// 5 to 60 factorizations, O(N^2 d) each; for many scales of one problem `MirrorPath(data, regularizer(net, start))`
/// continues from scale to scale.
template <class Net, class S>
[[nodiscard]] Limit<S> solve(const Net& net, const Dataset<S>& data, const Start<S>& start,
                             const MinimizerOptions<S>& options = {}) {
  auto Q = regularizer(net, start);
  if constexpr (std::is_same_v<decltype(Q), ImplicitRegularizer<S>>) {
    return detail::solve_diagonal(Q, data, options);
  } else {
    MirrorPath path(data, Q, options);
    MinimizerResult<S> found = path.solve(Q.scale());
    const S value = Q.value(found.beta);
    return detail::limit_of(std::move(found), value, "the regularizer of the model");
  }
}

namespace detail {

template <class S>
Limit<S> limit_of(MinimizerResult<S> found, S value, const std::string& name) {
  Limit<S> limit;
  limit.beta = std::move(found.beta);
  limit.regularizer_value = value;
  limit.nu = std::move(found.nu);
  limit.certificate = found.certificate;
  limit.status = found.status;
  limit.newton_steps = found.newton_steps;
  limit.factorizations = found.factorizations;
  limit.method = concat("the minimizer of ", name, " over X beta = y by Newton's method on its dual");
  limit.message = std::move(found.message);
  return limit;
}

template <class S>
Limit<S> solve_diagonal(const ImplicitRegularizer<S>& Q, const Dataset<S>& data, const MinimizerOptions<S>& options) {
  MinimizerResult<S> found;
  // From here on the kernel end of a path of constant proportions has numbers too far apart for any factorization, or,
  // where the weights are that small at alpha = 1, out of range.
  constexpr S widest(8);
  constexpr int seventh_of_range = std::numeric_limits<S>::max_exponent / 7;
  constexpr S farthest(seventh_of_range);
  const Hypentropy<S>* flat = Q.hypentropy();
  const auto needs_raising = [&] {
    using std::abs;
    const auto [smallest, largest] = flat->log_range();
    return largest - smallest > widest || !(abs(largest - Q.scale().log()) < farthest);
  };
  if (flat && needs_raising()) {
    const RaisedHypentropy<S> raised(*flat, Scale<S>::from_log(S(0)));
    MirrorPathEngine<S> path(data, std::make_unique<MirrorMapOf<RaisedHypentropy<S>>>(raised), options);
    found = path.solve(raised.end());
    found.message = concat("log_alpha = ", Q.scale().log(), ", weights of extreme sizes: ", found.message);
  }
  if (!found.ok()) {
    MirrorPathEngine<S> path(data, std::make_unique<MirrorMapOf<ImplicitRegularizer<S>>>(Q), options);
    found = path.solve(Q.scale());
  }
  const S value = Q.value(found.beta);
  return limit_of(std::move(found), value, Q.name());
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_SOLVE(prefix, S)                                                          \
  prefix template Limit<S> detail::limit_of<S>(MinimizerResult<S>, S, const std::string&);             \
  prefix template Limit<S> detail::solve_diagonal<S>(const ImplicitRegularizer<S>&, const Dataset<S>&, \
                                                     const MinimizerOptions<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_SOLVE)
