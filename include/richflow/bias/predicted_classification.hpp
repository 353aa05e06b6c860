#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/bias/regularizer.hpp"
#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/classification_flow.hpp"
#include "richflow/limits/margin_plateaus.hpp"
#include "richflow/limits/max_margin.hpp"
#include "richflow/limits/separation.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/linalg/updatable_qr.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"

namespace richflow {

/// The predicted state of a classification's flow when its loss has fallen to a given accuracy.
template <class S = double>
struct [[nodiscard]] ClassificationPrediction : Result<ClassificationPrediction<S>> {
  S log_loss = S(0);       ///< `log L`, as asked
  Vector<S> beta = {};     ///< d
  Vector<S> weights = {};  ///< p, N, in the simplex: the share of a sample in the slope of the loss
  Vector<S> margins = {};  ///< `y_n <x_n, beta>`, N
  S margin = S(0);         ///< gamma, the least of them
  /// Up to its length beta solves the problem with margin 1 at this scale, alpha divided by `gamma^(1/D)`.
  Scale<S> effective_scale = Scale<S>::from_log(S(0));
  /// `log gamma / log(1/alpha)`, what tells plateaus from limits at depth 2; infinite from alpha = 1 on.
  S kappa = std::numeric_limits<S>::infinity();
  /// The kappa from which on the margin problem of all coordinates holds; infinite where that never comes.
  S last_kappa = S(0);
  bool is_on_plateau = false;  ///< Coordinates that the margin problem needs are not in play yet.
  /// The coordinates in play; empty where all are. (Given past the last plateau, too, where several directions have the
  /// best l1 margin.)
  std::vector<Index> in_play = {};
  S l1_margin = S(0);  ///< `gamma / |beta|_1` over the best l1 margin: 1 at that end
  S l2_margin = S(0);  ///< `gamma / |beta|_2` over the best l2 margin
  /// Where `gamma / |beta|_1` is between that of the l2 end (0) and the l1 end (1); on a plateau it may be below 0. 1
  /// where the ends have the same.
  S position = S(0);
  bool is_separable = true;
  Status status = Status::stalled;
  std::string message = {};  ///< How it was made, with these numbers.

  /// Whether the problems behind it were solved.
  [[nodiscard]] bool ok() const { return is_success(status); }
};

namespace detail {

/// See `predicted_classification`.
template <class S>
[[nodiscard]] ClassificationPrediction<S> predict_classes(const ImplicitRegularizer<S>& Q, const Dataset<S>& data,
                                                          S log_loss, MarginLoss loss);

/// p > 0 with `C^T p = g` and `log p = C lambda` for some lambda: of all with that slope the one of largest entropy, as
/// the softmax of margins is. C has independent columns. False where there is none.
template <class S>
[[nodiscard]] bool share_slope(const Matrix<S>& C, const Vector<S>& g, Vector<S>& p);

/// What theory says of a run, from its regularizer.
template <class S>
class ClassificationPredictor {
 public:
  ClassificationPredictor(const ImplicitRegularizer<S>& Q, const Dataset<S>& data, S log_loss, MarginLoss loss);

  [[nodiscard]] ClassificationPrediction<S> run();

 private:
  /// Whether coordinates are still kept out of play, and which are in; false where that is not known.
  [[nodiscard]] bool find_plateau(ClassificationPrediction<S>& result);
  /// beta for samples with these margins; false where that was not solved.
  [[nodiscard]] bool solve(const Vector<S>& margins, ClassificationPrediction<S>& result);
  /// p, how the multipliers grow when all margins of the support do.
  /// `margins` are those of the problem with margin 1.
  void weigh(const std::vector<Index>& support, const Vector<S>& margins, ClassificationPrediction<S>& result) const;

  const ImplicitRegularizer<S>& Q_;
  const Dataset<S>& data_;
  S log_loss_;
  MarginLoss loss_;
  Matrix<S> columns_;
  MarginResult<S> l1_ = {}, l2_ = {};
  std::vector<bool> is_out_;
};

}  // namespace detail

/// Where gradient flow on a diagonal net of any depth is when the exponential or the logistic loss (a plain sum) has
/// fallen to `exp(log_loss)`, without the flow: labels -1 and +1.
///
///     const auto at = predicted_classification(net, data, start, -2303.0).require_ok();
///     at.margin, at.beta, at.position, at.is_on_plateau
///
/// beta minimizes the regularizer Q of `regularizer(net, start)` subject to `y_n <x_n, beta> >= -log L - log p_n`, with
/// weights p in proportion to how the multipliers of that problem grow with the margin (the loss of a sample is
/// `p_n L`): the margin problem (Moroshko et al. 2020; docs/theory.md, section 9.2) with its first correction. Samples
/// of least margin that depend on others share p as the softmax of their margins does. Where every sample has least
/// margin the error is of the order `1 / (log L)^2`. Multipliers never fall along the flow, so a sample with slack
/// keeps what it got early, and at a small scale coordinates enter one after another (`margin_plateaus`, with
/// thresholds where beta is of the size of the l1 margin's): until the last has come the problem is that of the
/// coordinates in play. Near such a jump, and at scales between, the direction is qualitative;
/// `simulate_classification` decides. (On 30 random problems of 4 to 9 samples at log L = -1e4 the median error of beta
/// was 2e-4, 1e-1, 3e-2 and 5e-6 at log alpha = 3, -3, -10 and -50, the largest 2e-2, 0.4, 0.7 and 1.1; that of the
/// margin was below 2e-4 everywhere.)
///
/// Throws DimensionError or ArgumentError where net, start and data do not fit, and unless `log_loss < 0` is finite.
/// Data that are not separable are in the status, and a path of plateaus that was lost before this accuracy. Cost:
/// three margin problems and a path of plateaus.
template <class S, int depth>
[[nodiscard]] ClassificationPrediction<S> predicted_classification(const DiagonalNet<S, depth>& net,
                                                                   const Dataset<std::type_identity_t<S>>& data,
                                                                   const Start<std::type_identity_t<S>>& start,
                                                                   std::type_identity_t<S> log_loss,
                                                                   MarginLoss loss = MarginLoss::exponential) {
  return detail::predict_classes(regularizer(net, start), data, log_loss, loss);
}

/// The same for the two-layer diagonal net.
template <class S>
[[nodiscard]] ClassificationPrediction<S> predicted_classification(const TwoLayerDiagonalNet<S>& net,
                                                                   const Dataset<std::type_identity_t<S>>& data,
                                                                   const Start<std::type_identity_t<S>>& start,
                                                                   std::type_identity_t<S> log_loss,
                                                                   MarginLoss loss = MarginLoss::exponential) {
  return detail::predict_classes(regularizer(net, start), data, log_loss, loss);
}

namespace detail {

template <class S>
ClassificationPredictor<S>::ClassificationPredictor(const ImplicitRegularizer<S>& Q, const Dataset<S>& data, S log_loss,
                                                    MarginLoss loss)
    : Q_(Q),
      data_(data),
      log_loss_(log_loss),
      loss_(loss),
      columns_(signed_samples(data)),
      is_out_(static_cast<std::size_t>(data.num_inputs()), false) {
  using std::isfinite;
  require(isfinite(log_loss) && log_loss < S(0), "log_loss must be finite and below 0, got ", log_loss);
  require_size("the regularizer", Q.dimension(), data.num_inputs());
}

template <class S>
bool ClassificationPredictor<S>::find_plateau(ClassificationPrediction<S>& result) {
  const Index d = data_.num_inputs();
  const S gamma = -log_loss_;
  // The size of the entries at margin 1.
  const S size = l1_.beta.template lpNorm<1>() / static_cast<S>(std::max<std::size_t>(1, l1_.support.size()));
  Vector<S> up(d), down(d), moved(d), below(d), above(d), unused(d), curvature(d), rates(d);
  const auto gradient = [&](S entry, Vector<S>& out) {
    Q_.gradient(Vector<S>(Vector<S>::Constant(d, entry)), out, below, above);
  };
  gradient(size, up);
  Q_.mirror(up, below, above, unused, curvature);
  const Vector<S> bend = up.cwiseProduct(curvature) / size;
  gradient(-size, down);
  Vector<S> thresholds = (up - down) / S(2);
  // In the kernel regime all coordinates move at once. (Where Q is a square the bend is 1.)
  if (!(bend.minCoeff() > S(3)) || !(thresholds.minCoeff() > S(0))) return true;
  gradient(gamma * size, moved);
  const S unit = Q_.depth() == 2 && Q_.scale().log() < S(0) ? S(-Q_.scale().log()) : S(1);
  // At depth D >= 3 thresholds move by what their bounds leave, in proportion to them.
  for (Index i = 0; i < d; ++i) rates[i] = Q_.depth() == 2 ? S(1) : thresholds[i];
  S progress(0);
  for (Index i = 0; i < d; ++i) progress += (moved[i] - up[i]) / rates[i] / static_cast<S>(d);
  const MarginPlateaus<S> path =
      PlateauWalk<S>(columns_, loss_, thresholds, rates).run(std::numeric_limits<S>::infinity());
  // A path that was lost is known until its last plateau.
  if (!path.ok() && (path.plateaus.empty() || progress >= path.plateaus.back().kappa)) {
    result.message = sentence("the coordinates in play at log L = ", log_loss_, " are not known: ", path.message);
    return false;
  }
  result.last_kappa = path.is_l1_margin ? path.plateaus.back().kappa / unit : std::numeric_limits<S>::infinity();
  const bool is_last = path.is_l1_margin && progress >= path.plateaus.back().kappa;
  if (is_last && path.is_unique) return true;
  result.is_on_plateau = !is_last;
  result.in_play = is_last ? path.plateaus.back().in_play : path.at(progress).in_play;
  is_out_.assign(static_cast<std::size_t>(d), true);
  for (const Index i : result.in_play) is_out_[static_cast<std::size_t>(i)] = false;
  return true;
}

template <class S>
bool share_slope(const Matrix<S>& C, const Vector<S>& g, Vector<S>& p) {
  using std::abs;
  using std::exp;
  using std::sqrt;
  constexpr S epsilon = std::numeric_limits<S>::epsilon();
  Vector<S> lambda = Vector<S>::Zero(C.cols()), exponents, slope, trial, column(C.rows());
  // Newton's method on the convex `sum exp(C lambda) - <g, lambda>`.
  const auto evaluate = [&](const Vector<S>& at) {
    multiply(C, at, exponents);
    p.resize(C.rows());
    for (Index n = 0; n < p.size(); ++n) p[n] = exp(exponents[n]);
    return p.sum() - g.dot(at);
  };
  S value = evaluate(lambda);
  for (int iteration = 0; iteration < 100; ++iteration) {
    multiply_transposed(C, p, slope);
    slope -= g;
    if (largest_size(slope) <= S(1e3) * epsilon * largest_size(g)) return true;
    UpdatableQr<S> qr;
    qr.reset(C.rows());
    for (Index j = 0; j < C.cols(); ++j) {
      for (Index n = 0; n < C.rows(); ++n) column[n] = sqrt(p[n]) * C(n, j);
      if (!qr.append(column.data())) return false;
    }
    qr.solve_gram(slope);
    S t(1), next(0);
    for (; t > epsilon; t /= S(2)) {
      trial = lambda - t * slope;
      next = evaluate(trial);
      if (next <= value + S(8) * epsilon * abs(value)) break;
    }
    if (!(t > epsilon)) return false;
    lambda = trial;
    value = next;
  }
  return false;
}

template <class S>
void ClassificationPredictor<S>::weigh(const std::vector<Index>& support, const Vector<S>& margins,
                                       ClassificationPrediction<S>& result) const {
  using std::sqrt;
  const Index d = data_.num_inputs();
  Vector<S> z(d), below(d), above(d), beta(d), curvature(d), column(d), growth;
  Q_.gradient(result.beta, z, below, above);
  Q_.mirror(z, below, above, beta, curvature);
  UpdatableQr<S> qr;
  qr.reset(d);
  std::vector<Index> kept;
  const S largest = curvature.maxCoeff();
  const auto fill_column = [&](Index n) {
    for (Index i = 0; i < d; ++i)
      column[i] = is_out_[static_cast<std::size_t>(i)] ? S(0) : S(sqrt(curvature[i] / largest)) * columns_(i, n);
  };
  for (const Index n : support) {
    fill_column(n);
    if (qr.append(column.data())) kept.push_back(n);
  }
  growth.setOnes(qr.cols());
  qr.solve_gram(growth);
  result.weights = Vector<S>::Zero(data_.num_samples());
  for (std::size_t k = 0; k < kept.size(); ++k) result.weights[kept[k]] = std::max(S(0), growth[static_cast<Index>(k)]);
  const S sum = result.weights.sum();
  if (!(sum > S(0))) return;
  result.weights /= sum;
  // The support is independent; other samples of least margin in its span have a share in the same slope.
  const auto k = static_cast<Index>(kept.size());
  std::vector<Index> sharing = kept;
  std::vector<Vector<S>> rows;
  const S rounding = sqrt(std::numeric_limits<S>::epsilon());
  Vector<S> row, rest;
  for (Index n = 0; n < margins.size(); ++n) {
    if (margins[n] > S(1) + rounding || std::find(kept.begin(), kept.end(), n) != kept.end()) continue;
    fill_column(n);
    qr.project(column, row, rest);
    if (norm(rest) > rounding * norm(column)) continue;
    sharing.push_back(n);
    rows.push_back(row);
  }
  if (rows.empty()) return;
  Matrix<S> C = Matrix<S>::Zero(static_cast<Index>(sharing.size()), k);
  for (Index j = 0; j < k; ++j) {
    C(j, j) = S(1);
    for (std::size_t m = 0; m < rows.size(); ++m) C(k + static_cast<Index>(m), j) = rows[m][j];
  }
  Vector<S> shares;
  if (!share_slope(C, Vector<S>(growth / sum), shares)) return;
  for (std::size_t m = 0; m < sharing.size(); ++m) result.weights[sharing[m]] = shares[static_cast<Index>(m)];
  result.weights /= result.weights.sum();
}

template <class S>
bool ClassificationPredictor<S>::solve(const Vector<S>& margins, ClassificationPrediction<S>& result) {
  const S gamma = -log_loss_;
  Matrix<S> X = data_.X();
  for (Index i = 0; i < X.cols(); ++i)
    for (Index n = 0; n < X.rows(); ++n)
      X(n, i) = is_out_[static_cast<std::size_t>(i)] ? S(0) : S(X(n, i) * (gamma / margins[n]));
  const Scale<S> scale = Q_.scale().shifted(-std::log(gamma) / S(Q_.depth()));
  const MarginResult<S> best = max_margin(Q_.with_scale(scale), Dataset<S>(std::move(X), data_.y()));
  if (!best.ok()) {
    result.message = best.message;
    return false;
  }
  result.beta = gamma * best.beta;
  weigh(best.support, best.margins, result);
  return true;
}

template <class S>
ClassificationPrediction<S> ClassificationPredictor<S>::run() {
  using std::log;
  ClassificationPrediction<S> result;
  result.log_loss = log_loss_;
  l2_ = max_margin_l2(data_);
  if (!l2_.is_separable) {
    result.is_separable = false;
    result.message = l2_.message;
    return result;
  }
  l1_ = max_margin_l1(data_);
  if (!l1_.ok() || !l2_.ok()) {
    result.message = l1_.ok() ? l2_.message : l1_.message;
    return result;
  }
  if (!find_plateau(result)) return result;
  const S gamma = -log_loss_;
  const Index N = data_.num_samples();
  Vector<S> wanted = Vector<S>::Constant(N, gamma);
  // The weights hardly depend on the correction that they make.
  for (int round = 0; round < 3; ++round) {
    if (!solve(wanted, result)) return result;
    constexpr S least = std::numeric_limits<S>::epsilon();
    for (Index n = 0; n < N; ++n)
      wanted[n] = result.weights[n] > S(0) ? S(gamma - log(std::max(least, result.weights[n]))) : gamma;
  }
  multiply_transposed(columns_, result.beta, result.margins);
  result.margin = result.margins.minCoeff();
  result.effective_scale = Q_.scale().shifted(-log(result.margin) / S(Q_.depth()));
  if (Q_.scale().log() < S(0)) result.kappa = log(result.margin) / -Q_.scale().log();
  const S best = S(1) / l1_.beta.template lpNorm<1>();
  const S at_l2 = S(1) / l2_.beta.template lpNorm<1>();
  const S here = result.margin / result.beta.template lpNorm<1>();
  result.l1_margin = here / best;
  result.l2_margin = result.margin / norm(result.beta) * norm(l2_.beta);
  const S width = best - at_l2;
  result.position = width > std::sqrt(std::numeric_limits<S>::epsilon()) * best ? S((here - at_l2) / width) : S(1);
  result.status = Status::tolerance_reached;
  result.message = sentence("at log L = ", log_loss_, " theory has margin ", result.margin, ", ", result.l1_margin,
                            " of the best l1 margin and ", result.l2_margin, " of the best l2 margin",
                            result.is_on_plateau ? ", on a plateau" : "");
  return result;
}

template <class S>
ClassificationPrediction<S> predict_classes(const ImplicitRegularizer<S>& Q, const Dataset<S>& data, S log_loss,
                                            MarginLoss loss) {
  return ClassificationPredictor<S>(Q, data, log_loss, loss).run();
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_PREDICTED_CLASSIFICATION(prefix, S)                                        \
  prefix template bool detail::share_slope<S>(const Matrix<S>&, const Vector<S>&, Vector<S>&);          \
  prefix template class detail::ClassificationPredictor<S>;                                             \
  prefix template ClassificationPrediction<S> detail::predict_classes<S>(const ImplicitRegularizer<S>&, \
                                                                         const Dataset<S>&, S, MarginLoss);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_PREDICTED_CLASSIFICATION)
