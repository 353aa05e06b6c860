#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/has_member.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/model.hpp"

/// @file
/// Models of which only the prediction is written, in Eigen's expressions or in loops: derivatives by automatic
/// differentiation, forward for `J v` and in reverse for `J^T r`.

namespace richflow {

namespace detail {

/// Operators and functions of a differentiable number type D, from its `value`, `unary` and `binary`. Numbers of type S
/// are constants by conversion.
template <class D, class S>
struct DifferentiableNumber {
  friend D operator+(const D& a, const D& b) { return D::binary(a, b, a.value + b.value, S(1), S(1)); }
  friend D operator-(const D& a, const D& b) { return D::binary(a, b, a.value - b.value, S(1), S(-1)); }
  friend D operator*(const D& a, const D& b) { return D::binary(a, b, a.value * b.value, b.value, a.value); }
  friend D operator/(const D& a, const D& b) {
    const S quotient = a.value / b.value;
    return D::binary(a, b, quotient, S(1) / b.value, -quotient / b.value);
  }
  friend D operator-(const D& a) { return D::unary(a, -a.value, S(-1)); }
  friend D& operator+=(D& a, const D& b) { return a = a + b; }
  friend D& operator-=(D& a, const D& b) { return a = a - b; }
  friend D& operator*=(D& a, const D& b) { return a = a * b; }
  friend D& operator/=(D& a, const D& b) { return a = a / b; }
  friend bool operator<(const D& a, const D& b) { return a.value < b.value; }
  friend bool operator>(const D& a, const D& b) { return a.value > b.value; }
  friend bool operator<=(const D& a, const D& b) { return a.value <= b.value; }
  friend bool operator>=(const D& a, const D& b) { return a.value >= b.value; }
  friend bool operator==(const D& a, const D& b) { return a.value == b.value; }
  friend D exp(const D& a) {
    using std::exp;
    const S value = exp(a.value);
    return D::unary(a, value, value);
  }
  friend D log(const D& a) {
    using std::log;
    return D::unary(a, log(a.value), S(1) / a.value);
  }
  friend D log1p(const D& a) {
    using std::log1p;
    return D::unary(a, log1p(a.value), S(1) / (S(1) + a.value));
  }
  friend D sqrt(const D& a) {
    using std::sqrt;
    const S value = sqrt(a.value);
    return D::unary(a, value, S(1) / (S(2) * value));
  }
  friend D sin(const D& a) {
    using std::cos;
    using std::sin;
    return D::unary(a, sin(a.value), cos(a.value));
  }
  friend D cos(const D& a) {
    using std::cos;
    using std::sin;
    return D::unary(a, cos(a.value), -sin(a.value));
  }
  friend D tanh(const D& a) {
    using std::tanh;
    const S value = tanh(a.value);
    return D::unary(a, value, S(1) - value * value);
  }
  friend D abs(const D& a) { return a.value < S(0) ? -a : a; }
  // Of two equal numbers the second, so that `max(z, 0)` has the derivative 0 at 0, as in ReluNetwork; a NaN as in
  // std::max.
  friend D max(const D& a, const D& b) { return a.value <= b.value ? b : a; }
  friend D min(const D& a, const D& b) { return a.value >= b.value ? b : a; }
  friend D pow(const D& a, const S& exponent) {
    using std::pow;
    // At 0 the formula's pow(0, -1) is infinite.
    const S derivative = exponent == S(0) ? S(0) : exponent * pow(a.value, exponent - S(1));
    return D::unary(a, pow(a.value, exponent), derivative);
  }
};

/// What Eigen asks of the number types of its expressions, for D made from S.
template <class D, class S>
struct DifferentiableNumTraits : Eigen::NumTraits<S> {
  using Real = D;
  using NonInteger = D;
  using Nested = D;
  using Literal = S;
  // An operation costs several of S, and a recorded one memory as well: Eigen is to do none of them twice.
  enum {
    RequireInitialization = 1,
    ReadCost = 2 * int(Eigen::NumTraits<S>::ReadCost),
    AddCost = 4 * int(Eigen::NumTraits<S>::AddCost),
    MulCost = 4 * int(Eigen::NumTraits<S>::MulCost)
  };
};

/// A value and its derivative along one direction.
template <class S>
struct Dual : DifferentiableNumber<Dual<S>, S> {
  S value = S(0);
  S slope = S(0);

  Dual() = default;
  Dual(S v) : value(v) {}  // NOLINT: a number is a constant
  Dual(S v, S s) : value(v), slope(s) {}

  // A function of one argument, given its value and derivative.
  [[nodiscard]] static Dual unary(const Dual& a, S value, S derivative) { return {value, derivative * a.slope}; }
  [[nodiscard]] static Dual binary(const Dual& a, const Dual& b, S value, S by_a, S by_b) {
    return {value, by_a * a.slope + by_b * b.slope};
  }
};

/// The operations of two arguments on P inputs, in the order in which they were done: for each its arguments and the
/// derivatives by them. The inputs have the first positions, the operations those that follow.
template <class S>
class Tape {
 public:
  using Position = std::size_t;

  explicit Tape(Index num_inputs) : num_inputs_(static_cast<std::size_t>(num_inputs)) {
    // Most functions have an operation for each input or a few: growing from nothing would copy as much again.
    operations_.reserve(num_inputs_);
    adjoints_.reserve(2 * num_inputs_);
    adjoints_.resize(num_inputs_, S(0));
  }

  /// Records one operation.
  Position record(Position a, const S& by_a, Position b, const S& by_b) {
    operations_.push_back({a, b, by_a, by_b});
    return num_inputs_ + operations_.size() - 1;
  }

  /// `reverse` differentiates the sum of seed times value over the outputs. A position may be seeded many times.
  void seed(Position output, const S& seed) {
    adjoints_.resize(num_inputs_ + operations_.size(), S(0));
    adjoints_[output] += seed;
  }

  /// Adds the derivatives by the inputs to those of the sweeps before, and forgets the operations.
  void reverse() {
    adjoints_.resize(num_inputs_ + operations_.size(), S(0));
    for (std::size_t i = operations_.size(); i-- > 0;) {
      const Operation& operation = operations_[i];
      const S adjoint = adjoints_[num_inputs_ + i];
      // What no output depends on adds nothing, infinite derivatives included.
      if (adjoint == S(0)) continue;
      adjoints_[operation.a] += operation.by_a * adjoint;
      adjoints_[operation.b] += operation.by_b * adjoint;
    }
    operations_.clear();
    adjoints_.resize(num_inputs_);
  }

  /// The derivatives by the P inputs, summed over all sweeps.
  [[nodiscard]] Eigen::Map<const Vector<S>> input_adjoints() const {
    return {adjoints_.data(), static_cast<Index>(num_inputs_)};
  }

 private:
  struct Operation {
    Position a;
    Position b;
    S by_a;
    S by_b;
  };
  std::size_t num_inputs_;
  std::vector<Operation> operations_ = {};
  std::vector<S> adjoints_ = {};
};

/// A value whose operations are recorded: a constant (no tape), or a function of the value at `position` alone, with
/// the derivative `slope`. So only what joins two positions needs an entry.
template <class S>
struct Recorded : DifferentiableNumber<Recorded<S>, S> {
  S value = S(0);
  S slope = S(0);
  Tape<S>* tape = nullptr;
  std::size_t position = 0;

  Recorded() = default;
  Recorded(S v) : value(v) {}  // NOLINT: a number is a constant
  Recorded(S v, S s, Tape<S>* t, std::size_t p) : value(v), slope(s), tape(t), position(p) {}

  [[nodiscard]] static Recorded unary(const Recorded& a, S value, S derivative) {
    // What a feature of 0 multiplies has become a constant.
    if (derivative == S(0)) return value;
    return {value, derivative * a.slope, a.tape, a.position};
  }
  [[nodiscard]] static Recorded binary(const Recorded& a, const Recorded& b, S value, S by_a, S by_b) {
    if (b.tape == nullptr) return unary(a, value, by_a);
    if (a.tape == nullptr) return unary(b, value, by_b);
    const S slope_a = by_a * a.slope;
    const S slope_b = by_b * b.slope;
    if (a.position == b.position) return {value, slope_a + slope_b, a.tape, a.position};
    return {value, S(1), a.tape, a.tape->record(a.position, slope_a, b.position, slope_b)};
  }
};

/// A function whose `predict` takes spans.
template <class F, class S>
concept PredictsFromSpans = requires(const F& f, std::span<const S> w, std::span<const S> x) {
  f.template predict<S>(w, x);
};

/// A function whose `predict` takes Eigen's vectors, of parameters of type T and of features of type `Feature`.
template <class F, class T, class Feature>
concept PredictsFromVectors = requires(const F& f, const Vector<T>& w, const Vector<Feature>& x) {
  f.template predict<T>(w, x);
};

/// A function with K outputs per sample.
template <class F>
concept NamesOutputs = requires(const F& f) {
  { f.num_outputs() } -> std::convertible_to<Index>;
};

}  // namespace detail

}  // namespace richflow

namespace Eigen {

/// Dual numbers in Eigen's expressions.
template <class S>
struct NumTraits<richflow::detail::Dual<S>> : richflow::detail::DifferentiableNumTraits<richflow::detail::Dual<S>, S> {
};

/// Recorded numbers in Eigen's expressions.
template <class S>
struct NumTraits<richflow::detail::Recorded<S>>
    : richflow::detail::DifferentiableNumTraits<richflow::detail::Recorded<S>, S> {};

/// A dual number and a constant.
template <class S, class Operation>
struct ScalarBinaryOpTraits<richflow::detail::Dual<S>, S, Operation> {
  using ReturnType = richflow::detail::Dual<S>;  ///< of the operation
};

/// A constant and a dual number.
template <class S, class Operation>
struct ScalarBinaryOpTraits<S, richflow::detail::Dual<S>, Operation> {
  using ReturnType = richflow::detail::Dual<S>;  ///< of the operation
};

/// A recorded number and a constant.
template <class S, class Operation>
struct ScalarBinaryOpTraits<richflow::detail::Recorded<S>, S, Operation> {
  using ReturnType = richflow::detail::Recorded<S>;  ///< of the operation
};

/// A constant and a recorded number.
template <class S, class Operation>
struct ScalarBinaryOpTraits<S, richflow::detail::Recorded<S>, Operation> {
  using ReturnType = richflow::detail::Recorded<S>;  ///< of the operation
};

}  // namespace Eigen

namespace richflow {

/// A model written as its prediction alone, for one sample and any number type T, in Eigen's expressions:
///
///     #include <iostream>
///
///     #include "richflow/richflow.hpp"
///
///     using namespace richflow;
///
///     struct TanhNet {
///       Index d, k;  // features, units
///       [[nodiscard]] Index num_parameters() const { return k * (d + 1); }
///       template <class T>
///       [[nodiscard]] T predict(ConstVectorRef<T> w, ConstVectorRef<T> x) const {
///         const Eigen::Map<const Matrix<T>> W(w.data(), k, d);
///         return (W * x).array().tanh().matrix().dot(w.tail(k));
///       }
///     };
///
///     int main() {
///       const Autodiff model(TanhNet{2, 50});
///       RandomStream random(1);
///       const Vector<double> w = normal_vector(random, model.num_parameters());
///       const Matrix<double> X = normal_matrix(random, 10, 2);
///       Vector<double> gradient(model.num_parameters());  // of the sum of the ten predictions
///       model.vjp(w, X, Vector<double>::Ones(10), gradient);
///       std::cout << gradient.norm() << '\n';
///     }
///
/// or in loops over spans:
///
///     struct TanhLoops {
///       Index d, k;
///       [[nodiscard]] Index num_parameters() const { return k * (d + 1); }
///       template <class T>
///       [[nodiscard]] T predict(std::span<const T> w, std::span<const double> x) const {
///         using std::tanh;
///         T f(0);
///         auto next = w.begin();
///         for (Index i = 0; i < k; ++i) {
///           T z(0);
///           for (const double feature : x) z += *next++ * feature;
///           f += *next++ * tanh(z);
///         }
///         return f;
///       }
///     };
///
/// A function with `Index num_outputs() const` = K has K outputs per sample: its `predict` returns K values, as
/// `Vector<T>` or `std::vector<T>`. Without it K = 1.
///
/// `predict` may use + - * /, comparisons, exp, log, log1p, sqrt, sin, cos, tanh, abs, min, max, and pow with a
/// constant exponent, on Eigen's arrays or on numbers (then called without `std::`), and what Eigen makes of these:
/// products, norms, reductions, `square`, `select`, `logistic`. Numbers of type S are constants; a sum over numbers
/// begins with `T(0)`. Features may also be taken as `ConstVectorRef<S> x`; a product of matrices then needs
/// `x.template cast<T>()`.
///
/// From it come the products with the Jacobian, to rounding: `jvp` by forward differentiation, one to four times the
/// cost of `predict`; `vjp` in reverse, two to thirty times, whatever P and K, and for a single sample up to seventy,
/// since calls allocate. The larger numbers are those of large products, which `predict` vectorizes. Memory: 40 bytes
/// (S = double) for each operation of one sample on two numbers that depend on w. A Model and HasJvp.
template <class F, class S = double>
class Autodiff {
 public:
  using Scalar = S;
  /// Its optional members are those of the function inside.
  static constexpr bool has_conditional_members = true;

  /// Wraps the function.
  explicit Autodiff(F function) : function_(std::move(function)) {
    static_assert(
        requires(const F& f, ConstVectorRef<S> v, VectorRef<S> out) {
          { f.num_units() } -> std::convertible_to<Index>;
          f.unit_square_norms(v, out);
        } || !(detail::Has_num_units<F> || detail::Has_unit_square_norms<F>),
        "richflow: the function's units do not fit: `Index num_units() const` and `void unit_square_norms("
        "ConstVectorRef<Scalar> v, VectorRef<Scalar> out) const`, writing one number per unit");
    static_assert(detail::NamesOutputs<F> || !detail::Has_num_outputs<F>,
                  "richflow: the function's num_outputs does not fit: `Index num_outputs() const`");
    static_assert(detail::PredictsFromSpans<F, S> || detail::PredictsFromVectors<F, S, S>,
                  "richflow: the function must have a const member `template <class T> T predict(ConstVectorRef<T> w, "
                  "ConstVectorRef<T> x) const`, or the same of `std::span<const T>` and `std::span<const Scalar>`");
  }

  /// The function.
  [[nodiscard]] const F& function() const { return function_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return function_.num_parameters(); }
  /// K; 1 where the function does not say.
  [[nodiscard]] Index num_outputs() const {
    if constexpr (detail::NamesOutputs<F>)
      return function_.num_outputs();
    else
      return 1;
  }

  /// Units, where the function names them (HasUnits): what keeps runs deep in the rich regime correct.
  [[nodiscard]] Index num_units() const requires requires(const F& f) { f.num_units(); }
  { return function_.num_units(); }
  /// See HasUnits.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const requires requires(const F& f) {
    f.unit_square_norms(v, out);
  }
  { function_.unit_square_norms(v, out); }

  /// `out = f(w, X)`, N x K: for K = 1 a vector of N values will do. Throws DimensionError for wrong shapes, as do
  /// `vjp` and `jvp`.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, MatrixRef<S> out) const {
    check(w, X, "out", out);
    const Vector<S> parameters = w;
    for_samples<S>(X, [&](Index n, const Vector<S>& x) {
      for_outputs(parameters, x, [&](Index k, const S& f) { out(n, k) = f; });
    });
  }

  /// `out = sum_n J_n(w)^T G_n`, P values: for K = 1 `J(w)^T r`.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstMatrixRef<S> G, VectorRef<S> out) const {
    check(w, X, "G", G);
    require_size("out", out.size(), w.size());
    using Number = detail::Recorded<S>;
    detail::Tape<S> tape(w.size());
    Vector<Number> parameters(w.size());
    for (Index i = 0; i < w.size(); ++i) parameters[i] = Number(w[i], S(1), &tape, static_cast<std::size_t>(i));
    for_samples<Number>(X, [&](Index n, const Vector<Feature<Number>>& x) {
      for_outputs(parameters, x, [&](Index k, const Number& f) {
        if (f.tape != nullptr) tape.seed(f.position, f.slope * G(n, k));
      });
      tape.reverse();
    });
    out = tape.input_adjoints();
  }

  /// `dF = J(w) v`, N x K.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, MatrixRef<S> dF) const {
    check(w, X, "dF", dF);
    require_size("v", v.size(), w.size());
    using Number = detail::Dual<S>;
    Vector<Number> parameters(w.size());
    for (Index i = 0; i < w.size(); ++i) parameters[i] = Number(w[i], v[i]);
    for_samples<Number>(X, [&](Index n, const Vector<Feature<Number>>& x) {
      for_outputs(parameters, x, [&](Index k, const Number& f) { dF(n, k) = f.slope; });
    });
  }

 private:
  // Features of type S stay so where predict<Number> takes them; otherwise they are constants of its own type.
  template <class Number>
  using Feature =
      std::conditional_t<detail::PredictsFromSpans<F, S> || detail::PredictsFromVectors<F, Number, S>, S, Number>;

  /// Calls `action(n, x_n)` for every sample.
  template <class Number, class Action>
  static void for_samples(ConstMatrixRef<S> X, const Action& action) {
    Vector<Feature<Number>> x(X.cols());
    for (Index n = 0; n < X.rows(); ++n) {
      x = X.row(n).transpose().template cast<Feature<Number>>();
      action(n, x);
    }
  }

  /// What the function returns for one sample.
  template <class Number>
  [[nodiscard]] auto evaluate(const Vector<Number>& w, const Vector<Feature<Number>>& x) const {
    if constexpr (detail::PredictsFromSpans<F, S>)
      return function_.template predict<Number>(std::span<const Number>(w.data(), static_cast<std::size_t>(w.size())),
                                                std::span<const S>(x.data(), static_cast<std::size_t>(x.size())));
    else
      return function_.template predict<Number>(w, x);
  }

  /// Calls `action(k, value)` for the K outputs of one sample.
  template <class Number, class Action>
  void for_outputs(const Vector<Number>& w, const Vector<Feature<Number>>& x, const Action& action) const {
    const auto values = evaluate(w, x);
    using Values = std::remove_cv_t<decltype(values)>;
    // Eigen's expressions refer to what was local to `predict`.
    static_assert(std::is_base_of_v<Eigen::PlainObjectBase<Values>, Values> ||
                      !std::is_base_of_v<Eigen::EigenBase<Values>, Values>,
                  "richflow: the function's predict must return T, or many values as `Vector<T>`, not an expression");
    if constexpr (std::is_convertible_v<Values, Number>) {
      check_outputs(1);
      action(Index(0), values);
    } else {
      static_assert(detail::NamesOutputs<F>,
                    "richflow: the function's predict must return T; one that returns many values must have a const "
                    "member `Index num_outputs() const`");
      check_outputs(static_cast<Index>(values.size()));
      Index k = 0;
      for (const Number& value : values) action(k++, value);
    }
  }

  void check_outputs(Index values) const {
    require<DimensionError>(values == num_outputs(), "the function's num_outputs() is ", num_outputs(),
                            ", but the number of values that its predict returns is ", values);
  }

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, const char* name, ConstMatrixRef<S> outputs) const {
    require_size("w", w.size(), num_parameters());
    require<DimensionError>(outputs.rows() == X.rows() && outputs.cols() == num_outputs(), name, " is ", outputs.rows(),
                            " x ", outputs.cols(), " where N = ", X.rows(), " and K = ", num_outputs());
  }

  F function_;
};

}  // namespace richflow
