#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/kernels.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"

namespace richflow::detail {

/// A point of the d mirror variables `z = grad Q(beta)`, moved by increments. For a map with bounds the distances
/// from them are carried beside z: next to a bound, where alpha is tiny, they are smaller than the rounding of z.
template <class S>
class MirrorPoint {
 public:
  using Map = AnyMirrorMap<S>;

  /// z = 0 in d coordinates, without distances yet.
  void resize(Index d, bool is_bounded);

  [[nodiscard]] const Vector<S>& z() const { return z_; }

  /// At z.
  void set(const Map& map, const Vector<S>& z);

  /// True where `set` to a freshly computed z loses nothing: no bound is so near that its distance has more
  /// digits than z.
  [[nodiscard]] bool is_determined_by_z() const;

  /// At beta.
  void locate(const Map& map, const Vector<S>& beta);

  void evaluate(const Map& map, Vector<S>& beta, Vector<S>& curvature) const;

  /// The largest t for which `this + s dz` is in the domain for all s in [0, t).
  [[nodiscard]] S max_step(const Map& map, const Vector<S>& dz) const;

  /// `this = from + t dz`.
  void set_to_step(const MirrorPoint& from, S t, const Vector<S>& dz);

  /// `out = this - from`, for a bounded map from the distance that has the most digits.
  void difference(const MirrorPoint& from, Vector<S>& out) const;

  /// `this = from + dz`, where dz nearly leads to `aim = from + aim_dz`. Where the distance from a bound shrinks much,
  /// the sum would cancel and the distance is counted from `aim`; there a deviation of dz below the rounding of z is
  /// rounding. False when a bound is crossed.
  bool set_towards(const MirrorPoint& from, const Vector<S>& dz, const MirrorPoint& aim, const Vector<S>& aim_dz);

  void swap(MirrorPoint& other);

 private:
  bool is_bounded_ = false;
  Vector<S> z_;
  Vector<S> below_;  // empty for a map without bounds
  Vector<S> above_;
};

template <class S>
void MirrorPoint<S>::resize(Index d, bool is_bounded) {
  is_bounded_ = is_bounded;
  z_.setZero(d);
  below_.setZero(is_bounded ? d : 0);
  above_.setZero(is_bounded ? d : 0);
}

template <class S>
void MirrorPoint<S>::set(const Map& map, const Vector<S>& z) {
  z_ = z;
  if (is_bounded_) map.bounds(z_, below_, above_);
}

template <class S>
bool MirrorPoint<S>::is_determined_by_z() const {
  for (Index i = 0; i < below_.size(); ++i)
    if (!(std::min(below_[i], above_[i]) > S(1e-3) * (below_[i] + above_[i]))) return false;
  return true;
}

template <class S>
void MirrorPoint<S>::locate(const Map& map, const Vector<S>& beta) {
  if (is_bounded_) {
    map.gradient(beta, z_, below_, above_);
  } else {
    map.gradient(beta, z_);
  }
}

template <class S>
void MirrorPoint<S>::evaluate(const Map& map, Vector<S>& beta, Vector<S>& curvature) const {
  if (is_bounded_) {
    map.mirror(z_, below_, above_, beta, curvature);
  } else {
    map.mirror(z_, beta, curvature);
  }
}

template <class S>
S MirrorPoint<S>::max_step(const Map& map, const Vector<S>& dz) const {
  if (!is_bounded_) return map.max_step(z_, dz);
  S largest = std::numeric_limits<S>::infinity();
  for (Index i = 0; i < dz.size(); ++i) {
    if (dz[i] > S(0)) largest = std::min(largest, S(above_[i] / dz[i]));
    if (dz[i] < S(0)) largest = std::min(largest, S(-below_[i] / dz[i]));
  }
  return largest;
}

template <class S>
void MirrorPoint<S>::set_to_step(const MirrorPoint& from, S t, const Vector<S>& dz) {
  sum_with_multiple(from.z_, t, dz, z_);
  if (!is_bounded_) return;
  sum_with_multiple(from.below_, t, dz, below_);
  sum_with_multiple(from.above_, S(-t), dz, above_);
}

template <class S>
void MirrorPoint<S>::difference(const MirrorPoint& from, Vector<S>& out) const {
  sum_with_multiple(z_, S(-1), from.z_, out);
  if (!is_bounded_) return;
  for (Index i = 0; i < out.size(); ++i) {
    const S width = below_[i] + above_[i];
    if (std::min(above_[i], from.above_[i]) < S(0.25) * width) out[i] = from.above_[i] - above_[i];
    if (std::min(below_[i], from.below_[i]) < S(0.25) * width) out[i] = below_[i] - from.below_[i];
  }
}

template <class S>
bool MirrorPoint<S>::set_towards(const MirrorPoint& from, const Vector<S>& dz, const MirrorPoint& aim,
                                 const Vector<S>& aim_dz) {
  using std::abs;
  set_to_step(from, S(1), dz);
  if (!is_bounded_) return true;
  const S rounding = S(8) * std::numeric_limits<S>::epsilon();
  for (Index i = 0; i < dz.size(); ++i) {
    S deviation = dz[i] - aim_dz[i];
    if (abs(deviation) <= rounding * (aim.below_[i] + aim.above_[i])) deviation = S(0);
    if (below_[i] < S(0.25) * from.below_[i]) below_[i] = aim.below_[i] + deviation;
    if (above_[i] < S(0.25) * from.above_[i]) above_[i] = aim.above_[i] - deviation;
    if (!(below_[i] > S(0) && above_[i] > S(0))) return false;
  }
  return true;
}

template <class S>
void MirrorPoint<S>::swap(MirrorPoint& other) {
  std::swap(is_bounded_, other.is_bounded_);
  z_.swap(other.z_);
  below_.swap(other.below_);
  above_.swap(other.above_);
}

}  // namespace richflow::detail

#define RICHFLOW_INSTANTIATE_MIRROR_POINT(prefix, S) prefix template class detail::MirrorPoint<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_MIRROR_POINT)
