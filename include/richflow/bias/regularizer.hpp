#pragma once

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/start.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/hypentropy.hpp"

/// @file
/// Which regularizer belongs to which net and start: the theorems as functions.

namespace richflow {

namespace detail {

/// A hypentropy of any depth.
template <class S>
class AnyHypentropy {
 public:
  virtual ~AnyHypentropy() = default;
  [[nodiscard]] virtual Index depth() const = 0;
  /// Null beyond depth 2.
  [[nodiscard]] virtual const Hypentropy<S>* flat() const = 0;
  [[nodiscard]] virtual Index dimension() const = 0;
  [[nodiscard]] virtual Scale<S> scale() const = 0;
  [[nodiscard]] virtual std::shared_ptr<const AnyHypentropy> with_scale(Scale<S> scale) const = 0;
  [[nodiscard]] virtual S dual_rate() const = 0;
  [[nodiscard]] virtual S value(ConstVectorRef<S> beta) const = 0;
  virtual void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const = 0;
  virtual void mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const = 0;
  [[nodiscard]] virtual S conjugate(ConstVectorRef<S> z) const = 0;
  [[nodiscard]] virtual S max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const = 0;
  virtual void bounds(ConstVectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const = 0;
  virtual void mirror(ConstVectorRef<S> z, ConstVectorRef<S> below, ConstVectorRef<S> above, VectorRef<S> beta,
                      VectorRef<S> curvature) const = 0;
  virtual void gradient(ConstVectorRef<S> beta, VectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const = 0;
};

template <class S, class Map>
class HypentropyOf final : public AnyHypentropy<S> {
  static constexpr bool is_flat = std::is_same_v<Map, Hypentropy<S>>;

 public:
  explicit HypentropyOf(Map map) : map_(std::move(map)) {}

  [[nodiscard]] Index depth() const override {
    if constexpr (is_flat)
      return 2;
    else
      return map_.depth();
  }
  [[nodiscard]] const Hypentropy<S>* flat() const override {
    if constexpr (is_flat)
      return &map_;
    else
      return nullptr;
  }
  [[nodiscard]] Index dimension() const override { return map_.dimension(); }
  [[nodiscard]] Scale<S> scale() const override { return map_.scale(); }
  [[nodiscard]] std::shared_ptr<const AnyHypentropy<S>> with_scale(Scale<S> scale) const override {
    return std::make_shared<const HypentropyOf>(map_.with_scale(scale));
  }
  [[nodiscard]] S dual_rate() const override { return map_.dual_rate(); }
  [[nodiscard]] S value(ConstVectorRef<S> beta) const override { return map_.value(beta); }
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const override { map_.gradient(beta, out); }
  void mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const override {
    map_.mirror(z, beta, curvature);
  }
  [[nodiscard]] S conjugate(ConstVectorRef<S> z) const override { return map_.conjugate(z); }
  [[nodiscard]] S max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const override { return map_.max_step(z, dz); }
  void bounds([[maybe_unused]] ConstVectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const override {
    if constexpr (is_flat) {
      below.setConstant(std::numeric_limits<S>::infinity());
      above.setConstant(std::numeric_limits<S>::infinity());
    } else {
      map_.bounds(z, below, above);
    }
  }
  void mirror(ConstVectorRef<S> z, [[maybe_unused]] ConstVectorRef<S> below, [[maybe_unused]] ConstVectorRef<S> above,
              VectorRef<S> beta, VectorRef<S> curvature) const override {
    if constexpr (is_flat)
      map_.mirror(z, beta, curvature);
    else
      map_.mirror(z, below, above, beta, curvature);
  }
  void gradient(ConstVectorRef<S> beta, VectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const override {
    if constexpr (is_flat) {
      map_.gradient(beta, z);
      bounds(z, below, above);
    } else {
      map_.gradient(beta, z, below, above);
    }
  }

 private:
  Map map_;
};

}  // namespace detail

/// The regularizer that the gradient flow of a diagonal net minimizes, for every depth and start. `regularizer(net,
/// start)` makes it.
///
///     const ImplicitRegularizer<> Q = regularizer(net, Start<>::uniform(Scale<>::from_log(-20)));
///     Q.value(beta);
///     MirrorPath(data, Q).solve(Q.scale()).require_ok().beta;   // as solve(net, data, start)
///
/// A MirrorMap (with bounds at depth D >= 3): `MirrorPath`, `certify` and `DualFlow` take it. A Hypentropy or a
/// DepthHypentropy inside, with the members and the accuracy of that. Immutable; copies share their shape.
template <class S = double>
class ImplicitRegularizer {
 public:
  /// Number type.
  using Scalar = S;
  /// Type of alpha.
  using ScaleType = Scale<S>;

  /// Of a net of depth 2. `name` says what it is.
  ImplicitRegularizer(Hypentropy<S> map, std::string name)
      : map_(std::make_shared<const detail::HypentropyOf<S, Hypentropy<S>>>(std::move(map))), name_(std::move(name)) {}
  /// Of a net of depth D >= 3.
  ImplicitRegularizer(DepthHypentropy<S> map, std::string name)
      : map_(std::make_shared<const detail::HypentropyOf<S, DepthHypentropy<S>>>(std::move(map))),
        name_(std::move(name)) {}

  /// What it is, for messages: "Q^3_alpha (depth 3, shaped start)".
  [[nodiscard]] const std::string& name() const { return name_; }
  /// D, 2 for two layers.
  [[nodiscard]] Index depth() const { return map_->depth(); }
  /// The hypentropy that it is at depth 2; null at depth D >= 3.
  [[nodiscard]] const Hypentropy<S>* hypentropy() const { return map_->flat(); }

  /// d.
  [[nodiscard]] Index dimension() const { return map_->dimension(); }
  /// alpha.
  [[nodiscard]] ScaleType scale() const { return map_->scale(); }
  /// Of the same net from the same shape at another alpha.
  [[nodiscard]] ImplicitRegularizer with_scale(ScaleType scale) const {
    return ImplicitRegularizer(map_->with_scale(scale), name_);
  }
  /// At constant z, beta is proportional to alpha^D: D.
  [[nodiscard]] S homogeneity() const { return S(depth()); }
  /// The c of the dual flow `nu' = -c (X beta(X^T nu) - y)` under `L = |X beta - y|^2`.
  [[nodiscard]] S dual_rate() const { return map_->dual_rate(); }

  /// `Q(beta)`; nonnegative, 0 at `beta(0)`.
  [[nodiscard]] S value(ConstVectorRef<S> beta) const { return map_->value(beta); }
  /// `out = grad Q(beta)`, d values.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> out) const { map_->gradient(beta, out); }
  /// `beta` with `grad Q(beta) = z`, and `curvature = d beta / d z`.
  void mirror(ConstVectorRef<S> z, VectorRef<S> beta, VectorRef<S> curvature) const {
    map_->mirror(z, beta, curvature);
  }
  /// `Q*(z) = sup_beta <z, beta> - Q(beta)`.
  [[nodiscard]] S conjugate(ConstVectorRef<S> z) const { return map_->conjugate(z); }
  /// The largest t such that `z + s dz` is in the domain for all s in [0, t).
  [[nodiscard]] S max_step(ConstVectorRef<S> z, ConstVectorRef<S> dz) const { return map_->max_step(z, dz); }

  /// Whether z has bounds: D >= 3.
  [[nodiscard]] bool is_bounded() const { return depth() > 2; }
  /// The distances of z from its bounds (BoundedMirrorMap); infinite at D = 2.
  void bounds(ConstVectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const { map_->bounds(z, below, above); }
  /// `mirror` from the distances.
  void mirror(ConstVectorRef<S> z, ConstVectorRef<S> below, ConstVectorRef<S> above, VectorRef<S> beta,
              VectorRef<S> curvature) const {
    map_->mirror(z, below, above, beta, curvature);
  }
  /// `gradient` with the distances.
  void gradient(ConstVectorRef<S> beta, VectorRef<S> z, VectorRef<S> below, VectorRef<S> above) const {
    map_->gradient(beta, z, below, above);
  }

 private:
  ImplicitRegularizer(std::shared_ptr<const detail::AnyHypentropy<S>> map, std::string name)
      : map_(std::move(map)), name_(std::move(name)) {}

  std::shared_ptr<const detail::AnyHypentropy<S>> map_;  // immutable
  std::string name_;
};

namespace detail {

/// Of a diagonal net on d features. `may_be_deep`: D >= 3 is possible; otherwise nothing of it is compiled.
template <class S, bool may_be_deep>
[[nodiscard]] ImplicitRegularizer<S> diagonal_regularizer(Index depth, Index d, const Start<S>& start);

/// Of a two-layer diagonal net on d features.
template <class S>
[[nodiscard]] ImplicitRegularizer<S> two_layer_regularizer(Index d, const Start<S>& start);

/// Depth 2, equal layers or tied ones.
template <class S>
[[nodiscard]] Hypentropy<S> hypentropy_of(Index d, const Start<S>& start);

template <class M>
inline constexpr bool is_diagonal_net = false;
template <class S, int depth>
inline constexpr bool is_diagonal_net<DiagonalNet<S, depth>> = true;
template <class S>
inline constexpr bool is_diagonal_net<TwoLayerDiagonalNet<S>> = true;

}  // namespace detail

/// The regularizer Q of the depth-D diagonal net from a uniform, shaped or biased start.
///
///     regularizer(net, Start<>::uniform(Scale<>::from_log(-20))).value(beta)
///
/// Gradient flow under the plain-sum squared loss that fits the data ends at the minimizer of Q over `X beta = y`
/// (Woodworth et al. 2020, Theorem 1 for D = 2, Theorem 3 for D >= 3; docs/theory.md, sections 2.2 and 3.2; with a
/// bias, the Bregman divergence of Q from beta(0)). Throws DimensionError where the start does not fit d, ArgumentError
/// for an unbalanced start, and where (alpha w0)^D overflows. Cost O(d).
template <class S, int depth>
[[nodiscard]] ImplicitRegularizer<S> regularizer(const DiagonalNet<S, depth>& net, const Start<S>& start) {
  return detail::diagonal_regularizer<S, depth != 2>(net.homogeneity(), net.num_inputs(), start);
}

/// The regularizer of the two-layer diagonal net, from any start (Azulay et al. 2021; docs/theory.md, section 2.6): the
/// hypentropy with `w0^2 = (u^2 + v^2) / 2`; from equal layers that of the squared net. Throws as above.
template <class S>
[[nodiscard]] ImplicitRegularizer<S> regularizer(const TwoLayerDiagonalNet<S>& net, const Start<S>& start) {
  return detail::two_layer_regularizer<S>(net.num_inputs(), start);
}

/// Of any other model: does not compile, and says what is known. For a model of your own whose regularizer you know,
/// write an overload beside it, which `solve` finds.
template <class M, class AnyStart>
[[noreturn]] ImplicitRegularizer<double> regularizer(const M& /*net*/, const AnyStart& /*start*/) {
  static_assert(!detail::is_diagonal_net<M>,
                "richflow: the start must be a Start of the net's number type: Start for double, "
                "Start<float> for float");
  static_assert(
      detail::is_diagonal_net<M>,
      "richflow: no theorem names the regularizer of this model. One is known for DiagonalNet (any depth) and "
      "TwoLayerDiagonalNet from a Start, and for MatrixFactorization U V^T with commuting measurements "
      "(regularizer(net, start, data)); of any model KernelPredictor gives the limit in the kernel regime, "
      "and simulate(net, data, w0) the limit of the flow");
  throw ArgumentError("no theorem names the regularizer of this model");
}

namespace detail {

template <class S>
Hypentropy<S> hypentropy_of(Index d, const Start<S>& start) {
  start.require_fits(d);
  if (start.family() == StartFamily::uniform) return Hypentropy<S>::uniform(d, start.scale());
  if (start.family() == StartFamily::shaped)
    return start.has_values() ? Hypentropy<S>::shaped(start.first_values(), start.scale())
                              : Hypentropy<S>::shaped_logs(start.first_logs(), start.scale());
  return start.has_values() ? Hypentropy<S>::biased(start.first_values(), start.second_values(), start.scale())
                            : Hypentropy<S>::biased_logs(start.first_logs(), start.second_logs(), start.scale());
}

template <class S, bool may_be_deep>
ImplicitRegularizer<S> diagonal_regularizer(Index depth, Index d, const Start<S>& start) {
  const StartFamily family = start.family();
  require(family != StartFamily::unbalanced,
          "the start is unbalanced: it has two layers (TwoLayerDiagonalNet), where this net has one; it takes a "
          "uniform, shaped or biased start");
  std::string name = concat("Q", depth > 2 ? concat("^", depth) : std::string(), "_alpha (depth ", depth, ", ",
                            to_string(family), " start)");
  if constexpr (may_be_deep) {
    if (depth > 2) {
      start.require_fits(d);
      using Deep = DepthHypentropy<S>;
      const auto make = [&]() {
        const Scale<S> scale = start.scale();
        if (family == StartFamily::uniform) return Deep::uniform(depth, d, scale);
        if (family == StartFamily::shaped)
          return start.has_values() ? Deep::shaped(depth, start.first_values(), scale)
                                    : Deep::shaped_logs(depth, start.first_logs(), scale);
        return start.has_values() ? Deep::biased(depth, start.first_values(), start.second_values(), scale)
                                  : Deep::biased_logs(depth, start.first_logs(), start.second_logs(), scale);
      };
      return {make(), std::move(name)};
    }
  }
  return {hypentropy_of(d, start), std::move(name)};
}

template <class S>
ImplicitRegularizer<S> two_layer_regularizer(Index d, const Start<S>& start) {
  std::string name = concat("Q_alpha (two layers, ", to_string(start.family()), " start)");
  if (start.family() != StartFamily::unbalanced) return {hypentropy_of(d, start).of_two_layers(), std::move(name)};
  start.require_fits(d);
  return {Hypentropy<S>::two_layer(start.first_values(), start.second_values(), start.scale()), std::move(name)};
}

}  // namespace detail

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_IMPLICIT_REGULARIZER(prefix, S)                                                    \
  prefix template class ImplicitRegularizer<S>;                                                                 \
  prefix template ImplicitRegularizer<S> detail::diagonal_regularizer<S, false>(Index, Index, const Start<S>&); \
  prefix template ImplicitRegularizer<S> detail::diagonal_regularizer<S, true>(Index, Index, const Start<S>&);  \
  prefix template ImplicitRegularizer<S> detail::two_layer_regularizer<S>(Index, const Start<S>&);
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_IMPLICIT_REGULARIZER)
