#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/types.hpp"
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

  /// Moves to sample n of X at w, both of which must stay.
  void move_to(const Vector<S>& w, const Matrix<S>& X, Index n) {
    sample_ = X.row(n);
    at_.forward(w, sample_, outputs_);
  }
  /// `out` = the gradient of output k there.
  void gradient(Index k, VectorRef<S> out) {
    seed_(0, k) = S(1);
    at_.vjp(seed_, out);
    seed_(0, k) = S(0);
  }

 private:
  Evaluation<S> at_;
  Matrix<S> sample_ = {};
  Matrix<S> outputs_ = {};
  Matrix<S> seed_ = {};
};

/// J^T, P x NK.
template <class S>
[[nodiscard]] Matrix<S> transposed_jacobian(SampleGradients<S> gradients, const Vector<S>& w, const Matrix<S>& X) {
  Matrix<S> columns(gradients.num_parameters(), X.rows() * gradients.num_outputs());
  for (Index n = 0; n < X.rows(); ++n) {
    gradients.move_to(w, X, n);
    for (Index k = 0; k < gradients.num_outputs(); ++k) gradients.gradient(k, columns.col(n + k * X.rows()));
  }
  return columns;
}

template <class S>
void check_kernel_input(const Vector<S>& w, Index parameters, const Matrix<S>& X) {
  require_size("w", w.size(), parameters);
  require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  require_finite("w", w);
  require_finite("X", X);
}

/// See `tangent_kernel`.
template <class S>
[[nodiscard]] Matrix<S> tangent_kernel_of(Evaluation<S> at, const Vector<S>& w, const Matrix<S>& X, KernelForm form) {
  check_kernel_input(w, at.num_parameters(), X);
  const Index size = form == KernelForm::trace ? X.rows() : X.rows() * at.num_outputs();
  Matrix<S> outputs(X.rows(), at.num_outputs());
  at.forward(w, X, outputs);
  Matrix<S> K(size, size);
  at.kernel(K, form);
  return K;
}

/// See `tangent_kernel`.
template <class S>
[[nodiscard]] Matrix<S> tangent_kernel_between(Evaluation<S> at, SampleGradients<S> gradients, const Vector<S>& w,
                                               const Matrix<S>& X, const Matrix<S>& X2) {
  require_size("w", w.size(), at.num_parameters());
  require<DimensionError>(X.cols() == X2.cols(), "X has ", X.cols(), " columns and X2 has ", X2.cols());
  require_finite("w", w);
  require_finite("X", X);
  require_finite("X2", X2);
  const Index outputs = at.num_outputs();
  Matrix<S> column(X.rows(), outputs);
  at.forward(w, X, column);
  at.linearize();
  Matrix<S> K(X.rows() * outputs, X2.rows() * outputs);
  Vector<S> gradient(at.num_parameters());
  for (Index m = 0; m < X2.rows(); ++m) {
    gradients.move_to(w, X2, m);
    for (Index k = 0; k < outputs; ++k) {
      gradients.gradient(k, gradient);
      at.jvp(gradient, Eigen::Map<Matrix<S>>(&K(0, m + k * X2.rows()), X.rows(), outputs));
    }
  }
  return K;
}

}  // namespace detail

/// `K = J(w) J(w)^T`, NK x NK, or its trace over the outputs, N x N (KernelForm), of the samples X (N x d). A
/// FullyConnected network accumulates it layer by layer without ever holding J; a model without an evaluation of its
/// own makes the rows of J by `vjp`, in blocks of at most 32 million numbers, at the cost of NK products for each pair
/// of blocks. Throws DimensionError unless w has P entries and N > 0, NonFiniteError if w or X is not finite.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> tangent_kernel(const M& model, const Vector<typename M::Scalar>& w,
                                                        const Matrix<typename M::Scalar>& X,
                                                        KernelForm form = KernelForm::full) {
  require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  return detail::tangent_kernel_of(make_evaluation(model, X.rows()), w, X, form);
}

/// `K(X, X2) = J(w, X) J(w, X2)^T`, NK x MK. Memory beside the result: the tangent space on X and one gradient. Throws
/// as above. Cost: a `vjp` on one sample and a product with J on X for every output of every row of X2.
template <Model M>
[[nodiscard]] Matrix<typename M::Scalar> tangent_kernel(const M& model, const Vector<typename M::Scalar>& w,
                                                        const Matrix<typename M::Scalar>& X,
                                                        const Matrix<typename M::Scalar>& X2) {
  require<DimensionError>(X.rows() > 0, "X has N = 0 rows (samples)");
  return detail::tangent_kernel_between(make_evaluation(model, X.rows()),
                                        detail::SampleGradients<typename M::Scalar>(make_evaluation(model, 1)), w, X,
                                        X2);
}

/// `K v = J (J^T v)`, NK values, without K: for N too large for its memory. `at` is where it was moved to; `linearize`
/// it first if there are many products.
template <class S>
[[nodiscard]] Vector<S> tangent_kernel_product(Evaluation<S>& at, const Vector<S>& v) {
  require_size("v", v.size(), at.num_samples() * at.num_outputs());
  Vector<S> pulled(at.num_parameters());
  Vector<S> out(v.size());
  at.vjp(Eigen::Map<const Matrix<S>>(v.data(), at.num_samples(), at.num_outputs()), pulled);
  at.jvp(pulled, Eigen::Map<Matrix<S>>(out.data(), at.num_samples(), at.num_outputs()));
  return out;
}

/// How a KernelDistance is computed.
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
  KernelDistanceFrom(Evaluation<S> all, SampleGradients<S> gradients, Vector<S> reference, Matrix<S> X,
                     const KernelDistanceOptions& options);

  [[nodiscard]] S operator()(const Vector<S>& w);

 private:
  [[nodiscard]] bool is_projected() const { return seeds_.cols() > 0; }
  /// Columns that `at` gives, one by one: gradients, or projections of them.
  template <class Visit>
  void for_columns(const Vector<S>& w, const Visit& visit);

  Evaluation<S> all_;
  SampleGradients<S> gradients_;
  Vector<S> reference_;
  Matrix<S> X_;
  Matrix<S> seeds_ = {};    // NK x m, +-1
  Matrix<S> outputs_ = {};  // N x K
  Matrix<S> kept_ = {};     // columns at the reference, where there is memory for all of them
  Vector<S> column_ = {};
  Vector<S> other_ = {};
  S squares_ = S(0);  // of the columns at the reference
};

}  // namespace detail

/// The distance of parameters from a reference point in the tangent kernel: the cosine distance of the Jacobians on X,
/// `1 - <J_a, J_b> / (|J_a| |J_b|)` in the Frobenius inner product (the "grad distance" of Woodworth et al. 2020,
/// Figure 6 b), over all samples and outputs. 0 in the kernel regime; never negative.
///
///     KernelDistance distance(net, w0, X);
///     distance(w);
///
/// The Jacobian at the reference point is kept where it has at most 32 million numbers. For large P and N choose random
/// projections: `<J_a, J_b>` is the mean of `<J_a^T s, J_b^T s>` over random signs s. Cost of a distance: a forward and
/// K backward passes for each sample, or one forward and m backward passes over all samples.
template <Model M>
class KernelDistance {
 public:
  using Scalar = typename M::Scalar;

  /// Distances from `reference` on X. Throws DimensionError unless the reference has P entries and N > 0,
  /// NonFiniteError where it or X is not finite, ArgumentError where all gradients vanish, or for a negative number of
  /// projections.
  KernelDistance(const M& model, const Vector<Scalar>& reference, const Matrix<Scalar>& X,
                 const KernelDistanceOptions& options = {})
      : engine_(make_evaluation(model, options.projections > 0 ? std::max<Index>(X.rows(), 1) : 1),
                detail::SampleGradients<Scalar>(make_evaluation(model, 1)), reference, X, options) {}

  /// The distance of w. Throws DimensionError unless it has P entries, NonFiniteError where it is not finite,
  /// ArgumentError where all gradients vanish.
  [[nodiscard]] Scalar operator()(const Vector<Scalar>& w) { return engine_(w); }

 private:
  detail::KernelDistanceFrom<Scalar> engine_;
};

/// The kernel distance of two parameter vectors, see KernelDistance; exact.
template <Model M>
[[nodiscard]] typename M::Scalar kernel_distance(const M& model, const Vector<typename M::Scalar>& a,
                                                 const Vector<typename M::Scalar>& b,
                                                 const Matrix<typename M::Scalar>& X) {
  return KernelDistance<M>(model, a, X)(b);
}

/// Kernel alignment of two kernels on the same samples, `<K_a, K_b> / (|K_a| |K_b|)` (Frobenius; Cristianini et al.
/// 2002): 1 where one is a multiple of the other. Throws DimensionError for different shapes, ArgumentError for a zero
/// kernel.
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
KernelDistanceFrom<S>::KernelDistanceFrom(Evaluation<S> all, SampleGradients<S> gradients, Vector<S> reference,
                                          Matrix<S> X, const KernelDistanceOptions& options)
    : all_(std::move(all)), gradients_(std::move(gradients)), reference_(std::move(reference)), X_(std::move(X)) {
  require(options.projections >= 0, "KernelDistance: projections must not be negative, got ", options.projections);
  check_kernel_input(reference_, all_.num_parameters(), X_);
  column_.setZero(reference_.size());
  other_.setZero(reference_.size());
  const Index rows = X_.rows() * all_.num_outputs();
  if (options.projections > 0) {
    outputs_.setZero(X_.rows(), all_.num_outputs());
    seeds_.resize(rows, options.projections);
    RandomStream random(options.seed);
    for (Index i = 0; i < seeds_.size(); ++i) seeds_.data()[i] = random.uniform(-1.0, 1.0) < 0.0 ? S(-1) : S(1);
  }
  constexpr Index budget = Index(1) << 25;
  const Index columns = is_projected() ? options.projections : rows;
  if (reference_.size() <= budget / columns) {
    Matrix<S> kept(reference_.size(), columns);
    for_columns(reference_, [&](Index c) { kept.col(c) = column_; });
    kept_ = std::move(kept);
    squares_ = kept_.squaredNorm();
  } else {
    for_columns(reference_, [&](Index) { squares_ += inner_product(column_, column_); });
  }
  require(squares_ > S(0), "kernel_distance: all gradients on X vanish (every unit dead?) at the reference point");
}

template <class S>
template <class Visit>
void KernelDistanceFrom<S>::for_columns(const Vector<S>& w, const Visit& visit) {
  const Index samples = X_.rows();
  const Index outputs = all_.num_outputs();
  if (is_projected()) {
    all_.forward(w, X_, outputs_);
    for (Index c = 0; c < seeds_.cols(); ++c) {
      all_.vjp(Eigen::Map<const Matrix<S>>(&seeds_(0, c), samples, outputs), column_);
      visit(c);
    }
    return;
  }
  for (Index n = 0; n < samples; ++n) {
    gradients_.move_to(w, X_, n);
    for (Index k = 0; k < outputs; ++k) {
      gradients_.gradient(k, column_);
      visit(n + k * samples);
    }
  }
}

template <class S>
S KernelDistanceFrom<S>::operator()(const Vector<S>& w) {
  using std::sqrt;
  require_size("w", w.size(), reference_.size());
  require_finite("w", w);
  S squares(0);
  for_columns(w, [&](Index) { squares += inner_product(column_, column_); });
  require(squares > S(0), "kernel_distance: all gradients on X vanish (every unit dead?) at w");
  // Half the squared distance of the unit vectors keeps the accuracy of a small angle, where 1 - cosine would cancel.
  const S scale = S(1) / sqrt(squares);
  const S reference_scale = S(1) / sqrt(squares_);
  S distance(0);
  const auto add = [&](const S* reference) {
    for (Index i = 0; i < column_.size(); ++i) {
      const S difference = reference_scale * reference[i] - scale * column_[i];
      distance += difference * difference;
    }
  };
  if (kept_.size() > 0) {
    for_columns(w, [&](Index c) { add(&kept_(0, c)); });
  } else {
    const Index samples = X_.rows();
    SampleGradients<S> at_reference = gradients_;
    Evaluation<S> all_at_reference = all_;
    if (is_projected()) all_at_reference.forward(reference_, X_, outputs_);
    for_columns(w, [&](Index c) {
      if (is_projected()) {
        all_at_reference.vjp(Eigen::Map<const Matrix<S>>(&seeds_(0, c), samples, all_.num_outputs()), other_);
      } else {
        if (c < samples) at_reference.move_to(reference_, X_, c);
        at_reference.gradient(c / samples, other_);
      }
      add(other_.data());
    });
  }
  return distance / S(2);
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_TANGENT_KERNEL(prefix, S)                                                               \
  prefix template class detail::SampleGradients<S>;                                                                  \
  prefix template Matrix<S> detail::transposed_jacobian<S>(detail::SampleGradients<S>, const Vector<S>&,             \
                                                           const Matrix<S>&);                                        \
  prefix template Matrix<S> detail::tangent_kernel_of<S>(Evaluation<S>, const Vector<S>&, const Matrix<S>&,          \
                                                         KernelForm);                                                \
  prefix template Matrix<S> detail::tangent_kernel_between<S>(Evaluation<S>, detail::SampleGradients<S>,             \
                                                              const Vector<S>&, const Matrix<S>&, const Matrix<S>&); \
  prefix template class detail::KernelDistanceFrom<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_TANGENT_KERNEL)
