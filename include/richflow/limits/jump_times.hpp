#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/status.hpp"
#include "richflow/core/text.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/integrate/event.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/integrate/step_control.hpp"
#include "richflow/limits/saddle_path.hpp"
#include "richflow/regularizers/mirror_map.hpp"

namespace richflow {

/// When a flow of finite scale jumps, compared with its limit (docs/theory.md, section 8.2): with the unit
/// `log(1/alpha)` of time at depth 2, `alpha^(2-D)` beyond, `t_k = tau_k unit + C_k`, where tau_k is the time of the
/// saddle path and C_k does not depend on alpha, up to terms that fall like a power of it.
template <class S = double>
struct [[nodiscard]] JumpTimes : Result<JumpTimes<S>> {
  Scale<S> scale = Scale<S>::from_log(S(0));  ///< alpha.
  std::vector<S> times = {};                  ///< t_k: when the loss is half-way between those of two saddles.
  std::vector<S> offsets = {};                ///< C_k.
  Status status = Status::stalled;            ///< event, or what ended the integration before the last jump.
  std::string message = {};                   ///< How it ended.

  /// Whether all jumps were seen.
  [[nodiscard]] bool ok() const { return is_success(status); }

  /// t_k at another scale: its `tau_k unit` with the C_k that was measured here. Jumps are counted from 0. Throws
  /// ArgumentError for k out of range, and as `SaddlePath::log_time`; infinite where the time overflows.
  [[nodiscard]] S predict(const SaddlePath<S>& path, Index k, Scale<S> at) const {
    using std::exp;
    const auto slot = static_cast<std::size_t>(k);
    require(k >= 0 && slot < offsets.size(), "jump ", k, " of ", offsets.size(), " that were seen");
    return exp(path.log_time(path.jumps.at(slot).time, at)) + offsets[slot];
  }
};

/// Follows the dual flow of `mirror` (`regularizer(net, start)`, with alpha < 1) along `path` (`saddle_path(net, data,
/// start)`) and measures when it jumps.
///
///     const JumpTimes seen = jump_times(regularizer(net, start), data, path).require_ok();
///     seen.predict(path, 3, Scale<>::from_log(-5000));
///
/// `tolerance`: of the local errors, relative. Throws ArgumentError for alpha >= 1. Cost: some hundred to some thousand
/// steps (the tolerance decides, and the number of jumps, not the scale), O(N^2 d) each.
template <MirrorMap Mirror>
[[nodiscard]] JumpTimes<typename Mirror::Scalar> jump_times(const Mirror& mirror,
                                                            const Dataset<typename Mirror::Scalar>& data,
                                                            const SaddlePath<typename Mirror::Scalar>& path,
                                                            typename Mirror::Scalar tolerance = 1e-9) {
  using S = typename Mirror::Scalar;
  using std::exp;
  JumpTimes<S> seen;
  seen.scale = mirror.scale();
  seen.status = Status::event;
  seen.message = "there is no jump";
  const DualFlow<Mirror> flow(mirror, data);
  Vector<S> nu = flow.initial_state();
  S t(0), before = data.y().squaredNorm();
  for (const PathPoint<S>& jump : path.jumps) {
    IntegrateOptions<S> options;
    options.events = {loss_below<S>((before + jump.loss) / S(2))};
    PiController<S> controller;
    controller.tolerance = {tolerance, S(1e-3) * tolerance};
    controller.first_step = flow.first_step();
    auto run = integrate(flow, nu, TimeSpan<S>{t, std::numeric_limits<S>::infinity()}, Rodas4{}, controller, options);
    seen.status = run.status;
    seen.message = detail::concat("jump ", seen.times.size() + 1, " of ", path.jumps.size(), ": ", run.message);
    if (run.status != Status::event) return seen;
    nu = std::move(run.w);
    t = run.t;
    before = jump.loss;
    seen.times.push_back(t);
    seen.offsets.push_back(t - exp(path.log_time(jump.time, seen.scale)));
  }
  return seen;
}

}  // namespace richflow
