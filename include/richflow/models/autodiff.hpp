#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "richflow/core/concepts.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

/// @file
/// Models of which only the prediction is written: derivatives by automatic differentiation, forward for `J v` and in
/// reverse for `J^T r`.

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

/// Operations in the order in which they were done: for each its arguments and the derivatives by them.
template <class S>
class Tape {
 public:
  using Position = std::ptrdiff_t;

  /// Records one operation; position -1 is a constant.
  Position record(Position a, S by_a, Position b, S by_b) {
    entries_.push_back({{a, b}, {by_a, by_b}});
    return static_cast<Position>(entries_.size()) - 1;
  }

  void clear() { entries_.clear(); }

  /// Derivatives of `seed` times the result at `end` by every entry.
  const std::vector<S>& reverse(Position end, S seed) {
    adjoints_.assign(entries_.size(), S(0));
    if (end < 0) return adjoints_;
    adjoints_[static_cast<std::size_t>(end)] = seed;
    for (std::size_t i = static_cast<std::size_t>(end) + 1; i-- > 0;)
      for (std::size_t k = 0; k < 2; ++k)
        if (const Position from = entries_[i].arguments[k]; from >= 0)
          adjoints_[static_cast<std::size_t>(from)] += entries_[i].derivatives[k] * adjoints_[i];
    return adjoints_;
  }

 private:
  struct Entry {
    std::array<Position, 2> arguments;
    std::array<S, 2> derivatives;
  };
  std::vector<Entry> entries_ = {};
  std::vector<S> adjoints_ = {};
};

/// A value whose operations are recorded.
template <class S>
struct Recorded : DifferentiableNumber<Recorded<S>, S> {
  S value = S(0);
  Tape<S>* tape = nullptr;
  std::ptrdiff_t position = -1;

  Recorded() = default;
  Recorded(S v) : value(v) {}  // NOLINT: a number is a constant
  Recorded(S v, Tape<S>* t, std::ptrdiff_t p) : value(v), tape(t), position(p) {}

  [[nodiscard]] static Recorded unary(const Recorded& a, S value, S derivative) {
    if (a.tape == nullptr) return value;
    return {value, a.tape, a.tape->record(a.position, derivative, -1, S(0))};
  }
  [[nodiscard]] static Recorded binary(const Recorded& a, const Recorded& b, S value, S by_a, S by_b) {
    Tape<S>* tape = a.tape != nullptr ? a.tape : b.tape;
    if (tape == nullptr) return value;
    return {value, tape, tape->record(a.position, by_a, b.position, by_b)};
  }
};

}  // namespace detail

/// A model of which only the prediction is written, for one sample and any number type:
///
///     struct TanhNet {
///       Index d, k;
///       [[nodiscard]] Index num_parameters() const { return k * (d + 1); }
///       template <class T>
///       [[nodiscard]] T predict(std::span<const T> w, std::span<const S> x) const { ... }
///     };
///     const Autodiff model(TanhNet{2, 50});
///
/// `predict` may use + - * /, comparisons, exp, log, log1p, sqrt, sin, cos, tanh and abs (called without `std::`), and
/// sums that begin with `T(0)`. From it come the products with the Jacobian, to rounding: `jvp` by forward
/// differentiation, about twice the cost of `predict`; `vjp` in reverse, some ten times, whatever P. A Model and
/// HasJvp; calls allocate.
template <class F, class S = double>
class Autodiff {
 public:
  using Scalar = S;
  /// Optional members of what is inside are its own.
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
  }

  /// The function.
  [[nodiscard]] const F& function() const { return function_; }
  /// P.
  [[nodiscard]] Index num_parameters() const { return function_.num_parameters(); }

  /// Units, where the function names them (HasUnits): what keeps runs deep in the rich regime correct.
  [[nodiscard]] Index num_units() const requires requires(const F& f) { f.num_units(); }
  { return function_.num_units(); }
  /// See HasUnits.
  void unit_square_norms(ConstVectorRef<S> v, VectorRef<S> out) const requires requires(const F& f) {
    f.unit_square_norms(v, out);
  }
  { function_.unit_square_norms(v, out); }

  /// `out = f(w, X)`, N values.
  void predict(ConstVectorRef<S> w, ConstMatrixRef<S> X, VectorRef<S> out) const {
    check(w, X, out.size());
    const std::span<const S> parameters(w.data(), static_cast<std::size_t>(w.size()));
    for_samples(X, [&](Index n, std::span<const S> x) { out[n] = function_.template predict<S>(parameters, x); });
  }

  /// `out = J(w)^T r`, P values.
  void vjp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> r, VectorRef<S> out) const {
    check(w, X, r.size());
    require_size("out", out.size(), w.size());
    using Number = detail::Recorded<S>;
    detail::Tape<S> tape;
    std::vector<Number> parameters(static_cast<std::size_t>(w.size()));
    out.setZero();
    for_samples(X, [&](Index n, std::span<const S> x) {
      tape.clear();
      for (Index i = 0; i < w.size(); ++i)
        parameters[static_cast<std::size_t>(i)] = Number(w[i], &tape, tape.record(-1, S(0), -1, S(0)));
      const Number f = function_.template predict<Number>(std::span<const Number>(parameters), x);
      const std::vector<S>& derivatives = tape.reverse(f.position, r[n]);
      out += Eigen::Map<const Vector<S>>(derivatives.data(), w.size());
    });
  }

  /// `out = J(w) v`, N values.
  void jvp(ConstVectorRef<S> w, ConstMatrixRef<S> X, ConstVectorRef<S> v, VectorRef<S> out) const {
    check(w, X, out.size());
    require_size("v", v.size(), w.size());
    using Number = detail::Dual<S>;
    std::vector<Number> parameters(static_cast<std::size_t>(w.size()));
    for (Index i = 0; i < w.size(); ++i) parameters[static_cast<std::size_t>(i)] = Number(w[i], v[i]);
    for_samples(X, [&](Index n, std::span<const S> x) {
      out[n] = function_.template predict<Number>(std::span<const Number>(parameters), x).slope;
    });
  }

 private:
  template <class Action>
  static void for_samples(ConstMatrixRef<S> X, const Action& action) {
    std::vector<S> x(static_cast<std::size_t>(X.cols()));
    for (Index n = 0; n < X.rows(); ++n) {
      for (Index j = 0; j < X.cols(); ++j) x[static_cast<std::size_t>(j)] = X(n, j);
      action(n, std::span<const S>(x));
    }
  }

  void check(ConstVectorRef<S> w, ConstMatrixRef<S> X, Index samples) const {
    require_size("w", w.size(), num_parameters());
    require_size("the vector over samples", samples, X.rows());
  }

  F function_;
};

}  // namespace richflow
