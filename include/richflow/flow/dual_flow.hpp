#pragma once

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"

namespace richflow {

/// The gradient flow of a diagonal net, seen from its N dual variables. Along the flow
/// `grad Q(beta(t)) = X^T nu(t)` for the mirror map Q of the net and its initialization, hence
///
///     nu' = -c (X beta(X^T nu) - y),     nu(0) = 0,     beta(z) = (grad Q)^{-1}(z)
///
/// with `c = mirror.dual_rate()` (8 for the squared net, 2 D (D-2) alpha^(D-2) at depth D >= 3), X of shape N x d and
/// the plain-sum loss `L = |X beta - y|^2`. The same trajectory as the 2d weights, in N unknowns, and with a symmetric
/// Jacobian
/// `-S`, `S = c X diag(d beta / d z) X^T`: it is the gradient flow of the convex dual of "minimize Q subject
/// to X beta = y". For a map without bounds any `log alpha` works (-500 included). With bounds (depth >= 3) beta
/// is determined by the distance of X^T nu from them, about alpha^(D-2), so that its relative error is the rounding of
/// nu over that distance; the limit at smaller scales is MirrorPath's.
///
/// Where the sizes of the columns of X differ by more than 1e3, the state is not nu but `U^T nu`, with the orthogonal U
/// of the column-pivoted QR `X P = U R`: the same flow of the data `U^T X, U^T y`, whose loss is the same, and in which
/// the large columns, whose terms would cancel in X^T nu, have few entries. `multipliers` gives nu.
///
/// A SymmetricStiffField with a loss. Refers to the dataset, which must outlive it. Calls allocate nothing;
/// they share buffers, so give each thread its own copy. The evaluation at the latest nu is remembered: the
/// field, the loss, the predictor and the Jacobian at one point cost one evaluation (two products with X).
template <class Mirror>
requires(explain_mirror_map<Mirror>()) class DualFlow {
 public:
  using Scalar = typename Mirror::Scalar;

  /// The flow of `mirror` (a regularizer on d coordinates with its scale) on `dataset`. Throws
  /// DimensionError when the mirror map has not d coordinates. Cost: a few products with X.
  DualFlow(Mirror mirror, const BasicDataset<Scalar>& dataset)
      : mirror_(std::move(mirror)),
        dataset_(&dataset),
        point_(Vector<Scalar>::Constant(dataset.num_samples(), std::numeric_limits<Scalar>::quiet_NaN())),
        residual_(dataset.num_samples()),
        z_(dataset.dimension()),
        beta_(dataset.dimension()),
        curvature_(dataset.dimension()),
        start_curvature_(dataset.dimension()),
        weight_(dataset.dimension()),
        columns_(dataset.num_samples(), block),
        scaled_columns_(dataset.num_samples(), block) {
    require<DimensionError>(mirror_.dimension() == dataset.dimension(), "the mirror map has ", mirror_.dimension(),
                            " coordinates but X has ", dataset.dimension(), " columns");
    rotate_graded_columns();
    start_jacobian_.setZero(dimension(), dimension());
    squared_norm_ = estimate_squared_norm();
    z_.setZero();
    mirror_.mirror(z_, beta_, start_curvature_);
  }
  DualFlow(Mirror, const BasicDataset<Scalar>&&) = delete;

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() {
    return "on the dual flow a Rosenbrock method, or jump to the limit with an exact minimizer (minimize_hypentropy, "
           "MirrorPath)";
  }
  /// N.
  [[nodiscard]] Index dimension() const { return dataset_->num_samples(); }
  /// The mirror map.
  [[nodiscard]] const Mirror& mirror() const { return mirror_; }
  /// The data.
  [[nodiscard]] const BasicDataset<Scalar>& dataset() const { return *dataset_; }
  /// nu, N entries: the state itself, unless the columns of X differ much in size. Cost O(N^2) then.
  [[nodiscard]] Vector<Scalar> multipliers(ConstVectorRef<Scalar> state) const {
    require_size("state", state.size(), dimension());
    return rotated_ ? Vector<Scalar>(rotation_ * state) : Vector<Scalar>(state);
  }
  /// Whether the state is `U^T nu`: then rows of the Jacobian differ much in size.
  [[nodiscard]] bool is_graded() const { return rotated_.has_value(); }
  /// `nu(0) = 0`, N entries.
  [[nodiscard]] Vector<Scalar> initial_state() const { return Vector<Scalar>::Zero(dimension()); }

  /// A first step for adaptive integration from `initial_state()`: the time in which the fastest coordinate
  /// of X^T nu moves by one (or half the way to its bound), or the stiffest mode by an e-fold, whichever is shorter.
  /// Error estimates cannot choose it, because for tiny alpha the predictor hardly moves long before it moves
  /// exponentially. Cost: three products with X.
  [[nodiscard]] Scalar first_step() const {
    const Vector<Scalar> start = initial_state();
    evaluate(start);
    const Scalar rate = mirror_.dual_rate();
    weight_.noalias() = -rate * (X().transpose() * residual_);
    // Half the way to a bound, where there is one.
    const Scalar reach = std::min(Scalar(1), mirror_.max_step(Vector<Scalar>::Zero(weight_.size()), weight_) /
                                                 Scalar(2) * weight_.template lpNorm<Eigen::Infinity>());
    const Scalar fastest = std::max(weight_.template lpNorm<Eigen::Infinity>() / reach,
                                    rate * squared_norm_ * start_curvature_.maxCoeff());
    return fastest > Scalar(0) ? Scalar(1) / fastest : Scalar(1);
  }

  /// `dnu = -c (X beta(X^T nu) - y)`. Cost: two products with X and d exponentials.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> nu, VectorRef<Scalar> dnu) const {
    evaluate(nu);
    dnu = -mirror_.dual_rate() * residual_;
  }

  /// `L = |X beta(X^T nu) - y|^2`. Free at the latest evaluated point.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> nu) const {
    evaluate(nu);
    return residual_.squaredNorm();
  }

  /// `out = beta(X^T nu)`, d values. Free at the latest evaluated point.
  void beta(ConstVectorRef<Scalar> nu, VectorRef<Scalar> out) const {
    require_size("out", out.size(), dataset_->dimension());
    evaluate(nu);
    out = beta_;
  }

  /// The lower triangle of `S = c X diag(d beta / d z) X^T`, N x N, to rounding: columns of X whose
  /// curvature is below the rounding error of the largest are skipped. Cost: N^2 d multiply-adds at most.
  void negative_jacobian(Scalar t, ConstVectorRef<Scalar> nu, MatrixRef<Scalar> S) const {
    negative_jacobian(t, nu, Scalar(0), Scalar(0), S);
  }

  /// As above, up to a perturbation E with `-B <= E <= B`, `B = relative S + absolute I` (as quadratic forms;
  /// `absolute` by an estimate of |X|), for steppers that need no exact Jacobian. Columns of X whose curvature
  /// is too small to matter are skipped; near the start of the flow, where most curvatures have hardly
  /// changed, only the columns that did change are added to the Jacobian at nu = 0, which is kept.
  void negative_jacobian(Scalar /*t*/, ConstVectorRef<Scalar> nu, Scalar relative, Scalar absolute,
                         MatrixRef<Scalar> S) const {
    require<DimensionError>(S.rows() == dimension() && S.cols() == dimension(), "S is ", S.rows(), " x ", S.cols(),
                            " where ", dimension(), " x ", dimension(), " is needed");
    if (rotated_) relative = absolute = Scalar(0);
    evaluate(nu);
    const Scalar rate = mirror_.dual_rate();
    const Scalar rounding = rotated_ ? Scalar(0) : std::numeric_limits<Scalar>::epsilon() / Scalar(4);
    const Scalar negligible = std::max(absolute / (rate * squared_norm_), rounding * curvature_.maxCoeff());
    Index from_zero = 0;
    Index from_start = 0;
    for (Index i = 0; i < curvature_.size(); ++i) {
      using std::abs;
      const Scalar c = curvature_[i];
      from_zero += c > negligible ? 1 : 0;
      from_start += abs(c - start_curvature_[i]) > std::max(negligible, relative * c) ? 1 : 0;
    }
    // The choice must depend on nu alone, not on whether the start's Jacobian is there already: a resumed run
    // repeats the uninterrupted one bit for bit.
    auto lower = S.template triangularView<Eigen::Lower>();
    if (2 * from_start < from_zero) {
      if (!has_start_jacobian_) {
        has_start_jacobian_ = true;
        weight_ = rate * start_curvature_;
        add_weighted_gram([](Index) { return true; }, start_jacobian_);
      }
      lower = start_jacobian_;
      weight_ = rate * (curvature_ - start_curvature_);
      add_weighted_gram(
          [&](Index i) {
            using std::abs;
            return abs(weight_[i]) > rate * std::max(negligible, relative * curvature_[i]);
          },
          S);
    } else {
      lower.setZero();
      weight_ = rate * curvature_;
      add_weighted_gram([&](Index i) { return weight_[i] > rate * negligible; }, S);
    }
  }

  /// The error of a step in what the user sees, the predictor: `|d beta / d z * X^T error|_2 over
  /// absolute + relative * |beta|_2`, both at `nu_new`; where the columns of X differ much in size, entries of beta
  /// count by that size over the median, where it is above. At most 1 means the step meets the tolerance (any type with
  /// members `absolute` and `relative`). Cost: one product with X, and one evaluation that the next step reuses.
  template <class Tolerance>
  [[nodiscard]] Scalar error_ratio(ConstVectorRef<Scalar> /*nu*/, ConstVectorRef<Scalar> nu_new,
                                   ConstVectorRef<Scalar> error, const Tolerance& tolerance) const {
    evaluate(nu_new);
    weight_.noalias() = X().transpose() * error;
    weight_.array() *= curvature_.array();
    if (rotated_) {
      // A large column makes much of a small entry of beta.
      weight_.array() *= units_.array();
      const Scalar change = weight_.stableNorm();
      weight_ = units_.cwiseProduct(beta_);
      return change == Scalar(0) ? change : change / (tolerance.absolute + tolerance.relative * weight_.stableNorm());
    }
    const Scalar change = weight_.stableNorm();
    if (change == Scalar(0)) return change;
    return change / (tolerance.absolute + tolerance.relative * beta_.stableNorm());
  }

 private:
  // Products of at most block x block x block keep Eigen's packing buffers on the stack.
  static constexpr Index block = 96;
  static constexpr Index largest_tile = 56;

  [[nodiscard]] const Matrix<Scalar>& X() const { return rotated_ ? rotated_->X() : dataset_->X(); }
  [[nodiscard]] const Vector<Scalar>& y() const { return rotated_ ? rotated_->y() : dataset_->y(); }

  void rotate_graded_columns() {
    const Matrix<Scalar>& X = dataset_->X();
    const Vector<Scalar> sizes = X.cwiseAbs().colwise().maxCoeff().transpose();
    const Scalar largest = sizes.maxCoeff();
    const Scalar smallest = (sizes.array() > Scalar(0)).select(sizes, largest).minCoeff();
    if (!(largest > Scalar(1e3) * smallest)) return;
    Vector<Scalar> sorted = sizes;
    std::nth_element(sorted.data(), sorted.data() + sorted.size() / 2, sorted.data() + sorted.size());
    const Scalar median = sorted[sorted.size() / 2];
    units_ = (sizes / (median > Scalar(0) ? median : smallest)).cwiseMax(Scalar(1));
    const Eigen::ColPivHouseholderQR<Matrix<Scalar>> qr(X);
    rotation_ = qr.householderQ();
    const Matrix<Scalar> R = qr.matrixR().template triangularView<Eigen::Upper>();
    rotated_.emplace(R * qr.colsPermutation().transpose(), rotation_.transpose() * dataset_->y());
  }

  void evaluate(ConstVectorRef<Scalar> nu) const {
    require_size("nu", nu.size(), dimension());
    if (nu == point_) return;
    point_ = nu;
    z_.noalias() = X().transpose() * nu;
    mirror_.mirror(z_, beta_, curvature_);
    residual_ = -y();
    add_prediction();
  }

  /// Adds `X beta_` to the residual. In the rich regime most of beta is below the rounding error of the
  /// rest, and those columns are not read.
  void add_prediction() const {
    using std::abs;
    const Index d = dataset_->dimension();
    const Scalar negligible =
        std::numeric_limits<Scalar>::epsilon() / Scalar(8 * d) * beta_.template lpNorm<Eigen::Infinity>();
    using std::isfinite;
    // An infinite beta (beyond a bound, or an overflow) must reach the residual, so that the step is refused.
    if (rotated_ || !isfinite(negligible) || 8 * (beta_.array().abs() > negligible).count() > d) {
      residual_.noalias() += X() * beta_;
    } else {
      for (Index i = 0; i < d; ++i)
        if (!(abs(beta_[i]) <= negligible)) residual_ += beta_[i] * X().col(i);
    }
  }

  /// Adds `X diag(weight_) X^T` over the columns that `matters` selects to the lower triangle of S.
  template <class Predicate>
  void add_weighted_gram(const Predicate& matters, MatrixRef<Scalar> S) const {
    const auto& X = this->X();
    const Index d = dataset_->dimension();
    Index count = 0;
    for (Index j = 0; j < d; ++j) {
      if (matters(j)) {
        columns_.col(count) = X.col(j);
        scaled_columns_.col(count) = weight_[j] * X.col(j);
        ++count;
      }
      if (count == block || (j + 1 == d && count > 0)) {
        add_block(count, S);
        count = 0;
      }
    }
  }

  void add_block(Index count, MatrixRef<Scalar> S) const {
    const Index n = dimension();
    const Index tiles = (n + largest_tile - 1) / largest_tile;
    const Index tile = (n + tiles - 1) / tiles;
    for (Index i = 0; i < n; i += tile) {
      const Index rows = std::min(tile, n - i);
      for (Index j = 0; j <= i; j += tile) {
        const Index cols = std::min(tile, n - j);
        S.block(i, j, rows, cols).noalias() +=
            columns_.block(i, 0, rows, count) * scaled_columns_.block(j, 0, cols, count).transpose();
      }
    }
  }

  /// |X|_2^2 by a few power iterations from a fixed start, good to a small factor.
  [[nodiscard]] Scalar estimate_squared_norm() const {
    const auto& X = this->X();
    Vector<Scalar> u = X * Vector<Scalar>::Ones(X.cols()) + y();
    Scalar estimate = X.squaredNorm() / static_cast<Scalar>(std::min(X.rows(), X.cols()));
    for (int k = 0; k < 3; ++k) {
      const Scalar norm = u.stableNorm();
      if (!(norm > Scalar(0))) break;
      u /= norm;
      z_.noalias() = X.transpose() * u;
      u.noalias() = X * z_;
      estimate = std::max(estimate, z_.squaredNorm());
    }
    return estimate;
  }

  Mirror mirror_;
  const BasicDataset<Scalar>* dataset_;
  std::optional<BasicDataset<Scalar>> rotated_;  // U^T X and U^T y, where columns differ much in size
  Matrix<Scalar> rotation_;                      // U
  Vector<Scalar> units_;                         // sizes of the columns over their median, 1 at least
  Scalar squared_norm_ = Scalar(0);
  mutable Vector<Scalar> point_;           // the latest evaluated nu; NaN before the first
  mutable Vector<Scalar> residual_;        // X beta - y there
  mutable Vector<Scalar> z_;               // X^T nu
  mutable Vector<Scalar> beta_;            // beta(z)
  mutable Vector<Scalar> curvature_;       // d beta / d z
  Vector<Scalar> start_curvature_;         // d beta / d z at nu = 0
  mutable Matrix<Scalar> start_jacobian_;  // lower triangle of S at nu = 0, once it was needed
  mutable bool has_start_jacobian_ = false;
  mutable Vector<Scalar> weight_;                    // scratch, d
  mutable Matrix<Scalar> columns_, scaled_columns_;  // scratch, N x block
};

}  // namespace richflow
