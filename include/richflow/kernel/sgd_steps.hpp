#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/kernel/sharpness.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow {

/// The step of Sgd at its edge of stability at w: `2 / lambda`, lambda the largest eigenvalue of the Gauss-Newton part
/// of the mean loss over the first `samples` of the data (all where they are fewer), to 1 %; infinite where lambda is
/// 0, as when every softmax is saturated.
///
/// A search for the step of a tangent model, whose derivatives do not change, may begin at 4 times this:
///
///     ladder.largest = 4 * edge_step(tangent, classes, w0);
///
/// For a network it tells less, as the sharpness changes in the first steps (docs/training.md has numbers).
///
/// Throws as Sharpness, ArgumentError unless samples >= 1, ConvergenceError where lambda cannot be measured. Cost: some
/// ten products with J and J^T each.
template <Model M, class L = CrossEntropy<typename M::Scalar>>
[[nodiscard]] typename M::Scalar edge_step(const M& model, const LabelledDataset<typename M::Scalar>& data,
                                           const Vector<typename M::Scalar>& w, Index samples = 256, L loss = {}) {
  using S = typename M::Scalar;
  require(samples >= 1, "edge_step: samples must be at least 1, got ", samples);
  std::vector<Index> first(static_cast<std::size_t>(std::min(samples, data.num_samples())));
  std::iota(first.begin(), first.end(), Index(0));
  const LabelledDataset<S> batch = data.subset(first);
  const SharpnessResult<S> result =
      sharpness(model, batch, w, std::move(loss), {.part = HessianPart::gauss_newton, .tolerance = 1e-2});
  require<ConvergenceError>(result.ok(), "edge_step: ", result.message);
  if (!(result.value > S(0))) return std::numeric_limits<S>::infinity();
  return S(2) * static_cast<S>(batch.num_samples()) / result.value;
}

/// An SgdOptions::growth_loss for the cross-entropy at which no step that has grown moves the outputs of its own batch
/// by more than about 1: `1 / (step J)`, J the squared norm of the gradient of an output at w, its mean over the
/// outputs of the first `samples` of the data (all where they are fewer): of N samples with K outputs the trace of the
/// full tangent kernel over N K. At most 0.01: with such a mean loss no more than 1.4 % of the samples are wrong.
///
///     sgd.growth_loss = safe_growth_loss(net, classes, w0, sgd.step);
///
/// Why: let the gradients of different outputs be orthogonal. A sample with the probability 1 - p for its class adds p
/// / B of the gradient of an output, at most, to that of a batch of B and `-log(1 - p) / B >= p / B` to its loss l. So
/// the step `step growth_loss / l` moves an output of any sample of the batch by at most `step growth_loss` times the
/// largest entry of the tangent kernel between them, which is J where all gradients have one size. A step that has not
/// grown, on a batch with l > growth_loss, may move them further.
///
/// It holds while the gradients keep their size. Those of a network that starts at a small scale grow, their squares by
/// factors of hundreds and more at a scale of 0.1: for scales below 1 give the initialization of the same shape at
/// scale 1 as w. With momentum m give step / (1 - m).
///
/// Throws DimensionError unless w has P entries and a sample as many as the model has inputs, NonFiniteError where w
/// or J is not finite, ArgumentError unless step is positive and finite and samples >= 1. Cost: a tangent kernel of so
/// many samples, with its memory.
template <Model M>
[[nodiscard]] double safe_growth_loss(const M& model, const LabelledDataset<typename M::Scalar>& data,
                                      const Vector<typename M::Scalar>& w, double step, Index samples = 256) {
  using S = typename M::Scalar;
  using std::isfinite;
  require(isfinite(step) && step > 0.0, "safe_growth_loss: step must be positive and finite, got ", step);
  require(samples >= 1, "safe_growth_loss: samples must be at least 1, got ", samples);
  constexpr double most = 0.01;
  const Matrix<S> X = data.X().topRows(std::min(samples, data.num_samples()));
  const Matrix<S> kernel = tangent_kernel(model, w, X, KernelForm::trace);
  const double square = kernel.diagonal().template cast<double>().mean() / static_cast<double>(model.num_outputs());
  require<NonFiniteError>(isfinite(square), "safe_growth_loss: the squared norm of the gradients is ", square);
  return std::min(most, 1.0 / (step * square));
}

}  // namespace richflow
