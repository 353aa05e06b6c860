#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <Eigen/Eigenvalues>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/any_field.hpp"
#include "richflow/linalg/kernels.hpp"

/// @file
/// The length below which steps of descent are stable, for the message of a run whose steps were not.

namespace richflow::detail {

/// Looks for that length with few right-hand sides: descends from a start with steps chosen by the curvature along the
/// gradient, and takes two over the largest curvature where it arrives.
template <class S>
class StableStepSearch {
 public:
  /// From y at time t, with at most this many right-hand sides, the two losses included.
  StableStepSearch(const AnyField<S>& field, S t, Vector<S> y, Index evaluations)
      : field_(field), t_(t), left_(evaluations - 2), y_(std::move(y)), dy_(y_.size()), dy_new_(y_.size()) {}

  /// None where they do not suffice to come near to where descent ends.
  [[nodiscard]] std::optional<S> find();

 private:
  bool evaluate(const Vector<S>& y, Vector<S>& dy) {
    if (left_ == 0) return false;
    --left_;
    field_(t_, y, dy);
    return true;
  }
  /// Whether it has come near to the end, with `reserve` right-hand sides left.
  bool descend(Index reserve);
  /// An upper estimate of the largest curvature at y, by this many steps of Lanczos: the largest Ritz value and its
  /// residual; 0 where there is none. (Parlett, The Symmetric Eigenvalue Problem, theorem 4.5.1.)
  [[nodiscard]] S curvature(Index steps);

  const AnyField<S>& field_;
  const S t_;
  Index left_;
  Vector<S> y_;
  Vector<S> dy_;
  Vector<S> dy_new_;
  Vector<S> y_new_ = {};
};

template <class S>
std::optional<S> StableStepSearch<S>::find() {
  using std::isfinite;
  constexpr Index steps_of_lanczos = 8;
  if (left_ <= steps_of_lanczos || !descend(steps_of_lanczos)) return std::nullopt;
  const S largest = curvature(steps_of_lanczos);
  if (!(isfinite(largest) && largest > S(0))) return std::nullopt;
  return S(2) / largest;
}

template <class S>
bool StableStepSearch<S>::descend(Index reserve) {
  using std::abs;
  using std::isfinite;
  const S difference = static_cast<S>(1e-3), little = static_cast<S>(1e-2), enough = static_cast<S>(1e-6);
  const S loss_at_start = field_.loss(y_);
  evaluate(y_, dy_);
  S square = inner_product(dy_, dy_);
  if (!(isfinite(square) && square > S(0))) return false;
  S h = difference * norm(y_) / norm(dy_);
  bool is_probe = true;  // the first step only measures the curvature
  while (left_ > reserve) {
    sum_with_multiple(y_, h, dy_, y_new_);
    evaluate(y_new_, dy_new_);
    const S slope = inner_product(dy_, dy_new_) / square;
    if (!isfinite(slope) || slope < S(-1)) {
      // Far beyond the lowest point of the line.
      h *= isfinite(slope) ? std::max(S(1) / (S(1) - slope), static_cast<S>(0.1)) : static_cast<S>(0.1);
      continue;
    }
    const S curvature = (S(1) - slope) / h;
    const S scale = S(1) / std::max(abs(curvature), std::numeric_limits<S>::min());
    if (!is_probe) {
      y_.swap(y_new_);
      dy_.swap(dy_new_);
      square = inner_product(dy_, dy_);
    }
    h = curvature > S(0) ? scale : S(2) * std::max(is_probe ? S(0) : h, scale);
    is_probe = false;
    if (curvature > S(0) && h * square <= enough * loss_at_start) break;
  }
  // What is left of the descent, as the last curvature has it.
  const S loss = field_.loss(y_);
  return isfinite(loss) && isfinite(loss_at_start) && loss < loss_at_start &&
         (loss <= little * loss_at_start || h * square <= little * (loss_at_start - loss));
}

template <class S>
S StableStepSearch<S>::curvature(Index steps) {
  using std::abs;
  using std::sqrt;
  const S delta = static_cast<S>(1e-3) * norm(y_);
  if (!(delta > S(0))) return S(0);
  // Of a homogeneous net the weights themselves are no small part of the steepest direction; the gradient is where
  // descent has just made it small.
  Vector<S> v, before = Vector<S>::Zero(y_.size());
  multiple(S(1) / norm(y_), y_, v);
  if (norm(dy_) > S(0)) add_multiple(S(0.5) / norm(dy_), dy_, v);
  v /= norm(v);
  Vector<S> diagonal(steps), off_diagonal(steps);
  S off(0);
  Index made = 0;
  while (made < steps) {
    sum_with_multiple(y_, delta, v, y_new_);
    if (!evaluate(y_new_, dy_new_)) break;
    Vector<S> image = (dy_ - dy_new_) / delta - off * before;
    const S along = inner_product(v, image);
    add_multiple(S(-along), v, image);
    off = norm(image);
    diagonal[made] = along;
    off_diagonal[made++] = off;
    if (!(off > static_cast<S>(1e-3) * abs(along))) break;  // the error of the differences
    before.swap(v);
    multiple(S(1) / off, image, v);
  }
  Eigen::SelfAdjointEigenSolver<Matrix<S>> solver;
  solver.computeFromTridiagonal(diagonal.head(made), off_diagonal.head(std::max<Index>(made - 1, 0)));
  if (solver.info() != Eigen::Success) return S(0);
  return solver.eigenvalues()[made - 1] + off * abs(solver.eigenvectors()(made - 1, made - 1));
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_STABLE_STEP(prefix, S) prefix template class detail::StableStepSearch<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_STABLE_STEP)
