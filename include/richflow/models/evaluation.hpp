#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/scalar_of.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/samples.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/linalg/products.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// Which entries of the tangent kernel of a model with K outputs: for one output both are the same.
enum class KernelForm {
  full,   ///< NK x NK; row n + k N is output k of sample n, as in the N x K outputs read column by column
  trace,  ///< its trace over the outputs, N x N: `sum_k <grad f_k(x_n), grad f_k(x_m)>`
};

/// The sizes that an evaluation is made for.
struct EvaluationShape {
  Index num_parameters = 0;      ///< P
  Index num_outputs = 1;         ///< K
  Index max_batch = 0;           ///< the most samples of one `forward`
  Index num_inputs = 0;          ///< d; 0 where inputs of any length will do
  bool of_measurements = false;  ///< whether the samples are measurements of a matrix
};

/// The body of an Evaluation: a model's own memory and passes. A model that brings its own derives from this
/// class and returns it from `make_evaluation`; the arguments are checked already, `w` and `X` are those of the last
/// `forward` (`X.matrix()` for a model of rows, `X.measurements()` for one that takes measurements), and `forward`,
/// `add_pullback` and `jvp` are all that is needed. Nothing in them should allocate; what `linearize` or `kernel` need
/// beyond that is allocated by their first call.
template <class S>
class AnyEvaluation {
 public:
  virtual ~AnyEvaluation() = default;

  /// The sizes.
  [[nodiscard]] const EvaluationShape& shape() const { return shape_; }

  /// An independent copy.
  [[nodiscard]] virtual std::unique_ptr<AnyEvaluation> clone() const = 0;

  /// New samples: `forward` on them follows, once or at many w.
  virtual void set_samples(Samples<S> /*X*/) {}

  /// `F = f(w, X)`, N x K.
  virtual void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) = 0;

  /// Many products with J at this point follow: time to make what they share.
  virtual void linearize(ConstVectorRef<S> /*w*/, Samples<S> /*X*/) {}

  /// `target += scale J^T G`; `target` may be the memory of w.
  virtual void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) = 0;

  /// `out = J^T G`.
  virtual void vjp(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, VectorRef<S> out) {
    std::fill_n(out.data(), out.size(), S(0));
    add_pullback(w, X, G, S(1), out);
  }

  /// `dF = J v`, N x K.
  virtual void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) = 0;

  /// `K = J J^T`, the lower triangle at least. By default: a backward pass and a `jvp` for each output of each sample,
  /// in the memory of one gradient.
  virtual void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K);

  /// `add_pullback` into w, then `forward` on X_next.
  virtual void descend_and_forward(VectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, Samples<S> X_next,
                                   MatrixRef<S> F_next) {
    add_pullback(w, X, G, scale, w);
    set_samples(X_next);
    forward(w, X_next, F_next);
  }

  /// The same from w to other memory: `w_new = w + scale J^T G`, then `forward` on X_next there. Returns |w_new|^2
  /// where it was computed on the way, or else a negative number.
  virtual S descend_into(ConstVectorRef<S> w, VectorRef<S> w_new, Samples<S> X, ConstMatrixRef<S> G, S scale,
                         Samples<S> X_next, MatrixRef<S> F_next) {
    std::copy_n(w.data(), w.size(), w_new.data());
    descend_and_forward(w_new, X, G, scale, X_next, F_next);
    return S(-1);
  }

  /// A bound on the factor by which `descend_and_forward` multiplies |w_i| where no |X_ni| is above `largest`; infinity
  /// where none is known.
  [[nodiscard]] virtual S growth_of_descent(ConstMatrixRef<S> /*G*/, S /*scale*/, S /*largest*/) const {
    return std::numeric_limits<S>::infinity();
  }

  /// From here on sums may be added up in another order than that of the model's `predict`, where that is faster.
  virtual void reorder_sums() {}

  /// Whether `descend_and_forward` saves passes over the parameters.
  [[nodiscard]] virtual bool is_descent_fused() const { return false; }

  /// Units of the model (HasUnits); 0 where it has none.
  [[nodiscard]] virtual Index num_units() const { return 0; }
  /// See HasUnits.
  virtual void unit_square_norms(ConstVectorRef<S> /*v*/, VectorRef<S> /*out*/) const {}

 protected:
  explicit AnyEvaluation(const EvaluationShape& shape) : shape_(shape) {
    require<DimensionError>(shape.num_parameters > 0, "the model has num_parameters = ", shape.num_parameters);
    require<DimensionError>(shape.num_outputs > 0, "the model has num_outputs = ", shape.num_outputs);
    require<DimensionError>(shape.max_batch > 0, "max_batch must be positive, got ", shape.max_batch);
  }
  AnyEvaluation(const AnyEvaluation&) = default;
  AnyEvaluation& operator=(const AnyEvaluation&) = default;

 private:
  EvaluationShape shape_;
  Vector<S> gradient_ = {};  // of one output of one sample, in `kernel`
  Matrix<S> seed_ = {};
  Matrix<S> column_ = {};
};

/// A model at one point (w, X): its outputs, and products with its Jacobian J there. `make_evaluation(model,
/// max_batch)` makes one, with memory for at most `max_batch` samples. Flows, tangent kernels, kernel predictors and
/// trainers use it for every model.
///
///     Evaluation<double> at = make_evaluation(net, X.rows());
///     at.forward(w, X, F);                 // F = f(w, X), N x K
///     at.add_pullback(G, -0.1, w_new);     // w_new -= 0.1 J^T G
///     at.kernel(kernel);                   // J J^T
///
/// `forward` moves to (w, X) and refers to both: they must stay where and as they are while the other members are used.
/// Copies are independent. Results do not depend on the threads that share a batch. Throws DimensionError where a shape
/// is wrong or there are more samples than `max_batch`, and ArgumentError before the first `forward`.
template <class S>
class Evaluation {
 public:
  using Scalar = S;

  /// What a model's own `make_evaluation` returns: `Evaluation<S>(std::make_unique<MyEvaluation>(...))`.
  explicit Evaluation(std::unique_ptr<AnyEvaluation<S>> body) : body_(std::move(body)) {
    require(body_ != nullptr, "Evaluation: the pointer is null");
  }
  Evaluation(const Evaluation& other)
      : body_(other.body_->clone()), w_(other.w_), X_(other.X_), is_at_point_(other.is_at_point_) {}
  Evaluation(Evaluation&&) noexcept = default;
  Evaluation& operator=(const Evaluation& other) { return *this = Evaluation(other); }
  Evaluation& operator=(Evaluation&&) noexcept = default;
  ~Evaluation() = default;

  /// P.
  [[nodiscard]] Index num_parameters() const { return body_->shape().num_parameters; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return body_->shape().num_outputs; }
  /// The most samples of one `forward`.
  [[nodiscard]] Index max_batch() const { return body_->shape().max_batch; }
  /// d; 0 where the model takes inputs of any length.
  [[nodiscard]] Index num_inputs() const { return body_->shape().num_inputs; }
  /// Samples of the last `forward`, 0 before.
  [[nodiscard]] Index num_samples() const { return X_.size(); }
  /// Whether the samples are measurements of a matrix, not rows.
  [[nodiscard]] bool takes_measurements() const { return body_->shape().of_measurements; }

  /// `F = f(w, X)`, N x K, X a matrix of rows or MatrixMeasurements, as the model takes them. The model's cost of a
  /// prediction.
  template <class W, class X_>
  void forward(W&& w, X_&& X, MatrixRef<S> F) {
    static_assert(is_stored<W>() && are_stored_samples<X_>(),
                  "richflow: an evaluation refers to w and X until the next forward: give it stored vectors and "
                  "matrices of its number type, column by column, not expressions");
    move_to(w, X, F);
  }

  /// `F = f(w, X)` on the samples of the last call, whose entries must not have changed: models that compare themselves
  /// with a fixed point (Linearized, Unbiased) do not evaluate that again.
  template <class W>
  void forward(W&& w, MatrixRef<S> F) {
    static_assert(is_stored<W>(), "richflow: an evaluation refers to w: give it a stored vector, not an expression");
    move_to(w, F);
  }

  /// Makes what many products with J at this point share. Changes no result beyond rounding.
  void linearize();

  /// `target += scale J^T G`, P values, G is N x K; `target` may be the memory of w, which makes a step of descent one
  /// pass over the parameters: `forward` must follow.
  void add_pullback(ConstMatrixRef<S> G, S scale, VectorRef<S> target);

  /// `out = J^T G`, P values.
  void vjp(ConstMatrixRef<S> G, VectorRef<S> out);

  /// `dF = J v`, N x K.
  void jvp(ConstVectorRef<S> v, MatrixRef<S> dF);

  /// `K = J J^T`, NK x NK or its trace over outputs, N x N (KernelForm), both triangles.
  void kernel(MatrixRef<S> K, KernelForm form = KernelForm::full);

  /// A step of descent and the outputs after it: `add_pullback(G, scale, w)`, then `forward(w, X_next, F_next)`, with
  /// the same results bit for bit, and fewer passes over the parameters where the model can. `w` is that of the last
  /// `forward`; F_next may be the memory of G if both have as many rows.
  template <class X_>
  void descend_and_forward(ConstMatrixRef<S> G, S scale, VectorRef<S> w, X_&& X_next, MatrixRef<S> F_next) {
    static_assert(are_stored_samples<X_>(), "richflow: an evaluation refers to X_next: give it a stored matrix");
    descend_to(G, scale, w, X_next, F_next, true);
  }

  /// The same from w to `w_new`, other memory of P values, to which the evaluation refers from there on: `w_new = w +
  /// scale J^T G`, then `forward(w_new, X_next, F_next)`. Returns |w_new|^2 where it was computed on the way, or else a
  /// negative number.
  template <class X_>
  S descend_into(ConstMatrixRef<S> G, S scale, VectorRef<S> w_new, X_&& X_next, MatrixRef<S> F_next) {
    static_assert(are_stored_samples<X_>(), "richflow: an evaluation refers to X_next: give it a stored matrix");
    return descend_to(G, scale, w_new, X_next, F_next, false);
  }

  /// A bound on the factor by which `descend_and_forward` multiplies |w_i| where no |X_ni| is above `largest`; infinity
  /// where none is known.
  [[nodiscard]] S growth_of_descent(ConstMatrixRef<S> G, S scale, S largest) const {
    return body_->growth_of_descent(G, scale, largest);
  }

  /// From here on sums may be added up in another order than that of the model's `predict`, where that is faster:
  /// results may differ from it by rounding.
  void reorder_sums() { body_->reorder_sums(); }

  /// Whether `descend_and_forward` saves passes over the parameters.
  [[nodiscard]] bool is_descent_fused() const { return body_->is_descent_fused(); }

  /// Units of the model (HasUnits); 0 where it has none.
  [[nodiscard]] Index num_units() const { return body_->num_units(); }
  /// See HasUnits.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const;

 private:
  struct Values {
    const S* data = nullptr;
    Index size = 0;
    [[nodiscard]] Eigen::Map<const Vector<S>> map() const { return {data, size}; }
  };
  /// Of an argument's type: not an expression, nor a vector or matrix that ends with the statement.
  template <class Argument>
  [[nodiscard]] static consteval bool is_stored() {
    using T = std::remove_cvref_t<Argument>;
    if constexpr (!std::is_lvalue_reference_v<Argument> && std::is_base_of_v<Eigen::PlainObjectBase<T>, T>)
      return false;
    return detail::is_in_memory<T, S>();
  }
  template <class Argument>
  [[nodiscard]] static consteval bool are_stored_samples() {
    using T = std::remove_cvref_t<Argument>;
    if constexpr (std::is_same_v<T, MatrixMeasurements<S>>)
      return std::is_lvalue_reference_v<Argument>;
    else
      return std::is_same_v<T, Samples<S>> || is_stored<Argument>();
  }

  void move_to(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F);
  void move_to(ConstVectorRef<S> w, MatrixRef<S> F);
  S descend_to(ConstMatrixRef<S> G, S scale, VectorRef<S> w, Samples<S> X_next, MatrixRef<S> F_next, bool in_place);
  void require_point(const char* member) const;
  void require_parameters(const char* name, Index size) const;
  void require_samples(const char* name, Samples<S> X) const;
  void require_outputs(const char* name, ConstMatrixRef<S> F, Index samples) const;

  std::unique_ptr<AnyEvaluation<S>> body_;
  Values w_ = {};
  Samples<S> X_ = {};
  bool is_at_point_ = false;  // no step was made in the memory of w since
};

template <class S>
void AnyEvaluation<S>::kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) {
  const Index samples = X.size();
  const Index outputs = shape_.num_outputs;
  gradient_.resize(shape_.num_parameters);
  seed_.setZero(samples, outputs);
  column_.resize(samples, outputs);
  for (Index m = 0; m < samples; ++m) {
    if (form == KernelForm::trace) K.col(m).setZero();
    for (Index k = 0; k < outputs; ++k) {
      seed_(m, k) = S(1);
      vjp(w, X, seed_, gradient_);
      seed_(m, k) = S(0);
      jvp(w, X, gradient_, column_);
      if (form == KernelForm::trace)
        K.col(m) += column_.col(k);
      else
        std::copy_n(column_.data(), column_.size(), K.data() + (m + k * samples) * K.outerStride());
    }
  }
}

template <class S>
void Evaluation<S>::move_to(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) {
  require_parameters("w", w.size());
  require_samples("X", X);
  require_outputs("F", F, X.size());
  X_ = {};
  is_at_point_ = false;
  body_->set_samples(X);
  body_->forward(w, X, F);
  w_ = {w.data(), w.size()};
  X_ = X;
  is_at_point_ = true;
}

template <class S>
void Evaluation<S>::move_to(ConstVectorRef<S> w, MatrixRef<S> F) {
  require(X_.size() > 0, "the evaluation has no samples yet: forward(w, X, F) must come before forward(w, F)");
  require_parameters("w", w.size());
  require_outputs("F", F, X_.size());
  is_at_point_ = false;
  body_->forward(w, X_, F);
  w_ = {w.data(), w.size()};
  is_at_point_ = true;
}

template <class S>
void Evaluation<S>::linearize() {
  require_point("linearize");
  body_->linearize(w_.map(), X_);
}

template <class S>
void Evaluation<S>::add_pullback(ConstMatrixRef<S> G, S scale, VectorRef<S> target) {
  require_point("add_pullback");
  require_outputs("G", G, X_.size());
  require_parameters("target", target.size());
  if (target.data() == w_.data) is_at_point_ = false;
  body_->add_pullback(w_.map(), X_, G, scale, target);
}

template <class S>
void Evaluation<S>::vjp(ConstMatrixRef<S> G, VectorRef<S> out) {
  require_point("vjp");
  require_outputs("G", G, X_.size());
  require_parameters("out", out.size());
  body_->vjp(w_.map(), X_, G, out);
}

template <class S>
void Evaluation<S>::jvp(ConstVectorRef<S> v, MatrixRef<S> dF) {
  require_point("jvp");
  require_parameters("v", v.size());
  require_outputs("dF", dF, X_.size());
  body_->jvp(w_.map(), X_, v, dF);
}

template <class S>
void Evaluation<S>::kernel(MatrixRef<S> K, KernelForm form) {
  require_point("kernel");
  const Index size = form == KernelForm::trace ? X_.size() : X_.size() * num_outputs();
  require<DimensionError>(K.rows() == size && K.cols() == size, "K is ", K.rows(), " x ", K.cols(),
                          " where N = ", X_.size(), " samples of ", num_outputs(), " outputs need ", size, " x ", size);
  body_->kernel(w_.map(), X_, form, K);
  // The same to the last bit on both sides; in tiles, for the sake of the cache.
  constexpr Index tile = 32;
  for (Index j = 0; j < size; j += tile)
    for (Index i = 0; i <= j; i += tile)
      for (Index col = j; col < std::min(j + tile, size); ++col)
        for (Index row = i; row < std::min(i + tile, col); ++row) K(row, col) = K(col, row);
}

template <class S>
S Evaluation<S>::descend_to(ConstMatrixRef<S> G, S scale, VectorRef<S> w, Samples<S> X_next, MatrixRef<S> F_next,
                            bool in_place) {
  require_point(in_place ? "descend_and_forward" : "descend_into");
  require_outputs("G", G, X_.size());
  require_parameters("w", w.size());
  require(!in_place || w.data() == w_.data, "descend_and_forward: w must be that of the last forward");
  require(in_place || w.data() != w_.data, "descend_into: w_new must not be the w of the last forward");
  require_samples("X_next", X_next);
  require_outputs("F_next", F_next, X_next.size());
  const Samples<S> X = X_;
  X_ = {};
  is_at_point_ = false;
  S square_norm(-1);
  if (in_place)
    body_->descend_and_forward(w, X, G, scale, X_next, F_next);
  else
    square_norm = body_->descend_into(w_.map(), w, X, G, scale, X_next, F_next);
  w_ = {w.data(), w.size()};
  X_ = X_next;
  is_at_point_ = true;
  return square_norm;
}

template <class S>
void Evaluation<S>::unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const {
  require_parameters("v", v.size());
  require_size("out", out.size(), num_units());
  body_->unit_square_norms(v, out);
}

template <class S>
void Evaluation<S>::require_point(const char* member) const {
  require(is_at_point_, "the evaluation is at no point: forward must come before ", member,
          X_.size() == 0 ? "" : ", for a step was made in the memory of w");
}

template <class S>
void Evaluation<S>::require_parameters(const char* name, Index size) const {
  require_size(name, size, num_parameters());
}

template <class S>
void Evaluation<S>::require_samples(const char* name, Samples<S> X) const {
  const EvaluationShape& shape = body_->shape();
  require(
      X.are_measurements() == shape.of_measurements,
      shape.of_measurements ? "the model takes measurements of a matrix and " : "the model takes rows of a matrix and ",
      name, shape.of_measurements ? " is a matrix of rows" : " holds measurements");
  require<DimensionError>(X.size() > 0, name, " has N = 0 rows (samples)");
  require<DimensionError>(X.size() <= shape.max_batch, name, " has ", X.size(),
                          " rows where the evaluation was made for at most ", shape.max_batch, " samples");
  require<DimensionError>(shape.num_inputs == 0 || X.num_inputs() == shape.num_inputs, name, " has ", X.num_inputs(),
                          " columns where the model takes d = ", shape.num_inputs, " features");
}

template <class S>
void Evaluation<S>::require_outputs(const char* name, ConstMatrixRef<S> F, Index samples) const {
  require<DimensionError>(F.rows() == samples && F.cols() == num_outputs(), name, " is ", F.rows(), " x ", F.cols(),
                          " where N x K = ", samples, " x ", num_outputs(), " is needed");
}

namespace detail {

/// K.
template <Model M>
[[nodiscard]] Index num_outputs(const M& model) {
  if constexpr (HasOutputs<M>)
    return model.num_outputs();
  else
    return 1;
}

/// d, or 0 where the model does not say.
template <Model M>
[[nodiscard]] Index num_inputs(const M& model) {
  if constexpr (HasNumInputs<M>)
    return model.num_inputs();
  else
    return 0;
}

/// The samples as the model takes them.
template <Model M>
[[nodiscard]] SamplesArgument<M> samples_for(Samples<typename M::Scalar> X) {
  if constexpr (takes_measurements<M>)
    return X.measurements();
  else
    return X.matrix();
}

/// The members of a model whose outputs may be a vector (K = 1) or a matrix.
template <Model M>
void predict_of(const M& model, ConstVectorRef<typename M::Scalar> w, Samples<typename M::Scalar> X,
                MatrixRef<typename M::Scalar> F) {
  if constexpr (HasOutputs<M>)
    model.predict(w, samples_for<M>(X), F);
  else
    model.predict(w, samples_for<M>(X), F.col(0));
}
template <Model M>
void vjp_of(const M& model, ConstVectorRef<typename M::Scalar> w, Samples<typename M::Scalar> X,
            ConstMatrixRef<typename M::Scalar> G, VectorRef<typename M::Scalar> out) {
  if constexpr (HasOutputs<M>)
    model.vjp(w, samples_for<M>(X), G, out);
  else
    model.vjp(w, samples_for<M>(X), G.col(0), out);
}
template <HasJvp M>
void jvp_of(const M& model, ConstVectorRef<typename M::Scalar> w, Samples<typename M::Scalar> X,
            ConstVectorRef<typename M::Scalar> v, MatrixRef<typename M::Scalar> dF) {
  if constexpr (HasOutputs<M>)
    model.jvp(w, samples_for<M>(X), v, dF);
  else
    model.jvp(w, samples_for<M>(X), v, dF.col(0));
}

template <HasHessianProduct M>
void hessian_product_of(const M& model, ConstVectorRef<typename M::Scalar> w, Samples<typename M::Scalar> X,
                        ConstMatrixRef<typename M::Scalar> G, ConstVectorRef<typename M::Scalar> v,
                        VectorRef<typename M::Scalar> out) {
  if constexpr (HasOutputs<M>)
    model.hessian_product(w, samples_for<M>(X), G, v, out);
  else
    model.hessian_product(w, samples_for<M>(X), G.col(0), v, out);
}

/// The evaluation of a model that does not bring its own.
template <Model M>
class ModelEvaluation : public AnyEvaluation<typename M::Scalar> {
  using S = typename M::Scalar;

 public:
  ModelEvaluation(const M& model, Index max_batch)
      : AnyEvaluation<S>({model.num_parameters(), detail::num_outputs(model), max_batch, detail::num_inputs(model),
                          takes_measurements<M>}),
        model_(model) {
    pulled_.setZero(model.num_parameters());
    seed_.setZero(max_batch, outputs());
  }

  [[nodiscard]] std::unique_ptr<AnyEvaluation<S>> clone() const override {
    return std::make_unique<ModelEvaluation>(*this);
  }

  void forward(ConstVectorRef<S> w, Samples<S> X, MatrixRef<S> F) override {
    require<DimensionError>(detail::num_outputs(model_) == outputs(),
                            "the model has num_outputs = ", detail::num_outputs(model_), " where it had ", outputs(),
                            " when it was first evaluated");
    is_linearized_ = false;
    predict_of(model_, w, X, F);
  }

  void linearize(ConstVectorRef<S> w, Samples<S> X) override {
    const Index columns = X.size() * outputs();
    if (is_linearized_ || columns > gradients_at_once()) return;
    write_gradients(w, X, 0, columns);
    is_linearized_ = true;
  }

  void add_pullback(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, S scale, VectorRef<S> target) override {
    vjp(w, X, G, pulled_);
    add_multiple(scale, pulled_.data(), target.data(), target.size());
  }

  void vjp(ConstVectorRef<S> w, Samples<S> X, ConstMatrixRef<S> G, VectorRef<S> out) override {
    if (is_linearized_) {
      matrix_product<S>(gradients_, contiguous(G), out);
    } else {
      vjp_of(model_, w, X, G, out);
    }
  }

  void jvp(ConstVectorRef<S> w, Samples<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) override {
    if constexpr (HasJvp<M>) {
      if (!is_linearized_) {
        jvp_of(model_, w, X, v, dF);
        return;
      }
    }
    const Index columns = X.size() * outputs();
    const Index at_once = gradients_at_once();
    linearize(w, X);
    for (Index first = 0; first < columns; first += at_once) {
      const Index count = std::min(at_once, columns - first);
      if (!is_linearized_) write_gradients(w, X, first, count);
      for (Index c = 0; c < count; ++c)
        dF((first + c) % X.size(), (first + c) / X.size()) = inner_product(&gradients_(0, c), v.data(), v.size());
    }
  }

  void kernel(ConstVectorRef<S> w, Samples<S> X, KernelForm form, MatrixRef<S> K) override {
    const Index samples = X.size();
    const Index columns = samples * outputs();
    const Index at_once = gradients_at_once();
    if (is_linearized_ || columns <= at_once) {
      linearize(w, X);
      if (form == KernelForm::full || outputs() == 1) {
        product_of_transposed<S>(gradients_, gradients_, K);
        return;
      }
      K.setZero();
      for (Index k = 0; k < outputs(); ++k) {
        const auto of_output = gradients_.middleCols(k * samples, samples);
        add_product_of_transposed<S>(of_output, of_output, K);
      }
      return;
    }
    if (form == KernelForm::trace) K.setZero();
    // Pairs of blocks of gradients; for the trace only those of one output.
    const Index group = form == KernelForm::trace ? samples : columns;
    for (Index start = 0; start < columns; start += group)
      for (Index j = 0; j < group; j += at_once) {
        const Index cols = std::min(at_once, group - j);
        write_gradients(w, X, start + j, cols);
        right_ = gradients_;
        add_or_write(form, right_, right_, K.block(j, j, cols, cols));
        for (Index i = j + cols; i < group; i += at_once) {
          const Index rows = std::min(at_once, group - i);
          write_gradients(w, X, start + i, rows);
          add_or_write(form, gradients_, right_, K.block(i, j, rows, cols));
        }
      }
  }

  [[nodiscard]] Index num_units() const override {
    if constexpr (HasUnits<M>)
      return model_.num_units();
    else
      return 0;
  }
  void unit_square_norms([[maybe_unused]] ConstVectorRef<S> v, [[maybe_unused]] VectorRef<S> out) const override {
    if constexpr (HasUnits<M>) model_.unit_square_norms(v, out);
  }

 protected:
  [[nodiscard]] const M& model() const { return model_; }

 private:
  [[nodiscard]] Index outputs() const { return this->shape().num_outputs; }

  /// Gradients that are kept at once: as many as fit in 32 million numbers, and at least one.
  [[nodiscard]] Index gradients_at_once() const {
    constexpr Index budget = Index(1) << 25;
    return std::max<Index>(budget / this->shape().num_parameters, 1);
  }

  /// `count` columns of J^T from `first` on; that of output k of sample n is n + k N.
  void write_gradients(ConstVectorRef<S> w, Samples<S> X, Index first, Index count) {
    is_linearized_ = false;
    gradients_.resize(this->shape().num_parameters, count);
    one_.setZero(1, outputs());
    for (Index c = 0; c < count; ++c) {
      const Index k = (first + c) / X.size();
      sample_.take(X, (first + c) % X.size(), 1);
      one_(0, k) = S(1);
      vjp_of(model_, w, sample_.view(), one_, gradients_.col(c));
      one_(0, k) = S(0);
    }
  }

  static void add_or_write(KernelForm form, const Matrix<S>& A, const Matrix<S>& B, MatrixRef<S> K) {
    if (form == KernelForm::trace)
      add_product_of_transposed<S>(A, B, K);
    else
      product_of_transposed<S>(A, B, K);
  }

  /// G as one vector.
  [[nodiscard]] Eigen::Map<const Vector<S>> contiguous(ConstMatrixRef<S> G) {
    if (G.outerStride() == G.rows() || G.cols() == 1) return {G.data(), G.size()};
    auto seed = Eigen::Map<Matrix<S>>(seed_.data(), G.rows(), G.cols());
    seed = G;
    return {seed_.data(), G.size()};
  }

  M model_;
  Matrix<S> gradients_ = {};  // J^T where it is linearized, P x NK; otherwise some columns of it
  bool is_linearized_ = false;
  Vector<S> pulled_ = {};
  Matrix<S> seed_ = {};
  StoredSamples<S> sample_ = {};
  Matrix<S> one_ = {};
  Matrix<S> right_ = {};
};

/// What the evaluations of models around one other model have in common: the products are those of the inner one.
template <class S>
class EvaluationAround : public AnyEvaluation<S> {
 public:
  void linearize(ConstVectorRef<S> /*w*/, Samples<S> /*X*/) override { inner_.linearize(); }
  void add_pullback(ConstVectorRef<S> /*w*/, Samples<S> /*X*/, ConstMatrixRef<S> G, S scale,
                    VectorRef<S> target) override {
    inner_.add_pullback(G, scale, target);
  }
  void vjp(ConstVectorRef<S> /*w*/, Samples<S> /*X*/, ConstMatrixRef<S> G, VectorRef<S> out) override {
    inner_.vjp(G, out);
  }
  void jvp(ConstVectorRef<S> /*w*/, Samples<S> /*X*/, ConstVectorRef<S> v, MatrixRef<S> dF) override {
    inner_.jvp(v, dF);
  }
  void kernel(ConstVectorRef<S> /*w*/, Samples<S> /*X*/, KernelForm form, MatrixRef<S> K) override {
    inner_.kernel(K, form);
  }
  [[nodiscard]] Index num_units() const override { return inner_.num_units(); }
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const override { inner_.unit_square_norms(v, out); }

 protected:
  explicit EvaluationAround(Evaluation<S> inner)
      : AnyEvaluation<S>({inner.num_parameters(), inner.num_outputs(), inner.max_batch(), inner.num_inputs(),
                          inner.takes_measurements()}),
        inner_(std::move(inner)) {}

  [[nodiscard]] Evaluation<S>& inner() { return inner_; }

 private:
  Evaluation<S> inner_;
};

}  // namespace detail

/// The evaluation of `model` for at most `max_batch` samples at a time; threads share the work on a batch where the
/// model supports it. A model that brings `predict` and `vjp` only is evaluated by them; where products with its
/// Jacobian are asked for many times, J^T is stored (P x NK). Throws DimensionError unless max_batch > 0, ArgumentError
/// for a negative number of threads.
template <class M>
[[nodiscard]] Evaluation<detail::ScalarOfT<M>> make_evaluation(const M& model, Index max_batch,
                                                               ParallelOptions parallel = {1}) {
  static_assert(explain_model<M>());
  static_cast<void>(num_threads(parallel));
  if constexpr (HasEvaluation<M>) {
    auto at = model.make_evaluation(max_batch, parallel);
    require<DimensionError>(
        at.num_parameters() == model.num_parameters() && at.num_outputs() == detail::num_outputs(model),
        "the model's evaluation has ", at.num_parameters(), " parameters and ", at.num_outputs(),
        " outputs where the model has ", model.num_parameters(), " and ", detail::num_outputs(model));
    require(at.takes_measurements() == takes_measurements<M>, "the model's evaluation takes ",
            at.takes_measurements() ? "measurements" : "rows", " and the model ",
            takes_measurements<M> ? "measurements" : "rows");
    return at;
  } else if constexpr (Model<M>) {
    return Evaluation<typename M::Scalar>(std::make_unique<detail::ModelEvaluation<M>>(model, max_batch));
  }
  throw Error("the model has no evaluation");
}

namespace detail {

/// `predict`, `vjp` and `jvp` of a model by its own evaluation, so many samples at a time.
template <class S>
class InBatches {
 public:
  template <class M>
  explicit InBatches(const M& model, Samples<S> X)
      : InBatches(model.make_evaluation(std::clamp<Index>(X.size(), 1, 256), ParallelOptions{1}), X) {}
  InBatches(Evaluation<S> evaluation, Samples<S> X) : evaluation_(std::move(evaluation)), X_(X) {}

  void predict(ConstVectorRef<S> w, MatrixRef<S> F);
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> G, VectorRef<S> out);
  void jvp(ConstVectorRef<S> w, ConstVectorRef<S> v, MatrixRef<S> dF);

 private:
  [[nodiscard]] Index at_once() const { return evaluation_.max_batch(); }

  void check(ConstMatrixRef<S> F) const {
    require<DimensionError>(F.rows() == X_.size() && F.cols() == evaluation_.num_outputs(), "the outputs are ",
                            F.rows(), " x ", F.cols(), " where N x K = ", X_.size(), " x ", evaluation_.num_outputs(),
                            " is needed");
  }
  /// Rows are evaluated where they are.
  [[nodiscard]] Samples<S> batch(Index first, Index count) {
    if (!X_.are_measurements()) return Samples<S>(X_.matrix().middleRows(first, count));
    batch_.take(X_, first, count);
    return batch_.view();
  }

  Evaluation<S> evaluation_;
  Samples<S> X_;
  StoredSamples<S> batch_ = {};
};

/// `predict`, `vjp` and `jvp` of a model that brings its own evaluation and is written by it alone; `Self` derives from
/// this class and has `make_evaluation`. Each call allocates an evaluation for up to 256 samples, and throws
/// DimensionError where a shape is wrong. `Argument` is SamplesArgument of the model.
template <class Self, class S, class Argument = ConstMatrixRef<S>>
class ByEvaluation {
 public:
  /// `F = f(w, X)`, N x K; for K = 1 a vector of N values will do, here and below.
  void predict(ConstVectorRef<S> w, Argument X, MatrixRef<S> F) const { InBatches<S>(self(), X).predict(w, F); }
  /// `out = J(w)^T G`, P values, G is N x K.
  void vjp(ConstVectorRef<S> w, Argument X, ConstMatrixRef<S> G, VectorRef<S> out) const {
    InBatches<S>(self(), X).vjp(w, G, out);
  }
  /// `dF = J(w) v`, N x K.
  void jvp(ConstVectorRef<S> w, Argument X, ConstVectorRef<S> v, MatrixRef<S> dF) const {
    InBatches<S>(self(), X).jvp(w, v, dF);
  }

 private:
  [[nodiscard]] const Self& self() const { return static_cast<const Self&>(*this); }
};

template <class S>
void InBatches<S>::predict(ConstVectorRef<S> w, MatrixRef<S> F) {
  check(F);
  for (Index n = 0; n < X_.size(); n += at_once()) {
    const Index count = std::min(at_once(), X_.size() - n);
    evaluation_.forward(w, batch(n, count), F.middleRows(n, count));
  }
}

template <class S>
void InBatches<S>::vjp(ConstVectorRef<S> w, ConstMatrixRef<S> G, VectorRef<S> out) {
  check(G);
  Matrix<S> ignored(std::min(at_once(), X_.size()), G.cols());
  std::fill_n(out.data(), out.size(), S(0));
  for (Index n = 0; n < X_.size(); n += at_once()) {
    const Index count = std::min(at_once(), X_.size() - n);
    evaluation_.forward(w, batch(n, count), ignored.topRows(count));
    evaluation_.add_pullback(G.middleRows(n, count), S(1), out);
  }
}

template <class S>
void InBatches<S>::jvp(ConstVectorRef<S> w, ConstVectorRef<S> v, MatrixRef<S> dF) {
  check(dF);
  for (Index n = 0; n < X_.size(); n += at_once()) {
    const Index count = std::min(at_once(), X_.size() - n);
    evaluation_.forward(w, batch(n, count), dF.middleRows(n, count));
    evaluation_.jvp(v, dF.middleRows(n, count));
  }
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_EVALUATION(prefix, S) \
  prefix template class AnyEvaluation<S>;          \
  prefix template class Evaluation<S>;             \
  prefix template class detail::InBatches<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_EVALUATION)
