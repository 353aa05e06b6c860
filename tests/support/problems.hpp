#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "richflow/core/types.hpp"
#include "richflow/integrate/stepper.hpp"
#include "support/numbers.hpp"

/// @file
/// Differential equations with closed solutions, and wrappers that watch them.

namespace test_support {

using richflow::ConstVectorRef;
using richflow::Index;
using richflow::Vector;
using richflow::VectorRef;

/// y_i' = -rate_i y_i, the gradient flow of `loss` = sum rate_i y_i^2 / 2.
template <class S>
struct BasicDecay {
  using Scalar = S;
  Vector<S> rates;

  [[nodiscard]] Index dimension() const { return rates.size(); }
  void operator()(S, ConstVectorRef<S> y, VectorRef<S> dy) const { dy = -(rates.array() * y.array()).matrix(); }
  [[nodiscard]] S loss(ConstVectorRef<S> y) const { return (rates.array() * y.array().square()).sum() / S(2); }
  [[nodiscard]] Vector<S> exact(S t, const Vector<S>& y0) const {
    return ((-t * rates.array()).exp() * y0.array()).matrix();
  }
};
using Decay = BasicDecay<double>;

inline Decay decay(std::initializer_list<double> rates) {
  Decay problem{Vector<double>(static_cast<Index>(rates.size()))};
  Index i = 0;
  for (const double rate : rates) problem.rates(i++) = rate;
  return problem;
}

/// Nonlinear, coupled and time-dependent, from (1, 1, 1): y0 = exp(sin 3t), y1 = 1 / (1 + t),
/// y2 = y0 exp(t) y1.
struct Mixed {
  using Scalar = double;
  [[nodiscard]] static Index dimension() { return 3; }
  void operator()(double t, ConstVectorRef<double> y, VectorRef<double> dy) const {
    dy(0) = 3 * y(0) * std::cos(3 * t);
    dy(1) = -y(1) * y(1);
    dy(2) = y(2) * (1 + 3 * std::cos(3 * t) - y(1));
  }
  [[nodiscard]] static Vector<double> start() { return Vector<double>::Ones(3); }
  [[nodiscard]] static Vector<double> exact(double t) {
    const double y0 = std::exp(std::sin(3 * t));
    Vector<double> y(3);
    y << y0, 1 / (1 + t), y0 * std::exp(t) / (1 + t);
    return y;
  }
};

/// (cos t, sin t) from (1, 0).
struct Rotation {
  using Scalar = double;
  [[nodiscard]] static Index dimension() { return 2; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const {
    dy(0) = -y(1);
    dy(1) = y(0);
  }
  [[nodiscard]] static Vector<double> start() { return Vector<double>::Unit(2, 0); }
};

/// y' = y^2 from y(0) = 1, which is 1 / (1 - t): infinite at t = 1.
struct BlowUp {
  using Scalar = double;
  [[nodiscard]] static Index dimension() { return 2; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = y.array().square(); }
  [[nodiscard]] static Vector<double> start() { return Vector<double>::Ones(2); }
};

/// y' = 1, but NaN in entry 1 after t = 0.5.
struct UndefinedLater {
  using Scalar = double;
  [[nodiscard]] static Index dimension() { return 3; }
  void operator()(double t, ConstVectorRef<double>, VectorRef<double> dy) const {
    dy.setOnes();
    if (t > 0.5) dy(1) = std::numeric_limits<double>::quiet_NaN();
  }
  [[nodiscard]] double loss(ConstVectorRef<double> y) const { return y.squaredNorm(); }
  [[nodiscard]] static Vector<double> start() { return Vector<double>::Ones(3); }
};

/// Any problem with a loss, counting its calls.
template <class Problem>
struct Counting {
  using Scalar = typename Problem::Scalar;
  const Problem& problem;
  mutable Index evaluations = 0;
  mutable Index losses = 0;

  [[nodiscard]] Index dimension() const { return problem.dimension(); }
  void operator()(Scalar t, ConstVectorRef<Scalar> y, VectorRef<Scalar> dy) const {
    ++evaluations;
    problem(t, y, dy);
  }
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> y) const {
    ++losses;
    return problem.loss(y);
  }
};

/// The explicit midpoint rule as a user would write it, with the required members only.
struct Midpoint {
  static constexpr int order = 2;

  struct Workspace {
    richflow::StepCounters counters = {};
    Vector<double> k = {};
    Vector<double> middle = {};
  };

  template <class P>
  [[nodiscard]] Workspace make_workspace(const P& problem) const {
    Workspace ws;
    ws.k.setZero(problem.dimension());
    ws.middle.setZero(problem.dimension());
    return ws;
  }
  template <class P>
  void begin(const P&, double, const Vector<double>&, Workspace&) const {}
  template <class P>
  void step(const P& problem, double t, double h, const Vector<double>& y, Vector<double>& y_new, Workspace& ws) const {
    problem(t, y, ws.k);
    ws.middle = y + 0.5 * h * ws.k;
    problem(t + 0.5 * h, ws.middle, ws.k);
    y_new = y + h * ws.k;
    ws.counters.evaluations += 2;
  }
  void accept(Workspace&) const {}
};

/// Equal to the last bit, signs of zero included.
inline bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

inline bool same_bits(const Vector<double>& a, const Vector<double>& b) {
  if (a.size() != b.size()) return false;
  for (Index i = 0; i < a.size(); ++i)
    if (!same_bits(a(i), b(i))) return false;
  return true;
}

}  // namespace test_support
