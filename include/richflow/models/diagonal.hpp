#pragma once

#include <algorithm>
#include <cmath>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// The squared (depth-2) diagonal net, `f(w, x) = <beta(w), x>` with `beta(w) = w_+^2 - w_-^2`
/// elementwise (Woodworth et al. 2020, equation (3)).
///
/// The parameters are one vector of P = 2d entries, `w = (w_+, w_-)`. `X` is N x d; the loss is the plain
/// sum of squares, so the gradient flow is `w_+' = -4 w_+ * X^T r`, `w_-' = +4 w_- * X^T r`, and
/// `w_+ * w_-` is constant along it. Started at `w(0) = alpha w0`, a limit that fits the data is the
/// minimizer of the hypentropy of that scale and shape over `X beta = y` (Theorem 1).
///
/// A Model, LinearPredictor, HasJvp, HasInvariant. Immutable; no member allocates except
/// `initial_parameters` and `invariant`. `predict`, `vjp` and `jvp` each cost one product with X.
template <class S>
class SquaredDiagonalNet {
 public:
  using Scalar = S;

  /// A net on inputs of d features. Throws DimensionError for d <= 0.
  explicit SquaredDiagonalNet(Index d) : d_(d) {
    require<DimensionError>(d > 0, "the diagonal net needs d > 0 features, got ", d);
  }

  /// d.
  [[nodiscard]] Index input_dimension() const { return d_; }
  /// P = 2d.
  [[nodiscard]] Index num_parameters() const { return 2 * d_; }
  /// The model is homogeneous of this degree: f(c w, x) = c^2 f(w, x).
  [[nodiscard]] static constexpr int homogeneity() { return 2; }

  /// `w_+ = w_- = alpha`: the uniform, unbiased start, f(w, .) = 0. Throws ArgumentError where alpha
  /// underflows to zero, at which the flow would stay (the dual flow has no such limit).
  [[nodiscard]] Vector<S> initial_parameters(BasicScale<S> scale) const {
    return Vector<S>::Constant(2 * d_, representable(scale));
  }

  /// `w_+ = w_- = alpha w0`: an unbiased start of shape w0 (d entries). Throws ArgumentError unless
  /// every entry is positive and finite.
  [[nodiscard]] Vector<S> initial_parameters(BasicScale<S> scale, const Vector<S>& w0) const {
    check_shape("w0", w0, scale);
    Vector<S> w(2 * d_);
    w << scale.value() * w0, scale.value() * w0;
    return w;
  }

  /// `w_+ = alpha a`, `w_- = alpha b`: a start biased to beta = alpha^2 (a^2 - b^2). Throws ArgumentError
  /// unless every entry is positive and finite.
  [[nodiscard]] Vector<S> initial_parameters(BasicScale<S> scale, const Vector<S>& a, const Vector<S>& b) const {
    check_shape("a", a, scale);
    check_shape("b", b, scale);
    Vector<S> w(2 * d_);
    w << scale.value() * a, scale.value() * b;
    return w;
  }

  /// `out = w_+^2 - w_-^2`, d values.
  void beta(ConstVectorRef<S> w, VectorRef<S> out) const {
    require_size("w", w.size(), 2 * d_);
    require_size("out", out.size(), d_);
    // The factored form keeps the relative accuracy of a small difference.
    out.array() = (w.head(d_) - w.tail(d_)).array() * (w.head(d_) + w.tail(d_)).array();
  }

  /// `out = X beta(w)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
    check(w, X, out.size());
    apply(X, out, [&](Index j, Index n, auto block) {
      block.array() =
          (w.segment(j, n) - w.segment(d_ + j, n)).array() * (w.segment(j, n) + w.segment(d_ + j, n)).array();
    });
  }

  /// `out = J(w)^T r`, P values: `(2 w_+ * X^T r, -2 w_- * X^T r)`.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const {
    check(w, X, r.size());
    require_size("out", out.size(), 2 * d_);
    auto plus = out.head(d_);
    plus.noalias() = X.transpose() * r;
    out.tail(d_).array() = S(-2) * w.tail(d_).array() * plus.array();
    plus.array() *= S(2) * w.head(d_).array();
  }

  /// `out = J(w) v`, N values: `X (2 w_+ * v_+ - 2 w_- * v_-)`.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const {
    check(w, X, out.size());
    require_size("v", v.size(), 2 * d_);
    apply(X, out, [&](Index j, Index n, auto block) {
      block.array() = S(2) * (w.segment(j, n).array() * v.segment(j, n).array() -
                              w.segment(d_ + j, n).array() * v.segment(d_ + j, n).array());
    });
  }

  /// `w_+ * w_-`, d values: constant along every gradient flow, and drifting by O(step) under descent.
  [[nodiscard]] Vector<S> invariant(ConstVectorRef<S> w) const {
    require_size("w", w.size(), 2 * d_);
    return w.head(d_).cwiseProduct(w.tail(d_));
  }

 private:
  static constexpr int block_size = 256;

  /// `out = X u` for a u given piecewise by `fill(first, count, block)`, through a buffer on the stack.
  template <class Fill>
  void apply(ConstMatrixRef<S> X, VectorRef<S> out, const Fill& fill) const {
    Eigen::Matrix<S, block_size, 1> buffer;
    out.setZero();
    for (Index j = 0; j < d_; j += block_size) {
      const Index n = std::min<Index>(block_size, d_ - j);
      fill(j, n, buffer.head(n));
      out.noalias() += X.middleCols(j, n) * buffer.head(n);
    }
  }

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index num_samples) const {
    require_size("w", w.size(), 2 * d_);
    require<DimensionError>(X.cols() == d_, "X has ", X.cols(), " columns where the net has d = ", d_, " features");
    require_size("the vector over samples", num_samples, X.rows());
  }

  void check_shape(const char* name, const Vector<S>& values, BasicScale<S> scale) const {
    require_size(name, values.size(), d_);
    require_finite(name, values);
    for (Index i = 0; i < d_; ++i) {
      require(values[i] > S(0), name, "(", i, ") must be positive, got ", values[i]);
      require(representable(scale) * values[i] > S(0), "alpha ", name, "(", i,
              ") underflows to zero at log alpha = ", scale.log(), "; use the dual flow");
    }
  }

  static S representable(BasicScale<S> scale) {
    using std::isfinite;
    const S alpha = scale.value();
    require(alpha > S(0) && isfinite(alpha), "log alpha = ", scale.log(),
            " puts alpha outside the range of the scalar type; use the dual flow");
    return alpha;
  }

  Index d_;
};

static_assert(LinearPredictor<SquaredDiagonalNet<double>>);
static_assert(HasJvp<SquaredDiagonalNet<double>>);
static_assert(HasInvariant<SquaredDiagonalNet<double>>);

}  // namespace richflow
