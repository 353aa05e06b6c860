#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <type_traits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/linear_predictor.hpp"
#include "richflow/models/start.hpp"

namespace richflow {

template <class S = double, int Depth = Eigen::Dynamic>
class DiagonalNet;

namespace detail {

/// `<x, w_+^2 - w_-^2>`, over d entries.
template <class S>
[[nodiscard]] S squared_prediction(const S* x, const S* w, Index d);

/// What `squared_step` finds on its way.
template <class S>
struct SquaredStep {
  S prediction;   ///< of x_next at w_new
  S square_norm;  ///< of w_new
};

/// A step of the squared net on one sample, `w_new = w + c (w_+ * x, -w_- * x)`, and the prediction there of x_next as
/// `squared_prediction` makes it, in one pass.
template <class S>
[[nodiscard]] SquaredStep<S> squared_step(const S* x, S c, const S* w, S* w_new, const S* x_next, Index d);

/// The same in the memory of w; the prediction.
template <class S>
[[nodiscard]] S squared_step_over(const S* x, S c, S* w, const S* x_next, Index d);

/// The evaluation of a DiagonalNet: `predict` and `vjp` to the bit, but for steps of the squared net from one sample to
/// the next where sums may have another order; the kernel in closed form.
template <class S, int Depth>
class DiagonalEvaluation final : public AnyEvaluation<S> {
 public:
  DiagonalEvaluation(const DiagonalNet<S, Depth>& net, Index max_batch)
      : AnyEvaluation<S>({net.num_parameters(), 1, max_batch, net.num_inputs()}), net_(net) {
    back_.setZero(net.num_inputs());
  }
  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<DiagonalEvaluation>(*this);
  }

  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override {
    if (is_one_row(X))
      F(0, 0) = squared_prediction(X.row_data(), w.data(), back_.size());
    else
      net_.predict(w, X.matrix(), F.col(0));
  }

  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override {
    const Index d = back_.size();
    back_.noalias() = X.matrix().transpose() * G.col(0);
    for (Index i = 0; i < d; ++i) {
      target[i] += scale * (net_.slope(w[i]) * back_[i]);
      target[d + i] -= scale * (net_.slope(w[d + i]) * back_[i]);
    }
  }

  void vjp(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, VectorRef<S> out) override {
    net_.vjp(w, X.matrix(), G.col(0), out);
  }

  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override {
    net_.jvp(w, X.matrix(), v, dF.col(0));
  }

  /// `X diag(D^2 (w_+^(2D-2) + w_-^(2D-2))) X^T`.
  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm /*form*/, MatrixRef<S> K) override {
    using std::hypot;
    const auto rows = X.matrix();
    scaled_ = rows.transpose();
    for (Index i = 0; i < scaled_.rows(); ++i) back_[i] = hypot(net_.slope(w[i]), net_.slope(w[scaled_.rows() + i]));
    for (Index n = 0; n < scaled_.cols(); ++n)
      for (Index i = 0; i < scaled_.rows(); ++i) scaled_(i, n) *= back_[i];
    product_of_transposed<S>(scaled_, scaled_, K);
  }

  void descend_and_forward(VectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, Samples<S> X_next,
                           MatrixRef<S> F_next) override {
    if (!is_one_row(X) || !is_one_row(X_next))
      AnyEvaluation<S>::descend_and_forward(w, X, G, scale, X_next, F_next);
    else
      F_next(0, 0) =
          squared_step_over(X.row_data(), S(scale * S(2) * G(0, 0)), w.data(), X_next.row_data(), back_.size());
  }

  S descend_into(ConstVectorRef<S> w, VectorRef<S> w_new, Samples<S> X, ConstMatrixRef<S> G, S scale, Samples<S> X_next,
                 MatrixRef<S> F_next) override {
    if (!is_one_row(X) || !is_one_row(X_next))
      return AnyEvaluation<S>::descend_into(w, w_new, X, G, scale, X_next, F_next);
    const SquaredStep<S> step =
        squared_step(X.row_data(), S(scale * S(2) * G(0, 0)), w.data(), w_new.data(), X_next.row_data(), back_.size());
    F_next(0, 0) = step.prediction;
    return step.square_norm;
  }

  /// `w_+- (1 +- 2 scale G x)`, of one sample.
  [[nodiscard]] S growth_of_descent(ConstMatrixRef<S> G, S scale, S largest) const override {
    using std::abs;
    if (!reorders_ || G.size() != 1) return std::numeric_limits<S>::infinity();
    return S(1) + abs(scale * S(2) * G(0, 0)) * largest;
  }

  void reorder_sums() override { reorders_ = Depth == 2; }
  [[nodiscard]] bool is_descent_fused() const override { return reorders_; }

 private:
  /// One sample whose entries follow one another.
  [[nodiscard]] bool is_one_row(const Samples<S>& X) const { return reorders_ && X.is_one_row(); }

  DiagonalNet<S, Depth> net_;
  Vector<S> back_ = {};    // X^T G
  Matrix<S> scaled_ = {};  // for the kernel
  bool reorders_ = false;
};

}  // namespace detail

/// The depth-D diagonal net, `f(w, x) = <beta(w), x>` with `beta(w) = w_+^D - w_-^D` elementwise, D >= 2 (Woodworth et
/// al. 2020, equations (3) and (9); docs/theory.md, sections 2.1 and 3.1).
///
/// The parameters are one vector of P = 2d entries, `w = (w_+, w_-)`. `X` is N x d; the loss is the plain sum of
/// squares, so the gradient flow is `w_+' = -2 D w_+^(D-1) * X^T r`, `w_-' = +2 D w_-^(D-1) * X^T r`. Along it
/// `w_+ * w_-` is constant at D = 2 and `w_+^(2-D) + w_-^(2-D)` beyond. Started at `w(0) = alpha w0`, a limit that fits
/// the data is the minimizer over `X beta = y` of the hypentropy (D = 2) or the depth hypentropy (D >= 3) of that scale
/// and shape (docs/theory.md, sections 2.2 and 3.2).
///
/// `Depth` fixes D at compile time; with `Eigen::Dynamic`, the default, the constructor takes it.
///
/// A Model with its own evaluation, LinearPredictor, HasJvp, HasHessianProduct, HasInvariant. Immutable; no member
/// allocates except `initial_parameters` and `invariant`. Members throw DimensionError for wrong shapes. `predict`,
/// `vjp` and `jvp` each cost one product with X and O(d log D).
template <class S, int Depth>
class DiagonalNet {
  static_assert(Depth == Eigen::Dynamic || Depth >= 2, "richflow: the depth of a diagonal net is at least 2");

 public:
  using Scalar = S;

  /// A net of the compile-time depth on inputs of d features. Throws DimensionError for d <= 0.
  explicit DiagonalNet(Index d) requires(Depth != Eigen::Dynamic) : depth_(Depth), d_(d) { check_dimension(); }

  /// A net of depth D on inputs of d features. Throws ArgumentError for depth < 2, DimensionError for d <= 0.
  DiagonalNet(Index depth, Index d) requires(Depth == Eigen::Dynamic) : depth_(depth), d_(d) {
    require(depth >= 2, "depth must be at least 2, got ", depth);
    check_dimension();
  }

  /// d.
  [[nodiscard]] Index num_inputs() const { return d_; }
  /// P = 2d.
  [[nodiscard]] Index num_parameters() const { return 2 * d_; }
  /// D. The model is homogeneous of this degree: f(c w, x) = c^D f(w, x).
  [[nodiscard]] Index homogeneity() const { return depth(); }

  /// The weights of a uniform, shaped or biased start. Throws ArgumentError where a weight underflows to zero, at which
  /// the flow would stay, or overflows (`simulate` needs no weights and has no such limit), and for an unbalanced
  /// start, which has two layers; DimensionError where the start is not of d entries.
  [[nodiscard]] Vector<S> initial_parameters(const Start<S>& start) const {
    require(start.family() != StartFamily::unbalanced,
            "the start is unbalanced: it has two layers (TwoLayerDiagonalNet), where this net has one; it takes a "
            "uniform, shaped or biased start");
    Vector<S> w(2 * d_);
    w << start.first_weights(d_), start.second_weights(d_);
    for (Index i = 0; i < 2 * d_; ++i) check_weight(start, i, w[i]);
    return w;
  }

  /// `w_+ = w_- = alpha`: the uniform, unbiased start, f(w, .) = 0. Throws ArgumentError where alpha
  /// underflows to zero, at which the flow would stay (`simulate` has no such limit).
  [[nodiscard]] Vector<S> initial_parameters(Scale<S> scale) const {
    return initial_parameters(Start<S>::uniform(scale));
  }

  /// `w_+ = w_- = alpha w0`: an unbiased start of shape w0 (d entries). Throws as above, and as `Start::shaped`.
  [[nodiscard]] Vector<S> initial_parameters(Scale<S> scale, const Vector<S>& w0) const {
    require_size("w0", w0.size(), d_);
    return initial_parameters(Start<S>::shaped(scale, w0));
  }

  /// `w_+ = alpha a`, `w_- = alpha b`: a start biased to beta = alpha^D (a^D - b^D). Throws as above, and as
  /// `Start::biased`.
  [[nodiscard]] Vector<S> initial_parameters(Scale<S> scale, const Vector<S>& a, const Vector<S>& b) const {
    require_size("a", a.size(), d_);
    require_size("b", b.size(), d_);
    return initial_parameters(Start<S>::biased(scale, a, b));
  }

  /// `out = w_+^D - w_-^D`, d values, accurate relative to the difference.
  void beta(ConstVectorRef<S> w, VectorRef<S> out) const {
    require_size("w", w.size(), 2 * d_);
    require_size("out", out.size(), d_);
    for (Index i = 0; i < d_; ++i) out[i] = difference(w[i], w[d_ + i]);
  }

  /// `out = X beta(w)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
    check(w, X, out.size());
    detail::apply_entries<S>(X, out, [&](Index i) { return difference(w[i], w[d_ + i]); });
  }

  /// `out = J(w)^T r`, P values: `(D w_+^(D-1) * X^T r, -D w_-^(D-1) * X^T r)`.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const {
    check(w, X, r.size());
    require_size("out", out.size(), 2 * d_);
    auto plus = out.head(d_);
    plus.noalias() = X.transpose() * r;
    for (Index i = 0; i < d_; ++i) {
      out[d_ + i] = -slope(w[d_ + i]) * out[i];
      out[i] *= slope(w[i]);
    }
  }

  /// `out = J(w) v`, N values: `X (D w_+^(D-1) * v_+ - D w_-^(D-1) * v_-)`.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const {
    check(w, X, out.size());
    require_size("v", v.size(), 2 * d_);
    detail::apply_entries<S>(X, out, [&](Index i) { return slope(w[i]) * v[i] - slope(w[d_ + i]) * v[d_ + i]; });
  }

  /// Memory for at most `max_batch` samples. A step of descent of the squared net from one sample to the next is one
  /// pass over the weights; the kernel costs N^2 d.
  [[nodiscard]] Evaluation<S> make_evaluation(Index max_batch, ParallelOptions /*parallel*/ = {1}) const {
    return Evaluation<S>(std::make_unique<detail::DiagonalEvaluation<S, Depth>>(*this, max_batch));
  }

  /// `out = sum_n r_n (d^2 f(w, x_n) / dw^2) v`, P values: `D (D - 1) (w_+^(D-2) v_+ * X^T r, -w_-^(D-2) v_- * X^T r)`.
  void hessian_product(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, ConstVectorRef<S> v,
                       VectorRef<S> out) const {
    check(w, X, r.size());
    require_size("v", v.size(), 2 * d_);
    require_size("out", out.size(), 2 * d_);
    auto plus = out.head(d_);
    plus.noalias() = X.transpose() * r;
    const S factor = S(depth()) * S(depth() - 1);
    for (Index i = 0; i < d_; ++i) {
      out[d_ + i] = -factor * power(w[d_ + i], depth() - 2) * v[d_ + i] * out[i];
      out[i] *= factor * power(w[i], depth() - 2) * v[i];
    }
  }

  /// `w_+ * w_-` at depth 2, `w_+^(2-D) + w_-^(2-D)` beyond, d values: constant along every gradient flow, and drifting
  /// by O(step) under descent.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const {
    require_size("w", w.size(), 2 * d_);
    if (depth() == 2) return w.head(d_).cwiseProduct(w.tail(d_));
    Vector<S> out(d_);
    for (Index i = 0; i < d_; ++i) out[i] = S(1) / power(w[i], depth() - 2) + S(1) / power(w[d_ + i], depth() - 2);
    return out;
  }

 private:
  friend class detail::DiagonalEvaluation<S, Depth>;

  /// D, known to the compiler where it can be.
  [[nodiscard]] Index depth() const { return Depth == Eigen::Dynamic ? depth_ : Index(Depth); }

  [[nodiscard]] static S power(S base, Index exponent) {
    S out(1);
    for (; exponent > 0; exponent /= 2) {
      if (exponent % 2 == 1) out *= base;
      base *= base;
    }
    return out;
  }

  /// p^D - m^D, the exponent k built from the bits of D: `p^2k - m^2k = (p^k - m^k)(p^k + m^k)` and
  /// `p^(k+1) - m^(k+1) = p (p^k - m^k) + (p - m) m^k` keep the digits of a small difference.
  [[nodiscard]] S difference(S p, S m) const {
    const auto bits = static_cast<std::size_t>(depth());
    S out = p - m;
    S p_k = p;
    S m_k = m;
    for (std::size_t bit = std::bit_floor(bits) / 2; bit > 0; bit /= 2) {
      out *= p_k + m_k;
      p_k *= p_k;
      m_k *= m_k;
      if ((bits & bit) == 0) continue;
      out = p * out + (p - m) * m_k;
      p_k *= p;
      m_k *= m;
    }
    return out;
  }

  /// D w^(D-1).
  [[nodiscard]] S slope(S w) const { return S(depth()) * power(w, depth() - 1); }

  void check_dimension() const { require<DimensionError>(d_ > 0, "the diagonal net needs d > 0 features, got ", d_); }

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const {
    require_size("w", w.size(), 2 * d_);
    require<DimensionError>(X.cols() == d_, "X has ", X.cols(), " columns where the net has d = ", d_, " features");
    require_size("the vector over samples", num_samples, X.rows());
  }

  /// Entry i of (w_+, w_-).
  void check_weight(const Start<S>& start, Index i, S weight) const {
    using std::isfinite;
    if (weight > S(0) && isfinite(weight)) return;
    const S log_alpha = start.scale().log();
    require(start.family() != StartFamily::uniform, "log alpha = ", log_alpha,
            " puts alpha outside the range of the scalar type; use the dual flow (simulate needs no weights)");
    const char* name = start.family() == StartFamily::shaped ? "w0" : i < d_ ? "a" : "b";
    require(false, "alpha ", name, "(", i % d_, ") ", weight > S(0) ? "overflows" : "underflows to zero",
            " at log alpha = ", log_alpha, "; use the dual flow (simulate needs no weights)");
  }

  Index depth_;
  Index d_;
};

/// The squared net, `beta(w) = w_+^2 - w_-^2`.
template <class S = double>
using SquaredDiagonalNet = DiagonalNet<S, 2>;

namespace detail {

/// Entries that are worked on at once: two registers of them.
template <class S>
inline constexpr int entry_lanes = std::max(2 * EIGEN_MAX_ALIGN_BYTES / static_cast<int>(sizeof(S)), 4);
template <class S, int lanes = entry_lanes<S>>
using Entries = Eigen::Array<S, lanes, 1>;
/// And among those left over: one register where they are wide.
template <class S>
inline constexpr int last_lanes = EIGEN_MAX_ALIGN_BYTES > 32 ? entry_lanes<S> / 2 : entry_lanes<S>;

/// What a pass over the weights adds up, in lanes.
template <class S, int lanes>
struct EntrySums {
  Entries<S, lanes> prediction = Entries<S, lanes>::Zero();
  Entries<S, lanes> square_norm = Entries<S, lanes>::Zero();
};

/// `x (p - m) (p + m)` for the entries from i on.
template <class S, int lanes>
EIGEN_STRONG_INLINE void predict_entries(const S* x, const S* w, Index d, Index i, EntrySums<S, lanes>& sums) {
  using At = Eigen::Map<const Entries<S, lanes>>;
  const Entries<S, lanes> p = At(w + i);
  const Entries<S, lanes> m = At(w + d + i);
  sums.prediction += At(x + i) * ((p - m) * (p + m));
}

/// A step of the entries from i on, and their prediction there.
template <bool measures, class S, int lanes>
EIGEN_STRONG_INLINE void step_entries(const S* x, S c, const S* w, S* w_new, const S* x_next, Index d, Index i,
                                      EntrySums<S, lanes>& sums) {
  using At = Eigen::Map<const Entries<S, lanes>>;
  using To = Eigen::Map<Entries<S, lanes>>;
  const Entries<S, lanes> along = c * At(x + i);
  Entries<S, lanes> p = At(w + i);
  Entries<S, lanes> m = At(w + d + i);
  p += along * p;
  m -= along * m;
  To(w_new + i) = p;
  To(w_new + d + i) = m;
  if constexpr (measures) sums.square_norm += p * p + m * m;
  sums.prediction += At(x_next + i) * ((p - m) * (p + m));
}

template <class S>
S squared_prediction(const S* x, const S* w, Index d) {
  EntrySums<S, entry_lanes<S>> sums;
  EntrySums<S, last_lanes<S>> last;
  EntrySums<S, 1> rest;
  Index i = 0;
  for (; i + entry_lanes<S> <= d; i += entry_lanes<S>) predict_entries(x, w, d, i, sums);
  for (; i + last_lanes<S> <= d; i += last_lanes<S>) predict_entries(x, w, d, i, last);
  for (; i < d; ++i) predict_entries(x, w, d, i, rest);
  return sums.prediction.sum() + (last.prediction.sum() + rest.prediction[0]);
}

/// `measures`: with the norm; w_new may be w.
template <bool measures, class S>
EIGEN_STRONG_INLINE SquaredStep<S> step_all_entries(const S* x, S c, const S* w, S* w_new, const S* x_next, Index d) {
  EntrySums<S, entry_lanes<S>> sums;
  EntrySums<S, last_lanes<S>> last;
  EntrySums<S, 1> rest;
  Index i = 0;
  for (; i + entry_lanes<S> <= d; i += entry_lanes<S>) step_entries<measures>(x, c, w, w_new, x_next, d, i, sums);
  for (; i + last_lanes<S> <= d; i += last_lanes<S>) step_entries<measures>(x, c, w, w_new, x_next, d, i, last);
  for (; i < d; ++i) step_entries<measures>(x, c, w, w_new, x_next, d, i, rest);
  return {sums.prediction.sum() + (last.prediction.sum() + rest.prediction[0]),
          sums.square_norm.sum() + (last.square_norm.sum() + rest.square_norm[0])};
}

template <class S>
SquaredStep<S> squared_step(const S* x, S c, const S* w, S* w_new, const S* x_next, Index d) {
  return step_all_entries<true>(x, c, w, w_new, x_next, d);
}

template <class S>
S squared_step_over(const S* x, S c, S* w, const S* x_next, Index d) {
  return step_all_entries<false>(x, c, w, w, x_next, d).prediction;
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_DIAGONAL(prefix, S)                                                              \
  prefix template S detail::squared_prediction<S>(const S*, const S*, Index);                                 \
  prefix template detail::SquaredStep<S> detail::squared_step<S>(const S*, S, const S*, S*, const S*, Index); \
  prefix template S detail::squared_step_over<S>(const S*, S, S*, const S*, Index);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_DIAGONAL)
