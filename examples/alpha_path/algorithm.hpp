#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/models/start.hpp"

/// @file
/// Where an algorithm ends on the diagonal net, beside where gradient flow from its effective start does.

namespace richflow::examples {

/// What the algorithm adds to descent.
enum class AlgorithmKind {
  descent,      ///< nothing
  sgd,          ///< batches
  label_noise,  ///< fresh normal noise on the labels of every step
  momentum,     ///< heavy ball
  decay,        ///< weight decay
};

/// The names of the option: descent, sgd, label-noise, momentum, decay.
inline const std::vector<std::string> algorithm_names = {"descent", "sgd", "label-noise", "momentum", "decay"};

/// An algorithm and its parameters. Batches go with all of them.
struct AlgorithmOptions {
  AlgorithmKind kind = AlgorithmKind::descent;
  std::optional<double> step =
      {};                ///< none: half of what is stable at the flow's limit for every batch, times 1 - momentum
  Index steps = 10'000;  ///< at most; runs without noise and decay end at a loss of 1e-20 |y|^2
  std::optional<Index> batch = {};   ///< samples of a step, without replacement; none: 1 for sgd, all for the others
  std::optional<double> noise = {};  ///< standard deviation; none: a tenth of that of y about 0
  double momentum = 0.9;             ///< in [0, 1)
  std::optional<double> decay = {};  ///< lambda; none: a thousandth of the one from which on nothing is fitted
  std::uint64_t seed = 1;            ///< of batches and noise
};

/// One scale.
struct AlgorithmRow {
  Scale<> scale = Scale<>::from_log(0.0);
  double step = 0.0;
  Index steps = 0;
  double loss = 0.0;                        ///< at the end, relative to |y|^2
  Vector<double> beta = {};                 ///< where the run ended; empty where it diverged
  Vector<double> predicted = {};            ///< minimizer from the effective start, solved from its kernel end
  Vector<double> effective_log_scale = {};  ///< d values, as log alpha w0
  Vector<double> log_offset_ratio = {};     ///< d values
  Index sign_changes = 0;
  double difference = 0.0;  ///< largest |beta - predicted| over the largest |beta|
  double from_flow = 0.0;   ///< the same for the flow from the run's own start
  bool is_dead = false;     ///< weight decay has put the net to rest at 0
  bool ok = false;
  std::string message = {};  ///< why it is not ok
};

/// `alpha w0`, all ones without a shape.
[[nodiscard]] Start<> start_of(const std::optional<Vector<double>>& shape, Scale<> scale);

/// `2 max |X^T y|`: a weight decay of this or more leaves nothing but beta = 0.
[[nodiscard]] double largest_useful_decay(const Dataset<>& data);

/// Throws ArgumentError for parameters out of range: a step that is not positive, a batch larger than the data.
void check(const AlgorithmOptions& options, const Dataset<>& data);

/// For people: "sgd, batches of 1".
[[nodiscard]] std::string describe(const AlgorithmOptions& options, const Dataset<>& data);

/// Runs the algorithm on the net of that depth from `alpha w0` (all ones without a shape); `flow_limit` is where
/// gradient flow ends. What a run throws is the message of its row.
[[nodiscard]] AlgorithmRow run_algorithm(const Dataset<>& data, const std::optional<Vector<double>>& shape, Index depth,
                                         Scale<> scale, const Vector<double>& flow_limit,
                                         const AlgorithmOptions& options);

}  // namespace richflow::examples
