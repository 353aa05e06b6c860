#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

/// @file
/// The tangent kernel `K(x, x') = <grad_w f(w, x), grad_w f(w, x')>` of a model at one point, and how far two points
/// are apart in it. With K outputs the rows are those of all outputs: n + k N for output k of sample n.

namespace richflow {

namespace detail {

/// Gradients of single outputs, `grad f_k(w, x_n)`, in the memory of one sample.
template <class S>
class SampleGradients {
 public:
  /// `at_one` is an evaluation for one sample.
  explicit SampleGradients(Evaluation<S> at_one) : at_(std::move(at_one)) {
    outputs_.setZero(1, at_.num_outputs());
    seed_.setZero(1, at_.num_outputs());
  }

  [[nodiscard]] Index num_outputs() const { return at_.num_outputs(); }
  [[nodiscard]] Index num_parameters() const { return at_.num_parameters(); }

  /// Moves to sample n of X at w, which must stay.
  void move_to(const Vector<S>& w, Samples<S> X, Index n) {
    sample_.take(X, n, 1);
    at_.forward(w, sample_.view(), outputs_);
  }
  /// `out` = the gradient of output k there.
  void gradient(Index k, VectorRef<S> out) {
    seed_(0, k) = S(1);
    at_.vjp(seed_, out);
    seed_(0, k) = S(0);
  }

 private:
  Evaluation<S> at_;
  StoredSamples<S> sample_ = {};
  Matrix<S> outputs_ = {};
  Matrix<S> seed_ = {};
};

/// J^T, P x NK.
template <class S>
[[nodiscard]] Matrix<S> transposed_jacobian(SampleGradients<S> gradients, const Vector<S>& w,
                                            std::type_identity_t<Samples<S>> X) {
  Matrix<S> columns(gradients.num_parameters(), X.size() * gradients.num_outputs());
  for (Index n = 0; n < X.size(); ++n) {
    gradients.move_to(w, X, n);
    for (Index k = 0; k < gradients.num_outputs(); ++k) gradients.gradient(k, columns.col(n + k * X.size()));
  }
  return columns;
}

template <class S>
void check_kernel_input(const Vector<S>& w, Index parameters, std::type_identity_t<Samples<S>> X) {
  require_size("w", w.size(), parameters);
  require<DimensionError>(X.size() > 0, "X has N = 0 rows (samples)");
  require_finite("w", w);
  X.require_finite("X");
}

/// See `tangent_kernel`.
template <class S>
[[nodiscard]] Matrix<S> tangent_kernel_of(Evaluation<S> at, const Vector<S>& w, std::type_identity_t<Samples<S>> X,
                                          KernelForm form) {
  check_kernel_input(w, at.num_parameters(), X);
  const Index size = form == KernelForm::trace ? X.size() : X.size() * at.num_outputs();
  Matrix<S> outputs(X.size(), at.num_outputs());
  at.forward(w, X, outputs);
  Matrix<S> K(size, size);
  at.kernel(K, form);
  return K;
}

/// See `tangent_kernel`.
template <class S>
[[nodiscard]] Matrix<S> tangent_kernel_between(Evaluation<S> at, SampleGradients<S> gradients, const Vector<S>& w,
                                               std::type_identity_t<Samples<S>> X,
                                               std::type_identity_t<Samples<S>> X2) {
  require_size("w", w.size(), at.num_parameters());
  require<DimensionError>(X.num_inputs() == X2.num_inputs(), "X has ", X.num_inputs(), " columns and X2 has ",
                          X2.num_inputs());
  require_finite("w", w);
  X.require_finite("X");
  X2.require_finite("X2");
  const Index outputs = at.num_outputs();
  Matrix<S> column(X.size(), outputs);
  at.forward(w, X, column);
  at.linearize();
  Matrix<S> K(X.size() * outputs, X2.size() * outputs);
  Vector<S> gradient(at.num_parameters());
  for (Index m = 0; m < X2.size(); ++m) {
    gradients.move_to(w, X2, m);
    for (Index k = 0; k < outputs; ++k) {
      gradients.gradient(k, gradient);
      at.jvp(gradient, Eigen::Map<Matrix<S>>(&K(0, m + k * X2.size()), X.size(), outputs));
    }
  }
  return K;
}

}  // namespace detail

/// `K = J(w) J(w)^T`, NK x NK, or its trace over the outputs, N x N (KernelForm), of the samples X (N x d;
/// MatrixMeasurements for a model that takes them). A FullyConnected network accumulates it layer by layer without ever
/// holding J; a model without an evaluation of its own makes the rows of J by `vjp`, in blocks of at most 32 million
/// numbers, at the cost of NK products for each pair of blocks. Throws DimensionError unless w has P entries and N > 0,
/// NonFiniteError if w or X is not finite.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> tangent_kernel(const M& model, const Vector<typename M::Scalar>& w,
                                                        const SamplesOf<M>& X, KernelForm form = KernelForm::full) {
  require<DimensionError>(Samples<typename M::Scalar>(X).size() > 0, "X has N = 0 rows (samples)");
  return detail::tangent_kernel_of(make_evaluation(model, Samples<typename M::Scalar>(X).size()), w, X, form);
}

/// `K(X, X2) = J(w, X) J(w, X2)^T`, NK x MK. Memory beside the result: the tangent space on X and one gradient. Throws
/// as above, and DimensionError where X and X2 differ in d. Cost: a `vjp` on one sample and a product with J on X for
/// every output of every row of X2.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> tangent_kernel(const M& model, const Vector<typename M::Scalar>& w,
                                                        const SamplesOf<M>& X, const SamplesOf<M>& X2) {
  require<DimensionError>(Samples<typename M::Scalar>(X).size() > 0, "X has N = 0 rows (samples)");
  return detail::tangent_kernel_between(make_evaluation(model, Samples<typename M::Scalar>(X).size()),
                                        detail::SampleGradients<typename M::Scalar>(make_evaluation(model, 1)), w, X,
                                        X2);
}

/// `K v = J (J^T v)`, NK values, without K: for N too large for its memory. J is that of the point where `at` is;
/// `linearize` it first if there are many products. Throws DimensionError unless v has NK entries.
template <class S>
[[nodiscard]] Vector<S> tangent_kernel_product(Evaluation<S>& at, const Vector<S>& v) {
  require_size("v", v.size(), at.num_samples() * at.num_outputs());
  Vector<S> pulled(at.num_parameters());
  Vector<S> out(v.size());
  at.vjp(Eigen::Map<const Matrix<S>>(v.data(), at.num_samples(), at.num_outputs()), pulled);
  at.jvp(pulled, Eigen::Map<Matrix<S>>(out.data(), at.num_samples(), at.num_outputs()));
  return out;
}

/// Options of a KernelDistance.
struct KernelDistanceOptions {
  /// 0: exactly, by the gradient of every output of every sample. m > 0: by m random projections, each a backward pass
  /// over all samples at once and a vector of P numbers; the relative error of a distance is about sqrt(2 / m).
  Index projections = 0;
  std::uint64_t seed = 1;  ///< of the projections
};

namespace detail {

/// The engine of KernelDistance.
template <class S>
class KernelDistanceFrom {
 public:
  /// `at` is for one sample, or, for projections, for those that are evaluated at once.
  KernelDistanceFrom(Evaluation<S> at, Vector<S> reference, Samples<S> X, const KernelDistanceOptions& options);

  [[nodiscard]] S operator()(const Vector<S>& w);

 private:
  [[nodiscard]] Index num_columns() const {
    return options_.projections > 0 ? options_.projections : X_.view().size() * at_.num_outputs();
  }
  /// Columns `first ... first + out.cols()` of J^T, or of its projections.
  void write_columns(const Vector<S>& w, Index first, Matrix<S>& out);
  void write_gradients(const Vector<S>& w, Index first, Matrix<S>& out);
  void write_projections(const Vector<S>& w, Index first, Matrix<S>& out);

  Evaluation<S> at_;
  Vector<S> reference_;
  StoredSamples<S> X_;
  KernelDistanceOptions options_;
  Index at_once_ = 1;              // columns that are held
  Matrix<S> kept_ = {};            // those at the reference, where there is memory for all
  StoredSamples<S> samples_ = {};  // that are evaluated at once
  Matrix<S> outputs_ = {};
  Matrix<S> seed_ = {};
};

}  // namespace detail

/// The distance of parameters from a reference point in the tangent kernel: the cosine distance of the Jacobians on X,
/// `1 - <J_a, J_b> / (|J_a| |J_b|)` in the Frobenius inner product (the "grad distance" of Woodworth et al. 2020,
/// Figure 6 b; docs/theory.md, section 1.5), over all samples and outputs. 0 in the kernel regime; never negative.
///
///     KernelDistance distance(net, w0, X);
///     distance(w);
///
/// The Jacobian at the reference point is kept where it has at most 32 million numbers, and made again for each
/// distance where it has more. For large P and N choose random projections: `<J_a, J_b>` is the mean of `<J_a^T s,
/// J_b^T s>` over random signs s. Cost of a distance: a forward and K backward passes for each sample, or one forward
/// and m backward passes over all samples, 256 at a time; twice that where the reference is not kept.
template <Model M>
class KernelDistance {
 public:
  using Scalar = typename M::Scalar;

  /// Distances from `reference` on X. Throws DimensionError unless the reference has P entries and N > 0,
  /// NonFiniteError where it or X is not finite, ArgumentError where all gradients vanish, or for a negative number of
  /// projections.
  KernelDistance(const M& model, const Vector<Scalar>& reference, const SamplesOf<M>& X,
                 const KernelDistanceOptions& options = {})
      : engine_(
            make_evaluation(model, options.projections > 0 ? std::clamp<Index>(Samples<Scalar>(X).size(), 1, 256) : 1),
            reference, X, options) {}

  /// The distance of w. Throws DimensionError unless it has P entries, NonFiniteError where it is not finite,
  /// ArgumentError where all gradients vanish.
  [[nodiscard]] Scalar operator()(const Vector<Scalar>& w) { return engine_(w); }

 private:
  detail::KernelDistanceFrom<Scalar> engine_;
};

/// The kernel distance of two parameter vectors, see KernelDistance; exact.
template <Model M>
[[nodiscard]] typename M::Scalar kernel_distance(const M& model, const Vector<typename M::Scalar>& a,
                                                 const Vector<typename M::Scalar>& b, const SamplesOf<M>& X) {
  return KernelDistance<M>(model, a, X)(b);
}

/// Kernel alignment of two kernels on the same samples, `<K_a, K_b> / (|K_a| |K_b|)` (Frobenius; Cristianini et al.
/// 2002): 1 where one is a multiple of the other. Throws DimensionError for different shapes, NonFiniteError for a
/// kernel that is not finite, ArgumentError for a zero one.
template <class S>
[[nodiscard]] S kernel_alignment(const Matrix<S>& a, const Matrix<S>& b) {
  require<DimensionError>(a.rows() == b.rows() && a.cols() == b.cols() && a.size() > 0, "the kernels are ", a.rows(),
                          " x ", a.cols(), " and ", b.rows(), " x ", b.cols());
  require_finite("a", a);
  require_finite("b", b);
  const S norm_a = a.norm();
  const S norm_b = b.norm();
  require(norm_a > S(0) && norm_b > S(0), "kernel_alignment: a kernel is zero");
  return (a / norm_a).cwiseProduct(b / norm_b).sum();
}

/// Alignment of two kernels whose features have mean zero over the samples: that of `H K H`, `H = I - 1 1^T / N`
/// (Cortes et al. 2012). It does not see what a constant added to f adds to the kernel. Throws as `kernel_alignment`,
/// also where a kernel is constant.
template <class S>
[[nodiscard]] S centred_kernel_alignment(const Matrix<S>& a, const Matrix<S>& b) {
  const auto centred = [](const Matrix<S>& K) -> Matrix<S> {
    const Vector<S> by_row = K.rowwise().mean();
    const Vector<S> by_column = K.colwise().mean().transpose();
    Matrix<S> out = K;
    out.colwise() -= by_row;
    out.rowwise() -= by_column.transpose();
    out.array() += by_row.mean();
    // What is left of a constant kernel is rounding.
    const S rounding = S(8) * std::numeric_limits<S>::epsilon() * static_cast<S>(K.rows());
    if (out.norm() <= rounding * K.norm()) out.setZero();
    return out;
  };
  require<DimensionError>(a.rows() == b.rows() && a.cols() == b.cols() && a.size() > 0, "the kernels are ", a.rows(),
                          " x ", a.cols(), " and ", b.rows(), " x ", b.cols());
  return kernel_alignment<S>(centred(a), centred(b));
}

namespace detail {

template <class S>
KernelDistanceFrom<S>::KernelDistanceFrom(Evaluation<S> at, Vector<S> reference, Samples<S> X,
                                          const KernelDistanceOptions& options)
    : at_(std::move(at)), reference_(std::move(reference)), X_(X), options_(options) {
  require(options.projections >= 0, "KernelDistance: projections must not be negative, got ", options.projections);
  check_kernel_input(reference_, at_.num_parameters(), X);
  constexpr Index budget = Index(1) << 25;
  at_once_ = std::clamp<Index>(budget / reference_.size(), 1, num_columns());
  if (at_once_ < num_columns()) return;
  kept_.resize(reference_.size(), num_columns());
  write_columns(reference_, 0, kept_);
  require(kept_.squaredNorm() > S(0),
          "kernel_distance: all gradients on X vanish (every unit dead?) at the reference point");
}

template <class S>
void KernelDistanceFrom<S>::write_columns(const Vector<S>& w, Index first, Matrix<S>& out) {
  if (options_.projections > 0)
    write_projections(w, first, out);
  else
    write_gradients(w, first, out);
}

template <class S>
void KernelDistanceFrom<S>::write_gradients(const Vector<S>& w, Index first, Matrix<S>& out) {
  // Outputs of one sample are neighbours here, so that it is evaluated once.
  const Index outputs = at_.num_outputs();
  outputs_.resize(1, outputs);
  seed_.setZero(1, outputs);
  for (Index c = 0; c < out.cols(); ++c) {
    const Index k = (first + c) % outputs;
    if (k == 0 || c == 0) {
      samples_.take(X_.view(), (first + c) / outputs, 1);
      at_.forward(w, samples_.view(), outputs_);
    }
    seed_(0, k) = S(1);
    at_.vjp(seed_, out.col(c));
    seed_(0, k) = S(0);
  }
}

template <class S>
void KernelDistanceFrom<S>::write_projections(const Vector<S>& w, Index first, Matrix<S>& out) {
  std::vector<RandomStream> signs;
  for (Index c = 0; c < out.cols(); ++c) signs.emplace_back(options_.seed, static_cast<std::uint64_t>(first + c));
  out.setZero();
  const Samples<S> X = X_.view();
  for (Index n = 0; n < X.size(); n += at_.max_batch()) {
    const Index count = std::min(at_.max_batch(), X.size() - n);
    samples_.take(X, n, count);
    outputs_.resize(count, at_.num_outputs());
    seed_.resize(count, at_.num_outputs());
    at_.forward(w, samples_.view(), outputs_);
    for (Index c = 0; c < out.cols(); ++c) {
      RandomStream& random = signs[static_cast<std::size_t>(c)];
      for (Index i = 0; i < seed_.size(); ++i) seed_.data()[i] = random.uniform(-1.0, 1.0) < 0.0 ? S(-1) : S(1);
      at_.add_pullback(seed_, S(1), out.col(c));
    }
  }
}

template <class S>
S KernelDistanceFrom<S>::operator()(const Vector<S>& w) {
  using std::sqrt;
  require_size("w", w.size(), reference_.size());
  require_finite("w", w);
  S squares(0), reference_squares(0), change_squares(0), along(0);
  Matrix<S> columns, of_reference;
  for (Index first = 0; first < num_columns(); first += at_once_) {
    const Index count = std::min(at_once_, num_columns() - first);
    columns.resize(w.size(), count);
    write_columns(w, first, columns);
    if (kept_.size() == 0) {
      of_reference.resize(w.size(), count);
      write_columns(reference_, first, of_reference);
    }
    const Matrix<S>& a = kept_.size() == 0 ? of_reference : kept_;
    for (Index i = 0; i < columns.size(); ++i) {
      const S before = a.data()[i];
      const S change = columns.data()[i] - before;
      squares += columns.data()[i] * columns.data()[i];
      reference_squares += before * before;
      change_squares += change * change;
      along += before * change;
    }
  }
  require(reference_squares > S(0),
          "kernel_distance: all gradients on X vanish (every unit dead?) at the reference point");
  require(squares > S(0), "kernel_distance: all gradients on X vanish (every unit dead?) at w");
  // |a / |a| - b / |b||^2 / 2 by the change b - a, which keeps the accuracy of a small angle, where 1 - cosine would
  // cancel.
  const S size = sqrt(squares);
  const S reference_size = sqrt(reference_squares);
  const S growth = (S(2) * along + change_squares) / (size + reference_size);
  return std::max((change_squares - growth * growth) / (S(2) * size * reference_size), S(0));
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_TANGENT_KERNEL(prefix, S)                                                                \
  prefix template class detail::SampleGradients<S>;                                                                   \
  prefix template Matrix<S> detail::transposed_jacobian<S>(detail::SampleGradients<S>, const Vector<S>&, Samples<S>); \
  prefix template Matrix<S> detail::tangent_kernel_of<S>(Evaluation<S>, const Vector<S>&, Samples<S>, KernelForm);    \
  prefix template Matrix<S> detail::tangent_kernel_between<S>(Evaluation<S>, detail::SampleGradients<S>,              \
                                                              const Vector<S>&, Samples<S>, Samples<S>);              \
  prefix template class detail::KernelDistanceFrom<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TANGENT_KERNEL)
