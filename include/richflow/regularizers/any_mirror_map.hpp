#pragma once

#include <memory>
#include <utility>

#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/regularizers/mirror_map.hpp"

namespace richflow::detail {

/// Some MirrorMap over the numbers S, so that what works with mirror maps is compiled once per number type. A call
/// costs one virtual call per vector of d values. See the concepts MirrorMap and BoundedMirrorMap for the members.
template <class S>
class AnyMirrorMap {
 public:
  AnyMirrorMap() = default;
  AnyMirrorMap& operator=(const AnyMirrorMap&) = delete;
  virtual ~AnyMirrorMap() = default;

  /// A copy that shares nothing which changes.
  [[nodiscard]] virtual std::unique_ptr<AnyMirrorMap> clone() const = 0;

  /// From now on the map at this scale. Where the map refuses the scale, by an exception, nothing changes.
  virtual void set_scale(Scale<S> scale) = 0;
  [[nodiscard]] virtual Scale<S> scale() const = 0;
  [[nodiscard]] virtual Index dimension() const = 0;
  [[nodiscard]] virtual S homogeneity() const = 0;
  [[nodiscard]] virtual S dual_rate() const = 0;

  [[nodiscard]] virtual S value(const Vector<S>& beta) const = 0;
  virtual void gradient(const Vector<S>& beta, Vector<S>& out) const = 0;
  virtual void mirror(const Vector<S>& z, Vector<S>& beta, Vector<S>& curvature) const = 0;
  [[nodiscard]] virtual S conjugate(const Vector<S>& z) const = 0;
  [[nodiscard]] virtual S max_step(const Vector<S>& z, const Vector<S>& dz) const = 0;

  /// Whether it is a BoundedMirrorMap. The members below are for those only.
  [[nodiscard]] virtual bool is_bounded() const = 0;
  virtual void bounds(const Vector<S>& z, Vector<S>& below, Vector<S>& above) const = 0;
  virtual void mirror(const Vector<S>& z, const Vector<S>& below, const Vector<S>& above, Vector<S>& beta,
                      Vector<S>& curvature) const = 0;
  virtual void gradient(const Vector<S>& beta, Vector<S>& z, Vector<S>& below, Vector<S>& above) const = 0;

 protected:
  AnyMirrorMap(const AnyMirrorMap&) = default;
};

/// A concrete mirror map, owned or referred to.
template <MirrorMap Mirror>
class MirrorMapOf final : public AnyMirrorMap<typename Mirror::Scalar> {
 public:
  using S = typename Mirror::Scalar;

  explicit MirrorMapOf(Mirror map) : original_(std::make_shared<const Mirror>(std::move(map))), map_(original_) {}

  /// Of a map that must outlive it.
  [[nodiscard]] static MirrorMapOf refer_to(const Mirror& map) {
    return MirrorMapOf(std::shared_ptr<const Mirror>(std::shared_ptr<const Mirror>(), &map));
  }

  /// The map, at the present scale.
  [[nodiscard]] const Mirror& map() const { return *map_; }

  [[nodiscard]] std::unique_ptr<AnyMirrorMap<S>> clone() const override {
    const bool owns = original_.use_count() > 0;
    return owns ? std::make_unique<MirrorMapOf>(*this) : std::make_unique<MirrorMapOf>(Mirror(*map_));
  }
  void set_scale(Scale<S> scale) override {
    // From the original: a map that went through many scales may have lost digits.
    map_ = std::make_shared<const Mirror>(original_->with_scale(scale));
  }
  [[nodiscard]] Scale<S> scale() const override { return map_->scale(); }
  [[nodiscard]] Index dimension() const override { return map_->dimension(); }
  [[nodiscard]] S homogeneity() const override { return map_->homogeneity(); }
  [[nodiscard]] S dual_rate() const override { return map_->dual_rate(); }

  [[nodiscard]] S value(const Vector<S>& beta) const override { return map_->value(beta); }
  void gradient(const Vector<S>& beta, Vector<S>& out) const override { map_->gradient(beta, out); }
  void mirror(const Vector<S>& z, Vector<S>& beta, Vector<S>& curvature) const override {
    map_->mirror(z, beta, curvature);
  }
  [[nodiscard]] S conjugate(const Vector<S>& z) const override { return map_->conjugate(z); }
  [[nodiscard]] S max_step(const Vector<S>& z, const Vector<S>& dz) const override { return map_->max_step(z, dz); }

  [[nodiscard]] bool is_bounded() const override {
    if constexpr (requires(const Mirror& map) { map.is_bounded(); })
      return map_->is_bounded();
    else
      return BoundedMirrorMap<Mirror>;
  }
  void bounds([[maybe_unused]] const Vector<S>& z, [[maybe_unused]] Vector<S>& below,
              [[maybe_unused]] Vector<S>& above) const override {
    if constexpr (BoundedMirrorMap<Mirror>) map_->bounds(z, below, above);
  }
  void mirror(const Vector<S>& z, [[maybe_unused]] const Vector<S>& below, [[maybe_unused]] const Vector<S>& above,
              Vector<S>& beta, Vector<S>& curvature) const override {
    if constexpr (BoundedMirrorMap<Mirror>) {
      map_->mirror(z, below, above, beta, curvature);
    } else {
      map_->mirror(z, beta, curvature);
    }
  }
  void gradient(const Vector<S>& beta, Vector<S>& z, [[maybe_unused]] Vector<S>& below,
                [[maybe_unused]] Vector<S>& above) const override {
    if constexpr (BoundedMirrorMap<Mirror>) {
      map_->gradient(beta, z, below, above);
    } else {
      map_->gradient(beta, z);
    }
  }

 private:
  explicit MirrorMapOf(std::shared_ptr<const Mirror> map) : original_(std::move(map)), map_(original_) {}

  std::shared_ptr<const Mirror> original_;
  std::shared_ptr<const Mirror> map_;  // original_ at the present scale
};

/// A mirror map of any type, owned. Null where Mirror is not one, which `explain_mirror_map` reports.
template <class Mirror>
[[nodiscard]] std::unique_ptr<AnyMirrorMap<typename Mirror::Scalar>> owned_mirror_map([[maybe_unused]] Mirror map) {
  if constexpr (MirrorMap<Mirror>)
    return std::make_unique<MirrorMapOf<Mirror>>(std::move(map));
  else
    return nullptr;
}

/// A mirror map with the copies of a value.
template <class S>
class MirrorMapValue {
 public:
  explicit MirrorMapValue(std::unique_ptr<AnyMirrorMap<S>> map) : map_(std::move(map)) {}
  MirrorMapValue(const MirrorMapValue& other) : map_(other.map_ ? other.map_->clone() : nullptr) {}
  MirrorMapValue(MirrorMapValue&&) noexcept = default;
  MirrorMapValue& operator=(MirrorMapValue other) noexcept {
    map_.swap(other.map_);
    return *this;
  }
  ~MirrorMapValue() = default;

  [[nodiscard]] const AnyMirrorMap<S>& operator*() const { return *map_; }
  [[nodiscard]] AnyMirrorMap<S>& operator*() { return *map_; }
  [[nodiscard]] const AnyMirrorMap<S>* operator->() const { return map_.get(); }
  [[nodiscard]] AnyMirrorMap<S>* operator->() { return map_.get(); }
  void swap(MirrorMapValue& other) noexcept { map_.swap(other.map_); }

 private:
  std::unique_ptr<AnyMirrorMap<S>> map_;
};

}  // namespace richflow::detail
