#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "richflow/core/concepts.hpp"
#include "richflow/core/types.hpp"

namespace richflow::detail {

/// A point of the d mirror variables `z = grad Q(beta)`, moved by increments. For a map with bounds the distances
/// from them are carried beside z: next to a bound, where alpha is tiny, they are smaller than the rounding of z.
template <MirrorMap Mirror>
class MirrorPoint {
 public:
  using S = typename Mirror::Scalar;

  void resize(Index d) {
    z_.setZero(d);
    if constexpr (is_bounded) {
      below_.setZero(d);
      above_.setZero(d);
    }
  }

  [[nodiscard]] const Vector<S>& z() const { return z_; }

  /// At z.
  void set(const Mirror& mirror, const Vector<S>& z) {
    z_ = z;
    if constexpr (is_bounded) mirror.bounds(z_, below_, above_);
  }

  /// True where `set` to a freshly computed z loses nothing: no bound is so near that its distance has more
  /// digits than z.
  [[nodiscard]] bool is_determined_by_z() const {
    if constexpr (is_bounded) {
      return (below_.array().min(above_.array()) > S(1e-3) * (below_ + above_).array()).all();
    } else {
      return true;
    }
  }

  /// At beta.
  void locate(const Mirror& mirror, const Vector<S>& beta) {
    if constexpr (is_bounded) {
      mirror.gradient(beta, z_, below_, above_);
    } else {
      mirror.gradient(beta, z_);
    }
  }

  void evaluate(const Mirror& mirror, Vector<S>& beta, Vector<S>& curvature) const {
    if constexpr (is_bounded) {
      mirror.mirror(z_, below_, above_, beta, curvature);
    } else {
      mirror.mirror(z_, beta, curvature);
    }
  }

  /// The largest t for which `this + s dz` is in the domain for all s in [0, t).
  [[nodiscard]] S max_step(const Mirror& mirror, const Vector<S>& dz) const {
    if constexpr (is_bounded) {
      S largest = std::numeric_limits<S>::infinity();
      for (Index i = 0; i < dz.size(); ++i) {
        if (dz[i] > S(0)) largest = std::min(largest, above_[i] / dz[i]);
        if (dz[i] < S(0)) largest = std::min(largest, -below_[i] / dz[i]);
      }
      return largest;
    } else {
      return mirror.max_step(z_, dz);
    }
  }

  /// `this = from + t dz`.
  void set_to_step(const MirrorPoint& from, S t, const Vector<S>& dz) {
    z_ = from.z_ + t * dz;
    if constexpr (is_bounded) {
      below_ = from.below_ + t * dz;
      above_ = from.above_ - t * dz;
    }
  }

  /// `out = this - from`, for a bounded map from the distance that has the most digits.
  void difference(const MirrorPoint& from, Vector<S>& out) const {
    out = z_ - from.z_;
    if constexpr (is_bounded) {
      for (Index i = 0; i < out.size(); ++i) {
        const S width = below_[i] + above_[i];
        if (std::min(above_[i], from.above_[i]) < S(0.25) * width) out[i] = from.above_[i] - above_[i];
        if (std::min(below_[i], from.below_[i]) < S(0.25) * width) out[i] = below_[i] - from.below_[i];
      }
    }
  }

  /// `this = from + dz`, where dz nearly leads to `aim = from + aim_dz`. Where the distance from a bound shrinks much,
  /// the sum would cancel and the distance is counted from `aim`; there a deviation of dz below the rounding of z is
  /// rounding. False when a bound is crossed.
  bool set_towards(const MirrorPoint& from, const Vector<S>& dz, const MirrorPoint& aim, const Vector<S>& aim_dz) {
    set_to_step(from, S(1), dz);
    if constexpr (is_bounded) {
      const S rounding = S(8) * std::numeric_limits<S>::epsilon();
      for (Index i = 0; i < dz.size(); ++i) {
        S deviation = dz[i] - aim_dz[i];
        using std::abs;
        if (abs(deviation) <= rounding * (aim.below_[i] + aim.above_[i])) deviation = S(0);
        if (below_[i] < S(0.25) * from.below_[i]) below_[i] = aim.below_[i] + deviation;
        if (above_[i] < S(0.25) * from.above_[i]) above_[i] = aim.above_[i] - deviation;
        if (!(below_[i] > S(0) && above_[i] > S(0))) return false;
      }
    }
    return true;
  }

  void swap(MirrorPoint& other) {
    z_.swap(other.z_);
    below_.swap(other.below_);
    above_.swap(other.above_);
  }

 private:
  static constexpr bool is_bounded = BoundedMirrorMap<Mirror>;

  Vector<S> z_;
  Vector<S> below_;  // empty for a map without bounds
  Vector<S> above_;
};

}  // namespace richflow::detail
