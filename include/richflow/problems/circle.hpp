#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/models/fully_connected.hpp"

namespace richflow {

/// Size and seed of a teacher problem on the circle; the defaults are those of Woodworth et al. 2020, Figure 6 (a, b).
struct CircleTeacherOptions {
  Index num_samples = 10;    ///< N
  Index teacher_units = 3;   ///< hidden units of the teacher
  std::uint64_t seed = 0;    ///< of everything random
  std::uint64_t stream = 0;  ///< the repetition
};

/// Points on the circle, labelled by a small ReLU network.
template <class Scalar = double>
struct CircleTeacher {
  Dataset<Scalar> dataset;      ///< X is N x 2, uniform on the unit circle
  ReluNetwork<Scalar> network;  ///< the teacher, without biases
  Vector<Scalar> weights;       ///< its parameters; its root mean square on the circle is 1

  /// `count` points evenly spread on the circle, count x 2.
  [[nodiscard]] static Matrix<Scalar> grid(Index count) {
    constexpr double turn = 6.283185307179586476925;
    Matrix<Scalar> X(count, 2);
    for (Index i = 0; i < count; ++i) {
      const double angle = turn * static_cast<double>(i) / static_cast<double>(count);
      X(i, 0) = static_cast<Scalar>(std::cos(angle));
      X(i, 1) = static_cast<Scalar>(std::sin(angle));
    }
    return X;
  }

  /// The labels of any points, N x 2.
  [[nodiscard]] Vector<Scalar> labels(const Matrix<Scalar>& X) const {
    Vector<Scalar> y(X.rows());
    network.predict(weights, X, y);
    return y;
  }
};

/// Draws the problem: angles uniform, teacher weights normal by the rule of He, then its outgoing weights divided by
/// its root mean square on the circle, so that the zero function always has the error 1. Throws DimensionError unless
/// both sizes are positive. (A template so that a program that does not call it does not compile the network.)
template <class Scalar = double>
[[nodiscard]] CircleTeacher<Scalar> circle_teacher(const CircleTeacherOptions& options) {
  require<DimensionError>(options.num_samples > 0, "circle_teacher: num_samples must be positive, got ",
                          options.num_samples);
  RandomStream random(options.seed, options.stream);
  const ReluNetwork<Scalar> network(2, {options.teacher_units});
  constexpr double turn = 6.283185307179586476925;
  Matrix<Scalar> X(options.num_samples, 2);
  for (Index n = 0; n < options.num_samples; ++n) {
    const double angle = random.uniform(0.0, turn);
    X(n, 0) = static_cast<Scalar>(std::cos(angle));
    X(n, 1) = static_cast<Scalar>(std::sin(angle));
  }
  const Matrix<Scalar> circle = CircleTeacher<Scalar>::grid(360);
  Vector<Scalar> values(circle.rows());
  Vector<Scalar> weights =
      network.initial_parameters(random, Scale<Scalar>::from_value(Scalar(1)), HeInitialization::normal);
  network.predict(weights, circle, values);
  weights.tail(options.teacher_units) /= values.norm() / std::sqrt(static_cast<Scalar>(circle.rows()));
  Vector<Scalar> y(options.num_samples);
  network.predict(weights, X, y);
  return {Dataset<Scalar>(std::move(X), std::move(y)), network, std::move(weights)};
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_CIRCLE(prefix, S) \
  prefix template CircleTeacher<S> circle_teacher<S>(const CircleTeacherOptions&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CIRCLE)
