#pragma once

#include <algorithm>
#include <cmath>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/kernel/tangent.hpp"
#include "richflow/linalg/products.hpp"

/// @file
/// The tangent kernel `K(x, x') = <grad_w f(w, x), grad_w f(w, x')>` of a model at one point, and how far two points
/// are apart in it.

namespace richflow {

namespace detail {

/// Column n of J^T, the gradient of f(w, x_n).
template <Model M>
void sample_gradient(const M& model, ConstVectorRef<typename M::Scalar> w, ConstMatrixRef<typename M::Scalar> X,
                     Index n, VectorRef<typename M::Scalar> out) {
  using Scalar = typename M::Scalar;
  const Matrix<Scalar> sample = X.row(n);
  model.vjp(w, sample, Vector<Scalar>::Ones(1), out);
}

/// Samples whose gradients are kept at once: as many as fit in 32 million numbers, and at least one.
[[nodiscard]] inline Index gradients_at_once(Index parameters, Index samples) {
  constexpr Index budget = Index(1) << 25;
  return std::clamp<Index>(budget / std::max<Index>(parameters, 1), 1, samples);
}

/// Columns `first .. first + count` of J^T.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> gradients(const M& model, ConstVectorRef<typename M::Scalar> w,
                                                   ConstMatrixRef<typename M::Scalar> X, Index first, Index count) {
  Matrix<typename M::Scalar> columns(model.num_parameters(), count);
  for (Index n = 0; n < count; ++n) sample_gradient(model, w, X, first + n, columns.col(n));
  return columns;
}

}  // namespace detail

/// `K = J(w) J(w)^T`, N x N, of the samples X (N x d). A ReluNetwork accumulates it layer by layer without ever holding
/// J; other models that know their tangent space (HasTangent) are asked; for the rest the rows of J are made by `vjp`,
/// in blocks of at most 32 million numbers, at the cost of N products for each pair of blocks. Throws DimensionError
/// unless w has P entries and N > 0, NonFiniteError if w or X is not finite.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> tangent_kernel(const M& model, const Vector<typename M::Scalar>& w,
                                                        const Matrix<typename M::Scalar>& X) {
  using Scalar = typename M::Scalar;
  require_size("w", w.size(), model.num_parameters());
  require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  require_finite("w", w);
  require_finite("X", X);
  const Index samples = X.rows();
  Matrix<Scalar> K(samples, samples);
  if constexpr (detail::HasLeanTangentKernel<M>) {
    model.tangent_kernel(w, X, K);
  } else if constexpr (HasTangent<M>) {
    Tangent<M> tangent(model, X);
    tangent.linearize(w);
    tangent.kernel(K);
  } else {
    const Index block = detail::gradients_at_once(model.num_parameters(), samples);
    for (Index j = 0; j < samples; j += block) {
      const Index columns = std::min(block, samples - j);
      const Matrix<Scalar> right = detail::gradients(model, w, X, j, columns);
      detail::product_of_transposed<Scalar>(right, right, K.block(j, j, columns, columns));
      for (Index i = j + columns; i < samples; i += block) {
        const Index rows = std::min(block, samples - i);
        detail::product_of_transposed<Scalar>(detail::gradients(model, w, X, i, rows), right,
                                              K.block(i, j, rows, columns));
      }
    }
  }
  // The same to the last bit on both sides.
  K.template triangularView<Eigen::StrictlyUpper>() = K.transpose();
  return K;
}

/// `K(X, X2) = J(w, X) J(w, X2)^T`, N x M. Memory beside the result: the tangent space on X and one gradient. Throws as
/// above. Cost: a `vjp` on one sample and a product with J on X for every row of X2.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> tangent_kernel(const M& model, const Vector<typename M::Scalar>& w,
                                                        const Matrix<typename M::Scalar>& X,
                                                        const Matrix<typename M::Scalar>& X2) {
  using Scalar = typename M::Scalar;
  require_size("w", w.size(), model.num_parameters());
  require<DimensionError>(X.cols() == X2.cols(), "X has ", X.cols(), " columns and X2 has ", X2.cols());
  require_finite("w", w);
  require_finite("X", X);
  require_finite("X2", X2);
  Tangent<M> tangent(model, X);
  tangent.linearize(w);
  Matrix<Scalar> K(X.rows(), X2.rows());
  Vector<Scalar> gradient(model.num_parameters());
  for (Index m = 0; m < X2.rows(); ++m) {
    detail::sample_gradient(model, w, X2, m, gradient);
    tangent.jvp(gradient, K.col(m));
  }
  return K;
}

/// `K v = J (J^T v)`, N values, without K: for N too large for N x N memory. `tangent` must have been linearized.
template <Model M>
[[nodiscard]] Vector<typename M::Scalar> tangent_kernel_product(Tangent<M>& tangent,
                                                                const Vector<typename M::Scalar>& v) {
  using Scalar = typename M::Scalar;
  require_size("v", v.size(), tangent.num_samples());
  Vector<Scalar> pulled(tangent.num_parameters());
  Vector<Scalar> out(tangent.num_samples());
  tangent.vjp(v, pulled);
  tangent.jvp(pulled, out);
  return out;
}

/// Kernel distance of two parameter vectors: the cosine distance of their tangent features on X,
/// `1 - <J_a, J_b> / (|J_a| |J_b|)` in the Frobenius inner product (the "grad distance" of Woodworth et al. 2020,
/// Figure 6 b). 0 in the kernel regime; never negative. Throws DimensionError unless a and b have P entries and N > 0,
/// NonFiniteError where a, b or X is not finite, ArgumentError where all gradients vanish. Cost: four gradients per
/// sample.
template <Model M>
[[nodiscard]] typename M::Scalar kernel_distance(const M& model, const Vector<typename M::Scalar>& a,
                                                 const Vector<typename M::Scalar>& b,
                                                 const Matrix<typename M::Scalar>& X) {
  using std::sqrt;
  using Scalar = typename M::Scalar;
  require_size("a", a.size(), model.num_parameters());
  require_size("b", b.size(), model.num_parameters());
  require_finite("a", a);
  require_finite("b", b);
  require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  require_finite("X", X);
  Vector<Scalar> at_a(model.num_parameters());
  Vector<Scalar> at_b(model.num_parameters());
  Scalar squares_a(0);
  Scalar squares_b(0);
  for (Index n = 0; n < X.rows(); ++n) {
    detail::sample_gradient(model, a, X, n, at_a);
    detail::sample_gradient(model, b, X, n, at_b);
    squares_a += at_a.squaredNorm();
    squares_b += at_b.squaredNorm();
  }
  require(squares_a > Scalar(0) && squares_b > Scalar(0),
          "kernel_distance: all gradients on X vanish (every unit dead?) at ", squares_a > Scalar(0) ? "b" : "a");
  // Half the squared distance of the unit vectors keeps the accuracy of a small angle, where 1 - cosine would cancel.
  const Scalar scale_a = Scalar(1) / sqrt(squares_a);
  const Scalar scale_b = Scalar(1) / sqrt(squares_b);
  Scalar distance(0);
  for (Index n = 0; n < X.rows(); ++n) {
    detail::sample_gradient(model, a, X, n, at_a);
    detail::sample_gradient(model, b, X, n, at_b);
    distance += (scale_a * at_a - scale_b * at_b).squaredNorm();
  }
  return distance / Scalar(2);
}

/// Kernel alignment of two kernels on the same samples, `<K_a, K_b> / (|K_a| |K_b|)` (Frobenius; Cristianini et al.
/// 2002): 1 where one is a multiple of the other. Throws DimensionError for different shapes, ArgumentError for a zero
/// kernel.
template <class Scalar>
[[nodiscard]] Scalar kernel_alignment(const Matrix<Scalar>& a, const Matrix<Scalar>& b) {
  require<DimensionError>(a.rows() == b.rows() && a.cols() == b.cols() && a.size() > 0, "the kernels are ", a.rows(),
                          " x ", a.cols(), " and ", b.rows(), " x ", b.cols());
  require_finite("a", a);
  require_finite("b", b);
  const Scalar norm_a = a.norm();
  const Scalar norm_b = b.norm();
  require(norm_a > Scalar(0) && norm_b > Scalar(0), "kernel_alignment: a kernel is zero");
  return (a / norm_a).cwiseProduct(b / norm_b).sum();
}

}  // namespace richflow
