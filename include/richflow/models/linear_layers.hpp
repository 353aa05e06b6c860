#pragma once

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/spectral.hpp"
#include "richflow/models/initialization.hpp"

/// @file
/// Linear networks by their layers: `M = W_L ... W_1`, d_out x d_in, with `W_l` n_l x n_{l-1}, n_0 = d_in, n_L = d_out.
/// The layers are a `std::vector` of L matrices, W_1 first. As one vector w (`pack_layers`) each layer is stored row
/// after row: these are the parameters of the DeepLinearNetwork without biases on n_0 inputs with n_L outputs, whose
/// `weights(w, l)` are `W_l^T`, and of the DeepFactorization of the same widths.

namespace richflow {

namespace detail {

/// Throws DimensionError unless there are at least two widths and all are positive.
inline void require_widths(const std::vector<Index>& widths) {
  require<DimensionError>(widths.size() >= 2, "a linear network of L layers has L + 1 widths, got ",
                          static_cast<Index>(widths.size()));
  for (std::size_t l = 0; l < widths.size(); ++l)
    require<DimensionError>(widths[l] > 0, "widths[", static_cast<Index>(l), "] must be positive, got ", widths[l]);
}

/// Throws DimensionError unless there is a layer, none is empty, and each takes what the one before gives.
template <class S>
void require_layers(const std::vector<Matrix<S>>& layers);

}  // namespace detail

/// The product of the layers, `W_L ... W_1`. Throws DimensionError where they do not fit.
template <class S>
[[nodiscard]] Matrix<S> layers_product(const std::vector<Matrix<S>>& layers);

/// What every gradient flow of a linear network conserves, whatever the data and the loss: the L - 1 matrices
/// `W_{l+1}^T W_{l+1} - W_l W_l^T`, n_l x n_l, l = 1 ... L - 1. All are zero where the layers are balanced. Throws
/// DimensionError where the layers do not fit.
template <class S>
[[nodiscard]] std::vector<Matrix<S>> conserved_matrices(const std::vector<Matrix<S>>& layers);

/// The layers as one vector of parameters, each row after row. Throws DimensionError where they do not fit.
template <class S>
[[nodiscard]] Vector<S> pack_layers(const std::vector<Matrix<S>>& layers);

/// The layers of parameters w, of the widths n_0, ..., n_L. Throws DimensionError unless there are two or more positive
/// widths, and as many entries as they ask for.
template <class S>
[[nodiscard]] std::vector<Matrix<S>> unpack_layers(const std::vector<Index>& widths, const Vector<S>& w);

/// Balanced layers, `W_{l+1}^T W_{l+1} = W_l W_l^T` up to rounding, with product `product` (d_out x d_in) through
/// hidden layers of the given widths, one for each of `W_1 ... W_{L-1}`: with the singular value decomposition
/// `U diag(s) V^T` of the product `W_l = U_l diag(s^{1/L}) U_{l-1}^T`, U_0 = V, U_L = U, and random orthonormal columns
/// U_l in the hidden layers. Throws DimensionError for an empty product, NonFiniteError unless it is finite, and
/// ArgumentError where a hidden layer is too narrow for its rank. Cost: a singular value decomposition, and O(n_l r^2)
/// for each layer.
template <class S>
[[nodiscard]] std::vector<Matrix<S>> balanced_layers(RandomStream& random, const Matrix<S>& product,
                                                     const std::vector<Index>& hidden_widths);

/// A random balanced start of the linear network of widths n_0, ..., n_L: every layer has the r = min n_l singular
/// values `alpha g_i^{1/L}`, g_i the r largest ones of a d_out x d_in matrix of independent normals of variance
/// 1 / max(d_out, d_in); the product is alpha^L times what is left of that. Throws DimensionError unless there are two
/// or more positive widths, ArgumentError where alpha is outside the range of S.
template <class S>
[[nodiscard]] std::vector<Matrix<S>> balanced_start(RandomStream& random, const std::vector<Index>& widths,
                                                    Scale<S> scale);

/// A random lambda-balanced start of a linear network of two layers, `W_2^T W_2 - W_1 W_1^T = lambda I` up to rounding:
/// large |lambda| is the lazy regime, a small lambda and alpha the rich one. The thin layer (W_1 for lambda >= 0, W_2
/// below) is a matrix of independent normals of variance alpha^2 / max(its rows, its columns); the other follows, in
/// random directions. Throws DimensionError unless d_in, h and d_out are positive, ArgumentError unless h <= d_out for
/// lambda > 0 and h <= d_in for lambda < 0 (no others are lambda-balanced), or where alpha or lambda is outside the
/// range of S. At lambda = 0 it is the `balanced_start` of widths {d_in, h, d_out}.
template <class S>
[[nodiscard]] std::vector<Matrix<S>> lambda_balanced_start(RandomStream& random, Index d_in, Index h, Index d_out,
                                                           S lambda, Scale<S> scale);

/// How many directions a matrix M has: the exponential of the entropy of its singular values over their sum (Roy and
/// Vetterli 2007; Arora et al. 2019), between 1 and the rank; 0 for M = 0. Unlike the rank it is not moved by small
/// singular values. Throws NonFiniteError unless M is finite.
template <class S>
[[nodiscard]] S effective_rank(const Matrix<S>& M);

namespace detail {

/// `cols` random orthonormal columns of `rows` entries, cols <= rows.
template <class S>
[[nodiscard]] Matrix<S> orthonormal_columns(RandomStream& random, Index rows, Index cols) {
  const Eigen::HouseholderQR<Matrix<S>> qr(normal_matrix<S>(random, rows, cols));
  return qr.householderQ() * Matrix<S>::Identity(rows, cols);
}

/// The layers with singular values `values` between the bases of the hidden layers.
template <class S>
[[nodiscard]] std::vector<Matrix<S>> layers_between(RandomStream& random, const Matrix<S>& U, const Vector<S>& values,
                                                    const Matrix<S>& V, const std::vector<Index>& hidden_widths) {
  std::vector<Matrix<S>> layers;
  Matrix<S> below = V;
  for (const Index width : hidden_widths) {
    Matrix<S> basis = orthonormal_columns<S>(random, width, values.size());
    layers.push_back(basis * values.asDiagonal() * below.transpose());
    below = std::move(basis);
  }
  layers.push_back(U * values.asDiagonal() * below.transpose());
  return layers;
}

template <class S>
void require_layers(const std::vector<Matrix<S>>& layers) {
  require<DimensionError>(!layers.empty(), "a linear network needs at least one layer");
  for (std::size_t l = 0; l < layers.size(); ++l) {
    require<DimensionError>(layers[l].size() > 0, "W_", static_cast<Index>(l + 1), " is empty: ", layers[l].rows(),
                            " x ", layers[l].cols());
    require<DimensionError>(l == 0 || layers[l].cols() == layers[l - 1].rows(), "W_", static_cast<Index>(l + 1),
                            " has ", layers[l].cols(), " columns where W_", static_cast<Index>(l), " has ",
                            l == 0 ? Index(0) : layers[l - 1].rows(), " rows");
  }
}

}  // namespace detail

template <class S>
Matrix<S> layers_product(const std::vector<Matrix<S>>& layers) {
  detail::require_layers(layers);
  Matrix<S> M = layers.front();
  for (std::size_t l = 1; l < layers.size(); ++l) M = layers[l] * M;
  return M;
}

template <class S>
std::vector<Matrix<S>> conserved_matrices(const std::vector<Matrix<S>>& layers) {
  detail::require_layers(layers);
  std::vector<Matrix<S>> matrices;
  for (std::size_t l = 0; l + 1 < layers.size(); ++l)
    matrices.push_back(layers[l + 1].transpose() * layers[l + 1] - layers[l] * layers[l].transpose());
  return matrices;
}

template <class S>
Vector<S> pack_layers(const std::vector<Matrix<S>>& layers) {
  detail::require_layers(layers);
  Index size = 0;
  for (const Matrix<S>& layer : layers) size += layer.size();
  Vector<S> w(size);
  Index first = 0;
  for (const Matrix<S>& layer : layers) {
    Eigen::Map<Matrix<S>>(w.data() + first, layer.cols(), layer.rows()) = layer.transpose();
    first += layer.size();
  }
  return w;
}

template <class S>
std::vector<Matrix<S>> unpack_layers(const std::vector<Index>& widths, const Vector<S>& w) {
  detail::require_widths(widths);
  Index size = 0;
  for (std::size_t l = 0; l + 1 < widths.size(); ++l) size += widths[l] * widths[l + 1];
  require_size("w", w.size(), size);
  std::vector<Matrix<S>> layers;
  Index first = 0;
  for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
    layers.push_back(Eigen::Map<const Matrix<S>>(w.data() + first, widths[l], widths[l + 1]).transpose());
    first += widths[l] * widths[l + 1];
  }
  return layers;
}

template <class S>
std::vector<Matrix<S>> balanced_layers(RandomStream& random, const Matrix<S>& product,
                                       const std::vector<Index>& hidden_widths) {
  using std::pow;
  require<DimensionError>(product.size() > 0, "the product of the layers is ", product.rows(), " x ", product.cols());
  require_finite("the product of the layers", product);
  detail::Svd<S> svd;
  detail::compute_svd(product, Eigen::ComputeThinU | Eigen::ComputeThinV, svd);
  Index rank = std::max<Index>(svd.rank(), 1);
  for (std::size_t l = 0; l < hidden_widths.size(); ++l)
    require(hidden_widths[l] >= rank, "hidden_widths[", static_cast<Index>(l), "] = ", hidden_widths[l],
            " is below the rank ", rank, " of the product");
  Vector<S> values = svd.singularValues().head(rank);
  const S root = S(1) / static_cast<S>(hidden_widths.size() + 1);
  for (Index i = 0; i < rank; ++i) values[i] = pow(values[i], root);
  return detail::layers_between<S>(random, svd.matrixU().leftCols(rank), values, svd.matrixV().leftCols(rank),
                                   hidden_widths);
}

template <class S>
std::vector<Matrix<S>> balanced_start(RandomStream& random, const std::vector<Index>& widths, Scale<S> scale) {
  using std::pow;
  using std::sqrt;
  detail::require_widths(widths);
  const S alpha = detail::representable_alpha(scale);
  const Index rows = widths.back();
  const Index cols = widths.front();
  detail::Svd<S> svd;
  detail::compute_svd(Matrix<S>(normal_matrix<S>(random, rows, cols) / sqrt(static_cast<S>(std::max(rows, cols)))),
                      Eigen::ComputeThinU | Eigen::ComputeThinV, svd);
  const Index rank = *std::min_element(widths.begin(), widths.end());
  Vector<S> values = svd.singularValues().head(rank);
  const S root = S(1) / static_cast<S>(widths.size() - 1);
  for (Index i = 0; i < rank; ++i) values[i] = alpha * pow(values[i], root);
  return detail::layers_between<S>(random, svd.matrixU().leftCols(rank), values, svd.matrixV().leftCols(rank),
                                   std::vector<Index>(widths.begin() + 1, widths.end() - 1));
}

template <class S>
std::vector<Matrix<S>> lambda_balanced_start(RandomStream& random, Index d_in, Index h, Index d_out, S lambda,
                                             Scale<S> scale) {
  using std::abs;
  using std::hypot;
  using std::isfinite;
  using std::sqrt;
  require(isfinite(lambda), "lambda must be finite, got ", lambda);
  if (lambda == S(0)) return balanced_start<S>(random, {d_in, h, d_out}, scale);
  detail::require_widths({d_in, h, d_out});
  const S alpha = detail::representable_alpha(scale);
  const bool is_second_large = lambda > S(0);
  const Index large = is_second_large ? d_out : d_in;
  const Index thin = is_second_large ? d_in : d_out;
  require(h <= large, "there is no lambda-balanced start with lambda = ", lambda, ": h = ", h, " is more than ",
          is_second_large ? "d_out" : "d_in", " = ", large);
  // The thin layer is h x thin, the other one large x h.
  const Matrix<S> first = alpha / sqrt(static_cast<S>(std::max(h, thin))) * normal_matrix<S>(random, h, thin);
  detail::Svd<S> svd;
  detail::compute_svd(first, Eigen::ComputeFullU, svd);
  Vector<S> values = Vector<S>::Zero(h);
  values.head(svd.singularValues().size()) = svd.singularValues();
  for (Index i = 0; i < h; ++i) values[i] = hypot(values[i], sqrt(abs(lambda)));
  const Matrix<S> second =
      detail::orthonormal_columns<S>(random, large, h) * values.asDiagonal() * svd.matrixU().transpose();
  if (is_second_large) return {first, second};
  return {Matrix<S>(second.transpose()), Matrix<S>(first.transpose())};
}

template <class S>
S effective_rank(const Matrix<S>& M) {
  using std::exp;
  using std::log;
  require_finite("M", M);
  if (M.size() == 0) return S(0);
  const Vector<S> values = detail::svd_values(M);
  const S sum = values.sum();
  if (!(sum > S(0))) return S(0);
  S entropy(0);
  for (Index i = 0; i < values.size(); ++i) {
    const S part = values[i] / sum;
    if (part > S(0)) entropy -= part * log(part);
  }
  return exp(entropy);
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_LINEAR_LAYERS(prefix, S)                                                               \
  prefix template void detail::require_layers<S>(const std::vector<Matrix<S>>&);                                    \
  prefix template Matrix<S> layers_product<S>(const std::vector<Matrix<S>>&);                                       \
  prefix template std::vector<Matrix<S>> conserved_matrices<S>(const std::vector<Matrix<S>>&);                      \
  prefix template Vector<S> pack_layers<S>(const std::vector<Matrix<S>>&);                                          \
  prefix template std::vector<Matrix<S>> unpack_layers<S>(const std::vector<Index>&, const Vector<S>&);             \
  prefix template std::vector<Matrix<S>> balanced_layers<S>(RandomStream&, const Matrix<S>&,                        \
                                                            const std::vector<Index>&);                             \
  prefix template std::vector<Matrix<S>> balanced_start<S>(RandomStream&, const std::vector<Index>&, Scale<S>);     \
  prefix template std::vector<Matrix<S>> lambda_balanced_start<S>(RandomStream&, Index, Index, Index, S, Scale<S>); \
  prefix template S effective_rank<S>(const Matrix<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_LINEAR_LAYERS)
