#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/labels.hpp"
#include "richflow/losses/loss.hpp"

namespace richflow {

/// The cross-entropy of the softmax of K outputs, `sum_n log sum_k exp(F_nk - F_n,label(n))`: a plain sum over the
/// samples, divide by B for the mean. With K = 2 it is the logistic loss of `F_n1 - F_n0`.
///
/// Exponents are taken relative to the output of the label or the largest one, so that nothing overflows and small
/// losses and gradients keep their relative accuracy; a gradient below the smallest normal number is zero. An output
/// that is not finite makes the value NaN. Allocates nothing.
template <class S = double>
struct CrossEntropy {
  /// The loss. Throws and costs as `value_and_gradient`.
  [[nodiscard]] S value(ConstMatrixRef<S> F, ConstVectorRef<int> labels) const;

  /// The loss, and `G` = dL / dF, the softmax minus the indicator of the label, B x K; `G` may be `F` itself. Throws
  /// DimensionError for other shapes and K < 2, ArgumentError for a label outside 0 .. K - 1. Cost: 2 B K exponentials.
  S value_and_gradient(ConstMatrixRef<S> F, ConstVectorRef<int> labels, MatrixRef<S> G) const;

  /// Roots of the second derivative `diag(p) - p p^T` of each sample, p its softmax: with `q = sqrt(p)` elementwise it
  /// is `R R^T`, `R = diag(q) (I - q q^T)`. R is N x K^2, see ConvexClassLoss. Throws DimensionError for other shapes,
  /// ArgumentError as above.
  void curvature_root(ConstMatrixRef<S> F, ConstVectorRef<int> labels, MatrixRef<S> R) const;

 private:
  static constexpr Index block_rows = 64;
  // On the stack, and always aligned alike: a vectorized exponential may differ from a scalar one in the last place.
  using Block = Eigen::Array<S, Eigen::Dynamic, 1, 0, block_rows, 1>;

  template <class Write>
  static S evaluate(ConstMatrixRef<S> F, ConstVectorRef<int> labels, const Write& write) {
    require<DimensionError>(F.cols() >= 2, "the cross-entropy needs K >= 2 outputs, got ", F.cols());
    detail::require_labels(labels, F.rows(), F.cols());
    S sum(0);
    for (Index row = 0; row < F.rows(); row += block_rows)
      sum += block(F, labels, row, std::min<Index>(block_rows, F.rows() - row), write);
    return sum;
  }

  template <class Write>
  static S block(ConstMatrixRef<S> F, ConstVectorRef<int> labels, Index row, Index rows, const Write& write) {
    using std::log;
    using std::log1p;
    Block own(rows), largest(rows), others(rows), values(rows);
    S finite(0);
    for (Index n = 0; n < rows; ++n) own[n] = F(row + n, labels[row + n]);
    largest = own;
    for (Index k = 0; k < F.cols(); ++k) {
      values = F.col(k).segment(row, rows).array();
      largest = largest.max(values);
      values *= S(0);
      finite += values.sum();
    }
    // exp(F_nk - largest_n) without the label's own
    const auto exponentials = [&](Index k) {
      values = F.col(k).segment(row, rows).array() - largest;
      values = values.exp();
      for (Index n = 0; n < rows; ++n)
        if (labels[row + n] == k) values[n] = S(0);
    };
    others.setZero();
    for (Index k = 0; k < F.cols(); ++k) {
      exponentials(k);
      others += values;
    }
    S sum = finite;
    Block total(rows);
    for (Index n = 0; n < rows; ++n) {
      const S above = largest[n] - own[n];
      total[n] = exp_of(-above) + others[n];
      sum += above > S(0) ? above + log(total[n]) : log1p(others[n]);
    }
    for (Index k = 0; k < F.cols(); ++k) {
      exponentials(k);
      values /= total;
      for (Index n = 0; n < rows; ++n)
        if (labels[row + n] == k) values[n] = -others[n] / total[n];
      values = (values.abs() < std::numeric_limits<S>::min()).select(S(0), values);
      write(row, rows, k, values);
    }
    return sum;
  }

  static S exp_of(S x) {
    using std::exp;
    return exp(x);
  }
};

template <class S>
S CrossEntropy<S>::value(ConstMatrixRef<S> F, ConstVectorRef<int> labels) const {
  return evaluate(F, labels, [](Index, Index, Index, const auto&) {});
}

template <class S>
S CrossEntropy<S>::value_and_gradient(ConstMatrixRef<S> F, ConstVectorRef<int> labels, MatrixRef<S> G) const {
  require<DimensionError>(G.rows() == F.rows() && G.cols() == F.cols(), "G is ", G.rows(), " x ", G.cols(),
                          " where F is ", F.rows(), " x ", F.cols());
  return evaluate(F, labels, [&](Index row, Index rows, Index k, const auto& values) {
    G.col(k).segment(row, rows) = values.matrix();
  });
}

template <class S>
void CrossEntropy<S>::curvature_root(ConstMatrixRef<S> F, ConstVectorRef<int> labels, MatrixRef<S> R) const {
  using std::exp;
  using std::sqrt;
  const Index outputs = F.cols();
  detail::require_labels(labels, F.rows(), outputs);
  require<DimensionError>(R.rows() == F.rows() && R.cols() == outputs * outputs, "R is ", R.rows(), " x ", R.cols(),
                          " where ", F.rows(), " x ", outputs * outputs, " is needed");
  for (Index n = 0; n < F.rows(); ++n) {
    S largest = F(n, 0);
    for (Index k = 1; k < outputs; ++k) largest = std::max(largest, F(n, k));
    // The roots q in the first column of R, until they are used.
    S sum(0);
    for (Index k = 0; k < outputs; ++k) {
      const S root = exp((F(n, k) - largest) / S(2));
      R(n, k) = root < sqrt(std::numeric_limits<S>::min()) ? S(0) : root;
      sum += R(n, k) * R(n, k);
    }
    const S norm = sqrt(sum);
    for (Index k = 0; k < outputs; ++k) R(n, k) /= norm;
    for (Index b = outputs - 1; b >= 0; --b) {
      const S q_b = R(n, b);
      for (Index a = 0; a < outputs; ++a) {
        const S q_a = R(n, a);
        R(n, a + b * outputs) = q_a * ((a == b ? S(1) : S(0)) - q_a * q_b);
      }
    }
  }
}

/// The number of samples whose label has the strictly largest output. Throws as `CrossEntropy::curvature_root`.
template <class Derived>
[[nodiscard]] Index count_correct(const Eigen::MatrixBase<Derived>& F, ConstVectorRef<int> labels) {
  detail::require_labels(labels, F.rows(), F.cols());
  Index correct = 0;
  for (Index n = 0; n < F.rows(); ++n) {
    bool is_largest = true;
    for (Index k = 0; k < F.cols(); ++k) is_largest = is_largest && (k == labels[n] || F(n, k) < F(n, labels[n]));
    correct += is_largest ? 1 : 0;
  }
  return correct;
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_CROSS_ENTROPY(prefix, S) prefix template struct CrossEntropy<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CROSS_ENTROPY)
